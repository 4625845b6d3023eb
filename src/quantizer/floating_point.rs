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

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Ix1};

    use super::super::testing::{blocks, fnv, hash_of};
    use super::*;
    use crate::calibration::Mse;
    use crate::error::{DataError, Error};
    use crate::quantizer::Quantizer;
    use crate::recipe::QuantizerExt;
    use crate::tensor::{NonFinite, Rounding};

    #[test]
    fn casts_are_those_of_ml_dtypes() {
        // ml_dtypes 0.6.0, `astype` of values clipped to the largest: the hash of the codes.
        let x = blocks(64, 64, 3, 100, 40);
        assert_eq!(hash_of(&x), 0x9062f57989a862ae);
        for (name, expected) in [
            ("e4m3fn", 0x998a62a78069c810),
            ("e4m3fnuz", 0x684a7a40eb834ba1),
            ("e5m2", 0x7c856ac1b4296a53),
            ("e5m2fnuz", 0x01e7e517a05d25b3),
            ("e3m2", 0x94243688b05946a3),
            ("e2m3", 0x3a9ad9bc633adff5),
            ("e2m1", 0x1d8f2e93190dca1b),
            ("e3m4", 0x317afa298003aee8),
        ] {
            let method = FloatingPoint::new(name.parse().unwrap()).unscaled();
            let q = method.quantize(&x).unwrap();
            assert_eq!(fnv(q.codes().iter().map(|code| code as u8)), expected, "{name}");
            let q = method.quantize(&x.mapv(f64::from)).unwrap();
            assert_eq!(fnv(q.codes().iter().map(|code| code as u8)), expected, "{name}");
        }
    }

    #[test]
    fn the_largest_magnitude_is_the_largest_number() {
        let x = Array1::from_vec(vec![-1.75f32, 0.4, 1.0]);
        for (method, max) in [
            (FloatingPoint::e4m3(), 448.0),
            (FloatingPoint::e5m2(), 57344.0),
            (FloatingPoint::e3m2(), 28.0),
            (FloatingPoint::e2m3(), 7.5),
            (FloatingPoint::e2m1(), 6.0),
        ] {
            let q = method.quantize(&x).unwrap();
            assert_eq!(
                q.grid(0),
                Some(crate::tensor::LevelGrid { scale: f64::from((1.75 / max) as f32) }.into())
            );
            let code = q.code(0).unwrap() as u16;
            assert_eq!(method.format.decode(code), -max);
        }
    }

    #[test]
    fn what_is_not_finite() {
        let x = Array1::from_vec(vec![f32::INFINITY, f32::NAN, f32::NEG_INFINITY, 1.0]);
        for (method, nan, max) in [(FloatingPoint::e4m3(), 0x7F, 0x7E), (FloatingPoint::e5m2(), 0x7E, 0x7B)] {
            let cast = method.clone().unscaled();
            let q = cast.clone().non_finite(NonFinite::Propagate).quantize(&x).unwrap();
            assert_eq!(q.codes().unpack()[..3], [max, nan, max | 0x80]);
            assert!(q.dequantize::<f32, Ix1>().unwrap()[1].is_nan());
            assert!(
                matches!(cast.quantize(&x), Err(Error::Data(DataError::NotANumber { index })) if index == [1])
            );
            let zero = cast.non_finite(NonFinite::NanToZero).quantize(&x).unwrap();
            assert_eq!(zero.code(1), Some(0));
            // Where a range is sought, the infinities are skipped; they saturate.
            let q = method.non_finite(NonFinite::Propagate).quantize(&x).unwrap();
            assert_eq!(q.codes().unpack(), [max, nan, max | 0x80, max]);
        }
        let fnuz = FloatingPoint::new(Minifloat::E4M3FNUZ).unscaled().non_finite(NonFinite::Propagate);
        assert_eq!(fnuz.quantize(&x).unwrap().code(1), Some(0x80));
        let finite = FloatingPoint::e2m1().unscaled().non_finite(NonFinite::Propagate);
        assert!(matches!(finite.quantize(&x), Err(Error::Config(ConfigError::Conflict { .. }))));
    }

    #[test]
    fn settings_that_exclude_each_other() {
        let conflict = |method: FloatingPoint| {
            assert!(matches!(method.scheme(), Err(Error::Config(ConfigError::Conflict { .. }))), "{method}");
            // The text tells of it.
            assert!(matches!(
                method.to_string().parse::<crate::Recipe>(),
                Err(crate::ParseError::Config(ConfigError::Conflict { .. }))
            ));
        };
        conflict(FloatingPoint::e4m3().unscaled().calibration(Mse));
        conflict(FloatingPoint::e4m3().unscaled().scales(FloatType::F16));
        let wide = FloatingPoint::new(Minifloat::new(10, 3).unwrap());
        assert!(matches!(
            wide.scheme(),
            Err(Error::Config(ConfigError::Minifloat { exponent_bits: 10, .. }))
        ));
        let q = wide.scales(FloatType::F64).unscaled();
        assert!(q.scheme().is_err());
        let scaled = FloatingPoint::new(Minifloat::new(10, 3).unwrap()).scales(FloatType::F64);
        let back = scaled.quantize(&Array1::from_vec(vec![1e200f64, -1e-90])).unwrap();
        let back = back.dequantize::<f64, Ix1>().unwrap();
        assert!((back[0] / 1e200 - 1.0).abs() < 1e-15 && (back[1] / -1e-90 - 1.0).abs() <= 1.0 / 16.0);
        assert!(FloatingPoint::new(Minifloat::new(8, 7).unwrap()).scheme().is_ok());
    }

    #[test]
    fn stochastic_rounding_is_between_neighbours() {
        let x = Array1::<f32>::from_elem(4000, 2.25);
        let cast = FloatingPoint::e2m1().unscaled().rounding(Rounding::Stochastic { seed: 5 });
        let back = cast.quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap();
        let up = back.iter().filter(|&&value| value == 3.0).count();
        assert!(back.iter().all(|&value| value == 2.0 || value == 3.0));
        // A quarter of them, within five standard deviations.
        assert!((up as f64 - 1000.0).abs() < 5.0 * (4000.0f64 * 0.25 * 0.75).sqrt(), "{up}");
    }
}
