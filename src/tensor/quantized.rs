//! The result of quantization: one concrete type, whatever the method.

use core::fmt;
use core::ops::Range;
use std::sync::Arc;

use ndarray::{Array, Array1, ArrayD, ArrayRef, ArrayViewMutD, Dimension, IxDyn};

use crate::element::{AnyViewMut, Element, FloatType, Real};
use crate::error::{Error, Result, ShapeError};
use crate::granularity::Tiling;
use crate::kernel::{self, gather};
use crate::parallel;

use super::codes::PackedCodes;
use super::decode::{DecodeScratch, decode_range, decodes_in_f64};
use super::encode::Uniforms;
use super::encoding::Encoding;
use super::grids::{Grid, Grids};
use super::scales::ScaleStorage;
use super::scheme::{ClippingRange, Scheme};
use super::view::{CHUNK, TensorView};

/// Something that the user should know about how a region got its grid.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Note {
    /// The calibration found a range of zero on data that are not all zero; minimum and maximum were used.
    FellBackToMinMax,
    /// The calibration could not search, because there are at least as many levels as histogram bins; the
    /// full range was used.
    FullRange,
    /// Non-finite values were left out of the calibration.
    SkippedNonFinite {
        /// How many.
        count: u64,
    },
    /// The declared storage type could not hold the scales, and a wider one was taken for the tensor.
    WidenedScales {
        /// How they are stored.
        storage: ScaleStorage,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FellBackToMinMax => f.write_str("calibrated range of zero: minimum and maximum used"),
            Self::FullRange => f.write_str("as many levels as histogram bins: full range used"),
            Self::SkippedNonFinite { count } => write!(f, "{count} non-finite values skipped"),
            Self::WidenedScales { storage } => write!(f, "scales stored as {storage}"),
        }
    }
}

/// Notes by region.
pub type Notes = Vec<(usize, Note)>;

/// A quantized tensor: bit-packed codes, one grid per region, and the tiling that says which region an
/// element is in. No generics, whatever method and element type made it.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::{Ix2, array};
///
/// let weights = array![[0.5f32, -1.0], [2.0, 4.0]];
/// let q = Uniform::symmetric(BitWidth::EIGHT).granularity(PerChannel::new(Axis(0))).quantize(&weights)?;
/// assert_eq!(q.codes().as_i8(), Some(&[64i8, -127, 64, 127][..]));
/// let restored = q.dequantize::<f32, Ix2>()?;
/// assert!((restored[[0, 0]] - 0.5).abs() <= 1.0 / 254.0);
/// // 8 bits of code, and 32 bits of scale for every two elements.
/// assert_eq!(q.bits_per_element(), 8.0 + 16.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct QuantizedTensor {
    scheme: Scheme,
    tiling: Tiling,
    grids: Grids,
    codes: PackedCodes,
    source: FloatType,
    recipe: Option<Arc<str>>,
    notes: Notes,
}

impl QuantizedTensor {
    /// A tensor from its parts. The one constructor behind deserialization and every reader: what it
    /// accepts can be decoded.
    ///
    /// `source` is the element type that was quantized; `recipe` the text form of the recipe, if known.
    ///
    /// # Errors
    ///
    /// [`ConfigError`](crate::ConfigError) for a scale or zero point that its scheme does not allow;
    /// [`ShapeError::RegionCount`] unless there is a grid for each region; [`ShapeError::Length`] unless
    /// there is a code for each element (for each vector, in schemes of vectors); [`ConfigError::Conflict`](crate::ConfigError::Conflict) for codes
    /// of another width or sign than the scheme's.
    pub fn new(
        scheme: Scheme,
        tiling: Tiling,
        grids: Grids,
        codes: PackedCodes,
        source: FloatType,
        recipe: Option<Arc<str>>,
    ) -> Result<Self> {
        grids.check(&scheme, false)?;
        Scheme::check_regions(grids.len(), tiling.regions(), tiling.shape())?;
        let expected = scheme.code_count(&tiling)?;
        if codes.len() != expected {
            return Err(ShapeError::Length { found: codes.len(), expected }.into());
        }
        if codes.bits() != scheme.bits() || codes.is_signed() != scheme.codes().is_signed() {
            let setting = "a code width or sign other than the scheme's";
            return Err(crate::ConfigError::Conflict { setting, to: "the declared scheme" }.into());
        }
        Ok(Self { scheme, tiling, grids, codes, source, recipe, notes: Notes::new() })
    }

    /// The same tensor with notes on how its regions got their grids.
    #[cfg(feature = "serde")]
    pub(super) fn with_notes(mut self, notes: Notes) -> Self {
        self.notes = notes;
        self
    }

    /// The same tensor with other codes, and other grids where there are any.
    pub(crate) fn with_codes(mut self, codes: PackedCodes, grids: Option<Grids>) -> Result<Self> {
        let grids = grids.unwrap_or_else(|| core::mem::replace(&mut self.grids, Grids::new(&self.scheme)));
        let notes = core::mem::take(&mut self.notes);
        let made = Self::new(self.scheme, self.tiling, grids, codes, self.source, self.recipe)?;
        Ok(Self { notes, ..made })
    }

    /// What was found of a tensor, without its codes.
    pub(crate) fn into_fitted(self) -> (Scheme, Grids, Notes) {
        (self.scheme, self.grids, self.notes)
    }

    /// A tensor of shape `[0]`, without regions, under a scheme: the buffers that [`Recipe::quantize_into`] fills.
    ///
    /// [`Recipe::quantize_into`]: crate::recipe::Recipe::quantize_into
    pub fn empty(scheme: Scheme) -> Self {
        let tiling = Tiling::none();
        let grids = Grids::new(&scheme);
        let codes = PackedCodes::new(scheme.bits(), scheme.codes().is_signed());
        Self { scheme, tiling, grids, codes, source: FloatType::F32, recipe: None, notes: Notes::new() }
    }

    /// What is stored.
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// How the tensor is cut into regions.
    pub const fn tiling(&self) -> &Tiling {
        &self.tiling
    }

    /// The grid of each region.
    pub const fn grids(&self) -> &Grids {
        &self.grids
    }

    /// The bit-packed codes.
    pub const fn codes(&self) -> &PackedCodes {
        &self.codes
    }

    /// The code of element `index` (row-major), if there is one; that of its vector in schemes of vectors.
    pub fn code(&self, index: usize) -> Option<i32> {
        if index >= self.len() {
            return None;
        }
        self.codes.get(self.scheme.code_of(&self.tiling, index)?)
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        self.tiling.shape()
    }

    /// The number of elements.
    pub const fn len(&self) -> usize {
        self.tiling.len()
    }

    /// Whether there are no elements.
    pub const fn is_empty(&self) -> bool {
        self.tiling.is_empty()
    }

    /// The type of the elements that were quantized.
    pub const fn source_type(&self) -> FloatType {
        self.source
    }

    /// The text form of the recipe that made this, if known.
    pub fn recipe(&self) -> Option<&str> {
        self.recipe.as_deref()
    }

    /// What the user should know about single regions: fallbacks of calibrations, skipped values.
    pub fn notes(&self) -> &[(usize, Note)] {
        &self.notes
    }

    /// The clipping range that region `region` covers, if there is such a region.
    pub fn clipping_range(&self, region: usize) -> Option<ClippingRange> {
        self.grids.range(&self.scheme, region)
    }

    /// Bytes of codes and parameters.
    pub fn bytes(&self) -> u64 {
        self.codes.as_bytes().len() as u64 + self.grids.bits() / 8
    }

    /// Bits of codes and parameters together, for each element. NaN for a tensor without elements.
    ///
    /// Everything that grows with the tensor is counted: the packed codes with their padding, all scales
    /// and all stored zero points. Shape and scheme, a few words, are not.
    pub fn bits_per_element(&self) -> f64 {
        if self.is_empty() {
            return f64::NAN;
        }
        (self.codes.as_bytes().len() as f64 * 8.0 + self.grids.bits() as f64) / self.len() as f64
    }

    /// The restored tensor. Allocates it; see [`dequantize_into`](Self::dequantize_into) to reuse one.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Rank`] if the tensor does not have the rank of `D`.
    pub fn dequantize<A: Element, D: Dimension>(&self) -> Result<Array<A, D>> {
        let mut values = vec![A::default(); self.len()];
        self.decode_slice(&mut values);
        let restored = ArrayD::from_shape_vec(IxDyn(self.shape()), values).map_err(Error::custom)?;
        let (found, expected) = (self.shape().len(), D::NDIM);
        restored
            .into_dimensionality::<D>()
            .map_err(|_| ShapeError::Rank { found, expected: expected.unwrap_or(found) }.into())
    }

    /// Writes the restored values to `out`, of any layout and element type.
    ///
    /// Values are those of the scheme, computed in f32 (in f64 if `A` or the parameters are f64) and rounded to `A`.
    /// Nothing of the size of the tensor is allocated.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`] unless `out` has the shape of the tensor.
    pub fn dequantize_into<A: Element, D: Dimension>(&self, out: &mut ArrayRef<A, D>) -> Result<()> {
        self.check_shape(out.shape())?;
        if let Some(slice) = out.as_slice_mut() {
            self.decode_slice(slice);
            return Ok(());
        }
        match A::erase_mut(out.view_mut().into_dyn()) {
            AnyViewMut::F64(view) => self.decode_scattered(view),
            AnyViewMut::F32(view) => self.decode_scattered(view),
            AnyViewMut::F16(view) => self.decode_scattered(view),
            AnyViewMut::Bf16(view) => self.decode_scattered(view),
        }
        Ok(())
    }

    /// The values of region `region`, in row-major order of the tensor. Allocates them.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Index`] if there is no such region.
    pub fn dequantize_region<A: Element>(&self, region: usize) -> Result<Array1<A>> {
        let count = self.tiling.regions();
        if region >= count {
            return Err(ShapeError::Index { what: "region", index: region, count }.into());
        }
        let mut values = vec![A::default(); self.tiling.region_len(region)];
        self.dequantize_region_into(region, &mut values)?;
        Ok(Array1::from_vec(values))
    }

    /// Writes the values of region `region` to `out`, in row-major order of the tensor.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Index`] if there is no such region, [`ShapeError::Length`] unless `out` has the
    /// region's number of elements.
    pub fn dequantize_region_into<A: Element>(&self, region: usize, out: &mut [A]) -> Result<()> {
        let count = self.tiling.regions();
        if region >= count {
            return Err(ShapeError::Index { what: "region", index: region, count }.into());
        }
        let expected = self.tiling.region_len(region);
        if out.len() != expected {
            return Err(ShapeError::Length { found: out.len(), expected }.into());
        }
        let mut rest = out;
        for run in self.tiling.region_runs(region) {
            let (here, after) = rest.split_at_mut(run.len().min(rest.len()));
            self.decode_piece(run, false, here);
            rest = after;
        }
        Ok(())
    }

    /// Row `row`: the values at one index of the first axis, flattened. Allocates them.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Index`] if there is no such row (a rank-0 tensor has none).
    pub fn dequantize_row<A: Element>(&self, row: usize) -> Result<Array1<A>> {
        let mut values = vec![A::default(); self.row(row)?.len()];
        self.dequantize_row_into(row, &mut values)?;
        Ok(Array1::from_vec(values))
    }

    /// Writes row `row` (one index of the first axis, flattened) to `out`: an embedding look-up.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Index`] if there is no such row, [`ShapeError::Length`] unless `out` has the number
    /// of elements of a row.
    pub fn dequantize_row_into<A: Element>(&self, row: usize, out: &mut [A]) -> Result<()> {
        let range = self.row(row)?;
        if out.len() != range.len() {
            return Err(ShapeError::Length { found: out.len(), expected: range.len() }.into());
        }
        self.decode_piece(range, false, out);
        Ok(())
    }

    /// The flat range of row `row`.
    fn row(&self, row: usize) -> Result<Range<usize>, ShapeError> {
        let count = self.shape().first().copied().unwrap_or(0);
        if row >= count {
            return Err(ShapeError::Index { what: "row", index: row, count });
        }
        let len = self.len() / count;
        Ok(row * len..(row + 1) * len)
    }

    pub(super) fn check_shape(&self, found: &[usize]) -> Result<(), ShapeError> {
        if found == self.shape() {
            return Ok(());
        }
        Err(ShapeError::Mismatch { found: found.to_vec(), expected: self.shape().to_vec() })
    }

    /// Decodes everything to a slice of `len` places.
    fn decode_slice<A: Element>(&self, out: &mut [A]) {
        if decodes_in_f64(&self.scheme, A::TYPE) {
            self.decode_slice_in::<f64, A>(out);
        } else {
            self.decode_slice_in::<f32, A>(out);
        }
    }

    /// As [`decode_slice`](Self::decode_slice), computed in `T`.
    fn decode_slice_in<T: Real, A: Element>(&self, out: &mut [A]) {
        let len = self.len();
        // Large enough that there is little to do for a piece itself, small enough to share evenly.
        let piece = parallel::part_len(len, 16 * CHUNK, parallel::LONGEST);
        let stream = kernel::streams(self.codes.as_bytes().len().saturating_add(size_of_val(out)));
        let grids = (&self.scheme, &self.grids);
        parallel::map_chunks(out, piece, len, DecodeScratch::<T>::default, |scratch, index, out| {
            let range = index * piece..index * piece + out.len();
            decode_range(&self.codes, &self.tiling, grids, range, scratch, stream, out);
        });
    }

    /// Decodes the elements `range` to `out`, which has as many places, past the caches if `stream`.
    pub(super) fn decode_piece<A: Element>(&self, range: Range<usize>, stream: bool, out: &mut [A]) {
        let grids = (&self.scheme, &self.grids);
        if decodes_in_f64(&self.scheme, A::TYPE) {
            let mut scratch = DecodeScratch::<f64>::default();
            decode_range(&self.codes, &self.tiling, grids, range, &mut scratch, stream, out);
        } else {
            let mut scratch = DecodeScratch::<f32>::default();
            decode_range(&self.codes, &self.tiling, grids, range, &mut scratch, stream, out);
        }
    }

    fn decode_scattered<A: Element>(&self, mut view: ArrayViewMutD<'_, A>) {
        // Wide enough that a transposed output is written by whole cache lines.
        let piece = 16 * CHUNK;
        let mut values = vec![A::default(); piece.min(self.len())];
        for start in (0..self.len()).step_by(piece) {
            let range = start..(start + piece).min(self.len());
            let values = values.get_mut(..range.len()).unwrap_or_default();
            self.decode_piece(range.clone(), false, values);
            gather::scatter(values, &mut view, range);
        }
    }

    /// Whether this was made by the recipe of that text, the very same one, of a tensor of `shape`: that recipe would cut
    /// another one in the same way.
    pub(crate) fn is_cut_by(&self, recipe: &Arc<str>, shape: &[usize]) -> bool {
        let made = self.recipe.as_ref().is_some_and(|made| Arc::ptr_eq(made, recipe));
        made && self.tiling.has_shape(shape)
    }

    /// Sets the identity of the tensor that is about to be made; grids and codes follow.
    pub(crate) fn refill(
        &mut self,
        scheme: &Scheme,
        tiling: Tiling,
        source: FloatType,
        recipe: Option<Arc<str>>,
    ) {
        (self.tiling, self.recipe) = (tiling, recipe);
        self.refill_as_cut(scheme, source);
    }

    /// As [`refill`](Self::refill) of a tensor that is cut as this one is, and by the same recipe.
    pub(crate) fn refill_as_cut(&mut self, scheme: &Scheme, source: FloatType) {
        self.scheme.clone_from(scheme);
        self.source = source;
        self.notes.clear();
    }

    /// The parts that a pipeline fills.
    pub(crate) fn parts(&mut self) -> Refill<'_> {
        Refill {
            scheme: &mut self.scheme,
            tiling: &self.tiling,
            grids: &mut self.grids,
            notes: &mut self.notes,
        }
    }

    /// Makes this a tensor without elements or regions, so that nothing half-made is left after an error.
    pub(crate) fn clear(&mut self) {
        (self.tiling, self.recipe) = (Tiling::none(), None);
        // Nothing is reserved for no regions.
        let _ = self.grids.reset(&self.scheme, 0);
        self.codes.clear();
        self.notes.clear();
    }

    /// Encodes `tensor` on the grids that are there.
    pub(crate) fn encode(&mut self, tensor: &TensorView<'_>, encoding: &Encoding) -> Result<()> {
        self.encode_from(tensor, encoding, None)
    }

    /// Finds the grids of `tensor` from minimum to maximum and encodes it, in one pass, where there is a kernel for that;
    /// elsewhere, and on errors, `false`.
    pub(crate) fn encode_min_max(&mut self, tensor: &TensorView<'_>, encoding: &Encoding) -> bool {
        let Self { scheme, tiling, grids, codes, .. } = self;
        if grids.reset(scheme, tiling.regions()).is_err() {
            return false;
        }
        match (scheme, grids) {
            (Scheme::Levels(scheme), Grids::Levels(grids)) => {
                super::encode::blocks::encode_levels(tensor, tiling, (scheme, grids), encoding, codes)
            }
            (Scheme::Affine(scheme), Grids::Affine(grids)) => {
                super::encode::blocks::encode_affine(tensor, tiling, (scheme, grids), encoding, codes)
            }
            _ => false,
        }
    }

    /// Encodes `tensor` on the codebooks that are there, by thresholds of one's own: for each region those between its
    /// levels, ascending. A value on a threshold gets the upper level.
    pub(crate) fn encode_by_thresholds(
        &mut self,
        tensor: &TensorView<'_>,
        encoding: &Encoding,
        thresholds: &[Vec<f64>],
    ) -> Result<()> {
        let Self { scheme, tiling, grids, codes, .. } = self;
        super::encode::encode_by_thresholds(tensor, tiling, (scheme, grids), encoding, thresholds, codes)
    }

    /// As [`encode`](Self::encode), with the numbers of stochastic rounding from elsewhere.
    pub(crate) fn encode_from(
        &mut self,
        tensor: &TensorView<'_>,
        encoding: &Encoding,
        uniforms: Option<Uniforms<'_>>,
    ) -> Result<()> {
        let Self { scheme, tiling, grids, codes, .. } = self;
        super::encode::encode_into(tensor, tiling, scheme, grids, encoding, uniforms, codes)
    }

    /// The grid of region `region`, if there is one.
    pub fn grid(&self, region: usize) -> Option<Grid> {
        self.grids.get(region)
    }
}

/// The parts of a tensor that is being made.
pub(crate) struct Refill<'a> {
    pub(crate) scheme: &'a mut Scheme,
    pub(crate) tiling: &'a Tiling,
    pub(crate) grids: &'a mut Grids,
    pub(crate) notes: &'a mut Notes,
}

/// Two lines: what it is, and what it costs.
///
/// ```text
/// [64, 3, 3, 3] of f32 as affine 4-bit codes -7..7, zero point 0, f32 scales
/// 64 regions ({0}:1 × {1,2,3}:whole), 1120 bytes, 5.19 bits/element
/// ```
impl fmt::Display for QuantizedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let regions = self.tiling.regions();
        let plural = if regions == 1 { "" } else { "s" };
        writeln!(f, "{:?} of {} as {}", self.shape(), self.source, self.scheme)?;
        write!(f, "{regions} region{plural} ({}), {} bytes", self.tiling, self.bytes())?;
        if !self.is_empty() {
            write!(f, ", {:.2} bits/element", self.bits_per_element())?;
        }
        for (region, note) in self.notes.iter().take(3) {
            write!(f, "\nregion {region}: {note}")?;
        }
        match self.notes.len().saturating_sub(3) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more notes"),
        }
    }
}

/// As `Display`, with the first grids and codes.
impl fmt::Debug for QuantizedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}\ngrids:")?;
        for region in 0..self.grids.len().min(4) {
            match self.grids.get(region) {
                Some(Grid::Affine(grid)) => write!(f, " {}·(q − {})", grid.scale, grid.zero_point)?,
                Some(Grid::Levels(grid)) => write!(f, " {}·level[q]", grid.scale)?,
                Some(Grid::Codebook(grid)) => write!(f, " {:?}[q]", grid.levels)?,
                Some(Grid::BinaryCode(grid)) => write!(f, " Σ ±{:?}", grid.coefficients)?,
                Some(Grid::PiecewiseAffine(grid)) => write!(f, " ±{} ±{}", grid.break_point, grid.end)?,
                Some(Grid::VectorCodebook(grid)) => write!(f, " {:?}[q]", grid.vectors)?,
                None => {}
            }
        }
        f.write_str(if self.grids.len() > 4 { " ...\n" } else { "\n" })?;
        self.codes.fmt(f)
    }
}
