//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use lowbit::simd::Level;

/// Measures how fast the basic operations of quantization are, beside what the memory of this machine allows.
///
/// Each repetition of an operation is paired with one of its roofline: a loop that moves the same bytes and does nothing
/// else, with as many threads, with and without streaming stores, of which the better one counts. The ratio, 1 at the
/// limit, is the median over the repetitions. Outputs are written into buffers that are reused.
#[derive(Debug, Parser)]
#[command(name = "throughput", version, max_term_width = 110)]
pub(crate) struct Options {
    /// Only operations whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) operations: String,

    /// Shapes of the tensor: ROWSxCOLUMNS, or one number for a square one
    #[arg(long = "shape", value_name = "SHAPE", value_delimiter = ',', default_value = "4096x4096,256x256")]
    pub(crate) shapes: Vec<Shape>,

    /// Numbers of threads
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Vec<u16>,

    /// Element types of the tensor
    #[arg(long = "element", value_name = "TYPE", value_enum, value_delimiter = ',', default_value = "f32")]
    pub(crate) elements: Vec<ElementType>,

    /// The instruction set of the library's loops: baseline, avx2 or avx512 [default: the best of this machine]
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(crate) level: Option<Level>,

    /// Repetitions of which the median is taken; slow operations get fewer
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) repetitions: u16,

    /// Show the figures beside those of other programs: a file with an object {task, peer, threads, shape,
    /// ratio_to_roofline} on each line; may be repeated
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) peers: Vec<PathBuf>,

    /// Write the figures as JSON: a list of {operation, shape, threads, level, input, seconds, ...}
    #[arg(long, value_name = "OUT.json")]
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// What is better said before the work than after it.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(path) = &self.json {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let there = folder.is_none_or(|folder| folder.is_dir());
            ensure!(there && !path.is_dir(), "--json: {} cannot be written there", path.display());
        }
        Ok(())
    }
}

fn level(text: &str) -> Result<Level, String> {
    text.parse().map_err(|_| "expected baseline, avx2 or avx512".to_owned())
}

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Shape {
    pub(crate) const fn elements(self) -> usize {
        self.rows * self.columns
    }
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (rows, columns) = text.split_once('x').unwrap_or((text, text));
        let (Ok(rows), Ok(columns)) = (rows.trim().parse::<usize>(), columns.trim().parse::<usize>()) else {
            bail!("expected ROWSxCOLUMNS or one number");
        };
        let elements = rows.checked_mul(columns).filter(|elements| *elements <= 1 << 30);
        // Whole blocks in each row, and whole patterns of all rooflines.
        let whole =
            elements.is_some_and(|elements| elements > 0 && elements % 4096 == 0) && columns % 64 == 0;
        ensure!(
            whole,
            "expected at most 2^30 elements, a multiple of 4096, and columns that are a multiple of 64"
        );
        Ok(Self { rows, columns })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.rows, self.columns)
    }
}

/// A type of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ElementType {
    F32,
    F16,
    Bf16,
}
