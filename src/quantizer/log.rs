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

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Ix1};

    use super::*;
    use crate::calibration::Mse;
    use crate::element::FloatType;
    use crate::error::{DataError, Error};
    use crate::quantizer::Quantizer;
    use crate::recipe::QuantizerExt;
    use crate::solve::density::{Density, Source};
    use crate::solve::samples::SplitMix64;
    use crate::solve::special::normal_cdf;
    use crate::tensor::{ClippingRange, LevelGrid};

    fn width(bits: u32) -> BitWidth {
        BitWidth::new(bits).unwrap()
    }

    /// ∫ (x − level)² p(x) dx over a cell of positive numbers, and E[x²] of them, for a density of magnitudes.
    type Noise = fn(f64, f64, f64) -> f64;

    fn gaussian(low: f64, high: f64, level: f64) -> f64 {
        2.0 * Density::Gaussian.moments(low, high, level).second
    }

    fn laplace(low: f64, high: f64, level: f64) -> f64 {
        2.0 * Density::Laplace.moments(low, high, level).second
    }

    /// ln|x| ~ N(0, 1), in units of E[x²] = e².
    fn lognormal(low: f64, high: f64, level: f64) -> f64 {
        // ∫ x^n p = e^(n²/2) (Φ(ln b − n) − Φ(ln a − n)), from the side where Φ is small.
        let moment = |n: f64| {
            let (a, b) = (low.ln() - n, high.ln() - n);
            let mass = if a > 0.0 { normal_cdf(-a) - normal_cdf(-b) } else { normal_cdf(b) - normal_cdf(a) };
            (n * n / 2.0).exp() * mass
        };
        (moment(2.0) - 2.0 * level * moment(1.0) + level * level * moment(0.0)) / 2f64.exp()
    }

    /// The relative squared error of a method whose range ends at `top`.
    fn error(log: &Log, top: f64, noise: Noise) -> f64 {
        let crate::tensor::Scheme::Levels(scheme) = log.scheme().unwrap() else { panic!("{log}") };
        let LevelGrid { scale } = scheme.grid(ClippingRange::new(-top, top).unwrap(), 0).unwrap();
        let table = scheme.table().unwrap();
        let (levels, cuts): (Vec<f64>, Vec<f64>) = (table.chosen().collect(), table.cuts().collect());
        let zero = levels.iter().position(|&level| level == 0.0).unwrap();
        (zero..levels.len())
            .map(|at| {
                let low = if at == zero { 0.0 } else { scale * cuts[at - 1] };
                let high = cuts.get(at).map_or(f64::INFINITY, |cut| scale * cut);
                noise(low, high, scale * levels[at])
            })
            .sum()
    }

    #[test]
    fn errors_are_those_of_the_reference() {
        use LogRounding::{Exponent, Level};
        // reference/04_log.json, rows "signed_incl_sign_bit" of 3 to 5 bits: the best integer top exponent, and the
        // relative squared error with it.
        #[rustfmt::skip]
        let rows: [(Noise, PowerBase, LogRounding, u32, i32, f64); 36] = [
            (gaussian, PowerBase::TWO, Exponent, 3, 1, 0.05445416276479148),
            (gaussian, PowerBase::TWO, Exponent, 4, 2, 0.041269931466721886),
            (gaussian, PowerBase::TWO, Exponent, 5, 2, 0.04124787971416658),
            (gaussian, PowerBase::TWO, Level, 3, 1, 0.04774959275811455),
            (gaussian, PowerBase::TWO, Level, 4, 2, 0.03778796031165735),
            (gaussian, PowerBase::TWO, Level, 5, 3, 0.03777405020437507),
            (gaussian, PowerBase::SQRT_2, Exponent, 3, 1, 0.11096209539862499),
            (gaussian, PowerBase::SQRT_2, Exponent, 4, 3, 0.017230833552724624),
            (gaussian, PowerBase::SQRT_2, Exponent, 5, 4, 0.01012034673956359),
            (gaussian, PowerBase::SQRT_2, Level, 3, 2, 0.07509263097277669),
            (gaussian, PowerBase::SQRT_2, Level, 4, 3, 0.013053938763093752),
            (gaussian, PowerBase::SQRT_2, Level, 5, 4, 0.009893286121694716),
            (laplace, PowerBase::TWO, Exponent, 3, 1, 0.09578610771069365),
            (laplace, PowerBase::TWO, Exponent, 4, 3, 0.04202557131115999),
            (laplace, PowerBase::TWO, Exponent, 5, 4, 0.041740547159734125),
            (laplace, PowerBase::TWO, Level, 3, 1, 0.08913179644920236),
            (laplace, PowerBase::TWO, Level, 4, 3, 0.038383956291035644),
            (laplace, PowerBase::TWO, Level, 5, 4, 0.03820175169011589),
            (laplace, PowerBase::SQRT_2, Exponent, 3, 2, 0.18157947417022766),
            (laplace, PowerBase::SQRT_2, Exponent, 4, 3, 0.03504849181879025),
            (laplace, PowerBase::SQRT_2, Exponent, 5, 6, 0.01018444450137555),
            (laplace, PowerBase::SQRT_2, Level, 3, 2, 0.12234729047553802),
            (laplace, PowerBase::SQRT_2, Level, 4, 4, 0.022710605252387217),
            (laplace, PowerBase::SQRT_2, Level, 5, 6, 0.009922657054616313),
            (lognormal, PowerBase::TWO, Exponent, 3, 3, 0.20032814394947665),
            (lognormal, PowerBase::TWO, Exponent, 4, 5, 0.05048983594631439),
            (lognormal, PowerBase::TWO, Exponent, 5, 10, 0.04174254075237585),
            (lognormal, PowerBase::TWO, Level, 3, 3, 0.1845829135523586),
            (lognormal, PowerBase::TWO, Level, 4, 6, 0.04526688116074095),
            (lognormal, PowerBase::TWO, Level, 5, 10, 0.038203383028019754),
            (lognormal, PowerBase::SQRT_2, Exponent, 3, 5, 0.3313105067197321),
            (lognormal, PowerBase::SQRT_2, Exponent, 4, 7, 0.11913720983874584),
            (lognormal, PowerBase::SQRT_2, Exponent, 5, 12, 0.013695782208812755),
            (lognormal, PowerBase::SQRT_2, Level, 3, 6, 0.2685660444931362),
            (lognormal, PowerBase::SQRT_2, Level, 4, 8, 0.08769208543473044),
            (lognormal, PowerBase::SQRT_2, Level, 5, 12, 0.012191216626594212),
        ];
        for (noise, base, rounding, bits, top, expected) in rows {
            let log = Log::new(width(bits)).base(base).rounding(rounding);
            let at = |log: &Log, top: i32| error(log, base.power(top), noise);
            // An f64 scale is the power itself.
            let exact = log.clone().scales(FloatType::F64);
            let found = at(&exact, top);
            assert!((found / expected - 1.0).abs() < 1e-9, "{log}: {found} {expected}");
            // With the objective flat from 5 bits on (the file says so), only the others have one best exponent.
            if bits < 5 {
                let best = (-4..16).min_by(|&a, &b| at(&exact, a).total_cmp(&at(&exact, b)));
                assert_eq!(best, Some(top), "{log}");
            }
            // Exponents are what is stored; a power is used as the nearest f32.
            assert!((at(&log, top) / expected - 1.0).abs() < 1e-6, "{log}");
            // One bit less without the sign has the same magnitudes.
            let unsigned =
                Log::new(width(bits - 1)).base(base).rounding(rounding).unsigned().scales(FloatType::F64);
            assert_eq!(at(&unsigned, top), found);
        }
    }

    #[test]
    fn full_scale_is_the_nearest_exponent() {
        for (largest, base, expected) in [
            (1.41f32, PowerBase::TWO, 1.0),
            (1.42, PowerBase::TWO, 2.0),
            (0.3, PowerBase::TWO, 0.25),
            (1.18, PowerBase::SQRT_2, 1.0),
            (1.19, PowerBase::SQRT_2, f64::from(core::f32::consts::SQRT_2)),
            (20.0, PowerBase::new(10.0).unwrap(), 10.0),
            (40.0, PowerBase::new(10.0).unwrap(), 100.0),
        ] {
            let q = Log::new(width(4)).base(base).quantize(&Array1::from_vec(vec![largest, 0.1])).unwrap();
            assert_eq!(q.grid(0), Some(LevelGrid { scale: expected }.into()), "{largest}");
            // 16 bits for the exponent.
            assert_eq!(q.bits_per_element(), 4.0 + 8.0);
        }
    }

    #[test]
    fn the_nearest_level_is_never_worse_at_the_same_scale() {
        let mut random = SplitMix64(4);
        let x = Array1::from_shape_fn(4000, |_| random.laplace() as f32);
        for base in [PowerBase::TWO, PowerBase::SQRT_2, PowerBase::new(3.0).unwrap()] {
            for bits in 2..=8 {
                let log = Log::new(width(bits)).base(base);
                let exponent = log.quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap();
                let level = log.rounding(LogRounding::Level).quantize(&x).unwrap();
                let level = level.dequantize::<f32, Ix1>().unwrap();
                let mut better = 0;
                for ((x, exponent), level) in x.iter().zip(&exponent).zip(&level) {
                    assert!(
                        (x - level).abs() <= (x - exponent).abs() * (1.0 + 1e-6),
                        "{x} {exponent} {level}"
                    );
                    better += usize::from((x - level).abs() < (x - exponent).abs());
                }
                assert!(better > 0, "{base} {bits}");
            }
        }
    }

    #[test]
    fn least_squared_error_finds_the_best_exponent() {
        // 4 bits, base 2, on 20000 Gaussian quantiles: 2 is the best exponent (reference/04), the data end at 4.06.
        let n = 20_000;
        let x = Array1::from_shape_fn(n, |i| Density::Gaussian.quantile((i as f64 + 0.5) / n as f64));
        for (rounding, bits, top) in
            [(LogRounding::Exponent, 3, 2.0), (LogRounding::Level, 3, 2.0), (LogRounding::Exponent, 4, 4.0)]
        {
            let log = Log::new(width(bits)).rounding(rounding).calibration(Mse);
            assert_eq!(log.quantize(&x).unwrap().grid(0), Some(LevelGrid { scale: top }.into()), "{bits}");
        }
    }

    #[test]
    fn bad_input() {
        let log = Log::new(width(4));
        let quantize = |x: Vec<f32>| log.quantize(&Array1::from_vec(x));
        let zeros = quantize(vec![0.0, -0.0, 0.0]).unwrap();
        assert_eq!(zeros.codes().unpack(), [0, 0, 0]);
        assert_eq!(zeros.grid(0), Some(LevelGrid { scale: 1.0 }.into()));
        assert!(matches!(quantize(vec![0.0, f32::NAN]), Err(Error::Data(DataError::NotANumber { .. }))));
        assert!(matches!(quantize(vec![f32::NEG_INFINITY]), Err(Error::Data(DataError::Infinite { .. }))));
        // The ends of f32: the largest power, and the smallest that has a reciprocal.
        let back = quantize(vec![f32::MAX, 1e-45]).unwrap().dequantize::<f32, Ix1>().unwrap();
        assert_eq!(back.to_vec(), [2f32.powi(127), 0.0]);
        let back = quantize(vec![1e-45]).unwrap().dequantize::<f32, Ix1>().unwrap();
        assert!(back[0].is_finite());
        let beyond = log.quantize(&Array1::from_vec(vec![1e300f64]));
        assert!(matches!(beyond, Err(Error::Data(DataError::ScaleStorage { .. }))));
        // Negative values have no place without a sign.
        let q = Log::new(width(3)).unsigned().quantize(&Array1::from_vec(vec![-4.0f32, 1.0])).unwrap();
        assert_eq!(q.dequantize::<f32, Ix1>().unwrap().to_vec(), [0.0, 1.0]);
        assert!(Log::new(width(1)).scheme().is_err() && Log::new(width(16)).scheme().is_err());
        assert!(Log::new(width(1)).unsigned().scheme().is_ok());
    }
}
