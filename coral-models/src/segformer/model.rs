use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;
use coral_core::SeededRng;

use super::config::SegFormerConfig;
use super::encoder::Encoder;
use super::head::DecodeHead;
use crate::layers::Mode;
use crate::train::STATE_PREFIXES;
use crate::{Checkpoint, load};

/// The network on tensors, with the names of `transformers` 4 (`segformer.encoder.…`, `decode_head.…`).
///
/// # References
/// Xie et al., *SegFormer*, NeurIPS 2021. Parity with `SegformerForSemanticSegmentation` of `transformers` 4.51 and 5.23:
/// maps and logits 1e-4, gradients 1e-3 relative.
#[derive(Debug, Clone)]
pub struct SegFormer {
    config: SegFormerConfig,
    encoder: Encoder,
    head: DecodeHead,
}

impl SegFormer {
    /// Builds the network on the weights that `vb` gives.
    ///
    /// # Errors
    /// When the configuration is impossible or a weight is missing.
    pub fn new(config: &SegFormerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let encoder = Encoder::new(config, &vb.pp("segformer.encoder"))?;
        Ok(Self { config: *config, encoder, head: DecodeHead::new(config, &vb.pp("decode_head"))? })
    }

    /// Reads a checkpoint for inference.
    ///
    /// # Errors
    /// [`coral_core::Error::Weights`] when the file holds another network, and those of [`load`].
    pub fn load(checkpoint: &Checkpoint, config: &SegFormerConfig, device: &Device) -> coral_core::Result<Self> {
        let checkpoint = checkpoint.clone().with_segformer_names()?;
        load(&checkpoint, device, &STATE_PREFIXES, |vb| Self::new(config, &vb))
    }

    /// The network's shape.
    pub fn config(&self) -> &SegFormerConfig {
        &self.config
    }

    /// The maps of the four stages for N×3×H×W normalised pixels: N×C×h×w at 1/4, 1/8, 1/16 and 1/32 of the image, sides
    /// rounded up.
    ///
    /// # Errors
    /// When the shape is another or the image too small.
    pub fn stages(&self, pixels: &Tensor) -> Result<Vec<Tensor>> {
        self.expect_pixels(pixels)?;
        self.encoder.forward(pixels, None)?.iter().map(|map| map.permute((0, 3, 1, 2))).collect()
    }

    /// N×C×h×w logits of N×3×H×W normalised pixels, at 1/4 of the image, sides rounded up. With `dropout`, which training
    /// asks for, values and blocks are dropped at random.
    ///
    /// # Errors
    /// When the shape is another, the image too small, or in training mode when the weights are not variables.
    pub fn logits(&self, pixels: &Tensor, mode: Mode, mut dropout: Option<&mut SeededRng>) -> Result<Tensor> {
        self.expect_pixels(pixels)?;
        let maps = self.encoder.forward(pixels, dropout.as_deref_mut())?;
        self.head.forward(&maps, mode, dropout)
    }

    fn expect_pixels(&self, pixels: &Tensor) -> Result<()> {
        let (batch, channels, height, width) = pixels.dims4()?;
        if batch == 0 || channels != 3 {
            candle_core::bail!("expected Nx3xHxW pixels, got {:?}", pixels.dims());
        }
        self.config.grids([height, width]).map(drop).map_err(candle_core::Error::wrap)
    }
}
