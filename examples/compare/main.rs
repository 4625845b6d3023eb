//! Every method at several widths on one tensor: rate against distortion, as tables and a picture, with the bound that
//! no method can pass on a Gaussian source.
//!
//! `cargo run --release --example compare -- --help`

#[path = "../support/console.rs"]
mod console;
#[path = "../support/draw.rs"]
mod draw;
#[path = "../support/interrupt.rs"]
mod interrupt;
mod measure;
mod methods;
mod options;
#[path = "../support/parts.rs"]
mod parts;
#[path = "../support/paths.rs"]
mod paths;
mod picture;
mod table;
#[path = "../support/tables.rs"]
mod tables;
#[path = "../support/tensors.rs"]
mod tensors;
#[cfg(test)]
mod tests;
#[path = "../support/widths.rs"]
mod widths;
#[path = "../support/write.rs"]
mod write;

// Only the bytes of the network are needed here, but its module is one piece.
#[path = "../support/sample/mod.rs"]
mod sample;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use measure::{Source, measure};
use options::Options;
use tensors::{TensorFile, with_array};

fn main() -> ExitCode {
    console::main_with(run)
}

fn run(options: &Options) -> Result<()> {
    interrupt::listen()?;
    options.check()?;
    let mut file = match &options.file {
        Some(path) => TensorFile::open(path)?,
        None => TensorFile::from_bytes("sample network", sample::embedded())?,
    };
    let entry = file.choose(options.tensor.as_deref())?.clone();
    ensure!(entry.len() > 1, "{}: tensor {} has fewer than two elements", file.label(), entry.name);
    let tensor = file.read(&entry)?;
    let source = with_array!(&tensor, array => Source::of(array))?;
    let title = format!(
        "{} of {} ({:?}, {} values)",
        entry.name,
        Path::new(file.label()).file_name().unwrap_or_default().to_string_lossy(),
        entry.shape,
        entry.len(),
    );
    let mut out = io::stdout().lock();
    writeln!(out, "{title}\ngranularity {} where a format has no block of its own", options.granularity)?;

    let candidates = methods::candidates(options);
    let bar = ProgressBar::new(candidates.len() as u64).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").unwrap_or(ProgressStyle::default_bar()),
    );
    let mut outcomes = Vec::new();
    let mut failed = Vec::new();
    for candidate in candidates {
        interrupt::check()?;
        bar.set_message(candidate.label());
        match with_array!(&tensor, array => measure(array, &candidate, &source)) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => failed.push(format!("{}: {error:#}", candidate.label())),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    for bits in options.widths() {
        write!(out, "\n{}", table::text(bits, &outcomes))?;
    }
    for line in &failed {
        writeln!(out, "left out: {line}")?;
    }
    if let Some(path) = &options.report {
        write::write_whole(path, &serde_json::to_vec_pretty(&table::json(&outcomes))?)?;
        writeln!(out, "\nreport: {}", path.display())?;
    }
    let svg = picture::draw(&title, &source, &outcomes)?;
    write::write_whole(&options.output, svg.as_bytes())?;
    writeln!(out, "\npicture: {}", options.output.display())?;
    Ok(())
}
