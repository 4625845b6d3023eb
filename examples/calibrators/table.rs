//! The table of one bit width.

use std::fmt::Write;

use crate::compare::{Outcome, Panel};
use crate::numbers::{number, range_text};
use crate::tables;

/// The table, with what the library notes below.
pub(crate) fn text(panel: &Panel) -> String {
    let regions = panel.outcomes.first().map_or(1, |outcome| outcome.report.regions);
    let range = if regions == 1 { "range".to_owned() } else { format!("range (median of {regions})") };
    let mut table =
        tables::of_figures(["calibration", &range, "SQNR dB", "clipped %", "codes used %", "max error"]);
    for outcome in &panel.outcomes {
        let Outcome { report, .. } = outcome;
        table.add_row([
            format!("{}{}", outcome.name, if outcome.best { " *" } else { "" }),
            range_text(outcome.low, outcome.high),
            format!("{:.2}", report.errors.sqnr()),
            format!("{:.3}", 100.0 * report.clipped_share),
            format!("{:.1}", 100.0 * report.codes_used),
            number(report.errors.max_abs_error()),
        ]);
    }
    let mut text = format!("{} bits, {} codes (* highest SQNR)\n{table}\n", panel.bits, panel.codes);
    for outcome in &panel.outcomes {
        if let Some(note) = &outcome.note {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}: {note}", outcome.name);
        }
    }
    text
}
