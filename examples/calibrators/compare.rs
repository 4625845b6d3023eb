//! What each calibration chooses, and what it costs.

use std::sync::Arc;

use anyhow::Result;
use lowbit::calibration::KlVariant;
use lowbit::prelude::*;
use lowbit::report::Report;
use lowbit::{DataError, Element};
use ndarray::ArrayD;

use crate::options::Setup;
use crate::picture;

/// All calibrations at one bit width.
pub(crate) struct Panel {
    pub(crate) bits: BitWidth,
    /// The number of codes of the grid.
    pub(crate) codes: u32,
    /// In the order of [`calibrations`].
    pub(crate) outcomes: Vec<Outcome>,
}

/// One calibration.
pub(crate) struct Outcome {
    pub(crate) name: String,
    /// What the grid covers; the medians over all regions.
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) report: Report,
    /// Whether no other has a higher SQNR.
    pub(crate) best: bool,
    /// What the library has to say of it.
    pub(crate) note: Option<String>,
}

/// The calibrations with their names. The picture has a colour for each.
pub(crate) fn calibrations() -> Result<Vec<(String, Arc<dyn Calibration>)>> {
    let mut all: Vec<(String, Arc<dyn Calibration>)> = vec![("minmax".to_owned(), Arc::new(MinMax))];
    for percent in [99.99, 99.9] {
        all.push((format!("percentile {percent}"), Arc::new(Percentile::new(percent)?)));
    }
    for variant in [
        KlVariant::SlidesFloor,
        KlVariant::SlidesDigitize,
        KlVariant::SlidesFractional,
        KlVariant::Nvidia,
        KlVariant::Mxnet,
    ] {
        all.push((format!("kl {variant}"), Arc::new(Kl::default().variant(variant))));
    }
    all.push(("mse".to_owned(), Arc::new(Mse)));
    Ok(all)
}

impl Panel {
    /// What the picture shows of it.
    pub(crate) fn drawn(&self) -> picture::Panel {
        let regions = self.outcomes.first().map_or(1, |outcome| outcome.report.regions);
        let row = |outcome: &Outcome| picture::Row {
            name: outcome.name.clone(),
            low: outcome.low,
            high: outcome.high,
            sqnr: outcome.report.errors.sqnr(),
            clipped_share: outcome.report.clipped_share,
            best: outcome.best,
        };
        picture::Panel {
            heading: format!("{} bits", self.bits),
            ranges: if regions == 1 { "range" } else { "median range" },
            rows: self.outcomes.iter().map(row).collect(),
        }
    }
}

/// Quantizes `tensor` at `bits` with every calibration.
pub(crate) fn compare<A: Element>(tensor: &ArrayD<A>, bits: BitWidth, setup: &Setup) -> Result<Panel> {
    let mut outcomes = Vec::new();
    let mut codes = 0;
    for (name, calibration) in calibrations()? {
        let quantized = setup.recipe(bits, calibration).quantize(tensor)?;
        codes = quantized.scheme().codes().count();
        let regions = quantized.tiling().regions();
        let ranges: Vec<_> = (0..regions).filter_map(|region| quantized.clipping_range(region)).collect();
        let end =
            |values: Vec<f64>| median(values).ok_or(lowbit::Error::from(DataError::NoData { region: 0 }));
        let report = Report::of(tensor, &quantized)?;
        outcomes.push(Outcome {
            name,
            // Mirrored, so that symmetric ranges have symmetric medians.
            low: -end(ranges.iter().map(|range| -range.low()).collect())?,
            high: end(ranges.iter().map(|range| range.high()).collect())?,
            report,
            best: false,
            note: note(&quantized),
        });
    }
    let sqnr = |outcome: &Outcome| outcome.report.errors.sqnr();
    let best = outcomes.iter().map(sqnr).fold(f64::NEG_INFINITY, f64::max);
    for outcome in &mut outcomes {
        outcome.best = sqnr(outcome) >= best;
    }
    Ok(Panel { bits, codes, outcomes })
}

/// The upper median.
fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    (middle < values.len()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

fn note(quantized: &QuantizedTensor) -> Option<String> {
    let (_, first) = quantized.notes().first()?;
    let count = quantized.notes().iter().filter(|(_, note)| note == first).count();
    Some(match quantized.tiling().regions() {
        1 => first.to_string(),
        regions => format!("{first} ({count} of {regions} regions)"),
    })
}
