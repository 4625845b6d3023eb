//! Ranges of f32, in vectors of 256 or 512 bits.
//!
//! The order in which values meet does not matter to a minimum or a maximum, so lanes are joined as is convenient. NaN is
//! passed over by the comparisons and looked for in two vectors at once; an infinity shows in the range.
#![allow(unsafe_code)] // intrinsics on pointers

mod vector;

use core::arch::x86_64::*;

use crate::simd::Level;
use vector::Vector;

/// Values of a step: two cache lines.
const STEP: usize = 32;

/// Vectors that [`range`] works on at a time, so that one does not wait for the other.
const VECTORS: usize = 4;

/// Blocks whose ranges are found together.
const LANES: usize = 8;

/// Blocks up to this are joined eight at a time.
const SHORT_BLOCK: usize = 256;

/// Lines that are read together: memory answers several streams faster than one.
const LINES: usize = 8;

/// Values up to which they may well be in the second-level cache, where asking for them ahead costs more than it saves.
pub(super) const NEAR: usize = 1 << 16;

/// Bytes ahead of each stream that are asked for where values are many.
const AHEAD: usize = 4096;

/// Defines a function that runs a loop with the widest vectors of the level, which is AVX2 or better.
macro_rules! at_level {
    ($(#[$meta:meta])* fn $name:ident = ($narrow:expr, $wide:expr)($($arg:ident: $ty:ty),*) $(-> $ret:ty)?) => {
        $(#[$meta])*
        #[inline]
        fn $name($($arg: $ty),*) $(-> $ret)? {
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the instructions are there where this is called.
                unsafe { $narrow($($arg),*) }
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: as above.
                unsafe { $wide($($arg),*) }
            }
            debug_assert!(super::level() >= Level::Avx2);
            if super::level() >= Level::Avx512 {
                // SAFETY: the level says that the machine has the instructions.
                unsafe { avx512($($arg),*) }
            } else {
                // SAFETY: the caller has asked for AVX2.
                unsafe { avx2($($arg),*) }
            }
        }
    };
}

at_level! { fn range_at_level = (range_of::<__m256>, range_of::<__m512>)(x: &[f32], low: f32, high: f32) -> (f32, f32, bool) }
at_level! { fn short_at_level = (short_blocks::<__m256>, short_blocks::<__m512>)(x: &[f32], width: usize, mins: &mut [f32], maxs: &mut [f32]) -> (usize, bool) }
// Vectors of 256 bits have registers for the ranges of four streams.
at_level! { fn long_at_level = (long_blocks::<__m256, 4>, long_blocks::<__m512, 8>)(x: &[f32], width: usize, mins: &mut [f32], maxs: &mut [f32]) -> (usize, bool) }
at_level! { fn lines_at_level = (all_lines::<__m256>, all_lines::<__m512>)(x: &[f32], columns: usize, mins: &mut [f32], maxs: &mut [f32]) -> bool }

/// The smallest and the largest of `low`, `high` and the values, which are passed over if NaN, and whether there is
/// none; `None` where this loop cannot serve.
#[inline]
pub(super) fn range(x: &[f32], low: f32, high: f32) -> Option<(f32, f32, bool)> {
    #[target_feature(enable = "avx2")]
    fn narrow(x: &[f32], low: f32, high: f32) -> (f32, f32, bool) {
        // SAFETY: the instructions are there where this is called.
        unsafe { range_of::<__m256>(x, low, high) }
    }
    if super::level() < Level::Avx2 || x.len() < VECTORS * <__m256 as Vector>::LANES {
        return None;
    }
    if x.len() < VECTORS * <__m512 as Vector>::LANES {
        // SAFETY: the level says that the machine has AVX2.
        return Some(unsafe { narrow(x, low, high) });
    }
    Some(range_at_level(x, low, high))
}

/// Of at least [`VECTORS`] vectors. Only for machines with the vector's instructions.
#[inline(always)]
unsafe fn range_of<V: Vector>(x: &[f32], low: f32, high: f32) -> (f32, f32, bool) {
    let step = VECTORS * V::LANES;
    // SAFETY: the caller's promise; a step lies within the values wherever it begins.
    unsafe {
        let (mut min, mut max) = ([V::all(low); VECTORS], [V::all(high); VECTORS]);
        let mut nan = V::unmarked();
        for at in (0..x.len()).step_by(step) {
            // The last step takes some of it for the second time.
            let from = x.as_ptr().add(at.min(x.len() - step));
            let mut v = [V::all(0.0); VECTORS];
            for (i, v) in v.iter_mut().enumerate() {
                *v = V::load(from.add(i * V::LANES));
                (min[i], max[i]) = (v.lesser(min[i]), v.greater(max[i]));
            }
            nan = V::mark(V::mark(nan, v[0], v[1]), v[2], v[3]);
        }
        let min = min[0].lesser(min[1]).lesser(min[2].lesser(min[3]));
        let max = max[0].greater(max[1]).greater(max[2].greater(max[3]));
        (min.least(), max.greatest(), !V::marked(nan))
    }
}

/// Adds the values of blocks of `width`, several blocks at a time, to their entries of `mins` and `maxs`, where NaN is
/// passed over and a zero is positive. The number of blocks served, from the first one on, and whether all their values
/// are finite. `None` where this loop cannot serve.
#[inline]
pub(super) fn blocks(x: &[f32], width: usize, mins: &mut [f32], maxs: &mut [f32]) -> Option<(usize, bool)> {
    if super::level() < Level::Avx2 || width == 0 {
        None
    } else if width > SHORT_BLOCK {
        Some(long_at_level(x, width, mins, maxs))
    } else if width.is_multiple_of(LANES) {
        Some(short_at_level(x, width, mins, maxs))
    } else {
        None
    }
}

/// Asks for the cache lines of a step that lie ahead of it, as far as the second level.
#[inline(always)]
fn ask(step: *const f32) {
    for line in (0..STEP).step_by(64 / size_of::<f32>()) {
        let at = step.wrapping_add(line).wrapping_byte_add(AHEAD);
        // SAFETY: a prefetch never faults and changes nothing but the caches, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }
}

/// Blocks of more than [`SHORT_BLOCK`] values, as many at a time as there are streams. Only for machines with the
/// vector's instructions.
#[inline(always)]
unsafe fn long_blocks<V: Vector, const STREAMS: usize>(
    x: &[f32],
    width: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> (usize, bool) {
    // SAFETY: the caller's promise.
    unsafe {
        let (done, finite) = if x.len() > NEAR {
            streams::<V, STREAMS, true>(x, width, mins, maxs)
        } else {
            streams::<V, STREAMS, false>(x, width, mins, maxs)
        };
        let (Some(x), Some(mins), Some(maxs)) =
            (x.get(done * width..), mins.get_mut(done..), maxs.get_mut(done..))
        else {
            return (done, finite);
        };
        // Four of those that are left over.
        let (more, also) = if STREAMS > 4 { streams::<V, 4, false>(x, width, mins, maxs) } else { (0, true) };
        (done + more, finite & also)
    }
}

/// As many blocks for each stream, one after the other, so that each reads on where it is. What is left over is not
/// served.
#[inline(always)]
unsafe fn streams<V: Vector, const STREAMS: usize, const FAR: bool>(
    x: &[f32],
    width: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> (usize, bool) {
    debug_assert!(width >= STEP);
    let each = (x.len() / width).min(mins.len()).min(maxs.len()) / STREAMS;
    // SAFETY: the caller's promise; blocks lie within `x`, and steps within blocks.
    unsafe {
        let (mut nan, mut bounded) = (V::unmarked(), true);
        for block in 0..each {
            let (mut low, mut high) =
                ([V::all(f32::INFINITY); STREAMS], [V::all(f32::NEG_INFINITY); STREAMS]);
            for at in (0..width).step_by(STEP) {
                // The last step takes some of it for the second time.
                let at = at.min(width - STEP);
                for (stream, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
                    let from = x.as_ptr().add((stream * each + block) * width + at);
                    if FAR {
                        ask(from);
                    }
                    for pair in (0..STEP).step_by(2 * V::LANES) {
                        let (a, b) = (V::load(from.add(pair)), V::load(from.add(pair + V::LANES)));
                        *low = b.lesser(a.lesser(*low));
                        *high = b.greater(a.greater(*high));
                        nan = V::mark(nan, a, b);
                    }
                }
            }
            for (stream, (low, high)) in low.into_iter().zip(high).enumerate() {
                let (low, high) = (low.least(), high.greatest());
                bounded &= low > f32::NEG_INFINITY && high < f32::INFINITY;
                // Adding zero makes a negative zero positive.
                let at = stream * each + block;
                mins[at] = low.min(mins[at]) + 0.0;
                maxs[at] = high.max(maxs[at]) + 0.0;
            }
        }
        (STREAMS * each, bounded && !V::marked(nan))
    }
}

/// Blocks of a multiple of [`LANES`] values. Only for machines with the vector's instructions.
#[inline(always)]
unsafe fn short_blocks<V: Vector>(
    x: &[f32],
    width: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> (usize, bool) {
    // SAFETY: the caller's promise; the same holds for narrower vectors.
    unsafe {
        if width.is_multiple_of(V::LANES) {
            eights::<V>(x, width, mins, maxs)
        } else {
            eights::<__m256>(x, width, mins, maxs)
        }
    }
}

/// Eight blocks at a time, whose results share a vector. They hold whole vectors.
#[inline(always)]
unsafe fn eights<V: Vector>(x: &[f32], width: usize, mins: &mut [f32], maxs: &mut [f32]) -> (usize, bool) {
    let (mins, _) = mins.as_chunks_mut::<LANES>();
    let (maxs, _) = maxs.as_chunks_mut::<LANES>();
    let mut done = 0;
    // SAFETY: the caller's promise; vectors lie within blocks, and eight numbers fill a vector.
    unsafe {
        let (infinity, none) = (_mm256_set1_ps(f32::INFINITY), _mm256_set1_ps(f32::NEG_INFINITY));
        let (mut nan, mut unbounded) = (V::unmarked(), _mm256_setzero_ps());
        for ((group, mins), maxs) in x.chunks_exact(width * LANES).zip(mins).zip(maxs) {
            let (mut low, mut high) = ([_mm256_setzero_ps(); LANES], [_mm256_setzero_ps(); LANES]);
            for ((block, low), high) in group.chunks_exact(width).zip(&mut low).zip(&mut high) {
                let (mut min, mut max) = (V::all(f32::INFINITY), V::all(f32::NEG_INFINITY));
                for at in (0..width).step_by(2 * V::LANES) {
                    // The last vector may be alone, and is its own partner then.
                    let next = (at + V::LANES).min(width - V::LANES);
                    let (a, b) = (V::load(block.as_ptr().add(at)), V::load(block.as_ptr().add(next)));
                    min = b.lesser(a.lesser(min));
                    max = b.greater(a.greater(max));
                    nan = V::mark(nan, a, b);
                }
                (*low, *high) = (min.eight_least(), max.eight_greatest());
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
        (done, !V::marked(nan) && _mm256_movemask_ps(unbounded) == 0)
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

/// Adds whole lines of as many values as there are ranges to these, where NaN is passed over and a zero is positive.
/// Whether all values are finite; `None` where this loop cannot serve.
#[inline]
pub(super) fn lines(x: &[f32], mins: &mut [f32], maxs: &mut [f32]) -> Option<bool> {
    let columns = mins.len();
    if super::level() < Level::Avx2
        || columns < STEP
        || maxs.len() != columns
        || !x.len().is_multiple_of(columns)
    {
        return None;
    }
    let numbers = lines_at_level(x, columns, mins, maxs);
    let mut bounded = true;
    for (min, max) in mins.iter_mut().zip(maxs) {
        // Adding zero makes a negative zero positive.
        (*min, *max) = (*min + 0.0, *max + 0.0);
        bounded &= (*min > f32::NEG_INFINITY) & (*max < f32::INFINITY);
    }
    // An infinity that was there before tells nothing; then the values do.
    Some(numbers && (bounded || x.iter().all(|x| x.is_finite())))
}

/// Whether no value is NaN. Only for machines with the vector's instructions.
#[inline(always)]
unsafe fn all_lines<V: Vector>(x: &[f32], columns: usize, mins: &mut [f32], maxs: &mut [f32]) -> bool {
    let (front, back) = x.split_at(x.len() / (LINES * columns) * LINES * columns);
    // SAFETY: the caller's promise.
    unsafe {
        let numbers = if x.len() > NEAR {
            some_lines::<V, LINES, true>(front, columns, mins, maxs)
        } else {
            some_lines::<V, LINES, false>(front, columns, mins, maxs)
        };
        numbers & some_lines::<V, 1, false>(back, columns, mins, maxs)
    }
}

/// As many lines for each stream, one after the other, so that each reads on where it is.
#[inline(always)]
unsafe fn some_lines<V: Vector, const STREAMS: usize, const FAR: bool>(
    x: &[f32],
    columns: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> bool {
    let each = x.len() / columns / STREAMS;
    // SAFETY: the caller's promise; lines lie within `x`, and steps within lines and ranges, which are as long.
    unsafe {
        let mut nan = V::unmarked();
        for line in 0..each {
            for at in (0..columns).step_by(STEP) {
                // The last step takes some of it for the second time.
                let at = at.min(columns - STEP);
                if FAR {
                    for stream in 0..STREAMS {
                        ask(x.as_ptr().add((stream * each + line) * columns + at));
                    }
                }
                for pair in (at..at + STEP).step_by(2 * V::LANES) {
                    let places = [pair, pair + V::LANES];
                    let mut low = places.map(|at| V::load(mins.as_ptr().add(at)));
                    let mut high = places.map(|at| V::load(maxs.as_ptr().add(at)));
                    for stream in 0..STREAMS {
                        let from = x.as_ptr().add((stream * each + line) * columns);
                        let (a, b) = (V::load(from.add(places[0])), V::load(from.add(places[1])));
                        low = [a.lesser(low[0]), b.lesser(low[1])];
                        high = [a.greater(high[0]), b.greater(high[1])];
                        nan = V::mark(nan, a, b);
                    }
                    for (i, &at) in places.iter().enumerate() {
                        low[i].store(mins.as_mut_ptr().add(at));
                        high[i].store(maxs.as_mut_ptr().add(at));
                    }
                }
            }
        }
        !V::marked(nan)
    }
}
