//! A recipe whose grids are finished: static quantization.

use core::fmt;

use ndarray::{ArrayRef, Dimension};

use crate::element::Element;
use crate::error::{ConfigError, Result};
use crate::tensor::{
    AffineGrid, Grids, LevelGrid, Note, Notes, QuantizedTensor, Scheme, TensorView, Uniforms, ZeroPointRule,
};

use super::Recipe;

/// A recipe with its grids: no statistics at run time.
///
/// It quantizes any tensor that the recipe's granularity cuts into as many regions as there are grids: per
/// layer any shape, per channel any shape with that many channels. Values beyond the range saturate,
/// infinities too.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::array;
///
/// let recipe = Uniform::asymmetric(BitWidth::EIGHT).granularity(PerLayer);
/// let activation = recipe.freeze_from(&array![[0.0f32, 1.0], [2.0, 5.1]])?;
/// let q = activation.quantize(&array![[1.0f32, 7.0, -1.0]])?;
/// assert_eq!(q.codes().as_u8(), Some(&[50u8, 255, 0][..]));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "FrozenParts"))]
pub struct Frozen {
    recipe: Recipe,
    scheme: Scheme,
    grids: Grids,
    notes: Notes,
}

impl Frozen {
    /// A recipe with grids from elsewhere, a training framework for instance. `scheme` is the recipe's, up to the
    /// storage type of the parameters.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Scale`](crate::ConfigError::Scale) for a scale that is not positive and finite with a
    /// finite reciprocal, [`ConfigError::ZeroPoint`](crate::ConfigError::ZeroPoint) for a zero point outside
    /// the codes, [`ConfigError::Conflict`](crate::ConfigError::Conflict) for grids of another kind than
    /// `scheme`.
    pub fn new(recipe: &Recipe, scheme: Scheme, grids: Grids) -> Result<Self> {
        if !scheme.is_or_widens(&recipe.scheme()?) {
            let setting = "a scheme of other codes or parameters";
            return Err(ConfigError::Conflict { setting, to: "this recipe" }.into());
        }
        grids.check(&scheme, true)?;
        Ok(Self { recipe: recipe.clone(), scheme, grids, notes: Notes::new() })
    }

    /// A recipe with given scales and zero points, one each for the regions of a tensor of `shape`, in the
    /// order of the tiling. Where the recipe's scheme has a fixed zero point, `zero_points` must hold it or be
    /// empty; it is empty for level tables.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`ShapeError::RegionCount`](crate::ShapeError::RegionCount) for another
    /// number of scales or zero points than regions.
    pub fn with_scales(
        recipe: &Recipe,
        shape: &[usize],
        scales: impl IntoIterator<Item = f64>,
        zero_points: impl IntoIterator<Item = f64>,
    ) -> Result<Self> {
        let scheme = recipe.scheme()?;
        let regions = recipe.tiling(shape)?.regions();
        let scales: Vec<f64> = scales.into_iter().collect();
        let zero_points: Vec<f64> = zero_points.into_iter().collect();
        Scheme::check_regions(scales.len(), regions, shape)?;
        let mut grids = Grids::new(&scheme);
        match &scheme {
            Scheme::Affine(affine) => {
                let zero_points = match affine.zero_point() {
                    ZeroPointRule::Fixed(zero) if zero_points.is_empty() => vec![zero; regions],
                    _ => zero_points,
                };
                Scheme::check_regions(zero_points.len(), regions, shape)?;
                for (index, (scale, zero_point)) in scales.into_iter().zip(zero_points).enumerate() {
                    affine.check_grid(index, AffineGrid { scale, zero_point })?;
                    grids.push(AffineGrid { scale, zero_point }.into())?;
                }
            }
            Scheme::Levels(levels) if levels.table().is_some() && zero_points.is_empty() => {
                for (index, scale) in scales.into_iter().enumerate() {
                    levels.check_grid(index, LevelGrid { scale })?;
                    grids.push(LevelGrid { scale }.into())?;
                }
            }
            _ => {
                let setting = "a scale or zero point for each region";
                return Err(ConfigError::Conflict { setting, to: "this scheme" }.into());
            }
        }
        grids.finish()?;
        Self::new(recipe, scheme, grids)
    }

    pub(super) fn from_fitted(recipe: Recipe, fitted: QuantizedTensor) -> Self {
        let (scheme, grids, notes) = fitted.into_fitted();
        Self { recipe, scheme, grids, notes }
    }

    pub(super) fn with_notes(mut self, notes: Notes) -> Self {
        self.notes = notes;
        self
    }

    /// The recipe.
    pub const fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// What is stored.
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The grid of each region.
    pub const fn grids(&self) -> &Grids {
        &self.grids
    }

    /// What the user should know about single regions: fallbacks of calibrations, skipped values.
    pub fn notes(&self) -> &[(usize, Note)] {
        &self.notes
    }

    /// The codes of `tensor` on the finished grids. One pass over the tensor.
    ///
    /// # Errors
    ///
    /// [`ShapeError::RegionCount`](crate::ShapeError::RegionCount) if the tensor is cut into another number of
    /// regions, [`DataError::NotANumber`](crate::DataError::NotANumber) for a NaN without a policy.
    pub fn quantize<A: Element, D: Dimension>(&self, tensor: &ArrayRef<A, D>) -> Result<QuantizedTensor> {
        let tensor = TensorView::new(tensor);
        let mut out = QuantizedTensor::empty(self.scheme.clone());
        self.quantize_view_into(&tensor, &mut out)?;
        Ok(out)
    }

    /// As [`quantize`](Self::quantize), into the buffers of `out`.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize); `out` is an empty tensor then.
    pub fn quantize_into<A: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        out: &mut QuantizedTensor,
    ) -> Result<()> {
        self.quantize_view_into(&TensorView::new(tensor), out)
    }

    /// As [`quantize_into`](Self::quantize_into), for a tensor whose type is known at run time only.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize); `out` is an empty tensor then.
    pub fn quantize_view_into(&self, tensor: &TensorView<'_>, out: &mut QuantizedTensor) -> Result<()> {
        self.encode_into(tensor, None, out)
    }

    /// As [`quantize`](Self::quantize), with the numbers of stochastic rounding from a source of one's own:
    /// `uniforms` gives the number in `[0, 1)` of each element by its row-major index. With any other rounding it is
    /// not asked.
    ///
    /// ```
    /// use lowbit::prelude::*;
    ///
    /// let x = ndarray::array![0.25f32, 0.25, 0.75, 0.75];
    /// let recipe = Uniform::symmetric(BitWidth::EIGHT).rounding(Rounding::Stochastic { seed: 0 });
    /// let frozen = Frozen::with_scales(&recipe, &[4], [1.0], [])?;
    /// let numbers = [0.2, 0.3, 0.7, 0.8];
    /// let q = frozen.quantize_with_uniforms(&x, |index| numbers[index])?;
    /// assert_eq!(q.codes().unpack(), [1, 0, 1, 0]);
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    pub fn quantize_with_uniforms<A: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        uniforms: impl Fn(usize) -> f64 + Sync,
    ) -> Result<QuantizedTensor> {
        let mut out = QuantizedTensor::empty(self.scheme.clone());
        self.encode_into(&TensorView::new(tensor), Some(&uniforms), &mut out)?;
        Ok(out)
    }

    fn encode_into(
        &self,
        tensor: &TensorView<'_>,
        uniforms: Option<Uniforms<'_>>,
        out: &mut QuantizedTensor,
    ) -> Result<()> {
        // Results that are handed on whole cost more than encoding a small tensor does.
        if let Err(error) = self.refill_and_encode(tensor, uniforms, out) {
            out.clear();
            return Err(error);
        }
        Ok(())
    }

    fn refill_and_encode(
        &self,
        tensor: &TensorView<'_>,
        uniforms: Option<Uniforms<'_>>,
        out: &mut QuantizedTensor,
    ) -> Result<()> {
        let (recipe, source) = (self.recipe.text(), tensor.element_type());
        if out.is_cut_by(recipe, tensor.shape()) {
            out.refill_as_cut(&self.scheme, source);
        } else {
            let tiling = self.recipe.tiling(tensor.shape())?;
            out.refill(&self.scheme, tiling, source, Some(recipe.clone()));
        }
        let parts = out.parts();
        parts.grids.clone_from(&self.grids);
        parts.notes.clone_from(&self.notes);
        out.encode_from(tensor, self.recipe.encoding(), uniforms)
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frozen({}; {} grids)", self.recipe, self.grids.len())
    }
}

/// The fields of a [`Frozen`] before they are validated.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct FrozenParts {
    recipe: Recipe,
    scheme: Scheme,
    grids: Grids,
    notes: Notes,
}

#[cfg(feature = "serde")]
impl TryFrom<FrozenParts> for Frozen {
    type Error = crate::Error;

    fn try_from(parts: FrozenParts) -> Result<Self> {
        let frozen = Self::new(&parts.recipe, parts.scheme, parts.grids)?;
        Ok(Self { notes: parts.notes, ..frozen })
    }
}
