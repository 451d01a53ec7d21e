use coral_core::{Error, PointLabel, Rect, Result, Size};
use ndarray::{Array2, ArrayView2, s};

use crate::nearest::nearest_of;
use crate::tight_box::tight_box;

/// The mask that a labelled point asked for, cropped to its box.
#[derive(Debug, Clone, PartialEq)]
pub struct PointMask {
    /// The point, whose class the mask has.
    pub point: PointLabel,
    /// Where `mask` lies in the image.
    pub rect: Rect,
    /// `rect.height`×`rect.width`, true inside.
    pub mask: Array2<bool>,
    /// The segmenter's estimate of the mask's IoU with the truth.
    pub predicted_iou: f32,
    /// How far the labelled points vouch for the mask, 0..=1: the share of those that it covered, before it was cut,
    /// that have its class. In place of its own point, which proves nothing, stands that share over all masks of the
    /// image.
    pub reliability: f32,
}

impl PointMask {
    /// Predicted IoU × reliability, 0..=1: where masks overlap, the one of higher quality wins.
    pub fn quality(&self) -> f32 {
        self.predicted_iou.clamp(0.0, 1.0) * self.reliability
    }

    /// The number of pixels inside.
    pub fn area(&self) -> usize {
        area(self.mask.view())
    }

    /// Whether pixel (x, y) of the image lies inside.
    pub fn contains(&self, x: u32, y: u32) -> bool {
        let inside = x.checked_sub(self.rect.x).zip(y.checked_sub(self.rect.y));
        inside.and_then(|(x, y)| self.mask.get([y as usize, x as usize])).is_some_and(|&inside| inside)
    }

    /// Checks that the mask is as large as its box and lies in an image of this size.
    pub(super) fn check(&self, size: Size) -> Result<()> {
        let Rect { x, y, width, height } = self.rect;
        Size { width, height }.expect("mask of a point", Size::of_map(&self.mask))?;
        let fits = |start: u32, length: u32, end: u32| start.checked_add(length).is_some_and(|sum| sum <= end);
        if fits(x, width, size.width) && fits(y, height, size.height) {
            return Ok(());
        }
        Err(Error::input("masks", format!("the box {width}x{height} at ({x}, {y}) leaves the {size} image")))
    }

    /// Shrinks the box to what is left inside; `None` when nothing is.
    pub(super) fn cropped(mut self) -> Option<Self> {
        let inner = tight_box(self.mask.view())?;
        self.mask = crop(self.mask.view(), inner);
        self.rect = Rect { x: self.rect.x + inner.x, y: self.rect.y + inner.y, ..inner };
        Some(self)
    }

    /// Removes the pixels that are nearer to one of `wrong` than to every one of `right`, all of them points in the box.
    pub(super) fn cut(&mut self, right: &[PointLabel], wrong: &[PointLabel]) {
        if wrong.is_empty() || right.is_empty() {
            return;
        }
        let local = |p: &PointLabel| PointLabel { x: p.x - self.rect.x, y: p.y - self.rect.y, class: p.class };
        let mut points: Vec<_> = right.iter().chain(wrong).map(local).collect();
        points.sort_unstable_by_key(|p| (p.y, p.x));
        let own = right[0].class;
        let keep = nearest_of(&points, Size::of_map(&self.mask), |i| points[i].class == own);
        self.mask.zip_mut_with(&keep, |inside, &keep| *inside &= keep);
    }
}

/// The number of pixels inside.
pub(super) fn area(mask: ArrayView2<'_, bool>) -> usize {
    mask.iter().filter(|&&inside| inside).count()
}

/// The part of a mask inside a box.
pub(super) fn crop(mask: ArrayView2<'_, bool>, rect: Rect) -> Array2<bool> {
    let [x, y, width, height] = [rect.x, rect.y, rect.width, rect.height].map(|v| v as usize);
    mask.slice(s![y..y + height, x..x + width]).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn at(x: u32, y: u32, class: u8) -> PointLabel {
        PointLabel { x, y, class }
    }

    fn row(mask: &[u8], x: u32) -> PointMask {
        let mask = Array2::from_shape_fn((1, mask.len()), |(_, i)| mask[i] == 1);
        let rect = Rect { x, y: 3, width: mask.ncols() as u32, height: 1 };
        PointMask { point: at(x, 3, 1), rect, mask, predicted_iou: 0.5, reliability: 0.5 }
    }

    #[test]
    fn pixels_nearer_to_a_wrong_point_are_cut() {
        let mut mask = row(&[1, 1, 1, 1, 1, 0, 1], 10);
        mask.cut(&[at(10, 3, 1)], &[at(13, 3, 2)]);
        assert_eq!(mask.mask, array![[true, true, false, false, false, false, false]]);
        let mut whole = row(&[1, 1, 1], 10);
        whole.cut(&[at(10, 3, 1)], &[]);
        assert_eq!(whole.area(), 3);
    }

    #[test]
    fn boxes_are_tight() {
        let cropped = row(&[0, 0, 1, 0, 1, 0], 10).cropped().unwrap();
        assert_eq!(cropped.rect, Rect { x: 12, y: 3, width: 3, height: 1 });
        assert!(cropped.contains(12, 3) && !cropped.contains(13, 3) && cropped.contains(14, 3));
        assert!(!cropped.contains(11, 3) && !cropped.contains(15, 3) && !cropped.contains(12, 2));
        assert!(row(&[0, 0], 1).cropped().is_none());
    }

    #[test]
    fn boxes_outside_the_image_are_refused() {
        let mask = row(&[1, 1], 4);
        assert!(mask.check(Size { width: 6, height: 4 }).is_ok());
        assert!(mask.check(Size { width: 5, height: 4 }).unwrap_err().to_string().contains("leaves the 5x4 image"));
        let wrong = PointMask { rect: Rect { width: 3, ..mask.rect }, ..mask };
        assert!(wrong.check(Size { width: 60, height: 40 }).unwrap_err().to_string().contains("expected shape 3x1"));
    }
}
