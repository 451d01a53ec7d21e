use coral_core::image::RgbImage;
use coral_core::{ClassId, Error, InstanceMask, PointPrompt, Progress, Rect, Result, RleMask, Size};
use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

use super::decoder::{MaskScores, PointDecoder};
use super::{
    AreaLimit, GeneratorConfig, GridPoint, box_nms, crop_boxes, is_cut_by_crop, remove_small_regions, stability_score,
};
use crate::sam::predictor::best_class;

/// The masks of everything in `image`: those of each crop (the best first), crops from the smallest to the whole image
/// when there are several, masks with removed small regions last.
pub(super) fn generate<D: PointDecoder>(
    decoder: &D,
    config: &GeneratorConfig,
    image: &RgbImage,
    progress: &dyn Progress,
) -> Result<Vec<InstanceMask>> {
    let size = Size::of(image);
    if size.pixels() == 0 {
        return Err(Error::input("image", format!("expected at least one pixel, got {size}")));
    }
    let crops = crop_boxes(size, config.crop_n_layers, config.crop_overlap_ratio);
    let grids = (0..=config.crop_n_layers).map(|layer| config.layer_points(layer)).collect::<Result<Vec<_>>>()?;
    let batches = |layer: u32| grids[layer as usize].chunks(config.points_per_batch.max(1));
    let total: usize = crops.iter().map(|crop| batches(crop.layer).len()).sum();
    progress.start(total as u64, "point batches");
    let mut masks = Vec::new();
    for crop in &crops {
        let embedding = decoder.embed(&crop.rect.crop(image))?;
        let task = CropTask { decoder, config, size, crop: crop.rect, embedding };
        let mut found = Vec::new();
        for points in batches(crop.layer) {
            found.append(&mut task.masks_at(points)?);
            progress.advance(1);
        }
        let scores: Vec<f32> = found.iter().map(|mask| mask.predicted_iou).collect();
        masks.append(&mut suppress(found, &scores, config.box_nms_thresh)?);
    }
    if crops.len() > 1 {
        masks = prefer_small_crops(masks, config.crop_nms_thresh)?;
    }
    masks = clean(masks, config)?;
    progress.finish();
    Ok(masks)
}

/// The work on one crop.
struct CropTask<'a, D: PointDecoder> {
    decoder: &'a D,
    config: &'a GeneratorConfig,
    /// The whole image.
    size: Size,
    crop: Rect,
    embedding: D::Embedding,
}

impl<D: PointDecoder> CropTask<'_, D> {
    /// The masks of a batch of points that pass every filter.
    fn masks_at(&self, points: &[GridPoint]) -> Result<Vec<InstanceMask>> {
        let (width, height) = (f64::from(self.crop.width), f64::from(self.crop.height));
        let pixels: Vec<_> = points.iter().map(|p| [(p.x * width) as f32, (p.y * height) as f32]).collect();
        let (decoded, scores) = self.decoder.decode_points(&self.embedding, &pixels, self.config.multimask_output)?;
        let per_point = masks_per_point(&scores, points.len())?;
        let promising: Vec<usize> =
            (0..scores.predicted_iou.len()).filter(|&at| self.is_promising(&scores, at)).collect();
        if promising.is_empty() {
            return Ok(Vec::new());
        }
        let low_res = self.decoder.masks(&decoded, &promising)?;
        if low_res.len_of(Axis(0)) != promising.len() {
            let (masks, expected) = (low_res.len_of(Axis(0)), promising.len());
            return Err(Error::shape("masks of a batch", expected.to_string(), masks.to_string()));
        }
        // Each thread holds the full-resolution logits of one mask; only runs outlive it.
        let finished = promising.par_iter().enumerate().map(|(row, &at)| {
            let Some((mask, stability_score)) = self.pixels(low_res.index_axis(Axis(0), row))? else { return Ok(None) };
            let [x, y] = pixels[at / per_point];
            let point = PointPrompt { x: x + self.crop.x as f32, y: y + self.crop.y as f32, foreground: true };
            Ok(Some(InstanceMask {
                mask,
                class: class_of(&scores, at),
                predicted_iou: scores.predicted_iou[at],
                stability_score,
                point: Some(point),
                crop_box: self.crop,
                features: scores.features.as_ref().map(|f| f.row(at).to_vec()).unwrap_or_default(),
            }))
        });
        finished.filter_map(Result::transpose).collect()
    }

    /// The filters that need no pixels: class, then predicted IoU.
    fn is_promising(&self, scores: &MaskScores, at: usize) -> bool {
        let class = class_of(scores, at);
        let is_background = class.is_some() && class == self.config.background_class;
        // As published, the threshold takes the scores' precision.
        let threshold = self.config.pred_iou_thresh as f32;
        !is_background && (threshold <= 0.0 || scores.predicted_iou[at] > threshold)
    }

    /// The mask in the frame of the whole image and its stability score, unless a filter drops it.
    fn pixels(&self, low_res: ArrayView2<'_, f32>) -> Result<Option<(RleMask, f32)>> {
        let config = self.config;
        let logits = self.decoder.upsample(&self.embedding, low_res)?;
        Size { width: self.crop.width, height: self.crop.height }.expect("logits of a mask", Size::of_map(&logits))?;
        let stability = stability_score(logits.view(), config.mask_threshold, config.stability_score_offset);
        let threshold = config.stability_score_thresh as f32;
        if threshold > 0.0 && stability < threshold {
            return Ok(None);
        }
        let mask = RleMask::from_threshold(logits.view(), config.mask_threshold as f32);
        let mask = mask.place(self.crop.x, self.crop.y, self.size)?;
        let Some(rect) = mask.bounding_box() else { return Ok(None) };
        let cut = is_cut_by_crop(rect, self.crop, self.size, config.crop_edge_tolerance);
        Ok((!cut && has_allowed_area(&mask, config)).then_some((mask, stability)))
    }
}

fn masks_per_point(scores: &MaskScores, points: usize) -> Result<usize> {
    let masks = scores.predicted_iou.len();
    let rows = |values: &Option<ndarray::Array2<f32>>| values.as_ref().map_or(masks, |values| values.nrows());
    if masks == 0
        || !masks.is_multiple_of(points.max(1))
        || rows(&scores.class_logits) != masks
        || rows(&scores.features) != masks
    {
        let found = (masks, rows(&scores.class_logits), rows(&scores.features));
        return Err(Error::shape("scores of a batch", format!("a multiple of {points} masks"), format!("{found:?}")));
    }
    Ok(masks / points.max(1))
}

fn class_of(scores: &MaskScores, at: usize) -> Option<ClassId> {
    scores.class_logits.as_ref().and_then(|logits| best_class(logits.row(at)))
}

fn has_allowed_area(mask: &RleMask, config: &GeneratorConfig) -> bool {
    let area = mask.area() as f64;
    let pixels = |limit: AreaLimit| limit.pixels(mask.size());
    config.min_mask_area.is_none_or(|limit| area >= pixels(limit))
        && config.max_mask_area.is_none_or(|limit| area <= pixels(limit))
}

/// Box NMS: the masks that stay, by falling score.
fn suppress(masks: Vec<InstanceMask>, scores: &[f32], threshold: f64) -> Result<Vec<InstanceMask>> {
    const NOTHING: Rect = Rect { x: 0, y: 0, width: 0, height: 0 };
    let boxes: Vec<Rect> = masks.iter().map(|mask| mask.bounding_box().unwrap_or(NOTHING)).collect();
    let kept = box_nms(&boxes, scores, threshold)?;
    let mut masks: Vec<_> = masks.into_iter().map(Some).collect();
    Ok(kept.into_iter().filter_map(|at| masks[at].take()).collect())
}

fn prefer_small_crops(masks: Vec<InstanceMask>, threshold: f64) -> Result<Vec<InstanceMask>> {
    let score = |mask: &InstanceMask| 1.0 / (mask.crop_box.width as f32 * mask.crop_box.height as f32);
    let scores: Vec<f32> = masks.iter().map(score).collect();
    suppress(masks, &scores, threshold)
}

/// Removes small holes and islands, and masks that became duplicates by it; untouched masks are preferred.
fn clean(mut masks: Vec<InstanceMask>, config: &GeneratorConfig) -> Result<Vec<InstanceMask>> {
    if config.min_hole_area == 0 && config.min_island_area == 0 {
        return Ok(masks);
    }
    let cleaned = masks.par_iter_mut().map(|mask| {
        let cleaned = remove_small_regions(&mask.mask, config.min_hole_area, config.min_island_area)?;
        mask.mask = cleaned.mask;
        Ok(if cleaned.had_small_region { 0.0 } else { 1.0 })
    });
    let scores = cleaned.collect::<Result<Vec<f32>>>()?;
    let mut masks = suppress(masks, &scores, config.box_nms_thresh.max(config.crop_nms_thresh))?;
    masks.retain(|mask| has_allowed_area(&mask.mask, config));
    Ok(masks)
}
