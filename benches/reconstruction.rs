//! Methods that learn by gradient descent: AdaRound of a 512 × 512 layer, 1000 steps of batches of 32, on one thread and on
//! two. Each figure is the fastest of a few repetitions.
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so and stop")]

mod common;

use std::time::Instant;

use common::{correlated, values};
use lowbit::layer::{Activation, AdaRound, LayerMethod, Problem, Samples, Statistics};
use lowbit::prelude::*;

const SIDE: usize = 512;
const SAMPLES: usize = 1024;

fn main() {
    // `cargo test` runs benches without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let inputs = correlated(SAMPLES, SIDE, 3);
    let weights = values(SIDE, SIDE, 4);
    let recipe = Uniform::symmetric(BitWidth::new(4).expect("a width")).granularity(PerChannel::new(Axis(0)));
    let mut statistics = Statistics::new(SIDE).expect("memory for the statistics");
    statistics.observe(&inputs).expect("finite inputs");
    let plain = Samples::new(&inputs).expect("finite inputs");
    let through = plain.clone().activation(Activation::Relu);
    let method = AdaRound::new().steps(1000).expect("some steps");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let layer = || Problem::dense(&weights, &statistics, &recipe).expect("a layer");
            let batches = layer().samples(std::slice::from_ref(&plain)).expect("samples of the layer");
            let relu = layer().samples(std::slice::from_ref(&through)).expect("samples of the layer");
            for (name, problem) in
                [("batches of 32", batches), ("batches of 32 through ReLU", relu), ("all data", layer())]
            {
                let mut seconds = f64::INFINITY;
                let mut report = None;
                for _ in 0..3 {
                    let start = Instant::now();
                    report = Some(method.solve(&problem).expect("a layer that AdaRound serves").report);
                    seconds = seconds.min(start.elapsed().as_secs_f64());
                }
                println!("{threads} threads: {method} of {SIDE} x {SIDE}, {name}, in {seconds:.2} s");
                println!("  {}", report.expect("a report"));
            }
        });
    }
}
