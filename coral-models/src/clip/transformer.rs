use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::names::Naming;
use crate::layers::{FeedForward, LayerNorm, Linear};
use crate::ops::{self, Activation, Derived, Positions, WindowAttention};

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

/// Whom a token looks at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attend<'a> {
    /// Every token.
    All,
    /// As a table of additions to the scores says, heads×n×n.
    Masked(&'a Tensor),
    /// Itself alone: its value is what it sees.
    Own,
}

/// A block of a pre-norm transformer.
#[derive(Debug, Clone)]
pub(super) struct Block {
    norm1: LayerNorm,
    qkv: [Derived; 2],
    heads: usize,
    out: Linear,
    norm2: LayerNorm,
    mlp: FeedForward,
}

impl Block {
    pub(super) fn new(shape: BlockShape, naming: Naming, vb: &VarBuilder) -> Result<Self> {
        let (width, names) = (shape.width, naming.block());
        let rows = 3 * width / names.qkv.len();
        let init = Init::Randn { mean: 0.0, stdev: (width as f64).powf(-0.5) };
        let below = |tensors: &[Tensor]| match tensors {
            [one] => Ok(one.clone()),
            several => Tensor::cat(several, 0),
        };
        let weights = names.qkv.iter().map(|[weight, _]| vb.get_with_hints((rows, width), weight, init));
        let biases = names.qkv.iter().map(|[_, bias]| vb.get_with_hints(rows, bias, Init::Const(0.0)));
        Ok(Self {
            norm1: LayerNorm::new(width, EPS, &vb.pp(names.norms[0]))?,
            qkv: [
                Derived::new(weights.collect::<Result<_>>()?, below)?,
                Derived::new(biases.collect::<Result<_>>()?, below)?,
            ],
            heads: shape.heads,
            out: Linear::new(width, width, &vb.pp(names.out))?,
            norm2: LayerNorm::new(width, EPS, &vb.pp(names.norms[1]))?,
            mlp: FeedForward::new((width, shape.mlp_width), names.mlp, shape.activation, vb)?,
        })
    }

    /// N×T×C tokens to tokens.
    pub(super) fn forward(&self, x: &Tensor, attend: Attend<'_>) -> Result<Tensor> {
        let attended = self.attended(&self.norm1.forward(x)?, attend)?;
        let x = (x + self.out.forward(&attended)?)?;
        &x + self.mlp.forward(&self.norm2.forward(&x)?)?
    }

    fn attended(&self, x: &Tensor, attend: Attend<'_>) -> Result<Tensor> {
        let (weight, bias) = (self.qkv[0].get()?, self.qkv[1].get()?);
        let (batch, tokens, width) = x.dims3()?;
        let positions = match attend {
            Attend::Own => {
                let (weight, bias) = (weight.narrow(0, 2 * width, width)?, bias.narrow(0, 2 * width, width)?);
                return ops::linear(x, &weight, Some(&bias));
            }
            Attend::All => None,
            Attend::Masked(mask) => Some(Positions::Table(mask)),
        };
        let qkv = ops::linear(x, &weight, Some(&bias))?.reshape((batch, 1, tokens, 3 * width))?;
        // Without windows there is no padding; any values of its shape do.
        let attention = WindowAttention { heads: self.heads, window: None, positions, padding: &bias };
        attention.forward(&qkv)?.reshape((batch, tokens, width))
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
