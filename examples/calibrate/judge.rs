//! The network with quantized activations: static and dynamic, per tensor, per channel and per row.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lowbit::prelude::*;
use ndarray::{Array4, ArrayD, IxDyn};

use crate::observers::Observers;
use crate::options::{Options, Rule};
use crate::progress::Progress;
use crate::sample::{Glyphs, Network, right};
use crate::stream::BATCH;

/// When ranges are found, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    StaticTensor,
    StaticChannel,
    DynamicTensor,
    DynamicRow,
}

impl Way {
    const ALL: [Self; 4] = [Self::StaticTensor, Self::StaticChannel, Self::DynamicTensor, Self::DynamicRow];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StaticTensor => "static, per tensor",
            Self::StaticChannel => "static, per channel",
            Self::DynamicTensor => "dynamic, per tensor",
            Self::DynamicRow => "dynamic, per row",
        })
    }
}

/// What was found.
pub(crate) struct Judged {
    /// Held-out images.
    pub(crate) images: u64,
    /// The share that the network reads with activations as they are.
    pub(crate) accuracy: f64,
    pub(crate) outcomes: Vec<Outcome>,
}

/// One way to quantize all activations.
pub(crate) struct Outcome {
    pub(crate) bits: BitWidth,
    pub(crate) rule: String,
    pub(crate) way: Way,
    /// The share that the network reads.
    pub(crate) accuracy: f64,
    /// In dB, of every activation as it comes in: the mean over activations, and the lowest.
    pub(crate) mean_sqnr: f64,
    pub(crate) lowest_sqnr: (f64, String),
    /// The time to quantize all activations of a batch: that of the fastest, as other work on the machine only adds.
    pub(crate) time: Duration,
}

/// Sums over the values of an activation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    signal: f64,
    noise: f64,
}

impl Sums {
    /// Adds the values of a tensor, and of the same tensor restored.
    pub(crate) fn add(&mut self, original: &ArrayD<f32>, restored: &ArrayD<f32>) {
        for (&x, &back) in original.iter().zip(restored) {
            let (x, back) = (f64::from(x), f64::from(back));
            self.signal += x * x;
            self.noise += (x - back) * (x - back);
        }
    }

    /// In dB: +∞ without any error.
    pub(crate) fn sqnr(&self) -> f64 {
        if self.noise == 0.0 {
            return f64::INFINITY;
        }
        10.0 * (self.signal / self.noise).log10()
    }
}

/// How one activation is quantized.
enum Quantizes {
    /// With the ranges that were observed.
    Static(Box<Frozen>),
    /// With the range of what is at hand.
    Dynamic(Recipe),
}

/// Quantizes the activations at each bit width, with each calibration, in each way.
pub(crate) fn judge(
    network: &Network,
    seed: u64,
    observers: &Observers,
    options: &Options,
) -> Result<Judged> {
    let images = options.images;
    let glyphs = Glyphs::new(seed);
    let batches: Vec<(Array4<f32>, Vec<usize>)> = (0..images)
        .step_by(usize::try_from(BATCH)?)
        .map(|first| glyphs.batch(first..(first + BATCH).min(images)))
        .collect();
    let (widths, rules) = (options.widths(), options.rules()?);
    let runs = widths.len() * rules.len() * Way::ALL.len();
    let progress = Progress::new("judging", (runs * batches.len()) as u64);
    let mut outcomes = Vec::with_capacity(runs);
    for &bits in &widths {
        for rule in &rules {
            for way in Way::ALL {
                let quantizes = prepare(rule, bits, way, observers)?;
                outcomes.push(outcome(network, &batches, &quantizes, observers, &progress).map(
                    |(accuracy, mean_sqnr, lowest_sqnr, time)| Outcome {
                        bits,
                        rule: rule.short(),
                        way,
                        accuracy,
                        mean_sqnr,
                        lowest_sqnr,
                        time,
                    },
                )?);
            }
        }
    }
    drop(progress);
    let correct: usize = batches.iter().map(|(images, labels)| right(&network.forward(images), labels)).sum();
    Ok(Judged { images, accuracy: correct as f64 / images as f64, outcomes })
}

/// How each activation is quantized: the recipe itself, or frozen on what was observed.
fn prepare(rule: &Rule, bits: BitWidth, way: Way, observers: &Observers) -> Result<Vec<Quantizes>> {
    let channels = PerChannel::new(Axis(1));
    let rows = PerChannel::new(Axis(0));
    let activations = observers.activations.iter();
    activations
        .map(|activation| {
            Ok(match way {
                Way::StaticTensor => {
                    Quantizes::Static(Box::new(rule.recipe(bits, PerLayer).freeze(&activation.layer)?))
                }
                Way::StaticChannel => {
                    Quantizes::Static(Box::new(rule.recipe(bits, channels).freeze(&activation.channel)?))
                }
                Way::DynamicTensor => Quantizes::Dynamic(rule.recipe(bits, PerLayer)),
                Way::DynamicRow => Quantizes::Dynamic(rule.recipe(bits, rows)),
            })
        })
        .collect()
}

type Found = (f64, f64, (f64, String), Duration);

/// Runs all batches with the inputs of all layers quantized.
fn outcome(
    network: &Network,
    batches: &[(Array4<f32>, Vec<usize>)],
    quantizes: &[Quantizes],
    observers: &Observers,
    progress: &Progress,
) -> Result<Found> {
    let mut sums = vec![Sums::default(); quantizes.len()];
    let (mut correct, mut images) = (0, 0);
    let mut times = Vec::with_capacity(batches.len());
    // Buffers for the codes of all activations, one after the other.
    let mut codes = None;
    for (batch, labels) in batches {
        let mut activations = quantizes.iter().zip(&mut sums);
        let mut time = Duration::ZERO;
        let logits = network.forward_mapped(batch, &mut |name, input| {
            let (quantizes, sums) = activations.next().context("more layers than observers")?;
            let started = Instant::now();
            let codes = match (quantizes, &mut codes) {
                (Quantizes::Static(frozen), Some(codes)) => {
                    frozen.quantize_into(&input, codes).map(|()| codes)
                }
                (Quantizes::Dynamic(recipe), Some(codes)) => {
                    recipe.quantize_into(&input, codes).map(|()| codes)
                }
                (Quantizes::Static(frozen), none) => frozen.quantize(&input).map(|first| none.insert(first)),
                (Quantizes::Dynamic(recipe), none) => recipe.quantize(&input).map(|first| none.insert(first)),
            };
            time += started.elapsed();
            let restored = codes.with_context(|| name.to_owned())?.dequantize::<f32, IxDyn>()?;
            sums.add(&input, &restored);
            Ok(restored)
        })?;
        // A last, smaller batch would win.
        if times.is_empty() || labels.len() as u64 == BATCH {
            times.push(time);
        }
        correct += right(&logits, labels);
        images += labels.len();
        progress.step()?;
    }
    let fastest = times.into_iter().min().unwrap_or_default();
    let figures = sums.iter().map(Sums::sqnr);
    let mean = figures.clone().sum::<f64>() / sums.len() as f64;
    let lowest = figures
        .zip(&observers.activations)
        .map(|(sqnr, activation)| (sqnr, activation.name.clone()))
        .min_by(|(a, _), (b, _)| a.total_cmp(b));
    let lowest = lowest.context("the network has no activations")?;
    Ok((correct as f64 / images as f64, mean, lowest, fastest))
}
