//! Scales and codes of short blocks in one pass, for grids that are symmetric about zero.
//!
//! **Scales.** A scale is `2m / steps`, computed in f64 and rounded to its storage. The quotient of a number of 24 bits by
//! an integer of at most 8 is either in the middle between two numbers of the storage, of at most 24 bits themselves, or
//! farther from it than `2⁻³⁴` of its value: the rounding to f64 changes nothing, and rounding the exact quotient once has
//! the same result. For f32 that is a division. For fewer bits one of the two f32 numbers around the exact quotient is enough,
//! as a reciprocal in [two terms](super::super::division) finds it: if it is not exact, it is moved to the odd one of the two,
//! which keeps it on its side of every middle (S. Boldo, G. Melquiond 2008, *Emulation of a FMA and correctly rounded sums:
//! proved algorithms using rounding to odd*), and is rounded then. The quotient of a number of at most 11 bits and a middle
//! between numbers of 11 bits differ by more than `2⁻²¹` of them, if at all: of numbers of 16 bits the quotient in f32 is on
//! the right side of every middle already.

#[cfg(target_arch = "x86_64")]
mod vectors;

use super::{DIVISORS, ScalePlaces};
use crate::element::Element;
use crate::kernel::ranges::RangeRule;

/// How blocks get scales and codes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockRule<'a> {
    /// How the largest magnitude becomes a scale; of symmetric ranges.
    pub range: &'a RangeRule,
    /// The zero point of all blocks.
    pub zero: i16,
    /// The lowest and the highest code.
    pub codes: (i16, i16),
    /// Bits of a code.
    pub bits: u32,
    /// Whether values are divided by the scale, rather than multiplied by its reciprocal.
    pub divide: bool,
}

/// Where scales and codes go.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    /// A place for the scale of each block.
    pub scales: ScalePlaces<'a>,
    /// Bytes for the packed codes.
    pub codes: &'a mut [u8],
    /// Whether codes go past the caches, if their place is aligned for that.
    pub stream: bool,
}

/// Writes the scale of each block of `width` values, of which the last may be shorter, and the packed codes of all values.
/// `Some(false)` where one is not finite or a scale is no everyday one: nothing written counts then. `None` where there
/// is no loop for such blocks or codes.
pub(crate) fn encode<A: Element>(
    x: &[A],
    width: usize,
    rule: &BlockRule<'_>,
    places: Places<'_>,
) -> Option<bool> {
    let range = rule.range;
    let whole = range.steps.fract() == 0.0 && (1.0..=256.0).contains(&range.steps);
    let divisor = !rule.divide || DIVISORS.contains(&range.of_zeros);
    let enough = places.codes.len() >= x.len().div_ceil(8 / rule.bits.clamp(1, 8) as usize);
    let short = matches!(width, 32 | 64 | 128 | 256) && matches!(rule.bits, 4 | 8);
    if !(short && whole && divisor && enough && range.zeros.is_none()) {
        return None;
    }
    #[cfg(target_arch = "x86_64")]
    if crate::kernel::level() >= crate::simd::Level::Avx2 {
        use crate::kernel::convert::same;
        use half::{bf16, f16};
        if let Some(x) = same::<A, f32>(x) {
            return Some(vectors::encode(x, width, rule, places));
        }
        if let Some(x) = same::<A, f16>(x) {
            return Some(vectors::encode(x, width, rule, places));
        }
        if let Some(x) = same::<A, bf16>(x) {
            return Some(vectors::encode(x, width, rule, places));
        }
    }
    None
}

#[cfg(test)]
mod tests;
