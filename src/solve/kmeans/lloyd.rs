//! Plain k-means by Lloyd's iteration: Lloyd 1957/1982, *Least Squares Quantization in PCM*, with the linear
//! initialization of Han et al. 2016, *Deep Compression*, the least and the largest value and equal steps between.
//!
//! ```text
//! a(i) = argmin_j (x_i - c_j)^2,      c_j = sum_{a(i) = j} h_i x_i / sum_{a(i) = j} h_i
//! ```
//!
//! It creeps towards whatever local minimum the start leads to: near the best with a few centroids on a bell curve,
//! several times the best error with hundreds of them or with outliers, after hundreds of iterations. Here it is
//! what the other solvers are measured against.

use super::Clusters;
use crate::element::{Element, Real};

/// Lloyd's iteration from equal steps, until nothing changes or for `iterations`. A value in the middle belongs
/// to the lower centroid, an empty cluster keeps its centroid. `None` if there is no finite value.
///
/// Time O(n log k) for each iteration.
pub(crate) fn lloyd<T: Real, H: Real>(
    values: &[T],
    weights: Option<&[H]>,
    k: usize,
    iterations: usize,
) -> Option<Clusters> {
    let weight = |i: usize| match weights {
        None => 1.0,
        Some(weights) => weights.get(i).map_or(0.0, |&w| Element::to_f64(w)),
    };
    let finite = || values.iter().map(|&x| Element::to_f64(x)).enumerate().filter(|(_, x)| x.is_finite());
    let (low, high) =
        finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, x)| (low.min(x), high.max(x)));
    if low > high {
        return None;
    }
    let k = k.max(1);
    let last = (k - 1).max(1) as f64;
    let mut centroids: Vec<f64> =
        (0..k).map(|i| low * (1.0 - i as f64 / last) + high * (i as f64 / last)).collect();
    let mut sums = vec![(0.0, 0.0); k];
    let mut error = 0.0;
    for iteration in 0..=iterations {
        let middles: Vec<f64> = centroids.windows(2).map(|pair| 0.5 * pair[0] + 0.5 * pair[1]).collect();
        sums.fill((0.0, 0.0));
        error = 0.0;
        for (i, x) in finite() {
            let j = middles.partition_point(|&middle| middle < x);
            let (Some(sum), Some(c)) = (sums.get_mut(j), centroids.get(j)) else { continue };
            let h = weight(i);
            *sum = (sum.0 + h, sum.1 + h * x);
            error += h * (x - c) * (x - c);
        }
        if iteration == iterations {
            break;
        }
        let mut changed = false;
        for (centroid, sum) in centroids.iter_mut().zip(&sums) {
            let mean = sum.1 / sum.0;
            if sum.0 > 0.0 && mean.is_finite() && mean != *centroid {
                (*centroid, changed) = (mean, true);
            }
        }
        if !changed {
            break;
        }
    }
    Clusters::new(centroids, error, k)
}
