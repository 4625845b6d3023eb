//! A codebook for each region: `r̃ = level[q]`.

use core::fmt;
use std::collections::TryReserveError;

use crate::bits::BitWidth;
use crate::element::FloatType;
use crate::error::{ConfigError, DataError};

use super::arrays::FloatArray;
use super::code_range::CodeRange;
use super::grids::GridArrays;
use super::scheme::ClippingRange;

/// 2^b levels for each region, of any values: the value of code `q` is `r̃ = level[q]`.
///
/// Codes count from 0 in ascending order of the levels. A region with fewer distinct levels repeats the last one.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CodebookScheme {
    bits: BitWidth,
    storage: FloatType,
}

impl CodebookScheme {
    /// Codebooks of 2^b levels in `storage`.
    pub const fn new(bits: BitWidth, storage: FloatType) -> Self {
        Self { bits, storage }
    }

    /// The stored width of a code.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    /// The codes in use.
    pub const fn codes(&self) -> CodeRange {
        CodeRange::unsigned(self.bits)
    }

    /// The type of the levels.
    pub const fn storage(&self) -> FloatType {
        self.storage
    }

    /// Evenly spaced levels over the range `[α, β]`.
    pub fn grid(&self, range: ClippingRange) -> CodebookGrid {
        let steps = f64::from(self.bits.levels() - 1);
        let at = |code: u32| {
            let share = f64::from(code) / steps;
            range.low() * (1.0 - share) + range.high() * share
        };
        CodebookGrid { levels: (0..self.bits.levels()).map(at).collect() }
    }
}

/// `4-bit codes of codebooks in f32`
impl fmt::Display for CodebookScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-bit codes of codebooks in {}", self.bits, self.storage)
    }
}

/// The levels of one region, ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct CodebookGrid {
    /// At most 2^b levels in ascending order.
    pub levels: Vec<f64>,
}

/// The codebooks of a tensor's regions, in the order of the tiling.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CodebookGrids {
    /// Levels of one codebook.
    count: usize,
    levels: FloatArray,
}

impl CodebookGrids {
    /// Codebooks of `count` levels each, one after the other. Whether they fit a scheme is checked where they meet it.
    pub const fn from_arrays(count: usize, levels: FloatArray) -> Self {
        Self { count, levels }
    }

    /// All levels: 2^b for each region.
    pub const fn levels(&self) -> &FloatArray {
        &self.levels
    }

    /// The levels of region `index`.
    pub(crate) fn values(&self, index: usize) -> impl Iterator<Item = f64> + '_ {
        (0..self.count).filter_map(move |code| self.levels.get(index * self.count + code))
    }
}

impl GridArrays for CodebookGrids {
    type Scheme = CodebookScheme;
    type Grid = CodebookGrid;

    fn new(scheme: &CodebookScheme) -> Self {
        Self { count: scheme.bits.levels() as usize, levels: FloatArray::new(scheme.storage) }
    }

    fn len(&self) -> usize {
        self.levels.len() / self.count.max(1)
    }

    fn get(&self, index: usize) -> Option<CodebookGrid> {
        (index < self.len()).then(|| CodebookGrid { levels: self.values(index).collect() })
    }

    fn push(&mut self, grid: CodebookGrid) -> Result<(), DataError> {
        let (region, storage) = (self.len(), self.levels.storage());
        let rounded = |level: f64| storage.round(level);
        let level_error = |code: usize, level: f64| DataError::Level { region, code, level, storage };
        let mut before = f64::NEG_INFINITY;
        for (code, &level) in grid.levels.iter().enumerate() {
            let stored = rounded(level);
            if !(stored >= before && stored.is_finite()) || code >= self.count {
                return Err(level_error(code, level));
            }
            before = stored;
        }
        let Some(&last) = grid.levels.last() else { return Err(level_error(0, f64::NAN)) };
        let padding = self.count - grid.levels.len();
        for level in grid.levels.into_iter().chain(core::iter::repeat_n(last, padding)) {
            self.levels.push(level);
        }
        Ok(())
    }

    fn bits(&self) -> u64 {
        self.levels.len() as u64 * u64::from(self.levels.storage().bits())
    }

    fn reset(&mut self, scheme: &CodebookScheme, regions: usize) -> Result<(), TryReserveError> {
        self.count = scheme.bits.levels() as usize;
        self.levels.reset(scheme.storage);
        self.levels.try_reserve(regions.saturating_mul(self.count))
    }

    fn check(&self, scheme: &CodebookScheme, _positive: bool) -> Result<(), ConfigError> {
        let count = scheme.bits.levels() as usize;
        if self.count != count
            || self.levels.storage() != scheme.storage
            || !self.levels.len().is_multiple_of(count)
        {
            return Err(ConfigError::Conflict {
                setting: "codebooks of this form",
                to: "the declared scheme",
            });
        }
        check_finite(&self.levels)?;
        for index in 1..self.levels.len() {
            if index % count > 0 && self.levels.get(index) < self.levels.get(index - 1) {
                let bad = self.levels.get(index);
                return Err(ConfigError::Levels { count, bad });
            }
        }
        Ok(())
    }

    fn range(&self, _scheme: &CodebookScheme, index: usize) -> Option<ClippingRange> {
        let last = self.values(index).last()?;
        ClippingRange::new(self.values(index).next()?, last).ok()
    }
}

/// Checks that all levels are finite.
pub(super) fn check_finite(levels: &FloatArray) -> Result<(), ConfigError> {
    match levels.iter().find(|level| !level.is_finite()) {
        Some(bad) => Err(ConfigError::Levels { count: levels.len(), bad: Some(bad) }),
        None => Ok(()),
    }
}
