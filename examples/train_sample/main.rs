//! Trains the sample network that the other examples quantize, and writes it
//! with what is needed to judge it again.
//!
//! ```text
//! cargo run --release --example train_sample
//! cargo run --release --example train_sample -- --check
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

mod check;
mod file;
#[path = "../support/sample/mod.rs"]
mod sample;
#[cfg(test)]
mod tests;
mod train;

use sample::{Glyphs, Info, LABELS, LAYERS, Network, to_planes};
use train::Trainer;

/// Images per gradient step.
const BATCH: u64 = 64;
/// First learning rate; it falls linearly to zero.
const RATE: f32 = 0.1;

/// Train the sample network on procedurally drawn glyphs.
///
/// The same options give the same file, byte for byte.
#[derive(Parser)]
struct Options {
    /// Where the network is written (or, with --check, read)
    #[arg(long, default_value = "examples/data/sample.safetensors")]
    output: PathBuf,
    /// Seed of the first weights and of the training images
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seed of the held-out images
    #[arg(long, default_value_t = 2)]
    held_out_seed: u64,
    /// Number of held-out images
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    held_out_count: u64,
    /// Passes over fresh training images
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    epochs: u64,
    /// Training images per epoch
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    epoch_images: u64,
    /// Instead of training, show what rounding the weights of an existing file costs
    #[arg(long)]
    check: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.check {
        let bytes =
            fs::read(&options.output).with_context(|| format!("cannot read {}", options.output.display()))?;
        return check::check(&bytes).with_context(|| options.output.display().to_string());
    }
    ensure!(
        options.seed != options.held_out_seed,
        "with equal seeds the held-out images would be training images"
    );
    // Better said now than after the training.
    let folder = options.output.parent().filter(|p| !p.as_os_str().is_empty());
    ensure!(
        folder.is_none_or(Path::is_dir) && !options.output.is_dir(),
        "{} cannot be written there",
        options.output.display()
    );
    let network = train(&options)?;

    let mut info = Info {
        training_seed: options.seed,
        epochs: options.epochs,
        epoch_images: options.epoch_images,
        held_out_seed: options.held_out_seed,
        held_out_count: options.held_out_count,
        held_out_accuracy: 0.0,
        labels: LABELS.map(str::to_owned).to_vec(),
    };
    let (images, labels) = info.held_out();
    info.held_out_accuracy = network.accuracy(&images, &labels);
    let bytes = file::encode(&info, &network);
    file::replace(&options.output, &bytes)?;
    println!(
        "{}: {} bytes, held-out accuracy {:.2} %",
        options.output.display(),
        bytes.len(),
        100.0 * info.held_out_accuracy
    );
    Ok(())
}

fn train(options: &Options) -> Result<Network> {
    let glyphs = Glyphs::new(options.seed);
    let mut trainer = Trainer::new(LAYERS, options.seed);
    // A last, smaller batch would have its own, noisier statistics: left out.
    let steps = options.epoch_images / BATCH;
    ensure!(steps > 0, "an epoch is shorter than a batch");
    let total = options.epochs * steps;
    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(
        "{elapsed_precise} [{bar:40}] {pos}/{len} {msg} ({eta} left)",
    )?);
    bar.enable_steady_tick(Duration::from_millis(200));
    for epoch in 0..options.epochs {
        let (mut loss, mut right) = (0.0, 0);
        for step in 0..steps {
            let done = epoch * steps + step;
            let first = done * BATCH;
            let (images, labels) = glyphs.batch(first..first + BATCH);
            let rate = RATE * (total - done) as f32 / total as f32;
            let score = trainer.step(to_planes(images.view()), &labels, rate);
            loss += score.loss;
            right += score.right;
            bar.inc(1);
        }
        let line = format!(
            "epoch {}/{}: loss {:.4}, accuracy {:.2} %",
            epoch + 1,
            options.epochs,
            loss / steps as f64,
            100.0 * right as f64 / (steps * BATCH) as f64
        );
        // A hidden bar means that nobody watches a terminal: plain lines then.
        if bar.is_hidden() {
            eprintln!("{line}");
        }
        bar.set_message(line);
    }
    bar.finish();
    Network::from_tensors(trainer.tensors())
}
