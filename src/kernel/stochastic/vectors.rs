//! In vectors of 256 bits.
//!
//! Values need not be looked at before they are rounded: what is NaN or does not fit becomes the most negative integer of
//! 32 bits, which shows in 16. It is rare, and a piece where it shows is encoded once more by a loop that takes care of
//! it.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::affine::EncodeParams;
use super::super::division::{DIVISORS, Reciprocals, one_correction};
use super::super::{aes, level, prefetch, runs, stream};
use super::Place;
use super::wide::{self, Wide};
use crate::random::Ars;
use crate::simd::Level;

/// Values whose codes fill a vector.
const GROUP: usize = 32;

/// Values whose random numbers are computed at once.
const NUMBERS: usize = 1024;

/// Codes that are put together before they go past the caches.
const STAGE: usize = 4096;

/// Values that fill wide vectors long enough, and values whose codes are looked at once they are there.
const WIDE: usize = 2 * wide::GROUP;
const PIECE: usize = 4096;

/// Numbers of a block.
pub(super) const BLOCK: usize = 8;

/// Bytes ahead that are asked for.
pub(super) const AHEAD: usize = 2048;

/// Where an integer that is not above this shows that its value was NaN or did not fit, of half the most negative integer
/// of 32 bits the upper half, perhaps with one that was carried.
pub(super) const BAD: i16 = -16_383;

/// What values are multiplied by, beside their scale: one more bit than random numbers have.
const STEPS: f32 = 131_072.0;

/// How values are scaled: then multiplied by the steps, or with the steps in the scale.
const PRODUCT: u8 = 0;
const QUOTIENT: u8 = 1;
pub(super) const PRODUCT_OF_STEPS: u8 = 2;
pub(super) const CORRECTED_ONCE: u8 = 3;
const CORRECTED_TWICE: u8 = 4;
pub(super) const TWO_TERMS: u8 = 5;

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
    let source =
        Source { wide: Wide::new(place.seed), generator: Ars::new(place.seed).complemented(), stream };
    let mut nan = _mm256_setzero_ps();
    for (j, from, to) in runs(x.len().min(codes.len()), width, phase) {
        let (Some(&scale), Some(&low), Some(&high)) =
            (params.scale.get(j), params.low.get(j), params.high.get(j))
        else {
            break;
        };
        let zero_before = params.zero_before.get(j).copied();
        let zero_after = params.zero_after.get(j).copied().unwrap_or_default();
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
            zero_after: _mm256_set1_epi16(zero_after as i16),
            mask: _mm256_set1_epi16((mask & 0xFF) as i16),
            bytes: Bytes::new((low, high), zero_after, mask),
        };
        let (x, codes) = (&x[from..to], &mut codes[from..to]);
        let first = place.first.wrapping_add(from as u64);
        let found = match (corrected, product, steps, zero_before) {
            (Some(_), ..) if reciprocals.exact[0] => lines::<TWO_TERMS, false>(x, run, first, &source, codes),
            (Some(true), ..) => lines::<CORRECTED_ONCE, false>(x, run, first, &source, codes),
            (Some(false), ..) => lines::<CORRECTED_TWICE, false>(x, run, first, &source, codes),
            (_, true, true, None) => lines::<PRODUCT_OF_STEPS, false>(x, run, first, &source, codes),
            (_, true, true, Some(_)) => lines::<PRODUCT_OF_STEPS, true>(x, run, first, &source, codes),
            (_, true, false, _) => lines::<PRODUCT, true>(x, run, first, &source, codes),
            (_, false, ..) => lines::<QUOTIENT, true>(x, run, first, &source, codes),
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
pub(super) struct Run {
    /// The divisor, or the factor.
    pub(super) scale: __m256,
    /// The steps over the divisor.
    pub(super) inverse: __m256,
    /// What the reciprocal lacks, times the steps.
    pub(super) rest: __m256,
    /// A value just beyond the upper bound.
    most: __m256,
    /// Times the steps.
    pub(super) zero_before: __m256,
    high: __m256,
    low_integer: __m256i,
    high_integer: __m256i,
    zero_after: __m256i,
    mask: __m256i,
    pub(super) bytes: Option<Bytes>,
}

/// How integers become codes once they are narrowed to bytes, where both bounds fit these when integers are moved.
#[derive(Clone, Copy, Default)]
pub(super) struct Bytes {
    /// What is added to integers before they are narrowed; not more than the bounds of [`encode`].
    pub(super) moved: i16,
    pub(super) low: i8,
    pub(super) high: i8,
    /// Added then, wrapping.
    pub(super) zero: i8,
    pub(super) mask: i8,
}

impl Bytes {
    fn new((low, high): (f32, f32), zero_after: i32, mask: u16) -> Option<Self> {
        let (low, high) = (low as i16, high as i16);
        let moved =
            if low >= i8::MIN.into() && high <= i8::MAX.into() { 0 } else { i16::from(i8::MIN) - low };
        Some(Self {
            moved,
            low: i8::try_from(low + moved).ok()?,
            high: i8::try_from(high + moved).ok()?,
            zero: (zero_after as i16).wrapping_sub(moved) as i8,
            mask: mask as i8,
        })
    }

    /// Whether narrowed integers are codes once they are within their bounds.
    pub(super) fn plain(self) -> bool {
        self.moved == 0 && self.zero == 0 && self.mask == -1
    }
}

/// What is the same for all runs: where numbers come from, and whether codes go past the caches.
struct Source {
    wide: Option<Wide>,
    generator: Ars,
    stream: bool,
}

/// A run of values, the first of which is element `first`. Sign bits of the result tell of NaN.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lines<const SCALING: u8, const ZERO: bool>(
    x: &[f32],
    run: Run,
    first: u64,
    source: &Source,
    codes: &mut [u8],
) -> __m256 {
    let mut nan = _mm256_setzero_ps();
    if !source.stream {
        wide_first::<SCALING, ZERO>(x, run, first, source, &mut nan, codes);
        return nan;
    }
    let mut stage = [0; STAGE];
    let places = (0..).step_by(STAGE).map(|at| first.wrapping_add(at));
    for ((x, codes), first) in x.chunks(STAGE).zip(codes.chunks_mut(STAGE)).zip(places) {
        let stage = &mut stage[..codes.len()];
        wide_first::<SCALING, ZERO>(x, run, first, source, &mut nan, stage);
        stream::past_caches(stage, codes);
    }
    nan
}

/// In wide vectors what fills such, the rest in those of 256 bits.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn wide_first<const SCALING: u8, const ZERO: bool>(
    x: &[f32],
    run: Run,
    first: u64,
    source: &Source,
    nan: &mut __m256,
    codes: &mut [u8],
) {
    let (mut x, mut codes, mut first) = (x, codes, first);
    if SCALING >= PRODUCT_OF_STEPS
        && let Some(wide) = &source.wide
        && let Some(bytes) = run.bytes
    {
        while x.len() >= WIDE {
            // Up to the beginning of a block, then whole groups, unless these have to be done with care.
            let skip = (first % BLOCK as u64) as usize;
            let (len, done) = if skip > 0 {
                (BLOCK - skip, false)
            } else {
                let len = x.len().min(PIECE) / wide::GROUP * wide::GROUP;
                (len, wide.encode::<SCALING, ZERO>(&x[..len], &run, bytes, first, &mut codes[..len]))
            };
            let (here, later) = codes.split_at_mut(len);
            if !done {
                by_numbers::<SCALING, ZERO>(&x[..len], run, first, source, nan, here);
            }
            (x, codes, first) = (&x[len..], later, first.wrapping_add(len as u64));
        }
    }
    if !x.is_empty() {
        by_numbers::<SCALING, ZERO>(x, run, first, source, nan, codes);
    }
}

/// Numbers first, then the codes of their values.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn by_numbers<const SCALING: u8, const ZERO: bool>(
    x: &[f32],
    run: Run,
    first: u64,
    source: &Source,
    nan: &mut __m256,
    codes: &mut [u8],
) {
    let mut numbers = [[0; BLOCK]; (NUMBERS + BLOCK + GROUP) / BLOCK];
    let places = (0..).step_by(NUMBERS).map(|at| first.wrapping_add(at));
    for ((x, codes), first) in x.chunks(NUMBERS).zip(codes.chunks_mut(NUMBERS)).zip(places) {
        let skip = (first % BLOCK as u64) as usize;
        let blocks = &mut numbers[..(skip + x.len()).div_ceil(BLOCK)];
        aes::blocks(&source.generator, first / BLOCK as u64, blocks);
        let numbers = &numbers.as_flattened()[skip..];
        let good = match run.bytes {
            _ if SCALING < PRODUCT_OF_STEPS => false,
            Some(bytes) if bytes.plain() => {
                groups::<SCALING, ZERO, PLAIN>(x, run, bytes, numbers, nan, codes)
            }
            Some(bytes) => groups::<SCALING, ZERO, MOVED>(x, run, bytes, numbers, nan, codes),
            None => false,
        };
        if !good {
            groups::<SCALING, ZERO, CAREFUL>(x, run, Bytes::default(), numbers, nan, codes);
        }
    }
}

/// How integers become codes: as [`Bytes`] says, of which there is nothing to add, or with care.
const PLAIN: u8 = 0;
const MOVED: u8 = 1;
const CAREFUL: u8 = 2;

/// Whole groups and the beginning of one; there are numbers for whole groups. `false` where that needs more care.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn groups<const SCALING: u8, const ZERO: bool, const HOW: u8>(
    x: &[f32],
    run: Run,
    bytes: Bytes,
    numbers: &[u16],
    nan: &mut __m256,
    codes: &mut [u8],
) -> bool {
    let (wholes, rest) = x.as_chunks::<GROUP>();
    let (code_wholes, code_rest) = codes.as_chunks_mut::<GROUP>();
    let (numbers, _) = numbers.as_chunks::<GROUP>();
    let mut least = _mm256_setzero_si256();
    let mut group = |x: &[f32; GROUP], numbers: &[u16; GROUP]| {
        if HOW == CAREFUL {
            careful::<SCALING, ZERO>(x, run, numbers, nan)
        } else {
            quick::<SCALING, ZERO, HOW>(x, run, bytes, numbers, &mut least)
        }
    };
    for ((x, codes), numbers) in wholes.iter().zip(code_wholes).zip(numbers) {
        prefetch(x, AHEAD);
        let found = group(x, numbers);
        // SAFETY: as many places as the vector has.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), found) };
    }
    if let (false, Some(numbers)) = (rest.is_empty(), numbers.get(wholes.len())) {
        let (mut values, mut last) = ([0.0f32; GROUP], [0u8; GROUP]);
        // Zeros are no NaN, and their codes are not kept.
        values[..rest.len()].copy_from_slice(rest);
        let found = group(&values, numbers);
        // SAFETY: as many places as the vector has.
        unsafe { _mm256_storeu_si256(last.as_mut_ptr().cast(), found) };
        let shared = code_rest.len().min(rest.len());
        code_rest[..shared].copy_from_slice(&last[..shared]);
    }
    _mm256_movemask_epi8(_mm256_cmpgt_epi16(_mm256_set1_epi16(BAD + 1), least)) == 0
}

/// Packing works in halves: this puts quarters of bytes that were packed twice in order.
#[inline]
#[target_feature(enable = "avx2")]
fn ordered(bytes: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// The codes of 32 values, of which `least` tells whether they are right.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn quick<const SCALING: u8, const ZERO: bool, const HOW: u8>(
    x: &[f32; GROUP],
    run: Run,
    bytes: Bytes,
    numbers: &[u16; GROUP],
    least: &mut __m256i,
) -> __m256i {
    let mut integers = [_mm256_setzero_si256(); 4];
    for (i, integers) in integers.iter_mut().enumerate() {
        // SAFETY: eight values and numbers each.
        let (x, numbers) = unsafe {
            (_mm256_loadu_ps(x.as_ptr().add(8 * i)), _mm_loadu_si128(numbers.as_ptr().add(8 * i).cast()))
        };
        *integers = chosen(scaled::<SCALING, ZERO>(x, run), _mm256_cvtepu16_epi32(numbers));
    }
    let [a, b, c, d] = integers;
    let (mut front, mut back) = (_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    *least = _mm256_min_epi16(*least, _mm256_min_epi16(front, back));
    if HOW == MOVED {
        let moved = _mm256_set1_epi16(bytes.moved);
        (front, back) = (_mm256_add_epi16(front, moved), _mm256_add_epi16(back, moved));
    }
    let (low, high) = (_mm256_set1_epi8(bytes.low), _mm256_set1_epi8(bytes.high));
    let found = ordered(_mm256_packs_epi16(front, back));
    let found = _mm256_min_epi8(_mm256_max_epi8(found, low), high);
    if HOW == MOVED {
        let (zero, mask) = (_mm256_set1_epi8(bytes.zero), _mm256_set1_epi8(bytes.mask));
        return _mm256_and_si256(_mm256_add_epi8(found, zero), mask);
    }
    found
}

/// The codes of 32 values, whatever they are.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn careful<const SCALING: u8, const ZERO: bool>(
    x: &[f32; GROUP],
    run: Run,
    numbers: &[u16; GROUP],
    nan: &mut __m256,
) -> __m256i {
    // SAFETY: eight values each.
    let x = unsafe { [0, 8, 16, 24].map(|at| _mm256_loadu_ps(x.as_ptr().add(at))) };
    // The second operand where one is NaN.
    let bounded_x = if SCALING >= CORRECTED_ONCE { x.map(|x| _mm256_min_ps(run.most, x)) } else { x };
    let v = bounded_x.map(|x| scaled::<SCALING, ZERO>(x, run));
    let seen = if SCALING >= CORRECTED_ONCE { x } else { v };
    for pair in [[seen[0], seen[1]], [seen[2], seen[3]]] {
        *nan = _mm256_or_ps(*nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(pair[0], pair[1]));
    }
    let mut integers = [_mm256_setzero_si256(); 4];
    for (i, (integers, v)) in integers.iter_mut().zip(v).enumerate() {
        // SAFETY: eight numbers each.
        let numbers = unsafe { _mm_loadu_si128(numbers.as_ptr().add(8 * i).cast()) };
        // As above.
        let v = if SCALING >= CORRECTED_ONCE { v } else { _mm256_min_ps(run.high, v) };
        *integers = chosen(v, _mm256_cvtepu16_epi32(numbers));
    }
    let [a, b, c, d] = integers;
    let front = bounded(_mm256_packs_epi32(a, b), run);
    let back = bounded(_mm256_packs_epi32(c, d), run);
    ordered(_mm256_packus_epi16(front, back))
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
fn chosen(v: __m256, complement: __m256i) -> __m256i {
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
