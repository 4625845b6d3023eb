//! From values to codes.

#[cfg(target_arch = "x86_64")]
use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::super::convert;
use super::super::{Code, dispatch, runs};
use super::LINEAR;
use super::maps::LevelMaps;
use super::starts::Starts;
#[cfg(target_arch = "x86_64")]
use super::{long, short, staged};
use crate::element::{Element, Real};

/// How a value is brought to the scale of the levels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LevelParams<'a, T> {
    /// The levels.
    pub maps: &'a LevelMaps<T>,
    /// Whether all blocks share the first map; otherwise block `j` has map `j`.
    pub shared: bool,
    /// The divisor of each block, or its factor if `multiply`. Empty for levels that have their scale already.
    pub scale: &'a [T],
    /// Whether `scale` holds reciprocals.
    pub multiply: bool,
}

impl<T: Real> LevelParams<'_, T> {
    #[inline(always)]
    fn scale_of(&self, entry: usize) -> Option<T> {
        if self.scale.is_empty() { Some(T::one()) } else { self.scale.get(entry).copied() }
    }
}

/// The code of zero in block `entry`.
pub(crate) fn code_of_zero<T: Real>(params: &LevelParams<'_, T>, entry: usize) -> u16 {
    let (_, cuts, codes) = params.maps.map(entry, params.shared);
    let index = cuts.iter().filter(|&&cut| T::zero() >= cut).count();
    codes.get(index).copied().unwrap_or_default()
}

/// Elements that are compared with all cuts at once.
const STEP: usize = 64;

/// Writes the code of each value. Returns whether any value is NaN; its code is the lowest level's.
pub(crate) fn encode<T: Real, C: Code>(
    x: &[T],
    width: usize,
    phase: usize,
    params: &LevelParams<'_, T>,
    codes: &mut [C],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if super::has_avx2()
        && let (Some(x), Some(scale)) = (convert::same(x), convert::same(params.scale))
        && let Some(codes) = C::bytes_mut(codes)
        && let Some(nan) = encode_at_once(x, width, phase, scale, params, codes)
    {
        return nan;
    }
    if params.maps.searches.cells.is_empty() {
        encode_searching(x, width, phase, params, codes)
    } else {
        encode_by_cells(x, width, phase, params, codes)
    }
}

/// As [`encode`], by the searches that look at many values at once, on machines with AVX2; `None` where maps have none.
#[cfg(target_arch = "x86_64")]
fn encode_at_once<T: Real>(
    x: &[f32],
    width: usize,
    phase: usize,
    scale: &[f32],
    params: &LevelParams<'_, T>,
    codes: &mut [u8],
) -> Option<bool> {
    /// Those in use.
    fn used<S>(searches: &[S], shared: bool) -> Option<&[S]> {
        let first = searches.first().map(core::slice::from_ref)?;
        Some(if shared { first } else { searches })
    }
    let LevelParams { maps, shared, multiply, .. } = *params;
    let all = &maps.searches;
    if let Some(searches) = used(&all.long, shared).filter(|_| long::serves()) {
        return Some(staged::encode(x, width, phase, scale, multiply, searches, codes));
    }
    if let Some(searches) = used(&all.short, shared) {
        return Some(short::encode(x, width, phase, scale, multiply, searches, codes));
    }
    let searches = used(&all.marks, shared)?;
    Some(staged::encode(x, width, phase, scale, multiply, searches, codes))
}

/// As [`encode`] of values of 16 bits in the scale of the levels, of which each block has its own. `None` where there is no
/// loop for them.
pub(crate) fn encode_halves<T: Real, A: Element>(
    x: &[A],
    width: usize,
    phase: usize,
    maps: &LevelMaps<T>,
    codes: &mut [u8],
) -> Option<bool> {
    #[cfg(target_arch = "x86_64")]
    if long::serves() && !maps.searches.long.is_empty() {
        let searches = &maps.searches.long;
        return match (convert::same::<A, f16>(x), convert::same::<A, bf16>(x)) {
            (Some(x), _) => long::encode_as_they_are(x, width, phase, searches, codes),
            (_, Some(x)) => long::encode_as_they_are(x, width, phase, searches, codes),
            _ => None,
        };
    }
    let _ = (x, width, phase, maps, codes);
    None
}

dispatch! {
    fn encode_by_cells[T: Real, C: Code](
        x: &[T],
        width: usize,
        phase: usize,
        params: &LevelParams<'_, T>,
        codes: &mut [C],
    ) -> bool {
        let len = x.len().min(codes.len());
        let mut nan = false;
        for (entry, from, to) in runs(len, width, phase) {
            let cells = params.maps.searches.cells.get(if params.shared { 0 } else { entry });
            let (Some(cells), Some(scale)) = (cells, params.scale_of(entry)) else { continue };
            for (x, codes) in x[from..to].chunks(STEP).zip(codes[from..to].chunks_mut(STEP)) {
                let (mut v, mut found) = ([T::zero(); STEP], [0; STEP]);
                nan |= scaled(x, scale, params.multiply, &mut v);
                cells.find(&v, &mut found);
                for ((code, &cell), &v) in codes.iter_mut().zip(&found).zip(&v) {
                    *code = C::from_u16(cells.code(cell, v));
                }
            }
        }
        nan
    }
}

dispatch! {
    fn encode_searching[T: Real, C: Code](
        x: &[T],
        width: usize,
        phase: usize,
        params: &LevelParams<'_, T>,
        codes: &mut [C],
    ) -> bool {
        let len = x.len().min(codes.len());
        let mut nan = false;
        for (entry, from, to) in runs(len, width, phase) {
            let (_, cuts, order) = params.maps.map(entry, params.shared);
            let starts = params.maps.searches.starts.get(if params.shared { 0 } else { entry });
            let Some(scale) = params.scale_of(entry) else { continue };
            for (x, codes) in x[from..to].chunks(STEP).zip(codes[from..to].chunks_mut(STEP)) {
                let mut index = [0u32; STEP];
                nan |= locate(x, scale, params.multiply, cuts, starts, &mut index);
                for (code, &at) in codes.iter_mut().zip(&index) {
                    *code = C::from_u16(order.get(at as usize).copied().unwrap_or_default());
                }
            }
        }
        nan
    }
}

dispatch! {
    /// Writes codes between the two neighbours of each value at random: the upper one if the value's number of
    /// `uniforms` lies below its distance from the lower one, as a share of their distance; with `sigmoid`, on two
    /// levels, below the logistic function of its distance from their middle, in halves of their distance. The cuts are
    /// those of [`Boundary::Floor`].
    pub(crate) fn encode_stochastic[T: Real, C: Code](
        x: &[T],
        width: usize,
        phase: usize,
        params: &LevelParams<'_, T>,
        sigmoid: bool,
        uniforms: &[T],
        codes: &mut [C],
    ) -> bool {
        let len = x.len().min(codes.len()).min(uniforms.len());
        let mut nan = false;
        for (entry, from, to) in runs(len, width, phase) {
            let (levels, cuts, order) = params.maps.map(entry, params.shared);
            let starts = params.maps.searches.starts.get(if params.shared { 0 } else { entry });
            let Some(scale) = params.scale_of(entry) else { continue };
            let pieces = x[from..to].chunks(STEP).zip(uniforms[from..to].chunks(STEP));
            for ((x, uniforms), codes) in pieces.zip(codes[from..to].chunks_mut(STEP)) {
                let mut index = [0u32; STEP];
                nan |= locate(x, scale, params.multiply, cuts, starts, &mut index);
                for (((code, &at), &x), &uniform) in codes.iter_mut().zip(&index).zip(x).zip(uniforms) {
                    let at = if sigmoid { 0 } else { at as usize };
                    let v = if params.multiply { x * scale } else { x / scale };
                    let up = match (levels.get(at), levels.get(at + 1)) {
                        (Some(&low), Some(&high)) if high > low && sigmoid => {
                            uniform < logistic((v - low) / (high - low))
                        }
                        (Some(&low), Some(&high)) if high > low && v > low => uniform < (v - low) / (high - low),
                        _ => false,
                    };
                    *code = C::from_u16(order.get(at + usize::from(up)).copied().unwrap_or_default());
                }
            }
        }
        nan
    }
}

/// The logistic function of a place between two levels at 0 and 1, in halves of their distance from the middle.
#[inline(always)]
fn logistic<T: Real>(place: T) -> T {
    let one = T::one();
    let v = place + place - one;
    one / (one + (-v).exp())
}

/// At most [`STEP`] values in the scale of the levels. Whether one of them is NaN.
#[inline(always)]
fn scaled<T: Real>(x: &[T], scale: T, multiply: bool, v: &mut [T; STEP]) -> bool {
    let mut nan = false;
    for (v, &x) in v.iter_mut().zip(x) {
        *v = if multiply { x * scale } else { x / scale };
        nan |= v.is_nan();
    }
    nan
}

/// The number of cuts that are not above each scaled value, at most [`STEP`] of them. Whether one of these is NaN.
#[inline(always)]
fn locate<T: Real>(
    x: &[T],
    scale: T,
    multiply: bool,
    cuts: &[T],
    starts: Option<&Starts<T>>,
    index: &mut [u32; STEP],
) -> bool {
    let mut v = [T::zero(); STEP];
    let nan = scaled(x, scale, multiply, &mut v);
    if cuts.len() <= LINEAR {
        for &cut in cuts {
            for (index, &v) in index.iter_mut().zip(&v) {
                *index += u32::from(v >= cut);
            }
        }
        return nan;
    }
    let mut size = cuts.len();
    if let Some(starts) = starts {
        size = starts.find(&v, index);
    }
    // A search that halves a range of `size` candidates without branches. Candidates beyond the last cut count as that
    // one: it is passed only where all are.
    let last = cuts.len() - 1;
    while size > 0 {
        let half = size.div_ceil(2);
        for (index, &v) in index.iter_mut().zip(&v) {
            let passed = v >= cuts[(*index as usize + half - 1).min(last)];
            *index += u32::from(passed) * half as u32;
        }
        size -= half;
    }
    index.iter_mut().for_each(|index| *index = (*index).min(cuts.len() as u32));
    nan
}
