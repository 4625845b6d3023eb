//! From a real number to the nearest code.

use super::{Minifloat, Specials, parts};
use crate::names::named;

/// What becomes of a value beyond the largest finite one.
///
/// A value is rounded first, as if the exponents went on: in E4M3FN 464, midway between 448 and the 480 that the
/// format does not have, is rounded to the even 448 and does not overflow. These are the rules of ONNX's `Cast`
/// with `saturate` of 1 and 0; the second is that of `ml_dtypes` and of PyTorch's casts before version 2.13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Overflow {
    /// The largest finite value with the same sign, and the smallest value where there is no sign. ±∞ too, but in
    /// FNUZ formats that is NaN. The default.
    #[default]
    Saturate,
    /// ∞ where the format has it, else NaN where it has that, else as [`Saturate`](Self::Saturate).
    NonFinite,
}

named!(Overflow, "overflow rule", [Saturate => "saturate", NonFinite => "non-finite"]);

impl Minifloat {
    /// The code of the value nearest to `value`, rounded once from f64. Between two values equally near it takes
    /// the one with the even mantissa.
    ///
    /// Values that round to zero keep their sign where the format has a negative zero. NaN keeps its sign in IEEE
    /// and FN formats; it is `None` in formats without NaN, and in no other case. E8M0 has no zero: 0 and whatever
    /// else is below 2^−127 gets 2^−127.
    pub fn encode(self, value: f64, overflow: Overflow) -> Option<u16> {
        let negative = value.is_sign_negative();
        let sign = if negative { self.sign_mask() } else { 0 };
        if value.is_nan() {
            return self.nan().map(|code| code | sign);
        }
        let magnitude = self.nearest_magnitude(value.abs());
        let below_all = negative && !self.signed && (magnitude != 0 || (!self.zero && value != 0.0));
        if magnitude <= u32::from(self.max_code()) && !below_all {
            let magnitude = magnitude as u16;
            // The code of negative zero is NaN there.
            let unsigned_zero = magnitude == 0 && self.specials == Specials::Fnuz;
            return Some(if unsigned_zero { 0 } else { magnitude | sign });
        }
        let largest = if below_all { 0 } else { self.max_code() | sign };
        let saturated = match overflow {
            Overflow::Saturate => !(self.specials == Specials::Fnuz && value.is_infinite()),
            Overflow::NonFinite => false,
        };
        if saturated {
            return Some(largest);
        }
        let infinity = if below_all { None } else { self.infinity() };
        Some(infinity.or(self.nan()).map_or(largest, |code| code | sign))
    }

    /// `value` rounded once to this format: [`encode`](Self::encode), then [`decode`](Self::decode). NaN stays NaN.
    pub fn round(self, value: f64, overflow: Overflow) -> f64 {
        self.encode(value, overflow).map_or(f64::NAN, |code| self.decode(code))
    }

    /// The code of the value nearest to `value`, which is not negative, if exponents went on above the largest.
    fn nearest_magnitude(self, value: f64) -> u32 {
        if value == f64::INFINITY {
            return u32::MAX;
        }
        if value == 0.0 {
            return 0;
        }
        let (significand, exponent) = parts(value);
        // Values from 2^top up to twice that are multiples of 2^step; subnormals are spaced like the first normals.
        let top = (exponent + significand.ilog2() as i32).max(self.min_exponent());
        let step = top - i32::from(self.mantissa_bits);
        let multiple = shift_nearest_even(significand, step - exponent);
        let code = (((top - self.min_exponent()) as u32) << self.mantissa_bits) + multiple;
        // Without zero and subnormals, the first code is that of the multiple 1.
        if self.zero { code } else { code.saturating_sub(1) }
    }
}

/// `significand / 2^shift`, a number below 2^16, to the nearest integer, ties to even.
const fn shift_nearest_even(significand: u64, shift: i32) -> u32 {
    if shift <= 0 {
        return (significand << -shift) as u32;
    }
    // A significand has at most 53 bits: this is less than one half.
    if shift > 53 {
        return 0;
    }
    let floor = significand >> shift;
    let rest = significand & ((1 << shift) - 1);
    let half = 1 << (shift - 1);
    (floor + (rest > half || (rest == half && floor & 1 == 1)) as u64) as u32
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::super::tests::{fnv, formats};
    use super::*;

    /// 65536 f32 of all signs, exponents and mantissas.
    fn sweep() -> impl Iterator<Item = f32> {
        (0..65536_u32)
            .map(|k| f32::from_bits(k << 16 | (k.wrapping_mul(0x9E37) & 0xFFFF)))
            .filter(|value| !value.is_nan())
    }

    #[test]
    fn every_code_comes_back() {
        for format in formats() {
            for code in 0..format.code_count() {
                let code = code as u16;
                let value = format.decode(code);
                for overflow in [Overflow::Saturate, Overflow::NonFinite] {
                    let back = format.encode(value, overflow).unwrap();
                    if value.is_nan() {
                        assert!(format.decode(back).is_nan());
                    } else if value.is_finite() || overflow == Overflow::NonFinite {
                        assert_eq!(back, code, "{format}: {value}");
                    } else {
                        assert_eq!(format.decode(back), format.max_value().copysign(value));
                    }
                }
            }
        }
    }

    #[test]
    fn midpoints_go_to_the_even_mantissa_and_neighbours_to_the_nearest() {
        for format in formats() {
            for code in 0..format.max_code() {
                let (low, high) = (format.decode(code), format.decode(code + 1));
                // Exact: both have far fewer bits than an f64.
                let middle = low + (high - low) / 2.0;
                // Without mantissa bits the two multiples of the lower power are 1 and 2, and 2 is even.
                let up = format.mantissa_bits() == 0 && code > 0 || code % 2 == 1;
                let up = up || !format.zero;
                let even = if up { code + 1 } else { code };
                for (value, expected) in [
                    (middle.next_down(), code),
                    (middle, even),
                    (middle.next_up(), code + 1),
                    (low.next_up(), code),
                    (high.next_down(), code + 1),
                ] {
                    assert_eq!(
                        format.encode(value, Overflow::NonFinite),
                        Some(expected),
                        "{format}: {value:e}"
                    );
                    if format.is_signed() && expected > 0 {
                        let negative = expected | format.sign_mask();
                        assert_eq!(format.encode(-value, Overflow::NonFinite), Some(negative));
                    }
                }
            }
        }
    }

    #[test]
    fn codes_are_those_of_ml_dtypes() {
        // ml_dtypes 0.6.0, `astype` from f32: the hash of the codes of `sweep` and of all midpoints of
        // neighbouring finite values between the f32 below and above, positive ones and then all of them negated.
        // For E8M0 only normal positive f32: from subnormal ones, ml_dtypes does not take the nearest value.
        for (name, of_sweep, of_midpoints) in [
            ("e4m3fn", 0x342fab71e9cdab95, 0x3cc9a422ac4e50d9),
            ("e4m3fnuz", 0xdcfc3b98bb5739a5, 0x8c7fce2a292c104f),
            ("e5m2", 0x8c3ac6d96a029025, 0x13acf6f470ca23cb),
            ("e5m2fnuz", 0x574416a692c2ab25, 0x8c7fce2a292c104f),
            ("e4m3ieee", 0x673d2844a8e61325, 0x901a882ddff1f827),
            ("e3m4", 0xfc0ce34267db4225, 0x0be51ffd9b0e9e3f),
            ("e3m2", 0xdfb9c7a020e1f605, 0xc5a26d856dd80c4f),
            ("e2m3", 0x059d8a9a55560b95, 0xc5a26d856dd80c4f),
            ("e2m1", 0xf65951a772a4e365, 0x2baa262a816ba18f),
            ("e8m0", 0x41f898b253c3d925, 0xc5f074110092adbc_u64),
        ] {
            let format: Minifloat = name.parse().unwrap();
            let code = |value: f32| format.encode(f64::from(value), Overflow::NonFinite).unwrap() as u8;
            let compared = |&value: &f32| format.is_signed() || value >= f32::MIN_POSITIVE;
            let hash = fnv(sweep().filter(compared).map(code));
            assert_eq!(hash, of_sweep, "{name}");

            let mut values: Vec<f32> = (0..format.max_code())
                .map(|code| ((format.decode(code) + format.decode(code + 1)) / 2.0) as f32)
                .flat_map(|middle| [middle.next_down(), middle, middle.next_up()])
                .collect();
            if format.is_signed() {
                values.extend(values.clone().iter().map(|value| -value));
            }
            assert_eq!(fnv(values.into_iter().filter(compared).map(code)), of_midpoints, "{name}");
        }
    }

    #[test]
    fn sixteen_bits_are_the_half_types() {
        let (half, brain) = (Minifloat::new(5, 10).unwrap(), Minifloat::new(8, 7).unwrap());
        for value in sweep().chain([f32::NAN, -f32::NAN]) {
            let wide = f64::from(value);
            let code = |format: Minifloat| format.encode(wide, Overflow::NonFinite);
            assert_eq!(code(half), Some(f16::from_f32(value).to_bits()), "{value:e}");
            assert_eq!(code(brain), Some(bf16::from_f32(value).to_bits()), "{value:e}");
        }
    }

    #[test]
    fn overflow_follows_the_rule() {
        use Overflow::{NonFinite, Saturate};
        let inf = f64::INFINITY;
        // ONNX, `Cast` to float8: the table of infinities and overflow with saturate 1 and 0.
        for (format, value, saturated, other) in [
            (Minifloat::E4M3FN, 464.0, 0x7E, 0x7E),
            (Minifloat::E4M3FN, 464.0_f64.next_up(), 0x7E, 0x7F),
            (Minifloat::E4M3FN, inf, 0x7E, 0x7F),
            (Minifloat::E4M3FN, -inf, 0xFE, 0xFF),
            (Minifloat::E4M3FNUZ, 248.0_f64.next_down(), 0x7F, 0x7F),
            (Minifloat::E4M3FNUZ, 248.0, 0x7F, 0x80),
            (Minifloat::E4M3FNUZ, -1e300, 0xFF, 0x80),
            (Minifloat::E4M3FNUZ, inf, 0x80, 0x80),
            (Minifloat::E4M3FNUZ, -inf, 0x80, 0x80),
            (Minifloat::E5M2, 61440.0_f64.next_down(), 0x7B, 0x7B),
            (Minifloat::E5M2, 61440.0, 0x7B, 0x7C),
            (Minifloat::E5M2, -inf, 0xFB, 0xFC),
            (Minifloat::E5M2FNUZ, 1e300, 0x7F, 0x80),
            (Minifloat::E5M2FNUZ, inf, 0x80, 0x80),
            // Nothing but finite codes.
            (Minifloat::E2M1, 100.0, 7, 7),
            (Minifloat::E2M1, -inf, 15, 15),
            (Minifloat::E8M0, f64::MAX, 254, 255),
            (Minifloat::E8M0, inf, 254, 255),
            (Minifloat::E8M0, -1.0, 0, 255),
            (Minifloat::E8M0, 0.0, 0, 0),
            (Minifloat::E8M0, -0.0, 0, 0),
            (Minifloat::E8M0, f64::from_bits(1), 0, 0),
            (Minifloat::E4M3FN.unsigned().unwrap(), -1.0, 0, 0x7F),
            (Minifloat::E4M3FN.unsigned().unwrap(), -1e-9, 0, 0),
        ] {
            assert_eq!(format.encode(value, Saturate), Some(saturated), "{format}: {value}");
            assert_eq!(format.encode(value, NonFinite), Some(other), "{format}: {value}");
        }
    }

    #[test]
    fn nan_stays_nan_or_has_no_code() {
        for format in formats() {
            for nan in [f64::NAN, -f64::NAN] {
                let code = format.encode(nan, Overflow::Saturate);
                assert_eq!(code.is_some(), format.specials() != Specials::Finite);
                assert!(code.is_none_or(|code| format.decode(code).is_nan()));
                assert!(format.round(nan, Overflow::Saturate).is_nan());
            }
        }
    }

    #[test]
    fn rounding_is_done_once() {
        // Through f32 the first would become the midpoint 1.0625, and then 1.
        let value = 1.0625 + 2f64.powi(-40);
        assert_eq!(Minifloat::E4M3FN.round(value, Overflow::Saturate), 1.125);
        assert_eq!(Minifloat::E4M3FN.round(1.0625, Overflow::Saturate), 1.0);
        assert_eq!(Minifloat::E4M3FN.round(2f64.powi(-10), Overflow::Saturate), 0.0);
        assert_eq!(Minifloat::E4M3FN.round(2f64.powi(-10).next_up(), Overflow::Saturate), 2f64.powi(-9));
        assert!(Minifloat::E4M3FN.round(-1e-300, Overflow::Saturate).is_sign_negative());
    }
}
