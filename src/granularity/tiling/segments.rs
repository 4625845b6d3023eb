//! The regions of a tensor along its memory: stretches of elements whose regions follow a pattern.

use core::ops::Range;

use super::Tiling;

/// A stretch of consecutive elements, in row-major order, whose regions follow a pattern: the first region
/// is `region`; after `width - phase` elements comes `region + stride`, and then another every `width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Index of the first element in the flattened tensor.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
    /// Region of the first element.
    pub region: usize,
    /// Distance between the regions of neighbouring blocks.
    pub stride: usize,
    /// Elements of a block.
    pub width: usize,
    /// Elements of the first block that lie before the segment.
    pub phase: usize,
}

impl Segment {
    /// The number of blocks that the segment touches.
    pub const fn blocks(&self) -> usize {
        let to = self.phase + self.len;
        // One block needs no division.
        if 0 < to && to <= self.width { 1 } else { to.div_ceil(self.width) }
    }

    /// The blocks of the segment: region and range of flat indices.
    pub fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let segment = *self;
        (0..segment.blocks()).map(move |block| {
            let from = (block * segment.width).saturating_sub(segment.phase);
            let to = ((block + 1) * segment.width - segment.phase).min(segment.len);
            (segment.region + block * segment.stride, segment.start + from..segment.start + to)
        })
    }

    /// Whether `next` goes on where this one ends, in the same pattern.
    fn continues(&self, next: &Self) -> bool {
        let filled = self.phase + self.len;
        self.start + self.len == next.start
            && self.width == next.width
            && self.stride == 1
            && next.stride == 1
            && if next.phase == 0 {
                filled.is_multiple_of(self.width) && self.region + filled / self.width == next.region
            } else {
                filled % self.width == next.phase && self.region + filled / self.width == next.region
            }
    }
}

/// The iterator of [`Tiling::segments`].
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    pub(super) tiling: &'a Tiling,
    pub(super) next: usize,
    pub(super) end: usize,
    /// What comes next, where it was looked at already.
    pub(super) ahead: Option<Segment>,
}

impl Segments<'_> {
    /// The part of a line that comes next.
    fn part(&self) -> Option<Segment> {
        if self.next >= self.end {
            return None;
        }
        let tiling = self.tiling;
        let line = self.next / tiling.line;
        let column = self.next - line * tiling.line;
        let pattern = tiling.line_at(line);
        let (region, phase) = pattern.place(column);
        Some(Segment {
            start: self.next,
            len: (tiling.line - column).min(self.end - self.next),
            region,
            stride: pattern.stride,
            width: pattern.width,
            phase,
        })
    }

    /// The next segment, where blocks may begin anew in each line.
    fn next_of_lines(&mut self) -> Option<Segment> {
        let mut segment = self.ahead.take().or_else(|| self.part())?;
        self.next = segment.start + segment.len;
        // Lines that continue one pattern are one segment: rows of whole blocks, for instance.
        while let Some(next) = self.part() {
            if !segment.continues(&next) {
                self.ahead = Some(next);
                break;
            }
            segment.len += next.len;
            self.next += next.len;
        }
        Some(segment)
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    #[inline]
    fn next(&mut self) -> Option<Segment> {
        if self.next >= self.end {
            return None;
        }
        if let Some(width) = self.tiling.consecutive {
            let start = core::mem::replace(&mut self.next, self.end);
            let region = if start < width { 0 } else { start / width };
            let (len, phase) = (self.end - start, start - region * width);
            return Some(Segment { start, len, region, stride: 1, width, phase });
        }
        self.next_of_lines()
    }
}
