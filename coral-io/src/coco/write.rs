use std::collections::{HashMap, HashSet};
use std::path::Path;

use coral_core::{Error, Result, RleMask, Size, write_atomically};
use serde::Serialize;

use super::dataset::{CocoAnnotation, CocoDataset, pixel_bbox};

/// Writes a COCO data set, with masks as compressed runs.
///
/// Area and box are those of the mask, the box in whole pixels (a single pixel is 1×1); an annotation without mask
/// keeps its box.
///
/// # Errors
/// [`Error::InvalidInput`] or [`Error::ShapeMismatch`] naming the first part that is not valid: an image, annotation or
/// category twice, an annotation whose image or category there is not, a mask of another size than its image, a number
/// that is not finite. [`Error::Io`] naming `path`.
///
/// # Examples
/// See [`CocoDataset`].
pub fn write_coco(path: impl AsRef<Path>, dataset: &CocoDataset) -> Result<()> {
    check(dataset)?;
    let images = dataset.images.iter().map(|image| Image {
        id: image.id,
        file_name: &image.file_name,
        width: image.size.width,
        height: image.size.height,
    });
    let categories = dataset.categories.iter().map(|category| Category {
        id: category.id,
        name: &category.name,
        supercategory: category.supercategory.as_deref(),
    });
    let file = File {
        info: Empty {},
        licenses: [],
        images: images.collect(),
        annotations: dataset.annotations.iter().map(annotation).collect(),
        categories: categories.collect(),
    };
    write_atomically(path, |out| Ok(serde_json::to_writer(out, &file)?))
}

fn check(dataset: &CocoDataset) -> Result<()> {
    let mut sizes: HashMap<u64, Size> = HashMap::new();
    for (at, image) in dataset.images.iter().enumerate() {
        if sizes.insert(image.id, image.size).is_some() {
            return Err(Error::input(format!("images[{at}].id"), format!("there is another image {}", image.id)));
        }
    }
    let mut categories = HashSet::new();
    for (at, category) in dataset.categories.iter().enumerate() {
        if !categories.insert(category.id) {
            let reason = format!("there is another category {}", category.id);
            return Err(Error::input(format!("categories[{at}].id"), reason));
        }
    }
    let mut ids = HashSet::new();
    for (at, one) in dataset.annotations.iter().enumerate() {
        let fail = |field: &str, reason: String| Err(Error::input(format!("annotations[{at}].{field}"), reason));
        // COCO's evaluation looks objects up by id: of two with one id it would lose one.
        if !ids.insert(one.id) {
            return fail("id", format!("there is another annotation {}", one.id));
        }
        let Some(size) = sizes.get(&one.image_id) else {
            return fail("image_id", format!("there is no image {}", one.image_id));
        };
        if !categories.contains(&one.category_id) && !categories.is_empty() {
            return fail("category_id", format!("there is no category {}", one.category_id));
        }
        if let Some(mask) = &one.mask {
            size.expect(&format!("annotations[{at}].mask"), mask.size())?;
        }
        if one.score.is_some_and(|score| !score.is_finite()) {
            return fail("score", "expected a finite number".into());
        }
        if one.bbox.is_some_and(|bbox| bbox.iter().any(|side| !side.is_finite())) {
            return fail("bbox", "expected finite numbers".into());
        }
    }
    Ok(())
}

fn annotation(one: &CocoAnnotation) -> Annotation<'_> {
    let bbox = one.mask.as_ref().map(pixel_bbox).or(one.bbox);
    let box_area = || bbox.map_or(0.0, |[_, _, width, height]| width * height);
    Annotation {
        id: one.id,
        image_id: one.image_id,
        category_id: one.category_id,
        segmentation: one.mask.as_ref().map_or(Segmentation::None([]), Segmentation::Runs),
        area: one.mask.as_ref().map_or_else(box_area, |mask| mask.area() as f64),
        bbox,
        iscrowd: one.is_crowd.into(),
        score: one.score,
    }
}

#[derive(Serialize)]
struct File<'a> {
    // Without these two some programs refuse the file.
    info: Empty,
    licenses: [(); 0],
    images: Vec<Image<'a>>,
    annotations: Vec<Annotation<'a>>,
    categories: Vec<Category<'a>>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Image<'a> {
    id: u64,
    file_name: &'a str,
    width: u32,
    height: u32,
}

#[derive(Serialize)]
struct Annotation<'a> {
    id: u64,
    image_id: u64,
    category_id: u64,
    segmentation: Segmentation<'a>,
    area: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bbox: Option<[f64; 4]>,
    iscrowd: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Segmentation<'a> {
    Runs(&'a RleMask),
    None([(); 0]),
}

#[derive(Serialize)]
struct Category<'a> {
    id: u64,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    supercategory: Option<&'a str>,
}
