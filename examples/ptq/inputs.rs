//! What the calibration samples say about the inputs of a layer.

use anyhow::{Context, Result};
use lowbit::layer::{Activation, Chain, Patches, Samples, Stage, Statistics};
use lowbit::transform::mean_magnitudes;
use ndarray::{Array4, ArrayView4, ArrayViewD, Axis};
use rayon::prelude::*;

use crate::layers::Task;
use crate::network::{Batches, Layer, Parameters, by_channel, view};
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

/// Samples of `inputs`, one for each group of outputs, with the outputs of the float layer for `float_inputs`, the inputs
/// that belong to these.
pub(crate) fn samples(
    layer: &Layer,
    float: &Parameters,
    float_inputs: &Batches,
    inputs: &Batches,
) -> Result<Vec<Samples>> {
    let outputs = float_inputs.par_iter().map(|batch| layer.outputs(float, batch));
    let outputs: Batches = outputs.collect::<Result<_>>()?;
    let patches = patches(layer);
    let samples = patches.targets(patches.samples(&images(inputs)?)?, &images(&outputs)?)?;
    let samples = patches.bias(samples, &float.bias)?;
    Ok(samples.into_iter().map(|group| group.activation(activation(layer))).collect())
}

/// What follows the layer.
fn activation(layer: &Layer) -> Activation {
    if layer.has_relu() { Activation::Relu } else { Activation::None }
}

/// The layers of `tasks` one after the other, with the outputs of the float layers as targets.
pub(crate) fn chain(tasks: &[Task<'_>]) -> Result<Chain> {
    let first = tasks.first().context("no layers")?;
    let stage = |task: &Task<'_>| {
        let stage = Stage::convolution(patches(task.layer)).bias(&task.float.bias)?;
        Ok(stage.activation(activation(task.layer)))
    };
    let stages: Vec<Stage> = tasks.iter().map(stage).collect::<Result<_>>()?;
    let weights: Vec<ArrayViewD<'_, f32>> = tasks.iter().map(|task| task.float.weights.view()).collect();
    let float = Chain::new(&images(first.float_inputs)?, stages)?;
    let outputs = float.outputs(&weights)?;
    Ok(float.inputs(&images(first.inputs()?)?)?.targets(&outputs)?)
}

/// All batches as (image, channel, row, column).
fn images(batches: &Batches) -> Result<Array4<f32>> {
    let views: Vec<ArrayView4<'_, f32>> = batches.iter().map(view).collect::<Result<_>>()?;
    Ok(ndarray::concatenate(Axis(0), &views)?)
}

/// The mean magnitude of each channel.
pub(crate) fn magnitudes(inputs: &Batches) -> Result<Vec<f64>> {
    let mut means = Vec::new();
    let images: usize = inputs.iter().map(|batch| batch.batch).sum();
    for batch in inputs {
        let share = batch.batch as f64 / images as f64;
        let of_batch = mean_magnitudes(&by_channel(batch)?, Axis(0))?;
        means.resize(of_batch.len(), 0.0);
        means
            .iter_mut()
            .zip(of_batch)
            .for_each(|(mean, of_batch): (&mut f64, f64)| *mean += share * of_batch);
    }
    Ok(means)
}
