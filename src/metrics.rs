//! What quantization cost: figures that compare a tensor with its restored form.
//!
//! With the original `r` and the restored `r̃` over all elements:
//!
//! | figure | formula |
//! |---|---|
//! | [`mse`] | mean of `(r − r̃)²` |
//! | [`sqnr`] | `10 · log₁₀(Σ r² / Σ (r − r̃)²)` in dB |
//! | [`cosine_similarity`] | `Σ r·r̃ / √(Σ r² · Σ r̃²)` |
//! | [`max_abs_error`] | `max |r − r̃|` |
//! | [`relative_frobenius_error`] | `√(Σ (r − r̃)² / Σ r²)` |
//!
//! Sums are in f64, in an order that depends on the shape alone, so the figures do not depend on the number of
//! threads. [`Errors::between`] gives all of them in one pass. The share of clipped values and the share of
//! codes used need the quantized tensor: [`clipped_share`] and [`codes_used`].
//!
//! [`clipped_share`]: crate::QuantizedTensor::clipped_share
//! [`codes_used`]: crate::QuantizedTensor::codes_used

use ndarray::{ArrayRef, ArrayViewD, Dimension};

use crate::element::Element;
use crate::error::{Result, ShapeError};
use crate::kernel::errors::{ErrorSums, error_sums};
use crate::kernel::gather::gather;
use crate::parallel;

/// Elements summed in one piece, whatever the layout, so that all sums have one order.
const PIECE: usize = 1 << 14;

/// Everything that compares a tensor with its restored form.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Errors {
    sums: ErrorSums,
}

impl Errors {
    /// The errors of `restored` against `original`, in one pass over both.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`] unless both have one shape.
    pub fn between<A: Element, B: Element, D: Dimension, E: Dimension>(
        original: &ArrayRef<A, D>,
        restored: &ArrayRef<B, E>,
    ) -> Result<Self> {
        if original.shape() != restored.shape() {
            let (expected, found) = (original.shape().to_vec(), restored.shape().to_vec());
            return Err(ShapeError::Mismatch { found, expected }.into());
        }
        let (a, b) = (original.view().into_dyn(), restored.view().into_dyn());
        let len = a.len();
        let contiguous = a.is_standard_layout() && b.is_standard_layout();
        // Several rows at once where they have to be gathered, so that whole cache lines are read.
        let read = if contiguous { PIECE } else { 16 * PIECE };
        let parts = parallel::map_indices(len.div_ceil(read), len, Default::default, |scratch, chunk| {
            let range = chunk * read..((chunk + 1) * read).min(len);
            let (a_scratch, b_scratch): &mut (Vec<A>, Vec<B>) = scratch;
            let (a, b) = (values(&a, range.clone(), a_scratch), values(&b, range, b_scratch));
            a.chunks(PIECE).zip(b.chunks(PIECE)).map(|(a, b)| error_sums(a, b)).collect::<Vec<_>>()
        });
        Ok(parts.into_iter().flatten().map(Self::from).fold(Self::default(), Self::merge))
    }

    /// The errors of both together.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.sums.merge(&other.sums);
        self
    }

    /// The number of elements compared.
    pub const fn count(&self) -> u64 {
        self.sums.count
    }

    /// The mean squared error; NaN for no elements.
    pub fn mse(&self) -> f64 {
        self.sums.noise / self.sums.count as f64
    }

    /// The signal-to-quantization-noise ratio in dB: +∞ without any error, NaN for no elements.
    pub fn sqnr(&self) -> f64 {
        match (self.sums.count, self.sums.noise) {
            (0, _) => f64::NAN,
            (_, 0.0) => f64::INFINITY,
            (_, noise) => 10.0 * (self.sums.signal / noise).log10(),
        }
    }

    /// The cosine of the angle between both: NaN where either is all zero.
    pub fn cosine_similarity(&self) -> f64 {
        // Roots before the product, which could overflow.
        self.sums.product / (self.sums.signal.sqrt() * self.sums.restored.sqrt())
    }

    /// The largest error of one element; 0 for no elements.
    pub const fn max_abs_error(&self) -> f64 {
        self.sums.max_abs
    }

    /// The norm of the error over the norm of the original: 0 without any error, NaN for no elements.
    pub fn relative_frobenius_error(&self) -> f64 {
        match (self.sums.count, self.sums.noise) {
            (0, _) => f64::NAN,
            (_, 0.0) => 0.0,
            (_, noise) => (noise / self.sums.signal).sqrt(),
        }
    }
}

impl From<ErrorSums> for Errors {
    fn from(sums: ErrorSums) -> Self {
        Self { sums }
    }
}

/// The elements `range` of `view`: borrowed where they are a slice.
fn values<'s, A: Element>(
    view: &'s ArrayViewD<'_, A>,
    range: core::ops::Range<usize>,
    scratch: &'s mut Vec<A>,
) -> &'s [A] {
    match view.as_slice() {
        Some(all) => all.get(range).unwrap_or_default(),
        None => {
            scratch.resize(range.len(), A::default());
            gather(view, range, scratch);
            scratch
        }
    }
}

macro_rules! figure {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// # Errors
        ///
        /// [`ShapeError::Mismatch`] unless both have one shape.
        pub fn $name<A: Element, B: Element, D: Dimension, E: Dimension>(
            original: &ArrayRef<A, D>,
            restored: &ArrayRef<B, E>,
        ) -> Result<f64> {
            Ok(Errors::between(original, restored)?.$name())
        }
    };
}

figure!(mse, "The mean squared error.");
figure!(sqnr, "The signal-to-quantization-noise ratio in dB: +∞ without any error.");
figure!(cosine_similarity, "The cosine of the angle between both tensors.");
figure!(max_abs_error, "The largest error of one element.");
figure!(relative_frobenius_error, "The norm of the error over the norm of the original.");

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use ndarray::{Array1, array};

    #[test]
    fn figures_of_a_small_example() {
        let (a, b) = (array![[3.0f32, 4.0], [0.0, 0.0]], array![[3.0f64, 3.0], [0.0, 1.0]]);
        let errors = Errors::between(&a, &b).unwrap();
        assert_eq!(errors.mse(), 0.5);
        assert_eq!(errors.max_abs_error(), 1.0);
        assert_relative_eq!(errors.sqnr(), 10.0 * 12.5f64.log10());
        assert_relative_eq!(errors.cosine_similarity(), 21.0 / (5.0 * 19.0f64.sqrt()));
        assert_relative_eq!(errors.relative_frobenius_error(), 0.08f64.sqrt());
        assert_eq!(Errors::between(&a.t(), &b.t()).unwrap(), errors);
    }

    #[test]
    fn exact_empty_and_zero_tensors() {
        let a = array![1.0f32, 2.0];
        assert_eq!(sqnr(&a, &a).unwrap(), f64::INFINITY);
        assert_eq!(relative_frobenius_error(&a, &a).unwrap(), 0.0);
        let zero = Array1::<f32>::zeros(2);
        assert_eq!(sqnr(&zero, &a).unwrap(), f64::NEG_INFINITY);
        assert!(cosine_similarity(&zero, &a).unwrap().is_nan());
        let none = Array1::<f32>::zeros(0);
        assert!(mse(&none, &none).unwrap().is_nan() && sqnr(&none, &none).unwrap().is_nan());
        assert!(mse(&none, &a).is_err());
    }
}
