//! What is kept of a region's values: a histogram that depends on nothing but the values.
//!
//! Bins are 2^e wide and aligned at multiples of that, so a coarser histogram is a finer one with its bins added in
//! pairs, exactly. The exponent is a function of the smallest and the largest value alone. Observing and merging
//! therefore commute: any split of the data, in any order, gives the same summary, bit for bit.

/// The exact extremes of a stream of values, and their counts in bins of a width of a power of two.
///
/// Memory: at most `2 · bins` counts of 8 bytes, whatever the number of values.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Parts", into = "Parts"))]
pub struct Summary {
    bins: usize,
    /// The width of a bin is 2^exponent.
    exponent: i32,
    /// The number of the first bin: bin i holds the values from i · 2^exponent on.
    first: i64,
    counts: Vec<u64>,
    /// The extremes; in no order as long as there are no values.
    min: f64,
    max: f64,
    skipped: u64,
}

/// Bins are at least 2^-40 of the largest magnitude, so that their numbers are exact.
const DIGITS: i32 = 40;
/// The narrowest bins, whose reciprocal width is finite.
const MIN_EXPONENT: i32 = -1000;

impl Summary {
    /// A summary of no values that will have at least `bins` bins from the smallest to the largest value (fewer only
    /// where they would be narrower than 2^-40 of the largest magnitude), and at most twice as many.
    pub(super) const fn new(bins: usize) -> Self {
        Self {
            bins,
            exponent: MIN_EXPONENT,
            first: 0,
            counts: Vec::new(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            skipped: 0,
        }
    }

    /// The least number of bins over the range.
    pub const fn bins(&self) -> usize {
        self.bins
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// The number of non-finite values that were skipped.
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The smallest and the largest value; `None` if there are none.
    pub fn min_max(&self) -> Option<(f64, f64)> {
        (self.min <= self.max).then_some((self.min, self.max))
    }

    /// The width of a bin: a power of two.
    pub fn width(&self) -> f64 {
        power_of_two(self.exponent)
    }

    /// The lower edge of the first bin, and the counts.
    pub(super) fn histogram(&self) -> (f64, &[u64]) {
        (self.first as f64 * self.width(), &self.counts)
    }

    /// Counts `values`, of which those that are not finite are skipped.
    pub(super) fn observe(&mut self, values: impl Iterator<Item = f64> + Clone) {
        let (mut min, mut max) = (self.min, self.max);
        for value in values.clone().filter(|value| value.is_finite()) {
            // Zeros of both signs are one value.
            min = min.min(value + 0.0);
            max = max.max(value + 0.0);
        }
        self.widen(min, max);
        let (scale, first) = (power_of_two(-self.exponent), self.first);
        for value in values {
            if !value.is_finite() {
                self.skipped += 1;
            } else if let Some(count) = self.counts.get_mut((bin_of(value, scale) - first) as usize) {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Counts `more` values as skipped.
    pub(super) fn skip(&mut self, more: u64) {
        self.skipped = self.skipped.saturating_add(more);
    }

    /// Adds what `other` has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.skipped = self.skipped.saturating_add(other.skipped);
        let Some((min, max)) = other.min_max() else { return };
        self.widen(self.min.min(min), self.max.max(max));
        let shift = self.exponent - other.exponent;
        for (bin, &count) in (other.first..).zip(&other.counts) {
            let bin = shift_down(bin, shift) - self.first;
            if let Some(into) = self.counts.get_mut(bin as usize) {
                *into = into.saturating_add(count);
            }
        }
    }

    /// Makes room for the range `[min, max]`, which holds the present one: coarser bins if need be.
    fn widen(&mut self, min: f64, max: f64) {
        if min > max || (min == self.min && max == self.max) {
            return;
        }
        let exponent = exponent_of(min, max, self.bins);
        let scale = power_of_two(-exponent);
        let (first, last) = (bin_of(min, scale), bin_of(max, scale));
        let mut counts = vec![0u64; (last - first + 1) as usize];
        for (bin, &count) in (self.first..).zip(&self.counts) {
            let bin = shift_down(bin, exponent - self.exponent) - first;
            if let Some(into) = counts.get_mut(bin as usize) {
                *into = into.saturating_add(count);
            }
        }
        *self = Self { exponent, first, counts, min, max, ..*self };
    }
}

/// 2^exponent; the exponents in use are those of normal numbers.
const fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The exponent of the largest power of two that is not above `value`, a positive number; that of the smallest
/// normal number for smaller ones.
const fn floor_log2(value: f64) -> i32 {
    let biased = (value.to_bits() >> 52) as i32;
    if biased == 0 { -1022 } else { biased - 1023 }
}

/// The number of the bin of `value`; `scale` is the reciprocal width. Exact.
fn bin_of(value: f64, scale: f64) -> i64 {
    let scaled = value * scale;
    // A product that underflows has lost its sign's meaning.
    if scaled == 0.0 && value < 0.0 { -1 } else { scaled.floor() as i64 }
}

/// Bin numbers after `shift` pairwise additions.
fn shift_down(bin: i64, shift: i32) -> i64 {
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

/// The fields of a [`Summary`] before they are validated.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Parts {
    bins: usize,
    counts: Vec<u64>,
    /// Missing while there are no values.
    min_max: Option<(f64, f64)>,
    skipped: u64,
}

#[cfg(feature = "serde")]
impl From<Summary> for Parts {
    fn from(summary: Summary) -> Self {
        let min_max = summary.min_max();
        Self { bins: summary.bins, counts: summary.counts, min_max, skipped: summary.skipped }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Parts> for Summary {
    type Error = crate::Error;

    fn try_from(parts: Parts) -> crate::Result<Self> {
        let Parts { bins, counts, min_max, skipped } = parts;
        super::check_bins(bins)?;
        let mut summary = Self { skipped, ..Self::new(bins) };
        let bad = || crate::FormatError::Entry {
            name: "summary".to_owned(),
            found: format!("{} counts over {min_max:?}", counts.len()),
            expected: "as many counts as the range has bins, with values at both ends".to_owned(),
        };
        if let Some((min, max)) = min_max {
            if !(min.is_finite() && max.is_finite() && min <= max) {
                return Err(bad().into());
            }
            summary.widen(min + 0.0, max + 0.0);
        }
        // A value at each extreme: the first and the last bin are never empty.
        let ends = [counts.first(), counts.last()].into_iter().flatten().all(|&count| count > 0);
        if counts.len() != summary.counts.len() || !ends {
            return Err(bad().into());
        }
        summary.counts = counts;
        Ok(summary)
    }
}
