//! The folded cross term of an asymmetric activation against the sum that it stands for.

#![allow(clippy::unwrap_used, reason = "tests")]

use lowbit::integer::fold_zero_point;
use lowbit::prelude::*;
use lowbit::tensor::Grid;
use lowbit::{CodeRange, ConfigError, DataError, Error, ShapeError};
use ndarray::{Array2, Array3, Axis};
use proptest::prelude::*;

/// Integer zero point and scale of the weights' element `index`.
fn grid_of(weights: &QuantizedTensor, index: usize) -> (i64, f64) {
    match weights.grid(weights.tiling().region_of(index)).unwrap() {
        Grid::Affine(grid) => (grid.zero_point as i64, grid.scale),
        _ => unreachable!("an affine scheme"),
    }
}

proptest! {
    #[test]
    fn folded_equals_unfolded(
        (shape, axis, values) in (1usize..5, 1usize..5, 1usize..5).prop_flat_map(|shape| {
            let len = shape.0 * shape.1 * shape.2;
            (Just(shape), 0usize..3, prop::collection::vec(-3.0f32..5.0, len))
        }),
        bits in 2u32..9,
        symmetric: bool,
        per_channel: bool,
        zero_point in 0i32..=255,
        seed: u64,
    ) {
        let weights = Array3::from_shape_vec(shape, values).unwrap();
        let bits = BitWidth::new(bits).unwrap();
        let method = if symmetric { Uniform::symmetric(bits) } else { Uniform::asymmetric(bits) };
        let recipe = Recipe::new(method);
        let recipe = if per_channel { recipe.granularity(PerChannel::new(Axis(axis))) } else { recipe };
        let w = recipe.quantize(&weights).unwrap();
        let codes = CodeRange::unsigned(BitWidth::EIGHT);
        let fold = fold_zero_point(&w, Axis(axis), codes, zero_point).unwrap();
        let outputs = weights.len_of(Axis(axis));
        let bias: Vec<i32> = (0..outputs as i32).map(|n| 1000 * n - 700).collect();
        let start = fold.start(Some(&bias)).unwrap();
        let start_i32 = fold.start_i32(Some(&bias)).unwrap();
        let real_bias: Vec<f64> = (0..outputs).map(|n| n as f64 * 0.25).collect();
        let folded_bias = fold.bias(0.02, &real_bias).unwrap();

        let x = |index: usize| (seed.wrapping_mul(index as u64 * 2 + 1).wrapping_mul(0x9e37_79b9) >> 56) as i64;
        for n in 0..outputs {
            let elements: Vec<usize> = weights
                .indexed_iter()
                .enumerate()
                .filter(|(_, ((i, j, k), _))| [*i, *j, *k][axis] == n)
                .map(|(flat, _)| flat)
                .collect();
            let centred = |flat| i64::from(w.code(flat).unwrap()) - grid_of(&w, flat).0;
            let unfolded: i64 = elements.iter().map(|&k| (x(k) - i64::from(zero_point)) * centred(k)).sum();
            let folded: i64 = elements.iter().map(|&k| x(k) * centred(k)).sum();
            prop_assert_eq!(start[n] + folded, unfolded + i64::from(bias[n]));
            // The same in 32 bits, every partial sum included.
            let wrapped = elements.iter().try_fold(start_i32[n], |sum, &k| {
                sum.checked_add((x(k) * centred(k)) as i32)
            });
            prop_assert_eq!(wrapped.map(i64::from), Some(start[n] + folded));
            // As reals: two roundings of f64 apart.
            let scale = 0.02 * grid_of(&w, elements[0]).1;
            let (a, b) = (folded_bias[n] + scale * folded as f64, real_bias[n] + scale * unfolded as f64);
            prop_assert!((a - b).abs() <= 1e-12 * (1.0 + scale * (folded.abs() + unfolded.abs()) as f64));
        }
    }
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
