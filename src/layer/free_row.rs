//! One row of weights that are free, with the scales of its regions, while both are learned through the rounding.
//!
//! A weight is `u` steps of the scale `s₀` that it began with, its code `q = clip(round(u·s₀/s + z))`, and its value
//! `s(q − z)`. Gradients pass the rounding as if it were not there (the straight-through estimator); those by the logarithm
//! of the scale are of Esser et al. 2020, *Learned step size quantization*.

use core::ops::Range;

use crate::kernel::adam::{Adam, Learned, step_plain};
use crate::kernel::straight_through::{Grids, gradient_by_scale, round_free, step_free};
use crate::tensor::{AffineGrid, AffineScheme, Grid, ScaleStorage};

use super::places::row_segments;
use super::problem::Problem;

/// How far a scale may go, as a logarithm.
const REACH: f32 = 2.0;

/// The part of a row that is of one region.
pub(super) struct Part {
    pub(super) region: usize,
    /// Within the row.
    range: Range<usize>,
    /// As it was fitted.
    pub(super) grid: AffineGrid,
}

/// One row while it is learned.
pub(super) struct Row {
    weights: Vec<f32>,
    pub(super) parts: Vec<Part>,
    free: State,
    /// Logarithms of the scales, as shares of what they were, one for each part.
    scales: State,
    by_scale: Vec<f32>,
    /// Of each weight.
    scale: Vec<f32>,
    ratio: Vec<f32>,
    zero: Vec<f32>,
    codes: Vec<f32>,
    /// What the gradient is multiplied with.
    factor: f32,
    pub(super) best: Best,
}

/// Numbers that are learned, and the moments of their gradient.
struct State {
    values: Vec<f32>,
    means: Vec<f32>,
    squares: Vec<f32>,
}

impl State {
    fn new(values: Vec<f32>) -> Self {
        let len = values.len();
        Self { values, means: vec![0.0; len], squares: vec![0.0; len] }
    }

    fn learned(&mut self) -> Learned<'_> {
        Learned { values: &mut self.values, means: &mut self.means, squares: &mut self.squares }
    }
}

/// The best that a row has been.
pub(super) struct Best {
    pub(super) loss: f64,
    pub(super) codes: Vec<f32>,
    /// As stored, one for each part.
    pub(super) scales: Vec<f64>,
    pub(super) correction: f32,
}

impl Row {
    pub(super) fn new(problem: &Problem<'_>, row: usize, weights: &[f64], mean_square: f64) -> Self {
        let (nearest, inputs) = (problem.nearest(), problem.inputs());
        let segments = row_segments(nearest.tiling(), inputs, row);
        let part = |(region, range)| match nearest.grid(region) {
            Some(Grid::Affine(grid)) => Some(Part { region, range, grid }),
            _ => None,
        };
        let parts: Vec<Part> = segments.iter().flat_map(|segment| segment.runs()).filter_map(part).collect();
        let (mut free, mut zero, mut square) = (vec![0.0; inputs], vec![0.0; inputs], 0.0);
        for Part { range, grid, .. } in &parts {
            for index in range.clone() {
                // A scale of zero has one level, and its weights stay at zero.
                let u = weights.get(index).map_or(0.0, |w| w / grid.scale);
                free[index] = if u.is_finite() { u as f32 } else { 0.0 };
                zero[index] = grid.zero_point as f32;
                square += grid.scale * grid.scale;
            }
        }
        let unit = mean_square * square / inputs.max(1) as f64;
        let scales = vec![0.0; parts.len()];
        let best = Best {
            loss: f64::INFINITY,
            codes: vec![0.0; inputs],
            scales: parts.iter().map(|part| part.grid.scale).collect(),
            correction: 0.0,
        };
        Self {
            weights: weights.iter().map(|&w| w as f32).collect(),
            free: State::new(free),
            by_scale: scales.clone(),
            scales: State::new(scales),
            parts,
            scale: vec![0.0; inputs],
            ratio: vec![1.0; inputs],
            zero,
            codes: vec![0.0; inputs],
            factor: if unit > 0.0 { (1.0 / unit) as f32 } else { 0.0 },
            best,
        }
    }

    /// The scale of a part as stored.
    fn stored(&self, part: usize, storage: ScaleStorage) -> f64 {
        let (Some(Part { grid, .. }), Some(&log)) = (self.parts.get(part), self.scales.values.get(part))
        else {
            return 0.0;
        };
        if log == 0.0 {
            return grid.scale;
        }
        let stored = storage.store(grid.scale * f64::from(log).exp());
        if stored.is_finite() && stored != 0.0 && grid.scale != 0.0 { stored } else { grid.scale }
    }

    /// Rounds the free weights on the grids as they are.
    pub(super) fn round(&mut self, scheme: &AffineScheme, errors: &mut [f32]) {
        for index in 0..self.parts.len() {
            let stored = self.stored(index, scheme.scales());
            let Some(Part { range, grid, .. }) = self.parts.get(index) else { continue };
            let ratio = if stored == 0.0 { 0.0 } else { (grid.scale / stored) as f32 };
            self.scale.get_mut(range.clone()).unwrap_or_default().fill(stored as f32);
            self.ratio.get_mut(range.clone()).unwrap_or_default().fill(ratio);
        }
        let ends = ends(scheme);
        let grids = Grids { scale: &self.scale, ratio: &self.ratio, zero: &self.zero, ends };
        round_free(&self.free.values, &self.weights, grids, &mut self.codes, errors);
    }

    /// A step against the gradient by the rounded weights.
    pub(super) fn step(
        &mut self,
        scheme: &AffineScheme,
        adam: Adam,
        scale_adam: Option<Adam>,
        gradient: &[f32],
    ) {
        let grids = Grids { scale: &self.scale, ratio: &self.ratio, zero: &self.zero, ends: ends(scheme) };
        if let Some(adam) = scale_adam {
            for (part, by_scale) in self.parts.iter().zip(&mut self.by_scale) {
                let within = grids.within(&part.range);
                let [free, gradient, codes] =
                    [&*self.free.values, gradient, &self.codes].map(|all| part_of(all, &part.range));
                *by_scale = self.factor * gradient_by_scale(free, gradient, within, codes);
            }
            step_plain(adam, &self.by_scale, self.scales.learned());
            self.scales.values.iter_mut().for_each(|log| *log = log.clamp(-REACH, REACH));
        }
        step_free(adam, self.factor, gradient, grids, &self.codes, self.free.learned());
    }

    /// Remembers the codes if they are better than all before.
    pub(super) fn judge(&mut self, loss: f64, correction: f32, storage: ScaleStorage) {
        if !(loss < self.best.loss) {
            return;
        }
        self.best.loss = loss;
        self.best.correction = correction;
        self.best.codes.copy_from_slice(&self.codes);
        for index in 0..self.parts.len() {
            let stored = self.stored(index, storage);
            if let Some(place) = self.best.scales.get_mut(index) {
                *place = stored;
            }
        }
    }
}

/// The elements `range`, if there are as many.
fn part_of<'s>(all: &'s [f32], range: &Range<usize>) -> &'s [f32] {
    all.get(range.clone()).unwrap_or_default()
}

fn ends(scheme: &AffineScheme) -> (f32, f32) {
    (scheme.codes().min() as f32, scheme.codes().max() as f32)
}
