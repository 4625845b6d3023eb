//! A convolution as a linear layer: its patches are the inputs.

use core::ops::Range;

use ndarray::{Array2, Array4, ArrayRef, ArrayView3, Axis, Ix1, Ix4, s};

use crate::element::Element;
use crate::error::{ConfigError, Result, ShapeError};
use crate::tensor::TensorView;

use super::samples::{Samples, numbers};
use super::statistics::Statistics;

/// The patches that a two-dimensional convolution sees: im2col.
///
/// An output of a convolution with weights [outputs, channels / groups, height, width] is a product of one of its rows
/// with a patch of as many numbers, so statistics of the patches are those of the layer's inputs, one for each group. A
/// convolution along one axis is one of height 1.
///
/// ```
/// use lowbit::layer::{Gptq, LayerMethod, Patches, Problem};
/// use lowbit::prelude::*;
/// use ndarray::Array4;
///
/// let weights = Array4::from_shape_fn((8, 3, 3, 3), |(o, c, i, j)| ((9 * o + 5 * c + 3 * i + j) as f32).sin());
/// let images = Array4::from_shape_fn((4, 3, 10, 10), |(n, c, i, j)| ((n + c * i + 2 * j) as f32 * 0.3).cos());
///
/// let patches = Patches::new([3, 3]).padding([1, 1]);
/// let mut statistics = patches.statistics(3)?;
/// patches.observe(&images, &mut statistics)?;
/// assert_eq!(statistics[0].count(), 4 * 10 * 10);
///
/// let recipe = Uniform::symmetric(BitWidth::new(4)?).granularity(PerChannel::new(Axis(0)));
/// let problem = Problem::grouped(&weights, &statistics, &recipe)?;
/// let solution = Gptq::new().solve(&problem)?;
/// assert!(solution.report.after < solution.report.before);
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// Methods that learn from [`Samples`] are given patches of [`samples`](Self::samples), with the
/// [outputs](Self::targets) of the float network, the [bias](Self::bias) and the activation that follows:
///
/// ```
/// use lowbit::layer::{Activation, AdaRound, LayerMethod, Patches, Problem, Samples};
/// use lowbit::prelude::*;
/// use ndarray::{Array1, Array4};
///
/// // A depthwise convolution: four channels, a kernel of 3 x 3 for each.
/// let weights = Array4::from_shape_fn((4, 1, 3, 3), |(o, _, i, j)| ((5 * o + 3 * i + j) as f32).sin());
/// let bias = Array1::from_shape_fn(4, |o| 0.1 * o as f32);
/// let images = Array4::from_shape_fn((4, 4, 10, 10), |(n, c, i, j)| ((n + c * i + 2 * j) as f32 * 0.3).cos());
/// # let outputs = Array4::from_shape_fn((4, 4, 10, 10), |(n, o, i, j)| {
/// #     let at = |c: usize, i: usize, j: usize| images.get((n, c, i.wrapping_sub(1), j.wrapping_sub(1))).copied();
/// #     let taps = (0..9).map(|k| weights[[o, 0, k / 3, k % 3]] * at(o, i + k / 3, j + k % 3).unwrap_or(0.0));
/// #     taps.sum::<f32>() + bias[o]
/// # });
/// // `outputs` are what the float layer makes of the images, before its ReLU: [images, outputs, height, width].
/// let patches = Patches::new([3, 3]).padding([1, 1]).groups(4);
/// let mut statistics = patches.statistics(4)?;
/// patches.observe(&images, &mut statistics)?;
/// let samples = patches.bias(patches.targets(patches.samples(&images)?, &outputs)?, &bias)?;
/// let samples: Vec<Samples> = samples.into_iter().map(|group| group.activation(Activation::Relu)).collect();
///
/// let recipe = Uniform::symmetric(BitWidth::new(3)?).granularity(PerChannel::new(Axis(0)));
/// let problem = Problem::grouped(&weights, &statistics, &recipe)?.samples(&samples)?;
/// let solution = AdaRound::new().steps(500)?.solve(&problem)?;
/// assert!(solution.report.after < solution.report.before);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patches {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
}

impl Patches {
    /// Patches of height and width `kernel`, at every place, without padding, in one group.
    pub const fn new(kernel: [usize; 2]) -> Self {
        Self { kernel, stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }

    /// With other distances between patches.
    pub const fn stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// With as many zeros before and after each axis.
    pub const fn padding(self, padding: [usize; 2]) -> Self {
        Self { padding, ..self }
    }

    /// With other distances between the elements of a patch.
    pub const fn dilation(self, dilation: [usize; 2]) -> Self {
        Self { dilation, ..self }
    }

    /// With the channels in equal groups.
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Statistics of no patches yet, one for each group, for images of `channels` channels.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for lengths, strides, dilations or groups of zero; [`ShapeError::RegionCount`] unless the
    /// channels can be shared out equally; [`ShapeError::TooLarge`] for patches that are too large.
    pub fn statistics(&self, channels: usize) -> Result<Vec<Statistics>> {
        let inputs = self.inputs(channels)?;
        (0..self.groups).map(|_| Statistics::new(inputs)).collect()
    }

    /// Adds the patches of a batch of images [images, channels, height, width] to statistics of this form, image by image:
    /// memory for the patches of one image and group is needed.
    ///
    /// # Errors
    ///
    /// As [`statistics`](Self::statistics) and [`Statistics::observe`]; [`ShapeError::Length`] for statistics of another
    /// number of groups or inputs. Nothing is added then.
    pub fn observe<A: Element>(&self, batch: &ArrayRef<A, Ix4>, statistics: &mut [Statistics]) -> Result<()> {
        let (_, channels, height, width) = batch.dim();
        let inputs = self.inputs(channels)?;
        if statistics.len() != self.groups {
            return Err(ShapeError::Length { found: statistics.len(), expected: self.groups }.into());
        }
        if let Some(other) = statistics.iter().find(|statistics| statistics.inputs() != inputs) {
            return Err(ShapeError::Length { found: other.inputs(), expected: inputs }.into());
        }
        let places = [self.places(0, height)?, self.places(1, width)?];
        let per_group = channels / self.groups;
        // All of the batch is looked at first, so that a bad image in the middle leaves nothing half done.
        super::statistics::check_finite(&batch.into())?;
        for image in batch.axis_iter(Axis(0)) {
            for (group, statistics) in statistics.iter_mut().enumerate() {
                let channels = group * per_group..(group + 1) * per_group;
                statistics.observe(&self.of_image(image, channels, places))?;
            }
        }
        Ok(())
    }

    /// The patches of a batch of images [images, channels, height, width] as samples, one for each group of outputs: image by
    /// image, and row by row within an image. Those of further batches can be [appended](Samples::append).
    ///
    /// Memory: 4 bytes for each element of each patch, which is as much as the images times the size of the kernel.
    ///
    /// # Errors
    ///
    /// As [`statistics`](Self::statistics) and [`Samples::new`], with the index in `batch` of a number that is not finite.
    pub fn samples<A: Element>(&self, batch: &ArrayRef<A, Ix4>) -> Result<Vec<Samples>> {
        let (images, channels, height, width) = batch.dim();
        let inputs = self.inputs(channels)?;
        let places = [self.places(0, height)?, self.places(1, width)?];
        let too_large = || ShapeError::TooLarge { shape: vec![images, places[0], places[1], inputs] };
        let elements = places[0]
            .checked_mul(places[1])
            .and_then(|patches| patches.checked_mul(images)?.checked_mul(inputs))
            .ok_or_else(too_large)?;
        let finite = numbers(&TensorView::new(batch))?;
        let batch = Array4::from_shape_vec(batch.dim(), finite).map_err(|_| too_large())?;
        let per_group = channels / self.groups;
        let of_group = |group: usize| {
            let channels = group * per_group..(group + 1) * per_group;
            let mut patches: Vec<f32> = Vec::new();
            patches.try_reserve_exact(elements).map_err(|_| too_large())?;
            for image in batch.axis_iter(Axis(0)) {
                patches.extend(self.of_image(image, channels.clone(), places));
            }
            let rows = images * places[0] * places[1];
            Samples::new(&Array2::from_shape_vec((rows, inputs), patches).map_err(|_| too_large())?)
        };
        (0..self.groups).map(of_group).collect()
    }

    /// `samples` of this form with the outputs [images, outputs, height, width] that they should give: see
    /// [`Samples::targets`].
    ///
    /// # Errors
    ///
    /// As [`Samples::targets`]; [`ShapeError::Length`] unless there are samples for each group, and
    /// [`ShapeError::RegionCount`] unless the outputs can be shared out equally.
    pub fn targets<A: Element>(
        &self,
        samples: Vec<Samples>,
        outputs: &ArrayRef<A, Ix4>,
    ) -> Result<Vec<Samples>> {
        let (images, all, height, width) = outputs.dim();
        let per_group = self.share(&samples, all)?;
        let too_large = || ShapeError::TooLarge { shape: vec![images, all, height, width] };
        let rows = images.checked_mul(height).and_then(|n| n.checked_mul(width)).ok_or_else(too_large)?;
        let finite = numbers(&TensorView::new(outputs))?;
        let outputs = Array4::from_shape_vec(outputs.dim(), finite).map_err(|_| too_large())?;
        // Places before outputs, as in a patch by patch product.
        let by_place = outputs.permuted_axes([0, 2, 3, 1]);
        let of_group = |(group, samples): (usize, Samples)| {
            let range = group * per_group..(group + 1) * per_group;
            let targets = by_place.slice(s![.., .., .., range]);
            let targets = targets.to_shape((rows, per_group)).map_err(|_| too_large())?;
            samples.targets(&targets)
        };
        samples.into_iter().enumerate().map(of_group).collect()
    }

    /// `samples` of this form with the layer's bias, one number for each output of all groups: see [`Samples::bias`].
    ///
    /// # Errors
    ///
    /// As [`targets`](Self::targets).
    pub fn bias<A: Element>(&self, samples: Vec<Samples>, bias: &ArrayRef<A, Ix1>) -> Result<Vec<Samples>> {
        let per_group = self.share(&samples, bias.len())?;
        let of_group = |(group, samples): (usize, Samples)| {
            samples.bias(&bias.slice(s![group * per_group..(group + 1) * per_group]))
        };
        samples.into_iter().enumerate().map(of_group).collect()
    }

    /// How many of `outputs` outputs each group has.
    fn share(&self, samples: &[Samples], outputs: usize) -> Result<usize, ShapeError> {
        if samples.len() != self.groups {
            return Err(ShapeError::Length { found: samples.len(), expected: self.groups });
        }
        match outputs.checked_div(self.groups) {
            Some(per_group) if per_group * self.groups == outputs => Ok(per_group),
            _ => {
                let (given, expected) = (self.groups, outputs);
                Err(ShapeError::RegionCount { given, expected, shape: vec![outputs] })
            }
        }
    }

    /// The number of inputs of a group.
    pub(super) fn inputs(&self, channels: usize) -> Result<usize> {
        let settings = [
            ("the length of a kernel", self.kernel),
            ("stride", self.stride),
            ("dilation", self.dilation),
            ("the number of groups", [self.groups; 2]),
        ];
        for (what, values) in settings {
            if values.contains(&0) {
                return Err(ConfigError::TooSmall { what, value: 0, min: 1 }.into());
            }
        }
        if !channels.is_multiple_of(self.groups) {
            let (given, expected) = (self.groups, channels);
            return Err(ShapeError::RegionCount { given, expected, shape: vec![channels] }.into());
        }
        let [height, width] = self.kernel;
        let too_large = || ShapeError::TooLarge { shape: vec![channels, height, width] };
        let inputs = (channels / self.groups).checked_mul(height).and_then(|n| n.checked_mul(width));
        Ok(inputs.ok_or_else(too_large)?)
    }

    /// The number of patches along an axis of length `len`.
    pub(super) fn places(&self, axis: usize, len: usize) -> Result<usize> {
        let (kernel, dilation) = (self.kernel[axis], self.dilation[axis]);
        let too_large = || ShapeError::TooLarge { shape: vec![len, kernel, dilation, self.padding[axis]] };
        let reach =
            (kernel - 1).checked_mul(dilation).and_then(|n| n.checked_add(1)).ok_or_else(too_large)?;
        let padded =
            self.padding[axis].checked_mul(2).and_then(|n| n.checked_add(len)).ok_or_else(too_large)?;
        Ok(padded.checked_sub(reach).map_or(0, |rest| rest / self.stride[axis] + 1))
    }

    pub(super) const fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    pub(super) const fn strides(&self) -> [usize; 2] {
        self.stride
    }

    pub(super) const fn group_count(&self) -> usize {
        self.groups
    }

    /// Where element `element` of patch `place` is along an axis: not before the image.
    pub(super) const fn source(&self, axis: usize, element: usize, place: usize) -> usize {
        (place * self.stride[axis] + element * self.dilation[axis]).saturating_sub(self.padding[axis])
    }

    /// Of `places` patches along an axis of length `len`, those whose element `element` is not one of the zeros around.
    pub(super) fn inside(&self, axis: usize, element: usize, len: usize, places: usize) -> Range<usize> {
        let (stride, padding) = (self.stride[axis].max(1), self.padding[axis]);
        let offset = element * self.dilation[axis];
        let from = padding.saturating_sub(offset).div_ceil(stride);
        let to = (len + padding).saturating_sub(offset).div_ceil(stride).min(places);
        from.min(to)..to
    }

    fn of_image<A: Element>(
        &self,
        image: ArrayView3<'_, A>,
        channels: Range<usize>,
        [down, across]: [usize; 2],
    ) -> Array2<A> {
        let [height, width] = self.kernel;
        let inputs = channels.len() * height * width;
        // The place of an element along an axis, if it is not one of the zeros around the image.
        let place = |axis: usize, patch: usize, element: usize| {
            (patch * self.stride[axis] + element * self.dilation[axis]).checked_sub(self.padding[axis])
        };
        Array2::from_shape_fn((down * across, inputs), |(patch, input)| {
            let (channel, element) = (channels.start + input / (height * width), input % (height * width));
            let row = place(0, patch / across, element / width);
            let column = place(1, patch % across, element % width);
            let value = row.zip(column).and_then(|(row, column)| image.get([channel, row, column]));
            value.copied().unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_with_patches_are_the_convolution() {
        let image = Array4::from_shape_fn((2, 4, 7, 6), |(n, c, i, j)| {
            ((n * 31 + c * 17 + i * 5 + j * 3) % 11) as f64
        });
        let patches = Patches::new([3, 2]).stride([2, 1]).padding([1, 2]).dilation([1, 3]).groups(2);
        let mut statistics = patches.statistics(4).unwrap();
        patches.observe(&image, &mut statistics).unwrap();
        // The definition: a sum over all places of products of two elements of a patch.
        let at = |n: usize, c: usize, i: isize, j: isize| {
            if (0..7).contains(&i) && (0..6).contains(&j) {
                image[[n, c, i as usize, j as usize]]
            } else {
                0.0
            }
        };
        for (group, statistics) in statistics.iter().enumerate() {
            assert_eq!(statistics.count(), 2 * 4 * 7);
            let gram = statistics.gram();
            for (a, b) in [(0, 0), (3, 8), (11, 2), (5, 5)] {
                let mut sum = 0.0;
                for (n, p, q) in (0..2).flat_map(|n| (0..4).flat_map(move |p| (0..7).map(move |q| (n, p, q))))
                {
                    let element = |input: usize| {
                        let (c, e) = (2 * group + input / 6, input % 6);
                        at(n, c, 2 * p - 1 + (e / 2) as isize, q - 2 + 3 * (e % 2) as isize)
                    };
                    sum += element(a) * element(b);
                }
                assert_eq!(gram[[a, b]], sum, "{group} {a} {b}");
            }
        }
    }

    #[test]
    fn bad_forms_are_errors_and_nothing_is_added() {
        let images = Array4::<f32>::ones((2, 4, 5, 5));
        for bad in [
            Patches::new([0, 1]),
            Patches::new([1, 1]).stride([0, 1]),
            Patches::new([1, 1]).dilation([1, 0]),
            Patches::new([1, 1]).groups(0),
            Patches::new([1, 1]).groups(3),
            Patches::new([usize::MAX, 2]),
        ] {
            assert!(bad.statistics(4).is_err(), "{bad:?}");
        }
        let patches = Patches::new([2, 2]);
        let mut statistics = patches.statistics(4).unwrap();
        let mut bad = images.clone();
        bad[[1, 2, 3, 4]] = f32::NAN;
        let error = patches.observe(&bad, &mut statistics).unwrap_err();
        assert!(error.to_string().contains("[1, 2, 3, 4]"), "{error}");
        assert!(patches.observe(&images.slice(s![.., ..3, .., ..]), &mut statistics).is_err());
        assert!(patches.groups(2).observe(&images, &mut statistics).is_err());
        assert!(Patches::new([2, 2]).padding([usize::MAX, 0]).observe(&images, &mut statistics).is_err());
        assert_eq!(statistics[0].count(), 0);
        // A kernel larger than the image has no place.
        let patches = Patches::new([9, 1]);
        let mut statistics = patches.statistics(4).unwrap();
        patches.observe(&images, &mut statistics).unwrap();
        assert_eq!(statistics[0].count(), 0);
    }
}
