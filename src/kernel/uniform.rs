//! Uniform random numbers by element: 16 bits of ARS4x32-7 for each.

use super::aes::Blocks;
use super::dispatch;
use crate::element::Real;
use crate::random::Ars;

/// Numbers of one block.
const BLOCK: usize = 8;

/// Blocks that are computed at once.
const GROUP: usize = 32;

/// Writes the numbers of the elements from `first` on: `(k + ½) / 65536`, where `k` is half-word `i mod 8` of block
/// `i / 8` for element `i`, the low half of each word first.
pub(crate) fn fill<T: Real>(seed: u64, first: u64, out: &mut [T]) {
    let mut blocks = Blocks::new(Ars::new(seed));
    blocks.expect(first / BLOCK as u64, out.len() / BLOCK);
    let mut halves = [[0; BLOCK]; GROUP];
    let (mut at, mut left) = (first, out);
    while !left.is_empty() {
        let skip = (at % BLOCK as u64) as usize;
        let (here, rest) = left.split_at_mut(left.len().min(BLOCK * GROUP - skip));
        let halves = &mut halves[..(skip + here.len()).div_ceil(BLOCK)];
        blocks.fill(at / BLOCK as u64, halves);
        numbers(&halves.as_flattened()[skip..], here);
        at = at.wrapping_add(here.len() as u64);
        left = rest;
    }
}

dispatch! {
    fn numbers[T: Real](halves: &[u16], out: &mut [T]) {
        for (out, half) in out.iter_mut().zip(halves) {
            *out = number(*half);
        }
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
        let words = Ars::new(7).block(5);
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
