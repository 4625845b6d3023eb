//! Observers of large batches and of very many regions: the same bits by every way of counting, in bounded memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{SplitMix64, cast};
use half::{bf16, f16};
use lowbit::granularity::Blocks;
use lowbit::observer::Summary;
use lowbit::prelude::*;
use lowbit::{DataError, Element, Error, Granularity, NonFinite};
use ndarray::{Array1, Array2, ArrayD, ArrayView1, Axis, arr1};
use proptest::prelude::*;

fn observer(granularity: impl Granularity + 'static, shape: &[usize], bins: usize) -> Observer {
    Observer::new(Arc::new(granularity), shape, NonFinite::Error, bins).unwrap()
}

fn layer(bins: usize) -> Observer {
    observer(PerLayer, &[1], bins)
}

/// Values of several kinds: bells, halves of them zero, few different ones, and magnitudes that keep growing.
fn stream(kind: usize, n: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64(seed);
    (0..n)
        .map(|i| match kind {
            0 => random.within(-3.0, 3.0) as f32 * random.uniform() as f32,
            1 => (random.uniform() - 0.5).max(0.0) as f32,
            2 => [1.0, -0.5, 0.0, -0.0, 7.25][random.below(5)],
            3 => (random.uniform() - 0.3) as f32 * 1.0001f32.powi(i as i32 % 200_000),
            4 => 1e7 + random.uniform() as f32 * 64.0,
            _ => f16::from_f64(random.within(-9.0, 9.0)).to_f32(),
        })
        .collect()
}

/// Counts by the definition, one value at a time.
fn check(summary: &Summary, values: &[f32]) {
    let fold = |least: fn(f32, f32) -> f32| values.iter().copied().reduce(least).unwrap();
    let (min, max) = (f64::from(fold(f32::min)) + 0.0, f64::from(fold(f32::max)) + 0.0);
    assert_eq!(summary.min_max(), Some((min, max)));
    let histogram = summary.to_histogram().unwrap();
    let mut counts = vec![0u64; histogram.counts().len()];
    let first = (min / summary.width()).floor();
    for &x in values {
        counts[((f64::from(x) / summary.width()).floor() - first) as usize] += 1;
    }
    assert!(counts == histogram.counts());
}

#[test]
fn every_way_of_counting_gives_the_same() {
    for kind in 0..6 {
        for bins in [4, 100, 4096, 20_000] {
            let values = stream(kind, 150_000, kind as u64);
            // At once: one region shared out in parts. Then in batches of any length: few values are listed, some
            // counted in place, many in sub-histograms.
            let mut whole = layer(bins);
            whole.observe(&ArrayView1::from(&values)).unwrap();
            check(&whole.summaries()[0], &values);
            let mut random = SplitMix64(bins as u64);
            let (mut pieces, mut other) = (layer(bins), layer(bins));
            let mut rest = &values[..];
            while !rest.is_empty() {
                let most = [3, 50, 700, 5000, 40_000][random.below(5)];
                let (piece, after) = rest.split_at((1 + random.below(most)).min(rest.len()));
                let piece = ArrayView1::from(piece);
                if random.below(2) == 0 {
                    pieces.observe(&piece).unwrap();
                } else {
                    // In a wider type, the other way round.
                    other.observe(&piece.mapv(f64::from).slice(ndarray::s![..;-1])).unwrap();
                }
                rest = after;
            }
            pieces.merge(&other).unwrap();
            assert!(pieces == whole, "{kind} {bins}");
        }
    }
}

#[cfg(feature = "rayon")]
#[test]
fn one_thread_and_many_count_the_same() {
    let all = Array2::from_shape_vec((3, 200_000), stream(0, 600_000, 1)).unwrap();
    let count = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut seen = vec![layer(4096), observer(PerChannel::new(Axis(0)), &[3, 200_000], 512)];
            let columns = all.t();
            seen.iter_mut().for_each(|observer| observer.observe(&all).unwrap());
            let mut transposed = observer(PerChannel::new(Axis(1)), &[200_000, 3], 512);
            transposed.observe(&columns).unwrap();
            assert_eq!(transposed.summaries(), seen[1].summaries());
            seen
        })
    };
    assert!([1, 2, 8].map(count).iter().all(|seen| *seen == count(3)));
}

fn typed<A: Element>(x: &ArrayD<f32>, granularity: Arc<dyn Granularity>) -> Observer {
    let mut observer = Observer::new(granularity, x.shape(), NonFinite::Error, 256).unwrap();
    observer.observe(&cast::<A, _, _>(x)).unwrap();
    observer
}

#[test]
fn equal_values_of_any_type_count_the_same() {
    for shape in [vec![2, 140_000], vec![300, 7, 31]] {
        let n = shape.iter().product();
        // Eight significant bits: exact in all four types.
        let values = stream(0, n, 4).iter().map(|x| bf16::from_f32(*x).to_f32().clamp(-3.0, 3.0)).collect();
        let x = ArrayD::from_shape_vec(shape, values).unwrap();
        let x = x.mapv(|x| if x.abs() < 1e-3 { 0.0 } else { x });
        for granularity in [
            Arc::new(PerLayer) as Arc<dyn Granularity>,
            Arc::new(PerChannel::new(Axis(0))),
            Arc::new(PerChannel::new(Axis(1))),
        ] {
            let wide = typed::<f64>(&x, granularity.clone());
            assert_eq!(typed::<f32>(&x, granularity.clone()), wide);
            assert_eq!(typed::<f16>(&x, granularity.clone()), wide);
            assert_eq!(typed::<bf16>(&x, granularity.clone()), wide);
        }
    }
}

proptest! {
    #![proptest_config(common::cases(40))]

    #[test]
    fn fine_granularities_commute_too(
        seed: u64,
        (channels, width) in (1usize..20, prop::sample::select(vec![1usize, 8, 32, 200])),
        bins in prop::sample::select(vec![16usize, 512, 4096]),
        batches in 1usize..12,
    ) {
        let mut random = SplitMix64(seed);
        let shape = [channels, 2 * width];
        let blocks = || Blocks::new(vec![1, width]);
        let batch = |random: &mut SplitMix64| {
            let kind = random.below(6);
            Array2::from_shape_vec(shape, stream(kind, channels * 2 * width, random.bits())).unwrap()
        };
        let batches: Vec<_> = (0..batches).map(|_| batch(&mut random)).collect();
        let mut forward = observer(blocks(), &shape, bins);
        let (mut back, mut reloaded) = (observer(blocks(), &shape, bins), observer(blocks(), &shape, bins));
        for batch in &batches {
            forward.observe(batch).unwrap();
        }
        for batch in batches.iter().rev() {
            if random.below(2) == 0 {
                back.observe(batch).unwrap();
                continue;
            }
            reloaded.observe(batch).unwrap();
            let text = serde_json::to_string(&reloaded).unwrap();
            let again: Observer = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&again, &reloaded);
            reloaded = again;
        }
        reloaded.merge(&back).unwrap();
        prop_assert!(reloaded == forward);
        for (region, summary) in forward.summaries().iter().enumerate() {
            let at = (region / 2, region % 2 * width);
            let values: Vec<f32> =
                batches.iter().flat_map(|x| x.row(at.0).to_vec()[at.1..at.1 + width].to_vec()).collect();
            check(summary, &values);
            prop_assert!(summary.bytes() <= 8 * values.len(), "{} bytes", summary.bytes());
            let width = if values.len() < 256 { 1 } else { 2 };
            prop_assert!(summary.bytes() <= 2 * bins * width);
        }
    }

    #[test]
    fn magnitudes_are_mirror_images(values in prop::collection::vec(-50.0..20.0f64, 1..500), shift in -3.0..3.0f64) {
        let values: Vec<f64> = values.iter().map(|x| x * shift.exp()).collect();
        let mut signed = layer(256);
        signed.observe(&ArrayView1::from(&values)).unwrap();
        let summary = &signed.summaries()[0];
        let magnitudes = summary.magnitudes().unwrap();
        let largest = values.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        // Few values may lie so close together that their bins do not reach down to zero in 65536 steps.
        let mut width = summary.width();
        while largest / width >= 65536.0 {
            width *= 2.0;
        }
        prop_assert_eq!(magnitudes.width(), width);
        for (bin, &count) in magnitudes.counts().iter().enumerate() {
            // None of these values lies on an edge.
            let within = values.iter().filter(|x| (x.abs() / width).floor() == bin as f64).count();
            prop_assert_eq!(count, within as u64);
        }
        prop_assert_eq!(magnitudes.max(), largest);
        // Bins of a summary of the magnitudes themselves may be narrower, never wider.
        let mut absolute = layer(256);
        absolute.observe(&Array1::from_iter(values.iter().map(|x| x.abs()))).unwrap();
        prop_assert!(absolute.summaries()[0].width() <= summary.width());
    }

    #[test]
    fn moments_are_exact_to_the_width_of_a_bin(seed: u64, about in prop::sample::select(vec![0.0, 3.0, -1000.0])) {
        let mut random = SplitMix64(seed);
        let values: Vec<f64> = (0..2000).map(|_| about + random.normal()).collect();
        let mut observer = layer(2048);
        observer.observe(&ArrayView1::from(&values)).unwrap();
        let summary = &observer.summaries()[0];
        let moments = summary.moments().unwrap();
        let mean = |f: &dyn Fn(f64) -> f64| values.iter().map(|x| f(*x)).sum::<f64>() / 2000.0;
        let exact = mean(&|x| x);
        let deviation = mean(&|x| (x - exact).powi(2)).sqrt();
        let half = summary.width() / 2.0;
        prop_assert!((moments.mean - exact).abs() <= half);
        prop_assert!((moments.mean_magnitude - mean(&f64::abs)).abs() <= half);
        prop_assert!((moments.standard_deviation - deviation).abs() <= half);
        // Spread over many bins, the errors nearly cancel.
        prop_assert!((moments.standard_deviation - deviation).abs() <= 0.1 * half);
    }
}

#[test]
fn moments_of_one_value_are_exact() {
    let mut observer = layer(64);
    assert_eq!(observer.summaries()[0].moments(), None);
    assert!(observer.summaries()[0].magnitudes().is_none());
    observer.observe(&arr1(&[-2.7f64; 9])).unwrap();
    let moments = observer.summaries()[0].moments().unwrap();
    assert_eq!((moments.mean, moments.standard_deviation, moments.mean_magnitude), (-2.7, 0.0, 2.7));
}

/// What the documentation of `magnitudes` excepts.
#[test]
fn a_negative_value_on_an_edge_counts_below_it() {
    let mut observer = layer(4);
    observer.observe(&arr1(&[-4.0f32, -3.0, 3.0, 4.0])).unwrap();
    let magnitudes = observer.summaries()[0].magnitudes().unwrap();
    assert_eq!((magnitudes.width(), magnitudes.counts()), (2.0, &[0, 3, 1][..]));
    assert_eq!((magnitudes.min(), magnitudes.max()), (0.0, 4.0));
}

#[test]
fn magnitudes_far_from_zero_take_bounded_memory() {
    let mut observer = layer(64);
    observer.observe(&arr1(&[-1e15f64, -1e15 - 1.0])).unwrap();
    let magnitudes = observer.summaries()[0].magnitudes().unwrap();
    assert!(magnitudes.counts().len() <= 1 << 16);
    assert_eq!((magnitudes.total(), magnitudes.max()), (2, 1e15 + 1.0));
}

#[test]
fn memory_of_a_thousand_channels_is_flat() {
    let mut random = SplitMix64(8);
    let mut channels = observer(PerChannel::new(Axis(0)), &[1000, 20], 2048);
    let mut bytes = Vec::new();
    for _ in 0..100 {
        let batch = Array2::from_shape_simple_fn((1000, 20), || random.within(-1.0, 1.0) as f32);
        channels.observe(&batch).unwrap();
        bytes.push(channels.bytes());
    }
    let fixed = 1000 * size_of::<Summary>();
    // A little for the first batches, then at most one byte for each bin, as no count reaches 256.
    assert!(bytes[0] <= fixed + 1000 * 20 * 8, "{}", bytes[0]);
    assert!(bytes[99] <= fixed + 1000 * 4096, "{}", bytes[99]);
    // The range of each still grows by a bin now and then.
    assert!(bytes[99] * 100 <= bytes[50] * 101, "{} {}", bytes[50], bytes[99]);
}

#[test]
fn non_finite_values_are_named_or_counted_by_every_way() {
    for (bad, at) in [(f32::NAN, 7), (f32::INFINITY, 140_003), (f32::NEG_INFINITY, 279_999)] {
        let mut x = Array2::from_shape_vec((2, 140_000), stream(0, 280_000, 2)).unwrap();
        x[[at / 140_000, at % 140_000]] = bad;
        // A later one is not the first.
        x[[1, 139_999]] = bad;
        for granularity in [
            Arc::new(PerLayer) as Arc<dyn Granularity>,
            Arc::new(PerChannel::new(Axis(0))),
            Arc::new(PerChannel::new(Axis(1))),
        ] {
            let mut strict = Observer::new(granularity.clone(), &[2, 140_000], NonFinite::Error, 64).unwrap();
            strict.observe(&Array2::<f32>::ones((2, 140_000))).unwrap();
            let before = strict.clone();
            match strict.observe(&x) {
                Err(Error::Data(DataError::NotANumber { index })) if bad.is_nan() => {
                    assert_eq!(index, [at / 140_000, at % 140_000]);
                }
                Err(Error::Data(DataError::Infinite { index, value })) => {
                    assert_eq!((&*index, value), (&[at / 140_000, at % 140_000][..], f64::from(bad)));
                }
                other => panic!("{other:?}"),
            }
            assert!(strict == before);

            let mut lenient =
                Observer::new(granularity.clone(), &[2, 140_000], NonFinite::NanToZero, 64).unwrap();
            lenient.observe(&x).unwrap();
            let sum = |f: fn(&Summary) -> u64| lenient.summaries().iter().map(f).sum::<u64>();
            let skipped = if at == 279_999 { 1 } else { 2 };
            assert_eq!((sum(Summary::skipped), sum(Summary::count)), (skipped, 280_000 - skipped));
        }
        // Nothing but such values.
        let mut lenient = Observer::new(Arc::new(PerLayer), &[1], NonFinite::NanToLowest, 64).unwrap();
        for n in [1, 200_000] {
            lenient.observe(&Array1::from_elem(n, bad)).unwrap();
        }
        assert_eq!((lenient.summaries()[0].count(), lenient.summaries()[0].skipped()), (0, 200_001));
        assert!(matches!(lenient.finish().next(), Some(Err(DataError::NoData { region: 0 }))));
    }
}

#[test]
fn damaged_summaries_are_refused() {
    let mut few = layer(4096);
    few.observe(&arr1(&[-1.0f32, 0.5, 1.0])).unwrap();
    let text = serde_json::to_string(&few).unwrap();
    assert!(text.contains("\"entries\":[[0,1],"), "{text}");
    let refused = |from: &str, to: &str| {
        let damaged = text.replace(from, to);
        assert_ne!(damaged, text, "{from}");
        assert!(serde_json::from_str::<Observer>(&damaged).is_err(), "{damaged}");
    };
    refused("[[0,1],", "[[0,0],");
    refused("[[0,1],", "[[1,1],");
    refused("[[0,1],", "[");
    refused("[[0,1],", "[[0,1],[0,1],");
    refused("\"counts\":[]", "\"counts\":[1]");
    refused("\"min_max\":[-1.0,1.0]", "\"min_max\":[-1.0,2.0]");
    refused("\"min_max\":[-1.0,1.0]", "\"min_max\":[1.0,-1.0]");
    refused("\"min_max\":[-1.0,1.0]", "\"min_max\":null");
    assert_eq!(serde_json::from_str::<Observer>(&text).unwrap(), few);
    let finished: Vec<_> = few.finish().collect::<Result<_, _>>().unwrap();
    assert_eq!((finished.len(), finished[0].total()), (1, 3));
}
