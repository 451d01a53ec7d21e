use candle_core::cpu::erf::erf_f64;
use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, WithDType};

/// The types that the operations on the CPU compute in.
pub(crate) trait Real:
    WithDType + num_traits::Float + std::iter::Sum + std::ops::AddAssign + std::ops::MulAssign
{
    /// e^x, written so that loops over it vectorise where the type allows it.
    fn loop_exp(self) -> Self;

    /// x Φ(x) with the exact error function, written likewise.
    fn gelu(self) -> Self;

    /// The derivative of [`gelu`](Self::gelu).
    fn gelu_slope(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn loop_exp(self) -> Self {
        super::simd::exp(self)
    }

    #[inline(always)]
    fn gelu(self) -> Self {
        super::simd::gelu(self)
    }

    #[inline(always)]
    fn gelu_slope(self) -> Self {
        super::simd::gelu_slope(self)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn loop_exp(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn gelu(self) -> Self {
        self * distribution(self)
    }

    #[inline(always)]
    fn gelu_slope(self) -> Self {
        const TWO_PI: f64 = 2.0 * std::f64::consts::PI;
        distribution(self) + self * (-0.5 * self * self).exp() / TWO_PI.sqrt()
    }
}

/// Φ(x) of the normal distribution.
fn distribution(x: f64) -> f64 {
    0.5 * (1.0 + erf_f64(x * std::f64::consts::FRAC_1_SQRT_2))
}

/// Whether `tensors` have one type that is [`Real`], on the CPU.
pub(super) fn is_native(tensors: &[&Tensor]) -> bool {
    let dtype = tensors.first().map(|t| t.dtype());
    matches!(dtype, Some(DType::F32 | DType::F64))
        && tensors.iter().all(|t| t.device().is_cpu() && Some(t.dtype()) == dtype)
}

/// The values of a contiguous argument.
pub(super) fn real_values<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("an operation needs contiguous arguments, got strides {:?}", layout.stride());
    };
    Ok(&T::cpu_storage_as_slice(storage)?[start..end])
}

/// The values of contiguous tensors on the CPU.
pub(super) fn with_values<T: Real, R, const N: usize>(
    tensors: [&Tensor; N],
    read: impl FnOnce([&[T]; N]) -> R,
) -> Result<R> {
    let locked = tensors.map(Tensor::storage_and_layout);
    let mut slices = [&[][..]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&locked) {
        match &**storage {
            Storage::Cpu(storage) => *slice = real_values::<T>(storage, layout)?,
            _ => candle_core::bail!("an operation needs values on the CPU"),
        }
    }
    Ok(read(slices))
}

/// Calls a function that is generic over [`Real`] with an element type.
macro_rules! by_type {
    ($dtype:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $dtype {
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            candle_core::DType::F64 => $function::<f64>($($argument),*),
            other => candle_core::bail!("an operation needs f32 or f64, got {other:?}"),
        }
    };
}
pub(super) use by_type;
