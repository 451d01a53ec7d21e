use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use candle_core::Device;
use coral_core::{AnnotatedImage, Dataset, EpochReport, Error, Progress, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::backward::Backward;
use super::config::{SEMANTIC, SamPart, SamTrainerConfig, fresh_semantics};
use super::embedded::EmbeddedImage;
use super::loss::PartSums;
use super::rollout::{Scene, Wanted};
use super::sample::{Sample, Source};
use crate::sam::model::ignored;
use crate::sam::predictor::Predictor;
use crate::train::{STATE_PREFIXES, Settings, Trained, Trainer};
use crate::{BatchPlan, Checkpoint, Fresh, Parameters, epoch_order, for_each_batch};

/// What one pass over photographs and their masks reports. Parts of the loss are means over masks and rounds, before they are
/// weighted; `None` for what was not trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SamEpoch {
    /// The loss over the masks, and how the steps went.
    pub training: EpochReport,
    /// Focal loss of the masks' pixels.
    pub focal: Option<f64>,
    /// Dice loss of the masks.
    pub dice: Option<f64>,
    /// Square error of the predicted IoUs.
    pub iou: Option<f64>,
    /// Cross-entropy of the classes.
    pub semantic: Option<f64>,
    /// Images with masks to learn from.
    pub images: usize,
    /// Masks that are too small to be seen at the resolution of the decoder.
    pub vanished_masks: usize,
}

/// Sums over an epoch.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::sam) struct EpochSums {
    pub(in crate::sam) parts: PartSums,
    pub(in crate::sam) images: usize,
    pub(in crate::sam) vanished: usize,
}

impl EpochSums {
    pub(in crate::sam) fn report(&self, training: EpochReport) -> SamEpoch {
        let mean = |sum: f64, count: usize| (count > 0).then(|| sum / count as f64);
        let PartSums { focal, dice, iou, masks, semantic, labeled } = self.parts;
        SamEpoch {
            training,
            focal: mean(focal, masks),
            dice: mean(dice, masks),
            iou: mean(iou, masks),
            semantic: mean(semantic, labeled),
            images: self.images,
            vanished_masks: self.vanished,
        }
    }
}

/// Trains networks of the Segment Anything family: CoralSCOP's pre-training, and tuning on a user's own classes.
///
/// Prompts are drawn from the masks of photographs and corrected where the network errs; what is trained, on what loss and how
/// fast, [`SamTrainerConfig`] says. Prompts of an image are gone back from one by one, and the image encoder once for all of
/// them, so that memory does not grow with their number.
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023; Zheng et al., *CoralSCOP*, CVPR 2024. Gradients agree with PyTorch's within
/// 1e-4 of the largest.
pub struct SamTrainer {
    pub(super) trained: Trained<SamTrainerConfig>,
}

impl SamTrainer {
    /// A network with initial values drawn from `seed`, for pre-training from scratch.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the setting that is out of range.
    pub fn new(config: SamTrainerConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::of(config, |config| Parameters::create(seed, device, |vb| config.build(&vb)))
    }

    /// A network that starts from a checkpoint, under the names of the original program or of `transformers`.
    ///
    /// What the checkpoint does not have is drawn from `seed`: the semantic branch, where it has none, or the last layer of
    /// that, where it is for another number of classes. Where the numbers agree, the layer is taken as it is, even if its
    /// classes were others.
    ///
    /// # Errors
    /// [`Error::Weights`] when the checkpoint is of another network; [`Error::InvalidParameter`] as for [`new`](Self::new), and
    /// when only the class head is to be trained of a branch that the checkpoint lacks.
    pub fn fine_tune(config: SamTrainerConfig, checkpoint: &Checkpoint, seed: u64, device: &Device) -> Result<Self> {
        let checkpoint = checkpoint.clone().with_original_sam_names()?;
        Self::of(config, |config| {
            let ours = config.network.semantic.as_ref().map(|semantic| semantic.classes);
            let fresh = fresh_semantics(&checkpoint, ours);
            if fresh == Some(SEMANTIC) && config.training.part == SamPart::ClassHead {
                let reason = "the checkpoint has no semantic branch, and a class head alone cannot learn on what was drawn; \
                              expected `semantic_branch` or more";
                return Err(Error::parameter("training.part", reason));
            }
            let mut ignore = STATE_PREFIXES.to_vec();
            ignore.extend(ignored(&config.network));
            if ours.is_none() {
                ignore.push(SEMANTIC);
            }
            let fresh = Fresh { prefixes: fresh.as_slice(), seed, ignore: &ignore };
            Parameters::load_partly(&checkpoint, device, fresh, |vb| config.build(&vb))
        })
    }

    /// Reads what [`save`](Self::save) wrote, with its settings.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when the file cannot be read, or holds no settings or impossible ones;
    /// [`Error::Weights`] when it is damaged.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        Trained::open(&checkpoint, |config: SamTrainerConfig| Self::fine_tune(config, &checkpoint, 0, device))
    }

    fn of(
        config: SamTrainerConfig,
        make: impl FnOnce(&SamTrainerConfig) -> Result<(Parameters, crate::Sam)>,
    ) -> Result<Self> {
        let part = config.training.part;
        let mut trained = Trained::new(config, |config| {
            let (mut parameters, _) = make(config)?;
            parameters.freeze(|name| !part.contains(name));
            let network = parameters.build(|vb| config.build(&vb))?;
            Ok((parameters, network))
        })?;
        let parameters = trained.trainer.parameters();
        let shapes = parameters.names().filter_map(|name| Some((name.to_owned(), parameters.get(name)?.dims().len())));
        let dimensions: BTreeMap<String, usize> = shapes.collect();
        let config = trained.config.clone();
        let optimizer = trained.trainer.optimizer_mut();
        optimizer.scale_learning_rate(|name| config.rate_scale(name))?;
        // Biases and normalisations.
        optimizer.exclude_from_weight_decay(|name| dimensions.get(name).is_some_and(|&count| count < 2));
        Ok(Self { trained })
    }

    /// The settings.
    pub fn config(&self) -> &SamTrainerConfig {
        &self.trained.config
    }

    /// What trains the network.
    pub fn trainer(&self) -> &Trainer {
        &self.trained.trainer
    }

    /// The same, to judge an epoch ([`Trainer::judge`]), freeze further weights or the like.
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        self.trained.trainer_mut()
    }

    /// The network as it is now, for photographs and prompts.
    ///
    /// # Errors
    /// [`Error::Model`] when there is no memory for it.
    pub fn predictor(&self) -> Result<Predictor> {
        Ok(Predictor::new((*self.trained.inference()?).clone()))
    }

    /// Writes weights and settings to a `safetensors` file, which appears whole or not at all. [`Sam::open`](crate::Sam::open)
    /// reads it too.
    ///
    /// # Errors
    /// Those of [`Parameters::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.trained.save(path.as_ref())
    }

    /// Writes the state of the training too, so that [`resume`](Self::resume) goes on as if nothing had happened; `extra` is what
    /// the caller wants to find again, e.g. the next epoch.
    ///
    /// # Errors
    /// Those of [`Trainer::save`].
    pub fn save_training(&self, path: impl AsRef<Path>, extra: &impl Serialize) -> Result<()> {
        self.trained.save_training(path.as_ref(), extra)
    }

    /// Goes back to a state that [`save_training`](Self::save_training) wrote, and gives the caller's part of it.
    ///
    /// # Errors
    /// Those of [`Trainer::resume`], and [`Error::Format`] naming the setting that was another (but for the loader's, which
    /// change nothing in the result); nothing is changed then.
    pub fn resume<T: DeserializeOwned>(&mut self, path: impl AsRef<Path>) -> Result<T> {
        self.trained.resume(path.as_ref())
    }

    /// One pass over photographs, in an order and with prompts drawn from `seed`. Photographs without a mask to learn from are
    /// left out.
    ///
    /// # Errors
    /// When an image cannot be loaded, a mask has another size than its photograph or a class that is none of the classes, or
    /// the training diverges.
    pub fn fit_epoch(
        &mut self,
        images: &dyn Dataset<Item = AnnotatedImage>,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<SamEpoch> {
        let (config, device) = (self.trained.config.clone(), self.device());
        let load = |index: usize, seed: u64| Sample::load(&config, images, (index, seed), &device);
        self.pass(images.len(), seed, &load, progress)
    }

    /// [`fit_epoch`](Self::fit_epoch) on photographs that were encoded before, such as
    /// [`EmbeddedImages`](super::EmbeddedImages): the image encoder has nothing to do.
    ///
    /// # Errors
    /// As [`fit_epoch`](Self::fit_epoch); [`Error::InvalidParameter`] when the image encoder is to be trained, or photographs
    /// are to be augmented; [`Error::ShapeMismatch`] for embeddings of another network.
    pub fn fit_epoch_embedded(
        &mut self,
        images: &dyn Dataset<Item = EmbeddedImage>,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<SamEpoch> {
        self.expect_fixed_embeddings()?;
        let (config, device) = (self.trained.config.clone(), self.device());
        let load = |index: usize, seed: u64| Sample::load_embedded(&config, images, (index, seed), &device);
        self.pass(images.len(), seed, &load, progress)
    }

    /// Checks that an image's embedding stays the same while this training goes on.
    pub(super) fn expect_fixed_embeddings(&self) -> Result<()> {
        let training = &self.config().training;
        if training.part == SamPart::Whole {
            let reason = "the image encoder is to be trained, so that embeddings cannot be kept; train on photographs";
            return Err(Error::parameter("training.part", reason));
        }
        if training.augmentation.is_some() {
            let reason = "embeddings that are kept cannot be augmented; expected none";
            return Err(Error::parameter("training.augmentation", reason));
        }
        Ok(())
    }

    pub(super) fn device(&self) -> Device {
        self.trained.trainer.parameters().device()
    }

    fn pass(
        &mut self,
        images: usize,
        seed: u64,
        load: &(dyn Fn(usize, u64) -> Result<Sample> + Sync),
        progress: &dyn Progress,
    ) -> Result<SamEpoch> {
        let batches = epoch_order(images, seed, 0).into_iter().map(|index| vec![index]).collect();
        let plan = BatchPlan::of_epoch(batches, seed);
        self.trained.start_epoch()?;
        let mut sums = EpochSums::default();
        progress.start(images as u64, "images");
        for_each_batch(&plan, self.config().training.loader, load, |samples| {
            for sample in samples {
                self.step(&sample, &mut sums)?;
                progress.advance(1);
            }
            Ok(())
        })?;
        let report = self.trained.trainer.finish_epoch()?;
        progress.finish();
        Ok(sums.report(report))
    }

    /// What is trained of a mask.
    pub(super) fn wanted(&self) -> Wanted {
        let config = self.config();
        Wanted { masks: config.training.part.has_masks(), classes: config.network.semantic.is_some() }
    }

    /// One step, or a part of one, on the masks of an image.
    fn step(&mut self, sample: &Sample, sums: &mut EpochSums) -> Result<()> {
        sums.vanished += sample.vanished;
        let rounds = self.config().training.prompts.rounds(sample.seed);
        let Some(shares) = sample.shares(rounds.len(), self.wanted()) else { return Ok(()) };
        let network = &self.trained.network;
        let features = match &sample.source {
            Source::Pixels(pixels) => network.encode(pixels)?,
            Source::Features(features) => features.clone(),
        };
        let mut backward = Backward::new(self.trained.trainer.parameters(), features)?;
        let seen = backward.seen.clone();
        let scene = Scene {
            sam: network,
            features: &seen,
            frame: &sample.frame,
            sizes: sample.sizes,
            loss: &self.config().training.loss,
            wanted: self.wanted(),
            shares,
        };
        for (group, truths) in sample.truths(self.config().training.prompts_per_batch).iter().enumerate() {
            let tried = sample.tried(self.config(), truths, group)?;
            scene.roll_out(tried, &rounds, |_, part| {
                sums.parts.add(&part.sums);
                part.loss.as_ref().map_or(Ok(()), |loss| backward.add(loss, &sample.name))
            })?;
        }
        // Negatives alone, of which neither pixels nor classes count.
        if backward.is_empty() {
            return Ok(());
        }
        let (value, gradients) = backward.finish()?;
        sums.images += 1;
        self.trained.trainer.step_collected(value, gradients, sample.len())
    }
}

impl fmt::Debug for SamTrainer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SamTrainer").field("config", &self.trained.config).finish_non_exhaustive()
    }
}
