//! Analytic clipping values for Gaussian and Laplace densities.
//!
//! Banner, Nahshan and Soudry 2019, *Post training 4-bit quantization of convolutional networks for
//! rapid-deployment*; survey, III-C. The formulas are in `solve::aciq`.

use core::fmt;

use crate::error::{DataError, Result};
use crate::names::named;
use crate::solve::aciq::{Side, UnitDensity};
use crate::tensor::{AffineScheme, ClippingRange, Scheme, ZeroPointRule};

use super::moments::Moments;
use super::{Calibrated, Calibration, Region, affine, levels, min_max_of, or_min_max};

/// The density that the values are taken to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AciqDensity {
    /// The one whose clipping value gives the smaller squared error on the region's own values, or on its histogram,
    /// for the very grid of the scheme. The default.
    #[default]
    Automatic,
    /// Gaussian, of the standard deviation σ of the values.
    Gaussian,
    /// Laplace, of the mean deviation b of the values.
    Laplace,
}

/// How σ of a Gaussian is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AciqEstimator {
    /// The standard deviation of the values. The default.
    #[default]
    Moments,
    /// The authors' code: from the range of N values alone,
    /// `σ = (max − min) · 0.5 · 0.35 · (1 + √(π ln 4)) / √(2 ln N)`. (b of a Laplace density is estimated from the
    /// values in either case.)
    Range,
}

/// Which clipping value is the best for a density.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AciqOptimum {
    /// Exact up to 8 levels (3 bits), published above. The default.
    #[default]
    Automatic,
    /// The paper's formula: uniform noise within `[−α, α]`. At 2 bits with a level at zero its squared error is 34 %
    /// above the best for a Gaussian and 18 % for a Laplace density, at 3 bits 4 % and 3 %, from 4 bits on at most 2 %.
    Published,
    /// The least expected squared error on the actual levels: restricted, full, mid-rise, one-sided. Time
    /// O(levels) for each region; above 1024 levels, where they agree to about a thousandth, the published formula is used.
    Exact,
}

named!(AciqDensity, "density", [Automatic => "automatic", Gaussian => "gaussian", Laplace => "laplace"]);
named!(AciqEstimator, "estimator of ACIQ", [Moments => "moments", Range => "range"]);
named!(AciqOptimum, "optimum of ACIQ", [Automatic => "automatic", Published => "published", Exact => "exact"]);

/// ACIQ: clips at a multiple of the spread that is the best for a Gaussian or Laplace density.
///
/// | grid | range |
/// |---|---|
/// | symmetric | `±(abs(μ) + α)` |
/// | asymmetric | `[μ − α, μ + α]` |
/// | values of one sign (after a ReLU, say) | `[0, α]`, symmetric `±α` |
///
/// never beyond minimum and maximum. Values of one sign are taken for half of a density around zero, whose spread is
/// estimated from those that are not zero; on an asymmetric grid the paper's table is then read one bit further
/// (*fused ReLU*), as all codes serve one side. With real zero points that holds for ranges that end at zero.
///
/// Time O(n), one to four passes over the values, no copies.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::calibration::{Aciq, AciqDensity, AciqOptimum};
///
/// let weights = ndarray::Array1::from_shape_fn(4096, |i| ((i * i) as f32 * 0.37).sin().powi(5));
/// let aciq = Aciq::default().density(AciqDensity::Laplace).optimum(AciqOptimum::Exact);
/// let q = Uniform::symmetric(BitWidth::new(3)?).calibration(aciq).quantize(&weights)?;
/// assert_eq!(aciq.to_string(), "aciq(density=laplace, estimator=moments, optimum=exact)");
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aciq {
    density: AciqDensity,
    estimator: AciqEstimator,
    optimum: AciqOptimum,
}

impl Aciq {
    /// The same for another density.
    pub const fn density(mut self, density: AciqDensity) -> Self {
        self.density = density;
        self
    }

    /// The same with another estimate of σ.
    pub const fn estimator(mut self, estimator: AciqEstimator) -> Self {
        self.estimator = estimator;
        self
    }

    /// The same by another rule for the clipping value.
    pub const fn optimum(mut self, optimum: AciqOptimum) -> Self {
        self.optimum = optimum;
        self
    }

    /// The clipping value of `density` in units of σ or b.
    fn unit_clip(self, density: UnitDensity, scheme: &AffineScheme, one_sided: bool) -> f64 {
        let codes = scheme.codes();
        let count = f64::from(codes.count());
        // The paper's M is the width of a code.
        let cells = f64::from(codes.bits().levels());
        let published = density.published(cells, one_sided && !scheme.is_symmetric());
        let exact = match self.optimum {
            AciqOptimum::Automatic => count <= 8.0,
            AciqOptimum::Published => false,
            AciqOptimum::Exact => count <= 1024.0,
        };
        if !exact {
            return published;
        }
        // Levels on both sides of zero, and how many steps from zero to the end of the range.
        let (sides, steps) = match scheme.zero_point() {
            ZeroPointRule::Fixed(zero) => {
                let (first, last) = (f64::from(codes.min()) - zero, f64::from(codes.max()) - zero);
                let side = |last: f64| {
                    let base = if last < 0.0 { last } else { last.fract() };
                    Side { base, more: (last - base) as u32 }
                };
                ([side(last), side(-first)], scheme.steps() / 2.0)
            }
            _ if one_sided => ([Side { base: 0.0, more: codes.count() - 1 }; 2], count - 1.0),
            _ => {
                let reach = (count - 1.0) / 2.0;
                ([Side { base: reach.fract(), more: reach as u32 }; 2], reach)
            }
        };
        density.best_step(&sides, published / steps).map_or(published, |step| step * steps)
    }

    /// The range for one density.
    fn range_for(self, density: UnitDensity, scheme: &AffineScheme, known: &Known) -> ClippingRange {
        let Known { moments, low, high, one_sided } = *known;
        // Half of a density around zero: what is not zero tells its spread.
        let nonzero = moments.nonzero_share.max(f64::MIN_POSITIVE);
        let spread = match density {
            UnitDensity::Laplace if one_sided => moments.mean_magnitude / nonzero,
            UnitDensity::Laplace => moments.mean_deviation,
            UnitDensity::Gaussian if self.estimator == AciqEstimator::Range => {
                // A half density has half the range.
                let range = if one_sided { 2.0 * high.abs().max(low.abs()) } else { high - low };
                range * range_factor(moments.count as f64 * if one_sided { 2.0 * nonzero } else { 1.0 })
            }
            UnitDensity::Gaussian if one_sided => moments.root_mean_square / nonzero.sqrt(),
            UnitDensity::Gaussian => moments.standard_deviation,
        };
        let clip = (spread * self.unit_clip(density, scheme, one_sided)).min(f64::MAX);
        let largest = high.abs().max(low.abs());
        let (from, to) = if scheme.is_symmetric() {
            let shift = if one_sided { 0.0 } else { moments.mean.abs() };
            let magnitude = (clip + shift).min(largest);
            (-magnitude, magnitude)
        } else if one_sided {
            (low.max(-clip).min(0.0), high.min(clip).max(0.0))
        } else {
            ((moments.mean - clip).clamp(low, high), (moments.mean + clip).clamp(low, high))
        };
        ClippingRange::new(from, to).unwrap_or(ClippingRange::ZERO)
    }
}

/// The authors' σ of a Gaussian in units of the range of `n` values.
fn range_factor(n: f64) -> f64 {
    let gaussian = 0.5 * 0.35 * (1.0 + (core::f64::consts::PI * 4f64.ln()).sqrt());
    gaussian / (2.0 * n.max(2.0).ln()).sqrt()
}

/// What is known of a region.
#[derive(Debug, Clone, Copy)]
struct Known {
    moments: Moments,
    low: f64,
    high: f64,
    one_sided: bool,
}

impl Calibration for Aciq {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        let evidence = region.evidence();
        let moments = evidence.moments().ok_or(DataError::NoData { region: region.index() })?;
        let full = min_max_of(region)?;
        let affine = affine(scheme)?;
        let (low, high) = (full.low(), full.high());
        let one_sided = if affine.zero_point() == ZeroPointRule::Real {
            low == 0.0 || high == 0.0
        } else {
            low >= 0.0 || high <= 0.0
        };
        let known = Known { moments, low, high, one_sided };
        let of = |density| self.range_for(density, &affine, &known);
        let found = match self.density {
            AciqDensity::Gaussian => of(UnitDensity::Gaussian),
            AciqDensity::Laplace => of(UnitDensity::Laplace),
            AciqDensity::Automatic => {
                let both = [UnitDensity::Gaussian, UnitDensity::Laplace].map(of);
                let error = |range: ClippingRange| match levels(&affine, range, region.index()) {
                    Ok(levels) => evidence.squared_error(&levels),
                    Err(_) => f64::INFINITY,
                };
                let [gaussian, laplace] = both;
                if error(laplace) < error(gaussian) { laplace } else { gaussian }
            }
        };
        or_min_max(found, region)
    }
}

/// `aciq(density=automatic, estimator=moments, optimum=automatic)`
impl fmt::Display for Aciq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { density, estimator, optimum } = self;
        write!(f, "aciq(density={density}, estimator={estimator}, optimum={optimum})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::BitWidth;
    use crate::calibration::{Evidence, Histogram, MinMax};
    use crate::quantizer::{Quantizer, SymmetricRange, Uniform};
    use crate::solve::samples::SplitMix64;

    fn range(calibration: &dyn Calibration, values: &[f64], uniform: &Uniform) -> ClippingRange {
        let scheme = uniform.scheme().unwrap();
        calibration.range(&Region::new(0, Evidence::from(values)), &scheme).unwrap().range
    }

    fn mean_error(calibration: &dyn Calibration, values: &[f64], uniform: &Uniform) -> f64 {
        let scheme = uniform.scheme().unwrap();
        let levels = levels(&affine(&scheme).unwrap(), range(calibration, values, uniform), 0).unwrap();
        Evidence::from(values).squared_error(&levels) / values.len() as f64
    }

    fn normal() -> Vec<f64> {
        let mut random = SplitMix64(4);
        (0..100_000).map(|_| 3.0 * random.normal()).collect()
    }

    fn laplace() -> Vec<f64> {
        let mut random = SplitMix64(5);
        (0..100_000).map(|_| 0.5 * random.laplace()).collect()
    }

    #[test]
    fn clips_at_the_published_multiple_of_the_spread() {
        // lowbit reference values 02, 4 bits.
        let uniform = Uniform::symmetric(BitWidth::new(4).unwrap());
        for (data, density, multiple) in [
            (normal(), AciqDensity::Gaussian, 2.5591364619753367),
            (laplace(), AciqDensity::Laplace, 5.028640136236213),
        ] {
            let moments = Evidence::from(&*data).moments().unwrap();
            let spread = if density == AciqDensity::Gaussian {
                moments.standard_deviation
            } else {
                moments.mean_deviation
            };
            let found = range(&Aciq::default().density(density), &data, &uniform).high();
            assert!((found / (multiple * spread + moments.mean.abs()) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_automatic_choice_is_the_density_of_the_values() {
        for bits in [2, 3, 4, 6] {
            let uniform = Uniform::symmetric(BitWidth::new(bits).unwrap());
            for (data, right) in [(normal(), AciqDensity::Gaussian), (laplace(), AciqDensity::Laplace)] {
                let found = range(&Aciq::default(), &data, &uniform);
                assert_eq!(found, range(&Aciq::default().density(right), &data, &uniform), "{right} {bits}");
                // Better than no clipping at all, which is the point.
                let aciq = mean_error(&Aciq::default(), &data, &uniform);
                assert!(aciq < mean_error(&MinMax, &data, &uniform));
            }
        }
    }

    #[test]
    fn the_exact_optimum_is_what_the_published_one_costs() {
        // 2 bits with a level at zero: 34 % on a Gaussian and 18 % on a Laplace density, at 3 bits 4 % and 3 %.
        for (bits, gauss, laplace_cost) in [(2, 1.34, 1.18), (3, 1.04, 1.03)] {
            let uniform = Uniform::symmetric(BitWidth::new(bits).unwrap());
            for (data, density, cost) in
                [(normal(), AciqDensity::Gaussian, gauss), (laplace(), AciqDensity::Laplace, laplace_cost)]
            {
                let aciq = Aciq::default().density(density);
                let exact = mean_error(&aciq.optimum(AciqOptimum::Exact), &data, &uniform);
                let published = mean_error(&aciq.optimum(AciqOptimum::Published), &data, &uniform);
                // 100,000 samples show a ratio to about 1 %, and twelve uniforms have lighter tails than a Gaussian.
                assert!((published / exact - cost).abs() < 0.025, "{bits} {density}: {}", published / exact);
            }
        }
    }

    #[test]
    fn the_exact_optimum_is_that_of_each_kind_of_grid() {
        let four = BitWidth::new(4).unwrap();
        let data = normal();
        let moments = Evidence::from(&*data).moments().unwrap();
        let exact = Aciq::default().density(AciqDensity::Gaussian).optimum(AciqOptimum::Exact);
        // Exact values for 4 bits, Gaussian: mid-rise, restricted and full range (lowbit reference values 01 and 02).
        for (kind, multiple) in [
            (SymmetricRange::MidRise, 2.6816048975997817),
            (SymmetricRange::Restricted, 2.473879208999852),
            (SymmetricRange::Full, 0.3386079357151854 * 7.5),
        ] {
            let found = range(&exact, &data, &Uniform::symmetric(four).range(kind)).high();
            let expected = multiple * moments.standard_deviation + moments.mean.abs();
            assert!((found / expected - 1.0).abs() < 1e-9, "{kind}: {found} {expected}");
        }
        // After a ReLU: the spread is that of what is left.
        let relu: Vec<f64> = data.iter().map(|x| x.max(0.0)).collect();
        let positive: Vec<f64> = relu.iter().copied().filter(|&x| x > 0.0).collect();
        let sigma = (positive.iter().map(|x| x * x).sum::<f64>() / positive.len() as f64).sqrt();
        let uniform = Uniform::asymmetric(four);
        for (optimum, multiple) in
            [(AciqOptimum::Exact, 2.898727865957773), (AciqOptimum::Published, 2.9362006121084447)]
        {
            let found = range(&exact.optimum(optimum), &relu, &uniform);
            assert_eq!(found.low(), 0.0);
            assert!((found.high() / (multiple * sigma) - 1.0).abs() < 1e-9, "{found} {}", multiple * sigma);
            // Zeros, which cost nothing, do not move it.
            let alone = range(&exact.optimum(optimum), &positive, &uniform).high();
            assert!((alone / found.high() - 1.0).abs() < 1e-14);
        }
        // And the mirror image.
        let negative: Vec<f64> = relu.iter().map(|x| -x).collect();
        let (there, back) = (range(&exact, &relu, &uniform), range(&exact, &negative, &uniform));
        assert_eq!((there.low(), there.high()), (-back.high(), -back.low()));
    }

    #[test]
    fn a_range_estimate_needs_the_range_and_the_number_alone() {
        let aciq = Aciq::default().density(AciqDensity::Gaussian).estimator(AciqEstimator::Range);
        let uniform = Uniform::asymmetric(BitWidth::new(4).unwrap());
        let data = normal();
        let (low, high) = Evidence::from(&*data).min_max().unwrap();
        let sigma = (high - low) * (0.5 * 0.35 * (1.0 + (std::f64::consts::PI * 4f64.ln()).sqrt()))
            / (2.0 * (data.len() as f64).ln()).sqrt();
        let mean = Evidence::from(&*data).moments().unwrap().mean;
        let found = range(&aciq, &data, &uniform);
        assert!((found.high() - mean - 2.5591364619753367 * sigma).abs() < 1e-9);
    }

    #[test]
    fn a_histogram_gives_the_same_within_a_bin() {
        for data in [normal(), laplace()] {
            let (low, high) = Evidence::from(&*data).min_max().unwrap();
            let width = (high - low) / 2048.0;
            let mut counts = vec![0; 2048];
            data.iter().for_each(|x| counts[(((x - low) / width) as usize).min(2047)] += 1);
            let histogram = Histogram::new(low, high, counts).unwrap();
            for bits in [2, 4, 8] {
                for uniform in [
                    Uniform::symmetric(BitWidth::new(bits).unwrap()),
                    Uniform::asymmetric_real(BitWidth::new(bits).unwrap()),
                ] {
                    let (exact, scheme) =
                        (range(&Aciq::default(), &data, &uniform), uniform.scheme().unwrap());
                    let coarse = histogram.calibrate(&Aciq::default(), &scheme).unwrap().range;
                    assert!((coarse.high() - exact.high()).abs() < width, "{coarse} {exact}");
                    assert!((coarse.low() - exact.low()).abs() < width, "{coarse} {exact}");
                }
            }
        }
    }
}
