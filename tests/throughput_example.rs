//! The behaviour of the example `throughput`, which `cargo test` builds. Where it is not built, because a single test
//! target was asked for, the tests say so and pass. No figure is checked but for being one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use lowbit::simd;
use serde_json::Value;

/// What makes a run short.
const SHORT: [&str; 6] = ["--operations", "min_max", "--shape", "256", "--repetitions", "2"];

fn example() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let path =
        test.parent()?.parent()?.join("examples").join(format!("throughput{}", std::env::consts::EXE_SUFFIX));
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not built", path.display());
    None
}

fn run(example: &PathBuf, arguments: &[&str]) -> Output {
    Command::new(example).args(arguments).output().unwrap()
}

/// The one line of a run that does not work.
fn fails(example: &PathBuf, arguments: &[&str]) -> String {
    let output = run(example, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
    assert!(errors.starts_with("error: ") && errors.lines().count() == 1, "{arguments:?}: {errors}");
    errors
}

#[test]
fn figures_are_printed_and_written() {
    let Some(example) = example() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("figures.json");
    // Without rayon there is one thread.
    let threads = if cfg!(feature = "rayon") { "1,2" } else { "1" };
    let more = ["--threads", threads, "--element", "f32,bf16", "--json", path.to_str().unwrap()];
    let output = run(&example, &[&SHORT[..], &more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let figures: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let figures = figures.as_array().unwrap();
    // Three operations of two types.
    assert_eq!(figures.len(), 6 * threads.split(',').count());
    for figure in figures {
        let text = |name: &str| figure[name].as_str().unwrap();
        let operation = text("operation");
        assert!(operation.contains("min_max") && printed.contains(operation));
        assert_eq!((text("shape"), text("level")), ("256x256", &*simd::level().to_string()));
        assert!(["f32", "bf16"].contains(&text("input")));
        assert!(threads.contains(&figure["threads"].as_u64().unwrap().to_string()));
        for name in ["seconds", "gb_per_s", "ns_per_element", "roofline_ratio"] {
            assert!(figure[name].as_f64().unwrap() > 0.0, "{name} of {figure}");
        }
        let elements = 256.0 * 256.0;
        let ns = figure["seconds"].as_f64().unwrap() * 1e9 / elements;
        assert!((ns / figure["ns_per_element"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn other_programs_stand_beside_ours() {
    let Some(example) = example() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("others.jsonl");
    let line = |ratio: f64, threads: u32| {
        format!(
            "{{\"task\":\"minmax_per_channel\",\"peer\":\"other {ratio}\",\"version\":\"1.2\",\"threads\":{threads},\
             \"shape\":\"256x256\",\"ratio_to_roofline\":{ratio}}}\n"
        )
    };
    let lines = [line(0.25, 1), line(0.5, 1), line(0.75, 2), "{\"task\":\"error\"}\n".to_owned()];
    fs::write(&path, lines.concat()).unwrap();
    let with = |more: &[&str]| run(&example, &[&SHORT[..], &["--threads", "1", "--peers"], more].concat());
    let printed = String::from_utf8(with(&[path.to_str().unwrap()]).stdout).unwrap();
    assert!(printed.contains("other 0.5 1.2") && !printed.contains("other 0.75"), "{printed}");
    fs::write(&path, "not JSON").unwrap();
    let arguments = [&SHORT[..], &["--peers", path.to_str().unwrap()]].concat();
    assert!(fails(&example, &arguments).contains("line 1"));
}

#[test]
fn a_level_is_forced_or_refused() {
    let Some(example) = example() else { return };
    for level in ["baseline", "avx2", "avx512"] {
        let arguments = [&SHORT[..], &["--threads", "1", "--level", level]].concat();
        if simd::available().contains(&level.parse().unwrap()) {
            let output = run(&example, &arguments);
            assert!(String::from_utf8(output.stdout).unwrap().contains(&format!("1 thread, {level}\n")));
        } else {
            assert!(fails(&example, &arguments).contains(level));
        }
    }
}

#[test]
fn wrong_arguments_are_one_line() {
    let Some(example) = example() else { return };
    for (arguments, part) in [
        (&["--operations", "sort"][..], "there are quantize_i8_per_tensor_reciprocal"),
        (&["--shape", "7"], "multiple of 4096"),
        (&["--level", "sse"], "avx2"),
        (&["--threads", "0"], "--threads"),
        (&["--json", "no/such/folder/out.json"], "no/such/folder"),
    ] {
        assert!(fails(&example, arguments).contains(part), "{arguments:?}");
    }
}

#[test]
fn help_names_every_option() {
    let Some(example) = example() else { return };
    let help = String::from_utf8(run(&example, &["--help"]).stdout).unwrap();
    for option in
        ["--operations", "--shape", "--threads", "--element", "--level", "--repetitions", "--peers", "--json"]
    {
        assert!(help.contains(option), "{option} in {help}");
    }
}
