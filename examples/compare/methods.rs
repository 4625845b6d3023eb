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
    method("powers of two", "log, base 2", "log(bits={b}, calibration=mse)", 2..=8),
    method("powers of two", "log, base √2", "log(bits={b}, base=sqrt2, calibration=mse)", 2..=8),
    method("powers of two", "INQ", "inq(bits={b})", 2..=8),
    method("powers of two", "APoT", "apot(bits={b}, calibration=mse)", 2..=8),
    method("codebooks", "k-means", "kmeans(bits={b})", 1..=8),
    method("codebooks", "k-means, shared levels", "kmeans(bits={b}, shared=true)", 1..=8),
    method("codebooks", "Lloyd-Max on the values", "lloyd-max(bits={b})", 1..=8),
    method("codebooks", "Lloyd-Max, Gaussian", "lloyd-max(bits={b}, density=gaussian)", 1..=8),
    method("codebooks", "Lloyd-Max, Laplace", "lloyd-max(bits={b}, density=laplace)", 1..=8),
    method("binary codes", "binary code, greedy", "binary-code(bits={b}, rule=greedy)", 1..=8),
    method("binary codes", "binary code, alternating", "binary-code(bits={b}, rule=alternating)", 1..=8),
    method("binary codes", "binary code, best", "binary-code(bits={b}, rule=best)", 1..=4),
    method("binary codes", "ternary", "ternary(scale=optimal)", 2..=2),
    method("piecewise linear", "piecewise linear", "piecewise-linear(bits={b})", 3..=8),
    Method { block: Some(64), ..method("number formats", "NF{b}", "normal-float(bits={b})", 2..=8) },
    format("E2M1", "float(e2m1)", 4, None),
    format("E2M3", "float(e2m3)", 6, None),
    format("E3M2", "float(e3m2)", 6, None),
    format("E4M3", "float(e4m3fn)", 8, None),
    format("E5M2", "float(e5m2)", 8, None),
    format("bitsandbytes FP4", "bitsandbytes-fp4", 4, Some(64)),
    format("dynamic map", "dynamic", 8, Some(256)),
    format("MXFP4", "mx(e2m1)", 4, Some(32)),
    format("MXFP6 E2M3", "mx(e2m3)", 6, Some(32)),
    format("MXFP8 E4M3", "mx(e4m3)", 8, Some(32)),
    format("MXINT8", "mx(int8)", 8, Some(32)),
    format("NVFP4", "nvfp4", 4, Some(16)),
    searched("block2", "block-search(bits=2, scale-bits=4, table=levels(-1, -0.34, 0.13, 0.68))", 2, 8),
    searched("block3", "block-search(bits=3, scale-bits=6)", 3, 16),
    searched("block4-small", "block-search(bits=4, scale-bits=7)", 4, 32),
    searched("block4", "block-search(bits=4, scale-bits=7)", 4, 16),
    searched("block5", "block-search(bits=5, scale-bits=7)", 5, 16),
    searched("block6", "block-search(bits=6, scale-bits=7)", 6, 16),
    searched("block8", "block-search(bits=8, scale-bits=6)", 8, 16),
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
