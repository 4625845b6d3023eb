//! In vectors of 256 bits.
#![allow(unsafe_code)] // intrinsics on pointers, and calls where the instructions were detected

use core::arch::x86_64::*;

use super::super::DIVISORS;
use super::super::magnitudes::{SHORT, Values, four, joined};
use super::{BlockRule, Places, wide};
use crate::kernel::{prefetch_second_level, stream};
use crate::simd::Level;

/// Values whose scales are found together: of one each for 32 of them.
pub(super) const BATCH: usize = 256;

/// Bytes of a batch's codes of 4 bits; those of 8 bits are as many as its values.
const NIBBLES: usize = BATCH / 2;

/// Scales of a batch, lanes of a vector.
const LANES: usize = 8;

/// Batches by which codes are behind magnitudes.
pub(super) const LAG: usize = 2;

/// Bytes between what is read from memory and what is asked for, into the second-level cache: the first one has no
/// room for three places of the same tensor, one of them whole pages ahead.
pub(super) const AHEAD: usize = 6144;

/// Bits of the significand of an f64 beyond those of an f32.
pub(super) const BEYOND: u32 = 29;

/// As [`encode`](super::encode), for machines with AVX2, FMA and F16C, and what it has checked.
pub(super) fn encode<A: Values>(x: &[A], width: usize, rule: &BlockRule<'_>, places: Places<'_>) -> bool {
    let Places { scales, codes, stream } = places;
    let stream = stream && stream::is_aligned(codes);
    let (batches, rest) = x.as_chunks::<BATCH>();
    let bytes = batches.len() * BATCH * rule.bits as usize / 8;
    let (whole, last) = codes.split_at_mut(bytes);
    // Of each lane at first.
    scales.resize(x.len().div_ceil(BATCH) * LANES, 0.0);
    let (lanes, last_lanes) = scales.as_chunks_mut::<LANES>().0.split_at_mut(batches.len());
    // Longer vectors take what they can.
    let wide = crate::kernel::level() >= Level::Avx512 && wide::serves::<A>(rule, stream);
    let done = if wide { batches.len() / wide::BATCHES * wide::BATCHES } else { 0 };
    let (first_lanes, lanes) = lanes.split_at_mut(done);
    let (first, whole) = whole.split_at_mut(done * BATCH * rule.bits as usize / 8);
    // SAFETY: the level says that the instructions of the first are there, and the caller has asked for those of the other.
    let mut usual = unsafe {
        let scales = first_lanes.as_flattened_mut();
        (done == 0 || wide::encode(batches[..done].as_flattened(), width, rule, stream, scales, first))
            && each(&batches[done..], width, rule, stream, lanes, whole)
    };
    if !rest.is_empty() && usual {
        // In a place of their own, where zeros follow.
        let (mut batch, mut bytes) = ([A::default(); BATCH], [0; BATCH]);
        batch[..rest.len()].copy_from_slice(rest);
        let all = &mut bytes[..BATCH * rule.bits as usize / 8];
        // SAFETY: as above.
        usual = unsafe { each(&[batch], width, rule, false, last_lanes, all) };
        let used = rest.len().div_ceil(8 / rule.bits as usize);
        last[..used].copy_from_slice(&bytes[..used]);
        if rule.bits == 4 && !rest.len().is_multiple_of(2) {
            // Bits after the last code are zero.
            last[used - 1] &= 0x0F;
        }
    }
    let (blocks, per_block) = (x.len().div_ceil(width), width / SHORT);
    if per_block > 1 {
        (0..blocks).for_each(|block| scales[block] = scales[block * per_block]);
    }
    scales.truncate(blocks);
    usual
}

/// Whether codes need no bounds and no zero point, and values are multiplied: no quotient of a value by its scale is half
/// a code beyond them then, as a scale is rounded by at most 2⁻⁸ of it.
pub(super) fn is_plain(rule: &BlockRule<'_>) -> bool {
    let (low, high) = rule.codes;
    let whole = low == -high && high <= 127 && rule.range.steps == 2.0 * f64::from(high);
    whole && rule.zero == 0 && !rule.divide
}

#[target_feature(enable = "avx2,fma,f16c")]
fn each<A: Values>(
    x: &[[A; BATCH]],
    width: usize,
    rule: &BlockRule<'_>,
    stream: bool,
    scales: &mut [[f32; LANES]],
    codes: &mut [u8],
) -> bool {
    let nibbles = rule.bits == 4;
    let plain = is_plain(rule);
    if nibbles {
        let codes = codes.as_chunks_mut().0;
        match (plain, stream) {
            (true, false) => batches::<A, NIBBLES, true, false>(x, width, rule, scales, codes),
            (true, true) => batches::<A, NIBBLES, true, true>(x, width, rule, scales, codes),
            (false, false) => batches::<A, NIBBLES, false, false>(x, width, rule, scales, codes),
            (false, true) => batches::<A, NIBBLES, false, true>(x, width, rule, scales, codes),
        }
    } else {
        let codes = codes.as_chunks_mut().0;
        match (plain, stream) {
            (true, false) => batches::<A, BATCH, true, false>(x, width, rule, scales, codes),
            (true, true) => batches::<A, BATCH, true, true>(x, width, rule, scales, codes),
            (false, false) => batches::<A, BATCH, false, false>(x, width, rule, scales, codes),
            (false, true) => batches::<A, BATCH, false, true>(x, width, rule, scales, codes),
        }
    }
}

/// All batches, of which each has codes of so many bytes. If `PLAIN`, codes need no bounds and no zero point, and
/// values are multiplied.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn batches<A: Values, const BYTES: usize, const PLAIN: bool, const STREAM: bool>(
    x: &[[A; BATCH]],
    width: usize,
    rule: &BlockRule<'_>,
    scales: &mut [[f32; LANES]],
    codes: &mut [[u8; BYTES]],
) -> bool {
    let len = x.len().min(scales.len()).min(codes.len());
    let Some(last) = len.checked_sub(1) else { return true };
    let (x, scales, codes) = (&x[..len], &mut scales[..len], &mut codes[..len]);
    let (ranges, bounds) = (Ranges::new(rule), Bounds::new(rule));
    let mut usual = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
    let mut magnitudes = _mm256_setzero_si256();
    let mut all_grids = [Grids { scales: [1.0; LANES], inverses: [1.0; LANES] }; LAG];
    // Of a batch that is not there another one is worked on, whose results are written again later or were before.
    for k in 0..len + LAG {
        let (found, whether) = ranges.scales(joined::<A>(magnitudes, width));
        usual = _mm256_and_ps(usual, whether);
        // SAFETY: eight places each.
        unsafe {
            let grids = &mut all_grids[k % LAG];
            let inverses = _mm256_div_ps(_mm256_set1_ps(1.0), found);
            _mm256_storeu_ps(grids.inverses.as_mut_ptr(), inverses);
            if !PLAIN {
                _mm256_storeu_ps(grids.scales.as_mut_ptr(), found);
            }
            _mm256_storeu_ps(scales[k.saturating_sub(1).min(last)].as_mut_ptr(), found);
        }
        let next = &x[k.min(last)];
        if STREAM {
            prefetch_second_level(next, size_of_val(next), AHEAD);
        }
        let at = k.saturating_sub(LAG).min(last);
        let (x, place) = (x[at].as_ptr(), codes[at].as_mut_ptr());
        // Those of the iteration before this one, so that none waits for a division.
        let grids = &all_grids[(k + 1) % LAG];
        let mut halves = [_mm256_setzero_si256(); 2];
        for (half, magnitudes) in halves.iter_mut().enumerate() {
            let lane = LANES / 2 * half;
            // SAFETY: parts of a batch, and places for as many codes, which are aligned if `STREAM`.
            unsafe {
                *magnitudes = four(next.as_ptr().add(SHORT * lane));
                two::<A, BYTES, PLAIN, STREAM>(x, grids, lane, &bounds, place);
                two::<A, BYTES, PLAIN, STREAM>(x, grids, lane + 2, &bounds, place);
            }
        }
        let [front, back] = halves;
        let low = _mm256_permute2x128_si256::<0x20>(front, back);
        let high = _mm256_permute2x128_si256::<0x31>(front, back);
        // SAFETY: the machine has what this function asks for.
        magnitudes = unsafe { A::larger(low, high) };
    }
    _mm256_movemask_ps(usual) == 0xFF
}

/// Scales of a batch and their reciprocals. Their alignment is one for the stack, and so for all vectors that are kept
/// there: what is read of a store across two cache lines waits until it and all before it are done, those past the
/// caches too.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Grids {
    scales: [f32; LANES],
    inverses: [f32; LANES],
}

/// What makes scales of magnitudes, in every lane.
#[derive(Clone, Copy)]
struct Ranges {
    steps: __m256,
    low: __m256,
    high: __m256,
    of_zeros: __m256,
    /// Bits that the storage has less than f32.
    dropped: __m128i,
    /// Half a unit of the storage less one.
    half: __m256i,
    /// One where bits are dropped at all.
    unit: __m256i,
}

impl Ranges {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(rule: &BlockRule<'_>) -> Self {
        let range = rule.range;
        let dropped = range.dropped.saturating_sub(BEYOND);
        let some = i32::from(dropped > 0);
        // No storage rounds these beyond the divisors.
        let low = (range.usual.0 as f32).max(*DIVISORS.start() * 1.01);
        let high = (range.usual.1 as f32).min(*DIVISORS.end() * 0.99);
        Self {
            steps: _mm256_set1_ps(range.steps as f32),
            low: _mm256_set1_ps(low),
            high: _mm256_set1_ps(high),
            of_zeros: _mm256_set1_ps(range.of_zeros),
            dropped: _mm_cvtsi32_si128(dropped as i32),
            half: _mm256_set1_epi32((some << dropped.saturating_sub(1)) - some),
            unit: _mm256_set1_epi32(some),
        }
    }

    /// Scales, and where they are everyday ones.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn scales(&self, magnitudes: __m256) -> (__m256, __m256) {
        let zero = _mm256_setzero_ps();
        let range = _mm256_add_ps(magnitudes, magnitudes);
        let quotient = _mm256_div_ps(range, self.steps);
        let none = _mm256_cmp_ps::<_CMP_EQ_OQ>(magnitudes, zero);
        let usual = _mm256_and_ps(
            _mm256_cmp_ps::<_CMP_GT_OQ>(quotient, self.low),
            _mm256_cmp_ps::<_CMP_LT_OQ>(quotient, self.high),
        );
        // What is left is exact, and says on which side the quotient was rounded; −1 where it is so.
        let rest = _mm256_fnmadd_ps(quotient, self.steps, range);
        let above = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GT_OQ>(rest, zero));
        let below = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(rest, zero));
        let bits = _mm256_castps_si256(quotient);
        let even = _mm256_andnot_si256(bits, self.unit);
        let to_odd = _mm256_sign_epi32(even, _mm256_sub_epi32(below, above));
        let bits = _mm256_add_epi32(bits, to_odd);
        // To the nearest with fewer bits, ties to even: as an integer, a carry goes to the exponent.
        let odd = _mm256_and_si256(_mm256_srl_epi32(bits, self.dropped), self.unit);
        let bits = _mm256_add_epi32(bits, _mm256_add_epi32(odd, self.half));
        let bits = _mm256_sll_epi32(_mm256_srl_epi32(bits, self.dropped), self.dropped);
        let scales = _mm256_castsi256_ps(bits);
        (_mm256_blendv_ps(scales, self.of_zeros, none), _mm256_or_ps(usual, none))
    }
}

/// What all codes share, in every lane.
#[derive(Clone, Copy)]
struct Bounds {
    zero: __m256i,
    low: __m256i,
    high: __m256i,
    signed: bool,
    divide: bool,
}

impl Bounds {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(rule: &BlockRule<'_>) -> Self {
        Self {
            zero: _mm256_set1_epi16(rule.zero),
            low: _mm256_set1_epi8(rule.codes.0 as i8),
            high: _mm256_set1_epi8(rule.codes.1 as i8),
            signed: rule.codes.0 < 0,
            divide: rule.divide,
        }
    }
}

/// Writes the codes of two lanes of values.
///
/// # Safety
///
/// There is a batch at `x`, and a place for its codes of `BYTES` bytes, aligned to 16 if `STREAM`; and `lane` is at
/// most 6.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn two<A: Values, const BYTES: usize, const PLAIN: bool, const STREAM: bool>(
    x: *const A,
    grids: &Grids,
    lane: usize,
    bounds: &Bounds,
    place: *mut u8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let front = short::<A, PLAIN>(x.add(SHORT * lane), grids, lane, bounds);
        let back = short::<A, PLAIN>(x.add(SHORT * (lane + 1)), grids, lane + 1, bounds);
        let place = place.add(BYTES / LANES * lane);
        if BYTES == BATCH {
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            stream::store_half_line::<STREAM>(place, _mm256_permutevar8x32_epi32(front, order));
            stream::store_half_line::<STREAM>(place.add(SHORT), _mm256_permutevar8x32_epi32(back, order));
            return;
        }
        // The first of two neighbours once, and the second sixteen times.
        let (low, weights) = (_mm256_set1_epi8(0x0F), _mm256_set1_epi16(0x1001));
        let pairs = |codes| _mm256_maddubs_epi16(_mm256_and_si256(codes, low), weights);
        // Packing works in halves: each has two bytes of each eight values of both lanes.
        let bytes = _mm256_packus_epi16(pairs(front), pairs(back));
        let lanes = _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes);
        let order = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
        stream::store_half_line::<STREAM>(
            place,
            _mm256_shuffle_epi8(lanes, _mm256_broadcastsi128_si256(order)),
        );
    }
}

/// The codes of 32 values, by fours: those of the first half of each eight, and then those of the second.
///
/// # Safety
///
/// There are 32 values at `x`, and `lane` is at most 7.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn short<A: Values, const PLAIN: bool>(
    x: *const A,
    grids: &Grids,
    lane: usize,
    bounds: &Bounds,
) -> __m256i {
    let inverse = _mm256_set1_ps(grids.inverses[lane]);
    let scale = _mm256_set1_ps(grids.scales[lane]);
    let integers = |at: usize| {
        // SAFETY: the caller's promise.
        let x = unsafe { A::eight(x.add(at)) };
        let mut q = _mm256_mul_ps(x, inverse);
        if !PLAIN && bounds.divide {
            // As `division` explains: the bits of a division.
            for _ in 0..2 {
                q = _mm256_fmadd_ps(_mm256_fnmadd_ps(q, scale, x), inverse, q);
            }
        }
        _mm256_cvtps_epi32(q)
    };
    // Narrower integers saturate, which no code in use is lost by.
    let words = |at: usize| {
        let words = _mm256_packs_epi32(integers(at), integers(at + LANES));
        if PLAIN { words } else { _mm256_adds_epi16(words, bounds.zero) }
    };
    let (front, back) = (words(0), words(2 * LANES));
    if PLAIN {
        _mm256_packs_epi16(front, back)
    } else if bounds.signed {
        let codes = _mm256_packs_epi16(front, back);
        _mm256_min_epi8(_mm256_max_epi8(codes, bounds.low), bounds.high)
    } else {
        let codes = _mm256_packus_epi16(front, back);
        _mm256_min_epu8(_mm256_max_epu8(codes, bounds.low), bounds.high)
    }
}
