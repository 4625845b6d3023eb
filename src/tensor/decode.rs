//! From packed codes to real values, piece by piece over the flattened tensor.

use core::ops::Range;

use crate::element::{Element, FloatType, Real};
use crate::granularity::{Segment, Tiling};
use crate::kernel::levels::{self, LevelTables};
use crate::kernel::{Code, affine, pack, stream};

use super::affine::{AffineGrids, ZeroPoints};
use super::arrays::{Parameters, repeat};
use super::codes::PackedCodes;
use super::grids::Grids;
use super::scheme::Scheme;
use super::vector_codebook::{VectorGrids, VectorScheme};
use super::view::CHUNK;

/// Buffers for decoding.
pub(crate) struct DecodeScratch<T> {
    narrow: Vec<u8>,
    wide: Vec<u16>,
    params: Params<T>,
}

impl<T> Default for DecodeScratch<T> {
    fn default() -> Self {
        Self { narrow: Vec::new(), wide: Vec::new(), params: Params::default() }
    }
}

/// The parameters of the blocks of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers<'a, T> {
    pub scale: &'a [T],
    /// Empty where nothing is subtracted.
    pub zero: &'a [T],
    /// Values of codes: of all blocks one after the other, or of one table that they share.
    pub values: &'a [T],
}

/// Where [`Numbers`] are that are not read where they are stored.
pub(super) struct Params<T> {
    scale: Parameters<T>,
    zero: Parameters<T>,
    values: Vec<T>,
    /// The regions that the parameters are of: first, stride and number.
    regions: Option<(usize, usize, usize)>,
}

impl<T> Default for Params<T> {
    fn default() -> Self {
        Self { scale: Parameters::new(), zero: Parameters::new(), values: Vec::new(), regions: None }
    }
}

impl<T: Real> Params<T> {
    /// Makes this fit for other grids.
    pub(super) fn forget(&mut self) {
        self.regions = None;
        self.values.clear();
    }

    /// Leaves neither scales nor values.
    fn forget_numbers(&mut self) {
        self.scale.clear();
        self.values.clear();
    }

    /// The parameters of the blocks of a segment.
    pub(super) fn of<'a>(
        &'a mut self,
        scheme: &Scheme,
        grids: &'a Grids,
        segment: &Segment,
    ) -> Numbers<'a, T> {
        let scales = match grids {
            Grids::Affine(grids) => Some(grids.scales()),
            Grids::Levels(grids) => Some(grids.scales()),
            _ => None,
        };
        let (first, stride, count) = (segment.region, segment.stride, segment.blocks());
        // They are read where they are, if they can be.
        let stored = scales.and_then(|scales| scales.slice(first, stride, count));
        self.fill_in(scheme, grids, segment, stored.is_none());
        let numbers = self.numbers();
        Numbers { scale: stored.unwrap_or(numbers.scale), ..numbers }
    }

    /// Scales and zero points of blocks of affine codes, as many of both.
    pub(super) fn of_each<'a>(
        &'a mut self,
        scheme: &Scheme,
        grids: &'a Grids,
        segment: &Segment,
    ) -> (&'a [T], &'a [T]) {
        let count = self.of(scheme, grids, segment).scale.len();
        if self.zero.is_empty() {
            self.zero.resize(count, T::zero());
        }
        let Numbers { scale, zero, .. } = self.of(scheme, grids, segment);
        (scale, zero)
    }

    /// Makes this hold the parameters of the blocks of a segment.
    pub(super) fn fill(&mut self, scheme: &Scheme, grids: &Grids, segment: &Segment) {
        self.fill_in(scheme, grids, segment, true);
    }

    /// What this was made to hold.
    pub(super) fn numbers(&self) -> Numbers<'_, T> {
        Numbers { scale: &self.scale, zero: &self.zero, values: &self.values }
    }

    /// As [`fill`](Self::fill), but for scales if these are not wanted.
    fn fill_in(&mut self, scheme: &Scheme, grids: &Grids, segment: &Segment, scales: bool) {
        let (first, stride, count) = (segment.region, segment.stride, segment.blocks());
        let wanted = Some((first, stride, count));
        if self.regions == wanted {
            return;
        }
        let fresh = self.regions.is_none();
        self.regions = wanted;
        let size = scheme.bits().levels() as usize;
        let regions = (first..).step_by(stride.max(1)).take(count);
        match grids {
            Grids::Affine(grids) => {
                if scales {
                    grids.scales().copy_into(first, stride, count, &mut self.scale);
                }
                match grids.zero_points() {
                    // Nothing is subtracted then.
                    ZeroPoints::Fixed(0.0) => self.zero.clear(),
                    _ => fill_zeros(grids, segment, &mut self.zero),
                }
            }
            Grids::Levels(grids) => {
                if scales {
                    grids.scales().copy_into(first, stride, count, &mut self.scale);
                }
                if fresh && let Scheme::Levels(scheme) = scheme {
                    self.values.extend(grids.values(scheme).map(T::from_f64));
                    self.values.resize(size, T::zero());
                }
            }
            Grids::Codebook(grids) => {
                self.forget_numbers();
                regions.for_each(|region| self.values.extend(grids.values(region).map(T::from_f64)));
            }
            Grids::BinaryCode(grids) => {
                self.forget_numbers();
                regions.for_each(|region| self.values.extend(grids.values(region).map(T::from_f64)));
            }
            Grids::PiecewiseAffine(grids) => {
                self.forget_numbers();
                let Scheme::PiecewiseAffine(scheme) = scheme else { return };
                regions.for_each(|region| {
                    self.values.extend(grids.values(scheme, region).into_iter().map(T::from_f64));
                    // The last code is not in use.
                    self.values.push(T::zero());
                });
            }
            // Decoded vector by vector.
            Grids::VectorCodebook(_) => {}
        }
    }
}

/// Writes the values of the codes `range` to `out`, which has as many places, computed in `T` and rounded to `A`,
/// past the caches if `stream`.
pub(crate) fn decode_range<T: Real, A: Element>(
    codes: &PackedCodes,
    tiling: &Tiling,
    (scheme, grids): (&Scheme, &Grids),
    range: Range<usize>,
    scratch: &mut DecodeScratch<T>,
    stream: bool,
    out: &mut [A],
) {
    if let (Scheme::VectorCodebook(scheme), Grids::VectorCodebook(grids)) = (scheme, grids) {
        return decode_vectors::<T, A>(codes, tiling, (scheme, grids), range, out);
    }
    let bits = codes.bits().get();
    let DecodeScratch { narrow, wide, params } = scratch;
    // The buffers may come from another tensor.
    params.forget();
    let fields = Fields { tiling, scheme, grids, sign_bit: codes.sign_bit(), stream };
    if bits == 8 {
        let bytes = codes.as_bytes().get(range.clone()).unwrap_or_default();
        fields.decode(bytes, range.start, params, out);
        if stream {
            stream::finish();
        }
        return;
    }
    if bits == 4 && fields.decode_nibbles(codes.as_bytes(), range.start, params, out) {
        return;
    }
    // Tables of many blocks would leave the first-level cache, and so would codes that are unpacked.
    let shared = matches!(grids, Grids::Levels(_));
    if bits == 4
        && shared
        && decode_packed(codes, tiling, (scheme, grids), range.clone(), params, stream, out)
    {
        if stream {
            stream::finish();
        }
        return;
    }
    for (piece, out) in out.chunks_mut(CHUNK).enumerate() {
        let start = range.start + piece * CHUNK;
        let range = start..start + out.len();
        if bits == 4 && !shared && decode_packed(codes, tiling, (scheme, grids), range, params, stream, out) {
            continue;
        }
        if bits < 8 {
            narrow.resize(out.len(), 0);
            pack::unpack(codes.as_bytes(), bits, start, narrow);
            fields.decode(narrow, start, params, out);
        } else {
            wide.resize(out.len(), 0);
            pack::unpack(codes.as_bytes(), bits, start, wide);
            fields.decode(wide, start, params, out);
        }
    }
    if stream {
        stream::finish();
    }
}

/// Decodes 4-bit codes of levels that need not be unpacked first; `false` where they do.
fn decode_packed<T: Real, A: Element>(
    codes: &PackedCodes,
    tiling: &Tiling,
    (scheme, grids): (&Scheme, &Grids),
    range: Range<usize>,
    params: &mut Params<T>,
    stream: bool,
    out: &mut [A],
) -> bool {
    if matches!(grids, Grids::Affine(_)) {
        return false;
    }
    let shared = matches!(grids, Grids::Levels(_));
    tiling.segments(range.clone()).all(|segment| {
        let at = segment.start - range.start;
        let Some(out) = out.get_mut(at..at + segment.len) else { return true };
        let Numbers { scale, values, .. } = params.of(scheme, grids, &segment);
        let tables = LevelTables { values, size: 16, shared, scale };
        let pattern = (segment.width, segment.phase);
        levels::decode_nibbles(codes.as_bytes(), segment.start, &tables, pattern, stream, out)
    })
}

/// What codes without their packing stand for.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub tiling: &'a Tiling,
    pub scheme: &'a Scheme,
    pub grids: &'a Grids,
    /// The bit of a code that carries its sign, or 0.
    pub sign_bit: u16,
    /// Whether values go past the caches.
    pub stream: bool,
}

impl Fields<'_> {
    /// As [`decode`](Self::decode) of packed codes of 4 bits on uniform grids, without unpacking them; `false` where they
    /// have to be.
    fn decode_nibbles<T: Real, A: Element>(
        &self,
        bytes: &[u8],
        start: usize,
        params: &mut Params<T>,
        out: &mut [A],
    ) -> bool {
        let affine = matches!(self.grids, Grids::Affine(_));
        affine
            && self.tiling.segments(start..start + out.len()).all(|segment| {
                let (first, pattern) = (segment.start, (segment.width, segment.phase));
                let at = first - start;
                let Some(out) = out.get_mut(at..at + segment.len) else { return true };
                if !affine::reads_nibbles::<T>(first, pattern, out.len()) {
                    return false;
                }
                let Numbers { scale, zero, .. } = params.of(self.scheme, self.grids, &segment);
                let Self { sign_bit, stream, .. } = *self;
                affine::decode_nibbles(bytes, first, sign_bit, pattern, scale, zero, stream, out)
            })
    }

    /// Writes the values of codes, the first of them that of element `start`, to as many places.
    pub(super) fn decode<T: Real, C: Code, A: Element>(
        &self,
        codes: &[C],
        start: usize,
        params: &mut Params<T>,
        out: &mut [A],
    ) {
        for segment in self.tiling.segments(start..start + out.len()) {
            let at = segment.start - start;
            let place = at..at + segment.len;
            let (Some(codes), Some(out)) = (codes.get(place.clone()), out.get_mut(place)) else { continue };
            let numbers = params.of(self.scheme, self.grids, &segment);
            let Self { sign_bit, stream, .. } = *self;
            decode_segment((self.scheme, self.grids), (sign_bit, stream), codes, numbers, &segment, out);
        }
    }
}

/// Writes the values of the codes of one segment, whose parameters are `numbers`; past the caches if `stream`.
pub(super) fn decode_segment<T: Real, C: Code, A: Element>(
    (scheme, grids): (&Scheme, &Grids),
    (sign_bit, stream): (u16, bool),
    codes: &[C],
    numbers: Numbers<'_, T>,
    segment: &Segment,
    out: &mut [A],
) {
    let Segment { width, phase, .. } = *segment;
    let Numbers { scale, zero, values } = numbers;
    if let Grids::Affine(_) = grids {
        return affine::decode(codes, sign_bit, width, phase, scale, zero, stream, out);
    }
    let size = scheme.bits().levels() as usize;
    let shared = matches!(grids, Grids::Levels(_));
    levels::decode(codes, &LevelTables { values, size, shared, scale }, width, phase, stream, out);
}

/// As [`decode_range`], where a code stands for a vector.
fn decode_vectors<T: Real, A: Element>(
    codes: &PackedCodes,
    tiling: &Tiling,
    (scheme, grids): (&VectorScheme, &VectorGrids),
    range: Range<usize>,
    out: &mut [A],
) {
    // The regions of a tensor hold whole vectors.
    let Ok(places) = scheme.places(tiling) else { return };
    let (first, end) = (range.start, range.end.min(range.start + out.len()));
    let mut at = first;
    while at < end {
        let (vector, skip) = places.of(at);
        let to = places.start(vector + 1).min(end);
        let code = codes.get(vector).map_or(0, |code| code as usize);
        let numbers = grids.vector(tiling.region_of(at), code).skip(skip);
        let here = out.get_mut(at - first..to - first).unwrap_or_default();
        here.iter_mut().zip(numbers).for_each(|(out, number)| *out = T::from_f64(number).to_element());
        at = to.max(at + 1);
    }
}

/// The zero points of the blocks of `segment`, one per block.
pub(super) fn fill_zeros<T: Real>(grids: &AffineGrids, segment: &Segment, out: &mut Parameters<T>) {
    let count = segment.blocks();
    match grids.zero_points() {
        ZeroPoints::Fixed(zero) => {
            out.clear();
            repeat(T::from_f64(*zero), count, out);
        }
        ZeroPoints::Integer(values) => {
            out.clear();
            out.extend(
                (0..count)
                    .filter_map(|block| values.get(segment.region + block * segment.stride))
                    .map(|zero| T::from_f64(f64::from(zero))),
            );
        }
        ZeroPoints::Real(values) => values.copy_into(segment.region, segment.stride, count, out),
    }
}

/// The type that values are computed in.
pub(crate) fn decodes_in_f64(scheme: &Scheme, element: FloatType) -> bool {
    scheme.arithmetic(element) == FloatType::F64
}
