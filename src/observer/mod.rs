//! Observers: statistics of a stream of tensors, in constant memory (survey, III-D).
//!
//! An [`Observer`] keeps one [`Summary`] for each region. Observing and merging commute, so batches may come in any
//! size and order, from any number of threads or machines: the result is the same, bit for bit. A recipe makes an
//! observer of its granularity ([`Recipe::observer`]) and calibrates on what it has seen ([`Recipe::freeze`]), through
//! the same calibrations as on a tensor at hand.
//!
//! A [`MovingAverage`] of minimum and maximum is another thing: it depends on the order of batches and cannot be merged.
//!
//! [`Recipe::observer`]: crate::recipe::Recipe::observer
//! [`Recipe::freeze`]: crate::recipe::Recipe::freeze

mod counts;
mod grid;
mod halves;
mod moving_average;
mod pass;
mod summary;
mod tally;

use core::fmt;
use std::sync::Arc;

use ndarray::{ArrayRef, Dimension};

use crate::calibration::{Histogram, Regions};
use crate::element::Element;
use crate::error::{ConfigError, DataError, Error, Result, ShapeError};
use crate::granularity::Granularity;
use crate::tensor::{NonFinite, Scheme, TensorView};

pub use moving_average::MovingAverage;
pub use summary::Summary;

/// Statistics of the tensors that it has seen, one summary for each region.
///
/// Memory, whatever the number of values: for each region at most `2 · bins` counts of the narrowest of 1, 2, 4 or 8
/// bytes that holds the largest count; or 8 bytes for each bin that is not empty, where that is less (so never more
/// than 8 bytes for each value). [`bytes`](Self::bytes) says how much it is. While a tensor is observed or an observer
/// merged, as much again, and for each thread `64 · bins` bytes, or 0.6 MiB more where large regions of numbers of 16 bits
/// are observed. Where memory is refused,
/// the observer stays as it was, and the error is [`DataError::Memory`].
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::Array2;
///
/// let recipe = Uniform::asymmetric(BitWidth::new(8)?).calibration(Kl::default()).granularity(PerLayer);
/// let batches: Vec<_> =
///     (0..8).map(|n| Array2::from_shape_fn((16, 64), |(i, j)| ((n * 1024 + i * 64 + j) as f32).sin().max(0.0))).collect();
///
/// // Half of the batches here, half on another thread or machine.
/// let mut observer = recipe.observer(&[16, 64])?;
/// let mut elsewhere = recipe.observer(&[16, 64])?;
/// for batch in &batches[..4] {
///     observer.observe(batch)?;
/// }
/// for batch in &batches[4..] {
///     elsewhere.observe(batch)?;
/// }
/// observer.merge(&elsewhere)?;
///
/// let activation = recipe.freeze(&observer)?;
/// let qx = activation.quantize(&batches[0])?; // no statistics at run time
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Observer {
    granularity: Arc<dyn Granularity>,
    non_finite: NonFinite,
    bins: usize,
    summaries: Vec<Summary>,
}

/// A number of bins that a summary can have.
fn check_bins(bins: usize) -> Result<(), ConfigError> {
    // With eight bins the width that holds any range has a reciprocal that is a normal number.
    const RANGE: core::ops::RangeInclusive<usize> = 4..=1 << 20;
    let what = "number of bins";
    if bins < *RANGE.start() {
        return Err(ConfigError::TooSmall { what, value: bins, min: *RANGE.start() });
    }
    if bins > *RANGE.end() {
        return Err(ConfigError::TooLarge { what, value: bins, max: *RANGE.end() });
    }
    Ok(())
}

impl Observer {
    /// The least number of bins over the range, unless asked otherwise: 2048 for the magnitudes of a range that is
    /// about symmetric.
    pub const BINS: usize = 4096;

    /// An observer of tensors that `granularity` cuts into as many regions as one of `shape`, with at least `bins`
    /// bins from the smallest to the largest value of each region.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] if the granularity does not fit the shape; [`ConfigError::TooSmall`] and
    /// [`ConfigError::TooLarge`] for less than 4 or more than 2^20 bins.
    pub fn new(
        granularity: Arc<dyn Granularity>,
        shape: &[usize],
        non_finite: NonFinite,
        bins: usize,
    ) -> Result<Self> {
        check_bins(bins)?;
        let regions = granularity.tiling(shape)?.regions();
        let mut summaries = Vec::new();
        summaries.try_reserve_exact(regions).map_err(|_| ShapeError::TooLarge { shape: shape.to_vec() })?;
        summaries.resize(regions, Summary::new(bins));
        Ok(Self { granularity, non_finite, bins, summaries })
    }

    /// An observer from the parts of another one. Each summary must have the same number of bins.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Conflict`] for summaries of different resolution.
    #[cfg_attr(not(feature = "serde"), allow(dead_code, reason = "what deserialization calls"))]
    pub(crate) fn from_parts(
        granularity: Arc<dyn Granularity>,
        non_finite: NonFinite,
        bins: usize,
        summaries: Vec<Summary>,
    ) -> Result<Self> {
        check_bins(bins)?;
        if summaries.iter().any(|summary| summary.bins() != bins) {
            return Err(conflict("a summary of another resolution"));
        }
        Ok(Self { granularity, non_finite, bins, summaries })
    }

    /// How tensors are cut into regions.
    pub fn granularity(&self) -> &Arc<dyn Granularity> {
        &self.granularity
    }

    /// The policy for non-finite values: an error, or skip and count.
    pub const fn non_finite(&self) -> NonFinite {
        self.non_finite
    }

    /// The least number of bins over the range of a region.
    pub const fn bins(&self) -> usize {
        self.bins
    }

    /// What is known of each region, in the order of the tiling.
    pub fn summaries(&self) -> &[Summary] {
        &self.summaries
    }

    /// Bytes on the heap, but for the granularity.
    pub fn bytes(&self) -> usize {
        let list = self.summaries.capacity() * size_of::<Summary>();
        self.summaries.iter().fold(list, |sum, summary| sum.saturating_add(summary.bytes()))
    }

    /// What calibrations read of each region, in the order of the tiling; one histogram is made at a time.
    ///
    /// # Errors
    ///
    /// [`DataError::NoData`] for a region without values.
    pub fn finish(&self) -> impl Iterator<Item = Result<Histogram, DataError>> + '_ {
        let histogram =
            |(region, summary): (usize, &Summary)| summary.to_histogram().ok_or(DataError::NoData { region });
        self.summaries.iter().enumerate().map(histogram)
    }

    /// Counts the values of `tensor`: any shape that is cut into as many regions.
    ///
    /// Time O(n) and one pass over memory, on several threads where the tensor is large. After an error nothing of the
    /// tensor is counted.
    ///
    /// # Errors
    ///
    /// [`ShapeError::RegionCount`] for another number of regions; [`DataError::NotANumber`] and
    /// [`DataError::Infinite`], with the index of the first such value, unless the policy is to skip and count them;
    /// [`DataError::Memory`] where memory cannot hold the counts.
    pub fn observe<A: Element, D: Dimension>(&mut self, tensor: &ArrayRef<A, D>) -> Result<()> {
        let tensor = TensorView::new(tensor);
        let tiling = self.granularity.tiling(tensor.shape())?;
        Scheme::check_regions(self.summaries.len(), tiling.regions(), tensor.shape())?;
        if tensor.is_empty() {
            return Ok(());
        }
        let regions = Regions::new(&tensor, &tiling, self.non_finite);
        for (region, next) in pass::observe(&regions, &self.summaries, self.bins)? {
            if let Some(summary) = self.summaries.get_mut(region) {
                *summary = next;
            }
        }
        Ok(())
    }

    /// Adds what `other` has seen, as if this observer had seen it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Conflict`] for an observer of another granularity, policy or resolution;
    /// [`ShapeError::RegionCount`] for one of another number of regions; [`DataError::Memory`] where memory cannot hold
    /// the counts. Nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.granularity.to_string() != other.granularity.to_string() {
            return Err(conflict("an observer of another granularity"));
        }
        if self.non_finite != other.non_finite {
            return Err(conflict("an observer of another policy for non-finite values"));
        }
        if self.bins != other.bins {
            return Err(conflict("an observer of another resolution"));
        }
        Scheme::check_regions(other.summaries.len(), self.summaries.len(), &[])?;
        let mut merged = counts::reserved(self.summaries.len())?;
        let mut sum = Vec::new();
        for (summary, other) in self.summaries.iter().zip(&other.summaries) {
            merged.push(summary.merged(other, &mut sum)?);
        }
        self.summaries = merged;
        Ok(())
    }
}

fn conflict(setting: &'static str) -> Error {
    ConfigError::Conflict { setting, to: "this observer" }.into()
}

/// Same granularity, policy and resolution, and the same summaries.
impl PartialEq for Observer {
    fn eq(&self, other: &Self) -> bool {
        self.granularity.to_string() == other.granularity.to_string()
            && self.non_finite == other.non_finite
            && self.bins == other.bins
            && self.summaries == other.summaries
    }
}

/// `observer of 16 regions (channel(axis=0)), 81920 values`
impl fmt::Display for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.summaries.iter().fold(0u64, |sum, summary| sum.saturating_add(summary.count()));
        write!(f, "observer of {} regions ({}), {values} values", self.summaries.len(), self.granularity)
    }
}
