//! Some of a layer's inputs themselves, and what its outputs should be.
//!
//! Statistics say all about the squared error of a layer's outputs, but nothing about what an activation makes of them, or
//! about outputs that belong to other inputs. In *asymmetric* reconstruction (Nagel et al. 2020, *Up or down? Adaptive
//! rounding for post-training quantization*, equation 25) a layer is given the inputs x̂ that the quantized layers before it
//! make, and the outputs that the float network has:
//!
//! ```text
//! argmin_Ŵ  ‖ f(Wx + b) − f(Ŵx̂ + b) ‖²
//! ```

use core::fmt;

use ndarray::{Array1, Array2, ArrayRef, ArrayView2, Axis, Dimension, Ix1};

use crate::element::Element;
use crate::error::{ConfigError, DataError, Result, ShapeError};
use crate::tensor::TensorView;

/// What follows a layer, so that errors that it swallows do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Activation {
    /// Nothing. The default.
    #[default]
    None,
    /// `max(z, 0)`
    Relu,
    /// `min(max(z, 0), 6)`
    Relu6,
}

impl Activation {
    /// What becomes of `z`.
    pub const fn apply(self, z: f64) -> f64 {
        match self {
            Self::None => z,
            Self::Relu => z.max(0.0),
            Self::Relu6 => z.max(0.0).min(6.0),
        }
    }

    /// What becomes of `z`, and by how much it moves when z does: 0 or 1.
    #[inline(always)]
    pub(super) const fn with_slope(self, z: f32) -> (f32, f32) {
        match self {
            Self::None => (z, 1.0),
            Self::Relu if z > 0.0 => (z, 1.0),
            Self::Relu6 if z > 0.0 && z < 6.0 => (z, 1.0),
            Self::Relu6 if z >= 6.0 => (6.0, 0.0),
            Self::Relu | Self::Relu6 => (0.0, 0.0),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
        })
    }
}

/// Inputs of a layer [samples, inputs], in f32, with the outputs [samples, outputs] that they should give.
///
/// [`Problem::samples`](super::Problem::samples) takes one for each group of outputs. Methods that learn by batches draw
/// them from here; with targets or an activation, the squared error against these is what they make small
/// ([`Problem::sample_loss`](super::Problem::sample_loss)).
///
/// ```
/// use lowbit::layer::{Activation, AdaRound, LayerMethod, Problem, Samples, Statistics};
/// use lowbit::prelude::*;
/// use ndarray::Array2;
///
/// let weights = Array2::from_shape_fn((8, 16), |(i, j)| ((7 * i + 3 * j) as f32 * 0.37).sin());
/// let inputs = Array2::from_shape_fn((100, 16), |(i, j)| ((i * (j / 4 + 1)) as f32 * 0.11).cos());
/// // What the layers before this one make of the same data once they are quantized.
/// let quantized = inputs.mapv(|x| (x * 8.0).round() / 8.0);
/// let mut statistics = Statistics::new(16)?;
/// statistics.observe(&quantized)?;
///
/// let samples = Samples::new(&quantized)?.targets(&inputs.dot(&weights.t()))?.activation(Activation::Relu);
/// let recipe = Uniform::symmetric(BitWidth::new(3)?).granularity(PerChannel::new(Axis(0)));
/// let problem = Problem::dense(&weights, &statistics, &recipe)?.samples(std::slice::from_ref(&samples))?;
/// let report = AdaRound::new().steps(500)?.solve(&problem)?.report;
/// assert!(report.after < report.before);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    inputs: Array2<f32>,
    targets: Option<Array2<f32>>,
    bias: Option<Array1<f32>>,
    activation: Activation,
}

impl Samples {
    /// The samples of `inputs`: its last axis holds the inputs, all others count samples.
    ///
    /// # Errors
    ///
    /// [`DataError::NoData`] for no samples; [`DataError::NotANumber`] and [`DataError::Infinite`] for a number that is not
    /// finite in f32, with its index; [`ShapeError::Rank`] for a number without axes.
    pub fn new<A: Element, D: Dimension>(inputs: &ArrayRef<A, D>) -> Result<Self> {
        let inputs = matrix(&TensorView::new(inputs))?;
        if inputs.nrows() == 0 {
            return Err(DataError::NoData { region: 0 }.into());
        }
        Ok(Self { inputs, targets: None, bias: None, activation: Activation::None })
    }

    /// With the outputs that the samples should give, before the activation and with the layer's bias: those of the float
    /// network for its own inputs. Without targets they are those of the weights and the bias for these inputs.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`ShapeError::Length`] unless there is one for each sample.
    pub fn targets<A: Element, D: Dimension>(self, targets: &ArrayRef<A, D>) -> Result<Self> {
        let targets = matrix(&TensorView::new(targets))?;
        if targets.nrows() != self.count() {
            return Err(ShapeError::Length { found: targets.nrows(), expected: self.count() }.into());
        }
        Ok(Self { targets: Some(targets), ..self })
    }

    /// With the layer's bias, one number for each output; zero without. It matters for targets and activations.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn bias<A: Element>(self, bias: &ArrayRef<A, Ix1>) -> Result<Self> {
        let bias = numbers(&TensorView::new(bias))?;
        Ok(Self { bias: Some(bias.into()), ..self })
    }

    /// With an activation, through which errors are measured.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Adds further samples of the same layer, after those that are there.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] for another number of inputs or outputs; [`ConfigError::Conflict`] if only one of both has
    /// targets, or if bias or activation differ. Nothing is added then.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        let conflict =
            |setting| Err(ConfigError::Conflict { setting, to: "samples without the same" }.into());
        if self.activation != other.activation {
            return conflict("an activation");
        }
        if self.bias != other.bias {
            return conflict("a bias");
        }
        if self.targets.is_some() != other.targets.is_some() {
            return conflict("targets");
        }
        let outputs = |samples: &Self| samples.targets.as_ref().map_or(0, Array2::ncols);
        for (found, expected) in
            [(other.inputs.ncols(), self.inputs.ncols()), (outputs(other), outputs(self))]
        {
            if found != expected {
                return Err(ShapeError::Length { found, expected }.into());
            }
        }
        let shape = vec![self.count().saturating_add(other.count()), self.inputs.ncols()];
        let too_large = |_| ShapeError::TooLarge { shape: shape.clone() };
        self.inputs.append(Axis(0), other.inputs.view()).map_err(too_large)?;
        if let (Some(targets), Some(further)) = (&mut self.targets, &other.targets) {
            targets.append(Axis(0), further.view()).map_err(too_large)?;
        }
        Ok(())
    }

    /// The number of samples.
    pub fn count(&self) -> usize {
        self.inputs.nrows()
    }

    /// The samples [samples, inputs].
    pub fn inputs(&self) -> ArrayView2<'_, f32> {
        self.inputs.view()
    }

    /// Whether the error is another one than that of the outputs for the same inputs.
    pub(super) fn is_special(&self) -> bool {
        self.targets.is_some() || self.activation != Activation::None
    }

    pub(super) const fn given_activation(&self) -> Activation {
        self.activation
    }

    pub(super) const fn given_targets(&self) -> Option<&Array2<f32>> {
        self.targets.as_ref()
    }

    pub(super) const fn given_bias(&self) -> Option<&Array1<f32>> {
        self.bias.as_ref()
    }

    /// Checks that the samples are those of `outputs` outputs of `inputs` inputs.
    pub(super) fn check(&self, inputs: usize, outputs: usize) -> Result<(), ShapeError> {
        let targets = self.targets.as_ref().map_or(outputs, Array2::ncols);
        let bias = self.bias.as_ref().map_or(outputs, Array1::len);
        for (found, expected) in [(self.inputs.ncols(), inputs), (targets, outputs), (bias, outputs)] {
            if found != expected {
                return Err(ShapeError::Length { found, expected });
            }
        }
        Ok(())
    }
}

/// The elements of `view` as f32, all of them finite.
pub(super) fn numbers(view: &TensorView<'_>) -> Result<Vec<f32>> {
    let too_large = || ShapeError::TooLarge { shape: view.shape().to_vec() };
    let (mut values, mut scratch) = (Vec::new(), Vec::new());
    values.try_reserve_exact(view.len()).map_err(|_| too_large())?;
    for from in (0..view.len()).step_by(view.chunk_len()) {
        let range = from..(from + view.chunk_len()).min(view.len());
        values.extend_from_slice(view.chunk::<f32>(range, &mut scratch));
    }
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let index = view.index_of(at);
        return Err(match values.get(at) {
            Some(&value) if value.is_infinite() => DataError::Infinite { index, value: f64::from(value) },
            _ => DataError::NotANumber { index },
        }
        .into());
    }
    Ok(values)
}

/// A tensor as a matrix: its last axis are the columns.
fn matrix(view: &TensorView<'_>) -> Result<Array2<f32>> {
    let columns = *view.shape().last().ok_or(ShapeError::Rank { found: 0, expected: 2 })?;
    let rows = view.shape().iter().rev().skip(1).product();
    let too_large = || ShapeError::TooLarge { shape: view.shape().to_vec() };
    Ok(Array2::from_shape_vec((rows, columns), numbers(view)?).map_err(|_| too_large())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use ndarray::{Array3, array};

    #[test]
    fn what_cannot_be_a_sample_is_named() {
        let error = Samples::new(&array![[1.0f64, 2.0], [3.0, f64::NAN]]).unwrap_err();
        assert!(
            matches!(error, Error::Data(DataError::NotANumber { ref index }) if *index == [1, 1]),
            "{error}"
        );
        // Finite in f64 alone.
        let error = Samples::new(&array![[1.0f64, 1e300]]).unwrap_err();
        assert!(
            matches!(error, Error::Data(DataError::Infinite { ref index, .. }) if *index == [0, 1]),
            "{error}"
        );
        let error = Samples::new(&Array2::<f32>::zeros((0, 4))).unwrap_err();
        assert!(matches!(error, Error::Data(DataError::NoData { .. })), "{error}");
        assert!(Samples::new(&ndarray::arr0(1.0f32)).is_err());
        let samples = Samples::new(&Array3::<f32>::zeros((2, 3, 4))).unwrap();
        assert_eq!((samples.count(), samples.inputs().ncols()), (6, 4));
        assert!(samples.clone().targets(&Array2::<f32>::zeros((5, 2))).is_err());
        assert!(samples.clone().bias(&array![f32::NAN]).is_err());
        let samples = samples.targets(&Array2::<f32>::zeros((6, 2))).unwrap();
        assert!(samples.check(4, 2).is_ok());
        assert!(samples.check(3, 2).is_err() && samples.check(4, 3).is_err());
        assert!(samples.bias(&array![1.0, 2.0, 3.0]).unwrap().check(4, 2).is_err());
    }

    #[test]
    fn samples_are_appended_if_they_are_of_the_same_layer() {
        let plain = |rows: usize, from: f32| {
            Samples::new(&Array2::from_shape_fn((rows, 3), |(i, j)| from + (3 * i + j) as f32)).unwrap()
        };
        let with = |rows: usize, from: f32| {
            let samples = plain(rows, from).targets(&Array2::from_elem((rows, 2), from)).unwrap();
            samples.bias(&array![0.5f32, 1.0]).unwrap().activation(Activation::Relu)
        };
        let mut all = with(2, 0.0);
        all.append(&with(1, 6.0)).unwrap();
        assert_eq!(all.inputs(), plain(3, 0.0).inputs());
        assert_eq!(all.given_targets(), Some(&array![[0.0, 0.0], [0.0, 0.0], [6.0, 6.0]]));
        let before = all.clone();
        let mut other = Samples::new(&array![[1.0f32, 2.0]]).unwrap();
        assert!(other.append(&plain(1, 0.0)).is_err());
        for bad in [
            plain(1, 0.0),
            with(1, 0.0).activation(Activation::Relu6),
            with(1, 0.0).bias(&array![0.5f32, 2.0]).unwrap(),
            with(1, 0.0).targets(&array![[1.0f32, 2.0, 3.0]]).unwrap(),
            plain(1, 0.0).bias(&array![0.5f32, 1.0]).unwrap().activation(Activation::Relu),
        ] {
            all.append(&bad).unwrap_err();
            assert_eq!(all, before);
        }
    }

    #[test]
    fn slopes_are_those_of_the_activation() {
        for activation in [Activation::None, Activation::Relu, Activation::Relu6] {
            for i in -40..=160 {
                let z = i as f32 / 20.0 + 0.01;
                let (value, slope) = activation.with_slope(z);
                assert_eq!(f64::from(value), activation.apply(f64::from(z)));
                let rise =
                    (activation.apply(f64::from(z) + 1e-4) - activation.apply(f64::from(z) - 1e-4)) / 2e-4;
                assert!((f64::from(slope) - rise).abs() < 1e-6, "{activation} {z}");
            }
        }
    }
}
