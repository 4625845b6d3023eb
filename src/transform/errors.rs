//! What another form of a quantized tensor gains over the plain one.

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use crate::element::Element;
use crate::error::Result;
use crate::metrics;
use crate::recipe::Recipe;

use super::bias_correction::same_shape;

/// The mean squared error of `tensor` quantized by `recipe`, and that of `restored`. NaN for a tensor without elements.
///
/// # Errors
///
/// Those of [`Recipe::quantize`]; [`ShapeError::Mismatch`](crate::ShapeError::Mismatch) unless both shapes are one.
pub(super) fn errors_of<A: Element>(
    tensor: &ArrayViewD<'_, A>,
    recipe: &Recipe,
    restored: &ArrayD<f64>,
) -> Result<(f64, f64)> {
    same_shape(restored.shape(), tensor.shape())?;
    if tensor.is_empty() {
        return Ok((f64::NAN, f64::NAN));
    }
    let plain = recipe.quantize(tensor)?.dequantize::<f64, IxDyn>()?;
    Ok((metrics::mse(tensor, &plain)?, metrics::mse(tensor, restored)?))
}
