//! The affine grid of least squared error for given values: the clipping range of Choukroun et al. 2019,
//! *Low-bit Quantization of Neural Networks for Efficient Inference* (OMSE), without a grid of trial ranges,
//!
//! ```text
//! min over S, Z of  E = sum (x - S (q - Z))^2,   q = clamp(round_even(x / S + Z), q_min, q_max).
//! ```
//!
//! E as a function of S is a lower envelope of parabolas, one for each assignment of codes; for given codes
//! the best scale is `S = sum q x / sum q^2` (Hwang and Sung 2014). With many levels the envelope has many
//! minima of nearly the same depth. The search goes from the cheap and rough to the exact:
//!
//! 1. The scales between bounds that hold the optimum are scanned in steps of a fraction of the width of a minimum: error
//!    and slope at each ([`scan`]), in the arithmetic of the values. Far from where rounding errors of no structure have
//!    their least sum, a sample of the values tells whether there is a structure to look for.
//! 2. The deepest minima of the cubics between these are looked at again.
//! 3. All assignments of codes in the neighbourhood are tried ([`sweep`]), and the best is evaluated in f64.
//!
//! Where the values are so many that no cache holds them, the search runs on equal bins with their means ([`summary`]), and
//! the values are asked last.
//!
//! Real zero points are another dimension: for these a table gives E in O(levels) for any grid ([`table`]), and scale and
//! codes are improved in turns ([`real`]).
//!
//! The least and largest scale that can be best: a smaller one than the first clips more than the best grid
//! errs; in a grid of a larger one than the last, half the levels are unused, so half the scale is as good.

mod real;
mod scan;
mod search;
mod summary;
mod sweep;
mod table;

use crate::element::{Element, FloatType, Real};
use crate::kernel::misfit::{Ruler, misfit, sizes, squares};
use crate::kernel::reduce::min_max;
use search::Search;

/// A family of grids: codes `q_min..=q_max`, the level of code q is `S * (q - Z)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GridFamily {
    /// The lowest code.
    pub q_min: i32,
    /// The highest code.
    pub q_max: i32,
    /// What the zero point may be.
    pub zero: ZeroRule,
}

impl GridFamily {
    /// The grid of a scale and a zero point as seen from the values.
    fn ruler(&self, scale: f64, zero: f64) -> Ruler {
        let whole = zero.round_ties_even();
        Ruler {
            inverse: 1.0 / scale,
            shift: zero - whole,
            low: f64::from(self.q_min) - whole,
            high: f64::from(self.q_max) - whole,
        }
    }
}

/// What the zero point of a family may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ZeroRule {
    /// This number, at most half a code outside the codes: 0 of symmetric grids, 2^(b-1) of unsigned codes,
    /// half an integer of mid-rise grids.
    Fixed(f64),
    /// Any integer among the codes.
    Integer,
    /// Any number, also one that leaves zero outside the range.
    Real,
}

/// The best grid of a family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BestGrid {
    /// S, a rounded one.
    pub scale: f64,
    /// Z.
    pub zero: f64,
    /// The sum of squared errors, evaluated in f64.
    pub squared_error: f64,
}

/// Values with optional weights, and their least and largest.
#[derive(Debug, Clone, Copy)]
struct Points<'a, T> {
    values: &'a [T],
    weights: Option<&'a [f64]>,
    low: f64,
    high: f64,
}

/// At most so many values are sorted and searched exactly around every promising minimum.
const FEW: usize = 256;

/// The grid of `family` with the least squared error of `values`, which are finite. `round_scale` rounds a
/// scale to the type it is stored in; only rounded scales are compared. `None` if all values are zero or
/// there are none.
///
/// Up to 8 bits and with a fixed or integer zero point the error is within 1e-4 of the least that an
/// exhaustive search finds. A real zero point adds a dimension, searched from eighths of a step: usually
/// within 1e-3, a few percent off in bad cases of few values. Above 8 bits the minima are too many to visit,
/// and only the ends are searched: the min/max grid shrunk in steps of 4 %, then finer around the best.
/// Never worse than the minimum and maximum of
/// the values as the ends of the grid.
///
/// Time: 20 to 40 passes over the values (at most 200, above 8 bits or where the values are multiples of something), each
/// in vectors, and ten where a summary is searched; with real zero points about 15 and a few thousand looks at each level.
/// Memory for the values that are clipped, for the summary, and for tables O(levels).
pub(crate) fn best_grid<T: Real>(
    values: &[T],
    family: &GridFamily,
    round_scale: &dyn Fn(f64) -> f64,
) -> Option<BestGrid> {
    let (low, high) = extremes(values);
    let largest = high.max(-low);
    if !(largest > 0.0 && largest.is_finite()) {
        return None;
    }
    // Squares and reciprocals of extreme values leave the range of floats.
    let exponent = largest.log2().floor().min(1022.0);
    let limit = if T::TYPE == FloatType::F64 { 300.0 } else { 40.0 };
    if exponent.abs() > limit {
        let unit = exponent.exp2();
        let values: Vec<f64> = values.iter().map(|&x| Element::to_f64(x) / unit).collect();
        let round = |scale: f64| round_scale(scale * unit) / unit;
        let points = Points { values: &values, weights: None, low: low / unit, high: high / unit };
        let best = best_of_points(&points, family, &round)?;
        return Some(BestGrid {
            scale: best.scale * unit,
            zero: best.zero,
            squared_error: best.squared_error * unit * unit,
        });
    }
    best_of_points(&Points { values, weights: None, low, high }, family, round_scale)
}

/// [`best_grid`] for `points` that stand for so many equal values each, as the bins of a histogram do.
pub(crate) fn best_grid_weighted(
    points: &[f64],
    weights: &[u64],
    family: &GridFamily,
    round_scale: &dyn Fn(f64) -> f64,
) -> Option<BestGrid> {
    let pairs = points.iter().zip(weights).filter(|&(_, &weight)| weight > 0);
    let (values, weights): (Vec<f64>, Vec<f64>) = pairs.map(|(&x, &weight)| (x, weight as f64)).unzip();
    let (low, high) = extremes(&values);
    let largest = high.max(-low);
    if !(largest > 0.0 && largest.is_finite()) {
        return None;
    }
    let unit = largest.log2().floor().min(1022.0).exp2();
    let unit = if (1e-90..1e90).contains(&unit) { 1.0 } else { unit };
    let values: Vec<f64> = values.iter().map(|x| x / unit).collect();
    let points = Points { values: &values, weights: Some(&weights), low: low / unit, high: high / unit };
    let best = best_of_points(&points, family, &|scale| round_scale(scale * unit) / unit)?;
    Some(BestGrid { scale: best.scale * unit, squared_error: best.squared_error * unit * unit, ..best })
}

/// The least and the largest value; zero for none.
fn extremes<T: Real>(values: &[T]) -> (f64, f64) {
    let (mut low, mut high) = ([T::infinity()], [T::neg_infinity()]);
    min_max(values, values.len().max(1), 0, &mut low, &mut high);
    if values.is_empty() { (0.0, 0.0) } else { (Element::to_f64(low[0]), Element::to_f64(high[0])) }
}

/// Sums over all values under one grid, l being a value's level in units of the scale.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    error: f64,
    weight: f64,
    x: f64,
    l: f64,
    lx: f64,
    ll: f64,
}

impl<T: Real> Points<'_, T> {
    /// All sums in f64.
    fn sums(&self, scale: f64, zero: f64, family: &GridFamily) -> Sums {
        // Independent lanes, because every addition waits for the one before it.
        let mut lanes = [Sums::default(); 4];
        let (inverse, low, high) = (1.0 / scale, f64::from(family.q_min), f64::from(family.q_max));
        const MAGIC: f64 = 6_755_399_441_055_744.0;
        let add = |sums: &mut Sums, x: f64, weight: f64| {
            let v = x * inverse + zero;
            let v = if v < low { low } else { v };
            let v = if v > high { high } else { v };
            let l = ((v + MAGIC) - MAGIC) - zero;
            let error = x - scale * l;
            sums.error += weight * (error * error);
            sums.weight += weight;
            sums.x += weight * x;
            sums.l += weight * l;
            sums.lx += weight * (l * x);
            sums.ll += weight * (l * l);
        };
        let [first, ..] = &mut lanes;
        match self.weights {
            Some(weights) => {
                self.values.iter().zip(weights).for_each(|(&x, &w)| add(first, Element::to_f64(x), w));
            }
            None => {
                let (chunks, rest) = self.values.as_chunks::<4>();
                rest.iter().for_each(|&x| add(first, Element::to_f64(x), 1.0));
                for chunk in chunks {
                    for (lane, &x) in lanes.iter_mut().zip(chunk) {
                        add(lane, Element::to_f64(x), 1.0);
                    }
                }
            }
        }
        lanes.iter().fold(Sums::default(), |a, b| Sums {
            error: a.error + b.error,
            weight: a.weight + b.weight,
            x: a.x + b.x,
            l: a.l + b.l,
            lx: a.lx + b.lx,
            ll: a.ll + b.ll,
        })
    }

    /// Whether f32 is precise enough to tell how the codes change where the scale does.
    fn is_plain(&self, family: &GridFamily) -> bool {
        let codes = f64::from(family.q_max) - f64::from(family.q_min);
        self.weights.is_none() && family.zero != ZeroRule::Real && codes <= 1024.0
    }

    /// The squared error in f64, for a zero point that is not any number.
    fn exact_error(&self, scale: f64, zero: f64, family: &GridFamily) -> f64 {
        match self.weights {
            None => squares(self.values, scale, family.ruler(scale, zero)),
            Some(_) => self.sums(scale, zero, family).error,
        }
    }

    /// The best scale for the codes of a grid.
    fn fitted_scale(&self, scale: f64, zero: f64, family: &GridFamily) -> f64 {
        if self.is_plain(family) {
            let [_, squares] = sizes(self.values);
            let (lx, ll) = misfit(self.values, family.ruler(scale, zero)).products_of(squares, scale);
            return lx / ll;
        }
        let sums = self.sums(scale, zero, family);
        sums.lx / sums.ll
    }

    /// The squared error alone, in the arithmetic of the values where that is precise enough to rank grids.
    fn error(&self, scale: f64, zero: f64, family: &GridFamily) -> f64 {
        const LANES: usize = 8;
        let codes = f64::from(family.q_max) - f64::from(family.q_min);
        if self.weights.is_some() || (T::TYPE != FloatType::F64 && codes > 1024.0) {
            return self.sums(scale, zero, family).error;
        }
        if family.zero != ZeroRule::Real {
            return scale * scale * misfit(self.values, family.ruler(scale, zero)).squares;
        }
        let t = |x: f64| <T as Element>::from_f64(x);
        let magic = t(if T::TYPE == FloatType::F64 { 6_755_399_441_055_744.0 } else { 12_582_912.0 });
        let (inverse, scale, zero) = (t(1.0 / scale), t(scale), t(zero));
        let (low, high) = (t(f64::from(family.q_min)), t(f64::from(family.q_max)));
        let square = |x: T| {
            let v = x * inverse + zero;
            let v = if v < low { low } else { v };
            let v = if v > high { high } else { v };
            let error = x - scale * (((v + magic) - magic) - zero);
            error * error
        };
        let mut total = 0.0;
        for block in self.values.chunks(1024) {
            let mut sums = [T::zero(); LANES];
            let (chunks, rest) = block.as_chunks::<LANES>();
            for chunk in chunks {
                for (sum, &x) in sums.iter_mut().zip(chunk) {
                    *sum += square(x);
                }
            }
            let rest: f64 = rest.iter().map(|&x| Element::to_f64(square(x))).sum();
            total += rest + sums.iter().map(|&x| Element::to_f64(x)).sum::<f64>();
        }
        total
    }
}

impl<T> Points<'_, T> {
    /// The number of values that the points stand for.
    fn weight(&self) -> f64 {
        self.weights.map_or(self.values.len() as f64, |weights| weights.iter().sum())
    }
}

/// Makes equal values one weighted point where few are different, and searches.
fn best_of_points<T: Real>(
    points: &Points<'_, T>,
    family: &GridFamily,
    round_scale: &dyn Fn(f64) -> f64,
) -> Option<BestGrid> {
    let few = match points.values.len() {
        0..=FEW => true,
        _ => repeats(points.values),
    };
    let Some((values, weights)) = few.then(|| summary::different(points, FEW)).flatten() else {
        return Search { points, family, round_scale, few: false }.run();
    };
    let points = Points { values: &values, weights: Some(&weights), low: points.low, high: points.high };
    Search { points: &points, family, round_scale, few: true }.run()
}

/// Whether a sample of 64 values repeats itself, as continuous ones hardly do.
fn repeats<T: Real>(values: &[T]) -> bool {
    let mut sample = [0.0; 64];
    let stride = (values.len() / sample.len()).max(1);
    for (slot, &x) in sample.iter_mut().zip(values.iter().step_by(stride)) {
        *slot = Element::to_f64(x);
    }
    sample.sort_unstable_by(f64::total_cmp);
    sample.windows(2).filter(|pair| matches!(pair, [a, b] if a == b)).count() >= 4
}

#[cfg(test)]
mod tests;
