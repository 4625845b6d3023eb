//! Percentiles: a given share of the values is clipped.
//!
//! McKinstry et al. 2019, *Discovering low-precision networks close to full-precision networks for efficient
//! embedded inference* (99.99 for 8 bits); survey, III-C.

use core::fmt;

use crate::element::Real;
use crate::error::{ConfigError, DataError, Result};
use crate::names::named;
use crate::solve::quantile::{self, Of, Percent};
use crate::tensor::{ClippingRange, Scheme};

use super::evidence::{Evidence, Values};
use super::{Calibrated, Calibration, Ranges, Region, Regions, or_min_max, range_or_zero};

/// Which ends of an asymmetric range are percentiles. Symmetric ranges always use the magnitudes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Tails {
    /// Both: p percent of the values are kept and (100 − p)/2 percent cut off at each end. The default.
    #[default]
    Both,
    /// The upper end is the p-th percentile, the lower one the minimum.
    Upper,
    /// The lower end is the p-th percentile from above, the upper one the maximum.
    Lower,
}

/// Which value stands for a percentile that falls between two order statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Interpolation {
    /// The nearest rank: the k-th smallest value with the first k for which `k/n ≥ p/100`, found in
    /// integers. The default.
    #[default]
    NearestRank,
    /// Linear between the two neighbours of position `p/100 · (n − 1)`: NumPy's default.
    Linear,
}

named!(Tails, "tails", [Both => "both", Upper => "upper", Lower => "lower"]);
named!(Interpolation, "interpolation", [NearestRank => "nearest-rank", Linear => "linear"]);

/// Clips what lies beyond a percentile.
///
/// For symmetric schemes the range is ± the percentile of the magnitudes; for asymmetric ones see
/// [`Tails`]. On values the order statistics are exact (selection, O(n); of a small region one copy is made, of a large one
/// only the values near the percentile are copied); on a histogram the result is the lower edge of the bin in which the rank is reached. Where most values are
/// zero the percentile may be zero too: the region then falls back to its minimum and maximum, and the
/// quantized tensor says so.
///
/// ```
/// use lowbit::prelude::*;
///
/// let recipe = Uniform::symmetric(BitWidth::EIGHT).calibration(Percentile::new(99.9)?);
/// assert!(Percentile::new(0.0).is_err() && Percentile::new(101.0).is_err());
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentile {
    percent: f64,
    /// The percentile, and the one that leaves half as much at each of two ends.
    one_tail: Percent,
    each_tail: Percent,
    tails: Tails,
    interpolation: Interpolation,
}

impl Percentile {
    /// The percentile `percent`, 99.99 for instance, by nearest rank.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Percentile`] unless `percent` is above 0 and at most 100.
    pub fn new(percent: f64) -> Result<Self, ConfigError> {
        let above = 0.0;
        match Percent::new(percent).filter(|_| percent > above) {
            Some(one_tail) => Ok(Self {
                percent,
                one_tail,
                each_tail: one_tail.each_of_two_tails(),
                tails: Tails::default(),
                interpolation: Interpolation::default(),
            }),
            None => Err(ConfigError::Percentile { percent, above }),
        }
    }

    /// The same percentile at other ends of asymmetric ranges.
    pub const fn tails(mut self, tails: Tails) -> Self {
        self.tails = tails;
        self
    }

    /// The same percentile by another rule between two values.
    pub const fn interpolation(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }

    /// The range of `region`; `buffers` take the values that selection reorders.
    fn range_in(&self, region: &Region<'_>, scheme: &Scheme, buffers: &mut Buffers) -> Result<Calibrated> {
        let symmetric = scheme.is_symmetric();
        let found = match region.evidence() {
            Evidence::Values(Values::F32(values)) => self.of_values(values, symmetric, &mut buffers.f32),
            Evidence::Values(Values::F64(values)) => self.of_values(values, symmetric, &mut buffers.f64),
            Evidence::Histogram(histogram) => self.of_histogram(histogram, symmetric),
        };
        let (low, high) = found.ok_or(DataError::NoData { region: region.index() })?;
        or_min_max(ClippingRange::new(low, high)?, region)
    }

    fn of_values<T: Real>(&self, values: &[T], symmetric: bool, buffer: &mut Vec<T>) -> Option<(f64, f64)> {
        if symmetric {
            let high = self.upper(values, Of::Magnitudes, self.one_tail, buffer)?;
            return Some((-high, high));
        }
        if self.tails == Tails::Both && self.interpolation == Interpolation::NearestRank {
            let [low, high] = quantile::nearest_ranks(values, self.each_tail, buffer)?;
            let (low, high) = (crate::element::Element::to_f64(low), crate::element::Element::to_f64(high));
            return Some((low.min(high), high.max(low)));
        }
        let (low, high) = match self.tails {
            Tails::Both => (Some(self.each_tail), Some(self.each_tail)),
            Tails::Upper => (None, Some(self.one_tail)),
            Tails::Lower => (Some(self.one_tail), None),
        };
        let fold = |values: &[T], least: fn(f64, f64) -> f64| {
            values.iter().map(|value| crate::element::Element::to_f64(*value)).reduce(least)
        };
        let high = match high {
            Some(percent) => self.upper(values, Of::Values, percent, buffer),
            None => fold(values, f64::max),
        };
        let low = match low {
            Some(percent) => self.lower(values, percent, buffer),
            None => fold(values, f64::min),
        };
        // A small p may put the low percentile above the high one.
        Some((low?.min(high?), high?.max(low?)))
    }

    fn upper<T: Real>(&self, values: &[T], of: Of, percent: Percent, buffer: &mut Vec<T>) -> Option<f64> {
        match self.interpolation {
            Interpolation::NearestRank => {
                quantile::nearest_rank(values, of, percent, buffer).map(crate::element::Element::to_f64)
            }
            Interpolation::Linear => quantile::linear(values, of, percent, buffer),
        }
    }

    fn lower<T: Real>(&self, values: &[T], percent: Percent, buffer: &mut Vec<T>) -> Option<f64> {
        match self.interpolation {
            Interpolation::NearestRank => quantile::nearest_rank_low(values, Of::Values, percent, buffer)
                .map(crate::element::Element::to_f64),
            Interpolation::Linear => quantile::linear(values, Of::Values, percent.complement(), buffer),
        }
    }

    fn of_histogram(&self, histogram: &super::Histogram, symmetric: bool) -> Option<(f64, f64)> {
        let edge = |histogram: &super::Histogram, percent| {
            quantile::histogram_bin(histogram.counts(), percent).map(|bin| histogram.edge(bin))
        };
        if symmetric {
            let high = edge(&histogram.magnitudes()?, self.one_tail)?;
            return Some((-high, high));
        }
        let (low, high) = match self.tails {
            Tails::Both => (Some(self.each_tail), Some(self.each_tail)),
            Tails::Upper => (None, Some(self.one_tail)),
            Tails::Lower => (Some(self.one_tail), None),
        };
        let high = match high {
            Some(percent) => edge(histogram, percent)?,
            None => histogram.max(),
        };
        let low = match low {
            Some(percent) => -edge(&histogram.mirrored()?, percent)?,
            None => histogram.min(),
        };
        Some((low.min(high), high.max(low)))
    }
}

impl Calibration for Percentile {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        self.range_in(region, scheme, &mut Buffers::default())
    }

    fn ranges(&self, regions: &Regions<'_, '_>, scheme: &Scheme) -> Result<Ranges> {
        // As by default, but with one copy of a region for each thread instead of one for each region.
        let found = regions.map_with(Buffers::default, |buffers, region| {
            range_or_zero(self, region, |region| self.range_in(region, scheme, buffers))
        })?;
        Ok(found.into_iter().collect())
    }
}

/// Values of a region to be reordered.
#[derive(Default)]
struct Buffers {
    f32: Vec<f32>,
    f64: Vec<f64>,
}

/// `percentile(99.9)`, `percentile(99.9, tails=upper, interpolation=linear)`
impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "percentile({}", self.percent)?;
        if self.tails != Tails::default() {
            write!(f, ", tails={}", self.tails)?;
        }
        if self.interpolation != Interpolation::default() {
            write!(f, ", interpolation={}", self.interpolation)?;
        }
        f.write_str(")")
    }
}
