//! The loops, in vectors of 256 bits but for the codes, which have vectors of 512 bits where the machine does.
#![allow(unsafe_code)] // intrinsics on pointers, and calls where the instructions were detected

use core::arch::x86_64::*;

use super::super::bit_cuts::{self, BitCuts, BitSearch, Bits};
use super::super::cut_cells::{self, CutCells, Packed};
use super::super::short;
use super::{BlockLevels, EVERYDAY, MANTISSA, MagnitudeScale};
use crate::kernel::blocks::Places;
use crate::kernel::blocks::magnitudes::{SHORT, Values};
use crate::kernel::blocks::steps::{self, GROUPS, Grids, Method};
use crate::kernel::stream;
use crate::simd::Level;

/// As [`BlockLevels::encode`], for machines with AVX2, FMA and F16C, and what it has checked; by `patterns`, where there are
/// some for such levels and scales.
pub(super) fn encode<A: Packed + Bits>(
    x: &[A],
    width: usize,
    rule: &BlockLevels,
    patterns: Option<&BitCuts>,
    places: Places<'_>,
) -> bool {
    let avx512 = crate::kernel::level() >= Level::Avx512;
    let stream = places.stream && stream::is_aligned(places.codes);
    let blocks = Blocks { x, width, rule, places };
    // SAFETY: the level says that the machine has AVX-512 F, BW, VL and DQ where cells are used, the caller that it has
    // AVX2, FMA and F16C, and places are aligned if the codes go past the caches.
    unsafe {
        match (patterns, &rule.cells, stream) {
            (Some(patterns), _, false) if avx512 => blocks.by_cells_of_bits::<false>(patterns),
            (Some(patterns), _, true) if avx512 => blocks.by_cells_of_bits::<true>(patterns),
            (Some(patterns), _, false) => blocks.by_comparisons_of_bits::<false>(patterns),
            (Some(patterns), _, true) => blocks.by_comparisons_of_bits::<true>(patterns),
            (None, Some(cells), false) if avx512 => blocks.by_cells::<false>(cells),
            (None, Some(cells), true) if avx512 => blocks.by_cells::<true>(cells),
            (None, _, false) => blocks.by_search::<false>(),
            (None, _, true) => blocks.by_search::<true>(),
        }
    }
}

/// Values, and what is made of them.
struct Blocks<'a, A> {
    x: &'a [A],
    width: usize,
    rule: &'a BlockLevels,
    places: Places<'a>,
}

impl<A: Packed + Bits> Blocks<'_, A> {
    /// # Safety
    ///
    /// Places for codes are multiples of 16 if `STREAM`.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn by_cells<const STREAM: bool>(self, cells: &CutCells) -> bool {
        let registers = cut_cells::Registers::new(cells);
        // SAFETY: this function has the instructions; the rest is the caller's promise.
        unsafe {
            match (self.rule.divide, cells.mirrored) {
                (false, false) => self.run::<_, STREAM>(ByCells::<false, false>(&registers)),
                (false, true) => self.run::<_, STREAM>(ByCells::<false, true>(&registers)),
                (true, false) => self.run::<_, STREAM>(ByCells::<true, false>(&registers)),
                (true, true) => self.run::<_, STREAM>(ByCells::<true, true>(&registers)),
            }
        }
    }

    /// # Safety
    ///
    /// As above.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn by_search<const STREAM: bool>(self) -> bool {
        let registers = short::Registers::new(&self.rule.search);
        // SAFETY: as above.
        unsafe {
            if self.rule.divide {
                self.run::<_, STREAM>(BySearch::<true>(&registers))
            } else {
                self.run::<_, STREAM>(BySearch::<false>(&registers))
            }
        }
    }

    /// # Safety
    ///
    /// As above.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn by_cells_of_bits<const STREAM: bool>(self, patterns: &BitCuts) -> bool {
        let cells = bit_cuts::Cells::new(patterns);
        // SAFETY: as above.
        unsafe { self.run::<_, STREAM>(ByBits(patterns, &cells)) }
    }

    /// # Safety
    ///
    /// As above.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn by_comparisons_of_bits<const STREAM: bool>(self, patterns: &BitCuts) -> bool {
        let comparisons = bit_cuts::Comparisons::new(patterns);
        // SAFETY: as above.
        unsafe { self.run::<_, STREAM>(ByBits(patterns, &comparisons)) }
    }

    /// # Safety
    ///
    /// As above. Only for machines with AVX2, FMA and F16C, and what `find` needs.
    #[inline(always)]
    unsafe fn run<C: Codes<A>, const STREAM: bool>(self, find: C) -> bool {
        let Self { x, width, rule, places } = self;
        // SAFETY: the caller's promise.
        unsafe {
            let ranges = Scales::new(rule);
            let method = Levels { ranges: &ranges, find };
            steps::encode::<A, _, STREAM>(method, x, width, places.scales, places.codes)
        }
    }
}

/// Levels that all blocks share, whose codes are found in one of these ways.
#[derive(Clone, Copy)]
struct Levels<'a, C> {
    ranges: &'a Scales,
    find: C,
}

impl<A, C: Codes<A>> Method<A> for Levels<'_, C> {
    const PER_BYTE: usize = 2;

    #[inline(always)]
    unsafe fn scales(self, magnitudes: __m256) -> (__m256, __m256) {
        // SAFETY: the caller's promise.
        unsafe { self.ranges.of(magnitudes) }
    }

    #[inline(always)]
    unsafe fn words(self, scales: __m256) -> (__m256i, i32) {
        // SAFETY: as above.
        unsafe { self.find.words(scales) }
    }

    #[inline(always)]
    unsafe fn codes<const STREAM: bool, const BESIDE: bool>(
        self,
        x: *const A,
        blocks: Grids<'_>,
        to: *mut u8,
    ) {
        // SAFETY: as above.
        unsafe { self.find.write::<STREAM>(x, blocks.words, blocks.unusual, to) }
    }
}

/// How codes are found, once their scales are there.
trait Codes<A>: Copy {
    /// What codes take of scales: factors, divisors, or other words; and the lanes that are none of the usual.
    ///
    /// # Safety
    ///
    /// Only for machines with AVX2.
    unsafe fn words(self, scales: __m256) -> (__m256i, i32);

    /// # Safety
    ///
    /// There are 128 values at `x`, and places for 64 bytes at `to`, a multiple of 16 if `STREAM`.
    unsafe fn write<const STREAM: bool>(self, x: *const A, words: &[u32; GROUPS], unusual: i32, to: *mut u8);
}

/// Divisors, or factors.
///
/// # Safety
///
/// Only for machines with AVX2.
#[inline(always)]
unsafe fn divisors<const DIVIDE: bool>(scales: __m256) -> (__m256i, i32) {
    // SAFETY: the caller's promise.
    unsafe {
        let all = if DIVIDE { scales } else { _mm256_div_ps(_mm256_set1_ps(1.0), scales) };
        (_mm256_castps_si256(all), 0)
    }
}

/// By cells, in vectors of 512 bits.
#[derive(Clone, Copy)]
struct ByCells<'a, const DIVIDE: bool, const MIRRORED: bool>(&'a cut_cells::Registers);

impl<A: Packed, const DIVIDE: bool, const MIRRORED: bool> Codes<A> for ByCells<'_, DIVIDE, MIRRORED> {
    #[inline(always)]
    unsafe fn words(self, scales: __m256) -> (__m256i, i32) {
        // SAFETY: the caller's promise.
        unsafe { divisors::<DIVIDE>(scales) }
    }

    #[inline(always)]
    unsafe fn write<const STREAM: bool>(self, x: *const A, words: &[u32; GROUPS], _: i32, to: *mut u8) {
        // SAFETY: registers are there where the instructions are; the rest is the caller's promise.
        unsafe {
            let bytes = A::codes::<DIVIDE, MIRRORED>(x, words.as_ptr().cast(), self.0);
            stream::store_line::<STREAM>(to, bytes);
        }
    }
}

/// By four comparisons, in vectors of 256 bits.
#[derive(Clone, Copy)]
struct BySearch<'a, const DIVIDE: bool>(&'a short::Registers);

impl<A: Values, const DIVIDE: bool> Codes<A> for BySearch<'_, DIVIDE> {
    #[inline(always)]
    unsafe fn words(self, scales: __m256) -> (__m256i, i32) {
        // SAFETY: the caller's promise.
        unsafe { divisors::<DIVIDE>(scales) }
    }

    #[inline(always)]
    unsafe fn write<const STREAM: bool>(self, x: *const A, words: &[u32; GROUPS], _: i32, to: *mut u8) {
        for (pair, &[first, second]) in words.as_chunks().0.iter().enumerate() {
            // SAFETY: registers are there where the instructions are; the rest is the caller's promise.
            unsafe {
                let factors = [f32::from_bits(first), f32::from_bits(second)];
                let bytes = self.0.packed::<A, DIVIDE>(x.add(2 * SHORT * pair), factors);
                stream::store_half_line::<STREAM>(to.add(SHORT * pair), bytes);
            }
        }
    }
}

/// By the bits of values.
#[derive(Clone, Copy)]
struct ByBits<'a, S>(&'a BitCuts, &'a S);

impl<A: Bits, S: BitSearch> Codes<A> for ByBits<'_, S> {
    #[inline(always)]
    unsafe fn words(self, scales: __m256) -> (__m256i, i32) {
        // SAFETY: the caller's promise.
        unsafe { self.0.starts::<A>(scales) }
    }

    #[inline(always)]
    unsafe fn write<const STREAM: bool>(self, x: *const A, words: &[u32; GROUPS], unusual: i32, to: *mut u8) {
        let mut room = None;
        // SAFETY: registers are there where the instructions are; the rest is the caller's promise.
        unsafe {
            let x = self.0.fit(x, words, unusual, &mut room);
            self.1.write::<A, STREAM>(x, words, to);
        }
    }
}

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
}
