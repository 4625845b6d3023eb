//! Data for the tests of block formats, made of bits so that other programs can make the same.

use ndarray::Array2;

use crate::solve::samples::SplitMix64;

pub(super) use crate::minifloat::tests::fnv;

/// Blocks of f32 numbers of a block's exponent field (`low` and on, over `span`) and up to seven below it. Every other
/// one has few bits of mantissa, so that there are ties; every sixteenth block is zero.
pub(super) fn blocks(count: usize, size: usize, seed: u64, low: u32, span: u32) -> Array2<f32> {
    let mut random = SplitMix64(seed);
    Array2::from_shape_fn((count, size), |(block, i)| {
        let bits = random.bits();
        let mut mantissa = (bits & 0x7F_FFFF) as u32;
        if i % 2 == 1 {
            let keep = 1 + (bits >> 24) % 6;
            mantissa &= !((1 << (23 - keep)) - 1);
        }
        let exponent = (low + block as u32 % span).saturating_sub(((bits >> 32) % 8) as u32);
        if block % 16 == 15 || (exponent == 0 && mantissa == 0) {
            return 0.0;
        }
        f32::from_bits(((bits >> 63) as u32) << 31 | exponent << 23 | mantissa)
    })
}

/// The hash of the bytes of numbers.
pub(super) fn hash_of(values: &Array2<f32>) -> u64 {
    fnv(values.iter().flat_map(|value| value.to_bits().to_le_bytes()))
}
