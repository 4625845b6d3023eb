//! Mixed precision: the best form of each layer under a budget of bits for all.
//!
//! With Ω_i(k) the error of layer i in its k-th form, of size P_i(k) (Yaohui Cai, Zhewei Yao, Zhen Dong, Amir Gholami,
//! Michael W. Mahoney and Kurt Keutzer 2020, *ZeroQ: a novel zero shot quantization framework*, equations 7 and 8;
//! Itay Hubara et al. 2020, *Improving post training neural quantization: layer-wise calibration and integer
//! programming*, equation 6):
//!
//! ```text
//! min Σ_i Ω_i(k_i)   subject to   Σ_i P_i(k_i) ≤ budget
//! ```
//!
//! Errors of layers are taken to add up. The papers look for the best on a sampled Pareto front or by a general integer
//! program; here it is found exactly, as a multiple-choice knapsack.

use core::fmt;
use std::collections::BTreeMap;

use ndarray::{ArrayRef, Dimension, IxDyn};

use crate::bits::BitWidth;
use crate::element::Element;
use crate::error::{ConfigError, Result};
use crate::metrics::Errors;
use crate::recipe::Recipe;
use crate::tensor::QuantizedTensor;

use super::search::{self, Found, Item};

/// One form that a layer can have.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Choice {
    /// The width of its codes.
    pub bits: BitWidth,
    /// What it costs in accuracy: a squared error, a divergence, any number that can be added up over the layers.
    pub error: f64,
    /// Its size in bits, parameters and all.
    pub size: u64,
}

impl Choice {
    /// The form `quantized` of `original`: its squared error, summed over all elements, and the size of codes and
    /// parameters.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`](crate::ShapeError::Mismatch) for two shapes.
    pub fn measured<A: Element, D: Dimension>(
        original: &ArrayRef<A, D>,
        quantized: &QuantizedTensor,
    ) -> Result<Self> {
        let errors = Errors::between(original, &quantized.dequantize::<f64, IxDyn>()?)?;
        let error = if errors.count() == 0 { 0.0 } else { errors.mse() * errors.count() as f64 };
        Ok(Self { bits: quantized.scheme().bits(), error, size: 8 * quantized.bytes() })
    }
}

/// A layer with the forms that it can have.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LayerChoices {
    /// The name of the layer.
    pub name: String,
    /// Its forms, in any order.
    pub choices: Vec<Choice>,
}

impl LayerChoices {
    /// A layer by name.
    pub fn new(name: impl Into<String>, choices: Vec<Choice>) -> Self {
        Self { name: name.into(), choices }
    }

    /// The weights of a layer quantized by each of `recipes`; the choices are in their order. `weight` is what the
    /// layer's squared errors are multiplied by: how much they matter to the network, 1 if that is not known.
    ///
    /// # Errors
    ///
    /// The errors of [`Recipe::quantize`].
    pub fn measured<A: Element, D: Dimension>(
        name: impl Into<String>,
        weights: &ArrayRef<A, D>,
        recipes: &[Recipe],
        weight: f64,
    ) -> Result<Self> {
        let measure = |recipe: &Recipe| {
            let choice = Choice::measured(weights, &recipe.quantize(weights)?)?;
            Ok(Choice { error: weight * choice.error, ..choice })
        };
        Ok(Self::new(name, recipes.iter().map(measure).collect::<Result<_>>()?))
    }
}

/// Chooses the form of each layer.
///
/// ```
/// use lowbit::allocation::{LayerChoices, MixedPrecision};
/// use lowbit::prelude::*;
/// use ndarray::Array2;
///
/// let recipes = [2, 3, 4, 6, 8]
///     .map(|bits| Ok(Uniform::symmetric(BitWidth::new(bits)?).granularity(PerChannel::new(Axis(0)))));
/// let recipes = recipes.into_iter().collect::<lowbit::Result<Vec<_>>>()?;
///
/// // Three layers, of which the errors of the last matter most.
/// let mut layers = Vec::new();
/// for (name, inputs, weight) in [("first", 16, 1.0), ("second", 64, 1.0), ("last", 32, 50.0)] {
///     let weights = Array2::from_shape_fn((32, inputs), |(i, j)| ((i * inputs + j) as f32).sin());
///     layers.push(LayerChoices::measured(name, &weights, &recipes, weight)?);
/// }
/// let mixed = MixedPrecision::new(layers)?;
/// let budget = mixed.uniform()[2].size; // what 4 bits everywhere would take
/// let best = mixed.within(budget)?;
/// assert!(best.is_proven() && best.size <= budget);
/// assert!(best.error < mixed.uniform()[2].error);
/// println!("{best}");
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MixedPrecision {
    layers: Vec<LayerChoices>,
    items: Vec<Vec<Item>>,
    limit: usize,
}

/// All layers at one width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UniformAllocation {
    /// The width.
    pub bits: BitWidth,
    /// The sum of the errors.
    pub error: f64,
    /// The sum of the sizes in bits; `u64::MAX` if it is larger.
    pub size: u64,
}

/// The form of each layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// Which of its choices each layer got.
    pub choices: Vec<usize>,
    /// The width that each layer got.
    pub bits: Vec<BitWidth>,
    /// The sum of the errors.
    pub error: f64,
    /// The sum of the sizes in bits.
    pub size: u64,
    /// No allocation within the budget has less error than this. It is `error` if the allocation is proven to be best.
    pub bound: f64,
    /// The most partial allocations that were kept at once.
    pub states: usize,
    names: Vec<String>,
    proven: bool,
}

impl Allocation {
    /// Whether no other allocation within the budget has less error: always, unless the search ran into its
    /// [limit](MixedPrecision::limit).
    pub const fn is_proven(&self) -> bool {
        self.proven
    }
}

/// A line for each layer, and one for all.
impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, bits) in self.names.iter().zip(&self.bits) {
            writeln!(f, "{name}: {bits} bits")?;
        }
        let best = if self.proven { "the least there is" } else { "not proven to be the least" };
        write!(f, "error {}, {best}, in {} bits", self.error, self.size)
    }
}

impl MixedPrecision {
    /// Of some layers.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for a layer without choices; [`ConfigError::Number`] for an error that is not finite,
    /// or errors whose sum is not.
    pub fn new(layers: Vec<LayerChoices>) -> Result<Self, ConfigError> {
        let mut total = 0.0;
        for layer in &layers {
            if layer.choices.is_empty() {
                return Err(ConfigError::TooSmall { what: "the choices of a layer", value: 0, min: 1 });
            }
            total += layer.choices.iter().map(|choice| choice.error.abs()).fold(0.0, f64::max);
            // The fold would lose NaN.
            if let Some(bad) = layer.choices.iter().find(|choice| !choice.error.is_finite()) {
                return Err(ConfigError::Number { what: "an error", value: bad.error, rule: "finite" });
            }
        }
        if !total.is_finite() {
            return Err(ConfigError::Number { what: "the sum of errors", value: total, rule: "finite" });
        }
        let item = |choice: &Choice| Item { size: choice.size, error: choice.error };
        let items = layers.iter().map(|layer| layer.choices.iter().map(item).collect()).collect();
        Ok(Self { layers, items, limit: 1 << 20 })
    }

    /// Keeps at most this many partial allocations at once, 16 bytes for each of the layers. The default is 2^20,
    /// which only problems made to be hard come near.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for none, [`ConfigError::TooLarge`] beyond 2^28.
    pub fn limit(mut self, states: usize) -> Result<Self, ConfigError> {
        let what = "partial allocations";
        match states {
            0 => Err(ConfigError::TooSmall { what, value: states, min: 1 }),
            _ if states > 1 << 28 => Err(ConfigError::TooLarge { what, value: states, max: 1 << 28 }),
            _ => {
                self.limit = states;
                Ok(self)
            }
        }
    }

    /// The layers.
    pub fn layers(&self) -> &[LayerChoices] {
        &self.layers
    }

    /// The size in bits of the smallest allocation; `u64::MAX` if it is larger.
    pub fn least_size(&self) -> u64 {
        u64::try_from(search::least_size(&self.items)).unwrap_or(u64::MAX)
    }

    /// All layers at one width, for every width that all of them have, ascending. Of several choices of one width a
    /// layer gets the smallest, and of those the one of least error.
    pub fn uniform(&self) -> Vec<UniformAllocation> {
        let totals = |(bits, choices): (BitWidth, Vec<usize>)| {
            let (error, size) = search::totals(&self.items, &choices);
            UniformAllocation { bits, error, size: u64::try_from(size).unwrap_or(u64::MAX) }
        };
        self.uniform_choices().into_iter().map(totals).collect()
    }

    fn uniform_choices(&self) -> BTreeMap<BitWidth, Vec<usize>> {
        let mut widths = BTreeMap::<BitWidth, Vec<usize>>::new();
        for (at, layer) in self.layers.iter().enumerate() {
            let mut smallest = BTreeMap::<BitWidth, (u64, f64, usize)>::new();
            for (index, choice) in layer.choices.iter().enumerate() {
                let (size, error) = (choice.size, choice.error);
                let here = smallest.entry(choice.bits).or_insert((size, error, index));
                if (size, error) < (here.0, here.1) {
                    *here = (size, error, index);
                }
            }
            for (bits, (_, _, index)) in smallest {
                let choices = widths.entry(bits).or_default();
                if choices.len() == at {
                    choices.push(index);
                }
            }
        }
        widths.retain(|_, choices| choices.len() == self.layers.len());
        widths
    }

    /// The allocation of least error whose size is at most `budget` bits. It never has more error than a uniform one
    /// that fits, and of several with the least error it is not said which it is.
    ///
    /// Time and memory depend on how many partial allocations come near the best; 300 layers of 8 choices take some
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Budget`] if not even the smallest form of every layer fits.
    pub fn within(&self, budget: u64) -> Result<Allocation, ConfigError> {
        let least = search::least_size(&self.items);
        if least > u128::from(budget) {
            return Err(ConfigError::Budget { budget, least: self.least_size() });
        }
        let known: Vec<Vec<usize>> = self.uniform_choices().into_values().collect();
        let Found { choices, bound, proven, states } = search::best(&self.items, budget, &known, self.limit);
        let (error, size) = search::totals(&self.items, &choices);
        let chosen = self.layers.iter().zip(&choices);
        let bits = chosen
            .filter_map(|(layer, &choice)| layer.choices.get(choice))
            .map(|choice| choice.bits)
            .collect();
        Ok(Allocation {
            bits,
            error,
            size: u64::try_from(size).unwrap_or(u64::MAX),
            bound,
            states,
            names: self.layers.iter().map(|layer| layer.name.clone()).collect(),
            proven,
            choices,
        })
    }
}
