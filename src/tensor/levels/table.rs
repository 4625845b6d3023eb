//! Tables of levels that regions share.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::error::{ConfigError, ParseError};
use crate::kernel::levels::{Boundary, Ties};
use crate::names;
use crate::tensor::Rounding;
use crate::text;

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
    values: Vec<f64>,
    nearest: Boundary,
    top: f64,
    bottom: f64,
}

impl LevelTable {
    /// A table under a name that [`FromStr`] reads; at least one value is finite and not zero.
    pub(crate) fn named(name: String, values: Vec<f64>, nearest: Boundary) -> Self {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let (top, bottom) =
            (finite().fold(f64::NEG_INFINITY, f64::max), finite().fold(f64::INFINITY, f64::min));
        Self(Arc::new(Table { name, values, nearest, top, bottom }))
    }

    /// The levels −1, 0 and 1.
    pub fn ternary() -> Self {
        Self::named("ternary".to_owned(), vec![-1.0, 0.0, 1.0], Boundary::Midpoint(Ties::Away))
    }

    /// Levels of one's own, in the order of their codes. A value half way between two levels gets the lower one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Levels`] unless there are 2 to 65536 levels, all finite and not all the same, at most the
    /// largest f32 in magnitude.
    pub fn given(values: impl IntoIterator<Item = f64>) -> Result<Self, ConfigError> {
        let values: Vec<f64> = values.into_iter().collect();
        let usable = |value: &f64| value.abs() <= f64::from(f32::MAX);
        let distinct = values.iter().any(|value| Some(value) != values.first());
        if !(2..=1 << BitWidth::MAX).contains(&values.len()) || !values.iter().all(usable) || !distinct {
            let bad = values.iter().copied().find(|value| !usable(value));
            return Err(ConfigError::Levels { count: values.len(), bad });
        }
        let list: Vec<String> = values.iter().map(f64::to_string).collect();
        Ok(Self::named(format!("levels({})", list.join(", ")), values, Boundary::Midpoint(Ties::Low)))
    }

    /// The value of each code. Those that are not finite are never chosen for a value.
    pub fn values(&self) -> &[f64] {
        &self.0.values
    }

    /// The number of codes.
    pub fn len(&self) -> usize {
        self.0.values.len()
    }

    /// Whether there are no codes: never.
    pub fn is_empty(&self) -> bool {
        self.0.values.is_empty()
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

    /// The first code whose value is NaN, if there is one.
    pub fn nan(&self) -> Option<u16> {
        self.0.values.iter().position(|value| value.is_nan()).map(|code| code as u16)
    }

    /// The boundaries for a rounding. [`Rounding::NearestEven`] is the table's own rule.
    pub(crate) fn boundary(&self, rounding: Rounding) -> Boundary {
        match rounding {
            Rounding::NearestEven => self.0.nearest,
            other => boundary(other, Ties::Low),
        }
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
            "levels" => {
                let mut values = Vec::new();
                while let Some(value) = arguments.positional() {
                    values.push(text::number("level", value)?);
                }
                Self::given(values)?
            }
            name => return Err(names::unknown("level table", name, &["ternary", "levels(..)"])),
        };
        arguments.finish()?;
        Ok(table)
    }
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
