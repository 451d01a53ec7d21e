use std::path::Path;

use candle_core::Tensor;
use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, Axis, concatenate};
use coral_core::{Error, FeatureExtractor, FeatureMap, ImageEncoder, Result, Size, TextEncoder};
use serde::{Deserialize, Serialize};

use super::config::LARGEST_GRID;
use super::image_tower::ClipDense;
use super::model::Clip;
use super::preprocess::ClipPreprocess;
use super::tokenizer::ClipTokenizer;
use crate::tensor::unit_rows;
use crate::{PillowFilter, images_to_tensor, resize_image, tensor_to_feature_map, tensor_to_rows};

/// How a [`ClipEncoder`] works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipEncoderConfig {
    /// Most images or texts that go through the network at a time.
    pub batch: usize,
    /// The dense features that [`FeatureExtractor::extract`] gives.
    pub dense: ClipDense,
    /// The shorter side to which images are resized for dense features, in pixels; the training images' without one.
    pub dense_side: Option<usize>,
}

impl Default for ClipEncoderConfig {
    fn default() -> Self {
        Self { batch: 16, dense: ClipDense::default(), dense_side: None }
    }
}

/// Photographs and sentences into one space, with pre-processing and tokenizer.
///
/// - [`ImageEncoder`] sees the middle square of a photograph of any size, as CLIP was trained.
/// - [`TextEncoder`] cuts texts that are longer than the network's context, unless the tokenizer refuses them.
/// - [`FeatureExtractor`] sees the whole photograph: the shorter side is resized to that of training, or
///   [`ClipEncoderConfig::dense_side`], the longer one in proportion, each rounded to whole patches. Features are in the
///   space of the texts and not normalised.
///
/// # Examples
/// ```no_run
/// use coral_core::image::RgbImage;
/// use coral_core::{ImageEncoder, TextEncoder};
/// use coral_models::ClipEncoder;
/// let clip = ClipEncoder::open("clip-vit-base-patch32", "clip-vit-base-patch32")?;
/// let photographs = clip.encode_images(&[RgbImage::new(640, 480)])?;
/// let texts = clip.encode_texts(&["a photo of sand", "a photo of seagrass"])?;
/// let logits = photographs.dot(&texts.t()) * clip.clip().logit_scale()?;
/// assert_eq!(logits.dim(), (1, 2));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Radford et al., *Learning Transferable Visual Models From Natural Language Supervision*, ICML 2021; dense features:
/// Zhou et al., *Extract Free Dense Labels from CLIP*, ECCV 2022.
#[derive(Debug)]
pub struct ClipEncoder {
    clip: Clip,
    tokenizer: ClipTokenizer,
    preprocess: ClipPreprocess,
    config: ClipEncoderConfig,
}

impl ClipEncoder {
    /// Opens a checkpoint ([`Clip::open`]) and a vocabulary ([`ClipTokenizer::open`]) on the CPU. One folder of a model
    /// hub may hold both. The statistics of images come from the `preprocessor_config.json` or `open_clip_config.json`
    /// beside the checkpoint; without one they are OpenAI's.
    ///
    /// # Errors
    /// Those of the two, and of [`new`](Self::new); [`Error::Format`] when such a file asks for another way of resizing
    /// than the shorter side's by Pillow's bicubic filter.
    pub fn open(checkpoint: impl AsRef<Path>, vocabulary: impl AsRef<Path>) -> Result<Self> {
        let checkpoint = checkpoint.as_ref();
        let clip = Clip::open(checkpoint)?;
        let size = clip.config().image.as_ref().map_or(224, |image| image.image_size);
        let preprocess = ClipPreprocess::beside(checkpoint, size as u32)?;
        Self::new(clip, ClipTokenizer::open(vocabulary)?, preprocess)
    }

    /// Puts the parts together.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the tokenizer has more ids than the network, or the images' size is no multiple of
    /// its patch.
    pub fn new(clip: Clip, tokenizer: ClipTokenizer, preprocess: ClipPreprocess) -> Result<Self> {
        preprocess.validate()?;
        if let Some(text) = &clip.config().text
            && tokenizer.vocab_size() > text.vocab_size
        {
            let reason = format!("{} ids, but the network knows {}", tokenizer.vocab_size(), text.vocab_size);
            return Err(Error::parameter("tokenizer", reason));
        }
        if let Some(image) = &clip.config().image {
            expect_patches("preprocess.size", preprocess.size as usize, image.patch)?;
        }
        Ok(Self { clip, tokenizer, preprocess, config: ClipEncoderConfig::default() })
    }

    /// The same parts at work in another way.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn with_config(self, config: ClipEncoderConfig) -> Result<Self> {
        if config.batch == 0 {
            return Err(Error::parameter("batch", "expected at least 1, got 0"));
        }
        if let (Some(side), Some(image)) = (config.dense_side, &self.clip.config().image) {
            expect_patches("dense_side", side, image.patch)?;
        }
        Ok(Self { config, ..self })
    }

    /// The network.
    pub fn clip(&self) -> &Clip {
        &self.clip
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &ClipTokenizer {
        &self.tokenizer
    }

    /// What happens to images first.
    pub fn preprocess(&self) -> &ClipPreprocess {
        &self.preprocess
    }

    /// Encodes batch after batch as N×E unit rows.
    fn in_batches<T>(&self, items: &[T], encode: impl Fn(&[T]) -> Result<Tensor>) -> Result<Array2<f32>> {
        let batches = items.chunks(self.config.batch).map(|batch| {
            let rows = unit_rows(&encode(batch)?).map_err(Error::model)?;
            tensor_to_rows(&rows)
        });
        let batches = batches.collect::<Result<Vec<_>>>()?;
        if batches.is_empty() {
            return Ok(Array2::zeros((0, self.clip.config().embed_dim)));
        }
        let views = batches.iter().map(|rows| rows.view()).collect::<Vec<_>>();
        concatenate(Axis(0), &views).map_err(Error::model)
    }

    /// The size at which a whole image goes through the network.
    fn dense_size(&self, original: Size) -> Result<Size> {
        let Some(image) = &self.clip.config().image else {
            return Err(Error::parameter("image", "the network was loaded without its image tower"));
        };
        let short = self.config.dense_side.unwrap_or(image.image_size);
        let scale = short as f64 / f64::from(original.width.min(original.height));
        let patches = |side: u32| ((f64::from(side) * scale / image.patch as f64).round() as usize).max(1);
        let (columns, rows) = (patches(original.width), patches(original.height));
        if columns.max(rows) > LARGEST_GRID {
            let reason = format!(
                "an image of {original} would have {columns}x{rows} patches; expected {LARGEST_GRID} a side at most: \
                 cut it into tiles"
            );
            return Err(Error::input("image", reason));
        }
        Ok(Size { width: (columns * image.patch) as u32, height: (rows * image.patch) as u32 })
    }
}

fn expect_patches(name: &str, size: usize, patch: usize) -> Result<()> {
    if size > 0 && size.is_multiple_of(patch) && size / patch <= LARGEST_GRID {
        return Ok(());
    }
    let reason = format!("expected a multiple of the patch ({patch}) up to {LARGEST_GRID} patches, got {size}");
    Err(Error::parameter(name, reason))
}

impl ImageEncoder for ClipEncoder {
    fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
        if let Some((index, image)) = images.iter().enumerate().find(|(_, image)| Size::of(image).pixels() == 0) {
            let reason = format!("an image of {} has no pixels", Size::of(image));
            return Err(Error::input(format!("images[{index}]"), reason));
        }
        self.in_batches(images, |images| {
            self.clip.encode_image_tensor(&self.preprocess.to_tensor(images, self.clip.device())?)
        })
    }
}

impl TextEncoder for ClipEncoder {
    fn encode_texts(&self, texts: &[&str]) -> Result<Array2<f32>> {
        let Some(text) = &self.clip.config().text else {
            return Err(Error::parameter("text", "the network was loaded without its text tower"));
        };
        // All at once, so that errors count the texts from the first.
        let ids = self.tokenizer.tokenize(texts, text.context_length)?;
        let rows = (0..texts.len()).collect::<Vec<_>>();
        self.in_batches(&rows, |rows| self.clip.encode_token_ids(&ids.select(Axis(0), rows)))
    }
}

impl FeatureExtractor for ClipEncoder {
    fn dim(&self) -> usize {
        self.clip.config().embed_dim
    }

    fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
        let original = Size::of(image);
        if original.pixels() == 0 {
            return Err(Error::input("image", format!("an image of {original} has no pixels")));
        }
        let resized = resize_image(image, self.dense_size(original)?, PillowFilter::Bicubic)?;
        let pixels = images_to_tensor(&[resized], &self.preprocess.normalization(), self.clip.device())?;
        let features = self.clip.dense_features(&pixels, self.config.dense)?;
        let planes = features.squeeze(0).and_then(|grid| grid.permute((2, 0, 1))).map_err(Error::model)?;
        tensor_to_feature_map(&planes, original)
    }
}
