//! Tables of at most 16 levels, held in registers.
//!
//! Where the scalar loops compare a value with each cut, a search among 15 cuts takes four comparisons: the outcome of
//! those before picks the next cut. Comparisons, products and quotients are the same, and so are the bits.
//!
//! Written for AVX2, as no portable form of the permutations that pick cuts becomes one instruction.
#![allow(unsafe_code)] // loads and stores of whole vectors, and calls where the instructions were detected

use core::arch::x86_64::*;

use super::super::convert::Eight;
use super::super::runs;

/// The most levels.
pub(super) const LEVELS: usize = 16;

/// Elements of a vector.
const LANES: usize = 8;

/// Vectors of a step.
const VECTORS: usize = 4;

/// Bytes between what is read and what is asked for: a little more than a step of a pipeline reads at once.
const AHEAD: usize = 4096;

/// The cuts of one map, in the order in which a search asks for them, and its codes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    half: f32,
    quarters: [f32; 2],
    /// Lane −k mod 8 holds the cut to compare with after k.
    eighths: [f32; LANES],
    sixteenths: [f32; LANES],
    codes: [u8; LEVELS],
}

impl Search {
    /// For up to 15 ascending cuts and the codes between them.
    pub(super) fn new(cuts: &[f32], codes: &[u16]) -> Option<Self> {
        if cuts.len() >= LEVELS || codes.len() > LEVELS {
            return None;
        }
        // Nothing reaches a NaN.
        let cut = |at: usize| cuts.get(at).copied().unwrap_or(f32::NAN);
        let mut search = Self {
            half: cut(7),
            quarters: [cut(3), cut(11)],
            eighths: [f32::NAN; LANES],
            sixteenths: [f32::NAN; LANES],
            codes: [0; LEVELS],
        };
        for passed in 0..LANES {
            let lane = (LANES - passed) % LANES;
            search.eighths[lane] = cut(4 * passed + 1);
            search.sixteenths[lane] = cut(2 * passed);
        }
        for (code, &from) in search.codes.iter_mut().zip(codes) {
            *code = u8::try_from(from).ok()?;
        }
        Some(search)
    }

    /// The code of one scaled value.
    fn code(&self, v: f32) -> u8 {
        let passed = usize::from(v >= self.half);
        let passed = 2 * passed + usize::from(v >= self.quarters[passed]);
        let passed = 2 * passed + usize::from(v >= self.eighths[(LANES - passed) % LANES]);
        let passed = 2 * passed + usize::from(v >= self.sixteenths[(LANES - passed) % LANES]);
        self.codes[passed]
    }
}

/// A [`Search`] in registers.
#[derive(Clone, Copy)]
pub(super) struct Registers {
    half: __m256,
    quarters: [__m256; 2],
    eighths: __m256,
    sixteenths: __m256,
    codes: __m256i,
}

impl Registers {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(search: &Search) -> Self {
        // SAFETY: 16 bytes.
        let codes = unsafe { _mm_loadu_si128(search.codes.as_ptr().cast()) };
        Self {
            half: _mm256_set1_ps(search.half),
            quarters: [_mm256_set1_ps(search.quarters[0]), _mm256_set1_ps(search.quarters[1])],
            eighths: load(&search.eighths),
            sixteenths: load(&search.sixteenths),
            codes: _mm256_broadcastsi128_si256(codes),
        }
    }

    /// Minus the number of cuts that are not above each value.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn search(&self, v: __m256) -> __m256i {
        // A comparison that holds is −1.
        let first = _mm256_cmp_ps::<_CMP_GE_OQ>(v, self.half);
        let quarter = _mm256_blendv_ps(self.quarters[0], self.quarters[1], first);
        let second = _mm256_cmp_ps::<_CMP_GE_OQ>(v, quarter);
        let passed = twice_and(_mm256_castps_si256(first), second);
        let third = _mm256_cmp_ps::<_CMP_GE_OQ>(v, _mm256_permutevar8x32_ps(self.eighths, passed));
        let passed = twice_and(passed, third);
        let fourth = _mm256_cmp_ps::<_CMP_GE_OQ>(v, _mm256_permutevar8x32_ps(self.sixteenths, passed));
        twice_and(passed, fourth)
    }

    /// The packed codes of twice 32 values, each with its factor, or its divisor if `DIVIDE`.
    ///
    /// # Safety
    ///
    /// There are 64 values at `x`.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    pub(super) unsafe fn packed<A: Eight, const DIVIDE: bool>(
        &self,
        x: *const A,
        factors: [f32; 2],
    ) -> __m256i {
        let mut words = [_mm256_setzero_si256(); 2];
        for (half, words) in words.iter_mut().enumerate() {
            let (factor, mut v) = (_mm256_set1_ps(factors[half]), [_mm256_setzero_ps(); VECTORS]);
            for (i, v) in v.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                let x = unsafe { A::eight(x.add(LANES * (VECTORS * half + i))) };
                *v = if DIVIDE { _mm256_div_ps(x, factor) } else { _mm256_mul_ps(x, factor) };
            }
            // The first of two neighbours once, and the second sixteen times.
            *words = _mm256_maddubs_epi16(self.codes(v), _mm256_set1_epi16(0x1001));
        }
        // Packing works in halves: each has two bytes of each vector.
        let lanes = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(words[0], words[1]));
        let order = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
        _mm256_shuffle_epi8(lanes, _mm256_broadcastsi128_si256(order))
    }

    /// The codes of four vectors of scaled values: groups of four in the order of the halves of vectors.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn codes(&self, [a, b, c, d]: [__m256; VECTORS]) -> __m256i {
        let front = _mm256_packs_epi32(self.search(a), self.search(b));
        let back = _mm256_packs_epi32(self.search(c), self.search(d));
        _mm256_shuffle_epi8(self.codes, _mm256_abs_epi8(_mm256_packs_epi16(front, back)))
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn twice_and(passed: __m256i, next: __m256) -> __m256i {
    _mm256_add_epi32(_mm256_add_epi32(passed, passed), _mm256_castps_si256(next))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(x: &[f32; LANES]) -> __m256 {
    // SAFETY: eight floats.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn scaled<const MULTIPLY: bool>(x: &[f32; LANES], scale: __m256) -> __m256 {
    if MULTIPLY { _mm256_mul_ps(load(x), scale) } else { _mm256_div_ps(load(x), scale) }
}

/// Writes the code of each value by the pattern of `width` and `phase`, all blocks sharing the only search or each
/// having its own. Whether any scaled value is NaN; its code is the lowest level's. Only for machines with AVX2.
pub(super) fn encode(
    x: &[f32],
    width: usize,
    phase: usize,
    scale: &[f32],
    multiply: bool,
    searches: &[Search],
    codes: &mut [u8],
) -> bool {
    debug_assert!(super::has_avx2());
    if multiply {
        // SAFETY: the caller has asked whether there is AVX2.
        unsafe { encode_by::<true>(x, width, phase, scale, searches, codes) }
    } else {
        // SAFETY: as above.
        unsafe { encode_by::<false>(x, width, phase, scale, searches, codes) }
    }
}

#[target_feature(enable = "avx2")]
fn encode_by<const MULTIPLY: bool>(
    x: &[f32],
    width: usize,
    phase: usize,
    scale: &[f32],
    searches: &[Search],
    codes: &mut [u8],
) -> bool {
    let Some(mut search) = searches.first() else { return false };
    let mut registers = Registers::new(search);
    let mut nan = _mm256_setzero_ps();
    let mut rest_nan = false;
    for (entry, from, to) in runs(x.len().min(codes.len()), width, phase) {
        let scale = if scale.is_empty() { Some(1.0) } else { scale.get(entry).copied() };
        let Some(scale) = scale else { break };
        if searches.len() > 1 && entry > 0 {
            let Some(own) = searches.get(entry) else { break };
            (search, registers) = (own, Registers::new(own));
        }
        let scales = _mm256_set1_ps(scale);
        let (steps, x) = x[from..to].as_chunks::<{ VECTORS * LANES }>();
        let (code_steps, codes) = codes[from..to].as_chunks_mut::<{ VECTORS * LANES }>();
        for (x, codes) in steps.iter().zip(code_steps) {
            super::super::prefetch(x, AHEAD);
            let ([a, b, c, d], _) = x.as_chunks::<LANES>() else { continue };
            let a = scaled::<MULTIPLY>(a, scales);
            let b = scaled::<MULTIPLY>(b, scales);
            let c = scaled::<MULTIPLY>(c, scales);
            let d = scaled::<MULTIPLY>(d, scales);
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, b));
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(c, d));
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let found = _mm256_permutevar8x32_epi32(registers.codes([a, b, c, d]), order);
            // SAFETY: 32 bytes.
            unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), found) };
        }
        let (steps, x) = x.as_chunks::<LANES>();
        let (code_steps, codes) = codes.as_chunks_mut::<LANES>();
        for (x, codes) in steps.iter().zip(code_steps) {
            let v = scaled::<MULTIPLY>(x, scales);
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let passed = registers.search(v);
            let (low, high) = (_mm256_castsi256_si128(passed), _mm256_extracti128_si256::<1>(passed));
            let words = _mm_packs_epi32(low, high);
            let passed = _mm_abs_epi8(_mm_packs_epi16(words, words));
            let found = _mm_shuffle_epi8(_mm256_castsi256_si128(registers.codes), passed);
            *codes = _mm_cvtsi128_si64(found).to_le_bytes();
        }
        for (&x, code) in x.iter().zip(codes) {
            let v = if MULTIPLY { x * scale } else { x / scale };
            rest_nan |= v.is_nan();
            *code = search.code(v);
        }
    }
    rest_nan | (_mm256_movemask_ps(nan) != 0)
}
