use std::path::Path;

use candle_core::{Device, Tensor};
use candle_nn::{Init, VarBuilder};
use coral_core::{Error, Result};

use super::block::{Block, EPS};
use super::config::{DinoV2Config, PositionInterpolation};
use super::names::{Names, Naming};
use crate::layers::{LayerNorm, PatchEmbedding};
use crate::{Checkpoint, Interpolation, load, ops};

/// What DINOv2 makes of images, after the last normalisation.
#[derive(Debug, Clone)]
pub struct DinoV2Tokens {
    /// The class tokens, N×C: one embedding per image.
    pub class: Tensor,
    /// The register tokens, N×R×C; none without registers.
    pub registers: Option<Tensor>,
    /// The patch tokens, N×h×w×C: dense features.
    pub patches: Tensor,
}

/// DINOv2, a vision transformer trained without labels.
///
/// It works on tensors; [`DinoV2Encoder`](crate::DinoV2Encoder) wraps it for photographs.
///
/// # References
/// Oquab et al., *DINOv2: Learning Robust Visual Features without Supervision*, TMLR 2024; tokens agree with
/// `transformers` and with the original program within 2e-5, position tables within 1e-5.
#[derive(Debug, Clone)]
pub struct DinoV2 {
    config: DinoV2Config,
    patches: PatchEmbedding,
    class: Tensor,
    registers: Option<Tensor>,
    /// 1×(1 + grid²)×C, the class token's first.
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    device: Device,
}

impl DinoV2 {
    /// Builds the network from weights under the names of `transformers`, or under the original program's where `weights`
    /// has them.
    ///
    /// Variables get gradients and may change between calls.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an impossible configuration, [`Error::Model`] when a tensor is missing or has
    /// another shape.
    pub fn new(config: DinoV2Config, weights: VarBuilder<'_>) -> Result<Self> {
        config.validate()?;
        let naming = Naming::of(|name| weights.contains_tensor(name)).unwrap_or(Naming::Transformers);
        Self::build(config, naming.names(), &weights).map_err(Error::model)
    }

    fn build(config: DinoV2Config, names: &Names, vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        let small = Init::Randn { mean: 0.0, stdev: 0.02 };
        let (width, patch) = (config.width, config.patch);
        let weight = vb.pp(names.patches).get_with_hints((width, 3, patch, patch), "weight", small)?;
        let bias = vb.pp(names.patches).get_with_hints(width, "bias", Init::Const(0.0))?;
        let registers = match config.registers {
            0 => None,
            count => Some(vb.get_with_hints((1, count, width), names.registers, small)?),
        };
        let block = |index: usize| Block::new(&config, &names.block, &vb.pp(format!("{}.{index}", names.blocks)));
        Ok(Self {
            patches: PatchEmbedding::new(&weight, Some(bias))?,
            class: vb.get_with_hints((1, 1, width), names.class, small)?,
            registers,
            positions: vb.get_with_hints((1, 1 + config.grid().pow(2), width), names.positions, small)?,
            blocks: (0..config.layers).map(block).collect::<candle_core::Result<_>>()?,
            norm: LayerNorm::new(width, EPS, &vb.pp(names.norm))?,
            device: vb.device().clone(),
            config,
        })
    }

    /// Opens a checkpoint on the CPU: a file with the names of `transformers` or of the original program (`.pth`), also one
    /// of a classifier on top of DINOv2, or a folder as model hubs have them. The number of heads comes from the
    /// `config.json` beside it, where there is one of this network.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when a file, also one beside, cannot be read, [`Error::Weights`] with the
    /// likely cause when it holds another network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let config = DinoV2Config::from_checkpoint_and_neighbour(&checkpoint)?;
        Self::load(&checkpoint, config, &Device::Cpu)
    }

    /// Loads a checkpoint as the network of a configuration, e.g. that of [`DinoV2Config::from_checkpoint`] with other
    /// heads.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::InvalidParameter`] for an impossible configuration.
    pub fn load(checkpoint: &Checkpoint, config: DinoV2Config, device: &Device) -> Result<Self> {
        config.validate()?;
        let checkpoint = checkpoint.clone().with_dinov2_names()?;
        let names = Naming::of(|name| checkpoint.contains(name)).unwrap_or(Naming::Transformers).names();
        load(&checkpoint, device, &[names.mask], |weights| Self::build(config, names, &weights))
    }

    /// The network's shape.
    pub fn config(&self) -> &DinoV2Config {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// N×3×H×W normalised pixels, H and W multiples of the patch, to tokens.
    ///
    /// # Errors
    /// [`Error::Model`] for another shape or when the tensor library fails.
    pub fn forward(&self, pixels: &Tensor) -> Result<DinoV2Tokens> {
        self.tokens(pixels).map_err(Error::model)
    }

    fn tokens(&self, pixels: &Tensor) -> candle_core::Result<DinoV2Tokens> {
        let (batch, _, height, width) = pixels.dims4()?;
        let x = self.norm.forward(&self.hidden(pixels, self.blocks.len())?)?;
        let (first, dim) = (1 + self.config.registers, self.config.width);
        let (h, w) = (height / self.config.patch, width / self.config.patch);
        let registers = self.registers.as_ref().map(|_| x.narrow(1, 1, self.config.registers)?.contiguous());
        Ok(DinoV2Tokens {
            class: x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?,
            registers: registers.transpose()?,
            patches: x.narrow(1, first, h * w)?.contiguous()?.reshape((batch, h, w, dim))?,
        })
    }

    /// N×3×H×W normalised pixels to the N×(1 + R + h·w)×C tokens after the first `blocks` blocks, before the last
    /// normalisation: the class token, the registers, the patches row by row.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there are fewer blocks; as [`forward`](Self::forward).
    pub fn hidden_tokens(&self, pixels: &Tensor, blocks: usize) -> Result<Tensor> {
        if blocks > self.blocks.len() {
            let reason = format!("the network has {} blocks, got {blocks}", self.blocks.len());
            return Err(Error::parameter("blocks", reason));
        }
        self.hidden(pixels, blocks).map_err(Error::model)
    }

    fn hidden(&self, pixels: &Tensor, blocks: usize) -> candle_core::Result<Tensor> {
        self.blocks[..blocks].iter().try_fold(self.embed(pixels)?, |x, block| block.forward(&x))
    }

    /// The tokens that enter the first block; registers have no position.
    fn embed(&self, pixels: &Tensor) -> candle_core::Result<Tensor> {
        let (patches, (h, w)) = self.patches.forward(pixels)?;
        let (batch, _, width) = patches.dims3()?;
        let class = self.class.broadcast_as((batch, 1, width))?;
        let x = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions_of((h, w))?)?;
        let Some(registers) = &self.registers else { return Ok(x) };
        let registers = registers.broadcast_as((batch, self.config.registers, width))?;
        Tensor::cat(&[&x.narrow(1, 0, 1)?, &registers, &x.narrow(1, 1, h * w)?], 1)
    }

    /// The 1×(1 + h·w)×C position table for an image of h×w patches, `grid` = (h, w); the class token's row comes first.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a grid without patches, [`Error::Model`] when the tensor library fails.
    pub fn position_table(&self, grid: (usize, usize)) -> Result<Tensor> {
        if grid.0 == 0 || grid.1 == 0 {
            return Err(Error::parameter("grid", format!("expected patches, got {}x{}", grid.0, grid.1)));
        }
        self.positions_of(grid).map_err(Error::model)
    }

    fn positions_of(&self, (h, w): (usize, usize)) -> candle_core::Result<Tensor> {
        let (side, width) = (self.config.grid(), self.config.width);
        if (h, w) == (side, side) {
            return Ok(self.positions.clone());
        }
        let grid = self.positions.narrow(1, 1, side * side)?.contiguous()?.reshape((side, side, width))?;
        let grid = match self.config.positions {
            PositionInterpolation::Bicubic => ops::resize_grid(&grid, (h, w), Interpolation::Bicubic),
            PositionInterpolation::BicubicAntialias => ops::resize_grid(&grid, (h, w), Interpolation::BicubicAntialias),
            PositionInterpolation::BicubicOffset => {
                ops::resize_grid_with_offset(&grid, (h, w), 0.1, Interpolation::Bicubic)
            }
        }?;
        Tensor::cat(&[&self.positions.narrow(1, 0, 1)?, &grid.reshape((1, h * w, width))?], 1)
    }

    /// All weights, in an order that does not depend on the checkpoint's names.
    pub(super) fn tensors(&self) -> Result<Vec<Tensor>> {
        let first = [Some(&self.class), Some(&self.positions), self.registers.as_ref()].into_iter().flatten();
        let mut tensors: Vec<Tensor> =
            first.chain(self.patches.tensors()).chain(self.norm.tensors()).cloned().collect();
        for block in &self.blocks {
            tensors.extend(block.tensors().map_err(Error::model)?);
        }
        Ok(tensors)
    }
}
