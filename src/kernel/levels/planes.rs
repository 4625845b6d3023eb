//! The values of 4-bit codes in vectors of 256 bits.
//!
//! Where the scalar loops look a level up in memory, two permutations of eight entries and a choice between them do it for
//! eight codes at once; or four of bytes for 32 codes, each of which looks up one byte of their values. Products are the
//! same, and so are the bits.
//!
//! Written for AVX2, as no portable form of such permutations becomes one instruction.
#![allow(unsafe_code)] // loads and stores of whole vectors, and calls where the instructions were detected

use core::arch::x86_64::*;

use super::super::{runs, stream};
use super::short::LEVELS;

/// Elements of a vector.
const LANES: usize = 8;

/// The values of 16 codes in registers.
#[derive(Clone, Copy)]
struct Values {
    low: __m256,
    high: __m256,
}

impl Values {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(values: &[f32; LEVELS]) -> Self {
        // SAFETY: sixteen floats.
        let (low, high) =
            unsafe { (_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(LANES))) };
        Self { low, high }
    }

    /// The values of the codes in the lowest four bits of each lane, whatever the other bits are.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, codes: __m256i) -> __m256 {
        let low = _mm256_permutevar8x32_ps(self.low, codes);
        let high = _mm256_permutevar8x32_ps(self.high, codes);
        // The sign of a lane chooses.
        _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes)))
    }
}

/// The values of 16 codes by their bytes: byte `k` of each in vector `k`, twice.
#[derive(Clone, Copy)]
struct Planes([__m256i; 4]);

/// Codes that [`Planes`] look up at once.
const PACKED: usize = 32;

impl Planes {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(values: &[f32; LEVELS]) -> Self {
        // The bytes of four values by their places, then those of all sixteen.
        let order = _mm256_setr_epi8(
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3,
            7, 11, 15,
        );
        let Values { low, high } = Values::new(values);
        let low = _mm256_shuffle_epi8(_mm256_castps_si256(low), order);
        let high = _mm256_shuffle_epi8(_mm256_castps_si256(high), order);
        let (a, b) = (_mm256_castsi256_si128(low), _mm256_extracti128_si256::<1>(low));
        let (c, d) = (_mm256_castsi256_si128(high), _mm256_extracti128_si256::<1>(high));
        let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        Self([
            _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(ab, cd)),
            _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(ab, cd)),
            _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(ab_high, cd_high)),
            _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(ab_high, cd_high)),
        ])
    }

    /// Writes the values of 32 codes times a scale, past the caches if `STREAM`.
    ///
    /// # Safety
    ///
    /// `out` begins at a multiple of 16 if `STREAM`.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn write<const STREAM: bool>(
        &self,
        bytes: &[u8; PACKED / 2],
        scales: __m256,
        out: &mut [f32; PACKED],
    ) {
        for (i, v) in self.of(bytes).into_iter().enumerate() {
            let v = _mm256_mul_ps(v, scales);
            // SAFETY: there is room for four vectors, aligned as the caller promises.
            unsafe { stream::store::<STREAM>(out.as_mut_ptr().add(LANES * i), v) };
        }
    }

    /// The values of 32 codes in 16 bytes, in order.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, bytes: &[u8; PACKED / 2]) -> [__m256; 4] {
        // Every other pair of bytes, each in a word of its own, in the lower half, and those between in the upper one:
        // the order in which the unpacking below, which goes on in each half alone, ends with whole vectors.
        const N: i8 = -1;
        let order = _mm256_setr_epi8(
            0, N, 1, N, 4, N, 5, N, 8, N, 9, N, 12, N, 13, N, 2, N, 3, N, 6, N, 7, N, 10, N, 11, N, 14, N,
            15, N,
        );
        // SAFETY: sixteen bytes.
        let bytes = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
        let words = _mm256_shuffle_epi8(bytes, order);
        let codes = _mm256_or_si256(words, _mm256_slli_epi16::<4>(words));
        let codes = _mm256_and_si256(codes, _mm256_set1_epi8(0x0F));
        let [a, b, c, d] = self.0;
        let (a, b) = (_mm256_shuffle_epi8(a, codes), _mm256_shuffle_epi8(b, codes));
        let (c, d) = (_mm256_shuffle_epi8(c, codes), _mm256_shuffle_epi8(d, codes));
        let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
        let (front, back) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
        [
            _mm256_castsi256_ps(_mm256_unpacklo_epi16(low, high)),
            _mm256_castsi256_ps(_mm256_unpackhi_epi16(low, high)),
            _mm256_castsi256_ps(_mm256_unpacklo_epi16(front, back)),
            _mm256_castsi256_ps(_mm256_unpackhi_epi16(front, back)),
        ]
    }
}

/// Values that are put together before they go past the caches.
const STAGE: usize = 1024;

/// Writes the values of 4-bit codes, two in each byte, of which the first are passed over (none or one): the values of
/// `tables`, one for all blocks or one for each, times the scales, if there are any. Past the caches if `stream`. Only
/// for machines with AVX2.
pub(super) fn decode(
    bytes: &[u8],
    skip: usize,
    tables: &[[f32; LEVELS]],
    scale: &[f32],
    (width, phase): (usize, usize),
    stream: bool,
    out: &mut [f32],
) {
    debug_assert!(super::has_avx2() && skip < 2);
    // SAFETY: the caller has asked whether there is AVX2.
    unsafe {
        let whole = skip == 0 && phase == 0 && width.is_multiple_of(PACKED);
        if stream && whole && stream::is_aligned(out) {
            decode_nibbles::<true>(bytes, skip, tables, scale, (width, phase), out);
            _mm_sfence();
        } else if stream {
            decode_staged(bytes, skip, tables, scale, (width, phase), out);
        } else {
            decode_nibbles::<false>(bytes, skip, tables, scale, (width, phase), out);
        }
    }
}

/// Blocks need not end where cache lines do, so values are put together first.
#[target_feature(enable = "avx2")]
fn decode_staged(
    bytes: &[u8],
    skip: usize,
    tables: &[[f32; LEVELS]],
    scale: &[f32],
    (width, phase): (usize, usize),
    out: &mut [f32],
) {
    let mut stage = [0.0; STAGE];
    let width = width.max(1);
    let len = out.len().min(bytes.len().saturating_mul(2).saturating_sub(skip));
    let mut at = 0;
    while at < len {
        // Whole blocks, where a stage has room for any.
        let begun = (phase % width + at) % width;
        let room = if width <= STAGE { STAGE / width * width - begun } else { STAGE };
        let to = (at + room).min(len);
        let entry = (phase % width + at) / width;
        let tables = if tables.len() > 1 { tables.get(entry..).unwrap_or_default() } else { tables };
        let left = scale.get(entry..).unwrap_or_default();
        if tables.is_empty() || (left.is_empty() && !scale.is_empty()) {
            break;
        }
        let place = skip + at;
        let (bytes, stage) = (bytes.get(place / 2..).unwrap_or_default(), &mut stage[..to - at]);
        // SAFETY: not past the caches.
        unsafe {
            decode_nibbles::<false>(bytes, place % 2, tables, left, (width, (phase + at) % width), stage)
        };
        stream::past_caches(stage, &mut out[at..to]);
        at = to;
    }
    _mm_sfence();
}

/// # Safety
///
/// If `STREAM`, `out` begins at a multiple of 16, and so do whole vectors of codes: blocks are of whole ones, the first from
/// its beginning on.
#[target_feature(enable = "avx2")]
unsafe fn decode_nibbles<const STREAM: bool>(
    bytes: &[u8],
    skip: usize,
    tables: &[[f32; LEVELS]],
    scale: &[f32],
    (width, phase): (usize, usize),
    out: &mut [f32],
) {
    let Some(mut table) = tables.first() else { return };
    let (mut values, mut planes) = (Values::new(table), Planes::new(table));
    let (mut bytes, mut scale, mut out) = (bytes, scale, out);
    if tables.len() == 1 && skip == 0 && phase == 0 && width.is_multiple_of(PACKED) && width <= out.len() {
        // Whole blocks of whole vectors, which is what formats of blocks have.
        let mut blocks = 0;
        let places = bytes.chunks_exact(width / 2).zip(out.chunks_exact_mut(width));
        for ((bytes, out), &scale) in places.zip(scale) {
            let (scales, (vectors, _)) = (_mm256_set1_ps(scale), bytes.as_chunks::<{ PACKED / 2 }>());
            let (steps, _) = out.as_chunks_mut::<PACKED>();
            for (bytes, out) in vectors.iter().zip(steps) {
                // SAFETY: the caller's promise, a multiple of 128 bytes further on.
                unsafe { planes.write::<STREAM>(bytes, scales, out) };
            }
            blocks += 1;
        }
        if blocks > 0 && blocks == scale.len() {
            return;
        }
        (bytes, scale, out) = (&bytes[blocks * width / 2..], &scale[blocks..], &mut out[blocks * width..]);
    }
    let shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    let len = out.len().min(bytes.len().saturating_mul(2).saturating_sub(skip));
    for (entry, from, to) in runs(len, width, phase) {
        // Times one is the same number.
        let scale = if scale.is_empty() { Some(1.0) } else { scale.get(entry).copied() };
        let Some(scale) = scale else { break };
        let long = to - from >= PACKED;
        if tables.len() > 1 && entry > 0 {
            let Some(own) = tables.get(entry) else { break };
            (table, values) = (own, Values::new(own));
            if long {
                planes = Planes::new(own);
            }
        }
        let one = |at: usize| {
            let byte = bytes.get(at / 2).copied().unwrap_or_default();
            table[usize::from(byte >> (at % 2 * 4)) % LEVELS] * scale
        };
        // Up to a whole byte, then sixteen and four bytes at a time.
        let begin = skip + from;
        let odd = (begin % 2).min(to - from);
        let (head, body) = out[from..to].split_at_mut(odd);
        head.iter_mut().for_each(|out| *out = one(begin));
        let scales = _mm256_set1_ps(scale);
        let mut begin = begin + odd;
        let mut body = body;
        if long {
            let (vectors, _) = bytes[begin / 2..].as_chunks::<{ PACKED / 2 }>();
            let (steps, rest) = body.as_chunks_mut::<PACKED>();
            begin += steps.len() * PACKED;
            for (bytes, out) in vectors.iter().zip(steps) {
                // SAFETY: the caller's promise, a multiple of 128 bytes further on.
                unsafe { planes.write::<STREAM>(bytes, scales, out) };
            }
            body = rest;
        }
        let (words, _) = bytes[begin / 2..].as_chunks::<{ LANES / 2 }>();
        let (steps, rest) = body.as_chunks_mut::<LANES>();
        let end = begin + steps.len() * LANES;
        for (word, out) in words.iter().zip(steps) {
            let codes = _mm256_srlv_epi32(_mm256_set1_epi32(i32::from_le_bytes(*word)), shifts);
            // SAFETY: eight floats.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_mul_ps(values.of(codes), scales)) };
        }
        rest.iter_mut().enumerate().for_each(|(i, out)| *out = one(end + i));
    }
}
