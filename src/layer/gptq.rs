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
//! n³/3 operations, where the published algorithm needs two and an inverse, and the components add up to the error.
//!
//! The sums y are made by halves: the errors of the left half of the columns reach the right half in one matrix product,
//! and so on within each half, which is the lazy update by blocks of the paper with blocks of every size.

use core::fmt;

use ndarray::Array2;

use crate::element::FloatType;
use crate::error::{ConfigError, Result};
use crate::tensor::{Levels, ScaleStorage, Scheme};

use super::baseline::narrowed;
use super::factor::{Damping, Factor};
use super::places::Columns;
use super::plane::Work;
use super::problem::Problem;
use super::rows::{self, Bundle, Job, RowMethod, damping_of};
use super::statistics::Statistics;
use super::{LayerMethod, Run};

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
/// Time for n inputs and m outputs: `n³/6` products for the factor and `mn²/2` for the codes; and, once for all methods that
/// are tried on a problem, `mn²/2` for the loss of the nearest codes. Memory: 12 bytes for each pair of inputs.
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
        problem.baseline()?;
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
    pub(super) factor: Factor,
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
        let narrow = narrowed(factor.factor.view(), unit);
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
