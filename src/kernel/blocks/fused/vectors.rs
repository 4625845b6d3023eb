//! In vectors of 256 bits, which are no slower here than longer ones.
#![allow(unsafe_code)] // intrinsics on pointers, and calls where the instructions were detected

use core::arch::x86_64::*;

use half::f16;

use super::super::DIVISORS;
use super::super::beside::Beside;
use super::super::magnitudes::{SHORT, Values};
use super::super::steps::{self, GROUPS, Grids, Method};
use super::{BlockRule, Places, ScalePlaces};
use crate::kernel::division::reciprocal;
use crate::kernel::stream;

/// Bits of the significand of an f64 beyond those of an f32.
const BEYOND: u32 = 29;

/// As [`encode`](super::encode), for machines with AVX2, FMA and F16C, and what it has checked.
pub(super) fn encode<A: Values>(x: &[A], width: usize, rule: &BlockRule<'_>, places: Places<'_>) -> bool {
    let Places { scales, codes, stream } = places;
    let stream = stream && stream::is_aligned(codes);
    // SAFETY: the caller has asked for the instructions, and places are aligned if the codes go past the caches.
    unsafe {
        match (rule.bits == 4, is_plain(rule), stream) {
            (false, false, false) => by_rule::<A, 1, false, false>(x, width, rule, scales, codes),
            (false, false, true) => by_rule::<A, 1, false, true>(x, width, rule, scales, codes),
            (false, true, false) => by_rule::<A, 1, true, false>(x, width, rule, scales, codes),
            (false, true, true) => by_rule::<A, 1, true, true>(x, width, rule, scales, codes),
            (true, false, false) => by_rule::<A, 2, false, false>(x, width, rule, scales, codes),
            (true, false, true) => by_rule::<A, 2, false, true>(x, width, rule, scales, codes),
            (true, true, false) => by_rule::<A, 2, true, false>(x, width, rule, scales, codes),
            (true, true, true) => by_rule::<A, 2, true, true>(x, width, rule, scales, codes),
        }
    }
}

/// Whether codes need no bounds and no zero point, and values are multiplied: no quotient of a value by its scale is half
/// a code beyond them then, as a scale is rounded by at most 2⁻⁸ of it.
fn is_plain(rule: &BlockRule<'_>) -> bool {
    let (low, high) = rule.codes;
    let whole = low == -high && high <= 127 && rule.range.steps == 2.0 * f64::from(high);
    whole && rule.zero == 0 && !rule.divide
}

/// # Safety
///
/// As [`steps::encode`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn by_rule<A: Values, const PER_BYTE: usize, const PLAIN: bool, const STREAM: bool>(
    x: &[A],
    width: usize,
    rule: &BlockRule<'_>,
    scales: ScalePlaces<'_>,
    codes: &mut [u8],
) -> bool {
    let (ranges, bounds) = (Ranges::new(rule), Bounds::new(rule));
    let method = Uniform::<PER_BYTE, PLAIN> { ranges: &ranges, bounds: &bounds };
    // SAFETY: the caller's promise.
    unsafe { steps::encode::<A, _, STREAM>(method, x, width, scales, codes) }
}

/// Grids of one rule, of which so many codes share a byte. If `PLAIN`, codes need no bounds and no zero point, and values
/// are multiplied.
#[derive(Clone, Copy)]
struct Uniform<'a, const PER_BYTE: usize, const PLAIN: bool> {
    ranges: &'a Ranges,
    bounds: &'a Bounds,
}

impl<A: Values, const PER_BYTE: usize, const PLAIN: bool> Method<A> for Uniform<'_, PER_BYTE, PLAIN> {
    const PER_BYTE: usize = PER_BYTE;

    #[inline(always)]
    unsafe fn scales(self, magnitudes: __m256) -> (__m256, __m256) {
        // SAFETY: the caller's promise.
        unsafe { self.ranges.scales::<A>(magnitudes) }
    }

    #[inline(always)]
    unsafe fn words(self, scales: __m256) -> (__m256i, i32) {
        // SAFETY: as above.
        unsafe { (_mm256_castps_si256(_mm256_div_ps(_mm256_set1_ps(1.0), scales)), 0) }
    }

    #[inline(always)]
    unsafe fn codes<const STREAM: bool, const BESIDE: bool>(
        self,
        x: *const A,
        blocks: Grids<'_>,
        to: *mut u8,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut beside = Beside::new(x);
            for pair in (0..GROUPS).step_by(2) {
                let front = self.short::<A, BESIDE>(x, pair, &mut beside, blocks);
                let back = self.short::<A, BESIDE>(x, pair + 1, &mut beside, blocks);
                let to = to.add(SHORT / PER_BYTE * pair);
                if PER_BYTE == 1 {
                    stream::store_half_line::<STREAM>(to, in_order::<A, BESIDE>(front));
                    stream::store_half_line::<STREAM>(to.add(SHORT), in_order::<A, BESIDE>(back));
                } else {
                    stream::store_half_line::<STREAM>(to, packed::<A, BESIDE>(front, back));
                }
            }
        }
    }
}

impl<const PER_BYTE: usize, const PLAIN: bool> Uniform<'_, PER_BYTE, PLAIN> {
    /// The codes of block `at` of those from `x` on, the next one of `beside` if `BESIDE`.
    ///
    /// # Safety
    ///
    /// As [`Method::codes`].
    #[inline(always)]
    unsafe fn short<A: Values, const BESIDE: bool>(
        self,
        x: *const A,
        at: usize,
        beside: &mut Beside,
        blocks: Grids<'_>,
    ) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let x = x.add(SHORT * at);
            let values = if BESIDE {
                beside.next(x, at == GROUPS - 1)
            } else {
                let ([a, b], [c, d]) = (A::two_eights(x), A::two_eights(x.add(SHORT / 2)));
                [a, b, c, d]
            };
            short::<A, PLAIN>(values, (blocks.scales[at], f32::from_bits(blocks.words[at])), self.bounds)
        }
    }
}

/// What makes scales of magnitudes, in every lane.
#[derive(Clone, Copy)]
struct Ranges {
    steps: __m256,
    /// The reciprocal of the steps in two terms, where they serve.
    near: __m256,
    rest: __m256,
    divide: bool,
    low: __m256,
    high: __m256,
    of_zeros: __m256,
    rounding: Rounding,
}

/// How quotients become numbers of the storage: to the nearest, ties to even.
#[derive(Clone, Copy)]
enum Rounding {
    /// They are f32 numbers already.
    None,
    /// By conversion to f16 and back.
    Half,
    /// As integers, where a carry goes to the exponent.
    Bits {
        /// Bits that the storage has less than f32.
        dropped: __m128i,
        /// Half a unit of the storage less one.
        half: __m256i,
    },
}

impl Ranges {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn new(rule: &BlockRule<'_>) -> Self {
        let range = rule.range;
        let dropped = range.dropped.saturating_sub(BEYOND);
        let of_halves = f64::from(f16::MIN_POSITIVE) <= range.usual.0 && range.usual.1 <= f64::from(f16::MAX);
        let rounding = if dropped == 0 {
            Rounding::None
        } else if dropped == f32::MANTISSA_DIGITS - f16::MANTISSA_DIGITS && of_halves {
            Rounding::Half
        } else {
            let half = _mm256_set1_epi32((1 << (dropped - 1)) - 1);
            Rounding::Bits { dropped: _mm_cvtsi32_si128(dropped as i32), half }
        };
        let by = reciprocal(range.steps as f32);
        // No storage rounds these beyond the divisors.
        let low = (range.usual.0 as f32).max(*DIVISORS.start() * 1.01);
        let high = (range.usual.1 as f32).min(*DIVISORS.end() * 0.99);
        Self {
            steps: _mm256_set1_ps(range.steps as f32),
            near: _mm256_set1_ps(by.near),
            rest: _mm256_set1_ps(by.rest),
            divide: dropped == 0 && !by.exact,
            low: _mm256_set1_ps(low),
            high: _mm256_set1_ps(high),
            of_zeros: _mm256_set1_ps(range.of_zeros),
            rounding,
        }
    }

    /// Scales, and where they are everyday ones.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn scales<A>(&self, magnitudes: __m256) -> (__m256, __m256) {
        let range = _mm256_add_ps(magnitudes, magnitudes);
        // Where bits are dropped it is enough that no number lies between this and the exact quotient.
        let mut quotient = if self.divide {
            _mm256_div_ps(range, self.steps)
        } else {
            _mm256_fmadd_ps(range, self.near, _mm256_mul_ps(range, self.rest))
        };
        let none = _mm256_cmp_ps::<_CMP_EQ_OQ>(magnitudes, _mm256_setzero_ps());
        let usual = _mm256_and_ps(
            _mm256_cmp_ps::<_CMP_GT_OQ>(quotient, self.low),
            _mm256_cmp_ps::<_CMP_LT_OQ>(quotient, self.high),
        );
        if size_of::<A>() > 2 && !matches!(self.rounding, Rounding::None) {
            // What is left is exact, and its sign says on which side the quotient is; it is never a negative zero.
            let rest = _mm256_castps_si256(_mm256_fnmadd_ps(quotient, self.steps, range));
            let bits = _mm256_castps_si256(quotient);
            let even = _mm256_andnot_si256(bits, _mm256_set1_epi32(1));
            quotient = _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_sign_epi32(even, rest)));
        }
        let scales = match self.rounding {
            Rounding::None => quotient,
            Rounding::Half => _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(quotient)),
            Rounding::Bits { dropped, half } => {
                let bits = _mm256_castps_si256(quotient);
                let odd = _mm256_and_si256(_mm256_srl_epi32(bits, dropped), _mm256_set1_epi32(1));
                let bits = _mm256_add_epi32(bits, _mm256_add_epi32(odd, half));
                _mm256_castsi256_ps(_mm256_sll_epi32(_mm256_srl_epi32(bits, dropped), dropped))
            }
        };
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

/// The codes of 32 values by their scale and its reciprocal: in each half of the vector those of the same half of vectors of
/// values, or of every other eight values if they are read [in turns](crate::kernel::lanes::Lanes::READ_IN_TURNS).
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn short<A: Values, const PLAIN: bool>(
    [a, b, c, d]: [__m256; 4],
    (scale, inverse): (f32, f32),
    bounds: &Bounds,
) -> __m256i {
    let (scale, inverse) = (_mm256_set1_ps(scale), _mm256_set1_ps(inverse));
    let integers = |x: __m256| {
        let mut q = _mm256_mul_ps(x, inverse);
        if !PLAIN && bounds.divide {
            // As `division` explains: the bits of a division.
            for _ in 0..2 {
                q = _mm256_fmadd_ps(_mm256_fnmadd_ps(q, scale, x), inverse, q);
            }
        }
        _mm256_cvtps_epi32(q)
    };
    let words = |a: __m256, b: __m256| {
        let (a, b) = (integers(a), integers(b));
        // No integer is longer than a word.
        let words = if A::READ_IN_TURNS {
            _mm256_blend_epi16::<0b1010_1010>(a, _mm256_slli_epi32::<16>(b))
        } else {
            _mm256_packs_epi32(a, b)
        };
        if PLAIN { words } else { _mm256_adds_epi16(words, bounds.zero) }
    };
    // Narrower integers saturate, which no code in use is lost by.
    let (front, back) = (words(a, b), words(c, d));
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

/// Codes of one byte in the order of their values.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order<A: Values, const BESIDE: bool>(codes: __m256i) -> __m256i {
    if BESIDE {
        // The lower half of the first vector comes last.
        _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(4, 1, 5, 2, 6, 3, 7, 0))
    } else if A::READ_IN_TURNS {
        _mm256_permute4x64_epi64::<0b11_01_10_00>(codes)
    } else {
        _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
    }
}

/// Codes of four bits, two in a byte, in the order of their values.
#[inline]
#[target_feature(enable = "avx2")]
fn packed<A: Values, const BESIDE: bool>(front: __m256i, back: __m256i) -> __m256i {
    // The first of two neighbours once, and the second sixteen times.
    let (low, weights) = (_mm256_set1_epi8(0x0F), _mm256_set1_epi16(0x1001));
    let front = _mm256_maddubs_epi16(_mm256_and_si256(front, low), weights);
    let back = _mm256_maddubs_epi16(_mm256_and_si256(back, low), weights);
    // Packing works in halves.
    let bytes = _mm256_packus_epi16(front, back);
    if A::READ_IN_TURNS {
        return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    let lanes = _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes);
    let order = if BESIDE {
        // As above.
        _mm_setr_epi8(8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15, 0, 1)
    } else {
        _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15)
    };
    _mm256_shuffle_epi8(lanes, _mm256_broadcastsi128_si256(order))
}
