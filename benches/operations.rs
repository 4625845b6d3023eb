//! Every basic operation of the example `throughput`, on a 1024 × 1024 tensor into buffers that are reused.
//!
//! Throughput is counted in the bytes that an operation reads and writes. The names are those of the example, which says
//! what the memory allows; this is for regressions, `cargo bench --bench operations -- NAME` for some of them.
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so and stop")]

mod common;
#[path = "../examples/throughput/operations.rs"]
mod operations;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::{bf16, f16};
use lowbit::Element;

use common::{SIDE, criterion};
use operations::{Operation, Tensors};

fn element<A: Element>(criterion: &mut Criterion) -> anyhow::Result<()> {
    let mut tensors = Tensors::<A>::new((SIDE, SIDE));
    let mut group = criterion.benchmark_group(format!("operations {}", A::TYPE));
    for operation in Operation::<A>::all() {
        group.throughput(Throughput::Bytes(operation.bytes().of(SIDE * SIDE) as u64));
        let mut run = operation.prepare(&mut tensors)?;
        group.bench_function(operation.name, |bencher| bencher.iter(&mut run));
    }
    group.finish();
    Ok(())
}

fn all(criterion: &mut Criterion) {
    element::<f32>(criterion).expect("valid configurations");
    element::<f16>(criterion).expect("valid configurations");
    element::<bf16>(criterion).expect("valid configurations");
}

criterion_group! { name = benches; config = criterion(); targets = all }
criterion_main!(benches);
