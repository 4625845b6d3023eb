//! One-dimensional searches: grids and level sets of least squared error, thresholds of least divergence, order
//! statistics.

pub(crate) mod binary_code;
pub(crate) mod entropy;
pub(crate) mod magnitudes;
pub(crate) mod piecewise;
pub(crate) mod quantile;
#[cfg(test)]
mod samples;
pub(crate) mod scale;
pub(crate) mod ternary;
