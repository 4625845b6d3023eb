//! Values that have parameters of their own each, as the columns of a row.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;
use core::ops::Range;

use super::super::column_reciprocals::{ColumnReciprocals, Terms};
use super::super::prefetch_second_level;
use super::super::scaling::{ColumnTerms, Columns, Product, Quotient, Scaling, TwoTerms};
use super::super::stream::{self, Seam};
use super::super::vector::{Lanes, Vector, vectorized};
use super::codes::{ANY, Codes, Integers, SIGNED, UNSIGNED};
use super::lines::{LINE, lines};
use super::{EncodeParams, VECTOR, in_order};

/// Lines that are worked on together: what is read from as many places of memory arrives faster, too.
const TOGETHER: usize = 8;

/// Bytes of lines that are asked for while others are worked on: in the second-level cache, both have room.
const ASKED: usize = 1 << 18;

/// Bytes ahead in a line that are asked for, where lines are too long for that.
const AHEAD: usize = 4096;

vectorized! {
    /// The codes of lines of values, the first of them from the element `phase` on, each with a scale of its own, one for
    /// each place in a line, and all else in common: the first of each other parameter. Whether any value is NaN; `None`
    /// within for codes and lines that these loops cannot do. Scales are factors where there are no `reciprocals`.
    pub(super) fn by_lines<V>[A: Lanes](
        v,
        x: &[A],
        phase: usize,
        params: &EncodeParams<'_, f32>,
        reciprocals: Option<&ColumnReciprocals>,
        mask: u8,
        stream: bool,
        codes: &mut [u8],
    ) -> Option<bool> {
        let integers = Integers {
            low: params.low.first().copied().unwrap_or_default(),
            high: params.high.first().copied().unwrap_or_default(),
            zero: params.zero_after.first().copied().unwrap_or_default() as i16,
        };
        // Bounds that are integers of 16 bits, with one to spare.
        const BOUND: f32 = 32_000.0;
        let within = integers.low.abs() <= BOUND && integers.high.abs() <= BOUND;
        let codes_of = Codes::of(v, integers, mask).filter(|_| within && params.scale.len() >= LINE)?;
        let (low, high, zero) = (integers.low, integers.high, f32::from(integers.zero));
        let whole = mask == u8::MAX;
        let signed = whole && high == 127.0 && (-128.0..0.0).contains(&low) && zero == 0.0;
        let unsigned = whole && low == -zero && high == 255.0 - zero;
        let by = reciprocals.and_then(|all| all.terms(params.scale.len()));
        let params = Common { params, by, mask, codes: codes_of };
        Some(match (reciprocals.is_some(), signed, unsigned) {
            (true, true, _) => each_line::<V, A, true, SIGNED>(v, x, phase, params, stream, codes),
            (true, _, true) => each_line::<V, A, true, UNSIGNED>(v, x, phase, params, stream, codes),
            (true, ..) => each_line::<V, A, true, ANY>(v, x, phase, params, stream, codes),
            (false, true, _) => each_line::<V, A, false, SIGNED>(v, x, phase, params, stream, codes),
            (false, _, true) => each_line::<V, A, false, UNSIGNED>(v, x, phase, params, stream, codes),
            (false, ..) => each_line::<V, A, false, ANY>(v, x, phase, params, stream, codes),
        })
    }
}

/// What all lines share.
#[derive(Clone, Copy)]
struct Common<'a, V: Vector> {
    params: &'a EncodeParams<'a, f32>,
    /// The reciprocals of the scales, and whether they serve for all of these.
    by: Option<(Terms<'a>, bool)>,
    mask: u8,
    codes: Codes<V>,
}

impl<'a, V: Vector> Common<'a, V> {
    /// Values that have the scales from `column` on.
    #[inline(always)]
    fn line<A>(&self, x: &'a [A], column: usize) -> Line<'a, A> {
        let columns = column..column + x.len();
        let by = self.by.filter(|&(_, whole)| whole).map(|(terms, _)| terms.part(columns.clone()));
        Line { x, scale: &self.params.scale[columns], by }
    }
}

#[inline(always)]
fn each_line<V: Vector, A: Lanes, const DIVIDE: bool, const CODES: u8>(
    v: V,
    x: &[A],
    phase: usize,
    common: Common<'_, V>,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    let (len, width) = (x.len().min(codes.len()), common.params.scale.len());
    let mut seam = stream.then(Seam::<u8>::default);
    let (mut start, mut first, mut nan) = (0, phase % width.max(1), false);
    while start < len {
        let end = (start + width - first).min(len);
        // Several lines at once, those past the caches from where a line of the caches begins.
        let head = if stream { stream::head(&codes[start..]) } else { 0 };
        let lines = (len.saturating_sub(start + head) / width).min(TOGETHER);
        let several = start + lines * width;
        if lines > 1 && start + head < end && (!stream || width.is_multiple_of(LINE)) {
            if let (Some(seam), true) = (&mut seam, head > 0) {
                let line = common.line(&x[start..end], first);
                nan |= line.few::<V, DIVIDE, CODES>(v, 0..head, common, (seam, start), codes);
                (start, first) = (start + head, first + head);
                continue;
            }
            let (x, codes) = (&x[start..several], &mut codes[start..several]);
            if together::<V, A, DIVIDE, CODES>(v, x, first, common, stream, codes) {
                start = several;
                continue;
            }
        }
        let line = common.line(&x[start..end], first);
        let Some(seam) = &mut seam else {
            nan |= line.encode::<V, DIVIDE, CODES>(v, common, false, &mut codes[start..end]);
            (start, first) = (end, 0);
            continue;
        };
        // Lines of the caches that are not all of this one.
        let head = (start + stream::head(&codes[start..])).min(end);
        let tail = end - (end - head) % LINE;
        nan |= line.few::<V, DIVIDE, CODES>(v, 0..head - start, common, (seam, start), codes);
        let body = line.part(head - start..tail - start);
        nan |= body.encode::<V, DIVIDE, CODES>(v, common, true, &mut codes[head..tail]);
        nan |= line.few::<V, DIVIDE, CODES>(v, tail - start..end - start, common, (seam, tail), codes);
        (start, first) = (end, 0);
    }
    if let Some(seam) = seam {
        seam.finish(codes);
        // What went past the caches becomes visible to other threads in the order of the program.
        stream::finish();
    }
    nan
}

/// Parameters that lie around the end of a line.
#[repr(align(64))]
struct Around([f32; LINE]);

/// Four vectors of parameters from `column` on, of which the first one follows after the last. There are no fewer.
#[inline(always)]
fn four<V: Vector>(v: V, all: &[f32], column: usize) -> [V::Floats; 4] {
    let mut around;
    let four = match all.get(column..column + V::BYTES) {
        Some(four) => four,
        None => {
            around = Around([1.0; LINE]);
            let (end, begin) = around.0[..V::BYTES].split_at_mut(all.len() - column);
            end.copy_from_slice(&all[column..]);
            begin.copy_from_slice(&all[..begin.len()]);
            &around.0[..V::BYTES]
        }
    };
    let from = four.as_ptr();
    // SAFETY: there are as many numbers as four vectors have.
    unsafe {
        [
            v.load(from),
            v.load(from.add(V::LANES)),
            v.load(from.add(2 * V::LANES)),
            v.load(from.add(3 * V::LANES)),
        ]
    }
}

/// The codes of some lines from column `first` to that column again, whose parameters are so made ready once for
/// all of them. `false` where a value shows that is NaN or too large, and codes do not count.
#[inline(always)]
fn together<V: Vector, A: Lanes, const DIVIDE: bool, const CODES: u8>(
    v: V,
    x: &[A],
    first: usize,
    common: Common<'_, V>,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    let scales = common.params.scale;
    let width = scales.len();
    if width < V::BYTES || x.len() != codes.len() {
        return false;
    }
    let lines = x.len() / width;
    let mut least = v.words(0);
    let mut fronts = [v.words(0); TOGETHER];
    let mut at = 0;
    while at < width {
        // The last vectors may overlap with those before them.
        let place = at.min(width - V::BYTES);
        let column = if first + place < width { first + place } else { first + place - width };
        let two_terms = match common.by {
            Some((by, whole)) if DIVIDE => {
                let near = four(v, by.near, column);
                let [a, b, c, d] = near;
                let serves = whole || !v.marked(v.mark(v.mark(v.unmarked(), a, b), c, d));
                if serves { Some((near, four(v, by.rest, column))) } else { None }
            }
            _ => None,
        };
        // The same columns of the lines that follow: what lies ahead in a line ends with it.
        let bytes = lines * width * size_of::<A>();
        let ahead = if bytes <= ASKED { bytes } else { AHEAD };
        // SAFETY: `place + V::BYTES` is at most the width, and as many lines of that were found in both slices. They are
        // streamed to only from beginnings of vectors on, as the caller says.
        unsafe {
            let (from, to) = (x.as_ptr().add(place), codes.as_mut_ptr().add(place));
            let places = Places { from, to, lines, width, stream, ahead };
            if let Some((near, rest)) = two_terms {
                let ([a, b, c, d], [e, f, g, h]) = (near, rest);
                let scalings = [
                    TwoTerms { near: a, rest: e },
                    TwoTerms { near: b, rest: f },
                    TwoTerms { near: c, rest: g },
                    TwoTerms { near: d, rest: h },
                ];
                down::<V, A, _, CODES>(v, places, scalings, common.codes, (&mut least, &mut fronts));
            } else if DIVIDE {
                let [a, b, c, d] = four(v, scales, column);
                let scalings = [Quotient(a), Quotient(b), Quotient(c), Quotient(d)];
                down::<V, A, _, CODES>(v, places, scalings, common.codes, (&mut least, &mut fronts));
            } else {
                let [a, b, c, d] = four(v, scales, column);
                let scalings = [Product(a), Product(b), Product(c), Product(d)];
                down::<V, A, _, CODES>(v, places, scalings, common.codes, (&mut least, &mut fronts));
            }
        }
        at += V::BYTES;
    }
    !v.any_word(least, i16::MIN)
}

/// Where values of the first of some lines are, and where their codes go.
#[derive(Clone, Copy)]
struct Places<A> {
    from: *const A,
    to: *mut u8,
    lines: usize,
    /// From a line to the next one.
    width: usize,
    stream: bool,
    /// Bytes from a value to one that is asked for, where codes go past the caches.
    ahead: usize,
}

/// The codes of a vector of each of the lines, of which there are at most [`TOGETHER`]. If they are streamed to, and a line of
/// the caches has two vectors, the first of these waits in `fronts` for the second: of so many lines that are left half
/// written, some memories had to be read again, and took more than twice as long.
///
/// # Safety
///
/// They are there, and their places, which are multiples of the length of a vector if they are streamed to.
#[inline(always)]
unsafe fn down<V: Vector, A: Lanes, S: Scaling<V>, const CODES: u8>(
    v: V,
    places: Places<A>,
    scalings: [S; 4],
    codes_of: Codes<V>,
    (least, fronts): (&mut V::Integers, &mut [V::Integers; TOGETHER]),
) {
    let Places { mut from, mut to, lines, width, stream, ahead } = places;
    let in_halves = V::BYTES < LINE;
    for front in fronts.iter_mut().take(lines) {
        if stream {
            prefetch_second_level(from, V::BYTES * size_of::<A>(), ahead);
        }
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b, c, d] = scalings;
            let integers = [
                v.nearest(a.scaled(v, v.load(from), 0)),
                v.nearest(b.scaled(v, v.load(from.add(V::LANES)), 0)),
                v.nearest(c.scaled(v, v.load(from.add(2 * V::LANES)), 0)),
                v.nearest(d.scaled(v, v.load(from.add(3 * V::LANES)), 0)),
            ];
            let block = codes_of.narrowed::<CODES>(v, integers, least);
            if !stream {
                v.store(to, block);
            } else if in_halves && to.addr().is_multiple_of(LINE) {
                *front = block;
            } else {
                if in_halves {
                    v.stream(to.sub(V::BYTES), *front);
                }
                v.stream(to, block);
            }
        }
        (from, to) = (from.wrapping_add(width), to.wrapping_add(width));
    }
}

/// Values and as many scales.
#[derive(Clone, Copy)]
struct Line<'a, A> {
    x: &'a [A],
    scale: &'a [f32],
    /// Their reciprocals, if they serve.
    by: Option<Terms<'a>>,
}

impl<A: Lanes> Line<'_, A> {
    fn part(&self, part: Range<usize>) -> Self {
        let by = self.by.map(|by| by.part(part.clone()));
        Self { x: &self.x[part.clone()], scale: &self.scale[part], by }
    }

    /// Whether any value is NaN.
    #[inline(always)]
    fn encode<V: Vector, const DIVIDE: bool, const CODES: u8>(
        self,
        v: V,
        common: Common<'_, V>,
        stream: bool,
        codes: &mut [u8],
    ) -> bool {
        let Self { x, scale, .. } = self;
        if x.len() < LINE {
            // Beside zeros, whose codes are not kept.
            let (mut values, mut scales, mut line) = ([A::default(); LINE], [1.0; LINE], [0; LINE]);
            values[..x.len()].copy_from_slice(x);
            scales[..x.len()].copy_from_slice(scale);
            let padded = Line { x: &values, scale: &scales, by: None };
            let nan = !x.is_empty() && padded.encode_all::<V, DIVIDE, CODES>(v, common, false, &mut line);
            codes.copy_from_slice(&line[..codes.len()]);
            return nan;
        }
        self.encode_all::<V, DIVIDE, CODES>(v, common, stream, codes)
    }

    /// As [`encode`](Self::encode), of no fewer values than codes of a line.
    #[inline(always)]
    fn encode_all<V: Vector, const DIVIDE: bool, const CODES: u8>(
        self,
        v: V,
        common: Common<'_, V>,
        stream: bool,
        codes: &mut [u8],
    ) -> bool {
        let done = match self.by {
            Some(Terms { near, rest }) if DIVIDE => {
                let scaling = ColumnTerms { near: near.as_ptr(), rest: rest.as_ptr() };
                lines::<V, A, _, CODES>(v, self.x, scaling, common.codes, stream, codes)
            }
            _ => {
                let scaling = Columns::<DIVIDE>(self.scale.as_ptr());
                lines::<V, A, _, CODES>(v, self.x, scaling, common.codes, stream, codes)
            }
        };
        if done {
            return false;
        }
        let params = EncodeParams { scale: self.scale, ..*common.params };
        // SAFETY: all machines with vectors have AVX2 and FMA.
        unsafe { columns::<A, DIVIDE, true>(self.x, &params, common.mask.into(), codes) }
    }

    /// The codes of a `part`, fewer than a line of the caches, which go to `at` by way of the `seam`.
    #[inline(always)]
    fn few<V: Vector, const DIVIDE: bool, const CODES: u8>(
        &self,
        v: V,
        part: Range<usize>,
        common: Common<'_, V>,
        (seam, at): (&mut Seam<u8>, usize),
        codes: &mut [u8],
    ) -> bool {
        if part.is_empty() {
            return false;
        }
        let Some(line) = seam.room(at, 0, part.len(), codes) else { return false };
        let nan = self.part(part.clone()).encode::<V, DIVIDE, CODES>(v, common, false, line);
        seam.put(part.len(), codes);
        nan
    }
}

/// Values that have a parameter each, or a scale each and all else in common, and as many codes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn columns<A: Lanes, const DIVIDE: bool, const COMMON: bool>(
    x: &[A],
    params: &EncodeParams<'_, f32>,
    mask: u16,
    codes: &mut [u8],
) -> bool {
    let mut len = x.len().min(codes.len()).min(params.scale.len());
    if !COMMON {
        len = len.min(params.low.len()).min(params.high.len());
    }
    let common = [params.low, params.high].map(|all| all.first().copied().unwrap_or_default());
    let [common_low, common_high] = common.map(|bound| _mm256_set1_ps(bound));
    let common_after = _mm256_set1_epi32(params.zero_after.first().copied().unwrap_or_default());
    let before = (params.zero_before.len() >= len).then_some(params.zero_before.as_ptr());
    let after = (params.zero_after.len() >= len).then_some(params.zero_after.as_ptr());
    let mask = _mm256_set1_epi32((mask & 0xFF).into());
    let mut nan = _mm256_setzero_ps();
    // Eight codes from `at` on.
    let mut eight = |at: usize| {
        // SAFETY: `at + 8` is at most the length of every array that is there.
        unsafe {
            let part = |array: *const f32| _mm256_loadu_ps(array.add(at));
            let (x, scale) = (A::eight(x.as_ptr().add(at)), part(params.scale.as_ptr()));
            let mut v = if DIVIDE { _mm256_div_ps(x, scale) } else { _mm256_mul_ps(x, scale) };
            if let (false, Some(before)) = (COMMON, before) {
                v = _mm256_add_ps(v, part(before));
            }
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            // The second operand where the first is NaN.
            let (low, high) = if COMMON {
                (common_low, common_high)
            } else {
                (part(params.low.as_ptr()), part(params.high.as_ptr()))
            };
            let v = _mm256_min_ps(_mm256_max_ps(v, low), high);
            let mut q = _mm256_cvtps_epi32(v);
            if COMMON {
                q = _mm256_add_epi32(q, common_after);
            } else if let Some(after) = after {
                q = _mm256_add_epi32(q, _mm256_loadu_si256(after.add(at).cast()));
            }
            _mm256_and_si256(q, mask)
        }
    };
    let to = codes.as_mut_ptr();
    let mut at = 0;
    while at + VECTOR <= len {
        let low = _mm256_packs_epi32(eight(at), eight(at + 8));
        let high = _mm256_packs_epi32(eight(at + 16), eight(at + 24));
        let bytes = in_order(_mm256_packus_epi16(low, high));
        // SAFETY: there are 32 codes from `at` on.
        unsafe { _mm256_storeu_si256(to.add(at).cast(), bytes) };
        at += VECTOR;
    }
    // The last eight overlap with those before.
    while at < len && len >= 8 {
        let place = at.min(len - 8);
        let words = _mm256_packs_epi32(eight(place), _mm256_setzero_si256());
        let bytes = in_order(_mm256_packus_epi16(words, words));
        // SAFETY: there are eight codes from `place` on.
        unsafe { _mm_storel_epi64(to.add(place).cast(), _mm256_castsi256_si128(bytes)) };
        at += 8;
    }
    _mm256_movemask_ps(nan) != 0
}
