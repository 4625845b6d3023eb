//! Bad configurations, shapes and bytes: the typed error that the crate promises.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[macro_use]
mod common;

use common::{eight, grid, kinds, recipe};
use lowbit::calibration::Histogram;
use lowbit::granularity::{AxisGroup, Tiling};
use lowbit::integer::fold_zero_point;
use lowbit::prelude::*;
use lowbit::tensor::{AffineGrid, ClippingRange, Grids, Note, PackedCodes, ScaleStorage, Scheme};
use lowbit::{
    CodeRange, ConfigError, DataError, Error, Evidence, FloatType, FormatError, Region, ShapeError,
};
use ndarray::{Array2, ArrayD, Ix1, IxDyn, arr0, arr1, array};

/// Cuts every tensor as if it were 4 × 4.
#[derive(Debug)]
struct Lying(usize);

impl std::fmt::Display for Lying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("lying")
    }
}

impl Granularity for Lying {
    fn tiling(&self, _: &[usize]) -> lowbit::Result<Tiling> {
        Tiling::new(&[self.0, self.0], vec![AxisGroup { axes: vec![0, 1], block: None }])
    }
}

#[test]
fn a_tiling_of_another_shape_is_refused() {
    let x = Array2::<f32>::ones((8, 16));
    for side in [0, 4, 100] {
        for text in common::CALIBRATIONS {
            let recipe = common::calibrated(eight(), text).granularity(Lying(side));
            assert_error!(recipe.quantize(&x), Error::Shape(ShapeError::Mismatch { .. }));
            assert_error!(recipe.freeze_from(&x), Error::Shape(ShapeError::Mismatch { .. }));
        }
        let mut observer = eight().granularity(Lying(side)).observer(&[8, 16]).unwrap();
        assert_error!(observer.observe(&x), Error::Shape(ShapeError::Mismatch { .. }));
        let given = Frozen::with_scales(&eight().granularity(Lying(side)), &[8, 16], [1.0], []).unwrap();
        assert_error!(given.quantize(&x), Error::Shape(ShapeError::Mismatch { .. }));
    }
}

#[test]
fn a_frozen_recipe_holds_what_its_recipe_stores() {
    let four = Uniform::symmetric(BitWidth::new(4).unwrap());
    let scheme = four.scheme().unwrap();
    let mut grids = Grids::new(&scheme);
    grids.push(AffineGrid { scale: 1.0, zero_point: 0.0 }.into()).unwrap();
    assert_error!(
        Frozen::new(&Recipe::new(eight()), scheme.clone(), grids.clone()),
        Error::Config(ConfigError::Conflict { .. })
    );
    assert!(Frozen::new(&Recipe::new(four), scheme, grids.clone()).is_ok());
    // Nor does a grid take a zero point that is not its scheme's.
    assert!(grids.push(AffineGrid { scale: 1.0, zero_point: 5.0 }.into()).is_err());
    let mut grids = Grids::new(&Uniform::asymmetric(BitWidth::EIGHT).scheme().unwrap());
    for zero_point in [300.0, -1.0, 3.5, f64::NAN] {
        assert!(grids.push(AffineGrid { scale: 1.0, zero_point }.into()).is_err(), "{zero_point}");
    }
}

#[test]
fn scales_and_zero_points_of_the_user_are_checked_when_the_quantizer_is_made() {
    let recipe = eight().granularity(PerChannel::new(Axis(0)));
    let bad = [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-46, 1e-39, 1e300];
    for bad in bad {
        let made = Frozen::with_scales(&recipe, &[2, 3], [1.0, bad], []);
        assert_error!(made, Error::Config(ConfigError::Scale { index: 1, scale, .. })
            if scale.to_bits() == bad.to_bits());
        // The same through finished grids, where they can be stored at all.
        let scheme = recipe.scheme().unwrap();
        let mut grids = Grids::new(&scheme);
        grids.push(AffineGrid { scale: 1.0, zero_point: 0.0 }.into()).unwrap();
        if grids.push(AffineGrid { scale: bad, zero_point: 0.0 }.into()).is_ok() {
            assert_error!(
                Frozen::new(&recipe, scheme, grids),
                Error::Config(ConfigError::Scale { index: 1, .. })
            );
        }
    }
    let asymmetric = Uniform::asymmetric(BitWidth::EIGHT).granularity(PerLayer);
    for bad in [-1.0, 256.0, 0.5, f64::NAN, f64::INFINITY] {
        assert_error!(
            Frozen::with_scales(&asymmetric, &[2], [1.0], [bad]),
            Error::Config(ConfigError::ZeroPoint { index: 0, q_min: 0, q_max: 255, .. })
        );
    }
    // A symmetric recipe takes its own zero point or none.
    assert!(Frozen::with_scales(&eight().granularity(PerLayer), &[2], [1.0], [0.0]).is_ok());
    assert_error!(
        Frozen::with_scales(&eight().granularity(PerLayer), &[2], [1.0], [1.0]),
        Error::Config(ConfigError::ZeroPoint { .. })
    );
    let real = Uniform::asymmetric_real(BitWidth::EIGHT).granularity(PerLayer);
    assert!(Frozen::with_scales(&real, &[2], [1.0], [-1000.5]).is_ok());
    assert_error!(
        Frozen::with_scales(&real, &[2], [1.0], [f64::NAN]),
        Error::Config(ConfigError::ZeroPoint { .. })
    );
    for (low, high) in
        [(1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::NAN), (f64::NEG_INFINITY, 0.0), (0.0, f64::INFINITY)]
    {
        assert_error!(Fixed::new(low, high), ConfigError::ClippingRange { index: 0, .. });
        assert_error!(
            Fixed::per_region([(0.0, 1.0), (low, high)]),
            ConfigError::ClippingRange { index: 1, .. }
        );
        assert_error!(ClippingRange::new(low, high), ConfigError::ClippingRange { .. });
    }
    assert_error!(Fixed::per_region([]), ConfigError::TooSmall { value: 0, min: 1, .. });
}

#[test]
fn a_scale_that_its_storage_type_does_not_hold_names_the_region() {
    // 1e30 in a block with f16 scales; 1e-9 underflows.
    let x = array![[1.0f32, 2.0], [1e30, 1.0], [1e-9, 0.0]];
    let f16_scales = eight().scales(FloatType::F16);
    let of = |rows: &[usize]| {
        let x = x.select(Axis(0), rows);
        f16_scales.clone().granularity(PerChannel::new(Axis(0))).quantize(&x)
    };
    assert_error!(of(&[0, 1, 2]), Error::Data(DataError::ScaleStorage { region: 1, stored, storage: ScaleStorage::Float(FloatType::F16), .. })
        if stored.is_infinite());
    assert_error!(of(&[0, 2]), Error::Data(DataError::ScaleStorage { region: 1, stored: 0.0, storage: ScaleStorage::Float(FloatType::F16), scale })
        if (scale * 127.0 / 1e-9 - 1.0).abs() < 1e-6);
    let wide = f16_scales.clone().widen_scales().granularity(PerChannel::new(Axis(0))).quantize(&x).unwrap();
    assert!(wide.notes().contains(&(0, Note::WidenedScales { storage: FloatType::F32.into() })));
    assert_eq!(wide.codes().unpack(), [64, 127, 127, 0, 127, 0]);
    // Nothing is noted where nothing had to be widened.
    let narrow = f16_scales.widen_scales().quantize(&arr1(&[1.0f32])).unwrap();
    assert_eq!(narrow.notes(), []);
    // A real zero point: 20000 steps of data far from zero do not fit f16.
    let far = arr1(&[10_000.0f32, 10_000.5]);
    let real = Uniform::asymmetric_real(BitWidth::EIGHT).scales(FloatType::F16);
    assert_error!(
        real.quantize(&far),
        Error::Data(DataError::ZeroPointStorage { region: 0, storage: FloatType::F16, .. })
    );
    assert!(real.widen_scales().quantize(&far).is_ok());
}

#[test]
fn impossible_configurations_are_errors_when_they_are_made() {
    for bits in [0, 17, u32::MAX] {
        assert_error!(BitWidth::new(bits), ConfigError::BitWidth { bits: found } if found == bits);
    }
    assert_error!(CodeRange::new(3, 3), ConfigError::CodeRange { q_min: 3, q_max: 3 });
    assert_error!(CodeRange::new(7, -8), ConfigError::CodeRange { q_min: 7, q_max: -8 });
    assert_error!(CodeRange::new(0, 65536), ConfigError::CodeRange { .. });
    let one = BitWidth::new(1).unwrap();
    assert_error!(Uniform::symmetric(one).scheme(), Error::Config(ConfigError::RestrictedOneBit));
    assert_error!(
        Uniform::symmetric(one).quantize(&arr1(&[1.0f32])),
        Error::Config(ConfigError::RestrictedOneBit)
    );
    let conflict = Uniform::asymmetric(one).range(SymmetricRange::Full);
    assert_error!(conflict.scheme(), Error::Config(ConfigError::Conflict { .. }));
    let codes = CodeRange::new(-8, 7).unwrap();
    let conflict = Uniform::symmetric(BitWidth::new(4).unwrap()).code_range(codes).codes(Codes::Signed);
    assert_error!(conflict.scheme(), Error::Config(ConfigError::Conflict { .. }));
    let narrow = Uniform::symmetric(BitWidth::new(3).unwrap()).code_range(codes);
    assert_error!(narrow.scheme(), Error::Config(ConfigError::CodeRange { q_min: -8, q_max: 7 }));
    for percent in [0.0, -1.0, 100.1, f64::NAN, f64::INFINITY] {
        assert_error!(Percentile::new(percent), ConfigError::Percentile { .. });
    }
    assert_error!(Kl::default().bins(1), ConfigError::TooSmall { value: 1, min: 2, .. });
    assert_error!(Kl::default().bins(1 << 17), ConfigError::TooLarge { .. });
    assert_error!(PerGroup::new(Axis(0), 0), ConfigError::TooSmall { value: 0, min: 1, .. });
    assert_error!(PerSubChannel::new(Axis(0), 0), ConfigError::TooSmall { value: 0, min: 1, .. });
}

#[test]
fn empty_tensors_give_empty_results_and_cannot_be_calibrated_on() {
    for shape in [vec![0], vec![3, 0], vec![0, 4], vec![2, 0, 5], vec![0, 0]] {
        let x = ArrayD::<f32>::zeros(IxDyn(&shape));
        for kind in kinds(4) {
            for granularity in ["layer", "channel(axis=0)", "group(2, axis=0)", "subchannel(3, axis=0)"] {
                let recipe = recipe(kind.clone(), granularity);
                let q = recipe.quantize(&x).unwrap();
                assert!(q.is_empty() && q.codes().is_empty() && q.bits_per_element().is_nan(), "{q:?}");
                assert_eq!(q.grids().len(), q.tiling().regions());
                assert_eq!(q.dequantize::<f32, IxDyn>().unwrap(), x);
                assert_error!(recipe.freeze_from(&x), Error::Data(DataError::NoData { region: 0 }));
            }
        }
        // A covered axis of length zero counts as one region.
        assert_eq!(recipe(eight(), "layer").quantize(&x).unwrap().tiling().regions(), 1);
    }
    let q = recipe(eight(), "channel(axis=0)").quantize(&Array2::<f32>::zeros((3, 0))).unwrap();
    assert_eq!((q.grids().len(), grid(&q, 2).0), (3, 1.0));
    let none: &[f32] = &[];
    for text in common::CALIBRATIONS {
        let calibration = lowbit::Registry::default().parse_calibration(text).unwrap();
        let found = calibration.range(&Region::new(7, Evidence::from(none)), &eight().scheme().unwrap());
        assert_error!(found, Error::Data(DataError::NoData { region: 7 }));
    }
}

#[test]
fn scalars_and_single_elements_work() {
    for kind in kinds(8) {
        for text in common::CALIBRATIONS {
            let quantizer = common::calibrated(kind.clone(), text);
            let q = quantizer.quantize(&arr0(-2.5f32)).unwrap();
            assert_eq!((q.shape().len(), q.len(), q.tiling().regions()), (0, 1, 1));
            let back = q.dequantize::<f32, ndarray::Ix0>().unwrap().into_scalar();
            assert!((back + 2.5).abs() as f64 <= 0.5 * grid(&q, 0).0 + 1e-6, "{text} {q:?}");
            assert_eq!(quantizer.quantize(&arr1(&[-2.5f32])).unwrap().codes(), q.codes());
        }
    }
    let channel = eight().granularity(PerChannel::new(Axis(0)));
    assert_error!(channel.quantize(&arr0(1.0f32)), Error::Shape(ShapeError::Axis { axis: 0, rank: 0 }));
    assert!(eight().granularity(Blocks::new([])).quantize(&arr0(1.0f32)).is_ok());
    assert_error!(
        eight().quantize(&arr0(1.0f32)).unwrap().dequantize_row::<f32>(0),
        Error::Shape(ShapeError::Index { .. })
    );
}

#[test]
fn configurations_that_do_not_fit_the_shape_name_both_numbers() {
    let x = Array2::<f32>::ones((2, 3));
    for granularity in ["channel(axis=2)", "group(1, axis=2)", "subchannel(1, axis=2)"] {
        assert_error!(
            recipe(eight(), granularity).quantize(&x),
            Error::Shape(ShapeError::Axis { axis: 2, rank: 2 })
        );
    }
    assert_error!(
        eight().granularity(Blocks::new([1])).quantize(&x),
        Error::Shape(ShapeError::BlockRank { given: 1, rank: 2 })
    );
    let ranges = Fixed::per_region([(0.0, 1.0); 4]).unwrap();
    let per_channel = eight().calibration(ranges).granularity(PerChannel::new(Axis(0)));
    assert_error!(per_channel.quantize(&x), Error::Shape(ShapeError::RegionCount { given: 4, expected: 2, shape }) if shape == [2, 3]);
    let recipe = eight().granularity(PerChannel::new(Axis(1)));
    assert_error!(
        Frozen::with_scales(&recipe, &[2, 3], [1.0; 2], []),
        Error::Shape(ShapeError::RegionCount { given: 2, expected: 3, .. })
    );
    let frozen = recipe.freeze_from(&x).unwrap();
    assert_error!(
        frozen.quantize(&Array2::<f32>::ones((2, 4))),
        Error::Shape(ShapeError::RegionCount { given: 3, expected: 4, .. })
    );
    let mut q = recipe.quantize(&x).unwrap();
    assert_error!(q.dequantize::<f32, Ix1>(), Error::Shape(ShapeError::Rank { found: 2, expected: 1 }));
    assert_error!(
        q.dequantize_into(&mut Array2::<f32>::ones((3, 2))),
        Error::Shape(ShapeError::Mismatch { .. })
    );
    assert_error!(q.dequantize_region::<f32>(3), Error::Shape(ShapeError::Index { index: 3, count: 3, .. }));
    assert_error!(q.dequantize_row::<f32>(2), Error::Shape(ShapeError::Index { index: 2, count: 2, .. }));
    assert_error!(
        q.dequantize_row_into(0, &mut [0.0f32; 4]),
        Error::Shape(ShapeError::Length { found: 4, expected: 3 })
    );
    assert_error!(sqnr(&x, &Array2::<f32>::ones((3, 2))), Error::Shape(ShapeError::Mismatch { .. }));
    // A failed quantize_into leaves nothing half-made.
    assert_error!(per_channel.quantize_into(&x, &mut q), Error::Shape(_));
    assert!(q.is_empty() && q.tiling().regions() == 0);
}

#[test]
fn products_of_dimensions_that_overflow_are_an_error() {
    let whole = AxisGroup { axes: vec![0, 1], block: None };
    assert_error!(Tiling::new(&[usize::MAX, 2], vec![whole]), Error::Shape(ShapeError::TooLarge { .. }));
    for strategy in [&PerLayer as &dyn Granularity, &PerChannel::new(Axis(0)), &Blocks::new([1, 1])] {
        assert_error!(strategy.tiling(&[1 << 40, 1 << 40]), Error::Shape(ShapeError::TooLarge { .. }));
        // More than 2^32 elements are just a number.
        assert_eq!(strategy.tiling(&[1 << 20, 1 << 20]).unwrap().len(), 1 << 40);
    }
    let found =
        PackedCodes::from_bytes(BitWidth::EIGHT, CodeRange::unsigned(BitWidth::EIGHT), usize::MAX, vec![1]);
    assert_error!(found, FormatError::Entry { .. });
}

#[test]
fn integer_accumulators_are_checked_against_the_codes() {
    // u8 × u8 wraps a 32-bit accumulator at K = 33026; here with weights all at 255.
    let recipe = Uniform::asymmetric(BitWidth::EIGHT).granularity(PerLayer);
    let of = |k: usize| {
        let w = recipe.quantize(&Array2::<f32>::ones((1, k))).unwrap();
        fold_zero_point(&w, Axis(0), CodeRange::unsigned(BitWidth::EIGHT), 0).unwrap()
    };
    assert!(of(33_025).start_i32(None).is_ok());
    assert_error!(of(33_026).start_i32(None), Error::Data(DataError::Accumulator { output: 0, bound, limit })
        if bound == 33_026 * 255 * 255 && limit == i128::from(i32::MAX));
    assert_eq!(of(33_026).start(None).unwrap(), [0]);
}

#[test]
fn damaged_parts_are_refused() {
    let bits = BitWidth::new(4).unwrap();
    let codes = CodeRange::new(-7, 7).unwrap();
    assert_error!(PackedCodes::from_bytes(bits, codes, 3, vec![0]), FormatError::Entry { .. });
    assert_error!(PackedCodes::from_bytes(bits, codes, 3, vec![0, 0x10]), FormatError::Entry { .. });
    assert_error!(
        PackedCodes::from_bytes(bits, codes, 2, vec![0x80]),
        FormatError::Code { index: 1, code: -8, q_min: -7, q_max: 7 }
    );
    let good = PackedCodes::from_bytes(bits, codes, 2, vec![0x97]).unwrap();
    assert_eq!(good.unpack(), [7, -7]);
    let scheme: Scheme = Uniform::symmetric(bits).scheme().unwrap();
    let mut grids = Grids::new(&scheme);
    let tiling = PerLayer.tiling(&[2]).unwrap();
    let make = |scheme: &Scheme, grids: &Grids, codes: &PackedCodes| {
        QuantizedTensor::new(
            scheme.clone(),
            tiling.clone(),
            grids.clone(),
            codes.clone(),
            FloatType::F32,
            None,
        )
    };
    assert_error!(
        make(&scheme, &grids, &good),
        Error::Shape(ShapeError::RegionCount { given: 0, expected: 1, .. })
    );
    grids.push(AffineGrid { scale: 0.5, zero_point: 0.0 }.into()).unwrap();
    assert!(make(&scheme, &grids, &good).is_ok());
    let three = PackedCodes::from_bytes(bits, codes, 3, vec![0, 0]).unwrap();
    assert_error!(make(&scheme, &grids, &three), Error::Shape(ShapeError::Length { found: 3, expected: 2 }));
    let wide = PackedCodes::from_bytes(BitWidth::EIGHT, codes, 2, vec![0, 0]).unwrap();
    assert_error!(make(&scheme, &grids, &wide), Error::Config(ConfigError::Conflict { .. }));
    let other = Uniform::symmetric(bits).scales(FloatType::F16).scheme().unwrap();
    assert_error!(make(&other, &grids, &good), Error::Config(ConfigError::Conflict { .. }));
    let integer = Uniform::asymmetric(bits).codes(Codes::Signed).scheme().unwrap();
    assert_error!(make(&integer, &grids, &good), Error::Config(ConfigError::Conflict { .. }));
    assert_error!(Histogram::new(1.0, 1.0, vec![1]), ConfigError::ClippingRange { .. });
    assert_error!(Histogram::new(0.0, f64::INFINITY, vec![1]), ConfigError::ClippingRange { .. });
    assert_error!(Histogram::new(0.0, 1.0, vec![]), ConfigError::TooSmall { .. });
}
