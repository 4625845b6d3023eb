//! The threshold rules of NVIDIA's toolkits: pytorch-quantization and its successor ModelOpt, `calib/histogram.py`.
//!
//! Both collect |x| in 2048 bins from zero on. Their entropy rule is [`KlVariant::Nvidia`](super::KlVariant::Nvidia).

use core::fmt;

use crate::error::{ConfigError, DataError, Result};
use crate::tensor::{Note, Scheme};

use super::evidence::{Evidence, Values, each_value};
use super::kl::histogram_of;
use super::{
    Calibrated, Calibration, Histogram, Region, check_bins, magnitude_levels, min_max_of, or_min_max,
    range_of_threshold,
};

/// Bins that the toolkits collect.
const BINS: usize = 2048;

/// The histogram of magnitudes that the toolkits' rules search.
fn magnitudes(region: &Region<'_>, largest: f64, bins: usize) -> Result<Histogram> {
    match region.evidence() {
        Evidence::Values(values) => Ok(each_value!(values, values => histogram_of(values, largest, bins))?),
        Evidence::Histogram(histogram) => {
            let magnitudes = histogram.magnitudes().ok_or(DataError::NoData { region: region.index() })?;
            Ok(magnitudes.coarsened(bins))
        }
    }
}

/// NVIDIA's `mse`: among the middles of the bins from the 128th on, the threshold of least `mean(counts · (Q(c) − c)²)`
/// over the middles c of all bins, on a grid of `±(2^(b−1) − 1)` steps (`2^b − 1` for an asymmetric grid on values of
/// one sign).
///
/// Unlike [`Mse`](super::Mse) it never clips below a sixteenth of the range, and its grid is the restricted one
/// whatever the scheme. With no more than 128 bins it takes the full range and says so. By default 2048 bins.
/// Time O(n + bins · levels), where the toolkits need O(bins²).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NvidiaMse {
    bins: usize,
}

impl Default for NvidiaMse {
    fn default() -> Self {
        Self { bins: BINS }
    }
}

impl NvidiaMse {
    /// The first bin whose middle is tried.
    const START: usize = 128;

    /// The same search on a histogram of at most `bins` bins.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for fewer than 2 bins, [`ConfigError::TooLarge`] for more than 65536.
    pub fn bins(mut self, bins: usize) -> Result<Self, ConfigError> {
        self.bins = check_bins(bins, 2)?;
        Ok(self)
    }

    /// The threshold of a given histogram of magnitudes, whose bins start at zero, for `steps` steps from zero to the
    /// threshold (127 of signed 8-bit codes). `None` for no more than 128 bins.
    pub fn threshold(&self, magnitudes: &Histogram, steps: u32) -> Option<f64> {
        let counts = magnitudes.counts();
        // Sums of 1, c and c² over the middles before each bin, in units of the width.
        let mut before = Vec::with_capacity(counts.len() + 1);
        let mut sums = [0.0; 3];
        before.push(sums);
        for (bin, &count) in counts.iter().enumerate() {
            let (count, center) = (count as f64, bin as f64 + 0.5);
            sums = [sums[0] + count, sums[1] + count * center, sums[2] + count * center * center];
            before.push(sums);
        }
        let total = sums;
        // Infinite as soon as it is known to be above `least`: no level's part is negative.
        let error = |start: usize, least: f64| {
            let step = (start as f64 + 0.5) / f64::from(steps.max(1));
            // The sums over the middles up to half a step beyond a level.
            let up_to = |level: u32| {
                let end = ((f64::from(level) + 0.5) * step + 0.5) as usize;
                before.get(end).copied().unwrap_or(total)
            };
            let part = |level: u32, low: [f64; 3], high: [f64; 3]| {
                let value = f64::from(level) * step;
                (high[2] - low[2]) - 2.0 * value * (high[1] - low[1]) + value * value * (high[0] - low[0])
            };
            // The last level first, with all that is clipped.
            let mut sum = part(steps, steps.checked_sub(1).map_or([0.0; 3], up_to), total);
            let mut low = [0.0; 3];
            for level in 0..steps {
                if sum > least {
                    return f64::INFINITY;
                }
                let high = up_to(level);
                sum += part(level, low, high);
                low = high;
            }
            sum
        };
        // A few candidates from all over the range first: their least bounds most others early.
        const STRIDE: usize = 64;
        let strided = (Self::START..counts.len()).step_by(STRIDE);
        // Sums of differences are rounded.
        let bound =
            strided.map(|start| error(start, f64::INFINITY)).fold(f64::INFINITY, f64::min) * (1.0 + 1e-6);
        let mut best = (f64::INFINITY, None);
        for start in Self::START..counts.len() {
            let found = error(start, bound.min(best.0 * (1.0 + 1e-6)));
            if found < best.0 {
                best = (found, Some(start));
            }
        }
        best.1.map(|bin| magnitudes.center(bin))
    }
}

impl Calibration for NvidiaMse {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        let full = min_max_of(region)?;
        // One value, however often: nothing to clip.
        if full.low() == full.high() {
            return Ok(full.into());
        }
        let magnitudes = magnitudes(region, full.magnitude(), self.bins)?;
        let steps = magnitude_levels(scheme, full).saturating_sub(1).max(1);
        match self.threshold(&magnitudes, u32::try_from(steps).unwrap_or(u32::MAX)) {
            Some(threshold) => or_min_max(range_of_threshold(scheme, full, threshold)?, region),
            None => Ok(Calibrated { range: full, note: Some(Note::FullRange) }),
        }
    }
}

/// `nvidia-mse(bins=2048)`
impl fmt::Display for NvidiaMse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nvidia-mse(bins={})", self.bins)
    }
}

/// NVIDIA's `percentile`: `edges[searchsorted(cdf, p / 100)]` over the magnitudes, the lower edge of the bin in which
/// the cumulative share reaches p, in floating point; it may be one bin lower than [`Percentile`](super::Percentile).
///
/// The toolkits' default is 99.99 with 2048 bins. Time O(n).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NvidiaPercentile {
    percent: f64,
    bins: usize,
}

impl NvidiaPercentile {
    /// The percentile `percent` of the magnitudes, in 2048 bins.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Percentile`] unless `percent` is above 0 and at most 100.
    pub fn new(percent: f64) -> Result<Self, ConfigError> {
        check_percent(percent)?;
        Ok(Self { percent, bins: BINS })
    }

    /// The same on a histogram of at most `bins` bins.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for fewer than 2 bins, [`ConfigError::TooLarge`] for more than 65536.
    pub fn bins(mut self, bins: usize) -> Result<Self, ConfigError> {
        self.bins = check_bins(bins, 2)?;
        Ok(self)
    }

    /// The threshold of a given histogram of magnitudes, whose bins start at zero.
    pub fn threshold(&self, magnitudes: &Histogram) -> f64 {
        magnitudes.edge(search_sorted(magnitudes.counts(), self.percent / 100.0))
    }
}

/// A percentile that keeps something.
pub(super) fn check_percent(percent: f64) -> Result<(), ConfigError> {
    // Written so that NaN fails.
    if percent > 0.0 && percent <= 100.0 {
        Ok(())
    } else {
        Err(ConfigError::Percentile { percent, above: 0.0 })
    }
}

/// `searchsorted(cumsum(counts / total), share)`: the first bin whose cumulative share, summed in floating point as
/// NumPy does, is at least `share`; the number of bins where rounding keeps all of them below.
pub(super) fn search_sorted(counts: &[u64], share: f64) -> usize {
    let total = counts.iter().fold(0u64, |sum, &count| sum.saturating_add(count)) as f64;
    let mut cumulative = 0.0;
    let reached = |&count: &u64| {
        cumulative += count as f64 / total;
        cumulative >= share
    };
    counts.iter().position(reached).unwrap_or(counts.len())
}

impl Calibration for NvidiaPercentile {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        let full = min_max_of(region)?;
        // One value, however often: nothing to clip.
        if full.low() == full.high() {
            return Ok(full.into());
        }
        let threshold = self.threshold(&magnitudes(region, full.magnitude(), self.bins)?);
        or_min_max(range_of_threshold(scheme, full, threshold)?, region)
    }
}

/// `nvidia-percentile(99.99, bins=2048)`
impl fmt::Display for NvidiaPercentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nvidia-percentile({}, bins={})", self.percent, self.bins)
    }
}
