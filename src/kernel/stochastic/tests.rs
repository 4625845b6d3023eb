use super::super::affine::{Arithmetic, Rounding, encode_stochastic};
use super::super::forced::{available, with};
use super::super::uniform;
use super::*;
use crate::simd::Level;
use half::{bf16, f16};
use proptest::prelude::*;

fn check<A: Element>(
    x: &[A],
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
    let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
    let nan = encode_stochastic(&wide, width, phase, params, &mode, &uniforms, &mut expected);
    for level in available() {
        with(level, || {
            for (stream, at) in [(false, 0), (true, 0), (true, 1), (true, 33)] {
                let mode = EncodeMode { stream, ..mode };
                let mut found = vec![0x55u8; x.len() + 64];
                let found = &mut found[at..at + x.len()];
                assert_eq!(
                    serves(width, &mode),
                    cfg!(target_arch = "x86_64") && level > Level::Baseline && width >= 32
                );
                let served = encode(x, width, phase, params, &mode, place, found);
                if !cfg!(target_arch = "x86_64") || level == Level::Baseline || width < 32 {
                    assert_eq!(served, None);
                    continue;
                }
                assert_eq!(served, Some(nan));
                let different = found.iter().zip(&expected).position(|(a, b)| a != b);
                assert_eq!(
                    different,
                    None,
                    "{}, width {width}, phase {phase}, {arithmetic:?}, {place:?}",
                    A::TYPE
                );
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
        let place = Place { seed, first };
        check(&x, (width, phase), &params, arithmetic, place);
        let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
        check(&halves, (width, phase), &params, arithmetic, place);
        let halves: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        check(&halves, (width, phase), &params, arithmetic, place);
    }
}

/// Many values for each divisor, so that some are met whose quotient is not the nearest number in any quicker way; at the
/// numbers that decide, and at integers.
#[test]
fn the_codes_of_many_values() {
    // Numbers of blocks from everywhere, and from where their higher bytes change.
    for first in [40_000, 40_027, (8 << 40) - 50_003] {
        many_values(Place { seed: 11, first });
    }
}

fn many_values(place: Place) {
    const LEN: usize = 100_000;
    let mut uniforms = vec![0.0f32; LEN];
    uniform::fill(place.seed, place.first, &mut uniforms);
    for (round, (low, high, zero)) in
        [(-127.0, 127.0, 0), (-128.0, 127.0, 0), (0.0, 255.0, 0), (-100.0, 155.0, 100), (-7.0, 7.0, 8)]
            .into_iter()
            .enumerate()
    {
        let scale = 0.000_736_388_44_f32 * 1.37f32.powi(round as i32);
        let x: Vec<f32> = (0..LEN)
            .map(|i| {
                let whole = (i % 263) as f32 + low - 3.0;
                let at = whole + if i % 5 == 0 { 0.0 } else { uniforms[i] };
                f32::from_bits((at * scale).to_bits().wrapping_add_signed(i as i32 % 3 - 1))
            })
            .collect();
        let params = EncodeParams {
            scale: &[scale],
            offset: &[],
            zero_before: &[],
            low: &[low],
            high: &[high],
            zero_after: &[zero],
        };
        check(&x, (usize::MAX, 0), &params, Arithmetic::Divide, place);
        let params = EncodeParams { scale: &[1.0 / scale], ..params };
        check(&x, (usize::MAX, 0), &params, Arithmetic::Multiply, place);
    }
}
