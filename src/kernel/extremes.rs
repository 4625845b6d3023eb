//! Ranges and magnitudes of f32, in vectors of 256 bits.
//!
//! The order in which values meet does not matter to a minimum or a maximum, so lanes are joined as is convenient. Of
//! eight short blocks the lanes are joined at once, by a tree of shuffles.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::prefetch;
use crate::simd::Level;

/// Lanes of a vector, and blocks whose lanes are joined at once.
const EIGHT: usize = 8;

/// Values of a step.
const STEP: usize = 32;

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

/// The largest magnitude of each block of `width` values; whether all are finite. `None` where this loop cannot serve.
pub(super) fn magnitudes(x: &[f32], width: usize, out: &mut [f32]) -> Option<bool> {
    if super::level() < Level::Avx2 || width < STEP || !width.is_multiple_of(STEP) {
        return None;
    }
    // SAFETY: the level says that the machine has AVX2.
    Some(unsafe { magnitudes_of(x, width, out) })
}

#[target_feature(enable = "avx2")]
fn magnitudes_of(x: &[f32], width: usize, out: &mut [f32]) -> bool {
    let mut all = _mm256_setzero_ps();
    let mut finite = true;
    let groups = x.chunks_exact(width * EIGHT);
    let rest = groups.remainder();
    let (out_groups, out_rest) = out.as_chunks_mut::<EIGHT>();
    let done = groups.len().min(out_groups.len());
    for (x, out) in groups.zip(out_groups.iter_mut()) {
        let mut lanes = [_mm256_setzero_ps(); EIGHT];
        for (x, lanes) in x.chunks_exact(width).zip(&mut lanes) {
            *lanes = largest(x);
        }
        let joined = joined(lanes);
        // Not less than infinity: infinite or NaN.
        let bad = _mm256_cmp_ps::<_CMP_NLT_UQ>(joined, _mm256_set1_ps(f32::INFINITY));
        all = _mm256_or_ps(all, bad);
        // SAFETY: eight places.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), joined) };
    }
    let left = out_groups.get_mut(done..).unwrap_or_default().as_flattened_mut().iter_mut().chain(out_rest);
    for (x, out) in rest.chunks(width).zip(left) {
        let lanes = largest(x);
        let joined = joined([lanes; EIGHT]);
        *out = _mm256_cvtss_f32(joined);
        finite &= *out < f32::INFINITY;
    }
    finite & (_mm256_movemask_ps(all) == 0)
}

/// The largest magnitude by lane, as the bits of a number: those of NaN are larger than those of infinity.
#[inline]
#[target_feature(enable = "avx2")]
fn largest(x: &[f32]) -> __m256 {
    let sign = _mm256_set1_epi32(i32::MAX);
    let mut all = [_mm256_setzero_si256(); 4];
    for x in x.as_chunks::<STEP>().0 {
        prefetch(x, AHEAD);
        for (i, all) in all.iter_mut().enumerate() {
            // SAFETY: 32 values.
            let x = unsafe { _mm256_loadu_si256(x.as_ptr().add(8 * i).cast()) };
            *all = _mm256_max_epi32(*all, _mm256_and_si256(x, sign));
        }
    }
    let all = _mm256_max_epi32(_mm256_max_epi32(all[0], all[1]), _mm256_max_epi32(all[2], all[3]));
    _mm256_castsi256_ps(all)
}

/// The largest lane of each of eight vectors, in order.
#[inline]
#[target_feature(enable = "avx2")]
fn joined(lanes: [__m256; EIGHT]) -> __m256 {
    let lanes = lanes.map(|lanes| _mm256_castps_si256(lanes));
    let pair =
        |a: __m256i, b: __m256i| _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let four =
        |a: __m256i, b: __m256i| _mm256_max_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    // Of each half of the vectors 0 to 3, and 4 to 7.
    let first = four(pair(lanes[0], lanes[1]), pair(lanes[2], lanes[3]));
    let second = four(pair(lanes[4], lanes[5]), pair(lanes[6], lanes[7]));
    let low = _mm256_permute2x128_si256::<0x20>(first, second);
    let high = _mm256_permute2x128_si256::<0x31>(first, second);
    _mm256_castsi256_ps(_mm256_max_epi32(low, high))
}
