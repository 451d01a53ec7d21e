use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::config::{ClipConfig, ClipTextConfig};
use super::names::Naming;
use super::transformer::{Block, BlockShape, EPS, blocks, projection};
use crate::layers::{Attend, LayerNorm};
use crate::ops::{self, Derived};

/// CLIP's text transformer, in which a token sees itself and earlier ones.
#[derive(Debug, Clone)]
pub(super) struct TextTower {
    context_length: usize,
    vocab_size: usize,
    heads: usize,
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    last_norm: LayerNorm,
    projection: Derived,
}

impl TextTower {
    pub(super) fn new(text: &ClipTextConfig, config: &ClipConfig, naming: Naming, vb: &VarBuilder) -> Result<Self> {
        let (names, width) = (naming.text(), text.width);
        let tower = &names.tower;
        let random = |stdev: f64| Init::Randn { mean: 0.0, stdev };
        let shape =
            BlockShape { width, heads: text.heads, mlp_width: text.mlp_width, activation: config.activation.op() };
        Ok(Self {
            context_length: text.context_length,
            vocab_size: text.vocab_size,
            heads: text.heads,
            tokens: vb.get_with_hints((text.vocab_size, width), names.tokens, random(0.02))?,
            positions: vb.get_with_hints((text.context_length, width), tower.positions, random(0.01))?,
            blocks: blocks(text.layers, shape, (naming, tower.blocks), vb)?,
            last_norm: LayerNorm::new(width, EPS, &vb.pp(tower.last_norm))?,
            projection: projection((width, config.embed_dim), (tower.projection, tower.projection_transposed), vb)?,
        })
    }

    /// Context length and size of the vocabulary.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.context_length, self.vocab_size)
    }

    /// N×T ids, T at most the context length, to N×T×C normalised tokens.
    pub(super) fn hidden(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, length) = ids.dims2()?;
        let width = self.tokens.dim(1)?;
        let tokens = self.tokens.index_select(&ids.flatten_all()?, 0)?.reshape((batch, length, width))?;
        let mut x = tokens.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        let mask = self.causal_mask(length)?;
        for block in &self.blocks {
            x = block.forward(&x, Attend::Masked(&mask))?;
        }
        self.last_norm.forward(&x)
    }

    /// N×T ids to N×E; text n is pooled at token `ends[n]`.
    pub(super) fn features(&self, ids: &Tensor, ends: &[u32]) -> Result<Tensor> {
        let hidden = self.hidden(ids)?;
        let (batch, length, width) = hidden.dims3()?;
        let rows = ends.iter().zip(0..).map(|(&end, text)| text * length as u32 + end).collect::<Vec<u32>>();
        let rows = Tensor::from_vec(rows, batch, hidden.device())?;
        let pooled = hidden.reshape((batch * length, width))?.index_select(&rows, 0)?;
        ops::linear(&pooled, &self.projection.get()?, None)
    }

    /// Minus infinity where a query would see a later key: heads×length×length.
    fn causal_mask(&self, length: usize) -> Result<Tensor> {
        let hidden = |query: usize, key: usize| if key > query { f32::NEG_INFINITY } else { 0.0 };
        let table = (0..length).flat_map(|query| (0..length).map(move |key| hidden(query, key))).collect::<Vec<f32>>();
        let table = Tensor::from_vec(table, (1, length, length), self.tokens.device())?;
        table.broadcast_as((self.heads, length, length))?.contiguous()?.to_dtype(self.tokens.dtype())
    }
}
