//! Uniform grids: values to codes, and back, by flat chunks.

mod decode;
mod rounding;

#[cfg(target_arch = "x86_64")]
use half::bf16;
use half::f16;

use super::column_reciprocals::ColumnReciprocals;
use super::convert::{STAGE, same};
#[cfg(target_arch = "x86_64")]
use super::vector::Lanes;
use super::{Code, dispatch, runs, within};
use crate::element::{Element, FloatType, Real};

use rounding::{Ceil, Floor, NearestAway, NearestEven, Round, TowardZero};

pub(crate) use decode::{decode, decode_nibbles, reads_nibbles};
pub(super) use rounding::nearest_even;

/// How a value is brought to the scale of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// `x / s`.
    Divide,
    /// `x · s`, where `s` is the reciprocal of a step.
    Multiply,
    /// `(x − lo) / span · steps`.
    Span,
}

/// How a scaled value becomes an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// To the nearest, ties to even.
    NearestEven,
    /// To the nearest, ties away from zero.
    NearestAway,
    /// Downwards.
    Floor,
    /// Upwards.
    Ceil,
    /// Towards zero.
    TowardZero,
}

/// Parameters in struct-of-arrays form; entry `j` serves block `j` of the pattern.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodeParams<'a, T> {
    /// Divisor ([`Arithmetic::Divide`]), factor ([`Arithmetic::Multiply`]) or span
    /// ([`Arithmetic::Span`]).
    pub scale: &'a [T],
    /// What [`Arithmetic::Span`] subtracts first; not read otherwise.
    pub offset: &'a [T],
    /// Added before rounding; empty for 0.
    pub zero_before: &'a [T],
    /// Lower clamp bounds: integers of at most 2^17 in magnitude. Clamping before rounding equals
    /// clamping after it, as rounding is monotone and leaves integers where they are.
    pub low: &'a [T],
    /// Upper clamp bounds, as `low`.
    pub high: &'a [T],
    /// Added to the rounded integer; empty for 0.
    pub zero_after: &'a [i32],
}

impl<T: Real> EncodeParams<'_, T> {
    /// These, without offsets, where they are f32.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn in_f32(&self) -> Option<EncodeParams<'_, f32>> {
        Some(EncodeParams {
            scale: same(self.scale)?,
            offset: &[],
            zero_before: same(self.zero_before)?,
            low: same(self.low)?,
            high: same(self.high)?,
            zero_after: self.zero_after,
        })
    }
}

/// What all blocks of an encoding share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodeMode<T> {
    /// The scaling.
    pub arithmetic: Arithmetic,
    /// Steps of a span; read by [`Arithmetic::Span`] only.
    pub steps: T,
    /// The rounding.
    pub rounding: Rounding,
    /// The bits of a code: `2^b − 1`.
    pub mask: u16,
    /// Whether codes go past the caches, where a loop can do that: faster for what does not fit them.
    pub stream: bool,
}

/// The scalings as types, so that each gets loops of its own. `x / s` is a span with `lo = 0` and
/// one step: neither the subtraction nor the multiplication then changes a bit.
trait Scaling {
    fn scale<T: Real>(x: T, scale: T, offset: T, steps: T) -> T;
}
struct Quotient;
impl Scaling for Quotient {
    #[inline(always)]
    fn scale<T: Real>(x: T, scale: T, offset: T, steps: T) -> T {
        (x - offset) / scale * steps
    }
}
struct Product;
impl Scaling for Product {
    #[inline(always)]
    fn scale<T: Real>(x: T, scale: T, _: T, _: T) -> T {
        x * scale
    }
}

/// Parameters of one entry.
#[derive(Clone, Copy)]
struct Entry<T> {
    scale: T,
    offset: T,
    zero_before: T,
    low: T,
    high: T,
    zero_after: i32,
}

impl<T: Real> Entry<T> {
    /// Entry `j` of `params`, if it is there.
    #[inline(always)]
    fn of(params: &EncodeParams<'_, T>, j: usize) -> Option<Self> {
        Some(Self {
            scale: *params.scale.get(j)?,
            offset: params.offset.get(j).copied().unwrap_or(T::zero()),
            zero_before: params.zero_before.get(j).copied().unwrap_or(T::zero()),
            low: *params.low.get(j)?,
            high: *params.high.get(j)?,
            zero_after: params.zero_after.get(j).copied().unwrap_or(0),
        })
    }
}

/// The code of one value and whether the scaled value is NaN.
#[inline(always)]
fn encode_one<T: Real, C: Code, S: Scaling, R: Round>(
    x: T,
    entry: Entry<T>,
    steps: T,
    mask: u16,
) -> (C, bool) {
    // Adding an absent zero point changes at most the sign of a zero.
    let v = S::scale(x, entry.scale, entry.offset, steps) + entry.zero_before;
    let nan = v.is_nan();
    let v = if v > entry.low { v } else { entry.low };
    let v = if v < entry.high { v } else { entry.high };
    (C::from_u16(R::round(v).wrapping_add(entry.zero_after) as u16 & mask), nan)
}

/// A run of at least this many elements begins with a loop over a multiple of it.
const LONG: usize = 64;

/// Elements of one step after that: a whole number of vectors at every level, so that a block of 16
/// or 32 needs no loop over single elements.
const STEP: usize = 16;

/// A run of elements that share an entry.
#[inline(always)]
fn encode_run<T: Real, C: Code, S: Scaling, R: Round>(
    x: &[T],
    entry: Entry<T>,
    steps: T,
    mask: u16,
    codes: &mut [C],
) -> bool {
    let mut nan = false;
    let each = |x: &T, code: &mut C| {
        let (c, nan) = encode_one::<T, C, S, R>(*x, entry, steps, mask);
        *code = c;
        nan
    };
    // A loop over steps alone would be unrolled within and then vectorized across steps, by gathers.
    let long = x.len().min(codes.len()) / LONG * LONG;
    let (x_long, x) = x.split_at(long);
    let (codes_long, codes) = codes.split_at_mut(long);
    for (x, code) in x_long.iter().zip(codes_long) {
        nan |= each(x, code);
    }
    let (x_steps, x_rest) = x.as_chunks::<STEP>();
    let (code_steps, code_rest) = codes.as_chunks_mut::<STEP>();
    for (x, codes) in x_steps.iter().zip(code_steps) {
        let mut step_nan = false;
        for (x, code) in x.iter().zip(codes) {
            step_nan |= each(x, code);
        }
        nan |= step_nan;
    }
    for (x, code) in x_rest.iter().zip(code_rest) {
        nan |= each(x, code);
    }
    nan
}

/// The pattern of width 1, where every element has its own entry.
#[inline(always)]
fn encode_columns<T: Real, C: Code, S: Scaling, R: Round>(
    x: &[T],
    params: &EncodeParams<'_, T>,
    steps: T,
    mask: u16,
    codes: &mut [C],
) -> bool {
    let zeros = [T::zero(); STAGE];
    let zeros_i32 = [0; STAGE];
    let mut nan = false;
    for (block, (x, codes)) in x.chunks(STAGE).zip(codes.chunks_mut(STAGE)).enumerate() {
        let (from, len) = (block * STAGE, x.len());
        // An absent slice reads zeros; the others are at least as long as x.
        let offset = params.offset.get(from..from + len).unwrap_or(&zeros[..len]);
        let zero_before = params.zero_before.get(from..from + len).unwrap_or(&zeros[..len]);
        let zero_after = params.zero_after.get(from..from + len).unwrap_or(&zeros_i32[..len]);
        let (Some(scale), Some(low), Some(high)) = (
            params.scale.get(from..from + len),
            params.low.get(from..from + len),
            params.high.get(from..from + len),
        ) else {
            break;
        };
        for i in 0..len {
            let entry = Entry {
                scale: scale[i],
                offset: offset[i],
                zero_before: zero_before[i],
                low: low[i],
                high: high[i],
                zero_after: zero_after[i],
            };
            let (c, n) = encode_one::<T, C, S, R>(x[i], entry, steps, mask);
            codes[i] = c;
            nan |= n;
        }
    }
    nan
}

/// Both patterns; `params` has an entry for every element.
#[inline(always)]
fn encode_body<T: Real, C: Code, S: Scaling, R: Round>(
    x: &[T],
    width: usize,
    phase: usize,
    params: &EncodeParams<'_, T>,
    steps: T,
    mask: u16,
    codes: &mut [C],
) -> bool {
    if width <= 1 {
        return encode_columns::<T, C, S, R>(x, params, steps, mask, codes);
    }
    let mut nan = false;
    for (j, from, to) in runs(x.len(), width, phase) {
        let Some(entry) = Entry::of(params, j) else { break };
        nan |= encode_run::<T, C, S, R>(&x[from..to], entry, steps, mask, &mut codes[from..to]);
    }
    nan
}

dispatch! {
    /// Nearest-even at every level; the other roundings are compiled once, to bound compile time.
    fn encode_nearest_even[T: Real, C: Code, S: Scaling](
        x: &[T],
        width: usize,
        phase: usize,
        params: &EncodeParams<'_, T>,
        steps: T,
        mask: u16,
        codes: &mut [C],
    ) -> bool {
        encode_body::<T, C, S, NearestEven>(x, width, phase, params, steps, mask, codes)
    }
}

/// Entries that all the slices of a pattern have; an empty optional slice has any number.
#[inline(always)]
fn entries<const N: usize, const M: usize>(required: [usize; N], optional: [usize; M]) -> usize {
    let least = required.into_iter().fold(usize::MAX, usize::min);
    optional.into_iter().fold(least, |least, len| if len > 0 { least.min(len) } else { least })
}

/// Elements that `entries` entries of a pattern serve.
#[inline(always)]
fn covered(entries: usize, width: usize, phase: usize) -> usize {
    let width = width.max(1);
    entries.saturating_mul(width).saturating_sub(within(phase, width))
}

/// Encodes `x` by the pattern of `width` and `phase`:
/// `code = (round(clamp(scaled + zero_before)) + zero_after) & mask`.
///
/// Infinities clamp; a NaN gets the code of `low`. Returns whether a NaN was met, in `x` or as the
/// scaled value (0/0, ∞/∞, 0·∞).
pub(crate) fn encode<T: Real, C: Code>(
    x: &[T],
    width: usize,
    phase: usize,
    params: &EncodeParams<'_, T>,
    mode: &EncodeMode<T>,
    codes: &mut [C],
) -> bool {
    let span = mode.arithmetic == Arithmetic::Span;
    let params = EncodeParams { offset: if span { params.offset } else { &[] }, ..*params };
    let steps = if span { mode.steps } else { T::one() };
    let entries = entries(
        [params.scale.len(), params.low.len(), params.high.len()],
        [params.offset.len(), params.zero_before.len(), params.zero_after.len()],
    );
    let len = x.len().min(codes.len()).min(covered(entries, width, phase));
    debug_assert!(len == x.len() && len == codes.len(), "lengths of an encoding differ");
    let (x, codes) = (&x[..len], &mut codes[..len]);
    #[cfg(target_arch = "x86_64")]
    if mode.rounding == Rounding::NearestEven
        && !span
        && let (Some(x), Some(codes)) = (super::convert::same::<T, f32>(x), C::bytes_mut(codes))
        && let Some(nan) = narrow(x, width, phase, &params, mode, codes)
    {
        return nan;
    }
    if mode.arithmetic == Arithmetic::Multiply {
        encode_rounded::<T, C, Product>(x, width, phase, &params, steps, mode, codes)
    } else {
        encode_rounded::<T, C, Quotient>(x, width, phase, &params, steps, mode, codes)
    }
}

/// As [`encode`] of lines of elements, the first of them from the element `phase` on, each with a scale of its own and all
/// else in common: `params` has a scale for each place in a line, and the first of each other parameter counts. `reciprocals`
/// are those of the scales, where these divide. Values are of f32 or of 16 bits. `None` where there is no loop for that.
pub(crate) fn encode_lines<T: Real, A: Element, C: Code>(
    x: &[A],
    phase: usize,
    params: &EncodeParams<'_, T>,
    reciprocals: &ColumnReciprocals,
    mode: &EncodeMode<T>,
    codes: &mut [C],
) -> Option<bool> {
    #[cfg(target_arch = "x86_64")]
    if mode.rounding == Rounding::NearestEven
        && mode.arithmetic != Arithmetic::Span
        && params.zero_before.is_empty()
        && x.len() == codes.len()
    {
        let (params, by) = (params.in_f32()?, (mode.arithmetic == Arithmetic::Divide).then_some(reciprocals));
        let (mask, codes) = (mode.mask, C::bytes_mut(codes)?);
        if let Some(x) = same::<A, f32>(x) {
            return super::narrow::encode_lines(x, phase, &params, by, mask, mode.stream, codes);
        }
        if let Some(x) = same::<A, f16>(x) {
            return super::narrow::encode_lines(x, phase, &params, by, mask, mode.stream, codes);
        }
        let x = same::<A, bf16>(x)?;
        return super::narrow::encode_lines(x, phase, &params, by, mask, mode.stream, codes);
    }
    let _ = (x, phase, params, reciprocals, mode, codes);
    None
}

/// As [`encode`], by the loops for bytes where this machine has them.
#[cfg(target_arch = "x86_64")]
fn narrow<T: Real, A: Lanes>(
    x: &[A],
    width: usize,
    phase: usize,
    params: &EncodeParams<'_, T>,
    mode: &EncodeMode<T>,
    codes: &mut [u8],
) -> Option<bool> {
    let params = params.in_f32()?;
    let divide = mode.arithmetic == Arithmetic::Divide;
    super::narrow::encode(x, (width, phase), &params, divide, mode.mask, mode.stream, codes)
}

/// Whether [`encode_halves`] serves patterns of `width`, but for unusual parameters.
pub(crate) fn reads_halves<T: Real>(width: usize, mode: &EncodeMode<T>) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let fits = mode.rounding == Rounding::NearestEven && mode.arithmetic != Arithmetic::Span;
        fits && T::TYPE == FloatType::F32 && super::narrow::serves(width)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (width, mode);
        false
    }
}

/// As [`encode`] of numbers of 16 bits, computed in f32, without a copy of them in that type; `None` where there is no
/// loop for that.
pub(crate) fn encode_halves<T: Real, A: Element, C: Code>(
    x: &[A],
    width: usize,
    phase: usize,
    params: &EncodeParams<'_, T>,
    mode: &EncodeMode<T>,
    codes: &mut [C],
) -> Option<bool> {
    #[cfg(target_arch = "x86_64")]
    if reads_halves(width, mode) && x.len() == codes.len() {
        let codes = C::bytes_mut(codes)?;
        return match same::<A, f16>(x) {
            Some(x) => narrow(x, width, phase, params, mode, codes),
            None => narrow(same::<A, bf16>(x)?, width, phase, params, mode, codes),
        };
    }
    let _ = (x, width, phase, params, mode, codes);
    None
}

fn encode_rounded<T: Real, C: Code, S: Scaling>(
    x: &[T],
    width: usize,
    phase: usize,
    params: &EncodeParams<'_, T>,
    steps: T,
    mode: &EncodeMode<T>,
    codes: &mut [C],
) -> bool {
    let mask = mode.mask;
    match mode.rounding {
        Rounding::NearestEven => encode_nearest_even::<T, C, S>(x, width, phase, params, steps, mask, codes),
        Rounding::NearestAway => {
            encode_body::<T, C, S, NearestAway>(x, width, phase, params, steps, mask, codes)
        }
        Rounding::Floor => encode_body::<T, C, S, Floor>(x, width, phase, params, steps, mask, codes),
        Rounding::Ceil => encode_body::<T, C, S, Ceil>(x, width, phase, params, steps, mask, codes),
        Rounding::TowardZero => {
            encode_body::<T, C, S, TowardZero>(x, width, phase, params, steps, mask, codes)
        }
    }
}

/// Encodes at random between the two neighbouring codes: the upper one if the value's number of `uniforms` lies below
/// its distance from the lower one. Otherwise as [`encode`].
pub(crate) fn encode_stochastic<T: Real, C: Code>(
    x: &[T],
    width: usize,
    phase: usize,
    params: &EncodeParams<'_, T>,
    mode: &EncodeMode<T>,
    uniforms: &[T],
    codes: &mut [C],
) -> bool {
    let span = mode.arithmetic == Arithmetic::Span;
    let params = EncodeParams { offset: if span { params.offset } else { &[] }, ..*params };
    let steps = if span { mode.steps } else { T::one() };
    if mode.arithmetic == Arithmetic::Multiply {
        encode_stochastic_body::<T, C, Product>(x, width, phase, &params, steps, mode.mask, uniforms, codes)
    } else {
        encode_stochastic_body::<T, C, Quotient>(x, width, phase, &params, steps, mode.mask, uniforms, codes)
    }
}

dispatch! {
    fn encode_stochastic_body[T: Real, C: Code, S: Scaling](
        x: &[T],
        width: usize,
        phase: usize,
        params: &EncodeParams<'_, T>,
        steps: T,
        mask: u16,
        uniforms: &[T],
        codes: &mut [C],
    ) -> bool {
        let len = x.len().min(codes.len()).min(uniforms.len());
        let mut nan = false;
        for (j, from, to) in runs(len, width, phase) {
            let Some(entry) = Entry::of(params, j) else { break };
            let values = x[from..to].chunks(LONG).zip(uniforms[from..to].chunks(LONG));
            for ((x, uniforms), codes) in values.zip(codes[from..to].chunks_mut(LONG)) {
                // Integers first and codes after them: a loop over both would be cut into narrow vectors.
                let mut integers = [0; LONG];
                let mut step_nan = false;
                for ((&x, &uniform), q) in x.iter().zip(uniforms).zip(&mut integers) {
                    let v = S::scale(x, entry.scale, entry.offset, steps) + entry.zero_before;
                    step_nan |= v.is_nan();
                    let v = if v > entry.low { v } else { entry.low };
                    let v = if v < entry.high { v } else { entry.high };
                    let (near, integer) = nearest_even(v);
                    // Exact: the nearest integer is at most half away. One more would not be.
                    let share = v - near;
                    let over = share < T::zero();
                    let up = if over { -share < T::one() - uniform } else { uniform < share };
                    *q = integer - i32::from(over) + i32::from(up);
                }
                nan |= step_nan;
                for (code, q) in codes.iter_mut().zip(integers) {
                    *code = C::from_u16(q.wrapping_add(entry.zero_after) as u16 & mask);
                }
            }
        }
        nan
    }
}

#[cfg(test)]
mod alignment;
#[cfg(test)]
mod tests;
