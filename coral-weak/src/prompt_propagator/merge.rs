use coral_core::{Error, LabelMap, PointLabel, Result, Size, UNLABELED};
use ndarray::s;

use super::PointMask;

/// One map of many masks: every pixel takes the class of the mask of highest quality that covers it, of equally good
/// ones that of the smallest, then of the point that is topmost, then leftmost. [`UNLABELED`] where there is no mask.
///
/// # Errors
/// [`Error::InvalidInput`] for a mask outside the image or with a quality that is not a number,
/// [`Error::ShapeMismatch`] for one that is not as large as its box.
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, Rect, Size, ndarray::{Array2, array}};
/// use coral_weak::{PointMask, merge_masks};
/// let mask = |x, class, reliability| PointMask {
///     point: PointLabel { x, y: 0, class },
///     rect: Rect { x, y: 0, width: 3, height: 1 },
///     mask: Array2::from_elem((1, 3), true),
///     predicted_iou: 0.9,
///     reliability,
/// };
/// let merged = merge_masks(Size { width: 6, height: 1 }, &[mask(0, 4, 1.0), mask(2, 7, 0.8)])?;
/// assert_eq!(merged, array![[4, 4, 4, 7, 7, 255]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn merge_masks(size: Size, masks: &[PointMask]) -> Result<LabelMap> {
    for mask in masks {
        mask.check(size)?;
        if mask.quality().is_nan() {
            let PointLabel { x, y, .. } = mask.point;
            return Err(Error::input("masks", format!("the quality of the mask at ({x}, {y}) is not a number")));
        }
    }
    let mut order: Vec<_> = masks.iter().map(|mask| (mask, mask.area())).collect();
    // The best last, so that it is painted over the others.
    order.sort_by(|(a, area_a), (b, area_b)| {
        let place = |mask: &PointMask| (mask.point.y, mask.point.x);
        let by_quality = a.quality().total_cmp(&b.quality());
        by_quality.then(area_b.cmp(area_a)).then_with(|| place(b).cmp(&place(a)))
    });
    let mut merged = LabelMap::from_elem(size.shape(), UNLABELED);
    for (mask, _) in order {
        let [x, y, width, height] =
            [mask.rect.x, mask.rect.y, mask.rect.width, mask.rect.height].map(|length| length as usize);
        let mut window = merged.slice_mut(s![y..y + height, x..x + width]);
        window.zip_mut_with(&mask.mask, |class, &inside| {
            if inside {
                *class = mask.point.class;
            }
        });
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::Rect;
    use ndarray::Array2;

    fn mask(x: u32, width: u32, class: u8, predicted_iou: f32) -> PointMask {
        PointMask {
            point: PointLabel { x, y: 0, class },
            rect: Rect { x, y: 0, width, height: 1 },
            mask: Array2::from_elem((1, width as usize), true),
            predicted_iou,
            reliability: 1.0,
        }
    }

    #[test]
    fn of_equal_masks_the_smaller_wins_then_the_leftmost_in_any_order() {
        let size = Size { width: 8, height: 1 };
        let mut masks = vec![mask(0, 6, 1, 0.9), mask(1, 2, 2, 0.9), mask(2, 2, 3, 0.9), mask(5, 3, 4, 0.8)];
        let expected = [1, 2, 2, 3, 1, 1, 4, 4];
        assert_eq!(merge_masks(size, &masks).unwrap().row(0).to_vec(), expected);
        masks.reverse();
        assert_eq!(merge_masks(size, &masks).unwrap().row(0).to_vec(), expected);
    }

    #[test]
    fn unusable_masks_are_refused() {
        let size = Size { width: 8, height: 1 };
        assert!(merge_masks(size, &[mask(5, 4, 1, 0.9)]).unwrap_err().to_string().contains("leaves the 8x1 image"));
        assert!(merge_masks(size, &[mask(2, 2, 1, f32::NAN)]).unwrap_err().to_string().contains("mask at (2, 0)"));
        assert_eq!(merge_masks(size, &[]).unwrap(), LabelMap::from_elem((1, 8), UNLABELED));
    }
}
