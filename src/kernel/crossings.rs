//! Changes of codes between two scales, summed up in short intervals of scales.
//!
//! A value's code changes where `x / S + Z` passes half an integer, from code q at `S = x / (q ± 1/2 − Z)`. With l = q − Z,
//! `Σ l x` changes there by ±x and `Σ l²` by ±2 l + 1.
#![allow(clippy::needless_range_loop, reason = "a loop over lanes is what becomes a vector")]

use super::affine::nearest_even;
use super::dispatch;
use crate::element::{Element, Real};

/// Values whose changes are found before they are summed up, so that finding them vectorizes.
const STAGE: usize = 64;

/// What is asked for: codes from `low` to `high` with zero point `zero`, at scales between two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// The scales.
    pub scales: [f64; 2],
    /// Z.
    pub zero: f64,
    /// The lowest code.
    pub low: f64,
    /// The highest code.
    pub high: f64,
}

impl Span {
    /// The code of a value at a scale, ties to even.
    #[inline(always)]
    pub(crate) fn code(&self, x: f64, inverse: f64) -> f64 {
        let v = x * inverse + self.zero;
        let v = if v < self.low { self.low } else { v };
        let v = if v > self.high { self.high } else { v };
        nearest_even(v).0
    }
}

/// Changes of a stage of values: the interval, and what `Σ l x` and `Σ l²` change by.
struct Stage {
    at: [i32; STAGE],
    products: [f64; STAGE],
    squares: [f64; STAGE],
}

dispatch! {
    /// The first change of each value's code, and how often the codes change at most.
    fn first_changes[T: Real](x: &[T; STAGE], span: Span, intervals: usize, stage: &mut Stage) -> f64 {
        let [from, to] = span.scales;
        let (first, last) = (1.0 / from, 1.0 / to);
        let per_scale = intervals as f64 / (to - from);
        let end = intervals as f64 - 1.0;
        let mut most = 0.0;
        for i in 0..STAGE {
            let x = Element::to_f64(x[i]);
            let (code, other) = (span.code(x, first), span.code(x, last));
            let changes = other - code;
            let step = if changes > 0.0 { 1.0 } else { -1.0 };
            // None is a change by nothing.
            let counts = if changes == 0.0 { 0.0 } else { 1.0 };
            let level = code - span.zero;
            let scale = x / (level + 0.5 * step);
            let at = (scale - from) * per_scale - 0.5;
            let at = if at > 0.0 { at } else { 0.0 };
            let at = if at < end { at } else { end };
            stage.at[i] = nearest_even(at).1;
            stage.products[i] = counts * (step * x);
            stage.squares[i] = counts * (2.0 * step * level + 1.0);
            let changes = changes.abs();
            most = if changes > most { changes } else { most };
        }
        most
    }
}

/// Adds what `Σ l x` and `Σ l²` change by, as the scale grows from the first to the last, to the intervals of equal
/// length in which it does.
pub(crate) fn add_changes<T: Real>(x: &[T], span: Span, intervals: &mut [[f64; 2]]) {
    let count = intervals.len();
    let mut stage = Stage { at: [0; STAGE], products: [0.0; STAGE], squares: [0.0; STAGE] };
    let mut add = |x: &[T; STAGE]| {
        let most = first_changes(x, span, count, &mut stage);
        for ((at, product), square) in stage.at.iter().zip(&stage.products).zip(&stage.squares) {
            if let Some([products, squares]) = intervals.get_mut(*at as usize) {
                *products += product;
                *squares += square;
            }
        }
        if most > 1.0 {
            x.iter().for_each(|x| add_further(Element::to_f64(*x), span, intervals));
        }
    };
    let (stages, rest) = x.as_chunks::<STAGE>();
    stages.iter().for_each(&mut add);
    if !rest.is_empty() {
        // Zeros have the same code at every scale.
        let mut last = [T::zero(); STAGE];
        last[..rest.len()].copy_from_slice(rest);
        add(&last);
    }
}

/// Adds the changes of a value's code but for the first one.
fn add_further(x: f64, span: Span, intervals: &mut [[f64; 2]]) {
    let [from, to] = span.scales;
    let (code, last) = (span.code(x, 1.0 / from), span.code(x, 1.0 / to));
    let step = if last > code { 1.0 } else { -1.0 };
    let per_scale = intervals.len() as f64 / (to - from);
    for change in 1..(last - code).abs() as usize {
        let level = code + step * change as f64 - span.zero;
        let at = (x / (level + 0.5 * step) - from) * per_scale;
        let at = (at as usize).min(intervals.len().saturating_sub(1));
        if let Some([products, squares]) = intervals.get_mut(at) {
            *products += step * x;
            *squares += 2.0 * step * level + 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_sums_are_those_of_the_codes_on_either_side(
            x in proptest::collection::vec(prop_oneof![-9.0_f32..9.0, Just(0.0)], 0..200),
            from in 0.05_f64..1.0,
            part in 0.0_f64..2.0,
            zero in prop_oneof![Just(0.0), Just(3.0), Just(0.5)],
        ) {
            let to = from * (1.0 + 1e-3 + part);
            let span = Span { scales: [from, to], zero, low: -8.0, high: 9.0 };
            let intervals = agreed(|| {
                let mut intervals = [[0.0; 2]; 32];
                add_changes(&x, span, &mut intervals);
                intervals
            });
            let sums = |scale: f64| {
                x.iter().fold([0.0; 2], |[products, squares], x| {
                    let x = f64::from(*x);
                    let level = (x * (1.0 / scale) + zero).clamp(-8.0, 9.0).round_ties_even() - zero;
                    [products + level * x, squares + level * level]
                })
            };
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs() + b.abs());
            // At the end of every interval, but for values that change there.
            let mut found = sums(from);
            for (i, [product, square]) in intervals.into_iter().enumerate() {
                found = [found[0] + product, found[1] + square];
                let [before, after] = [1.0 - 1e-9, 1.0 + 1e-9]
                    .map(|near| sums(near * (from + (to - from) * (i + 1) as f64 / 32.0)));
                if before == after {
                    prop_assert!(close(found[0], after[0]) && close(found[1], after[1]), "{i} {found:?} {after:?}");
                }
            }
            let end = sums(to);
            prop_assert!(close(found[0], end[0]) && close(found[1], end[1]), "{found:?} {end:?}");
        }
    }
}
