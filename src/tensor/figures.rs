//! Figures of a quantized tensor that need its codes or its original.

use core::ops::Range;

use ndarray::{ArrayRef, Dimension};

use crate::element::{Element, FloatType, Real};
use crate::error::Result;
use crate::kernel::errors::error_sums;
use crate::kernel::presence::Presence;
use crate::metrics::Errors;
use crate::parallel;
use crate::solve::scalar::entropy;

use super::affine::ZeroPointRule;
use super::codes::sign_extend;
use super::decode::decodes_in_f64;
use super::grids::Grid;
use super::quantized::QuantizedTensor;
use super::scheme::Scheme;
use super::view::{CHUNK, TensorView};

impl QuantizedTensor {
    /// The errors of the restored tensor against `original`, chunk by chunk: nothing of the size of the tensor is
    /// allocated.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`](crate::ShapeError::Mismatch) unless `original` has the shape of the tensor.
    pub fn errors_against<A: Element, D: Dimension>(&self, original: &ArrayRef<A, D>) -> Result<Errors> {
        self.check_shape(original.shape())?;
        let tensor = TensorView::new(original);
        let (len, chunk_len) = (tensor.len(), tensor.chunk_len());
        let parts = if decodes_in_f64(self.scheme(), A::TYPE) {
            parallel::map_indices(len.div_ceil(chunk_len), len, Default::default, |scratch, chunk| {
                self.chunk_errors::<f64>(&tensor, chunk, scratch)
            })
        } else {
            parallel::map_indices(len.div_ceil(chunk_len), len, Default::default, |scratch, chunk| {
                self.chunk_errors::<f32>(&tensor, chunk, scratch)
            })
        };
        Ok(parts.into_iter().flatten().fold(Errors::default(), Errors::merge))
    }

    /// The errors of chunk `chunk`, in pieces of one length whatever the layout, for one order of all sums.
    fn chunk_errors<T: Real>(
        &self,
        tensor: &TensorView<'_>,
        chunk: usize,
        scratch: &mut Compare<T>,
    ) -> Vec<Errors> {
        let Compare { values, restored } = scratch;
        let range = chunk * tensor.chunk_len()..((chunk + 1) * tensor.chunk_len()).min(self.len());
        restored.resize(range.len(), T::zero());
        self.decode_piece(range.clone(), false, restored);
        let values = tensor.chunk::<T>(range, values);
        values.chunks(CHUNK).zip(restored.chunks(CHUNK)).map(|(a, b)| error_sums(a, b).into()).collect()
    }

    /// The share of `original`'s elements that lie outside the clipping range of their region. NaN for a tensor
    /// without elements.
    ///
    /// Storing a scale moves the range by its rounding, and an integer zero point by up to half a step: values
    /// beyond by no more than that do not count.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`](crate::ShapeError::Mismatch) unless `original` has the shape of the tensor.
    pub fn clipped_share<A: Element, D: Dimension>(&self, original: &ArrayRef<A, D>) -> Result<f64> {
        self.check_shape(original.shape())?;
        let tensor = TensorView::new(original);
        let (len, chunk_len) = (tensor.len(), tensor.chunk_len());
        let clipped = parallel::map_indices(len.div_ceil(chunk_len), len, Vec::new, |scratch, chunk| {
            let range = chunk * chunk_len..((chunk + 1) * chunk_len).min(len);
            let x = tensor.chunk::<f64>(range.clone(), scratch);
            let mut clipped = 0u64;
            for (region, run) in self.tiling().segments(range.clone()).flat_map(|segment| segment.runs()) {
                let Some((low, high)) = self.unclipped(region) else { continue };
                let values = x.get(run.start - range.start..run.end - range.start).unwrap_or_default();
                clipped += values.iter().filter(|&&x| x < low || x > high).count() as u64;
            }
            clipped
        });
        Ok(clipped.into_iter().sum::<u64>() as f64 / len as f64)
    }

    /// Between which values nothing counts as clipped in region `region`.
    fn unclipped(&self, region: usize) -> Option<(f64, f64)> {
        let range = self.clipping_range(region)?;
        let (scheme, grid) = match (self.scheme(), self.grid(region)?) {
            (Scheme::Affine(scheme), Grid::Affine(grid)) => (scheme, grid),
            (scheme, grid) => {
                // Levels that are powers are never nearer to the range than to the next power.
                let slack = match grid {
                    Grid::Levels(_) => scheme.storage().epsilon() * range.magnitude(),
                    _ => FloatType::F32.epsilon() * range.magnitude(),
                };
                return Some((range.low() - slack, range.high() + slack));
            }
        };
        let nudged = if scheme.zero_point() == ZeroPointRule::Integer { grid.scale.abs() / 2.0 } else { 0.0 };
        // What storing scale and real zero point can have moved; small f16 scales are subnormal, with fewer digits.
        let digits = match scheme.scales() {
            storage if storage == FloatType::F16 => {
                storage.epsilon().max(FloatType::F16.min_scale() / grid.scale.abs())
            }
            storage => storage.epsilon(),
        };
        let slack = nudged + digits * (range.magnitude() + (grid.scale * grid.zero_point).abs());
        Some((range.low() - slack, range.high() + slack))
    }

    /// The entropy of the codes in bits for each code: what an ideal entropy coder needs that knows how frequent each code
    /// is in its region. Parameters are not counted. NaN for a tensor without elements.
    ///
    /// `H = Σ nᵣ/n · Σₖ −pᵣₖ log₂ pᵣₖ` over the regions r and their codes k.
    pub fn entropy(&self) -> f64 {
        let regions = self.tiling().regions();
        let codes = self.scheme().codes();
        let bits = parallel::map_indices(regions, self.len(), Vec::new, |counts: &mut Vec<u64>, region| {
            counts.clear();
            counts.resize(codes.count() as usize, 0);
            let mut total = 0u64;
            self.for_each_code(region, &mut |code: i32| {
                if let Some(count) = counts.get_mut((code - codes.min()) as usize) {
                    *count += 1;
                }
                total += 1;
            });
            (total, entropy(counts) * total as f64)
        });
        let (total, bits) = bits.into_iter().fold((0, 0.0), |(n, sum), (m, bits)| (n + m, sum + bits));
        bits / total as f64
    }

    /// Calls `look` for each code of a region.
    fn for_each_code(&self, region: usize, look: &mut impl FnMut(i32)) {
        self.code_runs(region).for_each(|run| self.codes().for_each(run, look));
    }

    /// The places of the codes of a region.
    fn code_runs(&self, region: usize) -> impl Iterator<Item = Range<usize>> {
        let at = |index| self.scheme().code_of(self.tiling(), index).unwrap_or(index);
        let runs = self.tiling().region_runs(region).into_iter().filter(|run| !run.is_empty());
        runs.map(move |run| at(run.start)..at(run.end - 1) + 1)
    }

    /// The number of codes in use in a region, of more than 8 bits.
    fn wide_codes_used(&self, region: usize, seen: &mut Vec<usize>) -> u64 {
        let codes = self.scheme().codes();
        // For each code the region that it was last seen in, counted from 1, so that nothing is cleared.
        seen.resize(codes.count() as usize, 0);
        let mut used = 0;
        let mut look = |code: i32| {
            if let Some(last) =
                seen.get_mut((code - codes.min()) as usize).filter(|last| **last != region + 1)
            {
                *last = region + 1;
                used += 1;
            }
        };
        self.for_each_code(region, &mut look);
        used
    }

    /// The share of the available codes that occur, over all regions: 1 if every region uses every code.
    /// NaN for a tensor without elements.
    pub fn codes_used(&self) -> f64 {
        if self.is_empty() {
            return f64::NAN;
        }
        let (regions, codes) = (self.tiling().regions(), self.scheme().codes());
        let state = || (Presence::new(self.codes().bits().get()), Vec::new());
        let used = parallel::map_indices(regions, self.len(), state, |(presence, seen), region| {
            let Some(presence) = presence else { return self.wide_codes_used(region, seen) };
            presence.clear();
            for run in self.code_runs(region) {
                presence.look(self.codes().as_bytes(), run.start, run.len(), codes.count() as usize);
            }
            let code = |field| sign_extend(field, self.codes().sign_bit());
            let places = (0..).zip(presence.fields()).filter(|&(_, seen)| seen);
            places.filter(|&(field, _)| codes.contains(code(field))).count() as u64
        });
        used.into_iter().sum::<u64>() as f64 / (regions as f64 * f64::from(codes.count()))
    }
}

/// Buffers of one thread that compares.
struct Compare<T> {
    values: Vec<T>,
    restored: Vec<T>,
}

impl<T> Default for Compare<T> {
    fn default() -> Self {
        Self { values: Vec::new(), restored: Vec::new() }
    }
}
