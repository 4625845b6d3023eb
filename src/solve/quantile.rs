//! Exact order statistics: percentiles of values and of histograms.
//!
//! Two rules are in use. The nearest rank takes the k-th smallest of n values,
//!
//! ```text
//! k = max(1, ceil(p/100 * n)),
//! ```
//!
//! and the linear rule (Hyndman and Fan 1996, *Sample Quantiles in Statistical Packages*, definition 7) reads
//! the sorted values, counted from 0, at the position `p/100 * (n - 1)`. In floating point both land one off
//! now and then: 99.9 / 100 is not 0.999. A percentile is a number that people write in decimal, so it is
//! held here as the fraction it was written as, and ranks are found with integers.

mod select;

use crate::element::{Element, Real};

/// Decimals of a percentile that are kept. With 16 of them `2 * num * n` fits in 128 bits for any length n,
/// and no length in memory is long enough for a seventeenth to move a rank by more than one.
const MAX_DECIMALS: usize = 16;

/// A percentile as an exact fraction of one: 99.9 is 999/1000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Percent {
    num: u128,
    den: u128,
    /// `num / den` as NumPy rounds it: the percentile divided by 100.
    ratio: f64,
}

impl Percent {
    /// The percentile whose shortest decimal text is that of `percent`; `None` outside 0 to 100.
    pub(crate) fn new(percent: f64) -> Option<Self> {
        // NaN fails the comparison too.
        if !(0.0..=100.0).contains(&percent) {
            return None;
        }
        // `Display` of f64 never uses an exponent and writes the fewest digits that read back the same.
        let text = percent.abs().to_string();
        let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
        let mut num = whole.parse::<u128>().ok()?;
        let mut den = 100_u128;
        for digit in decimals.bytes().take(MAX_DECIMALS) {
            num = num * 10 + u128::from(digit.wrapping_sub(b'0'));
            den *= 10;
        }
        Some(Self::reduced(num, den, percent.abs() / 100.0))
    }

    /// The percentile of each of two ends that together cut off as much as this one does.
    pub(crate) fn each_of_two_tails(self) -> Self {
        Self::reduced(self.den + self.num, 2 * self.den, (1.0 + self.ratio) / 2.0)
    }

    /// The percentile of the other end: 0.1 for 99.9.
    pub(crate) fn complement(self) -> Self {
        Self::reduced(self.den - self.num, self.den, 1.0 - self.ratio)
    }

    fn reduced(num: u128, den: u128, ratio: f64) -> Self {
        let divisor = greatest_common_divisor(num, den);
        Self { num: num / divisor, den: den / divisor, ratio }
    }

    /// The nearest rank among `n` values, counted from 1: the first k >= 1 with `den * k >= num * n`.
    /// Zero for no values.
    pub(crate) fn rank(self, n: usize) -> usize {
        let rank = (self.num * n as u128).div_ceil(self.den);
        // num <= den, so the rank is at most n.
        usize::try_from(rank).unwrap_or(n).max(1).min(n)
    }

    /// The linear rule's place among `n` sorted values: an index counted from 0, exact, and how far it is
    /// from there to the next one. The latter carries the rounding of NumPy's product, to agree with it to
    /// the last digits also where neighbouring values are far apart.
    fn place(self, n: usize) -> (usize, f64) {
        let steps = n.saturating_sub(1);
        let position = self.num * steps as u128;
        let index = usize::try_from(position / self.den).unwrap_or(usize::MAX);
        if position.is_multiple_of(self.den) {
            return (index, 0.0);
        }
        (index, (self.ratio * steps as f64 - index as f64).clamp(0.0, 1.0))
    }
}

/// Euclid's algorithm; `b` is not zero.
fn greatest_common_divisor(a: u128, b: u128) -> u128 {
    if a == 0 { b } else { greatest_common_divisor(b % a, a) }
}

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// The values.
    Values,
    /// Their magnitudes.
    Magnitudes,
}

/// The value of the nearest rank; `None` for no values. `values` hold no NaN, and `buffer` is working memory.
///
/// Time O(n).
pub(crate) fn nearest_rank<T: Real>(
    values: &[T],
    of: Of,
    percent: Percent,
    buffer: &mut Vec<T>,
) -> Option<T> {
    let index = percent.rank(values.len()).checked_sub(1)?;
    Some(select::at(values, of, index, false, buffer)?.0)
}

/// The mirror image of [`nearest_rank`] for a low tail: the k-th largest value with the k of `percent`, so
/// that the 99.9th percentiles of both tails cut off equally many values.
pub(crate) fn nearest_rank_low<T: Real>(
    values: &[T],
    of: Of,
    percent: Percent,
    buffer: &mut Vec<T>,
) -> Option<T> {
    let index = values.len().checked_sub(percent.rank(values.len()))?;
    Some(select::at(values, of, index, false, buffer)?.0)
}

/// [`nearest_rank_low`] and [`nearest_rank`] of the same percentile of the values, at about the cost of one.
pub(crate) fn nearest_ranks<T: Real>(values: &[T], percent: Percent, buffer: &mut Vec<T>) -> Option<[T; 2]> {
    let rank = percent.rank(values.len());
    let (low, high) = (values.len().checked_sub(rank)?, rank.checked_sub(1)?);
    select::two(values, [low, high], buffer)
}

/// The percentile by the linear rule, NumPy's default. `None` for no values; `buffer` is working memory.
///
/// The neighbours are found with integers; one interpolation in f64 follows. Time O(n).
pub(crate) fn linear<T: Real>(values: &[T], of: Of, percent: Percent, buffer: &mut Vec<T>) -> Option<f64> {
    let (index, fraction) = percent.place(values.len());
    let index = index.min(values.len().checked_sub(1)?);
    let (low, high) = select::at(values, of, index, fraction != 0.0, buffer)?;
    let low = Element::to_f64(low);
    Some(high.map_or(low, |high| interpolate(low, Element::to_f64(high), fraction)))
}

/// The value at `fraction` of the way from `low` to `high`, exact at both ends.
fn interpolate(low: f64, high: f64, fraction: f64) -> f64 {
    // Halves of the largest floats differ by a finite number where they themselves do not.
    let half = high * 0.5 - low * 0.5;
    if fraction < 0.5 { low + half * (2.0 * fraction) } else { high - half * (2.0 * (1.0 - fraction)) }
}

/// The bin of a histogram in which the nearest rank is reached, counted from 0: the percentile is at least
/// this bin's lower edge. `None` for an empty histogram.
pub(crate) fn histogram_bin(counts: &[u64], percent: Percent) -> Option<usize> {
    let total: u128 = counts.iter().map(|&count| u128::from(count)).sum();
    if total == 0 {
        return None;
    }
    let rank = percent.rank(usize::try_from(total).unwrap_or(usize::MAX)) as u128;
    let mut seen = 0;
    counts.iter().position(|&count| {
        seen += u128::from(count);
        seen >= rank
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::solve::samples;

    fn percent(p: f64) -> Percent {
        Percent::new(p).unwrap()
    }

    #[test]
    fn a_percentile_is_the_fraction_it_was_written_as() {
        let fraction = |p| (percent(p).num, percent(p).den);
        assert_eq!(fraction(99.9), (999, 1000));
        assert_eq!(fraction(0.0), (0, 1));
        assert_eq!(percent(-0.0), percent(0.0));
        assert_eq!(fraction(100.0), (1, 1));
        assert_eq!(percent(1e-300).rank(usize::MAX), 1);
        assert_eq!(percent(99.9).rank(1000), 999);
        assert_eq!(percent(99.999).rank(0), 0);
        for bad in [-0.1, 100.000001, f64::NAN, f64::INFINITY] {
            assert_eq!(Percent::new(bad), None);
        }
    }

    #[test]
    fn no_values_have_no_percentile() {
        let (none, buffer): (&[f32], _) = (&[], &mut Vec::new());
        assert_eq!(nearest_rank(none, Of::Values, percent(50.0), buffer), None);
        assert_eq!(nearest_rank_low(none, Of::Values, percent(50.0), buffer), None);
        assert_eq!(nearest_ranks(none, percent(50.0), buffer), None);
        assert_eq!(linear(none, Of::Magnitudes, percent(50.0), buffer), None);
        assert_eq!(histogram_bin(&[0, 0], percent(50.0)), None);
    }

    /// lowbit reference values 06_07, `percentile_of_abs`: p, nearest rank, linear, histogram edge.
    const A: [(f64, f64, f64, f64); 5] = [
        (90.0, 2.302485097993712, 2.3025050979937784, 2.2935906199754443),
        (99.0, 4.604170685655012, 4.604190685661682, 4.6040458768624735),
        (99.9, 6.897804948129013, 6.8978249487957966, 6.897636496837918),
        (99.99, 27.34509057651409, 27.345150777721205, 27.33757643367791),
        (99.999, 34.53877639492434, 32.89089092027246, 34.521911758012756),
    ];
    const B: [(f64, f64, f64, f64); 5] = [
        (90.0, 1.649200393949135, 1.6489109508800763, 1.6491564500716693),
        (99.0, 2.535647549130252, 2.535349768176921, 2.533385014790947),
        (99.9, 3.2932564601848, 3.252259481767256, 3.291295213121757),
        (99.99, 6.305181946838083, 6.0694139830266085, 6.301882945380251),
        (99.999, 14.372223020199058, 12.143403923028636, 14.365205333177476),
    ];
    const C: [(f64, f64, f64, f64); 5] = [
        (90.0, 1.7320026978527985, 1.7320123203573268, 1.727913661625118),
        (99.0, 3.153546088939636, 3.153562019967994, 3.151922910401597),
        (99.9, 5.6080250100620095, 5.608053149552834, 5.600524179639201),
        (99.99, 9.764272360809873, 9.764322600567295, 9.75967314405343),
        (99.999, 17.782749643257496, 15.647367633567251, 17.77406666003325),
    ];

    #[test]
    fn percentiles_of_the_reference_data() {
        for (data, expected) in [(samples::a(), A), (samples::b(), B), (samples::c(), C)] {
            let (values, mut buffer): (Vec<f64>, _) = (data.iter().map(|x| x.abs()).collect(), Vec::new());
            let (counts, width) = samples::histogram(&values, 2048);
            for (p, nearest, interpolated, edge) in expected {
                let p = percent(p);
                let found = nearest_rank(&data, Of::Magnitudes, p, &mut buffer).unwrap();
                assert!((found - nearest).abs() <= 1e-12 * nearest, "{found} {nearest}");
                let found = linear(&values, Of::Values, p, &mut buffer).unwrap();
                assert!((found - interpolated).abs() <= 1e-12 * interpolated, "{found} {interpolated}");
                let found = histogram_bin(&counts, p).unwrap() as f64 * width;
                assert!((found - edge).abs() <= 1e-12 * edge, "{found} {edge}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_rank_is_the_first_that_covers_the_fraction(num in 0_u128..=10_000, n in 1_usize..100_000) {
            let found = percent(num as f64 / 100.0).rank(n) as u128;
            prop_assert!(10_000 * found >= num * n as u128 && found >= 1);
            prop_assert!(found == 1 || 10_000 * (found - 1) < num * n as u128);
        }

        #[test]
        fn both_rules_agree_with_sorted_values(
            values in proptest::collection::vec(-1e3_f32..1e3, 1..40),
            p in 0.0_f64..=100.0,
        ) {
            let mut sorted = values.clone();
            sorted.sort_by(f32::total_cmp);
            let (rank, of, buffer) = (percent(p).rank(values.len()), Of::Values, &mut Vec::new());
            prop_assert_eq!(nearest_rank(&values, of, percent(p), buffer), Some(sorted[rank - 1]));
            prop_assert_eq!(nearest_rank_low(&values, of, percent(p), buffer), Some(sorted[sorted.len() - rank]));
            let both = [sorted[sorted.len() - rank], sorted[rank - 1]];
            prop_assert_eq!(nearest_ranks(&values, percent(p), buffer), Some(both));
            let position = p / 100.0 * (sorted.len() - 1) as f64;
            let low = f64::from(sorted[position.floor() as usize]);
            let high = f64::from(sorted[position.ceil() as usize]);
            let expected = low + (high - low) * position.fract();
            prop_assert!((linear(&values, of, percent(p), buffer).unwrap() - expected).abs() < 1e-9);
        }
    }
}
