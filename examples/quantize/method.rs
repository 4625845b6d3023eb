//! From arguments to recipes, by way of the library's text forms.
//!
//! A new method of the library is one more row of [`METHODS`].

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use lowbit::{BitWidth, Recipe};

use crate::arguments::{Arguments, name_of};

/// A method, and the options that apply to it.
#[derive(Debug)]
struct Method {
    name: &'static str,
    /// The text form of the quantizer; `{b}` stands for the bits, `{n}` for the number given with the name. Options
    /// that were given come after it.
    form: &'static str,
    /// The options that it takes.
    takes: &'static [&'static str],
    /// What the number given with the name is, where there is one.
    number: Option<&'static str>,
    /// The width of its codes, where it has one of its own.
    bits: Option<u32>,
    /// Elements of a block: of the format where it has blocks of its own, else what is usual.
    block: Block,
}

#[derive(Debug, Clone, Copy)]
enum Block {
    /// Any granularity; per channel unless asked otherwise.
    Any,
    /// Any granularity; the whole tensor unless asked otherwise, as the parameters of a region take much room.
    Whole,
    /// Any granularity; so many elements of a channel unless asked otherwise.
    Usual(usize),
    /// Blocks of the format's own.
    Own(usize),
}

const fn method(name: &'static str, form: &'static str, takes: &'static [&'static str]) -> Method {
    Method { name, form, takes, number: None, bits: None, block: Block::Any }
}

/// A method with a number after its name: `ecsq=2.5`.
const fn numbered(name: &'static str, form: &'static str, number: &'static str) -> Method {
    Method { name, form, takes: &["bits"], number: Some(number), bits: None, block: Block::Whole }
}

/// A method whose codes have a width of their own.
const fn fixed(name: &'static str, form: &'static str, bits: u32, block: Block) -> Method {
    Method { name, form, takes: &["calibration"], number: None, bits: Some(bits), block }
}

/// A format whose scales are searched, so that no calibration applies.
const fn searched(name: &'static str, form: &'static str, bits: u32, block: usize) -> Method {
    Method { name, form, takes: &[], number: None, bits: Some(bits), block: Block::Own(block) }
}

/// All methods.
const METHODS: &[Method] = &[
    method("uniform", "uniform(bits={b}", &["bits", "symmetry", "range", "calibration"]),
    method("log", "log(bits={b}", &["bits", "calibration"]),
    method("inq", "inq(bits={b}", &["bits", "calibration"]),
    method("apot", "apot(bits={b}", &["bits", "calibration"]),
    method("kmeans", "kmeans(bits={b}", &["bits"]),
    method("lloyd-max", "lloyd-max(bits={b}", &["bits"]),
    method("lloyd-max-gaussian", "lloyd-max(bits={b}, density=gaussian", &["bits", "calibration"]),
    numbered("ecsq", "ecsq(bits={b}, entropy={n}", "bits of entropy"),
    numbered(
        "product-quantization",
        "product-quantization(bits={b}, dimension={n}",
        "dimension of the vectors",
    ),
    method("binary-code", "binary-code(bits={b}, rule=alternating", &["bits"]),
    method("piecewise-linear", "piecewise-linear(bits={b}", &["bits", "calibration"]),
    Method { takes: &[], ..fixed("ternary", "ternary(scale=optimal", 2, Block::Any) },
    Method { takes: &[], ..fixed("sign", "binary-code(bits=1, rule=greedy", 1, Block::Any) },
    fixed("nf2", "normal-float(bits=2", 2, Block::Usual(64)),
    fixed("nf3", "normal-float(bits=3", 3, Block::Usual(64)),
    fixed("nf4", "normal-float(bits=4", 4, Block::Usual(64)),
    fixed("nf8", "normal-float(bits=8", 8, Block::Usual(64)),
    fixed("bitsandbytes-fp4", "bitsandbytes-fp4(scales=f32", 4, Block::Usual(64)),
    fixed("dynamic", "dynamic(signed=true", 8, Block::Usual(256)),
    fixed("e2m1", "float(e2m1", 4, Block::Any),
    fixed("e3m2", "float(e3m2", 6, Block::Any),
    fixed("e2m3", "float(e2m3", 6, Block::Any),
    fixed("e4m3", "float(e4m3fn", 8, Block::Any),
    fixed("e4m3fnuz", "float(e4m3fnuz", 8, Block::Any),
    fixed("e5m2", "float(e5m2", 8, Block::Any),
    fixed("mxfp4", "mx(e2m1", 4, Block::Own(32)),
    fixed("mxfp6", "mx(e2m3", 6, Block::Own(32)),
    fixed("mxfp6-e3m2", "mx(e3m2", 6, Block::Own(32)),
    fixed("mxfp8", "mx(e4m3", 8, Block::Own(32)),
    fixed("mxfp8-e5m2", "mx(e5m2", 8, Block::Own(32)),
    fixed("mxint8", "mx(int8", 8, Block::Own(32)),
    fixed("nvfp4", "nvfp4(", 4, Block::Own(16)),
    searched("block2", "block-search(bits=2, scale-bits=4, table=levels(-1, -0.34, 0.13, 0.68)", 2, 8),
    searched("block3", "block-search(bits=3, scale-bits=6", 3, 16),
    searched("block4-small", "block-search(bits=4, scale-bits=7", 4, 32),
    searched("block4", "block-search(bits=4, scale-bits=7", 4, 16),
    searched("block5", "block-search(bits=5, scale-bits=7", 5, 16),
    searched("block6", "block-search(bits=6, scale-bits=7", 6, 16),
    searched("block8", "block-search(bits=8, scale-bits=6", 8, 16),
];

/// A method as it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    method: &'static Method,
    number: Option<String>,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => (name, Some(number.to_owned())),
            None => (text, None),
        };
        let method = METHODS.iter().find(|method| method.name == name).ok_or_else(|| {
            let known: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
            format!("the methods are: {}", known.join(", "))
        })?;
        match (method.number, &number) {
            (Some(what), None) => Err(format!("{name} needs a number, {what}: {name}=3")),
            (None, Some(_)) => Err(format!("{name} takes no number")),
            _ => Ok(Self { method, number }),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method.name)?;
        self.number.as_ref().map_or(Ok(()), |number| write!(f, "={number}"))
    }
}

impl Choice {
    /// What is said of a granularity that was given to a format with blocks of its own.
    pub(crate) fn ignores(&self, granularity: Option<Granularity>) -> Option<String> {
        let given = granularity?;
        match self.method.block {
            Block::Own(block) => Some(format!(
                "{} has blocks of {block} elements: --granularity {given} is ignored",
                self.method.name
            )),
            Block::Any | Block::Whole | Block::Usual(_) => None,
        }
    }

    /// How the elements of a channel share parameters.
    pub(crate) fn granularity(&self, given: Option<Granularity>) -> Granularity {
        match (self.method.block, given) {
            (Block::Own(block), _) | (Block::Usual(block), None) => Granularity::Subchannel(block),
            (_, Some(given)) => given,
            (Block::Whole, None) => Granularity::Layer,
            (Block::Any, None) => Granularity::Channel,
        }
    }

    /// The width of codes: what was given, if the method has it.
    fn bits(&self, given: Option<BitWidth>, default: u32) -> Result<u32> {
        let Some(own) = self.method.bits else {
            // One code for several elements: 8 bits, whatever the sample's default is.
            let default = if self.method.number.is_some() { 8 } else { default };
            return Ok(given.map_or(default, BitWidth::get));
        };
        match given {
            Some(bits) if bits.get() != own => {
                bail!("{} has codes of {own} bits, not {bits}", self.method.name)
            }
            _ => Ok(own),
        }
    }
}

/// The recipe for tensors of `rank` axes.
pub(crate) fn recipe(arguments: &Arguments, rank: usize) -> Result<Recipe> {
    let Choice { method, number } = &arguments.method;
    let bits = arguments.method.bits(arguments.bits, if arguments.is_sample() { 4 } else { 8 })?;
    // An option, and what was given.
    let options = [
        ("symmetry", arguments.symmetry.map(|symmetry| name_of(&symmetry))),
        ("range", arguments.range.map(|range| name_of(&range))),
        ("calibration", arguments.calibration.as_ref().map(|rule| rule.0.clone())),
    ];
    let mut form = method.form.replace("{b}", &bits.to_string());
    if let Some(number) = number {
        form = form.replace("{n}", number);
    }
    for (option, given) in options {
        ensure!(
            method.takes.contains(&option) || given.is_none(),
            "--{option} does not apply to --method {}",
            method.name
        );
        if let Some(value) = given {
            let separator = if form.ends_with('(') { "" } else { ", " };
            form.push_str(&format!("{separator}{option}={value}"));
        }
    }
    let granularity = arguments.granularity().text(arguments.axis.unwrap_or(0), rank)?;
    let text = format!("{form}); granularity={granularity}; rounding={}", arguments.rounding);
    Ok(text.parse()?)
}

/// A calibration in the library's text form: `percentile=99.9` on the command line is `percentile(99.9)` there.
#[derive(Debug, Clone)]
pub(crate) struct Calibration(String);

impl FromStr for Calibration {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let form = match text.split_once('=') {
            Some((name, argument)) if !name.contains('(') => format!("{name}({argument})"),
            _ => text.to_owned(),
        };
        ensure!(form != "percentile", "percentile needs a number: percentile=99.9");
        lowbit::Registry::default().parse_calibration(&form)?;
        Ok(Self(form))
    }
}

/// What shares a scale.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Granularity {
    Layer,
    Group(usize),
    Channel,
    Subchannel(usize),
}

impl Granularity {
    /// Whether it is along an axis.
    pub(crate) const fn has_axis(self) -> bool {
        !matches!(self, Self::Layer)
    }

    /// The library's text form for tensors of `rank` axes; a negative axis counts from the last one.
    fn text(self, axis: isize, rank: usize) -> Result<String> {
        let from_start =
            if axis < 0 { rank.checked_sub(axis.unsigned_abs()) } else { Some(axis.unsigned_abs()) };
        let Some(at) = from_start else {
            bail!("axis {axis} is out of range for a tensor of rank {rank}");
        };
        Ok(match self {
            Self::Layer => "layer".to_owned(),
            Self::Group(channels) => format!("group({channels}, axis={at})"),
            Self::Channel => format!("channel(axis={at})"),
            Self::Subchannel(elements) => format!("subchannel({elements}, axis={at})"),
        })
    }
}

impl FromStr for Granularity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => (name, Some(number)),
            None => (text, None),
        };
        let count = || match number.map(str::parse) {
            Some(Ok(count)) if count > 0 => Ok(count),
            _ => bail!("{name} needs a number of at least 1: {name}=32"),
        };
        match (name, number) {
            ("layer", None) => Ok(Self::Layer),
            ("channel", None) => Ok(Self::Channel),
            ("group", _) => Ok(Self::Group(count()?)),
            ("subchannel", _) => Ok(Self::Subchannel(count()?)),
            _ => bail!("expected layer, group=N, channel or subchannel=N"),
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer => f.write_str("layer"),
            Self::Group(channels) => write!(f, "group={channels}"),
            Self::Channel => f.write_str("channel"),
            Self::Subchannel(elements) => write!(f, "subchannel={elements}"),
        }
    }
}
