//! The body that methods share whose grid is a calibrated range on a scheme.

use crate::calibration::{Calibrated, Calibration, Ranges, Region, Regions, range_or_zero};
use crate::error::Result;
use crate::tensor::{Grids, Notes, Scheme};

use super::Fit;

/// The grid of one region: the range that `calibration` finds, put on `scheme`. A region without values
/// (all of them skipped) gets the grid of a range of zero.
///
/// # Errors
///
/// As [`Calibration::range`], and [`DataError::ScaleStorage`](crate::DataError::ScaleStorage) where the
/// scale does not fit its type.
pub fn fit_calibrated(calibration: &dyn Calibration, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
    let Calibrated { range, note } =
        range_or_zero(calibration, region, |region| calibration.range(region, scheme))?;
    Ok(Fit { grid: scheme.grid(range, region.index())?, note })
}

/// The grids of all regions, through [`Calibration::ranges`]: the same bits as [`fit_calibrated`] for each.
///
/// # Errors
///
/// As [`fit_calibrated`].
pub fn fit_all_calibrated(
    calibration: &dyn Calibration,
    regions: &Regions<'_, '_>,
    scheme: &Scheme,
    grids: &mut Grids,
    notes: &mut Notes,
) -> Result<()> {
    let Ranges { ranges, notes: found } = calibration.ranges(regions, scheme)?;
    for (region, range) in ranges.into_iter().enumerate() {
        grids.push(scheme.grid(range, region)?)?;
    }
    notes.extend(found);
    Ok(())
}

/// [`Quantizer`](super::Quantizer) and the setter `calibration` of a method that is a calibrated range on a
/// [`LevelScheme`](crate::tensor::LevelScheme): what its `level_scheme` says, with a field `calibration`.
macro_rules! on_levels {
    ($method:ident) => {
        impl $method {
            /// How ranges are found. The default is [`MinMax`](crate::calibration::MinMax).
            pub fn calibration(
                mut self,
                calibration: impl $crate::calibration::Calibration + 'static,
            ) -> Self {
                self.calibration = std::sync::Arc::new(calibration);
                self
            }
        }

        impl $crate::quantizer::Quantizer for $method {
            fn scheme(&self) -> $crate::error::Result<$crate::tensor::Scheme> {
                Ok(self.level_scheme()?.into())
            }

            fn fit(
                &self,
                region: &$crate::calibration::Region<'_>,
                scheme: &$crate::tensor::Scheme,
            ) -> $crate::error::Result<$crate::quantizer::Fit> {
                $crate::quantizer::fit_calibrated(&self.calibration, region, scheme)
            }

            fn fit_all(
                &self,
                regions: &$crate::calibration::Regions<'_, '_>,
                scheme: &$crate::tensor::Scheme,
                grids: &mut $crate::tensor::Grids,
                notes: &mut $crate::tensor::Notes,
            ) -> $crate::error::Result<()> {
                $crate::quantizer::fit_all_calibrated(&self.calibration, regions, scheme, grids, notes)
            }
        }
    };
}

pub(super) use on_levels;
