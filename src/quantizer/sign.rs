//! The sign: codes for −1 and +1.
//!
//! Courbariaux, Bengio and David 2015, *BinaryConnect: Training Deep Neural Networks with binary weights during
//! propagations*, equations 1 to 3; survey, III-H:
//!
//! ```text
//! deterministic   b = +1 if w ≥ 0, else −1
//! stochastic      b = +1 with probability σ(w), else −1
//! ```
//!
//! The paper's σ is the hard sigmoid `clip((w + 1)/2, 0, 1)`, the survey's the sigmoid `1/(1 + e^(−w))`.

use core::fmt;

use crate::bits::BitWidth;
use crate::calibration::{Region, Regions};
use crate::element::FloatType;
use crate::error::Result;
use crate::tensor::{BinaryCodeGrid, BinaryCodeScheme, Grids, Notes, Scheme};

use super::{Fit, Quantizer};

/// One bit for the sign, decoded as −1 and +1 whatever the values.
///
/// The rounding says how: to the nearest for the sign, [`Rounding::Stochastic`] for the hard sigmoid,
/// [`Rounding::StochasticSigmoid`] for the sigmoid. For a scale that fits the values see the one-bit
/// [`BinaryCode`](super::BinaryCode).
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::Ix1;
///
/// let w = ndarray::array![-0.3f32, 0.0, 0.6];
/// assert_eq!(Sign.quantize(&w)?.dequantize::<f32, Ix1>()?, ndarray::array![-1.0, 1.0, 1.0]);
///
/// // Seven draws of each weight: +1 with probability 0.35, 0.5 and 0.8.
/// let draws = ndarray::Array2::from_shape_fn((7, 3), |(_, j)| w[j]);
/// let q = Sign.rounding(Rounding::Stochastic { seed: 1 }).quantize(&draws)?;
/// # assert!(q.codes().iter().sum::<i32>() > 5 && q.codes().iter().sum::<i32>() < 17);
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// [`Rounding::Stochastic`]: crate::Rounding::Stochastic
/// [`Rounding::StochasticSigmoid`]: crate::Rounding::StochasticSigmoid
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sign;

impl Quantizer for Sign {
    fn scheme(&self) -> Result<Scheme> {
        Ok(BinaryCodeScheme::new(BitWidth::new(1)?, FloatType::F32)?.into())
    }

    fn fit(&self, _region: &Region<'_>, _scheme: &Scheme) -> Result<Fit> {
        Ok(BinaryCodeGrid { coefficients: vec![1.0] }.into())
    }

    /// Reads nothing of the data, so that infinities have their sign too.
    fn fit_all(
        &self,
        regions: &Regions<'_, '_>,
        _scheme: &Scheme,
        grids: &mut Grids,
        _notes: &mut Notes,
    ) -> Result<()> {
        (0..regions.len()).try_for_each(|_| grids.push(BinaryCodeGrid { coefficients: vec![1.0] }.into()))
    }
}

/// `sign`
impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sign")
    }
}
