//! Encoding of short vectors: the nearest of a codebook.

use super::dispatch;
use crate::element::Real;

/// Vectors of a codebook that are compared at once.
const LANES: usize = 16;

dispatch! {
    /// The index of the vector that is nearest to `x`, the lowest of equals. The codebook lies coordinate by
    /// coordinate: number `j` of vector `i` is `columns[j · count + i]`. An `x` of fewer numbers is compared in these.
    pub(crate) fn nearest[T: Real](x: &[T], columns: &[T], count: usize) -> usize {
        let mut best = (T::infinity(), 0);
        for start in (0..count).step_by(LANES) {
            let lanes = LANES.min(count - start);
            let mut distance = [T::zero(); LANES];
            for (j, &x) in x.iter().enumerate() {
                let from = j * count + start;
                let column = columns.get(from..from + lanes).unwrap_or_default();
                for (distance, &number) in distance.iter_mut().zip(column) {
                    let difference = x - number;
                    *distance += difference * difference;
                }
            }
            for (lane, &distance) in distance[..lanes].iter().enumerate() {
                if distance < best.0 {
                    best = (distance, start + lane);
                }
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;

    #[test]
    fn the_nearest_vector_is_found() {
        for (count, dimension) in [(1, 1), (2, 3), (16, 2), (17, 4), (100, 5), (256, 8)] {
            let number = |i: usize, j: usize| ((i * 31 + j * 17) as f32 * 0.61).sin();
            let columns: Vec<f32> =
                (0..dimension).flat_map(|j| (0..count).map(move |i| number(i, j))).collect();
            for n in 0..50 {
                let x: Vec<f32> = (0..dimension).map(|j| ((n * 7 + j) as f32 * 0.37).cos()).collect();
                for len in [dimension, dimension.div_ceil(2)] {
                    let x = &x[..len];
                    let distance =
                        |i: usize| x.iter().enumerate().map(|(j, x)| (x - number(i, j)).powi(2)).sum::<f32>();
                    let expected = (0..count).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).unwrap();
                    assert_eq!(agreed(|| nearest(x, &columns, count)), expected);
                }
            }
        }
    }
}
