//! The network with its channels equalized across layers.

use anyhow::Result;
use lowbit::transform::{Equalization, LayerMut};
use ndarray::ArrayD;

use crate::network::{Folded, Layer};

/// The most sweeps over the network.
const SWEEPS: usize = 100;

/// The weights of a layer after scaling, and how they are brought back.
#[derive(Debug, Clone)]
pub(crate) struct Scaled {
    pub(crate) weights: ArrayD<f32>,
    /// What the outputs were divided by, and the inputs multiplied by.
    outputs: Vec<f64>,
    inputs: Vec<f64>,
}

impl Scaled {
    /// All layers: ReLU and pooling let positive factors pass, and every layer is followed by one other.
    pub(crate) fn all(network: &Folded) -> Result<Vec<Self>> {
        let mut weights: Vec<ArrayD<f32>> =
            network.parameters.iter().map(|parameters| parameters.weights.clone()).collect();
        let layers = weights.iter_mut().zip(&network.layers);
        let mut chain: Vec<LayerMut<'_, f32>> = layers
            .map(|(weights, layer)| LayerMut::new(weights, layer.channels()))
            .collect::<lowbit::Result<_>>()?;
        let equalized = Equalization::default().chain(&mut chain, SWEEPS)?;
        drop(chain);
        // Nothing is known before the first layer, and nothing may change behind the last.
        let mut factors = equalized.factors.into_iter();
        let mut inputs = vec![1.0; network.layers.first().map_or(0, |layer| layer.conv.inputs)];
        let scaled = weights.into_iter().zip(&network.layers).map(|(weights, layer)| {
            let outputs = factors.next().unwrap_or_else(|| vec![1.0; layer.conv.outputs]);
            let inputs = std::mem::replace(&mut inputs, outputs.clone());
            Self { weights, outputs, inputs }
        });
        Ok(scaled.collect())
    }

    /// Brings `weights` of this layer back.
    pub(crate) fn undo(&self, layer: &Layer, weights: &mut ArrayD<f32>) {
        Self::divide_inputs(layer, weights, &self.inputs);
        for (output, factor) in weights.outer_iter_mut().zip(&self.outputs) {
            multiply(output, *factor);
        }
    }

    /// Divides what `weights` make of each input channel of `layer`.
    pub(crate) fn divide_inputs(layer: &Layer, weights: &mut ArrayD<f32>, factors: &[f64]) {
        let axis = ndarray::Axis(usize::from(!layer.conv.depthwise));
        for (channel, factor) in weights.axis_iter_mut(axis).zip(factors) {
            multiply(channel, 1.0 / factor);
        }
    }
}

fn multiply(mut weights: ndarray::ArrayViewMutD<'_, f32>, factor: f64) {
    weights.mapv_inplace(|weight| (f64::from(weight) * factor) as f32);
}
