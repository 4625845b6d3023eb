//! The loops, by vectors of 256 bits but for the codes, which have vectors of 512 bits where the machine does.
#![allow(unsafe_code)] // intrinsics on pointers, and calls where the instructions were detected

use core::arch::x86_64::*;

use super::super::cut_cells::{self, GROUPS, Packed};
use super::super::short;
use super::{BlockLevels, EVERYDAY, MANTISSA, MagnitudeScale};
use crate::kernel::blocks::Places;
use crate::kernel::blocks::magnitudes::{SHORT, Values, four, joined};
use crate::kernel::stream;
use crate::simd::Level;

/// Values whose scales are found together: of one each for 32 of them.
const BATCH: usize = 256;

/// Bytes of its codes.
const BYTES: usize = BATCH / 2;

/// Scales of a batch, lanes of a vector.
const LANES: usize = BATCH / SHORT;

/// Batches by which codes are behind magnitudes.
const LAG: usize = 2;

/// As [`BlockLevels::encode`], for machines with AVX2, FMA and F16C, and what it has checked.
pub(super) fn encode<A: Packed>(x: &[A], width: usize, rule: &BlockLevels, places: Places<'_>) -> bool {
    let Places { scales, codes, stream } = places;
    let stream = stream && stream::is_aligned(codes);
    let (batches, rest) = x.as_chunks::<BATCH>();
    let (whole, last) = codes.split_at_mut(batches.len() * BYTES);
    // Of each lane at first.
    scales.resize(x.len().div_ceil(BATCH) * LANES, 0.0);
    let (lanes, last_lanes) = scales.as_chunks_mut::<LANES>().0.split_at_mut(batches.len());
    let mut usual = each(batches, width, rule, stream, lanes, whole.as_chunks_mut().0);
    if !rest.is_empty() && usual {
        // In a place of their own, where zeros follow.
        let (mut batch, mut bytes) = ([A::default(); BATCH], [[0; BYTES]]);
        batch[..rest.len()].copy_from_slice(rest);
        usual = each(&[batch], width, rule, false, last_lanes, &mut bytes);
        let used = rest.len().div_ceil(2);
        last[..used].copy_from_slice(&bytes[0][..used]);
        if !rest.len().is_multiple_of(2) {
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

fn each<A: Packed>(
    x: &[[A; BATCH]],
    width: usize,
    rule: &BlockLevels,
    stream: bool,
    scales: &mut [[f32; LANES]],
    codes: &mut [[u8; BYTES]],
) -> bool {
    let batches = Batches { x, width, rule, scales, codes };
    let wide = if crate::kernel::level() >= Level::Avx512 { rule.cells.as_ref() } else { None };
    // SAFETY: the level says that the machine has AVX-512 F, BW, VL and DQ where cells are used, the caller that it has
    // AVX2, FMA and F16C, and places are aligned if the codes go past the caches.
    unsafe {
        match (wide, rule.divide, stream) {
            (Some(cells), false, false) => batches.by_cells::<false, false>(cells),
            (Some(cells), false, true) => batches.by_cells::<false, true>(cells),
            (Some(cells), true, false) => batches.by_cells::<true, false>(cells),
            (Some(cells), true, true) => batches.by_cells::<true, true>(cells),
            (None, false, false) => batches.by_search::<false, false>(),
            (None, false, true) => batches.by_search::<false, true>(),
            (None, true, false) => batches.by_search::<true, false>(),
            (None, true, true) => batches.by_search::<true, true>(),
        }
    }
}

/// How the codes of half a batch are found, once its scales are there.
trait Codes<A>: Copy {
    /// # Safety
    ///
    /// There are 128 values at `x`, four factors or divisors at `factors`, and places for 64 bytes at `to`, a multiple of
    /// 16 if `STREAM`.
    unsafe fn write<const STREAM: bool>(self, x: *const A, factors: *const f32, to: *mut u8);
}

/// By cells, in vectors of 512 bits.
#[derive(Clone, Copy)]
struct ByCells<'a, const DIVIDE: bool, const MIRRORED: bool>(&'a cut_cells::Registers);

impl<A: Packed, const DIVIDE: bool, const MIRRORED: bool> Codes<A> for ByCells<'_, DIVIDE, MIRRORED> {
    #[inline(always)]
    unsafe fn write<const STREAM: bool>(self, x: *const A, factors: *const f32, to: *mut u8) {
        // SAFETY: registers are there where the instructions are; the rest is the caller's promise.
        unsafe {
            let bytes = A::codes::<DIVIDE, MIRRORED>(x, factors, self.0);
            stream::store_line::<STREAM>(to, bytes);
        }
    }
}

/// By four comparisons, in vectors of 256 bits.
#[derive(Clone, Copy)]
struct BySearch<'a, const DIVIDE: bool>(&'a short::Registers);

impl<A: Values, const DIVIDE: bool> Codes<A> for BySearch<'_, DIVIDE> {
    #[inline(always)]
    unsafe fn write<const STREAM: bool>(self, x: *const A, factors: *const f32, to: *mut u8) {
        for pair in 0..GROUPS / 2 {
            // SAFETY: registers are there where the instructions are; the rest is the caller's promise.
            unsafe {
                let (x, factors, to) = (x.add(2 * SHORT * pair), factors.add(2 * pair), to.add(SHORT * pair));
                let bytes = self.0.packed::<A, DIVIDE>(x, [*factors, *factors.add(1)]);
                stream::store_half_line::<STREAM>(to, bytes);
            }
        }
    }
}

/// What batches are made of, and what of them.
struct Batches<'a, A> {
    x: &'a [[A; BATCH]],
    width: usize,
    rule: &'a BlockLevels,
    scales: &'a mut [[f32; LANES]],
    codes: &'a mut [[u8; BYTES]],
}

impl<A: Packed> Batches<'_, A> {
    /// # Safety
    ///
    /// Places for codes are multiples of 16 if `STREAM`.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn by_cells<const DIVIDE: bool, const STREAM: bool>(self, cells: &cut_cells::CutCells) -> bool {
        let registers = cut_cells::Registers::new(cells);
        // SAFETY: this function has the instructions; the rest is the caller's promise.
        unsafe {
            if cells.mirrored {
                self.run::<_, DIVIDE, STREAM>(ByCells::<DIVIDE, true>(&registers))
            } else {
                self.run::<_, DIVIDE, STREAM>(ByCells::<DIVIDE, false>(&registers))
            }
        }
    }

    /// # Safety
    ///
    /// As above.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn by_search<const DIVIDE: bool, const STREAM: bool>(self) -> bool {
        let registers = short::Registers::new(&self.rule.search);
        // SAFETY: as above.
        unsafe { self.run::<_, DIVIDE, STREAM>(BySearch::<DIVIDE>(&registers)) }
    }

    /// # Safety
    ///
    /// As above. Only for machines with AVX2, FMA and F16C, and what `find` needs.
    #[inline(always)]
    unsafe fn run<C: Codes<A>, const DIVIDE: bool, const STREAM: bool>(self, find: C) -> bool {
        let Self { x, width, rule, scales, codes } = self;
        let len = x.len().min(scales.len()).min(codes.len());
        let Some(last) = len.checked_sub(1) else { return true };
        let (x, scales, codes) = (&x[..len], &mut scales[..len], &mut codes[..len]);
        // SAFETY: the caller's promise; every pointer is to a batch, or a half or a lane of it.
        unsafe {
            let ranges = Scales::new(rule);
            let mut usual = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
            let mut magnitudes = _mm256_setzero_si256();
            let mut all_factors = [Factors([1.0; LANES]); LAG];
            // Of a batch that is not there another one is worked on, whose results are written again later or were before.
            for k in 0..len + LAG {
                let (found, whether) = ranges.of(joined::<A>(magnitudes, width));
                usual = _mm256_and_ps(usual, whether);
                let factors = if DIVIDE { found } else { ranges.reciprocals(found) };
                _mm256_storeu_ps(all_factors[k % LAG].0.as_mut_ptr(), factors);
                _mm256_storeu_ps(scales[k.saturating_sub(1).min(last)].as_mut_ptr(), found);
                let next = x[k.min(last)].as_ptr();
                let at = k.saturating_sub(LAG).min(last);
                let (x, place) = (x[at].as_ptr(), codes[at].as_mut_ptr());
                // Those of the iteration before this one, so that none waits for a division.
                let factors = all_factors[(k + 1) % LAG].0.as_ptr();
                let front = four::<A>(next);
                find.write::<STREAM>(x, factors, place);
                let back = four::<A>(next.add(BATCH / 2));
                find.write::<STREAM>(x.add(BATCH / 2), factors.add(GROUPS), place.add(BYTES / 2));
                let low = _mm256_permute2x128_si256::<0x20>(front, back);
                let high = _mm256_permute2x128_si256::<0x31>(front, back);
                magnitudes = A::larger(low, high);
            }
            _mm256_movemask_ps(usual) == 0xFF
        }
    }
}

/// What the values of a batch are multiplied or divided by. Their alignment is one for the stack, and so for all vectors
/// that are kept there: what is read of a store across two cache lines waits until it and all before it are done, those
/// past the caches too.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Factors([f32; LANES]);

/// What makes scales of magnitudes, in every lane.
#[derive(Clone, Copy)]
struct Scales {
    rule: MagnitudeScale,
    low: __m256,
    high: __m256,
    of_zeros: __m256,
}

impl Scales {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(rule: &BlockLevels) -> Self {
        Self {
            rule: rule.scale,
            low: _mm256_set1_ps(*EVERYDAY.start()),
            high: _mm256_set1_ps(*EVERYDAY.end()),
            of_zeros: _mm256_set1_ps(rule.of_zeros),
        }
    }

    /// Scales, and where they are everyday ones.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn of(&self, magnitudes: __m256) -> (__m256, __m256) {
        let none = _mm256_cmp_ps::<_CMP_EQ_OQ>(magnitudes, _mm256_setzero_ps());
        let usual = _mm256_and_ps(
            _mm256_cmp_ps::<_CMP_GE_OQ>(magnitudes, self.low),
            _mm256_cmp_ps::<_CMP_LE_OQ>(magnitudes, self.high),
        );
        let scales = match self.rule {
            // That needs no division.
            MagnitudeScale::Quotient { top: 1.0 } => magnitudes,
            MagnitudeScale::Quotient { top } => {
                let top = _mm256_set1_pd(top);
                let front = _mm256_cvtps_pd(_mm256_castps256_ps128(magnitudes));
                let back = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(magnitudes));
                let front = _mm256_cvtpd_ps(_mm256_div_pd(front, top));
                _mm256_set_m128(_mm256_cvtpd_ps(_mm256_div_pd(back, top)), front)
            }
            MagnitudeScale::Power { carry, exponent } => {
                let bits = _mm256_add_epi32(_mm256_castps_si256(magnitudes), _mm256_set1_epi32(carry as i32));
                let exponents = _mm256_srli_epi32::<{ MANTISSA as i32 }>(bits);
                let exponents = _mm256_sub_epi32(exponents, _mm256_set1_epi32(exponent as i32));
                _mm256_castsi256_ps(_mm256_slli_epi32::<{ MANTISSA as i32 }>(exponents))
            }
        };
        (_mm256_blendv_ps(scales, self.of_zeros, none), _mm256_or_ps(usual, none))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn reciprocals(&self, scales: __m256) -> __m256 {
        _mm256_div_ps(_mm256_set1_ps(1.0), scales)
    }
}
