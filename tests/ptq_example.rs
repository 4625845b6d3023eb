//! The behaviour of the example `ptq`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::example::Folder;
use serde_json::Value;

/// What makes a run short.
const SHORT: [&str; 4] = ["--samples", "64", "--images", "100"];

fn folder() -> Option<Folder> {
    Folder::of("ptq")
}

#[test]
fn help_names_every_option_and_method() {
    let Some(folder) = folder() else { return };
    folder.help_names(&[
        "--methods",
        "--bits",
        "--granularity",
        "--calibration",
        "--samples",
        "--seed",
        "--images",
        "--output",
        "--report",
        "gptq-act-order",
        "dense-and-sparse",
        "mixed-METHOD",
    ]);
}

#[test]
fn wrong_arguments_are_one_line() {
    let Some(folder) = folder() else { return };
    fs::write(folder.path("noise.safetensors"), [0xa5; 99]).unwrap();
    fs::write(folder.path("empty.safetensors"), []).unwrap();
    for (arguments, part) in [
        (&["--bitz", "4"][..], "--bitz"),
        (&["--bits", "1"], "2 to 8"),
        (&["--bits", "9"], "2 to 8"),
        (&["--methods", "magic"], "there are nearest, omse"),
        (&["--samples", "0"], "--samples"),
        (&["--images", "many"], "many"),
        (&["--granularity", "row"], "row"),
        (&["--calibration", "guess"], "guess"),
        (&["--output", "no/such/folder/out.svg"], "no/such/folder"),
        (&["--report", "."], "cannot be written"),
        (&["--output", "same", "--report", "./same"], "the same file"),
        (&["noise.safetensors", "--report", "noise.safetensors"], "would replace the network"),
        (&["none.safetensors"], "none.safetensors"),
        (&["noise.safetensors"], "not a safetensors file"),
        (&["empty.safetensors"], "empty.safetensors"),
        (&["."], "not a file"),
    ] {
        let line = folder.fails(arguments);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
}

#[test]
fn the_report_has_every_figure_and_gptq_is_not_worse_than_nearest() {
    let Some(folder) = folder() else { return };
    let arguments = ["--methods", "nearest,gptq,mixed-nearest", "--bits", "4,3", "--report", "out.json"];
    let told = folder.works(&[&SHORT[..], &arguments].concat());
    for part in ["float", "4 bits", "3 bits", "mixed-nearest: conv1", "report: out.json", "picture: ptq.svg"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(folder.names(), ["out.json", "ptq.svg"]);
    let svg = fs::read_to_string(folder.path("ptq.svg")).unwrap();
    assert!(svg.trim_end().ends_with("</svg>") && svg.contains("mixed-nearest"));

    let rows: Vec<Value> = serde_json::from_slice(&fs::read(folder.path("out.json")).unwrap()).unwrap();
    let figure = |row: &Value, name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"));
    let find = |method: &str, bits: u64| {
        let found = rows.iter().find(|row| row["method"] == method && row["bits"] == bits);
        found.unwrap_or_else(|| panic!("{method} at {bits} bits"))
    };
    assert_eq!(rows.len(), 7);
    let float = find("float", 32);
    assert!(figure(float, "accuracy") > 0.9 && float["output_sqnr_db"].is_null());
    for row in &rows {
        assert!((0.0..=1.0).contains(&figure(row, "accuracy")) && figure(row, "seconds") >= 0.0);
        assert_eq!(row["layer_bits"].as_object().unwrap().len(), 7);
    }
    for bits in [4, 3] {
        let [nearest, gptq, mixed] = ["nearest", "gptq", "mixed-nearest"].map(|method| find(method, bits));
        for name in ["calibration_mse", "held_out_mse"] {
            assert!(figure(gptq, name) < figure(nearest, name), "{name} at {bits} bits");
        }
        assert!(figure(gptq, "output_sqnr_db") > figure(nearest, "output_sqnr_db"));
        assert_eq!(figure(gptq, "bits_per_weight"), figure(nearest, "bits_per_weight"));
        assert!(figure(mixed, "bits_per_weight") <= figure(nearest, "bits_per_weight"));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing() {
    let Some(folder) = folder() else { return };
    fs::write(folder.path("old.json"), "old").unwrap();
    let arguments = ["--methods", "gptq", "--samples", "2000", "--report", "old.json", "--output", "new.svg"];
    folder.interrupted(&arguments, "quantizing");
    assert_eq!(folder.names(), ["old.json"]);
    assert_eq!(fs::read_to_string(folder.path("old.json")).unwrap(), "old");
}
