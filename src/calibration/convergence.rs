//! Whether more samples would still move a range.

use core::fmt;

use crate::error::{DataError, Result};
use crate::random::Philox;
use crate::tensor::{ClippingRange, Scheme};

use super::{Calibration, Histogram};

/// How sure a range is, given the number of values that it was found on.
///
/// The Poisson bootstrap (Hanley and MacGibbon 2006): every count c of the histogram is replaced by a Poisson number
/// of mean c, as if as many values had been drawn once more, and the calibration runs again; what its range does over
/// 32 such histograms is what another sample of the same size would do. It falls with the root of the number of values
/// for every rule that has a limit, and stays for those that have none: the minimum and maximum of unbounded values.
/// Random numbers are those of [`Philox`] at (seed, resample, bin), so the figure is a function of histogram and seed.
///
/// Values count as independent. Those of one image or sentence are not: where batches differ, also compare the ranges
/// of two observers that have seen one half of the batches each.
///
/// ```
/// use lowbit::calibration::{Convergence, Histogram, Mse};
/// use lowbit::prelude::*;
///
/// let scheme = Uniform::symmetric(BitWidth::new(4)?).scheme()?;
/// let bell = |n: f64| (0..512).map(|i| (n * (-(f64::from(i) / 64.0 - 4.0).powi(2)).exp()) as u64).collect();
/// let few = Convergence::of(&Histogram::new(-1.0, 1.0, bell(5.0))?, &Mse, &scheme, 7)?;
/// let many = Convergence::of(&Histogram::new(-1.0, 1.0, bell(5e4))?, &Mse, &scheme, 7)?;
/// assert!(many.deviation < few.deviation && many.has_converged(0.02));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Convergence {
    /// The range on the histogram itself.
    pub range: ClippingRange,
    /// How far the ends of the range move from sample to sample: the root mean square of their differences to the
    /// range on the histogram, relative to the larger magnitude of that.
    pub deviation: f64,
    /// What that costs: the root mean square of the relative change of the predicted MSE on the histogram when the
    /// range of another sample is used. Zero where nothing is lost anyway.
    pub loss: f64,
    /// The number of values.
    pub values: u64,
}

/// How many times the histogram is drawn again: the figure itself is then sure to about an eighth.
const RESAMPLES: u64 = 32;

impl Convergence {
    /// How sure the range of `calibration` on `histogram` is, for codes of `scheme`. 32 runs of the calibration.
    ///
    /// # Errors
    ///
    /// As [`Calibration::range`] and [`Histogram::predict`].
    pub fn of(
        histogram: &Histogram,
        calibration: &dyn Calibration,
        scheme: &Scheme,
        seed: u64,
    ) -> Result<Self> {
        let values = histogram.total();
        if values == 0 {
            return Err(DataError::NoData { region: 0 }.into());
        }
        let range = histogram.calibrate(calibration, scheme)?.range;
        let mse = histogram.predict(range, scheme)?.mse;
        let magnitude = range.magnitude();
        let (mut moved, mut lost, mut runs) = (0.0, 0.0, 0.0);
        for resample in 0..RESAMPLES {
            let Some(sample) = resampled(histogram, seed, resample)? else { continue };
            let found = sample.calibrate(calibration, scheme)?.range;
            let ends = [found.low() - range.low(), found.high() - range.high()];
            // Where one end is at zero by its sign or its scheme, the other one alone is the range.
            let free = if range.low() == 0.0 || range.high() == 0.0 { 1.0 } else { 2.0 };
            if magnitude > 0.0 {
                moved += ends.iter().map(|end| (end / magnitude).powi(2)).sum::<f64>() / free;
            }
            if mse > 0.0 {
                lost += (histogram.predict(found, scheme)?.mse / mse - 1.0).powi(2);
            }
            runs += 1.0;
        }
        let mean = |sum: f64| if runs > 0.0 { (sum / runs).sqrt() } else { f64::INFINITY };
        Ok(Self { range, deviation: mean(moved), loss: mean(lost), values })
    }

    /// Whether another sample would move the range by no more than `tolerance` of it (0.02: two percent).
    pub fn has_converged(&self, tolerance: f64) -> bool {
        self.deviation <= tolerance
    }
}

/// `range [-1.2, 1.2] ± 0.8 % on 4096 values: error ± 0.1 %`
impl fmt::Display for Convergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "range {} ± {:.2} % on {} values: error ± {:.2} %",
            self.range,
            100.0 * self.deviation,
            self.values,
            100.0 * self.loss
        )
    }
}

/// The histogram with a Poisson number in place of each count; `None` if nothing is left.
fn resampled(histogram: &Histogram, seed: u64, resample: u64) -> Result<Option<Histogram>> {
    let bins = histogram.counts().len();
    let random = Philox::new(seed);
    let draw = |(bin, &count): (usize, &u64)| {
        poisson(count, random.block(resample.wrapping_mul(bins as u64).wrapping_add(bin as u64)))
    };
    let counts: Vec<u64> = histogram.counts().iter().enumerate().map(draw).collect();
    let filled = |counts: &[u64]| {
        let filled = |count: &u64| *count > 0;
        counts.iter().position(filled).zip(counts.iter().rposition(filled))
    };
    let (Some((first, last)), Some(all)) = (filled(&counts), filled(histogram.counts())) else {
        return Ok(None);
    };
    // The extreme values are in the outer bins: gone with them.
    let min = if first == all.0 { histogram.min() } else { histogram.edge(first) };
    let max = if last == all.1 { histogram.max() } else { histogram.edge(last + 1) };
    let sample = Histogram::new(histogram.low(), histogram.high(), counts)?;
    Ok(Some(sample.with_extremes(min, max.min(histogram.high()))?))
}

/// A Poisson number of mean `mean`: by inversion for small means, else the nearest integer to a normal number.
fn poisson(mean: u64, [a, b, c, d]: [u32; 4]) -> u64 {
    const SMALL: u64 = 32;
    if mean == 0 {
        return 0;
    }
    let uniform = |high: u32, low: u32| {
        ((u64::from(high) << 32 | u64::from(low)) >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    };
    let (u, v) = (uniform(a, b), uniform(c, d));
    let rate = mean as f64;
    if mean < SMALL {
        let (mut k, mut term) = (0, (-rate).exp());
        let mut below = term;
        // The chance of more than 200 is below 1e-80.
        while u >= below && k < 200 {
            k += 1;
            term *= rate / k as f64;
            below += term;
        }
        return k;
    }
    // Box and Muller 1958.
    let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (2.0 * core::f64::consts::PI * v).cos();
    (rate + rate.sqrt() * normal).round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::BitWidth;
    use crate::calibration::{Aciq, Mse, Percentile, StandardDeviations};
    use crate::quantizer::{Quantizer, Uniform};
    use crate::solve::samples::SplitMix64;

    #[test]
    fn poisson_numbers_have_their_mean_and_variance() {
        let random = Philox::new(3);
        for mean in [1u64, 5, 31, 32, 1000] {
            let n = 20_000;
            let numbers: Vec<f64> = (0..n).map(|i| poisson(mean, random.block(i)) as f64).collect();
            let average = numbers.iter().sum::<f64>() / n as f64;
            let variance = numbers.iter().map(|x| (x - average).powi(2)).sum::<f64>() / n as f64;
            let rate = mean as f64;
            // Five standard errors of each.
            assert!((average - rate).abs() < 5.0 * (rate / n as f64).sqrt(), "{mean}: {average}");
            let error = ((2.0 * rate * rate + rate) / n as f64).sqrt();
            assert!((variance - rate).abs() < 5.0 * error, "{mean}: {variance}");
        }
    }

    fn normal_histogram(n: usize) -> Histogram {
        let mut random = SplitMix64(8);
        let mut counts = vec![0; 2048];
        for _ in 0..n {
            counts[((random.normal() + 6.0) / 12.0 * 2048.0) as usize] += 1;
        }
        Histogram::new(-6.0, 6.0, counts).unwrap()
    }

    #[test]
    fn the_figure_falls_with_the_root_of_the_number_of_values() {
        let scheme = Uniform::symmetric(BitWidth::new(4).unwrap()).scheme().unwrap();
        let rules: [&dyn Calibration; 4] =
            [&StandardDeviations::new(3.0).unwrap(), &Aciq::default(), &Percentile::new(99.0).unwrap(), &Mse];
        for rule in rules {
            let at = |n| Convergence::of(&normal_histogram(n), rule, &scheme, 1).unwrap();
            let (few, many) = (at(500), at(200_000));
            // 400 times the values: a twentieth. 32 resamples know either to an eighth, and the neighbourhood of one
            // quantile of 500 values to a third.
            let ratio = few.deviation / many.deviation;
            assert!((10.0..40.0).contains(&ratio), "{rule}: {few} {many}");
            assert!(many.has_converged(0.02) && !few.has_converged(0.01), "{rule}: {few} {many}");
            assert_eq!(at(500), few);
        }
    }

    #[test]
    fn the_figure_is_what_other_samples_do() {
        // σ of n normal values has a relative standard deviation of 1/√(2n); the mean's adds √(2/π) of 1/√n once more.
        let scheme = Uniform::asymmetric_real(BitWidth::EIGHT).scheme().unwrap();
        let found =
            Convergence::of(&normal_histogram(10_000), &StandardDeviations::new(1.0).unwrap(), &scheme, 2);
        // Both ends: variance of μ and of σ, (1 + 1/2) / n.
        let expected = (1.5f64 / 10_000.0).sqrt();
        assert!((found.unwrap().deviation / expected - 1.0).abs() < 0.4);
    }
}
