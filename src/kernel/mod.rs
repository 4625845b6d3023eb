//! Hot loops over slices: encoding, decoding, packing, reductions, gathering, histograms.
//!
//! A kernel knows slices, the *pattern* by which elements share parameters, and parameter slices;
//! it knows nothing of tensors, tilings or methods.
//!
//! **Pattern.** Blocks of `width` consecutive elements share one entry of the parameter slices. The
//! first block has already had `phase` elements before the slice begins, so element `i` belongs to
//! entry `(phase + i) / width`. A `width` of 1 gives each element its own entry (the columns of a
//! row); a `width` of at least `phase + len` is one region.
//!
//! **Instruction sets.** Each hot loop is one generic scalar body, written so that the compiler
//! vectorizes it; [`dispatch!`] compiles it for several instruction sets and picks one at run time.
//! Rust never contracts a multiplication and an addition, and reductions run over a fixed number of
//! lanes in a fixed order, so every [`Level`](crate::simd::Level) gives the same bits.
//! Where the compiler does not find the best instructions, a loop is written over a `Vector` of
//! `vector.rs`, once for all widths, and its `vectorized!` compiles it for each level that
//! has vectors. The scalar body stays, as the reference that tests hold the others equal to.
//!
//! **Bad lengths.** No kernel panics: where slices disagree in length, the common prefix is processed.

pub(crate) mod adam;
pub(crate) mod aes;
pub(crate) mod affine;
pub(crate) mod between;
pub(crate) mod bins;
pub(crate) mod bit_counts;
pub(crate) mod blocks;
pub(crate) mod column_reciprocals;
pub(crate) mod convert;
pub(crate) mod crossings;
#[cfg(target_arch = "x86_64")]
mod division;
pub(crate) mod errors;
#[cfg(target_arch = "x86_64")]
mod extremes;
#[cfg(target_arch = "x86_64")]
mod factor;
pub(crate) mod fake;
pub(crate) mod gather;
pub(crate) mod grid;
#[cfg(target_arch = "x86_64")]
mod halves;
pub(crate) mod histogram;
#[cfg(target_arch = "x86_64")]
mod lanes;
pub(crate) mod levels;
pub(crate) mod misfit;
pub(crate) mod multiples;
#[cfg(target_arch = "x86_64")]
mod narrow;
pub(crate) mod nearest;
#[cfg(target_arch = "x86_64")]
mod nibbles;
pub(crate) mod pack;
pub(crate) mod presence;
pub(crate) mod ranges;
#[cfg(target_arch = "x86_64")]
mod reach;
pub(crate) mod reduce;
pub(crate) mod rows;
#[cfg(target_arch = "x86_64")]
mod scaling;
pub(crate) mod search;
#[cfg(target_arch = "x86_64")]
mod sift;
pub(crate) mod stochastic;
pub(crate) mod straight_through;
pub(crate) mod stream;
pub(crate) mod uniform;
#[cfg(target_arch = "x86_64")]
mod vector;
#[cfg(target_arch = "x86_64")]
mod widen;

use crate::simd::Level;

/// The level of the hot loops. (In tests, the one forced by [`forced::with`] on this thread.)
#[inline]
pub(crate) fn level() -> Level {
    #[cfg(test)]
    if let Some(level) = forced::level() {
        return level;
    }
    crate::simd::level()
}

/// Defines a function whose body is compiled once per [`Level`] and chosen at run time.
///
/// Generic parameters stand in square brackets, `[T: Real, C: Code]`. What the body calls is
/// compiled for the same level only if it is inlined: mark it `#[inline(always)]`.
macro_rules! dispatch {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident [$($g:ident: $bound:path),*] ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?
        $body:block
    ) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                body::<$($g),*>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                body::<$($g),*>($($arg),*)
            }

            match $crate::kernel::level() {
                // SAFETY: only levels are in use that this machine was found to have.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx2 => unsafe { avx2::<$($g),*>($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Level::Avx512 => unsafe { avx512::<$($g),*>($($arg),*) },
                _ => body::<$($g),*>($($arg),*),
            }
        }
    };
}
use dispatch;

/// The integer that holds one code: `u8` up to 8 bits, `u16` up to 16.
pub(crate) trait Code: Copy + Default + PartialEq + core::fmt::Debug + Send + Sync + 'static {
    /// The low bits of `value`.
    fn from_u16(value: u16) -> Self;
    /// The code, zero-extended.
    fn to_u16(self) -> u16;
    /// The codes as bytes, if each is one.
    fn bytes(codes: &[Self]) -> Option<&[u8]>;
    /// As [`bytes`](Self::bytes).
    fn bytes_mut(codes: &mut [Self]) -> Option<&mut [u8]>;
}

impl Code for u8 {
    #[inline(always)]
    fn from_u16(value: u16) -> Self {
        value as u8
    }
    #[inline(always)]
    fn to_u16(self) -> u16 {
        u16::from(self)
    }
    #[inline(always)]
    fn bytes(codes: &[Self]) -> Option<&[u8]> {
        Some(codes)
    }
    #[inline(always)]
    fn bytes_mut(codes: &mut [Self]) -> Option<&mut [u8]> {
        Some(codes)
    }
}

impl Code for u16 {
    #[inline(always)]
    fn from_u16(value: u16) -> Self {
        value
    }
    #[inline(always)]
    fn to_u16(self) -> u16 {
        self
    }
    #[inline(always)]
    fn bytes(_: &[Self]) -> Option<&[u8]> {
        None
    }
    #[inline(always)]
    fn bytes_mut(_: &mut [Self]) -> Option<&mut [u8]> {
        None
    }
}

/// Bytes that a call reads and writes from which on results go past the caches: more than a core's share of the last
/// level. What is written there would not be found again, and would first be read from memory.
const STREAMED: usize = 32 << 20;

/// Whether the results of a call that reads and writes `bytes` should go past the caches.
pub(crate) const fn streams(bytes: usize) -> bool {
    bytes >= STREAMED
}

/// Asks for the cache lines of `x`'s length that lie `distance` bytes beyond its beginning, so that a loop whose work
/// on a line takes long does not wait for the next ones. Only a hint: no address is wrong.
#[inline(always)]
#[allow(unsafe_code)]
fn prefetch<T>(x: &[T], distance: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of_val(x)).step_by(64) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = x.as_ptr().cast::<i8>().wrapping_add(distance + line);
        // SAFETY: a prefetch never faults and changes nothing but the caches, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (x, distance);
}

/// Asks for the cache lines of `bytes` that lie `ahead` bytes beyond `from`, into the second-level cache: for what comes
/// from memory by long ways, for which the first one has no room. Only a hint: no address is wrong.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code)]
fn prefetch_second_level<T>(from: *const T, bytes: usize, ahead: usize) {
    for line in (0..bytes).step_by(64) {
        use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let at = from.cast::<i8>().wrapping_add(ahead + line);
        // SAFETY: a prefetch never faults and changes nothing but the caches, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at) };
    }
}

/// `phase` modulo `width`, which it nearly always is already: a division takes as long as some dozen other instructions.
#[inline(always)]
const fn within(phase: usize, width: usize) -> usize {
    if phase < width { phase } else { phase % width }
}

/// The runs of elements that share an entry: `(entry, first element, one past the last)`.
///
/// A `width` of 0 counts as 1, and a `phase` of `width` or more is taken modulo `width`.
#[inline(always)]
fn runs(len: usize, width: usize, phase: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    debug_assert!(phase < width.max(1));
    let width = width.max(1);
    let mut left = width - within(phase, width);
    let (mut entry, mut at) = (0, 0);
    core::iter::from_fn(move || {
        if at >= len {
            return None;
        }
        let end = at + left.min(len - at);
        let run = (entry, at, end);
        (entry, at, left) = (entry + 1, end, width);
        Some(run)
    })
}

/// Forcing a level, so that tests can hold all of them equal.
#[cfg(test)]
pub(crate) mod forced {
    use super::Level;
    use std::cell::Cell;

    thread_local! {
        static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
    }

    pub(super) fn level() -> Option<Level> {
        FORCED.get()
    }

    /// The levels to test: all that this machine has, or those that the environment variable `LOWBIT_TEST_LEVELS` names,
    /// separated by commas, which must be there.
    pub(crate) fn available() -> Vec<Level> {
        let all = crate::simd::available();
        let Ok(named) = std::env::var("LOWBIT_TEST_LEVELS") else { return all.to_vec() };
        let named: Vec<Level> = named.split(',').map(|name| name.trim().parse().unwrap()).collect();
        for level in &named {
            assert!(all.contains(level), "this machine does not have {level}");
        }
        named
    }

    /// Runs `action` with this thread's kernels at `level`, which must be available.
    pub(crate) fn with<R>(level: Level, action: impl FnOnce() -> R) -> R {
        assert!(crate::simd::available().contains(&level));
        let before = FORCED.replace(Some(level));
        let result = action();
        FORCED.set(before);
        result
    }

    /// The result of `action`, after asserting that every level gives the same.
    pub(crate) fn agreed<R: PartialEq + core::fmt::Debug>(mut action: impl FnMut() -> R) -> R {
        let baseline = with(Level::Baseline, &mut action);
        for level in available() {
            assert_eq!(with(level, &mut action), baseline, "{level:?} differs from the baseline");
        }
        baseline
    }

    #[test]
    fn levels_of_this_machine() {
        println!("kernel levels tested on this machine: {:?}", available());
        assert!(!available().is_empty());
    }

    #[test]
    fn runs_follow_the_pattern() {
        for (len, width, phase) in
            [(0, 3, 1), (10, 3, 0), (10, 3, 2), (10, 100, 99), (5, usize::MAX, 7), (4, 1, 0)]
        {
            let mut next = 0;
            for (entry, from, to) in super::runs(len, width, phase) {
                assert_eq!(from, next);
                assert!((from..to).all(|i| (phase + i) / width == entry));
                next = to;
            }
            assert_eq!(next, len);
        }
    }
}
