//! Values that have parameters of their own each, as the columns of a row.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;
use core::ops::Range;

use super::super::scaling::Columns;
use super::super::stream::{self, Seam};
use super::super::vector::{Vector, vectorized};
use super::codes::{ANY, Codes, Integers, SIGNED, UNSIGNED};
use super::lines::{LINE, lines};
use super::{EncodeParams, VECTOR, in_order};

vectorized! {
    /// The codes of lines of values, the first of them from the element `phase` on, each with a scale of its own, one for
    /// each place in a line, and all else in common: the first of each other parameter. Whether any value is NaN; `None`
    /// within for codes and lines that these loops cannot do.
    pub(super) fn by_lines<V>[](
        v,
        x: &[f32],
        phase: usize,
        params: &EncodeParams<'_, f32>,
        divide: bool,
        mask: u8,
        stream: bool,
        codes: &mut [u8],
    ) -> Option<bool> {
        let integers = Integers {
            low: params.low.first().copied().unwrap_or_default(),
            high: params.high.first().copied().unwrap_or_default(),
            zero: params.zero_after.first().copied().unwrap_or_default() as i16,
        };
        // Bounds that are integers of 16 bits, with one to spare.
        const BOUND: f32 = 32_000.0;
        let within = integers.low.abs() <= BOUND && integers.high.abs() <= BOUND;
        let codes_of = Codes::of(v, integers, mask).filter(|_| within && params.scale.len() >= LINE)?;
        let (low, high, zero) = (integers.low, integers.high, f32::from(integers.zero));
        let whole = mask == u8::MAX;
        let signed = whole && high == 127.0 && (-128.0..0.0).contains(&low) && zero == 0.0;
        let unsigned = whole && low == -zero && high == 255.0 - zero;
        let params = Common { params, mask, codes: codes_of };
        Some(match (divide, signed, unsigned) {
            (true, true, _) => each_line::<V, true, SIGNED>(v, x, phase, params, stream, codes),
            (true, _, true) => each_line::<V, true, UNSIGNED>(v, x, phase, params, stream, codes),
            (true, ..) => each_line::<V, true, ANY>(v, x, phase, params, stream, codes),
            (false, true, _) => each_line::<V, false, SIGNED>(v, x, phase, params, stream, codes),
            (false, _, true) => each_line::<V, false, UNSIGNED>(v, x, phase, params, stream, codes),
            (false, ..) => each_line::<V, false, ANY>(v, x, phase, params, stream, codes),
        })
    }
}

/// What all lines share.
#[derive(Clone, Copy)]
struct Common<'a, V: Vector> {
    params: &'a EncodeParams<'a, f32>,
    mask: u8,
    codes: Codes<V>,
}

#[inline(always)]
fn each_line<V: Vector, const DIVIDE: bool, const CODES: u8>(
    v: V,
    x: &[f32],
    phase: usize,
    common: Common<'_, V>,
    stream: bool,
    codes: &mut [u8],
) -> bool {
    let (len, width) = (x.len().min(codes.len()), common.params.scale.len());
    let mut seam = stream.then(Seam::<u8>::default);
    let (mut start, mut first, mut nan) = (0, phase % width.max(1), false);
    while start < len {
        let end = (start + width - first).min(len);
        let line = Line { x: &x[start..end], scale: &common.params.scale[first..first + end - start] };
        let Some(seam) = &mut seam else {
            nan |= line.encode::<V, DIVIDE, CODES>(v, common, false, &mut codes[start..end]);
            (start, first) = (end, 0);
            continue;
        };
        // Lines of the caches that are not all of this one.
        let head = (start + stream::head(&codes[start..])).min(end);
        let tail = end - (end - head) % LINE;
        nan |= line.few::<V, DIVIDE, CODES>(v, 0..head - start, common, (seam, start), codes);
        let body = line.part(head - start..tail - start);
        nan |= body.encode::<V, DIVIDE, CODES>(v, common, true, &mut codes[head..tail]);
        nan |= line.few::<V, DIVIDE, CODES>(v, tail - start..end - start, common, (seam, tail), codes);
        (start, first) = (end, 0);
    }
    if let Some(seam) = seam {
        seam.finish(codes);
        // What went past the caches becomes visible to other threads in the order of the program.
        stream::finish();
    }
    nan
}

/// Values and as many scales.
#[derive(Clone, Copy)]
struct Line<'a> {
    x: &'a [f32],
    scale: &'a [f32],
}

impl Line<'_> {
    fn part(&self, part: Range<usize>) -> Self {
        Self { x: &self.x[part.clone()], scale: &self.scale[part] }
    }

    /// Whether any value is NaN.
    #[inline(always)]
    fn encode<V: Vector, const DIVIDE: bool, const CODES: u8>(
        self,
        v: V,
        common: Common<'_, V>,
        stream: bool,
        codes: &mut [u8],
    ) -> bool {
        let Self { x, scale } = self;
        if x.len() < LINE {
            // Beside ones, whose codes are not kept.
            let (mut values, mut scales, mut line) = ([1.0; LINE], [1.0; LINE], [0; LINE]);
            values[..x.len()].copy_from_slice(x);
            scales[..x.len()].copy_from_slice(scale);
            let padded = Line { x: &values, scale: &scales };
            let nan = !x.is_empty() && padded.encode_all::<V, DIVIDE, CODES>(v, common, false, &mut line);
            codes.copy_from_slice(&line[..codes.len()]);
            return nan;
        }
        self.encode_all::<V, DIVIDE, CODES>(v, common, stream, codes)
    }

    /// As [`encode`](Self::encode), of no fewer values than codes of a line.
    #[inline(always)]
    fn encode_all<V: Vector, const DIVIDE: bool, const CODES: u8>(
        self,
        v: V,
        common: Common<'_, V>,
        stream: bool,
        codes: &mut [u8],
    ) -> bool {
        let scaling = Columns::<DIVIDE>(self.scale.as_ptr());
        if lines::<V, f32, _, CODES>(v, self.x, scaling, common.codes, stream, codes) {
            return false;
        }
        let params = EncodeParams { scale: self.scale, ..*common.params };
        // SAFETY: all machines with vectors have AVX2 and FMA.
        unsafe { columns::<DIVIDE, true>(self.x, &params, common.mask.into(), codes) }
    }

    /// The codes of a `part`, fewer than a line of the caches, which go to `at` by way of the `seam`.
    #[inline(always)]
    fn few<V: Vector, const DIVIDE: bool, const CODES: u8>(
        &self,
        v: V,
        part: Range<usize>,
        common: Common<'_, V>,
        (seam, at): (&mut Seam<u8>, usize),
        codes: &mut [u8],
    ) -> bool {
        let mut line = [0; LINE];
        let line = &mut line[..part.len()];
        let nan = self.part(part).encode::<V, DIVIDE, CODES>(v, common, false, line);
        if !line.is_empty() {
            seam.put(at, line, codes);
        }
        nan
    }
}

/// Values that have a parameter each, or a scale each and all else in common, and as many codes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn columns<const DIVIDE: bool, const COMMON: bool>(
    x: &[f32],
    params: &EncodeParams<'_, f32>,
    mask: u16,
    codes: &mut [u8],
) -> bool {
    let mut len = x.len().min(codes.len()).min(params.scale.len());
    if !COMMON {
        len = len.min(params.low.len()).min(params.high.len());
    }
    let common = [params.low, params.high].map(|all| all.first().copied().unwrap_or_default());
    let [common_low, common_high] = common.map(|bound| _mm256_set1_ps(bound));
    let common_after = _mm256_set1_epi32(params.zero_after.first().copied().unwrap_or_default());
    let before = (params.zero_before.len() >= len).then_some(params.zero_before.as_ptr());
    let after = (params.zero_after.len() >= len).then_some(params.zero_after.as_ptr());
    let mask = _mm256_set1_epi32((mask & 0xFF).into());
    let mut nan = _mm256_setzero_ps();
    // Eight codes from `at` on.
    let mut eight = |at: usize| {
        // SAFETY: `at + 8` is at most the length of every array that is there.
        unsafe {
            let part = |array: *const f32| _mm256_loadu_ps(array.add(at));
            let (x, scale) = (part(x.as_ptr()), part(params.scale.as_ptr()));
            let mut v = if DIVIDE { _mm256_div_ps(x, scale) } else { _mm256_mul_ps(x, scale) };
            if let (false, Some(before)) = (COMMON, before) {
                v = _mm256_add_ps(v, part(before));
            }
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            // The second operand where the first is NaN.
            let (low, high) = if COMMON {
                (common_low, common_high)
            } else {
                (part(params.low.as_ptr()), part(params.high.as_ptr()))
            };
            let v = _mm256_min_ps(_mm256_max_ps(v, low), high);
            let mut q = _mm256_cvtps_epi32(v);
            if COMMON {
                q = _mm256_add_epi32(q, common_after);
            } else if let Some(after) = after {
                q = _mm256_add_epi32(q, _mm256_loadu_si256(after.add(at).cast()));
            }
            _mm256_and_si256(q, mask)
        }
    };
    let to = codes.as_mut_ptr();
    let mut at = 0;
    while at + VECTOR <= len {
        let low = _mm256_packs_epi32(eight(at), eight(at + 8));
        let high = _mm256_packs_epi32(eight(at + 16), eight(at + 24));
        let bytes = in_order(_mm256_packus_epi16(low, high));
        // SAFETY: there are 32 codes from `at` on.
        unsafe { _mm256_storeu_si256(to.add(at).cast(), bytes) };
        at += VECTOR;
    }
    // The last eight overlap with those before.
    while at < len && len >= 8 {
        let place = at.min(len - 8);
        let words = _mm256_packs_epi32(eight(place), _mm256_setzero_si256());
        let bytes = in_order(_mm256_packus_epi16(words, words));
        // SAFETY: there are eight codes from `place` on.
        unsafe { _mm_storel_epi64(to.add(place).cast(), _mm256_castsi256_si128(bytes)) };
        at += 8;
    }
    _mm256_movemask_ps(nan) != 0
}
