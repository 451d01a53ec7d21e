use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{fusible, values};

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
        out.par_chunks_mut(rows * dim).for_each(|rows| {
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
fn sum(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut partial = [0.0f32; 16];
    let mut chunks = row.chunks_exact(16);
    for chunk in &mut chunks {
        for (p, &v) in partial.iter_mut().zip(chunk) {
            *p += term(v);
        }
    }
    let rest: f32 = chunks.remainder().iter().map(|&v| term(v)).sum();
    partial.iter().sum::<f32>() + rest
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
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, tracked};

    #[test]
    fn fused_equals_composed() {
        for shape in [vec![1, 1], vec![3, 5], vec![2, 7, 33], vec![1, 300, 768]] {
            let dim = *shape.last().unwrap();
            let (x, w, b) = (random(&shape, 1), random(&[dim], 2), random(&[dim], 3));
            let fused = layer_norm(&x, &w, &b, 1e-6).unwrap();
            let composed = layer_norm(&tracked(&x), &w, &b, 1e-6).unwrap();
            assert_close(&fused, &composed, 2e-5);
        }
    }
}
