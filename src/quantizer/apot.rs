//! Additive powers of two.
//!
//! Li, Dong and Wang 2020, *Additive Powers-of-Two Quantization: An Efficient Non-uniform Discretization for Neural
//! Networks*, equation 5: at b = kn bits, n terms of k bits,
//!
//! ```text
//! Q^a(α, kn) = γ × {Σ p_i},   p_i ∈ {0, 1/2^i, 1/2^(i+n), ..., 1/2^(i+(2^k−2)n)},   i = 0 .. n − 1
//! ```
//!
//! with γ such that the largest level is the clipping threshold α.

use core::fmt;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax};
use crate::element::FloatType;
use crate::error::ConfigError;
use crate::tensor::{LevelScheme, LevelTable, ScaleStorage};

use super::calibrated::on_levels;

/// Sums of powers of two: denser around zero like powers, but without the gap below the largest.
///
/// One of the bits is the sign, unless [`unsigned`](Self::unsigned) says otherwise; the code of a sign without magnitude
/// is not used. A product with a level takes one shift for each term.
///
/// Defaults: terms of 2 bits (the paper's k), minimum and maximum, f32 scales. The paper learns the threshold α; here
/// any calibration finds it.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::{Ix1, array};
///
/// // Two terms, {0, 1, 1/4, 1/16} + {0, 1/2, 1/8, 1/32}, over 3/2.
/// let x = array![1.5f32, 1.2, -0.6, 0.09, 0.03];
/// let q = Apot::new(BitWidth::new(5)?).quantize(&x)?;
/// assert_eq!(q.dequantize::<f32, Ix1>()?, array![1.5, 1.125, -0.5625, 0.09375, 0.03125]);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Apot {
    bits: BitWidth,
    term_bits: u32,
    signed: bool,
    scales: ScaleStorage,
    calibration: Arc<dyn Calibration>,
}

impl Apot {
    /// Sums of terms of 2 bits in codes of `bits`, one of which is the sign.
    pub fn new(bits: BitWidth) -> Self {
        let scales = FloatType::F32.into();
        Self { bits, term_bits: 2, signed: true, scales, calibration: Arc::new(MinMax) }
    }

    /// Terms of `bits` bits, the paper's k: 1 for evenly spaced levels, 3 for fewer and longer sums (the bits without
    /// sign must be a multiple of 3 then). [`scheme`](super::Quantizer::scheme) reports what cannot be.
    pub fn term_bits(mut self, bits: u32) -> Self {
        self.term_bits = bits;
        self
    }

    /// Without negative values, for activations.
    pub fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    /// How scales are stored. The default is f32.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.scales = storage.into();
        self
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        let table = LevelTable::additive_powers(self.bits, self.term_bits, self.signed)?;
        Ok(LevelScheme::new(table).with_scales(self.scales))
    }
}

on_levels!(Apot);

/// `apot(bits=4, term-bits=2, signed=true, scales=f32, calibration=minmax)`
impl fmt::Display for Apot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, term_bits, signed, scales, calibration } = self;
        write!(f, "apot(bits={bits}, term-bits={term_bits}, signed={signed}")?;
        write!(f, ", scales={scales}, calibration={calibration})")
    }
}
