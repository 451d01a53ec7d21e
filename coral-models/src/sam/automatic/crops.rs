use coral_core::{Rect, Size};

/// A part of an image that the generator looks at more closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// The part, in pixels of the image.
    pub rect: Rect,
    /// 0 for the whole image, then 1, 2, … for ever smaller crops.
    pub layer: u32,
}

/// The whole image and, for each layer i of 1..=`layers`, 2^i × 2^i overlapping crops, column by column.
///
/// The first layer's crops overlap by `overlap_ratio` of the image's shorter side, rounded down, and each further
/// layer's by half as much. Images of a few pixels have fewer crops: those without a pixel are left out.
///
/// # Examples
/// ```
/// use coral_core::{Rect, Size};
/// use coral_models::crop_boxes;
/// let crops = crop_boxes(Size { width: 100, height: 60 }, 1, 0.2);
/// assert_eq!(crops.len(), 5);
/// assert_eq!(crops[0].rect, Rect { x: 0, y: 0, width: 100, height: 60 });
/// assert_eq!(crops[4].rect, Rect { x: 44, y: 24, width: 56, height: 36 });
/// ```
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023; equal to the published boxes.
pub fn crop_boxes(image: Size, layers: u32, overlap_ratio: f64) -> Vec<Crop> {
    let shorter = f64::from(image.width.min(image.height));
    let mut crops = vec![Crop { rect: Rect::whole(image), layer: 0 }];
    for layer in 1..=layers {
        let per_side = 2u64.saturating_pow(layer);
        let overlap = (overlap_ratio * shorter * (2.0 / per_side as f64)) as u64;
        let columns = spans(image.width, per_side, overlap);
        let rows = spans(image.height, per_side, overlap);
        for &(x, width) in &columns {
            crops.extend(rows.iter().map(|&(y, height)| Crop { rect: Rect { x, y, width, height }, layer }));
        }
    }
    crops.retain(|crop| crop.rect.width > 0 && crop.rect.height > 0);
    crops
}

/// Start and length of `count` parts of 0..`total` that overlap by about `overlap`.
fn spans(total: u32, count: u64, overlap: u64) -> Vec<(u32, u32)> {
    let total = u64::from(total);
    let length = (overlap * (count - 1) + total).div_ceil(count);
    let starts = (0..count).map(|i| i * (length - overlap.min(length))).take_while(|&start| start < total);
    starts.map(|start| (start as u32, length.min(total - start) as u32)).collect()
}

/// Whether a mask that fills the box `mask` is likely to go on outside of `crop`: it comes within `tolerance`
/// pixels of an edge of the crop that is not as close to the image's own edge. Both are in pixels of the image.
///
/// # Examples
/// ```
/// use coral_core::{Rect, Size};
/// use coral_models::is_cut_by_crop;
/// let image = Size { width: 300, height: 200 };
/// let crop = Rect { x: 0, y: 0, width: 180, height: 200 };
/// let at = |x| Rect { x, y: 0, width: 40, height: 200 };
/// assert!(!is_cut_by_crop(at(0), crop, image, 20));
/// assert!(is_cut_by_crop(at(130), crop, image, 20));
/// ```
pub fn is_cut_by_crop(mask: Rect, crop: Rect, image: Size, tolerance: u32) -> bool {
    // As published, a box ends at its last pixel, a crop one behind it.
    let last = |start: u32, length: u32| i64::from(start) + i64::from(length) - 1;
    let end = |start: u32, length: u32| i64::from(start) + i64::from(length);
    let near = |a: i64, b: i64| (a - b).abs() <= i64::from(tolerance);
    let cut = |at: i64, crop_edge: i64, image_edge: i64| near(at, crop_edge) && !near(at, image_edge);
    cut(mask.x.into(), crop.x.into(), 0)
        || cut(mask.y.into(), crop.y.into(), 0)
        || cut(last(mask.x, mask.width), end(crop.x, crop.width), image.width.into())
        || cut(last(mask.y, mask.height), end(crop.y, crop.height), image.height.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tiny_images_have_no_empty_crops() {
        for (width, height) in [(1, 1), (5, 1), (2, 9), (5, 5)] {
            let crops = crop_boxes(Size { width, height }, 3, 512.0 / 1500.0);
            for Rect { x, y, width: w, height: h } in crops.iter().map(|crop| crop.rect) {
                assert!(w > 0 && h > 0 && x + w <= width && y + h <= height);
            }
        }
        assert_eq!(crop_boxes(Size { width: 0, height: 4 }, 1, 0.3), []);
    }

    proptest! {
        #[test]
        fn every_layer_covers_the_image(width in 1u32..90, height in 1u32..90, layers in 0u32..4, ratio in 0f64..0.999) {
            let crops = crop_boxes(Size { width, height }, layers, ratio);
            for layer in 0..=layers {
                let covered = |x, y| crops.iter().filter(|crop| crop.layer == layer).any(|crop| {
                    let r = crop.rect;
                    (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y)
                });
                prop_assert!((0..height).all(|y| (0..width).all(|x| covered(x, y))));
            }
        }
    }

    #[test]
    fn the_distance_to_an_edge_is_as_published() {
        let image = Size { width: 400, height: 400 };
        let crop = Rect { x: 100, y: 100, width: 200, height: 200 };
        let cut = |x, y, right, bottom| {
            is_cut_by_crop(Rect { x, y, width: right - x + 1, height: bottom - y + 1 }, crop, image, 20)
        };
        assert!(!cut(121, 121, 279, 279));
        assert!(cut(120, 121, 279, 279) && cut(121, 120, 279, 279));
        assert!(cut(121, 121, 280, 279) && cut(121, 121, 279, 280));
    }
}
