//! Counting numbers of f32: places are found in vectors of 256 bits.
//!
//! A processor counts one value a cycle at best, as each takes a store. The places of a block are found while those of the
//! block before it are counted, and four of them are read at once, so that counting waits for little else.
#![allow(unsafe_code)] // intrinsics, and counters by pointers

use core::arch::x86_64::*;

use super::super::convert::same;
use super::super::{level, prefetch};
use super::{Found, Whole, Window};
use crate::element::Real;
use crate::simd::Level;

/// Values whose places are counted while those of the next ones are being found.
const BLOCK: usize = 64;

/// Values whose places fill a vector.
const STEP: usize = 16;

/// Places that are read at once.
const READ: usize = 4;

/// Bytes ahead that are asked for: counting takes longer than reading.
const AHEAD: usize = 4096;

/// Counts `step` for each value of whole blocks of f32, in two tables in turn, whose equal lengths are a power of two: what
/// is found of the blocks, and the values behind them. `None` where there is no such loop.
pub(super) fn change<'x, T: Real>(
    x: &'x [T],
    window: &Window,
    [even, odd]: [&mut [u16]; 2],
    step: u16,
) -> Option<(Found, &'x [T])> {
    let numbers = same::<T, f32>(x).filter(|_| window.suits_f32() && level() >= Level::Avx2)?;
    if !even.len().is_power_of_two() || even.len() != odd.len() {
        return None;
    }
    let (blocks, _) = numbers.as_chunks();
    let of = Places::new(window, even.len() - 1);
    let tables = [even.as_mut_ptr(), odd.as_mut_ptr()];
    // SAFETY: the level says that the instructions are there, and both tables have a counter for every place within the
    // length of one.
    let found = unsafe {
        if window.scale >= 1.0 {
            count::<false>(blocks, &of, tables, step)
        } else {
            count::<true>(blocks, &of, tables, step)
        }
    };
    Some((found, &x[blocks.len() * BLOCK..]))
}

/// How the places of values are found.
struct Places {
    scale: f32,
    /// From numbers of bins to numbers whose last bits are the places.
    offset: f32,
    /// The bits of places.
    mask: i16,
}

impl Places {
    fn new(window: &Window, last: usize) -> Self {
        let offset = (f32::UNIT - window.first as f64) as f32;
        Self { scale: window.scale as f32, offset, mask: last as u16 as i16 }
    }
}

/// The extremes of what was met, and zero as long as all of it is finite.
#[derive(Clone, Copy)]
struct Met {
    min: __m256,
    max: __m256,
    difference: __m256,
}

impl Met {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn nothing() -> Self {
        Self {
            min: _mm256_set1_ps(f32::INFINITY),
            max: _mm256_set1_ps(f32::NEG_INFINITY),
            difference: _mm256_setzero_ps(),
        }
    }

    /// The difference of itself and what is not finite is NaN.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn meet(&mut self, x: __m256) {
        self.min = _mm256_min_ps(x, self.min);
        self.max = _mm256_max_ps(x, self.max);
        self.difference = _mm256_add_ps(self.difference, _mm256_sub_ps(x, x));
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn found(self) -> Found {
        let lanes = |x: __m256| {
            let mut lanes = [0.0f32; 8];
            // SAFETY: there is room for eight lanes.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), x) };
            lanes
        };
        // Adding zero makes a negative zero positive.
        Found {
            min: f64::from(lanes(self.min).into_iter().fold(f32::INFINITY, f32::min)) + 0.0,
            max: f64::from(lanes(self.max).into_iter().fold(f32::NEG_INFINITY, f32::max)) + 0.0,
            finite: lanes(self.difference) == [0.0; 8],
        }
    }
}

/// The low words of the bins' numbers of eight values, less the number of the first bin.
#[inline]
#[target_feature(enable = "avx2")]
fn places_of<const UNDERFLOWS: bool>(x: __m256, scale: __m256, offset: __m256) -> __m256i {
    let mut bin = _mm256_floor_ps(_mm256_mul_ps(x, scale));
    if UNDERFLOWS {
        // A negative number may have become a zero: no bin of one is above −1. Twice this makes any number at least one.
        let many = _mm256_set1_ps(f32::from_bits(0x7F00_0000));
        let large = _mm256_mul_ps(_mm256_mul_ps(x, many), many);
        bin = _mm256_min_ps(bin, _mm256_max_ps(large, _mm256_set1_ps(-1.0)));
    }
    _mm256_castps_si256(_mm256_add_ps(bin, offset))
}

/// Places, for blocks in turn.
#[repr(align(64))]
struct Turns([[u64; BLOCK / READ]; 2]);

/// # Safety
///
/// `tables` are two of at least as many counters as the mask of places says, and one more.
#[target_feature(enable = "avx2")]
unsafe fn count<const UNDERFLOWS: bool>(
    x: &[[f32; BLOCK]],
    of: &Places,
    tables: [*mut u16; 2],
    step: u16,
) -> Found {
    let (scale, offset) = (_mm256_set1_ps(of.scale), _mm256_set1_ps(of.offset));
    let mask = _mm256_set1_epi16(of.mask);
    let mut met = Met::nothing();
    let mut turns = Turns([[0; BLOCK / READ]; 2]);
    for (i, block) in x.iter().enumerate() {
        prefetch(block, AHEAD);
        let [first, second] = &mut turns.0;
        let (found, before) = if i % 2 == 0 { (first, second) } else { (second, first) };
        for at in (0..BLOCK).step_by(STEP) {
            // SAFETY: there are 16 values and room for as many places, in both blocks, and these were masked.
            unsafe {
                let from = block.as_ptr().add(at);
                let (a, b) = (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(STEP / 2)));
                met.meet(a);
                met.meet(b);
                let a = places_of::<UNDERFLOWS>(a, scale, offset);
                let b = _mm256_slli_epi32::<16>(places_of::<UNDERFLOWS>(b, scale, offset));
                let places = _mm256_and_si256(_mm256_blend_epi16::<0b1010_1010>(a, b), mask);
                _mm256_store_si256(found.as_mut_ptr().add(at / READ).cast(), places);
                if i > 0 {
                    for four in before.get_unchecked(at / READ..(at + STEP) / READ) {
                        bump(*four, tables, step);
                    }
                }
            }
        }
    }
    if let Some(i) = x.len().checked_sub(1) {
        for four in &turns.0[i % 2] {
            // SAFETY: they were masked too.
            unsafe { bump(*four, tables, step) }
        }
    }
    met.found()
}

/// # Safety
///
/// The tables have counters for all four places.
#[inline(always)]
unsafe fn bump(places: u64, [even, odd]: [*mut u16; 2], step: u16) {
    for (shift, table) in [(0, even), (16, odd), (32, even), (48, odd)] {
        // SAFETY: the caller's promise.
        let count = unsafe { &mut *table.add(usize::from((places >> shift) as u16)) };
        *count = count.wrapping_add(step);
    }
}
