//! The tables and the report.

use lowbit::BitWidth;
use serde_json::{Value, json};

use crate::measure::Outcome;
use crate::tables;

/// The table of one width, the best first.
pub(crate) fn text(bits: BitWidth, outcomes: &[Outcome]) -> String {
    let mut rows: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.candidate.bits == bits).collect();
    rows.sort_by(|a, b| b.sqnr.total_cmp(&a.sqnr));
    let mut table =
        tables::of_figures(["method", "bits/element", "SQNR dB", "below the bound dB", "max error", "ms"]);
    for outcome in rows {
        table.add_row([
            outcome.candidate.name.clone(),
            format!("{:.3}", outcome.bits_per_element),
            format!("{:.2}", outcome.sqnr),
            format!("{:.2}", outcome.gap),
            format!("{:.3e}", outcome.max_error),
            format!("{:.1}", outcome.seconds * 1e3),
        ]);
    }
    let plural = if bits.get() == 1 { "" } else { "s" };
    format!("{bits} bit{plural}\n{table}\n")
}

/// One object for each method and width. An SQNR that is infinite is null.
pub(crate) fn json(outcomes: &[Outcome]) -> Value {
    let row = |outcome: &Outcome| {
        json!({
            "method": outcome.candidate.name,
            "family": outcome.candidate.family,
            "bits": outcome.candidate.bits.get(),
            "recipe": outcome.candidate.text,
            "bits_per_element": outcome.bits_per_element,
            "sqnr_db": outcome.sqnr,
            "below_bound_db": outcome.gap,
            "max_error": outcome.max_error,
            "seconds": outcome.seconds,
        })
    };
    outcomes.iter().map(row).collect()
}
