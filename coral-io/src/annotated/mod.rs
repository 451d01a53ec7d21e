//! Photographs with the masks of their objects, from many kinds of files.

mod coco_images;
mod label_map_masks;
mod mask_folder;
mod remapped;

pub use coco_images::CocoImages;
pub use label_map_masks::{LabelMapMasks, LabelMapMasksConfig, component_masks};
pub use mask_folder::{MaskFolder, MaskFolderConfig};
pub use remapped::RemappedMasks;

use std::path::Path;

use coral_core::{Error, Result, Size, image::RgbImage};

use crate::images::read_image;

/// Reads the photograph of `annotations`, which say that it has `size`.
fn read_annotated(photograph: &Path, annotations: &str, size: Size) -> Result<RgbImage> {
    let image = read_image(photograph)?;
    let actual = Size::of(&image);
    if actual == size {
        return Ok(image);
    }
    let what = format!("{}, annotated in {annotations}", photograph.display());
    Err(Error::shape(what, size.to_string(), actual.to_string()))
}
