//! What methods make small that learn from samples: the squared error of each output, with a correction of the bias.

use core::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};

use crate::error::{Result, ShapeError};
use crate::tensor::{Grid, Grids, QuantizedTensor};

use super::Solution;
use super::matrix::quadratic_forms;
use super::problem::Problem;
use super::report::{Report, StopReason};
use super::rows::fields;
use super::samples::{Activation, Samples};
use super::statistics::Statistics;

/// Rows and samples that are in memory together.
const BUNDLE: usize = 256;

/// The correction, if it has a number for each output.
pub(super) fn correction<'c>(
    problem: &Problem<'_>,
    correction: Option<&'c Array1<f64>>,
) -> Result<Option<ArrayView1<'c, f64>>> {
    match correction {
        Some(given) if given.len() != problem.outputs() => {
            Err(ShapeError::Length { found: given.len(), expected: problem.outputs() }.into())
        }
        given => Ok(given.map(|given| given.view())),
    }
}

/// The mean squared error of each output, over the samples where these have targets or an activation, else by the
/// statistics.
pub(super) fn row_losses(
    problem: &Problem<'_>,
    tensor: &QuantizedTensor,
    correction: Option<ArrayView1<'_, f64>>,
) -> Result<Vec<f64>> {
    if !problem.given_samples().iter().any(Samples::is_special) {
        return statistics_losses(problem, problem.groups(), tensor, correction);
    }
    sample_losses(problem, problem.given_samples(), tensor, correction)
}

/// The mean squared error of each output over samples, one for each group.
pub(super) fn sample_losses(
    problem: &Problem<'_>,
    groups: &[Samples],
    tensor: &QuantizedTensor,
    correction: Option<ArrayView1<'_, f64>>,
) -> Result<Vec<f64>> {
    each_bundle(problem, tensor, |group, rows, errors| {
        let Some(samples) = groups.get(group) else { return vec![0.0; rows.len()] };
        let against = Against::new(problem, samples, group, rows.clone());
        let correction = correction.as_ref().map(|all| all.slice(s![rows]));
        against.losses(samples, errors, correction)
    })
}

/// The mean squared error of each output by statistics.
pub(super) fn statistics_losses(
    problem: &Problem<'_>,
    groups: &[Statistics],
    tensor: &QuantizedTensor,
    correction: Option<ArrayView1<'_, f64>>,
) -> Result<Vec<f64>> {
    each_bundle(problem, tensor, |group, rows, errors| {
        let Some(statistics) = groups.get(group) else { return vec![0.0; rows.len()] };
        let mut losses = quadratic_forms(errors, statistics.upper());
        losses.iter_mut().for_each(|loss| *loss /= statistics.count() as f64);
        if let (Some(correction), Some(mean)) = (correction, statistics.mean()) {
            let shifts = errors.dot(&mean);
            for ((loss, shift), correction) in losses.iter_mut().zip(shifts).zip(correction.slice(s![rows])) {
                // The square of c − e·x̄, without that of e·x̄, which is in the sum already.
                *loss = (*loss + correction * (correction - 2.0 * shift)).max(0.0);
            }
        }
        losses
    })
}

/// The losses of all rows from `W − Ŵ` of some of them at a time, all of one group.
fn each_bundle(
    problem: &Problem<'_>,
    tensor: &QuantizedTensor,
    losses: impl Fn(usize, Range<usize>, ArrayView2<'_, f64>) -> Vec<f64>,
) -> Result<Vec<f64>> {
    let (found, expected) = (tensor.shape(), problem.weights().shape());
    if found != expected {
        return Err(ShapeError::Mismatch { found: found.to_vec(), expected: expected.to_vec() }.into());
    }
    let per_group = problem.outputs_per_group();
    let mut all = Vec::with_capacity(problem.outputs());
    for group in 0..problem.groups().len() {
        let rows = group * per_group..(group + 1) * per_group;
        for from in rows.clone().step_by(BUNDLE) {
            let rows = from..(from + BUNDLE).min(rows.end);
            let errors = problem.errors(rows.clone(), tensor)?;
            all.extend(losses(group, rows, errors.view()));
        }
    }
    Ok(all)
}

/// What the outputs of some rows are with the weights as they are, and what they should be, [samples, rows].
pub(super) struct Against {
    /// `Wx + b`, before the activation.
    pub(super) own: Array2<f32>,
    /// After the activation.
    pub(super) targets: Array2<f32>,
    pub(super) activation: Activation,
}

impl Against {
    /// Of the rows `rows`, which are of the group `group`.
    pub(super) fn new(problem: &Problem<'_>, samples: &Samples, group: usize, rows: Range<usize>) -> Self {
        let first = group * problem.outputs_per_group();
        let within = rows.start.saturating_sub(first)..rows.end.saturating_sub(first);
        let mut scratch = Vec::new();
        let weights = problem.rows::<f64>(rows.clone(), &mut scratch);
        let mut own = Array2::zeros((samples.count(), rows.len()));
        if let Ok(weights) = ArrayView2::from_shape((rows.len(), problem.inputs()), weights) {
            for_chunks(samples, |range, x| {
                let mut z = x.dot(&weights.t());
                if let Some(bias) = samples.given_bias() {
                    z += &bias.slice(s![within.clone()]).mapv(f64::from);
                }
                own.slice_mut(s![range, ..]).assign(&z.mapv(|z| z as f32));
            });
        }
        let activation = samples.given_activation();
        let through = |z: &f32| activation.with_slope(*z).0;
        let targets = match samples.given_targets() {
            Some(targets) => targets.slice(s![.., within]).map(through),
            None => own.map(through),
        };
        Self { own, targets, activation }
    }

    /// The mean squared error of each row, with `errors = W − Ŵ`.
    pub(super) fn losses(
        &self,
        samples: &Samples,
        errors: ArrayView2<'_, f64>,
        correction: Option<ArrayView1<'_, f64>>,
    ) -> Vec<f64> {
        let mut sums = vec![0.0; errors.nrows()];
        for_chunks(samples, |range, x| {
            let mut z = self.own.slice(s![range.clone(), ..]).mapv(f64::from);
            general_mat_mul(-1.0, &x, &errors.t(), 1.0, &mut z);
            if let Some(correction) = correction {
                z += &correction;
            }
            for (z, targets) in z.rows().into_iter().zip(self.targets.slice(s![range, ..]).rows()) {
                for ((sum, &z), &target) in sums.iter_mut().zip(z).zip(targets) {
                    let error = self.activation.apply(z) - f64::from(target);
                    *sum += error * error;
                }
            }
        });
        let count = samples.count().max(1) as f64;
        sums.iter_mut().for_each(|sum| *sum /= count);
        sums
    }
}

/// Some samples at a time, in f64.
fn for_chunks(samples: &Samples, mut action: impl FnMut(Range<usize>, ArrayView2<'_, f64>)) {
    for from in (0..samples.count()).step_by(BUNDLE) {
        let range = from..(from + BUNDLE).min(samples.count());
        let x = samples.inputs().slice_move(s![range.clone(), ..]).mapv(f64::from);
        action(range, x.view());
    }
}

/// What a method proposes for all rows.
pub(super) struct Proposal {
    /// Codes as fields, row by row.
    pub(super) codes: Vec<u16>,
    /// Other grids for all regions, each of which lies within one row.
    pub(super) grids: Option<Grids>,
    pub(super) correction: Option<Array1<f64>>,
}

/// How a method came to its proposal.
pub(super) struct Course {
    pub(super) iterations: usize,
    pub(super) stop: StopReason,
    pub(super) dead_inputs: usize,
}

/// What is better than the nearest codes of a proposal, row by row.
pub(super) fn judge(problem: &Problem<'_>, proposal: Proposal, course: &Course) -> Result<Solution> {
    let Proposal { mut codes, grids, mut correction } = proposal;
    let (nearest, inputs) = (problem.nearest(), problem.inputs().max(1));
    let proposed = problem.on_their_grids().with_fields(&codes, grids.clone())?;
    let before = row_losses(problem, nearest, None)?;
    let mut after = row_losses(problem, &proposed, correction.as_ref().map(|all| all.view()))?;
    // Written so that NaN keeps the nearest codes.
    let lost: Vec<bool> = before.iter().zip(&after).map(|(before, after)| !(after < before)).collect();
    let kept = lost.iter().filter(|&&lost| lost).count();
    let mut tensor = proposed;
    if kept > 0 {
        let nearest_codes = fields(nearest.codes());
        let pairs = codes.chunks_mut(inputs).zip(nearest_codes.chunks(inputs)).zip(&lost);
        pairs.filter(|&(_, &lost)| lost).for_each(|((codes, nearest), _)| codes.copy_from_slice(nearest));
        for ((after, &before), &lost) in after.iter_mut().zip(&before).zip(&lost) {
            *after = if lost { before } else { *after };
        }
        if let Some(correction) = &mut correction {
            for (correction, _) in correction.iter_mut().zip(&lost).filter(|&(_, &lost)| lost) {
                *correction = 0.0;
            }
        }
        let grids = grids.map(|grids| mixed(problem, &grids, &lost)).transpose()?;
        tensor = problem.on_their_grids().with_fields(&codes, grids)?;
    }
    let outputs = problem.outputs().max(1) as f64;
    let held_out = problem.held_out_sample_loss(nearest, None)?;
    let held_out = held_out.zip(problem.held_out_sample_loss(&tensor, correction.as_ref())?);
    let report = Report {
        held_out,
        after: after.iter().sum::<f64>() / outputs,
        iterations: course.iterations,
        rows_kept: kept,
        dead_inputs: course.dead_inputs,
        ..Report::of_nearest(before.iter().sum::<f64>() / outputs, kept, course.stop)
    };
    Ok(Solution { tensor, report, bias_correction: correction })
}

/// Grids of the rows that lost from the nearest codes, others from `grids`.
fn mixed(problem: &Problem<'_>, grids: &Grids, lost: &[bool]) -> Result<Grids> {
    let nearest = problem.nearest();
    let mut from_nearest = vec![false; nearest.grids().len()];
    for (row, _) in lost.iter().enumerate().filter(|&(_, &lost)| lost) {
        for region in super::places::row_regions(nearest.tiling(), problem.inputs(), row) {
            if let Some(place) = from_nearest.get_mut(region) {
                *place = true;
            }
        }
    }
    let mut all = Grids::new(problem.scheme());
    for (region, &from_nearest) in from_nearest.iter().enumerate() {
        let grid: Option<Grid> = if from_nearest { nearest.grid(region) } else { grids.get(region) };
        grid.into_iter().try_for_each(|grid| all.push(grid))?;
    }
    all.finish()?;
    Ok(all)
}
