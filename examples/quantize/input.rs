//! The tensors to be quantized, from a file that is mapped.

use std::path::Path;

use anyhow::{Context, Result, bail};
use lowbit::Element;
use lowbit::io::safetensors::{Dtype, File, RawTensor, dtype_of};
use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};
use ndarray_npy::{ReadNpyError, ReadNpyExt, ReadableElement, ViewElement, ViewNpyError, ViewNpyExt};

/// All tensors of the input.
pub(crate) struct Input<'a> {
    pub(crate) tensors: Vec<Tensor<'a>>,
    /// Lines that the outputs take over.
    pub(crate) metadata: Vec<(String, String)>,
}

/// A tensor of the input.
pub(crate) struct Tensor<'a> {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values<'a>,
}

/// Where its values are.
pub(crate) enum Values<'a> {
    /// In the mapped file, row by row, aligned or not.
    Raw(RawTensor<'a>),
    /// An array of a .npy file.
    F32(CowArray<'a, f32, IxDyn>),
    /// An array of a .npy file.
    F64(CowArray<'a, f64, IxDyn>),
}

impl Tensor<'_> {
    /// Bytes in the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.dtype.bitsize() as u64 / 8
    }
}

impl<'a> Input<'a> {
    /// The tensors of a file, by the ending of its name.
    pub(crate) fn of_file(path: &Path, bytes: &'a [u8]) -> Result<Self> {
        let shown = path.display().to_string();
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("safetensors") => Self::safetensors(&shown, bytes),
            Some("npy") => {
                let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
                Self::npy(&name.unwrap_or_default(), bytes).with_context(|| shown)
            }
            _ => bail!("{shown}: expected a file that ends in .safetensors or .npy"),
        }
    }

    /// The tensors of a safetensors file.
    pub(crate) fn safetensors(shown: &str, bytes: &'a [u8]) -> Result<Self> {
        let read = || -> Result<Self> {
            let file = File::new(bytes)?;
            let mut tensors = Vec::new();
            for name in file.names() {
                if file.is_quantized(name) {
                    bail!("tensor {name} is quantized already");
                }
                let raw = file.raw(name)?;
                let (dtype, shape) = (raw.dtype(), raw.shape().to_vec());
                tensors.push(Tensor { name: name.to_owned(), dtype, shape, values: Values::Raw(raw) });
            }
            tensors.sort_by_cached_key(|tensor| natural_order(&tensor.name));
            let metadata = file.metadata().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            Ok(Self { tensors, metadata })
        };
        read().with_context(|| shown.to_owned())
    }

    /// The one tensor of a .npy file.
    fn npy(name: &str, bytes: &'a [u8]) -> Result<Self> {
        let values = match array::<f32>(bytes)? {
            Some(array) => Values::F32(array),
            None => match array::<f64>(bytes)? {
                Some(array) => Values::F64(array),
                None => bail!("neither an array of 32-bit nor of 64-bit floating-point numbers"),
            },
        };
        let (dtype, shape) = match &values {
            Values::F32(array) => (dtype_of(f32::TYPE), array.shape().to_vec()),
            Values::F64(array) => (dtype_of(f64::TYPE), array.shape().to_vec()),
            Values::Raw(raw) => (raw.dtype(), raw.shape().to_vec()),
        };
        let tensor = Tensor { name: name.to_owned(), dtype, shape, values };
        Ok(Self { tensors: vec![tensor], metadata: Vec::new() })
    }
}

/// The array in the bytes of a .npy file, unless its elements are of another type. A copy only where it cannot be
/// looked at in place: not aligned, or of another byte order.
fn array<A: ViewElement + ReadableElement + Clone>(bytes: &[u8]) -> Result<Option<CowArray<'_, A, IxDyn>>> {
    match ArrayViewD::<A>::view_npy(bytes) {
        Ok(view) => Ok(Some(view.into())),
        Err(ViewNpyError::WrongDescriptor(_)) => Ok(None),
        Err(ViewNpyError::MisalignedData | ViewNpyError::NonNativeEndian) => {
            match ArrayD::<A>::read_npy(bytes) {
                Ok(array) => Ok(Some(array.into())),
                Err(ReadNpyError::WrongDescriptor(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Text and numbers in turn, so that `layer2` comes before `layer10`.
fn natural_order(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (before, after) = rest.split_at(text);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        parts.push((before.to_owned(), after[..digits].parse().unwrap_or(u64::MAX)));
        rest = &after[digits..];
    }
    parts
}
