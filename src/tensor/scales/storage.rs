//! How one scale is stored.

use core::fmt;
use core::str::FromStr;

use crate::element::FloatType;
use crate::error::{ConfigError, ParseError};
use crate::minifloat::{Minifloat, Overflow};
use crate::tensor::two_level::TwoLevel;
use crate::text;

/// How the scale of each region is stored. The text form is `f32`, `power(2)`, `two-level(6, block=8, outer=f16)`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
#[non_exhaustive]
pub enum ScaleStorage {
    /// A floating-point number.
    Float(FloatType),
    /// The integer exponent of a base, 16 bits.
    Power(PowerBase),
    /// A floating-point number of a few bits, in one byte (two for formats of more than 8 bits): E8M0, E4M3.
    Minifloat(Minifloat),
    /// Quantized themselves, under outer scales.
    TwoLevel(TwoLevel),
}

/// The base of scales that are stored as exponents: a finite number of at least 1.01, so that the exponents of all
/// f32 numbers fit 16 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PowerBase(f64);

impl PowerBase {
    /// Base 2.
    pub const TWO: Self = Self(2.0);
    /// Base √2.
    pub const SQRT_2: Self = Self(core::f64::consts::SQRT_2);

    /// Base `base`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Base`] unless it is finite and at least 1.01.
    pub fn new(base: f64) -> Result<Self, ConfigError> {
        if base >= 1.01 && base.is_finite() { Ok(Self(base)) } else { Err(ConfigError::Base { base }) }
    }

    /// The base.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// `base^exponent`, exact for base 2 and for even powers of √2.
    pub fn power(self, exponent: i32) -> f64 {
        if self == Self::SQRT_2 {
            let root = if exponent.rem_euclid(2) == 1 { self.0 } else { 1.0 };
            return root * 2f64.powi(exponent.div_euclid(2));
        }
        self.0.powi(exponent)
    }

    /// The exponent of the power that is nearest to the positive `value` in the logarithmic domain, of those that fit
    /// 16 bits and are normal numbers of f32.
    pub fn nearest_exponent(self, value: f64) -> i32 {
        let exponent = (value.log2() / self.0.log2()).round_ties_even();
        let (low, high) = self.exponents();
        // A cast saturates.
        (exponent as i32).clamp(low, high)
    }

    /// The smallest and the largest exponent in use.
    fn exponents(self) -> (i32, i32) {
        // More than what the logarithm of a base may be off.
        const SLACK: f64 = 1e-9;
        let per_octave = 1.0 / self.0.log2();
        ((-126.0 * per_octave - SLACK).ceil() as i32, (127.0 * per_octave + SLACK).floor() as i32)
    }
}

impl fmt::Display for PowerBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::SQRT_2 { f.write_str("sqrt2") } else { self.0.fmt(f) }
    }
}

impl FromStr for PowerBase {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "sqrt2" {
            return Ok(Self::SQRT_2);
        }
        Ok(Self::new(text::number("base", text)?)?)
    }
}

impl ScaleStorage {
    /// The floating-point type, if scales are stored in one.
    pub const fn float(self) -> Option<FloatType> {
        match self {
            Self::Float(storage) => Some(storage),
            Self::Power(_) | Self::Minifloat(_) | Self::TwoLevel(_) => None,
        }
    }

    /// The type that holds every scale exactly and that values are computed in: f64 for f64 scales, else f32.
    pub const fn arithmetic(self) -> FloatType {
        match self {
            Self::Float(FloatType::F64) => FloatType::F64,
            _ => FloatType::F32,
        }
    }

    /// The positive `scale` as stored; infinite or zero where it does not fit. Two-level scales are rounded when all of
    /// them are known, and are as they are here if an f32 holds them.
    pub fn round(self, scale: f64) -> f64 {
        match self {
            Self::Float(storage) => storage.round(scale),
            // The largest power stands for what is nearer to the next one, but not for what no f32 is.
            Self::Power(_) if scale > FloatType::F32.max_value() => f64::INFINITY,
            Self::Power(base) if scale > 0.0 => {
                FloatType::F32.round(base.power(base.nearest_exponent(scale)))
            }
            Self::Power(_) => f64::NAN,
            // A negative scale has no place in a format without sign.
            Self::Minifloat(format) if scale < 0.0 && !format.is_signed() => f64::NAN,
            Self::Minifloat(format) => FloatType::F32.round(format.round(scale, Overflow::NonFinite)),
            Self::TwoLevel(_) => {
                let rounded = FloatType::F32.round(scale);
                if rounded == 0.0 || rounded.is_infinite() { rounded } else { scale }
            }
        }
    }

    /// The scale of a region of zeros: 1, or 0 where it would count among others.
    pub(crate) fn of_zeros(self) -> f64 {
        match self {
            Self::TwoLevel(_) => 0.0,
            _ => self.round(1.0),
        }
    }

    /// The smallest positive scale whose reciprocal is finite in the arithmetic that uses it.
    pub fn min_scale(self) -> f64 {
        match self {
            Self::Float(storage) => storage.min_scale(),
            Self::Power(base) => base.power(base.exponents().0),
            Self::Minifloat(format) => format.min_positive().max(FloatType::F32.min_scale()),
            Self::TwoLevel(_) => FloatType::F32.min_scale(),
        }
    }

    /// The largest scale that is not above the positive `value`.
    pub(crate) fn at_most(self, value: f64) -> f64 {
        match self {
            Self::Float(storage) => storage.at_most(value),
            Self::Power(_) | Self::Minifloat(_) => {
                let nearest = self.round(value);
                if nearest > value { self.next_down(nearest) } else { nearest }
            }
            // The largest scale comes back with the roundings of its code and of the outer scale.
            Self::TwoLevel(_) => FloatType::F32.at_most(value * (1.0 - 1e-6)),
        }
    }

    /// The next smaller scale; `value` is a positive one.
    pub(crate) fn next_down(self, value: f64) -> f64 {
        match self {
            Self::Float(storage) => storage.next_down(value),
            Self::Power(base) => FloatType::F32.round(base.power(base.nearest_exponent(value) - 1)),
            Self::Minifloat(format) => {
                let code = format.encode(value, Overflow::Saturate).unwrap_or_default();
                format.decode(code.saturating_sub(1))
            }
            Self::TwoLevel(_) => FloatType::F32.next_down(value),
        }
    }

    /// By which share storing a scale may move it.
    pub(crate) fn epsilon(self) -> f64 {
        match self {
            Self::Float(storage) => storage.epsilon(),
            Self::Power(base) => base.get() - 1.0,
            Self::Minifloat(format) => format.epsilon(),
            Self::TwoLevel(_) => FloatType::F32.epsilon(),
        }
    }

    /// The next larger type, where there is one.
    pub fn wider(self) -> Option<Self> {
        self.float()?.wider().map(Self::Float)
    }

    /// `scale` of this width rounded and raised to the smallest usable one. Zero or infinite where the storage cannot
    /// hold it.
    pub(crate) fn store(self, scale: f64) -> f64 {
        let stored = self.round(scale);
        if stored == 0.0 && self == Self::Float(FloatType::F16) {
            return stored;
        }
        if stored.abs() < self.min_scale() { self.min_scale() } else { stored }
    }
}

impl From<FloatType> for ScaleStorage {
    fn from(storage: FloatType) -> Self {
        Self::Float(storage)
    }
}

impl From<Minifloat> for ScaleStorage {
    fn from(format: Minifloat) -> Self {
        Self::Minifloat(format)
    }
}

impl From<PowerBase> for ScaleStorage {
    fn from(base: PowerBase) -> Self {
        Self::Power(base)
    }
}

impl From<TwoLevel> for ScaleStorage {
    fn from(rule: TwoLevel) -> Self {
        Self::TwoLevel(rule)
    }
}

impl PartialEq<FloatType> for ScaleStorage {
    fn eq(&self, other: &FloatType) -> bool {
        self.float() == Some(*other)
    }
}

impl fmt::Display for ScaleStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(storage) => storage.fmt(f),
            Self::Power(base) => write!(f, "power({base})"),
            Self::Minifloat(format) => format.fmt(f),
            Self::TwoLevel(rule) => rule.fmt(f),
        }
    }
}

impl FromStr for ScaleStorage {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(storage) = text.parse() {
            return Ok(Self::Float(storage));
        }
        if let Ok(format) = text.parse() {
            return Ok(Self::Minifloat(format));
        }
        let mut arguments = text::call(text)?;
        match arguments.name() {
            "power" => {
                let base = arguments.positional().ok_or_else(|| arguments.problem("base", "missing"))?;
                let storage = Self::Power(base.parse()?);
                arguments.finish()?;
                Ok(storage)
            }
            "two-level" => Ok(Self::TwoLevel(TwoLevel::read(arguments)?)),
            name => {
                let known = ["f64", "f32", "f16", "bf16", "eXmY", "power(BASE)", "two-level(..)"];
                Err(crate::names::unknown("storage of scales", name, &known))
            }
        }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<String> for ScaleStorage {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

#[cfg(feature = "serde")]
impl From<ScaleStorage> for String {
    fn from(storage: ScaleStorage) -> Self {
        storage.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_exact_where_they_can_be() {
        assert_eq!(PowerBase::SQRT_2.power(7), 8.0 * core::f64::consts::SQRT_2);
        assert_eq!(PowerBase::SQRT_2.power(-6), 0.125);
        assert_eq!(PowerBase::TWO.power(-126), 2f64.powi(-126));
        for exponent in [-252, -100, -3, 0, 1, 77, 254] {
            assert_eq!(PowerBase::SQRT_2.nearest_exponent(PowerBase::SQRT_2.power(exponent)), exponent);
        }
        // The boundary in the logarithmic domain: √2 · 2^k.
        assert_eq!(PowerBase::TWO.nearest_exponent(1.414), 0);
        assert_eq!(PowerBase::TWO.nearest_exponent(1.415), 1);
        assert_eq!(PowerBase::TWO.nearest_exponent(f64::MIN_POSITIVE), -126);
        assert!(PowerBase::new(1.0).is_err() && PowerBase::new(f64::NAN).is_err());
    }

    #[test]
    fn text_forms_round_trip() {
        for text in [
            "e8m0",
            "e4m3fn",
            "ue5m3",
            "two-level(e4m3fn)",
            "two-level(s7)",
            "two-level(dynamic, block=256, centered=true)",
        ] {
            assert_eq!(text.parse::<ScaleStorage>().unwrap().to_string(), text);
        }
        for text in
            ["f64", "bf16", "power(2)", "power(sqrt2)", "power(1.5)", "two-level(6, block=8, outer=f16)"]
        {
            assert_eq!(text.parse::<ScaleStorage>().unwrap().to_string(), text);
        }
        for text in ["f8", "power", "power(1)", "power(2, 3)", "two-level()", "two-level(6, block=0)"] {
            assert!(text.parse::<ScaleStorage>().is_err(), "{text}");
        }
    }
}
