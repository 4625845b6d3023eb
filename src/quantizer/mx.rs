//! Microscaling (MX) formats: blocks of 32 elements under a power of two.
//!
//! Open Compute Project 2023, *OCP Microscaling Formats (MX) Specification* version 1.0, sections 5 and 6.3; Rouhani et
//! al. 2023, *Microscaling Data Formats for Deep Learning*, algorithm 1:
//!
//! ```text
//! shared_exp = ⌊log2(max_i |V_i|)⌋ − emax_elem
//! X   = 2^shared_exp
//! P_i = quantize_to_element_format(V_i / X), clamping normal numbers
//! ```

use core::fmt;
use std::sync::Arc;

use ndarray::Axis;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax};
use crate::error::ConfigError;
use crate::granularity::PerSubChannel;
use crate::minifloat::{Minifloat, ScaleMode};
use crate::names::named;
use crate::tensor::{LevelScheme, LevelTable, ScaleRule};

use super::calibrated::on_levels;

/// The elements of an MX format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MxElement {
    /// MXFP8 of E4M3: largest value 448.
    Fp8E4M3,
    /// MXFP8 of E5M2: largest value 57344.
    Fp8E5M2,
    /// MXFP6 of E3M2: largest value 28.
    Fp6E3M2,
    /// MXFP6 of E2M3: largest value 7.5.
    Fp6E2M3,
    /// MXFP4 of E2M1: largest value 6.
    Fp4,
    /// MXINT8: multiples of 1/64 from −127/64 to 127/64.
    Int8,
}

named!(MxElement, "element of MX blocks", [
    Fp8E4M3 => "e4m3",
    Fp8E5M2 => "e5m2",
    Fp6E3M2 => "e3m2",
    Fp6E2M3 => "e2m3",
    Fp4 => "e2m1",
    Int8 => "int8",
]);

impl MxElement {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Fp8E4M3, Self::Fp8E5M2, Self::Fp6E3M2, Self::Fp6E2M3, Self::Fp4, Self::Int8];

    /// Values of the codes.
    pub fn table(self) -> LevelTable {
        LevelTable::minifloat(match self {
            Self::Fp8E4M3 => Minifloat::E4M3FN,
            Self::Fp8E5M2 => Minifloat::E5M2,
            Self::Fp6E3M2 => Minifloat::E3M2,
            Self::Fp6E2M3 => Minifloat::E2M3,
            Self::Fp4 => Minifloat::E2M1,
            Self::Int8 => return LevelTable::mx_int8(),
        })
    }
}

/// An MX format: elements of a few bits under E8M0 scales, one for each block.
///
/// The blocks are a matter of granularity: [`Mx::blocks`] are those of the specification. Elements are rounded to
/// nearest, ties to even, as the specification asks for; microxcaling's default is [`Rounding::NearestAway`]. They
/// saturate at the largest value, ±127/64 for MXINT8 (whose −2 is read, but not written). A block of zeros has the scale
/// 2^−127. Divisions by powers of two are exact, so all dialects give the same codes.
///
/// A block with NaN or ∞ is an error by default; a NaN of one element can be written as such in FP8
/// ([`NonFinite::Propagate`]), but no block becomes NaN as a whole. In the last octave of f32, where a scale mode would
/// make the largest element decode to ∞, the next smaller exponent is taken. f64 values beyond that octave are an error.
///
/// Defaults: scale mode [`ScaleMode::Floor`] (OCP), minimum and maximum. With
/// [`Mse`](crate::calibration::Mse) each block takes the power of two of least squared error.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::minifloat::ScaleMode;
/// use ndarray::Array2;
///
/// let weights = Array2::from_shape_fn((16, 64), |(i, j)| ((i * 64 + j) as f32 * 0.37).sin());
/// let q = Mx::fp4().granularity(Mx::blocks()).quantize(&weights)?;
/// assert_eq!(q.bits_per_element(), 4.25);
///
/// // NVIDIA's rule, which never saturates.
/// let q = Mx::fp8_e4m3().scale_mode(ScaleMode::RoundUp).granularity(Mx::blocks()).quantize(&weights)?;
/// assert_eq!(q.bits_per_element(), 8.25);
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// [`Rounding::NearestAway`]: crate::Rounding::NearestAway
/// [`NonFinite::Propagate`]: crate::NonFinite::Propagate
#[derive(Debug, Clone)]
pub struct Mx {
    element: MxElement,
    mode: ScaleMode,
    calibration: Arc<dyn Calibration>,
}

impl Mx {
    /// Elements of a block.
    pub const BLOCK: usize = 32;

    /// The format of `element`.
    pub fn new(element: MxElement) -> Self {
        Self { element, mode: ScaleMode::Floor, calibration: Arc::new(MinMax) }
    }

    /// MXFP8 of E4M3.
    pub fn fp8_e4m3() -> Self {
        Self::new(MxElement::Fp8E4M3)
    }

    /// MXFP8 of E5M2.
    pub fn fp8_e5m2() -> Self {
        Self::new(MxElement::Fp8E5M2)
    }

    /// MXFP6 of E3M2.
    pub fn fp6_e3m2() -> Self {
        Self::new(MxElement::Fp6E3M2)
    }

    /// MXFP6 of E2M3.
    pub fn fp6_e2m3() -> Self {
        Self::new(MxElement::Fp6E2M3)
    }

    /// MXFP4.
    pub fn fp4() -> Self {
        Self::new(MxElement::Fp4)
    }

    /// MXINT8.
    pub fn int8() -> Self {
        Self::new(MxElement::Int8)
    }

    /// How the shared exponent follows from the largest magnitude.
    pub fn scale_mode(mut self, mode: ScaleMode) -> Self {
        self.mode = mode;
        self
    }

    /// The blocks of the specification: runs of [`BLOCK`](Self::BLOCK) elements of each channel along axis 0. Tensors of
    /// one axis take `Blocks::new([32])`.
    pub const fn blocks() -> PerSubChannel {
        PerSubChannel::runs(Axis(0), Self::BLOCK)
    }

    /// The width of a code.
    pub fn bits(&self) -> BitWidth {
        self.element.table().bits()
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        let scheme = LevelScheme::new(self.element.table()).with_scales(Minifloat::E8M0.into());
        scheme.with_rule(ScaleRule::SharedExponent(self.mode))
    }
}

on_levels!(Mx);

/// `mx(e2m1, scale-mode=floor, calibration=minmax)`
impl fmt::Display for Mx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { element, mode, calibration } = self;
        write!(f, "mx({element}, scale-mode={mode}, calibration={calibration})")
    }
}
