use std::path::Path;

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use coral_core::{Error, Result};

use super::config::{EncoderConfig, SamConfig};
use super::image_encoder::ImageEncoder;
use super::mask_decoder::{Decoded, MaskChoice, MaskDecoder, Scored};
use super::prompt_encoder::{PromptEncoder, Token};
use super::tiny_vit::TinyVit;
use crate::{Checkpoint, load};

/// A network of the Segment Anything family: image encoder, prompt encoder, mask decoder and, for CoralSCOP, the
/// semantic branch.
///
/// It works on tensors; [`Predictor`](super::Predictor) wraps it for photographs and prompts in pixels.
#[derive(Debug, Clone)]
pub struct Sam {
    config: SamConfig,
    encoder: Encoder,
    pub(super) prompt_encoder: PromptEncoder,
    decoder: MaskDecoder,
    device: Device,
}

#[derive(Debug, Clone)]
enum Encoder {
    Vit(ImageEncoder),
    TinyVit(TinyVit),
}

impl Sam {
    /// Builds the network from weights under their original names.
    ///
    /// Variables get gradients and may change between calls, except those of [`EncoderConfig::TinyVit`], whose batch
    /// normalisations are folded into the convolutions here. The prompt encoder's random frequencies get none.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an impossible configuration, [`Error::Model`] when a tensor is missing or has
    /// another shape.
    pub fn new(config: SamConfig, weights: VarBuilder<'_>) -> Result<Self> {
        config.validate()?;
        Self::build(config, &weights).map_err(Error::model)
    }

    pub(super) fn build(config: SamConfig, vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        let image = vb.pp("image_encoder");
        Ok(Self {
            encoder: match &config.encoder {
                EncoderConfig::Vit(vit) => Encoder::Vit(ImageEncoder::new(vit, config.dim, &image)?),
                EncoderConfig::TinyVit(vit) => Encoder::TinyVit(TinyVit::new(vit, config.dim, &image)?),
            },
            prompt_encoder: PromptEncoder::new(&config, &vb.pp("prompt_encoder"))?,
            decoder: MaskDecoder::new(&config, &vb.pp("mask_decoder"))?,
            device: vb.device().clone(),
            config,
        })
    }

    /// Opens a checkpoint on the CPU, whichever network of the family it holds and whichever names it uses.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when the file cannot be read, [`Error::Weights`] with the likely cause when it
    /// holds another network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?.with_original_sam_names()?;
        let config = SamConfig::from_checkpoint(&checkpoint)?;
        Self::load(&checkpoint, config, &Device::Cpu)
    }

    /// Loads a checkpoint with original names ([`Checkpoint::with_original_sam_names`]) as the network of a
    /// configuration, e.g. that of [`SamConfig::from_checkpoint`] with another image size.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::InvalidParameter`] for an impossible configuration.
    pub fn load(checkpoint: &Checkpoint, config: SamConfig, device: &Device) -> Result<Self> {
        config.validate()?;
        load(checkpoint, device, ignored(&config), |weights| Self::build(config, &weights))
    }

    /// The network's shape.
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// N×3×H×W normalised pixels, H and W multiples of the token size, to N×h×w×C image features.
    ///
    /// # Errors
    /// [`Error::Model`] for another shape or when the tensor library fails.
    pub fn encode(&self, images: &Tensor) -> Result<Tensor> {
        self.encode_with(images, |_, _| {})
    }

    /// [`encode`](Self::encode) that also shows the tokens after the patch embedding (number 0) and after every block
    /// (1, 2, …).
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_with(&self, images: &Tensor, mut visit: impl FnMut(usize, &Tensor)) -> Result<Tensor> {
        let visit = |index: usize, tokens: &Tensor| {
            visit(index, tokens);
            Ok(())
        };
        let features = match &self.encoder {
            Encoder::Vit(encoder) => encoder.forward_with(images, visit),
            Encoder::TinyVit(encoder) => encoder.forward_with(images, visit),
        };
        features.map_err(Error::model)
    }

    /// Masks of B prompts on one image's 1×h×w×C features.
    pub(crate) fn decode(
        &self,
        features: &Tensor,
        prompts: &PromptBatch<'_>,
        choice: MaskChoice,
    ) -> candle_core::Result<Decoded> {
        let DecoderInput { image, places, tokens } = self.decoder_input(features, prompts)?;
        self.decoder.forward(&image, &places, &tokens, choice)
    }

    /// [`decode`](Self::decode) up to the pixels of the masks.
    pub(crate) fn score(
        &self,
        features: &Tensor,
        prompts: &PromptBatch<'_>,
        choice: MaskChoice,
    ) -> candle_core::Result<Scored> {
        let DecoderInput { image, places, tokens } = self.decoder_input(features, prompts)?;
        self.decoder.score(&image, &places, &tokens, choice)
    }

    /// What the class head looks at, B×M×N; `None` without a semantic branch.
    pub(crate) fn class_maps(
        &self,
        features: &Tensor,
        prompts: &PromptBatch<'_>,
        choice: MaskChoice,
    ) -> candle_core::Result<Option<Tensor>> {
        let DecoderInput { image, places, tokens } = self.decoder_input(features, prompts)?;
        self.decoder.class_maps(&image, &places, &tokens, choice)
    }

    /// B×M×K class logits of B×M×N [`class_maps`](Self::class_maps); `None` without a semantic branch.
    pub(crate) fn classify_maps(&self, maps: &Tensor) -> candle_core::Result<Option<Tensor>> {
        self.decoder.classify_maps(maps)
    }

    /// The masks of some of the scored prompts, N×M×4h×4w.
    pub(crate) fn masks_of(&self, scored: &Scored, prompts: &[u32]) -> candle_core::Result<Tensor> {
        self.decoder.masks_of(scored, prompts)
    }

    fn decoder_input(&self, features: &Tensor, prompts: &PromptBatch<'_>) -> candle_core::Result<DecoderInput> {
        let (_, height, width, dim) = features.dims4()?;
        let dense = match prompts.masks {
            Some(masks) => self.prompt_encoder.masks(masks)?,
            None => self.prompt_encoder.no_mask()?,
        };
        let count = prompts.tokens.len();
        let tokens = match (self.prompt_encoder.points(prompts.tokens)?, prompts.extra) {
            (Some(tokens), Some(extra)) => Tensor::cat(&[&tokens, extra], 1)?,
            (Some(tokens), None) => tokens,
            (None, Some(extra)) => extra.clone(),
            (None, None) => Tensor::zeros((count, 0, dim), features.dtype(), features.device())?,
        };
        Ok(DecoderInput {
            image: features.broadcast_add(&dense)?,
            places: self.prompt_encoder.grid(height, width)?,
            tokens,
        })
    }
}

/// How the names of tensors begin that a checkpoint may hold without need.
pub(super) fn ignored(config: &SamConfig) -> &'static [&'static str] {
    // Some trainers save the normalisation, `pixel_mean` and `pixel_std`, which is the same everywhere.
    const PIXELS: &str = "pixel_";
    match &config.encoder {
        EncoderConfig::Vit(_) => &[PIXELS],
        // The classifier that TinyViT was trained with before.
        EncoderConfig::TinyVit(_) => &[PIXELS, "image_encoder.norm_head.", "image_encoder.head."],
    }
}

/// Prompts of one image that are decoded together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PromptBatch<'a> {
    /// B prompts with the same number of tokens each.
    pub(crate) tokens: &'a [Vec<Token>],
    /// B×4h×4w logits of earlier masks.
    pub(crate) masks: Option<&'a Tensor>,
    /// B×E×C tokens that come from elsewhere, e.g. of a sentence; they follow the others.
    pub(crate) extra: Option<&'a Tensor>,
}

impl<'a> PromptBatch<'a> {
    /// Points and boxes alone.
    pub(crate) fn of(tokens: &'a [Vec<Token>]) -> Self {
        Self { tokens, ..Self::default() }
    }
}

/// What the mask decoder works on.
struct DecoderInput {
    /// B×h×w×C, or 1×h×w×C for all prompts.
    image: Tensor,
    /// 1×(h·w)×C.
    places: Tensor,
    /// B×T×C.
    tokens: Tensor,
}
