use std::path::Path;

use candle_core::{Device, Tensor};
use candle_nn::{Init, VarBuilder};
use coral_core::ndarray::Array2;
use coral_core::{Error, Result};

use super::config::ClipConfig;
use super::image_tower::{ClipDense, ImageTower};
use super::names::{LOGIT_SCALE, Naming};
use super::text_tower::TextTower;
use crate::tensor::unit_rows;
use crate::{Checkpoint, load};

/// CLIP with a vision transformer: images and texts into one space.
///
/// It works on tensors; [`ClipEncoder`](super::ClipEncoder) wraps it for photographs and sentences.
///
/// # References
/// Radford et al., *Learning Transferable Visual Models From Natural Language Supervision*, ICML 2021; features agree
/// with the published program within 1e-4, logits within 5e-4.
#[derive(Debug, Clone)]
pub struct Clip {
    config: ClipConfig,
    image: Option<ImageTower>,
    text: Option<TextTower>,
    logit_scale: Option<Tensor>,
    device: Device,
}

impl Clip {
    /// Builds the network from weights under OpenAI's names, or under those of `transformers` where `weights` has them.
    ///
    /// Variables get gradients and may change between calls.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for an impossible configuration, [`Error::Model`] when a tensor is missing or has
    /// another shape.
    pub fn new(config: ClipConfig, weights: VarBuilder<'_>) -> Result<Self> {
        config.validate()?;
        let naming = Naming::of(|name| weights.contains_tensor(name)).unwrap_or(Naming::OpenAi);
        Self::build(config, naming, &weights).map_err(Error::model)
    }

    fn build(config: ClipConfig, naming: Naming, vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        // One by the temperature that training starts with.
        let init = Init::Const(-(0.07f64.ln()));
        let both = config.image.is_some() && config.text.is_some();
        Ok(Self {
            image: config.image.as_ref().map(|image| ImageTower::new(image, &config, naming, vb)).transpose()?,
            text: config.text.as_ref().map(|text| TextTower::new(text, &config, naming, vb)).transpose()?,
            logit_scale: both.then(|| vb.get_with_hints((), LOGIT_SCALE, init)).transpose()?,
            device: vb.device().clone(),
            config,
        })
    }

    /// Opens a checkpoint on the CPU: a file with the names of the original program, `open_clip` or `transformers`, or a
    /// folder as model hubs have them. Heads and activation come from the `config.json` or `open_clip_config.json`
    /// beside it; without one of this network they are those of the published networks of the same widths.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] when a file, also one beside, cannot be read or heads are unknown,
    /// [`Error::Weights`] with the likely cause when it holds another network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let config = ClipConfig::from_checkpoint_and_neighbours(&checkpoint)?;
        Self::load(&checkpoint, config, &Device::Cpu)
    }

    /// Loads a checkpoint as the network of a configuration, e.g. that of [`ClipConfig::from_checkpoint`] with another
    /// activation or without one of the towers.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::InvalidParameter`] for an impossible configuration.
    pub fn load(checkpoint: &Checkpoint, config: ClipConfig, device: &Device) -> Result<Self> {
        config.validate()?;
        let naming = Naming::of(|name| checkpoint.contains(name)).unwrap_or(Naming::OpenAi);
        let ignored = naming.ignored(config.image.is_some(), config.text.is_some());
        load(checkpoint, device, &ignored, |weights| Self::build(config, naming, &weights))
    }

    /// The network's shape.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// N×3×H×W normalised pixels, H and W multiples of the patch, to N×E features, not normalised. For other sizes than
    /// that of training the position table is interpolated bicubically.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] without image tower, [`Error::Model`] for another shape or when the tensor library
    /// fails.
    pub fn encode_image_tensor(&self, images: &Tensor) -> Result<Tensor> {
        self.image()?.features(images).map_err(Error::model)
    }

    /// N×3×H×W normalised pixels to N×(1 + h·w)×C tokens after the last block, before the last normalisation; the class
    /// token comes first, the patches row by row.
    ///
    /// # Errors
    /// As [`encode_image_tensor`](Self::encode_image_tensor).
    pub fn image_tokens(&self, images: &Tensor) -> Result<Tensor> {
        self.image()?.tokens(images).map_err(Error::model)
    }

    /// N×3×H×W normalised pixels to N×h×w×E features of the patches in the space of images and texts, not normalised.
    ///
    /// # Errors
    /// As [`encode_image_tensor`](Self::encode_image_tensor).
    pub fn dense_features(&self, images: &Tensor, kind: ClipDense) -> Result<Tensor> {
        self.image()?.dense_features(images, kind).map_err(Error::model)
    }

    /// N×T token ids, T at most the context length, to N×E features, not normalised. A text ends at the first of its
    /// largest ids, which is the end token; what follows has no influence.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] without text tower, [`Error::InvalidInput`] for an id beyond the vocabulary,
    /// [`Error::ShapeMismatch`] without texts or with more tokens than the context length.
    pub fn encode_token_ids(&self, ids: &Array2<u32>) -> Result<Tensor> {
        let ends = ids.outer_iter().map(|text| {
            let largest = text.iter().copied().max();
            text.iter().position(|&id| Some(id) == largest).unwrap_or(0)
        });
        let ends = ends.map(|end| end as u32).collect::<Vec<_>>();
        // No token sees a later one, so that what follows every end can be left out.
        let length = ends.iter().max().map_or(0, |&end| end as usize + 1);
        self.text()?.features(&self.id_tensor(ids, length)?, &ends).map_err(Error::model)
    }

    /// N×T token ids to N×T×C tokens after the last normalisation.
    ///
    /// # Errors
    /// As [`encode_token_ids`](Self::encode_token_ids).
    pub fn text_tokens(&self, ids: &Array2<u32>) -> Result<Tensor> {
        self.text()?.hidden(&self.id_tensor(ids, ids.ncols())?).map_err(Error::model)
    }

    /// What cosines are multiplied by before the softmax over texts: 100 in published networks.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a network of one tower.
    pub fn logit_scale(&self) -> Result<f32> {
        let scale = self.logit_scale_tensor()?.to_dtype(candle_core::DType::F32);
        scale.and_then(|scale| scale.to_scalar::<f32>()).map(f32::exp).map_err(Error::model)
    }

    /// N×M logits of N×E image features and M×E text features, which need not be normalised: the cosine of each pair
    /// times [`logit_scale`](Self::logit_scale).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a network of one tower, [`Error::Model`] for other shapes.
    pub fn logits(&self, image_features: &Tensor, text_features: &Tensor) -> Result<Tensor> {
        let scale = self.logit_scale_tensor()?;
        let logits =
            || unit_rows(image_features)?.matmul(&unit_rows(text_features)?.t()?)?.broadcast_mul(&scale.exp()?);
        logits().map_err(Error::model)
    }

    fn image(&self) -> Result<&ImageTower> {
        self.image.as_ref().ok_or_else(|| Error::parameter("image", "the network was loaded without its image tower"))
    }

    fn text(&self) -> Result<&TextTower> {
        self.text.as_ref().ok_or_else(|| Error::parameter("text", "the network was loaded without its text tower"))
    }

    fn logit_scale_tensor(&self) -> Result<&Tensor> {
        let reason = "it belongs to both towers, and the network was loaded without one of them";
        self.logit_scale.as_ref().ok_or_else(|| Error::parameter(LOGIT_SCALE, reason))
    }

    /// The first `length` ids of every text.
    fn id_tensor(&self, ids: &Array2<u32>, length: usize) -> Result<Tensor> {
        let (context, vocabulary) = self.text()?.sizes();
        let (texts, given) = ids.dim();
        if texts == 0 || !(1..=context).contains(&given) {
            return Err(Error::shape("token ids", format!("Nx1 to Nx{context}, N > 0"), format!("{texts}x{given}")));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            let reason = format!("id {id} is beyond the network's vocabulary of {vocabulary}");
            return Err(Error::input("token ids", reason));
        }
        let cut = ids.outer_iter().flat_map(|text| text.iter().take(length).copied().collect::<Vec<_>>());
        Tensor::from_vec(cut.collect::<Vec<_>>(), (texts, length), &self.device).map_err(Error::model)
    }
}
