//! From packed codes of 4 bits to f32 on uniform grids, in vectors of 256 bits, without unpacking them first.
//!
//! Eight codes are one integer of 32 bits. All lanes of a vector get it, and each moves its own code to the upper end, and
//! from there to the lower one with or without its sign.
#![allow(unsafe_code)] // intrinsics on pointers

pub(super) mod halves;

use core::arch::x86_64::*;

use super::halves::Half;
use super::{prefetch, runs, stream};
use crate::simd::Level;
use halves::Blocks;

/// Codes of a step: two cache lines of values.
const STEP: usize = 32;

/// Their bytes.
const BYTES: usize = STEP / 2;

/// Bytes between what is read and what is asked for, while values go past the caches and hold up what comes after them.
const AHEAD: usize = 2048;

/// Codes of a vector.
const LANES: usize = 8;

/// The integers of codes with a sign and of those without.
const SIGNED: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0];
const UNSIGNED: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// As [`decode`], to numbers of 16 bits.
pub(super) fn decode_halves<A: Half>(
    bytes: &[u8],
    signed: bool,
    (width, phase): (usize, usize),
    scale: &[f32],
    zero: &[f32],
    stream: bool,
    out: &mut [A],
) -> bool {
    if !serves((width, phase), out.len()) || bytes.len() < out.len().div_ceil(2) {
        return false;
    }
    let base = if signed { &SIGNED } else { &UNSIGNED };
    // A step beyond the largest half is still within the range that was quantized.
    let blocks = Blocks { bases: core::slice::from_ref(base), scale, zero, held: true };
    let done = halves::decode(bytes, 0, &blocks, (width, phase), stream, out);
    if done && stream {
        stream::finish();
    }
    done
}

/// Whether [`decode`] serves `len` codes of this pattern.
pub(super) fn serves((width, phase): (usize, usize), len: usize) -> bool {
    // Runs begin at bytes.
    let single = width.saturating_sub(phase) >= len;
    let even = single || (phase.is_multiple_of(2) && width.is_multiple_of(2));
    super::level() >= Level::Avx2 && width >= STEP && phase < width && even
}

/// Decodes codes that begin at the first byte as [`affine::decode`](super::affine::decode) does; false where these loops
/// cannot serve.
pub(super) fn decode(
    bytes: &[u8],
    signed: bool,
    (width, phase): (usize, usize),
    scale: &[f32],
    zero: &[f32],
    stream: bool,
    out: &mut [f32],
) -> bool {
    let (first, len) = (width.saturating_sub(phase), out.len());
    if !serves((width, phase), len) || bytes.len() < len.div_ceil(2) {
        return false;
    }
    let aligned = first >= len || (first.is_multiple_of(4) && width.is_multiple_of(4));
    let none = zero.iter().fold(true, |none, zero| none & (*zero == 0.0));
    // SAFETY: the level says that the machine has AVX2.
    unsafe {
        match (signed, none, stream && aligned && stream::is_aligned(out)) {
            (false, false, false) => by_runs::<false, true, false>(bytes, (width, phase), scale, zero, out),
            (false, false, true) => by_runs::<false, true, true>(bytes, (width, phase), scale, zero, out),
            (false, true, false) => by_runs::<false, false, false>(bytes, (width, phase), scale, zero, out),
            (false, true, true) => by_runs::<false, false, true>(bytes, (width, phase), scale, zero, out),
            (true, false, false) => by_runs::<true, true, false>(bytes, (width, phase), scale, zero, out),
            (true, false, true) => by_runs::<true, true, true>(bytes, (width, phase), scale, zero, out),
            (true, true, false) => by_runs::<true, false, false>(bytes, (width, phase), scale, zero, out),
            (true, true, true) => by_runs::<true, false, true>(bytes, (width, phase), scale, zero, out),
        }
    }
    if stream {
        stream::finish();
    }
    true
}

#[target_feature(enable = "avx2")]
fn by_runs<const SIGNED: bool, const ZERO: bool, const STREAM: bool>(
    bytes: &[u8],
    (width, phase): (usize, usize),
    scale: &[f32],
    zero: &[f32],
    out: &mut [f32],
) {
    let grid = |j: usize| {
        let zero = if ZERO { zero.get(j).copied().unwrap_or_default() } else { 0.0 };
        (scale.get(j).copied().unwrap_or_default(), zero)
    };
    if width == STEP && phase == 0 {
        // The usual case, without a thought about where runs begin.
        let (steps, rest) = out.as_chunks_mut::<STEP>();
        let (halves, _) = bytes.as_chunks::<BYTES>();
        let blocks = steps.len();
        let second = if STREAM { stream::second_place(blocks * STEP) / STEP } else { 0 };
        let (front, back) = halves.split_at(2 * second);
        let (places, last) = steps.split_at_mut(2 * second);
        let (first, behind) = places.split_at_mut(second);
        for (j, (first, behind)) in first.iter_mut().zip(behind).enumerate() {
            step::<SIGNED, ZERO, STREAM>(&front[j], grid(j), first);
            step::<SIGNED, ZERO, STREAM>(&front[second + j], grid(second + j), behind);
        }
        for (j, (bytes, out)) in (2 * second..).zip(back.iter().zip(last)) {
            if STREAM {
                prefetch(bytes, AHEAD);
            }
            step::<SIGNED, ZERO, STREAM>(bytes, grid(j), out);
        }
        return singly::<SIGNED>(&bytes[blocks * BYTES..], grid(blocks), rest);
    }
    for (j, from, to) in runs(out.len(), width, phase) {
        let (steps, rest) = out[from..to].as_chunks_mut::<STEP>();
        let bytes = &bytes[from / 2..to.div_ceil(2)];
        let done = steps.len() * BYTES;
        for (bytes, out) in bytes.as_chunks::<BYTES>().0.iter().zip(steps) {
            step::<SIGNED, ZERO, STREAM>(bytes, grid(j), out);
        }
        singly::<SIGNED>(&bytes[done..], grid(j), rest);
    }
}

/// The values of 32 codes.
#[inline]
#[target_feature(enable = "avx2")]
fn step<const SIGNED: bool, const ZERO: bool, const STREAM: bool>(
    bytes: &[u8; BYTES],
    (scale, zero): (f32, f32),
    out: &mut [f32; STEP],
) {
    let (scale, zero) = (_mm256_set1_ps(scale), _mm256_set1_ps(zero));
    let to_top = _mm256_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0);
    for (eight, out) in bytes.as_chunks::<4>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
        let codes = _mm256_sllv_epi32(_mm256_set1_epi32(i32::from_le_bytes(*eight)), to_top);
        let codes = if SIGNED { _mm256_srai_epi32::<28>(codes) } else { _mm256_srli_epi32::<28>(codes) };
        let q = _mm256_cvtepi32_ps(codes);
        let values = _mm256_mul_ps(scale, if ZERO { _mm256_sub_ps(q, zero) } else { q });
        // SAFETY: eight places, which are aligned if `STREAM`.
        unsafe { stream::store::<STREAM>(out.as_mut_ptr(), values) };
    }
}

/// The values of fewer codes.
#[inline]
fn singly<const SIGNED: bool>(bytes: &[u8], (scale, zero): (f32, f32), out: &mut [f32]) {
    for (byte, out) in bytes.iter().zip(out.chunks_mut(2)) {
        for (code, out) in [byte & 0x0F, byte >> 4].into_iter().zip(out) {
            let q = if SIGNED { (code << 4) as i8 >> 4 } else { code as i8 };
            *out = scale * (f32::from(q) - zero);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::super::affine::{decode as decode_bytes, decode_nibbles, reads_nibbles};
    use super::super::{forced, pack};
    use super::*;
    use crate::element::Element;

    fn check<A: Element>(codes: &[u8], first: usize, pattern: (usize, usize), unsigned: bool) {
        let (width, phase) = pattern;
        let mut bytes = vec![0; codes.len().div_ceil(2)];
        pack::pack(codes, 4, &mut bytes);
        let len = codes.len() - first;
        let blocks = (phase + len).div_ceil(width).max(1);
        let scale: Vec<f32> =
            (0..blocks).map(|j| [0.37, 1e-30, 0.0, 3e20, 1.5][j % 5] * (1.0 + j as f32)).collect();
        let sign_bit = if unsigned { 0 } else { 8 };
        for zero in [Vec::new(), vec![0.0; blocks], (0..blocks).map(|j| j as f32 * 0.7 - 8.0).collect()] {
            let mut expected = vec![A::default(); len];
            decode_bytes(&codes[first..], sign_bit, width, phase, &scale, &zero, false, &mut expected);
            let bits = |values: &[A]| values.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
            for level in forced::available() {
                for (stream, start) in [(false, 0), (true, 0), (true, 1), (true, 4)] {
                    let mut out = vec![A::default(); len + start];
                    let here = &mut out[start..];
                    let done = forced::with(level, || {
                        let served = reads_nibbles::<f32>(first, pattern, len);
                        let done =
                            decode_nibbles(&bytes, first, sign_bit, pattern, &scale, &zero, stream, here);
                        assert_eq!(served, done);
                        done
                    });
                    assert!(!done || bits(here) == bits(&expected), "{pattern:?} of {len} from {first}");
                    assert!(
                        done || level < Level::Avx2 || width < STEP || width % 2 + phase % 2 + first % 2 > 0
                    );
                }
            }
        }
    }

    #[test]
    fn values_are_those_of_unpacked_codes() {
        let mut state = 9u64;
        let codes: Vec<u8> = (0..2500)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 60) as u8
            })
            .collect();
        let patterns =
            [(32, 0), (32, 8), (64, 32), (36, 2), (100, 0), (33, 0), (31, 0), (32, 3), (4096, 100)];
        for pattern in patterns {
            for len in [0, 1, 2, 15, 31, 32, 33, 63, 64, 95, 100, 127, 500, 2400] {
                for first in [0, 2, 3, 32] {
                    for unsigned in [false, true] {
                        let codes = &codes[..first + len];
                        check::<f32>(codes, first, pattern, unsigned);
                        if len > 90 {
                            check::<f16>(codes, first, pattern, unsigned);
                            check::<bf16>(codes, first, pattern, unsigned);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn few_bytes_and_few_scales_are_left_alone() {
        let mut out = [0.0f32; 64];
        for level in forced::available() {
            forced::with(level, || {
                assert!(!decode_nibbles(&[0; 31], 0, 8, (32, 0), &[1.0f32; 2], &[], false, &mut out));
                assert!(!decode_nibbles(&[0; 32], 2, 8, (32, 0), &[1.0f32; 2], &[], false, &mut out));
                assert!(!decode_nibbles(&[0; 32], 0, 8, (32, 0), &[1.0f32], &[], false, &mut out));
                assert!(!decode_nibbles(&[0; 32], 0, 8, (32, 32), &[1.0f32; 9], &[], false, &mut out));
                assert!(!decode_nibbles(&[0; 32], 0, 8, (32, 0), &[1.0f64; 2], &[], false, &mut out));
            });
        }
    }
}
