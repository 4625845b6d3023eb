//! Minimum and maximum as moving averages over batches.
//!
//! Jacob et al. 2018, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
//! section 3.1 (exponential moving averages of activation ranges); PyTorch's `MovingAverageMinMaxObserver`, ONNX
//! Runtime's `moving_average`.

use core::fmt;
use std::sync::Arc;

use ndarray::{ArrayRef, Dimension};

use crate::calibration::{Fixed, Regions};
use crate::element::Element;
use crate::error::{ConfigError, DataError, Result, ShapeError};
use crate::granularity::Granularity;
use crate::tensor::{ClippingRange, NonFinite, Scheme, TensorView};

/// Moving averages of the minimum and maximum of each region over batches.
///
/// ```text
/// first batch:  low = min,                      high = max
/// later ones:   low = low + c (min − low),      high = high + c (max − high)
/// ```
///
/// **The result depends on the order of the batches and on how values are cut into batches, and two of these cannot be
/// merged.** That is the method: it forgets, which suits ranges that drift while a network is trained. For anything
/// else take an [`Observer`](super::Observer), which depends on the values alone.
///
/// Memory: 16 bytes for each region. Time: one pass over each batch.
///
/// ```
/// use lowbit::observer::MovingAverage;
/// use lowbit::prelude::*;
/// use ndarray::array;
///
/// let recipe = Uniform::asymmetric(BitWidth::EIGHT).granularity(PerLayer);
/// let mut average = MovingAverage::new(std::sync::Arc::new(PerLayer), &[2], NonFinite::Error)?.constant(0.25)?;
/// average.observe(&array![0.0f32, 4.0])?;
/// average.observe(&array![0.0f32, 8.0])?;
/// assert_eq!(average.ranges()?[0].high(), 5.0);
///
/// let activation = recipe.freeze_ranges(&average.ranges()?)?; // static quantization
/// let q = activation.quantize(&array![5.0f32, 0.0])?;
/// assert_eq!(q.codes().as_u8(), Some(&[255u8, 0][..]));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MovingAverage {
    granularity: Arc<dyn Granularity>,
    non_finite: NonFinite,
    constant: f64,
    /// `None` until a first batch has values of the region.
    ranges: Vec<Option<ClippingRange>>,
}

impl MovingAverage {
    /// The averaging constant c, unless asked otherwise.
    pub const CONSTANT: f64 = 0.01;

    /// Averages for tensors that `granularity` cuts into as many regions as one of `shape`, with c = 0.01.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] if the granularity does not fit the shape.
    pub fn new(granularity: Arc<dyn Granularity>, shape: &[usize], non_finite: NonFinite) -> Result<Self> {
        let regions = granularity.tiling(shape)?.regions();
        let mut ranges = Vec::new();
        ranges.try_reserve_exact(regions).map_err(|_| ShapeError::TooLarge { shape: shape.to_vec() })?;
        ranges.resize(regions, None);
        Ok(Self { granularity, non_finite, constant: Self::CONSTANT, ranges })
    }

    /// The same with another averaging constant c, the weight of each new batch.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Number`] unless it is above 0 and at most 1.
    pub fn constant(mut self, constant: f64) -> Result<Self, ConfigError> {
        // Written so that NaN fails.
        if !(constant > 0.0 && constant <= 1.0) {
            let (what, rule) = ("averaging constant", "above 0 and at most 1");
            return Err(ConfigError::Number { what, value: constant, rule });
        }
        self.constant = constant;
        Ok(self)
    }

    /// Takes in one batch: any shape that is cut into as many regions. A region without values (in an empty batch, or
    /// all skipped) keeps its range.
    ///
    /// # Errors
    ///
    /// [`ShapeError::RegionCount`] for another number of regions; [`DataError::NotANumber`] and
    /// [`DataError::Infinite`] unless the policy is to skip. Nothing changes then.
    pub fn observe<A: Element, D: Dimension>(&mut self, tensor: &ArrayRef<A, D>) -> Result<()> {
        let tensor = TensorView::new(tensor);
        let tiling = self.granularity.tiling(tensor.shape())?;
        Scheme::check_regions(self.ranges.len(), tiling.regions(), tensor.shape())?;
        if tensor.is_empty() {
            return Ok(());
        }
        let regions = Regions::new(&tensor, &tiling, self.non_finite);
        let found: Vec<Option<ClippingRange>> = regions.map(|region| {
            let ends = region.evidence().min_max();
            Ok(ends.map(|(low, high)| ClippingRange::new(low, high)).transpose()?)
        })?;
        let constant = self.constant;
        for (range, found) in self.ranges.iter_mut().zip(found) {
            let Some(found) = found else { continue };
            let next = match *range {
                None => found,
                Some(old) => {
                    // Written so that no difference can overflow.
                    let step = |old: f64, new: f64| old * (1.0 - constant) + new * constant;
                    ClippingRange::new(step(old.low(), found.low()), step(old.high(), found.high()))?
                }
            };
            *range = Some(next);
        }
        Ok(())
    }

    /// The range of each region, in the order of the tiling: for
    /// [`Recipe::freeze_ranges`](crate::Recipe::freeze_ranges).
    ///
    /// # Errors
    ///
    /// [`DataError::NoData`] with the first region that has had no values.
    pub fn ranges(&self) -> Result<Vec<ClippingRange>> {
        let range = |(region, range): (usize, &Option<ClippingRange>)| {
            range.ok_or_else(|| DataError::NoData { region }.into())
        };
        self.ranges.iter().enumerate().map(range).collect()
    }

    /// The ranges as a calibration, to quantize with them dynamically or to go on from elsewhere.
    ///
    /// # Errors
    ///
    /// As [`ranges`](Self::ranges).
    pub fn to_calibration(&self) -> Result<Fixed> {
        let ranges = self.ranges()?;
        Ok(Fixed::per_region(ranges.into_iter().map(<(f64, f64)>::from))?)
    }
}

/// `moving average (c = 0.01) of 16 regions (channel(axis=0))`
impl fmt::Display for MovingAverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { constant, ranges, granularity, .. } = self;
        write!(f, "moving average (c = {constant}) of {} regions ({granularity})", ranges.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::granularity::{PerChannel, PerLayer};
    use ndarray::{Array2, Axis, array};

    #[test]
    fn averages_are_those_of_the_definition() {
        let mut average = MovingAverage::new(Arc::new(PerLayer), &[2], NonFinite::Error).unwrap();
        // PyTorch's MovingAverageMinMaxObserver: x + c (x_new − x), the first batch copied.
        let (mut low, mut high) = (-1.0, 2.0);
        average.observe(&array![-1.0f64, 2.0]).unwrap();
        for batch in 0..20 {
            let (a, b) = (f64::from(batch) * -0.5, f64::from(batch % 7) + 1.0);
            average.observe(&array![a, b]).unwrap();
            low += 0.01 * (a.min(b) - low);
            high += 0.01 * (a.max(b) - high);
        }
        let range = average.ranges().unwrap()[0];
        assert!((range.low() - low).abs() < 1e-12 && (range.high() - high).abs() < 1e-12);
    }

    #[test]
    fn the_order_of_batches_matters_and_regions_are_their_own() {
        let batches = [array![[0.0f32, 1.0], [0.0, 8.0]], array![[0.0, 3.0], [-2.0, 4.0]]];
        let run = |order: [usize; 2]| {
            let mut average =
                MovingAverage::new(Arc::new(PerChannel::new(Axis(0))), &[2, 2], NonFinite::Error)
                    .unwrap()
                    .constant(0.5)
                    .unwrap();
            order.iter().for_each(|&batch| average.observe(&batches[batch]).unwrap());
            average.ranges().unwrap()
        };
        let range = |low, high| ClippingRange::new(low, high).unwrap();
        assert_eq!(run([0, 1]), [range(0.0, 2.0), range(-1.0, 6.0)]);
        let mut three =
            MovingAverage::new(Arc::new(PerLayer), &[1], NonFinite::Error).unwrap().constant(0.5).unwrap();
        let mut other = three.clone();
        [1.0f64, 2.0, 5.0].iter().for_each(|&x| three.observe(&array![x]).unwrap());
        [5.0f64, 2.0, 1.0].iter().for_each(|&x| other.observe(&array![x]).unwrap());
        assert_eq!((three.ranges().unwrap()[0].high(), other.ranges().unwrap()[0].high()), (3.25, 2.25));
    }

    #[test]
    fn what_cannot_be_averaged_is_named() {
        let mut average = MovingAverage::new(Arc::new(PerLayer), &[2], NonFinite::Error).unwrap();
        assert!(matches!(average.ranges(), Err(crate::Error::Data(DataError::NoData { region: 0 }))));
        average.observe(&Array2::<f32>::zeros((0, 3))).unwrap();
        assert!(average.ranges().is_err());
        assert!(average.observe(&array![1.0f32, f32::NAN]).is_err());
        assert!(average.ranges().is_err());
        for constant in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(matches!(average.clone().constant(constant), Err(ConfigError::Number { .. })));
        }
        let mut lenient = MovingAverage::new(Arc::new(PerLayer), &[2], NonFinite::NanToZero).unwrap();
        lenient.observe(&array![f32::NAN, 1.0]).unwrap();
        lenient.observe(&array![f32::NAN, f32::INFINITY]).unwrap();
        assert_eq!(lenient.ranges().unwrap()[0].high(), 1.0);
        // The largest numbers do not overflow on the way.
        let mut huge = MovingAverage::new(Arc::new(PerLayer), &[2], NonFinite::Error).unwrap();
        huge.observe(&array![f64::MAX]).unwrap();
        huge.observe(&array![-f64::MAX]).unwrap();
        assert!(huge.ranges().is_ok());
    }
}
