//! Copying between a view of any strides and a flat row-major slice.
//!
//! A row-major range that begins and ends within rows is cut into boxes (at most two per axis, and
//! one), a box into planes of two axes. One axis of a plane is the last, along which the flat side is
//! contiguous; the other is the one of smallest stride, if that is smaller than the last's (as in a
//! transposed view). Such a plane is copied in tiles through a buffer on the stack: each cache line
//! of either side is then read or written at once, so that it does not matter that lines at a
//! distance of a power of two compete for the same few places in the cache.
#![allow(unsafe_code)] // strided access without a bounds check per axis and element

use core::ops::Range;

use ndarray::{ArrayViewD, ArrayViewMutD};

use super::convert::{convert, convert_one};
use crate::element::Element;

/// Elements of a tile.
const TILE: usize = 1024;

/// Elements of a tile along the axis of smallest stride, where there are as many: one or two cache
/// lines.
const TILE_ROWS: usize = 32;

/// Rows shorter than this are copied in place, without a call.
const SHORT: usize = 16;

/// An axis of a view: its length and the distance of neighbours, in elements.
#[derive(Debug, Clone, Copy)]
struct Axis {
    len: usize,
    stride: isize,
}

impl Axis {
    /// The offset of an index.
    #[inline(always)]
    fn at(self, index: usize) -> isize {
        // Within the allocation where `index < len`, so this cannot overflow; a larger index is
        // never passed on to a pointer.
        (index as isize).wrapping_mul(self.stride)
    }
}

/// The axes of a view that is not empty, without those of length 1 and with neighbours merged where
/// one continues the other. The indices of the result reach the same offsets in the same order.
fn merged(shape: &[usize], strides: &[isize]) -> Vec<Axis> {
    let mut axes: Vec<Axis> = Vec::with_capacity(shape.len());
    for axis in shape.iter().zip(strides).map(|(&len, &stride)| Axis { len, stride }) {
        match axes.last_mut() {
            _ if axis.len == 1 => {}
            Some(outer) if outer.stride == axis.at(axis.len) => {
                *outer = Axis { len: outer.len * axis.len, stride: axis.stride };
            }
            _ => axes.push(axis),
        }
    }
    if axes.is_empty() {
        axes.push(Axis { len: 1, stride: 1 });
    }
    axes
}

/// Two axes of a box, and where they begin on both sides.
#[derive(Debug, Clone, Copy)]
struct Plane {
    /// Offset in the view of index (0, 0).
    offset: isize,
    rows: Axis,
    columns: Axis,
    /// Position on the flat side of index (0, 0).
    flat: usize,
    /// Distance of rows on the flat side; columns are neighbours there.
    pitch: usize,
}

impl Plane {
    /// Whether tiles pay: neighbours in a column are closer in memory than neighbours in a row.
    fn is_transposed(&self) -> bool {
        self.rows.len > 1 && self.rows.stride.unsigned_abs() < self.columns.stride.unsigned_abs()
    }

    /// The tiles of a transposed plane.
    fn tiles(self) -> impl Iterator<Item = Self> {
        let wide = self.columns.len.min(TILE / self.rows.len.min(TILE_ROWS)).max(1);
        let high = self.rows.len.min(TILE / wide);
        // Along a band of columns first: the ends of the flat side's lines meet soon.
        (0..self.rows.len).step_by(high).flat_map(move |i| {
            (0..self.columns.len).step_by(wide).map(move |j| Self {
                offset: self.offset + self.rows.at(i) + self.columns.at(j),
                rows: Axis { len: high.min(self.rows.len - i), ..self.rows },
                columns: Axis { len: wide.min(self.columns.len - j), ..self.columns },
                flat: self.flat + i * self.pitch + j,
                pitch: self.pitch,
            })
        })
    }
}

/// Calls `copy` with the planes of a row-major range of `axes`, which is not empty. All offsets of a
/// plane's indices are offsets of indices of `axes`; flat positions count from `flat`.
fn part(axes: &[Axis], offset: isize, range: Range<usize>, mut flat: usize, copy: &mut impl FnMut(Plane)) {
    let [first, inner @ ..] = axes else { return };
    if inner.is_empty() {
        let columns = Axis { len: range.len(), ..*first };
        let rows = Axis { len: 1, stride: 0 };
        return copy(Plane { offset: offset + first.at(range.start), rows, columns, flat, pitch: 0 });
    }
    let size: usize = inner.iter().map(|axis| axis.len).product();
    let (mut from, skipped) = (range.start / size, range.start % size);
    let (to, rest) = (range.end / size, range.end % size);
    if from == to {
        return part(inner, offset + first.at(from), skipped..rest, flat, copy);
    }
    if skipped > 0 {
        part(inner, offset + first.at(from), skipped..size, flat, copy);
        flat += size - skipped;
        from += 1;
    }
    if from < to {
        whole(Axis { len: to - from, ..*first }, inner, offset + first.at(from), flat, copy);
        flat += (to - from) * size;
    }
    if rest > 0 {
        part(inner, offset + first.at(to), 0..rest, flat, copy);
    }
}

/// Calls `copy` with the planes of a box: all indices of `first` and of `inner`, which has an axis.
fn whole(first: Axis, inner: &[Axis], offset: isize, flat: usize, copy: &mut impl FnMut(Plane)) {
    // Axes and their distances on the flat side.
    let mut axes: Vec<(Axis, usize)> = Vec::with_capacity(inner.len() + 1);
    let mut pitch = 1;
    for axis in inner.iter().rev().chain([&first]) {
        axes.push((*axis, pitch));
        pitch *= axis.len;
    }
    let (columns, _) = axes.remove(0);
    let closest = axes.iter().enumerate().filter(|(_, (axis, _))| axis.len > 1);
    let closest = closest.min_by_key(|(_, (axis, _))| axis.stride.unsigned_abs());
    let rows = match closest {
        Some((k, (axis, _))) if axis.stride.unsigned_abs() < columns.stride.unsigned_abs() => k,
        _ => 0,
    };
    let (rows, pitch) = axes.remove(rows);
    let mut plane = Plane { offset, rows, columns, flat, pitch };
    let mut index = vec![0; axes.len()];
    loop {
        copy(plane);
        // The next index of the other axes, innermost first.
        let mut k = 0;
        loop {
            let (Some((axis, pitch)), Some(index)) = (axes.get(k), index.get_mut(k)) else { return };
            *index += 1;
            if *index < axis.len {
                plane.offset += axis.stride;
                plane.flat += pitch;
                break;
            }
            *index = 0;
            plane.offset -= axis.at(axis.len - 1);
            plane.flat -= pitch * (axis.len - 1);
            k += 1;
        }
    }
}

/// A range of at most `flat` elements that lies within a view of `len`; `None` where it is empty.
fn clamp(range: &Range<usize>, len: usize, flat: usize) -> Option<Range<usize>> {
    let end = range.end.min(len).min(range.start.saturating_add(flat));
    (range.start < end).then_some(range.start..end)
}

/// Copies the elements of a row-major flat range of `view` to `out`, converting their type.
///
/// What the range has beyond the end of the view or of `out` is left out.
pub(crate) fn gather<A: Element, T: Element>(view: &ArrayViewD<'_, A>, range: Range<usize>, out: &mut [T]) {
    debug_assert!(range.end <= view.len() && range.len() == out.len());
    let Some(range) = clamp(&range, view.len(), out.len()) else { return };
    if let Some(values) = view.as_slice() {
        return convert(values.get(range).unwrap_or_default(), out);
    }
    let view_start = view.as_ptr();
    let mut tile = [A::default(); TILE];
    let mut line = [A::default(); TILE];
    let axes = merged(view.shape(), view.strides());
    part(&axes, 0, range, 0, &mut |plane| {
        if !plane.is_transposed() {
            for i in 0..plane.rows.len {
                let out = &mut out[plane.flat + i * plane.pitch..][..plane.columns.len];
                // SAFETY: the offset of index (i, 0) of the plane is that of an index of the view,
                // so it lies in the view's allocation, which outlives this borrow of the view.
                let row = unsafe { view_start.offset(plane.offset + plane.rows.at(i)) };
                match plane.columns.stride {
                    1 if out.len() >= SHORT => {
                        // SAFETY: indices (i, 0) to (i, len - 1) are neighbours in the allocation.
                        convert(unsafe { core::slice::from_raw_parts(row, out.len()) }, out);
                    }
                    // SAFETY: index (i, 0).
                    0 => out.fill(convert_one(unsafe { *row })),
                    _ => {
                        for (j, out) in out.iter_mut().enumerate() {
                            // SAFETY: index (i, j) of the plane, an index of the view.
                            *out = convert_one(unsafe { *row.offset(plane.columns.at(j)) });
                        }
                    }
                }
            }
            return;
        }
        for plane in plane.tiles() {
            let (high, wide) = (plane.rows.len, plane.columns.len);
            for (j, column) in tile.chunks_exact_mut(high).take(wide).enumerate() {
                // SAFETY: index (0, j) of a tile of the plane, an index of the view.
                let start = unsafe { view_start.offset(plane.offset + plane.columns.at(j)) };
                if plane.rows.stride == 1 {
                    // SAFETY: indices (0, j) to (high - 1, j) are neighbours in the allocation.
                    column.copy_from_slice(unsafe { core::slice::from_raw_parts(start, high) });
                } else {
                    for (i, value) in column.iter_mut().enumerate() {
                        // SAFETY: index (i, j).
                        *value = unsafe { *start.offset(plane.rows.at(i)) };
                    }
                }
            }
            if wide < SHORT {
                // A few channels: no line to speak of.
                for (i, out) in out[plane.flat..].chunks_mut(plane.pitch).take(high).enumerate() {
                    for (out, column) in out.iter_mut().zip(tile.chunks_exact(high).take(wide)) {
                        *out = convert_one(column[i]);
                    }
                }
                continue;
            }
            for i in 0..high {
                for (value, column) in line[..wide].iter_mut().zip(tile.chunks_exact(high)) {
                    *value = column[i];
                }
                convert(&line[..wide], &mut out[plane.flat + i * plane.pitch..][..wide]);
            }
        }
    });
}

/// Copies `values` to the elements of a row-major flat range of `view`, converting their type.
///
/// What the range has beyond the end of the view or of `values` is left out.
pub(crate) fn scatter<T: Element, A: Element>(
    values: &[T],
    view: &mut ArrayViewMutD<'_, A>,
    range: Range<usize>,
) {
    debug_assert!(range.end <= view.len() && range.len() == values.len());
    let Some(range) = clamp(&range, view.len(), values.len()) else { return };
    if let Some(to) = view.as_slice_mut() {
        return convert(values, to.get_mut(range).unwrap_or_default());
    }
    let axes = merged(view.shape(), view.strides());
    let view_start = view.as_mut_ptr();
    let mut tile = [A::default(); TILE];
    let mut line = [A::default(); TILE];
    part(&axes, 0, range, 0, &mut |plane| {
        if !plane.is_transposed() {
            for i in 0..plane.rows.len {
                let values = &values[plane.flat + i * plane.pitch..][..plane.columns.len];
                // SAFETY: the offset of index (i, 0) of the plane is that of an index of the view,
                // so it lies in the allocation that the view borrows exclusively.
                let row = unsafe { view_start.offset(plane.offset + plane.rows.at(i)) };
                if plane.columns.stride == 1 && values.len() >= SHORT {
                    // SAFETY: indices (i, 0) to (i, len - 1) are neighbours in the allocation, and
                    // no other reference to them is alive.
                    convert(values, unsafe { core::slice::from_raw_parts_mut(row, values.len()) });
                } else {
                    for (j, value) in values.iter().enumerate() {
                        // SAFETY: index (i, j) of the plane, an index of the view.
                        unsafe { *row.offset(plane.columns.at(j)) = convert_one(*value) };
                    }
                }
            }
            return;
        }
        for plane in plane.tiles() {
            let (high, wide) = (plane.rows.len, plane.columns.len);
            for i in 0..high {
                convert(&values[plane.flat + i * plane.pitch..][..wide], &mut line[..wide]);
                for (value, column) in line[..wide].iter().zip(tile.chunks_exact_mut(high)) {
                    column[i] = *value;
                }
            }
            for (j, column) in tile.chunks_exact(high).take(wide).enumerate() {
                // SAFETY: index (0, j) of a tile of the plane, an index of the view.
                let start = unsafe { view_start.offset(plane.offset + plane.columns.at(j)) };
                if plane.rows.stride == 1 {
                    // SAFETY: indices (0, j) to (high - 1, j) are neighbours in the allocation, and
                    // no other reference to them is alive.
                    unsafe { core::slice::from_raw_parts_mut(start, high) }.copy_from_slice(column);
                } else {
                    for (i, value) in column.iter().enumerate() {
                        // SAFETY: index (i, j).
                        unsafe { *start.offset(plane.rows.at(i)) = *value };
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};
    use ndarray::{ArrayD, Axis as NdAxis, Dimension, IxDyn, Slice};
    use proptest::prelude::*;

    /// The oracle: ndarray's own iteration.
    fn check<A: Element, T: Element>(
        mut array: ArrayD<A>,
        steps: &[(usize, isize)],
        order: &[usize],
        cut: (f64, f64),
    ) {
        for (i, value) in array.iter_mut().enumerate() {
            *value = A::from_f64((i % 2039) as f64);
        }
        let reshape = |k: usize| (steps[k].0, steps[k].1);
        let mut view = array.view();
        for k in 0..order.len() {
            let (start, step) = reshape(k);
            view.slice_axis_inplace(NdAxis(k), Slice::new((start.min(view.shape()[k])) as isize, None, step));
        }
        let view = view.permuted_axes(IxDyn(order));
        let len = view.len();
        let a = (cut.0 * len as f64) as usize;
        let b = (cut.1 * len as f64) as usize;
        let range = a.min(b)..a.max(b);
        let expected: Vec<T> =
            view.iter().skip(range.start).take(range.len()).map(|x| T::from_f64(x.to_f64())).collect();
        let mut out = vec![T::default(); range.len()];
        gather(&view, range.clone(), &mut out);
        assert_eq!(out, expected, "{:?} {:?} {range:?}", view.shape(), view.strides());

        // Scattering touches the range and nothing else.
        let mut target = ArrayD::<A>::from_elem(array.raw_dim(), A::from_f64(-1.0));
        let mut oracle = target.clone();
        let write = |target: &mut ArrayD<A>, kernel: bool| {
            let mut view = target.view_mut();
            for k in 0..order.len() {
                let (start, step) = reshape(k);
                view.slice_axis_inplace(
                    NdAxis(k),
                    Slice::new((start.min(view.shape()[k])) as isize, None, step),
                );
            }
            let mut view = view.permuted_axes(IxDyn(order));
            if kernel {
                scatter(&expected, &mut view, range.clone());
            } else {
                for (to, value) in view.iter_mut().skip(range.start).zip(&expected) {
                    *to = A::from_f64(value.to_f64());
                }
            }
        };
        write(&mut target, true);
        write(&mut oracle, false);
        assert_eq!(target, oracle);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn any_strides(
            axes in proptest::collection::vec((0usize..4, prop_oneof![1usize..5, 1usize..40], 0usize..3, prop_oneof![-3isize..0, 1isize..4, Just(1isize)]), 0..5),
            seed in any::<u64>(),
            cut in (0.0f64..1.0, 0.0f64..=1.0),
            fortran in any::<bool>(),
        ) {
            use ndarray::ShapeBuilder;
            let mut shape: Vec<usize> = axes.iter().map(|a| if a.0 == 0 && seed % 7 == 0 { 0 } else { a.1 }).collect();
            while shape.iter().product::<usize>() > 20_000 {
                let k = shape.iter().position(|n| *n == *shape.iter().max().unwrap()).unwrap();
                shape[k] /= 2;
            }
            let steps: Vec<_> = axes.iter().map(|a| (a.2, a.3)).collect();
            let mut order: Vec<usize> = (0..shape.len()).collect();
            let mut state = seed;
            for i in (1..order.len()).rev() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                order.swap(i, (state >> 33) as usize % (i + 1));
            }
            let shape = IxDyn(&shape);
            match seed % 5 {
                0 => check::<f16, f32>(ArrayD::from_elem(shape.set_f(fortran), Default::default()), &steps, &order, cut),
                1 => check::<f32, f64>(ArrayD::from_elem(shape.set_f(fortran), Default::default()), &steps, &order, cut),
                2 => check::<bf16, f32>(ArrayD::from_elem(shape.set_f(fortran), Default::default()), &steps, &order, cut),
                _ => check::<f32, f32>(ArrayD::from_elem(shape.set_f(fortran), Default::default()), &steps, &order, cut),
            }
        }
    }

    #[test]
    fn every_range_of_a_small_transposed_view() {
        let array = ArrayD::from_shape_fn(IxDyn(&[5, 3, 4]), |i| (i[0] * 100 + i[1] * 10 + i[2]) as f32);
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2]] {
            let view = array.view().permuted_axes(IxDyn(&order));
            let all: Vec<f32> = view.iter().copied().collect();
            for from in 0..=all.len() {
                for to in from..=all.len() {
                    let mut out = vec![-1.0f32; to - from];
                    gather(&view, from..to, &mut out);
                    assert_eq!(out, all[from..to], "{order:?} {from}..{to}");
                }
            }
        }
    }

    #[test]
    fn broadcast_views_repeat_their_elements() {
        let column = ArrayD::from_shape_fn(IxDyn(&[40, 1]), |i| i[0] as f32);
        let row = ArrayD::from_shape_fn(IxDyn(&[40]), |i| i[0] as f32);
        let scalar = ArrayD::from_elem(IxDyn(&[]), 3.5f32);
        for view in [
            column.broadcast(IxDyn(&[3, 40, 50])).unwrap(),
            row.broadcast(IxDyn(&[7, 40])).unwrap(),
            row.broadcast(IxDyn(&[7, 3, 40])).unwrap().permuted_axes(IxDyn(&[2, 0, 1])),
            scalar.broadcast(IxDyn(&[6, 7])).unwrap(),
            scalar.view(),
        ] {
            let all: Vec<f64> = view.iter().map(|x| f64::from(*x)).collect();
            for range in [0..all.len(), all.len() / 3..all.len(), 0..all.len() / 2] {
                let mut out = vec![-1.0f64; range.len()];
                gather(&view, range.clone(), &mut out);
                assert_eq!(out, all[range]);
            }
        }
    }

    #[test]
    fn rank_zero_many_axes_and_empty_views() {
        let mut one = ArrayD::from_elem(IxDyn(&[]), 1.0f32);
        scatter(&[2.0f64], &mut one.view_mut(), 0..1);
        let mut out = [0.0f64];
        gather(&one.view(), 0..1, &mut out);
        assert_eq!(out, [2.0]);
        let many =
            ArrayD::from_shape_fn(IxDyn(&[2; 12]), |i| i.slice().iter().fold(0, |n, b| 2 * n + b) as f32);
        let view = many.view().reversed_axes();
        let mut out = vec![0.0f32; 1000];
        gather(&view, 1777..2777, &mut out);
        assert!(out.iter().zip(view.iter().skip(1777)).all(|(a, b)| a == b));
        let empty = ArrayD::<f32>::zeros(IxDyn(&[3, 0, 2]));
        gather(&empty.view().reversed_axes(), 0..0, &mut [0.0f32; 0]);
    }

    #[test]
    #[cfg(not(debug_assertions))]
    fn a_range_beyond_the_end_is_cut() {
        let array = ArrayD::from_shape_fn(IxDyn(&[4, 5]), |i| i[1] as f32);
        let mut out = [-1.0f32; 9];
        gather(&array.view().reversed_axes(), 18..40, &mut out);
        assert_eq!(out[2..], [-1.0; 7]);
        gather(&array.view().reversed_axes(), usize::MAX - 1..usize::MAX, &mut out);
    }
}
