//! In vectors of 256 bits.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::affine::EncodeParams;
use super::super::division::one_correction;
use super::super::{level, prefetch, runs, stream};
use super::Place;
use crate::random::{MULTIPLIERS, philox_keys};
use crate::simd::Level;

/// Values of four blocks, which lie in a vector each word.
const GROUP: usize = 32;

/// Groups that are computed at once, so that no product waits for the one before.
const GROUPS: usize = 2;

/// Codes that are put together before they go past the caches.
const STAGE: usize = 1024;

/// Bytes ahead that are asked for.
const AHEAD: usize = 2048;

/// How values are scaled.
const PRODUCT: u8 = 0;
const QUOTIENT: u8 = 1;
const CORRECTED_ONCE: u8 = 2;
const CORRECTED_TWICE: u8 = 3;

/// As [`super::encode`] within equal lengths.
#[allow(clippy::too_many_arguments)]
pub(super) fn encode(
    x: &[f32],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    place: Place,
    stream: bool,
    codes: &mut [u8],
) -> Option<bool> {
    if level() < Level::Avx2 || width < GROUP || x.len() != codes.len() {
        return None;
    }
    // Bounds that are integers of 16 bits, with one to spare.
    const BOUND: f32 = 32_000.0;
    let bounds = params.low.iter().chain(params.high);
    if !bounds.fold(true, |within, bound| within & (bound.abs() <= BOUND)) {
        return None;
    }
    // SAFETY: the level says that the machine has AVX2 and FMA.
    Some(unsafe { by_runs(x, (width, phase), params, divide, mask, place, stream, codes) })
}

#[allow(clippy::too_many_arguments)]
#[target_feature(enable = "avx2,fma")]
fn by_runs(
    x: &[f32],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    place: Place,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    let mut numbers = Numbers::new(place.seed);
    let mut nan = _mm256_setzero_ps();
    for (j, from, to) in runs(x.len().min(codes.len()), width, phase) {
        let (Some(&scale), Some(&low), Some(&high)) =
            (params.scale.get(j), params.low.get(j), params.high.get(j))
        else {
            break;
        };
        let zero_before = params.zero_before.get(j).copied();
        let run = Run {
            scale: _mm256_set1_ps(scale),
            inverse: _mm256_set1_ps(1.0 / scale),
            most: _mm256_set1_ps((high + 1.0) * scale),
            zero_before: _mm256_set1_ps(zero_before.unwrap_or_default()),
            high: _mm256_set1_ps(high),
            low_integer: _mm256_set1_epi16(low as i16),
            high_integer: _mm256_set1_epi16(high as i16),
            zero_after: _mm256_set1_epi16(params.zero_after.get(j).copied().unwrap_or_default() as i16),
            mask: _mm256_set1_epi16((mask & 0xFF) as i16),
        };
        let (x, codes) = (&x[from..to], &mut codes[from..to]);
        let (first, numbers) = (place.first.wrapping_add(from as u64), &mut numbers);
        let found = match (divide, zero_before) {
            (false, None) => lines::<PRODUCT, false>(x, run, first, numbers, stream, codes),
            (false, Some(_)) => lines::<PRODUCT, true>(x, run, first, numbers, stream, codes),
            (true, None) => match one_correction(scale) {
                Some(true) => lines::<CORRECTED_ONCE, false>(x, run, first, numbers, stream, codes),
                Some(false) => lines::<CORRECTED_TWICE, false>(x, run, first, numbers, stream, codes),
                None => lines::<QUOTIENT, false>(x, run, first, numbers, stream, codes),
            },
            (true, Some(_)) => lines::<QUOTIENT, true>(x, run, first, numbers, stream, codes),
        };
        nan = _mm256_or_ps(nan, found);
    }
    if stream {
        // What went past the caches becomes visible to other threads in the order of the program.
        _mm_sfence();
    }
    _mm256_movemask_ps(nan) != 0
}

/// The parameters of a run, in every lane.
#[derive(Clone, Copy)]
struct Run {
    /// The divisor, or the factor.
    scale: __m256,
    /// The reciprocal of the divisor, and a value just beyond the upper bound.
    inverse: __m256,
    most: __m256,
    zero_before: __m256,
    high: __m256,
    low_integer: __m256i,
    high_integer: __m256i,
    zero_after: __m256i,
    mask: __m256i,
}

/// A run of values, the first of which is element `first`. Sign bits of the result tell of NaN.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lines<const SCALING: u8, const ZERO: bool>(
    x: &[f32],
    run: Run,
    first: u64,
    numbers: &mut Numbers,
    stream: bool,
    codes: &mut [u8],
) -> __m256 {
    let mut nan = _mm256_setzero_ps();
    // Up to where a group begins, then by whole groups.
    let head = ((first.wrapping_neg() % GROUP as u64) as usize).min(x.len());
    let (x_head, x) = x.split_at(head);
    let (codes_head, codes) = codes.split_at_mut(head);
    part::<SCALING, ZERO>(x_head, run, first, numbers, &mut nan, codes_head);
    let first = first.wrapping_add(head as u64);
    if !stream {
        groups::<SCALING, ZERO>(x, run, first, numbers, &mut nan, codes);
        return nan;
    }
    let mut stage = [0; STAGE];
    let places = (0..).step_by(STAGE).map(|at| first.wrapping_add(at));
    for ((x, codes), first) in x.chunks(STAGE).zip(codes.chunks_mut(STAGE)).zip(places) {
        let stage = &mut stage[..codes.len()];
        groups::<SCALING, ZERO>(x, run, first, numbers, &mut nan, stage);
        stream::past_caches(stage, codes);
    }
    nan
}

/// Whole groups and the beginning of one.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn groups<const SCALING: u8, const ZERO: bool>(
    x: &[f32],
    run: Run,
    first: u64,
    numbers: &mut Numbers,
    nan: &mut __m256,
    codes: &mut [u8],
) {
    let (several, rest) = x.as_chunks::<{ GROUP * GROUPS }>();
    let (code_several, code_rest) = codes.as_chunks_mut::<{ GROUP * GROUPS }>();
    let mut at = first;
    for (x, codes) in several.iter().zip(code_several) {
        prefetch(x, AHEAD);
        let random = numbers.groups::<GROUPS>(at);
        let (x_groups, _) = x.as_chunks::<GROUP>();
        let (code_groups, _) = codes.as_chunks_mut::<GROUP>();
        for ((x, codes), random) in x_groups.iter().zip(code_groups).zip(random) {
            let found = group::<SCALING, ZERO>(x, run, random, nan);
            // SAFETY: as many places as the vector has.
            unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), found) };
        }
        at = at.wrapping_add((GROUP * GROUPS) as u64);
    }
    for (x, codes) in rest.chunks(GROUP).zip(code_rest.chunks_mut(GROUP)) {
        part::<SCALING, ZERO>(x, run, at, numbers, nan, codes);
        at = at.wrapping_add(x.len() as u64);
    }
}

/// A part of a group, the first of which is element `first`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn part<const SCALING: u8, const ZERO: bool>(
    x: &[f32],
    run: Run,
    first: u64,
    numbers: &mut Numbers,
    nan: &mut __m256,
    codes: &mut [u8],
) {
    let skip = (first % GROUP as u64) as usize;
    let place = skip..(skip + x.len()).min(GROUP);
    let (mut values, mut bytes) = ([0.0f32; GROUP], [0u8; GROUP]);
    // Zeros are no NaN, and their codes are not kept.
    values[place.clone()].copy_from_slice(&x[..place.len()]);
    let [random] = numbers.groups::<1>(first.wrapping_sub(skip as u64));
    let found = group::<SCALING, ZERO>(&values, run, random, nan);
    // SAFETY: as many places as the vector has.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), found) };
    codes[..place.len()].copy_from_slice(&bytes[place]);
}

/// The codes of 32 values.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn group<const SCALING: u8, const ZERO: bool>(
    x: &[f32; GROUP],
    run: Run,
    random: [__m256i; 2],
    nan: &mut __m256,
) -> __m256i {
    let (front, back) = x.split_at(GROUP / 2);
    let front = bounded(integers::<SCALING, ZERO>(front, run, random[0], nan), run);
    let back = bounded(integers::<SCALING, ZERO>(back, run, random[1], nan), run);
    // Packing works in halves.
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(front, back))
}

/// Integers within the bounds of their codes, as codes.
#[inline]
#[target_feature(enable = "avx2")]
fn bounded(words: __m256i, run: Run) -> __m256i {
    let words = _mm256_min_epi16(_mm256_max_epi16(words, run.low_integer), run.high_integer);
    _mm256_and_si256(_mm256_add_epi16(words, run.zero_after), run.mask)
}

/// The integers of 16 values in order; `random` has their half-words in order.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn integers<const SCALING: u8, const ZERO: bool>(
    x: &[f32],
    run: Run,
    random: __m256i,
    nan: &mut __m256,
) -> __m256i {
    // Half-words are unpacked in halves, so values are loaded as these will come: 0 to 3 and 8 to 11, 4 to 7 and 12 to 15.
    let (fours, _) = x.as_chunks::<4>();
    let &[a, b, c, d] = fours else { return _mm256_setzero_si256() };
    let x = [load(&a, &c), load(&b, &d)];
    let v = [scaled::<SCALING, ZERO>(x[0], run), scaled::<SCALING, ZERO>(x[1], run)];
    let seen = if SCALING >= CORRECTED_ONCE { x } else { v };
    *nan = _mm256_or_ps(*nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(seen[0], seen[1]));
    // Half-words below 0x4300 are the last bits of 128 + k/65536.
    let exponent = _mm256_set1_epi16(0x4300);
    let k = [_mm256_unpacklo_epi16(random, exponent), _mm256_unpackhi_epi16(random, exponent)];
    _mm256_packs_epi32(chosen::<SCALING>(v[0], k[0], run.high), chosen::<SCALING>(v[1], k[1], run.high))
}

/// The integer below or above each value.
#[inline]
#[target_feature(enable = "avx2")]
fn chosen<const SCALING: u8>(v: __m256, k: __m256i, high: __m256) -> __m256i {
    // The second operand where one is NaN.
    let v = if SCALING >= CORRECTED_ONCE { v } else { _mm256_min_ps(high, v) };
    let floor = _mm256_floor_ps(v);
    // Exact: 17 bits.
    let uniform = _mm256_sub_ps(_mm256_castsi256_ps(k), _mm256_set1_ps(128.0 - 0.5 / 65536.0));
    let up = _mm256_cmp_ps::<_CMP_LT_OQ>(uniform, _mm256_sub_ps(v, floor));
    // What does not fit, NaN among it, becomes the most negative integer. A comparison that holds is −1.
    _mm256_sub_epi32(_mm256_cvtps_epi32(floor), _mm256_castps_si256(up))
}

/// Two times four values.
#[inline]
#[target_feature(enable = "avx2")]
fn load(low: &[f32; 4], high: &[f32; 4]) -> __m256 {
    // SAFETY: four values each.
    unsafe { _mm256_set_m128(_mm_loadu_ps(high.as_ptr()), _mm_loadu_ps(low.as_ptr())) }
}

/// Eight values in the scale of their codes.
///
/// A corrected quotient (see `narrow`) has the bits of a division from 2⁻¹⁸ on, where the last bits of remainders are
/// still numbers; nearer to zero no number is small enough to choose another integer than zero.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn scaled<const SCALING: u8, const ZERO: bool>(x: __m256, run: Run) -> __m256 {
    let v = match SCALING {
        PRODUCT => _mm256_mul_ps(x, run.scale),
        QUOTIENT => _mm256_div_ps(x, run.scale),
        _ => {
            // The second operand where one is NaN.
            let x = _mm256_min_ps(run.most, x);
            let q = _mm256_mul_ps(x, run.inverse);
            let q = _mm256_fmadd_ps(_mm256_fnmadd_ps(q, run.scale, x), run.inverse, q);
            if SCALING == CORRECTED_ONCE {
                return q;
            }
            return _mm256_fmadd_ps(_mm256_fnmadd_ps(q, run.scale, x), run.inverse, q);
        }
    };
    if ZERO { _mm256_add_ps(v, run.zero_before) } else { v }
}

/// The half-words of Philox4x32-10 blocks of one seed.
struct Numbers {
    /// The keys of the rounds in every word.
    keys: [[__m256i; 2]; 10],
    key: [[u64; 2]; 10],
    /// The upper word of the index of blocks, and what follows from it.
    upper: u64,
    known: Known,
}

/// What the first rounds make of the words that blocks have in common.
#[derive(Clone, Copy)]
struct Known {
    /// Added to the third word by the second round.
    second: __m256i,
    /// Added to the third word by the third round.
    third: __m256i,
}

impl Numbers {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(seed: u64) -> Self {
        let key = philox_keys([seed as u32, (seed >> 32) as u32]);
        let keys = key.map(|pair| pair.map(|key| _mm256_set1_epi64x(key as i64)));
        Self { keys, key, upper: 0, known: Known::new(0, &key) }
    }

    /// The half-words of `N` groups from element `first` on, with which a group begins: of each group 16 and 16, in order.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn groups<const N: usize>(&mut self, first: u64) -> [[__m256i; 2]; N] {
        let block = first / 8;
        // Blocks of a group, and of two that begin with an even one, have the upper word in common.
        if N > 2 || block >> 32 != self.upper || (block + 4 * (N as u64 - 1)) >> 32 != self.upper {
            let mut out = [[_mm256_setzero_si256(); 2]; N];
            for (group, out) in out.iter_mut().enumerate() {
                let block = block.wrapping_add(4 * group as u64);
                self.upper = block >> 32;
                self.known = Known::new(self.upper, &self.key);
                let [found] = self.with_known::<1>(block);
                *out = found;
            }
            return out;
        }
        self.with_known(block)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn with_known<const N: usize>(&self, block: u64) -> [[__m256i; 2]; N] {
        let [left, right] = MULTIPLIERS.map(|multiplier| _mm256_set1_epi64x(multiplier as i64));
        let Known { second, third } = self.known;
        let keys = &self.keys;
        // In this order unpacking in halves leaves the blocks in theirs.
        let lanes = _mm256_setr_epi64x(0, 2, 1, 3);
        let mut words = [[_mm256_setzero_si256(); 4]; N];
        for (group, words) in words.iter_mut().enumerate() {
            let block = (block as u32).wrapping_add(4 * group as u32);
            let blocks = _mm256_add_epi64(_mm256_set1_epi64x(i64::from(block)), lanes);
            // The first round, then the second: products of known words are known.
            let product = _mm256_mul_epu32(blocks, left);
            let word = _mm256_xor_si256(_mm256_srli_epi64::<32>(product), keys[0][1]);
            let other = _mm256_mul_epu32(word, right);
            words[0] = _mm256_xor_si256(_mm256_srli_epi64::<32>(other), keys[1][0]);
            words[1] = other;
            words[2] = _mm256_xor_si256(product, second);
        }
        for words in &mut words {
            let (a, b) = (_mm256_mul_epu32(words[0], left), _mm256_mul_epu32(words[2], right));
            words[0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64::<32>(b), words[1]), keys[2][0]);
            words[1] = b;
            words[2] = _mm256_xor_si256(_mm256_srli_epi64::<32>(a), third);
            words[3] = a;
        }
        for key in &keys[3..9] {
            for words in &mut words {
                let (a, b) = (_mm256_mul_epu32(words[0], left), _mm256_mul_epu32(words[2], right));
                let upper = [_mm256_srli_epi64::<32>(b), _mm256_srli_epi64::<32>(a)];
                words[0] = _mm256_xor_si256(_mm256_xor_si256(upper[0], words[1]), key[0]);
                words[1] = b;
                words[2] = _mm256_xor_si256(_mm256_xor_si256(upper[1], words[3]), key[1]);
                words[3] = a;
            }
        }
        let mut out = [[_mm256_setzero_si256(); 2]; N];
        for (words, out) in words.iter().zip(&mut out) {
            let (a, b) = (_mm256_mul_epu32(words[0], left), _mm256_mul_epu32(words[2], right));
            let (front, back) = (joined(b, words[1], keys[9][0]), joined(a, words[3], keys[9][1]));
            *out = [_mm256_unpacklo_epi64(front, back), _mm256_unpackhi_epi64(front, back)];
        }
        out
    }
}

/// Two words of the last round in each lane: the upper half of a product, with another word and the key, and behind it
/// the lower half.
#[inline]
#[target_feature(enable = "avx2")]
fn joined(product: __m256i, word: __m256i, key: __m256i) -> __m256i {
    let word = _mm256_and_si256(word, _mm256_set1_epi64x(0xFFFF_FFFF));
    _mm256_xor_si256(_mm256_shuffle_epi32::<0b10_11_00_01>(product), _mm256_xor_si256(word, key))
}

impl Known {
    /// Of blocks whose index has the upper word `upper`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(upper: u64, key: &[[u64; 2]; 10]) -> Self {
        let [left, _] = MULTIPLIERS;
        // The first word after the first round, and its product.
        let product = ((upper ^ key[0][0]) & 0xFFFF_FFFF) * left;
        Self {
            second: _mm256_set1_epi64x(((product >> 32) ^ key[1][1]) as i64),
            third: _mm256_set1_epi64x(((product & 0xFFFF_FFFF) ^ key[2][1]) as i64),
        }
    }
}
