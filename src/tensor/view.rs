//! Any input tensor, erased at the door: element type and layout become run-time properties.

use core::ops::Range;

use ndarray::{ArrayRef, Dimension};

use crate::element::{AnySlice, AnyView, Element, FloatType, Real};
use crate::error::{DataError, Result, ShapeError};
use crate::kernel::{convert, gather};
use crate::parallel;

/// Elements of a chunk: values, codes and parameters of one stay in the first-level cache.
pub(crate) const CHUNK: usize = 4096;

/// Elements of a chunk of which nothing is copied, at least: enough that what is done once for a chunk costs nothing.
const BORROWED: usize = 16 * CHUNK;

/// A borrowed tensor of any element type, rank and layout.
///
/// Made from a reference to anything that `ndarray` holds: arrays, views, transposed, stepped and reversed
/// ones. Its elements are numbered in row-major order of the logical shape, whatever the layout.
///
/// ```
/// use lowbit::TensorView;
/// use ndarray::array;
///
/// let matrix = array![[1.0f32, 2.0], [3.0, 4.0]];
/// let transposed = matrix.t();
/// let view = TensorView::new(&transposed);
/// assert_eq!(view.shape(), [2, 2]);
/// ```
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    elements: Elements<'a>,
    shape: &'a [usize],
    len: usize,
    /// The weight of each element's squared error, of the same shape.
    importance: Option<Box<TensorView<'a>>>,
}

/// The elements of a tensor.
#[derive(Debug, Clone)]
pub(crate) enum Elements<'a> {
    /// Row-major and without gaps.
    Slice(AnySlice<'a>),
    /// In any layout.
    View(AnyView<'a>),
}

/// Runs `$body` with `$elements` bound to the slice or view inside `$any`, an `AnySlice` or an `AnyView`.
macro_rules! typed {
    ($kind:ident, $any:expr, $elements:ident => $body:expr) => {
        match $any {
            $kind::F64($elements) => $body,
            $kind::F32($elements) => $body,
            $kind::F16($elements) => $body,
            $kind::Bf16($elements) => $body,
        }
    };
}
#[cfg(feature = "safetensors")]
pub(crate) use typed;

impl<'a> TensorView<'a> {
    /// The view of `tensor`. Costs no more than a few words; the shape of a tensor of more than four axes that are not one
    /// slice is copied.
    pub fn new<A: Element, D: Dimension>(tensor: &'a ArrayRef<A, D>) -> Self {
        let elements = match tensor.as_slice() {
            Some(slice) => Elements::Slice(A::erase_slice(slice)),
            None => Elements::View(A::erase(tensor.view().into_dyn())),
        };
        Self { elements, shape: tensor.shape(), len: tensor.len(), importance: None }
    }

    /// The same tensor with a weight for the squared error of each element, for methods that can be weighted: the
    /// diagonal of the Hessian (Choi et al. 2017), or squared gradients.
    ///
    /// Costs one pass over `importance`.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Mismatch`] for another shape, [`DataError::Importance`] for a weight that is negative or not
    /// finite.
    pub fn with_importance<A: Element, D: Dimension>(
        mut self,
        importance: &'a ArrayRef<A, D>,
    ) -> Result<Self> {
        let importance = Self::new(importance);
        if importance.shape() != self.shape() {
            let (found, expected) = (importance.shape().to_vec(), self.shape().to_vec());
            return Err(ShapeError::Mismatch { found, expected }.into());
        }
        let mut scratch = Vec::new();
        for start in (0..importance.len()).step_by(importance.chunk_len()) {
            let range = start..(start + importance.chunk_len()).min(importance.len());
            let weights = importance.chunk::<f64>(range, &mut scratch);
            if let Some(at) = weights.iter().position(|&weight| !(weight >= 0.0 && weight.is_finite())) {
                let (index, value) = (importance.index_of(start + at), weights.get(at).copied());
                return Err(DataError::Importance { index, value: value.unwrap_or(f64::NAN) }.into());
            }
        }
        self.importance = Some(Box::new(importance));
        Ok(self)
    }

    /// The weights of the elements, if there are any.
    pub fn importance(&self) -> Option<&TensorView<'a>> {
        self.importance.as_deref()
    }

    /// The length of each axis.
    pub const fn shape(&self) -> &[usize] {
        self.shape
    }

    /// The number of elements.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The type of the elements.
    pub const fn element_type(&self) -> FloatType {
        match self.elements {
            Elements::Slice(AnySlice::F64(_)) | Elements::View(AnyView::F64(_)) => FloatType::F64,
            Elements::Slice(AnySlice::F32(_)) | Elements::View(AnyView::F32(_)) => FloatType::F32,
            Elements::Slice(AnySlice::F16(_)) | Elements::View(AnyView::F16(_)) => FloatType::F16,
            Elements::Slice(AnySlice::Bf16(_)) | Elements::View(AnyView::Bf16(_)) => FloatType::Bf16,
        }
    }

    /// How many elements to ask for at once, a multiple of 8: few where they need no gathering, so that a chunk
    /// stays in the first-level cache; several rows where they do, so that a transposed tensor is read by whole
    /// cache lines.
    pub(crate) fn chunk_len(&self) -> usize {
        if self.is_slice() {
            return CHUNK;
        }
        let row = self.shape().last().copied().unwrap_or(1);
        row.saturating_mul(16).next_multiple_of(CHUNK).clamp(16 * CHUNK, 256 * CHUNK)
    }

    /// As [`chunk_len`](Self::chunk_len) for work that keeps nothing of a chunk but its results: more where the elements
    /// are a slice that is `read` as it is, and then borrowed.
    pub(crate) fn borrowed_len(&self, read: impl Fn(FloatType) -> bool) -> usize {
        if self.is_slice() && read(self.element_type()) {
            parallel::part_len(self.len(), BORROWED, parallel::LONGEST)
        } else {
            self.chunk_len()
        }
    }

    /// The elements `range` (row-major), where they are a slice of `A`.
    pub(crate) fn slice<A: Element>(&self, range: Range<usize>) -> Option<&[A]> {
        let Elements::Slice(all) = self.elements else { return None };
        typed!(AnySlice, all, all => convert::same(all.get(range)?))
    }

    /// Whether the elements are one slice.
    const fn is_slice(&self) -> bool {
        matches!(self.elements, Elements::Slice(_))
    }

    /// Bytes of the elements.
    pub(crate) const fn bytes(&self) -> usize {
        self.len.saturating_mul(self.element_type().bits() as usize / 8)
    }

    /// The elements `range` (row-major), widened to `T`: borrowed where they are a slice of that type,
    /// gathered into `scratch` otherwise.
    pub(crate) fn chunk<'s, T: Real>(&'s self, range: Range<usize>, scratch: &'s mut Vec<T>) -> &'s [T] {
        debug_assert!(range.end <= self.len);
        match &self.elements {
            Elements::Slice(all) => typed!(AnySlice, *all, all => part_of(all, range, scratch)),
            Elements::View(view) => {
                scratch.resize(range.len(), T::zero());
                typed!(AnyView, view, view => gather::gather(view, range, scratch));
                scratch
            }
        }
    }

    /// The elements.
    #[cfg(feature = "safetensors")]
    pub(crate) const fn elements(&self) -> &Elements<'a> {
        &self.elements
    }

    /// The index in each axis of element `flat`.
    pub(crate) fn index_of(&self, flat: usize) -> Vec<usize> {
        unravel(self.shape(), flat)
    }
}

/// The elements `range` of `all`, widened to `T`: borrowed where they are of that type.
fn part_of<'s, A: Element, T: Real>(all: &'s [A], range: Range<usize>, scratch: &'s mut Vec<T>) -> &'s [T] {
    let part = all.get(range).unwrap_or_default();
    if let Some(same) = convert::same::<A, T>(part) {
        return same;
    }
    scratch.resize(part.len(), T::zero());
    convert::convert(part, scratch);
    scratch
}

/// The index in each axis of element `flat` of a row-major tensor of `shape`.
pub(crate) fn unravel(shape: &[usize], mut flat: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (at, &len) in index.iter_mut().zip(shape).rev() {
        *at = flat % len.max(1);
        flat /= len.max(1);
    }
    index
}

impl<'a, A: Element, D: Dimension> From<&'a ArrayRef<A, D>> for TensorView<'a> {
    fn from(tensor: &'a ArrayRef<A, D>) -> Self {
        Self::new(tensor)
    }
}
