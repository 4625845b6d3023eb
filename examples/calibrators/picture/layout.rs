//! Where things are, in pixels, and their colours.

use plotters::style::RGBColor;

pub(super) const WIDTH: i32 = 1280;
/// Above the first panel.
pub(super) const HEADER: i32 = 84;
/// The heading of a panel.
pub(super) const HEADING: i32 = 28;
/// One calibration.
pub(super) const ROW: i32 = 20;
/// The histogram without its labels.
pub(super) const PLOT: i32 = 170;
/// The labels below it.
pub(super) const X_LABELS: i32 = 48;
/// The labels left of it.
pub(super) const Y_LABELS: i32 = 84;
/// Between two panels.
const GAP: i32 = 26;
/// The ends of the horizontal axis.
pub(super) const LEFT: i32 = 190;
pub(super) const RIGHT: i32 = 930;
/// The right ends of the columns of figures.
pub(super) const RANGE_COLUMN: i32 = 1085;
pub(super) const SQNR_COLUMN: i32 = 1160;
pub(super) const CLIPPED_COLUMN: i32 = 1230;

pub(super) const fn panel_height(rows: usize) -> i32 {
    HEADING + rows as i32 * ROW + PLOT + X_LABELS + GAP
}

pub(super) const INK: RGBColor = RGBColor(33, 37, 41);
pub(super) const MUTED: RGBColor = RGBColor(96, 103, 112);
pub(super) const GRID: RGBColor = RGBColor(233, 236, 239);
pub(super) const STRIPE: RGBColor = RGBColor(246, 247, 249);
pub(super) const BAR: RGBColor = RGBColor(190, 197, 206);
pub(super) const BEST: RGBColor = RGBColor(0, 120, 60);

/// One for each calibration: percentiles blue, KL warm, MSE green.
pub(super) const COLOURS: [RGBColor; 9] = [
    RGBColor(40, 40, 40),
    RGBColor(86, 180, 233),
    RGBColor(0, 90, 170),
    RGBColor(122, 30, 10),
    RGBColor(214, 69, 20),
    RGBColor(245, 160, 40),
    RGBColor(225, 30, 130),
    RGBColor(140, 70, 175),
    RGBColor(0, 150, 90),
];
