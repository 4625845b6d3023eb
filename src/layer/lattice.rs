//! The K best partial solutions instead of one, then descent by single codes.
//!
//! The squared error of a row is `‖eR‖²` for its errors `e = w − q` and `XᵀX + λI = R·Rᵀ`, so the best codes are the point
//! of a lattice that is closest to a given one, within a box. GPTQ is the nearest-plane decoder of that lattice (Babai 1986,
//! *On Lovász' lattice reduction and the nearest lattice point problem*; see [`Gptq`](super::Gptq)): it decides one
//! coordinate after the other and never looks back. Decoders of multiple antennas keep the K best partial solutions
//! instead (Wong et al. 2002, *A VLSI architecture of a K-best lattice decoding algorithm for MIMO channels*; Guo and
//! Nilsson 2006). With the first j codes chosen at cost
//!
//! ```text
//! c_j  =  Σ_{i≤j} (eR)_i² ,      (eR)_j  =  R_jj · (w_j + y_j / R_jj − q_j)
//! ```
//!
//! every partial solution is continued by the levels nearest to `w_j + y_j / R_jj`, and the K cheapest of all go on. K = 1
//! is GPTQ.
//!
//! The best of the last ones are then improved by coordinate descent: the change of a single code that lowers the error
//! most, until none does. With `g = eH`, a change of e_j by δ changes the error by `2δg_j + δ²H_jj`.
//!
//! **When it overfits.** The closer to the best codes of the calibration data, the more these codes fit what is particular
//! to it. On 64 correlated inputs at 4 bits, by the number of samples: the error on these, and on others (in units of 10⁻³):
//!
//! | codes | 80 | others | 256 | others | 2560 | others |
//! |---|---|---|---|---|---|---|
//! | nearest | 9.77 | 9.72 | 9.65 | 9.72 | 9.86 | 9.72 |
//! | GPTQ | 2.27 | 5.80 | 3.24 | 4.20 | 3.70 | 3.79 |
//! | K = 4, damping 0.01 | 1.66 | 5.17 | 2.67 | 3.61 | 3.17 | 3.30 |
//! | K = 16, damping 0.01 | 1.55 | 5.36 | 2.59 | 3.71 | 3.14 | 3.27 |
//! | K = 16, damping 0.0001 | 1.49 | 6.41 | 2.60 | 3.76 | 3.14 | 3.27 |
//! | K = 16, damping 0.1 | 1.90 | 4.13 | 2.72 | 3.51 | 3.20 | 3.33 |
//!
//! With few samples, what more solutions or less damping gain on these is lost on others. More samples guard against it
//! best: with forty for each input, nothing is lost. Damping does too, as search and descent see the damped error, which
//! prefers small errors where the data says little: with few samples, ten times the default is worth more than any K.
//! [`Problem::held_out`] tells.

use core::fmt;

use ndarray::{Array2, s};

use crate::element::{FloatType, Real};
use crate::error::{ConfigError, Result};

use super::factor::{Damping, Factor};
use super::places::row_segments;
use super::problem::Problem;
use super::row_levels::{Levels, RowLevels};
use super::rows::{self, Bundle, Job, RowMethod};
use super::statistics::Statistics;
use super::{LayerMethod, Run};

/// How many levels around the target continue a partial solution.
const BRANCHES: usize = 4;
/// How many of the last solutions are improved by descent, for each order.
const FINALISTS: usize = 4;
/// Solutions to be kept at most: their sums have to be in memory.
const MOST: usize = 1 << 20;

/// The K best partial solutions, in several orders of the inputs, finished by coordinate descent: close to the best codes
/// that there are on given grids.
///
/// Any scheme but vectors, any granularity. Time: `Kn²` for each output and order, and the moves of the descent, n each;
/// memory: `16·K·n` bytes for each thread, and 8 bytes for each pair of inputs and order.
///
/// The closer to the best codes, the more a few samples are overfitted: judge it on [held-out](Problem::held_out) ones,
/// and raise the damping where they are fewer than ten for each input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lattice {
    width: usize,
    orders: usize,
    damping: Damping,
    descent: bool,
}

impl Lattice {
    /// The `width` best partial solutions: K. In all four orders, with descent, and with a damping of 0.01.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for none, [`ConfigError::TooLarge`] for more than 2^20.
    pub fn new(width: usize) -> Result<Self, ConfigError> {
        let what = "the number of partial solutions";
        if width == 0 {
            return Err(ConfigError::TooSmall { what, value: width, min: 1 });
        }
        if width > MOST {
            return Err(ConfigError::TooLarge { what, value: width, max: MOST });
        }
        Ok(Self { width, orders: 4, damping: Damping::default(), descent: true })
    }

    /// In the first `orders` of four orders of the inputs: natural, by descending diagonal, and these backwards.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooSmall`] for none, [`ConfigError::TooLarge`] for more than four.
    pub fn orders(self, orders: usize) -> Result<Self, ConfigError> {
        let what = "the number of orders";
        match orders {
            0 => Err(ConfigError::TooSmall { what, value: 0, min: 1 }),
            1..=4 => Ok(Self { orders, ..self }),
            _ => Err(ConfigError::TooLarge { what, value: orders, max: 4 }),
        }
    }

    /// With another damping.
    pub const fn damping(self, damping: Damping) -> Self {
        Self { damping, ..self }
    }

    /// Whether the last solutions are improved by coordinate descent; they are by default.
    pub const fn descent(self, descent: bool) -> Self {
        Self { descent, ..self }
    }
}

impl fmt::Display for Lattice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, orders, damping, descent } = self;
        write!(f, "lattice({width}, orders={orders}, damping={}, descent={descent})", damping.get())
    }
}

impl LayerMethod for Lattice {
    fn begin<'p>(&self, problem: &'p Problem<'_>) -> Result<Box<dyn Run + 'p>> {
        rows::run(*self, problem)
    }
}

/// What the rows of a group share.
pub(super) struct System {
    /// In each order.
    factors: Vec<Factor>,
    /// `XᵀX` with its damping, of the live inputs in natural order.
    gram: Array2<f64>,
    live: Vec<usize>,
}

impl RowMethod for Lattice {
    type System = System;

    fn prepare(&self, _: &Problem<'_>, statistics: &Statistics, live: Vec<usize>) -> Option<System> {
        let diagonal = statistics.diagonal();
        let mut by_use = live.clone();
        by_use.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
        let backwards = |order: &[usize]| order.iter().rev().copied().collect::<Vec<_>>();
        let orders = [live.clone(), by_use.clone(), backwards(&live), backwards(&by_use)];
        let factors: Option<Vec<Factor>> = orders
            .into_iter()
            .take(self.orders)
            .map(|order| Factor::new(statistics, order, self.damping))
            .collect();
        let factors = factors?;
        let added = factors.first().map_or(0.0, |factor| factor.added);
        let upper = statistics.upper();
        let gram = Array2::from_shape_fn((live.len(), live.len()), |(i, j)| {
            upper[[live[i.min(j)], live[i.max(j)]]] + if i == j { added } else { 0.0 }
        });
        Some(System { factors, gram, live })
    }

    fn damping(system: &System) -> (f64, usize) {
        let shares = system.factors.iter().map(|factor| factor.share);
        let raised = system.factors.iter().map(|factor| factor.raised).max();
        (shares.fold(0.0, f64::max), raised.unwrap_or(0))
    }

    fn bundle(&self) -> usize {
        4
    }

    fn cost(&self, inputs: usize) -> usize {
        inputs.saturating_mul(inputs).saturating_mul(self.width).saturating_mul(self.orders)
    }

    fn fit(&self, job: &Job<'_, '_, System>) -> Result<Bundle> {
        if job.problem.arithmetic() == FloatType::F64 {
            rows::fit_each::<f64>(job, |row, weights, nearest| self.row::<f64>(job, row, weights, nearest))
        } else {
            rows::fit_each::<f32>(job, |row, weights, nearest| self.row::<f32>(job, row, weights, nearest))
        }
    }
}

impl Lattice {
    fn row<T: Real>(
        &self,
        job: &Job<'_, '_, System>,
        row: usize,
        weights: &[f64],
        nearest: &[u16],
    ) -> Result<Vec<u16>> {
        let problem = job.problem;
        let segments = row_segments(problem.nearest().tiling(), problem.inputs(), row);
        let given = (problem.scheme(), problem.nearest().grids());
        let all = RowLevels::new::<T>(given, problem.encoding(), &segments)?;
        let System { factors, gram, live } = job.system;
        let mut codes = nearest.to_vec();
        // Live inputs in natural order from here on.
        let levels: Vec<&Levels> = live.iter().filter_map(|&input| all.of(input)).collect();
        let targets: Vec<f64> = live.iter().filter_map(|&input| weights.get(input).copied()).collect();
        let mut position = vec![0; problem.inputs()];
        for (place, &input) in live.iter().enumerate() {
            position[input] = place;
        }
        let mut best: (f64, Vec<usize>) = (f64::INFINITY, Vec::new());
        let mut consider = |mut places: Vec<usize>| {
            let mut errors: Vec<f64> = places
                .iter()
                .zip(&levels)
                .zip(&targets)
                .map(|((&place, levels), w)| w - level(levels, place))
                .collect();
            let mut gradient = vec![0.0; errors.len()];
            for (row, &error) in gram.rows().into_iter().zip(&errors) {
                gradient.iter_mut().zip(row).for_each(|(g, h)| *g += error * h);
            }
            if self.descent {
                descend(gram, &levels, &mut places, &mut errors, &mut gradient);
            }
            let cost = errors.iter().zip(&gradient).map(|(e, g)| e * g).sum::<f64>();
            if cost < best.0 {
                best = (cost, places);
            }
        };
        if self.descent && self.width > 1 {
            // From where the nearest codes are: never worse than they.
            let places = live.iter().zip(&levels).map(|(&input, levels)| {
                nearest.get(input).and_then(|&code| levels.place_of(code)).unwrap_or(0)
            });
            consider(places.collect());
        }
        for factor in factors {
            let order: Vec<usize> =
                factor.order.iter().filter_map(|&input| position.get(input).copied()).collect();
            for found in search(&factor.factor, &order, &levels, &targets, self.width) {
                let mut places = vec![0; order.len()];
                order.iter().zip(found).for_each(|(&at, place)| places[at] = place);
                consider(places);
            }
        }
        for ((&input, levels), &place) in live.iter().zip(&levels).zip(&best.1) {
            if let (Some(to), Some(&code)) = (codes.get_mut(input), levels.codes.get(place)) {
                *to = code;
            }
        }
        Ok(codes)
    }
}

fn level(levels: &Levels, place: usize) -> f64 {
    levels.values.get(place).copied().unwrap_or_default()
}

/// A partial solution: its cost, the one that it continues, and the place of its last level.
#[derive(Debug, Clone, Copy)]
struct Path {
    cost: f64,
    parent: u32,
    place: u32,
}

/// The best of the `width` solutions that are left at the end, as places of levels in the order of the factor.
fn search(
    factor: &Array2<f64>,
    order: &[usize],
    levels: &[&Levels],
    targets: &[f64],
    width: usize,
) -> Vec<Vec<usize>> {
    let n = order.len();
    let mut trail: Vec<Vec<Path>> = Vec::with_capacity(n);
    let mut paths = vec![Path { cost: 0.0, parent: 0, place: 0 }];
    // Of each path the sums y of the columns that are not decided yet.
    let (mut sums, mut next) = (Array2::<f64>::zeros((1, n)), Array2::<f64>::zeros((0, n)));
    let mut candidates: Vec<Path> = Vec::new();
    for (k, &at) in order.iter().enumerate() {
        let (Some(levels), Some(&weight)) = (levels.get(at), targets.get(at)) else { continue };
        let pivot = factor[[k, k]];
        candidates.clear();
        for (parent, path) in paths.iter().enumerate() {
            let target = weight + sums[[parent, k]] / pivot;
            let nearest = levels.nearest(target);
            let places = if width == 1 {
                nearest..nearest + 1
            } else {
                // As many on either side of the target.
                let above = nearest + usize::from(level(levels, nearest) < target);
                above.saturating_sub(BRANCHES / 2)..(above + BRANCHES / 2).min(levels.values.len())
            };
            for place in places {
                let component = pivot * (target - level(levels, place));
                let cost = path.cost + component * component;
                candidates.push(Path { cost, parent: parent as u32, place: place as u32 });
            }
        }
        let in_order = |a: &Path, b: &Path| {
            a.cost.total_cmp(&b.cost).then(a.parent.cmp(&b.parent)).then(a.place.cmp(&b.place))
        };
        if candidates.len() > width {
            candidates.select_nth_unstable_by(width, in_order);
            candidates.truncate(width);
        }
        candidates.sort_unstable_by(in_order);
        if next.nrows() < candidates.len() {
            next = Array2::zeros((candidates.len().max(2 * next.nrows()).min(width), n));
        }
        let row = factor.slice(s![k, k + 1..]);
        for (path, mut to) in candidates.iter().zip(next.rows_mut()) {
            let error = weight - level(levels, path.place as usize);
            let from = sums.slice(s![path.parent as usize, k + 1..]);
            let mut to = to.slice_mut(s![k + 1..]);
            if let (Some(to), Some(from), Some(row)) = (to.as_slice_mut(), from.as_slice(), row.as_slice()) {
                for ((to, from), factor) in to.iter_mut().zip(from).zip(row) {
                    *to = from + error * factor;
                }
            }
        }
        core::mem::swap(&mut sums, &mut next);
        paths.clone_from(&candidates);
        trail.push(paths.clone());
    }
    (0..FINALISTS.min(paths.len()).min(width))
        .map(|finalist| {
            let mut at = finalist;
            let mut places: Vec<usize> = trail
                .iter()
                .rev()
                .map_while(|paths| {
                    let path = paths.get(at)?;
                    at = path.parent as usize;
                    Some(path.place as usize)
                })
                .collect();
            places.reverse();
            places
        })
        .collect()
}

/// Changes single codes, the one that lowers the error most first, until none does.
fn descend(
    gram: &Array2<f64>,
    levels: &[&Levels],
    places: &mut [usize],
    errors: &mut [f64],
    gradient: &mut [f64],
) {
    // More moves than this are rounding errors chasing each other.
    for _ in 0..64 * places.len() {
        let mut best = (0.0, 0, 0, 0.0);
        for (j, ((&place, levels), &g)) in places.iter().zip(levels).zip(&*gradient).enumerate() {
            let h = gram[[j, j]];
            let value = level(levels, place);
            let other = levels.nearest(value + g / h);
            let step = value - level(levels, other);
            let change = step * (2.0 * g + step * h);
            if change < best.0 {
                best = (change, j, other, step);
            }
        }
        let (change, j, other, step) = best;
        let total: f64 = errors.iter().zip(&*gradient).map(|(e, g)| e * g).sum();
        if !(change < -1e-12 * total) {
            return;
        }
        places[j] = other;
        errors[j] += step;
        gradient.iter_mut().zip(gram.row(j)).for_each(|(g, h)| *g += step * h);
    }
}
