use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::parts_of_values;
use super::real::{Real, by_type, is_native, real_values, with_values};

/// Values that a thread takes at a time.
const GRAIN: usize = 16 * 1024;

/// max(x, 0) whose slope at 0 is 0, as PyTorch has it; NaN where x is NaN. Elsewhere than on the CPU, and in other types
/// than f32 and f64, it is the tensor library's, whose slope at 0 is 1.
pub(super) fn differentiable_relu(x: &Tensor) -> Result<Tensor> {
    if is_native(&[x]) { x.contiguous()?.apply_op1(Relu) } else { x.relu() }
}

/// max(a + b, 0): the end of a residual block, with the slopes of [`differentiable_relu`].
pub(crate) fn add_relu(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        candle_core::bail!("a residual of {:?} for {:?}", b.dims(), a.dims());
    }
    if is_native(&[a, b]) {
        return a.contiguous()?.apply_op2(&b.contiguous()?, AddRelu);
    }
    (a + b)?.relu()
}

#[inline(always)]
fn rectified<T: Real>(value: T) -> T {
    if value < T::zero() { T::zero() } else { value }
}

/// The gradient where the result is positive.
fn passed<T: Real>(result: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let list = with_values([result, gradient], |[result, gradient]| {
        let mut out = vec![T::zero(); result.len()];
        let parts = (out.par_chunks_mut(GRAIN), result.par_chunks(GRAIN), gradient.par_chunks(GRAIN));
        parts_of_values(parts.into_par_iter(), GRAIN).for_each(|(out, result, gradient)| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for ((out, &result), &gradient) in out.iter_mut().zip(result).zip(gradient) {
                        *out = if result > T::zero() { gradient } else { T::zero() };
                    }
                },
            );
        });
        out
    })?;
    Tensor::from_vec(list, result.shape(), result.device())
}

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn compute<T: Real>(x: &CpuStorage, layout: &Layout) -> Result<CpuStorage> {
            let mut out = real_values::<T>(x, layout)?.to_vec();
            let parts = parts_of_values(out.par_chunks_mut(GRAIN), GRAIN);
            parts.for_each(|chunk| chunk.iter_mut().for_each(|v| *v = rectified(*v)));
            Ok(T::to_cpu_storage_owned(out))
        }
        Ok((by_type!(x.dtype(), compute(x, layout))?, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(by_type!(result.dtype(), passed(result, &gradient.contiguous()?))?))
    }
}

struct AddRelu;

impl CustomOp2 for AddRelu {
    fn name(&self) -> &'static str {
        "add_relu"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn compute<T: Real>(a: (&CpuStorage, &Layout), b: (&CpuStorage, &Layout)) -> Result<CpuStorage> {
            let (a, b) = (real_values::<T>(a.0, a.1)?, real_values::<T>(b.0, b.1)?);
            let mut out = vec![T::zero(); a.len()];
            let parts = (out.par_chunks_mut(GRAIN), a.par_chunks(GRAIN), b.par_chunks(GRAIN));
            parts_of_values(parts.into_par_iter(), GRAIN).for_each(|(out, a, b)| {
                out.iter_mut().zip(a).zip(b).for_each(|((out, &a), &b)| *out = rectified(a + b));
            });
            Ok(T::to_cpu_storage_owned(out))
        }
        Ok((by_type!(a.dtype(), compute((a, a_layout), (b, b_layout)))?, a_layout.shape().clone()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = by_type!(result.dtype(), passed(result, &gradient.contiguous()?))?;
        Ok((a.track_op().then(|| gradient.clone()), b.track_op().then_some(gradient)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::random;
    use candle_core::{DType, Device, Var};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let [a, b] = [1, 2].map(|seed| random(&[3, 5, 2], seed).to_dtype(DType::F64).unwrap());
        assert_gradients(&[&a], |v| differentiable_relu(&v[0]));
        assert_gradients(&[&a, &b], |v| add_relu(&v[0], &v[1]));
        // Both arguments are the same tensor, which is used elsewhere as well.
        assert_gradients(&[&a], |v| add_relu(&v[0], &v[0])? * &v[0]);
        assert!(add_relu(&a, &random(&[3, 5], 1)).is_err());
    }

    #[test]
    fn the_slope_at_zero_is_zero_and_nan_stays() {
        let x = Var::new(&[-1f32, 0.0, 2.0, f32::NAN], &Device::Cpu).unwrap();
        let y = differentiable_relu(x.as_tensor()).unwrap();
        assert!(y.to_vec1::<f32>().unwrap()[3].is_nan());
        let gradient = y.sum_all().unwrap().backward().unwrap().get(&x).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(gradient[..3], [0.0, 0.0, 1.0]);
    }
}
