//! One view of the problem that every method solves: weights, data and a recipe.

use core::ops::Range;
use std::sync::OnceLock;

use ndarray::{Array1, Array2, ArrayRef, Dimension};

use crate::element::{Element, FloatType, Real};
use crate::error::{ConfigError, DataError, Error, Result, ShapeError};
use crate::parallel;
use crate::recipe::{Frozen, Recipe};
use crate::tensor::{Encoding, QuantizedTensor, Scheme, TensorView};

use super::baseline::{BUNDLE, Baseline};
use super::matrix::quadratic_forms;
use super::objective;
use super::samples::Samples;
use super::statistics::Statistics;
use super::weights::Weights;

/// A linear layer whose weights are to get codes: its weights, statistics of its inputs, and the recipe that says which
/// grids there are.
///
/// | layer | weights | statistics |
/// |---|---|---|
/// | dense | [outputs, inputs] | of its inputs |
/// | convolution | [outputs, channels, height, width] | of its [patches](super::Patches) |
/// | grouped or depthwise convolution | as a convolution | one for each group of outputs |
/// | embedding | [entries, width] | how often each entry is used |
///
/// The first axis of the weights counts outputs, all others together are the inputs of one output, in row-major order.
///
/// The *loss* is the mean squared error of the outputs, over samples and outputs:
/// `tr((W − Ŵ) XᵀX (W − Ŵ)ᵀ) / (samples · outputs)`.
///
/// Making a problem quantizes the weights to the nearest codes once: the [baseline](Self::nearest) that no method may be
/// worse than.
///
/// ```
/// use lowbit::layer::{Gptq, LayerMethod, Problem, Statistics};
/// use lowbit::prelude::*;
/// use ndarray::{Array2, Ix2};
///
/// let weights = Array2::from_shape_fn((16, 32), |(i, j)| ((7 * i + 3 * j) as f32 * 0.37).sin());
/// let inputs = Array2::from_shape_fn((100, 32), |(i, j)| ((i * (j / 4 + 1)) as f32 * 0.11).cos());
/// let mut statistics = Statistics::new(32)?;
/// statistics.observe(&inputs)?;
///
/// let recipe = Uniform::symmetric(BitWidth::new(4)?).granularity(PerChannel::new(Axis(0)));
/// let problem = Problem::dense(&weights, &statistics, &recipe)?;
/// let solution = Gptq::new().solve(&problem)?;
/// assert!(solution.report.after < 0.5 * solution.report.before);
/// let restored = solution.tensor.dequantize::<f32, Ix2>()?;
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Problem<'a> {
    weights: Weights<'a>,
    data: Data<'a>,
    held_out: Option<Data<'a>>,
    samples: &'a [Samples],
    held_out_samples: &'a [Samples],
    /// Measured when a method first needs it.
    baseline: OnceLock<Baseline>,
}

/// What is known of the inputs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Data<'a> {
    /// Statistics for each of as many equal groups of outputs.
    Groups(&'a [Statistics]),
    /// How often each row is used.
    Uses(&'a [u64]),
}

impl<'a> Problem<'a> {
    /// A layer whose outputs all see the same inputs: dense, or a convolution by its patches.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] unless the weights have the inputs of the statistics; [`DataError::NoData`] for statistics of no
    /// samples; [`DataError::NotANumber`] and [`DataError::Infinite`] for weights that are not finite, whatever the
    /// recipe's policy; [`ConfigError::Conflict`] for a rounding other than to the nearest; and the errors of the recipe.
    pub fn dense<A: Element, D: Dimension>(
        weights: &'a ArrayRef<A, D>,
        statistics: &'a Statistics,
        recipe: &Recipe,
    ) -> Result<Self> {
        Self::grouped(weights, core::slice::from_ref(statistics), recipe)
    }

    /// A layer whose outputs are in equal groups, each with inputs of its own: statistics for each group. A depthwise
    /// convolution has one for each channel.
    ///
    /// # Errors
    ///
    /// As [`dense`](Self::dense), and [`ShapeError::RegionCount`] unless the outputs can be shared out equally.
    pub fn grouped<A: Element, D: Dimension>(
        weights: &'a ArrayRef<A, D>,
        groups: &'a [Statistics],
        recipe: &Recipe,
    ) -> Result<Self> {
        Self::new(Weights::new(weights, recipe)?, Data::Groups(groups))
    }

    /// The rows of a table, of which one is the output for each sample: `uses` says how often each was, on some data.
    ///
    /// The inputs are the unit vectors, so `XᵀX` is the diagonal of `uses`, and the nearest codes are the best there are
    /// on given grids: every method returns them.
    ///
    /// # Errors
    ///
    /// As [`dense`](Self::dense); [`ShapeError::Length`] unless there is a number for each row.
    pub fn embedding<A: Element, D: Dimension>(
        weights: &'a ArrayRef<A, D>,
        uses: &'a [u64],
        recipe: &Recipe,
    ) -> Result<Self> {
        Self::new(Weights::new(weights, recipe)?, Data::Uses(uses))
    }

    /// As [`grouped`](Self::grouped), on grids that are given.
    ///
    /// # Errors
    ///
    /// As [`grouped`](Self::grouped), and [`ShapeError::RegionCount`] unless there is a grid for each region.
    pub fn on_grids<A: Element, D: Dimension>(
        weights: &'a ArrayRef<A, D>,
        groups: &'a [Statistics],
        frozen: &Frozen,
    ) -> Result<Self> {
        Self::new(Weights::on_grids(weights, frozen)?, Data::Groups(groups))
    }

    fn new(weights: Weights<'a>, data: Data<'a>) -> Result<Self> {
        check_data(&data, weights.values().shape(), weights.outputs(), weights.inputs())?;
        Ok(Self {
            weights,
            data,
            held_out: None,
            samples: &[],
            held_out_samples: &[],
            baseline: OnceLock::new(),
        })
    }

    /// The same problem with statistics of other samples, one for each group, on which the solution is judged but not
    /// chosen.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] unless they are of the form of the problem's own; [`DataError::NoData`] for no samples.
    pub fn held_out(mut self, groups: &'a [Statistics]) -> Result<Self> {
        let data = Data::Groups(groups);
        if matches!(self.data, Data::Uses(_)) {
            let setting = "statistics of inputs";
            return Err(ConfigError::Conflict { setting, to: "an embedding" }.into());
        }
        check_data(&data, self.weights().shape(), self.outputs(), self.inputs())?;
        self.held_out = Some(data);
        Ok(self)
    }

    /// The same problem with samples of the inputs, one for each group of outputs, for methods that learn by batches. Other
    /// methods do not look at them.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] unless they are of the form of the problem; [`ConfigError::Conflict`] for an embedding.
    pub fn samples(self, groups: &'a [Samples]) -> Result<Self> {
        self.check_samples(groups)?;
        Ok(Self { samples: groups, ..self })
    }

    /// The same problem with other samples, one for each group of outputs, on which methods that learn by batches are judged:
    /// with targets or an activation, statistics that are [held out](Self::held_out) are of another error than these
    /// methods make small.
    ///
    /// # Errors
    ///
    /// As [`samples`](Self::samples).
    pub fn held_out_samples(self, groups: &'a [Samples]) -> Result<Self> {
        self.check_samples(groups)?;
        Ok(Self { held_out_samples: groups, ..self })
    }

    fn check_samples(&self, groups: &[Samples]) -> Result<()> {
        if matches!(self.data, Data::Uses(_)) {
            return Err(ConfigError::Conflict { setting: "samples of inputs", to: "an embedding" }.into());
        }
        if groups.len() != self.groups().len() {
            return Err(ShapeError::Length { found: groups.len(), expected: self.groups().len() }.into());
        }
        let outputs = self.outputs_per_group();
        Ok(groups.iter().try_for_each(|samples| samples.check(self.inputs(), outputs))?)
    }

    /// The samples of each group of outputs, if there are any.
    pub const fn given_samples(&self) -> &'a [Samples] {
        self.samples
    }

    /// The mean squared error of `tensor` against the targets of the [samples](Self::samples), through their activation,
    /// with `correction` added to the bias: what methods make small that learn from samples. Without samples, or where they
    /// have neither targets nor an activation, it is the error of the statistics: [`loss`](Self::loss) if there is no
    /// correction.
    ///
    /// # Errors
    ///
    /// As [`loss`](Self::loss); [`ShapeError::Length`] unless the correction has a number for each output.
    pub fn sample_loss(&self, tensor: &QuantizedTensor, correction: Option<&Array1<f64>>) -> Result<f64> {
        let correction = objective::correction(self, correction)?;
        if self.groups().is_empty() {
            return self.loss(tensor);
        }
        let rows = objective::row_losses(self, tensor, correction)?;
        Ok(mean(rows.iter().sum(), self.outputs() as f64))
    }

    /// As [`sample_loss`](Self::sample_loss), on the samples that were held out, or by the statistics that were; `None` if
    /// there are neither.
    ///
    /// # Errors
    ///
    /// As [`sample_loss`](Self::sample_loss).
    pub fn held_out_sample_loss(
        &self,
        tensor: &QuantizedTensor,
        correction: Option<&Array1<f64>>,
    ) -> Result<Option<f64>> {
        if self.held_out_samples.is_empty() {
            return self.held_out_loss_with(tensor, correction);
        }
        let correction = objective::correction(self, correction)?;
        let rows = objective::sample_losses(self, self.held_out_samples, tensor, correction)?;
        Ok(Some(mean(rows.iter().sum(), self.outputs() as f64)))
    }

    /// The weights.
    pub const fn weights(&self) -> &TensorView<'a> {
        self.weights.values()
    }

    /// The number of outputs: the length of the first axis.
    pub const fn outputs(&self) -> usize {
        self.weights.outputs()
    }

    /// The number of inputs of one output.
    pub const fn inputs(&self) -> usize {
        self.weights.inputs()
    }

    /// The statistics of each group of outputs; none for an embedding.
    pub const fn groups(&self) -> &'a [Statistics] {
        match self.data {
            Data::Groups(groups) => groups,
            Data::Uses(_) => &[],
        }
    }

    /// The number of outputs that share statistics.
    pub fn outputs_per_group(&self) -> usize {
        self.outputs().checked_div(self.groups().len()).unwrap_or(self.outputs())
    }

    /// The recipe.
    pub const fn recipe(&self) -> &Recipe {
        self.weights.recipe()
    }

    /// The weights rounded to the nearest codes: the baseline.
    pub const fn nearest(&self) -> &QuantizedTensor {
        self.weights.nearest()
    }

    /// The weights with their grids.
    pub(super) const fn on_their_grids(&self) -> &Weights<'a> {
        &self.weights
    }

    pub(super) const fn has_given_grids(&self) -> bool {
        self.weights.has_given_grids()
    }

    pub(super) const fn scheme(&self) -> &Scheme {
        self.weights.scheme()
    }

    pub(super) const fn encoding(&self) -> &Encoding {
        self.weights.encoding()
    }

    pub(super) fn arithmetic(&self) -> FloatType {
        self.weights.arithmetic()
    }

    /// `W − Ŵ` for some rows.
    pub(super) fn errors<T: Real>(&self, rows: Range<usize>, tensor: &QuantizedTensor) -> Result<Array2<T>> {
        self.weights.errors(rows, tensor)
    }

    /// The weights of some rows, one after the other.
    pub(super) fn rows<'s, T: Real>(&'s self, rows: Range<usize>, scratch: &'s mut Vec<T>) -> &'s [T] {
        self.weights.rows(rows, scratch)
    }

    /// The loss of `tensor` in place of the weights: the mean squared error of the outputs, over samples and outputs.
    /// The square of the inputs for each output.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`] for a tensor of another shape.
    pub fn loss(&self, tensor: &QuantizedTensor) -> Result<f64> {
        self.loss_on(&self.data, tensor)
    }

    /// As [`loss`](Self::loss), on the samples that were held out; `None` if there are none.
    ///
    /// # Errors
    ///
    /// As [`loss`](Self::loss).
    pub fn held_out_loss(&self, tensor: &QuantizedTensor) -> Result<Option<f64>> {
        self.held_out.as_ref().map(|data| self.loss_on(data, tensor)).transpose()
    }

    fn loss_on(&self, data: &Data<'_>, tensor: &QuantizedTensor) -> Result<f64> {
        let (found, expected) = (tensor.shape(), self.weights().shape());
        if found != expected {
            let (found, expected) = (found.to_vec(), expected.to_vec());
            return Err(ShapeError::Mismatch { found, expected }.into());
        }
        let mut sum = 0.0;
        match data {
            Data::Groups(groups) => {
                let per_group = self.outputs_per_group();
                for (group, statistics) in groups.iter().enumerate() {
                    let rows = group * per_group..(group + 1) * per_group;
                    let work = rows.len().saturating_mul(self.inputs()).saturating_mul(self.inputs()) / 64;
                    let sums = parallel::map_indices(
                        rows.len().div_ceil(BUNDLE),
                        work,
                        || (),
                        |(), index| {
                            let from = rows.start + index * BUNDLE;
                            let errors = self.errors::<f64>(from..(from + BUNDLE).min(rows.end), tensor)?;
                            Ok(quadratic_forms(errors.view(), statistics.upper()).iter().sum::<f64>())
                        },
                    );
                    let squares = sums.into_iter().sum::<Result<f64>>()?;
                    sum += squares / statistics.count() as f64;
                }
                Ok(mean(sum, self.outputs() as f64))
            }
            Data::Uses(uses) => {
                for (row, &uses) in uses.iter().enumerate() {
                    let errors = self.errors::<f64>(row..row + 1, tensor)?;
                    sum += uses as f64 * errors.iter().map(|error| error * error).sum::<f64>();
                }
                Ok(mean(sum, uses.iter().map(|&uses| uses as f64).sum::<f64>() * self.inputs() as f64))
            }
        }
    }

    /// As [`held_out_loss`](Self::held_out_loss), with `correction` added to the bias.
    ///
    /// # Errors
    ///
    /// As [`sample_loss`](Self::sample_loss).
    pub fn held_out_loss_with(
        &self,
        tensor: &QuantizedTensor,
        correction: Option<&Array1<f64>>,
    ) -> Result<Option<f64>> {
        match (&self.held_out, objective::correction(self, correction)?) {
            (Some(Data::Groups(groups)), Some(correction)) => {
                let rows = objective::statistics_losses(self, groups, tensor, Some(correction))?;
                Ok(Some(mean(rows.iter().sum(), self.outputs() as f64)))
            }
            _ => self.held_out_loss(tensor),
        }
    }

    /// What the nearest codes cost each row. Measured once, however many methods are tried.
    pub(super) fn baseline(&self) -> Result<&Baseline> {
        if let Some(baseline) = self.baseline.get() {
            return Ok(baseline);
        }
        let baseline = Baseline::new(self)?;
        Ok(self.baseline.get_or_init(|| baseline))
    }
}

/// A sum over a number of terms as their mean; zero for none.
fn mean(sum: f64, count: f64) -> f64 {
    if count > 0.0 { sum / count } else { 0.0 }
}

fn check_data(data: &Data<'_>, shape: &[usize], outputs: usize, inputs: usize) -> Result<(), Error> {
    match data {
        Data::Groups(groups) => {
            if groups.is_empty() || !outputs.is_multiple_of(groups.len()) {
                let (given, expected) = (groups.len(), outputs);
                return Err(ShapeError::RegionCount { given, expected, shape: shape.to_vec() }.into());
            }
            for (region, statistics) in groups.iter().enumerate() {
                if statistics.inputs() != inputs {
                    let (found, expected) = (statistics.inputs(), inputs);
                    return Err(ShapeError::Length { found, expected }.into());
                }
                if statistics.count() == 0 {
                    return Err(DataError::NoData { region }.into());
                }
            }
            Ok(())
        }
        Data::Uses(uses) if uses.len() != outputs => {
            Err(ShapeError::Length { found: uses.len(), expected: outputs }.into())
        }
        Data::Uses(uses) if uses.iter().all(|&uses| uses == 0) => Err(DataError::NoData { region: 0 }.into()),
        Data::Uses(_) => Ok(()),
    }
}
