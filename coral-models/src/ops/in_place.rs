use std::cell::Cell;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Tensor};
use rayon::prelude::*;

use super::real::Real;
use super::{Values, fusible, parts_of_values, sum};

/// Whether a tensor's values can be changed by [`change`].
pub(crate) fn is_plain(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32 && tensor.is_contiguous()
}

/// Lets `change` write into the memory of a contiguous f32 tensor on the CPU.
///
/// Tensors that share the memory must not be read meanwhile, which would wait for ever.
pub(crate) fn change(tensor: &Tensor, change: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&Once(Cell::new(Some(change))))
}

struct Once<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for Once<F> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets(), self.0.take()) {
            (CpuStorage::F32(values), Some((start, end)), Some(change)) => change(&mut values[start..end]),
            _ => candle_core::bail!("only contiguous values of f32 are changed in place"),
        }
    }
}

/// `x + y`, in the memory of `y` when nobody differentiates: the end of a residual branch, whose result `y` nobody else
/// may hold. candle's own sum takes new memory, and callers on several threads wait for each other.
pub(crate) fn add_residual(x: &Tensor, y: Tensor) -> Result<Tensor> {
    let plain = fusible(&[x, &y]) && x.is_contiguous() && y.is_contiguous() && x.dims() == y.dims();
    if !plain || share_memory(x, &y)? {
        return if x.dims() == y.dims() { sum(x, &y) } else { x + y };
    }
    let x = Values::of(x)?;
    change(&y, |values| {
        add_to(values, &x);
        Ok(())
    })?;
    Ok(y)
}

/// Adds values to as many others.
pub(super) fn add_to<T: Real>(sums: &mut [T], values: &[T]) {
    const GRAIN: usize = 16 * 1024;
    let parts = sums.par_chunks_mut(GRAIN).zip(values.par_chunks(GRAIN));
    parts_of_values(parts, GRAIN)
        .for_each(|(sums, values)| sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += value));
}

fn share_memory(x: &Tensor, y: &Tensor) -> Result<bool> {
    let (x, y) = (Values::of(x)?, Values::of(y)?);
    let (x, y) = (x.as_ptr_range(), y.as_ptr_range());
    Ok(x.start < y.end && y.start < x.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, tracked};
    use candle_core::{Device, Var};

    #[test]
    fn memory_is_changed_in_place() {
        let variable = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let shared = variable.as_detached_tensor();
        change(&variable, |values| {
            values[1] = 5.0;
            Ok(())
        })
        .unwrap();
        assert_eq!(shared.to_vec1::<f32>().unwrap(), [1.0, 5.0]);
        let double = Tensor::zeros(2, DType::F64, &Device::Cpu).unwrap();
        assert!(!is_plain(&double) && change(&double, |_| Ok(())).is_err());
    }

    #[test]
    fn residuals_equal_sums() {
        for shape in [vec![1], vec![2, 3, 5], vec![3, 50_000]] {
            let (x, y) = (random(&shape, 1), random(&shape, 2));
            let expected = (&x + &y).unwrap();
            assert_close(&add_residual(&x, y.copy().unwrap()).unwrap(), &expected, 0.0);
            assert_close(&add_residual(&tracked(&x), y.clone()).unwrap(), &expected, 0.0);
            assert_close(&add_residual(&x, x.clone()).unwrap(), &(&x * 2.0).unwrap(), 0.0);
        }
        let (x, y) = (random(&[3, 2], 1).t().unwrap(), random(&[2, 3], 2));
        assert_close(&add_residual(&x, y.copy().unwrap()).unwrap(), &(&x + &y).unwrap(), 0.0);
        assert!(add_residual(&y, random(&[2], 1)).is_err());
    }

    #[test]
    fn gradients_reach_both() {
        let (x, y) = (Var::new(&[1f32, 2.0], &Device::Cpu).unwrap(), Var::new(&[3f32, 4.0], &Device::Cpu).unwrap());
        let gradients = add_residual(&x, (y.as_tensor() * 2.0).unwrap()).unwrap().backward().unwrap();
        assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>().unwrap(), [1.0; 2]);
        assert_eq!(gradients.get(&y).unwrap().to_vec1::<f32>().unwrap(), [2.0; 2]);
    }
}
