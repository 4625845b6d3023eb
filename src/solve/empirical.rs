//! The distribution of given values, with optional weights, behind the same door as a density.
//!
//! The values are sorted once; equal values collapse to one point with the sum of their weights. Running sums of
//! w, w·(x − m) and w·(x − m)², where m is the median, then give the moments of any interval in O(log n). They are
//! held to twice the digits of a number, as otherwise an outlier would leave nothing of the rest.
//!
//! Values are held in units of a power of two near the largest magnitude, so that squares neither overflow
//! nor vanish, whatever the scale of the data.

use super::density::{Moments, Source};

/// The distribution of given values.
#[derive(Debug, Clone)]
pub(crate) struct Empirical {
    /// Distinct values, ascending, in units.
    points: Vec<f64>,
    /// The share of each in the whole weight.
    shares: Vec<f64>,
    /// The moments about `middle` of the points before each, and of all, with what rounding took from them.
    running: Vec<(Moments, Moments)>,
    middle: f64,
    unit: f64,
}

/// A sum and what rounding took from it (Knuth).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

impl Empirical {
    /// The distribution of `values`, where value i counts `weights[i]` times, or once without weights. Values
    /// of weight zero are left out.
    ///
    /// `None` without any value of positive weight, if there are values that are not finite or weights that
    /// are negative or not finite, and where weights are not as many as values.
    ///
    /// Time O(n log n), memory 8 numbers per distinct value.
    pub(crate) fn new(values: &[f64], weights: Option<&[f64]>) -> Option<Self> {
        let valid = |weight: f64| weight.is_finite() && weight >= 0.0;
        if !values.iter().all(|x| x.is_finite()) {
            return None;
        }
        let mut pairs: Vec<(f64, f64)> = match weights {
            None => values.iter().map(|&x| (x, 1.0)).collect(),
            Some(weights) if weights.len() == values.len() && weights.iter().all(|&w| valid(w)) => {
                // Scaled, so that no sum of weights overflows.
                let largest = weights.iter().fold(0.0, |largest: f64, &w| largest.max(w));
                values
                    .iter()
                    .zip(weights)
                    .map(|(&x, &w)| (x, w / largest))
                    .filter(|pair| pair.1 > 0.0)
                    .collect()
            }
            Some(_) => return None,
        };
        if pairs.is_empty() {
            return None;
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));

        let largest = pairs.iter().fold(0.0, |largest: f64, pair| largest.max(pair.0.abs()));
        let unit = if largest > 0.0 { libm::ldexp(1.0, libm::frexp(largest).1 - 1) } else { 1.0 };
        let total: f64 = pairs.iter().map(|pair| pair.1).sum();

        let (mut points, mut shares): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        for (x, weight) in pairs {
            let (x, share) = (x / unit, weight / total);
            match (points.last(), shares.last_mut()) {
                (Some(&last), Some(sum)) if last == x => *sum += share,
                _ => {
                    points.push(x);
                    shares.push(share);
                }
            }
        }
        let middle = points.get(points.len() / 2).copied().unwrap_or_default();
        let mut running = Vec::with_capacity(points.len() + 1);
        let (mut sum, mut lost) = (Moments::default(), Moments::default());
        running.push((sum, lost));
        for (x, &mass) in points.iter().zip(&shares) {
            let distance = x - middle;
            let part = Moments { mass, first: mass * distance, second: mass * distance * distance };
            let (mass, first, second) = (
                two_sum(sum.mass, part.mass),
                two_sum(sum.first, part.first),
                two_sum(sum.second, part.second),
            );
            sum = Moments { mass: mass.0, first: first.0, second: second.0 };
            lost = lost.plus(Moments { mass: mass.1, first: first.1, second: second.1 });
            running.push((sum, lost));
        }
        Some(Self { points, shares, running, middle, unit })
    }

    /// The distinct values, ascending, in units.
    pub(crate) fn points(&self) -> &[f64] {
        &self.points
    }

    /// Each point with its share in the whole weight.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.points.iter().copied().zip(self.shares.iter().copied())
    }

    /// How many points are below `x`.
    pub(crate) fn below(&self, x: f64) -> usize {
        self.points.partition_point(|&point| point < x)
    }

    /// The mean of the points of each cell, summed point by point: a point alone in its cell is its own mean
    /// exactly. Cells as in [`squared_error`](Self::squared_error); none of them is empty.
    pub(crate) fn centroids(&self, thresholds: &[f64]) -> Vec<f64> {
        let ends = thresholds.iter().map(|&threshold| self.below(threshold)).chain([self.points.len()]);
        let mut start = 0;
        ends.map(|end| {
            let cell = self.shares().take(end).skip(start);
            let first = self.points.get(start).copied().unwrap_or_default();
            start = end;
            let (mass, sum) =
                cell.fold((0.0, 0.0), |(mass, sum), (x, share)| (mass + share, sum + share * (x - first)));
            first + sum / mass
        })
        .collect()
    }

    /// The mean squared distance of the points to the level of their cell, where `thresholds` separate the cells
    /// and a point on a threshold belongs to the upper one: point by point, so that nothing cancels.
    pub(crate) fn squared_error(&self, levels: &[f64], thresholds: &[f64]) -> f64 {
        let (mut levels, mut thresholds) = (levels.iter(), thresholds.iter().peekable());
        let mut level = levels.next().copied().unwrap_or_default();
        let mut sum = 0.0;
        for (x, share) in self.shares() {
            while thresholds.next_if(|&&threshold| x >= threshold).is_some() {
                level = levels.next().copied().unwrap_or(level);
            }
            sum += share * (x - level) * (x - level);
        }
        sum
    }
}

impl Source for Empirical {
    fn moments(&self, low: f64, high: f64, center: f64) -> Moments {
        /// Up to so many points are summed themselves: as fast, and exact where their share is tiny.
        const FEW: usize = 32;
        let (start, end) = (self.below(low), self.below(high));
        let (Some(points), Some(shares)) = (self.points.get(start..end), self.shares.get(start..end)) else {
            return Moments::default();
        };
        let (Some(&least), Some(&largest)) = (points.first(), points.last()) else {
            return Moments::default();
        };
        if points.len() <= FEW {
            return points.iter().zip(shares).fold(Moments::default(), |sum, (x, &mass)| {
                let distance = x - center;
                sum.plus(Moments { mass, first: mass * distance, second: mass * distance * distance })
            });
        }
        let at = |index: usize| self.running.get(index).copied().unwrap_or_default();
        let (a, b) = (at(start), at(end));
        let Moments { mass, first, second } = b.0.less(a.0).plus(b.1.less(a.1));
        let distance = center - self.middle;
        let mean = (first - distance * mass).max(mass * (least - center)).min(mass * (largest - center));
        Moments {
            mass,
            first: mean,
            second: (second - 2.0 * distance * first + distance * distance * mass).max(0.0),
        }
    }

    /// Half way between the outermost values: the ends of a cell may be far from them.
    fn center(&self, low: f64, high: f64) -> f64 {
        match self.points.get(self.below(low)..self.below(high)) {
            Some([least, .., largest]) => least + 0.5 * (largest - least),
            Some([point]) => *point,
            _ => 0.0,
        }
    }

    fn quantile(&self, p: f64) -> f64 {
        let total = self.running.last().map_or(0.0, |all| all.0.mass);
        let index = self.running.partition_point(|before| before.0.mass < p * total).saturating_sub(1);
        self.points.get(index).or(self.points.last()).copied().unwrap_or_default()
    }

    /// The upper end is beyond the largest value, which [low, high) would leave out.
    fn support(&self) -> (f64, f64) {
        (self.points.first().copied().unwrap_or_default(), f64::INFINITY)
    }

    fn unit(&self) -> f64 {
        self.unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_few_values() {
        let source = Empirical::new(&[3.0, 1.0, 1.0, 2.0], None).unwrap();
        assert_eq!((source.unit(), source.points()), (2.0, &[0.5, 1.0, 1.5][..]));
        let found = source.moments(0.5, 1.5, 1.0);
        assert_eq!(found, Moments { mass: 0.75, first: -0.25, second: 0.125 });
        assert_eq!(source.moments(0.6, 0.9, 0.0), Moments::default());
        assert_eq!(source.moments(f64::NEG_INFINITY, f64::INFINITY, 0.875).first, 0.0);
        for (p, x) in [(0.0, 0.5), (0.5, 0.5), (0.51, 1.0), (0.75, 1.0), (0.76, 1.5), (1.0, 1.5)] {
            assert_eq!(source.quantile(p), x, "{p}");
        }
        // 0.5, 0.5 | 1.0, 1.5
        assert_eq!(source.centroids(&[1.0]), [0.5, 1.25]);
        assert_eq!(source.squared_error(&[0.5, 1.25], &[1.0]), 2.0 * 0.0625 / 4.0);
    }

    #[test]
    fn weights_are_repetitions() {
        let repeated = Empirical::new(&[-1.0, 4.0, 4.0, 4.0, 7.0, 7.0], None).unwrap();
        let weighted = Empirical::new(&[7.0, -1.0, 9.0, 4.0], Some(&[2.0, 1.0, 0.0, 3.0])).unwrap();
        assert_eq!(repeated.points(), weighted.points());
        let (a, b) = (repeated.moments(0.0, 8.0, 1.0), weighted.moments(0.0, 8.0, 1.0));
        assert!((a.mass - b.mass).abs() < 1e-15 && (a.second - b.second).abs() < 1e-15, "{a:?} {b:?}");
    }

    #[test]
    fn what_is_no_distribution() {
        assert!(Empirical::new(&[], None).is_none());
        assert!(Empirical::new(&[1.0, f64::NAN], None).is_none());
        assert!(Empirical::new(&[1.0, f64::INFINITY], None).is_none());
        assert!(Empirical::new(&[1.0, 2.0], Some(&[1.0])).is_none());
        for weight in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(Empirical::new(&[1.0, 2.0], Some(&[1.0, weight])).is_none());
        }
        assert!(Empirical::new(&[1.0, 2.0], Some(&[0.0, 0.0])).is_none());
    }

    #[test]
    fn any_scale() {
        for scale in [5e-324, 1e-200, 1.0, f64::MAX] {
            let source = Empirical::new(&[scale, 0.0, -scale], None).unwrap();
            let second = source.moments(f64::NEG_INFINITY, f64::INFINITY, 0.0).second;
            assert!((1.0 / 6.0..8.0 / 3.0).contains(&second) && source.unit() > 0.0, "{scale:e}: {second}");
            assert_eq!(source.points().last().map(|x| x * source.unit()), Some(scale));
        }
        let weights = Empirical::new(&[1.0, 2.0], Some(&[f64::MAX, f64::MAX])).unwrap();
        assert_eq!(weights.moments(0.0, 0.75, 0.0).mass, 0.5);
        let zeros = Empirical::new(&[0.0, -0.0], None).unwrap();
        assert_eq!(zeros.points().len(), 1);
    }
}
