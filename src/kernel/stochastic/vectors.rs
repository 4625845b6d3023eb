//! In vectors of 256 bits.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::affine::EncodeParams;
use super::super::division::{DIVISORS, Reciprocals, one_correction};
use super::super::{aes, level, prefetch, runs, stream};
use super::Place;
use crate::random::Ars;
use crate::simd::Level;

/// Values whose codes fill a vector.
const GROUP: usize = 32;

/// Values whose random numbers are computed at once, and whose codes are put together before they go past the caches.
const STAGE: usize = 1024;

/// Numbers of a block.
const BLOCK: usize = 8;

/// Bytes ahead that are asked for.
const AHEAD: usize = 2048;

/// What values are multiplied by, beside their scale: one more bit than random numbers have.
const STEPS: f32 = 131_072.0;

/// How values are scaled: then multiplied by the steps, or with the steps in the scale.
const PRODUCT: u8 = 0;
const QUOTIENT: u8 = 1;
const PRODUCT_OF_STEPS: u8 = 2;
const CORRECTED_ONCE: u8 = 3;
const CORRECTED_TWICE: u8 = 4;
const TWO_TERMS: u8 = 5;

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
    // Bounds whose product with the steps is an integer of 32 bits, with one to spare.
    const BOUND: f32 = 16_000.0;
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
    let generator = Ars::new(place.seed).complemented();
    let mut nan = _mm256_setzero_ps();
    for (j, from, to) in runs(x.len().min(codes.len()), width, phase) {
        let (Some(&scale), Some(&low), Some(&high)) =
            (params.scale.get(j), params.low.get(j), params.high.get(j))
        else {
            break;
        };
        let zero_before = params.zero_before.get(j).copied();
        // Neither tiny nor huge: then the steps go into the scale without loss.
        let (product, steps) = (!divide, DIVISORS.contains(&scale));
        let corrected = if divide && zero_before.is_none() { one_correction(scale) } else { None };
        let reciprocals = Reciprocals::of(&[scale]);
        let run = Run {
            scale: _mm256_set1_ps(match (product && steps, corrected.is_some()) {
                (true, _) => scale * STEPS,
                (_, true) => scale / STEPS,
                _ => scale,
            }),
            inverse: _mm256_set1_ps(STEPS / scale),
            rest: _mm256_set1_ps(reciprocals.rest[0] * STEPS),
            most: _mm256_set1_ps((high + 1.0) * scale),
            zero_before: _mm256_set1_ps(zero_before.unwrap_or_default() * STEPS),
            high: _mm256_set1_ps(high * STEPS),
            low_integer: _mm256_set1_epi16(low as i16),
            high_integer: _mm256_set1_epi16(high as i16),
            zero_after: _mm256_set1_epi16(params.zero_after.get(j).copied().unwrap_or_default() as i16),
            mask: _mm256_set1_epi16((mask & 0xFF) as i16),
        };
        let (x, codes) = (&x[from..to], &mut codes[from..to]);
        let first = place.first.wrapping_add(from as u64);
        let found = match (corrected, product, steps, zero_before) {
            (Some(_), ..) if reciprocals.exact[0] => {
                lines::<TWO_TERMS, false>(x, run, first, &generator, stream, codes)
            }
            (Some(true), ..) => lines::<CORRECTED_ONCE, false>(x, run, first, &generator, stream, codes),
            (Some(false), ..) => lines::<CORRECTED_TWICE, false>(x, run, first, &generator, stream, codes),
            (_, true, true, None) => {
                lines::<PRODUCT_OF_STEPS, false>(x, run, first, &generator, stream, codes)
            }
            (_, true, true, Some(_)) => {
                lines::<PRODUCT_OF_STEPS, true>(x, run, first, &generator, stream, codes)
            }
            (_, true, false, _) => lines::<PRODUCT, true>(x, run, first, &generator, stream, codes),
            (_, false, ..) => lines::<QUOTIENT, true>(x, run, first, &generator, stream, codes),
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
    /// The steps over the divisor.
    inverse: __m256,
    /// What the reciprocal lacks, times the steps.
    rest: __m256,
    /// A value just beyond the upper bound.
    most: __m256,
    /// Times the steps.
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
    generator: &Ars,
    stream: bool,
    codes: &mut [u8],
) -> __m256 {
    let mut nan = _mm256_setzero_ps();
    let (mut numbers, mut stage) = ([[0; BLOCK]; (STAGE + BLOCK + GROUP) / BLOCK], [0; STAGE]);
    let places = (0..).step_by(STAGE).map(|at| first.wrapping_add(at));
    for ((x, codes), first) in x.chunks(STAGE).zip(codes.chunks_mut(STAGE)).zip(places) {
        let skip = (first % BLOCK as u64) as usize;
        aes::blocks(generator, first / BLOCK as u64, &mut numbers[..(skip + x.len()).div_ceil(BLOCK)]);
        let numbers = &numbers.as_flattened()[skip..];
        if stream {
            let stage = &mut stage[..codes.len()];
            groups::<SCALING, ZERO>(x, run, numbers, &mut nan, stage);
            stream::past_caches(stage, codes);
        } else {
            groups::<SCALING, ZERO>(x, run, numbers, &mut nan, codes);
        }
    }
    nan
}

/// Whole groups and the beginning of one; there are numbers for whole groups.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn groups<const SCALING: u8, const ZERO: bool>(
    x: &[f32],
    run: Run,
    numbers: &[u16],
    nan: &mut __m256,
    codes: &mut [u8],
) {
    let (wholes, rest) = x.as_chunks::<GROUP>();
    let (code_wholes, code_rest) = codes.as_chunks_mut::<GROUP>();
    let (numbers, _) = numbers.as_chunks::<GROUP>();
    for ((x, codes), numbers) in wholes.iter().zip(code_wholes).zip(numbers) {
        prefetch(x, AHEAD);
        let found = group::<SCALING, ZERO>(x, run, numbers, nan);
        // SAFETY: as many places as the vector has.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), found) };
    }
    if let (false, Some(numbers)) = (rest.is_empty(), numbers.get(wholes.len())) {
        let (mut values, mut bytes) = ([0.0f32; GROUP], [0u8; GROUP]);
        // Zeros are no NaN, and their codes are not kept.
        values[..rest.len()].copy_from_slice(rest);
        let found = group::<SCALING, ZERO>(&values, run, numbers, nan);
        // SAFETY: as many places as the vector has.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), found) };
        let shared = code_rest.len().min(rest.len());
        code_rest[..shared].copy_from_slice(&bytes[..shared]);
    }
}

/// The codes of 32 values.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn group<const SCALING: u8, const ZERO: bool>(
    x: &[f32; GROUP],
    run: Run,
    numbers: &[u16; GROUP],
    nan: &mut __m256,
) -> __m256i {
    // SAFETY: eight values each.
    let x = unsafe { [0, 8, 16, 24].map(|at| _mm256_loadu_ps(x.as_ptr().add(at))) };
    let v = x.map(|x| scaled::<SCALING, ZERO>(x, run));
    let seen = if SCALING >= CORRECTED_ONCE { x } else { v };
    for pair in [[seen[0], seen[1]], [seen[2], seen[3]]] {
        *nan = _mm256_or_ps(*nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(pair[0], pair[1]));
    }
    let mut integers = [_mm256_setzero_si256(); 4];
    for (i, (integers, v)) in integers.iter_mut().zip(v).enumerate() {
        // SAFETY: eight numbers each.
        let numbers = unsafe { _mm_loadu_si128(numbers.as_ptr().add(8 * i).cast()) };
        *integers = chosen::<SCALING>(v, _mm256_cvtepu16_epi32(numbers), run.high);
    }
    let [a, b, c, d] = integers;
    let front = bounded(_mm256_packs_epi32(a, b), run);
    let back = bounded(_mm256_packs_epi32(c, d), run);
    // Packing works in halves.
    _mm256_permutevar8x32_epi32(_mm256_packus_epi16(front, back), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Integers within the bounds of their codes, as codes.
#[inline]
#[target_feature(enable = "avx2")]
fn bounded(words: __m256i, run: Run) -> __m256i {
    let words = _mm256_min_epi16(_mm256_max_epi16(words, run.low_integer), run.high_integer);
    _mm256_and_si256(_mm256_add_epi16(words, run.zero_after), run.mask)
}

/// The integer below or above each value, which comes with the steps: the upper one where `(k + ½)/65536` lies below the
/// value's distance from the lower one, `k` the complement of its number.
///
/// With 2¹⁷ steps to an integer that is where `2k + 1` is below the step of the value, and so below that step rounded up,
/// `⌈2¹⁷v⌉`: adding `2¹⁷ − 2 − 2k` to it carries exactly then. All of it is even but for the last bit of the step, which
/// carries nothing.
#[inline]
#[target_feature(enable = "avx2")]
fn chosen<const SCALING: u8>(v: __m256, complement: __m256i, high: __m256) -> __m256i {
    // The second operand where one is NaN.
    let v = if SCALING >= CORRECTED_ONCE { v } else { _mm256_min_ps(high, v) };
    // What does not fit, NaN among it, becomes the most negative integer.
    let steps = _mm256_cvtps_epi32(_mm256_ceil_ps(v));
    _mm256_srai_epi32::<16>(_mm256_add_epi32(_mm256_srai_epi32::<1>(steps), complement))
}

/// Eight values in the scale of their codes, times the steps.
///
/// A corrected quotient (see `division`) has the bits of a division from 2⁻¹⁸ on, where the last bits of remainders are
/// still numbers; nearer to zero no number is small enough to choose another integer than zero.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn scaled<const SCALING: u8, const ZERO: bool>(x: __m256, run: Run) -> __m256 {
    let v = match SCALING {
        PRODUCT => _mm256_mul_ps(_mm256_mul_ps(x, run.scale), _mm256_set1_ps(STEPS)),
        QUOTIENT => _mm256_mul_ps(_mm256_div_ps(x, run.scale), _mm256_set1_ps(STEPS)),
        PRODUCT_OF_STEPS => _mm256_mul_ps(x, run.scale),
        _ => {
            // The second operand where one is NaN.
            let x = _mm256_min_ps(run.most, x);
            if SCALING == TWO_TERMS {
                return _mm256_fmadd_ps(x, run.inverse, _mm256_mul_ps(x, run.rest));
            }
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
