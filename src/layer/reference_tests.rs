//! Methods against the published numbers as they are, before rows that lose get their nearest codes back.

#[path = "../../tests/layer/reference.rs"]
mod reference;

use ndarray::Axis;

use super::factor::live_inputs;
use super::rows::{Job, RowMethod, fields};
use super::{Gptq, Obq, Order, Problem, Statistics};
use crate::bits::BitWidth;
use crate::element::FloatType;
use crate::granularity::PerChannel;
use crate::quantizer::{SymmetricRange, Uniform};
use crate::recipe::{Frozen, QuantizerExt};
use crate::tensor::{PackedCodes, QuantizedTensor, sign_extend};

use reference::{CASES, make_w, make_x};

fn solve<M: RowMethod>(method: &M, problem: &Problem<'_>) -> QuantizedTensor {
    let statistics = &problem.groups()[0];
    let system = method.prepare(problem, statistics, live_inputs(statistics)).unwrap();
    let nearest = fields(problem.nearest().codes());
    let rows = 0..problem.outputs();
    let bundle = method.fit(&Job { problem, statistics, system: &system, rows, nearest: &nearest }).unwrap();
    let (scheme, sign) = (problem.scheme(), problem.nearest().codes().sign_bit());
    let codes = bundle.codes.into_iter().map(|field| sign_extend(field, sign));
    let codes = PackedCodes::from_codes(scheme.bits(), scheme.codes(), codes).unwrap();
    let tensor = problem.nearest().clone().with_codes(codes, None).unwrap();
    let loss = problem.loss(&tensor).unwrap();
    let sum: f64 = bundle.after.iter().sum();
    assert_close(sum / (statistics.count() * problem.outputs() as u64) as f64, loss, 1e-9);
    tensor
}

/// The loss with the mean error of each output taken out.
fn corrected(problem: &Problem<'_>, tensor: &QuantizedTensor) -> f64 {
    let errors = problem.errors::<f64>(0..problem.outputs(), tensor).unwrap();
    let means = errors.dot(&problem.groups()[0].mean().unwrap());
    problem.loss(tensor).unwrap() - means.mapv(|mean| mean * mean).mean().unwrap()
}

#[track_caller]
fn assert_close(found: f64, expected: f64, tolerance: f64) {
    assert!((found / expected - 1.0).abs() <= tolerance, "{found} is not {expected} within {tolerance:e}");
}

/// `10_layer.json`: all layers, all widths.
#[test]
fn every_number_of_the_reference_is_met() {
    for case in &CASES {
        println!("{} {}", case.name, case.bits);
        let (samples, inputs, seed) = case.x;
        let weights = make_w(case.w.0, inputs, case.w.1);
        let mut statistics = Statistics::new(inputs).unwrap();
        statistics.observe(&make_x(samples, inputs, seed)).unwrap();
        let recipe = Uniform::symmetric(BitWidth::new(case.bits).unwrap())
            .range(SymmetricRange::Full)
            .scales(FloatType::F64)
            .granularity(PerChannel::new(Axis(0)));
        let grids = Frozen::with_scales(&recipe, weights.shape(), case.scales.iter().copied(), []).unwrap();
        let groups = core::slice::from_ref(&statistics);
        let problem = Problem::on_grids(&weights, groups, &grids).unwrap();
        let nearest = problem.nearest();
        assert_close(problem.loss(nearest).unwrap(), case.nearest, 1e-9);
        assert_close(corrected(&problem, nearest), case.nearest_corrected, 1e-9);
        let gptq = solve(&Gptq::new(), &problem);
        assert_close(problem.loss(&gptq).unwrap(), case.gptq, 1e-6);
        assert_close(corrected(&problem, &gptq), case.gptq_corrected, 1e-6);
        let activation = solve(&Gptq::new().order(Order::Activation), &problem);
        assert_close(problem.loss(&activation).unwrap(), case.gptq_activation, 1e-6);
        let obq = solve(&Obq::new().outliers_first(false), &problem);
        assert_close(problem.loss(&obq).unwrap(), case.obq, 1e-6);
        let outliers = solve(&Obq::new(), &problem);
        assert_close(problem.loss(&outliers).unwrap(), case.obq_outliers_first, 1e-6);
        // Held-out numbers of the reference are in the test of the whole.
        assert!(case.best_known <= case.gptq && case.exact.is_none_or(|exact| exact <= case.obq));
        assert!(case.held_out.is_none_or(|[nearest, gptq, _]| gptq < nearest));
    }
}
