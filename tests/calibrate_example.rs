//! The behaviour of the example `calibrate`, which `cargo test` builds. Where it is not built, because a single test
//! target was asked for, the tests say so and pass.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use ndarray::Array4;
use tempfile::TempDir;

/// What makes a run short.
const SHORT: [&str; 8] = ["--batches", "2", "--images", "16", "--bits", "4", "--calibration", "minmax"];

fn example() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let path =
        test.parent()?.parent()?.join("examples").join(format!("calibrate{}", std::env::consts::EXE_SUFFIX));
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not built", path.display());
    None
}

/// A folder to run in.
struct Folder {
    folder: TempDir,
    example: PathBuf,
}

impl Folder {
    fn new() -> Option<Self> {
        Some(Self { example: example()?, folder: tempfile::tempdir().unwrap() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Without the spectrograms that may lie beside the package.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.example);
        command.args(arguments).current_dir(self.folder.path()).env("LOWBIT_WEIGHTS", "nowhere");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a run that works.
    fn works(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line of a run that does not.
    fn fails(&self, arguments: &[&str]) -> String {
        let before = self.names();
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: work was done before it was said");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.starts_with("error: ") && errors.lines().count() == 1, "{arguments:?}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
        assert_eq!(self.names(), before, "{arguments:?} left a file");
        errors
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn help_names_every_option() {
    let Some(folder) = Folder::new() else { return };
    let help = folder.works(&["--help"]);
    for option in [
        "--batches",
        "--resume",
        "--save",
        "--bits",
        "--calibration",
        "--images",
        "--activation",
        "--output",
        "--spectrograms",
    ] {
        assert!(help.contains(option), "{option} in {help}");
    }
}

#[test]
fn wrong_arguments_are_one_line() {
    let Some(folder) = Folder::new() else { return };
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
    let Some(folder) = Folder::new() else { return };
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
    let Some(folder) = Folder::new() else { return };
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
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let Some(folder) = Folder::new() else { return };
    fs::write(folder.path("old.json"), "old").unwrap();
    let arguments = ["--batches", "100000", "--save", "old.json", "--output", "new.svg"];
    let mut command = folder.command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert!(line.starts_with("observing"), "{line}");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    if !interrupted.is_ok_and(|status| status.success()) {
        child.kill().unwrap();
        child.wait().unwrap();
        eprintln!("SKIPPED: there is no command to interrupt with");
        return;
    }
    line.clear();
    errors.read_line(&mut line).unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(line, "error: interrupted: nothing was written\n");
    assert_eq!(folder.names(), ["old.json"]);
    assert_eq!(fs::read_to_string(folder.path("old.json")).unwrap(), "old");
}
