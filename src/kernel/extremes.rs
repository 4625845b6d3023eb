//! Ranges of f32, in vectors of 256 bits.
//!
//! The order in which values meet does not matter to a minimum or a maximum, so lanes are joined as is convenient.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::prefetch;
use crate::simd::Level;

/// Values of a step.
const STEP: usize = 32;

/// Lanes of a vector, and blocks whose ranges are found together.
const LANES: usize = 8;

/// Blocks up to this are joined eight at a time.
const SHORT_BLOCK: usize = 256;

/// Longer blocks that are read together: memory answers four streams faster than one.
const TOGETHER: usize = 4;

/// Bytes ahead that are asked for.
const AHEAD: usize = 4096;

/// The smallest and the largest of `low`, `high` and the values, which are passed over if NaN, and whether there is
/// none; `None` where this loop cannot serve.
#[inline]
pub(super) fn range(x: &[f32], low: f32, high: f32) -> Option<(f32, f32, bool)> {
    if super::level() < Level::Avx2 || x.len() < STEP {
        return None;
    }
    // SAFETY: the level says that the machine has AVX2.
    Some(unsafe { range_of(x, low, high) })
}

#[target_feature(enable = "avx2")]
fn range_of(x: &[f32], low: f32, high: f32) -> (f32, f32, bool) {
    let (mut min, mut max) = ([_mm256_set1_ps(low); 4], [_mm256_set1_ps(high); 4]);
    let mut nan = [_mm256_setzero_ps(); 2];
    let mut step = |x: &[f32; STEP]| {
        // SAFETY: 32 values.
        let x = unsafe { [0, 8, 16, 24].map(|at| _mm256_loadu_ps(x.as_ptr().add(at))) };
        for (i, &x) in x.iter().enumerate() {
            // The second operand where the first is NaN.
            min[i] = _mm256_min_ps(x, min[i]);
            max[i] = _mm256_max_ps(x, max[i]);
        }
        nan[0] = _mm256_or_ps(nan[0], _mm256_cmp_ps::<_CMP_UNORD_Q>(x[0], x[1]));
        nan[1] = _mm256_or_ps(nan[1], _mm256_cmp_ps::<_CMP_UNORD_Q>(x[2], x[3]));
    };
    let (steps, rest) = x.as_chunks::<STEP>();
    for x in steps {
        prefetch(x, AHEAD);
        step(x);
    }
    if !rest.is_empty()
        && let Some(last) = x.last_chunk::<STEP>()
    {
        // Some of it for the second time.
        step(last);
    }
    let min = _mm256_min_ps(_mm256_min_ps(min[0], min[1]), _mm256_min_ps(min[2], min[3]));
    let max = _mm256_max_ps(_mm256_max_ps(max[0], max[1]), _mm256_max_ps(max[2], max[3]));
    let nan = _mm256_movemask_ps(_mm256_or_ps(nan[0], nan[1])) != 0;
    let min = halves(min, |a, b| _mm_min_ps(a, b));
    let max = halves(max, |a, b| _mm_max_ps(a, b));
    (min, max, !nan)
}

/// The lanes of a vector joined.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(v: __m256, join: impl Fn(__m128, __m128) -> __m128) -> f32 {
    let v = join(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = join(v, _mm_movehl_ps(v, v));
    let v = join(v, _mm_shuffle_ps::<1>(v, v));
    _mm_cvtss_f32(v)
}

/// Adds the values of blocks of `width`, several blocks at a time, to their entries of `mins` and `maxs`, where NaN is
/// passed over and a zero is positive. The number of blocks served, from the first one on, and whether all their values
/// are finite. `None` where this loop cannot serve.
#[inline]
pub(super) fn blocks(x: &[f32], width: usize, mins: &mut [f32], maxs: &mut [f32]) -> Option<(usize, bool)> {
    if super::level() < Level::Avx2 {
        return None;
    }
    let short = width > 0 && width.is_multiple_of(LANES) && width <= SHORT_BLOCK;
    // SAFETY: the level says that the machine has AVX2.
    unsafe {
        if short {
            Some(blocks_of(x, width, mins, maxs))
        } else if width > SHORT_BLOCK && width <= x.len() / TOGETHER {
            Some(long_blocks_of(x, width, mins, maxs))
        } else {
            None
        }
    }
}

#[target_feature(enable = "avx2")]
fn long_blocks_of(x: &[f32], width: usize, mins: &mut [f32], maxs: &mut [f32]) -> (usize, bool) {
    let (mins, _) = mins.as_chunks_mut::<TOGETHER>();
    let (maxs, _) = maxs.as_chunks_mut::<TOGETHER>();
    let (mut nan, mut bounded, mut done) = (_mm256_setzero_ps(), true, 0);
    for ((group, mins), maxs) in x.chunks_exact(width * TOGETHER).zip(mins).zip(maxs) {
        let mut low = [_mm256_set1_ps(f32::INFINITY); TOGETHER];
        let mut high = [_mm256_set1_ps(f32::NEG_INFINITY); TOGETHER];
        let mut step = |block: usize, x: &[f32; 2 * LANES]| {
            // SAFETY: 16 values.
            let x = unsafe { [0, LANES].map(|at| _mm256_loadu_ps(x.as_ptr().add(at))) };
            for x in x {
                // The second operand where the first is NaN.
                low[block] = _mm256_min_ps(x, low[block]);
                high[block] = _mm256_max_ps(x, high[block]);
            }
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(x[0], x[1]));
        };
        let (a, rest) = group.split_at(width);
        let (b, rest) = rest.split_at(width);
        let (c, d) = rest.split_at(width);
        let blocks = [a, b, c, d];
        let [(a, _), (b, _), (c, _), (d, _)] = blocks.map(|block| block.as_chunks::<{ 2 * LANES }>());
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            step(0, a);
            step(1, b);
            step(2, c);
            step(3, d);
        }
        for (block, x) in blocks.iter().enumerate() {
            if let Some(last) = x.last_chunk() {
                // Some of it for the second time.
                step(block, last);
            }
        }
        for ((min, low), (max, high)) in mins.iter_mut().zip(low).zip(maxs.iter_mut().zip(high)) {
            let low = halves(low, |a, b| _mm_min_ps(a, b));
            let high = halves(high, |a, b| _mm_max_ps(a, b));
            // An infinity shows in the range.
            bounded &= low > f32::NEG_INFINITY && high < f32::INFINITY;
            // Adding zero makes a negative zero positive.
            *min = low.min(*min) + 0.0;
            *max = high.max(*max) + 0.0;
        }
        done += TOGETHER;
    }
    (done, bounded && _mm256_movemask_ps(nan) == 0)
}

#[target_feature(enable = "avx2")]
fn blocks_of(x: &[f32], width: usize, mins: &mut [f32], maxs: &mut [f32]) -> (usize, bool) {
    let (mins, _) = mins.as_chunks_mut::<LANES>();
    let (maxs, _) = maxs.as_chunks_mut::<LANES>();
    let mut bad = _mm256_setzero_ps();
    let infinity = _mm256_set1_ps(f32::INFINITY);
    let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    let mut done = 0;
    for ((group, mins), maxs) in x.chunks_exact(width * LANES).zip(mins).zip(maxs) {
        let (mut low, mut high) = ([_mm256_setzero_ps(); LANES], [_mm256_setzero_ps(); LANES]);
        for ((block, low), high) in group.chunks_exact(width).zip(&mut low).zip(&mut high) {
            let (mut min, mut max) = (infinity, _mm256_set1_ps(f32::NEG_INFINITY));
            let (vectors, _) = block.as_chunks::<LANES>();
            for x in vectors {
                // SAFETY: eight values.
                let x = unsafe { _mm256_loadu_ps(x.as_ptr()) };
                // The second operand where the first is NaN.
                min = _mm256_min_ps(x, min);
                max = _mm256_max_ps(x, max);
                // Not less than infinity: an infinity itself, or NaN.
                let finite = _mm256_and_ps(x, magnitude);
                bad = _mm256_or_ps(bad, _mm256_cmp_ps::<_CMP_NLT_UQ>(finite, infinity));
            }
            (*low, *high) = (min, max);
        }
        // SAFETY: eight floats each.
        unsafe {
            let min = _mm256_min_ps(joined(low, |a, b| _mm256_min_ps(a, b)), _mm256_loadu_ps(mins.as_ptr()));
            let max = _mm256_max_ps(joined(high, |a, b| _mm256_max_ps(a, b)), _mm256_loadu_ps(maxs.as_ptr()));
            // Adding zero makes a negative zero positive.
            _mm256_storeu_ps(mins.as_mut_ptr(), _mm256_add_ps(min, _mm256_setzero_ps()));
            _mm256_storeu_ps(maxs.as_mut_ptr(), _mm256_add_ps(max, _mm256_setzero_ps()));
        }
        done += LANES;
    }
    (done, _mm256_movemask_ps(bad) == 0)
}

/// The lanes of each vector joined, each result in a lane of its own.
#[inline]
#[target_feature(enable = "avx2")]
fn joined(v: [__m256; LANES], join: impl Fn(__m256, __m256) -> __m256) -> __m256 {
    let [a, b, c, d, e, f, g, h] = v;
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
