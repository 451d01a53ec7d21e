//! The operations that decide how fast a network runs on a CPU.
//!
//! Each function has paths with the same result: a fused one for f32 tensors on the CPU that nobody differentiates, and a
//! composition of candle's own operations for everything else (other devices and types, training), which is also what
//! the fused path is tested against. Products, linear layers, attention, convolutions, pooling, normalisation, ReLU,
//! resizing and cross-entropy, whose composition is slow or whose gradient candle lacks, also have a path of their own for
//! training in f32 and f64.

mod activation;
mod attention;
mod batch_norm;
mod batched;
mod bottleneck;
mod convolution;
mod cross_entropy;
mod depthwise;
mod derived;
mod drawing;
mod in_place;
mod jobs;
mod layer_norm;
mod layout;
mod linear;
mod pool;
mod product;
mod real;
mod rectify;
mod resample;
mod resize;
mod simd;
mod softmax_planes;
mod sum;
mod window_attention;

pub(crate) use activation::{Activation, gelu, relu};
pub(crate) use attention::attention;
pub(crate) use batch_norm::{BatchStatistics, Statistics, batch_norm};
pub(crate) use batched::{products, products_with_transposed};
pub(crate) use bottleneck::Bottleneck;
pub(crate) use convolution::{Convolution, Window, convolve};
pub(crate) use cross_entropy::{IndexTargets, cross_entropy_sum};
pub(crate) use depthwise::Depthwise;
pub(crate) use derived::Derived;
pub(crate) use drawing::draw_masks;
pub(crate) use in_place::{add_residual, change, is_plain};
pub(crate) use jobs::parts_of_values;
pub(crate) use layer_norm::layer_norm;
pub(crate) use layout::channels_last;
pub(crate) use linear::{linear, mlp};
pub(crate) use pool::{average_pool, max_pool};
pub(crate) use rectify::add_relu;
pub(crate) use resample::{resize_grid, resize_grid_with_offset, resize_rows};
pub(crate) use resize::add_resized;
pub use resize::{resize_bilinear, resize_nearest};
pub(crate) use softmax_planes::softmax_planes;
pub(crate) use sum::sum;
pub(crate) use window_attention::{Positions, RelativePositions, WindowAttention};

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor};

/// Whether the fused path may be taken: f32 on the CPU, and no gradient asked for.
fn fusible(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32 && !t.track_op())
}

/// The values of a contiguous argument of a custom operation.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    real::real_values(storage, layout)
}

/// A buffer of `len` values that are all going to be written.
fn buffer(len: usize) -> Vec<f32> {
    vec![0.0; len]
}

/// Read access to the values of a contiguous f32 tensor on the CPU.
pub(crate) struct Values<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    start: usize,
    end: usize,
}

impl<'a> Values<'a> {
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("a fused operation needs contiguous arguments, got strides {:?}", layout.stride());
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => Ok(Self { storage: Box::new(storage), start, end }),
            _ => candle_core::bail!("a fused operation needs f32 values on the CPU, got {:?}", tensor.dtype()),
        }
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.end],
            _ => &[],
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use candle_core::{Device, Tensor, Var};

    /// Repeatable values in -1..1.
    pub(crate) fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut random = coral_core::SeededRng::new(seed);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.range(-1.0, 1.0) as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// The same values as a variable, which takes the composed path.
    pub(crate) fn tracked(tensor: &Tensor) -> Tensor {
        Var::from_tensor(tensor).unwrap().as_tensor().clone()
    }

    pub(crate) fn assert_close(actual: &Tensor, expected: &Tensor, tolerance: f32) {
        assert_eq!(actual.dims(), expected.dims());
        let list = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (i, (a, e)) in list(actual).into_iter().zip(list(expected)).enumerate() {
            assert!((a - e).abs() <= tolerance, "value {i}: {a} against {e}");
        }
    }
}
