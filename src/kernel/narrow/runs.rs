//! Runs of values that share parameters.

use core::ops::Range;

use super::super::division::{GROUP, Reciprocals, same_integers};
use super::super::scaling::{Moved, Product, Quotient, Scaling, TwoTerms};
use super::super::vector::{Lanes, Vector, vectorized};
use super::super::{runs, stream};
use super::EncodeParams;
use super::careful::{Entry, careful};
use super::codes::{ANY, Codes, Integers, MOVED, SIGNED, UNSIGNED};
use super::lines::{LINE, lines};

type Seam = stream::Seam<u8>;

vectorized! {
    /// Whether any value is NaN; `None` within if the parameters of an entry are beyond what these loops can do.
    pub(super) fn by_runs<V>[A: Lanes](
        v,
        x: &[A],
        pattern: (usize, usize),
        params: &EncodeParams<'_, f32>,
        divide: bool,
        mask: u8,
        stream: bool,
        codes: &mut [u8],
    ) -> Option<bool> {
        // Bounds that are integers of 16 bits, with one to spare.
        const BOUND: f32 = 32_000.0;
        // Where entries have all but their scales in common, one is looked at.
        let common = alike(params.low) && alike(params.high) && alike(params.zero_after);
        if !all(params, common, |low, high, _| (low.abs() <= BOUND) & (high.abs() <= BOUND)) {
            return None;
        }
        let entries = Entries { params, common, mask };
        let nan = match (divide, entries.kind()) {
            (false, SIGNED) => each_run::<V, A, false, SIGNED>(v, x, pattern, entries, stream, codes),
            (false, UNSIGNED) => each_run::<V, A, false, UNSIGNED>(v, x, pattern, entries, stream, codes),
            (false, ANY) => each_run::<V, A, false, ANY>(v, x, pattern, entries, stream, codes),
            (false, _) => each_run::<V, A, false, MOVED>(v, x, pattern, entries, stream, codes),
            (true, SIGNED) => each_run::<V, A, true, SIGNED>(v, x, pattern, entries, stream, codes),
            (true, UNSIGNED) => each_run::<V, A, true, UNSIGNED>(v, x, pattern, entries, stream, codes),
            (true, ANY) => each_run::<V, A, true, ANY>(v, x, pattern, entries, stream, codes),
            (true, _) => each_run::<V, A, true, MOVED>(v, x, pattern, entries, stream, codes),
        };
        Some(nan)
    }
}

/// The parameters of all runs.
#[derive(Clone, Copy)]
struct Entries<'a> {
    params: &'a EncodeParams<'a, f32>,
    /// Whether bounds and zero points are the same for all.
    common: bool,
    mask: u8,
}

impl Entries<'_> {
    /// The kind of codes that serves all of them.
    #[inline(always)]
    fn kind(&self) -> u8 {
        let Self { params, common, mask } = *self;
        if !params.zero_before.is_empty() {
            return MOVED;
        }
        let signed = |low: f32, high: f32, zero| (high == 127.0) & (-128.0..0.0).contains(&low) & (zero == 0);
        let unsigned = |low: f32, high: f32, zero| (low == -(zero as f32)) & (high == 255.0 - zero as f32);
        if mask != u8::MAX {
            ANY
        } else if all(params, common, signed) {
            SIGNED
        } else if all(params, common, unsigned) {
            UNSIGNED
        } else {
            ANY
        }
    }
}

/// Whether `test` is true of the bounds and zero point of each entry, or of the first if they are `common`.
#[inline(always)]
fn all(params: &EncodeParams<'_, f32>, common: bool, test: impl Fn(f32, f32, i32) -> bool) -> bool {
    let (low, high, zero) = (params.low, params.high, params.zero_after);
    if common {
        let (low, high) = (low.first().copied(), high.first().copied());
        return test(
            low.unwrap_or_default(),
            high.unwrap_or_default(),
            zero.first().copied().unwrap_or_default(),
        );
    }
    let bounds = low.iter().zip(high);
    if zero.is_empty() {
        return bounds.fold(true, |all, (&low, &high)| all & test(low, high, 0));
    }
    bounds.zip(zero).fold(true, |all, ((&low, &high), &zero)| all & test(low, high, zero))
}

/// Whether all entries are the same.
#[inline(always)]
fn alike<T: Copy + PartialEq>(all: &[T]) -> bool {
    all.split_first()
        .is_none_or(|(&first, rest)| rest.iter().fold(true, |alike, &one| alike & (one == first)))
}

/// Whether any value is NaN.
#[inline(always)]
fn each_run<V: Vector, A: Lanes, const DIVIDE: bool, const CODES: u8>(
    v: V,
    x: &[A],
    (width, phase): (usize, usize),
    Entries { params, common, mask }: Entries<'_>,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    let integers_of = |j: usize| Integers {
        low: params.low.get(j).copied().unwrap_or_default(),
        high: params.high.get(j).copied().unwrap_or_default(),
        // Of zero points, the low bits count.
        zero: params.zero_after.get(j).copied().unwrap_or_default() as i16,
    };
    let mut integers = integers_of(0);
    let mut codes_of = Codes::of(v, integers, mask);
    let mut by = Reciprocals::of(&[]);
    let mut seam = stream.then(Seam::default);
    let mut nan = false;
    for (j, from, to) in runs(x.len(), width, phase) {
        let Some(&scale) = params.scale.get(j) else { break };
        if !common && j > 0 {
            integers = integers_of(j);
            codes_of = Codes::of(v, integers, mask);
        }
        if DIVIDE && CODES != MOVED && j % GROUP == 0 {
            // Ahead of time: nothing else tells the processor which loop serves a run.
            by = Reciprocals::of(params.scale.get(j..).unwrap_or_default());
        }
        let place = j % GROUP;
        let most = integers.low.abs().max(integers.high.abs()) as u32;
        let two_terms = DIVIDE && CODES != MOVED && (by.exact[place] || same_integers(scale, most));
        let zero_before =
            if CODES == MOVED { params.zero_before.get(j).copied().unwrap_or_default() } else { 0.0 };
        let entry = Entry { scale, divide: DIVIDE, zero_before, integers, mask };
        let Some(codes_of) = codes_of else {
            nan |= careful(v, &x[from..to], entry, &mut codes[from..to]);
            continue;
        };
        let run = Run { codes: codes_of, entry: &entry };
        let (scale, zero) = (v.floats(scale), v.floats(zero_before));
        nan |= if CODES == MOVED {
            if DIVIDE {
                let scaling = Moved { scaling: Quotient(scale), zero };
                one_run::<V, A, _, CODES>(v, x, from..to, scaling, run, &mut seam, codes)
            } else {
                let scaling = Moved { scaling: Product(scale), zero };
                one_run::<V, A, _, CODES>(v, x, from..to, scaling, run, &mut seam, codes)
            }
        } else if !DIVIDE {
            one_run::<V, A, _, CODES>(v, x, from..to, Product(scale), run, &mut seam, codes)
        } else if two_terms {
            let scaling = TwoTerms { near: v.floats(by.near[place]), rest: v.floats(by.rest[place]) };
            one_run::<V, A, _, CODES>(v, x, from..to, scaling, run, &mut seam, codes)
        } else {
            one_run::<V, A, _, CODES>(v, x, from..to, Quotient(scale), run, &mut seam, codes)
        };
    }
    if let Some(seam) = seam {
        seam.finish(codes);
        // What went past the caches becomes visible to other threads in the order of the program.
        stream::finish();
    }
    nan
}

/// The parameters of a run, in every lane and once each.
#[derive(Clone, Copy)]
struct Run<'a, V: Vector> {
    codes: Codes<V>,
    /// Where it is: nothing but [`careful`] reads it, and a copy would wait for what was just written.
    entry: &'a Entry,
}

/// The values of `place`, again by [`careful`] where that is needed; past the caches by whole lines where
/// there is a `seam`. Whether any is NaN.
#[inline(always)]
fn one_run<V: Vector, A: Lanes, S: Scaling<V>, const CODES: u8>(
    v: V,
    x: &[A],
    place: Range<usize>,
    scaling: S,
    run: Run<'_, V>,
    seam: &mut Option<Seam>,
    codes: &mut [u8],
) -> bool {
    let Range { start, end } = place;
    let Some(seam) = seam else {
        return body::<V, A, S, CODES>(v, &x[start..end], scaling, run, false, &mut codes[start..end]);
    };
    // Lines that are not all of this run.
    let head = (start + stream::head(&codes[start..])).min(end);
    let tail = end - (end - head) % LINE;
    let (first, last) = (0..head - start, tail - start..end - start);
    let mut nan = few::<V, A, S, CODES>(v, &x[start..end], first, scaling, run, (seam, start), codes);
    nan |= body::<V, A, S, CODES>(v, &x[head..tail], scaling, run, true, &mut codes[head..tail]);
    nan | few::<V, A, S, CODES>(v, &x[start..end], last, scaling, run, (seam, tail), codes)
}

/// The codes of a `part` of the values, fewer than a line, which go to `at` by way of the `seam`.
#[inline(always)]
fn few<V: Vector, A: Lanes, S: Scaling<V>, const CODES: u8>(
    v: V,
    x: &[A],
    part: Range<usize>,
    scaling: S,
    run: Run<'_, V>,
    (seam, at): (&mut Seam, usize),
    codes: &mut [u8],
) -> bool {
    if part.is_empty() {
        return false;
    }
    // With the values beside them, where there are enough for a line.
    let from = if x.len() < LINE { part.start } else { part.start.min(x.len() - LINE) };
    let x = if x.len() < LINE { &x[part.clone()] } else { &x[from..from + LINE] };
    let part = part.start - from..part.end - from;
    let Some(line) = seam.room(at, part.start, x.len(), codes) else { return false };
    let mut nan = body::<V, A, S, CODES>(v, x, scaling, run, false, line);
    if nan {
        // A NaN beside them shows in its own place.
        nan = careful(v, &x[part.clone()], *run.entry, &mut line[part.clone()]);
    }
    seam.put(part.len(), codes);
    nan
}

/// Whether any value is NaN. Nothing is done after [`careful`], so that nothing has to be kept on the stack for that.
#[inline(always)]
fn body<V: Vector, A: Lanes, S: Scaling<V>, const CODES: u8>(
    v: V,
    x: &[A],
    scaling: S,
    run: Run<'_, V>,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    if codes.is_empty() || lines::<V, A, S, CODES>(v, x, scaling, run.codes, stream, codes) {
        return false;
    }
    careful(v, x, *run.entry, codes)
}
