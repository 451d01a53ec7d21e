use std::fmt;
use std::path::Path;

use candle_core::Device;
use candle_nn::VarBuilder;
use coral_core::{ClassSet, Result, Size};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::config::SegFormerConfig;
use super::files::{self, SegFormerPart};
use super::fit::SegFormerFitConfig;
use super::model::SegFormer;
use crate::class_names::class_set;
use crate::train::{LoaderConfig, Settings, Trained, Trainer, TrainerConfig, check_size};
use crate::{Checkpoint, Parameters};

/// Settings of a [`SegFormerSegmenter`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegFormerSegmenterConfig {
    /// The network.
    pub network: SegFormerConfig,
    /// Images are resized to this size before the network sees them; `None` leaves them as they are. Results are in the
    /// image's own size in any case.
    #[serde(default)]
    pub image_size: Option<Size>,
    /// How training goes.
    #[serde(default)]
    pub training: SegFormerFitConfig,
    /// What the classes are called, by id; as many as there are classes, or none where that is unknown.
    #[serde(default)]
    pub class_names: Vec<String>,
}

impl SegFormerSegmenterConfig {
    /// This network on images as they are, trained as published.
    pub fn new(network: SegFormerConfig) -> Self {
        Self { network, image_size: None, training: SegFormerFitConfig::default(), class_names: Vec::new() }
    }

    /// The classes by their names, or by their numbers where names are unknown.
    ///
    /// # Errors
    /// [`coral_core::Error::InvalidParameter`] when there is not one name per class, or names repeat or are empty.
    pub fn class_set(&self) -> Result<ClassSet> {
        class_set(&self.class_names, self.network.num_labels)
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// [`coral_core::Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.network.validate()?;
        self.class_set()?;
        self.training.validate()?;
        self.image_size.map_or(Ok(()), |size| check_size("image_size", size))
    }
}

impl Settings for SegFormerSegmenterConfig {
    type Network = SegFormer;

    const KEY: &'static str = "coral_segformer_segmenter";

    fn validate(&self) -> Result<()> {
        Self::validate(self)
    }

    fn build(&self, vb: &VarBuilder<'_>) -> candle_core::Result<SegFormer> {
        SegFormer::new(&self.network, vb)
    }

    fn trainer(&self) -> TrainerConfig {
        self.training.trainer
    }

    fn loader(&mut self) -> &mut LoaderConfig {
        &mut self.training.loader
    }
}

/// A SegFormer that segments images of any size, and that can be trained.
///
/// It implements the traits `Segmenter` and `TrainSegmenter`. Images are normalised here; logits, at a quarter of the image's
/// resolution, are enlarged bilinearly.
///
/// # Examples
/// ```
/// use coral_core::{Segmenter, image::RgbImage};
/// use coral_models::candle_core::Device;
/// use coral_models::{SegFormerConfig, SegFormerSegmenter, SegFormerSegmenterConfig};
/// let network = SegFormerConfig { hidden_sizes: [8; 4], num_attention_heads: [1; 4], ..SegFormerConfig::mit_b0(3) };
/// let segmenter = SegFormerSegmenter::new(SegFormerSegmenterConfig::new(network), 7, &Device::Cpu)?;
/// let probabilities = segmenter.segment(&RgbImage::new(50, 34))?;
/// assert_eq!(probabilities.dim(), (3, 34, 50));
/// assert!((probabilities.sum() - 34.0 * 50.0).abs() < 0.1);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Xie et al., *SegFormer*, NeurIPS 2021; trained as in *The Point is the Mask*, ICCV-W 2025. Parity as for [`SegFormer`].
pub struct SegFormerSegmenter {
    pub(super) trained: Trained<SegFormerSegmenterConfig>,
}

impl SegFormerSegmenter {
    /// A network with initial values drawn from `seed`.
    ///
    /// # Errors
    /// [`coral_core::Error::InvalidParameter`] naming the setting that is out of range.
    pub fn new(config: SegFormerSegmenterConfig, seed: u64, device: &Device) -> Result<Self> {
        let trained = Trained::new(config, |config| Parameters::create(seed, device, |vb| config.build(&vb)))?;
        Ok(Self { trained })
    }

    /// A network that starts from a part of a checkpoint's weights; the others are drawn from `seed`. What can be taken at
    /// most, [`SegFormerPart::of`] says.
    ///
    /// # Errors
    /// [`coral_core::Error::Weights`] when the part is missing or has other sizes; [`coral_core::Error::InvalidParameter`]
    /// as for [`new`](Self::new).
    pub fn fine_tune(
        config: SegFormerSegmenterConfig,
        checkpoint: &Checkpoint,
        (part, seed): (SegFormerPart, u64),
        device: &Device,
    ) -> Result<Self> {
        let load =
            |config: &SegFormerSegmenterConfig| files::load(checkpoint, device, (part, seed), |vb| config.build(&vb));
        Ok(Self { trained: Trained::new(config, load)? })
    }

    /// Reads a segmenter that [`save`](Self::save) wrote, with its settings.
    ///
    /// # Errors
    /// [`coral_core::Error::Io`] or [`coral_core::Error::Format`] when the file cannot be read, or holds no settings or
    /// impossible ones; [`coral_core::Error::Weights`] when it is damaged.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        Trained::open(&checkpoint, |config| Self::load(config, &checkpoint, device))
    }

    /// Reads all weights of a checkpoint with the names of `transformers`.
    ///
    /// # Errors
    /// [`coral_core::Error::Weights`] when the checkpoint is of another network, e.g. for another number of classes or
    /// without a head; [`coral_core::Error::InvalidParameter`] as for [`new`](Self::new).
    pub fn load(config: SegFormerSegmenterConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Self::fine_tune(config, checkpoint, (SegFormerPart::Whole, 0), device)
    }

    /// The settings.
    pub fn config(&self) -> &SegFormerSegmenterConfig {
        &self.trained.config
    }

    /// What trains the network: its weights, optimiser and schedule. To change a weight by hand, take it from
    /// [`trainer_mut`](Self::trainer_mut): what segments is made anew after that only.
    pub fn trainer(&self) -> &Trainer {
        &self.trained.trainer
    }

    /// The same, to freeze weights, judge an epoch ([`Trainer::judge`]) or the like. What is frozen is
    /// computed without a record in the next epochs.
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        self.trained.trainer_mut()
    }

    /// Writes weights (the averages, where the training keeps such) and settings to a `safetensors` file, which appears
    /// whole or not at all. `transformers` reads its weights too.
    ///
    /// # Errors
    /// Those of [`Parameters::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.trained.save(path.as_ref())
    }

    /// Writes the state of the training too, so that [`resume`](Self::resume) goes on as if nothing had happened; `extra`
    /// is what the caller wants to find again, e.g. the next epoch.
    ///
    /// # Errors
    /// Those of [`Trainer::save`].
    pub fn save_training(&self, path: impl AsRef<Path>, extra: &impl Serialize) -> Result<()> {
        self.trained.save_training(path.as_ref(), extra)
    }

    /// Goes back to a state that [`save_training`](Self::save_training) wrote, and gives the caller's part of it.
    ///
    /// # Errors
    /// Those of [`Trainer::resume`], and [`coral_core::Error::Format`] naming the setting that was another (but for the
    /// loader's, which change nothing in the result); nothing is changed then.
    pub fn resume<T: DeserializeOwned>(&mut self, path: impl AsRef<Path>) -> Result<T> {
        self.trained.resume(path.as_ref())
    }
}

impl fmt::Debug for SegFormerSegmenter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SegFormerSegmenter").field("config", &self.trained.config).finish_non_exhaustive()
    }
}
