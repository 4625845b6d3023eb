//! In vectors of 512 bits, with numbers that never leave the registers: for processors that have AES for such vectors.
//!
//! Steps fall into the upper half of their words, the integer, and the lower one, which is compared with the number
//! itself: sixteen bits each, so that both halves of 32 values fill a vector.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::{level, prefetch};
use super::vectors::{AHEAD, BAD, BLOCK, Bytes, CORRECTED_ONCE, PRODUCT_OF_STEPS, Run, TWO_TERMS};
use crate::random::{Ars, ROUNDS};
use crate::simd::Level;

/// Values whose codes fill a vector.
pub(super) const GROUP: usize = 64;

/// Numbers of a vector.
const NUMBERS: usize = 32;

/// Toward positive infinity, which only a register of the processor decides otherwise.
const UP: i32 = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;

/// The keys of the generator. That there is one says that the machine has AVX-512 F, BW, VL, DQ and VAES.
pub(super) struct Wide {
    keys: [[u64; 2]; ROUNDS + 1],
}

impl Wide {
    /// `None` where the machine lacks an instruction.
    pub(super) fn new(seed: u64) -> Option<Self> {
        let has = level() >= Level::Avx512 && std::arch::is_x86_feature_detected!("vaes");
        has.then(|| Self { keys: *Ars::new(seed).keys() })
    }

    /// The codes of whole groups, from element `first` on, which begins a block. `false` where they need more care.
    #[inline]
    pub(super) fn encode<const SCALING: u8, const ZERO: bool>(
        &self,
        x: &[f32],
        run: &Run,
        bytes: Bytes,
        first: u64,
        codes: &mut [u8],
    ) -> bool {
        let (x, _) = x.as_chunks::<GROUP>();
        let (codes, _) = codes.as_chunks_mut::<GROUP>();
        let block = first / BLOCK as u64;
        // SAFETY: the machine has the instructions.
        unsafe {
            if bytes.plain() {
                groups::<SCALING, ZERO, true>(x, run, bytes, &self.keys, block, codes)
            } else {
                groups::<SCALING, ZERO, false>(x, run, bytes, &self.keys, block, codes)
            }
        }
    }
}

/// In every lane.
#[derive(Clone, Copy)]
struct Scaling {
    scale: __m512,
    inverse: __m512,
    rest: __m512,
    zero_before: __m512,
}

/// As [`Wide::encode`]; whether no value needs more care. `PLAIN` where nothing is added to integers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,vaes")]
fn groups<const SCALING: u8, const ZERO: bool, const PLAIN: bool>(
    x: &[[f32; GROUP]],
    run: &Run,
    bytes: Bytes,
    keys: &[[u64; 2]; ROUNDS + 1],
    block: u64,
    codes: &mut [[u8; GROUP]],
) -> bool {
    let keys = keys.map(|[low, high]| _mm512_broadcast_i64x2(_mm_set_epi64x(high as i64, low as i64)));
    let by_lane = |value: __m256| _mm512_broadcastss_ps(_mm256_castps256_ps128(value));
    let by = Scaling {
        scale: by_lane(run.scale),
        inverse: by_lane(run.inverse),
        rest: by_lane(run.rest),
        zero_before: by_lane(run.zero_before),
    };
    let (moved, one) = (_mm512_set1_epi16(bytes.moved), _mm512_set1_epi16(1));
    let (low, high) = (_mm512_set1_epi8(bytes.low), _mm512_set1_epi8(bytes.high));
    let (zero, mask) = (_mm512_set1_epi8(bytes.zero), _mm512_set1_epi8(bytes.mask));
    let (lower, upper) = (halves(0), halves(1));
    // Packing works in quarters.
    let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    let following = |blocks: i64| _mm512_setr_epi64(blocks, 0, blocks, 0, blocks, 0, blocks, 0);
    let next = following((NUMBERS / BLOCK) as i64);
    // Counters have 64 bits.
    let mut counters = _mm512_add_epi64(following(block as i64), _mm512_setr_epi64(0, 0, 1, 0, 2, 0, 3, 0));
    let mut least = _mm512_setzero_si512();
    for (x, codes) in x.iter().zip(codes) {
        prefetch(x, AHEAD);
        let mut integers = [_mm512_setzero_si512(); GROUP / NUMBERS];
        let (values, _) = x.as_chunks::<NUMBERS>();
        for (integers, x) in integers.iter_mut().zip(values) {
            let (front, back) =
                (steps::<SCALING, ZERO>(x, 0, by), steps::<SCALING, ZERO>(x, NUMBERS / 2, by));
            let fractions = _mm512_permutex2var_epi16(front, lower, back);
            *integers = _mm512_permutex2var_epi16(front, upper, back);
            least = _mm512_min_epi16(least, *integers);
            // The upper neighbour, where the number lies below the distance from the lower one.
            let up = _mm512_cmplt_epu16_mask(numbers(&keys, counters), fractions);
            counters = _mm512_add_epi64(counters, next);
            *integers = _mm512_mask_add_epi16(*integers, up, *integers, one);
            if !PLAIN {
                *integers = _mm512_add_epi16(*integers, moved);
            }
        }
        let [front, back] = integers;
        let found = _mm512_permutexvar_epi64(order, _mm512_packs_epi16(front, back));
        let mut found = _mm512_min_epi8(_mm512_max_epi8(found, low), high);
        if !PLAIN {
            found = _mm512_and_si512(_mm512_add_epi8(found, zero), mask);
        }
        // SAFETY: as many places as the vector has.
        unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), found) };
    }
    _mm512_cmple_epi16_mask(least, _mm512_set1_epi16(BAD)) == 0
}

/// The lower halves of 32-bit words, or the upper ones, of two vectors one behind the other.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(upper: i16) -> __m512i {
    let mut order = [0i16; NUMBERS];
    for (place, order) in order.iter_mut().enumerate() {
        *order = 2 * place as i16 + upper;
    }
    // SAFETY: as many places as the vector has.
    unsafe { _mm512_loadu_si512(order.as_ptr().cast()) }
}

/// The numbers of four blocks.
#[inline]
#[target_feature(enable = "avx512f,vaes")]
fn numbers(keys: &[__m512i; ROUNDS + 1], counters: __m512i) -> __m512i {
    let mut state = _mm512_xor_si512(counters, keys[0]);
    for key in &keys[1..ROUNDS] {
        state = _mm512_aesenc_epi128(state, *key);
    }
    _mm512_aesenclast_epi128(state, keys[ROUNDS])
}

/// Sixteen values in the scale of their codes, with 2¹⁶ steps to an integer: one is above the number `k` of a value if
/// and only if `(k + ½)/65536` lies below the value (see `chosen` in `vectors`).
#[inline]
#[target_feature(enable = "avx512f")]
fn steps<const SCALING: u8, const ZERO: bool>(x: &[f32; NUMBERS], at: usize, by: Scaling) -> __m512i {
    // SAFETY: there are sixteen more values.
    let x = unsafe { _mm512_loadu_ps(x[at..].as_ptr()) };
    let v = match SCALING {
        PRODUCT_OF_STEPS => _mm512_mul_ps(x, by.scale),
        TWO_TERMS => _mm512_fmadd_ps(x, by.inverse, _mm512_mul_ps(x, by.rest)),
        _ => {
            let q = _mm512_mul_ps(x, by.inverse);
            let q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, by.scale, x), by.inverse, q);
            if SCALING == CORRECTED_ONCE {
                q
            } else {
                _mm512_fmadd_ps(_mm512_fnmadd_ps(q, by.scale, x), by.inverse, q)
            }
        }
    };
    let v = if ZERO { _mm512_add_ps(v, by.zero_before) } else { v };
    // What does not fit, NaN among it, becomes the most negative integer.
    _mm512_srai_epi32::<1>(_mm512_cvt_roundps_epi32::<UP>(v))
}
