//! Minimum and maximum: nothing is clipped.

use core::fmt;
use core::ops::Range;

use half::{bf16, f16};

use crate::element::{Element, FloatType, Real};
use crate::error::{DataError, Result};
use crate::granularity::Tiling;
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

/// Elements that a thread reads at least before it looks for more work: memory is read from several places of a part at once.
const PART: usize = 1 << 18;

/// Parts for each thread where each has the ranges of all columns: few, for ranges take time to set out and to join, and
/// more than one, for threads are not equally fast.
const SHARES: usize = 2;

/// Elements that are gathered together.
const GATHERED: usize = 1 << 16;

/// Accumulates the extremes of all regions in the order of memory.
fn one_pass<T: Real>(regions: &Regions<'_, '_>) -> Result<Ranges> {
    let (tensor, tiling, count) = (regions.tensor(), regions.tiling(), regions.len());
    if count == 1
        && tensor.len() <= PART
        && let Some(x) = tensor.slice::<T>(0..tensor.len())
    {
        // All of it at once: a small tensor is read in less time than it takes to set out.
        let (mut low, mut high) = ([T::infinity()], [T::neg_infinity()]);
        if !reduce::min_max(x, x.len(), 0, &mut low, &mut high) {
            return Err(regions.first_non_finite().into());
        }
        return Ok(vec![range(0, low[0], high[0])?].into());
    }
    let columns = tiling.columns();
    let part_len = match columns {
        // Of whole lines.
        Some(columns) => {
            tensor.len().div_ceil(SHARES * parallel::threads()).max(PART).next_multiple_of(columns)
        }
        None => parallel::part_len(tensor.len(), PART, parallel::LONGEST),
    };
    let parts =
        parallel::map_indices(tensor.len().div_ceil(part_len), tensor.len(), Vec::new, |scratch, part| {
            let range = part * part_len..((part + 1) * part_len).min(tensor.len());
            // The regions that this part touches; for regions along the last axis that is all of them.
            let (mut first, mut last) = if columns.is_some() { (0, count - 1) } else { (count, 0) };
            if columns.is_none() {
                for segment in tiling.segments(range.clone()) {
                    first = first.min(segment.region);
                    last = last.max(segment.region + (segment.blocks() - 1) * segment.stride);
                }
            }
            let mut extremes = Extremes::<T>::new(first, last + 1 - first.min(last + 1));
            // Numbers of 16 bits are read as they are.
            let as_they_are = match tensor.element_type() {
                FloatType::F16 => {
                    tensor.slice::<f16>(range.clone()).map(|x| extremes.add(x, range.clone(), tiling))
                }
                FloatType::Bf16 => {
                    tensor.slice::<bf16>(range.clone()).map(|x| extremes.add(x, range.clone(), tiling))
                }
                FloatType::F32 | FloatType::F64 => None,
            };
            if let Some(finite) = as_they_are {
                return if finite { Ok(extremes) } else { Err(regions.first_non_finite()) };
            }
            // What needs no conversion is borrowed, so that all of it at once costs nothing.
            let step = match tensor.slice::<T>(range.clone()) {
                Some(_) => range.len().max(1),
                None if tensor.element_type() == T::TYPE => GATHERED.max(tensor.chunk_len()),
                None => tensor.chunk_len(),
            };
            for start in range.clone().step_by(step) {
                let chunk = start..(start + step).min(range.end);
                let x = tensor.chunk::<T>(chunk.clone(), scratch);
                if !extremes.add(x, chunk, tiling) {
                    return Err(regions.first_non_finite());
                }
            }
            Ok(extremes)
        });
    let all = Extremes::joined(parts, count)?;
    let mut ranges = Vec::with_capacity(count);
    for (region, (low, high)) in all.low.iter().zip(&all.high).enumerate() {
        ranges.push(range(region, *low, *high)?);
    }
    Ok(ranges.into())
}

/// The range between the extremes of a region.
fn range<T: Real>(region: usize, low: T, high: T) -> Result<ClippingRange> {
    if low > high {
        return Err(DataError::NoData { region }.into());
    }
    Ok(ClippingRange::new(Element::to_f64(low), Element::to_f64(high))?)
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

    /// Adds the elements `chunk` of the tensor, all of whose regions are there; whether they are finite.
    fn add<A: Element>(&mut self, x: &[A], chunk: Range<usize>, tiling: &Tiling) -> bool {
        if let Some(columns) = tiling.columns() {
            return reduce::min_max_columns(x, chunk.start % columns, &mut self.low, &mut self.high);
        }
        let start = chunk.start;
        tiling.segments(chunk).all(|segment| {
            let place = segment.start - start..segment.start - start + segment.len;
            let x = x.get(place).unwrap_or_default();
            let mut add = |x: &[A], (width, phase): (usize, usize), regions: Range<usize>| {
                let regions = regions.start - self.first..regions.end - self.first;
                match (self.low.get_mut(regions.clone()), self.high.get_mut(regions)) {
                    (Some(low), Some(high)) => reduce::min_max(x, width, phase, low, high),
                    _ => true,
                }
            };
            if segment.stride == 1 {
                let regions = segment.region..segment.region + segment.blocks();
                return add(x, (segment.width, segment.phase), regions);
            }
            segment.runs().fold(true, |finite, (region, run)| {
                let run = run.start - segment.start..run.end - segment.start;
                let x = x.get(run).unwrap_or_default();
                add(x, (x.len().max(1), 0), region..region + 1) & finite
            })
        })
    }

    /// Those of `count` regions, of all parts of the tensor.
    fn joined(parts: Vec<Result<Self, DataError>>, count: usize) -> Result<Self, DataError> {
        let mut all: Option<Self> = None;
        for part in parts {
            let part = part?;
            if all.is_none() && part.first == 0 && part.low.len() == count {
                all = Some(part);
                continue;
            }
            let all = all.get_or_insert_with(|| Self::new(0, count));
            let into = all.low.iter_mut().zip(&mut all.high).skip(part.first);
            for ((low, high), (&part_low, &part_high)) in into.zip(part.low.iter().zip(&part.high)) {
                *low = low.min(part_low);
                *high = high.max(part_high);
            }
        }
        Ok(all.unwrap_or_else(|| Self::new(0, count)))
    }
}
