//! One-dimensional searches: grids of least squared error, thresholds of least divergence, order statistics.

pub(crate) mod entropy;
pub(crate) mod level_scale;
pub(crate) mod quantile;
#[cfg(test)]
mod samples;
pub(crate) mod scale;
