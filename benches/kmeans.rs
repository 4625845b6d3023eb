//! K-means: the search for centroids alone, next to plain Lloyd iterations; and quantization with it.
//!
//! `centroids` are found in 2^20 and 2^24 values of f32 on one thread. `lloyd` is one iteration of the textbook method,
//! which needs dozens to hundreds of them; what both cost in squared error is printed first. `quantize` finds the
//! codebooks of a 4096 × 4096 tensor and encodes, `encode` has its grids (a frozen recipe); these use all threads that
//! rayon has.
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so and stop")]

mod common;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lowbit::prelude::*;
use lowbit::{Element, Values};
use ndarray::Array2;

use common::normal;

/// One iteration of Lloyd's method: every value goes to the nearest centroid, every centroid to its values' mean.
fn lloyd(values: &[f32], centroids: &mut [f64]) {
    let middles: Vec<f32> = centroids.windows(2).map(|pair| (0.5 * (pair[0] + pair[1])) as f32).collect();
    let mut sums = vec![(0u64, 0.0f64); centroids.len()];
    for &x in values {
        let sum = &mut sums[middles.partition_point(|&middle| middle < x)];
        *sum = (sum.0 + 1, sum.1 + f64::from(x));
    }
    for (centroid, (count, sum)) in centroids.iter_mut().zip(sums) {
        if count > 0 {
            *centroid = sum / count as f64;
        }
    }
}

/// Even steps over the range of the values: how Lloyd's method is started for weights.
fn even(values: &[f32], k: usize) -> Vec<f64> {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let step = (high.to_f64() - low.to_f64()) / (k - 1) as f64;
    (0..k).map(|i| low.to_f64() + step * i as f64).collect()
}

/// The mean squared distance to the nearest centroid.
fn cost(values: &[f32], centroids: &[f64]) -> f64 {
    let middles: Vec<f64> = centroids.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect();
    let square = |&x: &f32| {
        let x = f64::from(x);
        (x - centroids[middles.partition_point(|&middle| middle < x)]).powi(2)
    };
    values.iter().map(square).sum::<f64>() / values.len() as f64
}

fn centroids(criterion: &mut Criterion) {
    for (name, power) in [("1 M", 20), ("16 M", 24)] {
        let values: Vec<f32> = normal(1 << power).collect();
        let mut group = criterion.benchmark_group(format!("centroids {name} values"));
        group.throughput(Throughput::Elements(values.len() as u64));
        for bits in [4, 8] {
            let method = KMeans::new(BitWidth::new(bits).expect("a bit width"));
            let k = 1 << bits;
            let found = method.clusters(Values::F32(&values), None).expect("values").centroids;
            let mut plain = even(&values, k);
            let iterations = if power == 20 { 30 } else { 3 };
            (0..iterations).for_each(|_| lloyd(&values, &mut plain));
            let (best, other) = (cost(&values, &found), cost(&values, &plain));
            eprintln!("{name}, k = {k}: error {best:.4e}; after {iterations} Lloyd iterations {other:.4e}");
            group.bench_function(format!("k={k}/kmeans"), |bencher| {
                bencher.iter(|| method.clusters(Values::F32(black_box(&values)), None));
            });
            if power == 20 {
                group.bench_function(format!("k={k}/one lloyd iteration"), |bencher| {
                    bencher.iter(|| lloyd(black_box(&values), &mut plain));
                });
            }
        }
        group.finish();
    }
}

fn tensors(criterion: &mut Criterion) -> Result<(), lowbit::Error> {
    const SIDE: usize = 4096;
    let values: Vec<f32> = normal(SIDE * SIDE).collect();
    let tensor = Array2::from_shape_vec((SIDE, SIDE), values).map_err(lowbit::Error::custom)?;
    let mut group = criterion.benchmark_group("kmeans 4096 x 4096");
    group.throughput(Throughput::Elements((SIDE * SIDE) as u64));
    for bits in [4, 8] {
        let (k, recipe) = (1 << bits, Recipe::new(KMeans::new(BitWidth::new(bits)?)));
        let frozen = recipe.freeze_from(&tensor)?;
        let mut quantized = frozen.quantize(&tensor)?;
        group.bench_function(format!("k={k}/quantize layer"), |bencher| {
            bencher.iter(|| recipe.quantize_into(black_box(&tensor), &mut quantized));
        });
        group.bench_function(format!("k={k}/encode layer"), |bencher| {
            bencher.iter(|| frozen.quantize_into(black_box(&tensor), &mut quantized));
        });
    }
    let recipe = KMeans::new(BitWidth::new(4)?).granularity(PerChannel::new(Axis(0)));
    let mut quantized = recipe.quantize(&tensor)?;
    group.bench_function("k=16/quantize channel", |bencher| {
        bencher.iter(|| recipe.quantize_into(black_box(&tensor), &mut quantized));
    });
    let product = Recipe::new(ProductQuantization::new(BitWidth::EIGHT, 4)?.iterations(1));
    let part = tensor.slice(ndarray::s![..64, ..]);
    let frozen = product.freeze_from(&part)?;
    let mut quantized = frozen.quantize(&tensor)?;
    group.bench_function("256 vectors of 4/encode layer", |bencher| {
        bencher.iter(|| frozen.quantize_into(black_box(&tensor), &mut quantized));
    });
    group.finish();
    Ok(())
}

fn kmeans(criterion: &mut Criterion) {
    centroids(criterion);
    tensors(criterion).expect("valid configurations");
}

/// Few samples: some of them take seconds.
fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
}

criterion_group! { name = benches; config = criterion(); targets = kmeans }
criterion_main!(benches);
