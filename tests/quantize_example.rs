//! The behaviour of the example `quantize`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::example::Folder;
use half::{bf16, f16};
use lowbit::io::safetensors::{Dtype, File, RawTensor, Tensor, save};
use lowbit::metrics::sqnr;
use lowbit::prelude::*;
use ndarray::{Array1, Array2, Ix1, Ix2};
use serde_json::Value;

fn weights(rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, j)| ((i * columns + j) as f32 * 0.7).sin() * (1.0 + i as f32))
}

/// A folder with a file of tensors of different kinds.
fn folder() -> Option<Folder> {
    let folder = Folder::of("quantize")?;
    let (a, b) = (weights(4, 40), weights(3, 5));
    let (half, brain, double) = (b.mapv(f16::from_f32), b.mapv(bf16::from_f32), b.mapv(f64::from));
    let bias = Array1::from_vec(vec![0.5f32, -1.0, f32::NAN]);
    let steps = RawTensor::new(Dtype::I64, vec![1, 1], &[7, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let tensors: [(&str, Tensor<'_>); 6] = [
        ("a.weight", (&*a).into()),
        ("b.half", (&*half).into()),
        ("b.brain", (&*brain).into()),
        ("b.double", (&*double).into()),
        ("bias", (&*bias).into()),
        ("steps", steps.into()),
    ];
    save(folder.path("model.safetensors"), tensors).unwrap();
    Some(folder)
}

#[test]
fn without_arguments_the_sample_is_quantized() {
    let Some(folder) = folder() else { return };
    let output = folder.works(&[]);
    for part in ["conv4.weight", "uniform 4-bit", "quantized", "dB", "% right before"] {
        assert!(output.contains(part), "{part} in {output}");
    }
    assert_eq!(folder.names().len(), 1);
}

#[test]
fn help_names_every_option() {
    let Some(folder) = folder() else { return };
    folder.help_names(&[
        "--method",
        "--bits",
        "--symmetry",
        "--range",
        "--calibration",
        "--granularity",
        "--axis",
        "--rounding",
        "--include",
        "--exclude",
        "--output",
        "--dequantized",
        "--report",
        "--verify",
    ]);
}

#[test]
fn wrong_arguments_are_one_line() {
    let Some(folder) = folder() else { return };
    let file = "model.safetensors";
    for (arguments, part) in [
        (&["--bitz", "4"][..], "--bitz"),
        (&["--method", "magic"], "the methods are: uniform"),
        (&["--bits", "17"], "1 to 16"),
        (&["--bits", "many"], "many"),
        (&["--bits", "1"], "restricted"),
        (&["--symmetry", "asymmetric", "--range", "full"], "range"),
        (&["--calibration", "percentile"], "percentile=99.9"),
        (&["--calibration", "percentile=101"], "101"),
        (&["--calibration", "guess"], "minmax"),
        (&["--granularity", "group"], "group=32"),
        (&["--granularity", "subchannel=0"], "at least 1"),
        (&["--granularity", "tensor"], "subchannel=N"),
        (&["--granularity", "layer", "--axis", "1"], "--axis does not apply"),
        (&["--rounding", "up"], "nearest-even"),
        (&["--include", "("], "regex"),
        (&["--verify"], "--output"),
        (&["--output", "same", "--dequantized", "same"], "the same file"),
        (&["--output", "no/such/folder/out"], "no/such/folder"),
        (&["--output", "."], "not a regular file"),
        (&["none.safetensors"], "none.safetensors"),
        (&["."], "not a file"),
        (&[file, "--axis", "2"], "tensor a.weight: axis 2 is out of range for a tensor of rank 2"),
        (&[file, "--axis", "-3"], "tensor a.weight: axis -3 is out of range for a tensor of rank 2"),
    ] {
        let line = folder.fails(arguments);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
}

#[test]
fn damaged_files_are_one_line() {
    let Some(folder) = folder() else { return };
    let whole = fs::read(folder.path("model.safetensors")).unwrap();
    fs::write(folder.path("short.safetensors"), &whole[..whole.len() - 1]).unwrap();
    fs::write(folder.path("empty.safetensors"), []).unwrap();
    fs::write(folder.path("noise.safetensors"), [0xa5; 999]).unwrap();
    fs::write(folder.path("noise.npy"), [0xa5; 999]).unwrap();
    fs::write(folder.path("text.txt"), "text").unwrap();
    for name in ["short.safetensors", "empty.safetensors", "noise.safetensors", "noise.npy", "text.txt"] {
        let line = folder.fails(&[name, "--output", "out.safetensors", "--report", "out.json"]);
        assert!(line.contains(name), "{line}");
    }
}

#[test]
fn a_nan_is_named_and_the_old_output_stays() {
    let Some(folder) = folder() else { return };
    let (good, mut bad) = (weights(4, 5), weights(4, 5));
    bad[[2, 3]] = f32::NAN;
    let tensors: [(&str, Tensor<'_>); 2] = [("a", (&*good).into()), ("b", (&*bad).into())];
    save(folder.path("nan.safetensors"), tensors).unwrap();
    fs::write(folder.path("out.safetensors"), "old").unwrap();
    let outputs =
        ["--output", "out.safetensors", "--dequantized", "restored.safetensors", "--report", "r.json"];
    let line = folder.fails(&[&["nan.safetensors"], &outputs[..]].concat());
    assert!(line.contains("tensor b: NaN at index [2, 3]"), "{line}");
    assert_eq!(fs::read(folder.path("out.safetensors")).unwrap(), b"old");
    // Kept tensors may hold anything.
    folder.works(&["nan.safetensors", "--exclude", "^b$", "--output", "out.safetensors", "--verify"]);
}

#[test]
fn all_outputs_agree() {
    let Some(folder) = folder() else { return };
    let table = folder.works(&[
        "model.safetensors",
        "--bits",
        "5",
        "--symmetry",
        "asymmetric",
        "--granularity",
        "subchannel=7",
        "--axis",
        "-1",
        "--calibration",
        "percentile=99.5",
        "--rounding",
        "nearest-away",
        "--exclude",
        "brain",
        "--output",
        "q.safetensors",
        "--dequantized",
        "d.safetensors",
        "--report",
        "r.json",
        "--verify",
    ]);
    assert!(table.contains("Verified: 6 tensors"), "{table}");
    assert!(table.contains("Kept, rank 1: bias"), "{table}");
    assert_eq!(folder.names().len(), 4, "nothing but the outputs is left");

    let read = |name: &str| fs::read(folder.path(name)).unwrap();
    let (input, quantized, restored) =
        (read("model.safetensors"), read("q.safetensors"), read("d.safetensors"));
    let [input, quantized, restored] = [&input, &quantized, &restored].map(|bytes| File::new(bytes).unwrap());
    let recipe: Recipe = "uniform(bits=5, symmetry=asymmetric, calibration=percentile(99.5)); \
        granularity=subchannel(7, axis=1); rounding=nearest-away"
        .parse()
        .unwrap();
    let weight = input.array::<f32, Ix2>("a.weight").unwrap();
    let q = recipe.quantize(&weight).unwrap();
    assert_eq!(quantized.quantized("a.weight").unwrap(), q);
    let dequantized = restored.array::<f32, Ix2>("a.weight").unwrap();
    assert_eq!(dequantized, q.dequantize::<f32, Ix2>().unwrap());
    for (name, dtype) in [("b.half", Dtype::F16), ("b.double", Dtype::F64)] {
        assert!(quantized.is_quantized(name));
        assert_eq!(restored.raw(name).unwrap().dtype(), dtype);
    }
    for name in ["b.brain", "bias", "steps"] {
        assert_eq!(quantized.raw(name).unwrap(), input.raw(name).unwrap());
        assert_eq!(restored.raw(name).unwrap(), input.raw(name).unwrap());
    }
    assert!(restored.array::<f32, Ix1>("bias").unwrap()[2].is_nan());

    let report: Value = serde_json::from_slice(&read("r.json")).unwrap();
    let names = |list: &str| -> Vec<String> {
        let list = report[list].as_array().unwrap();
        list.iter().map(|tensor| tensor["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("tensors"), ["a.weight", "b.double", "b.half"]);
    assert_eq!(names("kept"), ["b.brain", "bias", "steps"]);
    let first = &report["tensors"][0];
    assert_eq!(first["shape"], serde_json::json!([4, 40]));
    assert_eq!((first["dtype"].as_str(), first["method"].as_str()), (Some("F32"), Some("uniform")));
    assert_eq!(first["bits_per_element"].as_f64(), Some(q.bits_per_element()));
    assert_eq!(first["bytes"].as_u64(), Some(q.bytes()));
    let close = |figure: &str, value: f64| {
        let found = first[figure].as_f64().unwrap();
        assert!((found - value).abs() <= 1e-12 * value.abs(), "{figure}: {found} and {value}");
    };
    close("sqnr_db", sqnr(&weight, &dequantized).unwrap());
    close("mse", lowbit::metrics::mse(&weight, &dequantized).unwrap());
    close("max_abs_error", lowbit::metrics::max_abs_error(&weight, &dequantized).unwrap());
    close("cosine", lowbit::metrics::cosine_similarity(&weight, &dequantized).unwrap());
    assert!(report["totals"]["bytes"].as_u64() < report["totals"]["bytes_before"].as_u64());
}

#[test]
fn undefined_and_infinite_figures_are_null() {
    let Some(folder) = folder() else { return };
    let (zeros, none) = (Array2::<f32>::zeros((2, 3)), Array2::<f32>::zeros((0, 3)));
    let tensors: [(&str, Tensor<'_>); 2] = [("none", (&*none).into()), ("zeros", (&*zeros).into())];
    save(folder.path("zeros.safetensors"), tensors).unwrap();
    folder.works(&["zeros.safetensors", "--report", "r.json", "--output", "q.safetensors", "--verify"]);
    let report: Value = serde_json::from_slice(&fs::read(folder.path("r.json")).unwrap()).unwrap();
    assert!(report["tensors"][0]["bits_per_element"].is_null() && report["tensors"][0]["mse"].is_null());
    assert!(report["tensors"][1]["sqnr_db"].is_null() && report["tensors"][1]["cosine"].is_null());
    assert_eq!(report["tensors"][1]["mse"].as_f64(), Some(0.0));
}

#[test]
fn unaligned_tensors_are_read_as_well() {
    let Some(folder) = folder() else { return };
    let weight = weights(4, 6);
    let data: Vec<u8> = weight.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut header = serde_json::json!({
        "w": {"dtype": "F32", "shape": [4, 6], "data_offsets": [0, data.len()]},
    })
    .to_string();
    while header.len() % 4 != 1 {
        header.push(' ');
    }
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    fs::write(folder.path("odd.safetensors"), file).unwrap();
    folder.works(&["odd.safetensors", "--output", "q.safetensors", "--verify"]);
    let bytes = fs::read(folder.path("q.safetensors")).unwrap();
    let recipe: Recipe = "uniform; granularity=channel".parse().unwrap();
    assert_eq!(File::new(&bytes).unwrap().quantized("w").unwrap(), recipe.quantize(&weight).unwrap());
}

#[test]
fn npy_files_of_both_orders_are_read() {
    let Some(folder) = folder() else { return };
    let weight = weights(4, 6);
    let check = |path: &Path| {
        folder.works(&[path.to_str().unwrap(), "--output", "q.safetensors", "--verify"]);
        let bytes = fs::read(folder.path("q.safetensors")).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let recipe: Recipe = "uniform; granularity=channel".parse().unwrap();
        let found = File::new(&bytes).unwrap().quantized(name).unwrap();
        assert_eq!(found.codes(), recipe.quantize(&weight).unwrap().codes());
    };
    ndarray_npy::write_npy(folder.path("rows.npy"), &weight).unwrap();
    check(&folder.path("rows.npy"));
    ndarray_npy::write_npy(folder.path("double.npy"), &weight.mapv(f64::from)).unwrap();
    folder.works(&["double.npy", "--output", "q.safetensors", "--verify"]);
    let columns = weight.t().as_standard_layout().into_owned().reversed_axes();
    ndarray_npy::write_npy(folder.path("columns.npy"), &columns).unwrap();
    check(&folder.path("columns.npy"));
    ndarray_npy::write_npy(folder.path("integers.npy"), &weight.mapv(|value| value as i32)).unwrap();
    assert!(folder.fails(&["integers.npy"]).contains("floating-point"));
}

#[test]
fn a_tensor_that_is_quantized_already_is_refused() {
    let Some(folder) = folder() else { return };
    folder.works(&["model.safetensors", "--output", "q.safetensors"]);
    assert!(folder.fails(&["q.safetensors"]).contains("tensor a.weight is quantized already"));
    // Nor is the only copy of the weights replaced.
    let refused = folder.fails(&["model.safetensors", "--output", "./model.safetensors"]);
    assert!(refused.contains("--output would replace the input"), "{refused}");
}
