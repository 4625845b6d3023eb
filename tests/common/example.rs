//! Running the examples, which `cargo test` builds. Where one is not built, because a single test target was asked for,
//! its tests say so and pass.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder to run an example in.
pub struct Folder {
    folder: TempDir,
    example: PathBuf,
}

impl Folder {
    /// An empty folder for the example called `name`.
    pub fn of(name: &str) -> Option<Self> {
        let test = std::env::current_exe().ok()?;
        let path =
            test.parent()?.parent()?.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        if path.exists() {
            return Some(Self { folder: tempfile::tempdir().unwrap(), example: path });
        }
        eprintln!("SKIPPED: {} is not built", path.display());
        None
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Without the weights that may lie beside the package.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.example);
        command.args(arguments).current_dir(self.folder.path()).env("LOWBIT_WEIGHTS", "nowhere");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a run that works.
    pub fn works(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line of a run that does not, and leaves nothing behind.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let before = self.names();
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: work was done before it was said");
        let errors = String::from_utf8(output.stderr).unwrap();
        // Progress lines may come before it.
        let last = errors.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("error: "), "{arguments:?}: {errors}");
        assert_eq!(errors.matches("error: ").count() - last["error: ".len()..].matches("error: ").count(), 1);
        let words: Vec<&str> = last.split(": ").collect();
        assert!(words.windows(2).all(|two| two[0] != two[1]), "said twice: {last}");
        assert!(!errors.contains("panicked") && !errors.contains("backtrace"), "{errors}");
        assert_eq!(self.names(), before, "{arguments:?} left a file");
        last
    }

    /// Interrupts a run once the part called `part` has begun, and looks at the one line that it leaves.
    pub fn interrupted(&self, arguments: &[&str], part: &str) {
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

    /// The names of all files.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Asserts that `--help` names every one of `options`.
    pub fn help_names(&self, options: &[&str]) {
        let help = self.works(&["--help"]);
        for option in options {
            assert!(help.contains(option), "{option} in {help}");
        }
    }
}
