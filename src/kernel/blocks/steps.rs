//! Scales and codes of short blocks in one pass over memory, a few blocks at a time.
//!
//! Values of a step are read twice, the second time from the first-level cache: first the largest magnitudes of all its
//! blocks are found, then their scales, then the codes. Many scales are found together, so that none waits for another;
//! between single blocks, divisions that wait for each other would take longer than all the rest.
#![allow(unsafe_code)] // pointers to parts of a step

use core::arch::x86_64::*;

use super::ScalePlaces;
use super::beside::begin_beside;
use super::magnitudes::{SHORT, Values, four, joined};
use crate::kernel::{prefetch, stream};

/// Values that scales are found for in one vector: of one each for 32 of them.
const BATCH: usize = SHORT * LANES;

/// Lanes of a vector.
const LANES: usize = 8;

/// Blocks of 32 values whose codes are found together.
pub(in crate::kernel) const GROUPS: usize = LANES / 2;

/// Batches of a step at most: where nothing comes from memory.
const BATCHES: usize = 8;

/// Bytes of the values of a step, where they come from memory: more would leave what asks ahead without work.
const FROM_MEMORY: usize = 2048;

/// How blocks get scales and codes. Everything is for machines with AVX2, FMA and F16C, and the instructions that the
/// method itself is for.
pub(in crate::kernel) trait Method<A>: Copy {
    /// Codes in a byte.
    const PER_BYTE: usize;

    /// Scales of magnitudes, and where they are everyday ones.
    ///
    /// # Safety
    ///
    /// Only for the machines above, as all methods are.
    unsafe fn scales(self, magnitudes: __m256) -> (__m256, __m256);

    /// What codes take of scales beside them, by lanes; and the lanes that are none of the usual.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn words(self, scales: __m256) -> (__m256i, i32);

    /// Writes the codes of four times 32 values.
    ///
    /// # Safety
    ///
    /// There are as many values at `x`, which [begin beside](begin_beside) vectors if `BESIDE`, and places for their codes at
    /// `to`, a multiple of 16 if `STREAM`.
    unsafe fn codes<const STREAM: bool, const BESIDE: bool>(
        self,
        x: *const A,
        blocks: Grids<'_>,
        to: *mut u8,
    );
}

/// What is known of four times 32 values before their codes.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Grids<'a> {
    pub scales: &'a [f32; GROUPS],
    pub words: &'a [u32; GROUPS],
    /// The lowest four bits: which are none of the usual.
    pub unusual: i32,
}

/// Writes the scale of each block of `width` values, of which the last may be shorter, and the packed codes of all values,
/// which there are places for. Whether all scales are everyday ones; nothing written counts otherwise.
///
/// # Safety
///
/// The machine has what `method` is for, AVX2, FMA and F16C among it, and so has the function that this is inlined into.
/// Places for codes are multiples of 16 bytes if `STREAM`.
#[inline(always)]
pub(in crate::kernel) unsafe fn encode<A: Values, M: Method<A>, const STREAM: bool>(
    method: M,
    x: &[A],
    width: usize,
    mut scales: ScalePlaces<'_>,
    codes: &mut [u8],
) -> bool {
    let (whole, rest) = x.as_chunks::<BATCH>();
    let (codes, last) = codes.split_at_mut(whole.len() * BATCH / M::PER_BYTE);
    // SAFETY: the caller's promise.
    let usual = unsafe {
        if begin_beside(x.as_ptr()) {
            steps::<A, M, STREAM, true>(method, whole, width, (&mut scales, 0), codes)
        } else {
            steps::<A, M, STREAM, false>(method, whole, width, (&mut scales, 0), codes)
        }
    };
    if !usual {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    // What is left is in a place of its own, where zeros follow.
    let (mut batch, mut bytes) = ([[A::default(); BATCH]; 1], Bytes([0; BATCH]));
    batch.as_flattened_mut()[..rest.len()].copy_from_slice(rest);
    let first = whole.len() * BATCH / width;
    // SAFETY: as above.
    let usual =
        unsafe { steps::<A, M, STREAM, false>(method, &batch, width, (&mut scales, first), &mut bytes.0) };
    if STREAM {
        stream::finish();
    }
    let used = rest.len().div_ceil(M::PER_BYTE);
    last[..used].copy_from_slice(&bytes.0[..used]);
    if M::PER_BYTE == 2 && !rest.len().is_multiple_of(2) {
        // Bits after the last code are zero.
        last[used - 1] &= 0x0F;
    }
    usual
}

/// Places for the codes of a batch.
#[repr(align(64))]
struct Bytes([u8; BATCH]);

/// What a step knows of its blocks, by lanes. The alignment is one for the stack, and so for all vectors that are kept there:
/// what is read of a store across two cache lines waits until it and all before it are done, those past the caches too.
#[repr(align(64))]
struct Lanes {
    scales: [[f32; LANES]; BATCHES],
    words: [[u32; LANES]; BATCHES],
    unusual: [i32; BATCHES],
}

/// As [`encode`], of whole batches, whose first block has the scale at `first`.
///
/// # Safety
///
/// As there; values [begin beside](begin_beside) vectors if `BESIDE`.
#[inline(always)]
unsafe fn steps<A: Values, M: Method<A>, const STREAM: bool, const BESIDE: bool>(
    method: M,
    x: &[[A; BATCH]],
    width: usize,
    (places, first): (&mut ScalePlaces<'_>, usize),
    codes: &mut [u8],
) -> bool {
    let step = if STREAM { FROM_MEMORY / size_of::<[A; BATCH]>() } else { BATCHES };
    let bytes = BATCH / M::PER_BYTE;
    let mut lanes =
        Lanes { scales: [[0.0; LANES]; BATCHES], words: [[0; LANES]; BATCHES], unusual: [0; BATCHES] };
    // Lanes of a block.
    let every = width / SHORT;
    let mut place = first;
    for (x, codes) in x.chunks(step).zip(codes.chunks_mut(step * bytes)) {
        // SAFETY: the caller's promise; every pointer is to a batch, half a batch or as many places, which are aligned if
        // their codes go past the caches.
        unsafe {
            for (x, words) in x.iter().zip(&mut lanes.words) {
                let (front, back) =
                    (four::<A, BESIDE>(x.as_ptr()), four::<A, BESIDE>(x.as_ptr().add(BATCH / 2)));
                let low = _mm256_permute2x128_si256::<0x20>(front, back);
                let high = _mm256_permute2x128_si256::<0x31>(front, back);
                _mm256_store_si256(words.as_mut_ptr().cast(), A::larger(low, high));
            }
            let mut usual = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
            let Lanes { scales, words, unusual } = &mut lanes;
            for (((scales, words), unusual), _) in scales.iter_mut().zip(words).zip(unusual).zip(x) {
                let magnitudes = _mm256_load_si256(words.as_ptr().cast());
                let (found, whether) = method.scales(joined::<A>(magnitudes, width));
                usual = _mm256_and_ps(usual, whether);
                _mm256_store_ps(scales.as_mut_ptr(), found);
                places.put(place, found, every);
                place += LANES / every;
                let (found, which) = method.words(found);
                _mm256_store_si256(words.as_mut_ptr().cast(), found);
                *unusual = which;
            }
            if _mm256_movemask_ps(usual) != 0xFF {
                return false;
            }
            let known = lanes.scales.iter().zip(&lanes.words).zip(&lanes.unusual);
            for ((x, codes), ((scales, words), &unusual)) in
                x.iter().zip(codes.chunks_exact_mut(bytes)).zip(known)
            {
                if !STREAM {
                    // From the second level, while there is other work.
                    prefetch(x, step * size_of::<[A; BATCH]>());
                }
                let halves = scales.as_chunks().0.iter().zip(words.as_chunks().0).enumerate();
                for (half, (scales, words)) in halves {
                    let blocks = Grids { scales, words, unusual: unusual >> (GROUPS * half) };
                    let to = codes.as_mut_ptr().add(bytes / 2 * half);
                    method.codes::<STREAM, BESIDE>(x.as_ptr().add(BATCH / 2 * half), blocks, to);
                }
            }
        }
    }
    true
}
