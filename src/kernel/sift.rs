//! Keeping some of many f32 in their order, in vectors of 256 bits.
//!
//! The lanes that are kept are moved to the front of a vector by a table of what goes where, and the whole vector is
//! stored: what is stored next overwrites the rest of it.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

use crate::simd::Level;

/// Lanes of a vector.
const LANES: usize = 8;

/// Values that are looked at before those that are kept are handed on.
const STAGE: usize = 512;

/// For each set of lanes their numbers, a byte for each, the lowest one first.
static PLACES: [[u8; LANES]; 256] = {
    let mut places = [[0; LANES]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut free) = (0, 0);
        while lane < LANES {
            if set >> lane & 1 == 1 {
                places[set][free] = lane as u8;
                free += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    places
};

/// For each set of lanes how many they are.
static COUNTS: [u8; 256] = {
    let mut counts = [0; 256];
    let mut set = 0;
    while set < 256 {
        counts[set] = set.count_ones() as u8;
        set += 1;
    }
    counts
};

/// A grid in f32: 1 / S, the fraction of the zero point, and the lowest and the highest code less its whole part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) inverse: f32,
    pub(super) shift: f32,
    pub(super) low: f32,
    pub(super) high: f32,
}

/// [`Grid`] in vectors.
struct Wide {
    inverse: __m256,
    shift: __m256,
    low: __m256,
    high: __m256,
}

impl Wide {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(grid: Grid) -> Self {
        let wide = |x: f32| _mm256_set1_ps(x);
        Self {
            inverse: wide(grid.inverse),
            shift: wide(grid.shift),
            low: wide(grid.low),
            high: wide(grid.high),
        }
    }

    /// The nearest codes, ties to even.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn codes(&self, x: __m256) -> __m256 {
        let v = _mm256_add_ps(_mm256_mul_ps(x, self.inverse), self.shift);
        let v = _mm256_min_ps(self.high, _mm256_max_ps(self.low, v));
        _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
    }
}

/// Gives the values of `x` that have different codes on the two grids to `kept`, and returns how many values were
/// looked at: none where this loop cannot serve.
#[inline]
pub(super) fn changing(x: &[f32], grids: [Grid; 2], kept: impl FnMut(&[f32])) -> usize {
    if super::level() < Level::Avx2 {
        return 0;
    }
    // SAFETY: the level says that the machine has AVX2.
    unsafe { changing_of(x, grids, kept) }
}

#[target_feature(enable = "avx2")]
fn changing_of(x: &[f32], [first, second]: [Grid; 2], kept: impl FnMut(&[f32])) -> usize {
    let (first, second) = (Wide::new(first), Wide::new(second));
    sift(x, kept, |x| _mm256_cmp_ps::<_CMP_NEQ_UQ>(first.codes(x), second.codes(x)))
}

/// Gives the values of `x` from `low` to `high` to `kept`, and returns how many values were looked at: none where this
/// loop cannot serve.
#[inline]
pub(super) fn between(x: &[f32], low: f32, high: f32, kept: impl FnMut(&[f32])) -> usize {
    if super::level() < Level::Avx2 {
        return 0;
    }
    // SAFETY: the level says that the machine has AVX2.
    unsafe { between_of(x, low, high, kept) }
}

#[target_feature(enable = "avx2")]
fn between_of(x: &[f32], low: f32, high: f32, kept: impl FnMut(&[f32])) -> usize {
    let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
    sift(x, kept, |x| {
        _mm256_and_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x, low), _mm256_cmp_ps::<_CMP_LE_OQ>(x, high))
    })
}

/// Gives the values whose lanes `keep` sets to `kept`, some at a time, but for the last ones that do not fill a vector.
#[inline]
#[target_feature(enable = "avx2")]
fn sift(x: &[f32], mut kept: impl FnMut(&[f32]), keep: impl Fn(__m256) -> __m256) -> usize {
    let mut stage = [0.0; STAGE + LANES];
    let whole = x.len() / LANES * LANES;
    for x in x[..whole].chunks(STAGE) {
        let mut free = 0;
        for x in x.as_chunks::<LANES>().0 {
            // SAFETY: eight values.
            let x = unsafe { _mm256_loadu_ps(x.as_ptr()) };
            let set = (_mm256_movemask_ps(keep(x)) & 255) as usize;
            // SAFETY: eight bytes.
            let places = unsafe { _mm_loadl_epi64(PLACES[set].as_ptr().cast()) };
            let front = _mm256_permutevar8x32_ps(x, _mm256_cvtepu8_epi32(places));
            // SAFETY: no more than the values before these were kept, at most a stage less a vector.
            unsafe { _mm256_storeu_ps(stage.as_mut_ptr().add(free), front) };
            free += usize::from(COUNTS[set]);
        }
        kept(&stage[..free.min(STAGE)]);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_lanes_keeps_its_order() {
        if super::super::level() < Level::Avx2 {
            return;
        }
        for set in 0_u32..256 {
            let x: Vec<f32> =
                (0..8_u32).map(|lane| if set >> lane & 1 == 1 { lane as f32 + 1.0 } else { -1.0 }).collect();
            let mut kept = vec![0.5];
            assert_eq!(between(&x, 0.0, 9.0, |some| kept.extend_from_slice(some)), 8);
            let expected: Vec<f32> = [0.5].into_iter().chain(x.into_iter().filter(|x| *x > 0.0)).collect();
            assert_eq!(kept, expected);
        }
    }

    #[test]
    fn a_stage_that_is_kept_whole_is_kept_once() {
        if super::super::level() < Level::Avx2 {
            return;
        }
        let x: Vec<f32> = (0..3 * STAGE as u32 + 21).map(|i| i as f32).collect();
        let mut kept = Vec::new();
        let looked_at = between(&x, 0.0, f32::MAX, |some| kept.extend_from_slice(some));
        assert_eq!(looked_at, x.len() / LANES * LANES);
        assert_eq!(kept, x[..looked_at]);
    }
}
