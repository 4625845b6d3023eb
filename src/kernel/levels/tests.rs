use super::super::forced::agreed;
use super::*;
use crate::element::Real;

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
        decode(&codes, &tables, 2, 0, &mut out);
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
