//! The decisions of an encoding one by one: codes of values that are not known all at once.
//!
//! Methods that fit codes to a layer's data walk through a tensor in an order of their own, by columns for instance.
//! What they decide must be what encoding the tensor would, so they ask the same encoders.

use crate::element::Real;
use crate::error::{ConfigError, Result};
use crate::granularity::Segment;
use crate::kernel::levels::Ties;
use crate::tensor::codes::PackedCodes;
use crate::tensor::decode::{self, decode_segment};
use crate::tensor::encoding::Encoding;
use crate::tensor::grids::Grids;
use crate::tensor::scheme::Scheme;

use super::affine::AffineEncoder;
use super::levels::LevelEncoder;
use super::{Encoder, Pattern};

/// Codes and values on the grids of prepared stretches. The start of a segment counts from the first value of its
/// stretch.
pub(crate) trait Decide<T> {
    /// Writes the code of each value of `x`, which belongs to stretch `span`, as a field of the packed codes.
    fn codes(&self, span: usize, x: &[T], codes: &mut [u16]);

    /// Writes the value of each code.
    fn values(&self, span: usize, codes: &[u16], values: &mut [T]);
}

/// The decisions of `encoding`, which is not stochastic, for stretches whose regions are those of `spans`.
///
/// # Errors
///
/// [`ConfigError::Conflict`] for codes of vectors, and for grids of another kind than the scheme.
pub(crate) fn decider<'a, T: Real>(
    (scheme, grids): (&'a Scheme, &'a Grids),
    encoding: &Encoding,
    spans: &[Vec<Segment>],
) -> Result<Box<dyn Decide<T> + 'a>> {
    let rounding = encoding.rounding;
    let given = (scheme, grids);
    Ok(match given {
        (Scheme::Affine(affine), Grids::Affine(grids)) => {
            Box::new(Spans::new(given, AffineEncoder::new::<T>(affine, grids, encoding, false), spans))
        }
        (Scheme::Levels(levels), Grids::Levels(grids)) => {
            Box::new(Spans::new(given, LevelEncoder::shared::<T>(levels, grids, encoding), spans))
        }
        (Scheme::Codebook(codebook), Grids::Codebook(grids)) => {
            let values = |region| grids.values(region);
            let encoder = LevelEncoder::own::<T, _>(codebook.bits(), rounding, Ties::Low, values);
            Box::new(Spans::new(given, encoder, spans))
        }
        (Scheme::BinaryCode(code), Grids::BinaryCode(grids)) => {
            let values = |region| grids.values(region);
            let encoder = LevelEncoder::own::<T, _>(code.bits(), rounding, Ties::High, values);
            Box::new(Spans::new(given, encoder, spans))
        }
        (Scheme::PiecewiseAffine(pieces), Grids::PiecewiseAffine(grids)) => {
            let values = |region| grids.values(pieces, region);
            let encoder = LevelEncoder::own::<T, _>(pieces.bits(), rounding, Ties::Away, values);
            Box::new(Spans::new(given, encoder, spans))
        }
        _ => {
            let setting = "a decision for single elements";
            return Err(ConfigError::Conflict { setting, to: "codes of vectors" }.into());
        }
    })
}

/// An encoder with the parameters of all stretches.
struct Spans<'a, T, E: Encoder<T>> {
    encoder: E,
    given: (&'a Scheme, &'a Grids),
    sign_bit: u16,
    spans: Vec<Vec<Prepared<T, E::Params>>>,
}

struct Prepared<T, P> {
    segment: Segment,
    encode: P,
    decode: decode::Params<T>,
}

impl<'a, T: Real, E: Encoder<T>> Spans<'a, T, E> {
    fn new(given: (&'a Scheme, &'a Grids), encoder: E, spans: &[Vec<Segment>]) -> Self {
        let (scheme, grids) = given;
        let prepare = |segment: &Segment| {
            let (mut encode, mut decode) = (E::Params::default(), decode::Params::default());
            encoder.fill(segment, &mut encode);
            decode.fill(scheme, grids, segment);
            Prepared { segment: *segment, encode, decode }
        };
        let spans = spans.iter().map(|span| span.iter().map(prepare).collect()).collect();
        let sign_bit = PackedCodes::new(scheme.bits(), scheme.codes().is_signed()).sign_bit();
        Self { encoder, given, sign_bit, spans }
    }

    fn span(&self, span: usize) -> &[Prepared<T, E::Params>] {
        self.spans.get(span).map(Vec::as_slice).unwrap_or_default()
    }
}

impl<T: Real, E: Encoder<T>> Decide<T> for Spans<'_, T, E> {
    fn codes(&self, span: usize, x: &[T], codes: &mut [u16]) {
        for Prepared { segment, encode, .. } in self.span(span) {
            let place = segment.start..segment.start + segment.len;
            let (Some(x), Some(codes)) = (x.get(place.clone()), codes.get_mut(place)) else { continue };
            let pattern = Pattern { width: segment.width, phase: segment.phase };
            self.encoder.encode(x, pattern, encode, None, codes);
        }
    }

    fn values(&self, span: usize, codes: &[u16], values: &mut [T]) {
        for Prepared { segment, decode, .. } in self.span(span) {
            let place = segment.start..segment.start + segment.len;
            let (Some(codes), Some(values)) = (codes.get(place.clone()), values.get_mut(place)) else {
                continue;
            };
            decode_segment(self.given, (self.sign_bit, false), codes, decode.numbers(), segment, values);
        }
    }
}
