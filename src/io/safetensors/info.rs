//! What a file says of a quantized tensor, and the entries that follow from it.

use std::sync::Arc;

use ::safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::element::FloatType;
use crate::error::{Error, FormatError, Result};
use crate::granularity::{AxisGroup, Tiling};
use crate::kernel::pack::packed_len;
use crate::recipe::Recipe;
use crate::tensor::{Parameter, QuantizedTensor, Scheme};

use super::{codes_of, dtype_of_parameter, parameter_of};

/// The version of the layout that this module writes and reads.
const VERSION: u32 = 1;

/// The most axes of a tensor, and groups of axes of a tiling: work on hostile files stays in proportion to them.
const MAX_AXES: usize = 64;

/// What is known of a quantized tensor without its data.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QuantizedInfo {
    /// What is stored.
    pub scheme: Scheme,
    /// The shape, and how it is cut into regions.
    pub tiling: Tiling,
    /// The type of the elements before quantization.
    pub source: FloatType,
    /// The text form of the recipe, if known.
    pub recipe: Option<Arc<str>>,
}

impl QuantizedInfo {
    /// What is known of `tensor`.
    pub fn of(tensor: &QuantizedTensor) -> Self {
        Self {
            scheme: tensor.scheme().clone(),
            tiling: tensor.tiling().clone(),
            source: tensor.source_type(),
            recipe: tensor.recipe().map(Arc::from),
        }
    }

    /// What `recipe` will make of a tensor of `shape` with elements of type `source`.
    ///
    /// A recipe that may widen its scales is known to do so only with the data: if it does, the tensor will not
    /// be what was planned.
    ///
    /// # Errors
    ///
    /// [`ConfigError`](crate::ConfigError) for a recipe that cannot work, [`ShapeError`](crate::ShapeError) if
    /// its granularity does not fit the shape.
    pub fn planned(recipe: &Recipe, shape: &[usize], source: FloatType) -> Result<Self> {
        Ok(Self {
            scheme: recipe.scheme()?,
            tiling: recipe.tiling(shape)?,
            source,
            recipe: Some(recipe.to_string().into()),
        })
    }

    /// Whether the file can hold it.
    pub(super) fn check(&self, name: &str) -> Result<(), FormatError> {
        check_axes(name, self.tiling.shape().len(), self.tiling.groups().len())
    }

    /// The entries of the tensor.
    pub(super) fn entries(&self, name: &str) -> Result<Entries, FormatError> {
        let codes = self.codes_spec(name)?;
        let parameters = self.scheme.parameters(&self.tiling).map_err(|error| invalid(name, error))?;
        let spec = |parameter: Parameter| spec_of(name, &parameter);
        Ok(Entries { codes, parameters: parameters.into_iter().map(spec).collect() })
    }

    fn codes_spec(&self, name: &str) -> Result<Spec, FormatError> {
        let count = self.scheme.code_count(&self.tiling).map_err(|error| invalid(name, error))?;
        let one_each = count == self.tiling.len();
        let full = || if one_each { self.tiling.shape().to_vec() } else { vec![count] };
        let (dtype, shape) = match (self.scheme.bits().get(), self.scheme.codes().is_signed()) {
            (8, true) => (Dtype::I8, full()),
            (8, false) => (Dtype::U8, full()),
            (16, true) => (Dtype::I16, full()),
            (16, false) => (Dtype::U16, full()),
            (bits, _) => {
                let bytes = packed_len(count, bits).ok_or_else(|| FormatError::Entry {
                    name: name.to_owned(),
                    found: format!("{count} codes"),
                    expected: "a number of codes whose bits can be counted".to_owned(),
                })?;
                (Dtype::U8, vec![bytes])
            }
        };
        Ok(Spec { name: codes_of(name), dtype, shape })
    }

    /// The line of metadata.
    pub(super) fn to_json(&self) -> Result<String, FormatError> {
        let line = Line {
            lowbit: VERSION,
            dtype: self.source,
            shape: self.tiling.shape().to_vec(),
            tiling: self.tiling.groups().to_vec(),
            scheme: self.scheme.clone(),
            recipe: self.recipe.as_deref().map(str::to_owned),
        };
        serde_json::to_string(&line)
            .map_err(|error| FormatError::Container { format: super::FORMAT, reason: error.to_string() })
    }

    /// Reads the line of metadata of tensor `name`.
    pub(super) fn from_json(name: &str, text: &str) -> Result<Self, FormatError> {
        let damaged = |error: serde_json::Error| FormatError::Entry {
            name: format!("metadata of {name}"),
            found: error.to_string(),
            expected: "the description of a quantized tensor".to_owned(),
        };
        let Probe { lowbit } = serde_json::from_str(text).map_err(damaged)?;
        if lowbit != VERSION {
            return Err(FormatError::Entry {
                name: format!("metadata of {name}"),
                found: format!("version {lowbit} of the layout"),
                expected: format!("version {VERSION}"),
            });
        }
        let line: Line = serde_json::from_str(text).map_err(damaged)?;
        // Before the tiling, which takes time for all pairs of axes and groups.
        check_axes(name, line.shape.len(), line.tiling.len())?;
        let tiling = Tiling::new(&line.shape, line.tiling).map_err(|error| invalid(name, error))?;
        let recipe = line.recipe.map(Arc::from);
        Ok(Self { scheme: line.scheme, tiling, source: line.dtype, recipe })
    }

    /// Whether a line of metadata claims to describe a quantized tensor, of whatever version.
    pub(super) fn is_one(text: &str) -> bool {
        #[derive(Deserialize)]
        struct AnyVersion {
            #[allow(dead_code, reason = "its presence is the question")]
            lowbit: serde::de::IgnoredAny,
        }
        serde_json::from_str::<AnyVersion>(text).is_ok()
    }
}

fn check_axes(name: &str, rank: usize, groups: usize) -> Result<(), FormatError> {
    if rank <= MAX_AXES && groups <= MAX_AXES {
        return Ok(());
    }
    Err(FormatError::Entry {
        name: name.to_owned(),
        found: format!("{rank} axes in {groups} groups"),
        expected: format!("at most {MAX_AXES} of each"),
    })
}

/// An error of the tensor `name`.
pub(super) fn invalid(name: &str, source: impl Into<Error>) -> FormatError {
    FormatError::Invalid { name: name.to_owned(), source: Box::new(source.into()) }
}

#[derive(Serialize, Deserialize)]
struct Line {
    lowbit: u32,
    dtype: FloatType,
    shape: Vec<usize>,
    tiling: Vec<AxisGroup>,
    scheme: Scheme,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipe: Option<String>,
}

#[derive(Deserialize)]
struct Probe {
    lowbit: u32,
}

/// The entries of one quantized tensor.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) codes: Spec,
    /// In the order of the scheme.
    pub(super) parameters: Vec<Spec>,
}

/// The entry of a parameter of tensor `name`.
pub(super) fn spec_of(name: &str, parameter: &Parameter) -> Spec {
    Spec {
        name: parameter_of(name, parameter.name),
        dtype: dtype_of_parameter(parameter.kind),
        shape: parameter.shape.clone(),
    }
}

/// An entry without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

impl Spec {
    /// Its bytes, if they can be counted and are whole.
    pub(super) fn bytes(&self) -> Result<usize, FormatError> {
        let elements = self.shape.iter().try_fold(1usize, |product, &len| product.checked_mul(len));
        let bits = elements.and_then(|elements| elements.checked_mul(self.dtype.bitsize()));
        bits.filter(|bits| bits.is_multiple_of(8)).map(|bits| bits / 8).ok_or_else(|| FormatError::Entry {
            name: self.name.clone(),
            found: format!("{} of shape {:?}", self.dtype, self.shape),
            expected: "a whole number of bytes that can be counted".to_owned(),
        })
    }
}
