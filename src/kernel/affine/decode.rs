//! Codes of uniform grids to values.

#[cfg(target_arch = "x86_64")]
use half::bf16;
use half::f16;

use super::super::convert::{convert, same, same_mut};
use super::super::{Code, dispatch, runs, stream};
#[cfg(target_arch = "x86_64")]
use super::super::{nibbles, widen};
use super::{LONG, STEP, covered, entries};
use crate::element::{Element, FloatType, Real};

/// The value of one code.
#[inline(always)]
fn decode_one<T: Real, C: Code>(code: C, sign_bit: u16, scale: T, zero: T) -> T {
    let q = i32::from(code.to_u16() ^ sign_bit) - i32::from(sign_bit);
    let q = if T::TYPE == FloatType::F64 {
        <T as Element>::from_f64(f64::from(q))
    } else {
        <T as Element>::from_f32(q as f32)
    };
    scale * (q - zero)
}

dispatch! {
    /// Decodes within the lengths that [`decode`] has made equal.
    fn decode_real[T: Real, C: Code](
        codes: &[C],
        sign_bit: u16,
        width: usize,
        phase: usize,
        scale: &[T],
        zero: &[T],
        out: &mut [T],
    ) {
        let len = codes.len().min(out.len());
        if width <= 1 {
            if zero.is_empty() {
                for ((out, code), scale) in out.iter_mut().zip(codes).zip(scale) {
                    *out = decode_one(*code, sign_bit, *scale, T::zero());
                }
            } else {
                for (((out, code), scale), zero) in out.iter_mut().zip(codes).zip(scale).zip(zero) {
                    *out = decode_one(*code, sign_bit, *scale, *zero);
                }
            }
            return;
        }
        for (j, from, to) in runs(len, width, phase) {
            let Some(&scale) = scale.get(j) else { break };
            let zero = zero.get(j).copied().unwrap_or(T::zero());
            let long = (to - from) / LONG * LONG;
            let (out_long, out) = out[from..to].split_at_mut(long);
            let (codes_long, codes) = codes[from..to].split_at(long);
            for (out, code) in out_long.iter_mut().zip(codes_long) {
                *out = decode_one(*code, sign_bit, scale, zero);
            }
            let (out_steps, out_rest) = out.as_chunks_mut::<STEP>();
            let (code_steps, code_rest) = codes.as_chunks::<STEP>();
            for (out, codes) in out_steps.iter_mut().zip(code_steps) {
                for (out, code) in out.iter_mut().zip(codes) {
                    *out = decode_one(*code, sign_bit, scale, zero);
                }
            }
            for (out, code) in out_rest.iter_mut().zip(code_rest) {
                *out = decode_one(*code, sign_bit, scale, zero);
            }
        }
    }
}

/// Decodes by the pattern of `width` and `phase`: `scale · (q − zero)`, computed in `T` and rounded
/// to `A`, with `q = (code ^ sign_bit) − sign_bit`.
///
/// `sign_bit` is 0 for unsigned codes and `2^(b−1)` for signed ones; an empty `zero` is 0. Values go past the caches if
/// `stream`, where a loop can do that: faster for what does not fit them.
#[allow(clippy::too_many_arguments)]
pub(crate) fn decode<T: Real, C: Code, A: Element>(
    codes: &[C],
    sign_bit: u16,
    width: usize,
    phase: usize,
    scale: &[T],
    zero: &[T],
    stream: bool,
    out: &mut [A],
) {
    let entries = entries([scale.len()], [zero.len()]);
    let len = codes.len().min(out.len()).min(covered(entries, width, phase));
    debug_assert!(len == codes.len() && len == out.len(), "lengths of a decoding differ");
    let (codes, out) = (&codes[..len], &mut out[..len]);
    if let Some(out) = same_mut::<A, T>(out) {
        return decode_same(codes, sign_bit, width, phase, scale, zero, stream, out);
    }
    #[cfg(target_arch = "x86_64")]
    if let (Some(codes), Some(scale), Some(zero)) =
        (C::bytes(codes), same::<T, f32>(scale), same::<T, f32>(zero))
    {
        let pattern = (width, phase);
        let done = if let Some(out) = same_mut::<A, f16>(out) {
            widen::decode(codes, sign_bit, pattern, scale, zero, stream, out)
        } else if let Some(out) = same_mut::<A, bf16>(out) {
            widen::decode(codes, sign_bit, pattern, scale, zero, stream, out)
        } else {
            false
        };
        if done {
            return;
        }
    }
    let width = width.max(1);
    let phase = phase % width;
    staged(stream, phase, &mut [T::zero(); DECODED], out, |at, stage| {
        let codes = &codes[at - phase..][..stage.len()];
        let zero = zero.get(at / width..).unwrap_or_default();
        decode_same(codes, sign_bit, width, at % width, &scale[at / width..], zero, false, stage);
        true
    });
}

/// Whether [`decode_nibbles`] serves `len` codes from number `first` on, in the arithmetic of `T`.
pub(crate) fn reads_nibbles<T: Real>(first: usize, pattern: (usize, usize), len: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    return T::TYPE == FloatType::F32 && first.is_multiple_of(2) && nibbles::serves(pattern, len);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (first, pattern, len);
        false
    }
}

/// As [`decode`] of the packed codes of 4 bits from number `first` on, without unpacking them; false where there is no loop
/// for that, and what was written does not count.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::too_many_arguments)]
pub(crate) fn decode_nibbles<T: Real, A: Element>(
    bytes: &[u8],
    first: usize,
    sign_bit: u16,
    (width, phase): (usize, usize),
    scale: &[T],
    zero: &[T],
    stream: bool,
    out: &mut [A],
) -> bool {
    let enough = covered(entries([scale.len()], [zero.len()]), width, phase) >= out.len();
    if !enough || !reads_nibbles::<T>(first, (width, phase), out.len()) {
        return false;
    }
    let (Some(scale), Some(zero), Some(bytes)) =
        (same::<T, f32>(scale), same::<T, f32>(zero), bytes.get(first / 2..))
    else {
        return false;
    };
    let signed = sign_bit != 0;
    if let Some(out) = same_mut::<A, f32>(out) {
        return nibbles::decode(bytes, signed, (width, phase), scale, zero, stream, out);
    }
    let done = if let Some(out) = same_mut::<A, f16>(out) {
        nibbles::decode_halves(bytes, signed, (width, phase), scale, zero, stream, out)
    } else if let Some(out) = same_mut::<A, bf16>(out) {
        nibbles::decode_halves(bytes, signed, (width, phase), scale, zero, stream, out)
    } else {
        false
    };
    if done {
        return true;
    }
    let mut stage = [0.0; DECODED];
    staged(stream, phase, &mut stage, out, |at, stage| {
        let zero = zero.get(at / width..).unwrap_or_default();
        let bytes = bytes.get((at - phase) / 2..).unwrap_or_default();
        let pattern = (width, at % width);
        nibbles::decode(bytes, signed, pattern, &scale[at / width..], zero, false, stage)
    })
}

/// As above, for machines without such a loop.
#[cfg(not(target_arch = "x86_64"))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn decode_nibbles<T: Real, A: Element>(
    _bytes: &[u8],
    _first: usize,
    _sign_bit: u16,
    _pattern: (usize, usize),
    _scale: &[T],
    _zero: &[T],
    _stream: bool,
    _out: &mut [A],
) -> bool {
    false
}

/// Rounds to `A` what `decode` writes to a stage from a position in the pattern on; false as soon as it cannot.
fn staged<T: Real, A: Element>(
    stream: bool,
    phase: usize,
    stage: &mut [T; DECODED],
    out: &mut [A],
    mut decode: impl FnMut(usize, &mut [T]) -> bool,
) -> bool {
    let mut narrow = [A::default(); DECODED];
    for (block, out) in out.chunks_mut(DECODED).enumerate() {
        let stage = &mut stage[..out.len()];
        if !decode(phase + block * DECODED, stage) {
            return false;
        }
        if A::TYPE == FloatType::F16 {
            // A step beyond the largest half is still within the range that was quantized.
            hold_in_halves(stage);
        }
        if stream {
            let narrow = &mut narrow[..stage.len()];
            convert(stage, narrow);
            stream::copy(narrow, out);
        } else {
            convert(stage, out);
        }
    }
    if stream {
        stream::finish();
    }
    true
}

dispatch! {
    /// Holds values within the range of f16.
    fn hold_in_halves[T: Real](x: &mut [T]) {
        let (low, high) = (T::from_element(f16::MIN), T::from_element(f16::MAX));
        for x in x {
            let above = if *x < low { low } else { *x };
            *x = if above > high { high } else { above };
        }
    }
}

/// Values that are computed before they are rounded to another type.
const DECODED: usize = 1024;

/// As [`decode`] within equal lengths, in the type of the arithmetic.
#[allow(clippy::too_many_arguments)]
fn decode_same<T: Real, C: Code>(
    codes: &[C],
    sign_bit: u16,
    width: usize,
    phase: usize,
    scale: &[T],
    zero: &[T],
    stream: bool,
    out: &mut [T],
) {
    #[cfg(target_arch = "x86_64")]
    if let (Some(codes), Some(scale), Some(zero)) =
        (C::bytes(codes), same::<T, f32>(scale), same::<T, f32>(zero))
        && let Some(out) = same_mut::<T, f32>(out)
        && widen::decode(codes, sign_bit, (width, phase), scale, zero, stream, out)
    {
        return;
    }
    let _ = stream;
    decode_real(codes, sign_bit, width, phase, scale, zero, out);
}
