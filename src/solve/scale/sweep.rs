//! The minimum over an interval of scales, for a given zero point, by the changes of codes.
//!
//! A value's code changes where `x / S + Z` passes half an integer, at `S = x / (q + 1/2 - Z)`. Between two
//! such scales the codes are fixed and `E = sum x^2 - (sum l x)^2 / sum l^2` at the best scale, so a walk
//! over the sorted crossings that keeps the two sums visits every assignment of codes. Where crossings are many, they are
//! sorted into short intervals only, and the walk looks between those.

use super::{FEW, GridFamily, Points};
use crate::element::{Element, Real};
use crate::kernel::misfit;

/// A change of one value's level l to l + step.
#[derive(Debug, Clone, Copy)]
struct Crossing {
    scale: f64,
    product: f64,
    square: f64,
}

/// Codes by rounding to nearest, ties to even.
struct Codes {
    zero: f64,
    low: f64,
    high: f64,
}

impl Codes {
    fn of(&self, x: f64, inverse: f64) -> f64 {
        // 1.5 * 2^52: adding it to a small number rounds that to the nearest even integer.
        const MAGIC: f64 = 6_755_399_441_055_744.0;
        let v = x * inverse + self.zero;
        let v = if v < self.low { self.low } else { v };
        let v = if v > self.high { self.high } else { v };
        (v + MAGIC) - MAGIC
    }

    /// The changes of a value's code from `first` to `last`.
    fn crossings(&self, x: f64, weight: f64, first: f64, last: f64) -> impl Iterator<Item = Crossing> {
        let step = if last > first { 1.0 } else { -1.0 };
        let zero = self.zero;
        let (mut q, changes) = (first, (last - first).abs() as usize);
        (0..changes).map(move |_| {
            let level = q - zero;
            q += step;
            Crossing {
                scale: x / (level + 0.5 * step),
                product: weight * step * x,
                square: weight * (2.0 * step * level + 1.0),
            }
        })
    }
}

/// The best scale seen.
struct Best {
    gain: f64,
    scale: Option<f64>,
}

impl Best {
    fn consider(&mut self, lx: f64, ll: f64) {
        if lx > 0.0 && ll > 0.0 && lx * lx > self.gain * ll {
            *self = Self { gain: lx * lx / ll, scale: Some(lx / ll) };
        }
    }
}

/// The best scale for the codes that occur at scales in `low..=high`.
pub(super) fn best_scale<T: Real>(
    points: &Points<'_, T>,
    family: &GridFamily,
    zero: f64,
    low: f64,
    high: f64,
) -> Option<f64> {
    let codes = Codes { zero, low: f64::from(family.q_min), high: f64::from(family.q_max) };
    if points.weights.is_none() && points.values.len() > FEW {
        return best_of_many(points.values, family, &codes, low, high);
    }
    let (inverse_low, inverse_high) = (1.0 / low, 1.0 / high);
    let (mut lx, mut ll) = (0.0, 0.0);
    let mut crossings = Vec::new();
    for (i, &x) in points.values.iter().enumerate() {
        let x = Element::to_f64(x);
        let weight = points.weights.and_then(|weights| weights.get(i)).copied().unwrap_or(1.0);
        let first = codes.of(x, inverse_low);
        let level = first - zero;
        lx += weight * level * x;
        ll += weight * level * level;
        crossings.extend(codes.crossings(x, weight, first, codes.of(x, inverse_high)));
    }
    crossings.sort_unstable_by(|a, b| a.scale.total_cmp(&b.scale));
    let mut best = Best { gain: 0.0, scale: None };
    best.consider(lx, ll);
    for crossing in crossings {
        lx += crossing.product;
        ll += crossing.square;
        best.consider(lx, ll);
    }
    best.scale
}

/// The same by short intervals.
fn best_of_many<T: Real>(
    values: &[T],
    family: &GridFamily,
    codes: &Codes,
    low: f64,
    high: f64,
) -> Option<f64> {
    const INTERVALS: usize = 512;
    let rulers = [family.ruler(low, codes.zero), family.ruler(high, codes.zero)];
    // In units of the scale x = l + e, so the sum of l^2 is that of x^2 - 2 l e - e^2.
    let fit = misfit::misfit(values, rulers[0]);
    let [_, squares] = misfit::sizes(values);
    let mut ll = squares / (low * low) - 2.0 * fit.products - fit.squares;
    let mut lx = low * (ll + fit.products);
    let mut changing = Vec::new();
    misfit::changing(values, rulers, &mut changing);
    let (inverse_low, inverse_high) = (1.0 / low, 1.0 / high);
    let per_scale = INTERVALS as f64 / (high - low);
    let mut intervals = [[0.0; 2]; INTERVALS];
    for x in changing.into_iter().map(Element::to_f64) {
        for crossing in codes.crossings(x, 1.0, codes.of(x, inverse_low), codes.of(x, inverse_high)) {
            let at = ((crossing.scale - low) * per_scale) as usize;
            if let Some(interval) = intervals.get_mut(at.min(INTERVALS - 1)) {
                interval[0] += crossing.product;
                interval[1] += crossing.square;
            }
        }
    }
    let mut best = Best { gain: 0.0, scale: None };
    best.consider(lx, ll);
    for [product, square] in intervals {
        lx += product;
        ll += square;
        best.consider(lx, ll);
    }
    best.scale
}
