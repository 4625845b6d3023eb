//! Two uniform pieces: fine steps around zero, where most values are, coarse ones in the tails.
//!
//! Fang, Shafiee, Abdel-Aziz, Thorsley, Georgiadis and Hassoun 2020, *Post-Training Piecewise Linear Quantization for
//! Deep Neural Networks* (PWLQ): the range `[−m, m]` is broken at p, with about as many levels in the tails together as
//! in the centre; for a Gaussian and a Laplace density the best p is approximated by closed forms.

use core::fmt;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax, Region, range_or_zero};
use crate::element::FloatType;
use crate::error::{ConfigError, Result};
use crate::names::named;
use crate::solve::piecewise::{BellShape, best_break_point, break_point_of_density};
use crate::tensor::{PiecewiseGrid, PiecewiseScheme, Scheme};

use super::evidence::magnitudes;
use super::{Fit, Quantizer};

/// How the break point is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BreakPoint {
    /// By a search for the least squared error on the values. The default.
    #[default]
    Search,
    /// By the paper's closed form for normal values: `p = σ ln(0.8614 m/σ + 0.6079)`.
    Gaussian,
    /// By the paper's closed form for Laplace values: `p = σ (0.8030 √(m/σ) − 0.3167)`.
    Laplace,
}

named!(BreakPoint, "break point", [Search => "search", Gaussian => "gaussian", Laplace => "laplace"]);

/// Piecewise linear quantization: 2^b − 1 levels, K = 2^(b−2) steps from 0 to p and K − 1 steps from p to m on each
/// side. The paper counts the bits of one piece, which is one less.
///
/// The end m comes from a calibration, by default the largest magnitude; the break point p from a search, which is never
/// worse than the uniform grid with the same ends. It needs 2 bits, of which the tail gets a share from 3 on.
///
/// Works from values, with importance, and from histograms. Time: a sort of the region, then O(2^b log n) for each of
/// some 400 break points.
///
/// ```
/// use lowbit::prelude::*;
///
/// // A bell shape: most values are small.
/// let weights = ndarray::Array1::from_shape_fn(4096, |i| ((i as f32 + 0.5) / 2048.0 - 1.0).powi(5));
/// let bits = BitWidth::new(4)?;
/// let pieces = PiecewiseLinear::new(bits)?.quantize(&weights)?.errors_against(&weights)?;
/// let uniform = Uniform::symmetric(bits).quantize(&weights)?.errors_against(&weights)?;
/// assert!(pieces.mse() < uniform.mse());
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PiecewiseLinear {
    bits: BitWidth,
    break_point: BreakPoint,
    storage: FloatType,
    calibration: Arc<dyn Calibration>,
}

impl PiecewiseLinear {
    /// Codes of `bits` bits, with the break point of least squared error.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for one bit.
    pub fn new(bits: BitWidth) -> Result<Self, ConfigError> {
        PiecewiseScheme::new(bits, FloatType::F32)?;
        let (break_point, storage) = (BreakPoint::Search, FloatType::F32);
        Ok(Self { bits, break_point, storage, calibration: Arc::new(MinMax) })
    }

    /// The same with the break point by another rule.
    pub fn break_point(mut self, rule: BreakPoint) -> Self {
        self.break_point = rule;
        self
    }

    /// The same with the end of the tails by another calibration.
    pub fn calibration(mut self, calibration: impl Calibration + 'static) -> Self {
        self.calibration = Arc::new(calibration);
        self
    }

    /// The same with break points and ends in another type.
    pub fn parameters(mut self, storage: FloatType) -> Self {
        self.storage = storage;
        self
    }
}

impl Quantizer for PiecewiseLinear {
    fn scheme(&self) -> Result<Scheme> {
        Ok(PiecewiseScheme::new(self.bits, self.storage)?.into())
    }

    fn takes_importance(&self) -> bool {
        true
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
        let Scheme::PiecewiseAffine(pieces) = scheme else {
            return Err(ConfigError::Conflict { setting: "two pieces", to: "another scheme" }.into());
        };
        let found =
            range_or_zero(&self.calibration, region, |region| self.calibration.range(region, scheme))?;
        // The break point is fitted to the end as it is stored.
        let end = self.storage.round(found.range.magnitude());
        let steps = pieces.steps();
        let uniform = steps.uniform_break_point(end);
        let of_density = |shape| {
            let moments = region.evidence().moments();
            moments.map(|moments| break_point_of_density(shape, moments.standard_deviation, end))
        };
        let break_point = match self.break_point {
            BreakPoint::Search => {
                magnitudes(region).map(|magnitudes| best_break_point(&magnitudes, steps, end).p)
            }
            BreakPoint::Gaussian => of_density(BellShape::Gaussian),
            BreakPoint::Laplace => of_density(BellShape::Laplace),
        };
        let grid = PiecewiseGrid { break_point: break_point.unwrap_or(uniform), end };
        Ok(Fit { grid: grid.into(), note: found.note })
    }
}

/// `piecewise-linear(bits=4, break-point=search, parameters=f32, calibration=minmax)`
impl fmt::Display for PiecewiseLinear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, break_point, storage, calibration } = self;
        write!(
            f,
            "piecewise-linear(bits={bits}, break-point={break_point}, parameters={storage}, calibration={calibration})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Mse, Percentile};
    use crate::quantizer::Uniform;
    use crate::recipe::QuantizerExt;
    use crate::solve::samples::SplitMix64;
    use ndarray::{Array1, Ix1, array};

    fn mse(method: &dyn Quantizer, x: &Array1<f32>) -> f64 {
        method.quantize(x).unwrap().errors_against(x).unwrap().mse()
    }

    #[test]
    fn never_worse_than_as_many_uniform_levels() {
        let mut random = SplitMix64(21);
        for n in [1, 7, 64, 3000] {
            for shape in 0..3 {
                let x: Array1<f32> = (0..n)
                    .map(|_| match shape {
                        0 => random.normal() as f32,
                        1 => random.laplace() as f32,
                        _ => random.uniform() as f32 - 0.5,
                    })
                    .collect();
                for bits in [2, 3, 4, 6] {
                    let bits = BitWidth::new(bits).unwrap();
                    let pieces = mse(&PiecewiseLinear::new(bits).unwrap(), &x);
                    let uniform = mse(&Uniform::symmetric(bits), &x);
                    // Levels are rounded to f32 once more.
                    assert!(
                        pieces <= uniform * (1.0 + 1e-5) + 1e-13,
                        "{n} {shape} {bits}: {pieces} {uniform}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_search_beats_the_closed_forms_on_their_own_densities() {
        let mut random = SplitMix64(22);
        let bits = BitWidth::new(5).unwrap();
        let normal: Array1<f32> = (0..20_000).map(|_| random.normal() as f32).collect();
        let laplace: Array1<f32> = (0..20_000).map(|_| random.laplace() as f32).collect();
        for (x, rule) in [(normal, BreakPoint::Gaussian), (laplace, BreakPoint::Laplace)] {
            let method = PiecewiseLinear::new(bits).unwrap();
            let (search, closed) = (mse(&method, &x), mse(&method.break_point(rule), &x));
            assert!(search <= closed * (1.0 + 1e-6), "{search} {closed}");
            // The closed forms are good, too.
            assert!(closed < 1.2 * search, "{search} {closed}");
        }
    }

    #[test]
    fn zeros_constants_calibrations_and_text() {
        assert!(PiecewiseLinear::new(BitWidth::new(1).unwrap()).is_err());
        let bits = BitWidth::new(4).unwrap();
        for x in [array![0.0f32, 0.0], array![-2.0, -2.0], array![3.0, 0.0]] {
            for rule in [BreakPoint::Search, BreakPoint::Gaussian, BreakPoint::Laplace] {
                let q = PiecewiseLinear::new(bits).unwrap().break_point(rule).quantize(&x).unwrap();
                assert_eq!(q.dequantize::<f32, Ix1>().unwrap(), x, "{rule}");
            }
        }
        let mut x: Array1<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
        x[3] = 100.0;
        for calibrated in [
            PiecewiseLinear::new(bits).unwrap().calibration(Percentile::new(99.0).unwrap()),
            PiecewiseLinear::new(bits).unwrap().calibration(Mse).parameters(FloatType::F16),
        ] {
            let text = calibrated.to_string();
            assert_eq!(text.parse::<crate::Recipe>().unwrap().quantizer().to_string(), text);
            assert!(calibrated.quantize(&x).unwrap().clipping_range(0).unwrap().high() <= 100.0);
        }
    }
}
