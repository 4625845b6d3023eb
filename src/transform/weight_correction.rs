//! Weight correction: each channel gets back the mean and the spread that quantization took from it.
//!
//! Ron Banner, Yury Nahshan and Daniel Soudry 2019, *Post training 4-bit quantization of convolutional networks for
//! rapid-deployment*, section 5 (bias correction), equations 12 and 13: with the channel's weights W_c and their
//! quantized form W̃_c,
//!
//! ```text
//! μ_c = E[W_c] − E[W̃_c],   ξ_c = ‖W_c − E[W_c]‖₂ / ‖W̃_c − E[W̃_c]‖₂
//! w ← ξ_c (w − E[W̃_c]) + E[W_c]
//! ```
//!
//! so that mean and spread are those of W_c. The authors' code computes ξ_c (w + μ_c), which scales the mean as well.

use ndarray::{ArrayRef, Dimension};

use crate::element::Element;
use crate::error::{ConfigError, DataError, Result};
use crate::tensor::{
    AffineGrid, AffineScheme, Grid, Grids, QuantizedTensor, ScaleOverflow, Scheme, ZeroPointRule,
};

use super::bias_correction::same_shape;
use super::channels::{Channels, check_finite, check_length};

/// `w ← gain · w + offset`, for each channel of quantized weights.
///
/// It can be [applied](Self::apply) to restored weights, or [folded](Self::fold) into the scales and zero points of
/// quantized ones, whose codes stay as they are.
///
/// It restores first and second moments, and so does not promise less squared error: at few bits, where rounding
/// shrinks or inflates a channel, outputs gain; see [`errors`](Self::errors).
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::transform::WeightCorrection;
/// use ndarray::{Array2, Ix2};
///
/// let weights = Array2::from_shape_fn((8, 64), |(i, j)| ((5 * i + j * j) as f32).sin().powi(3) + 0.1);
/// let q = Uniform::symmetric(BitWidth::new(2)?).granularity(PerChannel::new(Axis(0))).quantize(&weights)?;
/// let restored = q.dequantize::<f32, Ix2>()?;
///
/// let correction = WeightCorrection::new(&weights, &restored, Axis(0))?;
/// let corrected = correction.fold(&q, Axis(0))?;
/// assert_eq!(corrected.codes(), q.codes());
/// let mean = |x: &Array2<f32>| x.row(0).mean().unwrap_or_default();
/// assert!((mean(&corrected.dequantize()?) - mean(&weights)).abs() < 1e-6);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WeightCorrection {
    gains: Vec<f64>,
    offsets: Vec<f64>,
    errors: (f64, f64),
}

/// Sum, and sum of squared distances from the mean, of each channel.
fn moments<A: Element>(
    weights: &ndarray::ArrayViewD<'_, A>,
    channels: Channels,
    count: usize,
) -> Vec<(f64, f64)> {
    let of = |channel| {
        let view = channels.view(weights, channel);
        let mean = view.iter().map(|w| w.to_f64()).sum::<f64>() / view.len() as f64;
        (mean, view.iter().map(|w| (w.to_f64() - mean).powi(2)).sum())
    };
    (0..count).map(of).collect()
}

impl WeightCorrection {
    /// The correction that gives `restored` the means and spreads of `original`, channel by channel. A channel whose
    /// restored values are all the same keeps them (gain 1) and gets its mean back. Time O(n), in f64.
    ///
    /// # Errors
    ///
    /// As [`Channels::count`]; [`ShapeError::Mismatch`](crate::ShapeError::Mismatch) for two shapes; [`DataError`] for
    /// a value that is not finite, and [`DataError::NoData`] for weights without elements.
    pub fn new<A: Element, B: Element, D: Dimension>(
        original: &ArrayRef<A, D>,
        restored: &ArrayRef<B, D>,
        channels: impl Into<Channels>,
    ) -> Result<Self> {
        let channels = channels.into();
        let count = channels.count(original.shape())?;
        same_shape(restored.shape(), original.shape())?;
        if original.is_empty() {
            return Err(DataError::NoData { region: 0 }.into());
        }
        let (original, restored) = (original.view().into_dyn(), restored.view().into_dyn());
        check_finite(&original)?;
        check_finite(&restored)?;
        let (wanted, found) = (moments(&original, channels, count), moments(&restored, channels, count));
        let correct = |((mean, spread), (from, found)): (&(f64, f64), &(f64, f64))| {
            let gain = (spread / found).sqrt();
            let gain = if gain > 0.0 && gain.is_finite() { gain } else { 1.0 };
            (gain, mean - gain * from)
        };
        let (gains, offsets): (Vec<f64>, Vec<f64>) = wanted.iter().zip(&found).map(correct).unzip();
        let mut errors = (0.0, 0.0);
        for (channel, (gain, offset)) in gains.iter().zip(&offsets).enumerate() {
            let pairs = (channels.view(&original, channel), channels.view(&restored, channel));
            for (w, restored) in pairs.0.iter().zip(&pairs.1) {
                let (w, restored) = (w.to_f64(), restored.to_f64());
                errors.0 += (restored - w).powi(2);
                errors.1 += (gain * restored + offset - w).powi(2);
            }
        }
        let n = original.len() as f64;
        Ok(Self { gains, offsets, errors: (errors.0 / n, errors.1 / n) })
    }

    /// ξ of each channel.
    pub fn gains(&self) -> &[f64] {
        &self.gains
    }

    /// What is added to each channel after the gain: `E[W_c] − ξ_c E[W̃_c]`.
    pub fn offsets(&self) -> &[f64] {
        &self.offsets
    }

    /// The mean squared error of the weights before and after.
    pub const fn errors(&self) -> (f64, f64) {
        self.errors
    }

    /// Corrects restored weights, rounding once.
    ///
    /// # Errors
    ///
    /// As [`Channels::count`]; [`ShapeError::Length`](crate::ShapeError::Length) for another number of channels.
    pub fn apply<A: Element, D: Dimension>(
        &self,
        restored: &mut ArrayRef<A, D>,
        channels: impl Into<Channels>,
    ) -> Result<()> {
        let channels = channels.into();
        let count = channels.count(restored.shape())?;
        check_length(self.gains.len(), count)?;
        channels.map(&mut restored.view_mut().into_dyn(), count, |channel, w| {
            let (gain, offset) = (self.gains.get(channel), self.offsets.get(channel));
            gain.copied().unwrap_or(1.0) * w + offset.copied().unwrap_or_default()
        });
        Ok(())
    }

    /// The correction in the grids of quantized weights: `S ← ξ S` and `Z ← Z − offset/(ξ S)`, with the codes as they
    /// are. The zero points become real numbers, one for each region, which
    /// [`bits_per_element`](QuantizedTensor::bits_per_element) counts.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Conflict`] unless the grids are uniform and no region holds parts of two channels; [`DataError`]
    /// for a scale or zero point that its storage type cannot hold.
    pub fn fold(
        &self,
        quantized: &QuantizedTensor,
        channels: impl Into<Channels>,
    ) -> Result<QuantizedTensor> {
        let channels = channels.into();
        let (shape, tiling) = (quantized.shape(), quantized.tiling());
        check_length(self.gains.len(), channels.count(shape)?)?;
        let Scheme::Affine(affine) = quantized.scheme() else {
            let setting = "a correction of scales and zero points";
            return Err(ConfigError::Conflict { setting, to: "grids that are not uniform" }.into());
        };
        let scheme = AffineScheme::new(affine.bits(), affine.codes(), ZeroPointRule::Real)?;
        let scheme = Scheme::from(scheme.with_storage(affine.scales(), ScaleOverflow::Error));
        let mut grids = Grids::new(&scheme);
        for region in 0..tiling.regions() {
            let mut channel = None;
            for flat in tiling.region_runs(region).into_iter().flatten() {
                let of = channels.of(shape, &crate::tensor::unravel(shape, flat));
                if channel.is_some_and(|channel| channel != of) {
                    let setting = "a correction for each channel";
                    return Err(ConfigError::Conflict { setting, to: "regions that span channels" }.into());
                }
                channel = Some(of);
            }
            let Some(Grid::Affine(AffineGrid { scale, zero_point })) = quantized.grid(region) else {
                continue;
            };
            let at = |values: &[f64], other: f64| {
                channel.and_then(|channel| values.get(channel)).copied().unwrap_or(other)
            };
            let scale = affine.scales().store(scale * at(&self.gains, 1.0));
            let zero_point = zero_point - at(&self.offsets, 0.0) / scale;
            grids.push(AffineGrid { scale, zero_point }.into())?;
        }
        grids.finish()?;
        let recipe = quantized.recipe().map(Into::into);
        QuantizedTensor::new(
            scheme,
            tiling.clone(),
            grids,
            quantized.codes().clone(),
            quantized.source_type(),
            recipe,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::solve::samples::SplitMix64;
    use approx::assert_relative_eq;
    use ndarray::{Array1, Array2, Ix2, array};

    /// `values.aciq_weight_correction` of reference 11.
    fn reference() -> (Array2<f64>, QuantizedTensor) {
        let mut random = SplitMix64(4444);
        let weights = Array2::from_shape_simple_fn((5, 9), || 0.2 * random.normal() + 0.1);
        assert_relative_eq!(weights.sum(), 5.936758890178941, max_relative = 1e-14);
        let recipe = Uniform::symmetric(BitWidth::new(2).unwrap()).scales(crate::FloatType::F64);
        let q = recipe.granularity(PerChannel::new(Axis(0))).quantize(&weights).unwrap();
        (weights, q)
    }

    #[test]
    fn gains_and_offsets_of_the_reference() {
        let (weights, q) = reference();
        let restored = q.dequantize::<f64, Ix2>().unwrap();
        let correction = WeightCorrection::new(&weights, &restored, Axis(0)).unwrap();
        let mu = [
            -0.03421819122360856,
            0.032458549678080914,
            -0.013997376410629897,
            0.004181017815461513,
            0.014010083027516121,
        ];
        let xi = [
            0.7871534390807817,
            0.8745791809173146,
            0.6097433934733297,
            0.9408797615746184,
            0.9363861219398384,
        ];
        for channel in 0..5 {
            assert!((correction.gains()[channel] - xi[channel]).abs() < 1e-12);
            // Ours is E w − ξ E w_q, the reference's E w − E w_q.
            let from = restored.row(channel).mean().unwrap();
            let shift = correction.offsets()[channel] + (xi[channel] - 1.0) * from;
            assert!((shift - mu[channel]).abs() < 1e-12);
        }
        let mut corrected = restored.clone();
        correction.apply(&mut corrected, Axis(0)).unwrap();
        let spread =
            |row: ndarray::ArrayView1<'_, f64>| (&row - row.mean().unwrap()).mapv(|x| x * x).sum().sqrt();
        for (row, w) in corrected.outer_iter().zip(weights.outer_iter()) {
            assert!((row.mean().unwrap() - w.mean().unwrap()).abs() < 1e-15);
            assert!((spread(row) - spread(w)).abs() < 1e-15);
        }
        let mse = |q: &Array2<f64>| (&weights - q).mapv(|e| e * e).mean().unwrap();
        assert_relative_eq!(correction.errors().0, mse(&restored), max_relative = 1e-12);
        assert_relative_eq!(correction.errors().1, mse(&corrected), max_relative = 1e-12);
    }

    #[test]
    fn folded_into_the_grids() {
        let (weights, q) = reference();
        let restored = q.dequantize::<f64, Ix2>().unwrap();
        let correction = WeightCorrection::new(&weights, &restored, Axis(0)).unwrap();
        let folded = correction.fold(&q, Axis(0)).unwrap();
        let mut expected = restored;
        correction.apply(&mut expected, Axis(0)).unwrap();
        let found = folded.dequantize::<f64, Ix2>().unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-14);
        }
        assert_eq!(folded.codes(), q.codes());
        // A zero point of 64 bits for each row of 9.
        assert_eq!(folded.bits_per_element(), q.bits_per_element() + 64.0 / 9.0);

        let whole = Uniform::symmetric(BitWidth::new(2).unwrap()).quantize(&weights).unwrap();
        assert!(matches!(
            correction.fold(&whole, Axis(0)),
            Err(crate::Error::Config(ConfigError::Conflict { .. }))
        ));
    }

    #[test]
    fn constant_channels_get_their_mean_back() {
        let (weights, restored) = (array![[1.0f32, 3.0], [2.0, 2.0]], array![[1.5f32, 1.5], [1.0, 1.0]]);
        let correction = WeightCorrection::new(&weights, &restored, Axis(0)).unwrap();
        let mut corrected = restored;
        correction.apply(&mut corrected, Axis(0)).unwrap();
        assert_eq!(corrected, array![[2.0, 2.0], [2.0, 2.0]]);
        assert!(WeightCorrection::new(&Array1::<f32>::zeros(0), &Array1::<f32>::zeros(0), Axis(0)).is_err());
        assert!(WeightCorrection::new(&weights, &array![[1.0f32, 2.0]], Axis(0)).is_err());
    }
}
