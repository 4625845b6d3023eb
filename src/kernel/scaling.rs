//! From values to the scale of their codes, in the ways that loops have.
#![allow(unsafe_code)] // parameters behind pointers

use super::vector::Vector;

/// How values are brought to the scale of their codes.
pub(super) trait Scaling<V: Vector>: Copy {
    /// Whether it takes so little that loops wait for the second-level cache.
    const LIGHT: bool = false;

    /// Whether values have parameters of their own.
    const EACH: bool = false;

    /// The scaled `x`, which are the values from `at` on.
    ///
    /// # Safety
    ///
    /// There are parameters for them.
    unsafe fn scaled(self, v: V, x: V::Floats, at: usize) -> V::Floats;
}

/// A scaling by single numbers, which all values share.
pub(super) trait Scalars: Copy {
    /// Whether values are moved by a zero point.
    const MOVED: bool = false;

    /// The same by vectors.
    type InLanes<V: Vector>: Scaling<V>;

    /// These numbers in every lane.
    fn in_lanes<V: Vector>(self, v: V) -> Self::InLanes<V>;
}

/// Multiplied by a factor.
#[derive(Clone, Copy)]
pub(super) struct Product<F>(pub F);

impl<V: Vector> Scaling<V> for Product<V::Floats> {
    const LIGHT: bool = true;

    #[inline(always)]
    unsafe fn scaled(self, v: V, x: V::Floats, _: usize) -> V::Floats {
        v.mul(x, self.0)
    }
}

impl Scalars for Product<f32> {
    type InLanes<V: Vector> = Product<V::Floats>;

    #[inline(always)]
    fn in_lanes<V: Vector>(self, v: V) -> Product<V::Floats> {
        Product(v.floats(self.0))
    }
}

/// Divided.
#[derive(Clone, Copy)]
pub(super) struct Quotient<F>(pub F);

impl<V: Vector> Scaling<V> for Quotient<V::Floats> {
    #[inline(always)]
    unsafe fn scaled(self, v: V, x: V::Floats, _: usize) -> V::Floats {
        v.div(x, self.0)
    }
}

impl Scalars for Quotient<f32> {
    type InLanes<V: Vector> = Quotient<V::Floats>;

    #[inline(always)]
    fn in_lanes<V: Vector>(self, v: V) -> Quotient<V::Floats> {
        Quotient(v.floats(self.0))
    }
}

/// Multiplied by a reciprocal in two terms: the bits of a division, or its integers, where [`division`](super::division)
/// says so.
#[derive(Clone, Copy)]
pub(super) struct TwoTerms<F> {
    pub near: F,
    pub rest: F,
}

impl<V: Vector> Scaling<V> for TwoTerms<V::Floats> {
    #[inline(always)]
    unsafe fn scaled(self, v: V, x: V::Floats, _: usize) -> V::Floats {
        v.mul_add(x, self.near, v.mul(x, self.rest))
    }
}

impl Scalars for TwoTerms<f32> {
    type InLanes<V: Vector> = TwoTerms<V::Floats>;

    #[inline(always)]
    fn in_lanes<V: Vector>(self, v: V) -> TwoTerms<V::Floats> {
        TwoTerms { near: v.floats(self.near), rest: v.floats(self.rest) }
    }
}

/// Scaled, and moved by a zero point.
#[derive(Clone, Copy)]
pub(super) struct Moved<S, F> {
    pub scaling: S,
    pub zero: F,
}

impl<V: Vector, S: Scaling<V>> Scaling<V> for Moved<S, V::Floats> {
    const EACH: bool = S::EACH;

    #[inline(always)]
    unsafe fn scaled(self, v: V, x: V::Floats, at: usize) -> V::Floats {
        // SAFETY: the caller's promise.
        v.add(unsafe { self.scaling.scaled(v, x, at) }, self.zero)
    }
}

impl<S: Scalars> Scalars for Moved<S, f32> {
    const MOVED: bool = true;
    type InLanes<V: Vector> = Moved<S::InLanes<V>, V::Floats>;

    #[inline(always)]
    fn in_lanes<V: Vector>(self, v: V) -> Self::InLanes<V> {
        Moved { scaling: self.scaling.in_lanes(v), zero: v.floats(self.zero) }
    }
}

/// As [`TwoTerms`], each by a reciprocal of its own.
#[derive(Clone, Copy)]
pub(super) struct ColumnTerms {
    pub near: *const f32,
    pub rest: *const f32,
}

impl<V: Vector> Scaling<V> for ColumnTerms {
    const EACH: bool = true;

    #[inline(always)]
    unsafe fn scaled(self, v: V, x: V::Floats, at: usize) -> V::Floats {
        // SAFETY: the caller's promise.
        let (near, rest) = unsafe { (v.load(self.near.add(at)), v.load(self.rest.add(at))) };
        v.mul_add(x, near, v.mul(x, rest))
    }
}

/// Multiplied, or divided, each by a number of its own.
#[derive(Clone, Copy)]
pub(super) struct Columns<const DIVIDE: bool>(pub *const f32);

impl<V: Vector, const DIVIDE: bool> Scaling<V> for Columns<DIVIDE> {
    const EACH: bool = true;

    #[inline(always)]
    unsafe fn scaled(self, v: V, x: V::Floats, at: usize) -> V::Floats {
        // SAFETY: the caller's promise.
        let scale = unsafe { v.load(self.0.add(at)) };
        if DIVIDE { v.div(x, scale) } else { v.mul(x, scale) }
    }
}
