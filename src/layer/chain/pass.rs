//! A pass through the layers of a chain, and the way back.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayD, ArrayView2, ArrayViewMut2, s};

use crate::error::{Result, ShapeError};
use crate::layer::patches::Patches;
use crate::layer::unfold::Unfold;
use crate::parallel;

use super::{Chain, check_length};

/// Patches of one layer that are worked on together, about.
const BUNDLE: usize = 1 << 11;

/// A layer with the numbers of its form, for some samples.
pub(super) struct Form<'w> {
    pub(super) unfold: Unfold,
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
pub(super) struct Kept {
    /// The patches of all groups.
    columns: Vec<f32>,
    /// Before the activation.
    z: Vec<f32>,
    /// Elements of the inputs.
    len: usize,
}

impl Chain {
    pub(super) fn outputs_per_sample(&self, weights: &[ArrayD<f32>]) -> Result<usize> {
        let forms = self.forms(weights, 1)?;
        let [height, width] = forms.last().map_or(self.sides, |form| form.unfold.places());
        Ok(self.output_channels(&forms).saturating_mul(height).saturating_mul(width))
    }

    /// The layers with these weights, for so many samples.
    pub(super) fn forms<'w>(&self, weights: &'w [ArrayD<f32>], samples: usize) -> Result<Vec<Form<'w>>> {
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
    pub(super) fn forward(
        &self,
        forms: &[Form<'_>],
        samples: &[usize],
        wanted: bool,
    ) -> Result<(Vec<f32>, Vec<Kept>)> {
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
            let mut columns = zeros(form.groups, form.inputs, count)?;
            let mut z = zeros(1, form.weights.nrows(), count)?;
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
    pub(super) fn errors(
        &self,
        outputs: &mut [f32],
        channels: usize,
        samples: &[usize],
        factor: f32,
    ) -> Result<f64> {
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
    pub(super) fn descend_some(
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

    pub(super) fn output_channels(&self, forms: &[Form<'_>]) -> usize {
        forms.last().map_or(self.channels, |form| form.weights.nrows())
    }

    /// Calls `work` for a few samples at a time, on several threads if that is worth it: results in order.
    pub(super) fn each_bundle<R: Send>(
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

/// Zeros for a matrix of so many rows, as often as there are groups.
fn zeros(groups: usize, rows: usize, columns: usize) -> Result<Vec<f32>> {
    let too_large = || ShapeError::TooLarge { shape: vec![groups, rows, columns] };
    let len = groups.checked_mul(rows).and_then(|len| len.checked_mul(columns)).ok_or_else(too_large)?;
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| too_large())?;
    values.resize(len, 0.0);
    Ok(values)
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
