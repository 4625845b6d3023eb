//! Methods that fit codes to a layer's data, against published numbers and against what is promised.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod bad_input;
mod blocks;
mod codebooks;
mod convolution;
mod descent;
mod learned;
mod overfitting;
mod promises;
mod reference;

use lowbit::FloatType;
use lowbit::layer::{
    AdaQuant, AdaRound, Damping, Gptq, Lattice, LayerMethod, Nearest, Obq, Order, Problem, Statistics,
};
use lowbit::prelude::*;
use ndarray::{Array2, Ix2};

use reference::{CASES, Case, make_w, make_x};

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
    let mut compared = 0;
    for case in &CASES {
        println!("{} {}", case.name, case.bits);
        let layer = Layer::new(case);
        let problem = layer.problem();
        let report = Nearest.solve(&problem).unwrap().report;
        assert_close(report.after, case.nearest, 1e-9);
        // With the mean error of each output taken out, as a correction of its bias does.
        let corrected = |tensor: &QuantizedTensor| {
            let restored = tensor.dequantize::<f64, Ix2>().unwrap();
            let means = (&layer.weights - &restored).dot(&layer.statistics.mean().unwrap());
            problem.sample_loss(tensor, Some(&means)).unwrap()
        };
        assert_close(corrected(problem.nearest()), case.nearest_corrected, 1e-9);
        let gptq = Gptq::new().solve(&problem).unwrap();
        if gptq.report.rows_kept == 0 {
            assert_close(corrected(&gptq.tensor), case.gptq_corrected, 1e-6);
        }
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
                compared += 1;
                assert_close(report.after, expected, 1e-6);
                if !expected_held_out.is_nan() {
                    let (before, after) = report.held_out.unwrap();
                    assert_close(before, held_out[0], 1e-9);
                    assert_close(after, expected_held_out, 1e-6);
                }
            } else {
                // In the reference rows that lose keep their codes.
                assert!(report.after <= expected * (1.0 + 1e-9));
            }
        }
    }
    assert!(compared >= 11, "{compared}");
}

#[test]
fn the_lattice_decoder_comes_close_to_the_best_known_codes() {
    for case in CASES.iter().filter(|case| case.name == "layer64" && case.bits > 2) {
        let layer = Layer::new(case);
        let problem = layer.problem();
        let lattice = Lattice::new(128).unwrap().damping(Damping::new(1e-4).unwrap());
        let report = lattice.solve(&problem).unwrap().report;
        println!("{} bits, {lattice}: {report}", case.bits);
        let share = report.after / case.best_known;
        assert!((0.9999..=1.005).contains(&share), "{} bits: {share}", case.bits);
        // It is worth something on other samples too.
        assert!(report.held_out.unwrap().1 < case.held_out.unwrap()[1]);
    }
}

#[test]
fn one_partial_solution_is_gptq() {
    for case in &CASES {
        let layer = Layer::new(case);
        let problem = layer.problem();
        let one = Lattice::new(1).unwrap().orders(1).unwrap().descent(false);
        let (lattice, gptq) = (one.solve(&problem).unwrap(), Gptq::new().solve(&problem).unwrap());
        assert_eq!(lattice.tensor, gptq.tensor, "{} {}", case.name, case.bits);
    }
}

/// The least of `(w − q) G (w − q)ᵀ` over all levels q of a row, found by trying all of them.
fn exhaustive(weights: &[f64], gram: &Array2<f64>, levels: &[f64]) -> f64 {
    fn descend(rest: &[f64], gram: &Array2<f64>, levels: &[f64], errors: &mut Vec<f64>, sum: f64) -> f64 {
        let [first, rest @ ..] = rest else { return sum };
        let j = errors.len();
        let cross: f64 = errors.iter().enumerate().map(|(i, error)| 2.0 * error * gram[[i, j]]).sum();
        let mut least = f64::INFINITY;
        for level in levels {
            let error = first - level;
            errors.push(error);
            least =
                least.min(descend(rest, gram, levels, errors, sum + error * (cross + error * gram[[j, j]])));
            errors.pop();
        }
        least
    }
    descend(weights, gram, levels, &mut Vec::new(), 0.0)
}

#[test]
fn the_distance_to_the_exact_optimum_on_tiny_layers() {
    println!("{:8} {:>4}  {:<50} {:>8}", "layer", "bits", "method", "/ exact");
    for case in CASES.iter().filter(|case| case.name.starts_with("tiny")) {
        let layer = Layer::new(case);
        let problem = layer.problem();
        // All codes of sixteen inputs are too many to be tried here: the best that are known stand in for the exact ones.
        let (exact, is_exact) = match case.exact {
            Some(expected) => {
                let gram = layer.statistics.gram();
                let half = 1 << (case.bits - 1);
                let optimum = |(row, scale): (ndarray::ArrayView1<'_, f64>, &f64)| {
                    let levels: Vec<f64> = (-half..half).map(|code| f64::from(code) * scale).collect();
                    exhaustive(row.as_slice().unwrap(), &gram, &levels)
                };
                let sum: f64 = layer.weights.rows().into_iter().zip(case.scales).map(optimum).sum();
                let exact = sum / (case.x.0 * case.w.0) as f64;
                assert_close(exact, expected, 1e-9);
                (exact, true)
            }
            None => (case.best_known, false),
        };
        let on_grids = AdaQuant::new().learn_bias(false);
        let methods: [(&dyn LayerMethod, f64); 11] = [
            (&Nearest, 3.1),
            (&Gptq::new(), 1.4),
            (&Gptq::new().order(Order::Activation), 1.7),
            (&Obq::new().outliers_first(false), 2.4),
            (&Obq::new(), 1.3),
            (&AdaRound::new(), 1.15),
            (&on_grids, 1.1),
            (&Lattice::new(1).unwrap().orders(1).unwrap(), 1.4),
            (&Lattice::new(1).unwrap(), 1.1),
            (&Lattice::new(16).unwrap(), 1.002),
            (&Lattice::new(64).unwrap(), if is_exact { 1.0 + 1e-9 } else { 1.002 }),
        ];
        let shares = methods.map(|(method, most)| {
            let share = method.solve(&problem).unwrap().report.after / exact;
            println!("{:8} {:>4}  {:<50.50} {share:>8.4}", case.name, case.bits, method.to_string());
            (share, most)
        });
        for (share, most) in shares {
            assert!(share <= most && (!is_exact || share > 1.0 - 1e-9), "{share} {most}");
        }
        // Scales and bias of its own are not on the grids of the others: it may be better than their best.
        let free = AdaQuant::new().learn_scales(true).solve(&problem).unwrap().report.after / exact;
        println!("{:8} {:>4}  {:<50} {free:>8.4}", case.name, case.bits, "adaquant, with scales and bias");
        assert!(free < shares[6].0);
    }
}
