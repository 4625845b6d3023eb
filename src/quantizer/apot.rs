//! Additive powers of two.
//!
//! Li, Dong and Wang 2020, *Additive Powers-of-Two Quantization: An Efficient Non-uniform Discretization for Neural
//! Networks*, equation 5: at b = kn bits, n terms of k bits,
//!
//! ```text
//! Q^a(α, kn) = γ × {Σ p_i},   p_i ∈ {0, 1/2^i, 1/2^(i+n), ..., 1/2^(i+(2^k−2)n)},   i = 0 .. n − 1
//! ```
//!
//! with γ such that the largest level is the clipping threshold α.

use core::fmt;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax};
use crate::element::FloatType;
use crate::error::ConfigError;
use crate::tensor::{LevelScheme, LevelTable, ScaleStorage};

use super::calibrated::on_levels;

/// Sums of powers of two: denser around zero like powers, but without the gap below the largest.
///
/// One of the bits is the sign, unless [`unsigned`](Self::unsigned) says otherwise; the code of a sign without magnitude
/// is not used. A product with a level takes one shift for each term.
///
/// Defaults: terms of 2 bits (the paper's k), minimum and maximum, f32 scales. The paper learns the threshold α; here
/// any calibration finds it.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::{Ix1, array};
///
/// // Two terms, {0, 1, 1/4, 1/16} + {0, 1/2, 1/8, 1/32}, over 3/2.
/// let x = array![1.5f32, 1.2, -0.6, 0.09, 0.03];
/// let q = Apot::new(BitWidth::new(5)?).quantize(&x)?;
/// assert_eq!(q.dequantize::<f32, Ix1>()?, array![1.5, 1.125, -0.5625, 0.09375, 0.03125]);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Apot {
    bits: BitWidth,
    term_bits: u32,
    signed: bool,
    scales: ScaleStorage,
    calibration: Arc<dyn Calibration>,
}

impl Apot {
    /// Sums of terms of 2 bits in codes of `bits`, one of which is the sign.
    pub fn new(bits: BitWidth) -> Self {
        let scales = FloatType::F32.into();
        Self { bits, term_bits: 2, signed: true, scales, calibration: Arc::new(MinMax) }
    }

    /// Terms of `bits` bits, the paper's k: 1 for evenly spaced levels, 3 for fewer and longer sums (the bits without
    /// sign must be a multiple of 3 then). [`scheme`](super::Quantizer::scheme) reports what cannot be.
    pub fn term_bits(mut self, bits: u32) -> Self {
        self.term_bits = bits;
        self
    }

    /// Without negative values, for activations.
    pub fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    /// How scales are stored. The default is f32.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.scales = storage.into();
        self
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        let table = LevelTable::additive_powers(self.bits, self.term_bits, self.signed)?;
        Ok(LevelScheme::new(table).with_scales(self.scales))
    }
}

on_levels!(Apot);

/// `apot(bits=4, term-bits=2, signed=true, scales=f32, calibration=minmax)`
impl fmt::Display for Apot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, term_bits, signed, scales, calibration } = self;
        write!(f, "apot(bits={bits}, term-bits={term_bits}, signed={signed}")?;
        write!(f, ", scales={scales}, calibration={calibration})")
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Ix1};

    use super::*;
    use crate::calibration::Mse;
    use crate::metrics::sqnr;
    use crate::quantizer::{Log, Quantizer, Uniform};
    use crate::recipe::QuantizerExt;
    use crate::solve::samples::SplitMix64;

    fn width(bits: u32) -> BitWidth {
        BitWidth::new(bits).unwrap()
    }

    #[test]
    fn levels_are_those_of_the_paper() {
        // Section 2.2: 4 bits, k = 2, unsigned: γ {0, 2^0, 2^−2, 2^−4} + γ {0, 2^−1, 2^−3, 2^−5}, γ = 1/1.5 here.
        let mut sums: Vec<f32> = Vec::new();
        for a in [0.0, 1.0, 0.25, 0.0625] {
            sums.extend([0.0, 0.5, 0.125, 0.03125].map(|b| a + b));
        }
        let x = Array1::from_vec(sums);
        let q = Apot::new(width(4)).unsigned().quantize(&x).unwrap();
        assert_eq!(q.dequantize::<f32, Ix1>().unwrap(), x);
        assert!(q.codes().iter().eq([0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]));
    }

    #[test]
    fn no_gap_below_the_largest() {
        // The paper's point: at 5 bits powers of two leave half the range to their two largest levels.
        let mut random = SplitMix64(30);
        let x = Array1::from_shape_fn(20_000, |_| random.normal() as f32);
        let figure = |method: &dyn Quantizer| {
            sqnr(&x, &method.quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap()).unwrap()
        };
        let apot = figure(&Apot::new(width(5)).calibration(Mse));
        let log = figure(&Log::new(width(5)).rounding(crate::tensor::LogRounding::Level).calibration(Mse));
        assert!(apot > log + 6.0, "{apot} {log}");
        // Terms of one bit are evenly spaced.
        let even = figure(&Apot::new(width(5)).term_bits(1));
        let uniform = figure(&Uniform::symmetric(width(5)));
        assert!((even - uniform).abs() < 1e-3, "{even} {uniform}");
    }

    #[test]
    fn bad_input() {
        assert!(Apot::new(width(1)).scheme().is_err());
        assert!(Apot::new(width(4)).term_bits(0).scheme().is_err());
        assert!(Apot::new(width(5)).term_bits(3).scheme().is_err());
        assert!(Apot::new(width(4)).term_bits(3).scheme().is_ok());
        let zeros = Apot::new(width(4)).quantize(&Array1::<f32>::zeros(3)).unwrap();
        assert_eq!(zeros.dequantize::<f32, Ix1>().unwrap().to_vec(), [0.0; 3]);
        let back = Apot::new(width(4)).quantize(&Array1::from_vec(vec![f32::MAX, -f32::MAX])).unwrap();
        assert_eq!(back.dequantize::<f32, Ix1>().unwrap().to_vec(), [f32::MAX, -f32::MAX]);
    }
}
