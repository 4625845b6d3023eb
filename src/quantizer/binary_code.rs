//! Binary codes: `r ≈ Σ αᵢ bᵢ` with bᵢ = ±1.
//!
//! * One bit: Rastegari, Ordonez, Redmon and Farhadi 2016, *XNOR-Net*: `b = sign(r)`, `α = mean |r|`.
//! * Greedy and refined: Guo, Yao, Zhao and Chen 2017, *Network Sketching*: `bᵢ = sign(rᵢ₋₁)`, `αᵢ = mean |rᵢ₋₁|`,
//!   `rᵢ = rᵢ₋₁ − αᵢ bᵢ`; refined, all α are fitted again by least squares after each step.
//! * Alternating: Xu, Yao, Lin, Ou, Cao, Wang and Zha 2018, *Alternating Multi-bit Quantization for Recurrent Neural
//!   Networks*: least squares for α and nearest codes in turns, from the greedy start.
//! * Error-minimizing: Zhang, Yang, Ye and Hua 2018, *LQ-Nets*, algorithm 1, without training.

use core::fmt;

use crate::bits::BitWidth;
use crate::calibration::Region;
use crate::element::FloatType;
use crate::error::{ConfigError, Result};
use crate::solve::binary_code::{self, BinaryRule};
use crate::tensor::{BinaryCodeGrid, BinaryCodeScheme, Scheme};

use super::evidence::magnitudes;
use super::{Fit, Quantizer};

/// Binary codes of 1 to 8 bits: for each region as many coefficients as bits, and for each value the nearest of their
/// 2^b signed sums.
///
/// The bits of the codes are bit planes of signs, so that products need nothing but counts of equal bits
/// ([`PackedCodes::bit_plane`]). On one bit all rules give `α = mean |r|`. Greedy is the worst; alternating and refined
/// are close; [`best`](Self::best) searches from many starts and is never worse than alternating.
///
/// Works from values, with importance, and from histograms. Time: a sort of the region, then O(2^b log n) for each turn;
/// `best` takes some hundred times as long (about 9 ms for 4096 values at 4 bits).
///
/// ```
/// use lowbit::prelude::*;
///
/// let weights = ndarray::Array2::from_shape_fn((4, 64), |(i, j)| ((i * 64 + j) as f32 * 0.7).sin());
/// let errors = |method: BinaryCode| -> lowbit::Result<f64> {
///     let q = method.granularity(PerChannel::new(Axis(0))).quantize(&weights)?;
///     Ok(q.errors_against(&weights)?.mse())
/// };
/// let bits = BitWidth::new(3)?;
/// assert!(errors(BinaryCode::alternating(bits)?)? < errors(BinaryCode::greedy(bits)?)?);
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// [`PackedCodes::bit_plane`]: crate::tensor::PackedCodes::bit_plane
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinaryCode {
    bits: BitWidth,
    rule: BinaryRule,
    storage: FloatType,
}

/// Turns of the error-minimizing rule.
const TURNS: usize = 10;

impl BinaryCode {
    fn new(bits: BitWidth, rule: BinaryRule) -> Result<Self, ConfigError> {
        BinaryCodeScheme::new(bits, FloatType::F32)?;
        Ok(Self { bits, rule, storage: FloatType::F32 })
    }

    /// One coefficient after the other, each for what the others left.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooLarge`] for more than 8 bits.
    pub fn greedy(bits: BitWidth) -> Result<Self, ConfigError> {
        Self::new(bits, BinaryRule::Greedy)
    }

    /// As greedy, with all coefficients fitted again after each step.
    ///
    /// # Errors
    ///
    /// As [`greedy`](Self::greedy).
    pub fn refined(bits: BitWidth) -> Result<Self, ConfigError> {
        Self::new(bits, BinaryRule::Refined)
    }

    /// Coefficients and codes in turns, twice as in the paper; see [`rounds`](Self::rounds).
    ///
    /// # Errors
    ///
    /// As [`greedy`](Self::greedy).
    pub fn alternating(bits: BitWidth) -> Result<Self, ConfigError> {
        Self::new(bits, BinaryRule::Alternating { rounds: 2 })
    }

    /// The rule of LQ-Nets, ten turns; see [`rounds`](Self::rounds).
    ///
    /// # Errors
    ///
    /// As [`greedy`](Self::greedy).
    pub fn error_minimizing(bits: BitWidth) -> Result<Self, ConfigError> {
        Self::new(bits, BinaryRule::ErrorMinimizing { rounds: TURNS })
    }

    /// The best that is found from many starts. The default of text forms.
    ///
    /// # Errors
    ///
    /// As [`greedy`](Self::greedy).
    pub fn best(bits: BitWidth) -> Result<Self, ConfigError> {
        Self::new(bits, BinaryRule::Best)
    }

    /// The same with another number of turns, for rules that take turns.
    pub const fn rounds(mut self, turns: usize) -> Self {
        match &mut self.rule {
            BinaryRule::Alternating { rounds } | BinaryRule::ErrorMinimizing { rounds } => *rounds = turns,
            BinaryRule::Greedy | BinaryRule::Refined | BinaryRule::Best => {}
        }
        self
    }

    /// The same with coefficients in another type.
    pub const fn coefficients(mut self, storage: FloatType) -> Self {
        self.storage = storage;
        self
    }

    /// The method of a rule's name.
    pub(crate) fn of_rule(name: &str, bits: BitWidth) -> Result<Self, crate::ParseError> {
        Ok(match name {
            "greedy" => Self::greedy(bits)?,
            "refined" => Self::refined(bits)?,
            "alternating" => Self::alternating(bits)?,
            "error-minimizing" => Self::error_minimizing(bits)?,
            "best" => Self::best(bits)?,
            _ => {
                let known = ["greedy", "refined", "alternating", "error-minimizing", "best"];
                return Err(crate::names::unknown("rule of binary codes", name, &known));
            }
        })
    }
}

impl Quantizer for BinaryCode {
    fn scheme(&self) -> Result<Scheme> {
        Ok(BinaryCodeScheme::new(self.bits, self.storage)?.into())
    }

    fn takes_importance(&self) -> bool {
        true
    }

    fn fit(&self, region: &Region<'_>, _scheme: &Scheme) -> Result<Fit> {
        let bits = self.bits.get() as usize;
        let found = magnitudes(region).and_then(|magnitudes| binary_code::fit(&magnitudes, bits, self.rule));
        // Zeros need no coefficients.
        let coefficients = found.map_or_else(|| vec![0.0; bits], |found| found.alpha);
        Ok(BinaryCodeGrid { coefficients }.into())
    }
}

/// `binary-code(bits=3, rule=alternating, rounds=2, coefficients=f32)`
impl fmt::Display for BinaryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "binary-code(bits={}, ", self.bits)?;
        match self.rule {
            BinaryRule::Greedy => f.write_str("rule=greedy")?,
            BinaryRule::Refined => f.write_str("rule=refined")?,
            BinaryRule::Alternating { rounds } => write!(f, "rule=alternating, rounds={rounds}")?,
            BinaryRule::ErrorMinimizing { rounds } => write!(f, "rule=error-minimizing, rounds={rounds}")?,
            BinaryRule::Best => f.write_str("rule=best")?,
        }
        write!(f, ", coefficients={})", self.storage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Evidence, Histogram};
    use crate::recipe::QuantizerExt;
    use crate::solve::samples::SplitMix64;
    use ndarray::{Array1, Ix1, array};

    fn relative_error(x: &Array1<f64>, method: BinaryCode) -> f64 {
        let q = method.coefficients(FloatType::F64).quantize(x).unwrap();
        let restored = q.dequantize::<f64, Ix1>().unwrap();
        (x - &restored).mapv(|e| e * e).sum() / x.mapv(|x| x * x).sum()
    }

    #[test]
    fn errors_are_those_of_the_reference() {
        // reference/03_multibit.json, sample g12 (65536 draws, seed 20240101): relative MSE at 2, 3 and 4 bits.
        let mut random = SplitMix64(20240101);
        let x: Array1<f64> = (0..65_536).map(|_| random.normal()).collect();
        for (bits, expected) in (2..).zip([0.1258922931867775, 0.05471118791842338, 0.029938229487833264]) {
            let found = relative_error(&x, BinaryCode::greedy(BitWidth::new(bits).unwrap()).unwrap());
            // Codes here are the nearest ones for the greedy coefficients, which can only be better.
            assert!(found <= expected * (1.0 + 1e-9), "{bits}: {found} {expected}");
            assert!(found > 0.9 * expected, "{bits}: {found} {expected}");
        }
        for bits in 1..=4 {
            let bits = BitWidth::new(bits).unwrap();
            let [greedy, alternating, best] = [BinaryCode::greedy, BinaryCode::alternating, BinaryCode::best]
                .map(|rule| relative_error(&x, rule(bits).unwrap()));
            let slack = 1.0 + 1e-12;
            assert!(best <= alternating * slack && alternating <= greedy * slack, "{bits}");
        }
    }

    #[test]
    fn one_bit_is_the_scaled_sign() {
        let x = array![0.5f32, -1.5, 0.0, 2.0];
        for rule in [BinaryCode::greedy, BinaryCode::refined, BinaryCode::alternating, BinaryCode::best] {
            let q = rule(BitWidth::new(1).unwrap()).unwrap().quantize(&x).unwrap();
            assert_eq!(q.dequantize::<f32, Ix1>().unwrap(), array![1.0, -1.0, 1.0, 1.0]);
        }
    }

    #[test]
    fn planes_of_signs_add_up_to_the_values() {
        let x: Array1<f32> = (0..77).map(|i| (i as f32 * 0.9).sin() * 3.0).collect();
        let q = BinaryCode::alternating(BitWidth::new(3).unwrap()).unwrap().quantize(&x).unwrap();
        let Some(crate::tensor::Grid::BinaryCode(grid)) = q.grid(0) else { panic!("binary code") };
        let planes: Vec<Vec<u8>> = (0..3).filter_map(|bit| q.codes().bit_plane(bit)).collect();
        assert_eq!((planes.len(), planes[0].len()), (3, 10));
        assert_eq!(q.codes().bit_plane(3), None);
        let restored = q.dequantize::<f32, Ix1>().unwrap();
        for (i, &value) in restored.iter().enumerate() {
            let sign = |plane: &Vec<u8>| if plane[i / 8] >> (i % 8) & 1 == 1 { 1.0 } else { -1.0 };
            let sum: f64 =
                planes.iter().zip(&grid.coefficients).map(|(plane, alpha)| sign(plane) * alpha).sum();
            assert_eq!(value, sum as f32);
        }
    }

    #[test]
    fn zeros_few_values_histograms_and_text() {
        for text in [
            "binary-code(bits=3, rule=greedy, coefficients=f32)",
            "binary-code(bits=2, rule=alternating, rounds=7, coefficients=f16)",
            "binary-code(bits=8, rule=error-minimizing, rounds=10, coefficients=f32)",
        ] {
            let recipe: crate::Recipe = text.parse().unwrap();
            assert_eq!(recipe.quantizer().to_string(), text);
            for x in [array![0.0f32, 0.0], array![2.0, 2.0], array![1.0, -3.0]] {
                let restored = recipe.quantize(&x).unwrap().dequantize::<f32, Ix1>().unwrap();
                assert!((&restored - &x).iter().all(|e| e.abs() <= 2e-3), "{text} {x} {restored}");
            }
        }
        assert!(BinaryCode::best(BitWidth::new(9).unwrap()).is_err());
        // Bins at values that lie in their middles give what the values give.
        let histogram = Histogram::new(-2.0, 2.0, vec![3, 0, 4, 5]).unwrap();
        let values: Vec<f64> =
            [(-1.5, 3), (0.5, 4), (1.5, 5)].iter().flat_map(|&(x, n)| vec![x; n]).collect();
        let method = BinaryCode::alternating(BitWidth::new(2).unwrap()).unwrap();
        let scheme = method.scheme().unwrap();
        let fit = |evidence| method.fit(&Region::new(0, evidence), &scheme).unwrap().grid;
        assert_eq!(fit(Evidence::Histogram(&histogram)), fit(Evidence::from(&*values)));
    }
}
