//! Paths that must not meet, and that can be written.
//!
//! Included with `#[path = "../support/paths.rs"] mod paths;`.

#![allow(dead_code, reason = "shared by several examples, each of which uses a part")]

use std::path::Path;

use anyhow::{Result, ensure};

/// Whether both paths lead to one file, whether it exists yet or not.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| {
        std::fs::canonicalize(path).ok().or_else(|| {
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some(std::fs::canonicalize(folder).ok()?.join(path.file_name()?))
        })
    };
    a == b || real(a).is_some_and(|a| real(b) == Some(a))
}

/// Better said now than after the work: an error unless `path`, given by `option`, can become a file.
pub(crate) fn check_output(option: &str, path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let there = folder.is_none_or(|folder| folder.is_dir());
    ensure!(there && !path.is_dir(), "{option}: {} cannot be written there", path.display());
    Ok(())
}
