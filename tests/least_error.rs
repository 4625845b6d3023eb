//! The least-error calibration against a plain search over scales and zero points.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{SplitMix64, kinds};
use lowbit::prelude::*;
use lowbit::tensor::{Scheme, ZeroPointRule};
use lowbit::{CodeRange, FloatType};
use ndarray::Array1;

/// The squared error of `x` on a grid, from the definition, in f64.
fn error(x: &[f64], scale: f64, zero: f64, codes: CodeRange) -> f64 {
    let (low, high) = (f64::from(codes.min()), f64::from(codes.max()));
    x.iter()
        .map(|x| {
            let q = (x / scale + zero).round_ties_even().clamp(low, high);
            (x - scale * (q - zero)).powi(2)
        })
        .sum()
}

/// The scale that is best for the codes that a grid gives, by least squares.
fn refitted(x: &[f64], scale: f64, zero: f64, codes: CodeRange) -> f64 {
    let (low, high) = (f64::from(codes.min()), f64::from(codes.max()));
    let (mut xq, mut qq) = (0.0, 0.0);
    for x in x {
        let q = (x / scale + zero).round_ties_even().clamp(low, high) - zero;
        xq += x * q;
        qq += q * q;
    }
    if xq > 0.0 { xq / qq } else { scale }
}

/// The least error that a fine search finds: 2000 scales from a fiftieth of the widest useful one on, for
/// every integer zero point, the best of each refined by refitting the scale to its codes.
fn searched(x: &[f64], scheme: &Scheme) -> f64 {
    let Scheme::Affine(affine) = scheme else { unreachable!() };
    let codes = affine.codes();
    let zeros: Vec<f64> = match affine.zero_point() {
        ZeroPointRule::Fixed(zero) => vec![zero],
        _ => (codes.min()..=codes.max()).map(f64::from).collect(),
    };
    let magnitude = x.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let mut least = f64::INFINITY;
    for zero in zeros {
        // Beyond this scale every value rounds to the levels next to zero.
        let widest = 2.1 * magnitude;
        let narrowest = 0.1 * magnitude / f64::from(codes.count());
        let ratio = (widest / narrowest).powf(1.0 / 2000.0);
        let (mut best, mut at) = (f64::INFINITY, widest);
        let mut scale = narrowest;
        while scale < widest {
            let found = error(x, scale, zero, codes);
            if found < best {
                (best, at) = (found, scale);
            }
            scale *= ratio;
        }
        for _ in 0..10 {
            at = refitted(x, at, zero, codes);
            best = best.min(error(x, at, zero, codes));
        }
        least = least.min(best);
    }
    least
}

/// Data of one of several shapes.
fn data(shape: usize, len: usize, random: &mut SplitMix64) -> Vec<f64> {
    (0..len)
        .map(|i| match shape {
            0 => random.normal(),
            1 => random.normal().abs(),
            2 => random.normal() * if i % 17 == 0 { 8.0 } else { 1.0 },
            3 => random.normal() + 3.0,
            4 => random.normal().powi(3),
            5 => f64::from(random.below(5) as u32) - 1.0,
            6 => -random.uniform(),
            _ => {
                if random.below(3) == 0 {
                    random.normal()
                } else {
                    0.0
                }
            }
        })
        .collect()
}

#[test]
fn within_a_ten_thousandth_of_a_fine_search() {
    let mut random = SplitMix64(2024);
    let mut worst = 0.0f64;
    for (bits, len) in [(1, 20), (2, 7), (2, 60), (3, 40), (4, 30), (5, 40), (8, 60)] {
        for kind in 0..8 {
            // Restricted grids have no 1-bit form, and every zero point of 8 bits would take long.
            if (bits == 1 && matches!(kind, 0 | 3)) || (bits == 8 && kind >= 6) {
                continue;
            }
            for shape in 0..8 {
                let x = data(shape, len, &mut random);
                let uniform = kinds(bits)[kind].clone().scales(FloatType::F64).calibration(Mse);
                let array = Array1::from_vec(x.clone());
                let q = uniform.quantize(&array).unwrap();
                let (scale, zero) = common::grid(&q, 0);
                let scheme = q.scheme().clone();
                let found = error(&x, scale, zero, scheme.codes());
                // What the tensor reports is that error, up to the order of a short sum.
                let reported = q.errors_against(&array).unwrap().mse() * x.len() as f64;
                assert!((reported - found).abs() <= 1e-9 * found.max(1e-9), "{uniform}: {reported} {found}");
                let best = searched(&x, &scheme);
                let signal: f64 = x.iter().map(|x| x * x).sum();
                // Below 1e-24 of the signal an error is rounding.
                let over = (found - best - 1e-24 * signal) / best.max(1e-300);
                worst = worst.max(if best > 1e-24 * signal { over } else { 0.0 });
                assert!(
                    found <= best * (1.0 + 1e-4) + 1e-24 * signal,
                    "{uniform} data {shape}, {len} values: {found:e}, {over:e} above {best:e}"
                );
            }
        }
    }
    println!("furthest above the search: {worst:e}");
}

#[test]
fn never_worse_than_min_and_max() {
    let mut random = SplitMix64(7);
    for bits in [2, 3, 5, 8] {
        for kind in kinds(bits) {
            for (shape, len) in (0..8).zip([1, 2, 3, 5, 33, 100, 300, 700]) {
                let x = Array1::from_vec(data(shape, len, &mut random)).mapv(|x| x as f32);
                let mse = |uniform: Uniform| uniform.quantize(&x).unwrap().errors_against(&x).unwrap().mse();
                let (least, min_max) = (mse(kind.clone().calibration(Mse)), mse(kind.clone()));
                // f32 rounds each restored value by at most 2^-24 of itself.
                let floor =
                    x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / len as f64 * 2f64.powi(-44);
                assert!(
                    least <= min_max * (1.0 + 1e-6) + floor,
                    "{kind} data {shape}: {least:e} {min_max:e}"
                );
            }
        }
    }
}
