//! Random numbers by counter: every number is a function of (seed, index) and nothing else.
//!
//! Salmon, Moraes, Dror and Shaw 2011, *Parallel random numbers: as easy as 1, 2, 3*: a block of four 32-bit words is a
//! keyed bijection of a 128-bit counter, so any number can be computed alone, in any order, on any thread.
//!
//! [`Philox`] is a generator of the `rand` crate, for everything that draws one number after the other. [`Ars`] has the
//! numbers of elements, of which there are millions: processors have instructions for it.

mod ars;

use core::convert::Infallible;

use rand::{SeedableRng, TryRng};

pub use ars::Ars;
#[cfg(target_arch = "x86_64")]
pub(crate) use ars::ROUNDS;

/// The generator Philox4x32-10 with a 64-bit seed.
///
/// [`block`](Self::block) gives any block by its index. As a generator of the `rand` crate it walks the blocks from
/// index 0 on, word by word, so that everything `rand` can draw can be drawn from it. Period 2^66 words.
///
/// ```
/// use lowbit::random::Philox;
/// use rand::{Rng, SeedableRng};
///
/// let mut walk = Philox::seed_from_u64(7);
/// let words: Vec<u32> = (0..8).map(|_| walk.next_u32()).collect();
/// // The second block, computed alone.
/// assert_eq!(words[4..], Philox::new(7).block(1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    /// Index of the next word of the walk.
    next: u128,
    /// The block that the walk is in.
    current: [u32; 4],
}

impl Philox {
    /// The generator of `seed`, at the beginning of its walk.
    pub const fn new(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], next: 0, current: [0; 4] }
    }

    /// Block `index`: four independent uniform words. About 20 multiplications.
    pub const fn block(&self, index: u64) -> [u32; 4] {
        philox4x32([index as u32, (index >> 32) as u32, 0, 0], self.key)
    }
}

/// Ten rounds of the bijection; constants of the paper's table 2.
const fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let mut round = 0;
    while round < 10 {
        let left = counter[0] as u64 * 0xD251_1F53;
        let right = counter[2] as u64 * 0xCD9E_8D57;
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        round += 1;
    }
    counter
}

impl SeedableRng for Philox {
    type Seed = [u8; 8];

    fn from_seed(seed: [u8; 8]) -> Self {
        Self::new(u64::from_le_bytes(seed))
    }

    /// The generator of `seed` itself, which is not mixed first.
    fn seed_from_u64(seed: u64) -> Self {
        Self::new(seed)
    }
}

impl TryRng for Philox {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let place = (self.next % 4) as usize;
        if place == 0 {
            self.current = self.block((self.next / 4) as u64);
        }
        self.next += 1;
        Ok(self.current.get(place).copied().unwrap_or_default())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = u64::from(self.try_next_u32()?);
        Ok(u64::from(self.try_next_u32()?) << 32 | low)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for piece in bytes.chunks_mut(4) {
            let word = self.try_next_u32()?.to_le_bytes();
            piece.iter_mut().zip(word).for_each(|(byte, random)| *byte = random);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn known_answers_of_the_authors() {
        // kat_vectors of Random123, philox4x32 with 10 rounds.
        for (counter, key, answer) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox4x32(counter, key), answer);
        }
    }

    #[test]
    fn the_walk_is_the_blocks_in_order() {
        let mut walk = Philox::new(0xdead_beef_0123);
        let words: Vec<u32> = (0..40).map(|_| walk.next_u32()).collect();
        let blocks: Vec<u32> = (0..10).flat_map(|index| walk.block(index)).collect();
        assert_eq!(words, blocks);
        let mut bytes = [0; 10];
        Philox::new(0xdead_beef_0123).fill_bytes(&mut bytes);
        assert_eq!(bytes[..8], [words[0].to_le_bytes(), words[1].to_le_bytes()].concat());
        assert_eq!(bytes[8..], words[2].to_le_bytes()[..2]);
    }
}
