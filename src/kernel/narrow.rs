//! From f32 to codes of one byte, to the nearest integer, in vectors of 256 bits.
//!
//! Thirty-two values become one vector of codes. The processor converts to the nearest integer (ties to even); what does
//! not fit, NaN among it, becomes the most negative one, so values are only held from above before that, and the bounds
//! are applied to integers of 16 bits, four times as many at once.
//!
//! **Division.** `x / s` with the bits of a division, but twice as fast: `q₀ = x · y` with `y` the nearest number to
//! `1 / s`, then twice `q ← q + (x − q · s) · y` by fused operations. `q₁` is within one unit in the last place of the
//! quotient, and for such a `q`, and `y` correctly rounded, the next step gives the correctly rounded quotient
//! (P. Markstein 1990, *Computation of elementary functions on the IBM RISC System/6000 processor*, theorem 4; Muller et
//! al., *Handbook of Floating-Point Arithmetic*, section 4.7), provided that no remainder is rounded. `x` is brought
//! below the end of the codes first and `s` is neither tiny nor huge, so none is, but for quotients so small that they
//! round to zero in any case, or so negative that they get the lowest code in any case, as NaN does.
//!
//! Where `|s·y − 1| ≤ 2⁻²⁵`, which holds for two scales of three, one step is enough. `q₀` is then within one unit in the
//! last place, its remainder is exact, and what is rounded to `q₁` is `x / s` up to `2⁻²⁵` of such a unit; but no
//! quotient is nearer than `1 / 2S > 2⁻²⁵` units to the middle between two numbers, `S < 2²⁴` the significand of `s` as
//! an integer.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::affine::EncodeParams;
use super::{runs, stream};
use crate::simd::Level;

/// Codes of one vector.
const VECTOR: usize = 32;

/// Codes that are put together before they go past the caches.
const STAGE: usize = 1024;

/// Codes of one cache line.
const LINE: usize = 64;

/// How values are scaled.
const PRODUCT: u8 = 0;
const QUOTIENT: u8 = 1;
const CORRECTED_ONCE: u8 = 2;
const CORRECTED_TWICE: u8 = 3;

/// Scales whose quotients are corrected: the remainders of quotients from a quarter on are normal numbers, and so is
/// the reciprocal.
const CORRECTED_SCALES: core::ops::RangeInclusive<f32> = 1e-25..=1e25;

/// Whether the quotients of `scale` are right after one correction; `None` if they cannot be corrected.
#[inline(always)]
pub(super) fn one_correction(scale: f32) -> Option<bool> {
    if !CORRECTED_SCALES.contains(&scale) {
        return None;
    }
    // Exact: a product of 48 bits.
    let off = f64::from(scale) * f64::from(1.0 / scale) - 1.0;
    Some(off.abs() <= 1.0 / f64::from(1 << 25))
}

/// As [`affine::encode`](super::affine::encode) within equal lengths; `None` where these loops cannot serve.
pub(super) fn encode(
    x: &[f32],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    stream: bool,
    codes: &mut [u8],
) -> Option<bool> {
    let least = if width > 1 { VECTOR } else { 8 };
    if super::level() < Level::Avx2 || x.len() < least || (width > 1 && width < VECTOR) {
        return None;
    }
    // SAFETY: the level says that the machine has AVX2 and FMA.
    unsafe {
        if width > 1 && width < STAGE && stream {
            staged(x, (width, phase), params, divide, mask, codes)
        } else if width > 1 {
            by_runs(x, (width, phase), params, divide, mask, stream, codes)
        } else if divide {
            Some(columns::<QUOTIENT, false>(x, params, mask, codes))
        } else {
            Some(columns::<PRODUCT, false>(x, params, mask, codes))
        }
    }
}

/// As [`affine::encode_common`](super::affine::encode_common) within equal lengths; `None` where these loops cannot
/// serve.
pub(super) fn encode_columns(
    x: &[f32],
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    codes: &mut [u8],
) -> Option<bool> {
    if super::level() < Level::Avx2 || x.len() < 8 {
        return None;
    }
    // SAFETY: the level says that the machine has AVX2 and FMA.
    unsafe {
        Some(if divide {
            columns::<QUOTIENT, true>(x, params, mask, codes)
        } else {
            columns::<PRODUCT, true>(x, params, mask, codes)
        })
    }
}

/// Short runs past the caches: they do not end where cache lines do, so codes are put together first.
#[target_feature(enable = "avx2,fma")]
fn staged(
    x: &[f32],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    codes: &mut [u8],
) -> Option<bool> {
    let mut stage = [0; STAGE];
    let mut nan = false;
    for (piece, (x, codes)) in x.chunks(STAGE).zip(codes.chunks_mut(STAGE)).enumerate() {
        let position = phase % width + piece * STAGE;
        let entry = position / width;
        let params = EncodeParams {
            scale: params.scale.get(entry..)?,
            low: params.low.get(entry..)?,
            high: params.high.get(entry..)?,
            zero_before: params.zero_before.get(entry..).unwrap_or_default(),
            zero_after: params.zero_after.get(entry..).unwrap_or_default(),
            ..*params
        };
        let stage = &mut stage[..codes.len()];
        nan |= by_runs(x, (width, position % width), &params, divide, mask, false, stage)?;
        stream::past_caches(stage, codes);
    }
    _mm_sfence();
    Some(nan)
}

/// The parameters of a run, in every lane.
#[derive(Clone, Copy)]
struct Run {
    /// The divisor, or the factor.
    scale: __m256,
    /// The reciprocal of the divisor, and a value just beyond the upper bound.
    inverse: __m256,
    most: __m256,
    zero_before: __m256,
    high: __m256,
    low_integer: __m256i,
    high_integer: __m256i,
    zero_after: __m256i,
    mask: __m256i,
}

/// `None` if the parameters of an entry are beyond what these loops can do.
#[target_feature(enable = "avx2,fma")]
fn by_runs(
    x: &[f32],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    stream: bool,
    codes: &mut [u8],
) -> Option<bool> {
    // Bounds that are integers of 16 bits, with one to spare.
    const BOUND: f32 = 32_000.0;
    let bounds = params.low.iter().chain(params.high);
    if !bounds.fold(true, |within, bound| within & (bound.abs() <= BOUND)) {
        return None;
    }
    let mut nan = _mm256_setzero_ps();
    for (j, from, to) in runs(x.len(), width, phase) {
        let (Some(&scale), Some(&low), Some(&high)) =
            (params.scale.get(j), params.low.get(j), params.high.get(j))
        else {
            break;
        };
        let zero_before = params.zero_before.get(j).copied();
        let run = Run {
            scale: _mm256_set1_ps(scale),
            inverse: _mm256_set1_ps(1.0 / scale),
            most: _mm256_set1_ps((high + 1.0) * scale),
            zero_before: _mm256_set1_ps(zero_before.unwrap_or_default()),
            high: _mm256_set1_ps(high),
            low_integer: _mm256_set1_epi16(low as i16),
            high_integer: _mm256_set1_epi16(high as i16),
            zero_after: _mm256_set1_epi16(params.zero_after.get(j).copied().unwrap_or_default() as i16),
            mask: _mm256_set1_epi16((mask & 0xFF) as i16),
        };
        let (x, codes) = (&x[from..to], &mut codes[from..to]);
        let found = match (divide, zero_before) {
            (false, None) => lines::<PRODUCT, false>(x, run, stream, codes),
            (false, Some(_)) => lines::<PRODUCT, true>(x, run, stream, codes),
            (true, None) => match one_correction(scale) {
                Some(true) => lines::<CORRECTED_ONCE, false>(x, run, stream, codes),
                Some(false) => lines::<CORRECTED_TWICE, false>(x, run, stream, codes),
                None => lines::<QUOTIENT, false>(x, run, stream, codes),
            },
            (true, Some(_)) => lines::<QUOTIENT, true>(x, run, stream, codes),
        };
        nan = _mm256_or_ps(nan, found);
    }
    if stream {
        // What went past the caches becomes visible to other threads in the order of the program.
        _mm_sfence();
    }
    Some(_mm256_movemask_ps(nan) != 0)
}

/// A run of values, by whole cache lines of codes if they are to go past the caches. Ends overlap with what lies beside
/// them. Sign bits of the result tell of NaN.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lines<const SCALING: u8, const ZERO: bool>(x: &[f32], run: Run, stream: bool, codes: &mut [u8]) -> __m256 {
    let len = x.len().min(codes.len());
    let (from, to) = (x.as_ptr(), codes.as_mut_ptr());
    let mut nan = _mm256_setzero_ps();
    if len < VECTOR {
        let (mut values, mut bytes) = ([0.0f32; VECTOR], [0u8; VECTOR]);
        values[..len].copy_from_slice(&x[..len]);
        // SAFETY: both arrays have the length of a vector of codes. (Zeros are no NaN, and their codes are not kept.)
        unsafe {
            let block = vector::<SCALING, ZERO>(values.as_ptr(), run, &mut nan);
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), block);
        }
        codes[..len].copy_from_slice(&bytes[..len]);
        return nan;
    }
    let mut at = 0;
    // SAFETY: every access is to `VECTOR` elements from an `at` of at most `len − VECTOR` on; the aligned ones are at
    // addresses that were made multiples of a line.
    unsafe {
        if stream {
            let head = to.align_offset(LINE).min(len);
            while at < head {
                let place = at.min(len - VECTOR);
                _mm256_storeu_si256(
                    to.add(place).cast(),
                    vector::<SCALING, ZERO>(from.add(place), run, &mut nan),
                );
                at += VECTOR;
            }
            at = head;
            while at + LINE <= len {
                let first = vector::<SCALING, ZERO>(from.add(at), run, &mut nan);
                let second = vector::<SCALING, ZERO>(from.add(at + VECTOR), run, &mut nan);
                _mm256_stream_si256(to.add(at).cast(), first);
                _mm256_stream_si256(to.add(at + VECTOR).cast(), second);
                at += LINE;
            }
        } else {
            while at + VECTOR <= len {
                _mm256_storeu_si256(to.add(at).cast(), vector::<SCALING, ZERO>(from.add(at), run, &mut nan));
                at += VECTOR;
            }
        }
        while at < len {
            let place = at.min(len - VECTOR);
            _mm256_storeu_si256(
                to.add(place).cast(),
                vector::<SCALING, ZERO>(from.add(place), run, &mut nan),
            );
            at += VECTOR;
        }
    }
    nan
}

/// The codes of 32 values.
///
/// # Safety
///
/// There are 32 values at `x`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn vector<const SCALING: u8, const ZERO: bool>(x: *const f32, run: Run, nan: &mut __m256) -> __m256i {
    // SAFETY: the caller's promise.
    let x = unsafe {
        [
            _mm256_loadu_ps(x),
            _mm256_loadu_ps(x.add(8)),
            _mm256_loadu_ps(x.add(16)),
            _mm256_loadu_ps(x.add(24)),
        ]
    };
    let scaled = |x: __m256| {
        let v = match SCALING {
            PRODUCT => _mm256_mul_ps(x, run.scale),
            QUOTIENT => _mm256_div_ps(x, run.scale),
            _ => {
                // The second operand where one is NaN.
                let x = _mm256_min_ps(run.most, x);
                let q = _mm256_mul_ps(x, run.inverse);
                let q = _mm256_fmadd_ps(_mm256_fnmadd_ps(q, run.scale, x), run.inverse, q);
                if SCALING == CORRECTED_ONCE {
                    return q;
                }
                return _mm256_fmadd_ps(_mm256_fnmadd_ps(q, run.scale, x), run.inverse, q);
            }
        };
        if ZERO { _mm256_add_ps(v, run.zero_before) } else { v }
    };
    let corrected = SCALING >= CORRECTED_ONCE;
    let v = x.map(scaled);
    let seen = if corrected { x } else { v };
    let first = _mm256_cmp_ps::<_CMP_UNORD_Q>(seen[0], seen[1]);
    let second = _mm256_cmp_ps::<_CMP_UNORD_Q>(seen[2], seen[3]);
    *nan = _mm256_or_ps(*nan, _mm256_or_ps(first, second));
    let integers = v.map(|v| {
        // The second operand where one is NaN.
        let v = if corrected { v } else { _mm256_min_ps(run.high, v) };
        _mm256_cvtps_epi32(v)
    });
    let bounded = |words: __m256i| {
        let words = _mm256_max_epi16(words, run.low_integer);
        let words = if corrected { _mm256_min_epi16(words, run.high_integer) } else { words };
        _mm256_and_si256(_mm256_add_epi16(words, run.zero_after), run.mask)
    };
    let low = bounded(_mm256_packs_epi32(integers[0], integers[1]));
    let high = bounded(_mm256_packs_epi32(integers[2], integers[3]));
    in_order(_mm256_packus_epi16(low, high))
}

/// Bytes that were packed twice within halves, in their order.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(bytes: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Values that have a parameter each, or a scale each and all else in common, and as many codes.
#[target_feature(enable = "avx2,fma")]
fn columns<const SCALING: u8, const COMMON: bool>(
    x: &[f32],
    params: &EncodeParams<'_, f32>,
    mask: u16,
    codes: &mut [u8],
) -> bool {
    let mut len = x.len().min(codes.len()).min(params.scale.len());
    if !COMMON {
        len = len.min(params.low.len()).min(params.high.len());
    }
    let common = [params.low, params.high].map(|all| all.first().copied().unwrap_or_default());
    let [common_low, common_high] = common.map(|bound| _mm256_set1_ps(bound));
    let common_after = _mm256_set1_epi32(params.zero_after.first().copied().unwrap_or_default());
    let before = (params.zero_before.len() >= len).then_some(params.zero_before.as_ptr());
    let after = (params.zero_after.len() >= len).then_some(params.zero_after.as_ptr());
    let mask = _mm256_set1_epi32((mask & 0xFF).into());
    let mut nan = _mm256_setzero_ps();
    // Eight codes from `at` on.
    let mut eight = |at: usize| {
        // SAFETY: `at + 8` is at most the length of every array that is there.
        unsafe {
            let part = |array: *const f32| _mm256_loadu_ps(array.add(at));
            let (x, scale) = (part(x.as_ptr()), part(params.scale.as_ptr()));
            let mut v = if SCALING == PRODUCT { _mm256_mul_ps(x, scale) } else { _mm256_div_ps(x, scale) };
            if let (false, Some(before)) = (COMMON, before) {
                v = _mm256_add_ps(v, part(before));
            }
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            // The second operand where the first is NaN.
            let (low, high) = if COMMON {
                (common_low, common_high)
            } else {
                (part(params.low.as_ptr()), part(params.high.as_ptr()))
            };
            let v = _mm256_min_ps(_mm256_max_ps(v, low), high);
            let mut q = _mm256_cvtps_epi32(v);
            if COMMON {
                q = _mm256_add_epi32(q, common_after);
            } else if let Some(after) = after {
                q = _mm256_add_epi32(q, _mm256_loadu_si256(after.add(at).cast()));
            }
            _mm256_and_si256(q, mask)
        }
    };
    let to = codes.as_mut_ptr();
    let mut at = 0;
    while at + VECTOR <= len {
        let low = _mm256_packs_epi32(eight(at), eight(at + 8));
        let high = _mm256_packs_epi32(eight(at + 16), eight(at + 24));
        let bytes = in_order(_mm256_packus_epi16(low, high));
        // SAFETY: there are 32 codes from `at` on.
        unsafe { _mm256_storeu_si256(to.add(at).cast(), bytes) };
        at += VECTOR;
    }
    // The last eight overlap with those before.
    while at < len && len >= 8 {
        let place = at.min(len - 8);
        let words = _mm256_packs_epi32(eight(place), _mm256_setzero_si256());
        let bytes = in_order(_mm256_packus_epi16(words, words));
        // SAFETY: there are eight codes from `place` on.
        unsafe { _mm_storel_epi64(to.add(place).cast(), _mm256_castsi256_si128(bytes)) };
        at += 8;
    }
    _mm256_movemask_ps(nan) != 0
}
