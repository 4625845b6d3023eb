//! Steps of Adam, fused with what is learned: how far each weight is rounded up.
//!
//! Exponentials and powers are polynomials that the compiler vectorizes; their errors are stated and tested.

use super::dispatch;

/// The moments of Adam: shares of the old mean and of the old mean square that are kept.
const KEEP_MEAN: f32 = 0.9;
const KEEP_SQUARE: f32 = 0.999;
/// So that a gradient of zero is no division by zero.
const EPSILON: f32 = 1e-8;

/// The stretch of the rectified sigmoid: `ζ = 1.1`, `γ = −0.1`.
const STRETCH: f32 = 1.2;
const LOW: f32 = -0.1;
const HIGH: f32 = 1.1;

/// What is the same for all numbers in a step of Adam.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Adam {
    /// The learning rate over the bias of the mean, `α / (1 − β₁ᵗ)`.
    rate: f32,
    /// The bias of the root of the mean square, `1 / √(1 − β₂ᵗ)`.
    unbias: f32,
}

impl Adam {
    /// Step `step`, counted from 1, with a learning rate.
    pub(crate) fn new(rate: f64, step: usize) -> Self {
        let left = |keep: f32| 1.0 - f64::from(keep).powf(step.max(1) as f64);
        Self { rate: (rate / left(KEEP_MEAN)) as f32, unbias: (1.0 / left(KEEP_SQUARE).sqrt()) as f32 }
    }

    /// Moves `x` against `gradient`.
    #[inline(always)]
    pub(super) fn step(self, x: f32, gradient: f32, mean: &mut f32, square: &mut f32) -> f32 {
        *mean = KEEP_MEAN * *mean + (1.0 - KEEP_MEAN) * gradient;
        *square = KEEP_SQUARE * *square + (1.0 - KEEP_SQUARE) * (gradient * gradient);
        x - self.rate * *mean / (square.sqrt() * self.unbias + EPSILON)
    }
}

/// What is learned of some weights, and the moments of its gradient.
#[derive(Debug)]
pub(crate) struct Learned<'s> {
    pub(crate) values: &'s mut [f32],
    pub(crate) means: &'s mut [f32],
    pub(crate) squares: &'s mut [f32],
}

/// A step of rounding variables, but for what differs between weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RoundingStep {
    pub(crate) adam: Adam,
    /// What the gradients are multiplied with.
    pub(crate) scale: f32,
    /// The weight λ of the regularizer; none if zero.
    pub(crate) regularizer: f32,
    /// Its exponent β.
    pub(crate) exponent: f32,
}

/// Levels below and above weights, as seen from these: `low = l − w` and `gap = u − l`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between<'s> {
    pub(crate) low: &'s [f32],
    pub(crate) gap: &'s [f32],
}

/// How far up, from 0 to 1: the rectified sigmoid of V.
#[inline(always)]
fn rectified(v: f32) -> f32 {
    stretched(sigmoid(v))
}

/// A sigmoid, stretched and cut off.
#[inline(always)]
fn stretched(sigmoid: f32) -> f32 {
    (STRETCH * sigmoid + LOW).clamp(0.0, 1.0)
}

/// `1 / (1 + e^−v)`, within 5·10⁻⁷ of it.
#[inline(always)]
fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + exp2(-core::f32::consts::LOG2_E * v))
}

/// `2^x` within 3·10⁻⁷ of itself for −126 ≤ x ≤ 126; that of the nearer end for x beyond.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    // Adding it rounds to an integer, which is then in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    let x = x.clamp(-126.0, 126.0);
    let shifted = x + SHIFT;
    let f = x - (shifted - SHIFT);
    // The series of e^(f·ln 2) for |f| ≤ 1/2.
    let mut p = 1.540_353e-4f32;
    for coefficient in [1.333_355_8e-3, 9.618_13e-3, 5.550_411e-2, 2.402_265e-1, core::f32::consts::LN_2, 1.0]
    {
        p = p * f + coefficient;
    }
    let power = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    p * f32::from_bits((power.wrapping_add(127) << 23) as u32)
}

/// `log₂ x` within 3·10⁻⁷ (or of itself, where that is more) for normal positive x; about −127 for zero.
#[inline(always)]
fn log2(x: f32) -> f32 {
    // From √½ to √2 times a power of two.
    let bits = (x.to_bits() as i32).wrapping_sub(0x3F35_04F3);
    let power = bits >> 23;
    let m = f32::from_bits((bits & 0x007F_FFFF).wrapping_add(0x3F35_04F3) as u32);
    // 2 / ln 2 · artanh((m − 1) / (m + 1)).
    let s = (m - 1.0) / (m + 1.0);
    let t = s * s;
    let mut p = 0.320_598_9f32;
    for coefficient in [0.412_198_6, 0.577_078, 0.961_796_7, 2.885_39] {
        p = p * t + coefficient;
    }
    power as f32 + s * p
}

dispatch! {
    /// How far up the variables `v` are.
    pub(crate) fn rectified_sigmoids[](v: &[f32], h: &mut [f32]) {
        for (h, &v) in h.iter_mut().zip(v) {
            *h = rectified(v);
        }
    }
}

dispatch! {
    /// `low + h · gap`: the errors of weights that are `h` of the way up.
    pub(crate) fn errors_between[](h: &[f32], between: Between<'_>, errors: &mut [f32]) {
        for ((error, &h), (&low, &gap)) in errors.iter_mut().zip(h).zip(between.low.iter().zip(between.gap)) {
            *error = low + h * gap;
        }
    }
}

dispatch! {
    /// One step of the variables V of some weights, which were `h` of the way up, against `gradient`, that of the loss by
    /// the weights, and against the regularizer `λ(1 − |2h − 1|^β)`. Leaves `h` and `errors` as they are then.
    pub(crate) fn step_rounding[](
        step: RoundingStep,
        gradient: &[f32],
        between: Between<'_>,
        variables: Learned<'_>,
        h: &mut [f32],
        errors: &mut [f32],
    ) {
        let Learned { values, means, squares } = variables;
        let learned = values.chunks_mut(BLOCK).zip(means.chunks_mut(BLOCK)).zip(squares.chunks_mut(BLOCK));
        let levels = between.low.chunks(BLOCK).zip(between.gap.chunks(BLOCK));
        let ends = h.chunks_mut(BLOCK).zip(errors.chunks_mut(BLOCK));
        let blocks = learned.zip(gradient.chunks(BLOCK).zip(levels)).zip(ends);
        for ((((values, means), squares), (gradient, (low, gap))), (h, errors)) in blocks {
            let learned = Learned { values, means, squares };
            step_block(step, gradient, Between { low, gap }, learned, h, errors);
        }
    }
}

/// Weights whose step is taken together, pass by pass. One long chain of operations for each weight would leave the
/// processor waiting for results; short loops over a block in the nearest cache overlap.
const BLOCK: usize = 128;

#[inline(always)]
fn step_block(
    step: RoundingStep,
    gradient: &[f32],
    between: Between<'_>,
    variables: Learned<'_>,
    h: &mut [f32],
    errors: &mut [f32],
) {
    let Learned { values, means, squares } = variables;
    let mut powers = [0.0f32; BLOCK];
    if step.regularizer > 0.0 {
        for (power, &h) in powers.iter_mut().zip(&*h) {
            *power = log2((2.0 * h - 1.0).abs());
        }
        for (power, _) in powers.iter_mut().zip(&*h) {
            *power = exp2((step.exponent - 1.0) * *power);
        }
    }
    let by_power = -2.0 * step.regularizer * step.exponent;
    let mut slopes = [0.0f32; BLOCK];
    let given = gradient.iter().zip(between.gap).zip(powers.iter().zip(&*h));
    for (slope, ((&gradient, &gap), (&power, &h))) in slopes.iter_mut().zip(given) {
        let by_h = gradient * gap * step.scale + by_power * power.copysign(2.0 * h - 1.0);
        let inside = (h - LOW) * (HIGH - h) * (1.0 / STRETCH);
        *slope = by_h * if h > 0.0 && h < 1.0 { inside } else { 0.0 };
    }
    let moments = means.iter_mut().zip(squares);
    for ((v, (mean, square)), &slope) in values.iter_mut().zip(moments).zip(&slopes) {
        *v = step.adam.step(*v, slope, mean, square);
    }
    let mut exponentials = slopes;
    for (exponential, &v) in exponentials.iter_mut().zip(&*values) {
        *exponential = exp2(-core::f32::consts::LOG2_E * v);
    }
    let levels = between.low.iter().zip(between.gap);
    for ((h, error), (&exponential, (&low, &gap))) in
        h.iter_mut().zip(errors).zip(exponentials.iter().zip(levels))
    {
        *h = stretched(1.0 / (1.0 + exponential));
        *error = low + *h * gap;
    }
}

/// The variable V that is `h` of the way up, for h from 0 to 1.
pub(crate) fn variable_of(h: f64) -> f32 {
    -(f64::from(STRETCH) / (h - f64::from(LOW)) - 1.0).ln() as f32
}

dispatch! {
    /// One step of numbers against their gradients.
    pub(crate) fn step_plain[](adam: Adam, gradient: &[f32], numbers: Learned<'_>) {
        let Learned { values, means, squares } = numbers;
        let moments = means.iter_mut().zip(squares);
        for ((value, (mean, square)), &gradient) in values.iter_mut().zip(moments).zip(gradient) {
            *value = adam.step(*value, gradient, mean, square);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::forced;

    #[test]
    fn exponentials_and_logarithms_have_the_stated_errors() {
        for i in -126_000..=126_000 {
            let x = i as f32 / 1000.0;
            let (found, exact) = (f64::from(exp2(x)), f64::from(x).exp2());
            assert!((found / exact - 1.0).abs() < 3e-7, "{x}: {found} {exact}");
        }
        assert_eq!((exp2(f32::NEG_INFINITY), exp2(f32::INFINITY)), (exp2(-126.0), exp2(126.0)));
        for i in 1..200_000u32 {
            // All magnitudes, and many near 1.
            for x in [f32::from_bits((1 << 23) + i * 10_000), i as f32 / 100_000.0] {
                let (found, exact) = (f64::from(log2(x)), f64::from(x).log2());
                assert!((found - exact).abs() < 3e-7 * exact.abs().max(1.0), "{x}: {found} {exact}");
            }
        }
        assert!((-128.0..-126.0).contains(&log2(0.0)));
        for i in -90_000..=90_000 {
            let v = i as f32 / 1000.0;
            let exact = 1.0 / (1.0 + (-f64::from(v)).exp());
            assert!((f64::from(sigmoid(v)) - exact).abs() < 5e-7, "{v}");
        }
    }

    #[test]
    fn variables_are_the_inverse_of_the_rectified_sigmoid() {
        for i in 0..=100 {
            let h = f64::from(i) / 100.0;
            assert!((f64::from(rectified(variable_of(h))) - h).abs() < 1e-6, "{h}");
        }
    }

    /// A number of weights that fills no vector evenly.
    const COUNT: usize = 37;

    fn numbers(seed: u32) -> Vec<f32> {
        (0..COUNT as u32).map(|i| ((i * 37 + seed * 101) % 89) as f32 / 89.0).collect()
    }

    #[test]
    fn steps_are_those_of_the_definition_at_every_level() {
        let (low, gap) = (numbers(1).iter().map(|x| x - 1.0).collect::<Vec<_>>(), numbers(2));
        let between = Between { low: &low, gap: &gap };
        let gradient: Vec<f32> = numbers(3).iter().map(|x| x - 0.5).collect();
        let mut first = None;
        for level in forced::available() {
            let found = forced::with(level, || {
                let mut v: Vec<f32> = numbers(4).iter().map(|x| 5.0 * (x - 0.5)).collect();
                let (mut means, mut squares) = (vec![0.0; COUNT], vec![0.0; COUNT]);
                let (mut h, mut errors) = (vec![0.0; COUNT], vec![0.0; COUNT]);
                rectified_sigmoids(&v, &mut h);
                errors_between(&h, between, &mut errors);
                let mut expected: Vec<(f64, f64, f64)> =
                    v.iter().map(|&v| (f64::from(v), 0.0, 0.0)).collect();
                for t in 1..=30 {
                    let regularizer = if t < 10 { 0.0 } else { 0.3 };
                    let (rate, scale, exponent) = (0.05, 1.5, 20.0 - 0.6 * t as f32);
                    let adam = Adam::new(rate, t);
                    let step = RoundingStep { adam, scale, regularizer, exponent };
                    let variables = Learned { values: &mut v, means: &mut means, squares: &mut squares };
                    step_rounding(step, &gradient, between, variables, &mut h, &mut errors);
                    for (i, (v, mean, square)) in expected.iter_mut().enumerate() {
                        let sigmoid = 1.0 / (1.0 + (-*v).exp());
                        let h = (1.2 * sigmoid - 0.1).clamp(0.0, 1.0);
                        let slope = if h > 0.0 && h < 1.0 { 1.2 * sigmoid * (1.0 - sigmoid) } else { 0.0 };
                        let (beta, d) = (f64::from(exponent), 2.0 * h - 1.0);
                        let by_h =
                            -f64::from(regularizer) * beta * d.abs().powf(beta - 1.0) * 2.0 * d.signum();
                        let g = (f64::from(gradient[i]) * f64::from(gap[i]) * 1.5 + by_h) * slope;
                        *mean = 0.9 * *mean + 0.1 * g;
                        *square = 0.999 * *square + 0.001 * g * g;
                        let (mean, square) = (
                            *mean / (1.0 - 0.9f64.powi(t as i32)),
                            *square / (1.0 - 0.999f64.powi(t as i32)),
                        );
                        *v -= rate * mean / (square.sqrt() + 1e-8);
                    }
                }
                for (i, (expected, ..)) in expected.iter().enumerate() {
                    // 30 steps of 0.05, each with the error of f32 in 1 - 0.999.
                    assert!((f64::from(v[i]) - expected).abs() < 1e-4, "{i}: {} {expected}", v[i]);
                    assert_eq!(errors[i], low[i] + h[i] * gap[i]);
                }
                (v, h, errors)
            });
            match &first {
                None => first = Some(found),
                Some(first) => assert_eq!(first, &found, "{level:?}"),
            }
        }
    }
}
