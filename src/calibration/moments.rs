//! Mean and spread of a region, from its values or from a histogram of them.

use crate::element::{Element, Real};
use crate::solve::spread::{Levels, Sums};

use super::evidence::{Evidence, Values, each_value};

/// Mean and spread of a region's values.
///
/// From values the sums are in f64, in an order that depends on their number alone; from a histogram every value is
/// taken to lie evenly within its bin.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Moments {
    /// The number of values.
    pub count: u64,
    /// The share of values that are not zero. A histogram shows zeros as what its bin at zero holds more than the
    /// fuller of its neighbours.
    pub nonzero_share: f64,
    /// The mean μ.
    pub mean: f64,
    /// The standard deviation σ: the root of the mean of (x − μ)².
    pub standard_deviation: f64,
    /// The mean of |x − μ|: the Laplace density's b.
    pub mean_deviation: f64,
    /// The mean of |x|.
    pub mean_magnitude: f64,
    /// The root of the mean of x².
    pub root_mean_square: f64,
}

impl Evidence<'_> {
    /// Mean and spread of the values; `None` if there are none.
    pub fn moments(&self) -> Option<Moments> {
        let (low, high) = self.min_max()?;
        // Squares of extreme values leave the range of floats.
        let largest = high.abs().max(low.abs());
        let unit = if (1e-100..1e100).contains(&largest) || largest == 0.0 { 1.0 } else { largest };
        let (sums, nonzero, deviations): (Sums, f64, (f64, f64)) = match self {
            Self::Values(values) => each_value!(*values, values => {
                let sums = sum(values, |x| {
                    let x = x / unit;
                    [x, x.abs(), x * x]
                });
                let count = values.len() as f64;
                let mean = sums[0] / count;
                let nonzero = values.iter().filter(|&&x| x != 0.0).count() as f64;
                let about = sum(values, |x| {
                    let d = x / unit - mean;
                    [d.abs(), d * d, 0.0]
                });
                let sums = Sums { count, sum: sums[0], magnitude: sums[1], square: sums[2] };
                (sums, nonzero, (about[0], about[1]))
            }),
            Self::Histogram(histogram) => {
                let bins = histogram.bins_in(unit);
                let sums = bins.sums();
                (sums, histogram.nonzero(), bins.deviations(sums.sum / sums.count))
            }
        };
        let mean = |sum: f64| sum / sums.count;
        Some(Moments {
            count: self.count(),
            nonzero_share: mean(nonzero),
            mean: mean(sums.sum) * unit,
            standard_deviation: mean(deviations.1).sqrt() * unit,
            mean_deviation: mean(deviations.0) * unit,
            mean_magnitude: mean(sums.magnitude) * unit,
            root_mean_square: mean(sums.square).sqrt() * unit,
        })
    }

    /// The sum of the squared errors on `levels`, every value going to the nearest.
    pub(super) fn squared_error(&self, levels: &Levels) -> f64 {
        match self {
            Self::Values(values) => {
                let [sum, ..] =
                    each_value!(*values, values => sum(values, |x| [levels.error_of(x), 0.0, 0.0]));
                sum
            }
            Self::Histogram(histogram) => histogram.bins_in(1.0).squared_error(levels),
        }
    }
}

impl Values<'_> {
    /// The magnitudes.
    pub(super) fn magnitudes(&self) -> impl Iterator<Item = f64> + '_ {
        self.iter().map(f64::abs)
    }
}

/// Three sums over `values` in f64. Four independent lanes, as every addition waits for the one before it.
fn sum<T: Real>(values: &[T], term: impl Fn(f64) -> [f64; 3]) -> [f64; 3] {
    let mut lanes = [[0.0; 3]; 4];
    let (chunks, rest) = values.as_chunks::<4>();
    let add = |lane: &mut [f64; 3], x: T| {
        for (sum, term) in lane.iter_mut().zip(term(Element::to_f64(x))) {
            *sum += term;
        }
    };
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            add(lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        add(lane, x);
    }
    let mut total = [0.0; 3];
    for lane in lanes {
        for (total, lane) in total.iter_mut().zip(lane) {
            *total += lane;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Histogram;
    use crate::solve::samples;

    #[test]
    fn moments_of_the_reference_data() {
        // lowbit reference values 06_07: n, sum and sum of squares of data set B.
        let (n, total, squares) = (32768.0, -205.58365329049423, 33115.86977430788);
        let data = samples::b();
        let found = Evidence::from(&*data).moments().unwrap();
        let mean: f64 = total / n;
        let close = |found: f64, expected: f64, tolerance: f64| {
            assert!((found / expected - 1.0).abs() < tolerance, "{found} for {expected}");
        };
        close(found.mean, mean, 1e-12);
        close(found.standard_deviation, (squares / n - mean * mean).sqrt(), 1e-12);
        close(found.root_mean_square, (squares / n).sqrt(), 1e-12);
        // A histogram knows them up to the place of each value in its bin, which averages out.
        let (counts, width) = samples::histogram(&data, 2048);
        let magnitudes = Histogram::new(0.0, 2048.0 * width, counts).unwrap();
        let coarse = Evidence::Histogram(&magnitudes).moments().unwrap();
        close(coarse.mean_magnitude, found.mean_magnitude, 1e-4);
        close(coarse.root_mean_square, found.root_mean_square, 1e-4);
    }

    #[test]
    fn extreme_and_few_values_have_moments() {
        let huge = Evidence::from(&[f64::MAX, -f64::MAX][..]).moments().unwrap();
        assert_eq!((huge.mean, huge.standard_deviation), (0.0, f64::MAX));
        let tiny = Evidence::from(&[1e-310f64, 3e-310][..]).moments().unwrap();
        assert!((tiny.standard_deviation / 1e-310 - 1.0).abs() < 1e-9);
        assert_eq!(Evidence::from(&[0.0f32; 3][..]).moments().unwrap().nonzero_share, 0.0);
        assert!(Evidence::from(&[0.0f32; 0][..]).moments().is_none());
    }
}
