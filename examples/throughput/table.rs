//! The tables and the JSON.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use lowbit::FloatType;
use lowbit::simd::Level;
use serde_json::{Value, json};

use crate::measure::Measured;
use crate::options::Shape;

/// One operation as it was measured.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) operation: &'static str,
    pub(crate) shape: Shape,
    pub(crate) threads: usize,
    pub(crate) level: Level,
    pub(crate) input: FloatType,
    /// Bytes that are read and written.
    pub(crate) bytes: f64,
    pub(crate) measured: Measured,
}

impl Row {
    fn gb_per_s(&self) -> f64 {
        self.bytes / self.measured.seconds / 1e9
    }

    fn ns_per_element(&self) -> f64 {
        self.measured.seconds / self.shape.elements() as f64 * 1e9
    }
}

/// The rows of one shape, element type and number of threads.
pub(crate) fn text(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["operation", "GB/s", "ns/element", "of the roofline"]);
    for row in rows {
        table.add_row([
            row.operation.to_owned(),
            format!("{:.1}", row.gb_per_s()),
            format!("{:.3}", row.ns_per_element()),
            format!("{:.2}", row.measured.roofline_ratio),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let plural = if first.threads == 1 { "" } else { "s" };
    let Row { shape, threads, level, input, .. } = first;
    format!("{shape} of {input}, {threads} thread{plural}, {level}\n{table}\n\n")
}

/// One object for each row.
pub(crate) fn json(rows: &[Row]) -> Value {
    let object = |row: &Row| {
        json!({
            "operation": row.operation,
            "shape": row.shape.to_string(),
            "threads": row.threads,
            "level": row.level.to_string(),
            "input": row.input.to_string(),
            "seconds": row.measured.seconds,
            "gb_per_s": row.gb_per_s(),
            "ns_per_element": row.ns_per_element(),
            "roofline_ratio": row.measured.roofline_ratio,
        })
    };
    rows.iter().map(object).collect()
}
