use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use coral_core::image::RgbImage;
use coral_core::ndarray::Array2;
use coral_core::{Error, MultiLabelClassifier, Result};
use serde::Deserialize;
use serde_json::Value;

use super::config::DinoV2Config;
use super::encoder::{DinoV2Encoder, DinoV2EncoderConfig};
use super::frame_head::{FrameHead, FrameHeadInfo};
use super::head::MultiLabelHeadConfig;
use super::network::DinoV2;
use super::preprocess::InputSize;
use crate::Checkpoint;
use crate::weights::{beside, read_json};

/// Photographs to the probabilities of any number of classes that each may show: a frozen DINOv2 and a trained head on its
/// class token and mean patch token.
///
/// # Examples
/// ```no_run
/// use coral_core::MultiLabelClassifier;
/// use coral_core::image::RgbImage;
/// use coral_models::FrameClassifier;
/// let classifier = FrameClassifier::open_dinovdeau("DinoVdeau-large")?;
/// let probabilities = classifier.probabilities(&[RgbImage::new(4000, 3000)])?;
/// let present = classifier.head().decide(probabilities.view())?;
/// for (name, present) in classifier.head().info().class_names.iter().zip(present.row(0)) {
///     println!("{name}: {present}");
/// }
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// SeatizenDOI/DinoVdeau; features, logits and probabilities agree within 2e-5 on equal pixels.
#[derive(Debug, Clone)]
pub struct FrameClassifier {
    encoder: DinoV2Encoder,
    head: FrameHead,
}

impl FrameClassifier {
    /// Puts a head on the encoder that its features came from.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the head is for features of another width, or was trained on those of another
    /// encoder ([`FrameHeadInfo::encoder`]).
    pub fn new(encoder: DinoV2Encoder, head: FrameHead) -> Result<Self> {
        let (width, inputs) = (2 * encoder.network().config().width, head.network().config().inputs);
        if width != inputs {
            let reason = format!("takes {inputs} features, but the encoder gives {width}");
            return Err(Error::parameter("head", reason));
        }
        if let Some(expected) = &head.info().encoder {
            let actual = encoder.fingerprint()?;
            if *expected != actual {
                let reason = format!(
                    "was trained on the features of encoder {expected} ({}), got encoder {actual}",
                    head.info().encoder_name
                );
                return Err(Error::parameter("head", reason));
            }
        }
        Ok(Self { encoder, head })
    }

    /// Opens a folder as DinoVdeau publishes its networks: encoder and head in `model.safetensors` (or
    /// `pytorch_model.bin`), class names in `config.json`, thresholds in `threshold.json` and the side of the images in
    /// `preprocessor_config.json`, of which the last two may be missing.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] naming the file that cannot be read or does not fit the others;
    /// [`Error::Weights`] when the network is another one.
    pub fn open_dinovdeau(folder: impl AsRef<Path>) -> Result<Self> {
        let checkpoint = Checkpoint::open(folder)?;
        let head = FrameHead::load(&checkpoint, MultiLabelHeadConfig::from_checkpoint(&checkpoint)?)?;
        let network =
            DinoV2::load(&checkpoint, DinoV2Config::from_checkpoint_and_neighbour(&checkpoint)?, &Device::Cpu)?;
        let classes = head.network().config().classes;
        let class_names = class_names(checkpoint.path(), classes)?;
        let info = FrameHeadInfo {
            thresholds: thresholds(checkpoint.path(), &class_names)?,
            class_names,
            encoder_name: "the encoder of the same file".to_owned(),
            encoder: None,
        };
        let size = input_size(checkpoint.path())?.unwrap_or(InputSize::Square(network.config().image_size as u32));
        let config = DinoV2EncoderConfig { size, ..DinoV2EncoderConfig::default() };
        let encoder = DinoV2Encoder::new(network).with_config(config);
        let wrong = |error: Error| Error::format(checkpoint.path(), None, error.to_string());
        Self::new(encoder.map_err(wrong)?, head.with_info(info).map_err(wrong)?).map_err(wrong)
    }

    /// The encoder.
    pub fn encoder(&self) -> &DinoV2Encoder {
        &self.encoder
    }

    /// The head, its class names and thresholds.
    pub fn head(&self) -> &FrameHead {
        &self.head
    }
}

impl MultiLabelClassifier for FrameClassifier {
    fn num_classes(&self) -> usize {
        self.head.network().config().classes
    }

    fn probabilities(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
        self.head.probabilities(self.encoder.linear_input(images)?.view())
    }
}

/// The names by number in `id2label` of `config.json`; none where there is no such file or field.
fn class_names(checkpoint: &Path, classes: usize) -> Result<Vec<String>> {
    let path = beside(checkpoint, "config.json");
    let Some(json) = read_json(&path)?.filter(|json| !json["id2label"].is_null()) else { return Ok(Vec::new()) };
    let wrong = |reason: String| Error::format(&path, None, format!("field `id2label`: {reason}"));
    let names = BTreeMap::<usize, String>::deserialize(&json["id2label"]).map_err(|error| wrong(error.to_string()))?;
    if !names.keys().copied().eq(0..classes) {
        return Err(wrong(format!("expected names of 0 to {}, got {} names", classes - 1, names.len())));
    }
    Ok(names.into_values().collect())
}

/// The threshold of every class in `threshold.json`, or none at all without that file.
fn thresholds(checkpoint: &Path, class_names: &[String]) -> Result<Vec<Option<f64>>> {
    let path = beside(checkpoint, "threshold.json");
    let Some(json) = read_json(&path)? else { return Ok(Vec::new()) };
    let wrong = |reason: String| Error::format(&path, None, reason);
    let by_name = BTreeMap::<String, f64>::deserialize(&json).map_err(|error| wrong(error.to_string()))?;
    if let Some(unknown) = by_name.keys().find(|name| !class_names.contains(name)) {
        return Err(wrong(format!("`{unknown}` is no class of the network")));
    }
    let of = |name: &String| match by_name.get(name) {
        Some(&threshold) => Ok(Some(threshold)),
        None => Err(wrong(format!("no threshold of `{name}`"))),
    };
    class_names.iter().map(of).collect()
}

/// The square of `preprocessor_config.json`, where it tells one.
fn input_size(checkpoint: &Path) -> Result<Option<InputSize>> {
    let path = beside(checkpoint, "preprocessor_config.json");
    let Some(json) = read_json(&path)? else { return Ok(None) };
    let side = |name: &str| json["size"][name].as_u64().and_then(|side| u32::try_from(side).ok());
    match (side("height"), side("width")) {
        (Some(height), Some(width)) if height == width && json["do_center_crop"] != Value::Bool(true) => {
            Ok(Some(InputSize::Square(height)))
        }
        _ => {
            let reason = "expected `size` with equal `height` and `width` and no `do_center_crop`, else put the parts \
                          together with `FrameClassifier::new`";
            Err(Error::format(&path, None, reason))
        }
    }
}
