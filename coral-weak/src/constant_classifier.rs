use coral_core::image::RgbImage;
use coral_core::{ClassId, Dataset, Error, LabeledPhotograph, PatchClassifier, Result, UNLABELED};
use ndarray::Array2;

/// Gives every patch the same class: the baseline that says how much a measure owes to the most frequent class.
///
/// # Examples
/// ```
/// use coral_core::{PatchClassifier, image::RgbImage, ndarray::array};
/// use coral_weak::ConstantClassifier;
/// let classifier = ConstantClassifier::new(1, 3)?;
/// assert_eq!(classifier.classify(&[RgbImage::new(4, 4)])?, array![[0.0, 1.0, 0.0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConstantClassifier {
    class: ClassId,
    num_classes: usize,
}

impl ConstantClassifier {
    /// A classifier that always answers `class`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there are more than 255 classes or `class` is not one of them.
    pub fn new(class: ClassId, num_classes: usize) -> Result<Self> {
        if num_classes > usize::from(UNLABELED) || usize::from(class) >= num_classes {
            let reason = format!("expected one of {num_classes} (at most {UNLABELED}) classes, got {class}");
            return Err(Error::parameter("class", reason));
        }
        Ok(Self { class, num_classes })
    }

    /// A classifier that always answers the most frequent of `labels`; of equals the one with the lowest id.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] without labels, or for one that is not below `num_classes`; those of
    /// [`ConstantClassifier::new`].
    ///
    /// # Examples
    /// ```
    /// use coral_weak::ConstantClassifier;
    /// assert_eq!(ConstantClassifier::majority_of([2, 1, 2], 3)?.class(), 2);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn majority_of(labels: impl IntoIterator<Item = ClassId>, num_classes: usize) -> Result<Self> {
        let mut counts = [0usize; 256];
        for label in labels {
            if usize::from(label) >= num_classes {
                let reason = format!("one has class {label}; expected a class below {num_classes}");
                return Err(Error::input("labels", reason));
            }
            counts[usize::from(label)] += 1;
        }
        let majority = (0..=255u8).rev().max_by_key(|&class| counts[usize::from(class)]).unwrap_or(0);
        if counts[usize::from(majority)] == 0 {
            return Err(Error::input("labels", "at least one is needed, got none"));
        }
        Self::new(majority, num_classes)
    }

    /// A classifier that always answers the class of most photographs, each of which is loaded for it: where their
    /// labels are at hand without the pixels, [`ConstantClassifier::majority_of`] is quicker.
    ///
    /// # Errors
    /// Those of loading a photograph and of [`ConstantClassifier::majority_of`].
    pub fn majority(photographs: &dyn Dataset<Item = LabeledPhotograph>, num_classes: usize) -> Result<Self> {
        let class = |index| Ok(photographs.get(index)?.class);
        Self::majority_of((0..photographs.len()).map(class).collect::<Result<Vec<_>>>()?, num_classes)
    }

    /// The class.
    pub fn class(&self) -> ClassId {
        self.class
    }
}

impl PatchClassifier for ConstantClassifier {
    fn num_classes(&self) -> usize {
        self.num_classes
    }

    fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
        let class = usize::from(self.class);
        Ok(Array2::from_shape_fn((patches.len(), self.num_classes), |(_, c)| if c == class { 1.0 } else { 0.0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Classes(Vec<ClassId>);

    impl Dataset for Classes {
        type Item = LabeledPhotograph;
        fn len(&self) -> usize {
            self.0.len()
        }
        fn get(&self, index: usize) -> Result<LabeledPhotograph> {
            Ok(LabeledPhotograph { image: RgbImage::new(1, 1), class: self.0[index] })
        }
        fn name(&self, index: usize) -> Result<String> {
            Ok(index.to_string())
        }
    }

    #[test]
    fn the_majority_wins() {
        let majority = |classes: &[ClassId]| ConstantClassifier::majority(&Classes(classes.to_vec()), 4);
        assert_eq!(majority(&[2, 1, 2]).unwrap().class(), 2);
        assert_eq!(majority(&[3, 1, 3, 1]).unwrap().class(), 1);
        assert!(majority(&[]).unwrap_err().to_string().contains("at least one"));
        assert!(majority(&[0, 0, 4]).unwrap_err().to_string().contains("class 4; expected a class below 4"));
        assert!(majority(&[255]).is_err() && ConstantClassifier::majority_of([255], 256).is_err());
        assert!(ConstantClassifier::new(0, 0).is_err() && ConstantClassifier::new(0, 256).is_err());
    }
}
