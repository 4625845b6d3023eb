//! Low-bit quantization of [`ndarray`] tensors: real values to bit-packed codes and back.
//!
//! ```
//! use lowbit::prelude::*;
//! use ndarray::{Array2, Ix2};
//!
//! let weights = Array2::from_shape_fn((16, 64), |(i, j)| ((7 * i + j) as f32 * 0.37).sin());
//!
//! // Every choice is one line, and every one has a sensible default.
//! let q = Uniform::symmetric(BitWidth::new(4)?)
//!     .range(SymmetricRange::Restricted)
//!     .calibration(Percentile::new(99.99)?)
//!     .granularity(PerChannel::new(Axis(0)))
//!     .quantize(&weights)?;
//! let restored = q.dequantize::<f32, Ix2>()?;
//! println!("{:.2} bits/element, {:.1} dB", q.bits_per_element(), sqnr(&weights, &restored)?);
//! # assert_eq!(q.bits_per_element(), 4.5);
//!
//! // Another method is another first line.
//! let q = KMeans::new(BitWidth::new(4)?).granularity(PerChannel::new(Axis(0))).quantize(&weights)?;
//!
//! // Another method is another first line.
//! let q = KMeans::new(BitWidth::new(4)?).granularity(PerChannel::new(Axis(0))).quantize(&weights)?;
//!
//! // Dynamic activations: a recipe finds the range of whatever it is given.
//! let recipe = Uniform::asymmetric(BitWidth::new(8)?).calibration(Kl::default()).granularity(PerLayer);
//! let x = Array2::from_shape_fn((4, 64), |(i, j)| ((i + 3 * j) as f32).cos().max(0.0));
//! let qx = recipe.quantize(&x)?;
//!
//! // Static activations: observe batches (anywhere, in any order), merge, freeze, reuse.
//! let mut observer = recipe.observer(&[4, 64])?;
//! observer.observe(&x)?;
//! let activation = recipe.freeze(&observer)?;
//! let qx = activation.quantize(&x)?; // no statistics at run time
//! # Ok::<(), lowbit::Error>(())
//! ```
//!
//! # How it is built
//!
//! ```text
//!  tensor ─Granularity─▶ regions ─Calibration─▶ range [α, β] ─Quantizer─▶ grids ─Encoding─▶ codes ─▶ QuantizedTensor
//! ```
//!
//! Each arrow is one decision, each decision one small strategy object, and any choice on one arrow composes with
//! any choice on the others. Together they are a [`Recipe`], which has a text form and can be stored.
//!
//! | decision | in | choices |
//! |---|---|---|
//! | which elements share parameters | [`granularity`] | per layer, group, channel, sub-channel; n-d blocks; your own |
//! | which range the codes cover | [`calibration`] | minimum and maximum, percentile, KL, least squared error, ACIQ, standard deviations, weighted entropy, the rules of NVIDIA, ONNX Runtime and PyTorch, given; your own |
//! | statistics of a stream | [`observer`] | one mergeable histogram for each region |
//! | what is stored, and the grid of a region | [`quantizer`] | see below; your own |
//! | how a value gets its code | [`Encoding`] | five deterministic roundings and stochastic ones; seven numeric [dialects](Dialect); a policy for NaN and ±∞ |
//!
//! | methods | representation | survey |
//! |---|---|---|
//! | [`Uniform`](quantizer::Uniform): symmetric (restricted, full, mid-rise), asymmetric (integer or real zero point) | scale and zero point | III-B, C |
//! | [`Log`](quantizer::Log), [`Inq`](quantizer::Inq), [`Apot`](quantizer::Apot): powers of two and their sums | shared levels under scales | III-F |
//! | [`KMeans`](quantizer::KMeans), [`LloydMax`](quantizer::LloydMax), [`Ecsq`](quantizer::Ecsq), [`ProductQuantization`](quantizer::ProductQuantization) | codebooks | III-F |
//! | [`BinaryCode`](quantizer::BinaryCode), [`Ternary`](quantizer::Ternary), [`Sign`](quantizer::Sign) | signed sums of coefficients | III-F, H |
//! | [`PiecewiseLinear`](quantizer::PiecewiseLinear) | two uniform pieces | III-F |
//! | [`NormalFloat`](quantizer::NormalFloat), [`FloatingPoint`](quantizer::FloatingPoint), [`Mx`](quantizer::Mx), [`NvFp4`](quantizer::NvFp4), [`BitsandbytesFp4`](quantizer::BitsandbytesFp4), [`DynamicMap`](quantizer::DynamicMap) | shared levels under scales | |
//! | [`BlockSearch`](quantizer::BlockSearch): searched scales of two levels, the [`BlockFormat`](quantizer::BlockFormat)s | shared levels under scales | |
//!
//! The result, [`QuantizedTensor`], is one concrete type whatever made it: packed codes, one grid per region, the
//! tiling. [`metrics`] and [`report`] say what it cost, [`integer`] helps to compute with its codes, [`transform`] makes
//! weights easier to quantize, [`allocation`] finds widths under a budget, [`qat`] is for training, and
//! `io::safetensors` (feature `safetensors`) puts the result into files. [`minifloat`] has the number formats.
//!
//! Methods that look at what a layer does with its inputs, and not at its weights alone, are in [`layer`].
//!
//! # Conventions
//!
//! * `q = clamp(round(r / S) + Z, q_min, q_max)` and `r̃ = S · (q − Z)`, as in ONNX, PyTorch and TFLite. The survey
//!   of Gholami et al. (2021) writes `Q(r) = Int(r/S) − Z`; its Z has the opposite sign.
//! * Parameters are rounded to their storage type *before* codes are chosen.
//! * Elements are f32, f64, [`half::f16`] or [`half::bf16`], in any layout. The codes of a view are those of its
//!   standard-layout copy, and the result never depends on the number of threads.
//! * Nothing panics, whatever the input. A configuration that cannot work is a [`ConfigError`], a configuration that
//!   does not fit a tensor a [`ShapeError`], data that cannot be served a [`DataError`].
//!
//! # Adding a method
//!
//! A [`Quantizer`] of your own is two functions; see the [example](quantizer#adding-a-quantizer).
//!
//! # Features
//!
//! * `rayon` (default): several threads for large tensors, with the same bits.
//! * `serde`: tensors, recipes, frozen recipes and their parts can be serialized, and are validated on the way in.
//! * `safetensors`: quantized tensors in safetensors files.

mod bits;
mod element;
mod error;
mod kernel;
mod names;
mod parallel;
mod solve;
mod tables;
mod text;

pub mod allocation;
pub mod calibration;
pub mod granularity;
pub mod integer;
#[cfg(feature = "safetensors")]
pub mod io;
pub mod layer;
pub mod metrics;
pub mod minifloat;
pub mod observer;
pub mod qat;
pub mod quantizer;
pub mod random;
pub mod recipe;
pub mod report;
pub mod simd;
pub mod tensor;
pub mod transform;

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
    pub use crate::calibration::{Aciq, Calibration, Comparison, Fixed, Kl, MinMax, Mse, Percentile};
    pub use crate::granularity::{Blocks, Granularity, PerChannel, PerGroup, PerLayer, PerSubChannel};
    pub use crate::metrics::sqnr;
    pub use crate::observer::Observer;
    pub use crate::quantizer::{
        Apot, BinaryCode, BitsandbytesFp4, BlockFormat, BlockSearch, Codes, DynamicMap, Ecsq, FloatingPoint,
        Inq, KMeans, LloydMax, Log, Mx, NormalFloat, NvFp4, PiecewiseLinear, ProductQuantization, Quantizer,
        Sign, SymmetricRange, Ternary, Uniform,
    };
    pub use crate::recipe::{Frozen, QuantizerExt, Recipe};
    pub use crate::tensor::{Dialect, NonFinite, QuantizedTensor, Rounding};
    pub use ndarray::Axis;
}

/// The programs of the README are tests too.
#[cfg(all(doctest, feature = "safetensors"))]
#[doc = include_str!("../README.md")]
struct Readme;
