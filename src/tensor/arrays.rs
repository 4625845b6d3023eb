//! Arrays of parameters in their storage types.

use std::collections::TryReserveError;

use half::{bf16, f16};
use smallvec::SmallVec;

use crate::element::FloatType;
use crate::kernel::convert;

use super::code_range::CodeRange;

/// `Clone` of an enum whose variants hold one thing each: `clone_from` keeps the allocation where the variant stays.
macro_rules! clone_in_place {
    ($name:ident { $($variant:ident),* }) => {
        impl Clone for $name {
            fn clone(&self) -> Self {
                match self {
                    $(Self::$variant(inner) => Self::$variant(inner.clone()),)*
                }
            }

            fn clone_from(&mut self, source: &Self) {
                match (self, source) {
                    $((Self::$variant(to), Self::$variant(from)) => to.clone_from(from),)*
                    (to, from) => *to = from.clone(),
                }
            }
        }
    };
}
pub(super) use clone_in_place;

/// Parameters of the regions of a segment, as kernels read them. Those of one or two take no allocation.
pub(crate) type Parameters<T> = SmallVec<[T; 2]>;

/// Appends `count` times `value`. One region is what many calls are about, and takes a tenth of the time so.
pub(crate) fn repeat<T: Copy>(value: T, count: usize, out: &mut Parameters<T>) {
    if count == 1 {
        out.push(value);
    } else {
        out.resize(out.len() + count, value);
    }
}

/// An array of real parameters in their storage type.
#[derive(Debug, PartialEq)]
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

clone_in_place!(FloatArray { F64, F32, F16, Bf16 });

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

    /// The parameters of `count` regions from `first`, if they are stored one behind the other as `T`.
    pub(crate) fn slice<T: crate::element::Real>(
        &self,
        first: usize,
        stride: usize,
        count: usize,
    ) -> Option<&[T]> {
        let one_behind_the_other = stride <= 1 || count <= 1;
        let end = first.checked_add(count).filter(|_| one_behind_the_other)?;
        each_float!(self, values => convert::same(values.get(first..end)?))
    }

    /// Makes `out` hold the parameters of every `stride`-th region from `first`, `count` of them.
    pub(crate) fn copy_into<T: crate::element::Real>(
        &self,
        first: usize,
        stride: usize,
        count: usize,
        out: &mut Parameters<T>,
    ) {
        each_float!(self, values => {
            let values = values.get(first..).unwrap_or_default();
            if let (Some(&value), 1) = (values.first(), count) {
                out.clear();
                out.push(T::from_element(value));
            } else if stride <= 1 {
                // What is there already is written over, not filled first.
                let values = values.get(..count).unwrap_or(values);
                out.resize(values.len(), T::zero());
                convert::convert(values, out);
            } else {
                out.clear();
                out.extend(values.iter().step_by(stride).take(count).map(|&value| T::from_element(value)));
            }
        });
    }

    /// Makes this an empty array of `storage`, keeping the allocation where the type stays.
    pub(crate) fn reset(&mut self, storage: FloatType) {
        if self.storage() == storage {
            each_float!(self, values => values.clear());
        } else {
            *self = Self::new(storage);
        }
    }

    pub(crate) fn try_reserve(&mut self, additional: usize) -> Result<(), TryReserveError> {
        each_float!(self, values => values.try_reserve(additional))
    }
}

/// An array of integer zero points in the type of their codes.
#[derive(Debug, PartialEq, Eq)]
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

clone_in_place!(IntegerArray { I8, U8, I16, U16 });

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
    pub(crate) fn holds(&self, value: f64) -> bool {
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

    pub(crate) fn same_type(&self, other: &Self) -> bool {
        core::mem::discriminant(self) == core::mem::discriminant(other)
    }

    pub(crate) fn reset(&mut self, codes: CodeRange) {
        self.clear_for(&Self::new(codes));
    }

    /// Makes this an empty array of the type of `wanted`, keeping the allocation where the type stays.
    pub(crate) fn clear_for(&mut self, wanted: &Self) {
        if self.same_type(wanted) {
            each_integer!(self, values => values.clear());
        } else {
            *self = wanted.clone();
        }
    }

    pub(crate) fn try_reserve(&mut self, additional: usize) -> Result<(), TryReserveError> {
        each_integer!(self, values => values.try_reserve(additional))
    }
}
