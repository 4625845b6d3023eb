//! Levels and the cuts between them.

#[cfg(target_arch = "x86_64")]
use super::super::convert;
use super::LINEAR;
use super::starts::{Cells, Starts};
#[cfg(target_arch = "x86_64")]
use super::{
    long,
    marks::Marks,
    short::{self, Search},
};
use crate::element::{Element, FloatType, Real};

/// Which of two neighbouring levels gets a value that is as near to one as to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ties {
    /// The lower one.
    Low,
    /// The upper one.
    High,
    /// The one farther from zero.
    Away,
}

/// Where the boundary between two neighbouring levels lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Boundary {
    /// Half way.
    Midpoint(Ties),
    /// At the upper level: every value goes down.
    Floor,
    /// Just above the lower level: every value goes up.
    Ceil,
    /// Every value goes to the level nearer to zero.
    TowardZero,
}

/// Levels, cuts and codes of one or more maps of `count` places each, ascending. Places that are not needed repeat the
/// last level behind cuts that nothing reaches.
#[derive(Debug, Clone, Default)]
pub(crate) struct LevelMaps<T> {
    pub(crate) count: usize,
    pub(crate) levels: Vec<T>,
    /// `count - 1` for each map.
    pub(crate) cuts: Vec<T>,
    pub(crate) codes: Vec<u16>,
    order: Vec<u16>,
    /// How each map is searched, if that is prepared.
    pub(super) searches: Searches<T>,
}

/// What searches of maps begin with: of each kind one for each map, or none.
#[derive(Debug, Clone)]
pub(super) struct Searches<T> {
    /// Of tables that registers hold.
    #[cfg(target_arch = "x86_64")]
    pub(super) short: Vec<Search>,
    /// Of tables that more registers hold.
    #[cfg(target_arch = "x86_64")]
    pub(super) long: Vec<long::Search>,
    /// Of as long tables without close neighbours.
    #[cfg(target_arch = "x86_64")]
    pub(super) marks: Vec<Marks>,
    /// Of long tables.
    pub(super) starts: Vec<Starts<T>>,
    /// Of long tables without close neighbours.
    pub(super) cells: Vec<Cells<T>>,
}

impl<T> Default for Searches<T> {
    fn default() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            short: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            long: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            marks: Vec::new(),
            starts: Vec::new(),
            cells: Vec::new(),
        }
    }
}

impl<T> Searches<T> {
    /// Whether there is what serves long tables best.
    fn has_long(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return !(self.long.is_empty() && self.marks.is_empty());
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

/// Values for which it pays to prepare a short and a long search, and fine ones with marks or cells by bits, and with cells
/// of equal width.
const WORTH: [usize; 4] = [64, 512, 1 << 12, 1 << 15];

impl<T: Real> LevelMaps<T> {
    /// Maps of at most `count` levels, none yet.
    pub(crate) fn reset(&mut self, count: usize) {
        self.count = count;
        self.levels.clear();
        self.cuts.clear();
        self.codes.clear();
        self.searches = Searches::default();
    }

    /// Makes searches faster in the maps at hand, where it pays if each serves `values` values.
    pub(crate) fn prepare(&mut self, values: usize) {
        self.searches = Searches::default();
        let (count, cuts) = (self.count, self.count.saturating_sub(1));
        if cuts == 0 {
            return;
        }
        let maps = || self.cuts.chunks_exact(cuts).zip(self.codes.chunks_exact(count));
        #[cfg(target_arch = "x86_64")]
        if count <= short::LEVELS && values >= WORTH[0] {
            let search = |(cuts, codes)| Search::new(convert::same(cuts)?, codes);
            self.searches.short = all(maps().map(search));
        }
        #[cfg(target_arch = "x86_64")]
        if count > short::LEVELS && values >= WORTH[1] && long::serves() {
            let search = |(cuts, codes)| long::Search::new(convert::same(cuts)?, codes);
            self.searches.long = all(maps().map(search));
        }
        // Nothing else would use what is second best; tests force other instruction sets on the same maps.
        let best = |searches: &Searches<T>| searches.has_long() && !cfg!(test);
        #[cfg(target_arch = "x86_64")]
        if count > short::LEVELS && values >= WORTH[2] && super::has_avx2() && !best(&self.searches) {
            let marks = |(cuts, codes)| Marks::new(convert::same(cuts)?, codes);
            self.searches.marks = all(maps().map(marks));
        }
        if cuts > LINEAR && values >= WORTH[1] {
            self.searches.starts = all(maps().map(|(cuts, _)| Starts::new(cuts)));
            if best(&self.searches) {
                return;
            }
            if values >= WORTH[3] {
                self.searches.cells = all(maps().map(|(cuts, codes)| Cells::even(cuts, codes)));
            }
            if values >= WORTH[2] && self.searches.cells.is_empty() {
                self.searches.cells = all(maps().map(|(cuts, codes)| Cells::logarithmic(cuts, codes)));
            }
        }
    }

    /// Appends the map of `values`, which are in the order of their codes. Codes of values that are not finite are
    /// never chosen; of equal values the lowest code is, but zeros of both signs are two levels.
    pub(crate) fn push(&mut self, values: &[T], boundary: Boundary) {
        let count = self.count;
        let value = |code: u16| values.get(usize::from(code)).copied().unwrap_or_default();
        let order = &mut self.order;
        order.clear();
        order.extend(
            (0..values.len().min(count)).map(|code| code as u16).filter(|&code| value(code).is_finite()),
        );
        order.sort_by(|&a, &b| total_order(value(a), value(b)).then(a.cmp(&b)));
        order.dedup_by(|a, b| total_order(value(*a), value(*b)).is_eq());
        if order.is_empty() {
            order.push(0);
        }
        for pair in order.windows(2) {
            if let [low, high] = *pair {
                self.cuts.push(cut(value(low), value(high), boundary));
            }
        }
        let unused = count - order.len().min(count);
        self.cuts.extend(core::iter::repeat_n(T::infinity(), unused));
        self.levels.extend(order.iter().map(|&code| value(code)));
        self.codes.extend_from_slice(order);
        let last = order.last().copied().unwrap_or(0);
        self.levels.extend(core::iter::repeat_n(value(last), unused));
        self.codes.extend(core::iter::repeat_n(last, unused));
    }

    /// Appends a map whose levels ascend and whose cuts are known: `count` levels and codes, and a cut between each two.
    pub(crate) fn push_known(
        &mut self,
        levels: impl IntoIterator<Item = T>,
        cuts: impl IntoIterator<Item = T>,
        codes: &[u16],
    ) {
        let unused = self.count - codes.len().min(self.count);
        self.levels.extend(levels);
        self.cuts.extend(cuts);
        self.codes.extend_from_slice(codes);
        let last = (self.levels.last().copied().unwrap_or_default(), codes.last().copied().unwrap_or(0));
        self.levels.extend(core::iter::repeat_n(last.0, unused));
        self.cuts.extend(core::iter::repeat_n(T::infinity(), unused));
        self.codes.extend(core::iter::repeat_n(last.1, unused));
    }

    /// The levels of the only map, or of the one for entry `entry`.
    #[inline(always)]
    pub(super) fn map(&self, entry: usize, shared: bool) -> (&[T], &[T], &[u16]) {
        let (at, count) = (if shared { 0 } else { entry }, self.count);
        let cuts = count.saturating_sub(1);
        (
            self.levels.get(at * count..(at + 1) * count).unwrap_or_default(),
            self.cuts.get(at * cuts..(at + 1) * cuts).unwrap_or_default(),
            self.codes.get(at * count..(at + 1) * count).unwrap_or_default(),
        )
    }
}

/// All of them, or none where one is missing.
fn all<S>(each: impl Iterator<Item = Option<S>>) -> Vec<S> {
    each.collect::<Option<_>>().unwrap_or_default()
}

/// Ascending, −0 before +0.
fn total_order<T: Real>(a: T, b: T) -> core::cmp::Ordering {
    Element::to_f64(a).total_cmp(&Element::to_f64(b))
}

/// The smallest number that belongs to `high` rather than to `low`.
fn cut<T: Real>(low: T, high: T, boundary: Boundary) -> T {
    let zero = T::zero();
    let (a, b) = (Element::to_f64(low), Element::to_f64(high));
    match boundary {
        // Zeros of both signs: exact zeros are positive.
        _ if low == high => high,
        Boundary::Midpoint(ties) => {
            let middle = a * 0.5 + b * 0.5;
            let up = match ties {
                Ties::Low => false,
                Ties::High => true,
                Ties::Away => middle > 0.0,
            };
            at_least::<T>(middle, up)
        }
        Boundary::Floor => high,
        Boundary::TowardZero if low >= zero => high,
        Boundary::Ceil | Boundary::TowardZero => next_up(low),
    }
}

/// The smallest number of `T` that is at least `bound`, or above it unless `included`.
pub(crate) fn at_least<T: Real>(bound: f64, included: bool) -> T {
    let nearest = <T as Element>::from_f64(bound);
    let back = Element::to_f64(nearest);
    if back < bound || (back == bound && !included) { next_up(nearest) } else { nearest }
}

fn next_up<T: Real>(value: T) -> T {
    if T::TYPE == FloatType::F64 {
        T::from_f64(Element::to_f64(value).next_up())
    } else {
        T::from_f32(Element::to_f32(value).next_up())
    }
}
