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

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, Ix1, Ix2};

    use super::super::testing::{blocks, fnv, hash_of};
    use super::*;
    use crate::calibration::{Fixed, Mse};
    use crate::error::{DataError, Error};
    use crate::quantizer::Quantizer;
    use crate::recipe::QuantizerExt;
    use crate::tensor::{Grids, NonFinite, QuantizedTensor, Rounding, ScaleArray};

    const MODES: [ScaleMode; 4] = [ScaleMode::Floor, ScaleMode::Ceil, ScaleMode::RoundUp, ScaleMode::Even];

    /// Bytes of the scales.
    fn exponents(q: &QuantizedTensor) -> Vec<u8> {
        match q.grids() {
            Grids::Levels(grids) => match grids.scales() {
                ScaleArray::Minifloat { codes, .. } => codes.iter().map(|code| code as u8).collect(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn codes_are_those_of_the_specification() {
        // A NumPy transcription of the specification with the casts of ml_dtypes 0.6.0: hashes of the scale bytes and
        // of the codes, one byte each.
        let x = blocks(512, 32, 1, 1, 245);
        assert_eq!(hash_of(&x), 0x9e82409e0f3b029d);
        for (element, mode, scales, codes) in [
            ("e4m3", "floor", 0x687816e1e9a847b9, 0x07fabcecf293ad27),
            ("e4m3", "ceil", 0x7c0713689483116b, 0x11f04a274029aa6d),
            ("e4m3", "round-up", 0x5276d7e92214d38a, 0x531cf2f903e47bfd),
            ("e4m3", "even", 0x5f75ab4271e46070, 0xba56aa3521bf3cdb),
            ("e5m2", "floor", 0x738089e2cddde704, 0x0a51ed0e82902381),
            ("e5m2", "ceil", 0x0ccf543e1c473c48, 0x3e886fa11215e3f0),
            ("e5m2", "round-up", 0x238960a278c518f7, 0xe842938cb9022ff0),
            ("e5m2", "even", 0xe023e08bfdd3accb, 0x02710434fd2db820),
            ("e3m2", "floor", 0xaf4659818af9a483, 0x3ad7ff4bb2e500cf),
            ("e3m2", "ceil", 0x0439652edde3bbae, 0x624feb615d2f743d),
            ("e3m2", "round-up", 0xb2e8577aeda4cbb3, 0x40dc1f3029ca8bdd),
            ("e3m2", "even", 0x3a89b1d856470cc7, 0x28f3d2dbd6e0afb7),
            ("e2m3", "floor", 0x62ce3b77389f5b9e, 0x08ed64bd9b192e89),
            ("e2m3", "ceil", 0x9dc75604de3bd53b, 0x5f13304f93402b5f),
            ("e2m3", "round-up", 0xe24aad2e577b716d, 0x26c277c470ef551c),
            ("e2m3", "even", 0x70371f3a9ab3e068, 0x570b97359f236219),
            ("e2m1", "floor", 0x62ce3b77389f5b9e, 0xd04f9040bb179ec9),
            ("e2m1", "ceil", 0x9dc75604de3bd53b, 0x79c1ce93a25bf254),
            ("e2m1", "round-up", 0xa27e5784d8b04a13, 0xa1ed27e7d4727fef),
            ("e2m1", "even", 0xc0b77a3272062792, 0xa8b06f02504d1afa),
            ("int8", "floor", 0xb8401ed61ef4a467, 0xe2f028c4701119c6),
            ("int8", "ceil", 0x77a663d0c609e7ab, 0xf2657801151d5b8c),
            ("int8", "round-up", 0x53f87ff4eaf4a424, 0x3c113136e6ee20b6),
            ("int8", "even", 0x4575785f43af5bcf, 0x3d9ec9c4f8d49774),
        ] {
            let mx = Mx::new(element.parse().unwrap()).scale_mode(mode.parse().unwrap());
            let recipe = mx.granularity(Mx::blocks());
            for dialect in [crate::Dialect::Onnx, crate::Dialect::Torch] {
                let q = recipe.clone().dialect(dialect).quantize(&x).unwrap();
                assert_eq!(fnv(exponents(&q)), scales, "{element} {mode}");
                assert_eq!(fnv(q.codes().iter().map(|code| code as u8)), codes, "{element} {mode} {dialect}");
            }
            // One region at a time gives the same.
            let one: Vec<u8> = x
                .rows()
                .into_iter()
                .flat_map(|row| exponents(&recipe.quantize(&row.to_owned().insert_axis(Axis(0))).unwrap()))
                .collect();
            assert_eq!(fnv(one), scales);
        }
    }

    #[test]
    fn a_block_is_what_the_specification_says() {
        // amax 7: 2^(2 − 2); 7 saturates at 6, 2.5 and 0.25 are ties to even, 0.2 is nearer to 0.
        let x = Array1::from_vec(vec![7.0f32, 2.5, 3.5, 0.25, 0.75, -0.2, -5.0, 0.0]);
        let q = Mx::fp4().quantize(&x).unwrap();
        assert_eq!(q.dequantize::<f32, Ix1>().unwrap().to_vec(), [6.0, 2.0, 4.0, 0.0, 1.0, 0.0, -4.0, 0.0]);
        assert_eq!(exponents(&q), [127]);
        // microxcaling's rounding.
        let away = Mx::fp4().rounding(Rounding::NearestAway).quantize(&x).unwrap();
        let away = away.dequantize::<f32, Ix1>().unwrap();
        assert_eq!(away.to_vec(), [6.0, 3.0, 4.0, 0.5, 1.0, 0.0, -6.0, 0.0]);
        let up = Mx::fp4().scale_mode(ScaleMode::RoundUp).quantize(&x).unwrap();
        assert_eq!((up.code(0), exponents(&up)), (Some(6), vec![128]));
        // 127/64 is the largest of MXINT8, −2 becomes −127/64.
        let q = Mx::int8().quantize(&Array1::from_vec(vec![1.0f32, 1.999, -1.999, 1.5 / 64.0])).unwrap();
        assert_eq!(q.codes().as_u8(), Some(&[64u8, 127, 129, 2][..]));
    }

    #[test]
    fn zeros_and_extremes() {
        for element in MxElement::ALL {
            for mode in MODES {
                let mx = Mx::new(element).scale_mode(mode);
                let zeros = mx.quantize(&Array1::<f32>::zeros(40)).unwrap();
                assert_eq!(exponents(&zeros), [0]);
                assert!(zeros.dequantize::<f32, Ix1>().unwrap().iter().all(|&value| value == 0.0));
                // Subnormals have the scale 2^−127 where a smaller one would fit, and the largest number stays finite.
                let small = Array1::from_vec(vec![1e-44f32, -3e-45, 0.0]);
                let q = mx.quantize(&small).unwrap();
                assert_eq!(exponents(&q)[0], 0, "{element} {mode}");
                let large = Array1::from_vec(vec![f32::MAX, -f32::MAX, 1e38, 0.0]);
                let back = mx.quantize(&large).unwrap().dequantize::<f32, Ix1>().unwrap();
                assert!(back.iter().all(|value| value.is_finite()), "{element} {mode}: {back}");
                assert!(back[0] >= f32::MAX / 2.0 && back[1] == -back[0]);
                // In f64 there are larger ones.
                let beyond = mx.quantize(&Array1::from_vec(vec![1.0f64, -1e300]));
                assert!(
                    matches!(beyond, Err(Error::Data(DataError::ScaleStorage { region: 0, .. }))),
                    "{element} {mode}: {beyond:?}"
                );
            }
            let nan = Mx::new(element).quantize(&Array1::from_vec(vec![1.0f32, f32::NAN]));
            assert!(matches!(nan, Err(Error::Data(DataError::NotANumber { index })) if index == [1]));
            let infinite = Mx::new(element).quantize(&Array1::from_vec(vec![f32::INFINITY]));
            assert!(matches!(infinite, Err(Error::Data(DataError::Infinite { .. }))));
            let range = Fixed::new(-1.0, 1.0).unwrap();
            let q =
                Mx::new(element).calibration(range).quantize(&Array1::from_vec(vec![f32::NEG_INFINITY, 0.5]));
            let back = q.unwrap().dequantize::<f64, Ix1>().unwrap();
            assert_eq!(back.to_vec(), [element.table().bottom() * 2f64.powi(exponents_of_one(element)), 0.5]);
            let propagated = Mx::new(element).non_finite(NonFinite::Propagate);
            let propagated = propagated.quantize(&Array1::from_vec(vec![1.0f32, f32::NAN]));
            match element {
                MxElement::Fp8E4M3 | MxElement::Fp8E5M2 => {
                    assert!(propagated.unwrap().dequantize::<f32, Ix1>().unwrap()[1].is_nan());
                }
                _ => assert!(matches!(propagated, Err(Error::Config(_)))),
            }
        }
    }

    /// The exponent of a block whose largest magnitude is 1.
    fn exponents_of_one(element: MxElement) -> i32 {
        -element.table().top().log2().floor() as i32
    }

    #[test]
    fn least_squared_error_is_never_worse() {
        let x = blocks(64, 32, 7, 100, 50);
        let errors = |recipe: crate::Recipe| -> Vec<f64> {
            let back = recipe.quantize(&x).unwrap().dequantize::<f32, Ix2>().unwrap();
            let error = |(x, y): (ndarray::ArrayView1<'_, f32>, ndarray::ArrayView1<'_, f32>)| {
                x.iter().zip(y).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>()
            };
            x.rows().into_iter().zip(back.rows()).map(error).collect()
        };
        let mut gain = 0;
        for element in MxElement::ALL {
            let mse = errors(Mx::new(element).calibration(Mse).granularity(Mx::blocks()));
            for mode in MODES {
                let searched =
                    errors(Mx::new(element).scale_mode(mode).calibration(Mse).granularity(Mx::blocks()));
                assert_eq!(searched, mse, "{element} {mode}: the mode has no say");
                let plain = errors(Mx::new(element).scale_mode(mode).granularity(Mx::blocks()));
                for (plain, searched) in plain.iter().zip(&searched) {
                    assert!(searched <= &(plain * (1.0 + 1e-12)), "{element} {mode}: {searched} {plain}");
                    gain += usize::from(*searched < 0.9 * plain);
                }
            }
        }
        assert!(gain > 100, "{gain}");
    }

    #[test]
    fn bits_and_text() {
        let bits: Vec<u32> = MxElement::ALL.map(|element| Mx::new(element).bits().get()).to_vec();
        assert_eq!(bits, [8, 8, 6, 6, 4, 8]);
        let scheme = Mx::fp6_e2m3().scheme().unwrap();
        assert_eq!(scheme.to_string(), "e2m3 levels, 6-bit codes, e8m0 scales by shared-exponent(floor)");
        let q = Mx::fp6_e3m2().granularity(Mx::blocks()).quantize(&Array2::<f32>::ones((2, 40))).unwrap();
        assert_eq!(q.bits_per_element(), 6.0 + 4.0 * 8.0 / 80.0);
    }
}
