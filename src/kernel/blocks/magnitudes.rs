//! The largest magnitudes of short blocks.
//!
//! Magnitudes are in the order of their bits, whatever the type: the largest one is found among integers, of which halves
//! are twice as many to a vector.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use half::{bf16, f16};

use super::beside::Beside;
use crate::kernel::vector::Lanes;

/// Values of a lane.
pub(in crate::kernel) const SHORT: usize = 32;

/// Numbers whose magnitudes are in the order of their bits.
pub(in crate::kernel) trait Values: Lanes {
    /// The largest magnitudes in each lane of 32 values.
    ///
    /// # Safety
    ///
    /// There are 32 numbers at `x`. Only for machines with AVX2.
    unsafe fn magnitudes(x: *const Self) -> __m256i;

    /// The larger magnitudes.
    ///
    /// # Safety
    ///
    /// Only for machines with AVX2.
    unsafe fn larger(a: __m256i, b: __m256i) -> __m256i;

    /// The magnitude of each lane of 32 bits.
    ///
    /// # Safety
    ///
    /// Only for machines with AVX2 and F16C.
    unsafe fn wide(magnitudes: __m256i) -> __m256;
}

impl Values for f32 {
    #[inline(always)]
    unsafe fn magnitudes(x: *const Self) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            largest([
                _mm256_loadu_ps(x),
                _mm256_loadu_ps(x.add(8)),
                _mm256_loadu_ps(x.add(16)),
                _mm256_loadu_ps(x.add(24)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn larger(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_max_epu32(a, b) }
    }

    #[inline(always)]
    unsafe fn wide(magnitudes: __m256i) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_castsi256_ps(magnitudes) }
    }
}

/// In each lane, the largest magnitude of f32 numbers.
///
/// # Safety
///
/// Only for machines with AVX2.
#[inline(always)]
unsafe fn largest([a, b, c, d]: [__m256; 4]) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        // Without a closure, which would be a function without the instructions.
        let mask = _mm256_set1_epi32(i32::MAX);
        let a = _mm256_and_si256(_mm256_castps_si256(a), mask);
        let b = _mm256_and_si256(_mm256_castps_si256(b), mask);
        let c = _mm256_and_si256(_mm256_castps_si256(c), mask);
        let d = _mm256_and_si256(_mm256_castps_si256(d), mask);
        _mm256_max_epu32(_mm256_max_epu32(a, b), _mm256_max_epu32(c, d))
    }
}

/// Of two halves in a lane.
#[inline(always)]
unsafe fn of_halves(x: *const u16) -> __m256i {
    // SAFETY: the caller's promise of 32 numbers and of AVX2.
    unsafe {
        let mask = _mm256_set1_epi16(i16::MAX);
        let a = _mm256_and_si256(_mm256_loadu_si256(x.cast()), mask);
        let b = _mm256_and_si256(_mm256_loadu_si256(x.add(16).cast()), mask);
        _mm256_max_epu16(a, b)
    }
}

/// The larger of the two halves of each lane, in the low half, beside zeros.
#[inline(always)]
unsafe fn of_both(magnitudes: __m256i) -> __m256i {
    // SAFETY: the caller's promise of AVX2.
    unsafe {
        let low = _mm256_and_si256(magnitudes, _mm256_set1_epi32(0xFFFF));
        _mm256_max_epu16(low, _mm256_srli_epi32::<16>(magnitudes))
    }
}

/// [`Values`] for numbers of 16 bits, but for how they are widened.
macro_rules! halves {
    ($half:ty, |$magnitudes:ident| $wide:expr) => {
        impl Values for $half {
            #[inline(always)]
            unsafe fn magnitudes(x: *const Self) -> __m256i {
                // SAFETY: the caller's promise.
                unsafe { of_halves(x.cast()) }
            }

            #[inline(always)]
            unsafe fn larger(a: __m256i, b: __m256i) -> __m256i {
                // SAFETY: the caller's promise.
                unsafe { _mm256_max_epu16(a, b) }
            }

            #[inline(always)]
            unsafe fn wide(magnitudes: __m256i) -> __m256 {
                // SAFETY: the caller's promise.
                unsafe {
                    let $magnitudes = of_both(magnitudes);
                    $wide
                }
            }
        }
    };
}

halves! {
    f16,
    |most| _mm256_cvtph_ps(_mm_packus_epi32(
        _mm256_castsi256_si128(most),
        _mm256_extracti128_si256::<1>(most),
    ))
}

halves! {
    bf16,
    |most| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(most))
}

/// The largest magnitudes of four times 32 values: those of each in a lane, of the first and of the second half.
///
/// # Safety
///
/// There are 128 values at `x`, which [begin beside](super::beside::begin_beside) vectors if `BESIDE`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel) unsafe fn four<A: Values, const BESIDE: bool>(x: *const A) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let [a, b, c, d] = if BESIDE {
            // Without a closure, as above.
            let mut blocks = Beside::new(x);
            let a = largest(blocks.next(x, false));
            let b = largest(blocks.next(x.add(SHORT), false));
            let c = largest(blocks.next(x.add(2 * SHORT), false));
            [a, b, c, largest(blocks.next(x.add(3 * SHORT), true))]
        } else {
            [0, 1, 2, 3].map(|j| A::magnitudes(x.add(SHORT * j)))
        };
        let singles = |a, b| A::larger(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (ab, cd) = (singles(a, b), singles(c, d));
        A::larger(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
    }
}

/// The magnitude of the block of each lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernel) fn joined<A: Values>(magnitudes: __m256i, width: usize) -> __m256 {
    // SAFETY: the machine has what this function asks for.
    unsafe {
        let mut all = magnitudes;
        if width > SHORT {
            all = A::larger(all, _mm256_shuffle_epi32::<0b10_11_00_01>(all));
        }
        if width > 2 * SHORT {
            all = A::larger(all, _mm256_shuffle_epi32::<0b01_00_11_10>(all));
        }
        if width > 4 * SHORT {
            all = A::larger(all, _mm256_permute2x128_si256::<1>(all, all));
        }
        A::wide(all)
    }
}
