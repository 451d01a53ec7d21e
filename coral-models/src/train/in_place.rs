use std::cell::Cell;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Tensor};
use rayon::prelude::*;

/// Elements of a task: about what the second-level cache holds of a weight, its gradient and its two moments.
const GRAIN: usize = 16 * 1024;

/// Whether a tensor's values can be changed by [`change`].
pub(super) fn is_plain(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32 && tensor.is_contiguous()
}

/// Lets `change` write into the memory of a contiguous f32 tensor on the CPU.
///
/// Tensors that share the memory must not be read meanwhile, which would wait for ever.
pub(super) fn change(tensor: &Tensor, change: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
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

/// Runs `task` on all cores, each time on the same part of `values`, of `others` and of `source`.
pub(super) fn in_parts<const N: usize>(
    values: &mut [f32],
    others: [&mut [f32]; N],
    source: &[f32],
    task: impl Fn(&mut [f32], [&mut [f32]; N], &[f32]) + Sync,
) {
    let mut others = others.map(|other| other.chunks_mut(GRAIN));
    let parts = values.chunks_mut(GRAIN).zip(source.chunks(GRAIN)).map(|(values, source)| {
        let others = others.each_mut().map(|other| other.next().unwrap_or_default());
        (values, others, source)
    });
    let parts: Vec<_> = parts.collect();
    parts.into_par_iter().for_each(|(values, others, source)| {
        pulp::Arch::new().dispatch(|| task(values, others, source));
    });
}

/// The sum of squares; the same for any number of threads.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    let part = |part: &[f32]| pulp::Arch::new().dispatch(|| squares(part));
    values.par_chunks(GRAIN).map(part).collect::<Vec<_>>().into_iter().sum()
}

/// Eight partial sums: the compiler may not reorder one sum into vectors by itself.
#[inline(always)]
fn squares(values: &[f32]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut partial = [0.0f64; 8];
    for eight in eights {
        for (p, &v) in partial.iter_mut().zip(eight) {
            *p += f64::from(v) * f64::from(v);
        }
    }
    partial.iter().sum::<f64>() + rest.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn every_value_is_visited_once() {
        for len in [0, 1, GRAIN - 1, GRAIN, 2 * GRAIN + 7] {
            let source: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let (mut values, mut other) = (vec![1.0; len], vec![2.0; len]);
            in_parts(&mut values, [&mut other], &source, |values, [other], source| {
                for ((v, o), s) in values.iter_mut().zip(other).zip(source) {
                    *v += *o * s;
                    *o = -s;
                }
            });
            assert!((0..len).all(|i| values[i] == 1.0 + 2.0 * i as f32 && other[i] == -(i as f32)), "{len}");
            let expected: f64 = source.iter().map(|&v| f64::from(v).powi(2)).sum();
            assert!((sum_of_squares(&source) - expected).abs() <= 1e-12 * expected, "{len}");
        }
    }

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
}
