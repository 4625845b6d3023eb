//! Finding the ranges of a 1024 × 1024 tensor of f32 for 8 and 4 bits: no codes are chosen.
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so and stop")]

mod common;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lowbit::Registry;
use lowbit::calibration::{Convergence, OnnxRuntimeEntropy};
use lowbit::prelude::*;

use common::{SIDE, criterion, weights};

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
    from_summary(criterion).expect("valid configurations");
}

criterion_group! { name = benches; config = criterion(); targets = calibration }
criterion_main!(benches);
