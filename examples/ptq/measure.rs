//! What the network is worth: on images that it has not seen, and on those that it was quantized with.

use anyhow::{Context, Result};
use lowbit::BitWidth;
use lowbit::metrics::Errors;
use ndarray::Array2;

use crate::methods::{Family, Plan};
use crate::network::{Batches, Folded, Parameters, batches};
use crate::pipeline::{Calibration, Quantized};
use crate::sample::{Glyphs, right};

/// Images that were not seen, and what the float network makes of them.
pub(crate) struct HeldOut {
    images: Batches,
    labels: Vec<usize>,
    logits: Array2<f32>,
}

/// What came of a plan at a width.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) method: String,
    /// None for the float network.
    pub(crate) family: Option<Family>,
    /// The width, or that of the network whose size was the limit.
    pub(crate) bits: u32,
    /// The width of each layer.
    pub(crate) layer_bits: Vec<(&'static str, u32)>,
    /// Everything counted.
    pub(crate) bits_per_weight: f64,
    /// The share of unseen images that are read.
    pub(crate) accuracy: f64,
    /// Of the logits, on unseen images.
    pub(crate) sqnr: f64,
    /// Mean squared error of the logits on the calibration images, and on unseen ones.
    pub(crate) calibration_mse: f64,
    pub(crate) held_out_mse: f64,
    pub(crate) seconds: f64,
}

impl HeldOut {
    /// The first `count` images of `seed`.
    pub(crate) fn new(network: &Folded, seed: u64, count: u64) -> Result<Self> {
        let (images, labels) = Glyphs::new(seed).batch(0..count);
        let images = batches(&images);
        let logits = network.logits(0, &network.parameters, &images)?;
        Ok(Self { images, labels, logits })
    }

    fn accuracy(&self, logits: &Array2<f32>) -> f64 {
        right(logits, &self.labels) as f64 / self.labels.len() as f64
    }

    /// The float network itself.
    pub(crate) fn float(&self, calibration: &Calibration) -> Outcome {
        Outcome {
            method: "float".to_owned(),
            family: None,
            bits: 32,
            layer_bits: calibration.network.layers.iter().map(|layer| (layer.name, 32)).collect(),
            bits_per_weight: 32.0,
            accuracy: self.accuracy(&self.logits),
            sqnr: f64::INFINITY,
            calibration_mse: 0.0,
            held_out_mse: 0.0,
            seconds: 0.0,
        }
    }

    /// A quantized network.
    pub(crate) fn measure(
        &self,
        calibration: &Calibration,
        plan: &Plan,
        bits: BitWidth,
        widths: &[BitWidth],
        quantized: &Quantized,
    ) -> Result<Outcome> {
        let network = &calibration.network;
        let parameters: Vec<Parameters> =
            quantized.layers.iter().map(|layer| layer.parameters.clone()).collect();
        let seen = calibration.inputs.first().context("no images")?;
        let on_seen = Errors::between(&calibration.logits, &network.logits(0, &parameters, seen)?)?;
        let logits = network.logits(0, &parameters, &self.images)?;
        let errors = Errors::between(&self.logits, &logits)?;
        let layers = network.layers.iter().zip(widths);
        Ok(Outcome {
            method: plan.name(),
            family: Some(plan.family()),
            bits: bits.get(),
            layer_bits: layers.map(|(layer, bits)| (layer.name, bits.get())).collect(),
            bits_per_weight: quantized.size() as f64 / network.weights() as f64,
            accuracy: self.accuracy(&logits),
            sqnr: errors.sqnr(),
            calibration_mse: on_seen.mse(),
            held_out_mse: errors.mse(),
            seconds: quantized.seconds,
        })
    }
}
