use half::{bf16, f16};

use super::super::super::blocks::ScalePlaces;
use super::super::super::forced::{available, with};
use super::super::super::{pack, stream};
use super::super::{Boundary, Ties};
use super::*;

/// The levels of E2M1, by code.
const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Ties go to the even code.
fn e2m1() -> LevelMaps<f32> {
    let above = [0.25f32.next_up(), 0.75, 1.25f32.next_up(), 1.75, 2.5f32.next_up(), 3.5, 5f32.next_up()];
    let below = above.iter().rev().map(|&cut| (-cut).next_up());
    let codes: Vec<u16> = (8..16).rev().chain(0..8).collect();
    let mut maps = LevelMaps::default();
    maps.reset(16);
    let levels = codes.iter().map(|&code| E2M1[usize::from(code)]);
    maps.push_known(levels, below.chain([0.0]).chain(above), &codes);
    maps
}

fn maps(values: &[f32], boundary: Boundary) -> LevelMaps<f32> {
    let mut maps = LevelMaps::default();
    maps.reset(16);
    maps.push(values, boundary);
    maps
}

/// Levels as those of NF4: close to zero, and one of them zero.
fn normal() -> Vec<f32> {
    vec![
        -1.0,
        -0.6961928,
        -0.52507305,
        -0.3949175,
        -0.28444138,
        -0.18477343,
        -0.091050036,
        0.0,
        0.0795803,
        0.1609302,
        0.2461123,
        0.33791524,
        0.44070983,
        0.562617,
        0.72295684,
        1.0,
    ]
}

/// A name, levels, how scales are made, and whether cells serve such levels, by magnitudes or not.
type Case = (&'static str, LevelMaps<f32>, MagnitudeScale, Option<bool>);

fn cases() -> Vec<Case> {
    let even: Vec<f32> = (-8..8).map(|i| i as f32 / 8.0).collect();
    let crowded: Vec<f32> = (0..16).map(|i| 1.5f32.powi(i - 15) - 0.001).collect();
    let few = [-3.0, -1.0, 0.5, 2.0];
    let bitsandbytes = E2M1.map(|level| level / 6.0);
    let quotient = |top: f64| MagnitudeScale::Quotient { top };
    let power = |carry, exponent| MagnitudeScale::Power { carry, exponent };
    let nearest = |ties| Boundary::Midpoint(ties);
    vec![
        ("normal", maps(&normal(), nearest(Ties::Low)), quotient(1.0), Some(false)),
        ("normal, up", maps(&normal(), Boundary::Ceil), quotient(1.0), Some(false)),
        ("normal, power", maps(&normal(), nearest(Ties::Away)), power(0, 0), None),
        ("e2m1", e2m1(), power(0, 2), Some(true)),
        ("e2m1, carried", e2m1(), power(0x3F_FFFF, 2), Some(true)),
        ("e2m1, quotient", e2m1(), quotient(6.0), Some(true)),
        ("e2m1, away", maps(&E2M1, nearest(Ties::Away)), power(0, 2), Some(true)),
        ("e2m1, low", maps(&E2M1, nearest(Ties::Low)), power(0, 2), None),
        ("e2m1, toward zero", maps(&E2M1, Boundary::TowardZero), quotient(6.0), Some(true)),
        ("bitsandbytes", maps(&bitsandbytes, nearest(Ties::Away)), quotient(1.0), Some(true)),
        ("even", maps(&even, nearest(Ties::High)), quotient(1.0), Some(false)),
        ("crowded", maps(&crowded, nearest(Ties::Low)), quotient(0.999), None),
        ("few", maps(&few, nearest(Ties::Low)), quotient(3.0), Some(false)),
        ("few, out of reach", maps(&few, nearest(Ties::Low)), quotient(0.7), None),
    ]
}

fn magnitudes(x: &[f32], width: usize) -> impl Iterator<Item = f32> {
    x.chunks(width).map(|block| block.iter().fold(0.0f32, |most, x| most.max(x.abs())))
}

/// Scales and packed codes by the definition.
fn expected(
    x: &[f32],
    width: usize,
    (maps, scale, of_zeros, multiply): (&LevelMaps<f32>, MagnitudeScale, f32, bool),
) -> (Vec<f32>, Vec<u8>) {
    let (_, cuts, order) = maps.map(0, true);
    let (mut scales, mut codes) = (Vec::new(), Vec::new());
    for (block, magnitude) in x.chunks(width).zip(magnitudes(x, width)) {
        let scale = if magnitude == 0.0 { of_zeros } else { scale.of(magnitude) };
        scales.push(scale);
        codes.extend(block.iter().map(|x| {
            let v = if multiply { x * (1.0 / scale) } else { x / scale };
            order[cuts.iter().filter(|&&cut| v >= cut).count()] as u8
        }));
    }
    let mut bytes = vec![0; codes.len().div_ceil(2)];
    pack::pack(&codes, 4, &mut bytes);
    (scales, bytes)
}

/// What one level finds, in a place that begins `start` bytes behind a line.
fn found<A: Element>(
    rule: &BlockLevels,
    x: &[A],
    width: usize,
    (stream, start): (bool, usize),
) -> Option<(bool, Vec<f32>, Vec<u8>)> {
    let bytes = x.len().div_ceil(2);
    let blocks = x.len().div_ceil(width.max(1));
    let (mut scales, mut codes) = (vec![-1.0; blocks], vec![0xAA; bytes + start + 65]);
    let first = codes.as_ptr().align_offset(64) + start;
    let codes = &mut codes[first..first + bytes + 1];
    let places = Places { scales: ScalePlaces::F32(&mut scales), codes: &mut codes[..bytes], stream };
    let usual = rule.encode(x, width, places)?;
    stream::finish();
    assert_eq!(codes.last(), Some(&0xAA), "the byte behind the last one");
    Some((usual, scales, codes[..bytes].to_vec()))
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

/// Blocks of different magnitudes, some of zeros, with values at, below and above the cuts.
fn values(maps: &LevelMaps<f32>, scale: MagnitudeScale, most: f32) -> Vec<f32> {
    let mut numbers = Numbers(3);
    let (_, cuts, _) = maps.map(0, true);
    let mut values = Vec::new();
    for block in 0..64 {
        let magnitude = [1.0, 0.37, 11.0, 300.0, 0.013, 1.5, 6.0, 8e-4, 3e-5, 7e-8][block % 10];
        let magnitude = magnitude * (1.0 + numbers.real() * 0.3);
        let magnitude = if block % 8 < 4 { magnitude } else { (magnitude * most).min(most) };
        let scale = scale.of(magnitude);
        let mut all: Vec<f32> = (0..32)
            .map(|_| {
                let cut = cuts[numbers.next() as usize % cuts.len()] * scale;
                let x = match numbers.next() % 8 {
                    0 => cut,
                    1 => cut.next_up(),
                    2 => cut.next_down(),
                    3 => [0.0, -0.0, 1e-40, -1e-40, -1e-45, -1e-6][numbers.next() as usize % 6],
                    _ => numbers.real() * magnitude,
                };
                x.clamp(-magnitude, magnitude)
            })
            .collect();
        all[numbers.next() as usize % 32] = if block % 2 == 0 { magnitude } else { -magnitude };
        if block % 9 == 4 {
            all.iter_mut().for_each(|x| *x *= 0.0);
        }
        values.extend(all);
    }
    values
}

fn check<A: Element>(most: f32) {
    for (name, maps, scale, _) in cases() {
        let all = values(&maps, scale, most);
        for (multiply, of_zeros) in
            [(true, 1.0), (false, 1.0), (true, 2f32.powi(-127)), (false, 2f32.powi(-127))]
        {
            let rule = BlockLevels::new(&maps, scale, of_zeros, multiply);
            for width in [32, 64, 128, 256] {
                for len in [0, 1, 2, 31, 33, 255, 256, 257, 513, 1024, 1201, all.len()] {
                    let x: Vec<A> = all[..len].iter().map(|&x| A::from_f32(x)).collect();
                    let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
                    // A few values of a block may all be among the smallest.
                    let usual = magnitudes(&wide, width).all(|m| m == 0.0 || EVERYDAY.contains(&m));
                    let expected = expected(&wide, width, (&maps, scale, of_zeros, multiply));
                    for level in available() {
                        let ways = if len == 513 {
                            &[(false, 1), (true, 0), (true, 16), (true, 1)][..]
                        } else {
                            &[(true, 16)]
                        };
                        for &way in ways {
                            let Some(rule) = &rule else { continue };
                            let Some(found) = with(level, || found(rule, &x, width, way)) else { continue };
                            assert_eq!(
                                found.0, usual,
                                "{name}, {level:?}, {multiply}, width {width} of {len}"
                            );
                            if !usual {
                                continue;
                            }
                            assert_eq!(
                                (found.1, found.2),
                                expected,
                                "{name}, {level:?}, {multiply}, width {width} of {len}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn scales_and_codes_are_those_of_the_definition() {
    check::<f32>(1e29);
    check::<f16>(60_000.0);
    check::<bf16>(1e29);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn cells_serve_the_tables_that_they_are_for() {
    for (name, maps, scale, cells) in cases() {
        let rule = BlockLevels::new(&maps, scale, 1.0, true).unwrap();
        assert_eq!(rule.cells.map(|cells| cells.mirrored), cells, "{name}");
        let of_bits = cells == Some(true) && matches!(scale, MagnitudeScale::Power { .. });
        assert_eq!(rule.patterns.f16.is_some(), of_bits, "{name}");
        assert_eq!(rule.patterns.bf16.is_some(), of_bits, "{name}");
    }
}

#[test]
fn what_is_not_finite_or_no_everyday_magnitude_is_noticed_anywhere() {
    fn check<A: Element>(bad: f64) {
        let Some(rule) =
            BlockLevels::new(&e2m1(), MagnitudeScale::Power { carry: 0, exponent: 2 }, 1.0, true)
        else {
            return;
        };
        for level in available() {
            for at in (0..700).step_by(7) {
                let mut x = vec![A::from_f32(1.0); 700];
                let Some(usual) = with(level, || found(&rule, &x, 32, (false, 0))) else { continue };
                assert!(usual.0);
                x[at] = A::from_f64(bad);
                assert!(!with(level, || found(&rule, &x, 32, (false, 0))).unwrap().0, "{bad} at {at}");
            }
        }
    }
    for bad in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        check::<f32>(bad);
        check::<f16>(bad);
        check::<bf16>(bad);
    }
    check::<f32>(-1e31);
    check::<bf16>(1e31);
    let Some(rule) =
        BlockLevels::new(&maps(&normal(), Boundary::Floor), MagnitudeScale::Quotient { top: 1.0 }, 1.0, true)
    else {
        return;
    };
    for level in available() {
        let small = with(level, || found(&rule, &[1e-35f32; 40], 32, (false, 0)));
        assert!(small.is_none_or(|(usual, ..)| !usual));
    }
}

#[test]
fn what_the_loops_are_not_for_they_leave() {
    let scale = MagnitudeScale::Quotient { top: 1.0 };
    let maps = maps(&normal(), Boundary::Floor);
    // No number may come of zeros that is not zero.
    for of_zeros in [0.0, f32::INFINITY, f32::NAN, -1.0, 1e-40] {
        assert!(BlockLevels::new(&maps, scale, of_zeros, true).is_none());
    }
    let Some(rule) = BlockLevels::new(&maps, scale, 1.0, true) else { return };
    for width in [0, 1, 16, 48, 512] {
        assert!(found(&rule, &[1.0f32; 64], width, (false, 0)).is_none());
    }
    assert!(found(&rule, &[1.0f64; 64], 32, (false, 0)).is_none());
    let (mut scales, mut codes) = ([0.0; 2], [0; 31]);
    let places = Places { scales: ScalePlaces::F32(&mut scales), codes: &mut codes, stream: false };
    assert!(rule.encode(&[1.0f32; 64], 32, places).is_none());
}
