//! Counting many numbers of 16 bits of one region: by their bits first, by their bins at the end.

use core::ops::RangeInclusive;

use half::{bf16, f16};

use crate::element::Element;
use crate::error::DataError;
use crate::kernel::bit_counts::{BitCounts, PATTERNS, STAGE};
use crate::kernel::convert::convert;
use crate::kernel::grid::{self, Window};

use super::counts::{Counts, reserve};
use super::grid::Span;
use super::summary::Summary;

/// A type of numbers of 16 bits.
pub(super) trait Half: Element {
    /// The bits of positive infinity: positive numbers have fewer, and NaN has more.
    const INFINITY: u16;
    fn from_bits(bits: u16) -> Self;
    fn bits(values: &[Self]) -> &[u16];
}

macro_rules! half {
    ($($type:ty),*) => { $(
        impl Half for $type {
            const INFINITY: u16 = <$type>::INFINITY.to_bits();
            fn from_bits(bits: u16) -> Self {
                Self::from_bits(bits)
            }
            fn bits(values: &[Self]) -> &[u16] {
                half::slice::HalfFloatSliceExt::reinterpret_cast(values)
            }
        }
    )* };
}
half!(f16, bf16);

/// The bit of the sign.
const SIGN: u16 = 1 << 15;

/// The patterns of a stage.
const fn bits_of(stage: usize) -> RangeInclusive<u16> {
    let first = (stage * STAGE) as u16;
    first..=first + (STAGE - 1) as u16
}

/// Counters of all numbers of a type, whose summaries are those of the same numbers counted one by one.
///
/// Memory: 128 KiB, or half a mebibyte where neighbours are often equal; and 16 · resolution bytes.
#[derive(Debug)]
pub(super) struct HalfTally {
    resolution: usize,
    patterns: BitCounts,
    sum: Vec<u64>,
}

/// What was met: the extremes, as bits, and how much of it is no number.
struct Met {
    /// The bits of the smallest and the largest number.
    range: Option<(u16, u16)>,
    not_finite: u64,
    /// A bit for each stage of patterns that has any.
    stages: u64,
}

impl HalfTally {
    /// Counters for summaries of at least `resolution` bins.
    pub(super) fn new(resolution: usize) -> Self {
        Self { resolution, patterns: BitCounts::default(), sum: Vec::new() }
    }

    /// Begins to count at most `expected` values.
    pub(super) fn begin(&mut self, expected: usize) -> Result<(), DataError> {
        let bytes = (PATTERNS + expected / PATTERNS) * size_of::<u16>();
        let refused = |_| DataError::Memory { what: "counts of an observer", bytes };
        self.patterns.begin(expected).map_err(refused)
    }

    /// Counts `values`.
    pub(super) fn add<H: Half>(&mut self, values: &[H]) {
        self.patterns.count(H::bits(values));
    }

    /// The summary of what was counted since [`begin`](Self::begin); `None` if there are values that are not finite, and
    /// they are not to be skipped.
    pub(super) fn finish<H: Half>(&mut self, skip: bool) -> Result<Option<Summary>, DataError> {
        let met = self.met::<H>();
        if met.not_finite > 0 && !skip {
            return Ok(None);
        }
        let Some((low, high)) = met.range else {
            return Ok(Some(Summary::new(self.resolution).with_skipped(met.not_finite)));
        };
        // Adding zero makes a negative zero positive.
        let (min, max) = (H::from_bits(low).to_f64() + 0.0, H::from_bits(high).to_f64() + 0.0);
        let span = Span::new(min, max, self.resolution);
        self.sum.clear();
        reserve(&mut self.sum, span.bins)?;
        self.sum.resize(span.bins, 0);
        let window = Window { scale: span.scale(), first: span.first };
        let (mut counts, mut values, mut places) = ([0; STAGE], [0f32; STAGE], [0; STAGE]);
        for stage in (0..PATTERNS / STAGE).filter(|stage| met.stages >> stage & 1 == 1) {
            self.patterns.stage(stage, &mut counts);
            let bits = bits_of(stage);
            let mut halves = [H::from_bits(low); STAGE];
            for ((half, count), bits) in halves.iter_mut().zip(&mut counts).zip(bits) {
                // What was not met counts no times, wherever.
                *count = if bits & !SIGN < H::INFINITY { *count } else { 0 };
                *half = H::from_bits(if *count > 0 { bits } else { low });
            }
            convert(&halves, &mut values);
            grid::find(&values, &window, &mut places);
            for (place, count) in places.iter().zip(&counts) {
                if let Some(sum) = self.sum.get_mut(*place as usize) {
                    *sum += count;
                }
            }
        }
        let counts = Counts::from_dense(&self.sum)?;
        let summary = Summary::from_parts(self.resolution, (min, max), span, counts);
        Ok(Some(summary.with_skipped(met.not_finite)))
    }

    fn met<H: Half>(&self) -> Met {
        let mut met = Met { range: None, not_finite: 0, stages: 0 };
        // In the order of the numbers: negative ones from the last pattern on downwards.
        let order = |bits: u16| if bits & SIGN == 0 { i32::from(bits) } else { -i32::from(bits & !SIGN) - 1 };
        let mut counts = [0; STAGE];
        for stage in 0..PATTERNS / STAGE {
            if !self.patterns.stage(stage, &mut counts) {
                continue;
            }
            met.stages |= 1 << stage;
            let bits = bits_of(stage);
            let last = *bits.end();
            let occurring = bits.zip(&counts).filter(|(_, count)| **count > 0);
            let mut finite =
                occurring.clone().map(|(bits, _)| bits).filter(|bits| bits & !SIGN < H::INFINITY);
            let ends = finite.next().map(|end| (end, finite.next_back().unwrap_or(end)));
            for bits in ends.into_iter().flat_map(|(a, b)| [a, b]) {
                let (low, high) = met.range.unwrap_or((bits, bits));
                let low = if order(bits) < order(low) { bits } else { low };
                met.range = Some((low, if order(bits) > order(high) { bits } else { high }));
            }
            if last & !SIGN >= H::INFINITY {
                met.not_finite += occurring
                    .filter(|(bits, _)| bits & !SIGN >= H::INFINITY)
                    .map(|(_, count)| count)
                    .sum::<u64>();
            }
        }
        met
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Tally;
    use super::*;

    /// Asserts that the summary is that of the same numbers in f32, without those that are not finite.
    fn check<H: Half>(values: &[H], resolution: usize) {
        let finite: Vec<f32> = values.iter().map(|x| x.to_f32()).filter(|x| x.is_finite()).collect();
        let skipped = (values.len() - finite.len()) as u64;
        let none = Summary::new(resolution);
        let expected = Tally::new(resolution).observe(&none, &finite).unwrap().with_skipped(skipped);
        let mut tally = HalfTally::new(resolution);
        for _ in 0..2 {
            tally.begin(values.len()).unwrap();
            let (front, back) = values.split_at(values.len() / 3);
            tally.add(front);
            tally.add(back);
            assert_eq!(tally.finish::<H>(true).unwrap().unwrap(), expected, "{} {resolution}", H::TYPE);
            let result = tally.finish::<H>(false).unwrap();
            assert_eq!(result, (skipped == 0).then(|| expected.clone()));
        }
    }

    fn all<H: Half>() {
        let mut state = 3u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
        };
        let mut of = |scale: f32, move_by: f32| -> Vec<H> {
            (0..5000).map(|_| H::from_f32((next() + next() + next()) * scale + move_by)).collect()
        };
        let every: Vec<H> = (0..=u16::MAX).map(H::from_bits).collect();
        let halves = |bits: &[u16]| -> Vec<H> { bits.iter().map(|&bits| H::from_bits(bits)).collect() };
        let (tiny, most) = (1, H::INFINITY - 1);
        let sets = [
            of(0.05, 0.0),
            of(3.0, 100.0),
            of(1e-6, 0.0),
            of(1e4, -2e4),
            every.clone(),
            every.iter().copied().filter(|x| x.to_f32() > 0.0).collect(),
            every.iter().copied().filter(|x| x.to_f32() < 0.0).collect(),
            every.iter().copied().filter(|x| x.to_f32().abs() < 1e-5).collect(),
            every.iter().copied().filter(|x| !x.to_f32().is_finite()).collect(),
            halves(&[0; 70_000]),
            halves(&[SIGN; 3]),
            halves(&[0, SIGN]),
            halves(&[tiny, SIGN | tiny, 0]),
            halves(&[most, SIGN | most]),
            halves(&[most, most, most]),
            halves(&[SIGN | most]),
            halves(&[H::INFINITY, tiny]),
            halves(&[SIGN | H::INFINITY, u16::MAX, tiny, SIGN]),
            Vec::new(),
        ];
        for values in sets {
            for resolution in [4, 100, 2048, 4096, 1 << 16] {
                check(&values, resolution);
            }
        }
    }

    #[test]
    fn summaries_are_those_of_the_same_numbers_of_32_bits() {
        all::<f16>();
        all::<bf16>();
    }
}
