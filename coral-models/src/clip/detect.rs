//! Reading a network's shape off a checkpoint, or off the configuration of `transformers`.

use std::path::Path;

use coral_core::{Error, Result};
use serde::Deserialize;

use super::config::{ClipActivation, ClipConfig, ClipImageConfig, ClipTextConfig, image_heads, text_heads};
use super::names::{LOGIT_SCALE, Naming};
use crate::Checkpoint;
use crate::weights::{lacking, read_off, sides, square_grid};

impl ClipConfig {
    /// Reads the configuration off the tensor shapes of a checkpoint with the names of the original program,
    /// `open_clip` or `transformers`; a checkpoint of one tower alone gives a configuration of that tower.
    ///
    /// Shapes tell neither the heads, taken as those of the published networks of the same widths (16 in `open_clip`'s
    /// image towers wider than 1024, else width / 64), nor the activation, taken as OpenAI's. Set `heads` for a network
    /// of one's own.
    ///
    /// # Errors
    /// [`Error::Weights`] with the likely cause when it holds no CLIP with a vision transformer, [`Error::Format`]
    /// naming the tensor with an impossible shape, or the part that does not fit the others.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let Some(naming) = Naming::of(|name| checkpoint.contains(name)) else {
            return Err(no_clip(checkpoint));
        };
        read_off(checkpoint, || {
            let config = Shapes { checkpoint, naming }.config()?;
            config.validate()?;
            Ok(config)
        })
    }

    /// Reads a `config.json` as the Python library `transformers` writes it for CLIP.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Format`] when it is for another model or its sizes do not fit
    /// each other.
    pub fn from_transformers_json(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        parse_transformers(&text).map_err(|reason| Error::format(path, None, reason))
    }

    /// [`from_checkpoint`](Self::from_checkpoint), with heads and activation from the files beside it.
    pub(super) fn from_checkpoint_and_neighbours(checkpoint: &Checkpoint) -> Result<Self> {
        let mut config = Self::from_checkpoint(checkpoint)?;
        if !config.adopt_neighbours(checkpoint.path())? {
            config.expect_usual_widths().map_err(|reason| Error::format(checkpoint.path(), None, reason))?;
        }
        Ok(config)
    }
}

/// Says what a checkpoint without CLIP's class token and token embedding may be.
fn no_clip(checkpoint: &Checkpoint) -> Error {
    let names = Naming::OpenAi;
    let mut error = lacking(checkpoint, &[names.image().class, names.text().tokens]);
    let starts = |start: &str| checkpoint.names().any(|name| name.starts_with(start));
    let known = [
        ("visual.attnpool.", "the file is a CLIP with a residual network; expected a vision transformer"),
        ("vision_model.head.", "the file is a SigLIP checkpoint; expected CLIP"),
        ("visual.trunk.", "the file is an open_clip network with an image tower of timm; expected CLIP's own"),
        ("text.transformer.", "the file is an open_clip network with a text tower of its own kind; expected CLIP's"),
    ];
    if let Error::Weights { cause, .. } = &mut error
        && let Some((_, told)) = known.iter().find(|(start, _)| starts(start))
    {
        *cause = Some((*told).to_owned());
    }
    error
}

struct Shapes<'a> {
    checkpoint: &'a Checkpoint,
    naming: Naming,
}

impl Shapes<'_> {
    fn config(&self) -> Result<ClipConfig> {
        let has = |name: &str| self.checkpoint.contains(name);
        let image = self.naming.has_image(has).then(|| self.image()).transpose()?;
        let text = self.naming.has_text(has).then(|| self.text()).transpose()?;
        let tower = if image.is_some() { &self.naming.image().tower } else { &self.naming.text().tower };
        let [first, second] = sides(self.checkpoint, tower.projection)?;
        let embed_dim = if tower.projection_transposed { second } else { first };
        if image.is_some() && text.is_some() && !has(LOGIT_SCALE) {
            return Err(lacking(self.checkpoint, &[LOGIT_SCALE]));
        }
        Ok(ClipConfig { image, text, embed_dim, activation: ClipActivation::default() })
    }

    fn image(&self) -> Result<ClipImageConfig> {
        let names = self.naming.image();
        let [width, _, patch, _] = sides(self.checkpoint, names.patches)?;
        let [positions, _] = sides(self.checkpoint, names.tower.positions)?;
        let grid = square_grid(names.tower.positions, positions)?;
        let (layers, mlp_width) = self.blocks(names.tower.blocks)?;
        let image_size = grid.saturating_mul(patch);
        Ok(ClipImageConfig { image_size, patch, width, layers, heads: image_heads(width), mlp_width })
    }

    fn text(&self) -> Result<ClipTextConfig> {
        let names = self.naming.text();
        let [vocab_size, width] = sides(self.checkpoint, names.tokens)?;
        let [context_length, _] = sides(self.checkpoint, names.tower.positions)?;
        let (layers, mlp_width) = self.blocks(names.tower.blocks)?;
        Ok(ClipTextConfig { context_length, vocab_size, width, layers, heads: text_heads(width), mlp_width })
    }

    /// How many blocks there are, and how wide their perceptrons.
    fn blocks(&self, start: &str) -> Result<(usize, usize)> {
        let first = format!("{}.weight", self.naming.block().mlp[0]);
        let [mlp_width, _] = sides(self.checkpoint, &format!("{start}.0.{first}"))?;
        let present = |i: &usize| self.checkpoint.contains(&format!("{start}.{i}.{first}"));
        Ok(((0..).take_while(present).count(), mlp_width))
    }
}

/// `config.json` of `transformers`, with the values that it leaves out.
#[derive(Deserialize)]
#[serde(default)]
struct Transformers {
    model_type: String,
    projection_dim: usize,
    text_config: TransformersTower,
    vision_config: TransformersTower,
}

impl Default for Transformers {
    fn default() -> Self {
        let (text_config, vision_config) = Default::default();
        Self { model_type: String::new(), projection_dim: 512, text_config, vision_config }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TransformersTower {
    hidden_act: Option<String>,
    hidden_size: Option<usize>,
    image_size: Option<usize>,
    intermediate_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    num_attention_heads: Option<usize>,
    num_hidden_layers: Option<usize>,
    patch_size: Option<usize>,
    vocab_size: Option<usize>,
}

fn parse_transformers(text: &[u8]) -> std::result::Result<ClipConfig, String> {
    let json: Transformers = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if json.model_type != "clip" {
        return Err(format!("`model_type`: expected clip, got `{}`", json.model_type));
    }
    let (text, vision) = (&json.text_config, &json.vision_config);
    let activation = |tower: &TransformersTower| match tower.hidden_act.as_deref() {
        None | Some("quick_gelu") => Ok(ClipActivation::QuickGelu),
        Some("gelu") => Ok(ClipActivation::Gelu),
        Some(other) => Err(format!("`hidden_act`: expected quick_gelu or gelu, got `{other}`")),
    };
    let (activation, of_text) = (activation(vision)?, activation(text)?);
    if activation != of_text {
        return Err("`hidden_act`: the towers have different ones; expected the same".to_owned());
    }
    let image = ClipImageConfig {
        image_size: vision.image_size.unwrap_or(224),
        patch: vision.patch_size.unwrap_or(32),
        width: vision.hidden_size.unwrap_or(768),
        layers: vision.num_hidden_layers.unwrap_or(12),
        heads: vision.num_attention_heads.unwrap_or(12),
        mlp_width: vision.intermediate_size.unwrap_or(3072),
    };
    let text = ClipTextConfig {
        context_length: text.max_position_embeddings.unwrap_or(77),
        vocab_size: text.vocab_size.unwrap_or(49_408),
        width: text.hidden_size.unwrap_or(512),
        layers: text.num_hidden_layers.unwrap_or(12),
        heads: text.num_attention_heads.unwrap_or(8),
        mlp_width: text.intermediate_size.unwrap_or(2048),
    };
    let config = ClipConfig { image: Some(image), text: Some(text), embed_dim: json.projection_dim, activation };
    config.validate().map_err(|error| error.to_string())?;
    Ok(config)
}
