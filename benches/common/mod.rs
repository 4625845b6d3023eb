//! What the benches share.
#![allow(dead_code, reason = "no bench uses all of it")]

use std::time::Duration;

use criterion::Criterion;
use lowbit::Element;
use ndarray::Array2;

/// Rows and columns of the tensor.
pub(crate) const SIDE: usize = 1024;

/// Short enough that all benches together take about two minutes.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(10)
}

/// Bell-shaped values as weights have them, the same on every run.
pub(crate) fn weights<A: Element>() -> Array2<A> {
    let mut state = 1u64;
    let mut uniform = move || {
        // Knuth's MMIX generator; its upper bits are good enough here.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5
    };
    // A sum of uniform numbers is nearly normal; the cube of another adds a few large ones.
    Array2::from_shape_simple_fn((SIDE, SIDE), || {
        let bell: f64 = (0..6).map(|_| uniform()).sum();
        A::from_f64(bell * (1.0 + 8.0 * uniform().powi(6)))
    })
}

/// Nearly normal values, the same on every run.
pub(crate) fn normal(count: usize) -> impl Iterator<Item = f32> {
    let mut state = 7u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count).map(move |_| {
        // Box and Muller 1958.
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        (radius * (2.0 * core::f64::consts::PI * uniform()).cos()) as f32
    })
}

/// Bell-shaped numbers of a seed.
pub(crate) fn values(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    Array2::from_shape_simple_fn((rows, columns), || (0..4).map(|_| uniform()).sum())
}

/// Samples of which each input is alike to the one before it.
pub(crate) fn correlated(samples: usize, inputs: usize, seed: u64) -> Array2<f32> {
    let mut x = values(samples, inputs, seed);
    for mut row in x.rows_mut() {
        for j in 1..inputs {
            row[j] = 0.8 * row[j - 1] + 0.6 * row[j];
        }
    }
    x
}
