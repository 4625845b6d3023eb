//! Data that a layer may meet: typed errors or stated results, and nothing lost.

use lowbit::layer::{Gptq, Lattice, LayerMethod, Obq, Problem, Statistics, StopReason};
use lowbit::prelude::*;
use lowbit::{ConfigError, DataError, Error, ShapeError};
use ndarray::Array2;

use super::{make_w, make_x, statistics};

fn recipe() -> Recipe {
    Uniform::symmetric(BitWidth::new(3).unwrap()).granularity(PerChannel::new(Axis(0)))
}

#[test]
fn no_data_is_an_error() {
    let (weights, none) = (make_w(3, 8, 1), Statistics::new(8).unwrap());
    let error = Problem::dense(&weights, &none, &recipe()).unwrap_err();
    assert!(matches!(error, Error::Data(DataError::NoData { region: 0 })), "{error}");
    let some = statistics(&make_x(9, 8, 2));
    let problem = Problem::dense(&weights, &some, &recipe()).unwrap();
    assert!(problem.held_out(std::slice::from_ref(&none)).is_err());
    let error = Problem::embedding(&weights, &[0, 0, 0], &recipe()).unwrap_err();
    assert!(matches!(error, Error::Data(DataError::NoData { .. })), "{error}");
    assert_eq!(none.mean(), None);
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let (weights, some) = (make_w(3, 8, 1), statistics(&make_x(9, 7, 2)));
    let error = Problem::dense(&weights, &some, &recipe()).unwrap_err();
    assert!(matches!(error, Error::Shape(ShapeError::Length { found: 7, expected: 8 })), "{error}");
    let two = [statistics(&make_x(9, 8, 2)), statistics(&make_x(9, 8, 3))];
    assert!(matches!(
        Problem::grouped(&weights, &two, &recipe()),
        Err(Error::Shape(ShapeError::RegionCount { .. }))
    ));
    assert!(Problem::grouped(&weights, &[], &recipe()).is_err());
    assert!(Problem::embedding(&weights, &[1, 2], &recipe()).is_err());
    let scalar = ndarray::arr0(1.0);
    assert!(Problem::dense(&scalar, &two[0], &recipe()).is_err());
    let problem = Problem::dense(&weights, &two[0], &recipe()).unwrap();
    let other = recipe().quantize(&make_w(2, 8, 1)).unwrap();
    assert!(matches!(problem.loss(&other), Err(Error::Shape(ShapeError::Mismatch { .. }))));
    assert!(problem.held_out(&two).is_err());
}

#[test]
fn weights_that_are_not_finite_are_errors_that_name_them() {
    let some = statistics(&make_x(9, 8, 2));
    for (bad, policy) in [(f64::NAN, NonFinite::Error), (f64::INFINITY, NonFinite::NanToZero)] {
        let mut weights = make_w(3, 8, 1);
        weights[[1, 6]] = bad;
        let error = Problem::dense(&weights, &some, &recipe().non_finite(policy)).unwrap_err();
        match error {
            Error::Data(DataError::NotANumber { index } | DataError::Infinite { index, .. }) => {
                assert_eq!(index, [1, 6]);
            }
            error => panic!("{error}"),
        }
    }
}

#[test]
fn settings_that_cannot_work_are_errors() {
    assert!(matches!(Lattice::new(0), Err(ConfigError::TooSmall { .. })));
    assert!(matches!(Lattice::new(usize::MAX), Err(ConfigError::TooLarge { .. })));
    assert!(Lattice::new(1).unwrap().orders(0).is_err() && Lattice::new(1).unwrap().orders(5).is_err());
}

fn methods() -> [Box<dyn LayerMethod>; 3] {
    [Box::new(Gptq::new()), Box::new(Obq::new()), Box::new(Lattice::new(8).unwrap())]
}

#[test]
fn inputs_that_are_all_zero_leave_the_nearest_codes() {
    let (weights, zeros) = (make_w(3, 8, 1), statistics(&Array2::zeros((20, 8))));
    let problem = Problem::dense(&weights, &zeros, &recipe()).unwrap();
    for method in methods() {
        let solution = method.solve(&problem).unwrap();
        assert_eq!(&solution.tensor, problem.nearest());
        assert_eq!((solution.report.stop, solution.report.after), (StopReason::NearestIsBest, 0.0));
    }
    // Of two groups one.
    let weights = make_w(4, 8, 1);
    let groups = [zeros, statistics(&make_x(50, 8, 2))];
    let problem = Problem::grouped(&weights, &groups, &recipe()).unwrap();
    for method in methods() {
        let solution = method.solve(&problem).unwrap();
        let (codes, nearest) = (solution.tensor.codes().unpack(), problem.nearest().codes().unpack());
        assert_eq!(codes[..16], nearest[..16]);
        assert_ne!(codes[16..], nearest[16..]);
        assert_eq!((solution.report.dead_inputs, solution.report.iterations), (8, 4));
    }
}

#[test]
fn dead_inputs_keep_their_nearest_codes_and_are_counted() {
    let mut x = make_x(100, 12, 3);
    x.column_mut(4).fill(0.0);
    x.column_mut(11).fill(0.0);
    let (weights, statistics) = (make_w(5, 12, 4), statistics(&x));
    let problem = Problem::dense(&weights, &statistics, &recipe()).unwrap();
    for method in methods() {
        let solution = method.solve(&problem).unwrap();
        assert_eq!(solution.report.dead_inputs, 2);
        assert!(solution.report.after < solution.report.before);
        for element in (0..5).flat_map(|row| [12 * row + 4, 12 * row + 11]) {
            assert_eq!(solution.tensor.code(element), problem.nearest().code(element));
        }
    }
}

#[test]
fn fewer_samples_than_inputs_and_constant_columns_are_served() {
    let weights = make_w(6, 24, 4);
    let few = make_x(5, 24, 3);
    let constant = Array2::from_elem((50, 24), 2.5);
    let other = statistics(&make_x(2000, 24, 9));
    for x in [few, constant] {
        let statistics = statistics(&x);
        let problem = Problem::dense(&weights, &statistics, &recipe()).unwrap();
        let problem = problem.held_out(std::slice::from_ref(&other)).unwrap();
        for method in methods() {
            let report = method.solve(&problem).unwrap().report;
            println!("{method}: {report}");
            assert!(report.after < 0.3 * report.before);
            // It says what that is worth elsewhere.
            let (before, after) = report.held_out.unwrap();
            assert!(before.is_finite() && after > report.after);
        }
        // Without damping none of these can be factored, and the report says what was done.
        let none = lowbit::layer::Damping::new(0.0).unwrap();
        let report = Gptq::new().damping(none).solve(&problem).unwrap().report;
        assert!(report.damping_raised > 0 && report.damping > 0.0, "{report}");
        assert!(report.after <= report.before);
    }
}

#[test]
fn layers_without_elements_are_served() {
    let some = statistics(&make_x(9, 8, 2));
    let no_outputs = Array2::<f32>::zeros((0, 8));
    let problem = Problem::dense(&no_outputs, &some, &recipe()).unwrap();
    for method in methods() {
        let solution = method.solve(&problem).unwrap();
        assert_eq!((solution.tensor.len(), solution.report.after), (0, 0.0));
    }
    let no_inputs = Array2::<f32>::zeros((3, 0));
    let mut none = Statistics::new(0).unwrap();
    none.observe(&Array2::<f32>::zeros((4, 0))).unwrap();
    assert!(Problem::dense(&no_inputs, &none, &recipe()).is_err());
}
