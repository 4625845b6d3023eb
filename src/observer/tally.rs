//! Counting many values of one region, in memory that is used again from region to region.

use core::cmp::Ordering;

use crate::element::Real;
use crate::error::DataError;
use crate::kernel::grid::{self, LONG, NARROW_BINS, STAGE, Tables, Window};
use crate::kernel::reduce;

use super::counts::{Counts, Entry, reserve};
use super::grid::{Span, bin_of, shift_down};
use super::summary::Summary;

/// Values are sorted, not counted, if there are so many times more bins.
const FEW: usize = 16;
/// The most values of one tally: a counter holds them all.
const MOST: usize = 1 << 31;

/// Counters over a window of bins, wider than the range at hand, so that it rarely has to be moved.
///
/// Memory: 16 · resolution bytes, and as much again, up to twice, for many values.
#[derive(Debug)]
pub(super) struct Tally {
    resolution: usize,
    /// The number of bins of a window.
    slots: usize,
    window: Window,
    exponent: i32,
    /// The range that decides on the bins: of all values so far, and of what it began with.
    min: f64,
    max: f64,
    /// Zero between two tallies.
    counters: Vec<u32>,
    /// Where many values are counted, before `counters` gets the sums; empty for few. Zero between two tallies.
    narrow: Vec<u16>,
    /// How many values wait there.
    waiting: usize,
    /// Whether it is in use.
    many: bool,
    /// Whether a tally was begun and not finished.
    begun: bool,
    places: Box<[u32; STAGE]>,
    list: Vec<Entry>,
    sum: Vec<u64>,
}

impl Tally {
    /// Counters for summaries of at least `resolution` bins.
    pub(super) fn new(resolution: usize) -> Self {
        Self {
            resolution,
            slots: resolution.saturating_mul(4),
            window: Window { scale: 1.0, first: 0 },
            exponent: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            counters: Vec::new(),
            narrow: Vec::new(),
            waiting: 0,
            many: false,
            begun: false,
            places: Box::new([0; STAGE]),
            list: Vec::new(),
            sum: Vec::new(),
        }
    }

    /// `summary` with `values` added, all of them finite.
    pub(super) fn observe<T: Real>(&mut self, summary: &Summary, values: &[T]) -> Result<Summary, DataError> {
        if values.is_empty() {
            return summary.try_clone();
        }
        if let Some(next) = self.observe_within(summary, values)? {
            return Ok(next);
        }
        if let Some(next) = self.observe_few(summary, values)? {
            return Ok(next);
        }
        let mut chunks = values.chunks(MOST);
        let mut next = self.observe_many(summary, chunks.next().unwrap_or_default())?;
        for values in chunks {
            next = self.observe_many(&next, values)?;
        }
        Ok(next)
    }

    /// Not many values within the range: they are counted in place, if the counts hold them.
    fn observe_within<T: Real>(
        &mut self,
        summary: &Summary,
        values: &[T],
    ) -> Result<Option<Summary>, DataError> {
        let Some((min, max)) = summary.min_max() else { return Ok(None) };
        if summary.counts().entries().is_some() || values.len() > 2 * self.resolution {
            return Ok(None);
        }
        let window = Window { scale: summary.span().scale(), first: summary.span().first };
        let mut next: Option<Counts> = None;
        for values in values.chunks(STAGE) {
            let found = grid::find(values, &window, &mut self.places);
            if !(found.finite && min <= found.min && found.max <= max) {
                return Ok(None);
            }
            let counts = match &mut next {
                Some(next) => next,
                none => none.insert(summary.counts().try_clone()?),
            };
            if !counts.bump(self.places.get(..values.len()).unwrap_or_default()) {
                return Ok(None);
            }
        }
        Ok(next.map(|counts| summary.with_counts(counts)))
    }

    /// Few values beside the bins, and few bins that are not empty: a sorted list.
    fn observe_few<T: Real>(
        &mut self,
        summary: &Summary,
        values: &[T],
    ) -> Result<Option<Summary>, DataError> {
        let listed = summary.min_max().is_none() || summary.counts().entries().is_some();
        if !listed || values.len().saturating_mul(FEW) > self.resolution {
            return Ok(None);
        }
        let (mut min, mut max) = ([f64::INFINITY], [f64::NEG_INFINITY]);
        reduce::min_max(values, usize::MAX, 0, &mut min, &mut max);
        let ([mut min], [mut max]) = (min, max);
        if let Some((least, most)) = summary.min_max() {
            (min, max) = (min.min(least), max.max(most));
        }
        let span = Span::new(min, max, self.resolution);
        let window = Window { scale: span.scale(), first: span.first };
        self.list.clear();
        reserve(&mut self.list, values.len())?;
        for values in values.chunks(STAGE) {
            grid::find(values, &window, &mut self.places);
            self.list.extend(self.places.iter().take(values.len()).map(|&place| (place, 1)));
        }
        self.list.sort_unstable();
        // Neighbours in the same bin become one entry.
        self.list.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0 };
            same
        });
        let counts = Counts::from_entries(&self.list, span.bins)?;
        let seen = Summary::from_parts(self.resolution, (min, max), span, counts);
        summary.merged(&seen, &mut self.sum).map(Some)
    }

    fn observe_many<T: Real>(&mut self, summary: &Summary, values: &[T]) -> Result<Summary, DataError> {
        self.begin(summary.min_max(), values.len())?;
        self.add(values, false)?;
        self.finish(summary)
    }

    /// Begins to count about `expected` values, fewer than 2^32, in the bins that suit `range` and them.
    pub(super) fn begin(&mut self, range: Option<(f64, f64)>, expected: usize) -> Result<(), DataError> {
        fn grow<C: Copy + Default>(counters: &mut Vec<C>, len: usize) -> Result<(), DataError> {
            if counters.len() < len {
                reserve(counters, len)?;
                counters.resize(len, C::default());
            }
            Ok(())
        }
        if self.begun {
            self.counters.fill(0);
            self.narrow.fill(0);
        }
        (self.begun, self.waiting) = (true, 0);
        grow(&mut self.counters, self.slots)?;
        // So many values are worth the passes over all bins.
        self.many = self.slots <= NARROW_BINS && expected >= self.slots;
        if self.many {
            grow(&mut self.narrow, Tables::counters(self.slots))?;
        }
        (self.min, self.max) = (f64::INFINITY, f64::NEG_INFINITY);
        range.map_or(Ok(()), |(min, max)| self.widen(min, max))
    }

    /// Counts `values`. Returns how many were skipped as they are not finite, `None` if there are such and they are
    /// not to be skipped: the tally must not be finished then.
    pub(super) fn add<T: Real>(&mut self, values: &[T], skip: bool) -> Result<Option<u64>, DataError> {
        let mut skipped = 0;
        for values in values.chunks(if self.many { LONG } else { STAGE }) {
            if self.stage(values)? {
                continue;
            }
            if !skip {
                return Ok(None);
            }
            for values in values.chunks(STAGE) {
                let mut finite = [T::zero(); STAGE];
                let mut kept = 0;
                for (to, &value) in finite.iter_mut().zip(values.iter().filter(|value| value.is_finite())) {
                    *to = value;
                    kept += 1;
                }
                self.stage(finite.get(..kept).unwrap_or_default())?;
                skipped += (values.len() - kept) as u64;
            }
        }
        Ok(Some(skipped))
    }

    /// Counts the values of a stage, unless some are not finite.
    fn stage<T: Real>(&mut self, values: &[T]) -> Result<bool, DataError> {
        if values.is_empty() {
            return Ok(true);
        }
        if self.min > self.max {
            // Bins that suit the first values are likely to suit the others.
            let found = grid::find(values, &self.window, &mut self.places);
            if !found.finite {
                return Ok(false);
            }
            self.widen(found.min, found.max)?;
        }
        if self.waiting + values.len() > grid::MOST {
            self.settle();
        }
        loop {
            let mut tables = if self.many { Tables::new(&mut self.narrow, self.slots) } else { None };
            let found = match &mut tables {
                Some(tables) => tables.count(values, &self.window),
                None => grid::find(values, &self.window, &mut self.places),
            };
            let held = |value| holds(&self.window, self.slots, value);
            let inside = found.finite && held(found.min) && held(found.max);
            if let (false, Some(tables)) = (inside, &mut tables) {
                tables.take_back(values, &self.window);
            }
            if !found.finite {
                return Ok(false);
            }
            let (min, max) = (self.min.min(found.min), self.max.max(found.max));
            if !inside {
                // Once more, in a window that holds all.
                self.widen(min, max)?;
                continue;
            }
            if self.many {
                self.waiting += values.len();
            } else {
                for &place in self.places.iter().take(values.len()) {
                    if let Some(count) = self.counters.get_mut(place as usize) {
                        *count = count.wrapping_add(1);
                    }
                }
            }
            if min < self.min || max > self.max {
                (self.min, self.max) = (min, max);
                if Span::new(min, max, self.resolution).exponent != self.exponent {
                    self.widen(min, max)?;
                }
            }
            return Ok(true);
        }
    }

    /// Adds what waits in the narrow tables to the counters.
    fn settle(&mut self) {
        let (from, to) = self.used();
        if self.waiting > 0
            && let Some(mut tables) = Tables::new(&mut self.narrow, self.slots)
            && let Some(counters) = self.counters.get_mut(from..to)
        {
            tables.empty(from, counters);
        }
        self.waiting = 0;
    }

    /// The places of the range in the window.
    fn used(&self) -> (usize, usize) {
        if self.min > self.max {
            return (0, 0);
        }
        let place = |value| (bin_of(value, self.window.scale) - self.window.first) as usize;
        (place(self.min), place(self.max) + 1)
    }

    /// Takes the counts of the range, from the lowest bin on, into `self.sum`, which gets `bins` elements.
    fn take(&mut self, bins: usize) -> Result<(), DataError> {
        self.settle();
        let (from, to) = self.used();
        self.sum.clear();
        reserve(&mut self.sum, bins)?;
        self.sum.resize(bins, 0);
        let counters = self.counters.get_mut(from..to).unwrap_or_default();
        for (sum, count) in self.sum.iter_mut().zip(counters.iter()) {
            *sum = (*count).into();
        }
        counters.fill(0);
        Ok(())
    }

    /// Moves to a window for the range `[min, max]`, which holds the present one: coarser bins if need be.
    fn widen(&mut self, min: f64, max: f64) -> Result<(), DataError> {
        let span = Span::new(min, max, self.resolution);
        // As much room on both sides.
        let first = span.first - (self.slots.saturating_sub(span.bins) / 2) as i64;
        let shift = span.exponent - self.exponent;
        let (from, to) = self.used();
        let number = self.window.first + from as i64;
        self.take(to - from)?;
        for (bin, &count) in (number..).zip(&self.sum) {
            let place = (shift_down(bin, shift) - first) as usize;
            if let Some(into) = self.counters.get_mut(place) {
                *into = into.wrapping_add(count as u32);
            }
        }
        self.window = Window { scale: span.scale(), first };
        (self.exponent, self.min, self.max) = (span.exponent, min, max);
        Ok(())
    }

    /// `summary` and what was counted since [`begin`](Self::begin), whose range must have held that of the summary.
    pub(super) fn finish(&mut self, summary: &Summary) -> Result<Summary, DataError> {
        let span = Span::new(self.min, self.max, self.resolution);
        self.take(span.bins)?;
        self.begun = false;
        summary.add_counts(&mut self.sum, &span);
        let counts = Counts::from_dense(&self.sum)?;
        let next = Summary::from_parts(self.resolution, (self.min, self.max), span, counts);
        Ok(next.with_skipped(summary.skipped()))
    }
}

/// Whether the window has one of its so many bins for `value`.
fn holds(window: &Window, bins: usize, value: f64) -> bool {
    (0..bins as i64).contains(&bin_of(value, window.scale).saturating_sub(window.first))
}

/// Joins two lists in the order of their bins, each bin shifted; `None` if a count does not fit.
pub(super) fn join(
    a: (&[Entry], impl Fn(u32) -> u32),
    b: (&[Entry], impl Fn(u32) -> u32),
) -> Result<Option<Vec<Entry>>, DataError> {
    let mut joined: Vec<Entry> = super::counts::reserved(a.0.len() + b.0.len())?;
    let mut left = a.0.iter().map(|&(bin, count)| (a.1(bin), count)).peekable();
    let mut right = b.0.iter().map(|&(bin, count)| (b.1(bin), count)).peekable();
    loop {
        let next = match (left.peek(), right.peek()) {
            (Some(x), Some(y)) if x.0.cmp(&y.0) != Ordering::Greater => left.next(),
            (_, Some(_)) => right.next(),
            _ => left.next(),
        };
        let Some((bin, count)) = next else { return Ok(Some(joined)) };
        match joined.last_mut().filter(|last| last.0 == bin) {
            Some(last) => match last.1.checked_add(count) {
                Some(sum) => last.1 = sum,
                None => return Ok(None),
            },
            None => joined.push((bin, count)),
        }
    }
}
