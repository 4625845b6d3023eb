//! Blocks of f32 that begin half a vector beside where vectors are aligned, as arrays from an allocator mostly do: half of
//! their vectors would lie across two cache lines, which takes a load twice.
#![allow(unsafe_code)] // loads by pointers

use core::arch::x86_64::*;

use super::magnitudes::SHORT;

/// Values of half a vector, and of a whole one.
const HALF: usize = 4;
const LANES: usize = 8;

/// Whether blocks from `x` on do so.
pub(in crate::kernel) fn begin_beside<A>(x: *const A) -> bool {
    size_of::<A>() == size_of::<f32>() && x.addr() % 32 == 16
}

/// Blocks of 32 values one behind the other, in aligned vectors: the first one of a block holds its last four values in the
/// lower half and its first four in the upper one, and three follow with those between them.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Beside {
    /// In the upper half, the first values of the next block.
    before: __m256,
}

impl Beside {
    /// # Safety
    ///
    /// There is a block at `x`. Only for machines with AVX2, as all of these.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn new<A>(x: *const A) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self { before: _mm256_castsi256_ps(_mm256_broadcastsi128_si256(_mm_loadu_si128(x.cast()))) }
        }
    }

    /// The block at `x`, which is the next one.
    ///
    /// # Safety
    ///
    /// It is, and [begins beside](begin_beside) vectors; if not the `last`, another one follows.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn next<A>(&mut self, x: *const A, last: bool) -> [__m256; 4] {
        let x = x.cast::<f32>();
        // SAFETY: the caller's promise.
        unsafe {
            let behind = x.add(SHORT - HALF);
            // Its last values, and the first ones of the next block.
            let behind =
                if last { _mm256_castps128_ps256(_mm_load_ps(behind)) } else { _mm256_load_ps(behind) };
            let ends = _mm256_blend_ps::<0b1111_0000>(behind, self.before);
            self.before = behind;
            let between = x.add(HALF);
            [
                ends,
                _mm256_load_ps(between),
                _mm256_load_ps(between.add(LANES)),
                _mm256_load_ps(between.add(2 * LANES)),
            ]
        }
    }
}
