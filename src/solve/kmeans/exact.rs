//! Exact k-means: values are sorted, equal ones collapse into one point, and the points are divided by a shortest
//! path.

use core::cmp::Ordering;

use super::Clusters;
use super::moments::{Compensated, Frame, Plain, Points};
use super::path::shortest_path;
use crate::element::{Element, Real};

/// A division is as good as exact if rounding can have hidden less than this part of its error.
const PRECISION: f64 = 2e-13;

/// Spans from which the first penalty is guessed.
const SPANS: usize = 256;

impl Points {
    /// The distinct finite values with the sum of the weights of each; those of no weight are left out, unless
    /// none has one. The order of the values makes no difference.
    pub(super) fn collect<T: Real, H: Real>(values: &[T], weights: Option<&[H]>) -> Self {
        let finite = |x: &T| x.is_finite();
        let Some(weights) = weights else {
            let mut sorted: Vec<T> = values.iter().copied().filter(finite).collect();
            sorted.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
            return Self::collapse(sorted.iter().map(|&x| (Element::to_f64(x) + 0.0, 1.0)));
        };
        let pairs = values.iter().zip(weights).filter(|(x, _)| x.is_finite());
        let pairs = pairs.map(|(&x, &weight)| (Element::to_f64(x) + 0.0, Element::to_f64(weight)));
        let mut sorted: Vec<(f64, f64)> = pairs.filter(|(_, w)| *w > 0.0 && w.is_finite()).collect();
        if sorted.is_empty() {
            return Self::collect::<T, H>(values, None);
        }
        // Equal values by weight, so that their sum is rounded in one way.
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        Self::collapse(sorted.into_iter())
    }

    fn collapse(sorted: impl ExactSizeIterator<Item = (f64, f64)>) -> Self {
        let mut points =
            Self { x: Vec::with_capacity(sorted.len()), weight: Vec::with_capacity(sorted.len()) };
        for (x, w) in sorted {
            match (points.x.last(), points.weight.last_mut()) {
                (Some(&last), Some(weight)) if last == x => *weight += w,
                _ => {
                    points.x.push(x);
                    points.weight.push(w);
                }
            }
        }
        points
    }

    /// The penalty of k links by the formula of Panter and Dite (1951) for many levels,
    /// `E(k) = (integral of the density^(1/3))^3 / (12 k^2)`.
    pub(super) fn penalty(&self, k: usize) -> f64 {
        let span = self.len().div_ceil(SPANS).max(1);
        let mut integral = 0.0;
        let mut first = self.x.first().copied().unwrap_or(0.0);
        for (x, weight) in self.x.chunks(span).zip(self.weight.chunks(span)) {
            let last = x.last().copied().unwrap_or(first);
            integral += (weight.iter().sum::<f64>() * (last - first) * (last - first)).cbrt();
            first = last;
        }
        integral.powi(3) / (6.0 * (k as f64).powi(3))
    }
}

/// The best clusters of `points`, `None` if there are none.
pub(super) fn solve(points: &Points, k: usize) -> Option<Clusters> {
    if points.len() <= k {
        return Clusters::new(points.x.clone(), 0.0, k);
    }
    let (normal, frame) = points.normalized();
    let plain = Plain::new(&normal);
    let (cuts, penalty) = shortest_path(&plain, k, normal.penalty(k));
    let (centroids, error) = finish(points, &frame, &cuts);
    if f64::EPSILON * plain.square() <= PRECISION * error {
        return Clusters::new(centroids, frame.squared_error(error), k);
    }
    drop(plain);
    let (cuts, _) = shortest_path(&Compensated::new(&normal), k, penalty);
    let again = finish(points, &frame, &cuts);
    let (centroids, error) = if again.1 < error { again } else { (centroids, error) };
    Clusters::new(centroids, frame.squared_error(error), k)
}

/// The means of the runs, and their error in units of the frame, from the points themselves.
pub(super) fn finish(points: &Points, frame: &Frame, cuts: &[usize]) -> (Vec<f64>, f64) {
    let mut centroids = Vec::with_capacity(cuts.len());
    let mut error = 0.0;
    for ends in cuts.windows(2) {
        let (Some(x), Some(weights)) = (points.x.get(ends[0]..ends[1]), points.weight.get(ends[0]..ends[1]))
        else {
            continue;
        };
        let (Some(&first), Some(&last)) = (x.first(), x.last()) else { continue };
        // From the first point of the run, where nothing cancels.
        let offset = |x: f64| Frame { center: first, ..*frame }.inward(x);
        let (mut weight, mut moment) = (0.0, 0.0);
        for (&x, w) in x.iter().zip(weights) {
            weight += w / frame.weight_unit;
            moment += w / frame.weight_unit * offset(x);
        }
        let mean = moment / weight;
        for (&x, w) in x.iter().zip(weights) {
            let difference = offset(x) - mean;
            error += w / frame.weight_unit * (difference * difference);
        }
        let half = mean * 0.5 * frame.unit;
        centroids.push((first + half + half).clamp(first, last));
    }
    (centroids, error)
}
