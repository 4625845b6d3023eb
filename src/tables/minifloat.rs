//! The values of a [`Minifloat`] as a table.

use super::{Levels, Threshold};
use crate::minifloat::{Minifloat, Overflow};

/// All codes of `format`, special ones included; the order has the finite ones.
///
/// The decision is [`Minifloat::encode`] with [`Overflow::Saturate`] of any number but −0, which gets the code of
/// +0 here: nearest, ties to the even mantissa, and numbers that round to zero keep their sign.
pub(crate) fn minifloat(format: Minifloat) -> Levels {
    let values: Vec<f64> = format.values().collect();
    let thresholds = (0..format.max_code())
        .map(|code| {
            let (low, high) = (format.decode(code), format.decode(code + 1));
            // Exact: far fewer bits than an f64 has.
            let middle = low + (high - low) / 2.0;
            match format.encode(middle, Overflow::Saturate) {
                Some(nearest) if nearest == code => Threshold::Above(middle),
                _ => Threshold::From(middle),
            }
        })
        .collect();
    let positive = 0..=format.max_code();
    if !format.is_signed() {
        return Levels { values, order: positive.collect(), thresholds };
    }
    // The code of negative zero is NaN in FNUZ formats.
    let sign = 1 << (format.bits() - 1);
    let first = u16::from(format.decode(sign).is_nan());
    let negative = (first..=format.max_code()).map(|magnitude| magnitude | sign);
    Levels::on_both_sides(values, positive, negative, thresholds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::minifloat::tests::formats;

    #[test]
    fn decisions_are_those_of_the_encoder() {
        for format in formats().into_iter().filter(|format| format.bits() <= 8) {
            let levels = minifloat(format);
            levels.assert_consistent();
            let magnitudes = (0..format.max_code()).flat_map(|code| {
                let middle = (format.decode(code) + format.decode(code + 1)) / 2.0;
                [middle.next_down(), middle, middle.next_up()]
            });
            for magnitude in magnitudes.chain([0.0, 1e-300, 1e300]) {
                for value in [magnitude, -magnitude] {
                    if value == 0.0 && value.is_sign_negative() {
                        continue;
                    }
                    assert_eq!(
                        Some(levels.code(value)),
                        format.encode(value, Overflow::Saturate),
                        "{format} {value}"
                    );
                }
            }
        }
    }
}
