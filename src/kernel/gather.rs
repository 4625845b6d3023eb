//! Copying between a view of any strides and a flat row-major slice.
#![allow(unsafe_code)] // strided access without a bounds check per axis and element

use core::ops::Range;

use ndarray::{ArrayViewD, ArrayViewMutD};

use crate::element::Element;

/// Copies the elements of a row-major flat range of `view` to `out`, converting their type.
pub(crate) fn gather<A: Element, T: Element>(view: &ArrayViewD<'_, A>, range: Range<usize>, out: &mut [T]) {
    let skipped = range.start;
    for (out, value) in out.iter_mut().zip(view.iter().skip(skipped).take(range.len())) {
        *out = super::convert::convert_one(*value);
    }
}

/// Copies `values` to the elements of a row-major flat range of `view`, converting their type.
pub(crate) fn scatter<T: Element, A: Element>(
    values: &[T],
    view: &mut ArrayViewMutD<'_, A>,
    range: Range<usize>,
) {
    for (value, out) in values.iter().zip(view.iter_mut().skip(range.start).take(range.len())) {
        *out = super::convert::convert_one(*value);
    }
}
