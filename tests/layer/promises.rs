//! No row is worse than with its nearest codes, whatever the layer, the data and the recipe.

use std::fmt;
use std::ops::ControlFlow;

use lowbit::layer::{
    Damping, Gptq, GroupGrids, Lattice, LayerMethod, Nearest, Obq, Order, Patches, Problem, Statistics,
    StopReason,
};
use lowbit::prelude::*;
use lowbit::quantizer::Fit;
use lowbit::tensor::{
    BinaryCodeScheme, ClippingRange, CodebookScheme, LevelScheme, LevelTable, PiecewiseScheme, Scheme,
    VectorScheme,
};
use lowbit::{DataError, FloatType, QuantizedTensor, Region};
use ndarray::{Array2, Array4, Ix2};
use proptest::prelude::*;

use super::{make_w, make_x, statistics};

/// The grid of minimum and maximum on any scheme.
#[derive(Debug, Clone)]
pub(super) struct OnScheme(pub(super) Scheme);

impl Quantizer for OnScheme {
    fn scheme(&self) -> lowbit::Result<Scheme> {
        Ok(self.0.clone())
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> lowbit::Result<Fit> {
        let (low, high) = region.evidence().min_max().ok_or(DataError::NoData { region: region.index() })?;
        Ok(scheme.grid(ClippingRange::new(low, high)?, region.index())?.into())
    }
}

impl fmt::Display for OnScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on-scheme({})", self.0)
    }
}

pub(super) fn quantizers(bits: u32) -> Vec<Recipe> {
    let bits = BitWidth::new(bits).unwrap();
    let on = |scheme: Scheme| Recipe::new(OnScheme(scheme));
    vec![
        Recipe::new(Uniform::symmetric(bits)),
        Recipe::new(Uniform::symmetric(bits).range(SymmetricRange::MidRise)),
        Recipe::new(Uniform::asymmetric(bits)),
        Recipe::new(Uniform::asymmetric_real(bits)),
        on(LevelScheme::new(LevelTable::normal_float(bits).unwrap()).into()),
        on(LevelScheme::new(LevelTable::ternary()).into()),
        on(CodebookScheme::new(bits, FloatType::F32).into()),
        on(BinaryCodeScheme::new(BitWidth::new(bits.get().min(3)).unwrap(), FloatType::F32).unwrap().into()),
    ]
}

pub(super) fn granular(recipe: Recipe, which: usize) -> Recipe {
    match which {
        0 => recipe.granularity(PerLayer),
        1 => recipe.granularity(PerChannel::new(Axis(0))),
        2 => recipe.granularity(PerChannel::new(Axis(1))),
        3 => recipe.granularity(PerGroup::new(Axis(0), 3).unwrap()),
        4 => recipe.granularity(PerSubChannel::new(Axis(0), 5).unwrap()),
        _ => recipe.granularity(Blocks::new([2, 7])),
    }
}

/// Inputs with all that is bad for a factorization: few samples, copies, constants, zeros.
pub(super) fn inputs(samples: usize, inputs: usize, kind: usize, seed: u64) -> Array2<f64> {
    let mut x = make_x(samples, inputs, seed);
    for j in 0..inputs {
        match (kind, j % 4) {
            (1, 1) => x.column_mut(j).fill(0.0),
            (2, 1) => x.column_mut(j).fill(3.0),
            (3, 1) => {
                let copy = x.column(j - 1).to_owned();
                x.column_mut(j).assign(&copy);
            }
            (4, _) => x.column_mut(j).mapv_inplace(|x| x * 10f64.powi(j as i32 % 7 - 3)),
            _ => {}
        }
    }
    x
}

/// The squared error of each row, from the samples themselves.
fn row_errors(weights: &Array2<f32>, tensor: &QuantizedTensor, x: &Array2<f64>) -> Vec<f64> {
    let restored = tensor.dequantize::<f32, Ix2>().unwrap();
    let errors = weights.mapv(f64::from) - restored.mapv(f64::from);
    errors.rows().into_iter().map(|row| x.dot(&row).mapv(|y| y * y).sum()).collect()
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
        damping in prop_oneof![Just(0.01), Just(0.0), Just(1.0)],
        seed in 0_u64..10_000,
    ) {
        let weights = make_w(outputs, count, seed).mapv(|w| w as f32);
        let x = inputs(samples, count, kind, seed + 1);
        let statistics = statistics(&x);
        let recipe = granular(quantizers(bits)[which].clone(), granularity);
        let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
        let nearest = row_errors(&weights, problem.nearest(), &x);
        let damping = Damping::new(damping).unwrap();
        let methods: [&dyn LayerMethod; 5] = [
            &Gptq::new().damping(damping),
            &Gptq::new().damping(damping).order(Order::Activation),
            &Gptq::new().damping(damping).group_grids(GroupGrids::Refreshed),
            &Obq::new().damping(damping),
            &Lattice::new(4).unwrap().damping(damping),
        ];
        for method in methods {
            let solution = match method.solve(&problem) {
                Ok(solution) => solution,
                Err(error) => {
                    // Grids of more than one row cannot be refreshed.
                    prop_assert!(error.to_string().contains("refresh"), "{}", error);
                    prop_assert!([0, 2, 3, 5].contains(&granularity));
                    continue;
                }
            };
            let (tensor, report) = (&solution.tensor, solution.report);
            let found = row_errors(&weights, tensor, &x);
            let scale: f64 = x.iter().map(|x| x * x).sum::<f64>() * 1e-20;
            for (found, nearest) in found.iter().zip(&nearest) {
                prop_assert!(*found <= nearest * (1.0 + 1e-7) + scale, "{method}: {found} {nearest}");
            }
            let mean = |rows: &[f64]| rows.iter().sum::<f64>() / (samples * outputs) as f64;
            prop_assert!((report.after - mean(&found)).abs() <= 1e-3 * mean(&found) + scale, "{method} {report}");
            prop_assert!((report.before - mean(&nearest)).abs() <= 1e-3 * mean(&nearest) + scale, "{method}");
            let loss = problem.loss(tensor).unwrap();
            prop_assert!((loss - mean(&found)).abs() <= 1e-6 * loss + scale);
            let moved = (0..outputs).filter(|row| {
                (0..count).any(|j| tensor.code(row * count + j) != problem.nearest().code(row * count + j))
                    || tensor.grids() != problem.nearest().grids()
            });
            prop_assert!(moved.count() >= outputs - report.rows_kept || report.rows_kept == outputs);
            prop_assert_eq!(tensor.tiling(), problem.nearest().tiling());
        }
    }
}

#[test]
fn methods_gain_on_every_scheme() {
    let (weights, x) = (make_w(12, 40, 7).mapv(|w| w as f32), make_x(300, 40, 8));
    let statistics = statistics(&x);
    let pieces = Recipe::new(OnScheme(
        PiecewiseScheme::new(BitWidth::new(4).unwrap(), FloatType::F32).unwrap().into(),
    ));
    for recipe in quantizers(3).into_iter().chain([pieces]) {
        let recipe = recipe.granularity(PerSubChannel::new(Axis(0), 16).unwrap());
        let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
        let after = |method: &dyn LayerMethod| {
            let report = method.solve(&problem).unwrap().report;
            println!("{recipe}\n  {method}: {report}");
            report.after / report.before
        };
        assert!(after(&Gptq::new()) < 0.9);
        assert!(after(&Gptq::new().order(Order::Activation)) < 0.9);
        assert!(after(&Obq::new()) < 0.9);
        assert!(after(&Lattice::new(16).unwrap()) < 0.8);
    }
}

#[test]
fn refreshed_grids_are_those_of_weights_as_they_have_become() {
    let (weights, x) = (make_w(16, 64, 5), make_x(400, 64, 6));
    let statistics = statistics(&x);
    let recipe =
        Uniform::asymmetric(BitWidth::new(2).unwrap()).granularity(PerSubChannel::new(Axis(0), 16).unwrap());
    let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
    let method = Gptq::new().group_grids(GroupGrids::Refreshed);
    let refreshed = method.solve(&problem).unwrap();
    assert_ne!(refreshed.tensor.grids(), problem.nearest().grids());
    assert!(refreshed.report.after < 0.5 * refreshed.report.before, "{}", refreshed.report);
    // The first group of a row has seen no change.
    for row in 0..16 {
        assert_eq!(refreshed.tensor.grid(4 * row), problem.nearest().grid(4 * row));
    }
    // A group as wide as the row is fitted to the weights as they are.
    let recipe = recipe.granularity(PerChannel::new(Axis(0)));
    let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
    assert_eq!(method.solve(&problem).unwrap().tensor, Gptq::new().solve(&problem).unwrap().tensor);
}

#[test]
fn what_a_scheme_cannot_serve_is_a_conflict() {
    let (weights, x) = (make_w(4, 16, 5), make_x(40, 16, 6));
    let statistics = statistics(&x);
    let four = BitWidth::new(4).unwrap();
    let refresh = Gptq::new().group_grids(GroupGrids::Refreshed);
    let problem = |recipe: &Recipe| Problem::dense(&weights, &statistics, recipe).unwrap();
    let conflict = |result: lowbit::Result<lowbit::layer::Solution>| {
        let error = result.unwrap_err();
        assert!(matches!(error, lowbit::Error::Config(lowbit::ConfigError::Conflict { .. })), "{error}");
    };
    let wide = problem(&Recipe::new(Uniform::symmetric(four)));
    conflict(refresh.solve(&wide));
    let groups = Uniform::symmetric(four).granularity(PerSubChannel::new(Axis(0), 4).unwrap());
    conflict(refresh.order(Order::Activation).solve(&problem(&groups)));
    let frozen = groups.freeze_from(&weights).unwrap();
    conflict(
        refresh.solve(&Problem::on_grids(&weights, std::slice::from_ref(&statistics), &frozen).unwrap()),
    );
    let floor = groups.clone().rounding(Rounding::Floor);
    assert!(Problem::dense(&weights, &statistics, &floor).is_err());
    let random = groups.rounding(Rounding::Stochastic { seed: 1 });
    assert!(Problem::dense(&weights, &statistics, &random).is_err());
    let vectors = VectorScheme::new(four, 2, FloatType::F32).unwrap();
    let vectors = Recipe::new(OnScheme(vectors.into()));
    let vectors = problem(&vectors);
    conflict(Gptq::new().solve(&vectors));
    conflict(Obq::new().solve(&vectors));
    conflict(Lattice::new(2).unwrap().solve(&vectors));
    assert!(Nearest.solve(&vectors).is_ok());
}

#[test]
fn groups_are_layers_of_their_own_and_an_embedding_is_nearest() {
    let weights = make_w(6, 18, 3).mapv(|w| w as f32);
    let recipe = Uniform::symmetric(BitWidth::new(3).unwrap()).granularity(PerChannel::new(Axis(0)));
    let groups: Vec<Statistics> = (0..3).map(|g| statistics(&make_x(50 + g, 18, g as u64))).collect();
    let problem = Problem::grouped(&weights, &groups, &recipe).unwrap();
    let whole = Gptq::new().solve(&problem).unwrap();
    let mut loss = 0.0;
    for (group, statistics) in groups.iter().enumerate() {
        let part = weights.slice(ndarray::s![2 * group..2 * group + 2, ..]);
        let problem = Problem::dense(&part, statistics, &recipe).unwrap();
        let part = Gptq::new().solve(&problem).unwrap();
        loss += part.report.after / 3.0;
        let codes = whole.tensor.codes().unpack();
        assert_eq!(part.tensor.codes().unpack(), codes[36 * group..36 * (group + 1)]);
    }
    super::assert_close(whole.report.after, loss, 1e-9);
    super::assert_close(whole.report.after, problem.loss(&whole.tensor).unwrap(), 1e-4);

    let uses = [3, 0, 1, 7, 2, 5];
    let problem = Problem::embedding(&weights, &uses, &recipe).unwrap();
    for method in [&Gptq::new() as &dyn LayerMethod, &Obq::new(), &Lattice::new(4).unwrap()] {
        let solution = method.solve(&problem).unwrap();
        assert_eq!(&solution.tensor, problem.nearest());
        assert_eq!(solution.report.stop, StopReason::NearestIsBest);
        assert!(solution.report.after > 0.0);
    }

    // A depthwise convolution has statistics for each channel.
    let kernels = Array4::from_shape_fn((4, 1, 3, 3), |(c, _, i, j)| ((5 * c + 3 * i + j) as f32).sin());
    let images = Array4::from_shape_fn((2, 4, 8, 8), |(n, c, i, j)| ((n + c * i + 2 * j) as f32 * 0.3).cos());
    let patches = Patches::new([3, 3]).padding([1, 1]).groups(4);
    let mut channels = patches.statistics(4).unwrap();
    patches.observe(&images, &mut channels).unwrap();
    let problem = Problem::grouped(&kernels, &channels, &recipe).unwrap();
    let report = Gptq::new().solve(&problem).unwrap().report;
    assert!(report.after < report.before);
}

#[test]
fn a_run_can_be_broken_off_and_goes_on_where_it_was() {
    let (weights, x) = (make_w(600, 12, 5).mapv(|w| w as f32), make_x(100, 12, 6));
    let statistics = statistics(&x);
    let recipe = Uniform::symmetric(BitWidth::new(3).unwrap()).granularity(PerChannel::new(Axis(0)));
    let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
    let method = Obq::new();
    let mut seen = 0;
    let broken = method.solve_with(&problem, &mut |progress| {
        seen += 1;
        assert_eq!(progress.step, seen);
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let broken = broken.unwrap().report;
    let whole = method.solve(&problem).unwrap();
    assert_eq!((broken.stop, whole.report.stop), (StopReason::Interrupted, StopReason::Finished));
    assert!(broken.iterations < whole.report.iterations);
    assert!(broken.after > whole.report.after && broken.after < broken.before);
    let mut run = method.begin(&problem).unwrap();
    while !run.step().unwrap().finished {
        run.solution().unwrap();
    }
    assert_eq!(run.solution().unwrap(), whole);
    // Once more does no harm.
    assert!(run.step().unwrap().finished);
    assert_eq!(run.solution().unwrap(), whole);
}

#[test]
fn f32_finds_what_f64_finds() {
    // More columns than a leaf, more rows than a bundle.
    let (weights, x) = (make_w(300, 130, 1).mapv(|w| w as f32), make_x(500, 130, 2));
    let statistics = statistics(&x);
    let recipe =
        Uniform::symmetric(BitWidth::new(4).unwrap()).granularity(PerSubChannel::new(Axis(0), 32).unwrap());
    let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
    let narrow = Gptq::new().solve(&problem).unwrap();
    super::assert_close(narrow.report.after, problem.loss(&narrow.tensor).unwrap(), 1e-5);
    super::assert_close(narrow.report.before, problem.loss(problem.nearest()).unwrap(), 1e-5);
    let wide = weights.mapv(f64::from);
    let problem = Problem::dense(&wide, &statistics, &recipe).unwrap();
    let wide = Gptq::new().solve(&problem).unwrap();
    super::assert_close(narrow.report.after, wide.report.after, 1e-3);
    let differing =
        narrow.tensor.codes().iter().zip(wide.tensor.codes().iter()).filter(|(a, b)| a != b).count();
    assert!(differing * 100 < 300 * 130, "{differing}");
}

#[test]
fn one_thread_and_many_give_the_same_bits() {
    // Large enough for every part to be shared out.
    let (weights, x) = (make_w(700, 300, 1).mapv(|w| w as f32), make_x(600, 300, 2).mapv(|x| x as f32));
    let recipe =
        Uniform::symmetric(BitWidth::new(3).unwrap()).granularity(PerSubChannel::new(Axis(0), 64).unwrap());
    let mut first = None;
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| {
            let mut statistics = Statistics::new(300).unwrap();
            statistics.observe(&x).unwrap();
            let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
            let gptq = Gptq::new().solve(&problem).unwrap();
            let refreshed = Gptq::new().group_grids(GroupGrids::Refreshed).solve(&problem).unwrap();
            let few = weights.slice(ndarray::s![..12, ..]);
            let problem = Problem::dense(&few, &statistics, &recipe).unwrap();
            let lattice = Lattice::new(2).unwrap().solve(&problem).unwrap();
            (statistics, gptq, refreshed, lattice)
        });
        match &first {
            None => first = Some(found),
            Some(first) => assert!(*first == found, "{threads} threads"),
        }
    }
}
