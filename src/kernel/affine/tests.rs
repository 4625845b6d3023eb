//! Encoding and decoding against their definitions, element by element.

use super::super::forced::agreed;
use super::*;
use half::{bf16, f16};
use proptest::prelude::*;

const ROUNDINGS: [Rounding; 5] =
    [Rounding::NearestEven, Rounding::NearestAway, Rounding::Floor, Rounding::Ceil, Rounding::TowardZero];
const SCALINGS: [Arithmetic; 3] = [Arithmetic::Divide, Arithmetic::Multiply, Arithmetic::Span];

/// Arithmetic in the type itself and the roundings of the standard library.
trait Oracle: Real {
    fn rounded(self, rounding: Rounding) -> Self;
    fn integer(self) -> i64;
}
macro_rules! oracle {
    ($t:ty) => {
        impl Oracle for $t {
            fn rounded(self, rounding: Rounding) -> Self {
                match rounding {
                    Rounding::NearestEven => self.round_ties_even(),
                    Rounding::NearestAway => self.round(),
                    Rounding::Floor => self.floor(),
                    Rounding::Ceil => self.ceil(),
                    Rounding::TowardZero => self.trunc(),
                }
            }
            fn integer(self) -> i64 {
                self as i64
            }
        }
    };
}
oracle!(f32);
oracle!(f64);

/// Rounds first and clamps afterwards, as the definition has it.
fn oracle<T: Oracle>(x: T, j: usize, params: &EncodeParams<'_, T>, mode: &EncodeMode<T>) -> (u16, bool) {
    let scale = params.scale[j];
    let v = match mode.arithmetic {
        Arithmetic::Divide => x / scale,
        Arithmetic::Multiply => x * scale,
        Arithmetic::Span => (x - params.offset.get(j).copied().unwrap_or(T::zero())) / scale * mode.steps,
    };
    let v = v + params.zero_before.get(j).copied().unwrap_or(T::zero());
    let (low, high) = (params.low[j], params.high[j]);
    let rounded = v.rounded(mode.rounding);
    let clamped = if v.is_nan() || rounded < low {
        low
    } else if rounded > high {
        high
    } else {
        rounded
    };
    let q = clamped.integer() + i64::from(params.zero_after.get(j).copied().unwrap_or(0));
    (q as u16 & mode.mask, v.is_nan())
}

fn check<T: Oracle, C: Code>(
    x: &[T],
    width: usize,
    phase: usize,
    params: &EncodeParams<'_, T>,
    mode: &EncodeMode<T>,
) {
    let (codes, nan) = agreed(|| {
        let mut codes = vec![C::from_u16(0x55); x.len()];
        let nan = encode(x, width, phase, params, mode, &mut codes);
        // Past the caches, to places that are not aligned.
        let mut streamed = vec![C::from_u16(0x55); x.len() + 80];
        let mode = EncodeMode { stream: true, ..*mode };
        for at in [0, 1, 33] {
            let streamed = &mut streamed[at..at + x.len()];
            assert_eq!(encode(x, width, phase, params, &mode, streamed), nan);
            assert_eq!(streamed, codes);
        }
        (codes, nan)
    });
    let mut expected_nan = false;
    for (i, x) in x.iter().enumerate() {
        let (code, nan) = oracle(*x, (phase + i) / width, params, mode);
        expected_nan |= nan;
        assert_eq!(codes[i], C::from_u16(code), "{x:?} at {i}, {mode:?}, width {width}, phase {phase}");
    }
    assert_eq!(nan, expected_nan);
}

/// Asserts that numbers of 16 bits get the codes of the same numbers of f32.
fn as_if_widened<A: Element>(
    x: &[f32],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    mode: &EncodeMode<f32>,
) {
    let halves: Vec<A> = x.iter().map(|&x| A::from_f32(x)).collect();
    let wide: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    let mut expected = vec![0u8; x.len()];
    let nan = encode(&wide, width, phase, params, mode, &mut expected);
    for stream in [false, true] {
        let mode = EncodeMode { stream, ..*mode };
        let mut codes = vec![0u8; x.len() + 5];
        if let Some(found) = encode_halves(&halves, width, phase, params, &mode, &mut codes[5..]) {
            assert_eq!((found, &codes[5..]), (nan, &expected[..]), "{:?} of width {width}", A::TYPE);
        }
    }
}

fn reciprocals(params: &EncodeParams<'_, f32>) -> ColumnReciprocals {
    let mut reciprocals = ColumnReciprocals::default();
    reciprocals.find(params.scale, params.low[0].abs().max(params.high[0].abs()) as u32);
    reciprocals
}

/// As [`as_if_widened`], of lines.
fn lines_as_if_widened<A: Element>(
    x: &[f32],
    phase: usize,
    params: &EncodeParams<'_, f32>,
    mode: &EncodeMode<f32>,
) {
    let halves: Vec<A> = x.iter().map(|&x| A::from_f32(x)).collect();
    let wide: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    let (mut codes, mut expected) = (vec![0u8; x.len() + 7], vec![0u8; x.len()]);
    let by = reciprocals(params);
    let found = encode_lines(&halves, phase, params, &by, mode, &mut codes[7..]);
    assert_eq!(found, encode_lines(&wide, phase, params, &by, mode, &mut expected));
    assert_eq!(&codes[7..], expected, "{:?} {phase}", A::TYPE);
}

/// Values on, just below and just above every half step, and those that break careless code.
fn awkward<T: Oracle>(scale: T, last: i32) -> Vec<T> {
    let t = |v: f64| <T as Element>::from_f64(v);
    let mut values: Vec<T> = [
        0.0,
        -0.0,
        1e-45,
        -1e-45,
        5e-324,
        f64::MIN_POSITIVE,
        1e-38,
        -1e-39,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        -f64::NAN,
        3e38,
        -3e38,
        0.49999997,
        -0.49999997,
        0.499_999_999_999_999_94,
        -0.499_999_999_999_999_94,
        1e9,
        -1e9,
        8_388_609.0,
        4_503_599_627_370_497.0,
    ]
    .map(t)
    .to_vec();
    for k in -2 * last..=2 * last {
        let at = t(f64::from(k) * 0.5);
        for nudge in [-1.0, 0.0, 1.0] {
            values.push((at + at.abs() * T::epsilon() * t(nudge)) * scale);
        }
    }
    values
}

fn all_modes<T: Oracle>() {
    let t = |v: f64| <T as Element>::from_f64(v);
    for (bits, signed) in [(1, false), (2, true), (4, true), (8, true), (8, false), (11, true)] {
        let half = 1i32 << (bits - 1);
        let (low, high) = if signed { (-half, half - 1) } else { (0, 2 * half - 1) };
        for scale in [1.0, 0.1, 3.0, -0.25, 1e-30, 0.0] {
            let x = awkward(if scale == 0.0 { T::one() } else { t(scale) }, 2 * half);
            for arithmetic in SCALINGS {
                let scale =
                    if arithmetic == Arithmetic::Multiply && scale != 0.0 { 1.0 / scale } else { scale };
                for rounding in ROUNDINGS {
                    for (zero_before, zero_after) in
                        [(&[][..], &[][..]), (&[t(0.5)], &[]), (&[], &[3]), (&[t(-0.3)], &[-7])]
                    {
                        let params = EncodeParams {
                            scale: &[t(scale)],
                            offset: if zero_after.is_empty() { &[] } else { &[t(-0.7)] },
                            zero_before,
                            low: &[t(f64::from(low))],
                            high: &[t(f64::from(high))],
                            zero_after,
                        };
                        let mask = ((1u32 << bits) - 1) as u16;
                        let mode = EncodeMode { arithmetic, steps: t(15.0), rounding, mask, stream: false };
                        check::<T, u16>(&x, x.len(), 0, &params, &mode);
                        if bits <= 8 && scale == 1.0 {
                            check::<T, u8>(&x, x.len() + 5, 4, &params, &mode);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_mode_in_f32() {
    all_modes::<f32>();
}

#[test]
fn every_mode_in_f64() {
    all_modes::<f64>();
}

#[test]
fn the_ends_of_the_widest_range() {
    let x: Vec<f32> = (-70_000..70_000).step_by(7).flat_map(|i| [i as f32, i as f32 + 0.5]).collect();
    for (low, high, after) in [(-32768.0, 32767.0, 0), (0.0, 65535.0, 0), (-131_072.0, 131_072.0, 5)] {
        for rounding in ROUNDINGS {
            let params = EncodeParams {
                scale: &[1.0],
                offset: &[],
                zero_before: &[],
                low: &[low],
                high: &[high],
                zero_after: &[after],
            };
            let mode = EncodeMode {
                arithmetic: Arithmetic::Divide,
                steps: 1.0,
                rounding,
                mask: u16::MAX,
                stream: false,
            };
            check::<f32, u16>(&x, x.len(), 0, &params, &mode);
        }
    }
}

#[test]
fn division_is_exact() {
    // FBGEMM's own example: x · (1/s) is 127.5 and becomes 128, x / s is below and becomes 127.
    let (x, s) = (0.273_939_94_f32, 0.002_148_548_6_f32);
    let mut mode = EncodeMode {
        arithmetic: Arithmetic::Divide,
        steps: 1.0,
        rounding: Rounding::NearestEven,
        mask: 255,
        stream: false,
    };
    let mut params = EncodeParams {
        scale: &[s],
        offset: &[],
        zero_before: &[],
        low: &[0.0],
        high: &[255.0],
        zero_after: &[],
    };
    let mut code = [0u8];
    encode(&[x], 1, 0, &params, &mode, &mut code);
    assert_eq!(code, [127]);
    mode.arithmetic = Arithmetic::Multiply;
    let inverse = [1.0 / s];
    params.scale = &inverse;
    encode(&[x], 1, 0, &params, &mode, &mut code);
    assert_eq!(code, [128]);
}

/// Numbers next to every boundary between two codes, on scales with every kind of significand: where a quotient that is
/// off by one unit in the last place shows.
#[test]
fn quotients_next_to_every_boundary() {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 9
    };
    let significands = [0, 1, 2, 0x7f_ffff, 0x7f_fffe, 0x40_0000, 0x3f_ffff, 0x00_0fff, 0x55_5555, 0x2a_aaab];
    let exponents = [1, 30, 43, 44, 45, 100, 120, 127, 140, 209, 210, 211, 240, 246];
    for round in 0..60 {
        let significand = significands.get(round).copied().unwrap_or_else(&mut next);
        let scale = f32::from_bits(exponents[round % exponents.len()] << 23 | significand);
        let x: Vec<f32> = (-260..260)
            .flat_map(|k| {
                let at = ((f64::from(k) + 0.5) * f64::from(scale)) as f32;
                (-4..=4i32).map(move |off| f32::from_bits(at.to_bits().wrapping_add_signed(off)))
            })
            .chain((0..600).map(|_| f32::from_bits(next() << 9 | next())))
            .collect();
        for (low, high, zero_after) in [(-127.0, 127.0, 0), (-128.0, 127.0, 0), (-3.0, 252.0, 3)] {
            let params = EncodeParams {
                scale: &[scale],
                offset: &[],
                zero_before: &[],
                low: &[low],
                high: &[high],
                zero_after: &[zero_after],
            };
            let mode = EncodeMode {
                arithmetic: Arithmetic::Divide,
                steps: 1.0,
                rounding: Rounding::NearestEven,
                mask: 255,
                stream: false,
            };
            check::<f32, u8>(&x, x.len(), 0, &params, &mode);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_pattern(
        len in 0usize..700,
        width in prop_oneof![Just(1usize), 2usize..20, 15usize..18, 31usize..34, 60usize..130, Just(1000usize)],
        phase in any::<prop::sample::Index>(),
        seed in any::<u32>(),
        arithmetic in prop::sample::select(&SCALINGS[..]),
        rounding in prop::sample::select(&ROUNDINGS[..]),
        present in any::<(bool, bool, bool)>(),
    ) {
        let phase = phase.index(width);
        let mut state = seed;
        let mut next = || { state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); (state >> 8) as f32 / 16_777_216.0 };
        let x: Vec<f32> = (0..len).map(|_| match next() { u if u < 0.01 => f32::NAN, u if u < 0.02 => f32::INFINITY, u => (u - 0.5) * 40.0 }).collect();
        let entries = (phase + len).div_ceil(width);
        let mut draw = |low: f32, high: f32| -> Vec<f32> { (0..entries).map(|_| low + (high - low) * next()).collect() };
        let (scale, offset, zero_before) = (draw(0.01, 2.0), draw(-3.0, 3.0), draw(-1.0, 1.0));
        let low: Vec<f32> = draw(-130.0, -1.0).iter().map(|v| v.floor()).collect();
        let high: Vec<f32> = draw(0.0, 130.0).iter().map(|v| v.floor()).collect();
        let zero_after: Vec<i32> = draw(-128.0, 128.0).iter().map(|v| *v as i32).collect();
        let params = EncodeParams {
            scale: &scale,
            offset: if present.0 { &offset } else { &[] },
            zero_before: if present.1 { &zero_before } else { &[] },
            low: &low,
            high: &high,
            zero_after: if present.2 { &zero_after } else { &[] },
        };
        let mode = EncodeMode { arithmetic, steps: 255.0, rounding, mask: 255 , stream: false };
        check::<f32, u8>(&x, width, phase, &params, &mode);
        as_if_widened::<f16>(&x, (width, phase), &params, &mode);
        as_if_widened::<bf16>(&x, (width, phase), &params, &mode);

        // And back, from those codes, in every type of element.
        let mut codes = vec![0u8; len];
        encode(&x, width, phase, &params, &mode, &mut codes);
        for sign_bit in [0, 128] {
            let zero = if present.1 { &zero_before[..] } else { &[] };
            let value = |i: usize| {
                let j = (phase + i) / width;
                let q = if sign_bit == 0 { f32::from(codes[i]) } else { f32::from(codes[i] as i8) };
                scale[j] * (q - zero.get(j).copied().unwrap_or(0.0))
            };
            let expected: Vec<f32> = (0..len).map(value).collect();
            let bits = |x: f32| (x + 0.0).to_bits();
            let out = agreed(|| {
                let mut out = vec![7.0f32; len];
                decode(&codes, sign_bit, width, phase, &scale, zero, false, &mut out);
                for at in [0, 1, 13] {
                    let mut streamed = vec![7.0f32; len + 16];
                    decode(&codes, sign_bit, width, phase, &scale, zero, true, &mut streamed[at..at + len]);
                    assert!(streamed[at..at + len].iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()));
                }
                out
            });
            prop_assert!(out.iter().zip(&expected).all(|(a, b)| bits(*a) == bits(*b)));
            let mut out = vec![f16::ZERO; len];
            decode(&codes, sign_bit, width, phase, &scale, zero, false, &mut out);
            prop_assert!(out.iter().zip(&expected).all(|(a, b)| *a == f16::from_f32(*b)));
            let mut out = vec![bf16::ZERO; len];
            decode(&codes, sign_bit, width, phase, &scale, zero, false, &mut out);
            prop_assert!(out.iter().zip(&expected).all(|(a, b)| *a == bf16::from_f32(*b)));
            let mut out = vec![0.0f64; len];
            decode(&codes, sign_bit, width, phase, &scale, zero, false, &mut out);
            prop_assert!(out.iter().zip(&expected).all(|(a, b)| *a == f64::from(*b)));
        }
    }
}

#[test]
fn signed_fields_of_every_width_decode() {
    for bits in 1..=16u32 {
        let sign_bit = 1u16 << (bits - 1);
        let codes: Vec<u16> =
            (0..1u32 << bits).step_by(1 + (bits as usize / 12) * 37).map(|c| c as u16).collect();
        let mut out = vec![0.0f64; codes.len()];
        decode(&codes, sign_bit, usize::MAX, 0, &[0.5f64], &[], false, &mut out);
        for (code, out) in codes.iter().zip(out) {
            let q = i32::from(*code) - if code & sign_bit != 0 { 1 << bits } else { 0 };
            assert_eq!(out, f64::from(q) * 0.5);
        }
    }
}

#[test]
fn bytes_decode_to_the_product_of_scale_and_distance() {
    for bits in 1..=8u32 {
        let codes: Vec<u8> = (0..333u32).map(|i| (i * 37 % (1 << bits)) as u8).collect();
        for sign_bit in [0, 1u16 << (bits - 1)] {
            for (width, phase) in [(32, 0), (64, 0), (96, 5), (100, 0), (500, 0)] {
                for scale in [0.37f32, -0.1, 1e-30, 1e-40, 3e36, 0.0] {
                    for zero in [None, Some(0.0), Some(3.0f32), Some(0.3), Some(1e30)] {
                        let entries = (phase + codes.len()).div_ceil(width);
                        let scale: Vec<f32> = (0..entries).map(|j| scale * (1.0 + j as f32 * 0.1)).collect();
                        let zero = zero.map_or(Vec::new(), |zero| vec![zero; entries]);
                        let found = agreed(|| {
                            let mut out = vec![7.0f32; codes.len()];
                            decode(&codes, sign_bit, width, phase, &scale, &zero, false, &mut out);
                            out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                        });
                        for (i, (&code, found)) in codes.iter().zip(found).enumerate() {
                            let q =
                                i32::from(code) - if u16::from(code) & sign_bit != 0 { 1 << bits } else { 0 };
                            let j = (phase + i) / width;
                            let expected = scale[j] * (q as f32 - zero.get(j).copied().unwrap_or(0.0));
                            assert_eq!(f32::from_bits(found), expected, "{code} of {bits} bits, {scale:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[cfg(not(debug_assertions))]
fn lengths_that_differ_process_the_common_prefix() {
    let params = EncodeParams {
        scale: &[1.0f32; 2],
        offset: &[],
        zero_before: &[0.0; 9],
        low: &[-8.0; 3],
        high: &[7.0; 4],
        zero_after: &[],
    };
    let mode = EncodeMode {
        arithmetic: Arithmetic::Divide,
        steps: 1.0,
        rounding: Rounding::Floor,
        mask: 15,
        stream: false,
    };
    let mut codes = [99u8; 12];
    for (width, phase, done) in [(3, 1, 5), (1, 0, 2), (0, 0, 2), (3, 7, 5), (usize::MAX, 0, 10)] {
        codes.fill(99);
        encode(&[2.5f32; 10], width, phase, &params, &mode, &mut codes);
        assert!(
            codes.iter().enumerate().all(|(i, c)| *c == if i < done { 2 } else { 99 }),
            "{width} {codes:?}"
        );
        let mut out = [9.0f64; 11];
        decode::<f32, u8, f64>(&[3; 10], 0, width, phase, &[1.0; 2], &[], &mut out);
        assert!(out.iter().enumerate().all(|(i, x)| *x == if i < done { 3.0 } else { 9.0 }));
    }
    assert!(!encode(&[f32::NAN], 1, 0, &EncodeParams { scale: &[], ..params }, &mode, &mut codes));
}

#[test]
fn lines_in_common_are_columns() {
    // Some together, and some after them.
    const LINES: usize = 11;
    let mut scales: Vec<f32> = (0..300).map(|j| 0.01 + (j * 37 % 300) as f32 * 1e-3).collect();
    // Not to be divided by in two terms.
    (scales[90], scales[200]) = (f32::INFINITY, f32::from_bits(0x3D82_0003));
    for (low, high, zero) in [(-127.0, 127.0, 0), (-8.0, 7.0, 8), (0.0, 255.0, 0), (-3.0, 252.0, 3)] {
        for (arithmetic, stream) in [
            (Arithmetic::Divide, false),
            (Arithmetic::Divide, true),
            (Arithmetic::Multiply, false),
            (Arithmetic::Multiply, true),
        ] {
            let mask = if high == 7.0 { 15 } else { 255 };
            let mode = EncodeMode { arithmetic, steps: 1.0, rounding: Rounding::NearestEven, mask, stream };
            for (len, phase) in [
                (1, 0),
                (8, 3),
                (63, 0),
                (64, 0),
                (64, 63),
                (65, 7),
                (100, 99),
                (128, 0),
                (128, 64),
                (300, 41),
            ] {
                for bad in [0.5, f32::NAN, f32::INFINITY, f32::MIN] {
                    let count = LINES * len - phase / 2;
                    let mut x: Vec<f32> =
                        (0..count).map(|i| ((i * 101 % 300) as f32 - 150.0) * 0.03).collect();
                    x[(count * 2 / 3).min(count - 1)] = bad;
                    let [low, high] = [low, high].map(|bound| vec![bound; len]);
                    let zero = vec![zero; len];
                    let params = EncodeParams {
                        scale: &scales[..len],
                        offset: &[],
                        zero_before: &[],
                        low: &low,
                        high: &high,
                        zero_after: &zero,
                    };
                    let (mut expected, mut nan) = (vec![0u8; count], false);
                    for (i, (x, code)) in x.iter().zip(&mut expected).enumerate() {
                        let at = (phase + i) % len;
                        let one = EncodeParams {
                            scale: &scales[at..=at],
                            low: &low[..1],
                            high: &high[..1],
                            zero_after: &zero[..1],
                            ..params
                        };
                        nan |= encode(&[*x], 1, 0, &one, &mode, core::slice::from_mut(code));
                    }
                    for level in super::super::forced::available() {
                        super::super::forced::with(level, || {
                            lines_as_if_widened::<f16>(&x, phase, &params, &mode);
                            lines_as_if_widened::<bf16>(&x, phase, &params, &mode);
                            for at in [0, 1, 48] {
                                let mut codes = vec![77u8; count + 49];
                                let place = &mut codes[at..at + count];
                                match encode_lines(&x, phase, &params, &reciprocals(&params), &mode, place) {
                                    Some(found) => {
                                        assert_eq!(
                                            (found, &*place),
                                            (nan, &*expected),
                                            "{level:?} {len} {phase}"
                                        );
                                        assert!(
                                            codes[..at].iter().chain(&codes[at + count..]).all(|&c| c == 77)
                                        );
                                    }
                                    None => assert!(level == crate::simd::Level::Baseline || len < 64),
                                }
                            }
                        });
                    }
                }
            }
        }
    }
}
