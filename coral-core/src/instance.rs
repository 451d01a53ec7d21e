use serde::{Deserialize, Serialize};

use crate::{ClassId, PointPrompt, Rect, RleMask};

/// One segmented object: what an automatic mask generator finds and an instance annotation holds.
///
/// # Examples
/// ```
/// use coral_core::{InstanceMask, RleMask, Size};
/// let mask = RleMask::from_fn(Size { width: 8, height: 6 }, |x, y| x > 4 && y > 2);
/// let colony = InstanceMask { class: Some(1), predicted_iou: 0.9, ..InstanceMask::new(mask) };
/// assert_eq!(colony.area(), 9);
/// assert_eq!(colony.bounding_box().unwrap().x, 5);
/// assert_eq!(colony.crop_box.width, 8);
/// assert!(colony.touches_border());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceMask {
    /// The pixels of the object, in the frame of the whole image.
    pub mask: RleMask,
    /// The class, where one is known; never [`UNLABELED`](crate::UNLABELED).
    pub class: Option<ClassId>,
    /// The model's own estimate of the mask's IoU with the truth.
    pub predicted_iou: f32,
    /// IoU of the masks at a higher and a lower threshold of the logits, 0..=1: how little the mask depends on it.
    pub stability_score: f32,
    /// The click that gave the mask, in pixels of the whole image; `None` for masks of other origin.
    pub point: Option<PointPrompt>,
    /// The crop of the image that the mask was found in.
    pub crop_box: Rect,
    /// What the object looks like to the model: D values, empty where the model gives none.
    pub features: Vec<f32>,
}

impl InstanceMask {
    /// An object known only by its mask: no class, click or features, both scores 1, found in the whole image.
    pub fn new(mask: RleMask) -> Self {
        let crop_box = Rect::whole(mask.size());
        Self {
            mask,
            class: None,
            predicted_iou: 1.0,
            stability_score: 1.0,
            point: None,
            crop_box,
            features: Vec::new(),
        }
    }

    /// Pixels of the object.
    pub fn area(&self) -> u64 {
        self.mask.area()
    }

    /// The smallest box around the object; `None` when the mask is empty.
    pub fn bounding_box(&self) -> Option<Rect> {
        self.mask.bounding_box()
    }

    /// Whether a pixel of the object lies at the border of the image, so that only a part of it may be seen.
    pub fn touches_border(&self) -> bool {
        let size = self.mask.size();
        self.bounding_box().is_some_and(|Rect { x, y, width, height }| {
            x == 0 || y == 0 || x + width == size.width || y + height == size.height
        })
    }
}
