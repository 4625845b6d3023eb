//! In vectors of 512 bits, with numbers that never leave the registers: for processors that have AES for such vectors.
//!
//! The numbers of a group are computed while the group before it is encoded, a round here and there: a chain of rounds takes
//! long, and instructions that wait for it would keep others from being looked at.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::level;
use super::super::vector::Lanes;
use super::runs::{Bytes, Quick};
use crate::random::{Ars, ROUNDS};
use crate::simd::Level;

/// Values whose codes fill a vector.
pub(super) const GROUP: usize = 64;

/// Numbers of a block.
pub(super) const BLOCK: usize = 8;

/// Numbers of a vector.
const NUMBERS: usize = 32;

/// Groups whose sums are looked at together.
const TOGETHER: usize = 8;

/// Words with a bit for each group of what is encoded at once, and its values.
const WORDS: usize = 4;
pub(super) const MOST: usize = GROUP * WORDS * u64::BITS as usize;

/// A bit for each group.
pub(super) type Groups = [u64; WORDS];

/// The keys of the generator. That there is one says that the machine has AVX-512 F, BW, VL, DQ and VAES.
pub(super) struct Wide {
    keys: [[u64; 2]; ROUNDS + 1],
}

impl Wide {
    /// `None` where the machine lacks an instruction. The generator is that of complements.
    pub(super) fn new(generator: &Ars) -> Option<Self> {
        let has = level() >= Level::Avx512 && std::arch::is_x86_feature_detected!("vaes");
        has.then(|| Self { keys: *generator.keys() })
    }

    /// The codes of whole groups, at most [`MOST`], from element `first` on, which begins a block; past the caches if
    /// `stream`, where they begin a line. Which groups need more care.
    #[inline]
    pub(super) fn encode<A: Lanes>(
        &self,
        x: &[A],
        quick: &Quick,
        first: u64,
        stream: bool,
        codes: &mut [u8],
    ) -> Groups {
        let block = first / BLOCK as u64;
        debug_assert!(!stream || codes.as_ptr().addr().is_multiple_of(GROUP));
        // SAFETY: the machine has the instructions.
        unsafe {
            match (quick.bytes.plain(), stream) {
                (true, false) => pieces::<A, true, false>(x, quick, &self.keys, block, codes),
                (true, true) => pieces::<A, true, true>(x, quick, &self.keys, block, codes),
                (false, false) => pieces::<A, false, false>(x, quick, &self.keys, block, codes),
                (false, true) => pieces::<A, false, true>(x, quick, &self.keys, block, codes),
            }
        }
    }
}

/// Half-words of two vectors one behind the other.
#[repr(align(64))]
struct Order([i16; NUMBERS]);

/// The upper halves of their words.
static UPPER: Order = {
    let mut order = [0; NUMBERS];
    let mut place = 0;
    while place < NUMBERS {
        order[place] = 2 * place as i16 + 1;
        place += 1;
    }
    Order(order)
};

/// The second half of the numbers, each in the lower half of its word, whose upper half is the first of zeros.
static BACK: Order = {
    let mut order = [NUMBERS as i16; NUMBERS];
    let mut place = 0;
    while place < NUMBERS {
        order[place] = (NUMBERS / 2 + place / 2) as i16;
        place += 2;
    }
    Order(order)
};

/// The lower halves of words.
const LOWER_HALVES: __mmask32 = 0x5555_5555;

/// What a group takes, in every lane.
struct Vectors {
    factor: __m512,
    offset: __m512,
    upper: __m512i,
    back: __m512i,
    quarters: __m512i,
    moved: __m512i,
    low: __m512i,
    high: __m512i,
    zero: __m512i,
    mask: __m512i,
}

impl Vectors {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(quick: &Quick) -> Self {
        let Bytes { moved, low, high, zero, mask } = quick.bytes;
        // SAFETY: as many half-words as the vector has.
        let load = |order: &Order| unsafe { _mm512_load_si512(order.0.as_ptr().cast()) };
        Self {
            factor: _mm512_set1_ps(quick.factor),
            offset: _mm512_set1_ps(quick.offset),
            upper: load(&UPPER),
            back: load(&BACK),
            // Packing works in quarters.
            quarters: _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7),
            moved: _mm512_set1_epi16(moved),
            low: _mm512_set1_epi8(low),
            high: _mm512_set1_epi8(high),
            zero: _mm512_set1_epi8(zero),
            mask: _mm512_set1_epi8(mask),
        }
    }

    /// Sixteen values as steps. What does not fit, NaN among it, becomes the most negative integer.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
    unsafe fn steps<A: Lanes>(&self, x: *const A) -> __m512i {
        // SAFETY: the caller has sixteen values there.
        let x = unsafe { A::sixteen(x) };
        _mm512_cvtps_epi32(_mm512_fmadd_ps(x, self.factor, self.offset))
    }

    /// The integers of 32 values, whose steps are given in two vectors, and the lesser sums of steps and numbers; integers
    /// lower `least`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn integers(&self, steps: [__m512i; 2], numbers: __m512i, least: &mut __m512i) -> (__m512i, __m512i) {
        let [front, back] = steps;
        let first = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(numbers));
        let second = _mm512_permutex2var_epi16(numbers, self.back, _mm512_setzero_si512());
        let (front, back) = (_mm512_add_epi32(front, first), _mm512_add_epi32(back, second));
        let lowest = _mm512_min_epu16(front, back);
        let integers = _mm512_permutex2var_epi16(front, self.upper, back);
        *least = _mm512_min_epi16(*least, integers);
        (integers, lowest)
    }

    /// The codes of 64 integers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn codes<const PLAIN: bool>(&self, [front, back]: [__m512i; 2]) -> __m512i {
        if PLAIN {
            let found = _mm512_permutexvar_epi64(self.quarters, _mm512_packs_epi16(front, back));
            return _mm512_max_epi8(found, self.low);
        }
        let (front, back) = (_mm512_adds_epi16(front, self.moved), _mm512_adds_epi16(back, self.moved));
        let found = _mm512_permutexvar_epi64(self.quarters, _mm512_packs_epi16(front, back));
        let found = _mm512_min_epi8(_mm512_max_epi8(found, self.low), self.high);
        _mm512_and_si512(_mm512_add_epi8(found, self.zero), self.mask)
    }
}

/// As [`Wide::encode`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,vaes")]
fn pieces<A: Lanes, const PLAIN: bool, const STREAM: bool>(
    x: &[A],
    quick: &Quick,
    keys: &[[u64; 2]; ROUNDS + 1],
    block: u64,
    codes: &mut [u8],
) -> Groups {
    let keys = keys.map(|[low, high]| _mm512_broadcast_i64x2(_mm_set_epi64x(high as i64, low as i64)));
    let by = Vectors::new(quick);
    let (sure, misfit) = (_mm512_set1_epi16(quick.sure as i16), _mm512_set1_epi16(i16::MIN));
    // Counters have 64 bits.
    let following = |blocks: i64| _mm512_setr_epi64(blocks, 0, blocks, 0, blocks, 0, blocks, 0);
    let next = following((GROUP / BLOCK) as i64);
    let mut first = _mm512_add_epi64(following(block as i64), _mm512_setr_epi64(0, 0, 1, 0, 2, 0, 3, 0));
    let mut second = _mm512_add_epi64(first, following((NUMBERS / BLOCK) as i64));
    let mut numbers = [blocks(&keys, first), blocks(&keys, second)];
    let mut unsure = Groups::default();
    let (x, _) = x.as_chunks::<GROUP>();
    let (codes, _) = codes.as_chunks_mut::<GROUP>();
    let mut all = Lowest([_mm512_set1_epi16(-1); TOGETHER]);
    for (from, (x, codes)) in (0..).step_by(TOGETHER).zip(x.chunks(TOGETHER).zip(codes.chunks_mut(TOGETHER)))
    {
        let (mut lowest, mut least) = (_mm512_set1_epi16(-1), _mm512_setzero_si512());
        for ((x, codes), own) in x.iter().zip(codes).zip(&mut all.0) {
            let x = x.as_ptr();
            (first, second) = (_mm512_add_epi64(first, next), _mm512_add_epi64(second, next));
            let mut states = [_mm512_xor_si512(first, keys[0]), _mm512_xor_si512(second, keys[0])];
            let mut round = |key: usize| {
                states = states.map(|state| _mm512_aesenc_epi128(state, keys[key]));
            };
            // SAFETY: there are 64 values.
            unsafe {
                let front = by.steps(x);
                round(1);
                let steps = [front, by.steps(x.add(16))];
                round(2);
                let (front, one) = by.integers(steps, numbers[0], &mut least);
                round(3);
                let back = by.steps(x.add(32));
                round(4);
                let steps = [back, by.steps(x.add(48))];
                round(5);
                let (back, other) = by.integers(steps, numbers[1], &mut least);
                round(6);
                *own = _mm512_min_epu16(one, other);
                lowest = _mm512_min_epu16(lowest, *own);
                let found = by.codes::<PLAIN>([front, back]);
                if STREAM {
                    _mm512_stream_si512(codes.as_mut_ptr().cast(), found);
                } else {
                    _mm512_storeu_si512(codes.as_mut_ptr().cast(), found);
                }
            }
            numbers = states.map(|state| _mm512_aesenclast_epi128(state, keys[ROUNDS]));
        }
        // Of sums, the lower halves count.
        let few = |lowest: __m512i| _mm512_mask_cmplt_epu16_mask(LOWER_HALVES, lowest, sure) != 0;
        let misfits = _mm512_cmpeq_epi16_mask(least, misfit) != 0;
        if few(lowest) | misfits {
            for (group, own) in (from..from + x.len()).zip(&all.0) {
                let word = &mut unsure[group / u64::BITS as usize % WORDS];
                *word |= u64::from(misfits || few(*own)) << (group % u64::BITS as usize);
            }
        }
    }
    unsure
}

/// The lesser sums of each of some groups.
#[repr(align(64))]
struct Lowest([__m512i; TOGETHER]);

/// The numbers of four blocks.
#[inline]
#[target_feature(enable = "avx512f,vaes")]
fn blocks(keys: &[__m512i; ROUNDS + 1], counters: __m512i) -> __m512i {
    let mut state = _mm512_xor_si512(counters, keys[0]);
    for key in &keys[1..ROUNDS] {
        state = _mm512_aesenc_epi128(state, *key);
    }
    _mm512_aesenclast_epi128(state, keys[ROUNDS])
}
