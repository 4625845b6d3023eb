//! From codes of one byte to f16 and bf16 in vectors of 512 bits, by whole cache lines wherever values begin.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::halves::{Half, WORDS, Words};
use super::super::{runs, stream};
use super::sixteen::{Run, Sixteen};
use super::{BYTES, Codes, FEWER, UNSIGNED, by_kind, subtracts};
use crate::simd::Level;

/// Whether [`decode`] serves `len` codes of this pattern: vectors have no codes of two blocks.
pub(super) fn serves((width, phase): (usize, usize), len: usize) -> bool {
    let single = phase < width && width - phase >= len;
    let whole = width.is_multiple_of(WORDS) && phase.is_multiple_of(WORDS) && phase < width;
    super::super::level() >= Level::Avx512 && len >= WORDS && (single || whole)
}

/// As [`decode`](super::decode), where this [serves](serves). If `stream`, [`finish`](stream::finish) has to follow before
/// other threads may see the values.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn decode<A: Half>(
    codes: &[u8],
    kind: Codes,
    pattern: (usize, usize),
    params: (&[f32], &[f32]),
    stream: bool,
    out: &mut [A],
) {
    by_kind!(kind.sign_bit, subtracts(params.1), CODES, ZERO => {
        if kind.fit {
            lines::<A, CODES, ZERO, true>(codes, kind, pattern, params, stream, out)
        } else {
            lines::<A, CODES, ZERO, false>(codes, kind, pattern, params, stream, out)
        }
    });
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn lines<A: Half, const CODES: u8, const ZERO: bool, const FIT: bool>(
    codes: &[u8],
    kind: Codes,
    (width, phase): (usize, usize),
    params: (&[f32], &[f32]),
    stream: bool,
    out: &mut [A],
) {
    let sixteen = Sixteen::new::<CODES>(kind, params);
    let run = |j| sixteen.run(j);
    let values = |codes: &[u8; WORDS], run: Run| {
        // SAFETY: the machine has the instructions, and each load is of half of the codes.
        unsafe {
            let [front, back] = [0, WORDS / 2].map(|at| _mm_loadu_si128(codes.as_ptr().add(at).cast()));
            let front = sixteen.values::<CODES, ZERO>(front, run);
            A::words::<FIT>(front, sixteen.values::<CODES, ZERO>(back, run))
        }
    };
    let len = codes.len().min(out.len());
    let (groups, rest) = codes[..len].as_chunks::<WORDS>();
    let (vectors, last) = out[..len].as_chunks_mut::<WORDS>();
    if groups.is_empty() {
        return;
    }
    let to = vectors.as_mut_ptr().cast::<u16>();
    let second = if stream && width - phase >= len { stream::second_place(len) / WORDS } else { 0 };
    // SAFETY: as many places for vectors as there are groups of codes.
    unsafe {
        let mut words = Words::begin(to.add(second * WORDS), values(&groups[second], run(0)));
        if second > 0 {
            let (mut front, here) = (Words::begin(to, values(&groups[0], run(0))), run(0));
            for (codes, behind) in groups[1..second].iter().zip(&groups[second + 1..]) {
                front.put(values(codes, here), stream);
                words.put(values(behind, here), stream);
            }
            front.finish();
        }
        let done = (2 * second).max(1);
        if width == WORDS {
            // Without a thought about where blocks end.
            for (j, codes) in groups.iter().enumerate().skip(1) {
                words.put(values(codes, run(j)), stream);
            }
        } else {
            for (j, from, to) in runs(groups.len() * WORDS, width, phase) {
                let here = run(j);
                for codes in &groups[(from / WORDS).max(done)..to / WORDS] {
                    words.put(values(codes, here), stream);
                }
            }
        }
        words.finish();
    }
    if !last.is_empty() {
        let mut codes = [0; WORDS];
        codes.iter_mut().zip(rest).for_each(|(to, &from)| *to = from);
        let v = values(&codes, run((phase + groups.len() * WORDS) / width));
        // SAFETY: as many values as there are places.
        unsafe { _mm512_mask_storeu_epi16(last.as_mut_ptr().cast(), (1 << last.len()) - 1, v) };
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::super::super::affine::decode;
    use super::super::super::forced::{available, with};
    use super::*;
    use crate::element::Element;

    /// Values in memory that begins at these places of a line are those of the scalar loop.
    fn check<A: Element>(
        sign_bit: u16,
        (scale, zero): (f32, f32),
        (width, phase): (usize, usize),
        len: usize,
        starts: &[usize],
    ) {
        let mask = if sign_bit == 8 { 15 } else { 255 };
        let codes: Vec<u8> = (0..len).map(|i| (i * 37 + i / 7) as u8 & mask).collect();
        let bits = |x: &[A]| x.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
        let entries = (phase + len).div_ceil(width);
        let scales: Vec<f32> = (0..entries).map(|j| scale * (1.0 + j as f32 * 0.1)).collect();
        let zeros: Vec<f32> = (0..entries).map(|j| zero * j as f32).collect();
        let decoded = |stream, out: &mut [A]| {
            decode(&codes, sign_bit, width, phase, &scales, &zeros, stream, out);
        };
        let mut expected = vec![A::default(); len];
        with(Level::Baseline, || decoded(false, &mut expected));
        for level in available() {
            for &start in starts {
                for stream in [false, true] {
                    let mut out = vec![A::from_f64(9.0); len + 2 * WORDS];
                    let first = out.as_ptr().align_offset(64) + start;
                    with(level, || decoded(stream, &mut out[first..first + len]));
                    let (before, rest) = out.split_at(first);
                    let (found, behind) = rest.split_at(len);
                    assert!(before.iter().chain(behind).all(|x| x.to_f64() == 9.0));
                    assert!(bits(found) == bits(&expected), "{len} {width} {phase} {start} {level}");
                }
            }
        }
    }

    #[test]
    fn values_are_those_of_the_scalar_loop_at_every_place_of_a_line() {
        let starts: Vec<usize> = (0..WORDS).collect();
        // Also values that are beyond every half, or less than the smallest normal one.
        for params in [(0.37, 0.0), (-0.01, 0.5), (3e3, 1.0), (1e-6, 0.0), (3e36, 0.0), (1e-40, 0.0)] {
            for sign_bit in [0, 128, 8] {
                for pattern in [(32, 0), (64, 32), (96, 0), (1000, 7)] {
                    for len in [31, 32, 33, 64, 127, 333] {
                        check::<f16>(sign_bit, params, pattern, len, &starts);
                        check::<bf16>(sign_bit, params, pattern, len, &starts);
                    }
                }
            }
        }
    }

    #[test]
    fn long_ways_at_two_places_are_those_of_the_scalar_loop() {
        for len in [(1 << 15) - 1, 1 << 15, (1 << 15) + 100, 100_003] {
            for pattern in [(usize::MAX / 2, 0), (1 << 20, 77), (4096, 0)] {
                check::<f16>(128, (0.37, 0.0), pattern, len, &[0, 8, 31]);
                check::<bf16>(0, (0.37, 3.0), pattern, len, &[0, 8, 31]);
            }
        }
    }
}
