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
