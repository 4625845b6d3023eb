//! The powers of two of incremental network quantization.
//!
//! Zhou, Yao, Guo, Xu and Chen 2017, *Incremental Network Quantization: Towards Lossless CNNs with Low-Precision
//! Weights*, equations 1 to 4:
//!
//! ```text
//! P  = {±2^n1, ..., ±2^n2, 0}
//! n1 = ⌊log2(4s / 3)⌋,  s = max |W|,      n2 = n1 + 1 − 2^(b−1) / 2
//! Ŵ  = β sgn(W)  if (α + β)/2 ≤ |W| < 3β/2,  else 0        for neighbours α, β of P
//! ```

use core::fmt;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax};
use crate::error::ConfigError;
use crate::tensor::{LevelScheme, LevelTable, PowerBase, ScaleRule, ScaleStorage};

use super::calibrated::on_levels;

/// Powers of two and zero, the levels of INQ, each value to the nearest of them.
///
/// Unlike [`Log`](super::Log), which has 2^(b−1) − 1 exponents, it spends one of its b bits on zero: 2^(b−2) exponents
/// of either sign, so codes need values from 0 to 2^(b−1) only, and the top exponent is the power of two nearest to the
/// end of the range in value.
///
/// Defaults: minimum and maximum (the paper's s), exponents as scales. It needs 2 bits. The retraining in steps is not
/// part of it.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::{Ix1, array};
///
/// // s = 0.7: n1 = −1 and n2 = −2.
/// let q = Inq::new(BitWidth::new(3)?).quantize(&array![0.7f32, -0.38, 0.3, 0.1])?;
/// assert_eq!(q.dequantize::<f32, Ix1>()?, array![0.5, -0.5, 0.25, 0.0]);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Inq {
    bits: BitWidth,
    scales: ScaleStorage,
    calibration: Arc<dyn Calibration>,
}

impl Inq {
    /// The powers of `bits` bits.
    pub fn new(bits: BitWidth) -> Self {
        Self { bits, scales: ScaleStorage::Power(PowerBase::TWO), calibration: Arc::new(MinMax) }
    }

    /// How the powers 2^n1 are stored. The default is as integer exponents.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.scales = storage.into();
        self
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        let scheme = LevelScheme::new(LevelTable::inq(self.bits)?).with_scales(self.scales);
        scheme.with_rule(ScaleRule::NearestPowerOfTwo)
    }
}

on_levels!(Inq);

/// `inq(bits=5, scales=power(2), calibration=minmax)`
impl fmt::Display for Inq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, scales, calibration } = self;
        write!(f, "inq(bits={bits}, scales={scales}, calibration={calibration})")
    }
}
