use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::Linear;
use crate::ops::{self, Derived, Positions, WindowAttention};

/// Whom a token looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attend<'a> {
    /// Every token.
    All,
    /// As a table of additions to the scores says, heads×n×n.
    Masked(&'a Tensor),
    /// Itself alone: its value is what it sees.
    Own,
}

/// Attention of tokens to each other, and the linear layer after it.
#[derive(Debug, Clone)]
pub(crate) struct SelfAttention {
    /// Weight and bias of queries, keys and values, below each other.
    qkv: [Derived; 2],
    heads: usize,
    out: Linear,
}

impl SelfAttention {
    /// Reads the weights and biases that `qkv` names, which make those of queries, keys and values when put below each
    /// other, and the layer `out`.
    pub(crate) fn new(
        (width, heads): (usize, usize),
        qkv: &[[&str; 2]],
        out: &str,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let rows = 3 * width / qkv.len();
        let init = Init::Randn { mean: 0.0, stdev: (width as f64).powf(-0.5) };
        let below = |tensors: &[Tensor]| match tensors {
            [one] => Ok(one.clone()),
            several => Tensor::cat(several, 0),
        };
        let weights = qkv.iter().map(|[weight, _]| vb.get_with_hints((rows, width), weight, init));
        let biases = qkv.iter().map(|[_, bias]| vb.get_with_hints(rows, bias, Init::Const(0.0)));
        Ok(Self {
            qkv: [
                Derived::new(weights.collect::<Result<_>>()?, below)?,
                Derived::new(biases.collect::<Result<_>>()?, below)?,
            ],
            heads,
            out: Linear::new(width, width, &vb.pp(out))?,
        })
    }

    /// N×T×C tokens to what each of them sees.
    pub(crate) fn forward(&self, x: &Tensor, attend: Attend<'_>) -> Result<Tensor> {
        self.out.forward(&self.attended(x, attend)?)
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

    /// All weights and biases.
    pub(crate) fn tensors(&self) -> Result<Vec<Tensor>> {
        let qkv = self.qkv.iter().map(Derived::get);
        qkv.chain(self.out.tensors().map(|tensor| Ok(tensor.clone()))).collect()
    }
}
