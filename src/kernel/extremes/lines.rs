//! Ranges of columns: of numbers that have a range each, in lines of as many as there are ranges.
#![allow(unsafe_code)] // loads and stores by pointers

use super::super::vector::{Lanes, Vector, vectorized};
use super::super::{level, prefetch_second_level};
use super::{STEP, are_halves, ordered};

/// Vectors of ranges that are read and written together in the caches.
const VECTORS: usize = 4;

/// Lines that are read together: memory answers several streams faster than one.
pub(super) const LINES: usize = 8;

/// The same in the caches, where lines that lie a power of two apart take the places of each other.
pub(super) const NEAR_LINES: usize = 4;

/// Bytes of lines from which on these are taken to be past the caches: a part of a larger tensor.
const PAST_CACHES: usize = 8 << 20;

/// Bytes ahead of each line that are asked for past the caches, beside ranges that are read and written.
const AHEAD: usize = 4096;

/// Adds whole lines of as many values as there are ranges to these, where NaN is passed over and a zero is positive.
/// Whether all values are finite; `None` where this loop cannot serve.
#[inline]
pub(in super::super) fn lines<A: Lanes>(x: &[A], mins: &mut [f32], maxs: &mut [f32]) -> Option<bool> {
    let columns = mins.len();
    if columns < STEP || maxs.len() != columns || !x.len().is_multiple_of(columns) {
        return None;
    }
    let numbers = vector_lines(level(), x, columns, mins, maxs)?;
    let mut bounded = true;
    for (min, max) in mins.iter_mut().zip(maxs) {
        // Adding zero makes a negative zero positive.
        (*min, *max) = (*min + 0.0, *max + 0.0);
        bounded &= (*min > f32::NEG_INFINITY) & (*max < f32::INFINITY);
    }
    // An infinity that was there before tells nothing; then the values do.
    Some(numbers && (bounded || x.iter().all(|x| x.to_f32().is_finite())))
}

vectorized! {
    fn vector_lines<V>[A: Lanes](v, x: &[A], columns: usize, mins: &mut [f32], maxs: &mut [f32]) -> bool {
        all_lines(v, x, columns, mins, maxs)
    }
}

/// Whether no value is NaN.
#[inline(always)]
fn all_lines<V: Vector, A: Lanes>(v: V, x: &[A], columns: usize, mins: &mut [f32], maxs: &mut [f32]) -> bool {
    let far = size_of_val(x) >= PAST_CACHES;
    let together = if far { LINES } else { NEAR_LINES } * columns;
    let (front, back) = x.split_at(x.len() / together * together);
    // With a look at each number if one is NaN. What was found before stays: ranges only grow.
    if are_halves::<A>() && ordered::lines(v, front, back, far, mins, maxs) {
        return true;
    }
    let numbers = if far {
        some_lines::<V, A, LINES, true>(v, front, columns, mins, maxs)
    } else {
        some_lines::<V, A, NEAR_LINES, false>(v, front, columns, mins, maxs)
    };
    numbers & some_lines::<V, A, 1, false>(v, back, columns, mins, maxs)
}

/// As many lines for each stream, one after the other, so that each reads on where it is.
#[inline(always)]
fn some_lines<V: Vector, A: Lanes, const STREAMS: usize, const FAR: bool>(
    v: V,
    x: &[A],
    columns: usize,
    mins: &mut [f32],
    maxs: &mut [f32],
) -> bool {
    let stride = x.len() / columns / STREAMS * columns;
    let (group, pair) = (if FAR { STEP } else { VECTORS * V::LANES }, 2 * V::LANES);
    let groups = columns / group * group;
    let (mins, maxs) = (mins.as_mut_ptr(), maxs.as_mut_ptr());
    let mut nan = v.unmarked();
    for line in (0..stride).step_by(columns) {
        // SAFETY: lines lie within `x`, and groups and pairs within lines and ranges, which are as long.
        unsafe {
            for at in (0..groups).step_by(group) {
                let (from, mins, maxs) = (x.as_ptr().add(line + at), mins.add(at), maxs.add(at));
                if FAR {
                    for stream in 0..STREAMS {
                        prefetch_second_level(from.add(stream * stride), STEP * size_of::<A>(), AHEAD);
                    }
                }
                if group == pair {
                    add_numbers::<V, A, 2, STREAMS>(v, from, stride, mins, maxs, &mut nan);
                } else {
                    add_numbers::<V, A, VECTORS, STREAMS>(v, from, stride, mins, maxs, &mut nan);
                }
            }
            for at in (groups..columns).step_by(pair) {
                // The last pair takes some of it for the second time.
                let at = at.min(columns - pair);
                let (from, mins, maxs) = (x.as_ptr().add(line + at), mins.add(at), maxs.add(at));
                add_numbers::<V, A, 2, STREAMS>(v, from, stride, mins, maxs, &mut nan);
            }
        }
    }
    !v.marked(nan)
}

/// Adds so many vectors of numbers from each of some streams, which begin `stride` numbers apart, to ranges.
///
/// # Safety
///
/// There are as many numbers at `mins` and `maxs`, and at `from` in each stream.
#[inline(always)]
unsafe fn add_numbers<V: Vector, A: Lanes, const TOGETHER: usize, const STREAMS: usize>(
    v: V,
    from: *const A,
    stride: usize,
    mins: *mut f32,
    maxs: *mut f32,
    nan: &mut V::Marks,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut low, mut high) = ([v.floats(0.0); TOGETHER], [v.floats(0.0); TOGETHER]);
        for (i, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
            *low = v.load(mins.add(i * V::LANES).cast_const());
            *high = v.load(maxs.add(i * V::LANES).cast_const());
        }
        for stream in 0..STREAMS {
            let from = from.add(stream * stride);
            let mut values = [v.floats(0.0); TOGETHER];
            for (i, value) in values.iter_mut().enumerate() {
                *value = v.load(from.add(i * V::LANES));
                (low[i], high[i]) = (v.lesser(*value, low[i]), v.greater(*value, high[i]));
            }
            for pair in values.chunks_exact(2) {
                *nan = v.mark(*nan, pair[0], pair[1]);
            }
        }
        for (i, (low, high)) in low.into_iter().zip(high).enumerate() {
            v.put::<f32, false>(mins.add(i * V::LANES), low, true);
            v.put::<f32, false>(maxs.add(i * V::LANES), high, true);
        }
    }
}
