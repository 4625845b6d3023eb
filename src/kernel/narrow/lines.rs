//! The innermost loops: some values, and their codes vector by vector.
#![allow(unsafe_code)] // loads and stores by pointers

use super::super::scaling::Scaling;
use super::super::stream;
use super::super::vector::{Lanes, Vector};
use super::codes::Codes;

/// Codes of one cache line.
pub(super) const LINE: usize = 64;

/// The codes of values, past the caches where they fill whole lines and begin one, if `stream`. `false` where there are
/// fewer than a vector has codes, or one shows that is NaN or too large, and codes do not count.
///
/// Parameters of [`Columns`](super::super::scaling::Columns) are as many as values.
#[inline(always)]
pub(super) fn lines<V: Vector, A: Lanes, S: Scaling<V>, const CODES: u8>(
    v: V,
    x: &[A],
    scaling: S,
    codes_of: Codes<V>,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    let len = x.len().min(codes.len());
    let (from, to) = (x.as_ptr(), codes.as_mut_ptr());
    let mut least = v.words(0);
    if len < V::BYTES {
        return false;
    }
    let mut at = 0;
    // SAFETY: every access is to the elements of a vector from an `at` on that is at most `len − V::BYTES`; the aligned
    // ones are a multiple of a line behind the beginning of one.
    unsafe {
        if stream && to.addr().is_multiple_of(LINE) {
            let second = stream::second_place(len);
            while at < second {
                for at in [at, at + second] {
                    stream_line::<V, A, S, CODES>(v, from, at, scaling, codes_of, &mut least, to);
                }
                at += LINE;
            }
            at += second;
            while at + LINE <= len {
                stream_line::<V, A, S, CODES>(v, from, at, scaling, codes_of, &mut least, to);
                at += LINE;
            }
        }
        // What lies across two lines of the caches costs twice: but for the first vectors, values begin where a line does,
        // and so do codes, where these fill one and are not what takes longest.
        if at == 0 && len >= 16 * V::BYTES {
            let aligned = from.align_offset(LINE);
            if 0 < aligned && aligned < V::BYTES {
                let block = vector::<V, A, S, CODES>(v, from, 0, scaling, codes_of, &mut least);
                v.store(to, block);
                at = aligned;
            }
            let beside = to.add(at).addr().wrapping_neg() % V::BYTES;
            if S::LIGHT && V::BYTES == LINE && beside > 0 && beside.is_multiple_of(4) {
                // Codes of two vectors become one that begins there, and get their order in the same step.
                let places = v.places(beside as i32 / 4, in_turns::<V, A, S>());
                let mut front = bytes::<V, A, S, CODES>(v, from, at, scaling, codes_of, &mut least);
                v.store(to.add(at), in_order::<V, A, S>(v, front));
                at += V::BYTES;
                while at + V::BYTES <= len {
                    let back = bytes::<V, A, S, CODES>(v, from, at, scaling, codes_of, &mut least);
                    v.store(to.add(at - V::BYTES + beside), v.joined(front, places, back));
                    front = back;
                    at += V::BYTES;
                }
                v.store(to.add(at - V::BYTES), in_order::<V, A, S>(v, front));
            }
        }
        while at + V::BYTES <= len {
            let block = vector::<V, A, S, CODES>(v, from, at, scaling, codes_of, &mut least);
            v.store(to.add(at), block);
            at += V::BYTES;
        }
        if at < len {
            // Overlaps with what lies before it.
            let place = len - V::BYTES;
            let block = vector::<V, A, S, CODES>(v, from, place, scaling, codes_of, &mut least);
            v.store(to.add(place), block);
        }
    }
    !v.any_word(least, i16::MIN)
}

/// A line of codes past the caches, as [`vector`] finds them.
///
/// # Safety
///
/// There are as many values and places from `at` on, where a line begins, and parameters for them.
#[inline(always)]
unsafe fn stream_line<V: Vector, A: Lanes, S: Scaling<V>, const CODES: u8>(
    v: V,
    from: *const A,
    at: usize,
    scaling: S,
    codes_of: Codes<V>,
    least: &mut V::Integers,
    to: *mut u8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let first = vector::<V, A, S, CODES>(v, from, at, scaling, codes_of, least);
        if V::BYTES < LINE {
            let second = vector::<V, A, S, CODES>(v, from, at + V::BYTES, scaling, codes_of, least);
            v.stream(to.add(at), first);
            v.stream(to.add(at + V::BYTES), second);
        } else {
            v.stream(to.add(at), first);
        }
    }
}

/// The codes of the values from `at` on; `least` is lowered to their integers.
///
/// # Safety
///
/// There are as many of them as a vector has codes, and parameters for them.
#[inline(always)]
pub(super) unsafe fn vector<V: Vector, A: Lanes, S: Scaling<V>, const CODES: u8>(
    v: V,
    from: *const A,
    at: usize,
    scaling: S,
    codes_of: Codes<V>,
    least: &mut V::Integers,
) -> V::Integers {
    // SAFETY: the caller's promise.
    unsafe { in_order::<V, A, S>(v, bytes::<V, A, S, CODES>(v, from, at, scaling, codes_of, least)) }
}

/// Whether values are read [in turns](Lanes::READ_IN_TURNS): only where it does not matter which parameters are whose.
#[inline(always)]
const fn in_turns<V: Vector, A: Lanes, S: Scaling<V>>() -> bool {
    A::READ_IN_TURNS && !S::EACH
}

/// What [`bytes`] gives, in its order.
#[inline(always)]
fn in_order<V: Vector, A: Lanes, S: Scaling<V>>(v: V, bytes: V::Integers) -> V::Integers {
    if in_turns::<V, A, S>() { v.in_order_untwined(bytes) } else { v.in_order(bytes) }
}

/// As [`vector`], but for the order of integers of 32 bits: see [`Codes::bytes`].
///
/// # Safety
///
/// As there.
#[inline(always)]
unsafe fn bytes<V: Vector, A: Lanes, S: Scaling<V>, const CODES: u8>(
    v: V,
    from: *const A,
    at: usize,
    scaling: S,
    codes_of: Codes<V>,
    least: &mut V::Integers,
) -> V::Integers {
    // SAFETY: the caller's promise.
    let integers = unsafe {
        if in_turns::<V, A, S>() {
            let ([a, b], [c, d]) = (v.load_two(from.add(at)), v.load_two(from.add(at + 2 * V::LANES)));
            let integers = [
                v.nearest(scaling.scaled(v, a, at)),
                v.nearest(scaling.scaled(v, b, at)),
                v.nearest(scaling.scaled(v, c, at)),
                v.nearest(scaling.scaled(v, d, at)),
            ];
            return v.untwined(codes_of.bytes::<CODES>(v, integers, least));
        }
        [
            integers(v, from, at, scaling),
            integers(v, from, at + V::LANES, scaling),
            integers(v, from, at + 2 * V::LANES, scaling),
            integers(v, from, at + 3 * V::LANES, scaling),
        ]
    };
    codes_of.bytes::<CODES>(v, integers, least)
}

/// The nearest integers of the lanes from `at` on.
///
/// # Safety
///
/// As [`vector`].
#[inline(always)]
unsafe fn integers<V: Vector, A: Lanes, S: Scaling<V>>(
    v: V,
    from: *const A,
    at: usize,
    scaling: S,
) -> V::Integers {
    // SAFETY: the caller's promise.
    unsafe { v.nearest(scaling.scaled(v, v.load(from.add(at)), at)) }
}

#[cfg(test)]
mod tests {
    use super::super::super::forced::available;
    use super::super::super::vector::vectorized;
    use super::*;

    vectorized! {
        /// The codes from `beside` on of two vectors, counted from zero, and those of the first vector.
        fn two_vectors<V>[](v, untwined: bool, beside: usize) -> [Vec<u8>; 2] {
            // Even places and odd ones of two vectors after each other, where those were read in turns.
            let count = |first: usize| {
                let number = |i: usize| {
                    let (pair, i) = (i / (2 * V::LANES) * 2 * V::LANES, i % (2 * V::LANES));
                    (first + pair + if untwined { i % V::LANES * 2 + i / V::LANES } else { i }) as i32
                };
                let mut integers = [v.integers(0); 4];
                for (k, integers) in integers.iter_mut().enumerate() {
                    let lanes: Vec<i32> = (0..V::LANES).map(|i| number(k * V::LANES + i)).collect();
                    // SAFETY: as many numbers as lanes.
                    *integers = unsafe { v.load_bytes(lanes.as_ptr().cast()) };
                }
                let [a, b, c, d] = integers;
                let bytes = v.to_unsigned_bytes(v.to_words(a, b), v.to_words(c, d));
                if untwined { v.untwined(bytes) } else { bytes }
            };
            let (front, back) = (count(0), count(V::BYTES));
            let joined = v.joined(front, v.places(beside as i32 / 4, untwined), back);
            let first = if untwined { v.in_order_untwined(front) } else { v.in_order(front) };
            [joined, first].map(|vector| {
                let mut bytes = vec![0; V::BYTES];
                // SAFETY: room for a vector.
                unsafe { v.store(bytes.as_mut_ptr(), vector) };
                bytes
            })
        }
    }

    #[test]
    fn codes_of_two_vectors_are_joined_in_their_order() {
        for level in available() {
            for untwined in [false, true] {
                for beside in (0..LINE).step_by(4) {
                    let Some([joined, first]) = two_vectors(level, untwined, beside) else { continue };
                    if beside < first.len() {
                        assert!(first.iter().enumerate().all(|(i, &code)| usize::from(code) == i));
                        assert!(joined.iter().enumerate().all(|(i, &code)| usize::from(code) == beside + i));
                    }
                }
            }
        }
    }
}
