//! Codes of long rows on uniform grids, to the nearest integer and one byte each, where each row is read twice: for its
//! range, and for its codes.
//!
//! Meanwhile lines of the next row are asked for, as many as are read from memory in the time that a pass takes, so that
//! memory never waits and the next row has come from there when its range is wanted.

#[cfg(target_arch = "x86_64")]
use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::{convert::same, extremes, narrow::encode_row};
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
    /// Bytes from the row to the next one, lines of which are asked for that its [`range`] did not ask for; none if zero.
    pub ahead: usize,
    /// Whether codes go past the caches, if their place is aligned for that. Then [`stream::finish`](super::stream::finish)
    /// has to follow before other threads may see them.
    pub stream: bool,
}

/// The shortest row.
pub(crate) const SHORTEST: usize = 1024;

/// The range of a row of f32 takes about as long as so many times fewer lines take to come from memory: it asks for one in so
/// many, and codes for the others. That of numbers of 16 bits takes too little for that.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only vectors ask ahead"))]
pub(super) const IN_TURNS: usize = 4;

/// Whether ranges of rows of `A` ask for lines.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only vectors ask ahead"))]
pub(super) const fn ranges_ask<A>() -> bool {
    size_of::<A>() == size_of::<f32>()
}

/// The smallest and the largest value, which are passed over if NaN, and whether all are finite, with lines asked for that
/// lie `ahead` bytes beyond. `None` where there is nothing to ask for, or no loop for it.
pub(crate) fn range<A: Element>(x: &[A], ahead: usize) -> Option<(f32, f32, bool)> {
    #[cfg(target_arch = "x86_64")]
    if ranges_ask::<A>() && x.len() >= SHORTEST && ahead > 0 {
        return extremes::row(same::<A, f32>(x)?, ahead);
    }
    let _ = (x, ahead);
    None
}

/// Writes the code of each value: `clamp(round(x / scale) + zero)`, to the nearest integer, ties to even. Every value is
/// finite and at most 2^14 times the scale. `false` where there is no loop for that.
pub(crate) fn encode<A: Element>(x: &[A], row: &Row, codes: &mut [u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if x.len() >= SHORTEST && x.len() == codes.len() {
        let level = super::level();
        // Vectors of 256 bits were seen to be faster at most.
        let short = level.min(crate::simd::Level::Avx2);
        let level = if row.stream { short } else { level };
        return if let Some(x) = same::<A, f32>(x) {
            encode_row(level, x, row, codes)
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
    use super::super::forced::{self, agreed};
    use super::super::{reduce, stream};
    use super::*;
    use crate::simd::Level;
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
                            for level in forced::available() {
                                let mut found = vec![7; offset + len];
                                let done = forced::with(level, || encode(&x, &row, &mut found[offset..]));
                                stream::finish();
                                assert_eq!(done, level >= Level::Avx2 && len >= SHORTEST);
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
    fn ranges_are_those_of_blocks() {
        let len = 2 * SHORTEST + 37;
        let plain: Vec<f32> = (0..len).map(|i| ((i * 37 % 601) as f32 - 300.0) * 0.25).collect();
        let mut cases = vec![plain.clone(), vec![-0.0; len], vec![3.0; SHORTEST]];
        for (at, x) in [(0, f32::NAN), (len - 1, f32::INFINITY), (77, f32::NEG_INFINITY), (len - 1, -1e9)] {
            let mut x_of = plain.clone();
            x_of[at] = x;
            cases.push(x_of);
        }
        for x in cases {
            let (mut low, mut high) = ([f32::INFINITY], [f32::NEG_INFINITY]);
            let finite = reduce::min_max(&x, x.len(), 0, &mut low, &mut high);
            for level in forced::available() {
                let found = forced::with(level, || range(&x, 4 * x.len()));
                assert_eq!(found.is_some(), level >= Level::Avx2);
                let Some((least, most, all)) = found else { continue };
                assert_eq!(
                    (least.to_bits(), most.to_bits(), all),
                    (low[0].to_bits(), high[0].to_bits(), finite)
                );
            }
            // Nothing to ask for.
            assert_eq!(range(&x, 0), None);
        }
        assert_eq!(range(&plain[..SHORTEST - 1], 4096), None);
        assert_eq!(range(&vec![f16::ONE; len], 4096), None);
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
