//! Every built-in configuration round-trips through its text form, and error texts name what is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{DIALECTS, FLOATS, ROUNDINGS, normal_tensor};
use lowbit::calibration::{Interpolation, KlVariant, Tails};
use lowbit::prelude::*;
use lowbit::{CodeRange, ConfigError, ParseError, Registry};
use proptest::prelude::*;

fn calibration() -> impl Strategy<Value = std::sync::Arc<dyn Calibration>> {
    let variants = prop::sample::select(vec![
        KlVariant::SlidesFloor,
        KlVariant::SlidesDigitize,
        KlVariant::SlidesFractional,
        KlVariant::Nvidia,
        KlVariant::Mxnet,
    ]);
    let tails = prop::sample::select(vec![Tails::Both, Tails::Upper, Tails::Lower]);
    let interpolations = prop::sample::select(vec![Interpolation::NearestRank, Interpolation::Linear]);
    // Any float above 0 and up to 100, by its bits: subnormals and 17 digits too.
    let percents = prop_oneof![
        (1u64..=100f64.to_bits()).prop_map(f64::from_bits),
        (1e-3..=100.0f64),
        prop::sample::select(vec![50.0, 99.0, 99.9, 99.999, 100.0]),
    ];
    prop_oneof![
        Just(()).prop_map(|()| -> std::sync::Arc<dyn Calibration> { std::sync::Arc::new(MinMax) }),
        Just(()).prop_map(|()| -> std::sync::Arc<dyn Calibration> { std::sync::Arc::new(Mse) }),
        prop::sample::select(lowbit::calibration::Comparison::built_in().unwrap()),
        (1e-3..1e3f64, 2usize..3000, 2usize..300).prop_map(|(k, bins, levels)| {
            let text = match bins % 4 {
                0 => format!("standard-deviations({k})"),
                1 => format!("nvidia-mse(bins={bins})"),
                2 => format!("torch-histogram(bins={bins})"),
                _ => format!("onnxruntime-entropy(bins={bins}, levels={levels})"),
            };
            Registry::default().parse_calibration(&text).unwrap()
        }),
        (percents, tails, interpolations).prop_map(|(p, tails, how)| -> std::sync::Arc<dyn Calibration> {
            std::sync::Arc::new(Percentile::new(p).unwrap().tails(tails).interpolation(how))
        }),
        (variants, 2usize..3000).prop_map(|(variant, bins)| -> std::sync::Arc<dyn Calibration> {
            std::sync::Arc::new(Kl::default().variant(variant).bins(bins).unwrap())
        }),
    ]
}

fn granularity() -> impl Strategy<Value = std::sync::Arc<dyn Granularity>> {
    type Shared = std::sync::Arc<dyn Granularity>;
    let length = prop_oneof![1usize..9, Just(usize::MAX)];
    prop_oneof![
        Just(()).prop_map(|()| -> Shared { std::sync::Arc::new(PerLayer) }),
        (0usize..2).prop_map(|axis| -> Shared { std::sync::Arc::new(PerChannel::new(Axis(axis))) }),
        (0usize..2, length.clone())
            .prop_map(|(axis, n)| -> Shared { std::sync::Arc::new(PerGroup::new(Axis(axis), n).unwrap()) }),
        (0usize..2, length).prop_map(|(axis, n)| -> Shared {
            std::sync::Arc::new(PerSubChannel::new(Axis(axis), n).unwrap())
        }),
        prop::collection::vec(0usize..9, 2)
            .prop_map(|lengths| -> Shared { std::sync::Arc::new(Blocks::new(lengths)) }),
    ]
}

/// Any valid uniform quantizer of up to 7 bits (the search for the least error is slow above).
fn quantizer() -> impl Strategy<Value = Uniform> {
    let bits = (1u32..8).prop_map(|bits| BitWidth::new(bits).unwrap());
    let ranges = prop::sample::select(vec![
        None,
        Some(SymmetricRange::Restricted),
        Some(SymmetricRange::Full),
        Some(SymmetricRange::MidRise),
    ]);
    let codes = prop::sample::select(vec![None, Some(Codes::Signed), Some(Codes::Unsigned)]);
    let given = prop_oneof![3 => Just(None), 1 => (-9i32..9, 1i32..9).prop_map(Some)];
    (bits, 0usize..3, ranges, codes, given, 0usize..4, any::<bool>(), calibration())
        .prop_map(|(bits, symmetry, range, codes, given, storage, widen, calibration)| {
            let mut uniform = match symmetry {
                0 => Uniform::symmetric(bits),
                1 => Uniform::asymmetric(bits),
                _ => Uniform::asymmetric_real(bits),
            };
            if let Some((low, span)) = given {
                uniform = uniform.code_range(CodeRange::new(low, low + span).unwrap());
            } else {
                uniform = range.into_iter().fold(uniform, Uniform::range);
                uniform = codes.into_iter().fold(uniform, Uniform::codes);
            }
            if widen {
                uniform = uniform.widen_scales();
            }
            uniform.scales(FLOATS[storage]).calibration(calibration)
        })
        .prop_filter("configurations that work", |uniform| uniform.scheme().is_ok())
}

proptest! {
    #![proptest_config(common::cases(150))]

    #[test]
    fn every_configuration_round_trips_to_equal_text_and_behaviour(
        quantizer in quantizer(),
        granularity in granularity(),
        (rounding, dialect, policy) in (0usize..5, 0usize..7, 0usize..3),
        seed in 0..1000u64,
    ) {
        let recipe = quantizer
            .granularity(granularity)
            .rounding(ROUNDINGS[rounding])
            .dialect(DIALECTS[dialect])
            .non_finite([NonFinite::Error, NonFinite::NanToZero, NonFinite::NanToLowest][policy]);
        let text = recipe.to_string();
        let again: Recipe = text.parse().unwrap();
        prop_assert_eq!(&again.to_string(), &text);
        prop_assert_eq!(again.encoding(), recipe.encoding());
        prop_assert_eq!(again.scheme().unwrap(), recipe.scheme().unwrap());
        let x = normal_tensor(&[6, 20], seed);
        match (recipe.quantize(&x), again.quantize(&x)) {
            (Ok(a), Ok(b)) => {
                prop_assert_eq!(a.recipe(), Some(&*text));
                prop_assert_eq!(a, b);
            }
            (a, b) => prop_assert_eq!(a.unwrap_err().to_string(), b.unwrap_err().to_string()),
        }
        // Spaces do not matter.
        let spaced = text.replace(',', " , ").replace(';', " ;  ").replace('(', "( ").replace('=', " = ");
        prop_assert_eq!(spaced.parse::<Recipe>().unwrap().to_string(), text);
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    let x = normal_tensor(&[5, 7], 1);
    let short: Recipe = "uniform".parse().unwrap();
    assert_eq!(short.quantize(&x).unwrap(), Uniform::symmetric(BitWidth::EIGHT).quantize(&x).unwrap());
    let short: Recipe = "uniform(symmetry=asymmetric, bits=4); granularity=channel".parse().unwrap();
    let long = Uniform::asymmetric(BitWidth::new(4).unwrap()).granularity(PerChannel::new(Axis(0)));
    assert_eq!(short.to_string(), long.to_string());
}

#[test]
fn a_quantizer_alone_writes_the_text_of_its_recipe() {
    let uniform = Uniform::symmetric(BitWidth::EIGHT);
    let q = uniform.quantize(&normal_tensor(&[3], 1)).unwrap();
    assert_eq!(q.recipe(), Some(&*uniform.granularity(PerLayer).to_string()));
}

/// Texts with one mistake each, and what the message must name.
#[test]
fn error_texts_name_what_is_wrong() {
    for (text, named) in [
        ("", &["character 0", "quantizer"][..]),
        ("unifrom", &["unifrom", "uniform", "quantizer"]),
        ("Uniform", &["Uniform"]),
        ("uniform(bits=x)", &["bit width", "x"]),
        ("uniform(bits=17)", &["17", "16"]),
        ("uniform(bits=1)", &["1 bit", "restricted"]),
        ("uniform(bits=4, bits=5)", &["bits", "twice"]),
        ("uniform(bit=4)", &["bit", "unknown"]),
        ("uniform(4)", &["4", "unknown"]),
        ("uniform(bits=4", &["parenthes"]),
        ("uniform(bits=4))", &["parenthes"]),
        ("uniform(symmetry=odd)", &["symmetry", "odd", "asymmetric-real"]),
        ("uniform(symmetry=asymmetric, range=full)", &["symmetric range", "asymmetric grid"]),
        ("uniform(scales=f8)", &["f8", "bf16"]),
        ("uniform(code-range=5)", &["code range"]),
        ("uniform(code-range=5..5)", &["5 to 5"]),
        ("uniform(bits=3, code-range=-8..7)", &["-8", "7"]),
        ("uniform(widen-scales=maybe)", &["widen-scales", "maybe"]),
        ("uniform(calibration=minmaxx)", &["minmaxx", "calibration", "minmax", "percentile"]),
        ("uniform(calibration=minmax(3))", &["minmax", "3"]),
        ("uniform(calibration=fixed)", &["fixed", "data"]),
        ("uniform(calibration=percentile)", &["percentile", "missing"]),
        ("uniform(calibration=percentile(0))", &["percentile 0", "100"]),
        ("uniform(calibration=percentile(ten))", &["percentile", "ten"]),
        ("uniform(calibration=percentile(99, tails=left))", &["tails", "left", "upper"]),
        ("uniform(calibration=kl(bins=1))", &["bins", "1", "2"]),
        ("uniform(calibration=kl(variant=tensorrt))", &["tensorrt", "nvidia"]),
        ("uniform; granularity=chanel", &["chanel", "channel", "granularity"]),
        ("uniform; granularity=group", &["group", "channels", "missing"]),
        ("uniform; granularity=group(0)", &["0", "at least 1"]),
        ("uniform; granularity=channel(axis=-1)", &["axis", "-1"]),
        ("uniform; granularity=blocks(1, x)", &["block length", "x"]),
        ("uniform; rounding=up", &["rounding", "up", "nearest-even"]),
        ("uniform; dialect=tflite", &["dialect", "tflite", "onnx"]),
        ("uniform; non-finite=skip", &["skip", "nan-to-zero"]),
        ("uniform; rounding=ceil; rounding=ceil", &["rounding", "twice"]),
        ("uniform; colour=red", &["colour", "unknown"]),
        ("uniform; nearest-even", &["nearest-even", "key=value"]),
        ("uniform;", &["key=value"]),
    ] {
        let error = text.parse::<Recipe>().unwrap_err().to_string();
        for name in named {
            assert!(error.contains(name), "{text:?} gives {error:?}, which does not name {name:?}");
        }
    }
    assert!(matches!(
        "uniform(bits=17)".parse::<Recipe>(),
        Err(ParseError::Config(ConfigError::BitWidth { bits: 17 }))
    ));
    assert!(matches!("uniform(calibration=fixed)".parse::<Recipe>(), Err(ParseError::DataNotInText { .. })));
}

#[test]
fn names_can_be_registered_once_and_must_be_words() {
    let mut registry = Registry::default();
    for name in ["minmax", "", "Caps", "under_score", "-x", "x-", "a b", "1x", "é"] {
        let added = registry.calibration(name, |_, _| Ok(std::sync::Arc::new(MinMax)));
        assert!(matches!(added, Err(ConfigError::Name { name: found }) if found == name), "{name}");
    }
    registry.calibration("my-range2", |_, _| Ok(std::sync::Arc::new(MinMax))).unwrap();
    assert!(registry.parse("uniform(calibration=my-range2)").is_ok());
    assert!(Registry::empty().parse("uniform").is_err());
}
