//! Grids of groups that are fitted again when the first weight of a group has its turn.

use core::ops::Range;

use ndarray::{Array2, LinalgScalar};

use crate::calibration::{Evidence, Region, Values};
use crate::element::{Element, FloatType, Real};
use crate::error::Result;
use crate::granularity::Segment;
use crate::tensor::{Grids, decider};

use super::plane::Work;

/// What a group of refreshed grids decides with.
pub(super) struct Refreshed {
    pub(super) grids: Grids,
    pub(super) segments: Vec<Vec<Segment>>,
}

impl<T: Real + LinalgScalar> Work<'_, '_, T> {
    /// The grids of the columns `range`, a group of each row, in the weights as they are after the updates of all earlier
    /// columns: those that would make components `range` of `eR` zero.
    pub(super) fn refreshed(&mut self, range: &Range<usize>) -> Result<Refreshed> {
        let problem = self.job.problem;
        let (quantizer, scheme) = (problem.recipe().quantizer(), problem.scheme());
        let span = self.span(range.start);
        let regions = self.columns.regions.get(span).cloned().unwrap_or_default();
        // Changes x of the weights with y = x·R within the group.
        let mut changes = Array2::<T>::zeros((range.len(), self.rows));
        for (j, k) in range.clone().enumerate() {
            for r in 0..self.rows {
                let mut change = self.sums[[k, r]];
                for (i, earlier) in range.clone().enumerate().take(j) {
                    change -= changes[[i, r]] * self.r[[earlier, k]];
                }
                changes[[j, r]] = change / self.r[[k, k]];
            }
        }
        let all = self.columns.spans.get(span).cloned().unwrap_or_default();
        let mut grids = Grids::new(scheme);
        let mut scratch = Vec::new();
        let weights = problem.rows::<T>(self.job.rows.clone(), &mut scratch);
        let by_row = || weights.chunks(problem.inputs().max(1));
        for (r, (&region, weights)) in regions.iter().zip(by_row()).enumerate() {
            // Dead inputs of the group as they are.
            let mut values: Vec<T> = weights.get(all.clone()).unwrap_or_default().to_vec();
            for (j, k) in range.clone().enumerate() {
                let input = self.factor.order.get(k).copied().unwrap_or_default();
                if let Some(value) = values.get_mut(input.saturating_sub(all.start)) {
                    *value += changes[[j, r]];
                }
            }
            let fit = if T::TYPE == FloatType::F64 {
                let values: Vec<f64> = values.iter().map(|&value| Element::to_f64(value)).collect();
                quantizer.fit(&Region::new(region, Evidence::Values(Values::F64(&values))), scheme)?
            } else {
                let values: Vec<f32> = values.iter().map(|&value| Element::to_f32(value)).collect();
                quantizer.fit(&Region::new(region, Evidence::Values(Values::F32(&values))), scheme)?
            };
            grids.push(fit.grid)?;
        }
        grids.finish()?;
        let kept = regions.iter().enumerate().filter_map(|(r, &region)| Some((r, region, grids.get(r)?)));
        self.grids.extend(kept);
        let segments =
            vec![vec![Segment { start: 0, len: self.rows, region: 0, stride: 1, width: 1, phase: 0 }]];
        let decider = decider::<T>((scheme, &grids), problem.encoding(), &segments)?;
        let live = self.factor.order.get(range.clone()).unwrap_or_default();
        for input in all.filter(|input| !live.contains(input)) {
            let column: Vec<T> = by_row().filter_map(|weights| weights.get(input).copied()).collect();
            let mut codes = vec![0; self.rows];
            decider.codes(0, &column, &mut codes);
            self.dead.push((input, codes));
        }
        drop(decider);
        Ok(Refreshed { grids, segments })
    }
}
