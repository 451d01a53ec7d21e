use coral_core::{
    Class, ClassId, ClassSet, Error, InstanceMask, Rect, Result, RleMask, Size, UNLABELED, default_color,
};

/// The images, objects and categories of a COCO data set.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, InstanceMask, RleMask, Size};
/// use coral_io::{CocoDataset, read_coco, write_coco};
/// let size = Size { width: 8, height: 6 };
/// let mask = RleMask::from_fn(size, |x, y| x > 4 && y > 2);
/// let colony = InstanceMask { class: Some(1), ..InstanceMask::new(mask) };
///
/// let mut dataset = CocoDataset::new(&ClassSet::from_names(["sand", "coral"])?);
/// let image = dataset.add_image("reef.png", size, &[colony.clone()])?;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("reef.json");
/// write_coco(&path, &dataset)?;
/// let read = read_coco(&path)?;
/// assert_eq!(read, dataset);
/// assert_eq!(read.instances(image)?, [colony]);
/// assert_eq!(read.class_set()?.name(1), "coral");
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Lin et al., *Microsoft COCO: Common Objects in Context*, ECCV 2014; <https://cocodataset.org/#format-data>.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CocoDataset {
    /// The images; their ids are unique.
    pub images: Vec<CocoImage>,
    /// The objects of all images.
    pub annotations: Vec<CocoAnnotation>,
    /// The classes. Empty in some files, whose categories have ids alone.
    pub categories: Vec<CocoCategory>,
}

/// An image of a [`CocoDataset`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CocoImage {
    /// What annotations refer to.
    pub id: u64,
    /// The file's name, with folders in some data sets.
    pub file_name: String,
    /// Width and height in pixels.
    pub size: Size,
}

/// An object of a [`CocoDataset`].
#[derive(Debug, Clone, PartialEq)]
pub struct CocoAnnotation {
    /// The object's number.
    pub id: u64,
    /// The image it is in.
    pub image_id: u64,
    /// Its class.
    pub category_id: u64,
    /// Its pixels; `None` where the file gives a box alone.
    pub mask: Option<RleMask>,
    /// Left, top, width and height in pixels, as the file has it; programs measure it in different ways, so prefer
    /// the mask's own.
    pub bbox: Option<[f64; 4]>,
    /// Whether it is a region of many objects that cannot be told apart.
    pub is_crowd: bool,
    /// How sure a model is of it.
    pub score: Option<f32>,
}

/// A class of a [`CocoDataset`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CocoCategory {
    /// What annotations refer to.
    pub id: u64,
    /// The class's name.
    pub name: String,
    /// The name of a broader class.
    pub supercategory: Option<String>,
}

impl CocoDataset {
    /// A data set of these classes, without images. The parent of a class is its supercategory.
    pub fn new(classes: &ClassSet) -> Self {
        let category = |class: &Class| CocoCategory {
            id: class.id.into(),
            name: class.name.clone(),
            supercategory: class.parent.map(|parent| classes.name(parent)),
        };
        Self { categories: classes.iter().map(category).collect(), ..Self::default() }
    }

    /// Adds an image and its objects, and returns the image's id. An object's predicted IoU becomes its score.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] or [`Error::ShapeMismatch`] naming the first object that has no class, a predicted IoU
    /// that is not finite, or another size; nothing is added then.
    pub fn add_image(&mut self, file_name: impl Into<String>, size: Size, masks: &[InstanceMask]) -> Result<u64> {
        let after = |ids: &mut dyn Iterator<Item = u64>| ids.max().map_or(1, |id| id.saturating_add(1));
        let image_id = after(&mut self.images.iter().map(|image| image.id));
        let first = after(&mut self.annotations.iter().map(|annotation| annotation.id));
        let annotation = |(at, mask): (usize, &InstanceMask)| {
            size.expect(&format!("masks[{at}]"), mask.mask.size())?;
            let fail = |reason: String| Error::input(format!("masks[{at}]"), reason);
            let class = mask.class.filter(|&class| class != UNLABELED);
            let class = class.ok_or_else(|| fail("an object of a COCO data set needs a class, got none".into()))?;
            if !mask.predicted_iou.is_finite() {
                return Err(fail(format!("expected a finite predicted IoU, got {}", mask.predicted_iou)));
            }
            Ok(CocoAnnotation {
                id: first.saturating_add(at as u64),
                image_id,
                category_id: class.into(),
                bbox: Some(pixel_bbox(&mask.mask)),
                mask: Some(mask.mask.clone()),
                is_crowd: false,
                score: Some(mask.predicted_iou),
            })
        };
        let annotations = masks.iter().enumerate().map(annotation).collect::<Result<Vec<_>>>()?;
        self.images.push(CocoImage { id: image_id, file_name: file_name.into(), size });
        self.annotations.extend(annotations);
        Ok(image_id)
    }

    /// The objects of an image that have a mask and are no crowd. The predicted IoU is the score, or 1.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] when the id of a category is beyond 254.
    pub fn instances(&self, image_id: u64) -> Result<Vec<InstanceMask>> {
        let of_image = self.annotations.iter().filter(|one| one.image_id == image_id);
        of_image.filter_map(|one| one.instance().transpose()).collect()
    }

    /// The classes, with default colours. A category whose supercategory is a category too becomes its child;
    /// categories that the file does not list are named by their ids.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] when the id of a category is beyond 254; [`Error::InvalidInput`] when two categories
    /// share an id or a name.
    pub fn class_set(&self) -> Result<ClassSet> {
        let mut classes = Vec::with_capacity(self.categories.len());
        for category in &self.categories {
            let broader = |other: &&CocoCategory| Some(&other.name) == category.supercategory.as_ref();
            // Many files repeat the name of a category as its supercategory.
            let parent = self.categories.iter().find(broader).filter(|parent| parent.id != category.id);
            let parent = parent.map(|parent| class_id(parent.id)).transpose()?;
            let id = class_id(category.id)?;
            classes.push(Class { id, name: category.name.clone(), color: default_color(id), parent });
        }
        for annotation in &self.annotations {
            let id = class_id(annotation.category_id)?;
            if classes.iter().all(|class| class.id != id) {
                classes.push(Class { id, name: id.to_string(), color: default_color(id), parent: None });
            }
        }
        ClassSet::new(classes)
    }
}

impl CocoAnnotation {
    /// The object, if it has a mask and is no crowd.
    pub(crate) fn instance(&self) -> Result<Option<InstanceMask>> {
        let Some(mask) = self.mask.as_ref().filter(|_| !self.is_crowd) else { return Ok(None) };
        let mask = InstanceMask::new(mask.clone());
        let predicted_iou = self.score.unwrap_or(mask.predicted_iou);
        Ok(Some(InstanceMask { class: Some(class_id(self.category_id)?), predicted_iou, ..mask }))
    }
}

fn class_id(category_id: u64) -> Result<ClassId> {
    let id = ClassId::try_from(category_id).ok().filter(|&id| id != UNLABELED);
    id.ok_or_else(|| Error::UnknownClass {
        class: category_id.to_string(), expected: "a category id of 0–254".into()
    })
}

/// Left, top, width and height of a mask in whole pixels; zeros when it is empty, as in COCO.
pub(super) fn pixel_bbox(mask: &RleMask) -> [f64; 4] {
    mask.bounding_box().map_or([0.0; 4], |Rect { x, y, width, height }| [x, y, width, height].map(f64::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchy_goes_both_ways() {
        let mut classes = ClassSet::from_names(["coral", "Acropora"]).unwrap();
        classes.set_parent(1, Some(0)).unwrap();
        let dataset = CocoDataset::new(&classes);
        assert_eq!(dataset.categories[1].supercategory.as_deref(), Some("coral"));
        assert_eq!(dataset.class_set().unwrap().get(1).unwrap().parent, Some(0));
    }

    #[test]
    fn objects_that_do_not_fit_are_named() {
        let size = Size { width: 3, height: 2 };
        let mut dataset = CocoDataset::new(&ClassSet::from_names(["coral"]).unwrap());
        let good = InstanceMask { class: Some(0), ..InstanceMask::new(RleMask::empty(size)) };
        let without = InstanceMask::new(RleMask::empty(size));
        let unlabelled = InstanceMask { class: Some(UNLABELED), ..good.clone() };
        let unsure = InstanceMask { predicted_iou: f32::NAN, ..good.clone() };
        for (bad, expected) in [(without, "a class"), (unlabelled, "a class"), (unsure, "predicted IoU, got NaN")] {
            let error = dataset.add_image("a.png", size, &[good.clone(), bad]).unwrap_err().to_string();
            assert!(error.contains("masks[1]") && error.contains(expected), "{error}");
        }
        assert!(dataset.images.is_empty() && dataset.annotations.is_empty());
        assert!(dataset.add_image("a.png", Size { width: 2, height: 3 }, std::slice::from_ref(&good)).is_err());
        assert_eq!(dataset.add_image("a.png", size, &[good.clone(), good.clone()]).unwrap(), 1);
        assert_eq!(dataset.add_image("b.png", size, &[good]).unwrap(), 2);
        assert_eq!(dataset.annotations.iter().map(|one| one.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((dataset.instances(1).unwrap().len(), dataset.instances(7).unwrap().len()), (2, 0));
        dataset.annotations[0].category_id = 255;
        assert!(dataset.instances(1).unwrap_err().to_string().contains("unknown class `255`"));
        assert!(dataset.class_set().is_err());
    }
}
