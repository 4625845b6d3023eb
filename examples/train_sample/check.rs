//! What plain quantization costs the network: every weight tensor rounded to
//! the levels of a symmetric, restricted min/max grid and back.

use anyhow::Result;
use ndarray::{ArrayD, ArrayViewD, Axis};

use crate::sample::{Info, Network};

/// Prints the accuracy of the float network and of its rounded versions.
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    let info = Info::read(bytes)?;
    let network = Network::load(bytes)?;
    let (images, labels) = info.held_out();
    let float = network.accuracy(&images, &labels);
    let parameters: usize = network.tensors().iter().map(|(_, t)| t.len()).sum();
    println!("parameters           {parameters}");
    println!("held-out images      {}", labels.len());
    println!("accuracy in file     {:.2} %", 100.0 * info.held_out_accuracy);
    println!("float                {:.2} %", 100.0 * float);
    for bits in [8, 4] {
        for per_channel in [false, true] {
            let rounded = network.map_weights(|_, weight| round(weight, bits, per_channel))?;
            let accuracy = rounded.accuracy(&images, &labels);
            println!(
                "{bits} bits per {:<8} {:.2} % (drop {:.2})",
                if per_channel { "channel" } else { "layer" },
                100.0 * accuracy,
                100.0 * (float - accuracy)
            );
        }
    }
    Ok(())
}

/// To the nearest multiple of max |w| / (2^(bits - 1) - 1), over the whole
/// tensor or each output channel.
fn round(weight: ArrayViewD<'_, f32>, bits: u32, per_channel: bool) -> ArrayD<f32> {
    let top = ((1_u32 << (bits - 1)) - 1) as f32;
    let mut rounded = weight.to_owned();
    let grid = |w: f32, greatest: f32| {
        let step = greatest / top;
        if step > 0.0 { (w / step).round_ties_even().clamp(-top, top) * step } else { w }
    };
    let magnitude = |values: ArrayViewD<'_, f32>| values.fold(0.0_f32, |m, w| m.max(w.abs()));
    if per_channel {
        for mut channel in rounded.axis_iter_mut(Axis(0)) {
            let greatest = magnitude(channel.view());
            channel.mapv_inplace(|w| grid(w, greatest));
        }
    } else {
        let greatest = magnitude(rounded.view());
        rounded.mapv_inplace(|w| grid(w, greatest));
    }
    rounded
}
