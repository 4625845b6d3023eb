//! Every calibration on one histogram: what its range would cost, and whether more samples would still move it.

use anyhow::{Context, Result};
use lowbit::calibration::{Compared, Convergence};
use lowbit::prelude::*;

use crate::numbers::{number, range_text};
use crate::options::{Options, Rule, short};
use crate::picture::{self, Histogram, Panel, Row};
use crate::tables;

/// A range has settled when another sample of the same size would move it by no more than this share.
pub(crate) const SETTLED: f64 = 0.02;

/// Of the random numbers of the bootstrap.
pub(crate) const SEED: u64 = 1;

/// The histogram of an observer of one region.
pub(crate) fn histogram(observer: &Observer) -> Result<lowbit::calibration::Histogram> {
    let histogram = observer.summaries().first().and_then(|summary| summary.to_histogram());
    histogram.context("nothing was observed")
}

/// All calibrations on what `observer` has seen, for each bit width.
pub(crate) fn comparisons(observer: &Observer, options: &Options) -> Result<Vec<(BitWidth, Comparison)>> {
    let histogram = histogram(observer)?;
    let compare = |bits| Ok((bits, Comparison::of_all(&histogram, &Uniform::asymmetric(bits).scheme()?)?));
    options.widths().into_iter().map(compare).collect()
}

/// The comparisons as tables.
pub(crate) fn tables(title: &str, comparisons: &[(BitWidth, Comparison)]) -> String {
    let mut text = String::new();
    for (bits, comparison) in comparisons {
        let mut table =
            tables::of_figures(["calibration", "range", "predicted MSE", "predicted SQNR dB", "clipped %"]);
        for row in comparison.rows() {
            let Compared { calibration, range, predicted, .. } = row;
            let star = if is_best(comparison, row) { " *" } else { "" };
            table.add_row([
                format!("{calibration}{star}"),
                range_text(range.low(), range.high()),
                number(predicted.mse),
                format!("{:.2}", predicted.sqnr),
                format!("{:.4}", 100.0 * predicted.clipped_share),
            ]);
        }
        text += &format!("\n{title}: every calibration at {bits} bits (* least error)\n{table}\n");
    }
    text
}

fn is_best(comparison: &Comparison, row: &Compared) -> bool {
    comparison.best().is_some_and(|best| std::ptr::eq(best, row))
}

/// Whether more samples would still move the ranges; `halves` have seen different parts of the stream.
pub(crate) fn convergence(
    title: &str,
    observer: &Observer,
    halves: &[Observer; 2],
    options: &Options,
) -> Result<String> {
    let histogram = histogram(observer)?;
    let bits = options.fewest();
    let scheme = Uniform::asymmetric(bits).scheme()?;
    let mut table = tables::of_figures([
        "calibration",
        "range",
        "another sample: range",
        "error",
        "two halves: range",
        "would more samples move it?",
    ]);
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    for Rule(calibration) in options.rules()? {
        let found = Convergence::of(&histogram, &*calibration, &scheme, SEED)?;
        // Values of one image are not independent, so what another half of the images says counts as well.
        let mut ends = Vec::new();
        for half in halves {
            if let Ok(half) = self::histogram(half) {
                let range = half.calibrate(&*calibration, &scheme)?.range;
                ends.push([range.low(), range.high()]);
            }
        }
        let apart = match *ends {
            [a, b] if found.range.magnitude() > 0.0 => {
                Some((a[0] - b[0]).abs().max((a[1] - b[1]).abs()) / found.range.magnitude())
            }
            _ => None,
        };
        let settled = found.has_converged(SETTLED) && apart.is_none_or(|apart| apart <= SETTLED);
        table.add_row([
            short(&calibration.to_string()),
            range_text(found.range.low(), found.range.high()),
            format!("± {}", percent(found.deviation)),
            format!("± {}", percent(found.loss)),
            apart.map_or("-".to_owned(), percent),
            (if settled { "no" } else { "yes" }).to_owned(),
        ]);
    }
    Ok(format!(
        "\n{title}: has it converged? ({bits} bits; settled: within {} %)\n{table}\n",
        100.0 * SETTLED
    ))
}

/// The histogram of what `observer` has seen with all ranges, as the text of an SVG file.
pub(crate) fn picture(
    title: &str,
    observer: &Observer,
    comparisons: &[(BitWidth, Comparison)],
) -> Result<String> {
    let counted = histogram(observer)?;
    let panel = |(bits, comparison): &(BitWidth, Comparison)| {
        let row = |row: &Compared| Row {
            name: short(&row.calibration),
            low: row.range.low(),
            high: row.range.high(),
            sqnr: row.predicted.sqnr,
            clipped_share: row.predicted.clipped_share,
            best: is_best(comparison, row),
        };
        let rows = comparison.rows().iter().map(row).collect();
        Panel { heading: format!("{bits} bits"), ranges: "range", rows }
    };
    let panels: Vec<Panel> = comparisons.iter().map(panel).collect();
    let axis = picture::x_axis([counted.min(), counted.max()].into_iter(), &panels);
    let bins = (0..).zip(counted.counts()).map(|(bin, &count)| (counted.center(bin), count));
    let subtitle = format!("{} values; uniform quantization, asymmetric; predicted SQNR", counted.total());
    picture::draw(title, &subtitle, &Histogram::counted(bins, &axis), &axis, &panels)
}
