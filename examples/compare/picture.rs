//! The picture: SQNR over bits per element, a colour for each family of methods, and the bound.

use anyhow::Result;
use plotters::prelude::*;

use crate::draw::failed;
use crate::measure::{Outcome, Source};
use crate::methods::FAMILIES;

const SIZE: (u32, u32) = (1100, 720);
const INK: RGBColor = RGBColor(40, 40, 40);
const MUTED: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// One colour for each family, told apart in print too.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(120, 94, 60),
];

/// The picture as the text of an SVG file.
pub(crate) fn draw(title: &str, source: &Source, outcomes: &[Outcome]) -> Result<String> {
    // Codebooks of small regions may take many times the bits of the codes; they would leave no room for the others.
    let width = outcomes.iter().map(|outcome| outcome.candidate.bits.get()).max().unwrap_or(1);
    let rate = f64::from(width) + 2.0;
    let (drawn, beyond): (Vec<&Outcome>, Vec<&Outcome>) =
        outcomes.iter().partition(|outcome| outcome.sqnr.is_finite() && outcome.bits_per_element <= rate);
    let lowest = drawn.iter().map(|outcome| outcome.sqnr).fold(0.0, f64::min);
    let highest = drawn.iter().map(|outcome| outcome.sqnr).fold(1.0, f64::max).max(source.bound(rate));
    let title = match beyond.len() {
        0 => title.to_owned(),
        1 => format!("{title}; 1 method is beyond the picture"),
        count => format!("{title}; {count} methods are beyond the picture"),
    };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 20).into_font().color(&INK))
            .margin(16)
            .set_label_area_size(LabelAreaPosition::Left, 56)
            .set_label_area_size(LabelAreaPosition::Bottom, 48)
            .build_cartesian_2d(0.0..rate, lowest..highest)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(MUTED)
            .x_desc("bits per element, everything counted")
            .y_desc("SQNR in dB")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .x_labels(rate as usize + 1)
            .label_style(("sans-serif", 14).into_font().color(&INK))
            .axis_desc_style(("sans-serif", 15).into_font().color(&MUTED))
            .draw()
            .map_err(failed)?;
        let bound = (0..=200).map(|i| f64::from(i) / 200.0 * rate).map(|rate| (rate, source.bound(rate)));
        let bound: Vec<(f64, f64)> = bound.filter(|&(_, y)| y <= highest).collect();
        chart
            .draw_series(LineSeries::new(bound, INK.stroke_width(2)))
            .map_err(failed)?
            .label("Shannon's bound for a Gaussian")
            .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], INK.stroke_width(2)));
        for (family, colour) in FAMILIES.iter().zip(COLOURS) {
            let points = drawn.iter().filter(|outcome| outcome.candidate.family == *family);
            let points: Vec<(f64, f64)> = points.map(|o| (o.bits_per_element, o.sqnr)).collect();
            if points.is_empty() {
                continue;
            }
            let marks = points.into_iter().map(|at| Circle::new(at, 5, colour.mix(0.75).filled()));
            chart
                .draw_series(marks)
                .map_err(failed)?
                .label(*family)
                .legend(move |(x, y)| Circle::new((x + 7, y), 5, colour.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .margin(14)
            .background_style(WHITE.mix(0.9))
            .border_style(GRID)
            .label_font(("sans-serif", 14).into_font().color(&INK))
            .draw()
            .map_err(failed)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}
