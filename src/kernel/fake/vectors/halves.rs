//! Runs of numbers of 16 bits that a factor takes to the integers of their quotients.
//!
//! Numbers are held between two that have the codes of the ends, where there are such: two instructions for a vector of them
//! as they are. Else codes are held between their ends. NaN is looked for in the bits of the numbers, a whole vector at once.
//!
//! An integer is the lowest bits of itself and a number so large that no others are left. That one is taken off again, or its
//! multiple of the step of values is, where this is a number too: one fused operation then makes a value of a code.
#![allow(unsafe_code)] // loads and stores by pointers

use super::super::super::factor::MAGIC;
use super::super::super::vector::{Lanes, Vector, vectorized};
use super::each::Entry;
use super::runs::{Step, steps};

/// The parameters of a run, and a factor that does for all its numbers.
#[derive(Clone, Copy)]
pub(super) struct Halves<'a> {
    factor: f32,
    /// The words of numbers between which others are held, twice each: a negative one and a positive one. As numbers of 32
    /// bits, which are read one by one: more at once would wait for what was just written in parts, and for all that went
    /// past the caches before.
    ends: Option<[u32; 2]>,
    /// A step of fewer bits that gives the same values.
    short_step: Option<f32>,
    pub entry: &'a Entry,
}

impl<'a> Halves<'a> {
    #[inline(always)]
    pub(super) fn of<A: Lanes>(factor: f32, short_step: Option<f32>, entry: &'a Entry) -> Self {
        Self { factor, ends: ends::<A>(entry), short_step, entry }
    }
}

/// The nearest numbers to those of the lowest and the highest code, where they have these codes: any beyond has one that is
/// not between them.
#[inline(always)]
fn ends<A: Lanes>(&Entry { scale, low, high, .. }: &Entry) -> Option<[u32; 2]> {
    /// Less than half a step by more than what is rounded in a quotient.
    const NEAR: f32 = 0.499;
    let end = |code: f32| {
        let at = code.abs() * scale;
        let number = A::from_f32(at);
        ((number.to_f32() - at).abs() <= NEAR * scale).then_some(number.word())
    };
    if low > 0.0 || high < 0.0 {
        return None;
    }
    let twice = |word: u16| u32::from(word) << 16 | u32::from(word);
    Some([twice(end(low)? | 1 << 15), twice(end(high)?)])
}

vectorized! {
    /// The values of the codes of `x`, past the caches if `stream`, where they are whole lines; `false` where there are too
    /// few, or one is NaN, and results do not count.
    pub(super) fn piece<V>[A: Lanes](v, x: &[A], run: Halves<'_>, stream: bool, out: &mut [A]) -> bool {
        debug_assert!(size_of::<A>() == size_of::<u16>());
        let Entry { low, high, step, .. } = *run.entry;
        let fit = A::fit(step.abs(), step.abs() * low.abs().max(high.abs()));
        match (run.ends, run.short_step, fit) {
            (Some(_), Some(_), true) => all::<V, A, true, true, true>(v, x, run, stream, out),
            (Some(_), None, true) => all::<V, A, true, false, true>(v, x, run, stream, out),
            (Some(_), _, false) => all::<V, A, true, false, false>(v, x, run, stream, out),
            (None, _, true) => all::<V, A, false, false, true>(v, x, run, stream, out),
            (None, _, false) => all::<V, A, false, false, false>(v, x, run, stream, out),
        }
    }
}

#[inline(always)]
fn all<V: Vector, A: Lanes, const HELD: bool, const SHORT: bool, const FIT: bool>(
    v: V,
    x: &[A],
    run: Halves<'_>,
    stream: bool,
    out: &mut [A],
) -> bool {
    let run = InLanes::<V, HELD, SHORT, FIT>::of(v, run);
    if stream { steps::<V, A, _, true>(v, x, run, out) } else { steps::<V, A, _, false>(v, x, run, out) }
}

/// The parameters in every lane. `HELD`: whether numbers are held between ends, rather than codes; `SHORT`: whether the step
/// is short; `FIT`: whether values do, as [`Lanes::fit`] says.
#[derive(Clone, Copy)]
struct InLanes<V: Vector, const HELD: bool, const SHORT: bool, const FIT: bool> {
    factor: V::Floats,
    step: V::Floats,
    magic: V::Floats,
    /// What a short step makes of it, with the other sign.
    off: V::Floats,
    /// The words of the ends, or the bits of their codes.
    ends: [V::Integers; 2],
}

impl<V: Vector, const HELD: bool, const SHORT: bool, const FIT: bool> InLanes<V, HELD, SHORT, FIT> {
    #[inline(always)]
    fn of(v: V, Halves { factor, ends, short_step, entry }: Halves<'_>) -> Self {
        let codes = || [(MAGIC + entry.low).to_bits(), (MAGIC + entry.high).to_bits()];
        let [low, high] = if HELD { ends.unwrap_or_default() } else { codes() };
        let step = if SHORT { short_step.unwrap_or_default() } else { entry.step };
        Self {
            factor: v.floats(factor),
            step: v.floats(step),
            magic: v.floats(MAGIC),
            off: v.floats(-MAGIC * step),
            ends: [v.integers(low as i32), v.integers(high as i32)],
        }
    }

    /// The values of the codes of `x`.
    #[inline(always)]
    fn values(self, v: V, x: V::Floats) -> V::Floats {
        let mut code = v.mul_add(x, self.factor, self.magic);
        if !HELD {
            let [low, high] = self.ends;
            code = v.of_bits(v.min(v.max(v.to_bits(code), low), high));
        }
        // No zero is negative.
        if SHORT { v.mul_add(code, self.step, self.off) } else { v.mul(self.step, v.sub(code, self.magic)) }
    }
}

impl<V: Vector, A: Lanes, const HELD: bool, const SHORT: bool, const FIT: bool> Step<V, A>
    for InLanes<V, HELD, SHORT, FIT>
{
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
            let [a, b] = if HELD { v.load_two_within(x, self.ends) } else { v.load_two(x) };
            v.put_two::<A, STREAM>(to, [self.values(v, a), self.values(v, b)], FIT);
        }
    }
}
