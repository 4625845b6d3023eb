//! Blocks of random numbers by the AES instructions of the processor.
//!
//! A round of AES is one instruction that takes four cycles, of which two begin in each: eight states at once keep it
//! busy. On vectors of 256 bits (VAES) each holds two blocks.
//!
//! **Two rounds for many blocks.** The lowest byte of a block's number is one byte of the state. The first round spreads it
//! over one column, and the second spreads each byte of this column over another one. Both rounds are linear (by exclusive
//! or) but for the bytes that they replace one by one, so what follows is a sum: of a part that the lowest byte decides on,
//! and one that the other bytes do. Of the former there are 256, which serve all blocks whose numbers have the same byte in
//! the place that shares the column, the sixth: see [`Shared`].
#![allow(unsafe_code)] // intrinsics on pointers

use crate::random::Ars;
#[cfg(target_arch = "x86_64")]
use crate::random::ROUNDS;

/// Where blocks of random numbers come from.
pub(crate) struct Blocks {
    generator: Ars,
    #[cfg(target_arch = "x86_64")]
    way: x86::Way,
    #[cfg(target_arch = "x86_64")]
    shared: x86::Shared,
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{GROUP, Pairs, Shared};

impl Blocks {
    /// Those of `generator`.
    #[inline]
    pub(crate) fn new(generator: Ars) -> Self {
        Self {
            generator,
            #[cfg(target_arch = "x86_64")]
            way: x86::Way::here(),
            #[cfg(target_arch = "x86_64")]
            shared: Shared::none(),
        }
    }

    /// Prepares for about `count` blocks from `first` on, where that makes them faster.
    #[inline]
    pub(crate) fn expect(&mut self, first: u64, count: usize) {
        #[cfg(target_arch = "x86_64")]
        self.way.share(self.generator.keys(), first, count, &mut self.shared);
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (first, count);
    }

    /// The keys of the rounds, and what many of the blocks have in common.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn parts(&self) -> (&[[u64; 2]; ROUNDS + 1], &Shared) {
        (self.generator.keys(), &self.shared)
    }

    /// What computes them by pairs, where the machine has the instructions: AVX2 and VAES.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn pairs(&self) -> Option<Pairs<'_>> {
        // SAFETY: the way says that the instructions are there.
        (self.way == x86::Way::ByPairs).then(|| unsafe { Pairs::new(self.generator.keys(), &self.shared) })
    }

    /// Blocks from `first` on, as half-words, the low half of each word first.
    pub(crate) fn fill(&self, first: u64, out: &mut [[u16; 8]]) {
        #[cfg(target_arch = "x86_64")]
        if self.way.fill(self.generator.keys(), &self.shared, first, out) {
            return;
        }
        portable(&self.generator, first, out);
    }
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
    use core::mem::MaybeUninit;
    use std::arch::is_x86_feature_detected as has;

    use crate::random::ROUNDS;
    use crate::simd::Level;

    type Keys = [[u64; 2]; ROUNDS + 1];

    /// States that are computed at once.
    const TOGETHER: usize = 8;

    /// Which instructions the machine has.
    #[derive(Clone, Copy, PartialEq)]
    pub(super) enum Way {
        None,
        OneByOne,
        ByPairs,
    }

    impl Way {
        pub(super) fn here() -> Self {
            match crate::kernel::level() >= Level::Avx2 && has!("aes") {
                true if has!("vaes") => Self::ByPairs,
                true => Self::OneByOne,
                false => Self::None,
            }
        }

        /// Finds what so many blocks have in common, where it is worth it.
        #[inline]
        pub(super) fn share(self, keys: &Keys, first: u64, count: usize, shared: &mut Shared) {
            // Two rounds of 256 blocks, and as much again to put them away, save two rounds of the others.
            const LEAST: usize = 1024;
            if count >= LEAST {
                match self {
                    // SAFETY: the processor has the instructions.
                    Self::ByPairs => unsafe { shared.fill_by_pairs(keys, first) },
                    // SAFETY: as above.
                    Self::OneByOne => unsafe { shared.fill(keys, first) },
                    Self::None => (),
                }
            }
        }

        /// Whether there was a way to write the blocks.
        #[inline]
        pub(super) fn fill(self, keys: &Keys, shared: &Shared, first: u64, out: &mut [[u16; 8]]) -> bool {
            match self {
                // SAFETY: the processor has the instructions.
                Self::ByPairs => unsafe { by_pairs(keys, shared, first, out) },
                // SAFETY: as above.
                Self::OneByOne => unsafe { one_by_one(keys, shared, first, out) },
                Self::None => return false,
            }
            true
        }
    }

    /// States after two rounds of blocks whose numbers differ in their lowest 40 bits only: what each lowest byte adds to
    /// them.
    #[repr(align(64))]
    pub(crate) struct Shared {
        lowest: MaybeUninit<[[u64; 2]; 256]>,
        /// The other bits of the numbers. As long as this is no such number, there is nothing else.
        above: u64,
    }

    /// The column of the lowest byte.
    const COLUMN: i64 = 0xFFFF_FFFF;

    impl Shared {
        /// Of no blocks.
        #[inline(always)]
        pub(super) const fn none() -> Self {
            Self { lowest: MaybeUninit::uninit(), above: u64::MAX }
        }

        /// For the blocks about `first`.
        #[target_feature(enable = "aes,avx")]
        fn fill(&mut self, keys: &Keys, first: u64) {
            let [before, key] = [keys[0], keys[1]].map(|[low, high]| _mm_set_epi64x(high as i64, low as i64));
            let column = _mm_set_epi64x(0, COLUMN);
            let lowest = self.lowest.as_mut_ptr().cast::<__m128i>();
            for low in 0..256 {
                let number = _mm_set_epi64x(0, (first & !0xFF | low) as i64);
                let state = _mm_and_si128(_mm_aesenc_si128(_mm_xor_si128(number, before), key), column);
                let part = _mm_aesenc_si128(state, _mm_setzero_si128());
                // SAFETY: there is room for 256 times 128 bits.
                unsafe { _mm_storeu_si128(lowest.add(low as usize), part) };
            }
            self.above = first >> 40;
        }

        /// As [`fill`](Self::fill).
        #[target_feature(enable = "avx2,aes,vaes")]
        fn fill_by_pairs(&mut self, keys: &Keys, first: u64) {
            let both = |low, high| _mm256_setr_epi64x(low, high, low, high);
            let [before, key] = [keys[0], keys[1]].map(|[low, high]| both(low as i64, high as i64));
            let column = both(COLUMN, 0);
            let mut numbers =
                _mm256_add_epi64(both((first & !0xFF) as i64, 0), _mm256_setr_epi64x(0, 0, 1, 0));
            let lowest = self.lowest.as_mut_ptr().cast::<__m256i>();
            for pair in 0..128 {
                let states = _mm256_aesenc_epi128(_mm256_xor_si256(numbers, before), key);
                let parts = _mm256_aesenc_epi128(_mm256_and_si256(states, column), _mm256_setzero_si256());
                // SAFETY: there is room for 128 times 256 bits.
                unsafe { _mm256_storeu_si256(lowest.add(pair), parts) };
                numbers = _mm256_add_epi64(numbers, both(2, 0));
            }
            self.above = first >> 40;
        }

        /// The parts of `N` blocks from `block` on, if they are here and share the [`others`](Self::others).
        #[inline(always)]
        pub(crate) fn parts<const N: usize>(&self, block: u64) -> Option<&[[u64; 2]; N]> {
            if block >> 40 != self.above {
                return None;
            }
            // SAFETY: all were written before `above` became the high bits of a number.
            let lowest = unsafe { self.lowest.assume_init_ref() };
            lowest.get((block & 0xFF) as usize..)?.first_chunk()
        }

        /// What the other bytes add to the states of blocks whose numbers differ from `block` in the lowest byte only.
        #[inline]
        #[target_feature(enable = "aes,avx")]
        pub(crate) fn others(keys: &Keys, block: u64) -> __m128i {
            let [before, first, second] =
                [keys[0], keys[1], keys[2]].map(|[low, high]| _mm_set_epi64x(high as i64, low as i64));
            let number = _mm_set_epi64x(0, (block & !0xFF) as i64);
            let state = _mm_aesenc_si128(_mm_xor_si128(number, before), first);
            let state = _mm_aesenc_si128(_mm_andnot_si128(_mm_set_epi64x(0, COLUMN), state), second);
            // What zeros became counts in both parts.
            _mm_xor_si128(state, _mm_aesenc_si128(_mm_setzero_si128(), _mm_setzero_si128()))
        }
    }

    #[target_feature(enable = "avx2,aes,vaes")]
    pub(super) fn by_pairs(keys: &Keys, shared: &Shared, first: u64, out: &mut [[u16; 8]]) {
        let mut pairs = Pairs::new(keys, shared);
        let (groups, rest) = out.as_chunks_mut();
        let mut block = first;
        for group in groups {
            pairs.group(block, group);
            block = block.wrapping_add(GROUP as u64);
        }
        for pair in rest.chunks_mut(2) {
            let [found] = states::<1>(&pairs.wide, block);
            let mut both = [[0; 8]; 2];
            // SAFETY: two blocks of 128 bits.
            unsafe { _mm256_storeu_si256(both.as_mut_ptr().cast(), found) };
            pair.copy_from_slice(&both[..pair.len()]);
            block = block.wrapping_add(2);
        }
    }

    /// Blocks of a [group](Pairs::group).
    pub(crate) const GROUP: usize = 2 * TOGETHER;

    /// Computes blocks by pairs, with the keys in vectors.
    pub(crate) struct Pairs<'a> {
        wide: [__m256i; ROUNDS + 1],
        shared: &'a Shared,
        others: Others<'a>,
    }

    impl<'a> Pairs<'a> {
        #[inline]
        #[target_feature(enable = "avx2,aes,vaes")]
        pub(super) fn new(keys: &'a Keys, shared: &'a Shared) -> Self {
            let wide =
                keys.map(|[low, high]| _mm256_setr_epi64x(low as i64, high as i64, low as i64, high as i64));
            Self { wide, shared, others: Others { keys, window: 0, state: None } }
        }

        /// As many blocks as are computed at once, from `block` on.
        #[inline]
        #[target_feature(enable = "avx2,aes,vaes")]
        pub(crate) fn group(&mut self, block: u64, out: &mut [[u16; 8]; GROUP]) {
            let found = match self.shared.parts::<GROUP>(block) {
                Some(parts) => {
                    let others = _mm256_broadcastsi128_si256(self.others.of(block));
                    let mut states = [others; TOGETHER];
                    for (state, pair) in states.iter_mut().zip(parts.as_chunks::<2>().0) {
                        // SAFETY: two blocks of 128 bits.
                        let pair = unsafe { _mm256_loadu_si256(pair.as_ptr().cast()) };
                        *state = _mm256_xor_si256(*state, pair);
                    }
                    rounds::<TOGETHER, 3>(&self.wide, states)
                }
                None => states::<TOGETHER>(&self.wide, block),
            };
            for (pair, found) in out.as_chunks_mut::<2>().0.iter_mut().zip(found) {
                // SAFETY: two blocks of 128 bits.
                unsafe { _mm256_storeu_si256(pair.as_mut_ptr().cast(), found) };
            }
        }
    }

    /// What the other bytes add, found out once for blocks that have the same ones.
    struct Others<'a> {
        keys: &'a Keys,
        window: u64,
        state: Option<__m128i>,
    }

    impl Others<'_> {
        #[inline]
        #[target_feature(enable = "aes,avx")]
        fn of(&mut self, block: u64) -> __m128i {
            match self.state {
                Some(state) if self.window == block >> 8 => state,
                _ => {
                    self.window = block >> 8;
                    *self.state.insert(Shared::others(self.keys, block))
                }
            }
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
        rounds::<N, 1>(keys, states)
    }

    /// The rounds from `FIRST` on.
    #[inline]
    #[target_feature(enable = "avx2,vaes")]
    fn rounds<const N: usize, const FIRST: usize>(
        keys: &[__m256i; ROUNDS + 1],
        mut states: [__m256i; N],
    ) -> [__m256i; N] {
        for key in &keys[FIRST..ROUNDS] {
            for state in &mut states {
                *state = _mm256_aesenc_epi128(*state, *key);
            }
        }
        states.map(|state| _mm256_aesenclast_epi128(state, keys[ROUNDS]))
    }

    #[target_feature(enable = "avx,aes")]
    pub(super) fn one_by_one(keys: &Keys, shared: &Shared, first: u64, out: &mut [[u16; 8]]) {
        let each = keys.map(|[low, high]| _mm_set_epi64x(high as i64, low as i64));
        let mut block = first;
        let mut others = Others { keys, window: 0, state: None };
        for group in out.chunks_mut(TOGETHER) {
            let mut states = [_mm_setzero_si128(); TOGETHER];
            let begun = shared.parts::<TOGETHER>(block);
            let from = if let Some(parts) = begun {
                let others = others.of(block);
                for (state, part) in states.iter_mut().zip(parts) {
                    // SAFETY: a block of 128 bits.
                    *state = _mm_xor_si128(others, unsafe { _mm_loadu_si128(part.as_ptr().cast()) });
                }
                3
            } else {
                for (i, state) in states.iter_mut().enumerate() {
                    let counter = _mm_set_epi64x(0, block.wrapping_add(i as u64) as i64);
                    *state = _mm_xor_si128(counter, each[0]);
                }
                1
            };
            for key in &each[from..ROUNDS] {
                for state in &mut states {
                    *state = _mm_aesenc_si128(*state, *key);
                }
            }
            for (out, state) in group.iter_mut().zip(states) {
                let found = _mm_aesenclast_si128(state, each[ROUNDS]);
                // SAFETY: a block of 128 bits.
                unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), found) };
            }
            block = block.wrapping_add(TOGETHER as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;

    #[test]
    fn every_way_gives_the_same_blocks() {
        let firsts =
            [0, 5, 250, (1 << 32) - 3, (1 << 40) - 50, (1 << 40) - 1000, (5 << 40) + 77, (1 << 61) - 2000];
        for (seed, first) in [0, 7, u64::MAX, 1 << 63]
            .into_iter()
            .zip(firsts.chunks(2))
            .flat_map(|(s, f)| f.iter().map(move |f| (s, *f)))
        {
            for generator in [Ars::new(seed), Ars::new(seed).complemented()] {
                for len in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 50, 1000, 1024, 1700] {
                    let mut expected = vec![[0; 8]; len];
                    portable(&generator, first, &mut expected);
                    let found = agreed(|| {
                        let mut blocks = Blocks::new(generator);
                        blocks.expect(first, len);
                        let mut found = vec![[1; 8]; len];
                        blocks.fill(first, &mut found);
                        // In pieces, which begin anywhere.
                        let mut pieces = vec![[1; 8]; len];
                        for (at, piece) in (first..).step_by(37).zip(pieces.chunks_mut(37)) {
                            blocks.fill(at, piece);
                        }
                        assert_eq!(pieces, found);
                        found
                    });
                    assert_eq!(found, expected);
                    #[cfg(target_arch = "x86_64")]
                    if std::arch::is_x86_feature_detected!("aes")
                        && crate::simd::level() >= crate::simd::Level::Avx2
                    {
                        let mut shared = Shared::none();
                        x86::Way::OneByOne.share(generator.keys(), first, len, &mut shared);
                        assert_eq!(shared.parts::<1>(first).is_some(), len >= 1024);
                        let mut found = vec![[1; 8]; len];
                        // SAFETY: the processor has the instructions.
                        unsafe { x86::one_by_one(generator.keys(), &shared, first, &mut found) };
                        assert_eq!(found, expected);
                    }
                }
            }
        }
        let (mut plain, mut complement) = ([[0; 8]; 3], [[0; 8]; 3]);
        Blocks::new(Ars::new(9)).fill(4, &mut plain);
        Blocks::new(Ars::new(9).complemented()).fill(4, &mut complement);
        assert!(plain.as_flattened().iter().zip(complement.as_flattened()).all(|(a, b)| *a == !b));
    }
}
