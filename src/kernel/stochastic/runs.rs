//! Runs of values with the same parameters, piece by piece.
//!
//! **Steps.** With 2¹⁶ steps to an integer and `k` the number of a value `v`, the upper neighbour is chosen where
//! `k + ½ < 65536 · (v − ⌊v⌋)`. That is where `k` is below the last 16 bits of `⌈65536 · v − ½⌉`, so that adding
//! `65535 − k` to this integer carries: what is above its last 16 bits is the code.
//!
//! **Nearly.** The loops over vectors multiply instead of dividing, and add a margin that makes all errors positive: their
//! steps are above the right ones, by at most twice the margin. Where the last 16 bits of a sum are no less than that, the
//! bits above them are right. They are not for a few values in 65,536, whatever the values are, as the numbers are random:
//! what has any is encoded once more with care, and so is what has a value that is NaN or far out of bounds.
#![allow(unsafe_code)] // calls of functions for some processors

use super::super::aes::Blocks;
use super::super::affine::{Arithmetic, EncodeMode, EncodeParams};
use super::super::vector::Lanes;
use super::super::{runs, stream};
use super::wide::{self, BLOCK};
use super::{Place, vectors};
use crate::element::Real;
use crate::random::Ars;
#[cfg(doc)]
use crate::simd::Level;

/// Steps to an integer.
pub(super) const STEPS: f32 = 65_536.0;

/// Values whose numbers are computed at once, and that are encoded once more where one of them is not sure.
pub(super) const PIECE: usize = 256;

/// Bounds of integers and zero points whose steps are integers of 32 bits, with much to spare.
const BOUND: f32 = 16_000.0;

/// Factors that are normal numbers, and so are their products with the steps.
const FACTORS: core::ops::RangeInclusive<f32> = 1e-25..=1e25;

/// How values are scaled, which bits codes have, and whether they go past the caches.
#[derive(Clone, Copy)]
pub(super) struct How {
    divide: bool,
    mask: u8,
    stream: bool,
}

impl How {
    pub(super) fn of<T: Real>(mode: &EncodeMode<T>) -> Self {
        let divide = mode.arithmetic == Arithmetic::Divide;
        Self { divide, mask: mode.mask as u8, stream: mode.stream }
    }
}

/// As [`super::encode`] within equal lengths, on machines of [`Level::Avx2`]; of patterns as wide as [`super::serves`] says.
pub(super) fn encode<A: Lanes>(
    x: &[A],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    how: How,
    place: Place,
    codes: &mut [u8],
) -> Option<bool> {
    let bounds = params.low.iter().chain(params.high);
    if !bounds.fold(true, |within, bound| within & (bound.abs() <= BOUND)) {
        return None;
    }
    let mut blocks = Blocks::new(Ars::new(place.seed).complemented());
    blocks.expect(place.first / BLOCK as u64, x.len() / BLOCK);
    let source = Source { wide: wide::serves(), blocks: &blocks, stream: how.stream };
    let mut nan = false;
    for (j, from, to) in runs(x.len(), width, phase) {
        let Some(run) = Run::of(params, j, how) else { break };
        let first = place.first.wrapping_add(from as u64);
        nan |= source.encode(&x[from..to], &run, first, &mut codes[from..to]);
    }
    if how.stream {
        stream::finish();
    }
    Some(nan)
}

/// The parameters of a run.
pub(super) struct Run {
    pub(super) divide: bool,
    /// The divisor, or the factor.
    pub(super) scale: f32,
    pub(super) zero_before: f32,
    pub(super) low: f32,
    pub(super) high: f32,
    pub(super) zero_after: i16,
    pub(super) mask: u8,
    pub(super) quick: Option<Quick>,
}

impl Run {
    fn of(params: &EncodeParams<'_, f32>, j: usize, how: How) -> Option<Self> {
        let (&scale, &low, &high) = (params.scale.get(j)?, params.low.get(j)?, params.high.get(j)?);
        let zero_before = params.zero_before.get(j).copied().unwrap_or_default();
        let zero_after = params.zero_after.get(j).copied().unwrap_or_default() as i16;
        let How { divide, mask, .. } = how;
        let quick = Quick::of((scale, divide), zero_before, (low, high), (zero_after, mask));
        Some(Self { divide, scale, zero_before, low, high, zero_after, mask, quick })
    }
}

/// What turns values into codes that are nearly always right.
#[derive(Clone, Copy)]
pub(super) struct Quick {
    /// From values to steps.
    pub(super) factor: f32,
    /// The zero point and the margin, in steps.
    pub(super) offset: f32,
    /// As that, so that integers within the bounds become those from −1 on downwards.
    pub(super) offset_below: f32,
    /// The last 16 bits of a sum that is sure are no less.
    pub(super) sure: u16,
    pub(super) bytes: Bytes,
}

impl Quick {
    /// `None` where the parameters are unusual.
    fn of(
        (scale, divide): (f32, bool),
        zero_before: f32,
        (low, high): (f32, f32),
        (zero_after, mask): (i16, u8),
    ) -> Option<Self> {
        /// A margin from which on much would be encoded twice.
        const MOST: f32 = 16.0;
        let bytes = Bytes::new((low, high), zero_after, mask)?;
        if !FACTORS.contains(&scale) {
            return None;
        }
        let factor = if divide { STEPS / scale } else { scale * STEPS };
        // A quotient is off by 2⁻²⁴ of itself where it is rounded, and here by as much for its factor; with a zero point, the
        // sum there too, and here the offset, twice. Values beyond the bounds have the code of one in any case. A step is
        // 2⁻¹⁶.
        let most = low.abs().max(high.abs()) + 1.0;
        let rounded = if zero_before == 0.0 {
            2.0 * most
        } else {
            3.0 * most + 4.0 * zero_before.abs() + 2.0 * (high + 1.0).abs()
        };
        // Both are rounded to steps: there, it is off by another half. Here, so is the sum of what is no more than 2⁸ away
        // from zero: it may be as far as the bounds are from each other. From 2⁷ on it is rounded only once; below that
        // first to a quarter, and larger ones to 2⁻²⁴ of themselves.
        let sum = most.max(high - low + 1.0);
        let nearest = if sum <= 256.0 { 0.75 } else { 0.5 + 1.001 / 256.0 * sum };
        let margin = (1.001 / 256.0 * rounded + 0.5 + nearest).floor();
        (margin <= MOST).then(|| Self {
            factor,
            offset: zero_before * STEPS + margin,
            offset_below: (zero_before - (high + 1.0)) * STEPS + margin,
            sure: 2 * margin as u16,
            bytes,
        })
    }

    /// How the codes of values within the bounds are found, as `how` says.
    pub(super) fn lane(&self, how: u8) -> Lane {
        let Bytes { low, high, zero, .. } = self.bytes;
        let (offset, least, zero) = if is_inside(how) {
            // Integers within the bounds are the last ones below zero if those are moved there.
            let least = i32::from(low) - i32::from(high) - 1;
            (self.offset_below, least, high.wrapping_add(1).wrapping_add(zero))
        } else {
            (self.offset, 0, zero)
        };
        Lane { offset, zero, least: least << 16 | i32::from(self.sure) }
    }

    /// How the codes of all values are found.
    pub(super) fn anywhere(&self) -> u8 {
        if self.bytes.plain() { PLAIN } else { BOUNDED }
    }

    /// How the codes of values within the bounds are found.
    pub(super) fn inside(&self) -> u8 {
        if self.bytes.mask == -1 { INSIDE } else { MASKED }
    }
}

/// How integers become codes: those of values within the bounds, so that only a byte of each is of interest.
pub(super) const INSIDE: u8 = 0;
/// As [`INSIDE`], of which only some bits are kept.
pub(super) const MASKED: u8 = 1;
/// Narrowed to bytes, as [`Bytes::plain`] says.
pub(super) const PLAIN: u8 = 2;
/// Whatever the bounds and the zero point are.
pub(super) const BOUNDED: u8 = 3;

/// Whether values out of bounds need more care.
pub(super) const fn is_inside(how: u8) -> bool {
    how <= MASKED
}

/// What every lane takes of a [`Quick`].
pub(super) struct Lane {
    /// Added to steps.
    pub(super) offset: f32,
    /// Added to bytes, wrapping.
    pub(super) zero: i8,
    /// Sums of which a half, without a sign, is less than this one's need more care.
    pub(super) least: i32,
}

/// How integers become codes once they are narrowed to bytes, where both bounds fit these when integers are moved.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    /// Added to integers before they are narrowed; what does not fit goes to the ends.
    pub(super) moved: i16,
    pub(super) low: i8,
    pub(super) high: i8,
    /// Added then, wrapping.
    pub(super) zero: i8,
    pub(super) mask: i8,
}

impl Bytes {
    fn new((low, high): (f32, f32), zero_after: i16, mask: u8) -> Option<Self> {
        let (low, high) = (low as i16, high as i16);
        let moved =
            if low >= i8::MIN.into() && high <= i8::MAX.into() { 0 } else { i16::from(i8::MIN) - low };
        Some(Self {
            moved,
            low: i8::try_from(low + moved).ok()?,
            high: i8::try_from(high + moved).ok()?,
            zero: zero_after.wrapping_sub(moved) as i8,
            mask: mask as i8,
        })
    }

    /// Whether narrowed integers are codes once they are no less than the lower bound.
    pub(super) fn plain(&self) -> bool {
        self.moved == 0 && self.high == i8::MAX && self.zero == 0 && self.mask == -1
    }
}

/// What is the same for all runs: where the complements of numbers come from, and whether codes go past the caches.
struct Source<'a> {
    /// Whether the machine has the wide loop.
    wide: bool,
    blocks: &'a Blocks,
    stream: bool,
}

impl Source<'_> {
    /// A run of values, the first of which is element `first`. Whether any is NaN.
    fn encode<A: Lanes>(&self, x: &[A], run: &Run, first: u64, codes: &mut [u8]) -> bool {
        const LINE: usize = 64;
        let (mut nan, mut at) = (false, 0);
        // Up to the beginning of a line: what shares one with the codes of other runs goes through the caches.
        let head = if self.stream { stream::head(codes) } else { 0 };
        let fits = codes.len() >= head + LINE;
        if let (true, Some(quick), true) = (self.wide, &run.quick, x.len() >= 2 * wide::GROUP) {
            // And up to the beginning of a block of numbers.
            let block = |at: usize| (first.wrapping_add(at as u64) % BLOCK as u64) as usize;
            let whole = fits && block(head) == 0;
            let skip = if whole { head } else { (BLOCK - block(0)) % BLOCK };
            nan |= self.narrow(&x[..skip], run, first, false, &mut codes[..skip]);
            at = skip;
            // Most values are within the bounds. Where many are not, which the first groups may tell, all are taken for such.
            let (mut inside, mut most) = (true, if x.len() > wide::MOST { wide::FEW } else { wide::MOST });
            while x.len() - at >= wide::GROUP {
                let len = (x.len() - at).min(most) / wide::GROUP * wide::GROUP;
                let place = at..at + len;
                let (x, codes) = (&x[place.clone()], &mut codes[place]);
                let (first, stream) = (first.wrapping_add(at as u64), self.stream && whole);
                let mut unsure = wide::encode(x, quick, inside, self.blocks, first, stream, codes);
                let outside = unsure.iter().map(|groups| groups.count_ones() as usize).sum::<usize>();
                if inside && outside * wide::GROUP * 16 > len {
                    inside = false;
                    unsure = wide::encode(x, quick, false, self.blocks, first, stream, codes);
                }
                most = wide::MOST;
                for (from, mut groups) in (0..).step_by(wide::GROUP * u64::BITS as usize).zip(unsure) {
                    while groups != 0 {
                        let from = from + groups.trailing_zeros() as usize * wide::GROUP;
                        let group = from..from + wide::GROUP;
                        let first = first.wrapping_add(from as u64);
                        let codes = &mut codes[group.clone()];
                        nan |= self.again(&x[group], run, first, stream, codes);
                        groups &= groups - 1;
                    }
                }
                at += len;
            }
        } else if self.stream && fits {
            let whole = head + (x.len() - head) / LINE * LINE;
            nan |= self.narrow(&x[..head], run, first, false, &mut codes[..head]);
            let place = first.wrapping_add(head as u64);
            nan |= self.narrow(&x[head..whole], run, place, true, &mut codes[head..whole]);
            at = whole;
        }
        nan | self.narrow(&x[at..], run, first.wrapping_add(at as u64), false, &mut codes[at..])
    }

    /// As [`encode`](Self::encode), in vectors of 256 bits; whole lines of codes past the caches if `stream`.
    #[inline]
    fn narrow<A: Lanes>(&self, x: &[A], run: &Run, first: u64, stream: bool, codes: &mut [u8]) -> bool {
        // SAFETY: the level says that the machine has these instructions.
        !x.is_empty() && unsafe { vectors::encode(x, run, self.blocks, first, stream, codes) }
    }

    /// Once more, with care, a group of the wide loop.
    #[cold]
    fn again<A: Lanes>(&self, x: &[A], run: &Run, first: u64, stream: bool, codes: &mut [u8]) -> bool {
        // SAFETY: as above.
        unsafe {
            if !stream {
                return vectors::with_care(x, run, self.blocks, first, codes);
            }
            let mut stage = [0; wide::GROUP];
            let nan = vectors::with_care(x, run, self.blocks, first, &mut stage);
            stream::past_caches(&stage, codes);
            nan
        }
    }
}
