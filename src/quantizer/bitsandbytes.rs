//! The 4-bit float and the dynamic 8-bit maps of bitsandbytes.
//!
//! Dettmers, Lewis, Shleifer and Zettlemoyer 2022, *8-bit Optimizers via Block-wise Quantization*, section 2: for each
//! block B with `N = max |T_B|`,
//!
//! ```text
//! q = argmin over j of |Q_map(j) − T_b / N|
//! ```
//!
//! where Q_map is dynamic tree quantization (Dettmers 2016, *8-Bit Approximations for Parallelism in Deep Learning*):
//! the number of leading zeros is a decimal exponent, the rest a linear fraction. The 4-bit float is that of the library
//! beside Dettmers et al. 2023, *QLoRA*; it is not OCP's E2M1, and its smallest positive value is 1/16 of that one's.

use core::fmt;
use std::sync::Arc;

use ndarray::Axis;

use crate::bits::BitWidth;
use crate::calibration::{Calibration, MinMax};
use crate::element::FloatType;
use crate::error::ConfigError;
use crate::granularity::PerSubChannel;
use crate::tensor::{LevelScheme, LevelTable, ScaleStorage, TwoLevel};

use super::calibrated::on_levels;

/// The 4-bit float of bitsandbytes: {0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3, 1} with either sign, times the largest
/// magnitude of each region.
///
/// For OCP's E2M1 see [`FloatingPoint::e2m1`](super::FloatingPoint::e2m1). Codes are those of the library with
/// [`Dialect::Torch`](crate::Dialect::Torch). A negative value near zero gets the code of a second zero.
///
/// Defaults: minimum and maximum, f32 scales.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::{Ix1, array};
///
/// let q = BitsandbytesFp4::new().quantize(&array![12.0f32, 0.0625, -5.2, 0.02])?;
/// let restored = q.dequantize::<f32, Ix1>()?;
/// assert!((restored[1] - 0.0625).abs() < 1e-6 && restored[2] == -6.0 && restored[3] == 0.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BitsandbytesFp4 {
    scales: ScaleStorage,
    calibration: Arc<dyn Calibration>,
}

impl BitsandbytesFp4 {
    /// Elements of a block in the library.
    pub const BLOCK: usize = 64;

    /// The format.
    pub fn new() -> Self {
        Self { scales: FloatType::F32.into(), calibration: Arc::new(MinMax) }
    }

    /// The blocks of the format: runs of [`BLOCK`](Self::BLOCK) elements of each channel along axis 0. Tensors of one
    /// axis take `Blocks::new([64])`.
    pub const fn blocks() -> PerSubChannel {
        PerSubChannel::runs(Axis(0), Self::BLOCK)
    }

    /// Scales that are quantized themselves: [`TwoLevel::double_quantization`].
    pub fn double_quantized(self) -> Self {
        self.scales(TwoLevel::double_quantization())
    }

    /// How scales are stored. The default is f32.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.scales = storage.into();
        self
    }

    /// The width of a code: 4.
    pub const fn bits(&self) -> BitWidth {
        BitWidth::holding(15)
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        Ok(LevelScheme::new(LevelTable::bitsandbytes_fp4()).with_scales(self.scales))
    }
}

impl Default for BitsandbytesFp4 {
    fn default() -> Self {
        Self::new()
    }
}

on_levels!(BitsandbytesFp4);

/// `bitsandbytes-fp4(scales=f32, calibration=minmax)`
impl fmt::Display for BitsandbytesFp4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bitsandbytes-fp4(scales={}, calibration={})", self.scales, self.calibration)
    }
}

/// The dynamic 8-bit map: seven decades, with more levels in the larger ones, times the largest magnitude of each
/// region. For the states of optimizers, whose magnitudes differ widely.
///
/// There is no −1 in the signed map, so the largest magnitude comes back exactly only if it is positive. Codes are those
/// of the library's GPU kernels with [`Dialect::Torch`](crate::Dialect::Torch).
///
/// Defaults: signed, minimum and maximum, f32 scales.
///
/// ```
/// use lowbit::prelude::*;
/// use ndarray::{Array2, Ix2};
///
/// let state = Array2::from_shape_fn((4, 256), |(i, j)| 10f32.powi(-(i as i32)) * (j as f32).cos());
/// let q = DynamicMap::signed().granularity(DynamicMap::blocks()).quantize(&state)?;
/// assert!(sqnr(&state, &q.dequantize::<f32, Ix2>()?)? > 40.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DynamicMap {
    signed: bool,
    scales: ScaleStorage,
    calibration: Arc<dyn Calibration>,
}

impl DynamicMap {
    /// Elements of a block in the library.
    pub const BLOCK: usize = 256;

    /// The map of both signs.
    pub fn signed() -> Self {
        Self { signed: true, scales: FloatType::F32.into(), calibration: Arc::new(MinMax) }
    }

    /// The map without negative values, which has twice as many positive ones.
    pub fn unsigned() -> Self {
        Self { signed: false, ..Self::signed() }
    }

    /// The blocks of the library: runs of [`BLOCK`](Self::BLOCK) elements of each channel along axis 0. Tensors of one
    /// axis take `Blocks::new([256])`.
    pub const fn blocks() -> PerSubChannel {
        PerSubChannel::runs(Axis(0), Self::BLOCK)
    }

    /// How scales are stored. The default is f32.
    pub fn scales(mut self, storage: impl Into<ScaleStorage>) -> Self {
        self.scales = storage.into();
        self
    }

    /// The width of a code: 8.
    pub const fn bits(&self) -> BitWidth {
        BitWidth::EIGHT
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        Ok(LevelScheme::new(LevelTable::dynamic(self.signed)).with_scales(self.scales))
    }
}

on_levels!(DynamicMap);

/// `dynamic(signed=true, scales=f32, calibration=minmax)`
impl fmt::Display for DynamicMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signed, scales, calibration } = self;
        write!(f, "dynamic(signed={signed}, scales={scales}, calibration={calibration})")
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, Ix1, Ix2};

    use super::*;
    use crate::metrics::sqnr;
    use crate::quantizer::{FloatingPoint, Uniform};
    use crate::recipe::QuantizerExt;
    use crate::solve::samples::SplitMix64;
    use crate::tensor::Dialect;

    #[test]
    fn fp4_codes_are_those_of_bitsandbytes() {
        // dQuantizeFP4 of bitsandbytes 0.50.2, by magnitude: thresholds and the codes above them; the sign is bit 3.
        let thresholds = [
            (0.002_604_17_f32, 1),
            (0.085_937_5, 6),
            (0.208_333_33, 7),
            (0.291_666_67, 4),
            (0.416_666_7, 5),
            (0.583_333, 2),
            (0.833_333_3, 3),
        ];
        let around = thresholds.iter().flat_map(|(at, _)| [at.next_down(), *at, at.next_up()]);
        let magnitudes: Vec<f32> = around.chain([1.0, 1e-9]).collect();
        let x: Vec<f32> = magnitudes.iter().flat_map(|&x| [2.0 * x, -2.0 * x]).collect();
        let expected: Vec<i32> = x
            .iter()
            .map(|x| {
                let code =
                    thresholds.iter().rev().find(|(at, _)| x.abs() / 2.0 > *at).map_or(0, |&(_, code)| code);
                code | if *x < 0.0 { 8 } else { 0 }
            })
            .collect();
        for dialect in [Dialect::Onnx, Dialect::Torch] {
            let q = BitsandbytesFp4::new().dialect(dialect).quantize(&Array1::from_vec(x.clone())).unwrap();
            assert_eq!(q.codes().unpack(), expected, "{dialect}");
        }
    }

    #[test]
    fn it_is_not_e2m1() {
        let x = Array1::from_vec(vec![1.0f32, 0.006, -0.09]);
        let ours = BitsandbytesFp4::new().quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap();
        let ocp = FloatingPoint::e2m1().quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap();
        assert!((ours[1] - 1.0 / 192.0).abs() < 1e-8 && ocp[1] == 0.0);
        assert!((ours[2] + 1.0 / 6.0).abs() < 1e-7 && (ocp[2] + 1.0 / 12.0).abs() < 1e-7);
    }

    #[test]
    fn the_dynamic_map_keeps_small_values() {
        // Magnitudes over six decades, as in the second moment of Adam.
        let mut random = SplitMix64(9);
        let x = Array2::from_shape_fn((8, 256), |_| 10f32.powf(-6.0 * random.uniform() as f32));
        let relative = |y: &Array2<f32>| {
            let log = x.mapv(f32::ln);
            sqnr(&log, &y.mapv(|y| y.max(1e-9).ln())).unwrap()
        };
        let back = |recipe: crate::Recipe| recipe.quantize(&x).unwrap().dequantize::<f32, Ix2>().unwrap();
        let unsigned = relative(&back(DynamicMap::unsigned().granularity(DynamicMap::blocks())));
        let signed = relative(&back(DynamicMap::signed().granularity(DynamicMap::blocks())));
        let uniform = relative(&back(Uniform::asymmetric(BitWidth::EIGHT).granularity(DynamicMap::blocks())));
        assert!(unsigned > signed && signed > uniform + 10.0, "{unsigned} {signed} {uniform}");
    }

    #[test]
    fn zeros_and_signs() {
        for method in [DynamicMap::signed(), DynamicMap::unsigned()] {
            let q = method.quantize(&Array1::from_vec(vec![0.0f32, -0.0])).unwrap();
            assert_eq!(q.dequantize::<f32, Ix1>().unwrap().to_vec(), [0.0, 0.0]);
            assert_eq!(method.bits().get(), 8);
        }
        // absmax is the scale, whatever its sign, and −1 is not in the map.
        let back = DynamicMap::signed().quantize(&Array1::from_vec(vec![-2.0f32, 1.0])).unwrap();
        assert!((back.dequantize::<f32, Ix1>().unwrap()[0] + 2.0 * 0.992_968_74).abs() < 1e-6);
        let back = DynamicMap::unsigned().quantize(&Array1::from_vec(vec![-2.0f32, 1.0])).unwrap();
        assert_eq!(back.dequantize::<f32, Ix1>().unwrap().to_vec(), [0.0, 1.0]);
    }
}
