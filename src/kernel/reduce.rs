//! Reductions: ranges, searches for bad values, sums of errors.

use super::convert::{STAGE, stage};
use super::{dispatch, runs};
use crate::element::{Element, Real};

/// Lanes of a run: a whole number of vectors at every level.
const LANES: usize = 16;

/// The lesser, or the first where the second is NaN.
#[inline(always)]
fn lesser<T: Real>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

/// The greater, or the first where the second is NaN.
#[inline(always)]
fn greater<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// Range of one run, beginning from `min` and `max`, and whether all its elements are finite.
#[inline(always)]
fn run_range<T: Real>(x: &[T], min: T, max: T) -> (T, T, bool) {
    let (mut mins, mut maxs) = ([min; LANES], [max; LANES]);
    let mut bad = false;
    let (steps, rest) = x.as_chunks::<LANES>();
    for x in steps {
        let mut step_bad = false;
        for ((x, min), max) in x.iter().zip(&mut mins).zip(&mut maxs) {
            *min = lesser(*min, *x);
            *max = greater(*max, *x);
            step_bad |= !x.is_finite();
        }
        bad |= step_bad;
    }
    for ((x, min), max) in rest.iter().zip(&mut mins).zip(&mut maxs) {
        *min = lesser(*min, *x);
        *max = greater(*max, *x);
        bad |= !x.is_finite();
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            mins[i] = lesser(mins[i], mins[i + half]);
            maxs[i] = greater(maxs[i], maxs[i + half]);
        }
        half /= 2;
    }
    (mins[0], maxs[0], !bad)
}

dispatch! {
    /// [`min_max`] of elements in the type of the arithmetic.
    fn min_max_real[T: Real](x: &[T], width: usize, phase: usize, mins: &mut [T], maxs: &mut [T]) -> bool {
        let mut finite = true;
        // Adding zero makes a negative zero positive: which of the two a minimum finds would
        // otherwise depend on where chunks begin.
        if width <= 1 {
            for ((x, min), max) in x.iter().zip(mins).zip(maxs) {
                *min = lesser(*min, *x) + T::zero();
                *max = greater(*max, *x) + T::zero();
                finite &= x.is_finite();
            }
            return finite;
        }
        for (j, from, to) in runs(x.len(), width, phase) {
            let (Some(min), Some(max)) = (mins.get_mut(j), maxs.get_mut(j)) else { break };
            let (low, high, ok) = run_range(&x[from..to], *min, *max);
            (*min, *max) = (low + T::zero(), high + T::zero());
            finite &= ok;
        }
        finite
    }
}

/// Accumulates the range of each block of the pattern into its entry of `mins` and `maxs`, which the
/// caller fills with +∞ and −∞; returns whether all elements are finite.
///
/// NaN is passed over, infinities count. A zero is reported as +0.
pub(crate) fn min_max<A: Element, T: Real>(
    x: &[A],
    width: usize,
    phase: usize,
    mins: &mut [T],
    maxs: &mut [T],
) -> bool {
    let mut buffer = [T::zero(); STAGE];
    let width = width.max(1);
    let (mut at, mut finite) = (0, true);
    while at < x.len() {
        let part = stage(&x[at..], &mut buffer);
        let position = phase % width + at;
        let (Some(mins), Some(maxs)) = (mins.get_mut(position / width..), maxs.get_mut(position / width..))
        else {
            break;
        };
        finite &= min_max_real(part, width, position % width, mins, maxs);
        at += part.len();
    }
    finite
}

/// Elements of one step of a search.
const SEARCH: usize = 128;

dispatch! {
    fn first_step_not[T: Real, P: Predicate](x: &[T]) -> Option<usize> {
        x.chunks(SEARCH).position(|x| x.iter().fold(false, |found, x| found | P::holds(*x)))
    }
}

/// What is searched for.
trait Predicate {
    fn holds<T: Real>(x: T) -> bool;
}
struct NonFinite;
impl Predicate for NonFinite {
    #[inline(always)]
    fn holds<T: Real>(x: T) -> bool {
        !x.is_finite()
    }
}
struct Nan;
impl Predicate for Nan {
    #[inline(always)]
    fn holds<T: Real>(x: T) -> bool {
        x.is_nan()
    }
}

fn first<A: Element, P: Predicate>(x: &[A]) -> Option<usize> {
    let mut buffer = [A::Real::default(); STAGE];
    let mut at = 0;
    while at < x.len() {
        let part = stage::<A, A::Real>(&x[at..], &mut buffer);
        if let Some(step) = first_step_not::<A::Real, P>(part) {
            let from = step * SEARCH;
            return part[from..].iter().position(|x| P::holds(*x)).map(|i| at + from + i);
        }
        at += part.len();
    }
    None
}

/// The first element that is NaN or infinite.
pub(crate) fn first_non_finite<A: Element>(x: &[A]) -> Option<usize> {
    first::<A, NonFinite>(x)
}

/// The first element that is NaN.
pub(crate) fn first_nan<A: Element>(x: &[A]) -> Option<usize> {
    first::<A, Nan>(x)
}

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
