use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use candle_core::Device;
use candle_nn::VarBuilder;
use coral_core::image::RgbImage;
use coral_core::{ClassSet, Error, Result, Size};
use serde::{Deserialize, Serialize};

use super::files;
use super::patch_network::{PatchNetwork, PatchNetworkConfig};
use crate::class_names::class_set;
use crate::train::{Augmentation, LoaderConfig, SeafeatsLoss, Settings, Trained, Trainer, TrainerConfig, check_size};
use crate::{Checkpoint, Parameters, PillowFilter, resize_image};

/// Settings of a [`ResNetClassifier`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetClassifierConfig {
    /// The network.
    pub network: PatchNetworkConfig,
    /// Patches are resized to this size before they are classified or trained on. `None` leaves them as they are; those
    /// that differ from the first one of their training batch are still resized to it.
    pub patch_size: Option<Size>,
    /// How training goes.
    pub training: FitConfig,
    /// What the classes are called, by id; as many as there are classes, or none where that is unknown.
    #[serde(default)]
    pub class_names: Vec<String>,
}

impl ResNetClassifierConfig {
    /// SeaFeats as published, for `classes` classes.
    pub fn seafeats(classes: usize) -> Self {
        Self::of(PatchNetworkConfig::seafeats(classes), FitConfig::seafeats())
    }

    /// The patch classifier of SeaCLIP as published, for `classes` classes.
    pub fn seaclip(classes: usize) -> Self {
        Self::of(PatchNetworkConfig::seaclip(classes), FitConfig::seaclip())
    }

    fn of(network: PatchNetworkConfig, training: FitConfig) -> Self {
        Self { network, patch_size: None, training, class_names: Vec::new() }
    }

    /// The classes by their names, or by their numbers where names are unknown.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there is not one name per class, or names repeat or are empty.
    ///
    /// # Examples
    /// ```
    /// use coral_models::ResNetClassifierConfig;
    /// let mut config = ResNetClassifierConfig::seaclip(2);
    /// assert_eq!(config.class_set()?.name(1), "1");
    /// config.class_names = vec!["sand".into(), "seagrass".into()];
    /// assert_eq!(config.class_set()?.name(1), "seagrass");
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn class_set(&self) -> Result<ClassSet> {
        class_set(&self.class_names, self.network.classes)
    }
}

impl Settings for ResNetClassifierConfig {
    type Network = PatchNetwork;

    const KEY: &'static str = "coral_resnet_classifier";

    fn validate(&self) -> Result<()> {
        self.network.validate()?;
        self.class_set()?;
        if self.training.batch == 0 {
            return Err(Error::parameter("training.batch", "expected at least 1"));
        }
        self.training.augmentation.as_ref().map_or(Ok(()), Augmentation::validate)?;
        self.training.expect_class_weights(self.network.classes)?;
        self.training.loader.validate()?;
        self.patch_size.map_or(Ok(()), |size| check_size("patch_size", size))
    }

    fn build(&self, vb: &VarBuilder<'_>) -> candle_core::Result<PatchNetwork> {
        PatchNetwork::new(&self.network, vb)
    }

    fn trainer(&self) -> TrainerConfig {
        self.training.trainer
    }

    fn loader(&mut self) -> &mut LoaderConfig {
        &mut self.training.loader
    }
}

/// How a [`ResNetClassifier`] is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// Optimiser, learning rate, schedule, clipping and the like. Where it asks for averages of the weights, these are
    /// what classifies and what [`ResNetClassifier::save`] writes.
    pub trainer: TrainerConfig,
    /// Photographs, patches or cut cells per step.
    pub batch: usize,
    /// One weight per class, at least 0 and not all 0; all 1 when absent. Steps whose samples weigh nothing are left out.
    pub class_weights: Option<Vec<f32>>,
    /// Which form of the loss of pooled cells; the sound one unless the published program is to be followed. Patches and
    /// cut cells are trained on the plain cross-entropy.
    pub loss: SeafeatsLoss,
    /// Whether batch normalisation keeps the statistics that the encoder came with, as is sound when a batch holds few
    /// photographs, each of one class. Else it uses those of the batch, as published, and they move also where weights are
    /// frozen.
    pub running_statistics: bool,
    /// Changes to photographs or patches before they are seen, for training on patches and cut cells.
    pub augmentation: Option<Augmentation>,
    /// Threads that load.
    pub loader: LoaderConfig,
}

/// A residual network that classifies patches and the cells of photographs, and that can be trained on either.
///
/// It implements the traits `PatchClassifier`, `GridClassifier`, `FeatureExtractor` and `ImageEncoder` and, for training,
/// `TrainPatchClassifier` and `TrainGridClassifier`. Photographs are read in their own resolution, but for a slight change
/// that makes their sides whole numbers of cells.
pub struct ResNetClassifier {
    pub(super) trained: Trained<ResNetClassifierConfig>,
}

impl ResNetClassifier {
    /// A network with initial values drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the setting that is out of range.
    pub fn new(config: ResNetClassifierConfig, seed: u64, device: &Device) -> Result<Self> {
        let trained = Trained::new(config, |config| Parameters::create(seed, device, |vb| config.build(&vb)))?;
        Ok(Self { trained })
    }

    /// A network that starts from the encoder of a checkpoint, e.g. of ImageNet or SimCLR, with a new head.
    ///
    /// # Errors
    /// [`Error::Weights`] when the encoder is another; [`Error::InvalidParameter`] as for [`new`](Self::new).
    pub fn with_encoder(
        config: ResNetClassifierConfig,
        checkpoint: &Checkpoint,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let load = |config: &ResNetClassifierConfig| {
            let head = if config.network.hidden.is_some() { "head." } else { "fc." };
            files::with_encoder(checkpoint, (head, seed), device, |vb| config.build(&vb))
        };
        Ok(Self { trained: Trained::new(config, load)? })
    }

    /// Reads a classifier that [`save`](Self::save) wrote, with its settings.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when the file cannot be read, or holds no settings or impossible ones;
    /// [`Error::Weights`] when it is damaged.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        Trained::open(&checkpoint, |config| Self::load(config, &checkpoint, device))
    }

    /// Reads the weights of a classifier: names of torchvision, or the numbered ones of SeaFeats' files.
    ///
    /// # Errors
    /// [`Error::Weights`] when the checkpoint is of another network, e.g. for another number of classes.
    pub fn load(config: ResNetClassifierConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        let load = |config: &ResNetClassifierConfig| files::load(checkpoint, device, |vb| config.build(&vb));
        Ok(Self { trained: Trained::new(config, load)? })
    }

    /// The settings.
    pub fn config(&self) -> &ResNetClassifierConfig {
        &self.trained.config
    }

    /// What trains the network: its weights, optimiser and schedule. To change a weight by hand, take it from
    /// [`trainer_mut`](Self::trainer_mut): what classifies is made anew after that only, and from the averages, where the
    /// training keeps such, which follow by the next steps.
    pub fn trainer(&self) -> &Trainer {
        &self.trained.trainer
    }

    /// The same, to freeze weights, judge an epoch ([`Trainer::judge`]) or the like. What is frozen is
    /// computed without a record in the next epochs.
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        self.trained.trainer_mut()
    }

    /// Takes the encoder's weights and statistics from another network of the same shape, e.g. one trained by
    /// [`SimClr`](crate::SimClr) (its last weights, not the averages that it may keep: those come through
    /// [`SimClr::save`](crate::SimClr::save) and [`with_encoder`](Self::with_encoder)).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the first weight that is missing or has another shape, or while averages are swapped
    /// in; nothing is changed then.
    pub fn copy_encoder(&mut self, source: &Parameters) -> Result<()> {
        self.trained.trainer.expect_unswapped()?;
        let parameters = self.trained.trainer.parameters();
        let encoder = parameters.names().filter(|name| !super::model::HEADS.iter().any(|head| name.starts_with(head)));
        let mut pairs = Vec::new();
        for name in encoder {
            match (parameters.get(name), source.get(name)) {
                (Some(to), Some(from)) if to.dims() == from.dims() => {
                    pairs.push((to.clone(), from.as_detached_tensor()))
                }
                _ => return Err(Error::input("source", format!("has no weight `{name}` of the same shape"))),
            }
        }
        pairs.iter().try_for_each(|(to, from)| to.set(from)).map_err(Error::model)?;
        self.trained.trainer_mut().restart_average()
    }

    /// Writes weights (the averages, where the training keeps such) and settings to a `safetensors` file, which appears
    /// whole or not at all.
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
    /// Those of [`Trainer::resume`], and [`Error::Format`] naming the setting that was another (but for the loader's,
    /// which change nothing in the result); nothing is changed then.
    pub fn resume<T: serde::de::DeserializeOwned>(&mut self, path: impl AsRef<Path>) -> Result<T> {
        self.trained.resume(path.as_ref())
    }
}

/// A photograph in the nearest size that is a whole number of cells of `side` pixels, so that they cover it evenly.
pub(super) fn whole_cells(photograph: &RgbImage, side: u32) -> Result<Cow<'_, RgbImage>> {
    let size = Size::of(photograph);
    let Size { width, height } = cell_grid(size, side)?;
    let target = Size { width: width * side, height: height * side };
    if target == size {
        return Ok(Cow::Borrowed(photograph));
    }
    resize_image(photograph, target, PillowFilter::Bilinear).map(Cow::Owned)
}

/// How many cells of `side` pixels a photograph of `size` has, nearly.
pub(super) fn cell_grid(size: Size, side: u32) -> Result<Size> {
    if size.width < side || size.height < side {
        let reason = format!("a {size} photograph is smaller than a cell of {side}x{side} pixels");
        return Err(Error::input("photograph", reason));
    }
    let cells = |length: u32| length / side + u32::from(length % side >= side.div_ceil(2));
    Ok(Size { width: cells(size.width), height: cells(size.height) })
}

impl fmt::Debug for ResNetClassifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ResNetClassifier").field("config", &self.trained.config).finish_non_exhaustive()
    }
}
