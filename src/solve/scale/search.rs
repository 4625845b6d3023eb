//! The search itself: what is cheap to try, then the minima of a scan, then their exact bottoms.

use super::scan::{self, Bottom, Scan};
use super::summary::{Summary, at_least};
use super::{BestGrid, GridFamily, Points, ZeroRule, sweep};
use crate::element::Real;
use crate::kernel::misfit::sizes;

/// How many minima of the scan are looked at again.
const MINIMA: usize = 16;

/// The same where an evaluation is cheap.
pub(super) const FEW_MINIMA: usize = 32;

/// Up to so many values are swept around the deepest minima, and searched themselves rather than by a summary.
pub(super) const SWEPT: usize = 1 << 17;

/// What part less deep than the deepest a minimum of the scan may be to be looked at, and with it what the scan was found
/// wrong by so many times.
const LESS_DEEP: f64 = 0.003;
const WRONG_TIMES: f64 = 8.0;

/// How many of the deepest minima are improved.
const IMPROVED: usize = 3;

/// With more codes than these the minima are too many to visit, and too shallow to be worth it: what counts is
/// where the ends are.
const MOST_SCANNED: f64 = 256.0;

/// One search.
pub(super) struct Search<'a, T> {
    pub(super) points: &'a Points<'a, T>,
    pub(super) family: &'a GridFamily,
    /// Rounds a scale to its storage type.
    pub(super) round_scale: &'a dyn Fn(f64) -> f64,
    /// Whether the values are few, sorted and different.
    pub(super) few: bool,
}

impl<T: Real> Search<'_, T> {
    /// The best grid found.
    pub(super) fn run(&self) -> Option<BestGrid> {
        let codes = f64::from(self.family.q_max) - f64::from(self.family.q_min);
        let mut best: Option<BestGrid> = None;
        let mut ends = self.min_max();
        ends.dedup();
        if codes > MOST_SCANNED {
            self.offer_all(&ends, &mut best);
            self.shrink(&ends, &mut best);
            return best;
        }
        if self.points.weights.is_none() && self.points.values.len() > SWEPT && self.by_summary(&mut best) {
            self.offer_rivals(&ends, &mut best);
            return best;
        }
        if self.family.zero == ZeroRule::Real {
            self.offer_all(&ends, &mut best);
            self.by_table(&mut best);
        } else if self.points.weights.is_none() {
            let errors = ends.iter().filter_map(|&(scale, zero)| self.look(scale, zero));
            self.by_values(errors.fold(f64::INFINITY, f64::min), &mut best);
            self.offer_rivals(&ends, &mut best);
        } else {
            self.offer_all(&ends, &mut best);
            if self.few && self.sweep_all(&mut best) {
                return best;
            }
            self.by_values(best.map_or(f64::INFINITY, |best| best.squared_error), &mut best);
        }
        self.neighbours(&mut best);
        best
    }

    /// The grid that is best for a summary of the values, and the best scale for its codes. Whether there is one.
    fn by_summary(&self, best: &mut Option<BestGrid>) -> bool {
        let Some(summary) = Summary::new(self.points) else { return false };
        let points = summary.points(self.points.low, self.points.high);
        let search =
            Search { points: &points, family: self.family, round_scale: self.round_scale, few: false };
        let Some(found) = search.run() else { return false };
        self.improve(found.scale, found.zero, 1, best);
        best.is_some()
    }

    /// Evaluates grids exactly and keeps the best.
    fn offer_all(&self, grids: &[(f64, f64)], best: &mut Option<BestGrid>) {
        for &(scale, zero) in grids {
            self.offer(scale, zero, best);
        }
    }

    /// The same for those only that a cheaper look does not tell to be worse than the best.
    fn offer_rivals(&self, grids: &[(f64, f64)], best: &mut Option<BestGrid>) {
        let [_, squares] = sizes(self.points.values);
        for &(scale, zero) in grids {
            let least = self.look(scale, zero).map_or(0.0, |error| at_least::<T>(error, squares));
            if best.is_none_or(|best| best.squared_error > least) {
                self.offer(scale, zero, best);
            }
        }
    }

    /// The minima of the error, all of it looked at on the values. `known` is an error that is known to be reached.
    fn by_values(&self, known: f64, best: &mut Option<BestGrid>) {
        let mut scan = Scan::new(self.points, self.family);
        let coarse = self.is_coarse();
        let round: &dyn Fn(f64) -> f64 = if coarse { self.round_scale } else { &|scale| scale };
        let samples = scan.run(round, known);
        let (most, improved) = if self.few { (FEW_MINIMA, FEW_MINIMA) } else { (MINIMA, IMPROVED) };
        let mut bottoms: Vec<Bottom> = Vec::with_capacity(most + 1);
        let deepest = samples.iter().min_by(|a, b| a.error.total_cmp(&b.error));
        bottoms.extend(deepest.copied().map(Bottom::from));
        let mut least = deepest.map_or(f64::INFINITY, |sample| sample.error);
        let mut less = LESS_DEEP;
        for dip in scan::dips(&samples).iter().take(most) {
            if !self.few && dip.error > least * (1.0 + less) {
                break;
            }
            let bottom = scan.bottom(dip, if self.few { f64::INFINITY } else { least });
            least = least.min(bottom.sample.error);
            less = less.max((WRONG_TIMES * bottom.wrong).min(0.05));
            bottoms.push(bottom);
        }
        if coarse {
            // The best of few scales may be one that is not close to any minimum.
            for Bottom { sample, .. } in &mut bottoms {
                *sample = scan.sample(round(sample.scale), sample.zero);
            }
            bottoms.extend(samples.into_iter().map(Bottom::from));
        }
        bottoms.sort_by(|a, b| a.sample.error.total_cmp(&b.sample.error));
        let (n, squares) = (self.points.values.len() as f64, scan.squares());
        for Bottom { sample, wrong } in bottoms.into_iter().take(improved) {
            // What the last step gains is less the more values there are.
            let gain = 1.0 + 1.0 / n + 2e-5 + wrong;
            if !self.few && best.is_some_and(|best| sample.error > best.squared_error * gain) {
                break;
            }
            if self.points.values.len() > SWEPT {
                self.improve(sample.scale, sample.zero, 1, best);
                continue;
            }
            // Where the error is no cubic it may have another minimum anywhere between the samples; elsewhere it is only
            // the last few codes that are not known.
            let reach = scan.finest(sample.scale) * if wrong > 1e-4 { 1.0 } else { (400.0 / n).min(1.0) };
            let (low, high) = (sample.scale * (1.0 - reach), sample.scale * (1.0 + reach));
            let found = if self.points.weights.is_none() {
                sweep::best_of_many(self.points.values, squares, self.family, sample.zero, low, high)
            } else {
                sweep::best_scale(self.points, self.family, sample.zero, low, high)
            };
            self.improve(found.unwrap_or(sample.scale), sample.zero, 0, best);
        }
    }

    /// Every assignment of codes, where those are few. Whether nothing remains to be searched.
    fn sweep_all(&self, best: &mut Option<BestGrid>) -> bool {
        let (q_min, q_max) = (f64::from(self.family.q_min), f64::from(self.family.q_max));
        let codes = q_max - q_min;
        if codes * self.points.values.len() as f64 > 66_000.0 {
            return false;
        }
        let (up, down) = (self.points.high.max(0.0), (-self.points.low).max(0.0));
        match self.family.zero {
            ZeroRule::Fixed(zero) => {
                let (above, below) = (q_max - zero, zero - q_min);
                // A grid that ends so far below the largest value errs there by more than the best.
                let error = best.map_or(0.0, |best| best.squared_error.sqrt());
                let least = |max: f64, levels: f64| if levels > 0.0 { (max - error) / levels } else { 0.0 };
                let fit = |max: f64, levels: f64| if levels > 0.0 { max / levels } else { 0.0 };
                let low = least(up, above).max(least(down, below)).max(1e-3 * up.max(down) / codes.max(1.0));
                let high = if codes < 8.0 { 4.0 } else { 2.7 } * fit(up, above).max(fit(down, below));
                if high > low {
                    let found = sweep::best_scale(self.points, self.family, zero, low, high);
                    self.improve(found.unwrap_or(high), zero, 0, best);
                }
                self.neighbours(best);
                !self.is_coarse()
            }
            ZeroRule::Integer => {
                // Where no value is clipped, the zero point does not matter.
                let open = GridFamily { q_min: i32::MIN / 2, q_max: i32::MAX / 2, ..*self.family };
                let start = (up + down) / codes.max(1.0);
                let scale = sweep::best_scale(self.points, &open, 0.0, start, 2.7 * start).unwrap_or(start);
                let zero = (q_min + (down / scale).round_ties_even()).clamp(q_min, q_max);
                self.improve(scale, zero, 0, best);
                false
            }
            ZeroRule::Real => false,
        }
    }

    /// Grids of the same shape as those of `ends` and ever narrower, then narrower steps around the best.
    fn shrink(&self, ends: &[(f64, f64)], best: &mut Option<BestGrid>) {
        const STEP: f64 = 0.04;
        for &(scale, zero) in ends {
            for step in 1..=48 {
                self.offer(scale * (1.0 - STEP).powi(step), zero, best);
            }
        }
        for step in [STEP / 2.0, STEP / 4.0, STEP / 8.0] {
            let Some(BestGrid { scale, zero, .. }) = *best else { return };
            self.offer(scale * (1.0 - step), zero, best);
            self.offer(scale * (1.0 + step), zero, best);
        }
        if let Some(BestGrid { scale, zero, .. }) = *best {
            self.improve(scale, zero, 4, best);
        }
        self.neighbours(best);
    }

    /// Whether scales are stored with so few bits that a rounded one may be in another minimum.
    fn is_coarse(&self) -> bool {
        let one = (self.round_scale)(1.0);
        (self.round_scale)(one * (1.0 + 1.0 / 8192.0)) == one
    }

    /// Coarse types of scales leave few candidates, so that the best may be a step or more away from the
    /// best scale rounded.
    fn neighbours(&self, best: &mut Option<BestGrid>) {
        let Some(BestGrid { scale, zero, .. }) = *best else { return };
        if !self.is_coarse() {
            return;
        }
        for part in [1.0 / 128.0, 1.0 / 256.0, 1.0 / 1024.0, 1.0 / 2048.0] {
            self.offer(scale * (1.0 - part), zero, best);
            self.offer(scale * (1.0 + part), zero, best);
        }
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

    /// Evaluates a grid exactly and keeps it if it is the best so far. Its error.
    fn offer(&self, scale: f64, zero: f64, best: &mut Option<BestGrid>) -> Option<f64> {
        let scale = self.storable(scale, zero)?;
        let squared_error = match self.family.zero {
            ZeroRule::Real => self.points.sums(scale, zero, self.family).error,
            _ => self.points.exact_error(scale, zero, self.family),
        };
        if best.is_none_or(|best| squared_error < best.squared_error) {
            *best = Some(BestGrid { scale, zero, squared_error });
        }
        Some(squared_error)
    }

    /// The error of a grid in the arithmetic of the values.
    fn look(&self, scale: f64, zero: f64) -> Option<f64> {
        self.storable(scale, zero).map(|scale| self.points.error(scale, zero, self.family))
    }

    /// A scale as it is stored, if it and the zero point are numbers to make a grid of.
    fn storable(&self, scale: f64, zero: f64) -> Option<f64> {
        let scale = (self.round_scale)(scale);
        (scale > 0.0 && scale.is_finite() && zero.is_finite()).then_some(scale)
    }

    /// The best scale (and real zero point) for the codes, then the codes for those, while it helps.
    pub(super) fn improve(&self, scale: f64, zero: f64, rounds: usize, best: &mut Option<BestGrid>) {
        if self.family.zero == ZeroRule::Real {
            return self.improve_both(scale, zero, rounds, best);
        }
        let (mut scale, mut last) = (scale, f64::INFINITY);
        for round in 0..=rounds {
            let Some(error) = self.offer(scale, zero, best) else { return };
            if error >= last * (1.0 - 1e-9) || round == rounds {
                return;
            }
            last = error;
            scale = self.points.fitted_scale((self.round_scale)(scale), zero, self.family);
        }
    }

    /// The same with a real zero point.
    fn improve_both(&self, mut scale: f64, mut zero: f64, rounds: usize, best: &mut Option<BestGrid>) {
        let mut last = f64::INFINITY;
        for _ in 0..=rounds {
            let Some(stored) = self.storable(scale, zero) else { return };
            let sums = self.points.sums(stored, zero, self.family);
            if best.is_none_or(|best| sums.error < best.squared_error) {
                *best = Some(BestGrid { scale: stored, zero, squared_error: sums.error });
            }
            let spread = sums.weight * sums.ll - sums.l * sums.l;
            if sums.error >= last * (1.0 - 1e-9) || spread.is_nan() || spread <= 0.0 {
                return;
            }
            last = sums.error;
            scale = (self.round_scale)((sums.weight * sums.lx - sums.l * sums.x) / spread);
            zero -= (sums.x - scale * sums.l) / (sums.weight * scale);
        }
    }
}
