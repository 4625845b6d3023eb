//! Scales of many blocks at once.

use crate::element::FloatType;
use crate::kernel::levels::{EVERYDAY, MagnitudeScale};
use crate::minifloat::{Minifloat, ScaleMode};
use crate::tensor::scales::ScaleStorage;
use crate::tensor::scheme::ClippingRange;

use super::{LevelScheme, ScaleRule};

/// Scales from largest magnitudes: those of [`LevelScheme::grid`] for ranges from −m to m, found in vectors where a
/// magnitude is an everyday one.
#[derive(Debug)]
pub(crate) struct BlockScales<'a> {
    scheme: &'a LevelScheme,
    /// None for scales that are found as the scheme says, one by one.
    formula: Option<MagnitudeScale>,
}

/// Levels of which the same can be said.
const USUAL: core::ops::RangeInclusive<f64> = 1e-3..=1e6;

const MANTISSA: u32 = 23;

impl<'a> BlockScales<'a> {
    /// `None` for schemes whose scales are no function of the magnitude alone, or are no f32.
    pub(crate) fn new(scheme: &'a LevelScheme) -> Option<Self> {
        let table = scheme.table()?;
        let exact = match scheme.scales() {
            ScaleStorage::Float(storage) => storage != FloatType::F64,
            storage => storage == ScaleStorage::Minifloat(Minifloat::E8M0),
        };
        if !(exact && table.bottom() < 0.0 && table.top() > 0.0) {
            return None;
        }
        let usual = USUAL.contains(&table.magnitude());
        let formula = match (scheme.rule(), scheme.scales(), table.element()) {
            (ScaleRule::EndOfRange, ScaleStorage::Float(FloatType::F32), _) if usual => {
                Some(MagnitudeScale::Quotient { top: table.magnitude() })
            }
            (ScaleRule::SharedExponent(mode), ScaleStorage::Minifloat(_), Some(element)) if usual => {
                let unit = 1 << MANTISSA;
                let max_fraction = (element.max_value() as f32).to_bits() % unit;
                let carry = match mode {
                    ScaleMode::Floor => 0,
                    ScaleMode::Ceil => unit - 1,
                    ScaleMode::RoundUp => unit - 1 - max_fraction,
                    ScaleMode::Even => unit >> (element.mantissa_bits() + 1),
                };
                let exponent = u32::try_from(element.max_exponent()).ok();
                exponent.map(|exponent| MagnitudeScale::Power { carry, exponent })
            }
            _ => None,
        };
        Some(Self { scheme, formula })
    }

    /// Puts scales in the place of magnitudes; `false` where one has none.
    pub(crate) fn find(&self, magnitudes: &mut [f32]) -> bool {
        let everyday = magnitudes.iter().fold(true, |all, m| all & EVERYDAY.contains(m));
        // A loop for each formula, so that it becomes vectors.
        match self.formula {
            Some(scale @ MagnitudeScale::Quotient { .. }) if everyday => {
                magnitudes.iter_mut().for_each(|m| *m = scale.of(*m));
            }
            Some(scale @ MagnitudeScale::Power { .. }) if everyday => {
                magnitudes.iter_mut().for_each(|m| *m = scale.of(*m));
            }
            _ => {
                return magnitudes.iter_mut().all(|m| match self.one(*m) {
                    Some(scale) => {
                        *m = scale;
                        true
                    }
                    None => false,
                });
            }
        }
        true
    }

    /// The formula of everyday magnitudes, if there is one, and the scale of zeros.
    pub(crate) fn formula(&self) -> Option<(MagnitudeScale, f32)> {
        Some((self.formula?, self.one(0.0)?))
    }

    fn one(&self, m: f32) -> Option<f32> {
        if let Some(scale) = self.formula
            && EVERYDAY.contains(&m)
        {
            return Some(scale.of(m));
        }
        let m = f64::from(m);
        let grid = self.scheme.grid(ClippingRange::new(-m, m).ok()?, 0).ok()?;
        Some(grid.scale as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LevelTable;
    use super::*;
    use crate::bits::BitWidth;

    #[test]
    fn scales_are_those_of_the_scheme() {
        let nf4 = LevelScheme::new(LevelTable::normal_float(BitWidth::holding(15)).unwrap());
        let mut schemes = vec![
            nf4.clone(),
            nf4.clone().with_scales(FloatType::Bf16.into()),
            nf4.clone().with_scales(FloatType::F16.into()),
            nf4.with_rule(ScaleRule::NearestPowerOfTwo).unwrap(),
            LevelScheme::new(LevelTable::minifloat(Minifloat::E4M3FN)),
            LevelScheme::new(LevelTable::minifloat(Minifloat::E2M1)).with_rule(ScaleRule::One).unwrap(),
            LevelScheme::new(LevelTable::given([-3e-9, 1e-9]).unwrap()),
        ];
        let elements =
            [Minifloat::E4M3FN, Minifloat::E5M2, Minifloat::E3M2, Minifloat::E2M3, Minifloat::E2M1];
        for table in elements.map(LevelTable::minifloat).into_iter().chain([LevelTable::mx_int8()]) {
            for mode in [ScaleMode::Floor, ScaleMode::Ceil, ScaleMode::RoundUp, ScaleMode::Even] {
                let scheme = LevelScheme::new(table.clone()).with_scales(Minifloat::E8M0.into());
                schemes.push(scheme.with_rule(ScaleRule::SharedExponent(mode)).unwrap());
            }
        }
        // All exponents, with mantissas around those where a mode changes its mind, and the ends of the formulas.
        let fractions = [0, 1, 0x20_0000, 0x3F_FFFF, 0x40_0000, 0x40_0001, 0x60_0000, 0x60_0001, 0x70_0000]
            .into_iter()
            .chain([0x5F_FFFF, 0x6F_FFFF, 0x78_0000, 0x77_FFFF, 0x7C_0000, 0x7E_0000, 0x7F_0000, 0x7F_FFFF]);
        let magnitudes: Vec<f32> = fractions
            .flat_map(|fraction| (0..255).map(move |exponent| f32::from_bits(exponent << 23 | fraction)))
            .chain([
                *EVERYDAY.start(),
                EVERYDAY.start().next_down(),
                *EVERYDAY.end(),
                EVERYDAY.end().next_up(),
            ])
            .collect();
        for scheme in &schemes {
            let scales = BlockScales::new(scheme).unwrap();
            for &m in &magnitudes {
                let range = ClippingRange::new(-f64::from(m), f64::from(m)).unwrap();
                let expected = scheme.grid(range, 0).ok().map(|grid| grid.scale);
                // Alone, and among others.
                for before in [None, Some(1.0), Some(0.0)] {
                    let mut found: Vec<f32> = before.into_iter().chain([m]).collect();
                    let all = scales.find(&mut found);
                    assert_eq!(all, expected.is_some(), "{scheme} {m:e}");
                    let found = found.last().map(|&scale| f64::from(scale));
                    assert!(!all || found == expected, "{scheme} {m:e}: {found:?} {expected:?}");
                }
            }
        }
    }

    #[test]
    fn schemes_that_need_more_than_a_magnitude() {
        let nf4 = || LevelScheme::new(LevelTable::normal_float(BitWidth::holding(15)).unwrap());
        assert!(BlockScales::new(&nf4().with_scales(FloatType::F64.into())).is_none());
        let two_level = crate::tensor::TwoLevel::double_quantization();
        assert!(BlockScales::new(&nf4().with_scales(two_level.into())).is_none());
        assert!(BlockScales::new(&LevelScheme::new(LevelTable::dynamic(false))).is_none());
        assert!(BlockScales::new(&LevelScheme::learned(BitWidth::EIGHT, FloatType::F32)).is_none());
    }
}
