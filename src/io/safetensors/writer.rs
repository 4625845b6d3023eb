//! Writes quantized tensors, and others beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use ::safetensors::tensor::TensorInfo;
use ndarray::{ArrayRef, Dimension};

use crate::element::{AnySlice, AnyView, Element};
use crate::error::{FormatError, Result};
use crate::io::partial::PartialFile;
use crate::tensor::{Elements, FloatArray, IntegerArray, Numbers, QuantizedTensor, TensorView, typed};

use super::info::{QuantizedInfo, Spec};
use super::{Dtype, FORMAT, MAX_HEADER, RawTensor, codes_of, dtype_of, entries_of};

/// A tensor to be saved.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Tensor<'a> {
    /// A quantized tensor.
    Quantized(&'a QuantizedTensor),
    /// Real numbers, of any layout.
    Float(TensorView<'a>),
    /// Any other data, as bytes.
    Raw(RawTensor<'a>),
}

impl<'a> From<&'a QuantizedTensor> for Tensor<'a> {
    fn from(tensor: &'a QuantizedTensor) -> Self {
        Self::Quantized(tensor)
    }
}

impl<'a, A: Element, D: Dimension> From<&'a ArrayRef<A, D>> for Tensor<'a> {
    fn from(tensor: &'a ArrayRef<A, D>) -> Self {
        Self::Float(tensor.into())
    }
}

impl<'a> From<RawTensor<'a>> for Tensor<'a> {
    fn from(tensor: RawTensor<'a>) -> Self {
        Self::Raw(tensor)
    }
}

/// Saves `tensors` under their names. The file is written beside `path` and renamed once it is complete.
///
/// See the [module page](super) for an example.
///
/// # Errors
///
/// [`FormatError::Taken`] for names that collide, [`FormatError::Io`] if the operating system reports an error.
/// Whatever was at `path` stays then.
pub fn save<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, Tensor<'a>)>,
) -> Result<()> {
    let tensors: Vec<(N, Tensor<'a>)> = tensors.into_iter().collect();
    let mut layout = Layout::new();
    for (name, tensor) in &tensors {
        let name = name.as_ref();
        match tensor {
            Tensor::Quantized(tensor) => layout.quantized(name, QuantizedInfo::of(tensor))?,
            Tensor::Float(tensor) => layout.raw(name, dtype_of(tensor.element_type()), tensor.shape())?,
            Tensor::Raw(tensor) => layout.raw(name, tensor.dtype(), tensor.shape())?,
        }
    }
    let mut writer = Writer::create(path, layout)?;
    for (name, tensor) in &tensors {
        writer.write(name.as_ref(), tensor.clone())?;
    }
    writer.finish()
}

/// What a file will hold: safetensors files begin with a header that says so.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    quantized: BTreeMap<String, QuantizedInfo>,
    raw: BTreeSet<String>,
    metadata: BTreeMap<String, String>,
    entries: BTreeMap<String, Spec>,
}

impl Layout {
    /// A file of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The file will hold a quantized tensor.
    ///
    /// # Errors
    ///
    /// [`FormatError::Taken`] for a name that collides with another one, [`FormatError::Entry`] for a tensor of
    /// more than 64 axes.
    pub fn quantized(&mut self, name: &str, info: QuantizedInfo) -> Result<()> {
        info.check(name)?;
        let entries = info.entries(name)?;
        let specs: Vec<Spec> = core::iter::once(entries.codes).chain(entries.parameters).collect();
        for entry in core::iter::once(name.to_owned()).chain(entries_of(name)) {
            self.check_free(&entry)?;
        }
        if self.metadata.contains_key(name) {
            return Err(taken(name).into());
        }
        self.entries.extend(specs.into_iter().map(|spec| (spec.name.clone(), spec)));
        self.quantized.insert(name.to_owned(), info);
        Ok(())
    }

    /// The file will hold a tensor as it is.
    ///
    /// # Errors
    ///
    /// [`FormatError::Taken`] for a name that collides with another one, [`FormatError::Entry`] if its bytes
    /// cannot be counted.
    pub fn raw(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<()> {
        let dots = name.match_indices('.').map(|(at, _)| name.split_at(at));
        let owned = |(owner, _): (&str, &str)| {
            self.quantized.contains_key(owner) && entries_of(owner).any(|entry| entry == name)
        };
        if dots.into_iter().any(owned) {
            return Err(taken(name).into());
        }
        self.check_free(name)?;
        let spec = Spec { name: name.to_owned(), dtype, shape: shape.to_vec() };
        spec.bytes()?;
        self.entries.insert(name.to_owned(), spec);
        self.raw.insert(name.to_owned());
        Ok(())
    }

    /// The file will hold a line of metadata.
    ///
    /// # Errors
    ///
    /// [`FormatError::Taken`] for a key that is there already, or is the name of a quantized tensor.
    pub fn metadata(&mut self, key: &str, value: &str) -> Result<()> {
        if self.quantized.contains_key(key) || self.metadata.contains_key(key) {
            return Err(taken(key).into());
        }
        self.metadata.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn check_free(&self, name: &str) -> Result<(), FormatError> {
        let used = self.entries.contains_key(name) || self.quantized.contains_key(name);
        if used || name == "__metadata__" { Err(taken(name)) } else { Ok(()) }
    }

    /// The first bytes of the file, up to the data, and the place of everything after them.
    fn header(&self) -> Result<Header, FormatError> {
        let container = |reason: String| FormatError::Container { format: FORMAT, reason };
        let json = |result: serde_json::Result<_>| result.map_err(|error| container(error.to_string()));
        let mut lines = self.metadata.clone();
        for (name, info) in &self.quantized {
            lines.insert(name.clone(), info.to_json()?);
        }
        // Sorted by name: the same tensors give the same file.
        let mut header = BTreeMap::new();
        if !lines.is_empty() {
            header.insert("__metadata__", json(serde_json::to_value(lines))?);
        }
        // Largest elements first: then every entry is aligned.
        let mut order: Vec<&Spec> = self.entries.values().collect();
        order.sort_by_key(|spec| core::cmp::Reverse(spec.dtype));
        let mut end = 0usize;
        let mut offsets = Vec::with_capacity(order.len());
        for spec in order {
            let start = end;
            end = start
                .checked_add(spec.bytes()?)
                .ok_or_else(|| container("the bytes of all tensors cannot be counted".to_owned()))?;
            let (dtype, shape) = (spec.dtype, spec.shape.clone());
            let info = TensorInfo { dtype, shape, data_offsets: (start, end) };
            header.insert(&spec.name, json(serde_json::to_value(info))?);
            offsets.push((spec.name.clone(), start as u64, end as u64));
        }
        let mut text = serde_json::to_vec(&header).map_err(|error| container(error.to_string()))?;
        text.resize(text.len().next_multiple_of(8), b' ');
        if text.len() > MAX_HEADER {
            return Err(container(format!("a header of {} bytes is larger than {MAX_HEADER}", text.len())));
        }
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.append(&mut text);
        let data = bytes.len() as u64;
        let places =
            offsets.into_iter().map(|(name, start, end)| (name, (data + start, data + end))).collect();
        Ok(Header { bytes, places, len: data + end as u64 })
    }
}

/// The header of a file, and what it says.
struct Header {
    bytes: Vec<u8>,
    /// Where each entry begins and ends in the file.
    places: BTreeMap<String, (u64, u64)>,
    /// The length of the file.
    len: u64,
}

fn taken(name: &str) -> FormatError {
    FormatError::Taken { name: name.to_owned() }
}

/// A file that is written tensor by tensor, in any order.
///
/// The bytes go to a temporary file beside the target, which [`finish`](Self::finish) renames. Without that the
/// temporary file is removed when the writer is dropped, and whatever was at the target stays.
///
/// ```
/// use lowbit::io::safetensors::{File, Layout, QuantizedInfo, Writer};
/// use lowbit::prelude::*;
/// use ndarray::Array2;
///
/// let recipe = Uniform::symmetric(BitWidth::new(4)?).granularity(PerChannel::new(Axis(0)));
/// let shapes = [("first", [8, 64]), ("second", [64, 8])];
///
/// let mut layout = Layout::new();
/// for (name, shape) in &shapes {
///     layout.quantized(name, QuantizedInfo::planned(&recipe, shape, lowbit::FloatType::F32)?)?;
/// }
/// # let folder = tempfile::tempdir().map_err(lowbit::Error::custom)?;
/// # let path = folder.path().join("model.safetensors");
/// let mut writer = Writer::create(&path, layout)?;
/// for (name, shape) in &shapes {
///     // One tensor in memory at a time.
///     let weights = Array2::from_shape_fn(*shape, |(i, j)| (i as f32 - j as f32).sin());
///     writer.write(name, &recipe.quantize(&weights)?)?;
/// }
/// writer.finish()?;
///
/// let bytes = std::fs::read(&path).map_err(lowbit::Error::custom)?;
/// assert_eq!(File::new(&bytes)?.quantized("second")?.shape(), [64, 8]);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    file: PartialFile,
    layout: Layout,
    places: BTreeMap<String, (u64, u64)>,
    /// Tensors that are not written yet.
    missing: BTreeSet<String>,
}

impl Writer {
    /// Begins a file with the header that `layout` gives.
    ///
    /// # Errors
    ///
    /// [`FormatError::Io`] if the operating system reports an error, or `path` is something else than a file.
    pub fn create(path: impl AsRef<Path>, layout: Layout) -> Result<Self> {
        let Header { bytes, places, len } = layout.header()?;
        let mut file = PartialFile::create(path.as_ref())?;
        file.set_len(len)?;
        file.write_at(0, |out| out.write_all(&bytes))?;
        let missing = layout.quantized.keys().chain(&layout.raw).cloned().collect();
        Ok(Self { file, layout, places, missing })
    }

    /// Writes the data of tensor `name`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Missing`] if no tensor of this name was announced, [`FormatError::Entry`] if the tensor is
    /// not what was announced or was written before, [`FormatError::Io`] if the operating system reports an error.
    pub fn write<'t>(&mut self, name: &str, tensor: impl Into<Tensor<'t>>) -> Result<()> {
        if !self.missing.contains(name) {
            if self.layout.quantized.contains_key(name) || self.layout.raw.contains(name) {
                return Err(mismatch(name, "a second tensor", "one tensor").into());
            }
            return Err(FormatError::Missing { name: name.to_owned(), missing: name.to_owned() }.into());
        }
        match tensor.into() {
            Tensor::Quantized(tensor) => self.write_quantized(name, tensor)?,
            Tensor::Float(tensor) => {
                self.check_raw(name, dtype_of(tensor.element_type()), tensor.shape())?;
                self.put(name, |out| write_view(&tensor, out))?;
            }
            Tensor::Raw(tensor) => {
                self.check_raw(name, tensor.dtype(), tensor.shape())?;
                self.put(name, |out| out.write_all(tensor.data()))?;
            }
        }
        self.missing.remove(name);
        Ok(())
    }

    /// Gives the file its name, once all tensors are written and on the disk.
    ///
    /// # Errors
    ///
    /// [`FormatError::Missing`] if a tensor was announced and not written, [`FormatError::Io`] if the operating
    /// system reports an error.
    pub fn finish(self) -> Result<()> {
        if let Some(name) = self.missing.first() {
            return Err(FormatError::Missing { name: name.clone(), missing: name.clone() }.into());
        }
        Ok(self.file.finish()?)
    }

    fn write_quantized(&mut self, name: &str, tensor: &QuantizedTensor) -> Result<(), FormatError> {
        let Some(planned) = self.layout.quantized.get(name) else {
            return Err(mismatch(name, "a quantized tensor", "one that is not"));
        };
        let found = QuantizedInfo::of(tensor);
        if found.scheme != planned.scheme {
            return Err(mismatch(name, found.scheme, &planned.scheme));
        }
        if found.tiling != planned.tiling {
            return Err(mismatch(name, format!("{:?}", found.tiling), format!("{:?}", planned.tiling)));
        }
        if found.source != planned.source {
            return Err(mismatch(name, found.source, planned.source));
        }
        if found.recipe != planned.recipe {
            let text = |info: &QuantizedInfo| info.recipe.as_deref().unwrap_or("no recipe").to_owned();
            return Err(mismatch(name, text(&found), text(planned)));
        }
        self.put(&codes_of(name), |out| out.write_all(tensor.codes().as_bytes()))?;
        let entries = found.entries(name)?;
        for (spec, numbers) in entries.parameters.iter().zip(tensor.grids().numbers()) {
            self.put(&spec.name, |out| match numbers {
                Numbers::Float(values) => write_floats(values, out),
                Numbers::Integer(values) => write_integers(values, out),
                Numbers::Bytes(bytes) => out.write_all(bytes),
                Numbers::Exponents(exponents) => write_all(exponents, |exponent| exponent.to_le_bytes(), out),
                Numbers::One(value) => out.write_all(&value.to_le_bytes()),
            })?;
        }
        Ok(())
    }

    fn check_raw(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<(), FormatError> {
        let spec = self.layout.entries.get(name).filter(|_| self.layout.raw.contains(name));
        let spec = spec.ok_or_else(|| mismatch(name, "a tensor that is not quantized", "one that is"))?;
        if spec.dtype == dtype && spec.shape == shape {
            return Ok(());
        }
        let text = |dtype: Dtype, shape: &[usize]| format!("{dtype} of shape {shape:?}");
        Err(mismatch(name, text(dtype, shape), text(spec.dtype, &spec.shape)))
    }

    /// Writes the data of an entry.
    fn put(
        &mut self,
        entry: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), FormatError> {
        let missing = || FormatError::Missing { name: entry.to_owned(), missing: entry.to_owned() };
        let &(start, end) = self.places.get(entry).ok_or_else(missing)?;
        self.file.write_at(start, |out| {
            let mut out = Exactly { out, left: end - start };
            write(&mut out)?;
            if out.left == 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        })
    }
}

fn mismatch(name: &str, found: impl ToString, expected: impl ToString) -> FormatError {
    FormatError::Entry { name: name.to_owned(), found: found.to_string(), expected: expected.to_string() }
}

/// Keeps an entry from running into the next one.
struct Exactly<'a> {
    out: &'a mut dyn Write,
    left: u64,
}

impl Write for Exactly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more bytes than the entry has"));
        }
        let written = self.out.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes the bytes of `values`, some thousand at a time.
fn write_all<const N: usize, T>(
    values: impl IntoIterator<Item = T>,
    bytes: impl Fn(T) -> [u8; N],
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(1 << 15);
    for value in values {
        buffer.extend_from_slice(&bytes(value));
        if buffer.len() + N > 1 << 15 {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)
}

fn write_floats(values: &FloatArray, out: &mut dyn Write) -> io::Result<()> {
    match values {
        FloatArray::F64(values) => write_all(values, |value| value.to_le_bytes(), out),
        FloatArray::F32(values) => write_all(values, |value| value.to_le_bytes(), out),
        FloatArray::F16(values) => write_all(values, |value| value.to_le_bytes(), out),
        FloatArray::Bf16(values) => write_all(values, |value| value.to_le_bytes(), out),
    }
}

fn write_integers(values: &IntegerArray, out: &mut dyn Write) -> io::Result<()> {
    match values {
        IntegerArray::I8(values) => write_all(values, |value| value.to_le_bytes(), out),
        IntegerArray::U8(values) => out.write_all(values),
        IntegerArray::I16(values) => write_all(values, |value| value.to_le_bytes(), out),
        IntegerArray::U16(values) => write_all(values, |value| value.to_le_bytes(), out),
    }
}

/// Writes the elements of `tensor` in row-major order.
fn write_view(tensor: &TensorView<'_>, out: &mut dyn Write) -> io::Result<()> {
    match tensor.elements() {
        Elements::Slice(slice) => {
            typed!(AnySlice, *slice, slice => write_all(slice, |value| value.to_le_bytes(), out))
        }
        Elements::View(view) => {
            typed!(AnyView, view, view => write_all(view, |value| value.to_le_bytes(), out))
        }
    }
}
