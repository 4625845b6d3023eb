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

/// Stores half a line of bytes, past the caches if `STREAM`: by parts, as memory that is not aligned for whole vectors is
/// often aligned for these.
///
/// # Safety
///
/// There is room for 32 bytes at `to`, which is a multiple of 16 if `STREAM`. Only for machines with AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn store_half_line<const STREAM: bool>(to: *mut u8, bytes: __m256i) {
    // SAFETY: the caller's promise.
    unsafe {
        if STREAM {
            _mm_stream_si128(to.cast(), _mm256_castsi256_si128(bytes));
            _mm_stream_si128(to.add(PART).cast(), _mm256_extracti128_si256::<1>(bytes));
        } else {
            _mm256_storeu_si256(to.cast(), bytes);
        }
    }
}

/// As [`store_half_line`], of a line.
///
/// # Safety
///
/// As there, with room for 64 bytes. Only for machines with AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn store_line<const STREAM: bool>(to: *mut u8, bytes: __m512i) {
    // SAFETY: the caller's promise.
    unsafe {
        if STREAM {
            _mm_stream_si128(to.cast(), _mm512_castsi512_si128(bytes));
            _mm_stream_si128(to.add(PART).cast(), _mm512_extracti32x4_epi32::<1>(bytes));
            _mm_stream_si128(to.add(2 * PART).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
            _mm_stream_si128(to.add(3 * PART).cast(), _mm512_extracti32x4_epi32::<3>(bytes));
        } else {
            _mm512_storeu_si512(to.cast(), bytes);
        }
    }
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

/// Elements from which on loops past the caches go on at two places in turns: memory answers these faster than one, unless
/// they are close to each other.
#[cfg(target_arch = "x86_64")]
const FAR: usize = 1 << 15;

/// Where the second of two places begins among elements whose first one begins a line: at a line too, with as many before it
/// as are worked on behind it. Zero if it would be too close.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn second_place(len: usize) -> usize {
    if len < FAR { 0 } else { len / 2 / LINE * LINE }
}

/// Elements before the first cache line that begins in `out`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn head<T>(out: &[T]) -> usize {
    out.as_ptr().addr().wrapping_neg() % LINE / size_of::<T>().max(1)
}

/// The cache line in which one run of results ends and the next one begins, put together to go past the caches as a whole:
/// a line that is written in two parts is first read from memory.
///
/// A whole line leaves when the next one begins: to be read as a whole right after it was written in parts, it would have to
/// wait until all that went past the caches before is on its way.
#[cfg(target_arch = "x86_64")]
#[repr(align(64))]
pub(super) struct Seam<T> {
    /// The line, with room on both sides for results that are computed beside those of it: as many elements as a line has
    /// bytes for each, of which there are fewer if they are longer.
    lines: [T; 3 * LINE],
    /// Elements of the line that are here.
    filled: usize,
    /// The place of the next result, and its place in its line.
    next: usize,
    within: usize,
    /// Where a whole line ends that did not leave yet, if there is one.
    whole: Option<usize>,
}

#[cfg(target_arch = "x86_64")]
impl<T: Copy + Default> Default for Seam<T> {
    fn default() -> Self {
        Self { lines: [T::default(); 3 * LINE], filled: 0, next: 0, within: 0, whole: None }
    }
}

#[cfg(target_arch = "x86_64")]
impl<T: Copy + Default> Seam<T> {
    /// Elements of a line.
    const LEN: usize = LINE / size_of::<T>();

    /// Room for `len` results, of which those from the one at `first` on go to `out[at..]`, fewer than a line and all of one;
    /// `at` is not below what was put before. [`put`](Self::put) has to follow. `None` for more results than a line has bytes.
    #[inline(always)]
    pub(super) fn room(&mut self, at: usize, first: usize, len: usize, out: &mut [T]) -> Option<&mut [T]> {
        self.within = (Self::LEN - head(out.get(at..)?)) % Self::LEN;
        // Results that come before these would lie where others of the line are.
        let covered = first > 0 && self.within > 0;
        if self.filled > 0 && (self.next != at || self.within != self.filled || covered) {
            self.leave(out);
        }
        if self.filled == 0 {
            self.leave_whole(out);
        }
        self.next = at;
        let begin = (LINE + self.within).checked_sub(first)?;
        self.lines.get_mut(begin..begin + len)
    }

    /// Takes `count` of the results in the [`room`](Self::room).
    #[inline(always)]
    pub(super) fn put(&mut self, count: usize, out: &mut [T]) {
        if self.within != self.filled {
            // The line began before there was a seam.
            let those = self.lines.get(LINE + self.within..LINE + self.within + count);
            if let (Some(those), Some(place)) = (those, out.get_mut(self.next..self.next + count)) {
                place.copy_from_slice(those);
            }
            return;
        }
        (self.filled, self.next) = (self.within + count, self.next + count);
        if self.filled == Self::LEN {
            (self.filled, self.whole) = (0, Some(self.next));
        }
    }

    /// Writes the whole line, if there is one.
    #[inline(always)]
    fn leave_whole(&mut self, out: &mut [T]) {
        let Some(end) = self.whole.take() else { return };
        if let Some(place) = out.get_mut(end - Self::LEN..end) {
            let from = self.lines[LINE..].as_ptr().cast::<__m128i>();
            let to = place.as_mut_ptr().cast::<__m128i>();
            for part in 0..PER_LINE {
                // SAFETY: both are lines of as many bytes; the one in `out` is one of the caches, as results have filled it
                // from its beginning.
                unsafe { _mm_stream_si128(to.add(part), _mm_loadu_si128(from.add(part))) };
            }
        }
    }

    /// Writes what is here of a line that does not become whole.
    fn leave(&mut self, out: &mut [T]) {
        let from = self.next - self.filled;
        if let Some(place) = out.get_mut(from..self.next) {
            place.copy_from_slice(&self.lines[LINE..LINE + self.filled]);
        }
        self.filled = 0;
    }

    /// Writes what is left. [`finish`] has to follow.
    pub(super) fn finish(mut self, out: &mut [T]) {
        self.leave_whole(out);
        self.leave(out);
    }
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

    #[test]
    fn seams_join_runs_of_any_length_anywhere() {
        joined(|i| i as f32);
        joined(|i| i as u16);
        joined(|i| i as u8);
    }

    fn joined<T: Copy + Default + PartialEq + core::fmt::Debug>(value: impl Fn(usize) -> T) {
        let len = LINE / size_of::<T>();
        for start in 0..len + 4 {
            for width in 1..3 * len {
                let mut out = vec![T::default(); 300];
                let mut expected = out.clone();
                let (mut seam, mut at) = (Seam::<T>::default(), start);
                while at < 290 {
                    let end = (at + width).min(290);
                    // What lies between whole lines goes by the seam, one line at a time; what fills them does not.
                    let mut from = at;
                    while from < end {
                        let to = (from + (head(&out[from..]) + len - 1) % len + 1).min(end);
                        let values: Vec<T> = (from..to).map(&value).collect();
                        expected[from..to].copy_from_slice(&values);
                        if values.len() == len {
                            out[from..to].copy_from_slice(&values);
                        } else {
                            // Alone, or with others of a line before or behind them.
                            let alone = width < len || from % 3 == 0;
                            let begins = head(&out[from..]) % len == 0;
                            let first = if begins && !alone { len - values.len() } else { 0 };
                            let count = if alone { values.len() } else { len };
                            if let Some(room) = seam.room(from, first, count, &mut out) {
                                room.fill(T::default());
                                room[first..first + values.len()].copy_from_slice(&values);
                                seam.put(values.len(), &mut out);
                            }
                        }
                        from = to;
                    }
                    at = end;
                }
                seam.finish(&mut out);
                finish();
                assert_eq!(out, expected, "{start} {width}");
            }
        }
    }
}
