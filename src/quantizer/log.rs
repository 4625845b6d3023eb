//! Logarithmic quantization (survey, III-F): powers of a base.
//!
//! Miyashita, Lee and Murmann 2016, *Convolutional Neural Networks using Logarithmic Data Representation*, section 3:
//!
//! ```text
//! LogQuant(x) = 0                      if x = 0
//!               sign(x) · 2^x̃          else,   x̃ = clip(round(log2 |x|), FSR − 2^b, FSR)
//! ```
//!
//! where the lowest exponent of the clip stands for zero and the highest is not reached: 2^b − 1 exponents end at
//! FSR − 1. √2 is the base of its section 5.

use core::fmt;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax};
use crate::error::ConfigError;
use crate::tensor::{LevelScheme, LevelTable, LogRounding, PowerBase, ScaleStorage};

use super::calibrated::on_levels;

/// Powers of a base and zero, of both signs.
///
/// Of b bits one is the sign, unless [`unsigned`](Self::unsigned) says otherwise, and one code is zero: there are
/// 2^(b−1) − 1 consecutive exponents (2^b − 1 without sign), the highest of which is the full scale. It is the integer
/// exponent nearest to the logarithm of the range's end, and is what is stored for each region, in 16 bits. Larger
/// magnitudes saturate, those below half the smallest power, in the sense of the rounding, become zero.
///
/// Defaults: base 2, signed, rounding in the logarithmic domain, minimum and maximum. At 1 bit there is no sign;
/// [`scheme`](super::Quantizer::scheme) reports that, and widths whose smallest power would be no number.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::tensor::{LogRounding, PowerBase};
/// use ndarray::{Ix1, array};
///
/// let x = array![1.0f32, 0.72, -0.36, 0.3, 0.05, 0.0];
/// let restored = |log: Log| log.quantize(&x)?.dequantize::<f32, Ix1>();
/// let log = Log::new(BitWidth::new(3)?);
/// assert_eq!(restored(log.clone())?, array![1.0, 1.0, -0.5, 0.25, 0.0, 0.0]);
/// // 0.72 is above the geometric mean of 0.5 and 1, but nearer to 0.5.
/// assert_eq!(restored(log.clone().rounding(LogRounding::Level))?, array![1.0, 0.5, -0.25, 0.25, 0.0, 0.0]);
///
/// // Levels as dense as those of base 2 at twice as many bits of exponent.
/// let q = log.base(PowerBase::SQRT_2).quantize(&x)?;
/// # assert_eq!(q.dequantize::<f32, Ix1>()?[1], 0.5f32.sqrt());
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Log {
    bits: BitWidth,
    base: PowerBase,
    signed: bool,
    rounding: LogRounding,
    scales: Option<ScaleStorage>,
    calibration: Arc<dyn Calibration>,
}

impl Log {
    /// Powers of 2 in codes of `bits`, one of which is the sign.
    pub fn new(bits: BitWidth) -> Self {
        let (base, rounding) = (PowerBase::TWO, LogRounding::Exponent);
        Self { bits, base, signed: true, rounding, scales: None, calibration: Arc::new(MinMax) }
    }

    /// Powers of another base.
    pub fn base(mut self, base: PowerBase) -> Self {
        self.base = base;
        self
    }

    /// Without negative values, for activations: all bits are of the exponent.
    pub fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    /// Whether a value goes to the nearest exponent or to the nearest level.
    ///
    /// This says where [`Rounding::NearestEven`](crate::Rounding::NearestEven) has its boundaries; the other roundings
    /// look at values.
    pub fn rounding(mut self, rounding: LogRounding) -> Self {
        self.rounding = rounding;
        self
    }

    /// How full scales are stored. The default is as integer exponents of the base; with a floating-point type they are
    /// the ends of the ranges as they are.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.scales = Some(storage.into());
        self
    }

    fn storage(&self) -> ScaleStorage {
        self.scales.unwrap_or(ScaleStorage::Power(self.base))
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        let table = LevelTable::powers(self.bits, self.base, self.signed, self.rounding)?;
        Ok(LevelScheme::new(table).with_scales(self.storage()))
    }
}

on_levels!(Log);

/// `log(bits=4, base=2, signed=true, rounding=exponent, scales=power(2), calibration=minmax)`
impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, base, signed, rounding, calibration, .. } = self;
        write!(f, "log(bits={bits}, base={base}, signed={signed}, rounding={rounding}")?;
        write!(f, ", scales={}, calibration={calibration})", self.storage())
    }
}
