//! Low-bit quantization of `ndarray` tensors.

mod bits;
mod element;
mod error;
#[allow(dead_code)]
mod kernel;

pub use bits::BitWidth;
pub use element::{Element, FloatType, Real};
pub use error::{ConfigError, ParseError};
