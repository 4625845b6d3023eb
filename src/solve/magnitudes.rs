//! Sorted magnitudes with running sums, for level sets that are symmetric around zero.
//!
//! If with every level its negative is a level too, a value and its negative are equally far from their nearest
//! levels, so the squared error depends on magnitudes alone, and the values that share a level are neighbours in
//! sorted order. Their number, their sum and their sum of squares are then differences of running sums.

use core::ops::Sub;

use crate::element::{Element, Real};

/// Sums over all magnitudes below some bound.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Mass {
    /// How many, or the sum of their weights.
    pub weight: f64,
    /// The (weighted) sum of the magnitudes.
    pub moment: f64,
    /// The (weighted) sum of their squares.
    pub square: f64,
}

impl Mass {
    /// The squared error of these magnitudes as `level`. Not negative, whatever the rounding.
    pub(crate) fn squared_error(self, level: f64) -> f64 {
        (self.square - level * (2.0 * self.moment - level * self.weight)).max(0.0)
    }
}

impl Sub for Mass {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            weight: self.weight - other.weight,
            moment: self.moment - other.moment,
            square: self.square - other.square,
        }
    }
}

/// A distribution of magnitudes: values, weighted points, or a density.
pub(crate) trait Moments {
    /// The sums over magnitudes less than `bound`.
    fn below(&self, bound: f64) -> Mass;

    /// The sums over all magnitudes.
    fn total(&self) -> Mass;

    /// The squared error of the ascending non-negative `levels` and their negatives, each magnitude going to the
    /// nearest. A difference of sums: what is below about 1e-15 of the squares near a level is rounding noise.
    fn squared_error(&self, levels: impl IntoIterator<Item = f64>) -> f64 {
        let mut error = 0.0;
        let mut from = Mass::default();
        let mut levels = levels.into_iter().peekable();
        while let Some(level) = levels.next() {
            let to = match levels.peek() {
                Some(next) => self.below(0.5 * (level + next)),
                None => self.total(),
            };
            error += (to - from).squared_error(level);
            from = to;
        }
        error
    }
}

/// The magnitudes of values, in ascending order, they and their weights in units of powers of two, so that sums
/// and squares stay in range.
#[derive(Debug, Clone)]
pub(crate) struct Magnitudes {
    values: Vec<f64>,
    /// Of each magnitude; empty if all are 1.
    weights: Vec<f64>,
    /// `running[i]`: the sums over the first i magnitudes.
    running: Vec<Mass>,
    unit: f64,
    /// What the weights are multiples of, also a power of two.
    weight_unit: f64,
}

impl Magnitudes {
    /// The magnitudes of finite `values`. `None` if all are zero or there are none.
    ///
    /// Time O(n log n), memory 32 bytes for each value.
    pub(crate) fn new<T: Real>(values: &[T]) -> Option<Self> {
        let mut values: Vec<f64> = values.iter().map(|&x| Element::to_f64(x).abs()).collect();
        values.sort_unstable_by(f64::total_cmp);
        Self::sorted(values, Vec::new(), 1.0)
    }

    /// The magnitudes of finite values with finite weights: elements with their importance, or the points of a
    /// histogram with their counts. What does not weigh more than nothing is left out. `None` if no other
    /// magnitude than zero has a weight.
    ///
    /// Time O(n log n), memory 40 bytes for each value.
    pub(crate) fn weighted(points: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let mut points: Vec<(f64, f64)> = points
            .into_iter()
            .filter(|&(_, weight)| weight > 0.0)
            .map(|(value, weight)| (value.abs(), weight))
            .collect();
        // By weight too, so that the order of equal magnitudes in the input does not change any rounding.
        points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let heaviest = points.iter().fold(0.0_f64, |max, &(_, weight)| max.max(weight));
        if heaviest.is_infinite() {
            return None;
        }
        let weight_unit = power_of_two(heaviest);
        let (values, weights) =
            points.into_iter().map(|(value, weight)| (value, weight / weight_unit)).unzip();
        Self::sorted(values, weights, weight_unit)
    }

    fn sorted(mut values: Vec<f64>, weights: Vec<f64>, weight_unit: f64) -> Option<Self> {
        let largest = values.last().copied().unwrap_or(0.0);
        if !(largest > 0.0 && largest.is_finite()) {
            return None;
        }
        let unit = power_of_two(largest);
        values.iter_mut().for_each(|value| *value /= unit);
        let mut running = Vec::with_capacity(values.len() + 1);
        let mut sums = Mass::default();
        running.push(sums);
        for (i, &value) in values.iter().enumerate() {
            let weight = weights.get(i).copied().unwrap_or(1.0);
            sums.weight += weight;
            sums.moment += weight * value;
            sums.square += weight * (value * value);
            running.push(sums);
        }
        Some(Self { values, weights, running, unit, weight_unit })
    }

    /// What the magnitudes are multiples of: those of [`Moments`] times this are the original ones.
    pub(crate) fn unit(&self) -> f64 {
        self.unit
    }

    /// A squared error in units as that of the original values and weights. It may overflow, or be lost below the
    /// smallest number.
    pub(crate) fn to_original(&self, squared_error: f64) -> f64 {
        squared_error * self.weight_unit * self.unit * self.unit
    }

    /// The largest magnitude, in units.
    #[cfg(test)]
    pub(crate) fn max(&self) -> f64 {
        self.values.last().copied().unwrap_or(0.0)
    }

    /// How many points there are, whatever their weights.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Every magnitude in ascending order with the sums over those before it.
    pub(crate) fn running(&self) -> impl Iterator<Item = (f64, Mass)> {
        self.values.iter().copied().zip(self.running.iter().copied())
    }

    /// Every magnitude in ascending order with its weight.
    pub(crate) fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.values.iter().enumerate().map(|(i, &x)| (x, self.weights.get(i).copied().unwrap_or(1.0)))
    }

    /// The squared error of the ascending non-negative `levels` and their negatives, summed over all magnitudes,
    /// in units squared. Time O(n).
    pub(crate) fn exact_squared_error(&self, levels: impl IntoIterator<Item = f64>) -> f64 {
        let mut levels = levels.into_iter().peekable();
        let Some(mut level) = levels.next() else { return self.total().square };
        let mut error = 0.0;
        for (value, weight) in self.points() {
            while let Some(&next) = levels.peek() {
                if value < 0.5 * (level + next) {
                    break;
                }
                level = next;
                levels.next();
            }
            error += weight * ((value - level) * (value - level));
        }
        error
    }
}

/// The power of two below a positive finite number that has a finite double.
fn power_of_two(x: f64) -> f64 {
    x.log2().floor().min(1022.0).exp2()
}

impl Moments for Magnitudes {
    fn below(&self, bound: f64) -> Mass {
        let count = self.values.partition_point(|&value| value < bound);
        self.running.get(count).copied().unwrap_or_default()
    }

    fn total(&self) -> Mass {
        self.running.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod densities {
    //! Densities of unit variance with their exact moments.

    use super::{Mass, Moments};
    use core::f64::consts::{PI, SQRT_2};

    /// The standard normal density.
    pub(crate) struct Gaussian;

    /// The two-sided exponential density of variance 1.
    pub(crate) struct Laplace;

    /// `P(|x| < bound)` of a standard normal x, by the series `erf(z) = 2 z / sqrt(pi) * exp(-z^2) *
    /// sum (2 z^2)^k / (1 * 3 * ... * (2k + 1))`, whose terms are all positive.
    pub(crate) fn normal_within(bound: f64) -> f64 {
        if bound > 12.0 {
            return 1.0;
        }
        let z = bound / SQRT_2;
        let (mut term, mut sum) = (1.0, 1.0);
        let mut k = 1.0;
        while term > 1e-18 * sum {
            term *= 2.0 * z * z / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        2.0 * z / PI.sqrt() * (-z * z).exp() * sum
    }

    /// The standard normal density at `x`.
    pub(crate) fn normal_density(x: f64) -> f64 {
        (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
    }

    /// The standard normal quantiles of `(i + 1/2) / n`, i from 0 to n - 1, by Newton's method; n is even.
    pub(crate) fn normal_quantiles(n: u32) -> Vec<f64> {
        let mut x = 0.0;
        let mut upper = Vec::new();
        for i in n / 2..n {
            // P(|x| < quantile) = 2 p - 1.
            let within = (2.0 * f64::from(i) + 1.0) / f64::from(n) - 1.0;
            for _ in 0..50 {
                let step = (normal_within(x) - within) / (2.0 * normal_density(x));
                x -= step;
                if step.abs() < 1e-13 {
                    break;
                }
            }
            upper.push(x);
        }
        upper.iter().rev().map(|x| -x).chain(upper.iter().copied()).collect()
    }

    /// The quantiles of `(i + 1/2) / n` of the density `exp(-|x|) / 2`; n is even.
    pub(crate) fn laplace_quantiles(n: u32) -> Vec<f64> {
        let lower = (0..n / 2).map(|i| ((2.0 * f64::from(i) + 1.0) / f64::from(n)).ln());
        let lower: Vec<f64> = lower.collect();
        lower.iter().copied().chain(lower.iter().rev().map(|x| -x)).collect()
    }

    impl Moments for Gaussian {
        fn below(&self, bound: f64) -> Mass {
            let (weight, density) = (normal_within(bound), normal_density(bound));
            let moment = 2.0 * (normal_density(0.0) - density);
            Mass { weight, moment, square: weight - 2.0 * bound * density }
        }

        fn total(&self) -> Mass {
            Mass { weight: 1.0, moment: (2.0 / PI).sqrt(), square: 1.0 }
        }
    }

    impl Moments for Laplace {
        fn below(&self, bound: f64) -> Mass {
            let (b, ratio) = (SQRT_2.recip(), bound * SQRT_2);
            let tail = (-ratio).exp();
            let moment = b * (1.0 - tail * (1.0 + ratio));
            let square = b * b * (2.0 - tail * (2.0 + 2.0 * ratio + ratio * ratio));
            Mass { weight: 1.0 - tail, moment, square }
        }

        fn total(&self) -> Mass {
            Mass { weight: 1.0, moment: SQRT_2.recip(), square: 1.0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::densities::{Gaussian, Laplace};
    use super::*;

    #[test]
    fn sums_are_those_of_the_values() {
        let magnitudes = Magnitudes::new(&[3.0_f32, -1.0, 0.0, -2.5]).unwrap();
        assert_eq!((magnitudes.unit(), magnitudes.max(), magnitudes.len()), (2.0, 1.5, 4));
        assert_eq!(magnitudes.below(1.25), Mass { weight: 2.0, moment: 0.5, square: 0.25 });
        assert_eq!(magnitudes.below(0.0), Mass::default());
        assert_eq!(magnitudes.total(), Mass { weight: 4.0, moment: 3.25, square: 4.0625 });
        let weighted = Magnitudes::weighted([(3.0, 1.0), (-1.0, 2.0), (8.0, 0.0), (0.0, f64::NAN)]).unwrap();
        // In units of 2 both, magnitudes and weights.
        assert_eq!(weighted.total(), Mass { weight: 1.5, moment: 1.25, square: 1.375 });
        assert_eq!(weighted.to_original(weighted.total().square), 11.0);
    }

    #[test]
    fn nothing_but_zeros_has_no_magnitudes() {
        assert!(Magnitudes::new::<f32>(&[]).is_none());
        assert!(Magnitudes::new(&[0.0_f64, -0.0]).is_none());
        assert!(Magnitudes::new(&[1.0, f64::INFINITY]).is_none());
        assert!(Magnitudes::weighted([(1.0, 0.0), (0.0, 1.0)]).is_none());
        assert!(Magnitudes::weighted([(1.0, f64::INFINITY)]).is_none());
        let extreme = Magnitudes::weighted([(1e300, 1e308), (-1e300, 1e308), (1e-300, 1e-308)]).unwrap();
        assert!(extreme.total().square.is_finite());
        assert!(Magnitudes::new(&[f64::MAX, -5e-324]).is_some());
        assert_eq!(Magnitudes::new(&[5e-324]).unwrap().max(), 1.0);
    }

    #[test]
    fn both_errors_agree_with_nearest_levels() {
        let values = [0.1, -0.4, 0.9, -1.7, 2.2, 0.0, -3.0];
        let levels = [0.25, 1.0, 2.0];
        let expected: f64 = values
            .iter()
            .map(|x: &f64| {
                let distances = levels.iter().map(|level| (x.abs() - level).powi(2));
                distances.fold(f64::INFINITY, f64::min)
            })
            .sum();
        let magnitudes = Magnitudes::new(&values).unwrap();
        let in_units = levels.map(|level| level / magnitudes.unit());
        let square = magnitudes.unit() * magnitudes.unit();
        assert!((magnitudes.squared_error(in_units) * square - expected).abs() < 1e-14);
        assert!((magnitudes.exact_squared_error(in_units) * square - expected).abs() < 1e-14);
    }

    #[test]
    fn moments_of_densities_are_their_integrals() {
        fn check(moments: &impl Moments, density: impl Fn(f64) -> f64) {
            for bound in [0.3, 1.0, 2.5, 5.0] {
                // Simpson's rule, whose error here is about 5 h^4 / 45.
                let (steps, h) = (2000, bound / 2000.0);
                let mut sums = Mass::default();
                for i in 0..=steps {
                    let x = f64::from(i) * h;
                    let share = if i == 0 || i == steps { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
                    let mass = 2.0 * density(x) * share * h / 3.0;
                    sums.weight += mass;
                    sums.moment += mass * x;
                    sums.square += mass * x * x;
                }
                let below = moments.below(bound);
                assert!((below.weight - sums.weight).abs() < 1e-11, "{below:?} {sums:?}");
                assert!((below.moment - sums.moment).abs() < 1e-11, "{below:?} {sums:?}");
                assert!((below.square - sums.square).abs() < 1e-11, "{below:?} {sums:?}");
            }
            let (all, total) = (moments.below(60.0), moments.total());
            assert!((all.moment - total.moment).abs() < 1e-15 && (all.square - total.square).abs() < 1e-15);
        }
        check(&Gaussian, densities::normal_density);
        check(&Laplace, |x| (-x.abs() * core::f64::consts::SQRT_2).exp() * core::f64::consts::FRAC_1_SQRT_2);
    }
}
