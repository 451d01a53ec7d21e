use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::fused::sum;
use crate::ops::parts_of_values;
use crate::ops::real::{Real, by_type, real_values, with_values};

/// The normalisation through which gradients pass.
pub(super) struct Differentiable {
    pub(super) eps: f64,
}

/// Rows that are summed at a time; fixed, so that a sum does not depend on the number of threads.
const ROWS: usize = 256;

/// Mean and inverse deviation of a row.
#[inline(always)]
fn moments<T: Real>(row: &[T], eps: T) -> (T, T) {
    let share = T::one() / T::from_f64(row.len() as f64);
    let mean = sum(row, |v| v) * share;
    let variance = sum(row, |v| (v - mean) * (v - mean)) * share;
    (mean, T::one() / (variance + eps).sqrt())
}

fn forward<T: Real>(x: &[T], [weight, bias]: [&[T]; 2], eps: T) -> Vec<T> {
    let dim = weight.len();
    let mut out = vec![T::zero(); x.len()];
    let parts = out.par_chunks_mut(ROWS * dim).zip(x.par_chunks(ROWS * dim));
    parts_of_values(parts, ROWS * dim).for_each(|(out, x)| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (out, row) in out.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                    let (mean, inverse) = moments(row, eps);
                    for (((out, &v), &w), &b) in out.iter_mut().zip(row).zip(weight).zip(bias) {
                        *out = (v - mean) * inverse * w + b;
                    }
                }
            },
        );
    });
    out
}

/// Gradients of values, weight and bias.
fn backward<T: Real>([x, weight, gradient]: [&[T]; 3], eps: T) -> [Vec<T>; 3] {
    let dim = weight.len();
    let mut of_x = vec![T::zero(); x.len()];
    let parts = (of_x.par_chunks_mut(ROWS * dim), x.par_chunks(ROWS * dim), gradient.par_chunks(ROWS * dim));
    let sums: Vec<[Vec<T>; 2]> = parts_of_values(parts.into_par_iter(), ROWS * dim)
        .map(|(of_x, x, gradient)| {
            let [mut of_weight, mut of_bias, mut unit] = std::array::from_fn(|_| vec![T::zero(); dim]);
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    let rows = of_x.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(gradient.chunks_exact(dim));
                    for ((out, row), gradient) in rows {
                        let (mean, inverse) = moments(row, eps);
                        for c in 0..dim {
                            unit[c] = (row[c] - mean) * inverse;
                            of_weight[c] += gradient[c] * unit[c];
                            of_bias[c] += gradient[c];
                            out[c] = gradient[c] * weight[c];
                        }
                        through_moments(out, &unit, inverse);
                    }
                },
            );
            [of_weight, of_bias]
        })
        .collect();
    let total = |which: usize| {
        (0..dim).map(|c| T::from_f64(sums.iter().map(|part| part[which][c].to_f64()).sum())).collect::<Vec<T>>()
    };
    [of_x, total(0), total(1)]
}

/// From slopes in the normalised values `unit` of a row to those in the values themselves.
#[inline(always)]
fn through_moments<T: Real>(slopes: &mut [T], unit: &[T], inverse: T) {
    let mut partial = [T::zero(); 16];
    for (slopes, unit) in slopes.chunks(16).zip(unit.chunks(16)) {
        partial.iter_mut().zip(slopes).zip(unit).for_each(|((sum, &slope), &unit)| *sum += slope * unit);
    }
    let share = T::one() / T::from_f64(slopes.len() as f64);
    let (mean, along) = (sum(slopes, |v| v) * share, partial.iter().copied().sum::<T>() * share);
    slopes.iter_mut().zip(unit).for_each(|(slope, &unit)| *slope = (*slope - mean - unit * along) * inverse);
}

impl CustomOp3 for Differentiable {
    fn name(&self) -> &'static str {
        "differentiable_layer_norm"
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
        fn compute<T: Real>(eps: f64, arguments: [(&CpuStorage, &Layout); 3]) -> Result<CpuStorage> {
            let [x, weight, bias] = arguments.map(|(storage, layout)| real_values::<T>(storage, layout));
            Ok(T::to_cpu_storage_owned(forward(x?, [weight?, bias?], T::from_f64(eps))))
        }
        let arguments = [(x, x_layout), (weight, weight_layout), (bias, bias_layout)];
        Ok((by_type!(x.dtype(), compute(self.eps, arguments))?, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn compute<T: Real>(eps: f64, tensors: [&Tensor; 3], bias: &Tensor) -> Result<[Option<Tensor>; 3]> {
            let [of_x, of_weight, of_bias] = with_values(tensors, |values| backward(values, T::from_f64(eps)))?;
            let tensor = |list: Vec<T>, like: &Tensor| match like.track_op() {
                true => Tensor::from_vec(list, like.shape(), like.device()).map(Some),
                false => Ok(None),
            };
            Ok([tensor(of_x, tensors[0])?, tensor(of_weight, tensors[1])?, tensor(of_bias, bias)?])
        }
        let tensors = [x, weight, &gradient.contiguous()?];
        let [of_x, of_weight, of_bias] = by_type!(x.dtype(), compute(self.eps, tensors, bias))?;
        Ok((of_x, of_weight, of_bias))
    }
}
