//! From arguments to recipes, by way of the library's text forms.
//!
//! A new method of the library is one more row of [`METHODS`].

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use lowbit::Recipe;

use crate::arguments::{Arguments, name_of};

/// A method, and the options that apply to it.
#[derive(Debug)]
pub(crate) struct Method {
    /// Its name, which is that of the text form.
    pub(crate) name: &'static str,
    /// The options that it takes.
    takes: &'static [&'static str],
}

/// All methods.
const METHODS: &[Method] =
    &[Method { name: "uniform", takes: &["bits", "symmetry", "range", "calibration"] }];

/// The method of a name.
pub(crate) fn find(name: &str) -> Result<&'static Method, String> {
    METHODS.iter().find(|method| method.name == name).ok_or_else(|| {
        let known: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        format!("the methods are: {}", known.join(", "))
    })
}

/// The recipe for tensors of `rank` axes.
pub(crate) fn recipe(arguments: &Arguments, rank: usize) -> Result<Recipe> {
    let method = arguments.method;
    let bits = if arguments.is_sample() { "4" } else { "8" };
    // An option, what was given, and what is meant where nothing was.
    let options = [
        ("bits", arguments.bits.map(|bits| bits.to_string()), Some(bits)),
        ("symmetry", arguments.symmetry.map(|symmetry| name_of(&symmetry)), None),
        ("range", arguments.range.map(|range| name_of(&range)), None),
        ("calibration", arguments.calibration.as_ref().map(|rule| rule.0.clone()), Some("minmax")),
    ];
    let mut parts = Vec::new();
    for (option, given, default) in options {
        let applies = method.takes.contains(&option);
        ensure!(applies || given.is_none(), "--{option} does not apply to --method {}", method.name);
        if let Some(value) = given.or(default.filter(|_| applies).map(str::to_owned)) {
            parts.push(format!("{option}={value}"));
        }
    }
    let granularity = arguments.granularity.text(arguments.axis.unwrap_or(0), rank)?;
    let text = format!(
        "{}({}); granularity={granularity}; rounding={}",
        method.name,
        parts.join(", "),
        arguments.rounding
    );
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
