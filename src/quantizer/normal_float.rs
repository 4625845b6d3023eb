//! NormalFloat: NF4 and its kin of other widths.
//!
//! Dettmers, Pagnoni, Holtzman and Zettlemoyer 2023, *QLoRA: Efficient Finetuning of Quantized LLMs*, section 3: for
//! each block of 64 elements `c = max |X|`, and each value gets the nearest of the levels q_i to X / c, where the q_i are
//! quantiles of the normal distribution,
//!
//! ```text
//! q_i = ½ (Q(i / (2^k + 1)) + Q((i + 1) / (2^k + 1)))
//! ```
//!
//! made asymmetric for an exact zero and divided by the largest. Double quantization stores the constants c less their
//! mean in 8 bits, in blocks of 256.

use core::fmt;
use std::sync::Arc;

use ndarray::Axis;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax};
use crate::element::FloatType;
use crate::error::ConfigError;
use crate::granularity::PerSubChannel;
use crate::tensor::{LevelScheme, LevelTable, ScaleStorage, TwoLevel};

use super::calibrated::on_levels;

/// Levels at quantiles of the normal distribution, from −1 to 1, times the largest magnitude of each region.
///
/// The levels of 4 bits are the published constants. Blocks are a matter of granularity; the format has runs of 64
/// elements. Codes are those of bitsandbytes with [`Dialect::Torch`](crate::Dialect::Torch), which multiplies by the
/// reciprocal of the scale as its kernels do (on a CPU it divides in a last block that is not full); the default
/// divides. A value half way between two levels gets the lower one.
///
/// Defaults: minimum and maximum, f32 scales. It needs 2 bits.
///
/// ```
/// use lowbit::prelude::*;
///
/// let weights = ndarray::Array2::from_shape_fn((64, 256), |(i, j)| ((i * 256 + j) as f32).sin());
/// let q = NormalFloat::nf4().granularity(NormalFloat::blocks()).quantize(&weights)?;
/// assert_eq!(q.bits_per_element(), 4.5);
///
/// // With double quantization as in QLoRA: 4 + 8/64 + 32/(64 · 256) bits, and 32 bits for the mean of the scales.
/// let recipe = NormalFloat::nf4().double_quantized().granularity(NormalFloat::blocks());
/// let q = recipe.dialect(Dialect::Torch).quantize(&weights)?;
/// assert_eq!(q.bits_per_element(), 4.0 + 8.0 / 64.0 + 32.0 / 16384.0 + 32.0 / 16384.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NormalFloat {
    bits: BitWidth,
    scales: ScaleStorage,
    calibration: Arc<dyn Calibration>,
}

impl NormalFloat {
    /// Elements of a block of NF4.
    pub const BLOCK: usize = 64;

    /// NF-k of k = `bits`.
    pub fn new(bits: BitWidth) -> Self {
        Self { bits, scales: FloatType::F32.into(), calibration: Arc::new(MinMax) }
    }

    /// NF4.
    pub fn nf4() -> Self {
        Self::new(BitWidth::holding(15))
    }

    /// The blocks of the format: runs of [`BLOCK`](Self::BLOCK) elements of each channel along axis 0. Tensors of one
    /// axis take `Blocks::new([64])`.
    pub const fn blocks() -> PerSubChannel {
        PerSubChannel::runs(Axis(0), Self::BLOCK)
    }

    /// Scales that are quantized themselves: [`TwoLevel::double_quantization`].
    pub fn double_quantized(self) -> Self {
        self.scales(TwoLevel::double_quantization())
    }

    /// How scales are stored. The default is f32.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.scales = storage.into();
        self
    }

    /// The width of a code.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        Ok(LevelScheme::new(LevelTable::normal_float(self.bits)?).with_scales(self.scales))
    }
}

on_levels!(NormalFloat);

/// `normal-float(bits=4, scales=f32, calibration=minmax)`
impl fmt::Display for NormalFloat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, scales, calibration } = self;
        write!(f, "normal-float(bits={bits}, scales={scales}, calibration={calibration})")
    }
}
