//! The tables and the report.

use serde_json::{Value, json};

use crate::measure::Outcome;
use crate::numbers::number;
use crate::tables;

/// The table of one width.
pub(crate) fn text(bits: u32, outcomes: &[&Outcome]) -> String {
    let header = [
        "method",
        "bits/weight",
        "accuracy %",
        "output SQNR dB",
        "calibration MSE",
        "held-out MSE",
        "seconds",
    ];
    let mut table = tables::of_figures(header);
    for outcome in outcomes {
        table.add_row([
            outcome.method.clone(),
            format!("{:.2}", outcome.bits_per_weight),
            format!("{:.2}", 100.0 * outcome.accuracy),
            format!("{:.2}", outcome.sqnr),
            number(outcome.calibration_mse),
            number(outcome.held_out_mse),
            format!("{:.3}", outcome.seconds),
        ]);
    }
    let mut text = format!("\n{bits} bits\n{table}\n");
    for outcome in
        outcomes.iter().filter(|outcome| outcome.layer_bits.iter().any(|(_, width)| *width != bits))
    {
        let widths: Vec<String> =
            outcome.layer_bits.iter().map(|(name, bits)| format!("{name} {bits}")).collect();
        text += &format!("{}: {}\n", outcome.method, widths.join(", "));
    }
    text
}

/// One object for each method and width. An SQNR that is infinite is null.
pub(crate) fn json(outcomes: &[Outcome]) -> Value {
    let row = |outcome: &Outcome| {
        let layers = outcome.layer_bits.iter().map(|(name, bits)| ((*name).to_owned(), json!(bits)));
        json!({
            "method": outcome.method,
            "bits": outcome.bits,
            "bits_per_weight": outcome.bits_per_weight,
            "layer_bits": Value::Object(layers.collect()),
            "accuracy": outcome.accuracy,
            "output_sqnr_db": outcome.sqnr,
            "calibration_mse": outcome.calibration_mse,
            "held_out_mse": outcome.held_out_mse,
            "seconds": outcome.seconds,
        })
    };
    outcomes.iter().map(row).collect()
}
