//! From real values to packed codes and back, chunk by chunk over the flattened tensor.
//!
//! A chunk is a multiple of 8 codes, so that chunks never share a packed byte. Within a chunk the tiling
//! names stretches whose regions follow a pattern, and a kernel serves a whole stretch at once.

use core::ops::Range;

use crate::element::{Element, FloatType, Real};
use crate::error::{DataError, Result};
use crate::granularity::{Segment, Tiling};
use crate::kernel::affine::{self, Arithmetic, EncodeMode, EncodeParams};
use crate::kernel::{Code, pack, reduce};
use crate::parallel;

use super::codes::PackedCodes;
use super::encoding::{Dialect, Encoding, NonFinite, Rounding};
use super::grids::{AffineGrids, Grids, ZeroPoints};
use super::scheme::{AffineScheme, Scheme};
use super::view::{CHUNK, TensorView};

/// Writes the codes of `tensor` on `grids`. The tiling has the shape of the tensor, and `grids` a grid for
/// each of its regions.
pub(crate) fn encode_into(
    tensor: &TensorView<'_>,
    tiling: &Tiling,
    scheme: &Scheme,
    grids: &Grids,
    encoding: &Encoding,
    codes: &mut PackedCodes,
) -> Result<()> {
    tiling.check_shape(tensor.shape())?;
    Scheme::check_regions(grids.len(), tiling.regions(), tensor.shape())?;
    let bytes = codes.reset(scheme.bits(), scheme.codes().is_signed(), tensor.len())?;
    let (Scheme::Affine(scheme), Grids::Affine(grids)) = (scheme, grids);
    let in_f64 = tensor.element_type() == FloatType::F64 || grids.scales().storage() == FloatType::F64;
    let mut encoding = *encoding;
    if encoding.dialect == Dialect::OpenVino
        && !(if in_f64 {
            spans_are_finite::<f64>(scheme, grids)
        } else {
            spans_are_finite::<f32>(scheme, grids)
        })
    {
        // The same number without the span.
        encoding.dialect = Dialect::Gptq;
    }
    let job = Job { tensor, tiling, scheme, grids, encoding: &encoding };
    if in_f64 { job.run::<f64>(bytes) } else { job.run::<f32>(bytes) }
}

/// Whether `S(q_max − Z) − S(q_min − Z)` is finite in `T` for every grid.
fn spans_are_finite<T: Real>(scheme: &AffineScheme, grids: &AffineGrids) -> bool {
    let ends = [scheme.codes().min(), scheme.codes().max()].map(|end| T::from_f64(f64::from(end)));
    (0..grids.len()).filter_map(|region| grids.get(region)).all(|grid| {
        let (scale, zero) = (T::from_f64(grid.scale), T::from_f64(grid.zero_point));
        let [low, high] = ends.map(|end| scale * (end - zero));
        (high - low).is_finite()
    })
}

struct Job<'a, 't> {
    tensor: &'a TensorView<'t>,
    tiling: &'a Tiling,
    scheme: &'a AffineScheme,
    grids: &'a AffineGrids,
    encoding: &'a Encoding,
}

/// Buffers of one thread.
struct Scratch<T> {
    values: Vec<T>,
    narrow: Vec<u8>,
    wide: Vec<u16>,
    params: Params<T>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self { values: Vec::new(), narrow: Vec::new(), wide: Vec::new(), params: Params::default() }
    }
}

impl Job<'_, '_> {
    fn run<T: Real>(&self, bytes: &mut [u8]) -> Result<()> {
        let bits = self.scheme.bits().get();
        let chunk_len = self.tensor.chunk_len();
        let chunk_bytes = chunk_len / 8 * bits as usize;
        let len = self.tensor.len();
        let nans =
            parallel::map_chunks(bytes, chunk_bytes, len, Scratch::default, |scratch, chunk, bytes| {
                let range = chunk * chunk_len..((chunk + 1) * chunk_len).min(len);
                self.chunk::<T>(range, scratch, bytes)
            });
        match nans.into_iter().flatten().min() {
            Some(flat) => Err(DataError::NotANumber { index: self.tensor.index_of(flat) }.into()),
            None => Ok(()),
        }
    }

    /// Encodes the elements `range` to `bytes`; the index of the first NaN where that is an error.
    fn chunk<T: Real>(
        &self,
        range: Range<usize>,
        scratch: &mut Scratch<T>,
        bytes: &mut [u8],
    ) -> Option<usize> {
        let bits = self.scheme.bits().get();
        let x = self.tensor.chunk::<T>(range.clone(), &mut scratch.values);
        let params = &mut scratch.params;
        if bits == 8 {
            return self.segments(range, x, params, bytes);
        }
        if bits < 8 {
            scratch.narrow.resize(x.len(), 0);
            let nan = self.segments(range, x, params, &mut scratch.narrow);
            pack::pack(&scratch.narrow, bits, bytes);
            nan
        } else {
            scratch.wide.resize(x.len(), 0);
            let nan = self.segments(range, x, params, &mut scratch.wide);
            pack::pack(&scratch.wide, bits, bytes);
            nan
        }
    }

    fn segments<T: Real, C: Code>(
        &self,
        range: Range<usize>,
        x: &[T],
        params: &mut Params<T>,
        codes: &mut [C],
    ) -> Option<usize> {
        let mode = mode::<T>(self.scheme, self.encoding);
        let mut first_nan = None;
        for segment in self.tiling.segments(range.clone()) {
            let at = segment.start - range.start;
            let place = at..at + segment.len;
            let (Some(x), Some(codes)) = (x.get(place.clone()), codes.get_mut(place)) else { continue };
            params.fill(self.scheme, self.grids, self.encoding, &segment);
            let has_nan = affine::encode(x, segment.width, segment.phase, &params.view(), &mode, codes);
            if has_nan {
                match self.encoding.non_finite {
                    NonFinite::Error => {
                        let nan = reduce::first_nan(x).map(|at| segment.start + at);
                        first_nan = first_nan.or(nan);
                    }
                    // The kernel has written the lowest code.
                    NonFinite::NanToLowest => {}
                    NonFinite::NanToZero => {
                        for (i, code) in codes.iter_mut().enumerate().filter(|&(i, _)| x[i].is_nan()) {
                            let block = (segment.phase + i) / segment.width;
                            let one = &params.entry(block);
                            affine::encode(&[T::zero()], 1, 0, one, &mode, core::slice::from_mut(code));
                        }
                    }
                }
            }
        }
        first_nan
    }
}

/// What the kernel does in the same way for all regions.
fn mode<T: Real>(scheme: &AffineScheme, encoding: &Encoding) -> EncodeMode<T> {
    let arithmetic = match encoding.dialect {
        Dialect::Onnx | Dialect::Aimet | Dialect::Gptq => Arithmetic::Divide,
        Dialect::Torch | Dialect::FbgemmLegacy | Dialect::Hqq => Arithmetic::Multiply,
        Dialect::OpenVino => Arithmetic::Span,
    };
    let rounding = match encoding.rounding {
        Rounding::NearestEven => affine::Rounding::NearestEven,
        Rounding::NearestAway => affine::Rounding::NearestAway,
        Rounding::Floor => affine::Rounding::Floor,
        Rounding::Ceil => affine::Rounding::Ceil,
        Rounding::TowardZero => affine::Rounding::TowardZero,
    };
    let steps = T::from_f64(f64::from(scheme.codes().max() - scheme.codes().min()));
    EncodeMode { arithmetic, steps, rounding, mask: ((1u32 << scheme.bits().get()) - 1) as u16 }
}

/// Kernel parameters of the blocks of one segment.
struct Params<T> {
    scale: Vec<T>,
    offset: Vec<T>,
    zero: Vec<T>,
    zero_before: Vec<T>,
    low: Vec<T>,
    high: Vec<T>,
    zero_after: Vec<i32>,
    /// The regions that all this is of: first, stride and number.
    regions: Option<(usize, usize, usize)>,
}

impl<T> Default for Params<T> {
    fn default() -> Self {
        Self {
            scale: Vec::new(),
            offset: Vec::new(),
            zero: Vec::new(),
            zero_before: Vec::new(),
            low: Vec::new(),
            high: Vec::new(),
            zero_after: Vec::new(),
            regions: None,
        }
    }
}

impl<T: Real> Params<T> {
    fn fill(&mut self, scheme: &AffineScheme, grids: &AffineGrids, encoding: &Encoding, segment: &Segment) {
        let count = segment.blocks();
        // Lines of the same regions follow each other where those lie along the last axis.
        let regions = Some((segment.region, segment.stride, count));
        if self.regions == regions {
            return;
        }
        self.regions = regions;
        self.scale.clear();
        grids.scales().extend_into(segment.region, segment.stride, count, &mut self.scale);
        fill_zeros(grids, segment, &mut self.zero);
        let Self { scale, offset, zero, zero_before, low, high, zero_after, .. } = self;
        let (q_min, q_max) = (scheme.codes().min(), scheme.codes().max());
        let (real_min, real_max) = (T::from_f64(f64::from(q_min)), T::from_f64(f64::from(q_max)));
        for array in [&mut *offset, zero_before, low, high] {
            array.clear();
        }
        zero_after.clear();
        match encoding.dialect {
            Dialect::Torch | Dialect::FbgemmLegacy | Dialect::Hqq => {
                scale.iter_mut().for_each(|scale| *scale = T::one() / *scale);
            }
            Dialect::OpenVino => {
                for (scale, &zero) in scale.iter_mut().zip(&*zero) {
                    let ends = (*scale * (real_min - zero), *scale * (real_max - zero));
                    offset.push(ends.0);
                    *scale = ends.1 - ends.0;
                }
                low.resize(count, T::zero());
                high.resize(count, real_max - real_min);
                zero_after.resize(count, q_min);
                return;
            }
            Dialect::Onnx | Dialect::Aimet | Dialect::Gptq => {}
        }
        let integer = match grids.zero_points() {
            ZeroPoints::Fixed(zero) => zero.fract() == 0.0,
            ZeroPoints::Integer(_) => true,
            ZeroPoints::Real(_) => false,
        };
        if integer && matches!(encoding.dialect, Dialect::Onnx | Dialect::Torch | Dialect::Aimet) {
            // Clamping before the zero point is added needs bounds moved by it.
            low.extend(zero.iter().map(|&zero| real_min - zero));
            high.extend(zero.iter().map(|&zero| real_max - zero));
            zero_after.extend(zero.iter().map(|&zero| Element::to_f64(zero) as i32));
        } else {
            zero_before.extend_from_slice(zero);
            low.resize(count, real_min);
            high.resize(count, real_max);
        }
    }

    /// The parameters of one block.
    fn entry(&self, block: usize) -> EncodeParams<'_, T> {
        let all = self.view();
        EncodeParams {
            scale: one(all.scale, block),
            offset: one(all.offset, block),
            zero_before: one(all.zero_before, block),
            low: one(all.low, block),
            high: one(all.high, block),
            zero_after: one(all.zero_after, block),
        }
    }

    fn view(&self) -> EncodeParams<'_, T> {
        EncodeParams {
            scale: &self.scale,
            offset: &self.offset,
            zero_before: &self.zero_before,
            low: &self.low,
            high: &self.high,
            zero_after: &self.zero_after,
        }
    }
}

/// Element `index` as a slice; empty where there is none.
fn one<T>(all: &[T], index: usize) -> &[T] {
    all.get(index..=index).unwrap_or_default()
}

/// The zero points of the blocks of `segment`, one per block.
fn fill_zeros<T: Real>(grids: &AffineGrids, segment: &Segment, out: &mut Vec<T>) {
    out.clear();
    let count = segment.blocks();
    match grids.zero_points() {
        ZeroPoints::Fixed(zero) => out.resize(count, T::from_f64(*zero)),
        ZeroPoints::Integer(values) => out.extend(
            (0..count)
                .filter_map(|block| values.get(segment.region + block * segment.stride))
                .map(|zero| T::from_f64(f64::from(zero))),
        ),
        ZeroPoints::Real(values) => values.extend_into(segment.region, segment.stride, count, out),
    }
}

/// Buffers for decoding.
pub(crate) struct DecodeScratch<T> {
    narrow: Vec<u8>,
    wide: Vec<u16>,
    scale: Vec<T>,
    zero: Vec<T>,
    /// The regions that the parameters are of: first, stride and number.
    regions: Option<(usize, usize, usize)>,
}

impl<T> Default for DecodeScratch<T> {
    fn default() -> Self {
        Self { narrow: Vec::new(), wide: Vec::new(), scale: Vec::new(), zero: Vec::new(), regions: None }
    }
}

/// Writes the values of the codes `range` to `out`, which has as many places: `S · (q − Z)` computed in `T`
/// and rounded to `A`.
pub(crate) fn decode_range<T: Real, A: Element>(
    codes: &PackedCodes,
    tiling: &Tiling,
    grids: &AffineGrids,
    range: Range<usize>,
    scratch: &mut DecodeScratch<T>,
    out: &mut [A],
) {
    let bits = codes.bits().get();
    for (piece, out) in out.chunks_mut(CHUNK).enumerate() {
        let start = range.start + piece * CHUNK;
        let range = start..start + out.len();
        let DecodeScratch { narrow, wide, scale, zero, regions } = scratch;
        let mut parameters = |segment: &Segment, scale: &mut Vec<T>, zero: &mut Vec<T>| {
            let wanted = Some((segment.region, segment.stride, segment.blocks()));
            if *regions == wanted {
                return;
            }
            *regions = wanted;
            scale.clear();
            grids.scales().extend_into(segment.region, segment.stride, segment.blocks(), scale);
            fill_zeros(grids, segment, zero);
        };
        let mut decode_all = |fields: Fields<'_>, out: &mut [A]| {
            for segment in tiling.segments(range.clone()) {
                let at = segment.start - range.start;
                let place = at..at + segment.len;
                let Some(out) = out.get_mut(place.clone()) else { continue };
                parameters(&segment, scale, zero);
                let (width, phase, sign) = (segment.width, segment.phase, codes.sign_bit());
                match fields {
                    Fields::Narrow(fields) => {
                        let fields = fields.get(place).unwrap_or_default();
                        affine::decode(fields, sign, width, phase, scale, zero, out);
                    }
                    Fields::Wide(fields) => {
                        let fields = fields.get(place).unwrap_or_default();
                        affine::decode(fields, sign, width, phase, scale, zero, out);
                    }
                }
            }
        };
        if bits == 8 {
            decode_all(Fields::Narrow(codes.as_bytes().get(range.clone()).unwrap_or_default()), out);
        } else if bits < 8 {
            narrow.resize(out.len(), 0);
            pack::unpack(codes.as_bytes(), bits, range.start, narrow);
            decode_all(Fields::Narrow(narrow), out);
        } else {
            wide.resize(out.len(), 0);
            pack::unpack(codes.as_bytes(), bits, range.start, wide);
            decode_all(Fields::Wide(wide), out);
        }
    }
}

#[derive(Clone, Copy)]
enum Fields<'a> {
    Narrow(&'a [u8]),
    Wide(&'a [u16]),
}

/// The type that `S · (q − Z)` is computed in: f64 if the scales or the values are f64.
pub(crate) fn decodes_in_f64(grids: &AffineGrids, element: FloatType) -> bool {
    grids.scales().storage() == FloatType::F64 || element == FloatType::F64
}
