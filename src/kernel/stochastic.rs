//! From f32 to codes of one byte by stochastic rounding: random numbers and codes in one loop.
//!
//! The bits are those of [`uniform::fill`](super::uniform::fill) and
//! [`affine::encode_stochastic`](super::affine::encode_stochastic), which are its reference.
//!
//! **Cost.** Two blocks of ARS4x32-7 are seven instructions of a processor that has AES for vectors of 256 bits, and serve
//! sixteen values; the rounding takes about three times their time.

#[cfg(target_arch = "x86_64")]
mod vectors;
#[cfg(target_arch = "x86_64")]
mod wide;

use super::Code;
use super::affine::{EncodeMode, EncodeParams};
use crate::element::Real;

/// Which stream of numbers, and whose of them is that of the first value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub seed: u64,
    pub first: u64,
}

/// Encodes at random between the two neighbouring codes, by the numbers of `place`. Whether a NaN was met, as
/// [`affine::encode`](super::affine::encode); `None` where there is no loop for it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn encode<T: Real, C: Code>(
    x: &[T],
    width: usize,
    phase: usize,
    params: &EncodeParams<'_, T>,
    mode: &EncodeMode<T>,
    place: Place,
    codes: &mut [C],
) -> Option<bool> {
    use super::affine::Arithmetic;
    use super::convert::same;
    if mode.arithmetic == Arithmetic::Span {
        return None;
    }
    let params = params.in_f32()?;
    let divide = mode.arithmetic == Arithmetic::Divide;
    let codes = C::bytes_mut(codes)?;
    vectors::encode(same(x)?, (width, phase), &params, divide, mode.mask, place, mode.stream, codes)
}

/// As above.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn encode<T: Real, C: Code>(
    _: &[T],
    _: usize,
    _: usize,
    _: &EncodeParams<'_, T>,
    _: &EncodeMode<T>,
    _: Place,
    _: &mut [C],
) -> Option<bool> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::affine::{Arithmetic, Rounding, encode_stochastic};
    use super::super::forced::{available, with};
    use super::super::uniform;
    use super::*;
    use crate::simd::Level;
    use proptest::prelude::*;

    fn check(
        x: &[f32],
        (width, phase): (usize, usize),
        params: &EncodeParams<'_, f32>,
        arithmetic: Arithmetic,
        place: Place,
    ) {
        let mode =
            EncodeMode { arithmetic, steps: 1.0, rounding: Rounding::NearestEven, mask: 255, stream: false };
        let mut uniforms = vec![0.0f32; x.len()];
        uniform::fill(place.seed, place.first, &mut uniforms);
        let mut expected = vec![0u8; x.len()];
        let nan = encode_stochastic(x, width, phase, params, &mode, &uniforms, &mut expected);
        for level in available() {
            with(level, || {
                for (stream, at) in [(false, 0), (true, 0), (true, 1), (true, 33)] {
                    let mode = EncodeMode { stream, ..mode };
                    let mut found = vec![0x55u8; x.len() + 64];
                    let found = &mut found[at..at + x.len()];
                    let served = encode(x, width, phase, params, &mode, place, found);
                    if !cfg!(target_arch = "x86_64") || level == Level::Baseline || width < 32 {
                        assert_eq!(served, None);
                        continue;
                    }
                    assert_eq!(served, Some(nan));
                    let different = found.iter().zip(&expected).position(|(a, b)| a != b);
                    assert_eq!(different, None, "width {width}, phase {phase}, {arithmetic:?}, {place:?}");
                }
            });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]
        #[test]
        fn the_codes_of_numbers_and_rounding(
            len in 0usize..3000,
            width in prop_oneof![2usize..200, Just(1500usize), Just(usize::MAX)],
            phase in any::<prop::sample::Index>(),
            seed in any::<u64>(),
            first in prop_oneof![
                0u64..100, 0..u64::MAX - 3000, Just((8 << 32) - 1000), Just((8 << 32) - 32), Just(u64::MAX - 3000),
            ],
            arithmetic in prop::sample::select(&[Arithmetic::Divide, Arithmetic::Multiply][..]),
            present in any::<(bool, bool)>(),
            exponent in prop_oneof![Just(0i32), -110i32..110],
        ) {
            let phase = if width == usize::MAX { 0 } else { phase.index(width) };
            let entries = if width == usize::MAX { 1 } else { (phase + len).div_ceil(width) };
            let mut state = seed as u32;
            let mut next = || { state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); (state >> 8) as f32 / 16_777_216.0 };
            let scale: Vec<f32> = (0..entries).map(|_| (0.5 + next()) * 2f32.powi(exponent)).collect();
            let mut uniforms = vec![0.0f32; len];
            uniform::fill(seed, first, &mut uniforms);
            let x: Vec<f32> = (0..len).map(|i| {
                let scale = scale[if width == usize::MAX { 0 } else { (phase + i) / width }];
                let whole = ((next() - 0.5) * 260.0).floor();
                let nudge = (next() * 3.0 - 1.5).round() * f32::EPSILON;
                let v = match next() {
                    u if u < 0.01 => return [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, f32::MIN, 1e-45, -1e-39][(u * 800.0) as usize % 8],
                    // Next to where the number of the value decides, next to an integer, and anywhere.
                    u if u < 0.5 => (whole + uniforms[i]) * (1.0 + nudge),
                    u if u < 0.6 => whole * (1.0 + nudge),
                    u if u < 0.7 => (uniforms[i] - 1.0) * (1.0 + nudge),
                    u if u < 0.75 => (next() - 0.5) * 1e-5,
                    _ => whole + next(),
                };
                if arithmetic == Arithmetic::Divide { v * scale } else { v / scale }
            }).collect();
            let low: Vec<f32> = (0..entries).map(|_| -(next() * 130.0).floor()).collect();
            let high: Vec<f32> = (0..entries).map(|_| (next() * 130.0).floor()).collect();
            let before: Vec<f32> = (0..entries).map(|_| next() - 0.5).collect();
            let after: Vec<i32> = (0..entries).map(|_| (next() * 200.0) as i32 - 100).collect();
            let params = EncodeParams {
                scale: &scale,
                offset: &[],
                zero_before: if present.0 { &before } else { &[] },
                low: &low,
                high: &high,
                zero_after: if present.1 { &after } else { &[] },
            };
            check(&x, (width, phase), &params, arithmetic, Place { seed, first });
        }
    }
}
