//! What each method does with a layer. All of them return weights for the layer as it was: where a method scales or
//! splits channels, what it makes of the network around the layer is undone in the restored weights, which changes nothing
//! but makes all results comparable.

use std::ops::ControlFlow;

use anyhow::{Context, Result};
use lowbit::layer::{
    AdaQuant, AdaRound, BlockProblem, Brecq, Gptq, Lattice, LayerMethod, Obq, Order, Problem, Statistics,
    Weights,
};
use lowbit::prelude::*;
use lowbit::quantizer::Hqq;
use lowbit::transform::{
    Activation, Awq, BiasCorrection, DenseAndSparse, InputStatistics, LayerMut, OutlierChannels,
    WeightCorrection,
};
use ndarray::{ArrayD, Axis, IxDyn};
use rayon::prelude::*;

use crate::equalization::Scaled;
use crate::inputs;
use crate::interrupt;
use crate::network::{Batches, Layer, Parameters, by_channel};
use crate::options::Grid;

/// A share of the channels, which OCS splits.
const SPLIT: f64 = 0.05;
/// A share of the weights, which dense-and-sparse keeps.
const KEPT: f64 = 0.01;
/// Partial solutions of the lattice search.
const WIDTH: usize = 16;

/// A layer to be quantized.
pub(crate) struct Task<'t> {
    pub(crate) layer: &'t Layer,
    pub(crate) float: &'t Parameters,
    pub(crate) bits: BitWidth,
    pub(crate) learning: Learning,
    pub(crate) grid: &'t Grid,
    /// The layer among equalized ones.
    pub(crate) scaled: &'t Scaled,
    /// What the float network gives it.
    pub(crate) float_inputs: &'t Batches,
    /// What the quantized layers before it give it, if the method needs it: of a block only for its first layer.
    pub(crate) inputs: Option<&'t Batches>,
    /// Statistics of these, if the method needs them.
    pub(crate) statistics: Option<&'t [Statistics]>,
}

/// What methods that learn from batches of samples have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Learning {
    pub(crate) steps: usize,
    /// Of the order of the samples.
    pub(crate) seed: u64,
}

/// A layer that is quantized.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    /// Restored weights, and the bias.
    pub(crate) parameters: Parameters,
    /// Bits of codes and parameters of the weights.
    pub(crate) size: u64,
}

impl Task<'_> {
    fn recipe(&self) -> Recipe {
        self.grid.recipe(self.bits)
    }

    fn weights(&self) -> Result<Weights<'_>> {
        Ok(Weights::new(&self.float.weights, &self.recipe())?)
    }

    pub(crate) fn inputs(&self) -> Result<&Batches> {
        self.inputs.context("inputs were not asked for")
    }

    fn statistics(&self) -> Result<&[Statistics]> {
        self.statistics.context("statistics were not asked for")
    }

    /// With the bias as it was.
    fn done(&self, weights: ArrayD<f32>, size: u64) -> Done {
        Done { parameters: Parameters { weights, bias: self.float.bias.clone() }, size }
    }

    fn quantized(&self, quantized: &QuantizedTensor) -> Result<Done> {
        Ok(self.done(quantized.dequantize::<f32, IxDyn>()?, size(quantized)))
    }
}

/// Bits of codes and parameters.
fn size(quantized: &QuantizedTensor) -> u64 {
    8 * quantized.bytes()
}

pub(crate) fn nearest(task: &Task<'_>) -> Result<Done> {
    task.quantized(&task.recipe().quantize(&task.float.weights)?)
}

pub(crate) fn least_error(task: &Task<'_>) -> Result<Done> {
    let recipe = Uniform::symmetric(task.bits).calibration(Mse).granularity(task.grid.granularity());
    task.quantized(&recipe.quantize(&task.float.weights)?)
}

pub(crate) fn half_quadratic(task: &Task<'_>) -> Result<Done> {
    let recipe = Hqq::new(task.bits).granularity(task.grid.granularity());
    task.quantized(&recipe.quantize(&task.float.weights)?)
}

pub(crate) fn weight_correction(task: &Task<'_>) -> Result<Done> {
    let quantized = task.recipe().quantize(&task.float.weights)?;
    let restored = quantized.dequantize::<f32, IxDyn>()?;
    let correction = WeightCorrection::new(&task.float.weights, &restored, Axis(0))?;
    task.quantized(&correction.fold(&quantized, Axis(0))?)
}

pub(crate) fn analytic_bias(task: &Task<'_>) -> Result<Done> {
    correct_by_normals(task, nearest(task)?)
}

/// Layers whose inputs are not clipped normal numbers stay as they are: the first one, and those behind a max pooling.
fn correct_by_normals(task: &Task<'_>, mut done: Done) -> Result<Done> {
    if let Some(normals) = &task.layer.normals {
        let (weights, restored) = (&task.float.weights, &done.parameters.weights);
        let channels = task.layer.channels();
        let correction = BiasCorrection::analytic(weights, restored, channels, normals, Activation::Relu)?;
        correction.apply(&mut done.parameters.bias)?;
    }
    Ok(done)
}

pub(crate) fn empirical_bias(task: &Task<'_>) -> Result<Done> {
    correct_by_outputs(task, nearest(task)?)
}

/// What the layers before this one got wrong on average is made up for, too.
fn correct_by_outputs(task: &Task<'_>, mut done: Done) -> Result<Done> {
    let batches: Vec<_> = task.float_inputs.iter().zip(task.inputs()?).collect();
    let images: usize = batches.iter().map(|(batch, _)| batch.batch).sum();
    let shifts: Vec<Vec<f64>> = batches
        .par_iter()
        .map(|(float, inputs)| {
            let original = task.layer.outputs(task.float, float)?;
            let quantized = task.layer.outputs(&done.parameters, inputs)?;
            let share = float.batch as f64 / images as f64;
            let correction =
                BiasCorrection::from_outputs(&by_channel(&original)?, &by_channel(&quantized)?, Axis(0))?;
            Ok(correction.shifts().iter().map(|shift| share * shift).collect())
        })
        .collect::<Result<_>>()?;
    for (output, bias) in done.parameters.bias.iter_mut().enumerate() {
        let shift: f64 = shifts.iter().filter_map(|shifts| shifts.get(output)).sum();
        *bias = (f64::from(*bias) - shift) as f32;
    }
    Ok(done)
}

pub(crate) fn equalized(task: &Task<'_>) -> Result<Done> {
    let quantized = task.recipe().quantize(&task.scaled.weights)?;
    let mut weights = quantized.dequantize::<f32, IxDyn>()?;
    task.scaled.undo(task.layer, &mut weights);
    Ok(task.done(weights, size(&quantized)))
}

pub(crate) fn equalized_with_bias(task: &Task<'_>) -> Result<Done> {
    correct_by_normals(task, equalized(task)?)
}

/// Depthwise layers have one input for each output, and nothing to share out.
pub(crate) fn awq(task: &Task<'_>) -> Result<Done> {
    let (layer, [statistics]) = (task.layer, task.statistics()?) else { return nearest(task) };
    let magnitudes = inputs::magnitudes(task.inputs()?)?;
    let mut weights = task.float.weights.clone();
    let gram = statistics.gram() / statistics.count() as f64;
    let scaling = Awq::default().scale(
        LayerMut::new(&mut weights, layer.channels())?,
        &task.recipe(),
        &magnitudes,
        &InputStatistics::Hessian(gram.view()),
    )?;
    let quantized = task.recipe().quantize(&weights)?;
    let mut weights = quantized.dequantize::<f32, IxDyn>()?;
    Scaled::divide_inputs(layer, &mut weights, &scaling.factors);
    Ok(task.done(weights, size(&quantized)))
}

/// Depthwise layers have one input for each output: to split it would split the output too.
pub(crate) fn split_channels(task: &Task<'_>) -> Result<Done> {
    if task.layer.conv.depthwise {
        return nearest(task);
    }
    let (inputs, weights) = (Axis(1), &task.float.weights);
    let split =
        OutlierChannels::quantization_aware(task.bits)?.expand(SPLIT)?.split_weights(weights, inputs)?;
    let quantized = task.recipe().quantize(split.weights())?;
    let restored = quantized.dequantize::<f32, IxDyn>()?;
    // Both halves of a channel see the same input.
    let mut whole = ArrayD::<f32>::zeros(weights.raw_dim());
    for (&source, part) in split.sources().iter().zip(restored.axis_iter(inputs)) {
        let mut channel = whole.index_axis_mut(inputs, source);
        channel += &part;
    }
    Ok(task.done(whole, size(&quantized)))
}

pub(crate) fn dense_and_sparse(task: &Task<'_>) -> Result<Done> {
    let quantized = DenseAndSparse::quantize(&task.float.weights, &task.recipe(), KEPT)?;
    Ok(task.done(quantized.dequantize::<f32, IxDyn>()?, 8 * quantized.bytes()))
}

pub(crate) fn obq(task: &Task<'_>) -> Result<Done> {
    fitted(task, &Obq::new())
}

pub(crate) fn obq_plain(task: &Task<'_>) -> Result<Done> {
    fitted(task, &Obq::new().outliers_first(false))
}

pub(crate) fn gptq(task: &Task<'_>) -> Result<Done> {
    fitted(task, &Gptq::new())
}

pub(crate) fn gptq_act_order(task: &Task<'_>) -> Result<Done> {
    fitted(task, &Gptq::new().order(Order::Activation))
}

pub(crate) fn gptq_with_bias(task: &Task<'_>) -> Result<Done> {
    correct_by_outputs(task, gptq_act_order(task)?)
}

pub(crate) fn lattice(task: &Task<'_>) -> Result<Done> {
    fitted(task, &Lattice::new(WIDTH)?)
}

pub(crate) fn ada_round(task: &Task<'_>) -> Result<Done> {
    let Learning { steps, seed } = task.learning;
    learned(task, &AdaRound::new().steps(steps)?.seed(seed))
}

pub(crate) fn ada_quant(task: &Task<'_>) -> Result<Done> {
    let Learning { steps, seed } = task.learning;
    learned(task, &AdaQuant::new().steps(steps)?.seed(seed))
}

/// The layers of a block together: what comes out of the last of them should be what the float network has there.
pub(crate) fn brecq(tasks: &[Task<'_>]) -> Result<Vec<Done>> {
    let Some(Learning { steps, seed }) = tasks.first().map(|task| task.learning) else {
        return Ok(Vec::new());
    };
    let chain = inputs::chain(tasks)?;
    let layers: Vec<Weights<'_>> = tasks.iter().map(Task::weights).collect::<Result<_>>()?;
    let problem = BlockProblem::new(&chain, &layers)?;
    let method = Brecq::from(AdaRound::new().steps(steps)?.seed(seed));
    let solution = method.solve_with(&problem, &mut |_| unless_interrupted())?;
    interrupt::check()?;
    tasks.iter().zip(&solution.tensors).map(|(task, tensor)| task.quantized(tensor)).collect()
}

/// Codes that `method` fits to the inputs.
fn fitted(task: &Task<'_>, method: &dyn LayerMethod) -> Result<Done> {
    let problem = Problem::grouped(&task.float.weights, task.statistics()?, &task.recipe())?;
    solved(task, method, &problem)
}

/// The same with samples: the outputs should be those of the float network behind the activation, so that errors of the
/// layers before are made up for.
fn learned(task: &Task<'_>, method: &dyn LayerMethod) -> Result<Done> {
    let samples = inputs::samples(task.layer, task.float, task.float_inputs, task.inputs()?)?;
    let problem =
        Problem::grouped(&task.float.weights, task.statistics()?, &task.recipe())?.samples(&samples)?;
    solved(task, method, &problem)
}

fn solved(task: &Task<'_>, method: &dyn LayerMethod, problem: &Problem<'_>) -> Result<Done> {
    let solution = method.solve_with(problem, &mut |_| unless_interrupted())?;
    interrupt::check()?;
    let mut done = task.quantized(&solution.tensor)?;
    if let Some(correction) = &solution.bias_correction {
        let all = done.parameters.bias.iter_mut().zip(correction);
        all.for_each(|(bias, correction)| *bias = (f64::from(*bias) + correction) as f32);
    }
    Ok(done)
}

fn unless_interrupted() -> ControlFlow<()> {
    match interrupt::check() {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}
