use candle_nn::VarBuilder;
use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::adapter::{ADAPTER, TextSam};
use crate::sam::config::{SamConfig, SemanticConfig};
use crate::sam::training::SamLoss;
use crate::train::{Settings, TrainerConfig};
use crate::{LoaderConfig, OptimizerConfig};

/// How the embedding of a sentence becomes tokens of the mask decoder: a perceptron with one hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextAdapterConfig {
    /// Values of the text encoder's embedding.
    pub text_dim: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Tokens for each sentence.
    pub tokens: usize,
}

impl Default for TextAdapterConfig {
    /// For CLIP ViT-B/32 or B/16; CoralSCOP's authors publish no sizes.
    fn default() -> Self {
        Self { text_dim: 512, hidden: 256, tokens: 1 }
    }
}

/// What a [`TextPrompter`](super::TextPrompter) trains. The image encoder, the prompt encoder and the text encoder stay as they
/// are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextPart {
    /// The adapter of sentences alone.
    Adapter,
    /// The adapter and the mask decoder with its semantic branch.
    Decoder,
}

impl TextPart {
    /// Whether the weight of this name belongs to the part.
    pub(super) fn contains(self, name: &str) -> bool {
        name.starts_with(ADAPTER) || self == Self::Decoder && name.starts_with("mask_decoder.")
    }
}

/// How a [`TextPrompter`](super::TextPrompter) trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFitConfig {
    /// What is trained.
    pub part: TextPart,
    /// Optimiser, learning rate and schedule; `accumulate` is the number of images of a step.
    pub trainer: TrainerConfig,
    /// What is lowered.
    pub loss: SamLoss,
    /// The share of pairs that get a point besides the sentence, from 0 to 1: inside of the mask, or anywhere when the sentence
    /// names nothing in the image.
    pub point_share: f64,
    /// Pairs that are decoded at once; bounds memory.
    pub pairs_per_batch: usize,
    /// Threads that load.
    pub loader: LoaderConfig,
}

impl Default for TextFitConfig {
    /// Adapter and decoder by AdamW at 10⁻⁴, a point beside every fourth sentence. CoralSCOP's own numbers are not published.
    fn default() -> Self {
        let optimizer = OptimizerConfig::AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-4 };
        Self {
            part: TextPart::Decoder,
            trainer: TrainerConfig { optimizer, learning_rate: 1e-4, ..TrainerConfig::default() },
            loss: SamLoss::default(),
            point_share: 0.25,
            pairs_per_batch: 8,
            loader: LoaderConfig::default(),
        }
    }
}

/// Settings of a [`TextPrompter`](super::TextPrompter).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPrompterConfig {
    /// The network. Its semantic branch tells whether the image shows what a sentence names: class 0 if not, 1 if so.
    pub network: SamConfig,
    /// From sentences to tokens.
    pub adapter: TextAdapterConfig,
    /// How training goes.
    pub training: TextFitConfig,
    /// Least probability that the image shows what a sentence names; below it, the mask is empty.
    pub presence_threshold: f32,
}

impl TextPrompterConfig {
    /// A network of this shape, with a semantic branch for two classes.
    pub fn new(network: SamConfig, adapter: TextAdapterConfig, training: TextFitConfig) -> Self {
        let tokens = (network.image_size / network.token_pixels().max(1)).pow(2);
        let semantic = network.semantic.unwrap_or(SemanticConfig { classes: 2, tokens, feature_dim: network.dim });
        let semantic = Some(SemanticConfig { classes: 2, ..semantic });
        Self { network: SamConfig { semantic, ..network }, adapter, training, presence_threshold: 0.5 }
    }

    /// Checks the fields.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.network.validate()?;
        if self.network.semantic.is_none_or(|semantic| semantic.classes != 2) {
            return Err(Error::parameter(
                "network.semantic",
                "expected a semantic branch for 2 classes, absent and present",
            ));
        }
        let TextAdapterConfig { text_dim, hidden, tokens } = self.adapter;
        let sizes = [
            ("adapter.text_dim", text_dim),
            ("adapter.hidden", hidden),
            ("adapter.tokens", tokens),
            ("training.pairs_per_batch", self.training.pairs_per_batch),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(Error::parameter(name, "expected at least 1, got 0"));
        }
        let shares = [
            ("training.point_share", self.training.point_share),
            ("presence_threshold", f64::from(self.presence_threshold)),
        ];
        if let Some((name, share)) = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            return Err(Error::parameter(name, format!("expected 0 to 1, got {share}")));
        }
        self.training.loss.validate(2)?;
        self.training.loader.validate()
    }
}

impl Settings for TextPrompterConfig {
    type Network = TextSam;

    const KEY: &'static str = "coral_text_prompter";

    fn validate(&self) -> Result<()> {
        Self::validate(self)
    }

    fn build(&self, vb: &VarBuilder<'_>) -> candle_core::Result<TextSam> {
        TextSam::new(self.network.clone(), self.adapter, vb)
    }

    fn trainer(&self) -> TrainerConfig {
        self.training.trainer
    }

    fn loader(&mut self) -> &mut LoaderConfig {
        &mut self.training.loader
    }
}
