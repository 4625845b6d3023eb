//! Where the regions of a tensor lie along its rows and columns.

use core::ops::Range;

use crate::granularity::{Segment, Tiling};

/// The regions along row `row` of `inputs` elements; starts count from the beginning of the row.
pub(super) fn row_segments(tiling: &Tiling, inputs: usize, row: usize) -> Vec<Segment> {
    let from = row * inputs;
    tiling
        .segments(from..from + inputs)
        .map(|segment| Segment { start: segment.start - from, ..segment })
        .collect()
}

/// The regions that row `row` of `inputs` elements touches, each as often as it does.
pub(super) fn row_regions(tiling: &Tiling, inputs: usize, row: usize) -> Vec<usize> {
    let segments = row_segments(tiling, inputs, row);
    segments.iter().flat_map(Segment::runs).map(|(region, _)| region).collect()
}

/// The columns of some rows, cut into spans that have the same regions in each of their columns.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    /// The span of each column.
    pub(super) span_of: Vec<usize>,
    /// The columns of each span.
    pub(super) spans: Vec<Range<usize>>,
    /// The region of each row, by span.
    pub(super) regions: Vec<Vec<usize>>,
}

impl Columns {
    pub(super) fn new(tiling: &Tiling, inputs: usize, rows: Range<usize>) -> Self {
        let mut begins = vec![false; inputs];
        for row in rows.clone() {
            for segment in row_segments(tiling, inputs, row) {
                for (_, run) in segment.runs() {
                    if let Some(begins) = begins.get_mut(run.start) {
                        *begins = true;
                    }
                }
            }
        }
        let starts: Vec<usize> = (0..inputs).filter(|&column| column == 0 || begins[column]).collect();
        let ends = starts.iter().skip(1).copied().chain([inputs]);
        let spans: Vec<Range<usize>> = starts.iter().zip(ends).map(|(&start, end)| start..end).collect();
        let span_of = spans.iter().enumerate().flat_map(|(i, span)| span.clone().map(move |_| i)).collect();
        let regions_of = |span: &Range<usize>| {
            rows.clone().map(|row| tiling.region_of(row * inputs + span.start)).collect()
        };
        let regions = spans.iter().map(regions_of).collect();
        Self { span_of, spans, regions }
    }

    /// The regions down a column of each span, as the encoders take them.
    pub(super) fn segments(&self) -> Vec<Vec<Segment>> {
        self.regions.iter().map(|regions| segments_of(regions)).collect()
    }
}

/// Stretches of elements whose regions are `regions`, one by one: equal ones, or ones at equal distances.
fn segments_of(regions: &[usize]) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut start = 0;
    while let Some(&region) = regions.get(start) {
        let rest = regions.get(start..).unwrap_or_default();
        let step = rest.get(1).and_then(|next| next.checked_sub(region)).unwrap_or(0);
        let follows = |(i, &other): (usize, &usize)| other == region + i * step;
        let len = rest.iter().enumerate().take_while(|&item| follows(item)).count();
        let width = if step == 0 { len } else { 1 };
        segments.push(Segment { start, len, region, stride: step.max(1), width, phase: 0 });
        start += len;
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::granularity::{Blocks, Granularity, PerChannel, PerGroup, PerLayer, PerSubChannel};
    use ndarray::Axis;

    #[test]
    fn every_element_has_the_region_of_the_tiling() {
        let shape = [7, 3, 4];
        let granularities: [&dyn Granularity; 8] = [
            &PerLayer,
            &PerChannel::new(Axis(0)),
            &PerChannel::new(Axis(1)),
            &PerChannel::new(Axis(2)),
            &PerGroup::new(Axis(0), 3).unwrap(),
            &PerSubChannel::new(Axis(0), 5).unwrap(),
            &PerSubChannel::new(Axis(2), 5).unwrap(),
            &Blocks::new([2, 2, 3]),
        ];
        for granularity in granularities {
            let tiling = granularity.tiling(&shape).unwrap();
            for rows in [0..7, 2..5, 6..7] {
                let columns = Columns::new(&tiling, 12, rows.clone());
                for (span, segments) in columns.spans.iter().zip(columns.segments()) {
                    let runs = segments.iter().flat_map(Segment::runs);
                    let found: Vec<usize> = runs.flat_map(|(region, run)| run.map(move |_| region)).collect();
                    for column in span.clone() {
                        let expected: Vec<usize> =
                            rows.clone().map(|row| tiling.region_of(row * 12 + column)).collect();
                        assert_eq!(found, expected, "{granularity} {rows:?} {column}");
                    }
                }
            }
        }
    }
}
