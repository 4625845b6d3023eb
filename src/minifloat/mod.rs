//! Floating-point formats of a few bits: E4M3, E5M2, E3M2, E2M3, E2M1, E8M0, and any ExMy of at most 16 bits.
//!
//! Micikevicius et al. 2022, *FP8 Formats for Deep Learning* (E4M3, E5M2); Noune et al. 2022, *8-bit Numerical
//! Formats for Deep Neural Networks* (FNUZ); Open Compute Project 2023, *OCP Microscaling Formats (MX) Specification*
//! (E3M2, E2M3, E2M1, E8M0). A code is sign, exponent field E and mantissa field M, from the highest bit down, and
//!
//! ```text
//! value = (−1)^S · 2^(E − bias) · (1 + M / 2^y)     E > 0
//! value = (−1)^S · 2^(1 − bias) · (M / 2^y)         E = 0 (zero and subnormals)
//! bias  = 2^(x−1) − 1                               one more in FNUZ formats
//! ```
//!
//! but for the codes that [`Specials`] keeps for infinity and NaN.
//!
//! ```
//! use lowbit::minifloat::{Minifloat, Overflow};
//!
//! let format = Minifloat::E4M3FN;
//! assert_eq!((format.bits(), format.max_value(), format.min_positive()), (8, 448.0, 2f64.powi(-9)));
//! assert_eq!(format.decode(0x3C), 1.5);
//! assert_eq!(format.encode(1.52, Overflow::Saturate), Some(0x3C));
//! // Above 464 the nearest value would be 480, which the format does not have.
//! assert_eq!(format.round(500.0, Overflow::Saturate), 448.0);
//! assert!(format.round(500.0, Overflow::NonFinite).is_nan());
//! assert_eq!("e3m4".parse(), Ok(Minifloat::new(3, 4)?));
//! # Ok::<(), lowbit::Error>(())
//! ```

mod block_scale;
mod encode;
mod text;

pub use block_scale::{BlockElement, ScaleMode, shared_exponent};
pub use encode::Overflow;

use crate::error::ConfigError;

/// Which codes of a [`Minifloat`] are not finite numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Specials {
    /// As in IEEE 754: the largest exponent field is infinity (mantissa 0) and NaN (any other mantissa).
    Ieee,
    /// No infinity, and one NaN of each sign: all bits of exponent and mantissa set ("FN", OCP E4M3).
    Fn,
    /// No infinity, no negative zero, whose code is the only NaN, and a bias that is larger by one ("FNUZ").
    Fnuz,
    /// Every code is a finite number (OCP E3M2, E2M3 and E2M1).
    Finite,
}

/// A floating-point format of at most 16 bits.
///
/// Its text form (`Display`, `FromStr`, and what `serde` stores) is `eXmY`, with `u` before it if there is no sign,
/// and `fn`, `fnuz`, `ieee` or `finite` after it where the [`Specials`] are not those of [`new`](Self::new), and
/// always for `e4m3fn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Minifloat {
    exponent_bits: u8,
    mantissa_bits: u8,
    signed: bool,
    specials: Specials,
    /// Whether the exponent field 0 holds zero and the subnormals. E8M0 has neither.
    zero: bool,
}

impl Minifloat {
    /// OCP E4M3: largest value 448, smallest 2^−9, NaN but no infinity.
    pub const E4M3FN: Self = Self::signed(4, 3, Specials::Fn);
    /// E4M3 with one NaN and no negative zero: largest value 240, smallest 2^−10.
    pub const E4M3FNUZ: Self = Self::signed(4, 3, Specials::Fnuz);
    /// OCP E5M2: largest value 57344, smallest 2^−16, NaN and infinity as in IEEE 754.
    pub const E5M2: Self = Self::signed(5, 2, Specials::Ieee);
    /// E5M2 with one NaN and no negative zero: largest value 57344, smallest 2^−17.
    pub const E5M2FNUZ: Self = Self::signed(5, 2, Specials::Fnuz);
    /// OCP FP6 E3M2: largest value 28, smallest 2^−4, all codes finite.
    pub const E3M2: Self = Self::signed(3, 2, Specials::Finite);
    /// OCP FP6 E2M3: largest value 7.5, smallest 2^−3, all codes finite.
    pub const E2M3: Self = Self::signed(2, 3, Specials::Finite);
    /// OCP FP4 E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 with either sign.
    pub const E2M1: Self = Self::signed(2, 1, Specials::Finite);
    /// OCP E8M0, the scale of MX blocks: 2^(code − 127) without sign and without zero; code 255 is NaN.
    pub const E8M0: Self =
        Self { exponent_bits: 8, mantissa_bits: 0, signed: false, specials: Specials::Fn, zero: false };

    const fn signed(exponent_bits: u8, mantissa_bits: u8, specials: Specials) -> Self {
        Self { exponent_bits, mantissa_bits, signed: true, specials, zero: true }
    }

    /// The most exponent bits: every value is exact in f64. Up to 7, and with 8 in IEEE formats, every value is
    /// exact in f32 too.
    pub const MAX_EXPONENT_BITS: u32 = 10;

    /// The format that is meant by the name E*x*M*y*: what the OCP specifications define under it (E4M3 is
    /// [`E4M3FN`](Self::E4M3FN), E8M0 has no sign). The others have a sign, and are finite if they have fewer than
    /// 8 bits, one exponent bit or no mantissa bit; else infinity and NaN are as in IEEE 754. Thus E5M10 is IEEE
    /// binary16, and E8M7 is bfloat16.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Minifloat`] if there are not 1 to 10 exponent bits, or more than 16 bits with the sign.
    pub const fn new(exponent_bits: u32, mantissa_bits: u32) -> Result<Self, ConfigError> {
        if exponent_bits == 8 && mantissa_bits == 0 {
            return Ok(Self::E8M0);
        }
        let rule = if exponent_bits < 1 || exponent_bits > Self::MAX_EXPONENT_BITS {
            "there must be 1 to 10 exponent bits"
        } else if mantissa_bits > 15 - exponent_bits {
            "with the sign there must be at most 16 bits"
        } else {
            let specials = Self::usual_specials(exponent_bits, mantissa_bits);
            return Ok(Self::signed(exponent_bits as u8, mantissa_bits as u8, specials));
        };
        Err(ConfigError::Minifloat { exponent_bits, mantissa_bits, rule })
    }

    /// The specials of a format that is named by its bits alone.
    const fn usual_specials(exponent_bits: u32, mantissa_bits: u32) -> Specials {
        match (exponent_bits, mantissa_bits) {
            (4, 3) => Specials::Fn,
            (1, _) | (_, 0) => Specials::Finite,
            (x, y) if 1 + x + y < 8 => Specials::Finite,
            _ => Specials::Ieee,
        }
    }

    /// This format with other special codes.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Minifloat`] for IEEE specials without two exponent bits and one mantissa bit, for FN specials
    /// that leave no value but zero, for FNUZ without a sign, and for E8M0, which has its own.
    pub const fn with_specials(self, specials: Specials) -> Result<Self, ConfigError> {
        let rule = match specials {
            _ if !self.zero => "the special code of E8M0 is part of its definition",
            Specials::Ieee if self.exponent_bits < 2 || self.mantissa_bits < 1 => {
                "infinity and NaN as in IEEE 754 need two exponent bits and one mantissa bit"
            }
            Specials::Fn if self.exponent_bits + self.mantissa_bits < 2 => {
                "with a code for NaN, none is left for a value"
            }
            Specials::Fnuz if !self.signed => "the NaN of FNUZ formats is the code of negative zero",
            _ => return Ok(Self { specials, ..self }),
        };
        Err(ConfigError::Minifloat {
            exponent_bits: self.exponent_bits as u32,
            mantissa_bits: self.mantissa_bits as u32,
            rule,
        })
    }

    /// This format without its sign bit: one bit less, no negative values. Block scales are often stored so.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Minifloat`] for FNUZ formats, whose NaN is the code of negative zero.
    pub const fn unsigned(self) -> Result<Self, ConfigError> {
        Self { signed: false, ..self }.with_own_specials()
    }

    const fn with_own_specials(self) -> Result<Self, ConfigError> {
        if self.zero { self.with_specials(self.specials) } else { Ok(self) }
    }

    /// Bits of one code, the sign included.
    pub const fn bits(self) -> u32 {
        self.signed as u32 + self.magnitude_bits()
    }

    /// The number of codes, 2^bits.
    pub const fn code_count(self) -> u32 {
        1 << self.bits()
    }

    /// Whether there is a sign bit.
    pub const fn is_signed(self) -> bool {
        self.signed
    }

    /// Bits of the exponent field.
    pub const fn exponent_bits(self) -> u32 {
        self.exponent_bits as u32
    }

    /// Bits of the mantissa field.
    pub const fn mantissa_bits(self) -> u32 {
        self.mantissa_bits as u32
    }

    /// What is subtracted from the exponent field.
    pub const fn bias(self) -> i32 {
        (1 << (self.exponent_bits - 1)) - 1 + matches!(self.specials, Specials::Fnuz) as i32
    }

    /// Which codes are not finite numbers.
    pub const fn specials(self) -> Specials {
        self.specials
    }

    /// The code of the largest finite value. The finite values that are not negative have the codes from 0 to this
    /// one, in ascending order.
    pub const fn max_code(self) -> u16 {
        match self.specials {
            Specials::Ieee => self.infinity_magnitude() - 1,
            Specials::Fn => self.magnitude_mask() - 1,
            Specials::Fnuz | Specials::Finite => self.magnitude_mask(),
        }
    }

    /// The code of positive infinity, if there is one.
    pub const fn infinity(self) -> Option<u16> {
        match self.specials {
            Specials::Ieee => Some(self.infinity_magnitude()),
            _ => None,
        }
    }

    /// The code of NaN, if there is one: the quiet one without sign in IEEE formats.
    pub const fn nan(self) -> Option<u16> {
        match self.specials {
            Specials::Ieee => Some(self.infinity_magnitude() | 1 << (self.mantissa_bits - 1)),
            Specials::Fn => Some(self.magnitude_mask()),
            Specials::Fnuz => Some(self.sign_mask()),
            Specials::Finite => None,
        }
    }

    /// The largest finite value.
    pub fn max_value(self) -> f64 {
        self.magnitude(self.max_code())
    }

    /// The smallest positive value: a subnormal where there are any.
    pub fn min_positive(self) -> f64 {
        self.magnitude(self.zero as u16)
    }

    /// The smallest positive value with all bits of precision.
    pub fn min_normal(self) -> f64 {
        power_of_two(self.min_exponent())
    }

    /// The distance from 1 to the next larger value, 2^−y.
    pub fn epsilon(self) -> f64 {
        power_of_two(-i32::from(self.mantissa_bits))
    }

    /// The value of `code`, exactly; NaN and ±∞ where the code says so. Bits above the width are ignored.
    pub fn decode(self, code: u16) -> f64 {
        let magnitude = code & self.magnitude_mask();
        let negative = code & self.sign_mask() != 0;
        let value = match self.specials {
            Specials::Ieee if magnitude > self.infinity_magnitude() => f64::NAN,
            Specials::Ieee if magnitude == self.infinity_magnitude() => f64::INFINITY,
            Specials::Fn if magnitude == self.magnitude_mask() => f64::NAN,
            Specials::Fnuz if magnitude == 0 && negative => f64::NAN,
            _ => self.magnitude(magnitude),
        };
        if negative { -value } else { value }
    }

    /// The values of all codes, in the order of the codes.
    pub fn values(self) -> impl ExactSizeIterator<Item = f64> {
        (0..self.code_count() as usize).map(move |code| self.decode(code as u16))
    }

    /// The value of the code `magnitude` without sign, were it not special.
    fn magnitude(self, magnitude: u16) -> f64 {
        let field = i32::from(magnitude >> self.mantissa_bits);
        let mantissa = magnitude & ((1 << self.mantissa_bits) - 1);
        if !self.zero {
            return power_of_two(field - self.bias());
        }
        let (significand, field) =
            if field == 0 { (mantissa, 1) } else { (mantissa | 1 << self.mantissa_bits, field) };
        f64::from(significand) * power_of_two(field - self.bias() - i32::from(self.mantissa_bits))
    }

    /// The exponent of the smallest normal value.
    const fn min_exponent(self) -> i32 {
        self.zero as i32 - self.bias()
    }

    const fn magnitude_bits(self) -> u32 {
        (self.exponent_bits + self.mantissa_bits) as u32
    }

    const fn magnitude_mask(self) -> u16 {
        ((1u32 << self.magnitude_bits()) - 1) as u16
    }

    const fn sign_mask(self) -> u16 {
        if self.signed { 1 << self.magnitude_bits() } else { 0 }
    }

    /// The largest exponent field with mantissa 0.
    const fn infinity_magnitude(self) -> u16 {
        ((1 << self.exponent_bits) - 1) << self.mantissa_bits
    }
}

/// 2^`exponent`, exactly, for exponents from −1074 to 1023.
pub(crate) const fn power_of_two(exponent: i32) -> f64 {
    debug_assert!(exponent >= -1074 && exponent <= 1023);
    if exponent >= -1022 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    } else {
        f64::from_bits(1 << (exponent + 1074))
    }
}

/// The positive finite `value` as `significand · 2^exponent`, exactly.
const fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let field = ((bits >> 52) & 0x7FF) as i32;
    let fraction = bits & ((1 << 52) - 1);
    if field == 0 { (fraction, -1074) } else { (fraction | 1 << 52, field - 1075) }
}

#[cfg(test)]
pub(crate) mod tests {
    use half::{bf16, f16};

    use super::*;

    /// All named formats and some others.
    pub(crate) fn formats() -> Vec<Minifloat> {
        let mut formats = vec![
            Minifloat::E4M3FN,
            Minifloat::E4M3FNUZ,
            Minifloat::E5M2,
            Minifloat::E5M2FNUZ,
            Minifloat::E3M2,
            Minifloat::E2M3,
            Minifloat::E2M1,
            Minifloat::E8M0,
        ];
        for (x, y) in
            [(1, 0), (1, 2), (1, 6), (2, 0), (3, 0), (7, 0), (3, 4), (5, 10), (8, 7), (10, 3), (6, 9)]
        {
            let format = Minifloat::new(x, y).unwrap();
            formats.push(format);
            formats.extend(format.unsigned());
            for specials in [Specials::Ieee, Specials::Fn, Specials::Fnuz, Specials::Finite] {
                formats.extend(format.with_specials(specials));
            }
        }
        formats.push(Minifloat::E4M3FN.unsigned().unwrap());
        formats.push(Minifloat::E4M3FN.with_specials(Specials::Ieee).unwrap());
        formats
    }

    /// Fowler, Noll and Vo's hash, to compare long tables by one number.
    pub(crate) fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
        bytes
            .into_iter()
            .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
    }

    #[test]
    fn properties_are_those_of_ml_dtypes() {
        // ml_dtypes 0.6.0, `finfo`: max, smallest_normal, smallest_subnormal, eps.
        let ieee = Minifloat::E4M3FN.with_specials(Specials::Ieee).unwrap();
        for (format, max, normal, smallest, epsilon) in [
            (Minifloat::E4M3FN, 448.0, 0.015625, 0.001953125, 0.125),
            (Minifloat::E4M3FNUZ, 240.0, 0.0078125, 0.0009765625, 0.125),
            (Minifloat::E5M2, 57344.0, 6.103515625e-05, 1.52587890625e-05, 0.25),
            (Minifloat::E5M2FNUZ, 57344.0, 3.0517578125e-05, 7.62939453125e-06, 0.25),
            (ieee, 240.0, 0.015625, 0.001953125, 0.125),
            (Minifloat::new(3, 4).unwrap(), 15.5, 0.25, 0.015625, 0.0625),
            (Minifloat::E3M2, 28.0, 0.25, 0.0625, 0.25),
            (Minifloat::E2M3, 7.5, 1.0, 0.125, 0.125),
            (Minifloat::E2M1, 6.0, 1.0, 0.5, 0.5),
            (Minifloat::E8M0, 1.7014118346046923e+38, 5.877471754111438e-39, 5.877471754111438e-39, 1.0),
        ] {
            assert_eq!(format.max_value(), max, "{format}");
            assert_eq!(format.min_normal(), normal, "{format}");
            assert_eq!(format.min_positive(), smallest, "{format}");
            assert_eq!(format.epsilon(), epsilon, "{format}");
        }
    }

    #[test]
    fn values_are_those_of_ml_dtypes() {
        // ml_dtypes 0.6.0: the hash of the values of all codes as little-endian f32, NaN as 0x7FC00000.
        for (name, expected) in [
            ("e4m3fn", 0xdad1d9c50f749ca5),
            ("e4m3fnuz", 0xf51851cb11c63018),
            ("e5m2", 0x6c1e56b6fb09c905),
            ("e5m2fnuz", 0x94ae6fc493d49818),
            ("e4m3ieee", 0x225eaf4799a27e65),
            ("e3m4", 0xf47936f19e549625),
            ("e3m2", 0x25da13434201d785),
            ("e2m3", 0x7ffacb24ad8b0aa5),
            ("e2m1", 0x2403bb76b85dfea5),
            ("e8m0", 0x6d2c8b41c3f0e5a5_u64),
        ] {
            let format: Minifloat = name.parse().unwrap();
            let bytes = format.values().flat_map(|value| {
                let narrow = if value.is_nan() { f32::NAN } else { value as f32 };
                assert!(value.is_nan() || f64::from(narrow) == value);
                narrow.to_bits().to_le_bytes()
            });
            assert_eq!(fnv(bytes), expected, "{name}");
        }
    }

    #[test]
    fn values_of_fp4_are_those_of_the_specification() {
        let positive = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let all: Vec<f64> = positive.iter().copied().chain(positive.iter().map(|value| -value)).collect();
        assert_eq!(Minifloat::E2M1.values().collect::<Vec<_>>(), all);
        assert!(Minifloat::E2M1.decode(8).is_sign_negative());
        assert_eq!(Minifloat::E2M1.decode(0xFFF2), 1.0);
    }

    #[test]
    fn sixteen_bits_are_the_half_types() {
        let (half, brain) = (Minifloat::new(5, 10).unwrap(), Minifloat::new(8, 7).unwrap());
        for code in 0..=u16::MAX {
            for (ours, theirs) in [
                (half.decode(code), f16::from_bits(code).to_f64()),
                (brain.decode(code), bf16::from_bits(code).to_f64()),
            ] {
                assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{code:#x}");
            }
        }
    }

    #[test]
    fn codes_ascend_and_specials_are_where_they_say() {
        for format in formats() {
            assert!(format.bits() <= 16 && format.values().len() == format.code_count() as usize);
            for code in 0..format.max_code() {
                assert!(format.decode(code) < format.decode(code + 1), "{format}: {code}");
            }
            assert_eq!(format.decode(format.max_code()), format.max_value());
            let finite = format.values().filter(|value| value.is_finite()).count();
            let magnitudes = usize::from(format.max_code()) + 1;
            let fnuz = usize::from(format.specials() == Specials::Fnuz);
            assert_eq!(finite, if format.is_signed() { 2 * magnitudes - fnuz } else { magnitudes });
            assert!(format.nan().is_none_or(|code| format.decode(code).is_nan()));
            assert!(format.infinity().is_none_or(|code| format.decode(code) == f64::INFINITY));
            assert_eq!(format.nan().is_some(), format.values().any(f64::is_nan));
            assert_eq!(format.infinity().is_some(), format.values().any(f64::is_infinite));
        }
    }

    #[test]
    fn formats_that_cannot_be() {
        for (x, y) in [(0, 3), (11, 0), (5, 11), (10, 6), (1, 15), (u32::MAX, 1), (4, u32::MAX)] {
            assert!(matches!(
                Minifloat::new(x, y),
                Err(ConfigError::Minifloat { exponent_bits, mantissa_bits, .. })
                    if (exponent_bits, mantissa_bits) == (x, y)
            ));
        }
        assert!(Minifloat::new(1, 3).unwrap().with_specials(Specials::Ieee).is_err());
        assert!(Minifloat::new(3, 0).unwrap().with_specials(Specials::Ieee).is_err());
        assert!(Minifloat::new(1, 0).unwrap().with_specials(Specials::Fn).is_err());
        assert!(Minifloat::E4M3FNUZ.unsigned().is_err());
        assert!(Minifloat::E8M0.with_specials(Specials::Finite).is_err());
        assert_eq!(Minifloat::E8M0.unsigned(), Ok(Minifloat::E8M0));
        assert_eq!(Minifloat::new(8, 0), Ok(Minifloat::E8M0));
    }
}
