use coral_core::image::{GenericImage, Rgb, RgbImage, imageops};
use coral_core::{ClassSet, Error, InstanceMask, LabelMap, OverlapConfig, Result, Size, UNLABELED, resolve_overlaps};
use coral_io::{ColoredMask, overlay_masks, with_legend};

/// Shorter pictures are enlarged to about this many pixels across.
const WIDTH: u32 = 320;
const GAP: u32 = 8;

/// A photograph, its true masks and those that were found, side by side in the colours of their classes. The
/// legend says how much of the photograph was found to be what.
///
/// # Errors
/// When a mask is not of the photograph's size.
pub fn class_picture(photo: &RgbImage, [truth, found]: [&[InstanceMask]; 2], classes: &ClassSet) -> Result<RgbImage> {
    let colored = |masks: &[InstanceMask]| {
        let color = |one: &InstanceMask| one.class.map_or([128; 3], |class| classes.color(class));
        let colored: Vec<_> = masks.iter().map(|one| ColoredMask { mask: &one.mask, color: color(one) }).collect();
        overlay_masks(photo, &colored, 0.6)
    };
    let size = Size::of(photo);
    let scale = WIDTH.div_ceil(size.width.max(1)).max(1);
    let (width, height) = (size.width * scale, size.height * scale);
    let enlarged = |picture: &RgbImage| imageops::resize(picture, width, height, imageops::FilterType::Nearest);
    let config = OverlapConfig { default_class: Some(UNLABELED), ..OverlapConfig::default() };
    let map = resolve_overlaps(found, size, &config)?.labels;
    let shape = (height as usize, width as usize);
    let map = LabelMap::from_shape_fn(shape, |(y, x)| map[[y / scale as usize, x / scale as usize]]);
    let named = with_legend(&enlarged(&colored(found)?), &map, classes)?;
    let mut sheet = RgbImage::from_pixel(2 * (width + GAP) + named.width(), named.height(), Rgb([255; 3]));
    for (column, picture) in (0..).zip([enlarged(photo), enlarged(&colored(truth)?), named]) {
        let placed = sheet.copy_from(&picture, column * (width + GAP), 0);
        placed.map_err(|error| Error::input("pictures", error.to_string()))?;
    }
    Ok(sheet)
}
