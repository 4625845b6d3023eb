//! Quantizers: methods that find the grid of each region (survey, III-B and III-F).
//!
//! A method says what it will store ([`Quantizer::scheme`]) and finds the grid of one region
//! ([`Quantizer::fit`]). Everything else — granularity, rounding, packing, reuse of buffers — comes with
//! [`QuantizerExt`](crate::recipe::QuantizerExt), for the built-in methods and for yours.
//!
//! # Adding a quantizer
//!
//! A method is a type with those two functions and a text form. This one makes every scale a power of two,
//! so that integer hardware can shift instead of multiplying:
//!
//! ```
//! use std::fmt;
//!
//! use lowbit::prelude::*;
//! use lowbit::quantizer::Fit;
//! use lowbit::tensor::{AffineGrid, AffineScheme, Scheme};
//! use lowbit::{CodeRange, DataError, Region, Result};
//!
//! #[derive(Debug, Clone)]
//! struct PowerOfTwoScale {
//!     bits: BitWidth,
//! }
//!
//! impl Quantizer for PowerOfTwoScale {
//!     // What will be stored, known before any data: signed codes, zero point 0, one f32 scale per region.
//!     fn scheme(&self) -> Result<Scheme> {
//!         Ok(AffineScheme::symmetric(self.bits, CodeRange::signed(self.bits))?.into())
//!     }
//!
//!     // The grid of one region. `scheme` is the one above, or that with wider parameters.
//!     fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
//!         let (low, high) = region.evidence().min_max().ok_or(DataError::NoData { region: region.index() })?;
//!         let magnitude = high.max(-low);
//!         let q_max = f64::from(scheme.codes().max());
//!         let scale = if magnitude > 0.0 { (magnitude / q_max).log2().ceil().exp2() } else { 1.0 };
//!         Ok(AffineGrid { scale, zero_point: 0.0 }.into())
//!     }
//! }
//!
//! // The text form.
//! impl fmt::Display for PowerOfTwoScale {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         write!(f, "power-of-two-scale(bits={})", self.bits)
//!     }
//! }
//!
//! // It composes like every other method, ...
//! let weights = ndarray::array![[0.5f32, -1.0], [2.0, 100.0]];
//! let method = PowerOfTwoScale { bits: BitWidth::new(8)? };
//! let q = method.granularity(PerChannel::new(Axis(0))).quantize(&weights)?;
//! assert_eq!(q.code(3), Some(100));
//!
//! // ... and is read back from text once its name is registered.
//! use lowbit::recipe::Registry;
//!
//! let mut registry = Registry::default();
//! registry.quantizer("power-of-two-scale", |mut arguments, _| {
//!     let bits = arguments.required("bits")?.parse()?;
//!     arguments.finish()?;
//!     Ok(Arc::new(PowerOfTwoScale { bits }))
//! })?;
//! let recipe = registry.parse(q.recipe().unwrap_or_default())?;
//! assert_eq!(recipe.quantize(&weights)?, q);
//! # use std::sync::Arc;
//! # Ok::<(), lowbit::Error>(())
//! ```
//!
//! A method whose grid is a calibrated range on a scheme, as [`Uniform`] is, only needs to call
//! [`fit_calibrated`] and [`fit_all_calibrated`]. A method with a faster way through many regions overrides
//! [`Quantizer::fit_all`]; a test then holds the two paths equal.

mod apot;
mod binary_code;
mod bitsandbytes;
mod block_format;
mod block_search;
mod calibrated;
mod ecsq;
mod evidence;
mod floating_point;
mod hqq;
mod inq;
mod kmeans;
mod lloyd_max;
mod log;
mod mx;
mod normal_float;
mod nvfp4;
mod piecewise;
mod product;
mod sign;
mod ternary;
#[cfg(test)]
mod testing;
mod uniform;

use core::fmt;
use std::sync::Arc;

use crate::calibration::{Region, Regions};
use crate::error::{ConfigError, Result, ShapeError};
use crate::granularity::Tiling;
use crate::tensor::{
    AffineGrid, BinaryCodeGrid, CodebookGrid, Encoding, Grid, Grids, LevelGrid, NonFinite, Note, Notes,
    PiecewiseGrid, QuantizedTensor, Scheme, TensorView, VectorGrid,
};

pub use crate::solve::kmeans::Clusters;
pub use apot::Apot;
pub use binary_code::BinaryCode;
pub use bitsandbytes::{BitsandbytesFp4, DynamicMap};
pub use block_format::BlockFormat;
pub use block_search::BlockSearch;
pub use calibrated::{fit_all_calibrated, fit_calibrated};
pub use ecsq::Ecsq;
pub use floating_point::FloatingPoint;
pub use hqq::{Hqq, HqqReport};
pub use inq::Inq;
pub use kmeans::KMeans;
pub use lloyd_max::LloydMax;
pub use log::Log;
pub use mx::{Mx, MxElement};
pub use normal_float::NormalFloat;
pub use nvfp4::NvFp4;
pub use piecewise::{BreakPoint, PiecewiseLinear};
pub use product::ProductQuantization;
pub use sign::Sign;
pub use ternary::{Ternary, TernaryScale};
pub(crate) use uniform::Symmetry;
pub use uniform::{Codes, SymmetricRange, Uniform};

/// The grid that a method found for a region.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The grid.
    pub grid: Grid,
    /// What the user should know about it.
    pub note: Option<Note>,
}

impl From<Grid> for Fit {
    fn from(grid: Grid) -> Self {
        Self { grid, note: None }
    }
}

macro_rules! from_grid {
    ($($grid:ident),*) => {$(
        impl From<$grid> for Fit {
            fn from(grid: $grid) -> Self {
                Grid::from(grid).into()
            }
        }
    )*};
}

from_grid!(AffineGrid, BinaryCodeGrid, CodebookGrid, LevelGrid, PiecewiseGrid, VectorGrid);

/// A quantization method: what it stores, and how it finds the grid of a region.
///
/// The `Display` form is the method's text form: a name, and arguments in parentheses where it has any. See
/// the [module page](self) for how to write one.
pub trait Quantizer: fmt::Debug + fmt::Display + Send + Sync {
    /// What will be stored, before any data is seen.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a configuration that cannot work.
    fn scheme(&self) -> Result<Scheme>;

    /// Whether [`fit`](Self::fit) heeds [`Region::importance`]. Importance is an error for methods that do not.
    fn takes_importance(&self) -> bool {
        false
    }

    /// The grid of one region under `scheme`: the one that [`scheme`](Self::scheme) declares, or that one
    /// with its parameters in a wider type.
    ///
    /// # Errors
    ///
    /// [`DataError`](crate::DataError) for values that have no grid.
    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit>;

    /// The grids of all regions, appended to `grids` in order, with notes by region.
    ///
    /// The default calls [`fit`](Self::fit) for each region, on several threads where the tensor is large.
    /// An override must give the same bits.
    ///
    /// # Errors
    ///
    /// As [`fit`](Self::fit), and [`DataError::NotANumber`](crate::DataError::NotANumber) or
    /// [`DataError::Infinite`](crate::DataError::Infinite) where the policy for
    /// non-finite values is an error.
    fn fit_all(
        &self,
        regions: &Regions<'_, '_>,
        scheme: &Scheme,
        grids: &mut Grids,
        notes: &mut Notes,
    ) -> Result<()> {
        let fits = regions.map(|region| self.fit(region, scheme))?;
        for (region, fit) in fits.into_iter().enumerate() {
            grids.push(fit.grid)?;
            notes.extend(fit.note.map(|note| (region, note)));
        }
        Ok(())
    }

    /// Finds the grids of `tensor` and writes codes and grids into the buffers of `out`.
    ///
    /// The default fits all regions and then encodes. An override may do both in one pass; it must give the
    /// same bits. After an error `out` is an empty tensor.
    ///
    /// # Errors
    ///
    /// As [`scheme`](Self::scheme) and [`fit_all`](Self::fit_all).
    fn fit_and_encode(
        &self,
        tensor: &TensorView<'_>,
        tiling: Tiling,
        encoding: &Encoding,
        recipe: Option<Arc<str>>,
        out: &mut QuantizedTensor,
    ) -> Result<()> {
        fit_then_encode(self, tensor, tiling, encoding, recipe, out)
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<Q: Quantizer + ?Sized> Quantizer for $pointer<Q> {
            fn scheme(&self) -> Result<Scheme> {
                (**self).scheme()
            }

            fn takes_importance(&self) -> bool {
                (**self).takes_importance()
            }

            fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
                (**self).fit(region, scheme)
            }

            fn fit_all(
                &self,
                regions: &Regions<'_, '_>,
                scheme: &Scheme,
                grids: &mut Grids,
                notes: &mut Notes,
            ) -> Result<()> {
                (**self).fit_all(regions, scheme, grids, notes)
            }

            fn fit_and_encode(
                &self,
                tensor: &TensorView<'_>,
                tiling: Tiling,
                encoding: &Encoding,
                recipe: Option<Arc<str>>,
                out: &mut QuantizedTensor,
            ) -> Result<()> {
                (**self).fit_and_encode(tensor, tiling, encoding, recipe, out)
            }
        }
    )*};
}

forward!(Arc, Box);

/// The default of [`Quantizer::fit_and_encode`].
fn fit_then_encode<Q: Quantizer + ?Sized>(
    quantizer: &Q,
    tensor: &TensorView<'_>,
    tiling: Tiling,
    encoding: &Encoding,
    recipe: Option<Arc<str>>,
    out: &mut QuantizedTensor,
) -> Result<()> {
    let result = fit_into(quantizer, tensor, tiling, encoding, recipe, out)
        .and_then(|()| out.encode(tensor, encoding));
    if result.is_err() {
        out.clear();
    }
    result
}

/// Fits the grids of `tensor` into `out`, in a wider parameter type if the declared one does not hold them
/// and the scheme allows it.
pub(crate) fn fit_into<Q: Quantizer + ?Sized>(
    quantizer: &Q,
    tensor: &TensorView<'_>,
    tiling: Tiling,
    encoding: &Encoding,
    recipe: Option<Arc<str>>,
    out: &mut QuantizedTensor,
) -> Result<()> {
    tiling.check_shape(tensor.shape())?;
    if tensor.importance().is_some() && !quantizer.takes_importance() {
        return Err(ConfigError::Conflict { setting: "importance", to: "a method without weights" }.into());
    }
    let mut scheme = quantizer.scheme()?;
    let mut widened = None;
    out.refill(&scheme, tiling, tensor.element_type(), recipe);
    loop {
        let refill = out.parts();
        let too_large = |_| ShapeError::TooLarge { shape: tensor.shape().to_vec() };
        refill.grids.reset(&scheme, refill.tiling.regions()).map_err(too_large)?;
        refill.notes.clear();
        let regions = Regions::new(tensor, refill.tiling, encoding.non_finite);
        let fitted = fit_regions(quantizer, &regions, &scheme, refill.grids, refill.notes);
        match (fitted, scheme.widened()) {
            (Ok(()), _) => break,
            (Err(error), Some(wider)) if error.is_storage() => {
                widened = Some(Note::WidenedScales { storage: wider.storage() });
                scheme = wider;
            }
            (Err(error), _) => return Err(error),
        }
    }
    let refill = out.parts();
    *refill.scheme = scheme;
    refill.notes.extend(widened.map(|note| (0, note)));
    Ok(())
}

fn fit_regions<Q: Quantizer + ?Sized>(
    quantizer: &Q,
    regions: &Regions<'_, '_>,
    scheme: &Scheme,
    grids: &mut Grids,
    notes: &mut Notes,
) -> Result<()> {
    if regions.tensor().is_empty() {
        // Nothing will be encoded; the grid of a range of zero stands in for each region.
        for region in 0..regions.len() {
            grids.push(scheme.grid(crate::tensor::ClippingRange::ZERO, region)?)?;
        }
        return grids.finish();
    }
    quantizer.fit_all(regions, scheme, grids, notes)?;
    grids.finish()?;
    Scheme::check_regions(grids.len(), regions.len(), regions.tiling().shape())?;
    if regions.non_finite() != NonFinite::Error {
        regions.note_skipped(notes);
    }
    Ok(())
}
