//! Ranges of columns of 16-bit numbers, by their bits in the order of the numbers.
//!
//! The ranges of all columns are read and written again and again: they are kept as integers of 16 bits, half as many bytes
//! as f32, and become numbers once, at the end.
#![allow(unsafe_code)] // loads and stores by pointers

use super::super::vector::{Avx2, Lanes, Vector};
use super::STEP;
use super::lines::{LINES, NEAR_LINES};

/// Columns whose ranges are read and written together: memory answers several lines of each stream in turns faster than
/// one.
const GROUP: usize = 128;

/// Words of a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Words([i16; STEP]);

/// Words as integers with a sign in the order of their numbers, and such integers as words again: all bits but the sign are
/// turned over where that is set. The infinities are the ends of the numbers, and NaN lies beyond.
#[inline(always)]
fn ordered<V: Vector>(v: V, words: V::Integers) -> V::Integers {
    v.xor(words, v.and(v.negative_words(words), v.words(i16::MAX)))
}

/// Adds whole lines to the ranges of their columns, those in front several at a time. `false` if a number is NaN; ranges are
/// then no larger than those of the other numbers.
#[inline(always)]
pub(super) fn lines<V: Vector, A: Lanes>(
    v: V,
    front: &[A],
    back: &[A],
    far: bool,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> bool {
    let columns = mins.len();
    debug_assert!(columns >= STEP && maxs.len() == columns);
    let mut least = vec![Words([i16::MAX; STEP]); columns.div_ceil(STEP)];
    let mut most = vec![Words([i16::MIN; STEP]); columns.div_ceil(STEP)];
    if far {
        some_lines::<V, A, LINES>(v, front, columns, &mut least, &mut most);
    } else {
        some_lines::<V, A, NEAR_LINES>(v, front, columns, &mut least, &mut most);
    }
    some_lines::<V, A, 1>(v, back, columns, &mut least, &mut most);
    for Words(words) in least.iter_mut().chain(&mut most) {
        for words in words.chunks_exact_mut(2 * V::LANES) {
            let words = words.as_mut_ptr().cast::<u8>();
            // SAFETY: so many words fill a vector.
            unsafe { v.store(words, ordered(v, v.load_bytes(words))) };
        }
    }
    let (least, most) = (least.as_ptr().cast::<A>(), most.as_ptr().cast::<A>());
    let mut nan = v.unmarked();
    for at in (0..columns).step_by(V::LANES) {
        // The last vector takes some of it for the second time.
        let at = at.min(columns - V::LANES);
        // SAFETY: vectors lie within the columns, which words and ranges are as many as, and words are numbers again.
        unsafe {
            let (low, high) = (v.load(least.add(at)), v.load(most.add(at)));
            nan = v.mark(nan, low, high);
            let (min, max) = (mins.as_mut_ptr().add(at), maxs.as_mut_ptr().add(at));
            v.put::<f32, false>(min, v.lesser(low, v.load(min.cast_const())), true);
            v.put::<f32, false>(max, v.greater(high, v.load(max.cast_const())), true);
        }
    }
    !v.marked(nan)
}

/// Adds as many lines for each stream, one after the other, so that each reads on where it is: that is seen by the
/// processor itself.
#[inline(always)]
fn some_lines<V: Vector, A: Lanes, const STREAMS: usize>(
    v: V,
    x: &[A],
    columns: usize,
    least: &mut [Words],
    most: &mut [Words],
) {
    let (least, most) = (least.as_mut_ptr().cast::<i16>(), most.as_mut_ptr().cast::<i16>());
    let (vector, stride) = (2 * V::LANES, x.len() / columns / STREAMS * columns);
    let groups = columns / GROUP * GROUP;
    for line in (0..stride).step_by(columns) {
        // SAFETY: lines lie within `x`, and groups and vectors within lines and words, which are at least as long.
        unsafe {
            for at in (0..groups).step_by(GROUP) {
                let (from, least, most) = (x.as_ptr().add(line + at), least.add(at), most.add(at));
                if V::LANES > Avx2::LANES {
                    add::<V, A, 4, STREAMS>(v, from, stride, least, most);
                } else {
                    add::<V, A, 8, STREAMS>(v, from, stride, least, most);
                }
            }
            for at in (groups..columns).step_by(vector) {
                // The last vector takes some of it for the second time.
                let at = at.min(columns - vector);
                add::<V, A, 1, STREAMS>(v, x.as_ptr().add(line + at), stride, least.add(at), most.add(at));
            }
        }
    }
}

/// Adds some vectors of numbers from each of some streams, which begin `stride` numbers apart.
///
/// # Safety
///
/// There are as many vectors at `least` and `most`, and at `from` in each stream.
#[inline(always)]
unsafe fn add<V: Vector, A: Lanes, const TOGETHER: usize, const STREAMS: usize>(
    v: V,
    from: *const A,
    stride: usize,
    least: *mut i16,
    most: *mut i16,
) {
    let vector = 2 * V::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let (mut low, mut high) = ([v.words(0); TOGETHER], [v.words(0); TOGETHER]);
        for (i, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
            *low = v.load_bytes(least.add(i * vector).cast());
            *high = v.load_bytes(most.add(i * vector).cast());
        }
        for stream in 0..STREAMS {
            let from = from.add(stream * stride);
            for (i, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
                let words = ordered(v, v.load_bytes(from.add(i * vector).cast()));
                (*low, *high) = (v.min_words(*low, words), v.max_words(*high, words));
            }
        }
        for (i, (low, high)) in low.into_iter().zip(high).enumerate() {
            v.store(least.add(i * vector).cast(), low);
            v.store(most.add(i * vector).cast(), high);
        }
    }
}
