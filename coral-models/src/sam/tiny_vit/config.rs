use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::sam::config::{Shapes, count, expect, expect_sizes, expect_windows, misfit};

/// MobileSAM's image encoder: TinyViT, one stage of convolutions and three of window attention.
///
/// # References
/// Wu et al., *TinyViT: Fast Pretraining Distillation for Small Vision Transformers*, ECCV 2022; Zhang et al., *Faster
/// Segment Anything*, 2023.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TinyVitConfig {
    /// Channels after the first convolution (32).
    pub stem_dim: usize,
    /// Channels of the four stages (64, 128, 160, 320).
    pub dims: [usize; 4],
    /// Blocks of the four stages (2, 2, 6, 2).
    pub depths: [usize; 4],
    /// Attention heads of the last three stages (4, 5, 10).
    pub heads: [usize; 3],
    /// Tokens along a window's side in the last three stages (7, 14, 7).
    pub windows: [usize; 3],
    /// How much wider the hidden channels of a convolution block are (4).
    pub expand_ratio: usize,
    /// How much wider the hidden channels of a perceptron are (4).
    pub mlp_ratio: usize,
    /// Strides between the stages (2, 2, 1). The published program takes 1 where a stage begins with 320, 448 or 576
    /// channels; a checkpoint's shapes do not tell.
    pub merge_strides: [usize; 3],
}

impl TinyVitConfig {
    /// The published encoder (5 M weights).
    pub fn mobile_sam() -> Self {
        Self {
            stem_dim: 32,
            dims: [64, 128, 160, 320],
            depths: [2, 2, 6, 2],
            heads: [4, 5, 10],
            windows: [7, 14, 7],
            expand_ratio: 4,
            mlp_ratio: 4,
            merge_strides: [2, 2, 1],
        }
    }

    /// Pixels along the side of one output token.
    pub fn token_pixels(&self) -> usize {
        4 * self.merge_strides.iter().product::<usize>()
    }

    /// Reads the configuration off tensor shapes, looked up by names relative to the encoder, e.g. `neck.0.weight`.
    /// The strides are the published ones.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the first tensor that is missing or has an impossible shape.
    pub fn from_shapes(shapes: &dyn Fn(&str) -> Option<Vec<usize>>) -> Result<Self> {
        Self::read("", shapes)
    }

    /// The same for names that begin with `prefix`, which errors then show.
    pub(crate) fn read(prefix: &str, shapes: &Shapes<'_>) -> Result<Self> {
        let name = |rest: String| format!("{prefix}{rest}");
        let [stem_dim, ..] = expect::<4>(shapes, &name("patch_embed.seq.0.c.weight".into()))?;
        let mut config = Self { stem_dim, ..Self::mobile_sam() };
        [config.dims[0], ..] = expect::<4>(shapes, &name("patch_embed.seq.2.c.weight".into()))?;
        for stage in 0..3 {
            let first = name(format!("layers.{stage}.downsample.conv1.c.weight"));
            [config.dims[stage + 1], ..] = expect::<4>(shapes, &first)?;
        }
        let first = |block: usize| name(format!("layers.0.blocks.{block}.conv1.c.weight"));
        let [hidden, ..] = expect::<4>(shapes, &first(0))?;
        config.expand_ratio = ratio(&first(0), hidden, config.dims[0])?;
        config.depths[0] = count(|block| shapes(&first(block)).is_some());
        for stage in 1..4 {
            let biases = |block: usize| name(format!("layers.{stage}.blocks.{block}.attn.attention_biases"));
            let [heads, offsets] = expect(shapes, &biases(0))?;
            let window = offsets.isqrt();
            if window * window != offsets || !config.dims[stage].is_multiple_of(heads) {
                let dim = config.dims[stage];
                let reason = format!("expected a divisor of {dim} and a square number, got {heads}x{offsets}");
                return Err(misfit(&biases(0), &reason));
            }
            (config.heads[stage - 1], config.windows[stage - 1]) = (heads, window);
            config.depths[stage] = count(|block| shapes(&biases(block)).is_some());
        }
        let first = name("layers.1.blocks.0.mlp.fc1.weight".into());
        let [hidden, _] = expect(shapes, &first)?;
        config.mlp_ratio = ratio(&first, hidden, config.dims[1])?;
        Ok(config)
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let single = [
            ("encoder.stem_dim", self.stem_dim),
            ("encoder.expand_ratio", self.expand_ratio),
            ("encoder.mlp_ratio", self.mlp_ratio),
        ];
        let every = |name: &'static str, sizes: &[usize]| sizes.iter().map(|&size| (name, size)).collect::<Vec<_>>();
        expect_sizes(&single)?;
        expect_sizes(&every("encoder.dims", &self.dims))?;
        expect_sizes(&every("encoder.heads", &self.heads))?;
        expect_windows(&every("encoder.windows", &self.windows))?;
        if let Some((heads, dim)) = self.heads.iter().zip(&self.dims[1..]).find(|(heads, dim)| *dim % *heads != 0) {
            return Err(Error::parameter("encoder.heads", format!("{heads} heads do not divide the width {dim}")));
        }
        if self.merge_strides.iter().any(|stride| !(1..=2).contains(stride)) {
            let reason = format!("expected strides of 1 or 2, got {:?}", self.merge_strides);
            return Err(Error::parameter("encoder.merge_strides", reason));
        }
        Ok(())
    }
}

fn ratio(name: &str, hidden: usize, dim: usize) -> Result<usize> {
    if hidden.is_multiple_of(dim) {
        Ok(hidden / dim)
    } else {
        Err(misfit(name, &format!("expected a multiple of {dim} rows, got {hidden}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(name: &str) -> Option<Vec<usize>> {
        let dims = [64, 128, 160, 320];
        if let Some(stage) = name.strip_suffix(".downsample.conv1.c.weight") {
            let stage: usize = stage.strip_prefix("layers.")?.parse().ok()?;
            return Some(vec![*dims.get(stage + 1)?, dims[stage], 1, 1]);
        }
        let biases = |heads, window: usize| Some(vec![heads, window * window]);
        match name {
            "patch_embed.seq.0.c.weight" => Some(vec![32, 3, 3, 3]),
            "patch_embed.seq.2.c.weight" => Some(vec![64, 32, 3, 3]),
            "layers.0.blocks.0.conv1.c.weight" | "layers.0.blocks.1.conv1.c.weight" => Some(vec![256, 64, 1, 1]),
            "layers.1.blocks.0.mlp.fc1.weight" => Some(vec![512, 128]),
            _ => {
                let (stage, block) = name.strip_suffix(".attn.attention_biases")?.split_once(".blocks.")?;
                let block: usize = block.parse().ok()?;
                match stage {
                    "layers.1" if block < 2 => biases(4, 7),
                    "layers.2" if block < 6 => biases(5, 14),
                    "layers.3" if block < 2 => biases(10, 7),
                    _ => None,
                }
            }
        }
    }

    #[test]
    fn the_published_network_is_recognised() {
        let config = TinyVitConfig::from_shapes(&published).unwrap();
        assert_eq!(config, TinyVitConfig::mobile_sam());
        assert_eq!(config.token_pixels(), 16);
        config.validate().unwrap();
    }

    #[test]
    fn misfits_name_the_tensor() {
        let error = |name: &'static str, shape: Option<Vec<usize>>| {
            let shapes = move |asked: &str| if asked == name { shape.clone() } else { published(asked) };
            TinyVitConfig::from_shapes(&shapes).unwrap_err().to_string()
        };
        for name in ["layers.1.downsample.conv1.c.weight", "layers.3.blocks.0.attn.attention_biases"] {
            assert!(error(name, None).contains(name));
        }
        let biases = "layers.2.blocks.0.attn.attention_biases";
        assert!(error(biases, Some(vec![5, 195])).contains("a square number, got 5x195"));
        assert!(error(biases, Some(vec![7, 196])).contains("a divisor of 160"));
        assert!(error(biases, Some(vec![5])).contains(biases));
        assert!(error("layers.1.blocks.0.mlp.fc1.weight", Some(vec![500, 128])).contains("multiple of 128"));
    }

    #[test]
    fn impossible_configurations_are_named() {
        let good = TinyVitConfig::mobile_sam();
        let text = |config: TinyVitConfig| config.validate().unwrap_err().to_string();
        assert!(text(TinyVitConfig { windows: [7, 0, 7], ..good.clone() }).contains("encoder.windows"));
        assert!(text(TinyVitConfig { heads: [4, 6, 10], ..good.clone() }).contains("6 heads do not divide"));
        assert!(text(TinyVitConfig { merge_strides: [2, 3, 1], ..good }).contains("encoder.merge_strides"));
    }
}
