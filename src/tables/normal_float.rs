//! NormalFloat: levels at quantiles of the normal distribution, with an exact zero.
//!
//! Dettmers, Pagnoni, Holtzman and Zettlemoyer 2023, *QLoRA: Efficient Finetuning of Quantized LLMs*, section 3 and
//! appendix E. With Φ⁻¹ the quantile function, 2^(k−1) positive and 2^(k−1) − 1 negative levels,
//!
//! ```text
//! p_i =  Φ⁻¹(o + (½ − o) · i / 2^(k−1))         i = 0 .. 2^(k−1) − 1
//! n_i = −Φ⁻¹(o + (½ − o) · i / (2^(k−1) − 1))   i = 0 .. 2^(k−1) − 2
//! ```
//!
//! all divided by p_0, and zero. The outermost probability is the mean of those that 2^k and 2^k − 1 levels of equal
//! mass would have, `o = 1 − ½ (1 / (2 · 2^k) + 1 / (2 · (2^k − 1)))`: the 0.9677083 of the paper's program at k = 4.

use super::{Levels, Threshold, linspace};
use crate::bits::BitWidth;
use crate::error::ConfigError;

/// NF4: the constants of the paper.
pub(crate) const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The levels of NF-k in ascending order, from −1 to 1, for `bits` of 2 and more; of 4 bits the constants of NF4.
/// `quantile` is Φ⁻¹.
///
/// A tie between two levels goes to the lower one, as in bitsandbytes, whose thresholds are the midpoints rounded
/// to f32.
///
/// # Errors
///
/// [`ConfigError::TooSmall`] at 1 bit, which would leave zero and one.
pub(crate) fn normal_float(bits: BitWidth, quantile: impl Fn(f64) -> f64) -> Result<Levels, ConfigError> {
    if bits.get() == 4 {
        return Ok(ascending(NF4.to_vec()));
    }
    let levels = f64::from(bits.levels());
    generate(bits, 1.0 - (0.5 / levels + 0.5 / (levels - 1.0)) / 2.0, quantile)
}

/// The levels with the outermost probability `offset`, in the arithmetic of the paper's program: probabilities in
/// f32, quantiles rounded to f32 before they are divided.
fn generate(bits: BitWidth, offset: f64, quantile: impl Fn(f64) -> f64) -> Result<Levels, ConfigError> {
    if bits.get() < 2 {
        return Err(ConfigError::TooSmall {
            what: "bit width of a normal float",
            value: bits.get() as usize,
            min: 2,
        });
    }
    let half = bits.levels() as usize / 2;
    let side = |count: usize| {
        let mut probabilities = linspace(offset as f32, 0.5, count + 1);
        // The last is one half, and its quantile zero.
        probabilities.truncate(count);
        probabilities.into_iter().map(|probability| quantile(f64::from(probability)) as f32)
    };
    let mut values: Vec<f32> = side(half).collect();
    values.extend(side(half - 1).map(|value| -value));
    values.push(0.0);
    values.sort_unstable_by(f32::total_cmp);
    let max = values.last().copied().unwrap_or(1.0);
    Ok(ascending(values.into_iter().map(|value| value / max).collect()))
}

/// The levels `values`, ascending.
fn ascending(values: Vec<f32>) -> Levels {
    let thresholds =
        values.windows(2).map(|pair| Threshold::Above(f64::from(pair.iter().sum::<f32>() * 0.5))).collect();
    let order = (0..=u16::MAX).take(values.len()).collect();
    Levels { values: values.into_iter().map(f64::from).collect(), order, thresholds }
}

#[cfg(test)]
mod tests {
    use super::super::tests::normal_above_zero;
    use super::*;

    /// Φ⁻¹ by Newton's method.
    fn quantile(probability: f64) -> f64 {
        let mut x = 0.0_f64;
        for _ in 0..12 {
            let density = (-0.5 * x * x).exp() / core::f64::consts::TAU.sqrt();
            x -= (0.5 + normal_above_zero(x) - probability) / density;
        }
        x
    }

    fn width(bits: u32) -> BitWidth {
        BitWidth::new(bits).unwrap()
    }

    #[test]
    fn four_bits_are_the_constants_of_the_paper() {
        // QLoRA, appendix E; the thresholds of bitsandbytes 0.50.2, dQuantizeNF4.
        let values = [
            -1.0,
            -0.6961928009986877,
            -0.5250730514526367,
            -0.39491748809814453,
            -0.28444138169288635,
            -0.18477343022823334,
            -0.09105003625154495,
            0.0,
            0.07958029955625534,
            0.16093020141124725,
            0.24611230194568634,
            0.33791524171829224,
            0.44070982933044434,
            0.5626170039176941,
            0.7229568362236023,
            1.0,
        ];
        let thresholds: [f32; 15] = [
            -0.848_096_4,
            -0.610_632_9,
            -0.459_995_27,
            -0.339_679_42,
            -0.234_607_4,
            -0.137_911_74,
            -0.045_525_018,
            0.039_790_15,
            0.120_255_25,
            0.203_521_25,
            0.292_013_76,
            0.389_312_54,
            0.501_663_45,
            0.642_786_9,
            0.861_478_45,
        ];
        let levels = normal_float(width(4), quantile).unwrap();
        levels.assert_consistent();
        assert_eq!(levels.values, values);
        assert_eq!(levels.thresholds, thresholds.map(|at| Threshold::Above(f64::from(at))));
        for (code, &at) in thresholds.iter().enumerate() {
            assert_eq!(usize::from(levels.code(f64::from(at))), code);
            assert_eq!(usize::from(levels.code_f32(at.next_up())), code + 1);
        }
    }

    #[test]
    fn the_generator_gives_the_constants() {
        let levels = generate(width(4), 0.9677083, quantile).unwrap();
        assert_eq!(levels, normal_float(width(4), quantile).unwrap());
    }

    #[test]
    fn other_widths_are_those_of_the_published_generator() {
        // bitsandbytes' create_normal_map for k bits with the offset of the formula; SciPy 1.17.1, torch 2.15.0.
        assert_eq!(normal_float(width(2), quantile).unwrap().values, [-1.0, 0.0, 0.43581822514533997, 1.0]);
        assert_eq!(
            normal_float(width(3), quantile).unwrap().values,
            [
                -1.0,
                -0.5350227355957031,
                -0.24693140387535095,
                0.0,
                0.1833375245332718,
                0.38199394941329956,
                0.6229856610298157,
                1.0
            ]
        );
        for (bits, second, sum) in
            [(5, -0.7744114995002747, 0.3440140448510647), (8, -0.8732523322105408, 0.27320628333836794)]
        {
            let levels = normal_float(width(bits), quantile).unwrap();
            levels.assert_consistent();
            assert_eq!(levels.values[1], second);
            // The values are f32, so that their sum in f64 is exact.
            assert_eq!(levels.values.iter().sum::<f64>(), sum);
        }
    }

    #[test]
    fn every_width_has_distinct_levels_and_a_zero() {
        for bits in 2..=10 {
            let levels = normal_float(width(bits), quantile).unwrap();
            levels.assert_consistent();
            assert_eq!(levels.values.len(), 1 << bits);
            assert_eq!(levels.values[(1 << (bits - 1)) - 1], 0.0);
            assert_eq!(levels.values.last(), Some(&1.0));
            assert!(bits == 2 || levels.values[0] == -1.0);
        }
        assert!(matches!(
            normal_float(width(1), quantile),
            Err(ConfigError::TooSmall { value: 1, min: 2, .. })
        ));
    }
}
