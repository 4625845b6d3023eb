//! Ranges: the smallest and the largest value of each block or column.

use super::convert::{STAGE, same, same_mut, stage};
use super::{dispatch, runs};
use crate::element::{Element, FloatType, Real};

#[cfg(test)]
pub(super) mod tests;

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
    if x.len() >= super::extremes::eighths_from::<A>() { eighths(x, min, max) } else { near(x, min, max) }
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
