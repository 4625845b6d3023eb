//! Files as users have them, and numbers as they are printed.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use half::bf16;
use lowbit::prelude::*;
use ndarray::{ArrayD, IxDyn, arr2};

use crate::compare::{calibrations, compare};
use crate::numbers::number;
use crate::options::Options;
use crate::paths::same_file;
use crate::picture::{self, Histogram};
use crate::run;
use crate::tensors::{Tensor, TensorFile};

/// A `.npy` file of version 1.
fn npy(descr: &str, fortran: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

fn safetensors(header: &str, values: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// The one line that the user reads.
fn message(result: anyhow::Result<impl Sized>) -> String {
    let message = format!("{:#}", result.err().unwrap());
    assert!(!message.contains('\n'), "{message}");
    message
}

fn first(path: &Path) -> anyhow::Result<Tensor> {
    let mut file = TensorFile::open(path)?;
    let entry = file.entries()[0].clone();
    file.read(&entry)
}

#[test]
fn npy_files_of_either_order_and_endianness() {
    let folder = tempfile::tempdir().unwrap();
    let little: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let big: Vec<u8> = [1.0f64, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_be_bytes()).collect();
    let path = write(folder.path(), "a.npy", &npy("<f4", "False", "(2, 2)", &little));
    assert_eq!(first(&path).unwrap(), Tensor::F32(arr2(&[[1.0, 2.0], [3.0, 4.0]]).into_dyn()));
    let path = write(folder.path(), "b.npy", &npy(">f8", "True", "(2, 2)", &big));
    assert_eq!(first(&path).unwrap(), Tensor::F64(arr2(&[[1.0, 3.0], [2.0, 4.0]]).into_dyn()));
    assert_eq!(TensorFile::open(&path).unwrap().entries()[0].name, "b");
}

#[test]
fn safetensors_files_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let header = r#"{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},
        "i":{"dtype":"I8","shape":[1],"data_offsets":[4,5]}}"#;
    let values: Vec<u8> =
        [1.5f32, -2.0].iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).chain([7]).collect();
    let path = write(folder.path(), "w.safetensors", &safetensors(header, &values));
    let mut file = TensorFile::open(&path).unwrap();
    let entry = file.find("w").unwrap().clone();
    let expected = [1.5, -2.0].map(bf16::from_f32).to_vec();
    assert_eq!(
        file.read(&entry).unwrap(),
        Tensor::Bf16(ArrayD::from_shape_vec(IxDyn(&[2]), expected).unwrap())
    );
    assert!(message(file.find("x")).contains("there are i, w"));
    let integer = file.find("i").unwrap().clone();
    assert!(message(file.read(&integer)).contains("type I8"));
}

#[test]
fn damaged_files_are_refused_before_anything_is_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    for (name, bytes, expected) in [
        ("huge.npy", npy("<f4", "False", "(1099511627776, 1024)", &[]), "cut off"),
        ("overflow.npy", npy("<f4", "False", "(9223372036854775807, 9)", &[]), "cut off"),
        ("short.npy", npy("<f4", "False", "(2,)", &[0; 7]), "cut off"),
        ("long.npy", npy("<f4", "False", "(2,)", &[0; 9]), "damaged"),
        ("integer.npy", npy("<i4", "False", "(1,)", &[0; 4]), "type <i4"),
        ("magic.npy", b"PK\x03\x04 and more of it".to_vec(), "not a .npy file"),
        ("empty.npy", Vec::new(), "not a .npy file"),
        ("huge.safetensors", vec![0xff; 64], "not a safetensors file"),
        ("empty.safetensors", Vec::new(), "not a safetensors file"),
        ("short.safetensors", safetensors(header, &[0; 7]), "cut off"),
        ("text.safetensors", safetensors("{\"w\":\n1}", &[]), "damaged safetensors header"),
        ("tensor.txt", Vec::new(), "only .safetensors and .npy"),
    ] {
        let path = write(folder.path(), name, &bytes);
        let message = message(first(&path));
        assert!(message.contains(expected) && message.contains(name), "{name}: {message}");
    }
    assert!(message(first(&folder.path().join("none.npy"))).contains("none.npy"));
}

#[test]
fn every_tensor_that_can_be_compared_can_be_drawn() {
    let options = Options::try_parse_from(["calibrators"]).unwrap();
    let setup = options.setup(1).unwrap();
    for values in [
        vec![0.0],
        vec![2.5, 2.5],
        vec![-1.0],
        vec![1e-310, -3e-310, 2e-320],
        vec![1e307, -8e306, 1.0],
        vec![1e30, 1.0, -1e-30],
        vec![1000.0, 1000.5, 1001.0],
    ] {
        let tensor = ArrayD::from_shape_vec(IxDyn(&[values.len()]), values.clone()).unwrap();
        let panels = [compare(&tensor, BitWidth::new(4).unwrap(), &setup).unwrap().drawn()];
        let axis = picture::x_axis(tensor.iter().copied(), &panels);
        let histogram = Histogram::of(tensor.iter().copied(), &axis);
        let svg = picture::draw("title", "subtitle", &histogram, &axis, &panels).unwrap();
        assert!(svg.trim_end().ends_with("</svg>"), "{values:?}");
        for (name, _) in calibrations().unwrap() {
            assert!(svg.contains(&name), "{values:?}: {name}");
        }
    }
}

#[test]
fn options_that_cannot_work_are_errors() {
    let setup = |arguments: &[&str]| {
        let arguments = [&["calibrators"], arguments].concat();
        Options::try_parse_from(arguments).unwrap().setup(2)
    };
    assert!(message(setup(&["--axis", "0"])).contains("--axis does not apply"));
    assert!(message(setup(&["--granularity", "channel", "--axis", "-3"])).contains("axis -3"));
    assert!(message(setup(&["--bits", "8,1"])).contains("2 bits"));
    assert!(
        message(setup(&["--range", "full", "--symmetry", "asymmetric"])).contains("symmetric grids only")
    );
    let last = setup(&["--granularity", "subchannel=32", "--axis", "-1"]).unwrap();
    assert!(last.to_string().ends_with("granularity subchannel(32, axis=1)"));
    for bad in ["--bits=0", "--bits=4,17", "--granularity=group=0", "--granularity=row", "--range=half"] {
        assert!(Options::try_parse_from(["calibrators", bad]).is_err(), "{bad}");
    }
}

#[test]
fn the_sample_is_compared_and_nothing_half_written_stays() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("picture.svg");
    run(&Options::parse_from(["calibrators", "--output", output.to_str().unwrap()])).unwrap();
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["picture.svg"]);
    assert!(same_file(&output, &folder.path().join(".").join("picture.svg")));
}

#[test]
fn numbers_have_four_digits() {
    let cases =
        [(0.0, "0"), (0.9185, "0.9185"), (-12.3456, "-12.35"), (123456.0, "123456"), (1e-9, "1.000e-9")];
    for (value, text) in cases {
        assert_eq!(number(value), text);
    }
}
