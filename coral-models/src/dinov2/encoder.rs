use std::path::Path;

use candle_core::{D, Tensor};
use coral_core::image::RgbImage;
use coral_core::ndarray::Array2;
use coral_core::{Error, FeatureExtractor, FeatureMap, ImageEncoder, Result, Size};
use serde::{Deserialize, Serialize};

use super::network::{DinoV2, DinoV2Tokens};
use super::preprocess::{InputFilter, InputSize};
use crate::fingerprint::Fingerprint;
use crate::tensor::unit_rows;
use crate::{Normalization, images_to_tensor, tensor_to_feature_map, tensor_to_rows};

/// How a [`DinoV2Encoder`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DinoV2EncoderConfig {
    /// Most images that go through the network at a time.
    pub batch: usize,
    /// The size in which images are seen.
    pub size: InputSize,
    /// How they are brought to it.
    pub filter: InputFilter,
}

impl Default for DinoV2EncoderConfig {
    fn default() -> Self {
        Self { batch: 8, size: InputSize::default(), filter: InputFilter::default() }
    }
}

/// DINOv2 for photographs: resized, normalised with the statistics of ImageNet, encoded.
///
/// - [`ImageEncoder`] gives the class token of the whole image as a unit row.
/// - [`FeatureExtractor`] gives the patch tokens, for what compares places in images; not normalised.
/// - [`linear_input`](Self::linear_input) is what linear heads and [`FrameClassifier`](crate::FrameClassifier) look at.
///
/// # Examples
/// ```no_run
/// use coral_core::FeatureExtractor;
/// use coral_core::image::RgbImage;
/// use coral_models::{DinoV2Encoder, DinoV2EncoderConfig, InputSize};
/// let config = DinoV2EncoderConfig { size: InputSize::Square(448), ..DinoV2EncoderConfig::default() };
/// let dinov2 = DinoV2Encoder::open("dinov2_vitb14_pretrain.pth")?.with_config(config)?;
/// assert_eq!(dinov2.extract(&RgbImage::new(640, 480))?.data.dim(), (768, 32, 32));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Oquab et al., *DINOv2: Learning Robust Visual Features without Supervision*, TMLR 2024.
#[derive(Debug, Clone)]
pub struct DinoV2Encoder {
    network: DinoV2,
    config: DinoV2EncoderConfig,
}

impl DinoV2Encoder {
    /// An encoder around a network, with the default configuration but for the size of images: they are squares as large
    /// as those that the network's position table is for (518 pixels in published networks).
    pub fn new(network: DinoV2) -> Self {
        let size = InputSize::Square(network.config().image_size as u32);
        Self { network, config: DinoV2EncoderConfig { size, ..DinoV2EncoderConfig::default() } }
    }

    /// Opens a checkpoint as [`DinoV2::open`] does.
    ///
    /// # Errors
    /// Those of [`DinoV2::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        DinoV2::open(path).map(Self::new)
    }

    /// The same network at work in another way.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn with_config(self, config: DinoV2EncoderConfig) -> Result<Self> {
        if config.batch == 0 {
            return Err(Error::parameter("batch", "expected at least 1, got 0"));
        }
        config.size.validate(self.network.config().patch)?;
        Ok(Self { config, ..self })
    }

    /// The network.
    pub fn network(&self) -> &DinoV2 {
        &self.network
    }

    /// How it works.
    pub fn config(&self) -> &DinoV2EncoderConfig {
        &self.config
    }

    /// The class token and the mean of the patch tokens of N images of any sizes beside each other, N×2C. Registers are in
    /// neither half (the classifier of `transformers` up to 4.51 counts them among the patches).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the image that is smaller than a patch or too long, [`Error::Model`] when the
    /// network fails.
    pub fn linear_input(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
        self.linear_rows(images, &self.input_sizes(images)?)
    }

    /// [`linear_input`](Self::linear_input) of images that [`resized`](Self::resized) gave.
    pub(super) fn linear_input_of_resized(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
        self.linear_rows(images, &images.iter().map(Size::of).collect::<Vec<_>>())
    }

    /// An image in the size in which it is seen, which may need far less memory.
    pub(super) fn resized(&self, image: &RgbImage) -> Result<RgbImage> {
        self.config.filter.resize(image, self.input_size(image)?)
    }

    fn linear_rows(&self, images: &[RgbImage], sizes: &[Size]) -> Result<Array2<f32>> {
        self.rows((images, sizes), 2 * self.network.config().width, |tokens| {
            let mean = tokens.patches.flatten(1, 2)?.mean(1)?;
            Tensor::cat(&[&tokens.class, &mean], D::Minus1)
        })
    }

    /// What tells this encoder's features from those of others: a hash of the weights and of all settings that matter.
    /// It takes a moment for a large network; the same weights under other names have the same.
    ///
    /// # Errors
    /// [`Error::Model`] when the weights cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = Fingerprint::default();
        let settings = (self.network.config(), self.config.size, self.config.filter);
        hash.add_bytes(&serde_json::to_vec(&settings).map_err(Error::model)?);
        self.network.tensors()?.iter().try_for_each(|tensor| hash.add_tensor(tensor))?;
        Ok(hash.finish())
    }

    /// `width` values per image, computed from batches of images that are seen in one of `sizes`, an entry per image.
    fn rows(
        &self,
        (images, sizes): (&[RgbImage], &[Size]),
        width: usize,
        of_tokens: impl Fn(&DinoV2Tokens) -> candle_core::Result<Tensor>,
    ) -> Result<Array2<f32>> {
        let mut order: Vec<usize> = (0..images.len()).collect();
        order.sort_by_key(|&index| (sizes[index].width, sizes[index].height));
        let mut rows = Array2::zeros((images.len(), width));
        for same in order.chunk_by(|&a, &b| sizes[a] == sizes[b]) {
            for batch in same.chunks(self.config.batch) {
                let pixels = self.pixels(batch.iter().map(|&index| &images[index]), sizes[same[0]])?;
                let values = tensor_to_rows(&of_tokens(&self.network.forward(&pixels)?).map_err(Error::model)?)?;
                batch.iter().zip(values.rows()).for_each(|(&index, row)| rows.row_mut(index).assign(&row));
            }
        }
        Ok(rows)
    }

    fn input_size(&self, image: &RgbImage) -> Result<Size> {
        self.config.size.of(Size::of(image), self.network.config().patch)
    }

    fn input_sizes(&self, images: &[RgbImage]) -> Result<Vec<Size>> {
        let size = |(index, image): (usize, &RgbImage)| match self.input_size(image) {
            Err(Error::InvalidInput { reason, .. }) => Err(Error::input(format!("images[{index}]"), reason)),
            other => other,
        };
        images.iter().enumerate().map(size).collect()
    }

    fn pixels<'a>(&self, images: impl Iterator<Item = &'a RgbImage>, size: Size) -> Result<Tensor> {
        let resized = images.map(|image| self.config.filter.resize(image, size)).collect::<Result<Vec<_>>>()?;
        images_to_tensor(&resized, &Normalization::IMAGENET, self.network.device())
    }
}

impl ImageEncoder for DinoV2Encoder {
    fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
        let sizes = self.input_sizes(images)?;
        self.rows((images, &sizes), self.network.config().width, |tokens| unit_rows(&tokens.class))
    }
}

impl FeatureExtractor for DinoV2Encoder {
    fn dim(&self) -> usize {
        self.network.config().width
    }

    /// The patch tokens; their grid covers the whole image.
    fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
        let pixels = self.pixels(std::iter::once(image), self.input_size(image)?)?;
        let patches = self.network.forward(&pixels)?.patches;
        let planes = patches.squeeze(0).and_then(|grid| grid.permute((2, 0, 1))).map_err(Error::model)?;
        tensor_to_feature_map(&planes, Size::of(image))
    }
}
