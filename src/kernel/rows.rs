//! Codes of long rows on uniform grids, to the nearest integer and one byte each, where each row is read twice: for its
//! range, and for its codes.
//!
//! While a row's codes are computed, which takes longer than to read it from the caches, the next row is asked for, so
//! that it has come from memory when its range is wanted.

/// The grid of a row, and how its codes are written.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only vectors serve rows"))]
pub(crate) struct Row {
    /// The scale: within [`DIVISORS`](super::blocks::DIVISORS) if values are divided by it.
    pub scale: f32,
    /// The zero point.
    pub zero: i16,
    /// The lowest and the highest code, of 8 bits.
    pub codes: (i16, i16),
    /// Whether values are divided by the scale, rather than multiplied by its reciprocal.
    pub divide: bool,
    /// Bytes from a value to one that is asked for; none if zero.
    pub ahead: usize,
    /// Whether codes go past the caches, if their place is aligned for that. Then [`stream::finish`](super::stream::finish)
    /// has to follow before other threads may see them.
    pub stream: bool,
}

/// The shortest row.
pub(crate) const SHORTEST: usize = 1024;

/// Writes the code of each value: `clamp(round(x / scale) + zero)`, to the nearest integer, ties to even. Every value is
/// finite and at most 2^14 times the scale. `false` where there is no loop for that.
pub(crate) fn encode(x: &[f32], row: &Row, codes: &mut [u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if super::level() >= crate::simd::Level::Avx2 && x.len() >= SHORTEST && x.len() == codes.len() {
        vectors::encode(x, row, codes);
        return true;
    }
    let _ = (x, row, codes);
    false
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // intrinsics on pointers, and calls where the instructions were detected
mod vectors {
    use core::arch::x86_64::*;

    use super::super::{division, stream};
    use super::Row;
    use crate::simd::Level;

    /// Ways to scale values: by a factor; by the two terms of a reciprocal, where these give the bits of a division; by a
    /// division that is corrected, as `division` explains.
    const FACTOR: u8 = 0;
    const TERMS: u8 = 1;
    const CORRECTED: u8 = 2;

    /// As [`encode`](super::encode), of equally many values and codes, more than a step of either width.
    pub(super) fn encode(x: &[f32], row: &Row, codes: &mut [u8]) {
        // SAFETY: the level says what the machine has, and the caller has asked for AVX2.
        unsafe {
            if super::super::level() >= Level::Avx512 { avx512(x, row, codes) } else { avx2(x, row, codes) }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2(x: &[f32], row: &Row, codes: &mut [u8]) {
        let terms = division::reciprocal(row.scale);
        // SAFETY: the instructions are there where this is called.
        unsafe { by_kind::<Narrow>(x, row, terms, codes) }
    }

    #[target_feature(enable = "fma,avx512f,avx512bw,avx512vl,avx512dq")]
    fn avx512(x: &[f32], row: &Row, codes: &mut [u8]) {
        let terms = division::reciprocal(row.scale);
        // SAFETY: as above.
        unsafe { by_kind::<Wide>(x, row, terms, codes) }
    }

    #[inline(always)]
    unsafe fn by_kind<V: Vectors>(x: &[f32], row: &Row, terms: (f32, f32, bool), codes: &mut [u8]) {
        let stream = row.stream && stream::is_aligned(codes);
        // SAFETY: the caller's promise.
        unsafe {
            match (row.divide, terms.2) {
                (false, _) => by_sign::<V, FACTOR>(x, row, terms, stream, codes),
                (true, true) => by_sign::<V, TERMS>(x, row, terms, stream, codes),
                (true, false) => by_sign::<V, CORRECTED>(x, row, terms, stream, codes),
            }
        }
    }

    #[inline(always)]
    unsafe fn by_sign<V: Vectors, const WAY: u8>(
        x: &[f32],
        row: &Row,
        terms: (f32, f32, bool),
        stream: bool,
        codes: &mut [u8],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match (row.codes.0 < 0, stream) {
                (true, true) => steps::<V, WAY, true, true>(x, row, terms, codes),
                (true, false) => steps::<V, WAY, true, false>(x, row, terms, codes),
                (false, true) => steps::<V, WAY, false, true>(x, row, terms, codes),
                (false, false) => steps::<V, WAY, false, false>(x, row, terms, codes),
            }
        }
    }

    #[inline(always)]
    unsafe fn steps<V: Vectors, const WAY: u8, const SIGNED: bool, const STREAM: bool>(
        x: &[f32],
        row: &Row,
        (near, rest, _): (f32, f32, bool),
        codes: &mut [u8],
    ) {
        let whole = x.len() / V::STEP * V::STEP;
        // SAFETY: the caller's promise; steps lie within values and codes, which are equally many, and of whole steps the
        // places are aligned as the first one is.
        unsafe {
            let by = By { scale: V::all(row.scale), near: V::all(near), rest: V::all(rest) };
            let bounds = V::bounds(row.zero, row.codes);
            for at in (0..whole).step_by(V::STEP) {
                let from = x.as_ptr().add(at);
                if row.ahead > 0 {
                    for line in (0..V::STEP).step_by(64 / size_of::<f32>()) {
                        let line = from.wrapping_add(line).wrapping_byte_add(row.ahead);
                        _mm_prefetch::<_MM_HINT_T1>(line.cast());
                    }
                }
                V::step::<WAY, SIGNED, STREAM>(from, &by, &bounds, codes.as_mut_ptr().add(at));
            }
            if whole < x.len() {
                // Some of it for the second time.
                let at = x.len() - V::STEP;
                V::step::<WAY, SIGNED, false>(x.as_ptr().add(at), &by, &bounds, codes.as_mut_ptr().add(at));
            }
        }
    }

    /// A divisor, or a factor in place of its reciprocal, in all lanes.
    struct By<F> {
        scale: F,
        near: F,
        rest: F,
    }

    /// The zero point in words, and the lowest and the highest code in bytes.
    struct Bounds<I> {
        zero: I,
        low: I,
        high: I,
    }

    /// Vectors of one width.
    ///
    /// # Safety
    ///
    /// All that is unsafe here asks for a machine that has their instructions.
    trait Vectors {
        /// Values of four vectors.
        const STEP: usize;
        type Floats: Copy;
        type Bytes: Copy;

        unsafe fn all(value: f32) -> Self::Floats;
        unsafe fn bounds(zero: i16, codes: (i16, i16)) -> Bounds<Self::Bytes>;
        /// Writes the codes of a step of values at `from` to `to`, which is a multiple of 16 if `STREAM`.
        unsafe fn step<const WAY: u8, const SIGNED: bool, const STREAM: bool>(
            from: *const f32,
            by: &By<Self::Floats>,
            bounds: &Bounds<Self::Bytes>,
            to: *mut u8,
        );
    }

    struct Narrow;

    impl Vectors for Narrow {
        const STEP: usize = 32;
        type Floats = __m256;
        type Bytes = __m256i;

        #[inline(always)]
        unsafe fn all(value: f32) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn bounds(zero: i16, (low, high): (i16, i16)) -> Bounds<__m256i> {
            // SAFETY: the caller's promise.
            unsafe {
                Bounds {
                    zero: _mm256_set1_epi16(zero),
                    low: _mm256_set1_epi8(low as i8),
                    high: _mm256_set1_epi8(high as i8),
                }
            }
        }

        #[inline(always)]
        unsafe fn step<const WAY: u8, const SIGNED: bool, const STREAM: bool>(
            from: *const f32,
            by: &By<__m256>,
            bounds: &Bounds<__m256i>,
            to: *mut u8,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                let mut integers = [_mm256_setzero_si256(); 4];
                for (i, integers) in integers.iter_mut().enumerate() {
                    let x = _mm256_loadu_ps(from.add(8 * i));
                    let mut q = _mm256_mul_ps(x, if WAY == TERMS { by.rest } else { by.near });
                    if WAY == TERMS {
                        q = _mm256_fmadd_ps(x, by.near, q);
                    }
                    if WAY == CORRECTED {
                        for _ in 0..2 {
                            q = _mm256_fmadd_ps(_mm256_fnmadd_ps(q, by.scale, x), by.near, q);
                        }
                    }
                    *integers = _mm256_cvtps_epi32(q);
                }
                let [a, b, c, d] = integers;
                // Narrower integers saturate, which no code in use is lost by.
                let front = _mm256_adds_epi16(_mm256_packs_epi32(a, b), bounds.zero);
                let back = _mm256_adds_epi16(_mm256_packs_epi32(c, d), bounds.zero);
                let codes = if SIGNED {
                    let codes = _mm256_max_epi8(_mm256_packs_epi16(front, back), bounds.low);
                    _mm256_min_epi8(codes, bounds.high)
                } else {
                    let codes = _mm256_max_epu8(_mm256_packus_epi16(front, back), bounds.low);
                    _mm256_min_epu8(codes, bounds.high)
                };
                let codes = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
                let to = to.cast::<__m128i>();
                if STREAM {
                    _mm_stream_si128(to, _mm256_castsi256_si128(codes));
                    _mm_stream_si128(to.add(1), _mm256_extracti128_si256::<1>(codes));
                } else {
                    _mm256_storeu_si256(to.cast(), codes);
                }
            }
        }
    }

    struct Wide;

    impl Vectors for Wide {
        const STEP: usize = 64;
        type Floats = __m512;
        type Bytes = __m512i;

        #[inline(always)]
        unsafe fn all(value: f32) -> __m512 {
            // SAFETY: the caller's promise.
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn bounds(zero: i16, (low, high): (i16, i16)) -> Bounds<__m512i> {
            // SAFETY: the caller's promise.
            unsafe {
                Bounds {
                    zero: _mm512_set1_epi16(zero),
                    low: _mm512_set1_epi8(low as i8),
                    high: _mm512_set1_epi8(high as i8),
                }
            }
        }

        #[inline(always)]
        unsafe fn step<const WAY: u8, const SIGNED: bool, const STREAM: bool>(
            from: *const f32,
            by: &By<__m512>,
            bounds: &Bounds<__m512i>,
            to: *mut u8,
        ) {
            // SAFETY: the caller's promise.
            unsafe {
                let mut integers = [_mm512_setzero_si512(); 4];
                for (i, integers) in integers.iter_mut().enumerate() {
                    let x = _mm512_loadu_ps(from.add(16 * i));
                    let mut q = _mm512_mul_ps(x, if WAY == TERMS { by.rest } else { by.near });
                    if WAY == TERMS {
                        q = _mm512_fmadd_ps(x, by.near, q);
                    }
                    if WAY == CORRECTED {
                        for _ in 0..2 {
                            q = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, by.scale, x), by.near, q);
                        }
                    }
                    *integers = _mm512_cvtps_epi32(q);
                }
                let [a, b, c, d] = integers;
                // As above.
                let front = _mm512_adds_epi16(_mm512_packs_epi32(a, b), bounds.zero);
                let back = _mm512_adds_epi16(_mm512_packs_epi32(c, d), bounds.zero);
                let codes = if SIGNED {
                    let codes = _mm512_max_epi8(_mm512_packs_epi16(front, back), bounds.low);
                    _mm512_min_epi8(codes, bounds.high)
                } else {
                    let codes = _mm512_max_epu8(_mm512_packus_epi16(front, back), bounds.low);
                    _mm512_min_epu8(codes, bounds.high)
                };
                // Packing works in quarters.
                let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                let codes = _mm512_permutexvar_epi32(order, codes);
                let to = to.cast::<__m128i>();
                if STREAM {
                    _mm_stream_si128(to, _mm512_castsi512_si128(codes));
                    _mm_stream_si128(to.add(1), _mm512_extracti32x4_epi32::<1>(codes));
                    _mm_stream_si128(to.add(2), _mm512_extracti32x4_epi32::<2>(codes));
                    _mm_stream_si128(to.add(3), _mm512_extracti32x4_epi32::<3>(codes));
                } else {
                    _mm512_storeu_si512(to.cast(), codes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::{self, BlockParams};
    use super::super::forced::agreed;
    use super::super::stream;
    use super::*;

    #[test]
    fn codes_are_those_of_blocks() {
        let mut state = 3u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
        };
        // Of the reciprocals of these some are exact in two terms, and some are not.
        let scales =
            [1.0f32, 0.1, 0.3, 1.7e-3, 2.6e-3, 3.3e4, 7e-25, 9e24, 0.012_345, f32::from_bits(0x3C7F_FFFF)];
        for scale in scales {
            for len in [1023, 1024, 1025, 1031, 1087, 2048, 4096, 4100] {
                // Half of them next to the middle between two codes.
                let x: Vec<f32> = (0..len)
                    .map(|i| match i % 4 {
                        0 => ((i / 4 % 300) as f32 - 149.5) * scale,
                        1 => f32::from_bits((((i / 4 % 300) as f32 - 149.5) * scale).to_bits() ^ 1),
                        2 => next() * 250.0 * scale,
                        _ => next() * 32_000.0 * scale,
                    })
                    .collect();
                for (zero, range) in
                    [(0, (-127, 127)), (5, (-128, 127)), (128, (0, 255)), (-3, (-8, 90)), (17, (1, 200))]
                {
                    for divide in [true, false] {
                        let mut expected = vec![0; len];
                        let params = BlockParams {
                            scale: &[scale],
                            inverse: &[1.0 / scale],
                            zero: &[i32::from(zero)],
                            codes: range,
                            divide,
                            mask: u8::MAX,
                        };
                        blocks::encode(&x, len, &params, &mut expected);
                        for (offset, stream) in [(0, false), (3, true), (0, true), (16, true)] {
                            let row = Row { scale, zero, codes: range, divide, ahead: 4 * offset, stream };
                            for level in super::super::forced::available() {
                                let mut found = vec![7; offset + len];
                                let done = super::super::forced::with(level, || {
                                    encode(&x, &row, &mut found[offset..])
                                });
                                stream::finish();
                                assert_eq!(done, level >= crate::simd::Level::Avx2 && len >= SHORTEST);
                                assert!(
                                    !done || found[offset..] == expected,
                                    "{level} {scale} {len} {row:?}"
                                );
                                assert!(found[..offset].iter().all(|&code| code == 7));
                            }
                        }
                    }
                }
            }
        }
        // Different lengths.
        let row = Row { scale: 1.0, zero: 0, codes: (-127, 127), divide: true, ahead: 0, stream: false };
        assert!(!agreed(|| encode(&[1.0; 2000], &row, &mut [0; 1999])));
    }
}
