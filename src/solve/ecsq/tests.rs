//! Against Shannon's bound, closed-form solutions and brute force.

use super::*;
use crate::solve::lloyd_max::{lloyd_max, lloyd_max_empirical};
use crate::solve::samples;

const ALL: [Density; 4] = [Density::Gaussian, Density::Laplace, Density::Uniform, Density::HalfNormal];

fn decibels(mse: f64) -> f64 {
    -10.0 * mse.log10()
}

/// The zero of an increasing function.
fn zero(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if f(middle) < 0.0 { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// G. J. Sullivan, *Efficient scalar quantization of exponential and Laplacian random variables*, 1996: beyond
/// the cell about zero all cells are equal. With rate s of the exponential, step d, d' the distance of a level to
/// the lower end of its cell and t the end of the cell about zero,
///
/// ```text
/// d' = 1/s - d / (e^(s d) - 1),   d (d - 2 d') = lambda' s d,   t^2 - d'^2 = lambda' ln(p_0 / p_1),
/// ```
///
/// lambda' being lambda / ln 2.
#[test]
fn laplace_is_uniform_beyond_a_dead_zone() {
    let s = core::f64::consts::SQRT_2;
    for lambda in [0.003, 0.02, 0.1, 0.2] {
        let natural = lambda / LN_2;
        let offset = |d: f64| 1.0 / s - d / (s * d).exp_m1();
        let d = zero(1e-6, 50.0, |d| d - 2.0 * offset(d) - natural * s);
        let (p0, p1) = (|t: f64| -(-s * t).exp_m1(), |t: f64| -0.5 * (-s * t).exp() * (-s * d).exp_m1());
        let t = zero(1e-9, 10.0, |t| t * t - offset(d).powi(2) - natural * (p0(t) / p1(t)).ln());

        let found = ecsq(Density::Laplace, 255, lambda).unwrap();
        let positive: Vec<f64> = found.thresholds.iter().copied().filter(|&t| t > 0.0).collect();
        assert!(found.levels[found.thresholds.len() - positive.len()].abs() < 1e-9);
        // That there are finitely many cells, up to 1e-12 of the mass, is felt less and less toward zero.
        assert!((positive[0] - t).abs() < 5e-8, "{lambda}: {} {t}", positive[0]);
        for pair in positive.windows(2).take(positive.len() / 8) {
            assert!((pair[1] - pair[0] - d).abs() < 1e-6, "{lambda}: {} {d}", pair[1] - pair[0]);
        }
        // What the quantizer without an end costs, as a geometric series.
        let cells = 2.0 * p1(t) / -(-s * d).exp_m1();
        let within = 1.0 / (s * s) - d * d * (s * d).exp() / (s * d).exp_m1().powi(2);
        let center = zero_cell(s, t);
        let mse = center + cells * within;
        assert!((found.mse - mse).abs() < 1e-8 * mse, "{lambda}: {} {mse}", found.mse);
    }
}

/// ∫ x² p over the cell about zero of a Laplace density of rate s.
fn zero_cell(s: f64, t: f64) -> f64 {
    let steps = 100_000;
    let h = t / f64::from(steps);
    (0..steps).map(|i| (f64::from(i) + 0.5) * h).map(|x| x * x * s * (-s * x).exp() * h).sum()
}

/// Three symmetric levels have one threshold: a scan over it.
#[test]
fn three_levels_by_brute_force() {
    for density in [Density::Gaussian, Density::Laplace] {
        for lambda in [0.05, 0.15, 0.25] {
            let cost = |t: f64| {
                let tail = density.moments(t, f64::INFINITY, 0.0);
                let (p, level) = (tail.mass, tail.first / tail.mass);
                let entropy = -2.0 * p * p.log2() - (1.0 - 2.0 * p) * (1.0 - 2.0 * p).log2();
                1.0 - 2.0 * p * level * level + lambda * entropy
            };
            let scanned = (1..40_000).map(|i| cost(f64::from(i) * 1e-4)).fold(f64::INFINITY, f64::min);
            let found = ecsq(density, 3, lambda).unwrap();
            let own = found.mse + lambda * found.entropy;
            assert!(own <= scanned + 1e-12, "{density:?} {lambda}: {own} {scanned}");
            // Anything better has two levels, or is not symmetric.
            let symmetric = found.levels.len() == 3 && found.levels[1].abs() < 1e-9;
            assert!(!symmetric || own > scanned - 1e-7, "{density:?} {lambda}: {own} {scanned}");
        }
    }
}

/// Coordinate descent on D + λH from 60 random starts each of 2 to 6 levels (a program of its own): at 1 bit.
#[test]
fn gaussian_by_random_search() {
    let lambda = 0.44243;
    let found = ecsq(Density::Gaussian, 256, lambda).unwrap();
    let cost = found.mse + lambda * found.entropy;
    assert!((cost - 0.7906912797).abs() < 1e-10, "{cost}");
    assert!((found.mse - 0.3482633).abs() < 1e-6, "{}", found.mse);
    assert!(found.thresholds.iter().any(|t| (t - 1.208746).abs() < 1e-5), "{found:?}");
}

/// On its own objective never worse than Lloyd-Max of any number of levels.
#[test]
fn at_most_the_cost_of_lloyd_max() {
    for density in ALL {
        for lambda in [0.0, 1e-4, 0.01, 0.1, 0.4, 2.0, f64::INFINITY] {
            let found = ecsq(density, 16, lambda).unwrap();
            for levels in 1..=16 {
                let other = lloyd_max(density, levels).unwrap();
                let cost = |q: &ScalarQuantizer| {
                    if lambda == f64::INFINITY { q.entropy } else { q.mse + lambda * q.entropy }
                };
                assert!(cost(&found) <= cost(&other) * (1.0 + 1e-12), "{density:?} {lambda} {levels}");
            }
        }
        let free = ecsq(density, 16, 0.0).unwrap();
        assert!((free.mse / lloyd_max(density, 16).unwrap().mse - 1.0).abs() < 1e-12);
    }
}

/// At the entropy of a Lloyd-Max quantizer the error is smaller.
#[test]
fn at_the_entropy_of_lloyd_max() {
    for (density, gain) in [(Density::Gaussian, 0.2), (Density::Laplace, 0.5), (Density::HalfNormal, 0.1)] {
        for levels in [4, 8, 16] {
            let other = lloyd_max(density, levels).unwrap();
            let found = ecsq_of_entropy(density, 256, other.entropy).unwrap();
            assert!(
                (found.quantizer.entropy - other.entropy).abs() < 1e-6,
                "{density:?} {levels}: {found:?}"
            );
            let better = decibels(found.quantizer.mse) - decibels(other.mse);
            assert!(better > gain, "{density:?} {levels}: {better} dB");
        }
    }
    // Equal cells are optimal for the uniform density, with any cost of entropy.
    let found = ecsq_of_entropy(Density::Uniform, 256, 3.0).unwrap();
    assert!((found.quantizer.mse - 1.0 / 64.0).abs() < 1e-9, "{}", found.quantizer.mse);
}

/// H. Gish and J. N. Pierce, *Asymptotically efficient quantizing*, 1968: at high rates 0.2546 bits (1.53 dB)
/// from Shannon's bound; and from 1 bit on never more.
#[test]
fn distance_to_shannon() {
    let gap = 0.5 * (core::f64::consts::PI * core::f64::consts::E / 6.0).log2();
    for bits in [1.0, 1.5, 2.0, 3.0, 4.0, 5.0] {
        let found = ecsq_of_entropy(Density::Gaussian, 256, bits).unwrap().quantizer;
        let distance = found.entropy + 0.5 * found.mse.log2();
        assert!((found.entropy - bits).abs() < 1e-6, "{bits}: {}", found.entropy);
        assert!(distance > 0.0 && distance < gap + 1e-6, "{bits}: {distance}");
        if bits >= 4.0 {
            assert!(distance > gap - 1e-3, "{bits}: {distance}");
        }
    }
    // λ is the slope of the curve: at high rates 2 ln 2 D.
    let found = ecsq_of_entropy(Density::Gaussian, 256, 5.0).unwrap();
    assert!((found.lambda / (2.0 * LN_2 * found.quantizer.mse) - 1.0).abs() < 1e-3, "{}", found.lambda);
}

/// Empirical data: the same comparisons.
#[test]
fn values() {
    for values in [samples::a(), samples::b(), samples::c()] {
        let source = Empirical::new(&values, None).unwrap();
        let other = lloyd_max_empirical(&source, 8, 10_000).unwrap();
        let found = ecsq_of_entropy_empirical(&source, 64, other.entropy).unwrap();
        let q = &found.quantizer;
        assert!(
            q.entropy <= other.entropy && q.entropy > other.entropy - 1e-2,
            "{} {}",
            q.entropy,
            other.entropy
        );
        assert!(q.mse < 0.9 * other.mse, "{} {}", q.mse, other.mse);
        // The same λ leads there again.
        let again = ecsq_empirical(&source, 64, found.lambda).unwrap();
        let cost = |q: &ScalarQuantizer| q.mse + found.lambda * q.entropy;
        assert!(cost(&again) <= cost(q) * (1.0 + 1e-12), "{} {}", cost(&again), cost(q));
        // Levels are where the decision rule says: no value is better off at another level.
        for x in values.iter().step_by(997) {
            let cell = q.thresholds.iter().filter(|&t| x >= t).count();
            let cost = |k: usize| (x - q.levels[k]).powi(2) - found.lambda * q.probabilities[k].log2();
            assert!((0..q.levels.len()).all(|k| cost(cell) <= cost(k) + 1e-3 * found.lambda), "{x}");
        }
    }
}

#[test]
fn values_of_a_density() {
    let values: Vec<f64> =
        (0..50_000).map(|i| Density::Gaussian.quantile((f64::from(i) + 0.5) / 5e4)).collect();
    let source = Empirical::new(&values, None).unwrap();
    for lambda in [0.01, 0.1, 0.3] {
        let (a, b) =
            (ecsq(Density::Gaussian, 64, lambda).unwrap(), ecsq_empirical(&source, 64, lambda).unwrap());
        let cost = |q: &ScalarQuantizer| q.mse + lambda * q.entropy;
        assert!((cost(&a) - cost(&b)).abs() < 1e-3 * cost(&a), "{lambda}: {} {}", cost(&a), cost(&b));
    }
}

#[test]
fn borders() {
    for density in ALL {
        assert!(ecsq(density, 0, 0.1).is_none() && ecsq_of_entropy(density, 0, 1.0).is_none());
        assert!(ecsq(density, 4, -0.1).is_none() && ecsq(density, 4, f64::NAN).is_none());
        assert!(
            ecsq_of_entropy(density, 4, -0.1).is_none() && ecsq_of_entropy(density, 4, f64::NAN).is_none()
        );
        // No entropy: one level. More than any levels need: those of least error.
        let none = ecsq_of_entropy(density, 16, 0.0).unwrap().quantizer;
        assert_eq!((none.levels.len(), none.entropy), (1, 0.0));
        let all = ecsq_of_entropy(density, 16, 20.0).unwrap();
        assert_eq!((all.quantizer.levels.len(), all.lambda), (16, 0.0));
    }
    // Values without any spread, of any scale.
    for values in [&[5.0][..], &[0.0, 0.0]] {
        let source = Empirical::new(values, None).unwrap();
        assert_eq!(ecsq_empirical(&source, 4, 0.1).unwrap().levels, [values[0]]);
        assert_eq!(ecsq_of_entropy_empirical(&source, 4, 1.0).unwrap().quantizer.mse, 0.0);
    }
    for scale in [1e-200, 1e200] {
        let values: Vec<f64> = samples::b().iter().take(500).map(|x| x * scale).collect();
        let source = Empirical::new(&values, None).unwrap();
        let found = ecsq_of_entropy_empirical(&source, 16, 2.0).unwrap().quantizer;
        assert!(found.levels.len() > 4 && found.entropy <= 2.0 && found.entropy > 1.9, "{found:?}");
        assert!(ecsq_empirical(&source, 16, 0.1).is_some());
    }
}
