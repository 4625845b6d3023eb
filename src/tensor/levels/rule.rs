//! How the scale of a region follows from its range.

use core::fmt;

use crate::minifloat::{BlockElement, ScaleMode, power_of_two, shared_exponent};
use crate::tables::powers::inq_top_exponent;

/// How the scale of a region follows from the largest magnitude `a` of its range. `top` is the largest magnitude of a
/// level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ScaleRule {
    /// `a / top`, so that the outermost level is the end of the range. The default.
    #[default]
    EndOfRange,
    /// The power of two of an MX block (OCP 2023), for the tables of minifloats and of MXINT8. A range of zero has the
    /// scale 2^−127. See [`shared_exponent`].
    SharedExponent(ScaleMode),
    /// The power of two nearest to `a / top`; midway between two, the larger: `2^⌊log2(4a / 3)⌋` of INQ (Zhou et al.
    /// 2017).
    NearestPowerOfTwo,
    /// 1, whatever the range: values are the levels themselves.
    One,
}

impl ScaleRule {
    /// The scale of a range that reaches to `magnitude`, before it is stored; infinite where no scale is large enough.
    /// `None` for a range of zero, if the rule has nothing to say of it.
    pub(super) fn scale(self, magnitude: f64, top: f64, element: Option<BlockElement>) -> Option<f64> {
        match self {
            Self::One => Some(1.0),
            Self::SharedExponent(mode) => {
                let element = element?;
                let exponent = shared_exponent(magnitude, element, mode);
                let scale = power_of_two(exponent);
                // A whole octave beyond the outermost one: the exponent is that of the largest E8M0.
                let octave = power_of_two(element.max_exponent() + 1);
                Some(if magnitude / scale >= octave { f64::INFINITY } else { scale })
            }
            _ if magnitude == 0.0 => None,
            Self::EndOfRange => Some(magnitude / top),
            Self::NearestPowerOfTwo => {
                let exponent = inq_top_exponent(magnitude / top).unwrap_or(-1022);
                Some(if exponent > 1023 { f64::INFINITY } else { power_of_two(exponent.max(-1022)) })
            }
        }
    }

    /// A magnitude that has the scale `scale` by this rule, the largest level's where that is one.
    pub(super) fn magnitude(self, scale: f64, top: f64) -> f64 {
        match self {
            // From the octave of the outermost level on the exponent is the next one, but for its lower end.
            Self::SharedExponent(ScaleMode::Ceil) => scale * power_of_two(exponent_of(top)),
            _ => scale * top,
        }
    }
}

/// ⌊log2 value⌋ of a positive normal number.
fn exponent_of(value: f64) -> i32 {
    ((value.to_bits() >> 52) & 0x7FF) as i32 - 1023
}

impl fmt::Display for ScaleRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndOfRange => f.write_str("end-of-range"),
            Self::SharedExponent(mode) => write!(f, "shared-exponent({mode})"),
            Self::NearestPowerOfTwo => f.write_str("nearest-power-of-two"),
            Self::One => f.write_str("one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LevelGrid, LevelScheme, LevelTable};
    use super::*;
    use crate::element::FloatType;
    use crate::minifloat::Minifloat;
    use crate::tensor::{ClippingRange, ScaleStorage};

    const MODES: [ScaleMode; 4] = [ScaleMode::Floor, ScaleMode::Ceil, ScaleMode::RoundUp, ScaleMode::Even];

    fn elements() -> Vec<LevelTable> {
        let formats = [Minifloat::E4M3FN, Minifloat::E5M2, Minifloat::E3M2, Minifloat::E2M3, Minifloat::E2M1];
        formats.map(LevelTable::minifloat).into_iter().chain([LevelTable::mx_int8()]).collect()
    }

    #[test]
    fn a_range_of_a_scale_has_that_scale() {
        for table in elements() {
            for mode in MODES {
                let scheme = LevelScheme::new(table.clone()).with_scales(Minifloat::E8M0.into());
                let scheme = scheme.with_rule(ScaleRule::SharedExponent(mode)).unwrap();
                for exponent in [-127, -126, -1, 0, 5, 100] {
                    let scale = power_of_two(exponent);
                    let range = scheme.range_of_scale(scale);
                    assert_eq!(scheme.grid(range, 0), Ok(LevelGrid { scale }), "{scheme} {exponent}");
                }
            }
        }
        let nearest =
            LevelScheme::new(LevelTable::ternary()).with_rule(ScaleRule::NearestPowerOfTwo).unwrap();
        assert_eq!(nearest.grid(nearest.range_of_scale(0.25), 0), Ok(LevelGrid { scale: 0.25 }));
        let one =
            LevelScheme::new(LevelTable::minifloat(Minifloat::E4M3FN)).with_rule(ScaleRule::One).unwrap();
        for end in [0.0, 1e-3, 1e30] {
            let range = ClippingRange::new(-end, end).unwrap();
            assert_eq!(one.grid(range, 0), Ok(LevelGrid { scale: 1.0 }));
        }
    }

    #[test]
    fn rules_that_levels_do_not_have() {
        let ternary = LevelScheme::new(LevelTable::ternary());
        assert!(ternary.with_rule(ScaleRule::SharedExponent(ScaleMode::Floor)).is_err());
        let learned = LevelScheme::learned(crate::BitWidth::EIGHT, FloatType::F32);
        assert!(learned.clone().with_rule(ScaleRule::One).is_err());
        assert!(learned.with_rule(ScaleRule::EndOfRange).is_ok());
    }

    #[test]
    fn zeros_do_not_count_among_scales_that_are_quantized() {
        let scheme = LevelScheme::new(LevelTable::ternary());
        assert_eq!(scheme.grid(ClippingRange::ZERO, 0), Ok(LevelGrid { scale: 1.0 }));
        let two_level = scheme.with_scales(crate::tensor::TwoLevel::unsigned(crate::BitWidth::EIGHT).into());
        assert_eq!(two_level.grid(ClippingRange::ZERO, 0), Ok(LevelGrid { scale: 0.0 }));
        assert!(matches!(two_level.scales(), ScaleStorage::TwoLevel(_)));
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_rule_is_stored_where_it_is_not_the_default() {
        let scheme =
            LevelScheme::new(LevelTable::minifloat(Minifloat::E2M1)).with_scales(Minifloat::E8M0.into());
        let json = serde_json::to_string(&scheme).unwrap();
        assert_eq!(json, r#"{"bits":4,"levels":{"table":"e2m1"},"scales":"e8m0"}"#);
        assert_eq!(serde_json::from_str::<LevelScheme>(&json).unwrap(), scheme);
        for rule in
            [ScaleRule::SharedExponent(ScaleMode::RoundUp), ScaleRule::NearestPowerOfTwo, ScaleRule::One]
        {
            let scheme = scheme.clone().with_rule(rule).unwrap();
            let json = serde_json::to_string(&scheme).unwrap();
            assert_eq!(serde_json::from_str::<LevelScheme>(&json).unwrap(), scheme, "{json}");
        }
        let wrong =
            r#"{"bits":4,"levels":{"table":"nf4"},"scales":"e8m0","rule":{"shared-exponent":"floor"}}"#;
        assert!(serde_json::from_str::<LevelScheme>(wrong).is_err());
    }
}
