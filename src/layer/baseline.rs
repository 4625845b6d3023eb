//! What the nearest codes cost each row: the baseline that every method is held to.

use ndarray::{Array2, ArrayView2, LinalgScalar};

use crate::element::{Element, FloatType, Real};
use crate::error::{Error, Result};
use crate::parallel;

use super::matrix::quadratic_forms;
use super::problem::Problem;
use super::statistics::Statistics;

/// Rows whose errors are in memory together.
pub(super) const BUNDLE: usize = 512;

/// The squared errors of all rows with their nearest codes, summed over samples.
///
/// Weights that are decided in f32 are measured in f32, at half the time; where that is not certain enough to compare
/// with, a method measures the row again in f64.
#[derive(Debug, Clone, Default)]
pub(super) struct Baseline {
    /// Of each row.
    pub(super) errors: Vec<f64>,
    /// What the rounding of sums can have changed.
    pub(super) uncertain: Vec<f64>,
}

impl Baseline {
    /// Cost: the square of the inputs for each row.
    pub(super) fn new(problem: &Problem<'_>) -> Result<Self> {
        let mut baseline = Self::default();
        for (group, statistics) in problem.groups().iter().enumerate() {
            let from = group * problem.outputs_per_group();
            if problem.arithmetic() == FloatType::F64 {
                baseline.add(problem, statistics, from, statistics.upper(), 1.0)?;
            } else {
                // So that the numbers are at most 1, whatever the inputs.
                let largest = statistics.upper().diag().iter().fold(0.0f64, |most, &value| most.max(value));
                let unit = if largest > 0.0 { largest } else { 1.0 };
                let narrow = narrowed(statistics.upper(), unit);
                baseline.add(problem, statistics, from, narrow.view(), unit)?;
            }
        }
        Ok(baseline)
    }

    /// Adds the rows of a group, which begin at `from`. `gram` is `XᵀX / unit`.
    fn add<T: Real + LinalgScalar>(
        &mut self,
        problem: &Problem<'_>,
        statistics: &Statistics,
        from: usize,
        gram: ArrayView2<'_, T>,
        unit: f64,
    ) -> Result<()> {
        let inputs = problem.inputs();
        let end = from + problem.outputs_per_group();
        let diagonal = statistics.diagonal();
        // Errors of sums grow as the root of their length, as they are of either sign.
        let noise = 4.0 * T::TYPE.epsilon() * (inputs as f64).sqrt();
        let count = (end - from).div_ceil(BUNDLE);
        let work = (end - from).saturating_mul(inputs).saturating_mul(inputs) / 64;
        let bundles = parallel::map_indices(
            count,
            work,
            || (),
            |(), index| {
                let start = from + index * BUNDLE;
                let errors = problem.errors::<T>(start..(start + BUNDLE).min(end), problem.nearest())?;
                let forms = quadratic_forms(errors.view(), gram);
                let without_cross: Vec<f64> = errors
                    .rows()
                    .into_iter()
                    .map(|row| {
                        let squares = row.iter().map(|&error| Element::to_f64(error).powi(2));
                        squares.zip(&diagonal).map(|(square, used)| square * used).sum()
                    })
                    .collect();
                Ok::<_, Error>((forms, without_cross))
            },
        );
        for bundle in bundles {
            let (forms, without_cross) = bundle?;
            self.errors.extend(forms.iter().map(|form| form * unit));
            self.uncertain.extend(without_cross.iter().map(|sum| noise * sum));
        }
        Ok(())
    }
}

/// A matrix divided by `unit`, in f32.
pub(super) fn narrowed(matrix: ArrayView2<'_, f64>, unit: f64) -> Array2<f32> {
    let (rows, columns) = matrix.dim();
    let mut narrow = Array2::zeros((rows, columns));
    let Some(out) = narrow.as_slice_mut() else { return narrow };
    parallel::map_chunks(
        out,
        columns.max(1),
        rows.saturating_mul(columns),
        || (),
        |(), row, out| {
            for (out, value) in out.iter_mut().zip(matrix.row(row)) {
                *out = (value / unit) as f32;
            }
        },
    );
    narrow
}
