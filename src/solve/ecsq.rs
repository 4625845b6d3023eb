//! Philip A. Chou, Tom Lookabaugh and Robert M. Gray, *Entropy-constrained vector quantization*, IEEE Transactions
//! on Acoustics, Speech and Signal Processing 37, 1989, in one dimension, where it is the quantizer of Nariman
//! Farvardin and James W. Modestino, *Optimum quantizer performance for a class of non-Gaussian memoryless
//! sources*, IEEE Transactions on Information Theory 30, 1984. Yoojin Choi, Mostafa El-Khamy and Jungwon Lee,
//! *Towards the Limit of Network Quantization*, 2017, quantize weights with it:
//!
//! ```text
//! min D + lambda H,   D = E[(x - Q(x))^2],   H = - sum p_k log2 p_k;
//! Q(x) = the c_k of least (x - c_k)^2 - lambda log2 p_k,   c_k = E[x | Q(x) = c_k].
//! ```
//!
//! Frequent levels get wider cells than nearest-level decisions would give them, rare ones narrower cells or
//! none at all.
//!
//! **What is gained is entropy, not width.** Codes of b bits take b bits per value whatever their probabilities.
//! At the same number of levels the error of Lloyd-Max is smaller, and that is what counts for codes of fixed
//! width. Where codes are entropy-coded afterwards, more levels of smaller entropy win: at high rates the
//! distance to Shannon's bound is 0.255 bits (1.53 dB) instead of the up to 4.35 dB of Lloyd-Max on Gaussian
//! values. Hence every quantizer here states its entropy, and a report should give both sizes.
//!
//! The cost has several local minima (cells placed symmetrically about a level or about a threshold, for
//! example), so the search starts from several grids and keeps the best: uniform ones, which are optimal in the
//! limit of high rates with the step √(6λ/ln 2), and those of Panter and Dite, which are best for λ → 0.

use core::f64::consts::LN_2;

use super::density::{Density, Source};
use super::empirical::Empirical;
use super::lloyd_max::{companding_thresholds, empirical_quantizer, histogram_thresholds};
use super::scalar::{Cells, ScalarQuantizer};

/// A distribution for which quantizers can be searched.
pub(crate) trait Design: Source {
    /// The thresholds of a quantizer with the point density of Panter and Dite.
    fn companding(&self, levels: usize) -> Option<Vec<f64>>;

    /// An interval outside which there is next to nothing.
    fn body(&self) -> (f64, f64);

    /// The minimum of D + λH that is downhill from here.
    fn settle(&self, thresholds: &[f64], lambda: f64) -> Settled;
}

/// A quantizer that was settled, and what it costs, both in units of the source.
pub(crate) struct Settled {
    cells: Cells,
    cost: f64,
}

impl Settled {
    fn new(cells: Cells, lambda: f64) -> Self {
        Self { cost: cells.cost(lambda), cells }
    }
}

impl Design for Density {
    fn companding(&self, levels: usize) -> Option<Vec<f64>> {
        companding_thresholds(*self, levels)
    }

    fn body(&self) -> (f64, f64) {
        /// What may be left outside.
        const TAIL: f64 = 1e-12;
        let (start, end) = self.support();
        let or = |end: f64, quantile: f64| if end.is_finite() { end } else { quantile };
        (or(start, self.quantile(TAIL)), or(end, self.quantile(1.0 - TAIL)))
    }

    fn settle(&self, thresholds: &[f64], lambda: f64) -> Settled {
        /// Enough to drop the levels that have to go.
        const TURNS: usize = 30;
        Settled::new(
            Cells::new(self, thresholds).alternate(self, lambda, TURNS).polish(self, lambda, false),
            lambda,
        )
    }
}

impl Design for Empirical {
    fn companding(&self, levels: usize) -> Option<Vec<f64>> {
        histogram_thresholds(self, levels)
    }

    fn body(&self) -> (f64, f64) {
        let ends = (self.points().first(), self.points().last());
        (ends.0.copied().unwrap_or_default(), ends.1.copied().unwrap_or_default())
    }

    fn settle(&self, thresholds: &[f64], lambda: f64) -> Settled {
        /// Far more than usual: turns end by themselves.
        const TURNS: usize = 500;
        Settled::new(Cells::new(self, thresholds).alternate(self, lambda, TURNS), lambda)
    }
}

/// Where a search starts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    /// The point density of Panter and Dite with so many levels fewer than allowed: one fewer has a level
    /// where the other has a threshold.
    Companding(usize),
    /// Equal steps with a level in the middle of the mass.
    LevelAtMean,
    /// Equal steps with a threshold in the middle of the mass.
    ThresholdAtMean,
    /// Equal steps from the least value on.
    FromLowEnd,
}

const STARTS: [Start; 5] = [
    Start::Companding(0),
    Start::Companding(1),
    Start::LevelAtMean,
    Start::ThresholdAtMean,
    Start::FromLowEnd,
];

impl Start {
    /// The thresholds to start with; `None` where this start does not exist.
    fn thresholds(self, source: &impl Design, levels: usize, lambda: f64) -> Option<Vec<f64>> {
        if let Self::Companding(fewer) = self {
            return source.companding(levels.checked_sub(fewer)?);
        }
        let (low, high) = source.body();
        let mean = source.moments(f64::NEG_INFINITY, f64::INFINITY, 0.0).first;
        // At high rates D = step^2 / 12 and H falls by one bit when the step doubles.
        let step = (6.0 * lambda / LN_2).sqrt();
        let anchor = match self {
            Self::LevelAtMean => mean + 0.5 * step,
            Self::ThresholdAtMean => mean,
            // The support of values is theirs alone, that of a density without a low end has none.
            _ if source.support().0.is_finite() => low,
            _ => return None,
        };
        let (first, last) = (((low - anchor) / step).floor() + 1.0, ((high - anchor) / step).ceil() - 1.0);
        // Written so that NaN and infinity (no step) are no start either.
        let fits = last - first < (levels as f64) - 1.0;
        if !fits {
            return None;
        }
        let count = (last - first + 1.0).max(0.0) as usize;
        Some((0..count).map(|k| anchor + (first + k as f64) * step).collect())
    }

    /// The minimum that this start leads to.
    fn settle(self, source: &impl Design, levels: usize, lambda: f64) -> Option<Settled> {
        let settled = source.settle(&self.thresholds(source, levels, lambda)?, lambda);
        settled.cost.is_finite().then_some(settled)
    }
}

/// The starts worth trying: where uniform grids have room, the others only lead to the same minima, and slowly.
fn starts(source: &impl Design, levels: usize, lambda: f64) -> impl Iterator<Item = Start> {
    let room = |start: &Start| start.thresholds(source, levels, lambda).is_some();
    let uniform = [Start::LevelAtMean, Start::ThresholdAtMean].iter().all(room);
    STARTS.into_iter().filter(move |start| !uniform || !matches!(start, Start::Companding(_)))
}

/// λ in units of the source.
fn scaled(lambda: f64, source: &impl Source) -> f64 {
    lambda / source.unit() / source.unit()
}

/// The quantizer of at most `levels` levels with the least D + λH for a density; `lambda` is in squared units of
/// x per bit. `None` for no levels and for a λ that is negative or no number.
///
/// λ = 0 gives Lloyd-Max. The best of the local minima that five starts lead to: a stationary point exactly, the
/// global minimum usually.
#[cfg(test)]
pub(crate) fn ecsq(density: Density, levels: usize, lambda: f64) -> Option<ScalarQuantizer> {
    Some(ScalarQuantizer::new(&least_cost(&density, levels, lambda)?, 1.0))
}

/// The same for given values; `lambda` is in their squared units per bit.
///
/// At a minimum of Chou's turns of decisions and centroids, which need not be the global one.
pub(crate) fn ecsq_empirical(source: &Empirical, levels: usize, lambda: f64) -> Option<ScalarQuantizer> {
    Some(empirical_quantizer(source, &least_cost(source, levels, scaled(lambda, source))?))
}

fn least_cost(source: &impl Design, levels: usize, lambda: f64) -> Option<Cells> {
    if levels == 0 || lambda.is_nan() || lambda < 0.0 {
        return None;
    }
    let single = Settled::new(Cells::new(source, &[]), 0.0);
    if lambda == f64::INFINITY {
        return Some(single.cells);
    }
    let others = starts(source, levels, lambda).filter_map(|start| start.settle(source, levels, lambda));
    // Of equals the first.
    let least = others.fold(single, |least, other| if other.cost < least.cost { other } else { least });
    Some(least.cells)
}

/// A quantizer and the λ at which it is a minimum of D + λH.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TargetEntropy {
    /// The quantizer, of an entropy not above the target.
    pub quantizer: ScalarQuantizer,
    /// Its λ, in squared units of x per bit: how much one more bit would lower D. 0 where the target does not
    /// bind.
    pub lambda: f64,
}

/// The quantizer of at most `levels` levels and an entropy of at most `bits` with the least error for a density.
/// `None` for no levels, and for a target that is negative or no number.
///
/// λ is searched for each start. The entropy is within 1e-6 bits of the target where it can be: not where even
/// the levels of least error need less, and not where entropy as a function of λ jumps, as it does for the uniform
/// density between whole numbers of equal cells: a Lagrangian reaches the convex hull of the curve of rate and
/// distortion only. A target in a gap gets the quantizer at its lower end.
#[cfg(test)]
pub(crate) fn ecsq_of_entropy(density: Density, levels: usize, bits: f64) -> Option<TargetEntropy> {
    let (cells, lambda) = least_error(&density, levels, bits, 1e-7)?;
    Some(TargetEntropy { quantizer: ScalarQuantizer::new(&cells, 1.0), lambda })
}

/// The same for given values. The entropy moves in jumps, as cells and values are dropped or change sides, and is
/// usually within 1e-2 bits of the target.
pub(crate) fn ecsq_of_entropy_empirical(
    source: &Empirical,
    levels: usize,
    bits: f64,
) -> Option<TargetEntropy> {
    let (cells, lambda) = least_error(source, levels, bits, 1e-3)?;
    let lambda = lambda * source.unit() * source.unit();
    Some(TargetEntropy { quantizer: empirical_quantizer(source, &cells), lambda })
}

fn least_error(source: &impl Design, levels: usize, bits: f64, tolerance: f64) -> Option<(Cells, f64)> {
    if levels == 0 || bits.is_nan() || bits < 0.0 {
        return None;
    }
    let single = Cells::new(source, &[]);
    let variance = single.distortion();
    let mut best = (single, f64::INFINITY);
    let free = Start::Companding(0).settle(source, levels, 0.0);
    if let Some(free) = free.filter(|free| free.cells.entropy() <= bits) {
        return Some((free.cells, 0.0));
    }
    if variance > 0.0 {
        // The λ of the target at high rates.
        let near = 2.0 * LN_2 * variance * (-2.0 * bits).exp2();
        for start in starts(source, levels, near) {
            let found = meet(source, start, levels, variance, bits, tolerance);
            if let Some(found) = found.filter(|found| found.0.distortion() < best.0.distortion()) {
                best = found;
            }
        }
    }
    Some(best)
}

/// The quantizer of least error that this start leads to within the target, with its λ.
fn meet(
    source: &impl Design,
    start: Start,
    levels: usize,
    variance: f64,
    bits: f64,
    tolerance: f64,
) -> Option<(Cells, f64)> {
    /// A λ, as a part of the variance, at which entropy costs next to nothing, and one at which one level wins.
    const ENDS: (f64, f64) = (1e-14, 16.0);
    /// Halvings alone take about 60 to the last bit of λ.
    const STEPS: usize = 100;
    let mut best: Option<(Cells, f64)> = None;
    // ln λ and the excess of the entropy there: taken for granted at the low end, as starts may not exist there.
    let (mut low, mut low_excess) = ((ENDS.0 * variance).ln(), f64::NAN);
    let (mut high, mut high_excess) = ((ENDS.1 * variance).ln(), f64::NAN);
    for step in 0..STEPS {
        // Entropy is nearly linear in ln λ, so a straight line gets near; halving bounds the number of steps.
        let line = low + (high - low) * low_excess / (low_excess - high_excess);
        let middle = if step % 3 != 2 && line > low && line < high { line } else { 0.5 * (low + high) };
        if middle <= low || middle >= high {
            break;
        }
        let lambda = middle.exp();
        let excess = match start.settle(source, levels, lambda) {
            // Steps too small for the number of levels: λ is too low.
            None => f64::NAN,
            Some(settled) => {
                let excess = settled.cells.entropy() - bits;
                let better =
                    best.as_ref().is_none_or(|best| settled.cells.distortion() < best.0.distortion());
                if excess <= 0.0 && better {
                    best = Some((settled.cells, lambda));
                }
                excess
            }
        };
        if excess <= 0.0 {
            (high, high_excess) = (middle, excess);
            if excess >= -tolerance {
                break;
            }
        } else {
            (low, low_excess) = (middle, excess);
        }
    }
    best
}

#[cfg(test)]
mod tests;
