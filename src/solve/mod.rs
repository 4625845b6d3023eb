//! Searches: grids of least squared error, thresholds of least divergence, order statistics, clusters.

pub(crate) mod entropy;
pub(crate) mod kmeans;
pub(crate) mod quantile;
#[cfg(test)]
mod samples;
pub(crate) mod scale;
pub(crate) mod vector_kmeans;
