//! From codes of one byte to f32, f16 and bf16 on uniform grids, in vectors of 256 bits.
//!
//! Bytes are spread over integers of 32 bits where their sign is the highest bit, or the next lower byte if they have
//! none: what is converted is a power of two times the code, and the scale is divided by that power, so that all roundings
//! are those of the code itself.
#![allow(unsafe_code)] // intrinsics on pointers

mod blocks;
mod halves;
mod sixteen;
mod wide;

use core::arch::x86_64::*;
use core::ops::Range;

use half::{bf16, f16};

use super::convert::same_mut;
use super::reach::{Reach, whole};
use super::runs;
use super::stream::{self, Seam};
use super::vector::Lanes;
use crate::simd::Level;

/// Codes that are read together, and values that they become: a cache line, or two.
const VECTOR: usize = 32;

/// Values that are put together before they go past the caches.
const STAGE: usize = 1024;

/// Codes in a row from which on values of f32 are written by whole lines.
const MANY: usize = 4 * VECTOR;

/// Codes without a sign, signed bytes, and signed codes of fewer bits.
const UNSIGNED: u8 = 0;
const BYTES: u8 = 1;
const FEWER: u8 = 2;

/// `$body` with constants for the kind of codes that have this sign bit, and for whether a zero point is subtracted.
macro_rules! by_kind {
    ($sign_bit:expr, $subtracts:expr, $codes:ident, $zero:ident => $body:expr) => {
        by_kind!(
            ($sign_bit, $subtracts), $codes, $zero, $body,
            [(0, false, UNSIGNED), (0, true, UNSIGNED), (128, false, BYTES), (128, true, BYTES),
             (_, false, FEWER), (_, true, FEWER)]
        )
    };
    ($kind:expr, $codes:ident, $zero:ident, $body:expr, [$(($bit:pat, $subtracts:literal, $name:ident)),*]) => {
        match $kind {
            $(($bit, $subtracts) => {
                const $codes: u8 = $name;
                const $zero: bool = $subtracts;
                $body
            })*
        }
    };
}
use by_kind;

/// Whether any zero point is subtracted.
#[inline(always)]
fn subtracts(zero: &[f32]) -> bool {
    !zero.iter().fold(true, |none, zero| none & (*zero == 0.0))
}

/// What all codes have in common.
#[derive(Clone, Copy)]
struct Codes {
    sign_bit: u8,
    /// Whether values fit, as [`Lanes::fit`] says.
    fit: bool,
}

/// Scales and zero points that can be divided and multiplied by the powers in use.
const SCALES: f32 = 1e-28;
const ZEROS: f32 = 1e28;

/// As [`affine::decode`](super::affine::decode) within equal lengths, past the caches if `stream`; false where these
/// loops cannot serve.
pub(super) fn decode<A: Lanes>(
    codes: &[u8],
    sign_bit: u16,
    (width, phase): (usize, usize),
    scale: &[f32],
    zero: &[f32],
    stream: bool,
    out: &mut [A],
) -> bool {
    if super::level() < Level::Avx2 || width <= 1 || width.min(codes.len()) < VECTOR {
        return false;
    }
    let (scales, zeros) = (Reach::of(scale), Reach::of(zero));
    let usual = scales.least >= SCALES && scales.most < f32::INFINITY && zeros.most <= ZEROS;
    if !usual {
        return false;
    }
    // Codes are integers.
    let values = Reach { least: 1.0, most: 256.0 }.less(zeros, whole(zero)).times(scales);
    let fit = A::fit(values.least, values.most);
    let kind = Codes { sign_bit: sign_bit as u8, fit };
    if super::level() >= Level::Avx512
        // SAFETY: the level says that the machine has these instructions.
        && unsafe { by_lines(codes, kind, (width, phase), (scale, zero), stream, out) }
    {
        if stream {
            stream::finish();
        }
        return true;
    }
    // SAFETY: the level says that the machine has AVX2 and F16C.
    unsafe {
        if phase == 0 && width < STAGE && width.is_multiple_of(VECTOR) && !stream {
            blocks::whole_blocks::<A, false>(codes, kind, width, scale, zero, out);
        } else if phase == 0 && width < STAGE && width.is_multiple_of(VECTOR) && stream::is_aligned(out) {
            blocks::whole_blocks::<A, true>(codes, kind, width, scale, zero, out);
            _mm_sfence();
        } else if stream && width < STAGE {
            staged(codes, kind, (width, phase), scale, zero, out);
        } else {
            by_runs(codes, kind, (width, phase), scale, zero, stream, out);
        }
    }
    true
}

/// In vectors of 512 bits, and false where these do not serve. If `stream`, [`finish`](stream::finish) has to follow.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn by_lines<A: Lanes>(
    codes: &[u8],
    kind: Codes,
    pattern: (usize, usize),
    params: (&[f32], &[f32]),
    stream: bool,
    out: &mut [A],
) -> bool {
    if let Some(out) = same_mut::<A, f32>(out) {
        if pattern.0 < MANY {
            return false;
        }
        wide::decode(codes, kind, pattern, params, stream, out);
        return true;
    }
    if !halves::serves(pattern, codes.len().min(out.len())) {
        return false;
    }
    if let Some(out) = same_mut::<A, f16>(out) {
        halves::decode(codes, kind, pattern, params, stream, out);
    } else if let Some(out) = same_mut::<A, bf16>(out) {
        halves::decode(codes, kind, pattern, params, stream, out);
    } else {
        return false;
    }
    true
}

/// Short runs past the caches: they do not end where cache lines do, so values are put together first.
#[target_feature(enable = "avx2,f16c")]
fn staged<A: Lanes>(
    codes: &[u8],
    kind: Codes,
    (width, phase): (usize, usize),
    scale: &[f32],
    zero: &[f32],
    out: &mut [A],
) {
    let mut stage = [A::default(); STAGE];
    let len = codes.len().min(out.len());
    // The first stage ends where a cache line does.
    let (mut at, mut to) = (0, stream::head(out).min(len));
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
        by_runs(codes, kind, (width, position % width), scale, zero, false, stage);
        stream::past_caches(stage, &mut out[at..to]);
        at = to;
    }
    _mm_sfence();
}

#[target_feature(enable = "avx2,f16c")]
fn by_runs<A: Lanes>(
    codes: &[u8],
    kind: Codes,
    (width, phase): (usize, usize),
    scale: &[f32],
    zero: &[f32],
    stream: bool,
    out: &mut [A],
) {
    let powers = Powers::of::<A>(kind);
    let mut seam = stream.then(Seam::<A>::default);
    for (j, from, to) in runs(codes.len().min(out.len()), width, phase) {
        let Some(&scale) = scale.get(j) else { break };
        let zero = zero.get(j).copied().unwrap_or_default();
        let run = Run::of(powers, scale, zero);
        by_kind!(kind.sign_bit, zero != 0.0, CODES, ZERO => {
            one_run::<A, CODES, ZERO>(codes, from..to, run, &mut seam, out)
        });
    }
    if let Some(seam) = seam {
        seam.finish(out);
        // What went past the caches becomes visible to other threads in the order of the program.
        stream::finish();
    }
}

/// The values of `place`; past the caches by whole lines where there is a `seam`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn one_run<A: Lanes, const CODES: u8, const ZERO: bool>(
    codes: &[u8],
    place: Range<usize>,
    run: Run,
    seam: &mut Option<Seam<A>>,
    out: &mut [A],
) {
    let Range { start, end } = place;
    let Some(seam) = seam else {
        return lines::<A, CODES, ZERO>(&codes[start..end], run, false, &mut out[start..end]);
    };
    // Lines that are not all of this run.
    let head = (start + stream::head(&out[start..])).min(end);
    let tail = end - (end - head) % A::LINE;
    few::<A, CODES, ZERO>(&codes[start..end], 0..head - start, run, (seam, start), out);
    lines::<A, CODES, ZERO>(&codes[head..tail], run, true, &mut out[head..tail]);
    few::<A, CODES, ZERO>(&codes[start..end], tail - start..end - start, run, (seam, tail), out);
}

/// The values of a `part` of the codes, fewer than a line, which go to `at` by way of the `seam`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn few<A: Lanes, const CODES: u8, const ZERO: bool>(
    codes: &[u8],
    part: Range<usize>,
    run: Run,
    (seam, at): (&mut Seam<A>, usize),
    out: &mut [A],
) {
    if part.is_empty() {
        return;
    }
    // With the codes beside them, where there are enough for a vector.
    let from = if codes.len() < VECTOR { part.start } else { part.start.min(codes.len() - VECTOR) };
    let codes = if codes.len() < VECTOR { &codes[part.clone()] } else { &codes[from..from + VECTOR] };
    if let Some(values) = seam.room(at, part.start - from, codes.len(), out) {
        lines::<A, CODES, ZERO>(codes, run, false, values);
        seam.put(part.len(), out);
    }
}

/// How bytes become integers of 32 bits.
#[derive(Clone, Copy)]
struct Powers {
    /// Where the first eight and the last eight of sixteen codes go, or those of even and of odd places.
    places: [__m256i; 2],
    /// By how many bits signs lie too low then.
    shift: __m128i,
    /// What a code is multiplied by, and the reciprocal.
    up: f32,
    down: f32,
    /// As in [`Codes`].
    fit: bool,
}

impl Powers {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn of<A: Lanes>(Codes { sign_bit, fit }: Codes) -> Self {
        let (byte, shift) = if sign_bit > 0 { (3, sign_bit.leading_zeros() as i32) } else { (2, 0) };
        let (second, step) = if A::IN_TURNS && !fit { (1, 2) } else { (8, 1) };
        // Other bytes are zero.
        let place = |first: i32| {
            let four = |at: i32| {
                let lane = |code: i32| (-1 ^ 0xFF << (8 * byte)) | code << (8 * byte);
                [lane(at), lane(at + step), lane(at + 2 * step), lane(at + 3 * step)]
            };
            let ([a, b, c, d], [e, f, g, h]) = (four(first), four(first + 4 * step));
            _mm256_setr_epi32(a, b, c, d, e, f, g, h)
        };
        let power = (8 * byte + shift) as u32;
        Self {
            places: [place(0), place(second)],
            shift: _mm_cvtsi32_si128(shift),
            up: f32::from_bits((127 + power) << 23),
            down: f32::from_bits((127 - power) << 23),
            fit,
        }
    }
}

/// The parameters of a run, in every lane.
#[derive(Clone, Copy)]
struct Run {
    powers: Powers,
    scale: __m256,
    zero: __m256,
}

impl Run {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn of(powers: Powers, scale: f32, zero: f32) -> Self {
        Self { powers, scale: _mm256_set1_ps(scale * powers.down), zero: _mm256_set1_ps(zero * powers.up) }
    }
}

/// Codes in a row; past the caches where they fill whole lines and begin one, if `stream`. Ends overlap with what lies
/// beside them, and so does the beginning of many: stores across two lines of the caches cost twice.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn lines<A: Lanes, const CODES: u8, const ZERO: bool>(codes: &[u8], run: Run, stream: bool, out: &mut [A]) {
    let len = codes.len().min(out.len());
    let (from, to, fit) = (codes.as_ptr(), out.as_mut_ptr(), run.powers.fit);
    if len < VECTOR {
        let (mut bytes, mut values) = ([0u8; VECTOR], [A::default(); VECTOR]);
        bytes[..len].copy_from_slice(&codes[..len]);
        // SAFETY: both arrays have the length of a vector of codes.
        unsafe {
            let v = vectors::<CODES, ZERO>(bytes.as_ptr(), run);
            store::<A, false>(values.as_mut_ptr(), v, fit);
        }
        out[..len].copy_from_slice(&values[..len]);
        return;
    }
    let mut at = 0;
    // SAFETY: every access is to `VECTOR` elements from an `at` of at most `len − VECTOR` on, or to the second half of
    // them; what goes past the caches begins a multiple of 16 values behind the beginning of a line.
    unsafe {
        if stream && stream::head(out) == 0 {
            let second = stream::second_place(len);
            while at < second {
                for at in [at, at + VECTOR, at + second, at + second + VECTOR] {
                    store::<A, true>(to.add(at), vectors::<CODES, ZERO>(from.add(at), run), fit);
                }
                at += 2 * VECTOR;
            }
            at += second;
            while at + VECTOR <= len {
                store::<A, true>(to.add(at), vectors::<CODES, ZERO>(from.add(at), run), fit);
                at += VECTOR;
            }
            if at + 16 == len {
                let [.., first, second] = vectors::<CODES, ZERO>(from.add(len - VECTOR), run);
                A::put_two::<true>(to.add(at), first, second, fit);
                at = len;
            }
        } else {
            let head = stream::head(out);
            if 0 < head && head < VECTOR && len >= MANY {
                store::<A, false>(to, vectors::<CODES, ZERO>(from, run), fit);
                at = head;
            }
            while at + VECTOR <= len {
                store::<A, false>(to.add(at), vectors::<CODES, ZERO>(from.add(at), run), fit);
                at += VECTOR;
            }
        }
        if at < len {
            let place = len - VECTOR;
            store::<A, false>(to.add(place), vectors::<CODES, ZERO>(from.add(place), run), fit);
        }
    }
}

/// # Safety
///
/// There is room for 32 values at `to`, which is a multiple of 16 if `STREAM`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn store<A: Lanes, const STREAM: bool>(to: *mut A, [a, b, c, d]: [__m256; 4], fit: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        A::put_two::<STREAM>(to, a, b, fit);
        A::put_two::<STREAM>(to.add(16), c, d, fit);
    }
}

/// The values of 32 codes, by eights in the order of the type.
///
/// # Safety
///
/// There are 32 codes at `codes`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn vectors<const CODES: u8, const ZERO: bool>(codes: *const u8, run: Run) -> [__m256; 4] {
    // SAFETY: the caller's promise.
    let [front, back] = unsafe {
        [codes, codes.add(16)].map(|codes| _mm256_broadcastsi128_si256(_mm_loadu_si128(codes.cast())))
    };
    let Powers { places: [low, high], shift, .. } = run.powers;
    [(front, low), (front, high), (back, low), (back, high)].map(|(codes, place)| {
        let q = _mm256_shuffle_epi8(codes, place);
        let q = _mm256_cvtepi32_ps(if CODES == FEWER { _mm256_sll_epi32(q, shift) } else { q });
        _mm256_mul_ps(run.scale, if ZERO { _mm256_sub_ps(q, run.zero) } else { q })
    })
}
