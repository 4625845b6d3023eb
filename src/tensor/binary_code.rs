//! Sums of signed coefficients: `r̃ = Σ ±αᵢ`, one bit plane for each coefficient.

use core::fmt;
use std::collections::TryReserveError;

use crate::bits::BitWidth;
use crate::element::FloatType;
use crate::error::{ConfigError, DataError};

use super::arrays::FloatArray;
use super::code_range::CodeRange;
use super::grids::GridArrays;
use super::scheme::ClippingRange;

/// b coefficients αᵢ for each region: the value of code `q` is `r̃ = Σ bᵢ αᵢ`, where bᵢ is 1 if bit `i` of `q` is set
/// and −1 if not.
///
/// The bits of all codes at one place are a *bit plane*, so that a product with binary codes on both sides needs
/// nothing but counts of equal bits.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "(BitWidth, FloatType)", into = "(BitWidth, FloatType)"))]
pub struct BinaryCodeScheme {
    bits: BitWidth,
    storage: FloatType,
}

impl BinaryCodeScheme {
    /// The most coefficients: a region has 2^b sums of them.
    pub const MAX_BITS: u32 = 8;

    /// Codes of `bits` bits, with as many coefficients in `storage` for each region.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooLarge`] for more than 8 bits.
    pub const fn new(bits: BitWidth, storage: FloatType) -> Result<Self, ConfigError> {
        if bits.get() > Self::MAX_BITS {
            let (value, max) = (bits.get() as usize, Self::MAX_BITS as usize);
            return Err(ConfigError::TooLarge { what: "bits of a binary code", value, max });
        }
        Ok(Self { bits, storage })
    }

    /// The stored width of a code: one bit for each coefficient.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    /// The codes in use.
    pub const fn codes(&self) -> CodeRange {
        CodeRange::unsigned(self.bits)
    }

    /// The type of the coefficients.
    pub const fn storage(&self) -> FloatType {
        self.storage
    }

    /// The coefficients whose sums are evenly spaced over the range `[−max(|α|, |β|), max(|α|, |β|)]`.
    pub fn grid(&self, range: ClippingRange) -> BinaryCodeGrid {
        let steps = f64::from(self.bits.levels() - 1);
        let share = |bit: u32| f64::from(1u32 << bit) / steps;
        BinaryCodeGrid {
            coefficients: (0..self.bits.get()).rev().map(|bit| range.magnitude() * share(bit)).collect(),
        }
    }
}

impl TryFrom<(BitWidth, FloatType)> for BinaryCodeScheme {
    type Error = ConfigError;

    fn try_from((bits, storage): (BitWidth, FloatType)) -> Result<Self, ConfigError> {
        Self::new(bits, storage)
    }
}

impl From<BinaryCodeScheme> for (BitWidth, FloatType) {
    fn from(scheme: BinaryCodeScheme) -> Self {
        (scheme.bits, scheme.storage)
    }
}

/// `3-bit binary codes, f32 coefficients`
impl fmt::Display for BinaryCodeScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-bit binary codes, {} coefficients", self.bits, self.storage)
    }
}

/// The coefficients of one region.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryCodeGrid {
    /// αᵢ belongs to bit `i` of the codes. As many as the code has bits.
    pub coefficients: Vec<f64>,
}

impl BinaryCodeGrid {
    /// The value of each code in order: `Σ ±αᵢ`, summed from α₀ on.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        (0..1usize << self.coefficients.len().min(16))
            .map(|code| sum(code, self.coefficients.iter().copied()))
    }
}

fn sum(code: usize, coefficients: impl Iterator<Item = f64>) -> f64 {
    coefficients.enumerate().map(|(bit, alpha)| if code >> bit & 1 == 1 { alpha } else { -alpha }).sum()
}

/// The coefficients of a tensor's regions, in the order of the tiling.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BinaryCodeGrids {
    bits: BitWidth,
    coefficients: FloatArray,
}

impl BinaryCodeGrids {
    /// `bits` coefficients for each region, one region after the other. Whether they fit a scheme is checked where they
    /// meet it.
    pub const fn from_arrays(bits: BitWidth, coefficients: FloatArray) -> Self {
        Self { bits, coefficients }
    }

    /// All coefficients: b for each region.
    pub const fn coefficients(&self) -> &FloatArray {
        &self.coefficients
    }

    fn of(&self, index: usize) -> impl Iterator<Item = f64> + '_ {
        let bits = self.bits.get() as usize;
        (0..bits).filter_map(move |bit| self.coefficients.get(index * bits + bit))
    }

    /// The value of each code of region `index`.
    pub(crate) fn values(&self, index: usize) -> impl Iterator<Item = f64> + '_ {
        (0..self.bits.levels() as usize).map(move |code| sum(code, self.of(index)))
    }
}

impl GridArrays for BinaryCodeGrids {
    type Scheme = BinaryCodeScheme;
    type Grid = BinaryCodeGrid;

    fn new(scheme: &BinaryCodeScheme) -> Self {
        Self { bits: scheme.bits, coefficients: FloatArray::new(scheme.storage) }
    }

    fn len(&self) -> usize {
        self.coefficients.len() / self.bits.get() as usize
    }

    fn get(&self, index: usize) -> Option<BinaryCodeGrid> {
        (index < self.len()).then(|| BinaryCodeGrid { coefficients: self.of(index).collect() })
    }

    fn push(&mut self, grid: BinaryCodeGrid) -> Result<(), DataError> {
        let (region, storage) = (self.len(), self.coefficients.storage());
        let count = self.bits.get() as usize;
        let bad = |alpha: f64| !storage.round(alpha).is_finite();
        let wrong = grid.coefficients.iter().position(|&alpha| bad(alpha));
        if let Some(code) = wrong.or((grid.coefficients.len() != count).then_some(count)) {
            let level = grid.coefficients.get(code).copied().unwrap_or(f64::NAN);
            return Err(DataError::Level { region, code, level, storage });
        }
        grid.coefficients.into_iter().for_each(|alpha| self.coefficients.push(alpha));
        Ok(())
    }

    fn bits(&self) -> u64 {
        self.coefficients.len() as u64 * u64::from(self.coefficients.storage().bits())
    }

    fn reset(&mut self, scheme: &BinaryCodeScheme, regions: usize) -> Result<(), TryReserveError> {
        self.bits = scheme.bits;
        self.coefficients.reset(scheme.storage);
        self.coefficients.try_reserve(regions.saturating_mul(scheme.bits.get() as usize))
    }

    fn check(&self, scheme: &BinaryCodeScheme, _positive: bool) -> Result<(), ConfigError> {
        let count = scheme.bits.get() as usize;
        if self.bits != scheme.bits
            || self.coefficients.storage() != scheme.storage
            || !self.coefficients.len().is_multiple_of(count)
        {
            return Err(ConfigError::Conflict {
                setting: "coefficients of this form",
                to: "the declared scheme",
            });
        }
        super::codebook::check_finite(&self.coefficients)
    }

    fn range(&self, _scheme: &BinaryCodeScheme, index: usize) -> Option<ClippingRange> {
        let magnitude = self.get(index)?.coefficients.iter().map(|alpha| alpha.abs()).sum::<f64>();
        ClippingRange::new(-magnitude, magnitude).ok()
    }
}
