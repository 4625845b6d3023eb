//! Ranges that the user gives.

use core::fmt;

use crate::error::{ConfigError, Result, ShapeError};
use crate::tensor::{ClippingRange, Scheme};

use super::{Calibrated, Calibration, Ranges, Region, Regions};

/// Given ranges: one for all regions, or one for each in the order of the tiling.
///
/// Values are never read, so infinities saturate. The ranges are data and not part of the text form.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::calibration::Fixed;
/// use ndarray::array;
///
/// let relu6 = Uniform::asymmetric(BitWidth::EIGHT).calibration(Fixed::new(0.0, 6.0)?);
/// let q = relu6.quantize(&array![0.0f32, 3.0, 6.0, f32::INFINITY])?;
/// assert_eq!(q.codes().as_u8(), Some(&[0u8, 128, 255, 255][..]));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Fixed {
    ranges: Vec<ClippingRange>,
}

impl Fixed {
    /// The range `[low, high]` for every region.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ClippingRange`] unless both are finite and `low <= high`.
    pub fn new(low: f64, high: f64) -> Result<Self, ConfigError> {
        Ok(Self { ranges: vec![ClippingRange::new(low, high)?] })
    }

    /// A range `(low, high)` for each region, in the order of the tiling.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ClippingRange`] with the index of the first that is not finite and in order;
    /// [`ConfigError::TooSmall`] for no ranges at all.
    pub fn per_region(ranges: impl IntoIterator<Item = (f64, f64)>) -> Result<Self, ConfigError> {
        let ranges = ranges
            .into_iter()
            .enumerate()
            .map(|(index, (low, high))| {
                ClippingRange::new(low, high).map_err(|_| ConfigError::ClippingRange { index, low, high })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if ranges.is_empty() {
            return Err(ConfigError::TooSmall { what: "number of ranges", value: 0, min: 1 });
        }
        Ok(Self { ranges })
    }

    /// The given ranges: one, or one for each region.
    pub fn ranges(&self) -> &[ClippingRange] {
        &self.ranges
    }
}

impl Calibration for Fixed {
    fn range(&self, region: &Region<'_>, _scheme: &Scheme) -> Result<Calibrated> {
        let index = if self.ranges.len() == 1 { 0 } else { region.index() };
        match self.ranges.get(index) {
            Some(&range) => Ok(range.into()),
            None => Err(ShapeError::Index { what: "region", index, count: self.ranges.len() }.into()),
        }
    }

    fn ranges(&self, regions: &Regions<'_, '_>, _scheme: &Scheme) -> Result<Ranges> {
        if let [range] = *self.ranges {
            return Ok(vec![range; regions.len()].into());
        }
        Scheme::check_regions(self.ranges.len(), regions.len(), regions.tiling().shape())?;
        Ok(self.ranges.clone().into())
    }

    fn reads_data(&self) -> bool {
        false
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fixed")
    }
}
