//! The machine's limit for the bytes of an operation: the fastest way to move them and do nothing else.

use anyhow::{Result, ensure};

use crate::operations::Bytes;
use crate::threads::Threads;
use crate::traffic::{self, Line, Way};

impl Bytes {
    /// Cache lines read and written in the shortest pattern with this ratio.
    fn lines(self) -> (usize, usize) {
        let divisor = gcd(self.read, self.written).max(1);
        (self.read / divisor, self.written / divisor)
    }

    /// What there is to choose from.
    fn ways(self) -> &'static [Way] {
        match self.lines() {
            (_, 0) => &[Way::Plain, Way::TwoStreams, Way::FourStreams, Way::FourStreamsBesideLines],
            (1, 1) => &[Way::Plain, Way::Streaming, Way::Library],
            _ => &[Way::Plain, Way::Streaming],
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Memory to move: filled, so that all its pages are there, by words that differ. Lines that are the same would join to zeros,
/// which some memories take faster than others.
pub(crate) struct Memory {
    from: Vec<Line>,
    pub(crate) to: Vec<Line>,
}

impl Memory {
    /// For operations on so many elements of at most 4 bytes.
    pub(crate) fn new(elements: usize) -> Self {
        let lines = elements.div_ceil(16);
        // Multiples of an odd number with no pattern in its bits.
        let word = |at: usize| (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let from = (0..lines).map(|line| Line(core::array::from_fn(|at| word(8 * line + at)))).collect();
        Self { from, to: vec![Line([1; 8]); lines] }
    }
}

/// The limit for one kind of operation.
pub(crate) struct Roofline<'m> {
    lines: (usize, usize),
    /// A part of the memory for each thread.
    parts: Vec<(&'m [Line], &'m mut [Line])>,
    pub(crate) ways: &'static [Way],
}

impl<'m> Roofline<'m> {
    /// Moving `bytes` for each of `elements` elements on so many threads.
    pub(crate) fn new(memory: &'m mut Memory, bytes: Bytes, elements: usize, threads: usize) -> Result<Self> {
        let lines = bytes.lines();
        // In lines of 64 bytes of 32 quarters of a bit each.
        let patterns = elements * bytes.read / (32 * 64 * lines.0);
        ensure!(
            patterns * lines.0 <= memory.from.len() && patterns * lines.1 <= memory.to.len(),
            "rooflines of elements of more than 4 bytes"
        );
        let mut from = &memory.from[..patterns * lines.0];
        let mut to = &mut memory.to[..patterns * lines.1];
        let mut parts = Vec::with_capacity(threads);
        for thread in 0..threads {
            let here = patterns * (thread + 1) / threads - patterns * thread / threads;
            let (part, rest) = from.split_at(here * lines.0);
            let (part_to, rest_to) = to.split_at_mut(here * lines.1);
            parts.push((part, part_to));
            (from, to) = (rest, rest_to);
        }
        let mut roofline = Self { lines, parts, ways: bytes.ways() };
        let known = roofline.parts.iter_mut().all(|(from, to)| traffic::pass(lines, Way::Plain, from, to));
        ensure!(known, "no roofline reads {} cache lines for each {} that it writes", lines.0, lines.1);
        Ok(roofline)
    }

    /// Moves everything once.
    pub(crate) fn pass(&mut self, way: Way, threads: &Threads) {
        let lines = self.lines;
        threads.each(&mut self.parts, |(from, to)| {
            traffic::pass(lines, way, std::hint::black_box(from), std::hint::black_box(to));
        });
    }
}
