//! Files that are either whole or not there.
//!
//! Included with `#[path = "../support/write.rs"] mod write;`.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes `bytes` beside `path` and renames the file, so that a reader sees the old file or the whole new one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let label = || format!("cannot write {}", path.display());
    let name = path.file_name().context("it has no file name").with_context(label)?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(beside);
    let written = OpenOptions::new().write(true).create_new(true).open(&beside).and_then(|mut file| {
        let written =
            file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
        if written.is_err() {
            // What is left is of no use; the first error is the one to tell.
            let _ = fs::remove_file(&beside);
        }
        written
    });
    written.with_context(label)
}
