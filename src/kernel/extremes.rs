//! Ranges of f32, in vectors of 256 bits.
//!
//! The order in which values meet does not matter to a minimum or a maximum, so lanes are joined as is convenient.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::prefetch;
use crate::simd::Level;

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
