//! Uniform quantization and dequantization of a 1024 × 1024 tensor into buffers that are reused.
//!
//! Throughput is counted in bytes of the unquantized tensor; a mebielement is 4 MiB of f32, 2 MiB of f16.
//! `quantize` finds minimum and maximum and encodes, `encode` has its grids (a frozen recipe).
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so and stop")]

mod common;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use lowbit::Element;
use lowbit::prelude::*;
use ndarray::Array2;

use common::{SIDE, criterion, weights};

type Named = (&'static str, Arc<dyn Granularity>);

fn granularities() -> Result<[Named; 4], lowbit::Error> {
    Ok([
        ("layer", Arc::new(PerLayer)),
        ("channel axis 0", Arc::new(PerChannel::new(Axis(0)))),
        ("channel last axis", Arc::new(PerChannel::new(Axis(1)))),
        ("subchannel 32", Arc::new(PerSubChannel::new(Axis(0), 32)?)),
    ])
}

fn element<A: Element>(criterion: &mut Criterion) -> Result<(), lowbit::Error> {
    let tensor: Array2<A> = weights();
    for bits in [8, 4] {
        let mut group = criterion.benchmark_group(format!("uniform {bits} bits {}", A::TYPE));
        group.throughput(Throughput::Bytes((SIDE * SIDE * size_of::<A>()) as u64));
        for (name, granularity) in granularities()? {
            let recipe = Uniform::symmetric(BitWidth::new(bits)?).granularity(granularity);
            let frozen = recipe.freeze_from(&tensor)?;
            let mut quantized = recipe.quantize(&tensor)?;
            let mut restored = Array2::<A>::default((SIDE, SIDE));
            group.bench_function(format!("quantize/{name}"), |bencher| {
                bencher.iter(|| recipe.quantize_into(black_box(&tensor), &mut quantized));
            });
            group.bench_function(format!("encode/{name}"), |bencher| {
                bencher.iter(|| frozen.quantize_into(black_box(&tensor), &mut quantized));
            });
            group.bench_function(format!("dequantize/{name}"), |bencher| {
                bencher.iter(|| black_box(&quantized).dequantize_into(&mut restored));
            });
        }
        group.finish();
    }
    Ok(())
}

fn uniform(criterion: &mut Criterion) {
    element::<f32>(criterion).expect("valid configurations");
    element::<f16>(criterion).expect("valid configurations");
}

criterion_group! { name = benches; config = criterion(); targets = uniform }
criterion_main!(benches);
