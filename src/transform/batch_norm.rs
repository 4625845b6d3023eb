//! Batch normalization: folded into the weights before it, and its statistics estimated again.
//!
//! Sergey Ioffe and Christian Szegedy 2015, *Batch normalization: accelerating deep network training by reducing
//! internal covariate shift*; folding as in Benoit Jacob et al. 2018, *Quantization and training of neural networks
//! for efficient integer-arithmetic-only inference*, equation 14:
//!
//! ```text
//! y = γ (x − μ) / √(σ² + ε) + β,   x = W a + b
//! W' = γ / √(σ² + ε) · W,          b' = γ / √(σ² + ε) · (b − μ) + β
//! ```
//!
//! Quantized weights move the statistics μ and σ² of what they compute. Estimating them again on a few batches
//! (Xiao Sun et al. 2019, *Hybrid 8-bit floating point training and inference for deep neural networks*, appendix;
//! Itay Hubara et al. 2020, *Improving post training neural quantization: layer-wise calibration and integer
//! programming*, section 4) needs neither labels nor gradients.

use ndarray::{Array1, ArrayRef, Axis, Dimension, Ix1};

use crate::element::Element;
use crate::error::{ConfigError, DataError, Result, ShapeError};
use crate::solve::exact_sum::ExactSum;

use super::channels::{Channels, check_finite, check_length, check_numbers};

/// Batch normalization of some channels, at inference.
///
/// ```
/// use lowbit::transform::BatchNorm;
/// use ndarray::{Axis, array};
///
/// // Two channels; γ, β, μ, σ² and ε.
/// let norm = BatchNorm::new(&[2.0, 0.5], &[0.0, 1.0], &[1.0, -1.0], &[4.0, 1.0], 0.0)?;
/// let mut weights = array![[1.0f32, 2.0], [3.0, 4.0]];
/// let bias = norm.fold(&mut weights, Axis(0), None)?;
/// assert_eq!(weights, array![[1.0, 2.0], [1.5, 2.0]]);
/// assert_eq!(bias, array![-1.0, 1.5]);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    gamma: Vec<f64>,
    beta: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
    epsilon: f64,
}

impl BatchNorm {
    /// Batch normalization by γ, β, μ and σ² of each channel and the ε of all (PyTorch's default is 1e-5).
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] unless there is one of each for every channel; [`DataError`] for numbers that are not
    /// finite; [`ConfigError::Number`] for a channel where σ² + ε is not positive.
    pub fn new<A: Element>(
        gamma: &[A],
        beta: &[A],
        mean: &[A],
        variance: &[A],
        epsilon: f64,
    ) -> Result<Self> {
        let wide = |values: &[A]| -> Result<Vec<f64>> {
            check_length(values.len(), gamma.len())?;
            let values: Vec<f64> = values.iter().map(|x| x.to_f64()).collect();
            check_numbers(&values)?;
            Ok(values)
        };
        let [gamma, beta, mean, variance] = [wide(gamma)?, wide(beta)?, wide(mean)?, wide(variance)?];
        for sum in variance.iter().map(|variance| variance + epsilon) {
            // Written so that NaN fails.
            if !(sum > 0.0 && sum.is_finite()) {
                let rule = "positive and finite";
                return Err(ConfigError::Number { what: "variance plus epsilon", value: sum, rule }.into());
            }
        }
        Ok(Self { gamma, beta, mean, variance, epsilon })
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.gamma.len()
    }

    /// μ of each channel.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// σ² of each channel.
    pub fn variance(&self) -> &[f64] {
        &self.variance
    }

    /// γ / √(σ² + ε) of a channel.
    fn factor(&self, channel: usize) -> f64 {
        let of = |values: &[f64]| values.get(channel).copied().unwrap_or_default();
        of(&self.gamma) / (of(&self.variance) + self.epsilon).sqrt()
    }

    /// Makes the weights compute what they and this normalization computed before, and returns the bias that they
    /// need for it. `outputs` says where the output channels lie (`Axis(0)` in dense layers and convolutions, `Axis(1)`
    /// in transposed convolutions); `bias` is the bias of the layer, if it has one.
    ///
    /// Products are computed in f64 and rounded once. Time O(n).
    ///
    /// # Errors
    ///
    /// As [`Channels::count`]; [`ShapeError::Length`] for another number of channels. The weights are unchanged then.
    pub fn fold<A: Element, D: Dimension>(
        &self,
        weights: &mut ArrayRef<A, D>,
        outputs: impl Into<Channels>,
        bias: Option<&ArrayRef<A, Ix1>>,
    ) -> Result<Array1<A>> {
        let outputs = outputs.into();
        let count = outputs.count(weights.shape())?;
        check_length(self.channels(), count)?;
        check_length(bias.map_or(count, |bias| bias.len()), count)?;
        outputs.map(&mut weights.view_mut().into_dyn(), count, |channel, x| self.factor(channel) * x);
        let folded = |channel: usize| {
            let bias = bias.and_then(|bias| bias.get(channel)).map_or(0.0, |bias| bias.to_f64());
            let of = |values: &[f64]| values.get(channel).copied().unwrap_or_default();
            A::from_f64(self.factor(channel) * (bias - of(&self.mean)) + of(&self.beta))
        };
        Ok((0..count).map(folded).collect())
    }

    /// The same normalization with the mean and variance of `statistics`. The variance is that of the observed
    /// values themselves (divided by their number), with which layers are normalized while they are trained.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] for another number of channels; [`DataError::NoData`] before anything was observed;
    /// [`ConfigError::Number`] where σ² + ε is not positive or overflows.
    pub fn with_statistics(&self, statistics: &ChannelStatistics) -> Result<Self> {
        check_length(statistics.channels(), self.channels())?;
        if statistics.count() == 0 {
            return Err(DataError::NoData { region: 0 }.into());
        }
        Self::new(&self.gamma, &self.beta, &statistics.mean(), &statistics.variance(), self.epsilon)
    }

    /// What comes out of this normalization, taken for normal: mean β and standard deviation |γ| of each channel. It
    /// is what is left of the statistics after [`fold`](Self::fold).
    pub fn outputs(&self) -> ChannelNormals {
        ChannelNormals {
            mean: self.beta.clone(),
            deviation: self.gamma.iter().map(|gamma| gamma.abs()).collect(),
        }
    }
}

/// Channels whose values are taken for normal, before the activation function: what data-free corrections know.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelNormals {
    pub(crate) mean: Vec<f64>,
    pub(crate) deviation: Vec<f64>,
}

impl ChannelNormals {
    /// Mean and standard deviation of each channel.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] for another number of deviations than means; [`DataError`] for numbers that are not
    /// finite; [`ConfigError::Number`] for a negative deviation.
    pub fn new(mean: Vec<f64>, deviation: Vec<f64>) -> Result<Self> {
        check_length(deviation.len(), mean.len())?;
        check_numbers(&mean)?;
        check_numbers(&deviation)?;
        if let Some(&value) = deviation.iter().find(|&&deviation| deviation < 0.0) {
            return Err(
                ConfigError::Number { what: "a standard deviation", value, rule: "at least 0" }.into()
            );
        }
        Ok(Self { mean, deviation })
    }

    /// The mean of each channel.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The standard deviation of each channel.
    pub fn deviation(&self) -> &[f64] {
        &self.deviation
    }

    /// Divides every channel by its factor: what [equalization](super::Equalization) makes of them.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] unless there is a factor for each channel.
    pub fn divide(&mut self, factors: &[f64]) -> Result<(), ShapeError> {
        check_length(factors.len(), self.mean.len())?;
        for ((mean, deviation), factor) in self.mean.iter_mut().zip(&mut self.deviation).zip(factors) {
            *mean /= factor;
            *deviation /= factor.abs();
        }
        Ok(())
    }
}

/// Mean and variance of the channels of a stream of activations.
///
/// Sums are kept without rounding, so any order, any batches and any split over several of these that are merged give
/// the same bits. Memory of a few numbers for each channel; about 20 ns for each value.
///
/// ```
/// use lowbit::transform::ChannelStatistics;
/// use ndarray::{Axis, array};
///
/// let mut statistics = ChannelStatistics::new(2);
/// statistics.observe(&array![[1.0f32, 5.0], [3.0, 5.0]], Axis(1))?;
/// statistics.observe(&array![[8.0f32, 5.0]], Axis(1))?;
/// assert_eq!(statistics.mean(), [4.0, 5.0]);
/// assert_eq!(statistics.variance(), [26.0 / 3.0, 0.0]);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChannelStatistics {
    /// Values of each channel.
    count: u64,
    sums: Vec<ExactSum>,
    squares: Vec<ExactSum>,
}

impl ChannelStatistics {
    /// Of so many channels, nothing observed yet.
    pub fn new(channels: usize) -> Self {
        Self {
            count: 0,
            sums: vec![ExactSum::default(); channels],
            squares: vec![ExactSum::default(); channels],
        }
    }

    /// Takes in a batch whose channels lie along `axis`.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Axis`] and [`ShapeError::Length`] for another number of channels; [`DataError`] for a value that
    /// is not finite. Nothing of the batch is taken in then.
    pub fn observe<A: Element, D: Dimension>(&mut self, batch: &ArrayRef<A, D>, axis: Axis) -> Result<()> {
        check_length(Channels::along(axis).count(batch.shape())?, self.channels())?;
        let batch = batch.view().into_dyn();
        check_finite(&batch)?;
        for ((channel, sum), square) in batch.axis_iter(axis).zip(&mut self.sums).zip(&mut self.squares) {
            for x in channel.iter().map(|x| x.to_f64()) {
                sum.add(x);
                square.add_product(x, x);
            }
        }
        self.count += (batch.len() / self.channels().max(1)) as u64;
        Ok(())
    }

    /// Takes in all that `other` has observed.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] for another number of channels.
    pub fn merge(&mut self, other: &Self) -> Result<(), ShapeError> {
        check_length(other.channels(), self.channels())?;
        self.count += other.count;
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, other)| sum.merge(other));
        self.squares.iter_mut().zip(&other.squares).for_each(|(sum, other)| sum.merge(other));
        Ok(())
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.sums.len()
    }

    /// The number of values that each channel has had.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The mean of each channel; NaN without values.
    pub fn mean(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum.total() / self.count as f64).collect()
    }

    /// The variance of each channel, Σ(x − μ)²/n; NaN without values. Free of cancellation, however far the mean is
    /// from zero.
    pub fn variance(&self) -> Vec<f64> {
        let n = self.count as f64;
        let variance = |(sum, square): (&ExactSum, &ExactSum)| {
            // n·Σx² − (Σx)², without rounding.
            let spread = ExactSum::from(n).times(square).minus(&sum.times(sum)).total();
            (spread / n / n).max(0.0)
        };
        let variances = self.sums.iter().zip(&self.squares).map(variance);
        if self.count == 0 { vec![f64::NAN; self.channels()] } else { variances.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solve::samples::SplitMix64;
    use approx::assert_relative_eq;
    use ndarray::{Array2, Array3, array};

    fn normals(random: &mut SplitMix64, shape: (usize, usize)) -> Array2<f64> {
        Array2::from_shape_simple_fn(shape, || random.normal())
    }

    #[test]
    fn the_folded_layer_computes_the_same() {
        let mut random = SplitMix64(7);
        let (x, w) = (normals(&mut random, (50, 5)), normals(&mut random, (4, 5)));
        let bias = array![0.3, -0.1, 0.0, 2.0];
        let (gamma, beta) = ([1.5, -0.5, 0.0, 1.0], [0.1, 0.2, 0.3, -4.0]);
        let (mean, variance) = ([0.5, -1.0, 2.0, 0.0], [1.0, 0.25, 3.0, 1e-8]);
        let norm = BatchNorm::new(&gamma, &beta, &mean, &variance, 1e-5).unwrap();
        let mut folded = w.clone();
        let new_bias = norm.fold(&mut folded, Axis(0), Some(&bias)).unwrap();
        let (before, after) = (x.dot(&w.t()) + &bias, x.dot(&folded.t()) + &new_bias);
        for ((row, channel), y) in before.indexed_iter() {
            let root = (variance[channel] + 1e-5f64).sqrt();
            let expected = gamma[channel] * (y - mean[channel]) / root + beta[channel];
            assert_relative_eq!(after[[row, channel]], expected, max_relative = 1e-12, epsilon = 1e-11);
        }
        // The transposed weights, along their other axis.
        let mut transposed = w.t().to_owned();
        assert_eq!(norm.fold(&mut transposed, Axis(1), Some(&bias)).unwrap(), new_bias);
        assert_eq!(transposed.t(), folded);
    }

    #[test]
    fn statistics_do_not_depend_on_order_or_batches() {
        let mut random = SplitMix64(8);
        let values = Array3::from_shape_simple_fn((40, 3, 5), || (1000.0 + random.normal()) as f32);
        let mut whole = ChannelStatistics::new(3);
        whole.observe(&values, Axis(1)).unwrap();
        let mut parts = [ChannelStatistics::new(3), ChannelStatistics::new(3)];
        for (i, image) in values.outer_iter().enumerate().rev() {
            parts[i % 2].observe(&image, Axis(0)).unwrap();
        }
        let [mut merged, other] = parts;
        merged.merge(&other).unwrap();
        assert_eq!((merged.count(), merged.mean(), merged.variance()), (200, whole.mean(), whole.variance()));
        for (channel, values) in values.axis_iter(Axis(1)).enumerate() {
            let wide = values.mapv(f64::from);
            let mean = wide.sum() / 200.0;
            assert_relative_eq!(whole.mean()[channel], mean, max_relative = 1e-14);
            let variance = wide.mapv(|x| (x - mean).powi(2)).sum() / 200.0;
            assert_relative_eq!(whole.variance()[channel], variance, max_relative = 1e-10);
        }
    }

    #[test]
    fn a_mean_far_from_zero_cancels_nothing() {
        let mut statistics = ChannelStatistics::new(1);
        let values = [1e9, 1e9 + 1.0, 1e9 + 2.0].map(|x| [x]);
        statistics.observe(&ndarray::arr2(&values), Axis(1)).unwrap();
        assert_eq!((statistics.mean(), statistics.variance()), (vec![1e9 + 1.0], vec![2.0 / 3.0]));
    }

    #[test]
    fn estimated_statistics_normalize_what_was_observed() {
        let mut random = SplitMix64(9);
        let x = normals(&mut random, (500, 2)) * 3.0 + 2.0;
        let norm = BatchNorm::new(&[1.0, 1.0], &[0.0, 0.0], &[0.0, 0.0], &[1.0, 1.0], 0.0).unwrap();
        assert!(norm.with_statistics(&ChannelStatistics::new(2)).is_err());
        let mut statistics = ChannelStatistics::new(2);
        statistics.observe(&x, Axis(1)).unwrap();
        let norm = norm.with_statistics(&statistics).unwrap();
        let mut identity = Array2::eye(2);
        let bias = norm.fold(&mut identity, Axis(0), None).unwrap();
        let mut normalized = ChannelStatistics::new(2);
        normalized.observe(&(x.dot(&identity.t()) + bias), Axis(1)).unwrap();
        for channel in 0..2 {
            assert!(normalized.mean()[channel].abs() < 1e-14);
            assert_relative_eq!(normalized.variance()[channel], 1.0, max_relative = 1e-13);
        }
    }

    #[test]
    fn bad_input_is_an_error_and_changes_nothing() {
        let new = |variance: f64, epsilon| BatchNorm::new(&[1.0], &[0.0], &[0.0], &[variance], epsilon);
        assert!(new(0.0, 0.0).is_err() && new(-1.0, 1e-5).is_err() && new(1.0, f64::NAN).is_err());
        assert!(new(f64::NAN, 1.0).is_err() && new(0.0, 1e-5).is_ok());
        assert!(BatchNorm::new(&[1.0], &[0.0, 1.0], &[0.0], &[1.0], 0.0).is_err());
        let mut weights = array![[1.0, 2.0], [3.0, 4.0]];
        assert!(new(4.0, 0.0).unwrap().fold(&mut weights, Axis(0), None).is_err());
        assert_eq!(weights, array![[1.0, 2.0], [3.0, 4.0]]);
        let mut statistics = ChannelStatistics::new(2);
        assert!(statistics.observe(&array![[1.0, f64::INFINITY]], Axis(1)).is_err());
        assert!(statistics.observe(&array![[1.0]], Axis(1)).is_err());
        assert_eq!(statistics.count(), 0);
        assert!(statistics.variance()[0].is_nan());
        assert!(ChannelNormals::new(vec![0.0], vec![-1.0]).is_err());
    }
}
