//! What all pictures have in common: colours, text, errors.
//!
//! Included with `#[path = "../support/draw.rs"] mod draw;`.

#![allow(dead_code, reason = "shared by several examples, each of which uses a part")]

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A part of a picture.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(crate) const INK: RGBColor = RGBColor(33, 37, 41);
pub(crate) const MUTED: RGBColor = RGBColor(96, 103, 112);
pub(crate) const GRID: RGBColor = RGBColor(233, 236, 239);
pub(crate) const STRIPE: RGBColor = RGBColor(246, 247, 249);

/// Writes a line of text whose top is at `at`.
pub(crate) fn text(
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
pub(crate) fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw the picture: {error}")
}
