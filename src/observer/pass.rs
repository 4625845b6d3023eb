//! One pass over a tensor: the summaries as they are with its values.

use core::marker::PhantomData;
use core::ops::Range;
use std::collections::BTreeMap;

use half::{bf16, f16};

use crate::calibration::{Evidence, Regions, Values};
use crate::element::{Element, FloatType, Real};
use crate::error::{DataError, Result};
use crate::parallel;
use crate::tensor::{NonFinite, TensorView};

use super::counts::reserved;
use super::halves::{Half, HalfTally};
use super::summary::Summary;
use super::tally::Tally;

/// Regions of at least this many elements on average are cut into parts, so that several threads share one.
const LARGE: usize = 1 << 17;
/// Elements of a region that lie together, so that a part need not be gathered.
const LONG: usize = 1 << 15;
/// The least elements of a part.
const PART: usize = 1 << 18;
/// The most parts: each costs some passes over the bins, what they count is held until the end, and few threads read
/// as fast as memory can.
const MAX_PARTS: usize = 16;
/// As many parts for each thread are enough for all to end at about the same time.
const THREAD_PARTS: usize = 4;
/// Numbers of 16 bits of so many elements a region on average are counted by their bits, in parts of no fewer: others do
/// not outweigh the passes over all patterns.
const HALVES: usize = 1 << 20;
/// Elements that are looked at together where they need no conversion.
const BORROWED: usize = 1 << 16;

/// Those of `summaries` (one for each region) that change, with the values of the tensor added. An error if there are
/// non-finite values that the policy does not skip, or no memory.
pub(super) fn observe(
    regions: &Regions<'_, '_>,
    summaries: &[Summary],
    bins: usize,
) -> Result<Vec<(usize, Summary)>> {
    let (tensor, tiling) = (regions.tensor(), regions.tiling());
    let long = tiling.segments(0..1).next().is_some_and(|segment| segment.width >= LONG);
    if tensor.len() / regions.len().max(1) < LARGE || !long {
        return by_region(regions, summaries, bins);
    }
    // Whether their bits are counted first.
    let halves = tensor.len() / regions.len().max(1) >= HALVES;
    let parts = match tensor.element_type() {
        FloatType::F64 => by_part(regions, summaries, PART, || Single::<f64>::new(bins)),
        FloatType::F16 if halves && tensor.slice::<f16>(0..tensor.len()).is_some() => {
            by_part(regions, summaries, HALVES, || Twofold::<f16>::new(bins))
        }
        FloatType::Bf16 if halves && tensor.slice::<bf16>(0..tensor.len()).is_some() => {
            by_part(regions, summaries, HALVES, || Twofold::<bf16>::new(bins))
        }
        _ => by_part(regions, summaries, PART, || Single::<f32>::new(bins)),
    }?;
    let mut sum = Vec::new();
    let mut changed = BTreeMap::<usize, Summary>::new();
    for (region, seen) in parts {
        let Some(before) = changed.get(&region).or_else(|| summaries.get(region)) else { continue };
        let next = before.merged(&seen, &mut sum)?;
        changed.insert(region, next);
    }
    Ok(changed.into_iter().collect())
}

fn by_region(regions: &Regions<'_, '_>, summaries: &[Summary], bins: usize) -> Result<Vec<(usize, Summary)>> {
    // What the regions' results will take is asked for where a refusal can be told.
    drop(reserved::<[(usize, Summary); 3]>(regions.len())?);
    let next = regions.map_with(
        || Tally::new(bins),
        |tally, region| {
            let Some(summary) = summaries.get(region.index()) else { return Ok(Summary::new(bins)) };
            let (next, values) = match region.evidence() {
                Evidence::Values(Values::F32(values)) => (tally.observe(summary, values)?, values.len()),
                Evidence::Values(Values::F64(values)) => (tally.observe(summary, values)?, values.len()),
                Evidence::Histogram(_) => (summary.try_clone()?, 0),
            };
            // Values that are not finite have been left out by now, if the policy is to skip them.
            let left_out = (regions.tiling().region_len(region.index()) - values) as u64;
            let skipped = summary.skipped().saturating_add(left_out);
            Ok(next.with_skipped(skipped))
        },
    )?;
    Ok(next.into_iter().enumerate().collect())
}

/// Counts the values of a part, region after region.
trait Counting {
    type Value: Element;
    /// The elements `range`, which are `scratch` where they cannot be borrowed.
    fn values<'s>(
        tensor: &'s TensorView<'_>,
        range: Range<usize>,
        scratch: &'s mut Vec<Self::Value>,
    ) -> &'s [Self::Value];
    /// Begins a region of `expected` values, about in `range`.
    fn begin(&mut self, range: Option<(f64, f64)>, expected: usize) -> Result<(), DataError>;
    /// Counts values. `false` if one is not finite and not to be skipped: the region must not be finished then.
    fn add(&mut self, values: &[Self::Value], skip: bool) -> Result<bool, DataError>;
    /// The summary of the region; `None` as [`add`](Self::add) says `false`.
    fn finish(&mut self, skip: bool) -> Result<Option<Summary>, DataError>;
}

/// Values that are counted in their bins.
struct Single<T> {
    tally: Tally,
    none: Summary,
    skipped: u64,
    values: PhantomData<T>,
}

impl<T> Single<T> {
    fn new(bins: usize) -> Self {
        Self { tally: Tally::new(bins), none: Summary::new(bins), skipped: 0, values: PhantomData }
    }
}

impl<T: Real> Counting for Single<T> {
    type Value = T;

    fn values<'s>(tensor: &'s TensorView<'_>, range: Range<usize>, scratch: &'s mut Vec<T>) -> &'s [T] {
        tensor.chunk(range, scratch)
    }

    fn begin(&mut self, range: Option<(f64, f64)>, expected: usize) -> Result<(), DataError> {
        self.skipped = 0;
        self.tally.begin(range, expected)
    }

    fn add(&mut self, values: &[T], skip: bool) -> Result<bool, DataError> {
        let skipped = self.tally.add(values, skip)?;
        self.skipped += skipped.unwrap_or_default();
        Ok(skipped.is_some())
    }

    fn finish(&mut self, _: bool) -> Result<Option<Summary>, DataError> {
        Ok(Some(self.tally.finish(&self.none)?.with_skipped(self.skipped)))
    }
}

/// Numbers of 16 bits, of which the bits are counted, and these then in their bins.
struct Twofold<H> {
    tally: HalfTally,
    values: PhantomData<H>,
}

impl<H> Twofold<H> {
    fn new(bins: usize) -> Self {
        Self { tally: HalfTally::new(bins), values: PhantomData }
    }
}

impl<H: Half> Counting for Twofold<H> {
    type Value = H;

    fn values<'s>(tensor: &'s TensorView<'_>, range: Range<usize>, _: &'s mut Vec<H>) -> &'s [H] {
        tensor.slice(range).unwrap_or_default()
    }

    fn begin(&mut self, _: Option<(f64, f64)>, expected: usize) -> Result<(), DataError> {
        self.tally.begin(expected)
    }

    fn add(&mut self, values: &[H], _: bool) -> Result<bool, DataError> {
        self.tally.add(values);
        Ok(true)
    }

    fn finish(&mut self, skip: bool) -> Result<Option<Summary>, DataError> {
        self.tally.finish::<H>(skip)
    }
}

/// What each part, of at least so many elements, has seen of each region, in the order of memory.
fn by_part<C: Counting>(
    regions: &Regions<'_, '_>,
    summaries: &[Summary],
    least: usize,
    counting: impl Fn() -> C + Sync + Send,
) -> Result<Vec<(usize, Summary)>> {
    let (tensor, tiling) = (regions.tensor(), regions.tiling());
    let skip = regions.non_finite() != NonFinite::Error;
    let same = tensor.element_type() == C::Value::TYPE;
    let step = tensor.chunk_len().max(if same { BORROWED } else { 0 });
    let most = MAX_PARTS.min(THREAD_PARTS.saturating_mul(parallel::threads()));
    let len = tensor.len().div_ceil(most).max(least).next_multiple_of(step);
    let state = || (Vec::new(), counting());
    let parts = parallel::map_indices(
        tensor.len().div_ceil(len),
        tensor.len(),
        state,
        |(scratch, counting), part| {
            let end = ((part + 1) * len).min(tensor.len());
            let mut seen = Vec::new();
            // The region that is being counted.
            let mut open = None;
            for start in (part * len..end).step_by(step) {
                let chunk = start..(start + step).min(end);
                let values = C::values(tensor, chunk.clone(), scratch);
                for (region, run) in tiling.segments(chunk).flat_map(|segment| segment.runs()) {
                    let values = values.get(run.start - start..run.end - start).unwrap_or_default();
                    if open != Some(region) {
                        if let Some(opened) = open.replace(region) {
                            let Some(summary) = counting.finish(skip)? else { return Ok(None) };
                            seen.push((opened, summary));
                        }
                        // Bins that suit what the summary has seen before need not be made coarser at once.
                        let range = summaries.get(region).and_then(Summary::min_max);
                        counting.begin(range, end - run.start)?;
                    }
                    if !counting.add(values, skip)? {
                        return Ok(None);
                    }
                }
            }
            if let Some(opened) = open {
                let Some(summary) = counting.finish(skip)? else { return Ok(None) };
                seen.push((opened, summary));
            }
            Ok(Some(seen))
        },
    );
    let mut all = Vec::new();
    for part in parts {
        let part: Option<Vec<(usize, Summary)>> = part.map_err(|error: DataError| error)?;
        all.extend(part.ok_or_else(|| regions.first_non_finite())?);
    }
    Ok(all)
}
