use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::names::Naming;
use crate::layers::{Attend, FeedForward, LayerNorm, SelfAttention};
use crate::ops::{Activation, Derived, add_residual};

/// What CLIP adds to variances.
pub(super) const EPS: f64 = 1e-5;

/// The shape of a tower's blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockShape {
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) mlp_width: usize,
    pub(super) activation: Activation,
}

/// A block of a pre-norm transformer.
#[derive(Debug, Clone)]
pub(super) struct Block {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    mlp: FeedForward,
}

impl Block {
    pub(super) fn new(shape: BlockShape, naming: Naming, vb: &VarBuilder) -> Result<Self> {
        let (width, names) = (shape.width, naming.block());
        Ok(Self {
            norm1: LayerNorm::new(width, EPS, &vb.pp(names.norms[0]))?,
            attention: SelfAttention::new((width, shape.heads), names.qkv, names.out, vb)?,
            norm2: LayerNorm::new(width, EPS, &vb.pp(names.norms[1]))?,
            mlp: FeedForward::new((width, shape.mlp_width), names.mlp, shape.activation, vb)?,
        })
    }

    /// N×T×C tokens to tokens.
    pub(super) fn forward(&self, x: &Tensor, attend: Attend<'_>) -> Result<Tensor> {
        let x = add_residual(x, self.attention.forward(&self.norm1.forward(x)?, attend)?)?;
        add_residual(&x, self.mlp.forward(&self.norm2.forward(&x)?)?)
    }
}

/// Reads the blocks `start.0`, `start.1`, ….
pub(super) fn blocks(
    count: usize,
    shape: BlockShape,
    (naming, start): (Naming, &str),
    vb: &VarBuilder,
) -> Result<Vec<Block>> {
    (0..count).map(|i| Block::new(shape, naming, &vb.pp(format!("{start}.{i}")))).collect()
}

/// Reads the matrix that leads to the shared space, out×inner.
pub(super) fn projection(
    (inner, out): (usize, usize),
    (name, transposed): (&str, bool),
    vb: &VarBuilder,
) -> Result<Derived> {
    let init = Init::Randn { mean: 0.0, stdev: (inner as f64).powf(-0.5) };
    if transposed {
        Derived::new(vec![vb.get_with_hints((inner, out), name, init)?], |w| w[0].t()?.contiguous())
    } else {
        Derived::new(vec![vb.get_with_hints((out, inner), name, init)?], |w| Ok(w[0].clone()))
    }
}
