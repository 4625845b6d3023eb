//! Fake quantization: real values in, the values of their codes out, without storing the codes.
//!
//! Jacob et al. 2018, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
//! equation 12: what a layer will see of a tensor once it is quantized.

use ndarray::{Array, ArrayRef, Dimension};

use crate::element::Element;
use crate::error::{Result, ShapeError};
use crate::granularity::Tiling;
use crate::quantizer;
use crate::tensor::{Encoding, Grids, QuantizedTensor, Scheme, TensorView, fake_into};

use super::{Frozen, Recipe};

impl Frozen {
    /// What quantization makes of `tensor`: the bits of [`quantize`](Self::quantize) followed by
    /// [`dequantize`](QuantizedTensor::dequantize) to the same type, in one pass. Allocates the result; see
    /// [`fake_quantize_into`](Self::fake_quantize_into) to reuse one.
    ///
    /// ```
    /// use lowbit::prelude::*;
    /// use ndarray::array;
    ///
    /// let recipe = Uniform::symmetric(BitWidth::EIGHT).granularity(PerLayer);
    /// let frozen = Frozen::with_scales(&recipe, &[3], [0.5], [])?;
    /// assert_eq!(frozen.fake_quantize(&array![0.2f32, 0.3, 100.0])?, array![0.0, 0.5, 63.5]);
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    pub fn fake_quantize<A: Element, D: Dimension>(&self, tensor: &ArrayRef<A, D>) -> Result<Array<A, D>> {
        let mut out = Array::default(tensor.raw_dim());
        self.fake_quantize_into(tensor, &mut out)?;
        Ok(out)
    }

    /// As [`fake_quantize`](Self::fake_quantize), into `out`, of any element type and layout. Nothing of the size of the
    /// tensor is allocated, but where `out` is not in standard layout or codes stand for vectors.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize), and [`ShapeError::Mismatch`] for an `out` of another shape. After another error
    /// `out` holds anything.
    pub fn fake_quantize_into<A: Element, B: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        out: &mut ArrayRef<B, D>,
    ) -> Result<()> {
        check_shape(tensor, out)?;
        if matches!(self.scheme(), Scheme::VectorCodebook(_)) {
            return self.quantize(tensor)?.dequantize_into(out);
        }
        let tiling = self.recipe().tiling(tensor.shape())?;
        fake(tensor, &tiling, (self.scheme(), self.grids()), self.recipe().encoding(), out)
    }
}

impl Recipe {
    /// What quantization makes of `tensor`: the bits of [`quantize`](Self::quantize) followed by
    /// [`dequantize`](QuantizedTensor::dequantize) to the same type. Allocates the result; see
    /// [`fake_quantize_into`](Self::fake_quantize_into) to reuse one.
    ///
    /// ```
    /// use lowbit::prelude::*;
    ///
    /// let x = ndarray::Array2::from_shape_fn((4, 64), |(i, j)| ((7 * i + j) as f32 * 0.37).sin());
    /// let recipe = Uniform::asymmetric(BitWidth::EIGHT).granularity(PerChannel::new(Axis(0)));
    /// let fake = recipe.fake_quantize(&x)?;
    /// assert_eq!(fake, recipe.quantize(&x)?.dequantize::<f32, ndarray::Ix2>()?);
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    pub fn fake_quantize<A: Element, D: Dimension>(&self, tensor: &ArrayRef<A, D>) -> Result<Array<A, D>> {
        let mut out = Array::default(tensor.raw_dim());
        self.fake_quantize_into(tensor, &mut out)?;
        Ok(out)
    }

    /// As [`fake_quantize`](Self::fake_quantize), into `out`, of any element type and layout. Codes are stored in between
    /// by methods with codebooks only.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize), and [`ShapeError::Mismatch`] for an `out` of another shape. After another error
    /// `out` holds anything.
    pub fn fake_quantize_into<A: Element, B: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        out: &mut ArrayRef<B, D>,
    ) -> Result<()> {
        check_shape(tensor, out)?;
        let scheme = self.scheme()?;
        if !matches!(scheme, Scheme::Affine(_) | Scheme::Levels(_)) {
            // Their methods may choose codes by rules of their own.
            return self.quantize(tensor)?.dequantize_into(out);
        }
        let tiling = self.tiling(tensor.shape())?;
        let mut fitted = QuantizedTensor::empty(scheme);
        quantizer::fit_into(
            self.quantizer(),
            &TensorView::new(tensor),
            tiling,
            self.encoding(),
            None,
            &mut fitted,
        )?;
        fake(tensor, fitted.tiling(), (fitted.scheme(), fitted.grids()), self.encoding(), out)
    }
}

fn check_shape<A, B, D: Dimension>(tensor: &ArrayRef<A, D>, out: &ArrayRef<B, D>) -> Result<(), ShapeError> {
    if tensor.shape() == out.shape() {
        return Ok(());
    }
    Err(ShapeError::Mismatch { found: out.shape().to_vec(), expected: tensor.shape().to_vec() })
}

fn fake<A: Element, B: Element, D: Dimension>(
    tensor: &ArrayRef<A, D>,
    tiling: &Tiling,
    (scheme, grids): (&Scheme, &Grids),
    encoding: &Encoding,
    out: &mut ArrayRef<B, D>,
) -> Result<()> {
    let tensor = TensorView::new(tensor);
    if let Some(out) = out.as_slice_mut() {
        return fake_into(&tensor, tiling, scheme, grids, encoding, out);
    }
    let mut values = Array::<B, D>::default(out.raw_dim());
    if let Some(values) = values.as_slice_mut() {
        fake_into(&tensor, tiling, scheme, grids, encoding, values)?;
    }
    out.assign(&values);
    Ok(())
}
