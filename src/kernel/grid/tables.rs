//! Counting many values in a window.
//!
//! Values count in two tables in turn, so that equal neighbours do not wait for each other's stores. Counters have 16
//! bits, so that both tables stay in the first-level cache, and are emptied before one can overflow.

use super::super::dispatch;
use super::{Found, STAGE, Window, find};
use crate::element::Real;

/// The bins whose places fit two bytes.
pub(crate) const NARROW_BINS: usize = 1 << 16;

/// The most values between two times that tables are emptied: as many as a counter holds.
pub(crate) const MOST: usize = u16::MAX as usize;

/// Values that are best counted in one call: they stay in the second-level cache if they must be counted again.
pub(crate) const LONG: usize = 1 << 14;

/// Counters between the two tables: some cache lines, as a processor takes a load from a multiple of 4096 bytes behind a
/// store for one that waits for it.
const APART: usize = 96;

/// Two tables of the counts of some bins.
#[derive(Debug)]
pub(crate) struct Tables<'a> {
    /// As long as the other, and that is a power of two.
    even: &'a mut [u16],
    odd: &'a mut [u16],
}

impl<'a> Tables<'a> {
    /// How many counters the tables for a window of so many bins take, at most [`NARROW_BINS`].
    pub(crate) const fn counters(bins: usize) -> usize {
        2 * bins.next_power_of_two() + APART
    }

    /// Tables for `bins` bins in `counters`; `None` if there are fewer than [`counters`](Self::counters) says.
    pub(crate) fn new(counters: &'a mut [u16], bins: usize) -> Option<Self> {
        let len = bins.checked_next_power_of_two().filter(|len| *len <= NARROW_BINS)?;
        let (even, rest) = counters.split_at_mut_checked(len)?;
        let odd = rest.get_mut(APART..)?.get_mut(..len)?;
        Some(Self { even, odd })
    }

    /// Counts at most [`MOST`] values in `window`. Where not all of them are finite and in one of the bins, the counts mean
    /// nothing until the same values are taken back.
    pub(crate) fn count<T: Real>(&mut self, x: &[T], window: &Window) -> Found {
        self.change(x, window, 1)
    }

    /// Takes back what [`count`](Self::count) has counted of the same values in the same window.
    pub(crate) fn take_back<T: Real>(&mut self, x: &[T], window: &Window) {
        self.change(x, window, u16::MAX);
    }

    /// Adds the counts from place `from` on to `sum`, and leaves zeros.
    pub(crate) fn empty(&mut self, from: usize, sum: &mut [u32]) {
        let to = from.saturating_add(sum.len());
        if let (Some(even), Some(odd)) = (self.even.get_mut(from..to), self.odd.get_mut(from..to)) {
            add(even, odd, sum);
            even.fill(0);
            odd.fill(0);
        }
    }

    fn change<T: Real>(&mut self, x: &[T], window: &Window, step: u16) -> Found {
        let mut found = Found::NONE;
        #[cfg(target_arch = "x86_64")]
        let x = match super::vectors::change(x, window, [&mut *self.even, &mut *self.odd], step) {
            Some((of_blocks, rest)) => {
                found = of_blocks;
                rest
            }
            None => x,
        };
        let mut places = [0; STAGE];
        let last = self.even.len().saturating_sub(1);
        for x in x.chunks(STAGE) {
            found = found.and(find(x, window, &mut places));
            for pair in places[..x.len()].chunks(2) {
                for (place, table) in pair.iter().zip([&mut *self.even, &mut *self.odd]) {
                    if let Some(count) = table.get_mut(*place as usize & last) {
                        *count = count.wrapping_add(step);
                    }
                }
            }
        }
        found
    }
}

dispatch! {
    fn add[](even: &[u16], odd: &[u16], sum: &mut [u32]) {
        for ((sum, even), odd) in sum.iter_mut().zip(even).zip(odd) {
            *sum += u32::from(*even) + u32::from(*odd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::forced::agreed;
    use super::super::tests::{extremes, oracle, values_about};
    use super::*;
    use crate::element::Element;
    use proptest::prelude::*;

    /// Counts that are those of the definition; values that are outside are taken back.
    fn check<T: Real>(x: &[T], exponent: i32, first: i64, bins: usize) {
        let window = Window { scale: 2f64.powi(-exponent), first };
        let values: Vec<f64> = x.iter().map(|x| Element::to_f64(*x)).collect();
        let (min, max, finite) = extremes(&values);
        let place = |x: &f64| if x.is_finite() { oracle(*x, exponent) - first } else { -1 };
        let places: Vec<i64> = values.iter().map(place).collect();
        let within = places.iter().all(|place| (0..bins as i64).contains(place));
        let sums = agreed(|| {
            let mut counters = vec![0; Tables::counters(bins)];
            let mut tables = Tables::new(&mut counters, bins).unwrap();
            let found = tables.count(x, &window);
            assert_eq!((found.min.to_bits(), found.max.to_bits(), found.finite), (min, max, finite));
            let mut sums = vec![7; bins];
            if within {
                tables.empty(0, &mut sums);
            } else {
                tables.take_back(x, &window);
            }
            assert!(counters.iter().all(|count| *count == 0), "taken");
            sums
        });
        let mut expected = vec![7; bins];
        if within {
            places.iter().for_each(|place| expected[*place as usize] += 1);
        }
        assert!(sums == expected, "{exponent} {first} {bins}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]
        #[test]
        fn counts_are_those_of_the_definition(
            (exponent, first, x) in values_about(60_000, 4 * STAGE),
            bins in prop_oneof![Just(NARROW_BINS), Just(60_000usize)],
        ) {
            check(&x, exponent, first, bins);
            // Below the first bin after rounding counts as outside.
            let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
            check(&x, exponent, first, bins);
        }

        #[test]
        fn few_bins_hold_their_values(
            (exponent, first, x) in values_about(90, 3 * STAGE),
            bins in prop_oneof![Just(128usize), Just(100usize), Just(80usize)],
        ) {
            check(&x, exponent, first, bins);
            let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
            check(&x, exponent, first, bins);
        }
    }

    #[test]
    fn negative_numbers_next_to_zero_are_below_zero() {
        for x in [-1e-45f32, -1e-38, -0.0, 0.0, 1e-45] {
            for exponent in [-100, -1, 0, 1, 2, 20, 100] {
                check(&[x; 300], exponent, -4, 16);
                check(&[f64::from(x) * 1e-270; 3], exponent, -4, 16);
            }
        }
    }

    #[test]
    fn equal_values_fill_the_counters() {
        let x = [1.5f32; MOST];
        for len in [1, 63, 64, 65, 127, 128, 129, 191, LONG, LONG + 1, MOST] {
            check(&x[..len], 0, -3, 8);
            check(&x[..len], 0, 3, 8);
        }
        let mut counters = vec![0; Tables::counters(4)];
        let mut sums = [0; 4];
        for _ in 0..3 {
            let mut tables = Tables::new(&mut counters, 4).unwrap();
            x.chunks(LONG).for_each(|x| assert!(tables.count(x, &Window { scale: 1.0, first: 0 }).finite));
            tables.empty(1, &mut sums[1..]);
        }
        assert_eq!(sums, [0, 3 * MOST as u32, 0, 0]);
    }

    #[test]
    fn few_counters_are_no_tables() {
        assert!(Tables::new(&mut vec![0; Tables::counters(100) - 1], 100).is_none());
        assert!(Tables::new(&mut [], 1).is_none());
        assert!(Tables::new(&mut vec![0; 4 * NARROW_BINS], NARROW_BINS + 1).is_none());
        assert!(Tables::new(&mut [], usize::MAX).is_none());
        let mut counters = vec![0; Tables::counters(4)];
        let mut tables = Tables::new(&mut counters, 4).unwrap();
        // Beyond the bins there is nothing.
        tables.empty(3, &mut [0; 2]);
        assert_eq!(tables.count::<f32>(&[], &Window { scale: 1.0, first: 0 }), Found::NONE);
    }
}
