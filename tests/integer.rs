//! Integer sums with folded zero points against the plain sum of the definition.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{SplitMix64, normal_tensor};
use lowbit::integer::fold_zero_point;
use lowbit::prelude::*;
use lowbit::{CodeRange, ConfigError, DataError, Error, ShapeError};
use ndarray::{Array2, Axis};
use proptest::prelude::*;

proptest! {
    #![proptest_config(common::cases(200))]

    #[test]
    fn the_folded_sum_is_the_unfolded_sum(
        shape in prop::collection::vec(1usize..6, 1..5),
        (axis, bits, kind) in (0usize..4, 2u32..17, 0usize..4),
        (signed, activation_bits) in (any::<bool>(), 1u32..17),
        (seed, with_bias, per_channel) in (any::<u64>(), any::<bool>(), any::<bool>()),
    ) {
        let axis = axis % shape.len();
        let bits = BitWidth::new(bits).unwrap();
        let weights = normal_tensor(&shape, seed);
        let uniform = match kind {
            0 => Uniform::symmetric(bits),
            1 => Uniform::symmetric(bits).range(SymmetricRange::Full).codes(Codes::Unsigned),
            2 => Uniform::asymmetric(bits),
            _ => Uniform::asymmetric(bits).codes(Codes::Signed),
        };
        let w = if per_channel {
            uniform.granularity(PerChannel::new(Axis(axis))).quantize(&weights).unwrap()
        } else {
            uniform.quantize(&weights).unwrap()
        };
        let activation_bits = BitWidth::new(activation_bits).unwrap();
        let codes = if signed { CodeRange::signed(activation_bits) } else { CodeRange::unsigned(activation_bits) };
        let mut random = SplitMix64(seed);
        let mut code = || codes.min() + random.below(codes.count() as usize) as i32;
        let zero = code();
        let outputs = shape[axis];
        let bias: Vec<i32> = (0..outputs).map(|_| code() * 1000).collect();
        let bias = with_bias.then_some(&*bias);
        let fold = fold_zero_point(&w, Axis(axis), codes, zero).unwrap();
        prop_assert_eq!(fold.len(), outputs);
        let start = fold.start(bias).unwrap();
        // One activation for each element of an output's slice, and at times the extreme ones.
        let x: Vec<i64> = (0..w.len() / outputs)
            .map(|i| i64::from(match i % 3 { 0 => code(), 1 => codes.max(), _ => codes.min() }))
            .collect();
        let inner: usize = shape[axis + 1..].iter().product();
        let mut folded = start.clone();
        let mut unfolded: Vec<i64> = (0..outputs).map(|n| bias.map_or(0, |bias| i64::from(bias[n]))).collect();
        let mut real = vec![0.0; outputs];
        let mut most = start.iter().map(|start| start.abs()).collect::<Vec<i64>>();
        for flat in 0..w.len() {
            let (output, at) = (flat / inner % outputs, flat / inner / outputs * inner + flat % inner);
            let (scale, w_zero) = common::grid(&w, w.tiling().region_of(flat));
            let q = i64::from(w.code(flat).unwrap()) - w_zero as i64;
            folded[output] += x[at] * q;
            unfolded[output] += (x[at] - i64::from(zero)) * q;
            real[output] += scale * 0.5 * ((x[at] - i64::from(zero)) * q) as f64;
            most[output] = most[output].max(folded[output].abs());
        }
        prop_assert_eq!(&folded, &unfolded);
        // Where 32 bits are promised to be enough, they are, at every step of the sum.
        if let Ok(narrow) = fold.start_i32(bias) {
            prop_assert_eq!(narrow.iter().map(|&n| i64::from(n)).collect::<Vec<_>>(), start.clone());
            prop_assert!(most.iter().all(|&most| most <= i64::from(i32::MAX)));
        }
        // The real bias makes the same of accumulators that start at zero.
        let zero_bias = vec![0.0; outputs];
        let real_bias = fold.bias(0.5, &zero_bias).unwrap();
        for n in 0..outputs {
            let (scale, _) = common::grid(&w, if per_channel { n } else { 0 });
            let raw = folded[n] - start[n];
            let found = 0.5 * scale * raw as f64 + real_bias[n];
            // Two products of at most 2^50 and their difference, in f64.
            let limit = 1e-13 * (0.5 * scale * raw as f64).abs().max(real_bias[n].abs()).max(1e-30);
            prop_assert!((found - real[n]).abs() <= limit + 1e-12 * real[n].abs(), "{} {}", found, real[n]);
        }
    }
}

#[test]
fn what_cannot_be_folded_is_an_error() {
    let weights = normal_tensor(&[4, 6], 1);
    let codes = CodeRange::unsigned(BitWidth::EIGHT);
    let w =
        Uniform::symmetric(BitWidth::EIGHT).granularity(PerChannel::new(Axis(0))).quantize(&weights).unwrap();
    assert!(matches!(
        fold_zero_point(&w, Axis(2), codes, 0),
        Err(Error::Shape(ShapeError::Axis { axis: 2, rank: 2 }))
    ));
    let outside = fold_zero_point(&w, Axis(0), codes, 256);
    assert!(matches!(outside, Err(Error::Config(ConfigError::ZeroPoint { q_max: 255, .. }))));
    // Scales that change within an output, along the other axis.
    assert!(matches!(
        fold_zero_point(&w, Axis(1), codes, 3),
        Err(Error::Config(ConfigError::Conflict { .. }))
    ));
    let real = Uniform::asymmetric_real(BitWidth::EIGHT).quantize(&weights).unwrap();
    assert!(matches!(
        fold_zero_point(&real, Axis(0), codes, 3),
        Err(Error::Config(ConfigError::Conflict { .. }))
    ));
    let fold = fold_zero_point(&w, Axis(0), codes, 3).unwrap();
    assert!(matches!(
        fold.start(Some(&[1; 3])),
        Err(Error::Shape(ShapeError::Length { found: 3, expected: 4 }))
    ));
    assert!(matches!(
        fold.bias(1.0, &[0.0; 5]),
        Err(Error::Shape(ShapeError::Length { found: 5, expected: 4 }))
    ));
}

#[test]
fn accumulators_that_could_overflow_are_refused() {
    // u8 × u8 reaches 33026 · 255 · 255 = 2147515650, just beyond i32; one element less does not.
    let weights = |depth| {
        let ones = Array2::<f32>::ones((1, depth));
        Uniform::asymmetric(BitWidth::EIGHT).granularity(PerChannel::new(Axis(0))).quantize(&ones).unwrap()
    };
    let codes = CodeRange::unsigned(BitWidth::EIGHT);
    let fold = |depth| fold_zero_point(&weights(depth), Axis(0), codes, 0).unwrap();
    assert_eq!(fold(33025).start_i32(None).unwrap(), [0]);
    match fold(33026).start_i32(None) {
        Err(Error::Data(DataError::Accumulator { output: 0, bound, limit })) => {
            assert_eq!((bound, limit), (33026 * 255 * 255, i128::from(i32::MAX)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fold(33026).start(None).unwrap(), [0]);
}

#[test]
fn what_cannot_be_folded_is_named() {
    let x = Array2::from_shape_fn((4, 8), |(i, j)| (i as f32 + 1.0) * (j as f32 - 3.0));
    let codes = CodeRange::unsigned(BitWidth::EIGHT);
    let per_row =
        Uniform::symmetric(BitWidth::EIGHT).granularity(PerChannel::new(Axis(0))).quantize(&x).unwrap();
    let axis = fold_zero_point(&per_row, Axis(2), codes, 0);
    assert!(matches!(axis, Err(Error::Shape(ShapeError::Axis { axis: 2, rank: 2 }))));
    let zero = fold_zero_point(&per_row, Axis(0), codes, 256);
    assert!(matches!(zero, Err(Error::Config(ConfigError::ZeroPoint { q_max: 255, .. }))));
    let mixed = fold_zero_point(&per_row, Axis(1), codes, 3);
    assert!(matches!(mixed, Err(Error::Config(ConfigError::Conflict { .. }))));
    let real = Uniform::asymmetric_real(BitWidth::EIGHT).quantize(&x).unwrap();
    assert!(matches!(
        fold_zero_point(&real, Axis(0), codes, 3),
        Err(Error::Config(ConfigError::Conflict { .. }))
    ));
    let fold = fold_zero_point(&per_row, Axis(0), codes, 3).unwrap();
    assert!(matches!(
        fold.start(Some(&[0; 3])),
        Err(Error::Shape(ShapeError::Length { found: 3, expected: 4 }))
    ));
    assert!(fold.bias(1.0, &[0.0; 5]).is_err());
    let none = Uniform::symmetric(BitWidth::EIGHT).quantize(&Array2::<f32>::zeros((3, 0))).unwrap();
    assert_eq!(fold_zero_point(&none, Axis(0), codes, 3).unwrap().start_i32(None).unwrap(), [0, 0, 0]);
}
