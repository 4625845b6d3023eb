//! Calibrations on a histogram instead of values: accurate to a bin, bounded in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{CALIBRATIONS, SplitMix64, kinds};
use lowbit::calibration::Histogram;
use lowbit::prelude::*;
use lowbit::{Evidence, Region};
use proptest::prelude::*;

/// The histogram of `values` in `bins` bins from their minimum to their maximum.
fn histogram(values: &[f64], bins: usize) -> Histogram {
    let (low, high) = Evidence::from(values).min_max().unwrap();
    let width = (high - low) / bins as f64;
    let mut counts = vec![0; bins];
    for x in values {
        counts[(((x - low) / width) as usize).min(bins - 1)] += 1;
    }
    Histogram::new(low, high, counts).unwrap().with_extremes(low, high).unwrap()
}

fn range(calibration: &str, evidence: Evidence<'_>, uniform: &Uniform) -> lowbit::tensor::ClippingRange {
    let calibration = lowbit::Registry::default().parse_calibration(calibration).unwrap();
    calibration.range(&Region::new(0, evidence), &uniform.scheme().unwrap()).unwrap().range
}

proptest! {
    #![proptest_config(common::cases(300))]

    #[test]
    fn order_statistics_of_a_histogram_are_accurate_to_a_bin(
        (seed, about) in (any::<u64>(), -6.0..6.0f64),
        (kind, percentile) in (0usize..10, 0usize..4),
        bins in 100usize..3000,
    ) {
        let mut random = SplitMix64(seed);
        let values: Vec<f64> = (0..3000).map(|_| about + random.normal()).collect();
        let histogram = histogram(&values, bins);
        let uniform = &kinds(6)[kind];
        let text = ["minmax", "percentile(99)", "percentile(97, tails=upper)", "percentile(98, tails=lower)"][percentile];
        let exact = range(text, Evidence::from(&*values), uniform);
        let binned = range(text, Evidence::Histogram(&histogram), uniform);
        // A bin that straddles zero is folded as a whole, and its values count as its middle: two bins.
        let limit = 2.0 * histogram.width();
        prop_assert!((exact.low() - binned.low()).abs() <= limit, "{} {} {}", text, exact, binned);
        prop_assert!((exact.high() - binned.high()).abs() <= limit, "{} {} {}", text, exact, binned);
    }

    #[test]
    fn any_histogram_is_served(
        (low, span) in (prop::sample::select(vec![0.0, -1.0, 3.0, -1e10, 1e10, 1e300, -1e-300]), prop_oneof![-8f64..12.0, -300f64..300.0]),
        counts in prop::collection::vec(prop::sample::select(vec![0u64, 0, 1, 7, u64::MAX >> 20, u64::MAX]), 1..50),
        (kind, calibration) in (0usize..10, 0usize..8),
    ) {
        let high = low + 10f64.powf(span);
        let Ok(histogram) = Histogram::new(low, high, counts) else { return Ok(()) };
        let uniform = &kinds(4)[kind];
        let calibration = lowbit::Registry::default().parse_calibration(CALIBRATIONS[calibration]).unwrap();
        let region = Region::new(0, Evidence::Histogram(&histogram));
        if let Ok(found) = calibration.range(&region, &uniform.scheme().unwrap()) {
            prop_assert!(found.range.low().is_finite() && found.range.high().is_finite());
            prop_assert!(found.range.low() <= found.range.high());
        } else {
            prop_assert_eq!(histogram.total(), 0);
        }
    }
}

/// Data far from zero beside their spread: the magnitudes' histogram starts at zero, but cannot have as many
/// bins as the distance asks for.
#[test]
fn a_histogram_far_from_zero_takes_bounded_memory() {
    let histogram = Histogram::new(1e15, 1e15 + 1.0, vec![1; 4]).unwrap();
    assert!(histogram.magnitudes().unwrap().counts().len() <= 1 << 17);
    for text in CALIBRATIONS {
        let found = range(text, Evidence::Histogram(&histogram), &Uniform::symmetric(BitWidth::EIGHT));
        assert!((found.high() / 1e15 - 1.0).abs() < 0.02, "{text}: {found}");
    }
}
