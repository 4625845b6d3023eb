//! Entropy-constrained scalar quantization: the least error for a given entropy of the codes.
//!
//! Chou, Lookabaugh and Gray 1989, *Entropy-constrained vector quantization*, in one dimension; for weights Choi,
//! El-Khamy and Lee 2017, *Towards the Limit of Network Quantization*:
//!
//! ```text
//! min D + λ H,   D = Σ (x − c)²/n,   H = −Σ pₖ log₂ pₖ
//! a value gets the cₖ of least (x − cₖ)² − λ log₂ pₖ
//! ```

use core::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bits::BitWidth;
use crate::calibration::{Region, Regions};
use crate::element::FloatType;
use crate::error::{ConfigError, Result};
use crate::granularity::Tiling;
use crate::solve::ecsq::{ecsq_empirical, ecsq_of_entropy_empirical};
use crate::solve::scalar::ScalarQuantizer;
use crate::tensor::{
    CodebookGrid, CodebookScheme, Encoding, Grids, Notes, QuantizedTensor, Rounding, Scheme, TensorView,
};

use super::evidence::empirical;
use super::{Fit, Quantizer, fit_into};

/// Entropy-constrained levels: a codebook for each region whose codes have a given entropy, for files that are
/// compressed afterwards.
///
/// Codes take their full width in memory whatever their entropy; [`QuantizedTensor::entropy`] says what an ideal entropy
/// coder makes of them. At the same number of levels Lloyd-Max has the smaller error; at the same *entropy* this has: up
/// to 0.1 dB for 4 and more than 2 dB for 256 levels on normal values.
///
/// With the default rounding a value gets the code of least error *plus λ times its length*, so that frequent codes have
/// wider cells. A [`Frozen`](crate::Frozen) recipe does not know how frequent codes were and takes the nearest level, as
/// does every other rounding.
///
/// Works from values, with importance, and from histograms. Time: a sort of the region and some thousand looks at each
/// level.
///
/// ```
/// use lowbit::prelude::*;
///
/// let weights = ndarray::Array1::from_shape_fn(4096, |i| ((i as f32 + 0.5) / 2048.0 - 1.0).powi(5));
/// let q = Ecsq::of_entropy(BitWidth::new(5)?, 2.0)?.quantize(&weights)?;
/// assert!(q.entropy() <= 2.0 + 1e-6);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ecsq {
    bits: BitWidth,
    goal: Goal,
    storage: FloatType,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    Entropy(f64),
    Lambda(f64),
}

impl Ecsq {
    /// At most 2^b levels whose codes have an entropy of `entropy` bits for each element, or less where the values do not
    /// have as much.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Number`] unless the entropy is positive and finite.
    pub fn of_entropy(bits: BitWidth, entropy: f64) -> Result<Self, ConfigError> {
        let goal = Goal::Entropy(positive("entropy in bits", entropy)?);
        Ok(Self { bits, goal, storage: FloatType::F32 })
    }

    /// At most 2^b levels that minimize D + λH: λ is in squared units of the values, for each bit. A large λ gives few
    /// levels; for small ones the step is about √(6λ/ln 2).
    ///
    /// # Errors
    ///
    /// [`ConfigError::Number`] unless λ is positive and finite.
    pub fn of_lambda(bits: BitWidth, lambda: f64) -> Result<Self, ConfigError> {
        Ok(Self { bits, goal: Goal::Lambda(positive("lambda", lambda)?), storage: FloatType::F32 })
    }

    /// The same with levels in another type.
    pub const fn levels(mut self, storage: FloatType) -> Self {
        self.storage = storage;
        self
    }

    fn solve(&self, region: &Region<'_>) -> Option<ScalarQuantizer> {
        let (values, levels) = (empirical(region)?, self.bits.levels() as usize);
        match self.goal {
            Goal::Entropy(bits) => {
                ecsq_of_entropy_empirical(&values, levels, bits).map(|found| found.quantizer)
            }
            Goal::Lambda(lambda) => ecsq_empirical(&values, levels, lambda),
        }
    }
}

fn positive(what: &'static str, value: f64) -> Result<f64, ConfigError> {
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(ConfigError::Number { what, value, rule: "positive and finite" })
}

/// The levels in their storage type and the thresholds between them. Levels that become equal there are one, without a
/// threshold: to tell them apart would cost bits and gain nothing.
fn stored(found: Option<&ScalarQuantizer>, storage: FloatType) -> (CodebookGrid, Vec<f64>) {
    let Some(found) = found else { return (CodebookGrid { levels: vec![0.0] }, Vec::new()) };
    let mut levels: Vec<f64> = Vec::with_capacity(found.levels.len());
    let mut thresholds = Vec::with_capacity(found.thresholds.len());
    let below = core::iter::once(None).chain(found.thresholds.iter().map(Some));
    for (&level, below) in found.levels.iter().zip(below) {
        let level = storage.round(level);
        if levels.last() != Some(&level) {
            levels.push(level);
            thresholds.extend(below);
        }
    }
    (CodebookGrid { levels }, thresholds)
}

impl Quantizer for Ecsq {
    fn scheme(&self) -> Result<Scheme> {
        Ok(CodebookScheme::new(self.bits, self.storage).into())
    }

    fn takes_importance(&self) -> bool {
        true
    }

    fn fit(&self, region: &Region<'_>, _scheme: &Scheme) -> Result<Fit> {
        Ok(stored(self.solve(region).as_ref(), self.storage).0.into())
    }

    fn fit_and_encode(
        &self,
        tensor: &TensorView<'_>,
        tiling: Tiling,
        encoding: &Encoding,
        recipe: Option<Arc<str>>,
        out: &mut QuantizedTensor,
    ) -> Result<()> {
        let fitting = Fitting { method: self, thresholds: Mutex::default() };
        fit_into(&fitting, tensor, tiling, encoding, recipe, out)?;
        if encoding.rounding != Rounding::NearestEven {
            return out.encode(tensor, encoding);
        }
        let thresholds = fitting.thresholds.into_inner().unwrap_or_else(PoisonError::into_inner);
        out.encode_by_thresholds(tensor, encoding, &thresholds)
    }
}

/// Fits all regions and keeps the thresholds, which are no part of a codebook.
#[derive(Debug)]
struct Fitting<'a> {
    method: &'a Ecsq,
    thresholds: Mutex<Vec<Vec<f64>>>,
}

impl Quantizer for Fitting<'_> {
    fn scheme(&self) -> Result<Scheme> {
        self.method.scheme()
    }

    fn takes_importance(&self) -> bool {
        true
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
        self.method.fit(region, scheme)
    }

    fn fit_all(
        &self,
        regions: &Regions<'_, '_>,
        _scheme: &Scheme,
        grids: &mut Grids,
        _notes: &mut Notes,
    ) -> Result<()> {
        let found = regions.map(|region| Ok(self.method.solve(region)))?;
        let mut thresholds = Vec::with_capacity(found.len());
        for found in found {
            let (grid, between) = stored(found.as_ref(), self.method.storage);
            grids.push(grid.into())?;
            thresholds.push(between);
        }
        *self.thresholds.lock().unwrap_or_else(PoisonError::into_inner) = thresholds;
        Ok(())
    }
}

impl fmt::Display for Fitting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.method.fmt(f)
    }
}

/// `ecsq(bits=8, entropy=3.5, levels=f32)` or `ecsq(bits=8, lambda=0.001, levels=f32)`
impl fmt::Display for Ecsq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goal = match self.goal {
            Goal::Entropy(bits) => format!("entropy={bits}"),
            Goal::Lambda(lambda) => format!("lambda={lambda}"),
        };
        write!(f, "ecsq(bits={}, {goal}, levels={})", self.bits, self.storage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizer::LloydMax;
    use crate::recipe::QuantizerExt;
    use crate::solve::samples::SplitMix64;
    use ndarray::{Array1, Ix1, array};

    #[test]
    fn at_the_same_entropy_the_error_is_smaller_than_that_of_lloyd_max() {
        let mut random = SplitMix64(41);
        for shape in 0..2 {
            let x: Array1<f64> =
                (0..20_000).map(|_| if shape == 0 { random.normal() } else { random.laplace() }).collect();
            for bits in [2, 3, 4] {
                let plain = LloydMax::empirical(BitWidth::new(bits).unwrap()).quantize(&x).unwrap();
                let entropy = plain.entropy();
                let constrained = Ecsq::of_entropy(BitWidth::EIGHT, entropy).unwrap().quantize(&x).unwrap();
                assert!(constrained.entropy() <= entropy + 1e-9, "{bits}");
                let mse = |q: &QuantizedTensor| q.errors_against(&x).unwrap().mse();
                // reference of the solver: over 0.2 dB on normal values, 0.5 on Laplace values.
                let gain = if shape == 0 { 1.04 } else { 1.12 };
                assert!(
                    mse(&plain) > gain * mse(&constrained),
                    "{shape} {bits}: {} {}",
                    mse(&plain),
                    mse(&constrained)
                );
            }
        }
    }

    #[test]
    fn codes_cost_less_than_nearest_ones() {
        let mut random = SplitMix64(42);
        let x: Array1<f64> = (0..5000).map(|_| random.laplace()).collect();
        let lambda = 0.05;
        let method = Ecsq::of_lambda(BitWidth::EIGHT, lambda).unwrap().levels(FloatType::F64);
        let recipe = crate::Recipe::new(method);
        let (own, nearest) =
            (recipe.quantize(&x).unwrap(), recipe.freeze_from(&x).unwrap().quantize(&x).unwrap());
        assert_eq!(own.grids(), nearest.grids());
        let cost = |q: &QuantizedTensor| q.errors_against(&x).unwrap().mse() + lambda * q.entropy();
        assert!(cost(&own) < cost(&nearest) && own.entropy() < nearest.entropy());
    }

    #[test]
    fn levels_that_are_equal_in_their_storage_share_a_code() {
        // Around 1000, where bf16 tells only every fourth number from the next; levels are about a fifth apart.
        let mut random = SplitMix64(43);
        let x: Array1<f64> = (0..4000).map(|_| 1000.0 + random.normal()).collect();
        let method = |storage| Ecsq::of_lambda(BitWidth::EIGHT, 1e-3).unwrap().levels(storage);
        let wide = method(FloatType::F64).quantize(&x).unwrap();
        for storage in [FloatType::Bf16, FloatType::F16] {
            let q = method(storage).quantize(&x).unwrap();
            let distinct = |by: &dyn Fn(usize) -> u64| {
                (0..x.len()).map(by).collect::<std::collections::BTreeSet<_>>().len()
            };
            let values = q.dequantize::<f64, Ix1>().unwrap();
            let levels = distinct(&|i| values[i].to_bits());
            assert_eq!(distinct(&|i| q.code(i).unwrap() as u64), levels, "{storage}");
            assert!(levels > 1 && q.entropy() < wide.entropy() - 0.5, "{storage} {levels}");
            // The codes are still those of the thresholds: a value never goes past its neighbour.
            let mut order: Vec<usize> = (0..x.len()).collect();
            order.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
            assert!(order.windows(2).all(|pair| values[pair[0]] <= values[pair[1]]));
            assert!(x.iter().zip(&values).all(|(x, y)| (x - y).abs() < 4.0));
        }
    }

    #[test]
    fn zeros_constants_bad_goals_and_text() {
        for (bits, goal) in [(4, 0.0), (4, -1.0), (4, f64::NAN), (4, f64::INFINITY)] {
            let bits = BitWidth::new(bits).unwrap();
            assert!(Ecsq::of_entropy(bits, goal).is_err() && Ecsq::of_lambda(bits, goal).is_err());
        }
        for text in ["ecsq(bits=4, entropy=2.5, levels=f32)", "ecsq(bits=8, lambda=0.001, levels=f16)"] {
            let recipe: crate::Recipe = text.parse().unwrap();
            assert_eq!(recipe.quantizer().to_string(), text);
            for x in [array![0.0f32, 0.0], array![-1.5, -1.5]] {
                assert_eq!(recipe.quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap(), x);
            }
            assert!(recipe.quantize(&Array1::<f32>::zeros(0)).unwrap().is_empty());
        }
    }
}
