//! Paths that must not meet.
//!
//! Included with `#[path = "../support/paths.rs"] mod paths;`.

use std::path::Path;

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
