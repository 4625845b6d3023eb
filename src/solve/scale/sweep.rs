//! The exact minimum over an interval of scales, for few values and a given zero point.
//!
//! A value's code changes where `x / S + Z` passes half an integer, at `S = x / (q + 1/2 - Z)`. Between two
//! such scales the codes are fixed and `E = sum x^2 - (sum l x)^2 / sum l^2` at the best scale, so a walk
//! over the sorted crossings that keeps the two sums visits every assignment of codes.

use super::{GridFamily, Points};
use crate::element::{Element, Real};

/// A change of one value's level l to l + step.
struct Crossing {
    scale: f64,
    product: f64,
    square: f64,
}

/// The best scale for the codes that occur at scales in `low..=high`.
pub(super) fn best_scale<T: Real>(
    points: &Points<'_, T>,
    family: &GridFamily,
    zero: f64,
    low: f64,
    high: f64,
) -> Option<f64> {
    let (q_min, q_max) = (f64::from(family.q_min), f64::from(family.q_max));
    // 1.5 * 2^52: adding it to a small number rounds that to the nearest even integer.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let code = |x: f64, inverse: f64| {
        let v = x * inverse + zero;
        let v = if v < q_min { q_min } else { v };
        let v = if v > q_max { q_max } else { v };
        (v + MAGIC) - MAGIC
    };
    let (inverse_low, inverse_high) = (1.0 / low, 1.0 / high);
    let (mut lx, mut ll) = (0.0, 0.0);
    let mut crossings = Vec::new();
    for (i, &x) in points.values.iter().enumerate() {
        let x = Element::to_f64(x);
        let weight = points.weights.and_then(|weights| weights.get(i)).copied().unwrap_or(1.0);
        let (first, last) = (code(x, inverse_low), code(x, inverse_high));
        let level = first - zero;
        lx += weight * level * x;
        ll += weight * level * level;
        let step = if last > first { 1.0 } else { -1.0 };
        let mut q = first;
        while q != last {
            let level = q - zero;
            crossings.push(Crossing {
                scale: x / (level + 0.5 * step),
                product: weight * step * x,
                square: weight * (2.0 * step * level + 1.0),
            });
            q += step;
        }
    }
    crossings.sort_unstable_by(|a, b| a.scale.total_cmp(&b.scale));
    let mut best = (0.0, None);
    let mut consider = |lx: f64, ll: f64| {
        if lx > 0.0 && ll > 0.0 && lx * lx / ll > best.0 {
            best = (lx * lx / ll, Some(lx / ll));
        }
    };
    consider(lx, ll);
    for crossing in crossings {
        lx += crossing.product;
        ll += crossing.square;
        consider(lx, ll);
    }
    best.1
}
