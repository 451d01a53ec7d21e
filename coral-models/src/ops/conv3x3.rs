use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::product::{Matrix, Output, product};
use super::{Activation, Derived, Values, buffer, fusible, values};

/// A 3×3 convolution over N×H×W×C values, padded with one row and column of zeros on each side.
///
/// On the CPU it is a matrix product of tiles of gathered neighbourhoods, a thread a tile.
#[derive(Debug, Clone)]
pub(crate) struct Conv3x3 {
    /// out×9·in: the taps row by row, the channels of a tap side by side.
    weight: Derived,
    bias: Tensor,
    stride: usize,
    activation: Option<Activation>,
}

/// Values of one tile of neighbourhoods: 4 MB, so that packing the weights for it is a small part of the product.
const TILE: usize = 1 << 20;
/// Most positions of a tile, so that their outputs are still cached when the activation comes.
const POSITIONS: usize = 1024;

impl Conv3x3 {
    /// From `weight` out×in×3×3 and `bias` out, as PyTorch stores them; none is zero.
    pub(crate) fn new(weight: &Tensor, bias: Option<Tensor>, stride: usize) -> Result<Self> {
        let (out, _, height, width) = weight.dims4()?;
        if (height, width) != (3, 3) || stride == 0 {
            candle_core::bail!("expected a 3x3 kernel and a stride, got {:?} and {stride}", weight.dims());
        }
        let bias = match bias {
            Some(bias) => bias,
            None => Tensor::zeros(out, weight.dtype(), weight.device())?,
        };
        if bias.dims() != [out] {
            candle_core::bail!("bias {:?} for {out} channels", bias.dims());
        }
        let taps = |weights: &[Tensor]| weights[0].permute((0, 2, 3, 1))?.contiguous()?.flatten_from(1);
        let weight = Derived::new(vec![weight.clone()], taps)?;
        Ok(Self { weight, bias: bias.contiguous()?, stride, activation: None })
    }

    /// The same, followed by `activation`.
    pub(crate) fn with_activation(self, activation: Activation) -> Self {
        Self { activation: Some(activation), ..self }
    }

    /// N×H×W×in to N×⌈H/stride⌉×⌈W/stride⌉×out.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, _, channels) = x.dims4()?;
        let weight = self.weight.get()?;
        if weight.dims()[1] != 9 * channels {
            candle_core::bail!("convolution {:?} on {:?}", weight.dims(), x.dims());
        }
        if fusible(&[x, &weight, &self.bias]) && x.elem_count() > 0 {
            return x.contiguous()?.apply_op1_no_bwd(self);
        }
        let kernel = weight.reshape(((), 3, 3, channels))?.permute((0, 3, 1, 2))?.contiguous()?;
        let planes = x.permute((0, 3, 1, 2))?.contiguous()?.conv2d(&kernel, 1, self.stride, 1, 1)?;
        let y = planes.permute((0, 2, 3, 1))?.contiguous()?.broadcast_add(&self.bias)?;
        match self.activation {
            Some(activation) => activation.apply(&y),
            None => Ok(y),
        }
    }
}

impl CustomOp1 for Conv3x3 {
    fn name(&self) -> &'static str {
        "conv3x3"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let source = Source { values: values(x, layout)?, height, width, channels, stride: self.stride };
        let weight = self.weight.get()?;
        let (weight, bias) = (Values::of(&weight)?, Values::of(&self.bias)?);
        let (weight, bias): (&[f32], &[f32]) = (&weight, &bias);
        let (inner, out_channels) = (9 * channels, bias.len());
        let (rows, columns) = (height.div_ceil(self.stride), width.div_ceil(self.stride));
        let positions = batch * rows * columns;
        let share = positions.div_ceil(rayon::current_num_threads());
        let tile = (TILE / inner).clamp(1, POSITIONS).min(share);
        let mut out = buffer(positions * out_channels);
        out.par_chunks_mut(tile * out_channels).enumerate().for_each_init(Vec::new, |patches, (index, out)| {
            let count = out.len() / out_channels;
            patches.resize(count * inner, 0.0);
            for (position, patch) in (index * tile..).zip(patches.chunks_exact_mut(inner)) {
                let (line, x) = (position / columns, position % columns);
                source.gather(line / rows, line % rows, x, patch);
            }
            out.chunks_exact_mut(out_channels).for_each(|row| row.copy_from_slice(bias));
            let weight = Matrix::new(weight, out_channels, inner, inner).transposed();
            let output = Output { data: out, row_stride: out_channels, accumulate: true };
            product(Matrix::new(patches, count, inner, inner), weight, 1.0, output, 1);
            if let Some(activation) = self.activation {
                activation.apply_here(out);
            }
        });
        Ok((CpuStorage::F32(out), (batch, rows, columns, out_channels).into()))
    }
}

struct Source<'a> {
    values: &'a [f32],
    height: usize,
    width: usize,
    channels: usize,
    stride: usize,
}

impl Source<'_> {
    /// Copies the 3×3 neighbourhood of output position (x, y) of an image; zeros where it leaves the image.
    fn gather(&self, image: usize, y: usize, x: usize, patch: &mut [f32]) {
        let (left, channels) = (x * self.stride, self.channels);
        // Columns left - 1 ..= left + 1, as far as they exist.
        let (first, end) = (left.saturating_sub(1), (left + 2).min(self.width));
        let skipped = (first + 1 - left) * channels;
        for (tap, line) in patch.chunks_exact_mut(3 * channels).enumerate() {
            let Some(row) = (y * self.stride + tap).checked_sub(1).filter(|&row| row < self.height) else {
                line.fill(0.0);
                continue;
            };
            let from = ((image * self.height + row) * self.width + first) * channels;
            let (before, rest) = line.split_at_mut(skipped);
            let (inside, after) = rest.split_at_mut((end - first) * channels);
            before.fill(0.0);
            inside.copy_from_slice(&self.values[from..from + inside.len()]);
            after.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, tracked};

    #[test]
    fn fused_equals_composed() {
        for (batch, height, width, inner, out, stride) in [
            (1, 1, 1, 1, 1, 1),
            (2, 5, 7, 3, 4, 1),
            (1, 6, 9, 5, 8, 2),
            (2, 7, 6, 2, 3, 2),
            (1, 40, 60, 16, 33, 1),
            (1, 1, 5, 4, 4, 2),
        ] {
            let x = random(&[batch, height, width, inner], 1);
            let (weight, bias) = (random(&[out, inner, 3, 3], 2), random(&[out], 3));
            for conv in [
                Conv3x3::new(&weight, None, stride).unwrap(),
                Conv3x3::new(&weight, Some(bias), stride).unwrap().with_activation(Activation::Gelu),
            ] {
                assert_close(&conv.forward(&x).unwrap(), &conv.forward(&tracked(&x)).unwrap(), 1e-4);
            }
        }
    }

    #[test]
    fn misfits_are_errors() {
        assert!(Conv3x3::new(&random(&[2, 3, 5, 5], 1), None, 1).is_err());
        assert!(Conv3x3::new(&random(&[2, 3, 3, 3], 1), Some(random(&[3], 1)), 1).is_err());
        let conv = Conv3x3::new(&random(&[2, 3, 3, 3], 1), None, 1).unwrap();
        assert!(conv.forward(&random(&[1, 4, 4, 2], 1)).is_err());
    }
}
