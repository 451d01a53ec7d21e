use candle_core::{Result, Tensor};

use super::Linear;

/// The first layer of a vision transformer: a convolution whose stride is its kernel, which is one matrix product.
#[derive(Debug, Clone)]
pub(crate) struct PatchEmbedding {
    side: usize,
    linear: Linear,
}

impl PatchEmbedding {
    /// Of the convolution's C×3×side×side weight and its bias.
    pub(crate) fn new(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (width, channels, side, _) = weight.dims4()?;
        let linear = Linear::from_weights(weight.reshape((width, channels * side * side))?, bias);
        Ok(Self { side, linear })
    }

    /// N×3×H×W pixels, sides multiples of a patch's, to N×(h·w)×C tokens row by row; and how many rows and columns
    /// there are.
    pub(crate) fn forward(&self, images: &Tensor) -> Result<(Tensor, (usize, usize))> {
        let (batch, channels, height, width) = images.dims4()?;
        let p = self.side;
        if channels != 3 || height % p != 0 || width % p != 0 || images.elem_count() == 0 {
            candle_core::bail!("expected Nx3xHxW pixels with sides that are multiples of {p}, got {:?}", images.dims());
        }
        let (h, w) = (height / p, width / p);
        let pixels = images
            .reshape(&[batch, 3, h, p, w, p][..])?
            .permute(&[0, 2, 4, 1, 3, 5][..])?
            .contiguous()?
            .reshape((batch, h * w, 3 * p * p))?;
        Ok((self.linear.forward(&pixels)?, (h, w)))
    }

    /// Weight and bias.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.linear.tensors()
    }
}
