//! Products and the Cholesky factor of large matrices, by blocks.
//!
//! The products are those of `ndarray` (the crate `matrixmultiply`). Everything here is cut in the same way with and
//! without threads, and an element of a product is summed in an order that depends on the matrices alone, so the bits
//! never depend on the number of threads.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, LinalgScalar, s};

use crate::element::{Element, Real};
use crate::parallel;

/// Rows of a product that one thread computes at a time: enough for the packing of the other factor to cost little.
const STRIP: usize = 256;
/// Columns of a quadratic form whose products are in memory together.
const TILE: usize = 512;
/// Columns of the factor that are computed one by one.
const LEAF: usize = 32;
/// Rows that are divided side by side.
const LANES: usize = 8;

/// The lower triangle of `c -= a · aᵀ`; some of the upper one changes too.
fn subtract_square(a: ArrayView2<'_, f64>, mut c: ArrayViewMut2<'_, f64>) {
    let work = c.len().saturating_mul(a.ncols()) / 128;
    let mut strips: Vec<_> = c.axis_chunks_iter_mut(Axis(0), STRIP).collect();
    parallel::map_chunks(
        &mut strips,
        1,
        work,
        || (),
        |(), index, strip| {
            for c in strip {
                let (from, to) = (index * STRIP, index * STRIP + c.nrows());
                let mut c = c.slice_mut(s![.., ..to]);
                general_mat_mul(-1.0, &a.slice(s![from..to, ..]), &a.slice(s![..to, ..]).t(), 1.0, &mut c);
            }
        },
    );
}

/// A matrix that is not positive definite, or not by enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotPositive;

/// The Cholesky factor L of the lower triangle of `matrix`, in its place: `matrix = L · Lᵀ`. Pivots must be above
/// `least`. What is above the diagonal is undefined afterwards.
fn factor_lower(mut matrix: ArrayViewMut2<'_, f64>, least: f64) -> Result<(), NotPositive> {
    let n = matrix.nrows();
    if n <= LEAF {
        return factor_leaf(matrix, least);
    }
    let half = (n / 2).next_multiple_of(LEAF);
    let (mut top, mut bottom) = matrix.view_mut().split_at(Axis(0), half);
    factor_lower(top.slice_mut(s![.., ..half]), least)?;
    let (mut left, right) = bottom.view_mut().split_at(Axis(1), half);
    divide(top.slice(s![.., ..half]), left.view_mut());
    // A copy that is read row by row.
    let solved = left.to_owned();
    let mut right = right;
    subtract_square(solved.view(), right.view_mut());
    factor_lower(right, least)
}

fn factor_leaf(mut matrix: ArrayViewMut2<'_, f64>, least: f64) -> Result<(), NotPositive> {
    let n = matrix.nrows();
    for j in 0..n {
        let mut pivot = matrix[[j, j]];
        for k in 0..j {
            pivot -= matrix[[j, k]] * matrix[[j, k]];
        }
        // Written so that NaN fails.
        if !(pivot > least && pivot.is_finite()) {
            return Err(NotPositive);
        }
        let pivot = pivot.sqrt();
        matrix[[j, j]] = pivot;
        for i in j + 1..n {
            let mut sum = matrix[[i, j]];
            for k in 0..j {
                sum -= matrix[[i, k]] * matrix[[j, k]];
            }
            matrix[[i, j]] = sum / pivot;
        }
    }
    Ok(())
}

/// `x · L⁻ᵀ` for the lower triangle `lower`, in the place of `x`, whose rows are independent.
fn divide(lower: ArrayView2<'_, f64>, mut x: ArrayViewMut2<'_, f64>) {
    let work = x.len().saturating_mul(lower.nrows()) / 128;
    let mut strips: Vec<_> = x.axis_chunks_iter_mut(Axis(0), STRIP).collect();
    parallel::map_chunks(
        &mut strips,
        1,
        work,
        || (),
        |(), _, strip| {
            strip.iter_mut().for_each(|x| divide_strip(lower, x.view_mut()));
        },
    );
}

fn divide_strip(lower: ArrayView2<'_, f64>, mut x: ArrayViewMut2<'_, f64>) {
    let n = lower.nrows();
    if n <= LEAF {
        return divide_leaf(lower, x);
    }
    let half = (n / 2).next_multiple_of(LEAF);
    let (mut left, mut right) = x.view_mut().split_at(Axis(1), half);
    divide_strip(lower.slice(s![..half, ..half]), left.view_mut());
    general_mat_mul(-1.0, &left, &lower.slice(s![half.., ..half]).t(), 1.0, &mut right);
    divide_strip(lower.slice(s![half.., half..]), right);
}

/// A few rows side by side, as the sum of one is a chain of operations that wait for each other.
fn divide_leaf(lower: ArrayView2<'_, f64>, mut x: ArrayViewMut2<'_, f64>) {
    let n = lower.nrows();
    let mut l = [[0.0; LEAF]; LEAF];
    for ((i, j), &value) in lower.indexed_iter() {
        l[i][j] = value;
    }
    for mut rows in x.axis_chunks_iter_mut(Axis(0), LANES) {
        let mut columns = [[0.0; LANES]; LEAF];
        for (lane, row) in rows.rows().into_iter().enumerate() {
            for (column, &value) in columns.iter_mut().zip(row) {
                column[lane] = value;
            }
        }
        for j in 0..n {
            let mut sums = columns[j];
            for (column, factor) in columns[..j].iter().zip(l[j]) {
                sums.iter_mut().zip(column).for_each(|(sum, value)| *sum -= value * factor);
            }
            columns[j] = sums.map(|sum| sum / l[j][j]);
        }
        for (lane, mut row) in rows.rows_mut().into_iter().enumerate() {
            row.iter_mut().zip(&columns).for_each(|(value, column)| *value = column[lane]);
        }
    }
}

/// The upper triangle R of `H = R · Rᵀ` in the place of `H`, whose upper triangle is read; zeros below. Pivots must be
/// above `least`.
///
/// Cost: n³/3 products and sums.
pub(super) fn factor_upper(matrix: &mut Array2<f64>, least: f64) -> Result<(), NotPositive> {
    // Both axes backwards, R is a lower triangle, and the usual factorization applies. Moved in memory, as products on
    // strides below zero are slower.
    matrix.as_slice_memory_order_mut().into_iter().for_each(<[f64]>::reverse);
    let factored = factor_lower(matrix.view_mut(), least);
    matrix.as_slice_memory_order_mut().into_iter().for_each(<[f64]>::reverse);
    factored?;
    for (i, mut row) in matrix.rows_mut().into_iter().enumerate() {
        row.slice_mut(s![..i]).fill(0.0);
    }
    Ok(())
}

/// The inverse of `R · Rᵀ` for the upper triangle `factor`.
pub(super) fn inverse_of_square(factor: &Array2<f64>) -> Array2<f64> {
    let n = factor.nrows();
    // R⁻¹, column by column of the identity.
    let mut inverse = Array2::<f64>::zeros((n, n));
    for i in (0..n).rev() {
        for j in i..n {
            let mut sum = if i == j { 1.0 } else { 0.0 };
            for k in i + 1..=j {
                sum -= factor[[i, k]] * inverse[[k, j]];
            }
            inverse[[i, j]] = sum / factor[[i, i]];
        }
    }
    inverse.t().dot(&inverse)
}

/// `e · G · eᵀ` for each row e of `errors` and a symmetric matrix of which the upper triangle is read. Products with the
/// matrix are summed in T, those of the sums with the errors in f64.
///
/// Cost: the square of the columns for each row. On one thread: callers share out the rows.
pub(super) fn quadratic_forms<T>(errors: ArrayView2<'_, T>, gram: ArrayView2<'_, T>) -> Vec<f64>
where
    T: Real + LinalgScalar,
{
    let (rows, n) = errors.dim();
    let (half, two) = (T::from_f64(0.5), T::from_f64(2.0));
    let mut sums = vec![0.0; rows];
    for from in (0..n).step_by(TILE) {
        let to = (from + TILE).min(n);
        // Twice what is above the diagonal of this block, and half of the block on it from either side.
        let mut block = gram.slice(s![from..to, from..to]).to_owned();
        for i in 0..block.nrows() {
            for j in 0..i {
                block[[i, j]] = T::zero();
            }
            block[[i, i]] *= half;
        }
        let mut product = Array2::zeros((rows, to - from));
        let (left, here) = (errors.slice(s![.., ..from]), errors.slice(s![.., from..to]));
        general_mat_mul(two, &left, &gram.slice(s![..from, from..to]), T::zero(), &mut product);
        general_mat_mul(two, &here, &block, T::one(), &mut product);
        for ((sum, product), errors) in sums.iter_mut().zip(product.rows()).zip(errors.rows()) {
            for (&product, &error) in product.iter().zip(errors.slice(s![from..to])) {
                *sum += Element::to_f64(product) * Element::to_f64(error);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Philox;
    use rand::{Rng, SeedableRng};

    fn random(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
        let mut random = Philox::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || f64::from(random.next_u32() >> 8) / 8388608.0 - 1.0)
    }

    #[test]
    fn the_factor_is_upper_and_its_square_is_the_matrix() {
        for n in [1, 2, 31, 32, 33, 64, 100, 300] {
            let x = random(n + 5, n, n as u64);
            let gram = x.t().dot(&x);
            let mut factor = gram.clone();
            // What is below the diagonal is not read.
            for i in 0..n {
                factor.slice_mut(s![i, ..i]).fill(f64::NAN);
            }
            factor_upper(&mut factor, 0.0).unwrap();
            let square = factor.dot(&factor.t());
            let scale = gram.diag().iter().fold(0.0f64, |a, b| a.max(*b));
            assert!((&square - &gram).iter().all(|d| d.abs() < 1e-12 * scale), "{n}");
            assert!((0..n).all(|i| (0..i).all(|j| factor[[i, j]] == 0.0)));
            if n < 70 {
                let identity = inverse_of_square(&factor).dot(&gram);
                assert!((&identity - &Array2::<f64>::eye(n)).iter().all(|d| d.abs() < 1e-6), "{n}");
            }
        }
    }

    #[test]
    fn what_is_not_positive_is_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut matrix = Array2::eye(70);
            matrix[[3, 3]] = bad;
            assert_eq!(factor_upper(&mut matrix, 0.0), Err(NotPositive), "{bad}");
        }
    }

    #[test]
    fn quadratic_forms_read_the_upper_triangle() {
        let x = random(40, 300, 1);
        let errors = random(7, 300, 2);
        let gram = x.t().dot(&x);
        let expected: Vec<f64> = errors.dot(&x.t()).rows().into_iter().map(|row| row.dot(&row)).collect();
        let mut upper = gram;
        for i in 0..300 {
            upper.slice_mut(s![i, ..i]).fill(f64::NAN);
        }
        for (found, expected) in quadratic_forms(errors.view(), upper.view()).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-10 * expected);
        }
    }
}
