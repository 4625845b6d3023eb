//! From real values to those of their codes, without storing the codes.

use crate::element::{Element, FloatType, Real};
use crate::error::{Result, ShapeError};
use crate::granularity::Tiling;
use crate::kernel::fake::Values;
use crate::kernel::{self, Code, convert, search};
use crate::parallel;
use crate::tensor::decode::{Fields, Params, decodes_in_f64};
use crate::tensor::encoding::{Encoding, NonFinite};
use crate::tensor::grids::Grids;
use crate::tensor::scheme::Scheme;
use crate::tensor::view::TensorView;

use super::{Encoder, Job, Pattern, Scratch, Task};

/// Writes to `out` what quantization on `grids` makes of `tensor`: the bits of encoding and decoding, in one pass.
///
/// Codes of vectors have no way here.
pub(crate) fn fake_into<A: Element>(
    tensor: &TensorView<'_>,
    tiling: &Tiling,
    scheme: &Scheme,
    grids: &Grids,
    encoding: &Encoding,
    out: &mut [A],
) -> Result<()> {
    super::check(tensor, tiling, scheme, grids, encoding)?;
    if out.len() != tensor.len() {
        return Err(ShapeError::Length { found: out.len(), expected: tensor.len() }.into());
    }
    let job = Job { tensor, tiling, bits: scheme.bits().get(), encoding, uniforms: None };
    let stream = kernel::streams(tensor.bytes().saturating_add(size_of_val(out)));
    let fields = Fields { tiling, scheme, grids, sign_bit: sign_bit(scheme), stream };
    if scheme.arithmetic(tensor.element_type()) == FloatType::F64 {
        job.with_encoder::<f64>(scheme, grids, false, Fake { fields, out })
    } else {
        job.with_encoder::<f32>(scheme, grids, false, Fake { fields, out })
    }
}

fn sign_bit(scheme: &Scheme) -> u16 {
    if scheme.codes().is_signed() { 1 << (scheme.bits().get() - 1) } else { 0 }
}

/// Values of codes.
struct Fake<'a, A> {
    fields: Fields<'a>,
    out: &'a mut [A],
}

impl<T: Real, A: Element> Task<T> for Fake<'_, A> {
    fn run<E: Encoder<T>>(self, job: &Job<'_, '_>, encoder: &E) -> Result<()> {
        let Self { fields, out } = self;
        match (decodes_in_f64(fields.scheme, A::TYPE), job.bits <= 8) {
            (false, true) => job.fake::<T, E, f32, u8, A>(encoder, fields, out),
            (false, false) => job.fake::<T, E, f32, u16, A>(encoder, fields, out),
            (true, true) => job.fake::<T, E, f64, u8, A>(encoder, fields, out),
            (true, false) => job.fake::<T, E, f64, u16, A>(encoder, fields, out),
        }
    }
}

impl Job<'_, '_> {
    /// Encodes in `T` and decodes in `U`, chunk by chunk.
    fn fake<T: Real, E: Encoder<T>, U: Real, C: Code, A: Element>(
        &self,
        encoder: &E,
        fields: Fields<'_>,
        out: &mut [A],
    ) -> Result<()> {
        self.check_nan(encoder)?;
        let (chunk_len, len) = (self.tensor.chunk_len(), self.tensor.len());
        let one_loop = U::TYPE == FloatType::F32 && encoder.fakes();
        let width = self.tiling.consecutive_blocks().filter(|_| A::TYPE.bits() == 16);
        let halves = one_loop && width.is_some_and(|width| encoder.fakes_halves(width, fields.stream));
        let read = |found: FloatType| found == T::TYPE || halves && found == A::TYPE;
        let largest = if one_loop { self.tensor.borrowed_len(read) } else { chunk_len };
        // Many chunks at a time share the parameters that they have in common.
        let piece = largest.max(chunk_len * 16);
        let state = || (Scratch::<T, E::Params>::default(), Vec::<C>::new(), Params::<U>::default());
        let nans = parallel::map_chunks(out, piece, len, state, |(scratch, codes, params), index, out| {
            let mut nan = None;
            for (part, out) in out.chunks_mut(largest).enumerate() {
                let start = index * piece + part * largest;
                if one_loop {
                    let found = self.fake_at_once(encoder, &fields, (start, halves), scratch, params, out);
                    if let Some(found) = found {
                        nan = nan.or(found);
                        continue;
                    }
                }
                for (chunk, out) in out.chunks_mut(chunk_len).enumerate() {
                    let start = start + chunk * chunk_len;
                    let range = start..start + out.len();
                    codes.resize(out.len(), C::default());
                    let Scratch { values, uniforms, params: encoding, .. } = scratch;
                    let x = self.tensor.chunk::<T>(range.clone(), values);
                    let found = self.segments(encoder, range, x, uniforms, encoding, codes);
                    nan = nan.or(found);
                    fields.decode(codes, start, params, out);
                }
            }
            nan
        });
        self.first_nan(&nans)
    }

    /// Writes the values from element `start` on without their codes; the index of the first NaN where that is an error.
    /// `None` where it takes codes; `out` holds anything then. `halves`: whether numbers of 16 bits need not be widened first.
    fn fake_at_once<T: Real, E: Encoder<T>, U: Real, A: Element>(
        &self,
        encoder: &E,
        fields: &Fields<'_>,
        (start, halves): (usize, bool),
        scratch: &mut Scratch<T, E::Params>,
        params: &mut Params<U>,
        out: &mut [A],
    ) -> Option<Option<usize>> {
        let Scratch { values, params: encoding, .. } = scratch;
        let range = start..start + out.len();
        let as_they_are = if halves { self.tensor.slice::<A>(range.clone()) } else { None };
        if let Some(x) = as_they_are {
            return self.fake_slice(encoder, fields, (start, x), encoding, params, out);
        }
        let x = self.tensor.chunk::<T>(range.clone(), values);
        self.fake_slice(encoder, fields, (start, x), encoding, params, out)
    }

    /// As [`fake_at_once`](Self::fake_at_once), of the values themselves.
    fn fake_slice<T: Real, B: Element, E: Encoder<T>, U: Real, A: Element>(
        &self,
        encoder: &E,
        fields: &Fields<'_>,
        (start, x): (usize, &[B]),
        encoding: &mut E::Params,
        params: &mut Params<U>,
        out: &mut [A],
    ) -> Option<Option<usize>> {
        let mut first_nan = None;
        for segment in self.tiling.segments(start..start + out.len()) {
            let at = segment.start - start;
            let place = at..at + segment.len;
            let (x, out) = (x.get(place.clone())?, out.get_mut(place)?);
            encoder.fill(&segment, encoding);
            let (scale, zero) = params.of_each(fields.scheme, fields.grids, &segment);
            let values = Values { scale: convert::same(scale)?, zero: convert::same(zero)? };
            let pattern = Pattern { width: segment.width, phase: segment.phase };
            if encoder.fake(x, pattern, encoding, values, fields.stream, out)? {
                match self.encoding.non_finite {
                    NonFinite::Error => {
                        let nan = search::first_nan(x).map(|at| segment.start + at);
                        first_nan = first_nan.or(nan);
                    }
                    NonFinite::NanToLowest => {}
                    NonFinite::NanToZero | NonFinite::Propagate => return None,
                }
            }
        }
        Some(first_nan)
    }
}
