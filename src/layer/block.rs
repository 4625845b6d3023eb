//! Several layers at once: what they compute together should stay what it is.
//!
//! Li, Gong, Tan, Yang, Hu, Zhang, Yu, Wang and Gu 2021, *BRECQ: Pushing the limit of post-training quantization by block
//! reconstruction*. A network's loss depends on a weight mostly through the other weights of its block, so that the outputs
//! of the block, and not of each layer, are what is kept (equation 10):
//!
//! ```text
//! argmin_Ŵ  E[ Δzᵀ diag((∂L/∂z)²) Δz ]
//! ```
//!
//! with z the outputs of the block and L the loss of the network.

use core::fmt;

use ndarray::{ArrayD, IxDyn};

use crate::error::{DataError, Result, ShapeError};
use crate::tensor::QuantizedTensor;

use super::report::Report;
use super::weights::Weights;

/// Samples that are looked at together where all of them are.
const CHUNK: usize = 256;

/// Some layers that work together, on samples of their inputs: what other weights would cost, and which way is down.
///
/// [`Chain`](super::Chain) is one of dense and convolutional layers, one after the other. A block of another form, with a
/// bypass or a pooling, implements two functions.
///
/// Weights and gradients are a tensor for each layer, of its shape, in standard layout.
///
/// ```
/// use lowbit::Result;
/// use lowbit::layer::Block;
/// use ndarray::{Array2, ArrayD, Ix2};
///
/// /// A residual block of one layer: `x + Wx`, which should be `x + W₀x`.
/// #[derive(Debug)]
/// struct Residual {
///     inputs: Array2<f32>,
///     outputs: Array2<f32>,
/// }
///
/// impl Block for Residual {
///     fn samples(&self) -> usize {
///         self.inputs.nrows()
///     }
///
///     fn descend(
///         &self,
///         weights: &[ArrayD<f32>],
///         samples: &[usize],
///         gradients: &mut [ArrayD<f32>],
///     ) -> Result<f64> {
///         let ([weights], [gradient]) = (weights, gradients) else { return Ok(f64::NAN) };
///         let weights = weights.view().into_dimensionality::<Ix2>().expect("a matrix");
///         let x = self.inputs.select(ndarray::Axis(0), samples);
///         let errors = &x + &x.dot(&weights.t()) - self.outputs.select(ndarray::Axis(0), samples);
///         gradient.assign(&(2.0 / errors.len() as f32 * errors.t().dot(&x)));
///         Ok(f64::from(errors.mapv(|error| error * error).mean().unwrap_or(0.0)))
///     }
/// }
/// ```
pub trait Block: fmt::Debug + Sync {
    /// The number of samples.
    fn samples(&self) -> usize;

    /// The mean squared error of the outputs over the samples with the numbers `samples` and over the outputs, with these
    /// weights. Writes its gradients by the weights.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] for weights that the block cannot have.
    fn descend(
        &self,
        weights: &[ArrayD<f32>],
        samples: &[usize],
        gradients: &mut [ArrayD<f32>],
    ) -> Result<f64>;

    /// As [`descend`](Self::descend), without the gradients.
    ///
    /// # Errors
    ///
    /// As [`descend`](Self::descend).
    fn loss(&self, weights: &[ArrayD<f32>], samples: &[usize]) -> Result<f64> {
        let mut gradients: Vec<ArrayD<f32>> =
            weights.iter().map(|weights| ArrayD::zeros(weights.raw_dim())).collect();
        self.descend(weights, samples, &mut gradients)
    }
}

/// The layers of a block whose weights are to get codes together.
///
/// The *loss* is that of the [`Block`], over all its samples.
#[derive(Debug, Clone, Copy)]
pub struct BlockProblem<'p, 'w> {
    block: &'p dyn Block,
    layers: &'p [Weights<'w>],
    held_out: Option<&'p dyn Block>,
    before: f64,
}

/// What came of the layers of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSolution {
    /// The weights of each layer with the codes that were chosen.
    pub tensors: Vec<QuantizedTensor>,
    /// What it cost and gained. Outputs are those of all layers.
    pub report: Report,
}

impl<'p, 'w> BlockProblem<'p, 'w> {
    /// The layers of `block`, in its order. Measures what their nearest codes cost.
    ///
    /// # Errors
    ///
    /// [`DataError::NoData`] for a block of no samples; [`ShapeError`] for weights that it cannot have.
    pub fn new(block: &'p dyn Block, layers: &'p [Weights<'w>]) -> Result<Self> {
        let made = Self { block, layers, held_out: None, before: f64::NAN };
        let nearest: Vec<&QuantizedTensor> = layers.iter().map(Weights::nearest).collect();
        Ok(Self { before: made.loss_on(block, &nearest)?, ..made })
    }

    /// The same problem with a block of other samples, on which the solution is judged but not chosen.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn held_out(self, block: &'p dyn Block) -> Result<Self> {
        self.loss_on(block, &self.nearest())?;
        Ok(Self { held_out: Some(block), ..self })
    }

    /// The block.
    pub const fn block(&self) -> &'p dyn Block {
        self.block
    }

    /// The layers.
    pub const fn layers(&self) -> &'p [Weights<'w>] {
        self.layers
    }

    /// The nearest codes of all layers.
    pub fn nearest(&self) -> Vec<&'p QuantizedTensor> {
        self.layers.iter().map(Weights::nearest).collect()
    }

    /// The loss of the block with `tensors` in place of the weights.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`] for a tensor of another shape; [`ShapeError::Length`] unless there is one for each layer.
    pub fn loss(&self, tensors: &[&QuantizedTensor]) -> Result<f64> {
        self.loss_on(self.block, tensors)
    }

    /// As [`loss`](Self::loss), on the samples that were held out; `None` if there are none.
    ///
    /// # Errors
    ///
    /// As [`loss`](Self::loss).
    pub fn held_out_loss(&self, tensors: &[&QuantizedTensor]) -> Result<Option<f64>> {
        self.held_out.map(|block| self.loss_on(block, tensors)).transpose()
    }

    /// The loss of the nearest codes.
    pub(super) const fn before(&self) -> f64 {
        self.before
    }

    /// The float weights of a layer.
    pub(super) fn float(layer: &Weights<'_>) -> Result<ArrayD<f32>> {
        let mut scratch = Vec::new();
        let values = layer.rows::<f32>(0..layer.outputs(), &mut scratch).to_vec();
        array(layer, values)
    }

    fn loss_on(&self, block: &dyn Block, tensors: &[&QuantizedTensor]) -> Result<f64> {
        let (found, expected) = (tensors.len(), self.layers.len());
        if found != expected {
            return Err(ShapeError::Length { found, expected }.into());
        }
        let mut weights = Vec::with_capacity(tensors.len());
        for (tensor, layer) in tensors.iter().zip(self.layers) {
            let (found, expected) = (tensor.shape(), layer.values().shape());
            if found != expected {
                return Err(
                    ShapeError::Mismatch { found: found.to_vec(), expected: expected.to_vec() }.into()
                );
            }
            weights.push(tensor.dequantize::<f32, IxDyn>()?);
        }
        whole_loss(block, &weights)
    }
}

/// Values of a layer as a tensor of its shape.
fn array(layer: &Weights<'_>, values: Vec<f32>) -> Result<ArrayD<f32>> {
    let shape = layer.values().shape();
    let too_large = |_| ShapeError::TooLarge { shape: shape.to_vec() };
    Ok(ArrayD::from_shape_vec(IxDyn(shape), values).map_err(too_large)?)
}

/// The loss over all samples.
pub(super) fn whole_loss(block: &dyn Block, weights: &[ArrayD<f32>]) -> Result<f64> {
    each_chunk(block, |samples| block.loss(weights, samples))
}

/// The gradients over all samples.
pub(super) fn whole_gradients(block: &dyn Block, weights: &[ArrayD<f32>]) -> Result<Vec<ArrayD<f64>>> {
    let zeros = || weights.iter().map(|weights| weights.raw_dim());
    let mut sums: Vec<ArrayD<f64>> = zeros().map(ArrayD::zeros).collect();
    let mut gradients: Vec<ArrayD<f32>> = zeros().map(ArrayD::zeros).collect();
    each_chunk(block, |samples| {
        let loss = block.descend(weights, samples, &mut gradients)?;
        let share = samples.len() as f64 / block.samples() as f64;
        for (sums, gradients) in sums.iter_mut().zip(&gradients) {
            sums.zip_mut_with(gradients, |sum, &gradient| *sum += share * f64::from(gradient));
        }
        Ok(loss)
    })?;
    Ok(sums)
}

/// The mean over all samples of losses of some of them.
fn each_chunk(block: &dyn Block, mut loss: impl FnMut(&[usize]) -> Result<f64>) -> Result<f64> {
    let all: Vec<usize> = (0..block.samples()).collect();
    if all.is_empty() {
        return Err(DataError::NoData { region: 0 }.into());
    }
    let mut sum = 0.0;
    for samples in all.chunks(CHUNK) {
        sum += loss(samples)? * samples.len() as f64;
    }
    Ok(sum / all.len() as f64)
}
