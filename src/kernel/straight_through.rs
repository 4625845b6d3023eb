//! Steps of weights that are learned through their rounding: the straight-through estimator on uniform grids.

use super::adam::{Adam, Learned};
use super::dispatch;

/// Lanes of a sum: element `i` goes to lane `i % LANES`.
const LANES: usize = 16;

/// The grids of some weights, element by element, and the codes that they have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grids<'s> {
    /// The step.
    pub(crate) scale: &'s [f32],
    /// The step at the beginning over the step: free weights are in units of the former.
    pub(crate) ratio: &'s [f32],
    /// The zero point, in codes.
    pub(crate) zero: &'s [f32],
    /// The lowest and the highest code.
    pub(crate) ends: (f32, f32),
}

impl Grids<'_> {
    /// Those of the elements `range`.
    pub(crate) fn within(&self, range: &core::ops::Range<usize>) -> Self {
        let [scale, ratio, zero] =
            [self.scale, self.ratio, self.zero].map(|all| all.get(range.clone()).unwrap_or_default());
        Self { scale, ratio, zero, ends: self.ends }
    }
}

/// The nearest integer, the even one of two, for |x| < 2²²: beyond, an integer near x.
#[inline(always)]
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    let x = x.clamp(-4_194_304.0, 4_194_304.0);
    (x + SHIFT) - SHIFT
}

/// Whether a weight at `x`, in codes, moves when its free weight does: it does not beyond the ends.
#[inline(always)]
fn is_inside(x: f32, code: f32) -> bool {
    (x - code).abs() <= 0.5
}

dispatch! {
    /// The codes of free weights, and the errors `ŵ − w` that they leave.
    pub(crate) fn round_free[](
        free: &[f32],
        weights: &[f32],
        grids: Grids<'_>,
        codes: &mut [f32],
        errors: &mut [f32],
    ) {
        let parameters = grids.scale.iter().zip(grids.ratio).zip(grids.zero);
        let state = free.iter().zip(weights).zip(parameters);
        for (((&u, &w), ((&scale, &ratio), &zero)), (code, error)) in state.zip(codes.iter_mut().zip(errors)) {
            *code = round(u * ratio + zero).clamp(grids.ends.0, grids.ends.1);
            *error = scale * (*code - zero) - w;
        }
    }
}

dispatch! {
    /// One step of free weights against `gradient`, that of the loss by the rounded weights, times `factor`.
    pub(crate) fn step_free[](
        adam: Adam,
        factor: f32,
        gradient: &[f32],
        grids: Grids<'_>,
        codes: &[f32],
        free: Learned<'_>,
    ) {
        let Learned { values, means, squares } = free;
        let parameters = grids.scale.iter().zip(grids.ratio).zip(grids.zero);
        let state = values.iter_mut().zip(means.iter_mut().zip(squares)).zip(gradient.iter().zip(codes));
        for (((u, (mean, square)), (&gradient, &code)), ((&scale, &ratio), &zero)) in state.zip(parameters) {
            let slope = if is_inside(*u * ratio + zero, code) { scale * ratio } else { 0.0 };
            *u = adam.step(*u, gradient * slope * factor, mean, square);
        }
    }
}

dispatch! {
    /// The gradient of the loss by the logarithm of the scale that the weights share, given that by the rounded weights:
    /// `s ∂ŵ/∂s = s(q − z) − s₀u` within the range of the codes, and `s(q − z)` beyond (Esser et al. 2020, *Learned step
    /// size quantization*, equation 3).
    pub(crate) fn gradient_by_scale[](free: &[f32], gradient: &[f32], grids: Grids<'_>, codes: &[f32]) -> f32 {
        let mut lanes = [0.0f32; LANES];
        let parameters = grids.scale.chunks(LANES).zip(grids.ratio.chunks(LANES)).zip(grids.zero.chunks(LANES));
        let state = free.chunks(LANES).zip(gradient.chunks(LANES)).zip(codes.chunks(LANES));
        for (((free, gradient), codes), ((scale, ratio), zero)) in state.zip(parameters) {
            let parameters = scale.iter().zip(ratio).zip(zero);
            let state = free.iter().zip(gradient).zip(codes);
            for (lane, (((u, gradient), code), ((scale, ratio), zero))) in lanes.iter_mut().zip(state.zip(parameters)) {
                let x = u * ratio;
                let moved = if is_inside(x + zero, *code) { x } else { 0.0 };
                *lane += gradient * scale * (code - zero - moved);
            }
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::forced;

    #[test]
    fn gradients_by_scale_are_those_of_the_equation() {
        let count = 37;
        let free: Vec<f32> = (0..count).map(|i| ((i * 29) % 37) as f32 * 0.43 - 8.0).collect();
        let gradient: Vec<f32> = (0..count).map(|i| ((i * 17) % 23) as f32 * 0.1 - 1.0).collect();
        let (scale, ratio, zero) = (vec![0.25; count], vec![1.25; count], vec![1.0; count]);
        let grids = Grids { scale: &scale, ratio: &ratio, zero: &zero, ends: (-4.0, 3.0) };
        let (codes, found) = forced::agreed(|| {
            let (mut codes, mut errors) = (vec![0.0; count], vec![0.0; count]);
            round_free(&free, &vec![0.0; count], grids, &mut codes, &mut errors);
            (codes.clone(), gradient_by_scale(&free, &gradient, grids, &codes))
        });
        let mut sum = 0.0;
        for ((&u, &code), &gradient) in free.iter().zip(&codes).zip(&gradient) {
            // v/s and the bounds −Q_N and Q_P.
            let x = 1.25 * f64::from(u);
            let by_scale = if x <= -5.0 {
                assert_eq!(code, -4.0);
                -5.0
            } else if x >= 2.0 {
                assert_eq!(code, 3.0);
                // At the bound itself both are the same but for half a step.
                if x < 2.5 { 2.0 - x } else { 2.0 }
            } else {
                x.round_ties_even() - x
            };
            sum += f64::from(gradient) * 0.25 * if x <= -5.0 && x > -5.5 { -5.0 - x } else { by_scale };
        }
        assert!((sum - f64::from(found)).abs() < 1e-4, "{sum} {found}");
    }

    #[test]
    fn free_weights_move_within_the_range_alone() {
        let (free, weights) = ([-9.0f32, 0.6, 1.5, 9.0], [0.5f32; 4]);
        let (scale, ratio, zero) = ([0.5f32; 4], [1.0f32; 4], [0.0f32; 4]);
        let grids = Grids { scale: &scale, ratio: &ratio, zero: &zero, ends: (-4.0, 3.0) };
        let (codes, errors, moved) = forced::agreed(|| {
            let (mut codes, mut errors) = ([0.0; 4], [0.0; 4]);
            round_free(&free, &weights, grids, &mut codes, &mut errors);
            let (mut values, mut means, mut squares) = (free, [0.0; 4], [0.0; 4]);
            let learned = Learned { values: &mut values, means: &mut means, squares: &mut squares };
            step_free(Adam::new(0.1, 1), 1.0, &[1.0; 4], grids, &codes, learned);
            (codes, errors, values)
        });
        assert_eq!(codes, [-4.0, 1.0, 2.0, 3.0]);
        assert_eq!(errors, [-2.5, 0.0, 0.5, 1.0]);
        // The first step of Adam is the learning rate.
        assert!((moved[1] - 0.5).abs() < 1e-6 && (moved[2] - 1.4).abs() < 1e-6);
        assert_eq!((moved[0], moved[3]), (-9.0, 9.0));
    }
}
