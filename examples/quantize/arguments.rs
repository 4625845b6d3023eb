//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use lowbit::{BitWidth, Rounding};
use regex::Regex;

use crate::method::{self, Calibration, Choice, Granularity};
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

    /// How levels are chosen: uniform; log, inq, apot; kmeans, lloyd-max, lloyd-max-gaussian, ecsq=ENTROPY,
    /// product-quantization=DIMENSION; binary-code, ternary, sign; piecewise-linear; nf2, nf3, nf4, nf8; e2m1, e3m2, e2m3,
    /// e4m3, e4m3fnuz, e5m2, bitsandbytes-fp4, dynamic; mxfp4, mxfp6, mxfp6-e3m2, mxfp8, mxfp8-e5m2, mxint8, nvfp4; block2,
    /// block3, block4-small, block4, block5, block6, block8
    #[arg(
        long,
        value_name = "METHOD",
        default_value = "uniform",
        hide_default_value = false,
        help_heading = "Recipe"
    )]
    pub(crate) method: Choice,

    /// Bits of a code, 1 to 16, for methods without a width of their own [default: 8, or 4 for the sample]
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

    /// What shares parameters: layer, group=N channels, channel, or subchannel=N elements of a channel; formats with
    /// blocks of their own ignore it [default: channel; layer for ecsq and product-quantization; subchannel=64 for nf2 to
    /// nf8 and bitsandbytes-fp4, 256 for dynamic]
    #[arg(long, value_name = "PART", help_heading = "Recipe")]
    granularity: Option<Granularity>,

    /// The axis of the channels; -1 is the last one [default: 0]
    #[arg(long, allow_negative_numbers = true, help_heading = "Recipe")]
    pub(crate) axis: Option<isize>,

    /// nearest-even, nearest-away, floor, ceil, toward-zero, or at random by a seed: stochastic=SEED
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
            self.axis.is_none() || self.granularity().has_axis(),
            "--axis does not apply to --granularity {}",
            self.granularity()
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

    /// How the elements of a tensor share parameters.
    pub(crate) fn granularity(&self) -> Granularity {
        self.method.granularity(self.granularity)
    }

    /// What the user should know before anything is done.
    pub(crate) fn notice(&self) -> Option<String> {
        self.method.ignores(self.granularity)
    }

    /// Whether the network that comes with the example is meant.
    pub(crate) const fn is_sample(&self) -> bool {
        self.file.is_none()
    }
}
