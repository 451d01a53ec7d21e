use std::path::{Path, PathBuf};

use clap::Args;
use coral_core::{ClassSet, Error, Result};
use coral_io::read_class_set;
use coral_models::candle_core::Device;
use coral_models::{CORALSCOP_WEIGHTS_PAGE, Checkpoint, ClipEncoder, Predictor, Sam, SamConfig, TunedHead};

/// Where published weights are and how to hand them over.
pub fn weights_help() -> String {
    format!(
        "\
Weights are downloaded once, from those who published them:
  CoralSCOP (finds corals): `vit_b_coralscop.pth`, which its authors link on
    {CORALSCOP_WEIGHTS_PAGE}
  Segment Anything (finds objects of any kind): `model.safetensors` of `facebook/sam-vit-base` on
    https://huggingface.co/facebook/sam-vit-base, or `sam_vit_b_01ec64.pth`, linked on
    https://github.com/facebookresearch/segment-anything#model-checkpoints
Then pass the file, e.g. --weights vit_b_coralscop.pth"
    )
}

/// Which network of the Segment Anything family a program works with.
#[derive(Debug, Clone, Default, Args)]
pub struct NetworkArguments {
    /// The weights of CoralSCOP or Segment Anything: a `.pth` or `.safetensors` file, or a folder of a model hub.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Classes of one's own on top of the weights, tuned by `tune_coralscop`.
    #[arg(long, value_name = "HEAD", conflicts_with_all = ["decoder_heads", "image_size"])]
    pub head: Option<PathBuf>,
    /// Attention heads of the mask decoder, which published weights do not tell; 8 in all of them.
    #[arg(long, value_name = "N")]
    pub decoder_heads: Option<usize>,
    /// Side of the network's input in pixels, if another than it was trained with (1024 in published files).
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<usize>,
}

impl NetworkArguments {
    /// Opens the weights, with the head where there is one.
    ///
    /// # Errors
    /// Those of [`checkpoint`](Self::checkpoint) and of [`Sam::load`]; those of [`TunedHead::open`] and
    /// [`TunedHead::load_onto`].
    pub fn open(&self) -> Result<Predictor> {
        let (checkpoint, config) = self.checkpoint()?;
        let sam = match &self.head {
            Some(head) => TunedHead::open(head)?.load_onto(&checkpoint, &Device::Cpu)?,
            None => Sam::load(&checkpoint, config, &Device::Cpu)?,
        };
        Ok(Predictor::new(sam))
    }

    /// The classes of the masks: those of the table, else those of the head, else [`network_classes`].
    ///
    /// # Errors
    /// Those of [`network_classes`] and [`TunedHead::open`].
    pub fn classes(&self, network: &SamConfig, table: Option<&Path>) -> Result<ClassSet> {
        match &self.head {
            Some(head) if table.is_none() => Ok(TunedHead::open(head)?.classes().clone()),
            _ => network_classes(network, table),
        }
    }

    /// The file of the weights, and the network that they belong to.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] or [`Error::Io`] with [`weights_help`] when there are none, else those of
    /// [`Checkpoint::open`] and [`SamConfig::from_checkpoint`].
    pub fn checkpoint(&self) -> Result<(Checkpoint, SamConfig)> {
        let Some(path) = &self.weights else {
            return Err(Error::parameter("weights", format!("--weights is needed.\n{}", weights_help())));
        };
        if let Err(error) = std::fs::metadata(path) {
            let text = format!("{error}.\n{}", weights_help());
            return Err(Error::io(path, std::io::Error::new(error.kind(), text)));
        }
        let checkpoint = Checkpoint::open(path)?.with_original_sam_names()?;
        let detected = SamConfig::from_checkpoint(&checkpoint)?;
        let config = SamConfig {
            decoder_heads: self.decoder_heads.unwrap_or(detected.decoder_heads),
            image_size: self.image_size.unwrap_or(detected.image_size),
            ..detected
        };
        Ok((checkpoint, config))
    }
}

/// The classes of a network's masks: those of the table, or else `background` and `coral` for two classes, numbers for
/// more, and `object` for a network that knows no classes.
///
/// # Errors
/// [`Error::InvalidParameter`] naming `classes` when the table lacks a class of the network; those of
/// [`read_class_set`].
///
/// # Examples
/// ```
/// use coral_examples::network_classes;
/// use coral_models::SamConfig;
/// assert_eq!(network_classes(&SamConfig::coralscop(2), None)?.name(1), "coral");
/// assert_eq!(network_classes(&SamConfig::vit_b(), None)?.name(0), "object");
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn network_classes(network: &SamConfig, table: Option<&Path>) -> Result<ClassSet> {
    let count = network.semantic.map_or(1, |semantic| semantic.classes.min(255)) as u8;
    let Some(path) = table else {
        return match (network.semantic, count) {
            (None, _) => ClassSet::from_names(["object"]),
            (Some(_), 2) => ClassSet::from_names(["background", "coral"]),
            _ => Ok(ClassSet::from_ids(0..count)),
        };
    };
    let classes = read_class_set(path)?;
    match (0..count).find(|&id| classes.get(id).is_none()) {
        Some(id) => {
            let reason = format!("{} has no class {id}; the network's are 0 to {}", path.display(), count - 1);
            Err(Error::parameter("classes", reason))
        }
        None => Ok(classes),
    }
}

/// CLIP from a file or folder, with the vocabulary beside it unless it is elsewhere.
///
/// # Errors
/// Those of [`ClipEncoder::open`].
pub fn open_clip(checkpoint: &Path, vocabulary: Option<&Path>) -> Result<ClipEncoder> {
    let beside = if checkpoint.is_dir() { checkpoint } else { checkpoint.parent().unwrap_or(checkpoint) };
    ClipEncoder::open(checkpoint, vocabulary.unwrap_or(beside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_weights_the_error_says_where_they_are() {
        let text = NetworkArguments::default().open().unwrap_err().to_string();
        assert!(text.starts_with("invalid parameter `weights`: --weights is needed.\n"), "{text}");
        let missing = NetworkArguments { weights: Some("gone.pth".into()), ..NetworkArguments::default() };
        let error = missing.open().unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("gone.pth")));
        assert!(error.to_string().starts_with("gone.pth: No such file"), "{error}");
        for text in [text, error.to_string()] {
            for place in ["github.com/zhengziqiang/CoralSCOP", "facebook/sam-vit-base", "sam_vit_b_01ec64.pth"] {
                assert!(text.contains(place), "{text}");
            }
        }
    }

    #[test]
    fn a_table_must_have_the_networks_classes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("classes.csv");
        std::fs::write(&path, "id,name\n0,ground\n1,Porites\n").unwrap();
        let of = |network: &SamConfig| network_classes(network, Some(&path));
        assert_eq!(of(&SamConfig::coralscop(2)).unwrap().name(1), "Porites");
        assert_eq!(of(&SamConfig::vit_b()).unwrap().name(0), "ground");
        let text = of(&SamConfig::coralscop(3)).unwrap_err().to_string();
        assert!(text.ends_with("classes.csv has no class 2; the network's are 0 to 2"), "{text}");
        assert_eq!(network_classes(&SamConfig::coralscop(4), None).unwrap().name(3), "3");
    }
}
