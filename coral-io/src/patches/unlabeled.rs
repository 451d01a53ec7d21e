use coral_core::image::RgbImage;
use coral_core::{Dataset, LabeledPhotograph, Result};

/// Photographs or patches without their classes, for training that needs none.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, NoProgress, PatchGrid, Size};
/// use coral_io::{GridPatches, SyntheticMeadowConfig, SyntheticMeadowDataset, Unlabeled};
/// let config = SyntheticMeadowConfig { size: Size { width: 64, height: 40 }, ..Default::default() };
/// let photographs = SyntheticMeadowDataset { config, len: 2, seed: 0 };
/// let grid = PatchGrid::Split { rows: 2, columns: 4 };
/// let images = Unlabeled::new(GridPatches::new(&photographs, grid, &NoProgress)?);
/// assert_eq!((images.len(), images.get(3)?.dimensions()), (16, (16, 20)));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Unlabeled<D> {
    dataset: D,
}

impl<D: Dataset> Unlabeled<D>
where
    D::Item: Into<LabeledPhotograph>,
{
    /// The images of `dataset`.
    pub fn new(dataset: D) -> Self {
        Self { dataset }
    }
}

impl<D: Dataset> Dataset for Unlabeled<D>
where
    D::Item: Into<LabeledPhotograph>,
{
    type Item = RgbImage;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn get(&self, index: usize) -> Result<RgbImage> {
        let LabeledPhotograph { image, .. } = self.dataset.get(index)?.into();
        Ok(image)
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
    fn images_and_names_stay() {
        let config = SyntheticMeadowConfig { size: Size { width: 20, height: 10 }, ..Default::default() };
        let photographs = SyntheticMeadowDataset { config, len: 3, seed: 1 };
        let images = Unlabeled::new(&photographs);
        check_dataset(&images, |a, b| a == b).unwrap();
        assert_eq!(images.get(2).unwrap(), photographs.get(2).unwrap().image);
        let patches = GridPatches::new(&photographs, PatchGrid::Split { rows: 1, columns: 2 }, &NoProgress).unwrap();
        let cut = Unlabeled::new(&patches);
        assert!(cut.get(5).unwrap() == patches.get(5).unwrap().image);
        assert_eq!((cut.len(), cut.name(5).unwrap()), (6, patches.name(5).unwrap()));
        assert!(cut.get(6).is_err());
    }
}
