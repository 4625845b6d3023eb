//! The cross term of an asymmetric activation, folded into the bias or the accumulator's start.
//!
//! Survey, III-C (and Jacob et al. 2018, *Quantization and training of neural networks for efficient
//! integer-arithmetic-only inference*, equation 7): with activation codes x of zero point Zₓ and weight codes w
//! of zero point Z_w, an output is `S_x S_w · Σ (x − Zₓ)(w − Z_w)`, and
//!
//! ```text
//! Σ (x − Zₓ)(w − Z_w)  =  Σ x·(w − Z_w)  −  Zₓ · Σ (w − Z_w)
//! ```
//!
//! The last term depends on the weights alone, so it is computed once.

use ndarray::Axis;

use crate::error::{ConfigError, DataError, Error, Result, ShapeError};
use crate::tensor::{CodeRange, Grid, QuantizedTensor};

/// The part of an integer product that the weights alone determine, one number for each output.
///
/// A program accumulates `Σ x·(w − Z_w)` from [`start`](Self::start) on (`Σ x·w` for symmetric weights), or from
/// zero and adds [`bias`](Self::bias) to the real result.
#[derive(Debug, Clone, PartialEq)]
pub struct ZeroPointFold {
    activation_codes: CodeRange,
    activation_zero_point: i32,
    /// Σ (w − Z_w) of each output.
    sums: Vec<i64>,
    /// Σ |w − Z_w| of each output.
    magnitudes: Vec<i64>,
    /// S_w of each output.
    scales: Vec<f64>,
}

/// Folds the zero point of an activation into the outputs of a layer with weights `weights`.
///
/// `output_axis` is the weights' axis of output channels; the sum runs over all others. The activation has codes
/// `activation_codes` with `activation_zero_point`.
///
/// ```
/// use lowbit::integer::fold_zero_point;
/// use lowbit::prelude::*;
/// use lowbit::CodeRange;
///
/// let weights = ndarray::array![[1.0f32, -1.0, 0.5], [0.25, 0.5, 1.0]];
/// let w = Uniform::symmetric(BitWidth::EIGHT).granularity(PerChannel::new(Axis(0))).quantize(&weights)?;
/// let fold = fold_zero_point(&w, Axis(0), CodeRange::unsigned(BitWidth::EIGHT), 128)?;
/// let start = fold.start_i32(None)?;
/// let x = [3, 200, 255];
/// for (n, start) in start.into_iter().enumerate() {
///     let code = |k| w.code(3 * n + k).unwrap_or_default();
///     let folded = (0..3).fold(start, |sum, k| sum + x[k] * code(k));
///     let unfolded: i32 = (0..3).map(|k| (x[k] - 128) * code(k)).sum();
///     assert_eq!(folded, unfolded);
/// }
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// # Errors
///
/// [`ShapeError::Axis`] for an axis that the weights do not have; [`ConfigError::ZeroPoint`] if
/// `activation_zero_point` is not one of the activation's codes; [`ConfigError::Conflict`] for weights that are not affine or whose
/// zero points are not integers, or of which one output has more than one scale, so that there is no one accumulator
/// for it.
pub fn fold_zero_point(
    weights: &QuantizedTensor,
    output_axis: Axis,
    activation_codes: CodeRange,
    activation_zero_point: i32,
) -> Result<ZeroPointFold> {
    let (shape, rank) = (weights.shape(), weights.shape().len());
    let axis = output_axis.index();
    let outputs = *shape.get(axis).ok_or(ShapeError::Axis { axis, rank })?;
    if !activation_codes.contains(activation_zero_point) {
        return Err(ConfigError::ZeroPoint {
            index: 0,
            zero_point: activation_zero_point.into(),
            q_min: activation_codes.min(),
            q_max: activation_codes.max(),
        }
        .into());
    }
    let mut fold = ZeroPointFold {
        activation_codes,
        activation_zero_point,
        sums: vec![0; outputs],
        magnitudes: vec![0; outputs],
        scales: vec![f64::NAN; outputs],
    };
    if weights.is_empty() {
        fold.scales.fill(1.0);
        return Ok(fold);
    }
    // In row-major order an output is the same for `inner` elements and comes again after all outputs.
    let inner: usize = shape.iter().skip(axis + 1).product();
    let segments = weights.tiling().segments(0..weights.len());
    for (region, run) in segments.flat_map(|segment| segment.runs()) {
        let Some(Grid::Affine(grid)) = weights.grid(region) else {
            return Err(conflict("codes that are not affine"));
        };
        if grid.zero_point.fract() != 0.0 {
            return Err(conflict("a real zero point"));
        }
        let zero_point = grid.zero_point as i64;
        let mut index = run.start;
        let mut mixed = false;
        weights.codes().for_each(run, &mut |code| {
            let output = index / inner % outputs;
            index += 1;
            let value = i64::from(code) - zero_point;
            if let (Some(sum), Some(magnitude), Some(scale)) =
                (fold.sums.get_mut(output), fold.magnitudes.get_mut(output), fold.scales.get_mut(output))
            {
                // At most 2^17 each: 2^46 elements would be needed to overflow.
                *sum += value;
                *magnitude += value.abs();
                if scale.is_nan() {
                    *scale = grid.scale;
                } else if *scale != grid.scale {
                    mixed = true;
                }
            }
        });
        if mixed {
            return Err(conflict("more than one scale within an output"));
        }
    }
    Ok(fold)
}

fn conflict(setting: &'static str) -> Error {
    ConfigError::Conflict { setting, to: "weights whose products are summed in one integer" }.into()
}

impl ZeroPointFold {
    /// The number of outputs.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there are no outputs.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// `bias − Zₓ · Σ (w − Z_w)` for each output: where a 64-bit accumulator starts, which cannot overflow.
    ///
    /// `bias` is in units of the accumulator, S_x·S_w.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] unless there is a bias for each output.
    pub fn start(&self, bias: Option<&[i32]>) -> Result<Vec<i64>> {
        if let Some(bias) = bias.filter(|bias| bias.len() != self.len()) {
            return Err(ShapeError::Length { found: bias.len(), expected: self.len() }.into());
        }
        let bias = |output| bias.and_then(|bias: &[i32]| bias.get(output)).map_or(0, |&bias| i64::from(bias));
        let zero_point = i64::from(self.activation_zero_point);
        Ok(self.sums.iter().enumerate().map(|(output, sum)| bias(output) - zero_point * sum).collect())
    }

    /// As [`start`](Self::start) for 32-bit accumulators, with the proof that none overflows: whatever the
    /// activation's codes and the order of the sum, `|start| + max|x| · Σ |w − Z_w|` fits.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and [`DataError::Accumulator`] for the first output without that proof.
    pub fn start_i32(&self, bias: Option<&[i32]>) -> Result<Vec<i32>> {
        let most = i128::from(self.activation_codes.min().abs().max(self.activation_codes.max().abs()));
        let limit = i128::from(i32::MAX);
        let checked = |(output, (start, &magnitude)): (usize, (i64, &i64))| {
            let bound = i128::from(start).abs() + most * i128::from(magnitude);
            match i32::try_from(start) {
                Ok(start) if bound <= limit => Ok(start),
                _ => Err(DataError::Accumulator { output, bound, limit }.into()),
            }
        };
        self.start(bias)?.into_iter().zip(&self.magnitudes).enumerate().map(checked).collect()
    }

    /// `bias − S_x · S_w · Zₓ · Σ (w − Z_w)` for each output: the real bias of a layer whose accumulators start
    /// at zero. `activation_scale` is S_x.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] unless there is a bias for each output.
    pub fn bias(&self, activation_scale: f64, bias: &[f64]) -> Result<Vec<f64>> {
        if bias.len() != self.len() {
            return Err(ShapeError::Length { found: bias.len(), expected: self.len() }.into());
        }
        let zero_point = i64::from(self.activation_zero_point);
        let terms = self.sums.iter().zip(&self.scales);
        Ok(bias
            .iter()
            .zip(terms)
            .map(|(bias, (sum, scale))| bias - activation_scale * scale * (zero_point * sum) as f64)
            .collect())
    }
}
