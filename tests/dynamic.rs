//! Dynamic and static quantization by one recipe: per row, rows do not know of each other; frozen, nothing is found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{CALIBRATIONS, SplitMix64, calibrated, kinds, normal_tensor, recipe};
use lowbit::prelude::*;
use ndarray::{ArrayD, Axis, IxDyn, concatenate};
use proptest::prelude::*;

/// Rows of different sizes of values.
fn rows(shape: &[usize], seed: u64) -> ArrayD<f32> {
    let mut tensor = normal_tensor(shape, seed);
    let mut random = SplitMix64(seed);
    for mut row in tensor.outer_iter_mut() {
        let (scale, about) = (10f64.powf(random.within(-2.0, 2.0)) as f32, random.within(-1.0, 1.0) as f32);
        row.mapv_inplace(|x| scale * (x + about));
    }
    tensor
}

fn uniforms() -> impl Strategy<Value = Uniform> {
    (2u32..6, 0usize..10, 0..CALIBRATIONS.len()).prop_map(|(bits, kind, calibration)| {
        calibrated(kinds(bits)[kind].clone(), CALIBRATIONS[calibration])
    })
}

proptest! {
    #![proptest_config(common::cases(150))]

    #[test]
    fn each_row_is_quantized_as_if_it_were_alone(
        uniform in uniforms(),
        shape in prop::collection::vec(1usize..7, 2..4),
        width in 1usize..40,
        seed in 0..1000u64,
    ) {
        let tensor = rows(&[&shape[..], &[width]].concat(), seed);
        let per_row = recipe(uniform.clone(), "channel(axis=0)");
        let per_tensor = recipe(uniform, "layer");
        let together = per_row.quantize(&tensor).unwrap();
        prop_assert_eq!(together.tiling().regions(), tensor.len_of(Axis(0)));
        let restored = together.dequantize::<f32, IxDyn>().unwrap();
        for (at, row) in tensor.outer_iter().enumerate() {
            let alone = per_tensor.quantize(&row).unwrap();
            prop_assert_eq!(together.grid(at), alone.grid(0));
            let codes: Vec<_> = (0..row.len()).map(|i| together.code(at * row.len() + i)).collect();
            prop_assert_eq!(codes, (0..row.len()).map(|i| alone.code(i)).collect::<Vec<_>>());
            prop_assert_eq!(restored.index_axis(Axis(0), at), alone.dequantize::<f32, IxDyn>().unwrap());
        }
    }

    #[test]
    fn a_row_is_the_same_in_any_batch(
        uniform in uniforms(),
        count in 1usize..6,
        more in 0usize..6,
        width in 1usize..60,
        seed in 0..1000u64,
    ) {
        let (some, others) = (rows(&[count, width], seed), rows(&[more, width], seed + 1) * 50.0);
        let batch = concatenate(Axis(0), &[others.view(), some.view()]).unwrap();
        let per_row = recipe(uniform, "channel(axis=0)");
        let (small, large) = (per_row.quantize(&some).unwrap(), per_row.quantize(&batch).unwrap());
        for row in 0..count {
            prop_assert_eq!(small.grid(row), large.grid(more + row));
            let (one, same) = (small.dequantize_row::<f32>(row), large.dequantize_row::<f32>(more + row));
            prop_assert_eq!(one.unwrap(), same.unwrap());
        }
    }

    #[test]
    fn a_frozen_recipe_is_the_recipe_on_the_data_that_it_was_frozen_on(
        uniform in uniforms(),
        shape in prop::collection::vec(1usize..7, 2..4),
        seed in 0..1000u64,
        granularity in prop::sample::select(vec!["layer", "channel(axis=0)", "channel(axis=1)"]),
    ) {
        let tensor = rows(&shape, seed);
        let dynamic = recipe(uniform, granularity);
        let fixed = dynamic.freeze_from(&tensor).unwrap();
        let (found, given) = (dynamic.quantize(&tensor).unwrap(), fixed.quantize(&tensor).unwrap());
        prop_assert_eq!(found.codes(), given.codes());
        prop_assert_eq!(found.grids(), given.grids());
        // Whatever comes, its grids stay.
        let other = fixed.quantize(&(&tensor * 3.0)).unwrap();
        prop_assert_eq!(other.grids(), fixed.grids());
        // Per tensor, a row gets the codes that it has among the others.
        if granularity == "layer" {
            for (at, row) in tensor.outer_iter().enumerate() {
                let alone = fixed.quantize(&row).unwrap();
                let codes: Vec<_> = (0..row.len()).map(|i| given.code(at * row.len() + i)).collect();
                prop_assert_eq!(codes, (0..row.len()).map(|i| alone.code(i)).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn buffers_serve_other_recipes_shapes_and_tensors_after_errors() {
    let wave = |shape: &[usize]| {
        let len = shape.iter().product::<usize>();
        let values = (0..len).map(|i| (i as f32 * 0.37).sin()).collect();
        ndarray::ArrayD::from_shape_vec(shape.to_vec(), values).unwrap()
    };
    let recipes = [
        Uniform::symmetric(BitWidth::EIGHT).granularity(PerLayer),
        Uniform::symmetric(BitWidth::EIGHT).granularity(PerChannel::new(Axis(0))),
        Uniform::symmetric(BitWidth::EIGHT).granularity(PerChannel::new(Axis(1))),
    ];
    let mut out = recipes[0].quantize(&wave(&[2, 3])).unwrap();
    for round in 0..3 {
        for shape in [&[4usize, 6][..], &[6, 4], &[6, 4], &[2, 3, 4], &[0, 3]] {
            let x = wave(shape);
            // The same one several times, and others in between.
            for recipe in recipes.iter().chain(&recipes[..=round]) {
                let again = recipe.clone();
                for recipe in [recipe, &again] {
                    recipe.quantize_into(&x, &mut out).unwrap();
                    assert_eq!(out, recipe.quantize(&x).unwrap(), "{recipe} of {shape:?}");
                    assert_eq!(*out.tiling(), recipe.tiling(shape).unwrap());
                }
                let nan = x.mapv(|_| f32::NAN);
                assert!(recipe.quantize_into(&nan, &mut out).is_err() || x.is_empty());
                if !x.is_empty() {
                    recipe.freeze_from(&x).unwrap().quantize_into(&x, &mut out).unwrap();
                    assert_eq!(out, recipe.quantize(&x).unwrap());
                }
            }
        }
        // What an error leaves is of this shape, but not of these regions.
        assert!(recipes[1].quantize_into(&wave(&[2, 3]).mapv(|_| f32::NAN), &mut out).is_err());
        recipes[0].quantize_into(&wave(&[0]), &mut out).unwrap();
        assert_eq!(out, recipes[0].quantize(&wave(&[0])).unwrap());
    }
}

#[test]
fn numbers_of_16_bits_get_the_codes_of_the_same_numbers_of_f32() {
    fn check<A: lowbit::Element>(nan: bool) {
        let mut x = rows(&[9, 1024], 5).mapv(|x| A::from_f32(x));
        if nan {
            x[[3, 100]] = A::from_f32(f32::NAN);
        }
        let wide = x.mapv(|x| x.to_f32());
        for granularity in [
            "layer",
            "channel(axis=0)",
            "channel(axis=1)",
            "subchannel(32, axis=0)",
            "subchannel(40, axis=0)",
        ] {
            for method in ["symmetric", "asymmetric"] {
                for dialect in ["onnx", "torch", "gptq", "openvino"] {
                    for non_finite in ["error", "nan-to-zero", "nan-to-lowest"] {
                        let text = format!(
                            "uniform(bits=8, symmetry={method}); granularity={granularity}; dialect={dialect}; \
                             non-finite={non_finite}"
                        );
                        let recipe: Recipe = text.parse().unwrap();
                        let fit = wide.mapv(|x| if x.is_nan() { 0.0 } else { x });
                        let frozen = recipe.freeze_from(&fit).unwrap();
                        let (found, expected) = (frozen.quantize(&x), frozen.quantize(&wide));
                        match (found, expected) {
                            (Ok(found), Ok(expected)) => {
                                assert_eq!(found.codes(), expected.codes(), "{text}")
                            }
                            (found, expected) => assert_eq!(
                                found.unwrap_err().to_string(),
                                expected.unwrap_err().to_string(),
                                "{text}"
                            ),
                        }
                    }
                }
            }
        }
    }
    for nan in [false, true] {
        check::<half::f16>(nan);
        check::<half::bf16>(nan);
    }
}
