//! Loops that move bytes and do nothing else, as fast as plain loops can: what a kernel that moves the same bytes can
//! hardly beat. The one place of this example with unsafe code.
//!
//! A pattern reads R cache lines, combines them by exclusive or, and writes the result to W cache lines. Vectors are the
//! widest of the machine, whatever the level that the library was told to use.
#![allow(unsafe_code, reason = "streaming stores, and vectors that a default build would not use")]

use std::hint::black_box;

use lowbit::simd::{self, Level};

/// A cache line, aligned as streaming stores ask.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [u64; 8]);

/// How bytes are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Ordinary loads and stores, front to back.
    Plain,
    /// Stores that pass by the cache.
    Streaming,
    /// Nothing is written, and both halves are read at once, which some memories answer faster.
    TwoStreams,
    /// The same with four quarters.
    FourStreams,
    /// The same, by vectors that begin where arrays do, beside the beginning of a line: some processors ask for the next
    /// line earlier then.
    FourStreamsBesideLines,
    /// The copy of the standard library.
    Library,
}

/// All the patterns that this example needs: cache lines read, cache lines written.
macro_rules! for_each_pattern {
    ($run:ident) => {
        $run!(
            (1, 1),
            (1, 2),
            (1, 4),
            (2, 1),
            (4, 1), // whole bytes
            (32, 9),
            (9, 32),
            (64, 9),
            (9, 64), // 4.5 bits
            (32, 17),
            (17, 32),
            (64, 17),
            (17, 64),
            (128, 17),
            (17, 128) // 4.25 and 8.5 bits
        )
    };
}

/// Moves `from` to `to` by the pattern of `lines`, which must be one of those above or write nothing. What does not fill
/// a whole pattern is left. Returns whether the pattern is known.
pub(crate) fn pass(lines: (usize, usize), way: Way, from: &[Line], to: &mut [Line]) -> bool {
    if way == Way::Library {
        let shared = from.len().min(to.len());
        to[..shared].copy_from_slice(&from[..shared]);
        return lines == (1, 1);
    }
    if lines.1 == 0 {
        black_box(read(way, from));
        return true;
    }
    let best = simd::available().last().copied().unwrap_or(Level::Baseline);
    let streaming = way == Way::Streaming;
    macro_rules! chosen {
        ($(($read:literal, $write:literal)),*) => {
            match lines {
                $(($read, $write) => match (best, streaming) {
                    // SAFETY: the level is one that this machine has.
                    #[cfg(target_arch = "x86_64")]
                    (Level::Avx512, _) => unsafe { avx512::copy::<$read, $write>(from, to, streaming) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    (Level::Avx2, _) => unsafe { avx2::copy::<$read, $write>(from, to, streaming) },
                    _ => plain::copy::<$read, $write>(from, to),
                },)*
                _ => return false,
            }
        };
    }
    for_each_pattern!(chosen);
    true
}

/// Reads `from` and returns its words, joined by exclusive or; whole steps of two lines of each part, and but for the last
/// of them those beside lines.
pub(crate) fn read(way: Way, from: &[Line]) -> u64 {
    let quarter = from.len() / 4;
    let parts = match way {
        Way::FourStreams | Way::FourStreamsBesideLines => [quarter, 2 * quarter, 3 * quarter],
        Way::TwoStreams => [2 * quarter, from.len(), from.len()],
        _ => [from.len(); 3],
    };
    let parts = [&from[..parts[0]], &from[parts[0]..parts[1]], &from[parts[1]..parts[2]], &from[parts[2]..]];
    let beside = way == Way::FourStreamsBesideLines;
    match simd::available().last() {
        // SAFETY: the level is one that this machine has.
        #[cfg(target_arch = "x86_64")]
        Some(Level::Avx512) if beside => unsafe { avx512::read::<true>(parts) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Some(Level::Avx512) => unsafe { avx512::read::<false>(parts) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Some(Level::Avx2) if beside => unsafe { avx2::read::<true>(parts) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Some(Level::Avx2) => unsafe { avx2::read::<false>(parts) },
        _ => plain::read(parts),
    }
}

/// The loops for vectors of one width.
#[cfg(target_arch = "x86_64")]
macro_rules! loops {
    ($level:ident, $feature:literal, $vector:ty, $load:ident, $load_beside:ident, $xor:ident, $store:ident, $stream:ident, $zero:ident) => {
        mod $level {
            use core::arch::x86_64::*;

            use super::Line;

            const VECTORS: usize = size_of::<Line>() / size_of::<$vector>();

            #[inline]
            #[target_feature(enable = $feature)]
            fn load(line: &Line, vector: usize) -> $vector {
                debug_assert!(vector < VECTORS);
                // SAFETY: the vector lies in the line, whose alignment is at least that of the vector.
                unsafe { $load(core::ptr::from_ref(line).cast::<$vector>().add(vector)) }
            }

            /// As [`load`], a quarter of a line further on.
            ///
            /// # Safety
            ///
            /// Another line follows.
            #[inline]
            #[target_feature(enable = $feature)]
            unsafe fn load_beside(line: &Line, vector: usize) -> $vector {
                debug_assert!(vector < VECTORS);
                let start = core::ptr::from_ref(line).cast::<$vector>().wrapping_add(vector);
                // SAFETY: the vector lies in the line and in the one that follows, the caller's promise.
                unsafe { $load_beside(start.wrapping_byte_add(size_of::<Line>() / 4).cast()) }
            }

            #[target_feature(enable = $feature)]
            pub(super) fn read<const BESIDE: bool>(parts: [&[Line]; 4]) -> u64 {
                const LINES: usize = 2;
                let mut sums = [$zero(); LINES * VECTORS];
                let mut add = |lines: &[Line; LINES]| {
                    for (i, line) in lines.iter().enumerate() {
                        for vector in 0..VECTORS {
                            let sum = &mut sums[i * VECTORS + vector];
                            let read = if BESIDE {
                                // SAFETY: the last lines are left out below.
                                unsafe { load_beside(line, vector) }
                            } else {
                                load(line, vector)
                            };
                            *sum = $xor(*sum, read);
                        }
                    }
                };
                // The last lines of each part are followed by no other.
                let all = |part: &[Line]| part.len() - if BESIDE { LINES.min(part.len()) } else { 0 };
                let [a, b, c, d] = parts.map(|part| part[..all(part)].as_chunks().0);
                // Parts that there are begin together; what is left of longer ones follows.
                let all = c.len().min(d.len());
                for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
                    add(a);
                    add(b);
                    add(c);
                    add(d);
                }
                let both = a[all..].iter().zip(&b[all..]);
                let shared = all + both.len();
                for (a, b) in both {
                    add(a);
                    add(b);
                }
                a[shared..].iter().chain(&b[shared..]).chain(&c[all..]).chain(&d[all..]).for_each(&mut add);
                let sum = sums.into_iter().fold($zero(), |a, b| $xor(a, b));
                let mut line = Line([0; 8]);
                // SAFETY: a line holds at least one vector and is aligned.
                unsafe { $store(core::ptr::from_mut(&mut line).cast::<$vector>(), sum) };
                line.0.iter().fold(0, |a, b| a ^ b)
            }

            #[target_feature(enable = $feature)]
            pub(super) fn copy<const READ: usize, const WRITE: usize>(
                from: &[Line],
                to: &mut [Line],
                streaming: bool,
            ) {
                let patterns = from.as_chunks::<READ>().0.iter().zip(to.as_chunks_mut::<WRITE>().0);
                if streaming {
                    for (from, to) in patterns {
                        // SAFETY: the address is that of a vector of a line, as below.
                        each(from, to, |at, value| unsafe { $stream(at, value) });
                    }
                    // Streaming stores are done when this returns, as ordinary ones are.
                    _mm_sfence();
                } else {
                    for (from, to) in patterns {
                        // SAFETY: as above.
                        each(from, to, |at, value| unsafe { $store(at, value) });
                    }
                }
            }

            /// Calls `write` with the place of each vector of `to`: aligned, and within a line.
            #[inline]
            #[target_feature(enable = $feature)]
            fn each<const READ: usize, const WRITE: usize>(
                from: &[Line; READ],
                to: &mut [Line; WRITE],
                write: impl Fn(*mut $vector, $vector),
            ) {
                let mut values = [$zero(); VECTORS];
                for line in from {
                    for (vector, value) in values.iter_mut().enumerate() {
                        *value = $xor(*value, load(line, vector));
                    }
                }
                for line in to {
                    let start = core::ptr::from_mut(line).cast::<$vector>();
                    for (vector, value) in values.iter().enumerate() {
                        write(start.wrapping_add(vector), *value);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
loops!(
    avx2,
    "avx2",
    __m256i,
    _mm256_load_si256,
    _mm256_loadu_si256,
    _mm256_xor_si256,
    _mm256_store_si256,
    _mm256_stream_si256,
    _mm256_setzero_si256
);
#[cfg(target_arch = "x86_64")]
loops!(
    avx512,
    "avx512f",
    __m512i,
    _mm512_load_si512,
    _mm512_loadu_si512,
    _mm512_xor_si512,
    _mm512_store_si512,
    _mm512_stream_si512,
    _mm512_setzero_si512
);

/// What the compiler makes of the same loops.
mod plain {
    use super::Line;

    fn xor(a: Line, b: &Line) -> Line {
        let mut words = a.0;
        for (word, b) in words.iter_mut().zip(b.0) {
            *word ^= b;
        }
        Line(words)
    }

    pub(super) fn read([a, b, c, d]: [&[Line]; 4]) -> u64 {
        let mut sum = Line([0; 8]);
        for at in 0..a.len().max(b.len()).max(d.len()) {
            for line in [a, b, c, d].iter().filter_map(|part| part.get(at)) {
                sum = xor(sum, line);
            }
        }
        sum.0.iter().fold(0, |a, b| a ^ b)
    }

    pub(super) fn copy<const READ: usize, const WRITE: usize>(from: &[Line], to: &mut [Line]) {
        for (from, to) in from.as_chunks::<READ>().0.iter().zip(to.as_chunks_mut::<WRITE>().0) {
            *to = [from.iter().fold(Line([0; 8]), xor); WRITE];
        }
    }
}
