//! How the text forms of the built-in strategies are read. Each mirrors its `Display`.

use std::sync::Arc;

use ndarray::Axis;

use crate::bits::BitWidth;
use crate::calibration::{
    Aciq, Calibration, Kl, KlVariant, MinMax, Mse, NvidiaMse, NvidiaPercentile, OnnxRuntimeEntropy,
    OnnxRuntimePercentile, Percentile, StandardDeviations, TorchHistogram, WeightedEntropy,
};
use crate::error::{ConfigError, ParseError};
use crate::granularity::{Blocks, PerChannel, PerGroup, PerLayer, PerSubChannel};
use crate::quantizer::{
    BinaryCode, BlockSearch, Codes, Ecsq, Hqq, KMeans, LloydMax, PiecewiseLinear, ProductQuantization, Sign,
    SymmetricRange, Symmetry, Ternary, Uniform,
};
use crate::tensor::{CodeRange, LevelTable, ScaleStorage};

use super::Registry;
use crate::text::{Arguments, number};

pub(super) fn register(registry: &mut Registry) {
    registry.add_quantizer("uniform", |arguments, registry| Ok(Arc::new(uniform(arguments, registry)?)));

    registry.add_quantizer("binary-code", |arguments, _| Ok(Arc::new(binary_code(arguments)?)));
    registry.add_quantizer("ecsq", |arguments, _| Ok(Arc::new(ecsq(arguments)?)));
    registry.add_quantizer("lloyd-max", |arguments, registry| Ok(Arc::new(lloyd_max(arguments, registry)?)));
    registry.add_quantizer("piecewise-linear", |arguments, registry| {
        Ok(Arc::new(piecewise_linear(arguments, registry)?))
    });
    registry.add_quantizer("ternary", |mut arguments, _| {
        let mut ternary = Ternary::new(arguments.parse("scale")?.unwrap_or_default());
        if let Some(storage) = arguments.parse::<ScaleStorage>("scales")? {
            ternary = ternary.scales(storage);
        }
        arguments.finish()?;
        Ok(Arc::new(ternary))
    });
    registry.add_quantizer("kmeans", |arguments, registry| Ok(Arc::new(kmeans(arguments, registry)?)));
    registry.add_quantizer("product-quantization", |arguments, _| Ok(Arc::new(product(arguments)?)));
    super::levels::register(registry);

    registry.add_quantizer("sign", |arguments, _| {
        arguments.finish()?;
        Ok(Arc::new(Sign))
    });

    registry.add_quantizer("block-search", |arguments, _| Ok(Arc::new(block_search(arguments)?)));
    registry.add_quantizer("hqq", |arguments, _| Ok(Arc::new(Hqq::read(arguments)?)));

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
    calibrations_by_name(registry);
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

/// Rules of papers and of other systems, and second names.
fn calibrations_by_name(registry: &mut Registry) {
    registry.add_calibration("omse", |arguments, _| {
        arguments.finish()?;
        Ok(Arc::new(Mse))
    });
    registry.add_calibration("aciq", |mut arguments, _| {
        let aciq = Aciq::default()
            .density(arguments.parse("density")?.unwrap_or_default())
            .estimator(arguments.parse("estimator")?.unwrap_or_default())
            .optimum(arguments.parse("optimum")?.unwrap_or_default());
        arguments.finish()?;
        Ok(Arc::new(aciq))
    });
    registry.add_calibration("standard-deviations", |mut arguments, _| {
        let factor = arguments.positional().ok_or_else(|| arguments.problem("factor", "missing"))?;
        let factor = StandardDeviations::new(number("number of standard deviations", factor)?)?;
        arguments.finish()?;
        Ok(Arc::new(factor))
    });
    registry.add_calibration("weighted-entropy", |arguments, _| {
        arguments.finish()?;
        Ok(Arc::new(WeightedEntropy))
    });
    registry.add_calibration("nvidia-entropy", |arguments, _| {
        arguments.finish()?;
        Ok(Arc::new(Kl::default().variant(KlVariant::Nvidia)))
    });
    registry.add_calibration("nvidia-mse", |mut arguments, _| {
        let rule = with_bins(&mut arguments, NvidiaMse::default(), NvidiaMse::bins)?;
        arguments.finish()?;
        Ok(Arc::new(rule))
    });
    registry.add_calibration("nvidia-percentile", |mut arguments, _| {
        let percent = arguments.positional().ok_or_else(|| arguments.problem("percent", "missing"))?;
        let rule = NvidiaPercentile::new(number("percentile", percent)?)?;
        let rule = with_bins(&mut arguments, rule, NvidiaPercentile::bins)?;
        arguments.finish()?;
        Ok(Arc::new(rule))
    });
    registry.add_calibration("onnxruntime-entropy", |mut arguments, _| {
        let mut rule = with_bins(&mut arguments, OnnxRuntimeEntropy::default(), OnnxRuntimeEntropy::bins)?;
        if let Some(levels) = arguments.optional("levels") {
            rule = rule.levels(number("number of levels", levels)?)?;
        }
        arguments.finish()?;
        Ok(Arc::new(rule))
    });
    registry.add_calibration("onnxruntime-percentile", |mut arguments, _| {
        let rule = match arguments.positional() {
            Some(percent) => OnnxRuntimePercentile::new(number("percentile", percent)?)?,
            None => OnnxRuntimePercentile::default(),
        };
        let rule = with_bins(&mut arguments, rule, OnnxRuntimePercentile::bins)?;
        arguments.finish()?;
        Ok(Arc::new(rule))
    });
    registry.add_calibration("torch-histogram", |mut arguments, _| {
        let rule = with_bins(&mut arguments, TorchHistogram::default(), TorchHistogram::bins)?;
        arguments.finish()?;
        Ok(Arc::new(rule))
    });
}

/// `rule` with `bins=N`, if that is given.
fn with_bins<R>(
    arguments: &mut Arguments<'_>,
    rule: R,
    set: impl Fn(R, usize) -> Result<R, ConfigError>,
) -> Result<R, ParseError> {
    match arguments.optional("bins") {
        Some(bins) => Ok(set(rule, number("number of bins", bins)?)?),
        None => Ok(rule),
    }
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
    if let Some(storage) = arguments.parse::<ScaleStorage>("scales")? {
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

fn binary_code(mut arguments: Arguments<'_>) -> Result<BinaryCode, ParseError> {
    let bits = arguments.required("bits")?.parse()?;
    let mut method = BinaryCode::of_rule(arguments.optional("rule").unwrap_or("best"), bits)?;
    if let Some(rounds) = arguments.optional("rounds") {
        method = method.rounds(number("number of rounds", rounds)?);
    }
    if let Some(storage) = arguments.parse("coefficients")? {
        method = method.coefficients(storage);
    }
    arguments.finish()?;
    Ok(method)
}

fn ecsq(mut arguments: Arguments<'_>) -> Result<Ecsq, ParseError> {
    let bits = arguments.required("bits")?.parse()?;
    let mut method = match (arguments.optional("entropy"), arguments.optional("lambda")) {
        (Some(entropy), None) => Ecsq::of_entropy(bits, number("entropy", entropy)?)?,
        (None, Some(lambda)) => Ecsq::of_lambda(bits, number("lambda", lambda)?)?,
        (None, None) => return Err(arguments.problem("entropy", "missing")),
        (Some(_), Some(_)) => return Err(arguments.problem("lambda", "given beside entropy")),
    };
    if let Some(storage) = arguments.parse("levels")? {
        method = method.levels(storage);
    }
    arguments.finish()?;
    Ok(method)
}

fn lloyd_max(mut arguments: Arguments<'_>, registry: &Registry) -> Result<LloydMax, ParseError> {
    let bits = arguments.required("bits")?.parse()?;
    let method = if let Some(density) = arguments.parse("density")? {
        let mut method = LloydMax::of(density, bits);
        if let Some(storage) = arguments.parse::<ScaleStorage>("scales")? {
            method = method.scales(storage);
        }
        if let Some(text) = arguments.optional("calibration") {
            method = method.calibration(registry.parse_calibration(text)?);
        }
        method
    } else {
        let mut method = LloydMax::empirical(bits);
        if let Some(storage) = arguments.parse("levels")? {
            method = method.levels(storage);
        }
        if let Some(count) = arguments.optional("iterations") {
            method = method.iterations(number("number of iterations", count)?);
        }
        method
    };
    arguments.finish()?;
    Ok(method)
}

fn piecewise_linear(
    mut arguments: Arguments<'_>,
    registry: &Registry,
) -> Result<PiecewiseLinear, ParseError> {
    let mut method = PiecewiseLinear::new(arguments.required("bits")?.parse()?)?;
    if let Some(rule) = arguments.parse("break-point")? {
        method = method.break_point(rule);
    }
    if let Some(storage) = arguments.parse("parameters")? {
        method = method.parameters(storage);
    }
    if let Some(text) = arguments.optional("calibration") {
        method = method.calibration(registry.parse_calibration(text)?);
    }
    arguments.finish()?;
    Ok(method)
}

/// `table` is NF-k for the given bits if it is not given; bits that are not those of a given table are a conflict.
fn block_search(mut arguments: Arguments<'_>) -> Result<BlockSearch, ParseError> {
    let bits: Option<BitWidth> = arguments.parse("bits")?;
    let table: LevelTable = match (arguments.optional("table"), bits) {
        (Some(table), _) => table.parse()?,
        (None, Some(bits)) => LevelTable::normal_float(bits)?,
        (None, None) => return Err(arguments.problem("table", "missing")),
    };
    if bits.is_some_and(|bits| bits != table.bits()) {
        return Err(
            ConfigError::Conflict { setting: "another width of codes", to: "this level table" }.into()
        );
    }
    let mut search = BlockSearch::new(table, arguments.required("scale-bits")?.parse()?)?;
    if let Some(count) = arguments.optional("outer-scales") {
        search = search.outer_scales(number("number of outer scales", count)?)?;
    }
    if let Some(rounds) = arguments.optional("learned") {
        search = search.learned(number("rounds of learning", rounds)?)?;
    }
    arguments.finish()?;
    Ok(search)
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
