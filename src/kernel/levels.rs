//! Encoding and decoding on arbitrary levels: a value gets the level that its neighbours' boundary assigns.
//!
//! Every deterministic decision is a list of *cuts*: `cut[i]` is the smallest number that belongs to level `i + 1`
//! rather than to level `i`, so the level of `v` is the number of cuts that are not above it.

#[cfg(target_arch = "x86_64")]
mod bit_cuts;
mod blocks;
#[cfg(target_arch = "x86_64")]
mod cut_cells;
mod decode;
mod encode;
mod fused;
mod halves;
#[cfg(target_arch = "x86_64")]
mod long;
mod maps;
#[cfg(target_arch = "x86_64")]
mod marks;
#[cfg(target_arch = "x86_64")]
mod planes;
#[cfg(target_arch = "x86_64")]
mod position_scale;
#[cfg(target_arch = "x86_64")]
mod short;
#[cfg(target_arch = "x86_64")]
mod staged;
mod starts;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod wide;

pub(crate) use blocks::magnitudes;
pub(crate) use decode::{LevelTables, decode, decode_nibbles};
pub(crate) use encode::{LevelParams, code_of_zero, encode, encode_halves, encode_stochastic};
pub(crate) use fused::{BlockLevels, EVERYDAY, MagnitudeScale};
pub(crate) use halves::{HalfCodes, WORTH_A_TABLE};
pub(crate) use maps::{Boundary, LevelMaps, Ties, at_least};

/// Up to so many cuts every one is compared; beyond, they are searched.
const LINEAR: usize = 32;

/// Whether kernels may take the forms that are written for AVX2.
#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    // Every other level has it.
    super::level() != crate::simd::Level::Baseline
}
