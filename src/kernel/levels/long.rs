//! Tables of 17 to 256 levels, searched without a branch for each value.
//!
//! Where cuts are not too crowded, the [position](Positions) of a value tells nearly all of its code; others are
//! [compared](Comparisons) one after the other.
//!
//! Written for AVX-512 with VBMI and VBMI2, which look up the bytes of 64 values at once.
#![allow(unsafe_code)] // calls where the instructions were detected

mod comparisons;
mod positions;

use super::super::vector::Lanes;
use super::super::{level, runs};
use super::staged::{self, GROUP};
use crate::simd::Level;
use comparisons::Comparisons;
use positions::Positions;

/// The most levels.
pub(super) const LEVELS: usize = 256;

/// How the cuts of one map are searched.
#[derive(Debug, Clone)]
pub(super) struct Search(Way);

#[derive(Debug, Clone)]
enum Way {
    Positions(Box<Positions>),
    Comparisons(Box<Comparisons>),
}

/// Whether this machine has the instructions and may use them.
pub(super) fn serves() -> bool {
    use std::arch::is_x86_feature_detected as has;
    level() >= Level::Avx512 && has!("avx512vbmi") && has!("avx512vbmi2")
}

impl Search {
    /// For up to 255 ascending cuts and the codes between them.
    pub(super) fn new(cuts: &[f32], codes: &[u16]) -> Option<Self> {
        if let Some(positions) = Positions::new(cuts, codes) {
            return Some(Self(Way::Positions(Box::new(positions))));
        }
        Comparisons::new(cuts, codes).map(|comparisons| Self(Way::Comparisons(Box::new(comparisons))))
    }
}

impl staged::Search for Search {
    fn find(&self, v: &[f32], ahead: bool, codes: &mut [u8]) -> bool {
        debug_assert!(serves());
        // SAFETY: the caller has asked whether there are the instructions.
        unsafe {
            match &self.0 {
                Way::Positions(positions) => positions.find(v, codes),
                Way::Comparisons(comparisons) => comparisons.find(v, ahead, codes),
            }
        }
    }
}

/// As [`staged::encode`], of values of 16 bits in the scale of their levels, with a search for each block. `None` where
/// one needs them in f32.
pub(super) fn encode_as_they_are<A: Lanes>(
    x: &[A],
    width: usize,
    phase: usize,
    searches: &[Search],
    codes: &mut [u8],
) -> Option<bool> {
    debug_assert!(serves());
    let mut nan = false;
    if !searches.iter().all(|search| matches!(search.0, Way::Positions(_))) {
        return None;
    }
    for (entry, from, to) in runs(x.len().min(codes.len()), width, phase) {
        let Way::Positions(positions) = &searches.get(entry)?.0 else { return None };
        // SAFETY: the caller has asked whether there are the instructions.
        nan |= unsafe { positions.find(&x[from..to], &mut codes[from..to]) };
    }
    Some(nan)
}
