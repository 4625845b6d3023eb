//! The command line.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;
use lowbit::BitWidth;

use crate::parts::Granularity;
use crate::paths::same_file;
use crate::widths::{bit_width, each_once};

/// Quantizes one tensor by every method at several widths, and compares what they lose for their bits.
///
/// Bits per element count everything: codes, scales of all levels, zero points, codebooks. The bound is Shannon's for a
/// Gaussian source of the tensor's variance.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Options {
    /// The tensors: a .safetensors or .npy file of F64, F32, F16 or BF16 values [default: an embedded sample network]
    pub(crate) file: Option<PathBuf>,

    /// The name of the tensor [default: the largest]
    #[arg(long, value_name = "NAME")]
    pub(crate) tensor: Option<String>,

    /// Bit widths, each from 1 to 8
    #[arg(long, value_name = "BITS", value_delimiter = ',', default_value = "2,3,4,8", value_parser = bit_width::<1, 8>)]
    bits: Vec<BitWidth>,

    /// What shares parameters, for methods without a block of their own: layer, channel or subchannel=N, along axis 0
    #[arg(long, default_value = "channel", value_name = "PART")]
    pub(crate) granularity: Granularity,

    /// The picture, an SVG file; replaced if it exists
    #[arg(long, value_name = "OUT.svg", default_value = "compare.svg")]
    pub(crate) output: PathBuf,

    /// Write the figures as JSON: a list of {method, family, bits, recipe, bits_per_element, sqnr_db, ...}
    #[arg(long, value_name = "OUT.json")]
    pub(crate) report: Option<PathBuf>,
}

impl Options {
    /// What single arguments cannot know of each other.
    pub(crate) fn check(&self) -> Result<()> {
        let outputs = [Some(&self.output), self.report.as_ref()];
        for path in outputs.into_iter().flatten() {
            if let Some(input) = &self.file {
                ensure!(!same_file(path, input), "the output would replace {}", path.display());
            }
        }
        let both = self.report.as_ref().is_some_and(|report| *report == self.output);
        ensure!(!both, "--output and --report are the same file, {}", self.output.display());
        Ok(())
    }

    /// The bit widths, each once.
    pub(crate) fn widths(&self) -> Vec<BitWidth> {
        each_once(&self.bits)
    }
}
