use super::super::forced::{agreed, available, with};
use super::super::stream;
use super::*;
use crate::element::{Element, Real};

fn maps(values: &[f32], boundary: Boundary) -> LevelMaps<f32> {
    let mut maps = LevelMaps::default();
    maps.reset(values.len());
    maps.push(values, boundary);
    maps
}

fn codes_of(x: &[f32], values: &[f32], boundary: Boundary) -> Vec<u8> {
    let maps = maps(values, boundary);
    let params = LevelParams { maps: &maps, shared: true, scale: &[], multiply: false };
    agreed(|| {
        let mut codes = vec![0u8; x.len()];
        encode(x, usize::MAX, 0, &params, &mut codes);
        codes
    })
}

/// Codes to the nearest, the search being prepared.
fn prepared<T: Real>(x: &[T], values: &[T]) -> Vec<u8> {
    let mut maps = LevelMaps::default();
    maps.reset(values.len());
    maps.push(values, Boundary::Midpoint(Ties::Low));
    maps.prepare(1 << 14);
    let params = LevelParams { maps: &maps, shared: true, scale: &[], multiply: false };
    agreed(|| {
        let mut codes = vec![0u8; x.len()];
        encode(x, usize::MAX, 0, &params, &mut codes);
        codes
    })
}

#[test]
fn a_prepared_search_gives_the_same() {
    // Evenly spaced, crowded at zero, in two crowds far apart, of few distinct values, too large to be divided.
    let tables: [fn(f64) -> f64; 6] = [
        |u| u,
        |u| u.powi(9),
        |u| if u < 0.0 { u - 1e6 } else { u },
        |u| (4.0 * u).round(),
        |u| u * 3e38,
        |u| u * 1e-44,
    ];
    for (table, count) in tables.iter().flat_map(|table| [(table, 34), (table, 100), (table, 256)]) {
        let level = |i: usize| table(i as f64 / (count - 1) as f64 * 2.0 - 1.0);
        let wide: Vec<f64> = (0..count).map(level).collect();
        let narrow: Vec<f32> = wide.iter().map(|&level| level as f32).collect();
        // Values near and at all levels and middles, and far from them.
        let near = wide.windows(2).flat_map(|pair| [pair[0], 0.5 * pair[0] + 0.5 * pair[1], pair[1]]);
        let mut x: Vec<f64> = near.flat_map(|x| [x, x.next_down(), x.next_up(), 1.5 * x]).collect();
        x.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 0.0]);
        let narrow_x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        assert_eq!(prepared(&narrow_x, &narrow), codes_of(&narrow_x, &narrow, Boundary::Midpoint(Ties::Low)));
        let mut maps = LevelMaps::default();
        maps.reset(count);
        maps.push(&wide, Boundary::Midpoint(Ties::Low));
        let cuts: Vec<f64> = maps.cuts.clone();
        let codes = maps.codes.clone();
        let expected: Vec<u8> =
            x.iter().map(|&x| codes[cuts.iter().filter(|&&cut| x >= cut).count()] as u8).collect();
        assert_eq!(prepared(&x, &wide), expected);
    }
}

#[test]
fn every_boundary_is_where_its_rule_says() {
    let levels = [-2.0f32, -1.0, 0.0, 1.0, 2.0];
    let x = [-9.0, -1.5, -1.2, -0.5, -0.0, 0.3, 0.5, 1.5, 1.6, 7.0, f32::INFINITY];
    for (boundary, expected) in [
        (Boundary::Midpoint(Ties::Low), [0, 0, 1, 1, 2, 2, 2, 3, 4, 4, 4]),
        (Boundary::Midpoint(Ties::High), [0, 1, 1, 2, 2, 2, 3, 4, 4, 4, 4]),
        (Boundary::Midpoint(Ties::Away), [0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 4]),
        (Boundary::Floor, [0, 0, 0, 1, 2, 2, 2, 3, 3, 4, 4]),
        (Boundary::Ceil, [0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4]),
        (Boundary::TowardZero, [0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4]),
    ] {
        assert_eq!(codes_of(&x, &levels, boundary), expected, "{boundary:?}");
    }
}

#[test]
fn special_values_and_equal_levels() {
    // Codes of no finite value are not chosen, and zeros of both signs are two levels.
    let values = [0.0, 1.0, f32::NAN, f32::INFINITY, -0.0, -1.0, 1.0, 0.0];
    let x = [0.0, -0.0, -1e-30, 1e-30, 0.9, f32::INFINITY, f32::NEG_INFINITY];
    assert_eq!(codes_of(&x, &values, Boundary::Midpoint(Ties::Low)), [0, 0, 4, 0, 1, 1, 5]);
}

#[test]
fn long_tables_are_searched_and_short_ones_compared_with_the_same_result() {
    let values: Vec<f32> = (0..256).map(|i| ((i * 37) % 256) as f32 * 0.37 - 40.0).collect();
    let x: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.7).sin() * 60.0).collect();
    for count in [2, 3, 31, 32, 33, 34, 100, 255, 256] {
        let values = &values[..count];
        let nearest = |x: f32| {
            let by = |&a: &usize, &b: &usize| (values[a] - x).abs().total_cmp(&(values[b] - x).abs());
            (0..count).min_by(by).unwrap() as u8
        };
        let expected: Vec<u8> = x.iter().map(|&x| nearest(x)).collect();
        assert_eq!(codes_of(&x, values, Boundary::Midpoint(Ties::Low)), expected, "{count}");
        assert_eq!(prepared(&x, values), expected, "{count}");
    }
}

#[test]
fn blocks_have_their_own_maps_and_scales() {
    let mut maps = LevelMaps::default();
    maps.reset(3);
    for scale in [1.0f32, 10.0, 100.0] {
        maps.push(&[-scale, 0.0, scale], Boundary::Midpoint(Ties::Low));
    }
    let x = [0.4f32, 0.6, -7.0, 7.0, 4.0, 70.0];
    let params = LevelParams { maps: &maps, shared: false, scale: &[], multiply: false };
    let mut codes = [0u8; 6];
    assert!(!encode(&x, 2, 0, &params, &mut codes));
    assert_eq!(codes, [1, 2, 0, 2, 1, 2]);
    let params = LevelParams { shared: true, scale: &[1.0, 10.0, 100.0], ..params };
    let mut again = [0u8; 6];
    encode(&x, 2, 0, &params, &mut again);
    assert_eq!(again, codes);
    let values: Vec<f32> = [1.0f32, 10.0, 100.0].iter().flat_map(|s| [-s, 0.0, *s, 0.0]).collect();
    let tables = LevelTables { values: &values, size: 4, shared: false, scale: &[] };
    let decoded = agreed(|| {
        let mut out = [0.0f64; 6];
        decode(&codes, &tables, 2, 0, false, &mut out);
        out
    });
    assert_eq!(decoded, [0.0, 1.0, -10.0, 10.0, 0.0, 100.0]);
}

#[test]
fn the_sigmoid_chooses_between_two_levels() {
    let maps = maps(&[-2.0, 2.0], Boundary::Floor);
    let params = LevelParams { maps: &maps, shared: true, scale: &[], multiply: false };
    // σ(x/2) = 0.5, 0.7310586, 0.0066929, 1, 0
    let x = [0.0f32, 0.0, 2.0, 2.0, -10.0, -10.0, f32::INFINITY, f32::NEG_INFINITY];
    let uniforms = [0.49, 0.51, 0.731, 0.7311, 0.0066, 0.0067, 0.99999, 0.00001];
    let mut codes = [9u8; 8];
    encode_stochastic(&x, usize::MAX, 0, &params, true, &uniforms, &mut codes);
    assert_eq!(codes, [1, 0, 1, 0, 1, 0, 1, 0]);
}

#[test]
fn stochastic_codes_are_the_neighbours() {
    let maps = maps(&[0.0, 1.0, 4.0], Boundary::Floor);
    let params = LevelParams { maps: &maps, shared: true, scale: &[], multiply: false };
    let x = [-1.0f32, 0.25, 0.25, 1.0, 2.5, 2.5, 4.0, 9.0];
    let uniforms = [0.0, 0.24, 0.26, 0.0, 0.49, 0.51, 0.0, 0.0];
    let mut codes = [9u8; 8];
    encode_stochastic(&x, usize::MAX, 0, &params, false, &uniforms, &mut codes);
    assert_eq!(codes, [0, 1, 0, 1, 2, 1, 2, 2]);
}

/// Values at, around and far from all cuts.
fn values_around(cuts: &[f32]) -> Vec<f32> {
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 1e-45, -1e-45];
    cuts.iter().flat_map(|cut| [cut.next_down(), *cut, cut.next_up(), -*cut]).chain(special).collect()
}

#[test]
fn short_tables_are_searched_with_the_result_of_comparing_all() {
    for count in 1..=17_usize {
        // Ascending, with neighbours that touch and some that are missing, and codes in no order.
        let values: Vec<f32> =
            (0..count).map(|i| (i as f32 - 5.3) * 0.37 + ((i * i) % 7) as f32 * 0.05).collect();
        for missing in [0, 1, 3] {
            let mut values = values.clone();
            values.rotate_left(count / 3);
            values.iter_mut().take(missing.min(count - 1)).for_each(|value| *value = f32::NAN);
            for boundary in [Boundary::Midpoint(Ties::Low), Boundary::Midpoint(Ties::Away), Boundary::Ceil] {
                let plain = maps(&values, boundary);
                let mut prepared = plain.clone();
                prepared.prepare(1 << 10);
                let finite: Vec<f32> = plain.cuts.iter().copied().filter(|cut| cut.is_finite()).collect();
                let around = values_around(&finite);
                let x: Vec<f32> = around.iter().cycle().copied().take(331).collect();
                for (width, phase) in
                    [(usize::MAX, 0), (331, 0), (64, 0), (32, 5), (40, 8), (24, 7), (7, 3), (1, 0)]
                {
                    let entries = if width == usize::MAX { 1 } else { (phase + x.len()).div_ceil(width) };
                    let scale: Vec<f32> = (0..entries).map(|j| 1.0 + (j % 5) as f32 * 0.3).collect();
                    for (scale, multiply) in [(&scale[..], false), (&scale[..], true), (&[][..], false)] {
                        let run = |maps: &LevelMaps<f32>| {
                            let params = LevelParams { maps, shared: true, scale, multiply };
                            agreed(|| {
                                let mut codes = vec![0u8; x.len()];
                                let nan = encode(&x, width, phase, &params, &mut codes);
                                (codes, nan)
                            })
                        };
                        assert_eq!(run(&prepared), run(&plain), "{count} {boundary:?} {width} {phase}");
                    }
                }
                // Whether there is a NaN, wherever it is.
                for at in 0..75 {
                    let mut x = [1.0; 75];
                    x[at] = f32::NAN;
                    let params = LevelParams { maps: &prepared, shared: true, scale: &[], multiply: true };
                    assert!(agreed(|| encode(&x, usize::MAX, 0, &params, &mut [0u8; 75])));
                    x[at] = -0.0;
                    assert!(!agreed(|| encode(&x, usize::MAX, 0, &params, &mut [0u8; 75])));
                }
            }
        }
    }
}

#[test]
fn short_tables_of_blocks_are_their_own() {
    let mut maps = LevelMaps::default();
    maps.reset(16);
    for block in 0..4 {
        let values: Vec<f32> = (0..16).map(|i| (i as f32 - 7.0) * (block + 1) as f32).collect();
        maps.push(&values, Boundary::Midpoint(Ties::Low));
    }
    let x: Vec<f32> = (0..150).map(|i| (i as f32 * 0.9).sin() * 40.0).collect();
    let run = |maps: &LevelMaps<f32>| {
        let params = LevelParams { maps, shared: false, scale: &[], multiply: false };
        agreed(|| {
            let mut codes = [0u8; 150];
            encode(&x, 40, 3, &params, &mut codes);
            codes
        })
    };
    let plain = run(&maps);
    maps.prepare(1 << 10);
    assert_eq!(run(&maps), plain);
}

#[test]
fn long_tables_are_searched_with_the_result_of_comparing_all() {
    for count in [17, 18, 32, 33, 34, 63, 64, 65, 100, 128, 129, 200, 255, 256_usize] {
        // Crowded towards zero, in no order.
        let values: Vec<f32> = (0..count).map(|i| (i * 101 % 257) as f32 / 128.5 - 1.0).collect();
        let values: Vec<f32> = values.iter().map(|u| u * u * u + 0.1 * u).collect();
        let plain = maps(&values, Boundary::Midpoint(Ties::Away));
        let mut prepared = plain.clone();
        prepared.prepare(1 << 10);
        let x: Vec<f32> =
            values_around(&plain.cuts).into_iter().chain((0..3000).map(|i| i as f32 * 1e-3 - 1.5)).collect();
        for (width, phase) in [(usize::MAX, 0), (1024, 3), (100, 99), (64, 0), (32, 5), (1, 0)] {
            let entries = if width == usize::MAX { 1 } else { (phase + x.len()).div_ceil(width) };
            let scale: Vec<f32> = (0..entries).map(|j| 1.0 + (j % 5) as f32 * 0.3).collect();
            for (scale, multiply) in [(&scale[..], false), (&scale[..], true), (&[][..], false)] {
                let run = |maps: &LevelMaps<f32>| {
                    let params = LevelParams { maps, shared: true, scale, multiply };
                    agreed(|| {
                        let mut codes = vec![0u8; x.len()];
                        let nan = encode(&x, width, phase, &params, &mut codes);
                        (codes, nan)
                    })
                };
                assert_eq!(run(&prepared), run(&plain), "{count} {width} {phase}");
            }
        }
        // Whether there is a NaN, wherever it is.
        for at in (0..1100).step_by(7) {
            let mut x = [1.0; 1100];
            x[at] = f32::NAN;
            let params = LevelParams { maps: &prepared, shared: true, scale: &[], multiply: true };
            assert!(agreed(|| encode(&x, usize::MAX, 0, &params, &mut [0u8; 1100])));
            x[at] = -0.0;
            assert!(!agreed(|| encode(&x, usize::MAX, 0, &params, &mut [0u8; 1100])));
        }
    }
}

#[test]
fn long_tables_of_blocks_are_their_own() {
    let mut maps = LevelMaps::default();
    maps.reset(100);
    for block in 0..4 {
        let values: Vec<f32> = (0..100 - block).map(|i| (i as f32 - 50.0) * (block + 1) as f32).collect();
        maps.push(&values, Boundary::Midpoint(Ties::Low));
    }
    let x: Vec<f32> = (0..2300).map(|i| (i as f32 * 0.9).sin() * 190.0).collect();
    let run = |maps: &LevelMaps<f32>| {
        let params = LevelParams { maps, shared: false, scale: &[], multiply: false };
        agreed(|| {
            let mut codes = vec![0u8; x.len()];
            encode(&x, 600, 30, &params, &mut codes);
            codes
        })
    };
    let plain = run(&maps);
    maps.prepare(1 << 10);
    assert_eq!(run(&maps), plain);
}

#[test]
fn bytes_decode_to_the_values_of_their_tables() {
    let fields: Vec<u8> = (0..2500).map(|i| (i * 37 + i / 7) as u8).collect();
    for (size, len) in [(256, 2500_usize), (200, 2500), (20, 1100), (256, 3), (256, 0)] {
        for (width, phase) in [(usize::MAX, 0), (64, 0), (1024, 1000), (100, 33), (7, 2)] {
            let blocks = if width == usize::MAX { 1 } else { (phase + len).div_ceil(width).max(1) };
            let values: Vec<f32> = (0..size * blocks).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
            let scales: Vec<f32> = (0..blocks).map(|j| 0.5 + j as f32).collect();
            for (shared, scale) in [(true, &scales[..]), (false, &scales[..]), (true, &[]), (false, &[])] {
                let tables = LevelTables { values: &values, size, shared, scale };
                let expected: Vec<f32> = (0..len)
                    .map(|i| {
                        let block = if width == usize::MAX { 0 } else { (phase + i) / width };
                        let code = usize::from(fields[i]);
                        let table = if shared { 0 } else { block * size };
                        let level = if code < size { values[table + code] } else { 0.0 };
                        if scale.is_empty() { level } else { level * scale[block] }
                    })
                    .collect();
                for stream in [false, true] {
                    let found = agreed(|| {
                        let mut out = vec![9.0f32; len + 9];
                        decode(&fields[..len], &tables, width, phase, stream, &mut out[7..len + 7]);
                        stream::finish();
                        assert!(out[..7].iter().chain(&out[len + 7..]).all(|&value| value == 9.0));
                        out[7..len + 7].to_vec()
                    });
                    assert_eq!(found, expected, "{size} {len} {width} {phase} {shared} {stream}");
                }
            }
        }
    }
}

#[test]
fn packed_codes_decode_as_unpacked_ones() {
    use crate::kernel::pack;
    use half::{bf16, f16};

    fn check<A: Element>(
        shared: bool,
        scaled: bool,
        (first, len): (usize, usize),
        (width, phase): (usize, usize),
    ) {
        let bytes: Vec<u8> = (0..400).map(|i| (i * 37 + i / 7) as u8).collect();
        let blocks = (phase + len).div_ceil(width.max(1)).max(1);
        let values: Vec<f32> = (0..16 * blocks).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let scale: Vec<f32> = (0..blocks).map(|j| 0.5 + j as f32).collect();
        let scale = if scaled { &scale[..] } else { &[] };
        let tables = LevelTables { values: &values, size: 16, shared, scale };
        let mut fields = vec![0u8; len];
        pack::unpack(&bytes, 4, first, &mut fields);
        let mut expected = vec![A::default(); len];
        decode(&fields, &tables, width, phase, false, &mut expected);
        let check = || {
            let mut found = vec![A::default(); len];
            if decode_nibbles(&bytes, first, &tables, (width, phase), false, &mut found) {
                let bits = |x: &[A]| x.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&found), bits(&expected), "{first} {len} {width} {phase}");
                for at in [0, 1, 2, 4, 13] {
                    let mut streamed = vec![A::default(); len + 16];
                    let streamed = &mut streamed[at..at + len];
                    assert!(decode_nibbles(&bytes, first, &tables, (width, phase), true, streamed));
                    stream::finish();
                    assert_eq!(bits(streamed), bits(&expected), "{first} {len} {width} {phase} streamed");
                }
            } else {
                assert!(found.iter().all(|x| x.to_f64() == 0.0));
            }
        };
        available().into_iter().for_each(|level| with(level, check));
    }

    for shared in [true, false] {
        for scaled in [true, false] {
            for place in [(0, 700), (1, 700), (2, 17), (33, 1), (31, 0), (100, 7), (101, 8)] {
                for pattern in [(64, 0), (32, 31), (17, 4), (1, 0), (700, 3), (9, 8)] {
                    check::<f32>(shared, scaled, place, pattern);
                    check::<f64>(shared, scaled, place, pattern);
                    check::<f16>(shared, scaled, place, pattern);
                    check::<bf16>(shared, scaled, place, pattern);
                }
            }
        }
    }
    // Bytes that end early leave the rest.
    let tables = LevelTables { values: &[1.0f32; 16], size: 16, shared: true, scale: &[] };
    let mut out = [9.0f32; 20];
    if decode_nibbles(&[0x21; 5], 1, &tables, (20, 0), false, &mut out) {
        assert_eq!(out, core::array::from_fn(|i| if i < 9 { 1.0 } else { 9.0 }));
    }
    // Other types and sizes have none.
    let tables = LevelTables { values: &[1.0f64; 16], size: 16, shared: true, scale: &[] };
    assert!(!decode_nibbles(&[0x21; 5], 0, &tables, (20, 0), false, &mut [0.0f64; 4]));
    let tables = LevelTables { values: &[1.0f32; 8], size: 8, shared: true, scale: &[] };
    assert!(!decode_nibbles(&[0x21; 5], 0, &tables, (20, 0), false, &mut [0.0f32; 4]));
}

#[test]
fn tables_without_close_neighbours_take_one_comparison_with_the_same_result() {
    for (count, bend) in [(40, 0.0), (100, 1.0), (256, 0.0), (256, 2.0), (256, 40.0)] {
        let level = |i: usize| {
            let u = i as f64 / (count - 1) as f64 * 2.0 - 1.0;
            u + bend * u.powi(3)
        };
        let values: Vec<f32> = (0..count).map(|i| level(i) as f32).collect();
        let mut plain = maps(&values, Boundary::Midpoint(Ties::High));
        // A region with fewer levels repeats the last.
        plain.reset(256);
        plain.push(&values, Boundary::Midpoint(Ties::High));
        let mut fine = plain.clone();
        fine.prepare(1 << 16);
        assert_eq!(fine.searches.cells.is_empty(), bend == 40.0, "{count} {bend}");
        let x: Vec<f32> =
            values_around(&plain.cuts).into_iter().chain((0..999).map(|i| level(i) as f32)).collect();
        for scale in [&[][..], &[0.7]] {
            let run = |maps: &LevelMaps<f32>| {
                let params = LevelParams { maps, shared: true, scale, multiply: false };
                agreed(|| {
                    let mut codes = vec![0u8; x.len()];
                    let nan = encode(&x, usize::MAX, 0, &params, &mut codes);
                    (codes, nan)
                })
            };
            assert_eq!(run(&fine), run(&plain), "{count} {bend}");
        }
    }
}

#[test]
fn tables_that_crowd_towards_zero_take_one_comparison_with_the_same_result() {
    // Floating-point numbers of a few bits, with codes that are not finite; powers, a few steps of which are missing.
    let minifloat = |exponent_bits: i32, mantissa_bits: i32| -> Vec<f32> {
        let (last, steps) = (1 << exponent_bits, 1 << mantissa_bits);
        let magnitudes = (0..last * steps).map(|code| match (code / steps, code % steps) {
            (exponent, mantissa) if exponent + 1 == last && mantissa + 1 == steps => f32::NAN,
            (0, mantissa) => mantissa as f32 * 2f32.powi(1 - last / 2 - mantissa_bits),
            (exponent, mantissa) => {
                (steps + mantissa) as f32 * 2f32.powi(exponent - last / 2 - mantissa_bits)
            }
        });
        let magnitudes: Vec<f32> = magnitudes.collect();
        // Zeros of both signs would be two levels.
        magnitudes.iter().copied().chain(magnitudes.iter().skip(1).map(|x| -x)).collect()
    };
    let powers: Vec<f32> = (-60..60).filter(|e| e % 7 != 0).map(|e| 2f32.powi(e)).collect();
    let tables = [minifloat(4, 3), minifloat(5, 2), minifloat(3, 3), powers];
    for (values, boundary) in tables.iter().flat_map(|values| {
        [Boundary::Midpoint(Ties::Low), Boundary::Midpoint(Ties::Away), Boundary::Floor, Boundary::Ceil]
            .map(|boundary| (values, boundary))
    }) {
        let plain = maps(values, boundary);
        let mut fine = plain.clone();
        fine.prepare(1 << 12);
        assert!(!fine.searches.cells.is_empty(), "{boundary:?}");
        let x: Vec<f32> = values_around(&plain.cuts).into_iter().chain([-f32::NAN, 1e-40]).collect();
        for (scale, multiply) in [(&[][..], false), (&[0.7][..], false), (&[1.3][..], true)] {
            let run = |maps: &LevelMaps<f32>| {
                let params = LevelParams { maps, shared: true, scale, multiply };
                agreed(|| {
                    let mut codes = vec![0u8; x.len()];
                    let nan = encode(&x, usize::MAX, 0, &params, &mut codes);
                    (codes, nan)
                })
            };
            assert_eq!(run(&fine), run(&plain), "{boundary:?}");
        }
    }
}

#[test]
fn numbers_of_16_bits_have_the_codes_of_the_same_ones_of_32_bits() {
    use half::{bf16, f16};

    fn check<A: Element>(of_bits: fn(u16) -> A, maps: &LevelMaps<f32>, served: bool) {
        // Every number, and then those of the second map.
        let x: Vec<A> = (0..=u16::MAX).chain(0..=u16::MAX).map(of_bits).collect();
        let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        let params = LevelParams { maps, shared: false, scale: &[], multiply: false };
        for (width, phase) in [(1 << 16, 0), (70_000, 3), (1 << 17, 0)] {
            let (expected, nan) = agreed(|| {
                let mut codes = vec![0u8; x.len()];
                let nan = encode(&wide, width, phase, &params, &mut codes);
                (codes, nan)
            });
            for level in available() {
                let mut codes = vec![0u8; x.len()];
                let found = with(level, || encode_halves(&x, width, phase, maps, &mut codes));
                assert!(
                    found.is_none() || (served && found == Some(nan) && codes == expected),
                    "{width} {level}"
                );
            }
        }
    }

    for crowded in [false, true] {
        let mut maps = LevelMaps::default();
        maps.reset(200);
        for block in 0..2 {
            let level = |i: i32| (i - 90) as f32 * 0.02 * (block + 1) as f32;
            let values: Vec<f32> = (0..200 - block)
                .map(level)
                .map(|level| if crowded { level * level.powi(8) } else { level })
                .collect();
            maps.push(&values, Boundary::Midpoint(Ties::Low));
        }
        maps.prepare(1 << 16);
        check(f16::from_bits, &maps, !crowded);
        check(bf16::from_bits, &maps, !crowded);
        check::<f32>(f32::from, &maps, false);
    }
}
