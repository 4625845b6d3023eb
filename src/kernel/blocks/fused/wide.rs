//! In vectors of 512 bits, where codes need no bounds: as `vectors`, with batches of as many blocks as such a vector has
//! lanes.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::DIVISORS;
use super::super::magnitudes::{SHORT, Values};
use super::BlockRule;
use super::vectors::{self, AHEAD, BEYOND, LAG};
use crate::element::FloatType;
use crate::kernel::{prefetch_second_level, stream};

/// Scales of a batch, lanes of a vector, and its values.
const LANES: usize = 16;
const BATCH: usize = SHORT * LANES;

/// Batches of shorter vectors that one of these takes the place of.
pub(super) const BATCHES: usize = BATCH / vectors::BATCH;

/// Whether [`encode`] serves such blocks: what comes from memory as f32 and goes there is no faster by it.
pub(super) fn serves<A: Values>(rule: &BlockRule<'_>, stream: bool) -> bool {
    vectors::is_plain(rule) && !(stream && A::TYPE == FloatType::F32)
}

/// Whole batches: the scale of each 32 values, and codes. Whether all scales are everyday ones.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn encode<A: Values>(
    x: &[A],
    width: usize,
    rule: &BlockRule<'_>,
    stream: bool,
    scales: &mut [f32],
    codes: &mut [u8],
) -> bool {
    let (x, scales) = (x.as_chunks().0, scales.as_chunks_mut().0);
    if rule.bits == 4 {
        let codes = codes.as_chunks_mut().0;
        if stream {
            batches::<A, { BATCH / 2 }, true>(x, width, rule, scales, codes)
        } else {
            batches::<A, { BATCH / 2 }, false>(x, width, rule, scales, codes)
        }
    } else {
        let codes = codes.as_chunks_mut().0;
        if stream {
            batches::<A, BATCH, true>(x, width, rule, scales, codes)
        } else {
            batches::<A, BATCH, false>(x, width, rule, scales, codes)
        }
    }
}

/// The reciprocals of a batch's scales.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Inverses([f32; LANES]);

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn batches<A: Values, const BYTES: usize, const STREAM: bool>(
    x: &[[A; BATCH]],
    width: usize,
    rule: &BlockRule<'_>,
    scales: &mut [[f32; LANES]],
    codes: &mut [[u8; BYTES]],
) -> bool {
    let len = x.len().min(scales.len()).min(codes.len());
    let Some(last) = len.checked_sub(1) else { return true };
    let ranges = Ranges::new(rule);
    let (mut usual, mut magnitudes) = (__mmask16::MAX, _mm512_setzero_si512());
    let mut all_inverses = [Inverses([1.0; LANES]); LAG];
    // Of a batch that is not there another one is worked on, whose results are written again later or were before.
    for k in 0..len + LAG {
        let (found, whether) = ranges.scales(joined::<A>(magnitudes, width));
        usual &= whether;
        let inverses = _mm512_div_ps(_mm512_set1_ps(1.0), found);
        // SAFETY: sixteen places each, the first aligned.
        unsafe {
            _mm512_store_ps(all_inverses[k % LAG].0.as_mut_ptr(), inverses);
            _mm512_storeu_ps(scales[k.saturating_sub(1).min(last)].as_mut_ptr(), found);
        }
        let next = &x[k.min(last)];
        if STREAM {
            prefetch_second_level(next, size_of_val(next), AHEAD);
        }
        let at = k.saturating_sub(LAG).min(last);
        let (from, place) = (x[at].as_ptr(), codes[at].as_mut_ptr());
        // Those of the iteration before this one, so that none waits for a division.
        let inverses = &all_inverses[(k + 1) % LAG].0;
        let mut quarters = [_mm512_setzero_si512(); 4];
        for (quarter, magnitudes) in quarters.iter_mut().enumerate() {
            let lane = LANES / 4 * quarter;
            // SAFETY: parts of a batch, and places for as many codes, which are aligned if `STREAM`.
            unsafe {
                *magnitudes = four(next.as_ptr().add(SHORT * lane));
                let place = place.add(BYTES / LANES * lane);
                four_codes::<A, BYTES, STREAM>(from.add(SHORT * lane), inverses, lane, place);
            }
        }
        magnitudes = quarters_joined::<A>(quarters);
    }
    usual == __mmask16::MAX
}

/// The largest magnitudes of four times 32 values: those of each in a lane, of each quarter of the vector.
///
/// # Safety
///
/// There are 128 values at `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn four<A: Values>(x: *const A) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let [a, b, c, d] = [x, x.add(SHORT), x.add(2 * SHORT), x.add(3 * SHORT)];
        let [a, b, c, d] =
            [A::long_magnitudes(a), A::long_magnitudes(b), A::long_magnitudes(c), A::long_magnitudes(d)];
        let ab = A::long_larger(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = A::long_larger(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        A::long_larger(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
    }
}

/// The magnitudes of all lanes, in their order.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn quarters_joined<A: Values>([a, b, c, d]: [__m512i; 4]) -> __m512i {
    // SAFETY: the machine has what this function asks for.
    unsafe {
        const LOW: i32 = 0b01_00_01_00;
        const HIGH: i32 = 0b11_10_11_10;
        let ab = A::long_larger(_mm512_shuffle_i32x4::<LOW>(a, b), _mm512_shuffle_i32x4::<HIGH>(a, b));
        let cd = A::long_larger(_mm512_shuffle_i32x4::<LOW>(c, d), _mm512_shuffle_i32x4::<HIGH>(c, d));
        const EVEN: i32 = 0b10_00_10_00;
        const ODD: i32 = 0b11_01_11_01;
        A::long_larger(_mm512_shuffle_i32x4::<EVEN>(ab, cd), _mm512_shuffle_i32x4::<ODD>(ab, cd))
    }
}

/// The magnitude of the block of each lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn joined<A: Values>(magnitudes: __m512i, width: usize) -> __m512 {
    // SAFETY: the machine has what this function asks for.
    unsafe {
        let mut all = magnitudes;
        if width > SHORT {
            all = A::long_larger(all, _mm512_shuffle_epi32::<0b10_11_00_01>(all));
        }
        if width > 2 * SHORT {
            all = A::long_larger(all, _mm512_shuffle_epi32::<0b01_00_11_10>(all));
        }
        if width > 4 * SHORT {
            all = A::long_larger(all, _mm512_shuffle_i32x4::<0b10_11_00_01>(all, all));
        }
        A::long_wide(all)
    }
}

/// What makes scales of magnitudes, in every lane: as for shorter vectors.
#[derive(Clone, Copy)]
struct Ranges {
    steps: __m512,
    low: __m512,
    high: __m512,
    of_zeros: __m512,
    /// Bits that the storage has less than f32.
    dropped: __m128i,
    /// Half a unit of the storage less one.
    half: __m512i,
    /// One where bits are dropped at all.
    unit: __m512i,
}

impl Ranges {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    fn new(rule: &BlockRule<'_>) -> Self {
        let range = rule.range;
        let dropped = range.dropped.saturating_sub(BEYOND);
        let some = i32::from(dropped > 0);
        // No storage rounds these beyond the divisors.
        let low = (range.usual.0 as f32).max(*DIVISORS.start() * 1.01);
        let high = (range.usual.1 as f32).min(*DIVISORS.end() * 0.99);
        Self {
            steps: _mm512_set1_ps(range.steps as f32),
            low: _mm512_set1_ps(low),
            high: _mm512_set1_ps(high),
            of_zeros: _mm512_set1_ps(range.of_zeros),
            dropped: _mm_cvtsi32_si128(dropped as i32),
            half: _mm512_set1_epi32((some << dropped.saturating_sub(1)) - some),
            unit: _mm512_set1_epi32(some),
        }
    }

    /// Scales, and where they are everyday ones.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    fn scales(&self, magnitudes: __m512) -> (__m512, __mmask16) {
        let zero = _mm512_setzero_ps();
        let range = _mm512_add_ps(magnitudes, magnitudes);
        let quotient = _mm512_div_ps(range, self.steps);
        let none = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(magnitudes, zero);
        let usual = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(quotient, self.low)
            & _mm512_cmp_ps_mask::<_CMP_LT_OQ>(quotient, self.high);
        // What is left is exact, and says on which side the quotient was rounded.
        let rest = _mm512_fnmadd_ps(quotient, self.steps, range);
        let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(rest, zero);
        let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(rest, zero);
        let bits = _mm512_castps_si512(quotient);
        let even = _mm512_andnot_si512(bits, self.unit);
        let bits = _mm512_mask_add_epi32(bits, above, bits, even);
        let bits = _mm512_mask_sub_epi32(bits, below, bits, even);
        // To the nearest with fewer bits, ties to even: as an integer, a carry goes to the exponent.
        let odd = _mm512_and_si512(_mm512_srl_epi32(bits, self.dropped), self.unit);
        let bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, self.half));
        let bits = _mm512_sll_epi32(_mm512_srl_epi32(bits, self.dropped), self.dropped);
        (_mm512_mask_blend_ps(none, _mm512_castsi512_ps(bits), self.of_zeros), usual | none)
    }
}

/// Writes the codes of four lanes of values.
///
/// # Safety
///
/// There are 128 values at `x`, and a place for their codes, of batches of `BYTES` bytes and aligned to 16 if `STREAM`; and
/// `lane` is at most 12.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn four_codes<A: Values, const BYTES: usize, const STREAM: bool>(
    x: *const A,
    inverses: &[f32; LANES],
    lane: usize,
    place: *mut u8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let front = two(x, inverses[lane], inverses[lane + 1]);
        let back = two(x.add(2 * SHORT), inverses[lane + 2], inverses[lane + 3]);
        if BYTES == BATCH {
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            stream::store_line::<STREAM>(place, _mm512_permutexvar_epi32(order, front));
            stream::store_line::<STREAM>(place.add(2 * SHORT), _mm512_permutexvar_epi32(order, back));
            return;
        }
        // The first of two neighbours once, and the second sixteen times.
        let (low, weights) = (_mm512_set1_epi8(0x0F), _mm512_set1_epi16(0x1001));
        let front = _mm512_maddubs_epi16(_mm512_and_si512(front, low), weights);
        let back = _mm512_maddubs_epi16(_mm512_and_si512(back, low), weights);
        // Packing works in quarters: each has two bytes of each sixteen values.
        let bytes = _mm512_packus_epi16(front, back);
        let order: [i16; 32] = const {
            let (mut order, mut at) = ([0; 32], 0);
            while at < 32 {
                order[at] = (at % 4 * 8 + at / 4) as i16;
                at += 1;
            }
            order
        };
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        stream::store_line::<STREAM>(place, _mm512_permutexvar_epi16(order, bytes));
    }
}

/// The codes of twice 32 values, by fours: those of the first quarter of each sixteen, and then those of the others.
///
/// # Safety
///
/// There are 64 values at `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn two<A: Values>(x: *const A, first: f32, second: f32) -> __m512i {
    let (first, second) = (_mm512_set1_ps(first), _mm512_set1_ps(second));
    // SAFETY: the caller's promise.
    unsafe {
        let a = _mm512_cvtps_epi32(_mm512_mul_ps(A::sixteen(x), first));
        let b = _mm512_cvtps_epi32(_mm512_mul_ps(A::sixteen(x.add(LANES)), first));
        let c = _mm512_cvtps_epi32(_mm512_mul_ps(A::sixteen(x.add(2 * LANES)), second));
        let d = _mm512_cvtps_epi32(_mm512_mul_ps(A::sixteen(x.add(3 * LANES)), second));
        // Narrower integers saturate, which no code in use is lost by.
        _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d))
    }
}
