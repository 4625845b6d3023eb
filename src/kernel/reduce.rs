//! Ranges: the smallest and the largest value of each block or column.

use super::convert::{STAGE, same, same_mut, stage};
use super::{dispatch, runs};
use crate::element::{Element, FloatType, Real};

/// Lanes of a run: several vectors at every level, so that one does not wait for the other.
const LANES: usize = 32;

/// The lesser, or the first where the second is NaN.
#[inline(always)]
fn lesser<T: Real>(a: T, b: T) -> T {
    if b < a { b } else { a }
}

/// The greater, or the first where the second is NaN.
#[inline(always)]
pub(super) fn greater<T: Real>(a: T, b: T) -> T {
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

/// Does `$body` with `$x` as a slice of f32, f16 or bf16, whichever it is, where the arithmetic is that of f32; `$none` for
/// other numbers and other machines.
macro_rules! in_vectors {
    ($t:ty, $x:ident => $body:expr, $none:expr) => {{
        #[cfg(target_arch = "x86_64")]
        {
            use half::{bf16, f16};
            if <$t>::TYPE != FloatType::F32 {
                $none
            } else if let Some($x) = same::<_, f32>($x) {
                $body
            } else if let Some($x) = same::<_, f16>($x) {
                $body
            } else if let Some($x) = same::<_, bf16>($x) {
                $body
            } else {
                $none
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = ($x, <$t>::TYPE == FloatType::F32);
            $none
        }
    }};
}

/// [`run_range`] where this machine has a loop for it, also of numbers that would have to be widened first.
#[inline(always)]
fn vector_range<A: Element, T: Real>(x: &[A], min: T, max: T) -> Option<(T, T, bool)> {
    let (low, high) = (Element::to_f32(min), Element::to_f32(max));
    let found: Option<(f32, f32, bool)> = in_vectors!(T, x => range_of(x, low, high), None);
    let _ = (low, high);
    found.map(|(low, high, finite)| (T::from_element(low), T::from_element(high), finite))
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn range_of<A: super::vector::Lanes>(x: &[A], min: f32, max: f32) -> Option<(f32, f32, bool)> {
    if x.len() > super::extremes::NEAR { eighths(x, min, max) } else { near(x, min, max) }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn near<A: super::vector::Lanes>(x: &[A], min: f32, max: f32) -> Option<(f32, f32, bool)> {
    let (low, high, numbers) = super::extremes::range(x, min, max)?;
    // An infinity shows in the range, unless it was there before; then the values tell.
    let bounded = low > f32::NEG_INFINITY && high < f32::INFINITY;
    Some((low, high, numbers && (bounded || x.iter().all(|x| x.to_f32().is_finite()))))
}

/// From several places at a time: memory answers several streams faster than one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn eighths<A: super::vector::Lanes>(x: &[A], min: f32, max: f32) -> Option<(f32, f32, bool)> {
    let (mut lows, mut highs) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    let width = x.len() / 8;
    let (served, mut finite) = super::extremes::blocks(x, width, &mut lows, &mut highs)?;
    let (mut low, mut high) = (lows.into_iter().fold(min, lesser), highs.into_iter().fold(max, greater));
    for x in x.get(served * width..).unwrap_or_default() {
        let x = x.to_f32();
        (low, high) = (lesser(low, x), greater(high, x));
        finite &= x.is_finite();
    }
    Some((low, high, finite))
}

/// Adds whole blocks to their ranges several at a time, where this machine has a loop for them: how many from the first on,
/// and whether all their elements are finite.
#[inline(always)]
fn whole_blocks<A: Element, T: Real>(x: &[A], width: usize, mins: &mut [T], maxs: &mut [T]) -> (usize, bool) {
    let (mins, maxs) = (same_mut::<T, f32>(mins), same_mut::<T, f32>(maxs));
    let (Some(mins), Some(maxs)) = (mins, maxs) else { return (0, true) };
    let served = in_vectors!(T, x => super::extremes::blocks(x, width, mins, maxs), None);
    let _ = (width, mins, maxs);
    served.unwrap_or((0, true))
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
    // Most need none.
    let mut buffer = None;
    let width = width.max(1);
    let (mut at, mut finite) = (0, true);
    while at < x.len() {
        let position = phase % width + at;
        let (Some(mins), Some(maxs)) = (mins.get_mut(position / width..), maxs.get_mut(position / width..))
        else {
            break;
        };
        let phase = position % width;
        let rest = &x[at..];
        if phase == 0 {
            let (done, numbers) = whole_blocks(rest, width, mins, maxs);
            if done > 0 {
                finite &= numbers;
                at += done * width;
                continue;
            }
        }
        // What is left of a block that began before is for itself, so that whole blocks follow.
        let left = if phase == 0 { rest.len() } else { (width - phase).min(rest.len()) };
        let run = &rest[..left.min(width - phase)];
        if A::TYPE != T::TYPE
            && let (Some(min), Some(max)) = (mins.first_mut(), maxs.first_mut())
            && let Some((low, high, numbers)) = vector_range(run, *min, *max)
        {
            // Adding zero makes a negative zero positive.
            (*min, *max) = (low + T::zero(), high + T::zero());
            finite &= numbers;
            at += run.len();
            continue;
        }
        let part = stage(&rest[..left], buffer.get_or_insert([T::zero(); STAGE]));
        finite &= min_max_real(part, width, phase, mins, maxs);
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

/// Adds whole lines to the ranges of their columns, where this machine has a loop for them; whether all elements are
/// finite.
#[inline(always)]
fn vector_lines<A: Element, T: Real>(x: &[A], mins: &mut [T], maxs: &mut [T]) -> Option<bool> {
    let (mins, maxs) = (same_mut::<T, f32>(mins)?, same_mut::<T, f32>(maxs)?);
    in_vectors!(T, x => super::extremes::lines(x, mins, maxs), {
        let _ = (mins, maxs);
        None
    })
}

/// As [`min_max`] of elements that have a range each, in lines of as many as there are ranges: `x` begins with column
/// `first`.
pub(crate) fn min_max_columns<A: Element, T: Real>(
    x: &[A],
    first: usize,
    mins: &mut [T],
    maxs: &mut [T],
) -> bool {
    let columns = mins.len().min(maxs.len());
    let Some(before) = columns.checked_sub(first) else { return true };
    let (head, x) = x.split_at(if first > 0 { before.min(x.len()) } else { 0 });
    let mut finite = true;
    if let (Some(mins), Some(maxs)) = (mins.get_mut(first..), maxs.get_mut(first..)) {
        finite &= min_max(head, 1, 0, mins, maxs);
    }
    if columns == 0 {
        return finite;
    }
    let (whole, rest) = x.split_at(x.len() / columns * columns);
    if let Some(numbers) = vector_lines(whole, mins, maxs) {
        return numbers & finite & min_max(rest, 1, 0, mins, maxs);
    }
    let rest = match same::<A, T>(x) {
        Some(same) => {
            let lines = same.len() / (LINES * columns) * (LINES * columns);
            finite &= min_max_lines(&same[..lines], columns, mins, maxs);
            &x[lines..]
        }
        None => x,
    };
    rest.chunks(columns).fold(finite, |finite, line| finite & min_max(line, 1, 0, mins, maxs))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::forced::agreed;
    use super::*;
    use half::{bf16, f16};
    use proptest::prelude::*;

    /// Numbers on both sides of zero, of which some are zeros and so large a part is not finite.
    pub(in super::super) fn numbers<A: Element>(len: usize, seed: u64, bad: f64) -> Vec<A> {
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

    proptest! {
        #[test]
        fn ranges_are_those_of_the_definition(
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
            let x: Vec<f64> = numbers(len, seed, bad);
            check_min_max::<f64, f64>(&x, width, phase);
            let x: Vec<f16> = numbers(len, seed, bad);
            check_min_max::<f16, f32>(&x, width, phase);
            let x: Vec<bf16> = numbers(len, seed, bad);
            check_min_max::<bf16, f32>(&x, width, phase);
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

    /// A copy of `x` for each kind of bad value, at each of some places; and one without any.
    fn spoiled(x: &[f32]) -> impl Iterator<Item = Vec<f32>> {
        let places = [0, x.len() / 3, x.len().saturating_sub(1)];
        let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let pairs = places.into_iter().flat_map(move |at| bad.map(|bad| Some((at, bad))));
        [None].into_iter().chain(pairs).map(|spoil| {
            let mut x = x.to_vec();
            if let Some((at, bad)) = spoil {
                x[at] = bad;
            }
            x
        })
    }

    #[test]
    fn long_blocks_are_read_several_at_a_time() {
        for (width, len) in [
            (257, 3 * 257),
            (257, 4 * 257 + 1),
            (300, 9 * 300),
            (1000, 13 * 1000 + 999),
            (4099, 20 * 4099),
            (9000, 8 * 9000 + 12),
            (66_000, 66_000),
            (usize::MAX, 65_536),
            (usize::MAX, 65_537),
            (usize::MAX, 70_013),
        ] {
            for x in spoiled(&numbers(len, 3, 0.0)) {
                check_min_max::<f32, f32>(&x, width, 0);
                // Numbers of both signs, and of each.
                for sign in [|x: f32| x, f32::abs, |x: f32| -x.abs()] {
                    let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(sign(x))).collect();
                    check_min_max::<f16, f32>(&halves, width, 0);
                    let halves: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(sign(x))).collect();
                    check_min_max::<bf16, f32>(&halves, width, 0);
                }
            }
            check_min_max::<f32, f32>(&numbers(len, 4, 0.0), width, 5);
        }
    }

    #[test]
    fn lines_are_read_several_at_a_time() {
        for (columns, len) in [(32, 32 * 9), (33, 33 * 20 + 1), (257, 257 * 7), (1000, 70_123)] {
            for x in spoiled(&numbers(len, 5, 0.0)) {
                let found = agreed(|| {
                    let mut ends = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
                    let finite = min_max_columns(&x, 3, &mut ends.0, &mut ends.1);
                    let bits = |ends: &[f32]| ends.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    (bits(&ends.0), bits(&ends.1), finite)
                });
                let column = |j: usize| x.iter().skip((j + columns - 3) % columns).step_by(columns);
                let low = |j| (column(j).copied().fold(f32::INFINITY, f32::min) + 0.0).to_bits();
                let high = |j| (column(j).copied().fold(f32::NEG_INFINITY, f32::max) + 0.0).to_bits();
                assert!((0..columns).all(|j| (found.0[j], found.1[j]) == (low(j), high(j))), "{columns}");
                assert_eq!(found.2, x.iter().all(|x| x.is_finite()));
                for sign in [|x: f32| x, f32::abs, |x: f32| -x.abs()] {
                    let x: Vec<f32> = x.iter().map(|&x| sign(x)).collect();
                    columns_of_halves::<f16>(&x, columns);
                    columns_of_halves::<bf16>(&x, columns);
                }
            }
        }
    }

    /// Asserts that the ranges of numbers of 16 bits are those of the same numbers of f32.
    fn columns_of_halves<A: Element>(x: &[f32], columns: usize) {
        let halves: Vec<A> = x.iter().map(|&x| A::from_f32(x)).collect();
        let wide: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
        let bits = |ends: &[f32]| ends.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let mut expected = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
        let finite = min_max_columns(&wide, 3, &mut expected.0, &mut expected.1);
        let found = agreed(|| {
            let mut ends = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
            let finite = min_max_columns(&halves, 3, &mut ends.0, &mut ends.1);
            (bits(&ends.0), bits(&ends.1), finite)
        });
        assert_eq!(found, (bits(&expected.0), bits(&expected.1), finite), "{columns} {:?}", A::TYPE);
    }

    #[test]
    fn an_infinity_of_before_is_none_of_now() {
        let x: Vec<f32> = numbers(1000, 9, 0.0);
        for width in [50, 256, 300, usize::MAX] {
            let finite = agreed(|| {
                let (mut mins, mut maxs) = ([f32::NEG_INFINITY; 20], [f32::INFINITY; 20]);
                min_max(&x, width, 0, &mut mins, &mut maxs)
            });
            assert!(finite, "{width}");
        }
        let mut ends = ([f32::NEG_INFINITY; 50], [f32::INFINITY; 50]);
        assert!(agreed(|| min_max_columns(&x, 0, &mut ends.0, &mut ends.1)));
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
