//! The picture: a line for each method with a mark for each width, once over accuracy and once over SQNR.

use std::ops::Range;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::draw::{Area, GRID, INK, MUTED, STRIPE, failed, text};
use crate::measure::Outcome;
use crate::methods::Family;

/// Above the lines, and below them.
const HEADER: i32 = 96;
const FOOTER: i32 = 52;
/// A method, and what sets families apart.
const ROW: i32 = 22;
const GAP: i32 = 8;
/// The names, the two panels and what is between them.
const NAMES: i32 = 190;
const PANEL: i32 = 400;
const BETWEEN: i32 = 50;
const WIDTH: i32 = NAMES + 2 * PANEL + 2 * BETWEEN;

/// One colour for each width from 2 to 8, told apart in print too.
const COLOURS: [RGBColor; 7] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(0, 114, 178),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

/// A figure of all outcomes.
struct Panel {
    title: &'static str,
    left: i32,
    drawn: Range<f64>,
    step: f64,
    figure: fn(&Outcome) -> f64,
}

impl Panel {
    fn x(&self, value: f64) -> i32 {
        let Range { start, end } = self.drawn;
        let share = ((value - start) / (end - start)).clamp(0.0, 1.0);
        self.left + (share * f64::from(PANEL)).round() as i32
    }

    /// The axis between two heights.
    fn draw(&self, root: &Area<'_>, top: i32, bottom: i32) -> Result<()> {
        let ticks = ((self.drawn.end - self.drawn.start) / self.step).round() as i32;
        for tick in 0..=ticks {
            let value = self.drawn.start + f64::from(tick) * self.step;
            let x = self.x(value);
            line(root, [(x, top), (x, bottom)], GRID, 1)?;
            text(root, &format!("{value:.0}"), (x, bottom + 6), 14, INK, HPos::Center)?;
        }
        text(root, self.title, (self.left + PANEL / 2, bottom + 26), 14, MUTED, HPos::Center)
    }
}

/// The picture as the text of an SVG file. The first outcome is that of the float network.
pub(crate) fn draw(title: &str, outcomes: &[Outcome]) -> Result<String> {
    let float = outcomes.iter().filter(|outcome| outcome.family.is_none());
    let float: f64 = float.map(|outcome| 100.0 * outcome.accuracy).fold(0.0, f64::max);
    let mut lines: Vec<(Family, &str, Vec<&Outcome>)> = Vec::new();
    let mut widths: Vec<u32> = Vec::new();
    for outcome in outcomes {
        let Some(family) = outcome.family else { continue };
        match lines.iter_mut().find(|(_, name, _)| *name == outcome.method) {
            Some((.., marks)) => marks.push(outcome),
            None => lines.push((family, &outcome.method, vec![outcome])),
        }
        widths.push(outcome.bits);
    }
    widths.sort_unstable();
    widths.dedup();
    let gaps = lines.windows(2).filter(|pair| matches!(pair, [a, b] if a.0 != b.0)).count();
    let bottom = HEADER + ROW * lines.len() as i32 + GAP * gaps as i32;

    let finite = || outcomes.iter().map(|outcome| outcome.sqnr).filter(|sqnr| sqnr.is_finite());
    let fives = |sqnr: f64| 5.0 * (sqnr / 5.0).floor();
    let panels = [
        Panel {
            title: "accuracy on unseen images, % (dashed: float)",
            left: NAMES,
            drawn: 0.0..100.0,
            step: 10.0,
            figure: |outcome| 100.0 * outcome.accuracy,
        },
        Panel {
            title: "SQNR of the logits, dB",
            left: NAMES + PANEL + BETWEEN,
            drawn: fives(finite().fold(0.0, f64::min))..fives(finite().fold(0.0, f64::max)) + 5.0,
            step: 5.0,
            figure: |outcome| outcome.sqnr,
        },
    ];

    let mut svg = String::new();
    {
        let size = (WIDTH as u32, (bottom + FOOTER) as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        text(&root, title, (20, 14), 20, INK, HPos::Left)?;
        text(&root, "weights at", (NAMES, 52), 14, MUTED, HPos::Left)?;
        for (place, &bits) in (0..).zip(&widths) {
            let x = NAMES + 90 + 80 * place;
            mark(&root, (x, 59), bits)?;
            text(&root, &format!("{bits} bits"), (x + 10, 52), 14, INK, HPos::Left)?;
        }
        let mut y = HEADER + ROW / 2;
        let mut heights = Vec::with_capacity(lines.len());
        for (index, (family, ..)) in lines.iter().enumerate() {
            let last = index.checked_sub(1).and_then(|last| lines.get(last));
            if last.is_some_and(|last| last.0 != *family) {
                y += GAP;
            }
            heights.push(y);
            y += ROW;
        }
        // Stripes lead the eye from a name to its marks.
        for y in heights.iter().step_by(2) {
            let stripe = [(0, y - ROW / 2), (WIDTH, y + ROW / 2)];
            root.draw(&Rectangle::new(stripe, STRIPE.filled())).map_err(failed)?;
        }
        for panel in &panels {
            panel.draw(&root, HEADER, bottom)?;
        }
        let [accuracy, _] = &panels;
        let x = accuracy.x(float);
        for y in (HEADER..bottom).step_by(8) {
            line(&root, [(x, y), (x, (y + 4).min(bottom))], MUTED, 1)?;
        }
        for (y, (_, name, outcomes)) in heights.into_iter().zip(&lines) {
            text(&root, name, (NAMES - 16, y - 6), 14, INK, HPos::Right)?;
            for panel in &panels {
                draw_line(&root, panel, y, outcomes)?;
            }
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// The marks of one method, from the most bits to the fewest, so that where they meet the fewest are seen.
fn draw_line(root: &Area<'_>, panel: &Panel, y: i32, outcomes: &[&Outcome]) -> Result<()> {
    let mut marks: Vec<(u32, i32)> = outcomes
        .iter()
        .map(|outcome| (outcome.bits, (panel.figure)(outcome)))
        .filter(|(_, figure)| figure.is_finite())
        .map(|(bits, figure)| (bits, panel.x(figure)))
        .collect();
    marks.sort_by(|a, b| b.cmp(a));
    let places = || marks.iter().map(|(_, x)| *x);
    if let (Some(low), Some(high)) = (places().min(), places().max()) {
        line(root, [(low, y), (high, y)], MUTED, 1)?;
    }
    marks.into_iter().try_for_each(|(bits, x)| mark(root, (x, y), bits))
}

fn mark(root: &Area<'_>, at: (i32, i32), bits: u32) -> Result<()> {
    let place = bits.saturating_sub(2) as usize;
    let colour = COLOURS.get(place).copied().unwrap_or(INK);
    root.draw(&Circle::new(at, 5, colour.filled())).map_err(failed)
}

fn line(root: &Area<'_>, ends: [(i32, i32); 2], colour: RGBColor, width: u32) -> Result<()> {
    root.draw(&PathElement::new(ends.to_vec(), colour.stroke_width(width))).map_err(failed)
}
