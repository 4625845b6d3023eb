//! Quant-Noise: a random part of a tensor is quantized, the rest passes.
//!
//! Fan, Stock, Graham, Grave, Gribonval, Jégou and Joulin 2020, *Training with Quantization Noise for Extreme Model
//! Compression*, equations 4 to 6: for a random set J of blocks, at each step a new one,
//!
//! ```text
//! ψ(b | J) = φ(b) for the blocks b in J, b for the others
//! ```
//!
//! where φ quantizes, or, as a proxy for product quantization, sets to zero. Gradients pass straight through φ.

use std::sync::Arc;

use ndarray::{Array, ArrayRef, Dimension};

use crate::element::Element;
use crate::error::{ConfigError, Result};
use crate::granularity::Granularity;
use crate::kernel::uniform;
use crate::recipe::Recipe;

/// What becomes of the blocks that noise falls on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NoiseKind {
    /// Their quantized values: the paper's exact φ.
    #[default]
    Quantize,
    /// Zeros: the paper's proxy φ for product quantization.
    Zero,
}

/// Quantizes a random part of a tensor: a new tensor of real numbers.
///
/// A block is one element unless [`blocks`](Self::blocks) says otherwise. Block j is in the random part if its number
/// lies below the rate; the number is 16 bits of [`Ars`](crate::random::Ars) of the seed, as that of element j in
/// [`Rounding::Stochastic`](crate::Rounding::Stochastic), so the result is a function of (seed, j), whatever the layout
/// and the threads, and the rate is met to 2^-17. The paper uses rates of 0.05 to 0.2 for product quantization and 0.5
/// to 1 for 8 bits.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::qat::QuantNoise;
///
/// let weights = ndarray::Array2::from_shape_fn((8, 64), |(i, j)| ((i * 64 + j) as f32).sin());
/// let recipe = Uniform::symmetric(BitWidth::new(4)?).granularity(PerChannel::new(Axis(0)));
/// let noise = QuantNoise::new(recipe.clone(), 0.5)?;
/// let noisy = noise.apply(&weights, 7)?; // another seed at each step
/// let quantized: ndarray::Array2<f32> = recipe.quantize(&weights)?.dequantize()?;
/// assert!(noisy.indexed_iter().all(|(at, &x)| x == weights[at] || x == quantized[at]));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct QuantNoise {
    recipe: Recipe,
    rate: f64,
    kind: NoiseKind,
    blocks: Option<Arc<dyn Granularity>>,
}

impl QuantNoise {
    /// Noise by `recipe` on a share `rate` of the elements.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Rate`] unless the rate is within 0 and 1.
    pub fn new(recipe: Recipe, rate: f64) -> Result<Self, ConfigError> {
        // Written so that NaN fails.
        if !(0.0..=1.0).contains(&rate) {
            return Err(ConfigError::Rate { rate });
        }
        Ok(Self { recipe, rate, kind: NoiseKind::default(), blocks: None })
    }

    /// The same noise on blocks: the regions of a granularity.
    pub fn blocks(mut self, blocks: impl Granularity + 'static) -> Self {
        self.blocks = Some(Arc::new(blocks));
        self
    }

    /// The same with another effect.
    pub const fn kind(mut self, kind: NoiseKind) -> Self {
        self.kind = kind;
        self
    }

    /// `tensor` with noise: quantized as a whole by the recipe, of which the blocks in the random part are taken.
    /// Allocates the result and what [`Recipe::quantize`] needs.
    ///
    /// # Errors
    ///
    /// As [`Recipe::quantize`], and [`ShapeError`](crate::ShapeError) if the blocks do not fit the shape.
    pub fn apply<A: Element, D: Dimension>(&self, tensor: &ArrayRef<A, D>, seed: u64) -> Result<Array<A, D>> {
        self.apply_with_uniforms(tensor, |block| {
            let mut number = [0.0f64];
            uniform::fill(seed, block as u64, &mut number);
            number[0]
        })
    }

    /// As [`apply`](Self::apply), with the number in `[0, 1)` of each block from a source of one's own.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn apply_with_uniforms<A: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        uniforms: impl Fn(usize) -> f64,
    ) -> Result<Array<A, D>> {
        let shape = tensor.raw_dim();
        let tiling = self.blocks.as_ref().map(|blocks| blocks.tiling(tensor.shape())).transpose()?;
        let mut out = match self.kind {
            NoiseKind::Quantize => self.recipe.quantize(tensor)?.dequantize::<A, D>()?,
            NoiseKind::Zero => Array::from_elem(shape, A::default()),
        };
        let selected = |block: usize| uniforms(block) < self.rate;
        match tiling {
            None => {
                let pairs = out.iter_mut().zip(tensor.iter()).enumerate();
                pairs.filter(|(at, _)| !selected(*at)).for_each(|(_, (out, &value))| *out = value);
            }
            Some(tiling) => {
                let noise: Vec<bool> = (0..tiling.regions()).map(selected).collect();
                let pairs = out.iter_mut().zip(tensor.iter()).enumerate();
                pairs
                    .filter(|(at, _)| noise.get(tiling.region_of(*at)) != Some(&true))
                    .for_each(|(_, (out, &value))| *out = value);
            }
        }
        Ok(out)
    }
}
