//! Numbers of f32, f16 and bf16, read and written in registers.
#![allow(unsafe_code)] // intrinsics

use core::arch::asm;
use core::arch::x86_64::*;

use half::{bf16, f16};

use super::convert::Eight;
use super::stream;
use crate::simd::Level;

/// Numbers that are read as vectors of f32, and written from these, which are no NaN: rounded to the nearest, and held
/// within the range of f16 if they are such numbers. What passes by the caches needs a fence before other threads may see it.
pub(super) trait Lanes: Eight {
    /// Numbers of a line of the caches.
    const LINE: usize = 64 / size_of::<Self>();

    /// Bits of a significand.
    const SIGNIFICAND: u32;

    /// The upper 16 bits of infinity.
    const INFINITY: u16;

    /// The upper 16 bits, which are all of a number of 16 bits.
    fn word(self) -> u16;

    /// The number with these upper 16 bits, and no others.
    ///
    /// # Safety
    ///
    /// Only for machines with F16C.
    unsafe fn of_word(word: u16) -> f32;

    /// # Safety
    ///
    /// There are sixteen numbers at `from`. Only for machines of [`Level::Avx512`].
    unsafe fn sixteen(from: *const Self) -> __m512;

    /// Whether two vectors are read as the numbers of even places and those of odd ones, which takes less, rather than one
    /// after the other.
    const READ_IN_TURNS: bool = false;

    /// Whether reading them takes so long that vectors of 512 bits gain nothing, as processors convert these in more steps.
    const CONVERTED: bool = false;

    /// Sixteen numbers in two vectors.
    ///
    /// # Safety
    ///
    /// There are as many numbers at `from`. Only for machines of [`Level::Avx2`].
    #[inline(always)]
    unsafe fn two_eights(from: *const Self) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe { [Self::eight(from), Self::eight(from.add(8))] }
    }

    /// Thirty-two numbers in two vectors.
    ///
    /// # Safety
    ///
    /// There are as many numbers at `from`. Only for machines of [`Level::Avx512`].
    #[inline(always)]
    unsafe fn two_sixteens(from: *const Self) -> [__m512; 2] {
        // SAFETY: the caller's promise.
        unsafe { [Self::sixteen(from), Self::sixteen(from.add(16))] }
    }

    /// As [`two_eights`](Self::two_eights), of numbers of 16 bits that are held between a negative and a positive one, whose
    /// bits are in every word of `ends`. What becomes of NaN is none.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    unsafe fn two_eights_within(from: *const Self, _: [__m256i; 2]) -> [__m256; 2] {
        debug_assert!(size_of::<Self>() != size_of::<u16>());
        // SAFETY: the caller's promise.
        unsafe { Self::two_eights(from) }
    }

    /// As [`two_eights_within`](Self::two_eights_within), of [`two_sixteens`](Self::two_sixteens).
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    unsafe fn two_sixteens_within(from: *const Self, _: [__m512i; 2]) -> [__m512; 2] {
        debug_assert!(size_of::<Self>() != size_of::<u16>());
        // SAFETY: the caller's promise.
        unsafe { Self::two_sixteens(from) }
    }

    /// Whether numbers of at most `most` in magnitude, and at least `least` but for zeros, `fit`: need less than others to
    /// be written here.
    fn fit(least: f32, most: f32) -> bool;

    /// # Safety
    ///
    /// There is room for eight numbers at `to`, which is a multiple of 16 if `STREAM`; they are said to fit only where
    /// [`fit`](Self::fit) does. Only for machines of [`Level::Avx2`].
    unsafe fn put_eight<const STREAM: bool>(to: *mut Self, x: __m256, fit: bool);

    /// Whether [`put_two`](Self::put_two) takes numbers of even places and those of odd ones, where they do not fit, rather
    /// than the first eight and the others.
    const IN_TURNS: bool = false;

    /// Sixteen numbers.
    ///
    /// # Safety
    ///
    /// As [`put_eight`](Self::put_eight), with room for sixteen.
    #[inline(always)]
    unsafe fn put_two<const STREAM: bool>(to: *mut Self, a: __m256, b: __m256, fit: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            Self::put_eight::<STREAM>(to, a, fit);
            Self::put_eight::<STREAM>(to.add(8), b, fit);
        }
    }

    /// # Safety
    ///
    /// There is room for sixteen numbers at `to`, which is a multiple of their bytes if `STREAM`; they are said to fit as
    /// for [`put_eight`](Self::put_eight). Only for machines of [`Level::Avx512`].
    unsafe fn put_sixteen<const STREAM: bool>(to: *mut Self, x: __m512, fit: bool);

    /// Sixteen numbers as [`two_eights`](Self::two_eights) reads them.
    ///
    /// # Safety
    ///
    /// As [`put_two`](Self::put_two).
    #[inline(always)]
    unsafe fn put_two_eights<const STREAM: bool>(to: *mut Self, [a, b]: [__m256; 2], fit: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            Self::put_eight::<STREAM>(to, a, fit);
            Self::put_eight::<STREAM>(to.add(8), b, fit);
        }
    }

    /// Thirty-two numbers as [`two_sixteens`](Self::two_sixteens) reads them.
    ///
    /// # Safety
    ///
    /// As [`put_sixteen`](Self::put_sixteen), with room for thirty-two.
    #[inline(always)]
    unsafe fn put_two_sixteens<const STREAM: bool>(to: *mut Self, [a, b]: [__m512; 2], fit: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            Self::put_sixteen::<STREAM>(to, a, fit);
            Self::put_sixteen::<STREAM>(to.add(16), b, fit);
        }
    }
}

impl Lanes for f32 {
    const SIGNIFICAND: u32 = Self::MANTISSA_DIGITS;
    const INFINITY: u16 = (Self::INFINITY.to_bits() >> 16) as u16;

    fn word(self) -> u16 {
        (self.to_bits() >> 16) as u16
    }

    #[inline(always)]
    unsafe fn of_word(word: u16) -> f32 {
        f32::from_bits(u32::from(word) << 16)
    }

    fn fit(_: f32, _: f32) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn sixteen(from: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn put_eight<const STREAM: bool>(to: *mut Self, x: __m256, _: bool) {
        // SAFETY: the caller's promise.
        unsafe { stream::store::<STREAM>(to, x) }
    }

    #[inline(always)]
    unsafe fn put_sixteen<const STREAM: bool>(to: *mut Self, x: __m512, _: bool) {
        // SAFETY: the caller's promise.
        unsafe { if STREAM { _mm512_stream_ps(to, x) } else { _mm512_storeu_ps(to, x) } }
    }
}

impl Lanes for f16 {
    const SIGNIFICAND: u32 = Self::MANTISSA_DIGITS;
    const INFINITY: u16 = Self::INFINITY.to_bits();
    const CONVERTED: bool = true;

    fn word(self) -> u16 {
        self.to_bits()
    }

    #[inline(always)]
    unsafe fn of_word(word: u16) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(word)))) }
    }

    #[inline(always)]
    unsafe fn two_eights_within(from: *const Self, [low, high]: [__m256i; 2]) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let (low, high) = (_mm256_castsi256_si128(low), _mm256_castsi256_si128(high));
            let front = _mm_min_epi16(_mm_min_epu16(_mm_loadu_si128(from.cast()), low), high);
            let back = _mm_min_epi16(_mm_min_epu16(_mm_loadu_si128(from.add(8).cast()), low), high);
            [_mm256_cvtph_ps(front), _mm256_cvtph_ps(back)]
        }
    }

    #[inline(always)]
    unsafe fn two_sixteens_within(from: *const Self, [low, high]: [__m512i; 2]) -> [__m512; 2] {
        // SAFETY: as above.
        unsafe {
            let (low, high) = (_mm512_castsi512_si256(low), _mm512_castsi512_si256(high));
            let front = _mm256_min_epi16(_mm256_min_epu16(_mm256_loadu_si256(from.cast()), low), high);
            let back = _mm256_min_epi16(_mm256_min_epu16(_mm256_loadu_si256(from.add(16).cast()), low), high);
            [_mm512_cvtph_ps(front), _mm512_cvtph_ps(back)]
        }
    }

    /// Within the range.
    fn fit(_: f32, most: f32) -> bool {
        most <= Self::MAX.to_f32_const()
    }

    #[inline(always)]
    unsafe fn sixteen(from: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn put_eight<const STREAM: bool>(to: *mut Self, x: __m256, fit: bool) {
        let (low, high) = (Self::MIN.to_f32_const(), Self::MAX.to_f32_const());
        // SAFETY: the caller's promise. The second operand where it is NaN.
        unsafe {
            let x = if fit {
                x
            } else {
                _mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), x))
            };
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x);
            if STREAM { _mm_stream_si128(to.cast(), halves) } else { _mm_storeu_si128(to.cast(), halves) }
        }
    }

    #[inline(always)]
    unsafe fn put_sixteen<const STREAM: bool>(to: *mut Self, x: __m512, fit: bool) {
        let (low, high) = (Self::MIN.to_f32_const(), Self::MAX.to_f32_const());
        // SAFETY: as above.
        unsafe {
            let x = if fit {
                x
            } else {
                _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), x))
            };
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x);
            if STREAM {
                _mm256_stream_si256(to.cast(), halves)
            } else {
                _mm256_storeu_si256(to.cast(), halves)
            }
        }
    }
}

impl Lanes for bf16 {
    const SIGNIFICAND: u32 = Self::MANTISSA_DIGITS;
    const INFINITY: u16 = Self::INFINITY.to_bits();
    const READ_IN_TURNS: bool = true;

    fn word(self) -> u16 {
        self.to_bits()
    }

    #[inline(always)]
    unsafe fn of_word(word: u16) -> f32 {
        f32::from_bits(u32::from(word) << 16)
    }

    #[inline(always)]
    unsafe fn two_eights(from: *const Self) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe { eights_of_turns(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn two_sixteens(from: *const Self) -> [__m512; 2] {
        // SAFETY: as above.
        unsafe { sixteens_of_turns(_mm512_loadu_si512(from.cast())) }
    }

    #[inline(always)]
    unsafe fn two_eights_within(from: *const Self, [low, high]: [__m256i; 2]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe {
            let words = _mm256_min_epu16(_mm256_loadu_si256(from.cast()), low);
            eights_of_turns(_mm256_min_epi16(words, high))
        }
    }

    #[inline(always)]
    unsafe fn two_sixteens_within(from: *const Self, [low, high]: [__m512i; 2]) -> [__m512; 2] {
        // SAFETY: as above.
        unsafe {
            let words = _mm512_min_epu16(_mm512_loadu_si512(from.cast()), low);
            sixteens_of_turns(_mm512_min_epi16(words, high))
        }
    }

    /// Normal numbers, where the machine rounds these itself: it takes others for zeros.
    fn fit(least: f32, _: f32) -> bool {
        least >= f32::MIN_POSITIVE
            && super::level() >= Level::Avx512
            && std::arch::is_x86_feature_detected!("avx512bf16")
    }

    #[inline(always)]
    unsafe fn sixteen(from: *const Self) -> __m512 {
        // SAFETY: the caller's promise. They are the upper halves of the same numbers of f32.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn put_eight<const STREAM: bool>(to: *mut Self, x: __m256, fit: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            if fit {
                let words = eight_rounded(x);
                return if STREAM {
                    _mm_stream_si128(to.cast(), words)
                } else {
                    _mm_storeu_si128(to.cast(), words)
                };
            }
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let most = _mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF));
            let upper = _mm256_srli_epi32::<16>(_mm256_add_epi32(most, odd));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(upper, upper));
            let words = _mm256_castsi256_si128(words);
            if STREAM { _mm_stream_si128(to.cast(), words) } else { _mm_storeu_si128(to.cast(), words) }
        }
    }

    const IN_TURNS: bool = true;

    #[inline(always)]
    unsafe fn put_two<const STREAM: bool>(to: *mut Self, a: __m256, b: __m256, fit: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            if fit {
                Self::put_eight::<STREAM>(to, a, fit);
                return Self::put_eight::<STREAM>(to.add(8), b, fit);
            }
            Self::put_two_eights::<STREAM>(to, [a, b], fit);
        }
    }

    #[inline(always)]
    unsafe fn put_two_eights<const STREAM: bool>(to: *mut Self, [even, odd]: [__m256; 2], fit: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            let (low, high) = if fit {
                let (even, odd) = (eight_rounded(even), eight_rounded(odd));
                (_mm_unpacklo_epi16(even, odd), _mm_unpackhi_epi16(even, odd))
            } else {
                let (even, odd) = (_mm256_castps_si256(even), _mm256_castps_si256(odd));
                let (one, most) = (_mm256_set1_epi32(1), _mm256_set1_epi32(0x7FFF));
                let last = _mm256_and_si256(_mm256_srli_epi32::<16>(even), one);
                let low = _mm256_srli_epi32::<16>(_mm256_add_epi32(_mm256_add_epi32(even, most), last));
                let last = _mm256_and_si256(_mm256_srli_epi32::<16>(odd), one);
                let high = _mm256_add_epi32(_mm256_add_epi32(odd, most), last);
                let words = _mm256_blend_epi16::<0b1010_1010>(low, high);
                if !STREAM {
                    return _mm256_storeu_si256(to.cast(), words);
                }
                (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words))
            };
            if STREAM {
                _mm_stream_si128(to.cast(), low);
                _mm_stream_si128(to.add(8).cast(), high);
            } else {
                _mm_storeu_si128(to.cast(), low);
                _mm_storeu_si128(to.add(8).cast(), high);
            }
        }
    }

    #[inline(always)]
    unsafe fn put_two_sixteens<const STREAM: bool>(to: *mut Self, [even, odd]: [__m512; 2], fit: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            let words = if fit {
                turns_rounded(even, odd)
            } else {
                let (even, odd) = (_mm512_castps_si512(even), _mm512_castps_si512(odd));
                let (one, most) = (_mm512_set1_epi32(1), _mm512_set1_epi32(0x7FFF));
                let last = _mm512_and_si512(_mm512_srli_epi32::<16>(even), one);
                let low = _mm512_srli_epi32::<16>(_mm512_add_epi32(_mm512_add_epi32(even, most), last));
                let last = _mm512_and_si512(_mm512_srli_epi32::<16>(odd), one);
                let high = _mm512_add_epi32(_mm512_add_epi32(odd, most), last);
                _mm512_mask_blend_epi16(0xAAAA_AAAA, low, high)
            };
            if STREAM { _mm512_stream_si512(to.cast(), words) } else { _mm512_storeu_si512(to.cast(), words) }
        }
    }

    #[inline(always)]
    unsafe fn put_sixteen<const STREAM: bool>(to: *mut Self, x: __m512, fit: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            if fit {
                let words = sixteen_rounded(x);
                return if STREAM {
                    _mm256_stream_si256(to.cast(), words)
                } else {
                    _mm256_storeu_si256(to.cast(), words)
                };
            }
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let most = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF));
            let words = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_add_epi32(most, odd)));
            if STREAM { _mm256_stream_si256(to.cast(), words) } else { _mm256_storeu_si256(to.cast(), words) }
        }
    }
}

/// Numbers of bf16 at even places and those at odd ones: they are the upper halves of the same numbers of f32.
///
/// # Safety
///
/// The machine has AVX2.
#[inline(always)]
unsafe fn eights_of_turns(words: __m256i) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let odd = _mm256_and_si256(words, _mm256_set1_epi32(i32::from(u16::MAX) << 16));
        [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), _mm256_castsi256_ps(odd)]
    }
}

/// As [`eights_of_turns`].
///
/// # Safety
///
/// The machine has AVX-512 F.
#[inline(always)]
unsafe fn sixteens_of_turns(words: __m512i) -> [__m512; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let odd = _mm512_and_si512(words, _mm512_set1_epi32(i32::from(u16::MAX) << 16));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(odd)]
    }
}

/// Normal numbers and zeros to the nearest of bf16, ties to even. No level has the instruction, so none would compile its
/// intrinsic to more than a call.
///
/// # Safety
///
/// The machine has AVX-512 VL and BF16.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn eight_rounded(x: __m256) -> __m128i {
    let words: __m128i;
    // SAFETY: the caller's promise. It reads and writes nothing but registers.
    unsafe {
        asm!("vcvtneps2bf16 {}, {}", lateout(xmm_reg) words, in(ymm_reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    words
}

/// As [`eight_rounded`].
///
/// # Safety
///
/// The machine has AVX-512 BF16.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn sixteen_rounded(x: __m512) -> __m256i {
    let words: __m256i;
    // SAFETY: as above.
    unsafe {
        asm!("vcvtneps2bf16 {}, {}", lateout(ymm_reg) words, in(zmm_reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    words
}

/// As [`eight_rounded`], of two vectors one behind the other.
///
/// # Safety
///
/// The machine has AVX-512 BF16.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn pair_rounded(front: __m512, back: __m512) -> __m512i {
    let words: __m512i;
    // SAFETY: as above.
    unsafe {
        asm!("vcvtne2ps2bf16 {}, {}, {}", lateout(zmm_reg) words, in(zmm_reg) back, in(zmm_reg) front, options(pure, nomem, nostack, preserves_flags));
    }
    words
}

/// As [`pair_rounded`], of numbers of even places and those of odd ones, in their order.
///
/// # Safety
///
/// The machine has AVX-512 BW and BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn turns_rounded(even: __m512, odd: __m512) -> __m512i {
    let turns: [u16; 32] = core::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: the caller's promise, and as many words as a vector has.
    unsafe { _mm512_permutexvar_epi16(_mm512_loadu_si512(turns.as_ptr().cast()), pair_rounded(even, odd)) }
}

#[cfg(test)]
mod tests;
