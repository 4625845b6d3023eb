//! Runs of values that share parameters.
//!
//! The processor makes the most negative integer of what does not fit, NaN among it. So values are not looked at before
//! they are converted, and a run where that integer shows is computed once more by a loop that takes care of it.
#![allow(unsafe_code)] // loads and stores by pointers

use core::ops::Range;

use half::f16;

use super::super::super::division::{GROUP, Reciprocals, same_integers};
use super::super::super::scaling::{Moved, Product, Quotient, Scaling, TwoTerms};
use super::super::super::stream::{self, Seam};
use super::super::super::vector::{Lanes, Vector, vectorized};
use super::super::super::{prefetch, runs};
use super::Task;
use super::each::{Entry, careful};

/// Values of the longest line of the caches.
const LONGEST: usize = f16::LINE;

/// Bytes ahead that are asked for, where results go past the caches.
const AHEAD: usize = 2048;

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
    Task { params, values, .. }: &Task<'_>,
    stream: bool,
    out: &mut [A],
) -> bool {
    let mut by = Reciprocals::of(&[]);
    let mut seam = stream.then(Seam::<A>::default);
    let mut nan = false;
    for (j, from, to) in runs(x.len().min(out.len()), width, phase) {
        let (Some(&scale), Some(&low), Some(&high), Some(&step)) =
            (params.scale.get(j), params.low.get(j), params.high.get(j), values.scale.get(j))
        else {
            break;
        };
        let place = j % GROUP;
        if DIVIDE && !ZERO && place == 0 {
            // Ahead of time: nothing else tells the processor which loop serves a run.
            by = Reciprocals::of(params.scale.get(j..).unwrap_or_default());
        }
        let most = low.abs().max(high.abs()) as u32;
        let two_terms = DIVIDE && !ZERO && (by.exact[place] || same_integers(scale, most));
        let zero_before =
            if ZERO { Some(params.zero_before.get(j).copied().unwrap_or_default()) } else { None };
        let zero = values.zero.get(j).copied().unwrap_or_default();
        let entry = Entry { scale, divide: DIVIDE, low, high, zero_before, zero, step };
        let run = Run::of::<A>(v, &entry);
        let (scale, zero) = (v.floats(scale), v.floats(zero_before.unwrap_or_default()));
        let (near, rest) = (by.near[place], by.rest[place]);
        nan |= if ZERO && DIVIDE {
            let scaling = Moved { scaling: Quotient(scale), zero };
            one_run::<V, A, _, ZERO>(v, x, from..to, scaling, run, &mut seam, out)
        } else if ZERO {
            let scaling = Moved { scaling: Product(scale), zero };
            one_run::<V, A, _, ZERO>(v, x, from..to, scaling, run, &mut seam, out)
        } else if !DIVIDE {
            one_run::<V, A, _, ZERO>(v, x, from..to, Product(scale), run, &mut seam, out)
        } else if two_terms {
            let scaling = TwoTerms { near: v.floats(near), rest: v.floats(rest) };
            one_run::<V, A, _, ZERO>(v, x, from..to, scaling, run, &mut seam, out)
        } else {
            one_run::<V, A, _, ZERO>(v, x, from..to, Quotient(scale), run, &mut seam, out)
        };
    }
    if let Some(seam) = seam {
        seam.finish(out);
        stream::finish();
    }
    nan
}

/// The parameters of a run, in every lane and once each.
#[derive(Clone, Copy)]
struct Run<'a, V: Vector> {
    low: V::Integers,
    high: V::Integers,
    zero: V::Floats,
    step: V::Floats,
    /// Whether values fit, as [`Lanes::fit`] says.
    fit: bool,
    /// Where it is: nothing but [`careful`] reads it, and a copy would wait for what was just written.
    entry: &'a Entry,
}

impl<'a, V: Vector> Run<'a, V> {
    #[inline(always)]
    fn of<A: Lanes>(v: V, entry: &'a Entry) -> Self {
        let (step, most) = (entry.step.abs(), entry.low.abs().max(entry.high.abs()));
        let whole = entry.zero_before.is_none();
        let fit = A::fit(if whole { step } else { 0.0 }, step * (most + entry.zero.abs()));
        Self {
            fit,
            low: v.integers(entry.low as i32),
            high: v.integers(entry.high as i32),
            zero: v.floats(entry.zero),
            step: v.floats(entry.step),
            entry,
        }
    }
}

/// The values of `place`, again by [`careful`] where that is needed; past the caches by whole lines where
/// there is a `seam`. Whether any is NaN.
#[inline(always)]
fn one_run<V: Vector, A: Lanes, S: Scaling<V>, const ZERO: bool>(
    v: V,
    x: &[A],
    place: Range<usize>,
    scaling: S,
    run: Run<'_, V>,
    seam: &mut Option<Seam<A>>,
    out: &mut [A],
) -> bool {
    let Range { start, end } = place;
    let Some(seam) = seam else {
        return body::<V, A, S, ZERO, false>(v, &x[start..end], scaling, run, &mut out[start..end]);
    };
    // Lines that are not all of this run.
    let head = (start + stream::head(&out[start..])).min(end);
    let tail = end - (end - head) % A::LINE;
    let (first, last) = (0..head - start, tail - start..end - start);
    let mut nan = few::<V, A, S, ZERO>(v, &x[start..end], first, scaling, run, (seam, start), out);
    nan |= body::<V, A, S, ZERO, true>(v, &x[head..tail], scaling, run, &mut out[head..tail]);
    nan | few::<V, A, S, ZERO>(v, &x[start..end], last, scaling, run, (seam, tail), out)
}

/// The `part` of the values, fewer than a line, which goes to `at` by way of the `seam`.
#[inline(always)]
fn few<V: Vector, A: Lanes, S: Scaling<V>, const ZERO: bool>(
    v: V,
    x: &[A],
    part: Range<usize>,
    scaling: S,
    run: Run<'_, V>,
    (seam, at): (&mut Seam<A>, usize),
    out: &mut [A],
) -> bool {
    if part.is_empty() {
        return false;
    }
    // With the values beside them, where there are enough for a line.
    let from = if x.len() < A::LINE { part.start } else { part.start.min(x.len() - A::LINE) };
    let x = if x.len() < A::LINE { &x[part.clone()] } else { &x[from..from + A::LINE] };
    let mut line = [A::default(); LONGEST];
    let line = &mut line[..x.len()];
    let nan = body::<V, A, S, ZERO, false>(v, x, scaling, run, line);
    let part = part.start - from..part.end - from;
    seam.put(at, &line[part.clone()], out);
    // A NaN beside them shows in its own place.
    nan && careful(v, &x[part.clone()], *run.entry, &mut line[part])
}

/// Whether any value is NaN. Nothing is done after [`careful`], so that nothing has to be kept on the stack for that.
#[inline(always)]
fn body<V: Vector, A: Lanes, S: Scaling<V>, const ZERO: bool, const STREAM: bool>(
    v: V,
    x: &[A],
    scaling: S,
    run: Run<'_, V>,
    out: &mut [A],
) -> bool {
    if out.is_empty() || piece::<V, A, S, ZERO, STREAM>(v, x, scaling, run, out) {
        return false;
    }
    careful(v, x, *run.entry, out)
}

/// `false` where there are fewer values than lanes, or one shows that is NaN or too large, and results do not count. If
/// `STREAM`, they are whole lines.
#[inline(always)]
fn piece<V: Vector, A: Lanes, S: Scaling<V>, const ZERO: bool, const STREAM: bool>(
    v: V,
    x: &[A],
    scaling: S,
    run: Run<'_, V>,
    out: &mut [A],
) -> bool {
    let len = x.len().min(out.len());
    let mut least = v.integers(0);
    if len < V::LANES {
        return false;
    }
    let (from, to) = (x.as_ptr(), out.as_mut_ptr());
    let mut at = 0;
    if STREAM && stream::head(out) == 0 {
        while at + A::LINE <= len {
            prefetch(&x[at..at + A::LINE], AHEAD);
            let mut part = 0;
            while part < A::LINE {
                // SAFETY: the line has that many values, and begins a line of the caches.
                unsafe {
                    let found = vector::<V, A, S, ZERO>(v, from.add(at + part), scaling, run, &mut least);
                    v.put::<A, true>(to.add(at + part), found, run.fit);
                }
                part += V::LANES;
            }
            at += A::LINE;
        }
    }
    // Values that lie across two lines of the caches cost twice: but for the first vector, they begin where a line does.
    let aligned = stream::head(x);
    if at == 0 && 0 < aligned && aligned < V::LANES && len >= 64 * V::LANES {
        // SAFETY: there are that many values.
        unsafe {
            let found = vector::<V, A, S, ZERO>(v, from, scaling, run, &mut least);
            v.put::<A, false>(to, found, run.fit);
        }
        at = aligned;
    }
    while at + V::LANES <= len {
        // SAFETY: there are that many values from `at` on.
        unsafe {
            let found = vector::<V, A, S, ZERO>(v, from.add(at), scaling, run, &mut least);
            v.put::<A, false>(to.add(at), found, run.fit);
        }
        at += V::LANES;
    }
    if at < len {
        let at = len - V::LANES;
        // SAFETY: as above. Overlaps with what lies before it.
        unsafe {
            let found = vector::<V, A, S, ZERO>(v, from.add(at), scaling, run, &mut least);
            v.put::<A, false>(to.add(at), found, run.fit);
        }
    }
    !v.any(least, i32::MIN)
}

/// The values of the codes of a vector; `least` is lowered to its integers.
///
/// # Safety
///
/// There are as many values at `x` as lanes.
#[inline(always)]
unsafe fn vector<V: Vector, A: Lanes, S: Scaling<V>, const ZERO: bool>(
    v: V,
    x: *const A,
    scaling: S,
    run: Run<'_, V>,
    least: &mut V::Integers,
) -> V::Floats {
    // SAFETY: the caller's promise; these scalings have no parameters of single values.
    let q = v.nearest(unsafe { scaling.scaled(v, v.load(x), 0) });
    *least = v.min(*least, q);
    // By way of an integer, so that no zero is negative. Zero points that were to be added are not taken off again.
    let q = v.to_floats(v.min(v.max(q, run.low), run.high));
    v.mul(run.step, if ZERO { v.sub(q, run.zero) } else { q })
}
