//! One weight after the other, the cheapest first.
//!
//! Frantar and Alistarh 2022, *Optimal Brain Compression: a framework for accurate post-training quantization and
//! pruning* (OBQ). For one row w with the Hessian `H = 2XᵀX` of its remaining weights, equation 7:
//!
//! ```text
//! w_p  =  argmin_{w_p} (quant(w_p) − w_p)² / [H⁻¹]_pp
//! δ_p  =  − (w_p − quant(w_p)) / [H⁻¹]_pp · H⁻¹_{:,p}
//! ```
//!
//! w_p gets its code, δ_p is added to the weights that remain and makes up for the error as well as they can, and p leaves
//! H by one step of Gaussian elimination (equation 4): `H⁻¹ ← H⁻¹ − H⁻¹_{:,p} H⁻¹_{p,:} / [H⁻¹]_pp`. The factor 2 of the
//! Hessian cancels.
//!
//! With the outliers first (section 4 of the paper), a weight that has been pushed beyond the grid by more than half a step
//! gets its code at once: its error would only grow.

use core::fmt;

use ndarray::Array2;

use crate::element::{Element, FloatType, Real};
use crate::error::Result;
use crate::tensor::decider;

use super::factor::{Damping, Factor};
use super::matrix::inverse_of_square;
use super::places::row_segments;
use super::problem::Problem;
use super::row_levels::RowLevels;
use super::rows::{self, Bundle, Job, RowMethod, damping_of};
use super::statistics::Statistics;
use super::{LayerMethod, Run};

/// Optimal brain quantization: greedy, with an order of its own for each row.
///
/// Any scheme but vectors, any granularity. Time: the cube of the inputs for each output; memory: their square for each
/// thread. For layers of up to some hundred inputs; [`Gptq`](super::Gptq) is its successor for larger ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Obq {
    damping: Damping,
    outliers_first: bool,
}

impl Obq {
    /// With the outliers first and a damping of 0.01.
    pub fn new() -> Self {
        Self { damping: Damping::default(), outliers_first: true }
    }

    /// With another damping.
    pub const fn damping(self, damping: Damping) -> Self {
        Self { damping, ..self }
    }

    /// Whether weights that have been pushed beyond the grid get their code first. They do by default; without, the loss
    /// is often several times larger at few bits.
    pub const fn outliers_first(self, outliers_first: bool) -> Self {
        Self { outliers_first, ..self }
    }

    fn row<T: Real>(&self, job: &Job<'_, '_, System>, row: usize, weights: &[f64]) -> Result<Vec<u16>> {
        let System { factor, inverse } = job.system;
        let (problem, inputs) = (job.problem, job.problem.inputs());
        let given = (problem.scheme(), problem.nearest().grids());
        let segments = row_segments(problem.nearest().tiling(), inputs, row);
        let levels = RowLevels::new::<T>(given, problem.encoding(), &segments)?;
        let decider = decider::<T>(given, problem.encoding(), &[segments])?;
        let mut weights = weights.to_vec();
        let mut narrow: Vec<T> = weights.iter().map(|&w| T::from_f64(w)).collect();
        let (mut codes, mut values) = (vec![0; inputs], vec![T::zero(); inputs]);
        let mut chosen = vec![0; inputs];
        let mut inverse = inverse.clone();
        let mut remaining: Vec<usize> = (0..factor.order.len()).collect();
        while !remaining.is_empty() {
            decider.codes(0, &narrow, &mut codes);
            decider.values(0, &codes, &mut values);
            let error = |live: usize| {
                let input = factor.order.get(live).copied().unwrap_or_default();
                weights[input] - Element::to_f64(values[input])
            };
            let is_outlier = |live: usize| {
                let input = factor.order.get(live).copied().unwrap_or_default();
                levels.of(input).is_some_and(|levels| levels.is_beyond(weights[input]))
            };
            let first_outlier =
                if self.outliers_first { remaining.iter().position(|&live| is_outlier(live)) } else { None };
            let cheapest = || {
                let mut best = (0, f64::INFINITY);
                for (place, &live) in remaining.iter().enumerate() {
                    let cost = error(live).powi(2) / inverse[[live, live]];
                    if cost < best.1 {
                        best = (place, cost);
                    }
                }
                best.0
            };
            let place = first_outlier.unwrap_or_else(cheapest);
            let p = remaining.get(place).copied().unwrap_or_default();
            let (error, pivot) = (error(p), inverse[[p, p]]);
            remaining.remove(place);
            let input_p = factor.order.get(p).copied().unwrap_or_default();
            chosen[input_p] = codes[input_p];
            let pivot_row = inverse.row(p).to_owned();
            for &live in &remaining {
                let share = pivot_row[live] / pivot;
                let input = factor.order.get(live).copied().unwrap_or_default();
                weights[input] -= share * error;
                narrow[input] = T::from_f64(weights[input]);
                inverse.row_mut(live).scaled_add(-share, &pivot_row);
            }
        }
        Ok(chosen)
    }
}

impl Default for Obq {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Obq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "obq(damping={}, outliers-first={})", self.damping.get(), self.outliers_first)
    }
}

impl LayerMethod for Obq {
    fn begin<'p>(&self, problem: &'p Problem<'_>) -> Result<Box<dyn Run + 'p>> {
        rows::run(*self, problem)
    }
}

/// What the rows of a group share.
pub(super) struct System {
    factor: Factor,
    inverse: Array2<f64>,
}

impl RowMethod for Obq {
    type System = System;

    fn prepare(&self, _: &Problem<'_>, statistics: &Statistics, live: Vec<usize>) -> Option<System> {
        let factor = Factor::new(statistics, live, self.damping)?;
        let inverse = inverse_of_square(&factor.factor);
        Some(System { factor, inverse })
    }

    fn damping(system: &System) -> (f64, usize) {
        damping_of(&system.factor)
    }

    fn bundle(&self) -> usize {
        8
    }

    fn cost(&self, inputs: usize) -> usize {
        inputs.saturating_mul(inputs).saturating_mul(inputs)
    }

    fn fit(&self, job: &Job<'_, '_, System>) -> Result<Bundle> {
        if job.problem.arithmetic() == FloatType::F64 {
            rows::fit_each::<f64>(job, |row, weights, _| self.row::<f64>(job, row, weights))
        } else {
            rows::fit_each::<f32>(job, |row, weights, _| self.row::<f32>(job, row, weights))
        }
    }
}
