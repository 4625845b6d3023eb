//! Additive powers of two.
//!
//! Li, Dong and Wang 2020, *Additive Powers-of-Two Quantization*, equation 5: at kn bits, n terms of k bits each,
//!
//! ```text
//! Q = γ · { Σ p_i },   p_i ∈ {0, 2^−i, 2^−(i+n), ..., 2^−(i + (2^k − 2) n)},   i = 0 .. n − 1
//! ```
//!
//! with γ such that the largest level is 1. At 2n + 1 bits (k = 2) one more term `{0, 2^−2n}` comes before the last
//! powers, which move down by one: `p_i ∈ {0, 2^−i, 2^−(i+n), 2^−(i+2n+1)}`. A product with such a level is n shifts
//! and additions. No two sums are equal, because no two terms share a power.

use super::{Levels, Threshold};
use crate::bits::BitWidth;
use crate::error::ConfigError;

/// Most bits of one term: with more, the powers of several terms span more bits than an f64 has.
const MAX_TERM_BITS: u32 = 3;

/// The levels of `bits`, one of them a sign if `signed`, in terms of `term_bits` (k), from the largest magnitude 1.
///
/// A code is read term by term: the field of k bits at k·i has the place of p_i in its set, 0 for no power; then
/// comes the bit of the additional term, if there is one, then the sign. The code of a sign without magnitude is a
/// second zero, which encoding does not produce. The nearest level is taken; a magnitude midway between two
/// belongs to the larger.
///
/// # Errors
///
/// [`ConfigError::TooSmall`] for one bit with a sign or terms without bits, [`ConfigError::TooLarge`] for terms of
/// more than 3 bits, and [`ConfigError::Conflict`] for terms of 3 bits that do not divide the bits.
pub(crate) fn additive_powers(bits: BitWidth, term_bits: u32, signed: bool) -> Result<Levels, ConfigError> {
    if signed && bits.get() < 2 {
        return Err(ConfigError::TooSmall {
            what: "bit width of additive powers with a sign",
            value: 1,
            min: 2,
        });
    }
    if term_bits < 1 {
        return Err(ConfigError::TooSmall { what: "bits of a term", value: 0, min: 1 });
    }
    if term_bits > MAX_TERM_BITS {
        let (value, max) = (term_bits as usize, MAX_TERM_BITS as usize);
        return Err(ConfigError::TooLarge { what: "bits of a term", value, max });
    }
    let magnitude_bits = bits.get() - u32::from(signed);
    let (terms, rest) = (magnitude_bits / term_bits, magnitude_bits % term_bits);
    if rest > 0 && term_bits != 2 {
        return Err(ConfigError::Conflict {
            setting: "a term of 3 bits",
            to: "a bit width without sign that is no multiple of 3",
        });
    }
    // The powers, as exponents below the largest.
    let exponent = |term: u32, place: u32| term + (place - 1) * terms + u32::from(rest > 0 && place == 3);
    let lowest = if terms > 0 { exponent(terms - 1, (1 << term_bits) - 1) } else { 2 * terms };
    let sum = |code: u32| -> u64 {
        let powers = (0..terms).filter_map(|term| {
            let place = (code >> (term * term_bits)) & ((1 << term_bits) - 1);
            (place > 0).then(|| 1 << (lowest - exponent(term, place)))
        });
        let extra =
            u64::from(rest > 0 && code >> (terms * term_bits) & 1 == 1) << (lowest - (2 * terms).min(lowest));
        powers.sum::<u64>() + extra
    };
    let count = 1_u32 << magnitude_bits;
    let sums: Vec<u64> = (0..count).map(sum).collect();
    let max = sums.iter().copied().max().unwrap_or(1) as f64;
    // Both numbers are exact in f64, so that a level is rounded once.
    let magnitudes = sums.iter().map(|&sum| sum as f64 / max);
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_unstable_by_key(|&code| sums.get(code as usize).copied());
    let order: Vec<u16> = order.into_iter().map(|code| code as u16).collect();
    let mut ascending: Vec<u64> = sums.clone();
    ascending.sort_unstable();
    let thresholds = ascending
        .windows(2)
        .map(|pair| Threshold::From(pair.iter().sum::<u64>() as f64 / 2.0 / max))
        .collect();
    let mut values: Vec<f64> = magnitudes.collect();
    if !signed {
        return Ok(Levels { values, order, thresholds });
    }
    values.extend(values.clone().iter().map(|value| -value));
    let sign = 1 << magnitude_bits;
    let negative: Vec<u16> = order.iter().skip(1).map(|code| code | sign).collect();
    Ok(Levels::on_both_sides(values, order, negative.into_iter(), thresholds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width(bits: u32) -> BitWidth {
        BitWidth::new(bits).unwrap()
    }

    fn ascending(levels: &Levels) -> Vec<f64> {
        levels.order.iter().map(|&code| levels.values[usize::from(code)]).collect()
    }

    #[test]
    fn levels_are_those_of_the_authors() {
        // The set that the authors' program builds at 2 to 5 bits (build_power_value), in units of its smallest.
        for (bits, units, max) in [
            (2, &[0, 1, 2, 4][..], 4.0),
            (3, &[0, 1, 2, 3, 4, 6, 8, 10][..], 10.0),
            (4, &[0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48][..], 48.0),
            (
                5,
                &[
                    0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 17, 20, 21, 24, 28, 32, 34, 36, 38, 48, 52,
                    64, 65, 68, 69, 72, 76, 96, 100,
                ][..],
                100.0,
            ),
        ] {
            let levels = additive_powers(width(bits), 2, false).unwrap();
            levels.assert_consistent();
            let expected: Vec<f64> = units.iter().map(|&unit| f64::from(unit) / max).collect();
            assert_eq!(ascending(&levels), expected, "{bits}");
        }
    }

    #[test]
    fn signs_mirror_the_levels() {
        for bits in 2..=16 {
            let levels = additive_powers(width(bits), 2, true).unwrap();
            let unsigned = additive_powers(width(bits), 2, false).unwrap();
            if bits <= 8 {
                levels.assert_consistent();
                unsigned.assert_consistent();
            }
            assert_eq!(levels.values.len(), 1 << bits);
            assert_eq!(levels.order.len(), (1 << bits) - 1);
            let all = ascending(&levels);
            assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!((all[0], all.last()), (-1.0, Some(&1.0)));
            assert!(all.iter().zip(all.iter().rev()).all(|(low, high)| *low == -high));
            assert_eq!(levels.thresholds.len(), levels.order.len() - 1);
            assert!(unsigned.values.iter().all(|&value| (0.0..=1.0).contains(&value)));
        }
    }

    #[test]
    fn codes_are_read_term_by_term() {
        // Two terms of two bits: {0, 1, 1/4, 1/16} + {0, 1/2, 1/8, 1/32}, over 1.5.
        let levels = additive_powers(width(4), 2, false).unwrap();
        let (first, second) = ([0.0, 1.0, 0.25, 0.0625], [0.0, 0.5, 0.125, 0.03125]);
        for (code, &value) in levels.values.iter().enumerate() {
            assert_eq!(value, (first[code & 3] + second[code >> 2]) / 1.5);
        }
    }

    #[test]
    fn one_bit_terms_are_uniform_and_one_term_is_a_power() {
        let uniform = additive_powers(width(5), 1, false).unwrap();
        assert!(ascending(&uniform).iter().enumerate().all(|(k, &value)| value == k as f64 / 31.0));
        let powers = additive_powers(width(3), 3, false).unwrap();
        let expected: Vec<f64> = core::iter::once(0.0).chain((0..7).map(|k| 2f64.powi(k - 6))).collect();
        assert_eq!(ascending(&powers), expected);
        // A magnitude midway between two belongs to the larger.
        assert_eq!(powers.values[usize::from(powers.code(0.75))], 1.0);
        for bits in [3, 6, 9, 12, 15] {
            assert!(
                ascending(&additive_powers(width(bits), 3, false).unwrap())
                    .windows(2)
                    .all(|pair| pair[0] < pair[1])
            );
        }
    }

    #[test]
    fn what_cannot_be() {
        assert!(matches!(additive_powers(width(1), 2, true), Err(ConfigError::TooSmall { .. })));
        assert!(matches!(additive_powers(width(4), 0, true), Err(ConfigError::TooSmall { .. })));
        assert!(matches!(additive_powers(width(4), 4, false), Err(ConfigError::TooLarge { .. })));
        assert!(matches!(additive_powers(width(4), u32::MAX, false), Err(ConfigError::TooLarge { .. })));
        assert!(matches!(additive_powers(width(5), 3, false), Err(ConfigError::Conflict { .. })));
        assert_eq!(ascending(&additive_powers(width(1), 2, false).unwrap()), [0.0, 1.0]);
        assert_eq!(ascending(&additive_powers(width(2), 2, true).unwrap()), [-1.0, 0.0, 1.0]);
    }
}
