//! Quantizes the whole network, layer by layer.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lowbit::BitWidth;
use lowbit::layer::Statistics;
use ndarray::{Array2, Array4};

use crate::equalization::Scaled;
use crate::inputs;
use crate::interrupt;
use crate::layers::{Done, Learning, Task};
use crate::methods::{Method, Needs};
use crate::network::{Batches, Folded, batches};
use crate::options::Grid;

/// The float network on the calibration images.
pub(crate) struct Calibration {
    pub(crate) network: Folded,
    grid: Grid,
    learning: Learning,
    /// What each layer is given.
    pub(crate) inputs: Vec<Batches>,
    /// Statistics of that.
    pub(crate) statistics: Vec<Vec<Statistics>>,
    pub(crate) logits: Array2<f32>,
    scaled: Vec<Scaled>,
}

/// A network that is quantized.
pub(crate) struct Quantized {
    pub(crate) layers: Vec<Done>,
    pub(crate) seconds: f64,
}

impl Calibration {
    /// Runs `images` through the network.
    pub(crate) fn new(network: Folded, grid: Grid, learning: Learning, images: &Array4<f32>) -> Result<Self> {
        let mut inputs = vec![batches(images)];
        for (layer, parameters) in network.layers.iter().zip(&network.parameters) {
            interrupt::check()?;
            let last = inputs.last().context("inputs of the first layer")?;
            inputs.push(layer.run(parameters, last)?);
        }
        // What comes after the last layer are the logits.
        inputs.pop();
        let layers = network.layers.iter().zip(&inputs);
        let statistics =
            layers.map(|(layer, inputs)| inputs::statistics(layer, inputs)).collect::<Result<_>>()?;
        let first = inputs.first().context("inputs of the first layer")?;
        let logits = network.logits(0, &network.parameters, first)?;
        let scaled = Scaled::all(&network)?;
        Ok(Self { network, grid, learning, inputs, statistics, logits, scaled })
    }

    /// The number of layers.
    pub(crate) fn layers(&self) -> usize {
        self.network.layers.len()
    }

    /// The task of quantizing a layer by itself, in the float network.
    pub(crate) fn task(&self, layer: usize, bits: BitWidth) -> Result<Task<'_>> {
        let inputs = self.inputs.get(layer).context("a layer too many")?;
        Ok(Task {
            layer: self.network.layers.get(layer).context("a layer too many")?,
            float: self.network.parameters.get(layer).context("a layer too many")?,
            bits,
            learning: self.learning,
            grid: &self.grid,
            scaled: self.scaled.get(layer).context("a layer too many")?,
            float_inputs: inputs,
            inputs: Some(inputs),
            statistics: self.statistics.get(layer).map(Vec::as_slice),
        })
    }

    /// Quantizes all layers by `method`, each at its width. `step` is called after each.
    pub(crate) fn quantize(
        &self,
        method: &Method,
        widths: &[BitWidth],
        step: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Quantized> {
        ensure!(widths.len() == self.layers(), "{} widths for {} layers", widths.len(), self.layers());
        let start = Instant::now();
        let mut layers = Vec::with_capacity(widths.len());
        // What the quantized layers so far make of the images.
        let mut inputs: Option<Batches> = None;
        for block in method.blocks(&self.network) {
            let mut tasks: Vec<Task<'_>> = Vec::with_capacity(block.len());
            for (index, &bits) in widths.iter().enumerate().take(block.end).skip(block.start) {
                tasks.push(self.task(index, bits)?);
            }
            let statistics = match (&inputs, tasks.first(), method.needs) {
                (Some(inputs), Some(first), Needs::Statistics) => {
                    Some(inputs::statistics(first.layer, inputs)?)
                }
                _ => None,
            };
            if let Some(first) = tasks.first_mut() {
                first.inputs = inputs.as_ref().or(first.inputs);
                first.statistics = statistics.as_deref().or(first.statistics);
            }
            let names = || tasks.iter().map(|task| task.layer.name).collect::<Vec<_>>().join(", ");
            let done = method.quantize(&tasks).with_context(names)?;
            let mut next = None;
            for (task, done) in tasks.iter().zip(done) {
                if method.needs != Needs::Nothing && layers.len() + 1 < widths.len() {
                    let own = next.as_ref().or(task.inputs).context("no inputs")?;
                    next = Some(task.layer.run(&done.parameters, own)?);
                }
                layers.push(done);
                step()?;
            }
            drop(tasks);
            inputs = next;
        }
        Ok(Quantized { layers, seconds: start.elapsed().as_secs_f64() })
    }
}

impl Quantized {
    /// Bits of codes and parameters of all weights.
    pub(crate) fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}
