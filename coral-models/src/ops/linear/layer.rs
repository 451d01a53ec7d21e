use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, WithDType};

use crate::ops::product::{Matrix, Output, product};
use crate::ops::real::{Real, by_type, is_native, real_values, with_values};

/// `x wᵀ + b` over the last dimension; `w` is out×in as in PyTorch.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    if x.dims().last() != Some(&inner) || bias.is_some_and(|b| b.dims() != [out]) {
        candle_core::bail!("linear layer {:?} on {:?}", weight.dims(), x.dims());
    }
    match bias {
        _ if x.elem_count() == 0 || weight.elem_count() == 0 => composed(x, weight, bias),
        Some(bias) if is_native(&[x, weight, bias]) => {
            x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear)
        }
        None if is_native(&[x, weight]) => x.contiguous()?.apply_op2(&weight.contiguous()?, Linear),
        _ => composed(x, weight, bias),
    }
}

/// The same from the tensor library's own operations, for other devices and types.
fn composed(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    let rows: usize = outputs(x.dims(), 1).iter().product();
    let y = x.contiguous()?.reshape((rows, inner))?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape(outputs(x.dims(), out))
}

/// The shape of a layer's outputs.
fn outputs(inputs: &[usize], width: usize) -> Vec<usize> {
    let (_, leading) = inputs.split_last().unwrap_or((&0, &[]));
    leading.iter().copied().chain([width]).collect()
}

/// Borrowed weights of a linear layer.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a, T> {
    /// width×inner.
    pub(super) weight: &'a [T],
    pub(super) bias: Option<&'a [T]>,
    pub(super) inner: usize,
    pub(super) width: usize,
}

impl<T: Real> Layer<'_, T> {
    /// Writes the layer's outputs of all rows of `x` to `out`.
    pub(super) fn apply(&self, x: &[T], out: &mut [T]) {
        let rows = x.len() / self.inner;
        if let Some(bias) = self.bias {
            out.chunks_exact_mut(self.width).for_each(|row| row.copy_from_slice(bias));
        }
        product(
            Matrix::new(x, rows, self.inner, self.inner),
            Matrix::new(self.weight, self.width, self.inner, self.inner).transposed(),
            T::one(),
            Output { data: out, row_stride: self.width, accumulate: self.bias.is_some() },
            0,
        );
    }
}

/// The operation on the CPU. Its gradients take no transposed copies, and only those that are asked for are computed.
struct Linear;

/// Rows whose gradients are summed at a time for the bias; fixed, so that a sum does not depend on the number of threads.
const ROWS: usize = 256;

fn forward<T: Real>(x: &[T], layer: Layer<'_, T>) -> Vec<T> {
    let mut out = vec![T::zero(); x.len() / layer.inner * layer.width];
    layer.apply(x, &mut out);
    out
}

/// Gradients of values, weight and bias, of those that are wanted.
fn backward<T: Real>(
    [x, weight, gradient]: [&[T]; 3],
    (width, inner): (usize, usize),
    wanted: [bool; 3],
) -> [Option<Vec<T>>; 3] {
    let rows = x.len() / inner;
    let slopes = Matrix::new(gradient, rows, width, width);
    let of_x = || multiplied(slopes, Matrix::new(weight, width, inner, inner));
    let of_weight = || multiplied(slopes.transposed(), Matrix::new(x, rows, inner, inner));
    [wanted[0].then(of_x), wanted[1].then(of_weight), wanted[2].then(|| column_sums(gradient, width))]
}

fn multiplied<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>) -> Vec<T> {
    let mut out = vec![T::zero(); a.rows() * b.columns()];
    product(a, b, T::one(), Output { row_stride: b.columns(), data: &mut out, accumulate: false }, 0);
    out
}

/// The sum of all rows.
pub(in crate::ops) fn column_sums<T: Real>(values: &[T], width: usize) -> Vec<T> {
    let mut total = vec![0.0; width];
    let mut sums = vec![T::zero(); width];
    for part in values.chunks(ROWS * width) {
        sums.fill(T::zero());
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for row in part.chunks_exact(width) {
                    sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
                }
            },
        );
        total.iter_mut().zip(&sums).for_each(|(total, sum)| *total += WithDType::to_f64(*sum));
    }
    total.into_iter().map(T::from_f64).collect()
}

type Argument<'a> = (&'a CpuStorage, &'a Layout);

fn apply(x: Argument<'_>, weight: Argument<'_>, bias: Option<Argument<'_>>) -> Result<(CpuStorage, Shape)> {
    fn compute<T: Real>(
        [x, weight]: [Argument<'_>; 2],
        bias: Option<Argument<'_>>,
        (width, inner): (usize, usize),
    ) -> Result<CpuStorage> {
        let bias = bias.map(|(bias, layout)| real_values::<T>(bias, layout)).transpose()?;
        let layer = Layer { weight: real_values(weight.0, weight.1)?, bias, inner, width };
        Ok(T::to_cpu_storage_owned(forward(real_values(x.0, x.1)?, layer)))
    }
    let sizes = weight.1.shape().dims2()?;
    let out = by_type!(x.0.dtype(), compute([x, weight], bias, sizes))?;
    Ok((out, outputs(x.1.dims(), sizes.0).into()))
}

/// Gradients of values, weight and bias, where there is one.
fn gradients(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, gradient: &Tensor) -> Result<[Option<Tensor>; 3]> {
    fn compute<T: Real>(tensors: [&Tensor; 3], bias: Option<&Tensor>) -> Result<[Option<Tensor>; 3]> {
        let [x, weight, _] = tensors;
        let wanted = [x.track_op(), weight.track_op(), bias.is_some_and(Tensor::track_op)];
        let sizes = weight.dims2()?;
        let [of_x, of_weight, of_bias] = with_values(tensors, |values| backward::<T>(values, sizes, wanted))?;
        let tensor = |list: Option<Vec<T>>, like: &Tensor| {
            list.map(|list| Tensor::from_vec(list, like.shape(), like.device())).transpose()
        };
        // Without a bias there is no list for it either.
        Ok([tensor(of_x, x)?, tensor(of_weight, weight)?, tensor(of_bias, bias.unwrap_or(weight))?])
    }
    by_type!(x.dtype(), compute([x, weight, &gradient.contiguous()?], bias))
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        apply((x, x_layout), (weight, weight_layout), Some((bias, bias_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [of_x, of_weight, of_bias] = gradients(x, weight, Some(bias), gradient)?;
        Ok((of_x, of_weight, of_bias))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        apply((x, x_layout), (weight, weight_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [of_x, of_weight, _] = gradients(x, weight, None, gradient)?;
        Ok((of_x, of_weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random, tracked};
    use candle_core::DType;

    /// The shape of the values, and the outputs.
    const SHAPES: [(&[usize], usize); 5] =
        [(&[1, 1], 1), (&[3, 7], 5), (&[2, 9, 33], 65), (&[2, 3, 5, 64], 10), (&[300, 3], 2)];

    fn arguments(shape: &[usize], out: usize) -> [Tensor; 3] {
        let inner = shape[shape.len() - 1];
        [random(shape, 1), random(&[out, inner], 2), random(&[out], 3)]
    }

    #[test]
    fn linear_layers_agree_with_their_composition() {
        for (shape, out) in SHAPES {
            let [x, w, b] = arguments(shape, out);
            for bias in [Some(&b), None] {
                let ours = linear(&x, &w, bias).unwrap();
                assert_close(&ours, &composed(&x, &w, bias).unwrap(), 1e-4);
            }
        }
        let [x, w, _] = arguments(&[4, 3, 6], 5);
        let turned = x.transpose(0, 1).unwrap();
        assert_close(&linear(&turned, &w, None).unwrap(), &linear(&turned.copy().unwrap(), &w, None).unwrap(), 0.0);
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for (shape, out) in SHAPES {
            let [x, w, b] = arguments(shape, out).map(|t| t.to_dtype(DType::F64).unwrap());
            assert_gradients(&[&x, &w, &b], |v| linear(&v[0], &v[1], Some(&v[2])));
            assert_gradients(&[&x, &w], |v| linear(&v[0], &v[1], None));
            // Only some are variables.
            assert_gradients(&[&x], |v| linear(&v[0], &w, Some(&b)));
            assert_gradients(&[&w], |v| linear(&x, &v[0], Some(&b)));
            assert_gradients(&[&b], |v| linear(&x, &w, Some(&v[0])));
        }
        // Values and weight are the same tensor, which is used elsewhere as well.
        let square = random(&[4, 4], 1).to_dtype(DType::F64).unwrap();
        assert_gradients(&[&square], |v| linear(&v[0], &v[0], Some(&v[0].get(1)?))? * &v[0]);
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let [x, w, b] = arguments(&[1500, 70], 130).map(|t| tracked(&t));
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let y = linear(&x, &w, Some(&b)).unwrap();
                let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                let list = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                [&x, &w, &b].map(|variable| list(gradients.get(variable).unwrap()))
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn misfits_are_errors_and_nothing_gives_nothing() {
        assert!(linear(&random(&[2, 3], 1), &random(&[4, 5], 2), None).is_err());
        assert!(linear(&random(&[2, 3], 1), &random(&[4, 3], 2), Some(&random(&[3], 1))).is_err());
        let none = linear(&random(&[2, 3], 1), &random(&[0, 3], 2), Some(&random(&[0], 3)));
        assert_eq!(none.unwrap().dims(), [2, 0]);
        let [_, w, b] = arguments(&[1, 3], 2).map(|t| tracked(&t));
        assert_eq!(linear(&random(&[0, 3], 1), &w, Some(&b)).unwrap().dims(), [0, 2]);
    }
}
