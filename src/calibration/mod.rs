//! Calibration: the choice of the clipping range [α, β] of one region (survey, III-C and III-D).
//!
//! | rule | range |
//! |---|---|
//! | [`MinMax`] | smallest and largest value |
//! | [`Percentile`] | order statistics: a share of the values is clipped |
//! | [`Kl`] | least Kullback–Leibler divergence between the histogram and its quantized form |
//! | [`Mse`], also called [`Omse`] | least squared error on the actual code grid |
//! | [`Aciq`] | best for a Gaussian or Laplace density of the same spread |
//! | [`StandardDeviations`] | μ ± k·σ |
//! | [`WeightedEntropy`] | most entropy of the codes, weighted by their importance |
//! | [`NvidiaMse`], [`NvidiaPercentile`] | as NVIDIA's toolkits find them; their entropy is [`KlVariant::Nvidia`] |
//! | [`OnnxRuntimeEntropy`], [`OnnxRuntimePercentile`] | as ONNX Runtime finds them |
//! | [`TorchHistogram`] | as PyTorch's `HistogramObserver` searches it |
//! | [`Fixed`] | given by the user |
//!
//! Which of them is the best for given data, and whether more data would move it, [`Comparison`] and [`Convergence`]
//! tell from one histogram.
//!
//! A rule sees one region's [`Evidence`], its values or a histogram of them, and the [`Scheme`] that it
//! calibrates for. It gives a range; the scheme makes the grid of it.

mod aciq;
mod comparison;
mod convergence;
mod evidence;
mod fixed;
mod histogram;
mod kl;
mod min_max;
mod moments;
mod mse;
mod nvidia;
mod onnx_runtime;
mod percentile;
mod predicted;
mod regions;
mod standard_deviations;
mod torch;
mod weighted_entropy;

use core::fmt;
use std::sync::Arc;

use crate::error::{DataError, Result};
use crate::solve::spread::Levels;
use crate::tensor::{AffineGrid, AffineScheme, ClippingRange, CodeRange, Note, Notes, Scheme};

pub use aciq::{Aciq, AciqDensity, AciqEstimator, AciqOptimum};
pub use comparison::{Compared, Comparison};
pub use convergence::Convergence;
pub use evidence::{Evidence, Region, Values};
pub use fixed::Fixed;
pub use histogram::Histogram;
pub use kl::{Kl, KlThreshold, KlVariant};
pub use min_max::MinMax;
pub use moments::Moments;
pub use mse::{Mse, Omse};
pub use nvidia::{NvidiaMse, NvidiaPercentile};
pub use onnx_runtime::{OnnxRuntimeEntropy, OnnxRuntimePercentile};
pub use percentile::{Interpolation, Percentile, Tails};
pub use predicted::Predicted;
pub use regions::Regions;
pub use standard_deviations::StandardDeviations;
pub use torch::TorchHistogram;
pub use weighted_entropy::WeightedEntropy;

/// The range that a calibration found for a region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibrated {
    /// The clipping range.
    pub range: ClippingRange,
    /// What the user should know about it.
    pub note: Option<Note>,
}

impl From<ClippingRange> for Calibrated {
    fn from(range: ClippingRange) -> Self {
        Self { range, note: None }
    }
}

/// The ranges that a calibration found for all regions in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranges {
    /// The clipping range of each region.
    pub ranges: Vec<ClippingRange>,
    /// What the user should know, by region.
    pub notes: Notes,
}

impl FromIterator<Calibrated> for Ranges {
    fn from_iter<I: IntoIterator<Item = Calibrated>>(found: I) -> Self {
        let mut notes = Notes::new();
        let take = |(region, found): (usize, Calibrated)| {
            notes.extend(found.note.map(|note| (region, note)));
            found.range
        };
        let ranges = found.into_iter().enumerate().map(take).collect();
        Self { ranges, notes }
    }
}

impl From<Vec<ClippingRange>> for Ranges {
    fn from(ranges: Vec<ClippingRange>) -> Self {
        Self { ranges, notes: Notes::new() }
    }
}

/// Chooses the clipping range of a region.
///
/// The `Display` form is the strategy's text form: a name, and arguments in parentheses where it has any.
pub trait Calibration: fmt::Debug + fmt::Display + Send + Sync {
    /// The clipping range of `region`, for codes of `scheme`.
    ///
    /// # Errors
    ///
    /// [`DataError::NoData`] for a region without values.
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated>;

    /// The clipping ranges of all regions in order. The default calls [`range`](Self::range) for each, on
    /// several threads where the tensor is large; an override must give the same result. A region whose
    /// values were all skipped as non-finite gets a range of zero.
    ///
    /// # Errors
    ///
    /// As [`range`](Self::range), and [`DataError::NotANumber`] or [`DataError::Infinite`] where the policy
    /// for non-finite values is an error.
    fn ranges(&self, regions: &Regions<'_, '_>, scheme: &Scheme) -> Result<Ranges> {
        Ok(regions
            .map(|region| range_or_zero(self, region, |region| self.range(region, scheme)))?
            .into_iter()
            .collect())
    }

    /// Whether ranges are always those from the smallest to the largest value, so that a kernel may find them while it
    /// encodes. The default is `false`, which is never wrong.
    fn is_min_max(&self) -> bool {
        false
    }

    /// Whether ranges are found in the data. `false` means that they are given, so that no values need to
    /// be read and infinities saturate.
    fn reads_data(&self) -> bool {
        true
    }
}

impl<C: Calibration + ?Sized> Calibration for Arc<C> {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        (**self).range(region, scheme)
    }

    fn ranges(&self, regions: &Regions<'_, '_>, scheme: &Scheme) -> Result<Ranges> {
        (**self).ranges(regions, scheme)
    }

    fn is_min_max(&self) -> bool {
        (**self).is_min_max()
    }

    fn reads_data(&self) -> bool {
        (**self).reads_data()
    }
}

/// What `find` gives for `region`, or a range of zero where all its values were skipped.
pub(crate) fn range_or_zero<C: Calibration + ?Sized>(
    calibration: &C,
    region: &Region<'_>,
    find: impl FnOnce(&Region<'_>) -> Result<Calibrated>,
) -> Result<Calibrated> {
    if region.evidence().count() == 0 && calibration.reads_data() {
        return Ok(ClippingRange::ZERO.into());
    }
    find(region)
}

/// `found`, or the region's minimum and maximum where `found` is a range of zero on data that are not.
fn or_min_max(found: ClippingRange, region: &Region<'_>) -> Result<Calibrated> {
    if found.magnitude() > 0.0 {
        return Ok(found.into());
    }
    let range = min_max_of(region)?;
    let note = (range.magnitude() > 0.0).then_some(Note::FellBackToMinMax);
    Ok(Calibrated { range, note })
}

/// The region's minimum and maximum.
fn min_max_of(region: &Region<'_>) -> Result<ClippingRange> {
    let (low, high) = region.evidence().min_max().ok_or(DataError::NoData { region: region.index() })?;
    Ok(ClippingRange::new(low, high)?)
}

/// The uniform grid that the scheme declares. Rules that are made for uniform grids take one of as many levels in place
/// of any other representation.
fn affine(scheme: &Scheme) -> Result<AffineScheme> {
    match scheme {
        Scheme::Affine(affine) => Ok(*affine),
        // One level is at zero and as many on either side of it.
        _ => Ok(AffineScheme::symmetric(scheme.bits(), CodeRange::signed(scheme.bits()))?),
    }
}

/// The levels of the grid of a range.
fn levels(scheme: &AffineScheme, range: ClippingRange, region: usize) -> Result<Levels> {
    Ok(levels_of(scheme, scheme.grid(range, region)?))
}

/// The levels of a grid.
fn levels_of(scheme: &AffineScheme, grid: AffineGrid) -> Levels {
    let first = f64::from(scheme.codes().min()) - grid.zero_point;
    Levels { scale: grid.scale, first, count: f64::from(scheme.codes().count()) }
}

/// The range of threshold `t` on magnitudes: `±t` of symmetric grids, else what it leaves of `[low, high]`, widened
/// to hold zero.
fn range_of_threshold(scheme: &Scheme, full: ClippingRange, t: f64) -> Result<ClippingRange> {
    // Half a bin beyond the largest number is no number.
    let t = t.min(f64::MAX);
    if scheme.is_symmetric() {
        return Ok(ClippingRange::new(-t, t)?);
    }
    // Both ends of values of one sign are on its side of zero.
    let (low, high) = (full.low().max(-t), full.high().min(t));
    Ok(ClippingRange::new(low.min(high), high.max(low))?.with_zero())
}

/// How many levels the magnitudes have: half the codes, or all of them for an asymmetric grid on values of one sign.
fn magnitude_levels(scheme: &Scheme, full: ClippingRange) -> usize {
    let one_sided = !scheme.is_symmetric() && (full.low() >= 0.0 || full.high() <= 0.0);
    let codes = scheme.codes().count() as usize;
    if one_sided { codes } else { codes.div_ceil(2) }
}

/// A number of bins that a histogram can have.
fn check_bins(bins: usize, min: usize) -> Result<usize, crate::ConfigError> {
    let what = "number of bins";
    if bins < min {
        return Err(crate::ConfigError::TooSmall { what, value: bins, min });
    }
    if bins > Kl::MAX_BINS {
        return Err(crate::ConfigError::TooLarge { what, value: bins, max: Kl::MAX_BINS });
    }
    Ok(bins)
}
