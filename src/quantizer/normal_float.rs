//! NormalFloat: NF4 and its kin of other widths.
//!
//! Dettmers, Pagnoni, Holtzman and Zettlemoyer 2023, *QLoRA: Efficient Finetuning of Quantized LLMs*, section 3: for
//! each block of 64 elements `c = max |X|`, and each value gets the nearest of the levels q_i to X / c, where the q_i are
//! quantiles of the normal distribution,
//!
//! ```text
//! q_i = ½ (Q(i / (2^k + 1)) + Q((i + 1) / (2^k + 1)))
//! ```
//!
//! made asymmetric for an exact zero and divided by the largest. Double quantization stores the constants c less their
//! mean in 8 bits, in blocks of 256.

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

/// Levels at quantiles of the normal distribution, from −1 to 1, times the largest magnitude of each region.
///
/// The levels of 4 bits are the published constants. Blocks are a matter of granularity; the format has runs of 64
/// elements. Codes are those of bitsandbytes with [`Dialect::Torch`](crate::Dialect::Torch), which multiplies by the
/// reciprocal of the scale as its kernels do (on a CPU it divides in a last block that is not full); the default
/// divides. A value half way between two levels gets the lower one. Where scales are quantized themselves, codes are
/// chosen on the scales as stored; bitsandbytes chooses them before.
///
/// Defaults: minimum and maximum, f32 scales. It needs 2 bits.
///
/// ```
/// use lowbit::prelude::*;
///
/// let weights = ndarray::Array2::from_shape_fn((64, 256), |(i, j)| ((i * 256 + j) as f32).sin());
/// let q = NormalFloat::nf4().granularity(NormalFloat::blocks()).quantize(&weights)?;
/// assert_eq!(q.bits_per_element(), 4.5);
///
/// // With double quantization as in QLoRA: 4 + 8/64 + 32/(64 · 256) bits, and 32 bits for the mean of the scales.
/// let recipe = NormalFloat::nf4().double_quantized().granularity(NormalFloat::blocks());
/// let q = recipe.dialect(Dialect::Torch).quantize(&weights)?;
/// assert_eq!(q.bits_per_element(), 4.0 + 8.0 / 64.0 + 32.0 / 16384.0 + 32.0 / 16384.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NormalFloat {
    bits: BitWidth,
    scales: ScaleStorage,
    calibration: Arc<dyn Calibration>,
}

impl NormalFloat {
    /// Elements of a block of NF4.
    pub const BLOCK: usize = 64;

    /// NF-k of k = `bits`.
    pub fn new(bits: BitWidth) -> Self {
        Self { bits, scales: FloatType::F32.into(), calibration: Arc::new(MinMax) }
    }

    /// NF4.
    pub fn nf4() -> Self {
        Self::new(BitWidth::holding(15))
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

    /// The width of a code.
    pub const fn bits(&self) -> BitWidth {
        self.bits
    }

    fn level_scheme(&self) -> Result<LevelScheme, ConfigError> {
        Ok(LevelScheme::new(LevelTable::normal_float(self.bits)?).with_scales(self.scales))
    }
}

on_levels!(NormalFloat);

/// `normal-float(bits=4, scales=f32, calibration=minmax)`
impl fmt::Display for NormalFloat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, scales, calibration } = self;
        write!(f, "normal-float(bits={bits}, scales={scales}, calibration={calibration})")
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, Ix1, Ix2};

    use super::*;
    use crate::calibration::Mse;
    use crate::metrics::sqnr;
    use crate::quantizer::{Quantizer, Uniform};
    use crate::recipe::{QuantizerExt, Recipe};
    use crate::solve::samples::SplitMix64;
    use crate::tensor::Dialect;

    fn normal(rows: usize, columns: usize) -> Array2<f32> {
        let mut random = SplitMix64(21);
        Array2::from_shape_fn((rows, columns), |_| random.normal() as f32 * 0.02)
    }

    fn figure(x: &Array2<f32>, recipe: &Recipe) -> f64 {
        sqnr(x, &recipe.quantize(x).unwrap().dequantize::<f32, Ix2>().unwrap()).unwrap()
    }

    #[test]
    fn codes_are_those_of_bitsandbytes() {
        // Its thresholds on x / absmax, of which a value equal to one is below: dQuantizeNF4 of bitsandbytes 0.50.2.
        let thresholds: [f32; 15] = [
            -0.8480964004993439,
            -0.6106329262256622,
            -0.4599952697753906,
            -0.33967943489551544,
            -0.23460740596055984,
            -0.13791173323988914,
            -0.045525018125772476,
            0.03979014977812767,
            0.1202552504837513,
            0.2035212516784668,
            0.2920137718319893,
            0.3893125355243683,
            0.5016634166240692,
            0.6427869200706482,
            0.8614784181118011,
        ]
        .map(|at: f64| at as f32);
        let around = thresholds.iter().flat_map(|at| [at.next_down(), *at, at.next_up()]);
        // Absmax 4: products and quotients are exact.
        let x: Vec<f32> = around.chain([1.0, -1.0, 0.0, -0.0]).map(|x| x * 4.0).collect();
        let expected: Vec<i32> =
            x.iter().map(|x| thresholds.iter().filter(|&&at| x / 4.0 > at).count() as i32).collect();
        for dialect in [Dialect::Onnx, Dialect::Torch] {
            let q = NormalFloat::nf4().dialect(dialect).quantize(&Array1::from_vec(x.clone())).unwrap();
            assert_eq!(q.codes().unpack(), expected, "{dialect}");
        }
    }

    #[test]
    fn the_dialect_is_a_product_or_a_quotient() {
        // Values around a threshold, by single units in the last place, under many scales.
        let middle = 0.03979014977812767_f64 as f32;
        let x = Array2::from_shape_fn((300, 18), |(i, j)| {
            let scale = 0.3 + i as f32 * 1e-3;
            if j == 17 { scale } else { f32::from_bits((middle * scale).to_bits() + j as u32 - 8) }
        });
        let codes = |dialect| {
            let recipe = NormalFloat::nf4().granularity(NormalFloat::blocks()).dialect(dialect);
            recipe.quantize(&x).unwrap().codes().unpack()
        };
        let (divided, multiplied) = (codes(Dialect::Onnx), codes(Dialect::Torch));
        let mut differ = 0;
        for (((i, j), &value), (&divided, &multiplied)) in
            x.indexed_iter().zip(divided.iter().zip(&multiplied))
        {
            let scale = x[[i, 17]];
            if j < 17 {
                assert_eq!(divided, 7 + i32::from(value / scale > middle));
                assert_eq!(multiplied, 7 + i32::from(value * (1.0 / scale) > middle));
                differ += usize::from(divided != multiplied);
            }
        }
        assert!(differ > 10, "{differ}");
    }

    #[test]
    fn better_than_evenly_spaced_levels_on_normal_values() {
        let x = normal(64, 1024);
        let uniform = Uniform::symmetric(BitWidth::new(4).unwrap()).granularity(NormalFloat::blocks());
        let nf4 = NormalFloat::nf4().granularity(NormalFloat::blocks());
        let searched = NormalFloat::nf4().calibration(Mse).granularity(NormalFloat::blocks());
        let (uniform, nf4, searched) = (figure(&x, &uniform), figure(&x, &nf4), figure(&x, &searched));
        assert!(nf4 > uniform + 1.0, "{nf4} {uniform}");
        assert!(searched > nf4, "{searched} {nf4}");
        let mut last = 0.0;
        for bits in 2..=8 {
            let wider = NormalFloat::new(BitWidth::new(bits).unwrap()).granularity(NormalFloat::blocks());
            let wider = figure(&x, &wider);
            assert!(wider > last + 2.0, "{bits}: {wider} {last}");
            last = wider;
        }
    }

    #[test]
    fn double_quantization_costs_little() {
        let mut x = normal(64, 1024);
        let plain = NormalFloat::nf4().granularity(NormalFloat::blocks());
        let double = NormalFloat::nf4().double_quantized().granularity(NormalFloat::blocks());
        assert!(figure(&x, &double) > figure(&x, &plain) - 0.1);
        // Blocks of zeros come back as zeros and leave the scales of the others alone.
        x.rows_mut().into_iter().step_by(2).for_each(|mut row| row.fill(0.0));
        assert!(figure(&x, &double) > figure(&x, &plain) - 0.2);
        let back = double.quantize(&x).unwrap().dequantize::<f32, Ix2>().unwrap();
        assert!(back.row(0).iter().all(|&value| value == 0.0));
        let zeros = double.quantize(&Array2::<f32>::zeros((2, 64))).unwrap();
        assert!(zeros.dequantize::<f32, Ix2>().unwrap().iter().all(|&value| value == 0.0));
    }

    #[test]
    fn widths_and_extremes() {
        assert!(NormalFloat::new(BitWidth::new(1).unwrap()).scheme().is_err());
        assert_eq!(NormalFloat::nf4().bits().get(), 4);
        for largest in [f32::MAX, f32::MIN_POSITIVE, 1e-45, 0.0] {
            let x = Array1::from_vec(vec![largest, -largest]);
            let back = NormalFloat::nf4().quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap();
            let close = |x: f32, y: f32| (x - y).abs() <= 3e-39 && y.is_finite();
            assert!(close(x[0], back[0]) && close(x[1], back[1]), "{largest:e} {back}");
        }
    }
}
