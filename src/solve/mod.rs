//! Searches: grids and level sets of least squared error, thresholds of least divergence, order statistics, clusters,
//! optimal scalar quantizers; and the special functions and densities that they need.

pub(crate) mod aciq;
pub(crate) mod binary_code;
pub(crate) mod density;
pub(crate) mod ecsq;
pub(crate) mod empirical;
pub(crate) mod entropy;
pub(crate) mod exact_sum;
pub(crate) mod kmeans;
pub(crate) mod level_scale;
pub(crate) mod lloyd_max;
pub(crate) mod magnitudes;
pub(crate) mod piecewise;
pub(crate) mod quantile;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod scalar;
pub(crate) mod scale;
pub(crate) mod special;
pub(crate) mod spread;
pub(crate) mod ternary;
pub(crate) mod vector_kmeans;
