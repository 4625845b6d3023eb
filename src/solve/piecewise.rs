//! Jun Fang, Ali Shafiee, Hamzah Abdel-Aziz, David Thorsley, Georgios Georgiadis and Joseph H. Hassoun 2020,
//! *Post-Training Piecewise Linear Quantization for Deep Neural Networks* (PWLQ): the range `[-m, m]` is broken at
//! p into a centre `[-p, p]` and two tails, with as many uniform levels in the tails together as in the centre.
//!
//! With uniform noise in every step the expected error is proportional to
//!
//! ```text
//! [F(p) - F(-p)] p^2 + 2 [F(m) - F(p)] (m - p)^2,
//! ```
//!
//! F being the cumulative distribution. For a standard normal or Laplace density the paper fits its minimum by
//! closed forms ([`break_point_of_density`]) or else searches the break point of least error on the values, from a
//! coarse grid to a fine one. [`best_break_point`] does the latter on running sums and ends in the least squares
//! of p for given codes, because every level is linear in p.
//!
//! **Levels.** The paper counts the bits of a piece, `sign * uniform(|r|)` with b - 1 bits from 0 to p and from p
//! to m, so that a code takes b + 1 bits with the piece, and 0 and ±p have two codes each. [`PieceSteps::paper`]
//! keeps its levels; [`PieceSteps::distinct`] puts two more in their place. `bits` are those of the whole code.

use super::magnitudes::{Magnitudes, Mass, Moments};

/// How many steps the centre has from 0 to p, and the tail from p to m.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PieceSteps {
    /// Levels above zero up to p.
    pub centre: u16,
    /// Levels above p up to m.
    pub tail: u16,
}

impl PieceSteps {
    /// The levels of the paper: `2^(bits - 2)` in each of four pieces, their ends included, `2^bits - 3` of them
    /// different. `None` unless `bits` is 3 to 16.
    #[cfg(test)]
    pub(crate) fn paper(bits: u32) -> Option<Self> {
        let piece = Self::piece(bits).filter(|&piece| piece > 1)?;
        Some(Self { centre: piece - 1, tail: piece - 1 })
    }

    /// `2^bits - 1` different levels, zero among them. With 2 bits the tail is empty and the levels are ternary.
    /// `None` unless `bits` is 2 to 16.
    pub(crate) fn distinct(bits: u32) -> Option<Self> {
        let piece = Self::piece(bits)?;
        Some(Self { centre: piece, tail: piece - 1 })
    }

    fn piece(bits: u32) -> Option<u16> {
        (2..=16).contains(&bits).then(|| 1 << (bits - 2))
    }

    /// The break point at which both steps are equal: the uniform grid with ends `±m`.
    pub(crate) fn uniform_break_point(self, m: f64) -> f64 {
        m * (f64::from(self.centre) / (f64::from(self.centre) + f64::from(self.tail)))
    }

    /// All levels in ascending order; p is taken into `[0, m]`.
    pub(crate) fn levels(self, p: f64, m: f64) -> Vec<f64> {
        let upper: Vec<f64> = self.magnitudes(p, m).collect();
        upper.iter().skip(1).rev().map(|level| -level).chain(upper.iter().copied()).collect()
    }

    /// The levels from zero up.
    fn magnitudes(self, p: f64, m: f64) -> impl Iterator<Item = f64> {
        let p = p.max(0.0).min(m);
        let (centre, tail) = (f64::from(self.centre), f64::from(self.tail));
        let inner = (0..=self.centre).map(move |i| p * f64::from(i) / centre);
        // The last level is m itself.
        let outer = (1..self.tail).map(move |j| p + (m - p) * f64::from(j) / tail);
        inner.chain(outer).chain((self.tail > 0).then_some(m))
    }

    /// Each level from zero up as multiples of p and of m.
    fn shares(self) -> impl Iterator<Item = (f64, f64)> {
        let (centre, tail) = (f64::from(self.centre), f64::from(self.tail));
        let inner = (0..=self.centre).map(move |i| (f64::from(i) / centre, 0.0));
        inner.chain((1..=self.tail).map(move |j| (f64::from(self.tail - j) / tail, f64::from(j) / tail)))
    }
}

/// A density whose break points the paper fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BellShape {
    /// Normal.
    Gaussian,
    /// Two-sided exponential.
    Laplace,
}

/// The paper's fit of the best break point of a density with mean zero and standard deviation `deviation` over the
/// range `[-m, m]`: with both in units of the deviation, `p = ln(0.8614 m + 0.6079)` for a normal density and
/// `p = 0.8030 sqrt(m) - 0.3167` for Laplace's, in the digits of the authors' program. Never outside `[0, m]`.
///
/// It does not depend on the number of bits, because noise is taken to be uniform in every step.
pub(crate) fn break_point_of_density(shape: BellShape, deviation: f64, m: f64) -> f64 {
    let reach = m / deviation;
    let p = match shape {
        BellShape::Gaussian => (0.861_431_14 * reach + 0.607_901_097_496_529).ln(),
        BellShape::Laplace => 0.803_044_83 * reach.sqrt() - 0.316_678_550_838_147_8,
    };
    // Without a deviation the range has no inner part.
    if p.is_finite() { (p * deviation).max(0.0).min(m) } else { 0.0 }
}

/// A break point and what it costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BreakPoint {
    /// p.
    pub p: f64,
    /// The (weighted) sum of squared errors where each value takes the nearest level.
    pub squared_error: f64,
}

/// The break point of least squared error for levels up to `m`, which is positive and finite: the largest
/// magnitude in the paper, or less. Never worse than the uniform grid with the same ends and number of levels.
///
/// The error has many minima, the more the fewer values there are. It is sampled at some 200 break points and the
/// lowest minima are followed. With more values than levels that ends within 1e-4 of the least of ten thousand
/// break points; with fewer values than levels, where the error jumps about, it may be up to a third above.
///
/// Time O(2^bits log n) for each of some 400 break points, and a few times O(n) in the end for exact errors.
pub(crate) fn best_break_point(magnitudes: &Magnitudes, steps: PieceSteps, m: f64) -> BreakPoint {
    let unit = magnitudes.unit();
    let m = m / unit;
    let uniform = steps.uniform_break_point(m);
    let exact = |p: f64| magnitudes.exact_squared_error(steps.magnitudes(p, m));
    let mut best = BreakPoint { p: uniform, squared_error: exact(uniform) };
    if m > 0.0 && m.is_finite() {
        for p in search(magnitudes, steps, m) {
            let squared_error = exact(p);
            if squared_error < best.squared_error {
                best = BreakPoint { p, squared_error };
            }
        }
    }
    BreakPoint { p: best.p * unit, squared_error: magnitudes.to_original(best.squared_error) }
}

/// Break points at the lowest minima, the lowest first.
fn search(moments: &impl Moments, steps: PieceSteps, m: f64) -> Vec<f64> {
    /// Minima that are followed, and points at which the interval around one is sampled again.
    const FOLLOWED: usize = 6;
    const FINER: u32 = 16;
    let error = |p: f64| moments.squared_error(steps.magnitudes(p, m));
    let sampled = |p: f64| (error(p), p);

    // Evenly over the range, and by equal factors below that for data with far outliers.
    let low = (1..=48).map(|i| m / 128.0 * (f64::from(i - 49) / 6.0).exp2());
    let even = (1..=128).map(|i| m * f64::from(i) / 128.0);
    let grid: Vec<(f64, f64)> = low.chain(even).map(sampled).collect();
    let mut minima = Vec::new();
    for (i, &(here, p)) in grid.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| grid.get(i)).copied().unwrap_or((f64::INFINITY, 0.0));
        let after = grid.get(i + 1).copied().unwrap_or((f64::INFINITY, m));
        if here <= before.0 && here <= after.0 {
            minima.push((here, before.1, p, after.1));
        }
    }
    minima.sort_by(|a, b| a.0.total_cmp(&b.0));
    minima.truncate(FOLLOWED);

    let mut found: Vec<(f64, f64)> = Vec::new();
    for (here, before, p, after) in minima {
        let mut least = (here, p);
        let (mut low, mut high) = (before, after);
        for _ in 0..2 {
            let step = (high - low) / f64::from(FINER);
            for i in 1..FINER {
                let next = sampled(low + f64::from(i) * step);
                if next.0 < least.0 {
                    least = next;
                }
            }
            (low, high) = (least.1 - step, least.1 + step);
        }
        for _ in 0..50 {
            let next = sampled(least_squares(moments, steps, least.1, m));
            if next.0.is_nan() || next.0 >= least.0 {
                break;
            }
            least = next;
        }
        found.push(least);
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.into_iter().map(|(_, p)| p).collect()
}

/// The best p for the codes that magnitudes have with `p`.
fn least_squares(moments: &impl Moments, steps: PieceSteps, p: f64, m: f64) -> f64 {
    let (mut product, mut square) = (0.0, 0.0);
    let mut from = Mass::default();
    let mut levels = steps.magnitudes(p, m).zip(steps.shares()).peekable();
    while let Some((level, (of_p, of_m))) = levels.next() {
        let to = match levels.peek() {
            Some((next, _)) => moments.below(0.5 * (level + next)),
            None => moments.total(),
        };
        let mass = to - from;
        product += of_p * (mass.moment - of_m * m * mass.weight);
        square += of_p * of_p * mass.weight;
        from = to;
    }
    if square > 0.0 { (product / square).max(0.0).min(m) } else { p }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::magnitudes::densities::{
        laplace_quantiles, normal_density, normal_quantiles, normal_within,
    };
    use super::super::samples::{self, SplitMix64};
    use super::*;

    #[test]
    fn four_pieces_of_uniform_levels() {
        let paper = PieceSteps::paper(4).unwrap();
        let levels = [-9.0, -7.0, -5.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0];
        assert_eq!(paper.levels(3.0, 9.0), levels);
        let distinct = PieceSteps::distinct(4).unwrap();
        let levels = [-10.0, -8.0, -6.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0];
        assert_eq!(distinct.levels(4.0, 10.0), levels);
        assert_eq!(PieceSteps::distinct(2).unwrap().levels(2.0, 5.0), [-2.0, 0.0, 2.0]);
        assert_eq!(PieceSteps::distinct(16).unwrap().levels(1.0, 2.0).len(), 65_535);
        for bits in [0, 1, 17, u32::MAX] {
            assert_eq!((PieceSteps::paper(bits), PieceSteps::distinct(bits)), (None, None));
        }
        assert_eq!(PieceSteps::paper(2), None);
        // A break point outside the range.
        assert_eq!(paper.levels(20.0, 9.0)[12], 9.0);
        assert_eq!(paper.levels(f64::NAN, 9.0)[6], 0.0);
    }

    #[test]
    fn one_break_point_makes_the_grid_uniform() {
        for bits in 2..=8 {
            let step = 1.0 / ((1 << (bits - 1)) - 1) as f64;
            let distinct = PieceSteps::distinct(bits).unwrap();
            let levels = distinct.levels(distinct.uniform_break_point(1.0), 1.0);
            let all = (1 << bits) - 1;
            assert_eq!(levels.len(), all);
            for (i, level) in levels.iter().enumerate() {
                assert!((level - (i as f64 * step - 1.0)).abs() < 1e-15, "{bits} {levels:?}");
            }
        }
        assert_eq!(PieceSteps::paper(5).unwrap().uniform_break_point(6.0), 3.0);
    }

    /// The break point at which the derivative of the expected error vanishes.
    fn derivative_root(m: f64, within: impl Fn(f64) -> f64, density: impl Fn(f64) -> f64) -> f64 {
        // d/dp of W(p) p^2 + (W(m) - W(p)) (m - p)^2 with W(p) = P(|x| < p), W' = 2 density.
        let slope = |p: f64| {
            2.0 * density(p) * (p * p - (m - p) * (m - p)) + 2.0 * within(p) * p
                - 2.0 * (within(m) - within(p)) * (m - p)
        };
        let (mut low, mut high) = (0.0, m / 2.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if slope(middle) < 0.0 { low = middle } else { high = middle }
        }
        low
    }

    #[test]
    fn closed_forms_fit_the_least_expected_error() {
        use core::f64::consts::{FRAC_1_SQRT_2, SQRT_2};
        let laplace_within = |p: f64| 1.0 - (-SQRT_2 * p).exp();
        let laplace_density = |p: f64| FRAC_1_SQRT_2 * (-SQRT_2 * p).exp();
        for i in 6..=20 {
            let m = f64::from(i) / 2.0;
            let gaussian = break_point_of_density(BellShape::Gaussian, 2.0, 2.0 * m) / 2.0;
            let laplace = break_point_of_density(BellShape::Laplace, 0.5, 0.5 * m) / 0.5;
            let gaussian_root = derivative_root(m, normal_within, normal_density);
            let laplace_root = derivative_root(m, laplace_within, laplace_density);
            // What straight lines through log and root leave between 3 and 10 deviations.
            assert!((gaussian / gaussian_root - 1.0).abs() < 0.007, "{m} {gaussian} {gaussian_root}");
            assert!((laplace / laplace_root - 1.0).abs() < 0.015, "{m} {laplace} {laplace_root}");
        }
        // ln(0.86143114 * 3 + 0.6079011) and 0.80304483 * 2 - 0.3166786.
        assert!((break_point_of_density(BellShape::Gaussian, 1.0, 3.0) - 1.1607086168).abs() < 1e-9);
        assert!((break_point_of_density(BellShape::Laplace, 1.0, 4.0) - 1.2894111092).abs() < 1e-9);
        for (deviation, m) in [(0.0, 1.0), (1.0, 0.0), (1.0, 1e-300), (f64::NAN, 1.0), (1.0, f64::MAX)] {
            for shape in [BellShape::Gaussian, BellShape::Laplace] {
                assert!((0.0..=m).contains(&break_point_of_density(shape, deviation, m)), "{deviation} {m}");
            }
        }
    }

    /// The least error of ten thousand break points, evenly and by equal factors.
    fn brute_force(magnitudes: &Magnitudes, steps: PieceSteps, m: f64) -> f64 {
        let m = m / magnitudes.unit();
        let error = |p: f64| magnitudes.squared_error(steps.magnitudes(p, m));
        let even = (1..=9000).map(|i| error(m * f64::from(i) / 9000.0));
        let low = (1..=1000).map(|i| error(m * (-f64::from(i) / 60.0).exp2()));
        magnitudes.to_original(even.chain(low).fold(f64::INFINITY, f64::min))
    }

    fn uniform_error(magnitudes: &Magnitudes, steps: PieceSteps, m: f64) -> f64 {
        let m = m / magnitudes.unit();
        let error = magnitudes.exact_squared_error(steps.magnitudes(steps.uniform_break_point(m), m));
        magnitudes.to_original(error)
    }

    #[test]
    fn close_to_ten_thousand_break_points() {
        let mut random = SplitMix64(5);
        for values in [
            normal_quantiles(2048),
            laplace_quantiles(2048),
            samples::b().into_iter().take(4096).chain([1e3]).collect(),
            (0..300).map(|_| random.laplace()).collect(),
            (0..64).map(|_| random.normal()).collect(),
        ] {
            let magnitudes = Magnitudes::new(&values).unwrap();
            let largest = magnitudes.max() * magnitudes.unit();
            for (bits, m) in [(2, largest), (3, largest), (4, largest), (4, 0.6 * largest), (5, largest)] {
                for steps in [PieceSteps::distinct(bits), PieceSteps::paper(bits)].into_iter().flatten() {
                    let best = best_break_point(&magnitudes, steps, m);
                    let brute = brute_force(&magnitudes, steps, m);
                    assert!(best.squared_error < brute * (1.0 + 1e-4), "{bits} {steps:?} {best:?} {brute}");
                    assert!(best.squared_error <= uniform_error(&magnitudes, steps, m));
                }
            }
        }
    }

    #[test]
    fn four_bits_err_less_than_uniform_ones() {
        let steps = PieceSteps::distinct(4).unwrap();
        // The larger the tails, the more is gained.
        for (values, shape, gain) in [
            (normal_quantiles(8192), BellShape::Gaussian, 1.4),
            (laplace_quantiles(8192), BellShape::Laplace, 2.0),
        ] {
            let magnitudes = Magnitudes::new(&values).unwrap();
            let m = magnitudes.max() * magnitudes.unit();
            let best = best_break_point(&magnitudes, steps, m);
            assert!(uniform_error(&magnitudes, steps, m) > gain * best.squared_error);
            // The closed form is better than uniform levels too, and no better than the best.
            let deviation = (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt();
            let unit = magnitudes.unit();
            let p = break_point_of_density(shape, deviation, m) / unit;
            let closed = magnitudes.exact_squared_error(steps.magnitudes(p, m / unit));
            let closed = magnitudes.to_original(closed);
            assert!(closed < 0.9 * uniform_error(&magnitudes, steps, m) && closed >= best.squared_error);
        }
    }

    #[test]
    fn two_bits_are_the_best_ternary_values() {
        for values in [samples::a(), samples::b()] {
            let magnitudes = Magnitudes::new(&values).unwrap();
            let m = magnitudes.max() * magnitudes.unit();
            let found = best_break_point(&magnitudes, PieceSteps::distinct(2).unwrap(), m);
            let best = super::super::ternary::best(&magnitudes);
            assert!((found.squared_error / best.squared_error - 1.0).abs() < 1e-6, "{found:?} {best:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn any_values(
            points in prop::collection::vec((prop_oneof![-1.0_f64..1.0, Just(0.0), -1e9_f64..1e9], 0.0_f64..3.0), 1..30),
            bits in 2_u32..=7,
            share in 0.01_f64..1.5,
        ) {
            let Some(magnitudes) = Magnitudes::weighted(points.iter().copied()) else { return Ok(()) };
            let m = share * magnitudes.max() * magnitudes.unit();
            let square: f64 = points.iter().map(|(x, w)| w * x * x).sum();
            for steps in [PieceSteps::distinct(bits), PieceSteps::paper(bits)].into_iter().flatten() {
                let found = best_break_point(&magnitudes, steps, m);
                prop_assert!((0.0..=m).contains(&found.p));
                let levels = steps.levels(found.p, m);
                prop_assert!(levels.is_sorted());
                let nearest = |x: f64| levels.iter().map(|l| (x - l).powi(2)).fold(f64::INFINITY, f64::min);
                let error: f64 = points.iter().map(|&(x, w)| w * nearest(x)).sum();
                prop_assert!((error - found.squared_error).abs() <= 1e-12 * square);
                prop_assert!(found.squared_error <= uniform_error(&magnitudes, steps, m));
            }
        }
    }
}
