//! MobileSAM's image encoder.
//!
//! Tokens keep the layout N×H×W×C throughout. Batch normalisations are folded into the convolutions before
//! them when the weights are read, so that the network is for inference only.

mod block;
mod config;
mod conv_bn;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use self::block::AttentionBlock;
use self::conv_bn::{conv_bn, pointwise_bn};
use crate::ops::{Activation, Bottleneck, Convolution, Depthwise, channels_last};
use crate::sam::image_encoder::Neck;

pub use config::TinyVitConfig;

/// TinyViT with the neck of Segment Anything's image encoder; see [`TinyVitConfig`].
#[derive(Debug, Clone)]
pub(crate) struct TinyVit {
    /// Pixels along the side of an output token.
    token: usize,
    patch_embed: [Convolution; 2],
    stages: Vec<Stage>,
    neck: Neck,
}

#[derive(Debug, Clone)]
struct Stage {
    blocks: Vec<Block>,
    /// Leads to the next stage.
    merge: Option<Bottleneck>,
}

#[derive(Debug, Clone)]
enum Block {
    Convolution(Bottleneck),
    Attention(AttentionBlock),
}

impl Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Convolution(block) => block.forward(x),
            Self::Attention(block) => block.forward(x),
        }
    }
}

impl TinyVit {
    /// Reads the weights under their original names relative to `vb`.
    pub(crate) fn new(config: &TinyVitConfig, out_dim: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let (stem, dims) = (config.stem_dim, config.dims);
        let embed = vb.pp("patch_embed.seq");
        let convolution = |out, inner, name: &str| {
            let [kernel, bias] = conv_bn([out, inner, 3, 3], &embed.pp(name))?;
            Convolution::new(&kernel, Some(bias), 2)
        };
        let stage = |stage: usize| -> Result<Stage> {
            let vb = vb.pp(format!("layers.{stage}"));
            let block = |i: usize| read_block(config, stage, &vb.pp(format!("blocks.{i}")));
            let merge = || {
                let (dim, next) = (dims[stage], dims[stage + 1]);
                bottleneck([dim, next, next], config.merge_strides[stage], &vb.pp("downsample"))
            };
            Ok(Stage {
                blocks: (0..config.depths[stage]).map(block).collect::<Result<_>>()?,
                merge: (stage < 3).then(merge).transpose()?,
            })
        };
        Ok(Self {
            token: config.token_pixels(),
            patch_embed: [
                convolution(stem, 3, "0")?.with_activation(Activation::Gelu),
                convolution(dims[0], stem, "2")?,
            ],
            stages: (0..4).map(stage).collect::<Result<_>>()?,
            neck: Neck::new(dims[3], out_dim, &vb.pp("neck"))?,
        })
    }

    /// N×3×H×W normalised pixels (H and W multiples of the token's pixels) to N×h×w×C features, showing the tokens
    /// after the patch embedding (0) and after every block (1, 2, …).
    pub(crate) fn forward_with(
        &self,
        images: &Tensor,
        mut visit: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let mut x = self.embed_patches(images)?;
        let mut index = 0;
        visit(index, &x)?;
        for stage in &self.stages {
            for block in &stage.blocks {
                x = block.forward(&x)?;
                index += 1;
                visit(index, &x)?;
            }
            if let Some(merge) = &stage.merge {
                x = merge.forward(&x)?;
            }
        }
        self.neck.forward(&x)
    }

    fn embed_patches(&self, images: &Tensor) -> Result<Tensor> {
        let (_, channels, height, width) = images.dims4()?;
        let token = self.token;
        if channels != 3 || height % token != 0 || width % token != 0 || images.elem_count() == 0 {
            candle_core::bail!(
                "expected Nx3xHxW pixels with sides that are multiples of {token}, got {:?}",
                images.dims()
            );
        }
        let [first, second] = &self.patch_embed;
        second.forward(&first.forward(&channels_last(images)?)?)
    }
}

fn read_block(config: &TinyVitConfig, stage: usize, vb: &VarBuilder<'_>) -> Result<Block> {
    let dim = config.dims[stage];
    if stage == 0 {
        let block = bottleneck([dim, config.expand_ratio * dim, dim], 1, vb)?;
        return Ok(Block::Convolution(Bottleneck { residual: true, ..block }));
    }
    let attention = (config.heads[stage - 1], config.windows[stage - 1]);
    Ok(Block::Attention(AttentionBlock::new((dim, config.mlp_ratio * dim), attention, vb)?))
}

/// The convolutions `conv1`, `conv2` and `conv3` of widths in, hidden and out.
fn bottleneck([inner, hidden, out]: [usize; 3], stride: usize, vb: &VarBuilder<'_>) -> Result<Bottleneck> {
    let [kernel, bias] = conv_bn([hidden, 1, 3, 3], &vb.pp("conv2"))?;
    Ok(Bottleneck {
        expand: pointwise_bn(hidden, inner, &vb.pp("conv1"))?,
        depthwise: Depthwise::new(&kernel, &bias, stride)?,
        project: pointwise_bn(out, hidden, &vb.pp("conv3"))?,
        residual: false,
    })
}
