//! A block of dense and convolutional layers, one after the other.
//!
//! With `X_l` the patches of the images `x_l` as columns,
//!
//! ```text
//! z_l  =  W_l X_l + b_l             x_{l+1}  =  f_l(z_l)
//! L    =  1/NM Σ g (x_{L+1} − y)²
//! ```
//!
//! over N samples of M outputs, with targets y and, in the paper on block reconstruction (Li et al. 2021, *BRECQ*,
//! equation 10), the squared gradients g of the network's loss by the outputs.

mod pass;
#[cfg(test)]
mod tests;

use ndarray::{Array1, Array2, ArrayD, ArrayRef, ArrayViewD, Dimension, Ix1};

use crate::element::Element;
use crate::error::{DataError, Result, ShapeError};
use crate::tensor::TensorView;

use super::block::Block;
use super::patches::Patches;
use super::samples::{Activation, numbers};

/// A layer of a [`Chain`]: how its inputs are looked at, its bias and its activation. The weights are given elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// None for a layer that sees all of an image at once.
    patches: Option<Patches>,
    bias: Option<Array1<f32>>,
    activation: Activation,
}

impl Stage {
    /// A dense layer with weights [outputs, inputs]. Of images it sees all channels, rows and columns, in this order.
    pub const fn dense() -> Self {
        Self { patches: None, bias: None, activation: Activation::None }
    }

    /// A convolution with weights [outputs, channels / groups, height, width], whose height and width are those of the
    /// patches.
    pub const fn convolution(patches: Patches) -> Self {
        Self { patches: Some(patches), bias: None, activation: Activation::None }
    }

    /// With a bias, one number for each output; zero without.
    ///
    /// # Errors
    ///
    /// [`DataError::NotANumber`] and [`DataError::Infinite`] for a number that is not finite in f32.
    pub fn bias<A: Element>(self, bias: &ArrayRef<A, Ix1>) -> Result<Self> {
        let bias = numbers(&TensorView::new(bias))?;
        Ok(Self { bias: Some(bias.into()), ..self })
    }

    /// With an activation; none without.
    pub const fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }
}

/// Dense and convolutional layers, one after the other, with samples of their inputs and of what should come out.
///
/// As in asymmetric reconstruction, the inputs may be those that the quantized layers before make, and the targets the
/// outputs of the float layers for their own inputs: a chain of these gives them ([`outputs`](Self::outputs)).
///
/// Time of a pass with gradients: three products of the size of each layer for each sample, but two for the first.
/// Memory: the inputs, and for each batch the patches of all layers.
///
/// ```
/// use lowbit::layer::{Activation, Chain, Patches, Stage};
/// use ndarray::{Array2, Array4};
///
/// // A depthwise and a pointwise convolution of images of 8 channels.
/// let depthwise = Array4::from_shape_fn((8, 1, 3, 3), |(o, _, i, j)| ((9 * o + 3 * i + j) as f32).sin());
/// let pointwise = Array4::from_shape_fn((16, 8, 1, 1), |(o, c, _, _)| ((7 * o + c) as f32).cos());
/// let images = Array4::from_shape_fn((10, 8, 6, 6), |(n, c, i, j)| ((n + c * i + 2 * j) as f32 * 0.3).cos());
/// let chain = Chain::new(
///     &images,
///     [
///         Stage::convolution(Patches::new([3, 3]).padding([1, 1]).groups(8)).activation(Activation::Relu),
///         Stage::convolution(Patches::new([1, 1])),
///     ],
/// )?;
/// let outputs = chain.outputs(&[depthwise.view().into_dyn(), pointwise.view().into_dyn()])?;
/// assert_eq!(outputs.shape(), [10, 16, 6, 6]);
/// let chain = chain.targets(&outputs)?;
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// [samples, channels · height · width]
    inputs: Array2<f32>,
    channels: usize,
    sides: [usize; 2],
    /// Whether there were no sides in the inputs.
    flat: bool,
    stages: Vec<Stage>,
    /// [samples, outputs]; zeros if there are none.
    targets: Option<Array2<f32>>,
    importance: Option<Array2<f32>>,
}

impl Chain {
    /// The layers `stages` with inputs [samples, inputs] or [samples, channels, height, width].
    ///
    /// # Errors
    ///
    /// [`ShapeError::Rank`] for inputs of another rank; [`DataError::NoData`] for no samples; [`DataError::NotANumber`] and
    /// [`DataError::Infinite`] for a number that is not finite in f32.
    pub fn new<A: Element, D: Dimension>(
        inputs: &ArrayRef<A, D>,
        stages: impl Into<Vec<Stage>>,
    ) -> Result<Self> {
        let none = Array2::zeros((0, 0));
        let made = Self {
            inputs: none,
            channels: 0,
            sides: [1, 1],
            flat: true,
            stages: stages.into(),
            targets: None,
            importance: None,
        };
        made.inputs(inputs)
    }

    /// The same layers with other inputs: those that the quantized layers before make, say. Targets stay.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`ShapeError::Length`] unless there are as many samples as targets.
    pub fn inputs<A: Element, D: Dimension>(self, inputs: &ArrayRef<A, D>) -> Result<Self> {
        let (channels, sides, flat) = match *inputs.shape() {
            [_, channels] => (channels, [1, 1], true),
            [_, channels, height, width] => (channels, [height, width], false),
            _ => return Err(ShapeError::Rank { found: inputs.ndim(), expected: 4 }.into()),
        };
        let inputs = by_sample(&TensorView::new(inputs))?;
        if inputs.nrows() == 0 {
            return Err(DataError::NoData { region: 0 }.into());
        }
        for given in self.targets.iter().chain(&self.importance) {
            check_length(inputs.nrows(), given.nrows())?;
        }
        Ok(Self { inputs, channels, sides, flat, ..self })
    }

    /// With the outputs that the samples should give, after the last activation: [samples, outputs], or
    /// [samples, outputs, height, width] of a convolution. Without targets they are zeros.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`ShapeError::Length`] unless there is one for each sample. Their number of outputs is
    /// checked when weights are seen.
    pub fn targets<A: Element, D: Dimension>(self, targets: &ArrayRef<A, D>) -> Result<Self> {
        let targets = by_sample(&TensorView::new(targets))?;
        check_length(targets.nrows(), self.inputs.nrows())?;
        Ok(Self { targets: Some(targets), ..self })
    }

    /// With a weight for the squared error of each output of each sample, in the form of the targets: the squared gradient
    /// of the network's loss by the output, for BRECQ. All are 1 without.
    ///
    /// # Errors
    ///
    /// As [`targets`](Self::targets); [`DataError::Importance`] for a weight below zero.
    pub fn importance<A: Element, D: Dimension>(self, importance: &ArrayRef<A, D>) -> Result<Self> {
        let view = TensorView::new(importance);
        let importance = by_sample(&view)?;
        check_length(importance.nrows(), self.inputs.nrows())?;
        if let Some((at, &value)) = importance.iter().enumerate().find(|(_, value)| **value < 0.0) {
            return Err(DataError::Importance { index: view.index_of(at), value: f64::from(value) }.into());
        }
        Ok(Self { importance: Some(importance), ..self })
    }

    /// The outputs of all samples with these weights: [samples, outputs], or [samples, outputs, height, width] of
    /// convolutions.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] for weights that the layers cannot have.
    pub fn outputs<A: Element>(&self, weights: &[ArrayViewD<'_, A>]) -> Result<ArrayD<f32>> {
        let narrow = |weights: &ArrayViewD<'_, A>| {
            let values = weights.iter().map(|&value| value.to_f32()).collect();
            ArrayD::from_shape_vec(weights.raw_dim(), values).unwrap_or_default()
        };
        let weights: Vec<ArrayD<f32>> = weights.iter().map(narrow).collect();
        let forms = self.forms(&weights, 1)?;
        let channels = self.output_channels(&forms);
        let [height, width] = forms.last().map_or(self.sides, |form| form.unfold.places());
        let samples: Vec<usize> = (0..self.inputs.nrows()).collect();
        let parts = self.each_bundle(&weights, &samples, |some| {
            let (outputs, _) = self.forward(&self.forms(&weights, some.len())?, some, false)?;
            // Samples first.
            let plane = height * width;
            let starts = (0..some.len())
                .flat_map(|sample| (0..channels).map(move |channel| (channel * some.len() + sample) * plane));
            let planes = starts.flat_map(|start| outputs.get(start..start + plane).unwrap_or_default());
            Ok(planes.copied().collect::<Vec<f32>>())
        })?;
        let flat = self.stages.last().map_or(self.flat, |stage| stage.patches.is_none());
        let shape = [samples.len(), channels, height, width];
        let shape = if flat { &shape[..2] } else { &shape[..] };
        let too_large = |_| ShapeError::TooLarge { shape: shape.to_vec() };
        Ok(ArrayD::from_shape_vec(shape, parts.concat()).map_err(too_large)?)
    }
}

impl Block for Chain {
    fn samples(&self) -> usize {
        self.inputs.nrows()
    }

    fn descend(
        &self,
        weights: &[ArrayD<f32>],
        samples: &[usize],
        gradients: &mut [ArrayD<f32>],
    ) -> Result<f64> {
        let factor = 1.0 / samples.len().saturating_mul(self.outputs_per_sample(weights)?).max(1) as f64;
        let parts =
            self.each_bundle(weights, samples, |some| self.descend_some(weights, some, factor as f32))?;
        gradients.iter_mut().for_each(|gradient| gradient.fill(0.0));
        let mut sum = 0.0;
        for (part, by_weights) in parts {
            sum += part;
            for (all, part) in gradients.iter_mut().zip(&by_weights) {
                all.iter_mut().zip(part).for_each(|(all, part)| *all += part);
            }
        }
        Ok(sum * factor)
    }

    fn loss(&self, weights: &[ArrayD<f32>], samples: &[usize]) -> Result<f64> {
        let factor = 1.0 / samples.len().saturating_mul(self.outputs_per_sample(weights)?).max(1) as f64;
        let of_some = |some: &[usize]| {
            let forms = self.forms(weights, some.len())?;
            let (mut outputs, _) = self.forward(&forms, some, false)?;
            self.errors(&mut outputs, self.output_channels(&forms), some, 1.0)
        };
        Ok(self.each_bundle(weights, samples, of_some)?.iter().sum::<f64>() * factor)
    }
}

/// A tensor as a matrix with a row for each index of the first axis.
fn by_sample(view: &TensorView<'_>) -> Result<Array2<f32>> {
    let rows = *view.shape().first().ok_or(ShapeError::Rank { found: 0, expected: 2 })?;
    let columns = view.len().checked_div(rows).unwrap_or_default();
    let too_large = |_| ShapeError::TooLarge { shape: view.shape().to_vec() };
    Ok(Array2::from_shape_vec((rows, columns), numbers(view)?).map_err(too_large)?)
}

const fn check_length(found: usize, expected: usize) -> Result<(), ShapeError> {
    if found == expected { Ok(()) } else { Err(ShapeError::Length { found, expected }) }
}
