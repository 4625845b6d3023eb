//! Finding the ranges of a 1024 × 1024 tensor of f32 for 8 and 4 bits: no codes are chosen.
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so and stop")]

mod common;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
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

fn calibration(criterion: &mut Criterion) {
    ranges(criterion).expect("valid configurations");
}

criterion_group! { name = benches; config = criterion(); targets = calibration }
criterion_main!(benches);
