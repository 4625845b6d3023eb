//! Counts and means of fine equal bins: the statistic from which one-dimensional clusterings of many values are
//! found.
//!
//! A position in the bins is a fixed-point number of 23 bits, the mantissa of an f32: the bin, and the place within
//! it. Count and sum of the places share one word, so that a value costs one addition, and the sums are integers:
//! their order makes no difference.

use super::dispatch;
use crate::element::{Element, Real};

/// Bits of a position.
const POSITION: u32 = 23;

/// Where in a word the count begins. The sum below it holds the places of [`MOST`] values in the widest bins.
const COUNT: u32 = 36;

/// Values before the words are emptied.
const MOST: usize = 1 << 26;

/// Elements whose positions are found before they are counted, so that finding them vectorizes.
const STAGE: usize = 512;

/// How many bins there are. Fewer fit into a nearer cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fineness {
    /// 2^14 bins.
    Medium,
    /// 2^16 bins.
    Fine,
}

impl Fineness {
    const fn bits(self) -> u32 {
        match self {
            Self::Medium => 14,
            Self::Fine => 16,
        }
    }

    /// The number of bins.
    pub(crate) const fn bins(self) -> usize {
        1 << self.bits()
    }
}

dispatch! {
    /// The positions of `x` in bins that begin at `low`.
    fn find[T: Real](x: &[T], low: T, density: T, found: &mut [u32; STAGE]) {
        // Beyond this number the floats are the integers, and their last bits count them.
        let unit = (1_u32 << POSITION) as f32;
        let last = unit - 1.0;
        for (x, found) in x.iter().zip(found) {
            let v = Element::to_f32((*x - low) * density);
            // A NaN becomes 0.
            let v = if v > 0.0 { v } else { 0.0 };
            let v = if v < last { v } else { last };
            *found = (v + unit).to_bits() - unit.to_bits();
        }
    }
}

/// One bin: how many values it holds, and the sum of their distances from its lower edge, in bins.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Bin {
    pub(crate) count: u64,
    pub(crate) offset: f64,
}

/// The bins of `x` over `[low, high]`; values outside count as the nearest end, NaN as the lower. `None` where the
/// arithmetic of T cannot divide the interval.
///
/// Time about a nanosecond for each value; memory 24 bytes for each bin.
pub(crate) fn fine_bins<T: Real>(x: &[T], low: T, high: T, fineness: Fineness) -> Option<Vec<Bin>> {
    let density = <T as Element>::from_f64(f64::from(1_u32 << POSITION)) / (high - low);
    if !(high > low && density.is_normal() && (high - low).is_normal()) {
        return None;
    }
    let mut bins = vec![Bin::default(); fineness.bins()];
    let place = POSITION - fineness.bits();
    let mask = (1_u32 << place) - 1;
    // As many words as a u16 can index; the unused ones stay untouched.
    let mut words = vec![0_u64; 1 << 16];
    let mut found = [0; STAGE];
    for part in x.chunks(MOST) {
        let words: &mut [u64; 1 << 16] = words.as_mut_slice().try_into().ok()?;
        for x in part.chunks(STAGE) {
            find::<T>(x, low, density, &mut found);
            for &position in &found[..x.len()] {
                // Positions have 23 bits, so that the bin has 16 at most.
                let bin = (position >> place) as u16;
                words[usize::from(bin)] += (1 << COUNT) + u64::from(position & mask);
            }
        }
        for (bin, word) in bins.iter_mut().zip(words) {
            bin.count += *word >> COUNT;
            bin.offset += (*word & ((1 << COUNT) - 1)) as f64 / f64::from(mask + 1);
            *word = 0;
        }
    }
    Some(bins)
}

#[cfg(test)]
mod tests {
    use super::super::forced::agreed;
    use super::*;
    use crate::random::Philox;
    use rand::Rng;

    #[test]
    fn counts_and_means_are_those_of_the_values() {
        // Every position once or twice, in no order, all of them exact.
        let x: Vec<f64> = (0_u64..100_000)
            .map(|i| {
                ((i * i * 7919 + i * 104_729) % (1 << POSITION)) as f64 / f64::from(1 << POSITION) * 8.0 - 3.0
            })
            .collect();
        let narrow: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        for fineness in [Fineness::Medium, Fineness::Fine] {
            let mut expected = vec![Bin::default(); fineness.bins()];
            for x in &x {
                let place = (x + 3.0) / 8.0 * fineness.bins() as f64;
                expected[place as usize].count += 1;
                expected[place as usize].offset += place.fract();
            }
            assert_eq!(agreed(|| fine_bins(&x, -3.0, 5.0, fineness).unwrap()), expected);
            assert_eq!(agreed(|| fine_bins(&narrow, -3.0, 5.0, fineness).unwrap()), expected);
        }
    }

    #[test]
    fn any_values_keep_their_mean() {
        let mut random = Philox::new(5);
        let mut uniform = || f64::from(random.next_u32()) / 4_294_967_296.0;
        let x: Vec<f32> = (0..50_000).map(|_| (uniform() - uniform() + uniform()) as f32).collect();
        let low = x.iter().copied().fold(0.0, f32::min);
        let high = x.iter().copied().fold(0.0, f32::max);
        let bins = agreed(|| fine_bins(&x, low, high, Fineness::Fine).unwrap());
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), 50_000);
        assert!(bins.iter().all(|bin| (0.0..=bin.count as f64).contains(&bin.offset)));
        let width = f64::from(high - low) / Fineness::Fine.bins() as f64;
        let places = bins.iter().enumerate().map(|(i, bin)| bin.count as f64 * i as f64 + bin.offset);
        let mean = f64::from(low) + width * places.sum::<f64>() / 50_000.0;
        let expected = x.iter().map(|x| f64::from(*x)).sum::<f64>() / 50_000.0;
        // A position is rounded to half a unit of 2^-23 at most.
        assert!((mean - expected).abs() <= f64::from(high - low) * 2.0_f64.powi(-23), "{mean} {expected}");
    }

    #[test]
    fn intervals_that_cannot_be_divided() {
        assert_eq!(fine_bins(&[1.0_f32], 1.0, 1.0, Fineness::Fine), None);
        assert_eq!(fine_bins(&[1.0_f32], f32::MIN, f32::MAX, Fineness::Fine), None);
        assert_eq!(fine_bins(&[0.0_f32, 1e-42], 0.0, 1e-42, Fineness::Fine), None);
        assert_eq!(fine_bins(&[0.0_f64, f64::NAN], f64::NAN, 1.0, Fineness::Fine), None);
        let bins =
            fine_bins(&[f32::NAN, f32::INFINITY, -f32::INFINITY, 0.5], 0.0, 1.0, Fineness::Medium).unwrap();
        let counts = [bins[0].count, bins[8192].count, bins[16383].count];
        assert_eq!(counts, [2, 1, 1]);
    }
}
