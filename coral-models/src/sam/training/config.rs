use candle_nn::VarBuilder;
use coral_core::{ClassId, ClassSet, Error, Result};
use serde::{Deserialize, Serialize};

use super::loss::SamLoss;
use super::prompts::PromptConfig;
use crate::sam::config::{EncoderConfig, SamConfig, SemanticConfig};
use crate::sam::model::Sam;
use crate::train::{Settings, TrainerConfig};
use crate::weights::description;
use crate::{Augmentation, Checkpoint, CosineConfig, Interval, LoaderConfig, OptimizerConfig, ScheduleConfig};

/// Which part of a network a training changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamPart {
    /// Everything: CoralSCOP's pre-training.
    Whole,
    /// Prompt encoder and mask decoder, with the semantic branch where there is one.
    Decoder,
    /// The semantic branch alone; masks stay as they are.
    SemanticBranch,
    /// The last perceptron of the semantic branch alone: CoralSCOP's tuning by the user.
    ClassHead,
}

/// How the names of the prompt encoder's random frequencies begin, which are drawn once and never trained.
const FREQUENCIES: &str = "prompt_encoder.pe_layer.";
pub(super) const ENCODER: &str = "image_encoder.";
pub(super) const SEMANTIC: &str = "mask_decoder.cate_";
const CLASS_HEAD: &str = "mask_decoder.cate_prediction_head.";
const LAST_LAYER: &str = "mask_decoder.cate_prediction_head.layers.2.";

/// How the names begin of what a checkpoint lacks of a semantic branch for so many classes: all of it, its last layer, nothing.
pub(in crate::sam) fn fresh_semantics(checkpoint: &Checkpoint, classes: Option<usize>) -> Option<&'static str> {
    let theirs = checkpoint.shape(&format!("{LAST_LAYER}weight")).and_then(|shape| shape.first().copied());
    match (classes?, theirs) {
        (_, None) => Some(SEMANTIC),
        (ours, Some(theirs)) => (ours != theirs).then_some(LAST_LAYER),
    }
}

impl SamPart {
    /// Whether the weight of this name belongs to the part.
    pub(crate) fn contains(self, name: &str) -> bool {
        let inside = match self {
            Self::Whole => true,
            Self::Decoder => !name.starts_with(ENCODER),
            Self::SemanticBranch => name.starts_with(SEMANTIC),
            Self::ClassHead => name.starts_with(CLASS_HEAD),
        };
        inside && !name.starts_with(FREQUENCIES)
    }

    /// Whether the masks' pixels depend on the part.
    pub(crate) fn has_masks(self) -> bool {
        matches!(self, Self::Whole | Self::Decoder)
    }
}

/// How a [`SamTrainer`](super::SamTrainer) trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamFitConfig {
    /// What is trained.
    pub part: SamPart,
    /// Optimiser, learning rate and schedule; `accumulate` is the number of images of a step.
    pub trainer: TrainerConfig,
    /// What the learning rate of each block of a vision transformer is multiplied with, from the block after it to it; 1 for
    /// the same rate everywhere.
    pub layer_decay: f64,
    /// How prompts are drawn.
    pub prompts: PromptConfig,
    /// What is lowered.
    pub loss: SamLoss,
    /// Most masks of an image that are prompted for in an epoch, drawn at random.
    pub masks_per_image: usize,
    /// Prompts that are decoded at once; bounds memory.
    pub prompts_per_batch: usize,
    /// Changes of the photographs; impossible on embeddings that were kept.
    pub augmentation: Option<Augmentation>,
    /// Threads that load.
    pub loader: LoaderConfig,
}

impl SamFitConfig {
    /// Segment Anything's training of the whole network, as far as it is published: AdamW at 8·10⁻⁴ after a warm-up of 250
    /// steps, a weight decay of 0.1, a layer decay of 0.8, 64 masks an image, no augmentation; here over `steps` steps and
    /// along a cosine. CoralSCOP's own numbers are not published.
    pub fn pretraining(steps: u64) -> Self {
        let schedule = CosineConfig { warmup: 250.min(steps / 2), ..CosineConfig::new(Interval::Step, steps.max(1)) };
        let trainer = TrainerConfig {
            optimizer: OptimizerConfig::AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1 },
            learning_rate: 8e-4,
            schedule: ScheduleConfig::Cosine(schedule),
            ..TrainerConfig::default()
        };
        Self {
            part: SamPart::Whole,
            trainer,
            layer_decay: 0.8,
            prompts: PromptConfig::default(),
            loss: SamLoss::default(),
            masks_per_image: 64,
            prompts_per_batch: 8,
            augmentation: None,
            loader: LoaderConfig::default(),
        }
    }

    /// CoralSCOP's tuning on a user's own classes in the least time: the last perceptron, one prompt a mask, Adam at 10⁻³.
    pub fn tuning() -> Self {
        Self {
            part: SamPart::ClassHead,
            trainer: TrainerConfig::default(),
            layer_decay: 1.0,
            prompts: PromptConfig::single(),
            loss: SamLoss { semantic_of_all: true, ..SamLoss::default() },
            ..Self::pretraining(1)
        }
    }

    fn validate(&self) -> Result<()> {
        for (name, count) in [("masks_per_image", self.masks_per_image), ("prompts_per_batch", self.prompts_per_batch)]
        {
            if count == 0 {
                return Err(Error::parameter(format!("training.{name}"), "expected at least 1, got 0"));
            }
        }
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            let reason = format!("expected a number above 0 and at most 1, got {}", self.layer_decay);
            return Err(Error::parameter("training.layer_decay", reason));
        }
        self.prompts.validate()?;
        self.augmentation.as_ref().map_or(Ok(()), Augmentation::validate)?;
        self.loader.validate()
    }
}

/// Settings of a [`SamTrainer`](super::SamTrainer).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamTrainerConfig {
    /// The network; its semantic branch has one class for each id up to the largest of `classes`.
    pub network: SamConfig,
    /// What masks may be; none for a network without semantic branch. [`ClassSet::objects_at_level`] gives those of a level of a
    /// hierarchy.
    pub classes: ClassSet,
    /// The class of what is no object, which is what negatives have.
    #[serde(default)]
    pub background: ClassId,
    /// How training goes.
    pub training: SamFitConfig,
}

impl SamTrainerConfig {
    /// A network for these classes, of which 0 is the background. A network without semantic branch gets one unless there are
    /// no classes.
    pub fn new(network: SamConfig, classes: ClassSet, training: SamFitConfig) -> Self {
        let tokens = (network.image_size / network.token_pixels().max(1)).pow(2);
        let semantic = network.semantic.unwrap_or(SemanticConfig { classes: 0, tokens, feature_dim: network.dim });
        let semantic = SemanticConfig { classes: classes.num_ids(), ..semantic };
        let semantic = (!classes.is_empty()).then_some(semantic);
        Self { network: SamConfig { semantic, ..network }, classes, background: 0, training }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field, e.g. when the part to be trained is one that the network lacks, or the
    /// image encoder of a MobileSAM, whose batch normalisations are folded into its convolutions.
    pub fn validate(&self) -> Result<()> {
        self.network.validate()?;
        self.training.validate()?;
        self.training.loss.validate(self.network.semantic.map_or(0, |semantic| semantic.classes))?;
        let part = self.training.part;
        if part == SamPart::Whole && matches!(self.network.encoder, EncoderConfig::TinyVit(_)) {
            let reason = "the image encoder of MobileSAM cannot be trained, its batch normalisation is folded into its \
                          convolutions; expected `decoder`, `semantic_branch` or `class_head`";
            return Err(Error::parameter("training.part", reason));
        }
        let Some(semantic) = &self.network.semantic else {
            return match part.has_masks() && self.classes.is_empty() {
                true => Ok(()),
                false => Err(Error::parameter("network.semantic", "expected a semantic branch for classes to train")),
            };
        };
        if semantic.classes != self.classes.num_ids() {
            let reason =
                format!("expected {}, one past the largest class id, got {}", self.classes.num_ids(), semantic.classes);
            return Err(Error::parameter("network.semantic.classes", reason));
        }
        if self.classes.get(self.background).is_none() {
            let reason = format!("{} is none of the classes", self.background);
            return Err(Error::parameter("background", reason));
        }
        Ok(())
    }

    /// The settings that a training left in a file; `None` for files of other origin.
    pub(crate) fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let found = checkpoint.metadata().contains_key(Self::KEY);
        found.then(|| description(checkpoint, (Self::KEY, ""))).transpose()
    }

    /// Lower rates for the blocks near the image; the neck and everything after it have the full rate.
    pub(super) fn rate_scale(&self, name: &str) -> f64 {
        let EncoderConfig::Vit(vit) = &self.network.encoder else { return 1.0 };
        let Some(rest) = name.strip_prefix(ENCODER) else { return 1.0 };
        let layer = match rest.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')?.0.parse::<usize>().ok()) {
            Some(block) => block + 1,
            None if rest.starts_with("patch_embed.") || rest == "pos_embed" => 0,
            None => vit.depth + 1,
        };
        let steps = (vit.depth + 1).saturating_sub(layer);
        self.training.layer_decay.powi(i32::try_from(steps).unwrap_or(i32::MAX))
    }
}

impl Settings for SamTrainerConfig {
    type Network = Sam;

    const KEY: &'static str = "coral_sam";

    fn validate(&self) -> Result<()> {
        Self::validate(self)
    }

    fn build(&self, vb: &VarBuilder<'_>) -> candle_core::Result<Sam> {
        Sam::build(self.network.clone(), vb)
    }

    fn trainer(&self) -> TrainerConfig {
        self.training.trainer
    }

    fn loader(&mut self) -> &mut LoaderConfig {
        &mut self.training.loader
    }
}
