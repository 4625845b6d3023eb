//! Scalar quantizers of a distribution: levels, thresholds between them, and what they cost.
//!
//! With cells [t_k, t_k+1) of probability p_k and levels c_k, the cost is the Lagrangian
//!
//! ```text
//! J = D + lambda H,   D = sum of E[(x - c_k)^2; cell k],   H = - sum p_k log2 p_k.
//! ```
//!
//! λ = 0 is the problem of Lloyd and Max, λ > 0 the entropy-constrained one. In both the best levels are the
//! centroids of the cells, so J is a function of the thresholds alone. At the threshold t between the cells a
//! and b
//!
//! ```text
//! dJ/dt = p(t) F,   F = (t - c_a)^2 - (t - c_b)^2 - lambda (log2 p_a - log2 p_b),
//! ```
//!
//! and F depends on t and its two neighbours only: Newton's method solves a tridiagonal system per step. It
//! converges in a handful of steps where turns of thresholds and centroids (Lloyd's method) take time
//! proportional to the square of the number of levels.

use super::density::{Density, Source};

/// A quantizer of n levels and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScalarQuantizer {
    /// The levels, ascending: the centroids of their cells.
    pub levels: Vec<f64>,
    /// The n − 1 thresholds between them, ascending. A value on a threshold belongs to the upper level.
    pub thresholds: Vec<f64>,
    /// The probability of each level.
    pub probabilities: Vec<f64>,
    /// D, the mean squared error.
    pub mse: f64,
    /// H, in bits per value: the size of the codes after ideal entropy coding. Codes of fixed width take their
    /// width, whatever this says.
    pub entropy: f64,
}

impl ScalarQuantizer {
    /// The quantizer with these cells.
    pub(super) fn new(cells: &Cells, unit: f64) -> Self {
        Self {
            levels: cells.cells.iter().map(|cell| cell.level * unit).collect(),
            thresholds: cells.thresholds.iter().map(|threshold| threshold * unit).collect(),
            probabilities: cells.cells.iter().map(|cell| cell.mass).collect(),
            mse: cells.distortion() * unit * unit,
            entropy: cells.entropy(),
        }
    }
}

/// The entropy of a code whose words were counted, in bits per word: 0 without any.
pub(crate) fn entropy(counts: &[u64]) -> f64 {
    let total: f64 = counts.iter().map(|&count| count as f64).sum();
    counts.iter().map(|&count| information(count as f64 / total)).sum()
}

/// −p log₂ p, continued to zero.
fn information(p: f64) -> f64 {
    if p > 0.0 { -p * p.log2() } else { 0.0 }
}

/// Makes values that are symmetric about zero but for rounding errors exactly so.
pub(super) fn mirror(values: &mut [f64]) {
    let reversed: Vec<f64> = values.iter().rev().copied().collect();
    values.iter_mut().zip(reversed).for_each(|(value, other)| *value = 0.5 * (*value - other));
}

/// One cell. Lengths within it are held themselves, as they would cancel as differences of places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    /// Its probability, positive.
    pub mass: f64,
    /// Its centroid.
    pub level: f64,
    /// From its lower end to its centroid; infinite where the cell is.
    left: f64,
    /// From its centroid to its upper end.
    right: f64,
    /// E[(x − level)²; cell].
    pub distortion: f64,
}

impl Cell {
    fn new(source: &impl Source, low: f64, high: f64) -> Option<Self> {
        let center = source.center(low, high);
        let moments = source.moments(low, high, center);
        if moments.mass <= 0.0 {
            return None;
        }
        let offset = moments.first / moments.mass;
        Some(Self {
            mass: moments.mass,
            level: center + offset,
            left: (center - low) + offset,
            right: (high - center) - offset,
            distortion: (moments.second - moments.first * offset).max(0.0),
        })
    }

    /// `(lambda' - 2 left right) / mass`: how F at one end of the cell feels the other end.
    fn coupling(&self, lambda: f64) -> f64 {
        (lambda - 2.0 * self.left * self.right) / self.mass
    }
}

/// A partition of a distribution into cells, none of them empty.
#[derive(Debug, Clone)]
pub(super) struct Cells {
    pub cells: Vec<Cell>,
    pub thresholds: Vec<f64>,
}

impl Cells {
    /// The cells between ascending thresholds. An empty one is united with its neighbour.
    pub(super) fn new(source: &impl Source, thresholds: &[f64]) -> Self {
        let (start, end) = source.support();
        let mut found = Self {
            cells: Vec::with_capacity(thresholds.len() + 1),
            thresholds: Vec::with_capacity(thresholds.len()),
        };
        let mut low = start;
        for &high in thresholds {
            if let Some(cell) = Cell::new(source, low, high) {
                found.cells.push(cell);
                found.thresholds.push(high);
                low = high;
            }
        }
        let mut last = Cell::new(source, low, end);
        if last.is_none() {
            // Nothing is above the last threshold: the cell below it reaches to the end.
            found.cells.pop();
            found.thresholds.pop();
            last = Cell::new(source, found.thresholds.last().copied().unwrap_or(start), end);
        }
        found.cells.extend(last);
        found
    }

    /// D.
    pub(super) fn distortion(&self) -> f64 {
        self.cells.iter().map(|cell| cell.distortion).sum()
    }

    /// H in bits.
    pub(super) fn entropy(&self) -> f64 {
        self.cells.iter().map(|cell| information(cell.mass)).sum()
    }

    /// J.
    pub(super) fn cost(&self, lambda: f64) -> f64 {
        let rate = if lambda > 0.0 { lambda * self.entropy() } else { 0.0 };
        self.distortion() + rate
    }

    /// The thresholds that are best for the levels and probabilities as they are: a value goes to the level of
    /// least `(x - c_k)^2 - lambda log2 p_k`. Levels that win nowhere get no cell.
    ///
    /// Without x², which all have in common, these are straight lines, of which the lower envelope is wanted.
    pub(super) fn best_thresholds(&self, lambda: f64) -> Vec<f64> {
        // The lines of the envelope so far, each with the place from which on it is the lowest.
        let mut envelope: Vec<(f64, f64, f64)> = Vec::with_capacity(self.cells.len());
        for cell in &self.cells {
            let rate = if lambda > 0.0 { -lambda * cell.mass.log2() } else { 0.0 };
            let mut from = f64::NEG_INFINITY;
            while let Some(&(start, level, other)) = envelope.last() {
                from = level + 0.5 * ((cell.level - level) + (rate - other) / (cell.level - level));
                if from > start {
                    break;
                }
                envelope.pop();
                from = f64::NEG_INFINITY;
            }
            if from < f64::INFINITY {
                envelope.push((from, cell.level, rate));
            }
        }
        envelope.iter().skip(1).map(|line| line.0).collect()
    }

    /// The thresholds moved by `fraction` of `step`, none of them by more than part of the way to the next;
    /// `None` where a cell would be empty.
    fn moved(&self, source: &Density, step: &[f64], fraction: f64) -> Option<Self> {
        /// Less than a half, so that no two thresholds meet.
        const PART: f64 = 0.45;
        let (start, end) = source.support();
        let below = core::iter::once(start).chain(self.thresholds.iter().copied());
        let above = self.thresholds.iter().copied().skip(1).chain(core::iter::once(end));
        let thresholds: Vec<f64> = self
            .thresholds
            .iter()
            .zip(step)
            .zip(below.zip(above))
            .map(|((&t, step), (below, above))| {
                t + (fraction * step).max(PART * (below - t)).min(PART * (above - t))
            })
            .collect();
        let ordered = thresholds.is_sorted_by(|a, b| a < b) && thresholds.iter().all(|t| t.is_finite());
        let moved = ordered.then(|| Self::new(source, &thresholds))?;
        (moved.cells.len() == self.cells.len()).then_some(moved)
    }

    /// Newton's step from here; `None` where it has no finite length.
    fn newton_step(&self, source: &Density, lambda: f64) -> Option<Vec<f64>> {
        // F in natural logarithms.
        let lambda = lambda / core::f64::consts::LN_2;
        let densities: Vec<f64> = self.thresholds.iter().map(|&t| source.density(t)).collect();
        let below = core::iter::once(0.0).chain(densities.iter().copied());
        let above = densities.iter().copied().skip(1).chain(core::iter::once(0.0));

        let mut rows = Vec::with_capacity(densities.len());
        let (mut ratio, mut value) = (0.0, 0.0);
        for ((cells, &here), (below, above)) in self.cells.windows(2).zip(&densities).zip(below.zip(above)) {
            let [a, b] = cells else { return None };
            let (near, far) = (a.right * a.right, b.left * b.left);
            let gap = a.right + b.left;
            let residual = (a.right - b.left) * gap - lambda * (a.mass / b.mass).ln();
            let diagonal =
                2.0 * gap - here * ((2.0 * near + lambda) / a.mass + (2.0 * far + lambda) / b.mass);
            // The outermost cells have no other threshold, and perhaps no end.
            let lower = if below > 0.0 { below * a.coupling(lambda) } else { 0.0 };
            let upper = if above > 0.0 { above * b.coupling(lambda) } else { 0.0 };
            // Where J is not convex a positive pivot still gives a direction that goes down.
            let pivot = (diagonal - lower * ratio).abs();
            value = (-residual - lower * value) / pivot;
            ratio = upper / pivot;
            rows.push((ratio, value));
        }
        let mut next = 0.0;
        let mut step: Vec<f64> = Vec::with_capacity(rows.len());
        for (ratio, value) in rows.into_iter().rev() {
            next = value - ratio * next;
            step.push(next);
        }
        step.reverse();
        step.iter().all(|step| step.is_finite()).then_some(step)
    }

    /// Turns of thresholds and centroids until nothing changes any more, at most `turns`. J never grows.
    ///
    /// Philip A. Chou, Tom Lookabaugh and Robert M. Gray, *Entropy-constrained vector quantization*, 1989; with
    /// λ = 0 Lloyd's method I.
    pub(super) fn alternate(mut self, source: &impl Source, lambda: f64, turns: usize) -> Self {
        let mut cost = self.cost(lambda);
        for _ in 0..turns {
            let next = Self::new(source, &self.best_thresholds(lambda));
            let next_cost = next.cost(lambda);
            // Written so that NaN is no gain either.
            let gains = next_cost < cost;
            if !gains {
                break;
            }
            (self, cost) = (next, next_cost);
        }
        self
    }

    /// Newton's method to the minimum downhill from here, with turns of thresholds and centroids where no step
    /// leads down.
    ///
    /// A `symmetric` search keeps the symmetry of its start: a Laplace density does not resist when all thresholds
    /// move by the same little, one of them being at its tip, so rounding errors would move them.
    pub(super) fn polish(mut self, source: &Density, lambda: f64, symmetric: bool) -> Self {
        /// More than any start needed, so that a search ends in any case.
        const STEPS: usize = 200;
        /// What rounding may add to J, and what is no gain.
        const SLACK: f64 = 1e-14;
        /// Steps after J stands still, where it is flat: the first of them square what is left of an error of
        /// 1e-7, more would move but cells of no weight in the tails.
        const IDLE: usize = 4;
        let mut idle = 0;
        for _ in 0..STEPS {
            let cost = self.cost(lambda);
            let mut step = self.newton_step(source, lambda);
            if let (true, Some(step)) = (symmetric, &mut step) {
                mirror(step);
            }
            let accepted = step.as_deref().and_then(|step| {
                (0..20).find_map(|halvings| {
                    let trial = self.moved(source, step, 0.5_f64.powi(halvings))?;
                    (trial.cost(lambda) <= cost * (1.0 + SLACK)).then_some(trial)
                })
            });
            let next = accepted.unwrap_or_else(|| self.clone().alternate(source, lambda, 8));
            idle = if next.cost(lambda) < cost * (1.0 - SLACK) { 0 } else { idle + 1 };
            self = next;
            if idle > IDLE {
                break;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solve::empirical::Empirical;

    #[test]
    fn entropy_of_counts() {
        assert_eq!(entropy(&[]), 0.0);
        assert_eq!(entropy(&[0, 0]), 0.0);
        assert_eq!(entropy(&[7]), 0.0);
        assert_eq!(entropy(&[5, 5, 0, 5, 5]), 2.0);
        assert_eq!(entropy(&[2, 1, 1]), 1.5);
    }

    #[test]
    fn empty_cells_are_united() {
        let source = Empirical::new(&[1.0, 1.5], None).unwrap();
        for thresholds in [
            &[0.2, 0.5, 1.25, 1.3, 1.7, 1.8][..],
            &[1.25, 3.0],
            &[0.0, 1.25],
            &[1.25],
            &[f64::NEG_INFINITY, 1.25, f64::INFINITY],
        ] {
            let cells = Cells::new(&source, thresholds);
            let levels: Vec<f64> = cells.cells.iter().map(|cell| cell.level).collect();
            assert_eq!((levels, cells.thresholds.len()), (vec![1.0, 1.5], 1), "{thresholds:?}");
        }
        assert_eq!(Cells::new(&source, &[5.0]).cells.len(), 1);
        assert_eq!(Cells::new(&Density::Gaussian, &[-80.0, 0.0, 80.0]).cells.len(), 2);
    }

    /// The lower envelope against the decision level by level.
    #[test]
    fn best_thresholds_are_best_for_each_value() {
        let cells = Cells::new(&Density::Laplace, &[-2.5, -1.0, -0.6, -0.5, 0.1, 0.2, 0.9, 3.0]);
        for lambda in [0.0, 0.01, 0.1, 0.3, 1.0] {
            let thresholds = cells.best_thresholds(lambda);
            assert!(thresholds.is_sorted_by(|a, b| a < b));
            let cost = |x: f64, cell: &Cell| (x - cell.level) * (x - cell.level) - lambda * cell.mass.log2();
            let winner = |x: f64| {
                let best = cells.cells.iter().min_by(|a, b| cost(x, a).total_cmp(&cost(x, b))).unwrap();
                best.level
            };
            // Winners change at the thresholds and nowhere else.
            let mut edges = vec![-9.0];
            edges.extend(&thresholds);
            edges.push(9.0);
            let mut winners: Vec<f64> = Vec::new();
            for pair in edges.windows(2) {
                let inside = |part: f64| winner(pair[0] + part * (pair[1] - pair[0]));
                assert!((1..100).all(|i| inside(f64::from(i) / 100.0) == inside(0.5)), "{lambda}: {pair:?}");
                winners.push(inside(0.5));
            }
            assert!(winners.is_sorted_by(|a, b| a < b), "{lambda}: {winners:?}");
        }
    }

    /// Any threshold moved either way from where Newton's method ends makes J grow, and only to second order.
    #[test]
    fn newton_finds_a_zero_of_the_gradient() {
        for lambda in [0.0, 0.02] {
            let cells = Cells::new(&Density::Gaussian, &[-1.3, -0.4, 0.3, 1.5]).polish(
                &Density::Gaussian,
                lambda,
                false,
            );
            let cost = cells.cost(lambda);
            for k in 0..cells.thresholds.len() {
                for shift in [-1e-4, 1e-4] {
                    let mut thresholds = cells.thresholds.clone();
                    thresholds[k] += shift;
                    let grown = Cells::new(&Density::Gaussian, &thresholds).cost(lambda) - cost;
                    // Second order: neither a fall nor a slope.
                    assert!((1e-11..1e-7).contains(&grown), "{lambda} {k} {shift}: {grown:e}");
                }
            }
        }
    }
}
