//! The composed whole: a [`Recipe`] is a quantizer, a granularity and an encoding; [`Frozen`] is a recipe
//! whose grids are finished.
//!
//! The same recipe serves static and dynamic quantization. *Dynamic*: the recipe itself finds the grids at each call,
//! one for the tensor ([`PerLayer`]) or one for each row, a token or an image (`PerChannel::new(Axis(0))`); what a row
//! gets does not depend on the rows beside it. *Static*: a frozen recipe has its grids, from a tensor at hand or from an
//! observer of many.
//!
//! ```
//! use lowbit::prelude::*;
//! use ndarray::array;
//!
//! let per_tensor = Uniform::asymmetric(BitWidth::EIGHT).granularity(PerLayer);
//! let per_row = Uniform::asymmetric(BitWidth::EIGHT).granularity(PerChannel::new(Axis(0)));
//!
//! // Two tokens, one a hundred times larger than the other.
//! let tokens = array![[0.0f32, 1.0, 2.55], [0.0, 100.0, 255.0]];
//! assert_eq!(per_tensor.quantize(&tokens)?.codes().as_u8(), Some(&[0u8, 1, 3, 0, 100, 255][..]));
//! assert_eq!(per_row.quantize(&tokens)?.codes().as_u8(), Some(&[0u8, 100, 255, 0, 100, 255][..]));
//! // Any number of tokens: ranges are found at each call.
//! assert_eq!(per_row.quantize(&array![[4.0f32, 0.0]])?.codes().as_u8(), Some(&[255u8, 0][..]));
//!
//! // Static: what was observed is the range of whatever comes, and larger values saturate.
//! let mut observer = per_tensor.observer(&[2, 3])?;
//! observer.observe(&tokens)?;
//! let activation = per_tensor.freeze(&observer)?;
//! assert_eq!(activation.quantize(&array![[4.0f32, 300.0]])?.codes().as_u8(), Some(&[4u8, 255][..]));
//! # Ok::<(), lowbit::Error>(())
//! ```
//!
//! A recipe's text form round-trips through `Display` and `FromStr`:
//!
//! ```
//! use lowbit::prelude::*;
//!
//! let recipe = Uniform::symmetric(BitWidth::new(4)?)
//!     .calibration(Percentile::new(99.9)?)
//!     .granularity(PerChannel::new(Axis(0)));
//! let text = recipe.to_string();
//! assert_eq!(
//!     text,
//!     "uniform(bits=4, symmetry=symmetric, range=restricted, codes=signed, scales=f32, \
//!      calibration=percentile(99.9)); granularity=channel(axis=0); rounding=nearest-even; dialect=onnx; \
//!      non-finite=error"
//! );
//! let again: Recipe = text.parse()?;
//! assert_eq!(again.to_string(), text);
//! // What is not said has its default.
//! let short: Recipe = "uniform(bits=4, calibration=mse); granularity=subchannel(32, axis=0)".parse()?;
//! # Ok::<(), lowbit::Error>(())
//! ```

mod block_format;
mod builtin;
mod ext;
mod fake;
mod frozen;
mod levels;
mod observe;
mod registry;

use core::fmt;
use std::sync::{Arc, OnceLock};

use ndarray::{ArrayRef, Dimension};

use crate::element::Element;
use crate::error::{DataError, Result};
use crate::granularity::{Granularity, PerLayer, Tiling};
use crate::quantizer::{self, Quantizer};
use crate::tensor::{Dialect, Encoding, NonFinite, QuantizedTensor, Rounding, Scheme, TensorView};

pub use crate::text::Arguments;
pub use ext::QuantizerExt;
pub use frozen::Frozen;
pub use registry::Registry;

/// A quantizer, a granularity and an encoding: everything that turns a tensor into a [`QuantizedTensor`].
/// Cheap to clone.
#[derive(Clone)]
pub struct Recipe {
    quantizer: Arc<dyn Quantizer>,
    granularity: Arc<dyn Granularity>,
    encoding: Encoding,
    /// The text form, made when it is first needed.
    text: OnceLock<Arc<str>>,
}

impl Recipe {
    /// A recipe that quantizes per layer with the default encoding.
    pub fn new(quantizer: impl Quantizer + 'static) -> Self {
        Self::from_parts(Arc::new(quantizer), Arc::new(PerLayer), Encoding::default())
    }

    /// A recipe from its parts.
    pub fn from_parts(
        quantizer: Arc<dyn Quantizer>,
        granularity: Arc<dyn Granularity>,
        encoding: Encoding,
    ) -> Self {
        Self { quantizer, granularity, encoding, text: OnceLock::new() }
    }

    /// The same recipe with another granularity.
    pub fn granularity(self, granularity: impl Granularity + 'static) -> Self {
        Self::from_parts(self.quantizer, Arc::new(granularity), self.encoding)
    }

    /// The same recipe with another rounding.
    pub fn rounding(self, rounding: Rounding) -> Self {
        let encoding = Encoding { rounding, ..self.encoding };
        Self::from_parts(self.quantizer, self.granularity, encoding)
    }

    /// The same recipe with the arithmetic of another system.
    pub fn dialect(self, dialect: Dialect) -> Self {
        let encoding = Encoding { dialect, ..self.encoding };
        Self::from_parts(self.quantizer, self.granularity, encoding)
    }

    /// The same recipe with another policy for NaN and ±∞.
    pub fn non_finite(self, non_finite: NonFinite) -> Self {
        let encoding = Encoding { non_finite, ..self.encoding };
        Self::from_parts(self.quantizer, self.granularity, encoding)
    }

    /// The method.
    pub fn quantizer(&self) -> &Arc<dyn Quantizer> {
        &self.quantizer
    }

    /// How a tensor of `shape` is cut into regions.
    ///
    /// # Errors
    ///
    /// [`ShapeError`](crate::ShapeError) if the granularity does not fit the shape.
    pub fn tiling(&self, shape: &[usize]) -> Result<Tiling> {
        self.granularity.tiling(shape)
    }

    /// As [`tiling`](Self::tiling), which need not be found again if `out` was made of a tensor of the same shape.
    fn tiling_into(&self, shape: &[usize], out: &QuantizedTensor) -> Result<Tiling> {
        if out.is_cut_by(self.text(), shape) { Ok(out.tiling().clone()) } else { self.tiling(shape) }
    }

    /// How values get their codes.
    pub const fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// What will be stored.
    ///
    /// # Errors
    ///
    /// [`ConfigError`](crate::ConfigError) for a configuration that cannot work.
    pub fn scheme(&self) -> Result<Scheme> {
        self.quantizer.scheme()
    }

    /// `tensor` quantized: its grids are found in it, and its codes chosen on them.
    ///
    /// Any element type, rank and layout; an empty tensor gives an empty result. Time is one pass over the
    /// tensor for encoding and what the calibration needs; memory is that of the result, and for calibrations
    /// that reorder values (percentile, MSE) a copy of one region for each thread.
    ///
    /// # Errors
    ///
    /// [`ConfigError`](crate::ConfigError) for a configuration that cannot work,
    /// [`ShapeError`](crate::ShapeError) if the granularity does not fit the shape, [`DataError`] for NaN, for
    /// infinities where a range has to be found, and for scales that do not fit their storage type.
    pub fn quantize<A: Element, D: Dimension>(&self, tensor: &ArrayRef<A, D>) -> Result<QuantizedTensor> {
        let tensor = TensorView::new(tensor);
        let mut out = QuantizedTensor::empty(self.scheme()?);
        self.quantize_view_into(&tensor, &mut out)?;
        Ok(out)
    }

    /// As [`quantize`](Self::quantize), into the buffers of `out`, whatever it held. With buffers of the right
    /// size nothing that grows with the number of elements is allocated.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize); `out` is an empty tensor then.
    ///
    /// ```
    /// use lowbit::prelude::*;
    ///
    /// let recipe = Uniform::symmetric(BitWidth::EIGHT).granularity(PerLayer);
    /// let mut out = recipe.quantize(&ndarray::Array1::<f32>::zeros(1024))?;
    /// for layer in [ndarray::Array1::<f32>::ones(1024), ndarray::Array1::from_elem(1024, 2.0)] {
    ///     recipe.quantize_into(&layer, &mut out)?;
    /// }
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    pub fn quantize_into<A: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        out: &mut QuantizedTensor,
    ) -> Result<()> {
        self.quantize_view_into(&TensorView::new(tensor), out)
    }

    /// `tensor` quantized with a weight for the squared error of each element: the diagonal of the Hessian, or squared
    /// gradients. `importance` has the shape of the tensor.
    ///
    /// ```
    /// use lowbit::prelude::*;
    ///
    /// let weights = ndarray::array![0.0f32, 1.0, 2.0, 3.5];
    /// let importance = ndarray::array![1.0f32, 1.0, 1.0, 1e6];
    /// let recipe = Recipe::new(KMeans::new(BitWidth::new(1)?));
    /// let q = recipe.quantize_weighted(&weights, &importance)?;
    /// // The value that matters has a level to itself.
    /// assert_eq!(q.dequantize::<f32, ndarray::Ix1>()?, ndarray::array![1.0, 1.0, 1.0, 3.5]);
    /// // Without importance the pairs are nearer.
    /// let q = recipe.quantize(&weights)?;
    /// assert_eq!(q.dequantize::<f32, ndarray::Ix1>()?, ndarray::array![0.5, 0.5, 2.75, 2.75]);
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize); [`ConfigError::Conflict`](crate::ConfigError::Conflict) for a method that cannot
    /// be weighted; [`ShapeError::Mismatch`](crate::ShapeError::Mismatch) for an importance of another shape and
    /// [`DataError::Importance`] for one that is negative or not finite.
    pub fn quantize_weighted<A: Element, B: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        importance: &ArrayRef<B, D>,
    ) -> Result<QuantizedTensor> {
        let tensor = TensorView::new(tensor).with_importance(importance)?;
        let mut out = QuantizedTensor::empty(self.scheme()?);
        self.quantize_view_into(&tensor, &mut out)?;
        Ok(out)
    }

    /// As [`quantize_into`](Self::quantize_into), for a tensor whose type is known at run time only. It may come with
    /// importance.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize); `out` is an empty tensor then.
    pub fn quantize_view_into(&self, tensor: &TensorView<'_>, out: &mut QuantizedTensor) -> Result<()> {
        let text = Some(self.text().clone());
        self.tiling_into(tensor.shape(), out)
            .and_then(|tiling| self.quantizer.fit_and_encode(tensor, tiling, &self.encoding, text, out))
            .inspect_err(|_| out.clear())
    }

    /// The recipe with the grids that fit `tensor`: static quantization, calibrated on data at hand.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize), and [`DataError::NoData`] for a tensor without elements.
    pub fn freeze_from<A: Element, D: Dimension>(&self, tensor: &ArrayRef<A, D>) -> Result<Frozen> {
        self.freeze_from_view(&TensorView::new(tensor))
    }

    /// As [`freeze_from`](Self::freeze_from), for a tensor whose type is known at run time only.
    ///
    /// # Errors
    ///
    /// As [`freeze_from`](Self::freeze_from).
    pub fn freeze_from_view(&self, tensor: &TensorView<'_>) -> Result<Frozen> {
        if tensor.is_empty() {
            return Err(DataError::NoData { region: 0 }.into());
        }
        let tiling = self.granularity.tiling(tensor.shape())?;
        let mut fitted = QuantizedTensor::empty(self.scheme()?);
        quantizer::fit_into(&self.quantizer, tensor, tiling, &self.encoding, None, &mut fitted)?;
        Ok(Frozen::from_fitted(self.clone(), fitted))
    }

    /// The text form.
    fn text(&self) -> &Arc<str> {
        self.text.get_or_init(|| text_form(&self.quantizer, &self.granularity, &self.encoding).into())
    }
}

/// The text form of a recipe: the method, then what is not part of it.
pub(crate) fn text_form<Q: Quantizer + ?Sized, G: Granularity + ?Sized>(
    quantizer: &Q,
    granularity: &G,
    encoding: &Encoding,
) -> String {
    let Encoding { rounding, dialect, non_finite } = encoding;
    format!(
        "{quantizer}; granularity={granularity}; rounding={rounding}; dialect={dialect}; non-finite={non_finite}"
    )
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipe({})", self.text())
    }
}

impl core::str::FromStr for Recipe {
    type Err = crate::ParseError;

    /// Reads the text form of a recipe of built-in strategies. For others see [`Registry`].
    fn from_str(text: &str) -> Result<Self, crate::ParseError> {
        Registry::default().parse(text)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Recipe {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Recipe {
    /// Reads recipes of built-in strategies. For others, keep the text and read it by a [`Registry`].
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
