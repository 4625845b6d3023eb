//! The threshold rules of ONNX Runtime (`onnxruntime/quantization/calibrate.py`, `HistogramCollector`).
//!
//! Its third method, *distribution*, gives the scale of FP8 codes from the standard deviations of the data and of the
//! E4M3 numbers; it has no threshold and is not here.

use core::fmt;

use crate::error::{ConfigError, DataError, Result};
use crate::solve::entropy::signed_entropy_bins;
use crate::tensor::{ClippingRange, Note, Scheme};

use super::evidence::Evidence;
use super::nvidia::{check_percent, search_sorted};
use super::{Calibrated, Calibration, Histogram, Region, check_bins, min_max_of, or_min_max};

/// The histogram over `[−t, t]` for the largest magnitude t that the rules search.
fn signed(region: &Region<'_>, largest: f64, bins: usize) -> Result<Histogram> {
    match region.evidence() {
        Evidence::Values(values) => Ok(Histogram::of_values(values, -largest, largest, bins)?),
        Evidence::Histogram(histogram) => {
            let symmetric = histogram.symmetric(bins);
            Ok(symmetric.ok_or(DataError::NoData { region: region.index() })?)
        }
    }
}

/// ONNX Runtime's `entropy`: the least KL divergence on a signed histogram around zero, both ends drawn in alike,
/// then moved inward to minimum and maximum.
///
/// By default 128 bins and 128 levels, as there. **With these there is exactly one candidate**, the full range, so
/// that the default does not calibrate anything (there, only a histogram that later batches widened has more); 2048
/// bins make it a search. Its number of levels does not follow the scheme. What is spread over a level's bins is cut
/// to integers, as there; divergences are summed in f64, where ONNX Runtime rounds to f32, so between candidates that
/// agree to six digits the choice can differ. Too few bins for a candidate give the full range, and a note.
///
/// Time O(n + bins · levels).
///
/// ```
/// use lowbit::calibration::OnnxRuntimeEntropy;
///
/// let search = OnnxRuntimeEntropy::default().bins(2048)?;
/// assert_eq!(search.to_string(), "onnxruntime-entropy(bins=2048, levels=128)");
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnnxRuntimeEntropy {
    bins: usize,
    levels: usize,
}

impl Default for OnnxRuntimeEntropy {
    fn default() -> Self {
        Self { bins: 128, levels: 128 }
    }
}

impl OnnxRuntimeEntropy {
    /// The same search on a histogram of at most `bins` bins (`num_bins`).
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for fewer than 2 bins, [`ConfigError::TooLarge`] for more than 65536.
    pub fn bins(mut self, bins: usize) -> Result<Self, ConfigError> {
        self.bins = check_bins(bins, 2)?;
        Ok(self)
    }

    /// The same search for another number of levels (`num_quantized_bins`).
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for fewer than 2 levels, [`ConfigError::TooLarge`] for more than 65536.
    pub fn levels(mut self, levels: usize) -> Result<Self, ConfigError> {
        self.levels = check_bins(levels, 2).map_err(|error| match error {
            ConfigError::TooSmall { value, min, .. } => {
                ConfigError::TooSmall { what: "number of levels", value, min }
            }
            ConfigError::TooLarge { value, max, .. } => {
                ConfigError::TooLarge { what: "number of levels", value, max }
            }
            other => other,
        })?;
        Ok(self)
    }

    /// The range on a given histogram that is symmetric around zero, before it is moved inward to the extremes.
    /// `None` where there is no candidate: fewer bins than levels, or an empty histogram.
    pub fn thresholds(&self, signed: &Histogram) -> Option<(f64, f64)> {
        let (start, end) = signed_entropy_bins(signed.counts(), self.levels)?;
        Some((signed.edge(start), signed.edge(end)))
    }
}

impl Calibration for OnnxRuntimeEntropy {
    fn range(&self, region: &Region<'_>, _scheme: &Scheme) -> Result<Calibrated> {
        let full = min_max_of(region)?;
        // One value, however often: nothing to clip.
        if full.low() == full.high() {
            return Ok(full.into());
        }
        let signed = signed(region, full.magnitude(), self.bins)?;
        match self.thresholds(&signed) {
            Some(ends) => or_min_max(inward(ends, full)?, region),
            None => Ok(Calibrated { range: full, note: Some(Note::FullRange) }),
        }
    }
}

/// The range between two ends, drawn in to minimum and maximum.
fn inward((low, high): (f64, f64), full: ClippingRange) -> Result<ClippingRange, ConfigError> {
    let (low, high) = (low.max(full.low()), high.min(full.high()));
    ClippingRange::new(low.min(high), high.max(low))
}

/// `onnxruntime-entropy(bins=128, levels=128)`
impl fmt::Display for OnnxRuntimeEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "onnxruntime-entropy(bins={}, levels={})", self.bins, self.levels)
    }
}

/// ONNX Runtime's `percentile`: the lower edges of the bins in which the cumulative share reaches p.
///
/// For symmetric schemes on a histogram of the magnitudes (from the smallest to the largest magnitude), for asymmetric
/// ones on a signed histogram around zero, half of 100 − p being cut at either end (the left one too at the lower
/// edge of its bin); then moved inward to minimum and maximum. ONNX Runtime's default is 99.999 with 2048 bins.
/// Time O(n).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnnxRuntimePercentile {
    percent: f64,
    bins: usize,
}

impl Default for OnnxRuntimePercentile {
    fn default() -> Self {
        Self { percent: 99.999, bins: 2048 }
    }
}

impl OnnxRuntimePercentile {
    /// The percentile `percent`, in 2048 bins.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Percentile`] unless `percent` is above 0 and at most 100.
    pub fn new(percent: f64) -> Result<Self, ConfigError> {
        check_percent(percent)?;
        Ok(Self { percent, ..Self::default() })
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

    /// The threshold of a given histogram of magnitudes, before it is moved inward to the extremes.
    pub fn threshold(&self, magnitudes: &Histogram) -> f64 {
        magnitudes.edge(search_sorted(magnitudes.counts(), self.percent / 100.0))
    }

    /// Both thresholds of a given signed histogram, before they are moved inward to the extremes.
    pub fn thresholds(&self, signed: &Histogram) -> (f64, f64) {
        let cut = (100.0 - self.percent) / 200.0;
        let edge = |share: f64| signed.edge(search_sorted(signed.counts(), share));
        (edge(cut), edge(1.0 - cut))
    }

    /// The magnitudes from the smallest to the largest.
    fn magnitudes(&self, region: &Region<'_>) -> Result<Option<Histogram>> {
        match region.evidence() {
            Evidence::Values(values) => {
                let magnitudes: Vec<f64> = values.magnitudes().collect();
                let values = super::Values::F64(&magnitudes);
                let Some((low, high)) = values.min_max().filter(|(low, high)| low < high) else {
                    return Ok(None);
                };
                Ok(Some(Histogram::of_values(values, low, high, self.bins)?))
            }
            Evidence::Histogram(histogram) => {
                Ok(histogram.magnitudes().map(|magnitudes| magnitudes.coarsened(self.bins)))
            }
        }
    }
}

impl Calibration for OnnxRuntimePercentile {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        let full = min_max_of(region)?;
        // One value, however often: nothing to clip.
        if full.low() == full.high() {
            return Ok(full.into());
        }
        if scheme.is_symmetric() {
            let found = self.magnitudes(region)?.map(|magnitudes| self.threshold(&magnitudes));
            let threshold = found.unwrap_or(full.magnitude()).min(full.magnitude());
            return or_min_max(ClippingRange::new(-threshold, threshold)?, region);
        }
        let signed = signed(region, full.magnitude(), self.bins)?;
        or_min_max(inward(self.thresholds(&signed), full)?, region)
    }
}

/// `onnxruntime-percentile(99.999, bins=2048)`
impl fmt::Display for OnnxRuntimePercentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "onnxruntime-percentile({}, bins={})", self.percent, self.bins)
    }
}
