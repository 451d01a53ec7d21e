use ndarray::{Array2, ArrayView3, Zip};

use crate::{ClassId, LabelMap, UNLABELED};

/// The most probable class of every cell or pixel and its probability, both H×W, from C×H×W probabilities; the class is
/// [`UNLABELED`] where the probability is below `threshold`.
///
/// Of equals it is the class with the lowest id; classes past 254 have none and are left out. Where one of the
/// probabilities is NaN, the result is [`UNLABELED`] with NaN.
///
/// # Examples
/// ```
/// use coral_core::{UNLABELED, most_probable, ndarray::{arr2, arr3}};
/// let probabilities = arr3(&[[[0.9, 0.4, 0.5]], [[0.1, 0.6, 0.5]]]);
/// let (classes, confidence) = most_probable(probabilities.view(), 0.55);
/// assert_eq!(classes, arr2(&[[0, 1, UNLABELED]]));
/// assert_eq!(confidence, arr2(&[[0.9, 0.6, 0.5]]));
/// ```
pub fn most_probable(probabilities: ArrayView3<'_, f32>, threshold: f32) -> (LabelMap, Array2<f32>) {
    let (_, height, width) = probabilities.dim();
    let mut classes = LabelMap::from_elem((height, width), UNLABELED);
    let mut highest = Array2::from_elem((height, width), f32::NEG_INFINITY);
    // Class by class: that is how the probabilities of an image lie in memory.
    for (plane, id) in probabilities.outer_iter().zip(0..UNLABELED) {
        Zip::from(&mut classes).and(&mut highest).and(&plane).for_each(|class: &mut ClassId, highest, &p| {
            if p > *highest {
                (*class, *highest) = (id, p);
            } else if p.is_nan() {
                // Stays, as nothing is above it.
                (*class, *highest) = (UNLABELED, p);
            }
        });
    }
    Zip::from(&mut classes).and(&highest).for_each(|class, &p| {
        if p < threshold {
            *class = UNLABELED;
        }
    });
    (classes, highest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, arr2, arr3};

    #[test]
    fn nan_stays_wherever_it_is() {
        let nan = f32::NAN;
        let probabilities = arr3(&[[[nan, 0.5, 0.5]], [[0.5, nan, 0.5]], [[1.0, 1.0, nan]]]);
        let (classes, confidence) = most_probable(probabilities.view(), 0.0);
        assert_eq!(classes, arr2(&[[UNLABELED; 3]]));
        assert!(confidence.iter().all(|p| p.is_nan()));
    }

    #[test]
    fn every_class_but_the_ignore_value_can_win() {
        let one = |class: usize| Array3::from_shape_fn((256, 1, 1), |(c, _, _)| if c == class { 0.9 } else { 0.1 });
        assert_eq!(most_probable(one(254).view(), 0.5).0, arr2(&[[254]]));
        assert_eq!(most_probable(one(255).view(), 0.5).0, arr2(&[[UNLABELED]]));
        assert_eq!(most_probable(Array3::zeros((0, 1, 2)).view(), 0.0).0, arr2(&[[UNLABELED; 2]]));
    }
}
