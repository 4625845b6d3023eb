//! Uniform random numbers by element: 16 bits of Philox4x32-10 for each.
#![allow(unsafe_code)] // words seen as half-words

use super::dispatch;
use crate::element::Real;
use crate::random::{philox_keys, philox4x32, philox4x32_lanes};

/// Numbers of one block.
const BLOCK: usize = 8;

/// Blocks that are computed at once: enough that no product waits for the one before.
const GROUP: usize = 8;

dispatch! {
    /// Writes the numbers of the elements from `first` on: `(k + ½) / 65536`, where `k` is half-word `i mod 8` of block
    /// `i / 8` for element `i`, the low half of each word first.
    pub(crate) fn fill[T: Real](seed: u64, first: u64, out: &mut [T]) {
        let key = [seed as u32, (seed >> 32) as u32];
        let skip = (first % BLOCK as u64) as usize;
        let head = if skip == 0 { 0 } else { (BLOCK - skip).min(out.len()) };
        let (start, out) = out.split_at_mut(head);
        single::<T>(key, first, start);
        let keys = philox_keys(key);
        let mut at = first.wrapping_add(head as u64);
        let (groups, rest) = out.as_chunks_mut::<{ BLOCK * GROUP }>();
        for out in groups {
            let words = philox4x32_lanes::<GROUP>(at / BLOCK as u64, &keys).map(|pair| pair.map(u64::to_le));
            // SAFETY: as many bytes, and any bits are a u16.
            let halves: [u16; BLOCK * GROUP] = unsafe { core::mem::transmute(words) };
            for (out, half) in out.iter_mut().zip(halves) {
                *out = number(u16::from_le(half));
            }
            at = at.wrapping_add((BLOCK * GROUP) as u64);
        }
        single::<T>(key, at, rest);
    }
}

/// Block by block.
#[inline(always)]
fn single<T: Real>(key: [u32; 2], first: u64, out: &mut [T]) {
    let (mut at, mut left) = (first, out);
    while !left.is_empty() {
        let skip = (at % BLOCK as u64) as usize;
        let (here, rest) = left.split_at_mut(left.len().min(BLOCK - skip));
        let block = at / BLOCK as u64;
        let words = philox4x32([block as u32, (block >> 32) as u32, 0, 0], key);
        for (i, out) in here.iter_mut().enumerate() {
            let index = skip + i;
            *out = number((words[index / 2 % 4] >> (index % 2 * 16)) as u16);
        }
        at = at.wrapping_add(here.len() as u64);
        left = rest;
    }
}

#[inline(always)]
fn number<T: Real>(half: u16) -> T {
    // Exact: 17 bits.
    T::from_f32((f32::from(half) + 0.5) / 65536.0)
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use crate::random::Philox;

    #[test]
    fn numbers_are_a_function_of_seed_and_index() {
        let all = agreed(|| {
            let mut all = vec![0.0f32; 100];
            fill(7, 0, &mut all);
            all
        });
        for (first, len) in [(0, 100), (1, 7), (7, 2), (8, 8), (13, 40), (99, 1), (1, 99), (8, 92), (30, 70)]
        {
            let mut part = vec![0.0f64; len];
            fill(7, first as u64, &mut part);
            assert!(part.iter().zip(&all[first..]).all(|(&a, &b)| a == f64::from(b)));
        }
        let words = Philox::new(7).block(5);
        let halves = words.iter().flat_map(|word| [word & 0xFFFF, word >> 16]);
        let expected: Vec<f32> = halves.map(|half| (half as f32 + 0.5) / 65536.0).collect();
        assert_eq!(all[40..48], expected);
        // The last elements of a tensor as large as can be, and blocks whose numbers need two words.
        let (mut last, mut next) = ([0.0f32; 200], [0.0f32; 8]);
        fill(7, u64::MAX - 3, &mut last);
        for first in [u64::MAX - 199, (8 << 32) - 96, 8 << 40] {
            let all = agreed(|| {
                let mut all = [0.0f32; 200];
                fill(7, first, &mut all);
                all
            });
            for (i, &number) in all.iter().enumerate().step_by(3) {
                fill(7, first + i as u64, &mut next[..1]);
                assert_eq!(number, next[0], "{first} {i}");
            }
        }
    }
}
