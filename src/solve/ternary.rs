//! Fengfu Li, Bin Liu, Xiaoxing Wang, Bo Zhang and Junchi Yan 2016, *Ternary Weight Networks*:
//!
//! ```text
//! min over alpha, t of  || w - alpha t ||^2,   t_i in {-1, 0, +1}.
//! ```
//!
//! For given t the best scale is the mean magnitude of the values with t_i /= 0, and the error is
//! `sum w^2 - (sum over those of |w|)^2 / m` with m their number, so that they are the m largest for some m.
//! The paper approximates the best threshold between them and the others by
//!
//! ```text
//! Delta = 0.7 / n * sum |w|,        t_i = sign(w_i) where |w_i| > Delta,    alpha = mean of those |w_i|,
//! ```
//!
//! close to the best of a uniform density (2/3) and of a normal one (0.77); [`best`] tries every m, which takes one
//! pass over the sorted magnitudes.
//!
//! With a scale for each sign, as in trained ternary quantization (Zhu et al. 2017) and ProxQuant (Bai et al.
//! 2019), the two signs are two problems of this kind: solve the magnitudes of the positive values and those of
//! the negative ones apart.

use super::magnitudes::{Magnitudes, Mass, Moments};

/// Values of a magnitude above the threshold become the scale with their sign, the others zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ternary {
    /// Delta.
    pub threshold: f64,
    /// alpha.
    pub scale: f64,
    /// The (weighted) sum of squared errors.
    pub squared_error: f64,
}

/// The rule of the paper: a threshold of 0.7 times the mean magnitude.
pub(crate) fn by_rule(magnitudes: &Magnitudes) -> Ternary {
    let total = magnitudes.total();
    let threshold = 0.7 * total.moment / total.weight;
    in_units(magnitudes, threshold, magnitudes.below(threshold.next_up()))
}

/// The best scale for a given threshold. All zeros if no magnitude is above it.
#[cfg(test)]
pub(crate) fn with_threshold(magnitudes: &Magnitudes, threshold: f64) -> Ternary {
    let threshold = threshold / magnitudes.unit();
    in_units(magnitudes, threshold, magnitudes.below(threshold.next_up()))
}

/// The least squared error of all scales and thresholds. The threshold is half the scale, so that codes are those
/// of the nearest level.
///
/// Time O(n).
pub(crate) fn best(magnitudes: &Magnitudes) -> Ternary {
    let total = magnitudes.total();
    // The sums over magnitudes that become zero, and the reduction of the error by those that do not.
    let mut best = (Mass::default(), 0.0);
    for (_, inside) in magnitudes.running() {
        let (weight, moment) = (total.weight - inside.weight, total.moment - inside.moment);
        let gain = moment * moment / weight;
        if gain > best.1 {
            best = (inside, gain);
        }
    }
    let (inside, _) = best;
    let scale = (total.moment - inside.moment) / (total.weight - inside.weight);
    in_units(magnitudes, 0.5 * scale, inside)
}

/// The ternary levels with `inside` at zero.
fn in_units(magnitudes: &Magnitudes, threshold: f64, inside: Mass) -> Ternary {
    let (total, unit) = (magnitudes.total(), magnitudes.unit());
    let (weight, moment) = (total.weight - inside.weight, total.moment - inside.moment);
    let scale = if weight > 0.0 { moment / weight } else { 0.0 };
    // Summed as it is, because the differences of running sums leave rounding noise of an error of zero.
    let mut error = 0.0;
    for point in magnitudes.points() {
        let distance = if point.0 > threshold { point.0 - scale } else { point.0 };
        error += point.1 * (distance * distance);
    }
    Ternary { threshold: threshold * unit, scale: scale * unit, squared_error: magnitudes.to_original(error) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::magnitudes::densities::{Gaussian, Laplace, normal_density, normal_quantiles};
    use super::super::samples;
    use super::*;

    /// The least error of all 2^n choices of the values that are not zero.
    fn exhaustive(points: &[(f64, f64)]) -> f64 {
        let squares: f64 = points.iter().map(|&(x, w)| w * x * x).sum();
        let gain = |subset: usize| {
            let kept = points.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1);
            let (weight, moment) =
                kept.fold((0.0, 0.0), |(weight, moment), (_, &(x, w))| (weight + w, moment + w * x.abs()));
            if weight > 0.0 { moment * moment / weight } else { 0.0 }
        };
        (0..1 << points.len()).map(|subset| squares - gain(subset)).fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_choice_of_codes_is_better(
            points in prop::collection::vec((-8_i32..=8, 1_i32..=4), 1..=9),
            fine in prop::collection::vec((-1.0_f64..1.0, 0.01_f64..3.0), 1..=9),
        ) {
            let coarse: Vec<_> = points.iter().map(|&(x, w)| (f64::from(x) / 4.0, f64::from(w))).collect();
            for points in [coarse, fine] {
                let Some(magnitudes) = Magnitudes::weighted(points.iter().copied()) else { continue };
                let found = best(&magnitudes);
                prop_assert!((found.squared_error - exhaustive(&points)).abs() < 1e-12);
                prop_assert!(found.squared_error <= by_rule(&magnitudes).squared_error + 1e-12);
                // Codes by threshold, codes by nearest level and the reported error agree.
                for found in [found, by_rule(&magnitudes)] {
                    let own: f64 = points.iter().map(|&(x, w)| {
                        let level = if x.abs() > found.threshold { found.scale * x.signum() } else { 0.0 };
                        w * (x - level) * (x - level)
                    }).sum();
                    prop_assert!((own - found.squared_error).abs() < 1e-12);
                }
            }
        }
    }

    /// The least error of a density over its thresholds t, `1 - 2 (integral from t of x f)^2 / (integral of f)`,
    /// with the integrals by the midpoint rule.
    fn integrated(density: impl Fn(f64) -> f64) -> (f64, f64) {
        const STEP: f64 = 1e-3;
        let (mut weight, mut moment, mut least) = (0.0, 0.0, (f64::INFINITY, 0.0));
        for i in (0..30_000).rev() {
            let x = (f64::from(i) + 0.5) * STEP;
            weight += 2.0 * density(x) * STEP;
            moment += 2.0 * density(x) * x * STEP;
            let error = 1.0 - moment * moment / weight;
            if error < least.0 {
                least = (error, moment / weight);
            }
        }
        least
    }

    #[test]
    fn normal_quantiles_have_the_optimum_of_its_density() {
        let (error, scale) = integrated(normal_density);
        // Max 1960, three levels: 1.224 and 0.1902.
        assert!((error - 0.1902).abs() < 5e-5 && (scale - 1.224).abs() < 1e-3, "{error} {scale}");
        let values = normal_quantiles(20_000);
        let magnitudes = Magnitudes::new(&values).unwrap();
        let found = best(&magnitudes);
        let relative = found.squared_error / values.iter().map(|x| x * x).sum::<f64>();
        // The grid lacks 1e-4 of the variance, in the tails.
        assert!((relative / error - 1.0).abs() < 1e-3, "{relative} {error}");
        assert!((found.scale - scale).abs() < 1e-3 && found.threshold == 0.5 * found.scale, "{found:?}");
        let rule = by_rule(&magnitudes);
        assert!(found.squared_error < rule.squared_error, "{found:?} {rule:?}");
        // Zero, or one scale for all, is worse than either.
        let one_bit = with_threshold(&magnitudes, 0.0);
        assert!(rule.squared_error < one_bit.squared_error);
        assert!((one_bit.scale - values.iter().map(|x| x.abs()).sum::<f64>() / 2e4).abs() < 1e-12);
    }

    #[test]
    fn densities_agree_with_their_integrals() {
        // The error of three levels by exact moments, at the integrated optimum.
        for (error, (least, scale)) in [
            (Gaussian.squared_error([0.0, integrated(normal_density).1]), integrated(normal_density)),
            (
                Laplace.squared_error([0.0, core::f64::consts::SQRT_2]),
                integrated(|x| core::f64::consts::FRAC_1_SQRT_2 * (-core::f64::consts::SQRT_2 * x).exp()),
            ),
        ] {
            assert!((error - least).abs() < 1e-5, "{error} {least} {scale}");
        }
    }

    #[test]
    fn each_sign_has_its_own_scale() {
        let values = samples::b();
        let shifted: Vec<f64> = values.iter().map(|x| if *x > 0.0 { 3.0 * x } else { *x }).collect();
        let side = |sign: f64| {
            let side: Vec<f64> = shifted.iter().copied().filter(|x| x * sign > 0.0).collect();
            best(&Magnitudes::new(&side).unwrap())
        };
        let (positive, negative) = (side(1.0), side(-1.0));
        let both = best(&Magnitudes::new(&shifted).unwrap());
        assert!(positive.squared_error + negative.squared_error < both.squared_error);
        assert!((positive.scale / negative.scale / 3.0 - 1.0).abs() < 0.05, "{positive:?} {negative:?}");
    }

    #[test]
    fn special_values_stay_numbers() {
        for values in [&[3.0_f64][..], &[2.0; 7], &[0.0, 0.0, -1e300], &[5e-324, 0.0], &[-1.0, 1.0]] {
            let magnitudes = Magnitudes::new(values).unwrap();
            for found in [best(&magnitudes), by_rule(&magnitudes)] {
                assert_eq!(found.squared_error, 0.0, "{values:?}");
                assert_eq!(found.scale, values.iter().fold(0.0_f64, |max, x: &f64| max.max(x.abs())));
            }
        }
        let none = with_threshold(&Magnitudes::new(&[1.0, -2.0]).unwrap(), 5.0);
        assert_eq!(none, Ternary { threshold: 5.0, scale: 0.0, squared_error: 5.0 });
    }
}
