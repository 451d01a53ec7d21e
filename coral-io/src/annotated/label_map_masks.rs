use coral_core::{
    AnnotatedImage, ClassId, Dataset, Error, InstanceMask, LabelMap, LabeledImage, Result, RleMask, Size, UNLABELED,
};
use serde::{Deserialize, Serialize};

/// Which regions of a label map become masks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelMapMasksConfig {
    /// The classes that are no objects (sand, rubble, water, …). Default: none.
    pub background: Vec<ClassId>,
    /// The class that regions of the background get as masks, for training with negatives; `None` makes no masks of
    /// them. Default: none.
    pub background_class: Option<ClassId>,
    /// Regions of fewer pixels become no masks. Default: 100.
    pub min_area: u64,
    /// Whether all unlabelled pixels, with those of objects that are smaller than `min_area`, are a last mask, without
    /// class. It keeps negatives that are drawn beside the masks away from colonies that have none;
    /// [`RemappedMasks::without_unclassed`](crate::RemappedMasks) drops it afterwards. Default: false.
    pub unlabeled: bool,
}

impl Default for LabelMapMasksConfig {
    fn default() -> Self {
        Self { background: Vec::new(), background_class: None, min_area: 100, unlabeled: false }
    }
}

impl LabelMapMasksConfig {
    fn validate(&self) -> Result<()> {
        let fail = |name: &str| {
            Err(Error::parameter(name, format!("{UNLABELED} means unlabelled, expected classes of 0–254")))
        };
        if self.background.contains(&UNLABELED) {
            return fail("background");
        }
        if self.background_class == Some(UNLABELED) {
            return fail("background_class");
        }
        Ok(())
    }
}

/// The connected regions of a label map, H×W, as masks: regions of one class through 4 neighbours, class by class
/// and, within a class, by their first pixels in the order of columns.
///
/// Pixels of `background_class` belong to the background, whether it lists that class or not. Regions of different
/// classes of the background are masks of their own.
///
/// # Errors
/// [`Error::InvalidParameter`] when the config has class 255; [`Error::InvalidInput`] when the map has more
/// than [`u32::MAX`] pixels.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_io::{LabelMapMasksConfig, component_masks};
/// let labels = array![
///     [7, 7, 0, 7],
///     [7, 0, 0, 7],
///     [7, 3, 3, 255],
/// ];
/// let config = LabelMapMasksConfig { background: vec![3], background_class: Some(0), min_area: 2, unlabeled: false };
/// let masks = component_masks(&labels, &config)?;
/// let found: Vec<_> = masks.iter().map(|one| (one.class, one.area())).collect();
/// assert_eq!(found, [(Some(0), 3), (Some(0), 2), (Some(7), 4), (Some(7), 2)]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn component_masks(labels: &LabelMap, config: &LabelMapMasksConfig) -> Result<Vec<InstanceMask>> {
    config.validate()?;
    let size = Size::of_map(labels);
    if u32::try_from(labels.len()).is_err() {
        return Err(Error::input("labels", format!("expected at most {} pixels, got {size}", u32::MAX)));
    }
    let mut present = [false; 256];
    labels.iter().for_each(|&class| present[usize::from(class)] = true);
    let (mut masks, mut unclear) = (Vec::new(), Vec::new());
    for class in (0..UNLABELED).filter(|&class| present[usize::from(class)]) {
        let is_background = config.background.contains(&class) || config.background_class == Some(class);
        let Some(named) = (if is_background { config.background_class } else { Some(class) }) else { continue };
        let whole = RleMask::encode(&labels.mapv(|label| label == class));
        let parts = whole.components().into_iter();
        let (large, small): (Vec<_>, Vec<_>) = parts.partition(|part| part.area() >= config.min_area);
        masks.extend(large.into_iter().map(|part| InstanceMask { class: Some(named), ..InstanceMask::new(part) }));
        if !is_background {
            unclear.extend(small);
        }
    }
    if config.unlabeled {
        unclear.push(RleMask::encode(&labels.mapv(|label| label == UNLABELED)));
        let unclear = RleMask::union_of(size, &unclear)?;
        masks.extend((!unclear.is_empty()).then(|| InstanceMask::new(unclear)));
    }
    Ok(masks)
}

/// Photographs with dense labels as photographs with objects: [`component_masks`] of every sample.
///
/// Colonies of one class that touch are one object. Where pixels are unlabelled, nobody knows what they show:
/// negatives are best the regions of the background classes (`background_class`), or drawn with `unlabeled` set, which
/// also spares the small colonies that have no mask.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, Size};
/// use coral_io::{GrowthForm, LabelMapMasks, LabelMapMasksConfig, SyntheticReefConfig, SyntheticReefDataset};
/// let config = SyntheticReefConfig { size: Size { width: 64, height: 48 }, ..Default::default() };
/// let reefs = SyntheticReefDataset { config, len: 2, seed: 1 };
/// // Sand, rubble, algae and seagrass are no objects.
/// let config = LabelMapMasksConfig { background: vec![0, 1, 2, 3, 4], min_area: 20, ..Default::default() };
/// let dataset = LabelMapMasks::new(&reefs, config)?;
/// let first = dataset.get(0)?;
/// assert!(first.masks.iter().all(|one| one.area() >= 20 && one.class >= Some(GrowthForm::Branching.class())));
/// assert_eq!(dataset.name(0)?, reefs.name(0)?);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LabelMapMasks<D> {
    dataset: D,
    config: LabelMapMasksConfig,
}

impl<D: Dataset<Item = LabeledImage>> LabelMapMasks<D> {
    /// The samples of `dataset` with masks of their regions.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the config has class 255.
    pub fn new(dataset: D, config: LabelMapMasksConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { dataset, config })
    }
}

impl<D: Dataset<Item = LabeledImage>> Dataset for LabelMapMasks<D> {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    /// # Errors
    /// Also [`Error::ShapeMismatch`] when photograph and label map are not of one size.
    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        let LabeledImage { image, labels } = self.dataset.get(index)?;
        Size::of(&image).expect("labels", Size::of_map(&labels))?;
        Ok(AnnotatedImage { masks: component_masks(&labels, &self.config)?, image })
    }

    fn name(&self, index: usize) -> Result<String> {
        self.dataset.name(index)
    }
}

#[cfg(test)]
mod tests {
    use coral_core::ndarray::{Array2, array};
    use coral_core::testing::check_dataset;
    use proptest::prelude::*;

    use super::*;
    use crate::{SyntheticReefConfig, SyntheticReefDataset};

    #[test]
    fn it_is_a_dataset() {
        let config = SyntheticReefConfig { size: Size { width: 41, height: 30 }, ..Default::default() };
        let reefs = SyntheticReefDataset { config, len: 3, seed: 4 };
        let dataset = LabelMapMasks::new(&reefs, LabelMapMasksConfig::default()).unwrap();
        check_dataset(&dataset, |a, b| a == b).unwrap();
    }

    #[test]
    fn background_makes_masks_only_when_wanted() {
        let labels = array![[0, 0, 4], [2, 2, 4]];
        let classes = |config: LabelMapMasksConfig| {
            let masks = component_masks(&labels, &config).unwrap();
            masks.iter().map(|one| one.class.unwrap()).collect::<Vec<_>>()
        };
        let config = |background: &[ClassId], background_class| LabelMapMasksConfig {
            background: background.to_vec(),
            background_class,
            min_area: 1,
            unlabeled: false,
        };
        assert_eq!(classes(config(&[], None)), [0, 2, 4]);
        assert_eq!(classes(config(&[2], None)), [0, 4]);
        assert_eq!(classes(config(&[2], Some(9))), [0, 9, 4]);
        assert_eq!(classes(config(&[], Some(0))), [0, 2, 4]);
        assert_eq!(classes(LabelMapMasksConfig { min_area: 3, ..config(&[], None) }), [] as [u8; 0]);
        for bad in [config(&[UNLABELED], None), config(&[], Some(UNLABELED))] {
            assert!(component_masks(&labels, &bad).unwrap_err().to_string().contains("255 means unlabelled"));
        }
        let partly = LabelMapMasksConfig { unlabeled: true, min_area: 3, ..config(&[], None) };
        let masks = component_masks(&array![[255, 0, 255]], &partly).unwrap();
        assert_eq!(masks.iter().map(|one| (one.class, one.area())).collect::<Vec<_>>(), [(None, 3)]);
        let found = |config: LabelMapMasksConfig| -> Vec<_> {
            let masks = component_masks(&labels, &config).unwrap();
            masks.iter().map(|one| (one.class, one.area())).collect()
        };
        // What is too small for a mask may be a colony, unless it is background.
        assert_eq!(found(partly.clone()), [(None, 6)]);
        assert_eq!(found(LabelMapMasksConfig { background: vec![2], ..partly.clone() }), [(None, 4)]);
        assert_eq!(found(LabelMapMasksConfig { background: vec![0, 2, 4], ..partly.clone() }), []);
        assert_eq!(found(LabelMapMasksConfig { min_area: 0, ..partly }), [(Some(0), 2), (Some(2), 2), (Some(4), 2)]);
        assert!(component_masks(&LabelMap::default((0, 3)), &config(&[], None)).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn masks_paint_the_map(
            (width, pixels) in (1usize..9).prop_flat_map(|width| (Just(width), proptest::collection::vec(
                proptest::sample::select(vec![0u8, 3, UNLABELED]), width * 6)))
        ) {
            let labels = Array2::from_shape_vec((6, width), pixels).unwrap();
            let masks = component_masks(&labels, &LabelMapMasksConfig { min_area: 0, ..Default::default() }).unwrap();
            let mut painted = Array2::from_elem(labels.dim(), UNLABELED);
            for one in &masks {
                prop_assert_eq!(one.mask.components().len(), 1);
                for ((y, x), _) in one.mask.decode().indexed_iter().filter(|(_, inside)| **inside) {
                    prop_assert_eq!(painted[[y, x]], UNLABELED);
                    painted[[y, x]] = one.class.unwrap();
                }
            }
            prop_assert_eq!(painted, labels);
        }
    }
}
