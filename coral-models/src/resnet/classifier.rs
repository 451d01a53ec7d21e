use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use coral_core::image::RgbImage;
use coral_core::{ClassSet, Error, Result, Size};
use serde::{Deserialize, Serialize};

use super::files;
use super::patch_network::{PatchNetwork, PatchNetworkConfig};
use crate::class_names::class_set;
use crate::tensor::pixels_to_tensor;
use crate::train::{Augmentation, LoaderConfig, SeafeatsLoss, Trainer, TrainerConfig, check_size, resume_alike};
use crate::weights::write_safetensors;
use crate::{Checkpoint, Normalization, Parameters, PillowFilter, resize_image};

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
    pub(super) config: ResNetClassifierConfig,
    pub(super) trainer: Trainer,
    /// Made for training, from variables.
    pub(super) network: PatchNetwork,
    /// Made for inference when it is needed, on the same memory; none after a change of the weights.
    inference: Mutex<Option<Arc<PatchNetwork>>>,
}

/// The key of a classifier's settings in a file's metadata.
const KEY: &str = "coral_resnet_classifier";

impl ResNetClassifier {
    /// A network with initial values drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the setting that is out of range.
    pub fn new(config: ResNetClassifierConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::validate(&config)?;
        let built = Parameters::create(seed, device, |vb| PatchNetwork::new(&config.network, &vb))?;
        Self::of(config, built)
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
        Self::validate(&config)?;
        let head = if config.network.hidden.is_some() { "head." } else { "fc." };
        let build = |vb: VarBuilder<'_>| PatchNetwork::new(&config.network, &vb);
        let built = files::with_encoder(checkpoint, (head, seed), device, build)?;
        Self::of(config, built)
    }

    /// Reads a classifier that [`save`](Self::save) wrote, with its settings.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when the file cannot be read or holds no settings; [`Error::Weights`] when it
    /// is damaged.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let Some(text) = checkpoint.metadata().get(KEY) else {
            let reason = format!("no field `{KEY}` in its metadata; use `load` and tell the settings");
            return Err(Error::format(checkpoint.path(), None, reason));
        };
        let config = serde_json::from_str(text).map_err(|error| {
            Error::format(checkpoint.path(), None, format!("field `{KEY}` of its metadata: {error}"))
        })?;
        Self::load(config, &checkpoint, device)
    }

    /// Reads the weights of a classifier: names of torchvision, or the numbered ones of SeaFeats' files.
    ///
    /// # Errors
    /// [`Error::Weights`] when the checkpoint is of another network, e.g. for another number of classes.
    pub fn load(config: ResNetClassifierConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Self::validate(&config)?;
        let built = files::load(checkpoint, device, |vb| PatchNetwork::new(&config.network, &vb))?;
        Self::of(config, built)
    }

    fn of(config: ResNetClassifierConfig, (parameters, network): (Parameters, PatchNetwork)) -> Result<Self> {
        let trainer = Trainer::new(parameters, config.training.trainer)?;
        Ok(Self { config, trainer, network, inference: Mutex::new(None) })
    }

    fn validate(config: &ResNetClassifierConfig) -> Result<()> {
        config.network.validate()?;
        config.class_set()?;
        if config.training.batch == 0 {
            return Err(Error::parameter("training.batch", "expected at least 1"));
        }
        config.training.augmentation.as_ref().map_or(Ok(()), Augmentation::validate)?;
        config.training.expect_class_weights(config.network.classes)?;
        config.training.loader.validate()?;
        config.patch_size.map_or(Ok(()), |size| check_size("patch_size", size))
    }

    /// The settings.
    pub fn config(&self) -> &ResNetClassifierConfig {
        &self.config
    }

    /// What trains the network: its weights, optimiser and schedule. To change a weight by hand, take it from
    /// [`trainer_mut`](Self::trainer_mut): what classifies is made anew after that only, and from the averages, where the
    /// training keeps such, which follow by the next steps.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// The same, to freeze weights, judge an epoch ([`Trainer::judge`]) or the like. What is frozen is
    /// computed without a record in the next epochs.
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        self.changed();
        &mut self.trainer
    }

    /// Takes the encoder's weights and statistics from another network of the same shape, e.g. one trained by
    /// [`SimClr`](crate::SimClr) (its last weights, not the averages that it may keep: those come through
    /// [`SimClr::save`](crate::SimClr::save) and [`with_encoder`](Self::with_encoder)).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the first weight that is missing or has another shape, or while averages are swapped
    /// in; nothing is changed then.
    pub fn copy_encoder(&mut self, source: &Parameters) -> Result<()> {
        self.trainer.expect_unswapped()?;
        let parameters = self.trainer.parameters();
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
        self.changed();
        self.trainer.restart_average()
    }

    /// Writes weights (the averages, where the training keeps such) and settings to a `safetensors` file, which appears
    /// whole or not at all.
    ///
    /// # Errors
    /// Those of [`Parameters::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let config = serde_json::to_string(&self.config).map_err(Error::model)?;
        let about = BTreeMap::from([("format".to_owned(), "pt".to_owned()), (KEY.to_owned(), config)]);
        write_safetensors(path.as_ref(), &self.trainer.best_tensors()?, &about)
    }

    /// Writes the state of the training too, so that [`resume`](Self::resume) goes on as if nothing had happened; `extra`
    /// is what the caller wants to find again, e.g. the next epoch.
    ///
    /// # Errors
    /// Those of [`Trainer::save`].
    pub fn save_training(&self, path: impl AsRef<Path>, extra: &impl Serialize) -> Result<()> {
        self.trainer.save(path, &(&self.config, extra))
    }

    /// Goes back to a state that [`save_training`](Self::save_training) wrote, and gives the caller's part of it.
    ///
    /// # Errors
    /// Those of [`Trainer::resume`], and [`Error::Format`] naming the setting that was another (but for the loader's,
    /// which change nothing in the result); nothing is changed then.
    pub fn resume<T: serde::de::DeserializeOwned>(&mut self, path: impl AsRef<Path>) -> Result<T> {
        self.changed();
        let ours = &self.config;
        resume_alike(&mut self.trainer, path.as_ref(), ours, |mut theirs: ResNetClassifierConfig| {
            theirs.training.loader = ours.training.loader;
            theirs
        })
    }

    /// To be called after every change of the weights.
    pub(super) fn changed(&mut self) {
        *self.inference.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The network for inference, with batch normalisation folded in.
    pub(super) fn inference(&self) -> Result<Arc<PatchNetwork>> {
        let mut place = self.inference.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = &*place {
            return Ok(network.clone());
        }
        let build = |vb: VarBuilder<'_>| PatchNetwork::new(&self.config.network, &vb);
        let network = Arc::new(self.trainer.parameters().build_with(self.trainer.best_tensors()?, build)?);
        Ok(place.insert(network).clone())
    }

    /// Builds the network for training anew, so that what is frozen by now is computed without a record.
    pub(super) fn rebuild(&mut self) -> Result<()> {
        let build = |vb: VarBuilder<'_>| PatchNetwork::new(&self.config.network, &vb);
        self.network = self.trainer.parameters().build(build)?;
        Ok(())
    }

    /// Photographs or patches of one size as input, N×3×H×W.
    pub(super) fn pixels<I: Borrow<RgbImage>>(&self, images: &[I]) -> Result<candle_core::Tensor> {
        let pixels = pixels_to_tensor(images, &Normalization::IMAGENET, &self.trainer.parameters().device())?;
        let dtype = self.trainer.parameters().dtype();
        if dtype == DType::F32 { Ok(pixels) } else { pixels.to_dtype(dtype).map_err(Error::model) }
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
        out.debug_struct("ResNetClassifier").field("config", &self.config).finish_non_exhaustive()
    }
}
