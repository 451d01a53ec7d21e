use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;
use coral_core::Error;

use super::config::ResNetConfig;
use super::conv_norm::ConvNorm;
use crate::layers::Mode;
use crate::ops::{self, Window};
use crate::train::STATE_PREFIXES;
use crate::{Checkpoint, load};

/// A residual network up to its last stage, with torchvision's names (`conv1`, `bn1`, `layer1.0.conv1`, …).
///
/// Built on weights that are not trained (through [`load`] or [`Parameters::detached`](crate::Parameters::detached))
/// it folds batch normalisation into the convolutions.
///
/// # References
/// He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016. Parity with torchvision 0.29: outputs 1e-4,
/// gradients 1e-3 relative.
#[derive(Debug, Clone)]
pub struct ResNet {
    config: ResNetConfig,
    stem: ConvNorm,
    stages: Vec<Vec<Block>>,
}

impl ResNet {
    /// Builds the network on the weights that `vb` gives.
    ///
    /// # Errors
    /// When the configuration is impossible or a weight is missing.
    pub fn new(config: &ResNetConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let stem = ConvNorm::new([3, config.width, 7, 2], ["conv1", "bn1"], true, vb)?;
        let mut inner = config.width;
        let mut stages = Vec::new();
        for (stage, &count) in config.blocks.iter().enumerate() {
            let vb = vb.pp(format!("layer{}", stage + 1));
            let out = config.channels(stage);
            let mut blocks = Vec::with_capacity(count);
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(Block::new([inner, config.width << stage, out, stride], config.bottleneck, &vb.pp(block))?);
                inner = out;
            }
            stages.push(blocks);
        }
        Ok(Self { config: *config, stem, stages })
    }

    /// Reads a checkpoint for inference; heads, and what a training state holds beside weights, are left out.
    ///
    /// # Errors
    /// [`Error::Weights`] when the file holds another network, and those of [`load`].
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> coral_core::Result<Self> {
        let checkpoint = checkpoint.clone().with_torchvision_resnet_names()?;
        let config = ResNetConfig::from_checkpoint(&checkpoint)?;
        load(&checkpoint, device, &BESIDE_ENCODER, |vb| Self::new(&config, &vb))
    }

    /// The network's shape.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// The feature maps of the four stages for N×3×H×W normalised pixels: N×C×h×w at 1/4, 1/8, 1/16 and 1/32 of the
    /// image, sides rounded up.
    ///
    /// # Errors
    /// When the shape is another, or in training mode when the weights are not variables or a channel has one value.
    pub fn stages(&self, pixels: &Tensor, mode: Mode) -> Result<[Tensor; 4]> {
        let mut maps = Vec::with_capacity(4);
        self.run(pixels, mode, |map| {
            maps.push(map.permute((0, 3, 1, 2))?);
            Ok(())
        })?;
        maps.try_into().map_err(|_| Error::input("stages", "expected four")).map_err(candle_core::Error::wrap)
    }

    /// The last stage as N×h×w×D.
    pub(crate) fn features(&self, pixels: &Tensor, mode: Mode) -> Result<Tensor> {
        self.run(pixels, mode, |_| Ok(()))
    }

    fn run(&self, pixels: &Tensor, mode: Mode, mut visit: impl FnMut(&Tensor) -> Result<()>) -> Result<Tensor> {
        let (_, channels, height, width) = pixels.dims4()?;
        if channels != 3 || height == 0 || width == 0 {
            candle_core::bail!("expected Nx3xHxW pixels, got {:?}", pixels.dims());
        }
        let x = self.stem.forward(&ops::channels_last(pixels)?, mode)?;
        let mut x = ops::max_pool(&x, Window::square(3, 2, 1))?;
        for stage in &self.stages {
            for block in stage {
                x = block.forward(&x, mode)?;
            }
            visit(&x)?;
        }
        Ok(x)
    }
}

/// What torchvision and the programs built on it put behind the last stage.
pub(crate) const HEADS: [&str; 3] = ["fc.", "head.", "projector."];

/// Heads, and what the state of a training holds beside weights.
pub(super) const BESIDE_ENCODER: [&str; 5] = [HEADS[0], HEADS[1], HEADS[2], STATE_PREFIXES[0], STATE_PREFIXES[1]];

#[derive(Debug, Clone)]
struct Block {
    layers: Vec<ConvNorm>,
    downsample: Option<ConvNorm>,
}

impl Block {
    /// Channels in, between and out, stride.
    fn new([inner, between, out, stride]: [usize; 4], bottleneck: bool, vb: &VarBuilder<'_>) -> Result<Self> {
        let layer = |shape, index: usize, rectified| {
            ConvNorm::new(shape, [&format!("conv{index}"), &format!("bn{index}")], rectified, vb)
        };
        let layers = match bottleneck {
            true => vec![
                layer([inner, between, 1, 1], 1, true)?,
                layer([between, between, 3, stride], 2, true)?,
                layer([between, out, 1, 1], 3, false)?,
            ],
            false => vec![layer([inner, between, 3, stride], 1, true)?, layer([between, out, 3, 1], 2, false)?],
        };
        let downsample = match stride != 1 || inner != out {
            true => Some(ConvNorm::new([inner, out, 1, stride], ["0", "1"], false, &vb.pp("downsample"))?),
            false => None,
        };
        Ok(Self { layers, downsample })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut y = x.clone();
        for layer in &self.layers {
            y = layer.forward(&y, mode)?;
        }
        match &self.downsample {
            Some(downsample) => ops::add_relu(&y, &downsample.forward(x, mode)?),
            None => ops::add_relu(&y, x),
        }
    }
}
