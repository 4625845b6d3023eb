//! What a calibration knows of a region: its values, or a histogram of them.

use crate::element::{Element, Real};
use crate::kernel::reduce;

use super::histogram::Histogram;

/// The finite values of a region in the type of its arithmetic, in row-major order.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Of f32, f16 and bf16 tensors.
    F32(&'a [f32]),
    /// Of f64 tensors.
    F64(&'a [f64]),
}

/// Runs `$body` with `$slice` bound to the slice inside `$values`.
macro_rules! each_value {
    ($values:expr, $slice:ident => $body:expr) => {
        match $values {
            Values::F32($slice) => $body,
            Values::F64($slice) => $body,
        }
    };
}
pub(super) use each_value;

impl Values<'_> {
    /// The number of values.
    pub const fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `index`, widened, if there is one.
    pub fn get(&self, index: usize) -> Option<f64> {
        each_value!(*self, values => values.get(index).map(|&value| Element::to_f64(value)))
    }

    /// All values, widened.
    pub fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The smallest and the largest value; `None` if there are none.
    pub fn min_max(&self) -> Option<(f64, f64)> {
        each_value!(*self, values => min_max(values))
    }
}

fn min_max<T: Real>(values: &[T]) -> Option<(f64, f64)> {
    let (mut low, mut high) = ([T::infinity()], [T::neg_infinity()]);
    reduce::min_max(values, values.len().max(1), 0, &mut low, &mut high);
    (!values.is_empty()).then(|| (Element::to_f64(low[0]), Element::to_f64(high[0])))
}

/// What is known of a region's values.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Evidence<'a> {
    /// All of them.
    Values(Values<'a>),
    /// A histogram: counts in bins of equal width, and the exact extremes.
    Histogram(&'a Histogram),
}

impl Evidence<'_> {
    /// The number of values.
    pub fn count(&self) -> u64 {
        match self {
            Self::Values(values) => values.len() as u64,
            Self::Histogram(histogram) => histogram.total(),
        }
    }

    /// The smallest and the largest value; `None` if there are none.
    pub fn min_max(&self) -> Option<(f64, f64)> {
        match self {
            Self::Values(values) => values.min_max(),
            Self::Histogram(histogram) => (histogram.total() > 0).then(|| (histogram.min(), histogram.max())),
        }
    }
}

/// One region of a tensor, as a calibration or a quantizer sees it.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    index: usize,
    evidence: Evidence<'a>,
    importance: Option<Values<'a>>,
}

impl<'a> Region<'a> {
    /// Region `index` of a tiling, known by `evidence`.
    pub const fn new(index: usize, evidence: Evidence<'a>) -> Self {
        Self { index, evidence, importance: None }
    }

    /// The same region with a weight for each of its values, of their type.
    pub const fn with_importance(mut self, importance: Values<'a>) -> Self {
        self.importance = Some(importance);
        self
    }

    /// The weight of each value's squared error, if there are any: as many as values, and of their type.
    pub const fn importance(&self) -> Option<Values<'a>> {
        self.importance
    }

    /// Its number in the order of the tiling.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// What is known of its values.
    pub const fn evidence(&self) -> Evidence<'a> {
        self.evidence
    }
}

impl<'a> From<Values<'a>> for Evidence<'a> {
    fn from(values: Values<'a>) -> Self {
        Self::Values(values)
    }
}

impl<'a> From<&'a [f32]> for Evidence<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::Values(Values::F32(values))
    }
}

impl<'a> From<&'a [f64]> for Evidence<'a> {
    fn from(values: &'a [f64]) -> Self {
        Self::Values(Values::F64(values))
    }
}
