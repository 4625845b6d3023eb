//! Floating-point formats of a few bits, with a scale for each region or without.
//!
//! Micikevicius et al. 2022, *FP8 Formats for Deep Learning*, section 3.1: values are multiplied by a scale before they
//! are cast, so that the largest magnitude of a tensor is the largest of the format, and saturate beyond it:
//!
//! ```text
//! q = cast_sat(x / S),   S = max |x| / max_value
//! ```

use core::fmt;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::calibration::{Calibrated, Calibration, MinMax, Ranges, Region, Regions};
use crate::element::FloatType;
use crate::error::{ConfigError, Result};
use crate::minifloat::Minifloat;
use crate::tensor::{ClippingRange, LevelScheme, LevelTable, ScaleRule, ScaleStorage, Scheme};

use super::calibrated::on_levels;

/// Numbers of a [`Minifloat`] format times a scale for each region, or as they are.
///
/// Values are rounded to nearest, ties to the even mantissa, and saturate; ±∞ too, where a range is given or none is
/// needed. With [`NonFinite::Propagate`](crate::NonFinite::Propagate) NaN gets the format's NaN. (The codec
/// [`Minifloat::encode`] can also overflow to ∞ or NaN.) Negative zero gets the code of zero.
///
/// Defaults: minimum and maximum, f32 scales.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::{Ix1, array};
///
/// let x = array![896.0f32, -3.0, 0.3];
/// // The scale is 896/448 = 2.
/// let q = FloatingPoint::e4m3().quantize(&x)?;
/// assert_eq!(q.dequantize::<f32, Ix1>()?, array![896.0, -3.0, 0.3125]);
/// // A plain cast.
/// let q = FloatingPoint::e4m3().unscaled().quantize(&x)?;
/// assert_eq!(q.dequantize::<f32, Ix1>()?, array![448.0, -3.0, 0.3125]);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FloatingPoint {
    format: Minifloat,
    unscaled: bool,
    scales: ScaleStorage,
    calibration: Arc<dyn Calibration>,
}

impl FloatingPoint {
    /// Numbers of `format`.
    pub fn new(format: Minifloat) -> Self {
        let scales = FloatType::F32.into();
        Self { format, unscaled: false, scales, calibration: Arc::new(MinMax) }
    }

    /// OCP FP8 E4M3, largest value 448.
    pub fn e4m3() -> Self {
        Self::new(Minifloat::E4M3FN)
    }

    /// OCP FP8 E5M2, largest value 57344.
    pub fn e5m2() -> Self {
        Self::new(Minifloat::E5M2)
    }

    /// OCP FP6 E3M2, largest value 28.
    pub fn e3m2() -> Self {
        Self::new(Minifloat::E3M2)
    }

    /// OCP FP6 E2M3, largest value 7.5.
    pub fn e2m3() -> Self {
        Self::new(Minifloat::E2M3)
    }

    /// OCP FP4 E2M1, largest value 6.
    pub fn e2m1() -> Self {
        Self::new(Minifloat::E2M1)
    }

    /// The scale 1 for every region: a plain cast, which reads nothing of the data beforehand. Neither a calibration nor
    /// another storage of scales applies to it.
    pub fn unscaled(mut self) -> Self {
        self.unscaled = true;
        self.calibration = Arc::new(NoRange);
        self
    }

    /// How scales are stored. The default is f32.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.scales = storage.into();
        self
    }

    /// The width of a code.
    pub fn bits(&self) -> BitWidth {
        LevelTable::minifloat(self.format).bits()
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        let (format, storage) = (self.format, self.scales);
        let exact = |value: f64| FloatType::F32.round(value) == value;
        if storage.arithmetic() == FloatType::F32
            && !(exact(format.max_value()) && exact(format.min_positive()))
        {
            return Err(ConfigError::Minifloat {
                exponent_bits: format.exponent_bits(),
                mantissa_bits: format.mantissa_bits(),
                rule: "its numbers must be f32 numbers, unless scales are f64",
            });
        }
        let scheme = LevelScheme::new(LevelTable::minifloat(format)).with_scales(storage);
        if !self.unscaled {
            return Ok(scheme);
        }
        if self.calibration.reads_data() || storage != FloatType::F32 {
            let setting = "a calibration or a storage of scales";
            return Err(ConfigError::Conflict { setting, to: "numbers without scale" });
        }
        scheme.with_rule(ScaleRule::One)
    }
}

on_levels!(FloatingPoint);

/// `float(e4m3fn, scales=f32, calibration=minmax)`, `float(e4m3fn, unscaled=true)`
impl fmt::Display for FloatingPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, scales, calibration, .. } = self;
        write!(f, "float({format}")?;
        if !self.unscaled {
            return write!(f, ", scales={scales}, calibration={calibration})");
        }
        // What does not apply is written where it was set, so that the text tells of it.
        f.write_str(", unscaled=true")?;
        if *scales != FloatType::F32 {
            write!(f, ", scales={scales}")?;
        }
        if calibration.reads_data() {
            write!(f, ", calibration={calibration}")?;
        }
        f.write_str(")")
    }
}

/// No range is needed, so none is sought.
#[derive(Debug)]
struct NoRange;

impl Calibration for NoRange {
    fn range(&self, _region: &Region<'_>, _scheme: &Scheme) -> Result<Calibrated> {
        Ok(ClippingRange::ZERO.into())
    }

    fn ranges(&self, regions: &Regions<'_, '_>, _scheme: &Scheme) -> Result<Ranges> {
        Ok(vec![ClippingRange::ZERO; regions.len()].into())
    }

    fn reads_data(&self) -> bool {
        false
    }
}

impl fmt::Display for NoRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("none")
    }
}
