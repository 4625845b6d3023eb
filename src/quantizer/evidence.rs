//! What is known of a region, in the forms that solvers take: values with their importance, or the bins of a histogram
//! with their counts.

use crate::calibration::{Evidence, Region, Values};
use crate::solve::empirical::Empirical;
use crate::solve::magnitudes::Magnitudes;

/// The magnitudes of a region's values, weighted by importance or by the counts of bins. `None` if all of them are zero
/// or there are none.
pub(super) fn magnitudes(region: &Region<'_>) -> Option<Magnitudes> {
    match (region.evidence(), region.importance()) {
        (Evidence::Values(Values::F32(values)), None) => Magnitudes::new(values),
        (Evidence::Values(Values::F64(values)), None) => Magnitudes::new(values),
        _ => Magnitudes::weighted(points(region)),
    }
}

/// The distribution of a region's values, weighted as [`magnitudes`]. `None` if there are none that weigh.
pub(super) fn empirical(region: &Region<'_>) -> Option<Empirical> {
    let (values, weights): (Vec<f64>, Vec<f64>) = points(region).into_iter().unzip();
    let weighted = region.importance().is_some() || matches!(region.evidence(), Evidence::Histogram(_));
    Empirical::new(&values, weighted.then_some(&weights))
}

/// Values with their weights; the middles of bins with their counts.
pub(super) fn points(region: &Region<'_>) -> Vec<(f64, f64)> {
    match (region.evidence(), region.importance()) {
        (Evidence::Values(values), None) => values.iter().map(|value| (value, 1.0)).collect(),
        (Evidence::Values(values), Some(importance)) => values.iter().zip(importance.iter()).collect(),
        (Evidence::Histogram(histogram), _) => {
            let bins = histogram.counts().iter().enumerate().filter(|&(_, &count)| count > 0);
            // No value lies beyond the extremes, in the outer bins either.
            let value = |bin| histogram.center(bin).clamp(histogram.min(), histogram.max());
            bins.map(|(bin, &count)| (value(bin), count as f64)).collect()
        }
    }
}
