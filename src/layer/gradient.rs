//! Gradients of the squared error of a layer's outputs by its weights, of all samples or of batches of them.
//!
//! With errors `E = Ŵ − W` of the weights and a correction c of the bias, the mean squared error of the outputs over N
//! samples, summed over the outputs, and its gradients are
//!
//! ```text
//! L      =  tr(E XᵀX Eᵀ) / N + 2 cᵀE x̄ + ‖c‖²
//! ∂L/∂E  =  2 (E XᵀX / N + c x̄ᵀ)
//! ∂L/∂c  =  2 (E x̄ + c)
//! ```
//!
//! so that statistics are all that is needed. Batches are less work for layers of many inputs; against targets or through
//! an activation they are the only way.

use core::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rand::{Rng, SeedableRng};

use crate::random::Philox;

use super::objective::Against;
use super::problem::Problem;
use super::samples::Samples;
use super::statistics::Statistics;

/// Where the gradients of a group of outputs come from.
pub(super) struct Source<'p> {
    data: Data<'p>,
    pub(super) inputs: InputData,
}

/// What learned roundings have to know of the inputs.
pub(super) struct InputData {
    /// The mean of the diagonal of `XᵀX / N`: the error of an output, on average, with one weight off by one.
    pub(super) mean_square: f64,
    /// Which inputs are not zero in all samples.
    pub(super) live: Vec<bool>,
}

enum Data<'p> {
    /// `XᵀX / N` and x̄: gradients of all samples.
    All { gram: Array2<f32>, mean: Array1<f32> },
    /// Samples, how many of them to take at once, and what the outputs should be where that is not what they are.
    Batches { samples: &'p Samples, size: usize, against: Option<Against> },
}

/// The buffers of some rows, so that nothing is allocated in a step.
pub(super) struct Buffers {
    batch: Option<Batch>,
    /// Errors of the outputs [rows, samples of a batch].
    residuals: Array2<f32>,
}

/// A batch and what it is drawn from.
struct Batch {
    draw: Draw,
    x: Array2<f32>,
}

/// Where the error is.
pub(super) struct Point<'s> {
    /// `Ŵ − W` of some rows.
    pub(super) errors: ArrayView2<'s, f32>,
    /// The rows, counted from the first of the group.
    pub(super) rows: Range<usize>,
    /// The correction of the bias of each row; none if empty.
    pub(super) correction: &'s [f32],
}

impl<'p> Source<'p> {
    /// The source of gradients for the group `group`, in batches of `batch` samples where these are less work than all.
    pub(super) fn new(problem: &'p Problem<'_>, group: usize, statistics: &Statistics, batch: usize) -> Self {
        let count = statistics.count().max(1) as f64;
        let diagonal = statistics.diagonal();
        let samples = problem.given_samples().get(group);
        let is_special = samples.is_some_and(Samples::is_special);
        let wide = problem.inputs() > batch.saturating_mul(2);
        let data = match samples {
            Some(samples) if is_special || wide => {
                let first = group * problem.outputs_per_group();
                let rows = first..first + problem.outputs_per_group();
                let against = is_special.then(|| Against::new(problem, samples, group, rows));
                Data::Batches { samples, size: batch.min(samples.count()), against }
            }
            _ => Data::All {
                gram: statistics.gram().mapv(|sum| (sum / count) as f32),
                mean: statistics.mean().unwrap_or_default().mapv(|mean| mean as f32),
            },
        };
        let mean_square = diagonal.mean().unwrap_or_default() / count;
        let live = diagonal.iter().map(|&sum| sum > 0.0).collect();
        Self { data, inputs: InputData { mean_square, live } }
    }

    /// Whether gradients are those of all data.
    pub(super) const fn is_all(&self) -> bool {
        matches!(self.data, Data::All { .. })
    }

    /// Samples that one step looks at, as far as its work is concerned.
    pub(super) fn width(&self) -> usize {
        match &self.data {
            Data::All { gram, .. } => gram.nrows() / 2,
            Data::Batches { size, .. } => *size,
        }
    }

    /// Buffers for `rows` rows. All rows see the same batches, which depend on the seed alone.
    pub(super) fn buffers(&self, rows: usize, seed: u64) -> Buffers {
        match &self.data {
            Data::All { .. } => Buffers { batch: None, residuals: Array2::zeros((0, 0)) },
            Data::Batches { samples, size, .. } => {
                let x = Array2::zeros((*size, samples.inputs().ncols()));
                let batch = Some(Batch { draw: Draw::new(samples.count(), *size, seed), x });
                Buffers { batch, residuals: Array2::zeros((rows, *size)) }
            }
        }
    }

    /// Writes the gradients by the weights, and by the correction where there is one, of the next batch. Gives the error
    /// there, summed over the rows.
    pub(super) fn gradient(
        &self,
        point: &Point<'_>,
        buffers: &mut Buffers,
        by_weights: &mut Array2<f32>,
        by_correction: &mut [f32],
    ) -> f64 {
        let Point { errors, rows, correction } = point;
        match (&self.data, buffers) {
            (Data::All { gram, mean }, _) => {
                general_mat_mul(2.0, errors, gram, 0.0, by_weights);
                for ((&c, by_c), (mut by_w, errors)) in correction
                    .iter()
                    .zip(by_correction.iter_mut())
                    .zip(by_weights.rows_mut().into_iter().zip(errors.rows()))
                {
                    by_w.scaled_add(2.0 * c, mean);
                    *by_c = 2.0 * (errors.dot(mean) + c);
                }
                // Of second degree, as it is.
                let pairs = errors.rows().into_iter().zip(by_weights.rows());
                let of_weights: f64 = pairs.map(|(errors, by_w)| f64::from(errors.dot(&by_w))).sum();
                let of_correction: f64 =
                    correction.iter().zip(by_correction).map(|(&c, by_c)| f64::from(c * *by_c)).sum();
                (of_weights + of_correction) / 2.0
            }
            (Data::Batches { samples, against, .. }, Buffers { batch: Some(batch), residuals }) => {
                let Batch { draw, x } = batch;
                draw.next();
                for (&index, mut row) in draw.picked.iter().zip(x.rows_mut()) {
                    row.assign(&samples.inputs().index_axis(Axis(0), index));
                }
                general_mat_mul(1.0, errors, &x.t(), 0.0, residuals);
                for (mut residuals, &c) in residuals.rows_mut().into_iter().zip(*correction) {
                    residuals += c;
                }
                let mut sum = 0.0;
                match against {
                    Some(against) => {
                        for (&index, mut residuals) in draw.picked.iter().zip(residuals.columns_mut()) {
                            let own = against.own.slice(s![index, rows.clone()]);
                            let targets = against.targets.slice(s![index, rows.clone()]);
                            for ((residual, &own), &target) in residuals.iter_mut().zip(own).zip(targets) {
                                let (value, slope) = against.activation.with_slope(own + *residual);
                                let error = value - target;
                                sum += f64::from(error) * f64::from(error);
                                *residual = error * slope;
                            }
                        }
                    }
                    None => sum += residuals.iter().map(|&r| f64::from(r) * f64::from(r)).sum::<f64>(),
                }
                let count = draw.picked.len().max(1) as f32;
                general_mat_mul(2.0 / count, residuals, x, 0.0, by_weights);
                for (by_c, residuals) in by_correction.iter_mut().zip(residuals.rows()) {
                    *by_c = 2.0 / count * residuals.sum();
                }
                sum / f64::from(count)
            }
            _ => f64::NAN,
        }
    }
}

/// Which samples are in a batch: all samples in a random order, then all in another, cut into batches.
#[derive(Debug)]
pub(super) struct Draw {
    random: Philox,
    order: Vec<usize>,
    at: usize,
    pub(super) picked: Vec<usize>,
}

impl Draw {
    pub(super) fn new(samples: usize, size: usize, seed: u64) -> Self {
        let order = (0..samples).collect();
        Self { random: Philox::seed_from_u64(seed), order, at: samples, picked: vec![0; size.min(samples)] }
    }

    /// Draws the next batch. All samples, as they come, where a batch holds them.
    pub(super) fn next(&mut self) {
        let whole = self.picked.len() == self.order.len();
        for picked in &mut self.picked {
            if self.at >= self.order.len() {
                self.at = 0;
                // Fisher and Yates.
                for i in (1..self.order.len()).rev().filter(|_| !whole) {
                    let below = (u64::from(self.random.next_u32()) * (i as u64 + 1)) >> 32;
                    self.order.swap(i, below as usize);
                }
            }
            *picked = self.order.get(self.at).copied().unwrap_or_default();
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BitWidth;
    use crate::layer::Activation;
    use crate::quantizer::Uniform;
    use crate::recipe::Recipe;

    fn numbers(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut random = Philox::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || (random.next_u32() >> 8) as f32 / 8388608.0 - 0.8)
    }

    #[test]
    fn every_sample_has_its_turn_before_any_has_another() {
        let mut draw = Draw::new(10, 4, 7);
        let mut seen = Vec::new();
        for _ in 0..5 {
            draw.next();
            seen.extend_from_slice(&draw.picked);
        }
        for all in seen.chunks(10) {
            let mut all = all.to_vec();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(seen[..10], seen[10..]);
        let mut whole = Draw::new(3, 5, 7);
        (0..3).for_each(|_| whole.next());
        assert_eq!(whole.picked, [0, 1, 2]);
    }

    #[test]
    fn gradients_are_differences_of_the_error() {
        let (weights, x, targets) = (numbers(3, 5, 1), numbers(20, 5, 2), numbers(20, 3, 3) * 4.0);
        let mut statistics = Statistics::new(5).unwrap();
        statistics.observe(&x).unwrap();
        let recipe = Recipe::new(Uniform::symmetric(BitWidth::new(3).unwrap()));
        let plain = Samples::new(&x).unwrap();
        let special = [Activation::None, Activation::Relu, Activation::Relu6].map(|activation| {
            plain
                .clone()
                .targets(&targets)
                .unwrap()
                .bias(&ndarray::array![0.5, 3.0, -0.25])
                .unwrap()
                .activation(activation)
        });
        // By statistics, by a batch of all samples, and the same against targets.
        let cases = [None, Some(&plain)].into_iter().chain(special.iter().map(Some));
        let mut by_statistics = None;
        for samples in cases {
            let problem = Problem::dense(&weights, &statistics, &recipe).unwrap();
            let problem = match samples {
                Some(samples) => problem.samples(core::slice::from_ref(samples)).unwrap(),
                None => problem,
            };
            let mut source = Source::new(&problem, 0, &statistics, 20);
            if let Some(samples) = samples.filter(|samples| !samples.is_special()) {
                source.data = Data::Batches { samples, size: 20, against: None };
            }
            let mut errors = numbers(3, 5, 4);
            let mut correction = vec![0.3f32, -0.2, 0.9];
            let at = |errors: &Array2<f32>, correction: &[f32]| {
                let point = Point { errors: errors.view(), rows: 0..3, correction };
                let (mut by_weights, mut by_correction) = (Array2::zeros((3, 5)), vec![0.0; 3]);
                let mut buffers = source.buffers(3, 0);
                let loss = source.gradient(&point, &mut buffers, &mut by_weights, &mut by_correction);
                (loss, by_weights, by_correction)
            };
            let (loss, by_weights, by_correction) = at(&errors, &correction);
            if !samples.is_some_and(Samples::is_special) {
                let first = *by_statistics.get_or_insert(loss);
                assert!((loss / first - 1.0).abs() < 1e-5, "{loss} {first}");
            }
            // Small enough that no output passes a corner of its activation, large enough for f32.
            let step = 1e-3;
            for (index, &found) in by_weights.indexed_iter() {
                let own = errors[index];
                let [up, down] = [own + step, own - step].map(|moved| {
                    errors[index] = moved;
                    at(&errors, &correction).0
                });
                errors[index] = own;
                let slope = (up - down) / (2.0 * f64::from(step));
                assert!((slope - f64::from(found)).abs() < 1e-2 * slope.abs().max(1.0), "{slope} {found}");
            }
            for (row, &found) in by_correction.iter().enumerate() {
                let own = correction[row];
                let [up, down] = [own + step, own - step].map(|moved| {
                    correction[row] = moved;
                    at(&errors, &correction).0
                });
                correction[row] = own;
                let slope = (up - down) / (2.0 * f64::from(step));
                assert!((slope - f64::from(found)).abs() < 1e-2 * slope.abs().max(1.0), "{slope} {found}");
            }
        }
    }
}
