//! Searches: grids and level sets of least squared error, thresholds of least divergence, order statistics, clusters,
//! optimal scalar quantizers; and the special functions and densities that they need.

pub(crate) mod aciq;
#[allow(dead_code, reason = "for the quantizers to come")]
pub(crate) mod binary_code;
#[allow(dead_code, reason = "for the quantizers to come")]
pub(crate) mod density;
#[allow(dead_code, reason = "for the quantizers to come")]
pub(crate) mod ecsq;
#[allow(dead_code, reason = "for the quantizers to come")]
pub(crate) mod empirical;
pub(crate) mod entropy;
pub(crate) mod exact_sum;
#[cfg_attr(not(test), expect(dead_code, reason = "for methods to come"))]
pub(crate) mod kmeans;
pub(crate) mod level_scale;
#[allow(dead_code, reason = "for the quantizers to come")]
pub(crate) mod lloyd_max;
#[allow(dead_code, reason = "for the quantizers to come")]
pub(crate) mod magnitudes;
#[allow(dead_code, reason = "for the quantizers to come")]
pub(crate) mod piecewise;
pub(crate) mod quantile;
#[cfg(test)]
pub(crate) mod samples;
#[allow(dead_code, reason = "for the quantizers to come")]
pub(crate) mod scalar;
pub(crate) mod scale;
#[allow(dead_code, reason = "for the quantizers to come")]
pub(crate) mod special;
pub(crate) mod spread;
#[allow(dead_code, reason = "for the quantizers to come")]
pub(crate) mod ternary;
#[cfg_attr(not(test), expect(dead_code, reason = "for methods to come"))]
pub(crate) mod vector_kmeans;
