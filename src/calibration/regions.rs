//! The regions of a tensor, offered one by one with their values gathered.

use core::ops::Range;

use crate::element::{FloatType, Real};
use crate::error::{DataError, Error, Result};
use crate::granularity::Tiling;
use crate::kernel::search;
use crate::parallel;
use crate::tensor::{NonFinite, Note, Notes, TensorView};

use super::evidence::{Evidence, Region, Values};

/// A tensor cut into regions, with the policy for its non-finite values.
#[derive(Debug, Clone)]
pub struct Regions<'a, 't> {
    tensor: &'a TensorView<'t>,
    tiling: &'a Tiling,
    non_finite: NonFinite,
}

/// Elements that are gathered at once, so that a thread's buffers stay in the second-level cache.
const BUNDLE: usize = 1 << 14;
/// Neighbouring elements that are read together where regions are narrow: four cache lines of f32.
const READ: usize = 64;
/// The most elements that a bundle may hold when one line of narrow regions is long.
const MAX_BUNDLE: usize = 1 << 21;

impl<'a, 't> Regions<'a, 't> {
    /// The regions of `tensor` under `tiling`, which has the tensor's shape.
    pub const fn new(tensor: &'a TensorView<'t>, tiling: &'a Tiling, non_finite: NonFinite) -> Self {
        Self { tensor, tiling, non_finite }
    }

    /// The tensor.
    pub const fn tensor(&self) -> &'a TensorView<'t> {
        self.tensor
    }

    /// How it is cut.
    pub const fn tiling(&self) -> &'a Tiling {
        self.tiling
    }

    /// The policy for non-finite values.
    pub const fn non_finite(&self) -> NonFinite {
        self.non_finite
    }

    /// The number of regions.
    pub const fn len(&self) -> usize {
        self.tiling.regions()
    }

    /// Whether there are no regions.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `work` for each region and returns the results in order. Large tensors are shared out to
    /// several threads; the result does not depend on their number.
    ///
    /// A region's values are borrowed where they lie together in the tensor's own type, and gathered
    /// several regions at a time otherwise.
    ///
    /// # Errors
    ///
    /// The error of the first region that fails: that of `work`, or [`DataError::NotANumber`] and
    /// [`DataError::Infinite`] where the policy says so.
    pub fn map<R: Send>(&self, work: impl Fn(&Region<'_>) -> Result<R> + Sync) -> Result<Vec<R>> {
        self.map_with(|| (), |(), region| work(region))
    }

    /// As [`map`](Self::map), with something that `work` can use again from region to region: `buffers` makes it
    /// once for each thread.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub fn map_with<B, R: Send>(
        &self,
        buffers: impl Fn() -> B + Sync + Send,
        work: impl Fn(&mut B, &Region<'_>) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        self.tiling.check_shape(self.tensor.shape())?;
        if self.tensor.element_type() == FloatType::F64 {
            self.map_typed(buffers, |buffers, index, values, importance| {
                let region = Region::new(index, Evidence::Values(Values::F64(values)));
                work(
                    buffers,
                    &importance.map_or(region, |weights| region.with_importance(Values::F64(weights))),
                )
            })
        } else {
            self.map_typed(buffers, |buffers, index, values, importance| {
                let region = Region::new(index, Evidence::Values(Values::F32(values)));
                work(
                    buffers,
                    &importance.map_or(region, |weights| region.with_importance(Values::F32(weights))),
                )
            })
        }
    }

    fn map_typed<T: Real, B, R: Send>(
        &self,
        buffers: impl Fn() -> B + Sync + Send,
        work: impl Fn(&mut B, usize, &[T], Option<&[T]>) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let regions = self.len();
        if regions == 0 {
            return Ok(Vec::new());
        }
        let (blocks, stride) = self.tiling.inner_blocks();
        let per_bundle = self.regions_per_bundle(blocks);
        let bundles_per_line = blocks.div_ceil(per_bundle);
        let bundles = regions / blocks * bundles_per_line;
        let state = || (Scratch::default(), buffers());
        let results =
            parallel::map_indices(bundles, self.tensor.len(), state, |(scratch, buffers), bundle| {
                let (line, part) = (bundle / bundles_per_line, bundle % bundles_per_line);
                let first = line / stride * stride * blocks + line % stride + part * per_bundle * stride;
                let count = per_bundle.min(blocks - part * per_bundle);
                let bundle = Bundle { first, stride, count };
                self.bundle(&bundle, scratch, |region, values, importance| {
                    work(buffers, region, values, importance)
                })
            });
        let mut all = Vec::with_capacity(regions);
        let mut failed: Option<(usize, Error)> = None;
        for result in results {
            match result {
                Ok(bundle) => all.extend(bundle),
                Err((region, error)) => {
                    if failed.as_ref().is_none_or(|(first, _)| region < *first) {
                        failed = Some((region, error));
                    }
                }
            }
        }
        if let Some((_, error)) = failed {
            return Err(error);
        }
        if stride > 1 {
            all.sort_unstable_by_key(|(region, _)| *region);
        }
        Ok(all.into_iter().map(|(_, result)| result).collect())
    }

    /// How many neighbouring regions are gathered together.
    fn regions_per_bundle(&self, blocks: usize) -> usize {
        let elements = (self.tensor.len() / self.len().max(1)).max(1);
        let width = self.tiling.segments(0..1).next().map_or(1, |segment| segment.width);
        let wide = (READ / width).max(BUNDLE / elements).max(1);
        wide.min((MAX_BUNDLE / elements).max(1)).min(blocks.max(1))
    }

    /// Gathers the values of a bundle and calls `work` for each of its regions, with their importance where there is
    /// any. An error comes with its region.
    fn bundle<T: Real, R>(
        &self,
        bundle: &Bundle,
        scratch: &mut Scratch<T>,
        mut work: impl FnMut(usize, &[T], Option<&[T]>) -> Result<R>,
    ) -> Result<Vec<(usize, R)>, (usize, Error)> {
        let Scratch { values, importance, finite } = scratch;
        let runs = self.tiling.bundle_runs(bundle.first, bundle.count);
        let (values, places) = self.gather(self.tensor, bundle, &runs, values);
        let importance =
            self.tensor.importance().map(|weights| self.gather(weights, bundle, &runs, importance).0);
        places
            .into_iter()
            .enumerate()
            .map(|(block, place)| {
                let region = bundle.first + block * bundle.stride;
                let values = values.get(place.clone()).unwrap_or_default();
                let importance = importance.map(|weights| weights.get(place).unwrap_or_default());
                let (values, importance) =
                    self.finite(values, importance, finite).map_err(|error| (region, error.into()))?;
                work(region, values, importance)
                    .map(|result| (region, result))
                    .map_err(|error| (region, error))
            })
            .collect()
    }

    /// The elements of `view` that are in a bundle, and where among them those of each of its regions are.
    fn gather<'s, T: Real>(
        &self,
        view: &'s TensorView<'_>,
        bundle: &Bundle,
        runs: &[Range<usize>],
        buffers: &'s mut Gathered<T>,
    ) -> (&'s [T], Vec<Range<usize>>) {
        let Bundle { first, stride, count } = *bundle;
        let Gathered { chunk, gathered } = buffers;
        if let [run] = runs
            && let pieces = self.tiling.segments(run.clone()).map(|segment| segment.blocks()).sum::<usize>()
            && pieces == count
        {
            let pieces = self.tiling.segments(run.clone()).flat_map(|segment| segment.runs());
            let places = pieces.map(|(_, piece)| piece.start - run.start..piece.end - run.start);
            return (view.chunk::<T>(run.clone(), chunk), places.collect());
        }
        // Each region's values, one after the other.
        let mut places = Vec::with_capacity(count);
        let mut total = 0;
        for block in 0..count {
            places.push(total..total);
            total += self.tiling.region_len(first + block * stride);
        }
        gathered.resize(total, T::zero());
        for run in runs {
            let values = view.chunk::<T>(run.clone(), chunk);
            for segment in self.tiling.segments(run.clone()) {
                let at = segment.start - run.start;
                if segment.width == 1 && segment.stride == stride {
                    // Single elements of neighbouring regions.
                    let values = values.get(at..at + segment.len).unwrap_or_default();
                    let places = places.get_mut((segment.region - first) / stride..).unwrap_or_default();
                    for (value, place) in values.iter().zip(places) {
                        if let Some(to) = gathered.get_mut(place.end) {
                            *to = *value;
                        }
                        place.end += 1;
                    }
                    continue;
                }
                for (region, piece) in segment.runs() {
                    let values =
                        values.get(piece.start - run.start..piece.end - run.start).unwrap_or_default();
                    let Some(place) = places.get_mut((region - first) / stride) else { continue };
                    if let Some(to) = gathered.get_mut(place.end..place.end + values.len()) {
                        to.copy_from_slice(values);
                    }
                    place.end += values.len();
                }
            }
        }
        (gathered, places)
    }

    /// `values` if all of them are finite; else, by the policy, an error or the finite ones. Their importance with them.
    fn finite<'s, T: Real>(
        &self,
        values: &'s [T],
        importance: Option<&'s [T]>,
        finite: &'s mut (Vec<T>, Vec<T>),
    ) -> Result<(&'s [T], Option<&'s [T]>), DataError> {
        if search::first_non_finite(values).is_none() {
            return Ok((values, importance));
        }
        if self.non_finite == NonFinite::Error {
            return Err(self.first_non_finite());
        }
        let (kept, weights) = finite;
        kept.clear();
        kept.extend(values.iter().filter(|value| value.is_finite()));
        let importance = importance.map(|importance| {
            let pairs = values.iter().zip(importance);
            weights.clear();
            weights.extend(pairs.filter(|(value, _)| value.is_finite()).map(|(_, &weight)| weight));
            &**weights
        });
        Ok((kept, importance))
    }

    /// Adds a note for each region in which non-finite values were skipped.
    pub(crate) fn note_skipped(&self, notes: &mut Notes) {
        let mut counts = vec![0; self.len()];
        self.count_skipped(&mut counts);
        let skipped = counts.into_iter().enumerate().filter(|&(_, count)| count > 0);
        notes.extend(skipped.map(|(region, count)| (region, Note::SkippedNonFinite { count })));
    }

    /// Adds to each region's count the number of its non-finite values.
    pub(crate) fn count_skipped(&self, counts: &mut [u64]) {
        let mut scratch = Vec::new();
        for start in (0..self.tensor.len()).step_by(BUNDLE) {
            let range = start..(start + BUNDLE).min(self.tensor.len());
            let x = self.tensor.chunk::<f64>(range.clone(), &mut scratch);
            if search::first_non_finite(x).is_none() {
                continue;
            }
            for (at, _) in x.iter().enumerate().filter(|(_, x)| !x.is_finite()) {
                if let Some(count) = counts.get_mut(self.tiling.region_of(start + at)) {
                    *count += 1;
                }
            }
        }
    }

    /// The error for the first non-finite value of the tensor, whichever region met one first.
    pub(crate) fn first_non_finite(&self) -> DataError {
        let mut scratch = Vec::new();
        for start in (0..self.tensor.len()).step_by(BUNDLE) {
            let range = start..(start + BUNDLE).min(self.tensor.len());
            let x = self.tensor.chunk::<f64>(range, &mut scratch);
            if let Some(at) = search::first_non_finite(x) {
                let index = self.tensor.index_of(start + at);
                return match x.get(at) {
                    Some(&value) if value.is_infinite() => DataError::Infinite { index, value },
                    _ => DataError::NotANumber { index },
                };
            }
        }
        // Not reached: a caller has met one.
        DataError::NotANumber { index: Vec::new() }
    }
}

/// Neighbouring regions that are gathered together: `count` of them from `first` on, `stride` apart.
struct Bundle {
    first: usize,
    stride: usize,
    count: usize,
}

/// Buffers of one thread.
struct Scratch<T> {
    values: Gathered<T>,
    importance: Gathered<T>,
    /// Values and importance without those that are not finite.
    finite: (Vec<T>, Vec<T>),
}

/// Buffers for the elements of a bundle.
struct Gathered<T> {
    chunk: Vec<T>,
    gathered: Vec<T>,
}

impl<T> Default for Gathered<T> {
    fn default() -> Self {
        Self { chunk: Vec::new(), gathered: Vec::new() }
    }
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self { values: Gathered::default(), importance: Gathered::default(), finite: Default::default() }
    }
}
