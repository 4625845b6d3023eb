//! From codes of one byte to f32 in vectors of 512 bits: whole lines wherever values begin, some of them of two runs, so that
//! nothing lies across two lines.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::stream;
use super::sixteen::{Run, Sixteen};
use super::{BYTES, Codes, FEWER, UNSIGNED, by_kind, subtracts};

/// Values of a vector.
const LANES: usize = 16;

/// Whole vectors of a run that are written together.
const TOGETHER: usize = 4;

/// As [`decode`](super::decode), of runs of at least [`LANES`] codes. If `stream`, [`finish`](stream::finish) has to follow
/// before other threads may see the values.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn decode(
    codes: &[u8],
    kind: Codes,
    pattern: (usize, usize),
    params: (&[f32], &[f32]),
    stream: bool,
    out: &mut [f32],
) {
    by_kind!(kind.sign_bit, subtracts(params.1), CODES, ZERO => {
        if stream {
            lines::<CODES, ZERO, true>(codes, kind, pattern, params, out)
        } else {
            lines::<CODES, ZERO, false>(codes, kind, pattern, params, out)
        }
    });
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn lines<const CODES: u8, const ZERO: bool, const STREAM: bool>(
    codes: &[u8],
    kind: Codes,
    (width, phase): (usize, usize),
    params: (&[f32], &[f32]),
    out: &mut [f32],
) {
    debug_assert!(width >= LANES);
    let sixteen = Sixteen::new::<CODES>(kind, params);
    let values = |codes: __m128i, run: Run| sixteen.values::<CODES, ZERO>(codes, run);
    let len = codes.len().min(out.len());
    let (from, to) = (codes.as_ptr(), out.as_mut_ptr());
    // The run that lies at `at`, where it ends, and its parameters.
    let (mut at, mut j, mut end, mut here) = (0, 0, width - phase, sixteen.run(0));
    // What lies before the first line, lines, and what is left.
    let mut count = stream::head(out).min(len);
    while at < len {
        if count == 0 {
            count = LANES.min(len - at);
        }
        let whole = end.min(len);
        if count == LANES && at + LANES <= whole {
            // SAFETY: whole vectors of codes and places up to the end of the run.
            unsafe {
                let write = |to: *mut f32, v: __m512| {
                    if STREAM { _mm512_stream_ps(to, v) } else { _mm512_storeu_ps(to, v) }
                };
                while at + TOGETHER * LANES <= whole {
                    for at in [at, at + LANES, at + 2 * LANES, at + 3 * LANES] {
                        write(to.add(at), values(_mm_loadu_si128(from.add(at).cast()), here));
                    }
                    at += TOGETHER * LANES;
                }
                while at + LANES <= whole {
                    write(to.add(at), values(_mm_loadu_si128(from.add(at).cast()), here));
                    at += LANES;
                }
            }
            count = 0;
            continue;
        }
        // Some lanes may not be there, and some may be of the next run.
        let first = |lanes: usize| (1u32 << lanes.min(LANES)).wrapping_sub(1) as __mmask16;
        let (there, of_run) = (first(count), first(end - at));
        let next = sixteen.run(j + 1);
        let both = Run {
            scale: _mm512_mask_blend_ps(of_run, next.scale, here.scale),
            zero: _mm512_mask_blend_ps(of_run, next.zero, here.zero),
        };
        // SAFETY: lanes that are not there are neither read nor written.
        unsafe {
            let v = values(_mm_maskz_loadu_epi8(there, from.add(at).cast()), both);
            if STREAM && count == LANES {
                _mm512_stream_ps(to.add(at), v);
            } else {
                _mm512_mask_storeu_ps(to.add(at), there, v);
            }
        }
        at += count;
        count = 0;
        if at >= end {
            (j, here) = (j + 1, next);
            end = end.saturating_add(width);
        }
    }
}
