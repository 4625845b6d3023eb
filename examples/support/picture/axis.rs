//! The horizontal axis, which all panels share, and the histogram on it.

use std::ops::Range;

use lowbit::Element;

use super::Panel;
use super::layout::AXIS;

/// Bins over the whole axis: five pixels each.
const BINS: usize = (AXIS / 5) as usize;

/// The most ticks.
pub(super) const TICKS: usize = 15;

/// From which value to which, and the power of ten that the labels leave out.
pub(crate) struct XAxis {
    low: f64,
    high: f64,
    exponent: i32,
}

/// The axis that holds zero, all values and all ranges.
pub(crate) fn x_axis<A: Element>(values: impl Iterator<Item = A>, panels: &[Panel]) -> XAxis {
    let ranges = panels.iter().flat_map(|panel| &panel.rows).flat_map(|row| [row.low, row.high]);
    // The last level of a grid may round beyond the largest number.
    let all = values.map(Element::to_f64).chain(ranges).map(|value| value.clamp(f64::MIN, f64::MAX));
    let (low, high) = all.fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    XAxis::new(low, high)
}

impl XAxis {
    fn new(low: f64, high: f64) -> Self {
        let largest = high.max(-low);
        let magnitude = if largest > 0.0 { largest.log10().floor() as i32 } else { 0 };
        // Numbers that can be read without counting zeros need no power of ten.
        let exponent = if (-2..=3).contains(&magnitude) { 0 } else { magnitude };
        // Differences of values near the ends of their type do not overflow without it.
        let (low, high) = (without_power(low, exponent), without_power(high, exponent));
        let margin = if largest > 0.0 { 0.02 * (high - low) } else { 1.0 };
        Self { low: low - margin, high: high + margin, exponent }
    }

    /// The ends without the power of ten.
    pub(super) fn drawn(&self) -> Range<f64> {
        self.low..self.high
    }

    fn without_power(&self, value: f64) -> f64 {
        without_power(value, self.exponent)
    }

    /// The place of `value`, in pixels from the left end.
    pub(super) fn pixel(&self, value: f64) -> i32 {
        let Range { start, end } = self.drawn();
        let share = ((self.without_power(value) - start) / (end - start)).clamp(0.0, 1.0);
        (share * f64::from(AXIS)).round() as i32
    }

    /// The label of a tick.
    pub(super) fn tick(&self, x: f64) -> String {
        let Range { start, end } = self.drawn();
        // The distance of ticks is 1, 2 or 5 times a power of ten, and not less than this.
        let decimals = -((end - start) / TICKS as f64).log10().floor();
        // Rounding takes away what is left of computing them, adding zero the sign of a negative zero.
        format!("{:.*}", decimals.clamp(0.0, 9.0) as usize, (x * 1e9).round() / 1e9 + 0.0)
    }

    /// What the numbers are.
    pub(super) fn description(&self) -> String {
        match self.exponent {
            0 => "value of an element".to_owned(),
            exponent => format!("value of an element, in units of 1e{exponent}"),
        }
    }
}

fn without_power(value: f64, exponent: i32) -> f64 {
    // In two steps, so that no power overflows.
    let half = exponent / 2;
    value / 10f64.powi(half) / 10f64.powi(exponent - half)
}

/// `1`, `10`, `1k`, `1M`.
pub(super) fn count_tick(count: f64) -> String {
    match count {
        count if count >= 1e9 => format!("{}G", count / 1e9),
        count if count >= 1e6 => format!("{}M", count / 1e6),
        count if count >= 1e3 => format!("{}k", count / 1e3),
        count => format!("{count}"),
    }
}

/// How many values there are in bins of equal width over the axis.
pub(crate) struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    /// Counts values. Those beyond the axis belong to its first or last bin.
    pub(crate) fn of<A: Element>(values: impl Iterator<Item = A>, axis: &XAxis) -> Self {
        Self::counted(values.map(|value| (value.to_f64(), 1)), axis)
    }

    /// The same for values that each occur so many times: the bins of a finer histogram.
    pub(crate) fn counted(values: impl Iterator<Item = (f64, u64)>, axis: &XAxis) -> Self {
        let mut counts = vec![0u64; BINS];
        let Range { start, end } = axis.drawn();
        for (value, count) in values {
            let share = (axis.without_power(value) - start) / (end - start);
            let bin = ((share * BINS as f64) as usize).min(BINS - 1);
            counts[bin] = counts[bin].saturating_add(count);
        }
        Self { counts }
    }

    /// The largest count.
    pub(super) fn most(&self) -> f64 {
        self.counts.iter().max().map_or(1.0, |&most| most as f64)
    }

    /// The ends of each bin, on the axis without its power of ten, and its count.
    pub(super) fn bins(&self, axis: &XAxis) -> impl Iterator<Item = ((f64, f64), u64)> {
        let Range { start, end } = axis.drawn();
        let edge = move |bin: usize| start + (end - start) * bin as f64 / BINS as f64;
        self.counts.iter().enumerate().map(move |(bin, &count)| ((edge(bin), edge(bin + 1)), count))
    }
}
