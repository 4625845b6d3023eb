//! From codes of one byte to f32 on uniform grids, in vectors of 256 bits.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::{runs, stream};
use crate::simd::Level;

/// Codes that are read together, and values that they become: two cache lines.
const VECTOR: usize = 32;

/// Values that are put together before they go past the caches.
const STAGE: usize = 1024;

/// Bytes of a cache line.
const LINE: usize = 64;

/// As [`affine::decode`](super::affine::decode) within equal lengths, past the caches if `stream`; false where these
/// loops cannot serve.
pub(super) fn decode(
    codes: &[u8],
    sign_bit: u16,
    (width, phase): (usize, usize),
    scale: &[f32],
    zero: &[f32],
    stream: bool,
    out: &mut [f32],
) -> bool {
    if super::level() < Level::Avx2 || width <= 1 || width.min(codes.len()) < VECTOR {
        return false;
    }
    let sign_bit = sign_bit as u8;
    // SAFETY: the level says that the machine has AVX2.
    unsafe {
        if phase == 0 && width < STAGE && width.is_multiple_of(VECTOR) && !stream {
            whole_blocks::<false>(codes, sign_bit, width, scale, zero, out);
        } else if phase == 0 && width < STAGE && width.is_multiple_of(VECTOR) && stream::is_aligned(out) {
            whole_blocks::<true>(codes, sign_bit, width, scale, zero, out);
            _mm_sfence();
        } else if stream && width < STAGE {
            staged(codes, sign_bit, (width, phase), scale, zero, out);
        } else {
            by_runs(codes, sign_bit, (width, phase), scale, zero, stream, out);
        }
    }
    true
}

/// Short runs of whole vectors, the first from its beginning on. Past the caches, into memory that is aligned for that, if
/// `STREAM`: by what is read and written in turns, both go on at once.
#[target_feature(enable = "avx2")]
fn whole_blocks<const STREAM: bool>(
    codes: &[u8],
    sign_bit: u8,
    width: usize,
    scale: &[f32],
    zero: &[f32],
    out: &mut [f32],
) {
    let none = zero.iter().fold(true, |none, zero| none & (*zero == 0.0));
    match (sign_bit > 0, none) {
        (false, true) => blocks::<false, false, STREAM>(codes, sign_bit, width, scale, zero, out),
        (false, false) => blocks::<false, true, STREAM>(codes, sign_bit, width, scale, zero, out),
        (true, true) => blocks::<true, false, STREAM>(codes, sign_bit, width, scale, zero, out),
        (true, false) => blocks::<true, true, STREAM>(codes, sign_bit, width, scale, zero, out),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn blocks<const SIGNED: bool, const ZERO: bool, const STREAM: bool>(
    codes: &[u8],
    sign_bit: u8,
    width: usize,
    scale: &[f32],
    zero: &[f32],
    out: &mut [f32],
) {
    let vectors_of = width / VECTOR;
    let sign_bit = _mm256_set1_epi8(sign_bit as i8);
    let (steps, rest) = codes.as_chunks::<VECTOR>();
    let (places, rest_places) = out.as_chunks_mut::<VECTOR>();
    let run = |j: usize| Run {
        sign_bit,
        scale: _mm256_set1_ps(scale.get(j).copied().unwrap_or_default()),
        zero: _mm256_set1_ps(if ZERO { zero.get(j).copied().unwrap_or_default() } else { 0.0 }),
    };
    for (j, (steps, places)) in steps.chunks(vectors_of).zip(places.chunks_mut(vectors_of)).enumerate() {
        let run = run(j);
        for (codes, place) in steps.iter().zip(places) {
            // SAFETY: as many codes and places as a vector of codes has; these begin a multiple of 128 bytes behind `out`,
            // which is aligned if `STREAM`.
            unsafe { store::<STREAM>(place.as_mut_ptr(), vectors::<SIGNED, ZERO>(codes.as_ptr(), run)) };
        }
    }
    if !rest.is_empty() {
        lines::<SIGNED, ZERO>(rest, run(steps.len() / vectors_of), false, rest_places);
    }
}

/// Short runs past the caches: they do not end where cache lines do, so values are put together first.
#[target_feature(enable = "avx2")]
fn staged(
    codes: &[u8],
    sign_bit: u8,
    (width, phase): (usize, usize),
    scale: &[f32],
    zero: &[f32],
    out: &mut [f32],
) {
    let mut stage = [0.0; STAGE];
    let len = codes.len().min(out.len());
    // The first stage ends where a cache line does.
    let (mut at, mut to) = (0, head(out).min(len));
    while at < len {
        if to == at {
            to = (at + STAGE).min(len);
        }
        let position = phase % width + at;
        let (Some(scale), zero) =
            (scale.get(position / width..), zero.get(position / width..).unwrap_or_default())
        else {
            break;
        };
        let (codes, stage) = (&codes[at..to], &mut stage[..to - at]);
        by_runs(codes, sign_bit, (width, position % width), scale, zero, false, stage);
        stream::past_caches(stage, &mut out[at..to]);
        at = to;
    }
    _mm_sfence();
}

/// Values before the first cache line that begins in `out`.
fn head(out: &[f32]) -> usize {
    out.as_ptr().addr().wrapping_neg() % LINE / size_of::<f32>()
}

#[target_feature(enable = "avx2")]
fn by_runs(
    codes: &[u8],
    sign_bit: u8,
    (width, phase): (usize, usize),
    scale: &[f32],
    zero: &[f32],
    stream: bool,
    out: &mut [f32],
) {
    for (j, from, to) in runs(codes.len().min(out.len()), width, phase) {
        let Some(&scale) = scale.get(j) else { break };
        let zero = zero.get(j).copied().unwrap_or_default();
        let run = Run {
            sign_bit: _mm256_set1_epi8(sign_bit as i8),
            scale: _mm256_set1_ps(scale),
            zero: _mm256_set1_ps(zero),
        };
        let (codes, out) = (&codes[from..to], &mut out[from..to]);
        match (sign_bit > 0, zero != 0.0) {
            (false, false) => lines::<false, false>(codes, run, stream, out),
            (false, true) => lines::<false, true>(codes, run, stream, out),
            (true, false) => lines::<true, false>(codes, run, stream, out),
            (true, true) => lines::<true, true>(codes, run, stream, out),
        }
    }
    if stream {
        // What went past the caches becomes visible to other threads in the order of the program.
        _mm_sfence();
    }
}

/// The parameters of a run, in every lane.
#[derive(Clone, Copy)]
struct Run {
    sign_bit: __m256i,
    scale: __m256,
    zero: __m256,
}

/// A run of codes, by whole cache lines of values if they are to go past the caches. Ends overlap with what lies beside
/// them.
#[inline]
#[target_feature(enable = "avx2")]
fn lines<const SIGNED: bool, const ZERO: bool>(codes: &[u8], run: Run, stream: bool, out: &mut [f32]) {
    let len = codes.len().min(out.len());
    let (from, to) = (codes.as_ptr(), out.as_mut_ptr());
    if len < VECTOR {
        let (mut bytes, mut values) = ([0u8; VECTOR], [0.0f32; VECTOR]);
        bytes[..len].copy_from_slice(&codes[..len]);
        // SAFETY: both arrays have the length of a vector of codes.
        unsafe {
            let v = vectors::<SIGNED, ZERO>(bytes.as_ptr(), run);
            store::<false>(values.as_mut_ptr(), v);
        }
        out[..len].copy_from_slice(&values[..len]);
        return;
    }
    let mut at = 0;
    // SAFETY: every access is to `VECTOR` elements from an `at` of at most `len − VECTOR` on; the aligned ones are at
    // addresses that were made multiples of a line.
    unsafe {
        if stream && to.addr().is_multiple_of(size_of::<f32>()) {
            let head = head(out).min(len);
            if head > 0 {
                store::<false>(to, vectors::<SIGNED, ZERO>(from, run));
            }
            at = head;
            while at + VECTOR <= len {
                let v = vectors::<SIGNED, ZERO>(from.add(at), run);
                for (i, v) in v.into_iter().enumerate() {
                    _mm256_stream_ps(to.add(at + 8 * i), v);
                }
                at += VECTOR;
            }
        } else {
            while at + VECTOR <= len {
                store::<false>(to.add(at), vectors::<SIGNED, ZERO>(from.add(at), run));
                at += VECTOR;
            }
        }
        if at < len {
            let place = len - VECTOR;
            store::<false>(to.add(place), vectors::<SIGNED, ZERO>(from.add(place), run));
        }
    }
}

/// # Safety
///
/// There is room for 32 values at `to`, which is a multiple of 16 if `STREAM`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store<const STREAM: bool>(to: *mut f32, values: [__m256; 4]) {
    for (i, values) in values.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { stream::store::<STREAM>(to.add(8 * i), values) };
    }
}

/// The values of 32 codes.
///
/// # Safety
///
/// There are 32 codes at `codes`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn vectors<const SIGNED: bool, const ZERO: bool>(codes: *const u8, run: Run) -> [__m256; 4] {
    // SAFETY: the caller's promise.
    let mut codes: __m256i = unsafe { _mm256_loadu_si256(codes.cast()) };
    if SIGNED {
        codes = _mm256_sub_epi8(_mm256_xor_si256(codes, run.sign_bit), run.sign_bit);
    }
    let (low, high) = (_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
    [low, _mm_srli_si128::<8>(low), high, _mm_srli_si128::<8>(high)].map(|codes| {
        let q = if SIGNED { _mm256_cvtepi8_epi32(codes) } else { _mm256_cvtepu8_epi32(codes) };
        let q = _mm256_cvtepi32_ps(q);
        _mm256_mul_ps(run.scale, if ZERO { _mm256_sub_ps(q, run.zero) } else { q })
    })
}
