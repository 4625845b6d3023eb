//! Observers: any split of a stream, in any order, gives the same summary; and what calibrations make of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{SplitMix64, normal_tensor};
use lowbit::observer::Summary;
use lowbit::prelude::*;
use lowbit::tensor::{Grid, Note};
use lowbit::{ConfigError, DataError, Element, Error, NonFinite, ShapeError};
use ndarray::{Array1, Array2, ArrayView1, Axis, arr1};
use proptest::prelude::*;

fn recipe() -> Recipe {
    Recipe::new(Uniform::asymmetric(BitWidth::EIGHT))
}

/// Values from subnormal to huge, of both signs, with zeros and repeats.
fn values() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        4 => -10.0..10.0f64,
        2 => (-1.0..1.0f64, -320i32..300).prop_map(|(x, e)| x * 10f64.powi(e)),
        1 => Just(0.0),
        1 => Just(-0.0),
        1 => Just(f64::MAX),
        1 => Just(-f64::MAX),
        1 => Just(2.5),
        1 => any::<f32>().prop_filter("finite", |x| x.is_finite()).prop_map(f64::from),
    ];
    // Now of few magnitudes, now of many.
    prop_oneof![prop::collection::vec(value, 1..200), prop::collection::vec(-1.0..1.0f64, 1..200)]
}

fn observe(values: &[f64], bins: usize) -> Observer {
    let granularity = std::sync::Arc::new(PerLayer);
    let mut observer = Observer::new(granularity, &[1], NonFinite::Error, bins).unwrap();
    observer.observe(&ArrayView1::from(values)).unwrap();
    observer
}

proptest! {
    #![proptest_config(common::cases(300))]

    #[test]
    fn any_split_order_and_merge_tree_is_one_shot(values in values(), seed: u64, bins in 4usize..70) {
        let whole = observe(&values, bins);
        let mut random = SplitMix64(seed);
        let mut shuffled = values.clone();
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, random.below(i + 1));
        }
        // Pieces of any length, some observed by one observer, some by others that are merged in any order.
        let mut parts = Vec::new();
        let mut rest = &shuffled[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random.below(rest.len()));
            if parts.is_empty() || random.below(2) == 0 {
                parts.push(observe(piece, bins));
            } else {
                let at = random.below(parts.len());
                parts[at].observe(&ArrayView1::from(piece)).unwrap();
            }
            rest = after;
        }
        while parts.len() > 1 {
            let one = parts.swap_remove(random.below(parts.len()));
            let into = random.below(parts.len());
            parts[into].merge(&one).unwrap();
        }
        prop_assert_eq!(&parts[0], &whole);
        // The counts are those of the definition, and there are enough of them.
        let summary = &whole.summaries()[0];
        let (min, max) = summary.min_max().unwrap();
        let fold = |least: fn(f64, f64) -> f64| values.iter().copied().reduce(least).unwrap();
        prop_assert_eq!((min, max), (fold(f64::min), fold(f64::max)));
        prop_assert_eq!(summary.count(), values.len() as u64);
        let width = summary.width();
        prop_assert_eq!(width.log2().fract(), 0.0);
        let histogram = summary.to_histogram();
        let spans = max / 2.0 - min / 2.0;
        prop_assert!(spans / width < bins as f64 + 1.0, "{} bins", 2.0 * spans / width);
        let narrowest = max.abs().max(min.abs()) * 2f64.powi(-39);
        prop_assert!(2.0 * (spans / width) >= bins as f64 - 2.0 || width <= narrowest.max(2f64.powi(-999)));
        if let Some(histogram) = histogram {
            for (bin, &count) in histogram.counts().iter().enumerate() {
                // Division by a power of two is exact, but for numbers too small to be told from zero.
                let number = |x: f64| if x < 0.0 && x / width == 0.0 { -1.0 } else { (x / width).floor() };
                let within = values.iter().filter(|&&x| number(x) == number(min) + bin as f64).count() as u64;
                prop_assert_eq!(count, within, "bin {} of width {}", bin, width);
            }
        }
    }

    #[test]
    fn merging_is_associative_and_commutative(a in values(), b in values(), c in values()) {
        let [a, b, c] = [a, b, c].map(|values| observe(&values, 16));
        let merged = |x: &Observer, y: &Observer| {
            let mut x = x.clone();
            x.merge(y).unwrap();
            x
        };
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
    }

    #[test]
    fn a_reloaded_observer_goes_on_identically(a in values(), b in values(), cut in 0.0..1.0f64) {
        let mut observer = observe(&a, 64);
        let text = serde_json::to_string(&observer).unwrap();
        let mut again: Observer = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&again, &observer);
        observer.observe(&ArrayView1::from(&b)).unwrap();
        again.observe(&ArrayView1::from(&b)).unwrap();
        prop_assert_eq!(&again, &observer);
        let cut = (cut * text.len() as f64) as usize;
        prop_assert!(serde_json::from_str::<Observer>(&text[..cut]).is_err());
    }
}

#[test]
fn minimum_and_maximum_of_a_stream_are_those_of_all_its_values() {
    let all = normal_tensor(&[64, 6, 50], 5);
    for granularity in ["layer", "channel(axis=1)", "group(4, axis=1)"] {
        for method in ["asymmetric", "symmetric", "asymmetric-real"] {
            let recipe: Recipe =
                format!("uniform(symmetry={method}); granularity={granularity}").parse().unwrap();
            let mut observer = recipe.observer(&[8, 6, 50]).unwrap();
            for batch in all.axis_chunks_iter(Axis(0), 8) {
                observer.observe(&batch).unwrap();
            }
            let (stream, at_once) = (recipe.freeze(&observer).unwrap(), recipe.freeze_from(&all).unwrap());
            assert_eq!(stream.grids(), at_once.grids());
            assert_eq!(stream.quantize(&all).unwrap(), at_once.quantize(&all).unwrap());
        }
    }
}

#[test]
fn calibrations_on_a_stream_are_within_two_bins_of_those_on_values() {
    let mut random = SplitMix64(9);
    let all =
        Array1::from_shape_fn(60_000, |i| if i % 1000 == 0 { 9.0 } else { 1.0 } * random.normal() as f32);
    for symmetry in ["symmetric", "asymmetric"] {
        for calibration in ["percentile(99.9)", "percentile(99.9, tails=upper)", "kl", "mse"] {
            let recipe: Recipe =
                format!("uniform(symmetry={symmetry}, calibration={calibration})").parse().unwrap();
            let mut observer = recipe.observer(&[1]).unwrap();
            for batch in all.axis_chunks_iter(Axis(0), 777) {
                observer.observe(&batch).unwrap();
            }
            let range = |frozen: &Frozen| frozen.quantize(&all).unwrap().clipping_range(0).unwrap();
            let error = |frozen: &Frozen| frozen.quantize(&all).unwrap().errors_against(&all).unwrap().mse();
            let (stream, at_once) = (recipe.freeze(&observer).unwrap(), recipe.freeze_from(&all).unwrap());
            let two_bins = 2.0 * observer.summaries()[0].width();
            if calibration == "mse" {
                // The minimum is flat in the range, so the errors are compared.
                assert!(error(&stream) <= 1.001 * error(&at_once), "{recipe}");
            } else if calibration == "kl" {
                // Another histogram of the same values: the divergence is flat and rough.
                assert!(error(&stream) <= 2.0 * error(&at_once), "{recipe}");
            } else {
                let (stream, at_once) = (range(&stream), range(&at_once));
                // An integer zero point moves the range by up to half a step.
                let slack =
                    two_bins + if symmetry == "asymmetric" { at_once.magnitude() / 127.0 } else { 0.0 };
                assert!((stream.high() - at_once.high()).abs() <= slack, "{recipe}: {stream} {at_once}");
                assert!((stream.low() - at_once.low()).abs() <= slack, "{recipe}: {stream} {at_once}");
            }
        }
    }
}

#[test]
fn kl_on_few_values_is_as_good_from_a_stream() {
    let mut random = SplitMix64(3);
    for n in [16, 64, 256, 1024] {
        let bell = Array1::from_shape_fn(n, |_| random.normal() as f32);
        for (symmetry, x) in [("symmetric", bell.clone()), ("asymmetric", bell.mapv(|x| x.max(0.0)))] {
            for variant in ["slides-floor", "slides-digitize", "slides-fractional", "nvidia", "mxnet"] {
                let text = format!("uniform(symmetry={symmetry}, calibration=kl(variant={variant}))");
                let recipe: Recipe = text.parse().unwrap();
                let mut observer = recipe.observer(&[n]).unwrap();
                observer.observe(&x).unwrap();
                let sqnr = |frozen: Frozen| frozen.quantize(&x).unwrap().errors_against(&x).unwrap().sqnr();
                let (stream, at_once) =
                    (sqnr(recipe.freeze(&observer).unwrap()), sqnr(recipe.freeze_from(&x).unwrap()));
                // A threshold that clips most values costs tens of dB.
                assert!(stream > 15.0 && stream > at_once - 15.0, "{n} {text}: {stream} {at_once}");
            }
        }
    }
}

#[test]
fn a_recipe_takes_observers_of_its_own_kind_only() {
    let square = Array2::<f32>::ones((4, 4));
    let along = |axis| recipe().granularity(PerChannel::new(Axis(axis)));
    let mut observer = along(1).observer(&[4, 4]).unwrap();
    observer.observe(&square).unwrap();
    assert!(matches!(along(0).freeze(&observer), Err(Error::Config(ConfigError::Conflict { .. }))));
    let lenient = along(1).non_finite(NonFinite::NanToZero);
    assert!(matches!(lenient.freeze(&observer), Err(Error::Config(ConfigError::Conflict { .. }))));
    assert!(along(1).freeze(&observer).is_ok());
}

#[test]
fn ranges_whose_width_overflows_can_be_frozen() {
    let x = arr1(&[-1.7e308f64, 1.7e308, 1.0]);
    for method in [Uniform::symmetric(BitWidth::EIGHT), Uniform::asymmetric(BitWidth::EIGHT)] {
        let recipe = Recipe::new(method.scales(lowbit::FloatType::F64));
        let mut observer = recipe.observer(&[3]).unwrap();
        observer.observe(&x).unwrap();
        let (stream, at_once) = (recipe.freeze(&observer).unwrap(), recipe.freeze_from(&x).unwrap());
        assert_eq!(stream.grids(), at_once.grids());
    }
}

#[test]
fn non_finite_values_are_an_error_or_skipped_and_counted() {
    let x = arr1(&[1.0f32, f32::NAN, -2.0, f32::INFINITY]);
    let mut strict = recipe().observer(&[4]).unwrap();
    strict.observe(&arr1(&[0.5f32])).unwrap();
    let before = strict.clone();
    let error = strict.observe(&x);
    assert!(matches!(error, Err(Error::Data(DataError::NotANumber { index })) if index == [1]));
    assert_eq!(strict, before);
    let lenient = recipe().non_finite(NonFinite::NanToZero);
    let mut observer = lenient.observer(&[4]).unwrap();
    observer.observe(&x).unwrap();
    assert_eq!((observer.summaries()[0].count(), observer.summaries()[0].skipped()), (2, 2));
    let frozen = lenient.freeze(&observer).unwrap();
    assert_eq!(frozen.notes(), [(0, Note::SkippedNonFinite { count: 2 })]);
    let q = frozen.quantize(&x).unwrap();
    assert_eq!(q.codes().unpack(), [255, 170, 0, 255]);
}

#[test]
fn what_cannot_be_observed_merged_or_frozen_is_named() {
    let per_channel = recipe().granularity(PerChannel::new(Axis(0)));
    let mut observer = per_channel.observer(&[3, 5]).unwrap();
    let other_shape = observer.observe(&Array2::<f32>::ones((4, 5)));
    assert!(matches!(other_shape, Err(Error::Shape(ShapeError::RegionCount { given: 3, expected: 4, .. }))));
    let nothing = per_channel.freeze(&observer);
    assert!(matches!(nothing, Err(Error::Data(DataError::NoData { region: 0 }))));
    // Empty batches are batches.
    observer.observe(&Array2::<f32>::ones((3, 0))).unwrap();
    let other_granularity = observer.merge(&recipe().observer(&[3, 5]).unwrap());
    assert!(matches!(other_granularity, Err(Error::Config(ConfigError::Conflict { .. }))));
    let more_regions = observer.merge(&per_channel.observer(&[4, 5]).unwrap());
    assert!(matches!(more_regions, Err(Error::Shape(ShapeError::RegionCount { .. }))));
    let finer = Observer::new(observer.granularity().clone(), &[3, 5], NonFinite::Error, 100).unwrap();
    assert!(matches!(observer.merge(&finer), Err(Error::Config(ConfigError::Conflict { .. }))));
    for bins in [0, 1, 3, (1 << 20) + 1] {
        assert!(Observer::new(observer.granularity().clone(), &[3, 5], NonFinite::Error, bins).is_err());
    }
    assert!(per_channel.observer(&[]).is_err());
}

#[test]
fn tiny_scales_of_a_stream_widen_if_asked() {
    let tiny = arr1(&[1e-9f32, -1e-9]);
    let narrow = |method: Uniform| {
        let recipe = Recipe::new(method.scales(lowbit::FloatType::F16));
        let mut observer = recipe.observer(&[2]).unwrap();
        observer.observe(&tiny).unwrap();
        recipe.freeze(&observer)
    };
    let error = narrow(Uniform::symmetric(BitWidth::EIGHT));
    assert!(matches!(error, Err(Error::Data(DataError::ScaleStorage { region: 0, .. }))));
    let frozen = narrow(Uniform::symmetric(BitWidth::EIGHT).widen_scales()).unwrap();
    assert_eq!(frozen.notes(), [(0, Note::WidenedScales { storage: lowbit::FloatType::F32.into() })]);
    let Some(Grid::Affine(grid)) = frozen.grids().get(0) else { panic!("affine") };
    assert_eq!(grid.scale, f64::from((1e-9f32 as f64 / 127.0) as f32));
}

#[test]
fn the_text_says_what_it_is() {
    let mut observer = recipe().observer(&[4]).unwrap();
    observer.observe(&Array1::<f32>::ones(5)).unwrap();
    assert_eq!(observer.to_string(), "observer of 1 regions (layer), 5 values");
}

fn numbers_of_16_bits_are_observed_as<A: Element>() {
    let mut random = SplitMix64(11);
    let mut tensor = |shape: (usize, usize), scale: f64, relu: bool| {
        Array2::from_shape_simple_fn(shape, || {
            let x =
                (0..4).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20) - 0.5).sum::<f64>() * scale;
            A::from_f64(if relu { x.max(0.0) } else { x })
        })
    };
    let wide = |x: &Array2<A>| x.mapv(|x| x.to_f32());
    // Many and few elements of a region, of rows and of all; ranges that grow; and parts that end within rows.
    let batches = [
        tensor((2, 1_070_001), 0.05, false),
        tensor((2, 1_100_000), 0.3, true),
        tensor((2, 1000), 2.0, false),
        tensor((2, 600_000), 1e-3, false),
    ];
    for granularity in [Arc::new(PerLayer) as Arc<dyn Granularity>, Arc::new(PerChannel::new(Axis(0)))] {
        let new = |non_finite| Observer::new(granularity.clone(), &[2, 1], non_finite, 2048).unwrap();
        let (mut found, mut expected) = (new(NonFinite::Error), new(NonFinite::Error));
        let mut elsewhere = new(NonFinite::Error);
        for batch in &batches {
            found.observe(batch).unwrap();
            expected.observe(&wide(batch)).unwrap();
            assert_eq!(found, expected);
            elsewhere.observe(&batch.slice(ndarray::s![.., ..;-1])).unwrap();
        }
        assert_eq!(elsewhere, expected);
        found.merge(&elsewhere).unwrap();
        expected.merge(&elsewhere).unwrap();
        assert_eq!(found, expected);

        let mut bad = batches[0].clone();
        bad[(1, 7)] = A::from_f64(f64::NEG_INFINITY);
        bad[(1, 200_007)] = A::from_f64(f64::NAN);
        let before = found.clone();
        match found.observe(&bad) {
            Err(Error::Data(DataError::Infinite { index, .. })) => assert_eq!(index, [1, 7]),
            other => panic!("{other:?} where an infinity is due"),
        }
        assert_eq!(found, before);
        let (mut found, mut expected) = (new(NonFinite::NanToZero), new(NonFinite::NanToZero));
        found.observe(&bad).unwrap();
        expected.observe(&wide(&bad)).unwrap();
        assert_eq!(found, expected);
        assert_eq!(found.summaries().iter().map(Summary::skipped).sum::<u64>(), 2);
    }
}

#[test]
fn numbers_of_16_bits_are_observed_as_those_of_32() {
    numbers_of_16_bits_are_observed_as::<half::f16>();
    numbers_of_16_bits_are_observed_as::<half::bf16>();
}
