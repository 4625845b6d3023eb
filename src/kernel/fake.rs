//! From values to those of their codes and no further: encoding to the nearest integer and decoding in one loop.
//!
//! What is here has the bits of [`affine::encode`](super::affine::encode) followed by
//! [`affine::decode`](super::affine::decode), which are its reference, and serves where they need no mask and no sign.

#[cfg(target_arch = "x86_64")]
mod vectors;

use super::affine::{Arithmetic, EncodeMode, EncodeParams, Rounding};
use crate::element::{Element, Real};

/// What codes stand for, in the pattern of their encoding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    /// The steps.
    pub scale: &'a [f32],
    /// The zero points; those of `zero_after` where the encoding has no `zero_before`.
    pub zero: &'a [f32],
}

/// Whether [`fake`] has a loop for `mode` on this machine.
pub(crate) fn serves<T>(mode: &EncodeMode<T>) -> bool {
    cfg!(target_arch = "x86_64")
        && super::level() >= crate::simd::Level::Avx2
        && mode.rounding == Rounding::NearestEven
        && mode.arithmetic != Arithmetic::Span
}

/// Whether it has one from numbers of 16 bits to such numbers, which share parameters in runs of `width`.
pub(crate) fn serves_halves<T>(width: usize, mode: &EncodeMode<T>) -> bool {
    #[cfg(target_arch = "x86_64")]
    return serves(mode) && vectors::serves_halves(width, mode.stream);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (width, mode);
        false
    }
}

/// Writes the values of the codes of `x`, past the caches if `mode` says so, and returns whether a NaN was met, whose
/// value is that of the lowest code. `None` where there is no loop for it; `out` holds anything then.
///
/// `x` is of f32, or of 16 bits and of the type of `out`. The codes of `params` need no mask: they are integers of the code
/// range.
#[cfg(target_arch = "x86_64")]
pub(crate) fn fake<T: Real, B: Element, A: Element>(
    x: &[B],
    width: usize,
    phase: usize,
    params: &EncodeParams<'_, T>,
    mode: &EncodeMode<T>,
    values: Values<'_>,
    out: &mut [A],
) -> Option<bool> {
    if !serves(mode) || A::TYPE == crate::element::FloatType::F64 {
        return None;
    }
    let params = params.in_f32()?;
    let divide = mode.arithmetic == Arithmetic::Divide;
    vectors::fake(x, (width, phase), &params, divide, values, mode.stream, out)
}

/// As above.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn fake<T: Real, B: Element, A: Element>(
    _: &[B],
    _: usize,
    _: usize,
    _: &EncodeParams<'_, T>,
    _: &EncodeMode<T>,
    _: Values<'_>,
    _: &mut [A],
) -> Option<bool> {
    None
}

#[cfg(test)]
mod tests {
    use super::super::affine;
    use super::super::forced::{available, with};
    use super::*;
    use crate::simd::Level;
    use half::{bf16, f16};
    use proptest::prelude::*;

    /// Parameters of an encoding and of its decoding.
    struct Case {
        width: usize,
        phase: usize,
        arithmetic: Arithmetic,
        scale: Vec<f32>,
        zero: Vec<f32>,
        /// Whether zero points are added before rounding.
        before: bool,
        ends: (i32, i32),
    }

    impl Case {
        fn check<A: Element>(&self, x: &[f32]) {
            let Self { width, phase, ref scale, ref zero, before, ends, .. } = *self;
            let multiply = self.arithmetic == Arithmetic::Multiply;
            let factor: Vec<f32> = scale.iter().map(|s| if multiply { 1.0 / s } else { *s }).collect();
            let offset = |zero: &f32| if before { 0.0 } else { *zero };
            let low: Vec<f32> = zero.iter().map(|zero| ends.0 as f32 - offset(zero)).collect();
            let high: Vec<f32> = zero.iter().map(|zero| ends.1 as f32 - offset(zero)).collect();
            let after: Vec<i32> = zero.iter().map(|zero| *zero as i32).collect();
            let params = EncodeParams {
                scale: &factor,
                offset: &[],
                zero_before: if before { zero } else { &[] },
                low: &low,
                high: &high,
                zero_after: if before { &[] } else { &after },
            };
            let mode = EncodeMode {
                arithmetic: self.arithmetic,
                steps: 1.0,
                rounding: Rounding::NearestEven,
                mask: u16::MAX,
                stream: false,
            };
            let values = Values { scale, zero };
            let sign_bit = if ends.0 < 0 { 1 << 15 } else { 0 };
            let reference = |x: &[f32]| {
                let (mut codes, mut expected) = (vec![0u16; x.len()], vec![A::default(); x.len()]);
                let nan = affine::encode(x, width, phase, &params, &mode, &mut codes);
                affine::decode(&codes, sign_bit, width, phase, scale, zero, false, &mut expected);
                (nan, expected)
            };
            if A::TYPE.bits() == 16 {
                // From such numbers too, where they share parameters.
                let halves: Vec<A> = x.iter().map(|x| A::from_f32(*x)).collect();
                let (nan, expected) = reference(&halves.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
                let finite = scale.iter().all(|scale| scale.is_finite());
                for level in available() {
                    with(level, || {
                        for (stream, at) in [(false, 0), (false, 5), (true, 0), (true, 3)] {
                            let mut found = vec![A::default(); x.len() + 16];
                            let found = &mut found[at..at + x.len()];
                            let mode = EncodeMode { stream, ..mode };
                            let served = fake(&halves, width, phase, &params, &mode, values, found);
                            let Some(served) = served else {
                                let serves = serves_halves(width, &mode) && width > 1;
                                assert!(!serves || level == Level::Baseline || !finite);
                                continue;
                            };
                            assert_eq!(served, nan, "{level:?}");
                            for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                                let bits = [a, b].map(|x| x.to_f64().to_bits());
                                assert_eq!(bits[0], bits[1], "{:?} {a:?} {b:?} at {i}, {width}", halves[i]);
                            }
                        }
                    });
                }
            }
            let (nan, expected) = reference(x);
            for level in available() {
                with(level, || {
                    for (stream, at) in [(false, 0), (true, 0), (true, 1), (true, 15)] {
                        let mut found = vec![A::from_f32(9.0); x.len() + 16];
                        let found = &mut found[at..at + x.len()];
                        let mode = EncodeMode { stream, ..mode };
                        let served = fake(x, width, phase, &params, &mode, values, found);
                        if A::TYPE == crate::element::FloatType::F64 || level == Level::Baseline {
                            assert_eq!(served, None);
                            continue;
                        }
                        if width > 1 && width < 16 {
                            continue;
                        }
                        assert_eq!(served, cfg!(target_arch = "x86_64").then_some(nan));
                        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
                            let (a, b) = (a.to_f64(), b.to_f64());
                            assert_eq!(a.to_bits(), b.to_bits(), "{:?} {a} {b} at {i}, width {width}", x[i]);
                        }
                    }
                });
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]
        #[test]
        fn the_bits_of_encoding_and_decoding(
            len in 0usize..2600,
            width in prop_oneof![Just(1usize), 2usize..20, 30usize..35, 100usize..300, Just(1500usize), Just(usize::MAX)],
            phase in any::<prop::sample::Index>(),
            seed in any::<u32>(),
            multiply in any::<bool>(),
            before in any::<bool>(),
            bits in 1u32..=16,
            signed in any::<bool>(),
            exponent in prop_oneof![Just(0i32), -100i32..100],
        ) {
            let phase = if width == usize::MAX { 0 } else { phase.index(width) };
            let entries = if width == usize::MAX { 1 } else { (phase + len).div_ceil(width) };
            let half = 1i32 << (bits - 1);
            let ends = if signed { (-half, half - 1) } else { (0, 2 * half - 1) };
            let mut state = seed;
            let mut next = || { state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); (state >> 8) as f32 / 16_777_216.0 };
            let scale: Vec<f32> = (0..entries).map(|_| (0.5 + next()) * 2f32.powi(exponent)).collect();
            let zero: Vec<f32> = (0..entries).map(|_| {
                let zero = ends.0 as f32 + next() * (ends.1 - ends.0) as f32;
                if before { zero } else { zero.round() }
            }).collect();
            let x: Vec<f32> = (0..len).map(|i| {
                let scale = scale[if width == usize::MAX { 0 } else { (phase + i) / width }];
                match next() {
                    u if u < 0.01 => [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, f32::MIN, 1e-45, -1e-39][(u * 800.0) as usize % 8],
                    // Next to the middle between two codes.
                    u if u < 0.6 => (((next() - 0.5) * (2 * half) as f32).floor() + 0.5) * scale * (1.0 + (next() * 3.0 - 1.5).round() * f32::EPSILON),
                    _ => (next() - 0.5) * 2.5 * (2 * half) as f32 * scale,
                }
            }).collect();
            let arithmetic = if multiply { Arithmetic::Multiply } else { Arithmetic::Divide };
            let case = Case { width, phase, arithmetic, scale, zero, before, ends };
            case.check::<f32>(&x);
            case.check::<f16>(&x);
            case.check::<bf16>(&x);
            case.check::<f64>(&x);
        }
    }

    #[test]
    fn long_runs_of_numbers() {
        let mut state = 5u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0
        };
        for scale in [0.1f32, 1.0, 2.6e-3, 0.099_97 / 127.0, 3e4, 1e-24, 7e-38] {
            for (width, len) in [(1024, 3000), (1500, 4100), (usize::MAX, 2103)] {
                let entries = if width == usize::MAX { 1 } else { len / width + 2 };
                for (ends, zero) in
                    [((-127, 127), 0.0), ((-128, 127), 5.0), ((0, 255), 128.0), ((0, 15), 3.0)]
                {
                    // Scales of largest values that are numbers of 16 bits have halves that are such numbers.
                    let scales: Vec<f32> = (0..entries)
                        .map(|i| {
                            if i % 2 == 0 {
                                scale
                            } else {
                                bf16::from_f32(next() * 90.0 * scale).to_f32() / 127.0
                            }
                        })
                        .collect();
                    for bad in [None, Some(f32::INFINITY), Some(f32::NEG_INFINITY), Some(f32::NAN)] {
                        let mut x: Vec<f32> = (0..len)
                            .map(|i| match i % 3 {
                                0 => ((next() * 300.0).floor() - 149.5) * scale,
                                1 => (next() - 0.5) * 300.0 * scale,
                                _ => (next() - 0.5) * 2e5 * scale,
                            })
                            .collect();
                        if let Some(bad) = bad {
                            x[(next() * len as f32) as usize] = bad;
                        }
                        for (arithmetic, before) in [
                            (Arithmetic::Divide, false),
                            (Arithmetic::Divide, true),
                            (Arithmetic::Multiply, false),
                        ] {
                            let (scale, zero) = (scales.clone(), vec![zero; entries]);
                            let phase = if width == usize::MAX { 0 } else { 7 };
                            let case = Case { width, phase, arithmetic, scale, zero, before, ends };
                            case.check::<f16>(&x);
                            case.check::<bf16>(&x);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn runs_past_the_caches() {
        // Short ones, and such as are long enough for two places.
        for (width, len) in [(1024usize, 40_000usize), (1504, 50_000), (4096, 42_000), (40_000, 90_000)] {
            let entries = len.div_ceil(width);
            // Of different kinds: a power of two, those whose quotients need a division, largest values by 127.
            let scale: Vec<f32> = (0..entries)
                .map(|i| match i % 5 {
                    0 => 0.25,
                    1 => f32::from_bits(0x3DFF_FFFF - i as u32),
                    _ => bf16::from_f32(0.03 * (i + 1) as f32).to_f32() / 127.0,
                })
                .collect();
            for bad in [&[][..], &[(0, f32::NAN)], &[(len / 2 + 77, f32::INFINITY), (len - 1, f32::NAN)]] {
                let mut x: Vec<f32> =
                    (0..len).map(|i| ((i * 7919 % 3001) as f32 * 0.1 - 150.0) * scale[i / width]).collect();
                for &(at, bad) in bad {
                    x[at] = bad;
                }
                for (arithmetic, before) in
                    [(Arithmetic::Divide, false), (Arithmetic::Divide, true), (Arithmetic::Multiply, false)]
                {
                    let (scale, zero) = (scale.clone(), vec![3.0; entries]);
                    let case = Case { width, phase: 0, arithmetic, scale, zero, before, ends: (-128, 127) };
                    case.check::<f32>(&x);
                    case.check::<f16>(&x);
                    case.check::<bf16>(&x);
                }
            }
        }
    }

    #[test]
    fn scales_that_are_not_ordinary() {
        let x: Vec<f32> = [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e30, -1e-30]
            .into_iter()
            .cycle()
            .take(200)
            .collect();
        for scale in [f32::INFINITY, 0.0, -0.25, 1e-44, 1e-38, 3e38] {
            for (width, entries) in [(usize::MAX, 1), (1, 200), (50, 4)] {
                for arithmetic in [Arithmetic::Divide, Arithmetic::Multiply] {
                    let (scale, zero) = (vec![scale; entries], vec![0.0; entries]);
                    let case =
                        Case { width, phase: 0, arithmetic, scale, zero, before: false, ends: (-127, 127) };
                    case.check::<f32>(&x);
                    case.check::<f16>(&x);
                }
            }
        }
    }
}
