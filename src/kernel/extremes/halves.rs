//! Ranges of numbers of 16 bits, by comparisons of their bits.
//!
//! As integers without a sign, negative numbers are above all others, by their magnitude; as those with one, they are below
//! them, and again the larger the magnitude the higher. So the highest integer without a sign is the least number if any is
//! negative, and the highest one with a sign is the greatest number if any is not. Where all numbers have the same sign,
//! the other end of their range has the least magnitude, which is that of the lowest integer with a sign.
#![allow(unsafe_code)] // loads and stores by pointers

use super::super::vector::{Lanes, Vector};
use super::STEP;

/// Vectors that [`range`] works on at a time.
const VECTORS: usize = 2;

/// The ends of the ranges of lanes of 16 bits.
#[derive(Clone, Copy)]
struct Ends<I> {
    /// The highest integers with a sign, and without one.
    highest: I,
    unsigned: I,
    /// The lowest with a sign.
    lowest: I,
}

impl<I: Copy> Ends<I> {
    #[inline(always)]
    fn new<V: Vector<Integers = I>>(v: V) -> Self {
        Self { highest: v.words(i16::MIN), unsigned: v.words(0), lowest: v.words(i16::MAX) }
    }

    /// Adds a number to each lane.
    ///
    /// # Safety
    ///
    /// There is a vector at `from`.
    #[inline(always)]
    unsafe fn add<V: Vector<Integers = I>, A>(&mut self, v: V, from: *const A) {
        // SAFETY: the caller's promise.
        let bits = unsafe { v.load_bytes(from.cast()) };
        self.highest = v.max_words(self.highest, bits);
        self.unsigned = v.max_unsigned_words(self.unsigned, bits);
        self.lowest = v.min_words(self.lowest, bits);
    }

    /// The ranges of the lanes of both.
    #[inline(always)]
    fn and<V: Vector<Integers = I>>(self, v: V, other: Self) -> Self {
        Self {
            highest: v.max_words(self.highest, other.highest),
            unsigned: v.max_unsigned_words(self.unsigned, other.unsigned),
            lowest: v.min_words(self.lowest, other.lowest),
        }
    }

    /// The least and the greatest number of all lanes; `None` if one is NaN.
    #[inline(always)]
    fn joined<V: Vector<Integers = I>, A: Lanes>(self, v: V) -> Option<(f32, f32)> {
        // Integers with a sign are in the order of those without one whose highest bit is the other, and the highest one is
        // the lowest where all bits are.
        let lowest_of = |a: I, other: u16| v.least_word(v.xor(a, v.words(other as i16))) ^ other;
        let highest = lowest_of(self.highest, 0x7FFF);
        let unsigned = lowest_of(self.unsigned, 0xFFFF);
        let lowest = lowest_of(self.lowest, 0x8000);
        let low = if unsigned as i16 >= 0 { lowest } else { unsigned };
        let high = if highest as i16 >= 0 { highest } else { lowest };
        // SAFETY: all machines with vectors have F16C.
        let (low, high) = unsafe { (A::of_word(low), A::of_word(high)) };
        (!low.is_nan() && !high.is_nan()).then_some((low, high))
    }
}

/// The least and the greatest of at least [`VECTORS`] vectors of numbers; `None` if one is NaN.
#[inline(always)]
pub(super) fn range<V: Vector, A: Lanes>(v: V, x: &[A]) -> Option<(f32, f32)> {
    let step = VECTORS * 2 * V::LANES;
    debug_assert!(x.len() >= step);
    let mut ends = [Ends::new(v); VECTORS];
    for at in (0..x.len()).step_by(step) {
        // The last step takes some of it for the second time.
        let at = at.min(x.len() - step);
        for (i, ends) in ends.iter_mut().enumerate() {
            // SAFETY: a step lies within the values wherever it begins.
            unsafe { ends.add(v, x.as_ptr().add(at + i * 2 * V::LANES)) };
        }
    }
    let [a, b] = ends;
    a.and(v, b).joined::<V, A>(v)
}

/// As [`streams`](super::streams): whether all ranges are finite, or `None` if a number is NaN; ranges are then no larger
/// than those of the other numbers.
#[inline(always)]
pub(super) fn streams<V: Vector, A: Lanes, const STREAMS: usize>(
    v: V,
    x: &[A],
    width: usize,
    each: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> Option<bool> {
    let mut bounded = true;
    for block in 0..each {
        let mut ends = [Ends::new(v); STREAMS];
        for at in (0..width).step_by(STEP) {
            // The last step takes some of it for the second time.
            let at = at.min(width - STEP);
            for (stream, ends) in ends.iter_mut().enumerate() {
                let from = (stream * each + block) * width + at;
                for part in (0..STEP).step_by(2 * V::LANES) {
                    // SAFETY: blocks lie within `x`, and steps within blocks.
                    unsafe { ends.add(v, x.as_ptr().add(from + part)) };
                }
            }
        }
        for (stream, ends) in ends.into_iter().enumerate() {
            let (low, high) = ends.joined::<V, A>(v)?;
            bounded &= low > f32::NEG_INFINITY && high < f32::INFINITY;
            // Adding zero makes a negative zero positive.
            let at = stream * each + block;
            mins[at] = low.min(mins[at]) + 0.0;
            maxs[at] = high.max(maxs[at]) + 0.0;
        }
    }
    Some(bounded)
}
