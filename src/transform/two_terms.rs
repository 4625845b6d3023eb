//! Two terms: what one low-bit tensor leaves is quantized by another.
//!
//! Yoni Choukroun, Eli Kravchik, Fan Yang and Pavel Kisilev 2019, *Low-bit quantization of neural networks for
//! efficient inference*, section 3.3 (multiple low-bit tensors, for the few layers that one is not enough for):
//!
//! ```text
//! W ≈ Q(W) + Q'(W − Q(W)),   minimizing ‖W − Q₁ − Q₂‖²
//! ```
//!
//! With the calibration [`Mse`](crate::calibration::Mse) in both terms (OMSE) each term is the best on its grid for what
//! the other leaves. They are fitted in turns: the first again to `W − Q₂`, the second to `W − Q₁`, as long as the
//! squared error falls.

use core::fmt;

use ndarray::{Array, ArrayD, ArrayRef, Dimension, IxDyn, Zip};

use crate::element::Element;
use crate::error::{Result, ShapeError};
use crate::metrics;
use crate::recipe::Recipe;
use crate::tensor::QuantizedTensor;

use super::bias_correction::same_shape;
use super::errors::errors_of;

/// The sum of two quantized tensors.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::transform::TwoTerms;
/// use ndarray::{Array2, Ix2};
///
/// let weights = Array2::from_shape_fn((16, 64), |(i, j)| ((i * 64 + j) as f32).sin().powi(3));
/// let omse = Uniform::symmetric(BitWidth::new(3)?).calibration(Mse).granularity(PerChannel::new(Axis(0)));
/// let one = omse.quantize(&weights)?.dequantize::<f32, Ix2>()?;
/// let two = TwoTerms::quantize(&weights, &omse, &omse, 4)?;
/// assert_eq!(two.bits_per_element(), 2.0 * (3.0 + 32.0 / 64.0));
/// let gain = sqnr(&weights, &two.dequantize::<f32, Ix2>()?)? - sqnr(&weights, &one)?;
/// assert!(gain > 10.0);
/// let (before, after) = two.errors(&weights, &omse)?;
/// assert!(after < 0.1 * before);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "TwoTermsParts"))]
pub struct TwoTerms {
    first: QuantizedTensor,
    second: QuantizedTensor,
}

/// The fields of [`TwoTerms`] before they are validated.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct TwoTermsParts {
    first: QuantizedTensor,
    second: QuantizedTensor,
}

#[cfg(feature = "serde")]
impl TryFrom<TwoTermsParts> for TwoTerms {
    type Error = ShapeError;

    fn try_from(TwoTermsParts { first, second }: TwoTermsParts) -> Result<Self, ShapeError> {
        Self::new(first, second)
    }
}

impl TwoTerms {
    /// The sum of two terms.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`] unless both have one shape.
    pub fn new(first: QuantizedTensor, second: QuantizedTensor) -> Result<Self, ShapeError> {
        same_shape(second.shape(), first.shape())?;
        Ok(Self { first, second })
    }

    /// Quantizes `tensor` by `first` and what that leaves by `second`, and then both again, in turns, `rounds` times
    /// at most, as long as the squared error falls.
    ///
    /// Never worse than without rounds. Time: two quantizations for each round; memory of four copies of the tensor in
    /// f64.
    ///
    /// # Errors
    ///
    /// Those of [`Recipe::quantize`].
    pub fn quantize<A: Element, D: Dimension>(
        tensor: &ArrayRef<A, D>,
        first: &Recipe,
        second: &Recipe,
        rounds: usize,
    ) -> Result<Self> {
        let tensor = tensor.view().into_dyn();
        let quantized = first.quantize(&tensor)?;
        let rest = left_by::<A>(&tensor, &quantized)?;
        let mut best = Self { second: second.quantize(&rest)?, first: quantized };
        let mut least = best.squared_error(&tensor)?;
        for _ in 0..rounds {
            let again = first.quantize(&left_by::<A>(&tensor, &best.second)?)?;
            let rest = left_by::<A>(&tensor, &again)?;
            let next = Self { second: second.quantize(&rest)?, first: again };
            let error = next.squared_error(&tensor)?;
            if error >= least || error.is_nan() {
                break;
            }
            (best, least) = (next, error);
        }
        Ok(best)
    }

    /// The mean squared error of `tensor` quantized by `recipe` alone, and as the sum of both terms. NaN for a tensor
    /// without elements. Time that of one more quantization.
    ///
    /// # Errors
    ///
    /// Those of [`Recipe::quantize`]; [`ShapeError::Mismatch`] for a tensor of another shape.
    pub fn errors<A: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        recipe: &Recipe,
    ) -> Result<(f64, f64)> {
        errors_of(&tensor.view().into_dyn(), recipe, &self.dequantize::<f64, IxDyn>()?)
    }

    fn squared_error<A: Element>(&self, tensor: &ndarray::ArrayViewD<'_, A>) -> Result<f64> {
        if tensor.is_empty() {
            return Ok(0.0);
        }
        metrics::mse(tensor, &self.dequantize::<f64, IxDyn>()?)
    }

    /// The first term.
    pub const fn first(&self) -> &QuantizedTensor {
        &self.first
    }

    /// The second term.
    pub const fn second(&self) -> &QuantizedTensor {
        &self.second
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        self.first.shape()
    }

    /// The restored tensor: the sum of both terms in f64, rounded once.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Rank`] if the tensor does not have the rank of `D`.
    pub fn dequantize<A: Element, D: Dimension>(&self) -> Result<Array<A, D>> {
        let first = self.first.dequantize::<f64, D>()?;
        let second = self.second.dequantize::<f64, D>()?;
        Ok(Zip::from(&first).and(&second).map_collect(|a, b| A::from_f64(a + b)))
    }

    /// Bytes of codes and parameters of both terms.
    pub fn bytes(&self) -> u64 {
        self.first.bytes() + self.second.bytes()
    }

    /// Bits of codes and parameters of both terms, for each element. NaN for a tensor without elements.
    pub fn bits_per_element(&self) -> f64 {
        self.first.bits_per_element() + self.second.bits_per_element()
    }
}

/// `tensor` less a term, in the type that the terms are found in: f64 for f64, f32 for the others.
fn left_by<A: Element>(
    tensor: &ndarray::ArrayViewD<'_, A>,
    term: &QuantizedTensor,
) -> Result<ArrayD<A::Real>> {
    let restored = term.dequantize::<f64, IxDyn>()?;
    Ok(Zip::from(tensor).and(&restored).map_collect(|x, term| A::Real::from_f64(x.to_f64() - term)))
}

/// Both terms, one after the other.
impl fmt::Display for TwoTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nplus\n{}", self.first, self.second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::solve::samples::SplitMix64;
    use ndarray::{Array1, Array2, Ix1, Ix2};

    fn omse(bits: u32) -> Recipe {
        let uniform = Uniform::symmetric(BitWidth::new(bits).unwrap()).calibration(Mse);
        uniform.granularity(PerChannel::new(Axis(0)))
    }

    #[test]
    fn turns_never_lose_and_both_terms_beat_one() {
        let mut random = SplitMix64(51);
        let w = Array2::from_shape_simple_fn((6, 100), || random.normal() as f32);
        for (first, second) in [(2, 2), (3, 2), (4, 4)] {
            let error = |rounds| {
                let two = TwoTerms::quantize(&w, &omse(first), &omse(second), rounds).unwrap();
                crate::metrics::mse(&w, &two.dequantize::<f32, Ix2>().unwrap()).unwrap()
            };
            let one = omse(first).quantize(&w).unwrap().dequantize::<f32, Ix2>().unwrap();
            let (without, with) = (error(0), error(10));
            let two = TwoTerms::quantize(&w, &omse(first), &omse(second), 0).unwrap();
            let (alone, both) = two.errors(&w, &omse(first)).unwrap();
            assert!((alone / crate::metrics::mse(&w, &one).unwrap() - 1.0).abs() < 1e-5);
            assert!((both / without - 1.0).abs() < 1e-5, "f32 rounds the restored values");
            assert!(with <= without * (1.0 + 1e-6), "{first} {second}: {with} {without}");
            assert!(4.0 * without < crate::metrics::mse(&w, &one).unwrap());
        }
    }

    #[test]
    fn zeros_nothing_and_shapes() {
        let zeros = Array1::<f32>::zeros(5);
        let recipe = Recipe::new(Uniform::symmetric(BitWidth::new(2).unwrap()).calibration(Mse));
        let two = TwoTerms::quantize(&zeros, &recipe, &recipe, 3).unwrap();
        assert_eq!(two.dequantize::<f32, Ix1>().unwrap(), zeros);
        let none = TwoTerms::quantize(&Array1::<f32>::zeros(0), &recipe, &recipe, 3).unwrap();
        assert_eq!(none.dequantize::<f32, Ix1>().unwrap().len(), 0);
        assert!(TwoTerms::new(two.first().clone(), none.first().clone()).is_err());
        assert!(two.dequantize::<f32, Ix2>().is_err());
        assert!(TwoTerms::quantize(&ndarray::array![f32::NAN], &recipe, &recipe, 1).is_err());
    }
}
