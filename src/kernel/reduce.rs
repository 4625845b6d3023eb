//! Reductions: ranges, searches for bad values, sums of errors.

#[cfg(target_arch = "x86_64")]
use super::convert::same_mut;
use super::convert::{STAGE, stage};
use super::{dispatch, runs};
use crate::element::{Element, Real};

/// Lanes of a run: several vectors at every level, so that one does not wait for the other.
const LANES: usize = 32;

/// Elements of runs up to which one stream of memory is as fast as several.
#[cfg(target_arch = "x86_64")]
const SHORT: usize = 1 << 14;

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

/// The range of some elements by lane: element `i` goes to lane `i % N`.
#[derive(Clone, Copy)]
pub(super) struct Lanes<T, const N: usize> {
    min: [T; N],
    max: [T; N],
    /// Zero as long as no NaN was met.
    nan: [T; N],
}

impl<T: Real, const N: usize> Lanes<T, N> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { min: [T::infinity(); N], max: [T::neg_infinity(); N], nan: [T::zero(); N] }
    }

    #[inline(always)]
    fn range(&mut self, x: &[T]) {
        for (min, x) in self.min.iter_mut().zip(x) {
            *min = lesser(*min, *x);
        }
        for (max, x) in self.max.iter_mut().zip(x) {
            *max = greater(*max, *x);
        }
    }

    /// Adds a step, whose halves may lie in two places. Each loop becomes a few vector operations; one comparison tests
    /// two vectors for NaN.
    #[inline(always)]
    fn add(&mut self, x: &[T], y: &[T]) {
        let (low, high) = self.min.split_at_mut(N / 2);
        for (half, x) in [(low, x), (high, y)] {
            for (min, x) in half.iter_mut().zip(x) {
                *min = lesser(*min, *x);
            }
        }
        let (low, high) = self.max.split_at_mut(N / 2);
        for (half, x) in [(low, x), (high, y)] {
            for (max, x) in half.iter_mut().zip(x) {
                *max = greater(*max, *x);
            }
        }
        for ((nan, x), y) in self.nan.iter_mut().zip(x).zip(y) {
            *nan = if x.is_nan() | y.is_nan() { T::one() } else { *nan };
        }
    }

    /// As [`add`](Self::add), for loops that have more to do: the difference of itself and what is not finite is NaN.
    #[inline(always)]
    #[allow(clippy::eq_op, reason = "not zero for what is not finite")]
    pub(super) fn add_difference(&mut self, x: &[T]) {
        self.range(x);
        for (nan, x) in self.nan.iter_mut().zip(x) {
            *nan += *x - *x;
        }
    }

    /// The smallest and the largest element (+∞ and −∞ if there is none but NaN), and whether all are finite.
    #[inline(always)]
    pub(super) fn finish(mut self) -> (T, T, bool) {
        let mut half = N / 2;
        while half > 0 {
            for i in 0..half {
                self.min[i] = lesser(self.min[i], self.min[i + half]);
                self.max[i] = greater(self.max[i], self.max[i + half]);
                self.nan[i] += self.nan[i + half];
            }
            half /= 2;
        }
        let (min, max) = (self.min[0], self.max[0]);
        // An infinity shows in the range.
        let bounded = min > max || (min > T::neg_infinity() && max < T::infinity());
        (min, max, bounded && self.nan[0] == T::zero())
    }
}

/// Range of one run, beginning from `min` and `max`, and whether all its elements are finite.
#[inline(always)]
fn run_range<T: Real>(x: &[T], min: T, max: T) -> (T, T, bool) {
    let mut lanes = Lanes::<T, LANES>::new();
    let (steps, rest) = x.as_chunks::<{ LANES / 2 }>();
    // From two places at a time: memory answers two streams faster than one.
    let (front, back) = steps.split_at(steps.len() / 2);
    for (x, y) in front.iter().zip(back) {
        lanes.add(x, y);
    }
    if let Some(last) = back.get(front.len()) {
        lanes.add_difference(last);
    }
    lanes.add_difference(rest);
    let (low, high, finite) = lanes.finish();
    (lesser(min, low), greater(max, high), finite)
}

/// [`run_range`] where this machine has a loop for it.
#[inline(always)]
fn vector_range<T: Real>(x: &[T], min: T, max: T) -> Option<(T, T, bool)> {
    #[cfg(target_arch = "x86_64")]
    if let Some(x) = super::convert::same::<T, f32>(x) {
        let (min, max) = (Element::to_f32(min), Element::to_f32(max));
        let (low, high, finite) = if x.len() > SHORT { quarters(x, min, max) } else { short(x, min, max) }?;
        return Some((T::from_element(low), T::from_element(high), finite));
    }
    let _ = (x, min, max);
    None
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn short(x: &[f32], min: f32, max: f32) -> Option<(f32, f32, bool)> {
    let (low, high, numbers) = super::extremes::range(x, min, max)?;
    // An infinity shows in the range, unless it was there before; then the values tell.
    let bounded = low > f32::NEG_INFINITY && high < f32::INFINITY;
    Some((low, high, numbers && (bounded || x.iter().all(|x| x.is_finite()))))
}

/// From four places at a time: memory answers four streams faster than one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn quarters(x: &[f32], min: f32, max: f32) -> Option<(f32, f32, bool)> {
    let (mut lows, mut highs) = ([f32::INFINITY; 4], [f32::NEG_INFINITY; 4]);
    let width = x.len() / 4;
    let (served, mut finite) = super::extremes::blocks(x, width, &mut lows, &mut highs)?;
    let (mut low, mut high) = (lows.into_iter().fold(min, lesser), highs.into_iter().fold(max, greater));
    for &x in x.get(served * width..).unwrap_or_default() {
        (low, high) = (lesser(low, x), greater(high, x));
        finite &= x.is_finite();
    }
    Some((low, high, finite))
}

/// Adds whole blocks to their ranges several at a time, where this machine has a loop for them: how many from the first on,
/// and whether all their elements are finite.
#[inline(always)]
fn whole_blocks<T: Real>(x: &[T], width: usize, mins: &mut [T], maxs: &mut [T]) -> (usize, bool) {
    #[cfg(target_arch = "x86_64")]
    if let (Some(x), Some(mins), Some(maxs)) =
        (super::convert::same::<T, f32>(x), same_mut::<T, f32>(mins), same_mut::<T, f32>(maxs))
        && let Some(served) = super::extremes::blocks(x, width, mins, maxs)
    {
        return served;
    }
    let _ = (x, width, mins, maxs);
    (0, true)
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
            let (low, high, ok) = match vector_range(&x[from..to], *min, *max) {
                Some(range) => range,
                None => run_range(&x[from..to], *min, *max),
            };
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
        let position = phase % width + at;
        // What is left of a block that began before is for itself, so that whole blocks follow.
        let left = if position.is_multiple_of(width) { x.len() } else { width - position % width };
        let part = stage(&x[at..x.len().min(at.saturating_add(left))], &mut buffer);
        let (Some(mins), Some(maxs)) = (mins.get_mut(position / width..), maxs.get_mut(position / width..))
        else {
            break;
        };
        let phase = position % width;
        let (done, numbers) = if phase == 0 { whole_blocks(part, width, mins, maxs) } else { (0, true) };
        finite &= numbers;
        if let (Some(rest), Some(mins), Some(maxs)) =
            (part.get(done * width..), mins.get_mut(done..), maxs.get_mut(done..))
        {
            finite &= min_max_real(rest, width, phase, mins, maxs);
        }
        at += part.len();
    }
    finite
}

/// Lines that are looked at together, so that their ranges are read and written once for all of them.
const LINES: usize = 4;

dispatch! {
    fn min_max_lines[T: Real](x: &[T], columns: usize, mins: &mut [T], maxs: &mut [T]) -> bool {
        let mut finite = true;
        for lines in x.chunks_exact(LINES * columns) {
            let (a, rest) = lines.split_at(columns);
            let (b, rest) = rest.split_at(columns);
            let (c, d) = rest.split_at(columns);
            let places = mins.iter_mut().zip(&mut *maxs);
            for ((min, max), (((a, b), c), d)) in places.zip(a.iter().zip(b).zip(c).zip(d)) {
                *min = lesser(lesser(lesser(lesser(*min, *a), *b), *c), *d) + T::zero();
                *max = greater(greater(greater(greater(*max, *a), *b), *c), *d) + T::zero();
                finite &= a.is_finite() & b.is_finite() & c.is_finite() & d.is_finite();
            }
        }
        finite
    }
}

/// As [`min_max`] of elements that have a range each, in lines of as many as there are ranges: `x` begins with column
/// `first`.
pub(crate) fn min_max_columns<T: Real>(x: &[T], first: usize, mins: &mut [T], maxs: &mut [T]) -> bool {
    let columns = mins.len().min(maxs.len());
    let Some(before) = columns.checked_sub(first) else { return true };
    let (head, x) = x.split_at(if first > 0 { before.min(x.len()) } else { 0 });
    let mut finite = true;
    if let (Some(mins), Some(maxs)) = (mins.get_mut(first..), maxs.get_mut(first..)) {
        finite &= min_max_real(head, 1, 0, mins, maxs);
    }
    if columns == 0 {
        return finite;
    }
    let (lines, rest) = x.split_at(x.len() / (LINES * columns) * (LINES * columns));
    finite &= min_max_lines(lines, columns, mins, maxs);
    rest.chunks(columns).fold(finite, |finite, line| finite & min_max_real(line, 1, 0, mins, maxs))
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

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use half::{bf16, f16};
    use proptest::prelude::*;

    fn numbers<A: Element>(len: usize, seed: u64, bad: f64) -> Vec<A> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut one = || match next() {
            u if u < bad / 3.0 => f64::NAN,
            u if u < bad * 2.0 / 3.0 => f64::INFINITY,
            u if u < bad => f64::NEG_INFINITY,
            u if u > 0.98 => -0.0,
            u => (u - 0.6) * 100.0,
        };
        (0..len).map(|_| A::from_f64(one())).collect()
    }

    fn check_min_max<A: Element, T: Real>(x: &[A], width: usize, phase: usize) {
        let entries = (phase + x.len()).div_ceil(width).max(1);
        let (mut expected_min, mut expected_max) =
            (vec![f64::INFINITY; entries], vec![f64::NEG_INFINITY; entries]);
        for (i, x) in x.iter().enumerate() {
            let j = (phase + i) / width;
            // The minimum of the standard library passes over NaN too.
            expected_min[j] = expected_min[j].min(x.to_f64());
            expected_max[j] = expected_max[j].max(x.to_f64());
        }
        let (mins, maxs, finite) = agreed(|| {
            let (mut mins, mut maxs) = (vec![T::infinity(); entries], vec![T::neg_infinity(); entries]);
            let finite = min_max(x, width, phase, &mut mins, &mut maxs);
            let exact = |v: Vec<T>| v.iter().map(|v| Element::to_f64(*v).to_bits()).collect::<Vec<_>>();
            (exact(mins), exact(maxs), finite)
        });
        let bits = |v: Vec<f64>| v.iter().map(|v| (v + 0.0).to_bits()).collect::<Vec<_>>();
        assert_eq!(mins, bits(expected_min), "{:?} width {width} phase {phase}", A::TYPE);
        assert_eq!(maxs, bits(expected_max));
        assert_eq!(finite, x.iter().all(|x| x.to_f64().is_finite()));
    }

    fn check_search<A: Element>(x: &[A]) {
        let expected = x.iter().position(|x| !x.to_f64().is_finite());
        assert_eq!(agreed(|| first_non_finite(x)), expected);
        assert_eq!(agreed(|| first_nan(x)), x.iter().position(|x| x.to_f64().is_nan()));
    }

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
        fn ranges_searches_and_sums(
            len in 0usize..900,
            width in prop_oneof![Just(1usize), 2usize..20, 30usize..70, 250usize..260, Just(100_000usize)],
            phase in any::<prop::sample::Index>(),
            seed in any::<u64>(),
            bad in prop_oneof![Just(0.0), Just(0.002), Just(0.2)],
        ) {
            let phase = phase.index(width);
            let x: Vec<f32> = numbers(len, seed, bad);
            check_min_max::<f32, f32>(&x, width, phase);
            check_min_max::<f32, f64>(&x, width, phase);
            check_search(&x);
            let x: Vec<f64> = numbers(len, seed, bad);
            check_min_max::<f64, f64>(&x, width, phase);
            check_search(&x);
            let x: Vec<f16> = numbers(len, seed, bad);
            check_min_max::<f16, f32>(&x, width, phase);
            check_search(&x);
            let x: Vec<bf16> = numbers(len, seed, bad);
            check_min_max::<bf16, f32>(&x, width, phase);
            check_search(&x);

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
    fn ranges_accumulate_over_calls() {
        let x: Vec<f32> = numbers(1000, 5, 0.0);
        let (mut mins, mut maxs) = ([f32::INFINITY; 1], [f32::NEG_INFINITY; 1]);
        for x in x.chunks(77) {
            assert!(min_max(x, usize::MAX, 3, &mut mins, &mut maxs));
        }
        assert_eq!(mins[0], x.iter().copied().fold(f32::INFINITY, f32::min));
        assert_eq!(maxs[0], x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    }

    #[test]
    fn columns_are_ranges_of_one_element_each() {
        for columns in [1usize, 3, 8, 50, 100] {
            for len in [0, 1, 49, 50, 399, 400, 1203] {
                for bad in [0.0, 0.01] {
                    let x: Vec<f32> = numbers(len, 11, bad);
                    for first in [0, columns / 2, columns - 1] {
                        let found = agreed(|| {
                            let mut ends = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
                            let finite = min_max_columns(&x, first, &mut ends.0, &mut ends.1);
                            let bits = |ends: &[f32]| ends.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                            (bits(&ends.0), bits(&ends.1), finite)
                        });
                        let mut ends = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
                        for (i, x) in x.iter().enumerate() {
                            let j = (first + i) % columns;
                            ends.0[j] = ends.0[j].min(*x);
                            ends.1[j] = ends.1[j].max(*x);
                        }
                        let bits =
                            |ends: &[f32]| ends.iter().map(|x| (x + 0.0).to_bits()).collect::<Vec<_>>();
                        let finite = x.iter().all(|x| x.is_finite());
                        assert_eq!(found, (bits(&ends.0), bits(&ends.1), finite), "{columns} {len} {first}");
                    }
                }
            }
        }
        assert!(min_max_columns(&[1.0f32], 3, &mut [0.0], &mut [0.0]));
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

    #[test]
    fn short_entries_stop_the_reduction() {
        let (mut mins, mut maxs) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 1]);
        min_max(&[1.0f32, 2.0, 3.0], 1, 0, &mut mins, &mut maxs);
        min_max(&[half::f16::ONE; 600], 2, 1, &mut mins, &mut maxs);
        min_max(&[1.0f32; 3], 0, 0, &mut [], &mut maxs);
        assert_eq!((mins, maxs), ([1.0, f32::INFINITY], [1.0]));
    }
}
