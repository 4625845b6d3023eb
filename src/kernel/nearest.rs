//! The nearest of a table of short vectors.
//!
//! ```text
//! argmin_j sum_t h_t (x_t - c_jt)^2  =  argmin_j sum_t (h_t c_jt^2 - 2 h_t x_t c_jt)
//! ```
//!
//! Without weights the squares add up to one number for each vector of the table. Several vectors of the table are
//! compared at once, one in each lane.

use super::dispatch;
use crate::element::{Element, Real};

/// Vectors of the table side by side.
const LANES: usize = 16;

/// A table of vectors, ready to be searched.
#[derive(Debug, Clone)]
pub(crate) struct Table<T> {
    dimension: usize,
    /// Coordinate t of a block of vectors, for each block and each t.
    linear: Vec<[T; LANES]>,
    /// Their squares, if there are weights.
    squares: Vec<[T; LANES]>,
    /// Squared norms without weights; with weights zero. Infinite where the last block has no vector.
    norms: Vec<[T; LANES]>,
}

impl<T: Real> Table<T> {
    /// The table of `vectors`, one after the other.
    pub(crate) fn new(vectors: &[T], dimension: usize, weighted: bool) -> Self {
        let dimension = dimension.max(1);
        let block = dimension.saturating_mul(LANES);
        let blocks = vectors.len().div_ceil(block);
        let mut linear = vec![[T::zero(); LANES]; blocks * dimension];
        let mut norms = vec![[T::infinity(); LANES]; blocks];
        for (j, vector) in vectors.chunks_exact(dimension).enumerate() {
            let (b, lane) = (j / LANES, j % LANES);
            let mut norm = T::zero();
            for (t, &c) in vector.iter().enumerate() {
                linear[b * dimension + t][lane] = c;
                norm += c * c;
            }
            norms[b][lane] = if weighted { T::zero() } else { norm };
        }
        let squares = if weighted { linear.iter().map(|c| c.map(|c| c * c)).collect() } else { Vec::new() };
        Self { dimension, linear, squares, norms }
    }
}

dispatch! {
    fn search[T: Real](x: &[T], weights: &[T], table: &Table<T>, found: &mut [u32]) {
        let d = table.dimension;
        let two = T::one() + T::one();
        let weighted = !table.squares.is_empty();
        for (i, (x, found)) in x.chunks_exact(d).zip(found).enumerate() {
            let h = if weighted { weights.get(i * d..(i + 1) * d).unwrap_or(x) } else { x };
            let mut least = [T::infinity(); LANES];
            // Numbers of blocks as floats, so that one comparison chooses both.
            let mut place = [T::zero(); LANES];
            let mut block = T::zero();
            for (b, (linear, norm)) in table.linear.chunks_exact(d).zip(&table.norms).enumerate() {
                let mut score = *norm;
                if weighted {
                    let squares = table.squares.get(b * d..(b + 1) * d).unwrap_or(linear);
                    for (((x, h), c), square) in x.iter().zip(h).zip(linear).zip(squares) {
                        let hx = two * *h * *x;
                        for lane in 0..LANES {
                            score[lane] += *h * square[lane] - hx * c[lane];
                        }
                    }
                } else {
                    for (x, c) in x.iter().zip(linear) {
                        let twice = two * *x;
                        for lane in 0..LANES {
                            score[lane] -= twice * c[lane];
                        }
                    }
                }
                for lane in 0..LANES {
                    let better = score[lane] < least[lane];
                    least[lane] = if better { score[lane] } else { least[lane] };
                    place[lane] = if better { block } else { place[lane] };
                }
                block += T::one();
            }
            let mut best = (least[0], Element::to_f32(place[0]) as u32 * LANES as u32);
            for lane in 1..LANES {
                let index = Element::to_f32(place[lane]) as u32 * LANES as u32 + lane as u32;
                if least[lane] < best.0 || (least[lane] == best.0 && index < best.1) {
                    best = (least[lane], index);
                }
            }
            *found = best.1;
        }
    }
}

/// The place in the table of the vector that is nearest to each vector of `x`; the first of several equally near.
/// `weights`, one for each element, are used if the table was made for them. Distances are those of the arithmetic
/// of T, good to its precision of the squared norms. At most 2^28 vectors can be told apart.
pub(crate) fn nearest<T: Real>(x: &[T], weights: Option<&[T]>, table: &Table<T>, found: &mut [u32]) {
    search::<T>(x, weights.unwrap_or(x), table, found);
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_vector_of_the_table_is_nearer(
            dimension in 1_usize..6,
            picks in proptest::collection::vec((-50_i32..50, 0_u32..4), 1..300),
            count in 1_usize..40,
        ) {
            let vectors: Vec<f32> =
                picks.iter().cycle().take(count * dimension).map(|pick| pick.0 as f32 * 0.5 + 3.0).collect();
            let x: Vec<f32> = picks.iter().map(|pick| pick.0 as f32).collect();
            let h: Vec<f32> = picks.iter().map(|pick| pick.1 as f32).collect();
            for weighted in [false, true] {
                let table = Table::new(&vectors, dimension, weighted);
                let found = agreed(|| {
                    let mut found = vec![0; x.len() / dimension];
                    nearest(&x, weighted.then_some(&h), &table, &mut found);
                    found
                });
                for (i, found) in found.iter().enumerate() {
                    let distance = |j: usize| -> f32 {
                        let term = |t: usize| {
                            let h = if weighted { h[i * dimension + t] } else { 1.0 };
                            h * (x[i * dimension + t] - vectors[j * dimension + t]).powi(2)
                        };
                        (0..dimension).map(term).sum()
                    };
                    // Small integers and halves are exact.
                    let least = (0..count).map(distance).fold(f32::INFINITY, f32::min);
                    prop_assert_eq!((0..count).position(|j| distance(j) == least), Some(*found as usize));
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_goes_to_the_first() {
        let table = Table::new(&[1.0_f64, 2.0], 1, false);
        let mut found = [7; 3];
        nearest(&[f64::NAN, f64::INFINITY, 1.9], None, &table, &mut found);
        assert_eq!((found[0], found[2]), (0, 1));
        nearest(&[1.0], None, &Table::new(&[], 3, true), &mut found);
    }
}
