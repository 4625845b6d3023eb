//! The range of least squared error on the actual code grid.
//!
//! Sung, Shin and Hwang 2015, *Resiliency of deep neural networks under quantization* (the objective);
//! survey, III-C. The search is in `solve::scale`.

use core::fmt;

use crate::error::{DataError, Result};
use crate::solve::level_scale::{self, Cells};
use crate::solve::scale::{self, BestGrid, GridFamily, ZeroRule};
use crate::tensor::{AffineGrid, AffineScheme, ClippingRange, LevelScheme, Scheme, ZeroPointRule};

use super::evidence::{Evidence, Values, each_value};
use super::{Calibrated, Calibration, Region, min_max_of};

/// Minimizes `Σ (r − r̃)²` over the clipping range, for the very codes, zero points and stored scales of the
/// scheme, with rounding to nearest.
///
/// Up to 8 bits the squared error is nearly always within 1e-4 (relative) of the best that a fine exhaustive search
/// finds, for symmetric grids and for integer zero points; symmetric grids of regions with few values (levels × values
/// up to 66,000) are solved exactly. With real zero points the search is a descent from several starts, mostly within
/// 2e-3. From 9 bits on, where clipping gains little, the ends of the range are searched, in steps of 4 % and finer
/// around the best. The result is never worse than minimum and maximum. On a histogram every value counts as the middle
/// of its bin.
///
/// On the levels of a table (NF4, minifloats, powers of two) the scale is searched: 160 scales, and from the best ones
/// scale and codes in turns; within 1 % of a fine exhaustive search. Values get the levels that encoding gives them,
/// and only scales that can be stored are compared, all of these where they are powers of two.
///
/// Cost: 20 to 40 passes over the region for symmetric grids and integer zero points, about 15 ns per element at regions
/// of 4096 values and 8 bits on one core, and 12 ns at 4 bits. Regions of more than 131,072 values are searched by a
/// summary of at most 65,536 bins, then the values themselves decide: 5 to 7 ns per element, and 3 MB besides. With real
/// zero points one histogram and a few thousand evaluations of O(levels), about 300 ns per element at regions of 4096, and
/// up to 30 µs in regions of 32. From 9 bits on about 100 passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mse;

/// OMSE: Choukroun, Kravchik, Yang and Kisilev 2019, *Low-bit Quantization of Neural Networks for Efficient
/// Inference*, whose "optimal MSE" is `min over α of ‖W − Q_α(W)‖²` for each kernel, by a line search.
///
/// The same objective as [`Mse`], on the same grid, searched more finely, so it is the same type: in text forms
/// `omse` reads as `mse`. (The paper's second tensor for the residual of key layers is a representation, not a range.)
pub type Omse = Mse;

impl Mse {
    fn best(values: &Evidence<'_>, scheme: &AffineScheme) -> Option<BestGrid> {
        let zero = match scheme.zero_point() {
            ZeroPointRule::Fixed(zero) => ZeroRule::Fixed(zero),
            ZeroPointRule::Integer => ZeroRule::Integer,
            ZeroPointRule::Real => ZeroRule::Real,
        };
        let family = GridFamily { q_min: scheme.codes().min(), q_max: scheme.codes().max(), zero };
        let round_scale = |scale: f64| scheme.scales().store(scale);
        match values {
            Evidence::Values(values) => {
                each_value!(*values, values => scale::best_grid(values, &family, &round_scale))
            }
            Evidence::Histogram(histogram) => {
                let (points, weights): (Vec<f64>, Vec<u64>) = histogram
                    .counts()
                    .iter()
                    .enumerate()
                    .filter(|&(_, &count)| count > 0)
                    .map(|(bin, &count)| (histogram.center(bin), count))
                    .unzip();
                scale::best_grid_weighted(&points, &weights, &family, &round_scale)
            }
        }
    }
}

impl Mse {
    /// The range of least squared error on shared levels.
    fn on_levels(region: &Region<'_>, scheme: &LevelScheme) -> Result<Calibrated> {
        let full = min_max_of(region)?;
        let Some(table) = scheme.table() else { return Ok(full.into()) };
        let (levels, cuts): (Vec<f64>, Vec<f64>) = (table.chosen().collect(), table.cuts().collect());
        let cells = Cells { levels: &levels, cuts: &cuts };
        let known = scheme.grid(full, region.index()).ok().map(|grid| grid.scale);
        // The outermost level may lie beyond the values, but not beyond what they can be.
        let limit = scheme.scales().arithmetic().max_value();
        let most = scheme.scales().at_most(limit / table.magnitude());
        let most = if full.magnitude() <= limit { most } else { f64::INFINITY };
        let round = |scale: f64| scheme.scales().store(scale).min(most);
        let best = match region.evidence() {
            Evidence::Values(values) => each_value!(values, values => {
                level_scale::best_level_scale(values, None, cells, known, &round)
            }),
            Evidence::Histogram(histogram) => {
                let points = histogram.counts().iter().enumerate().filter(|&(_, &count)| count > 0);
                let points = points.map(|(bin, &count)| (histogram.center(bin), count as f64)).collect();
                level_scale::best_of_points(points, cells, known, &round)
            }
        };
        Ok(best.map_or(full, |best| scheme.range_of_scale(best.scale)).into())
    }
}

impl Calibration for Mse {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        if region.evidence().count() == 0 {
            return Err(DataError::NoData { region: region.index() }.into());
        }
        let affine = match scheme {
            Scheme::Affine(affine) => affine,
            Scheme::Levels(levels) => return Self::on_levels(region, levels),
            // Levels of the region's own are found by the method.
            _ => return Ok(min_max_of(region)?.into()),
        };
        match Self::best(&region.evidence(), affine) {
            Some(best) => {
                let grid = AffineGrid { scale: best.scale, zero_point: best.zero };
                let range = affine.range(grid);
                // The best grid may end beyond the values, but not beyond what its values can be.
                let limit = affine.scales().arithmetic().max_value();
                if range.magnitude() > limit && min_max_of(region)?.magnitude() <= limit {
                    let (low, high) = (range.low().max(-limit), range.high().min(limit));
                    return Ok(ClippingRange::new(low, high)?.into());
                }
                Ok(range.into())
            }
            // All zero.
            None => Ok(min_max_of(region)?.into()),
        }
    }
}

impl fmt::Display for Mse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mse")
    }
}
