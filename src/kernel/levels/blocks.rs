//! The largest magnitudes of short blocks.

use super::super::dispatch;

/// Writes the largest magnitude of each block of `width` elements; the last may be shorter. Whether all elements are
/// finite; where they are not, magnitudes are those of no number.
pub(crate) fn magnitudes(x: &[f32], width: usize, out: &mut [f32]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if super::has_avx2() && width > 0 && width.is_multiple_of(vectors::LANES) {
        return vectors::magnitudes(x, width, out);
    }
    by_blocks(x, width, out)
}

dispatch! {
    /// As [`magnitudes`].
    fn by_blocks[](x: &[f32], width: usize, out: &mut [f32]) -> bool {
        match width {
            // Loops of known length are unrolled.
            16 => of_width::<16>(x, out),
            32 => of_width::<32>(x, out),
            64 => of_width::<64>(x, out),
            128 => of_width::<128>(x, out),
            _ => of_blocks(x.chunks(width.max(1)), out),
        }
    }
}

#[inline(always)]
fn of_width<const WIDTH: usize>(x: &[f32], out: &mut [f32]) -> bool {
    let (blocks, rest) = x.as_chunks::<WIDTH>();
    let (whole, last) = out.split_at_mut(blocks.len().min(out.len()));
    of_blocks(blocks.iter().map(<[f32; WIDTH]>::as_slice), whole) & of_blocks(rest.chunks(WIDTH), last)
}

#[inline(always)]
fn of_blocks<'a>(blocks: impl Iterator<Item = &'a [f32]>, out: &mut [f32]) -> bool {
    let mut largest = 0;
    for (block, out) in blocks.zip(out) {
        // Magnitudes are in the order of their bits, with NaN behind the infinities.
        let magnitude = block.iter().fold(0, |most, x| most.max((x.to_bits() & 0x7FFF_FFFF) as i32));
        largest = largest.max(magnitude);
        *out = f32::from_bits(magnitude as u32);
    }
    largest < f32::INFINITY.to_bits() as i32
}

/// Vectors of 256 bits.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // loads and stores of whole vectors, and calls where the instructions were detected
mod vectors {
    use core::arch::x86_64::*;

    /// Elements of a vector.
    pub(super) const LANES: usize = 8;

    /// The largest magnitude of each block of `width` elements, a multiple of [`LANES`]; the last may be shorter. Whether all
    /// are finite. Only for machines with AVX2.
    pub(super) fn magnitudes(x: &[f32], width: usize, out: &mut [f32]) -> bool {
        debug_assert!(super::super::has_avx2() && width.is_multiple_of(LANES));
        // SAFETY: the caller has asked whether there is AVX2.
        unsafe {
            // Usual widths have loops of known lengths.
            match width {
                32 => magnitudes_of_eight::<32>(x, width, out),
                64 => magnitudes_of_eight::<64>(x, width, out),
                _ => magnitudes_of_eight::<0>(x, width, out),
            }
        }
    }

    #[target_feature(enable = "avx2")]
    fn magnitudes_of_eight<const WIDTH: usize>(x: &[f32], width: usize, out: &mut [f32]) -> bool {
        let width = if WIDTH > 0 { WIDTH } else { width };
        let mut largest = _mm256_setzero_si256();
        let groups = x.chunks_exact(width * LANES);
        let (steps, _) = out.as_chunks_mut::<LANES>();
        let whole = steps.len().min(groups.len());
        for (group, out) in groups.zip(steps) {
            // Of each block the maxima of its lanes, then the blocks folded onto each other until each has a lane.
            let mut blocks = group.chunks_exact(width);
            let mut next =
                || blocks.next().map_or_else(|| _mm256_setzero_si256(), |block| lane_maxima(block));
            let eight = [next(), next(), next(), next(), next(), next(), next(), next()];
            let [a, b, c, d, e, f, g, h] = eight;
            let [ab, cd, ef, gh] = [folded(a, b), folded(c, d), folded(e, f), folded(g, h)];
            let (front, back) = (folded_pairs(ab, cd), folded_pairs(ef, gh));
            let maxima = _mm256_max_epi32(
                _mm256_permute2x128_si256::<0x20>(front, back),
                _mm256_permute2x128_si256::<0x31>(front, back),
            );
            largest = _mm256_max_epi32(largest, maxima);
            // SAFETY: eight floats.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), maxima) };
        }
        let infinity = _mm256_set1_epi32(f32::INFINITY.to_bits() as i32);
        let finite = _mm256_movemask_epi8(_mm256_cmpgt_epi32(infinity, largest)) == -1;
        let (x, out) = (x.get(whole * width * LANES..), out.get_mut(whole * LANES..));
        finite & super::by_blocks(x.unwrap_or_default(), width, out.unwrap_or_default())
    }

    /// The largest magnitude of each lane, as bits: they are in the order of magnitudes, with NaN behind the infinities.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn lane_maxima(block: &[f32]) -> __m256i {
        let (vectors, _) = block.as_chunks::<LANES>();
        let magnitude = _mm256_set1_epi32(i32::MAX);
        let mut maxima = _mm256_setzero_si256();
        for x in vectors {
            // SAFETY: eight floats.
            let x = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
            maxima = _mm256_max_epi32(maxima, _mm256_and_si256(x, magnitude));
        }
        maxima
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn folded(a: __m256i, b: __m256i) -> __m256i {
        _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn folded_pairs(a: __m256i, b: __m256i) -> __m256i {
        _mm256_max_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::forced::agreed;
    use super::*;

    #[test]
    fn magnitudes_are_those_of_every_block() {
        let x: Vec<f32> = (0..700).map(|i| (i as f32 * 1.7).sin() * (i % 37) as f32 * 1e-3).collect();
        for width in [0, 1, 7, 16, 24, 32, 64, 100, 128, 1000] {
            for len in [0, 1, 15, 16, 17, 64, 127, 128, 129, 700] {
                let x = &x[..len];
                let expected: Vec<f32> = x
                    .chunks(width.max(1))
                    .map(|block| block.iter().fold(0.0, |m: f32, x| m.max(x.abs())))
                    .collect();
                let found = agreed(|| {
                    let mut out = vec![9.0; expected.len()];
                    assert!(magnitudes(x, width, &mut out));
                    out
                });
                assert_eq!(found, expected, "{width} {len}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_noticed_anywhere() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..100 {
                let mut x = [f32::MAX; 100];
                assert!(agreed(|| magnitudes(&x, 32, &mut [0.0; 4])));
                x[at] = bad;
                assert!(!agreed(|| magnitudes(&x, 32, &mut [0.0; 4])), "{bad} at {at}");
            }
        }
    }
}
