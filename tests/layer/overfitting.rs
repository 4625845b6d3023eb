//! How far codes that are close to the best of the calibration data are worth something on other samples.

use lowbit::layer::{Damping, Gptq, Lattice, LayerMethod, Nearest, Problem, Statistics};

use super::reference::{CASES, make_x};
use super::{Layer, statistics};

/// Where the figures are told.
const DOCUMENTATION: &str = include_str!("../../src/layer/lattice.rs");

/// Loss on the calibration data and on other samples, in units of 10⁻³.
fn losses(layer: &Layer, calibration: &Statistics, method: &dyn LayerMethod) -> [f64; 2] {
    let problem = Problem::on_grids(&layer.weights, std::slice::from_ref(calibration), &layer.grids).unwrap();
    let problem = problem.held_out(std::slice::from_ref(&layer.held_out)).unwrap();
    let report = method.solve(&problem).unwrap().report;
    [1e3 * report.after, 1e3 * report.held_out.unwrap().1]
}

fn lattice(width: usize, damping: f64) -> Lattice {
    Lattice::new(width).unwrap().damping(Damping::new(damping).unwrap())
}

#[test]
fn the_lattice_decoder_overfits_few_samples_as_its_documentation_says() {
    let layer = Layer::new(&CASES[0]);
    let calibrations = [80, 256, 2560].map(|count| statistics(&make_x(count, 64, 1001)));
    let methods: [(&str, &dyn LayerMethod); 6] = [
        ("nearest", &Nearest),
        ("GPTQ", &Gptq::new()),
        ("K = 4, damping 0.01", &lattice(4, 0.01)),
        ("K = 16, damping 0.01", &lattice(16, 0.01)),
        ("K = 16, damping 0.0001", &lattice(16, 0.0001)),
        ("K = 16, damping 0.1", &lattice(16, 0.1)),
    ];
    let mut missing = Vec::new();
    let table = methods.map(|(name, method)| {
        let found = calibrations.each_ref().map(|calibration| losses(&layer, calibration, method));
        let mut line = format!("//! | {name} |");
        for loss in found.iter().flatten() {
            line += &format!(" {loss:.2} |");
        }
        println!("{line}");
        if !DOCUMENTATION.contains(&line) {
            missing.push(line);
        }
        found
    });
    assert!(missing.is_empty(), "{missing:#?}");
    println!("{table:?}");
    let [_, gptq, few, many, undamped, damped] = table;
    // With few samples: ever less on these, ever more on others.
    assert!(many[0][0] < few[0][0] && many[0][1] > few[0][1]);
    assert!(undamped[0][0] < many[0][0] && undamped[0][1] > many[0][1]);
    // Damping guards against it, and more samples do.
    assert!(damped[0][1] < 0.8 * gptq[0][1] && damped[0][1] < few[0][1] && damped[1][1] < many[1][1]);
    assert!(many[2][1] < few[2][1] && many[2][1] < damped[2][1]);
    let gap = |[own, other]: [f64; 2]| other / own;
    assert!(gap(many[2]) < 1.05 && gap(many[1]) > 1.3 && gap(many[0]) > 3.0);
}
