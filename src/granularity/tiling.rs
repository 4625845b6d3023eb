//! The one mechanism under every granularity: a tensor cut into regions.
//!
//! The axes of a tensor are put into groups. Within a group they are flattened in row-major order and cut
//! into blocks of a length; a region is one block of each group. Per-channel is `{c}:1 × {rest}:whole`,
//! per-sub-channel `{c}:1 × {rest}:N`, an n-d block tiling has a group for each axis.

mod segments;
#[cfg(test)]
mod tests;

use core::fmt;
use core::ops::Range;
use std::sync::{Arc, OnceLock};

#[cfg(feature = "serde")]
use crate::error::Error;
use crate::error::{ConfigError, Result, ShapeError};

pub use segments::{Segment, Segments};

/// Some axes, flattened together and cut into blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AxisGroup {
    /// The axes, in ascending order.
    pub axes: Vec<usize>,
    /// The length of a block, or `None` for one block that covers everything, even a length of zero.
    pub block: Option<usize>,
}

/// A tensor's shape, cut into regions that are numbered row-major over the groups.
///
/// Last blocks may be shorter. A zero-length group that one block covers still counts as one block. Cheap to clone.
///
/// ```
/// use lowbit::granularity::{AxisGroup, Tiling};
///
/// // Blocks of 32 along each row of a 2 × 80 matrix: the last one of a row has 16 elements.
/// let rows = AxisGroup { axes: vec![0], block: Some(1) };
/// let blocks = AxisGroup { axes: vec![1], block: Some(32) };
/// let tiling = Tiling::new(&[2, 80], vec![rows, blocks])?;
/// assert_eq!(tiling.regions(), 6);
/// assert_eq!(tiling.region_of(79), 2);
/// assert_eq!(tiling.region_len(2), 16);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "TilingParts", into = "TilingParts"))]
pub struct Tiling {
    parts: Arc<Parts>,
    len: usize,
    regions: usize,
    /// The longest suffix of axes in one group: its group and flattened length.
    inner_group: usize,
    line: usize,
    /// The width of regions that follow each other as blocks of consecutive elements.
    consecutive: Option<usize>,
}

/// What copies of a tiling share.
#[derive(PartialEq)]
struct Parts {
    shape: Vec<usize>,
    groups: Vec<AxisGroup>,
    /// Per group: flattened length, block length (at least 1), number of blocks, region stride.
    cuts: Vec<Cut>,
    /// Outer axes in order: length, group, and what one step adds to the flattened index of the group.
    outer: Vec<OuterAxis>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Cut {
    len: usize,
    block: usize,
    blocks: usize,
    stride: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct OuterAxis {
    len: usize,
    group: usize,
    step: usize,
}

impl Tiling {
    /// The tiling of a tensor of `shape` by `groups`.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Tiling`] unless each axis is in exactly one group, [`ShapeError::Axis`] for an axis
    /// beyond the rank, [`ShapeError::TooLarge`] if the number of elements overflows,
    /// [`ConfigError::TooSmall`] for a block length of zero.
    pub fn new(shape: &[usize], mut groups: Vec<AxisGroup>) -> Result<Self> {
        let rank = shape.len();
        // Of each axis its group, and what one step along it adds to the flattened index of that.
        let mut places = vec![(usize::MAX, 1usize); rank];
        let mut once = true;
        for (index, group) in groups.iter_mut().enumerate() {
            if group.block == Some(0) {
                return Err(ConfigError::TooSmall { what: "block length", value: 0, min: 1 }.into());
            }
            group.axes.sort_unstable();
            for &axis in &group.axes {
                let (found, _) = places.get_mut(axis).ok_or(ShapeError::Axis { axis, rank })?;
                once &= *found == usize::MAX;
                *found = index;
            }
        }
        if !once || places.iter().any(|&(group, _)| group == usize::MAX) {
            let times =
                |axis| groups.iter().flat_map(|group| &group.axes).filter(|&&used| used == axis).count();
            let axis = (0..rank).find(|&axis| times(axis) != 1).unwrap_or_default();
            return Err(ShapeError::Tiling { axis, times: times(axis), rank }.into());
        }
        let too_large = || ShapeError::TooLarge { shape: shape.to_vec() };
        // Products are checked over the non-zero lengths, so that strides fit even where a length is zero.
        shape
            .iter()
            .filter(|&&len| len > 0)
            .try_fold(1usize, |n, &len| n.checked_mul(len))
            .ok_or_else(too_large)?;
        let len = shape.iter().product();

        let mut cuts: Vec<Cut> = groups
            .iter()
            .map(|group| {
                let len: usize = group.axes.iter().map(|&axis| shape[axis]).product();
                let block = group.block.unwrap_or(len).min(len).max(1);
                let blocks = if group.block.is_none() { 1 } else { len.div_ceil(block) };
                Cut { len, block, blocks, stride: 1 }
            })
            .collect();
        let mut regions = 1usize;
        for cut in cuts.iter_mut().rev() {
            cut.stride = regions;
            regions = regions.checked_mul(cut.blocks).ok_or_else(too_large)?;
        }

        let mut flattened = vec![1usize; groups.len()];
        for (&len, (group, step)) in shape.iter().zip(&mut places).rev() {
            let flattened = &mut flattened[*group];
            *step = *flattened;
            *flattened = flattened.wrapping_mul(len);
        }
        // Axes of length one are in no one's way.
        let mut axes = shape.iter().zip(&places).filter(|&(&len, _)| len != 1);
        let inner_group = axes.clone().next_back().map_or(0, |(_, &(group, _))| group);
        let mut line = 1;
        while let Some((&len, _)) = axes.clone().next_back().filter(|(_, (group, _))| *group == inner_group) {
            line *= len;
            axes.next_back();
        }
        let outer = axes.map(|(&len, &(group, step))| OuterAxis { len, group, step }).collect();
        if cuts.is_empty() {
            // Rank 0 without any group: one element in one region.
            cuts.push(Cut { len: 1, block: 1, blocks: 1, stride: 1 });
        }
        let parts = Arc::new(Parts { shape: shape.to_vec(), groups, cuts, outer });
        let tiling = Self { parts, len, regions, inner_group, line, consecutive: None };
        Ok(Self { consecutive: tiling.find_consecutive(), ..tiling })
    }

    /// Checks that this is a tiling of tensors of `shape`.
    pub(crate) fn check_shape(&self, shape: &[usize]) -> Result<(), ShapeError> {
        if self.has_shape(shape) {
            return Ok(());
        }
        Err(ShapeError::Mismatch { found: self.parts.shape.clone(), expected: shape.to_vec() })
    }

    /// Whether it is of this shape. The lengths are so few that a call of `memcmp` takes longer.
    pub(crate) fn has_shape(&self, shape: &[usize]) -> bool {
        let own = &self.parts.shape;
        own.len() == shape.len() && own.iter().zip(shape).all(|(own, len)| own == len)
    }

    /// The tiling of a tensor of shape `[0]` without regions.
    pub(crate) fn none() -> Self {
        static NONE: OnceLock<Tiling> = OnceLock::new();
        let make = || {
            let cut = Cut { len: 0, block: 1, blocks: 0, stride: 1 };
            let groups = vec![AxisGroup { axes: vec![0], block: Some(1) }];
            let parts = Arc::new(Parts { shape: vec![0], groups, cuts: vec![cut], outer: Vec::new() });
            Self { parts, len: 0, regions: 0, inner_group: 0, line: 0, consecutive: None }
        };
        NONE.get_or_init(make).clone()
    }

    /// The shape of the tensor.
    pub fn shape(&self) -> &[usize] {
        &self.parts.shape
    }

    /// The groups of axes.
    pub fn groups(&self) -> &[AxisGroup] {
        &self.parts.groups
    }

    /// The number of elements of the tensor.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the tensor has no elements.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of regions.
    pub const fn regions(&self) -> usize {
        self.regions
    }

    /// The number of blocks of each group that is cut, in the order of the groups: the natural shape of an
    /// array of one parameter per region. Empty for one region over everything.
    pub fn region_shape(&self) -> Vec<usize> {
        self.parts
            .groups
            .iter()
            .zip(&self.parts.cuts)
            .filter(|(group, _)| group.block.is_some())
            .map(|(_, cut)| cut.blocks)
            .collect()
    }

    /// The number of elements of region `region`; 0 for a region that does not exist.
    pub fn region_len(&self, region: usize) -> usize {
        if region >= self.regions {
            return 0;
        }
        self.parts
            .cuts
            .iter()
            .map(|cut| {
                let block = region / cut.stride % cut.blocks;
                (cut.len - (block * cut.block).min(cut.len)).min(cut.block)
            })
            .product()
    }

    /// The region of the element at `index` of the flattened tensor.
    pub fn region_of(&self, index: usize) -> usize {
        let index = index.checked_rem(self.len).unwrap_or(0);
        self.line_at(index.checked_div(self.line).unwrap_or(0))
            .region_at(index.checked_rem(self.line).unwrap_or(0))
    }

    /// The stretches of `range` (flat indices), each with the pattern of its regions, in order.
    pub fn segments(&self, range: Range<usize>) -> Segments<'_> {
        let end = range.end.min(self.len);
        Segments { tiling: self, next: range.start.min(end), end, ahead: None }
    }

    /// The elements of region `region` as ranges of flat indices, in order.
    ///
    /// Cost: proportional to the number of ranges, not to the tensor.
    pub fn region_runs(&self, region: usize) -> Vec<Range<usize>> {
        self.bundle_runs(region, 1)
    }

    /// The width of the regions, if they are blocks of consecutive elements that follow each other in the order of the
    /// regions, all of that width but the last.
    pub(crate) const fn consecutive_blocks(&self) -> Option<usize> {
        self.consecutive
    }

    /// The length of a line, where all lines have the same regions: one for each of its elements, in order.
    pub(crate) fn columns(&self) -> Option<usize> {
        let inner = self.parts.cuts.get(self.inner_group)?;
        let single = inner.block == 1 && inner.stride == 1 && inner.len == self.line;
        (single && self.regions == self.line && self.line > 0).then_some(self.line)
    }

    fn find_consecutive(&self) -> Option<usize> {
        let inner = self.parts.cuts.get(self.inner_group)?;
        let whole = self.parts.outer.is_empty() || self.line.is_multiple_of(inner.block);
        let mut elements = self.line;
        let ordered = self.parts.outer.iter().rev().all(|axis| {
            let regions = elements / inner.block;
            elements *= axis.len;
            let single = |cut: &&Cut| cut.block == 1 && axis.step * cut.stride == regions;
            axis.group != self.inner_group && self.parts.cuts.get(axis.group).filter(single).is_some()
        });
        (whole && ordered && inner.stride == 1 && inner.len == self.line).then_some(inner.block)
    }

    /// The number of blocks along the innermost group of axes, and the distance between their regions.
    pub(crate) fn inner_blocks(&self) -> (usize, usize) {
        self.parts.cuts.get(self.inner_group).map_or((1, 1), |cut| (cut.blocks, cut.stride))
    }

    /// The elements of `blocks` neighbouring blocks along the innermost group, the first of them being
    /// region `region`, as ranges of flat indices, in order.
    pub(crate) fn bundle_runs(&self, region: usize, blocks: usize) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        if region >= self.regions || self.len == 0 {
            return runs;
        }
        // Of every group the flattened interval that the region covers.
        let interval = |(group, cut): (usize, &Cut)| {
            let first = region / cut.stride % cut.blocks * cut.block;
            let blocks = if group == self.inner_group { blocks } else { 1 };
            first..first.saturating_add(cut.block.saturating_mul(blocks)).min(cut.len)
        };
        let intervals: Vec<_> = self.parts.cuts.iter().enumerate().map(interval).collect();
        self.walk(&intervals, 0, 0, &mut vec![0; self.parts.cuts.len()], &mut runs);
        runs
    }

    /// Visits the outer axes from `depth` on; `line` counts whole lines, `at` holds the flattened index of
    /// each group so far.
    fn walk(
        &self,
        intervals: &[Range<usize>],
        depth: usize,
        line: usize,
        at: &mut Vec<usize>,
        runs: &mut Vec<Range<usize>>,
    ) {
        let Some(axis) = self.parts.outer.get(depth) else {
            let base = at[self.inner_group];
            let wanted = &intervals[self.inner_group];
            let from = wanted.start.max(base) - base;
            let to = wanted.end.min(base + self.line).saturating_sub(base);
            if from < to {
                let start = line * self.line;
                match runs.last_mut().filter(|last| last.end == start + from) {
                    Some(last) => last.end = start + to,
                    None => runs.push(start + from..start + to),
                }
            }
            return;
        };
        let wanted = &intervals[axis.group];
        let before = at[axis.group];
        // Index i covers the flattened interval [before + i·step, before + (i+1)·step) of its group.
        let first = wanted.start.saturating_sub(before) / axis.step.max(1);
        let last = wanted.end.saturating_sub(before).div_ceil(axis.step.max(1)).min(axis.len);
        for i in first..last {
            at[axis.group] = before + i * axis.step;
            self.walk(intervals, depth + 1, line * axis.len + i, at, runs);
        }
        at[axis.group] = before;
    }

    /// Line number `line`: the pattern over the innermost axes at one place of the outer ones.
    fn line_at(&self, mut line: usize) -> Line {
        let mut inner_at = 0;
        let mut region = 0;
        // Outer axes of one group contribute to one flattened index; a group has few of them.
        let mut flat = [0usize; 8];
        let mut spill =
            if self.parts.cuts.len() > flat.len() { vec![0; self.parts.cuts.len()] } else { Vec::new() };
        let at: &mut [usize] = if spill.is_empty() { &mut flat } else { &mut spill };
        // The outermost axis has no more lines than its length, and one region or one element needs no division.
        for (depth, axis) in self.parts.outer.iter().enumerate().rev() {
            let index = if depth == 0 { line } else { line % axis.len.max(1) };
            at[axis.group] += index * axis.step;
            if depth > 0 {
                line /= axis.len.max(1);
            }
        }
        let block_at = |cut: &Cut, at: usize| match (cut.blocks, cut.block) {
            (1, _) => 0,
            (_, 1) => at,
            _ => at / cut.block,
        };
        for (group, (cut, &at)) in self.parts.cuts.iter().zip(at.iter()).enumerate() {
            if group == self.inner_group {
                inner_at = at;
            } else {
                region += block_at(cut, at) * cut.stride;
            }
        }
        let cut = self.parts.cuts[self.inner_group];
        let block = block_at(&cut, inner_at);
        Line {
            region: region + block * cut.stride,
            phase: inner_at - block * cut.block,
            width: cut.block,
            stride: cut.stride,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Line {
    region: usize,
    phase: usize,
    width: usize,
    stride: usize,
}

impl Line {
    fn region_at(&self, column: usize) -> usize {
        self.place(column).0
    }

    /// The region of a column, and the number of elements of its block before it.
    fn place(&self, column: usize) -> (usize, usize) {
        let at = self.phase + column;
        if at < self.width {
            return (self.region, at);
        }
        let block = at / self.width;
        (self.region + block * self.stride, at - block * self.width)
    }
}

/// `4608 elements of [64, 72] in 64 regions ({0}:1 × {1}:whole)`
impl fmt::Debug for Tiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements of {:?} in {} regions ({self})", self.len, self.parts.shape, self.regions)
    }
}

/// `{0}:1 × {1,2}:whole`
impl fmt::Display for Tiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, group) in self.parts.groups.iter().enumerate() {
            if i > 0 {
                f.write_str(" × ")?;
            }
            let axes: Vec<String> = group.axes.iter().map(usize::to_string).collect();
            write!(f, "{{{}}}:", axes.join(","))?;
            match group.block {
                Some(block) => write!(f, "{block}")?,
                None => f.write_str("whole")?,
            }
        }
        Ok(())
    }
}

/// What determines a [`Tiling`].
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct TilingParts {
    shape: Vec<usize>,
    groups: Vec<AxisGroup>,
}

#[cfg(feature = "serde")]
impl TryFrom<TilingParts> for Tiling {
    type Error = Error;

    fn try_from(parts: TilingParts) -> Result<Self> {
        Self::new(&parts.shape, parts.groups)
    }
}

#[cfg(feature = "serde")]
impl From<Tiling> for TilingParts {
    fn from(tiling: Tiling) -> Self {
        Self { shape: tiling.parts.shape.clone(), groups: tiling.parts.groups.clone() }
    }
}
