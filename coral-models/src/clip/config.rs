use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::ops::Activation;

/// The shape of a CLIP network with a vision transformer.
///
/// Everything but the attention heads and the activation can be read off a checkpoint
/// ([`ClipConfig::from_checkpoint`]). A tower that is `None` is neither read nor kept in memory.
///
/// # Examples
/// ```
/// use coral_models::{ClipActivation, ClipConfig};
/// let laion = ClipConfig { activation: ClipActivation::Gelu, ..ClipConfig::vit_b32() };
/// assert_eq!(laion.image.unwrap().grid(), 7);
/// let texts_only = ClipConfig { image: None, ..ClipConfig::vit_l14() };
/// assert_eq!(texts_only.embed_dim, 768);
/// ```
///
/// # References
/// Radford et al., *Learning Transferable Visual Models From Natural Language Supervision*, ICML 2021.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipConfig {
    /// The image tower.
    pub image: Option<ClipImageConfig>,
    /// The text tower.
    pub text: Option<ClipTextConfig>,
    /// Width of the space that images and texts share, E (512, 768).
    pub embed_dim: usize,
    /// The non-linearity of both towers.
    pub activation: ClipActivation,
}

/// CLIP's image tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipImageConfig {
    /// Side of the square images that it was trained on, in pixels (224, 336).
    pub image_size: usize,
    /// Pixels along a patch's side (32, 16, 14).
    pub patch: usize,
    /// Token width (768, 1024).
    pub width: usize,
    /// Blocks (12, 24).
    pub layers: usize,
    /// Attention heads; width / 64 in OpenAI's networks, 16 in those of `open_clip` that are wider than 1024.
    pub heads: usize,
    /// Hidden width of the perceptrons (4 × width).
    pub mlp_width: usize,
}

/// CLIP's text tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipTextConfig {
    /// Most tokens of a text, begin and end included (77).
    pub context_length: usize,
    /// Tokens that there are (49,408).
    pub vocab_size: usize,
    /// Token width (512, 768).
    pub width: usize,
    /// Blocks (12).
    pub layers: usize,
    /// Attention heads; width / 64 in the published networks.
    pub heads: usize,
    /// Hidden width of the perceptrons (4 × width).
    pub mlp_width: usize,
}

/// The non-linearity of CLIP's perceptrons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ClipActivation {
    /// x σ(1.702 x): OpenAI's networks.
    #[default]
    QuickGelu,
    /// x Φ(x): most networks of `open_clip`, e.g. those trained on LAION's images.
    Gelu,
}

impl ClipActivation {
    pub(super) fn op(self) -> Activation {
        match self {
            Self::QuickGelu => Activation::QuickGelu,
            Self::Gelu => Activation::Gelu,
        }
    }
}

/// Widths of `open_clip`'s largest image towers (ViT-H, g, G, e), whose 16 heads are wider than 64.
const WIDE: [usize; 4] = [1280, 1408, 1664, 1792];

/// Heads of the published image towers.
pub(super) fn image_heads(width: usize) -> usize {
    if WIDE.contains(&width) { 16 } else { (width / 64).max(1) }
}

/// Heads of the published text towers.
pub(super) fn text_heads(width: usize) -> usize {
    (width / 64).max(1)
}

impl ClipConfig {
    /// OpenAI's ViT-B/32 (151 M weights).
    pub fn vit_b32() -> Self {
        Self::published((768, 12), (224, 32), 512)
    }

    /// OpenAI's ViT-B/16 (150 M weights).
    pub fn vit_b16() -> Self {
        Self::published((768, 12), (224, 16), 512)
    }

    /// OpenAI's ViT-L/14 (428 M weights).
    pub fn vit_l14() -> Self {
        Self::published((1024, 24), (224, 14), 768)
    }

    /// OpenAI's ViT-L/14 on images of 336 pixels.
    pub fn vit_l14_336() -> Self {
        Self::published((1024, 24), (336, 14), 768)
    }

    fn published((width, layers): (usize, usize), (image_size, patch): (usize, usize), embed_dim: usize) -> Self {
        let image =
            ClipImageConfig { image_size, patch, width, layers, heads: image_heads(width), mlp_width: 4 * width };
        // The text towers are as wide as the shared space.
        let text = ClipTextConfig {
            context_length: 77,
            vocab_size: 49_408,
            width: embed_dim,
            layers: 12,
            heads: text_heads(embed_dim),
            mlp_width: 4 * embed_dim,
        };
        Self { image: Some(image), text: Some(text), embed_dim, activation: ClipActivation::QuickGelu }
    }

    /// Says which tower has a width of which no heads are known.
    pub(super) fn expect_usual_widths(&self) -> std::result::Result<(), String> {
        let usual = |width: usize, widest: usize| width < 64 || (width.is_multiple_of(64) && width <= widest);
        let image = self.image.as_ref().map(|image| image.width);
        let text = self.text.as_ref().map(|text| text.width);
        let unknown = image.filter(|&width| !usual(width, 1024) && !WIDE.contains(&width));
        match unknown.or(text.filter(|&width| !usual(width, 1280))) {
            Some(width) => Err(format!(
                "a tower of width {width}, and no shape tells its heads; expected an `open_clip_config.json` or \
                 `config.json` of it beside the file, or a configuration given to `Clip::load`"
            )),
            None => Ok(()),
        }
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        expect_sizes(&[("embed_dim", self.embed_dim)])?;
        if self.image.is_none() && self.text.is_none() {
            return Err(Error::parameter("image", "expected a tower, got neither one for images nor one for texts"));
        }
        if let Some(image) = &self.image {
            image.validate()?;
        }
        self.text.as_ref().map_or(Ok(()), ClipTextConfig::validate)
    }
}

impl ClipImageConfig {
    /// Patches along the side of an image of [`image_size`](Self::image_size).
    pub fn grid(&self) -> usize {
        self.image_size / self.patch.max(1)
    }

    fn validate(&self) -> Result<()> {
        expect_sizes(&[
            ("image.image_size", self.image_size),
            ("image.patch", self.patch),
            ("image.width", self.width),
            ("image.layers", self.layers),
            ("image.mlp_width", self.mlp_width),
        ])?;
        if !self.image_size.is_multiple_of(self.patch) || self.grid() > LARGEST_GRID {
            let reason = format!(
                "expected a multiple of the patch ({}) up to {LARGEST_GRID} patches, got {}",
                self.patch, self.image_size
            );
            return Err(Error::parameter("image.image_size", reason));
        }
        expect_heads("image.heads", self.heads, self.width)
    }
}

impl ClipTextConfig {
    fn validate(&self) -> Result<()> {
        expect_sizes(&[
            ("text.vocab_size", self.vocab_size),
            ("text.width", self.width),
            ("text.layers", self.layers),
            ("text.mlp_width", self.mlp_width),
        ])?;
        if !(2..=LARGEST_CONTEXT).contains(&self.context_length) {
            let reason = format!("expected 2 to {LARGEST_CONTEXT}, got {}", self.context_length);
            return Err(Error::parameter("text.context_length", reason));
        }
        expect_heads("text.heads", self.heads, self.width)
    }
}

/// Most patches along an image's side; attention on more would take days.
pub(super) const LARGEST_GRID: usize = 1 << 8;
/// Most tokens of a text.
const LARGEST_CONTEXT: usize = 1 << 13;
/// Largest width, depth or count, far beyond any network; keeps products of sizes from overflowing.
const LARGEST: usize = 1 << 20;

fn expect_sizes(sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
        Some((name, size)) => Err(Error::parameter(*name, format!("expected 1 to {LARGEST}, got {size}"))),
        None => Ok(()),
    }
}

fn expect_heads(name: &str, heads: usize, width: usize) -> Result<()> {
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(Error::parameter(name, format!("{heads} heads do not divide the width {width}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_networks_are_valid() {
        for (config, grid) in [
            (ClipConfig::vit_b32(), 7),
            (ClipConfig::vit_b16(), 14),
            (ClipConfig::vit_l14(), 16),
            (ClipConfig::vit_l14_336(), 24),
        ] {
            config.validate().unwrap();
            assert_eq!(config.image.as_ref().unwrap().grid(), grid);
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<ClipConfig>(&json).unwrap(), config);
        }
        let text = ClipConfig::vit_l14().text.unwrap();
        assert_eq!((text.width, text.heads), (768, 12));
    }

    #[test]
    fn heads_of_unknown_widths_are_not_guessed() {
        let with = |image_width: usize, text_width: usize| {
            let mut config = ClipConfig::vit_b32();
            config.image.as_mut().unwrap().width = image_width;
            config.text.as_mut().unwrap().width = text_width;
            config.expect_usual_widths()
        };
        // open_clip's ViT-S, B, L, H, g, G and e.
        let heads = [384, 768, 1024, 1280, 1408, 1664, 1792].map(|width| {
            with(width, 512).unwrap();
            image_heads(width)
        });
        assert_eq!(heads, [6, 12, 16, 16, 16, 16, 16]);
        assert!(with(1536, 512).unwrap_err().contains("width 1536") && with(700, 512).is_err());
        assert!(with(768, 1280).is_ok() && with(768, 1344).is_err());
    }

    #[test]
    fn impossible_configurations_name_the_field() {
        let invalid = |change: fn(&mut ClipConfig)| {
            let mut config = ClipConfig::vit_b32();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(invalid(|c| c.embed_dim = 0).contains("`embed_dim`"));
        assert!(invalid(|c| c.image.as_mut().unwrap().heads = 7).contains("7 heads do not divide the width 768"));
        assert!(invalid(|c| c.image.as_mut().unwrap().image_size = 230).contains("multiple of the patch (32)"));
        assert!(invalid(|c| c.image.as_mut().unwrap().patch = 0).contains("`image.patch`"));
        assert!(invalid(|c| c.text.as_mut().unwrap().context_length = 1).contains("`text.context_length`"));
        assert!(invalid(|c| c.text.as_mut().unwrap().heads = 0).contains("`text.heads`"));
        assert!(invalid(|c| (c.image, c.text) = (None, None)).contains("neither"));
    }
}
