//! What a quantized tensor says of itself: figures, notes, words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use lowbit::calibration::Fixed;
use lowbit::prelude::*;
use lowbit::report::Report;
use lowbit::tensor::{Grid, Note};
use lowbit::{FloatType, NonFinite};
use ndarray::{Array1, Array2, Axis, arr1, array};

fn bits(bits: u32) -> BitWidth {
    BitWidth::new(bits).unwrap()
}

#[test]
fn everything_stored_is_counted() {
    let x = Array2::from_shape_fn((64, 27), |(i, j)| (i as f32 + 1.0) * (j as f32 - 13.0));
    let per_row = |method: Uniform| method.granularity(PerChannel::new(Axis(0))).quantize(&x).unwrap();
    let elements = 64.0 * 27.0;
    // 4-bit codes and 64 scales of 32 bits.
    let q = per_row(Uniform::symmetric(bits(4)));
    assert_eq!((q.bytes(), q.bits_per_element()), (864 + 256, 4.0 + 64.0 * 32.0 / elements));
    // 3-bit codes end in a whole byte: 648 of them.
    assert_eq!(per_row(Uniform::symmetric(bits(3))).bytes(), 648 + 256);
    // Scales of 16 bits; zero points of 8 and of 16 bits.
    assert_eq!(per_row(Uniform::symmetric(bits(4)).scales(FloatType::F16)).bytes(), 864 + 128);
    assert_eq!(per_row(Uniform::asymmetric(bits(4))).bytes(), 864 + 256 + 64);
    assert_eq!(per_row(Uniform::asymmetric(bits(9))).bytes(), 1944 + 256 + 128);
    // Real zero points are as wide as the scales.
    assert_eq!(per_row(Uniform::asymmetric_real(bits(4)).scales(FloatType::F64)).bytes(), 864 + 512 + 512);
}

#[test]
fn shares_of_clipped_values_and_used_codes() {
    let x = arr1(&[-3.0f32, -1.0, 0.0, 0.4, 1.0, 2.0, 0.9, -0.9]);
    let method = Uniform::symmetric(bits(2)).calibration(Fixed::new(-1.0, 1.0).unwrap());
    let q = method.quantize(&x).unwrap();
    // Codes -1 -1 0 0 1 1 1 -1; −3 and 2 lie outside.
    assert_eq!(q.codes().unpack(), [-1, -1, 0, 0, 1, 1, 1, -1]);
    assert_eq!((q.clipped_share(&x).unwrap(), q.codes_used()), (0.25, 1.0));
    // A tenth is cut off, however wide a step is.
    let ramp = Array1::from_shape_fn(100, |i| i as f32 - 49.5);
    let narrow = Uniform::symmetric(bits(2)).calibration(Percentile::new(90.0).unwrap());
    assert_eq!(narrow.quantize(&ramp).unwrap().clipped_share(&ramp).unwrap(), 0.1);
    // Two regions of three codes each: 2 + 2 of 6 are used.
    let rows = array![[-1.0f32, -1.0, 1.0], [0.0, 1.0, 0.1]];
    let q = method.granularity(PerChannel::new(Axis(0))).quantize(&rows).unwrap();
    assert_eq!(q.codes_used(), 4.0 / 6.0);
    let report = Report::of(&rows, &q).unwrap();
    assert_eq!((report.elements, report.regions, report.bytes_before, report.bytes_after), (6, 2, 24, 10));
    assert!((report.errors.mse() - 0.01 / 6.0).abs() < 1e-9);
    assert_eq!((report.clipped_share, report.codes_used), (0.0, 4.0 / 6.0));
    assert!(report.to_string().contains("6 elements in 2 regions: 13.33 bits/element"));
}

#[test]
fn clipping_is_not_reported_for_the_rounding_of_scales() {
    let x = Array1::from_shape_fn(1000, |i| (i as f64 * 0.37).sin() * 0.9371);
    for storage in [FloatType::F64, FloatType::F32, FloatType::F16, FloatType::Bf16] {
        for method in
            [Uniform::symmetric(bits(8)), Uniform::asymmetric(bits(8)), Uniform::asymmetric_real(bits(8))]
        {
            let q = method.scales(storage).quantize(&x).unwrap();
            assert_eq!(q.clipped_share(&x).unwrap(), 0.0, "{q}");
        }
    }
    assert_eq!(Uniform::symmetric(bits(8)).quantize(&x).unwrap().clipped_share(&x).unwrap(), 0.0);
}

#[test]
fn fallbacks_are_noted() {
    // 99 % of the magnitudes are zero, so is their 50th percentile.
    let mut sparse = Array2::<f32>::zeros((2, 100));
    sparse[[1, 7]] = 5.0;
    let median = Uniform::symmetric(bits(8)).calibration(Percentile::new(50.0).unwrap());
    let q = median.granularity(PerChannel::new(Axis(0))).quantize(&sparse).unwrap();
    assert_eq!(q.notes(), [(1, Note::FellBackToMinMax)]);
    assert_eq!(q.dequantize_row::<f32>(1).unwrap()[7], 5.0);
    assert!(q.to_string().contains("region 1: calibrated range of zero: minimum and maximum used"));

    let kl = Uniform::symmetric(bits(12)).calibration(Kl::default());
    let x = Array1::from_shape_fn(100, |i| i as f32 - 50.0);
    let q = kl.quantize(&x).unwrap();
    assert_eq!(q.notes(), [(0, Note::FullRange)]);
    assert_eq!(q.codes(), Uniform::symmetric(bits(12)).quantize(&x).unwrap().codes());

    let holes = arr1(&[1.0f32, f32::NAN, -2.0, f32::INFINITY]);
    let recipe = Recipe::new(Uniform::symmetric(bits(8))).non_finite(NonFinite::NanToZero);
    let q = recipe.quantize(&holes).unwrap();
    assert_eq!(q.notes(), [(0, Note::SkippedNonFinite { count: 2 })]);
    assert_eq!(q.codes().unpack(), [64, 0, -127, 127]);

    let tiny = arr1(&[1e-9f32, -1e-9]);
    let q = Uniform::symmetric(bits(8)).scales(FloatType::F16).widen_scales().quantize(&tiny).unwrap();
    assert_eq!(q.notes(), [(0, Note::WidenedScales { storage: FloatType::F32.into() })]);
    assert_eq!(q.codes().unpack(), [127, -127]);
}

#[test]
fn words_for_people() {
    let x = Array2::from_shape_fn((8, 4), |(i, j)| (i * 4 + j) as f32);
    let q = Uniform::symmetric(bits(4)).granularity(PerChannel::new(Axis(0))).quantize(&x).unwrap();
    assert_eq!(
        q.to_string(),
        "[8, 4] of f32 as affine 4-bit codes -7..7, zero point 0, f32 scales\n\
         8 regions ({0}:1 × {1}:whole), 48 bytes, 12.00 bits/element"
    );
    let debug = format!("{q:?}");
    assert!(
        debug.starts_with(&q.to_string()) && debug.contains("grids: 0.4285714328289032·(q − 0)"),
        "{debug}"
    );
    assert!(debug.ends_with("32 signed 4-bit codes: 0 2 5 7 4 5 6 7 ..."), "{debug}");
    let recipe = Recipe::new(Uniform::symmetric(bits(4)));
    assert_eq!(format!("{recipe:?}"), format!("Recipe({recipe})"));
}

#[test]
fn the_largest_halves_come_back_finite() {
    use half::f16;
    let x = arr1(&[f16::MAX, f16::MIN, f16::ZERO]);
    for method in [Uniform::asymmetric(bits(8)), Uniform::symmetric(bits(8)).range(SymmetricRange::Full)] {
        let restored = method.quantize(&x).unwrap().dequantize::<f16, ndarray::Ix1>().unwrap();
        assert!(restored.iter().all(|x| x.is_finite()), "{restored}");
    }
}

#[test]
fn the_largest_numbers_come_back_finite() {
    let methods = |bits| {
        [
            Uniform::symmetric(bits),
            Uniform::symmetric(bits).range(SymmetricRange::Full),
            Uniform::symmetric(bits).range(SymmetricRange::MidRise),
            Uniform::asymmetric(bits),
            Uniform::asymmetric_real(bits),
        ]
    };
    for width in 2..=16 {
        for storage in [FloatType::F32, FloatType::Bf16, FloatType::F64] {
            let largest = storage.max_value();
            for method in methods(bits(width)) {
                for x in
                    [[largest, -largest, 0.0], [largest, 0.3 * largest, 0.0], [-largest, 0.1 * largest, 0.0]]
                {
                    for (method, clips) in [(method.clone(), false), (method.clone().calibration(Mse), true)]
                    {
                        let q = method.scales(storage).quantize(&arr1(&x)).unwrap();
                        let restored = if storage == FloatType::F64 {
                            q.dequantize::<f64, ndarray::Ix1>().unwrap()
                        } else {
                            q.dequantize::<f32, ndarray::Ix1>().unwrap().mapv(f64::from)
                        };
                        let Grid::Affine(grid) = q.grid(0).unwrap() else { panic!("affine") };
                        for (x, restored) in x.iter().zip(restored) {
                            assert!(restored.is_finite(), "{x:e} by {q:?}");
                            // A step where it is narrowed, half of one elsewhere, and the rounding of the scale.
                            let most = 1.01 * grid.scale + storage.epsilon() * largest;
                            let error = restored / 2.0 - x / 2.0;
                            assert!(clips || error.abs() <= most / 2.0, "{x:e} {restored:e} by {q:?}");
                        }
                    }
                }
            }
        }
    }
}
