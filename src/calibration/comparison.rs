//! Every calibration on the same histogram, with what each would cost.

use core::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::tensor::{ClippingRange, Note, Scheme};

use super::{
    Aciq, AciqDensity, AciqOptimum, Calibrated, Calibration, Histogram, Kl, MinMax, Mse, NvidiaMse,
    NvidiaPercentile, OnnxRuntimeEntropy, OnnxRuntimePercentile, Percentile, Predicted, StandardDeviations,
    TorchHistogram, WeightedEntropy,
};

/// One calibration on the histogram.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Compared {
    /// Its text form.
    pub calibration: String,
    /// The range that it finds.
    pub range: ClippingRange,
    /// What the user should know about it.
    pub note: Option<Note>,
    /// What that range would cost.
    pub predicted: Predicted,
}

/// Calibrations on the same histogram, for one scheme, so that nobody has to guess.
///
/// ```
/// use lowbit::calibration::Comparison;
/// use lowbit::prelude::*;
///
/// let recipe = Recipe::new(Uniform::symmetric(BitWidth::new(4)?));
/// let mut observer = recipe.observer(&[8, 512])?;
/// for batch in 0..4 {
///     let x = ndarray::Array2::from_shape_fn((8, 512), |(i, j)| ((i + j * 7 + batch) as f32).sin().powi(9));
///     observer.observe(&x)?;
/// }
/// for summary in observer.summaries() {
///     let Some(histogram) = summary.to_histogram() else { continue };
///     let comparison = Comparison::of_all(&histogram, &recipe.scheme()?)?;
///     println!("{comparison}");
///     let best = comparison.best().map(|best| best.calibration.as_str());
///     assert!(best.is_some());
/// }
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    rows: Vec<Compared>,
    values: u64,
}

impl Comparison {
    /// `calibrations` on `histogram`, for codes of `scheme`, in the order given.
    ///
    /// # Errors
    ///
    /// [`DataError::NoData`](crate::DataError::NoData) for an empty histogram, and what a calibration gives.
    pub fn of(
        histogram: &Histogram,
        scheme: &Scheme,
        calibrations: impl IntoIterator<Item = Arc<dyn Calibration>>,
    ) -> Result<Self> {
        let row = |calibration: Arc<dyn Calibration>| {
            let Calibrated { range, note } = histogram.calibrate(&*calibration, scheme)?;
            let predicted = histogram.predict(range, scheme)?;
            Ok(Compared { calibration: calibration.to_string(), range, note, predicted })
        };
        let rows = calibrations.into_iter().map(row).collect::<Result<Vec<_>>>()?;
        Ok(Self { rows, values: histogram.total() })
    }

    /// The built-in calibrations with their defaults: [`built_in`](Self::built_in). A few milliseconds on a histogram
    /// of 2048 bins.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn of_all(histogram: &Histogram, scheme: &Scheme) -> Result<Self> {
        Self::of(histogram, scheme, Self::built_in()?)
    }

    /// The built-in calibrations that read data, each with its defaults (KL in its default variant).
    ///
    /// # Errors
    ///
    /// None in fact; the constructors of calibrations check what they are given.
    pub fn built_in() -> Result<Vec<Arc<dyn Calibration>>> {
        let aciq = |density| Aciq::default().density(density);
        Ok(vec![
            Arc::new(MinMax),
            Arc::new(Percentile::new(99.9)?),
            Arc::new(Percentile::new(99.99)?),
            Arc::new(Percentile::new(99.999)?),
            Arc::new(Kl::default()),
            Arc::new(Mse),
            Arc::new(Aciq::default()),
            Arc::new(aciq(AciqDensity::Gaussian)),
            Arc::new(aciq(AciqDensity::Laplace)),
            Arc::new(Aciq::default().optimum(AciqOptimum::Exact)),
            Arc::new(StandardDeviations::new(3.0)?),
            Arc::new(WeightedEntropy),
            Arc::new(NvidiaMse::default()),
            Arc::new(NvidiaPercentile::new(99.99)?),
            Arc::new(OnnxRuntimeEntropy::default()),
            Arc::new(OnnxRuntimePercentile::default()),
            Arc::new(TorchHistogram::default()),
        ])
    }

    /// What was compared, in the order given.
    pub fn rows(&self) -> &[Compared] {
        &self.rows
    }

    /// The one of least predicted error, the first of equals; `None` if nothing was compared.
    pub fn best(&self) -> Option<&Compared> {
        self.rows.iter().min_by(|a, b| a.predicted.mse.total_cmp(&b.predicted.mse))
    }
}

/// A table: one line for each calibration, the best one marked with a star.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.calibration.len()).max().unwrap_or(0).max(11);
        writeln!(
            f,
            "  {:width$} {:>12} {:>12} {:>11} {:>9} {:>10}",
            "calibration", "low", "high", "MSE", "SQNR/dB", "clipped/%"
        )?;
        let best = self.best();
        for row in &self.rows {
            let star = if best.is_some_and(|best| core::ptr::eq(best, row)) { '*' } else { ' ' };
            let Predicted { mse, sqnr, clipped_share } = row.predicted;
            writeln!(
                f,
                "{star} {:width$} {:12.5} {:12.5} {mse:11.4e} {sqnr:9.2} {:10.4}",
                row.calibration,
                row.range.low(),
                row.range.high(),
                100.0 * clipped_share
            )?;
        }
        write!(f, "{} values", self.values)
    }
}
