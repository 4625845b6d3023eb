//! Quantized tensors in [safetensors] files, which any safetensors reader can open.
//!
//! # Layout
//!
//! A quantized tensor `NAME` is a few entries and one line of metadata:
//!
//! | entry | type | shape | content |
//! |---|---|---|---|
//! | `NAME.codes`, 8 bits | I8, U8 | that of the tensor; one axis for codes of vectors | one code for each element, or each vector |
//! | `NAME.codes`, 16 bits | I16, U16 | as with 8 bits | one code for each element, or each vector |
//! | `NAME.codes`, other widths | U8 | one axis | the bytes of [`PackedCodes`](crate::tensor::PackedCodes): codes bit by bit, least significant bit first, in row-major order, the last byte padded with zeros; signed codes in two's complement |
//! | `NAME.scales` | F64, F32, F16, BF16; I16 for exponents of a base; U8 or U16 for codes of minifloats | [`Tiling::region_shape`]: the number of blocks along each group of axes that is cut | the scale S of each region |
//! | `NAME.scales.codes` | U8 | one axis | two-level scales: the bytes of the packed codes of the scales, in the order of the regions |
//! | `NAME.scales.scales` | F64, F32, F16, BF16 | one axis | two-level scales: the scale of each block of scales |
//! | `NAME.scales.mean` | F32 | `[1]` | two-level scales that are centred: what is added to each |
//! | `NAME.zero_points`, integers | I8, U8, I16, U16: sign and size of the codes | as the scales | the zero point Z of each region |
//! | `NAME.zero_points`, real numbers | as the scales | as the scales | the zero point Z of each region |
//!
//! | `NAME.levels`, shared | F64, F32, F16, BF16 | `[2^b]` | the levels that all regions share, under their scales |
//! | `NAME.levels`, codebooks | F64, F32, F16, BF16 | as the scales, then 2^b | the levels of each region |
//! | `NAME.coefficients` | F64, F32, F16, BF16 | as the scales, then b | the α of each bit of each region |
//! | `NAME.break_points`, `NAME.ends` | F64, F32, F16, BF16 | as the scales | where centre and tails of two pieces end |
//! | `NAME.vectors` | F64, F32, F16, BF16 | as the scales, then 2^b, d | the vectors of each region |
//!
//! Which of them there are follows from the scheme; its documentation says what they mean: [`AffineScheme`],
//! [`LevelScheme`], [`CodebookScheme`], [`BinaryCodeScheme`], [`PiecewiseScheme`],
//! [`VectorScheme`].
//! There is no entry for zero points that are the same by scheme, nor for the levels of a named table. Every entry is
//! aligned to its element type, as the entries are in the order of the `safetensors` crate: largest elements
//! first. Of the metadata (`__metadata__` of the header) the line `NAME` is a JSON object:
//!
//! ```json
//! {"lowbit": 1, "dtype": "f32", "shape": [64, 3, 3, 3],
//!  "tiling": [{"axes": [0], "block": 1}, {"axes": [1, 2, 3], "block": null}],
//!  "scheme": {"affine": {"bits": 4, "codes": [-7, 7], "zero_point": {"fixed": 0.0}, "storage": "f32"}},
//!  "recipe": "uniform(bits=4, ...); granularity=channel(axis=0); ..."}
//! ```
//!
//! `lowbit` is the version of this layout, `dtype` the type of the elements before quantization, `tiling` the
//! groups of axes and the length of their blocks (`null`: one block over everything), and `recipe`, which may be
//! missing, the text form of the recipe. Tensors that are not quantized stand beside them as they are.
//! [Notes](crate::QuantizedTensor::notes) are not stored.
//!
//! # Writing and reading
//!
//! ```
//! use lowbit::io::safetensors::{File, save};
//! use lowbit::prelude::*;
//! use ndarray::{Array1, Array2, Ix1};
//!
//! let weight = Array2::from_shape_fn((16, 64), |(i, j)| ((i * 64 + j) as f32).sin());
//! let bias = Array1::<f32>::zeros(16);
//! let recipe = Uniform::symmetric(BitWidth::new(4)?).granularity(PerChannel::new(Axis(0)));
//! let quantized = recipe.quantize(&weight)?;
//!
//! # let folder = tempfile::tempdir().map_err(lowbit::Error::custom)?;
//! # let path = folder.path().join("layer.safetensors");
//! save(&path, [("fc.weight", (&quantized).into()), ("fc.bias", (&*bias).into())])?;
//!
//! // In the inference code:
//! let bytes = std::fs::read(&path).map_err(lowbit::Error::custom)?;
//! let file = File::new(&bytes)?;
//! assert_eq!(file.names().collect::<Vec<_>>(), ["fc.bias", "fc.weight"]);
//! assert_eq!(file.quantized("fc.weight")?, quantized);
//! assert_eq!(file.array::<f32, Ix1>("fc.bias")?, bias);
//! # Ok::<(), lowbit::Error>(())
//! ```
//!
//! [`save`] needs all tensors at hand. A file larger than memory is written tensor by tensor with a [`Layout`],
//! which says what is to come, and a [`Writer`].
//!
//! [safetensors]: https://github.com/huggingface/safetensors
//! [`Tiling::region_shape`]: crate::granularity::Tiling::region_shape
//! [`AffineScheme`]: crate::tensor::AffineScheme
//! [`LevelScheme`]: crate::tensor::LevelScheme
//! [`CodebookScheme`]: crate::tensor::CodebookScheme
//! [`BinaryCodeScheme`]: crate::tensor::BinaryCodeScheme
//! [`PiecewiseScheme`]: crate::tensor::PiecewiseScheme
//! [`VectorScheme`]: crate::tensor::VectorScheme

mod info;
mod reader;
mod writer;

pub use ::safetensors::Dtype;
pub use ::safetensors::tensor::TensorView as RawTensor;
pub use info::QuantizedInfo;
pub use reader::File;
pub use writer::{Layout, Tensor, Writer, save};

use crate::element::FloatType;
use crate::tensor::{NAMES, ParameterType};

/// What errors call the format.
const FORMAT: &str = "safetensors";

/// The longest header that safetensors readers take.
const MAX_HEADER: usize = 100_000_000;

/// The name of the entry of codes.
fn codes_of(name: &str) -> String {
    format!("{name}.codes")
}

/// The name of the entry of a parameter.
fn parameter_of(name: &str, parameter: &str) -> String {
    format!("{name}.{parameter}")
}

/// The names of all entries that a quantized tensor may have.
fn entries_of(name: &str) -> impl Iterator<Item = String> + '_ {
    core::iter::once(codes_of(name)).chain(NAMES.iter().map(move |parameter| parameter_of(name, parameter)))
}

/// The type that a file holds the numbers of a parameter in.
const fn dtype_of_parameter(kind: ParameterType) -> Dtype {
    match kind {
        ParameterType::Float(kind) => dtype_of(kind),
        ParameterType::I8 => Dtype::I8,
        ParameterType::U8 => Dtype::U8,
        ParameterType::I16 => Dtype::I16,
        ParameterType::U16 => Dtype::U16,
    }
}

/// The type that a file holds elements of `kind` in.
pub const fn dtype_of(kind: FloatType) -> Dtype {
    match kind {
        FloatType::F64 => Dtype::F64,
        FloatType::F32 => Dtype::F32,
        FloatType::F16 => Dtype::F16,
        FloatType::Bf16 => Dtype::BF16,
    }
}

/// The element type of entries of type `dtype`; `None` for those that cannot be quantized.
pub const fn float_type(dtype: Dtype) -> Option<FloatType> {
    match dtype {
        Dtype::F64 => Some(FloatType::F64),
        Dtype::F32 => Some(FloatType::F32),
        Dtype::F16 => Some(FloatType::F16),
        Dtype::BF16 => Some(FloatType::Bf16),
        _ => None,
    }
}
