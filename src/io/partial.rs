//! A file that gets its name when it is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::FormatError;

/// A temporary file beside its target. Dropped before [`finish`](Self::finish), it is removed, and whatever
/// the target was stays.
#[derive(Debug)]
pub(super) struct PartialFile {
    file: BufWriter<File>,
    /// `None` once it is renamed.
    partial: Option<PathBuf>,
    target: PathBuf,
}

/// Bytes between two calls of the operating system.
const BUFFER: usize = 1 << 16;

/// Names tried before giving up: others that write to the same target at the same time take one each.
const ATTEMPTS: u32 = 1000;

impl PartialFile {
    pub(super) fn create(target: &Path) -> Result<Self, FormatError> {
        // Through a link to the file that it stands for, so that the link stays.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let error = |source| io_error(&target, source);
        let invalid = |problem| error(io::Error::new(io::ErrorKind::InvalidInput, problem));
        let Some(name) = target.file_name() else {
            return Err(invalid("the path does not name a file"));
        };
        // A rename would replace a device as readily as a file.
        if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(invalid("not a regular file"));
        }
        for attempt in 0..ATTEMPTS {
            let mut partial = std::ffi::OsString::from(".");
            partial.push(name);
            partial.push(format!(".{}-{attempt}.partial", std::process::id()));
            let partial = target.with_file_name(partial);
            match OpenOptions::new().write(true).create_new(true).open(&partial) {
                Ok(file) => {
                    let file = BufWriter::with_capacity(BUFFER, file);
                    return Ok(Self { file, partial: Some(partial), target });
                }
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(error(source)),
            }
        }
        Err(error(io::ErrorKind::AlreadyExists.into()))
    }

    /// Sets the length of the file.
    pub(super) fn set_len(&mut self, len: u64) -> Result<(), FormatError> {
        self.run(|file| {
            file.flush()?;
            file.get_ref().set_len(len)
        })
    }

    /// Writes the bytes that `write` makes from byte `offset` on.
    pub(super) fn write_at(
        &mut self,
        offset: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), FormatError> {
        self.run(|file| {
            file.seek(SeekFrom::Start(offset))?;
            write(file)
        })
    }

    /// Gives the file its name, once its bytes are on the disk.
    pub(super) fn finish(mut self) -> Result<(), FormatError> {
        self.run(|file| {
            file.flush()?;
            file.get_ref().sync_all()
        })?;
        if let Some(partial) = &self.partial {
            fs::rename(partial, &self.target).map_err(|source| io_error(&self.target, source))?;
        }
        self.partial = None;
        Ok(())
    }

    fn run<R>(
        &mut self,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<R>,
    ) -> Result<R, FormatError> {
        write(&mut self.file).map_err(|source| io_error(&self.target, source))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // There is nobody to tell, and nothing else to try.
            let _ = fs::remove_file(partial);
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> FormatError {
    FormatError::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_target_is_replaced_at_the_end_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        fs::write(&target, "old").unwrap();
        let mut file = PartialFile::create(&target).unwrap();
        let mut other = PartialFile::create(&target).unwrap();
        file.set_len(4).unwrap();
        file.write_at(2, |file| file.write_all(b"w!")).unwrap();
        file.write_at(0, |file| file.write_all(b"ne")).unwrap();
        other.write_at(0, |file| file.write_all(b"other")).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(names(folder.path()).len(), 3);
        file.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new!");
        drop(other);
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(fs::read(&target).unwrap(), b"new!");
    }

    #[test]
    fn what_is_not_a_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), Path::new("/"), Path::new(""), &folder.path().join("none/file")] {
            let error = PartialFile::create(path).unwrap_err();
            assert!(matches!(error, FormatError::Io { .. }), "{path:?}: {error}");
        }
        assert!(names(folder.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut file = PartialFile::create(&link).unwrap();
        file.write_at(0, |file| file.write_all(b"new")).unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
