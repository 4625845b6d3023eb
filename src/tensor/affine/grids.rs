//! Scales and zero points of an affine tensor.

use std::collections::TryReserveError;

use crate::error::{ConfigError, DataError};
use crate::tensor::arrays::{FloatArray, IntegerArray, clone_in_place};
use crate::tensor::grids::GridArrays;
use crate::tensor::places::{GridPlaces, ZeroPlaces, scale_places};
use crate::tensor::scales::ScaleArray;
use crate::tensor::scheme::ClippingRange;

use super::{AffineGrid, AffineScheme, BlockGrids, ZeroPointRule};

/// Grids that are found together.
const AT_ONCE: usize = 32;

/// The zero points of an affine tensor.
#[derive(Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum ZeroPoints {
    /// The same for every region, known from the scheme: no storage.
    Fixed(f64),
    /// One integer per region.
    Integer(IntegerArray),
    /// One real number per region.
    Real(FloatArray),
}

clone_in_place!(ZeroPoints { Fixed, Integer, Real });

/// Scales and zero points of an affine tensor, one per region, in the order of the tiling.
#[derive(Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AffineGrids {
    scales: ScaleArray,
    zero_points: ZeroPoints,
}

impl Clone for AffineGrids {
    fn clone(&self) -> Self {
        Self { scales: self.scales.clone(), zero_points: self.zero_points.clone() }
    }

    fn clone_from(&mut self, source: &Self) {
        self.scales.clone_from(&source.scales);
        self.zero_points.clone_from(&source.zero_points);
    }
}

impl AffineGrids {
    /// Grids from their arrays, as a file holds them. Whether they fit a scheme is checked where they meet it:
    /// by [`QuantizedTensor::new`](crate::QuantizedTensor::new) and [`Frozen::new`](crate::Frozen::new).
    pub fn from_arrays(scales: impl Into<ScaleArray>, zero_points: ZeroPoints) -> Self {
        Self { scales: scales.into(), zero_points }
    }

    /// The scales.
    pub const fn scales(&self) -> &ScaleArray {
        &self.scales
    }

    /// The zero points.
    pub const fn zero_points(&self) -> &ZeroPoints {
        &self.zero_points
    }

    /// Makes these the grids of `ranges` where there is a kernel for them; elsewhere, and on errors, `false`, and nothing
    /// has changed.
    pub(crate) fn fill(&mut self, scheme: &AffineScheme, ranges: &[ClippingRange]) -> bool {
        let Some(rule) = BlockGrids::new(scheme).filter(|_| self.scales.is_empty()) else { return false };
        let Some(mut places) = self.places(ranges.len()) else { return false };
        let (mut low, mut high) = ([0.0f64; AT_ONCE], [0.0f64; AT_ONCE]);
        let (mut scales, mut zeros) = ([0.0; AT_ONCE], [0; AT_ONCE]);
        for (step, ranges) in ranges.chunks(AT_ONCE).enumerate() {
            for ((low, high), range) in low.iter_mut().zip(&mut high).zip(ranges) {
                (*low, *high) = (range.low(), range.high());
            }
            let count = ranges.len();
            let zeros = &mut zeros[..if rule.has_zeros() { count } else { 0 }];
            if !rule.find(&low[..count], &high[..count], &mut scales[..count], zeros) {
                self.places(0);
                return false;
            }
            places.write(step * AT_ONCE, &scales[..count], zeros);
        }
        true
    }

    /// The places of the grids of `count` regions, which are all there are from now on; `None` for parameters that take
    /// more than writing numbers down.
    pub(crate) fn places(&mut self, count: usize) -> Option<GridPlaces<'_>> {
        let zeros = match &mut self.zero_points {
            ZeroPoints::Fixed(_) => None,
            ZeroPoints::Integer(values) => Some(ZeroPlaces::of(values, count)?),
            ZeroPoints::Real(_) => return None,
        };
        Some(GridPlaces { scales: scale_places(&mut self.scales, count)?, zeros })
    }
}

impl GridArrays for AffineGrids {
    type Scheme = AffineScheme;
    type Grid = AffineGrid;

    fn new(scheme: &AffineScheme) -> Self {
        let zero_points = match scheme.zero_point() {
            ZeroPointRule::Fixed(zero) => ZeroPoints::Fixed(zero),
            ZeroPointRule::Integer => ZeroPoints::Integer(IntegerArray::new(scheme.codes())),
            ZeroPointRule::Real => ZeroPoints::Real(FloatArray::new(scheme.zero_point_storage())),
        };
        Self { scales: ScaleArray::new(scheme.scales()), zero_points }
    }

    fn len(&self) -> usize {
        self.scales.len()
    }

    fn get(&self, index: usize) -> Option<AffineGrid> {
        let zero_point = match &self.zero_points {
            ZeroPoints::Fixed(zero) => *zero,
            ZeroPoints::Integer(values) => f64::from(values.get(index)?),
            ZeroPoints::Real(values) => values.get(index)?,
        };
        Some(AffineGrid { scale: self.scales.get(index)?, zero_point })
    }

    /// # Errors
    ///
    /// [`DataError::ScaleStorage`] or [`DataError::ZeroPointStorage`] where a parameter does not fit its
    /// storage type (a scale that becomes zero, infinite or NaN), [`DataError::ZeroPoint`] for another zero point
    /// than the fixed one, or one that is not an integer of its type.
    fn push(&mut self, grid: AffineGrid) -> Result<(), DataError> {
        self.scales.check_next(grid.scale)?;
        let region = self.scales.len();
        let zero_point = grid.zero_point;
        match &mut self.zero_points {
            ZeroPoints::Fixed(fixed) if zero_point == *fixed => {}
            ZeroPoints::Integer(values) if zero_point.fract() == 0.0 && values.holds(zero_point) => {
                values.push(zero_point as i32);
            }
            ZeroPoints::Real(values) if values.storage().round(zero_point).is_finite() => {
                values.push(zero_point);
            }
            ZeroPoints::Real(values) => {
                return Err(DataError::ZeroPointStorage { region, zero_point, storage: values.storage() });
            }
            ZeroPoints::Fixed(_) | ZeroPoints::Integer(_) => {
                return Err(DataError::ZeroPoint { region, zero_point });
            }
        }
        self.scales.push(grid.scale);
        Ok(())
    }

    fn finish(&mut self) -> crate::Result<()> {
        self.scales.finish()
    }

    fn bits(&self) -> u64 {
        self.scales.bits()
            + match &self.zero_points {
                ZeroPoints::Fixed(_) => 0,
                ZeroPoints::Integer(values) => values.len() as u64 * u64::from(values.bits()),
                ZeroPoints::Real(values) => values.len() as u64 * u64::from(values.storage().bits()),
            }
    }

    fn reset(&mut self, scheme: &AffineScheme, regions: usize) -> Result<(), TryReserveError> {
        self.scales.reset(scheme.scales());
        match (&mut self.zero_points, scheme.zero_point()) {
            (ZeroPoints::Integer(values), ZeroPointRule::Integer) => values.reset(scheme.codes()),
            (ZeroPoints::Real(values), ZeroPointRule::Real) => values.reset(scheme.zero_point_storage()),
            (zero_points, _) => *zero_points = Self::new(scheme).zero_points,
        }
        self.scales.try_reserve(regions)
    }

    /// Checks every parameter against `scheme`: scales usable, as many zero points as scales and of the declared type,
    /// integer zero points within the codes, real ones finite.
    fn check(&self, scheme: &AffineScheme, positive: bool) -> Result<(), ConfigError> {
        if self.scales.storage() != scheme.scales() {
            let setting = "this storage type of scales";
            return Err(ConfigError::Conflict { setting, to: "the declared scheme" });
        }
        self.scales.check(positive)?;
        let (q_min, q_max) = (scheme.codes().min(), scheme.codes().max());
        let bad_zero = |index, zero_point| ConfigError::ZeroPoint { index, zero_point, q_min, q_max };
        let conflict =
            ConfigError::Conflict { setting: "this kind of zero points", to: "the declared scheme" };
        match (&self.zero_points, scheme.zero_point()) {
            (ZeroPoints::Fixed(zero), ZeroPointRule::Fixed(declared)) if *zero == declared => Ok(()),
            (ZeroPoints::Integer(values), ZeroPointRule::Integer)
                if values.len() == self.scales.len()
                    && values.same_type(&IntegerArray::new(scheme.codes())) =>
            {
                match values.iter().enumerate().find(|&(_, zero)| !scheme.codes().contains(zero)) {
                    Some((index, zero)) => Err(bad_zero(index, f64::from(zero))),
                    None => Ok(()),
                }
            }
            (ZeroPoints::Real(values), ZeroPointRule::Real)
                if values.len() == self.scales.len() && values.storage() == scheme.zero_point_storage() =>
            {
                match values.iter().enumerate().find(|(_, zero)| !zero.is_finite()) {
                    Some((index, zero)) => Err(bad_zero(index, zero)),
                    None => Ok(()),
                }
            }
            _ => Err(conflict),
        }
    }

    fn range(&self, scheme: &AffineScheme, index: usize) -> Option<ClippingRange> {
        GridArrays::get(self, index).map(|grid| scheme.range(grid))
    }
}
