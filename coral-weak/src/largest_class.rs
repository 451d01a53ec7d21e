use coral_core::image::RgbImage;
use coral_core::{LabelMap, PointLabel, PointPropagator, Result, Size, validate_points};

/// Gives every pixel the class of most points; ties go to the smallest id. Labelled pixels keep their class.
///
/// # Errors
/// The errors of [`validate_points`].
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, Size, ndarray::array};
/// use coral_weak::largest_class_labels;
/// let at = |x, class| PointLabel { x, y: 0, class };
/// let labels = largest_class_labels(Size { width: 4, height: 1 }, &[at(0, 5), at(1, 2), at(3, 5)])?;
/// assert_eq!(labels, array![[5, 2, 5, 5]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn largest_class_labels(size: Size, points: &[PointLabel]) -> Result<LabelMap> {
    validate_points(points, size)?;
    let mut distinct = points.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let mut votes = [0_u32; 256];
    distinct.iter().for_each(|p| votes[usize::from(p.class)] += 1);
    let mut largest = points[0].class;
    for p in &distinct {
        let (ahead, behind) = (votes[usize::from(p.class)], votes[usize::from(largest)]);
        if ahead > behind || (ahead == behind && p.class < largest) {
            largest = p.class;
        }
    }
    let mut labels = LabelMap::from_elem(size.shape(), largest);
    points.iter().for_each(|p| labels[[p.y as usize, p.x as usize]] = p.class);
    Ok(labels)
}

/// The baseline that every method must beat clearly: one class for the whole image,
/// see [`largest_class_labels`].
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, PointPropagator, image::RgbImage};
/// use coral_weak::LargestClassPropagator;
/// let labels = LargestClassPropagator.propagate(&RgbImage::new(8, 4), &[PointLabel { x: 2, y: 1, class: 9 }])?;
/// assert_eq!((labels.dim(), labels[[3, 7]]), ((4, 8), 9));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct LargestClassPropagator;

impl PointPropagator for LargestClassPropagator {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        largest_class_labels(Size::of(image), points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::testing::check_point_propagator;

    #[test]
    fn keeps_the_contract() {
        check_point_propagator(&LargestClassPropagator).unwrap();
    }

    #[test]
    fn ties_go_to_the_smallest_id_and_repeats_do_not_count() {
        let at = |x, class| PointLabel { x, y: 0, class };
        let size = Size { width: 6, height: 1 };
        let labels = largest_class_labels(size, &[at(0, 9), at(0, 9), at(0, 9), at(1, 3)]).unwrap();
        assert_eq!(labels.row(0).to_vec(), [9, 3, 3, 3, 3, 3]);
    }
}
