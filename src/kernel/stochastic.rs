//! From f32 and numbers of 16 bits to codes of one byte by stochastic rounding: random numbers and codes in one loop.
//!
//! The bits are those of [`uniform::fill`](super::uniform::fill) and
//! [`affine::encode_stochastic`](super::affine::encode_stochastic), which are its reference.
//!
//! **Cost.** Two blocks of ARS4x32-7 are five instructions (seven where there are few, see [`aes`](super::aes)) of a
//! processor that has AES for vectors of 256 bits, and serve sixteen values; the rounding takes longer.

#[cfg(target_arch = "x86_64")]
mod runs;
#[cfg(target_arch = "x86_64")]
mod vectors;
#[cfg(target_arch = "x86_64")]
mod wide;

use super::Code;
use super::affine::{Arithmetic, EncodeMode, EncodeParams};
use crate::element::{Element, FloatType, Real};
use crate::simd::Level;

/// Which stream of numbers, and whose of them is that of the first value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub seed: u64,
    pub first: u64,
}

/// Whether [`encode`] serves patterns of `width`, but for unusual parameters.
pub(crate) fn serves<T: Real>(width: usize, mode: &EncodeMode<T>) -> bool {
    /// Values of a run that are worth it.
    const LEAST: usize = 32;
    let fits = T::TYPE == FloatType::F32 && mode.arithmetic != Arithmetic::Span && width >= LEAST;
    fits && cfg!(target_arch = "x86_64") && super::level() > Level::Baseline
}

/// Encodes at random between the two neighbouring codes, by the numbers of `place`: values of `T`, or of 16 bits as they are.
/// Whether a NaN was met, as [`affine::encode`](super::affine::encode); `None` where there is no loop for it.
pub(crate) fn encode<T: Real, A: Element, C: Code>(
    x: &[A],
    width: usize,
    phase: usize,
    params: &EncodeParams<'_, T>,
    mode: &EncodeMode<T>,
    place: Place,
    codes: &mut [C],
) -> Option<bool> {
    #[cfg(target_arch = "x86_64")]
    if serves(width, mode) && x.len() == codes.len() {
        use super::convert::same;
        use half::{bf16, f16};
        let (params, how) = (params.in_f32()?, runs::How::of(mode));
        let codes = C::bytes_mut(codes)?;
        return if let Some(x) = same::<A, f32>(x) {
            runs::encode(x, (width, phase), &params, how, place, codes)
        } else if let Some(x) = same::<A, f16>(x) {
            runs::encode(x, (width, phase), &params, how, place, codes)
        } else {
            runs::encode(same::<A, bf16>(x)?, (width, phase), &params, how, place, codes)
        };
    }
    let _ = (x, width, phase, params, mode, place, codes);
    None
}

#[cfg(test)]
mod tests;
