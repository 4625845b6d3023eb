//! Quantizes the weights of a file, or of a small network that comes with this example, and says what it cost.
//!
//! ```text
//! cargo run --release --example quantize
//! cargo run --release --example quantize -- model.safetensors --bits 4 --calibration mse --output small.safetensors
//! ```
//!
//! The input is mapped, and tensors are read, quantized and written one at a time: memory is bounded by the largest
//! tensor.

mod arguments;
mod input;
mod method;
mod output;
mod pipeline;
mod report;

#[path = "../support/console.rs"]
mod console;
#[path = "../support/interrupt.rs"]
mod interrupt;
#[path = "../support/mmap.rs"]
mod mmap;
#[path = "../support/paths.rs"]
mod paths;
#[path = "../support/sample/mod.rs"]
mod sample;

use std::process::ExitCode;

use anyhow::Result;

use arguments::Arguments;
use console::print;
use input::Input;

fn main() -> ExitCode {
    console::main_with(run)
}

fn run(arguments: &Arguments) -> Result<()> {
    arguments.check()?;
    if let Some(notice) = arguments.notice() {
        eprintln!("note: {notice}");
    }
    interrupt::listen()?;
    let Some(path) = &arguments.file else {
        return run_on_sample(arguments);
    };
    let mapped = mmap::map(path)?;
    let input = Input::of_file(path, &mapped)?;
    let done = pipeline::run(arguments, &input, |_, _| Ok(()))?;
    print(&report::table(&done))
}

/// As for a file, and with what the network makes of its images before and after.
fn run_on_sample(arguments: &Arguments) -> Result<()> {
    let network = sample::Network::load(sample::embedded())?;
    let (images, labels) = sample::held_out()?;
    let input = Input::safetensors("the sample", sample::embedded())?;
    let mut restored = std::collections::BTreeMap::new();
    let done = pipeline::run(arguments, &input, |name, quantized| {
        restored.insert(name.to_owned(), quantized.dequantize::<f32, ndarray::IxDyn>()?);
        Ok(())
    })?;
    let quantized =
        network.map_weights(|name, weights| restored.remove(name).unwrap_or_else(|| weights.to_owned()))?;
    let (before, after) = (network.accuracy(&images, &labels), quantized.accuracy(&images, &labels));
    print(&format!(
        "{}\nThe sample network reads {} glyphs that it has not seen: {:.2} % right before, {:.2} % after.\n",
        report::table(&done),
        labels.len(),
        100.0 * before,
        100.0 * after
    ))
}
