use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The shape of a SegFormer: a Mix Transformer of four stages and a head of linear layers.
///
/// The default is `mit-b0` with the 150 classes of ADE20K, as `transformers` has it.
///
/// # Examples
/// ```
/// use coral_models::SegFormerConfig;
/// let config = SegFormerConfig::mit_b2(5);
/// assert_eq!((config.hidden_sizes[3], config.depths, config.decoder_hidden_size), (512, [3, 4, 6, 3], 768));
/// assert!(SegFormerConfig { num_attention_heads: [3; 4], ..config }.validate().is_err());
/// ```
///
/// # References
/// Xie et al., *SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers*, NeurIPS 2021, Table 6.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegFormerConfig {
    /// How many classes there are, C.
    pub num_labels: usize,
    /// Channels of each stage.
    pub hidden_sizes: [usize; 4],
    /// Transformer blocks of each stage.
    pub depths: [usize; 4],
    /// Attention heads of each stage's blocks.
    pub num_attention_heads: [usize; 4],
    /// By how much keys and values are fewer than queries, along each axis.
    pub sr_ratios: [usize; 4],
    /// By how much the layer between the two linear ones of a block is wider.
    pub mlp_ratios: [usize; 4],
    /// Side of the convolution that each stage begins with.
    pub patch_sizes: [usize; 4],
    /// Its stride.
    pub strides: [usize; 4],
    /// Channels of the head.
    pub decoder_hidden_size: usize,
    /// Added to variances. `transformers` takes 1e-5 whatever its own configuration says.
    pub layer_norm_eps: f64,
    /// Share of samples for which training leaves out the last block; it rises linearly from 0 at the first.
    pub drop_path_rate: f64,
    /// Share of values that training drops behind linear layers of the blocks.
    pub hidden_dropout: f64,
    /// Share of values that training drops before the last layer.
    pub classifier_dropout: f64,
}

impl SegFormerConfig {
    /// `mit-b0`: 3.7 million weights.
    pub const fn mit_b0(num_labels: usize) -> Self {
        Self::published(num_labels, [32, 64, 160, 256], [2, 2, 2, 2], 256)
    }

    /// `mit-b1`: 13.7 million weights.
    pub const fn mit_b1(num_labels: usize) -> Self {
        Self::published(num_labels, [64, 128, 320, 512], [2, 2, 2, 2], 256)
    }

    /// `mit-b2`: 27.4 million weights.
    pub const fn mit_b2(num_labels: usize) -> Self {
        Self::published(num_labels, [64, 128, 320, 512], [3, 4, 6, 3], 768)
    }

    /// `mit-b3`: 47.2 million weights.
    pub const fn mit_b3(num_labels: usize) -> Self {
        Self::published(num_labels, [64, 128, 320, 512], [3, 4, 18, 3], 768)
    }

    /// `mit-b4`: 64.0 million weights.
    pub const fn mit_b4(num_labels: usize) -> Self {
        Self::published(num_labels, [64, 128, 320, 512], [3, 8, 27, 3], 768)
    }

    /// `mit-b5`: 84.6 million weights.
    pub const fn mit_b5(num_labels: usize) -> Self {
        Self::published(num_labels, [64, 128, 320, 512], [3, 6, 40, 3], 768)
    }

    const fn published(num_labels: usize, hidden_sizes: [usize; 4], depths: [usize; 4], decoder: usize) -> Self {
        Self {
            num_labels,
            hidden_sizes,
            depths,
            num_attention_heads: [1, 2, 5, 8],
            sr_ratios: [8, 4, 2, 1],
            mlp_ratios: [4; 4],
            patch_sizes: [7, 3, 3, 3],
            strides: [4, 2, 2, 2],
            decoder_hidden_size: decoder,
            layer_norm_eps: 1e-5,
            drop_path_rate: 0.1,
            hidden_dropout: 0.0,
            classifier_dropout: 0.1,
        }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field that is out of its range.
    pub fn validate(&self) -> Result<()> {
        in_range("num_labels", self.num_labels, [2, 255])?;
        in_range("decoder_hidden_size", self.decoder_hidden_size, [1, WIDEST])?;
        for stage in 0..4 {
            let width = self.hidden_sizes[stage];
            in_range("hidden_sizes", width, [1, WIDEST])?;
            in_range("depths", self.depths[stage], [1, 256])?;
            in_range("sr_ratios", self.sr_ratios[stage], [1, 64])?;
            in_range("mlp_ratios", self.mlp_ratios[stage], [1, 64])?;
            in_range("patch_sizes", self.patch_sizes[stage], [1, 64])?;
            in_range("strides", self.strides[stage], [1, 64])?;
            let heads = self.num_attention_heads[stage];
            if heads == 0 || !width.is_multiple_of(heads) {
                let reason = format!("{heads} heads do not divide the {width} channels of stage {stage}");
                return Err(Error::parameter("num_attention_heads", reason));
            }
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            let reason = format!("{}; expected a number above 0 and below 1", self.layer_norm_eps);
            return Err(Error::parameter("layer_norm_eps", reason));
        }
        let shares = [
            ("drop_path_rate", self.drop_path_rate),
            ("hidden_dropout", self.hidden_dropout),
            ("classifier_dropout", self.classifier_dropout),
        ];
        match shares.into_iter().find(|(_, share)| !(0.0..1.0).contains(share)) {
            Some((name, share)) => Err(Error::parameter(name, format!("{share}; expected 0 to below 1"))),
            None => Ok(()),
        }
    }

    /// Rows and columns of the four stages' maps for an image of so many rows and columns.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when a map has no position, or too few to make one key of.
    pub(super) fn grids(&self, image: [usize; 2]) -> Result<[[usize; 2]; 4]> {
        let mut sides = image;
        let mut grids = [[0; 2]; 4];
        for (stage, grid) in grids.iter_mut().enumerate() {
            let (patch, stride) = (self.patch_sizes[stage], self.strides[stage]);
            for side in &mut sides {
                let room = (*side + patch / 2 * 2).checked_sub(patch).filter(|_| *side > 0);
                *side = room.map_or(0, |room| room / stride + 1);
                if *side < self.sr_ratios[stage] {
                    let [height, width] = image;
                    let reason = format!(
                        "{width}x{height} pixels are too few: the map of stage {stage} has less than the {} rows and \
                         columns that make one key",
                        self.sr_ratios[stage]
                    );
                    return Err(Error::input("image", reason));
                }
            }
            *grid = sides;
        }
        Ok(grids)
    }

    /// The share of samples that leave out block `index`, counted over all stages.
    pub(super) fn drop_path(&self, index: usize) -> f64 {
        let last = self.depths.iter().sum::<usize>().saturating_sub(1).max(1);
        self.drop_path_rate * index as f64 / last as f64
    }
}

/// Most channels of a layer.
const WIDEST: usize = 1 << 14;

fn in_range(name: &str, value: usize, [least, most]: [usize; 2]) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::parameter(name, format!("{value}; expected {least} to {most}")))
}

impl Default for SegFormerConfig {
    fn default() -> Self {
        Self::mit_b0(150)
    }
}
