//! Weights, scales and bias that are learned together, through the rounding.
//!
//! Hubara, Nahshan, Hanani, Banner and Soudry 2020, *Improving post training neural quantization: layer-wise calibration and
//! integer programming* (equation 2):
//!
//! ```text
//! argmin_{V, s, b}  ‖ WX + b₀ − Q_s(W + V)X − b ‖²
//! ```
//!
//! The offsets V are free, so that a weight may end up more than one level from where it was, which is where more is to be
//! had at few bits, and what overfits few samples. The steps are those of Adam, but for the bias, whose best value for given
//! weights is known.
//!
//! Codes come and go on the way, so the best ones of each row are remembered.

use core::fmt;
use core::ops::Range;

use ndarray::{Array1, Array2, s};

use crate::error::{ConfigError, Result};
use crate::kernel::adam::Adam;
use crate::parallel;
use crate::tensor::{AffineGrid, AffineScheme, Grid, Grids, ScaleStorage, Scheme};

use super::ada_round::{bundles, per_step, positive};
use super::descent::descent_setters;
use super::free_row::Row;
use super::gradient::{Buffers, Point, Source};
use super::matrix::quadratic_forms;
use super::objective::{Against, Course, Proposal, judge};
use super::places::row_segments;
use super::problem::Problem;
use super::report::{Progress, StopReason};
use super::rows::fields;
use super::rtn::NearestRun;
use super::samples::Samples;
use super::{LayerMethod, Run, Solution};

/// How often rows are judged while batches are drawn.
const CHECKS: usize = 50;
/// AdaQuant: weights, scales and a correction of the bias, learned together.
///
/// For affine grids of every granularity. Of each row the nearest codes stay, with their grid and without correction, if
/// these are better.
///
/// **Scales** are learned by default where that is possible: where each region lies within one row and scales are not
/// quantized together, but not on grids that were [given](Problem::on_grids). Learned scales are rounded to their storage
/// type in every step, so that the codes are those of the stored ones. Zero points stay.
///
/// **The bias correction** is learned by default: [`Solution::bias_correction`] is to be added to the layer's bias, and
/// the losses of the report count it.
///
/// Gradients come from statistics or from samples as in [`AdaRound`](super::AdaRound). With all data every step is
/// judged, with batches fifty of them.
///
/// Time for n inputs, m outputs and batches of b: `2bmn` products for each step, or `mn²` with all data, and about 3 ns
/// for each weight. Memory: 44 bytes for each weight, and 4 bytes for each pair of inputs with all data.
///
/// ```
/// use lowbit::layer::{AdaQuant, LayerMethod, Problem, Statistics};
/// use lowbit::prelude::*;
/// use ndarray::Array2;
///
/// let weights = Array2::from_shape_fn((8, 16), |(i, j)| ((7 * i + 3 * j) as f32 * 0.37).sin());
/// let inputs = Array2::from_shape_fn((100, 16), |(i, j)| ((i * (j / 4 + 1)) as f32 * 0.11).cos());
/// let mut statistics = Statistics::new(16)?;
/// statistics.observe(&inputs)?;
/// let recipe = Uniform::symmetric(BitWidth::new(3)?).granularity(PerChannel::new(Axis(0)));
/// let problem = Problem::dense(&weights, &statistics, &recipe)?;
/// let solution = AdaQuant::new().steps(1000)?.solve(&problem)?;
/// assert!(solution.report.after < 0.5 * solution.report.before);
/// assert_eq!(solution.bias_correction.map(|bias| bias.len()), Some(8));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaQuant {
    steps: usize,
    batch: usize,
    rate: f64,
    scale_rate: f64,
    scales: Option<bool>,
    bias: bool,
    seed: u64,
}

impl Default for AdaQuant {
    fn default() -> Self {
        Self { steps: 3000, batch: 32, rate: 0.005, scale_rate: 0.001, scales: None, bias: true, seed: 0 }
    }
}

impl AdaQuant {
    /// 3000 steps of batches of 32, a learning rate of 0.005 steps of the grid for weights and of 0.001 (as a share) for
    /// scales, which both fall to zero by a cosine; scales where possible, the bias, and seed 0.
    pub fn new() -> Self {
        Self::default()
    }

    descent_setters! {
        /// With another learning rate for weights, in steps of their grid.
    }

    /// With another learning rate for scales, as a share of each.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Number`] unless it is positive and finite.
    pub fn scale_learning_rate(self, rate: f64) -> Result<Self, ConfigError> {
        Ok(Self { scale_rate: positive("learning rate", rate)?, ..self })
    }

    /// Whether scales are learned. If so, on grids that are given too, as a point to start from; and it is an error where
    /// they cannot be.
    pub const fn learn_scales(self, learn: bool) -> Self {
        Self { scales: Some(learn), ..self }
    }

    /// Whether a correction of the bias is learned.
    pub const fn learn_bias(self, learn: bool) -> Self {
        Self { bias: learn, ..self }
    }

    /// With another seed for the order of the samples.
    pub const fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// What learning rates are multiplied with in step `step`.
    fn decay(&self, step: usize) -> f64 {
        0.5 * (1.0 + (core::f64::consts::PI * step as f64 / self.steps as f64).cos())
    }

    /// Whether scales are to be learned.
    fn learns_scales(&self, problem: &Problem<'_>, scheme: &AffineScheme) -> Result<bool, ConfigError> {
        let to = match self.scales {
            Some(false) => return Ok(false),
            None if problem.has_given_grids() => return Ok(false),
            _ if matches!(scheme.scales(), ScaleStorage::TwoLevel(_)) => "scales that are quantized together",
            _ if !regions_are_within_rows(problem) => "regions of more than one row",
            _ => return Ok(true),
        };
        match self.scales {
            None => Ok(false),
            Some(_) => Err(ConfigError::Conflict { setting: "learning scales", to }),
        }
    }
}

impl fmt::Display for AdaQuant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, batch, rate, scale_rate, scales, bias, seed } = self;
        write!(
            f,
            "adaquant(steps={steps}, batch={batch}, learning-rate={rate}, scale-learning-rate={scale_rate}, "
        )?;
        if let Some(scales) = scales {
            write!(f, "learn-scales={scales}, ")?;
        }
        write!(f, "learn-bias={bias}, seed={seed})")
    }
}

fn regions_are_within_rows(problem: &Problem<'_>) -> bool {
    let (tiling, inputs) = (problem.nearest().tiling(), problem.inputs());
    (0..problem.outputs()).all(|row| {
        let runs = row_segments(tiling, inputs, row);
        runs.iter()
            .flat_map(|segment| segment.runs())
            .all(|(region, run)| tiling.region_len(region) == run.len())
    })
}

impl LayerMethod for AdaQuant {
    /// # Errors
    ///
    /// [`ConfigError::Conflict`] for grids that are not affine; and, where scales are explicitly to be learned, for regions
    /// of more than one row and scales that are quantized together.
    fn begin<'p>(&self, problem: &'p Problem<'_>) -> Result<Box<dyn Run + 'p>> {
        let Scheme::Affine(scheme) = problem.scheme() else {
            let setting = "a rounding to the nearest multiple of a learned step";
            return Err(ConfigError::Conflict { setting, to: "grids that are not affine" }.into());
        };
        let learns_scales = self.learns_scales(problem, scheme)?;
        if problem.groups().iter().all(|statistics| statistics.diagonal().iter().all(|&sum| sum == 0.0)) {
            return Ok(Box::new(NearestRun { problem, stop: StopReason::NearestIsBest }));
        }
        Ok(Box::new(AdaQuantRun::new(*self, problem, scheme, learns_scales)?))
    }
}

/// Some rows at work.
struct Bundle {
    group: usize,
    /// Counted from the first of the group.
    range: Range<usize>,
    rows: Vec<Row>,
    errors: Array2<f32>,
    gradient: Array2<f32>,
    correction: Vec<f32>,
    by_correction: Vec<f32>,
    buffers: Buffers,
    loss: f64,
}

struct AdaQuantRun<'p, 'a> {
    method: AdaQuant,
    problem: &'p Problem<'a>,
    scheme: &'p AffineScheme,
    learns_scales: bool,
    sources: Vec<Source<'p>>,
    bundles: Vec<Bundle>,
    per_step: usize,
    done: usize,
}

impl<'p, 'a> AdaQuantRun<'p, 'a> {
    fn new(
        method: AdaQuant,
        problem: &'p Problem<'a>,
        scheme: &'p AffineScheme,
        learns_scales: bool,
    ) -> Result<Self> {
        let groups = problem.groups().iter().enumerate();
        let sources: Vec<Source<'p>> =
            groups.map(|(group, statistics)| Source::new(problem, group, statistics, method.batch)).collect();
        let mut made = Vec::new();
        let inputs = problem.inputs();
        for (group, range) in bundles(problem) {
            let Some(source) = sources.get(group) else { continue };
            let first = group * problem.outputs_per_group();
            let all = first + range.start..first + range.end;
            let mut scratch = Vec::new();
            let weights = problem.rows::<f64>(all.clone(), &mut scratch);
            let rows = all.zip(weights.chunks(inputs.max(1)));
            let rows: Vec<Row> = rows
                .map(|(row, weights)| Row::new(problem, row, weights, source.inputs.mean_square))
                .collect();
            made.push(Bundle {
                group,
                errors: Array2::zeros((rows.len(), inputs)),
                gradient: Array2::zeros((rows.len(), inputs)),
                correction: if method.bias { vec![0.0; rows.len()] } else { Vec::new() },
                by_correction: if method.bias { vec![0.0; rows.len()] } else { Vec::new() },
                buffers: source.buffers(rows.len(), method.seed),
                range,
                rows,
                loss: f64::NAN,
            });
        }
        let per_step = per_step(problem, method.steps);
        Ok(Self { method, problem, scheme, learns_scales, sources, bundles: made, per_step, done: 0 })
    }

    /// Step `step` of a bundle.
    fn advance(&self, source: &Source<'_>, bundle: &mut Bundle, step: usize) {
        let storage = self.scheme.scales();
        for (row, mut errors) in bundle.rows.iter_mut().zip(bundle.errors.rows_mut()) {
            row.round(self.scheme, errors.as_slice_mut().unwrap_or_default());
        }
        let point = Point {
            errors: bundle.errors.view(),
            rows: bundle.range.clone(),
            correction: &bundle.correction,
        };
        bundle.loss =
            source.gradient(&point, &mut bundle.buffers, &mut bundle.gradient, &mut bundle.by_correction);
        let decay = self.method.decay(step);
        // The second derivative by the correction is two, so that a whole step leads to the best one of all data.
        let share = if source.is_all() { 1.0 } else { (0.1 * decay) as f32 };
        for (correction, by_correction) in bundle.correction.iter_mut().zip(&bundle.by_correction) {
            *correction -= share * by_correction / 2.0;
        }
        if source.is_all() {
            for (index, row) in bundle.rows.iter_mut().enumerate() {
                let (errors, gradient) = (bundle.errors.row(index), bundle.gradient.row(index));
                let mut loss = f64::from(errors.dot(&gradient)) / 2.0;
                let correction = bundle.correction.get(index).copied().unwrap_or_default();
                if let Some(&slope) = bundle.by_correction.get(index) {
                    // At the best correction, which is half a slope away from where the error was.
                    let before = f64::from(correction + slope / 2.0);
                    loss += (before - f64::from(slope) / 2.0) * f64::from(slope) / 2.0;
                }
                row.judge(loss, correction, storage);
            }
        } else if step.is_multiple_of(self.method.steps.div_ceil(CHECKS)) || step + 1 == self.method.steps {
            self.check(bundle);
        }
        let adam = Adam::new(self.method.rate * decay, step + 1);
        let scale_adam = self.learns_scales.then(|| Adam::new(self.method.scale_rate * decay, step + 1));
        for (row, gradient) in bundle.rows.iter_mut().zip(bundle.gradient.rows()) {
            row.step(self.scheme, adam, scale_adam, gradient.as_slice().unwrap_or_default());
        }
    }

    /// Judges the rows of a bundle on all data.
    fn check(&self, bundle: &mut Bundle) {
        let (problem, group) = (self.problem, bundle.group);
        let Some(statistics) = problem.groups().get(group) else { return };
        let errors = bundle.errors.mapv(|error| -f64::from(error));
        let correction: Array1<f64> = bundle.correction.iter().map(|&c| f64::from(c)).collect();
        let correction = (!correction.is_empty()).then_some(correction);
        let samples = problem.given_samples().get(group).filter(|samples| samples.is_special());
        let losses = match samples {
            Some(samples) => {
                let first = group * problem.outputs_per_group();
                let rows = first + bundle.range.start..first + bundle.range.end;
                let against = Against::new(problem, samples, group, rows);
                against.losses(samples, errors.view(), correction.as_ref().map(|all| all.view()))
            }
            None => {
                let mut losses = quadratic_forms(errors.view(), statistics.upper());
                losses.iter_mut().for_each(|loss| *loss /= statistics.count() as f64);
                if let (true, Some(mean)) = (correction.is_some(), statistics.mean()) {
                    // The best correction takes the mean away.
                    let means = errors.dot(&mean);
                    losses.iter_mut().zip(means).for_each(|(loss, mean)| *loss -= mean * mean);
                }
                losses
            }
        };
        for (index, (row, loss)) in bundle.rows.iter_mut().zip(losses).enumerate() {
            let correction = bundle.correction.get(index).copied().unwrap_or_default();
            row.judge(loss, correction, self.scheme.scales());
        }
    }

    /// The grids of all regions with the scales of the best codes.
    fn grids(&self) -> Result<Option<Grids>> {
        if !self.learns_scales {
            return Ok(None);
        }
        let nearest = self.problem.nearest();
        let mut all: Vec<Option<Grid>> =
            (0..nearest.grids().len()).map(|region| nearest.grid(region)).collect();
        for row in self.bundles.iter().flat_map(|bundle| &bundle.rows) {
            for (part, &scale) in row.parts.iter().zip(&row.best.scales) {
                if let Some(place) = all.get_mut(part.region) {
                    *place = Some(Grid::Affine(AffineGrid { scale, ..part.grid }));
                }
            }
        }
        let mut grids = Grids::new(self.problem.scheme());
        all.into_iter().flatten().try_for_each(|grid| grids.push(grid))?;
        grids.finish()?;
        Ok(Some(grids))
    }

    /// The correction of all rows: the best for these codes where that is known, else as it was learned.
    fn correction(&self, codes: &[u16], grids: Option<Grids>) -> Result<Option<Array1<f64>>> {
        if !self.method.bias {
            return Ok(None);
        }
        if self.problem.given_samples().iter().any(Samples::is_special) {
            let rows = self.bundles.iter().flat_map(|bundle| &bundle.rows);
            return Ok(Some(rows.map(|row| f64::from(row.best.correction)).collect()));
        }
        let tensor = self.problem.on_their_grids().with_fields(codes, grids)?;
        let mut all = Array1::zeros(self.problem.outputs());
        for bundle in &self.bundles {
            let first = bundle.group * self.problem.outputs_per_group();
            let rows = first + bundle.range.start..first + bundle.range.end;
            let mean = self.problem.groups().get(bundle.group).and_then(super::Statistics::mean);
            if let Some(mean) = mean {
                let errors = self.problem.errors(rows.clone(), &tensor)?;
                all.slice_mut(s![rows]).assign(&errors.dot(&mean));
            }
        }
        Ok(Some(all))
    }
}

impl Run for AdaQuantRun<'_, '_> {
    fn step(&mut self) -> Result<Progress> {
        let to = (self.done + self.per_step).min(self.method.steps);
        let mut bundles = core::mem::take(&mut self.bundles);
        let (this, done) = (&*self, self.done);
        let weights = self.problem.outputs().saturating_mul(self.problem.inputs());
        let width = self.sources.iter().map(Source::width).max().unwrap_or_default();
        let work = weights.saturating_mul((to - done).saturating_mul(1 + width / 16));
        parallel::map_chunks(
            &mut bundles,
            1,
            work,
            || (),
            |(), _, bundles| {
                for bundle in bundles {
                    if let Some(source) = this.sources.get(bundle.group) {
                        (done..to).for_each(|step| this.advance(source, bundle, step));
                    }
                }
            },
        );
        self.bundles = bundles;
        self.done = to;
        let sum: f64 = self.bundles.iter().map(|bundle| bundle.loss).sum();
        let loss = sum / self.problem.outputs().max(1) as f64;
        Ok(Progress { step: to, steps: self.method.steps, loss, finished: to == self.method.steps })
    }

    fn solution(&self) -> Result<Solution> {
        let scheme = self.problem.scheme();
        let mask = ((1u32 << scheme.bits().get()) - 1) as u16;
        let nearest = fields(self.problem.nearest().codes());
        let inputs = self.problem.inputs().max(1);
        let rows = self.bundles.iter().flat_map(|bundle| &bundle.rows);
        let mut codes = Vec::with_capacity(nearest.len());
        for (row, nearest) in rows.zip(nearest.chunks(inputs)) {
            if row.best.loss.is_finite() {
                codes.extend(row.best.codes.iter().map(|&code| code as i32 as u16 & mask));
            } else {
                codes.extend_from_slice(nearest);
            }
        }
        let grids = self.grids()?;
        let correction = self.correction(&codes, grids.clone())?;
        let dead = self.sources.iter().flat_map(|source| &source.inputs.live).filter(|&&live| !live).count();
        let finished = self.done == self.method.steps;
        let stop = if finished { StopReason::StepLimit } else { StopReason::Interrupted };
        let course = Course { iterations: self.done, stop, dead_inputs: dead };
        judge(self.problem, Proposal { codes, grids, correction }, &course)
    }
}
