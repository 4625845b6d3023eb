//! Minimum and maximum: nothing is clipped.

use core::fmt;

use crate::element::{Element, FloatType, Real};
use crate::error::{DataError, Result};
use crate::kernel::reduce;
use crate::parallel;
use crate::tensor::{ClippingRange, NonFinite, Scheme};

use super::{Calibrated, Calibration, Ranges, Region, Regions, min_max_of, range_or_zero};

/// The range from the smallest to the largest value. The default.
///
/// One pass over the tensor, whatever the granularity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MinMax;

impl Calibration for MinMax {
    fn range(&self, region: &Region<'_>, _scheme: &Scheme) -> Result<Calibrated> {
        Ok(min_max_of(region)?.into())
    }

    fn ranges(&self, regions: &Regions<'_, '_>, scheme: &Scheme) -> Result<Ranges> {
        if regions.non_finite() != NonFinite::Error {
            // Skipping single values needs them gathered.
            return Ok(regions
                .map(|region| range_or_zero(self, region, |region| self.range(region, scheme)))?
                .into_iter()
                .collect());
        }
        regions.tiling().check_shape(regions.tensor().shape())?;
        if regions.tensor().element_type() == FloatType::F64 {
            one_pass::<f64>(regions)
        } else {
            one_pass::<f32>(regions)
        }
    }

    fn is_min_max(&self) -> bool {
        true
    }
}

impl fmt::Display for MinMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("minmax")
    }
}

/// Elements that a thread reads before it looks for more work.
const PART: usize = 1 << 18;

/// Elements that are looked at together where they need no conversion.
const BORROWED: usize = 1 << 16;

/// Accumulates the extremes of all regions in the order of memory.
fn one_pass<T: Real>(regions: &Regions<'_, '_>) -> Result<Ranges> {
    let (tensor, tiling, count) = (regions.tensor(), regions.tiling(), regions.len());
    let columns = tiling.columns();
    let parts =
        parallel::map_indices(tensor.len().div_ceil(PART), tensor.len(), Vec::new, |scratch, part| {
            let range = part * PART..((part + 1) * PART).min(tensor.len());
            // The regions that this part touches; for regions along the last axis that is all of them.
            let (mut first, mut last) = if columns.is_some() { (0, count - 1) } else { (count, 0) };
            if columns.is_none() {
                for segment in tiling.segments(range.clone()) {
                    first = first.min(segment.region);
                    last = last.max(segment.region + (segment.blocks() - 1) * segment.stride);
                }
            }
            let mut extremes = Extremes::<T>::new(first, last + 1 - first.min(last + 1));
            // What needs no conversion is borrowed, so that more at once costs nothing.
            let step = if tensor.element_type() == T::TYPE { BORROWED } else { 0 };
            let step = step.max(tensor.chunk_len());
            for start in range.clone().step_by(step) {
                let chunk = start..(start + step).min(range.end);
                let x = tensor.chunk::<T>(chunk.clone(), scratch);
                if let Some(columns) = columns {
                    if !reduce::min_max_columns(x, start % columns, &mut extremes.low, &mut extremes.high) {
                        return Err(regions.first_non_finite());
                    }
                    continue;
                }
                for segment in tiling.segments(chunk.clone()) {
                    let x =
                        x.get(segment.start - start..segment.start - start + segment.len).unwrap_or_default();
                    let finite = if segment.stride == 1 {
                        let blocks = segment.region - first..segment.region - first + segment.blocks();
                        match (extremes.low.get_mut(blocks.clone()), extremes.high.get_mut(blocks)) {
                            (Some(low), Some(high)) => {
                                reduce::min_max(x, segment.width, segment.phase, low, high)
                            }
                            _ => true,
                        }
                    } else {
                        segment.runs().fold(true, |finite, (region, run)| {
                            let x =
                                x.get(run.start - segment.start..run.end - segment.start).unwrap_or_default();
                            let at = region - first..region - first + 1;
                            match (extremes.low.get_mut(at.clone()), extremes.high.get_mut(at)) {
                                (Some(low), Some(high)) => {
                                    reduce::min_max(x, x.len().max(1), 0, low, high) & finite
                                }
                                _ => finite,
                            }
                        })
                    };
                    if !finite {
                        return Err(regions.first_non_finite());
                    }
                }
            }
            Ok(extremes)
        });
    let mut all = Extremes::<T>::new(0, count);
    for part in parts {
        let part = part?;
        let into = all.low.iter_mut().zip(&mut all.high).skip(part.first);
        for ((low, high), (&part_low, &part_high)) in into.zip(part.low.iter().zip(&part.high)) {
            *low = low.min(part_low);
            *high = high.max(part_high);
        }
    }
    let ranges = all
        .low
        .iter()
        .zip(&all.high)
        .enumerate()
        .map(|(region, (low, high))| {
            if low > high {
                return Err(DataError::NoData { region }.into());
            }
            Ok(ClippingRange::new(Element::to_f64(*low), Element::to_f64(*high))?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(ranges.into())
}

/// The extremes of the regions from `first` on.
struct Extremes<T> {
    first: usize,
    low: Vec<T>,
    high: Vec<T>,
}

impl<T: Real> Extremes<T> {
    fn new(first: usize, count: usize) -> Self {
        Self { first, low: vec![T::infinity(); count], high: vec![T::neg_infinity(); count] }
    }
}
