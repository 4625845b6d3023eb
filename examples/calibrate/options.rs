//! The command line.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Parser;
use lowbit::Registry;
use lowbit::calibration::KlVariant;
use lowbit::prelude::*;

use crate::paths::{check_output, same_file};
use crate::widths::{bit_width, each_once};

/// Calibrates activations on a stream of batches, and compares static with dynamic quantization.
///
/// A small trained network runs over batches of images while one observer per activation counts the values, in constant
/// memory. Tables then say which calibration costs least, whether more samples would still move its range, and how much
/// of held-out images the network reads with its activations quantized: static (ranges from the observers) and dynamic
/// (ranges found at each call, per tensor or per row). A picture shows the histogram of one activation with all
/// thresholds.
///
/// Try --activation dense7 (what the last layer sees), --bits 2, or --calibration mse --calibration 'percentile(99.9)'.
#[derive(Debug, Parser)]
#[command(name = "calibrate", version, max_term_width = 110)]
pub(crate) struct Options {
    /// Batches of 64 images to calibrate on
    #[arg(long, value_name = "N", default_value_t = 32, help_heading = "Stream",
        value_parser = clap::value_parser!(u64).range(2..=100_000))]
    pub(crate) batches: u64,

    /// Go on from the observers of an earlier run, with the images that come after
    #[arg(long, value_name = "OBSERVERS.json", help_heading = "Stream")]
    pub(crate) resume: Option<PathBuf>,

    /// Write the observers; they can be merged or resumed later
    #[arg(long, value_name = "OBSERVERS.json", help_heading = "Stream")]
    pub(crate) save: Option<PathBuf>,

    /// Bit widths, each from 1 to 16
    #[arg(long, value_name = "BITS", value_delimiter = ',', default_value = "8,4", value_parser = bit_width::<1, 16>,
        help_heading = "Quantization")]
    bits: Vec<BitWidth>,

    /// A calibration to judge, in the text form of recipes; may be repeated [default: minmax, percentile(99.99), kl,
    /// kl(variant=nvidia), mse, aciq]
    #[arg(long = "calibration", value_name = "RULE", value_parser = rule, help_heading = "Quantization")]
    calibrations: Vec<Rule>,

    /// Held-out images to judge by
    #[arg(long, value_name = "N", default_value_t = 1024, help_heading = "Quantization",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) images: u64,

    /// The activation that is compared and drawn, by the layer that it is the input of
    #[arg(long, value_name = "LAYER", default_value = "conv4", help_heading = "Comparison")]
    pub(crate) activation: String,

    /// The picture, an SVG file; replaced if it exists
    #[arg(long, value_name = "FILE", default_value = "calibrate.svg", help_heading = "Comparison")]
    pub(crate) output: PathBuf,

    /// Real spectrograms, the first axis being recordings [default: weights/streaming_wakeword/calibration_specs.npy in
    /// ../shared, where it is present]
    #[arg(long, value_name = "FILE.npy", help_heading = "Comparison")]
    pub(crate) spectrograms: Option<PathBuf>,
}

/// A calibration that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Rule(pub(crate) Arc<dyn Calibration>);

impl Rule {
    /// Its text form without what only tunes the search.
    pub(crate) fn short(&self) -> String {
        short(&self.0.to_string())
    }

    /// The recipe of activations, which are mostly of one sign: asymmetric.
    pub(crate) fn recipe(&self, bits: BitWidth, granularity: impl Granularity + 'static) -> Recipe {
        Uniform::asymmetric(bits).calibration(self.0.clone()).granularity(granularity)
    }
}

impl Options {
    /// The bit widths, each once.
    pub(crate) fn widths(&self) -> Vec<BitWidth> {
        each_once(&self.bits)
    }

    /// The fewest bits, where calibrations differ most.
    pub(crate) fn fewest(&self) -> BitWidth {
        self.bits.iter().copied().min_by_key(|bits| bits.get()).unwrap_or(BitWidth::EIGHT)
    }

    /// The calibrations to judge.
    pub(crate) fn rules(&self) -> Result<Vec<Rule>> {
        if !self.calibrations.is_empty() {
            return Ok(self.calibrations.clone());
        }
        let rules: [Arc<dyn Calibration>; 6] = [
            Arc::new(MinMax),
            Arc::new(Percentile::new(99.99)?),
            // After a ReLU half of the values are zero. One variant leaves them out, and the others clip too much.
            Arc::new(Kl::default()),
            Arc::new(Kl::default().variant(KlVariant::Nvidia)),
            Arc::new(Mse),
            Arc::new(Aciq::default()),
        ];
        Ok(rules.map(Rule).into())
    }

    /// What single arguments cannot know of each other.
    pub(crate) fn check(&self) -> Result<()> {
        let output = self.output.display();
        for (option, path) in
            [("--save", &self.save), ("--resume", &self.resume), ("--spectrograms", &self.spectrograms)]
        {
            let same = path.as_ref().is_some_and(|path| same_file(path, &self.output));
            ensure!(!same, "--output and {option} are the same file, {output}");
        }
        if let (Some(save), Some(spectrograms)) = (&self.save, &self.spectrograms) {
            ensure!(
                !same_file(save, spectrograms),
                "--save would replace the spectrograms, {}",
                save.display()
            );
        }
        if let Some(save) = &self.save {
            check_output("--save", save)?;
        }
        check_output("--output", &self.output)
    }
}

/// `aciq gaussian` of `aciq(density=gaussian, estimator=moments, optimum=automatic)`.
pub(crate) fn short(text: &str) -> String {
    let Some((name, arguments)) = text.split_once('(') else { return text.to_owned() };
    let mut short = name.to_owned();
    for argument in arguments.trim_end_matches(')').split(", ") {
        let (key, value) = argument.split_once('=').unwrap_or(("", argument));
        if !["bins", "levels", "estimator"].contains(&key) && value != "automatic" {
            short = format!("{short} {value}");
        }
    }
    short
}

fn rule(text: &str) -> Result<Rule, String> {
    Registry::default().parse_calibration(text).map(Rule).map_err(|error| error.to_string())
}
