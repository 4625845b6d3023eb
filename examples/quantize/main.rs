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

#[path = "../support/interrupt.rs"]
mod interrupt;
#[path = "../support/mmap.rs"]
mod mmap;
#[path = "../support/sample/mod.rs"]
mod sample;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use clap::error::ErrorKind;

use arguments::Arguments;
use input::Input;

fn main() -> ExitCode {
    let result = match Arguments::try_parse() {
        Ok(arguments) => run(&arguments),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => print(&error.to_string()),
            _ => {
                eprintln!("{}", one_line(&error.to_string()));
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    arguments.check()?;
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

/// Writes to standard output, whose reader may have heard enough.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// An error and what caused it, in one line. Some errors tell their cause themselves.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause.replace('\n', " ");
        }
    }
    text
}

/// What is wrong with the arguments, without the reminder of how to get help.
fn one_line(message: &str) -> String {
    let told = message
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    told.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
