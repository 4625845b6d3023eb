//! What every quantizer can do, the built-in ones and yours.

use ndarray::{ArrayRef, Dimension};

use crate::element::Element;
use crate::error::Result;
use crate::granularity::{Granularity, PerLayer};
use crate::quantizer::Quantizer;
use crate::tensor::{Dialect, Encoding, NonFinite, QuantizedTensor, Rounding, TensorView};

use super::Recipe;

/// What every quantizer can do: compose with a granularity and an encoding, and quantize.
///
/// Each composing method makes a [`Recipe`], which has the same methods to replace its parts.
pub trait QuantizerExt: Quantizer {
    /// A recipe that cuts tensors by `granularity`.
    fn granularity(self, granularity: impl Granularity + 'static) -> Recipe
    where
        Self: Sized + 'static,
    {
        Recipe::new(self).granularity(granularity)
    }

    /// A recipe, per layer, that rounds in another way.
    fn rounding(self, rounding: Rounding) -> Recipe
    where
        Self: Sized + 'static,
    {
        Recipe::new(self).rounding(rounding)
    }

    /// A recipe, per layer, with the arithmetic of another system.
    fn dialect(self, dialect: Dialect) -> Recipe
    where
        Self: Sized + 'static,
    {
        Recipe::new(self).dialect(dialect)
    }

    /// A recipe, per layer, with another policy for NaN and ±∞.
    fn non_finite(self, policy: NonFinite) -> Recipe
    where
        Self: Sized + 'static,
    {
        Recipe::new(self).non_finite(policy)
    }

    /// `tensor` quantized as a whole, per layer, with the default encoding.
    ///
    /// # Errors
    ///
    /// As [`Recipe::quantize`].
    fn quantize<A: Element, D: Dimension>(&self, tensor: &ArrayRef<A, D>) -> Result<QuantizedTensor> {
        let mut out = QuantizedTensor::empty(self.scheme()?);
        self.quantize_into(tensor, &mut out)?;
        Ok(out)
    }

    /// As [`quantize`](Self::quantize), into the buffers of `out`, whatever it held.
    ///
    /// # Errors
    ///
    /// As [`Recipe::quantize`]; `out` is an empty tensor then.
    fn quantize_into<A: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        out: &mut QuantizedTensor,
    ) -> Result<()> {
        let tensor = TensorView::new(tensor);
        let tiling = PerLayer.tiling(tensor.shape())?;
        let text = super::text_form(self, &PerLayer, &Encoding::default());
        self.fit_and_encode(&tensor, tiling, &Encoding::default(), Some(text.into()), out)
    }
}

impl<Q: Quantizer + ?Sized> QuantizerExt for Q {}
