//! What was done, as a table and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use lowbit::io::safetensors::Dtype;
use lowbit::report::Report;
use serde_json::{Value, json};

/// Everything that was done.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) quantized: Vec<Quantized>,
    pub(crate) kept: Vec<Kept>,
    /// The number of tensors that were read back and compared.
    pub(crate) verified: Option<usize>,
}

/// A tensor that was quantized.
pub(crate) struct Quantized {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) method: String,
    /// The method with what distinguishes it, in a few words.
    pub(crate) label: String,
    /// The text form of the recipe.
    pub(crate) recipe: String,
    pub(crate) report: Report,
}

/// A tensor that stays as it is.
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: u64,
    pub(crate) reason: String,
}

/// Sums over tensors.
struct Totals {
    elements: u64,
    /// Bytes of the quantized tensors, before and after.
    before: u64,
    after: u64,
    /// Bytes of the kept tensors.
    kept: u64,
}

impl Done {
    fn totals(&self) -> Totals {
        let sum = |of: fn(&Report) -> u64| self.quantized.iter().map(|tensor| of(&tensor.report)).sum();
        Totals {
            elements: sum(|report| report.elements as u64),
            before: sum(|report| report.bytes_before),
            after: sum(|report| report.bytes_after),
            kept: self.kept.iter().map(|tensor| tensor.bytes).sum(),
        }
    }
}

/// The table of all tensors, with totals.
pub(crate) fn table(done: &Done) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["tensor", "shape", "method", "bits/element", "SQNR", "max error", "before", "after"]);
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for Quantized { name, shape, label, report, .. } in &done.quantized {
        table.add_row([
            name.clone(),
            format!("{shape:?}"),
            label.clone(),
            format!("{:.3}", report.bits_per_element),
            format!("{:.2} dB", report.errors.sqnr()),
            format!("{:.3e}", report.errors.max_abs_error()),
            bytes(report.bytes_before),
            bytes(report.bytes_after),
        ]);
    }
    let Totals { elements, before, after, kept } = done.totals();
    let mut total = |what: &str, count: usize, bits: Option<f64>, before: u64, after: u64| {
        let bits = bits.map(|bits| format!("{bits:.3}")).unwrap_or_default();
        let count = if count == 1 { "1 tensor".to_owned() } else { format!("{count} tensors") };
        let none = String::new;
        table.add_row([what.to_owned(), count, none(), bits, none(), none(), bytes(before), bytes(after)]);
    };
    let bits = after as f64 * 8.0 / elements as f64;
    total("quantized", done.quantized.len(), (elements > 0).then_some(bits), before, after);
    total("kept", done.kept.len(), None, kept, kept);
    total("all", done.quantized.len() + done.kept.len(), None, before + kept, after + kept);
    let mut text = format!("{table}\n");
    let mut kept: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tensor in &done.kept {
        kept.entry(&tensor.reason).or_default().push(&tensor.name);
    }
    for (reason, names) in kept {
        text += &format!("\nKept, {reason}: {}\n", names.join(", "));
    }
    let recipes: BTreeSet<&str> = done.quantized.iter().map(|tensor| tensor.recipe.as_str()).collect();
    for recipe in recipes {
        text += &format!("\nRecipe: {recipe}\n");
    }
    if let Some(count) = done.verified {
        text += &format!("\nVerified: {count} tensors read back, all bits as they were written.\n");
    }
    text
}

/// A size in the unit that leaves few digits.
fn bytes(size: u64) -> String {
    match size as f64 {
        size if size < 1024.0 => format!("{size} B"),
        size if size < 1024.0 * 1024.0 => format!("{:.1} KiB", size / 1024.0),
        size if size < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", size / (1024.0 * 1024.0)),
        size => format!("{:.2} GiB", size / (1024.0 * 1024.0 * 1024.0)),
    }
}

/// Writes `{tensors, kept, totals}`. Numbers that JSON does not have become null.
pub(crate) fn write_json(path: &Path, done: &Done) -> Result<()> {
    let tensors = done.quantized.iter().map(|tensor| {
        let errors = &tensor.report.errors;
        json!({
            "name": tensor.name,
            "shape": tensor.shape,
            "dtype": tensor.dtype.to_string(),
            "method": tensor.method,
            "recipe": tensor.recipe,
            "bits_per_element": tensor.report.bits_per_element,
            "bytes": tensor.report.bytes_after,
            "bytes_before": tensor.report.bytes_before,
            "mse": errors.mse(),
            "sqnr_db": errors.sqnr(),
            "cosine": errors.cosine_similarity(),
            "max_abs_error": errors.max_abs_error(),
        })
    });
    let kept = done.kept.iter().map(|tensor| {
        json!({
            "name": tensor.name,
            "shape": tensor.shape,
            "dtype": tensor.dtype.to_string(),
            "bytes": tensor.bytes,
            "reason": tensor.reason,
        })
    });
    let Totals { elements, before, after, kept: kept_bytes } = done.totals();
    let totals = json!({
        "tensors": done.quantized.len(),
        "kept": done.kept.len(),
        "elements": elements,
        "bits_per_element": after as f64 * 8.0 / elements as f64,
        "bytes_before": before + kept_bytes,
        "bytes": after + kept_bytes,
    });
    let mut text = serde_json::to_string_pretty(&json!({
        "tensors": tensors.collect::<Vec<Value>>(),
        "kept": kept.collect::<Vec<Value>>(),
        "totals": totals,
    }))?;
    text.push('\n');
    replace(path, text.as_bytes()).with_context(|| path.display().to_string())
}

/// Writes a file beside its name and renames it once it is complete.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let partial = path.with_file_name(format!(".{}.{}.partial", name.display(), std::process::id()));
    let mut file = fs::File::create_new(&partial)?;
    let result =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&partial, path));
    // The error worth telling is the first one.
    result.inspect_err(|_| drop(fs::remove_file(&partial)))
}
