//! Where the channels of a layer lie in its weights.

use ndarray::{ArrayRef, ArrayView, ArrayViewD, ArrayViewMut1, ArrayViewMutD, Axis, Dimension, Ix1, Slice};

use crate::element::Element;
use crate::error::{ConfigError, DataError, Result, ShapeError};

/// Which elements of a weight tensor belong to which channel.
///
/// Most often the channels lie along an axis. In a grouped layer one axis holds the channels of a single group,
/// and the groups are cuts of another axis: channel `g · length + i` is at index `i` of the one, in cut `g` of the
/// other.
///
/// ```
/// use lowbit::transform::Channels;
/// use ndarray::Axis;
///
/// // A convolution from 8 to 16 channels in 4 groups: each output sees two inputs.
/// let shape = [16, 2, 3, 3];
/// assert_eq!(Channels::along(Axis(0)).count(&shape)?, 16);
/// assert_eq!(Channels::grouped(Axis(1), Axis(0), 4).count(&shape)?, 8);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    axis: usize,
    across: usize,
    groups: usize,
}

impl Channels {
    /// One channel for each index of `axis`.
    pub const fn along(axis: Axis) -> Self {
        Self { axis: axis.0, across: axis.0, groups: 1 }
    }

    /// The channels of `groups` groups: those of one group along `axis`, the groups as equal cuts of `across`.
    pub const fn grouped(axis: Axis, across: Axis, groups: usize) -> Self {
        Self { axis: axis.0, across: across.0, groups }
    }

    /// The number of channels of weights of `shape`.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Axis`] for an axis that is not there; [`ConfigError::Number`] unless the groups cut their axis,
    /// which is another one, into equal parts.
    pub fn count(&self, shape: &[usize]) -> Result<usize> {
        let axis = |axis: usize| shape.get(axis).copied().ok_or(ShapeError::Axis { axis, rank: shape.len() });
        let (channels, across) = (axis(self.axis)?, axis(self.across)?);
        if self.groups == 1 {
            return Ok(channels);
        }
        if self.groups == 0 || self.axis == self.across || !across.is_multiple_of(self.groups) {
            let rule = "a divisor of the length of another axis";
            return Err(ConfigError::Number {
                what: "the number of groups",
                value: self.groups as f64,
                rule,
            }
            .into());
        }
        // No more than the number of elements, which fits.
        Ok(channels * self.groups)
    }

    /// Index along the axis, and range across, of a channel of weights of `shape`.
    fn place(&self, shape: &[usize], channel: usize) -> (usize, Slice) {
        let length = shape.get(self.axis).copied().unwrap_or(1).max(1);
        let cut = shape.get(self.across).copied().unwrap_or(0) / self.groups.max(1);
        let group = channel / length;
        (channel % length, Slice::from(group * cut..(group + 1) * cut))
    }

    /// The elements of one of the [`count`](Self::count) channels.
    pub(crate) fn view<'a, A>(&self, weights: &'a ArrayViewD<'_, A>, channel: usize) -> ArrayViewD<'a, A> {
        if self.groups == 1 {
            return weights.index_axis(Axis(self.axis), channel);
        }
        let (index, cut) = self.place(weights.shape(), channel);
        weights.slice_axis(Axis(self.across), cut).index_axis_move(Axis(self.axis), index)
    }

    /// As [`view`](Self::view), to be changed.
    pub(crate) fn view_mut<'a, A>(
        &self,
        weights: &'a mut ArrayViewMutD<'_, A>,
        channel: usize,
    ) -> ArrayViewMutD<'a, A> {
        if self.groups == 1 {
            return weights.index_axis_mut(Axis(self.axis), channel);
        }
        let (index, cut) = self.place(weights.shape(), channel);
        weights.slice_axis_mut(Axis(self.across), cut).index_axis_move(Axis(self.axis), index)
    }

    /// The channel of the element at `index` of weights of `shape`.
    pub(crate) fn of(&self, shape: &[usize], index: &[usize]) -> usize {
        let at = |axis: usize| index.get(axis).copied().unwrap_or(0);
        if self.groups == 1 {
            return at(self.axis);
        }
        let length = |axis: usize| shape.get(axis).copied().unwrap_or(1).max(1);
        let cut = (length(self.across) / self.groups.max(1)).max(1);
        at(self.across) / cut * length(self.axis) + at(self.axis)
    }

    /// The largest magnitude of each channel.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count), and as [`check_finite`].
    pub(crate) fn ranges<A: Element>(&self, weights: &ArrayViewD<'_, A>) -> Result<Vec<f64>> {
        let count = self.count(weights.shape())?;
        check_finite(weights)?;
        let largest =
            |view: ArrayViewD<'_, A>| view.iter().fold(0.0_f64, |most, x| most.max(x.to_f64().abs()));
        Ok((0..count).map(|channel| largest(self.view(weights, channel))).collect())
    }

    /// Replaces every element x of each channel c by `change(c, x)`, rounded once.
    pub(crate) fn map<A: Element>(
        &self,
        weights: &mut ArrayViewMutD<'_, A>,
        count: usize,
        mut change: impl FnMut(usize, f64) -> f64,
    ) {
        for channel in 0..count {
            let mut view = self.view_mut(weights, channel);
            view.iter_mut().for_each(|x| *x = A::from_f64(change(channel, x.to_f64())));
        }
    }
}

impl From<Axis> for Channels {
    fn from(axis: Axis) -> Self {
        Self::along(axis)
    }
}

/// Where the output and the input channels of a layer lie in its weights.
///
/// ```
/// use lowbit::transform::LayerChannels;
///
/// // A dense layer (outputs, inputs) and a convolution (outputs, inputs, rows, columns).
/// let (outputs, inputs) = LayerChannels::DEFAULT.counts(&[64, 32, 3, 3])?;
/// assert_eq!((outputs, inputs), (64, 32));
/// // A kernel for each channel (channels, 1, rows, columns).
/// assert_eq!(LayerChannels::DEPTHWISE.counts(&[32, 1, 3, 3])?, (32, 32));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerChannels {
    /// The output channels.
    pub outputs: Channels,
    /// The input channels.
    pub inputs: Channels,
}

impl LayerChannels {
    /// Outputs along axis 0 and inputs along axis 1: dense layers, and convolutions in the layout of PyTorch and ONNX.
    pub const DEFAULT: Self = Self::new(Channels::along(Axis(0)), Channels::along(Axis(1)));

    /// A depthwise convolution (channels, 1, ...): one axis for outputs and inputs.
    pub const DEPTHWISE: Self = Self::new(Channels::along(Axis(0)), Channels::along(Axis(0)));

    /// Inputs along axis 0 and outputs along axis 1: transposed convolutions, and dense layers that multiply from
    /// the right.
    pub const TRANSPOSED: Self = Self::new(Channels::along(Axis(1)), Channels::along(Axis(0)));

    /// Outputs and inputs where they are said to be.
    pub const fn new(outputs: Channels, inputs: Channels) -> Self {
        Self { outputs, inputs }
    }

    /// A grouped convolution (outputs, inputs of a group, ...).
    pub const fn grouped(groups: usize) -> Self {
        Self::new(Channels::along(Axis(0)), Channels::grouped(Axis(1), Axis(0), groups))
    }

    /// The numbers of output and of input channels of weights of `shape`.
    ///
    /// # Errors
    ///
    /// As [`Channels::count`].
    pub fn counts(&self, shape: &[usize]) -> Result<(usize, usize)> {
        Ok((self.outputs.count(shape)?, self.inputs.count(shape)?))
    }
}

impl Default for LayerChannels {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A layer whose weights, and bias if there is one, are about to be changed.
///
/// ```
/// use lowbit::transform::{LayerChannels, LayerMut};
/// use ndarray::{Array1, Array2};
///
/// let (mut weights, mut bias) = (Array2::<f32>::ones((4, 3)), Array1::<f32>::zeros(4));
/// let layer = LayerMut::new(&mut weights, LayerChannels::DEFAULT)?.with_bias(&mut bias)?;
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug)]
pub struct LayerMut<'a, A> {
    pub(crate) weights: ArrayViewMutD<'a, A>,
    pub(crate) bias: Option<ArrayViewMut1<'a, A>>,
    pub(crate) channels: LayerChannels,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
}

impl<'a, A: Element> LayerMut<'a, A> {
    /// A layer without bias.
    ///
    /// # Errors
    ///
    /// As [`Channels::count`].
    pub fn new<D: Dimension>(weights: &'a mut ArrayRef<A, D>, channels: LayerChannels) -> Result<Self> {
        let (outputs, inputs) = channels.counts(weights.shape())?;
        Ok(Self { weights: weights.view_mut().into_dyn(), bias: None, channels, outputs, inputs })
    }

    /// The same layer with a bias for each output channel.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] unless there is one for each.
    pub fn with_bias(mut self, bias: &'a mut ArrayRef<A, Ix1>) -> Result<Self> {
        check_length(bias.len(), self.outputs)?;
        self.bias = Some(bias.view_mut());
        Ok(self)
    }
}

/// # Errors
///
/// [`ShapeError::Length`] unless `found` is `expected`.
pub(crate) fn check_length(found: usize, expected: usize) -> Result<(), ShapeError> {
    if found == expected { Ok(()) } else { Err(ShapeError::Length { found, expected }) }
}

/// # Errors
///
/// [`DataError::NotANumber`] or [`DataError::Infinite`] for the first value that is not finite.
pub(crate) fn check_finite<A: Element, D: Dimension>(values: &ArrayView<'_, A, D>) -> Result<(), DataError> {
    let bad = values.iter().position(|x| !x.to_f64().is_finite());
    match bad {
        None => Ok(()),
        Some(flat) => {
            let index = crate::tensor::unravel(values.shape(), flat);
            let value = values.iter().nth(flat).map_or(f64::NAN, |x| x.to_f64());
            Err(if value.is_nan() {
                DataError::NotANumber { index }
            } else {
                DataError::Infinite { index, value }
            })
        }
    }
}

/// # Errors
///
/// As [`check_finite`].
pub(crate) fn check_numbers(values: &[f64]) -> Result<(), DataError> {
    check_finite(&ndarray::ArrayView1::from(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, array};

    #[test]
    fn channels_of_groups() {
        // 4 outputs in 2 groups of 3 inputs each.
        let weights =
            Array::from_shape_fn((4, 3), |(o, i)| (10 * (o / 2 * 3 + i)) as f64 + o as f64).into_dyn();
        let inputs = Channels::grouped(Axis(1), Axis(0), 2);
        assert_eq!(inputs.count(&[4, 3]).unwrap(), 6);
        for channel in 0..6 {
            let view = weights.view();
            let values: Vec<f64> = inputs.view(&view, channel).iter().copied().collect();
            let first = (channel / 3 * 2) as f64;
            assert_eq!(values, [10.0 * channel as f64 + first, 10.0 * channel as f64 + first + 1.0]);
        }
        for (index, &x) in weights.indexed_iter() {
            let index: Vec<usize> = (0..2).map(|axis| index[axis]).collect();
            assert_eq!(inputs.of(&[4, 3], &index), (x / 10.0) as usize);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(matches!(
            Channels::along(Axis(2)).count(&[2, 2]),
            Err(crate::Error::Shape(ShapeError::Axis { axis: 2, rank: 2 }))
        ));
        for (axis, across, groups) in [(1, 0, 0), (1, 0, 3), (0, 0, 2)] {
            let channels = Channels::grouped(Axis(axis), Axis(across), groups);
            assert!(matches!(channels.count(&[4, 3]), Err(crate::Error::Config(ConfigError::Number { .. }))));
        }
        let mut weights = array![[1.0f32, f32::NAN]];
        assert!(matches!(
            Channels::along(Axis(0)).ranges(&weights.view().into_dyn()),
            Err(crate::Error::Data(DataError::NotANumber { index })) if index == [0, 1]
        ));
        let mut bias = ndarray::Array1::zeros(2);
        let layer = LayerMut::new(&mut weights, LayerChannels::DEFAULT).unwrap();
        assert!(layer.with_bias(&mut bias).is_err());
    }
}
