//! Reads quantized tensors, and those beside them, from the bytes of a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::safetensors::tensor::{Metadata, TensorInfo};
use half::{bf16, f16};
use ndarray::{Array, ArrayD, Dimension, IxDyn};

use crate::element::{Element, FloatType};
use crate::error::{Error, FormatError, Result, ShapeError};
use crate::tensor::{FloatArray, Grids, IntegerArray, OwnedNumbers, PackedCodes, QuantizedTensor};

use super::info::{QuantizedInfo, Spec, invalid, spec_of};
use super::{Dtype, FORMAT, MAX_HEADER, RawTensor, dtype_of, entries_of, float_type};

/// A safetensors file: bytes that were mapped or read.
///
/// Whatever the bytes, its methods return errors and do not panic, and allocate no more than a small multiple of
/// the file's size. Opening costs one pass over the header; data are read, and checked, when asked for.
///
/// See the [module page](super) for the layout and an example.
#[derive(Debug)]
pub struct File<'a> {
    header: Metadata,
    data: &'a [u8],
    /// Names of tensors, each with whether it is quantized.
    names: BTreeMap<String, bool>,
}

impl<'a> File<'a> {
    /// Opens the file whose bytes these are.
    ///
    /// # Errors
    ///
    /// [`FormatError::Container`] unless the header is one, and its entries cover the rest of the bytes exactly.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let error = |reason: String| FormatError::Container { format: FORMAT, reason };
        let (len, rest) = bytes
            .split_first_chunk()
            .ok_or_else(|| error(format!("{} bytes are too few for a header", bytes.len())))?;
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
        if len > MAX_HEADER {
            return Err(error(format!("a header of {len} bytes is larger than {MAX_HEADER}")).into());
        }
        let (text, data) = rest.split_at_checked(len).ok_or_else(|| {
            error(format!("a header of {len} bytes, but only {} bytes are left", rest.len()))
        })?;
        // Only the header is left to the safetensors crate: it adds up the length of the file unchecked.
        let header: Metadata = serde_json::from_slice(text).map_err(|source| error(source.to_string()))?;
        if header.data_len() != data.len() {
            let reason = format!("the entries have {} bytes, the file {}", header.data_len(), data.len());
            return Err(error(reason).into());
        }
        let mut names: BTreeMap<String, bool> =
            header.offset_keys().into_iter().map(|name| (name, false)).collect();
        let lines = header.metadata().iter().flatten();
        let quantized: Vec<String> =
            lines.filter(|(_, text)| QuantizedInfo::is_one(text)).map(|(name, _)| name.clone()).collect();
        for name in quantized {
            for entry in entries_of(&name) {
                names.remove(&entry);
            }
            names.insert(name, true);
        }
        Ok(Self { header, data, names })
    }

    /// The names of all tensors, quantized or not, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Whether there is a quantized tensor of this name.
    pub fn is_quantized(&self, name: &str) -> bool {
        self.names.get(name) == Some(&true)
    }

    /// The metadata that do not describe quantized tensors, in alphabetical order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.header.metadata().iter().flatten();
        let other = lines.map(|(key, value)| (key.as_str(), value.as_str()));
        other.filter(|(key, _)| !self.is_quantized(key)).collect::<BTreeMap<_, _>>().into_iter()
    }

    /// What is known of the quantized tensor `name` without its data.
    ///
    /// # Errors
    ///
    /// [`FormatError::Missing`] if there is no such tensor, [`FormatError::Entry`] or [`FormatError::Invalid`] if
    /// its description is damaged.
    pub fn info(&self, name: &str) -> Result<QuantizedInfo> {
        let line = self.header.metadata().as_ref().and_then(|lines| lines.get(name));
        let missing =
            || FormatError::Missing { name: name.to_owned(), missing: format!("metadata of {name}") };
        Ok(QuantizedInfo::from_json(name, line.ok_or_else(missing)?)?)
    }

    /// The text form of the recipe that made the quantized tensor `name`, if it is known. It parses to a
    /// [`Recipe`](crate::Recipe).
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn recipe(&self, name: &str) -> Result<Option<Arc<str>>> {
        Ok(self.info(name)?.recipe)
    }

    /// The quantized tensor `name`. Copies its codes and parameters, and checks every one of them.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info); [`FormatError::Missing`] for an entry that is not there, [`FormatError::Entry`] for
    /// one of another type or shape than described, [`FormatError::Invalid`] for codes outside the code range and
    /// for parameters that the scheme does not allow.
    pub fn quantized(&self, name: &str) -> Result<QuantizedTensor> {
        let info = self.info(name)?;
        let entries = info.entries(name)?;
        let codes = self.entry(name, &entries.codes)?;
        let (scheme, tiling) = (info.scheme, info.tiling);
        let grids = Grids::from_numbers(&scheme, &tiling, |parameter| {
            let (dtype, bytes) = self.entry(name, &spec_of(name, parameter))?;
            Ok::<_, Error>(match float_type(dtype) {
                Some(storage) => OwnedNumbers::Float(floats(storage, bytes)),
                None => OwnedNumbers::Integer(integers(dtype, bytes)),
            })
        })
        .map_err(|error| match error {
            Error::Format(error) => error,
            error => invalid(name, error),
        })?;
        let count = scheme.code_count(&tiling).map_err(|error| invalid(name, error))?;
        let codes = PackedCodes::from_bytes(scheme.bits(), scheme.codes(), count, codes.1.to_vec())
            .map_err(|error| invalid(name, error))?;
        QuantizedTensor::new(scheme, tiling, grids, codes, info.source, info.recipe)
            .map_err(|error| invalid(name, error).into())
    }

    /// The tensor `name` as it is in the file, without a copy. It may be not aligned to its element type.
    ///
    /// The entries of quantized tensors can be read as well, under the names that the [module page](super)
    /// lists.
    ///
    /// # Errors
    ///
    /// [`FormatError::Missing`] if there is no such entry.
    pub fn raw(&self, name: &str) -> Result<RawTensor<'a>> {
        let missing = || FormatError::Missing { name: name.to_owned(), missing: name.to_owned() };
        let (info, bytes) = self.find(name).ok_or_else(missing)?;
        RawTensor::new(info.dtype, info.shape.clone(), bytes).map_err(|error| {
            FormatError::Container { format: FORMAT, reason: format!("{name}: {error}") }.into()
        })
    }

    /// The tensor `name`, which is not quantized, as an array. Allocates it.
    ///
    /// # Errors
    ///
    /// [`FormatError::Missing`] if there is no such entry, [`FormatError::Entry`] if it is not of type `A`,
    /// [`ShapeError::Rank`] if it does not have the rank of `D`.
    pub fn array<A: Element, D: Dimension>(&self, name: &str) -> Result<Array<A, D>> {
        let raw = self.raw(name)?;
        if raw.dtype() != dtype_of(A::TYPE) {
            return Err(FormatError::Entry {
                name: name.to_owned(),
                found: raw.dtype().to_string(),
                expected: dtype_of(A::TYPE).to_string(),
            }
            .into());
        }
        // Exact: the values are of type A.
        let values = match floats(A::TYPE, raw.data()) {
            FloatArray::F64(values) => values.into_iter().map(A::from_f64).collect(),
            FloatArray::F32(values) => values.into_iter().map(A::from_f32).collect(),
            FloatArray::F16(values) => values.into_iter().map(|value| A::from_f32(value.into())).collect(),
            FloatArray::Bf16(values) => values.into_iter().map(|value| A::from_f32(value.into())).collect(),
        };
        let array = ArrayD::from_shape_vec(IxDyn(raw.shape()), values).map_err(Error::custom)?;
        let (found, expected) = (raw.shape().len(), D::NDIM.unwrap_or(raw.shape().len()));
        array.into_dimensionality().map_err(|_| ShapeError::Rank { found, expected }.into())
    }

    /// Type and bytes of the entry that `spec` describes, of tensor `name`.
    fn entry(&self, name: &str, spec: &Spec) -> Result<(Dtype, &'a [u8]), FormatError> {
        let missing = || FormatError::Missing { name: name.to_owned(), missing: spec.name.clone() };
        let (info, bytes) = self.find(&spec.name).ok_or_else(missing)?;
        if info.dtype != spec.dtype || info.shape != spec.shape {
            return Err(FormatError::Entry {
                name: spec.name.clone(),
                found: format!("{} of shape {:?}", info.dtype, info.shape),
                expected: format!("{} of shape {:?}", spec.dtype, spec.shape),
            });
        }
        Ok((spec.dtype, bytes))
    }

    fn find(&self, entry: &str) -> Option<(&TensorInfo, &'a [u8])> {
        let info = self.header.info(entry)?;
        Some((info, self.data.get(info.data_offsets.0..info.data_offsets.1)?))
    }
}

/// The numbers of a type, each from `N` bytes.
fn values<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&bytes| from(bytes)).collect()
}

fn floats(storage: FloatType, bytes: &[u8]) -> FloatArray {
    match storage {
        FloatType::F64 => FloatArray::F64(values(bytes, f64::from_le_bytes)),
        FloatType::F32 => FloatArray::F32(values(bytes, f32::from_le_bytes)),
        FloatType::F16 => FloatArray::F16(values(bytes, f16::from_le_bytes)),
        FloatType::Bf16 => FloatArray::Bf16(values(bytes, bf16::from_le_bytes)),
    }
}

fn integers(dtype: Dtype, bytes: &[u8]) -> IntegerArray {
    match dtype {
        Dtype::I8 => IntegerArray::I8(values(bytes, i8::from_le_bytes)),
        Dtype::I16 => IntegerArray::I16(values(bytes, i16::from_le_bytes)),
        Dtype::U16 => IntegerArray::U16(values(bytes, u16::from_le_bytes)),
        _ => IntegerArray::U8(bytes.to_vec()),
    }
}
