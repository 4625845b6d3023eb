//! The values of codes in vectors of 512 bits.
//!
//! One register holds all values of 4-bit codes, and one permutation looks up sixteen codes at once. Sixteen registers
//! hold those of bytes, of which a permutation looks up in two.
//!
//! Values of 4-bit codes that go past the caches do so in whole cache lines, wherever blocks end: a vector that two blocks
//! share has two scales.
#![allow(unsafe_code)] // loads and stores of whole vectors, and calls where the instructions were detected

use core::arch::x86_64::*;

use super::super::{level, prefetch, runs};
use super::decode::LevelTables;
use super::short::LEVELS;
use crate::simd::Level;

/// Values of a vector.
const LANES: usize = 16;

/// Bytes ahead that are asked for: codes are read slowly, a line of them for eight of values.
const AHEAD: usize = 1024;

/// Whether this serves blocks of `width` values, of whose codes the first `skip` are passed over (none or one).
pub(super) fn serves(width: usize, skip: usize, stream: bool, out: &[f32]) -> bool {
    let head = head(stream, skip, out);
    level() >= Level::Avx512 && width >= LANES && head < LANES && (skip + head).is_multiple_of(2)
}

/// Values before the first vector.
fn head(stream: bool, skip: usize, out: &[f32]) -> usize {
    if stream { out.as_ptr().align_offset(64) } else { skip }
}

/// As [`planes::decode`](super::planes::decode), where this [serves](serves). If `stream`,
/// [`finish`](super::super::stream::finish) has to follow before other threads may see the values.
pub(super) fn decode(
    bytes: &[u8],
    skip: usize,
    table: &[f32; LEVELS],
    scale: &[f32],
    (width, phase): (usize, usize),
    stream: bool,
    out: &mut [f32],
) {
    // SAFETY: the caller has asked whether there is AVX-512, and where lines begin if the values go past the caches.
    unsafe {
        if stream {
            decode_lines::<true>(bytes, skip, table, scale, (width, phase), out);
        } else {
            decode_lines::<false>(bytes, skip, table, scale, (width, phase), out);
        }
    }
}

/// The scales of the blocks that follow.
struct Scales<'a> {
    all: &'a [f32],
    width: usize,
    /// The scale of the block at hand, and how many values it has left.
    now: f32,
    left: usize,
}

impl Scales<'_> {
    /// Those of `count` values, at most a vector, in its lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn next(&mut self, count: usize) -> __m512 {
        let scales = _mm512_set1_ps(self.now);
        if count < self.left {
            self.left -= count;
            return scales;
        }
        // What lies behind the last block is not looked at.
        let (begun, others) = (self.left, _mm512_set1_ps(self.following()));
        self.left = self.width - (count - begun);
        _mm512_mask_mov_ps(scales, u16::MAX.checked_shl(begun as u32).unwrap_or(0), others)
    }

    #[inline]
    fn following(&mut self) -> f32 {
        // Times one is the same number.
        let (&first, rest) = self.all.split_first().unwrap_or((&1.0, &[]));
        (self.now, self.all) = (first, rest);
        first
    }
}

/// # Safety
///
/// If `STREAM`, `out` has a [`head`] of less than a vector, behind which lines begin.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn decode_lines<const STREAM: bool>(
    bytes: &[u8],
    skip: usize,
    table: &[f32; LEVELS],
    scale: &[f32],
    (width, phase): (usize, usize),
    out: &mut [f32],
) {
    let phase = phase % width;
    let mut len = out.len().min(bytes.len().saturating_mul(2).saturating_sub(skip));
    if !scale.is_empty() {
        len = len.min(scale.len().saturating_mul(width).saturating_sub(phase));
    }
    let mut scales = Scales { all: scale, width, now: 1.0, left: width - phase };
    scales.following();
    let out = &mut out[..len];
    let (head, rest) = out.split_at_mut(head(STREAM, skip, out).min(len));
    some(bytes, skip, table, &mut scales, head);
    let bytes = bytes.get((skip + head.len()) / 2..).unwrap_or_default();
    let (lines, rest) = rest.as_chunks_mut::<LANES>();
    let (groups, rest_of_bytes) = bytes.split_at((lines.len() * LANES / 2).min(bytes.len()));
    let (groups, _) = groups.as_chunks();
    // SAFETY: the caller's promise: whole lines if past the caches.
    unsafe {
        match width {
            // Loops of known length are unrolled.
            32 => vectors::<STREAM, 2>(groups, table, &mut scales, lines),
            64 => vectors::<STREAM, 4>(groups, table, &mut scales, lines),
            _ => vectors::<STREAM, 0>(groups, table, &mut scales, lines),
        }
    }
    some(rest_of_bytes, 0, table, &mut scales, rest);
}

/// Writes whole vectors, of which a block has `PERIOD`, if that is not zero: then the blocks begin in the same lane of
/// every so many vectors.
///
/// # Safety
///
/// If `STREAM`, `out` begins with a line.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn vectors<const STREAM: bool, const PERIOD: usize>(
    groups: &[[u8; LANES / 2]],
    table: &[f32; LEVELS],
    scales: &mut Scales<'_>,
    out: &mut [[f32; LANES]],
) {
    // SAFETY: sixteen floats.
    let table = unsafe { _mm512_loadu_ps(table.as_ptr()) };
    let write = |codes: &[u8; LANES / 2], scales: __m512, out: &mut [f32; LANES]| {
        let v = _mm512_mul_ps(values(codes, table), scales);
        // SAFETY: sixteen floats, and a whole line if past the caches, by the caller's promise.
        unsafe {
            if STREAM {
                _mm512_stream_ps(out.as_mut_ptr(), v);
            } else {
                _mm512_storeu_ps(out.as_mut_ptr(), v);
            }
        }
    };
    let mut at = 0;
    if PERIOD > 0 {
        // Up to the first vector that a block begins in, and behind it.
        let begun = scales.left % LANES;
        while scales.left + (LANES - begun) % LANES != scales.width
            && let (Some(codes), Some(out)) = (groups.get(at), out.get_mut(at))
        {
            write(codes, scales.next(LANES), out);
            at += 1;
        }
        let last = if begun > 0 { u16::MAX << begun } else { 0 };
        let (groups, _) = groups[at.min(groups.len())..].as_chunks::<PERIOD>();
        let (out, _) = out[at..].as_chunks_mut::<PERIOD>();
        for (codes, out) in groups.iter().zip(out) {
            prefetch(codes, AHEAD);
            let now = _mm512_set1_ps(scales.now);
            let next = _mm512_mask_mov_ps(now, last, _mm512_set1_ps(scales.following()));
            for (i, (codes, out)) in codes.iter().zip(out).enumerate() {
                write(codes, if i + 1 < PERIOD { now } else { next }, out);
            }
            at += PERIOD;
        }
    }
    // No call keeps vectors on the stack: what is read from there waits for all that is on its way past the caches.
    let (groups, out) = (groups.get(at..).unwrap_or_default(), out.get_mut(at..).unwrap_or_default());
    for (codes, out) in groups.iter().zip(out) {
        prefetch(codes, AHEAD);
        write(codes, scales.next(LANES), out);
    }
}

/// The values of sixteen codes in eight bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn values(codes: &[u8; LANES / 2], table: __m512) -> __m512 {
    let both = u64::from_le_bytes(*codes);
    let (low, high) = (_mm512_set1_epi32(both as i32), (both >> 32) as i32);
    let words = _mm512_mask_set1_epi32(low, 0xFF00, high);
    let shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    // Bits above the lowest four of a lane do not matter.
    _mm512_permutexvar_ps(_mm512_srlv_epi32(words, shifts), table)
}

/// Writes fewer values than fill a vector; the first code is passed over if `skip` is one.
#[inline]
#[target_feature(enable = "avx512f")]
fn some(bytes: &[u8], skip: usize, table: &[f32; LEVELS], scales: &mut Scales<'_>, out: &mut [f32]) {
    if out.is_empty() {
        return;
    }
    let mut codes = [0; 8];
    codes.iter_mut().zip(bytes).for_each(|(code, &byte)| *code = byte);
    let codes = u64::from_le_bytes(codes) >> (4 * skip);
    // SAFETY: sixteen floats.
    let table = unsafe { _mm512_loadu_ps(table.as_ptr()) };
    let v = _mm512_mul_ps(values(&codes.to_le_bytes(), table), scales.next(out.len()));
    let mut all = [0.0; LANES];
    // SAFETY: sixteen floats.
    unsafe { _mm512_storeu_ps(all.as_mut_ptr(), v) };
    out.iter_mut().zip(all).for_each(|(out, value)| *out = value);
}

/// Values that bytes have.
const BYTES: usize = 256;

/// Whether [`decode_bytes`] serves blocks of `width` values.
pub(super) fn serves_bytes(width: usize) -> bool {
    level() >= Level::Avx512 && width >= 4 * LANES
}

/// As [`decode`](super::decode::decode) of one-byte codes, where this [serves](serves_bytes).
pub(super) fn decode_bytes(
    codes: &[u8],
    tables: &LevelTables<'_, f32>,
    width: usize,
    phase: usize,
    out: &mut [f32],
) {
    let mut all = [0.0; BYTES];
    let mut known = None;
    for (entry, from, to) in runs(codes.len().min(out.len()), width, phase) {
        let place = if tables.shared { 0 } else { entry };
        if known != Some(place) {
            // Codes without a level are zero.
            let at = place * tables.size;
            let values = tables.values.get(at..at + tables.size).unwrap_or_default();
            all.fill(0.0);
            all.iter_mut().zip(values).for_each(|(to, &from)| *to = from);
            known = Some(place);
        }
        let scale = if tables.scale.is_empty() { None } else { tables.scale.get(entry).copied() };
        // SAFETY: the caller has asked whether there is AVX-512.
        unsafe { look_up(&codes[from..to], &all, scale.unwrap_or(1.0), &mut out[from..to]) };
    }
}

/// Writes the values of codes times the scale.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn look_up(codes: &[u8], table: &[f32; BYTES], scale: f32, out: &mut [f32]) {
    let mut rows = [_mm512_setzero_ps(); BYTES / LANES];
    for (row, values) in rows.iter_mut().zip(table.as_chunks::<LANES>().0) {
        // SAFETY: sixteen floats.
        *row = unsafe { _mm512_loadu_ps(values.as_ptr()) };
    }
    let scales = _mm512_set1_ps(scale);
    let (groups, rest) = codes.as_chunks::<LANES>();
    let (vectors, rest_of_out) = out.as_chunks_mut::<LANES>();
    for (codes, out) in groups.iter().zip(vectors) {
        // SAFETY: sixteen bytes.
        let codes = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) });
        let bit = |bit: u32| _mm512_test_epi32_mask(codes, _mm512_set1_epi32(1 << bit));
        let (fifth, sixth, seventh) = (bit(5), bit(6), bit(7));
        // Among 32, 64, 128 and 256 values from a row on.
        let among = |row: usize| _mm512_permutex2var_ps(rows[row], codes, rows[row + 1]);
        let pair = |row: usize| _mm512_mask_blend_ps(fifth, among(row), among(row + 2));
        let half = |row: usize| _mm512_mask_blend_ps(sixth, pair(row), pair(row + 4));
        let values = _mm512_mask_blend_ps(seventh, half(0), half(8));
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_mul_ps(values, scales)) };
    }
    for (&code, out) in rest.iter().zip(rest_of_out) {
        *out = table[usize::from(code)] * scale;
    }
}
