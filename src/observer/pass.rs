//! One pass over a tensor: the summaries as they are with its values.

use std::collections::BTreeMap;

use crate::calibration::{Evidence, Regions, Values};
use crate::element::{FloatType, Real};
use crate::error::{DataError, Result};
use crate::parallel;
use crate::tensor::NonFinite;

use super::counts::reserved;
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
    let parts = if tensor.element_type() == FloatType::F64 {
        by_part::<f64>(regions, summaries, bins)
    } else {
        by_part::<f32>(regions, summaries, bins)
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

/// What each part has seen of each region, in the order of memory.
fn by_part<T: Real>(
    regions: &Regions<'_, '_>,
    summaries: &[Summary],
    bins: usize,
) -> Result<Vec<(usize, Summary)>> {
    let (tensor, tiling) = (regions.tensor(), regions.tiling());
    let skip = regions.non_finite() != NonFinite::Error;
    let same = tensor.element_type() == T::TYPE;
    let step = tensor.chunk_len().max(if same { BORROWED } else { 0 });
    let len = tensor.len().div_ceil(MAX_PARTS).max(PART).next_multiple_of(step);
    let state = || (Vec::new(), Tally::new(bins));
    let parts =
        parallel::map_indices(tensor.len().div_ceil(len), tensor.len(), state, |(scratch, tally), part| {
            let end = ((part + 1) * len).min(tensor.len());
            let none = Summary::new(bins);
            let mut seen = Vec::new();
            // The region that is being counted, and how many of its values were skipped.
            let mut open: Option<(usize, u64)> = None;
            for start in (part * len..end).step_by(step) {
                let chunk = start..(start + step).min(end);
                let values = tensor.chunk::<T>(chunk.clone(), scratch);
                for (region, run) in tiling.segments(chunk).flat_map(|segment| segment.runs()) {
                    let values = values.get(run.start - start..run.end - start).unwrap_or_default();
                    let skipped = match open {
                        Some((opened, skipped)) if opened == region => skipped,
                        _ => {
                            if let Some((opened, skipped)) = open {
                                seen.push((opened, tally.finish(&none)?.with_skipped(skipped)));
                            }
                            // Bins that suit what the summary has seen before need not be made coarser at once.
                            tally.begin(summaries.get(region).and_then(Summary::min_max), end - run.start)?;
                            0
                        }
                    };
                    match tally.add(values, skip)? {
                        Some(more) => open = Some((region, skipped + more)),
                        None => return Ok(None),
                    }
                }
            }
            if let Some((opened, skipped)) = open {
                seen.push((opened, tally.finish(&none)?.with_skipped(skipped)));
            }
            Ok(Some(seen))
        });
    let mut all = Vec::new();
    for part in parts {
        let part: Option<Vec<(usize, Summary)>> = part.map_err(|error: DataError| error)?;
        all.extend(part.ok_or_else(|| regions.first_non_finite())?);
    }
    Ok(all)
}
