//! The 4-bit float of bitsandbytes, which is not OCP's E2M1.
//!
//! Dettmers, Lewis, Shleifer and Zettlemoyer 2022, *8-bit Optimizers via Block-wise Quantization*, and Dettmers,
//! Pagnoni, Holtzman and Zettlemoyer 2023, *QLoRA: Efficient Finetuning of Quantized LLMs*, in the constants of the
//! library. A sign, two exponent bits of inverted order and one mantissa bit, divided by the largest value 12:
//!
//! ```text
//! {0, 1/16, 8, 12, 4, 6, 2, 3} / 12     codes 0 to 7, negated with codes 8 to 15
//! ```
//!
//! E2M1 divided by its largest value is {0, 1, 2, 3, 4, 6, 8, 12} / 12: the smallest positive value is 16 times as
//! large.

use super::{Levels, Threshold};

/// Codes 0 to 7.
const VALUES: [f32; 8] = [0.0, 5.208_333_3e-3, 0.666_666_7, 1.0, 0.333_333_34, 0.5, 0.166_666_67, 0.25];

/// The same codes in the order of their values.
const ORDER: [u16; 8] = [0, 1, 6, 7, 4, 5, 2, 3];

/// What is between these, in the digits of the library: not all are the nearest f32 to the midpoint.
const THRESHOLDS: [f32; 7] =
    [0.002_604_17, 0.085_937_5, 0.208_333_33, 0.291_666_67, 0.416_666_7, 0.583_333, 0.833_333_3];

/// The sixteen values, with a largest magnitude of 1.
///
/// The sign is decided first, then the magnitude: a magnitude equal to a threshold gets the smaller value. Negative
/// numbers near zero get code 8, the second zero.
pub(crate) fn fp4() -> Levels {
    let positive = VALUES.iter().map(|&value| f64::from(value));
    let values = positive.clone().chain(positive.map(|value| -value)).collect();
    let thresholds = THRESHOLDS.iter().map(|&at| Threshold::Above(f64::from(at))).collect();
    Levels::on_both_sides(values, ORDER, ORDER.iter().map(|code| code | 8), thresholds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::minifloat::Minifloat;

    #[test]
    fn constants_are_those_of_bitsandbytes() {
        // bitsandbytes 0.50.2, get_4bit_type("fp4").
        let expected = [
            0.0,
            0.0052083334885537624,
            0.6666666865348816,
            1.0,
            0.3333333432674408,
            0.5,
            0.1666666716337204,
            0.25,
        ];
        let levels = fp4();
        levels.assert_consistent();
        assert_eq!(levels.values[..8], expected);
        assert_eq!(levels.values[8..], expected.map(|value| -value));
    }

    #[test]
    fn the_sign_comes_first_and_ties_go_to_the_smaller_magnitude() {
        let levels = fp4();
        for (value, code) in [
            (0.0, 0),
            (-0.0, 0),
            (-1e-30, 8),
            (0.00260417, 0),
            (0.00260417f32.next_up(), 1),
            (-0.00260417, 8),
            (-0.00260417f32.next_up(), 9),
            (0.583333, 5),
            (-0.583333, 13),
            (0.583333f32.next_up(), 2),
            (0.5833333, 2),
            (-0.9, 11),
            (7.0, 3),
            (-7.0, 11),
        ] {
            assert_eq!(levels.code_f32(value), code, "{value}");
        }
    }

    #[test]
    fn it_is_not_e2m1() {
        let smallest = |values: &[f64], max: f64| {
            values.iter().copied().filter(|&value| value > 0.0).fold(f64::INFINITY, f64::min) / max
        };
        let ocp: Vec<f64> = Minifloat::E2M1.values().collect();
        let ratio = smallest(&ocp, 6.0) / smallest(&fp4().values, 1.0);
        assert!((ratio - 16.0).abs() < 1e-5);
    }
}
