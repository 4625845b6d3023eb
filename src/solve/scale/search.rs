//! The search itself: bounds of the scale, the scan of the table for minima, and their evaluation on the values.

use super::table::{Table, Window};
use super::{BestGrid, GridFamily, Points, Sums, ZeroRule, sweep};
use crate::element::Real;

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

/// The same where an evaluation is cheap.
const FEW_MINIMA: usize = 32;

/// Up to so many values are swept around the deepest minima.
const SWEPT: usize = 1 << 17;

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
        let (q_min, q_max) = (f64::from(self.family.q_min), f64::from(self.family.q_max));
        let mut best: Option<BestGrid> = None;
        let mut ends = self.min_max();
        ends.dedup();
        for &(scale, zero) in &ends {
            self.offer(scale, zero, &mut best);
        }
        if q_max - q_min > MOST_SCANNED {
            self.shrink(&ends, &mut best);
            return best;
        }
        if self.few && self.sweep_all(&mut best) {
            return best;
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
                    (above, below) = (if phase == 0.0 { above } else { levels / 2 - 1 }, 0);
                }
                let phase = if fold { phase.abs() } else { phase };
                (0.0, Window::Fixed { above, below }, fold, vec![phase])
            }
            ZeroRule::Integer => (0.0, Window::Free { others: levels - 1 }, false, vec![0.0]),
            ZeroRule::Real => {
                let phases = (0..8).map(|i| f64::from(i) / 8.0 - 0.5).collect();
                (0.5 * (low + high), Window::Free { others: levels - 1 }, false, phases)
            }
        };
        let n = self.points.values.len();
        let cells =
            if n > 1 << 14 { (levels * 64).clamp(8192, 1 << 17) } else { (levels * 16).clamp(2048, 1 << 16) };
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
        let minima = self.subdivide(minima, &table, window);
        let zero_of = |minimum: &Minimum, scale: f64| match self.family.zero {
            ZeroRule::Fixed(zero) => zero,
            ZeroRule::Integer => q_min + minimum.below as f64,
            ZeroRule::Real => q_min + minimum.below as f64 - minimum.phase - centre / scale,
        };
        let real = self.family.zero == ZeroRule::Real;
        // The table is off by a few parts in ten thousand; deeper differences are real.
        let least = minima.first().map_or(0.0, |minimum| minimum.error);
        let mut ranked: Vec<(f64, f64, f64, Minimum)> = Vec::with_capacity(minima.len());
        let plausible = |minimum: &Minimum| self.few || real || minimum.error <= least * 1.0015;
        for minimum in minima.into_iter().filter(plausible) {
            let scale = (self.round_scale)(minimum.bracket[1]);
            if scale > 0.0 && scale.is_finite() {
                let zero = zero_of(&minimum, scale);
                let error =
                    if self.few { minimum.error } else { self.points.error(scale, zero, self.family) };
                ranked.push((error, scale, zero, minimum));
            }
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        for &(error, scale, zero, minimum) in ranked.iter().take(if self.few { FEW_MINIMA } else { 3 }) {
            // What the last steps gain is less the more values there are.
            let gain = 1.0 + 1.0 / n as f64 + 3e-4;
            if !self.few && !real && n <= SWEPT && best.is_some_and(|best| error > best.squared_error * gain)
            {
                break;
            }
            let [low, _, high] = minimum.bracket;
            if real {
                self.improve(scale, zero, if n > 1 << 14 { 3 } else { 20 }, &mut best);
            } else if n <= SWEPT {
                let found = sweep::best_scale(self.points, self.family, zero, low, high);
                self.improve(found.unwrap_or(scale), zero, 0, &mut best);
            } else {
                let (scale, zero) = self.vertex(error, scale, zero, &minimum, &zero_of);
                self.improve(scale, zero, 1, &mut best);
            }
        }
        self.neighbours(&mut best);
        best
    }

    /// The minima of the table's error at a finer step, deepest first.
    fn subdivide(&self, mut minima: Vec<Minimum>, table: &Table, window: Window) -> Vec<Minimum> {
        const PARTS: usize = 10;
        minima.sort_by(|a, b| a.error.total_cmp(&b.error));
        let least = minima.first().map_or(0.0, |minimum| minimum.error);
        // Rounding errors are nearly independent, so between samples n of them hide a dip of about this.
        let hidden = 1.0 + 1.0 / (self.points.values.len() as f64).sqrt() + 3e-4;
        let mut finer: Vec<Minimum> = Vec::with_capacity(4 * MINIMA);
        for minimum in minima
            .iter()
            .take(if self.few { FEW_MINIMA } else { MINIMA })
            .filter(|minimum| minimum.error <= least * hidden)
        {
            let [low, _, high] = minimum.bracket;
            let step = (high - low) / PARTS as f64;
            let at = |i: usize| {
                let scale = low + step * i as f64;
                (scale, table.error(scale, minimum.phase, window))
            };
            let (mut a, mut b) = (at(0), at(1));
            for i in 2..=PARTS {
                let c = at(i);
                if b.1.error <= a.1.error && b.1.error <= c.1.error {
                    finer.push(Minimum {
                        bracket: [a.0, b.0, c.0],
                        error: b.1.error,
                        below: b.1.below,
                        ..*minimum
                    });
                }
                (a, b) = (b, c);
            }
        }
        for minimum in &mut finer {
            refine(minimum, table, window);
        }
        finer.sort_by(|a, b| a.error.total_cmp(&b.error));
        finer.truncate(if self.few { FEW_MINIMA } else { MINIMA });
        finer
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
    pub(super) fn improve(&self, mut scale: f64, mut zero: f64, rounds: usize, best: &mut Option<BestGrid>) {
        let mut last = f64::INFINITY;
        for _ in 0..=rounds {
            let Some(sums) = self.offer(scale, zero, best) else { return };
            if sums.error >= last * (1.0 - 1e-9) {
                return;
            }
            last = sums.error;
            if self.family.zero == ZeroRule::Real {
                let spread = sums.weight * sums.ll - sums.l * sums.l;
                if spread.is_nan() || spread <= 0.0 {
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
        let (start, end) = bounds(table, phase, window);
        if start.is_nan() || start <= 0.0 {
            return;
        }
        let spread = (table.squares / (self.points.weight().max(1.0))).sqrt();
        let norm = table.squares.sqrt();
        // A minimum is as wide as it takes the codes to change: a fraction of 1 / (typical level).
        let finest = 0.1;
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
            let done = match window {
                Window::Fixed { .. } => estimate.clipped > best,
                // Another window of the same scale may clip less, though hardly half of this.
                Window::Free { others } if others >= 4 => estimate.clipped > 2.0 * best,
                Window::Free { .. } => scale < 0.01 * start,
            };
            if done {
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

/// Where the parabola through three points has its minimum, if it has one between them.
fn parabola(x: [f64; 3], y: [f64; 3]) -> Option<f64> {
    let (left, right) = (x[1] - x[0], x[2] - x[1]);
    let (fall, rise) = ((y[1] - y[0]) / left, (y[2] - y[1]) / right);
    let bend = rise - fall;
    let vertex = x[1] - (fall * right + rise * left) / (2.0 * bend);
    (bend > 0.0 && vertex > x[0] && vertex < x[2]).then_some(vertex)
}

/// The scale at which no value is clipped, and the largest scale that can be best.
fn bounds(table: &Table, phase: f64, window: Window) -> (f64, f64) {
    let (up, down) = (table.up.max, table.down.max);
    let largest = up.max(down);
    match window {
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
    }
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
