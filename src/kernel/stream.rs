//! Copies that go past the caches.
#![allow(unsafe_code)] // intrinsics on pointers

use core::arch::x86_64::*;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Copies the common prefix; whole cache lines of `to` go past the caches. An `sfence` has to follow before other
/// threads may see it.
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
