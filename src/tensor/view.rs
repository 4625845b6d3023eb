//! Any input tensor, erased at the door: element type and layout become run-time properties.

use core::ops::Range;

use ndarray::{ArrayRef, ArrayViewD, Dimension};

use crate::element::{AnyView, Element, FloatType, Real};
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
    view: AnyView<'a>,
    /// Row-major and without gaps: the elements are one slice.
    contiguous: bool,
    len: usize,
    /// The weight of each element's squared error, of the same shape.
    importance: Option<Box<TensorView<'a>>>,
}

/// Runs `$body` with `$view` bound to the typed view inside `$any`.
macro_rules! typed {
    ($any:expr, $view:ident => $body:expr) => {
        match $any {
            AnyView::F64($view) => $body,
            AnyView::F32($view) => $body,
            AnyView::F16($view) => $body,
            AnyView::Bf16($view) => $body,
        }
    };
}

impl<'a> TensorView<'a> {
    /// The view of `tensor`. Costs no more than a few words for tensors of up to four axes.
    pub fn new<A: Element, D: Dimension>(tensor: &'a ArrayRef<A, D>) -> Self {
        // Asked while the number of axes is known, which is faster.
        let (contiguous, len) = (tensor.is_standard_layout(), tensor.len());
        Self { view: A::erase(tensor.view().into_dyn()), contiguous, len, importance: None }
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
    pub fn shape(&self) -> &[usize] {
        typed!(&self.view, view => view.shape())
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
        match self.view {
            AnyView::F64(_) => FloatType::F64,
            AnyView::F32(_) => FloatType::F32,
            AnyView::F16(_) => FloatType::F16,
            AnyView::Bf16(_) => FloatType::Bf16,
        }
    }

    /// How many elements to ask for at once, a multiple of 8: few where they need no gathering, so that a chunk
    /// stays in the first-level cache; several rows where they do, so that a transposed tensor is read by whole
    /// cache lines.
    pub(crate) fn chunk_len(&self) -> usize {
        if self.contiguous {
            return CHUNK;
        }
        let row = self.shape().last().copied().unwrap_or(1);
        row.saturating_mul(16).next_multiple_of(CHUNK).clamp(16 * CHUNK, 256 * CHUNK)
    }

    /// As [`chunk_len`](Self::chunk_len) for work that keeps nothing of a chunk but its results: more where the elements
    /// are a slice that is `read` as it is, and then borrowed.
    pub(crate) fn borrowed_len(&self, read: impl Fn(FloatType) -> bool) -> usize {
        if self.contiguous && read(self.element_type()) {
            parallel::part_len(self.len(), BORROWED, parallel::LONGEST)
        } else {
            self.chunk_len()
        }
    }

    /// The elements `range` (row-major), where they are a slice of `A`.
    pub(crate) fn slice<A: Element>(&self, range: Range<usize>) -> Option<&[A]> {
        let contiguous = self.contiguous;
        typed!(&self.view, view => convert::same(view.as_slice().filter(|_| contiguous)?.get(range)?))
    }

    /// Bytes of the elements.
    pub(crate) const fn bytes(&self) -> usize {
        self.len.saturating_mul(self.element_type().bits() as usize / 8)
    }

    /// The elements `range` (row-major), widened to `T`: borrowed where they are a slice of that type,
    /// gathered into `scratch` otherwise.
    pub(crate) fn chunk<'s, T: Real>(&'s self, range: Range<usize>, scratch: &'s mut Vec<T>) -> &'s [T] {
        debug_assert!(range.end <= self.len);
        typed!(&self.view, view => chunk_of(view, self.contiguous, range, scratch))
    }

    /// The typed view.
    #[cfg(feature = "safetensors")]
    pub(crate) const fn any(&self) -> &AnyView<'a> {
        &self.view
    }

    /// The index in each axis of element `flat`.
    pub(crate) fn index_of(&self, flat: usize) -> Vec<usize> {
        unravel(self.shape(), flat)
    }
}

fn chunk_of<'s, A: Element, T: Real>(
    view: &'s ArrayViewD<'_, A>,
    contiguous: bool,
    range: Range<usize>,
    scratch: &'s mut Vec<T>,
) -> &'s [T] {
    let slice = if contiguous { view.as_slice().and_then(|all| all.get(range.clone())) } else { None };
    if let Some(same) = slice.and_then(convert::same::<A, T>) {
        return same;
    }
    scratch.resize(range.len(), T::zero());
    match slice {
        Some(slice) => convert::convert(slice, scratch),
        None => gather::gather(view, range, scratch),
    }
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
