//! What quantization did to a tensor, as a value.

use core::fmt;

use ndarray::{ArrayRef, Dimension};

use crate::element::Element;
use crate::error::Result;
use crate::metrics::Errors;
use crate::tensor::QuantizedTensor;

/// Size and error of one quantized tensor.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::report::Report;
///
/// let weights = ndarray::Array2::from_shape_fn((8, 64), |(i, j)| ((i * 64 + j) as f32).sin());
/// let q = Uniform::symmetric(BitWidth::new(4)?).granularity(PerChannel::new(Axis(0))).quantize(&weights)?;
/// let report = Report::of(&weights, &q)?;
/// assert!(report.errors.sqnr() > 20.0 && report.clipped_share == 0.0);
/// println!("{report}");
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Number of elements.
    pub elements: usize,
    /// Number of regions.
    pub regions: usize,
    /// Bytes of the original elements.
    pub bytes_before: u64,
    /// Bytes of codes and parameters.
    pub bytes_after: u64,
    /// Bits of codes and parameters for each element.
    pub bits_per_element: f64,
    /// Errors of the restored tensor.
    pub errors: Errors,
    /// Share of the values outside the clipping range of their region.
    pub clipped_share: f64,
    /// Share of the available codes that occur, over all regions.
    pub codes_used: f64,
}

impl Report {
    /// Compares `quantized` with the tensor it was made of, chunk by chunk: nothing of the size of the tensor is
    /// allocated.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`](crate::ShapeError::Mismatch) unless both have one shape.
    pub fn of<A: Element, D: Dimension>(
        original: &ArrayRef<A, D>,
        quantized: &QuantizedTensor,
    ) -> Result<Self> {
        Ok(Self {
            elements: quantized.len(),
            regions: quantized.tiling().regions(),
            bytes_before: original.len() as u64 * u64::from(A::TYPE.bits() / 8),
            bytes_after: quantized.bytes(),
            bits_per_element: quantized.bits_per_element(),
            errors: quantized.errors_against(original)?,
            clipped_share: quantized.clipped_share(original)?,
            codes_used: quantized.codes_used(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} elements in {} regions: {:.2} bits/element ({} -> {} bytes), {:.2} dB, max error {:.3e}, \
             {:.3} % clipped, {:.1} % of codes used",
            self.elements,
            self.regions,
            self.bits_per_element,
            self.bytes_before,
            self.bytes_after,
            self.errors.sqnr(),
            self.errors.max_abs_error(),
            100.0 * self.clipped_share,
            100.0 * self.codes_used,
        )
    }
}
