//! What one method promises against the others, and what chance promises: k-means has the least error of all scalar
//! methods, and stochastic rounding the moments of the literature.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;

use common::SplitMix64;
use common::methods::{self, of_vectors, recipe};
use lowbit::prelude::*;
use lowbit::qat::{NoiseKind, QuantNoise};
use ndarray::{Array1, Array2, ArrayD, IxDyn, arr1};
use safetensors::{Dtype, SafeTensors};

/// The squared error of each region.
fn squared_errors(x: &ArrayD<f32>, q: &QuantizedTensor) -> Vec<f64> {
    let restored = q.dequantize::<f64, IxDyn>().unwrap();
    let mut sums = vec![0.0; q.tiling().regions()];
    for (at, (&x, &y)) in x.iter().zip(&restored).enumerate() {
        sums[q.tiling().region_of(at)] += (f64::from(x) - y).powi(2);
    }
    sums
}

/// Asserts that no method of at most 2^bits levels for each region beats k-means in any region.
fn assert_least(x: &ArrayD<f32>, granularity: &str, bits: u32, texts: &[String], what: &str) {
    let kmeans = recipe(&format!("kmeans(bits={bits})"), granularity).quantize(x).unwrap();
    let least = squared_errors(x, &kmeans);
    let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    for text in texts {
        let q = recipe(text, granularity).quantize(x).unwrap_or_else(|error| panic!("{text}: {error}"));
        for (region, (&least, error)) in least.iter().zip(squared_errors(x, &q)).enumerate() {
            // Centroids are rounded to f32, by which each value may be off more: a centroid is a minimum, so that this
            // counts squared. The rest is what sums in f64 may be off.
            let rounding =
                q.tiling().region_len(region) as f64 * (f64::from(largest) * 2f64.powi(-24)).powi(2);
            assert!(
                least <= error * (1.0 + 1e-12) + rounding,
                "{what}, region {region}, {bits} bits: k-means {least:e}, {text} {error:e}"
            );
        }
    }
}

/// Scalar methods of at most 2^bits levels.
fn scalar(bits: u32) -> Vec<String> {
    let fits = |text: &String| {
        let codes = recipe(text, "layer").scheme().unwrap().codes().count();
        !of_vectors(text) && codes <= 1 << bits
    };
    methods::of_widths(1..=bits).into_iter().filter(fits).collect()
}

#[test]
fn k_means_is_never_worse_on_samples() {
    let mut random = SplitMix64(5);
    let mut laplace = |_| {
        let u = random.uniform() - 0.5;
        (-u.signum() * (1.0 - 2.0 * u.abs()).max(1e-16).ln()) as f32
    };
    let laplace: Vec<f32> = (0..1200).map(&mut laplace).collect();
    let samples: [(&str, Vec<f32>); 6] = [
        ("laplace", laplace.clone()),
        ("normal", (0..1200).map(|_| random.normal() as f32).collect()),
        ("uniform", (0..1200).map(|_| random.within(-1.0, 1.0) as f32).collect()),
        ("one-sided", laplace.iter().map(|x| x.max(0.0)).collect()),
        ("few values", (0..1200).map(|_| [-1.0, 0.3, 0.5, 0.75, 2.0, 9.0][random.below(6)]).collect()),
        (
            "outliers",
            laplace.iter().enumerate().map(|(i, x)| if i % 100 == 7 { 30.0 * x } else { *x }).collect(),
        ),
    ];
    for (what, values) in samples {
        let x = ArrayD::from_shape_vec(IxDyn(&[3, 400]), values).unwrap();
        for bits in [1, 2, 3, 4, 6] {
            assert_least(&x, "channel(axis=0)", bits, &scalar(bits), what);
        }
    }
}

/// Some trained kernels, at most 12 of their output channels; none, visibly, where the files are absent.
fn kernels() -> Vec<(String, ArrayD<f32>)> {
    let folder = std::env::var_os("LOWBIT_WEIGHTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/weights"), PathBuf::from);
    let mut kernels = Vec::new();
    for network in ["resnet8_cifar10", "silero_vad_16k", "streaming_wakeword"] {
        let path = folder.join(network).join("model.safetensors");
        let Ok(bytes) = std::fs::read(&path) else {
            eprintln!("skipped: no weights at {}", path.display());
            continue;
        };
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = file.tensors();
        tensors.retain(|(_, view)| view.shape().len() >= 2 && view.dtype() == Dtype::F32);
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, view) in tensors.into_iter().skip(1).take(1) {
            let values: Vec<f32> =
                view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            // Keras has output channels last.
            let shape = view.shape();
            let (channels, flipped) =
                if name.ends_with("kernel") { (shape[shape.len() - 1], true) } else { (shape[0], false) };
            let each = values.len() / channels;
            let of = |channel: usize, i: usize| {
                if flipped { values[i * channels + channel] } else { values[channel * each + i] }
            };
            let rows = Array2::from_shape_fn((channels.min(12), each), |(channel, i)| of(channel, i));
            kernels.push((format!("{network} {name}"), rows.into_dyn()));
        }
    }
    kernels
}

#[test]
fn k_means_is_never_worse_on_trained_weights() {
    for (name, x) in kernels() {
        for bits in [2, 3, 4] {
            assert_least(&x, "channel(axis=0)", bits, &scalar(bits), &name);
        }
    }
}

/// The levels next to `x` that stochastic rounding may choose, and the share of the upper one, by asking for both ends.
fn neighbours(frozen: &Frozen, x: f32) -> (f64, f64) {
    let at = |u: f64| {
        let q = frozen.quantize_with_uniforms(&arr1(&[x]), |_| u).unwrap();
        q.dequantize_region::<f64>(0).unwrap()[0]
    };
    (at(1.0 - 2f64.powi(-17)), at(2f64.powi(-17)))
}

/// Texts of every kind of grid: uniform, shared levels, codebooks, binary codes, two pieces.
const STOCHASTIC: [&str; 14] = [
    "uniform(bits=3)",
    "uniform(bits=4, symmetry=asymmetric)",
    "uniform(bits=2, range=mid-rise)",
    "log(bits=4)",
    "apot(bits=4)",
    "normal-float(bits=4)",
    "float(e2m1)",
    "mx(e2m1, scale-mode=ceil)",
    "kmeans(bits=3)",
    "kmeans(bits=7)",
    "lloyd-max(bits=2)",
    "binary-code(bits=3)",
    "ternary",
    "piecewise-linear(bits=4)",
];

#[test]
fn stochastic_rounding_is_unbiased_with_the_variance_of_two_neighbours() {
    // `08_stochastic.json`: between levels a and b, with f = (x − a)/(b − a), the mean is x and the variance f(1 − f)(b −
    // a)²; bounds of five standard deviations.
    const DRAWS: usize = 20_000;
    let n = DRAWS as f64;
    let mut random = SplitMix64(12);
    let sample = Array1::from_shape_fn(400, |_| random.normal() as f32);
    for (i, text) in STOCHASTIC.into_iter().enumerate() {
        let recipe = recipe(text, "layer").rounding(Rounding::Stochastic { seed: 40 + i as u64 });
        let frozen = recipe.freeze_from(&sample).unwrap();
        for x in [-0.9f32, -0.31, -0.01, 0.2, 0.55, 1.1] {
            let (a, b) = neighbours(&frozen, x);
            let exact = f64::from(x);
            assert!(a <= exact && exact <= b || !frozen_covers(&frozen, x), "{text} {x}: {a} {b}");
            let q = frozen.quantize(&Array1::from_elem(DRAWS, x)).unwrap();
            let back = q.dequantize::<f64, ndarray::Ix1>().unwrap();
            assert!(back.iter().all(|&y| y == a || y == b), "{text} {x}: {a} {b}");
            let (gap, mean) = (b - a, back.sum() / n);
            if gap == 0.0 {
                continue;
            }
            let f = (exact - a) / gap;
            let variance = f * (1.0 - f);
            // 16 bits for each number: its bias is at most 2^-17, and f32 knows the share to 2^-22.
            let bias = 2f64.powi(-17) + 2f64.powi(-22) * (exact.abs().max(gap) / gap);
            assert!((mean - exact).abs() <= gap * (5.0 * (variance / n).sqrt() + bias), "{text} {x}: {mean}");
            let found = back.iter().map(|y| ((y - mean) / gap).powi(2)).sum::<f64>() / n;
            let tolerance = if (f - 0.5).abs() < 0.02 {
                1e-3
            } else {
                5.0 * (variance * (1.0 - 2.0 * f).powi(2) / n).sqrt() + 5.0 / n + 2.0 * bias
            };
            assert!((found - variance).abs() <= tolerance, "{text} {x}: {found} for {variance}");
        }
    }
}

fn frozen_covers(frozen: &Frozen, x: f32) -> bool {
    let q = frozen.quantize(&arr1(&[x])).unwrap();
    let range = q.clipping_range(0).unwrap();
    range.low() < f64::from(x) && f64::from(x) < range.high()
}

#[test]
fn levels_themselves_are_never_moved() {
    let mut random = SplitMix64(3);
    let sample = Array1::from_shape_fn(500, |_| random.normal() as f32);
    for text in STOCHASTIC {
        // Scales by which f32 values are divided exactly; own levels are not divided at all.
        let text = match text {
            "normal-float(bits=4)" => "normal-float(bits=4, scales=e8m0)",
            "uniform(bits=3)" => "uniform(bits=3, scales=e8m0)",
            "uniform(bits=4, symmetry=asymmetric)" | "uniform(bits=2, range=mid-rise)" | "apot(bits=4)" => {
                continue;
            }
            "float(e2m1)" | "ternary" => continue,
            text => text,
        };
        let recipe = recipe(text, "layer");
        let nearest = recipe.freeze_from(&sample).unwrap();
        let levels = nearest.quantize(&sample).unwrap().dequantize::<f32, ndarray::Ix1>().unwrap();
        for seed in 0..20 {
            let chance = recipe.clone().rounding(Rounding::Stochastic { seed }).freeze_from(&sample).unwrap();
            let again = chance.quantize(&levels).unwrap().dequantize::<f32, ndarray::Ix1>().unwrap();
            assert_eq!(again, levels, "{text} {seed}");
        }
    }
}

/// x and how often it goes up in 100000 draws of SplitMix64(9000 + i): `08_stochastic.json`.
const UPS: [(f64, usize); 13] = [
    (0.0, 0),
    (0.1, 9901),
    (0.25, 24803),
    (0.5, 50045),
    (0.75, 74973),
    (0.9, 89935),
    (-0.1, 90038),
    (-0.25, 74932),
    (-0.5, 50027),
    (-1.3, 70154),
    (2.7, 69898),
    (3.0, 0),
    (0.001, 107),
];

#[test]
fn counts_of_the_reference_are_met_exactly() {
    const DRAWS: usize = 100_000;
    let integers = Array1::from_iter((-7..8).map(f64::from));
    for (i, (x, ups)) in UPS.into_iter().enumerate() {
        let mut random = SplitMix64(9000 + i as u64);
        let numbers: Vec<f64> = (0..DRAWS).map(|_| random.uniform()).collect();
        let tensor = Array1::from_elem(DRAWS, x);
        let chance = Rounding::Stochastic { seed: 0 };
        let count = |frozen: &Frozen| {
            let q = frozen.quantize_with_uniforms(&tensor, |at| numbers[at]).unwrap();
            let values = q.dequantize::<f64, ndarray::Ix1>().unwrap();
            assert!(values.iter().all(|&y| y == x.floor() || y == x.floor() + 1.0));
            values.iter().filter(|&&y| y > x.floor()).count()
        };
        // The integers as a uniform grid.
        let uniform =
            Uniform::symmetric(BitWidth::new(4).unwrap()).scales(lowbit::FloatType::F64).rounding(chance);
        let frozen = Frozen::with_scales(&uniform, &[DRAWS], [1.0], []).unwrap();
        assert_eq!(count(&frozen), ups, "{x}");
        // And as a codebook: as many distinct values as it has levels, or fewer.
        let book = KMeans::new(BitWidth::new(4).unwrap()).rounding(chance).freeze_from(&integers).unwrap();
        assert_eq!(count(&book), ups, "{x}");
    }
}

#[test]
fn small_steps_add_up() {
    // `08_stochastic.json`: 0.01 a hundred thousand times on a grid of integers. The nearest stays at 0; the mean by
    // chance is 1000, within five standard deviations.
    const STEPS: usize = 100_000;
    let recipe = Uniform::symmetric(BitWidth::new(16).unwrap()).granularity(PerLayer);
    let sum = |rounding| {
        // The sum itself is an integer, so that the step alone is rounded.
        let frozen = Frozen::with_scales(&recipe.clone().rounding(rounding), &[STEPS], [1.0], []).unwrap();
        let q = frozen.quantize(&Array1::from_elem(STEPS, 0.01f32)).unwrap();
        q.codes().iter().sum::<i32>()
    };
    assert_eq!(sum(Rounding::NearestEven), 0);
    for seed in 0..10 {
        let found = f64::from(sum(Rounding::Stochastic { seed }));
        assert!((842.7..=1157.3).contains(&found), "{found}");
    }
    // One after the other, each step by the number of its index.
    let mut accumulator = 0.0f64;
    let frozen =
        Frozen::with_scales(&recipe.rounding(Rounding::Stochastic { seed: 0 }), &[1], [1.0], []).unwrap();
    let mut random = SplitMix64(1);
    for _ in 0..STEPS / 20 {
        let u = random.uniform();
        let q = frozen.quantize_with_uniforms(&arr1(&[accumulator + 0.2]), |_| u).unwrap();
        accumulator = q.dequantize_region::<f64>(0).unwrap()[0];
    }
    // 5000 · 0.2 = 1000, of standard deviation √(5000 · 0.16).
    assert!((accumulator - 1000.0).abs() <= 5.0 * 800f64.sqrt(), "{accumulator}");
}

#[test]
fn errors_of_values_anywhere_in_a_step_are_those_of_the_literature() {
    // `08_stochastic.json`: a twelfth of a step squared to the nearest, a sixth by chance, a third downward.
    let x = Array1::from_shape_fn(300_000, |i| (i as f64 + 0.5) / 3e5 * 6.0);
    let uniform = Recipe::new(Uniform::symmetric(BitWidth::new(4).unwrap()));
    for (rounding, expected) in [
        (Rounding::NearestEven, 1.0 / 12.0),
        (Rounding::Stochastic { seed: 9 }, 1.0 / 6.0),
        (Rounding::Floor, 1.0 / 3.0),
    ] {
        let frozen = Frozen::with_scales(&uniform.clone().rounding(rounding), &[300_000], [1.0], []).unwrap();
        let found = frozen.quantize(&x).unwrap().errors_against(&x).unwrap().mse();
        // Five standard deviations of the mean of squared errors by chance, each below 0.25; sums without chance are
        // those of integrals.
        let tolerance = if rounding.seed().is_some() { 5.0 * 0.25 / 3e5f64.sqrt() } else { 1e-6 };
        assert!((found - expected).abs() <= tolerance, "{rounding}: {found}");
    }
}

#[test]
fn signs_by_chance_have_the_moments_of_both_sigmoids() {
    // `08_stochastic.json`, x with the probability of +1 by the sigmoid and by the hard sigmoid.
    const P: [(f32, f64, f64); 9] = [
        (-4.0, 0.01798620996209156, 0.0),
        (-2.0, 0.11920292202211755, 0.0),
        (-1.0, 0.2689414213699951, 0.0),
        (-0.5, 0.3775406687981454, 0.25),
        (0.0, 0.5, 0.5),
        (0.5, 0.6224593312018546, 0.75),
        (1.0, 0.7310585786300049, 1.0),
        (2.0, 0.8807970779778823, 1.0),
        (4.0, 0.9820137900379085, 1.0),
    ];
    const DRAWS: usize = 100_000;
    let n = DRAWS as f64;
    for (i, (x, soft, hard)) in P.into_iter().enumerate() {
        let seed = 60 + i as u64;
        for (rounding, p) in
            [(Rounding::StochasticSigmoid { seed }, soft), (Rounding::Stochastic { seed }, hard)]
        {
            let q = Sign.rounding(rounding).quantize(&Array1::from_elem(DRAWS, x)).unwrap();
            let mean = q.dequantize::<f64, ndarray::Ix1>().unwrap().sum() / n;
            let deviation = (4.0 * p * (1.0 - p) / n).sqrt();
            // Twice the bias of 16 bits.
            let bias = if p * (1.0 - p) > 0.0 { 2f64.powi(-16) } else { 0.0 };
            assert!((mean - (2.0 * p - 1.0)).abs() <= 5.0 * deviation + bias, "{rounding} {x}: {mean}");
            if matches!(rounding, Rounding::StochasticSigmoid { .. }) {
                assert!((mean - f64::from(x / 2.0).tanh()).abs() <= 5.0 * deviation + bias);
            }
        }
    }
}

#[test]
fn the_numbers_of_elements_do_not_depend_on_where_a_tensor_begins_or_how_it_is_cut() {
    let x = common::normal_tensor(&[6, 5000], 4);
    for text in STOCHASTIC {
        let recipe = recipe(text, "channel(axis=0)").rounding(Rounding::Stochastic { seed: 11 });
        let frozen = recipe.freeze_from(&x).unwrap();
        let q = frozen.quantize(&x).unwrap();
        // Element by element, by the published rule.
        let words = lowbit::random::Ars::new(11);
        let uniform = |index: usize| {
            let word = words.block(index as u64 / 8)[index % 8 / 2];
            let half = if index.is_multiple_of(2) { word & 0xFFFF } else { word >> 16 };
            (f64::from(half) + 0.5) / 65536.0
        };
        assert!(frozen.quantize_with_uniforms(&x, uniform).unwrap() == q, "{text}");
        // The beginning of the tensor alone, of one row.
        let row = x.slice(ndarray::s![..1, ..]);
        let first = recipe.quantize(&row).unwrap();
        assert_eq!(
            first.codes().iter().collect::<Vec<_>>(),
            q.codes().iter().take(5000).collect::<Vec<_>>(),
            "{text}"
        );
    }
}

#[test]
fn quant_noise_takes_its_share_of_values_or_of_whole_blocks() {
    let x = common::normal_tensor(&[40, 500], 8);
    let recipe = recipe("uniform(bits=2)", "channel(axis=0)");
    let quantized = recipe.quantize(&x).unwrap().dequantize::<f32, IxDyn>().unwrap();
    for rate in [0.0, 0.05, 0.5, 1.0] {
        let noise = QuantNoise::new(recipe.clone(), rate).unwrap();
        let noisy = noise.apply(&x, 3).unwrap();
        let (mut taken, mut n) = (0usize, 0.0f64);
        for ((&noisy, &x), &quantized) in noisy.iter().zip(&x).zip(&quantized) {
            assert!(noisy == x || noisy == quantized);
            // The ends of ranges are levels.
            if x != quantized {
                (taken, n) = (taken + usize::from(noisy == quantized), n + 1.0);
            }
        }
        let deviation = (rate * (1.0 - rate) / n).sqrt();
        assert!((taken as f64 / n - rate).abs() <= 5.0 * deviation + 2f64.powi(-17), "{rate}: {taken}");
        assert_eq!(noisy, noise.apply(&x, 3).unwrap());
        let turned = x.t().as_standard_layout().into_owned();
        assert_eq!(noisy, noise.apply(&turned.t(), 3).unwrap());
    }
    let blocks = QuantNoise::new(recipe, 0.5)
        .unwrap()
        .blocks(PerSubChannel::new(Axis(0), 100).unwrap())
        .kind(NoiseKind::Zero);
    let noisy = blocks.apply(&x, 5).unwrap();
    let mut zeroed = 0;
    for (noisy, x) in noisy.as_slice().unwrap().chunks(100).zip(x.as_slice().unwrap().chunks(100)) {
        let zero = noisy.iter().all(|&x| x == 0.0);
        assert!(zero || noisy == x);
        zeroed += usize::from(zero);
    }
    // 200 blocks, 100 expected, of standard deviation √50.
    assert!((65..=135).contains(&zeroed), "{zeroed}");
}

/// Thirty values on both sides of zero.
fn ramp() -> Array1<f32> {
    Array1::from_shape_fn(30, |i| (i as f32 - 14.5) / 10.0)
}

/// Those of uniform levels, of signs and of noise by a transcription of the generator in another language, from the
/// definition of AES.
#[test]
fn outputs_by_seed_do_not_change_from_version_to_version() {
    let codes = |text: &str, rounding| {
        recipe(text, "layer").rounding(rounding).quantize(&ramp()).unwrap().codes().unpack()
    };
    let chance = Rounding::Stochastic { seed: 2021 };
    assert_eq!(
        codes("uniform(bits=3)", chance),
        [-3, -3, -3, -3, -2, -2, -2, -2, -2, -2, -1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3]
    );
    assert_eq!(
        codes("normal-float(bits=3)", chance),
        [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 6, 7, 7, 7]
    );
    assert_eq!(
        codes("kmeans(bits=2)", chance),
        [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 1, 2, 2, 2, 2, 2, 2, 3, 3, 2, 3, 3, 3, 3, 3]
    );
    assert_eq!(
        codes("binary-code(bits=2)", chance),
        [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 2, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 3, 3, 1, 3, 3, 3, 3, 3]
    );
    assert_eq!(
        codes("sign", Rounding::StochasticSigmoid { seed: 2021 }),
        [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1]
    );
    let noise = QuantNoise::new(recipe("uniform(bits=2)", "layer"), 0.5).unwrap();
    let hundredths: Vec<i32> =
        noise.apply(&ramp(), 2021).unwrap().iter().map(|x| (x * 100.0).round() as i32).collect();
    assert_eq!(
        hundredths,
        [
            -145, -135, -145, -115, -145, -95, -85, -75, -65, -55, 0, 0, 0, 0, 0, 5, 15, 25, 0, 0, 55, 65,
            145, 145, 95, 105, 115, 125, 145, 145
        ]
    );
}
