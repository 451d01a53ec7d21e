use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::real::with_values;
use super::{fusible, parts_of_values, simd, values};

/// Values that a thread takes at a time: few enough for the cache, enough that handing them over does not matter.
const GRAIN: usize = 16 * 1024;

/// The non-linearity between the layers of a perceptron.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// max(x, 0).
    Relu,
    /// x Φ(x) with the exact error function.
    Gelu,
    /// x σ(1.702 x), the approximation that OpenAI's CLIP was trained with.
    QuickGelu,
}

impl Activation {
    /// The form through which gradients pass.
    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => super::rectify::differentiable_relu(x),
            Self::Gelu if is_single(x) => x.contiguous()?.apply_op1(DifferentiableGelu),
            Self::Gelu => x.gelu_erf(),
            // By the hyperbolic tangent: an exponential would overflow, and its gradient be none.
            Self::QuickGelu => x * x.affine(0.5 * simd::QUICK, 0.0)?.tanh()?.affine(0.5, 0.5)?,
        }
    }

    /// Applies itself to every value, on all threads.
    pub(crate) fn apply_in_place(self, values: &mut [f32]) {
        parts_of_values(values.par_chunks_mut(GRAIN), GRAIN).for_each(|chunk| self.apply_here(chunk));
    }

    /// Applies itself to every value, on the calling thread.
    pub(super) fn apply_here(self, values: &mut [f32]) {
        pulp::Arch::new().dispatch(|| match self {
            // Unlike max(v, 0), it keeps what is not a number.
            Self::Relu => values.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v }),
            Self::Gelu => values.iter_mut().for_each(|v| *v = simd::gelu(*v)),
            Self::QuickGelu => values.iter_mut().for_each(|v| *v = simd::quick_gelu(*v)),
        });
    }
}

/// Whether the approximations for f32 are good enough, which those of derivatives in f64 are not.
fn is_single(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// GELU through which gradients pass, in f32 on all threads.
struct DifferentiableGelu;

impl CustomOp1 for DifferentiableGelu {
    fn name(&self) -> &'static str {
        "differentiable_gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Pointwise(Activation::Gelu).cpu_fwd(storage, layout)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let list = with_values([x, &gradient.contiguous()?], |[x, gradient]| {
            let mut out = gradient.to_vec();
            let parts = out.par_chunks_mut(GRAIN).zip(x.par_chunks(GRAIN));
            parts_of_values(parts, GRAIN).for_each(|(out, x)| {
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    || out.iter_mut().zip(x).for_each(|(out, &x)| *out *= simd::gelu_slope(x)),
                );
            });
            out
        })?;
        Tensor::from_vec(list, x.shape(), x.device()).map(Some)
    }
}

struct Pointwise(Activation);

impl CustomOp1 for Pointwise {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = values(storage, layout)?.to_vec();
        self.0.apply_in_place(&mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

/// GELU in its exact (erf) form, as PyTorch computes it by default.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    pointwise(x, Activation::Gelu)
}

/// max(x, 0), and NaN where x is NaN.
pub(crate) fn relu(x: &Tensor) -> Result<Tensor> {
    pointwise(x, Activation::Relu)
}

fn pointwise(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if fusible(&[x]) { x.contiguous()?.apply_op1_no_bwd(&Pointwise(activation)) } else { activation.apply(x) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, tracked};

    #[test]
    fn fused_equals_composed() {
        let x = random(&[3, 50, 7], 1).affine(5.0, 0.0).unwrap();
        for x in [&x, &x.transpose(0, 2).unwrap()] {
            assert_close(&gelu(x).unwrap(), &gelu(&tracked(x)).unwrap(), 1e-5);
            assert_close(&relu(x).unwrap(), &relu(&tracked(x)).unwrap(), 0.0);
            let quick = |x: &Tensor| pointwise(x, Activation::QuickGelu).unwrap();
            assert_close(&quick(x), &quick(&tracked(x)), 1e-5);
        }
    }

    #[test]
    fn the_slope_of_gelu_is_right() {
        let x = Tensor::arange_step(-9f32, 9.0, 0.01, &candle_core::Device::Cpu).unwrap();
        let slopes = |x: Tensor| {
            let x = tracked(&x);
            let gradients = gelu(&x).unwrap().sum_all().unwrap().backward().unwrap();
            gradients.get(&x).unwrap().to_dtype(DType::F32).unwrap()
        };
        // The tensor library's own is good to six digits.
        assert_close(&slopes(x.clone()), &slopes(x.to_dtype(DType::F64).unwrap()), 2e-6);
    }

    #[test]
    fn what_is_not_a_number_stays_visible() {
        let x = Tensor::new(&[f32::NAN, -1.0, 2.0], &candle_core::Device::Cpu).unwrap();
        for out in [gelu(&x).unwrap(), relu(&x).unwrap(), pointwise(&x, Activation::QuickGelu).unwrap()] {
            assert!(out.to_vec1::<f32>().unwrap()[0].is_nan());
        }
        assert_eq!(relu(&x).unwrap().to_vec1::<f32>().unwrap()[1..], [0.0, 2.0]);
    }
}
