//! Methods that learn by gradient descent: what is promised of them, whatever the layer, the data and the recipe.

use std::ops::ControlFlow;

use lowbit::layer::{
    Activation, AdaQuant, AdaRound, LayerMethod, Problem, Samples, Solution, Statistics, StopReason,
};
use lowbit::prelude::*;
use lowbit::tensor::VectorScheme;
use lowbit::{ConfigError, Error, FloatType};
use ndarray::{Array1, Array2, Ix2, s};
use proptest::prelude::*;

use super::promises::{OnScheme, granular, inputs, quantizers};
use super::{make_w, make_x, statistics};

/// The squared error of each row over the samples, with what is added to the bias.
fn row_errors(
    weights: &Array2<f32>,
    tensor: &QuantizedTensor,
    correction: Option<&Array1<f64>>,
    x: &Array2<f64>,
) -> Vec<f64> {
    let restored = tensor.dequantize::<f32, Ix2>().unwrap();
    let errors = restored.mapv(f64::from) - weights.mapv(f64::from);
    let of_row = |(index, row): (usize, ndarray::ArrayView1<'_, f64>)| {
        let shift = correction.map_or(0.0, |all| all[index]);
        x.dot(&row).mapv(|y| (y + shift) * (y + shift)).sum()
    };
    errors.rows().into_iter().enumerate().map(of_row).collect()
}

/// How many rows are as the nearest codes have them.
fn unchanged(problem: &Problem<'_>, solution: &Solution) -> usize {
    let values = |tensor: &QuantizedTensor| tensor.dequantize::<f64, Ix2>().unwrap();
    let (found, nearest) = (values(&solution.tensor), values(problem.nearest()));
    let shift = |row: usize| solution.bias_correction.as_ref().map_or(0.0, |all| all[row]);
    (0..found.nrows()).filter(|&row| found.row(row) == nearest.row(row) && shift(row) == 0.0).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_row_is_worse_than_with_its_nearest_codes(
        bits in 2_u32..9,
        which in 0_usize..8,
        granularity in 0_usize..6,
        kind in 0_usize..5,
        (outputs, count) in (1_usize..7, 2_usize..24),
        samples in 1_usize..40,
        (steps, batch, seed) in (1_usize..40, 1_usize..9, 0_u64..10_000),
    ) {
        let weights = make_w(outputs, count, seed).mapv(|w| w as f32);
        let x = inputs(samples, count, kind, seed + 1).mapv(|x| f64::from(x as f32));
        let statistics = statistics(&x);
        let recipe = granular(quantizers(bits)[which].clone(), granularity);
        let given = Samples::new(&x).unwrap();
        let by_statistics = Problem::dense(&weights, &statistics, &recipe).unwrap();
        let by_batches = by_statistics.clone().samples(std::slice::from_ref(&given)).unwrap();
        let round = AdaRound::new().steps(steps).unwrap().batch(batch).unwrap().seed(seed);
        let quant = AdaQuant::new().steps(steps).unwrap().batch(batch).unwrap().seed(seed);
        // Rates at which a few steps change many codes, for the better and for the worse.
        let round = round.learning_rate(1.0).unwrap();
        let quant = quant.learning_rate(0.3).unwrap().scale_learning_rate(0.05).unwrap();
        let methods: [&dyn LayerMethod; 4] =
            [&round, &quant, &quant.learn_bias(false), &quant.learn_scales(false)];
        for problem in [&by_statistics, &by_batches] {
            let nearest = row_errors(&weights, problem.nearest(), None, &x);
            for (index, method) in methods.into_iter().enumerate() {
                let solution = match method.solve(problem) {
                    Ok(solution) => solution,
                    Err(error) => {
                        let conflict = matches!(error, Error::Config(ConfigError::Conflict { .. }));
                        prop_assert!(conflict && index > 0 && which > 3, "{method}: {error}");
                        continue;
                    }
                };
                prop_assert!(index == 0 || which < 4, "{method} on {recipe}");
                let (tensor, report) = (&solution.tensor, solution.report);
                let found = row_errors(&weights, tensor, solution.bias_correction.as_ref(), &x);
                let least: f64 = x.iter().map(|x| x * x).sum::<f64>() * 1e-20;
                for (found, nearest) in found.iter().zip(&nearest) {
                    prop_assert!(*found <= nearest * (1.0 + 1e-7) + least, "{method}: {found} {nearest}");
                }
                let mean = |rows: &[f64]| rows.iter().sum::<f64>() / (samples * outputs) as f64;
                let (before, after) = (mean(&nearest), mean(&found));
                prop_assert!((report.before - before).abs() <= 1e-6 * before + least, "{method} {report}");
                // A correction takes most of a sum away.
                prop_assert!(
                    (report.after - after).abs() <= 1e-6 * after + 1e-9 * before + least,
                    "{method} {after} {report}"
                );
                prop_assert_eq!(report.rows_kept, unchanged(problem, &solution), "{} {}", method, report);
                let zero = (0..count).filter(|&j| x.column(j).iter().all(|&x| x == 0.0)).count();
                if zero < count {
                    prop_assert_eq!(report.iterations, steps);
                    prop_assert_eq!((report.stop, report.dead_inputs), (StopReason::StepLimit, zero));
                }
                prop_assert_eq!(tensor.tiling(), problem.nearest().tiling());
                prop_assert_eq!(solution.bias_correction.is_some(), index == 1 || index == 3);
            }
        }
    }
}

/// Both methods, with few steps.
fn methods(steps: usize) -> [Box<dyn LayerMethod>; 2] {
    [Box::new(AdaRound::new().steps(steps).unwrap()), Box::new(AdaQuant::new().steps(steps).unwrap())]
}

fn recipe(bits: u32) -> Recipe {
    Uniform::symmetric(BitWidth::new(bits).unwrap()).granularity(PerChannel::new(Axis(0)))
}

#[test]
fn a_run_that_is_interrupted_has_a_solution_and_goes_on_as_if_it_had_not_been() {
    let (weights, x) = (make_w(9, 80, 5).mapv(|w| w as f32), make_x(100, 80, 6).mapv(|x| x as f32));
    let mut statistics = Statistics::new(80).unwrap();
    statistics.observe(&x).unwrap();
    let plain = Samples::new(&x).unwrap();
    let relu = plain.clone().activation(Activation::Relu);
    let recipe = recipe(3);
    let all_data = Problem::dense(&weights, &statistics, &recipe).unwrap();
    let by_batches = all_data.clone().samples(std::slice::from_ref(&plain)).unwrap();
    let through_relu = all_data.clone().samples(std::slice::from_ref(&relu)).unwrap();
    for problem in [&all_data, &by_batches, &through_relu] {
        for method in methods(300) {
            let whole = method.solve(problem).unwrap();
            assert!(whole.report.after < whole.report.before, "{method}: {}", whole.report);
            let mut run = method.begin(problem).unwrap();
            loop {
                let progress = run.step().unwrap();
                assert!(progress.steps == 300 && progress.step <= 300 && progress.loss.is_finite());
                if progress.finished {
                    break;
                }
                let so_far = run.solution().unwrap();
                let (report, correction) = (so_far.report, so_far.bias_correction.as_ref());
                assert_eq!((report.stop, report.iterations), (StopReason::Interrupted, progress.step));
                assert!(report.after <= report.before && report.rows_kept == unchanged(problem, &so_far));
                let loss = problem.sample_loss(&so_far.tensor, correction).unwrap();
                assert!((loss - report.after).abs() <= 1e-9 * report.before);
                assert_eq!(so_far.tensor.shape(), weights.shape());
            }
            assert_eq!(run.solution().unwrap(), whole, "{method}");
            // Once more does no harm.
            assert!(run.step().unwrap().finished);
            assert_eq!(run.solution().unwrap(), whole, "{method}");

            let mut seen = 0;
            let broken = method.solve_with(problem, &mut |progress| {
                seen += 1;
                if progress.step < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            let report = broken.unwrap().report;
            assert!((100..110).contains(&report.iterations) && seen <= report.iterations, "{report}");
            assert_eq!(report.stop, StopReason::Interrupted);
        }
    }
}

#[test]
fn threads_and_levels_change_no_bit() {
    // Three bundles of rows, the last of them short.
    let (weights, x) = (make_w(130, 300, 1).mapv(|w| w as f32), make_x(200, 300, 2).mapv(|x| x as f32));
    let mut statistics = Statistics::new(300).unwrap();
    statistics.observe(&x).unwrap();
    let plain = Samples::new(&x).unwrap();
    let relu = plain.clone().activation(Activation::Relu);
    let recipe = recipe(3).granularity(PerSubChannel::new(Axis(0), 64).unwrap());
    let solve = || {
        let all_data = Problem::dense(&weights, &statistics, &recipe).unwrap();
        let by_batches = all_data.clone().samples(std::slice::from_ref(&plain)).unwrap();
        let through_relu = all_data.clone().samples(std::slice::from_ref(&relu)).unwrap();
        let problems = [(all_data, 6), (by_batches, 30), (through_relu, 30)];
        let of_problem = |(problem, steps): &(Problem<'_>, usize)| {
            methods(*steps).map(|method| method.solve(problem).unwrap())
        };
        problems.iter().flat_map(of_problem).collect::<Vec<_>>()
    };
    let within =
        |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(solve);
    let first = within(1);
    assert!(first.iter().all(|solution| solution.report.after < solution.report.before));
    for threads in [2, 3] {
        assert!(first == within(threads), "{threads} threads");
    }
    for &level in lowbit::simd::available() {
        assert!(lowbit::simd::with_level(level, || first == within(2)).unwrap(), "{level}");
    }
    // Another seed draws other batches.
    let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
    let problem = problem.samples(std::slice::from_ref(&plain)).unwrap();
    let other = AdaRound::new().steps(30).unwrap().seed(1).solve(&problem).unwrap();
    assert_ne!(first[2].tensor, other.tensor);
}

#[test]
fn codebooks_and_scaled_levels_are_rounded_up_or_down_and_are_no_grids_to_be_learned() {
    let (weights, x) = (make_w(12, 40, 7).mapv(|w| w as f32), make_x(300, 40, 8));
    let statistics = statistics(&x);
    let three = BitWidth::new(3).unwrap();
    let recipes = [
        Recipe::new(NormalFloat::new(BitWidth::new(4).unwrap())),
        Recipe::new(KMeans::new(three)),
        Recipe::new(KMeans::new(three).shared()),
        Recipe::new(LloydMax::empirical(three)),
        quantizers(2)[5].clone(),
        quantizers(3)[7].clone(),
    ];
    for recipe in recipes {
        let recipe = recipe.granularity(PerSubChannel::new(Axis(0), 20).unwrap());
        let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
        let [round, quant] = methods(600);
        let solution = round.solve(&problem).unwrap();
        println!("{recipe}\n  {}", solution.report);
        assert!(solution.report.after < 0.9 * solution.report.before, "{recipe}: {}", solution.report);
        assert_eq!(solution.tensor.grids(), problem.nearest().grids());
        // Up or down: of the levels, none lies between a weight and the value that it got.
        let values = solution.tensor.dequantize::<f32, Ix2>().unwrap();
        let nearest = problem.nearest().dequantize::<f32, Ix2>().unwrap();
        for ((at, &value), &nearest) in values.indexed_iter().zip(&nearest) {
            let (own, element) = (weights[at], at.0 * 40 + at.1);
            if value != nearest {
                assert!((value < own) != (nearest < own), "{recipe} {element}: {own} {value} {nearest}");
            }
        }
        let error = quant.solve(&problem).unwrap_err();
        assert!(matches!(error, Error::Config(ConfigError::Conflict { .. })), "{recipe}: {error}");
    }
    let vectors = VectorScheme::new(three, 2, FloatType::F32).unwrap();
    let recipe = Recipe::new(OnScheme(vectors.into()));
    let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
    for method in methods(5) {
        let error = method.solve(&problem).unwrap_err();
        assert!(matches!(error, Error::Config(ConfigError::Conflict { .. })), "{method}: {error}");
    }
}

#[test]
fn scales_are_learned_where_that_is_possible_and_asked_for() {
    let (weights, x) = (make_w(6, 24, 7), make_x(200, 24, 8));
    let statistics = statistics(&x);
    let learned = AdaQuant::new().steps(50).unwrap().learn_scales(true);
    let wide = recipe(3).granularity(PerLayer);
    let problem = Problem::dense(&weights, &statistics, &wide).unwrap();
    let error = learned.solve(&problem).unwrap_err();
    assert!(matches!(error, Error::Config(ConfigError::Conflict { .. })), "{error}");
    // Not asked for, they stay.
    let solution = AdaQuant::new().steps(50).unwrap().solve(&problem).unwrap();
    assert_eq!(solution.tensor.grids(), problem.nearest().grids());
    let frozen = recipe(3).freeze_from(&weights).unwrap();
    let problem = Problem::on_grids(&weights, std::slice::from_ref(&statistics), &frozen).unwrap();
    let kept = AdaQuant::new().steps(50).unwrap().solve(&problem).unwrap();
    assert_eq!(kept.tensor.grids(), problem.nearest().grids());
    let moved =
        learned.learning_rate(0.1).unwrap().scale_learning_rate(0.02).unwrap().solve(&problem).unwrap();
    assert_ne!(moved.tensor.grids(), problem.nearest().grids());
    // As they are stored: in half precision each is a number of that type.
    let halves = Uniform::symmetric(BitWidth::new(3).unwrap()).scales(FloatType::F16);
    let halves = halves.granularity(PerChannel::new(Axis(0)));
    let problem = Problem::dense(&weights, &statistics, &halves).unwrap();
    let solution = learned.scale_learning_rate(0.02).unwrap().solve(&problem).unwrap();
    assert_ne!(solution.tensor.grids(), problem.nearest().grids());
    let loss = problem.sample_loss(&solution.tensor, solution.bias_correction.as_ref()).unwrap();
    assert!((loss - solution.report.after).abs() <= 1e-9 * solution.report.before);
}

/// `mean (f(z) − f(t))²` over samples and outputs, for outputs z and t before the activation.
fn error_of(activation: Activation, found: &Array2<f64>, targets: &Array2<f64>) -> f64 {
    let pairs = found.iter().zip(targets);
    let squares = pairs.map(|(&z, &t)| (activation.apply(z) - activation.apply(t)).powi(2));
    squares.sum::<f64>() / found.len() as f64
}

#[test]
fn errors_against_targets_and_through_activations_are_what_is_made_small() {
    let (outputs, count, groups) = (5, 20, 2);
    let weights = make_w(outputs * groups, count, 3);
    let bias = Array1::from_shape_fn(outputs * groups, |row| 0.2 * row as f64 - 0.7);
    // What the float layers before this one give, and what the quantized ones make of it.
    let float: Vec<Array2<f64>> = (0..groups).map(|group| make_x(150, count, 4 + group as u64)).collect();
    let x: Vec<Array2<f64>> =
        float.iter().map(|x| x.mapv(|x| f64::from(((x * 2.0).round() / 2.0 + 0.1) as f32))).collect();
    let all_statistics: Vec<Statistics> = x.iter().map(statistics).collect();
    let rows = |group: usize| group * outputs..(group + 1) * outputs;
    let recipe = recipe(3);
    for (with_targets, activation) in [
        (true, Activation::None),
        (true, Activation::Relu),
        (true, Activation::Relu6),
        (false, Activation::Relu),
    ] {
        // The outputs of group `group` for the inputs x of a layer of these weights.
        let outputs_of =
            |weights: &Array2<f64>, x: &Array2<f64>, group: usize, shift: Option<&Array1<f64>>| {
                let mut bias = bias.slice(s![rows(group)]).to_owned();
                if let Some(shift) = shift {
                    bias += &shift.slice(s![rows(group)]);
                }
                x.dot(&weights.slice(s![rows(group), ..]).t()) + &bias
            };
        let targets: Vec<Array2<f64>> = (0..groups)
            .map(|group| {
                outputs_of(&weights, if with_targets { &float[group] } else { &x[group] }, group, None)
            })
            .collect();
        let samples: Vec<Samples> = (0..groups)
            .map(|group| {
                let samples = Samples::new(&x[group]).unwrap().activation(activation);
                let samples = samples.bias(&bias.slice(s![rows(group)])).unwrap();
                if with_targets { samples.targets(&targets[group]).unwrap() } else { samples }
            })
            .collect();
        let some: Vec<Samples> = (0..groups)
            .map(|group| {
                let few = Samples::new(&x[group].slice(s![..40, ..])).unwrap().activation(activation);
                let few = few.bias(&bias.slice(s![rows(group)])).unwrap();
                few.targets(&targets[group].slice(s![..40, ..])).unwrap()
            })
            .collect();
        let problem =
            Problem::grouped(&weights, &all_statistics, &recipe).unwrap().samples(&samples).unwrap();
        let measured = |tensor: &QuantizedTensor, shift: Option<&Array1<f64>>| {
            let restored = tensor.dequantize::<f64, Ix2>().unwrap();
            let of_group = |group: usize| {
                error_of(activation, &outputs_of(&restored, &x[group], group, shift), &targets[group])
            };
            (0..groups).map(of_group).sum::<f64>() / groups as f64
        };
        for method in methods(800) {
            let Solution { tensor, report, bias_correction } = method.solve(&problem).unwrap();
            let found = measured(&tensor, bias_correction.as_ref());
            println!("targets {with_targets}, {activation}: {method}\n  {report}");
            // Targets are held in f32.
            super::assert_close(report.before, measured(problem.nearest(), None), 1e-5);
            super::assert_close(report.after, found, 1e-5);
            assert_eq!(report.held_out, None);
            // The same samples held out are worth the same, and others what they are worth by themselves.
            let same = method.solve(&problem.clone().held_out_samples(&samples).unwrap()).unwrap().report;
            let (before, after) = same.held_out.unwrap();
            super::assert_close(before, report.before, 1e-12);
            super::assert_close(after, report.after, 1e-12);
            let judged = problem.clone().held_out_samples(&some).unwrap();
            let few = judged.held_out_sample_loss(&tensor, bias_correction.as_ref()).unwrap().unwrap();
            let restored = tensor.dequantize::<f64, Ix2>().unwrap();
            let of_group = |group: usize| {
                let found = outputs_of(&restored, &x[group], group, bias_correction.as_ref());
                error_of(
                    activation,
                    &found.slice(s![..40, ..]).to_owned(),
                    &targets[group].slice(s![..40, ..]).to_owned(),
                )
            };
            super::assert_close(few, (0..groups).map(of_group).sum::<f64>() / groups as f64, 1e-5);
            let loss = problem.sample_loss(&tensor, bias_correction.as_ref()).unwrap();
            super::assert_close(report.after, loss, 1e-9);
            assert!(found < 0.8 * report.before, "{method}: {report}");
            // It is the error against the targets that is made small, not that of the same inputs.
            if with_targets {
                let plain = Problem::grouped(&weights, &all_statistics, &recipe).unwrap();
                let plain = method.solve(&plain).unwrap();
                assert!(found < measured(&plain.tensor, plain.bias_correction.as_ref()), "{method}");
            }
        }
    }
}

#[test]
fn settings_that_cannot_work_are_errors() {
    let (round, quant) = (AdaRound::new(), AdaQuant::new());
    for error in [round.steps(0).unwrap_err(), round.batch(0).unwrap_err()] {
        assert!(matches!(error, ConfigError::TooSmall { value: 0, min: 1, .. }), "{error}");
    }
    for error in [quant.steps(0).unwrap_err(), quant.batch(0).unwrap_err()] {
        assert!(matches!(error, ConfigError::TooSmall { value: 0, min: 1, .. }), "{error}");
    }
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e-300] {
        for result in [
            round.learning_rate(bad).err(),
            round.regularizer(bad).err(),
            quant.learning_rate(bad).err(),
            quant.scale_learning_rate(bad).err(),
        ] {
            assert!(matches!(result, Some(ConfigError::Number { .. })), "{bad}: {result:?}");
        }
    }
    for bad in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(round.warm_start(bad), Err(ConfigError::Rate { .. })), "{bad}");
    }
}

#[test]
fn samples_of_another_form_are_errors() {
    let (weights, x) = (make_w(4, 8, 1), make_x(30, 8, 2));
    let statistics = statistics(&x);
    let recipe = recipe(3);
    let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
    let plain = Samples::new(&x).unwrap();
    let others = [
        vec![],
        vec![plain.clone(), plain.clone()],
        vec![Samples::new(&make_x(30, 7, 2)).unwrap()],
        vec![plain.clone().targets(&Array2::<f64>::zeros((30, 3))).unwrap()],
        vec![plain.clone().bias(&Array1::<f64>::zeros(5)).unwrap()],
    ];
    for (index, other) in others.iter().enumerate() {
        let error = problem.clone().samples(other).unwrap_err();
        assert!(matches!(error, Error::Shape(_)), "{index}: {error}");
        assert!(problem.clone().held_out_samples(other).is_err(), "{index}");
    }
    assert!(plain.clone().targets(&Array2::<f64>::zeros((29, 4))).is_err());
    assert!(plain.clone().targets(&Array2::from_elem((30, 4), f64::NAN)).is_err());
    assert!(Samples::new(&Array2::<f64>::zeros((0, 8))).is_err());
    let embedding = Problem::embedding(&weights, &[1, 2, 3, 4], &recipe).unwrap();
    let error = embedding.clone().samples(std::slice::from_ref(&plain)).unwrap_err();
    assert!(matches!(error, Error::Config(ConfigError::Conflict { .. })), "{error}");
    for method in methods(5) {
        let solution = method.solve(&embedding).unwrap();
        assert_eq!(
            (&solution.tensor, solution.report.stop),
            (embedding.nearest(), StopReason::NearestIsBest)
        );
    }
    assert!(problem.sample_loss(problem.nearest(), Some(&Array1::zeros(3))).is_err());
}

#[test]
fn poor_data_are_served_and_nothing_is_lost() {
    let weights = make_w(6, 24, 4);
    let zeros = Array2::<f64>::zeros((20, 24));
    for method in methods(200) {
        // All zero.
        let (statistics_of_zeros, samples) = (statistics(&zeros), Samples::new(&zeros).unwrap());
        let problem = Problem::dense(&weights, &statistics_of_zeros, &recipe(3)).unwrap();
        for problem in [problem.clone(), problem.samples(std::slice::from_ref(&samples)).unwrap()] {
            let solution = method.solve(&problem).unwrap();
            assert_eq!(&solution.tensor, problem.nearest());
            assert_eq!((solution.report.stop, solution.report.after), (StopReason::NearestIsBest, 0.0));
        }
        // Of two groups one.
        let groups = [statistics_of_zeros, statistics(&make_x(50, 24, 2))];
        let problem = Problem::grouped(&weights, &groups, &recipe(3)).unwrap();
        let solution = method.solve(&problem).unwrap();
        let (codes, nearest) = (solution.tensor.codes().unpack(), problem.nearest().codes().unpack());
        assert_eq!(codes[..72], nearest[..72], "{method}");
        assert_ne!(codes[72..], nearest[72..], "{method}");
        assert_eq!((solution.report.dead_inputs, solution.report.rows_kept), (24, 3), "{method}");
        // Fewer samples than inputs, one alone, constant columns, and batches larger than what there is.
        let other = statistics(&make_x(2000, 24, 9));
        for x in [make_x(5, 24, 3), make_x(1, 24, 3), Array2::from_elem((50, 24), 2.5)] {
            let (few, samples) = (statistics(&x), Samples::new(&x).unwrap());
            let problem = Problem::dense(&weights, &few, &recipe(3)).unwrap();
            let problem = problem.held_out(std::slice::from_ref(&other)).unwrap();
            for problem in [problem.clone(), problem.samples(std::slice::from_ref(&samples)).unwrap()] {
                let report = method.solve(&problem).unwrap().report;
                assert!(report.after < report.before, "{method}: {report}");
                // It says what that is worth elsewhere.
                let (before, after) = report.held_out.unwrap();
                assert!(before.is_finite() && after > report.after, "{method}: {report}");
            }
        }
    }
}
