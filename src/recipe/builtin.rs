//! How the text forms of the built-in strategies are read. Each mirrors its `Display`.

use std::sync::Arc;

use ndarray::Axis;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, Kl, MinMax, Mse, Percentile};
use crate::error::ParseError;
use crate::granularity::{Blocks, PerChannel, PerGroup, PerLayer, PerSubChannel};
use crate::quantizer::{Codes, KMeans, ProductQuantization, Sign, SymmetricRange, Symmetry, Uniform};
use crate::tensor::{CodeRange, ScaleStorage};

use super::Registry;
use crate::text::{Arguments, number};

pub(super) fn register(registry: &mut Registry) {
    registry.add_quantizer("uniform", |arguments, registry| Ok(Arc::new(uniform(arguments, registry)?)));

    registry.add_quantizer("kmeans", |arguments, registry| Ok(Arc::new(kmeans(arguments, registry)?)));
    registry.add_quantizer("product-quantization", |arguments, _| Ok(Arc::new(product(arguments)?)));

    registry.add_quantizer("sign", |arguments, _| {
        arguments.finish()?;
        Ok(Arc::new(Sign))
    });

    registry.add_calibration("minmax", |arguments, _| {
        arguments.finish()?;
        Ok(Arc::new(MinMax))
    });
    registry.add_calibration("percentile", |arguments, _| Ok(Arc::new(percentile(arguments)?)));
    registry.add_calibration("kl", |arguments, _| Ok(Arc::new(kl(arguments)?)));
    registry.add_calibration("mse", |arguments, _| {
        arguments.finish()?;
        Ok(Arc::new(Mse))
    });
    registry.add_calibration("fixed", |arguments, _| -> Result<Arc<dyn Calibration>, ParseError> {
        Err(ParseError::DataNotInText { name: arguments.name().to_owned() })
    });

    registry.add_granularity("layer", |arguments, _| {
        arguments.finish()?;
        Ok(Arc::new(PerLayer))
    });
    registry.add_granularity("group", |mut arguments, _| {
        let channels = count("channels per group", &mut arguments)?;
        Ok(Arc::new(PerGroup::new(axis(arguments)?, channels)?))
    });
    registry.add_granularity("channel", |arguments, _| Ok(Arc::new(PerChannel::new(axis(arguments)?))));
    registry.add_granularity("subchannel", |mut arguments, _| {
        let elements = count("elements per sub-channel", &mut arguments)?;
        Ok(Arc::new(PerSubChannel::new(axis(arguments)?, elements)?))
    });
    registry.add_granularity("blocks", |mut arguments, _| {
        let mut lengths = Vec::new();
        while let Some(length) = arguments.positional() {
            lengths.push(number("block length", length)?);
        }
        arguments.finish()?;
        Ok(Arc::new(Blocks::new(lengths)))
    });
}

fn uniform(mut arguments: Arguments<'_>, registry: &Registry) -> Result<Uniform, ParseError> {
    let bits = arguments.parse("bits")?.unwrap_or(BitWidth::EIGHT);
    let symmetry = arguments.parse("symmetry")?.unwrap_or(Symmetry::Symmetric);
    let mut uniform = Uniform::new(bits, symmetry);
    if let Some(range) = arguments.parse::<SymmetricRange>("range")? {
        uniform = uniform.range(range);
    }
    if let Some(codes) = arguments.parse::<Codes>("codes")? {
        uniform = uniform.codes(codes);
    }
    if let Some(text) = arguments.optional("code-range") {
        let ends = text.split_once("..").unwrap_or((text, ""));
        let end = |text| number("code range", text);
        uniform = uniform.code_range(CodeRange::new(end(ends.0)?, end(ends.1)?)?);
    }
    if let Some(storage) = arguments.parse("scales")? {
        uniform = uniform.scales(storage);
    }
    if let Some(text) = arguments.optional("widen-scales")
        && number("widen-scales", text)?
    {
        uniform = uniform.widen_scales();
    }
    if let Some(text) = arguments.optional("calibration") {
        uniform = uniform.calibration(registry.parse_calibration(text)?);
    }
    arguments.finish()?;
    Ok(uniform)
}

fn kmeans(mut arguments: Arguments<'_>, registry: &Registry) -> Result<KMeans, ParseError> {
    let mut kmeans = KMeans::new(arguments.parse("bits")?.unwrap_or(BitWidth::EIGHT));
    if let Some(storage) = arguments.parse("levels")? {
        kmeans = kmeans.levels(storage);
    }
    if let Some(text) = arguments.optional("shared")
        && number("shared", text)?
    {
        kmeans = kmeans.shared();
    }
    if let Some(storage) = arguments.parse::<ScaleStorage>("scales")? {
        kmeans = kmeans.scales(storage);
    }
    if let Some(text) = arguments.optional("calibration") {
        kmeans = kmeans.calibration(registry.parse_calibration(text)?);
    }
    arguments.finish()?;
    Ok(kmeans)
}

fn product(mut arguments: Arguments<'_>) -> Result<ProductQuantization, ParseError> {
    let bits = arguments.parse("bits")?.unwrap_or(BitWidth::EIGHT);
    let dimension = number("dimension", arguments.required("dimension")?)?;
    let mut product = ProductQuantization::new(bits, dimension)?;
    if let Some(storage) = arguments.parse("vectors")? {
        product = product.vectors(storage);
    }
    if let Some(text) = arguments.optional("seed") {
        product = product.seed(number("seed", text)?);
    }
    if let Some(text) = arguments.optional("iterations") {
        product = product.iterations(number("iterations", text)?);
    }
    arguments.finish()?;
    Ok(product)
}

fn percentile(mut arguments: Arguments<'_>) -> Result<Percentile, ParseError> {
    let percent = arguments.positional().ok_or_else(|| arguments.problem("percent", "missing"))?;
    let mut percentile = Percentile::new(number("percentile", percent)?)?;
    if let Some(tails) = arguments.parse("tails")? {
        percentile = percentile.tails(tails);
    }
    if let Some(interpolation) = arguments.parse("interpolation")? {
        percentile = percentile.interpolation(interpolation);
    }
    arguments.finish()?;
    Ok(percentile)
}

fn kl(mut arguments: Arguments<'_>) -> Result<Kl, ParseError> {
    let mut kl = Kl::default();
    if let Some(variant) = arguments.parse("variant")? {
        kl = kl.variant(variant);
    }
    if let Some(bins) = arguments.optional("bins") {
        kl = kl.bins(number("number of bins", bins)?)?;
    }
    arguments.finish()?;
    Ok(kl)
}

/// The first positional argument as a number.
fn count(what: &'static str, arguments: &mut Arguments<'_>) -> Result<usize, ParseError> {
    let text = arguments.positional().ok_or_else(|| arguments.problem(what, "missing"))?;
    number(what, text)
}

/// `axis=N`, 0 if not given; nothing else may be left.
fn axis(mut arguments: Arguments<'_>) -> Result<Axis, ParseError> {
    let axis = arguments.optional("axis").map(|axis| number("axis", axis)).transpose()?;
    arguments.finish()?;
    Ok(Axis(axis.unwrap_or(0)))
}
