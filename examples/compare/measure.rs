//! One method on the tensor: what it costs in bits, and what it loses.

use std::time::Instant;

use anyhow::{Result, ensure};
use lowbit::Element;
use ndarray::{ArrayD, ArrayRef, IxDyn};

use crate::methods::Candidate;

/// Power and variance of the tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    power: f64,
    variance: f64,
}

impl Source {
    pub(crate) fn of<A: Element>(tensor: &ArrayD<A>) -> Result<Self> {
        let count = tensor.len() as f64;
        let mean = tensor.iter().map(|x| x.to_f64()).sum::<f64>() / count;
        let power = tensor.iter().map(|x| x.to_f64() * x.to_f64()).sum::<f64>() / count;
        let variance = tensor.iter().map(|x| (x.to_f64() - mean).powi(2)).sum::<f64>() / count;
        ensure!(power.is_finite(), "the tensor holds values that are not finite, or too large to be squared");
        ensure!(variance > 0.0, "all elements of the tensor are the same: every method is exact on it");
        Ok(Self { power, variance })
    }

    /// The most SQNR that `rate` bits for each element allow for a Gaussian source of this variance:
    /// `D(R) = σ² 2^(−2R)` (Shannon 1959).
    pub(crate) fn bound(&self, rate: f64) -> f64 {
        10.0 * (self.power / self.variance).log10() + 20.0 * rate * 2f64.log10()
    }
}

/// A method at one width, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) candidate: Candidate,
    pub(crate) bits_per_element: f64,
    pub(crate) sqnr: f64,
    /// How far it stays below the bound, in dB.
    pub(crate) gap: f64,
    pub(crate) max_error: f64,
    pub(crate) seconds: f64,
}

/// Quantizes `tensor` by `candidate`.
pub(crate) fn measure<A: Element>(
    tensor: &ArrayRef<A, IxDyn>,
    candidate: &Candidate,
    source: &Source,
) -> Result<Outcome> {
    let start = Instant::now();
    let quantized = candidate.recipe()?.quantize(tensor)?;
    let seconds = start.elapsed().as_secs_f64();
    let errors = quantized.errors_against(tensor)?;
    let bits_per_element = quantized.bits_per_element();
    Ok(Outcome {
        candidate: candidate.clone(),
        bits_per_element,
        sqnr: errors.sqnr(),
        gap: source.bound(bits_per_element) - errors.sqnr(),
        max_error: errors.max_abs_error(),
        seconds,
    })
}
