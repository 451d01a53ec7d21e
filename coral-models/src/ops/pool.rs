use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::convolution::{Geometry, Window};
use super::real::{Real, by_type, is_native, real_values, with_values};

/// The largest value under a window on N×H×W×C values, channel by channel; nothing lies around the image.
pub(crate) fn max_pool(x: &Tensor, window: Window) -> Result<Tensor> {
    if is_native(&[x]) {
        let taps = x.track_op().then(OnceLock::new);
        return x.contiguous()?.apply_op1(MaxPool { window, taps });
    }
    composed(x, window)
}

/// The same from the tensor library's own operations, for other devices and types.
fn composed(x: &Tensor, window: Window) -> Result<Tensor> {
    let (_, height, width, _) = x.dims4()?;
    let [rows, columns] = window.output([height, width])?;
    // Places outside the image repeat its edge, which never wins over a value that the window holds anyway.
    let places = |count: usize, tap: usize, side: usize| -> Result<Tensor> {
        let at = |i: usize| ((i * window.stride + tap).saturating_sub(window.padding)).min(side - 1) as u32;
        Tensor::from_iter((0..count).map(at), x.device())
    };
    let mut best: Option<Tensor> = None;
    for tap in 0..window.kernel[0] * window.kernel[1] {
        let shifted = x.index_select(&places(rows, tap / window.kernel[1], height)?, 1)?;
        let shifted = shifted.index_select(&places(columns, tap % window.kernel[1], width)?, 2)?;
        best = Some(match best {
            // The gradient goes to the first of equals, as in the fused form.
            Some(best) => best.ge(&shifted)?.where_cond(&best, &shifted)?,
            None => shifted,
        });
    }
    best.ok_or_else(|| candle_core::Error::Msg("a window without values".into()))
}

/// The mean of every k×k block of N×H×W×C values; rows and columns that do not fill a block are left out.
pub(crate) fn average_pool(x: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let [rows, columns] = Window::square(side, side, 0).output([height, width])?;
    let whole = x.narrow(1, 0, rows * side)?.narrow(2, 0, columns * side)?.contiguous()?;
    let blocks = whole.reshape((batch * rows, side, columns, side, channels))?;
    blocks.mean((1, 3))?.reshape((batch, rows, columns, channels))
}

struct MaxPool {
    window: Window,
    /// Where under the window every output value was found; nowhere to be kept where no gradient is asked for.
    taps: Option<OnceLock<Vec<u16>>>,
}

/// Whether a value takes the place of the largest so far. What is not a number wins and stays.
#[inline(always)]
fn wins<T: Real>(value: T, largest: T) -> bool {
    value > largest || value.is_nan() && !largest.is_nan()
}

impl MaxPool {
    /// The largest values.
    fn largest<T: Real>(&self, geometry: &Geometry, x: &[T]) -> Vec<T> {
        let mut out = vec![T::neg_infinity(); geometry.positions() * geometry.channels];
        out.par_chunks_exact_mut(geometry.channels).with_min_len(64).enumerate().for_each(|(index, out)| {
            self.under(geometry, index, |_, position| {
                for (out, &value) in out.iter_mut().zip(&x[position * geometry.channels..]) {
                    *out = if wins(value, *out) { value } else { *out };
                }
            });
        });
        out
    }

    /// The largest values, and where they were found: the first of equals.
    fn largest_with_taps<T: Real>(&self, geometry: &Geometry, x: &[T]) -> (Vec<T>, Vec<u16>) {
        let channels = geometry.channels;
        let len = geometry.positions() * channels;
        let (mut out, mut taps) = (vec![T::neg_infinity(); len], vec![0u16; len]);
        let pixels = (out.par_chunks_exact_mut(channels), taps.par_chunks_exact_mut(channels));
        pixels.into_par_iter().with_min_len(64).enumerate().for_each(|(index, (out, taps))| {
            let mut first = true;
            self.under(geometry, index, |tap, position| {
                let values = &x[position * channels..][..channels];
                for c in 0..channels {
                    if first || wins(values[c], out[c]) {
                        (out[c], taps[c]) = (values[c], tap as u16);
                    }
                }
                first = false;
            });
        });
        (out, taps)
    }

    /// Calls `visit` with the tap and the input position of everything under the window at an output position.
    #[inline(always)]
    fn under(&self, geometry: &Geometry, index: usize, mut visit: impl FnMut(usize, usize)) {
        let Geometry { height, width, .. } = *geometry;
        let Window { kernel: [down, across], stride, padding } = self.window;
        let (image, y, x) = geometry.position(index);
        for tap in 0..down * across {
            let row = (y * stride + tap / across).checked_sub(padding).filter(|&row| row < height);
            let column = (x * stride + tap % across).checked_sub(padding).filter(|&column| column < width);
            if let (Some(row), Some(column)) = (row, column) {
                visit(tap, (image * height + row) * width + column);
            }
        }
    }

    /// Every input value collects from the windows that found their maximum there.
    fn backward<T: Real>(&self, geometry: &Geometry, gradient: &[T]) -> Vec<T> {
        let Geometry { height, width, channels, rows, columns, .. } = *geometry;
        let Window { kernel: [down, across], stride, padding } = self.window;
        let mut out = vec![T::zero(); geometry.batch * height * width * channels];
        let Some(taps) = self.taps.as_ref().and_then(OnceLock::get) else { return out };
        // Windows that hold a coordinate, and where in them it lies.
        let holding = |coordinate: usize, kernel: usize, count: usize| {
            let padded = coordinate + padding;
            let first = (padded + 1).saturating_sub(kernel).div_ceil(stride);
            (first..count.min(padded / stride + 1)).map(move |window| (window, padded - window * stride))
        };
        out.par_chunks_exact_mut(width * channels).enumerate().for_each(|(line, out)| {
            let (image, y) = (line / height, line % height);
            for (row, tap_row) in holding(y, down, rows) {
                for (x, pixel) in out.chunks_exact_mut(channels).enumerate() {
                    for (column, tap_column) in holding(x, across, columns) {
                        let at = ((image * rows + row) * columns + column) * channels;
                        let tap = (tap_row * across + tap_column) as u16;
                        let (gradient, taps) = (&gradient[at..][..channels], &taps[at..][..channels]);
                        for c in 0..channels {
                            pixel[c] += if taps[c] == tap { gradient[c] } else { T::zero() };
                        }
                    }
                }
            }
        });
        out
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn compute<T: Real>(op: &MaxPool, geometry: &Geometry, x: &CpuStorage, layout: &Layout) -> Result<CpuStorage> {
            let values = real_values::<T>(x, layout)?;
            let Some(place) = &op.taps else { return Ok(T::to_cpu_storage_owned(op.largest(geometry, values))) };
            let (out, taps) = op.largest_with_taps(geometry, values);
            // Only ever set here, once: the operation belongs to one call.
            let _ = place.set(taps);
            Ok(T::to_cpu_storage_owned(out))
        }
        let geometry = Geometry::new(self.window, layout.shape().dims4()?)?;
        if self.window.kernel[0] * self.window.kernel[1] > usize::from(u16::MAX) {
            candle_core::bail!("a window {:?} is too large", self.window);
        }
        let out = by_type!(x.dtype(), compute(self, &geometry, x, layout))?;
        Ok((out, (geometry.batch, geometry.rows, geometry.columns, geometry.channels).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        fn compute<T: Real>(op: &MaxPool, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
            let geometry = Geometry::new(op.window, x.dims4()?)?;
            let list = with_values([gradient], |[gradient]| op.backward::<T>(&geometry, gradient))?;
            Tensor::from_vec(list, x.shape(), x.device())
        }
        Ok(Some(by_type!(x.dtype(), compute(self, x, &gradient.contiguous()?))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random, tracked};
    use candle_core::{DType, Device};

    #[test]
    fn maxima_and_their_gradients() {
        for (shape, window) in [
            ([2, 7, 10, 3], Window::square(3, 2, 1)),
            ([1, 5, 8, 2], Window::square(2, 2, 0)),
            ([1, 9, 6, 1], Window { kernel: [3, 2], stride: 1, padding: 1 }),
            ([1, 1, 1, 2], Window::square(3, 2, 1)),
            ([1, 11, 7, 2], Window::square(2, 3, 0)),
        ] {
            let x = random(&shape, 3);
            assert_close(&max_pool(&x, window).unwrap(), &composed(&x, window).unwrap(), 0.0);
            assert_close(&max_pool(&tracked(&x), window).unwrap(), &composed(&x, window).unwrap(), 0.0);
            let x = x.to_dtype(DType::F64).unwrap();
            assert_gradients(&[&x], |v| max_pool(&v[0], window));
            assert_gradients(&[&x], |v| composed(&v[0], window));
        }
    }

    #[test]
    fn the_first_of_equals_gets_the_gradient_and_nan_stays() {
        let x = candle_core::Var::new(&[[[[1f32], [1.0]], [[1.0], [0.5]]]], &Device::Cpu).unwrap();
        let y = max_pool(x.as_tensor(), Window::square(2, 2, 0)).unwrap();
        let gradient = y.sum_all().unwrap().backward().unwrap().get(&x).unwrap().flatten_all().unwrap();
        assert_eq!(gradient.to_vec1::<f32>().unwrap(), [1.0, 0.0, 0.0, 0.0]);
        for at in 0..4 {
            let values = (0..4).map(|i| if i == at { f32::NAN } else { i as f32 });
            let x = Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((1, 2, 2, 1)).unwrap();
            let y = max_pool(&x, Window::square(2, 2, 0)).unwrap().flatten_all().unwrap();
            assert!(y.to_vec1::<f32>().unwrap()[0].is_nan());
        }
    }

    #[test]
    fn averages_leave_remainders_out() {
        let x = Tensor::arange(0f32, 35.0, &Device::Cpu).unwrap().reshape((1, 5, 7, 1)).unwrap();
        let y = average_pool(&x, 2).unwrap();
        assert_eq!(y.dims(), [1, 2, 3, 1]);
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [4.0, 6.0, 8.0, 18.0, 20.0, 22.0]);
        let x = random(&[2, 5, 7, 3], 1).to_dtype(DType::F64).unwrap();
        assert_gradients(&[&x], |v| average_pool(&v[0], 2));
        assert!(average_pool(&x, 6).is_err());
    }
}
