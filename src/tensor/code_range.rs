//! The integers that codes may take.

use core::fmt;

use crate::bits::BitWidth;
use crate::error::ConfigError;

/// The inclusive range of codes `q_min..=q_max` of a uniform grid.
///
/// Codes with `q_min < 0` are signed (two's complement when packed), all others unsigned. Both ends fit
/// [`bits`](Self::bits) bits, and `q_min < q_max`.
///
/// ```
/// use lowbit::CodeRange;
///
/// let reduced = CodeRange::new(-64, 63)?;
/// assert_eq!(reduced.bits().get(), 7);
/// assert!(CodeRange::new(3, 3).is_err());
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "(i32, i32)", into = "(i32, i32)"))]
pub struct CodeRange {
    min: i32,
    max: i32,
}

impl CodeRange {
    /// The codes `q_min..=q_max`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::CodeRange`] if `q_min >= q_max`, or if the codes need more than 16 bits.
    pub const fn new(q_min: i32, q_max: i32) -> Result<Self, ConfigError> {
        let fits = if q_min < 0 { q_min >= -(1 << 15) && q_max < 1 << 15 } else { q_max < 1 << 16 };
        if q_min < q_max && fits {
            Ok(Self { min: q_min, max: q_max })
        } else {
            Err(ConfigError::CodeRange { q_min: q_min as i64, q_max: q_max as i64 })
        }
    }

    /// All signed codes of a width: `-2^(b-1)..=2^(b-1)-1`.
    pub const fn signed(bits: BitWidth) -> Self {
        let half = 1 << (bits.get() - 1);
        Self { min: -half, max: half - 1 }
    }

    /// All unsigned codes of a width: `0..=2^b-1`.
    pub const fn unsigned(bits: BitWidth) -> Self {
        Self { min: 0, max: bits.levels() as i32 - 1 }
    }

    /// The lowest code.
    pub const fn min(self) -> i32 {
        self.min
    }

    /// The highest code.
    pub const fn max(self) -> i32 {
        self.max
    }

    /// Whether codes are stored with a sign.
    pub const fn is_signed(self) -> bool {
        self.min < 0
    }

    /// The number of codes.
    pub const fn count(self) -> u32 {
        (self.max - self.min) as u32 + 1
    }

    /// Whether `code` is one of these.
    pub const fn contains(self, code: i32) -> bool {
        self.min <= code && code <= self.max
    }

    /// The narrowest width that holds every code.
    pub const fn bits(self) -> BitWidth {
        let magnitude = if self.min < 0 {
            // -2^(b-1) needs no more bits than 2^(b-1)-1.
            let low = (-(self.min + 1)) as u32;
            let high = if self.max < 0 { 0 } else { self.max as u32 };
            (if low > high { low } else { high }) << 1 | 1
        } else {
            self.max as u32
        };
        BitWidth::holding(magnitude)
    }
}

impl TryFrom<(i32, i32)> for CodeRange {
    type Error = ConfigError;

    fn try_from((q_min, q_max): (i32, i32)) -> Result<Self, ConfigError> {
        Self::new(q_min, q_max)
    }
}

impl From<CodeRange> for (i32, i32) {
    fn from(codes: CodeRange) -> Self {
        (codes.min, codes.max)
    }
}

/// `-7..7`
impl fmt::Display for CodeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_the_narrowest() {
        for (q_min, q_max, bits) in
            [(0, 1, 1), (-1, 0, 1), (-1, 1, 2), (-2, 1, 2), (-7, 7, 4), (-8, 7, 4), (1, 15, 4), (1, 255, 8)]
        {
            assert_eq!(CodeRange::new(q_min, q_max).unwrap().bits().get(), bits, "{q_min}..{q_max}");
        }
        for bits in 1..=16 {
            let bits = BitWidth::new(bits).unwrap();
            assert_eq!(CodeRange::signed(bits).bits(), bits);
            assert_eq!(CodeRange::unsigned(bits).bits(), bits);
            assert_eq!(CodeRange::signed(bits).count(), bits.levels());
        }
    }

    #[test]
    fn empty_reversed_and_too_wide_ranges_are_errors() {
        for (q_min, q_max) in
            [(0, 0), (5, 4), (0, 65536), (-1, 32768), (-32769, 0), (i32::MIN, i32::MAX), (i32::MAX, i32::MIN)]
        {
            assert!(CodeRange::new(q_min, q_max).is_err(), "{q_min}..{q_max}");
        }
    }
}
