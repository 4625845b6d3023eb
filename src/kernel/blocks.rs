//! Codes of short blocks on uniform grids, to the nearest integer and one byte each.
//!
//! What the general loops set up for each run of values is here no more than a scale and a zero point, because values
//! are known to be numbers within the reach of their scale, and all blocks have the same codes.

#[cfg(target_arch = "x86_64")]
mod beside;
mod fused;
#[cfg(target_arch = "x86_64")]
pub(super) mod magnitudes;
mod scale_places;
#[cfg(target_arch = "x86_64")]
pub(super) mod steps;

pub(crate) use fused::{BlockRule, Places, encode as encode_at_once};
pub(crate) use scale_places::{ScalePlaces, split_places};

use super::affine::nearest_even;
use super::dispatch;

/// Grids of blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockParams<'a> {
    /// The scale of each block.
    pub scale: &'a [f32],
    /// Its reciprocal, to the nearest.
    pub inverse: &'a [f32],
    /// The zero point of each block, or one for all.
    pub zero: &'a [i32],
    /// The lowest and the highest code, of 8 bits.
    pub codes: (i16, i16),
    /// Whether values are divided by the scale, rather than multiplied by its reciprocal. It is then within
    /// [`DIVISORS`].
    pub divide: bool,
    /// The bits of a code: `2^b − 1`.
    pub mask: u8,
}

/// Scales by which the loops can divide.
pub(crate) const DIVISORS: core::ops::RangeInclusive<f32> = 1e-25..=1e25;

impl BlockParams<'_> {
    /// The zero point of block `j`.
    #[inline(always)]
    fn zero(&self, j: usize) -> i32 {
        let shared = if self.zero.len() == 1 { self.zero.first() } else { None };
        shared.or(self.zero.get(j)).copied().unwrap_or_default()
    }

    /// Whether codes are signed bytes, up to the largest, and their zero points are zero.
    #[cfg(target_arch = "x86_64")]
    fn are_plain(&self) -> bool {
        self.zero == [0] && self.codes.1 == 127 && self.mask == u8::MAX
    }
}

dispatch! {
    /// Writes the nearest number to the reciprocal of each scale.
    pub(crate) fn reciprocals[](scales: &[f32], out: &mut [f32]) {
        for (out, scale) in out.iter_mut().zip(scales) {
            *out = 1.0 / scale;
        }
    }
}

/// Writes the code of each value: `clamp(round(x / scale) + zero)`, to the nearest integer, ties to even. Every value is
/// finite and at most 2^14 times the scale of its block of `width`; the last block may be shorter.
pub(crate) fn encode(x: &[f32], width: usize, params: &BlockParams<'_>, codes: &mut [u8]) {
    debug_assert!(x.len() == codes.len());
    #[cfg(target_arch = "x86_64")]
    if super::level() >= crate::simd::Level::Avx2 && (width == 16 || width.is_multiple_of(32)) && width > 0 {
        return vectors::encode(x, width, params, codes);
    }
    by_blocks(x, width, params, codes);
}

dispatch! {
    fn by_blocks[](x: &[f32], width: usize, params: &BlockParams<'_>, codes: &mut [u8]) {
        let width = width.max(1);
        let (least, most) = (i32::from(params.codes.0), i32::from(params.codes.1));
        let grids = params.scale.iter().zip(params.inverse).enumerate();
        for (((j, (&scale, &inverse)), x), codes) in grids.zip(x.chunks(width)).zip(codes.chunks_mut(width)) {
            let zero = params.zero(j);
            for (&x, code) in x.iter().zip(codes) {
                let v = if params.divide { x / scale } else { x * inverse };
                *code = (nearest_even(v).1 + zero).clamp(least, most) as u8 & params.mask;
            }
        }
    }
}

/// Vectors of 256 bits.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // intrinsics on pointers, and calls where the instructions were detected
mod vectors {
    use core::arch::x86_64::*;

    use super::super::prefetch;
    use super::BlockParams;

    /// Codes of a vector, and values of a step.
    const STEP: usize = 32;

    /// Bytes between what is read and what is asked for: what a step of a pipeline reads at once.
    const AHEAD: usize = 4096;

    /// As [`encode`](super::encode), for blocks of 16 and of multiples of 32. Only for machines with AVX2 and FMA.
    pub(super) fn encode(x: &[f32], width: usize, params: &BlockParams<'_>, codes: &mut [u8]) {
        // SAFETY: the caller has asked for the instructions.
        unsafe {
            match (params.divide, params.codes.0 < 0) {
                (false, true) if params.are_plain() => blocks::<false, true, true>(x, width, params, codes),
                (true, true) if params.are_plain() => blocks::<true, true, true>(x, width, params, codes),
                (false, false) => blocks::<false, false, false>(x, width, params, codes),
                (false, true) => blocks::<false, true, false>(x, width, params, codes),
                (true, false) => blocks::<true, false, false>(x, width, params, codes),
                (true, true) => blocks::<true, true, false>(x, width, params, codes),
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    fn blocks<const DIVIDE: bool, const SIGNED: bool, const PLAIN: bool>(
        x: &[f32],
        width: usize,
        params: &BlockParams<'_>,
        codes: &mut [u8],
    ) {
        let bounds = Bounds {
            low: _mm256_set1_epi8(params.codes.0 as i8),
            high: _mm256_set1_epi8(params.codes.1 as i8),
            mask: _mm256_set1_epi8(params.mask as i8),
        };
        let block = |scale: f32, inverse: f32, zero: i32| Block {
            scale: _mm256_set1_ps(scale),
            inverse: _mm256_set1_ps(inverse),
            zero: _mm256_set1_epi16(zero as i16),
        };
        let nth = |j: usize| {
            let (scale, inverse) = (params.scale.get(j), params.inverse.get(j));
            block(scale.copied().unwrap_or(1.0), inverse.copied().unwrap_or(1.0), params.zero(j))
        };
        let (steps, rest) = x.as_chunks::<STEP>();
        let (places, rest_places) = codes.as_chunks_mut::<STEP>();
        let vectors = steps.iter().zip(places);
        if width == STEP && params.zero.len() == 1 {
            // The usual case, without a thought about where blocks begin.
            let shared = params.zero(0);
            let grids = params.scale.iter().zip(params.inverse);
            for ((x, place), (&scale, &inverse)) in vectors.zip(grids) {
                prefetch(x, AHEAD);
                *place = vector::<DIVIDE, SIGNED, PLAIN>(x, [block(scale, inverse, shared); 2], bounds);
            }
        } else {
            let (mut j, mut left) = (0, width);
            for (x, place) in vectors {
                prefetch(x, AHEAD);
                if width < STEP {
                    // Two blocks of 16 share a vector.
                    *place = vector::<DIVIDE, SIGNED, PLAIN>(x, [nth(j), nth(j + 1)], bounds);
                    j += 2;
                    continue;
                }
                *place = vector::<DIVIDE, SIGNED, PLAIN>(x, [nth(j); 2], bounds);
                left -= STEP;
                if left == 0 {
                    (j, left) = (j + 1, width);
                }
            }
        }
        if !rest.is_empty() {
            // In a place of their own, where zeros follow.
            let mut last = [0.0; STEP];
            last[..rest.len()].copy_from_slice(rest);
            let at = x.len() - rest.len();
            let found =
                vector::<DIVIDE, SIGNED, PLAIN>(&last, [at, at + 16].map(|at| nth(at / width)), bounds);
            rest_places.copy_from_slice(&found[..rest_places.len()]);
        }
    }

    /// The parameters of a block, in every lane.
    #[derive(Clone, Copy)]
    struct Block {
        scale: __m256,
        inverse: __m256,
        zero: __m256i,
    }

    /// What all blocks share, in every lane.
    #[derive(Clone, Copy)]
    struct Bounds {
        low: __m256i,
        high: __m256i,
        mask: __m256i,
    }

    /// The codes of 32 values, the first half of them of one block and the second of another.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn vector<const DIVIDE: bool, const SIGNED: bool, const PLAIN: bool>(
        x: &[f32; STEP],
        blocks: [Block; 2],
        bounds: Bounds,
    ) -> [u8; STEP] {
        let integers = |at: usize, block: Block| {
            // SAFETY: eight values.
            let x = unsafe { _mm256_loadu_ps(x[at..at + 8].as_ptr()) };
            let mut q = _mm256_mul_ps(x, block.inverse);
            if DIVIDE {
                // As `division` explains: the bits of a division.
                for _ in 0..2 {
                    q = _mm256_fmadd_ps(_mm256_fnmadd_ps(q, block.scale, x), block.inverse, q);
                }
            }
            _mm256_cvtps_epi32(q)
        };
        // Narrower integers saturate, which no code in use is lost by.
        let words = |at: usize, block: Block| {
            let words = _mm256_packs_epi32(integers(at, block), integers(at + 8, block));
            if PLAIN { words } else { _mm256_adds_epi16(words, block.zero) }
        };
        let (front, back) = (words(0, blocks[0]), words(16, blocks[1]));
        let codes = if PLAIN {
            _mm256_max_epi8(_mm256_packs_epi16(front, back), bounds.low)
        } else if SIGNED {
            _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(front, back), bounds.low), bounds.high)
        } else {
            _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(front, back), bounds.low), bounds.high)
        };
        let codes = if PLAIN { codes } else { _mm256_and_si256(codes, bounds.mask) };
        let ordered = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        let mut out = [0; STEP];
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), ordered) };
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;

    /// Values at, beside and between the middles of codes, and beyond the ends.
    fn values(len: usize, scale: impl Fn(usize) -> f32) -> Vec<f32> {
        let mut state = 7u64;
        (0..len)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let code = ((state >> 33) % 700) as f32 * 0.5 - 175.0;
                let x = code * scale(i);
                [x, x.next_up(), x.next_down(), x * 1.0003, 0.0, -0.0][(state >> 60) as usize % 6]
            })
            .collect()
    }

    #[test]
    fn codes_are_those_of_the_definition() {
        for width in [1, 8, 16, 20, 32, 64, 96, 1024] {
            for len in [0usize, 1, 15, 16, 17, 31, 32, 33, 63, 64, 100, 128, 500, 1024] {
                let blocks = len.div_ceil(width);
                let scale: Vec<f32> = (0..blocks)
                    .map(|j| {
                        [0.037, 1.0, 3.3e-20, 7.77e19, 0.1, 1e-25, 1e25][j % 7] * (1.0 + j as f32 * 0.01)
                    })
                    .map(|scale: f32| scale.clamp(*DIVISORS.start(), *DIVISORS.end()))
                    .collect();
                let inverse: Vec<f32> = scale.iter().map(|scale| 1.0 / scale).collect();
                let x = values(len, |i| scale[i / width]);
                let each: Vec<i32> = (0..blocks as i32).map(|j| j * 37 % 256).collect();
                for (zero, codes) in
                    [(&[0][..], (-127, 127)), (&[8], (0, 15)), (&each, (0, 255)), (&[0], (-1, 1))]
                {
                    for divide in [false, true] {
                        let mask = if codes.1 == 15 { 15 } else { 255 };
                        let params =
                            BlockParams { scale: &scale, inverse: &inverse, zero, codes, divide, mask };
                        let found = agreed(|| {
                            let mut found = vec![0; len];
                            encode(&x, width, &params, &mut found);
                            found
                        });
                        for (i, (&x, &found)) in x.iter().zip(&found).enumerate() {
                            let j = i / width;
                            let v = if divide { x / scale[j] } else { x * inverse[j] };
                            let zero = if zero.len() == 1 { zero[0] } else { zero[j] };
                            let code =
                                (v.round_ties_even() as i32 + zero).clamp(codes.0.into(), codes.1.into());
                            assert_eq!(found, code as u8 & mask, "{x:e} of width {width}, {}", scale[j]);
                        }
                    }
                }
            }
        }
    }
}
