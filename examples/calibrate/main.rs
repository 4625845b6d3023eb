//! Activations of a real sequence of batches, calibrated as a stream and quantized statically and dynamically.
//!
//! ```text
//! cargo run --release --example calibrate
//! cargo run --release --example calibrate -- --bits 4 --calibration mse --activation dense7
//! cargo run --release --example calibrate -- --save today.json
//! cargo run --release --example calibrate -- --resume today.json --save tomorrow.json
//! ```
//!
//! 1. Observe: batches run through a small trained network, and one observer per activation counts its values. Two
//!    threads stand for two machines; their observers are merged, written as JSON, read back, and go on.
//! 2. Compare: every calibration on what was observed, the error that its range would cost, and whether more samples
//!    would still move it. Nothing is quantized for that.
//! 3. Judge: the network reads images that it has not seen, with its activations quantized. *Static* is a recipe frozen
//!    on the observers: no statistics at run time. *Dynamic* is the same recipe as it is: it finds the range of whatever
//!    it is given, once per tensor or once per row (here, an image; in a language model, a token).
//! 4. The same questions for real spectrograms, where they are present: which calibration, and how many samples?
//!
//! | file | |
//! |---|---|
//! | `observers.rs` | the observers of all activations, and their file |
//! | `stream.rs` | 1. observe, merge, save, reload, continue |
//! | `compare.rs` | 2. the comparison and the convergence |
//! | `judge.rs` | 3. static and dynamic quantization |
//! | `spectrograms.rs` | 4. real spectrograms |

mod compare;
#[path = "../support/console.rs"]
mod console;
#[path = "../support/interrupt.rs"]
mod interrupt;
mod judge;
#[path = "../support/mmap.rs"]
mod mmap;
#[path = "../support/numbers.rs"]
mod numbers;
mod observers;
mod options;
#[path = "../support/paths.rs"]
mod paths;
#[path = "../support/picture/mod.rs"]
mod picture;
#[path = "../support/progress.rs"]
mod progress;
#[path = "../support/sample/mod.rs"]
mod sample;
mod spectrograms;
mod stream;
mod table;
#[path = "../support/tensors.rs"]
mod tensors;
#[cfg(test)]
mod tests;
#[path = "../support/write.rs"]
mod write;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use clap::error::ErrorKind;

use console::{causes, one_line, print};
use observers::Observers;
use options::Options;
use sample::{Info, Network};
use spectrograms::Recordings;
use stream::Stream;

fn main() -> ExitCode {
    let result = match Options::try_parse() {
        Ok(options) => run(&options),
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

fn run(options: &Options) -> Result<()> {
    options.check()?;
    interrupt::listen()?;
    let info = Info::read(sample::embedded())?;
    let network = Network::load(sample::embedded())?;
    let empty = Observers::new(&network)?;
    // What may be wrong with files is said before any work.
    let start = match &options.resume {
        Some(path) => Observers::load(path, &empty)?,
        None => empty.clone(),
    };
    let chosen = empty.find(&options.activation)?;
    let recordings = Recordings::find(options.spectrograms.as_deref())?;

    let stream = Stream::new(&network, info.training_seed, options.batches);
    let seen = stream.observe(&empty, &start)?;
    print(&seen.told)?;

    let name = &options.activation;
    let activation = |observers: &Observers| observers.activations[chosen].layer.clone();
    let all = activation(&seen.observers);
    let title = format!("The input of {name} in {} images", seen.observers.images);
    let comparisons = compare::comparisons(&all, options)?;
    print(&compare::tables(&title, &comparisons))?;
    print(&compare::convergence(&title, &all, &seen.halves.each_ref().map(activation), options)?)?;

    let judged = judge::judge(&network, info.held_out_seed, &seen.observers, options)?;
    print(&table::judged(&judged))?;

    match recordings {
        Recordings::At(recordings) => print(&spectrograms::report(&recordings, options)?)?,
        Recordings::Absent(told) => print(&told)?,
    }

    // All files at the very end: an interrupted run leaves none.
    interrupt::check()?;
    if let Some(path) = &options.save {
        let saved = seen.observers.save(path)?;
        let again = Observers::load(path, &empty)?;
        ensure!(again == seen.observers, "{}: not what was written", path.display());
        print(&format!("observers: {} ({saved})\n", path.display()))?;
    }
    let svg = compare::picture(&title, &all, &comparisons)?;
    write::write_whole(&options.output, svg.as_bytes()).context("picture")?;
    print(&format!("picture: {}\n", options.output.display()))
}
