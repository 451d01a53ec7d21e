//! A decoder for tests that knows the truth: the red channel of an image holds an object's number per pixel.

use std::sync::atomic::{AtomicUsize, Ordering};

use coral_core::Result;
use coral_core::image::{Rgb, RgbImage};
use ndarray::{Array2, Array3, ArrayView2, Axis};

use super::decoder::{MaskScores, PointDecoder};

/// Draws discs (x, y, radius), numbered 1, 2, …, later ones on top.
pub(super) fn discs(width: u32, height: u32, discs: &[(i64, i64, i64)]) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let covers = |&(cx, cy, r): &(i64, i64, i64)| (i64::from(x) - cx).pow(2) + (i64::from(y) - cy).pow(2) <= r * r;
        Rgb([discs.iter().rposition(covers).map_or(0, |at| at as u8 + 1), 0, 0])
    })
}

/// Answers a click with the whole object under it, as far as it lies in the embedded image. Object 0 is background
/// (class 0), all others are of class 1.
#[derive(Debug, Default)]
pub(super) struct TruthDecoder {
    /// Predicted IoU by object; 0.9 − number / 100 for objects past the end.
    pub(super) predicted_iou: Vec<f32>,
    /// Whether a click on the background gives a mask of all background, instead of one with an IoU of 0.
    pub(super) background_masks: bool,
    /// Masks whose pixels were asked for.
    pub(super) upsampled: AtomicUsize,
}

impl PointDecoder for TruthDecoder {
    type Embedding = Array2<u8>;
    /// The numbers of the clicked objects' labels: the mask of logits.
    type Decoded = Vec<Array2<f32>>;

    fn embed(&self, image: &RgbImage) -> Result<Self::Embedding> {
        let (width, height) = image.dimensions();
        Ok(Array2::from_shape_fn((height as usize, width as usize), |(y, x)| image.get_pixel(x as u32, y as u32)[0]))
    }

    fn decode_points(
        &self,
        embedding: &Self::Embedding,
        points: &[[f32; 2]],
        multimask: bool,
    ) -> Result<(Self::Decoded, MaskScores)> {
        let (mut logits, mut predicted_iou, mut class_logits, mut features) = (vec![], vec![], vec![], vec![]);
        for [x, y] in points {
            let object = embedding[[*y as usize, *x as usize]];
            let iou = match self.predicted_iou.get(usize::from(object)) {
                _ if object == 0 && !self.background_masks => 0.0,
                Some(&iou) => iou,
                None => 0.9 - f32::from(object) / 100.0,
            };
            // Of three masks, only the middle one is good.
            let share: &[f32] = if multimask { &[0.25, 1.0, 0.5] } else { &[1.0] };
            for share in share {
                logits.push(embedding.mapv(|at| if at == object { 8.0 * share } else { -8.0 }));
                predicted_iou.push(iou * share);
                class_logits.extend(if object == 0 { [1.0, -1.0] } else { [-1.0, 1.0] });
                features.extend([f32::from(object), *share]);
            }
        }
        let count = predicted_iou.len();
        let table = |values: Vec<f32>| Array2::from_shape_vec((count, 2), values).ok();
        let scores = MaskScores { predicted_iou, class_logits: table(class_logits), features: table(features) };
        Ok((logits, scores))
    }

    fn masks(&self, decoded: &Self::Decoded, positions: &[usize]) -> Result<Array3<f32>> {
        let views: Vec<_> = positions.iter().map(|&at| decoded[at].view()).collect();
        Ok(ndarray::stack(Axis(0), &views).unwrap())
    }

    fn upsample(&self, _embedding: &Self::Embedding, low_res: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.upsampled.fetch_add(1, Ordering::Relaxed);
        Ok(low_res.to_owned())
    }
}
