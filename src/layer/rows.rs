//! What methods have in common that fit the rows of the weights independently of each other.
//!
//! Rows are fitted in bundles, bundles on several threads; what a bundle gives depends on its rows alone. A row where the
//! method is no better than the nearest codes keeps these.

use core::ops::Range;

use ndarray::ArrayView2;

use crate::element::{Element, Real};
use crate::error::{ConfigError, Result};
use crate::parallel;
use crate::tensor::{Grid, Grids, PackedCodes, Scheme, decider, sign_extend};

use super::factor::{Factor, live_inputs};
use super::matrix::quadratic_forms;
use super::places::row_segments;
use super::problem::Problem;
use super::report::{Progress, Report, StopReason};
use super::rtn::NearestRun;
use super::statistics::Statistics;
use super::{Run, Solution};

/// Multiplications of one step by each thread, about: few enough to be interrupted soon.
const STEP: usize = 1 << 33;
/// Steps at least where there are many more bundles.
const STEPS: usize = 8;

/// A method that fits the rows of the weights independently of each other.
pub(super) trait RowMethod: Send + Sync {
    /// What all rows of a group share.
    type System: Send + Sync;

    /// What the rows of a group of these statistics share. `live` are its inputs that are not always zero.
    fn prepare(
        &self,
        problem: &Problem<'_>,
        statistics: &Statistics,
        live: Vec<usize>,
    ) -> Option<Self::System>;

    /// Damping of a system as a share, and how often it was raised.
    fn damping(system: &Self::System) -> (f64, usize);

    /// Rows that are fitted together.
    fn bundle(&self) -> usize;

    /// Multiplications for one row of `inputs`.
    fn cost(&self, inputs: usize) -> usize;

    /// Fits some rows of a group. `nearest` holds their nearest codes as fields.
    fn fit(&self, job: &Job<'_, '_, Self::System>) -> Result<Bundle>;
}

/// Rows to be fitted.
pub(super) struct Job<'j, 'a, S> {
    pub(super) problem: &'j Problem<'a>,
    pub(super) statistics: &'j Statistics,
    pub(super) system: &'j S,
    pub(super) rows: Range<usize>,
    /// The nearest codes of the rows, as fields, one row after the other.
    pub(super) nearest: &'j [u16],
}

/// What became of some rows.
pub(super) struct Bundle {
    /// Their codes, as fields, one row after the other.
    pub(super) codes: Vec<u16>,
    /// Their squared errors with the nearest codes, and with these.
    pub(super) before: Vec<f64>,
    pub(super) after: Vec<f64>,
    /// Grids that were fitted again, with the row (counted from the first) and the region of each.
    pub(super) grids: Vec<(usize, usize, Grid)>,
}

/// A run of a method on all rows.
pub(super) struct RowRun<'p, 'a, M: RowMethod> {
    problem: &'p Problem<'a>,
    method: M,
    /// Of each group; `None` where nothing can be fitted.
    systems: Vec<Option<M::System>>,
    dead_inputs: usize,
    /// Group and rows of each bundle.
    bundles: Vec<(usize, Range<usize>)>,
    per_step: usize,
    next: usize,
    codes: Vec<u16>,
    grids: Vec<(usize, Grid)>,
    /// Sums over the rows that had their turn, as means over samples.
    before: f64,
    after: f64,
    done: usize,
    kept: usize,
}

/// A run of `method` on all rows of `problem`.
pub(super) fn run<'p, M: RowMethod + 'p>(method: M, problem: &'p Problem<'_>) -> Result<Box<dyn Run + 'p>> {
    if matches!(problem.scheme(), Scheme::VectorCodebook(_)) {
        return Err(
            ConfigError::Conflict { setting: "a choice of single codes", to: "codes of vectors" }.into()
        );
    }
    let groups = problem.groups();
    let lives: Vec<Vec<usize>> = groups.iter().map(live_inputs).collect();
    let dead_inputs = lives.iter().map(|live| problem.inputs() - live.len()).sum();
    if lives.iter().all(Vec::is_empty) {
        return Ok(Box::new(NearestRun { problem, stop: StopReason::NearestIsBest }));
    }
    let work = groups.len().saturating_mul(problem.inputs()).saturating_mul(problem.inputs());
    let systems = parallel::map_indices(
        groups.len(),
        work,
        || (),
        |(), group| {
            let live = lives.get(group).filter(|live| !live.is_empty())?;
            method.prepare(problem, groups.get(group)?, live.clone())
        },
    );
    let per_group = problem.outputs_per_group();
    let mut bundles = Vec::new();
    for group in 0..groups.len() {
        let rows = group * per_group..(group + 1) * per_group;
        for from in rows.clone().step_by(method.bundle().max(1)) {
            bundles.push((group, from..(from + method.bundle()).min(rows.end)));
        }
    }
    let threads = parallel::threads();
    let rows_per_step = (STEP / method.cost(problem.inputs()).max(1)).saturating_mul(threads);
    let per_step = rows_per_step / method.bundle().min(per_group).max(1);
    // All threads have something to do in every step.
    let per_step = per_step.min(bundles.len() / STEPS).max(threads);
    let codes = fields(problem.nearest().codes());
    Ok(Box::new(RowRun {
        problem,
        method,
        systems,
        dead_inputs,
        bundles,
        per_step,
        next: 0,
        codes,
        grids: Vec::new(),
        before: 0.0,
        after: 0.0,
        done: 0,
        kept: 0,
    }))
}

/// Codes as fields.
pub(super) fn fields(codes: &PackedCodes) -> Vec<u16> {
    const PIECE: usize = 1 << 16;
    let mask = ((1u32 << codes.bits().get()) - 1) as u16;
    let mut fields = vec![0; codes.len()];
    parallel::map_chunks(
        &mut fields,
        PIECE,
        codes.len(),
        || (),
        |(), index, piece| {
            let from = index * PIECE;
            let mut places = piece.iter_mut();
            codes.for_each(from..(from + PIECE).min(codes.len()), &mut |code| {
                if let Some(place) = places.next() {
                    *place = code as u16 & mask;
                }
            });
        },
    );
    fields
}

impl<M: RowMethod> RowRun<'_, '_, M> {
    const fn is_finished(&self) -> bool {
        self.next >= self.bundles.len()
    }

    fn progress(&self) -> Progress {
        Progress {
            step: self.next.div_ceil(self.per_step),
            steps: self.bundles.len().div_ceil(self.per_step),
            loss: self.after / self.done as f64,
            finished: self.is_finished(),
        }
    }

    /// Takes what is better than the nearest codes.
    fn take(&mut self, (group, rows): (usize, Range<usize>), bundle: Bundle) {
        let inputs = self.problem.inputs();
        let Some(statistics) = self.problem.groups().get(group) else { return };
        let count = statistics.count() as f64;
        let mut won = vec![false; rows.len()];
        for (i, (&before, &after)) in bundle.before.iter().zip(&bundle.after).enumerate() {
            self.before += before / count;
            self.done += 1;
            // Written so that NaN keeps the nearest codes.
            if !(after < before) {
                self.after += before / count;
                self.kept += 1;
                continue;
            }
            self.after += after / count;
            won[i] = true;
            let row = rows.start + i;
            let to = self.codes.get_mut(row * inputs..(row + 1) * inputs);
            if let (Some(to), Some(from)) = (to, bundle.codes.get(i * inputs..(i + 1) * inputs)) {
                to.copy_from_slice(from);
            }
        }
        let refreshed = bundle.grids.into_iter().filter(|(row, ..)| won.get(*row) == Some(&true));
        self.grids.extend(refreshed.map(|(_, region, grid)| (region, grid)));
    }

    /// The grids of all regions, those that were fitted again among them.
    fn grids(&self) -> Result<Option<Grids>> {
        if self.grids.is_empty() {
            return Ok(None);
        }
        let nearest = self.problem.nearest();
        let mut all: Vec<Option<Grid>> =
            (0..nearest.grids().len()).map(|region| nearest.grid(region)).collect();
        for (region, grid) in &self.grids {
            if let Some(place) = all.get_mut(*region) {
                *place = Some(grid.clone());
            }
        }
        let mut grids = Grids::new(self.problem.scheme());
        all.into_iter().flatten().try_for_each(|grid| grids.push(grid))?;
        grids.finish()?;
        Ok(Some(grids))
    }
}

impl<M: RowMethod> Run for RowRun<'_, '_, M> {
    fn step(&mut self) -> Result<Progress> {
        let (first, end) = (self.next, (self.next + self.per_step).min(self.bundles.len()));
        let (problem, inputs) = (self.problem, self.problem.inputs());
        let work = self.method.cost(inputs).saturating_mul(self.method.bundle()).saturating_mul(end - first);
        let results = parallel::map_indices(
            end - first,
            work / 64,
            || (),
            |(), index| {
                let (group, rows) = self.bundles.get(first + index)?;
                let (system, statistics) =
                    (self.systems.get(*group)?.as_ref()?, problem.groups().get(*group)?);
                let nearest = self.codes.get(rows.start * inputs..rows.end * inputs)?;
                Some(self.method.fit(&Job { problem, statistics, system, rows: rows.clone(), nearest }))
            },
        );
        for (index, result) in results.into_iter().enumerate() {
            let Some(bundle) = self.bundles.get(first + index).cloned() else { continue };
            match result {
                Some(fitted) => self.take(bundle, fitted?),
                None => {
                    // Nothing to fit in this group: all its inputs are zero, and so are its errors.
                    self.done += bundle.1.len();
                    self.kept += bundle.1.len();
                }
            }
        }
        self.next = end;
        Ok(self.progress())
    }

    fn solution(&self) -> Result<Solution> {
        let scheme = self.problem.scheme();
        let (bits, sign) = (scheme.bits(), self.problem.nearest().codes().sign_bit());
        let codes = self.codes.iter().map(|&field| sign_extend(field, sign));
        let codes = PackedCodes::from_codes(bits, scheme.codes(), codes)?;
        let tensor = self.problem.nearest().clone().with_codes(codes, self.grids()?)?;
        let dampings = || self.systems.iter().flatten().map(M::damping);
        let outputs = self.problem.outputs().max(1) as f64;
        let (stop, before, after) = if self.is_finished() {
            (StopReason::Finished, self.before / outputs, self.after / outputs)
        } else {
            let before = self.problem.loss(self.problem.nearest())?;
            (StopReason::Interrupted, before, self.problem.loss(&tensor)?)
        };
        let held_out = match self.problem.held_out_loss(&tensor)? {
            Some(after) => self.problem.held_out_loss(self.problem.nearest())?.map(|before| (before, after)),
            None => None,
        };
        let report = Report {
            before,
            after,
            held_out,
            iterations: self.done,
            stop,
            damping: dampings().fold(0.0, |most, (share, _)| most.max(share)),
            damping_raised: dampings().map(|(_, raised)| raised).max().unwrap_or(0),
            rows_kept: self.kept,
            dead_inputs: self.dead_inputs,
        };
        Ok(Solution { tensor, report, bias_correction: None })
    }
}

/// Damping of a factor as a share, and how often it was raised.
pub(super) const fn damping_of(factor: &Factor) -> (f64, usize) {
    (factor.share, factor.raised)
}

/// Fits the rows of a job one by one: `fit` is given the row, its weights and its nearest codes, and gives its codes. A
/// weight whose input is dead keeps its nearest code.
pub(super) fn fit_each<T: Real>(
    job: &Job<'_, '_, impl Sized>,
    fit: impl Fn(usize, &[f64], &[u16]) -> Result<Vec<u16>>,
) -> Result<Bundle> {
    let (problem, inputs) = (job.problem, job.problem.inputs());
    let mut scratch = Vec::new();
    let weights = problem.rows::<f64>(job.rows.clone(), &mut scratch);
    let diagonal = job.statistics.diagonal();
    let (mut codes, mut values) = (Vec::with_capacity(weights.len()), vec![T::zero(); inputs]);
    let (mut before, mut after) = (Vec::with_capacity(weights.len()), Vec::with_capacity(weights.len()));
    let rows = weights.chunks(inputs.max(1)).zip(job.nearest.chunks(inputs.max(1)));
    for (row, (weights, nearest)) in job.rows.clone().zip(rows) {
        let mut chosen = fit(row, weights, nearest)?;
        for ((chosen, &nearest), &used) in chosen.iter_mut().zip(nearest).zip(&diagonal) {
            if !(used > 0.0) {
                *chosen = nearest;
            }
        }
        let segments = row_segments(problem.nearest().tiling(), inputs, row);
        let given = (problem.scheme(), problem.nearest().grids());
        let decider = decider::<T>(given, problem.encoding(), &[segments])?;
        for (codes, errors) in [(nearest, &mut before), (&chosen, &mut after)] {
            decider.values(0, codes, &mut values);
            errors.extend(weights.iter().zip(&values).map(|(w, &value)| w - Element::to_f64(value)));
        }
        codes.extend(chosen);
    }
    let before = squared_errors(job.statistics, &before, inputs);
    let after = squared_errors(job.statistics, &after, inputs);
    Ok(Bundle { codes, before, after, grids: Vec::new() })
}

/// The squared errors of rows, exactly: `errors` holds `w − ŵ` of some rows.
pub(super) fn squared_errors(statistics: &Statistics, errors: &[f64], inputs: usize) -> Vec<f64> {
    let rows = errors.len().checked_div(inputs).unwrap_or(0);
    match ArrayView2::from_shape((rows, inputs), errors) {
        Ok(errors) => quadratic_forms(errors, statistics.upper()),
        Err(_) => Vec::new(),
    }
}
