//! What the configuration files beside a checkpoint tell, that no shape does.

use std::path::Path;

use coral_core::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use super::config::{ClipActivation, ClipConfig};
use super::preprocess::ClipPreprocess;
use crate::weights::{beside, read_json};

/// What `open_clip` writes.
const OPEN_CLIP: &str = "open_clip_config.json";

impl ClipConfig {
    /// Takes heads and activation from the `config.json` (`transformers`) or `open_clip_config.json` beside a checkpoint;
    /// says whether one is of this network.
    pub(super) fn adopt_neighbours(&mut self, checkpoint: &Path) -> Result<bool> {
        let path = beside(checkpoint, "config.json");
        if read_json(&path)?.is_some_and(|json| json["model_type"] == "clip") {
            return Ok(self.adopt(&Self::from_transformers_json(&path)?, &path));
        }
        let path = beside(checkpoint, OPEN_CLIP);
        let Some(json) = read_json(&path)? else { return Ok(false) };
        let told = OpenClip::of(&json).map_err(|reason| Error::format(&path, None, reason))?;
        let told = told.apply_to(self).map_err(|reason| Error::format(&path, None, reason))?;
        Ok(self.adopt(&told, &path))
    }

    /// Takes over what no shape tells, for towers of the same sizes.
    fn adopt(&mut self, told: &Self, path: &Path) -> bool {
        let mut with_heads = self.clone();
        if let (Some(ours), Some(theirs)) = (&mut with_heads.image, &told.image) {
            ours.heads = theirs.heads;
        }
        if let (Some(ours), Some(theirs)) = (&mut with_heads.text, &told.text) {
            ours.heads = theirs.heads;
        }
        let same = (with_heads.image.is_none() || with_heads.image == told.image)
            && (with_heads.text.is_none() || with_heads.text == told.text);
        match same {
            true => *self = Self { activation: told.activation, ..with_heads },
            false => tracing::warn!(path = %path.display(), "is for a network of other sizes, and is not used"),
        }
        same
    }
}

/// The part of `open_clip_config.json` that no shape tells, with the values that it leaves out.
struct OpenClip {
    activation: ClipActivation,
    /// Width of the image tower, and of its heads.
    image: Option<[usize; 2]>,
    /// Width of the text tower, and its heads.
    text: Option<[usize; 2]>,
}

impl OpenClip {
    fn of(json: &Value) -> std::result::Result<Self, String> {
        #[derive(Deserialize)]
        struct File {
            model_cfg: Model,
        }
        #[derive(Deserialize)]
        struct Model {
            #[serde(default)]
            quick_gelu: bool,
            vision_cfg: Option<Image>,
            text_cfg: Option<Text>,
        }
        #[derive(Deserialize)]
        struct Image {
            width: Option<usize>,
            head_width: Option<usize>,
        }
        #[derive(Deserialize)]
        struct Text {
            width: Option<usize>,
            heads: Option<usize>,
        }
        let File { model_cfg: Model { quick_gelu, vision_cfg, text_cfg } } =
            File::deserialize(json).map_err(|error| error.to_string())?;
        Ok(Self {
            // It takes GELU where its file does not ask for OpenAI's.
            activation: if quick_gelu { ClipActivation::QuickGelu } else { ClipActivation::Gelu },
            image: vision_cfg.map(|image| [image.width.unwrap_or(768), image.head_width.unwrap_or(64)]),
            text: text_cfg.map(|text| [text.width.unwrap_or(512), text.heads.unwrap_or(8)]),
        })
    }

    /// The network of these widths, otherwise like `config`.
    fn apply_to(&self, config: &ClipConfig) -> std::result::Result<ClipConfig, String> {
        let mut told = ClipConfig { activation: self.activation, ..config.clone() };
        if let (Some(image), Some([width, head])) = (&mut told.image, self.image) {
            if head == 0 || !width.is_multiple_of(head) {
                return Err(format!("`vision_cfg.head_width`: {head} does not divide the width {width}"));
            }
            (image.width, image.heads) = (width, width / head);
        }
        if let (Some(text), Some([width, heads])) = (&mut told.text, self.text) {
            if heads == 0 || !width.is_multiple_of(heads) {
                return Err(format!("`text_cfg.heads`: {heads} does not divide the width {width}"));
            }
            (text.width, text.heads) = (width, heads);
        }
        Ok(told)
    }
}

impl ClipPreprocess {
    /// The statistics that the `preprocessor_config.json` (`transformers`) or `open_clip_config.json` beside a checkpoint
    /// tells, the published ones without.
    pub(super) fn beside(checkpoint: &Path, size: u32) -> Result<Self> {
        let mut preprocess = Self::new(size);
        let (name, json, fields) = match read_json(&beside(checkpoint, "preprocessor_config.json"))? {
            Some(json) => ("preprocessor_config.json", json, ["image_mean", "image_std"]),
            None => match read_json(&beside(checkpoint, OPEN_CLIP))? {
                Some(json) => (OPEN_CLIP, json["preprocess_cfg"].clone(), ["mean", "std"]),
                None => return Ok(preprocess),
            },
        };
        let path = beside(checkpoint, name);
        let wrong = |field: &str, reason: String| Error::format(&path, None, format!("field `{field}`: {reason}"));
        for (place, field) in [&mut preprocess.mean, &mut preprocess.std].into_iter().zip(fields) {
            if !json[field].is_null() {
                *place = <[f32; 3]>::deserialize(&json[field]).map_err(|error| wrong(field, error.to_string()))?;
            }
        }
        // 3 is Pillow's number of it.
        let usual: [(&str, Value); 3] =
            [("resample", 3.into()), ("interpolation", "bicubic".into()), ("resize_mode", "shortest".into())];
        for (field, usual) in usual {
            let value = &json[field];
            if !value.is_null() && *value != usual {
                let reason = format!("{value}; expected {usual}, else give the parts to `ClipEncoder::new`");
                return Err(wrong(field, reason));
            }
        }
        preprocess.validate().map_err(|error| Error::format(&path, None, error.to_string()))?;
        Ok(preprocess)
    }
}
