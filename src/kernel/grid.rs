//! Counting on a grid of bins whose width is a power of two: the bin of `x` is `⌊x · 2^-e⌋`, exactly.
//!
//! The product with a power of two is exact but where it underflows, and so is the sum of two whole numbers of a
//! floating-point type where it is small, so f32 needs no wider type. The extremes are found in the same pass; they
//! tell whether all values of a stage lie within the window of bins at hand. If not, the stage is still in a near cache
//! when the caller has made a wider window: memory is read once.

mod tables;
#[cfg(target_arch = "x86_64")]
mod vectors;

use super::convert::{convert, same};
use super::dispatch;
use super::reduce::Lanes;
use crate::element::{Element, Real};

pub(crate) use tables::{LONG, MOST, NARROW_BINS, Tables};

/// Values that are looked at together.
pub(crate) const STAGE: usize = 1024;

/// The most bins of a window: whole numbers of f32 have 24 bits.
pub(crate) const MAX_BINS: usize = 1 << 22;

/// Lanes of a stage: a whole number of vectors at every level.
const LANES: usize = 16;

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

impl Found {
    /// What is found of no values.
    const NONE: Self = Self { min: f64::INFINITY, max: f64::NEG_INFINITY, finite: true };

    /// What is found of the values of both.
    fn and(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            finite: self.finite && other.finite,
        }
    }
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

fn typed<T: Whole>(x: &[T], window: &Window, places: &mut [u32; STAGE]) -> Found {
    let scale = Element::from_f64(window.scale);
    let offset = Element::from_f64(T::UNIT - window.first as f64);
    let lanes = if window.scale >= 1.0 {
        find_real::<T, Exact>(x, scale, offset, places)
    } else {
        find_real::<T, Underflowing>(x, scale, offset, places)
    };
    let (min, max, finite) = lanes.finish();
    Found { min: Element::to_f64(min) + 0.0, max: Element::to_f64(max) + 0.0, finite }
}

/// Finds the places in `window` of the first [`STAGE`] values of `x`. Where not all of them are finite and in one of
/// the first [`MAX_BINS`] bins, the places mean nothing.
pub(crate) fn find<T: Real>(x: &[T], window: &Window, places: &mut [u32; STAGE]) -> Found {
    let x = &x[..x.len().min(STAGE)];
    match (same::<T, f32>(x), same::<T, f64>(x)) {
        (Some(x), _) if window.suits_f32() => typed(x, window, places),
        (_, Some(x)) => typed(x, window, places),
        _ => {
            let mut wide = [0.0f64; STAGE];
            convert(x, &mut wide);
            typed(&wide[..x.len()], window, places)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use proptest::prelude::*;

    /// By the definition, without a floating-point operation that could round.
    pub(super) fn oracle(x: f64, exponent: i32) -> i64 {
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

    /// The bits of the extremes, without a negative zero, and whether all are finite.
    pub(super) fn extremes(x: &[f64]) -> (u64, u64, bool) {
        let fold =
            |from: f64, least: fn(f64, f64) -> f64| (x.iter().copied().fold(from, least) + 0.0).to_bits();
        let finite = x.iter().all(|x| x.is_finite());
        (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max), finite)
    }

    prop_compose! {
        /// The exponent of a width, the number of a first bin, and fewer than `most` values in so many bins from it on, on
        /// edges and beside them; a few are any.
        pub(super) fn values_about(bins: i64, most: usize)(
            exponent in prop_oneof![-30i32..30, -120i32..120, Just(0), Just(1)],
            first in prop_oneof![Just(0i64), -40_000i64..0, Just(-(1i64 << 22)), Just(1i64 << 40), any::<i32>().prop_map(i64::from)],
            picks in prop::collection::vec((0..bins, -2i32..=2, 0.0..1.0f64), 0..most),
            any in prop::collection::vec((any::<prop::sample::Index>(), any::<f32>()), 0..3),
            tiny in any::<bool>(),
        ) -> (i32, i64, Vec<f64>) {
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
            (exponent, first, x)
        }
    }

    fn check<T: Real>(x: &[T], exponent: i32, first: i64) {
        let window = Window { scale: 2f64.powi(-exponent), first };
        let values: Vec<f64> = x.iter().map(|x| Element::to_f64(*x)).collect();
        let numbers: Vec<i64> =
            values.iter().map(|x| if x.is_finite() { oracle(*x, exponent) - first } else { -1 }).collect();
        let within = |bins: usize| numbers.iter().all(|n| (0..bins as i64).contains(n));

        let mut places = [0; STAGE];
        let found = agreed(|| {
            let found = find(x, &window, &mut places);
            (found.min.to_bits(), found.max.to_bits(), found.finite, within(MAX_BINS).then_some(places))
        });
        assert_eq!((found.0, found.1, found.2), extremes(&values));
        if let Some(places) = found.3 {
            assert!(
                places.iter().zip(&numbers).all(|(place, n)| i64::from(*place) == *n),
                "{exponent} {first}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]
        #[test]
        fn places_are_those_of_the_definition((exponent, first, x) in values_about(60_000, STAGE)) {
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
}
