//! The levels that each weight of a row may have.

use crate::element::{Element, Real};
use crate::error::Result;
use crate::granularity::Segment;
use crate::tensor::{CodeRange, Encoding, Grids, Scheme, decider};

/// The levels of one region, ascending, with their codes as fields of the packed ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Levels {
    pub(super) values: Vec<f64>,
    pub(super) codes: Vec<u16>,
}

impl Levels {
    /// The place of the level that is nearest to `x`; the lower of two.
    pub(super) fn nearest(&self, x: f64) -> usize {
        let above = self.values.partition_point(|&value| value < x);
        let Some(below) = above.checked_sub(1) else { return 0 };
        match (self.values.get(below), self.values.get(above)) {
            (Some(low), Some(high)) if high - x < x - low => above,
            _ => below,
        }
    }

    /// The place of the level with a code, if it is one.
    pub(super) fn place_of(&self, code: u16) -> Option<usize> {
        self.codes.iter().position(|&other| other == code)
    }

    /// Whether `x` lies beyond the levels by more than half of the outermost step.
    pub(super) fn is_beyond(&self, x: f64) -> bool {
        match (self.values.as_slice(), self.values.as_slice()) {
            ([first, second, ..], [.., last_but_one, last]) => {
                x < first - (second - first) / 2.0 || x > last + (last - last_but_one) / 2.0
            }
            _ => false,
        }
    }
}

/// The levels of a row: those of each of its regions, and the region of each weight.
#[derive(Debug, Clone)]
pub(super) struct RowLevels {
    regions: Vec<Levels>,
    region_of: Vec<usize>,
}

impl RowLevels {
    /// The levels of the row whose regions are `segments`, as they are in the arithmetic of T.
    pub(super) fn new<T: Real>(
        given: (&Scheme, &Grids),
        encoding: &Encoding,
        segments: &[Segment],
    ) -> Result<Self> {
        let fields = all_fields(given.0.codes(), given.0.bits().get());
        let runs: Vec<_> = segments.iter().flat_map(Segment::runs).collect();
        let len = fields.len();
        // Each code once, in a stretch of one region.
        let spans: Vec<Vec<Segment>> = runs
            .iter()
            .map(|&(region, _)| vec![Segment { start: 0, len, region, stride: 1, width: len, phase: 0 }])
            .collect();
        let decider = decider::<T>(given, encoding, &spans)?;
        let mut values = vec![T::zero(); len];
        let mut region_of = Vec::new();
        let regions = runs.iter().enumerate().map(|(index, (_, run))| {
            region_of.resize(region_of.len() + run.len(), index);
            decider.values(index, &fields, &mut values);
            let pairs = values.iter().map(|&value| Element::to_f64(value)).zip(fields.iter().copied());
            let mut pairs: Vec<(f64, u16)> = pairs.filter(|(value, _)| value.is_finite()).collect();
            pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            // Equal levels, and zeros of both signs, are one.
            pairs.dedup_by(|b, a| a.0 == b.0);
            let (values, codes) = pairs.into_iter().unzip();
            Levels { values, codes }
        });
        let regions = regions.collect();
        Ok(Self { regions, region_of })
    }

    /// The levels of weight `index`.
    pub(super) fn of(&self, index: usize) -> Option<&Levels> {
        self.regions.get(*self.region_of.get(index)?)
    }
}

/// All codes as fields: in two's complement where they are signed.
fn all_fields(codes: CodeRange, bits: u32) -> Vec<u16> {
    let mask = ((1u32 << bits) - 1) as u16;
    (codes.min()..=codes.max()).map(|code| code as u16 & mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_levels_and_what_is_beyond() {
        let levels = Levels { values: vec![-1.0, 0.0, 0.5], codes: vec![3, 0, 1] };
        for (x, place) in [(-9.0, 0), (-0.6, 0), (-0.5, 0), (-0.4, 1), (0.25, 1), (0.26, 2), (7.0, 2)] {
            assert_eq!(levels.nearest(x), place, "{x}");
        }
        for (x, beyond) in [(-1.5, false), (-1.51, true), (0.75, false), (0.76, true), (0.1, false)] {
            assert_eq!(levels.is_beyond(x), beyond, "{x}");
        }
        assert_eq!((levels.place_of(1), levels.place_of(2)), (Some(2), None));
        assert_eq!(Levels::default().nearest(1.0), 0);
    }
}
