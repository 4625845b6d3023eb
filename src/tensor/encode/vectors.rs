//! Codes of vectors: the nearest one of the region's codebook.

use core::ops::Range;

use crate::element::Real;
use crate::error::{ConfigError, DataError, Result};
use crate::granularity::Tiling;
use crate::kernel::nearest::{Table, nearest};
use crate::kernel::{pack, search};
use crate::parallel;
use crate::tensor::encoding::{Encoding, NonFinite, Rounding};
use crate::tensor::vector_codebook::{Places, VectorGrids, VectorScheme};
use crate::tensor::view::TensorView;

/// Vectors that a thread encodes at a time: a multiple of 8.
const PIECE: usize = 4096;

/// Writes the code of each vector of `tensor` to `bytes`.
pub(super) fn encode<T: Real>(
    tensor: &TensorView<'_>,
    tiling: &Tiling,
    (scheme, grids): (&VectorScheme, &VectorGrids),
    encoding: &Encoding,
    bytes: &mut [u8],
) -> Result<()> {
    let conflict = |setting| Err(ConfigError::Conflict { setting, to: "codes of vectors" }.into());
    if !matches!(encoding.rounding, Rounding::NearestEven | Rounding::NearestAway) {
        return conflict("another rounding than to the nearest");
    }
    if !matches!(encoding.non_finite, NonFinite::Error | NonFinite::NanToZero) {
        return conflict("this policy for NaN");
    }
    let (places, dimension) = (scheme.places(tiling)?, scheme.dimension());
    let books = (0..tiling.regions()).map(|region| Book::<T>::new(grids, region, dimension)).collect();
    let job = Job { tiling, places, dimension, books };
    let bits = scheme.bits().get();
    let piece_bytes = PIECE / 8 * bits as usize;
    let nans =
        parallel::map_chunks(bytes, piece_bytes, tensor.len(), Scratch::default, |scratch, piece, bytes| {
            let Scratch { values, importance, scaled, found, narrow, wide } = scratch;
            let (first, last) = (piece * PIECE, ((piece + 1) * PIECE).min(places.count()));
            let range = places.start(first)..places.start(last);
            let x = tensor.chunk::<T>(range.clone(), values);
            found.clear();
            found.resize(last - first, 0);
            let importance = tensor.importance().map(|weights| weights.chunk::<T>(range.clone(), importance));
            job.piece(range.clone(), x, importance, scaled, found);
            if bits <= 8 {
                narrow.clear();
                narrow.extend(found.iter().map(|&code| code as u8));
                pack::pack(narrow, bits, bytes);
            } else {
                wide.clear();
                wide.extend(found.iter().map(|&code| code as u16));
                pack::pack(wide, bits, bytes);
            }
            let nan = if encoding.non_finite == NonFinite::Error { search::first_nan(x) } else { None };
            nan.map(|at| range.start + at)
        });
    match nans.into_iter().flatten().min() {
        Some(flat) => Err(DataError::NotANumber { index: tensor.index_of(flat) }.into()),
        None => Ok(()),
    }
}

struct Job<'a, T> {
    tiling: &'a Tiling,
    places: Places,
    dimension: usize,
    books: Vec<Book<T>>,
}

impl<T: Real> Job<'_, T> {
    /// Finds the vectors nearest to those of the elements `range`, whose values are `x`. Regions hold whole vectors,
    /// but a stretch of one may go over several lines, each with a shorter vector at its end.
    fn piece(
        &self,
        range: Range<usize>,
        x: &[T],
        importance: Option<&[T]>,
        scaled: &mut (Vec<T>, Vec<T>),
        found: &mut [u32],
    ) {
        let mut rest = found;
        for (region, run) in self.tiling.segments(range.clone()).flat_map(|segment| segment.runs()) {
            let Some(book) = self.books.get(region) else { continue };
            let mut at = run.start;
            while at < run.end {
                let end = self.places.ragged_end(at).unwrap_or(run.end).min(run.end);
                let whole = at + (end - at) / self.dimension * self.dimension;
                for (part, len) in [(at..whole, self.dimension), (whole..end, end - whole)] {
                    let place = part.start - range.start..part.end - range.start;
                    let (here, after) =
                        rest.split_at_mut(part.len().checked_div(len).unwrap_or(0).min(rest.len()));
                    let importance = importance.map(|all| all.get(place.clone()).unwrap_or_default());
                    book.codes(x.get(place).unwrap_or_default(), importance, len, scaled, here);
                    rest = after;
                }
                at = end;
            }
        }
    }
}

/// The codebook of a region, scaled to about 1 so that no distance overflows.
struct Book<T> {
    table: Table<T>,
    /// A power of two.
    scale: T,
}

impl<T: Real> Book<T> {
    fn new(grids: &VectorGrids, region: usize, dimension: usize) -> Self {
        let magnitude = grids.values(region).fold(0.0f64, |largest, number| largest.max(number.abs()));
        // Exact, and of a finite reciprocal.
        let exponent = if magnitude > 0.0 { magnitude.log2().floor().clamp(-120.0, 120.0) } else { 0.0 };
        let scale = T::from_f64((-exponent).exp2());
        let vectors: Vec<T> = grids.values(region).map(|number| T::from_f64(number) * scale).collect();
        Self { table: Table::new(&vectors, dimension), scale }
    }

    /// The codes of vectors of `len` numbers. Infinities saturate far beyond the codebook; NaN counts as zero.
    fn codes(
        &self,
        x: &[T],
        importance: Option<&[T]>,
        len: usize,
        (scaled, weights): &mut (Vec<T>, Vec<T>),
        found: &mut [u32],
    ) {
        let far = T::from_f64(40f64.exp2());
        scaled.clear();
        scaled.extend(x.iter().map(|&x| {
            let x = x * self.scale;
            let x = if x.is_nan() { T::zero() } else { x };
            let x = if x < far { x } else { far };
            if x > -far { x } else { -far }
        }));
        let Some(importance) = importance else { return nearest(scaled, len, None, &self.table, found) };
        // In shares of the largest one of each vector, which change nothing and do not overflow.
        weights.clear();
        for importance in importance.chunks(len.max(1)) {
            let largest = importance.iter().fold(T::zero(), |largest, &weight| largest.max(weight));
            let share = |&weight: &T| if largest > T::zero() { weight / largest } else { T::one() };
            weights.extend(importance.iter().map(share));
        }
        nearest(scaled, len, Some(weights), &self.table, found);
    }
}

/// Buffers of one thread.
struct Scratch<T> {
    values: Vec<T>,
    importance: Vec<T>,
    /// Values and weights of a stretch in the scale of its codebook.
    scaled: (Vec<T>, Vec<T>),
    found: Vec<u32>,
    narrow: Vec<u8>,
    wide: Vec<u16>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            importance: Vec::new(),
            scaled: (Vec::new(), Vec::new()),
            found: Vec::new(),
            narrow: Vec::new(),
            wide: Vec::new(),
        }
    }
}
