use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::depthwise::{Depthwise, Kernel};
use super::product::{Matrix, Output, product};
use super::{Activation, Values, buffer, fusible, linear, values};

/// A 1×1 convolution to the hidden width, a 3×3 convolution of every hidden channel by itself, and a 1×1 convolution,
/// with GELU after the first and second (Sandler et al., *MobileNetV2*, CVPR 2018).
///
/// On the CPU the hidden values of three rows exist at a time, in the cache, instead of four times the image.
#[derive(Debug, Clone)]
pub(crate) struct Bottleneck {
    /// hidden×in, hidden.
    pub(crate) expand: [Tensor; 2],
    pub(crate) depthwise: Depthwise,
    /// out×hidden, out.
    pub(crate) project: [Tensor; 2],
    /// Whether the input is added, and GELU follows that; needs stride 1 and as many channels out as in.
    pub(crate) residual: bool,
}

impl Bottleneck {
    /// N×H×W×in to N×⌈H/stride⌉×⌈W/stride⌉×out.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, _, channels) = x.dims4()?;
        let (hidden, inner) = self.expand[0].dims2()?;
        let (out, second_inner) = self.project[0].dims2()?;
        let fits = inner == channels && second_inner == hidden && self.depthwise.bias.dims() == [hidden];
        let biases = self.expand[1].dims() == [hidden] && self.project[1].dims() == [out];
        if !fits || !biases || self.residual && (self.depthwise.stride != 1 || out != channels) {
            candle_core::bail!("bottleneck of widths {inner}, {hidden}, {out} on {:?}", x.dims());
        }
        let [w1, b1] = &self.expand;
        let [w2, b2] = &self.project;
        let weight = self.depthwise.weight.get()?;
        if fusible(&[x, w1, b1, &weight, &self.depthwise.bias, w2, b2]) && x.elem_count() > 0 {
            return x.contiguous()?.apply_op1_no_bwd(self);
        }
        let hidden = linear(x, w1, Some(b1))?.gelu_erf()?;
        let y = linear(&self.depthwise.forward(&hidden)?.gelu_erf()?, w2, Some(b2))?;
        if self.residual { (y + x)?.gelu_erf() } else { Ok(y) }
    }
}

impl CustomOp1 for Bottleneck {
    fn name(&self) -> &'static str {
        "bottleneck"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(x, layout)?;
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let contiguous =
            |pair: &[Tensor; 2]| -> Result<[Tensor; 2]> { Ok([pair[0].contiguous()?, pair[1].contiguous()?]) };
        let (expand, project) = (contiguous(&self.expand)?, contiguous(&self.project)?);
        let (w1, b1) = (Values::of(&expand[0])?, Values::of(&expand[1])?);
        let (w2, b2) = (Values::of(&project[0])?, Values::of(&project[1])?);
        let weight = self.depthwise.weight.get()?;
        let (weight, bias) = (Values::of(&weight)?, Values::of(&self.depthwise.bias)?);
        let stride = self.depthwise.stride;
        let layers = Layers {
            expand: (&w1, &b1),
            kernel: Kernel { weight: &weight, bias: &bias, stride },
            project: (&w2, &b2),
            residual: self.residual,
            width,
        };
        let (rows, columns) = (height.div_ceil(stride), width.div_ceil(stride));
        let mut out = buffer(batch * rows * columns * b2.len());
        // Every band computes two rows of its neighbours again, so that bands should not be thin.
        let band = (batch * rows).div_ceil(4 * rayon::current_num_threads()).clamp(8.min(rows), rows);
        let line = columns * b2.len();
        let images = out.chunks_mut(rows * line).zip(x.chunks(height * width * channels));
        let mut bands: Vec<_> = images
            .flat_map(|(out, image)| {
                out.chunks_mut(band * line).enumerate().map(move |(i, out)| (image, i * band, out))
            })
            .collect();
        bands.par_iter_mut().for_each_init(Scratch::default, |scratch, (image, first, out)| {
            layers.band(image, *first, scratch, out);
        });
        Ok((CpuStorage::F32(out), (batch, rows, columns, b2.len()).into()))
    }
}

/// Working memory of one thread.
#[derive(Default)]
struct Scratch {
    /// Hidden values of three input rows; row r lies in place r modulo 3.
    ring: Vec<f32>,
    /// Hidden values of an output row.
    mixed: Vec<f32>,
}

/// Borrowed weights.
struct Layers<'a> {
    expand: (&'a [f32], &'a [f32]),
    kernel: Kernel<'a>,
    project: (&'a [f32], &'a [f32]),
    residual: bool,
    /// Of an input row, in positions.
    width: usize,
}

impl Layers<'_> {
    /// The output rows of one image from `first` on.
    fn band(&self, image: &[f32], first: usize, scratch: &mut Scratch, out: &mut [f32]) {
        let (hidden, stride) = (self.kernel.bias.len(), self.kernel.stride);
        let (line, columns) = (self.width * hidden, self.width.div_ceil(stride));
        let channels = self.expand.0.len() / hidden;
        let height = image.len() / (self.width * channels);
        scratch.ring.resize(3 * line, 0.0);
        scratch.mixed.resize(columns * hidden, 0.0);
        let mut ready = 0;
        for (y, out) in (first..).zip(out.chunks_exact_mut(columns * self.project.1.len())) {
            let center = y * stride;
            for row in ready.max(center.saturating_sub(1))..(center + 2).min(height) {
                let input = &image[row * self.width * channels..][..self.width * channels];
                let slot = &mut scratch.ring[row % 3 * line..][..line];
                dense(self.expand, input, slot);
                Activation::Gelu.apply_here(slot);
            }
            ready = (center + 2).min(height);
            let ring = &scratch.ring;
            let row = |tap: usize| {
                let row = (center + tap).checked_sub(1).filter(|&row| row < height)?;
                Some(&ring[row % 3 * line..][..line])
            };
            pulp::Arch::new().dispatch(|| self.kernel.row([row(0), row(1), row(2)], &mut scratch.mixed));
            Activation::Gelu.apply_here(&mut scratch.mixed);
            dense(self.project, &scratch.mixed, out);
            if self.residual {
                let input = &image[y * out.len()..][..out.len()];
                out.iter_mut().zip(input).for_each(|(v, x)| *v += x);
                Activation::Gelu.apply_here(out);
            }
        }
    }
}

/// A linear layer on the calling thread.
fn dense((weight, bias): (&[f32], &[f32]), x: &[f32], out: &mut [f32]) {
    let (width, inner) = (bias.len(), weight.len() / bias.len());
    out.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(bias));
    let weight = Matrix::new(weight, width, inner, inner).transposed();
    let output = Output { data: out, row_stride: width, accumulate: true };
    product(Matrix::new(x, x.len() / inner, inner, inner), weight, 1.0, output, 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, tracked};

    fn bottleneck((inner, hidden, out): (usize, usize, usize), stride: usize, residual: bool) -> Bottleneck {
        let depthwise = Depthwise::new(&random(&[hidden, 1, 3, 3], 3), &random(&[hidden], 4), stride).unwrap();
        let expand = [random(&[hidden, inner], 1), random(&[hidden], 2)];
        Bottleneck { expand, depthwise, project: [random(&[out, hidden], 5), random(&[out], 6)], residual }
    }

    #[test]
    fn fused_equals_composed() {
        for (shape, widths, stride, residual) in [
            ([1, 1, 1, 1], (1, 1, 1), 1, true),
            ([2, 9, 7, 5], (5, 20, 5), 1, true),
            ([1, 70, 11, 8], (8, 40, 8), 1, true),
            ([2, 9, 8, 4], (4, 6, 7), 2, false),
            ([1, 10, 7, 4], (4, 33, 3), 2, false),
            ([1, 6, 5, 4], (4, 6, 7), 1, false),
            ([3, 1, 4, 2], (2, 3, 2), 2, false),
        ] {
            let block = bottleneck(widths, stride, residual);
            let x = random(&shape, 7);
            assert_close(&block.forward(&x).unwrap(), &block.forward(&tracked(&x)).unwrap(), 1e-4);
        }
    }

    #[test]
    fn misfits_are_errors() {
        let x = random(&[1, 3, 3, 4], 1);
        assert!(bottleneck((4, 6, 5), 1, true).forward(&x).is_err());
        assert!(bottleneck((4, 6, 4), 2, true).forward(&x).is_err());
        assert!(bottleneck((5, 6, 4), 1, false).forward(&x).is_err());
    }
}
