//! Bias correction: the mean error of each output is taken out of the bias.
//!
//! Markus Nagel, Mart van Baalen, Tijmen Blankevoort and Max Welling 2019, *Data-free quantization through weight
//! equalization and bias correction*, section 4.2 and appendix C; Alexander Finkelstein, Uri Almog and Mark Grobman
//! 2019, *Fighting quantization bias with bias*. With ε = W̃ − W:
//!
//! ```text
//! E[ỹ] − E[y] = E[ε x] = ε E[x],      b ← b − ε E[x]
//! ```
//!
//! E[x] is measured on data (empirical), or follows from the batch normalization before the activation function
//! (analytic): for x = clip(z, α, β) of a normal z with mean μ and standard deviation σ, with a = (α − μ)/σ and
//! b = (β − μ)/σ,
//!
//! ```text
//! E[x] = σ (φ(a) − φ(b)) + μ (Φ(b) − Φ(a)) + α Φ(a) + β (1 − Φ(b))
//! ```
//!
//! The last layer of a chain needs the input that the quantized layers before it give: measure E[x] on the network
//! whose earlier layers are quantized and corrected.

use ndarray::{ArrayRef, Axis, Dimension, Ix1};

use crate::element::Element;
use crate::error::{DataError, Result, ShapeError};
use crate::names::named;
use crate::solve::special::{normal_cdf, normal_density};

use super::batch_norm::ChannelNormals;
use super::channels::{Channels, LayerChannels, check_finite, check_length, check_numbers};

/// The activation function after a batch normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Activation {
    /// None.
    Identity,
    /// max(z, 0). The default.
    #[default]
    Relu,
    /// min(max(z, 0), 6).
    Relu6,
}

named!(Activation, "activation function", [Identity => "identity", Relu => "relu", Relu6 => "relu6"]);

impl Activation {
    /// What the function clips to.
    const fn limits(self) -> (f64, f64) {
        match self {
            Self::Identity => (f64::NEG_INFINITY, f64::INFINITY),
            Self::Relu => (0.0, f64::INFINITY),
            Self::Relu6 => (0.0, 6.0),
        }
    }

    /// Mean and variance of the function of a normal number with mean `mean` and standard deviation `deviation`, which
    /// may be zero. NaN for arguments that are not finite.
    ///
    /// ```
    /// use lowbit::transform::Activation;
    ///
    /// let (mean, variance) = Activation::Relu.moments(0.0, 1.0);
    /// assert!((mean - 0.3989422804014327).abs() < 1e-15);
    /// assert!((variance - 0.3408450569081046).abs() < 1e-15);
    /// // A channel whose γ is zero is constant.
    /// assert_eq!(Activation::Relu6.moments(7.0, 0.0), (6.0, 0.0));
    /// ```
    pub fn moments(self, mean: f64, deviation: f64) -> (f64, f64) {
        let (low, high) = self.limits();
        let deviation = deviation.abs();
        if !(mean.is_finite() && deviation.is_finite()) {
            return (f64::NAN, f64::NAN);
        }
        if self == Self::Identity {
            return (mean, deviation * deviation);
        }
        let (a, b) = ((low - mean) / deviation, (high - mean) / deviation);
        if deviation == 0.0 || a.is_nan() || b.is_nan() {
            return (mean.clamp(low, high), 0.0);
        }
        // A product with a limit at infinity, where the mass is zero.
        let at = |limit: f64, mass: f64| if mass == 0.0 { 0.0 } else { limit * mass };
        // Densities times their argument, which vanish at infinity.
        let moment = |z: f64| if z.is_infinite() { 0.0 } else { z * normal_density(z) };
        let (below, above) = (normal_cdf(a), normal_cdf(-b));
        // Φ(b) − Φ(a), from the tail where it does not cancel.
        let inside = if a > 0.0 { normal_cdf(-a) - above } else { normal_cdf(b) - below };
        let slope = normal_density(a) - normal_density(b);
        // The moments of x − low (of x for limits at infinity), which are small where almost everything is clipped.
        let shifted = mean - low;
        let first = deviation * slope + shifted * inside + at(high - low, above);
        let second = (shifted * shifted + deviation * deviation) * inside
            + deviation * (2.0 * shifted * slope + deviation * (moment(a) - moment(b)))
            + at((high - low) * (high - low), above);
        (low + first.max(0.0), (second - first * first).max(0.0))
    }
}

/// The expected error of each output of a layer, which bias correction takes out.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::transform::{BiasCorrection, LayerChannels};
/// use ndarray::{Array1, Array2, Ix2};
///
/// let weights = Array2::from_shape_fn((8, 32), |(i, j)| ((3 * i + j) as f32).sin());
/// let mut bias = Array1::<f32>::zeros(8);
/// let restored = Uniform::symmetric(BitWidth::new(3)?).quantize(&weights)?.dequantize::<f32, Ix2>()?;
///
/// // The mean of the layer's inputs, on some data.
/// let mean_input = vec![0.5; 32];
/// let correction =
///     BiasCorrection::from_mean_input(&weights, &restored, LayerChannels::DEFAULT, &mean_input)?;
/// correction.apply(&mut bias)?;
/// println!("mean squared output error falls by {}", correction.mean_square());
/// // On outputs, the errors themselves are known.
/// let x = Array2::from_shape_fn((64, 32), |(i, j)| ((i + 5 * j) as f32).cos());
/// let measured = BiasCorrection::from_outputs(&x.dot(&weights.t()), &x.dot(&restored.t()), Axis(1))?;
/// let (before, after) = measured.errors().unwrap_or_default();
/// assert!(after <= before);
/// # assert!(correction.mean_square() > 0.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BiasCorrection {
    shifts: Vec<f64>,
    /// The mean squared output error that is not a shift, where it is known.
    spread: Option<f64>,
}

impl BiasCorrection {
    /// The correction of a layer whose weights `original` became `restored`, from its mean inputs: one number for each
    /// input channel, or one for each weight of an output (row-major, the output's axis left out), which counts the
    /// padding of a convolution in: the mean of its patches.
    ///
    /// With the mean inputs of the calibration data, the mean squared output error on these data falls by exactly
    /// [`mean_square`](Self::mean_square). Time O(n), in f64.
    ///
    /// # Errors
    ///
    /// As [`Channels::count`]; [`ShapeError::Mismatch`] for weights of two shapes, [`ShapeError::Length`] for another
    /// number of means; [`DataError`] for a value that is not finite.
    pub fn from_mean_input<A: Element, B: Element, D: Dimension>(
        original: &ArrayRef<A, D>,
        restored: &ArrayRef<B, D>,
        channels: LayerChannels,
        mean_input: &[f64],
    ) -> Result<Self> {
        Self::from_moments(original, restored, channels, mean_input, None)
    }

    /// As [`from_mean_input`](Self::from_mean_input); with variances of independent inputs, one for each channel, what is
    /// left of the error is known too.
    fn from_moments<A: Element, B: Element, D: Dimension>(
        original: &ArrayRef<A, D>,
        restored: &ArrayRef<B, D>,
        channels: LayerChannels,
        mean_input: &[f64],
        variances: Option<&[f64]>,
    ) -> Result<Self> {
        let shape = original.shape();
        same_shape(restored.shape(), shape)?;
        let (outputs, inputs) = channels.counts(shape)?;
        check_numbers(mean_input)?;
        let (original, restored) = (original.view().into_dyn(), restored.view().into_dyn());
        check_finite(&original)?;
        check_finite(&restored)?;
        let per_output = original.len() / outputs.max(1);
        let by_channel = mean_input.len() == inputs;
        if !by_channel {
            check_length(mean_input.len(), per_output)?;
        }
        let mut shifts = vec![0.0; outputs];
        for (output, shift) in shifts.iter_mut().enumerate() {
            let (from, to) =
                (channels.outputs.view(&original, output), channels.outputs.view(&restored, output));
            if !by_channel {
                let errors = from.iter().zip(&to).map(|(w, restored)| restored.to_f64() - w.to_f64());
                *shift = errors.zip(mean_input).map(|(error, mean)| error * mean).sum();
            }
        }
        let mut spread = 0.0;
        if by_channel {
            // Everything in row-major order, whatever the layout.
            for ((index, w), restored) in original.indexed_iter().zip(&restored) {
                let index = ndarray::Dimension::slice(&index);
                let error = restored.to_f64() - w.to_f64();
                let input = channels.inputs.of(shape, index);
                if let Some(shift) = shifts.get_mut(channels.outputs.of(shape, index)) {
                    *shift += error * mean_input.get(input).copied().unwrap_or_default();
                }
                if let Some(variance) = variances.and_then(|variances| variances.get(input)) {
                    spread += error * error * variance;
                }
            }
        }
        Ok(Self { shifts, spread: variances.map(|_| spread / outputs as f64) })
    }

    /// The correction without data: the inputs come through `activation` from channels that batch normalization made
    /// normal, as [`BatchNorm::outputs`](super::BatchNorm::outputs) or equalized ones of them.
    ///
    /// # Errors
    ///
    /// As [`from_mean_input`](Self::from_mean_input).
    pub fn analytic<A: Element, B: Element, D: Dimension>(
        original: &ArrayRef<A, D>,
        restored: &ArrayRef<B, D>,
        channels: LayerChannels,
        inputs: &ChannelNormals,
        activation: Activation,
    ) -> Result<Self> {
        check_length(inputs.mean().len(), channels.inputs.count(original.shape())?)?;
        let (means, variances): (Vec<f64>, Vec<f64>) = (inputs.mean().iter().zip(inputs.deviation()))
            .map(|(&mean, &deviation)| activation.moments(mean, deviation))
            .unzip();
        Self::from_moments(original, restored, channels, &means, Some(&variances))
    }

    /// The correction from the outputs themselves: `original` and `quantized` are what the float and the quantized
    /// layer (or all layers up to it) give for the same data, with channels along `axis`.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Axis`], [`ShapeError::Mismatch`] for outputs of two shapes, [`DataError::NoData`] for no outputs,
    /// [`DataError`] for a value that is not finite.
    pub fn from_outputs<A: Element, B: Element, D: Dimension>(
        original: &ArrayRef<A, D>,
        quantized: &ArrayRef<B, D>,
        axis: Axis,
    ) -> Result<Self> {
        same_shape(quantized.shape(), original.shape())?;
        let count = Channels::along(axis).count(original.shape())?;
        if original.is_empty() {
            return Err(DataError::NoData { region: 0 }.into());
        }
        let (original, quantized) = (original.view().into_dyn(), quantized.view().into_dyn());
        check_finite(&original)?;
        check_finite(&quantized)?;
        let values = (original.len() / count.max(1)) as f64;
        let mut spread = 0.0;
        let shift = |(y, quantized): (ndarray::ArrayViewD<'_, A>, ndarray::ArrayViewD<'_, B>)| {
            let errors = || y.iter().zip(&quantized).map(|(y, quantized)| quantized.to_f64() - y.to_f64());
            let shift = errors().sum::<f64>() / values;
            spread += errors().map(|error| (error - shift).powi(2)).sum::<f64>();
            shift
        };
        let shifts = original.axis_iter(axis).zip(quantized.axis_iter(axis)).map(shift).collect();
        Ok(Self { shifts, spread: Some(spread / original.len() as f64) })
    }

    /// What each output is too large by, on average.
    pub fn shifts(&self) -> &[f64] {
        &self.shifts
    }

    /// The mean of the squared shifts: what the correction takes from the mean squared output error if the mean inputs
    /// are right.
    pub fn mean_square(&self) -> f64 {
        self.shifts.iter().map(|shift| shift * shift).sum::<f64>() / self.shifts.len() as f64
    }

    /// The mean squared error of the outputs before and after the correction: measured
    /// ([`from_outputs`](Self::from_outputs)), or expected if all inputs of an output are independent of each other
    /// ([`analytic`](Self::analytic)). `None` where only the mean inputs are known, which do not say how far inputs are
    /// from them: there
    /// [`Problem::loss`](crate::layer::Problem::loss) of the same data is the error before.
    pub fn errors(&self) -> Option<(f64, f64)> {
        self.spread.map(|spread| (spread + self.mean_square(), spread))
    }

    /// Subtracts the shifts from `bias`, rounding once.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] unless there is a bias for each output.
    pub fn apply<A: Element>(&self, bias: &mut ArrayRef<A, Ix1>) -> Result<(), ShapeError> {
        check_length(bias.len(), self.shifts.len())?;
        bias.iter_mut()
            .zip(&self.shifts)
            .for_each(|(bias, shift)| *bias = A::from_f64(bias.to_f64() - shift));
        Ok(())
    }
}

/// # Errors
///
/// [`ShapeError::Mismatch`] unless both shapes are one.
pub(crate) fn same_shape(found: &[usize], expected: &[usize]) -> Result<(), ShapeError> {
    if found == expected {
        return Ok(());
    }
    Err(ShapeError::Mismatch { found: found.to_vec(), expected: expected.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::solve::samples::SplitMix64;
    use ndarray::{Array1, Array2, Array4, Ix2, array};

    /// `values.relu` of reference 11: μ, σ, mean and variance.
    const RELU: [[f64; 4]; 8] = [
        [0.0, 1.0, 0.3989422804014327, 0.3408450569081046],
        [0.5, 1.0, 0.6977965574013061, 0.5534407044535519],
        [-1.0, 1.0, 0.08331547058768629, 0.06839831570452316],
        [2.0, 0.5, 2.000003572629216, 0.249984936918346],
        [-3.0, 1.0, 0.0003821543170477275, 0.00020328903856487067],
        [1.0, 3.0, 1.762708342897216, 4.330595579141893],
        [0.1, 0.2, 0.13955931148026124, 0.022137628178142077],
        [4.0, 2.0, 4.016981405233659, 3.8407854831489345],
    ];

    /// `values.relu6` of reference 11.
    const RELU6: [[f64; 4]; 8] = [
        [0.0, 1.0, 0.39894228024507605, 0.34084505510813157],
        [0.5, 1.0, 0.6977965541462993, 0.5534406688491103],
        [-1.0, 1.0, 0.08331547058751063, 0.06839831570239424],
        [2.0, 0.5, 2.0000035726292165, 0.24998493691834422],
        [-3.0, 1.0, 0.00038215431704769626, 0.0002032890385649713],
        [1.0, 3.0, 1.7032286878830436, 3.690277562479009],
        [0.1, 0.2, 0.13955931148026124, 0.02213762817814207],
        [4.0, 2.0, 3.8503504640582866, 2.8507959695885017],
    ];

    #[test]
    fn moments_of_clipped_normals() {
        for (activation, rows) in [(Activation::Relu, RELU), (Activation::Relu6, RELU6)] {
            for [mu, sigma, mean, variance] in rows {
                let found = activation.moments(mu, sigma);
                assert!(
                    (found.0 - mean).abs() <= 1e-12 && (found.1 - variance).abs() <= 1e-12,
                    "{mu} {sigma}"
                );
                assert_eq!(activation.moments(mu, -sigma), found);
            }
        }
        assert_eq!(Activation::Identity.moments(-2.0, 3.0), (-2.0, 9.0));
    }

    #[test]
    fn moments_at_the_ends() {
        for activation in [Activation::Relu, Activation::Relu6] {
            assert_eq!(activation.moments(-2.0, 0.0), (0.0, 0.0));
            assert_eq!(activation.moments(0.0, 0.0), (0.0, 0.0));
            // Everything clipped, and nothing.
            let (mean, variance) = activation.moments(-1e300, 1.0);
            assert_eq!((mean, variance), (0.0, 0.0));
            assert!(
                activation.moments(f64::NAN, 1.0).0.is_nan()
                    && activation.moments(0.0, f64::INFINITY).0.is_nan()
            );
        }
        assert_eq!(Activation::Relu.moments(1e6, 1.0).0, 1e6);
        assert_eq!(Activation::Relu6.moments(1e300, 1e-300), (6.0, 0.0));
        assert_eq!("relu6".parse(), Ok(Activation::Relu6));
    }

    /// `values.dfq_bias` of reference 11.
    #[test]
    fn analytic_shifts_without_data() {
        let weights = array![
            [-2.0551732078167273, 0.7527279787666981, 0.4291596972503555, 0.7187252487656082],
            [-0.11642768710931684, -1.0048543438369055, 0.8727413159193373, -0.07834392411576818],
            [-1.3292824207113805, -0.15308605290734967, -1.1295073507516822, 0.7735677867504336]
        ];
        let restored = Uniform::symmetric(BitWidth::new(3).unwrap()).scales(crate::FloatType::F64);
        let restored = restored.quantize(&weights).unwrap().dequantize::<f64, Ix2>().unwrap();
        let inputs = ChannelNormals::new(vec![0.5, -1.0, 0.0, 2.0], vec![1.0, 0.5, 2.0, 1.0]).unwrap();
        let analytic = |activation| {
            BiasCorrection::analytic(&weights, &restored, LayerChannels::DEFAULT, &inputs, activation)
                .unwrap()
        };
        let expected = [0.13626892376274347, 0.09020370060928944, -0.3975923776505411];
        for (shift, expected) in analytic(Activation::Relu).shifts().iter().zip(expected) {
            assert!((shift - expected).abs() <= 1e-12, "{shift} {expected}");
        }
        // Without an activation function, E[x] is the mean itself.
        let means = inputs.mean();
        let direct =
            BiasCorrection::from_mean_input(&weights, &restored, LayerChannels::DEFAULT, means).unwrap();
        assert_eq!(analytic(Activation::Identity).shifts(), direct.shifts());
        assert_eq!(direct.errors(), None);

        // The expected errors against those of drawn inputs: within four standard deviations of their means.
        let samples = 50_000;
        let mut random = SplitMix64(77);
        let x = Array2::from_shape_fn((samples, 4), |(_, j)| {
            (inputs.mean()[j] + inputs.deviation()[j] * random.normal()).max(0.0)
        });
        let correction = analytic(Activation::Relu);
        let mut bias = Array1::<f64>::zeros(3);
        correction.apply(&mut bias).unwrap();
        let errors = x.dot(&(&restored - &weights).t());
        let (before, after) = correction.errors().unwrap();
        for (expected, errors) in [(before, errors.clone()), (after, errors + &bias)] {
            let squares = errors.mapv(|e| e * e).mean_axis(Axis(1)).unwrap();
            let off = squares.mean().unwrap() - expected;
            assert!(off.abs() < 4.0 * squares.std(1.0) / (samples as f64).sqrt(), "{off} of {expected}");
        }
        assert!(after < before);
    }

    /// A layer of reference 10, of which round-to-nearest at 4 bits has the mean squared error 0.00965336578254 and
    /// with its bias corrected 0.00920173963679.
    #[test]
    fn the_error_falls_by_the_mean_square_of_the_shifts() {
        let (inputs, outputs, samples) = (64, 32, 256);
        let mut random = SplitMix64(1001);
        let mut x = Array2::<f64>::from_shape_simple_fn((samples, inputs), || random.normal());
        for mut row in x.outer_iter_mut() {
            for j in 1..inputs {
                row[j] = 0.8 * row[j - 1] + 0.6 * row[j];
            }
            row += 0.25;
        }
        let mut random = SplitMix64(2002);
        let w = Array2::<f64>::from_shape_simple_fn((outputs, inputs), || 0.125 * random.normal());
        // "S from the 71-point search S = max|w|/qmax · (r/100), r = 30..100", codes −8 to 7.
        let restored = Array2::from_shape_vec(
            (outputs, inputs),
            w.outer_iter()
                .flat_map(|row| {
                    let most = row.iter().fold(0.0_f64, |most, w| most.max(w.abs()));
                    let at = |percent: i32| {
                        let scale = most / 7.0 * (f64::from(percent) / 100.0);
                        row.mapv(|w| (w / scale).round_ties_even().clamp(-8.0, 7.0) * scale)
                    };
                    let error = |q: &Array1<f64>| (&row - q).mapv(|e| e * e).sum();
                    let first = at(30);
                    let start = (error(&first), first);
                    (31..=100)
                        .map(at)
                        .fold(start, |best, q| if error(&q) < best.0 { (error(&q), q) } else { best })
                        .1
                })
                .collect(),
        )
        .unwrap();
        let (y, quantized) = (x.dot(&w.t()), x.dot(&restored.t()));
        let mse = |quantized: &Array2<f64>| (&y - quantized).mapv(|e| e * e).mean().unwrap();
        assert!((mse(&quantized) / 0.0096533657825481 - 1.0).abs() < 1e-9);

        let mean: Vec<f64> = x.mean_axis(Axis(0)).unwrap().to_vec();
        let correction =
            BiasCorrection::from_mean_input(&w, &restored, LayerChannels::DEFAULT, &mean).unwrap();
        let mut bias = Array1::<f64>::zeros(outputs);
        correction.apply(&mut bias).unwrap();
        let corrected = mse(&(&quantized + &bias));
        assert!((corrected / 0.009201739636792806 - 1.0).abs() < 1e-9);
        assert!((mse(&quantized) - corrected - correction.mean_square()).abs() < 1e-14);
        let by_outputs = BiasCorrection::from_outputs(&y, &quantized, Axis(1)).unwrap();
        for (a, b) in by_outputs.shifts().iter().zip(correction.shifts()) {
            assert!((a - b).abs() < 1e-13);
        }
        let (before, after) = by_outputs.errors().unwrap();
        assert!((before / mse(&quantized) - 1.0).abs() < 1e-12 && (after / corrected - 1.0).abs() < 1e-12);
    }

    #[test]
    fn kernels_of_convolutions_are_summed() {
        let mut random = SplitMix64(5);
        let mut draw = |shape: (usize, usize, usize, usize)| {
            Array4::<f64>::from_shape_simple_fn(shape, || random.normal())
        };
        let (w, restored) = (draw((4, 3, 3, 2)), draw((4, 3, 3, 2)));
        let means = [0.5, -1.0, 2.0];
        let by_channel =
            BiasCorrection::from_mean_input(&w, &restored, LayerChannels::DEFAULT, &means).unwrap();
        let patch: Vec<f64> = means.iter().flat_map(|&mean| [mean; 6]).collect();
        let by_patch =
            BiasCorrection::from_mean_input(&w, &restored, LayerChannels::DEFAULT, &patch).unwrap();
        for output in 0..4 {
            let expected: f64 =
                (0..3).map(|i| (&restored - &w).slice(ndarray::s![output, i, .., ..]).sum() * means[i]).sum();
            assert!((by_channel.shifts()[output] - expected).abs() < 1e-12);
            assert!((by_patch.shifts()[output] - expected).abs() < 1e-12);
        }
        // A kernel for each channel.
        let (w, restored) = (draw((3, 1, 2, 2)), draw((3, 1, 2, 2)));
        let shifts =
            BiasCorrection::from_mean_input(&w, &restored, LayerChannels::DEPTHWISE, &means).unwrap();
        for (channel, mean) in means.into_iter().enumerate() {
            let error = (&restored - &w).index_axis(Axis(0), channel).sum();
            assert!((shifts.shifts()[channel] - error * mean).abs() < 1e-12);
        }
    }

    #[test]
    fn bad_input_is_an_error() {
        let w = array![[1.0f32, 2.0]];
        let of = |restored: &Array2<f32>, means: &[f64]| {
            BiasCorrection::from_mean_input(&w, restored, LayerChannels::DEFAULT, means)
        };
        assert!(of(&array![[1.0], [2.0]], &[0.0, 0.0]).is_err());
        assert!(of(&w, &[0.0; 3]).is_err() && of(&w, &[0.0, f64::NAN]).is_err());
        assert!(of(&array![[1.0, f32::NAN]], &[0.0, 0.0]).is_err());
        assert!(of(&w, &[0.0, 0.0]).unwrap().apply(&mut Array1::<f32>::zeros(2)).is_err());
        let none = Array2::<f32>::zeros((0, 2));
        assert!(BiasCorrection::from_outputs(&none, &none, Axis(1)).is_err());
    }
}
