//! What will be stored, declared before any data is seen.
//!
//! A scheme alone maps a clipping range to a grid: it widens the range to hold zero, makes it symmetric,
//! and rounds the parameters to their storage type. Calibrations that optimize for a target (KL, MSE) read
//! it to know the codes that they calibrate for.

use core::fmt;

use crate::bits::BitWidth;
use crate::element::FloatType;
use crate::error::{ConfigError, DataError, ShapeError};

use crate::granularity::Tiling;

use super::affine::AffineScheme;
use super::arrays::clone_in_place;
use super::binary_code::BinaryCodeScheme;
use super::code_range::CodeRange;
use super::codebook::CodebookScheme;
use super::grids::Grid;
use super::levels::LevelScheme;
use super::piecewise::PiecewiseScheme;
use super::scales::ScaleStorage;
use super::vector_codebook::VectorScheme;

/// The interval `[low, high]` of real values that the codes of a region cover; values outside are clipped.
/// The survey's [α, β].
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "(f64, f64)", into = "(f64, f64)"))]
pub struct ClippingRange {
    low: f64,
    high: f64,
}

impl ClippingRange {
    /// The range that holds nothing but zero: what a region without data gets.
    pub const ZERO: Self = Self { low: 0.0, high: 0.0 };

    /// The interval `[low, high]`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ClippingRange`] unless both are finite and `low <= high`.
    #[inline]
    pub fn new(low: f64, high: f64) -> Result<Self, ConfigError> {
        if low.is_finite() && high.is_finite() && low <= high {
            Ok(Self { low, high })
        } else {
            Err(ConfigError::ClippingRange { index: 0, low, high })
        }
    }

    /// The interval `[−magnitude, magnitude]` of a finite magnitude.
    pub(super) fn symmetric(magnitude: f64) -> Self {
        Self::between(-magnitude, magnitude)
    }

    /// The interval between two numbers, cut off at the largest finite ones.
    pub(super) fn between(a: f64, b: f64) -> Self {
        let (a, b) = (a.clamp(-f64::MAX, f64::MAX), b.clamp(-f64::MAX, f64::MAX));
        if a <= b { Self { low: a, high: b } } else { Self { low: b, high: a } }
    }

    /// The lower end, the survey's α.
    pub const fn low(self) -> f64 {
        self.low
    }

    /// The upper end, the survey's β.
    pub const fn high(self) -> f64 {
        self.high
    }

    /// The larger magnitude of the two ends.
    pub fn magnitude(self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    /// The smallest range that holds this one and zero.
    pub fn with_zero(self) -> Self {
        Self { low: self.low.min(0.0), high: self.high.max(0.0) }
    }
}

impl TryFrom<(f64, f64)> for ClippingRange {
    type Error = ConfigError;

    fn try_from((low, high): (f64, f64)) -> Result<Self, ConfigError> {
        Self::new(low, high)
    }
}

impl From<ClippingRange> for (f64, f64) {
    fn from(range: ClippingRange) -> Self {
        (range.low, range.high)
    }
}

impl fmt::Display for ClippingRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.low, self.high)
    }
}

/// What will be stored: the representation and its parameters, declared before any data is seen.
#[derive(Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Scheme {
    /// A uniform grid: `r̃ = S · (q − Z)`.
    Affine(AffineScheme),
    /// Shared levels under a scale for each region: `r̃ = S · level[q]`.
    Levels(LevelScheme),
    /// A codebook for each region: `r̃ = level[q]`.
    Codebook(CodebookScheme),
    /// Sums of signed coefficients: `r̃ = Σ ±αᵢ`.
    BinaryCode(BinaryCodeScheme),
    /// Two uniform pieces, fine around zero and coarse in the tails.
    PiecewiseAffine(PiecewiseScheme),
    /// Codebooks of short vectors: `(r̃₁, …, r̃_d) = vector[q]`.
    VectorCodebook(VectorScheme),
}

clone_in_place!(Scheme { Affine, Levels, Codebook, BinaryCode, PiecewiseAffine, VectorCodebook });

/// Runs `$body` with `$scheme` bound to the scheme of whichever variant `$any` is.
macro_rules! each_scheme {
    ($any:expr, $scheme:ident => $body:expr) => {
        match $any {
            Scheme::Affine($scheme) => $body,
            Scheme::Levels($scheme) => $body,
            Scheme::Codebook($scheme) => $body,
            Scheme::BinaryCode($scheme) => $body,
            Scheme::PiecewiseAffine($scheme) => $body,
            Scheme::VectorCodebook($scheme) => $body,
        }
    };
}

impl Scheme {
    /// The stored width of a code.
    pub const fn bits(&self) -> BitWidth {
        each_scheme!(self, scheme => scheme.bits())
    }

    /// The codes in use.
    pub fn codes(&self) -> CodeRange {
        each_scheme!(self, scheme => scheme.codes())
    }

    /// How scales are stored; for representations without scales, how their levels or coefficients are.
    pub const fn storage(&self) -> ScaleStorage {
        match self {
            Self::Affine(scheme) => scheme.scales(),
            Self::Levels(scheme) => scheme.scales(),
            Self::Codebook(scheme) => ScaleStorage::Float(scheme.storage()),
            Self::BinaryCode(scheme) => ScaleStorage::Float(scheme.storage()),
            Self::PiecewiseAffine(scheme) => ScaleStorage::Float(scheme.storage()),
            Self::VectorCodebook(scheme) => ScaleStorage::Float(scheme.storage()),
        }
    }

    /// Whether ranges are symmetric about zero, so that calibrations look at magnitudes.
    pub const fn is_symmetric(&self) -> bool {
        match self {
            Self::Affine(scheme) => scheme.is_symmetric(),
            Self::Levels(_) | Self::BinaryCode(_) | Self::PiecewiseAffine(_) => true,
            Self::Codebook(_) | Self::VectorCodebook(_) => false,
        }
    }

    /// The type that values are computed in, for elements of type `element`: f64 if these or any parameter are f64,
    /// else f32.
    pub(crate) fn arithmetic(&self, element: FloatType) -> FloatType {
        if element == FloatType::F64 { FloatType::F64 } else { self.storage().arithmetic() }
    }

    /// The scheme with its parameters stored in the next larger type, if the overflow rule allows it and
    /// there is one.
    pub fn widened(&self) -> Option<Self> {
        match self {
            Self::Affine(scheme) => scheme.widened().map(Self::Affine),
            _ => None,
        }
    }

    /// Whether this is `declared`, up to parameters in a wider type.
    pub(crate) fn is_or_widens(&self, declared: &Self) -> bool {
        match (self, declared) {
            (Self::Affine(given), Self::Affine(declared)) => {
                declared.with_storage(given.scales(), given.overflow()) == *given
            }
            (given, declared) => given == declared,
        }
    }

    /// The grid of the range `[α, β]` in region `region` (which only the errors name). Where a representation's levels
    /// are free, they are evenly spaced.
    ///
    /// # Errors
    ///
    /// As [`AffineScheme::grid`].
    pub fn grid(&self, range: ClippingRange, region: usize) -> Result<Grid, DataError> {
        Ok(match self {
            Self::Affine(scheme) => scheme.grid(range, region)?.into(),
            Self::Levels(scheme) => scheme.grid(range, region)?.into(),
            Self::Codebook(scheme) => scheme.grid(range).into(),
            Self::BinaryCode(scheme) => scheme.grid(range).into(),
            Self::PiecewiseAffine(scheme) => scheme.grid(range).into(),
            Self::VectorCodebook(scheme) => scheme.grid(range).into(),
        })
    }

    /// The levels of a grid in ascending order; `None` for schemes of vectors and for levels that are stored with a
    /// tensor.
    pub(crate) fn level_values(&self, grid: &Grid) -> Option<Vec<f64>> {
        let mut values: Vec<f64> = match (self, grid) {
            (Self::Affine(scheme), Grid::Affine(grid)) => {
                let codes = scheme.codes().min()..=scheme.codes().max();
                codes.map(|code| grid.scale * (f64::from(code) - grid.zero_point)).collect()
            }
            (Self::Levels(scheme), Grid::Levels(grid)) => {
                scheme.table()?.chosen().map(|level| grid.scale * level).collect()
            }
            (Self::Codebook(_), Grid::Codebook(grid)) => grid.levels.clone(),
            (Self::BinaryCode(_), Grid::BinaryCode(grid)) => grid.values().collect(),
            (Self::PiecewiseAffine(scheme), Grid::PiecewiseAffine(grid)) => {
                scheme.steps().levels(grid.break_point, grid.end)
            }
            _ => return None,
        };
        values.sort_by(f64::total_cmp);
        Some(values)
    }

    /// The number of codes of a tensor: one for each element, or for each vector.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Vectors`] if a region ends within a vector.
    pub(crate) fn code_count(&self, tiling: &Tiling) -> Result<usize, ShapeError> {
        match self {
            Self::VectorCodebook(scheme) => Ok(scheme.places(tiling)?.count()),
            _ => Ok(tiling.len()),
        }
    }

    /// The place of the code of element `index`.
    pub(crate) fn code_of(&self, tiling: &Tiling, index: usize) -> Option<usize> {
        match self {
            Self::VectorCodebook(scheme) => Some(scheme.places(tiling).ok()?.of(index).0),
            _ => Some(index),
        }
    }

    /// The fixed number of parameter regions must match; the error names both numbers.
    pub(crate) fn check_regions(given: usize, expected: usize, shape: &[usize]) -> Result<(), ShapeError> {
        if given == expected {
            Ok(())
        } else {
            Err(ShapeError::RegionCount { given, expected, shape: shape.to_vec() })
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each_scheme!(self, scheme => scheme.fmt(f))
    }
}

macro_rules! from {
    ($($name:ident($scheme:ident)),*) => {$(
        impl From<$scheme> for Scheme {
            fn from(scheme: $scheme) -> Self {
                Self::$name(scheme)
            }
        }
    )*};
}

from!(
    Affine(AffineScheme),
    Levels(LevelScheme),
    Codebook(CodebookScheme),
    BinaryCode(BinaryCodeScheme),
    PiecewiseAffine(PiecewiseScheme),
    VectorCodebook(VectorScheme)
);
