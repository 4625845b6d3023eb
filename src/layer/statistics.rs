//! What a layer's inputs say about its outputs: `XᵀX`, the mean input and the number of samples.
//!
//! For weights W [outputs, inputs] and samples x in the rows of X, the squared error of the outputs of other weights Ŵ is
//!
//! ```text
//! ‖X(W − Ŵ)ᵀ‖²  =  tr((W − Ŵ) XᵀX (W − Ŵ)ᵀ)
//! ```
//!
//! so that the samples themselves are not needed any more. `2XᵀX` is the Hessian of that error for each row of Ŵ
//! (Frantar and Alistarh 2022, *Optimal Brain Compression*).

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayRef, ArrayView2, Dimension, s};

use crate::element::Element;
use crate::error::{DataError, Result, ShapeError};
use crate::parallel;
use crate::tensor::TensorView;

/// Rows of `XᵀX` that one thread computes at a time.
const STRIP: usize = 256;
/// Samples that are added together.
const PANEL: usize = 512;
/// Larger inputs have squares whose sum could overflow.
const LARGEST: f64 = 1e140;

/// Sums over a layer's inputs: `XᵀX` and `Σx` in f64, and the number of samples.
///
/// Mergeable, so that data can be shared out. The same bits for a fixed order of batches and merges whatever the number
/// of threads, and within 10⁻¹² (of the root of the two diagonal entries) for any other order: products of f32, f16 and
/// bf16 are exact in f64, only sums are rounded.
///
/// Memory: 8 bytes for each pair of inputs. Time: half a matrix product in f64, the other triangle being the same.
///
/// ```
/// use lowbit::layer::Statistics;
/// use ndarray::array;
///
/// let mut statistics = Statistics::new(2)?;
/// statistics.observe(&array![[1.0f32, 2.0], [3.0, -1.0]])?;
/// let mut elsewhere = Statistics::new(2)?;
/// elsewhere.observe(&array![0.0f32, 1.0])?;
/// statistics.merge(&elsewhere)?;
/// assert_eq!(statistics.count(), 3);
/// assert_eq!(statistics.gram(), array![[10.0, -1.0], [-1.0, 6.0]]);
/// assert_eq!(statistics.mean(), Some(array![4.0 / 3.0, 2.0 / 3.0]));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Parts", into = "Parts"))]
pub struct Statistics {
    /// The upper triangle; below it the matrix is symmetric within blocks on the diagonal, and zero elsewhere.
    gram: Array2<f64>,
    sum: Array1<f64>,
    count: u64,
}

impl Statistics {
    /// Statistics of no samples of `inputs` numbers each.
    ///
    /// # Errors
    ///
    /// [`ShapeError::TooLarge`] if the square of `inputs` cannot be allocated.
    pub fn new(inputs: usize) -> Result<Self> {
        let too_large = || ShapeError::TooLarge { shape: vec![inputs, inputs] };
        let len = inputs.checked_mul(inputs).ok_or_else(too_large)?;
        let mut values = Vec::new();
        values.try_reserve_exact(len).map_err(|_| too_large())?;
        values.resize(len, 0.0);
        let gram = Array2::from_shape_vec((inputs, inputs), values).map_err(|_| too_large())?;
        Ok(Self { gram, sum: Array1::zeros(inputs), count: 0 })
    }

    /// The number of inputs of the layer.
    pub fn inputs(&self) -> usize {
        self.sum.len()
    }

    /// The number of samples.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The mean input; `None` without samples.
    pub fn mean(&self) -> Option<Array1<f64>> {
        (self.count > 0).then(|| &self.sum / self.count as f64)
    }

    /// `XᵀX`, symmetric. Allocates it.
    pub fn gram(&self) -> Array2<f64> {
        let mut gram = self.gram.clone();
        for i in 0..self.inputs() {
            for j in 0..i {
                gram[[i, j]] = gram[[j, i]];
            }
        }
        gram
    }

    /// The diagonal of `XᵀX`: how much each input matters.
    pub fn diagonal(&self) -> Array1<f64> {
        self.gram.diag().to_owned()
    }

    /// `XᵀX`, of which only the upper triangle means something.
    pub(super) fn upper(&self) -> ArrayView2<'_, f64> {
        self.gram.view()
    }

    /// Adds the samples of `batch`: its last axis holds the inputs, all others count samples.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`] unless the last axis has the number of inputs, [`DataError::NotANumber`] for a NaN and
    /// [`DataError::Infinite`] for an infinity or a number whose square is too large to be summed, each with its index.
    /// Nothing is added then.
    pub fn observe<A: Element, D: Dimension>(&mut self, batch: &ArrayRef<A, D>) -> Result<()> {
        self.observe_view(&TensorView::new(batch))
    }

    /// As [`observe`](Self::observe), for a tensor whose type is known at run time only.
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe).
    pub fn observe_view(&mut self, batch: &TensorView<'_>) -> Result<()> {
        let inputs = self.inputs();
        if batch.shape().last() != Some(&inputs) {
            let mut expected = batch.shape().to_vec();
            match expected.last_mut() {
                Some(last) => *last = inputs,
                None => expected.push(inputs),
            }
            return Err(ShapeError::Mismatch { found: batch.shape().to_vec(), expected }.into());
        }
        let samples = batch.len().checked_div(inputs).unwrap_or(0);
        check_finite(batch)?;
        let mut scratch = Vec::new();
        for from in (0..samples).step_by(PANEL) {
            let rows = from..(from + PANEL).min(samples);
            let panel = batch.chunk::<f64>(rows.start * inputs..rows.end * inputs, &mut scratch);
            if let Ok(panel) = ArrayView2::from_shape((rows.len(), inputs), panel) {
                self.add(panel);
            }
        }
        self.count = self.count.saturating_add(samples as u64);
        Ok(())
    }

    fn add(&mut self, panel: ArrayView2<'_, f64>) {
        let inputs = self.inputs();
        for row in panel.rows() {
            self.sum += &row;
        }
        let Some(gram) = self.gram.as_slice_mut() else { return };
        let work = panel.len().saturating_mul(inputs) / 64;
        parallel::map_chunks(
            gram,
            STRIP * inputs,
            work,
            || (),
            |(), index, strip| {
                let (from, rows) = (index * STRIP, strip.len() / inputs.max(1));
                if let Ok(mut strip) = ndarray::ArrayViewMut2::from_shape((rows, inputs), strip) {
                    let mut strip = strip.slice_mut(s![.., from..]);
                    let left = panel.slice(s![.., from..from + rows]);
                    general_mat_mul(1.0, &left.t(), &panel.slice(s![.., from..]), 1.0, &mut strip);
                }
            },
        );
    }

    /// Adds what `other` has seen.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] for another number of inputs.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if other.inputs() != self.inputs() {
            return Err(ShapeError::Length { found: other.inputs(), expected: self.inputs() }.into());
        }
        self.gram += &other.gram;
        self.sum += &other.sum;
        self.count = self.count.saturating_add(other.count);
        Ok(())
    }
}

/// The error for the first number of `batch` that cannot be summed.
pub(super) fn check_finite(batch: &TensorView<'_>) -> Result<(), DataError> {
    let piece = batch.chunk_len();
    let found =
        parallel::map_indices(batch.len().div_ceil(piece), batch.len(), Vec::new, |scratch, index| {
            let range = index * piece..((index + 1) * piece).min(batch.len());
            let x = batch.chunk::<f64>(range.clone(), scratch);
            // A sum over flags is vectorized, a search is not.
            let bad: usize = x.iter().map(|x| usize::from(!(x.abs() <= LARGEST))).sum();
            if bad == 0 {
                return None;
            }
            let at = x.iter().position(|x| !(x.abs() <= LARGEST))?;
            Some((range.start + at, x.get(at).copied()?))
        });
    match found.into_iter().flatten().next() {
        None => Ok(()),
        Some((flat, value)) if value.is_nan() => Err(DataError::NotANumber { index: batch.index_of(flat) }),
        Some((flat, value)) => Err(DataError::Infinite { index: batch.index_of(flat), value }),
    }
}

/// The fields of [`Statistics`] before they are validated.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Parts {
    count: u64,
    sum: Vec<f64>,
    /// The rows of the upper triangle of `XᵀX`, one after the other.
    gram: Vec<f64>,
}

#[cfg(feature = "serde")]
impl From<Statistics> for Parts {
    fn from(statistics: Statistics) -> Self {
        let rows = statistics.gram.rows().into_iter().enumerate();
        let gram = rows.flat_map(|(i, row)| row.iter().skip(i).copied().collect::<Vec<_>>()).collect();
        Self { count: statistics.count, sum: statistics.sum.to_vec(), gram }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Parts> for Statistics {
    type Error = crate::Error;

    fn try_from(parts: Parts) -> Result<Self> {
        let Parts { count, sum, gram } = parts;
        let inputs = sum.len();
        let expected = inputs.checked_mul(inputs + 1).map(|twice| twice / 2);
        if expected != Some(gram.len()) {
            return Err(
                ShapeError::Length { found: gram.len(), expected: expected.unwrap_or(usize::MAX) }.into()
            );
        }
        let (mut statistics, mut values) = (Self::new(inputs)?, gram.into_iter());
        for (i, total) in sum.iter().enumerate() {
            for j in i..inputs {
                let value = values.next().unwrap_or_default();
                let valid = value.is_finite() && total.is_finite() && (i != j || value >= 0.0);
                if !valid {
                    return Err(DataError::NotANumber { index: vec![i, j] }.into());
                }
                statistics.gram[[i, j]] = value;
                // As observing leaves it.
                if i / STRIP == j / STRIP {
                    statistics.gram[[j, i]] = value;
                }
            }
        }
        statistics.sum = sum.into();
        statistics.count = count;
        Ok(statistics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Philox;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    fn batch(samples: usize, inputs: usize, seed: u64) -> Array2<f32> {
        let mut random = Philox::seed_from_u64(seed);
        Array2::from_shape_simple_fn((samples, inputs), || (random.next_u32() >> 8) as f32 / 8388608.0 - 0.9)
    }

    #[test]
    fn sums_are_those_of_the_definition() {
        // More samples than a panel, more inputs than a strip.
        let x = batch(700, 300, 3);
        let mut statistics = Statistics::new(300).unwrap();
        statistics.observe(&x).unwrap();
        let wide = x.mapv(f64::from);
        let (expected, found) = (wide.t().dot(&wide), statistics.gram());
        assert!((&expected - &found).iter().all(|d| d.abs() < 1e-10));
        assert_eq!(found, found.t());
        let mean = statistics.mean().unwrap();
        assert!((mean[7] - wide.column(7).sum() / 700.0).abs() < 1e-12);
        // Any layout, any number of leading axes.
        let mut again = Statistics::new(300).unwrap();
        let columns = x.t().as_standard_layout().into_owned();
        again.observe(&columns.t()).unwrap();
        assert_eq!(again, statistics);
        let mut again = Statistics::new(300).unwrap();
        again.observe(&x.into_shape_with_order((7, 100, 300)).unwrap()).unwrap();
        assert_eq!(again, statistics);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn another_order_of_shards_is_the_same_within_the_stated_bound(
            sizes in proptest::collection::vec(0_usize..200, 2..6),
            inputs in 1_usize..40,
            seed in 0_u64..1000,
        ) {
            let shards: Vec<Statistics> = sizes
                .iter()
                .enumerate()
                .map(|(i, &samples)| {
                    let mut shard = Statistics::new(inputs).unwrap();
                    shard.observe(&batch(samples, inputs, seed + i as u64)).unwrap();
                    shard
                })
                .collect();
            let merged = |order: &mut dyn Iterator<Item = &Statistics>| {
                let mut all = Statistics::new(inputs).unwrap();
                order.for_each(|shard| all.merge(shard).unwrap());
                all
            };
            let forwards = merged(&mut shards.iter());
            prop_assert_eq!(&forwards, &merged(&mut shards.iter()));
            let (a, b) = (forwards.gram(), merged(&mut shards.iter().rev()).gram());
            for ((i, j), value) in a.indexed_iter() {
                let scale = (a[[i, i]] * a[[j, j]]).sqrt();
                prop_assert!((value - b[[i, j]]).abs() <= 1e-12 * scale);
            }
        }
    }

    #[test]
    fn what_cannot_be_summed_is_named_and_nothing_is_added() {
        let mut statistics = Statistics::new(3).unwrap();
        statistics.observe(&batch(5, 3, 1)).unwrap();
        let before = statistics.clone();
        let mut bad = batch(4, 3, 2);
        bad[[2, 1]] = f32::NAN;
        let error = statistics.observe(&bad).unwrap_err();
        assert!(matches!(error, crate::Error::Data(DataError::NotANumber { ref index }) if *index == [2, 1]));
        bad[[2, 1]] = f32::INFINITY;
        let error = statistics.observe(&bad).unwrap_err();
        assert!(
            matches!(error, crate::Error::Data(DataError::Infinite { ref index, .. }) if *index == [2, 1])
        );
        assert!(statistics.observe(&Array2::from_elem((1, 3), 1e200_f64)).is_err());
        for shape in [vec![4, 2], vec![3, 4], vec![]] {
            let batch = ndarray::ArrayD::<f32>::zeros(shape);
            let error = statistics.observe(&batch).unwrap_err();
            assert!(matches!(error, crate::Error::Shape(ShapeError::Mismatch { .. })), "{error}");
        }
        assert!(statistics.merge(&Statistics::new(2).unwrap()).is_err());
        assert_eq!(statistics, before);
        assert!(Statistics::new(usize::MAX).is_err() && Statistics::new(1 << 31).is_err());
        // None is no error: there may be more elsewhere.
        statistics.observe(&Array2::<f32>::zeros((0, 3))).unwrap();
        assert_eq!(statistics, before);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_round_trip_through_text_keeps_every_bit_and_damage_is_refused() {
        let mut statistics = Statistics::new(260).unwrap();
        statistics.observe(&batch(9, 260, 4)).unwrap();
        let text = serde_json::to_string(&statistics).unwrap();
        let again: Statistics = serde_json::from_str(&text).unwrap();
        assert_eq!(again.gram(), statistics.gram());
        assert_eq!((again.count(), again.mean()), (9, statistics.mean()));
        for damaged in [
            r#"{"count":1,"sum":[1],"gram":[]}"#,
            r#"{"count":1,"sum":[1],"gram":[-1]}"#,
            r#"{"count":1,"sum":[1,2],"gram":[1,2,3,4]}"#,
            r#"{"count":1,"sum":[1],"gram":[1e999]}"#,
        ] {
            assert!(serde_json::from_str::<Statistics>(damaged).is_err(), "{damaged}");
        }
    }
}
