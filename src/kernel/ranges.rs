//! From ranges to the scales and zero points of uniform grids, many at once.

use super::dispatch;
use crate::element::{Element, Real};

use super::affine::nearest_even;

/// How ranges become grids, for scales that come out as normal numbers and are far from any limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeRule {
    /// Steps of a range.
    pub steps: f64,
    /// Bits that the significand of an f64 has more than that of a stored scale: 1 to 52.
    pub dropped: u32,
    /// The smallest and the largest scale, before it is rounded, that these loops are for.
    pub usual: (f64, f64),
    /// The scale of a range of zero.
    pub of_zeros: f32,
    /// The lowest and the highest zero point; `None` where ranges are taken as symmetric about zero.
    pub zeros: Option<(i32, i32)>,
}

impl RangeRule {
    /// The scale of a range so wide, and whether that is one that these loops are for.
    #[inline(always)]
    fn scale(&self, width: f64) -> (f64, bool) {
        let scale = width / self.steps;
        let usual = (self.usual.0 <= scale) & (scale <= self.usual.1);
        // To the nearest with fewer bits, ties to even: as an integer, a carry goes to the exponent.
        let bits = scale.to_bits();
        let half = (1u64 << (self.dropped - 1)) - 1 + (bits >> self.dropped & 1);
        let stored = f64::from_bits(bits.wrapping_add(half) >> self.dropped << self.dropped);
        let none = width == 0.0;
        (if none { f64::from(self.of_zeros) } else { stored }, usual | none)
    }
}

dispatch! {
    fn symmetric[T: Real](low: &[T], high: &[T], rule: &RangeRule, scales: &mut [f32]) -> bool {
        let mut unusual = 0u32;
        for ((low, high), to) in low.iter().zip(high).zip(scales) {
            let (low, high) = (Element::to_f64(low.abs()), Element::to_f64(high.abs()));
            let magnitude = if low > high { low } else { high };
            let (scale, usual) = rule.scale(magnitude + magnitude);
            unusual |= u32::from(!usual);
            *to = scale as f32;
        }
        unusual == 0
    }
}

dispatch! {
    fn asymmetric[T: Real](
        low: &[T],
        high: &[T],
        rule: &RangeRule,
        ends: (i32, i32),
        scales: &mut [f32],
        zeros: &mut [i32],
    ) -> bool {
        let ((least, most), mut unusual) = (ends, 0u32);
        for (((low, high), to), zero) in low.iter().zip(high).zip(scales).zip(zeros) {
            let (low, high) = (Element::to_f64(*low), Element::to_f64(*high));
            let (low, high) = (if low < 0.0 { low } else { 0.0 }, if high > 0.0 { high } else { 0.0 });
            let (scale, usual) = rule.scale(high - low);
            unusual |= u32::from(!usual);
            *to = scale as f32;
            // At most a little more than the steps of a range.
            *zero = least.wrapping_sub(nearest_even(low / scale).1).clamp(least, most);
        }
        unusual == 0
    }
}

/// Writes the scale of each range, and its zero point where the rule has any; `false` where one is none that this is
/// for, and nothing written counts.
///
/// `scale = (high − low) / steps` of the range widened to hold zero, rounded to the bits of its storage, and `zero =
/// clamp(least − round(low / scale), least, most)`; of symmetric ranges `scale = 2 max(|low|, |high|) / steps`.
pub(crate) fn grids<T: Real>(
    low: &[T],
    high: &[T],
    rule: &RangeRule,
    scales: &mut [f32],
    zeros: &mut [i32],
) -> bool {
    debug_assert!(low.len() == high.len() && low.len() == scales.len());
    match rule.zeros {
        None => symmetric(low, high, rule, scales),
        Some(ends) => asymmetric(low, high, rule, ends, scales, zeros),
    }
}
