//! Real zero points: the minima of a table's error, for grids that begin at eighths of a step.
//!
//! A zero point that may be any number is a second dimension to search, too many grids to look at each on the values.

use super::BestGrid;
use super::search::{FEW_MINIMA, Search};
use super::table::Table;
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

impl<T: Real> Search<'_, T> {
    /// The minima of the error by a table of the values.
    pub(super) fn by_table(&self, best: &mut Option<BestGrid>) {
        let q_min = f64::from(self.family.q_min);
        let others = self.family.q_max.abs_diff(self.family.q_min) as usize;
        let (levels, centre) = (others + 1, 0.5 * (self.points.low + self.points.high));
        let n = self.points.values.len();
        let cells =
            if n > 1 << 14 { (levels * 64).clamp(8192, 1 << 17) } else { (levels * 16).clamp(2048, 1 << 16) };
        let table = Table::new(self.points, centre, cells);
        let mut minima = Vec::new();
        let least = best.map_or(f64::INFINITY, |best| best.squared_error);
        for phase in (0..8).map(|i| f64::from(i) / 8.0 - 0.5) {
            self.scan(&table, phase, others, least, &mut minima);
        }
        let mut ranked: Vec<(f64, f64, f64)> = Vec::with_capacity(minima.len());
        for minimum in self.subdivide(minima, &table, others) {
            let scale = (self.round_scale)(minimum.bracket[1]);
            if scale > 0.0 && scale.is_finite() {
                let zero = q_min + minimum.below as f64 - minimum.phase - centre / scale;
                let error =
                    if self.few { minimum.error } else { self.points.error(scale, zero, self.family) };
                ranked.push((error, scale, zero));
            }
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        for &(_, scale, zero) in ranked.iter().take(if self.few { FEW_MINIMA } else { 3 }) {
            self.improve(scale, zero, if n > 1 << 14 { 3 } else { 20 }, best);
        }
    }

    /// The minima of the table's error at a finer step, deepest first.
    fn subdivide(&self, mut minima: Vec<Minimum>, table: &Table, others: usize) -> Vec<Minimum> {
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
                (scale, table.error(scale, minimum.phase, others))
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
            refine(minimum, table, others);
        }
        finer.sort_by(|a, b| a.error.total_cmp(&b.error));
        finer.truncate(if self.few { FEW_MINIMA } else { MINIMA });
        finer
    }

    /// The minima of the table's error over the scales that can be best.
    fn scan(&self, table: &Table, phase: f64, others: usize, mut best: f64, minima: &mut Vec<Minimum>) {
        let (start, end) = bounds(table, others);
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
            let estimate = table.error(scale, phase, others);
            samples.push((scale, estimate.error, estimate.below));
            best = best.min(estimate.error);
            // Another window of the same scale may clip less, though hardly half of this.
            let done = if others >= 4 { estimate.clipped > 2.0 * best } else { scale < 0.01 * start };
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
            let estimate = table.error(scale, phase, others);
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
fn bounds(table: &Table, others: usize) -> (f64, f64) {
    let (up, down) = (table.up.max, table.down.max);
    let half = (others / 2) as f64;
    let end = if half > 1.0 { (up + down) / (half - 1.0) } else { f64::INFINITY };
    ((up + down) / others.max(1) as f64, end.min(2.0 * up.max(down)))
}

/// Two steps of parabolic interpolation in the table.
fn refine(minimum: &mut Minimum, table: &Table, others: usize) {
    let [low, scale, high] = minimum.bracket;
    let mut x = [0.5 * (low + scale), scale, 0.5 * (scale + high)];
    for _ in 0..2 {
        let at = |s: f64| table.error(s, minimum.phase, others);
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
