//! Sums of errors.

use super::convert::{STAGE, stage};
use super::dispatch;
use super::reduce::greater;
use crate::element::{Element, Real};

/// Sums from which the error of `b` against `a` is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ErrorSums {
    /// Pairs.
    pub count: u64,
    /// Σ a².
    pub signal: f64,
    /// Σ b².
    pub restored: f64,
    /// Σ a·b.
    pub product: f64,
    /// Σ (a − b)².
    pub noise: f64,
    /// max |a − b|; NaN is passed over here (but not in the sums).
    pub max_abs: f64,
}

impl ErrorSums {
    /// Adds the sums of another part. The order of merging is the order of the additions, so parts
    /// must be merged in their own order for results that do not depend on threads.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.signal += other.signal;
        self.restored += other.restored;
        self.product += other.product;
        self.noise += other.noise;
        self.max_abs = greater(self.max_abs, other.max_abs);
    }
}

/// Lanes of the sums; element `i` goes to lane `i % 8`.
const SUM_LANES: usize = 8;

/// Sums by lane.
#[derive(Default)]
struct SumLanes {
    signal: [f64; SUM_LANES],
    restored: [f64; SUM_LANES],
    product: [f64; SUM_LANES],
    noise: [f64; SUM_LANES],
    max_abs: [f64; SUM_LANES],
}

impl SumLanes {
    #[inline(always)]
    fn add(&mut self, lane: usize, a: f64, b: f64) {
        let difference = a - b;
        self.signal[lane] += a * a;
        self.restored[lane] += b * b;
        self.product[lane] += a * b;
        self.noise[lane] += difference * difference;
        self.max_abs[lane] = greater(self.max_abs[lane], difference.abs());
    }
}

/// A fixed tree over lanes.
fn tree(mut lanes: [f64; SUM_LANES], join: impl Fn(f64, f64) -> f64) -> f64 {
    let mut half = SUM_LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

dispatch! {
    /// Adds a part that begins at a multiple of the lanes.
    fn add_errors[A: Real, B: Real](a: &[A], b: &[B], sums: &mut SumLanes) {
        let (a_steps, a_rest) = a.as_chunks::<SUM_LANES>();
        let (b_steps, b_rest) = b.as_chunks::<SUM_LANES>();
        let mut local = core::mem::take(sums);
        for (a, b) in a_steps.iter().zip(b_steps) {
            for lane in 0..SUM_LANES {
                local.add(lane, Element::to_f64(a[lane]), Element::to_f64(b[lane]));
            }
        }
        for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
            local.add(lane, Element::to_f64(*a), Element::to_f64(*b));
        }
        *sums = local;
    }
}

/// Error sums of two slices, accumulated in f64 in a fixed order: eight lanes, then a fixed tree.
pub(crate) fn error_sums<A: Element, B: Element>(a: &[A], b: &[B]) -> ErrorSums {
    let len = a.len().min(b.len());
    debug_assert_eq!(a.len(), b.len());
    let (a, b) = (&a[..len], &b[..len]);
    let (mut a_buffer, mut b_buffer) = ([A::Real::default(); STAGE], [B::Real::default(); STAGE]);
    let mut sums = SumLanes::default();
    let mut at = 0;
    while at < len {
        let a = stage::<A, A::Real>(&a[at..], &mut a_buffer);
        let b = stage::<B, B::Real>(&b[at..], &mut b_buffer);
        // Either both go to the end, or the shorter is a whole stage: a multiple of the lanes.
        let part = a.len().min(b.len());
        add_errors(&a[..part], &b[..part], &mut sums);
        at += part;
    }
    let add = |a: f64, b: f64| a + b;
    ErrorSums {
        count: len as u64,
        signal: tree(sums.signal, add),
        restored: tree(sums.restored, add),
        product: tree(sums.product, add),
        noise: tree(sums.noise, add),
        max_abs: tree(sums.max_abs, greater),
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::super::reduce::tests::numbers;
    use super::*;
    use half::bf16;
    use proptest::prelude::*;

    /// The definition of the order: element i in lane i % 8, then a tree.
    fn sum(terms: impl Iterator<Item = f64>) -> f64 {
        let mut l = [0.0; 8];
        for (i, term) in terms.enumerate() {
            l[i % 8] += term;
        }
        ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
    }

    fn check_errors<A: Element, B: Element>(a: &[A], b: &[B]) {
        let pairs = || a.iter().zip(b).map(|(a, b)| (a.to_f64(), b.to_f64()));
        let expected = ErrorSums {
            count: a.len() as u64,
            signal: sum(pairs().map(|(a, _)| a * a)),
            restored: sum(pairs().map(|(_, b)| b * b)),
            product: sum(pairs().map(|(a, b)| a * b)),
            noise: sum(pairs().map(|(a, b)| (a - b) * (a - b))),
            max_abs: pairs().fold(0.0, |m, (a, b)| m.max((a - b).abs())),
        };
        assert_eq!(agreed(|| error_sums(a, b)), expected, "{:?} {:?}", A::TYPE, B::TYPE);
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_definition(len in 0usize..900, seed in any::<u64>()) {
            let (a, b): (Vec<f32>, Vec<f32>) = (numbers(len, seed, 0.0), numbers(len, !seed, 0.0));
            let (c, d): (Vec<f64>, Vec<bf16>) = (numbers(len, seed, 0.0), numbers(len, !seed, 0.0));
            check_errors(&a, &b);
            check_errors(&a, &c);
            check_errors(&c, &d);
            check_errors(&d, &b);
            check_errors(&d, &d);
        }
    }

    #[test]
    fn merging_adds() {
        let (a, b): (Vec<f64>, Vec<f64>) = ((0..50).map(f64::from).collect(), vec![1.0; 50]);
        let mut merged = error_sums(&a[..20], &b[..20]);
        merged.merge(&error_sums(&a[20..], &b[20..]));
        // Integers: exact in any order.
        assert_eq!(merged, error_sums(&a, &b));
        assert_eq!((merged.count, merged.product, merged.max_abs), (50, 1225.0, 48.0));
    }

    #[test]
    fn nan_shows_in_the_sums() {
        let sums = error_sums(&[1.0f32, f32::NAN, 3.0], &[0.0f32, 0.0, 1.0]);
        assert!(sums.noise.is_nan() && sums.signal.is_nan());
        assert_eq!((sums.max_abs, sums.restored), (2.0, 1.0));
    }
}
