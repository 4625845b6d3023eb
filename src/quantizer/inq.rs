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

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Ix1};

    use super::*;
    use crate::error::{DataError, Error};
    use crate::quantizer::{Log, Quantizer};
    use crate::recipe::QuantizerExt;
    use crate::tensor::{Grid, LevelGrid};

    fn width(bits: u32) -> BitWidth {
        BitWidth::new(bits).unwrap()
    }

    #[test]
    fn the_top_exponent_is_that_of_the_paper() {
        for s in [1e-30f32, 0.01, 0.7, 0.749, 0.75, 1.0, 1.49, 1.5, 2.9, 3.0, 1e30] {
            let q = Inq::new(width(5)).quantize(&Array1::from_vec(vec![-s, s / 3.0])).unwrap();
            let n1 = (4.0 * f64::from(s) / 3.0).log2().floor();
            assert_eq!(q.grid(0), Some(LevelGrid { scale: n1.exp2() }.into()), "{s}");
        }
        // In the logarithmic domain 1.45 is nearer to 2.
        let x = Array1::from_vec(vec![1.45f32]);
        let scale = |q: crate::QuantizedTensor| match q.grid(0) {
            Some(Grid::Levels(grid)) => grid.scale,
            other => panic!("{other:?}"),
        };
        assert_eq!(scale(Inq::new(width(4)).quantize(&x).unwrap()), 1.0);
        assert_eq!(scale(Log::new(width(4)).quantize(&x).unwrap()), 2.0);
        assert_eq!(scale(Inq::new(width(4)).scales(crate::FloatType::F16).quantize(&x).unwrap()), 1.0);
    }

    #[test]
    fn levels_and_boundaries_are_those_of_the_paper() {
        // b = 5, s = 1: n1 = 0, n2 = 1 − 16/2 = −7. Equation 4: β for (α + β)/2 ≤ |w| < 3β/2.
        let quantize = |x: Vec<f32>| {
            let whole: Vec<f32> = x.into_iter().chain([1.0]).collect();
            Inq::new(width(5)).quantize(&Array1::from_vec(whole)).unwrap().dequantize::<f32, Ix1>().unwrap()
        };
        for exponent in -7..=0 {
            let beta = 2f32.powi(exponent);
            let alpha = if exponent == -7 { 0.0 } else { beta / 2.0 };
            let (from, to) = ((alpha + beta) / 2.0, (1.5 * beta).min(1.0));
            let back = quantize(vec![from, -from, from.next_down(), to.next_down()]);
            assert_eq!(back.to_vec()[..4], [beta, -beta, alpha, beta]);
        }
    }

    #[test]
    fn bad_input() {
        let zeros = Inq::new(width(4)).quantize(&Array1::<f32>::zeros(3)).unwrap();
        assert_eq!(zeros.dequantize::<f32, Ix1>().unwrap().to_vec(), [0.0; 3]);
        for x in [f32::MAX, f32::MIN_POSITIVE, 1e-45] {
            let back = Inq::new(width(4)).quantize(&Array1::from_vec(vec![x])).unwrap();
            assert!(back.dequantize::<f32, Ix1>().unwrap()[0].is_finite());
        }
        let beyond = Inq::new(width(4)).quantize(&Array1::from_vec(vec![1e300f64]));
        assert!(matches!(beyond, Err(Error::Data(DataError::ScaleStorage { .. }))));
        assert!(Inq::new(width(1)).scheme().is_err());
    }
}
