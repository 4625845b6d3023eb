//! The squared error of every affine grid from one table.
//!
//! Take the level nearest zero for all values, then let each boundary b between two levels, S apart, hand the
//! values beyond it to the next level: (x - L - S)^2 - (x - L)^2 = -2 S (x - b). So
//!
//! ```text
//! sum of squared errors = sum (x - L_0)^2 - 2 S sum_b excess(b),     excess(b) = sum max(|x| - b, 0),
//! ```
//!
//! with boundaries on either side of L_0 and the excess of that side. The excess is convex and smooth; it is
//! kept by equal cells, exact at their edges and interpolated by a parabola between them.

use super::Points;
use crate::element::{Element, Real};

/// 1.5 * 2^52: adding it to a small number rounds that to an integer, in the low bits of the sum.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// Interpolated excess of one cell: `value + t * (slope + t * bend)`, t in [0, 1].
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    value: f64,
    slope: f64,
    bend: f64,
}

/// The values of one sign.
#[derive(Debug, Default)]
pub(super) struct Side {
    cells: Vec<Cell>,
    /// The sum of squared distances of values beyond each cell's upper edge.
    squares: Vec<f64>,
    per_cell: f64,
    /// The largest magnitude.
    pub(super) max: f64,
}

impl Side {
    /// A side from the count, sum and sum of squares of each cell's magnitudes.
    fn new(cells: &[[f64; 2]], width: f64, max: f64) -> Self {
        if max <= 0.0 {
            return Self::default();
        }
        let mut side = Self {
            cells: vec![Cell::default(); cells.len()],
            squares: vec![0.0; cells.len()],
            per_cell: 1.0 / width,
            max,
        };
        // Excess and its slope at the upper edge of the cell, from the last one down.
        let (mut value, mut count, mut square) = (0.0, 0.0, 0.0);
        let slots = side.cells.iter_mut().zip(&mut side.squares).zip(cells).enumerate().rev();
        for (i, ((slot, square_slot), &[own_count, own_sum])) in slots {
            *square_slot = square;
            let lower = i as f64 * width;
            let (beyond, above) = (own_sum - own_count * lower, count);
            // Values beyond the upper edge move on by a width, those of the cell by their own distance;
            // the latter's squares are at least those of their mean.
            square += width * (2.0 * value + width * above);
            if own_count > 0.0 {
                square += beyond.max(0.0) * beyond.max(0.0) / own_count;
            }
            let high = value;
            value += above * width + beyond;
            count += own_count;
            let slope = -count * width;
            *slot = Cell { value, slope, bend: high - value - slope };
        }
        side
    }

    /// The sum of max(|x| - b, 0) for b >= 0.
    #[inline(always)]
    fn excess(&self, b: f64) -> f64 {
        let v = b * self.per_cell;
        // Rounding v - 1/2 is the floor of v, but for v on an edge, where both cells agree.
        let shifted = (v - 0.5) + MAGIC;
        let index = (shifted.to_bits() & 0xffff_ffff) as usize;
        match self.cells.get(index) {
            Some(cell) => {
                let t = v - (shifted - MAGIC);
                cell.value + t * (cell.slope + t * cell.bend)
            }
            None => 0.0,
        }
    }

    /// A lower bound of the sum of max(|x| - b, 0)^2.
    fn clipped(&self, b: f64) -> f64 {
        self.squares.get((b * self.per_cell) as usize).copied().unwrap_or(0.0)
    }

    /// How many of the boundaries `step * (first + k)`, k >= 0, have values beyond them, at most `limit`.
    fn boundaries(&self, step: f64, first: f64, limit: usize) -> usize {
        ((self.max / step - first + 1.0).clamp(0.0, 1e9) as usize).min(limit)
    }
}

/// The squared error of a grid by the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    pub(super) error: f64,
    /// A lower bound of the part owed to values outside the grid.
    pub(super) clipped: f64,
    /// Levels below the one nearest zero.
    pub(super) below: usize,
}

/// Both sides of a set of values around a centre.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) up: Side,
    pub(super) down: Side,
    total: f64,
    sum: f64,
    pub(super) squares: f64,
}

impl Table {
    /// The table of `points - centre`.
    pub(super) fn new<T: Real>(points: &Points<'_, T>, centre: f64, cells: usize) -> Self {
        let (low, high) = (points.low - centre, points.high - centre);
        let max = high.max(-low);
        let width = max / cells as f64;
        if width.is_nan() || width <= 0.0 {
            return Self::default();
        }
        let per_cell = 1.0 / width;
        let mut sides = vec![[0.0_f64; 2]; 2 * cells];
        let (mut total, mut sum, mut squares) = (0.0, 0.0, 0.0);
        let mut add = |x: f64, weight: f64| {
            let x = x - centre;
            let magnitude = x.abs();
            let shifted = (magnitude * per_cell - 0.5).max(0.0) + MAGIC;
            let index = ((shifted.to_bits() & 0xffff_ffff) as usize).min(cells - 1);
            let side = if x < 0.0 { cells } else { 0 };
            if let Some(cell) = sides.get_mut(side + index) {
                cell[0] += weight;
                cell[1] += weight * magnitude;
            }
            total += weight;
            sum += weight * x;
            squares += weight * (x * x);
        };
        match points.weights {
            Some(weights) => {
                points.values.iter().zip(weights).for_each(|(&x, &w)| add(Element::to_f64(x), w))
            }
            None => points.values.iter().for_each(|&x| add(Element::to_f64(x), 1.0)),
        }
        let (up, down) = sides.split_at(cells);
        let (up, down) = (Side::new(up, width, high.max(0.0)), Side::new(down, width, (-low).max(0.0)));
        Self { up, down, total, sum, squares }
    }

    /// The error of the grid with levels `scale * (phase + j)`, so many besides the one nearest zero and placed at best;
    /// `phase` in [-1/2, 1/2].
    pub(super) fn error(&self, scale: f64, phase: f64, others: usize) -> Estimate {
        let (first_up, first_down) = (0.5 + phase, 0.5 - phase);
        let up = |k: usize| self.up.excess(scale * (first_up + k as f64));
        let down = |k: usize| self.down.excess(scale * (first_down + k as f64));
        let mut excess = 0.0;
        // Both sides' excesses fall with every boundary, so taking the larger is taking the best.
        let most =
            [self.up.boundaries(scale, first_up, others), self.down.boundaries(scale, first_down, others)];
        let (mut a, mut b) = (0, 0);
        if most[0] + most[1] <= others {
            (0..most[0]).for_each(|k| excess += up(k));
            (0..most[1]).for_each(|k| excess += down(k));
            b = most[1];
        } else {
            let (mut next_up, mut next_down) = (up(0), down(0));
            while a + b < others {
                if next_up >= next_down {
                    excess += next_up;
                    a += 1;
                    next_up = up(a);
                } else {
                    excess += next_down;
                    b += 1;
                    next_down = down(b);
                }
            }
        }
        let (above, below) = (others - b, b);
        let base = scale * phase;
        let error = self.squares - 2.0 * base * self.sum + base * base * self.total - 2.0 * scale * excess;
        let clipped = self.up.clipped(scale * (phase + above as f64).max(0.0))
            + self.down.clipped(scale * (below as f64 - phase).max(0.0));
        Estimate { error: error.max(0.0), clipped, below }
    }
}
