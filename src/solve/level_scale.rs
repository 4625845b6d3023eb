//! The scale of least squared error for given levels:
//!
//! ```text
//! min over S of  E = Σ h (x − S·l)²,   l the level nearest to x / S
//! ```
//!
//! For given codes the best scale is `S = Σ h x l / Σ h l²` (Hwang and Sung 2014), so scales and codes improve in turns
//! from the best of many scales. Where a value gets another level than the nearest (rounding of logarithms), codes
//! follow that rule.

use crate::element::{Element, Real};

/// Levels in ascending order, and between each two of them the smallest value that gets the upper one, for a scale of 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cells<'a> {
    /// The levels.
    pub levels: &'a [f64],
    /// One less than there are levels.
    pub cuts: &'a [f64],
}

/// Values in order, with the sums of weights, of weighted values and of weighted squares below each.
struct Sorted {
    values: Vec<f64>,
    weight: Vec<f64>,
    first: Vec<f64>,
    square: f64,
}

impl Sorted {
    fn new(mut points: Vec<(f64, f64)>) -> Self {
        points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut weight, mut first, mut square) = (vec![0.0], vec![0.0], 0.0);
        let (mut w, mut wx) = (0.0, 0.0);
        for &(x, h) in &points {
            w += h;
            wx += h * x;
            square += h * x * x;
            weight.push(w);
            first.push(wx);
        }
        Self { values: points.into_iter().map(|(x, _)| x).collect(), weight, first, square }
    }

    /// `Σ h x l` and `Σ h l²` with the levels of `x / scale`.
    fn sums(&self, Cells { levels, cuts }: Cells<'_>, scale: f64) -> (f64, f64) {
        let (mut from, mut cross, mut level_square) = (0, 0.0, 0.0);
        for (i, &level) in levels.iter().enumerate() {
            let to = match cuts.get(i) {
                Some(&cut) => {
                    let cut = scale * cut;
                    let rest = self.values.get(from..).unwrap_or_default();
                    from + rest.partition_point(|&x| x < cut)
                }
                None => self.values.len(),
            };
            let sum = |sums: &[f64]| match (sums.get(to), sums.get(from)) {
                (Some(to), Some(from)) => to - from,
                _ => 0.0,
            };
            cross += level * sum(&self.first);
            level_square += level * level * sum(&self.weight);
            from = to;
        }
        (cross, level_square)
    }

    fn error(&self, cells: Cells<'_>, scale: f64) -> f64 {
        let (cross, level_square) = self.sums(cells, scale);
        (self.square - 2.0 * scale * cross + scale * scale * level_square).max(0.0)
    }
}

/// A scale and what it costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BestScale {
    /// S, a rounded one.
    pub scale: f64,
    /// The sum of squared errors.
    pub squared_error: f64,
}

/// Scales that are tried between the ends, and the ends as shares of the scale that maps the largest value to the
/// outermost level: below, everything is clipped; beyond, half the levels are unused.
const TRIED: u32 = 160;
const ENDS: (f64, f64) = (0.08, 2.0);
/// Minima that are followed.
const FOLLOWED: usize = 4;

/// The scale of the least squared error of `values` on the levels of `cells`, each value with its weight in `weights` if
/// there are any. `round` rounds a scale to the type it is stored in; only rounded scales are compared. `None` if all
/// values are zero or no positive scale holds them.
///
/// Never worse than the scale that maps the largest value to the outermost level of its side, and than the stored scale
/// `known`.
///
/// Time: a sort, and O(levels · log n) for each of some 200 scales.
pub(crate) fn best_level_scale<T: Real>(
    values: &[T],
    weights: Option<&[T]>,
    cells: Cells<'_>,
    known: Option<f64>,
    round: &dyn Fn(f64) -> f64,
) -> Option<BestScale> {
    let weight = |i: usize| weights.map_or(1.0, |all| all.get(i).map_or(0.0, |&h| Element::to_f64(h)));
    let points = values.iter().enumerate().map(|(i, &x)| (Element::to_f64(x), weight(i))).collect();
    best_of_points(points, cells, known, round)
}

/// [`best_level_scale`] for points with their weights.
pub(crate) fn best_of_points(
    points: Vec<(f64, f64)>,
    cells: Cells<'_>,
    known: Option<f64>,
    round: &dyn Fn(f64) -> f64,
) -> Option<BestScale> {
    let levels = cells.levels;
    let (bottom, top) = (*levels.first()?, *levels.last()?);
    // The scale at which both ends are covered.
    let needed = |&(x, _): &(f64, f64)| {
        let side = if x > 0.0 { top } else { bottom };
        if x != 0.0 && side != 0.0 && (x > 0.0) == (side > 0.0) { x / side } else { 0.0 }
    };
    let full = points.iter().map(needed).fold(0.0, f64::max);
    if !(full > 0.0 && full.is_finite()) {
        return None;
    }
    // Squares of extreme values leave the range of floats.
    let unit = full.log2().floor().min(1022.0).exp2();
    let points = points.into_iter().map(|(x, h)| (x / unit, h)).collect();
    let (sorted, full) = (Sorted::new(points), full / unit);
    let stored = |scale: f64| round(scale * unit) / unit;
    let evaluate = |scale: f64| {
        let scale = stored(scale);
        let usable = scale > 0.0 && scale.is_finite();
        usable.then(|| BestScale { scale, squared_error: sorted.error(cells, scale) })
    };
    let known = known.and_then(|known| evaluate(known / unit));
    let mut best = match (evaluate(full), known) {
        (Some(full), Some(known)) if known.squared_error <= full.squared_error => known,
        (full, known) => full.or(known)?,
    };
    let keep = |found: Option<BestScale>, best: &mut BestScale| {
        if let Some(found) = found.filter(|found| found.squared_error < best.squared_error) {
            *best = found;
        }
    };
    let ratio = (ENDS.1 / ENDS.0).powf(1.0 / f64::from(TRIED));
    let tried = (0..=TRIED).map(|i| stored(full * ENDS.0 * ratio.powi(i as i32)));
    let mut scales: Vec<f64> = tried.filter(|&scale| scale > 0.0 && scale.is_finite()).collect();
    scales.dedup();
    let errors: Vec<f64> = scales.iter().map(|&scale| sorted.error(cells, scale)).collect();
    let neighbour = |i: usize| errors.get(i).copied().unwrap_or(f64::INFINITY);
    let mut minima: Vec<usize> = (0..errors.len())
        .filter(|&i| neighbour(i) <= neighbour(i.wrapping_sub(1)) && neighbour(i) <= neighbour(i + 1))
        .collect();
    minima.sort_by(|&a, &b| neighbour(a).total_cmp(&neighbour(b)).then(a.cmp(&b)));
    for at in minima.into_iter().take(FOLLOWED) {
        let Some(&start) = scales.get(at) else { continue };
        let mut scale = start;
        for _ in 0..32 {
            let (cross, level_square) = sorted.sums(cells, scale);
            let next = cross / level_square;
            if !(next > 0.0 && next.is_finite()) || next == scale {
                break;
            }
            scale = next;
        }
        keep(evaluate(scale), &mut best);
        keep(evaluate(start), &mut best);
        // Where scales are coarse, the best stored one need not be the nearest.
        for beside in [scale * ratio, scale / ratio] {
            keep(evaluate(beside), &mut best);
        }
    }
    Some(BestScale { scale: best.scale * unit, squared_error: best.squared_error * unit * unit })
}

#[cfg(test)]
mod tests {
    use super::super::samples::SplitMix64;
    use super::*;

    const NF4_LIKE: [f64; 16] =
        [-1.0, -0.70, -0.53, -0.39, -0.28, -0.18, -0.09, 0.0, 0.08, 0.16, 0.25, 0.34, 0.44, 0.56, 0.72, 1.0];

    fn nearest_scale<T: Real>(
        values: &[T],
        weights: Option<&[T]>,
        levels: &[f64],
        round: &dyn Fn(f64) -> f64,
    ) -> Option<BestScale> {
        let cuts: Vec<f64> = levels.windows(2).map(|pair| pair[0] * 0.5 + pair[1] * 0.5).collect();
        best_level_scale(values, weights, Cells { levels, cuts: &cuts }, None, round)
    }

    fn error_of(values: &[f64], levels: &[f64], scale: f64) -> f64 {
        let nearest = |x: f64| levels.iter().map(|l| (x - scale * l).powi(2)).fold(f64::INFINITY, f64::min);
        values.iter().map(|&x| nearest(x)).sum()
    }

    #[test]
    fn no_scale_of_a_fine_search_is_better() {
        let mut random = SplitMix64(3);
        for levels in [&[-1.0, 0.0, 1.0][..], &NF4_LIKE, &[0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]] {
            for n in [1, 3, 32, 500] {
                let values: Vec<f64> = (0..n).map(|_| random.laplace() * 3e-5).collect();
                let best = nearest_scale(&values, None, levels, &|scale| scale);
                let largest = values.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
                let top = levels[levels.len() - 1];
                let trial = |i: i32| error_of(&values, levels, largest / top * 1.003f64.powi(i));
                let searched = (-900..300).map(trial).fold(f64::INFINITY, f64::min);
                let Some(best) = best else { continue };
                let found = error_of(&values, levels, best.scale);
                assert!((found - best.squared_error).abs() <= 1e-9 * found + 1e-24, "{n}");
                // Shallow minima between the tried scales may be missed.
                assert!(found <= searched * 1.01 + 1e-24, "{n} {}: {found} {searched}", levels.len());
            }
        }
    }

    #[test]
    fn extremes_and_weights() {
        let round = |scale: f64| scale;
        assert_eq!(nearest_scale(&[0.0f32; 4], None, &NF4_LIKE, &round), None);
        assert_eq!(nearest_scale::<f32>(&[], None, &NF4_LIKE, &round), None);
        assert_eq!(nearest_scale(&[-1.0f32], None, &[0.0, 1.0], &round), None);
        let best = nearest_scale(&[f64::MAX, -f64::MAX], None, &[-1.0, 0.0, 1.0], &round).unwrap();
        assert_eq!(best.scale, f64::MAX);
        // Only what weighs is fitted.
        let best = nearest_scale(&[1.0f32, 10.0], Some(&[1.0, 0.0]), &[0.0, 1.0], &round).unwrap();
        assert_eq!((best.scale, best.squared_error), (1.0, 0.0));
        // Only stored scales are compared: 0.0132 with 2, 0.0164 with 1.
        let powers = |scale: f64| scale.log2().round().exp2();
        let best = nearest_scale(&[0.9f32, 0.8, -0.7], None, &NF4_LIKE, &powers).unwrap();
        assert_eq!(best.scale, 2.0);
        assert!((best.squared_error - 0.0132).abs() < 1e-7);
    }
}
