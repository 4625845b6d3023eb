//! From packed codes of 4 bits to f16 and bf16, in vectors of 512 bits.
//!
//! The values of all 16 codes of a block are computed in f32 and rounded once for the block. They fill half a register, and
//! one permutation looks up 32 codes at once.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use half::{bf16, f16};

use super::super::{level, runs, stream};
use crate::element::Element;
use crate::simd::Level;

/// Codes.
const CODES: usize = 16;

/// Values of a vector.
const LANES: usize = 32;

/// What the codes of blocks stand for: `scale · (base − zero)`, computed in f32.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Blocks<'a> {
    /// By code; one for all blocks, or one for each.
    pub bases: &'a [[f32; CODES]],
    /// The scale of each block; empty if there are none.
    pub scale: &'a [f32],
    /// The zero point of each block; empty if there are none.
    pub zero: &'a [f32],
    /// Whether values beyond the range of f16 are held within it.
    pub held: bool,
}

/// Numbers of 16 bits.
pub(in crate::kernel) trait Half: Element {
    /// Rounds to the nearest, as [`convert`](super::super::convert::convert) does.
    ///
    /// # Safety
    ///
    /// Only for machines with AVX-512 F, BW, VL and DQ.
    unsafe fn rounded(x: __m512, held: bool) -> __m256i;
}

impl Half for f16 {
    #[inline(always)]
    unsafe fn rounded(x: __m512, held: bool) -> __m256i {
        let (low, high) = (Self::MIN.to_f32_const(), Self::MAX.to_f32_const());
        // SAFETY: the caller's promise. The second operand where it is NaN.
        unsafe {
            let within = _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), x));
            _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(if held { within } else { x })
        }
    }
}

impl Half for bf16 {
    #[inline(always)]
    unsafe fn rounded(x: __m512, _: bool) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let bits = _mm512_castps_si512(x);
            let upper = _mm512_srli_epi32::<16>(bits);
            let odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
            let most = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF));
            let nearest = _mm512_srli_epi32::<16>(_mm512_add_epi32(most, odd));
            // NaN stays NaN, and quiet.
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            let words = _mm512_mask_or_epi32(nearest, nan, upper, _mm512_set1_epi32(0x40));
            _mm512_cvtepi32_epi16(words)
        }
    }
}

/// Writes the values of codes, of which the first `skip` are passed over (none or one), past the caches if `stream`: then
/// [`finish`](stream::finish) has to follow. False, and nothing is written, where this does not serve.
pub(in crate::kernel) fn decode<A: Half>(
    bytes: &[u8],
    skip: usize,
    blocks: &Blocks<'_>,
    (width, phase): (usize, usize),
    stream: bool,
    out: &mut [A],
) -> bool {
    if level() < Level::Avx512 || width < LANES || skip > 1 {
        return false;
    }
    let first = width.saturating_sub(phase % width);
    let whole = first >= out.len() || (first.is_multiple_of(LANES) && width.is_multiple_of(LANES));
    let aligned = skip == 0 && whole && stream::is_aligned(out);
    let lines = aligned && out.as_ptr().addr().is_multiple_of(64);
    // SAFETY: the level says that the machine has the instructions, and places are aligned where values go past the caches.
    unsafe {
        match (stream && aligned, lines) {
            (false, _) => by_blocks::<A, PLAIN>(bytes, skip, blocks, (width, phase), out),
            (true, false) => by_blocks::<A, PARTS>(bytes, skip, blocks, (width, phase), out),
            (true, true) => by_blocks::<A, LINES>(bytes, skip, blocks, (width, phase), out),
        }
    }
    true
}

/// How vectors are stored: as usual, or past the caches by parts of 16 bytes or by lines.
const PLAIN: u8 = 0;
const PARTS: u8 = 1;
const LINES: u8 = 2;

/// # Safety
///
/// Whole vectors of each block begin at a multiple of 16 bytes in `out` if `STORE` is [`PARTS`], of 64 if it is [`LINES`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn by_blocks<A: Half, const STORE: u8>(
    bytes: &[u8],
    skip: usize,
    blocks: &Blocks<'_>,
    (width, phase): (usize, usize),
    out: &mut [A],
) {
    let Blocks { bases, scale, zero, held } = *blocks;
    let Some(mut base) = bases.first() else { return };
    let (mut bytes, mut scale, mut zero, mut out) = (bytes, scale, zero, out);
    if skip == 0 && phase.is_multiple_of(width) && width.is_multiple_of(LANES) && bases.len() == 1 {
        // Whole blocks of whole vectors, which is what formats of blocks have.
        // SAFETY: the caller's promise.
        let done = unsafe {
            match width {
                // Loops of known length are unrolled.
                32 => whole::<A, STORE, 32>(bytes, (base, scale, zero), held, width, out),
                64 => whole::<A, STORE, 64>(bytes, (base, scale, zero), held, width, out),
                _ => whole::<A, STORE, 0>(bytes, (base, scale, zero), held, width, out),
            }
        };
        if done > 0 && done == scale.len() {
            return;
        }
        (bytes, out) = (&bytes[done * width / 2..], &mut out[done * width..]);
        (scale, zero) = (&scale[done..], zero.get(done..).unwrap_or_default());
    }
    let len = out.len().min(bytes.len().saturating_mul(2).saturating_sub(skip));
    for (entry, from, to) in runs(len, width, phase) {
        // Times one is the same number.
        let factor = if scale.is_empty() { Some(1.0) } else { scale.get(entry).copied() };
        let Some(factor) = factor else { break };
        if bases.len() > 1 {
            let Some(own) = bases.get(entry) else { break };
            base = own;
        }
        // SAFETY: sixteen floats.
        let base = unsafe { _mm512_loadu_ps(base.as_ptr()) };
        let twice = table::<A>(base, factor, zero.get(entry).copied(), held);
        let (mut from, begin) = (from, skip + from);
        if begin % 2 == 1 {
            // Up to a whole byte.
            let code = bytes.get(begin / 2).map_or(0, |byte| byte >> 4);
            // SAFETY: the place of one value.
            unsafe { some(&[code], twice, &mut out[from..=from]) };
            from += 1;
        }
        let (groups, rest) = bytes[(skip + from) / 2..].as_chunks::<{ LANES / 2 }>();
        let (vectors, last) = out[from..to].as_chunks_mut::<LANES>();
        let done = vectors.len();
        for (codes, out) in groups.iter().zip(vectors) {
            // SAFETY: sixteen bytes.
            let values = of(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) }, twice);
            // SAFETY: the place of a vector, aligned as the caller promises.
            unsafe { store::<A, STORE>(out, values) };
        }
        if !last.is_empty() {
            let codes = groups.get(done).map_or(rest, |group| group.as_slice());
            // SAFETY: fewer values than a vector has.
            unsafe { some(codes, twice, last) };
        }
    }
}

/// Writes blocks of whole vectors, as many as there are codes, scales and places for. How many.
///
/// # Safety
///
/// As above.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn whole<A: Half, const STORE: u8, const WIDTH: usize>(
    bytes: &[u8],
    (base, scale, zero): (&[f32; CODES], &[f32], &[f32]),
    held: bool,
    width: usize,
    out: &mut [A],
) -> usize {
    let width = if WIDTH > 0 { WIDTH } else { width };
    // SAFETY: sixteen floats.
    let base = unsafe { _mm512_loadu_ps(base.as_ptr()) };
    let blocks = bytes.chunks_exact(width / 2).zip(out.chunks_exact_mut(width)).zip(scale);
    let count = blocks.len();
    for (entry, ((bytes, out), &factor)) in blocks.enumerate() {
        let twice = table::<A>(base, factor, zero.get(entry).copied(), held);
        let (groups, _) = bytes.as_chunks::<{ LANES / 2 }>();
        for (codes, out) in groups.iter().zip(out.as_chunks_mut::<LANES>().0) {
            // SAFETY: sixteen bytes, and the place of a vector, aligned as the caller promises.
            unsafe { store::<A, STORE>(out, of(_mm_loadu_si128(codes.as_ptr().cast()), twice)) };
        }
    }
    count
}

/// The values of all codes of a block, twice.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn table<A: Half>(base: __m512, factor: f32, zero: Option<f32>, held: bool) -> __m512i {
    let base = if let Some(zero) = zero { _mm512_sub_ps(base, _mm512_set1_ps(zero)) } else { base };
    // SAFETY: this function has the instructions.
    let all = unsafe { A::rounded(_mm512_mul_ps(base, _mm512_set1_ps(factor)), held) };
    _mm512_broadcast_i64x4(all)
}

/// # Safety
///
/// The place is a multiple of 16 bytes if `STORE` is [`PARTS`], of 64 if it is [`LINES`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn store<A, const STORE: u8>(out: &mut [A; LANES], values: __m512i) {
    let place = out.as_mut_ptr();
    // SAFETY: the place of a vector, aligned as the caller promises.
    unsafe {
        match STORE {
            PLAIN => _mm512_storeu_si512(place.cast(), values),
            PARTS => {
                _mm_stream_si128(place.cast(), _mm512_castsi512_si128(values));
                _mm_stream_si128(place.add(8).cast(), _mm512_extracti32x4_epi32::<1>(values));
                _mm_stream_si128(place.add(16).cast(), _mm512_extracti32x4_epi32::<2>(values));
                _mm_stream_si128(place.add(24).cast(), _mm512_extracti32x4_epi32::<3>(values));
            }
            _ => _mm512_stream_si512(place.cast(), values),
        }
    }
}

/// The values of 32 codes in 16 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn of(codes: __m128i, table: __m512i) -> __m512i {
    let bytes = _mm512_cvtepu8_epi32(codes);
    // The first code of a byte in the lower word, and the second in the upper one; higher bits than four do not matter, as
    // all values are there twice.
    let words = _mm512_or_si512(bytes, _mm512_slli_epi32::<12>(bytes));
    _mm512_permutexvar_epi16(words, table)
}

/// Writes at most 32 values, of the first codes.
///
/// # Safety
///
/// There are no more than 32 places.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn some<A>(codes: &[u8], table: __m512i, out: &mut [A]) {
    let mut bytes = [0; LANES / 2];
    bytes.iter_mut().zip(codes).for_each(|(to, &from)| *to = from);
    let wanted = u32::MAX.checked_shr((LANES - out.len().min(LANES)) as u32).unwrap_or(0);
    // SAFETY: sixteen bytes, and places for the values that are stored.
    unsafe {
        let values = of(_mm_loadu_si128(bytes.as_ptr().cast()), table);
        _mm512_mask_storeu_epi16(out.as_mut_ptr().cast(), wanted, values);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::convert::convert;
    use super::super::super::forced::{available, with};
    use super::*;

    fn check<A: Half>(held: bool) {
        let bytes: Vec<u8> = (0..400).map(|i| (i * 37 + i / 7) as u8).collect();
        let levels: [f32; CODES] = core::array::from_fn(|i| (i as f32 * 0.7).sin() * 3.0);
        let bases = [levels, levels.map(|level| level * 1.01 - 0.3)];
        // Also scales beyond every half, and of which a level is one, or less than the smallest.
        let special = [1.0, 0.37, 3e4, f32::INFINITY, 1e-9, f32::NAN, 1e30, 3e38, 1e-43, -2.5];
        for (width, phase) in
            [(32usize, 0), (64, 0), (96, 0), (64, 32), (40, 8), (33, 5), (64, 31), (1000, 7)]
        {
            for (skip, len) in
                [(0usize, 700usize), (1, 700), (0, 31), (1, 32), (0, 0), (1, 1), (0, 97), (1, 64)]
            {
                let blocks = (phase + len).div_ceil(width).max(1);
                let scale: Vec<f32> = (0..blocks).map(|j| special[j % special.len()]).collect();
                let zero: Vec<f32> = (0..blocks).map(|j| [0.0, 7.5, -3.0][j % 3]).collect();
                let own: Vec<[f32; CODES]> = (0..blocks).map(|j| bases[j % 2]).collect();
                for (bases, scale, zero) in [
                    (&bases[..1], &scale[..], &[][..]),
                    (&own, &scale, &[]),
                    (&bases[..1], &scale, &zero),
                    (&own, &[], &[]),
                ] {
                    let wide: Vec<f32> = (0..len)
                        .map(|i| {
                            let (block, code) = ((phase + i) / width, i + skip);
                            let code = bytes[code / 2] >> (code % 2 * 4) & 15;
                            let base = if bases.len() > 1 { bases[block] } else { bases[0] };
                            let zero = zero.get(block).copied().unwrap_or_default();
                            let v =
                                (base[usize::from(code)] - zero) * scale.get(block).copied().unwrap_or(1.0);
                            let held = held && A::TYPE == crate::element::FloatType::F16 && !v.is_nan();
                            if held { v.clamp(-65504.0, 65504.0) } else { v }
                        })
                        .collect();
                    let mut expected = vec![A::default(); len];
                    convert(&wide, &mut expected);
                    let blocks = Blocks { bases, scale, zero, held };
                    for level in available() {
                        for (stream, start) in [(false, 0), (false, 3), (true, 0), (true, 8), (true, 1)] {
                            let mut out = vec![A::from_f32(9.0); len + 50];
                            let first = out.as_ptr().align_offset(64) + start;
                            let served = with(level, || {
                                decode(
                                    &bytes,
                                    skip,
                                    &blocks,
                                    (width, phase),
                                    stream,
                                    &mut out[first..first + len],
                                )
                            });
                            stream::finish();
                            assert_eq!(served, level >= Level::Avx512);
                            let (before, rest) = out.split_at(first);
                            let (found, behind) = rest.split_at(len);
                            assert!(before.iter().chain(behind).all(|x| x.to_f32() == 9.0));
                            let bits = |x: &[A]| x.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
                            assert!(
                                !served || bits(found) == bits(&expected),
                                "{skip} {len} {width} {phase} {start}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn values_are_computed_in_f32_and_rounded_once() {
        for held in [false, true] {
            check::<f16>(held);
            check::<bf16>(held);
        }
    }
}
