//! Whether each weight goes to the level above or to the one below, as something that can be learned.
//!
//! Nagel, Amjad, van Baalen, Louizos and Blankevoort 2020, *Up or down? Adaptive rounding for post-training quantization*:
//! a weight between its levels l and u is, while it is learned, a share h of the way up (equations 22 to 24),
//!
//! ```text
//! ŵ     =  l + (u − l) · h(V)
//! h(V)  =  clip(σ(V)(ζ − γ) + γ, 0, 1)        ζ = 1.1,  γ = −0.1
//! f(V)  =  Σ 1 − |2h(V) − 1|^β
//! ```
//!
//! and the regularizer f drives every h to 0 or 1, while β falls and leaves ever less room in between.

use core::ops::Range;

use crate::element::{Element, Real};
use crate::error::{ConfigError, Result};
use crate::kernel::adam::{
    Adam, Between, Learned, RoundingStep, errors_between, rectified_sigmoids, step_rounding, variable_of,
};
use crate::tensor::{Scheme, decider, sign_extend};

use super::gradient::InputData;
use super::places::row_segments;
use super::row_levels::RowLevels;
use super::weights::Weights;

/// How the regularizer goes: nothing during a warm start, and an exponent that falls from 20 to 2 by a cosine afterwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Annealing {
    pub(super) steps: usize,
    /// The share of the steps without regularizer.
    pub(super) warm_start: f64,
    /// The weight λ.
    pub(super) weight: f64,
}

impl Annealing {
    /// The exponent of the first step that is regularized, and that of the last.
    const EXPONENTS: (f64, f64) = (20.0, 2.0);

    /// Weight and exponent in step `step`, counted from zero.
    pub(super) fn at(&self, step: usize) -> (f32, f32) {
        let warm = (self.warm_start * self.steps as f64).ceil() as usize;
        let (from, to) = Self::EXPONENTS;
        if step < warm {
            return (0.0, from as f32);
        }
        let done = (step - warm) as f64 / self.steps.saturating_sub(warm).max(1) as f64;
        let exponent = to + 0.5 * (from - to) * (1.0 + (core::f64::consts::PI * done).cos());
        (self.weight as f32, exponent as f32)
    }
}

/// The rounding of some rows while it is learned.
#[derive(Debug)]
pub(super) struct Rounding {
    inputs: usize,
    /// Codes of the levels below and above, as fields.
    codes: [Vec<u16>; 2],
    /// Levels below less weights, and the distances of both levels.
    low: Vec<f32>,
    gap: Vec<f32>,
    /// V, and the moments of its gradient.
    variables: Vec<f32>,
    means: Vec<f32>,
    squares: Vec<f32>,
    /// h(V)
    shares: Vec<f32>,
    /// One over the error of a row with one weight off by one step, on average: what makes the regularizer's weight a
    /// number without unit.
    scales: Vec<f32>,
}

impl Rounding {
    /// The rows `rows` of a layer, of one group, on their way from their weights. `nearest` are the nearest codes of
    /// all rows as fields; weights that have no level on one side, or inputs that are always zero, keep theirs.
    pub(super) fn new<T: Real>(
        layer: &Weights<'_>,
        rows: Range<usize>,
        nearest: &[u16],
        data: &InputData,
    ) -> Result<Self> {
        let inputs = layer.inputs();
        let len = rows.len() * inputs;
        let mut made = Self {
            inputs,
            codes: [Vec::with_capacity(len), Vec::with_capacity(len)],
            low: Vec::with_capacity(len),
            gap: Vec::with_capacity(len),
            variables: Vec::with_capacity(len),
            means: vec![0.0; len],
            squares: vec![0.0; len],
            shares: vec![0.0; len],
            scales: Vec::with_capacity(rows.len()),
        };
        let mut scratch = Vec::new();
        let weights = layer.rows::<f64>(rows.clone(), &mut scratch);
        let nearest = nearest.get(rows.start * inputs..rows.end * inputs).unwrap_or_default();
        let lines = weights.chunks(inputs.max(1)).zip(nearest.chunks(inputs.max(1)));
        for (row, (weights, nearest)) in rows.zip(lines) {
            let neighbours = neighbours::<T>(layer, row, weights, nearest)?;
            let (mut squares, mut free) = (0.0, 0usize);
            for ((&weight, &nearest), (neighbours, &live)) in
                weights.iter().zip(nearest).zip(neighbours.iter().zip(&data.live))
            {
                let Neighbours { below, above, own } = *neighbours;
                let gap = above.1 - below.1;
                if live && gap > 0.0 && gap.is_finite() && below.1 <= weight && weight <= above.1 {
                    made.push([below.0, above.0], below.1 - weight, gap, (weight - below.1) / gap);
                    squares += gap * gap;
                    free += 1;
                } else {
                    made.push([nearest; 2], own - weight, 0.0, 0.5);
                }
            }
            let unit = data.mean_square * squares / free.max(1) as f64;
            made.scales.push(if unit > 0.0 { (1.0 / unit) as f32 } else { 0.0 });
        }
        rectified_sigmoids(&made.variables, &mut made.shares);
        Ok(made)
    }

    fn push(&mut self, codes: [u16; 2], low: f64, gap: f64, share: f64) {
        self.codes.iter_mut().zip(codes).for_each(|(all, code)| all.push(code));
        self.low.push(low as f32);
        self.gap.push(gap as f32);
        self.variables.push(variable_of(share));
    }

    /// Of each row the squared distances to the nearer level, in steps, summed: before the first update those of the nearest
    /// codes.
    pub(super) fn squared_steps(&self) -> impl Iterator<Item = f64> + '_ {
        let of_row =
            |shares: &[f32]| shares.iter().map(|&share| f64::from(share.min(1.0 - share)).powi(2)).sum();
        self.shares.chunks(self.inputs.max(1)).map(of_row)
    }

    /// Takes `units` for what one weight of each row costs that is off by a whole step.
    pub(super) fn set_units(&mut self, units: impl Iterator<Item = f64>) {
        self.scales.iter_mut().zip(units).for_each(|(scale, unit)| *scale = (1.0 / unit) as f32);
    }

    /// `Ŵ − W` with the weights as they are on their way.
    pub(super) fn errors(&self, errors: &mut [f32]) {
        errors_between(&self.shares, Between { low: &self.low, gap: &self.gap }, errors);
    }

    /// A step against the gradient of an error of the layer's outputs by the weights. Leaves `errors` as they are then.
    pub(super) fn step(
        &mut self,
        adam: Adam,
        (regularizer, exponent): (f32, f32),
        gradient: &[f32],
        errors: &mut [f32],
    ) {
        let n = self.inputs.max(1);
        let variables =
            self.variables.chunks_mut(n).zip(self.means.chunks_mut(n)).zip(self.squares.chunks_mut(n));
        let levels = self.low.chunks(n).zip(self.gap.chunks(n));
        let state = variables.zip(levels).zip(self.shares.chunks_mut(n));
        let rows = state.zip(gradient.chunks(n).zip(errors.chunks_mut(n))).zip(&self.scales);
        for ((((((values, means), squares), (low, gap)), shares), (gradient, errors)), &scale) in rows {
            let step = RoundingStep { adam, scale, regularizer, exponent };
            let variables = Learned { values, means, squares };
            step_rounding(step, gradient, Between { low, gap }, variables, shares, errors);
        }
    }

    /// The codes of the levels that are nearer, as fields.
    pub(super) fn codes(&self) -> impl Iterator<Item = u16> + '_ {
        let [below, above] = &self.codes;
        let levels = below.iter().zip(above).zip(&self.variables);
        levels.map(|((&below, &above), &v)| if v >= 0.0 { above } else { below })
    }
}

/// The levels around a weight with their codes, and the value of its nearest code.
#[derive(Clone, Copy)]
struct Neighbours {
    below: (u16, f64),
    above: (u16, f64),
    own: f64,
}

/// The levels around each weight of a row. Both are the nearest one where there is none on one side.
fn neighbours<T: Real>(
    layer: &Weights<'_>,
    row: usize,
    weights: &[f64],
    nearest: &[u16],
) -> Result<Vec<Neighbours>> {
    let scheme = layer.scheme();
    let segments = row_segments(layer.nearest().tiling(), layer.inputs(), row);
    let given = (scheme, layer.nearest().grids());
    let decider = decider::<T>(given, layer.encoding(), core::slice::from_ref(&segments))?;
    let value_of = |codes: &[u16]| {
        let mut values = vec![T::zero(); codes.len()];
        decider.values(0, codes, &mut values);
        values.into_iter().map(Element::to_f64).collect::<Vec<f64>>()
    };
    let own = value_of(nearest);
    if let Scheme::Affine(affine) = scheme {
        // Codes next to each other are levels next to each other; there can be 2^16 of them.
        let (sign, range) = (layer.nearest().codes().sign_bit(), affine.codes());
        let mask = ((1u32 << affine.bits().get()) - 1) as u16;
        let moved = |by: i32| {
            let to =
                |&code: &u16| (sign_extend(code, sign) + by).clamp(range.min(), range.max()) as u16 & mask;
            nearest.iter().map(to).collect::<Vec<u16>>()
        };
        let (down, up) = (moved(-1), moved(1));
        let (down_values, up_values) = (value_of(&down), value_of(&up));
        let others = down.into_iter().zip(down_values).zip(up.into_iter().zip(up_values));
        let lines = weights.iter().zip(nearest.iter().copied().zip(own)).zip(others);
        return Ok(lines
            .map(|((&weight, own), (a, b))| {
                // A scale may be negative.
                let (a, b) = if a.1 <= b.1 { (a, b) } else { (b, a) };
                let (below, above) = if own.1 <= weight { (own, b) } else { (a, own) };
                Neighbours { below, above, own: own.1 }
            })
            .collect());
    }
    let levels = RowLevels::new::<T>(given, layer.encoding(), &segments)?;
    let lines = weights.iter().zip(nearest).zip(own).enumerate();
    Ok(lines
        .map(|(index, ((&weight, &nearest), own))| {
            let place = |place: usize| {
                let levels = levels.of(index)?;
                Some((*levels.codes.get(place)?, *levels.values.get(place)?))
            };
            let above =
                levels.of(index).map_or(0, |levels| levels.values.partition_point(|&value| value <= weight));
            let pair = above.checked_sub(1).and_then(place).zip(place(above));
            let (below, above) = pair.unwrap_or(((nearest, own), (nearest, own)));
            Neighbours { below, above, own }
        })
        .collect())
}

/// Checks that single codes can be chosen.
pub(super) fn check_scheme(scheme: &Scheme) -> Result<(), ConfigError> {
    match scheme {
        Scheme::VectorCodebook(_) => {
            Err(ConfigError::Conflict { setting: "a choice of single codes", to: "codes of vectors" })
        }
        _ => Ok(()),
    }
}
