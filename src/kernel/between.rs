//! Counting what lies below an interval and keeping what lies in it.

use super::dispatch;
use crate::element::Real;

/// Values that are compared together; most such blocks have none to keep.
const BLOCK: usize = 64;

/// Whether values or magnitudes are compared and kept.
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

/// One block, or the values after the last.
#[inline(always)]
fn block<T: Real, S: Side>(x: &[T], low: T, high: T, kept: &mut Vec<T>) -> usize {
    let (mut below, mut between) = (0u32, 0u32);
    for x in x {
        let x = S::value(*x);
        below += u32::from(x < low);
        between += u32::from((x >= low) & (x <= high));
    }
    if between > 0 {
        // Each goes to the next free place, which only those that are kept take.
        let mut places = [T::zero(); BLOCK];
        let mut free = 0;
        for x in x {
            let x = S::value(*x);
            places[free % BLOCK] = x;
            free += usize::from((x >= low) & (x <= high));
        }
        kept.extend_from_slice(&places[..free.min(BLOCK)]);
    }
    below as usize
}

dispatch! {
    fn collect[T: Real, S: Side](x: &[T], low: T, high: T, kept: &mut Vec<T>) -> usize {
        let (blocks, rest) = x.as_chunks::<BLOCK>();
        let below: usize = blocks.iter().map(|x| block::<T, S>(x, low, high, kept)).sum();
        below + block::<T, S>(rest, low, high, kept)
    }
}

/// Appends the values of `x` in `low..=high` to `kept`, in order, and returns how many are less than `low`.
pub(crate) fn values<T: Real>(x: &[T], low: T, high: T, kept: &mut Vec<T>) -> usize {
    collect::<T, Signed>(x, low, high, kept)
}

/// As [`values`], for magnitudes.
pub(crate) fn magnitudes<T: Real>(x: &[T], low: T, high: T, kept: &mut Vec<T>) -> usize {
    collect::<T, Magnitude>(x, low, high, kept)
}

/// One block of [`two`], or the values after the last.
#[inline(always)]
fn block_of_two<T: Real>(x: &[T], ranges: [[T; 2]; 2], kept: &mut [Vec<T>; 2]) -> [usize; 2] {
    let (mut below, mut between) = ([0u32; 2], 0u32);
    let [[a, b], [c, d]] = ranges;
    for &x in x {
        below[0] += u32::from(x < a);
        below[1] += u32::from(x < c);
        between |= u32::from((x >= a) & (x <= b)) | u32::from((x >= c) & (x <= d));
    }
    if between > 0 {
        for (kept, [low, high]) in kept.iter_mut().zip(ranges) {
            let mut places = [T::zero(); BLOCK];
            let mut free = 0;
            for &x in x {
                places[free % BLOCK] = x;
                free += usize::from((x >= low) & (x <= high));
            }
            kept.extend_from_slice(&places[..free.min(BLOCK)]);
        }
    }
    below.map(|below| below as usize)
}

dispatch! {
    /// As [`values`] for two ranges at once, which may overlap; what is kept comes in no particular order.
    pub(crate) fn two[T: Real](x: &[T], ranges: [[T; 2]; 2], kept: &mut [Vec<T>; 2]) -> [usize; 2] {
        let (blocks, rest) = x.as_chunks::<BLOCK>();
        let mut below = block_of_two(rest, ranges, kept);
        for x in blocks {
            let [first, second] = block_of_two(x, ranges, kept);
            below = [below[0] + first, below[1] + second];
        }
        below
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use proptest::prelude::*;

    fn check<T: Real>(x: &[T], low: T, high: T) {
        let oracle = |x: Vec<T>| {
            let below = x.iter().filter(|x| **x < low).count();
            (below, x.into_iter().filter(|x| *x >= low && *x <= high).collect::<Vec<_>>())
        };
        let found = agreed(|| {
            let mut kept = Vec::new();
            (values(x, low, high, &mut kept), kept)
        });
        assert_eq!(found, oracle(x.to_vec()));
        let found = agreed(|| {
            let mut kept = Vec::new();
            (magnitudes(x, low, high, &mut kept), kept)
        });
        assert_eq!(found, oracle(x.iter().map(|x| x.abs()).collect()));
        let ranges = [[low, high], [T::zero(), high]];
        let [first, second] = agreed(|| {
            let mut kept = [Vec::new(), Vec::new()];
            let below = two(x, ranges, &mut kept);
            let [first, second] = kept.map(|mut kept| {
                kept.sort_by(|a, b| a.partial_cmp(b).unwrap());
                kept
            });
            [(below[0], first), (below[1], second)]
        });
        for (found, [low, high]) in [first, second].into_iter().zip(ranges) {
            let mut kept: Vec<T> = x.iter().copied().filter(|x| *x >= low && *x <= high).collect();
            kept.sort_by(|a, b| a.partial_cmp(b).unwrap());
            assert_eq!(found, (x.iter().filter(|x| **x < low).count(), kept));
        }
    }

    proptest! {
        #[test]
        fn filters_agree(
            x in proptest::collection::vec(prop_oneof![-2.0f32..2.0, Just(0.0), Just(-0.0), Just(1.0), Just(f32::INFINITY)], 0..300),
            low in prop_oneof![-1.5f32..1.5, Just(0.0), Just(1.0), Just(f32::NEG_INFINITY)],
            width in prop_oneof![0.0f32..2.0, Just(0.0), Just(f32::INFINITY)],
        ) {
            check(&x, low, low + width);
            let x: Vec<f64> = x.into_iter().map(f64::from).collect();
            check(&x, f64::from(low), f64::from(low + width));
        }
    }
}
