//! Any values and codes of one byte, at a loop's leisure.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::convert::convert;
use super::super::vector::{Lanes, Vector};
use super::codes::Integers;
use super::{VECTOR, in_order};

/// The parameters of a run, once each.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub scale: f32,
    pub divide: bool,
    pub zero_before: f32,
    pub integers: Integers,
    pub mask: u8,
}

/// Writes the codes of a run; whether any value is NaN.
#[cold]
pub(super) fn careful<V: Vector, A: Lanes>(_: V, x: &[A], entry: Entry, codes: &mut [u8]) -> bool {
    // SAFETY: all machines with vectors have AVX2, FMA and F16C.
    unsafe { by_vectors(x, entry, codes) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn by_vectors<A: Lanes>(x: &[A], entry: Entry, codes: &mut [u8]) -> bool {
    let Entry { divide, integers, .. } = entry;
    let (scale, zero_before) = (_mm256_set1_ps(entry.scale), _mm256_set1_ps(entry.zero_before));
    let (low, high) = (_mm256_set1_epi16(integers.low as i16), _mm256_set1_ps(integers.high));
    let zero_after = _mm256_set1_epi16(integers.zero);
    let mask = _mm256_set1_epi16(entry.mask.into());
    let mut nan = _mm256_setzero_ps();
    for (x, codes) in x.chunks(VECTOR).zip(codes.chunks_mut(VECTOR)) {
        // Where there is no value, a one is NaN only if all are, and its code is not kept.
        let (mut values, mut bytes) = ([1.0f32; VECTOR], [0u8; VECTOR]);
        convert(x, &mut values);
        let mut words = |at: usize| {
            let mut integers = |at: usize| {
                // SAFETY: there are 32 values.
                let x = unsafe { _mm256_loadu_ps(values.as_ptr().add(at)) };
                let v = if divide { _mm256_div_ps(x, scale) } else { _mm256_mul_ps(x, scale) };
                let v = _mm256_add_ps(v, zero_before);
                nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
                // The second operand where one is NaN, which becomes the most negative integer.
                _mm256_cvtps_epi32(_mm256_min_ps(high, v))
            };
            let words = _mm256_max_epi16(_mm256_packs_epi32(integers(at), integers(at + 8)), low);
            _mm256_and_si256(_mm256_add_epi16(words, zero_after), mask)
        };
        let block = in_order(_mm256_packus_epi16(words(0), words(16)));
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), block) };
        codes.copy_from_slice(&bytes[..codes.len()]);
    }
    _mm256_movemask_ps(nan) != 0
}
