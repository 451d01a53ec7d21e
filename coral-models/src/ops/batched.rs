use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::jobs::parts_of_products;
use super::product::{Matrix, Output, product};
use super::real::{Real, by_type, is_native, real_values, with_values};

/// The product of each of B×M×K matrices with that of B×K×N: B×M×N. The tensor library asks the system for its number of
/// cores at every product, which takes longer than a small product.
pub(crate) fn products(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    multiplied(a, b, Batched { transposed: false })
}

/// The same with the transposes of B×N×K matrices, which are not copied.
pub(crate) fn products_with_transposed(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    multiplied(a, b, Batched { transposed: true })
}

fn multiplied(a: &Tensor, b: &Tensor, batched: Batched) -> Result<Tensor> {
    let ((batch, _, inner), (other_batch, rows, columns)) = (a.dims3()?, b.dims3()?);
    let other_inner = if batched.transposed { columns } else { rows };
    if batch != other_batch || inner != other_inner {
        candle_core::bail!("products of {:?} and {:?}", a.dims(), b.dims());
    }
    if is_native(&[a, b]) && a.elem_count() > 0 && b.elem_count() > 0 {
        return a.contiguous()?.apply_op2(&b.contiguous()?, batched);
    }
    match batched.transposed {
        true => a.matmul(&b.t()?),
        false => a.matmul(b),
    }
}

struct Batched {
    transposed: bool,
}

/// Rows and columns of each matrix of a contiguous B×M×N tensor.
#[derive(Clone, Copy)]
struct Matrices<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
}

impl<'a, T: Real> Matrices<'a, T> {
    fn new(values: &'a [T], shape: &Shape) -> Result<Self> {
        let (_, rows, columns) = shape.dims3()?;
        Ok(Self { values, rows, columns })
    }

    fn get(self, index: usize) -> Matrix<'a, T> {
        let size = self.rows * self.columns;
        Matrix::new(&self.values[index * size..][..size], self.rows, self.columns, self.columns)
    }
}

/// `count` products, one after the other.
fn each<'a, T: Real>(count: usize, factors: impl Fn(usize) -> [Matrix<'a, T>; 2] + Sync) -> Vec<T> {
    let [a, b] = factors(0);
    let (rows, columns, inner) = (a.rows(), b.columns(), a.columns());
    let mut out = vec![T::zero(); count * rows * columns];
    let fill = |index: usize, out: &mut [T], threads: usize| {
        let [a, b] = factors(index);
        product(a, b, T::one(), Output { data: out, row_stride: columns, accumulate: false }, threads);
    };
    if count == 1 {
        fill(0, &mut out, 0);
    } else {
        let parts = parts_of_products(out.par_chunks_exact_mut(rows * columns), rows * columns * inner);
        parts.enumerate().for_each(|(index, out)| fill(index, out, 1));
    }
    out
}

impl Batched {
    fn forward<T: Real>(&self, a: Matrices<'_, T>, b: Matrices<'_, T>) -> Vec<T> {
        each(a.values.len() / (a.rows * a.columns), |index| {
            let b = b.get(index);
            [a.get(index), if self.transposed { b.transposed() } else { b }]
        })
    }

    /// Gradients of both factors, where they are wanted.
    fn backward<T: Real>(
        &self,
        [a, b, gradient]: [Matrices<'_, T>; 3],
        [of_a, of_b]: [bool; 2],
    ) -> [Option<Vec<T>>; 2] {
        let count = a.values.len() / (a.rows * a.columns);
        let of_a = of_a.then(|| {
            each(count, |index| {
                let b = b.get(index);
                [gradient.get(index), if self.transposed { b } else { b.transposed() }]
            })
        });
        let of_b = of_b.then(|| {
            each(count, |index| match self.transposed {
                true => [gradient.get(index).transposed(), a.get(index)],
                false => [a.get(index).transposed(), gradient.get(index)],
            })
        });
        [of_a, of_b]
    }
}

impl CustomOp2 for Batched {
    fn name(&self) -> &'static str {
        "batched_product"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        type Argument<'a> = (&'a CpuStorage, &'a Layout);
        fn compute<T: Real>(batched: &Batched, a: Argument<'_>, b: Argument<'_>) -> Result<CpuStorage> {
            let matrices = |(storage, layout)| Matrices::new(real_values::<T>(storage, layout)?, layout.shape());
            Ok(T::to_cpu_storage_owned(batched.forward(matrices(a)?, matrices(b)?)))
        }
        let out = by_type!(a.dtype(), compute(self, (a, a_layout), (b, b_layout)))?;
        let ((batch, rows, _), (_, b_rows, b_columns)) = (a_layout.shape().dims3()?, b_layout.shape().dims3()?);
        Ok((out, (batch, rows, if self.transposed { b_rows } else { b_columns }).into()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn compute<T: Real>(batched: &Batched, tensors: [&Tensor; 3]) -> Result<[Option<Tensor>; 2]> {
            let wanted = [tensors[0].track_op(), tensors[1].track_op()];
            let lists = with_values(tensors, |[a, b, gradient]| -> Result<_> {
                let [a, b, gradient] = [(a, 0), (b, 1), (gradient, 2)]
                    .map(|(values, which): (&[T], usize)| Matrices::new(values, tensors[which].shape()));
                Ok(batched.backward([a?, b?, gradient?], wanted))
            });
            let [of_a, of_b] = lists??;
            let tensor = |list: Option<Vec<T>>, like: &Tensor| {
                list.map(|list| Tensor::from_vec(list, like.shape(), like.device())).transpose()
            };
            Ok([tensor(of_a, tensors[0])?, tensor(of_b, tensors[1])?])
        }
        let [of_a, of_b] = by_type!(a.dtype(), compute(self, [a, b, &gradient.contiguous()?]))?;
        Ok((of_a, of_b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random, tracked};
    use candle_core::DType;

    /// Batch, rows, columns, inner size.
    const SHAPES: [[usize; 4]; 4] = [[1, 1, 1, 1], [3, 5, 7, 2], [2, 1, 33, 9], [1, 40, 3, 17]];

    #[test]
    fn products_equal_the_tensor_librarys() {
        for [batch, m, n, k] in SHAPES.into_iter().chain([[5, 130, 120, 70], [0, 2, 3, 4], [2, 3, 4, 0]]) {
            let (a, b) = (random(&[batch, m, k], 1), random(&[batch, k, n], 2));
            let expected = a.matmul(&b).unwrap();
            assert_close(&products(&a, &b).unwrap(), &expected, 1e-4);
            let turned = b.transpose(1, 2).unwrap();
            assert_close(&products_with_transposed(&a, &turned).unwrap(), &expected, 1e-4);
            assert_close(&products_with_transposed(&a, &turned.contiguous().unwrap()).unwrap(), &expected, 1e-4);
        }
        let a = random(&[2, 3, 4], 1);
        assert!(products(&a, &a).is_err() && products(&a, &random(&[1, 4, 3], 1)).is_err());
        assert!(products_with_transposed(&a, &random(&[2, 4, 3], 1)).is_err());
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for [batch, m, n, k] in SHAPES {
            let [a, b, turned] = [(&[batch, m, k], 1), (&[batch, k, n], 2), (&[batch, n, k], 3)]
                .map(|(shape, seed)| random(shape, seed).to_dtype(DType::F64).unwrap());
            assert_gradients(&[&a, &b], |v| products(&v[0], &v[1]));
            assert_gradients(&[&a, &turned], |v| products_with_transposed(&v[0], &v[1]));
            // Only one is a variable.
            assert_gradients(&[&a], |v| products(&v[0], &b));
            assert_gradients(&[&turned], |v| products_with_transposed(&a, &v[0]));
            // Both are the same tensor.
            assert_gradients(&[&a], |v| products_with_transposed(&v[0], &v[0]));
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (a, b) = (tracked(&random(&[3, 150, 130], 1)), tracked(&random(&[3, 130, 170], 2)));
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let gradients = products(&a, &b).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
                [&a, &b].map(|v| gradients.get(v).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap())
            })
        };
        assert_eq!(run(1), run(3));
    }
}
