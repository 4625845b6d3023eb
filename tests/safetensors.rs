//! Quantized tensors in safetensors files: round trips, what other readers see, and damaged files.
#![cfg(feature = "safetensors")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use lowbit::granularity::AxisGroup;
use lowbit::io::safetensors::{Dtype, File, Layout, QuantizedInfo, RawTensor, Tensor, Writer, save};
use lowbit::prelude::*;
use lowbit::tensor::{Grids, ScaleOverflow, Scheme};
use lowbit::{Error, FloatType, FormatError};
use ndarray::{Array2, ArrayD, Ix1, Ix2, IxDyn};
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

/// Values of both signs and different magnitudes.
fn weights(shape: &[usize]) -> ArrayD<f32> {
    let mut i = 0.0f32;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        i += 1.0;
        (i * 12.9898).sin() * (1.0 + (i * 0.1).floor()) + 0.2
    })
}

fn saved<'a>(tensors: impl IntoIterator<Item = (&'a str, Tensor<'a>)>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.safetensors");
    save(&path, tensors).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no other file is left");
    std::fs::read(&path).unwrap()
}

fn recipe(text: &str) -> Recipe {
    text.parse().unwrap()
}

#[test]
fn every_width_scheme_and_parameter_type_comes_back() {
    // Both signs in every region, so that real zero points stay within the codes.
    let mut sign = 1.0;
    let tensor = weights(&[5, 3, 7]).mapv(|value| {
        sign = -sign;
        sign * value.abs()
    });
    let methods = [
        "symmetry=symmetric, range=restricted",
        "symmetry=symmetric, range=full",
        "symmetry=symmetric, range=full, codes=unsigned",
        "symmetry=symmetric, range=mid-rise",
        "symmetry=asymmetric",
        "symmetry=asymmetric, codes=signed",
        "symmetry=asymmetric-real, codes=signed",
    ];
    let granularities = ["layer", "channel(axis=2)", "subchannel(4, axis=0)", "blocks(2, 0, 3)"];
    let mut count = 0;
    for bits in 1..=16 {
        let mut all = Vec::new();
        for method in methods.into_iter().filter(|method| bits > 1 || !method.contains("restricted")) {
            for scales in ["f64", "f32", "f16", "bf16"] {
                for granularity in granularities {
                    let text =
                        format!("uniform(bits={bits}, {method}, scales={scales}); granularity={granularity}");
                    let quantized = recipe(&text).quantize(&tensor).unwrap_or_else(|e| panic!("{text}: {e}"));
                    all.push((text, quantized));
                }
            }
        }
        let bytes = saved(all.iter().map(|(text, quantized)| (text.as_str(), quantized.into())));
        let file = File::new(&bytes).unwrap();
        for (text, quantized) in &all {
            let again = file.quantized(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(again, *quantized, "{text}");
            assert_eq!(file.recipe(text).unwrap().as_deref(), quantized.recipe());
            let (a, b) = (again.dequantize::<f32, IxDyn>(), quantized.dequantize::<f32, IxDyn>());
            assert_eq!(a.unwrap(), b.unwrap());
            count += 1;
        }
    }
    assert_eq!(count, (16 * 7 - 1) * 16);
}

#[test]
fn every_element_type_and_odd_shape_comes_back() {
    let recipe = recipe("uniform(bits=3)");
    let check = |quantized: QuantizedTensor| {
        let bytes = saved([("t", (&quantized).into())]);
        assert_eq!(File::new(&bytes).unwrap().quantized("t").unwrap(), quantized, "{quantized}");
    };
    let tensor = weights(&[2, 3]);
    check(recipe.quantize(&tensor.mapv(f64::from)).unwrap());
    check(recipe.quantize(&tensor.mapv(f16::from_f32)).unwrap());
    check(recipe.quantize(&tensor.mapv(bf16::from_f32)).unwrap());
    for shape in [&[][..], &[1], &[0], &[3, 0, 2], &[1, 1, 1, 1, 1, 1]] {
        check(recipe.quantize(&weights(shape)).unwrap());
        if !shape.is_empty() {
            check(recipe.clone().granularity(PerChannel::new(Axis(0))).quantize(&weights(shape)).unwrap());
        }
    }
}

#[test]
fn an_ordinary_reader_sees_ordinary_entries() {
    let weight = weights(&[4, 6]);
    let quantized = |text: &str| recipe(text).quantize(&weight).unwrap();
    let eight = quantized("uniform(bits=8, symmetry=asymmetric); granularity=channel(axis=1)");
    let three = quantized("uniform(bits=3, scales=f16); granularity=subchannel(4, axis=0)");
    let (twelve, sixteen) = (quantized("uniform(bits=12)"), quantized("uniform(bits=16)"));
    let bias = weights(&[3]);
    let flags = RawTensor::new(Dtype::BOOL, vec![3], &[1, 0, 1]).unwrap();
    let bytes = saved([
        ("eight", (&eight).into()),
        ("three", (&three).into()),
        ("twelve", (&twelve).into()),
        ("sixteen", (&sixteen).into()),
        ("bias", (&*bias).into()),
        ("flags", flags.into()),
    ]);
    let reader = SafeTensors::deserialize(&bytes).unwrap();
    let seen: BTreeMap<String, (Dtype, Vec<usize>)> = reader
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec())))
        .collect();
    let expected = [
        ("bias", Dtype::F32, &[3][..]),
        ("eight.codes", Dtype::U8, &[4, 6]),
        ("eight.scales", Dtype::F32, &[6]),
        ("eight.zero_points", Dtype::U8, &[6]),
        ("flags", Dtype::BOOL, &[3]),
        ("sixteen.codes", Dtype::I16, &[4, 6]),
        ("sixteen.scales", Dtype::F32, &[]),
        ("three.codes", Dtype::U8, &[9]),
        ("three.scales", Dtype::F16, &[4, 2]),
        ("twelve.codes", Dtype::U8, &[36]),
        ("twelve.scales", Dtype::F32, &[]),
    ];
    let expected =
        expected.into_iter().map(|(name, dtype, shape)| (name.to_owned(), (dtype, shape.to_vec())));
    assert_eq!(seen, expected.collect());

    // Values are S · (q − Z), by the documentation alone.
    let data = |name: &str| reader.tensor(name).unwrap().data().to_vec();
    let (codes, zero_points) = (data("eight.codes"), data("eight.zero_points"));
    let scales = data("eight.scales");
    let scales: Vec<f32> = scales.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let restored = eight.dequantize::<f32, Ix2>().unwrap();
    for ((i, j), &value) in restored.indexed_iter() {
        let code = i32::from(codes[i * 6 + j]) - i32::from(zero_points[j]);
        assert_eq!(value, scales[j] * code as f32);
    }
    // Every entry is aligned to its elements, from the first byte of the file on.
    for (name, view) in reader.tensors() {
        let offset = view.data().as_ptr().addr() - bytes.as_ptr().addr();
        assert!(offset.is_multiple_of(view.dtype().bitsize() / 8), "{name} at {offset}");
    }
    let lines = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&lines["three"]).unwrap(),
        json!({
            "lowbit": 1, "dtype": "f32", "shape": [4, 6],
            "tiling": [{"axes": [0], "block": 1}, {"axes": [1], "block": 4}],
            "scheme": {"affine": {"bits": 3, "codes": [-3, 3], "zero_point": {"fixed": 0.0},
                "storage": "f16", "overflow": "error"}},
            "recipe": three.recipe().unwrap(),
        })
    );

    let file = File::new(&bytes).unwrap();
    let names: Vec<&str> = file.names().collect();
    assert_eq!(names, ["bias", "eight", "flags", "sixteen", "three", "twelve"]);
    assert!(file.is_quantized("three") && !file.is_quantized("bias") && !file.is_quantized("none"));
    assert_eq!(file.array::<f32, Ix1>("bias").unwrap().into_dyn(), bias);
    assert_eq!(file.raw("flags").unwrap().data(), [1, 0, 1]);
    assert!(matches!(file.array::<f64, Ix1>("bias"), Err(Error::Format(FormatError::Entry { .. }))));
    assert!(matches!(file.array::<f32, Ix2>("bias"), Err(Error::Shape(_))));
    assert!(matches!(file.quantized("bias"), Err(Error::Format(FormatError::Missing { .. }))));
    assert!(matches!(file.raw("none"), Err(Error::Format(FormatError::Missing { .. }))));
}

#[test]
fn arrays_of_any_type_and_layout_are_saved_row_by_row() {
    let base = Array2::from_shape_fn((3, 4), |(i, j)| (10 * i + j) as f32);
    let (f64s, f16s, bf16s) = (base.mapv(f64::from), base.mapv(f16::from_f32), base.mapv(bf16::from_f32));
    let transposed = base.t();
    let bytes = saved([
        ("f64", (&*f64s).into()),
        ("f16", (&*f16s).into()),
        ("bf16", (&*bf16s).into()),
        ("transposed", (&*transposed).into()),
    ]);
    let file = File::new(&bytes).unwrap();
    assert_eq!(file.array::<f64, Ix2>("f64").unwrap(), f64s);
    assert_eq!(file.array::<f16, Ix2>("f16").unwrap(), f16s);
    assert_eq!(file.array::<bf16, Ix2>("bf16").unwrap(), bf16s);
    assert_eq!(file.array::<f32, Ix2>("transposed").unwrap(), transposed);
}

#[test]
fn the_same_tensors_give_the_same_file() {
    let quantized = recipe("uniform(bits=4)").quantize(&weights(&[8, 9])).unwrap();
    let bias = weights(&[8]);
    let one = saved([("w", (&quantized).into()), ("b", (&*bias).into())]);
    let other = saved([("b", (&*bias).into()), ("w", (&quantized).into())]);
    assert_eq!(one, other);
    assert!(File::new(&saved([])).unwrap().names().next().is_none());
}

#[test]
fn names_that_collide_are_refused() {
    let quantized = recipe("uniform").quantize(&weights(&[2, 2])).unwrap();
    let info = || QuantizedInfo::of(&quantized);
    let is_taken = |result: lowbit::Result<()>, name: &str| match result {
        Err(Error::Format(FormatError::Taken { name: found })) => assert_eq!(found, name),
        other => panic!("{other:?}"),
    };
    let mut layout = Layout::new();
    layout.quantized("w", info()).unwrap();
    is_taken(layout.quantized("w", info()), "w");
    is_taken(layout.raw("w", Dtype::F32, &[1]), "w");
    is_taken(layout.raw("w.scales", Dtype::F32, &[1]), "w.scales");
    is_taken(layout.raw("w.zero_points", Dtype::F32, &[1]), "w.zero_points");
    is_taken(layout.raw("__metadata__", Dtype::F32, &[1]), "__metadata__");
    is_taken(layout.metadata("w", "x"), "w");
    layout.raw("v.codes", Dtype::F32, &[1]).unwrap();
    is_taken(layout.quantized("v", info()), "v.codes");
    layout.metadata("format", "pt").unwrap();
    is_taken(layout.quantized("format", info()), "format");
    is_taken(layout.metadata("format", "pt"), "format");
    assert!(layout.raw("huge", Dtype::F64, &[usize::MAX, 2]).is_err());
    assert!(layout.raw("half a byte", Dtype::F4, &[1]).is_err());
}

/// A header and data as a file, without any of the checks that writers make.
fn file_of(entries: &[(&str, &str, Value, &[u8])], metadata: Value) -> Vec<u8> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), metadata)]);
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in entries {
        let start = data.len();
        data.extend_from_slice(bytes);
        let info = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), info);
    }
    let header = Value::Object(header).to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

fn line(shape: Value, tiling: Value, scheme: Value) -> Value {
    let line = json!({"lowbit": 1, "dtype": "f32", "shape": shape, "tiling": tiling, "scheme": scheme});
    json!({"t": line.to_string()})
}

fn scheme(bits: u32, codes: [i32; 2], zero_point: Value, storage: &str) -> Value {
    json!({"affine": {"bits": bits, "codes": codes, "zero_point": zero_point, "storage": storage}})
}

/// The description of a 2 × 2 tensor, per layer, with f32 scales.
fn square(bits: u32, codes: [i32; 2], zero_point: Value) -> Value {
    line(json!([2, 2]), layer(2), scheme(bits, codes, zero_point, "f32"))
}

fn layer(rank: usize) -> Value {
    json!([{"axes": (0..rank).collect::<Vec<_>>(), "block": null}])
}

fn fixed() -> Value {
    json!({"fixed": 0.0})
}

/// The error of tensor `t`.
fn error_of(entries: &[(&str, &str, Value, &[u8])], line: Value) -> FormatError {
    let bytes = file_of(entries, line);
    match File::new(&bytes).and_then(|file| file.quantized("t")) {
        Err(Error::Format(error)) => error,
        Err(other) => panic!("an error of another kind: {other}"),
        Ok(tensor) => panic!("no error: {tensor}"),
    }
}

const ONE: [u8; 4] = 1.0f32.to_le_bytes();

#[test]
fn entries_that_do_not_fit_the_description_are_named() {
    let four = &[1u8, 2, 3, 4][..];
    let codes = ("t.codes", "I8", json!([2, 2]), four);
    let scales = ("t.scales", "F32", json!([]), &ONE[..]);
    let good = || square(8, [-127, 127], fixed());
    let bytes = file_of(&[codes.clone(), scales.clone()], good());
    assert!(File::new(&bytes).unwrap().quantized("t").is_ok());

    let missing = |entries: &[_], line, name: &str| match error_of(entries, line) {
        FormatError::Missing { missing, .. } => assert_eq!(missing, name),
        other => panic!("{other}"),
    };
    missing(std::slice::from_ref(&codes), good(), "t.scales");
    missing(std::slice::from_ref(&scales), good(), "t.codes");
    missing(&[codes.clone(), scales.clone()], json!({}), "metadata of t");
    let integer = || square(8, [-127, 127], json!("integer"));
    missing(&[codes.clone(), scales.clone()], integer(), "t.zero_points");

    let wrong = |entries: &[_], line, name: &str| match error_of(entries, line) {
        FormatError::Entry { name: found, .. } => assert_eq!(found, name),
        other => panic!("{other}"),
    };
    wrong(&[codes.clone(), scales.clone()], json!({"t": "no description"}), "metadata of t");
    wrong(&[("t.codes", "U8", json!([2, 2]), four), scales.clone()], good(), "t.codes");
    wrong(&[("t.codes", "I8", json!([4]), four), scales.clone()], good(), "t.codes");
    wrong(&[codes.clone(), ("t.scales", "F16", json!([]), &[0, 60])], good(), "t.scales");
    wrong(&[codes.clone(), ("t.scales", "F32", json!([1]), &ONE)], good(), "t.scales");
    let zeros = ("t.zero_points", "U8", json!([]), &[0u8][..]);
    wrong(&[codes.clone(), scales.clone(), zeros], integer(), "t.zero_points");
    let nibbles = square(4, [-7, 7], fixed());
    wrong(&[("t.codes", "U8", json!([3]), &[0, 0, 0]), scales.clone()], nibbles, "t.codes");
}

#[test]
fn values_that_the_scheme_does_not_allow_are_named() {
    fn invalid(entries: &[(&str, &str, Value, &[u8])], line: Value, part: &str) {
        match error_of(entries, line) {
            FormatError::Invalid { name, source } => {
                assert_eq!(name, "t");
                assert!(source.to_string().contains(part), "{source}");
            }
            other => panic!("{other}"),
        }
    }
    let codes = ("t.codes", "I8", json!([2, 2]), &[1u8, 2, 3, 4][..]);
    let scales = ("t.scales", "F32", json!([]), &ONE[..]);
    for scale in [f32::NAN, f32::INFINITY, 0.0, -0.0] {
        let scale = scale.to_le_bytes();
        let entries = [codes.clone(), ("t.scales", "F32", json!([]), &scale[..])];
        invalid(&entries, square(8, [-127, 127], fixed()), "scale 0 is");
    }
    // −128 in a restricted range; −8 among 4-bit codes; bits set in the padding.
    let lowest = [("t.codes", "I8", json!([2, 2]), &[1u8, 2, 128, 4][..]), scales.clone()];
    invalid(&lowest, square(8, [-127, 127], fixed()), "code -128 at position 2 is outside -127 to 127");
    let nibbles = [("t.codes", "U8", json!([2]), &[0x71u8, 0x80][..]), scales.clone()];
    invalid(&nibbles, square(4, [-7, 7], fixed()), "code -8 at position 3");
    let padding = [("t.codes", "U8", json!([2]), &[0u8, 0x10][..]), scales.clone()];
    invalid(&padding, square(3, [-3, 3], fixed()), "zeros above its lowest 4 bits");
    // Zero points.
    let zero = |dtype, bytes| ("t.zero_points", dtype, json!([]), bytes);
    let integer = square(8, [-100, 100], json!("integer"));
    invalid(&[codes.clone(), scales.clone(), zero("I8", &[101][..])], integer, "zero point 0 is 101");
    let nan = f32::NAN.to_le_bytes();
    let real = square(8, [-127, 127], json!("real"));
    invalid(&[codes, scales, zero("F32", &nan[..])], real, "zero point 0 is NaN");
}

#[test]
fn hostile_descriptions_fail_before_anything_is_allocated() {
    let huge = 1u64 << 40;
    let entries = [("t.codes", "U8", json!([2]), &[0u8, 0][..]), ("t.scales", "F32", json!([]), &ONE[..])];
    let group = |axes: Value, block: Value| json!({"axes": axes, "block": block});
    let shaped = |shape: Value, tiling: Value| line(shape, tiling, scheme(4, [-7, 7], fixed(), "f32"));
    let all: Vec<usize> = (0..1000).collect();
    let lines = [
        shaped(json!([huge]), layer(1)),
        shaped(json!([huge, huge]), layer(2)),
        shaped(json!([0, u64::MAX]), layer(2)),
        // More regions than parameters.
        shaped(json!([0, huge]), json!([group(json!([0]), json!(null)), group(json!([1]), json!(1))])),
        shaped(json!([2, 2]), json!([group(json!([0]), json!(0)), group(json!([1]), json!(1))])),
        shaped(json!([2, 2]), json!([group(json!([0]), json!(1))])),
        shaped(json!([2, 2]), json!([group(json!([0, 1, 7]), json!(1))])),
        shaped(json!([2, 2]), json!([group(json!([0, 1, 1]), json!(1))])),
        shaped(json!([2, 2]), json!(vec![group(json!([]), json!(1)); 1000])),
        shaped(json!(vec![1; 1000]), json!([group(json!(all), json!(1))])),
        shaped(json!([-1]), layer(1)),
        shaped(json!([2.5]), layer(1)),
        square(0, [-7, 7], fixed()),
        square(17, [-7, 7], fixed()),
        square(4, [-9, 7], fixed()),
        square(4, [7, -7], fixed()),
        square(4, [i32::MIN, i32::MAX], fixed()),
        square(4, [-7, 7], json!({"fixed": 1e300})),
        line(json!([2, 2]), layer(2), scheme(4, [-7, 7], fixed(), "f8")),
        line(json!([2, 2]), layer(2), json!({"codebook": {}})),
        json!({"t": r#"{"lowbit": 2}"#}),
        json!({"t": r#"{"lowbit": -1}"#}),
        json!({"t": r#"{"lowbit": 1}"#}),
        json!({"t": "[".repeat(100_000)}),
    ];
    for line in lines {
        let text = line.to_string();
        let bytes = file_of(&entries, line);
        let file = File::new(&bytes).unwrap();
        let error = file.quantized("t").expect_err(&text[..text.len().min(300)]);
        assert!(matches!(error, Error::Format(_)), "{error}");
    }
}

#[test]
fn hostile_headers_are_errors() {
    let error = |bytes: &[u8]| match File::new(bytes) {
        Err(Error::Format(FormatError::Container { reason, .. })) => reason,
        other => panic!("{other:?}"),
    };
    for len in 0..8 {
        assert!(error(&[0; 16][..len]).contains("too few"));
    }
    assert!(error(&u64::MAX.to_le_bytes()).contains("larger than"));
    assert!(error(&99_999_999u64.to_le_bytes()).contains("are left"));
    let header =
        |text: &str, data: &[u8]| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat();
    error(&header("", &[]));
    error(&header("[]", &[]));
    error(&header("{}", &[1]));
    error(&header(&"[".repeat(100_000), &[]));
    error(&header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 3]));
    error(&header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}"#, &[0; 5]));
    error(&header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, &[0; 4]));
    error(&header(r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#, &[0; 1]));
    // Entries that end near the largest number there is.
    let elements = u64::MAX / 64;
    let entry = |i: u64| {
        let (start, end) = (i * elements * 8, (i + 1) * elements * 8);
        format!(r#""{i}":{{"dtype":"F64","shape":[{elements}],"data_offsets":[{start},{end}]}}"#)
    };
    let entries: Vec<String> = (0..8).map(entry).collect();
    error(&header(&format!("{{{}}}", entries.join(",")), &[0; 8]));
}

/// Reads everything there is; whatever happens, it must not panic.
fn read_all(bytes: &[u8]) -> Result<usize, Error> {
    let file = File::new(bytes)?;
    let mut read = file.metadata().count();
    for name in file.names() {
        if file.is_quantized(name) {
            let tensor = file.quantized(name)?;
            // What is accepted can be decoded.
            read += tensor.dequantize::<f32, IxDyn>()?.len();
            let _ = (tensor.to_string(), format!("{tensor:?}"), tensor.clipping_range(0));
        } else {
            read += file.raw(name)?.data().len();
        }
    }
    Ok(read)
}

#[test]
fn truncated_and_flipped_files_are_errors_or_tensors() {
    let weight = weights(&[3, 5]);
    let first = recipe("uniform(bits=3, scales=f16, symmetry=asymmetric); granularity=subchannel(2, axis=0)");
    let second = recipe("uniform(bits=8, symmetry=asymmetric-real); granularity=channel(axis=1)");
    let (first, second) = (first.quantize(&weight).unwrap(), second.quantize(&weight).unwrap());
    let bytes = saved([("a", (&first).into()), ("b", (&second).into()), ("c", (&*weight).into())]);
    read_all(&bytes).unwrap();
    for len in 0..bytes.len() {
        assert!(matches!(read_all(&bytes[..len]), Err(Error::Format(_))), "{len} bytes");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(read_all(&longer).is_err());
    let mut damaged = bytes.clone();
    for at in 0..bytes.len() {
        for mask in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
            damaged[at] ^= mask;
            if let Err(error) = read_all(&damaged) {
                assert!(matches!(error, Error::Format(_)), "byte {at}: {error}");
            }
            damaged[at] ^= mask;
        }
    }
    // Digits of the header replaced, so that it stays valid JSON more often.
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..8 + header_len].to_vec()).unwrap();
    for (at, _) in text.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
        for digits in ["0", "1", "3", "9", "99", "1099511627776", "18446744073709551615", "-1", "1e9", "null"]
        {
            let text = [&text[..at], digits, &text[at + 1..]].concat();
            let len = (text.len() as u64).to_le_bytes();
            let damaged = [&len[..], text.as_bytes(), &bytes[8 + header_len..]].concat();
            if let Err(error) = read_all(&damaged) {
                assert!(matches!(error, Error::Format(_)), "{text}: {error}");
            }
        }
    }
}

#[test]
fn a_writer_takes_what_was_announced_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.safetensors");
    let four = recipe("uniform(bits=4); granularity=channel(axis=0)");
    let (weight, bias) = (weights(&[2, 3]), weights(&[2]));
    let mut layout = Layout::new();
    layout.quantized("w", QuantizedInfo::planned(&four, &[2, 3], FloatType::F32).unwrap()).unwrap();
    layout.raw("b", Dtype::F32, &[2]).unwrap();
    layout.metadata("format", "pt").unwrap();
    let quantized = four.quantize(&weight).unwrap();

    let mut writer = Writer::create(&path, layout.clone()).unwrap();
    let is_entry = |result| assert!(matches!(result, Err(Error::Format(FormatError::Entry { .. }))));
    is_entry(writer.write("w", &*weight));
    is_entry(writer.write("b", &quantized));
    is_entry(writer.write("b", &*weight));
    let five = recipe("uniform(bits=5); granularity=channel(axis=0)");
    for other in [five, recipe("uniform(bits=4)"), four.clone().rounding(Rounding::Floor)] {
        is_entry(writer.write("w", &other.quantize(&weight).unwrap()));
    }
    is_entry(writer.write("w", &four.quantize(&weight.mapv(f64::from)).unwrap()));
    assert!(writer.write("none", &quantized).is_err());
    writer.write("b", &*bias).unwrap();
    is_entry(writer.write("b", &*bias));
    assert!(matches!(writer.finish(), Err(Error::Format(FormatError::Missing { .. }))));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");

    let mut writer = Writer::create(&path, layout).unwrap();
    writer.write("b", &*bias).unwrap();
    assert!(!path.exists());
    writer.write("w", &quantized).unwrap();
    writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = File::new(&bytes).unwrap();
    assert_eq!(file.quantized("w").unwrap(), quantized);
    assert_eq!(file.metadata().collect::<Vec<_>>(), [("format", "pt")]);
    assert_eq!(file.info("w").unwrap(), QuantizedInfo::of(&quantized));
}

#[test]
fn a_failed_save_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.safetensors");
    std::fs::write(&path, "old").unwrap();
    let quantized = recipe("uniform").quantize(&weights(&[2])).unwrap();
    let twice: [(&str, Tensor<'_>); 2] = [("w", (&quantized).into()), ("w", (&quantized).into())];
    assert!(save(&path, twice).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let nowhere = save(Path::new("/no/such/folder/file"), [("w", Tensor::from(&quantized))]);
    assert!(nowhere.unwrap_err().to_string().contains("/no/such/folder/file"));
}

#[test]
fn widened_scales_are_saved_as_they_are() {
    let tensor = weights(&[2, 3]).mapv(|value| value * 1e-9);
    let widened = recipe("uniform(bits=4, scales=f16, widen-scales=true)").quantize(&tensor).unwrap();
    let bytes = saved([("w", (&widened).into())]);
    let again = File::new(&bytes).unwrap().quantized("w").unwrap();
    // All but the notes.
    assert_eq!((again.codes(), again.grids()), (widened.codes(), widened.grids()));
    let Grids::Affine(grids) = again.grids() else { unreachable!() };
    assert_eq!(grids.scales().storage(), FloatType::F32);
    let Scheme::Affine(scheme) = again.scheme() else { unreachable!() };
    assert_eq!(scheme.overflow(), ScaleOverflow::Widen);
    assert_eq!(again.tiling().groups(), [AxisGroup { axes: vec![0, 1], block: None }]);
}
