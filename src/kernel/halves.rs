//! Numbers of f16 and bf16 that vectors of f32 are rounded to, and how they are written by whole cache lines.
#![allow(unsafe_code)] // intrinsics, and stores on pointers

use core::arch::x86_64::*;

use half::{bf16, f16};

use super::convert::upper_halves;
use super::lanes::{Lanes, pair_rounded, sixteen_rounded};

/// Numbers of 16 bits.
pub(super) trait Half: Lanes {
    /// Whether values that do not fit are beyond the range, and held within it.
    const HELD: bool;

    /// Rounds to the nearest, as [`convert`](super::convert::convert) does, but for what is held. If `FIT`, numbers do
    /// as [`Lanes::fit`] says, or none is to be held.
    ///
    /// # Safety
    ///
    /// Only for machines with AVX-512 F, BW, VL and DQ.
    unsafe fn rounded<const FIT: bool>(x: __m512) -> __m256i;

    /// As [`rounded`](Self::rounded), of the first eight numbers and the others. If `FIT`, there is none to be held, and
    /// none that is NaN.
    ///
    /// # Safety
    ///
    /// Only for machines with AVX2 and F16C.
    unsafe fn both_rounded<const FIT: bool>(a: __m256, b: __m256) -> __m256i;

    /// As [`rounded`](Self::rounded), of the first sixteen numbers and the others.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    unsafe fn words<const FIT: bool>(front: __m512, back: __m512) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { joined(Self::rounded::<FIT>(front), Self::rounded::<FIT>(back)) }
    }
}

/// Two vectors, one behind the other.
///
/// # Safety
///
/// Only for machines with AVX-512 F.
#[inline(always)]
unsafe fn joined(front: __m256i, back: __m256i) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_inserti64x4::<1>(_mm512_castsi256_si512(front), back) }
}

impl Half for f16 {
    const HELD: bool = true;

    #[inline(always)]
    unsafe fn rounded<const FIT: bool>(x: __m512) -> __m256i {
        let (low, high) = (Self::MIN.to_f32_const(), Self::MAX.to_f32_const());
        // SAFETY: the caller's promise. The second operand where it is NaN.
        unsafe {
            let within = _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), x));
            _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(if FIT { x } else { within })
        }
    }

    #[inline(always)]
    unsafe fn both_rounded<const FIT: bool>(a: __m256, b: __m256) -> __m256i {
        let (low, high) = (Self::MIN.to_f32_const(), Self::MAX.to_f32_const());
        // SAFETY: as above.
        unsafe {
            let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
            let (mut a, mut b) = (a, b);
            if !FIT {
                a = _mm256_min_ps(high, _mm256_max_ps(low, a));
                b = _mm256_min_ps(high, _mm256_max_ps(low, b));
            }
            let a = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a);
            _mm256_set_m128i(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(b), a)
        }
    }
}

impl Half for bf16 {
    const HELD: bool = false;

    #[inline(always)]
    unsafe fn rounded<const FIT: bool>(x: __m512) -> __m256i {
        // SAFETY: the caller's promise; numbers fit only where the machine has the instruction.
        unsafe {
            if FIT {
                return sixteen_rounded(x);
            }
            let bits = _mm512_castps_si512(x);
            let upper = _mm512_srli_epi32::<16>(bits);
            let odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
            let most = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF));
            let nearest = _mm512_srli_epi32::<16>(_mm512_add_epi32(most, odd));
            // NaN stays NaN, and quiet.
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            let words = _mm512_mask_or_epi32(nearest, nan, upper, _mm512_set1_epi32(0x40));
            _mm512_cvtepi32_epi16(words)
        }
    }

    #[inline(always)]
    unsafe fn words<const FIT: bool>(front: __m512, back: __m512) -> __m512i {
        // SAFETY: as above.
        unsafe {
            if FIT {
                pair_rounded(front, back)
            } else {
                joined(Self::rounded::<FIT>(front), Self::rounded::<FIT>(back))
            }
        }
    }

    #[inline(always)]
    unsafe fn both_rounded<const FIT: bool>(a: __m256, b: __m256) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            // Packing works in halves.
            let words = if FIT {
                let (one, most) = (_mm256_set1_epi32(1), _mm256_set1_epi32(0x7FFF));
                let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
                let odd_a = _mm256_and_si256(_mm256_srli_epi32::<16>(a), one);
                let odd_b = _mm256_and_si256(_mm256_srli_epi32::<16>(b), one);
                let (a, b) = (_mm256_add_epi32(a, most), _mm256_add_epi32(b, most));
                let (a, b) = (_mm256_add_epi32(a, odd_a), _mm256_add_epi32(b, odd_b));
                _mm256_packus_epi32(_mm256_srli_epi32::<16>(a), _mm256_srli_epi32::<16>(b))
            } else {
                _mm256_packus_epi32(upper_halves(a), upper_halves(b))
            };
            _mm256_permute4x64_epi64::<0b11_01_10_00>(words)
        }
    }
}

/// Numbers of a vector of 512 bits, and of a cache line.
pub(super) const WORDS: usize = 32;

/// Vectors of 16-bit numbers on their way to memory, which they reach as whole cache lines wherever the first one begins: a
/// store across two lines costs twice, and one past the caches of a part of a line is a store of its own.
pub(super) struct Words {
    /// The line that comes next.
    to: *mut u16,
    /// The latest vector, of which the end is not written yet.
    last: __m512i,
    /// Where the numbers of that line are: among those of the latest vector and the next one.
    order: __m512i,
    /// Numbers before the first line.
    head: u32,
}

impl Words {
    /// The `first` vector, whose place begins at `to`.
    ///
    /// # Safety
    ///
    /// There is room for it. Only for machines with AVX-512 F and BW, as all of these.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn begin(to: *mut u16, first: __m512i) -> Self {
        let head = to.addr().wrapping_neg() % 64 / 2;
        let places: [u16; WORDS] = core::array::from_fn(|place| (head + place) as u16);
        // SAFETY: a vector, and the caller's promise: nothing behind the first `head` numbers is written.
        unsafe {
            let order = _mm512_loadu_si512(places.as_ptr().cast());
            _mm512_mask_storeu_epi16(to.cast(), (1 << head) - 1, first);
            Self { to: to.add(head), last: first, order, head: head as u32 }
        }
    }

    /// The next vector; what goes past the caches if `stream` needs a fence behind it.
    ///
    /// # Safety
    ///
    /// There is room for it behind those before.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn put(&mut self, next: __m512i, stream: bool) {
        let line = _mm512_permutex2var_epi16(self.last, self.order, next);
        // SAFETY: the line ends where the place of the next vector does, or before.
        unsafe {
            if stream {
                _mm512_stream_si512(self.to.cast(), line);
            } else {
                _mm512_store_si512(self.to.cast(), line);
            }
            self.to = self.to.add(WORDS);
        }
        self.last = next;
    }

    /// Writes what is left of the last vector.
    ///
    /// # Safety
    ///
    /// As above.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn finish(self) {
        let line = _mm512_permutexvar_epi16(self.order, self.last);
        // SAFETY: as many numbers as the last vector has behind the last line.
        unsafe { _mm512_mask_storeu_epi16(self.to.cast(), u32::MAX >> self.head, line) };
    }
}
