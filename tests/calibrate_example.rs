//! The behaviour of the example `calibrate`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::example::Folder;
use ndarray::Array4;

/// What makes a run short.
const SHORT: [&str; 8] = ["--batches", "2", "--images", "16", "--bits", "4", "--calibration", "minmax"];

fn folder() -> Option<Folder> {
    Folder::of("calibrate")
}

#[test]
fn help_names_every_option() {
    let Some(folder) = folder() else { return };
    folder.help_names(&[
        "--batches",
        "--resume",
        "--save",
        "--bits",
        "--calibration",
        "--images",
        "--activation",
        "--output",
        "--spectrograms",
    ]);
}

#[test]
fn wrong_arguments_are_one_line() {
    let Some(folder) = folder() else { return };
    for (arguments, part) in [
        (&["--bitz", "4"][..], "--bitz"),
        (&["--bits", "17"], "1 to 16"),
        (&["--batches", "1"], "--batches"),
        (&["--images", "many"], "many"),
        (&["--calibration", "guess"], "guess"),
        (&["--calibration", "percentile(101)"], "101"),
        (&["--activation", "conv9"], "there are conv1, depthwise2"),
        (&["--output", "no/such/folder/out.svg"], "no/such/folder"),
        (&["--output", "."], "cannot be written"),
        (&["--output", "same", "--save", "./same"], "the same file"),
        (&["--save", "a.npy", "--spectrograms", "a.npy"], "would replace the spectrograms"),
        (&["--resume", "none.json"], "none.json"),
        (&["--resume", "."], "not a file"),
        (&["--spectrograms", "none.npy"], "none.npy"),
        (&["--spectrograms", "specs.txt"], "only .safetensors and .npy"),
    ] {
        let line = folder.fails(arguments);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
}

/// A run in two parts, of which the second goes on from the file of the first, is the run in one.
#[test]
fn a_resumed_run_writes_the_file_of_the_whole_run() {
    let Some(folder) = folder() else { return };
    let told = folder.works(&[&SHORT[..], &["--save", "first.json", "--output", "a.svg"]].concat());
    for part in [
        "Observed 128 images in batches of 64: 1 in one place, 1 in another",
        "bit for bit",
        "every calibration at 4 bits",
        "weighted-entropy",
        "would more samples move it?",
        "static, per channel",
        "dynamic, per row",
        "Spectrograms: skipped, there are none at nowhere",
        "observers: first.json",
        "picture: a.svg",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let resume = ["--resume", "first.json", "--save", "second.json", "--output", "b.svg"];
    let told = folder.works(&[&SHORT[..], &resume].concat());
    assert!(told.starts_with("Resumed after 128 images."), "{told}");
    let whole = [&["--batches", "4"], &SHORT[2..], &["--save", "whole.json", "--output", "c.svg"]].concat();
    folder.works(&whole);
    assert_eq!(folder.names(), ["a.svg", "b.svg", "c.svg", "first.json", "second.json", "whole.json"]);
    let read = |name: &str| fs::read_to_string(folder.path(name)).unwrap();
    assert!(read("second.json") == read("whole.json"), "bit for bit");
    assert!(read("first.json") != read("whole.json"));
    // So the thresholds are the same, and so is their picture.
    assert!(read("b.svg") == read("c.svg"));
    let svg = read("a.svg");
    assert!(svg.trim_end().ends_with("</svg>"));
    for name in ["minmax", "aciq gaussian", "onnxruntime-entropy", "4 bits", "conv4"] {
        assert!(svg.contains(name), "{name}");
    }

    // A damaged file is told, and nothing is written.
    let text = read("whole.json");
    for (name, damaged) in [
        ("cut.json", text[..text.len() / 2].to_owned()),
        ("empty.json", String::new()),
        ("noise.json", "\u{1}\u{2}noise".to_owned()),
        ("other.json", r#"{"weights": [1, 2, 3]}"#.to_owned()),
        ("count.json", text.replacen("\"images\":256", "\"images\":255", 1)),
        ("task.json", text.replacen("lowbit glyphs 1", "digits", 1)),
    ] {
        assert!(damaged != text, "{name}");
        fs::write(folder.path(name), damaged).unwrap();
        let line = folder.fails(&[&SHORT[..], &["--resume", name, "--save", "new.json"]].concat());
        assert!(line.starts_with(&format!("error: {name}: ")), "{line}");
    }
}

#[test]
fn spectrograms_are_a_stream_as_well() {
    let Some(folder) = folder() else { return };
    let mut specs =
        Array4::from_shape_fn((5, 6, 1, 8), |(n, t, _, f)| ((n * 48 + t * 8 + f) as f32).sin().abs());
    ndarray_npy::write_npy(folder.path("specs.npy"), &specs).unwrap();
    let told = folder.works(&[&SHORT[..], &["--spectrograms", "specs.npy"]].concat());
    for part in ["specs.npy, 5 recordings", "how many are needed?", "static, 4", "dynamic, each"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    specs[[3, 2, 0, 1]] = f32::NAN;
    ndarray_npy::write_npy(folder.path("nan.npy"), &specs).unwrap();
    let flat = ndarray::Array1::<f32>::zeros(7);
    ndarray_npy::write_npy(folder.path("flat.npy"), &flat).unwrap();
    fs::write(folder.path("noise.npy"), [0xa5; 99]).unwrap();
    for (name, part) in [
        ("nan.npy", "NaN at index [3, 2, 0, 1]"),
        ("flat.npy", "shape [7]"),
        ("noise.npy", "not a .npy file"),
    ] {
        let line = folder.fails(&["--spectrograms", name]);
        assert!(line.contains(name) && line.contains(part), "{line}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing() {
    let Some(folder) = folder() else { return };
    fs::write(folder.path("old.json"), "old").unwrap();
    let arguments = ["--batches", "100000", "--save", "old.json", "--output", "new.svg"];
    folder.interrupted(&arguments, "observing");
    assert_eq!(folder.names(), ["old.json"]);
    assert_eq!(fs::read_to_string(folder.path("old.json")).unwrap(), "old");
}
