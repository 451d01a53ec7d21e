use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::in_place::add_to;
use super::real::{Real, by_type, is_native, real_values, with_values};

/// `x + y`, where `y` may be shared by the leading dimensions of `x`. The tensor library's threads wait for each other in a
/// loop, which takes them away from others.
pub(crate) fn sum(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let repeated = y.dims().iter().position(|&size| size != 1).map_or(&[][..], |first| &y.dims()[first..]);
    let fits = x.rank() >= y.rank() && x.dims().ends_with(repeated) && x.elem_count() > 0;
    match fits && is_native(&[x, y]) {
        true => x.contiguous()?.apply_op2(&y.contiguous()?, Sum),
        false => x.broadcast_add(y),
    }
}

struct Sum;

impl CustomOp2 for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        type Argument<'a> = (&'a CpuStorage, &'a Layout);
        fn compute<T: Real>(x: Argument<'_>, y: Argument<'_>) -> Result<CpuStorage> {
            let (mut out, y) = (real_values::<T>(x.0, x.1)?.to_vec(), real_values(y.0, y.1)?);
            out.chunks_exact_mut(y.len()).for_each(|out| add_to(out, y));
            Ok(T::to_cpu_storage_owned(out))
        }
        Ok((by_type!(x.dtype(), compute((x, x_layout), (y, y_layout)))?, x_layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn total<T: Real>(gradient: &Tensor, y: &Tensor) -> Result<Tensor> {
            let list = with_values([gradient], |[gradient]| {
                let mut total = vec![T::zero(); y.elem_count()];
                gradient.chunks_exact(total.len()).for_each(|part| add_to(&mut total, part));
                total
            })?;
            Tensor::from_vec(list, y.shape(), y.device())
        }
        let of_y = match (y.track_op(), y.elem_count() == x.elem_count()) {
            (false, _) => None,
            (true, true) => Some(gradient.reshape(y.shape())?),
            (true, false) => Some(by_type!(y.dtype(), total(&gradient.contiguous()?, y))?),
        };
        Ok((x.track_op().then(|| gradient.clone()), of_y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random};
    use candle_core::DType;

    /// Of both arguments.
    const SHAPES: [(&[usize], &[usize]); 6] = [
        (&[1], &[1]),
        (&[3, 5, 7], &[3, 5, 7]),
        (&[3, 5, 7], &[1, 5, 7]),
        (&[2, 3, 5], &[3, 5]),
        (&[2, 3, 1], &[1, 1]),
        (&[2, 3], &[]),
    ];

    #[test]
    fn sums_are_the_tensor_librarys() {
        // The last two are shared in a way that only the tensor library knows.
        let others: [(&[usize], &[usize]); 4] =
            [(&[2, 300, 129], &[1, 300, 129]), (&[0, 3], &[1, 3]), (&[2, 3], &[2, 1]), (&[1, 3], &[4, 3])];
        for (x, y) in SHAPES.into_iter().chain(others) {
            let (x, y) = (random(x, 1), random(y, 2));
            assert_close(&sum(&x, &y).unwrap(), &x.broadcast_add(&y).unwrap(), 0.0);
        }
        let (x, y) = (random(&[3, 2], 1).t().unwrap(), random(&[2, 3], 2));
        assert_close(&sum(&x, &y).unwrap(), &x.broadcast_add(&y).unwrap(), 0.0);
        assert!(sum(&x, &random(&[2], 1)).is_err());
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for (x, y) in SHAPES {
            let [x, y] = [(x, 1), (y, 2)].map(|(shape, seed)| random(shape, seed).to_dtype(DType::F64).unwrap());
            assert_gradients(&[&x, &y], |v| sum(&v[0], &v[1]));
            // Only one is a variable.
            assert_gradients(&[&x], |v| sum(&v[0], &y));
            assert_gradients(&[&y], |v| sum(&x, &v[0]));
            // Both are the same tensor, which is used elsewhere as well.
            assert_gradients(&[&x], |v| sum(&v[0], &v[0])? * &v[0]);
        }
    }
}
