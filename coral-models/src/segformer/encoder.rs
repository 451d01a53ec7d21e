use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use coral_core::SeededRng;

use super::block::{Block, weights};
use super::config::SegFormerConfig;
use crate::layers::LayerNorm;
use crate::ops::{self, Convolution, Window};

/// The Mix Transformer: four stages, each on a smaller map.
#[derive(Debug, Clone)]
pub(super) struct Encoder {
    stages: Vec<Stage>,
}

impl Encoder {
    pub(super) fn new(config: &SegFormerConfig, vb: &VarBuilder) -> Result<Self> {
        Ok(Self { stages: (0..4).map(|stage| Stage::new(config, stage, vb)).collect::<Result<_>>()? })
    }

    /// The four N×h×w×C maps of N×3×H×W pixels.
    pub(super) fn forward(&self, pixels: &Tensor, mut random: Option<&mut SeededRng>) -> Result<Vec<Tensor>> {
        let mut x = ops::channels_last(pixels)?;
        let mut maps = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            x = stage.forward(&x, random.as_deref_mut())?;
            maps.push(x.clone());
        }
        Ok(maps)
    }
}

/// A convolution whose windows overlap, and transformer blocks.
#[derive(Debug, Clone)]
struct Stage {
    embedding: Convolution,
    embedding_norm: LayerNorm,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Stage {
    fn new(config: &SegFormerConfig, stage: usize, vb: &VarBuilder) -> Result<Self> {
        let (width, side, stride) = (config.hidden_sizes[stage], config.patch_sizes[stage], config.strides[stage]);
        let inner = stage.checked_sub(1).map_or(3, |before| config.hidden_sizes[before]);
        let embedding = vb.pp("patch_embeddings").pp(stage);
        let (weight, bias) = weights(&[width, inner, side, side], &embedding.pp("proj"))?;
        let norm = |vb: VarBuilder| LayerNorm::new(width, config.layer_norm_eps, &vb);
        let block = |index| Block::new(config, (stage, index), &vb.pp("block").pp(stage).pp(index));
        Ok(Self {
            embedding: Convolution::with_window(&weight, Some(bias), Window::square(side, stride, side / 2))?,
            embedding_norm: norm(embedding.pp("layer_norm"))?,
            blocks: (0..config.depths[stage]).map(block).collect::<Result<_>>()?,
            norm: norm(vb.pp("layer_norm").pp(stage))?,
        })
    }

    fn forward(&self, x: &Tensor, mut random: Option<&mut SeededRng>) -> Result<Tensor> {
        let mut x = self.embedding_norm.forward(&self.embedding.forward(x)?)?;
        for block in &self.blocks {
            x = block.forward(&x, random.as_deref_mut())?;
        }
        self.norm.forward(&x)
    }
}
