//! Grids of many regions at once.

use crate::element::{Element, FloatType, Real};
use crate::kernel::ranges::{self, RangeRule};
use crate::tensor::scales::ScaleStorage;
use crate::tensor::scheme::ClippingRange;

use super::{AffineScheme, ZeroPointRule};

/// Bits of the significand of an f64.
const SIGNIFICAND: u32 = 52;

/// Scales that no rounding takes out of the normal numbers of f32 and bf16, whose quotients need no care, and with which
/// no value of a code comes near the largest number.
const USUAL: (f64, f64) = (1e-25, 1e25);

/// The same for f16.
const USUAL_HALF: (f64, f64) = (1.0 / 16_384.0, 32_768.0);

/// Scales and zero points of ranges: those of [`AffineScheme::grid`], found in vectors where all ranges are everyday
/// ones.
#[derive(Debug)]
pub(crate) struct BlockGrids<'a> {
    scheme: &'a AffineScheme,
    rule: RangeRule,
}

impl<'a> BlockGrids<'a> {
    /// `None` for schemes with real zero points, and for scales that are no f32.
    pub(crate) fn new(scheme: &'a AffineScheme) -> Option<Self> {
        let (dropped, usual) = match scheme.scales() {
            ScaleStorage::Float(FloatType::F32) => (SIGNIFICAND - 23, USUAL),
            ScaleStorage::Float(FloatType::Bf16) => (SIGNIFICAND - 7, USUAL),
            ScaleStorage::Float(FloatType::F16) => (SIGNIFICAND - 10, USUAL_HALF),
            _ => return None,
        };
        let zeros = match scheme.zero_point() {
            ZeroPointRule::Fixed(_) => None,
            ZeroPointRule::Integer => Some((scheme.codes().min(), scheme.codes().max())),
            ZeroPointRule::Real => return None,
        };
        let of_zeros = scheme.grid(ClippingRange::ZERO, 0).ok()?.scale as f32;
        Some(Self { scheme, rule: RangeRule { steps: scheme.steps(), dropped, usual, of_zeros, zeros } })
    }

    /// Whether each region has a zero point of its own.
    pub(crate) const fn has_zeros(&self) -> bool {
        self.rule.zeros.is_some()
    }

    /// How ranges become scales.
    pub(crate) const fn rule(&self) -> &RangeRule {
        &self.rule
    }

    /// Writes the scales of the ranges from `low` to `high`, and their zero points where each has its own (`zeros` is not
    /// touched otherwise); `false` where one has no grid. Of symmetric grids any range of the same magnitude does.
    pub(crate) fn find<T: Real>(&self, low: &[T], high: &[T], scales: &mut [f32], zeros: &mut [i32]) -> bool {
        if ranges::grids(low, high, &self.rule, scales, zeros) {
            return true;
        }
        let mut zeros = zeros.iter_mut();
        low.iter().zip(high).zip(scales).all(|((&low, &high), scale)| {
            let range = ClippingRange::new(Element::to_f64(low), Element::to_f64(high)).ok();
            let Some(grid) = range.and_then(|range| self.scheme.grid(range, 0).ok()) else { return false };
            *scale = grid.scale as f32;
            if self.has_zeros()
                && let Some(zero) = zeros.next()
            {
                *zero = grid.zero_point as i32;
            }
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::BitWidth;
    use crate::kernel::forced::agreed;
    use crate::tensor::{AffineScheme, CodeRange, ScaleOverflow};

    fn schemes() -> Vec<AffineScheme> {
        let mut schemes = Vec::new();
        for bits in [1, 2, 3, 4, 5, 8, 12, 16] {
            let bits = BitWidth::new(bits).unwrap();
            let (signed, unsigned) = (CodeRange::signed(bits), CodeRange::unsigned(bits));
            schemes.extend([
                AffineScheme::symmetric(bits, signed).unwrap(),
                AffineScheme::symmetric(bits, unsigned).unwrap(),
                AffineScheme::asymmetric(bits, signed).unwrap(),
                AffineScheme::asymmetric(bits, unsigned).unwrap(),
                AffineScheme::mid_rise(bits, true),
            ]);
        }
        let restricted = CodeRange::new(-127, 127).unwrap();
        schemes.push(AffineScheme::symmetric(BitWidth::EIGHT, restricted).unwrap());
        schemes
    }

    /// Ends of ranges of all magnitudes, with significands around those where a rounding changes its mind.
    fn ends() -> Vec<f32> {
        let fractions = [0, 1, 0x0F_FFFF, 0x10_0000, 0x3F_FFFF, 0x40_0001, 0x7E_0000, 0x7F_FFFF];
        let all = (0..255).step_by(3).chain([1, 112, 113, 141, 142, 254]);
        let mut ends: Vec<f32> =
            all.flat_map(|exponent| fractions.map(|f| f32::from_bits(exponent << 23 | f))).collect();
        ends.extend([0.0, 1e-25 * 127.0, 1e25 * 127.0, 127.0 / 16_384.0, 127.0 * 32_768.0, 5.0, 6.5]);
        ends
    }

    #[test]
    fn grids_are_those_of_the_scheme() {
        let ends = ends();
        let ranges: Vec<(f32, f32)> = ends
            .iter()
            .enumerate()
            .flat_map(|(i, &end)| {
                let other = end * [0.0, 0.3, 1.0, 1e-3][i % 4];
                [(-end, other), (-other, end), (other, end)]
            })
            .collect();
        for scheme in schemes() {
            for storage in [FloatType::F32, FloatType::F16, FloatType::Bf16] {
                let scheme = scheme.with_storage(storage, ScaleOverflow::Error);
                let fit = BlockGrids::new(&scheme).unwrap();
                for &(low, high) in &ranges {
                    let range = ClippingRange::new(low.into(), high.into()).unwrap();
                    let expected = scheme
                        .grid(range, 0)
                        .ok()
                        .map(|grid| (grid.scale, if fit.has_zeros() { grid.zero_point } else { 0.0 }));
                    // Alone, and among others.
                    for other in [None, Some(1.0), Some(0.0)] {
                        let low: Vec<f32> = other.into_iter().map(|end: f32| -end).chain([low]).collect();
                        let high: Vec<f32> = other.into_iter().chain([high]).collect();
                        let (mut scales, mut zeros) = (vec![0.0; low.len()], vec![0; low.len()]);
                        let found = fit.find(&low, &high, &mut scales, &mut zeros);
                        assert_eq!(found, expected.is_some(), "{scheme} {low:?} {high:?}");
                        let last = scales.last().zip(zeros.last());
                        let last = last.map(|(&scale, &zero)| (f64::from(scale), f64::from(zero)));
                        assert!(
                            !found || last == expected,
                            "{scheme} {low:?} {high:?}: {last:?} {expected:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_level_finds_the_same() {
        let high: Vec<f64> = (0..203).map(|i| f64::from(i % 50) * 0.37).collect();
        let low: Vec<f64> = (0..203).map(|i| -f64::from(i % 41) * 0.11).collect();
        for scheme in schemes() {
            for storage in [FloatType::F32, FloatType::F16, FloatType::Bf16] {
                let scheme = scheme.with_storage(storage, ScaleOverflow::Error);
                let fit = BlockGrids::new(&scheme).unwrap();
                let (scales, zeros) = agreed(|| {
                    let (mut scales, mut zeros) = (vec![0.0; low.len()], vec![0; low.len()]);
                    assert!(fit.find(&low, &high, &mut scales, &mut zeros));
                    (scales, zeros)
                });
                for (i, (&low, &high)) in low.iter().zip(&high).enumerate() {
                    let grid = scheme.grid(ClippingRange::new(low, high).unwrap(), 0).unwrap();
                    assert_eq!(f64::from(scales[i]), grid.scale);
                    assert!(!fit.has_zeros() || f64::from(zeros[i]) == grid.zero_point);
                }
            }
        }
    }

    #[test]
    fn schemes_that_are_not_for_this() {
        let codes = CodeRange::signed(BitWidth::EIGHT);
        let scheme = AffineScheme::symmetric(BitWidth::EIGHT, codes).unwrap();
        assert!(BlockGrids::new(&scheme.with_storage(FloatType::F64, ScaleOverflow::Error)).is_none());
        assert!(BlockGrids::new(&AffineScheme::asymmetric_real(BitWidth::EIGHT, codes).unwrap()).is_none());
    }
}
