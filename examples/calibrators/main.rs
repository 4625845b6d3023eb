//! Compares all calibrations on one tensor: a table for each bit width, and a picture of the values with the
//! clipping ranges that were chosen.
//!
//! `cargo run --release --example calibrators -- --help`

mod compare;
#[path = "../support/console.rs"]
mod console;
#[path = "../support/draw.rs"]
mod draw;
#[path = "../support/numbers.rs"]
mod numbers;
mod options;
#[path = "../support/paths.rs"]
mod paths;
#[path = "../support/picture/mod.rs"]
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

use anyhow::{Context, Result, ensure};

use compare::compare;
use options::Options;
use paths::same_file;
use picture::Histogram;
use tensors::{TensorFile, with_array};

fn main() -> ExitCode {
    console::main_with(run)
}

fn run(options: &Options) -> Result<()> {
    let mut file = match &options.file {
        Some(path) => {
            ensure!(!same_file(path, &options.output), "the output would replace {}", path.display());
            TensorFile::open(path)?
        }
        None => TensorFile::from_bytes("sample network", sample::embedded())?,
    };
    let entry = file.choose(options.tensor.as_deref())?.clone();
    ensure!(entry.len() > 0, "{}: tensor {} has no elements", file.label(), entry.name);
    let tensor = file.read(&entry)?;
    let setup = options.setup(entry.shape.len())?;
    let title = format!(
        "{} of {} ({} {}, {} values)",
        entry.name,
        Path::new(file.label()).file_name().unwrap_or_default().to_string_lossy(),
        shape_text(&entry.shape),
        entry.float.map_or(entry.dtype.clone(), |float| float.to_string()),
        entry.len(),
    );
    let mut out = io::stdout().lock();
    writeln!(out, "{title}\n{setup}")?;
    let mut panels = Vec::new();
    for &bits in &options.widths() {
        let panel = with_array!(&tensor, array => compare(array, bits, &setup))
            .with_context(|| format!("{} at {bits} bits", entry.name))?;
        write!(out, "\n{}", table::text(&panel))?;
        out.flush()?;
        panels.push(panel.drawn());
    }
    let axis = with_array!(&tensor, array => picture::x_axis(array.iter().copied(), &panels));
    let histogram = with_array!(&tensor, array => Histogram::of(array.iter().copied(), &axis));
    let svg = picture::draw(&title, &setup.to_string(), &histogram, &axis, &panels)?;
    write::write_whole(&options.output, svg.as_bytes())?;
    writeln!(out, "\npicture: {}", options.output.display())?;
    Ok(())
}

fn shape_text(shape: &[usize]) -> String {
    let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
    if lengths.is_empty() { "a scalar".to_owned() } else { lengths.join("×") }
}
