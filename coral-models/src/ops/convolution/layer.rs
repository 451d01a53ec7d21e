use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::trained::Differentiable;
use super::window::{Geometry, Window};
use super::{kernels, real};
use crate::ops::{Activation, Derived, Values, fusible, values};

/// A convolution over N×H×W×C values with zeros around them.
#[derive(Debug, Clone)]
pub(crate) struct Convolution {
    /// out×in×h×w, as PyTorch stores it.
    weight: Tensor,
    /// out×(h·w·in): the taps row by row, the channels of a tap side by side.
    packed: Derived,
    bias: Option<Tensor>,
    window: Window,
    activation: Option<Activation>,
}

impl Convolution {
    /// From `weight` out×in×h×w and `bias` out, as PyTorch stores them, with as many rows and columns of zeros around
    /// the image as keep its size at stride 1.
    pub(crate) fn new(weight: &Tensor, bias: Option<Tensor>, stride: usize) -> Result<Self> {
        let (_, _, down, across) = weight.dims4()?;
        if down != across || stride == 0 {
            candle_core::bail!("expected a square kernel and a stride, got {:?} and {stride}", weight.dims());
        }
        Self::with_window(weight, bias, Window::square(down, stride, down / 2))
    }

    /// The same for any stride and padding; the kernel of `window` is that of `weight`.
    pub(crate) fn with_window(weight: &Tensor, bias: Option<Tensor>, window: Window) -> Result<Self> {
        let (out, _, down, across) = weight.dims4()?;
        if window.kernel != [down, across] {
            candle_core::bail!("{window:?} with weights {:?}", weight.dims());
        }
        if bias.as_ref().is_some_and(|bias| bias.dims() != [out]) {
            candle_core::bail!("bias {:?} for {out} channels", bias.as_ref().map(Tensor::dims));
        }
        let weight = weight.contiguous()?;
        let taps = |weights: &[Tensor]| weights[0].permute((0, 2, 3, 1))?.contiguous()?.flatten_from(1);
        let packed = Derived::new(vec![weight.clone()], taps)?;
        let bias = bias.map(|bias| bias.contiguous()).transpose()?;
        Ok(Self { weight, packed, bias, window, activation: None })
    }

    /// The same, followed by `activation`.
    pub(crate) fn with_activation(self, activation: Activation) -> Self {
        Self { activation: Some(activation), ..self }
    }

    /// N×H×W×in to N×⌈H/stride⌉×⌈W/stride⌉×out for kernels of odd side.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, _, channels) = x.dims4()?;
        if self.weight.dims()[1] != channels {
            candle_core::bail!("convolution {:?} on {:?}", self.weight.dims(), x.dims());
        }
        let fixed = self.bias.iter().chain([x, &self.weight]).collect::<Vec<_>>();
        if fusible(&fixed) {
            return x.contiguous()?.apply_op1_no_bwd(self);
        }
        let y = convolve(x, &self.weight, self.window)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        match self.activation {
            Some(activation) => activation.apply(&y),
            None => Ok(y),
        }
    }
}

/// The convolution of N×H×W×in values with out×in×h×w weights, through which gradients pass.
pub(crate) fn convolve(x: &Tensor, weight: &Tensor, window: Window) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    if real::is_native(&[&x, &weight]) {
        return x.apply_op2(&weight, Differentiable(window));
    }
    composed(&x, &weight, window)
}

/// The same from the tensor library's own operations, for other devices and types.
fn composed(x: &Tensor, weight: &Tensor, window: Window) -> Result<Tensor> {
    let taps = shifted(x, window)?;
    let packed = weight.permute((2, 3, 1, 0))?.contiguous()?.reshape(((), weight.dims()[0]))?;
    let (batch, rows, columns, _) = taps[0].dims4()?;
    Tensor::cat(&taps, 3)?.flatten(0, 2)?.matmul(&packed)?.reshape((batch, rows, columns, ()))
}

/// For every tap of a window the values of N×H×W×C that come under it: N×rows×columns×C, zeros outside the image.
pub(in crate::ops) fn shifted(x: &Tensor, window: Window) -> Result<Vec<Tensor>> {
    let Window { kernel: [down, across], stride, padding } = window;
    let (batch, height, width, channels) = x.dims4()?;
    let [rows, columns] = window.output([height, width])?;
    // Padded so that every shifted copy has whole strides.
    let (far_rows, far_columns) = (rows * stride + down, columns * stride + across);
    let margin = |far: usize, side: usize| far.saturating_sub(side + padding);
    let padded = x.pad_with_zeros(1, padding, margin(far_rows, height))?;
    let padded = padded.pad_with_zeros(2, padding, margin(far_columns, width))?;
    let tap = |tap: usize| {
        let shifted = padded.narrow(1, tap / across, rows * stride)?.narrow(2, tap % across, columns * stride)?;
        let grid = shifted.contiguous()?.reshape((batch * rows, stride, columns, stride, channels))?;
        grid.narrow(1, 0, 1)?.narrow(3, 0, 1)?.contiguous()?.reshape((batch, rows, columns, channels))
    };
    (0..down * across).map(tap).collect()
}

impl CustomOp1 for Convolution {
    fn name(&self) -> &'static str {
        "fused_convolution"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let geometry = Geometry::new(self.window, layout.shape().dims4()?)?;
        let packed = self.packed.get()?;
        let out_channels = packed.dims()[0];
        let bias = self.bias.as_ref().map(Values::of).transpose()?;
        let start = bias.map_or_else(|| vec![0.0; out_channels], |bias| bias.to_vec());
        let finish = |out: &mut [f32]| {
            if let Some(activation) = self.activation {
                activation.apply_here(out);
            }
        };
        let out = kernels::convolve(&geometry, values(x, layout)?, &Values::of(&packed)?, &start, finish);
        Ok((CpuStorage::F32(out), (geometry.batch, geometry.rows, geometry.columns, out_channels).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random, tracked};
    use candle_core::DType;

    /// Batch, height, width, in, out, kernel, stride.
    const SHAPES: [[usize; 7]; 9] = [
        [1, 1, 1, 1, 1, 3, 1],
        [2, 5, 7, 3, 4, 3, 1],
        [1, 6, 9, 5, 8, 3, 2],
        [2, 7, 6, 2, 3, 3, 2],
        [2, 5, 8, 3, 4, 1, 1],
        [2, 5, 8, 3, 4, 1, 2],
        [1, 11, 8, 3, 5, 7, 2],
        [1, 9, 10, 2, 3, 5, 3],
        [1, 1, 5, 4, 4, 3, 2],
    ];

    #[test]
    fn every_path_gives_the_same() {
        for [batch, height, width, inner, out, kernel, stride] in SHAPES.into_iter().chain([[1, 40, 60, 16, 33, 3, 1]])
        {
            let x = random(&[batch, height, width, inner], 1);
            let (weight, bias) = (random(&[out, inner, kernel, kernel], 2), random(&[out], 3));
            for conv in [
                Convolution::new(&weight, None, stride).unwrap(),
                Convolution::new(&weight, Some(bias), stride).unwrap().with_activation(Activation::Gelu),
            ] {
                assert_close(&conv.forward(&x).unwrap(), &conv.forward(&tracked(&x)).unwrap(), 1e-4);
            }
            let window = Window::square(kernel, stride, kernel / 2);
            let convolved = convolve(&x, &weight, window).unwrap();
            assert_close(&convolved, &composed(&x, &weight, window).unwrap(), 1e-4);
            let planes = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let candle = planes.conv2d(&weight, kernel / 2, stride, 1, 1).unwrap().permute((0, 2, 3, 1)).unwrap();
            assert_close(&convolved, &candle.contiguous().unwrap(), 1e-4);
        }
    }

    #[test]
    fn windows_without_padding_leave_out_what_does_not_fill_them() {
        for ([height, width], side) in [([9, 7], 2), ([8, 19], 8), ([5, 11], 4)] {
            let (x, weight) = (random(&[2, height, width, 3], 1), random(&[5, 3, side, side], 2));
            let window = Window::square(side, side, 0);
            let conv = Convolution::with_window(&weight, Some(random(&[5], 3)), window).unwrap();
            let reduced = conv.forward(&x).unwrap();
            assert_eq!(reduced.dims(), [2, height / side, width / side, 5]);
            assert_close(&reduced, &conv.forward(&tracked(&x)).unwrap(), 1e-4);
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for [batch, height, width, inner, out, kernel, stride] in SHAPES {
            let x = random(&[batch, height, width, inner], 1).to_dtype(DType::F64).unwrap();
            let weight = random(&[out, inner, kernel, kernel], 2).to_dtype(DType::F64).unwrap();
            let window = Window::square(kernel, stride, kernel / 2);
            assert_gradients(&[&x, &weight], |v| convolve(&v[0], &v[1], window));
            assert_gradients(&[&x, &weight], |v| composed(&v[0], &v[1], window));
        }
        // A rectangular kernel without padding, where the last columns are never reached.
        let x = random(&[2, 4, 8, 2], 1).to_dtype(DType::F64).unwrap();
        let weight = random(&[3, 2, 2, 3], 2).to_dtype(DType::F64).unwrap();
        let window = Window { kernel: [2, 3], stride: 2, padding: 0 };
        assert_gradients(&[&x, &weight], |v| convolve(&v[0], &v[1], window));
        assert_gradients(&[&x, &weight], |v| composed(&v[0], &v[1], window));
    }

    #[test]
    fn gradients_of_large_images_are_those_of_the_composed_form() {
        // Several tiles and bands.
        for (shape, kernel, stride) in [([2, 40, 37, 24], 3, 1), ([3, 33, 50, 16], 3, 2), ([1, 64, 70, 3], 7, 2)] {
            let window = Window::square(kernel, stride, kernel / 2);
            let (x, weight) = (tracked(&random(&shape, 1)), tracked(&random(&[20, shape[3], kernel, kernel], 2)));
            let gradients = |y: Tensor| {
                let mixed = (&y * random(y.dims(), 5)).unwrap().sum_all().unwrap().backward().unwrap();
                [&x, &weight].map(|variable| mixed.get(variable).unwrap().clone())
            };
            let ours = gradients(convolve(&x, &weight, window).unwrap());
            let expected = gradients(composed(&x, &weight, window).unwrap());
            ours.iter().zip(&expected).for_each(|(ours, expected)| assert_close(ours, expected, 2e-3));
        }
    }

    #[test]
    fn misfits_are_errors() {
        assert!(Convolution::new(&random(&[2, 3, 5, 3], 1), None, 1).is_err());
        assert!(Convolution::new(&random(&[2, 3, 3, 3], 1), Some(random(&[3], 1)), 1).is_err());
        let conv = Convolution::new(&random(&[2, 3, 3, 3], 1), None, 1).unwrap();
        assert!(conv.forward(&random(&[1, 4, 4, 2], 1)).is_err());
        assert!(Convolution::with_window(&random(&[2, 3, 3, 3], 1), None, Window::square(2, 2, 0)).is_err());
        assert!(convolve(&random(&[1, 2, 4, 2], 1), &random(&[1, 2, 3, 3], 1), Window::square(3, 1, 0)).is_err());
    }
}
