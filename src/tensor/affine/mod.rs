//! Uniform grids: `r̃ = S · (q − Z)`.

mod block_grids;
mod grids;

use core::fmt;

use crate::bits::BitWidth;
use crate::element::FloatType;
use crate::error::{ConfigError, DataError};

use super::code_range::CodeRange;
use super::scales::ScaleStorage;
use super::scheme::ClippingRange;

pub(crate) use block_grids::BlockGrids;
pub use grids::{AffineGrids, ZeroPoints};

/// What becomes of the zero point.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ZeroPointRule {
    /// The same for every region and known beforehand, so it costs no storage: 0 for signed symmetric
    /// codes, 2^(b-1) for unsigned ones, half an integer for mid-rise grids.
    Fixed(f64),
    /// One integer within the code range per region; zero is a grid value.
    Integer,
    /// One real number per region; the range need not hold zero, and zero need not be a grid value.
    Real,
}

/// What happens to a scale that its storage type cannot hold (it becomes zero or infinite).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum ScaleOverflow {
    /// An error that names the region. The default.
    #[default]
    Error,
    /// The parameters of the whole tensor are stored in the next larger type, and the result says so.
    Widen,
}

/// A uniform grid: the value of code `q` is `r̃ = S · (q − Z)`.
///
/// This is the convention of ONNX, PyTorch and TFLite. The survey (equation 2) writes
/// `Q(r) = Int(r/S) − Z`; its Z has the opposite sign.
///
/// | built by | zero point | scale of the range [α, β] |
/// |---|---|---|
/// | [`symmetric`](Self::symmetric) | the middle code: 0, or 2^(b−1) for unsigned codes | `2·max(|α|,|β|) / (q_max − q_min)` |
/// | [`mid_rise`](Self::mid_rise) | −½, or 2^(b−1)−½ | `2·max(|α|,|β|) / 2^b` |
/// | [`asymmetric`](Self::asymmetric) | `clamp(q_min − round_even(α/S), q_min, q_max)` | `(β − α) / (q_max − q_min)` of the range widened to hold zero |
/// | [`asymmetric_real`](Self::asymmetric_real) | `q_min − α/S` | `(β − α) / (q_max − q_min)` |
///
/// The scale is computed in f64 and rounded once to its storage type, *before* zero point and codes are
/// chosen. A range of zero gives the scale 1 (the smallest one for mid-rise grids, which have no level at zero). A scale below the smallest one with a finite reciprocal is
/// raised to that.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "AffineSchemeParts", into = "AffineSchemeParts"))]
pub struct AffineScheme {
    bits: BitWidth,
    codes: CodeRange,
    zero_point: ZeroPointRule,
    scales: ScaleStorage,
    overflow: ScaleOverflow,
}

/// Scale and zero point of one region, as stored.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AffineGrid {
    /// The step S between grid values.
    pub scale: f64,
    /// The zero point Z, in codes.
    pub zero_point: f64,
}

impl AffineScheme {
    /// A symmetric grid over `codes`. The zero point is the middle code, rounded up: 0 for the usual signed codes,
    /// 2^(b-1) for unsigned ones.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn symmetric(bits: BitWidth, codes: CodeRange) -> Result<Self, ConfigError> {
        let zero = f64::from((codes.min() + codes.max() + 1).div_euclid(2));
        Self::new(bits, codes, ZeroPointRule::Fixed(zero))
    }

    /// A symmetric grid of 2^b levels at odd multiples of S/2, which has no level at zero.
    pub fn mid_rise(bits: BitWidth, signed: bool) -> Self {
        let (codes, zero) = if signed {
            (CodeRange::signed(bits), -0.5)
        } else {
            (CodeRange::unsigned(bits), half_levels(bits) - 0.5)
        };
        Self {
            bits,
            codes,
            zero_point: ZeroPointRule::Fixed(zero),
            scales: ScaleStorage::Float(FloatType::F32),
            overflow: ScaleOverflow::Error,
        }
    }

    /// A grid with an integer zero point per region.
    pub fn asymmetric(bits: BitWidth, codes: CodeRange) -> Result<Self, ConfigError> {
        Self::new(bits, codes, ZeroPointRule::Integer)
    }

    /// A grid with a real zero point per region.
    pub fn asymmetric_real(bits: BitWidth, codes: CodeRange) -> Result<Self, ConfigError> {
        Self::new(bits, codes, ZeroPointRule::Real)
    }

    /// A grid of the codes `codes`, each stored in `bits` bits, with scales in f32.
    ///
    /// # Errors
    ///
    /// [`ConfigError::CodeRange`] if the codes do not fit `bits`; [`ConfigError::ZeroPoint`] if a fixed zero
    /// point is not a multiple of one half within half a step of the codes.
    pub fn new(bits: BitWidth, codes: CodeRange, zero_point: ZeroPointRule) -> Result<Self, ConfigError> {
        if codes.bits() > bits {
            return Err(ConfigError::CodeRange { q_min: codes.min().into(), q_max: codes.max().into() });
        }
        if let ZeroPointRule::Fixed(zero) = zero_point {
            let (low, high) = (f64::from(codes.min()) - 0.5, f64::from(codes.max()) + 0.5);
            // Written so that NaN fails.
            if !(low <= zero && zero <= high && (2.0 * zero).fract() == 0.0) {
                return Err(ConfigError::ZeroPoint {
                    index: 0,
                    zero_point: zero,
                    q_min: codes.min(),
                    q_max: codes.max(),
                });
            }
        }
        Ok(Self {
            bits,
            codes,
            zero_point,
            scales: ScaleStorage::Float(FloatType::F32),
            overflow: ScaleOverflow::Error,
        })
    }

    /// The same grid with its scales stored in another way. Real zero points are stored in the same type, or in f32
    /// where that is not a floating-point type.
    pub fn with_storage(mut self, scales: impl Into<ScaleStorage>, overflow: ScaleOverflow) -> Self {
        self.scales = scales.into();
        self.overflow = overflow;
        self
    }

    /// The stored width of a code.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    /// The codes in use.
    pub const fn codes(&self) -> CodeRange {
        self.codes
    }

    /// What becomes of the zero point.
    pub const fn zero_point(&self) -> ZeroPointRule {
        self.zero_point
    }

    /// How scales are stored.
    pub const fn scales(&self) -> ScaleStorage {
        self.scales
    }

    /// The storage type of real zero points: that of the scales, or f32 where these are not stored in a floating-point
    /// type.
    pub fn zero_point_storage(&self) -> FloatType {
        self.scales.float().unwrap_or(FloatType::F32)
    }

    /// What happens to scales that the storage type cannot hold.
    pub const fn overflow(&self) -> ScaleOverflow {
        self.overflow
    }

    /// Whether the grid is the same on both sides of zero, so that calibrations look at magnitudes.
    pub const fn is_symmetric(&self) -> bool {
        matches!(self.zero_point, ZeroPointRule::Fixed(_))
    }

    /// Whether zero lies between two levels instead of on one.
    pub fn is_mid_rise(&self) -> bool {
        matches!(self.zero_point, ZeroPointRule::Fixed(zero) if zero.fract() != 0.0)
    }

    /// The number of steps S that the clipping range spans: one less than the number of codes, or all of
    /// them for mid-rise grids, whose range ends half a step beyond the outermost levels.
    pub fn steps(&self) -> f64 {
        f64::from(self.codes.count() - u32::from(!self.is_mid_rise()))
    }

    /// The scheme with its parameters stored in the next larger type, if the overflow rule allows it and
    /// there is one.
    pub fn widened(&self) -> Option<Self> {
        match self.overflow {
            ScaleOverflow::Error => None,
            ScaleOverflow::Widen => self.scales.wider().map(|scales| Self { scales, ..*self }),
        }
    }

    /// The grid of the range `[α, β]` in region `region` (which only the errors name).
    ///
    /// # Errors
    ///
    /// [`DataError::ScaleStorage`] or [`DataError::ZeroPointStorage`] where a parameter does not fit its
    /// storage type.
    pub fn grid(&self, range: ClippingRange, region: usize) -> Result<AffineGrid, DataError> {
        let (q_min, q_max) = (f64::from(self.codes.min()), f64::from(self.codes.max()));
        let (range, span) = match self.zero_point {
            ZeroPointRule::Fixed(_) => (range, (range.magnitude(), range.magnitude())),
            ZeroPointRule::Integer => {
                let range = range.with_zero();
                (range, (-range.low(), range.high()))
            }
            ZeroPointRule::Real => {
                // A constant has no width of its own.
                let range = if range.low() == range.high() { range.with_zero() } else { range };
                (range, (-range.low(), range.high()))
            }
        };
        let steps = self.steps();
        // Both forms are one rounded division where the sum is finite; the second cannot overflow.
        let sum = span.0 + span.1;
        let scale = if sum.is_finite() { sum / steps } else { span.0 / steps + span.1 / steps };
        let scale = if sum == 0.0 {
            // Zeros come back exactly; next to them where no level is at zero.
            if self.is_mid_rise() { self.scales.min_scale() } else { 1.0 }
        } else {
            let stored = self.scales.store(scale);
            if !(stored > 0.0 && stored.is_finite()) {
                return Err(DataError::ScaleStorage { region, scale, stored, storage: self.scales });
            }
            stored
        };
        let mut grid = AffineGrid { scale, zero_point: self.zero_point_at(range, scale, region)? };
        // Of ranges up to the largest number, the outermost level may lie beyond it: a narrower step keeps it finite.
        let limit = self.scales.arithmetic().max_value();
        let reach = |grid: AffineGrid| (q_min - grid.zero_point).abs().max((q_max - grid.zero_point).abs());
        if grid.scale * reach(grid) > limit && range.magnitude() <= limit {
            if self.zero_point == ZeroPointRule::Integer {
                // The rounding of the zero point may be all that carries an end too far.
                let side = if grid.zero_point - q_min > q_max - grid.zero_point { -1.0 } else { 1.0 };
                let moved = AffineGrid { zero_point: grid.zero_point + side, ..grid };
                if grid.scale * reach(moved) <= limit {
                    return Ok(moved);
                }
            }
            grid.scale = self.scales.at_most(limit / reach(grid));
            grid.zero_point = self.zero_point_at(range, grid.scale, region)?;
            // A real zero point follows the scale, and every other rounding of their product is upward.
            for _ in 0..64 {
                if grid.scale * reach(grid) <= limit {
                    break;
                }
                grid.scale = self.scales.next_down(grid.scale);
                grid.zero_point = self.zero_point_at(range, grid.scale, region)?;
            }
        }
        Ok(grid)
    }

    /// The zero point of a range at a scale, as stored.
    fn zero_point_at(&self, range: ClippingRange, scale: f64, region: usize) -> Result<f64, DataError> {
        let (q_min, q_max) = (f64::from(self.codes.min()), f64::from(self.codes.max()));
        match self.zero_point {
            ZeroPointRule::Fixed(zero) => Ok(zero),
            ZeroPointRule::Integer => {
                Ok((q_min - (range.low() / scale).round_ties_even()).clamp(q_min, q_max))
            }
            ZeroPointRule::Real => {
                let zero_point = q_min - range.low() / scale;
                let storage = self.zero_point_storage();
                let stored = storage.round(zero_point);
                if !stored.is_finite() {
                    return Err(DataError::ZeroPointStorage { region, zero_point, storage });
                }
                Ok(stored)
            }
        }
    }

    /// Checks a grid that the user gives for region `index`: a positive scale with a finite reciprocal, both in
    /// the storage type, and a zero point within the codes.
    pub(crate) fn check_grid(&self, index: usize, grid: AffineGrid) -> Result<(), ConfigError> {
        let AffineGrid { scale, zero_point } = grid;
        let stored = self.scales.round(scale);
        if !(stored >= self.scales.min_scale() && stored.is_finite()) {
            let rule = "positive, with a finite reciprocal, in its storage type";
            return Err(ConfigError::Scale { index, scale, rule });
        }
        let valid = match self.zero_point {
            ZeroPointRule::Fixed(zero) => zero_point == zero,
            ZeroPointRule::Integer => {
                zero_point.fract() == 0.0
                    && f64::from(self.codes.min()) <= zero_point
                    && zero_point <= f64::from(self.codes.max())
            }
            ZeroPointRule::Real => self.zero_point_storage().round(zero_point).is_finite(),
        };
        if valid {
            return Ok(());
        }
        let (q_min, q_max) = (self.codes.min(), self.codes.max());
        Err(ConfigError::ZeroPoint { index, zero_point, q_min, q_max })
    }

    /// The range `[α, β]` that the grid of `grid` covers: the inverse of [`grid`](Self::grid).
    pub fn range(&self, grid: AffineGrid) -> ClippingRange {
        let half_cell = if self.is_mid_rise() { 0.5 } else { 0.0 };
        let at = |code: i32, beyond: f64| grid.scale * (f64::from(code) - grid.zero_point + beyond);
        let (low, high) = (at(self.codes.min(), -half_cell), at(self.codes.max(), half_cell));
        if self.is_symmetric() && !self.is_mid_rise() {
            // Full ranges have one level more on one side; their clipping range is the mean of both.
            let magnitude = (grid.scale.abs() * (self.steps() / 2.0)).min(f64::MAX);
            return ClippingRange::symmetric(magnitude);
        }
        let (low, high) = (low.clamp(-f64::MAX, f64::MAX), high.clamp(-f64::MAX, f64::MAX));
        ClippingRange::between(low, high)
    }
}

/// 2^(b-1)
fn half_levels(bits: BitWidth) -> f64 {
    f64::from(bits.levels()) / 2.0
}

/// The fields of an [`AffineScheme`] before they are validated.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct AffineSchemeParts {
    bits: BitWidth,
    codes: CodeRange,
    zero_point: ZeroPointRule,
    storage: ScaleStorage,
    #[serde(default)]
    overflow: ScaleOverflow,
}

#[cfg(feature = "serde")]
impl TryFrom<AffineSchemeParts> for AffineScheme {
    type Error = ConfigError;

    fn try_from(parts: AffineSchemeParts) -> Result<Self, ConfigError> {
        Ok(Self::new(parts.bits, parts.codes, parts.zero_point)?.with_storage(parts.storage, parts.overflow))
    }
}

#[cfg(feature = "serde")]
impl From<AffineScheme> for AffineSchemeParts {
    fn from(scheme: AffineScheme) -> Self {
        let AffineScheme { bits, codes, zero_point, scales, overflow } = scheme;
        Self { bits, codes, zero_point, storage: scales, overflow }
    }
}

/// `affine 4-bit codes -7..7, zero point 0, f32 scales`
impl fmt::Display for AffineScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "affine {}-bit codes {}, ", self.bits, self.codes)?;
        match self.zero_point {
            ZeroPointRule::Fixed(zero) => write!(f, "zero point {zero}, ")?,
            ZeroPointRule::Integer => f.write_str("integer zero points, ")?,
            ZeroPointRule::Real => f.write_str("real zero points, ")?,
        }
        write!(f, "{} scales", self.scales)
    }
}
