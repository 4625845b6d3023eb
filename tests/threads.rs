//! One thread and many give the same bits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(feature = "rayon")]

mod common;

use common::{ROUNDINGS, calibrated, cast, kinds, normal_tensor, recipe};
use half::{bf16, f16};
use lowbit::FloatType;
use lowbit::prelude::*;
use ndarray::ArrayD;

/// A tensor of more elements than one thread takes, in few long or many short regions.
#[test]
fn one_thread_and_many_give_the_same_bits() {
    let tensor = normal_tensor(&[7, 96, 128], 5);
    let transposed = tensor.view().permuted_axes(vec![2, 0, 1]);
    let wide = cast::<f64, _, _>(&tensor);
    let pools: Vec<rayon::ThreadPool> =
        [1, 2, 8].iter().map(|&n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()).collect();
    let mut cases = Vec::new();
    for granularity in
        ["layer", "channel(axis=0)", "channel(axis=2)", "subchannel(32, axis=1)", "blocks(2, 5, 7)"]
    {
        for calibration in ["minmax", "percentile(99.9)", "kl", "mse"] {
            cases.push((granularity, calibration));
        }
    }
    for (i, (granularity, calibration)) in cases.into_iter().enumerate() {
        // The slow searches on few regions only, to keep this short.
        if matches!(calibration, "kl" | "mse") && !matches!(granularity, "layer" | "channel(axis=0)") {
            continue;
        }
        let bits = [3, 8, 11, 4][i % 4];
        let kind = kinds(bits)[i % 10].clone().scales([FloatType::F32, FloatType::F64][i % 2]);
        let recipe = recipe(calibrated(kind, calibration), granularity).rounding(ROUNDINGS[i % 5]);
        let mut first: Option<(QuantizedTensor, QuantizedTensor, QuantizedTensor, ArrayD<f32>, String)> =
            None;
        for pool in &pools {
            let found = pool.install(|| {
                let q = recipe.quantize(&tensor).unwrap();
                let figures = format!(
                    "{:?} {:?} {:?}",
                    q.errors_against(&tensor).unwrap(),
                    q.clipped_share(&tensor).unwrap(),
                    lowbit::metrics::Errors::between(
                        &tensor,
                        &q.dequantize::<f32, ndarray::IxDyn>().unwrap()
                    ),
                );
                let restored = q.dequantize().unwrap();
                (recipe.quantize(&transposed).unwrap(), recipe.quantize(&wide).unwrap(), q, restored, figures)
            });
            match &first {
                None => first = Some(found),
                Some(first) => assert!(*first == found, "{recipe}"),
            }
        }
    }
}

/// Columns, whose lines are cut into parts by the number of threads.
#[test]
fn ranges_of_columns_do_not_depend_on_threads() {
    let x = normal_tensor(&[2600, 257], 13);
    let method = calibrated(Uniform::asymmetric(BitWidth::EIGHT), "minmax").scales(FloatType::F64);
    let recipe = recipe(method, "channel(axis=1)");
    let found: Vec<[QuantizedTensor; 4]> = [1, 2, 3, 8]
        .iter()
        .map(|&n| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            pool.install(|| {
                [
                    recipe.quantize(&cast::<f64, _, _>(&x)).unwrap(),
                    recipe.quantize(&x).unwrap(),
                    recipe.quantize(&cast::<f16, _, _>(&x)).unwrap(),
                    recipe.quantize(&cast::<bf16, _, _>(&x)).unwrap(),
                ]
            })
        })
        .collect();
    assert!(found.iter().all(|one| *one == found[0]));
}

/// The error that is named does not depend on the threads either.
#[test]
fn one_thread_and_many_name_the_same_error() {
    let mut tensor = cast::<f32, _, _>(&normal_tensor(&[3, 200_000], 9));
    for at in [150_000, 199_999] {
        tensor[[1, at]] = f32::NAN;
    }
    tensor[[0, 199_000]] = f32::INFINITY;
    for calibration in ["minmax", "percentile(99)"] {
        for granularity in ["layer", "channel", "subchannel(64)"] {
            let recipe = recipe(calibrated(Uniform::symmetric(BitWidth::EIGHT), calibration), granularity);
            let errors: Vec<String> = [1, 2, 8]
                .iter()
                .map(|&n| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
                    pool.install(|| recipe.quantize(&tensor).unwrap_err().to_string())
                })
                .collect();
            assert!(errors.iter().all(|error| *error == errors[0]), "{recipe}: {errors:?}");
        }
    }
}
