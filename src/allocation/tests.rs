//! The search against all assignments, and at its full size.

use super::*;
use crate::ConfigError;
use crate::bits::BitWidth;
use crate::solve::samples::SplitMix64;
use proptest::prelude::*;

fn layers(items: Vec<Vec<(u64, f64)>>) -> Vec<LayerChoices> {
    let choice = |(at, (size, error)): (usize, (u64, f64))| {
        let bits = BitWidth::new(at as u32 % 16 + 1).unwrap();
        Choice { bits, error, size }
    };
    let layer = |(at, items): (usize, Vec<(u64, f64)>)| {
        LayerChoices::new(format!("layer {at}"), items.into_iter().enumerate().map(choice).collect())
    };
    items.into_iter().enumerate().map(layer).collect()
}

/// The least error of all assignments within the budget.
fn brute_force(items: &[Vec<(u64, f64)>], budget: u64) -> Option<f64> {
    match items.split_first() {
        None => Some(0.0),
        Some((first, rest)) => {
            let fits = first.iter().filter(|(size, _)| *size <= budget);
            let errors = fits.filter_map(|(size, error)| Some(error + brute_force(rest, budget - size)?));
            errors.min_by(f64::total_cmp)
        }
    }
}

/// Layers as they are: errors fall by a factor of about four for each bit, sizes are bits times weights and a few
/// parameters.
fn realistic(count: usize, widths: &[u32], seed: u64) -> Vec<LayerChoices> {
    let mut random = SplitMix64(seed);
    let layer = |at: usize| {
        let weights = (10.0 + 6.0 * random.uniform()).exp2() as u64;
        let sensitivity = (3.0 * random.normal()).exp2();
        let choice = |&bits: &u32| {
            let error = sensitivity * (-2.0 * f64::from(bits) + 0.3 * random.normal()).exp2();
            let size = u64::from(bits) * weights + 32 * (weights / 64);
            Choice { bits: BitWidth::new(bits).unwrap(), error, size }
        };
        LayerChoices::new(at.to_string(), widths.iter().map(choice).collect())
    };
    (0..count).map(layer).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn equals_brute_force(
        items in prop::collection::vec(prop::collection::vec((0u64..40, 0.0..10.0f64), 1..5), 0..7),
        coarse: bool,
        share in 0.0..1.2f64,
    ) {
        // Ties, and errors that do not fall with the size.
        let round = |error: f64| if coarse { error.round() } else { error };
        let items: Vec<Vec<_>> =
            items.into_iter().map(|c| c.into_iter().map(|(size, error)| (size, round(error))).collect()).collect();
        let most: u64 = items.iter().filter_map(|c| c.iter().map(|item| item.0).max()).sum();
        let budget = (share * most as f64) as u64;
        let mixed = MixedPrecision::new(layers(items.clone())).unwrap();
        match (mixed.within(budget), brute_force(&items, budget)) {
            (Ok(found), Some(least)) => {
                prop_assert!((found.error - least).abs() <= 1e-12 * least.max(1.0), "{} {least}", found.error);
                prop_assert!(found.size <= budget && found.is_proven() && found.bound <= found.error);
                for uniform in mixed.uniform() {
                    prop_assert!(uniform.size > budget || found.error <= uniform.error);
                }
            }
            (Err(ConfigError::Budget { budget: given, least }), None) => {
                prop_assert_eq!((given, least), (budget, mixed.least_size()));
                prop_assert!(least > budget);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// The hardest kind: errors are what the sizes leave, so that only the sum of sizes counts.
    #[test]
    fn sums_of_subsets(sizes in prop::collection::vec(1u64..1000, 1..12), share in 0.0..1.0f64) {
        let items: Vec<Vec<_>> = sizes.iter().map(|&size| vec![(0, 0.0), (size, -(size as f64))]).collect();
        let budget = (share * sizes.iter().sum::<u64>() as f64) as u64;
        let found = MixedPrecision::new(layers(items.clone())).unwrap().within(budget).unwrap();
        prop_assert_eq!(Some(found.error), brute_force(&items, budget));
    }
}

#[test]
fn never_worse_than_uniform_and_proven_at_full_size() {
    let widths = [2, 3, 4, 5, 6, 8, 12, 16];
    for seed in 0..3 {
        let mixed = MixedPrecision::new(realistic(300, &widths, seed)).unwrap();
        let start = std::time::Instant::now();
        for uniform in mixed.uniform() {
            let found = mixed.within(uniform.size).unwrap();
            assert!(found.is_proven() && found.size <= uniform.size);
            assert!(found.error <= uniform.error && found.bound <= found.error);
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("eight budgets of 300 layers: {seconds:.3} s");
    }
}

#[test]
fn a_limit_is_reported_and_still_not_worse_than_uniform() {
    let mut random = SplitMix64(71);
    let sizes: Vec<u64> = (0..40).map(|_| random.bits() >> 20).collect();
    let items: Vec<Vec<_>> = sizes.iter().map(|&size| vec![(0, 0.0), (size, -(size as f64))]).collect();
    let mixed = MixedPrecision::new(layers(items)).unwrap().limit(64).unwrap();
    let budget = sizes.iter().sum::<u64>() / 2;
    let found = mixed.within(budget).unwrap();
    assert!(!found.is_proven() && found.states <= 64 && found.size <= budget);
    assert!(found.bound < found.error && found.error < -0.999 * budget as f64);
    assert!(mixed.limit(0).is_err());
}

#[test]
fn sizes_and_errors_of_real_layers() {
    use crate::prelude::*;
    use ndarray::{Array2, Ix2};
    let recipes: Vec<Recipe> = [2, 4, 8]
        .map(|bits| Uniform::symmetric(BitWidth::new(bits).unwrap()).granularity(PerChannel::new(Axis(0))))
        .into();
    let weights = Array2::from_shape_fn((4, 10), |(i, j)| ((i * 10 + j) as f32).sin());
    let layer = LayerChoices::measured("a", &weights, &recipes, 2.0).unwrap();
    for (choice, recipe) in layer.choices.iter().zip(&recipes) {
        let q = recipe.quantize(&weights).unwrap();
        // Codes and four scales.
        assert_eq!(choice.size, u64::from(choice.bits.get()) * 40 + 4 * 32);
        let error = (q.dequantize::<f64, Ix2>().unwrap() - weights.mapv(f64::from)).mapv(|e| e * e).sum();
        assert!((choice.error / (2.0 * error) - 1.0).abs() < 1e-12);
    }
    let mixed = MixedPrecision::new(vec![layer.clone(), LayerChoices { name: "b".into(), ..layer }]).unwrap();
    let found = mixed.within(mixed.uniform()[1].size).unwrap();
    assert_eq!(found.to_string().lines().count(), 3);
    assert!(matches!(mixed.within(10), Err(ConfigError::Budget { budget: 10, least: 416 })));
}

#[test]
fn ends_and_bad_input() {
    let new = |items| MixedPrecision::new(layers(items));
    assert!(new(vec![vec![]]).is_err() && new(vec![vec![(1, f64::NAN)]]).is_err());
    assert!(new(vec![vec![(1, 1e308)], vec![(1, 1e308)]]).is_err());
    let none = new(vec![]).unwrap().within(0).unwrap();
    assert!(none.choices.is_empty() && none.is_proven() && none.error == 0.0);
    // Sizes whose sum overflows.
    let large = new(vec![vec![(u64::MAX, 0.0), (1, 1.0)], vec![(u64::MAX, 0.0), (1, 2.0)]]).unwrap();
    let found = large.within(u64::MAX).unwrap();
    assert_eq!((found.choices, found.size), (vec![1, 1], 2));
    assert_eq!(new(vec![vec![(u64::MAX, 0.0)]; 2]).unwrap().least_size(), u64::MAX);
}
