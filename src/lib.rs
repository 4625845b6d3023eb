//! Low-bit quantization of `ndarray` tensors.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo))]

mod bits;
mod element;
mod error;
#[allow(dead_code)]
mod kernel;
mod parallel;
#[allow(dead_code)]
mod solve;

pub mod calibration;
pub mod granularity;
pub mod integer;
#[cfg(feature = "safetensors")]
pub mod io;
pub mod metrics;
pub mod quantizer;
pub mod recipe;
pub mod report;
pub mod tensor;

pub use bits::BitWidth;
pub use calibration::{Calibration, Evidence, Region, Regions, Values};
pub use element::{Element, FloatType, Real};
pub use error::{ConfigError, DataError, Error, FormatError, ParseError, Result, ShapeError};
pub use granularity::Granularity;
pub use quantizer::Quantizer;
pub use recipe::{Frozen, Recipe, Registry};
pub use tensor::{CodeRange, Dialect, Encoding, NonFinite, QuantizedTensor, Rounding, TensorView};

/// What most programs need.
pub mod prelude {
    pub use crate::bits::BitWidth;
    pub use crate::calibration::{Calibration, Fixed, Kl, MinMax, Mse, Percentile};
    pub use crate::granularity::{Blocks, Granularity, PerChannel, PerGroup, PerLayer, PerSubChannel};
    pub use crate::metrics::sqnr;
    pub use crate::quantizer::{Codes, Quantizer, SymmetricRange, Uniform};
    pub use crate::recipe::{Frozen, QuantizerExt, Recipe};
    pub use crate::tensor::{Dialect, NonFinite, QuantizedTensor, Rounding};
    pub use ndarray::Axis;
}
