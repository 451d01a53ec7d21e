use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::config::{DinoV2Config, DinoV2Mlp};
use super::names::{BlockNames, NORMS};
use crate::layers::{Attend, FeedForward, LayerNorm, Linear, SelfAttention};
use crate::ops::{Activation, add_residual};

/// What DINOv2 adds to variances.
pub(super) const EPS: f64 = 1e-6;

/// A block of a pre-norm transformer whose branches are scaled per channel.
#[derive(Debug, Clone)]
pub(super) struct Block {
    norms: [LayerNorm; 2],
    attention: SelfAttention,
    mlp: Mlp,
    scales: [Tensor; 2],
}

impl Block {
    pub(super) fn new(config: &DinoV2Config, names: &BlockNames, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.width;
        let norm = |name: &str| LayerNorm::new(width, EPS, &vb.pp(name));
        let scale = |name: &str| vb.get_with_hints(width, name, Init::Const(1.0));
        Ok(Self {
            norms: [norm(NORMS[0])?, norm(NORMS[1])?],
            attention: SelfAttention::new((width, config.heads), names.qkv, names.out, vb)?,
            mlp: Mlp::new(width, config.mlp, names, vb)?,
            scales: [scale(names.scales[0])?, scale(names.scales[1])?],
        })
    }

    /// N×T×C tokens to tokens.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let attended = self.attention.forward(&self.norms[0].forward(x)?, Attend::All)?;
        let x = add_residual(x, attended.broadcast_mul(&self.scales[0])?)?;
        let y = self.mlp.forward(&self.norms[1].forward(&x)?)?;
        add_residual(&x, y.broadcast_mul(&self.scales[1])?)
    }

    /// All weights, in an order of their own.
    pub(super) fn tensors(&self) -> Result<Vec<Tensor>> {
        let mut tensors = self.attention.tensors()?;
        tensors.extend(self.norms.iter().flat_map(LayerNorm::tensors).chain(&self.scales).cloned());
        match &self.mlp {
            Mlp::Gelu(layers) => tensors.extend(layers.tensors().cloned()),
            Mlp::SwiGlu(layers) => tensors.extend(layers.iter().flat_map(Linear::tensors).cloned()),
        }
        Ok(tensors)
    }
}

#[derive(Debug, Clone)]
enum Mlp {
    Gelu(FeedForward),
    SwiGlu([Linear; 2]),
}

impl Mlp {
    fn new(width: usize, kind: DinoV2Mlp, names: &BlockNames, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(match kind {
            DinoV2Mlp::Gelu(hidden) => Self::Gelu(FeedForward::new((width, hidden), names.gelu, Activation::Gelu, vb)?),
            DinoV2Mlp::SwiGlu(hidden) => Self::SwiGlu([
                Linear::new(width, 2 * hidden, &vb.pp(names.swiglu[0]))?,
                Linear::new(hidden, width, &vb.pp(names.swiglu[1]))?,
            ]),
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu(layers) => layers.forward(x),
            Self::SwiGlu([first, last]) => {
                let both = first.forward(x)?;
                let hidden = both.dim(D::Minus1)? / 2;
                let gate = both.narrow(D::Minus1, 0, hidden)?.contiguous()?.silu()?;
                last.forward(&(gate * both.narrow(D::Minus1, hidden, hidden)?)?)
            }
        }
    }
}
