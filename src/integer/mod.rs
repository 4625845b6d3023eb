//! Integer arithmetic with quantized tensors.

mod fold;

pub use fold::{ZeroPointFold, fold_zero_point};
