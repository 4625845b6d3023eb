//! What the benches share.
#![allow(dead_code, reason = "no bench uses all of it")]

use std::time::Duration;

use criterion::Criterion;
use lowbit::Element;
use ndarray::Array2;

/// Rows and columns of the tensor.
#[allow(dead_code, reason = "for some of the benches")]
pub(crate) const SIDE: usize = 1024;

/// Short enough that all benches together take about two minutes.
#[allow(dead_code, reason = "for some of the benches")]
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(10)
}

/// Bell-shaped values as weights have them, the same on every run.
#[allow(dead_code, reason = "for some of the benches")]
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
#[allow(dead_code, reason = "for some of the benches")]
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
