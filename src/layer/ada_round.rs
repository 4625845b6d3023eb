//! Up or down, for all weights of a layer at once, by gradient descent.
//!
//! Nagel, Amjad, van Baalen, Louizos and Blankevoort 2020, *Up or down? Adaptive rounding for post-training quantization*.
//! Every weight is between two levels, `Ŵ = l + (u − l)·h(V)`, and (equations 21 and 25)
//!
//! ```text
//! argmin_V  ‖ f(Wx) − f(Ŵx̂) ‖² + λ Σ (1 − |2h(V) − 1|^β)
//! ```
//!
//! is found by Adam (Kingma and Ba 2015), from `h(V)` as the weights are, with β annealed from 20 to 2.
//!
//! λ is in units of what one weight would cost that is off by a whole step, on average over the inputs of its row, so that
//! one value serves layers of any magnitude.

use core::fmt;
use core::ops::Range;

use ndarray::Array2;

use crate::element::FloatType;
use crate::error::{ConfigError, Result};
use crate::kernel::adam::Adam;
use crate::parallel;

use super::descent::descent_setters;
use super::gradient::{Buffers, Point, Source};
use super::objective::{Course, Proposal, judge};
use super::problem::Problem;
use super::report::{Progress, StopReason};
use super::rounding::{Annealing, Rounding, check_scheme};
use super::rows::fields;
use super::rtn::NearestRun;
use super::{LayerMethod, Run, Solution};

/// Weights of the rows that are worked on together: their state stays in a cache.
pub(super) const BUNDLE: usize = 1 << 14;
/// Weights times updates of one step of a run, about.
pub(super) const STEP: usize = 1 << 26;

/// AdaRound: every weight goes to the level above or to the one below it, whichever serves the layer's output best.
///
/// Works on every scheme but vectors, and on every granularity. Of each row the nearest codes stay if these are better.
///
/// Gradients are those of all data, from the statistics, unless the problem has [samples](Problem::samples): batches of
/// these are drawn for layers of more than two inputs for each sample of a batch, and wherever the samples have targets or
/// an activation. The report's losses are then those of [`Problem::sample_loss`].
///
/// Time for n inputs, m outputs and batches of b: `2bmn` products for each step, or `mn²` without samples, and about 3 ns
/// for each weight. Memory: 36 bytes for each weight, and 4 bytes for each pair of inputs without samples.
///
/// ```
/// use lowbit::layer::{AdaRound, LayerMethod, Problem, Statistics};
/// use lowbit::prelude::*;
/// use ndarray::Array2;
///
/// let weights = Array2::from_shape_fn((8, 16), |(i, j)| ((7 * i + 3 * j) as f32 * 0.37).sin());
/// let inputs = Array2::from_shape_fn((100, 16), |(i, j)| ((i * (j / 4 + 1)) as f32 * 0.11).cos());
/// let mut statistics = Statistics::new(16)?;
/// statistics.observe(&inputs)?;
/// let recipe = Uniform::symmetric(BitWidth::new(3)?).granularity(PerChannel::new(Axis(0)));
/// let problem = Problem::dense(&weights, &statistics, &recipe)?;
/// let report = AdaRound::new().steps(2000)?.solve(&problem)?.report;
/// assert!(report.after < 0.5 * report.before);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaRound {
    pub(super) steps: usize,
    pub(super) batch: usize,
    pub(super) rate: f64,
    regularizer: f64,
    warm_start: f64,
    pub(super) seed: u64,
}

impl Default for AdaRound {
    fn default() -> Self {
        Self { steps: 10_000, batch: 32, rate: 0.03, regularizer: 1.0, warm_start: 0.2, seed: 0 }
    }
}

impl AdaRound {
    /// 10 000 steps (as published) of batches of 32 (as published), a learning rate of 0.03, a regularizer of weight 1
    /// after a warm start of a fifth of the steps (as published), and seed 0.
    pub fn new() -> Self {
        Self::default()
    }

    descent_setters! {
        /// With another learning rate of Adam, for V.
    }

    /// With another weight λ of the regularizer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Number`] unless it is positive and finite.
    pub fn regularizer(self, regularizer: f64) -> Result<Self, ConfigError> {
        Ok(Self { regularizer: positive("the weight of the regularizer", regularizer)?, ..self })
    }

    /// With another share of the steps before the regularizer counts.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Rate`] unless it is from 0 to 1.
    pub fn warm_start(self, share: f64) -> Result<Self, ConfigError> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self { warm_start: share, ..self })
        } else {
            Err(ConfigError::Rate { rate: share })
        }
    }

    /// With another seed for the order of the samples.
    pub const fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// As text.
    pub(super) fn settings(&self) -> String {
        let Self { steps, batch, rate, regularizer, warm_start, seed } = self;
        format!(
            "steps={steps}, batch={batch}, learning-rate={rate}, regularizer={regularizer}, \
             warm-start={warm_start}, seed={seed}"
        )
    }

    pub(super) const fn annealing(&self) -> Annealing {
        Annealing { steps: self.steps, warm_start: self.warm_start, weight: self.regularizer }
    }
}

/// A number that is positive and finite.
pub(super) fn positive(what: &'static str, value: f64) -> Result<f64, ConfigError> {
    // Beyond these, squares in f32 are zero or infinite.
    if (1e-15..=1e15).contains(&value) {
        Ok(value)
    } else {
        Err(ConfigError::Number { what, value, rule: "10^-15 to 10^15" })
    }
}

impl fmt::Display for AdaRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "adaround({})", self.settings())
    }
}

impl LayerMethod for AdaRound {
    /// # Errors
    ///
    /// [`ConfigError::Conflict`] for codes of vectors.
    fn begin<'p>(&self, problem: &'p Problem<'_>) -> Result<Box<dyn Run + 'p>> {
        check_scheme(problem.scheme())?;
        if problem.groups().iter().all(|statistics| statistics.diagonal().iter().all(|&sum| sum == 0.0)) {
            return Ok(Box::new(NearestRun { problem, stop: StopReason::NearestIsBest }));
        }
        Ok(Box::new(AdaRoundRun::new(*self, problem)?))
    }
}

/// Some rows at work.
struct Bundle {
    group: usize,
    /// Counted from the first of the group.
    rows: Range<usize>,
    rounding: Rounding,
    errors: Array2<f32>,
    gradient: Array2<f32>,
    buffers: Buffers,
    /// The error of the last batch.
    loss: f64,
}

struct AdaRoundRun<'p, 'a> {
    method: AdaRound,
    problem: &'p Problem<'a>,
    sources: Vec<Source<'p>>,
    bundles: Vec<Bundle>,
    per_step: usize,
    done: usize,
}

/// The rows of each group in bundles: the group, and the rows counted from its first.
pub(super) fn bundles(problem: &Problem<'_>) -> Vec<(usize, Range<usize>)> {
    let (per_group, per_bundle) =
        (problem.outputs_per_group(), (BUNDLE / problem.inputs().max(1)).clamp(8, 256));
    let of_group = |group| {
        (0..per_group).step_by(per_bundle).map(move |from| (group, from..(from + per_bundle).min(per_group)))
    };
    (0..problem.groups().len()).flat_map(of_group).collect()
}

/// Updates of one step of a run, so that it can be interrupted soon.
pub(super) fn per_step(problem: &Problem<'_>, steps: usize) -> usize {
    let weights = problem.outputs().saturating_mul(problem.inputs()).max(1);
    (STEP / weights).clamp(1, steps.div_ceil(100))
}

impl<'p, 'a> AdaRoundRun<'p, 'a> {
    fn new(method: AdaRound, problem: &'p Problem<'a>) -> Result<Self> {
        let groups = problem.groups().iter().enumerate();
        let sources: Vec<Source<'p>> =
            groups.map(|(group, statistics)| Source::new(problem, group, statistics, method.batch)).collect();
        let nearest = fields(problem.nearest().codes());
        let mut made = Vec::new();
        for (group, rows) in bundles(problem) {
            let Some(source) = sources.get(group) else { continue };
            let first = group * problem.outputs_per_group();
            let all = first + rows.start..first + rows.end;
            let rounding = if problem.arithmetic() == FloatType::F64 {
                Rounding::new::<f64>(problem.on_their_grids(), all, &nearest, &source.inputs)?
            } else {
                Rounding::new::<f32>(problem.on_their_grids(), all, &nearest, &source.inputs)?
            };
            let shape = (rows.len(), problem.inputs());
            let mut errors = Array2::zeros(shape);
            rounding.errors(errors.as_slice_mut().unwrap_or_default());
            let buffers = source.buffers(rows.len(), method.seed);
            let gradient = Array2::zeros(shape);
            made.push(Bundle { group, rows, rounding, errors, gradient, buffers, loss: f64::NAN });
        }
        Ok(Self {
            method,
            problem,
            sources,
            bundles: made,
            per_step: per_step(problem, method.steps),
            done: 0,
        })
    }
}

impl Run for AdaRoundRun<'_, '_> {
    fn step(&mut self) -> Result<Progress> {
        let to = (self.done + self.per_step).min(self.method.steps);
        let (sources, annealing, rate, done) =
            (&self.sources, self.method.annealing(), self.method.rate, self.done);
        let weights = self.problem.outputs().saturating_mul(self.problem.inputs());
        let width = sources.iter().map(Source::width).max().unwrap_or_default();
        let work = weights.saturating_mul((to - done).saturating_mul(1 + width / 16));
        parallel::map_chunks(
            &mut self.bundles,
            1,
            work,
            || (),
            |(), _, bundles| {
                for bundle in bundles {
                    let Some(source) = sources.get(bundle.group) else { continue };
                    for step in done..to {
                        let point = Point {
                            errors: bundle.errors.view(),
                            rows: bundle.rows.clone(),
                            correction: &[],
                        };
                        bundle.loss =
                            source.gradient(&point, &mut bundle.buffers, &mut bundle.gradient, &mut []);
                        let gradient = bundle.gradient.as_slice().unwrap_or_default();
                        let errors = bundle.errors.as_slice_mut().unwrap_or_default();
                        bundle.rounding.step(Adam::new(rate, step + 1), annealing.at(step), gradient, errors);
                    }
                }
            },
        );
        self.done = to;
        let sum: f64 = self.bundles.iter().map(|bundle| bundle.loss).sum();
        let loss = sum / self.problem.outputs().max(1) as f64;
        Ok(Progress { step: to, steps: self.method.steps, loss, finished: to == self.method.steps })
    }

    fn solution(&self) -> Result<Solution> {
        let codes = self.bundles.iter().flat_map(|bundle| bundle.rounding.codes()).collect();
        let finished = self.done == self.method.steps;
        let dead = self.sources.iter().flat_map(|source| &source.inputs.live).filter(|&&live| !live).count();
        let stop = if finished { StopReason::StepLimit } else { StopReason::Interrupted };
        let course = Course { iterations: self.done, stop, dead_inputs: dead };
        judge(self.problem, Proposal { codes, grids: None, correction: None }, &course)
    }
}
