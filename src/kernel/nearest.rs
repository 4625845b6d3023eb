//! The nearest of a table of short vectors,
//!
//! ```text
//! argmin_j sum_t h_t (x_t - c_jt)^2.
//! ```
//!
//! Distances are summed as they stand. Multiplied out they would cost a third less, but lose the digits of vectors that
//! are close to each other and far from the origin; so a vector of the table is always its own nearest, and clustering
//! and encoding agree. Several vectors of the table are compared at once, one in each lane.

use super::dispatch;
use crate::element::{Element, Real};

/// Vectors of the table side by side.
const LANES: usize = 16;

/// A table of vectors, ready to be searched.
#[derive(Debug, Clone)]
pub(crate) struct Table<T> {
    dimension: usize,
    /// Coordinate t of a block of vectors, for each block and each t. Infinite where the last block has no vector.
    blocks: Vec<[T; LANES]>,
}

impl<T: Real> Table<T> {
    /// The table of `vectors`, one after the other.
    pub(crate) fn new(vectors: &[T], dimension: usize) -> Self {
        let dimension = dimension.max(1);
        let count = vectors.len().div_ceil(dimension.saturating_mul(LANES));
        let mut blocks = vec![[T::infinity(); LANES]; count * dimension];
        for (j, vector) in vectors.chunks_exact(dimension).enumerate() {
            let columns = blocks.iter_mut().skip(j / LANES * dimension);
            columns.zip(vector).for_each(|(column, &c)| column[j % LANES] = c);
        }
        Self { dimension, blocks }
    }
}

dispatch! {
    fn search[T: Real](x: &[T], len: usize, weights: Option<&[T]>, table: &Table<T>, found: &mut [u32]) {
        match (weights, len, table.dimension) {
            (Some(weights), ..) => search_weighted(x, len, weights, table, found),
            // Loops of known length are unrolled.
            (None, 2, 2) => search_plain::<T, 2>(x, len, table, found),
            (None, 4, 4) => search_plain::<T, 4>(x, len, table, found),
            (None, 8, 8) => search_plain::<T, 8>(x, len, table, found),
            _ => search_plain::<T, 0>(x, len, table, found),
        }
    }
}

/// Without weights. `D` is the dimension of the table and the length of each vector, or 0 for any.
#[inline(always)]
fn search_plain<T: Real, const D: usize>(x: &[T], len: usize, table: &Table<T>, found: &mut [u32]) {
    let (len, d) = if D > 0 { (D, D) } else { (len, table.dimension) };
    for (x, found) in x.chunks_exact(len).zip(found) {
        let mut least = Least::new();
        for columns in table.blocks.chunks_exact(d) {
            let mut distance = [T::zero(); LANES];
            for (&x, column) in x.iter().zip(columns) {
                for lane in 0..LANES {
                    let difference = x - column[lane];
                    distance[lane] += difference * difference;
                }
            }
            least.take(&distance);
        }
        *found = least.place();
    }
}

#[inline(always)]
fn search_weighted<T: Real>(x: &[T], len: usize, weights: &[T], table: &Table<T>, found: &mut [u32]) {
    for ((x, h), found) in x.chunks_exact(len).zip(weights.chunks_exact(len)).zip(found) {
        let mut least = Least::new();
        for columns in table.blocks.chunks_exact(table.dimension) {
            let mut distance = [T::zero(); LANES];
            for ((&x, &h), column) in x.iter().zip(h).zip(columns) {
                for lane in 0..LANES {
                    let difference = x - column[lane];
                    distance[lane] += h * difference * difference;
                }
            }
            least.take(&distance);
        }
        *found = least.place();
    }
}

/// The least distance of each lane so far, and the block it is in.
struct Least<T> {
    distance: [T; LANES],
    /// Numbers of blocks as floats, so that one comparison chooses both.
    block: [T; LANES],
    next: T,
}

impl<T: Real> Least<T> {
    #[inline(always)]
    fn new() -> Self {
        Self { distance: [T::infinity(); LANES], block: [T::zero(); LANES], next: T::zero() }
    }

    /// Takes the distances of the next block. NaN is no distance.
    #[inline(always)]
    fn take(&mut self, distance: &[T; LANES]) {
        for ((new, least), block) in distance.iter().zip(&mut self.distance).zip(&mut self.block) {
            let better = *new < *least;
            *least = if better { *new } else { *least };
            *block = if better { self.next } else { *block };
        }
        self.next += T::one();
    }

    /// The first place of the least distance of all.
    #[inline(always)]
    fn place(&self) -> u32 {
        let mut lane_of = [T::zero(); LANES];
        for lane in 1..LANES {
            lane_of[lane] = lane_of[lane - 1] + T::one();
        }
        let lanes = <T as Element>::from_f64(LANES as f64);
        let mut distance = self.distance;
        let mut place = [T::zero(); LANES];
        for lane in 0..LANES {
            place[lane] = self.block[lane] * lanes + lane_of[lane];
        }
        // Without branches: they would be taken at random.
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                let (a, b) = (distance[lane], distance[lane + half]);
                distance[lane] = if b < a { b } else { a };
            }
            half /= 2;
        }
        let least = distance[0];
        for (place, distance) in place.iter_mut().zip(&self.distance) {
            *place = if *distance == least { *place } else { T::infinity() };
        }
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                let (a, b) = (place[lane], place[lane + half]);
                place[lane] = if b < a { b } else { a };
            }
            half /= 2;
        }
        Element::to_f32(place[0]) as u32
    }
}

/// The place in the table of the vector that is nearest to each vector of `x`; the first of several equally near.
/// The vectors of `x` may be shorter than those of the table, `len` numbers, which are then compared in these.
/// `weights` has one for each number of `x`. Distances are those of the arithmetic of T. At most 2^20 vectors can be
/// told apart.
pub(crate) fn nearest<T: Real>(
    x: &[T],
    len: usize,
    weights: Option<&[T]>,
    table: &Table<T>,
    found: &mut [u32],
) {
    search::<T>(x, len.max(1), weights, table, found);
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_vector_of_the_table_is_nearer(
            dimension in 1_usize..=9,
            less in 0_usize..3,
            picks in proptest::collection::vec((-50_i32..50, 0_u32..4), 1..300),
            count in 1_usize..40,
        ) {
            let vectors: Vec<f32> =
                picks.iter().cycle().take(count * dimension).map(|pick| pick.0 as f32 * 0.5 + 3.0).collect();
            let x: Vec<f32> = picks.iter().map(|pick| pick.0 as f32).collect();
            let h: Vec<f32> = picks.iter().map(|pick| pick.1 as f32).collect();
            let len = dimension.saturating_sub(less).max(1);
            let table = Table::new(&vectors, dimension);
            for weighted in [false, true] {
                let found = agreed(|| {
                    let mut found = vec![0; x.len() / len];
                    nearest(&x, len, weighted.then_some(&h), &table, &mut found);
                    found
                });
                for (i, found) in found.iter().enumerate() {
                    let distance = |j: usize| -> f32 {
                        let term = |t: usize| {
                            let h = if weighted { h[i * len + t] } else { 1.0 };
                            h * (x[i * len + t] - vectors[j * dimension + t]).powi(2)
                        };
                        (0..len).map(term).sum()
                    };
                    // Small integers and halves are exact.
                    let least = (0..count).map(distance).fold(f32::INFINITY, f32::min);
                    prop_assert_eq!((0..count).position(|j| distance(j) == least), Some(*found as usize));
                }
            }
        }
    }

    #[test]
    fn close_vectors_far_from_the_origin_are_told_apart() {
        let vectors: Vec<f32> = (0..256).map(|i| 1000.0 + (i / 2) as f32 * 1e-3 + (i % 2) as f32).collect();
        let mut found = [0; 128];
        nearest(&vectors, 2, None, &Table::new(&vectors, 2), &mut found);
        assert!(found.iter().enumerate().all(|(i, &found)| found as usize == i), "{found:?}");
    }

    #[test]
    fn what_is_no_number_goes_to_the_first() {
        let table = Table::new(&[1.0_f64, 2.0], 1);
        let mut found = [7; 3];
        nearest(&[f64::NAN, f64::INFINITY, 1.9], 1, None, &table, &mut found);
        assert_eq!(found, [0, 0, 1]);
        nearest(&[1.0], 1, Some(&[0.0]), &Table::new(&[], 3), &mut found);
        assert_eq!(found[0], 0);
    }
}
