//! Observing a 4096 × 4096 tensor of f32 (64 MiB: out of cache) on one thread, beside the rate at which memory is
//! read in the same run; merging and freezing what was seen.
//!
//! Before criterion's own figures a table is printed: medians of paired repetitions, so that what else the machine
//! does touches all rows alike.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot run should say so and stop")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use half::{bf16, f16};
use lowbit::prelude::*;
use lowbit::{Element, Granularity, NonFinite};
use ndarray::Array2;

use common::criterion;

/// Rows and columns.
const SIDE: usize = 4096;
const N: usize = SIDE * SIDE;
/// Of the table.
const REPETITIONS: usize = 15;

/// Bell-shaped values, the same on every run.
fn values<A: Element>() -> Array2<A> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5
    };
    Array2::from_shape_simple_fn((SIDE, SIDE), || A::from_f64((0..6).map(|_| uniform()).sum()))
}

/// The sum of the words of `x`: as little work as reading all of them takes. In vectors of the machine, which a
/// default build would not use.
fn read(x: &[f32]) -> u32 {
    #[inline(always)]
    fn sum(x: &[f32]) -> u32 {
        let mut lanes = [0u32; 64];
        // Two streams are read faster than one.
        let (front, back) = x.split_at(x.len() / 2);
        for (x, y) in front.as_chunks::<64>().0.iter().zip(back.as_chunks::<64>().0) {
            for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
                *lane = lane.wrapping_add(x.to_bits() ^ y.to_bits());
            }
        }
        lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(x: &[f32]) -> u32 {
            sum(x)
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            #[allow(unsafe_code)]
            // SAFETY: the instruction set was just detected.
            return unsafe { avx2(x) };
        }
    }
    sum(x)
}

fn observer(granularity: &Arc<dyn Granularity>) -> Observer {
    Observer::new(granularity.clone(), &[SIDE, SIDE], NonFinite::Error, Observer::BINS).unwrap()
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// A name and what is timed.
type Row<'a> = (&'a str, Box<dyn FnMut() + 'a>);

/// Medians of repetitions that take turns, with the ratio to the reading rate as the median of the ratios.
fn table(rows: &mut [Row<'_>]) {
    let mut seconds = vec![Vec::new(); rows.len()];
    for repetition in 0..=REPETITIONS {
        for ((_, run), seconds) in rows.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            run();
            // The first one touches the pages.
            if repetition > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let read = seconds[0].clone();
    for ((name, _), seconds) in rows.iter().zip(&mut seconds) {
        let mut ratios: Vec<f64> = read.iter().zip(&*seconds).map(|(read, seconds)| read / seconds).collect();
        let ns = median(seconds) / N as f64 * 1e9;
        println!("{name:<44} {ns:7.3} ns/element {:6.2} of the rate of reading f32", median(&mut ratios));
    }
}

fn bench(criterion: &mut Criterion) {
    #[cfg(feature = "rayon")]
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("no other pool yet");
    let x = values::<f32>();
    let (half, brain, wide) = (values::<f16>(), values::<bf16>(), x.mapv(f64::from));
    let layer: Arc<dyn Granularity> = Arc::new(PerLayer);
    let rows: Arc<dyn Granularity> = Arc::new(PerChannel::new(Axis(0)));
    let columns: Arc<dyn Granularity> = Arc::new(PerChannel::new(Axis(1)));
    let range = |granularity: &Arc<dyn Granularity>| {
        Uniform::asymmetric(BitWidth::EIGHT).granularity(granularity.clone())
    };
    let (range_layer, range_rows, range_columns) = (range(&layer), range(&rows), range(&columns));
    let mut seen: Vec<Observer> = [&layer; 4].into_iter().chain([&rows, &columns]).map(observer).collect();
    let [a, b, c, d, e, f] = &mut seen[..] else { return };
    table(&mut [
        ("read", Box::new(|| _ = black_box(read(black_box(x.as_slice().unwrap()))))),
        ("minimum and maximum, per tensor", Box::new(|| drop(range_layer.freeze_from(black_box(&x))))),
        ("minimum and maximum, per row", Box::new(|| drop(range_rows.freeze_from(black_box(&x))))),
        ("minimum and maximum, per column", Box::new(|| drop(range_columns.freeze_from(black_box(&x))))),
        ("observe, per tensor, f32", Box::new(|| a.observe(black_box(&x)).unwrap())),
        ("observe, per tensor, f16", Box::new(|| b.observe(black_box(&half)).unwrap())),
        ("observe, per tensor, bf16", Box::new(|| c.observe(black_box(&brain)).unwrap())),
        ("observe, per tensor, f64", Box::new(|| d.observe(black_box(&wide)).unwrap())),
        ("observe, per row, f32", Box::new(|| e.observe(black_box(&x)).unwrap())),
        ("observe, per column, f32", Box::new(|| f.observe(black_box(&x)).unwrap())),
    ]);

    let mut group = criterion.benchmark_group("observer f32");
    group.throughput(Throughput::Elements(N as u64));
    for (name, granularity) in [("tensor", &layer), ("row", &rows), ("column", &columns)] {
        let mut seen = observer(granularity);
        group.bench_function(format!("observe/{name}"), |bencher| {
            bencher.iter(|| seen.observe(black_box(&x)));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("observer of 4096 bins");
    for (name, granularity) in [("tensor", &layer), ("row", &rows)] {
        let mut seen = observer(granularity);
        seen.observe(&x).expect("finite values");
        let recipe = range(granularity);
        group.bench_function(format!("merge/{name}"), |bencher| {
            bencher.iter_batched_ref(|| seen.clone(), |into| into.merge(&seen), BatchSize::LargeInput);
        });
        group.bench_function(format!("freeze/{name}"), |bencher| {
            bencher.iter(|| recipe.freeze(black_box(&seen)));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = bench }
criterion_main!(benches);
