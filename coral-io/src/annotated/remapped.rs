use coral_core::{AnnotatedImage, Dataset, Remapping, Result, UNLABELED};

/// Photographs whose masks have other classes: those of a level of a hierarchy, or those that a network knows.
///
/// A mask whose class becomes [`UNLABELED`] keeps its pixels and loses its class: it is an object still, and no
/// negative. [`RemappedMasks::without_unclassed`] drops the masks without class, also those that never had one.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, Dataset, Size};
/// use coral_io::{LabelMapMasks, RemappedMasks, SyntheticReef, SyntheticReefConfig, SyntheticReefDataset};
/// let config = SyntheticReefConfig { size: Size { width: 64, height: 48 }, ..Default::default() };
/// let reefs = LabelMapMasks::new(SyntheticReefDataset { config, len: 2, seed: 1 }, Default::default())?;
/// let classes = SyntheticReef::class_set();
/// // 0 background, 1 coral: level 0 under `coral`.
/// let (_, remapping) = classes.objects_at_level(classes.parse("coral")?, 0)?;
/// let corals = RemappedMasks::new(reefs, remapping);
/// assert!(corals.get(0)?.masks.iter().all(|one| one.class <= Some(1)));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RemappedMasks<D> {
    dataset: D,
    remapping: Remapping,
    keeps_unclassed: bool,
}

impl<D: Dataset<Item = AnnotatedImage>> RemappedMasks<D> {
    /// The samples of `dataset` with every class replaced.
    pub fn new(dataset: D, remapping: Remapping) -> Self {
        Self { dataset, remapping, keeps_unclassed: true }
    }

    /// The same without the masks that have no class in the end.
    pub fn without_unclassed(self) -> Self {
        Self { keeps_unclassed: false, ..self }
    }
}

impl<D: Dataset<Item = AnnotatedImage>> Dataset for RemappedMasks<D> {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        let mut sample = self.dataset.get(index)?;
        for one in &mut sample.masks {
            one.class = one.class.map(|class| self.remapping.get(class)).filter(|&class| class != UNLABELED);
        }
        if !self.keeps_unclassed {
            sample.masks.retain(|one| one.class.is_some());
        }
        Ok(sample)
    }

    fn name(&self, index: usize) -> Result<String> {
        self.dataset.name(index)
    }
}

#[cfg(test)]
mod tests {
    use coral_core::{InstanceMask, RleMask, Size, image::RgbImage, testing::check_dataset};

    use super::*;

    #[derive(Clone)]
    struct One;

    impl Dataset for One {
        type Item = AnnotatedImage;

        fn len(&self) -> usize {
            1
        }

        fn get(&self, index: usize) -> Result<AnnotatedImage> {
            self.name(index)?;
            let empty = InstanceMask::new(RleMask::empty(Size { width: 2, height: 2 }));
            let masks = [Some(3), Some(4), None].map(|class| InstanceMask { class, ..empty.clone() });
            Ok(AnnotatedImage { image: RgbImage::new(2, 2), masks: masks.into() })
        }

        fn name(&self, index: usize) -> Result<String> {
            let range = || coral_core::Error::IndexOutOfRange { what: "the sample".into(), index, len: 1 };
            (index == 0).then(|| "one".to_owned()).ok_or_else(range)
        }
    }

    #[test]
    fn masks_without_class_stay_unless_dropped() {
        let mut remapping = Remapping::to_unlabeled();
        remapping.set(4, 1);
        let dataset = RemappedMasks::new(One, remapping);
        check_dataset(&dataset, |a, b| a == b).unwrap();
        let classes = |dataset: &RemappedMasks<One>| -> Vec<_> {
            dataset.get(0).unwrap().masks.iter().map(|one| one.class).collect()
        };
        assert_eq!(classes(&dataset), [None, Some(1), None]);
        assert_eq!(classes(&dataset.without_unclassed()), [Some(1)]);
    }
}
