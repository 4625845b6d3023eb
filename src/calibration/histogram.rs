//! Counts of a region's values in bins of equal width.

use crate::error::{ConfigError, Result};
use crate::kernel;
use crate::solve::spread::Bins;
use crate::tensor::Scheme;

use super::evidence::{Evidence, Region, Values, each_value};
use super::{Calibrated, Calibration};

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
        if bin == self.counts.len() { self.high } else { self.place(bin as f64) }
    }

    /// The middle of bin `bin`.
    pub fn center(&self, bin: usize) -> f64 {
        self.place(bin as f64 + 0.5)
    }

    /// So many bins beyond the low end.
    fn place(&self, bins: f64) -> f64 {
        let place = self.low + bins * self.width();
        // The width of all bins may overflow where both ends do not.
        if place.is_finite() { place } else { 2.0 * (0.5 * self.low + bins * (0.5 * self.width())) }
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
        Some(Self { low: 0.0, high: (bins as f64 * width).min(f64::MAX), counts, min, max })
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
        let high = (self.low + (counts.len() * factor) as f64 * self.width()).min(f64::MAX);
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

    /// The range that `calibration` finds on this histogram, for codes of `scheme`: any rule on any edges and counts.
    ///
    /// ```
    /// use lowbit::calibration::{Aciq, Histogram, TorchHistogram};
    /// use lowbit::prelude::*;
    ///
    /// let histogram = Histogram::new(-4.0, 4.0, vec![1, 6, 40, 90, 92, 38, 5, 1])?;
    /// let scheme = Uniform::asymmetric(BitWidth::new(2)?).scheme()?;
    /// println!("{}", histogram.calibrate(&Aciq::default(), &scheme)?.range);
    /// println!("{}", histogram.calibrate(&TorchHistogram::default(), &scheme)?.range);
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Calibration::range`].
    pub fn calibrate(&self, calibration: &dyn Calibration, scheme: &Scheme) -> Result<Calibrated> {
        calibration.range(&Region::new(0, Evidence::Histogram(self)), scheme)
    }

    /// `values` in `bins` equal bins over `[low, high]`, which holds them.
    pub(super) fn of_values(
        values: Values<'_>,
        low: f64,
        high: f64,
        bins: usize,
    ) -> Result<Self, ConfigError> {
        let mut counts = vec![0; bins];
        each_value!(values, values => kernel::histogram::histogram(values, low, high, &mut counts));
        let histogram = Self::new(low, high, counts)?;
        match values.min_max() {
            Some((min, max)) => histogram.with_extremes(min.max(low), max.min(high)),
            None => Ok(histogram),
        }
    }

    /// The bins as integrals see them, in units of `unit`.
    pub(super) fn bins_in(&self, unit: f64) -> Bins<'_> {
        Bins {
            low: self.low / unit,
            width: self.width() / unit,
            counts: &self.counts,
            min: self.min / unit,
            max: self.max / unit,
        }
    }

    /// About how many values are not zero: all but what the bin at zero holds more than the fuller of its neighbours.
    pub(super) fn nonzero(&self) -> f64 {
        let total = self.total() as f64;
        if self.min > 0.0 || self.max < 0.0 {
            return total;
        }
        let bin = ((0.0 - self.low) / self.width()).floor().max(0.0) as usize;
        let bin = bin.min(self.counts.len() - 1);
        let count = |bin: Option<usize>| bin.and_then(|bin| self.counts.get(bin)).copied().unwrap_or(0);
        let neighbours = count(bin.checked_sub(1)).max(count(Some(bin + 1)));
        total - count(Some(bin)).saturating_sub(neighbours) as f64
    }

    /// At most `most` bins (an even number) of equal width over `[−t, t]` for the largest magnitude t: as it is where
    /// it is symmetric already, else of a multiple of its width, a bin's values being taken to lie in its middle.
    pub(super) fn symmetric(&self, most: usize) -> Option<Self> {
        if self.low == -self.high && self.counts.len() <= most {
            return Some(self.clone());
        }
        let (half, width) = ((most / 2).max(1), self.width());
        let reach = (self.low.abs().max(self.high.abs()) / width).ceil();
        let width = width * (reach / half as f64).ceil();
        let end = width * half as f64;
        if !(width > 0.0 && end.is_finite()) {
            return None;
        }
        // No more bins than hold values.
        let half = ((self.low.abs().max(self.high.abs()) / width).ceil() as usize).clamp(1, half);
        let mut counts = vec![0u64; 2 * half];
        for (bin, &count) in self.counts.iter().enumerate() {
            let at = (self.center(bin) / width).floor() + half as f64;
            if let Some(into) = counts.get_mut(at.clamp(0.0, (2 * half - 1) as f64) as usize) {
                *into = into.saturating_add(count);
            }
        }
        let end = width * half as f64;
        let (min, max) = (self.min.max(-end), self.max.min(end));
        Some(Self { low: -end, high: end, counts, min, max })
    }
}
