//! What the calibration samples say about the inputs of a layer.

use anyhow::Result;
use lowbit::layer::{Patches, Statistics};
use lowbit::transform::mean_magnitudes;
use ndarray::Axis;
use rayon::prelude::*;

use crate::network::{Batches, Layer, view};
use crate::sample::ops::Planes;

/// The patches that `layer` sees.
pub(crate) fn patches(layer: &Layer) -> Patches {
    let conv = &layer.conv;
    let groups = if conv.depthwise { conv.inputs } else { 1 };
    Patches::new([conv.kernel; 2]).stride([conv.stride; 2]).padding([conv.kernel / 2; 2]).groups(groups)
}

/// Statistics of the patches in all batches: one for each group of outputs.
pub(crate) fn statistics(layer: &Layer, inputs: &Batches) -> Result<Vec<Statistics>> {
    let patches = patches(layer);
    let of_batch = |batch: &Planes| {
        let mut statistics = patches.statistics(layer.conv.inputs)?;
        patches.observe(&view(batch)?, &mut statistics)?;
        Ok(statistics)
    };
    let parts: Vec<Vec<Statistics>> = inputs.par_iter().map(of_batch).collect::<Result<_>>()?;
    // In the order of the batches, whatever the number of threads.
    let mut all = patches.statistics(layer.conv.inputs)?;
    for part in &parts {
        for (all, part) in all.iter_mut().zip(part) {
            all.merge(part)?;
        }
    }
    Ok(all)
}

/// The mean magnitude of each channel.
pub(crate) fn magnitudes(inputs: &Batches) -> Result<Vec<f64>> {
    let mut means = Vec::new();
    let images: usize = inputs.iter().map(|batch| batch.batch).sum();
    for batch in inputs {
        let share = batch.batch as f64 / images as f64;
        let of_batch = mean_magnitudes(&view(batch)?, Axis(1))?;
        means.resize(of_batch.len(), 0.0);
        means
            .iter_mut()
            .zip(of_batch)
            .for_each(|(mean, of_batch): (&mut f64, f64)| *mean += share * of_batch);
    }
    Ok(means)
}
