//! Runs of numbers of 16 bits that a factor takes to the integers of their quotients.
//!
//! An integer is the lowest bits of itself and a number so large that no others are left: codes are held between their
//! ends as integers, and are numbers again without that one. Infinities are beyond the ends, and NaN is looked for in the
//! bits of the values, a whole vector at once.
#![allow(unsafe_code)] // loads and stores by pointers

use super::super::super::factor::MAGIC;
use super::super::super::vector::{Lanes, Vector, vectorized};
use super::each::Entry;
use super::runs::{Step, steps};

/// The parameters of a run, and a factor that does for all its numbers.
#[derive(Clone, Copy)]
pub(super) struct Halves<'a> {
    pub factor: f32,
    pub entry: &'a Entry,
}

vectorized! {
    /// The values of the codes of `x`, past the caches if `stream`, where they are whole lines; `false` where there are too
    /// few, or one is NaN, and results do not count.
    pub(super) fn piece<V>[A: Lanes](v, x: &[A], run: Halves<'_>, stream: bool, out: &mut [A]) -> bool {
        debug_assert!(size_of::<A>() == size_of::<u16>());
        let Entry { low, high, step, .. } = *run.entry;
        let fit = A::fit(step.abs(), step.abs() * low.abs().max(high.abs()));
        match (fit, stream) {
            (true, true) => steps::<V, A, _, true>(v, x, InLanes::<V, true>::of(v, run), out),
            (true, false) => steps::<V, A, _, false>(v, x, InLanes::<V, true>::of(v, run), out),
            (false, true) => steps::<V, A, _, true>(v, x, InLanes::<V, false>::of(v, run), out),
            (false, false) => steps::<V, A, _, false>(v, x, InLanes::<V, false>::of(v, run), out),
        }
    }
}

/// The parameters in every lane. `FIT`: whether values do, as [`Lanes::fit`] says.
#[derive(Clone, Copy)]
struct InLanes<V: Vector, const FIT: bool> {
    factor: V::Floats,
    step: V::Floats,
    magic: V::Floats,
    /// The bits of the ends.
    low: V::Integers,
    high: V::Integers,
}

impl<V: Vector, const FIT: bool> InLanes<V, FIT> {
    #[inline(always)]
    fn of(v: V, Halves { factor, entry }: Halves<'_>) -> Self {
        Self {
            factor: v.floats(factor),
            step: v.floats(entry.step),
            magic: v.floats(MAGIC),
            low: v.integers((MAGIC + entry.low).to_bits() as i32),
            high: v.integers((MAGIC + entry.high).to_bits() as i32),
        }
    }

    /// The values of the codes of `x`.
    #[inline(always)]
    fn values(self, v: V, x: V::Floats) -> V::Floats {
        let moved = v.to_bits(v.mul_add(x, self.factor, self.magic));
        let code = v.of_bits(v.min(v.max(moved, self.low), self.high));
        // No zero is negative.
        v.mul(self.step, v.sub(code, self.magic))
    }
}

impl<V: Vector, A: Lanes, const FIT: bool> Step<V, A> for InLanes<V, FIT> {
    const LEN: usize = 2 * V::LANES;

    /// The highest bits of numbers that are not negative, and of any.
    type Seen = (V::Integers, V::Integers);

    #[inline(always)]
    fn none_seen(self, v: V) -> Self::Seen {
        (v.words(0), v.words(0))
    }

    #[inline(always)]
    fn is_beyond(self, v: V, (positive, all): Self::Seen) -> bool {
        v.any_word_above(positive, A::INFINITY) || v.any_word_above(all, A::INFINITY | 1 << 15)
    }

    #[inline(always)]
    unsafe fn step<const STREAM: bool>(self, v: V, x: *const A, to: *mut A, seen: &mut Self::Seen) {
        // SAFETY: the caller's promise: as many numbers of 16 bits fill a vector.
        unsafe {
            let bits = v.load_bytes(x.cast());
            *seen = (v.max_words(seen.0, bits), v.max_unsigned_words(seen.1, bits));
            let [a, b] = v.load_two(x);
            v.put_two::<A, STREAM>(to, [self.values(v, a), self.values(v, b)], FIT);
        }
    }
}
