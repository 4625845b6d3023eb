//! Levels that all regions share, and a scale for each: `r̃ = S · level[q]`.

mod block_scales;
mod density;
mod rule;
mod table;

use core::fmt;
use std::collections::TryReserveError;

use crate::bits::BitWidth;
use crate::element::FloatType;
use crate::error::{ConfigError, DataError};

use super::arrays::FloatArray;
use super::code_range::CodeRange;
use super::grids::GridArrays;
use super::places::{GridPlaces, scale_places};
use super::scales::{ScaleArray, ScaleStorage};
use super::scheme::ClippingRange;

pub(crate) use block_scales::BlockScales;
pub use density::LevelDensity;
pub use rule::ScaleRule;
pub(crate) use table::boundary;
pub use table::{LevelTable, LogRounding};

/// Which levels the regions of a tensor share.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Levels {
    /// Those of a table that is known beforehand, which costs no storage.
    Table(LevelTable),
    /// Some found in the tensor and stored with it, once: 2^b numbers of a type.
    Learned(FloatType),
}

/// Shared levels under a scale for each region: the value of code `q` is `r̃ = S · level[q]`.
///
/// Codes count from 0 in the order of the table. The range `[α, β]` has the scale `max(|α|, |β|) / top`, where `top` is
/// the largest magnitude of a level, so that the outermost level is the end of the range; or that of another
/// [`ScaleRule`]. A range of zero has the scale 1, or the smallest one where no level is zero; and 0 where scales are
/// quantized themselves, so that it does not count among these.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "LevelSchemeParts", into = "LevelSchemeParts"))]
pub struct LevelScheme {
    bits: BitWidth,
    levels: Levels,
    scales: ScaleStorage,
    rule: ScaleRule,
}

impl LevelScheme {
    /// The levels of a table, with f32 scales. Codes are of the narrowest width that holds them.
    pub fn new(table: LevelTable) -> Self {
        let scales = FloatType::F32.into();
        Self { bits: table.bits(), levels: Levels::Table(table), scales, rule: ScaleRule::EndOfRange }
    }

    /// 2^b levels that are found in the tensor and stored in `storage`, with f32 scales.
    pub const fn learned(bits: BitWidth, storage: FloatType) -> Self {
        let scales = ScaleStorage::Float(FloatType::F32);
        Self { bits, levels: Levels::Learned(storage), scales, rule: ScaleRule::EndOfRange }
    }

    /// The same levels with scales stored in another way.
    pub const fn with_scales(mut self, storage: ScaleStorage) -> Self {
        self.scales = storage;
        self
    }

    /// The same levels with scales by another rule.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Conflict`] for a shared exponent of levels that are not those of a minifloat or of MXINT8, and for
    /// a rule on levels that are found in the tensor.
    pub fn with_rule(mut self, rule: ScaleRule) -> Result<Self, ConfigError> {
        let fits = match rule {
            ScaleRule::EndOfRange => true,
            ScaleRule::SharedExponent(_) => self.table().is_some_and(|table| table.element().is_some()),
            ScaleRule::NearestPowerOfTwo | ScaleRule::One => self.table().is_some(),
        };
        if !fits {
            return Err(ConfigError::Conflict { setting: "this rule of scales", to: "these levels" });
        }
        self.rule = rule;
        Ok(self)
    }

    /// The stored width of a code.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    /// The codes in use: from 0 on, one for each level.
    pub fn codes(&self) -> CodeRange {
        match &self.levels {
            Levels::Table(table) => {
                CodeRange::new(0, table.len() as i32 - 1).unwrap_or(CodeRange::unsigned(self.bits))
            }
            Levels::Learned(_) => CodeRange::unsigned(self.bits),
        }
    }

    /// The levels.
    pub const fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The table, if the levels are known beforehand.
    pub const fn table(&self) -> Option<&LevelTable> {
        match &self.levels {
            Levels::Table(table) => Some(table),
            Levels::Learned(_) => None,
        }
    }

    /// How scales are stored.
    pub const fn scales(&self) -> ScaleStorage {
        self.scales
    }

    /// How the scale of a region follows from its range.
    pub const fn rule(&self) -> ScaleRule {
        self.rule
    }

    /// The range that a region of scale 1 covers.
    fn unit(&self) -> (f64, f64) {
        // Learned levels are normalized to 1.
        self.table().map_or((-1.0, 1.0), |table| (table.bottom(), table.top()))
    }

    /// The grid of the range `[α, β]` in region `region` (which only the errors name).
    ///
    /// Of a range up to the largest number of the arithmetic, the outermost level may lie beyond it: a smaller scale
    /// keeps it finite.
    ///
    /// # Errors
    ///
    /// [`DataError::ScaleStorage`] where the scale does not fit its storage.
    pub fn grid(&self, range: ClippingRange, region: usize) -> Result<LevelGrid, DataError> {
        let (bottom, top) = self.unit();
        // Levels of one sign cover that side of the range alone.
        let magnitude = if bottom >= 0.0 {
            range.high().max(0.0)
        } else if top <= 0.0 {
            (-range.low()).max(0.0)
        } else {
            range.magnitude()
        };
        let top = bottom.abs().max(top.abs());
        let element = self.table().and_then(LevelTable::element);
        let Some(mut scale) = self.rule.scale(magnitude, top, element) else {
            return Ok(LevelGrid { scale: self.scale_of_zeros() });
        };
        let limit = self.scales.arithmetic().max_value();
        let limited = magnitude <= limit && self.rule != ScaleRule::One;
        if limited && self.rule != ScaleRule::EndOfRange && scale * top > limit {
            // Scales of these rules are powers of two.
            scale /= 2.0;
        }
        let mut stored = self.scales.store(scale);
        if !(stored > 0.0 && stored.is_finite()) {
            return Err(DataError::ScaleStorage { region, scale, stored, storage: self.scales });
        }
        if limited {
            stored = stored.min(self.scales.at_most(limit / top));
        }
        Ok(LevelGrid { scale: stored })
    }

    /// The scale of a region of zeros: that of the storage, but the smallest one where no level is zero, so that zeros
    /// come back as near to it as scales allow.
    fn scale_of_zeros(&self) -> f64 {
        let scale = self.scales.of_zeros();
        let holds_zero = |table: &LevelTable| table.chosen().any(|level| level == 0.0);
        if self.table().is_none_or(holds_zero) { scale } else { scale.min(self.scales.min_scale()) }
    }

    /// Checks a scale that the user gives for region `index`.
    pub(crate) fn check_grid(&self, index: usize, grid: LevelGrid) -> Result<(), ConfigError> {
        let stored = self.scales.round(grid.scale);
        if stored >= self.scales.min_scale() && stored.is_finite() {
            return Ok(());
        }
        let rule = "positive, with a finite reciprocal, in its storage type";
        Err(ConfigError::Scale { index, scale: grid.scale, rule })
    }

    /// The range `[α, β]` that the levels cover at a scale.
    pub fn range(&self, grid: LevelGrid) -> ClippingRange {
        let (bottom, top) = self.unit();
        let at = |level: f64| (grid.scale * level).clamp(-f64::MAX, f64::MAX);
        let (a, b) = (at(bottom), at(top));
        ClippingRange::new(a.min(b), a.max(b)).unwrap_or(ClippingRange::ZERO)
    }

    /// A range whose grid has this scale: the range that the levels cover, where it is one.
    pub(crate) fn range_of_scale(&self, scale: f64) -> ClippingRange {
        let (bottom, top) = self.unit();
        let share = self.rule.magnitude(scale, bottom.abs().max(top.abs()));
        match self.rule {
            ScaleRule::SharedExponent(_) => {
                let low = if bottom < 0.0 { -share } else { 0.0 };
                ClippingRange::between(low, if top > 0.0 { share } else { 0.0 })
            }
            _ => self.range(LevelGrid { scale }),
        }
    }

    /// The scheme with its scales in the next larger type, if there is one.
    pub fn widened(&self) -> Option<Self> {
        Some(Self { scales: self.scales.wider()?, ..self.clone() })
    }
}

/// `nf4 levels, 4-bit codes, f32 scales`
impl fmt::Display for LevelScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.levels {
            Levels::Table(table) => write!(f, "{table} levels, ")?,
            Levels::Learned(storage) => write!(f, "shared {storage} levels, ")?,
        }
        write!(f, "{}-bit codes, {} scales", self.bits, self.scales)?;
        if self.rule != ScaleRule::EndOfRange {
            write!(f, " by {}", self.rule)?;
        }
        Ok(())
    }
}

/// The fields of a [`LevelScheme`] before they are validated.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct LevelSchemeParts {
    bits: BitWidth,
    levels: Levels,
    scales: ScaleStorage,
    #[serde(default, skip_serializing_if = "is_default")]
    rule: ScaleRule,
}

#[cfg(feature = "serde")]
fn is_default(rule: &ScaleRule) -> bool {
    *rule == ScaleRule::default()
}

#[cfg(feature = "serde")]
impl TryFrom<LevelSchemeParts> for LevelScheme {
    type Error = ConfigError;

    fn try_from(parts: LevelSchemeParts) -> Result<Self, ConfigError> {
        let LevelSchemeParts { bits, levels, scales, rule } = parts;
        if let Levels::Table(table) = &levels
            && table.bits() != bits
        {
            return Err(ConfigError::Conflict { setting: "another width of codes", to: "this level table" });
        }
        Self { bits, levels, scales, rule: ScaleRule::EndOfRange }.with_rule(rule)
    }
}

#[cfg(feature = "serde")]
impl From<LevelScheme> for LevelSchemeParts {
    fn from(scheme: LevelScheme) -> Self {
        let LevelScheme { bits, levels, scales, rule } = scheme;
        Self { bits, levels, scales, rule }
    }
}

/// The scale of one region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelGrid {
    /// The factor S of every level.
    pub scale: f64,
}

/// The scales of a tensor's regions, in the order of the tiling, and its levels if they were found in it.
#[derive(Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LevelGrids {
    levels: Option<FloatArray>,
    scales: ScaleArray,
}

impl Clone for LevelGrids {
    fn clone(&self) -> Self {
        Self { levels: self.levels.clone(), scales: self.scales.clone() }
    }

    fn clone_from(&mut self, source: &Self) {
        self.levels.clone_from(&source.levels);
        self.scales.clone_from(&source.scales);
    }
}

impl LevelGrids {
    /// Grids from their arrays. `levels` are those of a scheme that stores them, in the order of codes. Whether they
    /// fit a scheme is checked where they meet it.
    pub fn from_arrays(scales: impl Into<ScaleArray>, levels: Option<FloatArray>) -> Self {
        Self { levels, scales: scales.into() }
    }

    /// The scales.
    pub const fn scales(&self) -> &ScaleArray {
        &self.scales
    }

    /// The levels that are stored with the tensor, in the order of codes.
    pub const fn levels(&self) -> Option<&FloatArray> {
        self.levels.as_ref()
    }

    /// Replaces the levels that are stored with the tensor by `levels`, which ascend. Where there are fewer, the last
    /// one is repeated.
    pub(crate) fn set_levels(&mut self, levels: &[f64]) -> Result<(), DataError> {
        let Some(stored) = &mut self.levels else { return Ok(()) };
        let (count, storage) = (stored.len(), stored.storage());
        let bad = |level: &f64| !storage.round(*level).is_finite();
        let wrong =
            levels.iter().position(bad).or((levels.is_empty() || levels.len() > count).then_some(count));
        if let Some(code) = wrong {
            let level = levels.get(code).copied().unwrap_or(f64::NAN);
            return Err(DataError::Level { region: 0, code, level, storage });
        }
        stored.reset(storage);
        let last = levels.last().copied().unwrap_or_default();
        levels
            .iter()
            .copied()
            .chain(core::iter::repeat(last))
            .take(count)
            .for_each(|level| stored.push(level));
        Ok(())
    }

    /// The places of the scales of `count` regions, which are all there are from now on; `None` for scales that take more
    /// than writing numbers down.
    pub(crate) fn places(&mut self, count: usize) -> Option<GridPlaces<'_>> {
        Some(GridPlaces { scales: scale_places(&mut self.scales, count)?, zeros: None })
    }

    /// The value of each code for a scale of 1.
    pub(crate) fn values<'a>(&'a self, scheme: &'a LevelScheme) -> impl Iterator<Item = f64> + 'a {
        let stored = self.levels.iter().flat_map(FloatArray::iter);
        let known = scheme.table().into_iter().flat_map(|table| table.values().iter().copied());
        stored.chain(known)
    }
}

impl GridArrays for LevelGrids {
    type Scheme = LevelScheme;
    type Grid = LevelGrid;

    fn new(scheme: &LevelScheme) -> Self {
        let levels = match scheme.levels {
            Levels::Table(_) => None,
            Levels::Learned(storage) => Some(uniform(storage, scheme.bits)),
        };
        Self { levels, scales: ScaleArray::new(scheme.scales) }
    }

    fn len(&self) -> usize {
        self.scales.len()
    }

    fn get(&self, index: usize) -> Option<LevelGrid> {
        Some(LevelGrid { scale: self.scales.get(index)? })
    }

    fn push(&mut self, grid: LevelGrid) -> Result<(), DataError> {
        self.scales.check_next(grid.scale)?;
        self.scales.push(grid.scale);
        Ok(())
    }

    fn finish(&mut self) -> crate::Result<()> {
        self.scales.finish()
    }

    fn bits(&self) -> u64 {
        let levels = self.levels.as_ref();
        let levels = levels.map_or(0, |levels| levels.len() as u64 * u64::from(levels.storage().bits()));
        levels + self.scales.bits()
    }

    fn reset(&mut self, scheme: &LevelScheme, regions: usize) -> Result<(), TryReserveError> {
        match (scheme.levels(), &mut self.levels) {
            (Levels::Table(_), levels) => *levels = None,
            (Levels::Learned(storage), levels) => *levels = Some(uniform(*storage, scheme.bits)),
        }
        self.scales.reset(scheme.scales);
        self.scales.try_reserve(regions)
    }

    fn check(&self, scheme: &LevelScheme, positive: bool) -> Result<(), ConfigError> {
        let conflict = |setting| Err(ConfigError::Conflict { setting, to: "the declared scheme" });
        if self.scales.storage() != scheme.scales {
            return conflict("this storage of scales");
        }
        match (&self.levels, &scheme.levels) {
            (None, Levels::Table(_)) => {}
            (Some(levels), Levels::Learned(storage))
                if levels.storage() == *storage && levels.len() as u64 == u64::from(scheme.bits.levels()) =>
            {
                super::codebook::check_finite(levels)?;
            }
            _ => return conflict("this kind of levels"),
        }
        self.scales.check(positive)
    }

    fn range(&self, scheme: &LevelScheme, index: usize) -> Option<ClippingRange> {
        let Some(levels) = &self.levels else { return Some(scheme.range(self.get(index)?)) };
        let scale = self.scales.get(index)?;
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in levels.iter().map(|level| scale * level) {
            (low, high) = (low.min(value), high.max(value));
        }
        ClippingRange::new(low, high).ok()
    }
}

/// Evenly spaced levels from −1 to 1: what a scheme with learned levels has before any are found.
fn uniform(storage: FloatType, bits: BitWidth) -> FloatArray {
    let steps = f64::from(bits.levels() - 1);
    let mut levels = FloatArray::new(storage);
    (0..bits.levels()).for_each(|code| levels.push(f64::from(code) / steps * 2.0 - 1.0));
    levels
}
