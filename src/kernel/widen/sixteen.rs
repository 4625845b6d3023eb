//! Sixteen codes as values, in a vector of 512 bits.

use core::arch::x86_64::*;

use super::{BYTES, Codes, FEWER};

/// The parameters of a run, in every lane.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) scale: __m512,
    pub(super) zero: __m512,
}

/// What makes values of codes of one kind, and the parameters of all runs.
#[derive(Clone, Copy)]
pub(super) struct Sixteen<'a> {
    scale: &'a [f32],
    zero: &'a [f32],
    /// What is converted is a power of two times the code: by how many bits, that power and its reciprocal.
    shift: __m128i,
    up: f32,
    down: f32,
}

impl<'a> Sixteen<'a> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new<const CODES: u8>(kind: Codes, (scale, zero): (&'a [f32], &'a [f32])) -> Self {
        // Signs of fewer bits become the highest bit.
        let shift = if CODES == FEWER { 24 + kind.sign_bit.leading_zeros() } else { 0 };
        let (up, down) = (f32::from_bits((127 + shift) << 23), f32::from_bits((127 - shift) << 23));
        Self { scale, zero, shift: _mm_cvtsi32_si128(shift as i32), up, down }
    }

    /// The parameters of run `j`; zeros where there are none.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn run(&self, j: usize) -> Run {
        let of = |array: &[f32]| array.get(j).copied().unwrap_or_default();
        Run {
            scale: _mm512_set1_ps(of(self.scale) * self.down),
            zero: _mm512_set1_ps(of(self.zero) * self.up),
        }
    }

    /// The values of codes of one run, or of two whose parameters are in the lanes of each.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn values<const CODES: u8, const ZERO: bool>(&self, codes: __m128i, run: Run) -> __m512 {
        let q = if CODES == BYTES { _mm512_cvtepi8_epi32(codes) } else { _mm512_cvtepu8_epi32(codes) };
        let q = _mm512_cvtepi32_ps(if CODES == FEWER { _mm512_sll_epi32(q, self.shift) } else { q });
        _mm512_mul_ps(run.scale, if ZERO { _mm512_sub_ps(q, run.zero) } else { q })
    }
}
