use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::ops::convolution::{Geometry, Window};
use crate::ops::real::{Real, by_type, real_values, with_values};

/// The convolution of every channel of N×H×W×C values by itself with taps×C weights, through which gradients pass.
pub(super) struct Differentiable(pub(super) Window);

impl Differentiable {
    fn geometry(&self, values: &Layout, weight: &Layout) -> Result<Geometry> {
        let geometry = Geometry::new(self.0, values.shape().dims4()?)?;
        if weight.dims() != [self.0.kernel[0] * self.0.kernel[1], geometry.channels] {
            candle_core::bail!("kernel {:?} of {:?} on {:?}", weight.dims(), self.0, values.dims());
        }
        Ok(geometry)
    }
}

/// Adds `values * weights`, channel by channel.
#[inline(always)]
fn add_product<T: Real>(sums: &mut [T], values: &[T], weights: &[T]) {
    for ((sum, &value), &weight) in sums.iter_mut().zip(values).zip(weights) {
        *sum += value * weight;
    }
}

/// Calls `visit` with the tap and the input position of everything under the window at an output position.
#[inline(always)]
fn under_window(geometry: &Geometry, index: usize, mut visit: impl FnMut(usize, usize)) {
    let (image, y, x) = geometry.position(index);
    let Window { kernel: [down, across], stride, padding } = geometry.window;
    for tap in 0..down * across {
        let row = (y * stride + tap / across).checked_sub(padding).filter(|&row| row < geometry.height);
        let column = (x * stride + tap % across).checked_sub(padding).filter(|&column| column < geometry.width);
        if let (Some(row), Some(column)) = (row, column) {
            visit(tap, (image * geometry.height + row) * geometry.width + column);
        }
    }
}

fn forward<T: Real>(geometry: &Geometry, values: &[T], weight: &[T]) -> Vec<T> {
    let channels = geometry.channels;
    let mut out = vec![T::zero(); geometry.positions() * channels];
    out.par_chunks_exact_mut(channels).with_min_len(64).enumerate().for_each(|(index, out)| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                under_window(geometry, index, |tap, position| {
                    add_product(out, &values[position * channels..][..channels], &weight[tap * channels..][..channels]);
                });
            },
        );
    });
    out
}

/// The gradient of the input: every position collects from the windows that hold it.
fn input_gradient<T: Real>(geometry: &Geometry, weight: &[T], gradient: &[T]) -> Vec<T> {
    let Geometry { channels, height, width, rows, columns, .. } = *geometry;
    let Window { kernel: [down, across], stride, padding } = geometry.window;
    let mut out = vec![T::zero(); geometry.batch * height * width * channels];
    // The window that has a coordinate under its tap.
    let window = |coordinate: usize, tap: usize, count: usize| {
        let start = (coordinate + padding).checked_sub(tap)?;
        Some(start / stride).filter(|&window| start % stride == 0 && window < count)
    };
    out.par_chunks_exact_mut(channels).with_min_len(64).enumerate().for_each(|(position, out)| {
        let (line, x) = (position / width, position % width);
        let (image, y) = (line / height, line % height);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for tap in 0..down * across {
                    let (row, column) = (window(y, tap / across, rows), window(x, tap % across, columns));
                    let (Some(row), Some(column)) = (row, column) else { continue };
                    let at = ((image * rows + row) * columns + column) * channels;
                    add_product(out, &gradient[at..][..channels], &weight[tap * channels..][..channels]);
                }
            },
        );
    });
    out
}

/// Positions that are summed at a time; fixed, so that a sum does not depend on the number of threads.
const CHUNK: usize = 1024;

fn weight_gradient<T: Real>(geometry: &Geometry, values: &[T], gradient: &[T]) -> Vec<T> {
    let channels = geometry.channels;
    let taps = geometry.window.kernel[0] * geometry.window.kernel[1];
    let starts: Vec<usize> = (0..geometry.positions()).step_by(CHUNK).collect();
    let sums: Vec<Vec<T>> = starts
        .into_par_iter()
        .map(|start| {
            let mut sums = vec![T::zero(); taps * channels];
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for index in start..geometry.positions().min(start + CHUNK) {
                        let gradient = &gradient[index * channels..][..channels];
                        under_window(geometry, index, |tap, position| {
                            let values = &values[position * channels..][..channels];
                            add_product(&mut sums[tap * channels..][..channels], values, gradient);
                        });
                    }
                },
            );
            sums
        })
        .collect();
    let total = |index: usize| T::from_f64(sums.iter().map(|sum| sum[index].to_f64()).sum());
    (0..taps * channels).map(total).collect()
}

impl CustomOp2 for Differentiable {
    fn name(&self) -> &'static str {
        "depthwise_convolution"
    }

    fn cpu_fwd(
        &self,
        values: &CpuStorage,
        values_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn compute<T: Real>(
            geometry: &Geometry,
            values: (&CpuStorage, &Layout),
            weight: (&CpuStorage, &Layout),
        ) -> Result<CpuStorage> {
            let (values, weight) = (real_values::<T>(values.0, values.1)?, real_values::<T>(weight.0, weight.1)?);
            Ok(T::to_cpu_storage_owned(forward(geometry, values, weight)))
        }
        let geometry = self.geometry(values_layout, weight_layout)?;
        let out = by_type!(values.dtype(), compute(&geometry, (values, values_layout), (weight, weight_layout)))?;
        Ok((out, (geometry.batch, geometry.rows, geometry.columns, geometry.channels).into()))
    }

    fn bwd(
        &self,
        values: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn of_values<T: Real>(geometry: &Geometry, weight: &Tensor, gradient: &Tensor) -> Result<Vec<T>> {
            with_values([weight, gradient], |[weight, gradient]| input_gradient(geometry, weight, gradient))
        }
        fn of_weight<T: Real>(geometry: &Geometry, values: &Tensor, gradient: &Tensor) -> Result<Vec<T>> {
            with_values([values, gradient], |[values, gradient]| weight_gradient(geometry, values, gradient))
        }
        fn tensors<T: Real>(geometry: &Geometry, arguments: [&Tensor; 3]) -> Result<[Option<Tensor>; 2]> {
            let [values, weight, gradient] = arguments;
            let tensor = |list: Vec<T>, like: &Tensor| Tensor::from_vec(list, like.shape(), like.device());
            let first = values.track_op().then(|| tensor(of_values(geometry, weight, gradient)?, values));
            let second = weight.track_op().then(|| tensor(of_weight(geometry, values, gradient)?, weight));
            Ok([first.transpose()?, second.transpose()?])
        }
        let geometry = self.geometry(values.layout(), weight.layout())?;
        let [first, second] = by_type!(values.dtype(), tensors(&geometry, [values, weight, &gradient.contiguous()?]))?;
        Ok((first, second))
    }
}
