//! Blocks of shared levels under searched two-level scales.
//!
//! The form is that of the block formats of ggml (its K-quants: a small integer scale for a few consecutive elements
//! under a floating-point one for many) and of QLoRA (Dettmers et al. 2023: a table of levels that fits the density of
//! weights), put together:
//!
//! ```text
//! r̃ᵢ = S · j_B · T[qᵢ],   j_B = −M, ..., M the integer scale of the block B that i is in, M = 2^(n−1) − 1
//! ```
//!
//! with codes q of b bits, scales j of n bits and one f32 number S for the tensor. What makes it good is the fit:
//!
//! 1. *Search.* For given S and T every j of either sign is tried for a block, each with the nearest levels, and the one
//!    of the least squared error stays. The error as a function of the scale has a minimum wherever a value changes its
//!    level, so that no formula for the scale comes near; and a table that is not symmetric serves a block better in
//!    one of its two orientations.
//! 2. *Outer scale.* S is one of `f · max|r| / (M · max|T|)`: a smaller f gives most blocks a finer choice of scales and
//!    clips the largest. Then, in turns with the search, the S of least squared error for given j and q,
//!    `S = Σ r y / Σ y²` with `y = j · T[q]`, as long as that is better (Hwang and Sung 2014).
//! 3. *Levels*, if they are to be learned: in turns with the search, the T of least squared error for given S, j and q,
//!    `T_k = Σ s r / Σ s²` over the elements of code k, `s = S · j` (Lloyd's centroids).

use core::fmt;

use crate::bits::BitWidth;
use crate::calibration::{Evidence, Region, Regions, Values};
use crate::element::{Element, FloatType, Real};
use crate::error::{ConfigError, DataError, Result};
use crate::kernel::levels::{LevelMaps, Ties};
use crate::kernel::multiples::{self, Found, LevelSums, Multiples};
use crate::kernel::pack;
use crate::parallel;
use crate::tensor::{
    AffineGrid, FloatArray, Grids, LevelGrid, LevelGrids, LevelScheme, LevelTable, Notes, PackedCodes,
    QuantizedTensor, Rounding, ScaleArray, ScaleStorage, Scheme, TwoLevel, TwoLevelScales, boundary,
};

use super::{Fit, Quantizer};

/// Blocks of shared levels under searched integer scales of either sign.
///
/// A region is a block: give it a granularity of few consecutive elements, 8 to 32. [`BlockFormat`](super::BlockFormat)
/// names combinations that do well at their size.
///
/// The scales of all blocks are fitted together, for rounding to the nearest with exact division (the default encoding).
/// Under another rounding or dialect the scales are the same and the codes follow from them. The squared error of a
/// tensor is never more than with scales that map the largest value of each block to the outermost level, rounded to
/// the same storage.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::tensor::LevelTable;
///
/// let weights = ndarray::Array2::from_shape_fn((64, 256), |(i, j)| ((i * 256 + j) as f32 * 0.7).sin());
/// let nf4: LevelTable = "nf4".parse()?;
/// let recipe = BlockSearch::new(nf4, BitWidth::new(7)?)?.granularity(PerSubChannel::new(Axis(0), 32)?);
/// let q = recipe.quantize(&weights)?;
/// // 4 bits of code, 7 bits for 32 elements, and 32 bits for the tensor.
/// assert_eq!(q.bits_per_element(), 4.0 + 7.0 / 32.0 + 32.0 / 16384.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// Time: for each element, multiples in reach of its block times levels, some vector instructions for 8 or 16 of these
/// products; once, and for each further outer scale, refinement and round of learning once more. Memory: a copy of the
/// tensor in the type of its arithmetic, and 24 bytes for each block.
///
/// # Errors
///
/// A single region is fitted as if it were the tensor; a histogram is
/// [`ConfigError::Conflict`](crate::ConfigError::Conflict), and so is a single region with learned levels.
/// [`DataError::ScaleStorage`] for values beyond the scales of f32.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSearch {
    table: LevelTable,
    scale_bits: BitWidth,
    outer_scales: usize,
    learned: Option<usize>,
}

/// Scales up to this share of the one that just holds the largest value of a block are tried: some blocks are served
/// best by inner levels.
const REACH: f64 = 2.0;
/// The most outer scales that are tried: those that hold 1, 0.9, ... of the largest value.
const MAX_OUTER_SCALES: usize = 9;
/// Refinements of the outer scale by least squares.
const REFINEMENTS: usize = 2;
/// Elements that a thread serves at once.
const CHUNK: usize = 1 << 13;
/// The most rounds of learning.
const MAX_ROUNDS: usize = 1000;

impl BlockSearch {
    /// The levels of `table` under scales of `scale_bits` bits, one of which is the sign.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for scales of one bit.
    pub fn new(table: LevelTable, scale_bits: BitWidth) -> Result<Self, ConfigError> {
        if scale_bits.get() < 2 {
            let (what, value) = ("bit width of a signed scale", scale_bits.get() as usize);
            return Err(ConfigError::TooSmall { what, value, min: 2 });
        }
        // Beyond three bits more outer scales gain less than 0.02 dB.
        let outer_scales = if table.bits().get() <= 3 { 7 } else { 1 };
        Ok(Self { table, scale_bits, outer_scales, learned: None })
    }

    /// How many outer scales are tried, those that hold 1, 0.9, 0.8, ... of the largest value; the best of several is
    /// refined by least squares. The default is 7 for tables of up to 3 bits, else 1, where more gain little.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for none, [`ConfigError::TooLarge`] for more than 9.
    pub fn outer_scales(mut self, count: usize) -> Result<Self, ConfigError> {
        let what = "outer scales to try";
        if count == 0 {
            return Err(ConfigError::TooSmall { what, value: count, min: 1 });
        }
        if count > MAX_OUTER_SCALES {
            return Err(ConfigError::TooLarge { what, value: count, max: MAX_OUTER_SCALES });
        }
        self.outer_scales = count;
        Ok(self)
    }

    /// Learns the levels from the tensor in at most `rounds` rounds, beginning with the table, and stores them with it
    /// as 2^b numbers of f16. The best levels of all rounds stay, so that they are never worse than the table in f16.
    ///
    /// The table must have 2^b levels; [`scheme`](Quantizer::scheme) reports one that has not.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooLarge`] for more than 1000 rounds.
    pub fn learned(mut self, rounds: usize) -> Result<Self, ConfigError> {
        if rounds > MAX_ROUNDS {
            return Err(ConfigError::TooLarge { what: "rounds of learning", value: rounds, max: MAX_ROUNDS });
        }
        self.learned = Some(rounds);
        Ok(self)
    }

    /// How the scales are stored.
    fn rule(&self) -> TwoLevel {
        TwoLevel::signed(self.scale_bits)
    }

    /// The levels to begin with.
    fn start(&self) -> SharedLevels {
        match self.learned {
            None => SharedLevels::Table(self.table.clone()),
            Some(_) => {
                let round = |level: f64| FloatType::F16.round(level / self.table.magnitude());
                SharedLevels::Own(self.table.chosen().map(round).collect())
            }
        }
    }

    /// The outer scale and the multiple of each block that fit `blocks` best, with the levels.
    fn search<T: Real>(&self, blocks: &Blocks<T>) -> Result<Option<State>> {
        let Some((largest, region)) = blocks.largest() else { return Ok(None) };
        let fit = Search { blocks, scale_bits: self.scale_bits, largest, region };
        let levels = self.start();
        let full = largest / (fit.multiples() * levels.magnitude());
        let mut best = fit.at(full, levels.clone())?;
        for tenths in 1..self.outer_scales {
            best = best.or_better(fit.at(full * (1.0 - tenths as f64 / 10.0), levels.clone())?);
        }
        if self.outer_scales > 1 {
            let mut last = best.clone();
            for _ in 0..REFINEMENTS {
                // The largest scale must stay finite.
                let most = f64::from(f32::MAX) / fit.multiples() * (1.0 - f64::from(f32::EPSILON));
                let outer = fit.sums(&last).outer(&last.levels).filter(|&outer| outer <= most);
                let Some(outer) = outer else { break };
                last = fit.at(outer, levels.clone())?;
                if last.error >= best.error {
                    break;
                }
                best = last.clone();
            }
        }
        let mut last = best.clone();
        for _ in 0..self.learned.unwrap_or(0) {
            let next = fit.sums(&last).levels(&last);
            if next == last.levels {
                break;
            }
            last = fit.at(last.outer.into(), next)?;
            best = best.or_better(last.clone());
        }
        Ok(Some(best))
    }

    fn grids_of<T: Real>(&self, regions: &Regions<'_, '_>) -> Result<LevelGrids> {
        let values = regions.map(|region| values_of::<T>(region))?;
        let blocks = Blocks::new(values);
        let found = self.search(&blocks)?;
        let (outer, multiples) = match &found {
            Some(state) => (state.outer, state.found.iter().map(|found| found.multiple).collect()),
            // Nothing but zeros.
            None => (1.0, vec![0; regions.len()]),
        };
        let levels = found.map_or_else(|| self.start(), |state| state.levels);
        Ok(LevelGrids::from_arrays(stored(self.rule(), outer, &multiples)?, levels.stored()))
    }
}

impl Quantizer for BlockSearch {
    fn scheme(&self) -> Result<Scheme> {
        let scales = ScaleStorage::TwoLevel(self.rule());
        let scheme = match self.learned {
            None => LevelScheme::new(self.table.clone()),
            Some(_) if self.table.chosen().count() as u64 == u64::from(self.table.bits().levels()) => {
                LevelScheme::learned(self.table.bits(), FloatType::F16)
            }
            Some(_) => {
                let setting = "learning";
                return Err(
                    ConfigError::Conflict { setting, to: "a table without a level for each code" }.into()
                );
            }
        };
        Ok(scheme.with_scales(scales).into())
    }

    fn fit(&self, region: &Region<'_>, _scheme: &Scheme) -> Result<Fit> {
        if self.learned.is_some() {
            let setting = "the fit of a single region";
            return Err(ConfigError::Conflict { setting, to: "levels that all regions share" }.into());
        }
        let scale = match region.evidence() {
            Evidence::Values(Values::F64(_)) => self.scale_alone::<f64>(region)?,
            _ => self.scale_alone::<f32>(region)?,
        };
        Ok(LevelGrid { scale }.into())
    }

    fn fit_all(
        &self,
        regions: &Regions<'_, '_>,
        _scheme: &Scheme,
        grids: &mut Grids,
        _notes: &mut Notes,
    ) -> Result<()> {
        *grids = match regions.tensor().element_type() {
            FloatType::F64 => self.grids_of::<f64>(regions)?.into(),
            _ => self.grids_of::<f32>(regions)?.into(),
        };
        Ok(())
    }
}

impl BlockSearch {
    /// The scale of a region that has an outer scale of its own.
    fn scale_alone<T: Real>(&self, region: &Region<'_>) -> Result<f64> {
        let found = self.search(&Blocks::<T>::new(vec![values_of(region)?]))?;
        let scale = |state: State| state.found.first().map(|found| state.outer * found.multiple as f32);
        // Zeros, or no values.
        Ok(found.and_then(scale).filter(|&scale| scale != 0.0).unwrap_or(1.0).into())
    }
}

/// The values of a region in the type of their arithmetic.
fn values_of<T: Real>(region: &Region<'_>) -> Result<Vec<T>> {
    match region.evidence() {
        Evidence::Values(Values::F32(values)) => Ok(values.iter().map(|&x| T::from_element(x)).collect()),
        Evidence::Values(Values::F64(values)) => Ok(values.iter().map(|&x| T::from_element(x)).collect()),
        Evidence::Histogram(_) => {
            let setting = "a histogram";
            Err(ConfigError::Conflict { setting, to: "a search on the values of blocks" }.into())
        }
    }
}

/// Two-level scales from their parts.
fn stored(rule: TwoLevel, outer: f32, multiples: &[i32]) -> Result<ScaleArray> {
    let (scheme, bits) = (rule.scheme()?, rule.bits());
    let mut grids = Grids::new(&scheme);
    grids.push(AffineGrid { scale: outer.into(), zero_point: 0.0 }.into())?;
    let mask = bits.levels() - 1;
    let fields: Vec<u16> = multiples.iter().map(|&multiple| (multiple as u32 & mask) as u16).collect();
    let mut bytes = vec![0; pack::packed_len(fields.len(), bits.get()).unwrap_or_default()];
    pack::pack(&fields, bits.get(), &mut bytes);
    let codes = PackedCodes::from_bytes(bits, scheme.codes(), fields.len(), bytes)?;
    let tiling = rule.tiling(fields.len())?;
    let scales = QuantizedTensor::new(scheme, tiling, grids, codes, FloatType::F32, None)?;
    Ok(ScaleArray::TwoLevel(TwoLevelScales::from_codes(rule, 0.0, scales)?))
}

/// The values of all blocks, one block after the other.
struct Blocks<T> {
    values: Vec<T>,
    /// Where each block ends.
    ends: Vec<usize>,
}

impl<T: Real> Blocks<T> {
    fn new(blocks: Vec<Vec<T>>) -> Self {
        let mut values = Vec::with_capacity(blocks.iter().map(Vec::len).sum());
        let mut ends = Vec::with_capacity(blocks.len());
        for block in blocks {
            values.extend(block);
            ends.push(values.len());
        }
        Self { values, ends }
    }

    /// The largest magnitude and its block, unless all values are zero.
    fn largest(&self) -> Option<(f64, usize)> {
        let mut largest = (T::zero(), 0);
        for (at, x) in self.values.iter().enumerate() {
            if x.abs() > largest.0 {
                largest = (x.abs(), at);
            }
        }
        let block = self.ends.partition_point(|&end| end <= largest.1);
        (largest.0 > T::zero()).then(|| (Element::to_f64(largest.0), block))
    }

    /// Blocks that a thread serves at once.
    fn per_chunk(&self) -> usize {
        (CHUNK * self.ends.len() / self.values.len().max(1)).max(1)
    }

    /// The values of the blocks from `first` on, `count` of them, and their ends.
    fn part(&self, first: usize, count: usize) -> (&[T], Vec<usize>) {
        let start = first.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let ends = self.ends.get(first..first + count).unwrap_or_default();
        let values = self.values.get(start..ends.last().copied().unwrap_or(start)).unwrap_or_default();
        (values, ends.iter().map(|end| end - start).collect())
    }
}

/// Levels of a table, or those that are being learned, ascending.
#[derive(Debug, Clone, PartialEq)]
enum SharedLevels {
    Table(LevelTable),
    Own(Vec<f64>),
}

impl SharedLevels {
    fn values(&self) -> Vec<f64> {
        match self {
            Self::Table(table) => table.chosen().collect(),
            Self::Own(levels) => levels.clone(),
        }
    }

    fn magnitude(&self) -> f64 {
        self.values().iter().fold(0.0, |most, level| level.abs().max(most))
    }

    /// The levels and cuts that the encoder will use.
    fn maps<T: Real>(&self) -> LevelMaps<T> {
        let mut maps = LevelMaps::default();
        match self {
            Self::Table(table) => {
                maps.reset(table.chosen().count());
                table.push_map(Rounding::NearestEven, &mut maps);
            }
            Self::Own(levels) => {
                let levels: Vec<T> = levels.iter().map(|&level| T::from_f64(level)).collect();
                maps.reset(levels.len());
                maps.push(&levels, boundary(Rounding::NearestEven, Ties::Low));
            }
        }
        maps
    }

    fn stored(&self) -> Option<FloatArray> {
        let Self::Own(levels) = self else { return None };
        let mut stored = FloatArray::new(FloatType::F16);
        levels.iter().for_each(|&level| stored.push(level));
        Some(stored)
    }
}

/// A fit of all blocks.
#[derive(Debug, Clone)]
struct State {
    outer: f32,
    levels: SharedLevels,
    found: Vec<Found>,
    error: f64,
}

impl State {
    fn or_better(self, other: Self) -> Self {
        if other.error < self.error { other } else { self }
    }
}

/// What fits of the same blocks have in common.
struct Search<'a, T> {
    blocks: &'a Blocks<T>,
    scale_bits: BitWidth,
    largest: f64,
    /// The block of the largest value.
    region: usize,
}

impl<T: Real> Search<'_, T> {
    /// M.
    fn multiples(&self) -> f64 {
        f64::from(self.scale_bits.levels() / 2 - 1)
    }

    fn common<'m>(&self, outer: f32, maps: &'m LevelMaps<T>) -> Multiples<'m, T> {
        // Near the ends of the type squares would leave it.
        let most = if T::TYPE == FloatType::F64 { 1000.0 } else { 126.0 };
        let unit = T::from_f64((-self.largest.log2().floor()).clamp(-most, most).exp2());
        Multiples { maps, outer, largest: self.scale_bits.levels() / 2 - 1, reach: REACH, unit }
    }

    /// The best multiples for an outer scale and levels.
    fn at(&self, outer: f64, levels: SharedLevels) -> Result<State> {
        let storage = ScaleStorage::TwoLevel(TwoLevel::signed(self.scale_bits));
        let stored = storage.store(outer) as f32;
        if !(stored > 0.0 && (stored * self.multiples() as f32).is_finite()) {
            let (scale, stored) = (outer * self.multiples(), f64::from(stored * self.multiples() as f32));
            return Err(DataError::ScaleStorage { region: self.region, scale, stored, storage }.into());
        }
        let maps = levels.maps::<T>();
        let common = self.common(stored, &maps);
        let per_chunk = self.blocks.per_chunk();
        let mut found = vec![Found::default(); self.blocks.ends.len()];
        let elements = self.blocks.values.len();
        let errors = parallel::map_chunks(
            &mut found,
            per_chunk,
            elements,
            || (),
            |(), chunk, found| {
                let (values, ends) = self.blocks.part(chunk * per_chunk, found.len());
                multiples::search(values, &ends, &common, found)
            },
        );
        Ok(State { outer: stored, levels, found, error: errors.iter().sum() })
    }

    /// The sums of each level for the codes of a fit.
    fn sums(&self, state: &State) -> LevelSums {
        let maps = state.levels.maps::<T>();
        let common = self.common(state.outer, &maps);
        let per_chunk = self.blocks.per_chunk();
        let chunks = self.blocks.ends.len().div_ceil(per_chunk);
        let parts = parallel::map_indices(
            chunks,
            self.blocks.values.len(),
            || (),
            |(), chunk| {
                let first = chunk * per_chunk;
                let found = state.found.get(first..).unwrap_or_default();
                let (values, ends) = self.blocks.part(first, per_chunk.min(found.len()));
                let mut sums = LevelSums::new(maps.levels.len());
                multiples::add_to_levels(values, &ends, &common, found, &mut sums);
                sums
            },
        );
        let mut all = LevelSums::new(maps.levels.len());
        parts.iter().for_each(|part| all.merge(part));
        all
    }
}

impl LevelSums {
    /// The outer scale of least squared error for the codes that the sums are of.
    fn outer(&self, levels: &SharedLevels) -> Option<f64> {
        let (mut cross, mut square) = (0.0, 0.0);
        for (level, (product, count)) in levels.values().iter().zip(self.product.iter().zip(&self.square)) {
            cross += level * product;
            square += level * level * count;
        }
        Some(cross / square).filter(|outer| *outer > 0.0 && outer.is_finite())
    }

    /// The levels of least squared error for the codes that the sums are of, as stored.
    fn levels(&self, state: &State) -> SharedLevels {
        let outer = f64::from(state.outer);
        let sums = self.product.iter().zip(&self.square);
        let mut levels: Vec<f64> = state
            .levels
            .values()
            .iter()
            .zip(sums)
            .map(|(&level, (product, square))| {
                let next = FloatType::F16.round(product / square / outer);
                if next.is_finite() { next } else { level }
            })
            .collect();
        levels.sort_by(f64::total_cmp);
        SharedLevels::Own(levels)
    }
}

/// `block-search(bits=4, scale-bits=7, table=nf4, outer-scales=1)`, and `learned=10` for learned levels.
impl fmt::Display for BlockSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, scale_bits, outer_scales, learned } = self;
        write!(f, "block-search(bits={}, scale-bits={scale_bits}, table={table}", table.bits())?;
        write!(f, ", outer-scales={outer_scales}")?;
        if let Some(rounds) = learned {
            write!(f, ", learned={rounds}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests;
