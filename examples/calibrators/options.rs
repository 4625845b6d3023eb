//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use clap::{Parser, ValueEnum};
use lowbit::prelude::*;

use crate::widths::{bit_width, each_once};

/// Compares all calibrations on one tensor and draws the clipping ranges that they choose.
///
/// For each bit width the tensor is quantized with uniform codes once per calibration: minimum and maximum,
/// percentiles, every variant of the Kullback-Leibler search, and least squared error. A table says what each
/// range costs; the picture shows the histogram of the values with all ranges, so that one sees why.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Options {
    /// The tensors: a .safetensors or .npy file of F64, F32, F16 or BF16 values [default: an embedded sample
    /// network]
    pub(crate) file: Option<PathBuf>,

    /// The name of the tensor [default: the largest]
    #[arg(long, value_name = "NAME")]
    pub(crate) tensor: Option<String>,

    /// Bit widths, each from 1 to 16
    #[arg(long, value_name = "BITS", value_delimiter = ',', default_value = "8,4,2", value_parser = bit_width::<1, 16>)]
    bits: Vec<BitWidth>,

    /// Whether the grid is symmetric about zero or has a zero point
    #[arg(long, value_enum, default_value_t = SymmetryOption::Symmetric)]
    symmetry: SymmetryOption,

    /// Codes of a symmetric grid: restricted, full or mid-rise; 1 bit needs full or mid-rise [default:
    /// restricted]
    #[arg(long, value_name = "RANGE", value_parser = symmetric_range)]
    range: Option<SymmetricRange>,

    /// What shares a range: layer, group=N (channels), channel or subchannel=N (elements)
    #[arg(long, default_value = "layer")]
    granularity: GranularityOption,

    /// The axis of the channels, counted from the end if negative [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    axis: Option<isize>,

    /// The picture, an SVG file; replaced if it exists
    #[arg(long, value_name = "FILE", default_value = "calibrators.svg")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SymmetryOption {
    Symmetric,
    Asymmetric,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GranularityOption {
    Layer,
    Group(usize),
    Channel,
    SubChannel(usize),
}

/// What all quantizations of one run have in common.
pub(crate) struct Setup {
    symmetric: bool,
    range: Option<SymmetricRange>,
    granularity: Arc<dyn Granularity>,
}

impl Options {
    /// The bit widths, each once.
    pub(crate) fn widths(&self) -> Vec<BitWidth> {
        each_once(&self.bits)
    }

    /// The quantization asked for, for a tensor of `rank` axes.
    pub(crate) fn setup(&self, rank: usize) -> Result<Setup> {
        let symmetric = self.symmetry == SymmetryOption::Symmetric;
        ensure!(symmetric || self.range.is_none(), "--range applies to symmetric grids only");
        let one_bit = self.bits.iter().any(|bits| bits.get() == 1);
        ensure!(
            !(symmetric && one_bit && self.range.unwrap_or_default() == SymmetricRange::Restricted),
            "a restricted range needs 2 bits: give --range full or --range mid-rise for 1 bit"
        );
        let granularity: Arc<dyn Granularity> = match self.granularity {
            GranularityOption::Layer => {
                ensure!(self.axis.is_none(), "--axis does not apply to --granularity layer");
                Arc::new(PerLayer)
            }
            GranularityOption::Group(channels) => Arc::new(PerGroup::new(self.axis(rank)?, channels)?),
            GranularityOption::Channel => Arc::new(PerChannel::new(self.axis(rank)?)),
            GranularityOption::SubChannel(elements) => {
                Arc::new(PerSubChannel::new(self.axis(rank)?, elements)?)
            }
        };
        Ok(Setup { symmetric, range: self.range, granularity })
    }

    fn axis(&self, rank: usize) -> Result<Axis> {
        let given = self.axis.unwrap_or(0);
        let axis = if given < 0 { given.checked_add_unsigned(rank) } else { Some(given) };
        axis.and_then(|axis| usize::try_from(axis).ok())
            .filter(|&axis| axis < rank)
            .map(Axis)
            .ok_or_else(|| anyhow!("axis {given} is out of range for a tensor of rank {rank}"))
    }
}

impl Setup {
    /// The recipe at `bits` with one of the calibrations.
    pub(crate) fn recipe(&self, bits: BitWidth, calibration: Arc<dyn Calibration>) -> Recipe {
        let uniform = if self.symmetric { Uniform::symmetric(bits) } else { Uniform::asymmetric(bits) };
        // Tensors of f64 may need larger scales than f32 holds.
        let mut uniform = uniform.widen_scales();
        if let Some(range) = self.range {
            uniform = uniform.range(range);
        }
        uniform.calibration(calibration).granularity(self.granularity.clone())
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symmetry = if self.symmetric { "symmetric" } else { "asymmetric" };
        write!(f, "uniform quantization, {symmetry}")?;
        if self.symmetric {
            write!(f, " ({} range)", self.range.unwrap_or_default())?;
        }
        write!(f, ", granularity {}", self.granularity)
    }
}

impl FromStr for GranularityOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(format!("{text:?} is not a whole number of at least 1")),
            Ok(count) => Ok(count),
        };
        match text.split_once('=') {
            None if text == "layer" => Ok(Self::Layer),
            None if text == "channel" => Ok(Self::Channel),
            Some(("group", channels)) => Ok(Self::Group(count(channels)?)),
            Some(("subchannel", elements)) => Ok(Self::SubChannel(count(elements)?)),
            _ => Err("expected layer, group=N, channel or subchannel=N".to_owned()),
        }
    }
}

impl fmt::Display for GranularityOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer => f.write_str("layer"),
            Self::Group(channels) => write!(f, "group={channels}"),
            Self::Channel => f.write_str("channel"),
            Self::SubChannel(elements) => write!(f, "subchannel={elements}"),
        }
    }
}

fn symmetric_range(text: &str) -> Result<SymmetricRange, String> {
    text.parse().map_err(|error: lowbit::ParseError| error.to_string())
}
