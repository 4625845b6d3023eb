//! The network with its batch normalizations folded into the weights: what is quantized.
//!
//! Layers are run one at a time, on batches that lie in memory together, so that the layers behind a quantized one can be
//! given what it makes of its inputs.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use lowbit::transform::{BatchNorm, ChannelNormals, LayerChannels};
use ndarray::{Array1, Array2, Array4, ArrayD, ArrayView2, ArrayView4, Axis};
use rayon::prelude::*;

use crate::sample::ops::{self, Conv, Planes};
use crate::sample::{EPSILON, LABELS, LAYERS, Layer as Part, Network, to_planes};

/// Images that lie in memory together.
const BATCH: usize = 64;

/// Activations of many images: one batch after the other.
pub(crate) type Batches = Vec<Planes>;

/// A layer with weights, and what its outputs go through.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    /// A dense layer is a convolution of a single pixel.
    pub(crate) conv: Conv,
    /// What is known of its inputs without data: channels before the activation function, if that is all that lies
    /// between them and the layer. Means over places change nothing about means.
    pub(crate) normals: Option<ChannelNormals>,
    after: Vec<After>,
}

/// What is not changed by quantization.
#[derive(Debug, Clone, Copy)]
enum After {
    Relu,
    MaxPool,
    GlobalPool,
}

/// Weights [outputs, inputs of an output...] and bias of a layer.
#[derive(Debug, Clone)]
pub(crate) struct Parameters {
    pub(crate) weights: ArrayD<f32>,
    pub(crate) bias: Array1<f32>,
}

impl Layer {
    /// Where the channels lie in the weights.
    pub(crate) const fn channels(&self) -> LayerChannels {
        if self.conv.depthwise { LayerChannels::DEPTHWISE } else { LayerChannels::DEFAULT }
    }

    /// The outputs with these parameters, before the activation function.
    pub(crate) fn outputs(&self, parameters: &Parameters, inputs: &Planes) -> Result<Planes> {
        let weights = parameters.weights.as_slice().context("weights are in standard layout")?;
        let mut outputs = self.conv.apply(weights, inputs);
        let plane = outputs.plane();
        for (values, bias) in outputs.data.chunks_exact_mut(plane).zip(&parameters.bias) {
            values.iter_mut().for_each(|value| *value += bias);
        }
        Ok(outputs)
    }

    /// Whether its outputs are clipped at zero.
    pub(crate) fn has_relu(&self) -> bool {
        matches!(self.after.first(), Some(After::Relu))
    }

    /// What the next layer is given.
    fn activate(&self, mut outputs: Planes) -> Planes {
        for after in &self.after {
            match after {
                After::Relu => ops::relu(&mut outputs),
                After::MaxPool => outputs = ops::max_pool(&outputs),
                After::GlobalPool => outputs = ops::global_pool(&outputs),
            }
        }
        outputs
    }

    /// What the next layer is given of all batches.
    pub(crate) fn run(&self, parameters: &Parameters, inputs: &Batches) -> Result<Batches> {
        inputs.par_iter().map(|inputs| Ok(self.activate(self.outputs(parameters, inputs)?))).collect()
    }
}

/// The layers and their float parameters.
#[derive(Debug, Clone)]
pub(crate) struct Folded {
    pub(crate) layers: Vec<Layer>,
    pub(crate) parameters: Vec<Parameters>,
}

impl Folded {
    /// Folds the batch normalizations of `network`.
    pub(crate) fn new(network: &Network) -> Result<Self> {
        let mut tensors = network.tensors().iter().map(|(_, tensor)| tensor);
        let mut next = || tensors.next().context("a tensor is missing");
        let mut folded = Self { layers: Vec::new(), parameters: Vec::new() };
        let mut normals = None;
        for part in LAYERS {
            match *part {
                Part::Conv(name, conv) => {
                    let bias = Array1::zeros(conv.outputs);
                    folded.push(name, conv, normals.take(), Parameters { weights: next()?.clone(), bias });
                }
                Part::Dense(name, inputs, outputs) => {
                    let conv = Conv { inputs, outputs, kernel: 1, stride: 1, depthwise: false };
                    let (weights, bias) = (next()?.clone(), next()?.clone().into_dimensionality()?);
                    folded.push(name, conv, normals.take(), Parameters { weights, bias });
                }
                Part::BatchNorm(name, _) => {
                    let [gamma, beta, mean, variance] = [next()?, next()?, next()?, next()?];
                    let values = |tensor: &ArrayD<f32>| tensor.iter().copied().collect::<Vec<f32>>();
                    let norm = BatchNorm::new(
                        &values(gamma),
                        &values(beta),
                        &values(mean),
                        &values(variance),
                        f64::from(EPSILON),
                    )
                    .with_context(|| name.to_owned())?;
                    let parameters = folded.parameters.last_mut().context("a normalization comes first")?;
                    parameters.bias = norm.fold(&mut parameters.weights, Axis(0), Some(&parameters.bias))?;
                    normals = Some(norm.outputs());
                }
                Part::Relu => folded.after(After::Relu)?,
                Part::MaxPool => {
                    // The largest of several normal numbers is not normal.
                    normals = None;
                    folded.after(After::MaxPool)?;
                }
                Part::GlobalPool => folded.after(After::GlobalPool)?,
            }
        }
        if folded.layers.is_empty() {
            bail!("the network has no layers");
        }
        Ok(folded)
    }

    fn push(
        &mut self,
        name: &'static str,
        conv: Conv,
        normals: Option<ChannelNormals>,
        parameters: Parameters,
    ) {
        self.layers.push(Layer { name, conv, normals, after: Vec::new() });
        self.parameters.push(parameters);
    }

    fn after(&mut self, after: After) -> Result<()> {
        self.layers.last_mut().context("an activation function comes first")?.after.push(after);
        Ok(())
    }

    /// The layers that belong together: a depthwise convolution and the one behind it, which mixes its channels. All
    /// others stand alone.
    pub(crate) fn blocks(&self) -> Vec<Range<usize>> {
        let mut blocks: Vec<Range<usize>> = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let follows = index > 0 && self.layers.get(index - 1).is_some_and(|before| before.conv.depthwise);
            match blocks.last_mut() {
                Some(block) if follows && !layer.conv.depthwise => block.end = index + 1,
                _ => blocks.push(index..index + 1),
            }
        }
        blocks
    }

    /// Logits (image, class) of inputs of the layer at `first`, with other parameters from there on.
    pub(crate) fn logits(
        &self,
        first: usize,
        parameters: &[Parameters],
        inputs: &Batches,
    ) -> Result<Array2<f32>> {
        let layers = || self.layers.iter().zip(parameters).skip(first);
        let run = |batch: &Planes| {
            let mut x: Option<Planes> = None;
            for (layer, parameters) in layers() {
                x = Some(layer.activate(layer.outputs(parameters, x.as_ref().unwrap_or(batch))?));
            }
            x.context("the network has no layers")
        };
        let outputs: Vec<Planes> = inputs.par_iter().map(run).collect::<Result<_>>()?;
        let mut logits = Array2::zeros((0, LABELS.len()));
        for planes in &outputs {
            logits.append(Axis(0), view(planes)?.index_axis(Axis(3), 0).index_axis(Axis(2), 0))?;
        }
        Ok(logits)
    }

    /// The number of weights of all layers.
    pub(crate) fn weights(&self) -> usize {
        self.parameters.iter().map(|parameters| parameters.weights.len()).sum()
    }
}

/// Images in batches.
pub(crate) fn batches(images: &Array4<f32>) -> Batches {
    images.axis_chunks_iter(Axis(0), BATCH).map(to_planes).collect()
}

/// Activations as (image, channel, row, column).
pub(crate) fn view(planes: &Planes) -> Result<ArrayView4<'_, f32>> {
    let shape = (planes.channels, planes.height, planes.width, planes.batch);
    Ok(ArrayView4::from_shape(shape, &planes.data)?.permuted_axes([3, 0, 1, 2]))
}

/// Activations as (channel, value), as they lie in memory.
pub(crate) fn by_channel(planes: &Planes) -> Result<ArrayView2<'_, f32>> {
    Ok(ArrayView2::from_shape((planes.channels, planes.plane()), &planes.data)?)
}
