//! The weights of a layer with the grids that their codes are on.

use core::ops::Range;

use ndarray::{Array2, ArrayRef, Dimension};

use crate::element::{Element, FloatType, Real};
use crate::error::{ConfigError, DataError, Result, ShapeError};
use crate::recipe::{Frozen, Recipe};
use crate::tensor::{
    Encoding, Grids, PackedCodes, QuantizedTensor, Rounding, Scheme, TensorView, sign_extend,
};

/// Weights that are to get codes, and the recipe that says which grids there are.
///
/// The first axis of the weights counts outputs, all others together are the inputs of one output, in row-major order.
/// They are quantized to the nearest codes once: the baseline that no method may be worse than.
#[derive(Debug, Clone)]
pub struct Weights<'a> {
    values: TensorView<'a>,
    outputs: usize,
    inputs: usize,
    recipe: Recipe,
    /// Whether the grids are given, so that none may be fitted again.
    given_grids: bool,
    nearest: QuantizedTensor,
}

impl<'a> Weights<'a> {
    /// The weights `values`, on grids that `recipe` fits to them.
    ///
    /// # Errors
    ///
    /// [`DataError::NotANumber`] and [`DataError::Infinite`] for weights that are not finite, whatever the recipe's policy;
    /// [`ConfigError::Conflict`] for a rounding other than to the nearest; [`ShapeError::Rank`] for a number without axes;
    /// and the errors of the recipe.
    pub fn new<A: Element, D: Dimension>(values: &'a ArrayRef<A, D>, recipe: &Recipe) -> Result<Self> {
        let made = Self::checked(TensorView::new(values), recipe, false)?;
        let mut nearest = QuantizedTensor::empty(recipe.scheme()?);
        recipe.quantize_view_into(&made.values, &mut nearest)?;
        Ok(Self { nearest, ..made })
    }

    /// As [`new`](Self::new), on grids that are given.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`ShapeError::RegionCount`] unless there is a grid for each region.
    pub fn on_grids<A: Element, D: Dimension>(values: &'a ArrayRef<A, D>, frozen: &Frozen) -> Result<Self> {
        let made = Self::checked(TensorView::new(values), frozen.recipe(), true)?;
        let mut nearest = QuantizedTensor::empty(frozen.scheme().clone());
        frozen.quantize_view_into(&made.values, &mut nearest)?;
        Ok(Self { nearest, ..made })
    }

    /// Without the nearest codes.
    fn checked(values: TensorView<'a>, recipe: &Recipe, given_grids: bool) -> Result<Self> {
        let outputs = *values.shape().first().ok_or(ShapeError::Rank { found: 0, expected: 2 })?;
        let rest = values.shape().iter().skip(1);
        let inputs = rest.fold(1usize, |product, &len| product.saturating_mul(len));
        if !matches!(recipe.encoding().rounding, Rounding::NearestEven | Rounding::NearestAway) {
            let setting = "a rounding other than to the nearest";
            return Err(ConfigError::Conflict { setting, to: "codes fitted to a layer's data" }.into());
        }
        check_finite(&values)?;
        let nearest = QuantizedTensor::empty(recipe.scheme()?);
        Ok(Self { values, outputs, inputs, recipe: recipe.clone(), given_grids, nearest })
    }

    /// The weights themselves.
    pub const fn values(&self) -> &TensorView<'a> {
        &self.values
    }

    /// The number of outputs: the length of the first axis.
    pub const fn outputs(&self) -> usize {
        self.outputs
    }

    /// The number of inputs of one output.
    pub const fn inputs(&self) -> usize {
        self.inputs
    }

    /// The recipe.
    pub const fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The weights rounded to the nearest codes: the baseline.
    pub const fn nearest(&self) -> &QuantizedTensor {
        &self.nearest
    }

    pub(super) const fn has_given_grids(&self) -> bool {
        self.given_grids
    }

    pub(super) const fn scheme(&self) -> &Scheme {
        self.nearest.scheme()
    }

    pub(super) const fn encoding(&self) -> &Encoding {
        self.recipe.encoding()
    }

    /// The type in which the codes of the weights are decided.
    pub(super) fn arithmetic(&self) -> FloatType {
        self.scheme().arithmetic(self.values.element_type())
    }

    /// The weights of some rows, one after the other.
    pub(super) fn rows<'s, T: Real>(&'s self, rows: Range<usize>, scratch: &'s mut Vec<T>) -> &'s [T] {
        self.values.chunk(rows.start * self.inputs..rows.end * self.inputs, scratch)
    }

    /// The tensor of codes that are given as fields, on the grids of the nearest ones or on others.
    pub(super) fn with_fields(&self, codes: &[u16], grids: Option<Grids>) -> Result<QuantizedTensor> {
        let (scheme, sign) = (self.scheme(), self.nearest.codes().sign_bit());
        let codes = codes.iter().map(|&field| sign_extend(field, sign));
        let codes = PackedCodes::from_codes(scheme.bits(), scheme.codes(), codes)?;
        self.nearest.clone().with_codes(codes, grids)
    }

    /// `W − Ŵ` for some rows.
    pub(super) fn errors<T: Real>(&self, rows: Range<usize>, tensor: &QuantizedTensor) -> Result<Array2<T>> {
        let mut errors = Array2::zeros((rows.len(), self.inputs));
        let Some(out) = errors.as_slice_mut() else { return Ok(errors) };
        let wide = self.arithmetic() == FloatType::F64;
        let (mut weights, mut values) = (Vec::new(), vec![0.0f64; self.inputs]);
        let mut narrow = vec![0.0f32; self.inputs];
        let weights = self.rows::<f64>(rows.clone(), &mut weights);
        let rows = rows.zip(out.chunks_mut(self.inputs.max(1)).zip(weights.chunks(self.inputs.max(1))));
        for (row, (out, weights)) in rows {
            if wide {
                tensor.dequantize_row_into(row, &mut values)?;
            } else {
                // What the decoder of an f32 tensor gives.
                tensor.dequantize_row_into(row, &mut narrow)?;
                values.iter_mut().zip(&narrow).for_each(|(value, &narrow)| *value = f64::from(narrow));
            }
            let errors = weights.iter().zip(&values).map(|(weight, value)| weight - value);
            out.iter_mut().zip(errors).for_each(|(out, error)| *out = T::from_f64(error));
        }
        Ok(errors)
    }
}

/// The error for the first weight that is not finite.
fn check_finite(weights: &TensorView<'_>) -> Result<(), DataError> {
    let mut scratch = Vec::new();
    let piece = weights.chunk_len();
    for start in (0..weights.len()).step_by(piece) {
        let x = weights.chunk::<f64>(start..(start + piece).min(weights.len()), &mut scratch);
        if let Some(at) = crate::kernel::search::first_non_finite(x) {
            let index = weights.index_of(start + at);
            return Err(match x.get(at) {
                Some(&value) if value.is_infinite() => DataError::Infinite { index, value },
                _ => DataError::NotANumber { index },
            });
        }
    }
    Ok(())
}
