use proptest::prelude::*;

use super::lloyd::lloyd;
use super::*;
use crate::solve::samples::SplitMix64;

/// The values and weights of `reference/05_kmeans.json` with n values.
fn numerators(n: i64) -> (Vec<f64>, Vec<f64>) {
    let x = (0..n).map(|i| ((7919 * i * i + 104_729 * i + 17) % 10_007) as f64 / 10_007.0).collect();
    (x, (0..n).map(|i| (1 + (37 * i) % 11) as f64).collect())
}

/// Its bell curve.
fn bell() -> (Vec<f64>, Vec<f64>) {
    let mut random = SplitMix64(77);
    let x = (0..256).map(|_| (random.normal() * 10_007.0).round_ties_even() / 10_007.0).collect();
    (x, (0_u32..256).map(|i| f64::from(1 + i * i % 13)).collect())
}

/// How many values are nearest to each centroid.
fn sizes(values: &[f64], centroids: &[f64]) -> Vec<usize> {
    let mut sizes = vec![0; centroids.len()];
    for x in values {
        let middles = centroids.windows(2).take_while(|pair| 0.5 * (pair[0] + pair[1]) < *x);
        sizes[middles.count()] += 1;
    }
    sizes
}

/// The error of centroids in ascending order, from the values themselves.
fn error<T: Real>(values: &[T], centroids: &[f64]) -> f64 {
    let middles: Vec<f64> = centroids.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect();
    let values = values.iter().map(|x| x.to_f64().unwrap());
    values.map(|x| (x - centroids[middles.partition_point(|middle| *middle < x)]).powi(2)).sum()
}

/// Cost, and sizes with the first and the last centroid.
type Best = (f64, &'static [usize], f64, f64);

fn check(found: &Clusters, values: &[f64], k: usize, (cost, expected, first, last): Best) {
    assert!(found.exact);
    assert_eq!(found.centroids.len(), k);
    assert!((found.squared_error - cost).abs() <= 1e-12 * cost, "{k}: {} {cost}", found.squared_error);
    assert_eq!(sizes(values, &found.centroids), expected);
    for (found, expected) in [(found.centroids[0], first), (found.centroids[k - 1], last)] {
        assert!((found - expected).abs() <= 1e-12, "{k}: {found} {expected}");
    }
}

/// `05_kmeans.json`, n=64: K = 2, 4, 8, 16, plain and with weights.
const N64: [[Best; 4]; 2] = [
    [
        (1.3151888566483487, &[30, 34], 0.18768528696579062, 0.6974558985180962),
        (0.298117233288016, &[14, 14, 18, 18], 0.059643963511256406, 0.820425702008594),
        (0.06873635827474266, &[9, 7, 7, 7, 9, 9, 11, 5], 0.026970009881971513, 0.9316478465074448),
        (
            0.012165781084138363,
            &[9, 3, 4, 5, 2, 4, 3, 3, 5, 2, 6, 3, 8, 3, 2, 2],
            0.026970009881971513,
            0.9789647246927151,
        ),
    ],
    [
        (7.516119948384357, &[30, 34], 0.18180860354273748, 0.7077500749475367),
        (1.835975835259495, &[16, 14, 16, 18], 0.08322785161498063, 0.8100421371706472),
        (0.3960382545034625, &[9, 5, 9, 7, 10, 8, 11, 5], 0.030072053011168044, 0.9422764065154392),
        (
            0.059860509929448365,
            &[9, 3, 4, 3, 4, 3, 2, 4, 6, 2, 6, 3, 8, 2, 3, 2],
            0.030072053011168044,
            0.9865003588397212,
        ),
    ],
];

/// `05_kmeans.json`, n=200: K = 2, 4, 8, 16, plain and with weights.
const N200: [[Best; 4]; 2] = [
    [
        (3.8677973267037427, &[90, 110], 0.2024649412078212, 0.7150322047294166),
        (0.9804694259625717, &[46, 42, 51, 61], 0.08782547868665846, 0.8246899301636396),
        (0.24562455556030702, &[29, 21, 24, 22, 31, 28, 34, 11], 0.04664321182069103, 0.9496897626207109),
        (
            0.05372472339001945,
            &[21, 10, 9, 13, 13, 11, 11, 11, 18, 10, 10, 17, 16, 19, 5, 6],
            0.03221554435704531,
            0.9714533160121249,
        ),
    ],
    [
        (22.496724966829216, &[88, 112], 0.18759713891658605, 0.7063409570135437),
        (5.596186340880395, &[40, 43, 54, 63], 0.0643349655241331, 0.8129844641745702),
        (1.3717930147217612, &[34, 32, 24, 27, 19, 19, 33, 12], 0.05670464637018238, 0.9377278762009451),
        (
            0.2945797069650069,
            &[13, 12, 12, 13, 16, 10, 11, 9, 12, 10, 18, 18, 16, 19, 7, 4],
            0.02273408613970221,
            0.9845686966491878,
        ),
    ],
];

/// `05_kmeans.json`, g12: K = 2, 4, 8, 16, plain and with weights.
const BELL: [[Best; 4]; 2] = [
    [
        (86.20051330048433, &[126, 130], -0.8064957704210228, 0.6986839981243899),
        (29.037583937339626, &[54, 95, 84, 23], -1.3477436165054832, 1.6851204157090036),
        (6.909741754948924, &[9, 31, 36, 43, 47, 60, 22, 8], -2.3169892186580503, 2.1668207254921557),
        (
            1.534791264176693,
            &[4, 4, 9, 21, 16, 21, 17, 22, 30, 22, 28, 21, 18, 15, 4, 4],
            -2.599105626061757,
            2.3935994803637453,
        ),
    ],
    [
        (595.7589280886958, &[114, 142], -0.9117423628702627, 0.5941930904776912),
        (206.01391758582872, &[38, 93, 95, 30], -1.5930036025142114, 1.5050437371435623),
        (47.90690464238269, &[8, 30, 39, 51, 44, 55, 21, 8], -2.3759925195220486, 2.122511968894501),
        (
            10.500750588652707,
            &[4, 4, 9, 21, 16, 21, 17, 22, 30, 22, 28, 28, 11, 15, 7, 1],
            -2.6207842010592586,
            2.715099430398721,
        ),
    ],
];

/// `05_kmeans.json`, `lloyd_linear_init` and `lloyd_linear_init_weighted` of the three sets.
const LLOYD: [([f64; 4], [f64; 4]); 3] = [
    (
        [1.3151888566483485, 0.30798930194731966, 0.08594071989096788, 0.014390628818246334],
        [7.516119948384357, 1.9079754558187267, 0.47804880404692773, 0.06903961842819896],
    ),
    (
        [3.867797326703742, 0.9847814224972002, 0.245624555560307, 0.054365605515721324],
        [22.508599243391405, 5.64804075756645, 1.4019167845077791, 0.3076254622148378],
    ),
    (
        [86.21891819592766, 29.044185987173613, 6.991177487961167, 2.3771043245745553],
        [595.7589280886959, 210.25413508929512, 50.19541089273309, 16.653782466898903],
    ),
];

#[test]
fn the_reference_is_reached() {
    let sets = [(numerators(64), N64), (numerators(200), N200), (bell(), BELL)];
    for ((x, h), [plain, weighted]) in sets {
        for (k, (best, best_weighted)) in [2, 4, 8, 16].into_iter().zip(plain.into_iter().zip(weighted)) {
            check(&kmeans(&x, k).unwrap(), &x, k, best);
            check(&kmeans_weighted(&x, &h, k).unwrap(), &x, k, best_weighted);
        }
    }
}

#[test]
fn lloyd_ends_in_the_local_minima_of_the_reference() {
    let sets = [numerators(64), numerators(200), bell()];
    for ((x, h), (plain, weighted)) in sets.iter().zip(LLOYD) {
        for ((k, cost), weighted_cost) in [2, 4, 8, 16].into_iter().zip(plain).zip(weighted) {
            let found = lloyd::<f64, f64>(x, None, k, 1000).unwrap();
            assert!(
                (found.squared_error - cost).abs() <= 1e-12 * cost,
                "{k}: {} {cost}",
                found.squared_error
            );
            assert!(found.squared_error >= kmeans(x, k).unwrap().squared_error * (1.0 - 1e-12));
            let found = lloyd(x, Some(h), k, 1000).unwrap().squared_error;
            assert!((found - weighted_cost).abs() <= 1e-12 * weighted_cost, "{k}: {found} {weighted_cost}");
            assert!(found >= kmeans_weighted(x, h, k).unwrap().squared_error * (1.0 - 1e-12));
        }
    }
}

/// The least error of any division of sorted pairs into k runs, by trying all.
fn brute_force(pairs: &[(f64, f64)], k: usize) -> f64 {
    if k <= 1 || pairs.is_empty() {
        let weight: f64 = pairs.iter().map(|pair| pair.1).sum();
        let mean = pairs.iter().map(|(x, h)| x * h).sum::<f64>() / if weight > 0.0 { weight } else { 1.0 };
        return pairs.iter().map(|(x, h)| h * (x - mean) * (x - mean)).sum();
    }
    let ends = 0..=pairs.len();
    ends.map(|end| brute_force(&pairs[..end], 1) + brute_force(&pairs[end..], k - 1))
        .fold(f64::INFINITY, f64::min)
}

proptest! {
    #[test]
    fn no_division_of_few_values_is_better(
        pairs in proptest::collection::vec((-20_i32..20, 0_u32..4, -1.0_f64..1.0), 1..=10),
        k in 1_usize..=4,
    ) {
        for smooth in [0.0, 1.0] {
            let values: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.0) + smooth * pair.2).collect();
            let weights: Vec<f32> = pairs.iter().map(|pair| pair.1 as f32).collect();
            let mut sorted: Vec<(f64, f64)> =
                values.iter().zip(&weights).map(|(x, h)| (*x, f64::from(*h))).collect();
            sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
            let found = kmeans_weighted(&values, &weights, k).unwrap();
            let best = brute_force(&sorted, k);
            prop_assert!((found.squared_error - best).abs() <= 1e-12 * (1.0 + best), "{found:?} {best}");
            prop_assert!(found.centroids.is_sorted() && found.centroids.len() == k);
            sorted.iter_mut().for_each(|pair| pair.1 = 1.0);
            let found = kmeans(&values, k).unwrap();
            let best = brute_force(&sorted, k);
            prop_assert!((found.squared_error - best).abs() <= 1e-12 * (1.0 + best), "{found:?} {best}");
            let direct = error(&values, &found.centroids);
            prop_assert!((direct - best).abs() <= 1e-12 * (1.0 + best), "{direct} {best}");
        }
    }

    #[test]
    fn the_order_of_values_and_the_unit_make_no_difference(
        mut pairs in proptest::collection::vec((-100_i32..100, 1_u32..1000), 1..60),
        k in 1_usize..20,
    ) {
        let split = |pairs: &[(i32, u32)], unit: f64| -> (Vec<f64>, Vec<f64>) {
            pairs.iter().map(|pair| (f64::from(pair.0) * unit, f64::from(pair.1) / 7.0)).unzip()
        };
        let (values, weights) = split(&pairs, 1.0);
        let found = kmeans_weighted(&values, &weights, k).unwrap();
        pairs.reverse();
        let (values, weights) = split(&pairs, 2.0_f64.powi(900));
        let scaled = kmeans_weighted(&values, &weights, k).unwrap();
        let back: Vec<f64> = scaled.centroids.iter().map(|c| c / 2.0_f64.powi(900)).collect();
        prop_assert_eq!(back, found.centroids);
    }
}

#[test]
fn few_distinct_values_are_their_own_centroids() {
    let found = kmeans(&[3.0_f32, -1.0, 3.0, 0.0, -0.0], 5).unwrap();
    assert_eq!(found.centroids, [-1.0, 0.0, 3.0, 3.0, 3.0]);
    assert_eq!((found.squared_error, found.exact), (0.0, true));
    assert_eq!(kmeans(&[2.5_f64; 7], 2).unwrap().centroids, [2.5, 2.5]);
    assert_eq!(kmeans(&[1.0_f64, 3.0], 0).unwrap().centroids, [2.0]);
    // Also where there are many values.
    let many: Vec<f32> = (0..100_000).map(|i| (i % 37) as f32 * 0.1).collect();
    let found = kmeans(&many, 64).unwrap();
    let distinct: Vec<f64> = (0..64).map(|i| f64::from(i.min(36) as f32 * 0.1)).collect();
    assert_eq!((found.centroids, found.squared_error), (distinct, 0.0));
    assert_eq!(kmeans(&vec![0.7_f32; 100_000], 16).unwrap().centroids, [f64::from(0.7_f32); 16]);
}

#[test]
fn what_does_not_count() {
    assert_eq!(kmeans::<f32>(&[], 4), None);
    assert_eq!(kmeans(&[f32::NAN, f32::INFINITY], 4), None);
    assert_eq!(kmeans(&[f32::NAN, 1.0, f32::NEG_INFINITY], 1).unwrap().centroids, [1.0]);
    let mut many: Vec<f64> = (0..70_000).map(f64::from).collect();
    many[5] = f64::NAN;
    many[7] = f64::INFINITY;
    let found = kmeans(&many, 1).unwrap();
    assert!((found.centroids[0] - 35_000.0).abs() < 1.0);
    // Without weights all are equal; invalid ones are none.
    let found = kmeans_weighted(&[0.0, 1.0, 5.0], &[0.0, 0.0, 0.0], 1).unwrap();
    assert_eq!((found.centroids[0], found.squared_error), (2.0, 0.0));
    let found = kmeans_weighted(&[0.0, 1.0, 5.0, 9.0], &[f32::NAN, 1.0, 1.0, -1.0], 1).unwrap();
    assert_eq!(found.centroids, [3.0]);
    assert_eq!(kmeans_weighted(&[0.0, 2.0, 7.0], &[1.0, 1.0], 1).unwrap().centroids, [1.0]);
    assert_eq!(lloyd::<f64, f64>(&[f64::NAN], None, 3, 5), None);
}

#[test]
fn the_largest_and_the_smallest_numbers() {
    let found = kmeans(&[f64::MIN, f64::MAX, f64::MAX, 0.0], 3).unwrap();
    assert_eq!(found.centroids, [f64::MIN, 0.0, f64::MAX]);
    let found = kmeans(&[f64::MIN, f64::MAX, 1.0, 0.0], 3).unwrap();
    assert_eq!((found.centroids[0], found.centroids[2]), (f64::MIN, f64::MAX));
    let tiny = f64::from_bits(1);
    let found = kmeans(&[0.0, tiny, 1000.0 * tiny, 1001.0 * tiny], 2).unwrap();
    assert!(found.centroids[0] <= tiny && found.centroids[1] >= 1000.0 * tiny);
    for unit in [f64::MAX, 1e-310, tiny * 1e6] {
        let many: Vec<f64> = (0..70_000).map(|i| unit * (f64::from(i) / 69_999.0 * 2.0 - 1.0)).collect();
        let found = kmeans(&many, 4).unwrap();
        for (c, expected) in found.centroids.iter().zip([-0.75, -0.25, 0.25, 0.75]) {
            assert!((c / unit - expected).abs() < 1e-3, "{unit:e} {found:?}");
        }
    }
    let found = kmeans_weighted(&[1.0, 2.0, 4.0], &[1e-300, 1e300, 1e300], 2).unwrap();
    assert_eq!(found.centroids, [2.0, 4.0]);
}

#[test]
fn outliers_and_distance_cost_no_digits() {
    // Four pairs far from each other, which plain sums of squares cannot tell apart from four values.
    let values = [-1e9, -1e9 + 2.0, -3.0, -1.0, 5.0, 8.0, 1e10, 1e10 + 4.0];
    let found = kmeans(&values, 4).unwrap();
    assert_eq!(found.centroids, [-1e9 + 1.0, -2.0, 6.5, 1e10 + 2.0]);
    assert_eq!(found.squared_error, 2.0 + 2.0 + 4.5 + 8.0);
    let found = kmeans(&values, 7).unwrap();
    assert_eq!(found.squared_error, 2.0);
}

#[test]
fn points_of_a_histogram() {
    let found = kmeans_of_points(&[0.0, 1.0, 2.0, 10.0, 11.0], &[3, 1, 0, 1, 1], 2).unwrap();
    assert_eq!(found.centroids, [0.25, 10.5]);
    assert_eq!(found.squared_error, 0.75 + 0.5);
    assert_eq!(kmeans_of_points(&[1.0], &[0], 2), None);
}

/// Data sets of many values: bell curve, two-sided exponential, even, one outlier at a million standard
/// deviations, Cauchy, nine tenths zeros, two narrow groups far apart.
fn data(kind: usize, n: usize) -> Vec<f32> {
    let mut random = SplitMix64(kind as u64 + 11);
    let value = |i: usize| match kind {
        0 => random.normal(),
        1 => random.laplace(),
        2 => random.uniform(),
        3 if i == n / 2 => 1e6,
        3 => random.normal(),
        4 => (core::f64::consts::PI * (random.uniform() - 0.5)).tan(),
        5 => random.normal() * f64::from(u8::from(i.is_multiple_of(10))),
        _ => random.normal() * 0.01 + if i.is_multiple_of(2) { 10.0 } else { -1e3 },
    };
    (0..n).map(value).map(|x| x as f32).collect()
}

/// The gap that the documentation states, measured where the best is known.
#[test]
fn bins_lose_little() {
    for (kinds, n, k, limit) in
        [(0..7, EXACT, 16, 1e-4), (0..2, EXACT / 2, 256, 3e-4), (3..5, EXACT / 2, 256, 3e-4)]
    {
        for kind in kinds {
            let values = data(kind, n);
            let best = exact::solve(&Points::collect::<f32, f32>(&values, None), k).unwrap();
            let found = histogram::solve::<f32, f32>(&values, None, k).unwrap();
            assert!(!found.exact && found.centroids.is_sorted() && found.centroids.len() == k);
            let (best, cost) = (best.squared_error, error(&values, &found.centroids));
            assert!(cost >= best * (1.0 - 1e-9), "{kind} {k}: {cost} {best}");
            assert!(cost <= best * (1.0 + limit), "{kind} {k}: {:e}", cost / best - 1.0);
            assert!((found.squared_error / cost - 1.0).abs() < 1e-3, "{kind} {k}: {}", found.squared_error);
        }
    }
}

#[test]
fn bins_with_weights_lose_little() {
    let mut random = SplitMix64(4);
    let weights: Vec<f64> = (0..EXACT / 2).map(|_| random.uniform().powi(4)).collect();
    for kind in [0, 3] {
        let values = data(kind, weights.len());
        let best = exact::solve(&Points::collect(&values, Some(&weights)), 16).unwrap();
        let found = histogram::solve(&values, Some(&weights), 16).unwrap();
        let middles: Vec<f64> = found.centroids.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect();
        let cost: f64 = values.iter().zip(&weights).fold(0.0, |sum, (x, h)| {
            let x = f64::from(*x);
            sum + h * (x - found.centroids[middles.partition_point(|middle| *middle < x)]).powi(2)
        });
        let best = best.squared_error;
        assert!(
            (best * (1.0 - 1e-9)..=best * (1.0 + 1e-4)).contains(&cost),
            "{kind}: {:e}",
            cost / best - 1.0
        );
        assert!((found.squared_error / cost - 1.0).abs() < 1e-3);
    }
}

#[test]
fn many_values_are_better_off_than_with_lloyd() {
    for kind in 0..3 {
        let values = data(kind, 70_000);
        for k in [4, 64] {
            let found = error(&values, &kmeans(&values, k).unwrap().centroids);
            let plain = lloyd::<f32, f32>(&values, None, k, 30).unwrap().squared_error;
            assert!(found <= plain * (1.0 + 1e-4), "{kind} {k}: {found} {plain}");
        }
    }
}
