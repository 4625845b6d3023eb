//! AWQ: input channels that matter are scaled up before the weights are quantized.
//!
//! Ji Lin, Jiaming Tang, Haotian Tang, Shang Yang, Wei-Ming Chen, Wei-Chen Wang, Guangxuan Xiao, Xingyu Dang, Chuang
//! Gan and Song Han 2024, *AWQ: activation-aware weight quantization for LLM compression and acceleration*, section
//! 3.2, equations 4 and 5:
//!
//! ```text
//! s* = argmin L(s),   L(s) = ‖Q(W diag(s)) diag(s)⁻¹ X − W X‖²,   s = s_X^α,   α in [0, 1]
//! ```
//!
//! where s_X is the mean magnitude of each activation channel. As in the authors' code α runs over k/20 for k = 0 to
//! 19, and s is divided by √(max s · min s). At α = 0 nothing is scaled, so the best α never loses to it.

use ndarray::{Array2, ArrayView2, Axis};

use crate::element::Element;
use crate::error::{ConfigError, Result};
use crate::parallel;
use crate::recipe::Recipe;

use super::bias_correction::same_shape;
use super::channels::{LayerMut, check_finite, check_length};
use super::smooth_quant::check_magnitudes;

/// What is known of the inputs of a layer: it makes a squared output error of an error of the weights.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum InputStatistics<'a> {
    /// The mean square of each input: outputs err as if inputs were uncorrelated.
    Diagonal(&'a [f64]),
    /// The mean of x xᵀ over the inputs x, or any multiple of it, symmetric: the Hessian of the squared error.
    Hessian(ArrayView2<'a, f64>),
    /// Inputs themselves: samples by inputs.
    Samples(ArrayView2<'a, f64>),
}

impl InputStatistics<'_> {
    /// # Errors
    ///
    /// [`ShapeError`](crate::ShapeError) for another number of inputs than `inputs`; [`DataError`](crate::DataError)
    /// for a number that is not finite.
    fn check(&self, inputs: usize) -> Result<()> {
        match self {
            Self::Diagonal(squares) => {
                check_length(squares.len(), inputs)?;
                check_magnitudes(squares)
            }
            Self::Hessian(hessian) => {
                same_shape(hessian.shape(), &[inputs, inputs])?;
                Ok(check_finite(hessian)?)
            }
            Self::Samples(samples) => {
                check_length(samples.ncols(), inputs)?;
                Ok(check_finite(samples)?)
            }
        }
    }

    /// The mean over outputs (and samples) of the squared output error for `errors` of the weights (outputs by
    /// inputs). Every sum has one order.
    fn loss(&self, errors: &Array2<f64>) -> f64 {
        let outputs = errors.nrows().max(1) as f64;
        let rows = |of: &(dyn Fn(usize) -> f64 + Sync)| {
            let work = errors.len() * errors.ncols();
            parallel::map_indices(errors.nrows(), work, || (), |(), row| of(row)).into_iter().sum::<f64>()
        };
        match self {
            Self::Diagonal(squares) => {
                rows(&|row| errors.row(row).iter().zip(*squares).map(|(e, square)| e * e * square).sum())
                    / outputs
            }
            Self::Hessian(hessian) => {
                rows(&|row| {
                    let error = errors.row(row);
                    let terms = hessian.outer_iter().zip(error);
                    terms.map(|(line, e)| e * line.iter().zip(error).map(|(h, e)| h * e).sum::<f64>()).sum()
                }) / outputs
            }
            Self::Samples(samples) => {
                let count = samples.nrows().max(1) as f64;
                rows(&|row| {
                    let error = errors.row(row);
                    let outputs = samples.outer_iter();
                    let of = |x: ndarray::ArrayView1<'_, f64>| {
                        x.iter().zip(error).map(|(x, e)| x * e).sum::<f64>()
                    };
                    outputs.map(|x| of(x).powi(2)).sum()
                }) / outputs
                    / count
            }
        }
    }
}

/// The factors that AWQ found.
#[derive(Debug, Clone, PartialEq)]
pub struct AwqScaling {
    /// What each input channel of the weights is multiplied by, and the activations divided by.
    pub factors: Vec<f64>,
    /// The exponent α of the best factors.
    pub exponent: f64,
    /// The mean squared output error without scaling (α = 0) and with it.
    pub losses: (f64, f64),
    /// As [`losses`](Self::losses), on inputs that were held out, if there were any: see [`Awq::scale_held_out`].
    pub held_out: Option<(f64, f64)>,
    /// α and loss of every candidate, in order of α.
    pub tried: Vec<(f64, f64)>,
}

/// Activation-aware scaling of the input channels of weights that a recipe will quantize.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::transform::{Awq, InputStatistics, LayerChannels, LayerMut};
/// use ndarray::{Array2, Ix2};
///
/// let mut weights = Array2::from_shape_fn((8, 64), |(i, j)| ((7 * i + 3 * j) as f32).sin());
/// // A few inputs are far larger than the others.
/// let inputs = Array2::from_shape_fn((32, 64), |(n, j)| {
///     ((5 * n + j * j) as f64).sin() * if j % 16 == 0 { 20.0 } else { 1.0 }
/// });
/// let magnitudes: Vec<f64> = (0..64).map(|j| inputs.column(j).mapv(f64::abs).mean().unwrap_or(0.0)).collect();
///
/// let recipe = Uniform::asymmetric(BitWidth::new(3)?).granularity(PerSubChannel::new(Axis(0), 16)?);
/// let layer = LayerMut::new(&mut weights, LayerChannels::DEFAULT)?;
/// let scaling =
///     Awq::default().scale(layer, &recipe, &magnitudes, &InputStatistics::Samples(inputs.view()))?;
/// assert!(scaling.losses.1 < scaling.losses.0);
/// let q = recipe.quantize(&weights)?; // for activations divided by scaling.factors
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awq {
    steps: usize,
}

impl Default for Awq {
    fn default() -> Self {
        Self { steps: 20 }
    }
}

impl Awq {
    /// With α in `steps` steps of `1/steps`, from 0 on and below 1. The default is 20.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for no step.
    pub fn steps(steps: usize) -> Result<Self, ConfigError> {
        if steps == 0 {
            return Err(ConfigError::TooSmall { what: "steps of the exponent", value: 0, min: 1 });
        }
        Ok(Self { steps })
    }

    /// Finds the best factors for the weights of `layer` under `recipe`, and multiplies the input channels by them;
    /// the activations have to be [divided](super::divide_channels) by them.
    ///
    /// `magnitudes` is the mean magnitude of each input channel; channels of zero are not scaled. `inputs` are those of
    /// one output: the input channels of a dense layer, of a convolution its patches (row-major as the weights of an
    /// output). Time: for each α a quantization and one product of the weights with the statistics; memory of three
    /// copies of the weights in f64.
    ///
    /// # Errors
    ///
    /// [`ShapeError`](crate::ShapeError) for statistics of another number of inputs, or weights that do not have each
    /// output along one axis with all inputs of it (grouped layers); [`DataError`](crate::DataError) for numbers that
    /// are not finite; the errors of [`Recipe::quantize`]. Nothing is changed then.
    pub fn scale<A: Element>(
        &self,
        layer: LayerMut<'_, A>,
        recipe: &Recipe,
        magnitudes: &[f64],
        inputs: &InputStatistics<'_>,
    ) -> Result<AwqScaling> {
        self.search(layer, recipe, magnitudes, inputs, None)
    }

    /// As [`scale`](Self::scale), and says what the factors are worth on other inputs, by which they are not chosen.
    ///
    /// # Errors
    ///
    /// As [`scale`](Self::scale), for both statistics.
    pub fn scale_held_out<A: Element>(
        &self,
        layer: LayerMut<'_, A>,
        recipe: &Recipe,
        magnitudes: &[f64],
        inputs: &InputStatistics<'_>,
        held_out: &InputStatistics<'_>,
    ) -> Result<AwqScaling> {
        self.search(layer, recipe, magnitudes, inputs, Some(held_out))
    }

    fn search<A: Element>(
        &self,
        mut layer: LayerMut<'_, A>,
        recipe: &Recipe,
        magnitudes: &[f64],
        inputs: &InputStatistics<'_>,
        held_out: Option<&InputStatistics<'_>>,
    ) -> Result<AwqScaling> {
        check_length(magnitudes.len(), layer.inputs)?;
        check_magnitudes(magnitudes)?;
        let per_output = layer.weights.len() / layer.outputs.max(1);
        inputs.check(per_output)?;
        held_out.map_or(Ok(()), |held_out| held_out.check(per_output))?;
        let original = layer.weights.to_owned();
        check_finite(&original.view())?;
        let channel_of = |index: &[usize]| layer.channels.inputs.of(original.shape(), index);
        let mut best: Option<AwqScaling> = None;
        let mut tried = Vec::with_capacity(self.steps);
        for step in 0..self.steps {
            let exponent = step as f64 / self.steps as f64;
            let factors = factors(magnitudes, exponent);
            let mut scaled = original.clone();
            layer.channels.inputs.map(&mut scaled.view_mut(), layer.inputs, |channel, w| {
                w * factors.get(channel).copied().unwrap_or(1.0)
            });
            let mut errors = recipe.quantize(&scaled)?.dequantize::<f64, ndarray::IxDyn>()?;
            for ((index, error), w) in errors.indexed_iter_mut().zip(&original) {
                let channel = channel_of(ndarray::Dimension::slice(&index));
                *error = *error / factors.get(channel).copied().unwrap_or(1.0) - w.to_f64();
            }
            let mut rows = Array2::zeros((layer.outputs, per_output));
            let errors = errors.view();
            for (output, mut row) in rows.outer_iter_mut().enumerate() {
                let errors = layer.channels.outputs.view(&errors, output);
                row.iter_mut().zip(&errors).for_each(|(to, from)| *to = *from);
            }
            let loss = inputs.loss(&rows);
            tried.push((exponent, loss));
            // Better by more than sums are rounded, so that without need nothing is scaled.
            if best.as_ref().is_none_or(|best| loss < best.losses.1 * (1.0 - 1e-9)) {
                // The first candidate is that without scaling.
                let own = held_out.map(|held_out| held_out.loss(&rows));
                let first = best.as_ref().map(|best| (best.losses.0, best.held_out.map(|losses| losses.0)));
                let (before, held_out_before) = first.unwrap_or((loss, own));
                let held_out = held_out_before.zip(own);
                best = Some(AwqScaling {
                    factors,
                    exponent,
                    losses: (before, loss),
                    held_out,
                    tried: Vec::new(),
                });
            }
        }
        let Some(mut scaling) = best else {
            return Err(ConfigError::TooSmall { what: "steps of the exponent", value: 0, min: 1 }.into());
        };
        super::equalization::multiply_inputs(&mut layer, &scaling.factors);
        scaling.tried = tried;
        Ok(scaling)
    }
}

/// `s_X^α` over the root of its largest times its smallest; 1 for channels of zero.
fn factors(magnitudes: &[f64], exponent: f64) -> Vec<f64> {
    let live = magnitudes.iter().filter(|&&x| x > 0.0);
    let (least, most) = live.fold((f64::INFINITY, 0.0_f64), |(least, most), &x| (least.min(x), most.max(x)));
    // In the logarithm, where nothing overflows.
    let middle = 0.5 * (least.ln() + most.ln());
    let factor = |&x: &f64| if x > 0.0 { (exponent * (x.ln() - middle)).exp() } else { 1.0 };
    magnitudes.iter().map(factor).collect()
}

/// The mean magnitude of each channel of activations along `axis`: what [`Awq`] scales by.
///
/// # Errors
///
/// As [`Channels::count`](super::Channels::count); [`DataError`](crate::DataError) for a number that is not finite.
pub fn mean_magnitudes<A: Element, D: ndarray::Dimension>(
    activations: &ndarray::ArrayRef<A, D>,
    axis: Axis,
) -> Result<Vec<f64>> {
    let channels = super::channels::Channels::along(axis);
    let count = channels.count(activations.shape())?;
    let activations = activations.view().into_dyn();
    check_finite(&activations)?;
    let mean = |channel| {
        let view = channels.view(&activations, channel);
        view.iter().map(|x| x.to_f64().abs()).sum::<f64>() / view.len().max(1) as f64
    };
    Ok((0..count).map(mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::solve::samples::SplitMix64;
    use crate::transform::LayerChannels;
    use ndarray::{Array4, Ix2};

    /// Weights, and inputs of which one channel in sixteen is twenty times as large.
    fn layer() -> (Array2<f64>, Array2<f64>) {
        let mut random = SplitMix64(31);
        let w = Array2::from_shape_simple_fn((12, 64), || 0.1 * random.normal());
        let mut x = Array2::from_shape_simple_fn((100, 64), || random.normal());
        for channel in [0, 17, 40, 63] {
            x.column_mut(channel).mapv_inplace(|x| 20.0 * x);
        }
        (w, x)
    }

    fn recipe() -> Recipe {
        let uniform = Uniform::asymmetric(BitWidth::new(3).unwrap()).scales(crate::FloatType::F64);
        uniform.granularity(PerSubChannel::new(Axis(0), 16).unwrap())
    }

    #[test]
    fn the_loss_is_that_of_the_outputs_and_falls() {
        let (w, x) = layer();
        let magnitudes = mean_magnitudes(&x, Axis(1)).unwrap();
        let mut scaled = w.clone();
        let scaling = Awq::default()
            .scale(
                LayerMut::new(&mut scaled, LayerChannels::DEFAULT).unwrap(),
                &recipe(),
                &magnitudes,
                &InputStatistics::Samples(x.view()),
            )
            .unwrap();
        assert_eq!((scaling.tried.len(), scaling.tried[0].0, scaling.tried[19].0), (20, 0.0, 0.95));
        let restored = |w: &Array2<f64>| recipe().quantize(w).unwrap().dequantize::<f64, Ix2>().unwrap();
        let factors = ndarray::Array1::from_vec(scaling.factors.clone());
        let loss = |q: &Array2<f64>| (x.dot(&(q - &w).t())).mapv(|e| e * e).mean().unwrap();
        for (found, expected) in [
            (scaling.losses.0, loss(&restored(&w))),
            (scaling.losses.1, loss(&(restored(&scaled) / &factors))),
        ] {
            assert!((found / expected - 1.0).abs() < 1e-10);
        }
        assert!(scaling.exponent > 0.0 && scaling.losses.1 < 0.8 * scaling.losses.0, "{scaling:?}");
        // What that is worth on other inputs, by which the factors are not chosen.
        assert_eq!(scaling.held_out, None);
        let mut random = SplitMix64(32);
        let other = x.mapv(|x| x + 0.5 * random.normal());
        let mut again = w.clone();
        let judged = Awq::default()
            .scale_held_out(
                LayerMut::new(&mut again, LayerChannels::DEFAULT).unwrap(),
                &recipe(),
                &magnitudes,
                &InputStatistics::Samples(x.view()),
                &InputStatistics::Samples(other.view()),
            )
            .unwrap();
        assert_eq!((&again, &judged.factors, judged.losses), (&scaled, &scaling.factors, scaling.losses));
        let (before, after) = judged.held_out.unwrap();
        let loss = |q: &Array2<f64>| (other.dot(&(q - &w).t())).mapv(|e| e * e).mean().unwrap();
        for (found, expected) in
            [(before, loss(&restored(&w))), (after, loss(&(restored(&scaled) / &factors)))]
        {
            assert!((found / expected - 1.0).abs() < 1e-10);
        }
        assert!(after < 0.9 * before);
        // The same function before quantization.
        assert!((&scaled / &factors - &w).iter().all(|e| e.abs() < 1e-14));
    }

    #[test]
    fn all_three_statistics_agree_where_they_should() {
        let (w, x) = layer();
        let hessian = x.t().dot(&x) / 100.0;
        let magnitudes = mean_magnitudes(&x, Axis(1)).unwrap();
        let scale = |inputs: &InputStatistics<'_>| {
            let mut scaled = w.clone();
            let layer = LayerMut::new(&mut scaled, LayerChannels::DEFAULT).unwrap();
            Awq::steps(4).unwrap().scale(layer, &recipe(), &magnitudes, inputs).unwrap()
        };
        let samples = scale(&InputStatistics::Samples(x.view()));
        let whole = scale(&InputStatistics::Hessian(hessian.view()));
        assert!((samples.losses.1 / whole.losses.1 - 1.0).abs() < 1e-10);
        assert_eq!(samples.factors, whole.factors);
        let squares = hessian.diag().to_vec();
        let diagonal = scale(&InputStatistics::Diagonal(&squares));
        let only_diagonal = Array2::from_diag(&hessian.diag());
        let expected = scale(&InputStatistics::Hessian(only_diagonal.view()));
        assert!((diagonal.losses.0 / expected.losses.0 - 1.0).abs() < 1e-10);
    }

    #[test]
    fn convolutions_and_channels_of_zero() {
        let mut random = SplitMix64(33);
        let mut w = Array4::<f32>::from_shape_simple_fn((4, 3, 2, 2), || random.normal() as f32);
        let before = w.clone();
        let recipe = Uniform::symmetric(BitWidth::new(3).unwrap()).granularity(PerChannel::new(Axis(0)));
        let squares = [[0.0; 4], [1.0; 4], [900.0; 4]].concat();
        let layer = LayerMut::new(&mut w, LayerChannels::DEFAULT).unwrap();
        let scaling = Awq::default()
            .scale(layer, &recipe, &[0.0, 1.0, 30.0], &InputStatistics::Diagonal(&squares))
            .unwrap();
        assert_eq!(scaling.factors[0], 1.0);
        assert!(scaling.losses.1 <= scaling.losses.0);
        assert_eq!(w.index_axis(Axis(1), 0), before.index_axis(Axis(1), 0));
    }

    #[test]
    fn bad_input_is_an_error_and_changes_nothing() {
        assert!(Awq::steps(0).is_err());
        let mut w = Array2::<f32>::ones((2, 3));
        let mut scale = |magnitudes: &[f64], squares: &[f64]| {
            let layer = LayerMut::new(&mut w, LayerChannels::DEFAULT).unwrap();
            let inputs = InputStatistics::Diagonal(squares);
            Awq::default().scale(layer, &recipe(), magnitudes, &inputs).is_err()
        };
        assert!(scale(&[1.0; 2], &[1.0; 3]) && scale(&[1.0; 3], &[1.0; 2]));
        assert!(scale(&[1.0, f64::NAN, 1.0], &[1.0; 3]) && scale(&[1.0; 3], &[1.0, 1.0, -1.0]));
        assert_eq!(w, Array2::<f32>::ones((2, 3)));
    }
}
