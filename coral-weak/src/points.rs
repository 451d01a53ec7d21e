//! The one form in which every propagator sees its points, so that neither their order
//! nor repetitions can matter.

use coral_core::{ClassId, Error, LabelMap, PointLabel, Result, Size, UNLABELED, validate_points};

use crate::nearest::nearest_of;

/// Checked points of an image: sorted by (y, x), each pixel once, with a compact class table.
#[derive(Debug, Clone)]
pub(crate) struct CanonicalPoints {
    /// Sorted by (y, x), distinct pixels.
    pub(crate) points: Vec<PointLabel>,
    /// The class ids that occur, ascending.
    pub(crate) classes: Vec<ClassId>,
    /// Per point the position of its class in `classes`.
    pub(crate) class_index: Vec<u8>,
}

impl CanonicalPoints {
    /// Checks and sorts `points`.
    pub(crate) fn new(points: &[PointLabel], size: Size) -> Result<Self> {
        validate_points(points, size)?;
        // Pixel indices are 32-bit throughout; an image beyond that must be tiled anyway.
        if size.pixels() > u32::MAX as usize {
            return Err(Error::input("image", format!("{size} pixels are too many, tile it: at most 2^32 - 1 fit")));
        }
        let mut sorted = points.to_vec();
        sorted.sort_unstable_by_key(|p| (p.y, p.x));
        sorted.dedup();
        let mut classes: Vec<_> = sorted.iter().map(|p| p.class).collect();
        classes.sort_unstable();
        classes.dedup();
        let class_index = sorted.iter().map(|p| classes.partition_point(|&id| id < p.class) as u8).collect();
        Ok(Self { points: sorted, classes, class_index })
    }

    /// Gives every labelled pixel its own class.
    pub(crate) fn stamp(&self, labels: &mut LabelMap) {
        for p in &self.points {
            labels[[p.y as usize, p.x as usize]] = p.class;
        }
    }

    /// Stamps the labelled pixels and gives pixels without a label that of the nearest point.
    pub(crate) fn complete(&self, labels: &mut LabelMap) {
        self.stamp(labels);
        if labels.iter().any(|&id| id == UNLABELED) {
            let nearest = nearest_of(&self.points, Size::of_map(labels), |i| self.points[i].class);
            labels.zip_mut_with(&nearest, |id, &nearest| {
                if *id == UNLABELED {
                    *id = nearest;
                }
            });
        }
    }

    /// The map of the only class, when there is only one.
    pub(crate) fn uniform(&self, size: Size) -> Option<LabelMap> {
        match self.classes[..] {
            [only] => Some(LabelMap::from_elem(size.shape(), only)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repetition_vanish() -> Result<()> {
        let at = |x, y, class| PointLabel { x, y, class };
        let size = Size { width: 9, height: 9 };
        let canonical = CanonicalPoints::new(&[at(3, 2, 40), at(8, 0, 7), at(1, 2, 7), at(3, 2, 40)], size)?;
        assert_eq!(canonical.points, [at(8, 0, 7), at(1, 2, 7), at(3, 2, 40)]);
        assert_eq!(canonical.classes, [7, 40]);
        assert_eq!(canonical.class_index, [0, 0, 1]);
        assert!(canonical.uniform(size).is_none());
        let mut labels = LabelMap::zeros(size.shape());
        canonical.stamp(&mut labels);
        assert_eq!((labels[[2, 3]], labels[[0, 8]], labels[[2, 1]], labels[[1, 1]]), (40, 7, 7, 0));
        Ok(())
    }

    #[test]
    fn gaps_take_the_nearest_point() -> Result<()> {
        let at = |x, class| PointLabel { x, y: 0, class };
        let canonical = CanonicalPoints::new(&[at(0, 4), at(6, 9)], Size { width: 7, height: 1 })?;
        let mut labels = LabelMap::from_elem((1, 7), UNLABELED);
        labels[[0, 1]] = 9;
        canonical.complete(&mut labels);
        assert_eq!(labels.row(0).to_vec(), [4, 9, 4, 4, 9, 9, 9]);
        Ok(())
    }

    #[test]
    fn an_image_beyond_32_bits_is_refused() {
        let size = Size { width: u32::MAX, height: u32::MAX };
        let error = CanonicalPoints::new(&[PointLabel { x: 0, y: 0, class: 1 }], size).unwrap_err();
        assert!(error.to_string().contains("tile it"), "{error}");
    }
}
