//! From real values to packed codes, chunk by chunk over the flattened tensor.
//!
//! A chunk is a multiple of 8 codes, so that chunks never share a packed byte. Within a chunk the tiling
//! names stretches whose regions follow a pattern, and a kernel serves a whole stretch at once.

mod affine;
pub(crate) mod blocks;
mod decide;
mod fake;
mod levels;
mod vectors;

use core::ops::Range;

use half::{bf16, f16};

use crate::element::{Element, FloatType, Real};
use crate::error::{ConfigError, DataError, Result};
use crate::granularity::{Segment, Tiling};
use crate::kernel::fake::Values;
use crate::kernel::levels::Ties;
use crate::kernel::stochastic::Place;
use crate::kernel::{self, Code, pack, search, uniform};
use crate::parallel;

use super::codes::PackedCodes;
use super::encoding::{Encoding, NonFinite, Rounding};
use super::grids::Grids;
use super::scheme::Scheme;
use super::view::TensorView;

pub(crate) use decide::{Decide, decider};
pub(crate) use fake::fake_into;

use affine::AffineEncoder;
use levels::LevelEncoder;

/// Where the numbers of stochastic rounding come from: the number of an element by its index, in [0, 1).
pub(crate) type Uniforms<'a> = &'a (dyn Fn(usize) -> f64 + Sync);

/// Writes the codes of `tensor` on `grids`. The tiling has the shape of the tensor, and `grids` a grid for
/// each of its regions. Stochastic rounding takes its numbers from `uniforms`, or from its seed without them.
pub(crate) fn encode_into(
    tensor: &TensorView<'_>,
    tiling: &Tiling,
    scheme: &Scheme,
    grids: &Grids,
    encoding: &Encoding,
    uniforms: Option<Uniforms<'_>>,
    codes: &mut PackedCodes,
) -> Result<()> {
    check(tensor, tiling, scheme, grids, encoding)?;
    let count = scheme.code_count(tiling)?;
    let bytes = codes.reset(scheme.bits(), scheme.codes().is_signed(), count)?;
    let job = Job { tensor, tiling, bits: scheme.bits().get(), encoding, uniforms };
    if scheme.arithmetic(tensor.element_type()) == FloatType::F64 {
        job.dispatch::<f64>(scheme, grids, bytes)
    } else {
        job.dispatch::<f32>(scheme, grids, bytes)
    }
}

/// Checks that tensor, tiling and grids belong together, and that the rounding is one of the scheme's.
fn check(
    tensor: &TensorView<'_>,
    tiling: &Tiling,
    scheme: &Scheme,
    grids: &Grids,
    encoding: &Encoding,
) -> Result<()> {
    tiling.check_shape(tensor.shape())?;
    Scheme::check_regions(grids.len(), tiling.regions(), tensor.shape())?;
    if matches!(encoding.rounding, Rounding::StochasticSigmoid { .. }) {
        if matches!(scheme, Scheme::Affine(_) | Scheme::VectorCodebook(_)) {
            return Err(ConfigError::Conflict { setting: "the sigmoid", to: "codes of this scheme" }.into());
        }
        if scheme.codes().count() != 2 {
            return Err(ConfigError::Conflict { setting: "the sigmoid", to: "more than two levels" }.into());
        }
    }
    Ok(())
}

/// Writes the codes of `tensor` on codebooks, by the thresholds of each region.
pub(crate) fn encode_by_thresholds(
    tensor: &TensorView<'_>,
    tiling: &Tiling,
    (scheme, grids): (&Scheme, &Grids),
    encoding: &Encoding,
    thresholds: &[Vec<f64>],
    codes: &mut PackedCodes,
) -> Result<()> {
    let (Scheme::Codebook(codebook), Grids::Codebook(books)) = (scheme, grids) else {
        return Err(ConfigError::Conflict { setting: "thresholds", to: "codes without a codebook" }.into());
    };
    tiling.check_shape(tensor.shape())?;
    Scheme::check_regions(grids.len(), tiling.regions(), tensor.shape())?;
    let bytes = codes.reset(scheme.bits(), scheme.codes().is_signed(), tensor.len())?;
    let job = Job { tensor, tiling, bits: scheme.bits().get(), encoding, uniforms: None };
    if scheme.arithmetic(tensor.element_type()) == FloatType::F64 {
        job.run::<f64, _>(&LevelEncoder::by_thresholds(codebook, books, thresholds), bytes)
    } else {
        job.run::<f32, _>(&LevelEncoder::by_thresholds(codebook, books, thresholds), bytes)
    }
}

/// How the values of a segment become codes: one implementation for each kind of grids.
trait Encoder<T>: Sync {
    /// The parameters of the regions of one segment, kept from segment to segment.
    type Params: Default + Send;

    /// Makes `params` those of `segment`.
    fn fill(&self, segment: &Segment, params: &mut Self::Params);

    /// As [`fill`](Self::fill) of a line, for [`encode_lines`](Self::encode_lines).
    fn fill_line(&self, line: &Segment, params: &mut Self::Params) {
        self.fill(line, params);
    }

    /// Writes the code of each value of a stretch that begins in block 0 of `params` at `phase`. Whether any is NaN,
    /// whose code is the lowest.
    fn encode<C: Code>(
        &self,
        x: &[T],
        pattern: Pattern,
        params: &Self::Params,
        uniforms: Option<&[T]>,
        codes: &mut [C],
    ) -> bool;

    /// As [`encode`](Self::encode) of lines, the first of them from the element `phase` on, whose elements have parameters
    /// of their own each, the same in all lines: `params` are those of a line. Values are of `T` or of 16 bits. `None` where
    /// there is no loop for that.
    fn encode_lines<A: Element, C: Code>(
        &self,
        _x: &[A],
        _phase: usize,
        _params: &Self::Params,
        _codes: &mut [C],
    ) -> Option<bool> {
        None
    }

    /// Whether [`encode_halves`](Self::encode_halves) serves blocks of `width`, but for unusual parameters.
    fn reads_halves(&self, _width: usize) -> bool {
        false
    }

    /// Whether [`encode_lines`](Self::encode_lines) serves such numbers in lines of this length, but for unusual parameters.
    fn reads_lines_of_halves(&self, _line: usize) -> bool {
        false
    }

    /// As [`encode`](Self::encode) of numbers of 16 bits; `None` where they have to be widened first.
    fn encode_halves<A: Element, C: Code>(
        &self,
        _x: &[A],
        _pattern: Pattern,
        _params: &Self::Params,
        _codes: &mut [C],
    ) -> Option<bool> {
        None
    }

    /// Whether [`encode_seeded`](Self::encode_seeded) serves blocks of `width`, but for unusual parameters.
    fn serves_seeded(&self, _width: usize) -> bool {
        false
    }

    /// As [`encode`](Self::encode) of values of `T` or of 16 bits, with the numbers of `place`; `None` where there is no loop
    /// that finds them itself.
    fn encode_seeded<A: Element, C: Code>(
        &self,
        _x: &[A],
        _pattern: Pattern,
        _params: &Self::Params,
        _place: Place,
        _codes: &mut [C],
    ) -> Option<bool> {
        None
    }

    /// Whether [`fake`](Self::fake) may serve.
    fn fakes(&self) -> bool {
        false
    }

    /// Whether it may serve from numbers of 16 bits to such numbers, in blocks of `width`.
    fn fakes_halves(&self, _width: usize, _stream: bool) -> bool {
        false
    }

    /// Writes the value of the code of each value of a stretch, as [`encode`](Self::encode) and decoding by the affine
    /// parameters `values` do, past the caches if `stream`. Whether any is NaN; `None` where there is no loop for that.
    /// The values are of `T`, or of 16 bits and of the type of `out`.
    fn fake<B: Element, A: Element>(
        &self,
        _x: &[B],
        _pattern: Pattern,
        _params: &Self::Params,
        _values: Values<'_>,
        _stream: bool,
        _out: &mut [A],
    ) -> Option<bool> {
        None
    }

    /// The code of zero in block `block`.
    fn zero<C: Code>(&self, block: usize, params: &Self::Params) -> C;

    /// The code for NaN, if the grids have one.
    fn nan(&self) -> Option<u16>;
}

/// By which blocks the elements of a stretch share parameters.
#[derive(Clone, Copy)]
struct Pattern {
    width: usize,
    phase: usize,
}

struct Job<'a, 't> {
    tensor: &'a TensorView<'t>,
    tiling: &'a Tiling,
    bits: u32,
    encoding: &'a Encoding,
    uniforms: Option<Uniforms<'a>>,
}

/// Buffers of one thread.
struct Scratch<T, P> {
    values: Vec<T>,
    uniforms: Vec<T>,
    narrow: Vec<u8>,
    wide: Vec<u16>,
    params: P,
}

impl<T, P: Default> Default for Scratch<T, P> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            uniforms: Vec::new(),
            narrow: Vec::new(),
            wide: Vec::new(),
            params: P::default(),
        }
    }
}

/// What is done with an encoder, whichever it is.
trait Task<T> {
    fn run<E: Encoder<T>>(self, job: &Job<'_, '_>, encoder: &E) -> Result<()>;
}

/// Codes, packed.
struct Pack<'a>(&'a mut [u8]);

impl<T: Real> Task<T> for Pack<'_> {
    fn run<E: Encoder<T>>(self, job: &Job<'_, '_>, encoder: &E) -> Result<()> {
        job.run(encoder, self.0)
    }
}

impl Job<'_, '_> {
    /// Runs `task` with the encoder of `grids`, which are not of vectors. `stream`: whether what it writes may go past
    /// the caches.
    fn with_encoder<T: Real>(
        &self,
        scheme: &Scheme,
        grids: &Grids,
        stream: bool,
        task: impl Task<T>,
    ) -> Result<()> {
        let rounding = self.encoding.rounding;
        match (scheme, grids) {
            (Scheme::Affine(scheme), Grids::Affine(grids)) => {
                task.run(self, &AffineEncoder::new::<T>(scheme, grids, self.encoding, stream))
            }
            (Scheme::Levels(scheme), Grids::Levels(grids)) => {
                task.run(self, &LevelEncoder::shared::<T>(scheme, grids, self.encoding))
            }
            (Scheme::Codebook(scheme), Grids::Codebook(grids)) => {
                let values = |region| grids.values(region);
                task.run(self, &LevelEncoder::own::<T, _>(scheme.bits(), rounding, Ties::Low, values))
            }
            (Scheme::BinaryCode(scheme), Grids::BinaryCode(grids)) => {
                let values = |region| grids.values(region);
                task.run(self, &LevelEncoder::own::<T, _>(scheme.bits(), rounding, Ties::High, values))
            }
            (Scheme::PiecewiseAffine(scheme), Grids::PiecewiseAffine(grids)) => {
                let values = |region| grids.values(scheme, region);
                task.run(self, &LevelEncoder::own::<T, _>(scheme.bits(), rounding, Ties::Away, values))
            }
            _ => {
                Err(ConfigError::Conflict { setting: "grids of another kind", to: "the declared scheme" }
                    .into())
            }
        }
    }

    fn dispatch<T: Real>(&self, scheme: &Scheme, grids: &Grids, bytes: &mut [u8]) -> Result<()> {
        if let (Scheme::VectorCodebook(scheme), Grids::VectorCodebook(grids)) = (scheme, grids) {
            return vectors::encode::<T>(self.tensor, self.tiling, (scheme, grids), self.encoding, bytes);
        }
        // Narrower codes are packed before they are written.
        let stream = self.bits == 8 && kernel::streams(self.tensor.bytes().saturating_add(bytes.len()));
        self.with_encoder::<T>(scheme, grids, stream, Pack(bytes))
    }

    /// Elements of a chunk.
    fn chunk_len<T: Real, E: Encoder<T>>(&self, encoder: &E) -> usize {
        let seeded = self.encoding.rounding.seed().is_some();
        if self.bits == 8 && (!seeded || self.serves_seeded(encoder)) {
            self.tensor
                .borrowed_len(|found| found == T::TYPE || found.bits() == 16 && self.reads_halves(encoder))
        } else {
            self.tensor.chunk_len()
        }
    }

    /// Whether numbers of 16 bits are encoded as they are.
    fn reads_halves<T: Real, E: Encoder<T>>(&self, encoder: &E) -> bool {
        let (width, line) = (self.tiling.consecutive_blocks(), self.tiling.columns());
        self.bits == 8
            && match self.encoding.rounding.seed() {
                Some(_) => self.serves_seeded(encoder),
                None => {
                    width.is_some_and(|width| encoder.reads_halves(width))
                        || line.is_some_and(|line| encoder.reads_lines_of_halves(line))
                }
            }
    }

    /// Whether random numbers are found where they are used.
    fn serves_seeded<T: Real, E: Encoder<T>>(&self, encoder: &E) -> bool {
        let width = self.tiling.consecutive_blocks();
        self.uniforms.is_none() && width.is_some_and(|width| encoder.serves_seeded(width))
    }

    /// The error for a NaN in a chunk, if there is one in any.
    fn first_nan(&self, nans: &[Option<usize>]) -> Result<()> {
        match nans.iter().flatten().copied().min() {
            Some(flat) => Err(DataError::NotANumber { index: self.tensor.index_of(flat) }.into()),
            None => Ok(()),
        }
    }

    /// Checks that the policy for NaN has a code for it.
    fn check_nan<T, E: Encoder<T>>(&self, encoder: &E) -> Result<(), ConfigError> {
        if self.encoding.non_finite == NonFinite::Propagate && encoder.nan().is_none() {
            return Err(ConfigError::Conflict { setting: "the propagation of NaN", to: "codes without one" });
        }
        Ok(())
    }

    fn run<T: Real, E: Encoder<T>>(&self, encoder: &E, bytes: &mut [u8]) -> Result<()> {
        self.check_nan(encoder)?;
        let chunk_len = self.chunk_len::<T, E>(encoder);
        let chunk_bytes = chunk_len / 8 * self.bits as usize;
        let len = self.tensor.len();
        let nans =
            parallel::map_chunks(bytes, chunk_bytes, len, Scratch::default, |scratch, chunk, bytes| {
                let range = chunk * chunk_len..((chunk + 1) * chunk_len).min(len);
                self.chunk::<T, E>(encoder, range, scratch, bytes)
            });
        self.first_nan(&nans)
    }

    /// Encodes the elements `range` to `bytes`; the index of the first NaN where that is an error.
    fn chunk<T: Real, E: Encoder<T>>(
        &self,
        encoder: &E,
        range: Range<usize>,
        scratch: &mut Scratch<T, E::Params>,
        bytes: &mut [u8],
    ) -> Option<usize> {
        let Scratch { values, uniforms, narrow, wide, params } = scratch;
        let done = match self.tensor.element_type() {
            FloatType::F16 => self.halves::<T, f16, E>(encoder, range.clone(), params, bytes),
            FloatType::Bf16 => self.halves::<T, bf16, E>(encoder, range.clone(), params, bytes),
            FloatType::F32 | FloatType::F64 => false,
        };
        if done {
            return None;
        }
        let x = self.tensor.chunk::<T>(range.clone(), values);
        if self.bits == 8 {
            return self.segments(encoder, range, x, uniforms, params, bytes);
        }
        if self.bits < 8 {
            narrow.resize(x.len(), 0);
            let nan = self.segments(encoder, range, x, uniforms, params, narrow);
            pack::pack(narrow, self.bits, bytes);
            nan
        } else {
            wide.resize(x.len(), 0);
            let nan = self.segments(encoder, range, x, uniforms, params, wide);
            pack::pack(wide, self.bits, bytes);
            nan
        }
    }

    /// Encodes the elements `range` as they are to codes of 8 bits; `false` where they have to be widened first, or one is
    /// NaN, and nothing written counts.
    fn halves<T: Real, A: Element, E: Encoder<T>>(
        &self,
        encoder: &E,
        range: Range<usize>,
        params: &mut E::Params,
        codes: &mut [u8],
    ) -> bool {
        if !self.reads_halves(encoder) {
            return false;
        }
        let Some(x) = self.tensor.slice::<A>(range.clone()) else { return false };
        if let Some(nan) = self.lines(encoder, range.start, x, params, codes) {
            return !nan;
        }
        self.tiling.segments(range.clone()).all(|segment| {
            let at = segment.start - range.start;
            let place = at..at + segment.len;
            let (Some(x), Some(codes)) = (x.get(place.clone()), codes.get_mut(place)) else { return true };
            encoder.fill(&segment, params);
            let pattern = Pattern { width: segment.width, phase: segment.phase };
            let nan = match self.encoding.rounding.seed() {
                Some(seed) => {
                    let place = Place { seed, first: segment.start as u64 };
                    encoder.encode_seeded(x, pattern, params, place, codes)
                }
                None => encoder.encode_halves(x, pattern, params, codes),
            };
            nan == Some(false)
        })
    }

    /// Writes the codes of the stretch that begins with element `start`, with random numbers where rounding takes any.
    fn encode_segment<T: Real, E: Encoder<T>, C: Code>(
        &self,
        encoder: &E,
        (start, x): (usize, &[T]),
        pattern: Pattern,
        params: &E::Params,
        uniforms: &mut Vec<T>,
        codes: &mut [C],
    ) -> bool {
        if let (Some(seed), None) = (self.encoding.rounding.seed(), self.uniforms) {
            let place = Place { seed, first: start as u64 };
            if let Some(nan) = encoder.encode_seeded(x, pattern, params, place, codes) {
                return nan;
            }
        }
        let uniforms = self.uniforms_of(start..start + x.len(), uniforms);
        encoder.encode(x, pattern, params, uniforms, codes)
    }

    /// The random numbers of the elements `range`, if rounding takes any.
    fn uniforms_of<'s, T: Real>(&self, range: Range<usize>, scratch: &'s mut Vec<T>) -> Option<&'s [T]> {
        let seed = self.encoding.rounding.seed()?;
        scratch.resize(range.len(), T::zero());
        match self.uniforms {
            Some(uniforms) => {
                scratch.iter_mut().zip(range).for_each(|(out, index)| *out = T::from_f64(uniforms(index)));
            }
            None => uniform::fill(seed, range.start as u64, scratch),
        }
        Some(scratch)
    }

    /// The codes of lines that have the same regions, one for each element; `None` where there is no loop for that.
    fn lines<T: Real, A: Element, E: Encoder<T>, C: Code>(
        &self,
        encoder: &E,
        start: usize,
        x: &[A],
        params: &mut E::Params,
        codes: &mut [C],
    ) -> Option<bool> {
        let line = self.tiling.columns().filter(|&line| line <= x.len())?;
        if self.encoding.rounding.seed().is_some() {
            return None;
        }
        let phase = start % line;
        let whole = Segment { start: start - phase, len: line, region: 0, stride: 1, width: 1, phase: 0 };
        encoder.fill_line(&whole, params);
        encoder.encode_lines(x, phase, params, codes)
    }

    fn segments<T: Real, E: Encoder<T>, C: Code>(
        &self,
        encoder: &E,
        range: Range<usize>,
        x: &[T],
        uniforms: &mut Vec<T>,
        params: &mut E::Params,
        codes: &mut [C],
    ) -> Option<usize> {
        if self.lines(encoder, range.start, x, params, codes) == Some(false) {
            return None;
        }
        let mut first_nan = None;
        let mut segments = self.tiling.segments(range.clone());
        // Each is used where it was written: a copy of it would have to wait for that.
        while let Some(segment) = &segments.next() {
            let at = segment.start - range.start;
            let place = at..at + segment.len;
            let (Some(x), Some(codes)) = (x.get(place.clone()), codes.get_mut(place)) else { continue };
            encoder.fill(segment, params);
            let pattern = Pattern { width: segment.width, phase: segment.phase };
            if !self.encode_segment(encoder, (segment.start, x), pattern, params, uniforms, codes) {
                continue;
            }
            let mut replace = |code: &dyn Fn(usize) -> C| {
                for (i, place) in codes.iter_mut().enumerate().filter(|&(i, _)| x[i].is_nan()) {
                    *place = code((segment.phase + i) / segment.width);
                }
            };
            match self.encoding.non_finite {
                NonFinite::Error => {
                    let nan = search::first_nan(x).map(|at| segment.start + at);
                    first_nan = first_nan.or(nan);
                }
                // The kernel has written the lowest code.
                NonFinite::NanToLowest => {}
                NonFinite::NanToZero => replace(&|block| encoder.zero(block, params)),
                NonFinite::Propagate => {
                    let nan = C::from_u16(encoder.nan().unwrap_or_default());
                    replace(&|_| nan);
                }
            }
        }
        first_nan
    }
}
