//! By vectors.
#![allow(unsafe_code)] // calls where the instructions were detected

mod each;
mod halves;
mod runs;

use half::{bf16, f16};

use super::super::convert::{convert, same, same_mut};
use super::super::division::GROUP;
use super::super::factor::Factors;
use super::super::stream;
use super::super::vector::{Avx512, Lanes, Vector};
use super::{EncodeParams, Values};
use crate::element::{Element, FloatType};
use crate::simd::Level;

/// The shortest runs that get a loop, but for those of one value.
const SHORTEST: usize = 16;

/// Values that are put together before they are narrowed or go past the caches.
const STAGE: usize = 1024;

/// Bytes of a cache line.
const LINE: usize = 64;

/// As [`super::fake`].
pub(super) fn fake<B: Element, A: Element>(
    x: &[B],
    (width, phase): (usize, usize),
    params: &EncodeParams<'_, f32>,
    divide: bool,
    values: Values<'_>,
    stream: bool,
    out: &mut [A],
) -> Option<bool> {
    let zeros = params.zero_before.len().max(params.zero_after.len());
    let entries = [params.scale, params.low, params.high, values.scale].map(<[f32]>::len);
    let entries = entries.into_iter().min().unwrap_or(0).min(values.zero.len());
    let needed = if width > 1 { (phase + x.len()).div_ceil(width) } else { x.len() };
    let short = width > 1 && width < SHORTEST;
    if short || x.len() != out.len() || entries < needed || (zeros > 0 && zeros < needed) {
        return None;
    }
    debug_assert!(
        !params.zero_before.is_empty()
            || params.zero_after.iter().zip(values.zero).all(|(&after, &zero)| after as f32 == zero)
    );
    let task = Task { params: *params, divide, values };
    let Some(x) = same::<B, f32>(x) else {
        return task.halves(x, (width, phase), stream, out);
    };
    Some(match same_mut::<A, f32>(out) {
        Some(out) if !stream || width >= STAGE => task.run(x, (width, phase), stream, out),
        _ => task.staged(x, (width, phase), stream, out),
    })
}

/// Whether [`fake`] has a loop from numbers of 16 bits to such numbers, where they share parameters in runs of `width`.
pub(super) const fn serves_halves(width: usize, stream: bool) -> bool {
    width >= if stream { STAGE } else { SHORTEST }
}

/// Parameters of all entries.
#[derive(Clone, Copy)]
struct Task<'a> {
    params: EncodeParams<'a, f32>,
    divide: bool,
    values: Values<'a>,
}

impl Task<'_> {
    /// The same for the entries from `entry` on.
    fn from(&self, entry: usize) -> Option<Self> {
        let optional = |array: &'_ [f32]| array.len().min(entry);
        let (params, values) = (&self.params, &self.values);
        Some(Self {
            params: EncodeParams {
                scale: params.scale.get(entry..)?,
                offset: &[],
                low: params.low.get(entry..)?,
                high: params.high.get(entry..)?,
                zero_before: params.zero_before.get(optional(params.zero_before)..)?,
                zero_after: &[],
            },
            divide: self.divide,
            values: Values { scale: values.scale.get(entry..)?, zero: values.zero.get(entry..)? },
        })
    }

    /// Finds the factors of the entries from `entry` on, for codes of all of these.
    fn find_factors<A: Lanes>(&self, entry: usize, factors: &mut Factors) {
        let EncodeParams { scale, low, high, .. } = &self.params;
        let of = |array: &'_ [f32]| entry.min(array.len())..(entry + GROUP).min(array.len());
        let bounds = low[of(low)].iter().chain(&high[of(high)]);
        let most = bounds.fold(0.0f32, |most, bound| most.max(bound.abs())) as u32;
        factors.find::<A>(&scale[of(scale)], &self.values.scale[of(self.values.scale)], most);
    }

    /// From numbers of 16 bits to the same; `None` where there is no loop for that.
    fn halves<B: Element, A: Element>(
        &self,
        x: &[B],
        (width, phase): (usize, usize),
        stream: bool,
        out: &mut [A],
    ) -> Option<bool> {
        if !serves_halves(width, stream) {
            return None;
        }
        let level = super::super::level();
        // Shorter runs fill no two vectors of 512 bits.
        let level = if width < 2 * Avx512::LANES { level.min(Level::Avx2) } else { level };
        match same::<B, f16>(x) {
            Some(x) => runs::by_runs(level, x, (width, phase), self, stream, same_mut::<A, f16>(out)?),
            None => {
                let (x, out) = (same::<B, bf16>(x)?, same_mut::<A, bf16>(out)?);
                // No value is NaN then.
                let values = self.values.scale.iter().chain(self.values.zero);
                values.fold(true, |all, value| all & value.is_finite()).then_some(())?;
                runs::by_runs(level, x, (width, phase), self, stream, out)
            }
        }
    }

    /// To other types, and in short runs past the caches: these do not end where cache lines do, so values are put
    /// together first.
    fn staged<A: Element>(
        &self,
        x: &[f32],
        (width, phase): (usize, usize),
        stream: bool,
        out: &mut [A],
    ) -> bool {
        let (mut stage, mut narrow) = ([0.0; STAGE], [A::default(); STAGE]);
        let (mut nan, width) = (false, width.max(1));
        // The first stage ends where a cache line does.
        let (mut at, mut to) = (0, head(out));
        while at < x.len() {
            if to == at {
                to = (at + STAGE).min(x.len());
            }
            let position = phase % width + at;
            let Some(task) = self.from(position / width) else { break };
            let stage = &mut stage[..to - at];
            nan |= task.run(&x[at..to], (width, position % width), false, stage);
            let place = &mut out[at..to];
            match same::<f32, A>(stage) {
                Some(stage) => stream::copy(stage, place),
                None => {
                    if A::TYPE == FloatType::F16 {
                        // A step beyond the largest half is still within the range that was quantized.
                        let (low, high) = (f16::MIN.to_f32(), f16::MAX.to_f32());
                        stage.iter_mut().for_each(|x| *x = x.clamp(low, high));
                    }
                    if stream {
                        let narrow = &mut narrow[..stage.len()];
                        convert(stage, narrow);
                        stream::copy(narrow, place);
                    } else {
                        convert(stage, place);
                    }
                }
            }
            at = to;
        }
        stream::finish();
        nan
    }

    fn run(&self, x: &[f32], (width, phase): (usize, usize), stream: bool, out: &mut [f32]) -> bool {
        if width > 1 {
            let level = super::super::level();
            // What comes from memory and goes there was seen to be faster in vectors of 256 bits.
            let level = if stream { level.min(Level::Avx2) } else { level };
            return runs::by_runs(level, x, (width, phase), self, stream, out).unwrap_or_default();
        }
        // SAFETY: who asked for values that are not of the baseline has asked whether the machine has AVX2 and FMA.
        unsafe {
            if self.divide {
                each::columns::<true>(x, self, out)
            } else {
                each::columns::<false>(x, self, out)
            }
        }
    }
}

/// Values before the first cache line that begins in `out`.
fn head<A>(out: &[A]) -> usize {
    (out.as_ptr().addr().wrapping_neg() % LINE / size_of::<A>().max(1)).min(out.len())
}
