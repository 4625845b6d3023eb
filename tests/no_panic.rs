//! No input panics: nonsense texts, any configuration, any shape, special values, all element types.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{SplitMix64, cast};
use half::{bf16, f16};
use lowbit::metrics::Errors;
use lowbit::prelude::*;
use lowbit::{Element, Registry};
use ndarray::{ArrayD, Axis, Ix2, IxDyn};
use proptest::prelude::*;

/// Parts of texts: names, keys, values, punctuation, nonsense.
const PARTS: [&str; 64] = [
    "uniform",
    "layer",
    "channel",
    "group",
    "subchannel",
    "blocks",
    "minmax",
    "percentile",
    "kl",
    "mse",
    "fixed",
    "bits",
    "symmetry",
    "range",
    "codes",
    "scales",
    "calibration",
    "axis",
    "variant",
    "bins",
    "tails",
    "rounding",
    "dialect",
    "non-finite",
    "granularity",
    "code-range",
    "widen-scales",
    "symmetric",
    "asymmetric-real",
    "full",
    "nearest-even",
    "onnx",
    "nan-to-zero",
    "f16",
    "true",
    "=",
    "=",
    "=",
    "(",
    "(",
    ")",
    ")",
    ",",
    ",",
    ";",
    "; ",
    "..",
    "-8..7",
    "0",
    "1",
    "4",
    "8",
    "17",
    "-1",
    "99.9",
    "1e400",
    "NaN",
    "inf",
    "18446744073709551616",
    " ",
    "é",
    "\u{0}",
    "--",
    "",
];

fn nonsense() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..14).prop_map(|parts| parts.concat())
}

/// Texts that are mostly right: settings drawn from lists with some wrong ones among them.
fn recipes() -> impl Strategy<Value = String> {
    let pick = |values: &'static [&'static str]| prop::sample::select(values);
    (
        (
            pick(&["1", "2", "3", "4", "5", "7", "8", "9", "12", "16", "0", "17"]),
            pick(&["symmetric", "asymmetric", "asymmetric-real"]),
            pick(&["", "", ", range=full", ", range=mid-rise", ", range=restricted"]),
            pick(&["", "", ", codes=signed", ", codes=unsigned", ", code-range=-8..7", ", code-range=1..2"]),
            pick(&["f32", "f64", "f16", "bf16"]),
            pick(&["", ", widen-scales=true", ", widen-scales=false"]),
        ),
        pick(&[
            "minmax", "percentile(99.9)", "percentile(1e-300)", "percentile(50, tails=upper)", "percentile(100)",
            "percentile(0.1, tails=lower, interpolation=linear)", "kl", "kl(variant=mxnet, bins=70)", "kl(bins=2)",
            "kl(variant=nvidia, bins=9)", "kl(variant=slides-fractional, bins=33)", "kl(variant=slides-floor)", "mse",
        ]),
        pick(&[
            "layer", "channel", "channel(axis=1)", "channel(axis=18446744073709551615)", "group(2, axis=1)",
            "group(18446744073709551615)", "subchannel(3, axis=1)", "subchannel(18446744073709551615)",
            "blocks(1, 2)", "blocks(0, 3, 1)", "blocks()", "blocks(18446744073709551615, 2)",
        ]),
        pick(&["nearest-even", "nearest-away", "floor", "ceil", "toward-zero"]),
        pick(&["onnx", "torch", "fbgemm-legacy", "openvino", "aimet", "hqq", "gptq"]),
        pick(&["error", "nan-to-zero", "nan-to-lowest"]),
    )
        .prop_map(|((bits, symmetry, range, codes, scales, widen), calibration, granularity, rounding, dialect, policy)| {
            // Searching the least error of thousands of levels takes seconds without optimization.
            let wide = bits.len() > 1 && calibration == "mse";
            let calibration = if wide { "percentile(99)" } else { calibration };
            format!(
                "uniform(bits={bits}, symmetry={symmetry}{range}{codes}, scales={scales}{widen}, \
                 calibration={calibration}); granularity={granularity}; rounding={rounding}; dialect={dialect}; \
                 non-finite={policy}"
            )
        })
}

/// Rank 0 to 10, with zero lengths.
fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        6 => prop::collection::vec(1usize..6, 0..4),
        2 => prop::collection::vec(0usize..4, 0..5),
        1 => prop::collection::vec(1usize..3, 9..11),
    ]
}

/// Numbers of a mood: ordinary, tiny, huge, or every special one.
fn tensor(shape: &[usize], mood: usize, seed: u64) -> ArrayD<f64> {
    const SPECIAL: [f64; 16] = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        -5e-324,
        0.0,
        -0.0,
        f32::MAX as f64,
        f32::MIN as f64,
        1e-45,
        1e-40,
        65504.0,
        -6e-8,
    ];
    let mut random = SplitMix64(seed);
    ArrayD::from_shape_fn(IxDyn(shape), |_| match mood {
        0 => random.normal(),
        1 => random.normal() * 1e-40,
        2 => random.normal() * 1e38,
        3 => random.normal() * 1e-310,
        4 => random.normal() * 1e307,
        5 => SPECIAL[3 + random.below(13)],
        6 => SPECIAL[random.below(16)],
        _ => {
            if random.below(20) == 0 {
                SPECIAL[random.below(16)]
            } else {
                random.normal()
            }
        }
    })
}

/// Everything that can be done with a recipe and a tensor. What succeeds must hang together.
fn exercise<A: Element>(recipe: &Recipe, x: &ArrayD<A>) {
    let mut out = match recipe.quantize(x) {
        Ok(q) => q,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(out.shape(), x.shape());
    assert_eq!(out.grids().len(), out.tiling().regions());
    let codes = out.scheme().codes();
    assert!(out.codes().iter().all(|code| codes.contains(code)));
    for region in 0..out.tiling().regions() {
        let (scale, zero) = common::grid(&out, region);
        assert!(scale > 0.0 && scale.is_finite() && zero.is_finite(), "{scale} {zero}");
        let _ = (out.dequantize_region::<f32>(region).unwrap(), out.clipping_range(region).unwrap());
    }
    let restored = out.dequantize::<A, IxDyn>().unwrap();
    let _ = (
        out.dequantize::<f16, Ix2>(),
        out.dequantize_row::<f64>(0),
        format!("{out} {out:?}"),
        out.codes_used(),
    );
    let errors = Errors::between(x, &restored).unwrap();
    let _ = (errors.sqnr(), errors.cosine_similarity(), errors.relative_frobenius_error());
    let _ = (out.errors_against(x).unwrap(), out.clipped_share(x).unwrap());
    let _ = lowbit::report::Report::of(x, &out).unwrap().to_string();
    let _ =
        lowbit::integer::fold_zero_point(&out, Axis(0), codes, codes.min()).map(|fold| fold.start_i32(None));
    if let Ok(frozen) = recipe.freeze_from(x) {
        let again = frozen.quantize(x).unwrap();
        assert_eq!(again.codes(), out.codes());
        let _ = frozen.quantize(&ArrayD::<f32>::from_elem(IxDyn(&[3]), f32::INFINITY));
    }
    recipe.quantize_into(&x.t(), &mut out).ok();
}

proptest! {
    #![proptest_config(common::cases(3000))]

    #[test]
    fn nonsense_is_an_error(text in nonsense()) {
        let registry = Registry::default();
        for error in [
            text.parse::<Recipe>().err().map(|error| error.to_string()),
            registry.parse_quantizer(&text).err().map(|error| error.to_string()),
            registry.parse_calibration(&text).err().map(|error| error.to_string()),
            registry.parse_granularity(&text).err().map(|error| error.to_string()),
        ] {
            prop_assert!(error.is_none_or(|error| !error.is_empty()));
        }
    }
}

proptest! {
    #![proptest_config(common::cases(6000))]

    #[test]
    fn no_configuration_and_no_tensor_panics(
        text in recipes(),
        shape in shapes(),
        (mood, element) in (0usize..9, 0usize..4),
        seed in any::<u64>(),
    ) {
        let Ok(recipe) = text.parse::<Recipe>() else { return Ok(()) };
        let x = tensor(&shape, mood, seed);
        match element {
            0 => exercise(&recipe, &x),
            1 => exercise(&recipe, &cast::<f32, _, _>(&x)),
            2 => exercise(&recipe, &cast::<f16, _, _>(&x)),
            _ => exercise(&recipe, &cast::<bf16, _, _>(&x)),
        }
    }
}
