//! Outlier channel splitting: a channel with an outlier becomes two channels with half of it each.
//!
//! Ritchie Zhao, Yuwei Hu, Jordan Dotzel, Christopher De Sa and Zhiru Zhang 2019, *Improving neural network
//! quantization without retraining using outlier channel splitting*, sections 3.2 and 3.3. Input channel j of the
//! weights is duplicated, and with it the activations of channel j:
//!
//! ```text
//! naive                w → w/2, w/2
//! quantization-aware   w → (w − S/2)/2, (w + S/2)/2      (S is the step of the grid)
//! ```
//!
//! The second keeps Q(w) = Q(w₁) + Q(w₂) for Q(w) = S⌊w/S + ½⌋, where halving alone can lose a bit. Or activations are
//! halved and the weights duplicated. Splitting is repeated ⌈r C⌉ times, each time where the largest magnitude is. (The
//! authors' code looks for the largest value in place of the largest magnitude where only part of a channel is split;
//! here it is the magnitude always.)

use ndarray::{Array, ArrayD, ArrayRef, Axis, Dimension};

use crate::bits::BitWidth;
use crate::element::Element;
use crate::error::{ConfigError, Result};

use super::channels::{Channels, check_finite};
use super::smooth_quant::check_magnitudes;

/// How a channel is shared out to two.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    Naive,
    /// With the step of a restricted symmetric grid of so many bits over the whole tensor.
    QuantizationAware(BitWidth),
}

/// Outlier channel splitting.
///
/// ```
/// use lowbit::transform::OutlierChannels;
/// use ndarray::{Axis, Ix2, array};
///
/// let weights = array![[1.0f32, 8.0], [2.0, -0.5]];
/// let x = array![[3.0f32, 10.0]];
/// let split = OutlierChannels::naive().expand(0.5)?.split_weights(&weights, Axis(1))?;
/// assert_eq!(split.weights(), array![[1.0, 4.0, 4.0], [2.0, -0.25, -0.25]]);
/// assert_eq!((split.sources(), split.ranges()), (&[0, 1, 1][..], (8.0, 4.0)));
/// // The activations are duplicated likewise, and the layer computes what it did.
/// let wider = split.duplicate(&x, Axis(1))?;
/// assert_eq!(wider.dot(&split.weights().t()), x.dot(&weights.t()));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutlierChannels {
    rule: Rule,
    rate: f64,
    threshold: f64,
}

impl OutlierChannels {
    /// Halves.
    pub const fn naive() -> Self {
        Self { rule: Rule::Naive, rate: 0.02, threshold: 0.0 }
    }

    /// Halves that keep the sum of both on the restricted symmetric grid of `bits` bits over the whole tensor, whose
    /// step `S = max|w| / (2^(b−1) − 1)` is found anew before each split.
    ///
    /// # Errors
    ///
    /// [`ConfigError::RestrictedOneBit`] for one bit.
    pub const fn quantization_aware(bits: BitWidth) -> Result<Self, ConfigError> {
        if bits.get() == 1 {
            return Err(ConfigError::RestrictedOneBit);
        }
        Ok(Self { rule: Rule::QuantizationAware(bits), rate: 0.02, threshold: 0.0 })
    }

    /// Splits this share of the channels, rounded up. The default is 0.02, one of the paper's.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Rate`] outside 0 to 1.
    pub fn expand(mut self, rate: f64) -> Result<Self, ConfigError> {
        if !(0.0..=1.0).contains(&rate) {
            return Err(ConfigError::Rate { rate });
        }
        self.rate = rate;
        Ok(self)
    }

    /// Splits only weights beyond this share of the channel's largest magnitude; the others stay in the first of the
    /// two channels, and are zero in the second. The default is 0: all are split.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Rate`] outside 0 to 1.
    pub fn threshold(mut self, share: f64) -> Result<Self, ConfigError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(ConfigError::Rate { rate: share });
        }
        self.threshold = share;
        Ok(self)
    }

    /// How often channels are split.
    fn splits(&self, channels: usize) -> usize {
        // Rates are decimal fractions: 0.3 of 10 is 3.
        ((self.rate * channels as f64 - 1e-9).ceil().max(0.0)) as usize
    }

    /// Half of the step of the grid over values up to `range`; 0 without a grid.
    fn half_step(&self, range: f64) -> f64 {
        match self.rule {
            Rule::Naive => 0.0,
            Rule::QuantizationAware(bits) => 0.5 * range / (f64::from(bits.levels() / 2) - 1.0),
        }
    }

    /// Weights whose input channels, along `inputs`, are split where the largest magnitudes are. New channels follow
    /// the old ones. Time O(n) and O(channels) for each split; memory of the result.
    ///
    /// # Errors
    ///
    /// As [`Channels::count`]; [`DataError`](crate::DataError) for a weight that is not finite.
    pub fn split_weights<A: Element, D: Dimension>(
        &self,
        weights: &ArrayRef<A, D>,
        inputs: Axis,
    ) -> Result<SplitWeights<A, D>> {
        let channels = Channels::along(inputs);
        let view = weights.view().into_dyn();
        let mut ranges = channels.ranges(&view)?;
        let mut lines: Vec<ArrayD<A>> = view.axis_iter(inputs).map(|line| line.to_owned()).collect();
        let mut sources: Vec<usize> = (0..lines.len()).collect();
        let before = largest(&ranges).map_or(0.0, |(_, range)| range);
        for _ in 0..self.splits(lines.len()) {
            let Some((at, range)) = largest(&ranges) else { break };
            let half_step = self.half_step(range);
            let (Some(line), Some(&source)) = (lines.get_mut(at), sources.get(at)) else { break };
            let mut twin = line.clone();
            let mut found = (0.0_f64, 0.0_f64);
            for (first, second) in line.iter_mut().zip(&mut twin) {
                let w = first.to_f64();
                let split = if w.abs() > self.threshold * range || self.threshold == 0.0 {
                    ((w - half_step) / 2.0, (w + half_step) / 2.0)
                } else {
                    (w, 0.0)
                };
                (*first, *second) = (A::from_f64(split.0), A::from_f64(split.1));
                found = (found.0.max(first.to_f64().abs()), found.1.max(second.to_f64().abs()));
            }
            if let Some(range) = ranges.get_mut(at) {
                *range = found.0;
            }
            ranges.push(found.1);
            lines.push(twin);
            sources.push(source);
        }
        let mut shape = view.shape().to_vec();
        if let Some(length) = shape.get_mut(inputs.0) {
            *length = lines.len();
        }
        let mut wider = ArrayD::from_elem(shape, A::default());
        for (mut to, from) in wider.axis_iter_mut(inputs).zip(&lines) {
            to.assign(from);
        }
        let weights = wider.into_dimensionality::<D>().map_err(crate::Error::custom)?;
        let after = largest(&ranges).map_or(0.0, |(_, range)| range);
        Ok(SplitWeights { weights, sources, ranges: (before, after) })
    }

    /// Activation channels of the largest magnitudes `magnitudes`, split where they are the largest: each becomes a
    /// factor and an offset of the channel that it came from. The weights are [duplicated](SplitActivations::duplicate).
    /// The threshold does not apply.
    ///
    /// # Errors
    ///
    /// [`DataError`](crate::DataError) for a magnitude that is not finite, [`ConfigError::Number`] for a negative one.
    pub fn split_activations(&self, magnitudes: &[f64]) -> Result<SplitActivations> {
        check_magnitudes(magnitudes)?;
        let mut ranges = magnitudes.to_vec();
        let mut split = SplitActivations {
            sources: (0..magnitudes.len()).collect(),
            factors: vec![1.0; magnitudes.len()],
            offsets: vec![0.0; magnitudes.len()],
            ranges: (largest(&ranges).map_or(0.0, |(_, range)| range), 0.0),
        };
        for _ in 0..self.splits(magnitudes.len()) {
            let Some((at, range)) = largest(&ranges) else { break };
            let half_step = self.half_step(range);
            let (Some(&source), Some(factor), Some(offset)) =
                (split.sources.get(at), split.factors.get_mut(at), split.offsets.get_mut(at))
            else {
                break;
            };
            let (half, upper) = (*factor / 2.0, (*offset + half_step) / 2.0);
            (*factor, *offset) = (half, (*offset - half_step) / 2.0);
            split.factors.push(half);
            split.offsets.push(upper);
            split.sources.push(source);
            let range = (range + half_step) / 2.0;
            if let Some(first) = ranges.get_mut(at) {
                *first = range;
            }
            ranges.push(range);
        }
        split.ranges.1 = largest(&ranges).map_or(0.0, |(_, range)| range);
        Ok(split)
    }
}

/// The first of the largest, if there is one above zero.
fn largest(ranges: &[f64]) -> Option<(usize, f64)> {
    let first = |best: Option<(usize, f64)>, (at, &range): (usize, &f64)| match best {
        Some((_, most)) if most >= range => best,
        _ => Some((at, range)),
    };
    ranges.iter().enumerate().fold(None, first).filter(|&(_, range)| range > 0.0)
}

/// Slices of `tensor` along `axis`, in the order of `sources`.
fn select<A: Element, D: Dimension>(
    tensor: &ArrayRef<A, D>,
    axis: Axis,
    sources: &[usize],
    channels: usize,
) -> Result<Array<A, D>> {
    super::channels::check_length(Channels::along(axis).count(tensor.shape())?, channels)?;
    let selected = tensor.view().into_dyn().select(axis, sources);
    selected.into_dimensionality::<D>().map_err(crate::Error::custom)
}

/// Weights with some input channels split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitWeights<A, D: Dimension> {
    weights: Array<A, D>,
    sources: Vec<usize>,
    ranges: (f64, f64),
}

impl<A: Element, D: Dimension> SplitWeights<A, D> {
    /// The weights, with more input channels.
    pub const fn weights(&self) -> &Array<A, D> {
        &self.weights
    }

    /// The weights themselves.
    pub fn into_weights(self) -> Array<A, D> {
        self.weights
    }

    /// The old channel that each channel came from.
    pub fn sources(&self) -> &[usize] {
        &self.sources
    }

    /// The largest magnitude before and after.
    pub const fn ranges(&self) -> (f64, f64) {
        self.ranges
    }

    /// The activations for these weights: channels along `axis`, duplicated.
    ///
    /// # Errors
    ///
    /// [`ShapeError`](crate::ShapeError) for another axis, or number of channels, than the weights had.
    pub fn duplicate<B: Element, E: Dimension>(
        &self,
        activations: &ArrayRef<B, E>,
        axis: Axis,
    ) -> Result<Array<B, E>> {
        let channels = self.sources.iter().fold(0, |count, &source| count.max(source + 1));
        select(activations, axis, &self.sources, channels)
    }
}

/// Activation channels of which some are split: channel k is `factors[k] · x + offsets[k]` of channel `sources[k]`.
/// The factors of one source have the sum 1, the offsets 0.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitActivations {
    sources: Vec<usize>,
    factors: Vec<f64>,
    offsets: Vec<f64>,
    ranges: (f64, f64),
}

impl SplitActivations {
    /// The old channel that each channel comes from.
    pub fn sources(&self) -> &[usize] {
        &self.sources
    }

    /// The factor of each channel.
    pub fn factors(&self) -> &[f64] {
        &self.factors
    }

    /// What is added to each channel after its factor.
    pub fn offsets(&self) -> &[f64] {
        &self.offsets
    }

    /// The largest magnitude before and after.
    pub const fn ranges(&self) -> (f64, f64) {
        self.ranges
    }

    /// Splits the channels of `activations` along `axis`, in f64 and rounded once.
    ///
    /// # Errors
    ///
    /// [`ShapeError`](crate::ShapeError) for another axis or number of channels; [`DataError`](crate::DataError) for a
    /// value that is not finite.
    pub fn apply<A: Element, D: Dimension>(
        &self,
        activations: &ArrayRef<A, D>,
        axis: Axis,
    ) -> Result<Array<A, D>> {
        let mut split = self.duplicate(activations, axis)?;
        check_finite(&split.view())?;
        let affine = |channel: usize, x: f64| {
            let (factor, offset) = (self.factors.get(channel), self.offsets.get(channel));
            factor.copied().unwrap_or(1.0) * x + offset.copied().unwrap_or_default()
        };
        Channels::along(axis).map(&mut split.view_mut().into_dyn(), self.sources.len(), affine);
        Ok(split)
    }

    /// Duplicates the input channels of weights along `axis` for these activations.
    ///
    /// # Errors
    ///
    /// [`ShapeError`](crate::ShapeError) for another axis or number of channels.
    pub fn duplicate<A: Element, D: Dimension>(
        &self,
        weights: &ArrayRef<A, D>,
        axis: Axis,
    ) -> Result<Array<A, D>> {
        let channels = self.sources.iter().fold(0, |count, &source| count.max(source + 1));
        select(weights, axis, &self.sources, channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::solve::samples::SplitMix64;
    use approx::assert_relative_eq;
    use ndarray::{Array2, Array4, Ix2, array};

    /// `values.ocs` of reference 11: weights and inputs.
    fn reference() -> (Array2<f64>, Array2<f64>) {
        let mut random = SplitMix64(2222);
        let mut w = Array2::from_shape_simple_fn((16, 12), || random.normal());
        (w[[3, 5]], w[[7, 2]], w[[0, 9]]) = (9.0, -7.5, 6.6);
        (w, Array2::from_shape_simple_fn((256, 12), || random.normal()))
    }

    fn four_bits() -> BitWidth {
        BitWidth::new(4).unwrap()
    }

    /// Splits, the largest magnitude after, output MSE and SQNR at 4 bits; naive and quantization-aware.
    const REFERENCE: [(usize, [[f64; 3]; 2]); 5] = [
        (0, [[9.0, 1.6745424412003125, 11.972464887989009], [9.0, 1.6745424412003125, 11.972464887989009]]),
        (1, [[7.5, 1.5209109898795714, 12.39038849934261], [7.5, 1.2007190949387851, 13.417012307489987]]),
        (2, [[6.6, 1.528194701388888, 12.369639584391585], [6.6, 0.9459821690865394, 14.452596975693446]]),
        (
            3,
            [
                [4.5, 0.8063085841123898, 15.146413645832675],
                [4.821428571428571, 0.6868778959409073, 15.84263107190492],
            ],
        ),
        (
            6,
            [
                [3.75, 0.899102155063181, 14.673336093582055],
                [3.5357142857142856, 0.466502384489476, 17.522887800381675],
            ],
        ),
    ];

    #[test]
    fn splits_of_the_reference() {
        let (w, x) = reference();
        let y = x.dot(&w.t());
        let order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 5, 2, 9, 5, 5, 2];
        let recipe = Uniform::symmetric(four_bits()).scales(crate::FloatType::F64);
        let rules = [OutlierChannels::naive(), OutlierChannels::quantization_aware(four_bits()).unwrap()];
        for (splits, expected) in REFERENCE {
            for (rule, [range, mse, db]) in rules.into_iter().zip(expected) {
                let split = rule.expand(splits as f64 / 12.0).unwrap().split_weights(&w, Axis(1)).unwrap();
                assert_eq!(split.sources(), &order[..12 + splits]);
                assert_relative_eq!(split.ranges().1, range, max_relative = 1e-14);
                let wider = split.duplicate(&x, Axis(1)).unwrap();
                let change = (wider.dot(&split.weights().t()) - &y).fold(0.0_f64, |m, e| m.max(e.abs()));
                assert!(change <= 1e-13, "{change}");
                let q = recipe.quantize(split.weights()).unwrap().dequantize::<f64, Ix2>().unwrap();
                let quantized = wider.dot(&q.t());
                assert_relative_eq!(
                    (&quantized - &y).mapv(|e| e * e).mean().unwrap(),
                    mse,
                    max_relative = 1e-9
                );
                assert_relative_eq!(sqnr(&y, &quantized).unwrap(), db, max_relative = 1e-9);
            }
        }
    }

    /// `values.ocs`, the quantization-aware identity: exact for rounding half up.
    #[test]
    fn aware_halves_round_to_the_whole() {
        let round = |w: f64| (w + 0.5).floor();
        for k in -4000..=4000 {
            let w = f64::from(k) / 64.0;
            assert_eq!(round((w - 0.5) / 2.0) + round((w + 0.5) / 2.0), round(w), "{w}");
        }
    }

    #[test]
    fn the_largest_magnitude_is_split_even_if_it_is_negative() {
        let w = array![[1.0f32, -8.0, 2.0], [0.5, 3.0, 5.0]];
        let rule = OutlierChannels::naive().expand(0.34).unwrap().threshold(0.5).unwrap();
        let split = rule.split_weights(&w, Axis(1)).unwrap();
        // Of channel 1 only −8 is beyond half of the largest magnitude.
        assert_eq!(split.sources(), [0, 1, 2, 1, 2]);
        let expected = array![[1.0f32, -4.0, 2.0, -4.0, 0.0], [0.5, 3.0, 2.5, 0.0, 2.5]];
        assert_eq!(split.weights(), expected);
    }

    #[test]
    fn activations_are_split_too() {
        let (w, mut x) = reference();
        x.column_mut(4).mapv_inplace(|x| 10.0 * x);
        let magnitudes: Vec<f64> =
            x.columns().into_iter().map(|c| c.fold(0.0_f64, |m, x| m.max(x.abs()))).collect();
        let y = x.dot(&w.t());
        let recipe = Uniform::symmetric(four_bits()).scales(crate::FloatType::F64);
        let mut last = f64::NEG_INFINITY;
        for rule in [OutlierChannels::naive(), OutlierChannels::quantization_aware(four_bits()).unwrap()] {
            let split = rule.expand(0.25).unwrap().split_activations(&magnitudes).unwrap();
            let wider = split.apply(&x, Axis(1)).unwrap();
            let weights = split.duplicate(&w, Axis(1)).unwrap();
            assert_eq!((wider.ncols(), weights.ncols()), (15, 15));
            assert!((wider.dot(&weights.t()) - &y).iter().all(|e| e.abs() < 1e-12));
            let most = wider.fold(0.0_f64, |m, x| m.max(x.abs()));
            assert!(most <= split.ranges().1 * (1.0 + 1e-15) && split.ranges().1 < 0.6 * split.ranges().0);
            let q = recipe.quantize(&wider).unwrap().dequantize::<f64, Ix2>().unwrap();
            let db = sqnr(&y, &q.dot(&weights.t())).unwrap();
            let whole = recipe.quantize(&x).unwrap().dequantize::<f64, Ix2>().unwrap();
            assert!(db > sqnr(&y, &whole.dot(&w.t())).unwrap() && db > last, "{db}");
            last = db;
        }
    }

    #[test]
    fn convolutions_zeros_and_bad_input() {
        let w =
            Array4::<f32>::from_shape_fn((2, 3, 2, 2), |(o, i, r, c)| (o * 12 + i * 4 + r * 2 + c) as f32);
        let split = OutlierChannels::naive().split_weights(&w, Axis(1)).unwrap();
        assert_eq!(split.weights().shape(), [2, 4, 2, 2]);
        assert_eq!(split.weights().index_axis(Axis(1), 3), w.index_axis(Axis(1), 2).mapv(|w| w / 2.0));
        // Nothing to split.
        let zeros = Array2::<f32>::zeros((2, 3));
        assert_eq!(OutlierChannels::naive().split_weights(&zeros, Axis(1)).unwrap().weights(), zeros);
        assert_eq!(split.duplicate(&zeros, Axis(1)).unwrap().ncols(), 4);
        assert!(split.duplicate(&zeros, Axis(0)).is_err());
        assert!(OutlierChannels::naive().split_weights(&zeros, Axis(2)).is_err());
        assert!(
            OutlierChannels::naive().expand(1.1).is_err()
                && OutlierChannels::naive().threshold(-0.1).is_err()
        );
        assert!(OutlierChannels::quantization_aware(BitWidth::new(1).unwrap()).is_err());
        assert!(OutlierChannels::naive().split_weights(&array![[f32::NAN]], Axis(1)).is_err());
        assert!(OutlierChannels::naive().split_activations(&[-1.0]).is_err());
    }
}
