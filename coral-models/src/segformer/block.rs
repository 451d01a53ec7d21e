use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use coral_core::SeededRng;

use super::config::SegFormerConfig;
use crate::layers::{LayerNorm, Linear, drop_samples, drop_values};
use crate::ops::{self, Convolution, Depthwise, Window};

/// Initial values as in the published program.
const INIT: Init = Init::Randn { mean: 0.0, stdev: 0.02 };

/// Reads `weight` of this shape, the first side of which is the outputs', and `bias`.
pub(super) fn weights(shape: &[usize], vb: &VarBuilder) -> Result<(Tensor, Tensor)> {
    Ok((vb.get_with_hints(shape, "weight", INIT)?, vb.get_with_hints(shape[0], "bias", Init::Const(0.0))?))
}

fn linear(inner: usize, out: usize, vb: &VarBuilder) -> Result<Linear> {
    let (weight, bias) = weights(&[out, inner], vb)?;
    Ok(Linear::from_weights(weight, Some(bias)))
}

/// A transformer block on N×h×w×C maps.
#[derive(Debug, Clone)]
pub(super) struct Block {
    before_attention: LayerNorm,
    attention: Attention,
    before_mix: LayerNorm,
    mix: MixFfn,
    drop_path: f64,
    dropout: f64,
}

impl Block {
    /// Block `index` of a stage.
    pub(super) fn new(config: &SegFormerConfig, (stage, index): (usize, usize), vb: &VarBuilder) -> Result<Self> {
        let width = config.hidden_sizes[stage];
        let norm = |name: &str| LayerNorm::new(width, config.layer_norm_eps, &vb.pp(name));
        let before = config.depths[..stage].iter().sum::<usize>();
        Ok(Self {
            before_attention: norm("layer_norm_1")?,
            attention: Attention::new(config, stage, &vb.pp("attention"))?,
            before_mix: norm("layer_norm_2")?,
            mix: MixFfn::new((width, width * config.mlp_ratios[stage], config.hidden_dropout), &vb.pp("mlp"))?,
            drop_path: config.drop_path(before + index),
            dropout: config.hidden_dropout,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, mut random: Option<&mut SeededRng>) -> Result<Tensor> {
        let attended = self.attention.forward(&self.before_attention.forward(x)?)?;
        let attended = drop_values(attended, self.dropout, random.as_deref_mut())?;
        let x = ops::add_residual(x, drop_samples(attended, self.drop_path, random.as_deref_mut())?)?;
        let mixed = self.mix.forward(&self.before_mix.forward(&x)?, random.as_deref_mut())?;
        ops::add_residual(&x, drop_samples(mixed, self.drop_path, random)?)
    }
}

/// Self-attention whose keys and values are those of a smaller map.
#[derive(Debug, Clone)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    reduction: Option<(Convolution, LayerNorm)>,
    heads: usize,
}

impl Attention {
    fn new(config: &SegFormerConfig, stage: usize, vb: &VarBuilder) -> Result<Self> {
        let (width, side) = (config.hidden_sizes[stage], config.sr_ratios[stage]);
        let own = vb.pp("self");
        let reduction = || -> Result<_> {
            let (weight, bias) = weights(&[width, width, side, side], &own.pp("sr"))?;
            let convolution = Convolution::with_window(&weight, Some(bias), Window::square(side, side, 0))?;
            Ok((convolution, LayerNorm::new(width, config.layer_norm_eps, &own.pp("layer_norm"))?))
        };
        Ok(Self {
            query: linear(width, width, &own.pp("query"))?,
            key: linear(width, width, &own.pp("key"))?,
            value: linear(width, width, &own.pp("value"))?,
            output: linear(width, width, &vb.pp("output.dense"))?,
            reduction: (side > 1).then(reduction).transpose()?,
            heads: config.num_attention_heads[stage],
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let tokens = x.flatten(1, 2)?;
        let reduced = match &self.reduction {
            Some((convolution, norm)) => norm.forward(&convolution.forward(x)?.flatten(1, 2)?)?,
            None => tokens.clone(),
        };
        let (key, value) = (self.key.forward(&reduced)?, self.value.forward(&reduced)?);
        let attended = ops::attention(&self.query.forward(&tokens)?, &key, &value, self.heads)?;
        self.output.forward(&attended)?.reshape(x.shape())
    }
}

/// Two linear layers with a depthwise 3×3 convolution and GELU between, which tells every position its neighbours.
#[derive(Debug, Clone)]
struct MixFfn {
    first: Linear,
    depthwise: Depthwise,
    second: Linear,
    dropout: f64,
}

impl MixFfn {
    fn new((width, hidden, dropout): (usize, usize, f64), vb: &VarBuilder) -> Result<Self> {
        let (weight, bias) = weights(&[hidden, 1, 3, 3], &vb.pp("dwconv.dwconv"))?;
        Ok(Self {
            first: linear(width, hidden, &vb.pp("dense1"))?,
            depthwise: Depthwise::new(&weight, &bias, 1)?,
            second: linear(hidden, width, &vb.pp("dense2"))?,
            dropout,
        })
    }

    fn forward(&self, x: &Tensor, mut random: Option<&mut SeededRng>) -> Result<Tensor> {
        let hidden = ops::gelu(&self.depthwise.forward(&self.first.forward(x)?)?)?;
        let hidden = drop_values(hidden, self.dropout, random.as_deref_mut())?;
        drop_values(self.second.forward(&hidden)?, self.dropout, random)
    }
}
