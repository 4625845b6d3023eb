//! How a value gets its code: rounding, numeric dialect, and the policy for non-finite values.

use core::fmt;
use core::str::FromStr;

use crate::error::ParseError;
use crate::names::{self, named};
use crate::text;

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
    /// To one of the two neighbouring grid values at random, the nearer the likelier, so that the mean is the value
    /// itself (Gupta et al. 2015, *Deep learning with limited numerical precision*).
    ///
    /// The number of an element is 16 bits of the generator [`Ars`](crate::random::Ars) of this seed: element i
    /// takes half-word i mod 8 of block ⌊i/8⌋, low half first, and `u = (k + ½)/65536`; it goes up if u lies below the
    /// distance from the lower neighbour, as a share of the distance between both. So the result is a function of
    /// (seed, index), whatever the threads and the layout, and the bias is at most 2^-17 of a step.
    ///
    /// On affine grids numbers and codes come from one loop over vectors, in which a processor with instructions for AES
    /// spends less on the numbers than on the rounding.
    Stochastic {
        /// The seed of the generator.
        seed: u64,
    },
    /// On grids of two levels −α and α: up with the probability `σ(r/α) = 1/(1 + e^(−r/α))` (survey, III-H). The
    /// numbers are those of [`Stochastic`](Self::Stochastic), which on two levels is the *hard* sigmoid
    /// `clip((r/α + 1)/2, 0, 1)` of BinaryConnect (Courbariaux et al. 2015).
    StochasticSigmoid {
        /// The seed of the generator.
        seed: u64,
    },
}

impl Rounding {
    /// The seed of a stochastic rounding.
    pub const fn seed(self) -> Option<u64> {
        match self {
            Self::Stochastic { seed } | Self::StochasticSigmoid { seed } => Some(seed),
            _ => None,
        }
    }
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
/// let recipe = Recipe::new(Uniform::symmetric(BitWidth::new(9)?));
/// let code = |dialect| -> lowbit::Result<Option<i32>> {
///     let frozen = Frozen::with_scales(&recipe.clone().dialect(dialect), &[1], [scale], [])?;
///     Ok(frozen.quantize(&x)?.code(0))
/// };
/// assert_eq!(code(Dialect::Onnx)?, Some(127));
/// assert_eq!(code(Dialect::Torch)?, Some(128));
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
    /// Calibrations skip non-finite values; a NaN gets the code of NaN. For minifloats that have one.
    Propagate,
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

const NAMES: [&str; 7] = [
    "nearest-even",
    "nearest-away",
    "floor",
    "ceil",
    "toward-zero",
    "stochastic=SEED",
    "stochastic-sigmoid=SEED",
];

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NearestEven => "nearest-even",
            Self::NearestAway => "nearest-away",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::TowardZero => "toward-zero",
            Self::Stochastic { seed } => return f.pad(&format!("stochastic={seed}")),
            Self::StochasticSigmoid { seed } => return f.pad(&format!("stochastic-sigmoid={seed}")),
        })
    }
}

impl FromStr for Rounding {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Ok(match text {
            "nearest-even" => Self::NearestEven,
            "nearest-away" => Self::NearestAway,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            "toward-zero" => Self::TowardZero,
            _ => {
                let seed = |text: &str| text::number("seed", text.trim());
                match text.split_once('=') {
                    Some(("stochastic", text)) => Self::Stochastic { seed: seed(text)? },
                    Some(("stochastic-sigmoid", text)) => Self::StochasticSigmoid { seed: seed(text)? },
                    _ => return Err(names::unknown("rounding", text, &NAMES)),
                }
            }
        })
    }
}

named!(Dialect, "dialect", [
    Onnx => "onnx",
    Torch => "torch",
    FbgemmLegacy => "fbgemm-legacy",
    OpenVino => "openvino",
    Aimet => "aimet",
    Hqq => "hqq",
    Gptq => "gptq",
]);
named!(NonFinite, "policy for non-finite values", [
    Error => "error",
    NanToZero => "nan-to-zero",
    NanToLowest => "nan-to-lowest",
    Propagate => "propagate",
]);
