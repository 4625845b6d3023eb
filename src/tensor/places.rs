//! Places for the parameters of many regions, which threads fill in parts.

use crate::kernel::blocks::{ScalePlaces, split_places};
use crate::minifloat::Minifloat;

use super::arrays::{FloatArray, IntegerArray};
use super::scales::ScaleArray;

/// The places of `count` scales, which are all that `scales` holds from now on; `None` for a storage that takes more than
/// writing numbers down.
pub(crate) fn scale_places(scales: &mut ScaleArray, count: usize) -> Option<ScalePlaces<'_>> {
    Some(match scales {
        ScaleArray::Float(FloatArray::F32(values)) => ScalePlaces::F32(resized(values, count)),
        ScaleArray::Float(FloatArray::F16(values)) => ScalePlaces::F16(resized(values, count)),
        ScaleArray::Float(FloatArray::Bf16(values)) => ScalePlaces::Bf16(resized(values, count)),
        ScaleArray::Minifloat { format: Minifloat::E8M0, codes: IntegerArray::U8(codes) } => {
            ScalePlaces::Powers(resized(codes, count))
        }
        _ => return None,
    })
}

/// Places for zero points of codes of up to 8 bits.
pub(crate) enum ZeroPlaces<'a> {
    I8(&'a mut [i8]),
    U8(&'a mut [u8]),
}

impl<'a> ZeroPlaces<'a> {
    /// The places of `count` zero points, which are all that `zeros` holds from now on; `None` for wider codes.
    pub(crate) fn of(zeros: &'a mut IntegerArray, count: usize) -> Option<Self> {
        Some(match zeros {
            IntegerArray::I8(values) => Self::I8(resized(values, count)),
            IntegerArray::U8(values) => Self::U8(resized(values, count)),
            IntegerArray::I16(_) | IntegerArray::U16(_) => return None,
        })
    }

    /// Writes `zeros` from place `at` on.
    fn write(&mut self, at: usize, zeros: &[i32]) {
        match self {
            Self::I8(places) => {
                let places = places.get_mut(at..).unwrap_or_default();
                places.iter_mut().zip(zeros).for_each(|(to, &zero)| *to = zero as i8);
            }
            Self::U8(places) => {
                let places = places.get_mut(at..).unwrap_or_default();
                places.iter_mut().zip(zeros).for_each(|(to, &zero)| *to = zero as u8);
            }
        }
    }

    fn split_at(self, count: usize) -> (Self, Self) {
        match self {
            Self::I8(places) => split_places(places, count, Self::I8),
            Self::U8(places) => split_places(places, count, Self::U8),
        }
    }
}

/// Places for the grids of regions that follow each other.
pub(crate) struct GridPlaces<'a> {
    pub(crate) scales: ScalePlaces<'a>,
    /// Where each region has a zero point of its own.
    pub(crate) zeros: Option<ZeroPlaces<'a>>,
}

impl GridPlaces<'_> {
    /// Writes the grids of regions from place `at` on.
    pub(crate) fn write(&mut self, at: usize, scales: &[f32], zeros: &[i32]) {
        self.scales.write(at, scales);
        if let Some(places) = &mut self.zeros {
            places.write(at, zeros);
        }
    }

    /// The first `count` places, and those after them.
    pub(crate) fn split_at(self, count: usize) -> (Self, Self) {
        let (first, rest) = self.scales.split_at(count);
        let (zeros, others) = match self.zeros.map(|zeros| zeros.split_at(count)) {
            Some((zeros, others)) => (Some(zeros), Some(others)),
            None => (None, None),
        };
        (Self { scales: first, zeros }, Self { scales: rest, zeros: others })
    }
}

fn resized<T: Copy + Default>(values: &mut Vec<T>, count: usize) -> &mut [T] {
    values.resize(count, T::default());
    values
}
