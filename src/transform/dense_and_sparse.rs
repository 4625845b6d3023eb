//! Dense and sparse: a small share of outliers is kept exactly, and the rest is quantized without them.
//!
//! Sehoon Kim, Coleman Hooper, Amir Gholami, Zhen Dong, Xiuyu Li, Sheng Shen, Michael W. Mahoney and Kurt Keutzer
//! 2024, *SqueezeLLM: dense-and-sparse quantization*, section 4.2:
//!
//! ```text
//! W = D + S,   S = W where |W| is among the largest, 0 elsewhere;   W x ≈ Q(D) x + S x
//! ```

use core::fmt;

use ndarray::{Array, ArrayD, ArrayRef, Dimension, IxDyn};

use crate::element::{Element, FloatType};
use crate::error::{ConfigError, Result, ShapeError};
use crate::recipe::Recipe;
use crate::tensor::{FloatArray, QuantizedTensor};

use super::channels::{check_finite, check_length};
use super::errors::errors_of;

/// Some elements of a tensor, kept exactly.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "OutlierParts"))]
pub struct Outliers {
    /// Row-major positions, ascending.
    indices: Vec<u64>,
    values: FloatArray,
    /// The number of elements of the tensor.
    len: u64,
}

/// The fields of [`Outliers`] before they are validated.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct OutlierParts {
    indices: Vec<u64>,
    values: FloatArray,
    len: u64,
}

#[cfg(feature = "serde")]
impl TryFrom<OutlierParts> for Outliers {
    type Error = ShapeError;

    fn try_from(OutlierParts { indices, values, len }: OutlierParts) -> Result<Self, ShapeError> {
        Self::new(indices, values, usize::try_from(len).unwrap_or(usize::MAX))
    }
}

impl Outliers {
    /// Outliers of a tensor of `len` elements from their row-major positions and their values.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] unless there is a value for each position; [`ShapeError::Index`] for a position beyond the
    /// end, or one that does not follow the one before.
    pub fn new(indices: Vec<u64>, values: FloatArray, len: usize) -> Result<Self, ShapeError> {
        check_length(values.len(), indices.len())?;
        let mut least = 0;
        for &index in &indices {
            if index < least || index >= len as u64 {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                return Err(ShapeError::Index { what: "the position of an outlier", index, count: len });
            }
            least = index + 1;
        }
        Ok(Self { indices, values, len: len as u64 })
    }

    /// The number of outliers.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Their row-major positions, ascending.
    pub fn indices(&self) -> &[u64] {
        &self.indices
    }

    /// Their values, in the order of the positions.
    pub const fn values(&self) -> &FloatArray {
        &self.values
    }

    /// Bits of positions and values. A position takes 32 bits in tensors of up to 2^32 elements, 64 in larger ones.
    pub fn bits(&self) -> u64 {
        let position = if self.len <= 1 << 32 { 32 } else { 64 };
        self.len() as u64 * (position + u64::from(self.values.storage().bits()))
    }
}

/// Takes the `share` of largest magnitude out of a tensor: returns the tensor with zeros in their place, and them.
///
/// Their number is `share` of the elements to the nearest, magnitudes that tie are taken in row-major order. Time O(n),
/// memory of the result and 16 bytes for each element.
///
/// ```
/// use lowbit::transform::split_outliers;
/// use ndarray::array;
///
/// let weights = array![[0.5f32, -9.0], [0.25, 0.75]];
/// let (dense, outliers) = split_outliers(&weights, 0.25)?;
/// assert_eq!(dense, array![[0.5, 0.0], [0.25, 0.75]]);
/// assert_eq!((outliers.indices(), outliers.values().get(0)), (&[1][..], Some(-9.0)));
/// # Ok::<(), lowbit::Error>(())
/// ```
///
/// # Errors
///
/// [`ConfigError::Rate`] for a share outside 0 to 1; [`DataError`](crate::DataError) for a value that is not finite.
pub fn split_outliers<A: Element, D: Dimension>(
    tensor: &ArrayRef<A, D>,
    share: f64,
) -> Result<(Array<A, D>, Outliers)> {
    if !(0.0..=1.0).contains(&share) {
        return Err(ConfigError::Rate { rate: share }.into());
    }
    check_finite(&tensor.view())?;
    let len = tensor.len();
    let count = ((share * len as f64).round() as usize).min(len);
    let mut order: Vec<(f64, u64)> =
        tensor.iter().enumerate().map(|(index, x)| (x.to_f64().abs(), index as u64)).collect();
    if count > 0 && count < len {
        order.select_nth_unstable_by(count - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    }
    order.truncate(count);
    let mut indices: Vec<u64> = order.into_iter().map(|(_, index)| index).collect();
    indices.sort_unstable();
    let mut dense = tensor.to_owned();
    let mut values = FloatArray::new(A::TYPE);
    let mut next = indices.iter().copied().peekable();
    for (index, x) in dense.iter_mut().enumerate() {
        if next.next_if_eq(&(index as u64)).is_some() {
            values.push(x.to_f64());
            *x = A::default();
        }
    }
    Ok((dense, Outliers { indices, values, len: len as u64 }))
}

/// A quantized tensor with exact outliers.
///
/// ```
/// use lowbit::prelude::*;
/// use lowbit::transform::DenseAndSparse;
/// use ndarray::{Array2, Ix2};
///
/// let mut weights = Array2::from_shape_fn((32, 64), |(i, j)| ((i * 64 + j) as f32).sin());
/// weights[[5, 7]] = 40.0;
/// let recipe = Uniform::symmetric(BitWidth::new(4)?).granularity(PerLayer);
/// let q = DenseAndSparse::quantize(&weights, &recipe, 0.001)?;
/// let restored = q.dequantize::<f32, Ix2>()?;
/// assert_eq!(restored[[5, 7]], 40.0);
/// assert!(sqnr(&weights, &restored)? > 28.0);
/// let (whole, split) = q.errors(&weights, &recipe)?;
/// assert!(split < 0.01 * whole);
/// // Two outliers of 2048: 64 bits each.
/// assert_eq!(q.bits_per_element(), q.dense().bits_per_element() + 2.0 * 64.0 / 2048.0);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "DenseAndSparseParts"))]
pub struct DenseAndSparse {
    dense: QuantizedTensor,
    outliers: Outliers,
}

/// The fields of a [`DenseAndSparse`] before they are validated.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct DenseAndSparseParts {
    dense: QuantizedTensor,
    outliers: Outliers,
}

#[cfg(feature = "serde")]
impl TryFrom<DenseAndSparseParts> for DenseAndSparse {
    type Error = ShapeError;

    fn try_from(DenseAndSparseParts { dense, outliers }: DenseAndSparseParts) -> Result<Self, ShapeError> {
        Self::new(dense, outliers)
    }
}

impl DenseAndSparse {
    /// A dense part with outliers of the same tensor.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Length`] for outliers of a tensor of another number of elements.
    pub fn new(dense: QuantizedTensor, outliers: Outliers) -> Result<Self, ShapeError> {
        check_length(usize::try_from(outliers.len).unwrap_or(usize::MAX), dense.len())?;
        Ok(Self { dense, outliers })
    }

    /// Quantizes `tensor` by `recipe` after the `share` of largest magnitude was taken out; see [`split_outliers`].
    ///
    /// # Errors
    ///
    /// Those of [`split_outliers`] and [`Recipe::quantize`].
    pub fn quantize<A: Element, D: Dimension>(
        tensor: &ArrayRef<A, D>,
        recipe: &Recipe,
        share: f64,
    ) -> Result<Self> {
        let (dense, outliers) = split_outliers(tensor, share)?;
        Ok(Self { dense: recipe.quantize(&dense)?, outliers })
    }

    /// The mean squared error of `tensor` quantized by `recipe` as a whole, and split as it is here. NaN for a tensor
    /// without elements. Time that of one more quantization.
    ///
    /// # Errors
    ///
    /// Those of [`Recipe::quantize`]; [`ShapeError::Mismatch`] for a tensor of another shape.
    pub fn errors<A: Element, D: Dimension>(
        &self,
        tensor: &ArrayRef<A, D>,
        recipe: &Recipe,
    ) -> Result<(f64, f64)> {
        errors_of(&tensor.view().into_dyn(), recipe, &self.dequantize::<f64, IxDyn>()?)
    }

    /// The quantized part.
    pub const fn dense(&self) -> &QuantizedTensor {
        &self.dense
    }

    /// The exact part.
    pub const fn outliers(&self) -> &Outliers {
        &self.outliers
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        self.dense.shape()
    }

    /// The type of the elements that were quantized.
    pub const fn source_type(&self) -> FloatType {
        self.dense.source_type()
    }

    /// The restored tensor: outliers exactly, everything else as the dense part has it.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Rank`] if the tensor does not have the rank of `D`.
    pub fn dequantize<A: Element, D: Dimension>(&self) -> Result<Array<A, D>> {
        let mut restored: ArrayD<A> = self.dense.dequantize::<A, IxDyn>()?;
        if let Some(flat) = restored.as_slice_mut() {
            for (&index, value) in self.outliers.indices.iter().zip(self.outliers.values.iter()) {
                if let Some(x) = usize::try_from(index).ok().and_then(|index| flat.get_mut(index)) {
                    *x = A::from_f64(value);
                }
            }
        }
        let (found, expected) = (self.shape().len(), D::NDIM);
        let rank = |_| ShapeError::Rank { found, expected: expected.unwrap_or(found) };
        Ok(restored.into_dimensionality::<D>().map_err(rank)?)
    }

    /// Bytes of codes, parameters and outliers.
    pub fn bytes(&self) -> u64 {
        self.dense.bytes() + self.outliers.bits() / 8
    }

    /// Bits of codes, parameters and outliers together, for each element. NaN for a tensor without elements.
    pub fn bits_per_element(&self) -> f64 {
        self.dense.bits_per_element() + self.outliers.bits() as f64 / self.dense.len() as f64
    }
}

/// As the dense part, with a line on the outliers.
impl fmt::Display for DenseAndSparse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (outliers, bits) = (self.outliers.len(), self.bits_per_element());
        write!(f, "{}\n{outliers} exact outliers, {bits:.2} bits/element with them", self.dense)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::solve::samples::SplitMix64;
    use ndarray::{Array1, Array2, Ix1, Ix2, array};

    #[test]
    fn outliers_are_the_largest_magnitudes_and_exact() {
        let mut random = SplitMix64(41);
        let w = Array2::from_shape_simple_fn((40, 50), || random.normal() * random.normal().exp());
        let recipe = Uniform::symmetric(BitWidth::new(3).unwrap()).granularity(PerChannel::new(Axis(0)));
        for view in [w.view(), w.t()] {
            let q = DenseAndSparse::quantize(&view, &recipe, 0.01).unwrap();
            let restored = q.dequantize::<f64, Ix2>().unwrap();
            assert_eq!(q.outliers().len(), 20);
            let mut magnitudes: Vec<f64> = w.iter().map(|w| w.abs()).collect();
            magnitudes.sort_by(|a, b| b.total_cmp(a));
            let exact = view.iter().zip(&restored).filter(|(w, _)| w.abs() >= magnitudes[19]);
            assert_eq!(exact.clone().count(), 20);
            assert!(exact.into_iter().all(|(w, restored)| w == restored));
            let plain = recipe.quantize(&view).unwrap().dequantize::<f64, Ix2>().unwrap();
            assert!(sqnr(&view, &restored).unwrap() > sqnr(&view, &plain).unwrap() + 2.5);
            let squares = |restored: &Array2<f64>| (&view - restored).mapv(|e| e * e).mean().unwrap();
            let (whole, split) = q.errors(&view, &recipe).unwrap();
            assert!((whole / squares(&plain) - 1.0).abs() < 1e-12, "{whole}");
            assert!((split / squares(&restored) - 1.0).abs() < 1e-12, "{split}");
            assert!(q.errors(&view.slice(ndarray::s![1.., ..]), &recipe).is_err());
        }
    }

    #[test]
    fn shares_at_the_ends_and_ties() {
        let w = array![1.0f32, -2.0, 2.0, 2.0, 0.5];
        let (dense, outliers) = split_outliers(&w, 0.4).unwrap();
        assert_eq!((dense, outliers.indices()), (array![1.0, 0.0, 0.0, 2.0, 0.5], &[1, 2][..]));
        let (dense, outliers) = split_outliers(&w, 0.0).unwrap();
        assert_eq!((dense, outliers.bits()), (w.clone(), 0));
        let (dense, outliers) = split_outliers(&w, 1.0).unwrap();
        assert_eq!((dense, outliers.len()), (Array1::zeros(5), 5));
        let recipe = Recipe::new(Uniform::symmetric(BitWidth::EIGHT).range(SymmetricRange::MidRise));
        let all = DenseAndSparse::quantize(&w, &recipe, 1.0).unwrap();
        assert_eq!(all.dequantize::<f32, Ix1>().unwrap(), w);
        let none = DenseAndSparse::quantize(&Array1::<f32>::zeros(0), &recipe, 0.5).unwrap();
        assert!(none.outliers().is_empty() && none.bits_per_element().is_nan());
        assert!(none.errors(&Array1::<f32>::zeros(0), &recipe).unwrap().0.is_nan());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serialized_and_validated() {
        let w = array![1.0f32, -2.0, 9.0, 0.5];
        let q =
            DenseAndSparse::quantize(&w, &Recipe::new(Uniform::symmetric(BitWidth::EIGHT)), 0.25).unwrap();
        let text = serde_json::to_string(&q).unwrap();
        assert_eq!(serde_json::from_str::<DenseAndSparse>(&text).unwrap(), q);
        for (from, to) in [("\"indices\":[2]", "\"indices\":[4]"), ("\"len\":4", "\"len\":5")] {
            assert!(text.contains(from));
            assert!(serde_json::from_str::<DenseAndSparse>(&text.replace(from, to)).is_err());
        }
    }

    #[test]
    fn bad_input_is_an_error() {
        let w = array![1.0f32, f32::NAN];
        assert!(split_outliers(&w, 0.5).is_err() && split_outliers(&w, -0.5).is_err());
        assert!(split_outliers(&array![1.0f32], f64::NAN).is_err());
        let values = || FloatArray::F32(vec![1.0, 2.0]);
        for indices in [vec![0, 4], vec![2, 2], vec![3, 1], vec![1]] {
            assert!(Outliers::new(indices, values(), 4).is_err());
        }
        let outliers = Outliers::new(vec![1, 3], values(), 4).unwrap();
        let dense = Uniform::symmetric(BitWidth::EIGHT).quantize(&array![1.0f32]).unwrap();
        assert!(DenseAndSparse::new(dense, outliers).is_err());
    }
}
