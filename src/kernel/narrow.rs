//! From f32, f16 and bf16 to codes of one byte, to the nearest integer, in vectors of 256 bits.
//!
//! Thirty-two values become one vector of codes. The processor converts to the nearest integer (ties to even); what does
//! not fit, NaN among it, becomes the most negative one. Narrowing to 16 bits and then to 8 saturates, and the bounds are
//! applied to bytes, thirty-two at once.
//!
//! So values need not be looked at before they are converted: what is NaN or does not fit shows as the most negative
//! integer of 16 bits. It is rare, and a piece where it shows is encoded once more by a loop that takes care of it, as
//! are codes that do not have all their integers within one byte.
//!
//! Divisions are those of [`division`](super::division).
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::affine::EncodeParams;
use super::convert::{Eight, convert, same};
use super::division::{GROUP, Reciprocals, same_integers};
use super::{runs, stream};
use crate::simd::Level;

/// Codes of one vector.
const VECTOR: usize = 32;

/// Codes that are put together before they go past the caches.
const STAGE: usize = 1024;

/// Codes of one cache line.
const LINE: usize = 64;

/// Codes of a long run that are looked at once they are written: a multiple of a line, whose values are in the caches.
const PIECE: usize = 4096;

/// Values of a run from which on it pays to look at all boundaries between codes.
const LONG: usize = 1 << 14;

/// How values are scaled.
const PRODUCT: u8 = 0;
const QUOTIENT: u8 = 1;
const TWO_TERMS: u8 = 2;

/// What codes there are: signed integers themselves, up to the largest byte; unsigned bytes, all of them, to which a zero
/// point was added; any within a byte; and those to which a zero point was added before they were rounded.
const SIGNED: u8 = 0;
const UNSIGNED: u8 = 1;
const ANY: u8 = 2;
const MOVED: u8 = 3;

/// Whether these loops serve runs of `width` values that share parameters.
pub(super) fn serves(width: usize) -> bool {
    super::level() >= Level::Avx2 && width >= VECTOR
}

/// As [`affine::encode`](super::affine::encode) within equal lengths; `None` where these loops cannot serve.
pub(super) fn encode<A: Eight>(
    x: &[A],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    stream: bool,
    codes: &mut [u8],
) -> Option<bool> {
    let least = if width > 1 { VECTOR } else { 8 };
    if super::level() < Level::Avx2 || x.len() < least || (width > 1 && width < VECTOR) {
        return None;
    }
    // SAFETY: the level says that the machine has AVX2, FMA and F16C.
    unsafe {
        if width > 1 && width < STAGE && stream {
            staged(x, (width, phase), params, divide, mask, codes)
        } else if width > 1 {
            by_runs(x, (width, phase), params, divide, mask, stream, codes)
        } else {
            same::<A, f32>(x).map(|x| {
                if divide {
                    columns::<QUOTIENT, false>(x, params, mask, codes)
                } else {
                    columns::<PRODUCT, false>(x, params, mask, codes)
                }
            })
        }
    }
}

/// As [`affine::encode_common`](super::affine::encode_common) within equal lengths; `None` where these loops cannot
/// serve.
pub(super) fn encode_columns(
    x: &[f32],
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    codes: &mut [u8],
) -> Option<bool> {
    if super::level() < Level::Avx2 || x.len() < 8 {
        return None;
    }
    // SAFETY: the level says that the machine has AVX2, FMA and F16C.
    unsafe {
        Some(if divide {
            columns::<QUOTIENT, true>(x, params, mask, codes)
        } else {
            columns::<PRODUCT, true>(x, params, mask, codes)
        })
    }
}

/// Short runs past the caches: they do not end where cache lines do, so codes are put together first.
#[target_feature(enable = "avx2,fma,f16c")]
fn staged<A: Eight>(
    x: &[A],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    codes: &mut [u8],
) -> Option<bool> {
    let mut stage = [0; STAGE];
    let mut nan = false;
    for (piece, (x, codes)) in x.chunks(STAGE).zip(codes.chunks_mut(STAGE)).enumerate() {
        let position = phase % width + piece * STAGE;
        let entry = position / width;
        let params = EncodeParams {
            scale: params.scale.get(entry..)?,
            low: params.low.get(entry..)?,
            high: params.high.get(entry..)?,
            zero_before: params.zero_before.get(entry..).unwrap_or_default(),
            zero_after: params.zero_after.get(entry..).unwrap_or_default(),
            ..*params
        };
        let stage = &mut stage[..codes.len()];
        nan |= by_runs(x, (width, position % width), &params, divide, mask, false, stage)?;
        stream::past_caches(stage, codes);
    }
    _mm_sfence();
    Some(nan)
}

/// The integers of codes: their bounds before `zero` is added.
#[derive(Clone, Copy, PartialEq)]
struct Integers {
    low: f32,
    high: f32,
    zero: i16,
}

/// How integers become codes, in every lane.
#[derive(Clone, Copy)]
struct Codes {
    zero: __m256i,
    /// Added to integers, and what the codes are held between then, as signed bytes.
    shift: __m256i,
    low: __m256i,
    high: __m256i,
    /// The bit that makes them unsigned again, and the bits of a code.
    flip: __m256i,
    mask: __m256i,
}

impl Codes {
    /// `None` where the codes have more integers than a byte.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(integers: Integers, mask: u8) -> Option<Self> {
        let zero = i32::from(integers.zero);
        let (low, high) = (integers.low as i32 + zero, integers.high as i32 + zero);
        let flip = if low < 0 { 0 } else { 128 };
        if low - flip < -128 || high - flip > 127 {
            return None;
        }
        Some(Self {
            zero: _mm256_set1_epi16(integers.zero),
            shift: _mm256_set1_epi16((zero - flip) as i16),
            low: _mm256_set1_epi8((low - flip) as i8),
            high: _mm256_set1_epi8((high - flip) as i8),
            flip: _mm256_set1_epi8(flip as i8),
            mask: _mm256_set1_epi8(mask as i8),
        })
    }
}

/// The parameters of a run, in every lane.
#[derive(Clone, Copy)]
struct Run {
    /// The divisor, or the factor.
    scale: __m256,
    /// The reciprocal of the divisor, in two terms.
    inverse: [__m256; 2],
    zero_before: __m256,
    codes: Codes,
}

/// The same parameters once each.
#[derive(Clone, Copy)]
struct Entry {
    scale: f32,
    divide: bool,
    zero_before: f32,
    integers: Integers,
    mask: u8,
}

/// `None` if the parameters of an entry are beyond what these loops can do.
#[target_feature(enable = "avx2,fma,f16c")]
fn by_runs<A: Eight>(
    x: &[A],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    stream: bool,
    codes: &mut [u8],
) -> Option<bool> {
    // Bounds that are integers of 16 bits, with one to spare.
    const BOUND: f32 = 32_000.0;
    let bounds = params.low.iter().chain(params.high);
    if !bounds.fold(true, |within, bound| within & (bound.abs() <= BOUND)) {
        return None;
    }
    let serve = match (divide, kind_of(params, mask as u8)) {
        (false, SIGNED) => each_run::<A, false, SIGNED>,
        (false, UNSIGNED) => each_run::<A, false, UNSIGNED>,
        (false, ANY) => each_run::<A, false, ANY>,
        (false, _) => each_run::<A, false, MOVED>,
        (true, SIGNED) => each_run::<A, true, SIGNED>,
        (true, UNSIGNED) => each_run::<A, true, UNSIGNED>,
        (true, ANY) => each_run::<A, true, ANY>,
        (true, _) => each_run::<A, true, MOVED>,
    };
    let nan = serve(x, (width, phase), params, mask as u8, stream, codes);
    if stream {
        // What went past the caches becomes visible to other threads in the order of the program.
        _mm_sfence();
    }
    Some(nan)
}

/// The kind of codes that serves all entries.
#[inline]
#[target_feature(enable = "avx2")]
fn kind_of(params: &EncodeParams<'_, f32>, mask: u8) -> u8 {
    if !params.zero_before.is_empty() {
        return MOVED;
    }
    let (low, high, zero) = (params.low, params.high, params.zero_after);
    let all = |bounds: &[f32], bound: f32| bounds.iter().fold(true, |all, &one| all & (one == bound));
    let signed =
        all(high, 127.0) && low.iter().fold(true, |signed, &low| signed & (-128.0..0.0).contains(&low));
    if mask != u8::MAX {
        ANY
    } else if signed && zero.iter().fold(true, |none, &zero| none & (zero == 0)) {
        SIGNED
    } else if zero.len() == low.len() && zero.len() == high.len() {
        let ends = low.iter().zip(high).zip(zero);
        let whole = |low: f32, high: f32, zero: i32| (low == -(zero as f32)) & (high == 255.0 - zero as f32);
        let unsigned = ends.fold(true, |all, ((&low, &high), &zero)| all & whole(low, high, zero));
        if unsigned { UNSIGNED } else { ANY }
    } else {
        ANY
    }
}

/// Whether all entries are the same.
#[inline]
#[target_feature(enable = "avx2")]
fn alike<T: Copy + PartialEq>(all: &[T]) -> bool {
    all.first().is_none_or(|&first| all.iter().fold(true, |alike, &one| alike & (one == first)))
}

/// Whether any value is NaN.
#[target_feature(enable = "avx2,fma,f16c")]
fn each_run<A: Eight, const DIVIDE: bool, const CODES: u8>(
    x: &[A],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    mask: u8,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    let integers_of = |j: usize| Integers {
        low: params.low.get(j).copied().unwrap_or_default(),
        high: params.high.get(j).copied().unwrap_or_default(),
        // Of zero points, the low bits count.
        zero: params.zero_after.get(j).copied().unwrap_or_default() as i16,
    };
    let common = alike(params.low) && alike(params.high) && alike(params.zero_after);
    let mut integers = integers_of(0);
    let mut codes_of = Codes::of(integers, mask);
    let mut by = Reciprocals::of(&[]);
    let mut nan = false;
    for (j, from, to) in runs(x.len(), width, phase) {
        let Some(&scale) = params.scale.get(j) else { break };
        if !common && j > 0 {
            integers = integers_of(j);
            codes_of = Codes::of(integers, mask);
        }
        if DIVIDE && CODES != MOVED && j % GROUP == 0 {
            // Ahead of time: nothing else tells the processor which loop serves a run.
            by = Reciprocals::of(params.scale.get(j..).unwrap_or_default());
        }
        if DIVIDE && CODES != MOVED && !by.exact[j % GROUP] && to - from >= LONG {
            let most = integers.low.abs().max(integers.high.abs()) as u32;
            by.exact[j % GROUP] = same_integers(scale, (by.near[j % GROUP], by.rest[j % GROUP]), most);
        }
        let zero_before =
            if CODES == MOVED { params.zero_before.get(j).copied().unwrap_or_default() } else { 0.0 };
        let (x, codes) = (&x[from..to], &mut codes[from..to]);
        let careful = |x: &[A], codes: &mut [u8]| {
            careful(x, Entry { scale, divide: DIVIDE, zero_before, integers, mask }, codes)
        };
        let Some(codes_of) = codes_of else {
            nan |= careful(x, codes);
            continue;
        };
        let run = Run {
            scale: _mm256_set1_ps(scale),
            inverse: [_mm256_set1_ps(by.near[j % GROUP]), _mm256_set1_ps(by.rest[j % GROUP])],
            zero_before: _mm256_set1_ps(zero_before),
            codes: codes_of,
        };
        nan |= match (DIVIDE, by.exact[j % GROUP]) {
            (false, _) => pieces::<A, PRODUCT, CODES>(x, run, careful, stream, codes),
            (true, true) => pieces::<A, TWO_TERMS, CODES>(x, run, careful, stream, codes),
            (true, false) => pieces::<A, QUOTIENT, CODES>(x, run, careful, stream, codes),
        };
    }
    nan
}

/// A run of values, piece by piece, again by `careful` where that is needed. Whether any is NaN.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn pieces<A: Eight, const SCALING: u8, const CODES: u8>(
    mut x: &[A],
    run: Run,
    careful: impl Fn(&[A], &mut [u8]) -> bool,
    stream: bool,
    mut codes: &mut [u8],
) -> bool {
    if !stream && codes.len() <= PIECE {
        return !lines::<A, SCALING, CODES>(x, run, false, codes) && careful(x, codes);
    }
    let mut nan = false;
    // What goes past the caches does so by whole lines.
    let mut len = if stream { codes.as_ptr().align_offset(LINE) } else { 0 };
    while !codes.is_empty() {
        len = if len == 0 { PIECE } else { len }.min(codes.len());
        let ((x_here, x_after), (here, after)) = (x.split_at(len), codes.split_at_mut(len));
        if !lines::<A, SCALING, CODES>(x_here, run, stream, here) {
            nan |= careful(x_here, here);
        }
        (x, codes, len) = (x_after, after, 0);
    }
    nan
}

/// A piece of a run, past the caches where it fills whole lines and begins one, if `stream`. `false` where a value shows
/// that is NaN or too large, and codes do not count.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn lines<A: Eight, const SCALING: u8, const CODES: u8>(
    x: &[A],
    run: Run,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    let len = x.len().min(codes.len());
    let (from, to) = (x.as_ptr(), codes.as_mut_ptr());
    let mut least = _mm256_setzero_si256();
    if len < VECTOR {
        let (mut values, mut bytes) = ([A::default(); VECTOR], [0u8; VECTOR]);
        values[..len].copy_from_slice(&x[..len]);
        // SAFETY: both arrays have the length of a vector of codes. (The codes of zeros are not kept.)
        unsafe {
            let block = vector::<A, SCALING, CODES>(values.as_ptr(), run, &mut least);
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), block);
        }
        codes[..len].copy_from_slice(&bytes[..len]);
        return ordinary(least);
    }
    let mut at = 0;
    // SAFETY: every access is to `VECTOR` elements from an `at` of at most `len − VECTOR` on; the aligned ones are a
    // multiple of a line behind the beginning of one.
    unsafe {
        if stream && to.addr().is_multiple_of(LINE) {
            while at + LINE <= len {
                let first = vector::<A, SCALING, CODES>(from.add(at), run, &mut least);
                let second = vector::<A, SCALING, CODES>(from.add(at + VECTOR), run, &mut least);
                _mm256_stream_si256(to.add(at).cast(), first);
                _mm256_stream_si256(to.add(at + VECTOR).cast(), second);
                at += LINE;
            }
        }
        while at + VECTOR <= len {
            let block = vector::<A, SCALING, CODES>(from.add(at), run, &mut least);
            _mm256_storeu_si256(to.add(at).cast(), block);
            at += VECTOR;
        }
        if at < len {
            // Overlaps with what lies before it.
            let place = len - VECTOR;
            let block = vector::<A, SCALING, CODES>(from.add(place), run, &mut least);
            _mm256_storeu_si256(to.add(place).cast(), block);
        }
    }
    ordinary(least)
}

/// Whether none of the smallest integers is the most negative one.
#[inline]
#[target_feature(enable = "avx2")]
fn ordinary(least: __m256i) -> bool {
    _mm256_movemask_epi8(_mm256_cmpeq_epi16(least, _mm256_set1_epi16(i16::MIN))) == 0
}

/// The codes of 32 values; `least` is lowered to their integers.
///
/// # Safety
///
/// There are 32 values at `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn vector<A: Eight, const SCALING: u8, const CODES: u8>(
    x: *const A,
    run: Run,
    least: &mut __m256i,
) -> __m256i {
    let integers = |at: usize| {
        // SAFETY: the caller's promise.
        let x = unsafe { A::eight(x.add(at)) };
        let v = match SCALING {
            PRODUCT => _mm256_mul_ps(x, run.scale),
            QUOTIENT => _mm256_div_ps(x, run.scale),
            _ => _mm256_fmadd_ps(x, run.inverse[0], _mm256_mul_ps(x, run.inverse[1])),
        };
        _mm256_cvtps_epi32(if CODES == MOVED { _mm256_add_ps(v, run.zero_before) } else { v })
    };
    let mut words = |at: usize| {
        let words = _mm256_packs_epi32(integers(at), integers(at + 8));
        *least = _mm256_min_epi16(*least, words);
        match CODES {
            SIGNED => words,
            UNSIGNED => _mm256_adds_epi16(words, run.codes.zero),
            _ => _mm256_adds_epi16(words, run.codes.shift),
        }
    };
    let (front, back) = (words(0), words(16));
    in_order(match CODES {
        SIGNED => _mm256_max_epi8(_mm256_packs_epi16(front, back), run.codes.low),
        UNSIGNED => _mm256_packus_epi16(front, back),
        _ => {
            let bytes = _mm256_max_epi8(_mm256_packs_epi16(front, back), run.codes.low);
            let bytes = _mm256_min_epi8(bytes, run.codes.high);
            _mm256_and_si256(_mm256_xor_si256(bytes, run.codes.flip), run.codes.mask)
        }
    })
}

/// As [`pieces`] for values and codes of any kind.
#[cold]
#[target_feature(enable = "avx2,fma,f16c")]
fn careful<A: Eight>(x: &[A], entry: Entry, codes: &mut [u8]) -> bool {
    let Entry { divide, integers, .. } = entry;
    let (scale, zero_before) = (_mm256_set1_ps(entry.scale), _mm256_set1_ps(entry.zero_before));
    let (low, high) = (_mm256_set1_epi16(integers.low as i16), _mm256_set1_ps(integers.high));
    let zero_after = _mm256_set1_epi16(integers.zero);
    let mask = _mm256_set1_epi16(entry.mask.into());
    let mut nan = _mm256_setzero_ps();
    for (x, codes) in x.chunks(VECTOR).zip(codes.chunks_mut(VECTOR)) {
        // Where there is no value, a one is NaN only if all are, and its code is not kept.
        let (mut values, mut bytes) = ([1.0f32; VECTOR], [0u8; VECTOR]);
        convert(x, &mut values);
        let mut words = |at: usize| {
            let mut integers = |at: usize| {
                // SAFETY: there are 32 values.
                let x = unsafe { _mm256_loadu_ps(values.as_ptr().add(at)) };
                let v = if divide { _mm256_div_ps(x, scale) } else { _mm256_mul_ps(x, scale) };
                let v = _mm256_add_ps(v, zero_before);
                nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
                // The second operand where one is NaN, which becomes the most negative integer.
                _mm256_cvtps_epi32(_mm256_min_ps(high, v))
            };
            let words = _mm256_max_epi16(_mm256_packs_epi32(integers(at), integers(at + 8)), low);
            _mm256_and_si256(_mm256_add_epi16(words, zero_after), mask)
        };
        let block = in_order(_mm256_packus_epi16(words(0), words(16)));
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), block) };
        codes.copy_from_slice(&bytes[..codes.len()]);
    }
    _mm256_movemask_ps(nan) != 0
}

/// Bytes that were packed twice within halves, in their order.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(bytes: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Values that have a parameter each, or a scale each and all else in common, and as many codes.
#[target_feature(enable = "avx2,fma,f16c")]
fn columns<const SCALING: u8, const COMMON: bool>(
    x: &[f32],
    params: &EncodeParams<'_, f32>,
    mask: u16,
    codes: &mut [u8],
) -> bool {
    let mut len = x.len().min(codes.len()).min(params.scale.len());
    if !COMMON {
        len = len.min(params.low.len()).min(params.high.len());
    }
    let common = [params.low, params.high].map(|all| all.first().copied().unwrap_or_default());
    let [common_low, common_high] = common.map(|bound| _mm256_set1_ps(bound));
    let common_after = _mm256_set1_epi32(params.zero_after.first().copied().unwrap_or_default());
    let before = (params.zero_before.len() >= len).then_some(params.zero_before.as_ptr());
    let after = (params.zero_after.len() >= len).then_some(params.zero_after.as_ptr());
    let mask = _mm256_set1_epi32((mask & 0xFF).into());
    let mut nan = _mm256_setzero_ps();
    // Eight codes from `at` on.
    let mut eight = |at: usize| {
        // SAFETY: `at + 8` is at most the length of every array that is there.
        unsafe {
            let part = |array: *const f32| _mm256_loadu_ps(array.add(at));
            let (x, scale) = (part(x.as_ptr()), part(params.scale.as_ptr()));
            let mut v = if SCALING == PRODUCT { _mm256_mul_ps(x, scale) } else { _mm256_div_ps(x, scale) };
            if let (false, Some(before)) = (COMMON, before) {
                v = _mm256_add_ps(v, part(before));
            }
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            // The second operand where the first is NaN.
            let (low, high) = if COMMON {
                (common_low, common_high)
            } else {
                (part(params.low.as_ptr()), part(params.high.as_ptr()))
            };
            let v = _mm256_min_ps(_mm256_max_ps(v, low), high);
            let mut q = _mm256_cvtps_epi32(v);
            if COMMON {
                q = _mm256_add_epi32(q, common_after);
            } else if let Some(after) = after {
                q = _mm256_add_epi32(q, _mm256_loadu_si256(after.add(at).cast()));
            }
            _mm256_and_si256(q, mask)
        }
    };
    let to = codes.as_mut_ptr();
    let mut at = 0;
    while at + VECTOR <= len {
        let low = _mm256_packs_epi32(eight(at), eight(at + 8));
        let high = _mm256_packs_epi32(eight(at + 16), eight(at + 24));
        let bytes = in_order(_mm256_packus_epi16(low, high));
        // SAFETY: there are 32 codes from `at` on.
        unsafe { _mm256_storeu_si256(to.add(at).cast(), bytes) };
        at += VECTOR;
    }
    // The last eight overlap with those before.
    while at < len && len >= 8 {
        let place = at.min(len - 8);
        let words = _mm256_packs_epi32(eight(place), _mm256_setzero_si256());
        let bytes = in_order(_mm256_packus_epi16(words, words));
        // SAFETY: there are eight codes from `place` on.
        unsafe { _mm_storel_epi64(to.add(place).cast(), _mm256_castsi256_si128(bytes)) };
        at += 8;
    }
    _mm256_movemask_ps(nan) != 0
}
