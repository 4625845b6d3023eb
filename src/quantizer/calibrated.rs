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
