//! A picture of clipping ranges: for each bit width a histogram of the values and above it the chosen ranges, one row
//! each. From both ends of a row a line of its colour runs down through the histogram, so the rows are the legend, too.
//!
//! Included with `#[path = "../support/picture/mod.rs"] mod picture;`, beside `../support/numbers.rs` and
//! `../support/draw.rs`.

#![allow(dead_code, reason = "shared by several examples, each of which uses a part")]

mod axis;
mod layout;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::draw::{Area, GRID, INK, MUTED, STRIPE, failed, text};
use crate::numbers::range_text;

pub(crate) use axis::{Histogram, XAxis, x_axis};
use layout::{
    ABOVE_PLOT, BAR, BEST, COLOURS, Columns, HEADER, HEADING, PLOT, ROW, X_LABELS, Y_LABELS, panel_height,
};

/// The ranges at one bit width.
pub(crate) struct Panel {
    /// The bit width.
    pub(crate) heading: String,
    /// What the figures of the ranges are called.
    pub(crate) ranges: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// The range of one calibration.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// In dB.
    pub(crate) sqnr: f64,
    pub(crate) clipped_share: f64,
    pub(crate) best: bool,
}

/// The picture as the text of an SVG file.
pub(crate) fn draw(
    title: &str,
    subtitle: &str,
    histogram: &Histogram,
    axis: &XAxis,
    panels: &[Panel],
) -> Result<String> {
    let mut svg = String::new();
    let names = panels.iter().flat_map(|panel| &panel.rows).map(|row| row.name.chars().count());
    let columns = Columns::new(names.max().unwrap_or(0));
    let heights: Vec<i32> = panels.iter().map(|panel| panel_height(panel.rows.len())).collect();
    let height = HEADER + heights.iter().sum::<i32>();
    {
        let root =
            SVGBackend::with_string(&mut svg, (columns.width as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        text(&root, title, (columns.left, 14), 22, INK, HPos::Left)?;
        text(&root, subtitle, (columns.left, 44), 15, MUTED, HPos::Left)?;
        let mut top = HEADER;
        for (panel, height) in panels.iter().zip(heights) {
            draw_panel(&root, top, columns, panel, histogram, axis)?;
            top += height;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

fn draw_panel(
    root: &Area<'_>,
    top: i32,
    columns: Columns,
    panel: &Panel,
    histogram: &Histogram,
    axis: &XAxis,
) -> Result<()> {
    let rows_top = top + HEADING;
    let rows = i32::try_from(panel.rows.len()).unwrap_or_default();
    let plot_top = rows_top + rows * ROW + ABOVE_PLOT;
    let plot_bottom = plot_top + PLOT;
    text(root, &panel.heading, (10, top), 20, INK, HPos::Left)?;
    let column = |label: &str, x| text(root, label, (x, top + 5), 13, MUTED, HPos::Right);
    column(panel.ranges, columns.range)?;
    column("SQNR", columns.sqnr)?;
    column("clipped", columns.clipped)?;

    // Zebra stripes lead the eye from a name to its figures.
    for row in (0..rows).step_by(2) {
        let stripe = [(0, rows_top + row * ROW), (columns.width, rows_top + (row + 1) * ROW)];
        root.draw(&Rectangle::new(stripe, STRIPE.filled())).map_err(failed)?;
    }
    draw_histogram(root, (plot_top, plot_bottom), columns, histogram, axis)?;

    // Widest first: the lines of a row then pass outside the rows below.
    let colours = panel.rows.iter().zip(COLOURS.iter().cycle());
    let mut ordered: Vec<(&Row, RGBColor)> = colours.map(|(row, colour)| (row, *colour)).collect();
    ordered.sort_by(|(a, _), (b, _)| (b.high - b.low).total_cmp(&(a.high - a.low)));
    for (place, (row, colour)) in (0..).zip(ordered) {
        let from = rows_top + place * ROW + ROW / 2;
        draw_row(root, (from, plot_bottom), columns, row, colour, axis)?;
    }
    Ok(())
}

/// The values, with both axes, between two heights.
fn draw_histogram(
    root: &Area<'_>,
    (top, bottom): (i32, i32),
    columns: Columns,
    histogram: &Histogram,
    axis: &XAxis,
) -> Result<()> {
    let plot = root.clone().shrink((0, top), (columns.width as u32, (bottom - top + X_LABELS) as u32));
    let mut chart = ChartBuilder::on(&plot)
        .margin_left(columns.left - Y_LABELS)
        .set_label_area_size(LabelAreaPosition::Left, Y_LABELS)
        .set_label_area_size(LabelAreaPosition::Bottom, X_LABELS)
        .margin_right(columns.width - columns.right)
        .build_cartesian_2d(axis.drawn(), (0.5..histogram.most() * 1.5).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(MUTED)
        .x_labels(axis::TICKS)
        .y_labels(6)
        .x_label_formatter(&|x| axis.tick(*x))
        .y_label_formatter(&|y| axis::count_tick(*y))
        .x_desc(axis.description())
        .y_desc("values per bin (log)")
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 14).into_font().color(&MUTED))
        .draw()
        .map_err(failed)?;
    let bars = histogram.bins(axis).filter(|(_, count)| *count > 0);
    chart
        .draw_series(
            bars.map(|((low, high), count)| Rectangle::new([(low, 0.5), (high, count as f64)], BAR.filled())),
        )
        .map_err(failed)?;
    Ok(())
}

/// The range of one calibration at height `y`, its figures, and its lines down to `bottom`.
fn draw_row(
    root: &Area<'_>,
    (y, bottom): (i32, i32),
    columns: Columns,
    row: &Row,
    colour: RGBColor,
    axis: &XAxis,
) -> Result<()> {
    let left = columns.left;
    let [low, high] = [row.low, row.high].map(|end| left + axis.pixel(end));
    for x in [low, high] {
        root.draw(&PathElement::new(vec![(x, y), (x, bottom)], colour.stroke_width(1))).map_err(failed)?;
        let cap = Rectangle::new([(x - 2, y - 5), (x + 2, y + 5)], colour.filled());
        root.draw(&cap).map_err(failed)?;
    }
    root.draw(&PathElement::new(vec![(low, y), (high, y)], colour.stroke_width(3))).map_err(failed)?;

    let above = y - 6;
    let swatch = Rectangle::new([(left - 20, y - 5), (left - 10, y + 5)], colour.filled());
    root.draw(&swatch).map_err(failed)?;
    text(root, &row.name, (left - 28, above), 14, INK, HPos::Right)?;
    text(root, &range_text(row.low, row.high), (columns.range, above), 14, INK, HPos::Right)?;
    text(root, &format!("{:.1} dB", row.sqnr), (columns.sqnr, above), 14, INK, HPos::Right)?;
    let clipped = format!("{:.2} %", 100.0 * row.clipped_share);
    text(root, &clipped, (columns.clipped, above), 14, INK, HPos::Right)?;
    if row.best {
        text(root, "best", (columns.clipped + 10, above), 14, BEST, HPos::Left)?;
    }
    Ok(())
}
