//! Floating-point tensors read from `.safetensors` and `.npy` files, one at a time: the memory used is that of
//! the header and of the tensor asked for, and what a damaged file claims is checked before it is allocated.
//!
//! Included with `#[path = "../support/tensors.rs"] mod tensors;`.

#![allow(dead_code, reason = "shared by several examples, each of which uses a part")]

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use lowbit::FloatType;
use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use ndarray_npy::npy::header::{Header, Layout};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

/// The longest header that is read; that of the safetensors library.
const MAX_HEADER: u64 = 100_000_000;
/// Names listed in a message.
const MAX_NAMES: usize = 50;

/// A tensor of one of the element types the library takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tensor {
    F64(ArrayD<f64>),
    F32(ArrayD<f32>),
    F16(ArrayD<f16>),
    Bf16(ArrayD<bf16>),
}

/// Runs `$body` with `$array` bound to the typed array inside `$tensor`.
macro_rules! with_array {
    ($tensor:expr, $array:ident => $body:expr) => {
        match $tensor {
            $crate::tensors::Tensor::F64($array) => $body,
            $crate::tensors::Tensor::F32($array) => $body,
            $crate::tensors::Tensor::F16($array) => $body,
            $crate::tensors::Tensor::Bf16($array) => $body,
        }
    };
}
pub(crate) use with_array;

/// What a file says of one of its tensors.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// The file's name for the element type.
    pub(crate) dtype: String,
    /// The element type, if it is one the library takes.
    pub(crate) float: Option<FloatType>,
    start: u64,
    bytes: u64,
    big_endian: bool,
    column_major: bool,
}

impl Entry {
    /// The number of elements. The bytes of the file hold them, so the product does not overflow.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// A file of tensors, of which only the header has been read.
pub(crate) struct TensorFile {
    label: String,
    source: Box<dyn Source>,
    entries: Vec<Entry>,
}

impl TensorFile {
    /// Reads the header of a `.safetensors` or `.npy` file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let read = match &*extension {
            "safetensors" => safetensors_entries,
            "npy" => npy_entries,
            _ => bail!("{label}: only .safetensors and .npy files can be read"),
        };
        let mut file = File::open(path).with_context(|| label.clone())?;
        ensure!(!file.metadata().with_context(|| label.clone())?.is_dir(), "{label}: is a directory");
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let entries = read(&mut file, &name).with_context(|| label.clone())?;
        Ok(Self { label, source: Box::new(file), entries })
    }

    /// Reads the header of a safetensors file in memory.
    pub(crate) fn from_bytes(label: &str, bytes: &'static [u8]) -> Result<Self> {
        let mut source = Cursor::new(bytes);
        let entries = safetensors_entries(&mut source, label).with_context(|| label.to_owned())?;
        Ok(Self { label: label.to_owned(), source: Box::new(source), entries })
    }

    /// What messages call the file.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// All tensors, in the order of the file.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor called `name`; the error lists the names there are.
    pub(crate) fn find(&self, name: &str) -> Result<&Entry> {
        self.entries.iter().find(|entry| entry.name == name).with_context(|| {
            let mut names: Vec<&str> = self.entries.iter().map(|entry| &*entry.name).collect();
            names.sort_unstable();
            names.truncate(MAX_NAMES);
            let more = match self.entries.len().saturating_sub(MAX_NAMES) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{}: no tensor {name:?}; there are {}{more}", self.label, names.join(", "))
        })
    }

    /// The tensor called `name`, or else the largest that can be quantized.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<&Entry> {
        if let Some(name) = name {
            return self.find(name);
        }
        let floats = self.entries.iter().filter(|entry| entry.float.is_some());
        // The first of equal ones.
        if let Some(entry) = floats.rev().max_by_key(|entry| entry.len()) {
            return Ok(entry);
        }
        match &*self.entries {
            [] => bail!("{}: the file holds no tensors", self.label),
            // Reading it tells what is wrong with its type.
            [entry, ..] => Ok(entry),
        }
    }

    /// The values of a tensor.
    pub(crate) fn read(&mut self, entry: &Entry) -> Result<Tensor> {
        let label = || format!("{}: tensor {}", self.label, entry.name);
        let float = entry.float.with_context(|| {
            format!(
                "{}: elements of type {} cannot be quantized, only F64, F32, F16 and BF16",
                label(),
                entry.dtype
            )
        })?;
        self.source.seek(SeekFrom::Start(entry.start)).with_context(label)?;
        let mut bytes = Vec::new();
        (&mut self.source).take(entry.bytes).read_to_end(&mut bytes).with_context(label)?;
        ensure!(bytes.len() as u64 == entry.bytes, "{}: the file ends within the values", label());
        decode(float, &bytes, entry).with_context(label)
    }
}

fn decode(float: FloatType, bytes: &[u8], entry: &Entry) -> Result<Tensor> {
    macro_rules! values {
        ($type:ty) => {{
            let (values, _) = bytes.as_chunks();
            let read = if entry.big_endian { <$type>::from_be_bytes } else { <$type>::from_le_bytes };
            let shape = IxDyn(&entry.shape).set_f(entry.column_major);
            ArrayD::from_shape_vec(shape, values.iter().copied().map(read).collect())?
        }};
    }
    Ok(match float {
        FloatType::F64 => Tensor::F64(values!(f64)),
        FloatType::F32 => Tensor::F32(values!(f32)),
        FloatType::F16 => Tensor::F16(values!(f16)),
        FloatType::Bf16 => Tensor::Bf16(values!(bf16)),
    })
}

fn safetensors_entries(source: &mut dyn Source, _name: &str) -> Result<Vec<Entry>> {
    let length = source.seek(SeekFrom::End(0))?;
    source.rewind()?;
    ensure!(length >= 8, "not a safetensors file: shorter than its length field");
    let mut field = [0; 8];
    source.read_exact(&mut field)?;
    let header = u64::from_le_bytes(field);
    ensure!(
        header <= length - 8 && header <= MAX_HEADER,
        "not a safetensors file, or cut off: it claims a header of {header} bytes"
    );
    let mut text = Vec::new();
    source.take(header).read_to_end(&mut text)?;
    // Checks shapes, offsets and lengths against each other.
    let metadata: Metadata = serde_json::from_slice(&text).context("damaged safetensors header")?;
    let (found, expected) = (length - 8 - header, metadata.data_len() as u64);
    ensure!(
        found == expected,
        "damaged or cut off: {found} bytes of values where the header says {expected}"
    );
    let mut entries: Vec<Entry> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| Entry {
            name,
            shape: info.shape.clone(),
            dtype: format!("{:?}", info.dtype),
            float: match info.dtype {
                Dtype::F64 => Some(FloatType::F64),
                Dtype::F32 => Some(FloatType::F32),
                Dtype::F16 => Some(FloatType::F16),
                Dtype::BF16 => Some(FloatType::Bf16),
                _ => None,
            },
            start: 8 + header + info.data_offsets.0 as u64,
            bytes: (info.data_offsets.1 - info.data_offsets.0) as u64,
            big_endian: false,
            column_major: false,
        })
        .collect();
    // Empty tensors share their start with the next.
    entries.sort_by(|a, b| (a.start, a.bytes, &a.name).cmp(&(b.start, b.bytes, &b.name)));
    Ok(entries)
}

/// The one tensor of a `.npy` file, called `name`.
fn npy_entries(source: &mut dyn Source, name: &str) -> Result<Vec<Entry>> {
    let length = source.seek(SeekFrom::End(0))?;
    source.rewind()?;
    let mut reader = source.take(MAX_HEADER);
    // Its messages may run over several lines where they quote the header.
    let header = Header::from_reader(&mut reader).map_err(|error| {
        let message = error.to_string();
        anyhow::anyhow!("not a .npy file: {}", message.lines().next().unwrap_or("damaged header").trim())
    })?;
    let start = source.stream_position()?;
    let dtype = match header.type_descriptor.as_string() {
        Some(dtype) => dtype.clone(),
        None => "record".to_owned(),
    };
    let float = match dtype.get(1..).filter(|_| dtype.starts_with(['<', '>'])) {
        Some("f8") => Some(FloatType::F64),
        Some("f4") => Some(FloatType::F32),
        Some("f2") => Some(FloatType::F16),
        _ => None,
    };
    let bytes = length - start;
    if let Some(float) = float {
        let expected = header
            .shape
            .iter()
            .try_fold(u64::from(float.bits() / 8), |product, &length| product.checked_mul(length as u64));
        ensure!(
            expected == Some(bytes),
            "damaged or cut off: {bytes} bytes of values for the shape {:?} of {dtype}",
            header.shape
        );
    }
    Ok(vec![Entry {
        name: name.to_owned(),
        shape: header.shape,
        float,
        start,
        bytes,
        big_endian: dtype.starts_with('>'),
        column_major: header.layout == Layout::Fortran,
        dtype,
    }])
}
