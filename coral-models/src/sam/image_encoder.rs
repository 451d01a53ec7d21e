use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::VitConfig;
use crate::Interpolation;
use crate::layers::{FeedForward, LayerNorm, Linear};
use crate::ops::{self, Activation, Convolution, Positions, RelativePositions, WindowAttention};

/// Segment Anything's image encoder: a plain vision transformer with window attention, decomposed relative
/// positions and a convolutional neck.
///
/// # References
/// Li et al., *Exploring Plain Vision Transformer Backbones for Object Detection*, ECCV 2022.
#[derive(Debug, Clone)]
pub(crate) struct ImageEncoder {
    patch: usize,
    patch_embed: Linear,
    /// 1×H×W×dim.
    pos_embed: Tensor,
    blocks: Vec<Block>,
    neck: Neck,
}

impl ImageEncoder {
    pub(crate) fn new(config: &VitConfig, out_dim: usize, vb: &VarBuilder) -> Result<Self> {
        let (dim, patch) = (config.dim, config.patch);
        let init = candle_nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        let projection = vb.pp("patch_embed.proj");
        let weight = projection.get_with_hints((dim, 3, patch, patch), "weight", init)?;
        let bias = projection.get_with_hints(dim, "bias", candle_nn::Init::Const(0.0))?;
        let block = |i: usize| Block::new(config, i, &vb.pp(format!("blocks.{i}")));
        Ok(Self {
            patch,
            patch_embed: Linear::from_weights(weight.reshape((dim, 3 * patch * patch))?, Some(bias)),
            pos_embed: vb.get_with_hints((1, config.grid[0], config.grid[1], dim), "pos_embed", init)?,
            blocks: (0..config.depth).map(block).collect::<Result<_>>()?,
            neck: Neck::new(dim, out_dim, &vb.pp("neck"))?,
        })
    }

    /// N×3×H×W normalised pixels (H and W multiples of the patch) to N×h×w×C features, showing the tokens after the
    /// patch embedding (0) and after every block (1, 2, …).
    pub(crate) fn forward_with(
        &self,
        images: &Tensor,
        mut visit: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let mut x = self.embed_patches(images)?;
        visit(0, &x)?;
        let (_, height, width, _) = x.dims4()?;
        // ViTDet, where this encoder comes from, interpolates its table bicubically for other sizes.
        let positions = ops::resize_grid(&self.pos_embed.squeeze(0)?, (height, width), Interpolation::Bicubic)?;
        x = ops::sum(&x, &positions)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x)?;
            visit(i + 1, &x)?;
        }
        self.neck.forward(&x)
    }

    /// A convolution whose stride is its kernel is one matrix product.
    fn embed_patches(&self, images: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = images.dims4()?;
        let p = self.patch;
        if channels != 3 || height % p != 0 || width % p != 0 || height * width == 0 {
            candle_core::bail!("expected Nx3xHxW pixels with sides that are multiples of {p}, got {:?}", images.dims());
        }
        let (h, w) = (height / p, width / p);
        let patches = images
            .reshape(&[batch, 3, h, p, w, p][..])?
            .permute(&[0, 2, 4, 1, 3, 5][..])?
            .contiguous()?
            .reshape((batch, h, w, 3 * p * p))?;
        self.patch_embed.forward(&patches)
    }
}

#[derive(Debug, Clone)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    /// What a padded token's query, key and value are.
    qkv_bias: Tensor,
    heads: usize,
    window: Option<usize>,
    positions: RelativePositions,
    proj: Linear,
    norm2: LayerNorm,
    mlp: FeedForward,
}

impl Block {
    fn new(config: &VitConfig, index: usize, vb: &VarBuilder) -> Result<Self> {
        const EPS: f64 = 1e-6;
        let dim = config.dim;
        let window = (!config.global_layers.contains(&index)).then_some(config.window);
        let [rows, columns] = window.map_or(config.grid, |w| [w, w]);
        let attention = vb.pp("attn");
        let table = |name: &str, size: usize| {
            attention.get_with_hints((2 * size - 1, dim / config.heads), name, candle_nn::Init::Const(0.0))
        };
        let positions =
            RelativePositions { vertical: table("rel_pos_h", rows)?, horizontal: table("rel_pos_w", columns)? };
        let qkv = Linear::new(dim, 3 * dim, &attention.pp("qkv"))?;
        let Some(qkv_bias) = qkv.bias().cloned() else {
            candle_core::bail!("attn.qkv has no bias");
        };
        Ok(Self {
            norm1: LayerNorm::new(dim, EPS, &vb.pp("norm1"))?,
            qkv,
            qkv_bias,
            heads: config.heads,
            window,
            positions,
            proj: Linear::new(dim, dim, &attention.pp("proj"))?,
            norm2: LayerNorm::new(dim, EPS, &vb.pp("norm2"))?,
            mlp: FeedForward::new((dim, config.mlp_dim), ["lin1", "lin2"], Activation::Gelu, &vb.pp("mlp"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, height, width, _) = x.dims4()?;
        let keys = self.window.map_or((height, width), |w| (w, w));
        let positions = self.positions.fit(keys)?;
        let attention = WindowAttention {
            heads: self.heads,
            window: self.window,
            positions: Some(Positions::Relative(&positions)),
            padding: &self.qkv_bias,
        };
        let attended = attention.forward(&self.qkv.forward(&self.norm1.forward(x)?)?)?;
        let x = ops::add_residual(x, self.proj.forward(&attended)?)?;
        ops::add_residual(&x, self.mlp.forward(&self.norm2.forward(&x)?)?)
    }
}

/// Two convolutions without bias, each followed by a normalisation of the channels.
#[derive(Debug, Clone)]
pub(super) struct Neck {
    pub(super) reduce: Linear,
    pub(super) norm1: LayerNorm,
    mix: Convolution,
    norm2: LayerNorm,
}

impl Neck {
    pub(super) fn new(dim: usize, out: usize, vb: &VarBuilder) -> Result<Self> {
        const EPS: f64 = 1e-6;
        let init = candle_nn::init::DEFAULT_KAIMING_UNIFORM;
        let reduce = vb.pp("0").get_with_hints((out, dim, 1, 1), "weight", init)?;
        Ok(Self {
            reduce: Linear::from_weights(reduce.reshape((out, dim))?, None),
            norm1: LayerNorm::new(out, EPS, &vb.pp("1"))?,
            mix: Convolution::new(&vb.pp("2").get_with_hints((out, out, 3, 3), "weight", init)?, None, 1)?,
            norm2: LayerNorm::new(out, EPS, &vb.pp("3"))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.norm1.forward(&self.reduce.forward(x)?)?;
        self.norm2.forward(&self.mix.forward(&x)?)
    }
}
