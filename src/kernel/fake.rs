//! From f32 to the value of its code and no further: encoding to the nearest integer and decoding, in vectors of 256
//! bits.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::affine::EncodeParams;
use super::narrow::one_correction;
use super::{prefetch, runs};
use crate::simd::Level;

/// Values of a step: a cache line of results in two vectors.
const STEP: usize = 16;

/// Bytes ahead that are asked for, where results go past the caches.
const AHEAD: usize = 2048;

/// What codes stand for, in the pattern of their encoding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    /// The steps.
    pub scale: &'a [f32],
    /// The zero points.
    pub zero: &'a [f32],
}

/// Writes the values of the codes of `x`, past the caches if `stream`, and returns whether a NaN was met; `None` where
/// this loop cannot serve. `params` must give codes that need no mask.
pub(crate) fn fake(
    x: &[f32],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    values: Values<'_>,
    stream: bool,
    out: &mut [f32],
) -> Option<bool> {
    if super::level() < Level::Avx2 || width <= 1 || width.min(x.len()) < STEP || x.len() != out.len() {
        return None;
    }
    // Integer zero points are taken off again as they were added, exactly.
    let same = params.zero_after.iter().zip(values.zero).all(|(&after, &zero)| after as f32 == zero);
    if params.zero_before.is_empty() && !(same && params.zero_after.len() == values.zero.len()) {
        return None;
    }
    // SAFETY: the level says that the machine has AVX2 and FMA.
    Some(unsafe { by_runs(x, (width, phase), params, divide, values, stream, out) })
}

#[target_feature(enable = "avx2,fma")]
fn by_runs(
    x: &[f32],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    values: Values<'_>,
    stream: bool,
    out: &mut [f32],
) -> bool {
    let mut nan = _mm256_setzero_ps();
    for (j, from, to) in runs(x.len(), width, phase) {
        let (Some(&scale), Some(&low), Some(&high), Some(&step)) =
            (params.scale.get(j), params.low.get(j), params.high.get(j), values.scale.get(j))
        else {
            break;
        };
        let zero_before = params.zero_before.get(j).copied();
        let zero = values.zero.get(j).copied().unwrap_or_default();
        let run = Run {
            scale: _mm256_set1_ps(scale),
            inverse: _mm256_set1_ps(1.0 / scale),
            most: _mm256_set1_ps((high + 1.0) * scale),
            low: _mm256_set1_ps(low),
            high: _mm256_set1_ps(high),
            zero_before: _mm256_set1_ps(zero_before.unwrap_or_default()),
            zero: _mm256_set1_ps(zero),
            step: _mm256_set1_ps(step),
        };
        let (x, out) = (&x[from..to], &mut out[from..to]);
        let found = match (divide, zero_before.is_some()) {
            (false, false) => line::<false, 0, false>(x, run, stream, out),
            (false, true) => line::<false, 0, true>(x, run, stream, out),
            (true, false) => match one_correction(scale) {
                Some(true) => line::<true, 1, false>(x, run, stream, out),
                Some(false) => line::<true, 2, false>(x, run, stream, out),
                None => line::<true, 0, false>(x, run, stream, out),
            },
            (true, true) => line::<true, 0, true>(x, run, stream, out),
        };
        nan = _mm256_or_ps(nan, found);
    }
    if stream {
        // What went past the caches becomes visible to other threads in the order of the program.
        _mm_sfence();
    }
    _mm256_movemask_ps(nan) != 0
}

/// The parameters of a run, in every lane.
#[derive(Clone, Copy)]
struct Run {
    scale: __m256,
    inverse: __m256,
    most: __m256,
    low: __m256,
    high: __m256,
    zero_before: __m256,
    zero: __m256,
    step: __m256,
}

/// A run of values. The sign bits of the result tell of NaN.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn line<const DIVIDE: bool, const CORRECTIONS: u8, const ZERO: bool>(
    x: &[f32],
    run: Run,
    stream: bool,
    out: &mut [f32],
) -> __m256 {
    let mut nan = _mm256_setzero_ps();
    // Results go past the caches where whole lines of them begin: one line in four bytes times sixteen.
    let head = (out.as_ptr().addr().wrapping_neg() % 64 / size_of::<f32>()).min(out.len());
    let head = if stream { head } else { 0 };
    let (x_head, x) = x.split_at(head);
    let (out_head, out) = out.split_at_mut(head);
    rest::<DIVIDE, CORRECTIONS, ZERO>(x_head, run, &mut nan, out_head);
    let (steps, last) = x.as_chunks::<STEP>();
    let (out_steps, out_last) = out.as_chunks_mut::<STEP>();
    let aligned = out_steps.as_ptr().addr().is_multiple_of(64);
    if stream && aligned {
        for (x, out) in steps.iter().zip(out_steps) {
            prefetch(x, AHEAD);
            // SAFETY: sixteen values and as many places, which begin a cache line.
            unsafe {
                let first = value::<DIVIDE, CORRECTIONS, ZERO>(_mm256_loadu_ps(x.as_ptr()), run, &mut nan);
                let second =
                    value::<DIVIDE, CORRECTIONS, ZERO>(_mm256_loadu_ps(x.as_ptr().add(8)), run, &mut nan);
                _mm256_stream_ps(out.as_mut_ptr(), first);
                _mm256_stream_ps(out.as_mut_ptr().add(8), second);
            }
        }
    } else {
        for (x, out) in steps.iter().zip(out_steps) {
            // SAFETY: sixteen values and as many places.
            unsafe {
                let first = value::<DIVIDE, CORRECTIONS, ZERO>(_mm256_loadu_ps(x.as_ptr()), run, &mut nan);
                let second =
                    value::<DIVIDE, CORRECTIONS, ZERO>(_mm256_loadu_ps(x.as_ptr().add(8)), run, &mut nan);
                _mm256_storeu_ps(out.as_mut_ptr(), first);
                _mm256_storeu_ps(out.as_mut_ptr().add(8), second);
            }
        }
    }
    rest::<DIVIDE, CORRECTIONS, ZERO>(last, run, &mut nan, out_last);
    nan
}

/// Fewer values than a step.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn rest<const DIVIDE: bool, const CORRECTIONS: u8, const ZERO: bool>(
    x: &[f32],
    run: Run,
    nan: &mut __m256,
    out: &mut [f32],
) {
    for (x, out) in x.chunks(8).zip(out.chunks_mut(8)) {
        let mut eight = [0.0; 8];
        eight[..x.len()].copy_from_slice(x);
        // SAFETY: eight values.
        unsafe {
            let values = value::<DIVIDE, CORRECTIONS, ZERO>(_mm256_loadu_ps(eight.as_ptr()), run, nan);
            _mm256_storeu_ps(eight.as_mut_ptr(), values);
        }
        out.copy_from_slice(&eight[..out.len()]);
    }
}

/// The values of the codes of eight numbers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn value<const DIVIDE: bool, const CORRECTIONS: u8, const ZERO: bool>(
    x: __m256,
    run: Run,
    nan: &mut __m256,
) -> __m256 {
    let v = if CORRECTIONS > 0 {
        // The quotient with the bits of a division, as in `narrow`.
        *nan = _mm256_or_ps(*nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        let x = _mm256_min_ps(run.most, x);
        let mut q = _mm256_mul_ps(x, run.inverse);
        for _ in 0..CORRECTIONS {
            q = _mm256_fmadd_ps(_mm256_fnmadd_ps(q, run.scale, x), run.inverse, q);
        }
        q
    } else {
        let v = if DIVIDE { _mm256_div_ps(x, run.scale) } else { _mm256_mul_ps(x, run.scale) };
        let v = if ZERO { _mm256_add_ps(v, run.zero_before) } else { v };
        *nan = _mm256_or_ps(*nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        v
    };
    // The second operand where the first is NaN.
    let v = _mm256_min_ps(_mm256_max_ps(v, run.low), run.high);
    // By way of an integer, so that no zero is negative.
    let q = _mm256_cvtepi32_ps(_mm256_cvtps_epi32(v));
    _mm256_mul_ps(run.step, if ZERO { _mm256_sub_ps(q, run.zero) } else { q })
}
