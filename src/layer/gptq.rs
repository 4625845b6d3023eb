//! One weight after the other in one order for all rows, by blocks.
//!
//! Frantar, Ashkboos, Hoefler and Alistarh 2023, *GPTQ: accurate post-training quantization for generative pre-trained
//! transformers*. For the columns in order, with `H = XᵀX + λI` and U the upper Cholesky factor of `H⁻¹ = UᵀU`
//! (algorithm 1):
//!
//! ```text
//! Q_{:,j}  =  quant(W_{:,j})
//! E_{:,j}  =  (W_{:,j} − Q_{:,j}) / U_jj
//! W_{:,k}  ←  W_{:,k} − E_{:,j} · U_jk        for k > j
//! ```
//!
//! Here the same numbers come from H itself, without any inverse. With `H = R·Rᵀ`, R an upper triangle (so that U = R⁻ᵀ
//! with its axes exchanged), the squared error of a row is `‖eR‖²` for its errors `e = w − q`, and component j,
//!
//! ```text
//! (eR)_j  =  y_j + e_j R_jj ,      y_j = Σ_{i<j} e_i R_ij
//! ```
//!
//! depends on the first j errors alone. The code that makes it smallest is that of `w_j + y_j / R_jj`, which is the weight
//! that the updates above arrive at; they are the nearest-plane decoder of a lattice (Babai 1986). One factorization takes
//! n³/3 products, where the published algorithm needs two and an inverse, and the components add up to the error.
//!
//! The sums y are made by halves: the errors of the left half of the columns reach the right half in one matrix product,
//! and so on within each half, which is the lazy update by blocks of the paper with blocks of every size.

use core::fmt;
use core::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, LinalgScalar, s};

use crate::calibration::{Evidence, Region, Values};
use crate::element::{Element, FloatType, Real};
use crate::error::{ConfigError, Result};
use crate::granularity::Segment;
use crate::tensor::{Decide, Grid, Grids, Levels, ScaleStorage, Scheme, decider};

use super::factor::{Damping, Factor};
use super::places::Columns;
use super::problem::Problem;
use super::rows::{self, Bundle, Job, RowMethod, damping_of, squared_errors};
use super::statistics::Statistics;
use super::{LayerMethod, Run};

/// Columns that are decided one by one before their errors are multiplied with others.
const LEAF: usize = 16;
/// Rows that are fitted together: enough for the packing of the factor to cost little.
const BUNDLE: usize = 256;

/// The order in which the inputs get their codes, the same for all outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Order {
    /// As they come. The default.
    #[default]
    Natural,
    /// By descending diagonal of the Hessian, so that the inputs that matter most are chosen while many others can make up
    /// for them: `act_order` of the published code. Equal ones as they come.
    Activation,
}

/// Which grids the groups of a row have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GroupGrids {
    /// Those of the weights as they are: `static_groups` of the published code. The default.
    #[default]
    Static,
    /// Found anew when the first weight of a group has its turn, in its weights as they have become by then. For regions
    /// within one row, in natural order.
    Refreshed,
}

/// GPTQ: the errors of earlier weights are made up for by later ones, in one order for all outputs.
///
/// Works on every scheme but vectors, and on every granularity. The codes of weights are decided by the recipe's own
/// encoding. Weights in f32 and narrower are worked on in f32, on a factor that is found in f64.
///
/// Time for n inputs and m outputs: `n³/3` products for the factor, and `mn²/2` each for the codes and for the loss of the
/// nearest ones. Memory: 12 bytes for each pair of inputs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Gptq {
    damping: Damping,
    order: Order,
    grids: GroupGrids,
}

impl Gptq {
    /// In natural order, on static grids, with a damping of 0.01.
    pub fn new() -> Self {
        Self::default()
    }

    /// With another damping.
    pub const fn damping(self, damping: Damping) -> Self {
        Self { damping, ..self }
    }

    /// In another order.
    pub const fn order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// With other grids for groups.
    pub const fn group_grids(self, grids: GroupGrids) -> Self {
        Self { grids, ..self }
    }
}

impl fmt::Display for Gptq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Natural => "natural",
            Order::Activation => "activation",
        };
        let grids = match self.grids {
            GroupGrids::Static => "static",
            GroupGrids::Refreshed => "refreshed",
        };
        write!(f, "gptq(damping={}, order={order}, grids={grids})", self.damping.get())
    }
}

impl LayerMethod for Gptq {
    /// # Errors
    ///
    /// [`ConfigError::Conflict`] for codes of vectors; for refreshed grids together with another order, with grids that
    /// are given, or with parameters that regions of other rows share.
    fn begin<'p>(&self, problem: &'p Problem<'_>) -> Result<Box<dyn Run + 'p>> {
        if self.grids == GroupGrids::Refreshed {
            check_refresh(self.order, problem)?;
        }
        rows::run(*self, problem)
    }
}

fn check_refresh(order: Order, problem: &Problem<'_>) -> Result<(), ConfigError> {
    let conflict = |to| Err(ConfigError::Conflict { setting: "a refresh of group grids", to });
    if order != Order::Natural {
        return conflict("an order in which groups are not together");
    }
    if problem.has_given_grids() {
        return conflict("grids that are given");
    }
    match problem.scheme() {
        Scheme::Levels(levels) if matches!(levels.levels(), Levels::Learned(_)) => {
            return conflict("levels that all regions share");
        }
        scheme if matches!(scheme.storage(), ScaleStorage::TwoLevel(_)) => {
            return conflict("scales that are quantized together");
        }
        _ => {}
    }
    let (tiling, inputs) = (problem.nearest().tiling(), problem.inputs());
    for from in (0..problem.outputs()).step_by(BUNDLE) {
        let columns = Columns::new(tiling, inputs, from..(from + BUNDLE).min(problem.outputs()));
        let within = columns
            .spans
            .iter()
            .zip(&columns.regions)
            .all(|(span, regions)| regions.iter().all(|&region| tiling.region_len(region) == span.len()));
        if !within {
            return conflict("regions of more than one row");
        }
    }
    Ok(())
}

/// What the rows of a group share.
pub(super) struct System {
    factor: Factor,
    /// For weights that are worked on in f32: the factor divided by `unit`.
    narrow: Option<Array2<f32>>,
    unit: f64,
}

impl RowMethod for Gptq {
    type System = System;

    fn prepare(&self, problem: &Problem<'_>, statistics: &Statistics, live: Vec<usize>) -> Option<System> {
        let mut order = live;
        if self.order == Order::Activation {
            let diagonal = statistics.diagonal();
            order.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
        }
        let mut factor = Factor::new(statistics, order, self.damping)?;
        if problem.arithmetic() == FloatType::F64 {
            return Some(System { factor, narrow: None, unit: 1.0 });
        }
        // So that the numbers are near 1, whatever the inputs.
        let unit = factor.factor.diag().iter().fold(0.0f64, |most, &r| most.max(r));
        let narrow = factor.factor.mapv(|r| (r / unit) as f32);
        factor.factor = Array2::zeros((0, 0));
        Some(System { factor, narrow: Some(narrow), unit })
    }

    fn damping(system: &System) -> (f64, usize) {
        damping_of(&system.factor)
    }

    fn bundle(&self) -> usize {
        BUNDLE
    }

    fn cost(&self, inputs: usize) -> usize {
        inputs.saturating_mul(inputs)
    }

    fn fit(&self, job: &Job<'_, '_, System>) -> Result<Bundle> {
        let System { factor, narrow, unit } = job.system;
        let refresh = self.grids == GroupGrids::Refreshed;
        match narrow {
            Some(narrow) => Work::<f32>::new(job, factor, narrow, *unit)?.fit(refresh),
            None => Work::<f64>::new(job, factor, &factor.factor, *unit)?.fit(refresh),
        }
    }
}

/// A bundle at work: matrices hold the inputs in their order by the rows of the bundle.
struct Work<'w, 'a, T> {
    job: &'w Job<'w, 'a, System>,
    factor: &'w Factor,
    r: &'w Array2<T>,
    unit: f64,
    rows: usize,
    columns: Columns,
    decider: Box<dyn Decide<T> + 'w>,
    weights: Array2<T>,
    /// Errors `w − q`, of these codes in the first half of the columns and of the nearest ones in the second.
    errors: Array2<T>,
    /// The sums y of both.
    sums: Array2<T>,
    codes: Array2<u16>,
    /// Σ (eR)² and Σ e² of both.
    squares: Vec<f64>,
    norms: Vec<f64>,
    grids: Vec<(usize, usize, Grid)>,
    /// Codes of inputs that are always zero, on grids that were fitted again: nothing else depends on them.
    dead: Vec<(usize, Vec<u16>)>,
}

/// Buffers for the decisions of one column.
struct Column<T> {
    targets: Vec<T>,
    values: Vec<T>,
    codes: Vec<u16>,
}

/// What a group of refreshed grids decides with.
struct Refreshed {
    grids: Grids,
    segments: Vec<Vec<Segment>>,
}

impl<'w, 'a, T: Real + LinalgScalar> Work<'w, 'a, T> {
    fn new(job: &'w Job<'w, 'a, System>, factor: &'w Factor, r: &'w Array2<T>, unit: f64) -> Result<Self> {
        let (problem, inputs) = (job.problem, job.problem.inputs());
        let (rows, live) = (job.rows.len(), factor.order.len());
        let columns = Columns::new(problem.nearest().tiling(), inputs, job.rows.clone());
        let given = (problem.scheme(), problem.nearest().grids());
        let decider = decider::<T>(given, problem.encoding(), &columns.segments())?;
        let mut scratch = Vec::new();
        let by_row = problem.rows::<T>(job.rows.clone(), &mut scratch);
        let mut weights = Array2::zeros((live, rows));
        let mut codes = Array2::zeros((live, rows));
        gather(by_row, inputs, &factor.order, &mut weights);
        gather(job.nearest, inputs, &factor.order, &mut codes);
        let mut errors = Array2::zeros((live, 2 * rows));
        let mut values = vec![T::zero(); rows];
        for (k, (&input, mut errors)) in factor.order.iter().zip(errors.rows_mut()).enumerate() {
            let span = columns.span_of.get(input).copied().unwrap_or_default();
            let row = codes.row(k);
            decider.values(span, row.as_slice().unwrap_or_default(), &mut values);
            let nearest = errors.iter_mut().skip(rows);
            for ((error, &weight), &value) in nearest.zip(weights.row(k)).zip(&values) {
                *error = weight - value;
            }
        }
        Ok(Self {
            job,
            factor,
            r,
            unit,
            rows,
            columns,
            decider,
            weights,
            errors,
            sums: Array2::zeros((live, 2 * rows)),
            codes,
            squares: vec![0.0; 2 * rows],
            norms: vec![0.0; 2 * rows],
            grids: Vec::new(),
            dead: Vec::new(),
        })
    }

    fn fit(mut self, refresh: bool) -> Result<Bundle> {
        let mut column = Column {
            targets: vec![T::zero(); self.rows],
            values: vec![T::zero(); self.rows],
            codes: vec![0; self.rows],
        };
        let live = self.factor.order.len();
        self.descend(0..live, refresh, None, &mut column)?;
        let inputs = self.job.problem.inputs();
        let mut codes = self.job.nearest.to_vec();
        scatter(&self.codes, inputs, &self.factor.order, &mut codes);
        for (input, chosen) in &self.dead {
            for (codes, &chosen) in codes.chunks_mut(inputs.max(1)).zip(chosen) {
                if let Some(code) = codes.get_mut(*input) {
                    *code = chosen;
                }
            }
        }
        let (after, before) = self.squared_errors();
        Ok(Bundle { codes, before, after, grids: self.grids })
    }

    /// Decides the columns `range`, whose sums hold all that comes from earlier ones.
    fn descend(
        &mut self,
        range: Range<usize>,
        refresh: bool,
        grids: Option<&Refreshed>,
        column: &mut Column<T>,
    ) -> Result<()> {
        if refresh && grids.is_none() && self.is_one_span(&range) {
            let grids = self.refreshed(&range)?;
            return self.descend(range, refresh, Some(&grids), column);
        }
        if range.len() <= LEAF && (!refresh || grids.is_some()) {
            return self.decide(range, grids, column);
        }
        let middle = self.middle(&range, refresh && grids.is_none());
        self.descend(range.start..middle, refresh, grids, column)?;
        let (left, right) = (range.start..middle, middle..range.end);
        general_mat_mul(
            T::one(),
            &self.r.slice(s![left.clone(), right.clone()]).t(),
            &self.errors.slice(s![left, ..]),
            T::one(),
            &mut self.sums.slice_mut(s![right.clone(), ..]),
        );
        self.descend(right, refresh, grids, column)
    }

    /// Where the columns `range`, of which there are at least two, are halved.
    fn middle(&self, range: &Range<usize>, between_spans: bool) -> usize {
        let half = range.start + (range.len() / 2).next_multiple_of(LEAF).min(range.len() - 1).max(1);
        if !between_spans {
            return half;
        }
        // The border of spans that is nearest to the middle; there is one, as the range is not one span.
        let borders = (range.start + 1..range.end).filter(|&k| self.span(k) != self.span(k - 1));
        borders.min_by_key(|&k| k.abs_diff(half)).unwrap_or(half)
    }

    fn span(&self, k: usize) -> usize {
        let input = self.factor.order.get(k).copied().unwrap_or_default();
        self.columns.span_of.get(input).copied().unwrap_or_default()
    }

    fn is_one_span(&self, range: &Range<usize>) -> bool {
        range.is_empty() || self.span(range.start) == self.span(range.end - 1)
    }

    fn decide(
        &mut self,
        range: Range<usize>,
        grids: Option<&Refreshed>,
        column: &mut Column<T>,
    ) -> Result<()> {
        let (problem, rows) = (self.job.problem, self.rows);
        let refreshed = grids
            .map(|Refreshed { grids, segments }| {
                decider::<T>((problem.scheme(), grids), problem.encoding(), segments)
            })
            .transpose()?;
        let Column { targets, values, codes } = column;
        for k in range.clone() {
            let pivot = self.r[[k, k]];
            let sums = self.sums.row(k);
            for ((target, &weight), &sum) in targets.iter_mut().zip(self.weights.row(k)).zip(sums) {
                *target = weight + sum / pivot;
            }
            let (decider, span) = match &refreshed {
                Some(refreshed) => (refreshed, 0),
                None => (&self.decider, self.span(k)),
            };
            decider.codes(span, targets, codes);
            decider.values(span, codes, values);
            if let Some(to) = self.codes.row_mut(k).as_slice_mut() {
                to.copy_from_slice(codes);
            }
            let mut errors = self.errors.row_mut(k);
            for ((error, &weight), &value) in errors.iter_mut().zip(self.weights.row(k)).zip(&*values) {
                *error = weight - value;
            }
            let errors = errors.as_slice().unwrap_or_default();
            let sums = sums.as_slice().unwrap_or_default();
            let totals = self.squares.iter_mut().zip(&mut self.norms);
            for ((&error, &sum), (square, norm)) in errors.iter().zip(sums).zip(totals) {
                let component = Element::to_f64(sum + error * pivot);
                *square += component * component;
                let error = Element::to_f64(error);
                *norm += error * error;
            }
            debug_assert_eq!(errors.len(), 2 * rows);
            for other in k + 1..range.end {
                let factor = self.r[[k, other]];
                if let Some(sums) = self.sums.row_mut(other).as_slice_mut() {
                    sums.iter_mut().zip(errors).for_each(|(sum, &error)| *sum += factor * error);
                }
            }
        }
        Ok(())
    }

    /// The grids of the columns `range`, a group of each row, in the weights as they are after the updates of all earlier
    /// columns: those that would make components `range` of `eR` zero.
    fn refreshed(&mut self, range: &Range<usize>) -> Result<Refreshed> {
        let problem = self.job.problem;
        let (quantizer, scheme) = (problem.recipe().quantizer(), problem.scheme());
        let span = self.span(range.start);
        let regions = self.columns.regions.get(span).cloned().unwrap_or_default();
        // Changes x of the weights with y = x·R within the group.
        let mut changes = Array2::<T>::zeros((range.len(), self.rows));
        for (j, k) in range.clone().enumerate() {
            for r in 0..self.rows {
                let mut change = self.sums[[k, r]];
                for (i, earlier) in range.clone().enumerate().take(j) {
                    change -= changes[[i, r]] * self.r[[earlier, k]];
                }
                changes[[j, r]] = change / self.r[[k, k]];
            }
        }
        let all = self.columns.spans.get(span).cloned().unwrap_or_default();
        let mut grids = Grids::new(scheme);
        let mut scratch = Vec::new();
        let weights = problem.rows::<T>(self.job.rows.clone(), &mut scratch);
        let by_row = || weights.chunks(problem.inputs().max(1));
        for (r, (&region, weights)) in regions.iter().zip(by_row()).enumerate() {
            // Dead inputs of the group as they are.
            let mut values: Vec<T> = weights.get(all.clone()).unwrap_or_default().to_vec();
            for (j, k) in range.clone().enumerate() {
                let input = self.factor.order.get(k).copied().unwrap_or_default();
                if let Some(value) = values.get_mut(input.saturating_sub(all.start)) {
                    *value += changes[[j, r]];
                }
            }
            let fit = if T::TYPE == FloatType::F64 {
                let values: Vec<f64> = values.iter().map(|&value| Element::to_f64(value)).collect();
                quantizer.fit(&Region::new(region, Evidence::Values(Values::F64(&values))), scheme)?
            } else {
                let values: Vec<f32> = values.iter().map(|&value| Element::to_f32(value)).collect();
                quantizer.fit(&Region::new(region, Evidence::Values(Values::F32(&values))), scheme)?
            };
            grids.push(fit.grid)?;
        }
        grids.finish()?;
        let kept = regions.iter().enumerate().filter_map(|(r, &region)| Some((r, region, grids.get(r)?)));
        self.grids.extend(kept);
        let segments =
            vec![vec![Segment { start: 0, len: self.rows, region: 0, stride: 1, width: 1, phase: 0 }]];
        let decider = decider::<T>((scheme, &grids), problem.encoding(), &segments)?;
        let live = self.factor.order.get(range.clone()).unwrap_or_default();
        for input in all.filter(|input| !live.contains(input)) {
            let column: Vec<T> = by_row().filter_map(|weights| weights.get(input).copied()).collect();
            let mut codes = vec![0; self.rows];
            decider.codes(0, &column, &mut codes);
            self.dead.push((input, codes));
        }
        drop(decider);
        Ok(Refreshed { grids, segments })
    }

    /// The squared errors of each row with these codes and with the nearest ones, without the damping.
    fn squared_errors(&self) -> (Vec<f64>, Vec<f64>) {
        let damping = self.factor.added / (self.unit * self.unit);
        // What the rounding of sums in T can have changed, as a share of the damped error.
        let noise = 64.0 * T::TYPE.epsilon();
        let damped = |index: usize| self.squares.get(index).copied().unwrap_or(f64::NAN);
        let plain =
            |index: usize| damped(index) - damping * self.norms.get(index).copied().unwrap_or_default();
        let is_clear = |row: usize| {
            let (after, before) = (row, row + self.rows);
            let uncertain = noise * (damped(after) + damped(before));
            let precise = noise * damped(after) <= 1e-4 * plain(after)
                && noise * damped(before) <= 1e-4 * plain(before);
            precise && (plain(before) - plain(after)).abs() > uncertain
        };
        let scale = self.unit * self.unit;
        let mut after: Vec<f64> = (0..self.rows).map(|row| scale * plain(row)).collect();
        let mut before: Vec<f64> = (0..self.rows).map(|row| scale * plain(row + self.rows)).collect();
        let doubtful: Vec<usize> = (0..self.rows).filter(|&row| !is_clear(row)).collect();
        if doubtful.is_empty() {
            return (after, before);
        }
        let inputs = self.job.problem.inputs();
        for (sums, half) in [(&mut after, 0), (&mut before, self.rows)] {
            let mut errors = vec![0.0; doubtful.len() * inputs];
            for (row, errors) in doubtful.iter().zip(errors.chunks_mut(inputs.max(1))) {
                for (k, &input) in self.factor.order.iter().enumerate() {
                    if let Some(error) = errors.get_mut(input) {
                        *error = Element::to_f64(self.errors[[k, half + row]]);
                    }
                }
            }
            let exact = squared_errors(self.job.statistics, &errors, inputs);
            for (&row, exact) in doubtful.iter().zip(exact) {
                if let Some(sum) = sums.get_mut(row) {
                    *sum = exact;
                }
            }
        }
        (after, before)
    }
}

/// Rows of `inputs` elements as columns, in an order of the inputs.
fn gather<C: Copy>(rows: &[C], inputs: usize, order: &[usize], columns: &mut Array2<C>) {
    // A few rows at a time, so that what is written stays in the cache.
    for (part, rows) in rows.chunks(16 * inputs.max(1)).enumerate() {
        for (&input, mut column) in order.iter().zip(columns.rows_mut()) {
            let column = column.iter_mut().skip(part * 16);
            for (to, from) in column.zip(rows.chunks(inputs.max(1))) {
                *to = from.get(input).copied().unwrap_or(*to);
            }
        }
    }
}

/// The inverse of [`gather`].
fn scatter<C: Copy>(columns: &Array2<C>, inputs: usize, order: &[usize], rows: &mut [C]) {
    for (part, rows) in rows.chunks_mut(16 * inputs.max(1)).enumerate() {
        for (&input, column) in order.iter().zip(columns.rows()) {
            for (to, &from) in rows.chunks_mut(inputs.max(1)).zip(column.iter().skip(part * 16)) {
                if let Some(to) = to.get_mut(input) {
                    *to = from;
                }
            }
        }
    }
}
