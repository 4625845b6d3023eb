//! Codebooks of short vectors: one code for `d` neighbouring elements.

use core::fmt;
use std::collections::TryReserveError;

use crate::bits::BitWidth;
use crate::element::FloatType;
use crate::error::{ConfigError, DataError, Result, ShapeError};
use crate::granularity::Tiling;

use super::arrays::FloatArray;
use super::code_range::CodeRange;
use super::grids::GridArrays;
use super::scheme::ClippingRange;

/// 2^b vectors of `d` numbers for each region: the value of code `q` is `(r̃₁, …, r̃_d) = vector[q]`.
///
/// The vectors of a tensor are `d` neighbouring elements of its last axis, from the first one on; where `d` does not
/// divide the axis, the last vector of each line is shorter. A region's part of the last axis begins at a multiple of
/// `d`. There is one code for each vector, in row-major order.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Parts", into = "Parts"))]
pub struct VectorScheme {
    bits: BitWidth,
    dimension: usize,
    storage: FloatType,
}

impl VectorScheme {
    /// The longest vectors.
    pub const MAX_DIMENSION: usize = 1 << 10;

    /// Codebooks of 2^b vectors of `dimension` numbers in `storage`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] or [`ConfigError::TooLarge`] for vectors of no or more than 1024 numbers.
    pub const fn new(bits: BitWidth, dimension: usize, storage: FloatType) -> Result<Self, ConfigError> {
        let what = "dimension of the vectors";
        if dimension == 0 {
            return Err(ConfigError::TooSmall { what, value: 0, min: 1 });
        }
        if dimension > Self::MAX_DIMENSION {
            return Err(ConfigError::TooLarge { what, value: dimension, max: Self::MAX_DIMENSION });
        }
        Ok(Self { bits, dimension, storage })
    }

    /// The same vectors in another type.
    pub const fn with_storage(mut self, storage: FloatType) -> Self {
        self.storage = storage;
        self
    }

    /// The stored width of a code, which stands for a whole vector.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    /// The codes in use.
    pub const fn codes(&self) -> CodeRange {
        CodeRange::unsigned(self.bits)
    }

    /// Numbers of a vector.
    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// The type of the numbers.
    pub const fn storage(&self) -> FloatType {
        self.storage
    }

    /// Numbers of one codebook.
    pub(crate) const fn numbers(&self) -> usize {
        (self.bits.levels() as usize) * self.dimension
    }

    /// Vectors whose numbers are all the same, evenly spaced over the range `[α, β]`.
    pub fn grid(&self, range: ClippingRange) -> VectorGrid {
        let steps = f64::from(self.bits.levels() - 1);
        let at = |code: u32| {
            let share = f64::from(code) / steps;
            core::iter::repeat_n(range.low() * (1.0 - share) + range.high() * share, self.dimension)
        };
        VectorGrid { vectors: (0..self.bits.levels()).flat_map(at).collect() }
    }

    /// How the vectors lie in a tensor.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Vectors`] if a region ends within a vector.
    pub(crate) fn places(&self, tiling: &Tiling) -> Result<Places, ShapeError> {
        let (shape, dimension) = (tiling.shape(), self.dimension);
        let line = shape.last().copied().unwrap_or(1);
        let last = shape.len().saturating_sub(1);
        for group in tiling.groups().iter().filter(|group| group.axes.contains(&last)) {
            // Blocks of several axes together need not end with a line.
            let whole = group.block.is_none_or(|block| {
                if group.axes.len() > 1 {
                    line.is_multiple_of(dimension) && block.is_multiple_of(dimension)
                } else {
                    block.is_multiple_of(dimension) || block >= line
                }
            });
            if !whole {
                let block = group.block.unwrap_or(0);
                return Err(ShapeError::Vectors { block, dimension });
            }
        }
        Ok(Places { line, dimension, per_line: line.div_ceil(dimension), len: tiling.len() })
    }
}

/// How the vectors of a tensor lie in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// Elements of the last axis.
    line: usize,
    dimension: usize,
    per_line: usize,
    len: usize,
}

impl Places {
    /// The number of vectors.
    pub(crate) fn count(&self) -> usize {
        self.len.checked_div(self.line).map_or(0, |lines| lines * self.per_line)
    }

    /// The first element of vector `vector`, which may be one past the last.
    pub(crate) const fn start(&self, vector: usize) -> usize {
        if self.per_line == 0 {
            return 0;
        }
        vector / self.per_line * self.line + vector % self.per_line * self.dimension
    }

    /// The end of the line of element `index`, where its last vector may be cut short; none where `d` divides lines.
    pub(crate) const fn ragged_end(&self, index: usize) -> Option<usize> {
        if self.line == 0 || self.line.is_multiple_of(self.dimension) {
            return None;
        }
        Some((index / self.line + 1) * self.line)
    }

    /// The vector of element `index`, and its place in that.
    pub(crate) const fn of(&self, index: usize) -> (usize, usize) {
        if self.line == 0 {
            return (0, 0);
        }
        let (line, column) = (index / self.line, index % self.line);
        (line * self.per_line + column / self.dimension, column % self.dimension)
    }
}

/// `8-bit codes of vectors of 4 in f32`
impl fmt::Display for VectorScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-bit codes of vectors of {} in {}", self.bits, self.dimension, self.storage)
    }
}

/// The vectors of one region.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorGrid {
    /// At most 2^b vectors of d numbers, one after the other.
    pub vectors: Vec<f64>,
}

/// The vector codebooks of a tensor's regions, in the order of the tiling.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct VectorGrids {
    /// Numbers of one codebook.
    numbers: usize,
    dimension: usize,
    vectors: FloatArray,
}

impl VectorGrids {
    /// Codebooks of 2^b vectors each, as `scheme` has them, one after the other. Whether they fit it is checked where
    /// they meet it.
    pub const fn from_arrays(scheme: &VectorScheme, vectors: FloatArray) -> Self {
        Self { numbers: scheme.numbers(), dimension: scheme.dimension, vectors }
    }

    /// The numbers of all vectors: d for each of 2^b vectors of each region.
    pub const fn vectors(&self) -> &FloatArray {
        &self.vectors
    }

    /// The numbers of vector `code` of region `index`.
    pub(crate) fn vector(&self, index: usize, code: usize) -> impl Iterator<Item = f64> + '_ {
        let first = index * self.numbers + code * self.dimension;
        (first..first + self.dimension).filter_map(|at| self.vectors.get(at))
    }

    /// The numbers of region `index`.
    pub(crate) fn values(&self, index: usize) -> impl Iterator<Item = f64> + '_ {
        (0..self.numbers).filter_map(move |at| self.vectors.get(index * self.numbers + at))
    }
}

impl GridArrays for VectorGrids {
    type Scheme = VectorScheme;
    type Grid = VectorGrid;

    fn new(scheme: &VectorScheme) -> Self {
        Self::from_arrays(scheme, FloatArray::new(scheme.storage))
    }

    fn len(&self) -> usize {
        self.vectors.len() / self.numbers.max(1)
    }

    fn get(&self, index: usize) -> Option<VectorGrid> {
        (index < self.len()).then(|| VectorGrid { vectors: self.values(index).collect() })
    }

    fn push(&mut self, grid: VectorGrid) -> Result<(), DataError> {
        let (region, storage) = (self.len(), self.vectors.storage());
        let bad = |number: &f64| !storage.round(*number).is_finite();
        let (len, dimension) = (grid.vectors.len(), self.dimension);
        let wrong = grid.vectors.iter().position(bad);
        let fits = len > 0 && len <= self.numbers && len.is_multiple_of(dimension);
        if let Some(code) = wrong.or((!fits).then_some(len)) {
            let level = grid.vectors.get(code).copied().unwrap_or(f64::NAN);
            return Err(DataError::Level { region, code, level, storage });
        }
        let last = grid.vectors.get(len - dimension..).unwrap_or_default().to_vec();
        let padding = last.iter().copied().cycle().take(self.numbers - len);
        grid.vectors.iter().copied().chain(padding).for_each(|number| self.vectors.push(number));
        Ok(())
    }

    fn bits(&self) -> u64 {
        self.vectors.len() as u64 * u64::from(self.vectors.storage().bits())
    }

    fn reset(&mut self, scheme: &VectorScheme, regions: usize) -> Result<(), TryReserveError> {
        (self.numbers, self.dimension) = (scheme.numbers(), scheme.dimension);
        self.vectors.reset(scheme.storage);
        self.vectors.try_reserve(regions.saturating_mul(self.numbers))
    }

    fn check(&self, scheme: &VectorScheme, _positive: bool) -> Result<(), ConfigError> {
        if (self.numbers, self.dimension) != (scheme.numbers(), scheme.dimension)
            || self.vectors.storage() != scheme.storage
            || !self.vectors.len().is_multiple_of(self.numbers.max(1))
        {
            return Err(ConfigError::Conflict { setting: "vectors of this form", to: "the declared scheme" });
        }
        super::codebook::check_finite(&self.vectors)
    }

    fn range(&self, _scheme: &VectorScheme, index: usize) -> Option<ClippingRange> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for number in self.values(index) {
            (low, high) = (low.min(number), high.max(number));
        }
        ClippingRange::new(low, high).ok()
    }
}

/// The fields of a [`VectorScheme`] before they are validated.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Parts {
    bits: BitWidth,
    dimension: usize,
    storage: FloatType,
}

#[cfg(feature = "serde")]
impl TryFrom<Parts> for VectorScheme {
    type Error = ConfigError;

    fn try_from(parts: Parts) -> Result<Self, ConfigError> {
        Self::new(parts.bits, parts.dimension, parts.storage)
    }
}

#[cfg(feature = "serde")]
impl From<VectorScheme> for Parts {
    fn from(scheme: VectorScheme) -> Self {
        let VectorScheme { bits, dimension, storage } = scheme;
        Self { bits, dimension, storage }
    }
}
