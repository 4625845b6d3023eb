//! The power of two that a block of an MX format shares.
//!
//! Open Compute Project 2023, *OCP Microscaling Formats (MX) Specification*, section 6.3, and what other systems
//! do instead.

use super::{Minifloat, parts};
use crate::names::named;

/// How the shared exponent follows from the largest magnitude of a block.
///
/// `emax` is the exponent of the largest element value, `max = 2^emax · m`. What each rule does to a block whose
/// largest magnitude is just below a power of two, and to the rest of the block, differs by a factor of two in
/// scale, so codes can only be compared between systems that use the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ScaleMode {
    /// `⌊log2 amax⌋ − emax`: the OCP specification, the default. Magnitudes above `max · 2^e` saturate.
    #[default]
    Floor,
    /// `⌈log2 amax⌉ − emax`: never saturates, at up to one bit of resolution.
    Ceil,
    /// `⌈log2 (amax / max)⌉`: the smallest exponent with which nothing saturates; NVIDIA's rule, "RCEIL".
    RoundUp,
    /// `⌊log2 amax'⌋ − emax` with `amax'` rounded to the mantissa bits of the element, halves up: as the floor, but
    /// magnitudes that would round up to the next power of two get the next exponent. torchao's "EVEN".
    Even,
}

named!(ScaleMode, "scale mode", [Floor => "floor", Ceil => "ceil", RoundUp => "round-up", Even => "even"]);

/// What [`shared_exponent`] needs to know of the element format of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockElement {
    max_value: f64,
    mantissa_bits: u32,
}

impl BlockElement {
    /// MXINT8: multiples of 1/64 up to 127/64.
    pub const INT8: Self = Self { max_value: 127.0 / 64.0, mantissa_bits: 6 };

    /// The largest value of an element.
    pub const fn max_value(self) -> f64 {
        self.max_value
    }

    /// ⌊log2 max⌋, `emax` of the specification.
    pub const fn max_exponent(self) -> i32 {
        normalized(self.max_value).1
    }

    /// Bits after the leading one of the largest value.
    pub const fn mantissa_bits(self) -> u32 {
        self.mantissa_bits
    }
}

impl From<Minifloat> for BlockElement {
    fn from(format: Minifloat) -> Self {
        Self { max_value: format.max_value(), mantissa_bits: format.mantissa_bits() }
    }
}

/// The exponent e of the scale 2^e that a block of `element`s with the largest magnitude `amax` shares.
///
/// Found on the bits of `amax`, so that no logarithm is rounded, and clamped to the −127 to 127 of E8M0. A block
/// of zeros gets −127. An infinite or NaN `amax` gets 127; the MX specification makes such a block NaN as a whole,
/// which is code 255 of [`Minifloat::E8M0`].
///
/// For an E8M0 scale that is itself rounded to nearest, encode `amax / element.max_value()` in
/// [`Minifloat::E8M0`].
///
/// ```
/// use lowbit::minifloat::{BlockElement, Minifloat, ScaleMode, shared_exponent};
///
/// // The largest value of E2M1 is 6 = 2^2 · 1.5.
/// assert_eq!(shared_exponent(7.0, Minifloat::E2M1, ScaleMode::Floor), 0);
/// assert_eq!(shared_exponent(7.0, Minifloat::E2M1, ScaleMode::RoundUp), 1);
/// assert_eq!(shared_exponent(1.0, BlockElement::INT8, ScaleMode::Floor), 0);
/// ```
pub fn shared_exponent(amax: f64, element: impl Into<BlockElement>, mode: ScaleMode) -> i32 {
    const LIMIT: i32 = 127;
    let element = element.into();
    let amax = amax.abs();
    if amax == 0.0 {
        return -LIMIT;
    }
    if !amax.is_finite() {
        return LIMIT;
    }
    let (fraction, exponent) = normalized(amax);
    let (max_fraction, max_exponent) = normalized(element.max_value);
    let up = match mode {
        ScaleMode::Floor => false,
        ScaleMode::Ceil => fraction > 0,
        ScaleMode::RoundUp => fraction > max_fraction,
        // Half a unit of the last mantissa bit carries into the exponent.
        ScaleMode::Even => fraction + (1 << (51 - element.mantissa_bits)) >= 1 << 52,
    };
    (exponent + i32::from(up) - max_exponent).clamp(-LIMIT, LIMIT)
}

/// The positive finite `value` as `(1 + fraction / 2^52) · 2^exponent`.
const fn normalized(value: f64) -> (u64, i32) {
    let (significand, exponent) = parts(value);
    let top = significand.ilog2();
    ((significand << (52 - top)) & ((1 << 52) - 1), exponent + top as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [ScaleMode; 4] = [ScaleMode::Floor, ScaleMode::RoundUp, ScaleMode::Ceil, ScaleMode::Even];

    fn minifloats() -> [Minifloat; 5] {
        [Minifloat::E4M3FN, Minifloat::E5M2, Minifloat::E3M2, Minifloat::E2M3, Minifloat::E2M1]
    }

    #[test]
    fn exponents_are_those_of_torchao() {
        // torchao 0.18.0 on torch 2.15.0, `to_mx` of an f32 block of zeros and one value, scale code − 127; modes
        // FLOOR, RCEIL, CEIL, EVEN for E4M3FN, E5M2, E3M2, E2M3, E2M1.
        #[rustfmt::skip]
        let table: [(f32, [[i32; 4]; 5]); 20] = [
            (0.0, [[-127; 4]; 5]),
            (1.4e-45, [[-127; 4]; 5]),
            (f32::MIN_POSITIVE, [[-127; 4]; 5]),
            (7.523_164e-37, [[-127; 4], [-127; 4], [-124; 4], [-122; 4], [-122; 4]]),
            (1.0, [[-8; 4], [-15; 4], [-4; 4], [-2; 4], [-2; 4]]),
            (1.0 - f32::EPSILON / 2.0, [
                [-9, -8, -8, -8], [-16, -15, -15, -15], [-5, -4, -4, -4], [-3, -2, -2, -2], [-3, -2, -2, -2],
            ]),
            (1.0 + f32::EPSILON, [
                [-8, -8, -7, -8], [-15, -15, -14, -15], [-4, -4, -3, -4], [-2, -2, -1, -2], [-2, -2, -1, -2],
            ]),
            (1.5, [[-8, -8, -7, -8], [-15, -15, -14, -15], [-4, -4, -3, -4], [-2, -2, -1, -2], [-2, -2, -1, -2]]),
            (1.75, [[-8, -8, -7, -8], [-15, -15, -14, -15], [-4, -4, -3, -4], [-2, -2, -1, -2], [-2, -1, -1, -1]]),
            (1.75 - f32::EPSILON, [
                [-8, -8, -7, -8], [-15, -15, -14, -15], [-4, -4, -3, -4], [-2, -2, -1, -2], [-2, -1, -1, -2],
            ]),
            (1.9375, [
                [-8, -7, -7, -7], [-15, -14, -14, -14], [-4, -3, -3, -3], [-2, -1, -1, -1], [-2, -1, -1, -1],
            ]),
            (1.9375 - f32::EPSILON, [
                [-8, -7, -7, -8], [-15, -14, -14, -14], [-4, -3, -3, -3], [-2, -1, -1, -2], [-2, -1, -1, -1],
            ]),
            (1.875, [
                [-8, -7, -7, -8], [-15, -14, -14, -14], [-4, -3, -3, -3], [-2, -2, -1, -2], [-2, -1, -1, -1],
            ]),
            (1.875 - f32::EPSILON, [
                [-8, -7, -7, -8], [-15, -14, -14, -15], [-4, -3, -3, -4], [-2, -2, -1, -2], [-2, -1, -1, -1],
            ]),
            (6.0, [[-6, -6, -5, -6], [-13, -13, -12, -13], [-2, -2, -1, -2], [0, 0, 1, 0], [0, 0, 1, 0]]),
            (6.000_000_5, [
                [-6, -6, -5, -6], [-13, -13, -12, -13], [-2, -2, -1, -2], [0, 0, 1, 0], [0, 1, 1, 0],
            ]),
            (28.0, [[-4, -4, -3, -4], [-11, -11, -10, -11], [0, 0, 1, 0], [2, 2, 3, 2], [2, 3, 3, 3]]),
            (464.0, [[0, 1, 1, 0], [-7, -6, -6, -7], [4, 5, 5, 4], [6, 6, 7, 6], [6, 7, 7, 7]]),
            (57344.0, [[7, 7, 8, 7], [0, 0, 1, 0], [11, 11, 12, 11], [13, 13, 14, 13], [13, 14, 14, 14]]),
            (f32::MAX, [
                [119, 120, 120, 120], [112, 113, 113, 113], [123, 124, 124, 124], [125, 126, 126, 126],
                [125, 126, 126, 126],
            ]),
        ];
        for (amax, expected) in table {
            for (element, expected) in minifloats().into_iter().zip(expected) {
                for (mode, expected) in MODES.into_iter().zip(expected) {
                    assert_eq!(
                        shared_exponent(amax.into(), element, mode),
                        expected,
                        "{amax:e} {element} {mode}"
                    );
                }
            }
        }
    }

    #[test]
    fn round_up_is_the_smallest_exponent_that_fits() {
        // torchao multiplies by 1/max in f32, and one unit above max it may still miss the step.
        for element in minifloats().map(BlockElement::from).into_iter().chain([BlockElement::INT8]) {
            let max = element.max_value();
            for exponent in [-120, -20, -1, 0, 3, 100] {
                let edge = max * 2f64.powi(exponent);
                assert_eq!(shared_exponent(edge, element, ScaleMode::RoundUp), exponent);
                assert_eq!(shared_exponent(edge.next_up(), element, ScaleMode::RoundUp), exponent + 1);
                assert_eq!(shared_exponent(edge / 2.0, element, ScaleMode::RoundUp), exponent - 1);
                assert_eq!(shared_exponent((edge / 2.0).next_up(), element, ScaleMode::RoundUp), exponent);
            }
        }
    }

    #[test]
    fn powers_of_two_are_exact_over_the_whole_range() {
        for power in -1074..=1023 {
            let value = super::super::power_of_two(power);
            for mode in MODES {
                let exponent = shared_exponent(value, BlockElement::INT8, mode);
                assert_eq!(exponent, power.clamp(-127, 127), "{power} {mode}");
                assert_eq!(shared_exponent(-value, BlockElement::INT8, mode), exponent);
            }
            if power > -1022 {
                assert_eq!(
                    shared_exponent(value.next_down(), BlockElement::INT8, ScaleMode::Floor),
                    (power - 1).clamp(-127, 127)
                );
                assert_eq!(
                    shared_exponent(value.next_up(), BlockElement::INT8, ScaleMode::Ceil),
                    (power + 1).clamp(-127, 127)
                );
            }
        }
    }

    #[test]
    fn extremes_are_clamped() {
        for mode in MODES {
            for element in minifloats() {
                assert_eq!(shared_exponent(0.0, element, mode), -127);
                assert_eq!(shared_exponent(f64::from_bits(1), element, mode), -127);
                for amax in [f64::MAX, f64::INFINITY, f64::NAN] {
                    assert_eq!(shared_exponent(amax, element, mode), 127);
                }
            }
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
    }
}
