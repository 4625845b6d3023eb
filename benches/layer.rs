//! Codes fitted to a layer's data: GPTQ of a 4096 × 4096 layer, and the statistics that it needs.
//!
//! Each figure is the median of a few repetitions, on one thread and on two. Products of f32 matrices by the crate `gemm`
//! in the same run say what the machine can do: statistics of 2048 × 4096 inputs are counted as `2mn²` operations against
//! its rate. The first solution of a problem also measures what its nearest codes cost, which further ones on the same
//! problem need not; both are shown.
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so and stop")]

mod common;

use std::time::Instant;

use common::{correlated, values};
use gemm::{Parallelism, gemm};
use lowbit::layer::{Gptq, LayerMethod, Order, Problem, Statistics};
use lowbit::prelude::*;
use ndarray::Array2;

const SIDE: usize = 4096;
const SAMPLES: usize = 2048;

/// Seconds of the median of `count` runs.
fn median(count: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..count)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(count / 2).copied().unwrap_or(f64::NAN)
}

/// Operations of an f32 matrix product per second.
fn product_rate(threads: usize) -> f64 {
    let n = 2048;
    let (a, b, mut c) = (values(n, n, 1), values(n, n, 2), Array2::<f32>::zeros((n, n)));
    let parallelism = if threads == 1 { Parallelism::None } else { Parallelism::Rayon(threads) };
    let (columns, rows) = (1, n as isize);
    let seconds = median(5, || {
        // SAFETY: the three matrices have n × n elements, and the strides are those of their rows and columns.
        #[allow(unsafe_code)]
        unsafe {
            gemm(
                n,
                n,
                n,
                c.as_mut_ptr(),
                columns,
                rows,
                false,
                a.as_ptr(),
                columns,
                rows,
                b.as_ptr(),
                columns,
                rows,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    });
    2.0 * (n as f64).powi(3) / seconds
}

fn main() {
    // `cargo test` runs benches without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let inputs = correlated(SAMPLES, SIDE, 3);
    let weights = values(SIDE, SIDE, 4);
    let bits = BitWidth::new(4).expect("a width");
    let groups = PerSubChannel::new(Axis(0), 128).expect("a length");
    let recipe = Uniform::symmetric(bits).granularity(groups);
    let mut statistics = Statistics::new(SIDE).expect("memory for the statistics");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let rate = product_rate(threads);
            let seconds = median(3, || {
                statistics = Statistics::new(SIDE).expect("memory for the statistics");
                statistics.observe(&inputs).expect("finite inputs");
            });
            let share = 2.0 * SAMPLES as f64 * (SIDE as f64).powi(2) / seconds / rate;
            println!("{threads} threads: f32 products at {:.1} Gflop/s", rate / 1e9);
            println!("{threads} threads: statistics of {SAMPLES} x {SIDE} in {seconds:.2} s, {share:.2} of that rate");
            for method in [Gptq::new(), Gptq::new().order(Order::Activation)] {
                let problem = Problem::dense(&weights, &statistics, &recipe).expect("a layer");
                let solve = || method.solve(&problem).expect("a layer that GPTQ serves").report;
                let mut report = None;
                let first = median(1, || report = Some(solve()));
                let again = median(3, || report = Some(solve()));
                println!(
                    "{threads} threads: {method} of {SIDE} x {SIDE} in {again:.2} s; {first:.2} s with the loss of the nearest codes"
                );
                println!("  {}", report.expect("a report"));
            }
        });
    }
}
