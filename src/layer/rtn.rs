//! The baseline: each weight gets the nearest code.
//!
//! ```text
//! q = argmin_q |w − r̃(q)|
//! ```
//!
//! Best for the weights alone, and for a layer whose inputs are uncorrelated and of mean zero: `XᵀX` is a diagonal then,
//! and every weight can be chosen for itself.

use core::fmt;

use crate::error::Result;

use super::problem::Problem;
use super::report::{Progress, Report, StopReason};
use super::{LayerMethod, Run, Solution};

/// The nearest codes, which the recipe alone gives, with the report of a method.
///
/// Time: the square of the inputs for each output, to measure the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Nearest;

impl LayerMethod for Nearest {
    fn begin<'p>(&self, problem: &'p Problem<'_>) -> Result<Box<dyn Run + 'p>> {
        Ok(Box::new(NearestRun { problem, stop: StopReason::Finished }))
    }
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("nearest")
    }
}

/// A run that has nothing to do.
pub(super) struct NearestRun<'p, 'a> {
    pub(super) problem: &'p Problem<'a>,
    pub(super) stop: StopReason,
}

impl Run for NearestRun<'_, '_> {
    fn step(&mut self) -> Result<Progress> {
        Ok(Progress { step: 0, steps: 0, loss: f64::NAN, finished: true })
    }

    fn solution(&self) -> Result<Solution> {
        let tensor = self.problem.nearest().clone();
        let report = Report::of_nearest(self.problem.loss(&tensor)?, self.problem.outputs(), self.stop);
        let held_out = self.problem.held_out_loss(&tensor)?.map(|loss| (loss, loss));
        Ok(Solution { tensor, report: Report { held_out, ..report }, bias_correction: None })
    }
}
