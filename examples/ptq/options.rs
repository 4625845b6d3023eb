//! The command line.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Parser;
use lowbit::Registry;
use lowbit::prelude::*;

use crate::layers::Learning;
use crate::methods::{self, Plan};
use crate::parts;
use crate::paths::{check_output, same_file};
use crate::widths::{bit_width, each_once};

/// Quantizes the weights of a small trained network by every method, and measures what the network is still worth.
///
/// Batch normalizations are folded into the weights first. Layers are quantized in the order of the network; methods that
/// look at a layer's inputs are given those that the quantized layers before it make of the calibration images.
/// Activations stay as they are, so SmoothQuant, which makes them easier to quantize, has no place here.
///
/// mixed-METHOD measures what each layer at each width costs the network by itself, and chooses the widths that cost
/// least together, in the size of a uniform width at the most.
///
/// MSE and SQNR are those of the logits against the float network, on the calibration images and on images that were not
/// seen. Seconds are for quantizing the whole network, statistics of inputs included.
#[derive(Debug, Parser)]
#[command(name = "ptq", version, max_term_width = 110, after_long_help = methods::help())]
pub(crate) struct Options {
    /// The network: a file as the example train_sample writes it [default: the embedded one]
    pub(crate) file: Option<PathBuf>,

    /// Methods [default: all, mixed-nearest and mixed-gptq]
    #[arg(long, value_name = "METHOD", value_delimiter = ',', help_heading = "Quantization")]
    methods: Vec<Plan>,

    /// Bit widths, each from 2 to 8
    #[arg(long, value_name = "BITS", value_delimiter = ',', default_value = "8,4,3,2", value_parser = bit_width::<2, 8>,
        help_heading = "Quantization")]
    bits: Vec<BitWidth>,

    /// What shares parameters: layer, channel or subchannel=N weights of an output
    #[arg(long, value_name = "PART", default_value = "channel", help_heading = "Quantization")]
    granularity: parts::Granularity,

    /// How the ranges of all methods but omse and hqq are found, in the text form of recipes
    #[arg(long, value_name = "RULE", default_value = "minmax", value_parser = rule, help_heading = "Quantization")]
    calibration: Arc<dyn Calibration>,

    /// Steps of methods that learn: adaround, adaquant and brecq
    #[arg(long, value_name = "N", default_value_t = 4000, help_heading = "Quantization",
        value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,

    /// Images to calibrate on
    #[arg(long, value_name = "N", default_value_t = 1024, help_heading = "Data",
        value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) samples: u64,

    /// Which of the training images these are, and the random numbers of methods that need some
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Data",
        value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) seed: u64,

    /// Unseen images to judge by
    #[arg(long, value_name = "N", default_value_t = 2000, help_heading = "Data",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) images: u64,

    /// The picture, an SVG file; replaced if it exists
    #[arg(long, value_name = "OUT.svg", default_value = "ptq.svg", help_heading = "Output")]
    pub(crate) output: PathBuf,

    /// Write the figures as JSON: a list of {method, bits, accuracy, output_sqnr_db, calibration_mse, held_out_mse,
    /// seconds, bits_per_weight, layer_bits}; the first is the float network, whose SQNR is null
    #[arg(long, value_name = "OUT.json", help_heading = "Output")]
    pub(crate) report: Option<PathBuf>,
}

/// What all recipes have in common.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    granularity: Arc<dyn Granularity>,
    calibration: Arc<dyn Calibration>,
}

impl Grid {
    /// The recipe of weights at `bits`.
    pub(crate) fn recipe(&self, bits: BitWidth) -> Recipe {
        Uniform::symmetric(bits).calibration(self.calibration.clone()).granularity(self.granularity())
    }

    pub(crate) fn granularity(&self) -> Arc<dyn Granularity> {
        self.granularity.clone()
    }
}

impl Options {
    /// What single arguments cannot know of each other.
    pub(crate) fn check(&self) -> Result<()> {
        let report = self.report.iter().map(|path| ("--report", path));
        for (option, path) in report.chain([("--output", &self.output)]) {
            check_output(option, path)?;
            let replaces = self.file.as_ref().is_some_and(|file| same_file(file, path));
            ensure!(!replaces, "{option} would replace the network, {}", path.display());
        }
        let same = self.report.as_ref().is_some_and(|report| same_file(report, &self.output));
        ensure!(!same, "--output and --report are the same file, {}", self.output.display());
        Ok(())
    }

    /// The bit widths, each once.
    pub(crate) fn widths(&self) -> Vec<BitWidth> {
        each_once(&self.bits)
    }

    /// What is done to the network, each once.
    pub(crate) fn plans(&self) -> Vec<Plan> {
        let mut plans: Vec<Plan> = Vec::new();
        for plan in &self.methods {
            if plans.iter().all(|other| other.name() != plan.name()) {
                plans.push(*plan);
            }
        }
        if plans.is_empty() { Plan::all() } else { plans }
    }

    /// What methods that learn have in common.
    pub(crate) const fn learning(&self) -> Learning {
        Learning { steps: self.steps as usize, seed: self.seed }
    }

    /// What all recipes have in common.
    pub(crate) fn grid(&self) -> Result<Grid> {
        let granularity = Registry::default().parse_granularity(&self.granularity.to_string())?;
        Ok(Grid { granularity, calibration: self.calibration.clone() })
    }
}

fn rule(text: &str) -> Result<Arc<dyn Calibration>, String> {
    Registry::default().parse_calibration(text).map_err(|error| error.to_string())
}
