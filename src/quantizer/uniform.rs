//! Uniform quantization (survey, III-B): `q = clamp(round(r / S) + Z, q_min, q_max)`, `r̃ = S · (q − Z)`.
//!
//! Gholami et al. 2021, *A Survey of Quantization Methods for Efficient Neural Network Inference*, equations
//! 2 to 4; symmetric and asymmetric, full and restricted range. The mid-rise grid is that of J. Max 1960,
//! *Quantizing for minimum distortion*, table II.

use core::fmt;
use std::sync::Arc;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax, Region, Regions};
use crate::element::FloatType;
use crate::error::{ConfigError, Result};
use crate::granularity::Tiling;
use crate::names::named;
use crate::tensor::{
    AffineScheme, CodeRange, Encoding, Grids, Notes, QuantizedTensor, ScaleOverflow, ScaleStorage, Scheme,
    TensorView,
};

use super::calibrated::fit_and_encode_calibrated;
use super::{Fit, Quantizer, fit_all_calibrated, fit_calibrated};

/// Which codes a symmetric grid uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SymmetricRange {
    /// `−(2^(b−1) − 1)` to `2^(b−1) − 1`, with `S = max|r| / (2^(b−1) − 1)`. The default. It needs 2 bits.
    #[default]
    Restricted,
    /// All 2^b codes, with `S = 2·max|r| / (2^b − 1)` (some copies of the survey misprint `/ 2^(b−1)`). There
    /// is one level more below zero than above.
    Full,
    /// All 2^b codes at odd multiples of S/2, with `S = 2·max|r| / 2^b`: no level at zero. With nearest
    /// rounding this is the survey's full range with floor rounding and reconstruction in mid-cell.
    MidRise,
}

/// Whether codes are stored with a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codes {
    /// Two's complement. The default of symmetric grids.
    Signed,
    /// From zero on; symmetric grids have `Z = 2^(b−1)`. The default of asymmetric grids.
    Unsigned,
}

named!(SymmetricRange, "range", [Restricted => "restricted", Full => "full", MidRise => "mid-rise"]);
named!(Codes, "codes", [Signed => "signed", Unsigned => "unsigned"]);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Symmetry {
    Symmetric,
    Asymmetric,
    AsymmetricReal,
}

named!(Symmetry, "symmetry", [
    Symmetric => "symmetric",
    Asymmetric => "asymmetric",
    AsymmetricReal => "asymmetric-real",
]);

/// Uniform quantization.
///
/// Defaults: minimum and maximum, f32 scales; symmetric grids are restricted with signed codes, asymmetric
/// ones unsigned. Settings that exclude each other (a restricted range at 1 bit, a symmetric range on an
/// asymmetric grid) are reported by [`scheme`](Quantizer::scheme), and so by the first use.
///
/// ```
/// use lowbit::prelude::*;
///
/// let weights = ndarray::array![-1.0f32, 0.3, 0.9];
/// let q = Uniform::symmetric(BitWidth::new(4)?).quantize(&weights)?;
/// assert_eq!(q.codes().unpack(), [-7, 2, 6]);
///
/// // Values 0 to 6 on unsigned codes, zero exactly representable.
/// let q = Uniform::asymmetric(BitWidth::EIGHT).quantize(&ndarray::array![0.0f32, 1.2, 6.0])?;
/// assert_eq!(q.codes().as_u8(), Some(&[0u8, 51, 255][..]));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Uniform {
    bits: BitWidth,
    symmetry: Symmetry,
    range: Option<SymmetricRange>,
    codes: Option<Codes>,
    code_range: Option<CodeRange>,
    scales: ScaleStorage,
    overflow: ScaleOverflow,
    calibration: Arc<dyn Calibration>,
}

impl Uniform {
    /// A grid symmetric about zero: for weights.
    pub fn symmetric(bits: BitWidth) -> Self {
        Self::new(bits, Symmetry::Symmetric)
    }

    /// A grid with an integer zero point per region; its range is widened to hold zero, which is a grid
    /// value: for activations.
    pub fn asymmetric(bits: BitWidth) -> Self {
        Self::new(bits, Symmetry::Asymmetric)
    }

    /// A grid with a real zero point per region; its range need not hold zero. As in HQQ, LSQ+ and Q4_1.
    pub fn asymmetric_real(bits: BitWidth) -> Self {
        Self::new(bits, Symmetry::AsymmetricReal)
    }

    pub(crate) fn new(bits: BitWidth, symmetry: Symmetry) -> Self {
        Self {
            bits,
            symmetry,
            range: None,
            codes: None,
            code_range: None,
            scales: ScaleStorage::Float(FloatType::F32),
            overflow: ScaleOverflow::Error,
            calibration: Arc::new(MinMax),
        }
    }

    /// Which codes a symmetric grid uses. It does not apply to asymmetric grids, which use all.
    pub fn range(mut self, range: SymmetricRange) -> Self {
        self.range = Some(range);
        self
    }

    /// Whether codes are stored with a sign.
    pub fn codes(mut self, codes: Codes) -> Self {
        self.codes = Some(codes);
        self
    }

    /// Exactly these codes, within the bit width: `−64..=63` for accumulators of 16 bits, say. The scale is
    /// `2·max|r| / (q_max − q_min)` on symmetric grids. It replaces [`range`](Self::range) and
    /// [`codes`](Self::codes).
    pub fn code_range(mut self, codes: CodeRange) -> Self {
        self.code_range = Some(codes);
        self
    }

    /// How ranges are found.
    pub fn calibration(mut self, calibration: impl Calibration + 'static) -> Self {
        self.calibration = Arc::new(calibration);
        self
    }

    /// The storage type of scales and real zero points. A scale that it cannot hold is an error.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.scales = storage.into();
        self
    }

    /// Lets scales that their type cannot hold move the whole tensor to the next larger type; the quantized
    /// tensor says so.
    pub fn widen_scales(mut self) -> Self {
        self.overflow = ScaleOverflow::Widen;
        self
    }

    fn affine_scheme(&self) -> Result<AffineScheme, ConfigError> {
        let Self { bits, range, codes, code_range, .. } = *self;
        let symmetric = self.symmetry == Symmetry::Symmetric;
        if range.is_some() && !symmetric {
            return Err(ConfigError::Conflict { setting: "a symmetric range", to: "an asymmetric grid" });
        }
        if code_range.is_some() && (range.is_some() || codes.is_some()) {
            return Err(ConfigError::Conflict { setting: "a range or sign of codes", to: "given codes" });
        }
        let signed = codes.map_or(symmetric, |codes| codes == Codes::Signed);
        let all = if signed { CodeRange::signed(bits) } else { CodeRange::unsigned(bits) };
        let scheme = match (self.symmetry, code_range) {
            (Symmetry::Symmetric, Some(codes)) => AffineScheme::symmetric(bits, codes)?,
            (Symmetry::Symmetric, None) => match range.unwrap_or_default() {
                SymmetricRange::Restricted if bits.get() == 1 => return Err(ConfigError::RestrictedOneBit),
                SymmetricRange::Restricted => {
                    AffineScheme::symmetric(bits, CodeRange::new(all.min() + 1, all.max())?)?
                }
                SymmetricRange::Full => AffineScheme::symmetric(bits, all)?,
                SymmetricRange::MidRise => AffineScheme::mid_rise(bits, signed),
            },
            (Symmetry::Asymmetric, codes) => AffineScheme::asymmetric(bits, codes.unwrap_or(all))?,
            (Symmetry::AsymmetricReal, codes) => AffineScheme::asymmetric_real(bits, codes.unwrap_or(all))?,
        };
        Ok(scheme.with_storage(self.scales, self.overflow))
    }
}

impl Quantizer for Uniform {
    fn scheme(&self) -> Result<Scheme> {
        Ok(self.affine_scheme()?.into())
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> Result<Fit> {
        fit_calibrated(&self.calibration, region, scheme)
    }

    fn fit_all(
        &self,
        regions: &Regions<'_, '_>,
        scheme: &Scheme,
        grids: &mut Grids,
        notes: &mut Notes,
    ) -> Result<()> {
        fit_all_calibrated(&self.calibration, regions, scheme, grids, notes)
    }

    fn fit_and_encode(
        &self,
        tensor: &TensorView<'_>,
        tiling: Tiling,
        encoding: &Encoding,
        recipe: Option<Arc<str>>,
        out: &mut QuantizedTensor,
    ) -> Result<()> {
        fit_and_encode_calibrated((self, &self.calibration), tensor, tiling, encoding, recipe, out)
    }
}

/// `uniform(bits=4, symmetry=symmetric, range=restricted, codes=signed, scales=f32, calibration=minmax)`
impl fmt::Display for Uniform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uniform(bits={}, symmetry={}", self.bits, self.symmetry)?;
        let symmetric = self.symmetry == Symmetry::Symmetric;
        match self.code_range {
            Some(codes) => write!(f, ", code-range={codes}")?,
            None => {
                // What was set is written even where it does not apply, so that the text tells of it.
                if let Some(range) = self.range.or(symmetric.then(SymmetricRange::default)) {
                    write!(f, ", range={range}")?;
                }
                let codes = self.codes.unwrap_or(if symmetric { Codes::Signed } else { Codes::Unsigned });
                write!(f, ", codes={codes}")?;
            }
        }
        write!(f, ", scales={}", self.scales)?;
        if self.overflow == ScaleOverflow::Widen {
            f.write_str(", widen-scales=true")?;
        }
        write!(f, ", calibration={})", self.calibration)
    }
}
