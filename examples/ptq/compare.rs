//! Every method at every width.

use anyhow::Result;
use lowbit::BitWidth;
use lowbit::allocation::MixedPrecision;

use crate::console::causes;
use crate::interrupt;
use crate::measure::{HeldOut, Outcome};
use crate::methods::Plan;
use crate::mixed;
use crate::options::Options;
use crate::pipeline::Calibration;
use crate::progress::Progress;

/// What came of the methods, and which of them cannot serve the grid.
pub(crate) struct Compared {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) left_out: Vec<String>,
}

/// Tries everything.
pub(crate) fn compare(options: &Options, calibration: &Calibration, held_out: &HeldOut) -> Result<Compared> {
    let (plans, widths) = (options.plans(), options.widths());
    let measured = plans.iter().filter(|plan| plan.mixed).count() * mixed::steps(calibration);
    let steps = measured + plans.len() * widths.len() * calibration.layers();
    let progress = Progress::new("quantizing", steps as u64);
    let mut compared = Compared { outcomes: Vec::new(), left_out: Vec::new() };
    for plan in plans {
        progress.tell(plan.name());
        let trial = Trial { plan, calibration, held_out, progress: &progress };
        if let Err(error) = trial.at(&widths, &mut compared.outcomes) {
            // An interruption is no fault of the method.
            interrupt::check()?;
            compared.left_out.push(format!("left out: {}: {}\n", plan.name(), causes(&error)));
        }
    }
    Ok(compared)
}

/// One plan.
struct Trial<'t> {
    plan: Plan,
    calibration: &'t Calibration,
    held_out: &'t HeldOut,
    progress: &'t Progress,
}

impl Trial<'_> {
    /// At all widths.
    fn at(&self, widths: &[BitWidth], outcomes: &mut Vec<Outcome>) -> Result<()> {
        if !self.plan.mixed {
            return widths.iter().try_for_each(|&bits| {
                outcomes.push(self.outcome(bits, &vec![bits; self.calibration.layers()])?);
                Ok(())
            });
        }
        let costs = mixed::measure(self.calibration, self.plan.method, &mut || self.progress.step())?;
        for &bits in widths {
            if let Some(of_layers) = self.allocation(&costs, bits)? {
                outcomes.push(self.outcome(bits, &of_layers)?);
            }
        }
        Ok(())
    }

    fn allocation(&self, costs: &MixedPrecision, bits: BitWidth) -> Result<Option<Vec<BitWidth>>> {
        let widths = mixed::widths(costs, bits)?;
        if widths.is_none() {
            (0..self.calibration.layers()).try_for_each(|_| self.progress.step())?;
        }
        Ok(widths)
    }

    fn outcome(&self, bits: BitWidth, widths: &[BitWidth]) -> Result<Outcome> {
        let quantized = self.calibration.quantize(self.plan.method, widths, &mut || self.progress.step())?;
        self.held_out.measure(self.calibration, &self.plan, bits, widths, &quantized)
    }
}
