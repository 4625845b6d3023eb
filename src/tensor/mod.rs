//! Quantized tensors: what is stored, how values get their codes, and the result.
//!
//! [`Scheme`] declares what will be stored, [`Grids`] hold the fitted parameters of each region, [`Encoding`]
//! says how a value gets its code, and [`QuantizedTensor`] is the result with its bit-packed codes.

mod code_range;
mod codes;
mod encode;
mod encoding;
mod figures;
mod grids;
mod quantized;
mod scheme;
#[cfg(feature = "serde")]
mod serialized;
mod view;

pub use code_range::CodeRange;
pub use codes::PackedCodes;
pub use encoding::{Dialect, Encoding, NonFinite, Rounding};
pub use grids::{AffineGrids, FloatArray, Grid, Grids, IntegerArray, ZeroPoints};
pub use quantized::{Note, Notes, QuantizedTensor};
pub use scheme::{AffineGrid, AffineScheme, ClippingRange, ScaleOverflow, Scheme, ZeroPointRule};
pub use view::TensorView;
