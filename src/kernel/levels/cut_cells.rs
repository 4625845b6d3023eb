//! Tables of at most 16 levels in vectors of 512 bits: the place of a value among the cuts by one comparison.
//!
//! The range that values lie in has 32 cells of one width, so narrow that none has more than one cut. A multiplication and
//! an addition put the number of a value's cell into the lowest bits of the sum, two permutations look up the only cut
//! that the value may reach there and the code below it, and the comparison with that cut decides. The cell only chooses
//! the cut: its number never decreases with the value, so that all cuts of other cells are passed or not without a
//! question, however the sum was rounded.
//!
//! Levels that mirror each other about zero, under codes with a bit for the sign, are searched by their magnitude: the cells
//! are half as wide then, and cuts lie closest near zero.
#![allow(unsafe_code)] // loads and stores of whole vectors

use core::arch::x86_64::*;

use half::{bf16, f16};

use super::super::blocks::magnitudes::{SHORT, Values};
use super::super::blocks::steps::GROUPS;
use super::super::vector::Lanes;

/// Cells.
const CELLS: usize = 32;

/// Elements of a vector.
const LANES: usize = 16;

/// A number of f32 whose ulp is one, with zeros in its lowest bits: what is added to it is rounded to an integer there.
const UNITS: f32 = 12_582_912.0;

/// The bit of a code that is the sign.
pub(super) const SIGN: u16 = 8;

/// The cells of one map, and the code below the cut of each.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(super) struct CutCells {
    cuts: [f32; CELLS],
    codes: [u32; CELLS],
    /// Cells to a unit, and the cell of zero.
    scale: f32,
    zero: f32,
    /// Whether values are searched by their magnitude.
    pub(super) mirrored: bool,
}

impl CutCells {
    /// For values of at most `reach`, among up to 15 ascending cuts between levels with these codes; `None` where two cuts
    /// share a cell, or codes do not ascend by ones.
    pub(super) fn new(cuts: &[f32], codes: &[u16], reach: f32) -> Option<Self> {
        let half = (CELLS / 2) as f32;
        // A little less than all cells, for what is rounded.
        let even = Self::of(cuts, codes, reach, (half - 0.51, half, false));
        even.or_else(|| {
            let (cuts, codes) = magnitudes(cuts, codes)?;
            Self::of(cuts, codes, reach, (2.0 * half - 0.51, 0.0, true))
        })
    }

    fn of(
        cuts: &[f32],
        codes: &[u16],
        reach: f32,
        (cells, zero, mirrored): (f32, f32, bool),
    ) -> Option<Self> {
        // No value is so large.
        let used = cuts.iter().take_while(|&&cut| cut <= reach).count();
        let (cuts, codes) = (cuts.get(..used)?, codes.get(..=used)?);
        let ascending =
            codes.windows(2).all(|pair| pair[0] + 1 == pair[1]) && codes.iter().all(|&code| code < 16);
        let inside = cuts.iter().all(|&cut| (if mirrored { 0.0 } else { -reach }) <= cut);
        let scale = cells / reach;
        if !(ascending && inside && scale.is_normal()) {
            return None;
        }
        let last = u32::from(*codes.last()?);
        // Nothing reaches a NaN.
        let none = ([f32::NAN; CELLS], [last; CELLS]);
        let mut made = Self { cuts: none.0, codes: none.1, scale, zero: UNITS + zero, mirrored };
        let mut next = 0;
        for (&cut, &code) in cuts.iter().zip(codes) {
            let cell = made.cell(cut);
            if cell < next {
                return None;
            }
            // The cells since the cut before have this one ahead, so that a comparison with it does not hold.
            made.cuts[next..=cell].fill(cut);
            made.codes[next..=cell].fill(code.into());
            next = cell + 1;
        }
        Some(made)
    }

    fn cell(&self, v: f32) -> usize {
        v.mul_add(self.scale, self.zero).to_bits() as usize % CELLS
    }
}

/// The cuts between magnitudes and the codes of these, where levels mirror each other.
pub(super) fn magnitudes<'a>(cuts: &'a [f32], codes: &'a [u16]) -> Option<(&'a [f32], &'a [u16])> {
    let middle = cuts.iter().position(|&cut| cut == 0.0)?;
    let (below, above) = (cuts.get(..middle)?, cuts.get(middle + 1..)?);
    let (negative, positive) = (codes.get(..=middle)?, codes.get(middle + 1..)?);
    // A value that does not reach the upper cut in magnitude reaches the lower one, and no other.
    let mirrored = below.len() == above.len()
        && below.iter().rev().zip(above).all(|(&low, &high)| low == (-high).next_up())
        && negative.len() == positive.len()
        && negative.iter().rev().zip(positive).all(|(&low, &high)| high < SIGN && low == (high | SIGN));
    mirrored.then_some((above, positive))
}

/// [`CutCells`] in registers.
#[derive(Clone, Copy)]
pub(super) struct Registers {
    cuts: [__m512; 2],
    codes: [__m512i; 2],
    /// The same, as the second of two codes in a byte.
    upper: [__m512i; 2],
    scale: __m512,
    zero: __m512,
}

impl Registers {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(cells: &CutCells) -> Self {
        let (cuts, codes) = (cells.cuts.as_ptr(), cells.codes.as_ptr());
        // SAFETY: twice sixteen of each.
        unsafe {
            let codes = [_mm512_loadu_si512(codes.cast()), _mm512_loadu_si512(codes.add(LANES).cast())];
            Self {
                cuts: [_mm512_loadu_ps(cuts), _mm512_loadu_ps(cuts.add(LANES))],
                codes,
                upper: [_mm512_slli_epi32::<4>(codes[0]), _mm512_slli_epi32::<4>(codes[1])],
                scale: _mm512_set1_ps(cells.scale),
                zero: _mm512_set1_ps(cells.zero),
            }
        }
    }

    /// The codes of four vectors by factors, or by divisors if `DIVIDE`: in the lowest bits of each lane, or in the four
    /// above them if `UPPER`. One step of all four after the other, so that none waits for the one before.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn codes<const DIVIDE: bool, const MIRRORED: bool, const UPPER: bool>(
        &self,
        x: [__m512; 4],
        factors: [__m512; 4],
    ) -> [__m512i; 4] {
        let [low, high] = if UPPER { self.upper } else { self.codes };
        let one = _mm512_set1_epi32(if UPPER { 16 } else { 1 });
        let sign = _mm512_set1_epi32(i32::from(SIGN) * if UPPER { 16 } else { 1 });
        let (mut v, mut cells, mut codes) = (x, [low; 4], [low; 4]);
        let (mut negative, mut passed) = ([0; 4], [0; 4]);
        for i in 0..4 {
            v[i] = if DIVIDE { _mm512_div_ps(x[i], factors[i]) } else { _mm512_mul_ps(x[i], factors[i]) };
        }
        if MIRRORED {
            for i in 0..4 {
                // Zeros of both signs are positive.
                negative[i] = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(v[i], _mm512_setzero_ps());
                v[i] = _mm512_abs_ps(v[i]);
            }
        }
        for i in 0..4 {
            cells[i] = _mm512_castps_si512(_mm512_fmadd_ps(v[i], self.scale, self.zero));
        }
        for i in 0..4 {
            let cuts = _mm512_permutex2var_ps(self.cuts[0], cells[i], self.cuts[1]);
            codes[i] = _mm512_permutex2var_epi32(low, cells[i], high);
            passed[i] = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(v[i], cuts);
        }
        for i in 0..4 {
            codes[i] = _mm512_mask_add_epi32(codes[i], passed[i], codes[i], one);
            if MIRRORED {
                codes[i] = _mm512_mask_or_epi32(codes[i], negative[i], codes[i], sign);
            }
        }
        codes
    }
}

/// Numbers whose codes of 4 bits are put into bytes.
pub(super) trait Packed: Values + Lanes {
    /// The packed codes of four times 32 numbers, each with its factor or divisor.
    ///
    /// # Safety
    ///
    /// There are as many numbers at `x`, and four factors at `factors`. Only for machines with AVX-512 F, BW, VL and DQ.
    #[inline(always)]
    unsafe fn codes<const DIVIDE: bool, const MIRRORED: bool>(
        x: *const Self,
        factors: *const f32,
        search: &Registers,
    ) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { in_order::<Self, DIVIDE, MIRRORED>(x, factors, search) }
    }
}

impl Packed for f32 {}

impl Packed for f16 {}

/// Numbers in the order in which they lie in memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn in_order<A: Lanes, const DIVIDE: bool, const MIRRORED: bool>(
    x: *const A,
    factors: *const f32,
    search: &Registers,
) -> __m512i {
    // The first of two neighbours once, and the second sixteen times.
    let weights = _mm512_set1_epi16(0x1001);
    let mut words = [_mm512_setzero_si512(); 2];
    for (half, words) in words.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let (x, factors) = unsafe {
            let (x, factors) = (x.add(2 * SHORT * half), factors.add(2 * half));
            let x = [A::sixteen(x), A::sixteen(x.add(16)), A::sixteen(x.add(32)), A::sixteen(x.add(48))];
            (x, [_mm512_set1_ps(*factors), _mm512_set1_ps(*factors.add(1))])
        };
        let [front, back] = factors;
        let [a, b, c, d] = search.codes::<DIVIDE, MIRRORED, false>(x, [front, front, back, back]);
        let codes = _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
        *words = _mm512_maddubs_epi16(codes, weights);
    }
    // Packing works in quarters: each has two bytes of each vector.
    let order = _mm512_set_epi16(
        31, 23, 15, 7, 30, 22, 14, 6, 29, 21, 13, 5, 28, 20, 12, 4, 27, 19, 11, 3, 26, 18, 10, 2, 25, 17, 9,
        1, 24, 16, 8, 0,
    );
    _mm512_permutexvar_epi16(order, _mm512_packus_epi16(words[0], words[1]))
}

impl Packed for bf16 {
    #[inline(always)]
    unsafe fn codes<const DIVIDE: bool, const MIRRORED: bool>(
        x: *const Self,
        factors: *const f32,
        search: &Registers,
    ) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { by_neighbours::<DIVIDE, MIRRORED>(x, factors, search) }
    }
}

/// Every other number, and those between: widening them takes no permutation, and their codes lie where bytes have them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn by_neighbours<const DIVIDE: bool, const MIRRORED: bool>(
    x: *const bf16,
    factors: *const f32,
    search: &Registers,
) -> __m512i {
    let zero = _mm512_setzero_ps();
    let upper = _mm512_set1_epi32(0xFFFF_0000u32 as i32);
    let (mut even, mut odd, mut all) = ([zero; GROUPS], [zero; GROUPS], [zero; GROUPS]);
    for i in 0..GROUPS {
        // SAFETY: the caller's promise.
        let pairs = unsafe { _mm512_loadu_si512(x.add(SHORT * i).cast()) };
        // They are the upper halves of the same numbers of f32.
        even[i] = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs));
        odd[i] = _mm512_castsi512_ps(_mm512_and_si512(pairs, upper));
        // SAFETY: as above.
        all[i] = _mm512_set1_ps(unsafe { *factors.add(i) });
    }
    let even = search.codes::<DIVIDE, MIRRORED, false>(even, all);
    let odd = search.codes::<DIVIDE, MIRRORED, true>(odd, all);
    let words = _mm512_packus_epi32(_mm512_or_si512(even[0], odd[0]), _mm512_or_si512(even[1], odd[1]));
    let more = _mm512_packus_epi32(_mm512_or_si512(even[2], odd[2]), _mm512_or_si512(even[3], odd[3]));
    // Packing works in quarters.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(order, _mm512_packus_epi16(words, more))
}
