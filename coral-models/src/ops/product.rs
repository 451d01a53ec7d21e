use gemm::Parallelism;

use super::jobs::is_small;
use super::real::Real;

/// A matrix in someone else's memory: entry (r, c) is `data[r * row_stride + c * column_stride]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a, T = f32> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T: Real> Matrix<'a, T> {
    /// Rows that lie `row_stride` values apart.
    ///
    /// # Panics
    /// When an entry would lie outside `data`.
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize, row_stride: usize) -> Self {
        let matrix = Self { data, rows, columns, row_stride, column_stride: 1 };
        assert!(matrix.fits(), "a matrix reaches beyond its values");
        matrix
    }

    /// The same values with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Whether every entry lies within the values; also sizes whose products no number holds do not.
    fn fits(&self) -> bool {
        let (Some(row), Some(column)) = (self.rows.checked_sub(1), self.columns.checked_sub(1)) else { return true };
        let last = row.checked_mul(self.row_stride).zip(column.checked_mul(self.column_stride));
        last.and_then(|(row, column)| row.checked_add(column)).is_some_and(|last| last < self.data.len())
    }
}

/// Where a product goes: rows of `a.rows × b.columns` that lie `row_stride` values apart.
#[derive(Debug)]
pub(crate) struct Output<'a, T = f32> {
    /// The values; those between the rows stay as they are.
    pub(crate) data: &'a mut [T],
    /// Values from one row's start to the next.
    pub(crate) row_stride: usize,
    /// Whether the product is added to what is there.
    pub(crate) accumulate: bool,
}

/// `out = scale * a b`, or `out += scale * a b`; `threads` 1 stays on the calling thread, as small products
/// do, 0 uses all.
///
/// # Panics
/// When the shapes do not fit, or the result would reach beyond `out`.
#[allow(unsafe_code)]
pub(crate) fn product<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>, scale: T, out: Output<'_, T>, threads: usize) {
    assert_eq!(a.columns, b.rows, "the inner sizes of a product differ");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if m == 0 || n == 0 {
        return;
    }
    let end = (m - 1).checked_mul(out.row_stride).and_then(|start| start.checked_add(n));
    assert!(out.row_stride >= n && end.is_some_and(|end| end <= out.data.len()), "a product reaches beyond its output");
    let parallelism = if threads == 1 || is_small(m, n, k) { Parallelism::None } else { Parallelism::Rayon(threads) };
    // SAFETY: `Matrix::new` checked (and `transposed` keeps) that every entry of `a` and `b` lies within its slice;
    // the assertion above checks it for `out`, whose rows do not overlap because the stride is at least n.
    // `out.data` is borrowed mutably, so it is disjoint from `a` and `b`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            out.accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::one(),
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + 11) % 23) as f32 / 7.0 - 1.5).collect()
    }

    #[test]
    fn strided_and_transposed_products_agree_with_the_sum() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (17, 33, 9), (64, 130, 64)] {
            let (a, b) = (ramp(m * (k + 2)), ramp(n * (k + 3)));
            let mut out = ramp(m * (n + 1));
            let before = out.clone();
            product(
                Matrix::new(&a, m, k, k + 2),
                Matrix::new(&b, n, k, k + 3).transposed(),
                0.5,
                Output { data: &mut out, row_stride: n + 1, accumulate: true },
                1,
            );
            for r in 0..m {
                for c in 0..n {
                    let sum: f32 = (0..k).map(|i| a[r * (k + 2) + i] * b[c * (k + 3) + i]).sum();
                    let expected = before[r * (n + 1) + c] + 0.5 * sum;
                    assert!((out[r * (n + 1) + c] - expected).abs() < 1e-3);
                }
                if r + 1 < m {
                    assert_eq!(out[r * (n + 1) + n], before[r * (n + 1) + n], "between the rows");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "beyond its values")]
    fn short_matrices_are_refused() {
        let _ = Matrix::new(&[0.0f32; 5], 2, 3, 3);
    }
}
