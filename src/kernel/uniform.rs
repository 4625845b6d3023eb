//! Uniform random numbers by element: 16 bits of Philox4x32-10 for each.

use super::dispatch;
use crate::element::Real;
use crate::random::philox4x32;

/// Numbers of one block.
const BLOCK: u64 = 8;

dispatch! {
    /// Writes the numbers of the elements from `first` on: `(k + ½) / 65536`, where `k` is half-word `i mod 8` of block
    /// `i / 8` for element `i`, the low half of each word first.
    pub(crate) fn fill[T: Real](seed: u64, first: u64, out: &mut [T]) {
        let key = [seed as u32, (seed >> 32) as u32];
        let (mut at, mut left) = (first, out);
        while !left.is_empty() {
            let skip = (at % BLOCK) as usize;
            let (here, rest) = left.split_at_mut(left.len().min(BLOCK as usize - skip));
            let block = at / BLOCK;
            let words = philox4x32([block as u32, (block >> 32) as u32, 0, 0], key);
            for (i, out) in here.iter_mut().enumerate() {
                *out = number(words, skip + i);
            }
            at = at.wrapping_add(here.len() as u64);
            left = rest;
        }
    }
}

/// Number `index` of a block.
#[inline(always)]
fn number<T: Real>(words: [u32; 4], index: usize) -> T {
    let word = words[index / 2 % 4];
    let half = if index.is_multiple_of(2) { word & 0xFFFF } else { word >> 16 };
    // Exact: 17 bits.
    T::from_f32((half as f32 + 0.5) / 65536.0)
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
        for (first, len) in [(0, 100), (1, 7), (7, 2), (8, 8), (13, 40), (99, 1)] {
            let mut part = vec![0.0f64; len];
            fill(7, first as u64, &mut part);
            assert!(part.iter().zip(&all[first..]).all(|(&a, &b)| a == f64::from(b)));
        }
        let words = Philox::new(7).block(5);
        let halves = words.iter().flat_map(|word| [word & 0xFFFF, word >> 16]);
        let expected: Vec<f32> = halves.map(|half| (half as f32 + 0.5) / 65536.0).collect();
        assert_eq!(all[40..48], expected);
        // The last elements of a tensor as large as can be.
        fill(7, u64::MAX - 3, &mut [0.0f32; 16]);
    }
}
