//! One-dimensional searches: grids and level sets of least squared error, thresholds of least divergence, order
//! statistics.

#[allow(dead_code)]
pub(crate) mod binary_code;
pub(crate) mod entropy;
#[allow(dead_code)]
pub(crate) mod magnitudes;
#[allow(dead_code)]
pub(crate) mod piecewise;
pub(crate) mod quantile;
#[cfg(test)]
mod samples;
pub(crate) mod scale;
#[allow(dead_code)]
pub(crate) mod ternary;
