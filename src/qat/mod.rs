//! Training with quantization in the loop (survey, III-G.1).

mod quant_noise;

pub use quant_noise::{NoiseKind, QuantNoise};
