//! Lloyd-Max quantizers: levels and thresholds of least mean squared error, of a density or of the values themselves.
//!
//! Lloyd 1957 (1982), *Least squares quantization in PCM*; Max 1960, *Quantizing for minimum distortion*:
//!
//! ```text
//! tₖ = (cₖ + cₖ₊₁) / 2,   cₖ = E[x | tₖ ≤ x < tₖ₊₁]
//! ```
//!
//! Cai, He, Sun and Vasconcelos 2017, *Deep Learning with Low Precision by Half-wave Gaussian Quantization* (HWGQ), use
//! that of a half-normal density, with zero as a level, for the outputs of a ReLU.

use core::fmt;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, Region};
use crate::element::FloatType;
use crate::error::{ConfigError, Result};
use crate::solve::lloyd_max::lloyd_max_empirical;
use crate::tensor::{
    ClippingRange, CodebookGrid, CodebookScheme, LevelDensity, LevelGrid, LevelScheme, LevelTable,
    ScaleStorage, Scheme,
};

use super::evidence::empirical;
use super::{Fit, Quantizer, fit_calibrated};

/// Iterations of the empirical quantizer, unless said otherwise. The error has settled to some digits long before.
const ITERATIONS: usize = 200;

/// Levels of least mean squared error.
///
/// * [`of`](Self::of) a density: the levels are known beforehand and shared by all regions, each under a scale, which
///   is the root mean square of its values (the densities have unit power). Nothing but the scale is stored.
/// * [`empirical`](Self::empirical): a codebook for each region, by Lloyd's iterations on its values from evenly filled
///   cells. The cost never grows from one iteration to the next, but the minimum need not be the global one: that is what
///   [`KMeans`](super::KMeans) finds.
///
/// Both work from values and from histograms; the empirical one with importance, too. Time: for a density one pass; for
/// values a sort, and O(2^b log n) for each iteration.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::tensor::LevelDensity;
///
/// let weights = ndarray::Array1::from_shape_fn(1024, |i| ((i as f32 + 0.5) / 512.0 - 1.0).powi(3));
/// let bits = BitWidth::new(3)?;
/// let fitted = LloydMax::empirical(bits).quantize(&weights)?;
/// let assumed = LloydMax::of(LevelDensity::Laplace, bits).quantize(&weights)?;
/// assert!(fitted.errors_against(&weights)?.mse() < assumed.errors_against(&weights)?.mse());
/// // 32 bits of scale, or 8 levels of 32 bits.
/// assert_eq!((assumed.bits_per_element(), fitted.bits_per_element()), (3.0 + 1.0 / 32.0, 3.25));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LloydMax {
    bits: BitWidth,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Density { density: LevelDensity, scales: ScaleStorage, calibration: Option<Arc<dyn Calibration>> },
    Empirical { levels: FloatType, iterations: usize },
}

impl LloydMax {
    /// The levels of a density, under f32 scales.
    pub const fn of(density: LevelDensity, bits: BitWidth) -> Self {
        let scales = ScaleStorage::Float(FloatType::F32);
        Self { bits, source: Source::Density { density, scales, calibration: None } }
    }

    /// Levels of each region's own, in f32.
    pub const fn empirical(bits: BitWidth) -> Self {
        Self { bits, source: Source::Empirical { levels: FloatType::F32, iterations: ITERATIONS } }
    }

    /// The same with scales from a calibrated range, whose end is the outermost level, in place of the root mean square.
    /// For densities; it has no effect on empirical levels.
    pub fn calibration(mut self, rule: impl Calibration + 'static) -> Self {
        if let Source::Density { calibration, .. } = &mut self.source {
            *calibration = Some(Arc::new(rule));
        }
        self
    }

    /// The same with scales stored in another way. For densities.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        if let Source::Density { scales, .. } = &mut self.source {
            *scales = storage.into();
        }
        self
    }

    /// The same with levels in another type. For empirical levels.
    pub const fn levels(mut self, storage: FloatType) -> Self {
        if let Source::Empirical { levels, .. } = &mut self.source {
            *levels = storage;
        }
        self
    }

    /// The same with another number of iterations, 200 unless said. For empirical levels.
    pub const fn iterations(mut self, count: usize) -> Self {
        if let Source::Empirical { iterations, .. } = &mut self.source {
            *iterations = count;
        }
        self
    }
}

impl Quantizer for LloydMax {
    fn scheme(&self) -> Result<Scheme> {
        Ok(match &self.source {
            Source::Density { density, scales, .. } => {
                LevelScheme::new(LevelTable::lloyd_max(*density, self.bits)?).with_scales(*scales).into()
            }
            Source::Empirical { levels, .. } => CodebookScheme::new(self.bits, *levels).into(),
        })
    }

    fn takes_importance(&self) -> bool {
        matches!(self.source, Source::Empirical { .. })
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
        match (&self.source, scheme) {
            (Source::Density { calibration: Some(calibration), .. }, _) => {
                fit_calibrated(calibration, region, scheme)
            }
            (Source::Density { .. }, Scheme::Levels(levels)) => {
                let power = region.evidence().moments().map_or(0.0, |moments| moments.root_mean_square);
                // Zeros, and values whose squares vanish, get the scale of a range of zero.
                if power == 0.0 {
                    return Ok(levels.grid(ClippingRange::ZERO, region.index())?.into());
                }
                let (storage, stored) = (levels.scales(), levels.scales().store(power));
                // Where the root mean square is near the largest number, the outermost level stays a finite one.
                // Scale and level are both rounded once more.
                let limit = storage.arithmetic().max_value() * (1.0 - 2.0 * storage.arithmetic().epsilon());
                let most = limit / levels.table().map_or(1.0, LevelTable::magnitude);
                let beyond = stored.is_finite() && stored > most && power <= storage.arithmetic().max_value();
                Ok(LevelGrid { scale: if beyond { storage.at_most(most) } else { stored } }.into())
            }
            (Source::Empirical { iterations, .. }, Scheme::Codebook(codebook)) => {
                let count = codebook.bits().levels() as usize;
                let found =
                    empirical(region).and_then(|values| lloyd_max_empirical(&values, count, *iterations));
                let levels = found.map_or_else(|| vec![0.0], |found| found.levels);
                Ok(CodebookGrid { levels }.into())
            }
            _ => Err(ConfigError::Conflict { setting: "Lloyd-Max levels", to: "another scheme" }.into()),
        }
    }
}

/// `lloyd-max(bits=4, density=gaussian, scales=f32)` or `lloyd-max(bits=4, levels=f32, iterations=200)`
impl fmt::Display for LloydMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lloyd-max(bits={}, ", self.bits)?;
        match &self.source {
            Source::Density { density, scales, calibration } => {
                write!(f, "density={density}, scales={scales}")?;
                if let Some(calibration) = calibration {
                    write!(f, ", calibration={calibration}")?;
                }
            }
            Source::Empirical { levels, iterations } => {
                write!(f, "levels={levels}, iterations={iterations}")?;
            }
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Mse;
    use crate::quantizer::Uniform;
    use crate::recipe::QuantizerExt;
    use crate::solve::samples::SplitMix64;
    use ndarray::{Array1, Ix1, array};

    fn sqnr(method: &dyn Quantizer, x: &Array1<f64>) -> f64 {
        method.quantize(x).unwrap().errors_against(x).unwrap().sqnr()
    }

    #[test]
    fn sampled_densities_reach_the_published_distortion() {
        // reference/01_max_lloyd.json, sqnr_db of the Gaussian: 2, 4, 8 and 16 levels.
        let quantiles = |i: usize| crate::solve::special::normal_quantile((i as f64 + 0.5) / 200_000.0);
        let x: Array1<f64> = (0..200_000).map(|i| 3e-3 * quantiles(i)).collect();
        for (bits, expected) in
            (1..).zip([4.396387073630167, 9.300292312352942, 14.615800961540808, 20.222303158509494])
        {
            let bits = BitWidth::new(bits).unwrap();
            let of = LloydMax::of(LevelDensity::Gaussian, bits).scales(FloatType::F64);
            // What the file measures for a grid of 1e5 to 1e6 quantiles at 16 levels: up to 3e-3.
            assert!((sqnr(&of, &x) - expected).abs() < 0.013, "{bits}");
            let empirical = LloydMax::empirical(bits).levels(FloatType::F64);
            assert!((sqnr(&empirical, &x) - expected).abs() < 0.013, "{bits}");
        }
    }

    #[test]
    fn outputs_of_a_relu_get_zero_and_the_levels_of_the_half_normal() {
        let mut random = SplitMix64(31);
        let x: Array1<f64> = (0..50_000).map(|_| 2.0 * random.normal().max(0.0)).collect();
        let half_wave = LloydMax::of(LevelDensity::HalfNormal, BitWidth::new(2).unwrap());
        let q = half_wave.quantize(&x).unwrap();
        // Zeros are exact.
        let restored = q.dequantize::<f64, Ix1>().unwrap();
        assert!(x.iter().zip(&restored).all(|(x, r)| *x != 0.0 || *r == 0.0));
        assert!(sqnr(&half_wave, &x) > sqnr(&Uniform::asymmetric(BitWidth::new(2).unwrap()), &x));
    }

    #[test]
    fn iterations_never_raise_the_error_and_beat_even_levels() {
        let mut random = SplitMix64(32);
        for shape in 0..2 {
            let x: Array1<f64> = (0..2000)
                .map(|_| if shape == 0 { random.normal() } else { random.laplace().abs() })
                .collect();
            for bits in 1..=5 {
                let bits = BitWidth::new(bits).unwrap();
                let fitted =
                    |count| sqnr(&LloydMax::empirical(bits).levels(FloatType::F64).iterations(count), &x);
                let course = [1, 2, 3, 5, 10, 30, 200].map(fitted);
                assert!(
                    course.windows(2).all(|pair| pair[1] >= pair[0] - 1e-9),
                    "{shape} {bits}: {course:?}"
                );
                let even = sqnr(&Uniform::asymmetric_real(bits).scales(FloatType::F64), &x);
                assert!(course[6] > even, "{shape} {bits}: {} {even}", course[6]);
            }
        }
    }

    #[test]
    fn zeros_few_values_and_text() {
        for text in [
            "lloyd-max(bits=3, density=gaussian, scales=f32)",
            "lloyd-max(bits=2, density=half-normal, scales=f16, calibration=mse)",
            "lloyd-max(bits=4, levels=f16, iterations=20)",
        ] {
            let recipe: crate::Recipe = text.parse().unwrap();
            assert_eq!(recipe.quantizer().to_string(), text);
            assert_eq!(recipe.quantize(&array![0.0f32, 0.0]).unwrap().len(), 2);
        }
        // Zero is no level of most densities, and the outermost level may lie beyond the largest value.
        for density in [LevelDensity::Gaussian, LevelDensity::Laplace, LevelDensity::Uniform] {
            let method = LloydMax::of(density, BitWidth::new(3).unwrap());
            let restored = |x: &Array1<f32>| method.quantize(x).unwrap().dequantize::<f32, Ix1>().unwrap();
            assert!(restored(&array![0.0, -0.0]).iter().all(|x| x.abs() < 2e-38));
            assert!(restored(&array![f32::MAX, -f32::MAX]).iter().all(|x| x.is_finite() && x.abs() > 3e38));
        }
        let q = LloydMax::empirical(BitWidth::new(4).unwrap()).quantize(&array![1.0f32, -2.0, 1.0]).unwrap();
        assert_eq!(q.dequantize::<f32, Ix1>().unwrap(), array![1.0, -2.0, 1.0]);
        let mut random = SplitMix64(33);
        let x: Array1<f64> = (0..500).map(|_| random.laplace()).collect();
        let of = LloydMax::of(LevelDensity::Gaussian, BitWidth::new(3).unwrap());
        assert!(sqnr(&of.clone().calibration(Mse), &x) >= sqnr(&of, &x) - 0.05);
    }
}
