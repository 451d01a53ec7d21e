use std::collections::HashMap;
use std::path::Path;

use coral_core::{Error, Result, Size};
use serde::{Deserialize, Deserializer};

use super::dataset::{CocoAnnotation, CocoCategory, CocoDataset, CocoImage};
use super::json::{Segmentation, finite, list, parse};

/// Reads a COCO data set: polygons, lists of run lengths and compressed runs all become masks of the image's size.
///
/// Areas are not read: they are the masks'. Unknown keys are ignored.
///
/// # Errors
/// [`Error::Io`], or [`Error::Format`] naming the list, the position in it and the field at fault: an image twice, an
/// annotation whose image there is not, runs that do not fill the image, a polygon of fewer than three points.
///
/// # Examples
/// ```
/// use coral_io::read_coco;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("reef.json");
/// std::fs::write(&path, r#"{
///     "images": [{"id": 3, "file_name": "a.png", "width": 4, "height": 4}],
///     "annotations": [{"id": 1, "image_id": 3, "category_id": 7, "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]}],
///     "categories": [{"id": 7, "name": "coral"}]
/// }"#).unwrap();
/// let dataset = read_coco(&path)?;
/// assert_eq!(dataset.instances(3)?[0].area(), 4);
/// assert_eq!(dataset.class_set()?.id("coral"), Some(7));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_coco(path: impl AsRef<Path>) -> Result<CocoDataset> {
    let path = path.as_ref();
    let file: File = parse(path, "a COCO data set")?;
    let mut sizes = HashMap::with_capacity(file.images.len());
    let fail = |reason: String| Error::format(path, None, reason);
    let mut images = Vec::with_capacity(file.images.len());
    for (at, Image { id, file_name, width, height }) in file.images.into_iter().enumerate() {
        let size = Size { width, height };
        if sizes.insert(id, size).is_some() {
            return Err(fail(format!("images[{at}].id: there is another image {id}")));
        }
        images.push(CocoImage { id, file_name, size });
    }
    let mut annotations = Vec::with_capacity(file.annotations.len());
    for (at, one) in file.annotations.into_iter().enumerate() {
        let Some(&size) = sizes.get(&one.image_id) else {
            return Err(fail(format!("annotations[{at}].image_id: there is no image {}", one.image_id)));
        };
        let mask = one.segmentation.into_mask(size);
        annotations.push(CocoAnnotation {
            id: one.id,
            image_id: one.image_id,
            category_id: one.category_id,
            mask: mask.map_err(|reason| fail(format!("annotations[{at}].segmentation: {reason}")))?,
            bbox: one.bbox,
            is_crowd: one.iscrowd,
            score: one.score,
        });
    }
    let category = |Category { id, name, supercategory }| CocoCategory { id, name, supercategory };
    Ok(CocoDataset { images, annotations, categories: file.categories.into_iter().map(category).collect() })
}

#[derive(Deserialize)]
struct File {
    #[serde(deserialize_with = "images")]
    images: Vec<Image>,
    #[serde(deserialize_with = "annotations")]
    annotations: Vec<Annotation>,
    #[serde(default, deserialize_with = "categories")]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    category_id: u64,
    #[serde(default)]
    segmentation: Segmentation,
    #[serde(default)]
    bbox: Option<[f64; 4]>,
    #[serde(default, deserialize_with = "flag")]
    iscrowd: bool,
    #[serde(default, deserialize_with = "finite")]
    score: Option<f32>,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
    #[serde(default)]
    supercategory: Option<String>,
}

fn images<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Image>, D::Error> {
    list(deserializer, "images")
}

fn annotations<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Annotation>, D::Error> {
    list(deserializer, "annotations")
}

fn categories<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Category>, D::Error> {
    list(deserializer, "categories")
}

/// 0 or 1, or a truth value, as some programs write it.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected `iscrowd` as 0 or 1")]
    enum Flag {
        Number(u8),
        Truth(bool),
    }
    Ok(match Flag::deserialize(deserializer)? {
        Flag::Number(number) => number != 0,
        Flag::Truth(truth) => truth,
    })
}
