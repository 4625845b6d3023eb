//! SmoothQuant: the range of activations moves into the weights that they meet.
//!
//! Guangxuan Xiao, Ji Lin, Mickael Seznec, Hao Wu, Julien Demouth and Song Han 2023, *SmoothQuant: accurate and
//! efficient post-training quantization for large language models*, equations 3 and 4:
//!
//! ```text
//! Y = (X diag(s)⁻¹) (diag(s) W),   s_j = max|X_j|^α / max|W_j|^(1−α)
//! ```
//!
//! for input channel j. At α = ½ activations and weights of a channel get the same range √(max|X_j| · max|W_j|). The
//! division of X is folded into what computes it: the outputs of a linear layer, or weight and bias of a normalization.

use ndarray::ArrayViewD;

use crate::element::Element;
use crate::error::{ConfigError, Result};

use super::channels::{LayerMut, check_length, check_numbers};
use super::equalization::{divide_outputs, multiply_inputs};

/// Factors for the input channels of one layer, or of several that share their input, with the ranges that they leave.
#[derive(Debug, Clone, PartialEq)]
pub struct Smoothing {
    /// What each channel of the activations is divided by, and each input channel of the weights multiplied by.
    pub factors: Vec<f64>,
    /// The largest over the smallest range of a channel that is not zero: of activations and of weights before.
    pub before: (f64, f64),
    /// As [`before`](Self::before), afterwards.
    pub after: (f64, f64),
}

/// SmoothQuant with a migration strength α: at 0 all input channels of the weights get the same range, at 1 all
/// channels of the activations. The default is 0.5; the paper takes up to 0.9 where activations are harder to quantize.
///
/// ```
/// use lowbit::transform::{LayerChannels, LayerMut, SmoothQuant};
/// use ndarray::array;
///
/// // The largest magnitude of each activation channel on some data, and the weights that meet them.
/// let activations = [64.0, 1.0];
/// let mut weights = array![[1.0f32, 0.5], [-0.25, 1.0]];
/// let mut layers = [LayerMut::new(&mut weights, LayerChannels::DEFAULT)?];
/// let smoothing = SmoothQuant::default().smooth(&activations, &mut layers)?;
/// assert_eq!(smoothing.factors, [8.0, 1.0]);
/// assert_eq!((smoothing.before.0, smoothing.after.0), (64.0, 8.0));
/// assert_eq!(weights, array![[8.0, 0.5], [-2.0, 1.0]]);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SmoothQuant {
    strength: f64,
}

impl Default for SmoothQuant {
    fn default() -> Self {
        Self { strength: 0.5 }
    }
}

impl SmoothQuant {
    /// With α = `strength`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Rate`] outside 0 to 1.
    pub fn new(strength: f64) -> Result<Self, ConfigError> {
        if !(0.0..=1.0).contains(&strength) {
            return Err(ConfigError::Rate { rate: strength });
        }
        Ok(Self { strength })
    }

    /// Multiplies the input channels of `layers`, all of which take the same activations, of the largest magnitudes
    /// `activations`; the activations have to be divided by the factors, see [`divide_channels`]. A channel that is zero
    /// in the activations or in all weights stays as it is. Time O(n), in f64.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`](crate::ShapeError::Length) unless every layer has an input for each activation channel;
    /// [`DataError`](crate::DataError) for a number that is not finite; [`ConfigError::Number`] for a negative
    /// magnitude. Nothing is changed then.
    pub fn smooth<A: Element>(
        &self,
        activations: &[f64],
        layers: &mut [LayerMut<'_, A>],
    ) -> Result<Smoothing> {
        check_magnitudes(activations)?;
        let before = weight_ranges(activations.len(), layers)?;
        let factor = |(&x, &w): (&f64, &f64)| {
            let factor = x.powf(self.strength) / w.powf(1.0 - self.strength);
            let fits = A::from_f64(w * factor).to_f64().is_finite();
            if x > 0.0 && w > 0.0 && factor > 0.0 && factor.is_finite() && fits { factor } else { 1.0 }
        };
        let factors: Vec<f64> = activations.iter().zip(&before).map(factor).collect();
        layers.iter_mut().for_each(|layer| multiply_inputs(layer, &factors));
        let after = weight_ranges(activations.len(), layers)?;
        let divided: Vec<f64> = activations.iter().zip(&factors).map(|(x, factor)| x / factor).collect();
        let before = (spread(activations), spread(&before));
        Ok(Smoothing { factors, before, after: (spread(&divided), spread(&after)) })
    }
}

/// Divides the output channels of a layer, weights and bias, by factors: where the division of activations that
/// [`SmoothQuant`] and [`Awq`](super::Awq) ask for goes. For a layer normalization give its weight as the weights (one
/// axis, which holds the outputs).
///
/// Between the layer and the activations there may be what commutes with positive factors: nothing, a ReLU.
///
/// # Errors
///
/// [`ShapeError::Length`](crate::ShapeError::Length) unless there is a factor for each output;
/// [`ConfigError::Number`] for a factor that is not positive and finite.
pub fn divide_channels<A: Element>(mut layer: LayerMut<'_, A>, factors: &[f64]) -> Result<()> {
    check_length(factors.len(), layer.outputs)?;
    // Written so that NaN fails.
    if let Some(&value) = factors.iter().find(|&&factor| !(factor > 0.0 && factor.is_finite())) {
        return Err(ConfigError::Number { what: "a factor", value, rule: "positive and finite" }.into());
    }
    divide_outputs(&mut layer, factors);
    Ok(())
}

/// # Errors
///
/// [`DataError`](crate::DataError) for a magnitude that is not finite, [`ConfigError::Number`] for a negative one.
pub(super) fn check_magnitudes(magnitudes: &[f64]) -> Result<()> {
    check_numbers(magnitudes)?;
    match magnitudes.iter().find(|&&magnitude| magnitude < 0.0) {
        Some(&value) => Err(ConfigError::Number { what: "a magnitude", value, rule: "at least 0" }.into()),
        None => Ok(()),
    }
}

/// The largest magnitude of each input channel over all layers.
fn weight_ranges<A: Element>(channels: usize, layers: &[LayerMut<'_, A>]) -> Result<Vec<f64>> {
    let mut ranges = vec![0.0_f64; channels];
    for layer in layers {
        check_length(layer.inputs, channels)?;
        let weights: ArrayViewD<'_, A> = layer.weights.view();
        let found = layer.channels.inputs.ranges(&weights)?;
        ranges.iter_mut().zip(found).for_each(|(range, found)| *range = range.max(found));
    }
    Ok(ranges)
}

/// The largest over the smallest that is not zero; 1 if all are zero.
pub(super) fn spread(ranges: &[f64]) -> f64 {
    let live = ranges.iter().filter(|&&range| range > 0.0);
    let (least, most) = live.fold((f64::INFINITY, 0.0_f64), |(least, most), &x| (least.min(x), most.max(x)));
    if most > 0.0 { most / least } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::solve::samples::SplitMix64;
    use crate::transform::LayerChannels;
    use ndarray::{Array1, Array2, Ix2};

    /// Activations of which two channels are a hundred times as large, one is zero, and two layers that take them.
    fn layers() -> (Array2<f32>, [Array2<f32>; 2]) {
        let mut random = SplitMix64(21);
        let mut x = Array2::from_shape_simple_fn((200, 16), || random.normal() as f32);
        for (channel, factor) in [(3, 100.0), (9, 60.0), (5, 0.0)] {
            x.column_mut(channel).mapv_inplace(|x| x * factor);
        }
        (x, [0, 1].map(|_| Array2::from_shape_simple_fn((8, 16), || 0.1 * random.normal() as f32)))
    }

    fn magnitudes(x: &Array2<f32>) -> Vec<f64> {
        x.columns().into_iter().map(|c| f64::from(c.fold(0.0f32, |m, x| m.max(x.abs())))).collect()
    }

    #[test]
    fn the_function_stays_and_eight_bits_lose_less() {
        let (x, mut weights) = layers();
        let before = weights.clone();
        let smoothing = {
            let mut all = weights.each_mut().map(|w| LayerMut::new(w, LayerChannels::DEFAULT).unwrap());
            SmoothQuant::default().smooth(&magnitudes(&x), &mut all).unwrap()
        };
        let factors = Array1::from_vec(smoothing.factors.clone());
        let smooth = &x / &factors.mapv(|factor| factor as f32);
        let output = |x: &Array2<f32>, w: &Array2<f32>| x.mapv(f64::from).dot(&w.mapv(f64::from).t());
        let quantized = |x: &Array2<f32>, w: &Array2<f32>| {
            let restored = |x: &Array2<f32>| {
                let q = Uniform::symmetric(BitWidth::EIGHT).quantize(x).unwrap();
                q.dequantize::<f32, Ix2>().unwrap()
            };
            output(&restored(x), &restored(w))
        };
        for (old, new) in before.iter().zip(&weights) {
            let y = output(&x, old);
            let scale = y.fold(0.0_f64, |most, y| most.max(y.abs()));
            assert!((&y - output(&smooth, new)).iter().all(|e| e.abs() <= 1e-5 * scale));
            let (raw, smoothed) =
                (sqnr(&y, &quantized(&x, old)).unwrap(), sqnr(&y, &quantized(&smooth, new)).unwrap());
            assert!(smoothed > raw + 3.0, "{raw} {smoothed}");
            // The channel without activations keeps its weights.
            assert_eq!(old.column(5), new.column(5));
        }
        assert!(smoothing.after.0 < smoothing.before.0 / 5.0, "{smoothing:?}");
        // At half strength activations and weights have the same ranges.
        let of_weights = |channel: usize| {
            weights.iter().flat_map(|w| w.column(channel)).fold(0.0f32, |m, w| m.max(w.abs()))
        };
        for (channel, x) in magnitudes(&smooth).into_iter().enumerate().filter(|&(channel, _)| channel != 5) {
            assert!((x / f64::from(of_weights(channel)) - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn the_division_goes_into_the_layer_before() {
        let mut random = SplitMix64(22);
        let x = Array2::<f64>::from_shape_simple_fn((50, 4), || random.normal());
        let mut first = Array2::<f64>::from_shape_simple_fn((6, 4), || random.normal());
        let mut bias = Array1::<f64>::from_shape_simple_fn(6, || random.normal());
        let mut second = Array2::<f64>::from_shape_simple_fn((3, 6), || random.normal());
        let hidden = |w: &Array2<f64>, b: &Array1<f64>| (x.dot(&w.t()) + b).mapv(|z| z.max(0.0));
        let before = hidden(&first, &bias).dot(&second.t());
        let activations: Vec<f64> =
            hidden(&first, &bias).columns().into_iter().map(|c| c.fold(0.0_f64, |m, x| m.max(*x))).collect();
        let mut layers = [LayerMut::new(&mut second, LayerChannels::DEFAULT).unwrap()];
        let smoothing = SmoothQuant::new(0.8).unwrap().smooth(&activations, &mut layers).unwrap();
        let layer = LayerMut::new(&mut first, LayerChannels::DEFAULT).unwrap().with_bias(&mut bias).unwrap();
        divide_channels(layer, &smoothing.factors).unwrap();
        let after = hidden(&first, &bias).dot(&second.t());
        assert!((&before - &after).iter().all(|e| e.abs() < 1e-12));
    }

    #[test]
    fn bad_input_is_an_error() {
        assert!(SmoothQuant::new(1.5).is_err() && SmoothQuant::new(f64::NAN).is_err());
        let mut w = Array2::<f32>::ones((2, 3));
        let mut smooth = |activations: &[f64]| {
            let layers = &mut [LayerMut::new(&mut w, LayerChannels::DEFAULT).unwrap()];
            SmoothQuant::default().smooth(activations, layers).is_err()
        };
        assert!(smooth(&[1.0; 2]) && smooth(&[1.0, -1.0, 1.0]) && smooth(&[1.0, f64::NAN, 1.0]));
        let layer = LayerMut::new(&mut w, LayerChannels::DEFAULT).unwrap();
        assert!(divide_channels(layer, &[1.0, 0.0]).is_err());
        assert_eq!(w, Array2::<f32>::ones((2, 3)));
    }
}
