//! Ternary values: −α, 0 and α.
//!
//! Li, Zhang and Liu 2016, *Ternary Weight Networks*, equations 3 to 6:
//!
//! ```text
//! min ‖w − α t‖²,  t ∈ {−1, 0, 1}ⁿ       t = ±1 where |w| > Δ
//! α = mean |w| over |w| > Δ              Δ ≈ 0.7 · mean |w|
//! ```
//!
//! The rule for Δ is an approximation; the exact minimum takes one pass over the sorted magnitudes, as the best t for m
//! values that are not zero are the m largest, and the error is `Σ w² − (Σ |w|)²/m` over them.

use core::fmt;

use crate::calibration::{Region, Regions};
use crate::element::FloatType;
use crate::error::Result;
use crate::names::named;
use crate::solve::ternary;
use crate::tensor::{ClippingRange, Grids, LevelGrid, LevelScheme, LevelTable, Notes, ScaleStorage, Scheme};

use super::evidence::magnitudes;
use super::{Fit, Quantizer};

/// How α is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TernaryScale {
    /// The exact minimum of the squared error. The default.
    #[default]
    Optimal,
    /// The rule of the paper, from Δ = 0.7 · mean |w|.
    Twn,
    /// α = 1, for values within −1 and 1.
    Unit,
}

named!(TernaryScale, "ternary scale", [Optimal => "optimal", Twn => "twn", Unit => "unit"]);

/// Codes of 2 bits for −α, 0 and α, with one α for each region.
///
/// A value gets the nearest of the three, so the threshold is α/2 whatever rule found α; for a given α no other codes
/// have a smaller squared error. With [`Ternary::unit`] and [`Rounding::Stochastic`] it is the stochastic ternary
/// quantizer of Lin et al. 2015 (*Neural Networks with Few Multiplications*): ±1 with probability |w|, else 0.
///
/// Works from values, with importance, and from histograms. Time: a sort of the region.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::Ix1;
///
/// let weights = ndarray::array![0.9f32, -1.1, 0.1, -0.2, 1.0];
/// let q = Ternary::optimal().quantize(&weights)?;
/// assert_eq!(q.dequantize::<f32, Ix1>()?, ndarray::array![1.0, -1.0, 0.0, 0.0, 1.0]);
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// [`Rounding::Stochastic`]: crate::Rounding::Stochastic
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ternary {
    scale: TernaryScale,
    storage: ScaleStorage,
}

impl Ternary {
    /// The α of least squared error.
    pub const fn optimal() -> Self {
        Self::new(TernaryScale::Optimal)
    }

    /// The α of the paper's rule.
    pub const fn twn() -> Self {
        Self::new(TernaryScale::Twn)
    }

    /// α = 1.
    pub const fn unit() -> Self {
        Self::new(TernaryScale::Unit)
    }

    /// α by a rule, stored in f32.
    pub const fn new(scale: TernaryScale) -> Self {
        Self { scale, storage: ScaleStorage::Float(FloatType::F32) }
    }

    /// The same with α stored in another way.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.storage = storage.into();
        self
    }
}

impl Default for Ternary {
    fn default() -> Self {
        Self::optimal()
    }
}

impl Quantizer for Ternary {
    fn scheme(&self) -> Result<Scheme> {
        Ok(LevelScheme::new(LevelTable::ternary()).with_scales(self.storage).into())
    }

    fn takes_importance(&self) -> bool {
        true
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
        if self.scale == TernaryScale::Unit {
            return Ok(LevelGrid { scale: 1.0 }.into());
        }
        let found = magnitudes(region).map(|magnitudes| match self.scale {
            TernaryScale::Twn => ternary::by_rule(&magnitudes),
            TernaryScale::Optimal | TernaryScale::Unit => ternary::best(&magnitudes),
        });
        // The outermost level is the end of the range.
        let alpha = found.map_or(0.0, |found| found.scale);
        Ok(scheme.grid(ClippingRange::new(-alpha, alpha)?, region.index())?.into())
    }

    fn fit_all(
        &self,
        regions: &Regions<'_, '_>,
        scheme: &Scheme,
        grids: &mut Grids,
        notes: &mut Notes,
    ) -> Result<()> {
        if self.scale == TernaryScale::Unit {
            // Nothing of the data is read, so that infinities saturate.
            return (0..regions.len()).try_for_each(|_| grids.push(LevelGrid { scale: 1.0 }.into()));
        }
        for (region, fit) in regions.map(|region| self.fit(region, scheme))?.into_iter().enumerate() {
            grids.push(fit.grid)?;
            notes.extend(fit.note.map(|note| (region, note)));
        }
        Ok(())
    }
}

/// `ternary(scale=optimal, scales=f32)`
impl fmt::Display for Ternary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ternary(scale={}, scales={})", self.scale, self.storage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::QuantizerExt;
    use crate::solve::samples::SplitMix64;
    use crate::tensor::Rounding;
    use ndarray::{Array1, Ix1, array};

    fn error(x: &Array1<f64>, method: Ternary) -> f64 {
        let restored = method.scales(FloatType::F64).quantize(x).unwrap().dequantize::<f64, Ix1>().unwrap();
        (x - &restored).mapv(|e| e * e).sum()
    }

    #[test]
    fn the_optimum_is_the_best_of_all_thresholds_and_scales() {
        let mut random = SplitMix64(11);
        for n in [1, 2, 5, 9, 40] {
            let x: Array1<f64> = (0..n).map(|_| random.laplace()).collect();
            let found = error(&x, Ternary::optimal());
            let mut best = f64::INFINITY;
            for t in &x {
                let above: Vec<f64> = x.iter().filter(|x| x.abs() >= t.abs()).map(|x| x.abs()).collect();
                let alpha = above.iter().sum::<f64>() / above.len() as f64;
                let of = |x: &f64| if x.abs() >= t.abs() { (x.abs() - alpha).powi(2) } else { x * x };
                best = best.min(x.iter().map(of).sum());
            }
            // Rounding of sums of at most 40 terms.
            assert!((found - best).abs() <= 1e-12 * best + 1e-15, "{n}: {found} {best}");
            assert!(found <= error(&x, Ternary::twn()) * (1.0 + 1e-12));
        }
    }

    #[test]
    fn nearest_codes_are_no_worse_than_those_of_the_paper() {
        let mut random = SplitMix64(12);
        let x: Array1<f64> = (0..1000).map(|_| random.normal()).collect();
        let delta = 0.7 * x.mapv(f64::abs).mean().unwrap();
        let above: Vec<f64> = x.iter().map(|x| x.abs()).filter(|&x| x > delta).collect();
        let alpha = above.iter().sum::<f64>() / above.len() as f64;
        let of = |x: &f64| if x.abs() > delta { (x.abs() - alpha).powi(2) } else { x * x };
        let paper: f64 = x.iter().map(of).sum();
        assert!(error(&x, Ternary::twn()) <= paper);
        // And not by much: the rule is a good approximation on normal values.
        assert!(error(&x, Ternary::optimal()) > 0.97 * paper);
    }

    #[test]
    fn zeros_constants_importance_and_chance() {
        for method in [Ternary::optimal(), Ternary::twn(), Ternary::unit()] {
            let q = method.quantize(&array![0.0f32, 0.0]).unwrap();
            assert_eq!(q.dequantize::<f32, Ix1>().unwrap(), array![0.0, 0.0]);
            let text = method.to_string();
            assert_eq!(text.parse::<crate::Recipe>().unwrap().quantizer().to_string(), text);
        }
        let q = Ternary::optimal().quantize(&array![-3.0f32, -3.0, -3.0]).unwrap();
        assert_eq!(q.dequantize::<f32, Ix1>().unwrap(), array![-3.0, -3.0, -3.0]);
        let q = crate::Recipe::new(Ternary::optimal())
            .quantize_weighted(&array![1.0f32, 10.0], &array![1.0f32, 0.0])
            .unwrap();
        assert_eq!(q.dequantize::<f32, Ix1>().unwrap(), array![1.0, 1.0]);
        let x = Array1::from_elem(40_000, -0.25f32);
        let q = Ternary::unit().rounding(Rounding::Stochastic { seed: 5 }).quantize(&x).unwrap();
        let mean = q.dequantize::<f32, Ix1>().unwrap().mean().unwrap();
        // Five standard deviations of the mean.
        assert!((mean + 0.25).abs() < 5.0 * (0.25f32 * 0.75 / 40_000.0).sqrt(), "{mean}");
    }
}
