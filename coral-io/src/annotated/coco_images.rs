use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use coral_core::{AnnotatedImage, ClassSet, Dataset, Error, InstanceMask, Result, RleMask, Size};

use super::read_annotated;
use crate::coco::{CocoAnnotation, CocoDataset};
use crate::sample_names::free_name;

/// The images of a [`CocoDataset`] with their objects; crowds and objects without mask are left out, unless
/// [`with_unclear_regions`](Self::with_unclear_regions) keeps their places.
///
/// Images without objects are samples without masks. Sample `i` is image `i` of the data set.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, Dataset, InstanceMask, RleMask, Size, image::RgbImage};
/// use coral_io::{CocoDataset, CocoImages, write_image};
/// let size = Size { width: 8, height: 6 };
/// let colony = InstanceMask { class: Some(1), ..InstanceMask::new(RleMask::from_fn(size, |x, y| x > 4 && y > 2)) };
/// let mut coco = CocoDataset::new(&ClassSet::from_names(["sand", "coral"])?);
/// coco.add_image("reef.png", size, &[colony.clone()])?; // or read_coco("reef.json")?
///
/// let folder = tempfile::tempdir().unwrap();
/// write_image(folder.path().join("reef.png"), &RgbImage::new(8, 6))?;
/// let dataset = CocoImages::new(&coco, folder.path())?;
/// assert_eq!((dataset.name(0)?, dataset.get(0)?.masks), ("reef".to_owned(), vec![colony]));
/// assert_eq!(dataset.classes().name(1), "coral");
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CocoImages {
    samples: Vec<Sample>,
    classes: ClassSet,
    keeps_unclear: bool,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    /// How the data set calls the image.
    label: String,
    path: PathBuf,
    size: Size,
    masks: Vec<InstanceMask>,
    /// Crowds, and the boxes of objects without mask.
    unclear: Vec<RleMask>,
}

impl CocoImages {
    /// The images of `dataset`, whose files are in `folder`: below it by the whole file name, or in it by the last part
    /// of that.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the first image whose file is missing, or is that of another image already: each would
    /// lack the objects of the other; the errors of [`CocoDataset::class_set`].
    pub fn new(dataset: &CocoDataset, folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let sizes: HashMap<u64, Size> = dataset.images.iter().map(|image| (image.id, image.size)).collect();
        let mut masks: HashMap<u64, Vec<InstanceMask>> = HashMap::new();
        let mut unclear: HashMap<u64, Vec<RleMask>> = HashMap::new();
        for annotation in &dataset.annotations {
            let Some(&size) = sizes.get(&annotation.image_id) else { continue };
            match annotation.instance()? {
                Some(instance) => masks.entry(annotation.image_id).or_default().push(instance),
                None => unclear.entry(annotation.image_id).or_default().extend(place(annotation, size)?),
            }
        }
        let (mut taken, mut owners) = (HashSet::new(), HashMap::new());
        let mut samples = Vec::with_capacity(dataset.images.len());
        for (at, image) in dataset.images.iter().enumerate() {
            let last = image.file_name.rsplit(['/', '\\']).next().unwrap_or_default();
            let paths = [folder.join(&image.file_name), folder.join(last)];
            let path = paths.into_iter().find(|path| path.is_file()).ok_or_else(|| {
                let reason = format!("`{}` is missing in {}", image.file_name, folder.display());
                Error::input(format!("images[{at}]"), reason)
            })?;
            if let Some(other) = owners.insert(path.clone(), at) {
                let reason = format!("`{}` is {}, as is images[{other}]", image.file_name, path.display());
                return Err(Error::input(format!("images[{at}]"), reason));
            }
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            samples.push(Sample {
                name: free_name(&stem, &mut taken),
                label: format!("the COCO data set as image {}", image.id),
                path,
                size: image.size,
                masks: masks.remove(&image.id).unwrap_or_default(),
                unclear: unclear.remove(&image.id).unwrap_or_default(),
            });
        }
        Ok(Self { samples, classes: dataset.class_set()?, keeps_unclear: false })
    }

    /// The same with all crowds, and the boxes of objects without mask, together as a last mask without class, where an
    /// image has such. There are objects in it, nobody knows where: it keeps away negatives, and sentences about what
    /// would be missing; [`RemappedMasks::without_unclassed`](crate::RemappedMasks::without_unclassed) drops it
    /// afterwards.
    pub fn with_unclear_regions(self) -> Self {
        Self { keeps_unclear: true, ..self }
    }

    /// The classes of the data set.
    pub fn classes(&self) -> &ClassSet {
        &self.classes
    }

    fn sample(&self, index: usize) -> Result<&Sample> {
        self.samples.get(index).ok_or_else(|| Error::IndexOutOfRange {
            what: "the COCO data set".into(),
            index,
            len: self.samples.len(),
        })
    }
}

/// Where an annotation without a mask of one object says that there is something: a crowd's pixels, or those of a box.
fn place(annotation: &CocoAnnotation, size: Size) -> Result<Option<RleMask>> {
    if let Some(crowd) = &annotation.mask {
        return Ok(Some(crowd.clone()));
    }
    let [x, y, width, height] = annotation.bbox.unwrap_or_default();
    // Casts cut to the image, and what is no number to nothing.
    let along = |start: f64, length: f64, limit: u32| {
        let (from, to) = ((start.floor() as u32).min(limit), ((start + length).ceil() as u32).min(limit));
        (from, to.saturating_sub(from))
    };
    let ((x, width), (y, height)) = (along(x, width, size.width), along(y, height, size.height));
    let inside = RleMask::from_counts(Size { width, height }, &[0, width.saturating_mul(height)])?;
    Ok(Some(inside.place(x, y, size)?).filter(|inside| !inside.is_empty()))
}

impl Dataset for CocoImages {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        self.samples.len()
    }

    /// # Errors
    /// Also [`Error::ShapeMismatch`] naming the file when the photograph has another size than the data set says.
    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        let Sample { label, path, size, masks, unclear, .. } = self.sample(index)?;
        let mut masks = masks.clone();
        if self.keeps_unclear && !unclear.is_empty() {
            masks.push(InstanceMask::new(RleMask::union_of(*size, unclear)?));
        }
        Ok(AnnotatedImage { image: read_annotated(path, label, *size)?, masks })
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(self.sample(index)?.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{read_coco, write_image};
    use coral_core::image::RgbImage;
    use coral_core::testing::check_dataset;

    const REEF: &str = r#"{
        "images": [{"id": 7, "file_name": "a/reef.png", "width": 4, "height": 4},
                   {"id": 3, "file_name": "b/reef.png", "width": 4, "height": 4}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 2, "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]},
            {"id": 2, "image_id": 7, "category_id": 2, "segmentation": {"size": [4, 4], "counts": [0, 16]}, "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1]},
            {"id": 4, "image_id": 7, "category_id": 5, "segmentation": {"size": [4, 4], "counts": [15, 1]}}],
        "categories": [{"id": 2, "name": "coral"}]}"#;

    fn reef() -> (tempfile::TempDir, CocoDataset) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reef.json");
        std::fs::write(&path, REEF).unwrap();
        for part in ["a", "b"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
            write_image(folder.path().join(part).join("reef.png"), &RgbImage::new(4, 4)).unwrap();
        }
        let dataset = read_coco(path).unwrap();
        (folder, dataset)
    }

    #[test]
    fn it_is_a_dataset_without_crowds() {
        let (folder, coco) = reef();
        let dataset = CocoImages::new(&coco, folder.path()).unwrap();
        check_dataset(&dataset, |a, b| a == b).unwrap();
        let names = [0, 1].map(|index| dataset.name(index).unwrap());
        assert_eq!(names, ["reef", "reef_2"]);
        let first = dataset.get(0).unwrap();
        assert_eq!(first.masks, coco.instances(7).unwrap());
        assert_eq!(
            first.masks.iter().map(|one| (one.class, one.area())).collect::<Vec<_>>(),
            [(Some(2), 4), (Some(5), 1)]
        );
        assert!(dataset.get(1).unwrap().masks.is_empty());
        assert_eq!(dataset.classes().name(5), "5");
    }

    #[test]
    fn unclear_regions_keep_their_places() {
        let (folder, coco) = reef();
        let regions = |change: &dyn Fn(&mut CocoDataset)| {
            let mut coco = coco.clone();
            change(&mut coco);
            let dataset = CocoImages::new(&coco, folder.path()).unwrap().with_unclear_regions();
            let found = [0, 1].map(|index| dataset.get(index).unwrap().masks);
            found
                .map(|masks| masks.iter().filter(|one| one.class.is_none()).map(InstanceMask::area).collect::<Vec<_>>())
        };
        assert_eq!(regions(&|_| ()), [vec![16], vec![]]);
        // Without the crowd: the box of the object without mask, cut to the image.
        let boxed = |bbox: Option<[f64; 4]>| {
            regions(&move |coco: &mut CocoDataset| {
                coco.annotations.remove(1);
                coco.annotations[1].bbox = bbox;
            })
        };
        assert_eq!(boxed(Some([0.5, 2.0, 1.0, 1.0])), [vec![2], vec![]]);
        assert_eq!(boxed(Some([-3.0, 3.0, 99.0, 1e300])), [vec![4], vec![]]);
        for nowhere in [None, Some([f64::NAN; 4]), Some([9.0, 9.0, 1.0, 1.0]), Some([2.0, 2.0, -1.0, 0.0])] {
            assert!(boxed(nowhere).iter().all(Vec::is_empty), "{nowhere:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (folder, coco) = reef();
        std::fs::rename(folder.path().join("b/reef.png"), folder.path().join("reef.png")).unwrap();
        assert!(CocoImages::new(&coco, folder.path()).is_ok());
        std::fs::remove_file(folder.path().join("reef.png")).unwrap();
        let error = CocoImages::new(&coco, folder.path()).unwrap_err().to_string();
        assert!(error.contains("`images[1]`: `b/reef.png` is missing in "), "{error}");

        write_image(folder.path().join("reef.png"), &RgbImage::new(2, 4)).unwrap();
        let error = CocoImages::new(&coco, folder.path()).unwrap().get(1).unwrap_err().to_string();
        let expected = "reef.png, annotated in the COCO data set as image 3: expected shape 4x4, got 2x4";
        assert!(error.ends_with(expected), "{error}");

        // Both of one name: nobody knows whose photograph the one in the folder is.
        std::fs::remove_file(folder.path().join("a/reef.png")).unwrap();
        let error = CocoImages::new(&coco, folder.path()).unwrap_err().to_string();
        assert!(error.contains("`images[1]`: `b/reef.png` is ") && error.ends_with("as is images[0]"), "{error}");

        let mut coco = coco;
        coco.annotations[0].category_id = 255;
        assert!(matches!(CocoImages::new(&coco, folder.path()), Err(Error::UnknownClass { .. })));
    }
}
