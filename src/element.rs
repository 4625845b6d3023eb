//! Element types of tensors, and the two types in which their arithmetic is done.

use core::fmt;

use half::{bf16, f16};
use ndarray::{ArrayViewD, ArrayViewMutD};

use crate::names::named;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// The floating-point types that tensors hold and parameters are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum FloatType {
    /// IEEE binary64.
    F64,
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
}

impl FloatType {
    /// Bits of one element.
    pub const fn bits(self) -> u32 {
        match self {
            Self::F64 => 64,
            Self::F32 => 32,
            Self::F16 | Self::Bf16 => 16,
        }
    }

    /// The largest finite value.
    pub fn max_value(self) -> f64 {
        match self {
            Self::F64 => f64::MAX,
            Self::F32 => f64::from(f32::MAX),
            Self::F16 => f64::from(f16::MAX),
            Self::Bf16 => f64::from(bf16::MAX),
        }
    }

    /// The distance from 1 to the next larger value.
    pub fn epsilon(self) -> f64 {
        match self {
            Self::F64 => f64::EPSILON,
            Self::F32 => f64::from(f32::EPSILON),
            Self::F16 => f64::from(f16::EPSILON),
            Self::Bf16 => f64::from(bf16::EPSILON),
        }
    }

    /// `value` rounded once to this type, nearest-even; infinite where it overflows.
    pub fn round(self, value: f64) -> f64 {
        match self {
            Self::F64 => value,
            Self::F32 => f64::from(value as f32),
            Self::F16 => f64::from(f16::from_f32(to_odd(value))),
            Self::Bf16 => f64::from(bf16::from_f32(to_odd(value))),
        }
    }

    /// The largest value of this type that is not above the positive `value`.
    pub(crate) fn at_most(self, value: f64) -> f64 {
        let nearest = self.round(value);
        if nearest > value { self.next_down(nearest) } else { nearest }
    }

    /// The next smaller value of this type; `value` is a positive one of it.
    pub(crate) fn next_down(self, value: f64) -> f64 {
        match self {
            Self::F64 => value.next_down(),
            Self::F32 => f64::from((value as f32).next_down()),
            Self::F16 => f64::from(f16::from_bits(f16::from_f32(to_odd(value)).to_bits().saturating_sub(1))),
            Self::Bf16 => {
                f64::from(bf16::from_bits(bf16::from_f32(to_odd(value)).to_bits().saturating_sub(1)))
            }
        }
    }

    /// The smallest positive value of this type whose reciprocal is finite in the arithmetic
    /// that uses it: f64 for `F64`, f32 for the others. A smaller scale is raised to it.
    pub fn min_scale(self) -> f64 {
        match self {
            // The spacing of subnormals is far finer than the distance to the first value
            // with a finite reciprocal, so one step above 2^-1024 (2^-128) is enough.
            Self::F64 => f64::from_bits((1 << 50) + 1),
            Self::F32 => f64::from(f32::from_bits((1 << 21) + 1)),
            Self::F16 => f64::from(f16::from_bits(1)),
            Self::Bf16 => f64::from(bf16::from_bits((1 << 5) + 1)),
        }
    }

    /// The next larger type: half types become `F32`, `F32` becomes `F64`, `F64` has none.
    pub const fn wider(self) -> Option<Self> {
        match self {
            Self::F16 | Self::Bf16 => Some(Self::F32),
            Self::F32 => Some(Self::F64),
            Self::F64 => None,
        }
    }
}

named!(FloatType, "floating-point type", [F64 => "f64", F32 => "f32", F16 => "f16", Bf16 => "bf16"]);

/// An element of a tensor: `f32`, `f64`, [`half::f16`] or [`half::bf16`]. Sealed.
pub trait Element: Copy + Default + PartialOrd + fmt::Debug + Send + Sync + sealed::Sealed + 'static {
    /// The run-time name of this type.
    const TYPE: FloatType;
    /// The type of this element's arithmetic: `f64` for `f64`, `f32` for the others.
    type Real: Real;
    /// The value in f64, exact for all four types.
    fn to_f64(self) -> f64;
    /// `value` rounded once, nearest-even.
    fn from_f64(value: f64) -> Self;
    /// The value in f32: exact but for `f64`, which is rounded.
    fn to_f32(self) -> f32;
    /// `value` rounded once, nearest-even.
    fn from_f32(value: f32) -> Self;
    #[doc(hidden)]
    fn erase(view: ArrayViewD<'_, Self>) -> AnyView<'_>;
    #[doc(hidden)]
    fn erase_slice(slice: &[Self]) -> AnySlice<'_>;
    #[doc(hidden)]
    fn erase_mut(view: ArrayViewMutD<'_, Self>) -> AnyViewMut<'_>;
}

/// A view whose element type is known at run time.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub enum AnyView<'a> {
    F64(ArrayViewD<'a, f64>),
    F32(ArrayViewD<'a, f32>),
    F16(ArrayViewD<'a, f16>),
    Bf16(ArrayViewD<'a, bf16>),
}

/// A slice whose element type is known at run time.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub enum AnySlice<'a> {
    F64(&'a [f64]),
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

/// A mutable view whose element type is known at run time.
#[doc(hidden)]
#[derive(Debug)]
pub enum AnyViewMut<'a> {
    F64(ArrayViewMutD<'a, f64>),
    F32(ArrayViewMutD<'a, f32>),
    F16(ArrayViewMutD<'a, f16>),
    Bf16(ArrayViewMutD<'a, bf16>),
}

/// A type of arithmetic: `f32` or `f64`. Sealed.
pub trait Real: Element + num_traits::Float + num_traits::NumAssign {
    /// The value of `element` in this type.
    fn from_element<A: Element>(element: A) -> Self;
    /// This value in the type of an element, rounded once.
    fn to_element<A: Element>(self) -> A;
}

impl Real for f32 {
    fn from_element<A: Element>(element: A) -> Self {
        element.to_f32()
    }
    fn to_element<A: Element>(self) -> A {
        A::from_f32(self)
    }
}

impl Real for f64 {
    fn from_element<A: Element>(element: A) -> Self {
        element.to_f64()
    }
    fn to_element<A: Element>(self) -> A {
        A::from_f64(self)
    }
}

/// `value` in f32, cut off toward zero with the last bit set if anything was lost. Rounding the result to a type
/// of at most 22 significant bits gives what rounding `value` itself would; through the nearest f32 it would be
/// rounded twice.
fn to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    if back == value || value.is_nan() {
        return nearest;
    }
    let cut = if back.abs() > value.abs() { nearest.to_bits() - 1 } else { nearest.to_bits() };
    f32::from_bits(cut | 1)
}

macro_rules! element {
    ($type:ty, $name:ident, $real:ty, |$x:ident| $to64:expr, $from64:expr, $to32:expr, $from32:expr) => {
        impl Element for $type {
            const TYPE: FloatType = FloatType::$name;
            type Real = $real;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                let $x = self;
                $to64
            }
            #[inline(always)]
            fn from_f64($x: f64) -> Self {
                $from64
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                let $x = self;
                $to32
            }
            #[inline(always)]
            fn from_f32($x: f32) -> Self {
                $from32
            }
            fn erase(view: ArrayViewD<'_, Self>) -> AnyView<'_> {
                AnyView::$name(view)
            }
            #[inline(always)]
            fn erase_slice(slice: &[Self]) -> AnySlice<'_> {
                AnySlice::$name(slice)
            }
            fn erase_mut(view: ArrayViewMutD<'_, Self>) -> AnyViewMut<'_> {
                AnyViewMut::$name(view)
            }
        }
    };
}

element!(f32, F32, f32, |x| f64::from(x), x as f32, x, x);
element!(f64, F64, f64, |x| x, x, x as f32, f64::from(x));
element!(f16, F16, f32, |x| f64::from(x), f16::from_f32(to_odd(x)), f32::from(x), f16::from_f32(x));
element!(bf16, Bf16, f32, |x| f64::from(x), bf16::from_f32(to_odd(x)), f32::from(x), bf16::from_f32(x));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_scale_is_the_first_with_a_finite_reciprocal() {
        let f32_scale = FloatType::F32.min_scale() as f32;
        assert!((1.0 / f32_scale).is_finite());
        assert!((1.0 / f32::from_bits(f32_scale.to_bits() - 1)).is_infinite());
        let f64_scale = FloatType::F64.min_scale();
        assert!((1.0 / f64_scale).is_finite());
        assert!((1.0 / f64::from_bits(f64_scale.to_bits() - 1)).is_infinite());
        let bf16_scale = bf16::from_f64(FloatType::Bf16.min_scale());
        assert!((1.0 / f32::from(bf16_scale)).is_finite());
        assert!((1.0 / f32::from(bf16::from_bits(bf16_scale.to_bits() - 1))).is_infinite());
    }

    #[test]
    fn halves_are_rounded_once() {
        // Just above the middle between two halves, by less than an f32 can tell.
        for (value, f16_value, bf16_value) in [
            (1.0 + 2f64.powi(-11) + 2f64.powi(-30), 1.0 + 2f64.powi(-10), 1.0),
            (1.0 + 2f64.powi(-11) - 2f64.powi(-30), 1.0, 1.0),
            (1.0 + 2f64.powi(-8) + 2f64.powi(-40), 1.0 + 2f64.powi(-8), 1.0 + 2f64.powi(-7)),
            (1.0 + 2f64.powi(-8) - 2f64.powi(-40), 1.0 + 2f64.powi(-8), 1.0),
            (65520.0 - 1e-9, 65504.0, 65536.0),
            (65520.0, f64::INFINITY, 65536.0),
            (1e300, f64::INFINITY, f64::INFINITY),
            (f64::from_bits(1), 0.0, 0.0),
            (2f64.powi(-25) * (1.0 + 2f64.powi(-40)), 2f64.powi(-24), 2f64.powi(-25)),
        ] {
            for sign in [1.0, -1.0] {
                assert_eq!(FloatType::F16.round(sign * value), sign * f16_value, "{value:e}");
                assert_eq!(FloatType::Bf16.round(sign * value), sign * bf16_value, "{value:e}");
                assert_eq!(<f16 as Element>::from_f64(sign * value).to_f64(), sign * f16_value);
            }
        }
        assert!(FloatType::F16.round(f64::NAN).is_nan() && FloatType::Bf16.round(f64::NAN).is_nan());
    }

    #[test]
    fn names_round_trip() {
        for kind in [FloatType::F64, FloatType::F32, FloatType::F16, FloatType::Bf16] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("f8".parse::<FloatType>().is_err());
    }
}
