//! Scales and codes of short blocks in one pass over memory, a few blocks at a time.
//!
//! Values of a step are read twice, the second time from the first-level cache: first the largest magnitudes of all its
//! blocks are found, then their scales, then the codes. Many scales are found together, so that none waits for another;
//! between single blocks, divisions that wait for each other would take longer than all the rest.
#![allow(unsafe_code)] // pointers to parts of a step

use core::arch::x86_64::*;

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
    /// There are as many values at `x`, and places for their codes at `to`, a multiple of 16 if `STREAM`.
    unsafe fn codes<const STREAM: bool>(self, x: *const A, blocks: Grids<'_>, to: *mut u8);
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
    scales: &mut Vec<f32>,
    codes: &mut [u8],
) -> bool {
    let (whole, rest) = x.as_chunks::<BATCH>();
    let (codes, last) = codes.split_at_mut(whole.len() * BATCH / M::PER_BYTE);
    // Of each lane at first.
    scales.resize(x.len().div_ceil(BATCH) * LANES, 0.0);
    let (lanes, last_lanes) = scales.as_chunks_mut::<LANES>().0.split_at_mut(whole.len());
    // What is left is in a place of its own, where zeros follow.
    let (mut batch, mut bytes) = ([[A::default(); BATCH]; 1], Bytes([0; BATCH]));
    batch.as_flattened_mut()[..rest.len()].copy_from_slice(rest);
    let mut usual = true;
    for (x, scales, codes) in [(whole, lanes, codes), (&batch, last_lanes, &mut bytes.0[..])] {
        // SAFETY: the caller's promise.
        usual = usual && unsafe { steps::<A, M, STREAM>(method, x, width, scales, codes) };
    }
    if STREAM && !rest.is_empty() {
        stream::finish();
    }
    let used = rest.len().div_ceil(M::PER_BYTE);
    last[..used].copy_from_slice(&bytes.0[..used]);
    if M::PER_BYTE == 2 && !rest.len().is_multiple_of(2) {
        // Bits after the last code are zero.
        last[used - 1] &= 0x0F;
    }
    let (blocks, per_block) = (x.len().div_ceil(width), width / SHORT);
    if per_block > 1 {
        (0..blocks).for_each(|block| scales[block] = scales[block * per_block]);
    }
    scales.truncate(blocks);
    usual
}

/// Places for the codes of a batch.
#[repr(align(64))]
struct Bytes([u8; BATCH]);

/// What a step knows of its blocks, by lanes. The alignment is one for the stack, and so for all vectors that are kept there:
/// what is read of a store across two cache lines waits until it and all before it are done, those past the caches too.
#[repr(align(64))]
struct Lanes {
    words: [[u32; LANES]; BATCHES],
    unusual: [i32; BATCHES],
}

/// As [`encode`], of whole batches.
///
/// # Safety
///
/// As there; `codes` has places for the codes of all batches that have scales.
#[inline(always)]
unsafe fn steps<A: Values, M: Method<A>, const STREAM: bool>(
    method: M,
    x: &[[A; BATCH]],
    width: usize,
    scales: &mut [[f32; LANES]],
    codes: &mut [u8],
) -> bool {
    let step = if STREAM { FROM_MEMORY / size_of::<[A; BATCH]>() } else { BATCHES };
    let bytes = BATCH / M::PER_BYTE;
    let mut lanes = Lanes { words: [[0; LANES]; BATCHES], unusual: [0; BATCHES] };
    let each = x.chunks(step).zip(scales.chunks_mut(step)).zip(codes.chunks_mut(step * bytes));
    for ((x, scales), codes) in each {
        // SAFETY: the caller's promise; every pointer is to a batch, half a batch or as many places, which are aligned if
        // their codes go past the caches.
        unsafe {
            for (x, words) in x.iter().zip(&mut lanes.words) {
                let (front, back) = (four(x.as_ptr()), four(x.as_ptr().add(BATCH / 2)));
                let low = _mm256_permute2x128_si256::<0x20>(front, back);
                let high = _mm256_permute2x128_si256::<0x31>(front, back);
                _mm256_store_si256(words.as_mut_ptr().cast(), A::larger(low, high));
            }
            let mut usual = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
            for ((words, unusual), scales) in lanes.words.iter_mut().zip(&mut lanes.unusual).zip(&mut *scales)
            {
                let magnitudes = _mm256_load_si256(words.as_ptr().cast());
                let (found, whether) = method.scales(joined::<A>(magnitudes, width));
                usual = _mm256_and_ps(usual, whether);
                _mm256_storeu_ps(scales.as_mut_ptr(), found);
                let (found, which) = method.words(found);
                _mm256_store_si256(words.as_mut_ptr().cast(), found);
                *unusual = which;
            }
            if _mm256_movemask_ps(usual) != 0xFF {
                return false;
            }
            let known = scales.iter().zip(&lanes.words).zip(&lanes.unusual);
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
                    method.codes::<STREAM>(x.as_ptr().add(BATCH / 2 * half), blocks, to);
                }
            }
        }
    }
    true
}
