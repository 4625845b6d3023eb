//! Granularity: how a tensor is cut into regions that share quantization parameters (survey, III-E).
//!
//! | strategy | a region is |
//! |---|---|
//! | [`PerLayer`] | the whole tensor |
//! | [`PerGroup`] | N consecutive channels |
//! | [`PerChannel`] | one channel |
//! | [`PerSubChannel`] | N consecutive elements of one channel's flattened rest |
//! | [`Blocks`] | an n-d block of given lengths |
//!
//! All of them are built on one [`Tiling`], and so is any [`Granularity`] of your own. Where a length does
//! not divide its axis, the last region is shorter.

mod tiling;

use core::fmt;

use ndarray::Axis;

use crate::error::{ConfigError, Result, ShapeError};

pub use tiling::{AxisGroup, Segment, Segments, Tiling};

/// Cuts tensors into regions that share quantization parameters.
///
/// The `Display` form is the strategy's text form: a name, and arguments in parentheses where it has any.
pub trait Granularity: fmt::Debug + fmt::Display + Send + Sync {
    /// The tiling of a tensor of `shape`: always the same one, as it is kept with what was quantized and may serve again.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] where the strategy does not fit the shape.
    fn tiling(&self, shape: &[usize]) -> Result<Tiling>;
}

impl<G: Granularity + ?Sized> Granularity for std::sync::Arc<G> {
    fn tiling(&self, shape: &[usize]) -> Result<Tiling> {
        (**self).tiling(shape)
    }
}

/// One region: the whole tensor. The default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerLayer;

/// One region for each run of `channels` consecutive channels along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerGroup {
    axis: usize,
    channels: usize,
}

/// One region for each channel, that is, for each index along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerChannel {
    axis: usize,
}

/// One region for each run of `elements` consecutive elements of a channel. The channel's remaining axes
/// are flattened in row-major order first, so runs may cross rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerSubChannel {
    axis: usize,
    elements: usize,
}

/// One region for each n-d block with the given length along each axis. A length of 0 stands for the whole
/// axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    lengths: Vec<usize>,
}

fn at_least_one(what: &'static str, value: usize) -> Result<usize, ConfigError> {
    if value == 0 { Err(ConfigError::TooSmall { what, value, min: 1 }) } else { Ok(value) }
}

impl PerGroup {
    /// Groups of `channels` channels along `axis`; the last group may have fewer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for groups of zero channels.
    pub fn new(axis: Axis, channels: usize) -> Result<Self, ConfigError> {
        Ok(Self { axis: axis.index(), channels: at_least_one("channels per group", channels)? })
    }
}

impl PerChannel {
    /// The channels along `axis`: 0 for the output channels of most layouts, the last one for Keras.
    pub const fn new(axis: Axis) -> Self {
        Self { axis: axis.0 }
    }
}

impl PerSubChannel {
    /// Runs of `elements` elements of each channel along `axis`; a channel's last run may be shorter.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for runs of zero elements.
    pub fn new(axis: Axis, elements: usize) -> Result<Self, ConfigError> {
        Ok(Self { axis: axis.index(), elements: at_least_one("elements per sub-channel", elements)? })
    }

    /// As [`new`](Self::new), for a number of `elements` that is known not to be zero.
    pub(crate) const fn runs(axis: Axis, elements: usize) -> Self {
        Self { axis: axis.0, elements }
    }
}

impl Blocks {
    /// Blocks of these lengths, one for each axis; 0 stands for the whole axis.
    pub fn new(lengths: impl Into<Vec<usize>>) -> Self {
        Self { lengths: lengths.into() }
    }
}

/// One group with `axis` cut into blocks, and one with all other axes.
fn channel_tiling(shape: &[usize], axis: usize, channels: usize, rest: Option<usize>) -> Result<Tiling> {
    let rank = shape.len();
    if axis >= rank {
        return Err(ShapeError::Axis { axis, rank }.into());
    }
    let others = (0..rank).filter(|&other| other != axis).collect();
    let channel = AxisGroup { axes: vec![axis], block: Some(channels) };
    Tiling::new(shape, vec![channel, AxisGroup { axes: others, block: rest }])
}

impl Granularity for PerLayer {
    fn tiling(&self, shape: &[usize]) -> Result<Tiling> {
        Tiling::new(shape, vec![AxisGroup { axes: (0..shape.len()).collect(), block: None }])
    }
}

impl Granularity for PerGroup {
    fn tiling(&self, shape: &[usize]) -> Result<Tiling> {
        channel_tiling(shape, self.axis, self.channels, None)
    }
}

impl Granularity for PerChannel {
    fn tiling(&self, shape: &[usize]) -> Result<Tiling> {
        channel_tiling(shape, self.axis, 1, None)
    }
}

impl Granularity for PerSubChannel {
    fn tiling(&self, shape: &[usize]) -> Result<Tiling> {
        channel_tiling(shape, self.axis, 1, Some(self.elements))
    }
}

impl Granularity for Blocks {
    fn tiling(&self, shape: &[usize]) -> Result<Tiling> {
        if self.lengths.len() != shape.len() {
            return Err(ShapeError::BlockRank { given: self.lengths.len(), rank: shape.len() }.into());
        }
        let group =
            |(axis, &len): (usize, &usize)| AxisGroup { axes: vec![axis], block: (len > 0).then_some(len) };
        Tiling::new(shape, self.lengths.iter().enumerate().map(group).collect())
    }
}

impl fmt::Display for PerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("layer")
    }
}

impl fmt::Display for PerGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group({}, axis={})", self.channels, self.axis)
    }
}

impl fmt::Display for PerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel(axis={})", self.axis)
    }
}

impl fmt::Display for PerSubChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subchannel({}, axis={})", self.elements, self.axis)
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths: Vec<String> = self.lengths.iter().map(usize::to_string).collect();
        write!(f, "blocks({})", lengths.join(", "))
    }
}
