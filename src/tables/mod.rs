//! Level tables with names: the values of every code, and where one level ends and the next begins.
//!
//! A table lists the values in code order, the codes that encoding produces in the order of their values, and
//! between each two of these a [`Threshold`], so that the tie rule of the system that a table comes from is part
//! of it. Values are exact in f64; where a system's constants are f32, they are these f32.

pub(crate) mod additive_powers;
pub(crate) mod dynamic;
pub(crate) mod fp4;
pub(crate) mod minifloat;
pub(crate) mod normal_float;
pub(crate) mod powers;

/// Where the level above begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Threshold {
    /// At this value.
    From(f64),
    /// Above this value, which belongs to the level below.
    Above(f64),
}

impl Threshold {
    /// The smallest f64 of the level above.
    pub(crate) fn cut_f64(self) -> f64 {
        match self {
            Self::From(value) => value,
            Self::Above(value) => value.next_up(),
        }
    }

    /// The smallest f32 of the level above.
    pub(crate) fn cut_f32(self) -> f32 {
        let (value, inside) = match self {
            Self::From(value) => (value, true),
            Self::Above(value) => (value, false),
        };
        let nearest = value as f32;
        let back = f64::from(nearest);
        if back > value || (inside && back == value) { nearest } else { nearest.next_up() }
    }

    /// The same threshold seen from the other side of zero.
    fn mirrored(self) -> Self {
        match self {
            Self::From(value) => Self::Above(-value),
            Self::Above(value) => Self::From(-value),
        }
    }
}

/// A table of levels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Levels {
    /// The value of each code.
    pub(crate) values: Vec<f64>,
    /// The codes that encoding produces, in ascending order of their values. Of two codes for zero the negative one
    /// comes first.
    pub(crate) order: Vec<u16>,
    /// Between the codes of `order`: one less than these.
    pub(crate) thresholds: Vec<Threshold>,
}

impl Levels {
    /// The levels on both sides of zero. `positive` has the codes of zero and of the larger magnitudes, ascending,
    /// `thresholds` what is between these, `negative` the codes of the same magnitudes with the other sign: all of
    /// them, or all but zero.
    fn on_both_sides(
        values: Vec<f64>,
        positive: impl IntoIterator<Item = u16>,
        negative: impl DoubleEndedIterator<Item = u16>,
        thresholds: Vec<Threshold>,
    ) -> Self {
        let mut order: Vec<u16> = negative.rev().collect();
        let negative_count = order.len();
        order.extend(positive);
        let mut both: Vec<Threshold> =
            thresholds.iter().rev().map(|threshold| threshold.mirrored()).collect();
        if negative_count > thresholds.len() {
            both.push(Threshold::From(0.0));
        }
        both.extend(thresholds);
        Self { values, order, thresholds: both }
    }

    /// The code of `value`.
    #[cfg(test)]
    pub(crate) fn code(&self, value: f64) -> u16 {
        self.order[self.thresholds.iter().filter(|threshold| value >= threshold.cut_f64()).count()]
    }

    /// The code of `value`, by the cuts of f32.
    #[cfg(test)]
    pub(crate) fn code_f32(&self, value: f32) -> u16 {
        self.order[self.thresholds.iter().filter(|threshold| value >= threshold.cut_f32()).count()]
    }

    /// Holds the table to its own rules: values ascend, and every threshold is between its two levels.
    #[cfg(test)]
    pub(crate) fn assert_consistent(&self) {
        assert_eq!(self.thresholds.len() + 1, self.order.len());
        for (pair, threshold) in self.order.windows(2).zip(&self.thresholds) {
            let (low, high) = (self.values[usize::from(pair[0])], self.values[usize::from(pair[1])]);
            let (Threshold::From(at) | Threshold::Above(at)) = *threshold;
            // A level may end at itself, where only it is exact.
            let begins = low < at || (low == at && matches!(threshold, Threshold::Above(_)));
            assert!(low < high && begins && at < high || low == 0.0 && high == 0.0 && at == 0.0);
        }
        let mut codes = self.order.clone();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), self.order.len());
        for &code in &self.order {
            let value = self.values[usize::from(code)];
            let back = self.code(value);
            assert!(back == code || value == 0.0 && self.values[usize::from(back)] == 0.0);
        }
    }
}

/// `count` f32 from `start` to `end`, as `torch.linspace` computes them: from the nearer end, each rounded once.
/// `count` is at least 2.
fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let last = count - 1;
    let step = (end - start) / last as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 {
                step.mul_add(i as f32, start)
            } else {
                (-step).mul_add((last - i) as f32, end)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Φ(x) − ½ = φ(x) (x + x³/3 + x⁵/15 + ...).
    pub(super) fn normal_above_zero(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for k in 1..400 {
            term *= x * x / f64::from(2 * k + 1);
            sum += term;
        }
        sum * (-0.5 * x * x).exp() / core::f64::consts::TAU.sqrt()
    }

    #[test]
    fn cuts_are_the_first_value_of_the_level_above() {
        for at in
            [0.0, -0.0, 1.0, 0.1, -0.1, 1e-50, -1e-50, 1e300, -2.5, f64::from(0.1f32), f64::from(-0.1f32)]
        {
            for (threshold, inside) in [(Threshold::From(at), true), (Threshold::Above(at), false)] {
                let is_above = |value: f64| value > at || (inside && value == at);
                let cut = threshold.cut_f64();
                assert!(is_above(cut) && !is_above(cut.next_down()), "{threshold:?}");
                let cut = threshold.cut_f32();
                assert!(is_above(f64::from(cut)) && !is_above(f64::from(cut.next_down())), "{threshold:?}");
            }
        }
    }

    #[test]
    fn points_are_those_of_torch() {
        // torch 2.15.0, torch.linspace(0.1, 1, 5) and (0.9677083, 0.5, 4).
        assert_eq!(linspace(0.1, 1.0, 5), [0.1, 0.325, 0.55, 0.775, 1.0]);
        assert_eq!(linspace(0.9677083, 0.5, 4), [0.967_708_3, 0.811_805_55, 0.655_902_74, 0.5]);
    }
}
