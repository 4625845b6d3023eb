//! K-means is the best scalar method: on the same regions with the same number of levels nothing has less error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{SplitMix64, kinds, recipe};
use lowbit::prelude::*;
use ndarray::{ArrayD, IxDyn};

/// Bell-shaped, heavy-tailed, one-sided, mostly zero.
fn tensors() -> Vec<ArrayD<f32>> {
    let mut random = SplitMix64(21);
    let mut tensor = |value: &dyn Fn(f64, f64) -> f64| {
        ArrayD::from_shape_simple_fn(IxDyn(&[6, 40, 25]), || value(random.normal(), random.uniform()) as f32)
    };
    vec![
        tensor(&|normal, _| normal),
        tensor(&|normal, uniform| normal / (0.01 + uniform)),
        tensor(&|normal, _| 3.0 + normal.abs()),
        tensor(&|normal, uniform| if uniform < 0.8 { 0.0 } else { normal }),
    ]
}

/// The squared error, and by how much more k-means may have because its centroids are stored in f32: each is moved by
/// 2^-24 of itself at most, which adds the square of that for each value and no more, centroids being means. Values of a
/// cluster are about as large as its centroid, so 2^-44 of the sum of squares leaves room.
fn error(q: &QuantizedTensor, x: &ArrayD<f32>) -> (f64, f64) {
    let restored = q.dequantize::<f32, IxDyn>().unwrap();
    let error = x.iter().zip(&restored).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    (error, x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() * 2f64.powi(-44))
}

#[test]
fn no_uniform_grid_is_better() {
    for x in tensors() {
        for granularity in ["layer", "channel(axis=0)", "channel(axis=2)", "subchannel(64, axis=1)"] {
            for bits in [2, 3, 4, 6] {
                let kmeans = recipe(KMeans::new(BitWidth::new(bits).unwrap()), granularity);
                let (best, slack) = error(&kmeans.quantize(&x).unwrap(), &x);
                for kind in kinds(bits) {
                    let mut others =
                        vec![kind.clone(), kind.clone().calibration(Percentile::new(99.0).unwrap())];
                    // The search with a real zero point takes long, and finds no better grid than k-means in any case.
                    if granularity == "channel(axis=0)" {
                        others.push(kind.calibration(Mse));
                    }
                    for other in others {
                        let other = recipe(other, granularity);
                        let found = error(&other.quantize(&x).unwrap(), &x).0;
                        assert!(best <= found + slack, "{kmeans} {best}, {other} {found}");
                    }
                }
            }
        }
    }
}

/// Codes do not depend on layout, element order in memory, or threads.
#[test]
fn layouts_and_threads_make_no_difference() {
    let mut random = SplitMix64(22);
    let x = ArrayD::from_shape_simple_fn(IxDyn(&[12, 80, 90]), || random.normal() as f32);
    let transposed = x.view().permuted_axes(vec![2, 1, 0]).as_standard_layout().into_owned();
    let back = transposed.view().permuted_axes(vec![2, 1, 0]);
    for text in [
        "kmeans(bits=4)",
        "kmeans(bits=6); granularity=channel(axis=2)",
        "kmeans(bits=4, shared=true); granularity=channel(axis=1)",
        "product-quantization(bits=4, dimension=4, iterations=3)",
        "product-quantization(bits=3, dimension=2, iterations=3); granularity=blocks(0, 0, 30)",
    ] {
        let recipe: Recipe = text.parse().unwrap();
        let q = recipe.quantize(&x).unwrap();
        assert_eq!(recipe.quantize(&back).unwrap(), q, "{text}");
        #[cfg(feature = "rayon")]
        for threads in [1, 2, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| recipe.quantize(&x).unwrap()), q, "{text}");
        }
        let text = q.recipe().unwrap();
        assert_eq!(text.parse::<Recipe>().unwrap().to_string(), text);
    }
}
