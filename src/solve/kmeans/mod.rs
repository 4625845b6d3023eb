//! One-dimensional k-means: the k values with the least sum of squared distances from given ones,
//!
//! ```text
//! min over c of  E = sum_i h_i min_j (x_i - c_j)^2,      c_j = sum h x / sum h over its cluster.
//! ```
//!
//! Gong et al. 2014, *Compressing Deep Convolutional Networks using Vector Quantization*, and Wu et al. 2016,
//! *Quantized Convolutional Neural Networks for Mobile Devices*, cluster weights (h = 1). Choi, El-Khamy and Lee
//! 2017, *Towards the Limit of Network Quantization*, weigh them with the diagonal of the Hessian (equations 5
//! and 6), Kim et al. 2024, *SqueezeLLM*, with squared gradients.
//!
//! In one dimension clusters are runs of the sorted values, and the best ones can be found in about n log n
//! ([`path`]). Up to [`EXACT`] values that is what happens ([`exact`]). More are first counted in fine bins, whose
//! means are then points with weights ([`histogram`]); what that loses is bounded, and far below what Lloyd's
//! iteration ([`lloyd`]) loses in its local minima.

mod exact;
mod histogram;
#[cfg(test)]
mod lloyd;
mod moments;
mod path;
mod refine;
#[cfg(test)]
mod tests;

pub(crate) use moments::power_of_two;

use crate::element::Real;
use moments::Points;

/// Up to so many values are sorted, and the result is the best of all.
pub(crate) const EXACT: usize = 1 << 16;

/// More values than that are sorted too where there are so few for each cluster.
const FEW_EACH: usize = 16;

/// Clusters of values on a line.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Clusters {
    /// The k centroids, ascending. Where there are fewer distinct values than k, the centroids are the values
    /// themselves, and the last of them is repeated.
    pub centroids: Vec<f64>,
    /// The sum of squared distances, with the weights as given. Where it is not exact, the values are taken to lie
    /// evenly within their bins.
    pub squared_error: f64,
    /// Whether no other centroids are better, up to rounding. (Another set may be as good.)
    pub exact: bool,
}

impl Clusters {
    fn new(mut centroids: Vec<f64>, squared_error: f64, k: usize) -> Option<Self> {
        let last = *centroids.last()?;
        centroids.resize(k.max(1), last);
        Some(Self { centroids, squared_error, exact: true })
    }
}

/// The best k centroids of `values`. `None` if there are none (values that are not finite do not count); k of 0
/// counts as 1.
///
/// Up to [`EXACT`] values the error is the least possible, to rounding. Of more values it is usually within
/// 3e-5 (relative) of the least for 16 centroids and within 3e-4 for 256: clusters end at bins, which are made so
/// narrow that the spread within them is at most `2e-6 k` of the error, 5e-4 at most.
///
/// Time: sorted values about a microsecond each, whatever k is. Of more values 1 ns for each and some
/// milliseconds; where a few outliers crowd the others into few bins, another 10 ns or so for each of the passes
/// that divide these bins. Memory: about 100 bytes for each value that is sorted, otherwise 5 MB. One thread.
pub(crate) fn kmeans<T: Real>(values: &[T], k: usize) -> Option<Clusters> {
    cluster::<T, T>(values, None, k.max(1))
}

/// [`kmeans`] of values with a weight each, which is not negative. What has no weight of its own (or an invalid
/// one) has none; if nothing has weight, all weights are equal.
///
/// Time: as for [`kmeans`], with 5 ns instead of 1 for each of many values.
pub(crate) fn kmeans_weighted<T: Real, H: Real>(values: &[T], weights: &[H], k: usize) -> Option<Clusters> {
    let values = values.get(..weights.len()).unwrap_or(values);
    let clusters = cluster(values, Some(weights), k.max(1));
    // Without any weight there is no error.
    let weighed = weights.iter().any(|weight| *weight > H::zero() && weight.is_finite());
    clusters.map(|found| if weighed { found } else { Clusters { squared_error: 0.0, ..found } })
}

/// The best k centroids of `points` that stand for so many equal values each, as the bins of a histogram do. The
/// error is that of the points, and the least possible.
pub(crate) fn kmeans_of_points(points: &[f64], counts: &[u64], k: usize) -> Option<Clusters> {
    let some = points.iter().zip(counts).filter(|&(_, &count)| count > 0);
    let (values, weights): (Vec<f64>, Vec<f64>) = some.map(|(&x, &count)| (x, count as f64)).unzip();
    exact::solve(&Points::collect(&values, Some(&weights)), k.max(1))
}

fn cluster<T: Real, H: Real>(values: &[T], weights: Option<&[H]>, k: usize) -> Option<Clusters> {
    if values.len() > EXACT
        && values.len() / FEW_EACH > k
        && let Some(clusters) = histogram::solve(values, weights, k)
    {
        return Some(clusters);
    }
    exact::solve(&Points::collect(values, weights), k)
}
