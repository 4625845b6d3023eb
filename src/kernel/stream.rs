//! Copies that go past the caches.
#![allow(unsafe_code)] // intrinsics on pointers

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Copies the common prefix, past the caches where this machine has a loop for that. [`finish`] has to follow before other
/// threads may see it.
pub(crate) fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    if super::level() >= crate::simd::Level::Avx2 {
        // SAFETY: the level says that the machine has AVX2.
        return unsafe { past_caches(from, to) };
    }
    for (from, to) in from.iter().zip(to) {
        *to = *from;
    }
}

/// What went past the caches becomes visible to other threads in the order of the program.
pub(crate) fn finish() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 machine has this instruction.
    unsafe {
        _mm_sfence();
    }
}

/// Copies the common prefix; whole cache lines of `to` go past the caches. An `sfence` has to follow before other
/// threads may see it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(super) fn past_caches<T: Copy>(from: &[T], to: &mut [T]) {
    let len = from.len().min(to.len());
    let (from, to) = (&from[..len], &mut to[..len]);
    let head = to.as_ptr().align_offset(LINE).min(len);
    let per_line = LINE / size_of::<T>().max(1);
    let lines = (len - head).checked_div(per_line).unwrap_or(0);
    let rest = head + lines * per_line;
    to[..head].copy_from_slice(&from[..head]);
    let (start, place) = (from[head..].as_ptr().cast::<__m256i>(), to[head..].as_mut_ptr().cast::<__m256i>());
    for half in 0..lines * 2 {
        // SAFETY: a line has two halves, and `lines` of them lie in both slices; those of `to` are aligned.
        unsafe { _mm256_stream_si256(place.add(half), _mm256_loadu_si256(start.add(half))) };
    }
    to[rest..].copy_from_slice(&from[rest..]);
}
