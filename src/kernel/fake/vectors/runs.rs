//! Runs of values that share parameters.
//!
//! The processor makes the most negative integer of what does not fit, NaN among it. So values are not looked at before
//! they are converted, and a run where that integer shows is computed once more by a loop that takes care of it.
#![allow(unsafe_code)] // loads and stores by pointers

use core::ops::Range;

use super::super::super::division::{GROUP, Reciprocals, same_integers};
use super::super::super::factor::{self, Factors};
use super::super::super::scaling::{Moved, Product, Quotient, Scalars, Scaling, TwoTerms};
use super::super::super::stream::{self, Seam};
use super::super::super::vector::{Lanes, Vector, vectorized};
use super::super::super::{prefetch, runs};
use super::Task;
use super::each::{Entry, careful};
use super::halves::{self, Halves};

vectorized! {
    /// Whether any value is NaN.
    pub(super) fn by_runs<V>[A: Lanes](
        v,
        x: &[A],
        pattern: (usize, usize),
        task: &Task<'_>,
        stream: bool,
        out: &mut [A],
    ) -> bool {
        match (task.divide, task.params.zero_before.is_empty()) {
            (false, true) => each_run::<V, A, false, false>(v, x, pattern, task, stream, out),
            (false, false) => each_run::<V, A, false, true>(v, x, pattern, task, stream, out),
            (true, true) => each_run::<V, A, true, false>(v, x, pattern, task, stream, out),
            (true, false) => each_run::<V, A, true, true>(v, x, pattern, task, stream, out),
        }
    }
}

#[inline(always)]
fn each_run<V: Vector, A: Lanes, const DIVIDE: bool, const ZERO: bool>(
    v: V,
    x: &[A],
    (width, phase): (usize, usize),
    task: &Task<'_>,
    stream: bool,
    out: &mut [A],
) -> bool {
    let Task { params, values, .. } = task;
    let long = DIVIDE && !ZERO && size_of::<A>() == size_of::<u16>() && width >= factor::RUN;
    let (mut by, mut factors) = (Reciprocals::of(&[]), Factors::none());
    let mut seam = stream.then(Seam::<A>::default);
    let mut nan = false;
    for (j, from, to) in runs(x.len().min(out.len()), width, phase) {
        let (Some(&scale), Some(&low), Some(&high), Some(&step)) =
            (params.scale.get(j), params.low.get(j), params.high.get(j), values.scale.get(j))
        else {
            break;
        };
        let most = low.abs().max(high.abs()) as u32;
        let zero_before =
            if ZERO { Some(params.zero_before.get(j).copied().unwrap_or_default()) } else { None };
        let zero = values.zero.get(j).copied().unwrap_or_default();
        let entry = Entry { scale, divide: DIVIDE, low, high, zero_before, zero, step };
        let place = j % GROUP;
        if DIVIDE && !ZERO && place == 0 {
            // Ahead of time: nothing else tells the processor which loop serves a run.
            by = Reciprocals::of(params.scale.get(j..).unwrap_or_default());
            if long && seam.is_some() {
                prefetch(&x[from..to.min(from + MEANWHILE)], AHEAD);
            }
            if long {
                task.find_factors::<A>(j, &mut factors);
            }
        }
        if long && let Some(factor) = factors.factor(place) {
            let run = Halves::of::<A>(factor, factors.short_step(place), &entry);
            nan |= one_run(v, x, from..to, run, &mut seam, out);
            continue;
        }
        let two_terms = DIVIDE && !ZERO && (by.exact[place] || same_integers(entry.scale, most));
        let (near, rest) = (by.near[place], by.rest[place]);
        let (zero, entry) = (zero_before.unwrap_or_default(), &entry);
        nan |= if ZERO && DIVIDE {
            let scaling = Moved { scaling: Quotient(scale), zero };
            one_run(v, x, from..to, Scaled { scaling, entry }, &mut seam, out)
        } else if ZERO {
            let scaling = Moved { scaling: Product(scale), zero };
            one_run(v, x, from..to, Scaled { scaling, entry }, &mut seam, out)
        } else if !DIVIDE {
            one_run(v, x, from..to, Scaled { scaling: Product(scale), entry }, &mut seam, out)
        } else if two_terms {
            one_run(v, x, from..to, Scaled { scaling: TwoTerms { near, rest }, entry }, &mut seam, out)
        } else {
            one_run(v, x, from..to, Scaled { scaling: Quotient(scale), entry }, &mut seam, out)
        };
    }
    if let Some(seam) = seam {
        seam.finish(out);
        stream::finish();
    }
    nan
}

/// A way to compute the values of a run.
trait Way<V: Vector, A: Lanes>: Copy {
    /// Writes the values of the codes of `x`; `false` where there are too few for this way, or one is beyond it, and results
    /// do not count. If `STREAM`, they are whole lines.
    fn piece<const STREAM: bool>(self, v: V, x: &[A], out: &mut [A]) -> bool;

    /// The parameters, where they are: nothing but [`careful`] reads them, and a copy would wait for what was just written.
    fn entry(&self) -> &Entry;
}

/// Values that are worked on together.
pub(super) trait Step<V: Vector, A: Lanes>: Copy {
    /// How many these are: whole vectors, and no more than a line.
    const LEN: usize;

    /// What is kept of all values to tell whether any is beyond this way.
    type Seen: Copy;

    fn none_seen(self, v: V) -> Self::Seen;

    /// Whether any that was seen is NaN or too large, so that results do not count.
    fn is_beyond(self, v: V, seen: Self::Seen) -> bool;

    /// Writes the values of the codes of the [`LEN`](Self::LEN) values from `x` on, past the caches if `STREAM`.
    ///
    /// # Safety
    ///
    /// There are as many values and places, and `to` is a multiple of their bytes if `STREAM`.
    unsafe fn step<const STREAM: bool>(self, v: V, x: *const A, to: *mut A, seen: &mut Self::Seen);
}

/// Values that are scaled and taken to integers.
#[derive(Clone, Copy)]
struct Scaled<'a, S> {
    scaling: S,
    entry: &'a Entry,
}

impl<V: Vector, A: Lanes, S: Scalars> Way<V, A> for Scaled<'_, S> {
    #[inline(always)]
    fn piece<const STREAM: bool>(self, v: V, x: &[A], out: &mut [A]) -> bool {
        steps::<V, A, _, STREAM>(v, x, InLanes::<V, S>::of::<A>(v, self), out)
    }

    #[inline(always)]
    fn entry(&self) -> &Entry {
        self.entry
    }
}

/// The parameters of a run, in every lane. The least integer tells whether any value is NaN or too large.
#[derive(Clone, Copy)]
struct InLanes<V: Vector, S: Scalars> {
    scaling: S::InLanes<V>,
    low: V::Integers,
    high: V::Integers,
    zero: V::Floats,
    step: V::Floats,
    /// Whether values fit, as [`Lanes::fit`] says.
    fit: bool,
}

impl<V: Vector, S: Scalars> InLanes<V, S> {
    #[inline(always)]
    fn of<A: Lanes>(v: V, Scaled { scaling, entry }: Scaled<'_, S>) -> Self {
        let (step, most) = (entry.step.abs(), entry.low.abs().max(entry.high.abs()));
        // First: a call leaves no vector in its register.
        let fit = A::fit(if S::MOVED { 0.0 } else { step }, step * (most + entry.zero.abs()));
        Self {
            scaling: scaling.in_lanes(v),
            low: v.integers(entry.low as i32),
            high: v.integers(entry.high as i32),
            zero: v.floats(entry.zero),
            step: v.floats(entry.step),
            fit,
        }
    }

    /// The values of the codes of those of a vector, whose integers lower `least`.
    #[inline(always)]
    fn values(self, v: V, x: V::Floats, least: &mut V::Integers) -> V::Floats {
        // SAFETY: there are no parameters of single values.
        let q = unsafe { v.nearest(self.scaling.scaled(v, x, 0)) };
        *least = v.min(*least, q);
        // By way of an integer, so that no zero is negative. Zero points that were to be added are not taken off again.
        let q = v.to_floats(v.min(v.max(q, self.low), self.high));
        v.mul(self.step, if S::MOVED { v.sub(q, self.zero) } else { q })
    }
}

impl<V: Vector, A: Lanes, S: Scalars> Step<V, A> for InLanes<V, S> {
    /// Two vectors of numbers of 16 bits.
    const LEN: usize = if size_of::<A>() == size_of::<u16>() { 2 * V::LANES } else { V::LANES };
    type Seen = V::Integers;

    #[inline(always)]
    fn none_seen(self, v: V) -> V::Integers {
        v.integers(0)
    }

    #[inline(always)]
    fn is_beyond(self, v: V, seen: V::Integers) -> bool {
        v.any(seen, i32::MIN)
    }

    #[inline(always)]
    unsafe fn step<const STREAM: bool>(self, v: V, x: *const A, to: *mut A, least: &mut V::Integers) {
        // SAFETY: the caller's promise.
        unsafe {
            if size_of::<A>() == size_of::<u16>() {
                let [a, b] = v.load_two(x);
                let (a, b) = (self.values(v, a, least), self.values(v, b, least));
                v.put_two::<A, STREAM>(to, [a, b], self.fit);
            } else {
                v.put::<A, STREAM>(to, self.values(v, v.load(x), least), self.fit);
            }
        }
    }
}

impl<V: Vector, A: Lanes> Way<V, A> for Halves<'_> {
    #[inline(always)]
    fn piece<const STREAM: bool>(self, _: V, x: &[A], out: &mut [A]) -> bool {
        // In a function of its own, whose vectors have registers.
        halves::piece(V::LEVEL, x, self, STREAM, out) == Some(true)
    }

    #[inline(always)]
    fn entry(&self) -> &Entry {
        self.entry
    }
}

/// The values of `place`, again by [`careful`] where that is needed; past the caches by whole lines where
/// there is a `seam`. Whether any is NaN.
#[inline(always)]
fn one_run<V: Vector, A: Lanes, W: Way<V, A>>(
    v: V,
    x: &[A],
    place: Range<usize>,
    way: W,
    seam: &mut Option<Seam<A>>,
    out: &mut [A],
) -> bool {
    let Range { start, end } = place;
    let Some(seam) = seam else {
        return body::<V, A, W, false>(v, &x[start..end], way, &mut out[start..end]);
    };
    // Lines that are not all of this run.
    let head = (start + stream::head(&out[start..])).min(end);
    let tail = end - (end - head) % A::LINE;
    let (first, last) = (0..head - start, tail - start..end - start);
    let mut nan = few(v, &x[start..end], first, way, (seam, start), out);
    nan |= body::<V, A, W, true>(v, &x[head..tail], way, &mut out[head..tail]);
    nan | few(v, &x[start..end], last, way, (seam, tail), out)
}

/// The `part` of the values, fewer than a line, which goes to `at` by way of the `seam`.
#[inline(always)]
fn few<V: Vector, A: Lanes, W: Way<V, A>>(
    v: V,
    x: &[A],
    part: Range<usize>,
    way: W,
    (seam, at): (&mut Seam<A>, usize),
    out: &mut [A],
) -> bool {
    if part.is_empty() {
        return false;
    }
    // With the values beside them, where there are enough for a line.
    let from = if x.len() < A::LINE { part.start } else { part.start.min(x.len() - A::LINE) };
    let x = if x.len() < A::LINE { &x[part.clone()] } else { &x[from..from + A::LINE] };
    let part = part.start - from..part.end - from;
    let Some(line) = seam.room(at, part.start, x.len(), out) else { return false };
    let mut nan = body::<V, A, W, false>(v, x, way, line);
    if nan {
        // A NaN beside them shows in its own place.
        nan = careful(v, &x[part.clone()], *way.entry(), &mut line[part.clone()]);
    }
    seam.put(part.len(), out);
    nan
}

/// Whether any value is NaN. Nothing is done after [`careful`], so that nothing has to be kept on the stack for that.
#[inline(always)]
fn body<V: Vector, A: Lanes, W: Way<V, A>, const STREAM: bool>(v: V, x: &[A], way: W, out: &mut [A]) -> bool {
    if out.is_empty() || way.piece::<STREAM>(v, x, out) {
        return false;
    }
    careful(v, x, *way.entry(), out)
}

/// The values of the codes of a line, past the caches.
///
/// # Safety
///
/// There are as many values at `x`, and places at `to`, where a line of the caches begins.
#[inline(always)]
unsafe fn line<V: Vector, A: Lanes, S: Step<V, A>>(
    v: V,
    x: *const A,
    way: S,
    to: *mut A,
    seen: &mut S::Seen,
) {
    let mut at = 0;
    while at < A::LINE {
        // SAFETY: the caller's promise.
        unsafe { way.step::<true>(v, x.add(at), to.add(at), seen) };
        at += S::LEN;
    }
}

/// Bytes ahead that are asked for, where results go past the caches: what the processor does not see by itself before the end
/// of a page.
const AHEAD: usize = 512;

/// Values that come from memory while factors are looked for.
const MEANWHILE: usize = 1024;

/// Lines that are written at one of two places before the other one has its turn: more at once take less.
const TURN: usize = 4;

/// As [`Way::piece`].
#[inline(always)]
pub(super) fn steps<V: Vector, A: Lanes, S: Step<V, A>, const STREAM: bool>(
    v: V,
    x: &[A],
    way: S,
    out: &mut [A],
) -> bool {
    let len = x.len().min(out.len());
    let mut seen = way.none_seen(v);
    if len < S::LEN {
        return false;
    }
    let (from, to) = (x.as_ptr(), out.as_mut_ptr());
    let mut at = 0;
    if STREAM && stream::head(out) == 0 {
        // SAFETY: lines have that many values, and begin lines of the caches.
        unsafe {
            let second = stream::second_place(len);
            while at < second {
                // Two ways through memory are seen by the processor itself.
                let next = second.min(at + TURN * A::LINE);
                for place in [0, second] {
                    for at in (at..next).step_by(A::LINE) {
                        line::<V, A, S>(v, from.add(place + at), way, to.add(place + at), &mut seen);
                    }
                }
                at = next;
            }
            at += second;
            while at + A::LINE <= len {
                prefetch(&x[at..at + A::LINE], AHEAD);
                line::<V, A, S>(v, from.add(at), way, to.add(at), &mut seen);
                at += A::LINE;
            }
        }
    }
    // Values that lie across two lines of the caches cost twice: but for the first vector, they begin where a line does.
    let aligned = stream::head(x);
    if at == 0 && 0 < aligned && aligned < S::LEN && len >= 64 * S::LEN {
        // SAFETY: there are that many values.
        unsafe { way.step::<false>(v, from, to, &mut seen) };
        at = aligned;
    }
    while at + S::LEN <= len {
        // SAFETY: there are that many values from `at` on.
        unsafe { way.step::<false>(v, from.add(at), to.add(at), &mut seen) };
        at += S::LEN;
    }
    if at < len {
        let at = len - S::LEN;
        // SAFETY: as above. Overlaps with what lies before it.
        unsafe { way.step::<false>(v, from.add(at), to.add(at), &mut seen) };
    }
    !way.is_beyond(v, seen)
}
