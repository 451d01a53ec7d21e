use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::SamConfig;
use crate::layers::{FeedForward, LayerNorm, Linear};
use crate::ops::{self, Activation};

const EPS: f64 = 1e-5;

/// A transformer in which prompt tokens look at the image and the image at the prompt tokens.
#[derive(Debug, Clone)]
pub(crate) struct TwoWayTransformer {
    layers: Vec<Layer>,
    final_attention: Attention,
    final_norm: LayerNorm,
}

impl TwoWayTransformer {
    pub(crate) fn new(config: &SamConfig, vb: &VarBuilder) -> Result<Self> {
        let layer = |i: usize| Layer::new(config, i == 0, &vb.pp(format!("layers.{i}")));
        Ok(Self {
            layers: (0..config.decoder_depth).map(layer).collect::<Result<_>>()?,
            final_attention: Attention::cross(config, &vb.pp("final_attn_token_to_image"))?,
            final_norm: LayerNorm::new(config.dim, EPS, &vb.pp("norm_final_attn"))?,
        })
    }

    /// B×T×C prompt tokens and B×N×C (or 1×N×C, the same for all prompts) image tokens with their 1×N×C places
    /// to both, B×T×C and B×N×C.
    ///
    /// As long as the image tokens are the same for all prompts, what depends on them alone is computed once.
    pub(crate) fn forward(&self, tokens: &Tensor, image: &Tensor, places: &Tensor) -> Result<(Tensor, Tensor)> {
        let (mut queries, mut keys) = (tokens.clone(), image.clone());
        for layer in &self.layers {
            (queries, keys) = layer.forward(&queries, &keys, tokens, places)?;
        }
        let placed = ops::sum(&keys, places)?;
        let attended = self.final_attention.forward(&ops::sum(&queries, tokens)?, &placed, &keys)?;
        Ok((self.final_norm.forward(&ops::sum(&queries, &attended)?)?, keys))
    }
}

#[derive(Debug, Clone)]
struct Layer {
    first: bool,
    self_attention: Attention,
    token_to_image: Attention,
    image_to_token: Attention,
    mlp: FeedForward,
    norms: [LayerNorm; 4],
}

impl Layer {
    fn new(config: &SamConfig, first: bool, vb: &VarBuilder) -> Result<Self> {
        let dim = config.dim;
        let norm = |i: usize| LayerNorm::new(dim, EPS, &vb.pp(format!("norm{i}")));
        let sizes = (dim, config.decoder_mlp_dim);
        Ok(Self {
            first,
            self_attention: Attention::new(dim, dim, config.decoder_heads, &vb.pp("self_attn"))?,
            token_to_image: Attention::cross(config, &vb.pp("cross_attn_token_to_image"))?,
            image_to_token: Attention::cross(config, &vb.pp("cross_attn_image_to_token"))?,
            mlp: FeedForward::new(sizes, ["lin1", "lin2"], Activation::Relu, &vb.pp("mlp"))?,
            norms: [norm(1)?, norm(2)?, norm(3)?, norm(4)?],
        })
    }

    /// `prompt` (the tokens as they entered the transformer) serves as the tokens' places.
    fn forward(&self, queries: &Tensor, keys: &Tensor, prompt: &Tensor, places: &Tensor) -> Result<(Tensor, Tensor)> {
        // The first layer neither adds the places nor keeps what came in.
        let queries = if self.first {
            self.self_attention.forward(queries, queries, queries)?
        } else {
            let placed = ops::sum(queries, prompt)?;
            ops::sum(queries, &self.self_attention.forward(&placed, &placed, queries)?)?
        };
        let queries = self.norms[0].forward(&queries)?;
        let placed_keys = ops::sum(keys, places)?;
        let asking = ops::sum(&queries, prompt)?;
        let seen = self.token_to_image.forward(&asking, &placed_keys, keys)?;
        let queries = self.norms[1].forward(&ops::sum(&queries, &seen)?)?;
        let queries = self.norms[2].forward(&ops::sum(&queries, &self.mlp.forward(&queries)?)?)?;
        let told = self.image_to_token.forward(&placed_keys, &ops::sum(&queries, prompt)?, &queries)?;
        let keys = self.norms[3].forward(&ops::sum(&told, keys)?)?;
        Ok((queries, keys))
    }
}

/// Attention with separate projections, possibly to a narrower width.
#[derive(Debug, Clone)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn new(dim: usize, inner: usize, heads: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            q: Linear::new(dim, inner, &vb.pp("q_proj"))?,
            k: Linear::new(dim, inner, &vb.pp("k_proj"))?,
            v: Linear::new(dim, inner, &vb.pp("v_proj"))?,
            out: Linear::new(inner, dim, &vb.pp("out_proj"))?,
            heads,
        })
    }

    fn cross(config: &SamConfig, vb: &VarBuilder) -> Result<Self> {
        Self::new(config.dim, config.dim / config.attention_downsample_rate, config.decoder_heads, vb)
    }

    fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (q, k, v) = (self.q.forward(q)?, self.k.forward(k)?, self.v.forward(v)?);
        self.out.forward(&ops::attention(&q, &k, &v, self.heads)?)
    }
}
