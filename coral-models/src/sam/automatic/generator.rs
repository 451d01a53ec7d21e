use candle_core::Tensor;
use coral_core::image::RgbImage;
use coral_core::{Error, InstanceMask, NoProgress, PointPrompt, Progress, Prompt, Result};
use ndarray::{Array2, Array3, ArrayView2};

use super::decoder::{MaskScores, PointDecoder};
use super::generate::generate;
use super::tiles::generate_on_tiles;
use super::{GeneratorConfig, TileConfig};
use crate::sam::embedding::Embedding;
use crate::sam::mask_decoder::{MaskChoice, Scored};
use crate::sam::predictor::Predictor;
use crate::sam::preprocess::MaskUpsampler;
use crate::sam::prompt_tokens::tokens;

/// Finds every object in an image, without prompts.
///
/// A grid of clicks on the image and on overlapping crops of it gives candidates; background, doubtful and cut masks
/// are dropped, duplicates suppressed and ragged masks cleaned. Of the predictor's configuration only
/// `prompts_per_batch` counts, for the masks that are drawn at once.
///
/// At any time the full-resolution logits of one mask per thread are held; finished masks are runs.
///
/// # Examples
/// ```no_run
/// use coral_core::image::RgbImage;
/// use coral_models::{GeneratorConfig, MaskGenerator, Predictor, Sam};
/// let predictor = Predictor::new(Sam::open("coralscop.pth")?);
/// let generator = MaskGenerator::new(predictor, GeneratorConfig::coralscop())?;
/// for coral in generator.generate(&RgbImage::new(1024, 768))? {
///     println!("{} pixels of class {:?}", coral.area(), coral.class);
/// }
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023; Zheng et al., *CoralSCOP*, CVPR 2024. Against the published program
/// with CoralSCOP's network: the same masks in the same order but for at most 8 pixels each, scores within 1e-3.
#[derive(Debug, Clone)]
pub struct MaskGenerator {
    predictor: Predictor,
    config: GeneratorConfig,
}

impl MaskGenerator {
    /// A generator with this network and these settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn new(predictor: Predictor, config: GeneratorConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { predictor, config })
    }

    /// The network.
    pub fn predictor(&self) -> &Predictor {
        &self.predictor
    }

    /// The settings.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// The masks of everything in `image`, in the order of the published program: masks of small crops before those
    /// of the whole image, in each crop the one with the highest predicted IoU first, and those from which a small
    /// region was removed last.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an image without pixels, [`Error::Model`] when the network fails.
    pub fn generate(&self, image: &RgbImage) -> Result<Vec<InstanceMask>> {
        self.generate_with_progress(image, &NoProgress)
    }

    /// [`generate`](Self::generate) that reports each batch of points.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_with_progress(&self, image: &RgbImage, progress: &dyn Progress) -> Result<Vec<InstanceMask>> {
        generate(&self.predictor, &self.config, image, progress)
    }

    /// [`generate`](Self::generate) for an image far larger than the network's input: tile by tile, objects across
    /// tiles in one piece ([`join_tiles`](super::join_tiles)). Reports each tile. Mosaics that do not fit into memory
    /// are generated tile by tile with [`tile_boxes`](super::tile_boxes) and joined in the same way.
    ///
    /// # Errors
    /// As [`generate`](Self::generate), and [`Error::InvalidParameter`] naming a field of `tiles`.
    pub fn generate_tiled(
        &self,
        image: &RgbImage,
        tiles: &TileConfig,
        progress: &dyn Progress,
    ) -> Result<Vec<InstanceMask>> {
        generate_on_tiles(image, tiles, progress, |tile| self.generate(tile))
    }
}

/// An embedded image or crop, and what brings masks to its size.
#[derive(Debug)]
pub(crate) struct EmbeddedImage {
    embedding: Embedding,
    upsampler: MaskUpsampler,
}

impl PointDecoder for Predictor {
    type Embedding = EmbeddedImage;
    type Decoded = Scored;

    fn embed(&self, image: &RgbImage) -> Result<EmbeddedImage> {
        let embedding = Self::embed(self, image)?;
        Ok(EmbeddedImage { upsampler: self.upsampler(&embedding)?, embedding })
    }

    fn decode_points(
        &self,
        image: &EmbeddedImage,
        points: &[[f32; 2]],
        multimask: bool,
    ) -> Result<(Scored, MaskScores)> {
        let choice = if multimask { MaskChoice::Multiple } else { MaskChoice::Single };
        let click = |&[x, y]: &[f32; 2]| {
            let points = vec![PointPrompt { x, y, foreground: true }];
            tokens(&Prompt { points, ..Prompt::default() }, &image.embedding)
        };
        let prompts: Vec<_> = points.iter().map(click).collect();
        let scored = self.sam().score(image.embedding.features(), &prompts, choice).map_err(Error::model)?;
        let rows = |values: &Tensor| matrix(values, "scores");
        let scores = MaskScores {
            predicted_iou: rows(&scored.iou.unsqueeze(2).map_err(Error::model)?)?.into_iter().collect(),
            class_logits: scored.semantics.as_ref().map(|s| rows(&s.logits)).transpose()?,
            features: scored.semantics.as_ref().map(|s| rows(&s.features)).transpose()?,
        };
        Ok((scored, scores))
    }

    fn masks(&self, scored: &Scored, positions: &[usize]) -> Result<Array3<f32>> {
        let (_, per_point) = scored.iou.dims2().map_err(Error::model)?;
        let mut prompts: Vec<u32> = positions.iter().map(|at| (at / per_point) as u32).collect();
        prompts.dedup();
        let mut drawn = Vec::new();
        let mut shape = (0, 0);
        for batch in prompts.chunks(self.config().prompts_per_batch) {
            let masks = self.sam().masks_of(scored, batch).map_err(Error::model)?;
            let (_, _, height, width) = masks.dims4().map_err(Error::model)?;
            shape = (height, width);
            let planes = matrix(&masks.flatten_from(2).map_err(Error::model)?, "mask logits")?;
            // Of the masks of a point, only some may be asked for.
            for (row, plane) in planes.outer_iter().enumerate() {
                let at = batch[row / per_point] as usize * per_point + row % per_point;
                if positions.binary_search(&at).is_ok() {
                    drawn.extend(plane.iter().copied());
                }
            }
        }
        Array3::from_shape_vec((positions.len(), shape.0, shape.1), drawn).map_err(Error::model)
    }

    fn upsample(&self, image: &EmbeddedImage, low_res: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let low_res = low_res.as_standard_layout();
        let values = low_res.as_slice().ok_or_else(|| Error::model("mask logits are not contiguous"))?;
        let logits = image.upsampler.upsample(values)?;
        Array2::from_shape_vec(image.embedding.original_size().shape(), logits).map_err(Error::model)
    }
}

/// B×M×D values as (B·M)×D.
fn matrix(values: &Tensor, what: &str) -> Result<Array2<f32>> {
    let (batch, masks, dim) = values.dims3().map_err(Error::model)?;
    let values = values.flatten_all().and_then(|v| v.to_vec1::<f32>()).map_err(Error::model)?;
    if values.iter().any(|v| !v.is_finite()) {
        return Err(Error::model(format!("the mask decoder gave {what} that are not finite")));
    }
    Array2::from_shape_vec((batch * masks, dim), values).map_err(Error::model)
}
