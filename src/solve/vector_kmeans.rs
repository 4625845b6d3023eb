//! K-means over short vectors, the codebooks of product quantization: Jégou, Douze and Schmid 2011, *Product
//! Quantization for Nearest Neighbor Search*; for weights of networks Gong et al. 2014, *Compressing Deep
//! Convolutional Networks using Vector Quantization*,
//!
//! ```text
//! min over c of  E = sum_i min_j sum_t h_it (x_it - c_jt)^2,
//! c_jt = sum_i h_it x_it / sum_i h_it      over the vectors i of cluster j.
//! ```
//!
//! Unlike in one dimension the best clusters cannot be found, only good ones. The start is k-means++ (Arthur and
//! Vassilvitskii 2007): the next seed is a vector drawn with a probability in proportion to its error so far.
//! Lloyd's iteration follows. A cluster that loses all its vectors takes the vector with the largest error of the
//! cluster with the largest error, which splits it.

use core::cmp::Ordering;

use rand::Rng;

use crate::element::{Element, Real};
use crate::kernel::nearest::{Table, nearest};
use crate::random::Philox;
use crate::solve::kmeans::power_of_two;

/// Vectors among which the seeds are drawn, for each seed. More are thinned out evenly.
const CANDIDATES_EACH: usize = 64;

/// Vectors that are drawn for each seed, of which the best is taken.
const TRIALS: usize = 3;

/// What is to be clustered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VectorProblem<'a, T, H> {
    /// Vectors, one after the other. An incomplete one at the end is left out, and so are those with an element
    /// that is not finite.
    pub(crate) values: &'a [T],
    /// A weight for each element, not negative. Invalid ones count as none.
    pub(crate) weights: Option<&'a [H]>,
    /// Elements of a vector.
    pub(crate) dimension: usize,
    /// The number of clusters; 0 counts as 1.
    pub(crate) k: usize,
    /// Of the generator that draws the seeds.
    pub(crate) seed: u64,
    /// Iterations at most.
    pub(crate) iterations: usize,
}

/// Clusters of vectors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VectorClusters {
    /// k vectors, one after the other, in lexicographic order. Where there are fewer distinct vectors than k, some
    /// are repeated.
    pub(crate) centroids: Vec<f64>,
    /// The weighted sum of squared distances.
    pub(crate) squared_error: f64,
    /// The same before the first iteration: never less.
    pub(crate) seeded_error: f64,
    /// Iterations done.
    pub(crate) iterations: usize,
}

/// Vectors about their mean, in units of about their largest element.
struct Vectors<T> {
    x: Vec<T>,
    weights: Option<Vec<T>>,
    dimension: usize,
    mean: Vec<f64>,
    unit: f64,
    weight_unit: f64,
}

/// What one assignment of vectors to clusters amounts to.
struct Assignment {
    /// Sums of weights and of weighted elements, for each element of each centroid.
    sums: Vec<(f64, f64)>,
    /// For each cluster its error, its largest error of a vector, and which vector that is.
    clusters: Vec<(f64, f64, usize)>,
    counts: Vec<usize>,
    error: f64,
}

impl<T: Real> Vectors<T> {
    fn new<A: Real, H: Real>(problem: &VectorProblem<'_, A, H>) -> Option<(Self, usize)> {
        let d = problem.dimension.max(1);
        let weight = |i: usize| {
            let weight =
                problem.weights.and_then(|weights| weights.get(i)).map_or(0.0, |&h| Element::to_f64(h));
            if weight > 0.0 && weight.is_finite() { weight } else { 0.0 }
        };
        let all = || problem.values.chunks_exact(d).enumerate();
        let finite = || all().filter(|(_, x)| x.iter().all(|x| x.is_finite()));
        let (mut largest, mut heaviest, mut count) = (f64::MIN_POSITIVE, 0.0_f64, 0);
        for (i, x) in finite() {
            count += 1;
            for (t, &x) in x.iter().enumerate() {
                largest = largest.max(Element::to_f64(x).abs());
                heaviest = if problem.weights.is_some() { heaviest.max(weight(i * d + t)) } else { 0.0 };
            }
        }
        if count == 0 {
            return None;
        }
        let (unit, weight_unit) = (power_of_two(largest), power_of_two(heaviest));
        let mut mean = vec![0.0; d];
        for (_, x) in finite() {
            mean.iter_mut().zip(x).for_each(|(mean, &x)| *mean += Element::to_f64(x) / unit);
        }
        mean.iter_mut().for_each(|mean| *mean /= count as f64);
        let mut x = Vec::with_capacity(count * d);
        let mut weights = (heaviest > 0.0).then(|| Vec::with_capacity(count * d));
        for (i, vector) in finite() {
            let inward = |(&x, mean): (&A, &f64)| <T as Element>::from_f64(Element::to_f64(x) / unit - mean);
            x.extend(vector.iter().zip(&mean).map(inward));
            if let Some(weights) = &mut weights {
                weights
                    .extend((i * d..(i + 1) * d).map(|i| <T as Element>::from_f64(weight(i) / weight_unit)));
            }
        }
        Some((Self { x, weights, dimension: d, mean, unit, weight_unit }, count))
    }

    fn vector(&self, i: usize) -> &[T] {
        self.x.get(i * self.dimension..(i + 1) * self.dimension).unwrap_or_default()
    }

    /// The weighted squared distance of vector i from c.
    fn distance<C: Real>(&self, i: usize, c: &[C]) -> f64 {
        let square = |(&x, &c): (&T, &C)| {
            let difference = Element::to_f64(x) - Element::to_f64(c);
            difference * difference
        };
        let squares = self.vector(i).iter().zip(c).map(square);
        match self.weights.as_ref().and_then(|weights| weights.get(i * self.dimension..)) {
            None => squares.sum(),
            Some(weights) => squares.zip(weights).map(|(square, &h)| Element::to_f64(h) * square).sum(),
        }
    }

    /// The seeds: each time the best of a few vectors drawn by their errors.
    fn seeds(&self, count: usize, k: usize, seed: u64) -> Vec<f64> {
        let sample = count.min(CANDIDATES_EACH.saturating_mul(k)).max(1);
        let candidates: Vec<usize> =
            (0..sample).map(|i| (i as u128 * count as u128 / sample as u128) as usize).collect();
        let mut random = Philox::new(seed);
        // 53 bits, below 1.
        let mut uniform = || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let first = ((uniform() * sample as f64) as usize).min(sample - 1);
        let first = candidates.get(first).copied().unwrap_or(0);
        let mut seeds: Vec<f64> = self.vector(first).iter().map(|&x| Element::to_f64(x)).collect();
        let mut errors: Vec<f64> = candidates.iter().map(|&i| self.distance(i, self.vector(first))).collect();
        while seeds.len() < k * self.dimension {
            let total: f64 = errors.iter().sum();
            let mut best: Option<(f64, usize, Vec<f64>)> = None;
            for _ in 0..if total > 0.0 { TRIALS } else { 0 } {
                let mut left = uniform() * total;
                let drawn = errors.iter().position(|&error| {
                    left -= error;
                    left < 0.0
                });
                // Rounding may leave nothing; then the last vector with an error is meant.
                let drawn = drawn.or_else(|| errors.iter().rposition(|&error| error > 0.0));
                let Some(&chosen) = drawn.and_then(|drawn| candidates.get(drawn)) else { continue };
                let distances = candidates.iter().zip(&errors);
                let reduced: Vec<f64> = distances
                    .map(
                        |(&i, &error)| {
                            if error > 0.0 { error.min(self.distance(i, self.vector(chosen))) } else { 0.0 }
                        },
                    )
                    .collect();
                let sum = reduced.iter().sum();
                if best.as_ref().is_none_or(|best| sum < best.0) {
                    best = Some((sum, chosen, reduced));
                }
            }
            match best {
                Some((_, chosen, reduced)) => {
                    seeds.extend(self.vector(chosen).iter().map(|&x| Element::to_f64(x)));
                    errors = reduced;
                }
                // Every vector is a seed already.
                None => {
                    let last: Vec<f64> = seeds.iter().rev().take(self.dimension).rev().copied().collect();
                    seeds.extend(last);
                }
            }
        }
        seeds
    }

    /// Assigns each vector to the nearest centroid.
    fn assign(&self, centroids: &[f64], found: &mut [u32]) -> Assignment {
        let d = self.dimension;
        let k = centroids.len() / d;
        let narrow: Vec<T> = centroids.iter().map(|&c| <T as Element>::from_f64(c)).collect();
        let table = Table::new(&narrow, d);
        nearest(&self.x, d, self.weights.as_deref(), &table, found);
        let mut result = Assignment {
            sums: vec![(0.0, 0.0); centroids.len()],
            clusters: vec![(0.0, 0.0, 0); k],
            counts: vec![0; k],
            error: 0.0,
        };
        for (i, &j) in found.iter().enumerate() {
            let j = j as usize;
            let (Some(centroid), Some(sums), Some(cluster), Some(count)) = (
                centroids.get(j * d..(j + 1) * d),
                result.sums.get_mut(j * d..(j + 1) * d),
                result.clusters.get_mut(j),
                result.counts.get_mut(j),
            ) else {
                continue;
            };
            let error = self.distance(i, centroid);
            result.error += error;
            *count += 1;
            cluster.0 += error;
            if error > cluster.1 {
                (cluster.1, cluster.2) = (error, i);
            }
            let weights = self.weights.as_ref().and_then(|weights| weights.get(i * d..));
            for (t, (sum, &x)) in sums.iter_mut().zip(self.vector(i)).enumerate() {
                let h = weights.map_or(1.0, |weights| weights.get(t).map_or(0.0, |&h| Element::to_f64(h)));
                *sum = (sum.0 + h, sum.1 + h * Element::to_f64(x));
            }
        }
        result
    }

    /// The means of the clusters. Empty ones split those with the largest errors.
    fn update(&self, centroids: &mut [f64], assignment: &mut Assignment) {
        for (c, sum) in centroids.iter_mut().zip(&assignment.sums) {
            // An element without weight stays where it is, as does an empty cluster.
            if sum.0 > 0.0 {
                *c = sum.1 / sum.0;
            }
        }
        let empty = assignment.counts.iter().enumerate().filter(|(_, count)| **count == 0).map(|(j, _)| j);
        for j in empty {
            let errors = assignment.clusters.iter_mut();
            let largest = errors.max_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
            let Some(cluster) = largest.filter(|cluster| cluster.1 > 0.0) else { return };
            let target = centroids.iter_mut().skip(j * self.dimension);
            target.zip(self.vector(cluster.2)).for_each(|(c, &x)| *c = Element::to_f64(x));
            // One split for each cluster and iteration.
            *cluster = (0.0, 0.0, 0);
        }
    }
}

/// Clusters of vectors, the same for the same seed. `None` if there is no complete finite vector.
///
/// Time: `n (k + dimension)` multiplications and additions for each iteration on n elements, in the arithmetic of
/// T, and about as much as ten iterations on at most `64 k` vectors for the seeds. Memory: a copy of the values
/// (and weights). One thread.
pub(crate) fn vector_kmeans<T: Real, H: Real>(problem: &VectorProblem<'_, T, H>) -> Option<VectorClusters> {
    let (vectors, count) = Vectors::<T>::new(problem)?;
    let d = vectors.dimension;
    let mut centroids = vectors.seeds(count, problem.k.max(1), problem.seed);
    let mut found = vec![0; count];
    let mut assignment = vectors.assign(&centroids, &mut found);
    let seeded = assignment.error;
    let mut best = (assignment.error, centroids.clone());
    let mut iterations = 0;
    while iterations < problem.iterations {
        iterations += 1;
        let before = found.clone();
        vectors.update(&mut centroids, &mut assignment);
        assignment = vectors.assign(&centroids, &mut found);
        if assignment.error < best.0 {
            best = (assignment.error, centroids.clone());
        }
        if found == before {
            break;
        }
    }
    let mut rows: Vec<Vec<f64>> = best.1.chunks_exact(d).map(<[f64]>::to_vec).collect();
    rows.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let outward = |row: &Vec<f64>| -> Vec<f64> {
        row.iter()
            .zip(&vectors.mean)
            .map(|(c, mean)| ((c + mean) * vectors.unit).clamp(f64::MIN, f64::MAX))
            .collect()
    };
    let square = vectors.unit * vectors.unit;
    let weight_unit = if vectors.weights.is_some() { vectors.weight_unit } else { 1.0 };
    // Where no element has a weight there is no error.
    let weightless = problem.weights.is_some() && vectors.weights.is_none();
    let outer = if weightless { 0.0 } else { weight_unit };
    Some(VectorClusters {
        centroids: rows.iter().flat_map(outward).collect(),
        squared_error: best.0 * outer * square,
        seeded_error: seeded * outer * square,
        iterations,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::solve::kmeans::{kmeans, kmeans_weighted};
    use crate::solve::samples::SplitMix64;

    fn problem<'a, T>(values: &'a [T], dimension: usize, k: usize) -> VectorProblem<'a, T, f32> {
        VectorProblem { values, weights: None, dimension, k, seed: 1, iterations: 300 }
    }

    fn bell(n: usize) -> Vec<f32> {
        let mut random = SplitMix64(9);
        (0..n).map(|_| random.normal() as f32).collect()
    }

    /// The error by trying every centroid.
    fn error(values: &[f32], weights: Option<&[f32]>, d: usize, centroids: &[f64]) -> f64 {
        let distance = |i: usize, c: &[f64]| -> f64 {
            let term = |t: usize| {
                let h = weights.map_or(1.0, |weights| f64::from(weights[i * d + t]));
                h * (f64::from(values[i * d + t]) - c[t]).powi(2)
            };
            (0..d).map(term).sum()
        };
        (0..values.len() / d)
            .map(|i| centroids.chunks(d).map(|c| distance(i, c)).fold(f64::INFINITY, f64::min))
            .sum()
    }

    #[test]
    fn on_a_line_it_comes_near_the_best() {
        let values = bell(3000);
        let weights: Vec<f32> = (0..3000).map(|i| (i % 5) as f32).collect();
        for k in [1, 2, 4, 16] {
            let found = vector_kmeans(&problem(&values, 1, k)).unwrap();
            let best = kmeans(&values, k).unwrap().squared_error;
            // A local minimum of a bell curve from good seeds.
            assert!(found.squared_error <= 1.1 * best, "{k}: {} {best}", found.squared_error);
            assert!(found.squared_error >= best * (1.0 - 1e-6) && found.centroids.is_sorted());
            let found =
                vector_kmeans(&VectorProblem { weights: Some(&weights), ..problem(&values, 1, k) }).unwrap();
            let best = kmeans_weighted(&values, &weights, k).unwrap().squared_error;
            assert!((best * (1.0 - 1e-6)..=1.1 * best).contains(&found.squared_error), "{k}: {best}");
        }
    }

    #[test]
    fn vectors_gain_over_scalars_at_the_same_rate() {
        // Two bits for each element: 4 scalars, or 16 pairs, or 256 groups of four.
        let values = bell(8000);
        let scalar = kmeans(&values, 4).unwrap().squared_error;
        for (d, k) in [(2, 16), (4, 256)] {
            let found = vector_kmeans(&problem(&values, d, k)).unwrap().squared_error;
            assert!(found < scalar, "{d}: {found} {scalar}");
        }
    }

    #[test]
    fn separate_groups_are_found() {
        let mut random = SplitMix64(2);
        let centers = [[0.0, 0.0, 9.0], [5.0, -5.0, 0.0], [-70.0, 1.0, 1.0], [1.0, 50.0, 3.0]];
        let values: Vec<f64> =
            (0..400).flat_map(|i| centers[i % 4].map(|c| c + 0.01 * random.normal())).collect();
        let found = vector_kmeans(&problem(&values, 3, 4)).unwrap();
        for (found, expected) in
            found.centroids.chunks(3).zip([centers[2], centers[0], centers[3], centers[1]])
        {
            let near = |(c, e): (&f64, f64)| (c - e).abs() < 0.01;
            assert!(found.iter().zip(expected).all(near), "{found:?} {expected:?}");
        }
    }

    #[test]
    fn fewer_vectors_than_clusters() {
        let values = [1.0_f32, 2.0, 1.0, 2.0, 5.0, 5.0, 3.0];
        let found = vector_kmeans(&problem(&values, 2, 4)).unwrap();
        assert_eq!(found.centroids.len(), 8);
        assert!(found.squared_error < 1e-12);
        let found = vector_kmeans(&problem(&values, 2, 0)).unwrap();
        assert!((found.centroids[0] - 7.0 / 3.0).abs() < 1e-6 && found.centroids.len() == 2);
        assert_eq!(vector_kmeans(&problem(&values, 8, 4)), None);
        assert_eq!(vector_kmeans(&problem::<f32>(&[], 1, 4)), None);
        assert_eq!(vector_kmeans(&problem(&[f32::NAN, 1.0, 1.0, f32::INFINITY], 2, 1)), None);
        let found = vector_kmeans(&problem(&[f32::NAN, 1.0, 3.0, 4.0], 2, 1)).unwrap();
        assert_eq!(found.centroids, [3.0, 4.0]);
    }

    #[test]
    fn extreme_numbers_and_weights() {
        for unit in [f64::MAX, 1e-310] {
            let values = [-unit, unit, unit, -unit, 0.5 * unit, 0.5 * unit];
            let found = vector_kmeans(&problem(&values, 2, 3)).unwrap();
            assert!(found.centroids.iter().all(|c| c.is_finite()), "{found:?}");
            assert!((found.centroids[0] / unit + 1.0).abs() < 1e-9);
        }
        let weights = [0.0_f32, f32::NAN, -1.0, 0.0];
        let found = vector_kmeans(&VectorProblem {
            weights: Some(&weights),
            ..problem(&[0.0_f32, 1.0, 2.0, 3.0], 2, 1)
        });
        let found = found.unwrap();
        assert_eq!((found.centroids, found.squared_error), (vec![1.0, 2.0], 0.0));
    }

    proptest! {
        #[test]
        fn never_worse_than_the_seeds(
            picks in proptest::collection::vec((-30_i32..30, 0_u32..3), 4..160),
            dimension in 1_usize..5,
            k in 1_usize..12,
            seed in any::<u64>(),
            weighted: bool,
        ) {
            let values: Vec<f32> = picks.iter().map(|pick| (pick.0 * pick.0 * pick.0) as f32 / 100.0).collect();
            let weights: Vec<f32> = picks.iter().map(|pick| pick.1 as f32 + 0.5).collect();
            let weights = weighted.then_some(&weights[..]);
            let problem = VectorProblem { values: &values, weights, dimension, k, seed, iterations: 50 };
            let found = vector_kmeans(&problem).unwrap();
            prop_assert!(found.squared_error <= found.seeded_error);
            prop_assert_eq!(found.centroids.len(), k * dimension);
            let direct = error(&values, weights, dimension, &found.centroids);
            prop_assert!((found.squared_error - direct).abs() <= 1e-4 * (direct + 1.0), "{found:?} {direct}");
            prop_assert_eq!(vector_kmeans(&problem).unwrap(), found.clone());
            // Seeds are vectors: with as many clusters as vectors nothing is lost.
            if k >= values.len() / dimension {
                prop_assert!(found.squared_error <= 1e-6);
            }
        }
    }
}
