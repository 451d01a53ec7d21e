use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::conv_bn::conv_bn;
use crate::layers::{FeedForward, LayerNorm, Linear};
use crate::ops::{Activation, Depthwise, Positions, WindowAttention, add_residual};

/// Window attention, a convolution of every channel by itself, and a perceptron.
#[derive(Debug, Clone)]
pub(super) struct AttentionBlock {
    pub(super) attention: Attention,
    local: Depthwise,
    norm: LayerNorm,
    mlp: FeedForward,
}

impl AttentionBlock {
    pub(super) fn new(
        (dim, hidden): (usize, usize),
        (heads, window): (usize, usize),
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let [kernel, bias] = conv_bn([dim, 1, 3, 3], &vb.pp("local_conv"))?;
        let mlp = vb.pp("mlp");
        Ok(Self {
            attention: Attention::new(dim, (heads, window), &vb.pp("attn"))?,
            local: Depthwise::new(&kernel, &bias, 1)?,
            norm: LayerNorm::new(dim, EPS, &mlp.pp("norm"))?,
            mlp: FeedForward::new((dim, hidden), ["fc1", "fc2"], Activation::Gelu, &mlp)?,
        })
    }

    /// N×H×W×C to N×H×W×C.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.local.forward(&add_residual(x, self.attention.forward(x)?)?)?;
        add_residual(&x, self.mlp.forward(&self.norm.forward(&x)?)?)
    }
}

const EPS: f64 = 1e-5;

/// Multi-head attention within windows, with one learned bias per head and distance along both axes.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    norm: LayerNorm,
    qkv: Linear,
    /// Query, key and value of a padded token. Padding comes before the normalisation, which makes its bias of zeros,
    /// and nothing masks it.
    padding: Tensor,
    /// heads×window²×window².
    positions: Tensor,
    heads: usize,
    window: usize,
    proj: Linear,
}

impl Attention {
    fn new(dim: usize, (heads, window): (usize, usize), vb: &VarBuilder<'_>) -> Result<Self> {
        let norm = LayerNorm::new(dim, EPS, &vb.pp("norm"))?;
        let qkv = vb.pp("qkv");
        let init = candle_nn::init::DEFAULT_KAIMING_UNIFORM;
        let weight = qkv.get_with_hints((3 * dim, dim), "weight", init)?;
        let bias = qkv.get_with_hints(3 * dim, "bias", Init::Const(0.0))?;
        // The file has query, key and value of one head after another; attention wants all queries first.
        let head = dim / heads;
        let weight = weight.reshape((heads, 3, head, dim))?.transpose(0, 1)?.contiguous()?.reshape((3 * dim, dim))?;
        let bias = bias.reshape((heads, 3, head))?.transpose(0, 1)?.contiguous()?.reshape(3 * dim)?;
        let qkv = Linear::from_weights(weight, Some(bias));
        let blank = Tensor::zeros((1, dim), vb.dtype(), vb.device())?;
        Ok(Self {
            padding: qkv.forward(&norm.forward(&blank)?)?.squeeze(0)?,
            norm,
            qkv,
            positions: pair_biases(heads, window, vb)?,
            heads,
            window,
            proj: Linear::new(dim, dim, &vb.pp("proj"))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let attention = WindowAttention {
            heads: self.heads,
            window: Some(self.window),
            positions: Some(Positions::Table(&self.positions)),
            padding: &self.padding,
        };
        self.proj.forward(&attention.forward(&self.qkv.forward(&self.norm.forward(x)?)?)?)
    }
}

/// The biases of all pairs of tokens in a window: heads×window²×window².
fn pair_biases(heads: usize, window: usize, vb: &VarBuilder<'_>) -> Result<Tensor> {
    let tokens = window * window;
    let biases = vb.get_with_hints((heads, tokens), "attention_biases", Init::Const(0.0))?;
    let place = |token: usize| (token / window, token % window);
    let offset = |query: usize, key: usize| {
        let ((qy, qx), (ky, kx)) = (place(query), place(key));
        (qy.abs_diff(ky) * window + qx.abs_diff(kx)) as u32
    };
    let offsets: Vec<u32> = (0..tokens).flat_map(|query| (0..tokens).map(move |key| offset(query, key))).collect();
    let offsets = Tensor::from_vec(offsets, tokens * tokens, vb.device())?;
    biases.contiguous()?.index_select(&offsets, 1)?.reshape((heads, tokens, tokens))
}
