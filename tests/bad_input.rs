//! Bad and borderline input: the typed error or the value that the crate promises, row by row.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[macro_use]
mod common;

use common::{DIALECTS, cast, eight, grid, kinds, normal_tensor, recipe};
use half::{bf16, f16};
use lowbit::calibration::Tails;
use lowbit::prelude::*;
use lowbit::tensor::{ClippingRange, Note};
use lowbit::{DataError, Error, Evidence, FloatType, Region};
use ndarray::{Array1, Array2, ArrayD, Ix1, Ix2, arr1, array};

/// Every calibration that reads data.
fn calibrations() -> Vec<Uniform> {
    common::CALIBRATIONS.iter().map(|text| common::calibrated(eight(), text)).collect()
}

#[test]
fn nan_is_an_error_that_names_its_index() {
    let mut x = normal_tensor(&[3, 4, 5], 1);
    x[[1, 2, 3]] = f32::NAN;
    for quantizer in calibrations() {
        for granularity in ["layer", "channel(axis=1)", "subchannel(3, axis=2)"] {
            let recipe = recipe(quantizer.clone(), granularity);
            assert_error!(recipe.quantize(&x), Error::Data(DataError::NotANumber { index }) if index == [1, 2, 3]);
            assert_error!(recipe.freeze_from(&x), Error::Data(DataError::NotANumber { index }) if index == [1, 2, 3]);
            let t = x.t();
            if granularity == "layer" {
                assert_error!(recipe.quantize(&t), Error::Data(DataError::NotANumber { index }) if index == [3, 2, 1]);
            }
        }
    }
    // Also where no range has to be found, in every element type, and far behind in a large tensor.
    let fixed = eight().calibration(Fixed::new(-1.0, 1.0).unwrap());
    assert_error!(fixed.quantize(&x), Error::Data(DataError::NotANumber { index }) if index == [1, 2, 3]);
    assert_error!(fixed.quantize(&cast::<f64, _, _>(&x)), Error::Data(DataError::NotANumber { .. }));
    assert_error!(fixed.quantize(&cast::<f16, _, _>(&x)), Error::Data(DataError::NotANumber { .. }));
    assert_error!(eight().quantize(&cast::<bf16, _, _>(&x)), Error::Data(DataError::NotANumber { .. }));
    let mut long = Array2::<f32>::ones((300, 1000));
    long[[299, 7]] = f32::NAN;
    long[[299, 999]] = f32::NAN;
    for quantizer in [fixed, eight()] {
        assert_error!(quantizer.quantize(&long), Error::Data(DataError::NotANumber { index }) if index == [299, 7]);
    }
}

#[test]
fn nan_by_policy_is_the_code_of_zero_or_the_lowest() {
    for kind in kinds(4) {
        for dialect in DIALECTS {
            for len in [5usize, 70_000] {
                let mut x = Array1::from_shape_fn(len, |i| ((i * 37) % 11) as f32 - 4.0);
                x[len / 2] = f32::NAN;
                x[len - 1] = f32::NAN;
                let mut zeroed = x.clone();
                zeroed[len / 2] = 0.0;
                zeroed[len - 1] = 0.0;
                let recipe = kind.clone().granularity(PerLayer).dialect(dialect);
                let q = recipe.clone().non_finite(NonFinite::NanToZero).quantize(&x).unwrap();
                // The values that are left have the range of the others, which hold zero.
                let expected = recipe.quantize(&zeroed).unwrap();
                assert_eq!(q.codes(), expected.codes(), "{recipe}");
                assert_eq!(q.notes(), [(0, Note::SkippedNonFinite { count: 2 })]);
                let q = recipe.non_finite(NonFinite::NanToLowest).quantize(&x).unwrap();
                let lowest = q.scheme().codes().min();
                assert_eq!((q.code(len / 2), q.code(len - 1)), (Some(lowest), Some(lowest)));
                assert_eq!(q.code(0), expected.code(0));
            }
        }
    }
}

#[test]
fn infinities_saturate_against_a_given_range_and_are_an_error_while_calibrating() {
    let x = arr1(&[f32::INFINITY, 0.5, f32::NEG_INFINITY, f32::MAX]);
    for quantizer in calibrations() {
        assert_error!(quantizer.quantize(&x), Error::Data(DataError::Infinite { index, value })
            if index == [0] && value == f64::INFINITY);
        let q = quantizer.clone().non_finite(NonFinite::NanToZero).quantize(&x).unwrap();
        assert_eq!(q.notes().last(), Some(&(0, Note::SkippedNonFinite { count: 2 })));
        assert!(grid(&q, 0).0.is_finite());
        assert_eq!(q.code(2), Some(-127));
    }
    for kind in kinds(5) {
        for dialect in DIALECTS {
            let kind = kind.clone().calibration(Fixed::new(-1.0, 1.0).unwrap());
            let q = kind.granularity(PerLayer).dialect(dialect).quantize(&x).unwrap();
            let codes = q.scheme().codes();
            let (zero, all) = (q.code(1), q.codes().unpack());
            assert_eq!([all[0], all[2], all[3]], [codes.max(), codes.min(), codes.max()], "{q:?} {dialect}");
            assert!(zero.unwrap() < codes.max() && zero.unwrap() > codes.min());
        }
    }
    // Of several, the first in row-major order is named.
    let both = arr1(&[f32::INFINITY, f32::NAN]);
    assert_error!(eight().quantize(&both), Error::Data(DataError::Infinite { index, .. }) if index == [0]);
}

#[test]
fn a_range_of_the_largest_floats_does_not_overflow() {
    let x = arr1(&[f32::MAX, -f32::MAX, f32::MAX / 2.0, 0.0]);
    for kind in kinds(8) {
        for dialect in DIALECTS {
            let q = kind.clone().granularity(PerLayer).dialect(dialect).quantize(&x).unwrap();
            let (scale, _) = grid(&q, 0);
            let restored = q.dequantize::<f64, Ix1>().unwrap();
            for (x, back) in x.iter().zip(&restored) {
                // Half a step, and the rounding of the scale. A whole one where all codes are in use on both sides of
                // zero: there the step is narrowed, so that the outermost level stays finite.
                let (codes, zero) = (q.scheme().codes(), grid(&q, 0).1);
                let lopsided = zero.fract() == 0.0 && f64::from(codes.max() + codes.min()) != 2.0 * zero;
                let most = if lopsided { 1.01 } else { 0.51 };
                assert!((f64::from(*x) - back).abs() <= most * scale, "{dialect} {q:?}: {back:e} for {x:e}");
            }
            assert!(q.dequantize::<f32, Ix1>().unwrap().iter().all(|x| x.is_finite()), "{dialect} {q:?}");
        }
    }
    let x = arr1(&[f64::MAX, -f64::MAX, 0.0]);
    assert_error!(
        eight().quantize(&x),
        Error::Data(DataError::ScaleStorage { region: 0, storage, .. }) if storage == FloatType::F32
    );
    for kind in kinds(8) {
        let q = kind.scales(FloatType::F64).quantize(&x).unwrap();
        assert!(grid(&q, 0).0.is_finite());
        assert!(q.code(0) > q.code(2) && q.code(2) > q.code(1), "{q:?}");
    }
    let q = eight().widen_scales().quantize(&x).unwrap();
    assert_eq!(q.notes(), [(0, Note::WidenedScales { storage: FloatType::F64.into() })]);
}

#[test]
fn all_zero_has_scale_one_and_comes_back_as_zero() {
    for kind in kinds(8).into_iter().chain(kinds(3)) {
        for text in common::CALIBRATIONS {
            let q = common::calibrated(kind.clone(), text).quantize(&Array2::<f32>::zeros((3, 4))).unwrap();
            let mid_rise = grid(&q, 0).1.fract() != 0.0;
            assert_eq!(grid(&q, 0).0 == 1.0, !mid_rise, "{q:?}");
            let restored = q.dequantize::<f32, Ix2>().unwrap();
            // A mid-rise grid has no level at zero, but one as near as scales allow.
            assert!(
                restored.iter().all(|&x| if mid_rise { x.abs() < 2e-39 } else { x == 0.0 }),
                "{text} {q:?}"
            );
            assert_eq!(q.notes(), []);
        }
    }
}

#[test]
fn a_constant_comes_back_within_half_a_step() {
    for c in [3.0f32, -0.1, 1e30, 1e-30] {
        for kind in kinds(8) {
            for text in common::CALIBRATIONS {
                let q = common::calibrated(kind.clone(), text).quantize(&arr1(&[c; 9])).unwrap();
                let back = q.dequantize_region::<f32>(0).unwrap()[4];
                // Half a step, and the rounding of a few f32 operations.
                assert!(
                    (back - c).abs() as f64 <= 0.5 * grid(&q, 0).0 + 1e-6 * c.abs() as f64,
                    "{text} {q:?} {c}"
                );
            }
        }
    }
}

#[test]
fn subnormal_ranges_keep_what_resolution_there_is() {
    // The smallest f32 whose reciprocal is finite is just above 2^-128.
    let least = 2f64.powi(-128) * (1.0 + 2f64.powi(-21));
    for (magnitude, raised) in [(1e-35f32, false), (1e-38, true), (1e-40, true), (1e-45, true)] {
        let x = arr1(&[magnitude, -magnitude, 0.0]);
        for dialect in DIALECTS {
            let q = eight().granularity(PerLayer).dialect(dialect).quantize(&x).unwrap();
            let (scale, _) = grid(&q, 0);
            assert!(scale >= least && (1.0 / scale as f32).is_finite());
            assert_eq!(scale == least, raised, "{scale:e}");
            let back = q.dequantize::<f64, Ix1>().unwrap();
            assert!((back[0] - f64::from(magnitude)).abs() <= 0.5 * scale, "{dialect}");
            assert_eq!((back[0], back[2]), (-back[1], 0.0));
        }
        // With f64 scales nothing needs to be raised.
        let q = eight().scales(FloatType::F64).quantize(&x).unwrap();
        assert_eq!(q.codes().unpack(), [127, -127, 0]);
    }
    // A channel of small values beside one of large ones keeps its resolution.
    let x = array![[1000.0f32, -3.0], [2e-20, -1.5e-20]];
    let q = eight().granularity(PerChannel::new(Axis(0))).quantize(&x).unwrap();
    assert_eq!(q.codes().unpack()[2..], [127, -95]);
}

#[test]
fn the_last_block_is_short() {
    let x = normal_tensor(&[3, 80], 4);
    let q = recipe(eight(), "subchannel(32)").quantize(&x).unwrap();
    assert_eq!(
        (q.tiling().regions(), q.tiling().region_len(2), q.dequantize_region::<f32>(8).unwrap().len()),
        (9, 16, 16)
    );
    let tail = x.slice(ndarray::s![2, 64..]).iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert_eq!(grid(&q, 8).0, f64::from((f64::from(tail) / 127.0) as f32));
}

#[test]
fn a_calibrated_range_of_zero_on_other_data_falls_back_to_min_max() {
    // 2 of 1000 values are not zero: the 99th percentile is zero.
    let mut x = Array2::<f32>::zeros((2, 1000));
    x[[1, 3]] = -5.0;
    x[[1, 4]] = 2.54;
    let percentile = Percentile::new(99.0).unwrap();
    for kind in kinds(8) {
        for tails in [Tails::Both, Tails::Upper, Tails::Lower] {
            let per_channel = PerChannel::new(Axis(0));
            let q = kind
                .clone()
                .calibration(percentile.tails(tails))
                .granularity(per_channel)
                .quantize(&x)
                .unwrap();
            let min_max = kind.clone().granularity(per_channel).quantize(&x).unwrap();
            let symmetric = q.scheme().to_string().contains("zero point ");
            if symmetric || tails == Tails::Both {
                assert_eq!((q.codes(), q.grids()), (min_max.codes(), min_max.grids()));
                assert_eq!(q.notes(), [(1, Note::FellBackToMinMax)], "{kind} {tails}");
            }
        }
    }
}

#[test]
fn kl_with_at_least_as_many_levels_as_bins_takes_the_full_range() {
    let x = normal_tensor(&[500], 2);
    for (bits, bins, full) in
        [(8, 128, true), (8, 129, false), (9, 256, true), (16, 2048, true), (2, 2, true)]
    {
        let bits = BitWidth::new(bits).unwrap();
        let uniform = Uniform::symmetric(bits);
        let q = uniform.clone().calibration(Kl::default().bins(bins).unwrap()).quantize(&x).unwrap();
        assert_eq!(q.notes() == [(0, Note::FullRange)], full, "{bits} {bins}");
        if full {
            assert_eq!(q.grids(), uniform.quantize(&x).unwrap().grids());
        }
    }
}

#[test]
fn a_kl_threshold_of_asymmetric_data_is_cut_to_the_data() {
    let x = normal_tensor(&[4000], 6).mapv(|x| if x < 0.0 { 0.1 * x } else { x });
    let kl = Kl::default();
    let uniform = Uniform::asymmetric(BitWidth::EIGHT);
    let of = |x: &ArrayD<f32>, uniform: &Uniform| {
        let values = Evidence::from(x.as_slice().unwrap());
        kl.range(&Region::new(0, values), &uniform.scheme().unwrap()).unwrap().range
    };
    let (min, max) = Evidence::from(x.as_slice().unwrap()).min_max().unwrap();
    // The threshold itself is that of a symmetric scheme of as many codes.
    let t = of(&x, &Uniform::symmetric(BitWidth::EIGHT).range(SymmetricRange::Full)).high();
    assert!(t < max && -t < min);
    assert_eq!(of(&x, &uniform), ClippingRange::new(min, t).unwrap());
    assert_eq!(of(&x.mapv(|x| -x), &uniform), ClippingRange::new(-t, -min).unwrap());
}
