//! Where things are, in pixels, and their colours.

use plotters::style::RGBColor;

/// Above the first panel.
pub(super) const HEADER: i32 = 84;
/// The heading of a panel.
pub(super) const HEADING: i32 = 28;
/// One calibration.
pub(super) const ROW: i32 = 20;
/// Between the rows and the histogram, for the label of its highest tick.
pub(super) const ABOVE_PLOT: i32 = 8;
/// The histogram without its labels.
pub(super) const PLOT: i32 = 170;
/// The labels below it.
pub(super) const X_LABELS: i32 = 48;
/// The labels left of it.
pub(super) const Y_LABELS: i32 = 84;
/// Between two panels.
const GAP: i32 = 26;
/// The length of the horizontal axis.
pub(super) const AXIS: i32 = 740;

/// Where the columns are: they move right with the longest name.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// The ends of the horizontal axis.
    pub(super) left: i32,
    pub(super) right: i32,
    /// The right ends of the columns of figures.
    pub(super) range: i32,
    pub(super) sqnr: i32,
    pub(super) clipped: i32,
    /// The width of the picture.
    pub(super) width: i32,
}

impl Columns {
    /// The columns for names of up to so many characters.
    pub(super) fn new(longest: usize) -> Self {
        // A character is about seven pixels wide; no name is longer than a line.
        let left = 190.max(44 + 7 * i32::try_from(longest).unwrap_or(200).min(200));
        let right = left + AXIS;
        Self { left, right, range: right + 155, sqnr: right + 230, clipped: right + 300, width: right + 350 }
    }
}

pub(super) const fn panel_height(rows: usize) -> i32 {
    HEADING + rows as i32 * ROW + ABOVE_PLOT + PLOT + X_LABELS + GAP
}

pub(super) const BAR: RGBColor = RGBColor(190, 197, 206);
pub(super) const BEST: RGBColor = RGBColor(0, 120, 60);

/// One for each calibration. The first nine are those of the example `calibrators`: percentiles blue, KL warm, MSE
/// green.
pub(super) const COLOURS: [RGBColor; 18] = [
    RGBColor(40, 40, 40),
    RGBColor(86, 180, 233),
    RGBColor(0, 90, 170),
    RGBColor(122, 30, 10),
    RGBColor(214, 69, 20),
    RGBColor(245, 160, 40),
    RGBColor(225, 30, 130),
    RGBColor(140, 70, 175),
    RGBColor(0, 150, 90),
    RGBColor(120, 120, 120),
    RGBColor(170, 130, 60),
    RGBColor(100, 100, 220),
    RGBColor(255, 110, 110),
    RGBColor(110, 160, 20),
    RGBColor(0, 160, 170),
    RGBColor(190, 90, 190),
    RGBColor(90, 70, 40),
    RGBColor(200, 170, 0),
];
