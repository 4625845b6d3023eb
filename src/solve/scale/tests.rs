use proptest::prelude::*;

use super::search::{SWEPT, Search};
use super::*;
use crate::solve::samples::{self, SplitMix64};

fn same(scale: f64) -> f64 {
    scale
}

fn family(q_min: i32, q_max: i32, zero: ZeroRule) -> GridFamily {
    GridFamily { q_min, q_max, zero }
}

fn symmetric(bits: u32) -> GridFamily {
    let max = (1 << (bits - 1)) - 1;
    family(-max, max, ZeroRule::Fixed(0.0))
}

fn unsigned(bits: u32, zero: ZeroRule) -> GridFamily {
    family(0, (1 << bits) - 1, zero)
}

/// lowbit reference values 06_07, `mse_clip`: bits and least mean squared error.
const A: [(u32, f64); 6] = [
    (2, 0.4025447009641744),
    (3, 0.2596566408791007),
    (4, 0.14275083457710544),
    (5, 0.052364991243489534),
    (6, 0.01666930522439772),
    (8, 0.0014358226895120878),
];
const B: [(u32, f64); 6] = [
    (2, 0.19526926469965422),
    (3, 0.05294032551909737),
    (4, 0.019069224138080265),
    (5, 0.009442527033395763),
    (6, 0.005206552840822224),
    (8, 0.0009091813873465391),
];
const C: [(u32, f64); 6] = [
    (2, 0.1026653698150672),
    (3, 0.045207623936020756),
    (4, 0.02000042696167728),
    (5, 0.008764153327108858),
    (6, 0.0035943409107152447),
    (8, 0.0003808025901783768),
];

#[test]
fn reference_errors() {
    for (data, rows, signed) in [(samples::a(), A, false), (samples::b(), B, true), (samples::c(), C, false)]
    {
        for (bits, mse) in rows {
            let families = if signed {
                vec![symmetric(bits)]
            } else {
                vec![unsigned(bits, ZeroRule::Fixed(0.0)), unsigned(bits, ZeroRule::Integer)]
            };
            for family in families {
                let best = best_grid(&data, &family, &same).unwrap();
                let found = best.squared_error / data.len() as f64;
                assert!((found / mse - 1.0).abs() < 1e-4, "{family:?}: {found} {mse}");
            }
        }
    }
}

/// The least error of a fine grid of scales, and of zero points where the rule leaves them open; every found
/// minimum is improved by alternation.
fn exhaustive(values: &[f64], family: &GridFamily, steps: usize) -> f64 {
    let (low, high) = extremes(values);
    let points = Points { values, weights: None, low, high };
    let codes = f64::from(family.q_max - family.q_min);
    let largest = high.max(-low);
    let zeros: Vec<f64> = match family.zero {
        ZeroRule::Fixed(zero) => vec![zero],
        ZeroRule::Integer => (family.q_min..=family.q_max).map(f64::from).collect(),
        ZeroRule::Real => {
            (-8..=(codes as i32 + 1) * 8).map(|i| f64::from(family.q_min) + f64::from(i) / 8.0).collect()
        }
    };
    let (from, to) = (0.3 * largest / codes, 4.2 * largest / codes);
    let search = Search { points: &points, family, round_scale: &same, few: true };
    let mut best = f64::INFINITY;
    for zero in zeros {
        let at = |i: usize| points.sums(from * (to / from).powf(i as f64 / steps as f64), zero, family);
        let errors: Vec<f64> = (0..=steps).map(|i| at(i).error).collect();
        best = errors.iter().copied().fold(best, f64::min);
        for i in 1..steps {
            if errors[i] <= errors[i - 1] && errors[i] <= errors[i + 1] && errors[i] < 1.2 * best {
                let mut found = None;
                search.improve(from * (to / from).powf(i as f64 / steps as f64), zero, 10, &mut found);
                best = best.min(found.unwrap().squared_error);
            }
        }
    }
    best
}

type Draw = fn(&mut SplitMix64) -> f64;

const DRAWS: [(&str, Draw); 5] = [
    ("normal", SplitMix64::normal),
    ("laplace", SplitMix64::laplace),
    ("uniform", |random| random.uniform() - 0.5),
    ("positive", |random| random.uniform().powi(3) + 0.01),
    ("lattice", |random| (random.normal() * 10.0).round() * 0.1),
];

fn families(bits: u32) -> Vec<GridFamily> {
    let half = 1 << (bits - 1);
    let mut families = vec![
        family(-half, half - 1, ZeroRule::Fixed(-0.5)),
        family(0, 2 * half - 1, ZeroRule::Fixed(f64::from(half))),
        family(0, 2 * half - 1, ZeroRule::Fixed(f64::from(half) - 0.5)),
        family(0, 2 * half - 1, ZeroRule::Integer),
        family(-half, half - 1, ZeroRule::Integer),
        family(0, 2 * half - 1, ZeroRule::Real),
    ];
    if bits > 1 {
        families.push(symmetric(bits));
        families.push(family(-half, half - 1, ZeroRule::Fixed(0.0)));
    }
    families
}

#[test]
fn as_good_as_an_exhaustive_search() {
    let mut random = SplitMix64(3);
    for (name, draw) in DRAWS {
        for (n, bits) in [(1, 4), (2, 3), (5, 4), (40, 2), (40, 5), (600, 3), (600, 4)] {
            let values: Vec<f64> = (0..n).map(|_| draw(&mut random)).collect();
            for family in families(bits) {
                let free = !matches!(family.zero, ZeroRule::Fixed(_));
                if free && n > 100 {
                    continue;
                }
                let least = exhaustive(&values, &family, if n > 100 { 250 } else { 500 });
                let Some(best) = best_grid(&values, &family, &same) else { continue };
                // A real zero point has no exact search; what its starts miss is bounded here.
                let tolerance = if family.zero == ZeroRule::Real { 0.05 } else { 1e-4 };
                let rounding = 1e-14 * values.iter().map(|x| x * x).sum::<f64>();
                assert!(
                    best.squared_error <= least * (1.0 + tolerance) + rounding,
                    "{name} {n} {family:?}: {best:?}, {least}"
                );
            }
        }
    }
}

/// Regions of thousands of values are scanned in steps that follow their trend; a search in much finer steps finds
/// nothing better.
#[test]
fn as_good_as_a_fine_search_of_many_values() {
    let mut random = SplitMix64(11);
    for (name, draw) in &DRAWS[..4] {
        let values: Vec<f32> = (0..4096).map(|_| draw(&mut random) as f32).collect();
        let (low, high) = extremes(&values);
        let points = Points { values: &values, weights: None, low, high };
        for family in [symmetric(4), symmetric(8)] {
            let best = best_grid(&values, &family, &same).unwrap();
            let fit = high.max(-low) / f64::from(family.q_max);
            let error = |i: u32| points.error(fit * (0.5 + f64::from(i) / 1000.0), 0.0, &family);
            let least = (0..600).map(error).fold(f64::INFINITY, f64::min);
            assert!(best.squared_error <= least * (1.0 + 1e-5), "{name} {family:?}: {best:?}, {least}");
        }
    }
}

/// Regions that are searched by a summary get a grid that is as good for the values themselves as the best of a fine
/// search of these.
#[test]
fn as_good_as_an_exhaustive_search_of_a_big_region() {
    let mut random = SplitMix64(13);
    let outliers: [(&str, Draw); 2] = [
        ("outliers", |random| random.normal() * if random.uniform() < 1e-4 { 20.0 } else { 1.0 }),
        ("heavy", |random| random.normal() / random.uniform().sqrt()),
    ];
    for (name, draw) in DRAWS.iter().chain(&outliers) {
        let values: Vec<f32> = (0..=SWEPT).map(|_| draw(&mut random) as f32).collect();
        let (low, high) = extremes(&values);
        let points = Points { values: &values, weights: None, low, high };
        for family in [symmetric(4), symmetric(8), unsigned(2, ZeroRule::Integer)] {
            let best = best_grid(&values, &family, &same).unwrap();
            let fit = (high.max(0.0) - low.min(0.0)) / f64::from(family.q_max - family.q_min);
            let zeros = match family.zero {
                ZeroRule::Fixed(zero) => vec![zero],
                _ => (family.q_min..=family.q_max).map(f64::from).collect(),
            };
            let all = (0..40).map(|i| fit * 2.1 * 0.9_f64.powi(i));
            let near = (-10..=10).map(|i| best.scale * (1.0 + 2e-4 * f64::from(i)));
            let errors = all
                .chain(near)
                .flat_map(|scale| zeros.iter().map(move |&zero| (scale, zero)).collect::<Vec<_>>());
            let least =
                errors.map(|(scale, zero)| points.error(scale, zero, &family)).fold(f64::INFINITY, f64::min);
            let rounding = 1e-14 * values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
            assert!(
                best.squared_error <= least * (1.0 + 1e-4) + rounding,
                "{name} {family:?}: {best:?}, {least}"
            );
            let error = points.sums(best.scale, best.zero, &family).error;
            assert!(
                (error - best.squared_error).abs() <= 1e-9 * error,
                "{name} {family:?}: {best:?}, {error}"
            );
        }
    }
}

/// Multiples of something, not quite exact ones, have their least error at its scale, however far that is from where
/// other values would have it.
#[test]
fn dips_far_from_the_trend_are_found() {
    let mut random = SplitMix64(12);
    for n in [1500, 4096, 20_000] {
        let mut draw = || (random.uniform() * 101.0).floor() - 50.0 + 0.02 * random.normal();
        let values: Vec<f32> = (0..n).map(|_| draw() as f32).collect();
        let (low, high) = extremes(&values);
        let points = Points { values: &values, weights: None, low, high };
        for (family, zero) in [(symmetric(8), 0.0), (unsigned(8, ZeroRule::Integer), 128.0)] {
            let best = best_grid(&values, &family, &same).unwrap();
            let least = points.sums(0.5, zero, &family).error;
            assert!(best.squared_error <= least, "{n} {family:?}: {best:?}, {least}");
        }
    }
}

#[test]
fn half_of_the_levels_may_be_enough() {
    let best = best_grid(&[1.0_f32, 0.5], &family(-3, 3, ZeroRule::Fixed(0.0)), &same).unwrap();
    assert!(best.squared_error < 1e-30, "{best:?}");
}

#[test]
fn lattices_are_found() {
    let mut random = SplitMix64(4);
    for n in [10, 300, 5000] {
        let values: Vec<f64> = (0..n).map(|_| 0.1 * (random.normal() * 15.0).round()).collect();
        for family in [symmetric(8), unsigned(8, ZeroRule::Integer), unsigned(8, ZeroRule::Fixed(128.0))] {
            let best = best_grid(&values, &family, &same).unwrap();
            assert!(best.squared_error < 1e-20, "{n} {family:?} {best:?}");
        }
    }
}

#[test]
fn nothing_to_fit_is_none_and_extremes_are_fitted() {
    let family = symmetric(4);
    assert_eq!(best_grid::<f32>(&[], &family, &same), None);
    assert_eq!(best_grid(&[0.0_f32, -0.0], &family, &same), None);
    assert_eq!(best_grid_weighted(&[1.0], &[0], &family, &same), None);
    for x in [f64::MAX, 1e-300, f64::MIN_POSITIVE / 8.0] {
        let best = best_grid(&[x, -x, 0.0], &family, &same).unwrap();
        assert!(
            (best.scale * 7.0 / x - 1.0).abs() < 0.01 || (best.scale * 4.0 / x - 1.0).abs() < 1.0,
            "{best:?}"
        );
    }
    for x in [f32::MAX, f32::MIN_POSITIVE / 8.0] {
        assert!(best_grid(&[x; 300], &family, &same).is_some());
    }
}

#[test]
fn constants_are_exact() {
    for bits in [1, 2, 4, 8] {
        for x in [3.7, -0.2] {
            for family in families(bits) {
                let reachable = match family.zero {
                    ZeroRule::Fixed(zero) if x > 0.0 => f64::from(family.q_max) > zero,
                    ZeroRule::Fixed(zero) => f64::from(family.q_min) < zero,
                    _ => true,
                };
                let best = best_grid(&[x; 5], &family, &same).unwrap();
                assert!(!reachable || best.squared_error < 1e-25, "{family:?} {x} {best:?}");
            }
        }
    }
}

#[test]
fn weights_are_repetitions() {
    let (points, weights) = ([-1.0, -0.3, 0.2, 0.45, 0.9], [1, 5, 9, 4, 2]);
    let repeated: Vec<f64> =
        points.iter().zip(weights).flat_map(|(&x, w)| std::iter::repeat_n(x, w as usize)).collect();
    for family in families(2) {
        let weighted = best_grid_weighted(&points, &weights, &family, &same).unwrap();
        let plain = best_grid(&repeated, &family, &same).unwrap();
        assert!((weighted.squared_error - plain.squared_error).abs() < 1e-9, "{family:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_worse_than_the_ends_and_stored_as_asked(
        seed: u64,
        n in 1_usize..700,
        bits in 1_u32..=8,
        storage in prop_oneof![
            Just(FloatType::F64), Just(FloatType::F32), Just(FloatType::F16), Just(FloatType::Bf16)
        ],
    ) {
        let mut random = SplitMix64(seed);
        let values: Vec<f32> = (0..n).map(|_| random.laplace() as f32).collect();
        let (low, high) = extremes(&values);
        let (wide_low, wide_high) = (low.min(0.0), high.max(0.0));
        let points = Points { values: &values, weights: None, low, high };
        let round = |scale: f64| storage.round(scale);
        for family in families(bits) {
            let Some(best) = best_grid(&values, &family, &round) else { continue };
            prop_assert_eq!(round(best.scale), best.scale);
            let error = points.sums(best.scale, best.zero, &family).error;
            prop_assert!((error - best.squared_error).abs() <= 1e-9 * error);
            let (q_min, q_max) = (f64::from(family.q_min), f64::from(family.q_max));
            let (scale, zero) = match family.zero {
                ZeroRule::Fixed(zero) => (round(high.max(-low) / (q_max - zero).max(0.5)), zero),
                _ => {
                    let scale = round((wide_high - wide_low) / (q_max - q_min));
                    (scale, (q_min - (wide_low / scale).round_ties_even()).clamp(q_min, q_max))
                }
            };
            // The integer zero point is among the candidates of the real one only up to its fraction.
            if family.zero != ZeroRule::Real {
                let ends = points.sums(scale, zero, &family).error;
                prop_assert!(best.squared_error <= ends * (1.0 + 1e-12), "{family:?} {best:?} {ends}");
            }
            if family.zero == ZeroRule::Integer {
                prop_assert!(best.zero.fract() == 0.0 && best.zero >= q_min && best.zero <= q_max);
            }
        }
    }
}
