//! Methods that fit codes to a layer's data, against published numbers and against what is promised.

mod reference;

use lowbit::layer::{Gptq, Lattice, LayerMethod, Nearest, Obq, Order, Problem, Statistics};
use lowbit::prelude::*;
use lowbit::FloatType;
use ndarray::Array2;

use reference::{CASES, Case};

/// SplitMix64, and sums of twelve uniform numbers: the generator of the reference.
struct Numbers(u64);

impl Numbers {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn make_x(samples: usize, inputs: usize, seed: u64) -> Array2<f64> {
    let mut numbers = Numbers(seed);
    let mut x = Array2::from_shape_simple_fn((samples, inputs), || numbers.bell());
    for mut row in x.rows_mut() {
        for j in 1..inputs {
            row[j] = 0.8 * row[j - 1] + 0.6 * row[j];
        }
    }
    x + 0.25
}

fn make_w(outputs: usize, inputs: usize, seed: u64) -> Array2<f64> {
    let mut numbers = Numbers(seed);
    Array2::from_shape_simple_fn((outputs, inputs), || numbers.bell() * 0.125)
}

fn statistics(x: &Array2<f64>) -> Statistics {
    let mut statistics = Statistics::new(x.ncols()).unwrap();
    statistics.observe(x).unwrap();
    statistics
}

struct Layer {
    weights: Array2<f64>,
    statistics: Statistics,
    held_out: Statistics,
    grids: Frozen,
}

impl Layer {
    fn new(case: &Case) -> Self {
        let (samples, inputs, seed) = case.x;
        let weights = make_w(case.w.0, inputs, case.w.1);
        let recipe = Uniform::symmetric(BitWidth::new(case.bits).unwrap())
            .range(SymmetricRange::Full)
            .scales(FloatType::F64)
            .granularity(PerChannel::new(Axis(0)));
        let grids = Frozen::with_scales(&recipe, weights.shape(), case.scales.iter().copied(), []).unwrap();
        let held_out = statistics(&make_x(4096, inputs, 5005));
        Self { weights, statistics: statistics(&make_x(samples, inputs, seed)), held_out, grids }
    }

    fn problem(&self) -> Problem<'_> {
        let groups = std::slice::from_ref(&self.statistics);
        let problem = Problem::on_grids(&self.weights, groups, &self.grids).unwrap();
        problem.held_out(std::slice::from_ref(&self.held_out)).unwrap()
    }
}

#[track_caller]
fn assert_close(found: f64, expected: f64, tolerance: f64) {
    assert!((found / expected - 1.0).abs() <= tolerance, "{found} is not {expected} within {tolerance:e}");
}

#[test]
fn published_methods_have_the_errors_of_the_reference() {
    for case in &CASES {
        println!("{} {}", case.name, case.bits);
        let layer = Layer::new(case);
        let problem = layer.problem();
        let report = Nearest.solve(&problem).unwrap().report;
        assert_close(report.after, case.nearest, 1e-9);
        let held_out = case.held_out.unwrap_or([f64::NAN; 3]);
        let methods: [(&dyn LayerMethod, f64, f64); 4] = [
            (&Gptq::new(), case.gptq, held_out[1]),
            (&Gptq::new().order(Order::Activation), case.gptq_activation, f64::NAN),
            (&Obq::new().outliers_first(false), case.obq, f64::NAN),
            (&Obq::new(), case.obq_outliers_first, held_out[2]),
        ];
        for (method, expected, expected_held_out) in methods {
            let report = method.solve(&problem).unwrap().report;
            println!("{method}: {report}");
            assert_close(report.before, case.nearest, 1e-9);
            if report.rows_kept == 0 {
                assert_close(report.after, expected, 1e-6);
                if !expected_held_out.is_nan() {
                    let (before, after) = report.held_out.unwrap();
                    assert_close(before, held_out[0], 1e-9);
                    assert_close(after, expected_held_out, 1e-6);
                }
            } else {
                // The reference keeps rows that lose.
                assert!(report.after <= expected * (1.0 + 1e-9));
            }
        }
    }
}

#[test]
fn explore() {
    for case in &CASES {
        let layer = Layer::new(case);
        let problem = layer.problem();
        for width in [1, 16, 64, 256, 1024] {
            for orders in [1, 2, 4] {
            for d in [1e-2, 1e-3, 1e-4] {
                let start = std::time::Instant::now();
                let method = Lattice::new(width).unwrap().orders(orders).unwrap().damping(lowbit::layer::Damping::new(d).unwrap());
                let report = method.solve(&problem).unwrap().report;
                println!(
                    "{} {} {method}: {:.4} held out {:?} {:.2}s kept {}",
                    case.name,
                    case.bits,
                    report.after / case.best_known,
                    report.held_out.map(|h| h.1),
                    start.elapsed().as_secs_f64(), report.rows_kept
                );
            }
            }
        }
    }
}
