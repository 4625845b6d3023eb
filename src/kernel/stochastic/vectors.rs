//! In vectors of 256 bits: numbers first, then the codes of their values.
//!
//! Where the machine computes two blocks of numbers at once, so few are computed that it begins with them while it encodes
//! the values before them. Codes that go past the caches wait for memory, not for that.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::aes::{Blocks, GROUP as GROUP_OF_BLOCKS, Pairs};
use super::super::vector::Lanes;
use super::runs::{BOUNDED, Bytes, INSIDE, Lane, MASKED, PIECE, PLAIN, Quick, Run, STEPS, is_inside};
use super::wide::{self, BLOCK};

/// Values whose codes fill a vector.
pub(super) const GROUP: usize = 32;

/// Values whose numbers are computed at once.
const STRETCH: usize = 4 * PIECE;

/// Blocks of the numbers of so many values, which may begin within a block, and of the rest of their last group.
const fn blocks_of(values: usize) -> usize {
    (values + GROUP) / BLOCK + 1
}

/// Random numbers.
#[repr(align(64))]
struct Numbers<const BLOCKS: usize>([[u16; BLOCK]; BLOCKS]);

impl<const BLOCKS: usize> Numbers<BLOCKS> {
    const NONE: Self = Self([[0; BLOCK]; BLOCKS]);

    /// Those of the `len` elements from `first` on, and others behind them.
    fn of(&mut self, blocks: &Blocks, first: u64, len: usize) -> &[u16] {
        let skip = (first % BLOCK as u64) as usize;
        let count = (skip + len).div_ceil(BLOCK).min(BLOCKS);
        blocks.fill(first / BLOCK as u64, &mut self.0[..count]);
        &self.0.as_flattened()[skip..]
    }
}

/// The codes of values, the first of which is element `first`; past the caches if `stream`, where they are whole lines.
/// Whether any is NaN.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn encode<A: Lanes>(
    x: &[A],
    run: &Run,
    blocks: &Blocks,
    first: u64,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    let (mut nan, mut done) = (false, 0);
    if !stream
        && x.len() >= PHASE
        && first.is_multiple_of(BLOCK as u64)
        && let (Some(quick), Some(pairs)) = (&run.quick, blocks.pairs())
    {
        let (x, codes) = (x.as_chunks().0, codes.as_chunks_mut().0);
        let by = (pairs, first / BLOCK as u64);
        // SAFETY: there are pairs where there are the instructions for them.
        nan = unsafe { phases(x, run, quick, by, codes) };
        done = x.len() * PHASE;
    }
    let (x, codes, first) = (&x[done..], &mut codes[done..], first.wrapping_add(done as u64));
    if x.is_empty() {
        return nan;
    }
    let mut numbers = Numbers::<{ blocks_of(STRETCH) }>::NONE;
    let places = (0..).step_by(STRETCH).map(|at| first.wrapping_add(at));
    for ((x, codes), first) in x.chunks(STRETCH).zip(codes.chunks_mut(STRETCH)).zip(places) {
        let numbers = numbers.of(blocks, first, x.len()).chunks(PIECE);
        for ((x, codes), numbers) in x.chunks(PIECE).zip(codes.chunks_mut(PIECE)).zip(numbers) {
            let done = match &run.quick {
                Some(quick) if stream => anywhere::<A, true>(x, quick, numbers, codes),
                Some(quick) => anywhere::<A, false>(x, quick, numbers, codes),
                None => false,
            };
            if !done {
                nan |= carefully(x, run, numbers, stream, codes);
            }
        }
    }
    nan
}

/// Values of a phase: those of the numbers that are computed at once.
const PHASE: usize = GROUP_OF_BLOCKS * BLOCK;

/// Phases after which values are taken to be within the bounds again: an even number.
const PERIOD: usize = 128;

/// As [`encode`], of whole phases from the block of the second of `by` on, whose codes stay in the caches.
#[target_feature(enable = "avx2,fma,f16c,aes,vaes")]
fn phases<A: Lanes>(
    x: &[[A; PHASE]],
    run: &Run,
    quick: &Quick,
    by: (Pairs<'_>, u64),
    codes: &mut [[u8; PHASE]],
) -> bool {
    let (mut pairs, mut block) = by;
    let mut nan = false;
    let mut turns = [const { Numbers::<GROUP_OF_BLOCKS>::NONE }; 2];
    if let ([numbers, _], false) = (&mut turns, x.is_empty()) {
        pairs.group(block, &mut numbers.0);
    }
    for (x, codes) in x.chunks(PERIOD).zip(codes.chunks_mut(PERIOD)) {
        // Most values are within the bounds. Where many are not, all are taken for such.
        let mut outside = 0;
        for (i, (x, codes)) in x.iter().zip(codes).enumerate() {
            let [even, odd] = &mut turns;
            let (numbers, next) = if i % 2 == 0 { (even, odd) } else { (odd, even) };
            block = block.wrapping_add(GROUP_OF_BLOCKS as u64);
            pairs.group(block, &mut next.0);
            let numbers = numbers.0.as_flattened();
            if outside <= 2 + i / 16 {
                let done = match quick.inside() {
                    INSIDE => quickly::<A, INSIDE, false>(x, quick, numbers, codes),
                    _ => quickly::<A, MASKED, false>(x, quick, numbers, codes),
                };
                if done {
                    continue;
                }
                outside += 1;
            }
            if !anywhere::<A, false>(x, quick, numbers, codes) {
                nan |= carefully(x, run, numbers, false, codes);
            }
        }
    }
    nan
}

/// As [`encode`], of at most a group of the wide loop and always with care.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn with_care<A: Lanes>(x: &[A], run: &Run, blocks: &Blocks, first: u64, codes: &mut [u8]) -> bool {
    let (mut numbers, x) = (Numbers::<{ blocks_of(wide::GROUP) }>::NONE, &x[..x.len().min(wide::GROUP)]);
    carefully(x, run, numbers.of(blocks, first, x.len()), false, codes)
}

/// Calls `group` for whole groups and the beginning of one, of which there are numbers for all, and writes the codes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn groups<A: Lanes>(
    x: &[A],
    numbers: &[u16],
    stream: bool,
    codes: &mut [u8],
    mut group: impl FnMut(*const A, *const u16) -> __m256i,
) {
    let (wholes, rest) = x.as_chunks::<GROUP>();
    let (code_wholes, code_rest) = codes.as_chunks_mut::<GROUP>();
    let (numbers, _) = numbers.as_chunks::<GROUP>();
    for ((x, codes), numbers) in wholes.iter().zip(code_wholes).zip(numbers) {
        let found = group(x.as_ptr(), numbers.as_ptr());
        let to = codes.as_mut_ptr().cast();
        // SAFETY: as many places as the vector has, and whole lines where they go past the caches.
        unsafe { if stream { _mm256_stream_si256(to, found) } else { _mm256_storeu_si256(to, found) } };
    }
    if let (false, Some(numbers)) = (rest.is_empty(), numbers.get(wholes.len())) {
        let (mut values, mut last) = ([A::from_f32(0.0); GROUP], [0u8; GROUP]);
        // Zeros are no NaN, and their codes are not kept.
        values[..rest.len()].copy_from_slice(rest);
        let found = group(values.as_ptr(), numbers.as_ptr());
        // SAFETY: as many places as the vector has.
        unsafe { _mm256_storeu_si256(last.as_mut_ptr().cast(), found) };
        let shared = code_rest.len().min(rest.len());
        code_rest[..shared].copy_from_slice(&last[..shared]);
    }
}

/// Packing works in halves: this puts quarters of bytes that were packed twice in order.
#[inline]
#[target_feature(enable = "avx2")]
fn ordered(bytes: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// The third bytes of four vectors of words, in their order.
#[inline]
#[target_feature(enable = "avx2")]
fn third_bytes([a, b, c, d]: [__m256i; 4]) -> __m256i {
    // Where words of two vectors are in turns, the bytes of the second pair go to those that the first has no use for.
    let front = _mm256_blend_epi16::<0b1010_1010>(_mm256_srli_epi32::<16>(a), b);
    let back = _mm256_blend_epi16::<0b1010_1010>(_mm256_srli_epi32::<16>(c), d);
    let mixed = _mm256_blendv_epi8(front, _mm256_slli_epi16::<8>(back), _mm256_set1_epi16(-256));
    let apart =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15));
    ordered(_mm256_shuffle_epi8(mixed, apart))
}

/// Wherever values are; `false` where that needs more care.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn anywhere<A: Lanes, const STREAM: bool>(x: &[A], quick: &Quick, numbers: &[u16], codes: &mut [u8]) -> bool {
    match quick.anywhere() {
        PLAIN => quickly::<A, PLAIN, STREAM>(x, quick, numbers, codes),
        _ => quickly::<A, BOUNDED, STREAM>(x, quick, numbers, codes),
    }
}

/// As the wide loop (see `wide`); `false` where that needs more care.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn quickly<A: Lanes, const HOW: u8, const STREAM: bool>(
    x: &[A],
    quick: &Quick,
    numbers: &[u16],
    codes: &mut [u8],
) -> bool {
    let (Bytes { moved, low, high, mask, .. }, Lane { offset, zero, least: bound }) =
        (quick.bytes, quick.lane(HOW));
    let (factor, offset) = (_mm256_set1_ps(quick.factor), _mm256_set1_ps(offset));
    let moved = _mm256_set1_epi16(moved);
    let (low, high) = (_mm256_set1_epi8(low), _mm256_set1_epi8(high));
    let (zero, mask) = (_mm256_set1_epi8(zero), _mm256_set1_epi8(mask));
    let (mut lowest, mut least) = (_mm256_set1_epi16(-1), _mm256_setzero_si256());
    groups(x, numbers, STREAM, codes, |x, numbers| {
        // SAFETY: there are 32 values and numbers.
        let sums = unsafe {
            [0, 8, 16, 24].map(|at| {
                let steps = _mm256_cvtps_epi32(_mm256_fmadd_ps(A::eight(x.add(at)), factor, offset));
                let numbers = _mm256_cvtepu16_epi32(_mm_loadu_si128(numbers.add(at).cast()));
                _mm256_add_epi32(steps, numbers)
            })
        };
        let [a, b, c, d] = sums;
        let lower = _mm256_min_epu16(_mm256_min_epu16(a, b), _mm256_min_epu16(c, d));
        lowest = _mm256_min_epu16(lowest, lower);
        if is_inside(HOW) {
            let found = _mm256_add_epi8(third_bytes([a, b, c, d]), zero);
            return if HOW == INSIDE { found } else { _mm256_and_si256(found, mask) };
        }
        let [a, b, c, d] = sums.map(|sum| _mm256_srai_epi32::<16>(sum));
        let (mut front, mut back) = (_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        least = _mm256_min_epi16(least, _mm256_min_epi16(front, back));
        if HOW == PLAIN {
            return _mm256_max_epi8(ordered(_mm256_packs_epi16(front, back)), low);
        }
        (front, back) = (_mm256_adds_epi16(front, moved), _mm256_adds_epi16(back, moved));
        let found = ordered(_mm256_packs_epi16(front, back));
        let found = _mm256_min_epi8(_mm256_max_epi8(found, low), high);
        _mm256_and_si256(_mm256_add_epi8(found, zero), mask)
    });
    // Of sums, the lower halves count, and the upper ones of what is to be inside.
    let few = _mm256_subs_epu16(_mm256_set1_epi32(bound), lowest);
    let misfit = _mm256_cmpeq_epi16(least, _mm256_set1_epi16(i16::MIN));
    let care = _mm256_or_si256(few, misfit);
    _mm256_testz_si256(care, care) != 0
}

/// Halves of a step to an integer: `⌈65536 · v − ½⌉` is half of them rounded up, rounded down.
const HALVES: f32 = 2.0 * STEPS;

/// Whatever the values are; whether any is NaN.
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn carefully<A: Lanes>(x: &[A], run: &Run, numbers: &[u16], stream: bool, codes: &mut [u8]) -> bool {
    let (scale, zero_before) = (_mm256_set1_ps(run.scale), _mm256_set1_ps(run.zero_before * HALVES));
    let (halves, most) = (_mm256_set1_ps(HALVES), _mm256_set1_ps(run.high * HALVES));
    let (low, high) = (_mm256_set1_epi16(run.low as i16), _mm256_set1_epi16(run.high as i16));
    let (zero_after, mask) = (_mm256_set1_epi16(run.zero_after), _mm256_set1_epi16(run.mask.into()));
    let bounded = |words: __m256i| {
        let words = _mm256_min_epi16(_mm256_max_epi16(words, low), high);
        _mm256_and_si256(_mm256_add_epi16(words, zero_after), mask)
    };
    let mut nan = _mm256_setzero_ps();
    groups(x, numbers, stream, codes, |x, numbers| {
        // SAFETY: there are 32 values and numbers.
        let integers = unsafe {
            [0, 8, 16, 24].map(|at| {
                let x = A::eight(x.add(at));
                let v = if run.divide { _mm256_div_ps(x, scale) } else { _mm256_mul_ps(x, scale) };
                let v = _mm256_add_ps(_mm256_mul_ps(v, halves), zero_before);
                nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
                // The second operand where one is NaN, which becomes the most negative integer, as what is too small does.
                let steps =
                    _mm256_srai_epi32::<1>(_mm256_cvtps_epi32(_mm256_ceil_ps(_mm256_min_ps(most, v))));
                let numbers = _mm256_cvtepu16_epi32(_mm_loadu_si128(numbers.add(at).cast()));
                _mm256_srai_epi32::<16>(_mm256_add_epi32(steps, numbers))
            })
        };
        let [a, b, c, d] = integers;
        let (front, back) = (bounded(_mm256_packs_epi32(a, b)), bounded(_mm256_packs_epi32(c, d)));
        ordered(_mm256_packus_epi16(front, back))
    });
    _mm256_movemask_ps(nan) != 0
}
