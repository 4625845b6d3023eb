//! Counts of a region's values in bins of equal width.

use crate::error::ConfigError;

/// A histogram: counts in bins of equal width over `[low, high]`, and the exact extremes of what was counted.
///
/// Bin `i` holds the values from edge `i` (included) to edge `i + 1` (excluded), the last bin also its upper
/// edge; edge `i` is `low + i · (high − low) / bins`.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    low: f64,
    high: f64,
    counts: Vec<u64>,
    min: f64,
    max: f64,
}

impl Histogram {
    /// A histogram from its edges and counts. The extremes are taken to be the outer edges of the first and
    /// last bin that are not empty.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ClippingRange`] unless both edges are finite and `low < high`;
    /// [`ConfigError::TooSmall`] for no bins.
    pub fn new(low: f64, high: f64, counts: Vec<u64>) -> Result<Self, ConfigError> {
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(ConfigError::ClippingRange { index: 0, low, high });
        }
        if counts.is_empty() {
            return Err(ConfigError::TooSmall { what: "number of bins", value: 0, min: 1 });
        }
        let mut histogram = Self { low, high, counts, min: low, max: high };
        let occupied = |count: &u64| *count > 0;
        let counts = &histogram.counts;
        if let (Some(first), Some(last)) =
            (counts.iter().position(occupied), counts.iter().rposition(occupied))
        {
            (histogram.min, histogram.max) = (histogram.edge(first), histogram.edge(last + 1));
        }
        Ok(histogram)
    }

    /// The same counts with the exact extremes of the values, which the edges must hold.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ClippingRange`] unless `low ≤ min ≤ max ≤ high`.
    pub fn with_extremes(mut self, min: f64, max: f64) -> Result<Self, ConfigError> {
        if !(self.low <= min && min <= max && max <= self.high) {
            return Err(ConfigError::ClippingRange { index: 0, low: min, high: max });
        }
        (self.min, self.max) = (min, max);
        Ok(self)
    }

    /// The count of each bin.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The lower edge of the first bin.
    pub const fn low(&self) -> f64 {
        self.low
    }

    /// The upper edge of the last bin.
    pub const fn high(&self) -> f64 {
        self.high
    }

    /// The smallest value.
    pub const fn min(&self) -> f64 {
        self.min
    }

    /// The largest value.
    pub const fn max(&self) -> f64 {
        self.max
    }

    /// The width of a bin.
    pub fn width(&self) -> f64 {
        let bins = self.counts.len() as f64;
        let range = self.high - self.low;
        if range.is_finite() { range / bins } else { self.high / bins - self.low / bins }
    }

    /// The lower edge of bin `bin`.
    pub fn edge(&self, bin: usize) -> f64 {
        if bin == self.counts.len() { self.high } else { self.low + bin as f64 * self.width() }
    }

    /// The middle of bin `bin`.
    pub fn center(&self, bin: usize) -> f64 {
        self.low + (bin as f64 + 0.5) * self.width()
    }

    /// The number of values; [`u64::MAX`] for more.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |total, &count| total.saturating_add(count))
    }

    /// The most bins of a histogram of magnitudes.
    const MAX_MAGNITUDE_BINS: usize = 1 << 16;

    /// The histogram of the magnitudes: bins of the same width from zero on, or wider ones where that would
    /// be more than 65536. A bin's values are taken to lie in its middle, unless the histogram starts at zero
    /// and is returned as it is. `None` if it is empty.
    pub fn magnitudes(&self) -> Option<Self> {
        if self.total() == 0 {
            return None;
        }
        if self.low == 0.0 {
            return Some(self.clone());
        }
        let end = self.low.abs().max(self.high.abs());
        let width = self.width().max(end / Self::MAX_MAGNITUDE_BINS as f64);
        let bins = ((end / width).ceil().max(1.0) as usize).min(Self::MAX_MAGNITUDE_BINS);
        let mut counts = vec![0u64; bins];
        for (bin, &count) in self.counts.iter().enumerate() {
            let at = (self.center(bin).abs() / width) as usize;
            if let Some(into) = counts.get_mut(at.min(bins - 1)) {
                *into = into.saturating_add(count);
            }
        }
        let max = self.min.abs().max(self.max.abs());
        let min = if self.min <= 0.0 && self.max >= 0.0 { 0.0 } else { self.min.abs().min(self.max.abs()) };
        Some(Self { low: 0.0, high: bins as f64 * width, counts, min, max })
    }

    /// A histogram of magnitudes (from zero on) with at most `most` bins of a multiple of the width.
    pub(super) fn coarsened(&self, most: usize) -> Self {
        let factor = self.counts.len().div_ceil(most.max(1)).max(1);
        if factor == 1 {
            return self.clone();
        }
        let counts: Vec<u64> = self
            .counts
            .chunks(factor)
            .map(|bins| bins.iter().fold(0, |sum: u64, &n| sum.saturating_add(n)))
            .collect();
        let high = self.low + (counts.len() * factor) as f64 * self.width();
        Self { low: self.low, high, counts, min: self.min, max: self.max }
    }

    /// The histogram of the negated values. `None` if it is empty.
    pub fn mirrored(&self) -> Option<Self> {
        let mut counts = self.counts.clone();
        counts.reverse();
        (self.total() > 0).then_some(Self {
            low: -self.high,
            high: -self.low,
            counts,
            min: -self.max,
            max: -self.min,
        })
    }
}
