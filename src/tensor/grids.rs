//! The fitted values: one grid per region, as struct of arrays.

use std::collections::TryReserveError;

use half::{bf16, f16};

use crate::element::FloatType;
use crate::error::{ConfigError, DataError};

use super::code_range::CodeRange;
use super::scheme::{AffineGrid, AffineScheme, ClippingRange, Scheme, ZeroPointRule};

/// An array of real parameters in their storage type.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum FloatArray {
    /// IEEE binary64.
    F64(Vec<f64>),
    /// IEEE binary32.
    F32(Vec<f32>),
    /// IEEE binary16.
    F16(Vec<f16>),
    /// bfloat16.
    Bf16(Vec<bf16>),
}

/// Runs `$body` with `$values` bound to the vector of whichever variant `$array` is.
macro_rules! each_float {
    ($array:expr, $values:ident => $body:expr) => {
        match $array {
            FloatArray::F64($values) => $body,
            FloatArray::F32($values) => $body,
            FloatArray::F16($values) => $body,
            FloatArray::Bf16($values) => $body,
        }
    };
}

impl FloatArray {
    /// An empty array of a type.
    pub fn new(storage: FloatType) -> Self {
        match storage {
            FloatType::F64 => Self::F64(Vec::new()),
            FloatType::F32 => Self::F32(Vec::new()),
            FloatType::F16 => Self::F16(Vec::new()),
            FloatType::Bf16 => Self::Bf16(Vec::new()),
        }
    }

    /// The storage type.
    pub const fn storage(&self) -> FloatType {
        match self {
            Self::F64(_) => FloatType::F64,
            Self::F32(_) => FloatType::F32,
            Self::F16(_) => FloatType::F16,
            Self::Bf16(_) => FloatType::Bf16,
        }
    }

    /// The number of parameters.
    pub fn len(&self) -> usize {
        each_float!(self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parameter of region `index` (exact), if there is one.
    pub fn get(&self, index: usize) -> Option<f64> {
        each_float!(self, values => values.get(index).map(|&value| crate::element::Element::to_f64(value)))
    }

    /// All parameters, widened.
    pub fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Appends `value`, rounded to the storage type.
    pub fn push(&mut self, value: f64) {
        each_float!(self, values => values.push(crate::element::Element::from_f64(value)));
    }

    /// Appends the parameters of every `stride`-th region from `first`, `count` of them, to `out`.
    pub(crate) fn extend_into<T: crate::element::Real>(
        &self,
        first: usize,
        stride: usize,
        count: usize,
        out: &mut Vec<T>,
    ) {
        each_float!(self, values => out.extend(
            values.get(first..).unwrap_or_default().iter().step_by(stride.max(1)).take(count)
                .map(|&value| T::from_element(value))
        ));
    }

    /// Makes this an empty array of `storage`, keeping the allocation where the type stays.
    pub(crate) fn reset(&mut self, storage: FloatType) {
        if self.storage() == storage {
            each_float!(self, values => values.clear());
        } else {
            *self = Self::new(storage);
        }
    }

    fn try_reserve(&mut self, additional: usize) -> Result<(), TryReserveError> {
        each_float!(self, values => values.try_reserve(additional))
    }
}

/// An array of integer zero points in the type of their codes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum IntegerArray {
    /// For signed codes of up to 8 bits.
    I8(Vec<i8>),
    /// For unsigned codes of up to 8 bits.
    U8(Vec<u8>),
    /// For signed codes of 9 to 16 bits.
    I16(Vec<i16>),
    /// For unsigned codes of 9 to 16 bits.
    U16(Vec<u16>),
}

/// Runs `$body` with `$values` bound to the vector of whichever variant `$array` is.
macro_rules! each_integer {
    ($array:expr, $values:ident => $body:expr) => {
        match $array {
            IntegerArray::I8($values) => $body,
            IntegerArray::U8($values) => $body,
            IntegerArray::I16($values) => $body,
            IntegerArray::U16($values) => $body,
        }
    };
}

impl IntegerArray {
    /// An empty array in the narrowest type that holds any of `codes`.
    pub fn new(codes: CodeRange) -> Self {
        match (codes.is_signed(), codes.bits().get() <= 8) {
            (true, true) => Self::I8(Vec::new()),
            (false, true) => Self::U8(Vec::new()),
            (true, false) => Self::I16(Vec::new()),
            (false, false) => Self::U16(Vec::new()),
        }
    }

    /// Bits of one zero point.
    pub const fn bits(&self) -> u32 {
        match self {
            Self::I8(_) | Self::U8(_) => 8,
            Self::I16(_) | Self::U16(_) => 16,
        }
    }

    /// The number of zero points.
    pub fn len(&self) -> usize {
        each_integer!(self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The zero point of region `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<i32> {
        each_integer!(self, values => values.get(index).map(|&value| i32::from(value)))
    }

    /// Whether `value` is in the range of the type.
    fn holds(&self, value: f64) -> bool {
        let (low, high) = match self {
            Self::I8(_) => (f64::from(i8::MIN), f64::from(i8::MAX)),
            Self::U8(_) => (0.0, f64::from(u8::MAX)),
            Self::I16(_) => (f64::from(i16::MIN), f64::from(i16::MAX)),
            Self::U16(_) => (0.0, f64::from(u16::MAX)),
        };
        low <= value && value <= high
    }

    /// All zero points.
    pub fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Appends `value`, saturated to the type.
    pub fn push(&mut self, value: i32) {
        match self {
            Self::I8(values) => values.push(value.clamp(i8::MIN.into(), i8::MAX.into()) as i8),
            Self::U8(values) => values.push(value.clamp(0, u8::MAX.into()) as u8),
            Self::I16(values) => values.push(value.clamp(i16::MIN.into(), i16::MAX.into()) as i16),
            Self::U16(values) => values.push(value.clamp(0, u16::MAX.into()) as u16),
        }
    }

    fn same_type(&self, other: &Self) -> bool {
        core::mem::discriminant(self) == core::mem::discriminant(other)
    }

    fn reset(&mut self, codes: CodeRange) {
        let wanted = Self::new(codes);
        if self.same_type(&wanted) {
            each_integer!(self, values => values.clear());
        } else {
            *self = wanted;
        }
    }
}

/// The zero points of an affine tensor.
#[derive(Debug, Clone, PartialEq)]
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

/// Scales and zero points of an affine tensor, one per region, in the order of the tiling.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AffineGrids {
    scales: FloatArray,
    zero_points: ZeroPoints,
}

impl AffineGrids {
    /// No grids yet, in the storage that `scheme` declares.
    pub fn new(scheme: &AffineScheme) -> Self {
        let zero_points = match scheme.zero_point() {
            ZeroPointRule::Fixed(zero) => ZeroPoints::Fixed(zero),
            ZeroPointRule::Integer => ZeroPoints::Integer(IntegerArray::new(scheme.codes())),
            ZeroPointRule::Real => ZeroPoints::Real(FloatArray::new(scheme.storage())),
        };
        Self { scales: FloatArray::new(scheme.storage()), zero_points }
    }

    /// Grids from their arrays, as a file holds them. Whether they fit a scheme is checked where they meet it:
    /// by [`QuantizedTensor::new`](super::QuantizedTensor::new) and [`Frozen::new`](crate::Frozen::new).
    pub const fn from_arrays(scales: FloatArray, zero_points: ZeroPoints) -> Self {
        Self { scales, zero_points }
    }

    /// The scales.
    pub const fn scales(&self) -> &FloatArray {
        &self.scales
    }

    /// The zero points.
    pub const fn zero_points(&self) -> &ZeroPoints {
        &self.zero_points
    }

    /// The number of regions.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Whether there is no region.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Scale and zero point of region `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<AffineGrid> {
        let zero_point = match &self.zero_points {
            ZeroPoints::Fixed(zero) => *zero,
            ZeroPoints::Integer(values) => f64::from(values.get(index)?),
            ZeroPoints::Real(values) => values.get(index)?,
        };
        Some(AffineGrid { scale: self.scales.get(index)?, zero_point })
    }

    /// Appends the grid of the next region, rounded to storage.
    ///
    /// # Errors
    ///
    /// [`DataError::ScaleStorage`] or [`DataError::ZeroPointStorage`] where a parameter does not fit its
    /// storage type (a scale that becomes zero, infinite or NaN), [`DataError::ZeroPoint`] for another zero point
    /// than the fixed one, or one that is not an integer of its type. Nothing is appended then.
    pub fn push(&mut self, grid: AffineGrid) -> Result<(), DataError> {
        let (region, storage) = (self.len(), self.scales.storage());
        let stored = storage.round(grid.scale);
        if stored == 0.0 || !stored.is_finite() {
            return Err(DataError::ScaleStorage { region, scale: grid.scale, stored, storage });
        }
        let zero_point = grid.zero_point;
        match &mut self.zero_points {
            ZeroPoints::Fixed(fixed) if zero_point == *fixed => {}
            ZeroPoints::Integer(values) if zero_point.fract() == 0.0 && values.holds(zero_point) => {
                values.push(zero_point as i32);
            }
            ZeroPoints::Real(values) if values.storage().round(zero_point).is_finite() => {
                values.push(zero_point);
            }
            ZeroPoints::Real(_) => return Err(DataError::ZeroPointStorage { region, zero_point, storage }),
            ZeroPoints::Fixed(_) | ZeroPoints::Integer(_) => {
                return Err(DataError::ZeroPoint { region, zero_point });
            }
        }
        self.scales.push(grid.scale);
        Ok(())
    }

    /// Bits of all parameters.
    pub fn bits(&self) -> u64 {
        let scales = self.scales.len() as u64 * u64::from(self.scales.storage().bits());
        scales
            + match &self.zero_points {
                ZeroPoints::Fixed(_) => 0,
                ZeroPoints::Integer(values) => values.len() as u64 * u64::from(values.bits()),
                ZeroPoints::Real(values) => values.len() as u64 * u64::from(values.storage().bits()),
            }
    }

    /// Checks every parameter against `scheme`: scales finite and not zero (if `positive`, positive with a finite
    /// reciprocal), as many zero points as scales and of the declared type, integer zero points within the codes,
    /// real ones finite.
    pub(crate) fn check(&self, scheme: &AffineScheme, positive: bool) -> Result<(), ConfigError> {
        let rule = if positive { "positive, with a finite reciprocal" } else { "not zero" };
        let least = self.scales.storage().min_scale();
        for (index, scale) in self.scales.iter().enumerate() {
            if !scale.is_finite() || scale == 0.0 || (positive && scale < least) {
                return Err(ConfigError::Scale { index, scale, rule });
            }
        }
        let (q_min, q_max) = (scheme.codes().min(), scheme.codes().max());
        let bad_zero = |index, zero_point| ConfigError::ZeroPoint { index, zero_point, q_min, q_max };
        let conflict =
            ConfigError::Conflict { setting: "this kind of zero points", to: "the declared scheme" };
        match (&self.zero_points, scheme.zero_point()) {
            (ZeroPoints::Fixed(zero), ZeroPointRule::Fixed(declared)) if *zero == declared => Ok(()),
            (ZeroPoints::Integer(values), ZeroPointRule::Integer)
                if values.len() == self.len() && values.same_type(&IntegerArray::new(scheme.codes())) =>
            {
                match values.iter().enumerate().find(|&(_, zero)| !scheme.codes().contains(zero)) {
                    Some((index, zero)) => Err(bad_zero(index, f64::from(zero))),
                    None => Ok(()),
                }
            }
            (ZeroPoints::Real(values), ZeroPointRule::Real)
                if values.len() == self.len() && values.storage() == scheme.storage() =>
            {
                match values.iter().enumerate().find(|(_, zero)| !zero.is_finite()) {
                    Some((index, zero)) => Err(bad_zero(index, zero)),
                    None => Ok(()),
                }
            }
            _ => Err(conflict),
        }
    }

    fn reset(&mut self, scheme: &AffineScheme) {
        self.scales.reset(scheme.storage());
        match (&mut self.zero_points, scheme.zero_point()) {
            (ZeroPoints::Integer(values), ZeroPointRule::Integer) => values.reset(scheme.codes()),
            (ZeroPoints::Real(values), ZeroPointRule::Real) => values.reset(scheme.storage()),
            (zero_points, _) => *zero_points = Self::new(scheme).zero_points,
        }
    }
}

/// The grid of one region, in the representation of its scheme.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Grid {
    /// Scale and zero point.
    Affine(AffineGrid),
}

impl From<AffineGrid> for Grid {
    fn from(grid: AffineGrid) -> Self {
        Self::Affine(grid)
    }
}

/// The grids of all regions, in the representation of their scheme and the order of the tiling.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Grids {
    /// Scales and zero points.
    Affine(AffineGrids),
}

impl Grids {
    /// No grids yet, in the storage that `scheme` declares.
    pub fn new(scheme: &Scheme) -> Self {
        match scheme {
            Scheme::Affine(scheme) => Self::Affine(AffineGrids::new(scheme)),
        }
    }

    /// The number of regions.
    pub fn len(&self) -> usize {
        match self {
            Self::Affine(grids) => grids.len(),
        }
    }

    /// Whether there is no region.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The grid of region `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<Grid> {
        match self {
            Self::Affine(grids) => grids.get(index).map(Grid::Affine),
        }
    }

    /// Appends the grid of the next region, rounded to storage.
    ///
    /// # Errors
    ///
    /// As [`AffineGrids::push`].
    pub fn push(&mut self, grid: Grid) -> Result<(), DataError> {
        match (self, grid) {
            (Self::Affine(grids), Grid::Affine(grid)) => grids.push(grid),
        }
    }

    /// Bits of all parameters.
    pub fn bits(&self) -> u64 {
        match self {
            Self::Affine(grids) => grids.bits(),
        }
    }

    /// Makes this empty and of the storage that `scheme` declares, keeping allocations where possible.
    pub(crate) fn reset(&mut self, scheme: &Scheme, regions: usize) -> Result<(), TryReserveError> {
        match (self, scheme) {
            (Self::Affine(grids), Scheme::Affine(scheme)) => {
                grids.reset(scheme);
                grids.scales.try_reserve(regions)
            }
        }
    }

    pub(crate) fn check(&self, scheme: &Scheme, positive: bool) -> Result<(), ConfigError> {
        match (self, scheme) {
            (Self::Affine(grids), Scheme::Affine(scheme)) => {
                if grids.scales.storage() != scheme.storage() {
                    return Err(ConfigError::Conflict {
                        setting: "this storage type of scales",
                        to: "the declared scheme",
                    });
                }
                grids.check(scheme, positive)
            }
        }
    }

    /// The range of region `index` under `scheme`, if there is one.
    pub(crate) fn range(&self, scheme: &Scheme, index: usize) -> Option<ClippingRange> {
        match (self, scheme) {
            (Self::Affine(grids), Scheme::Affine(scheme)) => grids.get(index).map(|grid| scheme.range(grid)),
        }
    }
}
