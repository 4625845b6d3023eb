//! Cross-layer equalization: channels between two layers are scaled so that both layers use their range alike.
//!
//! Markus Nagel, Mart van Baalen, Tijmen Blankevoort and Max Welling 2019, *Data-free quantization through weight
//! equalization and bias correction*, section 4.1; Eldad Meller, Alexander Finkelstein, Uri Almog and Mark Grobman
//! 2019, *Same, same but different: recovering neural network quantization error through weight factorization*. For
//! f(s x) = s f(x) with s > 0 (ReLU, leaky and parametric ReLU, no activation function at all),
//!
//! ```text
//! y = W₂ f(W₁ x + b₁) = W₂ S f(S⁻¹ W₁ x + S⁻¹ b₁),   s_i = √(r₁ᵢ / r₂ᵢ)
//! ```
//!
//! (the paper writes `√(r₁ᵢ r₂ᵢ) / r₂ᵢ`), where r₁ᵢ is the largest magnitude of output channel i of W₁ and r₂ᵢ that of
//! input channel i of W₂: both become √(r₁ᵢ r₂ᵢ). With a depthwise convolution between two layers, of magnitudes r₀, r₁
//! and r₂,
//!
//! ```text
//! s₀₁ = r₀ / ∛(r₀ r₁ r₂),   s₁₂ = ∛(r₀ r₁ r₂) / r₂
//! ```
//!
//! The paper's objective is the total precision `Σᵢ r₁ᵢ/R₁ · r₂ᵢ/R₂`, R being the largest of a layer. ReLU6 is not
//! homogeneous: take a ReLU in its place, as the paper does.

use crate::element::Element;
use crate::error::Result;

use super::channels::{LayerMut, check_length};

/// How evenly the channels between some layers use the ranges of their layers.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelBalance {
    /// The paper's total precision, `Σᵢ Π r/R`: the number of channels if all have the same range.
    pub precision: f64,
    /// For each layer, the largest range of a channel over the smallest that is not zero; 1 if all are zero.
    pub spreads: Vec<f64>,
}

impl ChannelBalance {
    /// Of the ranges of the channels in each layer.
    fn of(ranges: &[Vec<f64>]) -> Self {
        let largest = |ranges: &Vec<f64>| ranges.iter().fold(0.0_f64, |most, &range| most.max(range));
        let channels = ranges.first().map_or(0, Vec::len);
        let share = |channel: usize| {
            ranges
                .iter()
                .map(|ranges| match (largest(ranges), ranges.get(channel)) {
                    (most, Some(range)) if most > 0.0 => range / most,
                    _ => 0.0,
                })
                .product::<f64>()
        };
        let spread = |ranges: &Vec<f64>| {
            let live = ranges.iter().filter(|&&range| range > 0.0);
            let least = live.fold(f64::INFINITY, |least, &range| least.min(range));
            if least.is_finite() { largest(ranges) / least } else { 1.0 }
        };
        Self { precision: (0..channels).map(share).sum(), spreads: ranges.iter().map(spread).collect() }
    }
}

/// What equalization did.
#[derive(Debug, Clone, PartialEq)]
pub struct Equalized {
    /// For each pair of neighbouring layers, what every channel between them was divided by. Statistics of these
    /// channels have to be [divided](super::ChannelNormals::divide) too.
    pub factors: Vec<Vec<f64>>,
    /// For each pair, the channels that stayed as they were: those that are zero in one of the layers, and those whose
    /// bias or range the element type cannot hold after scaling.
    pub untouched: Vec<Vec<usize>>,
    /// The ranges before. Of a chain of more than two layers, those of its first pair.
    pub before: ChannelBalance,
    /// The ranges after.
    pub after: ChannelBalance,
    /// How often the pairs of a chain were gone through.
    pub sweeps: usize,
}

/// Cross-layer equalization.
///
/// Every weight is scaled in f64 and rounded once, so that the function changes by a rounding error at most. Dead
/// channels stay as they are. Time O(n).
///
/// ```
/// use lowbit::transform::{Equalization, LayerChannels, LayerMut};
/// use ndarray::array;
///
/// let (mut first, mut bias) = (array![[4.0f64, -2.0], [0.0, 0.25]], array![1.0, 1.0]);
/// let mut second = array![[1.0, 4.0], [0.5, -1.0]];
/// let report = Equalization::default().pair(
///     LayerMut::new(&mut first, LayerChannels::DEFAULT)?.with_bias(&mut bias)?,
///     LayerMut::new(&mut second, LayerChannels::DEFAULT)?,
/// )?;
/// assert_eq!(report.factors, [[2.0, 0.25]]);
/// assert_eq!(first, array![[2.0, -1.0], [0.0, 1.0]]);
/// assert_eq!(second, array![[2.0, 1.0], [1.0, -0.25]]);
/// assert_eq!(bias, array![0.5, 4.0]);
/// assert!(report.after.precision > report.before.precision);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Equalization {
    powers_of_two: bool,
}

/// Stops a chain where no factor is further from 1 than this.
const SETTLED: f64 = 1e-3;

impl Equalization {
    /// Rounds every factor to a power of two: the function stays the same bit for bit (unless a weight underflows),
    /// and ranges come within a factor of two of each other.
    pub fn powers_of_two(mut self) -> Self {
        self.powers_of_two = true;
        self
    }

    /// Equalizes the channels between two layers, of which nothing else takes the output of the first.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`](crate::ShapeError::Length) unless the second layer has as many inputs as the first has outputs;
    /// [`DataError`](crate::DataError) for weights that are not finite. Nothing is changed then.
    pub fn pair<'a, A: Element>(&self, first: LayerMut<'a, A>, second: LayerMut<'a, A>) -> Result<Equalized> {
        self.chain(&mut [first, second], 1)
    }

    /// Equalizes the channels around a depthwise convolution, `second`, all three layers at once.
    ///
    /// # Errors
    ///
    /// As [`pair`](Self::pair); [`ShapeError::Length`](crate::ShapeError::Length) for a second layer of another number of inputs than outputs.
    pub fn triple<'a, A: Element>(
        &self,
        mut first: LayerMut<'a, A>,
        mut second: LayerMut<'a, A>,
        mut third: LayerMut<'a, A>,
    ) -> Result<Equalized> {
        check_length(second.inputs, first.outputs)?;
        check_length(second.outputs, first.outputs)?;
        check_length(third.inputs, first.outputs)?;
        let ranges = |first: &LayerMut<'_, A>, second: &LayerMut<'_, A>, third: &LayerMut<'_, A>| {
            Ok::<_, crate::Error>([output_ranges(first)?, output_ranges(second)?, input_ranges(third)?])
        };
        let before = ranges(&first, &second, &third)?;
        let [r0, r1, r2] = &before;
        let (mut outer, mut inner, mut untouched) = (Vec::new(), Vec::new(), Vec::new());
        for (channel, ((&r0, &r1), &r2)) in r0.iter().zip(r1).zip(r2).enumerate() {
            let middle = r0.cbrt() * r1.cbrt() * r2.cbrt();
            let factors = [self.factor(r0 / middle), self.factor(middle / r2)];
            let biases = [(&first, factors[0]), (&second, factors[1])];
            let live = r0 > 0.0 && r1 > 0.0 && r2 > 0.0;
            if live && biases.iter().all(|(layer, factor)| factor_fits(layer, channel, *factor)) {
                outer.push(factors[0]);
                inner.push(factors[1]);
            } else {
                outer.push(1.0);
                inner.push(1.0);
                untouched.push(channel);
            }
        }
        divide_outputs(&mut first, &outer);
        multiply_inputs(&mut second, &outer);
        divide_outputs(&mut second, &inner);
        multiply_inputs(&mut third, &inner);
        let after = ranges(&first, &second, &third)?;
        Ok(Equalized {
            factors: vec![outer, inner],
            untouched: vec![untouched.clone(), untouched],
            before: ChannelBalance::of(&before),
            after: ChannelBalance::of(&after),
            sweeps: 1,
        })
    }

    /// Equalizes a chain of layers without branches, pair by pair, again and again until no factor is further from 1
    /// than a thousandth, `sweeps` times at most.
    ///
    /// # Errors
    ///
    /// As [`pair`](Self::pair).
    pub fn chain<A: Element>(&self, layers: &mut [LayerMut<'_, A>], sweeps: usize) -> Result<Equalized> {
        for pair in layers.windows(2) {
            if let [first, second] = pair {
                check_length(second.inputs, first.outputs)?;
            }
        }
        // All layers are looked at before the first is changed.
        layers.iter().try_for_each(|layer| super::channels::check_finite(&layer.weights.view()))?;
        let mut report = Equalized {
            factors: layers.windows(2).map(|pair| vec![1.0; pair.first().map_or(0, |l| l.outputs)]).collect(),
            untouched: vec![Vec::new(); layers.len().saturating_sub(1)],
            before: balance(layers)?,
            after: ChannelBalance { precision: 0.0, spreads: Vec::new() },
            sweeps: 0,
        };
        let mut settled = false;
        while !settled && report.sweeps < sweeps {
            settled = true;
            for at in 0..layers.len().saturating_sub(1) {
                let Some([first, second]) = layers.get_mut(at..at + 2) else { break };
                let (factors, untouched) = self.between(first, second)?;
                settled &= factors.iter().all(|factor| (factor - 1.0).abs() <= SETTLED);
                divide_outputs(first, &factors);
                multiply_inputs(second, &factors);
                if let Some(all) = report.factors.get_mut(at) {
                    all.iter_mut().zip(&factors).for_each(|(all, factor)| *all *= factor);
                }
                if let Some(all) = report.untouched.get_mut(at) {
                    *all = untouched;
                }
            }
            report.sweeps += 1;
        }
        report.after = balance(layers)?;
        Ok(report)
    }

    /// The factors between two layers, and the channels that get none.
    fn between<A: Element>(
        &self,
        first: &LayerMut<'_, A>,
        second: &LayerMut<'_, A>,
    ) -> Result<(Vec<f64>, Vec<usize>)> {
        let (r1, r2) = (output_ranges(first)?, input_ranges(second)?);
        let mut untouched = Vec::new();
        let mut factor = |(channel, (r1, r2)): (usize, (f64, f64))| {
            let factor = self.factor(r1.sqrt() / r2.sqrt());
            if r1 > 0.0 && r2 > 0.0 && factor_fits(first, channel, factor) {
                return factor;
            }
            untouched.push(channel);
            1.0
        };
        let factors = r1.into_iter().zip(r2).enumerate().map(&mut factor).collect();
        Ok((factors, untouched))
    }

    fn factor(&self, factor: f64) -> f64 {
        if self.powers_of_two { factor.log2().round_ties_even().exp2() } else { factor }
    }
}

fn output_ranges<A: Element>(layer: &LayerMut<'_, A>) -> Result<Vec<f64>> {
    layer.channels.outputs.ranges(&layer.weights.view())
}

fn input_ranges<A: Element>(layer: &LayerMut<'_, A>) -> Result<Vec<f64>> {
    layer.channels.inputs.ranges(&layer.weights.view())
}

/// The balance between the first two layers.
fn balance<A: Element>(layers: &[LayerMut<'_, A>]) -> Result<ChannelBalance> {
    let ranges = match layers {
        [first, second, ..] => vec![output_ranges(first)?, input_ranges(second)?],
        _ => Vec::new(),
    };
    Ok(ChannelBalance::of(&ranges))
}

/// Whether a bias divided by `factor` is a number of its type.
fn factor_fits<A: Element>(layer: &LayerMut<'_, A>, channel: usize, factor: f64) -> bool {
    let bias = layer.bias.as_ref().and_then(|bias| bias.get(channel)).map_or(0.0, |bias| bias.to_f64());
    factor > 0.0 && factor.is_finite() && A::from_f64(bias / factor).to_f64().is_finite()
}

/// Divides the outputs of a layer, bias and all.
pub(super) fn divide_outputs<A: Element>(layer: &mut LayerMut<'_, A>, factors: &[f64]) {
    let factor = |channel: usize| factors.get(channel).copied().unwrap_or(1.0);
    layer.channels.outputs.map(&mut layer.weights, layer.outputs, |channel, w| w / factor(channel));
    if let Some(bias) = &mut layer.bias {
        let all = bias.iter_mut().zip(factors);
        all.for_each(|(bias, factor)| *bias = A::from_f64(bias.to_f64() / factor));
    }
}

/// Multiplies what a layer makes of its inputs.
pub(super) fn multiply_inputs<A: Element>(layer: &mut LayerMut<'_, A>, factors: &[f64]) {
    let factor = |channel: usize| factors.get(channel).copied().unwrap_or(1.0);
    layer.channels.inputs.map(&mut layer.weights, layer.inputs, |channel, w| w * factor(channel));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::solve::samples::SplitMix64;
    use crate::transform::{Channels, LayerChannels};
    use approx::assert_relative_eq;
    use ndarray::{Array1, Array2, Array4, Ix2, array};
    use proptest::prelude::*;

    type Network = (Array2<f64>, Array1<f64>, Array2<f64>, Array1<f64>, Array2<f64>);

    /// `values.cle` of reference 11.
    fn reference() -> Network {
        let mut random = SplitMix64(1111);
        let mut w1 = Array2::from_shape_simple_fn((8, 6), || random.normal());
        for (mut row, factor) in w1.outer_iter_mut().zip([0.02, 0.05, 0.1, 0.3, 0.6, 1.2, 2.5, 5.0]) {
            row *= factor;
        }
        let b1 = Array1::from_shape_simple_fn(8, || random.normal()) * 0.1;
        let w2 = Array2::from_shape_simple_fn((4, 8), || random.normal());
        let b2 = Array1::from_shape_simple_fn(4, || random.normal()) * 0.1;
        let x = Array2::from_shape_simple_fn((512, 6), || random.normal());
        (w1, b1, w2, b2, x)
    }

    fn forward((w1, b1, w2, b2, x): &Network) -> Array2<f64> {
        (x.dot(&w1.t()) + b1).mapv(|z| z.max(0.0)).dot(&w2.t()) + b2
    }

    fn equalize(network: &mut Network, how: Equalization) -> Equalized {
        let (w1, b1, w2, ..) = network;
        let first = LayerMut::new(w1, LayerChannels::DEFAULT).unwrap().with_bias(b1).unwrap();
        how.pair(first, LayerMut::new(w2, LayerChannels::DEFAULT).unwrap()).unwrap()
    }

    /// SQNR of the output with both weights quantized per layer.
    fn sqnr_at(bits: u32, network: &Network) -> f64 {
        let recipe = Uniform::symmetric(BitWidth::new(bits).unwrap()).scales(crate::FloatType::F64);
        let quantized = |w: &Array2<f64>| recipe.quantize(w).unwrap().dequantize::<f64, Ix2>().unwrap();
        let (w1, b1, w2, b2, x) = network.clone();
        sqnr(&forward(network), &forward(&(quantized(&w1), b1, quantized(&w2), b2, x))).unwrap()
    }

    #[test]
    fn factors_ranges_and_function_of_the_reference() {
        let factors = [
            0.12390524140228198,
            0.2561283048182094,
            0.35590742520300944,
            0.567851199614175,
            1.6170627711545424,
            1.0407638485347286,
            2.122273580660145,
            2.422964421801101,
        ];
        let ranges = [
            0.298706487368001,
            0.5744448262506637,
            0.5848772180454676,
            1.174083954365084,
            0.8013573275164458,
            1.268617966069506,
            1.2292485424691868,
            3.4762612223210123,
        ];
        let before = reference();
        let mut after = before.clone();
        let report = equalize(&mut after, Equalization::default());
        for channel in 0..8 {
            assert_relative_eq!(report.factors[0][channel], factors[channel], max_relative = 1e-12);
            let largest = |values: ndarray::ArrayView1<'_, f64>| values.fold(0.0_f64, |m, x| m.max(x.abs()));
            assert_relative_eq!(largest(after.0.row(channel)), ranges[channel], max_relative = 1e-12);
            assert_relative_eq!(largest(after.2.column(channel)), ranges[channel], max_relative = 1e-12);
        }
        assert_relative_eq!(report.before.precision, 0.8858065977523544, max_relative = 1e-12);
        assert_relative_eq!(report.after.precision, 1.488430362366243, max_relative = 1e-12);
        let scale = forward(&before).fold(0.0_f64, |most, y| most.max(y.abs()));
        let change = (forward(&before) - forward(&after)).fold(0.0_f64, |most, y| most.max(y.abs()));
        assert!(change <= 1e-12 * scale, "{change}");
        for (bits, [from, to]) in [
            (8, [39.62261841400236, 45.309516226120095]),
            (6, [26.641617891960095, 31.683432190261506]),
            (4, [14.989191578888498, 19.613713131955134]),
            (3, [7.208761220793212, 10.59954215666]),
        ] {
            assert_relative_eq!(sqnr_at(bits, &before), from, max_relative = 1e-9);
            assert_relative_eq!(sqnr_at(bits, &after), to, max_relative = 1e-9);
        }
    }

    #[test]
    fn powers_of_two_change_no_bit() {
        let before = reference();
        let mut after = before.clone();
        let report = equalize(&mut after, Equalization::default().powers_of_two());
        assert!(report.factors[0].iter().all(|factor| factor.log2().fract() == 0.0));
        assert_eq!(forward(&after), forward(&before));
        assert!(sqnr_at(4, &after) > sqnr_at(4, &before) + 3.0);
    }

    #[test]
    fn a_second_time_changes_nothing() {
        let mut network = reference();
        equalize(&mut network, Equalization::default());
        let report = equalize(&mut network, Equalization::default());
        assert!(report.factors[0].iter().all(|factor| (factor - 1.0).abs() < 1e-15));
        // Precision is at its largest: no scaling of one channel raises it.
        for channel in 0..8 {
            for factor in [0.9, 1.1] {
                let mut other = network.clone();
                other.0.row_mut(channel).mapv_inplace(|w| w / factor);
                other.2.column_mut(channel).mapv_inplace(|w| w * factor);
                let again = equalize(&mut other, Equalization::default());
                assert!(again.before.precision <= again.after.precision * (1.0 + 1e-12));
            }
        }
    }

    #[test]
    fn dead_channels_and_full_biases_stay() {
        // Channel 0 has no weights, channel 1 feeds nothing, the bias of channel 2 would overflow f16.
        let half = half::f16::from_f32;
        let mut w1 = array![[0.0f32, 0.0], [1.0, 2.0], [1e-3, 1e-3], [4.0, 1.0]].mapv(half);
        let mut b1 = array![1.0f32, 2.0, 6e4, 1.0].mapv(half);
        let mut w2 = array![[3.0f32, 0.0, 100.0, 1.0]].mapv(half);
        let (w1_before, w2_before, b1_before) = (w1.clone(), w2.clone(), b1.clone());
        let first = LayerMut::new(&mut w1, LayerChannels::DEFAULT).unwrap().with_bias(&mut b1).unwrap();
        let second = LayerMut::new(&mut w2, LayerChannels::DEFAULT).unwrap();
        let report = Equalization::default().pair(first, second).unwrap();
        assert_eq!(report.untouched, [[0, 1, 2]]);
        assert_eq!(report.factors, [[1.0, 1.0, 1.0, 2.0]]);
        for channel in 0..3 {
            assert_eq!(w1.row(channel), w1_before.row(channel));
            assert_eq!(w2.column(channel), w2_before.column(channel));
            assert_eq!(b1[channel], b1_before[channel]);
        }
        assert_eq!((w1[[3, 0]], w2[[0, 3]], b1[3]), (half(2.0), half(2.0), half(0.5)));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let (mut w1, mut w2) = (array![[1.0, 2.0], [3.0, f64::NAN]], array![[4.0, 5.0]]);
        let w2_before = w2.clone();
        fn layer(w: &mut Array2<f64>) -> LayerMut<'_, f64> {
            LayerMut::new(w, LayerChannels::DEFAULT).unwrap()
        }
        assert!(Equalization::default().pair(layer(&mut w2), layer(&mut w1)).is_err());
        assert!(Equalization::default().pair(layer(&mut w1), layer(&mut w2)).is_err());
        assert_eq!(w2, w2_before);
        let report = Equalization::default().chain::<f64>(&mut [], 3).unwrap();
        assert_eq!((report.sweeps, report.factors.len()), (1, 0));
    }

    /// A convolution of one row of pixels without padding.
    fn convolve(w: &Array4<f32>, bias: &Array1<f32>, x: &Array2<f64>, groups: usize) -> Array2<f64> {
        let (outputs, per_group, _, taps) = w.dim();
        Array2::from_shape_fn((outputs, x.ncols() + 1 - taps), |(o, at)| {
            let group = o / (outputs / groups);
            let terms = (0..per_group * taps).map(|k| {
                let (i, tap) = (k / taps, k % taps);
                f64::from(w[[o, i, 0, tap]]) * x[[group * per_group + i, at + tap]]
            });
            terms.sum::<f64>() + f64::from(bias[o])
        })
    }

    fn relu(x: Array2<f64>) -> Array2<f64> {
        x.mapv(|x| x.max(0.0))
    }

    /// Weights and biases of three convolutions.
    type Layers = [(Array4<f32>, Array1<f32>); 3];

    /// A convolution, a depthwise or grouped one and a pointwise one, with channels of very different ranges.
    fn convolutions(seed: u64, groups: usize) -> (Layers, Array2<f64>) {
        let mut random = SplitMix64(seed);
        let shapes = [(6, 2, 1, 3), (6, 6 / groups, 1, 3), (4, 6, 1, 1)];
        let layers = shapes.map(|shape| {
            let mut w = Array4::from_shape_simple_fn(shape, || random.normal() as f32);
            w.outer_iter_mut().for_each(|mut w| w *= (4.0 * random.normal()).exp2() as f32);
            (w, Array1::from_shape_simple_fn(shape.0, || random.normal() as f32))
        });
        (layers, Array2::from_shape_simple_fn((2, 30), || random.normal()))
    }

    fn run(layers: &Layers, x: &Array2<f64>, groups: usize) -> Array2<f64> {
        let [(w0, b0), (w1, b1), (w2, b2)] = layers;
        let hidden = relu(convolve(w1, b1, &relu(convolve(w0, b0, x, 1)), groups));
        convolve(w2, b2, &hidden, 1)
    }

    fn layers_mut(layers: &mut Layers, groups: usize) -> [LayerMut<'_, f32>; 3] {
        let channels = [LayerChannels::DEFAULT, LayerChannels::grouped(groups), LayerChannels::DEFAULT];
        let mut channels = channels.into_iter();
        layers.each_mut().map(|(w, b)| {
            LayerMut::new(w, channels.next().unwrap_or_default()).unwrap().with_bias(b).unwrap()
        })
    }

    fn assert_same(before: &Array2<f64>, after: &Array2<f64>, tolerance: f64) {
        let scale = before.fold(0.0_f64, |most, y| most.max(y.abs()));
        let change = (before - after).fold(0.0_f64, |most, y| most.max(y.abs()));
        assert!(change <= tolerance * scale, "{change} of {scale}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_depthwise_triple_computes_the_same(seed in 0u64..1_000_000) {
            let (mut layers, x) = convolutions(seed, 6);
            // One channel is dead.
            layers[1].0.index_axis_mut(Axis(0), 3).fill(0.0);
            let (original, before) = (layers.clone(), run(&layers, &x, 6));
            let [first, second, third] = layers_mut(&mut layers, 6);
            let report = Equalization::default().triple(first, second, third).unwrap();
            assert_same(&before, &run(&layers, &x, 6), 1e-5);
            prop_assert_eq!(&report.untouched, &[[3], [3]]);
            for ((w, _), (old, _)) in layers.iter().zip(&original).take(2) {
                prop_assert_eq!(w.index_axis(Axis(0), 3), old.index_axis(Axis(0), 3));
            }
            // All three ranges of a channel are one.
            for channel in (0..6).filter(|&channel| channel != 3) {
                let range = |view: ndarray::ArrayViewD<'_, f32>| view.fold(0.0f32, |m, x| m.max(x.abs()));
                let [w0, w1, w2] = layers.each_ref().map(|(w, _)| w.view().into_dyn());
                let outputs = Channels::along(Axis(0));
                let r = [
                    range(outputs.view(&w0, channel)),
                    range(outputs.view(&w1, channel)),
                    range(Channels::along(Axis(1)).view(&w2, channel)),
                ];
                prop_assert!((r[0] / r[1] - 1.0).abs() < 1e-5 && (r[1] / r[2] - 1.0).abs() < 1e-5);
            }
        }

        #[test]
        fn a_chain_with_groups_computes_the_same_and_settles(seed in 0u64..1_000_000, groups in prop::sample::select(vec![1usize, 2, 3, 6])) {
            let (mut layers, x) = convolutions(seed, groups);
            let before = run(&layers, &x, groups);
            let report = Equalization::default().chain(&mut layers_mut(&mut layers, groups), 200).unwrap();
            assert_same(&before, &run(&layers, &x, groups), 1e-5);
            prop_assert!(report.sweeps < 200);
            let again = Equalization::default().chain(&mut layers_mut(&mut layers, groups), 1).unwrap();
            prop_assert!(again.factors.iter().flatten().all(|factor| (factor - 1.0).abs() <= 2.0 * SETTLED));
        }
    }
}
