//! Codes fitted to a layer's data on levels that were learned from its weights.

use lowbit::layer::{Gptq, GroupGrids, Lattice, LayerMethod, Obq, Order, Problem};
use lowbit::prelude::*;
use ndarray::Ix2;

use super::{make_w, make_x, statistics};

#[test]
fn methods_gain_on_levels_of_k_means_by_row_and_by_group() {
    let (weights, x) = (make_w(24, 64, 7).mapv(|w| w as f32), make_x(400, 64, 8));
    let (statistics, other) = (statistics(&x), statistics(&make_x(4000, 64, 9)));
    let three = BitWidth::new(3).unwrap();
    let by_row = PerChannel::new(Axis(0));
    let by_group = PerSubChannel::new(Axis(0), 16).unwrap();
    // With the shares of the nearest codes' loss that are left by deciding one weight after the other, and by the K best.
    // A group of 16 weights has two for each of its own levels, so that little is left to gain.
    let recipes = [
        (KMeans::new(three).granularity(by_row), 0.6, 0.4),
        (KMeans::new(three).granularity(by_group), 0.95, 0.8),
        (KMeans::new(three).shared().granularity(by_row), 0.5, 0.3),
        (KMeans::new(three).shared().granularity(by_group), 0.5, 0.4),
        (LloydMax::empirical(three).granularity(by_row), 0.6, 0.4),
    ];
    for (recipe, one_by_one, k_best) in recipes {
        let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
        let problem = problem.held_out(std::slice::from_ref(&other)).unwrap();
        let methods: [(&dyn LayerMethod, f64); 4] = [
            (&Gptq::new(), one_by_one),
            (&Gptq::new().order(Order::Activation), one_by_one),
            (&Obq::new(), one_by_one),
            (&Lattice::new(16).unwrap(), k_best),
        ];
        println!("{recipe}");
        for (method, most) in methods {
            let solution = method.solve(&problem).unwrap();
            let report = solution.report;
            println!("  {method}: {report}");
            assert!(report.after < most * report.before, "{recipe}, {method}: {report}");
            let (before, after) = report.held_out.unwrap();
            assert!(after < before, "{recipe}, {method}: {report}");
            // The levels are those of the weights, and the codes choose among them.
            assert_eq!(solution.tensor.grids(), problem.nearest().grids());
            let restored = solution.tensor.dequantize::<f32, Ix2>().unwrap();
            let outputs = x.dot(&(&weights - &restored).mapv(f64::from).t());
            super::assert_close(report.after, outputs.mapv(|y| y * y).mean().unwrap(), 1e-4);
        }
    }
}

#[test]
fn codebooks_are_fitted_again_to_weights_as_they_have_become() {
    let (weights, x) = (make_w(24, 64, 7).mapv(|w| w as f32), make_x(400, 64, 8));
    let statistics = statistics(&x);
    let recipe = KMeans::new(BitWidth::new(2).unwrap()).granularity(PerSubChannel::new(Axis(0), 16).unwrap());
    let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
    let refreshed = Gptq::new().group_grids(GroupGrids::Refreshed).solve(&problem).unwrap();
    println!("{}", refreshed.report);
    assert_ne!(refreshed.tensor.grids(), problem.nearest().grids());
    assert!(refreshed.report.after < Gptq::new().solve(&problem).unwrap().report.after);
    // Levels that all groups share cannot be.
    let recipe = KMeans::new(BitWidth::new(2).unwrap()).shared();
    let recipe = recipe.granularity(PerSubChannel::new(Axis(0), 16).unwrap());
    let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
    let error = Gptq::new().group_grids(GroupGrids::Refreshed).solve(&problem).unwrap_err();
    assert!(matches!(error, lowbit::Error::Config(lowbit::ConfigError::Conflict { .. })), "{error}");
}
