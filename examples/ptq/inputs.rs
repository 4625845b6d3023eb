//! What the calibration samples say about the inputs of a layer.

use anyhow::{Context, Result};
use lowbit::layer::{Activation, Chain, Patches, Samples, Stage, Statistics};
use lowbit::transform::mean_magnitudes;
use ndarray::{Array2, Array4, ArrayView2, ArrayView4, ArrayViewD, Axis, s};
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

/// The patches themselves, one column each, below each other those of all input channels.
fn columns(layer: &Layer, inputs: &Batches) -> Result<Array2<f32>> {
    let conv = &layer.conv;
    let taps = conv.inputs * conv.kernel * conv.kernel;
    let of_batch = |batch: &Planes| {
        let mut rows = Vec::new();
        for row in 0..conv.output_side(batch.height) {
            let mut patches = vec![0.0; taps * conv.output_side(batch.width) * batch.batch];
            conv.gather(batch, row, &mut patches);
            rows.push(Array2::from_shape_vec((taps, patches.len() / taps), patches)?);
        }
        beside_each_other(&rows)
    };
    beside_each_other(&inputs.par_iter().map(of_batch).collect::<Result<Vec<_>>>()?)
}

fn beside_each_other(parts: &[Array2<f32>]) -> Result<Array2<f32>> {
    let views: Vec<ArrayView2<'_, f32>> = parts.iter().map(|part| part.view()).collect();
    Ok(ndarray::concatenate(Axis(1), &views)?)
}

/// Samples of `inputs`, one for each group of outputs, with the outputs of the float layer for `float_inputs`, the inputs
/// that belong to these.
pub(crate) fn samples(
    layer: &Layer,
    float: &Parameters,
    float_inputs: &Batches,
    inputs: &Batches,
) -> Result<Vec<Samples>> {
    let outputs_of = |batch: &Planes| {
        let outputs = layer.outputs(float, batch)?;
        Ok(Array2::from_shape_vec((outputs.channels, outputs.plane()), outputs.data)?)
    };
    let targets = beside_each_other(&float_inputs.par_iter().map(outputs_of).collect::<Result<Vec<_>>>()?)?;
    let columns = columns(layer, inputs)?;
    let groups = if layer.conv.depthwise { layer.conv.inputs } else { 1 };
    let (taps, outputs) = (columns.nrows() / groups, targets.nrows() / groups);
    let activation = if layer.has_relu() { Activation::Relu } else { Activation::None };
    let of_group = |group: usize| {
        let columns = columns.slice(s![group * taps..(group + 1) * taps, ..]);
        let rows = group * outputs..(group + 1) * outputs;
        let samples = Samples::new(&columns.t())?.targets(&targets.slice(s![rows.clone(), ..]).t())?;
        Ok(samples.bias(&float.bias.slice(s![rows]))?.activation(activation))
    };
    (0..groups).map(of_group).collect()
}

/// The layers of `tasks` one after the other, with the outputs of the float layers as targets.
pub(crate) fn chain(tasks: &[Task<'_>]) -> Result<Chain> {
    let first = tasks.first().context("no layers")?;
    let stage = |task: &Task<'_>| {
        let activation = if task.layer.has_relu() { Activation::Relu } else { Activation::None };
        Ok(Stage::convolution(patches(task.layer)).bias(&task.float.bias)?.activation(activation))
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
