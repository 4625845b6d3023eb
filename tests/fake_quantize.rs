//! Fake quantization: the bits of quantization followed by dequantization, for every representation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use half::{bf16, f16};
use lowbit::prelude::*;
use lowbit::{DataError, Element, Error, Rounding, ShapeError};
use ndarray::{Array2, ArrayView2, Ix2, s};

/// One recipe for each representation and width, and the roundings, dialects and policies that change codes.
const RECIPES: [&str; 22] = [
    "uniform(bits=8)",
    "uniform(bits=8); dialect=torch; granularity=channel(axis=0)",
    "uniform(bits=8, symmetry=asymmetric); granularity=channel(axis=1)",
    "uniform(bits=4, scales=f16); granularity=subchannel(32, axis=0); dialect=torch",
    "uniform(bits=3, symmetry=asymmetric-real); granularity=subchannel(20, axis=0)",
    "uniform(bits=1, range=full); granularity=channel(axis=0)",
    "uniform(bits=12); dialect=openvino",
    "uniform(bits=16, scales=f64); rounding=nearest-away",
    "uniform(bits=5); rounding=stochastic=7; granularity=channel(axis=1)",
    "uniform(bits=8, symmetry=asymmetric); non-finite=nan-to-zero",
    "uniform(bits=6); non-finite=nan-to-lowest; granularity=channel(axis=0)",
    "normal-float(bits=4); granularity=subchannel(64, axis=0)",
    "mx(e2m1); granularity=subchannel(32, axis=0)",
    "nvfp4; granularity=subchannel(16, axis=0)",
    "float(e4m3fn); granularity=channel(axis=0)",
    "log(bits=4); rounding=stochastic=3",
    "kmeans(bits=3)",
    "ecsq(bits=4, entropy=1.5)",
    "binary-code(bits=2); granularity=channel(axis=0)",
    "piecewise-linear(bits=4)",
    "product-quantization(bits=4, dimension=2)",
    "ternary",
];

fn values<A: Element>(rows: usize, columns: usize) -> Array2<A> {
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        let x = ((131 * i + 17 * j) as f32 * 0.731).sin() * (1.0 + (i % 5) as f32);
        A::from_f32(if (i + j) % 11 == 0 { 0.0 } else { x * x * x })
    })
}

fn same<A: Element>(a: &ArrayView2<'_, A>, b: &Array2<A>) -> bool {
    a.shape() == b.shape() && a.iter().zip(b).all(|(a, b)| a.to_f64().to_bits() == b.to_f64().to_bits())
}

fn check<A: Element, B: Element>(text: &str, x: &ArrayView2<'_, A>) {
    let recipe: Recipe = text.parse().unwrap();
    let q = recipe.quantize(x).unwrap();
    let expected: Array2<B> = q.dequantize::<B, Ix2>().unwrap();
    let mut out = Array2::<B>::default(x.raw_dim());
    recipe.fake_quantize_into(x, &mut out).unwrap();
    assert!(same(&out.view(), &expected), "{text} {} {}", A::TYPE, B::TYPE);

    let frozen = recipe.freeze_from(x).unwrap();
    let expected: Array2<B> = frozen.quantize(x).unwrap().dequantize::<B, Ix2>().unwrap();
    let mut out = Array2::<B>::default(x.raw_dim());
    frozen.fake_quantize_into(x, &mut out).unwrap();
    assert!(same(&out.view(), &expected), "{text} {} {} frozen", A::TYPE, B::TYPE);
    // To every other column.
    let mut wide = Array2::<B>::default((x.nrows(), 2 * x.ncols()));
    let mut stepped = wide.slice_mut(s![.., ..;2]);
    frozen.fake_quantize_into(x, &mut stepped).unwrap();
    assert!(same(&stepped.view(), &expected), "{text} stepped");
}

#[test]
fn the_bits_of_quantize_and_dequantize() {
    for text in RECIPES {
        let x: Array2<f32> = values(9, 160);
        check::<f32, f32>(text, &x.view());
        check::<f32, f16>(text, &x.view());
        check::<f32, f64>(text, &x.view());
        check::<f64, f64>(text, &values(9, 160).view());
        check::<f16, f16>(text, &values(9, 160).view());
        check::<bf16, f32>(text, &values(9, 160).view());
        let transposed: Array2<f32> = values(160, 9);
        check::<f32, f32>(text, &transposed.t());
    }
}

#[test]
fn several_chunks_and_every_level() {
    let x: Array2<f32> = values(67, 1100);
    for text in &RECIPES[..4] {
        let recipe: Recipe = text.parse().unwrap();
        let expected = recipe.quantize(&x).unwrap().dequantize::<f32, Ix2>().unwrap();
        for &level in lowbit::simd::available() {
            let fake = lowbit::simd::with_level(level, || recipe.fake_quantize(&x)).unwrap().unwrap();
            assert!(same(&fake.view(), &expected), "{text} {level}");
        }
    }
}

#[test]
fn bad_input() {
    let recipe = Uniform::symmetric(BitWidth::EIGHT).granularity(PerChannel::new(Axis(0)));
    let mut x: Array2<f32> = values(3, 50);
    let frozen = recipe.freeze_from(&x).unwrap();
    let mut other = Array2::<f32>::zeros((50, 3));
    let mismatch = |result| matches!(result, Err(Error::Shape(ShapeError::Mismatch { .. })));
    assert!(mismatch(frozen.fake_quantize_into(&x, &mut other)));
    assert!(mismatch(recipe.fake_quantize_into(&x, &mut other)));
    assert!(frozen.fake_quantize(&other).is_err());
    x[[1, 7]] = f32::NAN;
    let nan = |result| matches!(result, Err(Error::Data(DataError::NotANumber { index })) if index == [1, 7]);
    assert!(nan(frozen.fake_quantize(&x)));
    assert!(nan(recipe.fake_quantize(&x)));
    let zero = recipe.clone().non_finite(NonFinite::NanToZero).rounding(Rounding::Floor);
    assert_eq!(zero.fake_quantize(&x).unwrap()[[1, 7]], 0.0);
    assert!(recipe.fake_quantize(&Array2::<f32>::zeros((3, 0))).unwrap().is_empty());
}
