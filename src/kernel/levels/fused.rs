//! Scales and packed codes of short blocks on at most 16 levels that all blocks share, in one pass, of values as they are:
//! numbers of 16 bits too.

#[cfg(target_arch = "x86_64")]
mod vectors;

#[cfg(target_arch = "x86_64")]
use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::bit_cuts::BitCuts;
#[cfg(target_arch = "x86_64")]
use super::cut_cells::CutCells;
use super::maps::LevelMaps;
#[cfg(target_arch = "x86_64")]
use super::short::Search;
use crate::element::Element;
use crate::kernel::blocks::Places;

/// How the largest magnitude of a block becomes its scale.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MagnitudeScale {
    /// `m / top`, rounded to f32.
    Quotient { top: f64 },
    /// A power of two: of the bits of `m` plus `carry` the exponent, less `exponent`.
    Power { carry: u32, exponent: u32 },
}

/// Magnitudes for which the scale is that, and a normal number as its reciprocal is: from 2⁻¹⁰⁰ to 2¹⁰⁰.
pub(crate) const EVERYDAY: core::ops::RangeInclusive<f32> = 7.888_609e-31..=1.267_650_6e30;

/// Bits of the significand of an f32 that are stored.
const MANTISSA: u32 = 23;

impl MagnitudeScale {
    /// The scale for an [everyday](EVERYDAY) magnitude.
    #[inline(always)]
    pub(crate) fn of(self, m: f32) -> f32 {
        match self {
            Self::Quotient { top } => (f64::from(m) / top) as f32,
            Self::Power { carry, exponent } => f32::from_bits(
                ((m.to_bits().wrapping_add(carry) >> MANTISSA).wrapping_sub(exponent)) << MANTISSA,
            ),
        }
    }

    /// What no scaled value is beyond.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn reach(self) -> f32 {
        match self {
            // However scale and reciprocal were rounded.
            Self::Quotient { top } => top as f32 * 1.000_001,
            // A carry makes scales larger.
            Self::Power { exponent, .. } => f32::from_bits((exponent.min(126) + 128) << MANTISSA),
        }
    }
}

/// How blocks get scales and codes.
#[derive(Debug)]
pub(crate) struct BlockLevels {
    #[cfg(target_arch = "x86_64")]
    scale: MagnitudeScale,
    /// The scale of a block of zeros.
    #[cfg(target_arch = "x86_64")]
    of_zeros: f32,
    /// Whether values are divided by the scale, rather than multiplied by its reciprocal.
    #[cfg(target_arch = "x86_64")]
    divide: bool,
    #[cfg(target_arch = "x86_64")]
    search: Search,
    #[cfg(target_arch = "x86_64")]
    cells: Option<CutCells>,
    #[cfg(target_arch = "x86_64")]
    patterns: CutsOfHalves,
}

/// Codes by bits, of either type of 16 bits.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
struct CutsOfHalves {
    f16: Option<BitCuts>,
    bf16: Option<BitCuts>,
}

impl BlockLevels {
    /// Of the only map of `maps`, with codes of 4 bits; `None` where there is no loop for such levels or scales.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn new(
        maps: &LevelMaps<f32>,
        scale: MagnitudeScale,
        of_zeros: f32,
        multiply: bool,
    ) -> Option<Self> {
        let (_, cuts, codes) = maps.map(0, true);
        let search = Search::new(cuts, codes)?;
        // Whatever finite number zeros are multiplied or divided by.
        let plain = codes.iter().all(|&code| code < 16) && of_zeros > 0.0 && (1.0 / of_zeros).is_normal();
        // A product with the reciprocal of a power of two is the quotient.
        let divide = !multiply && matches!(scale, MagnitudeScale::Quotient { .. });
        let cells = CutCells::new(cuts, codes, scale.reach());
        let patterns = CutsOfHalves {
            f16: BitCuts::new::<f16>(cuts, codes, scale),
            bf16: BitCuts::new::<bf16>(cuts, codes, scale),
        };
        plain.then_some(Self { scale, of_zeros, divide, search, cells, patterns })
    }

    /// As above.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn new(_: &LevelMaps<f32>, _: MagnitudeScale, _: f32, _: bool) -> Option<Self> {
        None
    }

    /// Writes the scale of each block of `width` values, of which the last may be shorter, and the packed codes of all
    /// values. `Some(false)` where one is not finite or a magnitude is no [everyday](EVERYDAY) one, nor zero: nothing
    /// written counts then. `None` where there is no loop for such blocks.
    pub(crate) fn encode<A: Element>(&self, x: &[A], width: usize, places: Places<'_>) -> Option<bool> {
        if !matches!(width, 32 | 64 | 128 | 256) || places.codes.len() < x.len().div_ceil(2) {
            return None;
        }
        #[cfg(target_arch = "x86_64")]
        if super::has_avx2() {
            use crate::kernel::convert::same;
            let CutsOfHalves { f16: of_f16, bf16: of_bf16 } = &self.patterns;
            if let Some(x) = same::<A, f32>(x) {
                return Some(vectors::encode(x, width, self, None, places));
            }
            if let Some(x) = same::<A, f16>(x) {
                return Some(vectors::encode(x, width, self, of_f16.as_ref(), places));
            }
            if let Some(x) = same::<A, bf16>(x) {
                return Some(vectors::encode(x, width, self, of_bf16.as_ref(), places));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
