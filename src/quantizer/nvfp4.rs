//! NVFP4: blocks of 16 E2M1 elements under E4M3 scales, and these under a scale of the tensor.
//!
//! NVIDIA 2025, *Pretraining Large Language Models with NVFP4*, appendix C, and torchao's `nvfp4_quantize`:
//!
//! ```text
//! s_tensor = max |x| / (6 · 448)                                                      f32
//! s_b      = RNE_E4M3(clamp((max over the block of |x|) / 6 / s_tensor, ε, 448))      E4M3
//! q        = RNE_E2M1(x / (s_tensor · s_b)),    |q| ≤ 6                               E2M1
//! ```

use core::fmt;
use std::sync::Arc;

use ndarray::Axis;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax};
use crate::error::ConfigError;
use crate::granularity::PerSubChannel;
use crate::minifloat::Minifloat;
use crate::tensor::{LevelScheme, LevelTable, TwoLevel};

use super::calibrated::on_levels;

/// NVFP4: E2M1 elements with an E4M3 scale for each block and an f32 scale for the tensor.
///
/// The blocks are a matter of granularity: [`NvFp4::blocks`] are those of the format. Codes are chosen on the scales as
/// stored; arithmetic is f32, in the order above. ε is the smallest positive E4M3, 2^−9; a block of zeros has the scale
/// zero and comes back as zeros. (torchao's ε is the smallest normal number, 2^−6: there, blocks whose largest magnitude
/// is below 1/28672 of the tensor's lose resolution that they keep here.)
///
/// Default: minimum and maximum.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::Array2;
///
/// let weights = Array2::from_shape_fn((64, 64), |(i, j)| ((i * 64 + j) as f32 * 0.37).sin());
/// let q = NvFp4::new().granularity(NvFp4::blocks()).quantize(&weights)?;
/// assert_eq!(q.bits_per_element(), 4.0 + 8.0 / 16.0 + 32.0 / 4096.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NvFp4 {
    calibration: Arc<dyn Calibration>,
}

impl NvFp4 {
    /// Elements of a block.
    pub const BLOCK: usize = 16;

    /// The format.
    pub fn new() -> Self {
        Self { calibration: Arc::new(MinMax) }
    }

    /// The blocks of the format: runs of [`BLOCK`](Self::BLOCK) elements of each channel along axis 0. Tensors of one
    /// axis take `Blocks::new([16])`.
    pub const fn blocks() -> PerSubChannel {
        PerSubChannel::runs(Axis(0), Self::BLOCK)
    }

    /// The width of a code: 4.
    pub const fn bits(&self) -> BitWidth {
        BitWidth::holding(15)
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        let scales = TwoLevel::minifloat(Minifloat::E4M3FN).into();
        Ok(LevelScheme::new(LevelTable::minifloat(Minifloat::E2M1)).with_scales(scales))
    }
}

impl Default for NvFp4 {
    fn default() -> Self {
        Self::new()
    }
}

on_levels!(NvFp4);

/// `nvfp4(calibration=minmax)`
impl fmt::Display for NvFp4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nvfp4(calibration={})", self.calibration)
    }
}
