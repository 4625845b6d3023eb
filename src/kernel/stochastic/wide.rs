//! In vectors of 512 bits, with numbers that never leave the registers: for processors that have AES for such vectors.
//!
//! The numbers of a group are computed while the group before it is encoded, a round here and there: a chain of rounds takes
//! long, and instructions that wait for it would keep others from being looked at.
//!
//! Integers within the bounds are moved below zero, all the way up to −1. Then the upper half of a sum tells whether its
//! integer is such as the lower one tells whether it is sure: it is no less than some number. One minimum serves both.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::aes::{Blocks, Shared};
use super::super::vector::Lanes;
use super::super::{level, prefetch};
use super::runs::{BOUNDED, Bytes, INSIDE, Lane, MASKED, PLAIN, Quick, is_inside};
use crate::random::ROUNDS;
use crate::simd::Level;

/// Values whose codes fill a vector.
pub(super) const GROUP: usize = 64;

/// Numbers of a block.
pub(super) const BLOCK: usize = 8;

/// Numbers of a vector.
const NUMBERS: usize = 32;

/// Bytes ahead that are asked for where codes go past the caches, of values of 16 bits: a group takes longer than reading
/// its two lines.
const AHEAD: usize = 2048;

/// Groups whose sums are looked at together.
const TOGETHER: usize = 8;

/// Words with a bit for each group of what is encoded at once, and its values.
const WORDS: usize = 4;
pub(super) const MOST: usize = GROUP * WORDS * u64::BITS as usize;

/// Values that tell about others.
pub(super) const FEW: usize = 32 * GROUP;

/// A bit for each group.
pub(super) type Groups = [u64; WORDS];

/// Whether the machine has AVX-512 F, BW, VL, DQ and VBMI, and VAES.
pub(super) fn serves() -> bool {
    use std::arch::is_x86_feature_detected as has;
    level() >= Level::Avx512 && has!("vaes") && has!("avx512vbmi")
}

/// The codes of whole groups, at most [`MOST`], from element `first` on, which begins a block; past the caches if
/// `stream`, where they begin a line. Which groups need more care: if `inside`, also those with a value out of bounds,
/// and others take less time. Only where the machine [`serves`]; the numbers are complements.
#[inline]
pub(super) fn encode<A: Lanes>(
    x: &[A],
    quick: &Quick,
    inside: bool,
    blocks: &Blocks,
    first: u64,
    stream: bool,
    codes: &mut [u8],
) -> Groups {
    let block = first / BLOCK as u64;
    debug_assert!(serves() && (!stream || codes.as_ptr().addr().is_multiple_of(GROUP)));
    // SAFETY: the machine has the instructions.
    unsafe {
        match (if inside { quick.inside() } else { quick.anywhere() }, stream) {
            (INSIDE, false) => pieces::<A, INSIDE, false>(x, quick, blocks, block, codes),
            (INSIDE, true) => pieces::<A, INSIDE, true>(x, quick, blocks, block, codes),
            (MASKED, false) => pieces::<A, MASKED, false>(x, quick, blocks, block, codes),
            (MASKED, true) => pieces::<A, MASKED, true>(x, quick, blocks, block, codes),
            (PLAIN, false) => pieces::<A, PLAIN, false>(x, quick, blocks, block, codes),
            (PLAIN, true) => pieces::<A, PLAIN, true>(x, quick, blocks, block, codes),
            (_, false) => pieces::<A, BOUNDED, false>(x, quick, blocks, block, codes),
            (_, true) => pieces::<A, BOUNDED, true>(x, quick, blocks, block, codes),
        }
    }
}

/// Half-words of two vectors one behind the other.
#[repr(align(64))]
struct Order([i16; NUMBERS]);

/// Bytes of two vectors one behind the other.
#[repr(align(64))]
struct ByteOrder([i8; GROUP]);

/// Where the words of two vectors are, one behind the other or, if `alternate`, in turns.
const fn word(place: usize, alternate: bool) -> usize {
    if alternate { place % 2 * (NUMBERS / 2) + place / 2 } else { place }
}

/// The upper halves of the words, one behind the other and in turns.
static UPPER: [Order; 2] = [upper(false), upper(true)];

const fn upper(alternate: bool) -> Order {
    let mut order = [0; NUMBERS];
    let mut place = 0;
    while place < NUMBERS {
        order[place] = 2 * word(place, alternate) as i16 + 1;
        place += 1;
    }
    Order(order)
}

/// The third bytes of the words, twice.
static THIRD: [ByteOrder; 2] = [third(false), third(true)];

const fn third(alternate: bool) -> ByteOrder {
    let mut order = [0; GROUP];
    let mut place = 0;
    while place < GROUP {
        order[place] = 4 * word(place % NUMBERS, alternate) as i8 + 2;
        place += 1;
    }
    ByteOrder(order)
}

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

/// What a group takes, in every lane.
struct Vectors {
    factor: __m512,
    offset: __m512,
    upper: __m512i,
    back: __m512i,
    third: __m512i,
    quarters: __m512i,
    moved: __m512i,
    low: __m512i,
    high: __m512i,
    zero: __m512i,
    mask: __m512i,
    /// Halves of sums that are less need more care.
    least: __m512i,
}

impl Vectors {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new<A: Lanes, const HOW: u8>(quick: &Quick) -> Self {
        let (Bytes { moved, low, high, mask, .. }, Lane { offset, zero, least }) =
            (quick.bytes, quick.lane(HOW));
        // SAFETY: as much as the vector has.
        let load = |order: *const i16| unsafe { _mm512_load_si512(order.cast()) };
        Self {
            factor: _mm512_set1_ps(quick.factor),
            offset: _mm512_set1_ps(offset),
            upper: load(UPPER[usize::from(A::READ_IN_TURNS)].0.as_ptr()),
            back: load(BACK.0.as_ptr()),
            third: load(THIRD[usize::from(A::READ_IN_TURNS)].0.as_ptr().cast()),
            // Packing works in quarters.
            quarters: _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7),
            moved: _mm512_set1_epi16(moved),
            low: _mm512_set1_epi8(low),
            high: _mm512_set1_epi8(high),
            zero: _mm512_set1_epi8(zero),
            mask: _mm512_set1_epi8(mask),
            least: _mm512_set1_epi32(least),
        }
    }

    /// The sums of the steps of 32 values and their numbers, in two vectors. Steps that do not fit, NaN among them, are the
    /// most negative integer.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
    unsafe fn sums<A: Lanes>(&self, x: *const A, numbers: __m512i) -> [__m512i; 2] {
        // SAFETY: the caller has 32 values there.
        let [front, back] = unsafe { A::two_sixteens(x) };
        let front = _mm512_cvtps_epi32(_mm512_fmadd_ps(front, self.factor, self.offset));
        let back = _mm512_cvtps_epi32(_mm512_fmadd_ps(back, self.factor, self.offset));
        let (first, second) = if A::READ_IN_TURNS {
            let even = _mm512_and_si512(numbers, _mm512_set1_epi32(u16::MAX.into()));
            (even, _mm512_srli_epi32::<16>(numbers))
        } else {
            let second = _mm512_permutex2var_epi16(numbers, self.back, _mm512_setzero_si512());
            (_mm512_cvtepu16_epi32(_mm512_castsi512_si256(numbers)), second)
        };
        [_mm512_add_epi32(front, first), _mm512_add_epi32(back, second)]
    }

    /// The codes of 64 values from their sums. Integers lower `least`, unless they are said to be inside.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn codes<const HOW: u8>(
        &self,
        [a, b]: [__m512i; 2],
        [c, d]: [__m512i; 2],
        least: &mut __m512i,
    ) -> __m512i {
        /// The second half.
        const BACK: __mmask8 = 0b1111_0000;
        if is_inside(HOW) {
            let front = _mm512_permutex2var_epi8(a, self.third, b);
            let back = _mm512_permutex2var_epi8(c, self.third, d);
            let found = _mm512_add_epi8(_mm512_mask_blend_epi64(BACK, front, back), self.zero);
            return if HOW == INSIDE { found } else { _mm512_and_si512(found, self.mask) };
        }
        let mut front = _mm512_permutex2var_epi16(a, self.upper, b);
        let mut back = _mm512_permutex2var_epi16(c, self.upper, d);
        *least = _mm512_min_epi16(*least, _mm512_min_epi16(front, back));
        if HOW == PLAIN {
            let found = _mm512_permutexvar_epi64(self.quarters, _mm512_packs_epi16(front, back));
            return _mm512_max_epi8(found, self.low);
        }
        (front, back) = (_mm512_adds_epi16(front, self.moved), _mm512_adds_epi16(back, self.moved));
        let found = _mm512_permutexvar_epi64(self.quarters, _mm512_packs_epi16(front, back));
        let found = _mm512_min_epi8(_mm512_max_epi8(found, self.low), self.high);
        _mm512_and_si512(_mm512_add_epi8(found, self.zero), self.mask)
    }
}

/// As [`encode`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,f16c,aes,vaes")]
fn pieces<A: Lanes, const HOW: u8, const STREAM: bool>(
    x: &[A],
    quick: &Quick,
    blocks: &Blocks,
    mut block: u64,
    codes: &mut [u8],
) -> Groups {
    let mut source = Source::new(blocks, block);
    let keys = source.keys;
    let by = Vectors::new::<A, HOW>(quick);
    let misfit = _mm512_set1_epi16(i16::MIN);
    let rounds =
        |states: [__m512i; 2], key: usize| states.map(|state| _mm512_aesenc_epi128(state, keys[key]));
    let last = |states: [__m512i; 2]| states.map(|state| _mm512_aesenclast_epi128(state, keys[ROUNDS]));
    let mut numbers = source.after_two_rounds(block);
    for key in 3..ROUNDS {
        numbers = rounds(numbers, key);
    }
    numbers = last(numbers);
    let mut unsure = Groups::default();
    let (x, _) = x.as_chunks::<GROUP>();
    let (codes, _) = codes.as_chunks_mut::<GROUP>();
    let mut all = Lowest([_mm512_set1_epi16(-1); TOGETHER]);
    for (from, (x, codes)) in (0..).step_by(TOGETHER).zip(x.chunks(TOGETHER).zip(codes.chunks_mut(TOGETHER)))
    {
        let (mut lowest, mut least) = (_mm512_set1_epi16(-1), _mm512_setzero_si512());
        for ((x, codes), own) in x.iter().zip(codes).zip(&mut all.0) {
            if STREAM && size_of::<A>() < size_of::<f32>() {
                prefetch(x, AHEAD);
            }
            let x = x.as_ptr();
            block = block.wrapping_add((GROUP / BLOCK) as u64);
            let mut states = source.after_two_rounds(block);
            let mut round = |key: usize| states = rounds(states, key);
            // SAFETY: there are 64 values.
            unsafe {
                round(3);
                let [a, b] = by.sums(x, numbers[0]);
                round(4);
                round(5);
                let [c, d] = by.sums(x.add(NUMBERS), numbers[1]);
                round(6);
                *own = _mm512_min_epu16(_mm512_min_epu16(a, b), _mm512_min_epu16(c, d));
                lowest = _mm512_min_epu16(lowest, *own);
                let found = by.codes::<HOW>([a, b], [c, d], &mut least);
                if STREAM {
                    _mm512_stream_si512(codes.as_mut_ptr().cast(), found);
                } else {
                    _mm512_storeu_si512(codes.as_mut_ptr().cast(), found);
                }
            }
            numbers = last(states);
        }
        let few = |lowest: __m512i| _mm512_cmplt_epu16_mask(lowest, by.least) != 0;
        // What does not fit is not inside.
        let misfits = !is_inside(HOW) && _mm512_cmpeq_epi16_mask(least, misfit) != 0;
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

/// Where the numbers of groups come from: eight blocks in two vectors.
struct Source<'a> {
    blocks: &'a Blocks,
    keys: [__m512i; ROUNDS + 1],
    /// What the other bytes of the number of a block add, for the blocks that differ from one in the lowest byte only.
    others: __m512i,
    window: u64,
}

impl<'a> Source<'a> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,aes")]
    fn new(blocks: &'a Blocks, block: u64) -> Self {
        let broadcast =
            |&[low, high]: &[u64; 2]| _mm512_broadcast_i64x2(_mm_set_epi64x(high as i64, low as i64));
        let (keys, _) = blocks.parts();
        let mut source =
            Self { blocks, keys: keys.each_ref().map(broadcast), others: _mm512_setzero_si512(), window: 0 };
        source.go_to(block);
        source
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,aes")]
    fn go_to(&mut self, block: u64) {
        self.window = block >> 8;
        self.others = _mm512_broadcast_i64x2(Shared::others(self.blocks.parts().0, block));
    }

    /// The states of eight blocks.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,aes,vaes")]
    fn after_two_rounds(&mut self, block: u64) -> [__m512i; 2] {
        if block >> 8 != self.window {
            self.go_to(block);
        }
        let (_, shared) = self.blocks.parts();
        if let Some(parts) = shared.parts::<{ GROUP / BLOCK }>(block) {
            let parts = parts.as_ptr().cast::<__m512i>();
            // SAFETY: there are eight blocks of 128 bits.
            let parts = unsafe { [_mm512_loadu_si512(parts), _mm512_loadu_si512(parts.add(1))] };
            return parts.map(|part| _mm512_xor_si512(part, self.others));
        }
        // Counters have 64 bits.
        let numbers = |first: u64| {
            let following = _mm512_setr_epi64(0, 0, 1, 0, 2, 0, 3, 0);
            _mm512_add_epi64(_mm512_broadcast_i64x2(_mm_set_epi64x(0, first as i64)), following)
        };
        [numbers(block), numbers(block.wrapping_add((NUMBERS / BLOCK) as u64))].map(|numbers| {
            let state = _mm512_xor_si512(numbers, self.keys[0]);
            _mm512_aesenc_epi128(_mm512_aesenc_epi128(state, self.keys[1]), self.keys[2])
        })
    }
}
