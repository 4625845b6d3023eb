//! Codes fitted to a layer's data: methods that look at what a layer does with its inputs, not at its weights alone.
//!
//! A [`Problem`] is a linear layer with [`Statistics`] of its inputs and a recipe. A [`LayerMethod`] chooses codes that
//! hurt the layer's *output* least, and returns a [`Solution`]: a [`QuantizedTensor`] and a [`Report`].
//!
//! | method | idea | cost for n inputs, m outputs |
//! |---|---|---|
//! | [`Nearest`] | the nearest code of each weight: the baseline | mn² to measure the loss |
//! | [`Obq`] | one weight after the other, the cheapest first; the rest makes up for it | mn³ |
//! | [`Gptq`] | the same in one order for all outputs, by blocks | mn² + n³/6 |
//! | [`Lattice`] | K best partial solutions instead of one, then descent by single codes | Kmn² |
//! | [`AdaRound`] | up or down for all weights at once, by gradient descent | 2bmn for each step with batches of b |
//! | [`AdaQuant`] | weights, scales and bias learned through the rounding | as AdaRound |
//!
//! [`Brecq`] does for a [`Block`] of several layers what AdaRound does for one: a [`BlockProblem`] is their [`Weights`] and
//! the block, which is a [`Chain`] of dense and convolutional layers or whatever a user says.
//!
//! # Overfitting
//!
//! Statistics of a few samples per input describe those samples better than the layer's inputs, and the better a method
//! solves the problem, the more it fits what is particular to them (see [`Lattice`] for figures). [`Problem::held_out`]
//! takes statistics of other samples, and every report then says what the solution is worth there. More samples help
//! most; more damping helps with few.
//!
//! # What is promised
//!
//! No output (row of the weights) has a larger squared error on the calibration data than with the nearest codes: where a
//! method loses, the row keeps its nearest codes, and the report counts such rows. For a block the same holds of the error of
//! its outputs, and of all rows together.

mod ada_quant;
mod ada_round;
mod baseline;
mod block;
mod brecq;
mod chain;
mod descent;
mod factor;
mod free_row;
mod gptq;
mod gradient;
mod lattice;
mod matrix;
mod objective;
mod obq;
mod patches;
mod places;
mod plane;
mod problem;
#[cfg(test)]
mod reference_tests;
mod refresh;
mod report;
mod rounding;
mod row_levels;
mod rows;
mod rtn;
mod samples;
mod statistics;
mod unfold;
mod weights;

use core::fmt;
use core::ops::ControlFlow;

use ndarray::Array1;

use crate::error::Result;
use crate::tensor::QuantizedTensor;

pub use ada_quant::AdaQuant;
pub use ada_round::AdaRound;
pub use block::{Block, BlockProblem, BlockSolution};
pub use brecq::{Brecq, BrecqRun};
pub use chain::{Chain, Stage};
pub use factor::Damping;
pub use gptq::{Gptq, GroupGrids, Order};
pub use lattice::Lattice;
pub use obq::Obq;
pub use patches::Patches;
pub use problem::Problem;
pub use report::{Progress, Report, StopReason};
pub use rtn::Nearest;
pub use samples::{Activation, Samples};
pub use statistics::Statistics;
pub use weights::Weights;

/// What a method made of a problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The weights with the codes that the method chose. Its [`recipe`](QuantizedTensor::recipe) is the one that the
    /// grids come from.
    pub tensor: QuantizedTensor,
    /// What it cost and gained.
    pub report: Report,
    /// What is to be added to the layer's bias, one number for each output, for methods that learn it.
    pub bias_correction: Option<Array1<f64>>,
}

/// A method that chooses the codes of a whole layer.
///
/// Implementations say how a run begins; running to the end, with or without a callback, comes with the trait.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use lowbit::layer::{LayerMethod, Obq, Problem, Statistics, StopReason};
/// use lowbit::prelude::*;
///
/// # let weights = ndarray::Array2::from_shape_fn((600, 8), |(i, j)| ((7 * i + 3 * j) as f32 * 0.37).sin());
/// # let inputs = ndarray::Array2::from_shape_fn((100, 8), |(i, j)| ((i * (j / 4 + 1)) as f32 * 0.11).cos());
/// # let mut statistics = Statistics::new(8)?;
/// # statistics.observe(&inputs)?;
/// # let recipe = Uniform::symmetric(BitWidth::new(3)?).granularity(PerChannel::new(Axis(0)));
/// let problem = Problem::dense(&weights, &statistics, &recipe)?;
/// // To the end, with a look at each step.
/// let solution = Obq::new().solve_with(&problem, &mut |progress| {
///     println!("{} of {}", progress.step, progress.steps);
///     ControlFlow::Continue(())
/// })?;
///
/// // Or step by step: a run can be left at any step, give the solution so far, and go on.
/// let mut run = Obq::new().begin(&problem)?;
/// run.step()?;
/// let so_far = run.solution()?;
/// assert_eq!(so_far.report.stop, StopReason::Interrupted);
/// while !run.step()?.finished {}
/// assert_eq!(run.solution()?, solution);
/// # Ok::<(), lowbit::Error>(())
/// ```
pub trait LayerMethod: fmt::Debug + fmt::Display + Send + Sync {
    /// A run of the method on `problem`, at its beginning.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Conflict`](crate::ConfigError::Conflict) for a recipe that the method cannot serve.
    fn begin<'p>(&self, problem: &'p Problem<'_>) -> Result<Box<dyn Run + 'p>>;

    /// The solution of `problem`.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin) and [`Run::step`].
    fn solve(&self, problem: &Problem<'_>) -> Result<Solution> {
        self.solve_with(problem, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`solve`](Self::solve), with `progress` called after each step: it may break off, and the solution is then the
    /// one found so far.
    ///
    /// # Errors
    ///
    /// As [`solve`](Self::solve).
    fn solve_with(
        &self,
        problem: &Problem<'_>,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Solution> {
        let mut run = self.begin(problem)?;
        loop {
            let now = run.step()?;
            if progress(&now).is_break() || now.finished {
                return run.solution();
            }
        }
    }
}

/// A method at work on a problem.
pub trait Run {
    /// Goes one step further, or nowhere once finished.
    ///
    /// # Errors
    ///
    /// Those of fitting grids, where a method does.
    fn step(&mut self) -> Result<Progress>;

    /// The solution so far: outputs that have not had their turn have their nearest codes.
    ///
    /// # Errors
    ///
    /// None that a run of a method of this crate is known to meet.
    fn solution(&self) -> Result<Solution>;
}
