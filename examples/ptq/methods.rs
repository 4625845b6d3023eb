//! What can be done to a network: a row of [`METHODS`] for each method, in the order of the table.

use std::fmt::Write;
use std::ops::Range;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

use crate::layers::{self, Done, Task};
use crate::network::Folded;

/// The kinds of methods, which stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Nearest,
    Ranges,
    Corrections,
    Scalings,
    Outliers,
    Roundings,
    Mixed,
}

/// What a method has to know of the inputs of a layer. All of it is measured in the network whose layers before that one
/// are quantized already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: the weights are enough.
    Nothing,
    /// The inputs themselves.
    Inputs,
    /// The inputs, and statistics of them.
    Statistics,
}

/// A method, which quantizes one layer after the other, or one block.
#[derive(Debug)]
pub(crate) struct Method {
    /// On the command line, in the report and in the table.
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    pub(crate) needs: Needs,
    /// What it does, for the help.
    about: &'static str,
    quantize: Quantize,
}

/// How many layers a method looks at.
#[derive(Debug, Clone, Copy)]
enum Quantize {
    /// One at a time.
    Each(fn(&Task<'_>) -> Result<Done>),
    /// Those of a block together.
    Together(fn(&[Task<'_>]) -> Result<Vec<Done>>),
}

impl Method {
    /// The layers that it wants to have together.
    pub(crate) fn blocks(&self, network: &Folded) -> Vec<Range<usize>> {
        match self.quantize {
            Quantize::Each(_) => (0..network.layers.len()).map(|layer| layer..layer + 1).collect(),
            Quantize::Together(_) => network.blocks(),
        }
    }

    /// Quantizes layers that follow each other.
    pub(crate) fn quantize(&self, tasks: &[Task<'_>]) -> Result<Vec<Done>> {
        match self.quantize {
            Quantize::Each(quantize) => tasks.iter().map(quantize).collect(),
            Quantize::Together(quantize) => quantize(tasks),
        }
    }
}

use Family::{Corrections, Nearest, Outliers, Ranges, Roundings, Scalings};
use Needs::{Inputs, Nothing, Statistics};

const fn method(
    name: &'static str,
    family: Family,
    needs: Needs,
    quantize: fn(&Task<'_>) -> Result<Done>,
    about: &'static str,
) -> Method {
    Method { name, family, needs, about, quantize: Quantize::Each(quantize) }
}

/// All methods, the baseline first.
pub(crate) const METHODS: &[Method] = &[
    method("nearest", Nearest, Nothing, layers::nearest, "every weight to the nearest code"),
    method("omse", Ranges, Nothing, layers::least_error, "ranges of least squared error (OMSE)"),
    method(
        "hqq",
        Ranges,
        Nothing,
        layers::half_quadratic,
        "real zero points of least half-quadratic error (HQQ)",
    ),
    method(
        "weight-correction",
        Corrections,
        Nothing,
        layers::weight_correction,
        "mean and spread of channels restored (ACIQ)",
    ),
    method(
        "bias-analytic",
        Corrections,
        Nothing,
        layers::analytic_bias,
        "bias correction from batch normalization (DFQ)",
    ),
    method(
        "bias-empirical",
        Corrections,
        Inputs,
        layers::empirical_bias,
        "bias correction from outputs on data",
    ),
    method("equalization", Scalings, Nothing, layers::equalized, "cross-layer equalization (CLE)"),
    method(
        "equalization-bias",
        Scalings,
        Nothing,
        layers::equalized_with_bias,
        "equalization, then bias-analytic (DFQ)",
    ),
    method("awq", Scalings, Statistics, layers::awq, "input channels scaled by activations (AWQ)"),
    method("ocs", Outliers, Nothing, layers::split_channels, "5 % of the input channels split (OCS)"),
    method(
        "dense-and-sparse",
        Outliers,
        Nothing,
        layers::dense_and_sparse,
        "1 % of the weights kept exactly",
    ),
    method("obq", Roundings, Statistics, layers::obq, "optimal brain quantization, outliers first"),
    method("obq-plain", Roundings, Statistics, layers::obq_plain, "the same, by least error alone"),
    method("gptq", Roundings, Statistics, layers::gptq, "GPTQ in natural order"),
    method(
        "gptq-act-order",
        Roundings,
        Statistics,
        layers::gptq_act_order,
        "GPTQ, the inputs that matter most first",
    ),
    method("gptq-bias", Roundings, Statistics, layers::gptq_with_bias, "gptq-act-order, then bias-empirical"),
    method("lattice", Roundings, Statistics, layers::lattice, "the 16 best partial solutions, then descent"),
    method(
        "adaround",
        Roundings,
        Statistics,
        layers::ada_round,
        "up or down, learned from samples (AdaRound)",
    ),
    method(
        "adaquant",
        Roundings,
        Statistics,
        layers::ada_quant,
        "weights and bias learned from samples (AdaQuant)",
    ),
    Method {
        name: "brecq",
        family: Roundings,
        needs: Inputs,
        about: "adaround for the layers of a block at once (BRECQ)",
        quantize: Quantize::Together(layers::brecq),
    },
];

/// The methods that are tried with widths of their own for each layer, if not said otherwise.
const MIXED: [&str; 2] = ["nearest", "gptq"];

/// What is done to the network: a method, with one width for all layers or with several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) method: &'static Method,
    pub(crate) mixed: bool,
}

/// The prefix of a plan with several widths.
const PREFIX: &str = "mixed-";

impl Plan {
    pub(crate) fn name(&self) -> String {
        format!("{}{}", if self.mixed { PREFIX } else { "" }, self.method.name)
    }

    pub(crate) const fn family(&self) -> Family {
        if self.mixed { Family::Mixed } else { self.method.family }
    }

    /// All methods, and the mixed ones.
    pub(crate) fn all() -> Vec<Self> {
        let mixed = METHODS.iter().filter(|method| MIXED.contains(&method.name));
        let plan = |mixed| move |method| Self { method, mixed };
        METHODS.iter().map(plan(false)).chain(mixed.map(plan(true))).collect()
    }
}

impl FromStr for Plan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (mixed, name) = match text.strip_prefix(PREFIX) {
            Some(name) => (true, name),
            None => (false, text),
        };
        match METHODS.iter().find(|method| method.name == name) {
            Some(method) => Ok(Self { method, mixed }),
            None => bail!("there are {}, and each of them as {PREFIX}...", names()),
        }
    }
}

fn names() -> String {
    METHODS.iter().map(|method| method.name).collect::<Vec<_>>().join(", ")
}

/// The methods and what they are, for the help.
pub(crate) fn help() -> String {
    let mut text = "Methods (* with inputs from the quantized layers before):\n".to_owned();
    for method in METHODS {
        let star = if method.needs == Nothing { ' ' } else { '*' };
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {:18} {star} {}", method.name, method.about);
    }
    text += "  mixed-METHOD         the width of each layer chosen under the size of a uniform width";
    text
}
