//! What is compared: recipes by width, in the library's text forms.
//!
//! A new method of the library is one more row of [`METHODS`].

use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use lowbit::{BitWidth, Recipe};

use crate::options::Options;

/// The families of methods, which share a colour.
pub(crate) const FAMILIES: [&str; 7] = [
    "uniform",
    "powers of two",
    "codebooks",
    "binary codes",
    "piecewise linear",
    "number formats",
    "searched blocks",
];

/// A method, and what it is called at the widths that it has.
struct Method {
    family: &'static str,
    /// `{b}` stands for the width.
    name: &'static str,
    /// The text form of the quantizer.
    quantizer: &'static str,
    widths: RangeInclusive<u32>,
    /// Elements of its own blocks, where the format has them.
    block: Option<usize>,
}

const fn method(
    family: &'static str,
    name: &'static str,
    quantizer: &'static str,
    widths: RangeInclusive<u32>,
) -> Method {
    Method { family, name, quantizer, widths, block: None }
}

const fn format(name: &'static str, quantizer: &'static str, bits: u32, block: Option<usize>) -> Method {
    Method { family: "number formats", name, quantizer, widths: bits..=bits, block }
}

const fn searched(name: &'static str, quantizer: &'static str, bits: u32, block: usize) -> Method {
    Method { family: "searched blocks", name, quantizer, widths: bits..=bits, block: Some(block) }
}

const METHODS: &[Method] = &[
    method("uniform", "uniform, min/max", "uniform(bits={b})", 2..=8),
    method("uniform", "uniform, least squares", "uniform(bits={b}, calibration=mse)", 2..=8),
    method("uniform", "mid-rise, least squares", "uniform(bits={b}, range=mid-rise, calibration=mse)", 1..=8),
    method(
        "uniform",
        "asymmetric, least squares",
        "uniform(bits={b}, symmetry=asymmetric, calibration=mse)",
        1..=8,
    ),
];

/// A method at one width.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) family: &'static str,
    pub(crate) name: String,
    pub(crate) bits: BitWidth,
    /// The text form of the recipe.
    pub(crate) text: String,
}

impl Candidate {
    pub(crate) fn recipe(&self) -> Result<Recipe> {
        self.text.parse().with_context(|| self.text.clone())
    }

    /// What a line about it begins with.
    pub(crate) fn label(&self) -> String {
        format!("{} at {} bits", self.name, self.bits)
    }
}

/// All methods at the widths asked for.
pub(crate) fn candidates(options: &Options) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for bits in options.widths() {
        for method in METHODS.iter().filter(|method| method.widths.contains(&bits.get())) {
            let granularity = match method.block {
                Some(block) => format!("subchannel({block}, axis=0)"),
                None => options.granularity.to_string(),
            };
            let with_bits = |text: &str| text.replace("{b}", &bits.to_string());
            let text = format!("{}; granularity={granularity}", with_bits(method.quantizer));
            candidates.push(Candidate { family: method.family, name: with_bits(method.name), bits, text });
        }
    }
    candidates
}
