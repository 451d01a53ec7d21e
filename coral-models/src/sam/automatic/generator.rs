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
use crate::sam::model::PromptBatch;
use crate::sam::predictor::Predictor;
use crate::sam::preprocess::MaskUpsampler;

/// Finds every object in an image, without prompts.
///
/// A grid of clicks on the image and on overlapping crops of it gives candidates; background, doubtful and cut masks
/// are dropped, duplicates suppressed and ragged masks cleaned. Of the predictor's configuration only
/// `prompts_per_batch` counts: it bounds the memory of the mask decoder.
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

/// A batch of scored points in groups of `prompts_per_batch`, the last one possibly smaller.
#[derive(Debug)]
pub(crate) struct ScoredPoints {
    groups: Vec<Scored>,
    masks_per_point: usize,
}

impl PointDecoder for Predictor {
    type Embedding = EmbeddedImage;
    type Decoded = ScoredPoints;

    fn embed(&self, image: &RgbImage) -> Result<EmbeddedImage> {
        let embedding = Self::embed(self, image)?;
        Ok(EmbeddedImage { upsampler: self.upsampler(&embedding)?, embedding })
    }

    fn decode_points(
        &self,
        image: &EmbeddedImage,
        points: &[[f32; 2]],
        multimask: bool,
    ) -> Result<(ScoredPoints, MaskScores)> {
        let choice = if multimask { MaskChoice::Multiple } else { MaskChoice::Single };
        let click = |&[x, y]: &[f32; 2]| {
            let points = vec![PointPrompt { x, y, foreground: true }];
            image.embedding.tokens(&Prompt { points, ..Prompt::default() })
        };
        // The transformer's working memory grows with the points it handles at once, far beyond what a scored point
        // keeps: its C values per image token.
        let groups = points.chunks(self.config().prompts_per_batch).map(|group| {
            let prompts: Vec<_> = group.iter().map(click).collect();
            self.sam().score(image.embedding.features(), &PromptBatch::of(&prompts), choice).map_err(Error::model)
        });
        let groups = groups.collect::<Result<Vec<_>>>()?;
        let iou = rows(&groups, |scored| Some(&scored.iou))?;
        let scores = MaskScores {
            predicted_iou: iou.into_iter().flatten().collect(),
            class_logits: rows(&groups, |scored| scored.semantics.as_ref().map(|s| &s.logits))?,
            features: rows(&groups, |scored| scored.semantics.as_ref().map(|s| &s.features))?,
        };
        let masks_per_point = scores.predicted_iou.len() / points.len().max(1);
        Ok((ScoredPoints { groups, masks_per_point }, scores))
    }

    fn masks(&self, decoded: &ScoredPoints, positions: &[usize]) -> Result<Array3<f32>> {
        let masks_per_point = decoded.masks_per_point.max(1);
        let mut drawn = Vec::new();
        let mut plane = (0, 0);
        for (index, scored) in decoded.groups.iter().enumerate() {
            let first = index * self.config().prompts_per_batch;
            let points = scored.iou.dim(0).map_err(Error::model)?;
            let asked = |mask: usize| positions.binary_search(&mask).is_ok();
            let masks_of =
                |point: usize| (0..masks_per_point).map(move |mask| (first + point) * masks_per_point + mask);
            let chosen: Vec<u32> = (0..points).filter(|&p| masks_of(p).any(asked)).map(|p| p as u32).collect();
            if chosen.is_empty() {
                continue;
            }
            let masks = self.sam().masks_of(scored, &chosen).map_err(Error::model)?;
            let (_, _, height, width) = masks.dims4().map_err(Error::model)?;
            plane = (height, width);
            let values = finite(&masks, "mask logits")?;
            let numbers = chosen.iter().flat_map(|&p| masks_of(p as usize));
            for (_, mask) in numbers.zip(values.chunks_exact(height * width)).filter(|&(number, _)| asked(number)) {
                drawn.extend_from_slice(mask);
            }
        }
        Array3::from_shape_vec((positions.len(), plane.0, plane.1), drawn).map_err(Error::model)
    }

    fn upsample(&self, image: &EmbeddedImage, low_res: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let low_res = low_res.as_standard_layout();
        let values = low_res.as_slice().ok_or_else(|| Error::model("mask logits are not contiguous"))?;
        let logits = image.upsampler.upsample(values)?;
        Array2::from_shape_vec(image.embedding.original_size().shape(), logits).map_err(Error::model)
    }
}

/// A tensor of every group, B×M or B×M×D, as one table of a row per mask; none unless every group has it.
fn rows<'a>(groups: &'a [Scored], of: impl Fn(&'a Scored) -> Option<&'a Tensor>) -> Result<Option<Array2<f32>>> {
    let (mut values, mut masks) = (Vec::new(), 0);
    for group in groups {
        let Some(tensor) = of(group) else { return Ok(None) };
        values.extend(finite(tensor, "scores")?);
        masks += group.iou.elem_count();
    }
    let dim = values.len() / masks.max(1);
    Array2::from_shape_vec((masks, dim), values).map(Some).map_err(Error::model)
}

fn finite(values: &Tensor, what: &str) -> Result<Vec<f32>> {
    let values = values.flatten_all().and_then(|v| v.to_vec1::<f32>()).map_err(Error::model)?;
    match values.iter().all(|v| v.is_finite()) {
        true => Ok(values),
        false => Err(Error::model(format!("the mask decoder gave {what} that are not finite"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checkpoint, DecodedMask, PredictorConfig, Sam, SamConfig, point_grid};
    use candle_core::Device;
    use coral_core::testing::GoldenCase;

    /// The fitted tiny network of the golden case.
    fn predictor(prompts_per_batch: usize) -> Predictor {
        let case = GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"), "coralscop_amg").unwrap();
        let checkpoint = Checkpoint::open(case.dir().join("weights.safetensors")).unwrap();
        let decoder_heads = case.number("/config/dec_heads").unwrap() as usize;
        let config = SamConfig { decoder_heads, ..SamConfig::from_checkpoint(&checkpoint).unwrap() };
        let predictor = Predictor::new(Sam::load(&checkpoint, config, &Device::Cpu).unwrap());
        predictor.with_config(PredictorConfig { prompts_per_batch, ..PredictorConfig::default() }).unwrap()
    }

    fn stripes() -> RgbImage {
        RgbImage::from_fn(53, 37, |x, y| coral_core::image::Rgb([(4 * x) as u8, (6 * y) as u8, (x * y % 251) as u8]))
    }

    #[test]
    fn some_masks_of_groups_are_those_of_all() {
        let points: Vec<[f32; 2]> = point_grid(3).iter().map(|p| [p.x as f32 * 53.0, p.y as f32 * 37.0]).collect();
        let click = |&[x, y]: &[f32; 2]| PointPrompt { x, y, foreground: true };
        let prompts: Vec<_> = points.iter().map(|p| Prompt { points: vec![click(p)], ..Prompt::default() }).collect();
        for (multimask, group) in [(false, 2), (true, 4), (true, 100)] {
            let predictor = predictor(group);
            let image = PointDecoder::embed(&predictor, &stripes()).unwrap();
            let mut all: Vec<DecodedMask> = Vec::new();
            let take = |masks: Vec<DecodedMask>| {
                all.extend(masks);
                Ok(())
            };
            predictor.decode(&image.embedding, &prompts, multimask, take).unwrap();
            let (decoded, scores) = predictor.decode_points(&image, &points, multimask).unwrap();
            assert_eq!(scores.predicted_iou.len(), points.len() * if multimask { 3 } else { 1 });
            let near = |a: f32, b: f32| (a - b).abs() <= 1e-4;
            for (at, mask) in all.iter().enumerate() {
                assert!(near(scores.predicted_iou[at], mask.predicted_iou));
                let row = |table: &Option<Array2<f32>>| table.as_ref().unwrap().row(at).to_vec();
                assert!(row(&scores.class_logits).iter().zip(&mask.class_logits).all(|(&a, &b)| near(a, b)));
                assert!(row(&scores.features).iter().zip(&mask.features).all(|(&a, &b)| near(a, b)));
            }
            // All of a point's masks, none of it, one of it, and a whole group left out.
            for positions in [(0..all.len()).collect(), vec![1], vec![0, 1, 2, 4, 8], vec![all.len() - 1]] {
                let masks = PointDecoder::masks(&predictor, &decoded, &positions).unwrap();
                assert_eq!(masks.dim().0, positions.len());
                for (mask, &at) in masks.outer_iter().zip(&positions) {
                    assert!(mask.iter().zip(&all[at].low_res_logits).all(|(&a, &b)| near(a, b)), "mask {at}");
                }
            }
        }
    }

    #[test]
    fn settings_are_checked() {
        let config = GeneratorConfig { points_per_side: 0, ..GeneratorConfig::sam() };
        assert!(MaskGenerator::new(predictor(8), config).unwrap_err().to_string().contains("`points_per_side`"));
        let generator = MaskGenerator::new(predictor(8), GeneratorConfig::sam()).unwrap();
        assert!(generator.generate(&RgbImage::new(3, 0)).unwrap_err().to_string().contains("at least one pixel"));
        let tiles = TileConfig { overlap: 0, ..TileConfig::default() };
        assert!(
            generator.generate_tiled(&stripes(), &tiles, &NoProgress).unwrap_err().to_string().contains("`overlap`")
        );
    }

    #[test]
    fn one_tile_is_the_image() {
        let config = GeneratorConfig { points_per_side: 4, pred_iou_thresh: 0.0, ..GeneratorConfig::coralscop() };
        let config = GeneratorConfig { stability_score_thresh: 0.0, background_class: None, ..config };
        let generator = MaskGenerator::new(predictor(8), config).unwrap();
        let masks = generator.generate(&stripes()).unwrap();
        assert!(!masks.is_empty());
        assert_eq!(generator.generate_tiled(&stripes(), &TileConfig::default(), &NoProgress).unwrap(), masks);
    }
}
