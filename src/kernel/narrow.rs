//! From f32, f16 and bf16 to codes of one byte, to the nearest integer, by vectors.
//!
//! Four vectors of values become one of codes. The processor converts to the nearest integer (ties to even); what does
//! not fit, NaN among it, becomes the most negative one. Narrowing to 16 bits and then to 8 saturates, and the bounds are
//! applied to bytes, a whole vector at once.
//!
//! So values need not be looked at before they are converted: what is NaN or does not fit shows as the most negative
//! integer of 16 bits. It is rare, and a run where it shows is encoded once more by a loop that takes care of it, as
//! are codes that do not have all their integers within one byte.
//!
//! | module | what |
//! |---|---|
//! | `lines` | the loops, for any way to scale values |
//! | `codes` | from integers to codes |
//! | `runs` | values that share parameters |
//! | `row` | a long row, while others are asked for |
//! | `columns` | values with parameters of their own |
//! | `careful` | any values and codes |
//!
//! Divisions are those of [`division`](super::division).
#![allow(unsafe_code)] // calls where the instructions were detected

mod careful;
mod codes;
mod columns;
mod lines;
mod row;
mod runs;

use core::arch::x86_64::*;

use super::affine::EncodeParams;
use super::column_reciprocals::ColumnReciprocals;
use super::convert::same;
use super::stream;
use super::vector::{Avx512, Lanes, Vector};
use crate::simd::Level;

pub(super) use row::encode_row;

/// Codes of one vector of 256 bits.
const VECTOR: usize = 32;

/// Codes that are put together before they go past the caches.
const STAGE: usize = 1024;

/// Whether these loops serve runs of `width` values that share parameters.
pub(super) fn serves(width: usize) -> bool {
    super::level() >= Level::Avx2 && width >= VECTOR
}

/// As [`affine::encode`](super::affine::encode) within equal lengths; `None` where these loops cannot serve.
pub(super) fn encode<A: Lanes>(
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
    if width > 1 && width < STAGE && stream {
        return staged(x, (width, phase), params, divide, mask, codes);
    }
    if width > 1 {
        return by_runs(x, (width, phase), params, divide, mask, stream, codes);
    }
    let x = same::<A, f32>(x)?;
    // SAFETY: the level says that the machine has AVX2, FMA and F16C.
    unsafe {
        Some(if divide {
            columns::columns::<f32, true, false>(x, params, mask, codes)
        } else {
            columns::columns::<f32, false, false>(x, params, mask, codes)
        })
    }
}

/// As [`affine::encode_lines`](super::affine::encode_lines) within equal lengths; `None` where these loops cannot serve. Scales
/// are factors where there are no `reciprocals`.
pub(super) fn encode_lines<A: Lanes>(
    x: &[A],
    phase: usize,
    params: &EncodeParams<'_, f32>,
    reciprocals: Option<&ColumnReciprocals>,
    mask: u16,
    stream: bool,
    codes: &mut [u8],
) -> Option<bool> {
    // Lines that are worked on together are longest vectors' work, also past the caches.
    let level = level(params.scale.len(), false);
    columns::by_lines(level, x, phase, params, reciprocals, mask as u8, stream, codes)?
}

/// The level of loops over `width` values: the longest vectors that these fill, or those of 256 bits if `short`.
fn level(width: usize, short: bool) -> Level {
    let short = short || width < Avx512::BYTES;
    super::level().min(if short { Level::Avx2 } else { Level::Avx512 })
}

fn by_runs<A: Lanes>(
    x: &[A],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    mask: u16,
    stream: bool,
    codes: &mut [u8],
) -> Option<bool> {
    // Vectors of 256 bits were seen to be faster at f16, and at what comes from memory and goes there, on processors of both.
    runs::by_runs(
        level(width, stream || A::CONVERTED),
        x,
        (width, phase),
        params,
        divide,
        mask as u8,
        stream,
        codes,
    )?
}

/// Short runs past the caches: they do not end where cache lines do, so codes are put together first.
fn staged<A: Lanes>(
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
        stream::copy(stage, codes);
    }
    stream::finish();
    Some(nan)
}

/// Bytes that were packed twice within halves, in their order.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(bytes: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}
