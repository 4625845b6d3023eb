//! Codes of vectors: the nearest one of the region's codebook.

use crate::element::Real;
use crate::error::{ConfigError, DataError, Result};
use crate::granularity::Tiling;
use crate::kernel::{Code, pack, vectors};
use crate::parallel;
use crate::tensor::encoding::{Encoding, NonFinite, Rounding};
use crate::tensor::grids::GridArrays;
use crate::tensor::vector_codebook::{VectorGrids, VectorScheme};
use crate::tensor::view::TensorView;

/// Vectors that a thread encodes at a time: a multiple of 8.
const PIECE: usize = 1024;

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
    let places = scheme.places(tiling)?;
    let (count, dimension) = (scheme.bits().levels() as usize, scheme.dimension());
    let books: Vec<Book<T>> =
        (0..grids.len()).map(|region| Book::new(grids, region, count, dimension)).collect();
    let bits = scheme.bits().get();
    let piece_bytes = PIECE / 8 * bits as usize;
    let nans =
        parallel::map_chunks(bytes, piece_bytes, tensor.len(), Scratch::default, |scratch, piece, bytes| {
            let Scratch { values, scaled, narrow, wide } = scratch;
            let (first, last) = (piece * PIECE, ((piece + 1) * PIECE).min(places.count()));
            let range = places.start(first)..places.start(last);
            let x = tensor.chunk::<T>(range.clone(), values);
            let mut nan = None;
            let mut code = |vector: usize| {
                let (from, to) = (places.start(vector), places.start(vector + 1));
                let x = x.get(from - range.start..to - range.start).unwrap_or_default();
                if let Some(at) = x.iter().position(|x| x.is_nan())
                    && encoding.non_finite == NonFinite::Error
                {
                    nan = nan.or(Some(from + at));
                }
                books.get(tiling.region_of(from)).map_or(0, |book| book.code(x, count, scaled))
            };
            if bits <= 8 {
                fill(first..last, narrow, &mut code);
                pack::pack(narrow, bits, bytes);
            } else {
                fill(first..last, wide, &mut code);
                pack::pack(wide, bits, bytes);
            }
            nan
        });
    match nans.into_iter().flatten().min() {
        Some(flat) => Err(DataError::NotANumber { index: tensor.index_of(flat) }.into()),
        None => Ok(()),
    }
}

fn fill<C: Code>(
    vectors: core::ops::Range<usize>,
    codes: &mut Vec<C>,
    code: &mut impl FnMut(usize) -> usize,
) {
    codes.clear();
    codes.extend(vectors.map(|vector| C::from_u16(code(vector) as u16)));
}

/// The codebook of a region, coordinate by coordinate, scaled to about 1 so that no distance overflows.
struct Book<T> {
    columns: Vec<T>,
    /// A power of two.
    scale: T,
}

impl<T: Real> Book<T> {
    fn new(grids: &VectorGrids, region: usize, count: usize, dimension: usize) -> Self {
        let magnitude = grids.values(region).fold(0.0f64, |largest, number| largest.max(number.abs()));
        // Exact, and of a finite reciprocal.
        let exponent = if magnitude > 0.0 { magnitude.log2().floor().clamp(-120.0, 120.0) } else { 0.0 };
        let scale = T::from_f64((-exponent).exp2());
        let mut columns = vec![T::zero(); count * dimension];
        for (at, number) in grids.values(region).map(T::from_f64).enumerate() {
            if let Some(place) = columns.get_mut(at % dimension * count + at / dimension) {
                *place = number * scale;
            }
        }
        Self { columns, scale }
    }

    /// The code of a vector. Infinities saturate far beyond the codebook; NaN counts as zero.
    fn code(&self, x: &[T], count: usize, scaled: &mut Vec<T>) -> usize {
        scaled.clear();
        let far = T::from_f64(40f64.exp2());
        scaled.extend(x.iter().map(|&x| {
            let x = x * self.scale;
            if x.is_nan() { T::zero() } else { x.max(-far).min(far) }
        }));
        vectors::nearest(scaled, &self.columns, count)
    }
}

/// Buffers of one thread.
struct Scratch<T> {
    values: Vec<T>,
    scaled: Vec<T>,
    narrow: Vec<u8>,
    wide: Vec<u16>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self { values: Vec::new(), scaled: Vec::new(), narrow: Vec::new(), wide: Vec::new() }
    }
}
