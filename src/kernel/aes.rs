//! Blocks of random numbers by the AES instructions of the processor.
//!
//! A round of AES is one instruction that takes four cycles, of which two begin in each: eight states at once keep it
//! busy. On vectors of 256 bits (VAES) each holds two blocks.
#![allow(unsafe_code)] // intrinsics on pointers

use crate::random::Ars;

/// Blocks from `first` on, as half-words, the low half of each word first.
pub(crate) fn blocks(generator: &Ars, first: u64, out: &mut [[u16; 8]]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if super::level() >= crate::simd::Level::Avx2 {
            if has!("vaes") {
                // SAFETY: the processor has both.
                return unsafe { x86::by_pairs(generator.keys(), first, out) };
            }
            if has!("aes") {
                // SAFETY: the processor has it.
                return unsafe { x86::one_by_one(generator.keys(), first, out) };
            }
        }
    }
    portable(generator, first, out);
}

fn portable(generator: &Ars, first: u64, out: &mut [[u16; 8]]) {
    for (block, out) in (first..).zip(out) {
        let [a, b, c, d] = generator.block(block).map(|word| [word as u16, (word >> 16) as u16]);
        *out = [a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]];
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use crate::random::ROUNDS;

    type Keys = [[u64; 2]; ROUNDS + 1];

    /// States that are computed at once.
    const TOGETHER: usize = 8;

    #[target_feature(enable = "avx2,vaes")]
    pub(super) fn by_pairs(keys: &Keys, first: u64, out: &mut [[u16; 8]]) {
        let keys =
            keys.map(|[low, high]| _mm256_setr_epi64x(low as i64, high as i64, low as i64, high as i64));
        let (groups, rest) = out.as_chunks_mut::<{ 2 * TOGETHER }>();
        let mut block = first;
        for group in groups {
            let found = states::<TOGETHER>(&keys, block);
            for (pair, found) in group.as_chunks_mut::<2>().0.iter_mut().zip(found) {
                // SAFETY: two blocks of 128 bits.
                unsafe { _mm256_storeu_si256(pair.as_mut_ptr().cast(), found) };
            }
            block = block.wrapping_add(2 * TOGETHER as u64);
        }
        for pair in rest.chunks_mut(2) {
            let [found] = states::<1>(&keys, block);
            let mut both = [[0; 8]; 2];
            // SAFETY: two blocks of 128 bits.
            unsafe { _mm256_storeu_si256(both.as_mut_ptr().cast(), found) };
            pair.copy_from_slice(&both[..pair.len()]);
            block = block.wrapping_add(2);
        }
    }

    /// The blocks of `N` pairs of counters.
    #[inline]
    #[target_feature(enable = "avx2,vaes")]
    fn states<const N: usize>(keys: &[__m256i; ROUNDS + 1], block: u64) -> [__m256i; N] {
        let mut states = [_mm256_setzero_si256(); N];
        for (pair, state) in states.iter_mut().enumerate() {
            let block = block.wrapping_add(2 * pair as u64);
            let counters = _mm256_setr_epi64x(block as i64, 0, block.wrapping_add(1) as i64, 0);
            *state = _mm256_xor_si256(counters, keys[0]);
        }
        for key in &keys[1..ROUNDS] {
            for state in &mut states {
                *state = _mm256_aesenc_epi128(*state, *key);
            }
        }
        states.map(|state| _mm256_aesenclast_epi128(state, keys[ROUNDS]))
    }

    #[target_feature(enable = "aes")]
    pub(super) fn one_by_one(keys: &Keys, first: u64, out: &mut [[u16; 8]]) {
        let keys = keys.map(|[low, high]| _mm_set_epi64x(high as i64, low as i64));
        let mut block = first;
        for group in out.chunks_mut(TOGETHER) {
            let mut states = [_mm_setzero_si128(); TOGETHER];
            for (i, state) in states.iter_mut().enumerate() {
                let counter = _mm_set_epi64x(0, block.wrapping_add(i as u64) as i64);
                *state = _mm_xor_si128(counter, keys[0]);
            }
            for key in &keys[1..ROUNDS] {
                for state in &mut states {
                    *state = _mm_aesenc_si128(*state, *key);
                }
            }
            for (out, state) in group.iter_mut().zip(states) {
                let found = _mm_aesenclast_si128(state, keys[ROUNDS]);
                // SAFETY: a block of 128 bits.
                unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), found) };
            }
            block = block.wrapping_add(TOGETHER as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_gives_the_same_blocks() {
        for (seed, first) in [(0, 0), (7, 5), (u64::MAX, (1 << 32) - 3), (1 << 63, (1 << 61) - 50)] {
            for generator in [Ars::new(seed), Ars::new(seed).complemented()] {
                for len in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 50] {
                    let mut expected = vec![[0; 8]; len];
                    portable(&generator, first, &mut expected);
                    let mut found = vec![[1; 8]; len];
                    blocks(&generator, first, &mut found);
                    assert_eq!(found, expected);
                    #[cfg(target_arch = "x86_64")]
                    if std::arch::is_x86_feature_detected!("aes") {
                        let mut found = vec![[1; 8]; len];
                        // SAFETY: the processor has it.
                        unsafe { x86::one_by_one(generator.keys(), first, &mut found) };
                        assert_eq!(found, expected);
                    }
                }
            }
        }
        let (mut plain, mut complement) = ([[0; 8]; 3], [[0; 8]; 3]);
        blocks(&Ars::new(9), 4, &mut plain);
        blocks(&Ars::new(9).complemented(), 4, &mut complement);
        assert!(plain.as_flattened().iter().zip(complement.as_flattened()).all(|(a, b)| *a == !b));
    }
}
