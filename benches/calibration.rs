//! Finding the ranges of a 1024 × 1024 tensor of f32 for 8 and 4 bits, and of a larger one on one thread: no codes are
//! chosen.
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so and stop")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lowbit::Registry;
use lowbit::calibration::{
    Convergence, NvidiaMse, NvidiaPercentile, OnnxRuntimeEntropy, TorchHistogram, WeightedEntropy,
};
use lowbit::prelude::*;

use common::{SIDE, criterion, normal, weights};
use ndarray::Array2;
use rayon::ThreadPoolBuilder;

fn ranges(criterion: &mut Criterion) -> Result<(), lowbit::Error> {
    let tensor = weights::<f32>();
    let calibrations: [(&str, Arc<dyn Calibration>); 4] = [
        ("minmax", Arc::new(MinMax)),
        ("percentile", Arc::new(Percentile::new(99.99)?)),
        ("kl", Arc::new(Kl::default())),
        ("mse", Arc::new(Mse)),
    ];
    for bits in [8, 4] {
        let mut group = criterion.benchmark_group(format!("calibration {bits} bits f32"));
        group.throughput(Throughput::Bytes((SIDE * SIDE * size_of::<f32>()) as u64));
        for (name, calibration) in &calibrations {
            let method = Uniform::symmetric(BitWidth::new(bits)?).calibration(calibration.clone());
            let layer = method.clone().granularity(PerLayer);
            let channel = method.granularity(PerChannel::new(Axis(0)));
            for (granularity, recipe) in [("layer", layer), ("channel", channel)] {
                group.bench_function(format!("{name}/{granularity}"), |bencher| {
                    bencher.iter(|| recipe.freeze_from(black_box(&tensor)));
                });
            }
        }
        group.finish();
    }
    Ok(())
}

/// Rows and columns of the larger tensor.
const LARGE: usize = 4096;

/// Of a tensor out of cache, on one thread: `cargo bench --bench calibration -- 4096`.
fn large(criterion: &mut Criterion) -> Result<(), lowbit::Error> {
    let tensor = Array2::from_shape_simple_fn((LARGE, LARGE), {
        let mut numbers = normal(LARGE * LARGE);
        move || numbers.next().unwrap_or_default()
    });
    let one_thread = ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let calibrations: [(&str, Arc<dyn Calibration>); 9] = [
        ("minmax", Arc::new(MinMax)),
        ("percentile", Arc::new(Percentile::new(99.99)?)),
        ("kl", Arc::new(Kl::default())),
        ("mse", Arc::new(Mse)),
        ("aciq", Arc::new(Aciq::default())),
        ("weighted-entropy", Arc::new(WeightedEntropy)),
        ("torch", Arc::new(TorchHistogram::default())),
        ("nvidia-mse", Arc::new(NvidiaMse::default())),
        ("nvidia-percentile", Arc::new(NvidiaPercentile::new(99.99)?)),
    ];
    for bits in [8, 4] {
        let mut group = criterion.benchmark_group(format!("4096 x 4096, {bits} bits, one thread"));
        group.throughput(Throughput::Elements((LARGE * LARGE) as u64));
        group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(100));
        for (name, calibration) in &calibrations {
            let bits = BitWidth::new(bits)?;
            let methods =
                [("symmetric", Uniform::symmetric(bits)), ("asymmetric", Uniform::asymmetric(bits))];
            for (kind, method) in methods {
                let method = method.calibration(calibration.clone());
                let layer = method.clone().granularity(PerLayer);
                let channel = method.granularity(PerChannel::new(Axis(0)));
                for (granularity, recipe) in [("layer", layer), ("channel", channel)] {
                    group.bench_function(format!("{name}/{granularity}/{kind}"), |bencher| {
                        one_thread.install(|| bencher.iter(|| recipe.freeze_from(black_box(&tensor))));
                    });
                }
            }
        }
        group.finish();
    }
    Ok(())
}

/// From a finished summary of 2048 bins: what any number of values costs in the end. `all` is every built-in
/// calibration, KL in its default variant.
fn from_summary(criterion: &mut Criterion) -> Result<(), lowbit::Error> {
    let tensor = weights::<f32>();
    let relu = tensor.mapv(|x| x.max(0.0));
    let symmetric = Uniform::symmetric(BitWidth::EIGHT).scheme()?;
    let asymmetric = Uniform::asymmetric(BitWidth::EIGHT).scheme()?;
    for (name, tensor, scheme) in [("weights", &tensor, symmetric), ("relu", &relu, asymmetric)] {
        let mut observer = Observer::new(Arc::new(PerLayer), tensor.shape(), NonFinite::Error, 2048)?;
        observer.observe(tensor)?;
        let summary = observer.summaries().first().and_then(|summary| summary.to_histogram());
        let Some(summary) = summary else { continue };
        let mut group = criterion.benchmark_group(format!("2048-bin summary of {name}"));
        group.bench_function("all", |bencher| {
            bencher.iter(|| Comparison::of_all(black_box(&summary), &scheme));
        });
        let mut each = Comparison::built_in()?;
        for variant in ["slides-floor", "slides-fractional", "nvidia", "mxnet"] {
            each.push(Registry::default().parse_calibration(&format!("kl(variant={variant})"))?);
        }
        each.push(Arc::new(OnnxRuntimeEntropy::default().bins(2048)?));
        for calibration in each {
            group.bench_function(calibration.to_string(), |bencher| {
                bencher.iter(|| black_box(&summary).calibrate(&*calibration, &scheme));
            });
        }
        group.bench_function("convergence of kl", |bencher| {
            bencher.iter(|| Convergence::of(black_box(&summary), &Kl::default(), &scheme, 1));
        });
        group.finish();
    }
    Ok(())
}

fn calibration(criterion: &mut Criterion) {
    ranges(criterion).expect("valid configurations");
    large(criterion).expect("valid configurations");
    from_summary(criterion).expect("valid configurations");
}

criterion_group! { name = benches; config = criterion(); targets = calibration }
criterion_main!(benches);
