//! Regions that no cache holds: the search runs on a summary of the values, and all of them decide.
//!
//! Equal bins with their means tell the error of a grid but for what values are apart within a bin and for the bins in
//! which a code changes. The former is the same for all grids, and the latter is as small as bins are next to the steps of
//! the grid, so that only the last digits of the best grid are left to the values.

use super::Points;
use crate::element::{Element, FloatType, Real};
use crate::kernel::bins::{Fineness, fine_bins};

/// From so many values on, more bins are worth their cost.
const MANY: usize = 1 << 20;

/// Values, in ascending order, and how many of the others each stands for.
#[derive(Debug)]
pub(super) struct Summary {
    values: Vec<f64>,
    weights: Vec<f64>,
}

impl Summary {
    /// The summary of values without weights. `None` where the interval of the values cannot be divided.
    pub(super) fn new<T: Real>(points: &Points<'_, T>) -> Option<Self> {
        let fineness = if points.values.len() < MANY { Fineness::Medium } else { Fineness::Fine };
        let (low, high) = (T::from_f64(points.low), T::from_f64(points.high));
        let bins = fine_bins(points.values, low, high, fineness)?;
        let width = (points.high - points.low) / bins.len() as f64;
        let filled = bins.iter().enumerate().filter(|(_, bin)| bin.count > 0);
        let (values, weights) = filled
            .map(|(i, bin)| {
                let count = bin.count as f64;
                (points.low + (i as f64 + bin.offset / count) * width, count)
            })
            .unzip();
        Some(Self { values, weights })
    }

    /// The summary as points between the extremes of the values.
    pub(super) fn points(&self, low: f64, high: f64) -> Points<'_, f64> {
        Points { values: &self.values, weights: Some(&self.weights), low, high }
    }
}

/// The different values in ascending order and how much each counts, if they are at most `most`.
pub(super) fn different<T: Real>(points: &Points<'_, T>, most: usize) -> Option<(Vec<f64>, Vec<f64>)> {
    // Four places for each, so that most are found at the first look.
    let mask = (4 * most.max(1)).next_power_of_two() - 1;
    let mut places: Vec<Option<(f64, f64)>> = vec![None; mask + 1];
    let mut found = 0;
    let mut weights = points.weights.unwrap_or_default().iter();
    for &x in points.values {
        // Of the zeros the positive one.
        let x = Element::to_f64(x) + 0.0;
        let weight = weights.next().copied().unwrap_or(1.0);
        // The upper bits of a product with an odd number depend on all bits.
        let mut at = (x.to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        loop {
            let place = places.get_mut(at & mask)?;
            match place {
                Some((value, sum)) if *value == x => {
                    *sum += weight;
                    break;
                }
                Some(_) => at += 1,
                None if found == most => return None,
                None => {
                    *place = Some((x, weight));
                    found += 1;
                    break;
                }
            }
        }
    }
    let mut pairs: Vec<(f64, f64)> = places.into_iter().flatten().collect();
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    Some(pairs.into_iter().unzip())
}

/// What the squared error of a grid is at least, by what arithmetic of `T` makes of it.
pub(super) fn at_least<T: Real>(error: f64, squares: f64) -> f64 {
    // A quotient x / S is off by two roundings of itself, and the sum by no more than this part.
    let rounding = if T::TYPE == FloatType::F64 { 1e-15 } else { 1.5e-7 };
    let root = error.sqrt() * (1.0 - 1e-4) - rounding * squares.sqrt();
    root.max(0.0) * root.max(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::extremes;
    use super::*;
    use crate::solve::samples::SplitMix64;

    #[test]
    fn different_values_are_counted_while_they_are_few() {
        let values = [3.0_f32, -0.0, 0.0, 3.0, -1.5, 3.0];
        let points = Points { values: &values, weights: None, low: -1.5, high: 3.0 };
        assert_eq!(different(&points, 3), Some((vec![-1.5, 0.0, 3.0], vec![1.0, 2.0, 3.0])));
        assert_eq!(different(&points, 2), None);
        let weights = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        let points = Points { weights: Some(&weights), ..points };
        assert_eq!(different(&points, 3), Some((vec![-1.5, 0.0, 3.0], vec![16.0, 6.0, 41.0])));
        let values: Vec<f64> = (0..4096).map(|i| f64::from(i % 256) * 0.1).collect();
        let points = Points { values: &values, weights: None, low: 0.0, high: 25.5 };
        let (found, counts) = different(&points, 256).unwrap();
        assert_eq!(found, values[..256]);
        assert_eq!(counts, [16.0; 256]);
        assert_eq!(different(&points, 255), None);
    }

    #[test]
    fn a_summary_keeps_count_mean_and_nearly_the_squares() {
        let mut random = SplitMix64(17);
        let values: Vec<f32> = (0..200_000).map(|_| random.laplace() as f32).collect();
        let (low, high) = extremes(&values);
        let summary = Summary::new(&Points { values: &values, weights: None, low, high }).unwrap();
        let Summary { values: means, weights } = &summary;
        assert!(means.is_sorted() && means.len() <= 1 << 14);
        assert_eq!(weights.iter().sum::<f64>(), 200_000.0);
        let sums =
            |power: i32| means.iter().zip(weights).map(|(x, weight)| weight * x.powi(power)).sum::<f64>();
        let exact = |power: i32| values.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>();
        // Positions are rounded to half a unit of 2^-23, and f32 differences as much.
        assert!((sums(1) - exact(1)).abs() <= 200_000.0 * (high - low) * 2.0_f64.powi(-22));
        let width = (high - low) / f64::from(1 << 14);
        assert!((sums(2) - exact(2)).abs() <= 200_000.0 * width * width / 4.0 + exact(2) * 1e-5);
    }
}
