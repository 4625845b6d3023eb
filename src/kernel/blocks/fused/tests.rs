use half::{bf16, f16};

use super::super::super::forced::agreed;
use super::*;

/// Bits that the significands of f16, bf16 and f32 have less than that of f64.
const DROPPED: [u32; 3] = [42, 45, 29];

fn range(dropped: u32, steps: f64) -> RangeRule {
    let usual = if dropped == DROPPED[0] { (1.0 / 16_384.0, 32_768.0) } else { (1e-25, 1e25) };
    RangeRule { steps, dropped, usual, of_zeros: 1.0, zeros: None }
}

/// Scales and unpacked codes by the definition, for blocks of finite values.
fn expected(x: &[f32], width: usize, rule: &BlockRule<'_>) -> (Vec<f32>, Vec<u8>) {
    let (mut scales, mut codes) = (Vec::new(), Vec::new());
    for block in x.chunks(width) {
        let magnitude = f64::from(block.iter().fold(0.0f32, |most, x| most.max(x.abs())));
        let exact = 2.0 * magnitude / rule.range.steps;
        let scale = if magnitude == 0.0 {
            rule.range.of_zeros
        } else {
            // To the nearest number of the storage, ties to even, as `ranges` does it.
            let (dropped, bits) = (rule.range.dropped, exact.to_bits());
            let half = (1u64 << (dropped - 1)) - 1 + (bits >> dropped & 1);
            f64::from_bits((bits + half) >> dropped << dropped) as f32
        };
        scales.push(scale);
        codes.extend(block.iter().map(|x| {
            let v = if rule.divide { x / scale } else { x * (1.0 / scale) };
            let code = v.round_ties_even() as i32 + i32::from(rule.zero);
            let code = code.clamp(rule.codes.0.into(), rule.codes.1.into()) as u8;
            if rule.bits == 4 { code & 0x0F } else { code }
        }));
    }
    (scales, codes)
}

fn packed(codes: &[u8], bits: u32) -> Vec<u8> {
    let mut bytes = vec![0; codes.len().div_ceil(8 / bits as usize)];
    super::super::super::pack::pack(codes, bits, &mut bytes);
    bytes
}

/// What the loops of every level that has one find, wherever values begin in a line; scales as bits.
fn found<A: Element>(
    values: &[A],
    width: usize,
    rule: &BlockRule<'_>,
    stream: bool,
) -> Option<(bool, Vec<u32>, Vec<u8>)> {
    let level = super::super::super::forced::available().into_iter().max().unwrap();
    let mut x = vec![A::default(); values.len() + 64];
    let mut run = |place: usize| {
        let first = x.as_ptr().align_offset(64) + place;
        let x = &mut x[first..first + values.len()];
        x.copy_from_slice(values);
        let bytes = x.len().div_ceil(8 / rule.bits as usize);
        let (mut scales, mut codes) = (vec![-1.0; x.len().div_ceil(width)], vec![0xAA; bytes + 1]);
        let places = Places { scales: ScalePlaces::F32(&mut scales), codes: &mut codes[..bytes], stream };
        let usual = encode(x, width, rule, places)?;
        crate::kernel::stream::finish();
        assert_eq!(codes.pop(), Some(0xAA), "the byte behind the last one");
        Some((usual, scales.iter().map(|scale| scale.to_bits()).collect(), codes))
    };
    let best = super::super::super::forced::with(level, || run(0));
    for level in super::super::super::forced::available() {
        for place in [0, 1, 4, 8, 12] {
            let here = super::super::super::forced::with(level, || run(place));
            assert!(here.is_none() || here == best, "{level:?}, {place} behind a line");
        }
    }
    best
}

struct Numbers(u64);
impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }
    /// Between −1 and 1.
    fn real(&mut self) -> f32 {
        self.next() as f32 / (1u32 << 30) as f32 - 1.0
    }
}

#[allow(clippy::type_complexity)]
fn rules() -> Vec<(u32, f64, i16, (i16, i16))> {
    vec![
        (8, 254.0, 0, (-127, 127)),
        (4, 14.0, 0, (-7, 7)),
        (8, 255.0, 0, (-128, 127)),
        (8, 255.0, 128, (0, 255)),
        (4, 15.0, 8, (0, 15)),
        (4, 15.0, 0, (-8, 7)),
        (4, 14.0, 8, (1, 15)),
        (8, 256.0, 0, (-128, 127)),
    ]
}

fn check<A: Element>(values: &[f32], divide: bool, stream: bool) {
    for (bits, steps, zero, codes) in rules() {
        for dropped in DROPPED {
            let range = range(dropped, steps);
            let rule = BlockRule { range: &range, zero, codes, bits, divide };
            for width in [32, 64, 128, 256] {
                for len in [0, 1, 2, 31, 33, 255, 256, 257, 513, 1024, 1200, values.len()] {
                    let x: Vec<A> = values[..len].iter().map(|&x| A::from_f32(x)).collect();
                    let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
                    let Some((usual, scales, codes)) = found(&x, width, &rule, stream) else { return };
                    let (expected_scales, expected_codes) = expected(&wide, width, &rule);
                    let expected_scales: Vec<u32> = expected_scales.iter().map(|x| x.to_bits()).collect();
                    assert!(usual, "{bits} bits, {dropped}, width {width} of {len}");
                    assert_eq!(scales, expected_scales, "{bits} bits, {dropped}, width {width} of {len}");
                    assert_eq!(codes, packed(&expected_codes, bits), "{rule:?}, width {width} of {len}");
                }
            }
        }
    }
}

/// Blocks of different magnitudes, some of them zeros, with values in the middle between codes of a common scale.
fn values() -> Vec<f32> {
    let mut numbers = Numbers(3);
    let mut values = Vec::new();
    for block in 0..90 {
        let scale = [1.0, 0.37, 11.0, 300.0, 0.013][block % 5] * (1.0 + numbers.real() * 0.3);
        for _ in 0..32 {
            let x = match numbers.next() % 4 {
                0 => (numbers.real() * 14.0).round() * 0.5 / 7.0 * scale,
                1 => -scale,
                _ => numbers.real() * scale,
            };
            values.push(if block % 9 == 4 { 0.0 * numbers.real() } else { x });
        }
    }
    values
}

#[test]
fn scales_and_codes_are_those_of_the_definition() {
    for divide in [false, true] {
        for stream in [false, true] {
            check::<f32>(&values(), divide, stream);
        }
        check::<f16>(&values(), divide, false);
        check::<bf16>(&values(), divide, false);
    }
}

#[test]
fn scales_are_rounded_once() {
    // Magnitudes whose scales lie at, beside and around the middles between numbers of each storage.
    let mut numbers = Numbers(5);
    for dropped in DROPPED {
        for steps in [14.0, 15.0, 254.0, 255.0, 256.0, 1.0, 7.0] {
            let range = range(dropped, steps);
            let rule = BlockRule { range: &range, zero: 0, codes: (-8, 7), bits: 4, divide: false };
            let mut x = vec![0.0f32; 32 * 4096];
            for block in x.chunks_mut(32) {
                let bits = 0x3F80_0000 + (numbers.next() % 0x0100_0000);
                let kept = dropped.saturating_sub(29);
                let middle = if kept > 0 { bits >> kept << kept | 1 << (kept - 1) } else { bits };
                let scale = f32::from_bits(middle);
                let magnitude = (f64::from(scale) * steps / 2.0) as f32;
                let magnitude = f32::from_bits(magnitude.to_bits() + numbers.next() % 3 - 1);
                block[numbers.next() as usize % 32] =
                    if numbers.next().is_multiple_of(2) { magnitude } else { -magnitude };
            }
            let Some((usual, scales, _)) = found(&x, 32, &rule, false) else { return };
            let (expected, _) = expected(&x, 32, &rule);
            assert!(usual);
            for (x, (found, expected)) in x.chunks(32).zip(scales.iter().zip(&expected)) {
                assert_eq!(*found, expected.to_bits(), "{dropped} {steps} {x:?}");
            }
        }
    }
}

#[test]
fn scales_of_halves_are_rounded_once() {
    /// Every significand.
    fn check<A: Element>() {
        let mut x = vec![A::default(); 32 * 2048];
        for (k, block) in x.chunks_mut(32).enumerate() {
            let magnitude = 1.0 + k as f32 / 1024.0;
            block[k % 32] = A::from_f32(if k % 3 == 0 { -magnitude } else { magnitude });
        }
        let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        for dropped in DROPPED {
            for steps in [14.0, 15.0, 254.0, 255.0, 256.0, 1.0, 7.0] {
                let range = range(dropped, steps);
                let rule = BlockRule { range: &range, zero: 0, codes: (-8, 7), bits: 4, divide: false };
                let Some((usual, scales, _)) = found(&x, 32, &rule, false) else { return };
                let (expected, _) = expected(&wide, 32, &rule);
                assert!(usual);
                for (k, (found, expected)) in scales.iter().zip(&expected).enumerate() {
                    assert_eq!(*found, expected.to_bits(), "{dropped} {steps} {k}");
                }
            }
        }
    }
    check::<f16>();
    check::<bf16>();
}

#[test]
fn what_is_not_finite_or_no_everyday_scale_is_noticed_anywhere() {
    fn check<A: Element>(bad: f64) {
        let range = range(DROPPED[0], 254.0);
        let rule = BlockRule { range: &range, zero: 0, codes: (-127, 127), bits: 8, divide: false };
        for at in (0..700).step_by(7) {
            let mut x = vec![A::from_f32(1.0); 700];
            let Some((usual, ..)) = found(&x, 32, &rule, false) else { return };
            assert!(usual);
            x[at] = A::from_f64(bad);
            assert!(!found(&x, 32, &rule, false).unwrap().0, "{bad} at {at}");
        }
    }
    for bad in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        check::<f32>(bad);
        check::<f16>(bad);
        check::<bf16>(bad);
    }
    check::<f32>(1e9);
    check::<bf16>(1e9);
    // A block of its own with a scale too small.
    let range = range(DROPPED[0], 254.0);
    let rule = BlockRule { range: &range, zero: 0, codes: (-127, 127), bits: 8, divide: true };
    let small = [1e-3f32; 40];
    let Some((usual, ..)) = found(&small, 32, &rule, false) else { return };
    assert!(!usual);
}

#[test]
fn what_the_loops_are_not_for_they_leave() {
    let usual = range(DROPPED[0], 254.0);
    let rule = BlockRule { range: &usual, zero: 0, codes: (-127, 127), bits: 8, divide: true };
    let x = [1.0f32; 64];
    let run = |width: usize, rule: &BlockRule<'_>, bytes: usize| {
        let (mut scales, mut codes) = ([0.0; 64], vec![0; bytes]);
        agreed(|| {
            let scales = ScalePlaces::F32(&mut scales);
            encode(&x, width, rule, Places { scales, codes: &mut codes, stream: false }).is_none()
        })
    };
    for width in [0, 1, 16, 48, 512] {
        assert!(run(width, &rule, 64));
    }
    assert!(run(32, &rule, 63));
    assert!(run(32, &BlockRule { bits: 5, ..rule }, 64));
    for range in [
        RangeRule { zeros: Some((0, 255)), ..usual },
        RangeRule { steps: 254.5, ..usual },
        RangeRule { steps: 1000.0, ..usual },
        RangeRule { of_zeros: 1e-30, ..usual },
    ] {
        assert!(run(32, &BlockRule { range: &range, ..rule }, 64));
    }
}
