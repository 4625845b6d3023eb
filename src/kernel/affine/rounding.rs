//! From scaled values to integers: the roundings of the scalar reference.

use crate::element::{Element, FloatType, Real};

/// The nearest integer (ties to even) of a `v` of at most 2^21 in magnitude, as a float and as an
/// integer. Adding 1.5 · 2^23 (2^52) leaves no bits for a fraction, so the sum is rounded to an
/// integer, which stands in its low bits. `round_ties_even` would be a library call on baseline
/// x86-64, and a saturating cast would hold up vectorization.
#[inline(always)]
pub(in crate::kernel) fn nearest_even<T: Real>(v: T) -> (T, i32) {
    const MAGIC64: f64 = 6_755_399_441_055_744.0;
    const MAGIC32: f32 = 12_582_912.0;
    if T::TYPE == FloatType::F64 {
        let magic = <T as Element>::from_f64(MAGIC64);
        let sum = v + magic;
        (sum - magic, Element::to_f64(sum).to_bits() as i32)
    } else {
        let magic = <T as Element>::from_f32(MAGIC32);
        let sum = v + magic;
        (sum - magic, Element::to_f32(sum).to_bits().wrapping_sub(MAGIC32.to_bits()) as i32)
    }
}

/// The roundings as types. All start from the nearest integer and step by one where it lies on the
/// wrong side; the differences are exact, so 0.49999997 is not taken for a tie.
pub(super) trait Round {
    fn round<T: Real>(v: T) -> i32;
}
pub(super) struct NearestEven;
impl Round for NearestEven {
    #[inline(always)]
    fn round<T: Real>(v: T) -> i32 {
        nearest_even(v).1
    }
}
pub(super) struct NearestAway;
impl Round for NearestAway {
    #[inline(always)]
    fn round<T: Real>(v: T) -> i32 {
        let (near, integer) = nearest_even(v);
        let half = <T as Element>::from_f32(0.5);
        let up = v > T::zero() && v - near == half;
        let down = v < T::zero() && near - v == half;
        integer + i32::from(up) - i32::from(down)
    }
}
pub(super) struct Floor;
impl Round for Floor {
    #[inline(always)]
    fn round<T: Real>(v: T) -> i32 {
        let (near, integer) = nearest_even(v);
        integer - i32::from(near > v)
    }
}
pub(super) struct Ceil;
impl Round for Ceil {
    #[inline(always)]
    fn round<T: Real>(v: T) -> i32 {
        let (near, integer) = nearest_even(v);
        integer + i32::from(near < v)
    }
}
pub(super) struct TowardZero;
impl Round for TowardZero {
    #[inline(always)]
    fn round<T: Real>(v: T) -> i32 {
        let (near, integer) = nearest_even(v);
        let up = v < T::zero() && near < v;
        let down = v > T::zero() && near > v;
        integer + i32::from(up) - i32::from(down)
    }
}
