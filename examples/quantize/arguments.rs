//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use lowbit::{BitWidth, Rounding};
use regex::Regex;

use crate::method::{self, Calibration, Granularity, Method};
use crate::paths::same_file;

/// Quantizes the weights of a network and says what it cost: size, and error of the restored tensors.
///
/// Without FILE it quantizes a small network that comes with it, at 4 bits unless said otherwise, and compares its
/// accuracy before and after.
///
/// Floating-point tensors of rank 2 and more are quantized, the others kept as they are.
#[derive(Debug, Parser)]
#[command(name = "quantize", version, max_term_width = 110)]
pub(crate) struct Arguments {
    /// The tensors: a .safetensors or .npy file [default: the sample network]
    pub(crate) file: Option<PathBuf>,

    /// How levels are chosen
    #[arg(long, default_value = "uniform", value_parser = method::find, help_heading = "Recipe")]
    pub(crate) method: &'static Method,

    /// Bits of a code, 1 to 16 [default: 8, or 4 for the sample]
    #[arg(long, help_heading = "Recipe")]
    pub(crate) bits: Option<BitWidth>,

    /// Whether the levels are the same on both sides of zero [default: symmetric]
    #[arg(long, help_heading = "Recipe")]
    pub(crate) symmetry: Option<Symmetry>,

    /// Whether a symmetric grid uses all 2^b codes, or one less, which makes it even [default: restricted]
    #[arg(long, help_heading = "Recipe")]
    pub(crate) range: Option<Range>,

    /// How the clipping range is found: minmax, percentile=P, kl or mse [default: minmax]
    #[arg(long, value_name = "RULE", help_heading = "Recipe")]
    pub(crate) calibration: Option<Calibration>,

    /// What shares a scale: layer, group=N channels, channel, or subchannel=N elements of a channel
    #[arg(long, value_name = "PART", default_value = "channel", help_heading = "Recipe")]
    pub(crate) granularity: Granularity,

    /// The axis of the channels; -1 is the last one [default: 0]
    #[arg(long, allow_negative_numbers = true, help_heading = "Recipe")]
    pub(crate) axis: Option<isize>,

    /// nearest-even, nearest-away, floor, ceil or toward-zero
    #[arg(long, default_value = "nearest-even", help_heading = "Recipe")]
    pub(crate) rounding: Rounding,

    /// Quantize only tensors whose name matches
    #[arg(long, value_name = "REGEX", help_heading = "Tensors")]
    pub(crate) include: Option<Regex>,

    /// Keep tensors whose name matches
    #[arg(long, value_name = "REGEX", help_heading = "Tensors")]
    pub(crate) exclude: Option<Regex>,

    /// Write codes, scales and zero points, and the kept tensors
    #[arg(long, value_name = "OUT.safetensors", help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,

    /// Write the restored tensors under their own names and types, and the kept ones
    #[arg(long, value_name = "OUT.safetensors", help_heading = "Output")]
    pub(crate) dequantized: Option<PathBuf>,

    /// Write the figures as JSON: {tensors, kept, totals}; a figure that is undefined or infinite is null
    #[arg(long, value_name = "OUT.json", help_heading = "Output")]
    pub(crate) report: Option<PathBuf>,

    /// Read the output back, quantize once more, and compare codes and parameters bit for bit
    #[arg(long, requires = "output", help_heading = "Output")]
    pub(crate) verify: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Symmetry {
    Symmetric,
    Asymmetric,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Range {
    Full,
    Restricted,
}

/// The name of a value on the command line, which is that of the library's text forms too.
pub(crate) fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Arguments {
    /// What single arguments cannot know of each other.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            self.axis.is_none() || self.granularity.has_axis(),
            "--axis does not apply to --granularity {}",
            self.granularity
        );
        let outputs =
            [("--output", &self.output), ("--dequantized", &self.dequantized), ("--report", &self.report)];
        let outputs: Vec<(&str, &Path)> =
            outputs.into_iter().filter_map(|(option, path)| Some((option, path.as_deref()?))).collect();
        for (i, (option, path)) in outputs.iter().enumerate() {
            for (other, same) in &outputs[..i] {
                ensure!(!same_file(path, same), "{other} and {option} are the same file, {}", path.display());
            }
            if let Some(input) = &self.file {
                ensure!(!same_file(path, input), "{option} would replace the input, {}", path.display());
            }
        }
        // Whatever the tensors, this recipe cannot work.
        method::recipe(self, 1 << 30)?.scheme()?;
        Ok(())
    }

    /// Whether the network that comes with the example is meant.
    pub(crate) const fn is_sample(&self) -> bool {
        self.file.is_none()
    }
}
