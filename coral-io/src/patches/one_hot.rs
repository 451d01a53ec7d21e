use coral_core::{Dataset, Error, LabeledPatch, LabeledPhotograph, Result};
use ndarray::Array1;

/// Photographs or patches with a class, as patches with a probability per class: 1 for the class, 0 for the others.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, Size, ndarray::array};
/// use coral_io::{OneHot, SyntheticMeadowConfig, SyntheticMeadowDataset};
/// let config = SyntheticMeadowConfig { size: Size { width: 32, height: 20 }, ..Default::default() };
/// let patches = OneHot::new(SyntheticMeadowDataset { config, len: 4, seed: 0 }, 4)?;
/// assert_eq!(patches.get(2)?.target, array![0.0, 0.0, 1.0, 0.0]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct OneHot<D> {
    dataset: D,
    num_classes: usize,
}

impl<D: Dataset> OneHot<D>
where
    D::Item: Into<LabeledPhotograph>,
{
    /// Targets of `num_classes` probabilities.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there is no class or more than 255.
    pub fn new(dataset: D, num_classes: usize) -> Result<Self> {
        if !(1..=255).contains(&num_classes) {
            return Err(Error::parameter("num_classes", format!("expected 1 to 255, got {num_classes}")));
        }
        Ok(Self { dataset, num_classes })
    }
}

impl<D: Dataset> Dataset for OneHot<D>
where
    D::Item: Into<LabeledPhotograph>,
{
    type Item = LabeledPatch;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    /// # Errors
    /// Also [`Error::UnknownClass`] when the sample's class has no place in the target.
    fn get(&self, index: usize) -> Result<LabeledPatch> {
        let LabeledPhotograph { image, class } = self.dataset.get(index)?.into();
        let mut target = Array1::zeros(self.num_classes);
        let place = target.get_mut(usize::from(class)).ok_or_else(|| Error::UnknownClass {
            class: class.to_string(),
            expected: format!("0 to {} (sample {index})", self.num_classes - 1),
        })?;
        *place = 1.0;
        Ok(LabeledPatch { image, target })
    }

    fn name(&self, index: usize) -> Result<String> {
        self.dataset.name(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GridPatches, SyntheticMeadowConfig, SyntheticMeadowDataset};
    use coral_core::testing::check_dataset;
    use coral_core::{NoProgress, PatchGrid, Size};

    #[test]
    fn patches_get_the_class_of_their_photograph() {
        let config = SyntheticMeadowConfig { size: Size { width: 20, height: 10 }, ..Default::default() };
        let photographs = SyntheticMeadowDataset { config, len: 4, seed: 0 };
        let grid = PatchGrid::Split { rows: 1, columns: 2 };
        let patches = OneHot::new(GridPatches::new(&photographs, grid, &NoProgress).unwrap(), 4).unwrap();
        check_dataset(&patches, |a, b| a == b).unwrap();
        assert_eq!(patches.get(7).unwrap().target.to_vec(), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(patches.name(7).unwrap(), "meadow_3_1");
        let few = OneHot::new(&photographs, 3).unwrap();
        assert_eq!(few.get(3).unwrap_err().to_string(), "unknown class `3`: expected 0 to 2 (sample 3)");
        assert!(OneHot::new(&photographs, 0).is_err() && OneHot::new(&photographs, 256).is_err());
    }
}
