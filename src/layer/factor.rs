//! The damped Hessian of a group of outputs, factored.

use ndarray::{Array2, ArrayView2};

use crate::error::ConfigError;
use crate::parallel;

use super::matrix::factor_upper;
use super::statistics::Statistics;

/// What is added to the diagonal of `XᵀX` before it is factored, as a share of the diagonal's mean: 0.01 by default, as
/// published with GPTQ.
///
/// With fewer samples than inputs, or inputs that depend on each other, `XᵀX` is singular and cannot be factored as it
/// is. Where the factorization fails, the damping is raised tenfold until it succeeds, and the report says so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Damping(f64);

impl Damping {
    /// This share of the mean of the diagonal.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Number`] unless the share is finite and not negative.
    pub const fn new(share: f64) -> Result<Self, ConfigError> {
        if share >= 0.0 && share.is_finite() {
            Ok(Self(share))
        } else {
            Err(ConfigError::Number { what: "damping", value: share, rule: "finite and not negative" })
        }
    }

    /// The share.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Default for Damping {
    fn default() -> Self {
        Self(0.01)
    }
}

/// The first damping where none was asked for and some is needed.
const LEAST: f64 = 1e-8;
/// The damping at which all inputs are as good as independent.
const MOST: f64 = 1e12;
/// Pivots below this share of the mean of the diagonal are rounding errors.
const PIVOT: f64 = 1e-13;

/// The inputs of a group in the order of a method, and the factor R of `XᵀX + damping = R · Rᵀ`, an upper triangle.
#[derive(Debug, Clone)]
pub(super) struct Factor {
    /// The inputs that are not zero in all samples, in the order of the method.
    pub(super) order: Vec<usize>,
    pub(super) factor: Array2<f64>,
    /// What was added to the diagonal.
    pub(super) added: f64,
    /// The same as a share of the mean of the diagonal.
    pub(super) share: f64,
    /// How often it was raised.
    pub(super) raised: usize,
}

impl Factor {
    /// The factor of the inputs `order`, none of which is dead. `None` if no damping helps.
    pub(super) fn new(statistics: &Statistics, order: Vec<usize>, damping: Damping) -> Option<Self> {
        let upper = statistics.upper();
        let diagonal: f64 = order.iter().map(|&input| upper[[input, input]]).sum();
        // As published, the mean is that of all inputs, dead ones too.
        let mean = diagonal / statistics.inputs().max(1) as f64;
        let (mut share, mut raised) = (damping.0, 0);
        loop {
            let added = share * mean;
            let mut factor = in_order(upper, &order);
            factor.diag_mut().iter_mut().for_each(|value| *value += added);
            match factor_upper(&mut factor, PIVOT * mean) {
                Ok(()) => return Some(Self { order, factor, added, share, raised }),
                Err(_) if share < MOST => {
                    share = (share * 10.0).max(LEAST);
                    raised += 1;
                }
                Err(_) => return None,
            }
        }
    }
}

/// The upper triangle of a symmetric matrix, of which the upper triangle is read, with both axes in another order.
fn in_order(upper: ArrayView2<'_, f64>, order: &[usize]) -> Array2<f64> {
    let n = order.len();
    let mut out = Array2::zeros((n, n));
    let Some(rows) = out.as_slice_mut() else { return out };
    parallel::map_chunks(
        rows,
        n.max(1),
        n.saturating_mul(n) / 4,
        || (),
        |(), i, row| {
            let Some(&a) = order.get(i) else { return };
            for (out, &b) in row.iter_mut().zip(order).skip(i) {
                *out = upper[[a.min(b), a.max(b)]];
            }
        },
    );
    out
}

/// The inputs that are not zero in all samples.
pub(super) fn live_inputs(statistics: &Statistics) -> Vec<usize> {
    let diagonal = statistics.diagonal();
    (0..statistics.inputs()).filter(|&input| diagonal[input] > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damping_is_raised_until_the_factor_exists_and_says_so() {
        // Two inputs that are the same.
        let mut statistics = Statistics::new(3).unwrap();
        statistics.observe(&ndarray::array![[1.0, 1.0, 0.5], [2.0, 2.0, -1.0], [3.0, 3.0, 0.0]]).unwrap();
        let order = vec![2, 0, 1];
        let factor = Factor::new(&statistics, order.clone(), Damping::new(0.0).unwrap()).unwrap();
        assert!(factor.raised > 0 && factor.share > 0.0, "{factor:?}");
        let factor = Factor::new(&statistics, order, Damping::default()).unwrap();
        assert_eq!((factor.raised, factor.share), (0, 0.01));
        let mean = (14.0 + 14.0 + 1.25) / 3.0;
        assert!((factor.added - 0.01 * mean).abs() < 1e-12);
        let square = factor.factor.dot(&factor.factor.t());
        assert!((square[[0, 1]] - (0.5 - 2.0)).abs() < 1e-12);
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(Damping::new(bad).is_err());
        }
    }
}
