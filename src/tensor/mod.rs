//! Quantized tensors: what is stored, how values get their codes, and the result.
//!
//! [`Scheme`] declares what will be stored, [`Grids`] hold the fitted parameters of each region, [`Encoding`]
//! says how a value gets its code, and [`QuantizedTensor`] is the result with its bit-packed codes.

mod affine;
mod arrays;
mod binary_code;
mod code_range;
mod codebook;
mod codes;
mod decode;
mod encode;
mod encoding;
mod figures;
mod grids;
mod levels;
#[cfg(feature = "safetensors")]
mod parameters;
mod piecewise;
mod places;
mod quantized;
mod scales;
mod scheme;
#[cfg(feature = "serde")]
mod serialized;
mod two_level;
mod vector_codebook;
mod view;

pub use affine::{AffineGrid, AffineGrids, AffineScheme, ScaleOverflow, ZeroPointRule, ZeroPoints};
pub use arrays::{FloatArray, IntegerArray};
pub use binary_code::{BinaryCodeGrid, BinaryCodeGrids, BinaryCodeScheme};
pub use code_range::CodeRange;
pub use codebook::{CodebookGrid, CodebookGrids, CodebookScheme};
pub use codes::PackedCodes;
pub use encoding::{Dialect, Encoding, NonFinite, Rounding};
pub use grids::{Grid, Grids};
pub use levels::{
    LevelDensity, LevelGrid, LevelGrids, LevelScheme, LevelTable, Levels, LogRounding, ScaleRule,
};
pub use piecewise::{PiecewiseGrid, PiecewiseGrids, PiecewiseScheme};
pub use quantized::{Note, Notes, QuantizedTensor};
pub use scales::{PowerBase, ScaleArray, ScaleStorage};
pub use scheme::{ClippingRange, Scheme};
pub use two_level::{ScaleCodes, TwoLevel, TwoLevelScales};
pub use vector_codebook::{VectorGrid, VectorGrids, VectorScheme};
pub use view::TensorView;

pub(crate) use codes::sign_extend;
pub(crate) use encode::{Decide, Uniforms, decider, fake_into};
pub(crate) use levels::boundary;
#[cfg(feature = "safetensors")]
pub(crate) use parameters::{NAMES, Numbers, OwnedNumbers, Parameter, ParameterType};
pub(crate) use view::unravel;
#[cfg(feature = "safetensors")]
pub(crate) use view::{Elements, typed};
