//! Figures of other programs beside ours.
//!
//! A file has an object on each line, with `task`, `peer`, `threads`, `shape` and `ratio_to_roofline`: what other libraries
//! reach of a roofline of their own program. What other systems call a channel is a row here, and their dialects of one
//! operation are compared with each of ours.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Deserialize;

use crate::table::Row;

/// A measured operation of another library.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Peer {
    task: String,
    peer: String,
    #[serde(default)]
    version: String,
    threads: usize,
    shape: String,
    ratio_to_roofline: f64,
}

/// What other programs call our operations.
const TASKS: [(&str, &[&str]); 19] = [
    ("quantize_i8_per_tensor_reciprocal", &["quantize_i8_per_tensor"]),
    ("quantize_u8_per_tensor_reciprocal", &["quantize_u8_per_tensor"]),
    ("quantize_i8_per_tensor", &["quantize_i8_per_tensor"]),
    ("quantize_u8_per_tensor", &["quantize_u8_per_tensor"]),
    ("quantize_i8_per_row", &["quantize_i8_per_channel"]),
    ("dequantize_i8_per_tensor", &["dequantize_i8_per_tensor"]),
    ("dequantize_i8_per_row", &["dequantize_i8_per_channel"]),
    ("fake_quantize_per_tensor", &["fake_quantize_i8_per_tensor"]),
    ("fake_quantize_per_row", &["fake_quantize_i8_per_channel"]),
    ("min_max_per_tensor", &["minmax"]),
    ("min_max_per_row", &["minmax_per_channel"]),
    ("quantize_block32_8bit", &["block_quantize_q8_0", "block_quantize_int8_g32"]),
    ("dequantize_block32_8bit", &["block_dequantize_q8_0"]),
    ("quantize_block32_4bit", &["block_quantize_q4_0", "block_quantize_int4_g32"]),
    ("dequantize_block32_4bit", &["block_dequantize_q4_0"]),
    ("quantize_nf4_block64", &["block_quantize_nf4"]),
    ("dequantize_nf4_block64", &["block_dequantize_nf4"]),
    ("stochastic_quantize_i8", &["stochastic_round_i8"]),
    ("histogram_2048", &["histogram_2048"]),
];

/// The peers of a file. Lines without a ratio to a roofline, such as errors, are passed over.
pub(crate) fn read(path: &Path) -> Result<Vec<Peer>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut peers = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value: serde_json::Value = serde_json::from_str(line)
            .with_context(|| format!("{}: line {} is not JSON", path.display(), number + 1))?;
        peers.extend(serde_json::from_value(value).ok());
    }
    Ok(peers)
}

/// Each of `rows` beside the best of `peers` at the same shape and number of threads; nothing if there is none.
pub(crate) fn text(rows: &[Row], peers: &[Peer]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["operation", "shape", "threads", "lowbit", "best other", "which"]);
    let mut any = false;
    for row in rows {
        let tasks =
            TASKS.iter().find(|(operation, _)| *operation == row.operation).map_or(&[][..], |known| known.1);
        let (shape, elements) = (row.shape.to_string(), row.shape.elements().to_string());
        // Some tensors are told by their number of elements only, 16M standing for 2^24.
        let same =
            |found: &str| found == shape || found == elements || (found == "16M" && elements == "16777216");
        let best = peers
            .iter()
            .filter(|peer| tasks.contains(&&*peer.task) && peer.threads == row.threads && same(&peer.shape))
            .max_by(|a, b| a.ratio_to_roofline.total_cmp(&b.ratio_to_roofline));
        let Some(Peer { peer, version, ratio_to_roofline: ratio, .. }) = best else { continue };
        any = true;
        table.add_row([
            row.operation.to_owned(),
            shape,
            row.threads.to_string(),
            format!("{:.2}", row.measured.roofline_ratio),
            if *ratio < 0.1 { format!("{ratio:.3}") } else { format!("{ratio:.2}") },
            format!("{peer} {version}"),
        ]);
    }
    for column in table.column_iter_mut().skip(2).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if any {
        format!("Ratios to the roofline beside the best of the other programs\n{table}\n\n")
    } else {
        String::new()
    }
}
