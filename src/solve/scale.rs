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
//! 1. A table ([`table`]) gives E in O(levels) for any scale. The scales between bounds that hold the
//!    optimum are scanned in steps of a fraction of the width of a minimum.
//! 2. The deepest minima are evaluated on the values themselves.
//! 3. Few values: all assignments of codes in the neighbourhood are tried ([`sweep`]). Many: scale and codes
//!    are improved in turns.
//!
//! The least and largest scale that can be best: a smaller one than the first clips more than the best grid
//! errs; in a grid of a larger one than the last, half the levels are unused, so half the scale is as good.

mod sweep;
mod table;

use crate::element::{Element, FloatType, Real};
use table::{Table, Window};

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
/// Up to 8 bits the error is within 1e-4 of the least that an exhaustive search finds with a fixed or
/// integer zero point. Above, minima are too many to visit all: the scan is limited to about a thousand
/// scales. A real zero point adds a dimension, searched in eighths of a step. Never worse than the
/// minimum and maximum of the values as the ends of the grid.
///
/// Time O(n + levels), about 15 passes over the values and a few hundred looks at each level; memory
/// O(levels).
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
    let exponent = largest.log2().floor();
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
    let unit = largest.log2().floor().exp2();
    let unit = if (1e-90..1e90).contains(&unit) { 1.0 } else { unit };
    let values: Vec<f64> = values.iter().map(|x| x / unit).collect();
    let points = Points { values: &values, weights: Some(&weights), low: low / unit, high: high / unit };
    let best = best_of_points(&points, family, &|scale| round_scale(scale * unit) / unit)?;
    Some(BestGrid { scale: best.scale * unit, squared_error: best.squared_error * unit * unit, ..best })
}

/// The least and the largest value; zero for none.
fn extremes<T: Real>(values: &[T]) -> (f64, f64) {
    const LANES: usize = 8;
    let Some(&first) = values.first() else { return (0.0, 0.0) };
    let (mut low, mut high) = ([first; LANES], [first; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for ((low, high), &x) in low.iter_mut().zip(&mut high).zip(chunk) {
            *low = if x < *low { x } else { *low };
            *high = if x > *high { x } else { *high };
        }
    }
    let ends = low.iter().chain(&high).chain(rest).map(|&x| Element::to_f64(x));
    ends.fold((Element::to_f64(first), Element::to_f64(first)), |(low, high), x| (low.min(x), high.max(x)))
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
        let mut sums = Sums::default();
        let (inverse, low, high) = (1.0 / scale, f64::from(family.q_min), f64::from(family.q_max));
        const MAGIC: f64 = 6_755_399_441_055_744.0;
        let mut add = |x: f64, weight: f64| {
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
        match self.weights {
            Some(weights) => self.values.iter().zip(weights).for_each(|(&x, &w)| add(Element::to_f64(x), w)),
            None => self.values.iter().for_each(|&x| add(Element::to_f64(x), 1.0)),
        }
        sums
    }

    /// The squared error alone, in the arithmetic of the values where that is precise enough to rank grids.
    fn error(&self, scale: f64, zero: f64, family: &GridFamily) -> f64 {
        const LANES: usize = 8;
        let codes = f64::from(family.q_max) - f64::from(family.q_min);
        if self.weights.is_some() || (T::TYPE != FloatType::F64 && codes > 1024.0) {
            return self.sums(scale, zero, family).error;
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

/// Sorts few values, so that equal ones become one weighted point, and searches.
fn best_of_points<T: Real>(
    points: &Points<'_, T>,
    family: &GridFamily,
    round_scale: &dyn Fn(f64) -> f64,
) -> Option<BestGrid> {
    if points.values.len() > FEW {
        return Search { points, family, round_scale, few: false }.run();
    }
    let weight = |i: usize| points.weights.and_then(|weights| weights.get(i)).copied().unwrap_or(1.0);
    let mut pairs: Vec<(f64, f64)> =
        points.values.iter().enumerate().map(|(i, &x)| (Element::to_f64(x), weight(i))).collect();
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    pairs.dedup_by(|next, kept| {
        let equal = next.0 == kept.0;
        if equal {
            kept.1 += next.1;
        }
        equal
    });
    let (values, weights): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    let points = Points { values: &values, weights: Some(&weights), low: points.low, high: points.high };
    Search { points: &points, family, round_scale, few: true }.run()
}

/// A minimum of the scan: its scale, the scales on either side, and the grid around it.
#[derive(Debug, Clone, Copy)]
struct Minimum {
    bracket: [f64; 3],
    error: f64,
    phase: f64,
    below: usize,
}

/// How many minima of the table's error are looked at on the values.
const MINIMA: usize = 12;

struct Search<'a, T> {
    points: &'a Points<'a, T>,
    family: &'a GridFamily,
    round_scale: &'a dyn Fn(f64) -> f64,
    few: bool,
}

impl<T: Real> Search<'_, T> {
    fn run(&self) -> Option<BestGrid> {
        let (q_min, q_max) = (f64::from(self.family.q_min), f64::from(self.family.q_max));
        let mut best: Option<BestGrid> = None;
        for (scale, zero) in self.min_max() {
            self.offer(scale, zero, &mut best);
        }
        let levels = (q_max - q_min + 1.0).max(1.0) as usize;
        let Points { low, high, .. } = *self.points;
        let (centre, window, fold, phases) = match self.family.zero {
            ZeroRule::Fixed(zero) => {
                let code = zero.round_ties_even().clamp(q_min, q_max);
                let phase = (code - zero).clamp(-0.5, 0.5);
                let (mut above, mut below) = ((q_max - code) as usize, (code - q_min) as usize);
                // A grid that is its own mirror image needs only magnitudes.
                let fold = above as f64 + phase == below as f64 - phase;
                if fold {
                    (above, below) = (above.max(below), 0);
                }
                let phase = if fold {
                    phase.abs() * if above as f64 + phase.abs() > q_max - q_min { -1.0 } else { 1.0 }
                } else {
                    phase
                };
                if fold && phase == 0.5 {
                    above = levels / 2 - 1;
                }
                (0.0, Window::Fixed { above, below }, fold, vec![phase])
            }
            ZeroRule::Integer => (0.0, Window::Free { others: levels - 1 }, false, vec![0.0]),
            ZeroRule::Real => {
                let phases = (0..8).map(|i| f64::from(i) / 8.0 - 0.5).collect();
                (0.5 * (low + high), Window::Free { others: levels - 1 }, false, phases)
            }
        };
        let per_level = if self.few { 16 } else { 8 };
        let cells = match self.points.values.len() {
            n if n > 1 << 18 => (levels * 32).clamp(4096, 1 << 17),
            _ => (levels * per_level / if fold { 2 } else { 1 }).clamp(512, 1 << 16),
        };
        let table = Table::new(self.points, centre, fold, cells);
        let mut minima = Vec::new();
        for phase in phases {
            self.scan(
                &table,
                phase,
                window,
                best.map_or(f64::INFINITY, |best| best.squared_error),
                &mut minima,
            );
        }
        minima.sort_by(|a: &Minimum, b| a.error.total_cmp(&b.error));
        minima.truncate(4 * MINIMA);
        for minimum in &mut minima {
            refine(minimum, &table, window);
        }
        minima.sort_by(|a: &Minimum, b| a.error.total_cmp(&b.error));
        minima.truncate(MINIMA);
        let zero_of = |minimum: &Minimum, scale: f64| match self.family.zero {
            ZeroRule::Fixed(zero) => zero,
            ZeroRule::Integer => q_min + minimum.below as f64,
            ZeroRule::Real => q_min + minimum.below as f64 - minimum.phase - centre / scale,
        };
        if self.few {
            for minimum in &minima {
                let [low, scale, high] = minimum.bracket;
                let zero = zero_of(minimum, scale);
                if !matches!(self.family.zero, ZeroRule::Real)
                    && let Some(scale) = sweep::best_scale(self.points, self.family, zero, low, high)
                {
                    self.offer(scale, zero, &mut best);
                } else {
                    self.improve(scale, zero, 20, &mut best);
                }
            }
            return best;
        }
        let mut ranked: Vec<(f64, f64, f64, Minimum)> = Vec::with_capacity(minima.len());
        for minimum in minima {
            let scale = (self.round_scale)(minimum.bracket[1]);
            if scale > 0.0 && scale.is_finite() {
                let zero = zero_of(&minimum, scale);
                ranked.push((self.points.error(scale, zero, self.family), scale, zero, minimum));
            }
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        for &(error, scale, zero, minimum) in ranked.iter().take(3) {
            let (scale, zero) = self.vertex(error, scale, zero, &minimum, &zero_of);
            self.improve(scale, zero, 2, &mut best);
        }
        best
    }

    /// The grids whose ends are the least and largest value.
    fn min_max(&self) -> Vec<(f64, f64)> {
        let (q_min, q_max) = (f64::from(self.family.q_min), f64::from(self.family.q_max));
        let Points { low, high, .. } = *self.points;
        let steps = (q_max - q_min).max(1.0);
        let (wide_low, wide_high) = (low.min(0.0), high.max(0.0));
        match self.family.zero {
            ZeroRule::Fixed(zero) => {
                let largest = high.max(-low);
                let up = if q_max > zero { high / (q_max - zero) } else { 0.0 };
                let down = if zero > q_min { -low / (zero - q_min) } else { 0.0 };
                vec![
                    (largest / (q_max - zero).abs().max(0.5), zero),
                    (up.max(down), zero),
                    (2.0 * largest / steps, zero),
                ]
            }
            ZeroRule::Integer => {
                let scale = (self.round_scale)((wide_high - wide_low) / steps);
                let zero = (q_min - (wide_low / scale).round_ties_even()).clamp(q_min, q_max);
                vec![(scale, if zero.is_nan() { q_min } else { zero })]
            }
            ZeroRule::Real => {
                let wide = (self.round_scale)((wide_high - wide_low) / steps);
                let narrow = (self.round_scale)((high - low) / steps);
                vec![(wide, q_min - wide_low / wide), (narrow, q_min - low / narrow)]
            }
        }
    }

    /// Evaluates a grid exactly and keeps it if it is the best so far.
    fn offer(&self, scale: f64, zero: f64, best: &mut Option<BestGrid>) -> Option<Sums> {
        let scale = (self.round_scale)(scale);
        if !(scale > 0.0 && scale.is_finite() && zero.is_finite()) {
            return None;
        }
        let sums = self.points.sums(scale, zero, self.family);
        if best.is_none_or(|best| sums.error < best.squared_error) {
            *best = Some(BestGrid { scale, zero, squared_error: sums.error });
        }
        Some(sums)
    }

    /// The best scale (and real zero point) for the codes, then the codes for those, while it helps.
    fn improve(&self, mut scale: f64, mut zero: f64, rounds: usize, best: &mut Option<BestGrid>) {
        let mut last = f64::INFINITY;
        for _ in 0..=rounds {
            let Some(sums) = self.offer(scale, zero, best) else { return };
            if sums.error >= last * (1.0 - 1e-9) {
                return;
            }
            last = sums.error;
            if self.family.zero == ZeroRule::Real {
                let spread = sums.weight * sums.ll - sums.l * sums.l;
                if !(spread > 0.0) {
                    return;
                }
                let fitted = (self.round_scale)((sums.weight * sums.lx - sums.l * sums.x) / spread);
                zero -= (sums.x - fitted * sums.l) / (sums.weight * fitted);
                scale = fitted;
            } else {
                scale = sums.lx / sums.ll;
            }
        }
    }

    /// The vertex of the parabola through the errors at a minimum and close on both sides.
    fn vertex(
        &self,
        error: f64,
        scale: f64,
        zero: f64,
        minimum: &Minimum,
        zero_of: &dyn Fn(&Minimum, f64) -> f64,
    ) -> (f64, f64) {
        let [low, _, high] = minimum.bracket;
        let (left, right) = (0.5 * (low + scale), 0.5 * (high + scale));
        let at = |s: f64| self.points.error(s, zero_of(minimum, s), self.family);
        let Some(found) = parabola([left, scale, right], [at(left), error, at(right)]) else {
            return (scale, zero);
        };
        let rounded = (self.round_scale)(found);
        if at(rounded) < error { (rounded, zero_of(minimum, rounded)) } else { (scale, zero) }
    }

    /// The minima of the table's error over the scales that can be best.
    fn scan(&self, table: &Table, phase: f64, window: Window, mut best: f64, minima: &mut Vec<Minimum>) {
        let (up, down) = (table.up.max, table.down.max);
        let largest = up.max(down);
        let (start, end) = match window {
            Window::Fixed { above, below } => {
                let side = |max: f64, levels: f64| if levels > 0.0 { max / levels } else { 0.0 };
                let fit = side(up, above as f64 + phase).max(side(down, below as f64 - phase));
                let half = |max: f64, levels: usize| max / ((levels / 2) as f64 + 0.5);
                let end = if phase == 0.0 { half(up, above).max(half(down, below)) } else { 4.0 * fit };
                (fit, end.min(2.0 * largest))
            }
            Window::Free { others } => {
                let half = (others / 2) as f64;
                let end = if half > 1.0 { (up + down) / (half - 1.0) } else { 2.0 * largest };
                ((up + down) / others.max(1) as f64, end.min(2.0 * largest))
            }
        };
        if !(start > 0.0) {
            return;
        }
        let spread = (table.squares / (self.points.weight().max(1.0))).sqrt();
        let norm = table.squares.sqrt();
        // A minimum is as wide as it takes the codes to change: a fraction of 1 / (typical level).
        let finest = if self.points.values.len() > FEW { 0.1 } else { 0.08 };
        let step = |scale: f64, error: f64, best: f64| {
            let quick = 2.5 * (error.sqrt() - best.sqrt()) / norm;
            (finest * scale / spread).max(quick).clamp(1e-3, 0.04)
        };
        let mut samples: Vec<(f64, f64, usize)> = Vec::with_capacity(256);
        let mut scale = start;
        for _ in 0..1000 {
            let estimate = table.error(scale, phase, window);
            samples.push((scale, estimate.error, estimate.below));
            best = best.min(estimate.error);
            if estimate.clipped > best {
                break;
            }
            scale *= 1.0 - step(scale, estimate.error, best);
        }
        samples.reverse();
        scale = start;
        let mut error = samples.last().map_or(best, |sample| sample.1);
        for _ in 0..1000 {
            scale *= 1.0 + step(scale, error, best);
            let estimate = table.error(scale, phase, window);
            samples.push((scale, estimate.error, estimate.below));
            error = estimate.error;
            best = best.min(error);
            if scale > end {
                break;
            }
        }
        for three in samples.windows(3) {
            let &[a, b, c] = three else { continue };
            if b.1 <= a.1 && b.1 <= c.1 {
                minima.push(Minimum { bracket: [a.0, b.0, c.0], error: b.1, phase, below: b.2 });
            }
        }
    }
}

impl<T> Points<'_, T> {
    /// The number of values that the points stand for.
    fn weight(&self) -> f64 {
        self.weights.map_or(self.values.len() as f64, |weights| weights.iter().sum())
    }
}

/// Where the parabola through three points has its minimum, if it has one between them.
fn parabola(x: [f64; 3], y: [f64; 3]) -> Option<f64> {
    let (left, right) = (x[1] - x[0], x[2] - x[1]);
    let (fall, rise) = ((y[1] - y[0]) / left, (y[2] - y[1]) / right);
    let bend = rise - fall;
    let vertex = x[1] - (fall * right + rise * left) / (2.0 * bend);
    (bend > 0.0 && vertex > x[0] && vertex < x[2]).then_some(vertex)
}

/// Two steps of parabolic interpolation in the table.
fn refine(minimum: &mut Minimum, table: &Table, window: Window) {
    let [low, scale, high] = minimum.bracket;
    let mut x = [0.5 * (low + scale), scale, 0.5 * (scale + high)];
    for _ in 0..2 {
        let at = |s: f64| table.error(s, minimum.phase, window);
        let Some(found) = parabola(x, [at(x[0]).error, minimum.error, at(x[2]).error]) else { return };
        let estimate = at(found);
        if estimate.error >= minimum.error {
            return;
        }
        minimum.bracket[1] = found;
        (minimum.error, minimum.below) = (estimate.error, estimate.below);
        let reach = 0.25 * (x[2] - x[0]);
        x = [found - reach, found, found + reach];
    }
}

#[cfg(test)]
mod tests;
