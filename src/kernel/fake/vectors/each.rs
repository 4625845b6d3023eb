//! Any values, with a look at each.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::super::vector::{Lanes, Vector};
use super::Task;

/// Values of a vector.
const LANES: usize = 8;

/// The parameters of a run, in every lane, or of eight values.
#[derive(Clone, Copy)]
struct Eight {
    /// The divisor, or the factor.
    scale: __m256,
    low: __m256,
    high: __m256,
    zero_before: __m256,
    zero: __m256,
    step: __m256,
}

/// The parameters of a run.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// The divisor if `divide`, or the factor.
    pub scale: f32,
    pub divide: bool,
    pub low: f32,
    pub high: f32,
    /// What is added before rounding, if there is such a thing.
    pub zero_before: Option<f32>,
    pub zero: f32,
    pub step: f32,
}

/// The values of a run; whether any is NaN.
#[cold]
pub(super) fn careful<V: Vector, A: Lanes>(_: V, x: &[A], entry: Entry, out: &mut [A]) -> bool {
    let mut nan = false;
    for (x, out) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
        let mut values = [0.0; LANES];
        for (value, x) in values.iter_mut().zip(x) {
            *value = x.to_f32();
        }
        // SAFETY: all machines with vectors have AVX2, FMA and F16C; there are eight places.
        unsafe {
            let (found, unordered) = match (entry.divide, entry.zero_before.is_some()) {
                (false, false) => eight::<false, false>(values, x.len(), entry),
                (false, true) => eight::<false, true>(values, x.len(), entry),
                (true, false) => eight::<true, false>(values, x.len(), entry),
                (true, true) => eight::<true, true>(values, x.len(), entry),
            };
            let mut places = [A::default(); LANES];
            A::put_eight::<false>(places.as_mut_ptr(), found, false);
            out.copy_from_slice(&places[..out.len()]);
            nan |= unordered;
        }
    }
    nan
}

/// The values of the codes of `x`, of which the first `len` count, and whether any of these is NaN.
#[target_feature(enable = "avx2,fma")]
fn eight<const DIVIDE: bool, const ZERO: bool>(x: [f32; LANES], len: usize, entry: Entry) -> (__m256, bool) {
    let by = Eight {
        scale: _mm256_set1_ps(entry.scale),
        low: _mm256_set1_ps(entry.low),
        high: _mm256_set1_ps(entry.high),
        zero_before: _mm256_set1_ps(entry.zero_before.unwrap_or_default()),
        zero: _mm256_set1_ps(entry.zero),
        step: _mm256_set1_ps(entry.step),
    };
    let v = scaled::<DIVIDE, ZERO>(load(&x), by);
    let nan = _mm256_and_ps(there(len), _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
    (value::<ZERO>(v, by), _mm256_movemask_ps(nan) != 0)
}

/// All bits of the first `len` lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn there(len: usize) -> __m256 {
    let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(len as i32), lane))
}

/// Values that have a parameter each.
#[target_feature(enable = "avx2,fma")]
pub(super) fn columns<const DIVIDE: bool>(x: &[f32], task: &Task<'_>, out: &mut [f32]) -> bool {
    let Task { params, values, .. } = task;
    let mut nan = _mm256_setzero_ps();
    let mut at = 0;
    while at < x.len().min(out.len()) {
        let part = |array: &[f32]| load(array.get(at..).unwrap_or_default());
        let run = Eight {
            scale: part(params.scale),
            low: part(params.low),
            high: part(params.high),
            zero_before: part(params.zero_before),
            zero: part(values.zero),
            step: part(values.scale),
        };
        let x = part(x);
        let v = if params.zero_before.is_empty() {
            scaled::<DIVIDE, false>(x, run)
        } else {
            scaled::<DIVIDE, true>(x, run)
        };
        let mut unordered = _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v);
        let v = if params.zero_before.is_empty() { value::<false>(v, run) } else { value::<true>(v, run) };
        if let Some(out) = out[at..].first_chunk_mut::<LANES>() {
            // SAFETY: as many places as the vector has.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), v) };
        } else {
            // Where there is no value, 0/0 is none of it.
            let rest = &mut out[at..];
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let there = _mm256_cmpgt_epi32(_mm256_set1_epi32(rest.len() as i32), lane);
            unordered = _mm256_and_ps(unordered, _mm256_castsi256_ps(there));
            let mut eight = [0.0; LANES];
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), v) };
            rest.copy_from_slice(&eight[..rest.len()]);
        }
        nan = _mm256_or_ps(nan, unordered);
        at += LANES;
    }
    _mm256_movemask_ps(nan) != 0
}

/// Up to eight values, and zeros where there are none.
#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[f32]) -> __m256 {
    let mut eight = [0.0; LANES];
    let from = match values.first_chunk::<LANES>() {
        Some(values) => values,
        None => {
            eight[..values.len()].copy_from_slice(values);
            &eight
        }
    };
    // SAFETY: eight values.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

/// Eight values in the scale of their codes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn scaled<const DIVIDE: bool, const ZERO: bool>(x: __m256, run: Eight) -> __m256 {
    let v = if DIVIDE { _mm256_div_ps(x, run.scale) } else { _mm256_mul_ps(x, run.scale) };
    if ZERO { _mm256_add_ps(v, run.zero_before) } else { v }
}

/// The values of the codes of eight scaled values.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn value<const ZERO: bool>(v: __m256, run: Eight) -> __m256 {
    // The second operand where the first is NaN.
    let v = _mm256_min_ps(_mm256_max_ps(v, run.low), run.high);
    // By way of an integer, so that no zero is negative. Zero points that were to be added are not taken off again.
    let q = _mm256_cvtepi32_ps(_mm256_cvtps_epi32(v));
    _mm256_mul_ps(run.step, if ZERO { _mm256_sub_ps(q, run.zero) } else { q })
}
