//! The range of most weighted entropy.
//!
//! Park, Ahn and Yoo 2017, *Weighted-Entropy-based Quantization for Deep Neural Networks*: a good quantization keeps
//! most of
//!
//! ```text
//! S = - sum over levels n of  I_n P_n log P_n,
//! ```
//!
//! where `P_n` is the share of the values that take level n and `I_n` the mean importance of these values, which is
//! `w²` for weights. The paper places cluster boundaries of weights, and base and step of logarithmic activations,
//! by it; here the levels are those of the scheme's uniform grid, and the clipping threshold is searched.

use core::fmt;

use crate::error::{DataError, Result};
use crate::solve::spread::{Levels, Running};
use crate::tensor::{ClippingRange, Scheme};

use super::evidence::Evidence;
use super::{
    Calibrated, Calibration, Histogram, Region, affine, levels, min_max_of, or_min_max, range_of_threshold,
};

/// Clips at the threshold t on magnitudes of most weighted entropy `−Σ Iₙ Pₙ log Pₙ` of the codes.
///
/// Symmetric ranges are `±t`, asymmetric ones `[max(min, −t), min(max, t)]` widened to hold zero. The 128 thresholds
/// t = j/128 of the largest magnitude are tried, then 1/1024 steps around the best; of equals the largest wins.
/// On values the entropy is that of a histogram of at most 4096 bins; values are taken to lie evenly within bins.
///
/// Large weights count for much and are kept apart rather than clipped together: the squared error is more than that
/// of [`Mse`](super::Mse), whose objective is another one. Time O(n + 150 · levels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WeightedEntropy;

/// Bins of a region's values.
const BINS: usize = 4096;

impl WeightedEntropy {
    /// The weighted entropy S of the codes on the grid of `range`, in nats times squared units.
    ///
    /// # Errors
    ///
    /// As [`Histogram::predict`].
    pub fn entropy(histogram: &Histogram, range: ClippingRange, scheme: &Scheme) -> Result<f64> {
        let total = histogram.total() as f64;
        if total == 0.0 {
            return Err(DataError::NoData { region: 0 }.into());
        }
        let running = Running::new(&histogram.bins_in(1.0));
        let levels = levels(&affine(scheme)?, range, 0)?;
        Ok(weighted_entropy(&running, &levels, total))
    }
}

fn weighted_entropy(running: &Running, levels: &Levels, total: f64) -> f64 {
    let count = levels.count as usize;
    let mut low = [0.0; 3];
    let mut entropy = 0.0;
    for k in 0..count {
        let decision = levels.scale * (levels.first + k as f64 + 0.5);
        let high = running.below(if k + 1 == count { f64::INFINITY } else { decision });
        let (share, importance) = ((high[0] - low[0]) / total, (high[2] - low[2]) / total);
        // importance is I P: the sum of w² over the level, for each value.
        if share > 0.0 && importance > 0.0 {
            entropy -= importance * share.ln();
        }
        low = high;
    }
    entropy
}

impl Calibration for WeightedEntropy {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        let full = min_max_of(region)?;
        let largest = full.magnitude();
        if largest == 0.0 || full.low() == full.high() {
            return Ok(full.into());
        }
        // Squares of extreme values leave the range of floats.
        let unit = if (1e-100..1e100).contains(&largest) { 1.0 } else { largest };
        let own;
        let histogram = match region.evidence() {
            Evidence::Histogram(histogram) => histogram,
            Evidence::Values(values) => {
                let bins = values.len().saturating_mul(4).clamp(16, BINS);
                own = Histogram::of_values(values, full.low(), full.high(), bins)?;
                &own
            }
        };
        let (running, total) = (Running::new(&histogram.bins_in(unit)), histogram.total() as f64);
        let affine = affine(scheme)?;
        let entropy_at = |t: f64| -> Result<f64> {
            let range = range_of_threshold(scheme, full, t)?;
            let levels = levels(&affine, range, region.index())?;
            Ok(weighted_entropy(&running, &Levels { scale: levels.scale / unit, ..levels }, total))
        };
        let look = |best: (f64, f64), share: f64| {
            let t = share * largest;
            // A threshold so small that its scale cannot be stored is none.
            let found = entropy_at(t).unwrap_or(f64::NEG_INFINITY);
            if found > best.0 { (found, t) } else { best }
        };
        let coarse = (1..=128).rev().map(|j| f64::from(j) / 128.0);
        let best = coarse.fold((f64::NEG_INFINITY, largest), look);
        let around = (best.1 / largest * 1024.0).round() as i32;
        let fine = (around - 8..=around + 8).rev().filter(|j| (1..=1024).contains(j));
        let best = fine.map(|j| f64::from(j) / 1024.0).fold(best, look);
        or_min_max(range_of_threshold(scheme, full, best.1)?, region)
    }
}

impl fmt::Display for WeightedEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("weighted-entropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::BitWidth;
    use crate::calibration::{Mse, Percentile};
    use crate::quantizer::{Quantizer, Uniform};
    use crate::solve::samples;

    /// The definition, value by value.
    fn literal(values: &[f64], levels: &Levels) -> f64 {
        let count = levels.count as usize;
        let (mut shares, mut importance) = (vec![0.0; count], vec![0.0; count]);
        for &x in values {
            let n =
                (x / levels.scale - levels.first).round_ties_even().clamp(0.0, levels.count - 1.0) as usize;
            shares[n] += 1.0 / values.len() as f64;
            importance[n] += x * x;
        }
        let term = |(p, i): (&f64, &f64)| {
            if *p > 0.0 { -(i / (p * values.len() as f64)) * p * p.ln() } else { 0.0 }
        };
        shares.iter().zip(&importance).map(term).sum()
    }

    #[test]
    fn the_entropy_is_that_of_the_definition_and_its_maximum_is_found() {
        for (data, bits) in [(samples::b(), 4), (samples::b(), 2), (samples::a(), 3)] {
            let scheme = Uniform::symmetric(BitWidth::new(bits).unwrap()).scheme().unwrap();
            let region = Region::new(0, Evidence::from(&*data));
            let entropy =
                |range: ClippingRange| literal(&data, &levels(&affine(&scheme).unwrap(), range, 0).unwrap());
            let found = WeightedEntropy.range(&region, &scheme).unwrap().range;
            let best = entropy(found);
            let (low, high) = region.evidence().min_max().unwrap();
            let values = crate::calibration::Values::F64(&data);
            let histogram = Histogram::of_values(values, low, high, BINS).unwrap();
            let of_histogram = WeightedEntropy::entropy(&histogram, found, &scheme).unwrap();
            // Values that share a bin with a decision are on either side of it.
            assert!((of_histogram / best - 1.0).abs() < 0.01, "{bits}: {of_histogram} {best}");
            // It is the best at its own objective, among other rules and other thresholds.
            for other in [&Mse as &dyn Calibration, &Percentile::new(99.0).unwrap()] {
                assert!(best > entropy(other.range(&region, &scheme).unwrap().range) * 0.999);
            }
            let largest = high.abs().max(low.abs());
            for j in 1..=300 {
                let t = largest * f64::from(j) / 300.0;
                assert!(best >= 0.99 * entropy(ClippingRange::new(-t, t).unwrap()), "{bits} {t} {found}");
            }
        }
    }
}
