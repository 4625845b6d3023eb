//! Counting on a grid of bins whose width is a power of two: the bin of `x` is `⌊x · 2^-e⌋`, exactly.
//!
//! The product with a power of two is exact but where it underflows, and so is the sum of two whole numbers of a
//! floating-point type where it is small, so f32 needs no wider type. The extremes are found in the same pass; they
//! tell whether all values of a stage lie within the window of bins at hand. If not, the stage is still in the
//! first-level cache when the caller has made a wider window: memory is read once. Counting goes to two
//! sub-histograms in turn, so that equal neighbours do not wait for each other's stores.

use super::convert::{convert, same};
use super::reduce::Lanes;
use super::{dispatch, prefetch};
use crate::element::{Element, Real};

/// Values that are looked at together.
pub(crate) const STAGE: usize = 1024;

/// The most bins of a window: whole numbers of f32 have 24 bits.
pub(crate) const MAX_BINS: usize = 1 << 22;

/// The bins whose places fit two bytes.
pub(crate) const NARROW_BINS: usize = 1 << 16;

/// Lanes of a stage: a whole number of vectors at every level.
const LANES: usize = 16;

/// Values whose places are counted while those of the next ones are being found.
const BLOCK: usize = 4 * LANES;

/// Bytes ahead that are asked for: counting takes longer than reading.
const AHEAD: usize = 4096;

/// The bins from number `first` on, of the width `1 / scale`. The place of a bin is its number less `first`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    /// The reciprocal width of a bin: a power of two.
    pub scale: f64,
    /// The number of the first bin; less than 2^51 in magnitude.
    pub first: i64,
}

impl Window {
    /// Whether f32 can number the bins of values of that type.
    fn suits_f32(&self) -> bool {
        // A scale that is a normal number: products overflow to infinity, or are exact, or lie next to zero.
        let normal = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
        normal.contains(&self.scale) && self.first.unsigned_abs() <= MAX_BINS as u64
    }
}

/// What is found of a stage besides its bins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    /// The smallest value; a zero of either sign is +0. +∞ if there is none.
    pub min: f64,
    /// The largest value, as `min`.
    pub max: f64,
    /// Whether all values are finite.
    pub finite: bool,
}

/// From where on the lowest bit of a number is worth one.
trait Whole: Real {
    const UNIT: f64;
    /// The low bits of a number in `UNIT..2 · UNIT`: its distance from `UNIT`.
    fn low_bits(self) -> u32;
}

impl Whole for f32 {
    const UNIT: f64 = 8_388_608.0;
    #[inline(always)]
    fn low_bits(self) -> u32 {
        self.to_bits() & 0x7f_ffff
    }
}

impl Whole for f64 {
    const UNIT: f64 = 4_503_599_627_370_496.0;
    #[inline(always)]
    fn low_bits(self) -> u32 {
        self.to_bits() as u32
    }
}

/// Whether the product with the scale can underflow.
trait Product {
    fn floor<T: Whole>(x: T, scale: T) -> T;
}
/// It cannot: the scale is at least one.
struct Exact;
impl Product for Exact {
    #[inline(always)]
    fn floor<T: Whole>(x: T, scale: T) -> T {
        (x * scale).floor()
    }
}
/// It can: the scale is smaller.
struct Underflowing;
impl Product for Underflowing {
    #[inline(always)]
    fn floor<T: Whole>(x: T, scale: T) -> T {
        let floor = (x * scale).floor();
        // A negative number may have become a zero.
        let limit = if x < T::zero() { -T::one() } else { T::infinity() };
        if floor < limit { floor } else { limit }
    }
}

/// Whether counts are added or taken back.
trait Direction {
    const STEP: u32;
}
struct Forward;
impl Direction for Forward {
    const STEP: u32 = 1;
}
struct Back;
impl Direction for Back {
    const STEP: u32 = u32::MAX;
}

/// Two sub-histograms.
#[derive(Debug)]
pub(crate) struct Halves<'a> {
    even: &'a mut [u32; NARROW_BINS],
    odd: &'a mut [u32; NARROW_BINS],
}

/// The counters of [`Halves`], in one slice. The two lie some cache lines off a multiple of 4096 bytes apart, as a
/// processor takes a load from there for one that waits for the store.
pub(crate) const COUNTERS: usize = 2 * NARROW_BINS + APART;
const APART: usize = 304;

impl<'a> Halves<'a> {
    /// Sub-histograms in the first [`COUNTERS`] of `counts`; `None` if there are fewer.
    pub(crate) fn new(counts: &'a mut [u32]) -> Option<Self> {
        let (even, counts) = counts.split_first_chunk_mut()?;
        let (odd, _) = counts.get_mut(APART..)?.split_first_chunk_mut()?;
        Some(Self { even, odd })
    }

    /// Puts the sum of both from place `from` on into `sum`, and zero in their place.
    pub(crate) fn take(&mut self, from: usize, sum: &mut [u64]) {
        let to = from.saturating_add(sum.len());
        let (Some(even), Some(odd)) = (self.even.get_mut(from..to), self.odd.get_mut(from..to)) else {
            return;
        };
        for ((sum, even), odd) in sum.iter_mut().zip(&*even).zip(&*odd) {
            *sum = u64::from(*even) + u64::from(*odd);
        }
        even.fill(0);
        odd.fill(0);
    }

    #[inline(always)]
    fn change<D: Direction>(&mut self, places: &[u16]) {
        let (pairs, rest) = places.as_chunks::<2>();
        for [i, j] in pairs {
            let even = &mut self.even[usize::from(*i)];
            *even = even.wrapping_add(D::STEP);
            let odd = &mut self.odd[usize::from(*j)];
            *odd = odd.wrapping_add(D::STEP);
        }
        for i in rest {
            let even = &mut self.even[usize::from(*i)];
            *even = even.wrapping_add(D::STEP);
        }
    }
}

dispatch! {
    fn count_real[T: Whole, M: Product, D: Direction](
        x: &[T],
        scale: T,
        offset: T,
        halves: &mut Halves<'_>,
    ) -> Lanes<T, LANES> {
        let mut lanes = Lanes::new();
        let place = |x: &T| (M::floor(*x, scale) + offset).low_bits() as u16;
        let mut places = [[0; BLOCK]; STAGE / BLOCK];
        let (blocks, rest) = x.as_chunks::<BLOCK>();
        let mut before: &[u16] = &[];
        for (x, places) in blocks.iter().zip(&mut places) {
            prefetch(x, AHEAD);
            let (steps, _) = x.as_chunks::<LANES>();
            for (x, places) in steps.iter().zip(places.as_chunks_mut::<LANES>().0) {
                lanes.add_difference(x);
                for (x, to) in x.iter().zip(places) {
                    *to = place(x);
                }
            }
            halves.change::<D>(before);
            before = places;
        }
        halves.change::<D>(before);
        let mut places = [0; BLOCK];
        for (x, places) in rest.chunks(LANES).zip(places.chunks_mut(LANES)) {
            lanes.add_difference(x);
            for (x, to) in x.iter().zip(places) {
                *to = place(x);
            }
        }
        halves.change::<D>(places.get(..rest.len()).unwrap_or_default());
        lanes
    }
}

dispatch! {
    fn find_real[T: Whole, M: Product](
        x: &[T],
        scale: T,
        offset: T,
        places: &mut [u32; STAGE],
    ) -> Lanes<T, LANES> {
        let mut lanes = Lanes::new();
        let (steps, rest) = x.as_chunks::<LANES>();
        let mut place_steps = places.as_chunks_mut::<LANES>().0.iter_mut();
        for (x, places) in steps.iter().zip(&mut place_steps) {
            lanes.add_difference(x);
            for (x, place) in x.iter().zip(places) {
                *place = (M::floor(*x, scale) + offset).low_bits();
            }
        }
        lanes.add_difference(rest);
        for (x, place) in rest.iter().zip(place_steps.next().into_iter().flatten()) {
            *place = (M::floor(*x, scale) + offset).low_bits();
        }
        lanes
    }
}

/// What is done with a stage in the type of its arithmetic.
trait Work {
    fn run<T: Whole, M: Product>(&mut self, x: &[T], scale: T, offset: T) -> Lanes<T, LANES>;
}

struct Count<'a, 'h, D>(&'a mut Halves<'h>, core::marker::PhantomData<D>);
impl<D: Direction> Work for Count<'_, '_, D> {
    fn run<T: Whole, M: Product>(&mut self, x: &[T], scale: T, offset: T) -> Lanes<T, LANES> {
        count_real::<T, M, D>(x, scale, offset, self.0)
    }
}

struct Find<'a>(&'a mut [u32; STAGE]);
impl Work for Find<'_> {
    fn run<T: Whole, M: Product>(&mut self, x: &[T], scale: T, offset: T) -> Lanes<T, LANES> {
        find_real::<T, M>(x, scale, offset, self.0)
    }
}

fn typed<T: Whole>(x: &[T], window: &Window, mut work: impl Work) -> Found {
    let scale = Element::from_f64(window.scale);
    let offset = Element::from_f64(T::UNIT - window.first as f64);
    let lanes = if window.scale >= 1.0 {
        work.run::<T, Exact>(x, scale, offset)
    } else {
        work.run::<T, Underflowing>(x, scale, offset)
    };
    let (min, max, finite) = lanes.finish();
    Found { min: Element::to_f64(min) + 0.0, max: Element::to_f64(max) + 0.0, finite }
}

fn staged<T: Real>(x: &[T], window: &Window, work: impl Work) -> Found {
    let x = &x[..x.len().min(STAGE)];
    match (same::<T, f32>(x), same::<T, f64>(x)) {
        (Some(x), _) if window.suits_f32() => typed(x, window, work),
        (_, Some(x)) => typed(x, window, work),
        _ => {
            let mut wide = [0.0f64; STAGE];
            convert(x, &mut wide);
            typed(&wide[..x.len()], window, work)
        }
    }
}

/// Finds the places in `window` of the first [`STAGE`] values of `x`. Where not all of them are finite and in one of
/// the first [`MAX_BINS`] bins, the places mean nothing.
pub(crate) fn find<T: Real>(x: &[T], window: &Window, places: &mut [u32; STAGE]) -> Found {
    staged(x, window, Find(places))
}

/// Counts the first [`STAGE`] values of `x` in `window`. Where not all of them are finite and in one of the first
/// [`NARROW_BINS`] bins, the counts mean nothing until the same values are taken back.
pub(crate) fn count<T: Real>(x: &[T], window: &Window, halves: &mut Halves<'_>) -> Found {
    staged(x, window, Count::<Forward>(halves, core::marker::PhantomData))
}

/// Takes back what [`count`] has counted of the same values in the same window.
pub(crate) fn take_back<T: Real>(x: &[T], window: &Window, halves: &mut Halves<'_>) {
    staged(x, window, Count::<Back>(halves, core::marker::PhantomData));
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use proptest::prelude::*;

    /// By the definition, without a floating-point operation that could round.
    fn oracle(x: f64, exponent: i32) -> i64 {
        let (bits, negative) = (x.to_bits(), x < 0.0);
        let (biased, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
        let (significand, power) =
            if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
        // |x| = significand · 2^power.
        let shift = power - exponent;
        let (whole, exact) = match shift {
            0.. => (significand << shift.min(10), true),
            -63..=-1 => (significand >> -shift, significand & ((1 << -shift) - 1) == 0),
            _ => (0, significand == 0),
        };
        let whole = whole as i64;
        if !negative { whole } else { -whole - i64::from(!exact) }
    }

    fn check<T: Real>(x: &[T], exponent: i32, first: i64) {
        let window = Window { scale: 2f64.powi(-exponent), first };
        let values: Vec<f64> = x.iter().map(|x| Element::to_f64(*x)).collect();
        let finite = values.iter().all(|x| x.is_finite());
        let fold = |from: f64, least: fn(f64, f64) -> f64| values.iter().copied().fold(from, least) + 0.0;
        let (min, max) = (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max));
        let numbers: Vec<i64> =
            values.iter().map(|x| if x.is_finite() { oracle(*x, exponent) - first } else { -1 }).collect();
        let within = |bins: usize| numbers.iter().all(|n| (0..bins as i64).contains(n));

        let mut places = [0; STAGE];
        let found = agreed(|| {
            let found = find(x, &window, &mut places);
            (found.min.to_bits(), found.max.to_bits(), found.finite, within(MAX_BINS).then_some(places))
        });
        assert_eq!((found.0, found.1, found.2), (min.to_bits(), max.to_bits(), finite));
        if let Some(places) = found.3 {
            assert!(
                places.iter().zip(&numbers).all(|(place, n)| i64::from(*place) == *n),
                "{exponent} {first}"
            );
        }

        let counts = agreed(|| {
            let mut counts = vec![0; COUNTERS];
            let mut halves = Halves::new(&mut counts).unwrap();
            let found = count(x, &window, &mut halves);
            assert_eq!(
                (found.min.to_bits(), found.max.to_bits(), found.finite),
                (min.to_bits(), max.to_bits(), finite)
            );
            if !within(NARROW_BINS) {
                take_back(x, &window, &mut halves);
                assert!(counts.iter().all(|count| *count == 0), "taken back");
                return None;
            }
            let mut sums = vec![7; NARROW_BINS];
            halves.take(0, &mut sums);
            assert!(counts.iter().all(|count| *count == 0), "taken");
            Some(sums)
        });
        if let Some(counts) = counts {
            let mut expected = vec![0; NARROW_BINS];
            numbers.iter().for_each(|n| expected[*n as usize] += 1);
            assert!(counts == expected, "{exponent} {first}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]
        #[test]
        fn places_are_those_of_the_definition(
            exponent in prop_oneof![-30i32..30, -120i32..120, Just(0), Just(1)],
            first in prop_oneof![Just(0i64), -40_000i64..0, Just(-(1i64 << 22)), Just(1i64 << 40), any::<i32>().prop_map(i64::from)],
            picks in prop::collection::vec((0i64..60_000, -2i32..=2, 0.0..1.0f64), 0..STAGE),
            any in prop::collection::vec((any::<prop::sample::Index>(), any::<f32>()), 0..3),
            tiny in any::<bool>(),
        ) {
            let width = 2f64.powi(exponent);
            let mut x: Vec<f64> = picks.iter().map(|(place, nudge, within)| {
                let edge = (first + place) as f64 * width;
                match nudge { -2 => edge.next_down().max(first as f64 * width), -1 | 0 => edge, 1 => edge.next_up(), _ => edge + within * width }
            }).collect();
            if tiny && first <= -1 && let Some(x) = x.first_mut() {
                *x = -f64::from(f32::from_bits(1));
            }
            for (at, value) in any {
                if !x.is_empty() {
                    let at = at.index(x.len());
                    x[at] = value.into();
                }
            }
            check(&x, exponent, first);
            // Below the first bin after rounding counts as outside.
            let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
            check(&x, exponent, first);
        }
    }

    #[test]
    fn negative_numbers_next_to_zero_are_below_zero() {
        for x in [-1e-45f32, -1e-38, -0.0, 0.0, 1e-45] {
            for exponent in [-100, -1, 0, 1, 2, 20, 100] {
                check(&[x; 3], exponent, -4);
                check(&[f64::from(x) * 1e-270; 3], exponent, -4);
            }
        }
    }

    #[test]
    fn few_counters_are_no_halves() {
        assert!(Halves::new(&mut vec![0; COUNTERS - 1]).is_none());
        assert!(Halves::new(&mut []).is_none());
    }
}
