//! How the text forms of the methods on level tables are read. Each mirrors its `Display`.

use std::sync::Arc;

use crate::bits::BitWidth;
use crate::calibration::Calibration;
use crate::error::ParseError;
use crate::quantizer::{
    Apot, BitsandbytesFp4, DynamicMap, FloatingPoint, Inq, Log, Mx, NormalFloat, NvFp4, Quantizer,
};
use crate::tensor::ScaleStorage;
use crate::text::{Arguments, number};

use super::Registry;

pub(super) fn register(registry: &mut Registry) {
    registry.add_quantizer("log", |mut arguments, registry| {
        let mut log = Log::new(bits(&mut arguments)?);
        if let Some(base) = arguments.parse("base")? {
            log = log.base(base);
        }
        if !flag("signed", true, &mut arguments)? {
            log = log.unsigned();
        }
        if let Some(rounding) = arguments.parse("rounding")? {
            log = log.rounding(rounding);
        }
        finish(log, arguments, registry, Some(Log::scales), Log::calibration)
    });
    registry.add_quantizer("inq", |mut arguments, registry| {
        let inq = Inq::new(bits(&mut arguments)?);
        finish(inq, arguments, registry, Some(Inq::scales), Inq::calibration)
    });
    registry.add_quantizer("apot", |mut arguments, registry| {
        let mut apot = Apot::new(bits(&mut arguments)?);
        if let Some(term_bits) = arguments.optional("term-bits") {
            apot = apot.term_bits(number("bits of a term", term_bits)?);
        }
        if !flag("signed", true, &mut arguments)? {
            apot = apot.unsigned();
        }
        finish(apot, arguments, registry, Some(Apot::scales), Apot::calibration)
    });
    registry.add_quantizer("normal-float", |mut arguments, registry| {
        let normal_float = arguments.parse("bits")?.map_or_else(NormalFloat::nf4, NormalFloat::new);
        finish(normal_float, arguments, registry, Some(NormalFloat::scales), NormalFloat::calibration)
    });
    registry.add_quantizer("bitsandbytes-fp4", |arguments, registry| {
        let fp4 = BitsandbytesFp4::new();
        finish(fp4, arguments, registry, Some(BitsandbytesFp4::scales), BitsandbytesFp4::calibration)
    });
    registry.add_quantizer("dynamic", |mut arguments, registry| {
        let signed = flag("signed", true, &mut arguments)?;
        let map = if signed { DynamicMap::signed() } else { DynamicMap::unsigned() };
        finish(map, arguments, registry, Some(DynamicMap::scales), DynamicMap::calibration)
    });
    registry.add_quantizer("float", |mut arguments, registry| {
        let mut float = FloatingPoint::new(positional("format", &mut arguments)?.parse()?);
        if flag("unscaled", false, &mut arguments)? {
            float = float.unscaled();
        }
        finish(float, arguments, registry, Some(FloatingPoint::scales), FloatingPoint::calibration)
    });
    registry.add_quantizer("mx", |mut arguments, registry| {
        let mut mx = Mx::new(positional("element", &mut arguments)?.parse()?);
        if let Some(mode) = arguments.parse("scale-mode")? {
            mx = mx.scale_mode(mode);
        }
        finish(mx, arguments, registry, None::<fn(Mx, ScaleStorage) -> Mx>, Mx::calibration)
    });
    registry.add_quantizer("nvfp4", |arguments, registry| {
        let scales = None::<fn(NvFp4, ScaleStorage) -> NvFp4>;
        finish(NvFp4::new(), arguments, registry, scales, NvFp4::calibration)
    });
}

/// `method` with the arguments that all have: `scales`, where there is a choice, and `calibration`.
fn finish<Q: Quantizer + 'static>(
    mut method: Q,
    mut arguments: Arguments<'_>,
    registry: &Registry,
    scales: Option<impl Fn(Q, ScaleStorage) -> Q>,
    calibration: impl Fn(Q, Arc<dyn Calibration>) -> Q,
) -> Result<Arc<dyn Quantizer>, ParseError> {
    if let Some(set) = scales
        && let Some(storage) = arguments.parse("scales")?
    {
        method = set(method, storage);
    }
    if let Some(text) = arguments.optional("calibration") {
        method = calibration(method, registry.parse_calibration(text)?);
    }
    arguments.finish()?;
    Ok(Arc::new(method))
}

/// `bits=N`, 8 if not given.
fn bits(arguments: &mut Arguments<'_>) -> Result<BitWidth, ParseError> {
    Ok(arguments.parse("bits")?.unwrap_or(BitWidth::EIGHT))
}

fn flag(name: &'static str, default: bool, arguments: &mut Arguments<'_>) -> Result<bool, ParseError> {
    arguments.optional(name).map_or(Ok(default), |text| number(name, text))
}

fn positional<'t>(what: &str, arguments: &mut Arguments<'t>) -> Result<&'t str, ParseError> {
    arguments.positional().ok_or_else(|| arguments.problem(what, "missing"))
}
