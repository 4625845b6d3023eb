//! Tables of figures.
//!
//! Included with `#[path = "../support/tables.rs"] mod tables;`.

#![allow(dead_code, reason = "shared by several examples, each of which uses a part")]

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// A table of figures, with names in the first column.
pub(crate) fn of_figures<const N: usize>(header: [&str; N]) -> Table {
    let mut table = of_columns(1, header.iter().map(|name| (*name).to_owned()));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// The same with so many columns of names.
pub(crate) fn of_columns(names: usize, header: impl Iterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
