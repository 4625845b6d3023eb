//! Tables.

use crate::judge::Judged;
use crate::tables;

/// What quantized activations cost, a table for each bit width.
pub(crate) fn judged(judged: &Judged) -> String {
    let mut text = String::new();
    for outcomes in judged.outcomes.chunk_by(|a, b| a.bits == b.bits) {
        let bits = outcomes.first().map(|outcome| outcome.bits.to_string()).unwrap_or_default();
        let header = ["calibration", "ranges", "accuracy %", "mean SQNR dB", "lowest SQNR dB", "ms/batch"];
        let mut table = tables::of_columns(2, header.into_iter().map(str::to_owned));
        let mut last = None;
        for outcome in outcomes {
            let (lowest, name) = &outcome.lowest_sqnr;
            // The name once for each group.
            let rule = if last == Some(&outcome.rule) { "" } else { &outcome.rule };
            last = Some(&outcome.rule);
            table.add_row([
                rule.to_owned(),
                outcome.way.to_string(),
                format!("{:.2}", 100.0 * outcome.accuracy),
                format!("{:.2}", outcome.mean_sqnr),
                format!("{lowest:.2} ({name})"),
                format!("{:.2}", 1e3 * outcome.time.as_secs_f64()),
            ]);
        }
        text += &format!(
            "\nAll activations at {bits} bits, {} images that the network has not seen: {:.2} % right without quantization.\n\
             A row is an image; ms/batch is the time to quantize the fastest batch, without the network.\n{table}\n",
            judged.images,
            100.0 * judged.accuracy
        );
    }
    text
}
