//! Tables of levels that regions share.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::element::{FloatType, Real};
use crate::error::{ConfigError, ParseError};
use crate::kernel::levels::{Boundary, LevelMaps, Ties};
use crate::minifloat::{BlockElement, Minifloat};
use crate::names;
use crate::solve::special::normal_quantile;
use crate::tables::{self, Levels, Threshold, additive_powers, fp4, normal_float, powers};
use crate::tensor::{PowerBase, Rounding};
use crate::text::{self, Arguments};

use super::density::{self, LevelDensity};

pub use crate::tables::powers::LogRounding;

/// A table of levels: the value of each code, for a scale of 1, and where the boundaries between neighbours lie.
///
/// Tables are named, so that a scheme that uses one costs nothing but its name. Cheap to clone.
///
/// ```
/// use lowbit::tensor::LevelTable;
///
/// let table: LevelTable = "ternary".parse()?;
/// assert_eq!(table.values(), [-1.0, 0.0, 1.0]);
/// assert_eq!(LevelTable::given([0.0, 1.0, 10.0])?.to_string(), "levels(0, 1, 10)");
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct LevelTable(Arc<Table>);

struct Table {
    name: String,
    levels: Levels,
    top: f64,
    bottom: f64,
    nan: Option<u16>,
    /// What MX blocks of these levels need to know.
    element: Option<BlockElement>,
}

impl LevelTable {
    /// A table under a name that [`FromStr`] reads; at least one value is finite and not zero.
    fn named(name: String, levels: Levels) -> Self {
        Self::with_specials(name, levels, None, None)
    }

    /// As [`named`](Self::named), with a code of NaN and as an element of MX blocks.
    fn with_specials(name: String, levels: Levels, nan: Option<u16>, element: Option<BlockElement>) -> Self {
        let ends = [levels.order.first(), levels.order.last()];
        let [bottom, top] = ends.map(|code| {
            code.and_then(|&code| levels.values.get(usize::from(code))).copied().unwrap_or_default()
        });
        Self(Arc::new(Table { name, levels, top, bottom, nan, element }))
    }

    /// The levels −1, 0 and 1. A value half way goes away from zero.
    pub fn ternary() -> Self {
        let thresholds = vec![Threshold::Above(-0.5), Threshold::From(0.5)];
        let levels = Levels { values: vec![-1.0, 0.0, 1.0], order: vec![0, 1, 2], thresholds };
        Self::named("ternary".to_owned(), levels)
    }

    /// NF-k: quantiles of the normal distribution with an exact zero, from −1 to 1 (Dettmers et al. 2023, QLoRA). At 4
    /// bits the published constants of NF4; ties go to the lower level.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for one bit.
    pub fn normal_float(bits: BitWidth) -> Result<Self, ConfigError> {
        Ok(Self::named(format!("nf{bits}"), normal_float::normal_float(bits, normal_quantile)?))
    }

    /// The 4-bit float of bitsandbytes, which is not [`Minifloat::E2M1`].
    pub fn bitsandbytes_fp4() -> Self {
        Self::named("bitsandbytes-fp4".to_owned(), fp4::fp4())
    }

    /// The dynamic 8-bit map of bitsandbytes (Dettmers 2016), with or without negative values.
    pub fn dynamic(signed: bool) -> Self {
        let name = if signed { "dynamic" } else { "dynamic-unsigned" };
        Self::named(name.to_owned(), tables::dynamic::dynamic(signed))
    }

    /// The values of a floating-point format, in the order of its codes: to the nearest, ties to the even mantissa,
    /// saturated.
    pub fn minifloat(format: Minifloat) -> Self {
        let levels = tables::minifloat::minifloat(format);
        Self::with_specials(format.to_string(), levels, format.nan(), Some(format.into()))
    }

    /// The elements of MXINT8: multiples of 1/64 from −127/64 to 127/64, in the order of two's complement. Ties go to
    /// the even multiple. The code of −2 decodes, but encoding does not produce it, so that levels are symmetric.
    pub fn mx_int8() -> Self {
        let value = |code: u16| f64::from(code as u8 as i8) / 64.0;
        let order: Vec<u16> = (129..256).chain(0..128).collect();
        let threshold = |pair: &[u16]| match *pair {
            [low, high] => {
                let middle = (value(low) + value(high)) / 2.0;
                if high.is_multiple_of(2) { Threshold::From(middle) } else { Threshold::Above(middle) }
            }
            _ => Threshold::From(0.0),
        };
        let thresholds = order.windows(2).map(threshold).collect();
        let values = (0..256).map(value).collect();
        let levels = Levels { values, order, thresholds };
        Self::with_specials("mxint8".to_owned(), levels, None, Some(BlockElement::INT8))
    }

    /// Powers of a base with either sign (if `signed`) and zero, the largest 1 (Miyashita et al. 2016). One code is
    /// zero, and the sign is one of the bits.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Base`], [`ConfigError::TooSmall`] or [`ConfigError::TooLarge`] for powers that cannot be told
    /// apart or are not normal numbers.
    pub fn powers(
        bits: BitWidth,
        base: PowerBase,
        signed: bool,
        rounding: LogRounding,
    ) -> Result<Self, ConfigError> {
        let name = format!("powers({bits}, base={base}, signed={signed}, rounding={rounding})");
        Ok(Self::named(name, powers::logarithmic(base.get(), bits, signed, rounding)?))
    }

    /// The powers of two of INQ (Zhou et al. 2017): zero and 2^(b−2) magnitudes of either sign, the largest 1.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for one bit, [`ConfigError::TooLarge`] for powers that are not normal numbers.
    pub fn inq(bits: BitWidth) -> Result<Self, ConfigError> {
        Ok(Self::named(format!("inq({bits})"), powers::inq(bits)?))
    }

    /// Additive powers of two (Li et al. 2020): sums of powers in terms of `term_bits` bits, the largest 1.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`], [`ConfigError::TooLarge`] or [`ConfigError::Conflict`] for widths without such terms.
    pub fn additive_powers(bits: BitWidth, term_bits: u32, signed: bool) -> Result<Self, ConfigError> {
        let name = format!("apot({bits}, term-bits={term_bits}, signed={signed})");
        Ok(Self::named(name, additive_powers::additive_powers(bits, term_bits, signed)?))
    }

    /// The Lloyd-Max levels of a density of unit power, ascending.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooLarge`] for more than 10 bits.
    pub fn lloyd_max(density: LevelDensity, bits: BitWidth) -> Result<Self, ConfigError> {
        Ok(Self::named(format!("lloyd-max({density}, bits={bits})"), density::levels(density, bits)?))
    }

    /// Levels of one's own, in the order of their codes. A value half way between two levels gets the lower one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Levels`] unless there are 2 to 65536 levels, all finite and not all the same, at most the
    /// largest f32 in magnitude.
    pub fn given(values: impl IntoIterator<Item = f64>) -> Result<Self, ConfigError> {
        // Zeros of both signs are one level.
        let values: Vec<f64> = values.into_iter().map(|value| value + 0.0).collect();
        let usable = |value: &f64| value.abs() <= f64::from(f32::MAX);
        let distinct = values.iter().any(|value| Some(value) != values.first());
        if !(2..=1 << BitWidth::MAX).contains(&values.len()) || !values.iter().all(usable) || !distinct {
            let bad = values.iter().copied().find(|value| !usable(value));
            return Err(ConfigError::Levels { count: values.len(), bad });
        }
        let list: Vec<String> = values.iter().map(f64::to_string).collect();
        let value = |code: &u16| values.get(usize::from(*code)).copied().unwrap_or_default();
        let mut order: Vec<u16> = (0..values.len()).map(|code| code as u16).collect();
        order.sort_by(|a, b| value(a).total_cmp(&value(b)).then(a.cmp(b)));
        order.dedup_by(|a, b| value(a) == value(b));
        let middle = |pair: &[u16]| match pair {
            [low, high] => Threshold::Above(value(low) * 0.5 + value(high) * 0.5),
            _ => Threshold::From(0.0),
        };
        let thresholds = order.windows(2).map(middle).collect();
        Ok(Self::named(format!("levels({})", list.join(", ")), Levels { values, order, thresholds }))
    }

    /// The value of each code. Those that are not finite are never chosen for a value.
    pub fn values(&self) -> &[f64] {
        &self.0.levels.values
    }

    /// The levels that a value can get, ascending.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = f64> + '_ {
        let Levels { values, order, .. } = &self.0.levels;
        order.iter().filter_map(|&code| values.get(usize::from(code)).copied())
    }

    /// The number of codes.
    pub fn len(&self) -> usize {
        self.0.levels.values.len()
    }

    /// Whether there are no codes: never.
    pub fn is_empty(&self) -> bool {
        self.0.levels.values.is_empty()
    }

    /// The narrowest width that holds every code.
    pub fn bits(&self) -> BitWidth {
        BitWidth::holding(u32::try_from(self.len().saturating_sub(1)).unwrap_or(u32::MAX).min(0xFFFF))
    }

    /// The largest level.
    pub fn top(&self) -> f64 {
        self.0.top
    }

    /// The smallest level.
    pub fn bottom(&self) -> f64 {
        self.0.bottom
    }

    /// The largest magnitude of a level.
    pub fn magnitude(&self) -> f64 {
        self.0.top.abs().max(self.0.bottom.abs())
    }

    /// The code for NaN, if there is one.
    pub fn nan(&self) -> Option<u16> {
        self.0.nan
    }

    /// What MX blocks of these levels need to know, if they are those of a format that has such blocks.
    pub(crate) fn element(&self) -> Option<BlockElement> {
        self.0.element
    }

    /// The smallest value of each level but the lowest, by the table's own rule.
    pub(crate) fn cuts(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.levels.thresholds.iter().map(|threshold| threshold.cut_f64())
    }

    /// Appends levels, cuts and codes for a rounding. [`Rounding::NearestEven`] is the table's own rule.
    pub(crate) fn push_map<T: Real>(&self, rounding: Rounding, maps: &mut LevelMaps<T>) {
        let Levels { values, order, thresholds } = &self.0.levels;
        let levels = order.iter().filter_map(|&code| values.get(usize::from(code)));
        if rounding == Rounding::NearestEven {
            let cut = |threshold: &Threshold| match T::TYPE {
                FloatType::F64 => T::from_f64(threshold.cut_f64()),
                _ => T::from_f32(threshold.cut_f32()),
            };
            maps.push_known(levels.map(|&level| T::from_f64(level)), thresholds.iter().map(cut), order);
            return;
        }
        // Codes that encoding does not produce are not finite for it.
        let mut chosen = vec![T::nan(); values.len()];
        for &code in order {
            if let (Some(place), Some(&level)) =
                (chosen.get_mut(usize::from(code)), values.get(usize::from(code)))
            {
                *place = T::from_f64(level);
            }
        }
        maps.push(&chosen, boundary(rounding, Ties::Low));
    }
}

/// The boundaries on levels without a table; `ties` is the rule of [`Rounding::NearestEven`].
pub(crate) fn boundary(rounding: Rounding, ties: Ties) -> Boundary {
    match rounding {
        Rounding::NearestEven => Boundary::Midpoint(ties),
        Rounding::NearestAway => Boundary::Midpoint(Ties::Away),
        Rounding::Floor | Rounding::Stochastic { .. } | Rounding::StochasticSigmoid { .. } => Boundary::Floor,
        Rounding::Ceil => Boundary::Ceil,
        Rounding::TowardZero => Boundary::TowardZero,
    }
}

impl PartialEq for LevelTable {
    /// Tables of one name are one table.
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl fmt::Display for LevelTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl fmt::Debug for LevelTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LevelTable({})", self.0.name)
    }
}

impl FromStr for LevelTable {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut arguments = text::call(text)?;
        let table = match arguments.name() {
            "ternary" => Self::ternary(),
            "bitsandbytes-fp4" => Self::bitsandbytes_fp4(),
            "dynamic" => Self::dynamic(true),
            "dynamic-unsigned" => Self::dynamic(false),
            "mxint8" => Self::mx_int8(),
            "levels" => {
                let mut values = Vec::new();
                while let Some(value) = arguments.positional() {
                    values.push(text::number("level", value)?);
                }
                Self::given(values)?
            }
            "powers" => {
                let bits = bits(&mut arguments)?;
                let base = arguments.parse("base")?.unwrap_or(PowerBase::TWO);
                let signed = flag(&mut arguments, "signed")?;
                let rounding = arguments.parse("rounding")?.unwrap_or_default();
                Self::powers(bits, base, signed, rounding)?
            }
            "lloyd-max" => {
                let density =
                    arguments.positional().ok_or_else(|| arguments.problem("density", "missing"))?;
                Self::lloyd_max(density.parse()?, arguments.required("bits")?.parse()?)?
            }
            "inq" => Self::inq(bits(&mut arguments)?)?,
            "apot" => {
                let bits = bits(&mut arguments)?;
                let term_bits =
                    arguments.optional("term-bits").map(|text| text::number("bits of a term", text));
                Self::additive_powers(
                    bits,
                    term_bits.transpose()?.unwrap_or(2),
                    flag(&mut arguments, "signed")?,
                )?
            }
            name => match (name.strip_prefix("nf").map(str::parse), name.parse()) {
                (Some(Ok(bits)), _) => Self::normal_float(bits)?,
                (_, Ok(format)) => Self::minifloat(format),
                _ => {
                    let known = [
                        "ternary",
                        "nfK",
                        "eXmY",
                        "bitsandbytes-fp4",
                        "dynamic",
                        "dynamic-unsigned",
                        "mxint8",
                        "powers(..)",
                        "lloyd-max(..)",
                        "inq(..)",
                        "apot(..)",
                        "levels(..)",
                    ];
                    return Err(names::unknown("level table", name, &known));
                }
            },
        };
        arguments.finish()?;
        Ok(table)
    }
}

/// The first positional argument as a width.
fn bits(arguments: &mut Arguments<'_>) -> Result<BitWidth, ParseError> {
    arguments.positional().ok_or_else(|| arguments.problem("bits", "missing"))?.parse()
}

/// A flag, which is true if it is not given.
fn flag(arguments: &mut Arguments<'_>, name: &'static str) -> Result<bool, ParseError> {
    arguments.optional(name).map_or(Ok(true), |text| text::number(name, text))
}

#[cfg(feature = "serde")]
impl TryFrom<String> for LevelTable {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

#[cfg(feature = "serde")]
impl From<LevelTable> for String {
    fn from(table: LevelTable) -> Self {
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for text in [
            "ternary",
            "nf2",
            "nf4",
            "nf8",
            "bitsandbytes-fp4",
            "dynamic",
            "dynamic-unsigned",
            "mxint8",
            "e4m3fn",
            "e5m2",
            "e2m1",
            "e3m4",
            "powers(4, base=2, signed=true, rounding=exponent)",
            "powers(3, base=sqrt2, signed=false, rounding=level)",
            "lloyd-max(gaussian, bits=3)",
            "lloyd-max(half-normal, bits=4)",
            "inq(4)",
            "apot(5, term-bits=2, signed=true)",
            "levels(0, -1, 2.5)",
        ] {
            let table: LevelTable = text.parse().unwrap();
            assert_eq!(table.to_string(), text);
            table.0.levels.assert_consistent();
            assert!(table.bottom() < table.top());
        }
        for text in
            ["nf1", "nf17", "e9", "levels(1)", "levels(1, 1)", "levels(nan, 1)", "powers", "inq(1)", "table"]
        {
            assert!(text.parse::<LevelTable>().is_err(), "{text}");
        }
    }

    #[test]
    fn mx_int8_codes_are_bytes_of_sixty_fourths() {
        let table = LevelTable::mx_int8();
        let code = |x: f64| table.0.levels.code(x);
        assert_eq!([code(1.0), code(-1.0), code(5.0), code(-5.0)], [64, 192, 127, 129]);
        // Ties to the even multiple.
        assert_eq!(
            [code(0.5 / 64.0), code(1.5 / 64.0), code(-0.5 / 64.0), code(-1.5 / 64.0)],
            [0, 2, 0, 254]
        );
    }
}
