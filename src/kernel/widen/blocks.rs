//! Runs of whole vectors, one behind the other, in vectors of 256 bits.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use super::super::stream;
use super::super::vector::Lanes;
use super::{
    BYTES, Codes, FEWER, MANY, Powers, Run, UNSIGNED, VECTOR, by_kind, lines, store, subtracts, vectors,
};

/// Short runs of whole vectors, the first from its beginning on. Past the caches, into memory that is aligned for that, if
/// `STREAM`: by what is read and written in turns, both go on at once.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn whole_blocks<A: Lanes, const STREAM: bool>(
    codes: &[u8],
    kind: Codes,
    width: usize,
    scale: &[f32],
    zero: &[f32],
    out: &mut [A],
) {
    by_kind!(kind.sign_bit, subtracts(zero), CODES, ZERO => {
        blocks::<A, CODES, ZERO, STREAM>(codes, kind, width, scale, zero, out)
    });
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn blocks<A: Lanes, const CODES: u8, const ZERO: bool, const STREAM: bool>(
    codes: &[u8],
    kind: Codes,
    width: usize,
    scale: &[f32],
    zero: &[f32],
    out: &mut [A],
) {
    let powers = Powers::of::<A>(kind);
    let run = |j: usize| {
        let zero = if ZERO { zero.get(j).copied().unwrap_or_default() } else { 0.0 };
        Run::of(powers, scale.get(j).copied().unwrap_or_default(), zero)
    };
    let head = stream::head(out);
    if !STREAM && width >= MANY && 0 < head && head < VECTOR {
        return beside_lines::<A, CODES, ZERO>(codes, width, head, run, out);
    }
    let (vectors_of, len) = (width / VECTOR, out.len());
    let (steps, rest) = codes.as_chunks::<VECTOR>();
    let (places, rest_places) = out.as_chunks_mut::<VECTOR>();
    // The vector at the beginning of a block: which one that is, what is left of it, and its parameters.
    let at = |vector: usize| (vector / vectors_of, vectors_of, run(vector / vectors_of));
    let next = |codes: &[u8; VECTOR], place: &mut [A; VECTOR], (j, left, here): &mut (usize, usize, Run)| {
        // SAFETY: as many codes and places as a vector of codes has; these begin a multiple of 128 bytes behind `out`,
        // which is aligned if `STREAM`.
        unsafe {
            store::<A, STREAM>(place.as_mut_ptr(), vectors::<CODES, ZERO>(codes.as_ptr(), *here), kind.fit)
        };
        *left -= 1;
        if *left == 0 {
            (*j, *left) = (*j + 1, vectors_of);
            *here = run(*j);
        }
    };
    // Vectors of halves are no longer than a line, which one place after the other fills.
    let two_places = STREAM && size_of::<A>() == size_of::<f32>();
    let second = if two_places { stream::second_place(codes.len().min(len)) / width * vectors_of } else { 0 };
    let (mut first, mut behind) = (at(0), at(second));
    let (front, back) = steps.split_at(2 * second);
    let (front_places, back_places) = places.split_at_mut(2 * second);
    let (front, beside) = front.split_at(second);
    let (front_places, beside_places) = front_places.split_at_mut(second);
    let pairs = front.iter().zip(front_places).zip(beside.iter().zip(beside_places));
    for ((codes, place), (codes_beside, place_beside)) in pairs {
        next(codes, place, &mut first);
        next(codes_beside, place_beside, &mut behind);
    }
    for (codes, place) in back.iter().zip(back_places) {
        next(codes, place, &mut behind);
    }
    if !rest.is_empty() {
        lines::<A, CODES, ZERO>(rest, run(steps.len() / vectors_of), false, rest_places);
    }
}

/// As [`blocks`] of at least [`MANY`] codes each, where the first line of the caches begins `head` values, fewer than a
/// vector, behind `out`: stores across two lines cost twice, so vectors go on from there, and some are of two blocks.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn beside_lines<A: Lanes, const CODES: u8, const ZERO: bool>(
    codes: &[u8],
    width: usize,
    head: usize,
    run: impl Fn(usize) -> Run,
    out: &mut [A],
) {
    let len = codes.len().min(out.len());
    if len < 2 * VECTOR {
        return lines::<A, CODES, ZERO>(codes, run(0), false, out);
    }
    let (from, to) = (codes.as_ptr(), out.as_mut_ptr());
    let mut here = run(0);
    let fit = here.powers.fit;
    let before = first_lanes::<A>(VECTOR - head, fit);
    // SAFETY: every access is to the `VECTOR` elements from a place on that is at most `len − VECTOR`.
    unsafe {
        store::<A, false>(to, vectors::<CODES, ZERO>(from, here), fit);
        let (mut j, mut at) = (0, head);
        while at + VECTOR <= len {
            let mut values = vectors::<CODES, ZERO>(from.add(at), here);
            if at + VECTOR > (j + 1) * width {
                j += 1;
                here = run(j);
                let after = vectors::<CODES, ZERO>(from.add(at), here);
                for ((value, after), before) in values.iter_mut().zip(after).zip(before) {
                    *value = _mm256_blendv_ps(after, *value, before);
                }
            }
            store::<A, false>(to.add(at), values, fit);
            at += VECTOR;
        }
        // What is left may be of two blocks too.
        let end = ((j + 1) * width).min(len);
        lines::<A, CODES, ZERO>(&codes[at..end], here, false, &mut out[at..end]);
        if end < len {
            lines::<A, CODES, ZERO>(&codes[end..len], run(j + 1), false, &mut out[end..len]);
        }
    }
}

/// The lanes of the values of 32 codes, as [`vectors`] has them, whose codes are among the first `count`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn first_lanes<A: Lanes>(count: usize, fit: bool) -> [__m256; 4] {
    let mut lanes = [[0; 8]; 4];
    for (vector, lanes) in lanes.iter_mut().enumerate() {
        for (lane, bits) in lanes.iter_mut().enumerate() {
            let turns = 16 * (vector / 2) + 2 * lane + vector % 2;
            let code = if A::IN_TURNS && !fit { turns } else { 8 * vector + lane };
            *bits = -i32::from(code < count);
        }
    }
    // SAFETY: each is as long as a vector.
    lanes.map(|lanes| unsafe { _mm256_loadu_ps(lanes.as_ptr().cast()) })
}
