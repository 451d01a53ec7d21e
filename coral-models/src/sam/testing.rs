//! A network that is small enough to be trained in tests.

use super::config::{EncoderConfig, SamConfig, SemanticConfig, VitConfig};

/// Two blocks, one with windows that need padding, for images of 20 pixels, which are 5×5 tokens; `grid` is the size of its
/// position table.
pub(super) fn tiny(grid: [usize; 2], mask_tokens: usize, semantic: Option<SemanticConfig>) -> SamConfig {
    let vit = VitConfig { patch: 4, dim: 12, depth: 2, heads: 2, mlp_dim: 10, window: 3, global_layers: vec![1], grid };
    SamConfig {
        encoder: EncoderConfig::Vit(vit),
        image_size: 20,
        dim: 16,
        mask_prompt_channels: 8,
        decoder_depth: 2,
        decoder_heads: 2,
        decoder_mlp_dim: 12,
        attention_downsample_rate: 2,
        mask_tokens,
        iou_hidden: 8,
        iou_depth: 3,
        semantic,
    }
}
