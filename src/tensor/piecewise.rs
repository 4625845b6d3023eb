//! Two uniform pieces: fine steps around zero, coarse ones in the tails.

use core::fmt;
use std::collections::TryReserveError;

use crate::bits::BitWidth;
use crate::element::FloatType;
use crate::error::{ConfigError, DataError};
use crate::solve::piecewise::PieceSteps;

use super::arrays::FloatArray;
use super::code_range::CodeRange;
use super::grids::GridArrays;
use super::scheme::ClippingRange;

/// A break point `p` and an end `m` for each region: 2^b − 1 levels from −m to m, zero among them, evenly spaced within
/// `[−p, p]` and, more coarsely, in the tails beyond.
///
/// Codes count from 0 at −m. The centre has K = 2^(b−2) steps from 0 to p, the tail K − 1 steps from p to m.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "(BitWidth, FloatType)", into = "(BitWidth, FloatType)"))]
pub struct PiecewiseScheme {
    bits: BitWidth,
    storage: FloatType,
}

impl PiecewiseScheme {
    /// Codes of `bits` bits, with break points and ends in `storage`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for one bit, which has no centre.
    pub const fn new(bits: BitWidth, storage: FloatType) -> Result<Self, ConfigError> {
        if bits.get() < 2 {
            return Err(ConfigError::TooSmall { what: "bits of two pieces", value: 1, min: 2 });
        }
        Ok(Self { bits, storage })
    }

    /// The stored width of a code.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    /// The codes in use: 2^b − 1 of them.
    pub fn codes(&self) -> CodeRange {
        let all = CodeRange::unsigned(self.bits);
        CodeRange::new(0, all.max() - 1).unwrap_or(all)
    }

    /// The type of break points and ends.
    pub const fn storage(&self) -> FloatType {
        self.storage
    }

    /// The number of steps of the pieces.
    pub(crate) fn steps(&self) -> PieceSteps {
        // At least two bits, as the constructor has seen to.
        PieceSteps::distinct(self.bits.get()).unwrap_or(PieceSteps { centre: 1, tail: 0 })
    }

    /// The pieces with equal steps over the range `[−max(|α|, |β|), max(|α|, |β|)]`: a uniform grid.
    pub fn grid(&self, range: ClippingRange) -> PiecewiseGrid {
        let end = range.magnitude();
        PiecewiseGrid { break_point: self.steps().uniform_break_point(end), end }
    }
}

impl TryFrom<(BitWidth, FloatType)> for PiecewiseScheme {
    type Error = ConfigError;

    fn try_from((bits, storage): (BitWidth, FloatType)) -> Result<Self, ConfigError> {
        Self::new(bits, storage)
    }
}

impl From<PiecewiseScheme> for (BitWidth, FloatType) {
    fn from(scheme: PiecewiseScheme) -> Self {
        (scheme.bits, scheme.storage)
    }
}

/// `4-bit codes of two pieces, f32 break points and ends`
impl fmt::Display for PiecewiseScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-bit codes of two pieces, {} break points and ends", self.bits, self.storage)
    }
}

/// The pieces of one region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PiecewiseGrid {
    /// Where the centre ends, p: within 0 and m.
    pub break_point: f64,
    /// Where the tails end, m.
    pub end: f64,
}

/// The pieces of a tensor's regions, in the order of the tiling.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PiecewiseGrids {
    break_points: FloatArray,
    ends: FloatArray,
}

impl PiecewiseGrids {
    /// One break point and one end for each region. Whether they fit a scheme is checked where they meet it.
    pub const fn from_arrays(break_points: FloatArray, ends: FloatArray) -> Self {
        Self { break_points, ends }
    }

    /// The break points.
    pub const fn break_points(&self) -> &FloatArray {
        &self.break_points
    }

    /// The ends.
    pub const fn ends(&self) -> &FloatArray {
        &self.ends
    }

    /// The value of each code of region `index`.
    pub(crate) fn values(&self, scheme: &PiecewiseScheme, index: usize) -> Vec<f64> {
        let grid = self.get(index).unwrap_or(PiecewiseGrid { break_point: 0.0, end: 0.0 });
        scheme.steps().levels(grid.break_point, grid.end)
    }
}

fn fits(break_point: f64, end: f64) -> bool {
    0.0 <= break_point && break_point <= end && end.is_finite()
}

impl GridArrays for PiecewiseGrids {
    type Scheme = PiecewiseScheme;
    type Grid = PiecewiseGrid;

    fn new(scheme: &PiecewiseScheme) -> Self {
        Self { break_points: FloatArray::new(scheme.storage), ends: FloatArray::new(scheme.storage) }
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> Option<PiecewiseGrid> {
        Some(PiecewiseGrid { break_point: self.break_points.get(index)?, end: self.ends.get(index)? })
    }

    fn push(&mut self, grid: PiecewiseGrid) -> Result<(), DataError> {
        let (region, storage) = (self.len(), self.ends.storage());
        let PiecewiseGrid { break_point, end } = grid;
        if !fits(storage.round(break_point), storage.round(end)) {
            let (code, level) = if end.is_finite() { (0, break_point) } else { (1, end) };
            return Err(DataError::Level { region, code, level, storage });
        }
        self.break_points.push(break_point);
        self.ends.push(end);
        Ok(())
    }

    fn bits(&self) -> u64 {
        2 * self.ends.len() as u64 * u64::from(self.ends.storage().bits())
    }

    fn reset(&mut self, scheme: &PiecewiseScheme, regions: usize) -> Result<(), TryReserveError> {
        self.break_points.reset(scheme.storage);
        self.ends.reset(scheme.storage);
        self.break_points.try_reserve(regions)?;
        self.ends.try_reserve(regions)
    }

    fn check(&self, scheme: &PiecewiseScheme, _positive: bool) -> Result<(), ConfigError> {
        let (storage, len) = (scheme.storage, self.ends.len());
        if self.ends.storage() != storage
            || self.break_points.storage() != storage
            || self.break_points.len() != len
        {
            return Err(ConfigError::Conflict { setting: "pieces of this form", to: "the declared scheme" });
        }
        let bad = self.break_points.iter().zip(self.ends.iter()).find(|&(p, m)| !fits(p, m));
        bad.map_or(Ok(()), |(low, high)| Err(ConfigError::ClippingRange { index: 0, low, high }))
    }

    fn range(&self, _scheme: &PiecewiseScheme, index: usize) -> Option<ClippingRange> {
        let end = self.ends.get(index)?;
        ClippingRange::new(-end, end).ok()
    }
}
