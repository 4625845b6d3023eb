//! A block of dense and convolutional layers, one after the other.
//!
//! With `X_l` the patches of the images `x_l` as columns,
//!
//! ```text
//! z_l  =  W_l X_l + b_l             x_{l+1}  =  f_l(z_l)
//! L    =  1/NM Σ g (x_{L+1} − y)²
//! ```
//!
//! over N samples of M outputs, with targets y and, in the paper on block reconstruction (Li et al. 2021, *BRECQ*,
//! equation 10), the squared gradients g of the network's loss by the outputs.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayD, ArrayRef, ArrayView2, ArrayViewD, ArrayViewMut2, Dimension, Ix1, s};

use crate::element::Element;
use crate::error::{DataError, Result, ShapeError};
use crate::parallel;
use crate::tensor::TensorView;

use super::block::Block;
use super::patches::Patches;
use super::samples::{Activation, numbers};
use super::unfold::Unfold;

/// Patches of one layer that are worked on together, about.
const BUNDLE: usize = 1 << 11;

/// A layer of a [`Chain`]: how its inputs are looked at, its bias and its activation. The weights are given elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// None for a layer that sees all of an image at once.
    patches: Option<Patches>,
    bias: Option<Array1<f32>>,
    activation: Activation,
}

impl Stage {
    /// A dense layer with weights [outputs, inputs]. Of images it sees all channels, rows and columns, in this order.
    pub const fn dense() -> Self {
        Self { patches: None, bias: None, activation: Activation::None }
    }

    /// A convolution with weights [outputs, channels / groups, height, width], whose height and width are those of the
    /// patches.
    pub const fn convolution(patches: Patches) -> Self {
        Self { patches: Some(patches), bias: None, activation: Activation::None }
    }

    /// With a bias, one number for each output; zero without.
    ///
    /// # Errors
    ///
    /// [`DataError::NotANumber`] and [`DataError::Infinite`] for a number that is not finite in f32.
    pub fn bias<A: Element>(self, bias: &ArrayRef<A, Ix1>) -> Result<Self> {
        let bias = numbers(&TensorView::new(bias))?;
        Ok(Self { bias: Some(bias.into()), ..self })
    }

    /// With an activation; none without.
    pub const fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }
}

/// Dense and convolutional layers, one after the other, with samples of their inputs and of what should come out.
///
/// As in asymmetric reconstruction, the inputs may be those that the quantized layers before make, and the targets the
/// outputs of the float layers for their own inputs: a chain of these gives them ([`outputs`](Self::outputs)).
///
/// Time of a pass with gradients: three products of the size of each layer for each sample, but two for the first.
/// Memory: the inputs, and for each batch the patches of all layers.
///
/// ```
/// use lowbit::layer::{Activation, Chain, Patches, Stage};
/// use ndarray::{Array2, Array4};
///
/// // A depthwise and a pointwise convolution of images of 8 channels.
/// let depthwise = Array4::from_shape_fn((8, 1, 3, 3), |(o, _, i, j)| ((9 * o + 3 * i + j) as f32).sin());
/// let pointwise = Array4::from_shape_fn((16, 8, 1, 1), |(o, c, _, _)| ((7 * o + c) as f32).cos());
/// let images = Array4::from_shape_fn((10, 8, 6, 6), |(n, c, i, j)| ((n + c * i + 2 * j) as f32 * 0.3).cos());
/// let chain = Chain::new(
///     &images,
///     [
///         Stage::convolution(Patches::new([3, 3]).padding([1, 1]).groups(8)).activation(Activation::Relu),
///         Stage::convolution(Patches::new([1, 1])),
///     ],
/// )?;
/// let outputs = chain.outputs(&[depthwise.view().into_dyn(), pointwise.view().into_dyn()])?;
/// assert_eq!(outputs.shape(), [10, 16, 6, 6]);
/// let chain = chain.targets(&outputs)?;
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// [samples, channels · height · width]
    inputs: Array2<f32>,
    channels: usize,
    sides: [usize; 2],
    /// Whether there were no sides in the inputs.
    flat: bool,
    stages: Vec<Stage>,
    /// [samples, outputs]; zeros if there are none.
    targets: Option<Array2<f32>>,
    importance: Option<Array2<f32>>,
}

/// A layer with the numbers of its form, for some samples.
struct Form<'w> {
    unfold: Unfold,
    groups: usize,
    /// [outputs, inputs of an output]
    weights: ArrayView2<'w, f32>,
    /// Inputs of an output.
    inputs: usize,
}

impl Form<'_> {
    fn outputs_per_group(&self) -> usize {
        self.weights.nrows() / self.groups
    }

    /// The weights of one group.
    fn weights_of(&self, group: usize) -> ArrayView2<'_, f32> {
        let per_group = self.outputs_per_group();
        self.weights.slice(s![group * per_group..(group + 1) * per_group, ..])
    }

    /// Elements of the images that one group sees.
    const fn group_len(&self, len: usize) -> usize {
        len / self.groups
    }
}

/// What a pass leaves for the way back.
struct Kept {
    /// The patches of all groups.
    columns: Vec<f32>,
    /// Before the activation.
    z: Vec<f32>,
    /// Elements of the inputs.
    len: usize,
}

impl Chain {
    /// The layers `stages` with inputs [samples, inputs] or [samples, channels, height, width].
    ///
    /// # Errors
    ///
    /// [`ShapeError::Rank`] for inputs of another rank; [`DataError::NoData`] for no samples; [`DataError::NotANumber`] and
    /// [`DataError::Infinite`] for a number that is not finite in f32.
    pub fn new<A: Element, D: Dimension>(
        inputs: &ArrayRef<A, D>,
        stages: impl Into<Vec<Stage>>,
    ) -> Result<Self> {
        let none = Array2::zeros((0, 0));
        let made = Self {
            inputs: none,
            channels: 0,
            sides: [1, 1],
            flat: true,
            stages: stages.into(),
            targets: None,
            importance: None,
        };
        made.inputs(inputs)
    }

    /// The same layers with other inputs: those that the quantized layers before make, say. Targets stay.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`ShapeError::Length`] unless there are as many samples as targets.
    pub fn inputs<A: Element, D: Dimension>(self, inputs: &ArrayRef<A, D>) -> Result<Self> {
        let (channels, sides, flat) = match *inputs.shape() {
            [_, channels] => (channels, [1, 1], true),
            [_, channels, height, width] => (channels, [height, width], false),
            _ => return Err(ShapeError::Rank { found: inputs.ndim(), expected: 4 }.into()),
        };
        let inputs = by_sample(&TensorView::new(inputs))?;
        if inputs.nrows() == 0 {
            return Err(DataError::NoData { region: 0 }.into());
        }
        for given in self.targets.iter().chain(&self.importance) {
            check_length(inputs.nrows(), given.nrows())?;
        }
        Ok(Self { inputs, channels, sides, flat, ..self })
    }

    /// With the outputs that the samples should give, after the last activation: [samples, outputs], or
    /// [samples, outputs, height, width] of a convolution. Without targets they are zeros.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`ShapeError::Length`] unless there is one for each sample. Their number of outputs is
    /// checked when weights are seen.
    pub fn targets<A: Element, D: Dimension>(self, targets: &ArrayRef<A, D>) -> Result<Self> {
        let targets = by_sample(&TensorView::new(targets))?;
        check_length(targets.nrows(), self.inputs.nrows())?;
        Ok(Self { targets: Some(targets), ..self })
    }

    /// With a weight for the squared error of each output of each sample, in the form of the targets: the squared gradient
    /// of the network's loss by the output, for BRECQ. All are 1 without.
    ///
    /// # Errors
    ///
    /// As [`targets`](Self::targets); [`DataError::Importance`] for a weight below zero.
    pub fn importance<A: Element, D: Dimension>(self, importance: &ArrayRef<A, D>) -> Result<Self> {
        let view = TensorView::new(importance);
        let importance = by_sample(&view)?;
        check_length(importance.nrows(), self.inputs.nrows())?;
        if let Some((at, &value)) = importance.iter().enumerate().find(|(_, value)| **value < 0.0) {
            return Err(DataError::Importance { index: view.index_of(at), value: f64::from(value) }.into());
        }
        Ok(Self { importance: Some(importance), ..self })
    }

    /// The outputs of all samples with these weights: [samples, outputs], or [samples, outputs, height, width] of
    /// convolutions.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] for weights that the layers cannot have.
    pub fn outputs<A: Element>(&self, weights: &[ArrayViewD<'_, A>]) -> Result<ArrayD<f32>> {
        let narrow = |weights: &ArrayViewD<'_, A>| {
            let values = weights.iter().map(|&value| value.to_f32()).collect();
            ArrayD::from_shape_vec(weights.raw_dim(), values).unwrap_or_default()
        };
        let weights: Vec<ArrayD<f32>> = weights.iter().map(narrow).collect();
        let forms = self.forms(&weights, 1)?;
        let channels = self.output_channels(&forms);
        let [height, width] = forms.last().map_or(self.sides, |form| form.unfold.places());
        let samples: Vec<usize> = (0..self.inputs.nrows()).collect();
        let parts = self.each_bundle(&weights, &samples, |some| {
            let (outputs, _) = self.forward(&self.forms(&weights, some.len())?, some, false)?;
            // Samples first.
            let plane = height * width;
            let starts = (0..some.len())
                .flat_map(|sample| (0..channels).map(move |channel| (channel * some.len() + sample) * plane));
            let planes = starts.flat_map(|start| outputs.get(start..start + plane).unwrap_or_default());
            Ok(planes.copied().collect::<Vec<f32>>())
        })?;
        let flat = self.stages.last().map_or(self.flat, |stage| stage.patches.is_none());
        let shape = [samples.len(), channels, height, width];
        let shape = if flat { &shape[..2] } else { &shape[..] };
        let too_large = |_| ShapeError::TooLarge { shape: shape.to_vec() };
        Ok(ArrayD::from_shape_vec(shape, parts.concat()).map_err(too_large)?)
    }

    fn outputs_per_sample(&self, weights: &[ArrayD<f32>]) -> Result<usize> {
        let forms = self.forms(weights, 1)?;
        let [height, width] = forms.last().map_or(self.sides, |form| form.unfold.places());
        Ok(self.output_channels(&forms) * height * width)
    }

    /// The layers with these weights, for so many samples.
    fn forms<'w>(&self, weights: &'w [ArrayD<f32>], samples: usize) -> Result<Vec<Form<'w>>> {
        check_length(weights.len(), self.stages.len())?;
        let (mut channels, mut sides) = (self.channels, self.sides);
        let mut forms = Vec::with_capacity(weights.len());
        for (stage, weights) in self.stages.iter().zip(weights) {
            let patches = stage.patches.unwrap_or_else(|| Patches::new(sides));
            let (inputs, groups) = (patches.inputs(channels)?, patches.group_count());
            let outputs = *weights.shape().first().ok_or(ShapeError::Rank { found: 0, expected: 2 })?;
            if outputs == 0 || !outputs.is_multiple_of(groups) {
                let shape = weights.shape().to_vec();
                return Err(ShapeError::RegionCount { given: groups, expected: outputs, shape }.into());
            }
            check_length(weights.len() / outputs, inputs)?;
            if let Some(bias) = &stage.bias {
                check_length(bias.len(), outputs)?;
            }
            let mismatch =
                || ShapeError::Mismatch { found: weights.shape().to_vec(), expected: vec![outputs, inputs] };
            let values = weights.as_slice().ok_or_else(mismatch)?;
            let matrix = ArrayView2::from_shape((outputs, inputs), values).map_err(|_| mismatch())?;
            let unfold = Unfold::new(patches, samples, sides)?;
            forms.push(Form { unfold, groups, weights: matrix, inputs });
            (channels, sides) = (outputs, unfold.places());
        }
        Ok(forms)
    }

    /// The outputs of some samples, [outputs, samples, height, width], and what the way back needs, if it is wanted.
    fn forward(&self, forms: &[Form<'_>], samples: &[usize], wanted: bool) -> Result<(Vec<f32>, Vec<Kept>)> {
        let plane = self.sides[0] * self.sides[1];
        let mut x = Vec::with_capacity(samples.len() * self.channels * plane);
        for channel in 0..self.channels {
            for &sample in samples {
                let row = self.inputs.as_slice().and_then(|all| all.get(sample * self.inputs.ncols()..));
                let values = row.and_then(|row| row.get(channel * plane..(channel + 1) * plane));
                let expected = self.inputs.nrows();
                x.extend_from_slice(values.ok_or(ShapeError::Length { found: sample, expected })?);
            }
        }
        let mut kept = Vec::new();
        for (form, stage) in forms.iter().zip(&self.stages) {
            let (count, per_group, len) = (form.unfold.count(), form.outputs_per_group(), x.len());
            let mut columns = vec![0.0; form.groups * form.inputs * count];
            let mut z = vec![0.0; form.weights.nrows() * count];
            let images =
                x.chunks(form.group_len(len).max(1)).zip(columns.chunks_mut((form.inputs * count).max(1)));
            for (group, ((x, columns), z)) in images.zip(z.chunks_mut((per_group * count).max(1))).enumerate()
            {
                form.unfold.gather(x, columns);
                product(form.weights_of(group), view(columns, form.inputs)?, &mut view_mut(z, per_group)?);
            }
            if let Some(bias) = &stage.bias {
                let rows = z.chunks_mut(count.max(1)).zip(bias);
                rows.for_each(|(row, bias)| row.iter_mut().for_each(|z| *z += bias));
            }
            x = z.iter().map(|&z| stage.activation.with_slope(z).0).collect();
            if wanted {
                kept.push(Kept { columns, z, len });
            }
        }
        Ok((x, kept))
    }

    /// The squared errors of the outputs [channels, samples, height · width], summed; their slopes, times `factor`, in
    /// place of the outputs.
    fn errors(&self, outputs: &mut [f32], channels: usize, samples: &[usize], factor: f32) -> Result<f64> {
        let plane = outputs.len() / (channels * samples.len()).max(1);
        for given in self.targets.iter().chain(&self.importance) {
            check_length(given.ncols(), channels * plane)?;
        }
        let mut sum = 0.0;
        for (index, outputs) in outputs.chunks_mut(plane.max(1)).enumerate() {
            let (channel, sample) = (index / samples.len(), samples.get(index % samples.len()));
            let plane = channel * plane..(channel + 1) * plane;
            let [targets, importance] = [&self.targets, &self.importance].map(|given| {
                let row = given.as_ref().zip(sample).and_then(|(given, &sample)| {
                    given.as_slice()?.get(sample * given.ncols()..)?.get(plane.clone())
                });
                row.unwrap_or_default()
            });
            for (at, output) in outputs.iter_mut().enumerate() {
                let error = *output - targets.get(at).unwrap_or(&0.0);
                let slope = error * importance.get(at).unwrap_or(&1.0);
                sum += f64::from(error) * f64::from(slope);
                *output = slope * factor;
            }
        }
        Ok(sum)
    }

    /// The gradients by the weights, given those by the outputs.
    fn backward(&self, forms: &[Form<'_>], kept: Vec<Kept>, mut slopes: Vec<f32>) -> Result<Vec<Vec<f32>>> {
        let mut gradients: Vec<Vec<f32>> = Vec::with_capacity(forms.len());
        for (index, (form, kept)) in forms.iter().zip(kept).enumerate().rev() {
            let Kept { mut columns, z, len } = kept;
            if let Some(stage) = self.stages.get(index) {
                let activation = stage.activation;
                slopes.iter_mut().zip(&z).for_each(|(slope, &z)| *slope *= activation.with_slope(z).1);
            }
            let (count, per_group) = (form.unfold.count(), form.outputs_per_group());
            let mut by_weights = vec![0.0; form.weights.len()];
            let mut by_inputs = vec![0.0; if index > 0 { len } else { 0 }];
            let parts = columns
                .chunks_mut((form.inputs * count).max(1))
                .zip(slopes.chunks((per_group * count).max(1)));
            let groups = parts.zip(by_weights.chunks_mut((per_group * form.inputs).max(1)));
            for (group, ((columns, slopes), by_weights)) in groups.enumerate() {
                let slopes = view(slopes, per_group)?;
                product(
                    slopes,
                    view(columns, form.inputs)?.reversed_axes(),
                    &mut view_mut(by_weights, per_group)?,
                );
                if index > 0 {
                    let weights = form.weights_of(group).reversed_axes();
                    product(weights, slopes, &mut view_mut(columns, form.inputs)?);
                    let images = by_inputs.chunks_mut(form.group_len(len).max(1)).nth(group);
                    form.unfold.scatter(columns, images.unwrap_or_default());
                }
            }
            gradients.push(by_weights);
            slopes = by_inputs;
        }
        gradients.reverse();
        Ok(gradients)
    }

    /// Some samples: the sum of the squared errors, and of its gradients, times `factor`.
    fn descend_some(
        &self,
        weights: &[ArrayD<f32>],
        samples: &[usize],
        factor: f32,
    ) -> Result<(f64, Vec<Vec<f32>>)> {
        let forms = self.forms(weights, samples.len())?;
        let (mut outputs, kept) = self.forward(&forms, samples, true)?;
        let sum = self.errors(&mut outputs, self.output_channels(&forms), samples, 2.0 * factor)?;
        Ok((sum, self.backward(&forms, kept, outputs)?))
    }

    fn output_channels(&self, forms: &[Form<'_>]) -> usize {
        forms.last().map_or(self.channels, |form| form.weights.nrows())
    }

    /// Calls `work` for a few samples at a time, on several threads if that is worth it: results in order.
    fn each_bundle<R: Send>(
        &self,
        weights: &[ArrayD<f32>],
        samples: &[usize],
        work: impl Fn(&[usize]) -> Result<R> + Sync + Send,
    ) -> Result<Vec<R>> {
        let forms = self.forms(weights, 1)?;
        let most = forms.iter().map(|form| form.unfold.count()).max().unwrap_or(1);
        // A number that depends on the layers alone, so that sums do too.
        let bundle = (BUNDLE / most.max(1)).clamp(1, BUNDLE);
        let products = forms.iter().map(|form| form.weights.len().saturating_mul(form.unfold.count()));
        let all = products.fold(0usize, usize::saturating_add).saturating_mul(samples.len());
        let picked = |index: usize| samples.chunks(bundle).nth(index).unwrap_or_default();
        let results = parallel::map_indices(
            samples.len().div_ceil(bundle),
            all / 16,
            || (),
            |(), index| work(picked(index)),
        );
        results.into_iter().collect()
    }
}

impl Block for Chain {
    fn samples(&self) -> usize {
        self.inputs.nrows()
    }

    fn descend(
        &self,
        weights: &[ArrayD<f32>],
        samples: &[usize],
        gradients: &mut [ArrayD<f32>],
    ) -> Result<f64> {
        let factor = 1.0 / (samples.len() * self.outputs_per_sample(weights)?).max(1) as f64;
        let parts =
            self.each_bundle(weights, samples, |some| self.descend_some(weights, some, factor as f32))?;
        gradients.iter_mut().for_each(|gradient| gradient.fill(0.0));
        let mut sum = 0.0;
        for (part, by_weights) in parts {
            sum += part;
            for (all, part) in gradients.iter_mut().zip(&by_weights) {
                all.iter_mut().zip(part).for_each(|(all, part)| *all += part);
            }
        }
        Ok(sum * factor)
    }

    fn loss(&self, weights: &[ArrayD<f32>], samples: &[usize]) -> Result<f64> {
        let factor = 1.0 / (samples.len() * self.outputs_per_sample(weights)?).max(1) as f64;
        let of_some = |some: &[usize]| {
            let forms = self.forms(weights, some.len())?;
            let (mut outputs, _) = self.forward(&forms, some, false)?;
            self.errors(&mut outputs, self.output_channels(&forms), some, 1.0)
        };
        Ok(self.each_bundle(weights, samples, of_some)?.iter().sum::<f64>() * factor)
    }
}

/// `c = ab`
fn product(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, c: &mut ArrayViewMut2<'_, f32>) {
    general_mat_mul(1.0, &a, &b, 0.0, c);
}

/// `values` as a matrix of so many rows.
fn view(values: &[f32], rows: usize) -> Result<ArrayView2<'_, f32>> {
    let shape = (rows, values.len() / rows.max(1));
    let mismatch = |_| ShapeError::Length { found: values.len(), expected: shape.0 * shape.1 };
    Ok(ArrayView2::from_shape(shape, values).map_err(mismatch)?)
}

fn view_mut(values: &mut [f32], rows: usize) -> Result<ArrayViewMut2<'_, f32>> {
    let (len, shape) = (values.len(), (rows, values.len() / rows.max(1)));
    let mismatch = |_| ShapeError::Length { found: len, expected: shape.0 * shape.1 };
    Ok(ArrayViewMut2::from_shape(shape, values).map_err(mismatch)?)
}

/// A tensor as a matrix with a row for each index of the first axis.
fn by_sample(view: &TensorView<'_>) -> Result<Array2<f32>> {
    let rows = *view.shape().first().ok_or(ShapeError::Rank { found: 0, expected: 2 })?;
    let columns = view.len().checked_div(rows).unwrap_or_default();
    let too_large = |_| ShapeError::TooLarge { shape: view.shape().to_vec() };
    Ok(Array2::from_shape_vec((rows, columns), numbers(view)?).map_err(too_large)?)
}

const fn check_length(found: usize, expected: usize) -> Result<(), ShapeError> {
    if found == expected { Ok(()) } else { Err(ShapeError::Length { found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array4, array};
    use rand::{Rng, SeedableRng};

    fn numbers<D: ndarray::ShapeBuilder>(shape: D, seed: u64) -> ndarray::Array<f32, D::Dim> {
        let mut random = crate::random::Philox::seed_from_u64(seed);
        ndarray::Array::from_shape_simple_fn(shape, || (random.next_u32() >> 8) as f32 / 8_388_608.0 - 0.9)
    }

    /// Images through a grouped convolution with everything there is, a pointwise one and a dense layer.
    fn chain() -> (Chain, Vec<ArrayD<f32>>) {
        let patches = Patches::new([3, 2]).stride([2, 1]).padding([1, 2]).dilation([1, 2]).groups(2);
        let stages = [
            Stage::convolution(patches)
                .bias(&array![0.3, -0.2, 0.1, 0.4])
                .unwrap()
                .activation(Activation::Relu),
            Stage::convolution(Patches::new([1, 1])).activation(Activation::Relu6),
            Stage::dense().bias(&array![0.5, -0.5, 0.0]).unwrap(),
        ];
        let chain = Chain::new(&numbers((7, 4, 5, 4), 1), stages).unwrap();
        let weights: Vec<ArrayD<f32>> = vec![
            numbers((4, 2, 3, 2), 2).into_dyn(),
            numbers((5, 4, 1, 1), 3).into_dyn(),
            numbers((3, 5 * 3 * 6), 4).into_dyn() / 4.0,
        ];
        (chain, weights)
    }

    #[test]
    fn outputs_are_those_of_the_definition() {
        let (chain, weights) = chain();
        let views: Vec<_> = weights.iter().map(|weights| weights.view()).collect();
        let found = chain.outputs(&views).unwrap();
        assert_eq!(found.shape(), [7, 3]);
        let x = numbers((7, 4, 5, 4), 1);
        for n in 0..7 {
            let at = |c: usize, i: isize, j: isize| {
                let inside = (0..5).contains(&i) && (0..4).contains(&j);
                if inside { f64::from(x[[n, c, i as usize, j as usize]]) } else { 0.0 }
            };
            // [channel, row, column]
            let first = ndarray::Array3::from_shape_fn((4, 3, 6), |(o, p, q)| {
                let taps = (0..2).flat_map(|c| (0..3).flat_map(move |i| (0..2).map(move |j| (c, i, j))));
                let sum: f64 = taps
                    .map(|(c, i, j)| {
                        let value = at(o / 2 * 2 + c, (2 * p + i) as isize - 1, (q + 2 * j) as isize - 2);
                        f64::from(weights[0][[o, c, i, j]]) * value
                    })
                    .sum();
                (sum + [0.3, -0.2, 0.1, 0.4][o]).max(0.0)
            });
            let second = ndarray::Array3::from_shape_fn((5, 3, 6), |(o, p, q)| {
                let sum: f64 = (0..4).map(|c| f64::from(weights[1][[o, c, 0, 0]]) * first[[c, p, q]]).sum();
                sum.clamp(0.0, 6.0)
            });
            for o in 0..3 {
                let products = second.iter().enumerate().map(|(at, x)| f64::from(weights[2][[o, at]]) * x);
                let expected = products.sum::<f64>() + [0.5, -0.5, 0.0][o];
                assert!((f64::from(found[[n, o]]) - expected).abs() < 1e-5, "{} {expected}", found[[n, o]]);
            }
        }
        // A convolution at the end keeps its places.
        let first = Chain { stages: chain.stages[..1].to_vec(), ..chain.clone() };
        assert_eq!(first.outputs(&views[..1]).unwrap().shape(), [7, 4, 3, 6]);
        // No layers: what goes in.
        let none = Chain { stages: Vec::new(), ..chain };
        assert_eq!(none.outputs::<f32>(&[]).unwrap(), x.into_dyn());
    }

    #[test]
    fn gradients_are_differences_of_the_loss() {
        let (chain, mut weights) = chain();
        let chain = chain.targets(&numbers((7, 3), 5)).unwrap();
        let weighted = chain.clone().importance(&(numbers((7, 3), 6) + 1.0)).unwrap();
        let samples = [4, 0, 6, 2];
        for chain in [chain, weighted] {
            let mut gradients: Vec<ArrayD<f32>> =
                weights.iter().map(|weights| ArrayD::zeros(weights.raw_dim())).collect();
            let loss = chain.descend(&weights, &samples, &mut gradients).unwrap();
            assert_eq!(loss, chain.loss(&weights, &samples).unwrap());
            let step = 2e-3;
            for layer in 0..3 {
                for index in (0..weights[layer].len()).step_by(3) {
                    let at = |weights: &mut Vec<ArrayD<f32>>, by: f32| {
                        let own = weights[layer].as_slice().unwrap()[index];
                        weights[layer].as_slice_mut().unwrap()[index] = own + by;
                        let loss = chain.loss(weights, &samples).unwrap();
                        weights[layer].as_slice_mut().unwrap()[index] = own;
                        loss
                    };
                    let slope = (at(&mut weights, step) - at(&mut weights, -step)) / (2.0 * f64::from(step));
                    let found = f64::from(gradients[layer].as_slice().unwrap()[index]);
                    // What is curved within a step, and f32.
                    assert!(
                        (slope - found).abs() < 2e-2 * slope.abs().max(0.1),
                        "{layer} {index}: {slope} {found}"
                    );
                }
            }
        }
    }

    #[test]
    fn losses_are_means_over_samples_and_outputs() {
        let (chain, weights) = chain();
        let views: Vec<_> = weights.iter().map(|weights| weights.view()).collect();
        let outputs = chain.outputs(&views).unwrap();
        let (targets, importance) = (numbers((7, 3), 5), numbers((7, 3), 6) + 1.0);
        let chain = chain.targets(&targets).unwrap().importance(&importance).unwrap();
        let samples = [5, 1];
        let mut expected = 0.0;
        for (sample, output) in samples.iter().flat_map(|&sample| (0..3).map(move |output| (sample, output)))
        {
            let error = f64::from(outputs[[sample, output]] - targets[[sample, output]]);
            expected += f64::from(importance[[sample, output]]) * error * error / 6.0;
        }
        let found = chain.loss(&weights, &samples).unwrap();
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (chain, weights) = chain();
        assert!(Chain::new(&Array4::<f32>::zeros((0, 4, 5, 4)), []).is_err());
        assert!(Chain::new(&array![1.0f32, 2.0], []).is_err());
        assert!(Chain::new(&array![[1.0, f64::NAN]], []).is_err());
        assert!(Stage::dense().bias(&array![f32::INFINITY]).is_err());
        assert!(chain.clone().targets(&Array2::<f32>::zeros((6, 3))).is_err());
        assert!(chain.clone().importance(&Array2::from_elem((7, 3), -1.0)).is_err());
        let fewer = chain.clone().targets(&Array2::<f32>::zeros((7, 3))).unwrap();
        assert!(fewer.inputs(&Array4::<f32>::zeros((6, 4, 5, 4))).is_err());
        // Of other sizes than the outputs, which are known when weights are.
        let wide = chain.clone().targets(&Array2::<f32>::zeros((7, 4))).unwrap();
        assert!(wide.loss(&weights, &[0]).is_err() && chain.loss(&weights, &[0]).is_ok());
        assert!(chain.loss(&weights[..2], &[0]).is_err());
        let mut other = weights.clone();
        other[1] = ArrayD::zeros(vec![5, 3, 1, 1]);
        assert!(chain.loss(&other, &[0]).is_err());
        other[1] = ArrayD::zeros(vec![]);
        assert!(chain.loss(&other, &[0]).is_err());
        assert!(chain.loss(&weights, &[7]).is_err());
        assert_eq!(chain.loss(&weights, &[]).unwrap(), 0.0);
    }
}
