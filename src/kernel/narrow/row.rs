//! A long row of values that are numbers within reach, while others are asked for.
#![allow(unsafe_code)] // loads and stores by pointers

use super::super::division::{reciprocal, same_integers};
use super::super::factor::factor;
use super::super::prefetch_second_level;
use super::super::rows::{IN_TURNS, Row, ranges_ask};
use super::super::scaling::{Product, Quotient, Scaling, TwoTerms};
use super::super::stream;
use super::super::vector::{Lanes, Vector, vectorized};
use super::codes::{ANY, Codes, Integers, SIGNED, UNSIGNED};

vectorized! {
    /// As [`rows::encode`](super::super::rows::encode), of as many values as codes.
    pub(in super::super) fn encode_row<V>[A: Lanes](v, x: &[A], row: &Row, codes: &mut [u8]) -> () {
        let (least, most) = row.codes;
        let zero = f32::from(row.zero);
        let integers = Integers { low: f32::from(least) - zero, high: f32::from(most) - zero, zero: row.zero };
        let Some(codes_of) = Codes::of(v, integers, u8::MAX) else { return };
        if row.zero == 0 && most == 127 {
            scaled::<V, A, SIGNED>(v, x, row, codes_of, codes);
        } else if row.codes == (0, 255) {
            scaled::<V, A, UNSIGNED>(v, x, row, codes_of, codes);
        } else {
            scaled::<V, A, ANY>(v, x, row, codes_of, codes);
        }
    }
}

#[inline(always)]
fn scaled<V: Vector, A: Lanes, const CODES: u8>(
    v: V,
    x: &[A],
    row: &Row,
    codes_of: Codes<V>,
    codes: &mut [u8],
) {
    let (least, most) = (row.codes.0.saturating_sub(row.zero), row.codes.1.saturating_sub(row.zero));
    let most = u32::from(least.unsigned_abs().max(most.unsigned_abs()));
    let factor = if row.divide { factor::<A>(row.scale, most) } else { Some(1.0 / row.scale) };
    if let Some(factor) = factor {
        return steps::<V, A, _, CODES>(v, x, Product(v.floats(factor)), row, codes_of, codes);
    }
    let by = reciprocal(row.scale);
    let (scale, near) = (v.floats(row.scale), v.floats(by.near));
    if by.exact || same_integers(row.scale, most) {
        steps::<V, A, _, CODES>(v, x, TwoTerms { near, rest: v.floats(by.rest) }, row, codes_of, codes);
    } else {
        steps::<V, A, _, CODES>(v, x, Quotient(scale), row, codes_of, codes);
    }
}

#[inline(always)]
fn steps<V: Vector, A: Lanes, S: Scaling<V>, const CODES: u8>(
    v: V,
    x: &[A],
    scaling: S,
    row: &Row,
    codes_of: Codes<V>,
    codes: &mut [u8],
) {
    let len = x.len().min(codes.len());
    if len < V::BYTES {
        return;
    }
    let stream = row.stream && stream::is_aligned(codes);
    let whole = codes.as_ptr().addr().is_multiple_of(V::BYTES);
    let (from, to) = (x.as_ptr(), codes.as_mut_ptr());
    // Without what the range has asked for.
    let shared = ranges_ask::<A>();
    let mut ask = row.ahead + if shared { len / IN_TURNS * size_of::<A>() } else { 0 };
    let mut at = 0;
    while at < len {
        // The last vector takes some of it for the second time.
        let place = at.min(len - V::BYTES);
        if row.ahead > 0 && !(shared && (at / V::BYTES).is_multiple_of(IN_TURNS)) {
            prefetch_second_level(from, V::BYTES * size_of::<A>(), ask);
            ask += V::BYTES * size_of::<A>();
        }
        // SAFETY: there are as many values and places from `place` on as the vector has codes; in whole vectors from the
        // first on, places are aligned as that is.
        unsafe {
            let ([a, b], [c, d]) = (v.load_two(from.add(place)), v.load_two(from.add(place + 2 * V::LANES)));
            // No value has parameters of its own.
            let integers = [
                v.nearest(scaling.scaled(v, a, 0)),
                v.nearest(scaling.scaled(v, b, 0)),
                v.nearest(scaling.scaled(v, c, 0)),
                v.nearest(scaling.scaled(v, d, 0)),
            ];
            // Nor is any beyond reach.
            let bytes = codes_of.bytes::<CODES>(v, integers, &mut v.words(0));
            let block =
                if A::READ_IN_TURNS { v.in_order_untwined(v.untwined(bytes)) } else { v.in_order(bytes) };
            if stream && whole && place == at {
                v.stream(to.add(place), block);
            } else if stream && place == at {
                v.stream_parts(to.add(place), block);
            } else {
                v.store(to.add(place), block);
            }
        }
        at += V::BYTES;
    }
}
