//! Running an example, as its user does.
//!
//! Included with `#[path = "common/example.rs"] mod example;`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The program of the example `name`, which `cargo test` builds.
fn example(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let path =
        test.parent()?.parent()?.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not built", path.display());
    None
}

/// A folder to run an example in.
pub(crate) struct Folder {
    folder: TempDir,
    example: PathBuf,
}

impl Folder {
    /// An empty one, if the example is built.
    pub(crate) fn new(name: &str) -> Option<Self> {
        Some(Self { example: example(name)?, folder: tempfile::tempdir().unwrap() })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Without the weights that may lie beside the package.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.example);
        command.args(arguments).current_dir(self.folder.path()).env("LOWBIT_WEIGHTS", "nowhere");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a run that works.
    pub(crate) fn works(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line of a run that does not.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
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

    /// Interrupts a run once the part called `part` has begun, and looks at the one line that it leaves.
    pub(crate) fn interrupted(&self, arguments: &[&str], part: &str) {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert!(line.starts_with(part), "{line}");
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
    }

    /// The names of all files, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
