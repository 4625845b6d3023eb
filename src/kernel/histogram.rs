//! Histograms of equal bins with the edge rule of `numpy.histogram`: bin `i` holds
//! `edge(i) ≤ x < edge(i + 1)`, and the last bin its upper edge too, with `edge(i) = low + i·step`
//! computed in f64. The bin is guessed by a multiplication and corrected by comparing with its edges.
//!
//! Values of f32 are guessed at in f32. That is off by a few parts in 2^24, so wherever the guess is not that close to an
//! edge it is right. Where one value of a stage is close, the stage is looked at again in f64.

use super::affine::nearest_even;
use super::dispatch;
use crate::element::{Element, FloatType, Real};

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
    last: f64,
}

impl Bins {
    fn new(low: f64, high: f64, count: usize) -> Option<Self> {
        let last = i32::try_from(count).unwrap_or(i32::MAX).checked_sub(1).filter(|last| *last >= 0)?;
        let bins = f64::from(last) + 1.0;
        let (mut step, mut density) = ((high - low) / bins, bins / (high - low));
        if step.is_infinite() {
            step = high / bins - low / bins;
            density = 1.0 / step;
        }
        if !(step > 0.0 && high > low) {
            // No edges to compare with: what is above `low` goes to the last bin.
            (step, density) = (f64::NAN, f64::INFINITY);
        }
        Some(Self { low, high, step, density, last: last.into() })
    }

    /// The bin of `x`, clamped to the first and the last; −1 for NaN.
    #[inline(always)]
    fn find(&self, x: f64) -> i32 {
        let v = (x - self.low) * self.density;
        // A NaN (also of 0 · ∞) becomes 0.
        let v = if v > 0.0 { v } else { 0.0 };
        let v = if v < self.last { v } else { self.last };
        // The nearest integer is the bin or one beside it, which the edges decide.
        let bin = nearest_even(v).0;
        let bin = if x < self.low + bin * self.step { bin - 1.0 } else { bin };
        let bin = if x >= self.low + (bin + 1.0) * self.step { bin + 1.0 } else { bin };
        let bin = if bin < self.last && x <= self.high { bin } else { self.last };
        let bin = if bin > 0.0 && x > self.low { bin } else { 0.0 };
        nearest_even(if x.is_nan() { -1.0 } else { bin }).1
    }
}

dispatch! {
    fn find_bins[T: Real, S: Side](x: &[T], bins: Bins, found: &mut [i32]) {
        for (x, found) in x.iter().zip(found) {
            *found = bins.find(S::value(Element::to_f64(*x)));
        }
    }
}

/// Bins as a type of fewer digits sees them.
#[derive(Debug, Clone, Copy)]
struct Guess<T> {
    low: T,
    density: T,
    /// The middle of the last bin.
    end: T,
    /// A guess that is nearer to an edge than this, and this part of itself, is not sure.
    margin: T,
    part: T,
}

impl<T: Real> Guess<T> {
    /// `None` where f32 cannot tell bins apart, or is not the type of the values.
    fn new(bins: Bins) -> Option<Self> {
        let t = |x: f64| <T as Element>::from_f64(x);
        // Low end, difference, density and product are rounded: each is off by at most 2^-24 of itself, or of the low
        // end where it is larger. An eighth of a bin covers all of that in up to 2^18 bins, with a margin.
        const PART: f64 = 1.0 / (1 << 21) as f64;
        let offset = bins.low.abs() * bins.density;
        let suits = bins.last + offset < 262_144.0 && bins.last >= 1.0;
        // Numbers that are normal in f32 with room for what they are multiplied with.
        let normal = |x: f64| (1e-30..1e30).contains(&x.abs());
        let scaled = normal(bins.density) && normal(bins.step) && (bins.low == 0.0 || normal(bins.low));
        (T::TYPE != FloatType::F64 && suits && scaled).then(|| Self {
            low: t(bins.low),
            density: t(bins.density),
            end: t(bins.last + 0.5),
            margin: t((1.0 + offset) * PART),
            part: t(PART),
        })
    }
}

dispatch! {
    /// The bins of `x`, and whether all of them are sure.
    fn guess_bins[T: Real, S: Side](x: &[T], bins: Guess<T>, found: &mut [i32]) -> bool {
        let half = <T as Element>::from_f32(0.5);
        let mut sure = true;
        for (x, found) in x.iter().zip(found) {
            let v = (S::value(*x) - bins.low) * bins.density;
            // The middle stands for all of the first bin's lower half and what is below, of the last bin's upper half and
            // what is above. A NaN stays one, and is never sure.
            let v = if v < half { half } else { v };
            let v = if v > bins.end { bins.end } else { v };
            let (bin, integer) = nearest_even(v - half);
            let off = (v - half - bin).abs();
            sure &= off < half - (bins.margin + bins.part * v);
            *found = integer;
        }
        sure
    }
}

/// Whether values or magnitudes are counted.
trait Side {
    fn value<T: Real>(x: T) -> T;
}
struct Signed;
impl Side for Signed {
    #[inline(always)]
    fn value<T: Real>(x: T) -> T {
        x
    }
}
struct Magnitude;
impl Side for Magnitude {
    #[inline(always)]
    fn value<T: Real>(x: T) -> T {
        x.abs()
    }
}

fn count<T: Real, S: Side>(x: &[T], low: f64, high: f64, counts: &mut [u64]) {
    let Some(bins) = Bins::new(low, high, counts.len()) else { return };
    let guess = Guess::<T>::new(bins);
    let find = |x: &[T], found: &mut [i32]| {
        if !guess.is_some_and(|guess| guess_bins::<T, S>(x, guess, found)) {
            find_bins::<T, S>(x, bins, found);
        }
    };
    let mut found = [0; STAGE];
    // -1 as an index lies beyond any slice, so a NaN is not counted.
    let index = |bin: i32| bin as usize;
    if x.len() < counts.len().saturating_mul(PARTS) {
        for x in x.chunks(STAGE) {
            find(x, &mut found);
            for bin in &found[..x.len()] {
                if let Some(count) = counts.get_mut(index(*bin)) {
                    *count += 1;
                }
            }
        }
        return;
    }
    let mut parts = vec![0u32; counts.len() * PARTS];
    // No count of a piece is too large for its type.
    for x in x.chunks(1 << 31) {
        let (front, back) = parts.split_at_mut(counts.len() * (PARTS / 2));
        let (first, second) = front.split_at_mut(counts.len());
        let (third, fourth) = back.split_at_mut(counts.len());
        for x in x.chunks(STAGE) {
            find(x, &mut found);
            let (groups, rest) = found[..x.len()].as_chunks::<PARTS>();
            for [a, b, c, d] in groups {
                for (part, bin) in [(&mut *first, a), (&mut *second, b), (&mut *third, c), (&mut *fourth, d)]
                {
                    if let Some(count) = part.get_mut(index(*bin)) {
                        *count += 1;
                    }
                }
            }
            for bin in rest {
                if let Some(count) = first.get_mut(index(*bin)) {
                    *count += 1;
                }
            }
        }
        for part in parts.chunks_exact_mut(counts.len()) {
            for (count, part) in counts.iter_mut().zip(part) {
                *count += u64::from(core::mem::take(part));
            }
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

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use proptest::prelude::*;

    /// By comparing with every edge.
    fn oracle(x: f64, low: f64, high: f64, bins: usize) -> usize {
        let edge = |i: usize| low + i as f64 * ((high - low) / bins as f64);
        if x > high {
            return bins - 1;
        }
        (0..bins).rev().find(|i| x >= edge(*i)).unwrap_or(0)
    }

    fn check<T: Real>(x: &[T], low: f64, high: f64, bins: usize) {
        let (mut signed, mut magnitude) = (vec![3u64; bins], vec![5u64; bins]);
        for x in x.iter().map(|x| Element::to_f64(*x)).filter(|x| !x.is_nan()) {
            signed[oracle(x, low, high, bins)] += 1;
            if high > 0.0 {
                magnitude[oracle(x.abs(), 0.0, high, bins)] += 1;
            }
        }
        let counts = agreed(|| {
            let mut counts = vec![3; bins];
            histogram(x, low, high, &mut counts);
            counts
        });
        assert_eq!(counts, signed, "{low} to {high}");
        if high > 0.0 {
            let counts = agreed(|| {
                let mut counts = vec![5; bins];
                magnitude_histogram(x, high, &mut counts);
                counts
            });
            assert_eq!(counts, magnitude, "magnitudes to {high}");
        }
    }

    proptest! {
        #[test]
        fn any_interval(
            bins in prop_oneof![1usize..20, Just(128usize), 100usize..400],
            low in -10.0f64..10.0,
            width in prop_oneof![0.001f64..20.0, Just(1.0), Just(8.0)],
            picks in proptest::collection::vec((0usize..400, -1i32..=1, any::<f32>()), 0..1500),
        ) {
            let high = low + width;
            let step = (high - low) / bins as f64;
            let mut x: Vec<f64> = Vec::new();
            for (i, nudge, any) in picks {
                // On an edge, and on both sides of it.
                let edge = low + (i % (bins + 1)) as f64 * step;
                let edge = match nudge { -1 => edge.next_down(), 1 => edge.next_up(), _ => edge };
                x.extend([edge, low + f64::from(any.abs() % 1.0) * width]);
                if i % 50 == 0 {
                    x.extend([f64::from(any), f64::NAN, f64::INFINITY, -f64::INFINITY]);
                }
            }
            check(&x, low, high, bins);
            let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
            check(&x, low, high, bins);
            // Without what is looked at again in f64, so that guesses count.
            let x: Vec<f32> = x.into_iter().filter(|x| !x.is_nan()).collect();
            check(&x, low, high, bins);
        }
    }

    #[test]
    fn intervals_without_edges() {
        for (low, high) in [(0.0, 0.0), (1.0, 0.0), (0.0, f64::NAN), (0.0, 5e-324)] {
            let mut counts = [0; 4];
            histogram(&[-1.0f64, 0.0, 2.0, f64::NAN], low, high, &mut counts);
            assert_eq!(counts.iter().sum::<u64>(), 3, "{low} to {high}");
        }
        let mut counts = [0; 2];
        histogram(&[-1e308f64, 1e308, 1.0], f64::MIN, f64::MAX, &mut counts);
        assert_eq!(counts, [1, 2]);
        magnitude_histogram(&[0.0f32, -0.0, 1.0], 0.0, &mut counts);
        assert_eq!(counts, [3, 3]);
        histogram(&[1.0f32], 0.0, 1.0, &mut []);
    }

    /// Data set B of `reference/06_07_calibration.json`, made by the generator of `00_generator.json`.
    #[test]
    fn the_reference_histogram() {
        let mut state = 606u64;
        let mut uniform = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut x: Vec<f64> = (0..32768).map(|_| (0..12).fold(0.0, |sum, _| sum + uniform()) - 6.0).collect();
        x.iter_mut().skip(1023).step_by(1024).for_each(|x| *x *= 4.0);
        assert_eq!(x[..2], [-1.6094158143344588, 0.5045052706318298]);
        let max = x.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert_eq!(max, 14.372223020199058);
        let counts = agreed(|| {
            let mut counts = vec![0; 2048];
            magnitude_histogram(&x, max, &mut counts);
            counts
        });
        assert_eq!(counts[..8], [202, 179, 191, 188, 210, 180, 180, 192]);
        assert_eq!(counts.iter().sum::<u64>(), 32768);
        // FNV-1a of the counts as little-endian u64, computed from the file.
        let bytes = counts.iter().flat_map(|c| c.to_le_bytes());
        let hash =
            bytes.fold(0xCBF2_9CE4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
        assert_eq!(hash, 0x895A_EE2D_41FF_51CD);
    }
}
