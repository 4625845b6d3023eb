//! Codes of long rows on uniform grids, to the nearest integer and one byte each, where each row is read twice: for its
//! range, and for its codes.
//!
//! While a row's codes are computed, which takes longer than to read it from the caches, the next row is asked for, so
//! that it has come from memory when its range is wanted.

#[cfg(target_arch = "x86_64")]
use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::{convert::same, narrow::encode_row};
use crate::element::Element;

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
pub(crate) fn encode<A: Element>(x: &[A], row: &Row, codes: &mut [u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if x.len() >= SHORTEST && x.len() == codes.len() {
        let level = super::level();
        // Vectors of 256 bits were seen to be faster at most.
        let short = level.min(crate::simd::Level::Avx2);
        return if let Some(x) = same::<A, f32>(x) {
            encode_row(if row.stream { short } else { level }, x, row, codes)
        } else if let Some(x) = same::<A, f16>(x) {
            encode_row(short, x, row, codes)
        } else if let Some(x) = same::<A, bf16>(x) {
            encode_row(level, x, row, codes)
        } else {
            None
        }
        .is_some();
    }
    let _ = (x, row, codes);
    false
}

#[cfg(test)]
mod tests {
    use super::super::blocks::{self, BlockParams};
    use super::super::forced::agreed;
    use super::super::stream;
    use super::*;
    use half::{bf16, f16};

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

    #[test]
    fn numbers_of_16_bits_are_the_same_numbers() {
        fn check<A: Element>() {
            for (len, scale) in [(1024, 0.1f32), (1091, 2.6e-3), (4096, 1.0)] {
                let x: Vec<A> =
                    (0..len).map(|i| A::from_f32(((i * 37 % 601) as f32 - 300.0) * 0.5 * scale)).collect();
                let wide: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
                for divide in [true, false] {
                    let row =
                        Row { scale, zero: 3, codes: (-128, 127), divide, ahead: 4096, stream: len == 4096 };
                    agreed(|| {
                        let (mut found, mut expected) = (vec![0; len], vec![0; len]);
                        assert_eq!(encode(&x, &row, &mut found), encode(&wide, &row, &mut expected));
                        stream::finish();
                        assert_eq!(found, expected);
                    });
                }
            }
        }
        check::<f16>();
        check::<bf16>();
    }
}
