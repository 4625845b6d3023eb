//! Block reconstruction: up or down for all weights of several layers at once.
//!
//! Li, Gong, Tan, Yang, Hu, Zhang, Yu, Wang and Gu 2021, *BRECQ: Pushing the limit of post-training quantization by block
//! reconstruction*, algorithm 1: the rounding of AdaRound, and the outputs of a block in place of those of a layer,
//!
//! ```text
//! argmin_V  L(W̃(V)) + λ Σ (1 − |2h(V) − 1|^β)
//! ```
//!
//! where L is the loss of the [`Block`](super::Block).
//!
//! λ is in units of what one weight costs that is off by a whole step, on average over its row, as for AdaRound. Here it
//! follows from the gradients g of the block with the errors E of a layer's nearest codes added to its weights, and
//! subtracted from them:
//!
//! ```text
//! ½ E · H E  ≈  ¼ E · (g(W + E) − g(W − E)),
//! ```
//!
//! row by row, over the squares of the errors in steps.

use core::fmt;
use core::ops::ControlFlow;

use ndarray::{Array2, ArrayD};

use crate::element::FloatType;
use crate::error::{Error, Result};
use crate::kernel::adam::Adam;

use super::ada_round::AdaRound;
use super::block::{BlockProblem, BlockSolution, whole_gradients};
use super::gradient::{Draw, InputData};
use super::report::{Progress, Report, StopReason};
use super::rounding::{Rounding, check_scheme};
use super::rows::fields;
use super::weights::Weights;

/// Rows that cost less than this share of the average are taken for average ones: they may be dead in all samples.
const LEAST_UNIT: f64 = 0.01;

/// BRECQ: every weight of a block goes to the level above or to the one below it, whichever serves the block's outputs best.
///
/// Works on every scheme but vectors, and on every granularity. All layers keep their nearest codes if these are better.
///
/// Time: for each step that of [`Block::descend`](super::Block::descend) with a batch, and about 3 ns for each weight.
/// Memory: 44 bytes for each weight, and what the block needs.
///
/// ```
/// use lowbit::layer::{Activation, BlockProblem, Brecq, Chain, Stage, Weights};
/// use lowbit::prelude::*;
/// use ndarray::Array2;
///
/// let first = Array2::from_shape_fn((16, 8), |(i, j)| ((7 * i + 3 * j) as f32 * 0.37).sin());
/// let second = Array2::from_shape_fn((4, 16), |(i, j)| ((5 * i + 2 * j) as f32 * 0.73).cos());
/// let inputs = Array2::from_shape_fn((100, 8), |(i, j)| ((i * (j + 1)) as f32 * 0.11).cos());
///
/// // What should come out is what comes out of the float layers.
/// let stages = [Stage::dense().activation(Activation::Relu), Stage::dense()];
/// let chain = Chain::new(&inputs, stages)?;
/// let outputs = chain.outputs(&[first.view().into_dyn(), second.view().into_dyn()])?;
/// let chain = chain.targets(&outputs)?;
///
/// let recipe = Uniform::symmetric(BitWidth::new(3)?).granularity(PerChannel::new(Axis(0)));
/// let layers = [Weights::new(&first, &recipe)?, Weights::new(&second, &recipe)?];
/// let problem = BlockProblem::new(&chain, &layers)?;
/// let solution = Brecq::new().steps(1000)?.solve(&problem)?;
/// assert_eq!(solution.tensors.len(), 2);
/// assert!(solution.report.after < 0.7 * solution.report.before);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brecq {
    rounding: AdaRound,
}

impl Default for Brecq {
    fn default() -> Self {
        let rounding = AdaRound::new();
        Self { rounding: rounding.steps(20_000).unwrap_or(rounding) }
    }
}

impl From<AdaRound> for Brecq {
    /// With the settings of AdaRound.
    fn from(rounding: AdaRound) -> Self {
        Self { rounding }
    }
}

impl Brecq {
    /// 20 000 steps (as published); the other settings are those of [`AdaRound::new`].
    pub fn new() -> Self {
        Self::default()
    }

    /// With another number of steps. All other settings are reached by [`From<AdaRound>`](AdaRound).
    ///
    /// # Errors
    ///
    /// As [`AdaRound::steps`].
    pub fn steps(self, steps: usize) -> Result<Self> {
        Ok(Self { rounding: self.rounding.steps(steps)? })
    }

    /// A run on `problem`, at its beginning.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Conflict`](crate::ConfigError::Conflict) for codes of vectors; the errors of the block.
    pub fn begin<'p, 'w>(&self, problem: &BlockProblem<'p, 'w>) -> Result<BrecqRun<'p, 'w>> {
        BrecqRun::new(self.rounding, *problem)
    }

    /// The solution of `problem`.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn solve(&self, problem: &BlockProblem<'_, '_>) -> Result<BlockSolution> {
        self.solve_with(problem, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`solve`](Self::solve), with `progress` called after each step: it may break off, and the solution is then the
    /// one found so far.
    ///
    /// # Errors
    ///
    /// As [`solve`](Self::solve).
    pub fn solve_with(
        &self,
        problem: &BlockProblem<'_, '_>,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<BlockSolution> {
        let mut run = self.begin(problem)?;
        loop {
            let now = run.step()?;
            if progress(&now).is_break() || now.finished {
                return run.solution();
            }
        }
    }
}

impl fmt::Display for Brecq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "brecq({})", self.rounding.settings())
    }
}

/// A layer whose rounding is learned.
#[derive(Debug)]
struct Part {
    rounding: Rounding,
    float: Vec<f32>,
    /// `W̃ − W`
    errors: Vec<f32>,
}

impl Part {
    fn new(layer: &Weights<'_>, float: &ArrayD<f32>) -> Result<Self> {
        check_scheme(layer.scheme())?;
        let (nearest, rows) = (fields(layer.nearest().codes()), 0..layer.outputs());
        // Inputs that are always zero have no gradient, and the regularizer alone goes to the nearest codes.
        let data = InputData { mean_square: 1.0, live: vec![true; layer.inputs()] };
        let rounding = if layer.arithmetic() == FloatType::F64 {
            Rounding::new::<f64>(layer, rows, &nearest, &data)?
        } else {
            Rounding::new::<f32>(layer, rows, &nearest, &data)?
        };
        let mut errors = vec![0.0; float.len()];
        rounding.errors(&mut errors);
        Ok(Self { rounding, float: float.iter().copied().collect(), errors })
    }

    /// What one weight of each row costs, from its errors and from what they change about the gradient.
    fn set_units(&mut self, errors: &Array2<f32>, differences: &ArrayD<f64>) {
        let products = errors.iter().zip(differences).map(|(&error, by)| f64::from(error) * by / 4.0);
        let products: Vec<f64> = products.collect();
        let steps: Vec<f64> = self.rounding.squared_steps().collect();
        let mean = products.iter().sum::<f64>() / steps.iter().sum::<f64>();
        // Without a curvature that an activation hides, or that is not a number, all weights count alike.
        let mean = if mean > 0.0 && mean.is_finite() { mean } else { 1.0 };
        let rows = products.chunks(errors.ncols().max(1)).zip(&steps);
        let units = rows.map(|(products, steps)| products.iter().sum::<f64>() / steps);
        let known = |unit: f64| {
            if unit > LEAST_UNIT * mean { unit } else { mean }
        };
        self.rounding.set_units(units.map(known));
    }

    /// Writes the weights on their way.
    fn write(&self, weights: &mut ArrayD<f32>) {
        let values = self.float.iter().zip(&self.errors);
        weights.iter_mut().zip(values).for_each(|(weight, (&float, &error))| *weight = float + error);
    }
}

/// [`Brecq`] at work on a block: can be left at any step, give the solution so far, and go on.
#[derive(Debug)]
pub struct BrecqRun<'p, 'w> {
    settings: AdaRound,
    problem: BlockProblem<'p, 'w>,
    parts: Vec<Part>,
    weights: Vec<ArrayD<f32>>,
    gradients: Vec<ArrayD<f32>>,
    draw: Draw,
    done: usize,
}

impl<'p, 'w> BrecqRun<'p, 'w> {
    fn new(settings: AdaRound, problem: BlockProblem<'p, 'w>) -> Result<Self> {
        let mut weights: Vec<ArrayD<f32>> =
            problem.layers().iter().map(BlockProblem::float).collect::<Result<_>>()?;
        let mut parts = Vec::with_capacity(weights.len());
        for (index, layer) in problem.layers().iter().enumerate() {
            let Some(float) = weights.get(index).cloned() else { continue };
            let mut part = Part::new(layer, &float)?;
            let errors = layer.errors::<f32>(0..layer.outputs(), layer.nearest())?;
            let mut slopes = |sign: f32| {
                if let Some(weights) = weights.get_mut(index) {
                    let values = float.iter().zip(&errors);
                    weights
                        .iter_mut()
                        .zip(values)
                        .for_each(|(to, (&from, &error))| *to = from + sign * error);
                }
                Ok::<_, Error>(whole_gradients(problem.block(), &weights)?.swap_remove(index))
            };
            let differences = slopes(1.0)? - slopes(-1.0)?;
            if let Some(weights) = weights.get_mut(index) {
                weights.assign(&float);
            }
            part.set_units(&errors, &differences);
            parts.push(part);
        }
        let gradients = weights.iter().map(|weights| ArrayD::zeros(weights.raw_dim())).collect();
        let draw = Draw::new(problem.block().samples(), settings.batch, settings.seed);
        Ok(Self { settings, problem, parts, weights, gradients, draw, done: 0 })
    }

    /// Goes one step further, or nowhere once finished.
    ///
    /// # Errors
    ///
    /// Those of the block.
    pub fn step(&mut self) -> Result<Progress> {
        let steps = self.settings.steps;
        let mut loss = f64::NAN;
        if self.done < steps {
            self.draw.next();
            for (part, weights) in self.parts.iter().zip(&mut self.weights) {
                part.write(weights);
            }
            loss = self.problem.block().descend(&self.weights, &self.draw.picked, &mut self.gradients)?;
            let adam = Adam::new(self.settings.rate, self.done + 1);
            let regularizer = self.settings.annealing().at(self.done);
            for (part, gradient) in self.parts.iter_mut().zip(&self.gradients) {
                let gradient = gradient.as_slice().unwrap_or_default();
                part.rounding.step(adam, regularizer, gradient, &mut part.errors);
            }
            self.done += 1;
        }
        Ok(Progress { step: self.done, steps, loss, finished: self.done == steps })
    }

    /// The solution so far.
    ///
    /// # Errors
    ///
    /// Those of the block.
    pub fn solution(&self) -> Result<BlockSolution> {
        let layers = self.problem.layers();
        let tensors = self.parts.iter().zip(layers).map(|(part, layer)| {
            let codes: Vec<u16> = part.rounding.codes().collect();
            layer.with_fields(&codes, None)
        });
        let mut tensors = tensors.collect::<Result<Vec<_>>>()?;
        let (before, mut after) =
            (self.problem.before(), self.problem.loss(&tensors.iter().collect::<Vec<_>>())?);
        let mut kept = 0;
        // Written so that NaN keeps the nearest codes.
        if !(after < before) {
            tensors = self.problem.nearest().into_iter().cloned().collect();
            after = before;
            kept = layers.iter().map(Weights::outputs).sum();
        }
        let nearest = self.problem.held_out_loss(&self.problem.nearest())?;
        let chosen = self.problem.held_out_loss(&tensors.iter().collect::<Vec<_>>())?;
        let finished = self.done == self.settings.steps;
        let stop = if finished { StopReason::StepLimit } else { StopReason::Interrupted };
        let report = Report {
            held_out: nearest.zip(chosen),
            after,
            iterations: self.done,
            rows_kept: kept,
            ..Report::of_nearest(before, kept, stop)
        };
        Ok(BlockSolution { tensors, report })
    }
}
