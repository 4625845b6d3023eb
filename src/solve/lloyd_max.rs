//! Stuart P. Lloyd, *Least squares quantization in PCM*, 1957 (IEEE Transactions on Information Theory 28,
//! 1982), and Joel Max, *Quantizing for minimum distortion*, IRE Transactions on Information Theory 6, 1960:
//! the n levels of least mean squared error,
//!
//! ```text
//! t_k = (c_k + c_k+1) / 2,   c_k = E[x | t_k <= x < t_k+1].
//! ```
//!
//! For a density the two conditions are solved by Newton's method, started from the companding quantizer of
//! Panter and Dite; for values by turns of the two (Lloyd's method I), which end at a minimum that need not be
//! the global one. Exact optima for values are the business of one-dimensional k-means.
//!
//! Zhaowei Cai, Xiaodong He, Jian Sun and Nuno Vasconcelos, *Deep Learning with Low Precision by Half-wave
//! Gaussian Quantization*, 2017, apply it to the outputs of a ReLU whose inputs are Gaussian: [`half_wave`].

use super::density::{Density, Source};
use super::empirical::Empirical;
use super::scalar::{Cells, ScalarQuantizer, mirror};

/// The quantizer of `levels` levels with the least mean squared error for a density; it is the only one that
/// meets Lloyd's conditions, and exactly symmetric where the density is. `None` for no levels.
///
/// Its mean squared error is accurate to 1e-12 of itself at least up to 1024 levels. Time O(levels) per step,
/// about ten steps.
pub(crate) fn lloyd_max(density: Density, levels: usize) -> Option<ScalarQuantizer> {
    let symmetric = density != Density::HalfNormal;
    let mut thresholds = companding_thresholds(density, levels)?;
    if symmetric {
        mirror(&mut thresholds);
    }
    let cells = Cells::new(&density, &thresholds).polish(&density, 0.0, symmetric);
    let mut found = ScalarQuantizer::new(&cells, 1.0);
    if symmetric {
        mirror(&mut found.levels);
        mirror(&mut found.thresholds);
    }
    Some(found)
}

/// The thresholds of the companding quantizer: quantiles of the cube root of the density.
pub(super) fn companding_thresholds(density: Density, levels: usize) -> Option<Vec<f64>> {
    let last = levels.checked_sub(1)?;
    Some((1..=last).map(|k| density.companding_quantile(k as f64 / levels as f64)).collect())
}

/// Which outputs of a ReLU become zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ZeroLevel {
    /// Zero alone, as in the paper: every positive value gets a positive level.
    Exact,
    /// All that is nearer to zero than to the first positive level. The error is smaller.
    Nearest,
}

/// The quantizer of max(x, 0) for Gaussian x of variance 1 whose first level is 0, the other `levels − 1` being
/// placed for the least mean squared error. `None` for no levels.
///
/// By symmetry these are the non-negative levels of the Gaussian with twice as many positive ones, without
/// ([`ZeroLevel::Exact`]) or with ([`ZeroLevel::Nearest`]) a level at zero, and half its error. The first
/// threshold of [`ZeroLevel::Exact`] is the smallest positive number, as zero itself belongs to the level 0.
pub(crate) fn half_wave(levels: usize, zero: ZeroLevel) -> Option<ScalarQuantizer> {
    let positive = levels.checked_sub(1)?;
    let both = positive.checked_mul(2)?;
    if positive == 0 {
        return Some(ScalarQuantizer {
            levels: vec![0.0],
            thresholds: Vec::new(),
            probabilities: vec![1.0],
            mse: 0.5,
            entropy: 0.0,
        });
    }
    let (count, first) = match zero {
        ZeroLevel::Exact => (both, f64::from_bits(1)),
        ZeroLevel::Nearest => (both.checked_add(1)?, 0.0),
    };
    let full = lloyd_max(Density::Gaussian, count)?;
    let upper = |values: &[f64]| {
        values.iter().copied().skip(values.len().saturating_sub(positive)).collect::<Vec<f64>>()
    };
    let (found, mut thresholds) = (upper(&full.levels), upper(&full.thresholds));
    if let (ZeroLevel::Exact, Some(threshold)) = (zero, thresholds.first_mut()) {
        *threshold = first;
    }
    let mut probabilities = upper(&full.probabilities);
    let rest = 1.0 - probabilities.iter().sum::<f64>();
    probabilities.insert(0, rest);
    let entropy = probabilities.iter().map(|&p| if p > 0.0 { -p * p.log2() } else { 0.0 }).sum();
    let levels = core::iter::once(0.0).chain(found).collect();
    Some(ScalarQuantizer { levels, thresholds, probabilities, mse: 0.5 * full.mse, entropy })
}

/// A quantizer of at most `levels` levels for given values that meets Lloyd's conditions, or is where
/// `iterations` turns have led. `None` for no levels.
///
/// Where there are no more distinct values than levels, the levels are these values. Otherwise there are
/// `levels` levels with no empty cell. Started from the companding quantizer of a histogram; the error never
/// grows from turn to turn. Time O(levels · log n) per turn and O(n) at the end.
pub(crate) fn lloyd_max_empirical(
    source: &Empirical,
    levels: usize,
    iterations: usize,
) -> Option<ScalarQuantizer> {
    let mut cells = Cells::new(source, &histogram_thresholds(source, levels)?);
    fill(source, &mut cells, levels);
    for _ in 0..iterations {
        let mut next = Cells::new(source, &cells.best_thresholds(0.0));
        fill(source, &mut next, levels);
        let gains = next.distortion() < cells.distortion();
        if !gains {
            break;
        }
        cells = next;
    }
    Some(empirical_quantizer(source, &cells))
}

/// The quantizer with these cells, levels and error summed value by value.
pub(super) fn empirical_quantizer(source: &Empirical, cells: &Cells) -> ScalarQuantizer {
    let mut levels = source.centroids(&cells.thresholds);
    let unit = source.unit();
    let mse = source.squared_error(&levels, &cells.thresholds) * unit * unit;
    levels.iter_mut().for_each(|level| *level *= unit);
    ScalarQuantizer { levels, mse, ..ScalarQuantizer::new(cells, unit) }
}

/// Thresholds with equal shares of the cube roots of the masses of narrow bins between them. Not more than there
/// can be cells.
pub(super) fn histogram_thresholds(source: &Empirical, levels: usize) -> Option<Vec<f64>> {
    /// Bins for each level, so that a threshold is rarely more than a bin off.
    const BINS: usize = 16;
    /// The most bins: beyond, levels have fewer of their own.
    const MOST: usize = 1 << 16;
    let last = levels.checked_sub(1)?;
    let (Some(&low), Some(&high)) = (source.points().first(), source.points().last()) else { return None };
    let points = source.points();
    if points.len() <= levels {
        // Each value its own cell.
        return Some(points.iter().copied().skip(1).collect());
    }
    let bins = levels.saturating_mul(BINS).clamp(256, MOST);
    let width = (high - low) / bins as f64;
    let mut roots = vec![0.0; bins];
    for (x, share) in source.shares() {
        let bin = (((x - low) / width) as usize).min(bins - 1);
        if let Some(root) = roots.get_mut(bin) {
            *root += share;
        }
    }
    roots.iter_mut().for_each(|root| *root = f64::cbrt(*root));
    let total: f64 = roots.iter().sum();
    let mut thresholds = Vec::with_capacity(last);
    let (mut sum, mut k) = (0.0, 1);
    for (bin, &root) in roots.iter().enumerate() {
        // Within a bin evenly.
        while k <= last && root > 0.0 && total * k as f64 <= (sum + root) * levels as f64 {
            let part = (total * k as f64 / levels as f64 - sum) / root;
            thresholds.push(low + (bin as f64 + part.clamp(0.0, 1.0)) * width);
            k += 1;
        }
        sum += root;
    }
    Some(thresholds)
}

/// Splits the cells that err most until there are `levels`, or no cell holds two values: each split lowers the
/// error.
fn fill(source: &Empirical, cells: &mut Cells, levels: usize) {
    while cells.cells.len() < levels {
        let low = core::iter::once(f64::NEG_INFINITY).chain(cells.thresholds.iter().copied());
        let high = cells.thresholds.iter().copied().chain(core::iter::once(f64::INFINITY));
        let mut splits: Vec<(f64, f64)> = Vec::new();
        for (cell, (low, high)) in cells.cells.iter().zip(low.zip(high)) {
            let (start, end) = (source.below(low), source.below(high));
            // At the centroid, but so that a value remains on either side.
            if let Some([_, second, ..]) = source.points().get(start..end) {
                let last = source.points().get(end - 1).copied().unwrap_or(*second);
                splits.push((cell.distortion, cell.level.clamp(*second, last)));
            }
        }
        if splits.is_empty() {
            return;
        }
        splits.sort_by(|a, b| b.0.total_cmp(&a.0));
        splits.truncate(levels - cells.cells.len());
        let mut thresholds = cells.thresholds.clone();
        thresholds.extend(splits.iter().map(|split| split.1));
        thresholds.sort_by(f64::total_cmp);
        let split = Cells::new(source, &thresholds);
        if split.cells.len() <= cells.cells.len() {
            // What is left to split has no mass that is seen next to the whole.
            return;
        }
        *cells = split;
    }
}

#[cfg(test)]
mod tests;
