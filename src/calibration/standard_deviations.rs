//! A number of standard deviations around the mean.
//!
//! McKinstry et al. 2019 and Krishnamoorthi 2018, *Quantizing deep convolutional networks for efficient inference*,
//! compare with it; LSQ+ (Bhalgat et al. 2020) starts weights at `max(|μ − 3σ|, |μ + 3σ|)`.

use core::fmt;

use crate::error::{ConfigError, DataError, Result};
use crate::tensor::{ClippingRange, Scheme};

use super::{Calibrated, Calibration, Region, min_max_of, or_min_max};

/// Clips at `μ ± k·σ`, never beyond minimum and maximum; symmetric ranges take `max(|μ − kσ|, |μ + kσ|)`.
///
/// A rule of thumb: it knows neither the number of levels nor the shape of the values. Time O(n), two passes.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::calibration::StandardDeviations;
///
/// let three = StandardDeviations::new(3.0)?;
/// assert_eq!(three.to_string(), "standard-deviations(3)");
/// assert!(StandardDeviations::new(0.0).is_err() && StandardDeviations::new(f64::NAN).is_err());
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StandardDeviations {
    factor: f64,
}

impl StandardDeviations {
    /// `factor` (k) standard deviations to either side of the mean.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Number`] unless `factor` is positive and finite.
    pub fn new(factor: f64) -> Result<Self, ConfigError> {
        if factor > 0.0 && factor.is_finite() {
            Ok(Self { factor })
        } else {
            let (what, rule) = ("number of standard deviations", "positive and finite");
            Err(ConfigError::Number { what, value: factor, rule })
        }
    }
}

impl Calibration for StandardDeviations {
    fn range(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Calibrated> {
        let moments = region.evidence().moments().ok_or(DataError::NoData { region: region.index() })?;
        let full = min_max_of(region)?;
        let reach = (self.factor * moments.standard_deviation).min(f64::MAX);
        let found = if scheme.is_symmetric() {
            let magnitude = (moments.mean.abs() + reach).min(full.magnitude());
            ClippingRange::new(-magnitude, magnitude)?
        } else {
            let end = |x: f64| x.clamp(full.low(), full.high());
            ClippingRange::new(end(moments.mean - reach), end(moments.mean + reach))?
        };
        or_min_max(found, region)
    }
}

/// `standard-deviations(3)`
impl fmt::Display for StandardDeviations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "standard-deviations({})", self.factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::BitWidth;
    use crate::calibration::Evidence;
    use crate::quantizer::{Quantizer, Uniform};

    #[test]
    fn mean_and_deviation_of_a_known_region() {
        // Mean 2, deviations ±1 and ±3: σ = √5.
        let values = [-1.0f64, 1.0, 3.0, 5.0];
        let region = Region::new(0, Evidence::from(&values[..]));
        let range = |factor: f64, uniform: Uniform| {
            let scheme = uniform.scheme().unwrap();
            StandardDeviations::new(factor).unwrap().range(&region, &scheme).unwrap().range
        };
        let (eight, root) = (BitWidth::EIGHT, 5f64.sqrt());
        let found = range(1.0, Uniform::asymmetric(eight));
        assert!((found.low() - (2.0 - root)).abs() < 1e-15 && (found.high() - (2.0 + root)).abs() < 1e-15);
        let found = range(1.0, Uniform::symmetric(eight));
        assert!((found.high() - (2.0 + root)).abs() < 1e-15 && found.low() == -found.high());
        // Never beyond the values.
        let found = range(3.0, Uniform::asymmetric(eight));
        assert_eq!((found.low(), found.high()), (-1.0, 5.0));
    }

    #[test]
    fn clipping_pays_where_one_value_is_far_off() {
        use crate::calibration::MinMax;
        let mut values: Vec<f64> = (0..4096).map(|i| (f64::from(i) * 0.7).sin()).collect();
        values[17] = 40.0;
        let scheme = Uniform::symmetric(BitWidth::new(4).unwrap()).scheme().unwrap();
        let region = Region::new(0, Evidence::from(&*values));
        let error = |calibration: &dyn Calibration| {
            let range = calibration.range(&region, &scheme).unwrap().range;
            let affine = crate::calibration::affine(&scheme).unwrap();
            region.evidence().squared_error(&crate::calibration::levels(&affine, range, 0).unwrap())
        };
        // Within, less; the one outlier costs what it did not cost before.
        assert!(error(&StandardDeviations::new(3.0).unwrap()) < error(&MinMax));
    }
}
