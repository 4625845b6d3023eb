//! The behaviour of the examples that draw one tensor: `compare` and `calibrators`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::example::Folder;
use ndarray::Array2;

/// A folder with a small tensor, and files that are none.
fn folder(name: &str) -> Option<Folder> {
    let folder = Folder::of(name)?;
    let weights =
        Array2::from_shape_fn((4, 64), |(i, j)| ((i * 64 + j) as f32 * 0.7).sin() * (1.0 + i as f32));
    ndarray_npy::write_npy(folder.path("weights.npy"), &weights).unwrap();
    let whole = fs::read(folder.path("weights.npy")).unwrap();
    fs::write(folder.path("short.npy"), &whole[..whole.len() - 1]).unwrap();
    fs::write(folder.path("noise.safetensors"), [0xa5; 999]).unwrap();
    fs::write(folder.path("empty.safetensors"), []).unwrap();
    fs::write(folder.path("text.txt"), "text").unwrap();
    Some(folder)
}

#[test]
fn help_names_every_option() {
    for (name, options) in [
        ("compare", &["--tensor", "--bits", "--granularity", "--output", "--report"][..]),
        (
            "calibrators",
            &["--tensor", "--bits", "--symmetry", "--range", "--granularity", "--axis", "--output"],
        ),
    ] {
        let Some(folder) = folder(name) else { return };
        folder.help_names(options);
    }
}

#[test]
fn wrong_arguments_and_damaged_files_are_one_line() {
    for name in ["compare", "calibrators"] {
        let Some(folder) = folder(name) else { return };
        for (arguments, part) in [
            (&["--bitz", "4"][..], "--bitz"),
            (&["--bits", "17"], "17"),
            (&["--bits", "many"], "many"),
            (&["--granularity", "tensor"], "tensor"),
            (&["--tensor", "none"], "none"),
            (&["weights.npy", "--output", "./weights.npy"], "would replace"),
            (&["none.npy"], "none.npy"),
            (&["."], "only .safetensors and .npy"),
            (&["short.npy"], "damaged or cut off"),
            (&["noise.safetensors"], "noise.safetensors"),
            (&["empty.safetensors"], "empty.safetensors"),
            (&["text.txt"], "only .safetensors and .npy"),
        ] {
            let line = folder.fails(arguments);
            assert!(line.contains(part), "{name} {arguments:?}: {line}");
        }
    }
}

#[test]
fn a_tensor_becomes_tables_and_a_picture() {
    for (name, parts) in
        [("compare", ["block4", "k-means", "2 bits"]), ("calibrators", ["minmax", "mse", "2 bits"])]
    {
        let Some(folder) = folder(name) else { return };
        let told = folder.works(&["weights.npy", "--bits", "4,2", "--output", "picture.svg"]);
        let svg = fs::read_to_string(folder.path("picture.svg")).unwrap();
        assert!(svg.trim_end().ends_with("</svg>"));
        for part in parts {
            assert!(told.to_lowercase().contains(part), "{name}: {part} in {told}");
        }
    }
}
