//! Level tables of densities: Lloyd-Max levels for unit power.

use crate::bits::BitWidth;
use crate::error::ConfigError;
use crate::names::named;
use crate::solve::density::Density;
use crate::solve::lloyd_max::{ZeroLevel, half_wave, lloyd_max};
use crate::tables::{Levels, Threshold};

/// A density that levels are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LevelDensity {
    /// Normal.
    Gaussian,
    /// Two-sided exponential.
    Laplace,
    /// Uniform: evenly spaced levels.
    Uniform,
    /// What a ReLU makes of normal values: zero half of the time. The level of zero is exact, and all positive values
    /// get one of the others (HWGQ).
    HalfNormal,
    /// The same, but the level of zero also gets what is nearer to it than to the first positive level, which makes the
    /// error smaller.
    Rectified,
}

named!(LevelDensity, "density", [
    Gaussian => "gaussian",
    Laplace => "laplace",
    Uniform => "uniform",
    HalfNormal => "half-normal",
    Rectified => "rectified",
]);

/// The most bits of a table: beyond, levels of densities are of no use.
const MAX_BITS: u32 = 10;

/// The Lloyd-Max levels of a density of unit power, with their thresholds; ties go up.
pub(super) fn levels(density: LevelDensity, bits: BitWidth) -> Result<Levels, ConfigError> {
    if bits.get() > MAX_BITS {
        let (value, max) = (bits.get() as usize, MAX_BITS as usize);
        return Err(ConfigError::TooLarge { what: "bits of levels of a density", value, max });
    }
    let count = bits.levels() as usize;
    // A rectified normal variable has half the power of the normal one.
    let rectified = matches!(density, LevelDensity::HalfNormal | LevelDensity::Rectified);
    let unit = if rectified { core::f64::consts::SQRT_2 } else { 1.0 };
    let found = match density {
        LevelDensity::Gaussian => lloyd_max(Density::Gaussian, count),
        LevelDensity::Laplace => lloyd_max(Density::Laplace, count),
        LevelDensity::Uniform => lloyd_max(Density::Uniform, count),
        LevelDensity::HalfNormal => half_wave(count, ZeroLevel::Exact),
        LevelDensity::Rectified => half_wave(count, ZeroLevel::Nearest),
    };
    let found = found.ok_or(ConfigError::Levels { count, bad: None })?;
    let threshold = |(k, &at): (usize, &f64)| match (density, k) {
        (LevelDensity::HalfNormal, 0) => Threshold::Above(0.0),
        _ => Threshold::From(at * unit),
    };
    Ok(Levels {
        values: found.levels.iter().map(|level| level * unit).collect(),
        order: (0..count).map(|code| code as u16).collect(),
        thresholds: found.thresholds.iter().enumerate().map(threshold).collect(),
    })
}
