//! Bad and borderline input for every built-in method: the typed error or the value that the crate promises.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[macro_use]
mod common;

use common::methods::{self, fits_alone, has_nan, of_vectors, reads_nothing, recipe};
use common::{cast, normal_tensor};
use half::{bf16, f16};
use lowbit::prelude::*;
use lowbit::tensor::Note;
use lowbit::{ConfigError, DataError, Error};
use ndarray::{Array1, Array2, ArrayD, Ix1, Ix2, IxDyn, arr0, arr1, s};

const BLOCKS: &str = "subchannel(32, axis=0)";

fn restored(q: &QuantizedTensor) -> Vec<f64> {
    q.dequantize::<f64, IxDyn>().unwrap().into_iter().collect()
}

/// The values that a region of a frozen recipe can take at its ends.
fn ends(frozen: &Frozen, rows: usize) -> (Vec<f64>, Vec<f64>) {
    let at = |value: f32| restored(&frozen.quantize(&Array2::from_elem((rows, 1), value)).unwrap());
    (at(-f32::MAX), at(f32::MAX))
}

#[test]
fn nan_is_an_error_that_names_its_index() {
    for text in methods::all() {
        let clean = normal_tensor(&[3, 48], 1);
        let mut x = clean.clone();
        x[[1, 33]] = f32::NAN;
        let recipe = recipe(&text, BLOCKS);
        assert_error!(recipe.quantize(&x), Error::Data(DataError::NotANumber { index }) if index == [1, 33]);
        let frozen = recipe.freeze_from(&clean).unwrap();
        assert_error!(frozen.quantize(&x), Error::Data(DataError::NotANumber { index }) if index == [1, 33]);
        assert_error!(recipe.quantize(&x.t().as_standard_layout().t()), Error::Data(DataError::NotANumber { index }) if index == [1, 33]);
        for error in [
            recipe.quantize(&cast::<f64, _, _>(&x)).unwrap_err(),
            recipe.quantize(&cast::<f16, _, _>(&x)).unwrap_err(),
            recipe.quantize(&cast::<bf16, _, _>(&x)).unwrap_err(),
        ] {
            assert!(
                matches!(&error, Error::Data(DataError::NotANumber { index }) if *index == [1, 33]),
                "{text}: {error}"
            );
        }
    }
}

#[test]
fn nan_by_policy_is_zero_the_lowest_or_nan() {
    for text in methods::all() {
        let mut x = normal_tensor(&[3, 48], 1);
        let recipe = recipe(&text, BLOCKS);
        for at in [[0, 0], [1, 33], [2, 47]] {
            x[at] = f32::NAN;
        }
        let skip = recipe.clone().non_finite(NonFinite::NanToZero);
        let q = skip.quantize(&x).unwrap_or_else(|error| panic!("{text}: {error}"));
        let frozen = skip.freeze_from(&x).unwrap();
        let zero = frozen.quantize(&Array2::<f32>::zeros((3, 48))).unwrap();
        let skipped = Note::SkippedNonFinite { count: 1 };
        if !reads_nothing(&text) {
            let notes: Vec<_> =
                q.notes().iter().filter(|(_, note)| *note == skipped).map(|(at, _)| *at).collect();
            assert_eq!(notes, [0, 3, 5], "{text}");
        }
        assert!(restored(&q).iter().all(|value| value.is_finite()), "{text}");
        let lowest = recipe.clone().non_finite(NonFinite::NanToLowest);
        let propagate = recipe.non_finite(NonFinite::Propagate);
        if of_vectors(&text) {
            assert_error!(lowest.quantize(&x), Error::Config(ConfigError::Conflict { .. }));
            assert_error!(propagate.quantize(&x), Error::Config(ConfigError::Conflict { .. }));
            continue;
        }
        let (all, zeros) = (restored(&frozen.quantize(&x).unwrap()), restored(&zero));
        for flat in [0, 48 + 33, 2 * 48 + 47] {
            assert_eq!(all[flat], zeros[flat], "{text}");
        }
        let frozen = lowest.freeze_from(&x).unwrap();
        let q = lowest.quantize(&x).unwrap();
        let lows = restored(&frozen.quantize(&Array2::from_elem((3, 48), -f32::MAX)).unwrap());
        for flat in [0, 48 + 33, 2 * 48 + 47] {
            // Scales of either sign turn the order of the levels around.
            if !text.starts_with("block-search") {
                assert_eq!(restored(&q)[flat], lows[flat], "{text}");
            }
            assert!(q.scheme().codes().contains(q.code(flat).unwrap()));
        }
        if has_nan(&text) {
            let q = propagate.quantize(&x).unwrap();
            let all = restored(&q);
            let nans: Vec<usize> = (0..all.len()).filter(|&at| all[at].is_nan()).collect();
            assert_eq!(nans, [0, 48 + 33, 2 * 48 + 47], "{text}");
        } else {
            assert_error!(propagate.quantize(&x), Error::Config(ConfigError::Conflict { .. }));
        }
    }
}

#[test]
fn infinities_are_an_error_while_calibrating_and_saturate_on_given_grids() {
    for text in methods::all() {
        let clean = normal_tensor(&[2, 48], 2);
        let mut x = clean.clone();
        (x[[0, 5]], x[[1, 40]]) = (f32::INFINITY, f32::NEG_INFINITY);
        let recipe = recipe(&text, BLOCKS);
        let finite =
            |q: &QuantizedTensor| assert!(restored(q).iter().all(|value| value.is_finite()), "{text}");
        if reads_nothing(&text) {
            finite(&recipe.quantize(&x).unwrap());
        } else {
            assert_error!(recipe.quantize(&x), Error::Data(DataError::Infinite { index, value })
                if index == [0, 5] && value == f64::INFINITY);
            let skip = recipe.clone().non_finite(NonFinite::NanToZero);
            let q = skip.quantize(&x).unwrap();
            finite(&q);
            // The grids are those of the other values.
            let notes: Vec<_> = q
                .notes()
                .iter()
                .filter(|(_, note)| matches!(note, Note::SkippedNonFinite { count: 1 }))
                .collect();
            assert_eq!(notes.len(), 2, "{text}: {notes:?}");
        }
        let frozen = recipe.freeze_from(&clean).unwrap();
        let q = frozen.quantize(&x).unwrap();
        finite(&q);
        if of_vectors(&text) {
            continue;
        }
        let mut largest = clean.clone();
        (largest[[0, 5]], largest[[1, 40]]) = (f32::MAX, -f32::MAX);
        assert!(q.codes() == frozen.quantize(&largest).unwrap().codes(), "{text}");
        let saturated = restored(&q);
        let (low, high) = (q.clipping_range(3).unwrap(), q.clipping_range(0).unwrap());
        let most = restored(&frozen.quantize(&clean).unwrap());
        let top = most[..32].iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let bottom = most[80..].iter().fold(f64::INFINITY, |a, &b| a.min(b));
        assert!(saturated[5] >= top && saturated[48 + 40] <= bottom, "{text}: {high} {low}");
        finite(&frozen.quantize(&cast::<f16, _, _>(&x)).unwrap());
    }
}

#[test]
fn zeros_come_back_as_zeros() {
    let mut mixed = normal_tensor(&[4, 48], 3);
    mixed.slice_mut(s![1..3, ..]).fill(0.0);
    let minus = ArrayD::<f32>::from_elem(IxDyn(&[2, 48]), -0.0);
    let mut wrong = Vec::new();
    for text in methods::all() {
        let recipe = recipe(&text, BLOCKS);
        let q = recipe
            .quantize(&ArrayD::<f32>::zeros(IxDyn(&[2, 48])))
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut all = restored(&q);
        all.extend(restored(&recipe.quantize(&minus).unwrap()));
        // Regions of zeros beside others.
        all.extend(&restored(&recipe.quantize(&mixed).unwrap())[48..3 * 48]);
        all.extend(restored(&recipe.quantize(&cast::<f64, _, _>(&minus)).unwrap()));
        // Without a level at zero, one as near as scales allow.
        let most = match recipe.scheme().unwrap() {
            _ if text == "sign" => 1.0,
            // A scale of zero comes back as near to it as the dynamic map is to the mean of all scales.
            _ if text.contains("laplace") && text.contains("centered") => 1e-2,
            _ if text.contains("mid-rise") => 2e-38,
            lowbit::tensor::Scheme::Levels(scheme)
                if scheme.table().is_some_and(|table| !table.values().contains(&0.0)) =>
            {
                scheme.scales().min_scale()
            }
            _ => 0.0,
        };
        let largest = all.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        if largest > most {
            wrong.push(format!("{text}: {largest:e}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// By how much a number may be off that is the largest of its region, as a share of it.
fn share_of_constant(text: &str) -> f64 {
    match text {
        // ±1, whatever the values; no more than 6, 448, 240 or 57344.
        "sign" | "ternary(scale=unit)" => f64::INFINITY,
        _ if text.contains("unscaled") => f64::INFINITY,
        _ => 1.0,
    }
}

#[test]
fn a_constant_comes_back_near() {
    let mut wrong = Vec::new();
    for text in methods::all() {
        for c in [3.0f32, -0.1, 1e30, 1e-30] {
            let x = Array2::from_elem((2, 48), c);
            let q = match recipe(&text, BLOCKS).quantize(&x) {
                Ok(q) => q,
                // Storages of a small range say so.
                Err(Error::Data(DataError::ScaleStorage { region: 0, storage, .. })) => {
                    assert!(
                        storage != lowbit::FloatType::F32 && !(0.01..10.0).contains(&c.abs()),
                        "{text} {c}"
                    );
                    continue;
                }
                Err(Error::Data(DataError::Level { region: 0, storage, .. })) => {
                    assert!(storage == lowbit::FloatType::F16 && c == 1e30, "{text} {c}");
                    continue;
                }
                Err(error) => panic!("{text} {c}: {error}"),
            };
            let all = restored(&q);
            let off = all.iter().fold(0.0f64, |off, back| off.max((back - f64::from(c)).abs()))
                / f64::from(c.abs());
            let exact = text.starts_with("kmeans(bits") && !text.contains("shared") && !text.contains("bf16")
                || text.starts_with("product") && !text.contains("f16");
            let allowed = if exact { 0.0 } else { share_of_constant(&text) };
            // Nor below the smallest scale of a storage of a small range.
            let least = recipe(&text, "layer").scheme().unwrap().storage().min_scale();
            let near = off <= allowed || all.iter().all(|back| back.abs() <= least);
            if !near {
                wrong.push(format!("{text} {c}: {off}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn subnormal_and_huge_values_give_finite_numbers_or_errors_that_name_the_region() {
    let mut count = 0;
    let base = normal_tensor(&[2, 48], 9);
    for text in methods::all() {
        let recipe = recipe(&text, BLOCKS);
        for factor in [1e-38f32, 1e-40, 1e-43, 3e37, 1e38] {
            let x = base.mapv(|x| (x * factor).clamp(-f32::MAX, f32::MAX));
            match recipe.quantize(&x) {
                Ok(q) => {
                    let all = restored(&q);
                    assert!(all.iter().all(|value| value.is_finite()), "{text} {factor}: {q:?}");
                    // Two-level scales may become larger than they were, and lead beyond f32.
                    let larger = text.contains("two-level") && factor > 1e37;
                    let narrow = q.dequantize::<f32, IxDyn>().unwrap();
                    assert!(larger || narrow.iter().all(|value| value.is_finite()), "{text} {factor}: {q:?}");
                }
                Err(Error::Data(
                    DataError::ScaleStorage { region, .. } | DataError::Level { region, .. },
                )) => {
                    assert!(region < 4);
                    count += 1;
                }
                Err(error) => panic!("{text} {factor}: {error}"),
            }
        }
        for factor in [1e300, 5e307, 1e-300, 1e-320] {
            let x = cast::<f64, _, _>(&base).mapv(|x| (x * factor).clamp(-f64::MAX, f64::MAX));
            match recipe.quantize(&x) {
                Ok(q) => {
                    assert!(restored(&q).iter().all(|value| value.is_finite()), "{text} {factor}: {q:?}")
                }
                Err(Error::Data(
                    DataError::ScaleStorage { region, .. } | DataError::Level { region, .. },
                )) => {
                    assert!(region < 4);
                    count += 1;
                }
                Err(error) => panic!("{text} {factor}: {error}"),
            }
        }
        // The largest numbers of both signs.
        for value in [f32::MAX, f32::MIN_POSITIVE, 1e-45] {
            let x = arr1(&[value, -value, 0.0, value / 2.0]);
            match methods::recipe(&text, "layer").quantize(&x) {
                // A scale of f64 may lead beyond f32.
                Ok(q) if text.contains("f64") => {
                    assert!(restored(&q).iter().all(|x| x.is_finite()), "{text}: {q:?}")
                }
                Ok(q) if text.contains("two-level") => {
                    assert!(restored(&q).iter().all(|x| x.is_finite()), "{text}: {q:?}")
                }
                Ok(q) => {
                    let all = q.dequantize::<f32, Ix1>().unwrap();
                    assert!(all.iter().all(|x| x.is_finite()), "{text} {value:e}: {q:?}");
                }
                Err(Error::Data(
                    DataError::ScaleStorage { region: 0, .. } | DataError::Level { region: 0, .. },
                )) => {}
                Err(error) => panic!("{text} {value}: {error}"),
            }
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn empty_and_tiny_tensors_work() {
    for text in methods::all() {
        for shape in [&[0][..], &[3, 0, 2], &[0, 0]] {
            let x = ArrayD::<f32>::zeros(IxDyn(shape));
            // Blocks of 32 in lines of 2 do not hold whole vectors of more.
            let granularities = ["layer", "channel(axis=0)", BLOCKS];
            for granularity in &granularities[..if of_vectors(&text) { 2 } else { 3 }] {
                let recipe = recipe(&text, granularity);
                let q = recipe
                    .quantize(&x)
                    .unwrap_or_else(|error| panic!("{text} {shape:?} {granularity}: {error}"));
                assert!(q.is_empty() && q.shape() == shape && q.dequantize::<f32, IxDyn>().unwrap() == x);
                assert_error!(recipe.freeze_from(&x), Error::Data(DataError::NoData { .. }));
            }
        }
        let layer = recipe(&text, "layer");
        for value in [0.7f32, -2.5, 0.0] {
            let scalar =
                layer.quantize(&arr0(value)).unwrap_or_else(|error| panic!("{text} {value}: {error}"));
            let one = layer.quantize(&arr1(&[value])).unwrap();
            let square = recipe(&text, BLOCKS).quantize(&ndarray::arr2(&[[value]])).unwrap();
            assert_eq!(restored(&scalar), restored(&one), "{text}");
            assert_eq!(restored(&scalar), restored(&square), "{text}");
            let again = scalar.dequantize::<f32, ndarray::Ix0>().unwrap().into_scalar();
            assert!(again.is_finite(), "{text}");
        }
        // An axis of length zero in the middle of frozen grids.
        let frozen = recipe(&text, "channel(axis=0)").freeze_from(&normal_tensor(&[3, 8], 1)).unwrap();
        let q = frozen.quantize(&Array2::<f32>::zeros((3, 0))).unwrap();
        assert!(q.is_empty() && q.grids().len() == 3, "{text}");
        assert_error!(
            frozen.quantize(&Array2::<f32>::zeros((2, 8))),
            Error::Shape(lowbit::ShapeError::RegionCount { given: 3, expected: 2, .. })
        );
    }
}

#[test]
fn the_last_block_is_short() {
    let x: Array2<f32> = normal_tensor(&[3, 44], 4).into_dimensionality().unwrap();
    for text in methods::all() {
        let q = recipe(&text, BLOCKS).quantize(&x).unwrap();
        assert_eq!((q.tiling().regions(), q.tiling().region_len(5)), (6, 12), "{text}");
        if methods::is_local(&text) {
            // Its grid is that of its values alone.
            let tail = recipe(&text, "layer").quantize(&x.slice(s![2, 32..])).unwrap();
            assert_eq!(
                q.dequantize_region::<f32>(5).unwrap(),
                tail.dequantize::<f32, Ix1>().unwrap(),
                "{text}"
            );
        }
    }
    // Lines that no whole vectors fill.
    let odd: Array2<f32> = normal_tensor(&[5, 7], 4).into_dimensionality().unwrap();
    let q = recipe("product-quantization(bits=8, dimension=2)", "layer").quantize(&odd).unwrap();
    // A vector each, but for the rounding of the search about the mean.
    let back = q.dequantize::<f32, Ix2>().unwrap();
    assert!(odd.iter().zip(&back).all(|(a, b)| (a - b).abs() <= 2e-6), "{back}");
    assert_error!(
        recipe("product-quantization(bits=2, dimension=2)", "subchannel(3, axis=0)").quantize(&odd),
        Error::Shape(lowbit::ShapeError::Vectors { .. })
    );
}

#[test]
fn fewer_distinct_values_than_levels_are_kept() {
    let values = [-1.25f32, 0.0, 0.5, 3.0];
    let x = Array1::from_shape_fn(96, |i| values[i * i % 4 + if i % 8 < 4 { 0 } else { 2 * (i % 2) }]);
    for text in methods::all() {
        let q = recipe(&text, "layer").quantize(&x).unwrap_or_else(|error| panic!("{text}: {error}"));
        let back = q.dequantize::<f32, Ix1>().unwrap();
        assert!(back.iter().all(|value| value.is_finite()), "{text}");
        let own = ["kmeans", "product", "lloyd-max(bits=8, l", "lloyd-max(bits=8)", "lloyd-max(bits=4)"];
        let many = text.contains("bits=8") || text.contains("bits=4");
        if many && own.iter().any(|name| text.starts_with(name)) && !text.contains("dimension=8") {
            if text.contains("shared") {
                // Divided by the scale and multiplied again.
                assert!(x.iter().zip(&back).all(|(a, b)| (a - b).abs() <= 2e-3), "{text}: {back}");
            } else {
                assert_eq!(back, x, "{text}");
            }
        }
    }
}

#[test]
fn regions_alone_say_what_they_cannot_do() {
    let x = [0.5f32, -1.0, 2.0];
    for text in methods::all()
        .into_iter()
        .filter(|text| !fits_alone(text) && (text.contains("shared") || text.contains("learned")))
    {
        let quantizer = recipe(&text, "layer").quantizer().clone();
        let region = lowbit::Region::new(0, lowbit::Evidence::from(&x[..]));
        let fit = quantizer.fit(&region, &quantizer.scheme().unwrap());
        assert_error!(fit, Error::Config(ConfigError::Conflict { .. }));
    }
}

#[cfg(feature = "safetensors")]
mod damaged {
    use super::*;
    use lowbit::io::safetensors::{File, save};

    /// One or more of each representation and storage of scales.
    const TEXTS: [&str; 18] = [
        "uniform(bits=4, scales=e8m0)",
        "uniform(bits=4, scales=power(sqrt2))",
        "uniform(bits=3, scales=two-level(6, block=2, outer=f16))",
        "log(bits=4)",
        "inq(bits=3)",
        "apot(bits=5)",
        "normal-float(bits=4, scales=two-level(dynamic, block=3, centered=true))",
        "float(e4m3fn)",
        "mx(e2m1)",
        "nvfp4",
        "kmeans(bits=2)",
        "kmeans(bits=3, shared=true, levels=f16)",
        "product-quantization(bits=2, dimension=2)",
        "lloyd-max(bits=3, density=half-normal)",
        "binary-code(bits=3)",
        "ternary",
        "piecewise-linear(bits=4)",
        "block-search(bits=3, scale-bits=5, learned=1)",
    ];

    fn files() -> Vec<(&'static str, QuantizedTensor, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.safetensors");
        let x = normal_tensor(&[2, 12], 3);
        let file = |text| {
            let q = recipe(text, "subchannel(4, axis=0)").quantize(&x).unwrap();
            save(&path, [("w", (&q).into())]).unwrap();
            (text, q, std::fs::read(&path).unwrap())
        };
        TEXTS.into_iter().map(file).collect()
    }

    fn look(q: &QuantizedTensor) {
        let all = q.dequantize::<f32, IxDyn>().unwrap();
        let _ = (q.to_string(), format!("{q:?}"), q.clipping_range(0), q.codes_used(), q.entropy());
        let _ = (
            q.errors_against(&all),
            q.clipped_share(&all),
            q.dequantize_region::<f64>(0),
            q.bits_per_element(),
        );
    }

    /// Reads a file as far as it goes. Errors are those of a format.
    fn read(text: &str, bytes: &[u8]) {
        let result = File::new(bytes).and_then(|file| {
            for name in file.names() {
                if file.is_quantized(name) { look(&file.quantized(name)?) } else { drop(file.raw(name)?) }
            }
            Ok(())
        });
        if let Err(error) = result {
            assert!(matches!(error, Error::Format(_)), "{text}: {error}");
        }
    }

    #[test]
    fn files_with_flipped_bits_are_errors_or_tensors() {
        for (text, _, bytes) in files() {
            let mut damaged = bytes.clone();
            for at in 0..bytes.len() {
                for mask in [0x01, 0x10, 0x40, 0x80, 0xff] {
                    damaged[at] ^= mask;
                    read(text, &damaged);
                    damaged[at] ^= mask;
                }
            }
            for len in 0..bytes.len() {
                assert!(matches!(File::new(&bytes[..len]), Err(Error::Format(_))), "{text}: {len} bytes");
            }
        }
    }

    #[test]
    fn headers_with_other_numbers_are_errors_or_tensors() {
        for (text, _, bytes) in files() {
            let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let header = String::from_utf8(bytes[8..8 + header_len].to_vec()).unwrap();
            for (at, _) in header.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
                for digits in
                    ["0", "1", "9", "65", "1099511627776", "18446744073709551615", "-1", "1e9", "null"]
                {
                    let header = [&header[..at], digits, &header[at + 1..]].concat();
                    let len = (header.len() as u64).to_le_bytes();
                    read(text, &[&len[..], header.as_bytes(), &bytes[8 + header_len..]].concat());
                }
            }
        }
    }

    /// Texts with one place changed at a time: numbers replaced, characters flipped or left out.
    fn changed(json: &str, mut look: impl FnMut(&str)) {
        for (at, c) in json.char_indices() {
            if c.is_ascii_digit() {
                for digits in [
                    "0",
                    "7",
                    "99",
                    "4294967296",
                    "18446744073709551615",
                    "-3",
                    "1e300",
                    "1e999",
                    "null",
                    "\"x\"",
                    "[]",
                ] {
                    look(&[&json[..at], digits, &json[at + 1..]].concat());
                }
            }
            look(&[&json[..at], &json[at + c.len_utf8()..]].concat());
            if c.is_ascii() {
                let flipped = char::from((c as u8) ^ 1);
                look(&format!("{}{flipped}{}", &json[..at], &json[at + 1..]));
            }
        }
    }

    #[test]
    fn damaged_json_is_an_error_or_a_tensor() {
        for (_, q, _) in files() {
            changed(&serde_json::to_string(&q).unwrap(), |json| {
                if let Ok(q) = serde_json::from_str::<QuantizedTensor>(json) {
                    self::look(&q);
                }
            });
        }
    }

    #[test]
    fn damaged_json_of_frozen_recipes_is_an_error_or_one_that_works() {
        let x = normal_tensor(&[2, 12], 3);
        for text in TEXTS {
            let frozen = recipe(text, "subchannel(4, axis=0)").freeze_from(&x).unwrap();
            changed(&serde_json::to_string(&frozen).unwrap(), |json| {
                if let Ok(frozen) = serde_json::from_str::<Frozen>(json)
                    && let Ok(q) = frozen.quantize(&x)
                {
                    self::look(&q);
                }
            });
        }
    }
}

#[test]
fn saturation_is_the_same_for_all_numbers_beyond() {
    for text in methods::of_widths(3..=4).into_iter().filter(|text| !of_vectors(text)) {
        let frozen = recipe(&text, "channel(axis=0)").freeze_from(&normal_tensor(&[2, 64], 2)).unwrap();
        let (low, high) = ends(&frozen, 2);
        for far in [1e30f32, f32::INFINITY] {
            let at = |value: f32| restored(&frozen.quantize(&Array2::from_elem((2, 1), value)).unwrap());
            assert_eq!((at(-far), at(far)), (low.clone(), high.clone()), "{text}");
        }
        assert!(low.iter().zip(&high).all(|(low, high)| low <= high), "{text}: {low:?} {high:?}");
    }
}
