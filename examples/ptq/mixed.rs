//! Mixed precision: a width for each layer.

use anyhow::{Context, Result};
use lowbit::allocation::{Choice, LayerChoices, MixedPrecision};
use lowbit::metrics::Errors;
use lowbit::prelude::*;

use crate::methods::Method;
use crate::pipeline::Calibration;

/// The widths that a layer can have.
const WIDTHS: [u32; 6] = [2, 3, 4, 5, 6, 8];

/// How many steps measuring takes.
pub(crate) fn steps(calibration: &Calibration) -> usize {
    WIDTHS.len() * calibration.layers()
}

/// What every layer at every width costs: the mean squared error of the logits when it alone is quantized.
pub(crate) fn measure(
    calibration: &Calibration,
    method: &Method,
    step: &mut dyn FnMut() -> Result<()>,
) -> Result<MixedPrecision> {
    let network = &calibration.network;
    let mut layers = Vec::new();
    for (index, inputs) in calibration.inputs.iter().enumerate() {
        let mut choices = Vec::new();
        for bits in WIDTHS {
            let bits = BitWidth::new(bits)?;
            let task = calibration.task(index, bits)?;
            let done = method.quantize(std::slice::from_ref(&task))?.pop().context("no layer")?;
            let mut parameters = network.parameters.clone();
            if let Some(place) = parameters.get_mut(index) {
                *place = done.parameters;
            }
            let logits = network.logits(index, &parameters, inputs)?;
            let error = Errors::between(&calibration.logits, &logits)?.mse();
            choices.push(Choice { bits, error, size: done.size });
            step()?;
        }
        layers.push(LayerChoices::new(network.layers[index].name, choices));
    }
    Ok(MixedPrecision::new(layers)?)
}

/// The best widths in the size of a network of `bits` everywhere, if there is another choice.
pub(crate) fn widths(mixed: &MixedPrecision, bits: BitWidth) -> Result<Option<Vec<BitWidth>>> {
    let uniform = mixed.uniform();
    let least = uniform.first().is_some_and(|first| first.bits == bits);
    let most = uniform.last().is_some_and(|last| last.bits == bits);
    match uniform.iter().find(|uniform| uniform.bits == bits) {
        Some(uniform) if !least && !most => Ok(Some(mixed.within(uniform.size)?.bits)),
        _ => Ok(None),
    }
}
