//! The network: its layers, its tensors and the forward pass.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use ndarray::{Array2, Array4, ArrayD, ArrayView4, ArrayViewD, Axis, IxDyn};
use safetensors::{Dtype, SafeTensors};

use super::ops::{self, Conv, Planes};
use super::{LABELS, SIDE};

/// Added to a variance before its root is taken, as PyTorch does.
pub(crate) const EPSILON: f32 = 1e-5;

/// Images evaluated together.
const CHUNK: usize = 64;

/// A layer. Those with parameters have the prefix of their tensors' names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layer {
    /// Convolution without bias: `weight`.
    Conv(&'static str, Conv),
    /// Batch normalization of so many channels: `weight` (gamma), `bias`
    /// (beta), `running_mean` and `running_var`.
    BatchNorm(&'static str, usize),
    /// Negative values to zero.
    Relu,
    /// The greatest of every 2 x 2 square.
    MaxPool,
    /// The mean over all rows and columns.
    GlobalPool,
    /// From so many features to so many, with bias: `weight` and `bias`.
    Dense(&'static str, usize, usize),
}

const fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Conv {
    Conv { inputs, outputs, kernel, stride, depthwise: false }
}

const fn depthwise(channels: usize) -> Conv {
    Conv { inputs: channels, outputs: channels, kernel: 3, stride: 1, depthwise: true }
}

/// The layers of the sample network, from image to logits.
pub(crate) const LAYERS: &[Layer] = &[
    Layer::Conv("conv1", conv(1, 16, 3, 1)),
    Layer::BatchNorm("bn1", 16),
    Layer::Relu,
    Layer::MaxPool,
    Layer::Conv("depthwise2", depthwise(16)),
    Layer::BatchNorm("bn2", 16),
    Layer::Relu,
    Layer::Conv("pointwise3", conv(16, 32, 1, 1)),
    Layer::BatchNorm("bn3", 32),
    Layer::Relu,
    Layer::Conv("conv4", conv(32, 48, 3, 2)),
    Layer::BatchNorm("bn4", 48),
    Layer::Relu,
    Layer::Conv("depthwise5", depthwise(48)),
    Layer::BatchNorm("bn5", 48),
    Layer::Relu,
    Layer::Conv("pointwise6", conv(48, 96, 1, 1)),
    Layer::BatchNorm("bn6", 96),
    Layer::Relu,
    Layer::GlobalPool,
    Layer::Dense("dense7", 96, LABELS.len()),
];

/// Names and shapes of the layers' tensors, in the order of the layers.
pub(crate) fn parameter_shapes(layers: &[Layer]) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    for layer in layers {
        match *layer {
            Layer::Conv(name, conv) => {
                shapes.push((format!("{name}.weight"), conv.weight_shape().to_vec()));
            }
            Layer::BatchNorm(name, channels) => {
                for part in ["weight", "bias", "running_mean", "running_var"] {
                    shapes.push((format!("{name}.{part}"), vec![channels]));
                }
            }
            Layer::Dense(name, inputs, outputs) => {
                shapes.push((format!("{name}.weight"), vec![outputs, inputs]));
                shapes.push((format!("{name}.bias"), vec![outputs]));
            }
            Layer::Relu | Layer::MaxPool | Layer::GlobalPool => {}
        }
    }
    shapes
}

/// What [`Network::forward_with`] calls: with the name of a weight tensor and
/// the input of its layer.
pub(crate) type Hook<'a> = dyn FnMut(&str, ArrayViewD<'_, f32>) + 'a;

/// What [`Network::forward_mapped`] calls: as a [`Hook`], with the input to
/// take in place of that one.
pub(crate) type Map<'a> = dyn FnMut(&str, ArrayD<f32>) -> Result<ArrayD<f32>> + 'a;

/// The sample network with some weights.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    tensors: Vec<(String, ArrayD<f32>)>,
}

impl Network {
    /// Reads the tensors of a safetensors file.
    pub(crate) fn load(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).context("not a safetensors file")?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            ensure!(view.dtype() == Dtype::F32, "tensor {name} is {:?}, not F32", view.dtype());
            let (values, _) = view.data().as_chunks();
            let values = values.iter().copied().map(f32::from_le_bytes).collect();
            let array = ArrayD::from_shape_vec(IxDyn(view.shape()), values)?;
            tensors.insert(name, array);
        }
        Self::from_tensors(tensors)
    }

    /// Takes the tensors by name: all of the network's, of its shapes, and no
    /// other.
    pub(crate) fn from_tensors(mut tensors: BTreeMap<String, ArrayD<f32>>) -> Result<Self> {
        let mut ordered = Vec::new();
        for (name, shape) in parameter_shapes(LAYERS) {
            let Some(tensor) = tensors.remove(&name) else {
                bail!("tensor {name} is missing");
            };
            ensure!(
                tensor.shape() == shape,
                "tensor {name} has shape {:?} instead of {shape:?}",
                tensor.shape()
            );
            // The forward pass reads the values as slices.
            let tensor = tensor.as_standard_layout().into_owned();
            ordered.push((name, tensor));
        }
        if let Some(name) = tensors.keys().next() {
            bail!("tensor {name} does not belong to the network");
        }
        Ok(Self { tensors: ordered })
    }

    /// Names and values of all tensors, in the order of the layers.
    pub(crate) fn tensors(&self) -> &[(String, ArrayD<f32>)] {
        &self.tensors
    }

    /// The network with every tensor of two or more dimensions (the weights of
    /// convolutions and dense layers) replaced by what `map` makes of it.
    pub(crate) fn map_weights(
        &self,
        mut map: impl FnMut(&str, ArrayViewD<'_, f32>) -> ArrayD<f32>,
    ) -> Result<Self> {
        let mapped = self.tensors.iter().map(|(name, tensor)| {
            let tensor = if tensor.ndim() >= 2 { map(name, tensor.view()) } else { tensor.clone() };
            (name.clone(), tensor)
        });
        Self::from_tensors(mapped.collect())
    }

    /// Logits (batch, class) of images (batch, 1, [`SIDE`], [`SIDE`]).
    pub(crate) fn forward(&self, batch: &Array4<f32>) -> Array2<f32> {
        let mut logits = Array2::zeros((0, LABELS.len()));
        for images in batch.axis_chunks_iter(Axis(0), CHUNK) {
            let some = self.run(images, None).expect("only a map can fail");
            logits.append(Axis(0), some.view()).expect("one column per class");
        }
        logits
    }

    /// [`forward`](Self::forward) in one piece, showing `hook` the input of
    /// every convolution (batch, channel, row, column) and dense layer (batch,
    /// feature) by the name of the layer's weight tensor.
    pub(crate) fn forward_with(&self, batch: &Array4<f32>, hook: &mut Hook<'_>) -> Array2<f32> {
        let mut look = |name: &str, input: ArrayD<f32>| {
            hook(name, input.view());
            Ok(input)
        };
        self.run(batch.view(), Some(&mut look)).expect("the input has its own shape")
    }

    /// [`forward`](Self::forward) in one piece, where every convolution and
    /// dense layer gets what `map` makes of its input, of the same shape: the
    /// network with quantized activations.
    pub(crate) fn forward_mapped(&self, batch: &Array4<f32>, map: &mut Map<'_>) -> Result<Array2<f32>> {
        self.run(batch.view(), Some(map))
    }

    /// Share of the images whose greatest logit is that of their label.
    pub(crate) fn accuracy(&self, images: &Array4<f32>, labels: &[usize]) -> f64 {
        assert_eq!(images.len_of(Axis(0)), labels.len(), "a label per image");
        right(&self.forward(images), labels) as f64 / labels.len() as f64
    }

    fn run(&self, images: ArrayView4<'_, f32>, mut map: Option<&mut Map<'_>>) -> Result<Array2<f32>> {
        let (batch, channels, height, width) = images.dim();
        assert_eq!((channels, height, width), (1, SIDE, SIDE), "image shape");
        let mut x = to_planes(images);
        let mut tensors = self.tensors.iter();
        let mut next = || {
            let (name, tensor) = tensors.next().expect("the tensors of all layers");
            let values = tensor.as_slice().expect("tensors are in standard layout");
            (name.as_str(), values)
        };
        for layer in LAYERS {
            match *layer {
                Layer::Conv(_, conv) => {
                    let (name, weight) = next();
                    if let Some(map) = &mut map {
                        let input = from_planes(&x);
                        let shape = input.raw_dim();
                        let mapped = map(name, input.into_dyn())?;
                        x = to_planes(mapped.view().into_shape_with_order(shape)?);
                    }
                    x = conv.apply(weight, &x);
                }
                Layer::BatchNorm(..) => {
                    let [(_, gamma), (_, beta), (_, mean), (_, variance)] = [next(), next(), next(), next()];
                    let plane = x.plane();
                    for (channel, values) in x.data.chunks_exact_mut(plane).enumerate() {
                        let scale = gamma[channel] / (variance[channel] + EPSILON).sqrt();
                        for value in values {
                            *value = (*value - mean[channel]) * scale + beta[channel];
                        }
                    }
                }
                Layer::Relu => ops::relu(&mut x),
                Layer::MaxPool => x = ops::max_pool(&x),
                Layer::GlobalPool => x = ops::global_pool(&x),
                Layer::Dense(_, inputs, outputs) => {
                    let [(name, weight), (_, bias)] = [next(), next()];
                    if let Some(map) = &mut map {
                        let input = from_planes(&x);
                        let shape = input.raw_dim();
                        let features = input.remove_axis(Axis(3)).remove_axis(Axis(2));
                        let mapped = map(name, features.into_dyn())?;
                        x = to_planes(mapped.view().into_shape_with_order(shape)?);
                    }
                    x = fully_connected(weight, bias, &x, inputs, outputs);
                }
            }
        }
        Ok(Array2::from_shape_fn((batch, x.channels), |(i, c)| x.data[c * batch + i]))
    }
}

/// How many rows of `logits` have their greatest value at their label.
pub(crate) fn right(logits: &Array2<f32>, labels: &[usize]) -> usize {
    let rows = logits.outer_iter().zip(labels);
    rows.filter(|(row, label)| {
        let others = row.iter().enumerate();
        let best = others.fold(0, |best, (i, x)| if *x > row[best] { i } else { best });
        best == **label
    })
    .count()
}

/// A dense layer: a pointwise convolution of a single pixel, plus a bias.
pub(crate) fn fully_connected(
    weight: &[f32],
    bias: &[f32],
    x: &Planes,
    inputs: usize,
    outputs: usize,
) -> Planes {
    let mut y = conv(inputs, outputs, 1, 1).apply(weight, x);
    for (values, bias) in y.data.chunks_exact_mut(x.batch).zip(bias) {
        for value in values {
            *value += bias;
        }
    }
    y
}

/// Images (batch, channel, row, column) with the batch moved innermost.
pub(crate) fn to_planes(images: ArrayView4<'_, f32>) -> Planes {
    let (batch, channels, height, width) = images.dim();
    Planes {
        channels,
        height,
        width,
        batch,
        data: images.permuted_axes([1, 2, 3, 0]).iter().copied().collect(),
    }
}

/// The inverse of [`to_planes`], in standard layout.
fn from_planes(x: &Planes) -> Array4<f32> {
    let shape = (x.batch, x.channels, x.height, x.width);
    Array4::from_shape_fn(shape, |(i, c, row, column)| x.data[x.at(c, row, column) + i])
}
