//! The nearest-plane decoder of [`Gptq`](super::Gptq) at work on a bundle of rows.

use core::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, LinalgScalar, s};

use crate::element::{Element, Real};
use crate::error::Result;
use crate::tensor::{Decide, Grid, decider};

use super::factor::Factor;
use super::gptq::System;
use super::places::Columns;
use super::refresh::Refreshed;
use super::rows::{Bundle, Job, squared_errors};

/// Columns that are decided one by one before their errors are multiplied with others.
const LEAF: usize = 16;

/// A bundle at work: matrices hold the inputs in their order by the rows of the bundle.
pub(super) struct Work<'w, 'a, T> {
    pub(super) job: &'w Job<'w, 'a, System>,
    pub(super) factor: &'w Factor,
    /// The factor divided by `unit`.
    pub(super) r: &'w Array2<T>,
    unit: f64,
    pub(super) rows: usize,
    pub(super) columns: Columns,
    decider: Box<dyn Decide<T> + 'w>,
    weights: Array2<T>,
    /// Errors `w − q`.
    errors: Array2<T>,
    /// The sums y.
    pub(super) sums: Array2<T>,
    codes: Array2<u16>,
    /// Σ (eR)² and Σ e².
    squares: Vec<f64>,
    norms: Vec<f64>,
    /// Grids that were fitted again, with their rows and regions.
    pub(super) grids: Vec<(usize, usize, Grid)>,
    /// Codes of inputs that are always zero, on grids that were fitted again: nothing else depends on them.
    pub(super) dead: Vec<(usize, Vec<u16>)>,
}

/// Buffers for the decisions of one column.
struct Column<T> {
    targets: Vec<T>,
    values: Vec<T>,
    codes: Vec<u16>,
}

impl<'w, 'a, T: Real + LinalgScalar> Work<'w, 'a, T> {
    pub(super) fn new(
        job: &'w Job<'w, 'a, System>,
        factor: &'w Factor,
        r: &'w Array2<T>,
        unit: f64,
    ) -> Result<Self> {
        let (problem, inputs) = (job.problem, job.problem.inputs());
        let (rows, live) = (job.rows.len(), factor.order.len());
        let columns = Columns::new(problem.nearest().tiling(), inputs, job.rows.clone());
        let given = (problem.scheme(), problem.nearest().grids());
        let decider = decider::<T>(given, problem.encoding(), &columns.segments())?;
        let mut scratch = Vec::new();
        let by_row = problem.rows::<T>(job.rows.clone(), &mut scratch);
        let mut weights = Array2::zeros((live, rows));
        gather(by_row, inputs, &factor.order, &mut weights);
        Ok(Self {
            job,
            factor,
            r,
            unit,
            rows,
            columns,
            decider,
            weights,
            errors: Array2::zeros((live, rows)),
            sums: Array2::zeros((live, rows)),
            codes: Array2::zeros((live, rows)),
            squares: vec![0.0; rows],
            norms: vec![0.0; rows],
            grids: Vec::new(),
            dead: Vec::new(),
        })
    }

    /// The codes of the bundle; on grids that are fitted again if `refresh`.
    pub(super) fn fit(mut self, refresh: bool) -> Result<Bundle> {
        let mut column = Column {
            targets: vec![T::zero(); self.rows],
            values: vec![T::zero(); self.rows],
            codes: vec![0; self.rows],
        };
        let live = self.factor.order.len();
        self.descend(0..live, refresh, None, &mut column)?;
        let inputs = self.job.problem.inputs();
        let mut codes = self.job.nearest.to_vec();
        scatter(&self.codes, inputs, &self.factor.order, &mut codes);
        for (input, chosen) in &self.dead {
            for (codes, &chosen) in codes.chunks_mut(inputs.max(1)).zip(chosen) {
                if let Some(code) = codes.get_mut(*input) {
                    *code = chosen;
                }
            }
        }
        let (after, before) = self.squared_errors()?;
        Ok(Bundle { codes, before, after, grids: self.grids })
    }

    /// Decides the columns `range`, whose sums hold all that comes from earlier ones.
    fn descend(
        &mut self,
        range: Range<usize>,
        refresh: bool,
        grids: Option<&Refreshed>,
        column: &mut Column<T>,
    ) -> Result<()> {
        if refresh && grids.is_none() && self.is_one_span(&range) {
            let grids = self.refreshed(&range)?;
            return self.descend(range, refresh, Some(&grids), column);
        }
        if range.len() <= LEAF && (!refresh || grids.is_some()) {
            return self.decide(range, grids, column);
        }
        let middle = self.middle(&range, refresh && grids.is_none());
        self.descend(range.start..middle, refresh, grids, column)?;
        let (left, right) = (range.start..middle, middle..range.end);
        general_mat_mul(
            T::one(),
            &self.r.slice(s![left.clone(), right.clone()]).t(),
            &self.errors.slice(s![left, ..]),
            T::one(),
            &mut self.sums.slice_mut(s![right.clone(), ..]),
        );
        self.descend(right, refresh, grids, column)
    }

    /// Where the columns `range`, of which there are at least two, are halved.
    fn middle(&self, range: &Range<usize>, between_spans: bool) -> usize {
        let half = range.start + (range.len() / 2).next_multiple_of(LEAF).min(range.len() - 1).max(1);
        if !between_spans {
            return half;
        }
        // The border of spans that is nearest to the middle; there is one, as the range is not one span.
        let borders = (range.start + 1..range.end).filter(|&k| self.span(k) != self.span(k - 1));
        borders.min_by_key(|&k| k.abs_diff(half)).unwrap_or(half)
    }

    pub(super) fn span(&self, k: usize) -> usize {
        let input = self.factor.order.get(k).copied().unwrap_or_default();
        self.columns.span_of.get(input).copied().unwrap_or_default()
    }

    fn is_one_span(&self, range: &Range<usize>) -> bool {
        range.is_empty() || self.span(range.start) == self.span(range.end - 1)
    }

    fn decide(
        &mut self,
        range: Range<usize>,
        grids: Option<&Refreshed>,
        column: &mut Column<T>,
    ) -> Result<()> {
        let problem = self.job.problem;
        let refreshed = grids
            .map(|Refreshed { grids, segments }| {
                decider::<T>((problem.scheme(), grids), problem.encoding(), segments)
            })
            .transpose()?;
        let Column { targets, values, codes } = column;
        for k in range.clone() {
            let pivot = self.r[[k, k]];
            let sums = self.sums.row(k);
            for ((target, &weight), &sum) in targets.iter_mut().zip(self.weights.row(k)).zip(sums) {
                *target = weight + sum / pivot;
            }
            let (decider, span) = match &refreshed {
                Some(refreshed) => (refreshed, 0),
                None => (&self.decider, self.span(k)),
            };
            decider.codes(span, targets, codes);
            decider.values(span, codes, values);
            if let Some(to) = self.codes.row_mut(k).as_slice_mut() {
                to.copy_from_slice(codes);
            }
            let mut errors = self.errors.row_mut(k);
            for ((error, &weight), &value) in errors.iter_mut().zip(self.weights.row(k)).zip(&*values) {
                *error = weight - value;
            }
            let errors = errors.as_slice().unwrap_or_default();
            let sums = sums.as_slice().unwrap_or_default();
            let totals = self.squares.iter_mut().zip(&mut self.norms);
            for ((&error, &sum), (square, norm)) in errors.iter().zip(sums).zip(totals) {
                let component = Element::to_f64(sum + error * pivot);
                *square += component * component;
                let error = Element::to_f64(error);
                *norm += error * error;
            }
            for other in k + 1..range.end {
                let factor = self.r[[k, other]];
                if let Some(sums) = self.sums.row_mut(other).as_slice_mut() {
                    sums.iter_mut().zip(errors).for_each(|(sum, &error)| *sum += factor * error);
                }
            }
        }
        Ok(())
    }

    /// The squared errors of each row with these codes and with the nearest ones, without the damping.
    fn squared_errors(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let (problem, rows) = (self.job.problem, self.job.rows.clone());
        let scale = self.unit * self.unit;
        let baseline = problem.baseline()?;
        let of_rows = |values: &[f64]| values.get(rows.clone()).map(<[f64]>::to_vec).unwrap_or_default();
        let (mut before, uncertain) = (of_rows(&baseline.errors), of_rows(&baseline.uncertain));
        // What the rounding of sums in T can have changed, as a share of the damped error.
        let noise = 64.0 * T::TYPE.epsilon();
        let damped = self.squares.iter().map(|square| scale * square);
        let (mut after, noises): (Vec<f64>, Vec<f64>) = damped
            .zip(&self.norms)
            .map(|(damped, norm)| (damped - self.factor.added * norm, noise * damped))
            .unzip();
        let numbers = after.iter().zip(&noises).zip(before.iter().zip(&uncertain));
        let is_clear = |((after, noise), (before, uncertain)): ((&f64, &f64), (&f64, &f64))| {
            let precise = *noise <= 1e-4 * after && *uncertain <= 1e-4 * before;
            precise && (before - after).abs() > noise + uncertain
        };
        let doubtful: Vec<usize> =
            numbers.enumerate().filter(|(_, numbers)| !is_clear(*numbers)).map(|(row, _)| row).collect();
        let inputs = problem.inputs();
        let (mut errors, mut nearest) = (Vec::new(), Vec::new());
        for &row in &doubtful {
            let from = errors.len();
            errors.resize(from + inputs, 0.0);
            for (k, &input) in self.factor.order.iter().enumerate() {
                if let Some(error) = errors.get_mut(from + input) {
                    *error = Element::to_f64(self.errors[[k, row]]);
                }
            }
            let row = rows.start + row;
            // In T as well, so that equal codes have equal errors.
            let errors = problem.errors::<T>(row..row + 1, problem.nearest())?;
            nearest.extend(errors.iter().map(|&error| Element::to_f64(error)));
        }
        for (sums, errors) in [(&mut after, &errors), (&mut before, &nearest)] {
            let exact = squared_errors(self.job.statistics, errors, inputs);
            for (&row, exact) in doubtful.iter().zip(exact) {
                if let Some(sum) = sums.get_mut(row) {
                    *sum = exact;
                }
            }
        }
        Ok((after, before))
    }
}

/// Rows of `inputs` elements as columns, in an order of the inputs.
fn gather<C: Copy>(rows: &[C], inputs: usize, order: &[usize], columns: &mut Array2<C>) {
    // A few rows at a time, so that what is written stays in the cache.
    for (part, rows) in rows.chunks(16 * inputs.max(1)).enumerate() {
        for (&input, mut column) in order.iter().zip(columns.rows_mut()) {
            let column = column.iter_mut().skip(part * 16);
            for (to, from) in column.zip(rows.chunks(inputs.max(1))) {
                *to = from.get(input).copied().unwrap_or(*to);
            }
        }
    }
}

/// The inverse of [`gather`].
fn scatter<C: Copy>(columns: &Array2<C>, inputs: usize, order: &[usize], rows: &mut [C]) {
    for (part, rows) in rows.chunks_mut(16 * inputs.max(1)).enumerate() {
        for (&input, column) in order.iter().zip(columns.rows()) {
            for (to, &from) in rows.chunks_mut(inputs.max(1)).zip(column.iter().skip(part * 16)) {
                if let Some(to) = to.get_mut(input) {
                    *to = from;
                }
            }
        }
    }
}
