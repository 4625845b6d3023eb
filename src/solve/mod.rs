//! One-dimensional searches: grids of least squared error, thresholds of least divergence, order statistics.

pub(crate) mod aciq;
pub(crate) mod entropy;
pub(crate) mod quantile;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod scale;
pub(crate) mod spread;
