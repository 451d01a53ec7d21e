use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::trained::Differentiable;
use crate::ops::real::{Real, is_native};
use crate::ops::{fusible, parts_of_values, values};

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
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
        let (x, weight, bias) = (values(x, x_layout)?, values(weight, weight_layout)?, values(bias, bias_layout)?);
        let dim = weight.len();
        let mut out = x.to_vec();
        // About 64 KB a task.
        let rows = (16 * 1024 / dim.max(1)).max(1);
        parts_of_values(out.par_chunks_mut(rows * dim), rows * dim).for_each(|rows| {
            pulp::Arch::new().dispatch(|| {
                for row in rows.chunks_exact_mut(dim) {
                    normalize(row, weight, bias, self.eps);
                }
            });
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

#[inline(always)]
fn normalize(row: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let mean = sum(row, |v| v) / row.len() as f32;
    let variance = sum(row, |v| (v - mean) * (v - mean)) / row.len() as f32;
    let scale = 1.0 / (variance + eps).sqrt();
    for ((v, w), b) in row.iter_mut().zip(weight).zip(bias) {
        *v = (*v - mean) * scale * w + b;
    }
}

/// Sixteen partial sums: the compiler may not reorder one float sum into vectors by itself.
#[inline(always)]
pub(super) fn sum<T: Real>(row: &[T], term: impl Fn(T) -> T) -> T {
    let mut partial = [T::zero(); 16];
    let mut chunks = row.chunks_exact(16);
    for chunk in &mut chunks {
        for (p, &v) in partial.iter_mut().zip(chunk) {
            *p += term(v);
        }
    }
    let rest: T = chunks.remainder().iter().map(|&v| term(v)).sum();
    partial.iter().copied().sum::<T>() + rest
}

/// Normalises the last dimension to mean 0 and (biased) variance 1, then scales and shifts it.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    if weight.dims() != [x.dim(D::Minus1)?] || bias.dims() != weight.dims() {
        candle_core::bail!("layer norm of {:?} with weight {:?}, bias {:?}", x.dims(), weight.dims(), bias.dims());
    }
    if fusible(&[x, weight, bias]) && x.elem_count() > 0 {
        let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
        return x.apply_op3_no_bwd(&weight, &bias, &LayerNorm { eps: eps as f32 });
    }
    if is_native(&[x, weight, bias]) && x.elem_count() > 0 {
        return x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Differentiable { eps });
    }
    composed(x, [weight, bias], eps)
}

/// The same from the tensor library's own operations, for other devices and types.
fn composed(x: &Tensor, [weight, bias]: [&Tensor; 2], eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random, tracked};
    use candle_core::DType;

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for shape in [vec![1, 3], vec![2, 5, 7], vec![1, 600, 4]] {
            let dim = *shape.last().unwrap();
            let [x, w, b] = [(&shape[..], 1), (&[dim], 2), (&[dim], 3)]
                .map(|(shape, seed)| random(shape, seed).to_dtype(DType::F64).unwrap());
            assert_gradients(&[&x, &w, &b], |v| layer_norm(&v[0], &v[1], &v[2], 1e-5));
            assert_gradients(&[&x, &w, &b], |v| composed(&v[0], [&v[1], &v[2]], 1e-5));
        }
    }

    #[test]
    fn every_path_gives_the_same() {
        for shape in [vec![1, 1], vec![3, 5], vec![2, 7, 33], vec![1, 300, 768]] {
            let dim = *shape.last().unwrap();
            let (x, w, b) = (random(&shape, 1), random(&[dim], 2), random(&[dim], 3));
            let fused = layer_norm(&x, &w, &b, 1e-6).unwrap();
            for other in [layer_norm(&tracked(&x), &w, &b, 1e-6), composed(&x, [&w, &b], 1e-6)] {
                assert_close(&fused, &other.unwrap(), 2e-5);
            }
        }
    }
}
