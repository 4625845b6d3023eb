//! How the scales of regions are stored, and arrays of them.

mod storage;

use std::collections::TryReserveError;

use crate::element::{FloatType, Real};
use crate::error::{ConfigError, DataError};
use crate::minifloat::{Minifloat, Overflow};

use super::arrays::{FloatArray, IntegerArray, Parameters};
use super::two_level::TwoLevelScales;

pub use storage::{PowerBase, ScaleStorage};

/// The scales of all regions, as stored.
#[derive(Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum ScaleArray {
    /// Floating-point numbers.
    Float(FloatArray),
    /// Exponents of a base.
    Power {
        /// The base, as in the scheme.
        #[cfg_attr(feature = "serde", serde(with = "base_as_text"))]
        base: PowerBase,
        /// One exponent for each region.
        exponents: Vec<i16>,
    },
    /// Floating-point numbers of a few bits.
    Minifloat {
        /// Their format.
        format: Minifloat,
        /// One code for each region.
        codes: IntegerArray,
    },
    /// Codes under outer scales.
    TwoLevel(TwoLevelScales),
}

impl Clone for ScaleArray {
    fn clone(&self) -> Self {
        match self {
            Self::Float(values) => Self::Float(values.clone()),
            Self::Power { base, exponents } => Self::Power { base: *base, exponents: exponents.clone() },
            Self::Minifloat { format, codes } => Self::Minifloat { format: *format, codes: codes.clone() },
            Self::TwoLevel(scales) => Self::TwoLevel(scales.clone()),
        }
    }

    /// Keeps the allocation where the kind stays.
    fn clone_from(&mut self, source: &Self) {
        match (self, source) {
            (Self::Float(to), Self::Float(from)) => to.clone_from(from),
            (to, from) => *to = from.clone(),
        }
    }
}

impl ScaleArray {
    /// An empty array.
    pub fn new(storage: ScaleStorage) -> Self {
        match storage {
            ScaleStorage::Float(storage) => Self::Float(FloatArray::new(storage)),
            ScaleStorage::Power(base) => Self::Power { base, exponents: Vec::new() },
            ScaleStorage::Minifloat(format) => Self::Minifloat { format, codes: codes_of(format) },
            ScaleStorage::TwoLevel(rule) => Self::TwoLevel(TwoLevelScales::new(rule)),
        }
    }

    /// How the scales are stored.
    pub const fn storage(&self) -> ScaleStorage {
        match self {
            Self::Float(values) => ScaleStorage::Float(values.storage()),
            Self::Power { base, .. } => ScaleStorage::Power(*base),
            Self::Minifloat { format, .. } => ScaleStorage::Minifloat(*format),
            Self::TwoLevel(scales) => ScaleStorage::TwoLevel(scales.rule()),
        }
    }

    /// The number of regions.
    pub fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Power { exponents, .. } => exponents.len(),
            Self::Minifloat { codes, .. } => codes.len(),
            Self::TwoLevel(scales) => scales.values().len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The scale of region `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<f64> {
        match self {
            Self::Float(values) => values.get(index),
            Self::Power { base, exponents } => exponents.get(index).map(|&exponent| power(*base, exponent)),
            Self::Minifloat { format, codes } => {
                codes.get(index).map(|code| FloatType::F32.round(format.decode(code as u16)))
            }
            Self::TwoLevel(scales) => scales.values().get(index).map(|&scale| f64::from(scale)),
        }
    }

    /// All scales in order.
    pub fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The scales as floating-point numbers, if they are stored so.
    pub const fn as_float(&self) -> Option<&FloatArray> {
        match self {
            Self::Float(values) => Some(values),
            Self::Power { .. } | Self::Minifloat { .. } | Self::TwoLevel(_) => None,
        }
    }

    /// Bits of everything that is stored.
    pub fn bits(&self) -> u64 {
        match self {
            Self::Float(values) => values.len() as u64 * u64::from(values.storage().bits()),
            Self::Power { exponents, .. } => exponents.len() as u64 * 16,
            Self::Minifloat { codes, .. } => codes.len() as u64 * u64::from(codes.bits()),
            Self::TwoLevel(scales) => scales.bits(),
        }
    }

    /// Appends `scale`, rounded to storage. Two-level scales get their codes in [`finish`](Self::finish).
    pub(crate) fn push(&mut self, scale: f64) {
        match self {
            Self::Float(values) => values.push(scale),
            Self::Power { base, exponents } => exponents.push(base.nearest_exponent(scale) as i16),
            Self::Minifloat { format, codes } => {
                codes.push(format.encode(scale, Overflow::Saturate).unwrap_or_default().into());
            }
            Self::TwoLevel(scales) => scales.push(scale),
        }
    }

    /// The scales of `count` regions from `first`, if they are stored one behind the other as `T`.
    pub(crate) fn slice<T: Real>(&self, first: usize, stride: usize, count: usize) -> Option<&[T]> {
        self.as_float()?.slice(first, stride, count)
    }

    /// Makes `out` hold the scales of every `stride`-th region from `first`, `count` of them.
    pub(crate) fn copy_into<T: Real>(
        &self,
        first: usize,
        stride: usize,
        count: usize,
        out: &mut Parameters<T>,
    ) {
        let each = (first..).step_by(stride.max(1)).take(count);
        match self {
            Self::Float(values) => values.copy_into(first, stride, count, out),
            Self::Minifloat { format: Minifloat::E8M0, codes: IntegerArray::U8(codes) } => {
                let power = |&code: &u8| match code {
                    0 => f32::from_bits(1 << 22),
                    255 => f32::NAN,
                    _ => f32::from_bits(u32::from(code) << 23),
                };
                let codes = codes.get(first..).unwrap_or_default();
                if stride == 1 {
                    // A loop over vectors, of what is there already.
                    let codes = codes.get(..count).unwrap_or(codes);
                    out.resize(codes.len(), T::zero());
                    out.iter_mut().zip(codes).for_each(|(out, code)| *out = T::from_f32(power(code)));
                } else {
                    let codes = codes.iter().step_by(stride.max(1)).take(count);
                    out.clear();
                    out.extend(codes.map(power).map(T::from_f32));
                }
            }
            Self::Power { .. } | Self::Minifloat { .. } => {
                out.clear();
                out.extend(each.filter_map(|at| self.get(at)).map(T::from_element::<f64>))
            }
            Self::TwoLevel(scales) => {
                out.clear();
                out.extend(
                    each.filter_map(|at| scales.values().get(at)).map(|&scale| T::from_element(scale)),
                );
            }
        }
    }

    /// Chooses the codes of two-level scales, once all of them are known.
    pub(crate) fn finish(&mut self) -> crate::Result<()> {
        match self {
            Self::TwoLevel(scales) => scales.finish(),
            Self::Float(_) | Self::Power { .. } | Self::Minifloat { .. } => Ok(()),
        }
    }

    /// Makes this an empty array of `storage`, keeping the allocation where the kind stays.
    pub(crate) fn reset(&mut self, storage: ScaleStorage) {
        match (&mut *self, storage) {
            (Self::Float(values), ScaleStorage::Float(storage)) => values.reset(storage),
            (Self::Power { base, exponents }, ScaleStorage::Power(wanted)) => {
                *base = wanted;
                exponents.clear();
            }
            (Self::Minifloat { format, codes }, ScaleStorage::Minifloat(wanted)) => {
                *format = wanted;
                codes.clear_for(&codes_of(wanted));
            }
            _ => *self = Self::new(storage),
        }
    }

    pub(crate) fn try_reserve(&mut self, additional: usize) -> Result<(), TryReserveError> {
        match self {
            Self::Float(values) => values.try_reserve(additional),
            Self::Power { exponents, .. } => exponents.try_reserve(additional),
            Self::Minifloat { codes, .. } => codes.try_reserve(additional),
            Self::TwoLevel(scales) => scales.try_reserve(additional),
        }
    }

    /// Checks that every scale is usable: finite and not zero; if `positive`, positive with a finite reciprocal.
    /// Two-level scales may be zero, which decodes to zeros.
    pub(crate) fn check(&self, positive: bool) -> Result<(), ConfigError> {
        if let Self::TwoLevel(scales) = self {
            return scales.check();
        }
        let rule = if positive { "positive, with a finite reciprocal" } else { "not zero" };
        let least = self.storage().min_scale();
        for (index, scale) in self.iter().enumerate() {
            if !scale.is_finite() || scale == 0.0 || (positive && scale < least) {
                return Err(ConfigError::Scale { index, scale, rule });
            }
        }
        Ok(())
    }

    /// The error for a scale of the next region that its storage cannot hold: it would become zero, infinite or NaN.
    /// Two-level scales may be zero.
    pub(crate) fn check_next(&self, scale: f64) -> Result<(), DataError> {
        let (region, storage) = (self.len(), self.storage());
        let stored = storage.round(scale);
        let vanished = stored == 0.0 && !(scale == 0.0 && matches!(self, Self::TwoLevel(_)));
        if vanished || !stored.is_finite() {
            return Err(DataError::ScaleStorage { region, scale, stored, storage });
        }
        Ok(())
    }
}

impl From<FloatArray> for ScaleArray {
    fn from(values: FloatArray) -> Self {
        Self::Float(values)
    }
}

/// An empty array for the codes of a format.
const fn codes_of(format: Minifloat) -> IntegerArray {
    if format.bits() <= 8 { IntegerArray::U8(Vec::new()) } else { IntegerArray::U16(Vec::new()) }
}

/// `base^exponent` as it is used.
fn power(base: PowerBase, exponent: i16) -> f64 {
    FloatType::F32.round(base.power(exponent.into()))
}

#[cfg(feature = "serde")]
mod base_as_text {
    use super::PowerBase;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(base: &PowerBase, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(base)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PowerBase, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
