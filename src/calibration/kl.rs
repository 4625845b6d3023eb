//! The threshold of least Kullback–Leibler divergence between a distribution and its quantized form.
//!
//! Szymon Migacz, *8-bit Inference with TensorRT*, GTC 2017; survey, III-C. The rules themselves, with their
//! differences, are in `solve::entropy`.

use core::fmt;

use crate::element::Real;
use crate::error::{ConfigError, DataError, Result};
use crate::kernel::histogram::magnitude_histogram;
use crate::names::named;
use crate::solve::entropy::{EntropyRule, entropy_threshold};
use crate::tensor::{Note, Scheme};

use super::evidence::{Evidence, Values, each_value};
use super::{
    Calibrated, Calibration, Histogram, Region, check_bins, magnitude_levels, min_max_of, or_min_max,
    range_of_threshold,
};

/// The published forms of the rule. They differ in how the bins below a candidate threshold are merged to
/// quantization levels, in what happens to empty bins, and in where in its bin the threshold lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum KlVariant {
    /// The slides, each level taking `m / levels` bins rounded down and the last the remainder.
    SlidesFloor,
    /// The slides, bin `j` belonging to level `⌊j · levels / m⌋`. The default.
    #[default]
    SlidesDigitize,
    /// The slides, bins that two levels share being split by overlap.
    SlidesFractional,
    /// NVIDIA pytorch-quantization: digitize, with the first bin's count replaced by the second's and the
    /// last of equal candidates taken.
    Nvidia,
    /// MXNet and ONNX Runtime: floor, with empty bins smoothed.
    Mxnet,
}

impl KlVariant {
    const fn rule(self) -> EntropyRule {
        match self {
            Self::SlidesFloor => EntropyRule::SlidesFloor,
            Self::SlidesDigitize => EntropyRule::SlidesDigitize,
            Self::SlidesFractional => EntropyRule::SlidesFractional,
            Self::Nvidia => EntropyRule::Nvidia,
            Self::Mxnet => EntropyRule::MxnetSmoothed,
        }
    }
}

named!(KlVariant, "variant of KL", [
    SlidesFloor => "slides-floor",
    SlidesDigitize => "slides-digitize",
    SlidesFractional => "slides-fractional",
    Nvidia => "nvidia",
    Mxnet => "mxnet",
]);

/// Clips at the threshold t of least KL divergence, searched on a histogram of the magnitudes.
///
/// Symmetric ranges are `[−t, t]`, asymmetric ones `[max(min, −t), min(max, t)]` widened to hold zero. The number of
/// levels is that of the magnitudes: half the codes, or all of them for an asymmetric grid on values of one sign.
/// Where there are at least as many levels as bins, nothing can be searched: the full range is taken and the quantized
/// tensor says so.
///
/// There are never more bins than values that are not zero: in a sparser histogram any threshold just above a value
/// looks like a perfect one, and nearly everything would be clipped. A histogram from an observer is coarsened to as
/// many.
///
/// After a ReLU half of the values are exactly zero. The first bin then outweighs all others, and every variant but
/// [`KlVariant::Nvidia`], which replaces its count, clips far too much.
///
/// By default at most 2048 bins over `[0, max|r|]` and [`KlVariant::SlidesDigitize`]. Time O(n + bins · levels), about
/// 1.5 to 2 ns per element in a tensor of 16 million values on one core; memory O(bins) per region.
///
/// ```
/// use lowbit::calibration::{Kl, KlVariant};
///
/// let nvidia = Kl::default().variant(KlVariant::Nvidia);
/// assert_eq!(nvidia.to_string(), "kl(variant=nvidia, bins=2048)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kl {
    variant: KlVariant,
    bins: usize,
}

impl Default for Kl {
    fn default() -> Self {
        Self { variant: KlVariant::default(), bins: 2048 }
    }
}

/// What the search gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KlThreshold {
    /// The threshold t.
    pub threshold: f64,
    /// The number of bins below it.
    pub bins: usize,
    /// The divergence there, in nats.
    pub divergence: f64,
}

impl Kl {
    /// The most bins of a histogram.
    pub const MAX_BINS: usize = 1 << 16;

    /// The same search by another variant.
    pub const fn variant(mut self, variant: KlVariant) -> Self {
        self.variant = variant;
        self
    }

    /// The same search on a histogram of at most `bins` bins.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for fewer than 2 bins, and [`ConfigError::TooLarge`] for more than
    /// [`MAX_BINS`](Self::MAX_BINS).
    pub fn bins(mut self, bins: usize) -> Result<Self, ConfigError> {
        self.bins = check_bins(bins, 2)?;
        Ok(self)
    }

    /// The threshold of a given histogram of magnitudes, whose bins start at zero, for `levels` levels.
    /// `None` where nothing can be searched: an empty histogram, fewer than two levels, or at least as many
    /// levels as bins.
    pub fn threshold(&self, magnitudes: &Histogram, levels: usize) -> Option<KlThreshold> {
        let found = entropy_threshold(magnitudes.counts(), levels, self.variant.rule())?;
        // The middle of the last bin lies beyond the largest value.
        let threshold = (found.edge * magnitudes.width()).min(magnitudes.high());
        Some(KlThreshold { threshold, bins: found.bins, divergence: found.divergence })
    }
}

impl Calibration for Kl {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        let full = min_max_of(region)?;
        if full.magnitude() == 0.0 {
            return Ok(full.into());
        }
        let levels = magnitude_levels(scheme, full);
        let magnitudes = match region.evidence() {
            Evidence::Values(values) => each_value!(values, values => {
                let nonzero = values.iter().filter(|&&value| value != 0.0).take(self.bins).count();
                histogram_of(values, full.magnitude(), nonzero)
            })?,
            Evidence::Histogram(histogram) => {
                let magnitudes =
                    histogram.magnitudes().ok_or(DataError::NoData { region: region.index() })?;
                // Zeros are somewhere in the first bin.
                let zeros = magnitudes.counts().first().copied().unwrap_or(0);
                let nonzero = usize::try_from(magnitudes.total().saturating_sub(zeros)).unwrap_or(usize::MAX);
                magnitudes.coarsened(self.bins.min(nonzero))
            }
        };
        let Some(KlThreshold { threshold, .. }) = self.threshold(&magnitudes, levels) else {
            return Ok(Calibrated { range: full, note: Some(Note::FullRange) });
        };
        let range = range_of_threshold(scheme, full, threshold)?;
        or_min_max(range, region)
    }
}

/// The magnitudes of `values` in `bins` bins from zero to the largest.
pub(super) fn histogram_of<T: Real>(
    values: &[T],
    magnitude: f64,
    bins: usize,
) -> Result<Histogram, ConfigError> {
    let mut counts = vec![0; bins];
    magnitude_histogram(values, magnitude, &mut counts);
    Histogram::new(0.0, magnitude, counts)
}

/// `kl(variant=slides-digitize, bins=2048)`
impl fmt::Display for Kl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kl(variant={}, bins={})", self.variant, self.bins)
    }
}
