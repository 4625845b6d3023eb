//! Block formats by name.

use crate::bits::BitWidth;
use crate::error::ConfigError;
use crate::names::named;
use crate::tensor::LevelTable;

use super::BlockSearch;

/// Combinations of levels, block length and width of scales that do well at their size: see [`BlockSearch`] for what
/// they are made of, and [`recipe`](Self::recipe) for a recipe in one line.
///
/// | format | bits of code | elements of a block | bits of a scale | levels | bits per element |
/// |---|---|---|---|---|---|
/// | `B2` | 2 | 8 | 4 | see [`table`](Self::table) | 2.5 |
/// | `B3` | 3 | 16 | 6 | NF3 | 3.375 |
/// | `B4Small` | 4 | 32 | 7 | NF4 | 4.21875 |
/// | `B4` | 4 | 16 | 7 | NF4 | 4.4375 |
/// | `B5` | 5 | 16 | 7 | NF5 | 5.4375 |
/// | `B6` | 6 | 16 | 7 | NF6 | 6.4375 |
/// | `B8` | 8 | 16 | 6 | NF8 | 8.375 |
///
/// To these come 32 bits for the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockFormat {
    /// 2.5 bits.
    B2,
    /// 3.375 bits.
    B3,
    /// 4.21875 bits: larger blocks than [`B4`](Self::B4).
    B4Small,
    /// 4.4375 bits.
    B4,
    /// 5.4375 bits.
    B5,
    /// 6.4375 bits.
    B6,
    /// 8.375 bits.
    B8,
}

named!(BlockFormat, "block format", [
    B2 => "block2",
    B3 => "block3",
    B4Small => "block4-small",
    B4 => "block4",
    B5 => "block5",
    B6 => "block6",
    B8 => "block8",
]);

impl BlockFormat {
    /// All of them, by size.
    pub const ALL: [Self; 7] = [Self::B2, Self::B3, Self::B4Small, Self::B4, Self::B5, Self::B6, Self::B8];

    /// Bits of a code, elements of a block, bits of a scale.
    const fn numbers(self) -> (u32, usize, u32) {
        match self {
            Self::B2 => (2, 8, 4),
            Self::B3 => (3, 16, 6),
            Self::B4Small => (4, 32, 7),
            Self::B4 => (4, 16, 7),
            Self::B5 => (5, 16, 7),
            Self::B6 => (6, 16, 7),
            Self::B8 => (8, 16, 6),
        }
    }

    /// Bits of a code.
    pub const fn bits(self) -> u32 {
        self.numbers().0
    }

    /// Consecutive elements that share a scale.
    pub const fn block(self) -> usize {
        self.numbers().1
    }

    /// Bits of a scale.
    pub const fn scale_bits(self) -> u32 {
        self.numbers().2
    }

    /// Bits for each element of a tensor that blocks divide, without the 32 bits of its outer scale.
    pub fn bits_per_element(self) -> f64 {
        f64::from(self.bits()) + f64::from(self.scale_bits()) / self.block() as f64
    }

    /// The levels: NF-k, but for two bits −1, −0.34, 0.13 and 0.68.
    ///
    /// Those are what [`BlockSearch::learned`] finds on normal numbers in this format, rounded. They are better than any
    /// symmetric levels and than −2, −1, 0 and 1 (by half a decibel on normal numbers), because a scale of either sign
    /// turns them to the side that has the larger values. No level is zero: in a block that is not all zero, zeros come
    /// back as 0.13 of its scale. Where zeros must stay, use [`BlockSearch`] with levels that have one.
    ///
    /// # Errors
    ///
    /// None for the formats of this list.
    pub fn table(self) -> Result<LevelTable, ConfigError> {
        match self {
            Self::B2 => LevelTable::given([-1.0, -0.34, 0.13, 0.68]),
            _ => LevelTable::normal_float(BitWidth::new(self.bits())?),
        }
    }

    /// The method, to be given blocks of [`block`](Self::block) elements.
    ///
    /// # Errors
    ///
    /// None for the formats of this list.
    pub fn quantizer(self) -> Result<BlockSearch, ConfigError> {
        BlockSearch::new(self.table()?, BitWidth::new(self.scale_bits())?)
    }
}
