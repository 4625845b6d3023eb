//! Values that have parameters of their own each, as the columns of a row.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::stream;
use super::super::vector::vectorized;
use super::codes::{ANY, Codes, Integers, SIGNED, UNSIGNED};
use super::lines::{Columns, LINE, lines};
use super::{EncodeParams, VECTOR, in_order};

/// Codes from which on it pays to begin where a line of the caches does, and to wait for all to be written.
const STREAMED: usize = 1024;

/// As [`columns`] with a scale each and all else in common, past the caches if `stream`.
pub(super) fn common(
    x: &[f32],
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    let len = x.len().min(codes.len()).min(params.scale.len());
    let (x, codes) = (&x[..len], &mut codes[..len]);
    let each = |to: usize, codes: &mut [u8]| {
        let params = EncodeParams { scale: &params.scale[..to], ..*params };
        // SAFETY: the level, which the caller has asked for, says that the machine has AVX2 and FMA.
        unsafe {
            if divide {
                columns::<true, true>(&x[..to], &params, mask, &mut codes[..to])
            } else {
                columns::<false, true>(&x[..to], &params, mask, &mut codes[..to])
            }
        }
    };
    let stream = stream && len >= STREAMED;
    // What goes past the caches does so by whole lines, and eight before these are the fewest.
    let head = if stream { codes.as_ptr().align_offset(LINE).min(len) } else { 0 };
    let nan = head > 0 && each(head.max(8), codes);
    let kind = (divide, mask as u8);
    match rest(super::super::level(), &x[head..], params, head, kind, stream, &mut codes[head..]) {
        Some(true) => nan,
        _ => each(len, codes),
    }
}

vectorized! {
    /// The codes of values whose scales begin with the one at `first`. `false` where that is beyond what this loop can do,
    /// or a value shows that is NaN or too large, and codes do not count.
    fn rest<V>[](
        v,
        x: &[f32],
        params: &EncodeParams<'_, f32>,
        first: usize,
        kind: (bool, u8),
        stream: bool,
        codes: &mut [u8],
    ) -> bool {
        let Some(scale) = params.scale.get(first..).filter(|scale| scale.len() >= x.len()) else { return false };
        let (divide, mask) = kind;
        let integers = Integers {
            low: params.low.first().copied().unwrap_or_default(),
            high: params.high.first().copied().unwrap_or_default(),
            zero: params.zero_after.first().copied().unwrap_or_default() as i16,
        };
        // Bounds that are integers of 16 bits, with one to spare.
        let within = integers.low.abs() <= 32_000.0 && integers.high.abs() <= 32_000.0;
        let codes_of = Codes::of(v, integers, mask);
        let (Some(codes_of), true, true) = (codes_of, within, x.len() >= V::BYTES) else { return false };
        let (low, high, zero) = (integers.low, integers.high, f32::from(integers.zero));
        let signed = high == 127.0 && (-128.0..0.0).contains(&low) && zero == 0.0 && mask == u8::MAX;
        let unsigned = low == -zero && high == 255.0 - zero && mask == u8::MAX;
        let scale = scale.as_ptr();
        let done = match (divide, signed, unsigned) {
            (true, true, _) => lines::<V, f32, _, SIGNED>(v, x, Columns::<true>(scale), codes_of, stream, codes),
            (true, _, true) => lines::<V, f32, _, UNSIGNED>(v, x, Columns::<true>(scale), codes_of, stream, codes),
            (true, ..) => lines::<V, f32, _, ANY>(v, x, Columns::<true>(scale), codes_of, stream, codes),
            (false, true, _) => lines::<V, f32, _, SIGNED>(v, x, Columns::<false>(scale), codes_of, stream, codes),
            (false, _, true) => lines::<V, f32, _, UNSIGNED>(v, x, Columns::<false>(scale), codes_of, stream, codes),
            (false, ..) => lines::<V, f32, _, ANY>(v, x, Columns::<false>(scale), codes_of, stream, codes),
        };
        if stream {
            // What went past the caches becomes visible to other threads in the order of the program.
            stream::finish();
        }
        done
    }
}

/// Values that have a parameter each, or a scale each and all else in common, and as many codes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn columns<const DIVIDE: bool, const COMMON: bool>(
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
            let mut v = if DIVIDE { _mm256_div_ps(x, scale) } else { _mm256_mul_ps(x, scale) };
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
