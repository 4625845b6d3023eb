//! In vectors of 256 bits.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use half::f16;

use super::super::convert::{convert, same, same_mut};
use super::super::division::one_correction;
use super::super::{prefetch, runs, stream};
use super::{EncodeParams, Values};
use crate::element::{Element, FloatType};

/// Values of a vector.
const LANES: usize = 8;

/// Values of a step: two cache lines of results.
const STEP: usize = 32;

/// The shortest runs that get a loop, but for those of one value.
const SHORTEST: usize = 16;

/// Runs from which on it pays to look how a division can be had for less.
const LONG: usize = 128;

/// Values that are put together before they are narrowed or go past the caches.
const STAGE: usize = 1024;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes ahead that are asked for, where results go past the caches.
const AHEAD: usize = 2048;

/// How values are scaled.
const PRODUCT: u8 = 0;
const QUOTIENT: u8 = 1;
const CORRECTED_ONCE: u8 = 2;
const CORRECTED_TWICE: u8 = 3;

/// As [`super::fake`].
pub(super) fn fake<A: Element>(
    x: &[f32],
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
    // SAFETY: the caller has asked whether the level has AVX2 and FMA.
    Some(unsafe {
        match same_mut::<A, f32>(out) {
            Some(out) if !stream || width >= STAGE => task.run(x, (width, phase), stream, out),
            _ => task.staged(x, (width, phase), stream, out),
        }
    })
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

    /// To other types, and in short runs past the caches: these do not end where cache lines do, so values are put
    /// together first.
    #[target_feature(enable = "avx2,fma")]
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
                Some(stage) => stream::past_caches(stage, place),
                None => {
                    if A::TYPE == FloatType::F16 {
                        // A step beyond the largest half is still within the range that was quantized.
                        let (low, high) = (f16::MIN.to_f32(), f16::MAX.to_f32());
                        stage.iter_mut().for_each(|x| *x = x.clamp(low, high));
                    }
                    if stream {
                        let narrow = &mut narrow[..stage.len()];
                        convert(stage, narrow);
                        stream::past_caches(narrow, place);
                    } else {
                        convert(stage, place);
                    }
                }
            }
            at = to;
        }
        _mm_sfence();
        nan
    }

    #[target_feature(enable = "avx2,fma")]
    fn run(&self, x: &[f32], (width, phase): (usize, usize), stream: bool, out: &mut [f32]) -> bool {
        let nan = match (width > 1, self.divide) {
            (true, _) => self.by_runs(x, (width, phase), stream, out),
            (false, true) => self.columns::<QUOTIENT>(x, out),
            (false, false) => self.columns::<PRODUCT>(x, out),
        };
        if stream {
            // What went past the caches becomes visible to other threads in the order of the program.
            _mm_sfence();
        }
        _mm256_movemask_ps(nan) != 0
    }

    #[target_feature(enable = "avx2,fma")]
    fn by_runs(&self, x: &[f32], (width, phase): (usize, usize), stream: bool, out: &mut [f32]) -> __m256 {
        let (params, values) = (&self.params, &self.values);
        let mut nan = _mm256_setzero_ps();
        let long = self.divide && width >= LONG;
        let first = params.scale.first().filter(|_| long);
        let mut next = first.and_then(|&scale| one_correction(scale));
        for (j, from, to) in runs(x.len().min(out.len()), width, phase) {
            let (Some(&scale), Some(&low), Some(&high), Some(&step)) =
                (params.scale.get(j), params.low.get(j), params.high.get(j), values.scale.get(j))
            else {
                break;
            };
            let zero_before = params.zero_before.get(j).copied();
            let zero = values.zero.get(j).copied().unwrap_or_default();
            // Which loop serves the next run is worked out in time: nothing tells the processor beforehand.
            let cheaper = next;
            next = if long { params.scale.get(j + 1).and_then(|&scale| one_correction(scale)) } else { None };
            let run = Run {
                scale: _mm256_set1_ps(scale),
                inverse: _mm256_set1_ps(if long { 1.0 / scale } else { 0.0 }),
                most: _mm256_set1_ps((high + 1.0) * scale),
                low: _mm256_set1_ps(low),
                high: _mm256_set1_ps(high),
                zero_before: _mm256_set1_ps(zero_before.unwrap_or_default()),
                zero: _mm256_set1_ps(zero),
                step: _mm256_set1_ps(step),
            };
            let (x, out) = (&x[from..to], &mut out[from..to]);
            let found = match (self.divide, zero_before.is_some()) {
                (false, false) => lines::<PRODUCT, false>(x, run, stream, out),
                (false, true) => lines::<PRODUCT, true>(x, run, stream, out),
                (true, false) => match cheaper {
                    Some(true) => lines::<CORRECTED_ONCE, false>(x, run, stream, out),
                    Some(false) => lines::<CORRECTED_TWICE, false>(x, run, stream, out),
                    None => lines::<QUOTIENT, false>(x, run, stream, out),
                },
                (true, true) => lines::<QUOTIENT, true>(x, run, stream, out),
            };
            nan = _mm256_or_ps(nan, found);
        }
        nan
    }

    /// Values that have a parameter each.
    #[target_feature(enable = "avx2,fma")]
    fn columns<const SCALING: u8>(&self, x: &[f32], out: &mut [f32]) -> __m256 {
        let (params, values) = (&self.params, &self.values);
        let mut nan = _mm256_setzero_ps();
        let mut at = 0;
        while at < x.len().min(out.len()) {
            let part = |array: &[f32]| load(array.get(at..).unwrap_or_default());
            let run = Run {
                scale: part(params.scale),
                inverse: _mm256_setzero_ps(),
                most: _mm256_setzero_ps(),
                low: part(params.low),
                high: part(params.high),
                zero_before: part(params.zero_before),
                zero: part(values.zero),
                step: part(values.scale),
            };
            let x = part(x);
            let v = if params.zero_before.is_empty() {
                scaled::<SCALING, false>(x, run)
            } else {
                scaled::<SCALING, true>(x, run)
            };
            let mut unordered = _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v);
            let v =
                if params.zero_before.is_empty() { value::<false>(v, run) } else { value::<true>(v, run) };
            if let Some(out) = out[at..].first_chunk_mut::<LANES>() {
                // SAFETY: as many places as the vector has.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr(), v) };
            } else {
                // Where there is no value, 0/0 is none of it.
                let rest = &mut out[at..];
                let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let there = _mm256_cmpgt_epi32(_mm256_set1_epi32(rest.len() as i32), lane);
                unordered = _mm256_and_ps(unordered, _mm256_castsi256_ps(there));
                let mut eight = [0.0; LANES];
                // SAFETY: as above.
                unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), v) };
                rest.copy_from_slice(&eight[..rest.len()]);
            }
            nan = _mm256_or_ps(nan, unordered);
            at += LANES;
        }
        nan
    }
}

/// Up to eight values, and zeros where there are none.
#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[f32]) -> __m256 {
    let mut eight = [0.0; LANES];
    let from = match values.first_chunk::<LANES>() {
        Some(values) => values,
        None => {
            eight[..values.len()].copy_from_slice(values);
            &eight
        }
    };
    // SAFETY: eight values.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

/// Values before the first cache line that begins in `out`.
fn head<A>(out: &[A]) -> usize {
    (out.as_ptr().addr().wrapping_neg() % LINE / size_of::<A>().max(1)).min(out.len())
}

/// The parameters of a run, in every lane, or of eight values.
#[derive(Clone, Copy)]
struct Run {
    /// The divisor, or the factor.
    scale: __m256,
    /// The reciprocal of the divisor, and a value just beyond the upper bound.
    inverse: __m256,
    most: __m256,
    low: __m256,
    high: __m256,
    zero_before: __m256,
    zero: __m256,
    step: __m256,
}

/// A run of values, by whole cache lines if they are to go past the caches. The sign bits of the result tell of NaN.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lines<const SCALING: u8, const ZERO: bool>(x: &[f32], run: Run, stream: bool, out: &mut [f32]) -> __m256 {
    let mut nan = _mm256_setzero_ps();
    let head = if stream { head(out) } else { 0 };
    let (x_head, x) = x.split_at(head);
    let (out_head, out) = out.split_at_mut(head);
    rest::<SCALING, ZERO>(x_head, run, &mut nan, out_head);
    let (steps, last) = x.as_chunks::<STEP>();
    let (out_steps, out_last) = out.as_chunks_mut::<STEP>();
    if stream && out_steps.as_ptr().addr().is_multiple_of(LINE) {
        for (x, out) in steps.iter().zip(out_steps) {
            prefetch(x, AHEAD);
            for (i, v) in four::<SCALING, ZERO>(x, run, &mut nan).into_iter().enumerate() {
                // SAFETY: the step has room for four vectors and begins a cache line.
                unsafe { _mm256_stream_ps(out.as_mut_ptr().add(LANES * i), v) };
            }
        }
    } else {
        for (x, out) in steps.iter().zip(out_steps) {
            for (i, v) in four::<SCALING, ZERO>(x, run, &mut nan).into_iter().enumerate() {
                // SAFETY: the step has room for four vectors.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(LANES * i), v) };
            }
        }
    }
    rest::<SCALING, ZERO>(last, run, &mut nan, out_last);
    nan
}

/// Fewer values than a step.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn rest<const SCALING: u8, const ZERO: bool>(x: &[f32], run: Run, nan: &mut __m256, out: &mut [f32]) {
    for (x, out) in x.chunks(STEP).zip(out.chunks_mut(STEP)) {
        // Zeros are no NaN, and their values are not kept.
        let mut values = [0.0; STEP];
        values[..x.len()].copy_from_slice(x);
        for (i, v) in four::<SCALING, ZERO>(&values, run, nan).into_iter().enumerate() {
            // SAFETY: four vectors.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr().add(LANES * i), v) };
        }
        out.copy_from_slice(&values[..out.len()]);
    }
}

/// The values of the codes of a step.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn four<const SCALING: u8, const ZERO: bool>(x: &[f32; STEP], run: Run, nan: &mut __m256) -> [__m256; 4] {
    // SAFETY: four vectors.
    let x = [0, 1, 2, 3].map(|i| unsafe { _mm256_loadu_ps(x.as_ptr().add(LANES * i)) });
    let v = x.map(|x| scaled::<SCALING, ZERO>(x, run));
    let seen = if SCALING >= CORRECTED_ONCE { x } else { v };
    let first = _mm256_cmp_ps::<_CMP_UNORD_Q>(seen[0], seen[1]);
    let second = _mm256_cmp_ps::<_CMP_UNORD_Q>(seen[2], seen[3]);
    *nan = _mm256_or_ps(*nan, _mm256_or_ps(first, second));
    v.map(|v| value::<ZERO>(v, run))
}

/// Eight values in the scale of their codes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn scaled<const SCALING: u8, const ZERO: bool>(x: __m256, run: Run) -> __m256 {
    let v = match SCALING {
        PRODUCT => _mm256_mul_ps(x, run.scale),
        QUOTIENT => _mm256_div_ps(x, run.scale),
        _ => {
            // The quotient with the bits of a division, as in `division`. The second operand where one is NaN.
            let x = _mm256_min_ps(run.most, x);
            let q = _mm256_mul_ps(x, run.inverse);
            let q = _mm256_fmadd_ps(_mm256_fnmadd_ps(q, run.scale, x), run.inverse, q);
            if SCALING == CORRECTED_ONCE {
                return q;
            }
            return _mm256_fmadd_ps(_mm256_fnmadd_ps(q, run.scale, x), run.inverse, q);
        }
    };
    if ZERO { _mm256_add_ps(v, run.zero_before) } else { v }
}

/// The values of the codes of eight scaled values.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn value<const ZERO: bool>(v: __m256, run: Run) -> __m256 {
    // The second operand where the first is NaN.
    let v = _mm256_min_ps(_mm256_max_ps(v, run.low), run.high);
    // By way of an integer, so that no zero is negative. Zero points that were to be added are not taken off again.
    let q = _mm256_cvtepi32_ps(_mm256_cvtps_epi32(v));
    _mm256_mul_ps(run.step, if ZERO { _mm256_sub_ps(q, run.zero) } else { q })
}
