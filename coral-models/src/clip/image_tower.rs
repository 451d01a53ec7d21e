use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use super::config::{ClipConfig, ClipImageConfig};
use super::names::Naming;
use super::transformer::{Block, BlockShape, EPS, blocks, projection};
use crate::Interpolation;
use crate::layers::{Attend, LayerNorm, PatchEmbedding};
use crate::ops::{self, Derived};

/// Which dense features a CLIP image tower gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ClipDense {
    /// In the last block every patch attends to itself alone, so that its feature tells of its own place rather than of
    /// the whole image (MaskCLIP). Fit for comparing with texts.
    #[default]
    Values,
    /// The patch tokens as the network computes them for the class token to look at.
    Tokens,
}

/// CLIP's vision transformer.
#[derive(Debug, Clone)]
pub(super) struct ImageTower {
    patch: usize,
    grid: usize,
    patches: PatchEmbedding,
    class: Tensor,
    /// 1 + grid² rows, the class token's first.
    positions: Tensor,
    first_norm: LayerNorm,
    blocks: Vec<Block>,
    last_norm: LayerNorm,
    projection: Derived,
}

impl ImageTower {
    pub(super) fn new(image: &ClipImageConfig, config: &ClipConfig, naming: Naming, vb: &VarBuilder) -> Result<Self> {
        let (names, width, patch) = (naming.image(), image.width, image.patch);
        let (small, tower) = (Init::Randn { mean: 0.0, stdev: (width as f64).powf(-0.5) }, &names.tower);
        let weight =
            vb.get_with_hints((width, 3, patch, patch), names.patches, Init::Randn { mean: 0.0, stdev: 0.02 })?;
        let shape =
            BlockShape { width, heads: image.heads, mlp_width: image.mlp_width, activation: config.activation.op() };
        Ok(Self {
            patch,
            grid: image.grid(),
            patches: PatchEmbedding::new(&weight, None)?,
            class: vb.get_with_hints(width, names.class, small)?,
            positions: vb.get_with_hints((1 + image.grid().pow(2), width), tower.positions, small)?,
            first_norm: LayerNorm::new(width, EPS, &vb.pp(names.first_norm))?,
            blocks: blocks(image.layers, shape, (naming, tower.blocks), vb)?,
            last_norm: LayerNorm::new(width, EPS, &vb.pp(tower.last_norm))?,
            projection: projection((width, config.embed_dim), (tower.projection, tower.projection_transposed), vb)?,
        })
    }

    /// N×3×H×W pixels to N×(1 + h·w)×C tokens after the last block, the class token first.
    pub(super) fn tokens(&self, images: &Tensor) -> Result<Tensor> {
        self.blocks.iter().try_fold(self.embed(images)?, |x, block| block.forward(&x, Attend::All))
    }

    /// N×3×H×W pixels to N×E.
    pub(super) fn features(&self, images: &Tensor) -> Result<Tensor> {
        let class = self.tokens(images)?.narrow(1, 0, 1)?.squeeze(1)?;
        self.project(&class.contiguous()?)
    }

    /// N×3×H×W pixels to N×h×w×E.
    pub(super) fn dense_features(&self, images: &Tensor, kind: ClipDense) -> Result<Tensor> {
        let (batch, _, height, width) = images.dims4()?;
        let mut x = self.embed(images)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let last = i + 1 == self.blocks.len();
            x = block.forward(&x, if last && kind == ClipDense::Values { Attend::Own } else { Attend::All })?;
        }
        let (h, w) = (height / self.patch, width / self.patch);
        let features = self.project(&x.narrow(1, 1, h * w)?.contiguous()?)?;
        let dim = features.dim(2)?;
        features.reshape((batch, h, w, dim))
    }

    fn project(&self, tokens: &Tensor) -> Result<Tensor> {
        ops::linear(&self.last_norm.forward(tokens)?, &self.projection.get()?, None)
    }

    /// The tokens that enter the first block.
    fn embed(&self, images: &Tensor) -> Result<Tensor> {
        let (patches, (h, w)) = self.patches.forward(images)?;
        let batch = images.dim(0)?;
        let dim = self.class.dim(0)?;
        let class = self.class.reshape((1, 1, dim))?.broadcast_as((batch, 1, dim))?;
        let tokens = Tensor::cat(&[&class, &patches], 1)?;
        self.first_norm.forward(&tokens.broadcast_add(&self.positions_of(h, w)?)?)
    }

    /// The position table, interpolated bicubically for another grid than that of training.
    fn positions_of(&self, h: usize, w: usize) -> Result<Tensor> {
        if (h, w) == (self.grid, self.grid) {
            return Ok(self.positions.clone());
        }
        let dim = self.positions.dim(1)?;
        let grid = self.positions.narrow(0, 1, self.grid * self.grid)?.reshape((self.grid, self.grid, dim))?;
        let grid = ops::resize_grid(&grid, (h, w), Interpolation::Bicubic)?.reshape((h * w, dim))?;
        Tensor::cat(&[&self.positions.narrow(0, 0, 1)?, &grid], 0)
    }
}
