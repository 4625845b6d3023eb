//! The search of PyTorch's `HistogramObserver` (`torch/ao/quantization/observer.py`, `_non_linear_param_search`,
//! after Caffe2's `NormMinimization`).

use core::fmt;

use crate::error::{ConfigError, DataError, Result};
use crate::solve::spread::{Bins, Levels, Running};
use crate::tensor::{ClippingRange, Scheme};

use super::evidence::Evidence;
use super::{Calibrated, Calibration, Histogram, Region, check_bins, min_max_of, or_min_max};

/// PyTorch's `HistogramObserver`: from the whole range on, the end is drawn in that skips more bins when its quantile
/// moves by 1e-5; the search stops at the first step that does not lower the error.
///
/// The error is that of `2^b` equal cells over the bins kept, each value going to the middle of its cell, values
/// evenly spread within bins: a mid-rise grid, whatever the scheme. So the range is near the least error only as far
/// as the error falls from the full range on without a rise. The histogram is taken as it is; values are put into
/// 2048 bins from minimum to maximum (the observer itself also resamples whenever a batch widens the range, so that
/// its result depends on the order of batches; this one does not).
///
/// Time O(n + steps · levels), with at most as many steps as bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TorchHistogram {
    bins: usize,
}

impl Default for TorchHistogram {
    fn default() -> Self {
        Self { bins: 2048 }
    }
}

impl TorchHistogram {
    /// How far a quantile moves in one step.
    const STEP: f64 = 1e-5;

    /// The same search with values put into `bins` bins.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for fewer than 2 bins, [`ConfigError::TooLarge`] for more than 65536.
    pub fn bins(mut self, bins: usize) -> Result<Self, ConfigError> {
        self.bins = check_bins(bins, 2)?;
        Ok(self)
    }

    /// The first and the last bin that are kept of a given histogram, for `codes` codes. `None` for an empty one.
    pub fn bins_kept(&self, histogram: &Histogram, codes: u32) -> Option<(usize, usize)> {
        let counts = histogram.counts();
        let mut sum = 0.0;
        let cumulative: Vec<f64> = counts
            .iter()
            .map(|&count| {
                sum += count as f64;
                sum
            })
            .collect();
        let total = sum;
        if total == 0.0 {
            return None;
        }
        // In units of a bin.
        let bins = Bins { low: 0.0, width: 1.0, counts, min: 0.0, max: counts.len() as f64 };
        let running = Running::new(&bins);
        let error = |start: usize, end: usize| {
            let scale = (end - start + 1) as f64 / f64::from(codes);
            let levels = Levels { scale, first: start as f64 / scale + 0.5, count: f64::from(codes) };
            if codes as usize > counts.len() {
                bins.squared_error(&levels)
            } else {
                running.squared_error(&levels)
            }
        };
        let at = |bin: usize| cumulative.get(bin).copied().unwrap_or(total);
        let (mut start, mut end) = (0, counts.len() - 1);
        let (mut alpha, mut beta) = (0.0, 1.0);
        let mut least = f64::INFINITY;
        while alpha < beta {
            let (next_alpha, next_beta) = (alpha + Self::STEP, beta - Self::STEP);
            let (mut left, mut right) = (start, end);
            while left < end && at(left) < next_alpha * total {
                left += 1;
            }
            while right > start && at(right) > next_beta * total {
                right -= 1;
            }
            let (mut next_start, mut next_end) = (start, end);
            if left - start > end - right {
                (next_start, alpha) = (left, next_alpha);
            } else {
                (next_end, beta) = (right, next_beta);
            }
            if (next_start, next_end) == (start, end) {
                continue;
            }
            let found = error(next_start, next_end);
            if found > least {
                break;
            }
            (least, start, end) = (found, next_start, next_end);
        }
        Some((start, end))
    }
}

impl Calibration for TorchHistogram {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        let full = min_max_of(region)?;
        if full.low() == full.high() {
            return Ok(full.into());
        }
        let own;
        let histogram = match region.evidence() {
            Evidence::Histogram(histogram) => histogram,
            Evidence::Values(values) => {
                own = Histogram::of_values(values, full.low(), full.high(), self.bins)?;
                &own
            }
        };
        let (start, end) = self
            .bins_kept(histogram, scheme.codes().count())
            .ok_or(DataError::NoData { region: region.index() })?;
        // The outer bins of a histogram may be wider than what they hold.
        let edge = |bin: usize| histogram.edge(bin).clamp(full.low(), full.high());
        or_min_max(ClippingRange::new(edge(start), edge(end + 1))?, region)
    }
}

/// `torch-histogram(bins=2048)`
impl fmt::Display for TorchHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "torch-histogram(bins={})", self.bins)
    }
}
