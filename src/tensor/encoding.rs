//! How a value gets its code: rounding, numeric dialect, and the policy for non-finite values.

use core::fmt;
use core::str::FromStr;

use crate::error::{ParseError, name_of, parse_name};

/// How a value between two grid points is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Rounding {
    /// To the nearest, ties to the even code. The default, and that of ONNX and PyTorch.
    #[default]
    NearestEven,
    /// To the nearest, ties away from zero: `roundf` of C.
    NearestAway,
    /// Toward −∞.
    Floor,
    /// Toward +∞.
    Ceil,
    /// Toward zero: a cast in C.
    TowardZero,
}

impl Rounding {
    pub(crate) const NAMES: [(Self, &'static str); 5] = [
        (Self::NearestEven, "nearest-even"),
        (Self::NearestAway, "nearest-away"),
        (Self::Floor, "floor"),
        (Self::Ceil, "ceil"),
        (Self::TowardZero, "toward-zero"),
    ];
}

/// Whose arithmetic the codes agree with, bit for bit.
///
/// With step S and zero point Z in the notation `r̃ = S · (q − Z)`, all computed in f32 (f64 for f64 tensors
/// or scales), `round` being the [`Rounding`] and `sat` the saturation to the code range:
///
/// | dialect | code | of |
/// |---|---|---|
/// | [`Onnx`](Self::Onnx) | `sat(round(x / S) + Z)` | ONNX QuantizeLinear; the default |
/// | [`Torch`](Self::Torch) | `sat(round(x · (1/S)) + Z)` | PyTorch and torchao; FBGEMM without its legacy mode |
/// | [`FbgemmLegacy`](Self::FbgemmLegacy) | `sat(round(Z + x · (1/S)))` | FBGEMM by default |
/// | [`OpenVino`](Self::OpenVino) | `q_min + sat(round((x − lo) / (hi − lo) · steps))`, `lo = S(q_min − Z)`, `hi = S(q_max − Z)` | OpenVINO FakeQuantize |
/// | [`Aimet`](Self::Aimet) | `sat(round(x / S) − offset)`, `offset = −Z` | AIMET; the codes of `Onnx` |
/// | [`Hqq`](Self::Hqq) | `sat(round(x · (1/S) + Z))` | HQQ, whose `scale` is 1/S; the codes of `FbgemmLegacy` |
/// | [`Gptq`](Self::Gptq) | `sat(round(x / S + Z))` | GPTQ |
///
/// A zero point that is not an integer is always added before rounding, as there is no other way to use it.
/// Where `hi − lo` overflows for a region, `OpenVino` gives the codes of `Gptq` for the tensor. Values are decoded
/// as `S · (q − Z)` in every dialect.
///
/// ```
/// use lowbit::{Dialect, prelude::*};
/// use ndarray::arr1;
///
/// // x / S is just below 127.5, and x · (1/S) is rounded up to it.
/// let (x, scale) = (arr1(&[0.273939937f32]), 0.00214854861);
/// let scheme = Uniform::symmetric(BitWidth::EIGHT).codes(Codes::Unsigned).scheme()?;
/// let recipe = Uniform::symmetric(BitWidth::EIGHT).codes(Codes::Unsigned).granularity(PerLayer);
/// let code = |dialect| -> lowbit::Result<i32> {
///     let frozen = Frozen::with_scales(&recipe.clone().dialect(dialect), &[1], [scale], [128.0])?;
///     Ok(frozen.quantize(&x)?.code(0).unwrap_or_default() - 128)
/// };
/// assert_eq!(code(Dialect::Onnx)?, 127);
/// # let _ = scheme;
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Dialect {
    /// Divides, and adds the zero point to the rounded quotient. The default.
    #[default]
    Onnx,
    /// Multiplies by the reciprocal of the scale, and adds the zero point to the rounded product.
    Torch,
    /// Multiplies by the reciprocal, and rounds the sum with the zero point.
    FbgemmLegacy,
    /// Scales the position between the ends of the range by the number of steps.
    OpenVino,
    /// Divides, and subtracts the offset −Z.
    Aimet,
    /// Multiplies by the reciprocal step, which it calls scale, and rounds the sum with the zero point.
    Hqq,
    /// Divides, and rounds the sum with the zero point.
    Gptq,
}

impl Dialect {
    pub(crate) const NAMES: [(Self, &'static str); 7] = [
        (Self::Onnx, "onnx"),
        (Self::Torch, "torch"),
        (Self::FbgemmLegacy, "fbgemm-legacy"),
        (Self::OpenVino, "openvino"),
        (Self::Aimet, "aimet"),
        (Self::Hqq, "hqq"),
        (Self::Gptq, "gptq"),
    ];
}

/// What happens to NaN and ±∞.
///
/// Whatever the policy, an infinity saturates against a range that is given ([`Fixed`] or [`Frozen`]), and
/// no scale ever becomes non-finite.
///
/// [`Fixed`]: crate::calibration::Fixed
/// [`Frozen`]: crate::recipe::Frozen
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum NonFinite {
    /// A NaN is an error that names its index, and so is an infinity while calibrating. The default.
    #[default]
    Error,
    /// Calibrations skip non-finite values; a NaN gets the code of zero.
    NanToZero,
    /// Calibrations skip non-finite values; a NaN gets the lowest code.
    NanToLowest,
}

impl NonFinite {
    pub(crate) const NAMES: [(Self, &'static str); 3] =
        [(Self::Error, "error"), (Self::NanToZero, "nan-to-zero"), (Self::NanToLowest, "nan-to-lowest")];
}

/// How values get their codes on given grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Encoding {
    /// How a value between two grid points is rounded.
    pub rounding: Rounding,
    /// Whose arithmetic the codes agree with.
    pub dialect: Dialect,
    /// What happens to NaN and ±∞.
    pub non_finite: NonFinite,
}

macro_rules! named {
    ($type:ty, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(name_of(&Self::NAMES, *self))
            }
        }

        impl FromStr for $type {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                parse_name($what, &Self::NAMES, text)
            }
        }
    };
}

named!(Rounding, "rounding");
named!(Dialect, "dialect");
named!(NonFinite, "policy for non-finite values");
