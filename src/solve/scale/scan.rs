//! The scan of the scales for minima of the error, by the values themselves.
//!
//! With its codes fixed, the error of a scale is a parabola; over all scales it is a sum of so many pieces of parabolas
//! that it is smooth on the scale of a minimum. So each scale that is looked at gives the error and its derivative, and
//! between two of them the error is the cubic of the same ends (Hermite).

use super::{GridFamily, Points, ZeroRule};
use crate::element::{Element, Real};
use crate::kernel::misfit::{Misfit, Ruler, between, excess, excess_squares, misfit, sizes, weighted_misfit};

/// The error at a scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) scale: f64,
    pub(super) error: f64,
    /// The derivative of the error by the scale.
    slope: f64,
    pub(super) zero: f64,
}

/// The part of the way from one level to the next that a typical value goes from one sample to the next.
const FINEST: f64 = 0.09;

/// Samples in one direction, at most.
const MOST_STEPS: usize = 1000;

/// A minimum between two samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dip {
    ends: [Sample; 2],
    scale: f64,
    /// What the cubic says that the error is.
    pub(super) error: f64,
}

impl Dip {
    /// The minimum of the cubic through two samples, if it has one between them.
    fn between(a: Sample, b: Sample) -> Option<Self> {
        let width = b.scale - a.scale;
        let (rise, start, end) = (b.error - a.error, a.slope * width, b.slope * width);
        let (square, cube) = (3.0 * rise - 2.0 * start - end, start + end - 2.0 * rise);
        let root = (square * square - 3.0 * cube * start).sqrt();
        let t = -start / (square + root);
        // Also false for NaN.
        (t > 0.0 && t < 1.0).then_some(Self {
            ends: [a, b],
            scale: a.scale + t * width,
            error: a.error + t * (start + t * (square + t * cube)),
        })
    }
}

/// What was found at the bottom of a dip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bottom {
    pub(super) sample: Sample,
    /// The part of the error by which the cubic was wrong.
    pub(super) wrong: f64,
}

impl From<Sample> for Bottom {
    fn from(sample: Sample) -> Self {
        Self { sample, wrong: 0.0 }
    }
}

/// What the values of one side of zero are beyond a bound.
#[derive(Debug)]
struct Tail<T> {
    /// 1 or -1.
    sign: f64,
    /// The largest magnitude of the side.
    max: f64,
    /// The values beyond the least bound that was asked for, and some more.
    values: Vec<T>,
    bound: f64,
    /// Of values with weights: the magnitudes in ascending order, and sums over each and those beyond.
    sums: Vec<(f64, Beyond)>,
}

/// Sums over values with weights: of the weights, and of them times the magnitude and its square.
#[derive(Debug, Clone, Copy, Default)]
struct Beyond {
    weight: f64,
    x: f64,
    xx: f64,
}

impl<T: Real> Tail<T> {
    fn new(sign: f64, points: &Points<'_, T>) -> Self {
        let max = if sign > 0.0 { points.high } else { -points.low };
        let mut tail =
            Self { sign, max: max.max(0.0), values: Vec::new(), bound: f64::INFINITY, sums: Vec::new() };
        let Some(weights) = points.weights else { return tail };
        let magnitudes = points.values.iter().map(|&x| sign * Element::to_f64(x));
        let own = magnitudes.zip(weights).filter(|&(x, _)| x > 0.0);
        tail.sums =
            own.map(|(x, &weight)| (x, Beyond { weight, x: weight * x, xx: weight * x * x })).collect();
        tail.sums.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut all = Beyond::default();
        for (_, sum) in tail.sums.iter_mut().rev() {
            all = Beyond { weight: all.weight + sum.weight, x: all.x + sum.x, xx: all.xx + sum.xx };
            *sum = all;
        }
        tail
    }

    /// The sum of `max(|x| − bound, 0)` over the side.
    fn excess(&mut self, bound: f64, points: &Points<'_, T>) -> f64 {
        self.sum(bound, points, excess, |beyond| beyond.x - bound * beyond.weight)
    }

    /// The sum of its squares.
    fn excess_squares(&mut self, bound: f64, points: &Points<'_, T>) -> f64 {
        self.sum(bound, points, excess_squares, |beyond| {
            beyond.xx - bound * (2.0 * beyond.x - bound * beyond.weight)
        })
    }

    /// What `sum` makes of the values beyond a bound, or `term` of the sums over them.
    fn sum(
        &mut self,
        bound: f64,
        points: &Points<'_, T>,
        sum: impl Fn(&[T], f64, f64) -> f64,
        term: impl Fn(Beyond) -> f64,
    ) -> f64 {
        /// What is kept reaches further than what is asked for, because less will be asked for next.
        const FURTHER: f64 = 0.75;
        if bound >= self.max {
            return 0.0;
        }
        if points.weights.is_some() {
            let inside = self.sums.partition_point(|&(magnitude, _)| magnitude <= bound);
            return self.sums.get(inside).map_or(0.0, |&(_, beyond)| term(beyond).max(0.0));
        }
        if bound < self.bound {
            self.bound = if bound > 0.0 { FURTHER * bound } else { bound };
            let (bound, most) = (T::from_f64(self.bound), <T as num_traits::Float>::max_value());
            let (low, high) = if self.sign > 0.0 { (bound, most) } else { (-most, -bound) };
            self.values.clear();
            between(points.values, low, high, &mut self.values);
        }
        sum(&self.values, self.sign, bound)
    }
}

/// The way from the scale at which no value is clipped, up or down.
struct Walk {
    scale: f64,
    samples: Vec<Sample>,
    steps: usize,
    /// Whether it goes on.
    open: bool,
}

/// How the errors of rounding grow with the scale where values have no structure: with its square, but for chance.
struct Trend {
    best: f64,
    /// What they deviate from the trend: the squares of as many uniform numbers from their mean, but not less than the
    /// trend itself is wrong by.
    deviation: f64,
    /// Their number, and the sum and the sum of squares of what they are in units of the square of the scale.
    samples: [f64; 3],
    few: bool,
}

impl Trend {
    fn new(values: usize, weighted: bool, best: f64) -> Self {
        let deviation = (0.9 / (values as f64).sqrt()).max(0.005);
        Self { best, deviation, samples: [0.0; 3], few: weighted || values < 2048 }
    }

    fn add(&mut self, sample: &Sample, clipped: f64) {
        self.best = self.best.min(sample.error);
        let units = (sample.error - clipped) / (sample.scale * sample.scale);
        self.samples[0] += 1.0;
        self.samples[1] += units;
        self.samples[2] += units * units;
    }

    /// The error of rounding expected at a scale.
    fn of(&self, scale: f64) -> f64 {
        let [count, sum, _] = self.samples;
        if count > 0.0 { sum / count * scale * scale } else { 0.0 }
    }

    /// Whether chance is all that errors deviate by, so that nothing is to be expected far from the trend.
    fn is_even(&self) -> bool {
        let [count, sum, squares] = self.samples;
        let mean = sum / count;
        let variance = squares / count - mean * mean;
        !self.few && count >= 8.0 && variance.max(0.0).sqrt() <= 1.6 * self.deviation * mean
    }
}

/// One scan.
pub(super) struct Scan<'a, T> {
    points: &'a Points<'a, T>,
    family: &'a GridFamily,
    /// Codes besides the one of zero.
    others: f64,
    /// The values above zero and those below.
    up: Tail<T>,
    down: Tail<T>,
    /// Codes below that of zero, where the zero point is free: the best found last.
    below: f64,
    /// The magnitude of a typical value: their mean, weighted by themselves.
    typical: f64,
    /// The square root of the sum of squares.
    norm: f64,
}

impl<'a, T: Real> Scan<'a, T> {
    pub(super) fn new(points: &'a Points<'a, T>, family: &'a GridFamily) -> Self {
        let [magnitudes, squares] = match points.weights {
            None => sizes(points.values),
            Some(weights) => {
                points.values.iter().zip(weights).fold([0.0; 2], |[first, second], (&x, weight)| {
                    let x = Element::to_f64(x);
                    [first + weight * x.abs(), second + weight * x * x]
                })
            }
        };
        Self {
            points,
            family,
            others: f64::from(family.q_max) - f64::from(family.q_min),
            up: Tail::new(1.0, points),
            down: Tail::new(-1.0, points),
            below: 0.0,
            typical: squares / magnitudes,
            norm: squares.sqrt(),
        }
    }

    /// The sum of the squares of the values.
    pub(super) fn squares(&self) -> f64 {
        self.norm * self.norm
    }

    /// The scale at which no value is clipped, and the largest scale that can be best.
    fn bounds(&self) -> (f64, f64) {
        let (up, down) = (self.up.max, self.down.max);
        let largest = up.max(down);
        let (q_min, q_max) = (f64::from(self.family.q_min), f64::from(self.family.q_max));
        match self.family.zero {
            ZeroRule::Fixed(zero) => {
                let side = |max: f64, levels: f64| if levels > 0.0 { max / levels } else { 0.0 };
                let fit = side(up, q_max - zero).max(side(down, zero - q_min));
                let half = |max: f64, levels: f64| max / ((levels.max(0.0) / 2.0).floor() + 0.5);
                let end = if zero.fract() == 0.0 {
                    half(up, q_max - zero).max(half(down, zero - q_min))
                } else {
                    4.0 * fit
                };
                (fit, end.min(2.0 * largest))
            }
            ZeroRule::Integer | ZeroRule::Real => {
                let half = (self.others / 2.0).floor();
                let end = if half > 1.0 { (up + down) / (half - 1.0) } else { 2.0 * largest };
                ((up + down) / self.others.max(1.0), end.min(2.0 * largest))
            }
        }
    }

    /// The part of a scale by which it must change until a typical value is in another place between its levels.
    pub(super) fn finest(&self, scale: f64) -> f64 {
        FINEST * scale / self.typical
    }

    /// The zero point of the least error at a scale: that which clips least. The loss on either side is convex in it.
    fn zero(&mut self, scale: f64) -> f64 {
        let q_min = f64::from(self.family.q_min);
        if let ZeroRule::Fixed(zero) = self.family.zero {
            return zero;
        }
        // Levels that values need on either side.
        let needed = |max: f64| (max / scale - 0.5).ceil().max(0.0);
        let (above, below) = (needed(self.up.max), needed(self.down.max));
        if above + below <= self.others {
            self.below = below;
            return q_min + below;
        }
        let (mut low, mut high) = ((self.others - above).max(0.0), below.min(self.others));
        // Whether no more levels are worth having below than so many.
        let mut enough = |below: f64| {
            let next = self.down.excess(scale * (below + 0.5), self.points);
            let lost = self.up.excess(scale * (self.others - below - 0.5), self.points);
            next <= lost
        };
        // The first number that is enough is near the last one found.
        let (mut probe, mut step) = (self.below, 1.0);
        while low < high {
            let near = probe.clamp(low, high - 1.0);
            let below = if step < 8.0 { near } else { (0.5 * (low + high)).floor() };
            if enough(below) {
                high = below;
                probe = below - step;
            } else {
                low = below + 1.0;
                probe = below + step;
            }
            step *= 2.0;
        }
        self.below = low;
        q_min + low
    }

    /// The error of a grid and its slope.
    pub(super) fn sample(&self, scale: f64, zero: f64) -> Sample {
        let fit = fit(self.points.values, self.points.weights, self.family.ruler(scale, zero));
        Sample { scale, error: scale * scale * fit.squares, slope: -2.0 * scale * fit.products, zero }
    }

    /// A lower bound of the part of the error at a scale that is owed to values outside the grid.
    fn clipped(&mut self, scale: f64, zero: f64) -> f64 {
        let (q_min, q_max) = (f64::from(self.family.q_min), f64::from(self.family.q_max));
        self.up.excess_squares(scale * (q_max - zero).max(0.0), self.points)
            + self.down.excess_squares(scale * (zero - q_min).max(0.0), self.points)
    }

    /// The error at the scales that can be best, in ascending order, for scales rounded by `round`. `best` is an error
    /// that is known to be reached.
    pub(super) fn run(&mut self, round: &dyn Fn(f64) -> f64, best: f64) -> Vec<Sample> {
        let (start, end) = self.bounds();
        if start.is_nan() || start <= 0.0 {
            return Vec::new();
        }
        let mut trend = Trend::new(self.points.values.len(), self.points.weights.is_some(), best);
        let mut down = Walk { scale: start, samples: Vec::with_capacity(64), steps: 0, open: true };
        let mut up = Walk { scale: start, samples: Vec::with_capacity(64), steps: 0, open: true };
        let rounded = round(start);
        if rounded > 0.0 && rounded.is_finite() {
            let zero = self.zero(rounded);
            let first = self.sample(rounded, zero);
            down.samples.push(first);
            up.samples.push(first);
        }
        for all in [false, true] {
            for (walk, sign) in [(&mut down, -1.0), (&mut up, 1.0)] {
                while walk.open && self.step(walk, sign, end, all, round, &mut trend) {}
            }
            if !all && trend.is_even() && self.is_smooth([&down, &up], end, &trend) {
                break;
            }
        }
        down.samples.reverse();
        down.samples.extend(up.samples.into_iter().skip(1));
        down.samples
    }

    /// Whether a sample of the values shows no dip far from the trend beyond the walks. Values that are multiples of
    /// something have one at its scale.
    fn is_smooth(&mut self, walks: [&Walk; 2], end: f64, trend: &Trend) -> bool {
        /// Values of the sample, at least, and what is a dip to them: four standard deviations.
        const SAMPLE: usize = 512;
        const DIP: f64 = 0.85;
        /// Strides from one look to the next: such a dip is wider than the others.
        const WIDE: f64 = 3.0;
        let values = self.points.values;
        let stride = (values.len() / SAMPLE).saturating_sub(1) | 1;
        let sample: Vec<T> = values.iter().step_by(stride).copied().collect();
        let stands_for = values.len() as f64 / sample.len() as f64;
        for (walk, sign) in walks.into_iter().zip([-1.0, 1.0]) {
            let mut scale = walk.scale;
            for _ in 0..MOST_STEPS {
                let (expected, mut clipped) = (trend.of(scale), 0.0);
                if sign < 0.0 {
                    let zero = self.zero(scale);
                    clipped = self.clipped(scale, zero);
                }
                if clipped > trend.best || scale > end {
                    break;
                }
                let open = Ruler { inverse: 1.0 / scale, shift: 0.0, low: -1e6, high: 1e6 };
                let found = misfit(&sample, open).squares * scale * scale * stands_for;
                if found < DIP * expected {
                    return false;
                }
                scale *= 1.0 + WIDE * sign * self.stride(scale, expected + clipped, trend.best);
            }
        }
        true
    }

    /// How far the next scale is, as a part of this one.
    fn stride(&self, scale: f64, error: f64, best: f64) -> f64 {
        // A minimum is as wide as it takes the codes to change. The root of the error changes by no more than the change
        // of the levels.
        let quick = 2.5 * (error.sqrt() - best.sqrt()) / self.norm;
        self.finest(scale).max(quick).clamp(1e-3, 0.04)
    }

    /// One step of a walk. Whether it was taken: unless `all` are, only where the error can be less than the best if it
    /// follows the trend.
    fn step(
        &mut self,
        walk: &mut Walk,
        sign: f64,
        end: f64,
        all: bool,
        round: &dyn Fn(f64) -> f64,
        trend: &mut Trend,
    ) -> bool {
        let rounded = round(walk.scale);
        if !(rounded > 0.0 && rounded.is_finite()) {
            walk.open = false;
            return false;
        }
        let known = walk.samples.last().filter(|last| last.scale == rounded).copied();
        let zero = known.map_or_else(|| self.zero(rounded), |known| known.zero);
        let clipped = self.clipped(rounded, zero);
        // The fewer levels, the less exact is the trend.
        let deviations = 4.0 + 8.0 * rounded / self.typical;
        let least = trend.of(rounded) * (1.0 - deviations * trend.deviation) + clipped;
        if !all && known.is_none() && least > trend.best {
            return false;
        }
        let sample = known.unwrap_or_else(|| {
            let sample = self.sample(rounded, zero);
            walk.samples.push(sample);
            trend.add(&sample, clipped);
            sample
        });
        let scale = walk.scale;
        walk.scale *= 1.0 + sign * self.stride(scale, sample.error, trend.best);
        walk.steps += 1;
        walk.open = walk.steps < MOST_STEPS
            && if sign > 0.0 {
                walk.scale < 1.04 * end
            } else {
                match self.family.zero {
                    ZeroRule::Fixed(_) => clipped <= trend.best,
                    // Another zero point may clip less at the same scale, though hardly half of this.
                    _ if self.others >= 4.0 => clipped <= 2.0 * trend.best,
                    _ => scale >= 0.01 * end || clipped <= 2.0 * trend.best,
                }
            };
        true
    }

    /// The bottom of a dip by looking at it again, once more if it is nearly as deep as `least`.
    pub(super) fn bottom(&mut self, dip: &Dip, least: f64) -> Bottom {
        const NEARLY: f64 = 1.001;
        let [mut low, mut high] = dip.ends;
        let mut best = if low.error < high.error { low } else { high };
        let (mut scale, mut wrong) = (dip.scale, None);
        for _ in 0..2 {
            let zero = self.zero(scale);
            let sample = self.sample(scale, zero);
            let wrong = *wrong.get_or_insert((sample.error - dip.error).abs() / sample.error);
            if sample.error < best.error {
                best = sample;
            }
            if best.error > least * (NEARLY + wrong) {
                break;
            }
            if sample.slope > 0.0 {
                high = sample;
            } else {
                low = sample;
            }
            let Some(next) = Dip::between(low, high) else { break };
            scale = next.scale;
        }
        Bottom { sample: best, wrong: wrong.unwrap_or(0.0) }
    }
}

/// The minima between samples in ascending order, deepest first.
pub(super) fn dips(samples: &[Sample]) -> Vec<Dip> {
    let between = |pair: &[Sample]| match pair {
        // Between scales that are further apart, some were passed over.
        &[a, b] if b.scale < a.scale * 1.05 => Dip::between(a, b),
        _ => None,
    };
    let mut dips: Vec<Dip> = samples.windows(2).filter_map(between).collect();
    dips.sort_by(|a, b| a.error.total_cmp(&b.error));
    dips
}

/// The sums of a grid over weighted or plain values.
fn fit<T: Real>(values: &[T], weights: Option<&[f64]>, ruler: Ruler) -> Misfit {
    match weights {
        Some(weights) => weighted_misfit(values, weights, ruler),
        None => misfit(values, ruler),
    }
}
