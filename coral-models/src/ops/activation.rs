use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{fusible, simd, values};

/// The non-linearity between the layers of a perceptron.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// max(x, 0).
    Relu,
    /// x Φ(x) with the exact error function.
    Gelu,
}

impl Activation {
    /// The composition of candle's operations.
    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => x.relu(),
            Self::Gelu => x.gelu_erf(),
        }
    }

    /// Applies itself to every value, on all threads.
    pub(crate) fn apply_in_place(self, values: &mut [f32]) {
        // Small enough for the cache, large enough that handing it to a thread does not matter.
        const GRAIN: usize = 16 * 1024;
        values.par_chunks_mut(GRAIN).for_each(|chunk| self.apply_here(chunk));
    }

    /// Applies itself to every value, on the calling thread.
    pub(super) fn apply_here(self, values: &mut [f32]) {
        pulp::Arch::new().dispatch(|| match self {
            Self::Relu => values.iter_mut().for_each(|v| *v = v.max(0.0)),
            Self::Gelu => values.iter_mut().for_each(|v| *v = simd::gelu(*v)),
        });
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
    if fusible(&[x]) {
        x.contiguous()?.apply_op1_no_bwd(&Pointwise(Activation::Gelu))
    } else {
        Activation::Gelu.apply(x)
    }
}
