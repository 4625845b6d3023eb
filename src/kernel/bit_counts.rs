//! Counting numbers of 16 bits by their bits, of which there are 65,536 patterns: counting takes no arithmetic, and what
//! a pattern means is found out once, not for each value.
//!
//! Counters have 16 bits, so that those of the patterns that occur stay in the caches; one that overflows is noted in a
//! list. Values count in one table, unless neighbours are often equal: these would wait for each other's stores, and
//! count in several tables in turn.

use std::collections::TryReserveError;

use super::{dispatch, prefetch};

/// Numbers of 16 bits.
pub(crate) const PATTERNS: usize = 1 << 16;

/// BitCounts whose counts are read together.
pub(crate) const STAGE: usize = 1024;

/// Sub-histograms.
const TABLES: usize = 4;

/// A table and what lies between it and the next: some cache lines more than a multiple of 4096 bytes, as a processor
/// takes a load from there for one that waits for the store.
const STRIDE: usize = PATTERNS + 608;

/// Values that count in the same way.
const PIECE: usize = 4096;

/// Values of a piece that are compared with their neighbours.
const SAMPLE: usize = 64;

/// From this many equal pairs in a sample on, of twice as many as it has values, there are more tables.
const OFTEN: usize = 8;

/// Values of a cache line.
const LINE: usize = 32;

/// Bytes ahead that are asked for: counting takes longer than reading.
const AHEAD: usize = 2048;

type Table = [u16; PATTERNS];

/// How often each pattern was met.
///
/// Memory: 128 KiB, or half a mebibyte where neighbours were often equal; and 2 bytes for 65,536 values.
#[derive(Debug, Default)]
pub(crate) struct BitCounts {
    /// One table or all.
    counters: Vec<u16>,
    /// BitCounts whose counter went from 65,535 to zero.
    carries: Vec<u16>,
}

impl BitCounts {
    /// Begins to count: as many as `expected` values need no more memory but where it makes counting faster.
    pub(crate) fn begin(&mut self, expected: usize) -> Result<(), TryReserveError> {
        self.counters.fill(0);
        self.carries.clear();
        self.grow(PATTERNS)?;
        self.carries.try_reserve_exact(expected / PATTERNS)
    }

    fn grow(&mut self, counters: usize) -> Result<(), TryReserveError> {
        let more = counters.saturating_sub(self.counters.len());
        self.counters.try_reserve_exact(more)?;
        self.counters.resize(self.counters.len() + more, 0);
        Ok(())
    }

    /// Counts numbers by their bits.
    pub(crate) fn count(&mut self, x: &[u16]) {
        for x in x.chunks(PIECE) {
            // Without memory for more tables, counting takes longer.
            let spread = repeats(x) && self.grow(TABLES * STRIDE).is_ok();
            let (counters, carries) = (&mut self.counters, &mut self.carries);
            if !spread {
                if let Some(table) = counters.first_chunk_mut() {
                    in_one(x, table, carries);
                }
            } else if let Some((tables, _)) = split(counters) {
                in_turn(x, tables, carries);
            }
        }
    }

    /// The counts of the patterns from `STAGE · stage` on; whether any is not zero.
    pub(crate) fn stage(&self, stage: usize, counts: &mut [u64; STAGE]) -> bool {
        let first = stage.saturating_mul(STAGE);
        counts.fill(0);
        for table in self.counters.chunks(STRIDE) {
            if let Some(table) = table.get(first..).and_then(<[u16]>::first_chunk) {
                add(table, counts);
            }
        }
        for &pattern in &self.carries {
            if let Some(count) = usize::from(pattern).checked_sub(first).and_then(|at| counts.get_mut(at)) {
                *count += PATTERNS as u64;
            }
        }
        counts.iter().fold(0, |any, count| any | count) != 0
    }
}

/// The tables of all counters, and what lies behind.
fn split(counters: &mut [u16]) -> Option<([&mut Table; TABLES], &mut [u16])> {
    let (a, rest) = counters.split_at_mut_checked(STRIDE)?;
    let (b, rest) = rest.split_at_mut_checked(STRIDE)?;
    let (c, rest) = rest.split_at_mut_checked(STRIDE)?;
    let (d, rest) = rest.split_at_mut_checked(STRIDE)?;
    Some(([a.first_chunk_mut()?, b.first_chunk_mut()?, c.first_chunk_mut()?, d.first_chunk_mut()?], rest))
}

/// Whether values are often equal to the one before or the one before that, as the first ones tell.
fn repeats(x: &[u16]) -> bool {
    let Some(x) = x.first_chunk::<{ SAMPLE + 2 }>() else { return false };
    let equal =
        |apart: usize| x.iter().zip(&x[apart..]).take(SAMPLE).map(|(a, b)| u16::from(a == b)).sum::<u16>();
    usize::from(equal(1) + equal(2)) >= OFTEN
}

#[inline(always)]
fn bump(table: &mut Table, pattern: u16, carries: &mut Vec<u16>) {
    let count = &mut table[usize::from(pattern)];
    *count = count.wrapping_add(1);
    if *count == 0 {
        note(pattern, carries);
    }
}

#[cold]
#[inline(never)]
fn note(pattern: u16, carries: &mut Vec<u16>) {
    carries.push(pattern);
}

#[inline(never)]
fn in_one(x: &[u16], table: &mut Table, carries: &mut Vec<u16>) {
    let (lines, rest) = x.as_chunks::<LINE>();
    for line in lines {
        prefetch(line, AHEAD);
        for fours in line.as_chunks::<4>().0 {
            for pattern in fours {
                bump(table, *pattern, carries);
            }
        }
    }
    for pattern in rest {
        bump(table, *pattern, carries);
    }
}

#[inline(never)]
fn in_turn(x: &[u16], [a, b, c, d]: [&mut Table; TABLES], carries: &mut Vec<u16>) {
    let (lines, rest) = x.as_chunks::<LINE>();
    for line in lines {
        prefetch(line, AHEAD);
        for fours in line.as_chunks::<TABLES>().0 {
            bump(a, fours[0], carries);
            bump(b, fours[1], carries);
            bump(c, fours[2], carries);
            bump(d, fours[3], carries);
        }
    }
    for pattern in rest {
        bump(a, *pattern, carries);
    }
}

dispatch! {
    fn add[](table: &[u16; STAGE], counts: &mut [u64; STAGE]) {
        for (count, more) in counts.iter_mut().zip(table) {
            *count += u64::from(*more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;

    /// Bits that differ, of which so many of 256 are zeros.
    fn patterns(len: usize, zeros: u64, kinds: u64) -> Vec<u16> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 40
        };
        (0..len).map(|_| if next() % 256 < zeros { 0 } else { (next() % kinds * 37) as u16 }).collect()
    }

    fn check(parts: &[&[u16]]) {
        let mut expected = vec![0u64; PATTERNS];
        parts.iter().copied().flatten().for_each(|pattern| expected[usize::from(*pattern)] += 1);
        let found = agreed(|| {
            let mut counted = BitCounts::default();
            // A second time, with what the first one leaves behind.
            for _ in 0..2 {
                counted.begin(parts.iter().map(|part| part.len()).sum()).unwrap();
                let room = counted.carries.capacity();
                parts.iter().for_each(|part| counted.count(part));
                assert_eq!(counted.carries.capacity(), room);
            }
            let mut found = vec![0u64; PATTERNS];
            for (stage, counts) in found.as_chunks_mut().0.iter_mut().enumerate() {
                let any = counted.stage(stage, counts);
                assert_eq!(any, counts.iter().any(|count| *count > 0));
            }
            found
        });
        assert!(found == expected);
    }

    #[test]
    fn every_value_counts_once() {
        for len in [0, 1, 31, 32, 33, 65, 66, 67, 4095, 4096, 4097, 20_011] {
            for zeros in [0, 2, 20, 128, 256] {
                check(&[&patterns(len, zeros, 1 << 16)]);
                check(&[&patterns(len, zeros, 300), &patterns(len / 2, 256 - zeros, 5)]);
            }
        }
        let all: Vec<u16> = (0..=u16::MAX).collect();
        check(&[&all, &all, &[]]);
    }

    #[test]
    fn counters_that_overflow_are_kept() {
        let (equal, few) = (vec![u16::MAX; 300_003], patterns(700_000, 0, 3));
        check(&[&equal]);
        check(&[&few, &equal, &few]);
        // Equal values that the samples do not show.
        let rare: Vec<u16> = (0..400_000).map(|i| if i % PIECE < 70 { i as u16 } else { 9 }).collect();
        check(&[&rare]);
    }

    #[test]
    fn no_stage_has_no_counts() {
        let mut counted = BitCounts::default();
        let mut counts = [1; STAGE];
        assert!(!counted.stage(0, &mut counts));
        counted.begin(1).unwrap();
        counted.count(&[u16::MAX]);
        assert!(counted.stage(63, &mut counts) && counts[STAGE - 1] == 1);
        assert!(!counted.stage(64, &mut counts) && !counted.stage(usize::MAX, &mut counts));
        assert_eq!(counts, [0; STAGE]);
    }
}
