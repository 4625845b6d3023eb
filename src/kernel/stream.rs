//! Copies that go past the caches.
#![allow(unsafe_code)] // intrinsics on pointers

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Bytes of a part of a line, and how many of these it has.
#[cfg(target_arch = "x86_64")]
const PART: usize = 16;
#[cfg(target_arch = "x86_64")]
const PER_LINE: usize = LINE / PART;

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

/// Whether `store` past the caches may be used from the beginning of `to` on, for whole vectors.
#[cfg(target_arch = "x86_64")]
pub(super) fn is_aligned<T>(to: &[T]) -> bool {
    to.as_ptr().addr().is_multiple_of(PART)
}

/// Stores a vector, past the caches if `STREAM`: in two parts, as memory that is not aligned for whole vectors is often
/// aligned for these.
///
/// # Safety
///
/// There is room for eight values at `to`, which is a multiple of 16 if `STREAM`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store<const STREAM: bool>(to: *mut f32, values: __m256) {
    // SAFETY: the caller's promise.
    unsafe {
        if STREAM {
            _mm_stream_ps(to, _mm256_castps256_ps128(values));
            _mm_stream_ps(to.add(4), _mm256_extractf128_ps::<1>(values));
        } else {
            _mm256_storeu_ps(to, values);
        }
    }
}

/// Copies the common prefix past the caches, but for an end that fills no part of a line. Parts are short so that copies
/// which follow each other fill whole lines: a line that is half in the caches is read before it is written. An `sfence`
/// has to follow before other threads may see it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(super) fn past_caches<T: Copy>(from: &[T], to: &mut [T]) {
    let len = from.len().min(to.len());
    let (from, to) = (&from[..len], &mut to[..len]);
    let head = to.as_ptr().align_offset(PART).min(len);
    let per_part = PART / size_of::<T>().max(1);
    let parts = (len - head).checked_div(per_part).unwrap_or(0);
    let rest = head + parts * per_part;
    to[..head].copy_from_slice(&from[..head]);
    let (start, place) = (from[head..].as_ptr().cast::<__m128i>(), to[head..].as_mut_ptr().cast::<__m128i>());
    // Up to the beginning of a line, whole lines, and what is left.
    let first = (place.addr().wrapping_neg() % LINE / PART).min(parts);
    let last = first + (parts - first) / PER_LINE * PER_LINE;
    // SAFETY: `parts` of them lie in both slices, and those of `to` are aligned; so are the halves of whole lines.
    unsafe {
        for part in 0..first {
            _mm_stream_si128(place.add(part), _mm_loadu_si128(start.add(part)));
        }
        for part in (first..last).step_by(2) {
            _mm256_stream_si256(place.add(part).cast(), _mm256_loadu_si256(start.add(part).cast()));
        }
        for part in last..parts {
            _mm_stream_si128(place.add(part), _mm_loadu_si128(start.add(part)));
        }
    }
    to[rest..].copy_from_slice(&from[rest..]);
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn copies_are_copies_wherever_they_begin_and_end() {
        let from: Vec<u8> = (0..600usize).map(|i| (i * 37 % 251) as u8).collect();
        let wide: Vec<f32> = from.iter().map(|&byte| f32::from(byte)).collect();
        for start in 0..70 {
            for len in [0, 1, 15, 16, 17, 63, 64, 65, 100, 127, 128, 200, 257, 500] {
                let (mut to, mut floats) = (vec![255u8; 600], vec![-1.0f32; 600]);
                copy(&from[..len], &mut to[start..]);
                copy(&wide[..len], &mut floats[start..start + len]);
                finish();
                assert_eq!(to[start..start + len], from[..len], "{start} {len}");
                assert_eq!(floats[start..start + len], wide[..len], "{start} {len}");
                // And nothing beside them.
                assert!(to[..start].iter().chain(&to[start + len..]).all(|&byte| byte == 255));
                assert!(floats[..start].iter().chain(&floats[start + len..]).all(|&value| value == -1.0));
            }
        }
    }
}
