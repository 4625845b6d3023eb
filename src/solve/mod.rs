//! Searches: grids of least squared error, thresholds of least divergence, order statistics, clusters.

pub(crate) mod entropy;
#[cfg_attr(not(test), expect(dead_code, reason = "for methods to come"))]
pub(crate) mod kmeans;
pub(crate) mod quantile;
#[cfg(test)]
mod samples;
pub(crate) mod scale;
#[cfg_attr(not(test), expect(dead_code, reason = "for methods to come"))]
pub(crate) mod vector_kmeans;
