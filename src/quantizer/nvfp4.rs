//! NVFP4: blocks of 16 E2M1 elements under E4M3 scales, and these under a scale of the tensor.
//!
//! NVIDIA 2025, *Pretraining Large Language Models with NVFP4*, appendix C, and torchao's `nvfp4_quantize`:
//!
//! ```text
//! s_tensor = max |x| / (6 · 448)                                                      f32
//! s_b      = RNE_E4M3(clamp((max over the block of |x|) / 6 / s_tensor, ε, 448))      E4M3
//! q        = RNE_E2M1(x / (s_tensor · s_b)),    |q| ≤ 6                               E2M1
//! ```

use core::fmt;
use std::sync::Arc;

use ndarray::Axis;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax};
use crate::error::ConfigError;
use crate::granularity::PerSubChannel;
use crate::minifloat::Minifloat;
use crate::tensor::{LevelScheme, LevelTable, TwoLevel};

use super::calibrated::on_levels;

/// NVFP4: E2M1 elements with an E4M3 scale for each block and an f32 scale for the tensor.
///
/// The blocks are a matter of granularity: [`NvFp4::blocks`] are those of the format. Codes are chosen on the scales as
/// stored; arithmetic is f32, in the order above. ε is the smallest positive E4M3, 2^−9; a block of zeros has the scale
/// zero and comes back as zeros. (torchao's ε is the smallest normal number, 2^−6: there, blocks whose largest magnitude
/// is below 1/28672 of the tensor's lose resolution that they keep here.)
///
/// Default: minimum and maximum.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::Array2;
///
/// let weights = Array2::from_shape_fn((64, 64), |(i, j)| ((i * 64 + j) as f32 * 0.37).sin());
/// let q = NvFp4::new().granularity(NvFp4::blocks()).quantize(&weights)?;
/// assert_eq!(q.bits_per_element(), 4.0 + 8.0 / 16.0 + 32.0 / 4096.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NvFp4 {
    calibration: Arc<dyn Calibration>,
}

impl NvFp4 {
    /// Elements of a block.
    pub const BLOCK: usize = 16;

    /// The format.
    pub fn new() -> Self {
        Self { calibration: Arc::new(MinMax) }
    }

    /// The blocks of the format: runs of [`BLOCK`](Self::BLOCK) elements of each channel along axis 0. Tensors of one
    /// axis take `Blocks::new([16])`.
    pub const fn blocks() -> PerSubChannel {
        PerSubChannel::runs(Axis(0), Self::BLOCK)
    }

    /// The width of a code: 4.
    pub const fn bits(&self) -> BitWidth {
        BitWidth::holding(15)
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        let scales = TwoLevel::minifloat(Minifloat::E4M3FN).into();
        Ok(LevelScheme::new(LevelTable::minifloat(Minifloat::E2M1)).with_scales(scales))
    }
}

impl Default for NvFp4 {
    fn default() -> Self {
        Self::new()
    }
}

on_levels!(NvFp4);

/// `nvfp4(calibration=minmax)`
impl fmt::Display for NvFp4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nvfp4(calibration={})", self.calibration)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, Ix2, s};

    use super::super::testing::{blocks, fnv, hash_of};
    use super::*;
    use crate::calibration::Mse;
    use crate::metrics::sqnr;
    use crate::quantizer::Mx;
    use crate::recipe::QuantizerExt;
    use crate::tensor::{Grids, QuantizedTensor, ScaleArray, TwoLevelScales};

    fn scales(q: &QuantizedTensor) -> &TwoLevelScales {
        match q.grids() {
            Grids::Levels(grids) => match grids.scales() {
                ScaleArray::TwoLevel(scales) => scales,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn outer(q: &QuantizedTensor) -> f32 {
        match scales(q).codes().map(QuantizedTensor::grids) {
            Some(Grids::Levels(grids)) => grids.scales().get(0).unwrap() as f32,
            other => panic!("{other:?}"),
        }
    }

    fn codes_of_scales(q: &QuantizedTensor) -> Vec<u8> {
        scales(q).codes().unwrap().codes().iter().map(|code| code as u8).collect()
    }

    #[test]
    fn codes_are_those_of_the_rule() {
        // A NumPy transcription of the rule in f32, with the casts of ml_dtypes 0.6.0. 136 of the scales are below the
        // smallest E4M3, and one block of sixteen is zero.
        let x = blocks(512, 16, 2, 100, 24);
        assert_eq!(hash_of(&x), 0xfd2cd5c6d93380b8);
        let q = NvFp4::new().granularity(NvFp4::blocks()).quantize(&x).unwrap();
        assert_eq!(outer(&q).to_bits(), 0x383783af);
        assert_eq!(fnv(codes_of_scales(&q)), 0x3e6e971baeb9e4fc);
        assert_eq!(fnv(q.codes().iter().map(|code| code as u8)), 0x08caaf0a737fb457);
    }

    #[test]
    fn the_scale_of_the_tensor_is_rounded_once() {
        for k in 0..2000u32 {
            let x = f32::from_bits(0x3F80_0000 + k * 4001);
            let q = NvFp4::new().quantize(&Array1::from_vec(vec![x, -x / 3.0])).unwrap();
            assert_eq!(outer(&q), x / 2688.0, "{x}");
            assert_eq!(codes_of_scales(&q), [0x7E]);
        }
    }

    #[test]
    fn zeros_and_extremes() {
        let recipe = NvFp4::new().granularity(NvFp4::blocks());
        let zeros = recipe.quantize(&Array2::<f32>::zeros((2, 32))).unwrap();
        assert!(zeros.dequantize::<f32, Ix2>().unwrap().iter().all(|&value| value == 0.0));
        // A block of zeros does not count among the scales, and a tiny block is not lost.
        let mut x = Array2::<f32>::from_elem((1, 48), 1e-3);
        x.slice_mut(s![0, 16..32]).fill(0.0);
        x.slice_mut(s![0, 32..]).fill(1.2e-9);
        let q = recipe.quantize(&x).unwrap();
        assert_eq!(outer(&q), 1e-3f32 / 2688.0);
        assert_eq!(codes_of_scales(&q), [0x7E, 0, 1]);
        // 1.2e-9 is 1.65 times the smallest E4M3 under the outer scale.
        assert_eq!(q.code(32), Some(3));
        for magnitude in [f32::MAX, 1e38, f32::MIN_POSITIVE, 1e-44] {
            let x = Array2::from_shape_fn((4, 16), |(i, j)| {
                magnitude / (1 + i) as f32 * if j % 2 == 0 { 1.0 } else { -0.7 }
            });
            let back = recipe.quantize(&x).unwrap().dequantize::<f32, Ix2>().unwrap();
            assert!(back.iter().all(|value| value.is_finite()), "{magnitude:e}: {back}");
            if magnitude > 1.0 {
                assert!(
                    sqnr(&x.mapv(|x| x / 1e30), &back.mapv(|x| x / 1e30)).unwrap() > 15.0,
                    "{magnitude:e}"
                );
            }
        }
        assert!(recipe.quantize(&Array2::from_elem((1, 16), 1e300f64)).is_err());
        assert!(recipe.quantize(&Array2::from_elem((1, 16), f32::NAN)).is_err());
    }

    #[test]
    fn finer_scales_are_better_than_powers_of_two() {
        let mut random = crate::solve::samples::SplitMix64(11);
        let x = Array2::from_shape_fn((64, 256), |_| random.normal() as f32);
        let figure = |recipe: crate::Recipe| {
            sqnr(&x, &recipe.quantize(&x).unwrap().dequantize::<f32, Ix2>().unwrap()).unwrap()
        };
        let nvfp4 = figure(NvFp4::new().granularity(NvFp4::blocks()));
        let mxfp4 = figure(Mx::fp4().granularity(Mx::blocks()));
        let searched = figure(NvFp4::new().calibration(Mse).granularity(NvFp4::blocks()));
        assert!(nvfp4 > mxfp4 + 1.0, "{nvfp4} {mxfp4}");
        assert!(searched > nvfp4 + 0.3, "{searched} {nvfp4}");
    }
}
