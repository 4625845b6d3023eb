//! Codes of numbers of 16 bits by their bits alone, where scales are powers of two and levels mirror each other about zero.
//!
//! Scaled by a power of two, the bits of a magnitude change by a multiple of one exponent. So what cuts are made of lies at
//! the same distance from the bits of some power of two in all blocks, and magnitudes are compared as integers, twice as
//! many to a vector as numbers of f32. Vectors of 512 bits do not even compare: cells of a quarter of an octave have no
//! more than one cut each, and what a permutation finds there for the cell of a value is added to its distance, so that the
//! carry counts the cut of the cell.
//!
//! That takes normal numbers from the power of two on. Blocks of smaller numbers of f16 are multiplied by another one
//! first, which is exact. And what is so much smaller than its scale that their quotient is no number of f32 is zero.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use half::{bf16, f16};

use super::super::blocks::magnitudes::{SHORT, Values};
use super::super::blocks::steps::GROUPS;
use super::super::stream;
use super::super::vector::Lanes;
use super::cut_cells::{SIGN, magnitudes};
use super::fused::MagnitudeScale;

/// Cells, and those of an octave.
const CELLS: usize = 32;
const PER_OCTAVE: u32 = 4;

/// The most cuts between magnitudes.
const CUTS: usize = SIGN as usize - 1;

/// Bits of the significand of an f32 that are stored, and the exponent of one.
const MANTISSA: u32 = 23;
const BIAS: i32 = 127;

/// The exponent of what blocks of small numbers are multiplied by.
const LIFT: i32 = 16;

/// Numbers that have such codes, or have not.
pub(super) trait Bits: Values + Lanes {
    /// Bits of the significand that are stored, and the exponent of one.
    const MANTISSA: u32;
    const BIAS: i32;
}

impl Bits for f32 {
    const MANTISSA: u32 = MANTISSA;
    const BIAS: i32 = BIAS;
}

impl Bits for f16 {
    const MANTISSA: u32 = 10;
    const BIAS: i32 = 15;
}

impl Bits for bf16 {
    const MANTISSA: u32 = 7;
    const BIAS: i32 = BIAS;
}

/// Cuts as distances from the bits of a power of two, the origin.
#[derive(Debug, Clone)]
pub(super) struct BitCuts {
    /// What the distances of values that reach each cut are above; of none beyond the last cut.
    below: [i16; CUTS],
    /// What is added to a distance by its cell: the bits above those of the place in a cell are the code then.
    steps: [i16; CELLS],
    /// The exponent of the origin under a scale of one.
    origin: i32,
}

impl BitCuts {
    /// For ascending cuts between levels with these codes; `None` where codes by bits are not for them, or not for
    /// numbers of this type.
    pub(super) fn new<A: Bits>(cuts: &[f32], codes: &[u16], scale: MagnitudeScale) -> Option<Self> {
        let MagnitudeScale::Power { exponent, .. } = scale else { return None };
        let (cuts, codes) = magnitudes(cuts, codes).filter(|_| size_of::<A>() == 2)?;
        let used = cuts.iter().take_while(|&&cut| cut <= scale.reach()).count();
        let (cuts, codes) = (cuts.get(..used)?, codes.get(..=used)?);
        let (first, exponent) = (cuts.first()?, i32::try_from(exponent).ok()?);
        let counted = codes.iter().zip(0..).all(|(&code, at)| code == at);
        if !(counted && used <= CUTS && first.is_normal()) {
            return None;
        }
        // Below the first cut, so that this has a distance of its own.
        let fraction = first.to_bits() << (u32::BITS - MANTISSA);
        let origin = (first.to_bits() >> MANTISSA) as i32 - BIAS - i32::from(fraction == 0);
        // Then every value has a cell, and every origin is a normal number of bf16, or one of f16 if it is lifted.
        let within = (0..=LIFT - 10).contains(&(exponent - origin)) && (0..=16).contains(&exponent);
        if !within {
            return None;
        }
        let dropped = MANTISSA - A::MANTISSA;
        let start = ((origin + BIAS) as u32) << A::MANTISSA;
        // Of the smallest number of fewer bits that reaches the cut.
        let distance = |cut: &f32| (cut.to_bits().div_ceil(1 << dropped)).checked_sub(start);
        let mut made = Self { below: [i16::MAX; CUTS], steps: [0; CELLS], origin };
        let mut distances = [u32::MAX; CUTS];
        for ((cut, to), below) in cuts.iter().zip(&mut distances).zip(&mut made.below) {
            *to = distance(cut)?;
            *below = i16::try_from(*to).ok()? - 1;
        }
        let cell_len = 1 << (A::MANTISSA - PER_OCTAVE.ilog2());
        for (step, start) in made.steps.iter_mut().zip((0..).step_by(cell_len as usize)) {
            let passed = distances.iter().filter(|&&distance| distance < start).count() as u32;
            let mut inside =
                distances.iter().filter(|&&distance| distance >= start && distance < start + cell_len);
            *step = match (inside.next(), inside.next()) {
                (None, _) => (passed * cell_len).wrapping_sub(start) as i16,
                (Some(&cut), None) => ((passed + 1) * cell_len).wrapping_sub(cut) as i16,
                (Some(_), Some(_)) => return None,
            };
        }
        Some(made)
    }

    /// What is subtracted from the bits of the magnitudes of blocks of these scales, twice in each lane; and the blocks that
    /// [`fit`](Self::fit) has to change.
    ///
    /// # Safety
    ///
    /// Only for machines with AVX2.
    #[inline(always)]
    pub(super) unsafe fn starts<A: Bits>(&self, scales: __m256) -> (__m256i, i32) {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = _mm256_castps_si256(scales);
            let dropped = _mm_cvtsi32_si128((MANTISSA - A::MANTISSA) as i32);
            let origin = (A::BIAS - BIAS + self.origin) << A::MANTISSA;
            let mut starts = _mm256_add_epi32(_mm256_srl_epi32(bits, dropped), _mm256_set1_epi32(origin));
            let others = if A::BIAS == BIAS {
                _mm256_cmpgt_epi32(bits, _mm256_set1_epi32((BIAS + UNDERFLOWS) << MANTISSA))
            } else {
                // Scales of zeros may be smaller than any of other values.
                let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(1 << A::MANTISSA), starts);
                let some = _mm256_cmpgt_epi32(starts, _mm256_set1_epi32(-LIFT << A::MANTISSA));
                let others = _mm256_and_si256(small, some);
                let lift = _mm256_and_si256(others, _mm256_set1_epi32(LIFT << A::MANTISSA));
                starts = _mm256_add_epi32(starts, lift);
                others
            };
            let starts = _mm256_or_si256(starts, _mm256_slli_epi32::<16>(starts));
            (starts, _mm256_movemask_ps(_mm256_castsi256_ps(others)))
        }
    }

    /// Four blocks of 32 values as codes can be found of them: where they are, or else in the `room`. Those of the lowest
    /// four bits of `which` have to be changed.
    ///
    /// # Safety
    ///
    /// As [`prepared`].
    #[inline(always)]
    pub(super) unsafe fn fit<A: Bits>(
        &self,
        x: *const A,
        starts: &[u32; GROUPS],
        which: i32,
        room: &mut Option<[A; GROUPS * SHORT]>,
    ) -> *const A {
        if which & 0x0F == 0 {
            return x;
        }
        // SAFETY: the caller's promise.
        room.insert(unsafe { prepared(self, x, starts, which) }).as_ptr()
    }
}

/// A scale of at most two to the power of that, and any number of bf16 but zero, have a quotient in f32 that is not zero.
const UNDERFLOWS: i32 = 16;

/// As [`BitCuts::fit`], always elsewhere.
///
/// # Safety
///
/// There are 128 values at `x`. Only for machines with AVX2, FMA and F16C.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn prepared<A: Bits>(
    patterns: &BitCuts,
    x: *const A,
    starts: &[u32; GROUPS],
    which: i32,
) -> [A; GROUPS * SHORT] {
    let mut all = [A::default(); GROUPS * SHORT];
    for (block, start) in starts.iter().enumerate() {
        let chosen = which >> block & 1 == 1;
        let lift =
            if A::BIAS == BIAS || !chosen { 1.0 } else { f32::from_bits(((BIAS + LIFT) as u32) << MANTISSA) };
        let exponent = ((start & 0xFFFF) >> A::MANTISSA) as i32 - patterns.origin;
        let inverse = f32::from_bits(((2 * BIAS - exponent) as u32) << MANTISSA);
        for at in (block * SHORT..(block + 1) * SHORT).step_by(8) {
            // SAFETY: the caller's promise, and as many places.
            unsafe {
                let mut v = _mm256_mul_ps(A::eight(x.add(at)), _mm256_set1_ps(lift));
                if A::BIAS == BIAS && chosen {
                    let scaled = _mm256_mul_ps(v, _mm256_set1_ps(inverse));
                    v = _mm256_and_ps(v, _mm256_cmp_ps::<_CMP_NEQ_OQ>(scaled, _mm256_setzero_ps()));
                }
                A::put_eight::<false>(all.as_mut_ptr().add(at), v, false);
            }
        }
    }
    all
}

/// A way to find codes by [`BitCuts`], in registers.
pub(super) trait BitSearch: Copy {
    /// Writes the packed codes of four times 32 values.
    ///
    /// # Safety
    ///
    /// There are as many values at `x`, and places for 64 bytes at `to`, a multiple of 16 if `STREAM`. Only for machines with
    /// the instructions of the way.
    unsafe fn write<A: Bits, const STREAM: bool>(&self, x: *const A, starts: &[u32; GROUPS], to: *mut u8);
}

/// By cells, in vectors of 512 bits.
#[derive(Clone, Copy)]
pub(super) struct Cells {
    steps: __m512i,
    order: __m512i,
}

impl Cells {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(patterns: &BitCuts) -> Self {
        // SAFETY: 32 words.
        let steps = unsafe { _mm512_loadu_si512(patterns.steps.as_ptr().cast()) };
        Self { steps, order: _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15) }
    }
}

impl BitSearch for Cells {
    #[inline(always)]
    unsafe fn write<A: Bits, const STREAM: bool>(&self, x: *const A, starts: &[u32; GROUPS], to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut pairs = [_mm512_setzero_si512(); GROUPS];
            for (block, (pairs, &start)) in pairs.iter_mut().zip(starts).enumerate() {
                let x = _mm512_loadu_si512(x.add(SHORT * block).cast());
                let magnitudes = _mm512_and_si512(x, _mm512_set1_epi16(i16::MAX));
                let distances = _mm512_subs_epu16(magnitudes, _mm512_set1_epi32(start as i32));
                let codes = if A::MANTISSA == 10 {
                    let steps = _mm512_permutexvar_epi16(_mm512_srli_epi16::<8>(distances), self.steps);
                    _mm512_srli_epi16::<8>(_mm512_add_epi16(distances, steps))
                } else {
                    let steps = _mm512_permutexvar_epi16(_mm512_srli_epi16::<5>(distances), self.steps);
                    _mm512_srli_epi16::<5>(_mm512_add_epi16(distances, steps))
                };
                // Zeros of both signs are positive.
                let negative = _mm512_cmpgt_epu16_mask(x, _mm512_set1_epi16(i16::MIN));
                let codes = _mm512_mask_add_epi16(codes, negative, codes, _mm512_set1_epi16(SIGN as i16));
                // The first of two neighbours once, and the second sixteen times.
                *pairs = _mm512_madd_epi16(codes, _mm512_set1_epi32(0x0010_0001));
            }
            let [a, b, c, d] = pairs;
            // Packing works in quarters.
            let bytes = _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
            stream::store_line::<STREAM>(to, _mm512_permutexvar_epi32(self.order, bytes));
        }
    }
}

/// By a comparison with each cut, in vectors of 256 bits.
#[derive(Clone, Copy)]
pub(super) struct Comparisons([__m256i; CUTS]);

impl Comparisons {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(patterns: &BitCuts) -> Self {
        let mut below = [_mm256_setzero_si256(); CUTS];
        for (below, &one) in below.iter_mut().zip(&patterns.below) {
            *below = _mm256_set1_epi16(one);
        }
        Self(below)
    }
}

impl BitSearch for Comparisons {
    #[inline(always)]
    unsafe fn write<A: Bits, const STREAM: bool>(&self, x: *const A, starts: &[u32; GROUPS], to: *mut u8) {
        for (pair, starts) in starts.as_chunks().0.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let bytes = self.pair(x.add(2 * SHORT * pair), starts);
                stream::store_half_line::<STREAM>(to.add(SHORT * pair), bytes);
            }
        }
    }
}

impl Comparisons {
    /// The packed codes of twice 32 values.
    ///
    /// # Safety
    ///
    /// There are as many values at `x`, and two starts. Only for machines with AVX2.
    #[inline(always)]
    unsafe fn pair<A: Bits>(&self, x: *const A, starts: &[u32; 2]) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let mut words = [_mm256_setzero_si256(); 2];
            for (block, (words, &start)) in words.iter_mut().zip(starts).enumerate() {
                let start = _mm256_set1_epi32(start as i32);
                let front = self.sixteen(_mm256_loadu_si256(x.add(SHORT * block).cast()), start);
                let back = self.sixteen(_mm256_loadu_si256(x.add(SHORT * block + SHORT / 2).cast()), start);
                // The first of two neighbours once, and the second sixteen times.
                *words = _mm256_maddubs_epi16(_mm256_packus_epi16(front, back), _mm256_set1_epi16(0x1001));
            }
            // Packing works in halves.
            let bytes = _mm256_packus_epi16(words[0], words[1]);
            _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
        }
    }

    /// The codes of sixteen values, in words.
    ///
    /// # Safety
    ///
    /// Only for machines with AVX2.
    #[inline(always)]
    unsafe fn sixteen(&self, x: __m256i, start: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let magnitudes = _mm256_and_si256(x, _mm256_set1_epi16(i16::MAX));
            let distances = _mm256_subs_epu16(magnitudes, start);
            // A comparison that holds is −1.
            let mut passed = _mm256_cmpgt_epi16(distances, self.0[0]);
            for below in &self.0[1..] {
                passed = _mm256_add_epi16(passed, _mm256_cmpgt_epi16(distances, *below));
            }
            // Zeros of both signs are positive.
            let sign = _mm256_sign_epi16(_mm256_srli_epi16::<12>(x), magnitudes);
            let sign = _mm256_and_si256(sign, _mm256_set1_epi16(SIGN as i16));
            _mm256_sub_epi16(sign, passed)
        }
    }
}
