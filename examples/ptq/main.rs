//! Post-training quantization of a trained network, end to end: every method at several widths, and what the network is
//! still worth.
//!
//! ```text
//! cargo run --release --example ptq
//! cargo run --release --example ptq -- --methods nearest,gptq,mixed-gptq --bits 4,3 --report ptq.json
//! ```
//!
//! | file | |
//! |---|---|
//! | `network.rs` | the network without batch normalizations, layer by layer |
//! | `inputs.rs` | statistics and samples of the inputs of a layer, and blocks of layers |
//! | `methods.rs` | the list of methods |
//! | `layers.rs`, `equalization.rs` | what each method does with a layer or a block |
//! | `pipeline.rs` | all layers, in order |
//! | `mixed.rs` | a width for each layer |
//! | `compare.rs` | all methods at all widths |
//! | `measure.rs` | accuracy and errors |

mod compare;
mod equalization;
mod inputs;
mod layers;
mod measure;
mod methods;
mod mixed;
mod network;
mod options;
mod picture;
mod pipeline;
mod table;
#[cfg(test)]
mod tests;

#[path = "../support/console.rs"]
mod console;
#[path = "../support/draw.rs"]
mod draw;
#[path = "../support/interrupt.rs"]
mod interrupt;
#[path = "../support/mmap.rs"]
mod mmap;
#[path = "../support/numbers.rs"]
mod numbers;
#[path = "../support/parts.rs"]
mod parts;
#[path = "../support/paths.rs"]
mod paths;
#[path = "../support/progress.rs"]
mod progress;
#[path = "../support/sample/mod.rs"]
mod sample;
#[path = "../support/tables.rs"]
mod tables;
#[path = "../support/widths.rs"]
mod widths;
#[path = "../support/write.rs"]
mod write;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use console::print;
use measure::{HeldOut, Outcome};
use network::Folded;
use options::Options;
use pipeline::Calibration;
use sample::{Glyphs, Info, Network};

fn main() -> ExitCode {
    console::main_with(run)
}

fn run(options: &Options) -> Result<()> {
    options.check()?;
    interrupt::listen()?;
    let (info, network) = match &options.file {
        Some(path) => read(&mmap::map(path)?).with_context(|| path.display().to_string())?,
        None => read(sample::embedded())?,
    };
    let start = Instant::now();
    let first = options.seed * options.samples;
    let (images, _) = Glyphs::new(info.training_seed).batch(first..first + options.samples);
    let calibration = Calibration::new(network, options.grid()?, options.learning(), &images)?;
    let held_out = HeldOut::new(&calibration.network, info.held_out_seed, options.images)?;
    let float = held_out.float(&calibration);
    let title = format!(
        "Weights quantized on {} images, judged by {} others: {:.2} % right in float",
        options.samples,
        options.images,
        100.0 * float.accuracy
    );
    print(&format!("{title}\n"))?;

    let compared = compare::compare(options, &calibration, &held_out)?;
    let outcomes: Vec<Outcome> = std::iter::once(float).chain(compared.outcomes).collect();
    for bits in options.widths().iter().map(|bits| bits.get()) {
        let of_width: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.bits == bits).collect();
        print(&table::text(bits, &of_width))?;
    }
    print(&compared.left_out.concat())?;
    print(&format!("\nall together: {:.1} s\n", start.elapsed().as_secs_f64()))?;

    // All files at the very end: an interrupted run leaves none.
    interrupt::check()?;
    if let Some(path) = &options.report {
        write::write_whole(path, &serde_json::to_vec_pretty(&table::json(&outcomes))?).context("report")?;
        print(&format!("report: {}\n", path.display()))?;
    }
    let svg = picture::draw(&title, &outcomes)?;
    write::write_whole(&options.output, svg.as_bytes()).context("picture")?;
    print(&format!("picture: {}\n", options.output.display()))
}

/// What a file says about itself, and the network in it.
fn read(bytes: &[u8]) -> Result<(Info, Folded)> {
    Ok((Info::read(bytes)?, Folded::new(&Network::load(bytes)?)?))
}
