use std::path::Path;

use coral_core::{ClassId, Error, InstanceMask, PointPrompt, Rect, Result, RleMask, Size, UNLABELED, write_atomically};
use serde::{Deserialize, Deserializer, Serialize};

use super::dataset::pixel_bbox;
use super::json::{Segmentation, finite, list, parse};

/// The masks of one image, as Segment Anything's data set (SA-1B) and CoralSCOP store them: a file per image.
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023; Zheng et al., *CoralSCOP: Segment any COral Image on this Planet*,
/// CVPR 2024. Masks, areas and boxes equal those of CoralSCOP's mask generator exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct SamAnnotations {
    /// The image's number, 0 in files of CoralSCOP.
    pub image_id: u64,
    /// The name of the photograph.
    pub file_name: String,
    /// Width and height of the photograph in pixels.
    pub size: Size,
    /// The objects. Their features are not stored.
    pub masks: Vec<InstanceMask>,
}

/// Reads the masks of one image from a file of Segment Anything or CoralSCOP.
///
/// Annotations with an empty segmentation are left out. Boxes and areas are not read: they are the masks'. Where an
/// annotation lacks a score, a point or a crop, it gets those of [`InstanceMask::new`].
///
/// # Errors
/// [`Error::Io`], or [`Error::Format`] naming the annotation and the field at fault.
///
/// # Examples
/// See [`write_sam_annotations`].
pub fn read_sam_annotations(path: impl AsRef<Path>) -> Result<SamAnnotations> {
    let path = path.as_ref();
    let file: File = parse(path, "the masks of one image")?;
    let ImageInfo { image_id, width, height, file_name } = file.image;
    let size = Size { width, height };
    let mut masks = Vec::with_capacity(file.annotations.len());
    for (at, annotation) in file.annotations.into_iter().enumerate() {
        let mask = annotation.into_instance(size);
        masks.extend(mask.map_err(|reason| Error::format(path, None, format!("annotations[{at}].{reason}")))?);
    }
    Ok(SamAnnotations { image_id, file_name, size, masks })
}

/// Writes the masks of one image as Segment Anything and CoralSCOP do.
///
/// Each annotation has `id`, `segmentation` (compressed runs), `bbox`, `area`, `predicted_iou`, `crop_box`,
/// `stability_score`, `point_coords` and, where the mask has a class, `cate_preds` (the name that CoralSCOP's generator
/// gives it). The `bbox` keeps the published quirk: width and height are the differences of the outermost pixels'
/// coordinates, one less than the pixels they span. [`write_coco`](crate::write_coco) counts pixels instead.
///
/// # Errors
/// [`Error::ShapeMismatch`] or [`Error::InvalidInput`] naming the first mask that is not of the image's size, or has
/// class 255 or a score or point that is not finite; [`Error::Io`] naming `path`.
///
/// # Examples
/// ```
/// use coral_core::{InstanceMask, RleMask, Size};
/// use coral_io::{SamAnnotations, read_sam_annotations, write_sam_annotations};
/// let size = Size { width: 8, height: 6 };
/// let mask = InstanceMask::new(RleMask::from_fn(size, |x, y| x > 4 && y > 2));
/// let colony = InstanceMask { class: Some(1), predicted_iou: 0.875, ..mask };
/// let reef = SamAnnotations { image_id: 0, file_name: "reef.jpg".into(), size, masks: vec![colony] };
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("reef.json");
/// write_sam_annotations(&path, &reef)?;
/// assert_eq!(read_sam_annotations(&path)?, reef);
/// let text = std::fs::read_to_string(&path).unwrap();
/// assert!(text.contains(r#""bbox":[5,3,2,2],"area":9,"predicted_iou":0.875"#));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_sam_annotations(path: impl AsRef<Path>, annotations: &SamAnnotations) -> Result<()> {
    let &SamAnnotations { image_id, ref file_name, size: Size { width, height }, ref masks } = annotations;
    for (at, mask) in masks.iter().enumerate() {
        check(&format!("masks[{at}]"), mask, annotations.size)?;
    }
    let file = FileOut {
        image: ImageInfo { image_id, width, height, file_name: file_name.clone() },
        annotations: (0..).zip(masks).map(|(id, mask)| AnnotationOut::new(id, mask)).collect(),
    };
    write_atomically(path, |out| Ok(serde_json::to_writer(out, &file)?))
}

fn check(what: &str, mask: &InstanceMask, size: Size) -> Result<()> {
    size.expect(what, mask.mask.size())?;
    let point = mask.point.map_or([0.0; 2], |point| [point.x, point.y]);
    if [mask.predicted_iou, mask.stability_score, point[0], point[1]].iter().any(|number| !number.is_finite()) {
        return Err(Error::input(what, "expected finite scores and coordinates of the point"));
    }
    if mask.class == Some(UNLABELED) {
        return Err(Error::input(what, format!("class {UNLABELED} means unlabelled, expected no class")));
    }
    Ok(())
}

#[derive(Deserialize)]
struct File {
    image: ImageInfo,
    #[serde(deserialize_with = "annotations")]
    annotations: Vec<Annotation>,
}

#[derive(Serialize, Deserialize)]
struct ImageInfo {
    image_id: u64,
    width: u32,
    height: u32,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    segmentation: Segmentation,
    #[serde(default, deserialize_with = "finite")]
    predicted_iou: Option<f32>,
    #[serde(default, deserialize_with = "finite")]
    stability_score: Option<f32>,
    #[serde(default)]
    point_coords: Vec<[f64; 2]>,
    #[serde(default)]
    crop_box: Option<[f64; 4]>,
    #[serde(default)]
    cate_preds: Option<ClassId>,
}

fn annotations<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Annotation>, D::Error> {
    list(deserializer, "annotations")
}

impl Annotation {
    fn into_instance(self, size: Size) -> std::result::Result<Option<InstanceMask>, String> {
        let mask = self.segmentation.into_mask(size).map_err(|reason| format!("segmentation: {reason}"))?;
        let Some(mask) = mask.map(InstanceMask::new) else { return Ok(None) };
        if self.cate_preds == Some(UNLABELED) {
            return Err(format!("cate_preds: expected a class of 0–254, got {UNLABELED}"));
        }
        let point = self.point_coords.first();
        let point = point.map(|&[x, y]| PointPrompt { x: x as f32, y: y as f32, foreground: true });
        if point.is_some_and(|point| !(point.x.is_finite() && point.y.is_finite())) {
            return Err("point_coords: expected coordinates below 3e38".into());
        }
        Ok(Some(InstanceMask {
            class: self.cate_preds,
            predicted_iou: self.predicted_iou.unwrap_or(mask.predicted_iou),
            stability_score: self.stability_score.unwrap_or(mask.stability_score),
            point,
            crop_box: self.crop_box.map_or(Ok(mask.crop_box), pixel_rect)?,
            ..mask
        }))
    }
}

/// A box of whole pixels that a program wrote as floating-point numbers.
fn pixel_rect(sides: [f64; 4]) -> std::result::Result<Rect, String> {
    let whole = |side: f64| side.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&side);
    if !sides.into_iter().all(whole) {
        return Err(format!("crop_box: expected whole pixels that are not negative, got {sides:?}"));
    }
    let [x, y, width, height] = sides.map(|side| side as u32);
    Ok(Rect { x, y, width, height })
}

#[derive(Serialize)]
struct FileOut<'a> {
    image: ImageInfo,
    annotations: Vec<AnnotationOut<'a>>,
}

#[derive(Serialize)]
struct AnnotationOut<'a> {
    id: u64,
    segmentation: &'a RleMask,
    bbox: [u32; 4],
    area: u64,
    // In double precision, as Python writes the value of a single: the same number to every reader.
    predicted_iou: f64,
    crop_box: [f64; 4],
    stability_score: f64,
    point_coords: Vec<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cate_preds: Option<ClassId>,
}

impl<'a> AnnotationOut<'a> {
    fn new(id: u64, mask: &'a InstanceMask) -> Self {
        let [x, y, width, height] = pixel_bbox(&mask.mask).map(|side| side as u32);
        let crop = mask.crop_box;
        Self {
            id,
            segmentation: &mask.mask,
            bbox: [x, y, width.saturating_sub(1), height.saturating_sub(1)],
            area: mask.area(),
            predicted_iou: mask.predicted_iou.into(),
            crop_box: [crop.x, crop.y, crop.width, crop.height].map(f64::from),
            stability_score: mask.stability_score.into(),
            point_coords: mask.point.iter().map(|point| [point.x.into(), point.y.into()]).collect(),
            cate_preds: mask.class,
        }
    }
}
