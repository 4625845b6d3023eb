//! Maps files into memory, and reads numbers in place. The one place of the examples with unsafe code.
#![allow(unsafe_code, reason = "mapping a file is a promise that nobody changes it meanwhile")]
#![allow(dead_code, reason = "shared by several examples, each of which uses a part")]

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use half::{bf16, f16};
use memmap2::Mmap;

/// The bytes of a file, read when they are looked at.
///
/// A file that another process shortens while it is mapped ends this one; one that it writes to changes under its
/// hands.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let metadata = file.metadata().with_context(|| path.display().to_string())?;
    ensure!(metadata.is_file(), "{}: not a file", path.display());
    // SAFETY: the map is read-only and private to this process, and the bytes are only ever read as plain numbers, for
    // which every pattern is valid. That the file does not change meanwhile is asked of the user, above.
    unsafe { Mmap::map(&file) }.with_context(|| path.display().to_string())
}

/// A number for which every pattern of bytes is valid, in little-endian order.
pub(crate) trait Number: Copy {
    /// The number that these bytes are.
    fn read(bytes: &[u8]) -> Self;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn read(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<Self>()];
                array.copy_from_slice(bytes);
                Self::from_le_bytes(array)
            }
        }
    )*};
}

number!(f64, f32, f16, bf16);

/// The numbers in `bytes`: in place where they are aligned, a copy where they are not.
pub(crate) fn numbers<T: Number>(bytes: &[u8]) -> Cow<'_, [T]> {
    if cfg!(target_endian = "little") {
        // SAFETY: every pattern of bytes is a valid T, by the contract of `Number`, which only the types above have.
        let (before, numbers, after) = unsafe { bytes.align_to::<T>() };
        if before.is_empty() && after.is_empty() {
            return Cow::Borrowed(numbers);
        }
    }
    Cow::Owned(bytes.chunks_exact(size_of::<T>()).map(T::read).collect())
}
