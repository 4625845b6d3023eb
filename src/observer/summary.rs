//! What is kept of a region's values: a histogram that depends on nothing but the values.
//!
//! Bins are 2^e wide and aligned at multiples of that, so a coarser histogram is a finer one with its bins added in
//! pairs, exactly. The exponent is a function of the smallest and the largest value alone. Observing and merging
//! therefore commute: any split of the data, in any order, gives the same summary, bit for bit.

use crate::calibration::{Evidence, Histogram, Moments};
use crate::error::DataError;

use super::counts::{Counts, reserve};
use super::grid::{Span, shift_down};
use super::tally::join;

/// The exact extremes of a stream of values, and their counts in bins of a width of a power of two.
///
/// Memory, whatever the number of values: at most `2 · bins` counts of the narrowest of 1, 2, 4 or 8 bytes that holds
/// the largest of them; or 8 bytes for each bin that is not empty, where that is less.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Parts", into = "Parts"))]
pub struct Summary {
    bins: usize,
    span: Span,
    counts: Counts,
    /// The extremes; in no order as long as there are no values.
    min: f64,
    max: f64,
    skipped: u64,
}

impl Summary {
    /// A summary of no values that will have at least `bins` bins from the smallest to the largest value (fewer only
    /// where they would be narrower than 2^-40 of the largest magnitude), and at most twice as many.
    pub(super) const fn new(bins: usize) -> Self {
        Self {
            bins,
            span: Span::NONE,
            counts: Counts::none(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            skipped: 0,
        }
    }

    /// The summary of values in `range` with `counts` in the bins of `span`, which is that of the range.
    pub(super) const fn from_parts(bins: usize, range: (f64, f64), span: Span, counts: Counts) -> Self {
        Self { bins, span, counts, min: range.0, max: range.1, skipped: 0 }
    }

    /// The same with other counts.
    pub(super) const fn with_counts(&self, counts: Counts) -> Self {
        Self { counts, ..*self }
    }

    /// The same with `skipped` values skipped.
    pub(super) fn with_skipped(self, skipped: u64) -> Self {
        Self { skipped, ..self }
    }

    /// A copy.
    pub(super) fn try_clone(&self) -> Result<Self, DataError> {
        Ok(self.with_counts(self.counts.try_clone()?))
    }

    /// The least number of bins over the range.
    pub const fn bins(&self) -> usize {
        self.bins
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        let mut sum = 0u64;
        self.counts.for_each(|_, count| sum = sum.saturating_add(count));
        sum
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
        self.span.width()
    }

    /// The bytes that the counts take.
    pub fn bytes(&self) -> usize {
        self.counts.bytes()
    }

    pub(super) const fn span(&self) -> &Span {
        &self.span
    }

    pub(super) const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The summary as a calibration reads it: a count for each bin, and the exact extremes. `None` if there are no
    /// values.
    pub fn to_histogram(&self) -> Option<Histogram> {
        let (min, max) = self.min_max()?;
        let (first, width) = (self.span.first as f64, self.width());
        let mut counts = vec![0; self.span.bins];
        self.counts.add_to(&mut counts, 0, 0, 0);
        let low = (first * width).max(-f64::MAX);
        let high = ((first + self.span.bins as f64) * width).min(f64::MAX);
        Histogram::new(low, high, counts).ok()?.with_extremes(min, max).ok()
    }

    /// The most bins of a histogram of magnitudes.
    const MAX_MAGNITUDE_BINS: u64 = 1 << 16;

    /// The histogram of the magnitudes, from zero on. `None` if there are no values.
    ///
    /// As bins are aligned at zero, each bin of negative values is the mirror image of one of positive ones: its count
    /// is added there, and nothing is spread. Only a negative value exactly on an edge counts in the bin below that
    /// edge, not above: the counts are those of |x| with every value in its closed bin. Merging summaries and taking
    /// magnitudes commute.
    ///
    /// Bins are of the summary's width, or of the least power of two that needs no more than 65536.
    pub fn magnitudes(&self) -> Option<Histogram> {
        let (min, max) = self.min_max()?;
        let last = self.span.first + self.span.bins as i64 - 1;
        // The mirror image of bin i is bin -1 - i.
        let mirrored = |bin: i64| if bin < 0 { !bin } else { bin };
        let most = mirrored(self.span.first).max(mirrored(last)) as u64;
        let mut shift = 0;
        while most >> shift >= Self::MAX_MAGNITUDE_BINS {
            shift += 1;
        }
        let mut counts = vec![0u64; (most >> shift) as usize + 1];
        self.counts.for_each(|bin, count| {
            let at = shift_down(mirrored(self.span.first + bin as i64), shift);
            if let Some(into) = usize::try_from(at).ok().and_then(|at| counts.get_mut(at)) {
                *into = into.saturating_add(count);
            }
        });
        let width = self.width() * (1u64 << shift) as f64;
        let high = (counts.len() as f64 * width).min(f64::MAX);
        let least = if min <= 0.0 && max >= 0.0 { 0.0 } else { min.abs().min(max.abs()) };
        Histogram::new(0.0, high, counts).ok()?.with_extremes(least, min.abs().max(max.abs())).ok()
    }

    /// Mean and spread of the values, from the counts of the bins: off by at most half a bin. `None` if there are none.
    pub fn moments(&self) -> Option<Moments> {
        Evidence::Histogram(&self.to_histogram()?).moments()
    }

    /// Adds the counts to `sum`, those of the bins of `span`.
    pub(super) fn add_counts(&self, sum: &mut [u64], span: &Span) {
        self.counts.add_to(sum, self.span.first, span.exponent - self.span.exponent, span.first);
    }

    /// This summary with what `other` has counted; `sum` is working memory.
    pub(super) fn merged(&self, other: &Self, sum: &mut Vec<u64>) -> Result<Self, DataError> {
        let skipped = self.skipped.saturating_add(other.skipped);
        if other.min_max().is_none() {
            return Ok(self.try_clone()?.with_skipped(skipped));
        }
        if self.min_max().is_none() {
            return Ok(other.try_clone()?.with_skipped(skipped));
        }
        let (min, max) = (self.min.min(other.min), self.max.max(other.max));
        let span = Span::new(min, max, self.bins);
        let done = |counts| Self::from_parts(self.bins, (min, max), span, counts).with_skipped(skipped);
        if let (Some(a), Some(b)) = (self.counts.entries(), other.counts.entries()) {
            let place = |from: Span| {
                move |bin: u32| {
                    let number = shift_down(from.first + i64::from(bin), span.exponent - from.exponent);
                    (number - span.first) as u32
                }
            };
            if let Some(entries) = join((a, place(self.span)), (b, place(other.span)))? {
                return Ok(done(Counts::from_entries(&entries, span.bins)?));
            }
        }
        sum.clear();
        reserve(sum, span.bins)?;
        sum.resize(span.bins, 0);
        self.add_counts(sum, &span);
        other.add_counts(sum, &span);
        Ok(done(Counts::from_dense(sum)?))
    }
}

/// The fields of a [`Summary`] before they are validated.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Parts {
    bins: usize,
    /// The count of every bin; empty if only some are listed.
    counts: Vec<u64>,
    /// The bins that are not empty, in order, each with its count; empty if all are listed.
    entries: Vec<(u32, u32)>,
    /// Missing while there are no values.
    min_max: Option<(f64, f64)>,
    skipped: u64,
}

#[cfg(feature = "serde")]
impl From<Summary> for Parts {
    fn from(summary: Summary) -> Self {
        let min_max = summary.min_max();
        let (mut counts, mut entries) = (Vec::new(), Vec::new());
        match summary.counts {
            Counts::Sparse(list) => entries = list,
            dense => {
                counts.resize(summary.span.bins, 0);
                dense.add_to(&mut counts, 0, 0, 0);
            }
        }
        Self { bins: summary.bins, counts, entries, min_max, skipped: summary.skipped }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Parts> for Summary {
    type Error = crate::Error;

    fn try_from(parts: Parts) -> crate::Result<Self> {
        let Parts { bins, counts, entries, min_max, skipped } = parts;
        super::check_bins(bins)?;
        let bad = || crate::FormatError::Entry {
            name: "summary".to_owned(),
            found: format!("{} counts and {} entries over {min_max:?}", counts.len(), entries.len()),
            expected: "as many counts as the range has bins, with values at both ends".to_owned(),
        };
        let Some((min, max)) = min_max else {
            if !(counts.is_empty() && entries.is_empty()) {
                return Err(bad().into());
            }
            return Ok(Self::new(bins).with_skipped(skipped));
        };
        if !(min.is_finite() && max.is_finite() && min <= max) {
            return Err(bad().into());
        }
        let (min, max) = (min + 0.0, max + 0.0);
        let span = Span::new(min, max, bins);
        // A value at each extreme: the first and the last bin are never empty.
        let counts = if entries.is_empty() {
            let ends = [counts.first(), counts.last()].into_iter().all(|end| end.is_some_and(|&n| n > 0));
            if counts.len() != span.bins || !ends {
                return Err(bad().into());
            }
            Counts::from_dense(&counts)?
        } else {
            let ordered = entries.windows(2).all(|pair| matches!(pair, [a, b] if a.0 < b.0));
            let filled = entries.iter().all(|entry| entry.1 > 0);
            let ends = [entries.first(), entries.last()].map(|end| end.map(|end| end.0 as usize));
            if !(counts.is_empty() && ordered && filled && ends == [Some(0), Some(span.bins - 1)]) {
                return Err(bad().into());
            }
            Counts::from_entries(&entries, span.bins)?
        };
        Ok(Self::from_parts(bins, (min, max), span, counts).with_skipped(skipped))
    }
}
