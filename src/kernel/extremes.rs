//! Ranges of f32, f16 and bf16, in vectors of 256 or 512 bits.
//!
//! The order in which values meet does not matter to a minimum or a maximum, so lanes are joined as is convenient. NaN is
//! passed over by the comparisons and looked for in two vectors at once; an infinity shows in the range.
#![allow(unsafe_code)] // intrinsics on pointers

mod halves;
mod lines;
mod ordered;

use core::arch::x86_64::*;

pub(super) use lines::lines;

use super::rows::IN_TURNS;
use super::stream;
use super::vector::{Avx2, Avx512, Lanes, Vector, vectorized};
use crate::simd::Level;

/// Values of a step: two cache lines.
const STEP: usize = 32;

/// Vectors that [`range`] works on at a time, so that one does not wait for the other.
const VECTORS: usize = 4;

/// Values of f32 that fill the first-level cache.
const ROW: usize = 1 << 13;

/// So many times these from which on each reads from a place of its own.
const MANY: usize = 8;

/// Blocks whose ranges are found together.
const LANES: usize = 8;

/// Blocks up to this are joined eight at a time.
const SHORT_BLOCK: usize = 256;

/// Longer blocks that are worth a loop for several.
const FEWEST: usize = 4;

/// Values from which on [`range`] is slower than [`blocks`] of an eighth each. Of f32, these begin in the middle of lines of
/// the caches, which only memory hides: a slice of so many is a part of a tensor that is too large for any cache.
pub(super) const fn eighths_from<A>() -> usize {
    if are_halves::<A>() { 1 << 16 } else { 1 << 19 }
}

/// The smallest and the largest of `low`, `high` and the values, which are passed over if NaN, and whether there is
/// none; `None` where this loop cannot serve.
#[inline]
pub(super) fn range<A: Lanes>(x: &[A], low: f32, high: f32) -> Option<(f32, f32, bool)> {
    if x.len() < VECTORS * Avx2::LANES {
        return None;
    }
    // Rows that come from memory while codes of the one before are found were seen to take less in vectors of 256 bits.
    let row = !are_halves::<A>() && x.len() <= ROW;
    let level = if row || x.len() < VECTORS * Avx512::LANES { Level::Avx2 } else { Level::Avx512 };
    vector_range(super::level().min(level), x, low, high)
}

/// As [`rows::range`](super::rows::range), of at least [`rows::SHORTEST`](super::rows::SHORTEST) values.
#[inline]
pub(super) fn row(x: &[f32], ahead: usize) -> Option<(f32, f32, bool)> {
    let (low, high, numbers) = vector_row(super::level().min(Level::Avx2), x, ahead)?;
    // Adding zero makes a negative zero positive.
    Some((low + 0.0, high + 0.0, numbers && low > f32::NEG_INFINITY && high < f32::INFINITY))
}

vectorized! {
    fn vector_row<V>[](v, x: &[f32], ahead: usize) -> (f32, f32, bool) {
        range_of::<V, f32, true>(v, x, f32::INFINITY, f32::NEG_INFINITY, ahead)
    }
}

vectorized! {
    fn vector_range<V>[A: Lanes](v, x: &[A], low: f32, high: f32) -> (f32, f32, bool) {
        if are_halves::<A>()
            && let Some((least, greatest)) = halves::range(v, x)
        {
            (least.min(low), greatest.max(high), true)
        } else if x.len() < MANY * VECTORS * V::LANES {
            range_of::<V, A, false>(v, x, low, high, 0)
        } else {
            range_of_parts(v, x, low, high)
        }
    }
}

/// Whether numbers are compared by their bits, but for NaN.
const fn are_halves<A>() -> bool {
    size_of::<A>() == size_of::<u16>()
}

/// Of at least [`VECTORS`] vectors; if `ASK`, with lines asked for from `ahead` bytes on, one step in so many
/// [`IN_TURNS`].
#[inline(always)]
fn range_of<V: Vector, A: Lanes, const ASK: bool>(
    v: V,
    x: &[A],
    low: f32,
    high: f32,
    ahead: usize,
) -> (f32, f32, bool) {
    let step = VECTORS * V::LANES;
    // SAFETY: a step lies within the values wherever it begins.
    unsafe {
        let (mut min, mut max) = ([v.floats(low); VECTORS], [v.floats(high); VECTORS]);
        let mut nan = v.unmarked();
        for at in (0..x.len()).step_by(step) {
            if ASK && (at / step).is_multiple_of(IN_TURNS) {
                let ahead = ahead + at / IN_TURNS * size_of::<A>();
                super::prefetch_second_level(x.as_ptr(), step * size_of::<A>(), ahead);
            }
            // The last step takes some of it for the second time.
            let from = x.as_ptr().add(at.min(x.len() - step));
            let mut values = [v.floats(0.0); VECTORS];
            for (i, value) in values.iter_mut().enumerate() {
                *value = v.load(from.add(i * V::LANES));
                (min[i], max[i]) = (v.lesser(*value, min[i]), v.greater(*value, max[i]));
            }
            let [a, b, c, d] = values;
            nan = v.mark(v.mark(nan, a, b), c, d);
        }
        let (low, high) = joined_range(v, min, max);
        (low, high, !v.marked(nan))
    }
}

/// As [`range_of`], from as many places at a time as there are vectors, each of which begins a line of the caches: the
/// second level answers these faster.
#[inline(always)]
fn range_of_parts<V: Vector, A: Lanes>(v: V, x: &[A], low: f32, high: f32) -> (f32, f32, bool) {
    let step = 2 * V::LANES;
    let head = stream::head(x);
    let part = (x.len() - head) / VECTORS / step * step;
    // SAFETY: a step lies within the values wherever it begins.
    unsafe {
        let (mut min, mut max) = ([v.floats(low); VECTORS], [v.floats(high); VECTORS]);
        let mut nan = v.unmarked();
        for at in (head..head + part).step_by(step) {
            for (i, (min, max)) in min.iter_mut().zip(&mut max).enumerate() {
                let from = x.as_ptr().add(at + i * part);
                let (a, b) = (v.load(from), v.load(from.add(V::LANES)));
                (*min, *max) = (v.lesser(b, v.lesser(a, *min)), v.greater(b, v.greater(a, *max)));
                nan = v.mark(nan, a, b);
            }
        }
        let ([min_of, ..], [max_of, ..]) = (&mut min, &mut max);
        // What lies before and behind, and some of the parts for the second time.
        let (before, behind) = (0..head, head + VECTORS * part..x.len());
        for at in before.step_by(step).chain(behind.step_by(step)) {
            let from = x.as_ptr().add(at.min(x.len() - step));
            let (a, b) = (v.load(from), v.load(from.add(V::LANES)));
            (*min_of, *max_of) = (v.lesser(b, v.lesser(a, *min_of)), v.greater(b, v.greater(a, *max_of)));
            nan = v.mark(nan, a, b);
        }
        let (low, high) = joined_range(v, min, max);
        (low, high, !v.marked(nan))
    }
}

/// The least lane of some vectors, and the greatest of others.
#[inline(always)]
fn joined_range<V: Vector>(v: V, min: [V::Floats; VECTORS], max: [V::Floats; VECTORS]) -> (f32, f32) {
    let min = v.lesser(v.lesser(min[0], min[1]), v.lesser(min[2], min[3]));
    let max = v.greater(v.greater(max[0], max[1]), v.greater(max[2], max[3]));
    (least(v, min), greatest(v, max))
}

/// Adds the values of blocks of `width`, several blocks at a time, to their entries of `mins` and `maxs`, where NaN is
/// passed over and a zero is positive. The number of blocks served, from the first one on, and whether all their values
/// are finite. `None` where this loop cannot serve.
#[inline]
pub(super) fn blocks<A: Lanes>(
    x: &[A],
    width: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> Option<(usize, bool)> {
    if width > SHORT_BLOCK {
        if x.len() / width < FEWEST {
            return None;
        }
        long(super::level(), x, width, mins, maxs)
    } else if width > 0 && width.is_multiple_of(LANES) {
        short(super::level(), x, width, mins, maxs)
    } else {
        None
    }
}

vectorized! {
    fn short<V>[A: Lanes](v, x: &[A], width: usize, mins: &mut [f32], maxs: &mut [f32]) -> (usize, bool) {
        short_blocks(v, x, width, mins, maxs)
    }
}

vectorized! {
    fn long<V>[A: Lanes](v, x: &[A], width: usize, mins: &mut [f32], maxs: &mut [f32]) -> (usize, bool) {
        // Vectors of 256 bits have registers for the ranges of four streams.
        if V::LANES > LANES {
            long_blocks::<V, A, 8>(v, x, width, mins, maxs)
        } else {
            long_blocks::<V, A, 4>(v, x, width, mins, maxs)
        }
    }
}

/// Blocks of more than [`SHORT_BLOCK`] values, as many at a time as there are streams.
#[inline(always)]
fn long_blocks<V: Vector, A: Lanes, const STREAMS: usize>(
    v: V,
    x: &[A],
    width: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> (usize, bool) {
    let (done, finite) = streams::<V, A, STREAMS>(v, x, width, mins, maxs);
    let (Some(x), Some(mins), Some(maxs)) =
        (x.get(done * width..), mins.get_mut(done..), maxs.get_mut(done..))
    else {
        return (done, finite);
    };
    // Four of those that are left over.
    let (more, also) = if STREAMS > 4 { streams::<V, A, 4>(v, x, width, mins, maxs) } else { (0, true) };
    (done + more, finite & also)
}

/// As many blocks for each stream, one after the other, so that each reads on where it is: that is seen by the processor
/// itself, and to ask for what lies ahead costs more than it saves. What is left over is not served.
#[inline(always)]
fn streams<V: Vector, A: Lanes, const STREAMS: usize>(
    v: V,
    x: &[A],
    width: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> (usize, bool) {
    debug_assert!(width >= STEP);
    let each = (x.len() / width).min(mins.len()).min(maxs.len()) / STREAMS;
    // With a look at each number if one is NaN. What was found before stays: ranges only grow.
    if are_halves::<A>()
        && let Some(bounded) = halves::streams::<V, A, STREAMS>(v, x, width, each, mins, maxs)
    {
        return (STREAMS * each, bounded);
    }
    // SAFETY: blocks lie within `x`, and steps within blocks.
    unsafe {
        let (mut nan, mut bounded) = (v.unmarked(), true);
        for block in 0..each {
            let (mut low, mut high) =
                ([v.floats(f32::INFINITY); STREAMS], [v.floats(f32::NEG_INFINITY); STREAMS]);
            for at in (0..width).step_by(STEP) {
                // The last step takes some of it for the second time.
                let at = at.min(width - STEP);
                for (stream, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
                    let from = x.as_ptr().add((stream * each + block) * width + at);
                    for pair in (0..STEP).step_by(2 * V::LANES) {
                        let (a, b) = (v.load(from.add(pair)), v.load(from.add(pair + V::LANES)));
                        *low = v.lesser(b, v.lesser(a, *low));
                        *high = v.greater(b, v.greater(a, *high));
                        nan = v.mark(nan, a, b);
                    }
                }
            }
            for (stream, (low, high)) in low.into_iter().zip(high).enumerate() {
                let (low, high) = (least(v, low), greatest(v, high));
                bounded &= low > f32::NEG_INFINITY && high < f32::INFINITY;
                // Adding zero makes a negative zero positive.
                let at = stream * each + block;
                mins[at] = low.min(mins[at]) + 0.0;
                maxs[at] = high.max(maxs[at]) + 0.0;
            }
        }
        (STREAMS * each, bounded && !v.marked(nan))
    }
}

/// Blocks of a multiple of [`LANES`] values.
#[inline(always)]
fn short_blocks<V: Vector, A: Lanes>(
    v: V,

    x: &[A],
    width: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> (usize, bool) {
    {
        if width.is_multiple_of(V::LANES) {
            eights(v, x, width, mins, maxs)
        } else {
            eights(v.narrow(), x, width, mins, maxs)
        }
    }
}

/// Eight blocks at a time, whose results share a vector. They hold whole vectors.
#[inline(always)]
fn eights<V: Vector, A: Lanes>(
    v: V,
    x: &[A],
    width: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> (usize, bool) {
    let (mins, _) = mins.as_chunks_mut::<LANES>();
    let (maxs, _) = maxs.as_chunks_mut::<LANES>();
    let mut done = 0;
    // SAFETY: all machines with vectors have AVX; vectors lie within blocks, and eight numbers fill a vector.
    unsafe {
        let (infinity, none) = (_mm256_set1_ps(f32::INFINITY), _mm256_set1_ps(f32::NEG_INFINITY));
        let (mut nan, mut unbounded) = (v.unmarked(), _mm256_setzero_ps());
        for ((group, mins), maxs) in x.chunks_exact(width * LANES).zip(mins).zip(maxs) {
            let (mut low, mut high) = ([_mm256_setzero_ps(); LANES], [_mm256_setzero_ps(); LANES]);
            for ((block, low), high) in group.chunks_exact(width).zip(&mut low).zip(&mut high) {
                let (mut min, mut max) = (v.floats(f32::INFINITY), v.floats(f32::NEG_INFINITY));
                for at in (0..width).step_by(2 * V::LANES) {
                    // The last vector may be alone, and is its own partner then.
                    let next = (at + V::LANES).min(width - V::LANES);
                    let (a, b) = (v.load(block.as_ptr().add(at)), v.load(block.as_ptr().add(next)));
                    min = v.lesser(b, v.lesser(a, min));
                    max = v.greater(b, v.greater(a, max));
                    nan = v.mark(nan, a, b);
                }
                (*low, *high) = (v.eight_least(min), v.eight_greatest(max));
            }
            let low = joined(low, |a, b| _mm256_min_ps(a, b));
            let high = joined(high, |a, b| _mm256_max_ps(a, b));
            let below = _mm256_cmp_ps::<_CMP_EQ_OQ>(low, none);
            let above = _mm256_cmp_ps::<_CMP_EQ_OQ>(high, infinity);
            unbounded = _mm256_or_ps(unbounded, _mm256_or_ps(below, above));
            let low = _mm256_min_ps(low, _mm256_loadu_ps(mins.as_ptr()));
            let high = _mm256_max_ps(high, _mm256_loadu_ps(maxs.as_ptr()));
            // Adding zero makes a negative zero positive.
            _mm256_storeu_ps(mins.as_mut_ptr(), _mm256_add_ps(low, _mm256_setzero_ps()));
            _mm256_storeu_ps(maxs.as_mut_ptr(), _mm256_add_ps(high, _mm256_setzero_ps()));
            done += LANES;
        }
        (done, !v.marked(nan) && _mm256_movemask_ps(unbounded) == 0)
    }
}

/// The lanes of each vector joined, each result in a lane of its own. Only for machines with AVX.
#[inline(always)]
unsafe fn joined(v: [__m256; LANES], join: impl Fn(__m256, __m256) -> __m256) -> __m256 {
    let [a, b, c, d, e, f, g, h] = v;
    // SAFETY: the caller's promise.
    unsafe {
        // Vectors are folded onto each other until each has a lane.
        let singles = |a, b| join(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let pairs = |a: __m256, b: __m256| {
            let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
            join(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)))
        };
        let front = pairs(singles(a, b), singles(c, d));
        let back = pairs(singles(e, f), singles(g, h));
        join(_mm256_permute2f128_ps::<0x20>(front, back), _mm256_permute2f128_ps::<0x31>(front, back))
    }
}

/// The least lane.
#[inline(always)]
fn least<V: Vector>(v: V, a: V::Floats) -> f32 {
    // SAFETY: all machines with vectors have AVX.
    unsafe { halves(v.eight_least(a), |a, b| _mm_min_ps(a, b)) }
}

/// The greatest lane.
#[inline(always)]
fn greatest<V: Vector>(v: V, a: V::Floats) -> f32 {
    // SAFETY: as above.
    unsafe { halves(v.eight_greatest(a), |a, b| _mm_max_ps(a, b)) }
}

/// The lanes of a vector joined. Only for machines with AVX.
#[inline(always)]
unsafe fn halves(v: __m256, join: impl Fn(__m128, __m128) -> __m128) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let v = join(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = join(v, _mm_movehl_ps(v, v));
        let v = join(v, _mm_shuffle_ps::<1>(v, v));
        _mm_cvtss_f32(v)
    }
}
