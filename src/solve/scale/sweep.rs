//! The minimum over an interval of scales, for a given zero point, by the changes of codes.
//!
//! A value's code changes where `x / S + Z` passes half an integer, at `S = x / (q + 1/2 - Z)`. Between two
//! such scales the codes are fixed and `E = sum x^2 - (sum l x)^2 / sum l^2` at the best scale, so a walk
//! over the sorted crossings that keeps the two sums visits every assignment of codes. Where crossings are many, they are
//! sorted into short intervals only, and the walk looks between those.

use super::{GridFamily, Points};
use crate::element::{Element, Real};
use crate::kernel::crossings::{Span, add_changes};
use crate::kernel::misfit;

/// A change of one value's level l to l + step.
#[derive(Debug, Clone, Copy)]
struct Crossing {
    scale: f64,
    product: f64,
    square: f64,
}

/// The changes of a value's code from `first` to `last`.
fn crossings(x: f64, weight: f64, zero: f64, first: f64, last: f64) -> impl Iterator<Item = Crossing> {
    let step = if last > first { 1.0 } else { -1.0 };
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

/// The codes of a family at the scales from `low` to `high`.
fn span(family: &GridFamily, zero: f64, low: f64, high: f64) -> Span {
    Span { scales: [low, high], zero, low: f64::from(family.q_min), high: f64::from(family.q_max) }
}

/// The best scale for the codes that occur at scales in `low..=high`.
pub(super) fn best_scale<T: Real>(
    points: &Points<'_, T>,
    family: &GridFamily,
    zero: f64,
    low: f64,
    high: f64,
) -> Option<f64> {
    let span = span(family, zero, low, high);
    let (inverse_low, inverse_high) = (1.0 / low, 1.0 / high);
    let (mut lx, mut ll) = (0.0, 0.0);
    let mut changes = Vec::new();
    for (i, &x) in points.values.iter().enumerate() {
        let x = Element::to_f64(x);
        let weight = points.weights.and_then(|weights| weights.get(i)).copied().unwrap_or(1.0);
        let first = span.code(x, inverse_low);
        let level = first - zero;
        lx += weight * level * x;
        ll += weight * level * level;
        changes.extend(crossings(x, weight, zero, first, span.code(x, inverse_high)));
    }
    changes.sort_unstable_by(|a, b| a.scale.total_cmp(&b.scale));
    let mut best = Best { gain: 0.0, scale: None };
    best.consider(lx, ll);
    for crossing in changes {
        lx += crossing.product;
        ll += crossing.square;
        best.consider(lx, ll);
    }
    best.scale
}

/// The same by short intervals, for values without weights and the sum of their squares.
pub(super) fn best_of_many<T: Real>(
    values: &[T],
    squares: f64,
    family: &GridFamily,
    zero: f64,
    low: f64,
    high: f64,
) -> Option<f64> {
    const INTERVALS: usize = 512;
    let rulers = [family.ruler(low, zero), family.ruler(high, zero)];
    let (mut lx, mut ll) = misfit::misfit(values, rulers[0]).products_of(squares, low);
    let mut changing = Vec::new();
    misfit::changing(values, rulers, &mut changing);
    let mut intervals = [[0.0; 2]; INTERVALS];
    add_changes(&changing, span(family, zero, low, high), &mut intervals);
    let mut best = Best { gain: 0.0, scale: None };
    best.consider(lx, ll);
    for [product, square] in intervals {
        lx += product;
        ll += square;
        best.consider(lx, ll);
    }
    best.scale
}
