//! The width of a code in bits.

use core::fmt;
use core::str::FromStr;

use crate::error::{ConfigError, ParseError};

/// The width of one code, 1 to 16 bits.
///
/// ```
/// use lowbit::BitWidth;
///
/// let width = BitWidth::new(4)?;
/// assert_eq!(width.levels(), 16);
/// assert!(BitWidth::new(17).is_err());
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u32", into = "u32"))]
pub struct BitWidth(u8);

impl BitWidth {
    /// The widest code.
    pub const MAX: u32 = 16;
    /// Eight bits, the default of every method.
    pub const EIGHT: Self = Self(8);

    /// A width of `bits`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::BitWidth`] outside 1 to 16.
    pub const fn new(bits: u32) -> Result<Self, ConfigError> {
        if bits >= 1 && bits <= Self::MAX {
            Ok(Self(bits as u8))
        } else {
            Err(ConfigError::BitWidth { bits })
        }
    }

    /// The narrowest width that holds `value`, which has at most 16 bits.
    pub(crate) const fn holding(value: u32) -> Self {
        debug_assert!(value < 1 << Self::MAX);
        Self((u32::BITS - (value | 1).leading_zeros()) as u8)
    }

    /// The number of bits.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// The number of distinct codes, 2^bits.
    pub const fn levels(self) -> u32 {
        1 << self.0
    }
}

impl Default for BitWidth {
    fn default() -> Self {
        Self::EIGHT
    }
}

impl TryFrom<u32> for BitWidth {
    type Error = ConfigError;

    fn try_from(bits: u32) -> Result<Self, ConfigError> {
        Self::new(bits)
    }
}

impl From<BitWidth> for u32 {
    fn from(width: BitWidth) -> u32 {
        width.get()
    }
}

impl fmt::Display for BitWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for BitWidth {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bits: u32 =
            text.parse().map_err(|_| ParseError::Number { what: "bit width", text: text.to_owned() })?;
        Ok(Self::new(bits)?)
    }
}
