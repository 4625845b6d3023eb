use super::super::forced::agreed;
use super::*;
use half::{bf16, f16};
use proptest::prelude::*;

/// Numbers on both sides of zero, of which some are zeros and so large a part is not finite.
pub(in super::super) fn numbers<A: Element>(len: usize, seed: u64, bad: f64) -> Vec<A> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut one = || match next() {
        u if u < bad / 3.0 => f64::NAN,
        u if u < bad * 2.0 / 3.0 => f64::INFINITY,
        u if u < bad => f64::NEG_INFINITY,
        u if u > 0.98 => -0.0,
        u => (u - 0.6) * 100.0,
    };
    (0..len).map(|_| A::from_f64(one())).collect()
}

fn check_min_max<A: Element, T: Real>(x: &[A], width: usize, phase: usize) {
    let entries = (phase + x.len()).div_ceil(width).max(1);
    let (mut expected_min, mut expected_max) =
        (vec![f64::INFINITY; entries], vec![f64::NEG_INFINITY; entries]);
    for (i, x) in x.iter().enumerate() {
        let j = (phase + i) / width;
        // The minimum of the standard library passes over NaN too.
        expected_min[j] = expected_min[j].min(x.to_f64());
        expected_max[j] = expected_max[j].max(x.to_f64());
    }
    let (mins, maxs, finite) = agreed(|| {
        let (mut mins, mut maxs) = (vec![T::infinity(); entries], vec![T::neg_infinity(); entries]);
        let finite = min_max(x, width, phase, &mut mins, &mut maxs);
        let exact = |v: Vec<T>| v.iter().map(|v| Element::to_f64(*v).to_bits()).collect::<Vec<_>>();
        (exact(mins), exact(maxs), finite)
    });
    let bits = |v: Vec<f64>| v.iter().map(|v| (v + 0.0).to_bits()).collect::<Vec<_>>();
    assert_eq!(mins, bits(expected_min), "{:?} width {width} phase {phase}", A::TYPE);
    assert_eq!(maxs, bits(expected_max));
    assert_eq!(finite, x.iter().all(|x| x.to_f64().is_finite()));
}

proptest! {
    #[test]
    fn ranges_are_those_of_the_definition(
        len in 0usize..900,
        width in prop_oneof![Just(1usize), 2usize..20, 30usize..70, 250usize..260, Just(100_000usize)],
        phase in any::<prop::sample::Index>(),
        seed in any::<u64>(),
        bad in prop_oneof![Just(0.0), Just(0.002), Just(0.2)],
    ) {
        let phase = phase.index(width);
        let x: Vec<f32> = numbers(len, seed, bad);
        check_min_max::<f32, f32>(&x, width, phase);
        check_min_max::<f32, f64>(&x, width, phase);
        let x: Vec<f64> = numbers(len, seed, bad);
        check_min_max::<f64, f64>(&x, width, phase);
        let x: Vec<f16> = numbers(len, seed, bad);
        check_min_max::<f16, f32>(&x, width, phase);
        let x: Vec<bf16> = numbers(len, seed, bad);
        check_min_max::<bf16, f32>(&x, width, phase);
    }
}

#[test]
fn ranges_accumulate_over_calls() {
    let x: Vec<f32> = numbers(1000, 5, 0.0);
    let (mut mins, mut maxs) = ([f32::INFINITY; 1], [f32::NEG_INFINITY; 1]);
    for x in x.chunks(77) {
        assert!(min_max(x, usize::MAX, 3, &mut mins, &mut maxs));
    }
    assert_eq!(mins[0], x.iter().copied().fold(f32::INFINITY, f32::min));
    assert_eq!(maxs[0], x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
}

#[test]
fn columns_are_ranges_of_one_element_each() {
    for columns in [1usize, 3, 8, 50, 100] {
        for len in [0, 1, 49, 50, 399, 400, 1203] {
            for bad in [0.0, 0.01] {
                let x: Vec<f32> = numbers(len, 11, bad);
                for first in [0, columns / 2, columns - 1] {
                    let found = agreed(|| {
                        let mut ends = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
                        let finite = min_max_columns(&x, first, &mut ends.0, &mut ends.1);
                        let bits = |ends: &[f32]| ends.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                        (bits(&ends.0), bits(&ends.1), finite)
                    });
                    let mut ends = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
                    for (i, x) in x.iter().enumerate() {
                        let j = (first + i) % columns;
                        ends.0[j] = ends.0[j].min(*x);
                        ends.1[j] = ends.1[j].max(*x);
                    }
                    let bits = |ends: &[f32]| ends.iter().map(|x| (x + 0.0).to_bits()).collect::<Vec<_>>();
                    let finite = x.iter().all(|x| x.is_finite());
                    assert_eq!(found, (bits(&ends.0), bits(&ends.1), finite), "{columns} {len} {first}");
                }
            }
        }
    }
    assert!(min_max_columns(&[1.0f32], 3, &mut [0.0], &mut [0.0]));
}

/// A copy of `x` for each kind of bad value, at each of some places; and one without any.
fn spoiled(x: &[f32]) -> impl Iterator<Item = Vec<f32>> {
    let places = [0, x.len() / 3, x.len().saturating_sub(1)];
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let pairs = places.into_iter().flat_map(move |at| bad.map(|bad| Some((at, bad))));
    [None].into_iter().chain(pairs).map(|spoil| {
        let mut x = x.to_vec();
        if let Some((at, bad)) = spoil {
            x[at] = bad;
        }
        x
    })
}

#[test]
fn long_blocks_are_read_several_at_a_time() {
    for (width, len) in [
        (257, 3 * 257),
        (257, 4 * 257 + 1),
        (300, 9 * 300),
        (1000, 13 * 1000 + 999),
        (4099, 20 * 4099),
        (9000, 8 * 9000 + 12),
        (66_000, 66_000),
        (usize::MAX, 65_536),
        (usize::MAX, 65_537),
        (usize::MAX, 70_013),
        (usize::MAX, (1 << 19) - 1),
        (usize::MAX, (1 << 19) + 5),
    ] {
        for x in spoiled(&numbers(len, 3, 0.0)) {
            check_min_max::<f32, f32>(&x, width, 0);
            // Numbers of both signs, and of each.
            for sign in [|x: f32| x, f32::abs, |x: f32| -x.abs()] {
                let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(sign(x))).collect();
                check_min_max::<f16, f32>(&halves, width, 0);
                let halves: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(sign(x))).collect();
                check_min_max::<bf16, f32>(&halves, width, 0);
            }
        }
        check_min_max::<f32, f32>(&numbers(len, 4, 0.0), width, 5);
    }
}

/// Wherever a range begins, beside a number that is NaN, its ends are found in front and behind.
#[test]
fn ranges_begin_anywhere_in_a_cache_line() {
    for len in [256, 259, 512, 530] {
        let x: Vec<f32> = numbers(len + 40, 17, 0.0);
        for first in 0..40 {
            for place in [0, 3, 15, 16, 17, 30, 31, 32, 64, len - 33, len - 17, len - 1] {
                let mut x = x[..first + len].to_vec();
                (x[first + place], x[first + len / 2]) = (-1000.0, f32::NAN);
                check_min_max::<f32, f32>(&x[first..], usize::MAX, 0);
                let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
                check_min_max::<f16, f32>(&halves[first..], usize::MAX, 0);
                let halves: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
                check_min_max::<bf16, f32>(&halves[first..], usize::MAX, 0);
            }
        }
    }
}

#[test]
fn lines_are_read_several_at_a_time() {
    for (columns, len) in [(32, 32 * 9), (33, 33 * 20 + 1), (257, 257 * 7), (1000, 70_123)] {
        for x in spoiled(&numbers(len, 5, 0.0)) {
            let found = agreed(|| {
                let mut ends = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
                let finite = min_max_columns(&x, 3, &mut ends.0, &mut ends.1);
                let bits = |ends: &[f32]| ends.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                (bits(&ends.0), bits(&ends.1), finite)
            });
            let column = |j: usize| x.iter().skip((j + columns - 3) % columns).step_by(columns);
            let low = |j| (column(j).copied().fold(f32::INFINITY, f32::min) + 0.0).to_bits();
            let high = |j| (column(j).copied().fold(f32::NEG_INFINITY, f32::max) + 0.0).to_bits();
            assert!((0..columns).all(|j| (found.0[j], found.1[j]) == (low(j), high(j))), "{columns}");
            assert_eq!(found.2, x.iter().all(|x| x.is_finite()));
            for sign in [|x: f32| x, f32::abs, |x: f32| -x.abs()] {
                let x: Vec<f32> = x.iter().map(|&x| sign(x)).collect();
                columns_of_halves::<f16>(&x, columns);
                columns_of_halves::<bf16>(&x, columns);
            }
        }
    }
}

/// So many lines that they are taken to be past the caches.
#[test]
fn lines_past_the_caches() {
    let columns = 1003;
    let far: Vec<f32> = numbers(2100 * columns + 5, 21, 0.0);
    for bad in [0.0, f32::NAN, f32::NEG_INFINITY] {
        let mut x = far.clone();
        x[1_234_567] = bad;
        let mut expected = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
        for (i, x) in x.iter().enumerate() {
            let (min, max) = (&mut expected.0[(i + 3) % columns], &mut expected.1[(i + 3) % columns]);
            (*min, *max) = (min.min(*x), max.max(*x));
        }
        let bits = |ends: &[f32]| ends.iter().map(|x| (x + 0.0).to_bits()).collect::<Vec<_>>();
        let found = agreed(|| {
            let mut ends = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
            let finite = min_max_columns(&x, 3, &mut ends.0, &mut ends.1);
            (bits(&ends.0), bits(&ends.1), finite)
        });
        assert_eq!(found, (bits(&expected.0), bits(&expected.1), bad == 0.0), "{bad}");
    }
    let mut x = [&*far, &*far].concat();
    columns_of_halves::<f16>(&x, columns);
    x[1_234_567] = f32::NAN;
    columns_of_halves::<bf16>(&x, columns);
}

/// Asserts that the ranges of numbers of 16 bits are those of the same numbers of f32.
fn columns_of_halves<A: Element>(x: &[f32], columns: usize) {
    let halves: Vec<A> = x.iter().map(|&x| A::from_f32(x)).collect();
    let wide: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    let bits = |ends: &[f32]| ends.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut expected = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
    let finite = min_max_columns(&wide, 3, &mut expected.0, &mut expected.1);
    let found = agreed(|| {
        let mut ends = (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
        let finite = min_max_columns(&halves, 3, &mut ends.0, &mut ends.1);
        (bits(&ends.0), bits(&ends.1), finite)
    });
    assert_eq!(found, (bits(&expected.0), bits(&expected.1), finite), "{columns} {:?}", A::TYPE);
}

/// Columns about the lengths of vectors and groups of them, lines about the number of streams.
#[test]
fn columns_of_halves_compare_bits() {
    for columns in [32, 33, 63, 64, 65, 127, 128, 129, 159, 160, 256, 261] {
        for lines in [1, 7, 8, 9, 16, 29] {
            columns_of_words(columns, lines, f16::INFINITY.to_bits(), f16::from_bits);
            columns_of_words(columns, lines, bf16::INFINITY.to_bits(), bf16::from_bits);
        }
    }
}

/// Checks numbers of both signs, of each, zeros and subnormal ones, without and with one that is not finite; some are added
/// to ranges that are there.
fn columns_of_words<A: Element>(columns: usize, lines: usize, infinity: u16, number: impl Fn(u16) -> A) {
    const NEGATIVE: u16 = 0x8000;
    let len = columns * lines;
    let mut state = len as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as usize
    };
    let words: Vec<u16> = (0..len)
        .map(|i| {
            let (random, sign) = (next() as u16, next() as u16 & NEGATIVE);
            match i % columns % 7 {
                0 | 1 => (random % infinity) | sign,
                2 => random % infinity,
                3 => (random % infinity) | NEGATIVE,
                4 => sign,
                5 => (random % 128) | sign,
                _ => (infinity - 1 - random % 2) | sign,
            }
        })
        .collect();
    let before =
        |j: usize| if j.is_multiple_of(5) { (-0.25, 0.5) } else { (f32::INFINITY, f32::NEG_INFINITY) };
    let kinds = [infinity, infinity | NEGATIVE, infinity + 1, (infinity + 1) | NEGATIVE, 0x7FFF, 0xFFFF];
    let mut cases = vec![None];
    for at in [0, columns - 1, len - columns, len - 1, next() % len, next() % len] {
        cases.extend(kinds.map(|kind| Some((at, kind))));
    }
    for case in cases {
        let mut words = words.clone();
        if let Some((at, word)) = case {
            words[at] = word;
        }
        let x: Vec<A> = words.iter().map(|&word| number(word)).collect();
        let mut expected: (Vec<f32>, Vec<f32>) = (0..columns).map(before).unzip();
        for (i, x) in x.iter().enumerate() {
            let (min, max) = (&mut expected.0[i % columns], &mut expected.1[i % columns]);
            (*min, *max) = (min.min(x.to_f32()), max.max(x.to_f32()));
        }
        let bits = |ends: &[f32]| ends.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let positive = |ends: &[f32]| ends.iter().map(|x| (x + 0.0).to_bits()).collect::<Vec<_>>();
        let found = agreed(|| {
            let mut ends: (Vec<f32>, Vec<f32>) = (0..columns).map(before).unzip();
            let finite = min_max_columns(&x, 0, &mut ends.0, &mut ends.1);
            (bits(&ends.0), bits(&ends.1), finite)
        });
        let finite = x.iter().all(|x| x.to_f32().is_finite());
        let expected = (positive(&expected.0), positive(&expected.1), finite);
        assert_eq!(found, expected, "{columns} {lines} {case:?} {:?}", A::TYPE);
    }
}

#[test]
fn an_infinity_of_before_is_none_of_now() {
    let x: Vec<f32> = numbers(1000, 9, 0.0);
    for width in [50, 256, 300, usize::MAX] {
        let finite = agreed(|| {
            let (mut mins, mut maxs) = ([f32::NEG_INFINITY; 20], [f32::INFINITY; 20]);
            min_max(&x, width, 0, &mut mins, &mut maxs)
        });
        assert!(finite, "{width}");
    }
    let mut ends = ([f32::NEG_INFINITY; 50], [f32::INFINITY; 50]);
    assert!(agreed(|| min_max_columns(&x, 0, &mut ends.0, &mut ends.1)));
    let halves: Vec<f16> = numbers(1000, 9, 0.0);
    assert!(agreed(|| min_max_columns(&halves, 0, &mut ends.0, &mut ends.1)));
}

#[test]
fn short_entries_stop_the_reduction() {
    let (mut mins, mut maxs) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 1]);
    min_max(&[1.0f32, 2.0, 3.0], 1, 0, &mut mins, &mut maxs);
    min_max(&[half::f16::ONE; 600], 2, 1, &mut mins, &mut maxs);
    min_max(&[1.0f32; 3], 0, 0, &mut [], &mut maxs);
    assert_eq!((mins, maxs), ([1.0, f32::INFINITY], [1.0]));
}
