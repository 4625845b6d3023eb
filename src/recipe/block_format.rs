//! Recipes of block formats.

use ndarray::Axis;

use crate::error::ConfigError;
use crate::granularity::PerSubChannel;
use crate::quantizer::BlockFormat;

use super::{QuantizerExt, Recipe};

impl BlockFormat {
    /// The complete recipe for weights with their output channels first: blocks of consecutive elements of each. For
    /// another layout replace its granularity.
    ///
    /// ```
    /// use lowbit::prelude::*;
    ///
    /// let weights = ndarray::Array2::from_shape_fn((64, 256), |(i, j)| ((i * 256 + j) as f32 * 0.7).sin());
    /// let q = BlockFormat::B4.recipe()?.quantize(&weights)?;
    /// assert_eq!(q.bits_per_element(), BlockFormat::B4.bits_per_element() + 32.0 / 16384.0);
    ///
    /// let last = BlockFormat::B4.recipe()?.granularity(PerSubChannel::new(Axis(1), BlockFormat::B4.block())?);
    /// let q = last.quantize(&weights)?;
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None for the formats of this list.
    pub fn recipe(self) -> Result<Recipe, ConfigError> {
        Ok(self.quantizer()?.granularity(PerSubChannel::new(Axis(0), self.block())?))
    }
}
