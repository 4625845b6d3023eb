//! Histograms of equal bins with the edge rule of `numpy.histogram`: bin `i` holds
//! `edge(i) ≤ x < edge(i + 1)`, and the last bin its upper edge too, with `edge(i) = low + i·step`
//! computed in f64. The bin is guessed by a multiplication and corrected by comparing with its edges.

use super::dispatch;
use crate::element::{Element, Real};

/// Elements whose bins are found before they are counted, so that finding them vectorizes.
const STAGE: usize = 128;

/// Sub-histograms, so that equal neighbours do not wait for each other's stores.
const PARTS: usize = 4;

/// Bins over an interval.
#[derive(Debug, Clone, Copy)]
struct Bins {
    low: f64,
    high: f64,
    step: f64,
    /// Bins per unit.
    density: f64,
    last: i32,
}

impl Bins {
    fn new(low: f64, high: f64, count: usize) -> Option<Self> {
        let last = i32::try_from(count).unwrap_or(i32::MAX).checked_sub(1).filter(|last| *last >= 0)?;
        let bins = f64::from(last) + 1.0;
        let step = (high - low) / bins;
        let density = bins / (high - low);
        Some(Self { low, high, step, density, last })
    }

    /// The bin of `x`, clamped to the first and the last; −1 for NaN.
    #[inline(always)]
    fn find(&self, x: f64) -> i32 {
        let guess = (x - self.low) * self.density;
        // NaN (also of 0·∞ in a degenerate interval) becomes 0.
        let guess = if guess > 0.0 { guess } else { 0.0 };
        let last = f64::from(self.last);
        let guess = (if guess < last { guess } else { last }) as i32;
        let edge = |i: i32| self.low + f64::from(i) * self.step;
        let guess = guess - i32::from(x < edge(guess) && guess > 0);
        let guess = guess + i32::from(x >= edge(guess + 1) && guess < self.last);
        let guess = if x > self.high { self.last } else { guess };
        if x.is_nan() { -1 } else { guess }
    }
}

dispatch! {
    fn find_bins[T: Real, S: Side](x: &[T], bins: Bins, found: &mut [i32]) {
        for (x, found) in x.iter().zip(found) {
            *found = bins.find(S::value(Element::to_f64(*x)));
        }
    }
}

/// Whether values or magnitudes are counted.
trait Side {
    fn value(x: f64) -> f64;
}
struct Signed;
impl Side for Signed {
    #[inline(always)]
    fn value(x: f64) -> f64 {
        x
    }
}
struct Magnitude;
impl Side for Magnitude {
    #[inline(always)]
    fn value(x: f64) -> f64 {
        x.abs()
    }
}

fn count<T: Real, S: Side>(x: &[T], low: f64, high: f64, counts: &mut [u64]) {
    let Some(bins) = Bins::new(low, high, counts.len()) else { return };
    let mut found = [0; STAGE];
    // -1 as an index lies beyond any slice, so a NaN is not counted.
    let index = |bin: i32| bin as usize;
    if x.len() < counts.len().saturating_mul(PARTS) {
        for x in x.chunks(STAGE) {
            find_bins::<T, S>(x, bins, &mut found);
            for bin in &found[..x.len()] {
                if let Some(count) = counts.get_mut(index(*bin)) {
                    *count += 1;
                }
            }
        }
        return;
    }
    let mut parts = vec![0u64; counts.len() * (PARTS - 1)];
    let (second, others) = parts.split_at_mut(counts.len());
    let (third, fourth) = others.split_at_mut(counts.len());
    for x in x.chunks(STAGE) {
        find_bins::<T, S>(x, bins, &mut found);
        let (groups, rest) = found[..x.len()].as_chunks::<PARTS>();
        for [a, b, c, d] in groups {
            for (part, bin) in [(&mut *counts, a), (&mut *second, b), (&mut *third, c), (&mut *fourth, d)] {
                if let Some(count) = part.get_mut(index(*bin)) {
                    *count += 1;
                }
            }
        }
        for bin in rest {
            if let Some(count) = counts.get_mut(index(*bin)) {
                *count += 1;
            }
        }
    }
    for part in parts.chunks_exact(counts.len()) {
        for (count, part) in counts.iter_mut().zip(part) {
            *count += part;
        }
    }
}

/// Adds |x| to `counts.len()` equal bins over `[0, max]`. Values beyond `max` go to the last bin; NaN
/// is skipped.
pub(crate) fn magnitude_histogram<T: Real>(x: &[T], max: f64, counts: &mut [u64]) {
    count::<T, Magnitude>(x, 0.0, max, counts);
}

/// Adds `x` to `counts.len()` equal bins over `[low, high]`. Values outside go to the first and the
/// last bin; NaN is skipped.
pub(crate) fn histogram<T: Real>(x: &[T], low: f64, high: f64, counts: &mut [u64]) {
    count::<T, Signed>(x, low, high, counts);
}
