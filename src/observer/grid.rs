//! The bins of a range: 2^e wide, aligned at multiples of that, and numbered from zero on at zero.

/// Bins are at least 2^-40 of the largest magnitude, so that their numbers are exact.
const DIGITS: i32 = 40;
/// The narrowest bins, whose reciprocal width is finite.
const MIN_EXPONENT: i32 = -1000;

/// The bins over a range: a function of the range and the resolution alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    /// The width of a bin is 2^exponent.
    pub exponent: i32,
    /// The number of the first bin: bin i holds the values from i · 2^exponent on.
    pub first: i64,
    /// The number of bins; zero as long as there is no range.
    pub bins: usize,
}

impl Span {
    /// That of no values.
    pub(super) const NONE: Self = Self { exponent: MIN_EXPONENT, first: 0, bins: 0 };

    /// The bins for values from `min` to `max` at the resolution of at least `resolution` bins (fewer only where they
    /// would be too narrow), and at most twice as many.
    pub(super) fn new(min: f64, max: f64, resolution: usize) -> Self {
        if min > max {
            return Self::NONE;
        }
        let exponent = exponent_of(min, max, resolution);
        let scale = power_of_two(-exponent);
        let (first, last) = (bin_of(min, scale), bin_of(max, scale));
        Self { exponent, first, bins: (last - first + 1) as usize }
    }

    /// The width of a bin.
    pub(super) fn width(&self) -> f64 {
        power_of_two(self.exponent)
    }

    /// Bins per unit.
    pub(super) fn scale(&self) -> f64 {
        power_of_two(-self.exponent)
    }
}

/// 2^exponent; the exponents in use are those of normal numbers.
pub(super) const fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The exponent of the largest power of two that is not above `value`, a positive number; that of the smallest
/// normal number for smaller ones.
const fn floor_log2(value: f64) -> i32 {
    let biased = (value.to_bits() >> 52) as i32;
    if biased == 0 { -1022 } else { biased - 1023 }
}

/// The number of the bin of `value`; `scale` is the reciprocal width. Exact.
pub(super) fn bin_of(value: f64, scale: f64) -> i64 {
    let scaled = value * scale;
    // A product that underflows has lost its sign's meaning.
    if scaled == 0.0 && value < 0.0 { -1 } else { scaled.floor() as i64 }
}

/// Bin numbers after `shift` pairwise additions.
pub(super) fn shift_down(bin: i64, shift: i32) -> i64 {
    bin >> shift.clamp(0, 63)
}

/// The exponent of the width for the range `[min, max]`: the least with no more than `2 · bins` bins, and never of
/// bins too narrow to be numbered. It never decreases as the range grows.
fn exponent_of(min: f64, max: f64, bins: usize) -> i32 {
    let largest = max.abs().max(min.abs());
    let narrowest = (floor_log2(largest) - DIGITS).max(MIN_EXPONENT);
    // From one step below the least that can do, by the width of the range in units that cannot overflow.
    let spread = max * 0.5 - min * 0.5;
    let mut exponent = (floor_log2(spread / bins as f64) - 1).max(narrowest);
    loop {
        let scale = power_of_two(-exponent);
        let span = bin_of(max, scale).saturating_sub(bin_of(min, scale));
        if span < 2 * bins as i64 {
            return exponent;
        }
        exponent += 1;
    }
}
