//! The picture: for each bit width a histogram of the values and above it the chosen ranges, one row each. From
//! both ends of a row a line of its colour runs down through the histogram, so the rows are the legend, too.

mod axis;
mod layout;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::compare::{Outcome, Panel};
use crate::table::range_text;

pub(crate) use axis::{Histogram, XAxis, x_axis};
use layout::{
    BAR, BEST, CLIPPED_COLUMN, COLOURS, GRID, HEADER, HEADING, INK, LEFT, MUTED, PLOT, RANGE_COLUMN, RIGHT,
    ROW, SQNR_COLUMN, STRIPE, WIDTH, X_LABELS, Y_LABELS, panel_height,
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The picture as the text of an SVG file.
pub(crate) fn draw(
    title: &str,
    subtitle: &str,
    histogram: &Histogram,
    axis: &XAxis,
    panels: &[Panel],
) -> Result<String> {
    let mut svg = String::new();
    let heights: Vec<i32> = panels.iter().map(|panel| panel_height(panel.outcomes.len())).collect();
    let height = HEADER + heights.iter().sum::<i32>();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        text(&root, title, (LEFT, 14), 22, INK, HPos::Left)?;
        text(&root, subtitle, (LEFT, 44), 15, MUTED, HPos::Left)?;
        let mut top = HEADER;
        for (panel, height) in panels.iter().zip(heights) {
            draw_panel(&root, top, panel, histogram, axis)?;
            top += height;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

fn draw_panel(root: &Area<'_>, top: i32, panel: &Panel, histogram: &Histogram, axis: &XAxis) -> Result<()> {
    let rows_top = top + HEADING;
    let rows = i32::try_from(panel.outcomes.len()).unwrap_or_default();
    let (plot_top, plot_bottom) = (rows_top + rows * ROW, rows_top + rows * ROW + PLOT);
    text(root, &format!("{} bits", panel.bits), (10, top), 20, INK, HPos::Left)?;
    let column = |label: &str, x| text(root, label, (x, top + 5), 13, MUTED, HPos::Right);
    let regions = panel.outcomes.first().map_or(1, |outcome| outcome.report.regions);
    column(if regions == 1 { "range" } else { "median range" }, RANGE_COLUMN)?;
    column("SQNR", SQNR_COLUMN)?;
    column("clipped", CLIPPED_COLUMN)?;

    // Zebra stripes lead the eye from a name to its figures.
    for row in (0..rows).step_by(2) {
        let stripe = [(0, rows_top + row * ROW), (WIDTH, rows_top + (row + 1) * ROW)];
        root.draw(&Rectangle::new(stripe, STRIPE.filled())).map_err(failed)?;
    }
    draw_histogram(root, (plot_top, plot_bottom), histogram, axis)?;

    // Widest first: the lines of a row then pass outside the rows below.
    let colours = panel.outcomes.iter().zip(COLOURS.iter().cycle());
    let mut ordered: Vec<(&Outcome, RGBColor)> =
        colours.map(|(outcome, colour)| (outcome, *colour)).collect();
    ordered.sort_by(|(a, _), (b, _)| (b.high - b.low).total_cmp(&(a.high - a.low)));
    for (row, (outcome, colour)) in (0..).zip(ordered) {
        draw_row(root, rows_top + row * ROW + ROW / 2, plot_bottom, outcome, colour, axis)?;
    }
    Ok(())
}

/// The values, with both axes, between two heights.
fn draw_histogram(
    root: &Area<'_>,
    (top, bottom): (i32, i32),
    histogram: &Histogram,
    axis: &XAxis,
) -> Result<()> {
    let plot = root.clone().shrink((0, top), (WIDTH as u32, (bottom - top + X_LABELS) as u32));
    let mut chart = ChartBuilder::on(&plot)
        .margin_left(LEFT - Y_LABELS)
        .set_label_area_size(LabelAreaPosition::Left, Y_LABELS)
        .set_label_area_size(LabelAreaPosition::Bottom, X_LABELS)
        .margin_right(WIDTH - RIGHT)
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
    y: i32,
    bottom: i32,
    outcome: &Outcome,
    colour: RGBColor,
    axis: &XAxis,
) -> Result<()> {
    let [low, high] = [outcome.low, outcome.high].map(|end| axis.pixel(end));
    for x in [low, high] {
        root.draw(&PathElement::new(vec![(x, y), (x, bottom)], colour.stroke_width(1))).map_err(failed)?;
        let cap = Rectangle::new([(x - 2, y - 5), (x + 2, y + 5)], colour.filled());
        root.draw(&cap).map_err(failed)?;
    }
    root.draw(&PathElement::new(vec![(low, y), (high, y)], colour.stroke_width(3))).map_err(failed)?;

    let above = y - 6;
    let swatch = Rectangle::new([(LEFT - 20, y - 5), (LEFT - 10, y + 5)], colour.filled());
    root.draw(&swatch).map_err(failed)?;
    text(root, &outcome.name, (LEFT - 28, above), 14, INK, HPos::Right)?;
    text(root, &range_text(outcome.low, outcome.high), (RANGE_COLUMN, above), 14, INK, HPos::Right)?;
    let sqnr = format!("{:.1} dB", outcome.report.errors.sqnr());
    text(root, &sqnr, (SQNR_COLUMN, above), 14, INK, HPos::Right)?;
    let clipped = format!("{:.2} %", 100.0 * outcome.report.clipped_share);
    text(root, &clipped, (CLIPPED_COLUMN, above), 14, INK, HPos::Right)?;
    if outcome.best {
        text(root, "best", (CLIPPED_COLUMN + 10, above), 14, BEST, HPos::Left)?;
    }
    Ok(())
}

fn text(
    root: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    anchor: HPos,
) -> Result<()> {
    let style = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(anchor, VPos::Top));
    root.draw(&Text::new(text.to_owned(), at, style)).map_err(failed)
}

/// Errors of the drawing library borrow the picture.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw the picture: {error}")
}
