//! Against the reference values, Max's table and the conditions of optimality.

use super::*;
use crate::solve::samples;
use crate::solve::special::erf;

/// Levels, mean squared error and entropy, `01_max_lloyd.json`.
const GAUSSIAN: [(usize, f64, f64); 8] = [
    (2, 0.3633802276324187, 1.0),
    (4, 0.11748184782932929, 1.9110987662225363),
    (8, 0.03454776078850373, 2.8248652142682427),
    (16, 0.009501008008191886, 3.7653284725224303),
    (32, 0.0025046683556747993, 4.729783539092048),
    (64, 0.0006442396653172622, 5.710077553684112),
    (128, 0.00016347822998023678, 6.699582889323205),
    (256, 4.1185082867117485e-05, 7.694119106462331),
];
const GAUSSIAN_8: [f64; 4] = [0.24509417894422167, 0.7560052812058773, 1.343909278505, 2.1519457045369874];
const GAUSSIAN_16: [f64; 8] = [
    0.128395029851147,
    0.3880482994902902,
    0.6567591185324634,
    0.9423404564869614,
    1.2562311973471771,
    1.6180463860218826,
    2.0690172265313866,
    2.732589570995163,
];
const GAUSSIAN_256: [(usize, f64); 5] = [
    (0, 0.008446193222756295),
    (40, 0.7029702684263094),
    (90, 1.810953088374312),
    (120, 3.2285002105788148),
    (127, 4.603535612430344),
];
/// Levels, mean squared error and entropy, `01_max_lloyd.json`.
const LAPLACE: [(usize, f64, f64); 8] = [
    (2, 0.5, 1.0),
    (4, 0.17619488105404257, 1.7282581989523045),
    (8, 0.05447598791394984, 2.5653992465346755),
    (16, 0.015372527059868418, 3.474835556923356),
    (32, 0.004102179987632282, 4.426840486820372),
    (64, 0.0010609522882367107, 5.402099166912705),
    (128, 0.0002698737736493592, 6.389533502553177),
    (256, 6.80617396826381e-05, 7.383200728261927),
];
const LAPLACE_8: [f64; 4] = [0.23340091669475047, 0.8329617763684515, 1.6724732558707691, 3.086686818243864];
const LAPLACE_16: [f64; 8] = [
    0.12398599541830689,
    0.40483922281421836,
    0.7286503451101973,
    1.1109840698918803,
    1.5777859032813812,
    2.1773467629550822,
    3.0168582424574,
    4.431071804830495,
];
const LAPLACE_256: [(usize, f64); 5] = [
    (0, 0.008249953920031196),
    (40, 0.80259637453044),
    (90, 2.5818840778722048),
    (120, 5.873643631090952),
    (127, 10.180729440503141),
];

fn close(value: f64, expected: f64, tolerance: f64) -> bool {
    (value - expected).abs() <= tolerance * expected.abs()
}

#[test]
fn reference_error_and_entropy() {
    for (density, table) in [(Density::Gaussian, GAUSSIAN), (Density::Laplace, LAPLACE)] {
        for (levels, mse, entropy) in table {
            let found = lloyd_max(density, levels).unwrap();
            assert_eq!((found.levels.len(), found.thresholds.len()), (levels, levels - 1));
            assert!(close(found.mse, mse, 1e-13), "{density:?} {levels}: {} {mse}", found.mse);
            assert!(
                close(found.entropy, entropy, 1e-13),
                "{density:?} {levels}: {} {entropy}",
                found.entropy
            );
        }
    }
}

#[test]
fn reference_levels() {
    let pairs = |levels: &[f64]| levels.iter().copied().enumerate().collect::<Vec<_>>();
    for (density, count, expected) in [
        (Density::Gaussian, 8, pairs(&GAUSSIAN_8)),
        (Density::Gaussian, 16, pairs(&GAUSSIAN_16)),
        (Density::Gaussian, 256, GAUSSIAN_256.to_vec()),
        (Density::Laplace, 8, pairs(&LAPLACE_8)),
        (Density::Laplace, 16, pairs(&LAPLACE_16)),
        (Density::Laplace, 256, LAPLACE_256.to_vec()),
    ] {
        let found = lloyd_max(density, count).unwrap().levels;
        for (k, level) in expected {
            let (up, down) = (found[count / 2 + k], -found[count / 2 - 1 - k]);
            assert!(
                close(up, level, 1e-12) && close(down, level, 1e-12),
                "{density:?} {count} {k}: {up} {level}"
            );
        }
    }
}

/// J. Max 1960, table I. The figures for 16 and 32 levels lie 0.04 % and 0.2 % below the true optimum.
#[test]
fn published_by_max() {
    for (levels, mse, tolerance) in
        [(2, 0.3634, 2e-4), (4, 0.1175, 2e-4), (8, 0.03454, 3e-4), (16, 0.009497, 3e-3), (32, 0.002499, 3e-3)]
    {
        let found = lloyd_max(Density::Gaussian, levels).unwrap();
        assert!(close(found.mse, mse, tolerance), "{levels}: {}", found.mse);
    }
}

/// Equal cells, in closed form.
#[test]
fn uniform_density() {
    for levels in [1, 2, 3, 7, 16, 256] {
        let found = lloyd_max(Density::Uniform, levels).unwrap();
        let n = levels as f64;
        assert!(close(found.mse, 1.0 / (n * n), 1e-13), "{levels}: {}", found.mse);
        assert!((found.entropy - n.log2()).abs() < 1e-13);
        for (k, level) in found.levels.iter().enumerate() {
            let expected = 3.0_f64.sqrt() * (2.0 * k as f64 + 1.0 - n) / n;
            assert!((level - expected).abs() < 1e-15 * (1.0 + n), "{levels} {k}: {level} {expected}");
        }
    }
}

/// The half-normal levels are the positive ones of the Gaussian with twice as many.
#[test]
fn half_normal() {
    for (levels, mse, _) in GAUSSIAN {
        let found = lloyd_max(Density::HalfNormal, levels / 2).unwrap();
        assert!(close(found.mse, mse, 1e-13), "{levels}: {} {mse}", found.mse);
    }
    let found = lloyd_max(Density::HalfNormal, 8).unwrap();
    assert!(found.levels.iter().zip(GAUSSIAN_16).all(|(&level, expected)| close(level, expected, 1e-12)));
}

/// Thresholds half way, levels in the centroids, which are integrated here by the midpoint rule.
#[test]
fn conditions_of_lloyd() {
    for density in [Density::Gaussian, Density::Laplace, Density::HalfNormal, Density::Uniform] {
        for levels in [3, 5, 12] {
            let found = lloyd_max(density, levels).unwrap();
            for (pair, threshold) in found.levels.windows(2).zip(&found.thresholds) {
                assert!((threshold - 0.5 * (pair[0] + pair[1])).abs() < 1e-13, "{density:?} {levels}");
            }
            let (start, end) = density.support();
            let mut edges = vec![start.max(-25.0)];
            edges.extend(&found.thresholds);
            edges.push(end.min(25.0));
            for (edges, level) in edges.windows(2).zip(&found.levels) {
                let step = (edges[1] - edges[0]) / 20_000.0;
                let points = (0..20_000).map(|i| edges[0] + (f64::from(i) + 0.5) * step);
                let (mass, first) = points.fold((0.0, 0.0), |(mass, first), x| {
                    let p = density.density(x);
                    (mass + p, first + p * x)
                });
                // The midpoint rule itself errs by step²/12.
                assert!(
                    (first / mass - level).abs() < 2e-5,
                    "{density:?} {levels}: {} {level}",
                    first / mass
                );
            }
        }
    }
}

/// Bennett's integral: (1/12) (∫ p^(1/3))³ / n² is approached from below, and the quantizer keeps meeting the
/// conditions up to the widest codes.
#[test]
fn many_levels() {
    let limits = [
        (Density::Gaussian, 3.0_f64.sqrt() * core::f64::consts::FRAC_PI_2),
        (Density::Laplace, 4.5),
        (Density::HalfNormal, 3.0_f64.sqrt() * core::f64::consts::FRAC_PI_2 / 4.0),
    ];
    for (density, limit) in limits {
        let mut last = 0.0;
        for levels in [64, 1024, 16_384] {
            let found = lloyd_max(density, levels).unwrap();
            let part = found.mse * (levels as f64).powi(2) / limit;
            assert!(part > last && part < 1.0, "{density:?} {levels}: {part}");
            assert!(found.levels.is_sorted_by(|a, b| a < b));
            last = part;
        }
        assert!(last > 0.9995, "{density:?}: {last}");
    }
}

#[test]
fn few_levels() {
    assert!(lloyd_max(Density::Gaussian, 0).is_none());
    let found = lloyd_max(Density::HalfNormal, 1).unwrap();
    assert!(close(found.levels[0], (2.0 / core::f64::consts::PI).sqrt(), 1e-15));
    assert!(close(found.mse, 1.0 - 2.0 / core::f64::consts::PI, 1e-14));
    assert_eq!((found.entropy, found.thresholds.len()), (0.0, 0));
}

/// Its error by definition, E[(max(x, 0) − Q(max(x, 0)))²], by the midpoint rule.
#[test]
fn half_wave_quantizers() {
    assert!(half_wave(0, ZeroLevel::Exact).is_none());
    assert_eq!(half_wave(1, ZeroLevel::Nearest).unwrap().mse, 0.5);
    for zero in [ZeroLevel::Exact, ZeroLevel::Nearest] {
        for levels in [2, 4, 16] {
            let found = half_wave(levels, zero).unwrap();
            assert_eq!(
                (found.levels.len(), found.thresholds.len(), found.levels[0]),
                (levels, levels - 1, 0.0)
            );
            let integral: f64 = (0..100_000)
                .map(|i| {
                    let x = (f64::from(i) + 0.5) * 1e-4;
                    let level = found.levels[found.thresholds.iter().filter(|&&t| x >= t).count()];
                    Density::Gaussian.density(x) * (x - level) * (x - level) * 1e-4
                })
                .sum();
            assert!(close(found.mse, integral, 1e-6), "{zero:?} {levels}: {} {integral}", found.mse);
            // Zero has half of the mass, and what is rounded to it.
            let edge = found.thresholds[0] * core::f64::consts::FRAC_1_SQRT_2;
            assert!((found.probabilities[0] - 0.5 - 0.5 * erf(edge)).abs() < 1e-14);
        }
        // The zero belongs to the first level.
        assert!(half_wave(4, zero).unwrap().thresholds[0] > 0.0);
    }
    for levels in [2, 3, 4, 16, 256] {
        let [exact, nearest] =
            [ZeroLevel::Exact, ZeroLevel::Nearest].map(|zero| half_wave(levels, zero).unwrap());
        assert!(nearest.mse < exact.mse, "{levels}");
    }
    // 01_max_lloyd.json, uint_relu: the best grid of equal steps with a zero level, 1 to 4 bits.
    for (bits, mse) in [
        (1, 0.09508701962395073),
        (2, 0.023429987194411358),
        (3, 0.00644469295535097),
        (4, 0.0018466098861740828),
    ] {
        let found = half_wave(1 << bits, ZeroLevel::Nearest).unwrap();
        // With one positive level both are the same quantizer.
        assert!(
            if bits == 1 { close(found.mse, mse, 1e-13) } else { found.mse < mse },
            "{bits}: {}",
            found.mse
        );
    }
}

/// The sum of squared errors, each value to its nearest level.
fn nearest_error(values: &[f64], levels: &[f64]) -> f64 {
    let error = |x: f64| levels.iter().map(|level| (x - level) * (x - level)).fold(f64::INFINITY, f64::min);
    values.iter().map(|&x| error(x)).sum::<f64>() / values.len() as f64
}

#[test]
fn values_meet_the_conditions() {
    for values in [samples::a(), samples::b(), samples::c()] {
        let source = Empirical::new(&values, None).unwrap();
        for levels in [2, 16, 100] {
            let found = lloyd_max_empirical(&source, levels, 100_000).unwrap();
            assert_eq!(found.levels.len(), levels);
            assert!(found.probabilities.iter().all(|&p| p > 0.0));
            for (pair, &threshold) in found.levels.windows(2).zip(&found.thresholds) {
                // No value lies between the threshold and the middle.
                let middle = 0.5 * (pair[0] + pair[1]);
                let between =
                    source.below(middle / source.unit()).abs_diff(source.below(threshold / source.unit()));
                assert!(between <= 1, "{levels}: {between} values between {middle} and {threshold}");
            }
            if levels == 16 {
                let error = nearest_error(&values, &found.levels);
                assert!(close(found.mse, error, 1e-11), "{}: {error}", found.mse);
            }
        }
    }
}

#[test]
fn the_error_never_grows() {
    let source = Empirical::new(&samples::b(), None).unwrap();
    let mut last = f64::INFINITY;
    for iterations in 0..60 {
        let found = lloyd_max_empirical(&source, 32, iterations).unwrap();
        assert!(found.mse <= last, "{iterations}: {} after {last}", found.mse);
        last = found.mse;
    }
    // From the start to here it did fall.
    assert!(last < 0.99 * lloyd_max_empirical(&source, 32, 0).unwrap().mse);
}

/// Quantiles of a density are nearly the density.
#[test]
fn values_of_a_density() {
    let values: Vec<f64> =
        (0..100_000).map(|i| Density::Laplace.quantile((f64::from(i) + 0.5) / 1e5)).collect();
    let source = Empirical::new(&values, None).unwrap();
    for levels in [2, 8, 16] {
        let density = lloyd_max(Density::Laplace, levels).unwrap();
        let found = lloyd_max_empirical(&source, levels, 10_000).unwrap();
        // Such a grid of quantiles has no tail beyond its last value.
        assert!(close(found.mse, density.mse, 5e-3), "{levels}: {} {}", found.mse, density.mse);
        assert!(
            close(found.entropy, density.entropy, 5e-3),
            "{levels}: {} {}",
            found.entropy,
            density.entropy
        );
    }
}

#[test]
fn values_of_all_kinds() {
    // Not more distinct values than levels: nothing is lost.
    let few = Empirical::new(&[3.0, -1.0, 3.0, 0.1], None).unwrap();
    for levels in [3, 4, 1000] {
        let found = lloyd_max_empirical(&few, levels, 10).unwrap();
        assert_eq!((found.levels, found.mse, found.entropy), (vec![-1.0, 0.1, 3.0], 0.0, 1.5));
    }
    assert!(lloyd_max_empirical(&few, 0, 10).is_none());
    assert_eq!(lloyd_max_empirical(&few, 1, 10).unwrap().levels, [1.275]);
    // An outlier takes all bins but one.
    let mut outlier: Vec<f64> = (0..1000).map(f64::from).collect();
    outlier.push(1e12);
    let found = lloyd_max_empirical(&Empirical::new(&outlier, None).unwrap(), 8, 1000).unwrap();
    assert_eq!(found.levels.len(), 8);
    assert!(close(found.mse, 1000.0 * (1000.0 / 7.0_f64).powi(2) / 12.0 / 1001.0, 0.01), "{}", found.mse);
    // Weights that vanish next to the whole.
    let source = Empirical::new(&[1.0, 2.0, 3.0, 4.0, 5.0], Some(&[1.0, 1e-30, 1.0, 1e-40, 1e-300])).unwrap();
    for levels in 1..=5 {
        let found = lloyd_max_empirical(&source, levels, 100).unwrap();
        assert!(found.mse.is_finite() && found.levels.iter().all(|level| (1.0..=5.0).contains(level)));
    }
    // Scales of all sizes.
    for scale in [1e-300, 1e300] {
        let scaled: Vec<f64> = samples::b().iter().take(500).map(|x| x * scale).collect();
        let found = lloyd_max_empirical(&Empirical::new(&scaled, None).unwrap(), 4, 100).unwrap();
        assert_eq!(found.levels.len(), 4);
        assert!(found.levels.iter().all(|level| (0.01..10.0).contains(&(level.abs() / scale))));
    }
}
