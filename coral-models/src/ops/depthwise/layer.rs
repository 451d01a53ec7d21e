use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::trained::Differentiable;
use crate::ops::convolution::{Window, shifted};
use crate::ops::real::is_native;
use crate::ops::{Derived, Values, buffer, fusible, values};

/// A 3×3 convolution of every channel by itself over N×H×W×C values, padded with one row and column of zeros on each
/// side.
#[derive(Debug, Clone)]
pub(crate) struct Depthwise {
    /// 9×C: the taps row by row.
    pub(in crate::ops) weight: Derived,
    pub(in crate::ops) bias: Tensor,
    pub(in crate::ops) stride: usize,
}

/// Channels whose sums stay in registers.
const LANES: usize = 32;

impl Depthwise {
    /// From `weight` C×1×3×3 and `bias` C, as PyTorch stores them.
    pub(crate) fn new(weight: &Tensor, bias: &Tensor, stride: usize) -> Result<Self> {
        let channels = weight.dims()[0];
        if weight.dims() != [channels, 1, 3, 3] || bias.dims() != [channels] || stride == 0 {
            candle_core::bail!("depthwise kernel {:?}, bias {:?}, stride {stride}", weight.dims(), bias.dims());
        }
        let taps = |weights: &[Tensor]| weights[0].flatten_from(1)?.t()?.contiguous();
        let weight = Derived::new(vec![weight.clone()], taps)?;
        Ok(Self { weight, bias: bias.contiguous()?, stride })
    }

    /// N×H×W×C to N×⌈H/stride⌉×⌈W/stride⌉×C.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, _, channels) = x.dims4()?;
        if self.bias.dims() != [channels] {
            candle_core::bail!("depthwise kernel of {:?} channels on {:?}", self.bias.dims(), x.dims());
        }
        let weight = self.weight.get()?;
        if fusible(&[x, &weight, &self.bias]) && x.elem_count() > 0 {
            return x.contiguous()?.apply_op1_no_bwd(self);
        }
        let window = Window::square(3, self.stride, 1);
        convolve(&x.contiguous()?, &weight.contiguous()?, window)?.broadcast_add(&self.bias)
    }
}

/// The convolution of every channel of N×H×W×C values by itself with taps×C weights, through which gradients pass.
fn convolve(x: &Tensor, weight: &Tensor, window: Window) -> Result<Tensor> {
    if is_native(&[x, weight]) { x.apply_op2(weight, Differentiable(window)) } else { composed(x, weight, window) }
}

/// The same from the tensor library's own operations, for other devices and types.
fn composed(x: &Tensor, weight: &Tensor, window: Window) -> Result<Tensor> {
    let taps = shifted(x, window)?;
    let first = taps[0].broadcast_mul(&weight.narrow(0, 0, 1)?.squeeze(0)?)?;
    taps.iter()
        .enumerate()
        .skip(1)
        .try_fold(first, |sum, (tap, values)| sum + values.broadcast_mul(&weight.narrow(0, tap, 1)?.squeeze(0)?)?)
}

impl CustomOp1 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(x, layout)?;
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let weight = self.weight.get()?;
        let (weight, bias) = (Values::of(&weight)?, Values::of(&self.bias)?);
        let kernel = Kernel { weight: &weight, bias: &bias, stride: self.stride };
        let (rows, columns) = (height.div_ceil(self.stride), width.div_ceil(self.stride));
        let mut out = buffer(batch * rows * columns * channels);
        out.par_chunks_exact_mut(columns * channels).enumerate().for_each(|(line, out)| {
            let (image, y) = (line / rows, line % rows);
            let row = |tap: usize| {
                let row = (y * self.stride + tap).checked_sub(1).filter(|&row| row < height)?;
                Some(&x[(image * height + row) * width * channels..][..width * channels])
            };
            pulp::Arch::new().dispatch(|| kernel.row([row(0), row(1), row(2)], out));
        });
        Ok((CpuStorage::F32(out), (batch, rows, columns, channels).into()))
    }
}

/// Borrowed weights, as in [`Depthwise`].
#[derive(Clone, Copy)]
pub(in crate::ops) struct Kernel<'a> {
    pub(in crate::ops) weight: &'a [f32],
    pub(in crate::ops) bias: &'a [f32],
    pub(in crate::ops) stride: usize,
}

impl Kernel<'_> {
    /// One output row from the rows above, at and below it, which are absent outside the image.
    #[inline(always)]
    pub(in crate::ops) fn row(self, rows: [Option<&[f32]>; 3], out: &mut [f32]) {
        let channels = self.bias.len();
        for (x, pixel) in out.chunks_exact_mut(channels).enumerate() {
            let left = x * self.stride;
            // The values and weights of every tap that exists.
            let mut taps = [(&[][..], &[][..]); 9];
            let mut count = 0;
            for (i, row) in rows.iter().enumerate() {
                let Some(row) = row else { continue };
                for j in 0..3 {
                    let column = (left + j).wrapping_sub(1);
                    if column < row.len() / channels {
                        let weight = &self.weight[(3 * i + j) * channels..][..channels];
                        taps[count] = (&row[column * channels..][..channels], weight);
                        count += 1;
                    }
                }
            }
            if count == 9 { self.mix(&taps, pixel) } else { self.mix(&taps[..count], pixel) }
        }
    }

    /// The sum of weighted taps.
    #[inline(always)]
    fn mix(self, taps: &[(&[f32], &[f32])], pixel: &mut [f32]) {
        let (blocks, rest) = pixel.as_chunks_mut::<LANES>();
        let (biases, rest_bias) = self.bias.as_chunks::<LANES>();
        for (index, (block, bias)) in blocks.iter_mut().zip(biases).enumerate() {
            let mut sums = *bias;
            for (values, weights) in taps {
                let (values, weights) = (&values[index * LANES..][..LANES], &weights[index * LANES..][..LANES]);
                for lane in 0..LANES {
                    sums[lane] += values[lane] * weights[lane];
                }
            }
            *block = sums;
        }
        let done = blocks.len() * LANES;
        rest.copy_from_slice(rest_bias);
        for (values, weights) in taps {
            for ((sum, v), w) in rest.iter_mut().zip(&values[done..]).zip(&weights[done..]) {
                *sum += v * w;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random, tracked};
    use candle_core::DType;

    #[test]
    fn fused_equals_composed() {
        for (batch, height, width, channels, stride) in
            [(1, 1, 1, 1, 1), (2, 5, 7, 3, 1), (1, 6, 9, 40, 2), (2, 7, 6, 64, 2), (1, 1, 9, 33, 1), (1, 20, 1, 32, 2)]
        {
            let x = random(&[batch, height, width, channels], 1);
            let (weight, bias) = (random(&[channels, 1, 3, 3], 2), random(&[channels], 3));
            let conv = Depthwise::new(&weight, &bias, stride).unwrap();
            assert_close(&conv.forward(&x).unwrap(), &conv.forward(&tracked(&x)).unwrap(), 1e-5);
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for (shape, stride) in
            [([2, 5, 8, 3], 1), ([1, 7, 6, 2], 2), ([2, 6, 5, 1], 2), ([1, 1, 1, 2], 1), ([1, 9, 4, 2], 3)]
        {
            let x = random(&shape, 1).to_dtype(DType::F64).unwrap();
            let weight = random(&[9, shape[3]], 2).to_dtype(DType::F64).unwrap();
            let window = Window::square(3, stride, 1);
            assert_gradients(&[&x, &weight], |v| convolve(&v[0], &v[1], window));
            assert_gradients(&[&x, &weight], |v| composed(&v[0], &v[1], window));
            assert_close(
                &convolve(&x, &weight, window).unwrap().to_dtype(DType::F32).unwrap(),
                &composed(&x, &weight, window).unwrap().to_dtype(DType::F32).unwrap(),
                1e-6,
            );
        }
    }

    #[test]
    fn misfits_are_errors() {
        assert!(Depthwise::new(&random(&[4, 2, 3, 3], 1), &random(&[4], 1), 1).is_err());
        let conv = Depthwise::new(&random(&[4, 1, 3, 3], 1), &random(&[4], 1), 1).unwrap();
        assert!(conv.forward(&random(&[1, 4, 4, 3], 1)).is_err());
    }
}
