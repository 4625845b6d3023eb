//! Powers of a base with either sign, and zero.
//!
//! Miyashita, Lee and Murmann 2016, *Convolutional Neural Networks using Logarithmic Data Representation*:
//!
//! ```text
//! LogQuant(x) = sign(x) · base^clip(round(log_base |x|))
//! ```
//!
//! with one code for zero and n consecutive exponents below the full scale: 2^(b−1) − 1 of them at b bits with a
//! sign bit, 2^b − 1 without. Rounding the logarithm puts the threshold at `base^(e + ½)`, the geometric mean of two
//! levels; the nearest level has it at their arithmetic mean.
//!
//! Zhou, Yao, Guo, Xu and Chen 2017, *Incremental Network Quantization*, equations 1 to 4: powers of two, where one
//! of the b bits is spent on zero, so that there are 2^(b−2) magnitudes `2^n2 .. 2^n1`, and the nearest is taken.

use core::f64::consts::SQRT_2;

use super::{Levels, Threshold};
use crate::bits::BitWidth;
use crate::error::ConfigError;
use crate::minifloat::power_of_two;
use crate::names::named;

/// Where one power ends and the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum LogRounding {
    /// The nearest exponent: the threshold is the geometric mean. The default.
    #[default]
    Exponent,
    /// The nearest level: the threshold is the arithmetic mean.
    Level,
}

named!(LogRounding, "rounding of powers", [Exponent => "exponent", Level => "level"]);

/// The least base: closer to 1, levels would be too close for f32.
const MIN_BASE: f64 = 1.0 + 1.0 / 65536.0;

/// The levels `base^(k − n)`, k = 1 to n, with either sign if `signed`, and zero. The largest is 1: the scale is the
/// power at full scale.
///
/// The code of zero is 0, that of a magnitude k, and the highest of the `bits` is the sign, if there is one. Its code
/// without magnitude is a second zero, which encoding does not produce. A magnitude on a threshold belongs to the
/// larger level, and magnitudes below half the smallest level, in the sense of `rounding`, to zero. The f64 nearest
/// to √2 means √2, whose even powers are exact.
///
/// # Errors
///
/// [`ConfigError::LogBase`] for a base that is not finite or not above 1 by at least 2^−16,
/// [`ConfigError::TooSmall`] for one bit with a sign, and [`ConfigError::TooLarge`] for so many powers that
/// the smallest is no normal f64.
pub(crate) fn logarithmic(
    base: f64,
    bits: BitWidth,
    signed: bool,
    rounding: LogRounding,
) -> Result<Levels, ConfigError> {
    let magnitude_bits = magnitude_bits(bits, signed)?;
    let count = (1 << magnitude_bits) - 1;
    let (magnitudes, thresholds) = ladder(base, count, rounding)?;
    let mut values = vec![0.0];
    values.extend(magnitudes);
    let positive = 0..=count as u16;
    if !signed {
        return Ok(Levels { values, order: positive.collect(), thresholds });
    }
    values.extend(values.clone().iter().map(|value| -value));
    let sign = 1 << magnitude_bits;
    Ok(Levels::on_both_sides(values, positive, (1..=count as u16).map(|code| code | sign), thresholds))
}

/// The 2^(b−1) + 1 levels of INQ at `bits` of b: zero, the powers 1 down to 2^(1 − n) with n = 2^(b−2), and the same
/// negated. The scale is 2^n1, see [`inq_top_exponent`].
///
/// The code of zero is 0, those of the positive levels 1 to n, ascending, those of the negative ones n + 1 to 2n.
/// A magnitude on a threshold belongs to the larger level (equation 4).
///
/// # Errors
///
/// [`ConfigError::TooSmall`] at 1 bit, and [`ConfigError::TooLarge`] where the smallest power is no normal f64.
pub(crate) fn inq(bits: BitWidth) -> Result<Levels, ConfigError> {
    let count = 1 << (magnitude_bits(bits, true)? - 1);
    let (magnitudes, thresholds) = ladder(2.0, count, LogRounding::Level)?;
    let mut values = vec![0.0];
    values.extend(&magnitudes);
    values.extend(magnitudes.iter().map(|value| -value));
    let n = count as u16;
    Ok(Levels::on_both_sides(values, 0..=n, n + 1..2 * n + 1, thresholds))
}

/// `n1 = ⌊log2(4s / 3)⌋`, the exponent of the largest level of INQ for data of the largest magnitude s: the power of
/// two nearest to it. `None` if s is zero or not finite.
pub(crate) fn inq_top_exponent(max: f64) -> Option<i32> {
    let max = max.abs();
    if max == 0.0 || !max.is_finite() {
        return None;
    }
    // Subnormals, brought into the range of full precision.
    let (value, shift) = if max < f64::MIN_POSITIVE { (max * power_of_two(64), 64) } else { (max, 0) };
    let exponent = ((value.to_bits() >> 52) & 0x7FF) as i32 - 1023;
    // 4s/3 reaches the next power of two where s is 1.5 times its own.
    Some(exponent - shift + i32::from((value.to_bits() >> 51) & 1 == 1))
}

fn magnitude_bits(bits: BitWidth, signed: bool) -> Result<u32, ConfigError> {
    match bits.get() {
        1 if signed => {
            Err(ConfigError::TooSmall { what: "bit width of powers with a sign", value: 1, min: 2 })
        }
        bits => Ok(bits - u32::from(signed)),
    }
}

/// The powers `base^(k − count)`, k = 1 to `count`, and the thresholds below each.
fn ladder(base: f64, count: u32, rounding: LogRounding) -> Result<(Vec<f64>, Vec<Threshold>), ConfigError> {
    if !(MIN_BASE..=f64::MAX).contains(&base) {
        return Err(ConfigError::LogBase { base });
    }
    // Half a power below the smallest is a normal number too.
    let most = (1021.0 / base.log2()) as usize;
    if count as usize > most {
        return Err(ConfigError::TooLarge { what: "number of powers", value: count as usize, max: most });
    }
    let magnitudes: Vec<f64> = (1..=count).map(|k| inverse_power(base, 2 * (count - k))).collect();
    let thresholds = match rounding {
        LogRounding::Exponent => {
            (1..=count).map(|k| Threshold::From(inverse_power(base, 2 * (count - k) + 1))).collect()
        }
        LogRounding::Level => {
            let below = core::iter::once(0.0).chain(magnitudes.iter().copied());
            below.zip(&magnitudes).map(|(low, high)| Threshold::From((low + high) / 2.0)).collect()
        }
    };
    Ok((magnitudes, thresholds))
}

/// `base^(−halves / 2)`: rounded once for base 2 and √2 and whole powers of any base, twice for half powers.
fn inverse_power(base: f64, halves: u32) -> f64 {
    if base == 2.0 {
        return two_to_quarters(-2 * halves as i32);
    }
    if base == SQRT_2 {
        return two_to_quarters(-(halves as i32));
    }
    let whole = reciprocal(whole_power(base, halves / 2));
    if halves.is_multiple_of(2) { whole } else { whole / base.sqrt() }
}

/// 2^(quarters / 4).
fn two_to_quarters(quarters: i32) -> f64 {
    let root = match quarters.rem_euclid(4) {
        0 => 1.0,
        1 => 1.189_207_115_002_721,
        2 => SQRT_2,
        _ => 1.681_792_830_507_429,
    };
    root * power_of_two(quarters.div_euclid(4))
}

/// `base^exponent` as the sum of two f64, good to about 100 bits.
fn whole_power(base: f64, exponent: u32) -> (f64, f64) {
    let (mut result, mut square, mut rest) = ((1.0, 0.0), (base, 0.0), exponent);
    while rest > 0 {
        if rest & 1 == 1 {
            result = product(result, square);
        }
        rest >>= 1;
        if rest > 0 {
            square = product(square, square);
        }
    }
    result
}

/// The product of two numbers that are each the sum of two f64.
fn product(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let high = a.0 * b.0;
    let low = a.0.mul_add(b.0, -high) + (a.0 * b.1 + a.1 * b.0);
    let sum = high + low;
    (sum, low - (sum - high))
}

/// The reciprocal of a sum of two f64, rounded to one.
fn reciprocal(value: (f64, f64)) -> f64 {
    let first = 1.0 / value.0;
    let rest = (-first).mul_add(value.0, 1.0) - first * value.1;
    first.mul_add(rest, first)
}

#[cfg(test)]
mod tests {
    use super::super::tests::normal_above_zero;
    use super::*;

    fn width(bits: u32) -> BitWidth {
        BitWidth::new(bits).unwrap()
    }

    /// ∫ φ, ∫ xφ and ∫ x²φ from 0 to x, for the normal density and the Laplace density of variance 1.
    fn normal(x: f64) -> [f64; 3] {
        let density = |x: f64| (-0.5 * x * x).exp() / core::f64::consts::TAU.sqrt();
        if x > 12.0 {
            return [0.5, density(0.0), 0.5];
        }
        let mass = normal_above_zero(x);
        [mass, density(0.0) - density(x), mass - x * density(x)]
    }

    fn laplace(x: f64) -> [f64; 3] {
        let tail = if x.is_infinite() { 0.0 } else { (-SQRT_2 * x).exp() };
        let x = if tail == 0.0 { 0.0 } else { x };
        [
            0.5 - 0.5 * tail,
            (1.0 - tail * (1.0 + SQRT_2 * x)) / (2.0 * SQRT_2),
            0.5 - tail * (0.5 * x * x + x / SQRT_2 + 0.5),
        ]
    }

    /// The signal-to-noise ratio in dB of `levels` times `scale` on a symmetric density, by its integrals.
    fn sqnr(levels: &Levels, scale: f64, integrals: fn(f64) -> [f64; 3]) -> f64 {
        let zero = levels.order.iter().position(|&code| levels.values[usize::from(code)] == 0.0).unwrap();
        let mut noise = 0.0;
        for (at, &code) in levels.order.iter().enumerate().skip(zero) {
            let low = if at == zero { 0.0 } else { scale * levels.thresholds[at - 1].cut_f64() };
            let high = levels.thresholds.get(at).map_or(f64::INFINITY, |next| scale * next.cut_f64());
            let level = scale * levels.values[usize::from(code)];
            let (from, to) = (integrals(low), integrals(high));
            noise += (to[2] - from[2]) - 2.0 * level * (to[1] - from[1]) + level * level * (to[0] - from[0]);
        }
        -10.0 * (2.0 * noise).log10()
    }

    #[test]
    fn distortion_is_that_of_the_reference() {
        use LogRounding::{Exponent, Level};
        // reference/04_log.json: best integer top exponent, and the SQNR there in closed form.
        for (integrals, base, rounding, bits, signed, top, expected) in [
            (normal as fn(f64) -> [f64; 3], 2.0, Exponent, 3, true, 1, 12.63968914867339),
            (normal as fn(f64) -> [f64; 3], 2.0, Exponent, 5, true, 2, 13.845983708014263),
            (normal as fn(f64) -> [f64; 3], 2.0, Level, 3, true, 1, 13.210303280311846),
            (normal as fn(f64) -> [f64; 3], 2.0, Level, 3, false, 2, 14.226465494510398),
            (normal as fn(f64) -> [f64; 3], SQRT_2, Exponent, 4, true, 3, 17.636937127671562),
            (normal as fn(f64) -> [f64; 3], SQRT_2, Level, 5, true, 4, 20.046594305995047),
            (laplace as fn(f64) -> [f64; 3], 2.0, Exponent, 4, true, 3, 13.764863738885456),
            (laplace as fn(f64) -> [f64; 3], 2.0, Level, 5, true, 4, 14.179167226403987),
            (laplace as fn(f64) -> [f64; 3], SQRT_2, Exponent, 3, true, 2, 7.409332458943578),
            (laplace as fn(f64) -> [f64; 3], SQRT_2, Exponent, 5, true, 6, 19.920626541028483),
            (laplace as fn(f64) -> [f64; 3], SQRT_2, Level, 3, false, 4, 16.437712913958865),
        ] {
            let levels = logarithmic(base, width(bits), signed, rounding).unwrap();
            levels.assert_consistent();
            let found = sqnr(&levels, base.powi(top), integrals);
            // The file's own 1e-9 of the error, in dB.
            assert!((found - expected).abs() < 1e-8, "{base} {rounding} {bits}: {found} {expected}");
        }
    }

    #[test]
    fn codes_are_sign_and_magnitude() {
        let levels = logarithmic(2.0, width(3), true, LogRounding::Exponent).unwrap();
        assert_eq!(levels.values, [0.0, 0.25, 0.5, 1.0, -0.0, -0.25, -0.5, -1.0]);
        assert_eq!(levels.order, [7, 6, 5, 0, 1, 2, 3]);
        let (below, root) = (0.125 * SQRT_2, SQRT_2 / 2.0);
        for (value, code) in [
            (below.next_down(), 0),
            (below, 1),
            (-below, 5),
            ((-below).next_up(), 0),
            (root.next_down(), 2),
            (root, 3),
            (-root, 7),
            (100.0, 3),
            (-100.0, 7),
            (-0.0, 0),
        ] {
            assert_eq!(levels.code(value), code, "{value}");
        }
        let nearest = logarithmic(2.0, width(3), true, LogRounding::Level).unwrap();
        for (value, code) in [(0.75, 3), (-0.75, 7), (0.74, 2), (0.72, 2), (0.125, 1), (-0.12, 0)] {
            assert_eq!(nearest.code(value), code, "{value}");
        }
        // 0.72 is above the geometric mean of 0.5 and 1.
        assert_eq!(levels.code(0.72), 3);
        let unsigned = logarithmic(2.0, width(2), false, LogRounding::Exponent).unwrap();
        assert_eq!(unsigned.values, [0.0, 0.25, 0.5, 1.0]);
        assert_eq!(unsigned.order, [0, 1, 2, 3]);
    }

    #[test]
    fn powers_are_exact_where_they_can_be() {
        let levels = logarithmic(SQRT_2, width(6), true, LogRounding::Exponent).unwrap();
        for (k, &value) in levels.values[1..32].iter().enumerate() {
            let exponent = k as i32 - 30;
            let expected = power_of_two(exponent.div_euclid(2));
            assert_eq!(value, if exponent % 2 == 0 { expected } else { expected * SQRT_2 });
        }
        assert_eq!(logarithmic(2.0, width(8), true, LogRounding::Level).unwrap().values[1], 2f64.powi(-126));
        // 4^−n, 10^−n and 1.5^−n, as the decimal and binary constants are read: nearest.
        let four = logarithmic(4.0, width(4), false, LogRounding::Exponent).unwrap();
        assert_eq!(four.values[1], 2f64.powi(-28));
        let ten = logarithmic(10.0, width(5), false, LogRounding::Exponent).unwrap();
        let decimals: Vec<f64> = (0..31).map(|k| format!("1e-{}", 30 - k).parse().unwrap()).collect();
        assert_eq!(ten.values[1..], decimals);
        let half = logarithmic(1.5, width(5), false, LogRounding::Exponent).unwrap();
        for (k, &value) in half.values[1..].iter().enumerate() {
            let n = 30 - k as u32;
            assert_eq!(value, 2f64.powi(n as i32) / 3_u64.pow(n) as f64);
        }
    }

    #[test]
    fn inq_levels_are_those_of_the_paper() {
        // Section 2.1: b = 3 and n1 = −1 give n2 = −2 and the levels 0, ±2^−1, ±2^−2.
        let levels = inq(width(3)).unwrap();
        levels.assert_consistent();
        let scaled: Vec<f64> =
            levels.order.iter().map(|&code| levels.values[usize::from(code)] * 0.5).collect();
        assert_eq!(scaled, [-0.5, -0.25, 0.0, 0.25, 0.5]);
        assert_eq!(levels.order, [4, 3, 0, 1, 2]);
        // Equation 4: (α + β)/2 <= |w|.
        for (value, code) in [(0.75, 2), (-0.75, 4), (0.25, 1), (-0.25, 3), (0.2499, 0), (-0.7499, 3)] {
            assert_eq!(levels.code(value), code, "{value}");
        }
        assert_eq!(inq(width(5)).unwrap().values.len(), 17);
        assert_eq!(inq(width(2)).unwrap().values, [0.0, 1.0, -1.0]);
        for (max, top) in [
            (1.0, Some(0)),
            (1.5, Some(1)),
            (1.5_f64.next_down(), Some(0)),
            (-2.9, Some(1)),
            (3.0, Some(2)),
            (0.75, Some(0)),
            (f64::from_bits(1), Some(-1074)),
            (f64::from_bits(3), Some(-1072)),
            (f64::MAX, Some(1024)),
            (0.0, None),
            (f64::INFINITY, None),
            (f64::NAN, None),
        ] {
            assert_eq!(inq_top_exponent(max), top, "{max:e}");
        }
    }

    #[test]
    fn what_cannot_be() {
        let log = |base, bits, signed| logarithmic(base, width(bits), signed, LogRounding::Exponent);
        for base in [1.0, 0.5, -2.0, 0.0, 1.0 + 1e-6, f64::INFINITY, f64::NAN] {
            assert!(matches!(log(base, 4, true), Err(ConfigError::LogBase { .. })), "{base}");
        }
        assert!(matches!(log(2.0, 1, true), Err(ConfigError::TooSmall { value: 1, min: 2, .. })));
        assert_eq!(log(2.0, 1, false).unwrap().values, [0.0, 1.0]);
        assert!(matches!(log(2.0, 11, true), Err(ConfigError::TooLarge { value: 1023, max: 1021, .. })));
        log(2.0, 10, true).unwrap().assert_consistent();
        log(MIN_BASE, 12, false).unwrap().assert_consistent();
        assert!(inq(width(1)).is_err() && inq(width(13)).is_err());
        inq(width(11)).unwrap().assert_consistent();
    }
}
