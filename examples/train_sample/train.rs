//! Stochastic gradient descent with hand-written gradients, on one thread.
//!
//! Like the forward pass, all that reaches the weights is additions,
//! multiplications, divisions and square roots in a fixed order, so training
//! again gives the same bits.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::sample::ops::{self, Conv, Mat, Planes, matmul_add};
use crate::sample::{EPSILON, Layer, fully_connected, key, parameter_shapes, unit};

/// Share of a batch's statistics in the running ones.
const STATISTICS_RATE: f32 = 0.1;
const MOMENTUM: f32 = 0.9;

/// A tensor in training.
struct Parameter {
    name: String,
    shape: Vec<usize>,
    value: Vec<f32>,
    gradient: Vec<f32>,
    velocity: Vec<f32>,
}

/// What a layer keeps of its forward pass for the backward one.
enum Kept {
    Input(Planes),
    /// The normalized values and, per channel, the inverse deviation.
    Normalized(Planes, Vec<f32>),
}

/// Loss and hits of a batch.
pub(crate) struct Score {
    /// Mean cross-entropy.
    pub(crate) loss: f64,
    /// Images classified correctly.
    pub(crate) right: usize,
}

/// A network in training.
pub(crate) struct Trainer<'a> {
    layers: &'a [Layer],
    parameters: Vec<Parameter>,
}

impl<'a> Trainer<'a> {
    /// The layers with random weights drawn from `seed`.
    pub(crate) fn new(layers: &'a [Layer], seed: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(key(seed));
        // The images have the streams from 0 on.
        rng.set_stream(u64::MAX);
        let parameters = parameter_shapes(layers)
            .into_iter()
            .map(|(name, shape)| {
                let count = shape.iter().product();
                let value = if shape.len() > 1 {
                    let fan_in: usize = shape[1..].iter().product();
                    let bound = (6.0 / fan_in as f32).sqrt();
                    (0..count).map(|_| bound * (2.0 * unit(&mut rng) - 1.0)).collect()
                } else if name.ends_with(".weight") || name.ends_with(".running_var") {
                    vec![1.0; count]
                } else {
                    vec![0.0; count]
                };
                Parameter { name, shape, value, gradient: vec![0.0; count], velocity: vec![0.0; count] }
            })
            .collect();
        Self { layers, parameters }
    }

    /// The tensors by name.
    pub(crate) fn tensors(&self) -> BTreeMap<String, ArrayD<f32>> {
        self.parameters
            .iter()
            .map(|p| {
                let array = ArrayD::from_shape_vec(IxDyn(&p.shape), p.value.clone());
                (p.name.clone(), array.expect("values fill the shape"))
            })
            .collect()
    }

    /// One step down the gradient of a batch's loss.
    pub(crate) fn step(&mut self, x: Planes, labels: &[usize], rate: f32) -> Score {
        let (logits, kept) = self.forward(x);
        let (score, slope) = cross_entropy(&logits, labels);
        self.backward(kept, slope);
        for p in &mut self.parameters {
            let values = p.value.iter_mut().zip(&mut p.velocity);
            for ((value, velocity), gradient) in values.zip(&mut p.gradient) {
                *velocity = MOMENTUM * *velocity + *gradient;
                *value -= rate * *velocity;
                *gradient = 0.0;
            }
        }
        score
    }

    fn forward(&mut self, mut x: Planes) -> (Planes, Vec<Kept>) {
        let mut parameters = self.parameters.as_mut_slice();
        let mut kept = Vec::new();
        for layer in self.layers {
            let own;
            (own, parameters) = parameters.split_at_mut(tensor_count(layer));
            let y = match *layer {
                Layer::Conv(_, conv) => conv.apply(&own[0].value, &x),
                Layer::BatchNorm(..) => {
                    let (y, normalized, inverse) = normalize(own, x);
                    kept.push(Kept::Normalized(normalized, inverse));
                    x = y;
                    continue;
                }
                Layer::Relu => {
                    let mut y = x.clone();
                    ops::relu(&mut y);
                    y
                }
                Layer::MaxPool => ops::max_pool(&x),
                Layer::GlobalPool => ops::global_pool(&x),
                Layer::Dense(_, inputs, outputs) => {
                    fully_connected(&own[0].value, &own[1].value, &x, inputs, outputs)
                }
            };
            kept.push(Kept::Input(x));
            x = y;
        }
        (x, kept)
    }

    /// Adds to the gradients of all parameters, given that of the logits.
    fn backward(&mut self, kept: Vec<Kept>, mut slope: Planes) {
        let mut parameters = self.parameters.as_mut_slice();
        for (index, (layer, kept)) in self.layers.iter().zip(kept).enumerate().rev() {
            let own;
            let rest = parameters.len() - tensor_count(layer);
            (parameters, own) = parameters.split_at_mut(rest);
            slope = match (*layer, kept) {
                (Layer::Conv(_, conv), Kept::Input(x)) => {
                    // Nobody asks for the gradient of the image.
                    let wanted = index > 0;
                    conv_backward(conv, &mut own[0], &x, &slope, wanted)
                }
                (Layer::BatchNorm(..), Kept::Normalized(x, inverse)) => {
                    normalize_backward(own, x, &inverse, &slope)
                }
                (Layer::Relu, Kept::Input(x)) => {
                    for (slope, x) in slope.data.iter_mut().zip(&x.data) {
                        *slope = if *x > 0.0 { *slope } else { 0.0 };
                    }
                    slope
                }
                (Layer::MaxPool, Kept::Input(x)) => max_pool_backward(&x, &slope),
                (Layer::GlobalPool, Kept::Input(x)) => global_pool_backward(&x, &slope),
                (Layer::Dense(_, inputs, outputs), Kept::Input(x)) => {
                    let runs = slope.data.chunks_exact(slope.batch);
                    for (gradient, run) in own[1].gradient.iter_mut().zip(runs) {
                        *gradient += sum(run.iter().copied());
                    }
                    let conv = Conv { inputs, outputs, kernel: 1, stride: 1, depthwise: false };
                    conv_backward(conv, &mut own[0], &x, &slope, true)
                }
                (_, _) => unreachable!("layers keep what their backward pass needs"),
            };
        }
    }
}

fn tensor_count(layer: &Layer) -> usize {
    match layer {
        Layer::Conv(..) => 1,
        Layer::Dense(..) => 2,
        Layer::BatchNorm(..) => 4,
        Layer::Relu | Layer::MaxPool | Layer::GlobalPool => 0,
    }
}

/// A sum in eight interleaved parts: fast, and in the same order everywhere.
fn sum(values: impl Iterator<Item = f32>) -> f32 {
    let mut parts = [0.0_f32; 8];
    for (i, value) in values.enumerate() {
        parts[i % 8] += value;
    }
    parts.iter().sum()
}

/// Batch normalization by the batch's own statistics: the output, the
/// normalized input and the inverse deviations.
fn normalize(own: &mut [Parameter], mut x: Planes) -> (Planes, Planes, Vec<f32>) {
    let [gamma, beta, running_mean, running_variance] = own else {
        unreachable!("batch normalization has four tensors");
    };
    let plane = x.plane();
    let count = plane as f32;
    let mut y = Planes::zeros_like(&x);
    let mut inverses = Vec::new();
    let planes = x.data.chunks_exact_mut(plane).zip(y.data.chunks_exact_mut(plane));
    for (channel, (values, outputs)) in planes.enumerate() {
        let mean = sum(values.iter().copied()) / count;
        for value in values.iter_mut() {
            *value -= mean;
        }
        let variance = sum(values.iter().map(|v| v * v)) / count;
        let inverse = 1.0 / (variance + EPSILON).sqrt();
        let (gamma, beta) = (gamma.value[channel], beta.value[channel]);
        for (value, output) in values.iter_mut().zip(outputs) {
            *value *= inverse;
            *output = *value * gamma + beta;
        }
        let running = &mut running_mean.value[channel];
        *running += STATISTICS_RATE * (mean - *running);
        let running = &mut running_variance.value[channel];
        *running += STATISTICS_RATE * (variance * count / (count - 1.0) - *running);
        inverses.push(inverse);
    }
    (y, x, inverses)
}

fn normalize_backward(own: &mut [Parameter], mut x: Planes, inverses: &[f32], slope: &Planes) -> Planes {
    let [gamma, beta, ..] = own else {
        unreachable!("batch normalization has four tensors");
    };
    let plane = x.plane();
    let count = plane as f32;
    let planes = x.data.chunks_exact_mut(plane).zip(slope.data.chunks_exact(plane));
    for (channel, (values, slopes)) in planes.enumerate() {
        let total = sum(slopes.iter().copied());
        let along = sum(slopes.iter().zip(values.iter()).map(|(s, v)| s * v));
        beta.gradient[channel] += total;
        gamma.gradient[channel] += along;
        let scale = gamma.value[channel] * inverses[channel];
        let (total, along) = (total / count, along / count);
        for (value, slope) in values.iter_mut().zip(slopes) {
            *value = scale * (slope - total - *value * along);
        }
    }
    x
}

fn conv_backward(conv: Conv, own: &mut Parameter, x: &Planes, slope: &Planes, wanted: bool) -> Planes {
    let mut below = Planes::zeros_like(x);
    if conv.depthwise {
        let batch = x.batch;
        let (weight, gradient) = (&own.value, &mut own.gradient);
        conv.for_each_tap(x, |tap, from, to| {
            let slopes = &slope.data[to..to + batch];
            let inputs = &x.data[from..from + batch];
            gradient[tap] += sum(inputs.iter().zip(slopes).map(|(x, s)| x * s));
            for (below, slope) in below.data[from..from + batch].iter_mut().zip(slopes) {
                *below += weight[tap] * slope;
            }
        });
        return below;
    }
    let taps = conv.inputs * conv.kernel * conv.kernel;
    let line = slope.width * slope.batch;
    let turned = transpose(&own.value, conv.outputs, taps);
    let mut patches = vec![0.0; taps * line];
    for row in 0..slope.height {
        let slopes =
            Mat { data: &slope.data[row * line..], rows: conv.outputs, columns: line, stride: slope.plane() };
        conv.gather(x, row, &mut patches);
        let flipped = transpose(&patches, taps, line);
        let inputs = Mat::dense(&flipped, line, taps);
        matmul_add(slopes, inputs, &mut own.gradient, taps);
        if wanted {
            patches.fill(0.0);
            let weights = Mat::dense(&turned, taps, conv.outputs);
            matmul_add(weights, slopes, &mut patches, line);
            scatter(conv, &patches, row, &mut below);
        }
    }
    below
}

/// The transpose of [`Conv::gather`]: adds every patch to where it came from.
fn scatter(conv: Conv, patches: &[f32], row: usize, x: &mut Planes) {
    let batch = x.batch;
    let width = conv.output_side(x.width);
    let mut lines = patches.chunks_exact(width * batch);
    for channel in 0..conv.inputs {
        for ky in 0..conv.kernel {
            let target_row = conv.source(row, ky, x.height);
            for kx in 0..conv.kernel {
                let line = lines.next().expect("a line per tap");
                for (column, run) in line.chunks_exact(batch).enumerate() {
                    if let Some((row, column)) = target_row.zip(conv.source(column, kx, x.width)) {
                        let start = x.at(channel, row, column);
                        for (to, from) in x.data[start..start + batch].iter_mut().zip(run) {
                            *to += from;
                        }
                    }
                }
            }
        }
    }
}

fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut turned = vec![0.0; values.len()];
    for (column, line) in turned.chunks_exact_mut(rows).enumerate() {
        for (row, value) in line.iter_mut().enumerate() {
            *value = values[row * columns + column];
        }
    }
    turned
}

fn max_pool_backward(x: &Planes, slope: &Planes) -> Planes {
    let mut below = Planes::zeros_like(x);
    let mut from = 0;
    for channel in 0..slope.channels {
        for row in 0..slope.height {
            for column in 0..slope.width {
                let corners = ops::corners(x, channel, row, column);
                for image in 0..x.batch {
                    // Of equal values the first one wins.
                    let mut best = corners[0] + image;
                    for corner in &corners[1..] {
                        if x.data[corner + image] > x.data[best] {
                            best = corner + image;
                        }
                    }
                    below.data[best] = slope.data[from + image];
                }
                from += x.batch;
            }
        }
    }
    below
}

fn global_pool_backward(x: &Planes, slope: &Planes) -> Planes {
    let mut below = Planes::zeros_like(x);
    let area = (x.height * x.width) as f32;
    let planes = below.data.chunks_exact_mut(x.plane());
    for (plane, slopes) in planes.zip(slope.data.chunks_exact(x.batch)) {
        for run in plane.chunks_exact_mut(x.batch) {
            for (below, slope) in run.iter_mut().zip(slopes) {
                *below = slope / area;
            }
        }
    }
    below
}

/// Score of the logits (class, image), and the gradient of the mean loss.
fn cross_entropy(logits: &Planes, labels: &[usize]) -> (Score, Planes) {
    let batch = logits.batch;
    let mut slope = Planes::zeros_like(logits);
    let mut score = Score { loss: 0.0, right: 0 };
    for (image, &label) in labels.iter().enumerate() {
        let at = |class: usize| logits.data[class * batch + image];
        let best = (1..logits.channels).fold(0, |b, c| if at(c) > at(b) { c } else { b });
        score.right += usize::from(best == label);
        let powers: Vec<f64> =
            (0..logits.channels).map(|class| exp(f64::from(at(class)) - f64::from(at(best)))).collect();
        let total: f64 = powers.iter().sum();
        // The loss is only shown; its logarithm reaches no weight.
        score.loss -= (powers[label] / total).ln() / batch as f64;
        for (class, power) in powers.iter().enumerate() {
            let target = f64::from(u8::from(class == label));
            let difference = (power / total - target) / batch as f64;
            slope.data[class * batch + image] = difference as f32;
        }
    }
    (score, slope)
}

/// e to the power of `x`, not above 0. The system's own function may round
/// differently from one machine to the next, and training would follow.
fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let halvings = (-x * std::f64::consts::LOG2_E).floor();
    let rest = x + halvings * std::f64::consts::LN_2;
    // |rest| < 0.7: the Taylor series to the 17th power is exact enough.
    let series = (1..=17).rev().fold(1.0, |sum, k| 1.0 + sum * rest / f64::from(k));
    series * f64::from_bits((1023 - halvings as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of layer, small.
    const TINY: &[Layer] = &[
        Layer::Conv("a", conv(2, 5, 3, 1, false)),
        Layer::BatchNorm("b", 5),
        Layer::Relu,
        Layer::MaxPool,
        Layer::Conv("c", conv(5, 5, 3, 1, true)),
        Layer::BatchNorm("d", 5),
        Layer::Relu,
        Layer::Conv("e", conv(5, 9, 1, 1, false)),
        Layer::BatchNorm("f", 9),
        Layer::Conv("g", conv(9, 4, 3, 2, false)),
        Layer::BatchNorm("h", 4),
        Layer::Relu,
        Layer::GlobalPool,
        Layer::Dense("i", 4, 3),
    ];

    const fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize, depthwise: bool) -> Conv {
        Conv { inputs, outputs, kernel, stride, depthwise }
    }

    fn batch() -> (Planes, Vec<usize>) {
        let mut rng = ChaCha8Rng::from_seed(key(7));
        let mut x = Planes::zeros(2, 10, 10, 6);
        x.data.fill_with(|| unit(&mut rng));
        (x, vec![0, 1, 2, 2, 1, 0])
    }

    fn loss(trainer: &mut Trainer<'_>) -> f64 {
        let (x, labels) = batch();
        let (logits, _) = trainer.forward(x);
        cross_entropy(&logits, &labels).0.loss
    }

    /// Compares the slope along a direction with the loss on both sides. A
    /// direction at a time rather than a value: the loss is an `f32` sum, and
    /// the difference must stand out of its rounding.
    #[test]
    fn gradients_agree_with_differences() {
        let mut trainer = Trainer::new(TINY, 1);
        // Away from the initial gamma = 1 and beta = 0.
        let mut rng = ChaCha8Rng::from_seed(key(2));
        for p in trainer.parameters.iter_mut().filter(|p| p.shape.len() == 1) {
            for value in &mut p.value {
                *value += 0.6 * unit(&mut rng) - 0.3;
            }
        }
        let (x, labels) = batch();
        let (logits, kept) = trainer.forward(x);
        let (_, slope) = cross_entropy(&logits, &labels);
        trainer.backward(kept, slope);

        for index in 0..trainer.parameters.len() {
            let p = &trainer.parameters[index];
            let (name, gradient, value) = (p.name.clone(), p.gradient.clone(), p.value.clone());
            if name.contains("running") {
                assert!(gradient.iter().all(|g| *g == 0.0), "{name}");
                continue;
            }
            let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
            assert!(norm > 1e-3, "{name} has no gradient to speak of");
            let steepest: Vec<f32> = gradient.iter().map(|g| g / norm).collect();
            let mut directions = vec![steepest];
            for _ in 0..3 {
                let scale = 1.0 / (value.len() as f32).sqrt();
                let draws = (0..value.len()).map(|_| scale * (2.0 * unit(&mut rng) - 1.0));
                directions.push(draws.collect());
            }
            for direction in directions {
                let step = 2e-3_f32;
                let mut side = |sign: f32| {
                    let moved = value.iter().zip(&direction);
                    trainer.parameters[index].value = moved.map(|(v, d)| v + sign * step * d).collect();
                    loss(&mut trainer)
                };
                let numerical = (side(1.0) - side(-1.0)) / (2.0 * f64::from(step));
                let products = gradient.iter().zip(&direction);
                let analytical: f64 = products.map(|(g, d)| f64::from(g * d)).sum();
                let error = (numerical - analytical).abs();
                assert!(
                    error < 0.02 * f64::from(norm) + 2e-4,
                    "{name}: {numerical} by differences, {analytical} by backpropagation"
                );
            }
            trainer.parameters[index].value = value;
        }
    }

    #[test]
    fn scatter_is_the_transpose_of_gather() {
        for conv in [conv(2, 1, 3, 1, false), conv(2, 1, 3, 2, false)] {
            let (x, _) = batch();
            let width = conv.output_side(x.width);
            let mut rng = ChaCha8Rng::from_seed(key(3));
            let mut patches = vec![0.0; 2 * 9 * width * x.batch];
            for row in 0..conv.output_side(x.height) {
                conv.gather(&x, row, &mut patches);
                let other: Vec<f32> = patches.iter().map(|_| unit(&mut rng)).collect();
                let mut back = Planes::zeros_like(&x);
                scatter(conv, &other, row, &mut back);
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let (one, two) = (dot(&patches, &other), dot(&x.data, &back.data));
                assert!((one - two).abs() < 1e-3, "{one} against {two}");
            }
        }
    }

    #[test]
    fn exp_is_the_exponential() {
        for i in 0..4000 {
            let x = -f64::from(i) * 0.17;
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours - theirs).abs() <= 1e-13 * theirs, "{x}: {ours} {theirs}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e9), 0.0);
    }

    #[test]
    fn training_lowers_the_loss_and_repeats() {
        let run = || {
            let mut trainer = Trainer::new(TINY, 1);
            let losses: Vec<f64> = (0..30)
                .map(|_| {
                    let (x, labels) = batch();
                    trainer.step(x, &labels, 0.05).loss
                })
                .collect();
            (losses, trainer.tensors())
        };
        let (losses, tensors) = run();
        assert!(losses[29] < 0.5 * losses[0], "{losses:?}");
        assert_eq!(tensors, run().1);
    }
}
