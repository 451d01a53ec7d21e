use std::path::Path;

use coral_core::{ClassSet, Error, InstanceMask, Result, write_atomically};

use crate::SamAnnotations;

/// Writes a table of colonies as CSV: number (from 1), class, name, area, box, whether the image's border
/// cuts it, and scores.
///
/// The area is in pixels and, with `cm_per_pixel`, in cm² in a column of its own. Class and name are empty for a colony
/// without class. The columns of the box are left, top, width and height in pixels, empty for an empty mask. The file
/// appears whole or not at all.
///
/// # Errors
/// [`Error::InvalidParameter`] when the scale is not positive and finite, [`Error::Io`] when the file cannot be
/// written.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, InstanceMask, RleMask, Size};
/// let mask = RleMask::from_fn(Size { width: 8, height: 6 }, |x, y| x > 4 && y == 2);
/// let colony = InstanceMask { class: Some(1), predicted_iou: 0.75, ..InstanceMask::new(mask) };
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("colonies.csv");
/// coral_io::write_colonies(&path, &[colony], &ClassSet::from_names(["sand", "coral"])?, Some(0.5))?;
/// let lines = "colony,class,name,area_px,area_cm2,x,y,width,height,cut,predicted_iou,stability_score\n\
///              1,1,coral,3,0.7500,5,2,3,1,true,0.7500,1.0000\n";
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), lines);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_colonies(
    path: impl AsRef<Path>,
    masks: &[InstanceMask],
    classes: &ClassSet,
    cm_per_pixel: Option<f64>,
) -> Result<()> {
    check_scale(cm_per_pixel)?;
    let records = (1usize..).zip(masks).map(|(number, one)| record(number, one, classes, cm_per_pixel));
    write_table(path.as_ref(), header(cm_per_pixel), records)
}

/// Writes one table of the colonies of many images: [`write_colonies`] with the name of the image in a first
/// column. Numbers start from 1 in each image.
///
/// # Errors
/// As [`write_colonies`].
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, InstanceMask, RleMask, Size};
/// use coral_io::SamAnnotations;
/// let size = Size { width: 8, height: 6 };
/// let colony = InstanceMask::new(RleMask::from_fn(size, |x, y| x > 4 && y == 2));
/// let images = ["a.jpg", "b.jpg"].map(|file_name| {
///     SamAnnotations { image_id: 0, file_name: file_name.into(), size, masks: vec![colony.clone()] }
/// });
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("colonies.csv");
/// coral_io::write_survey_colonies(&path, &images, &ClassSet::default(), None)?;
/// let lines = "image,colony,class,name,area_px,x,y,width,height,cut,predicted_iou,stability_score\n\
///              a.jpg,1,,,3,5,2,3,1,true,1.0000,1.0000\n\
///              b.jpg,1,,,3,5,2,3,1,true,1.0000,1.0000\n";
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), lines);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_survey_colonies(
    path: impl AsRef<Path>,
    images: &[SamAnnotations],
    classes: &ClassSet,
    cm_per_pixel: Option<f64>,
) -> Result<()> {
    check_scale(cm_per_pixel)?;
    let records = images.iter().flat_map(|image| {
        (1usize..).zip(&image.masks).map(|(number, one)| {
            let mut fields = record(number, one, classes, cm_per_pixel);
            fields.insert(0, image.file_name.clone());
            fields
        })
    });
    write_table(path.as_ref(), ["image"].into_iter().chain(header(cm_per_pixel)), records)
}

fn write_table(
    path: &Path,
    header: impl Iterator<Item = &'static str>,
    records: impl Iterator<Item = Vec<String>>,
) -> Result<()> {
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(header)?;
        for record in records {
            csv.write_record(record)?;
        }
        csv.flush()
    })
}

fn check_scale(cm_per_pixel: Option<f64>) -> Result<()> {
    match cm_per_pixel {
        Some(scale) if !(scale.is_finite() && scale > 0.0) => {
            Err(Error::parameter("cm_per_pixel", format!("expected a positive number, got {scale}")))
        }
        _ => Ok(()),
    }
}

fn header(cm_per_pixel: Option<f64>) -> impl Iterator<Item = &'static str> {
    let measured = ["x", "y", "width", "height", "cut", "predicted_iou", "stability_score"];
    ["colony", "class", "name", "area_px"].into_iter().chain(cm_per_pixel.map(|_| "area_cm2")).chain(measured)
}

fn record(number: usize, one: &InstanceMask, classes: &ClassSet, cm_per_pixel: Option<f64>) -> Vec<String> {
    let area = one.area();
    let mut fields = vec![number.to_string()];
    fields.extend(one.class.map_or_else(Default::default, |class| [class.to_string(), classes.name(class)]));
    fields.push(area.to_string());
    fields.extend(cm_per_pixel.map(|side| format!("{:.4}", area as f64 * side * side)));
    let tight = one.bounding_box().map(|tight| [tight.x, tight.y, tight.width, tight.height].map(|n| n.to_string()));
    fields.extend(tight.unwrap_or_default());
    fields.push(one.touches_border().to_string());
    fields.extend([one.predicted_iou, one.stability_score].map(|score| format!("{score:.4}")));
    fields
}

#[cfg(test)]
mod tests {
    use coral_core::{RleMask, Size};

    use super::*;

    #[test]
    fn empty_masks_and_missing_classes_leave_fields_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("colonies.csv");
        let size = Size { width: 5, height: 5 };
        let inner = InstanceMask::new(RleMask::from_fn(size, |x, y| x == 2 && y == 1));
        let masks = [InstanceMask::new(RleMask::empty(size)), InstanceMask { class: Some(7), ..inner }];
        write_colonies(&path, &masks, &ClassSet::default(), None).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines, ["1,,,0,,,,,false,1.0000,1.0000", "2,7,7,1,2,1,1,1,false,1.0000,1.0000"]);
        for scale in [0.0, f64::NAN] {
            let error = write_colonies(&path, &masks, &ClassSet::default(), Some(scale)).unwrap_err();
            assert!(error.to_string().contains("`cm_per_pixel`: expected a positive number"));
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
