use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use coral_core::{Error, FeatureMap, Prompt, Result, Size, write_atomically};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::config::SamConfig;
use super::preprocess::{MaskUpsampler, longest_side_size};
use super::prompt_encoder::Token;
use super::prompt_tokens::tokens;

/// An image after the image encoder; serves any number of prompts.
///
/// Cloning is cheap, and [`save`](Self::save) keeps it for later.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// 1×h×w×C.
    features: Tensor,
    original_size: Size,
    /// What the image was resized to, before padding.
    input_size: Size,
    /// Side of the padded square.
    image_size: u32,
}

/// Most pixels of an image whose size a file may claim: masks of them have to be made.
const MOST_PIXELS: usize = 1 << 33;
const FORMAT: &str = "coral-sam-embedding-1";

impl Embedding {
    pub(crate) fn new(features: Tensor, original_size: Size, input_size: Size, image_size: u32) -> Self {
        Self { features, original_size, input_size, image_size }
    }

    /// Checks that it is of a network of this shape, and gives the size of that network's low-resolution masks.
    pub(crate) fn expect_of(&self, config: &SamConfig, what: &str) -> Result<Size> {
        let side = config.image_size / config.token_pixels();
        let expected = [1, side, side, config.dim];
        if self.features.dims() != expected || self.image_size as usize != config.image_size {
            return Err(Error::shape(what, format!("{expected:?}"), format!("{:?}", self.features.dims())));
        }
        Ok(Size { width: 4 * side as u32, height: 4 * side as u32 })
    }

    /// The size of the image as it was given, in pixels.
    pub fn original_size(&self) -> Size {
        self.original_size
    }

    /// The size that the image was resized to before it was padded to a square.
    pub fn input_size(&self) -> Size {
        self.input_size
    }

    /// Side of the padded square, in pixels.
    pub fn image_size(&self) -> u32 {
        self.image_size
    }

    /// The features, 1×h×w×C; the padding takes part.
    pub fn features(&self) -> &Tensor {
        &self.features
    }

    /// What brings masks of such a low resolution to the size of the image.
    pub(crate) fn upsampler(&self, low_res: Size) -> Result<MaskUpsampler> {
        MaskUpsampler::new(low_res, self.image_size, self.input_size, self.original_size)
    }

    /// The tokens of a prompt on this image.
    pub(crate) fn tokens(&self, prompt: &Prompt) -> Vec<Token> {
        tokens(prompt, self.original_size, self.input_size)
    }

    /// The features without the padding, as C×h×w that tile the original image.
    ///
    /// # Errors
    /// [`Error::Model`] when the tensor library fails.
    pub fn feature_map(&self) -> Result<FeatureMap> {
        let map = || -> candle_core::Result<Tensor> {
            let (_, height, width, _) = self.features.dims4()?;
            let used = |tokens: usize, pixels: u32| {
                let share = f64::from(pixels) / f64::from(self.image_size);
                ((tokens as f64 * share).round() as usize).clamp(1, tokens)
            };
            let (h, w) = (used(height, self.input_size.height), used(width, self.input_size.width));
            self.features.squeeze(0)?.narrow(0, 0, h)?.narrow(1, 0, w)?.permute((2, 0, 1))
        };
        crate::tensor_to_feature_map(&map().map_err(Error::model)?, self.original_size)
    }

    /// Writes the embedding to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let values = self.features.flatten_all().and_then(|t| t.to_dtype(DType::F32)?.to_vec1::<f32>());
        let bytes: Vec<u8> = values.map_err(Error::model)?.iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, self.features.dims().to_vec(), &bytes).map_err(Error::model)?;
        let metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("original_size".to_owned(), self.original_size.to_string()),
            ("input_size".to_owned(), self.input_size.to_string()),
            ("image_size".to_owned(), self.image_size.to_string()),
        ]);
        let file = safetensors::serialize([("features", view)], Some(metadata)).map_err(Error::model)?;
        write_atomically(path, |out| out.write_all(&file))
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] naming the file and the field.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let fault = |reason: String| Error::format(path, None, format!("not a saved embedding: {reason}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| fault(e.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let field = |name: &str| metadata.get(name).ok_or_else(|| fault(format!("expected the field `{name}`")));
        let format = field("format")?;
        if format != FORMAT {
            return Err(fault(format!("expected the format `{FORMAT}`, got `{format}`")));
        }
        let size = |name: &str| -> Result<Size> {
            let text = field(name)?;
            let parsed = text.split_once('x').and_then(|(w, h)| {
                let size = Size { width: w.parse().ok()?, height: h.parse().ok()? };
                (size.pixels() > 0).then_some(size)
            });
            parsed.ok_or_else(|| fault(format!("expected `{name}` as WIDTHxHEIGHT, got `{text}`")))
        };
        let (original_size, input_size) = (size("original_size")?, size("input_size")?);
        if original_size.pixels() > MOST_PIXELS {
            return Err(fault(format!("`original_size` {original_size} is more than any image")));
        }
        let image_size = field("image_size")?;
        let image_size = image_size.parse().ok().filter(|&side: &u32| side >= input_size.width.max(input_size.height));
        let image_size = image_size.ok_or_else(|| fault("`image_size` does not hold the image".into()))?;
        let expected = longest_side_size(original_size, image_size);
        if input_size != expected {
            return Err(fault(format!("expected `input_size` {expected} for {original_size}, got {input_size}")));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|e| fault(e.to_string()))?;
        let view = file.tensor("features").map_err(|e| fault(e.to_string()))?;
        if view.dtype() != Dtype::F32 || view.shape().len() != 4 || view.shape()[0] != 1 || view.shape().contains(&0) {
            return Err(fault(format!("expected f32 features 1xhxwxC, got {:?} {:?}", view.dtype(), view.shape())));
        }
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(fault("a feature is not finite".into()));
        }
        let features = Tensor::from_vec(values, view.shape(), device).map_err(Error::model)?;
        Ok(Self { features, original_size, input_size, image_size })
    }
}
